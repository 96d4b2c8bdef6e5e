//! One client, who creates sagas one after the other and follows each to its end, whatever dies meanwhile. Owns what is
//! asked and what counts as an answer.
//!
//! ```text
//!   id chosen ──► POST ──202, 200──► acknowledged ──► GET, waiting ──ended──► witness judged, and removed
//!                  ▲ │ no answer                       ▲ │ no answer, or not ended yet
//!                  └─┘                                 └─┘
//! ```

use crate::{
    ledger::{Finding, Ledger},
    site::COORDINATOR,
};
use anyhow::Result;
use ids::SagaId;
use nexus_client::{
    ClientError, OperatorClient,
    sagas::{DemoSaga, SagaDetail, SagaState, SagaWaitQuery},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{fmt::Write, fs, io, sync::Arc, time::Duration};
use testbed::{Cluster, DEMO_STAGES, DemoEffects, DemoEnd};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// Before the next attempt at a coordinator that does not answer: it is being restarted.
const AGAIN: Duration = Duration::from_millis(25);

/// For this long nobody may be without an end, or an acknowledgement: a hundred times what it takes while the coordinator
/// is killed all the time.
const PATIENCE: Duration = Duration::from_secs(180);

/// Seconds that one call waits for an end.
const WAIT_SECONDS: u32 = 20;

/// What a client acts on.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) cluster: Cluster,
    pub(crate) operator: OperatorClient,
    pub(crate) ledger: Arc<Ledger>,
    /// Of a hundred sagas, how many are told to fail.
    pub(crate) failing_percent: u32,
}

/// Why a saga is followed no further.
type Wrong = (String, Option<SagaId>);

impl Client {
    /// So many, each with a seed of its own. They end with the answer.
    pub(crate) fn many(&self, clients: u32, seed: u64) -> JoinSet<()> {
        (0..clients).map(|number| self.clone().work(seed.wrapping_add(u64::from(number) + 1))).collect()
    }

    /// Creates and follows sagas until the ledger is closed. What they are told to do is the seed's choice.
    async fn work(self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        while !self.ledger.is_closed() {
            let demo = choose(&mut random, self.failing_percent);
            let Err((what, saga)) = self.one(&demo).await else { continue };
            let evidence = match saga {
                Some(id) => self.evidence(id).await,
                None => String::new(),
            };
            self.ledger.found(Finding { saga, what, evidence });
        }
    }

    async fn one(&self, demo: &DemoSaga) -> Result<(), Wrong> {
        let id = self.create(demo).await?;
        let saga = self.follow(id).await?;
        let (end, state) = match &demo.fail_at {
            Some(node) => (DemoEnd::FailedAt(node), SagaState::Failed),
            None => (DemoEnd::Succeeded, SagaState::Succeeded),
        };
        if saga.saga.state != state {
            return Err((format!("it ended {}, not {}", saga.saga.state.word(), state.word()), Some(id)));
        }
        let read = |error| (format!("what it has left cannot be read: {error:#}"), Some(id));
        let effects = self.cluster.demo_effects(id).map_err(read)?;
        let findings = effects.findings(end);
        if !findings.is_empty() {
            return Err((findings.join("; "), Some(id)));
        }
        self.ledger.ended(id, state, &effects);
        self.forget(id).map_err(read)
    }

    /// Returns once it is acknowledged.
    async fn create(&self, demo: &DemoSaga) -> Result<SagaId, Wrong> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.operator.saga_demo(demo).await {
                Ok(accepted) if Some(accepted.id) == demo.id => {
                    self.ledger.acknowledged(accepted.id);
                    return Ok(accepted.id);
                }
                Ok(accepted) => return Err((format!("{} was asked for: {:?}", accepted.id, demo.id), None)),
                Err(error) => self.lost(&error, demo.id, until).await?,
            }
        }
    }

    /// Returns once it has ended.
    async fn follow(&self, id: SagaId) -> Result<SagaDetail, Wrong> {
        let until = Instant::now() + PATIENCE;
        let query = SagaWaitQuery { wait_seconds: Some(WAIT_SECONDS) };
        loop {
            match self.operator.saga(id, &query).await {
                Ok(saga) if saga.saga.state.is_ended() => return Ok(saga),
                Ok(saga) if saga.saga.state == SagaState::NeedsAttention => {
                    return Err(("it needs attention".to_owned(), Some(id)));
                }
                Ok(_) if Instant::now() >= until => {
                    return Err((format!("it has not ended in {} s", PATIENCE.as_secs()), Some(id)));
                }
                Ok(_) => {}
                Err(error) => self.lost(&error, Some(id), until).await?,
            }
        }
    }

    /// A moment before asking again, if the coordinator may just have died; everything else is wrong.
    async fn lost(&self, error: &ClientError, id: Option<SagaId>, until: Instant) -> Result<(), Wrong> {
        let may_have_died = match error {
            ClientError::Transport { .. } | ClientError::Silent { .. } => true,
            ClientError::Problem { problem, .. } => problem.code == "unavailable",
            _ => false,
        };
        if !may_have_died || Instant::now() >= until {
            return Err((format!("it was answered: {error}"), id));
        }
        self.ledger.lost_answer();
        sleep(AGAIN).await;
        Ok(())
    }

    /// A hundred thousand sagas would leave two million files.
    fn forget(&self, id: SagaId) -> Result<()> {
        match fs::remove_dir_all(self.cluster.directory().demo_effects_dir(COORDINATOR, id)) {
            // It failed at its first node.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Everything that is known of a saga, for people.
    async fn evidence(&self, id: SagaId) -> String {
        let mut text = String::new();
        let saga = self.operator.saga(id, &SagaWaitQuery::default()).await;
        let saga = saga.map(|detail| detail.saga).map_err(|error| error.to_string());
        let events = self.operator.saga_events(id).await.unwrap_or_default();
        let effects = self.cluster.demo_effects(id).unwrap_or_else(|_| DemoEffects::default());
        // Writing to memory does not fail.
        let _ = writeln!(text, "{saga:?}");
        for event in events {
            let (number, time, epoch) = (event.number, event.time, event.adoption_epoch);
            let _ = writeln!(text, "{number:>4} {time} epoch {epoch} {:<14} {}", event.event, event.node);
        }
        let _ = write!(text, "{effects}");
        text
    }
}

/// What the next saga is told to do.
fn choose(random: &mut StdRng, failing_percent: u32) -> DemoSaga {
    let fails = random.random_ratio(failing_percent.min(100), 100);
    let nodes: Vec<&str> = DEMO_STAGES.iter().copied().flatten().copied().collect();
    let node = nodes[random.random_range(0..nodes.len())];
    DemoSaga { id: Some(SagaId::generate()), fail_at: fails.then(|| node.to_owned()), ..DemoSaga::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn one_seed_is_one_choice_and_a_fifth_of_them_fails_anywhere() {
        let choices = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..2_000).map(|_| choose(&mut random, 20).fail_at).collect::<Vec<_>>()
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
        let failing: Vec<_> = choices(7).into_iter().flatten().collect();
        assert!((300..500).contains(&failing.len()), "{}", failing.len());
        assert_eq!(failing.into_iter().collect::<BTreeSet<_>>().len(), 18);
    }
}
