//! Asking sleds what they hold, and telling them what they should.
//!
//! Only sleds that need it are asked: those never asked, those whose heartbeat tells of a change or has stopped, those
//! that follow another generation. Each is asked in a task of its own that records its own answer; a pass waits for
//! them, but no longer than [`ANSWER_WAIT`], and not at all for sleds that did not answer last time. Whoever answers
//! later is part of the next pass, which it activates.

use crate::replication::{
    Observed, SledClients,
    observed::{Answer, Question},
    sled_clients::Purpose,
};
use ids::{ClusterId, Generation};
use nexus_database::sleds::SledRow;
use nexus_tasks::{Activator, Reason};
use problem::chain;
use sled_client::{ClientError, ErrorClass, SledClient, artifacts::ArtifactsConfig};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet};

/// How long a pass waits for answers: well above a healthy sled's answer, well below what people call a hang.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// How long a sled may take to answer before it counts as unreachable.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Sleds asked at once.
const QUESTIONS_MAX: usize = 128;

/// What the sleds are asked for.
#[derive(Clone, Debug)]
pub struct Collector {
    observed: Observed,
    clients: SledClients,
    replication: Activator,
    questions: Arc<Semaphore>,
}

impl Collector {
    /// Asks through these clients and records into `observed`.
    #[must_use]
    pub fn new(observed: Observed, clients: SledClients, replication: Activator) -> Collector {
        Collector { observed, clients, replication, questions: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }

    /// Asks every sled that needs it (every sled, with `everything`); returns how many were asked.
    pub async fn collect(&self, sleds: &[SledRow], config: &Arc<ArtifactsConfig>, everything: bool) -> u64 {
        let late = Arc::new(AtomicBool::new(false));
        let mut expected = JoinSet::new();
        let mut count = 0;
        for sled in sleds {
            let Some(asking) = self.observed.begin_question(sled.id, config.generation, everything) else {
                continue;
            };
            let question = asking.question();
            count += 1;
            let (collector, sled, config, late) =
                (self.clone(), sled.clone(), Arc::clone(config), Arc::clone(&late));
            let conversation = async move {
                let answer = collector.ask(&sled, question, &config).await;
                asking.end(answer);
                if late.load(Ordering::Acquire) || !question.expected {
                    collector.replication.activate(Reason::Event("late_answer"));
                }
            };
            if question.expected {
                expected.spawn(conversation);
            } else {
                tokio::spawn(conversation);
            }
        }
        let all = async { while expected.join_next().await.is_some() {} };
        if tokio::time::timeout(ANSWER_WAIT, all).await.is_err() {
            late.store(true, Ordering::Release);
            expected.detach_all();
            // One that answered between the two lines above is in this pass already; one more pass costs little.
        }
        count
    }

    async fn ask(&self, sled: &SledRow, question: Question, config: &ArtifactsConfig) -> Answer {
        let Some(address) = &sled.address else {
            return Answer::None("another sled has registered with its address since".to_owned());
        };
        let client = match self.clients.get(&address.agent_url, Purpose::Control) {
            Ok(client) => client,
            Err(error) => return Answer::None(chain(&error)),
        };
        let _slot = self.questions.acquire().await.expect("the semaphore is never closed");
        match tokio::time::timeout(ANSWER_LIMIT, converse(&client, question.put_config, config)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.class() == ErrorClass::Unreachable => Answer::None(chain(&error)),
            Ok(Err(error)) => Answer::Refuses(chain(&error)),
            Err(_) => Answer::None(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
        }
    }
}

/// Puts the config if need be, then asks what is held. A sled that turns out to follow an older generation (its
/// disks were replaced, say) is told and asked once more.
async fn converse(
    client: &SledClient,
    put_config: bool,
    config: &ArtifactsConfig,
) -> Result<Answer, ClientError> {
    if put_config {
        client.put_artifacts_config(config).await?;
    }
    let mut list = client.artifacts().await?;
    if list.generation < config.generation {
        client.put_artifacts_config(config).await?;
        list = client.artifacts().await?;
    }
    if list.generation == config.generation {
        return Ok(Answer::Holds(list));
    }
    Ok(Answer::Refuses(higher_generation(list.generation, config)))
}

fn higher_generation(theirs: Generation, config: &ArtifactsConfig) -> String {
    format!(
        "it follows generation {theirs}, which is not ours ({}): it was told by a coordinator of another or a restored database",
        config.generation
    )
}

/// The config that every sled is told.
#[must_use]
pub fn config_of(cluster_id: ClusterId, wanted: &nexus_database::wanted::Wanted) -> ArtifactsConfig {
    ArtifactsConfig { cluster_id, generation: wanted.generation, artifacts: wanted.hashes() }
}
