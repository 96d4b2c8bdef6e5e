//! `sledctl repo upload`: a release on its way to the coordinator and, with `--wait`, to the sleds.
//!
//! ```text
//!  uploading ── all bytes handed over ──► checking ── the release is listed, --wait ──► replicating ──► answer
//!      │ no byte taken for 2 min              │ no answer to anything for 1 min │
//!      ▼                                      ▼                                 ▼
//!    stalled (nothing stored)             answer lost (may be stored)       answer lost
//! ```
//!
//! One call carries it all; what is shown besides comes from looking: how many bytes were taken, and, while the
//! coordinator works, its list of repositories (also the proof that it is alive) and the release's replication. The
//! release is recognised there by the SHA-256 of the file, which is made while it is read and compared with what the
//! coordinator says it received.

use super::repo::UploadArgs;
use crate::{
    app::App,
    cli::Format,
    failure::Failure,
    interrupt::Interrupt,
    progress::{Display, Meter, Phase, Sample},
    render::{self, failure::root_cause},
    replica::Counts,
    upload_source::{Tally, UploadSource},
};
use nexus_client::{ClientError, OperatorClient, UploadOptions, releases::UploadResult};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};

/// The HTTP client counts its silence from the start of the call, so this has to cover the whole upload. Whether the
/// coordinator is alive is watched here instead.
const ANSWER_MAX: Duration = Duration::from_secs(24 * 3600);

/// A coordinator that takes no byte for this long is stuck, not slow: it only writes to its own disk.
const STALL_MAX: Duration = Duration::from_secs(120);

/// A coordinator that answers nothing for this long while it checks is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How often the display moves.
const TICK: Duration = Duration::from_millis(200);

/// How often the coordinator is asked how far it is.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Uploads the release.
pub(super) async fn run(app: &App, args: &UploadArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen();
    let (source, client) = tokio::select! {
        biased;
        () = interrupt.came() => return Err(interrupted(Phase::Uploading)),
        prepared = prepare(app, args) => prepared?,
    };
    let tally = source.tally();
    let size = source.size();
    let options = UploadOptions {
        file_name: args.file.file_name().map(str::to_owned),
        system_version: args.system_version.clone(),
        wait_replicated: args.wait,
        wait_seconds: args.wait_seconds,
    };
    let patient = app.patient_client(ANSWER_MAX)?;
    let call = patient.upload(&options, size, source.into_stream());
    let watch = Watch::new(client, Arc::clone(&tally), size, args.wait);
    let result = follow(call, watch, Display::new(app.talk), &mut interrupt).await?;
    if tally.sha256().is_some_and(|sent| sent != result.sha256) {
        let sent = tally.sha256().unwrap_or_default().to_owned();
        return Err(Failure::UploadAltered { sent, received: result.sha256 });
    }
    for warning in &result.warnings {
        app.talk.warning(warning);
    }
    let names = if app.global.output == Format::Json {
        BTreeMap::new()
    } else {
        let client = app.client()?;
        tokio::select! {
            // It is done; only how it is shown is at stake.
            biased;
            () = interrupt.came() => BTreeMap::new(),
            names = names(&client) => names,
        }
    };
    app.emit(&result, |result, look, _| render::upload::result(result, &names, look))?;
    let version = &result.system_version;
    app.talk.note(&format!("see it reach the sleds: sledctl artifact matrix {version}"));
    Ok(())
}

async fn prepare(app: &App, args: &UploadArgs) -> Result<(UploadSource, OperatorClient), Failure> {
    let source = UploadSource::open(&args.file).await?;
    let client = app.client()?;
    // A wrong token or URL is found out here rather than after gigabytes.
    client.status().await?;
    Ok((source, client))
}

/// The names of coordinators and sleds by id. The upload has succeeded: where this does not, ids have to do.
async fn names(client: &OperatorClient) -> BTreeMap<String, String> {
    let (coordinators, sleds) = tokio::join!(client.coordinators(), client.sleds());
    let coordinators = coordinators.into_iter().flatten().map(|one| (one.id.to_string(), one.name));
    coordinators.chain(sleds.into_iter().flatten().map(|sled| (sled.id.to_string(), sled.name))).collect()
}

/// Waits for the call, shows how far it is, and notices when nothing happens any more.
async fn follow(
    call: impl Future<Output = Result<UploadResult, ClientError>>,
    mut watch: Watch,
    mut display: Display,
    interrupt: &mut Interrupt,
) -> Result<UploadResult, Failure> {
    let mut call = std::pin::pin!(call);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // Said before the first byte, however fast the rest is.
    display.show(&watch.meter, watch.started.elapsed());
    loop {
        tokio::select! {
            biased;
            result = &mut call => {
                // What is wrong with the file says more than the connection that was torn because of it.
                return match watch.tally.take_failure() {
                    Some(reason) => Err(reason.into()),
                    None => result.map_err(|error| watch.failed(error)),
                };
            }
            () = interrupt.came() => return Err(interrupted(watch.meter.phase())),
            Some(sight) = watch.sights.recv() => watch.saw(sight),
            _ = tick.tick() => {
                watch.tick()?;
                display.show(&watch.meter, watch.started.elapsed());
            }
        }
    }
}

/// What the coordinator showed when it was asked how far it is.
#[derive(Debug)]
enum Sight {
    /// It did not answer.
    Nothing,
    /// It works on the release, or has not listed it yet.
    Alive,
    /// It has listed the release, and this is how far its replication is.
    Replication(Counts),
}

/// What is known about an upload while it runs.
struct Watch {
    client: OperatorClient,
    tally: Arc<Tally>,
    size: u64,
    wait: bool,
    started: Instant,
    meter: Meter,
    /// Bytes taken when that last changed, and when it did.
    last_sent: (u64, Instant),
    last_answer: Instant,
    counts: Option<Counts>,
    sights: mpsc::Receiver<Sight>,
    sights_sender: mpsc::Sender<Sight>,
    /// Holds the task that looks; it ends with the watch.
    looking: JoinSet<()>,
}

impl Watch {
    fn new(client: OperatorClient, tally: Arc<Tally>, size: u64, wait: bool) -> Watch {
        let first = Sample { phase: Phase::Uploading, done_bytes: 0, total_bytes: size, note: String::new() };
        // One sight at a time: a newer one is only looked for when the last has been seen.
        let (sights_sender, sights) = mpsc::channel(1);
        let now = Instant::now();
        Watch {
            client,
            tally,
            size,
            wait,
            started: now,
            meter: Meter::new(first, Duration::ZERO),
            last_sent: (0, now),
            last_answer: now,
            counts: None,
            sights,
            sights_sender,
            looking: JoinSet::new(),
        }
    }

    /// Takes the time in: moves the meter, and fails if nothing has happened for too long.
    fn tick(&mut self) -> Result<(), Failure> {
        let sent = self.tally.sent_bytes();
        if sent != self.last_sent.0 {
            self.last_sent = (sent, Instant::now());
        }
        if sent < self.size && self.last_sent.1.elapsed() > STALL_MAX {
            return Err(Failure::UploadStalled { seconds: STALL_MAX.as_secs(), sent, size: self.size });
        }
        if sent == self.size && self.looking.is_empty() {
            self.last_answer = Instant::now();
            self.start_looking();
        }
        if sent == self.size && self.last_answer.elapsed() > SILENCE_MAX {
            return Err(Failure::AnswerLost { size: self.size, seconds: SILENCE_MAX.as_secs() });
        }
        self.meter.observe(self.sample(sent), self.started.elapsed());
        Ok(())
    }

    fn sample(&self, sent: u64) -> Sample {
        let sample = |phase, done_bytes, total_bytes, note| Sample { phase, done_bytes, total_bytes, note };
        match &self.counts {
            _ if sent < self.size => sample(Phase::Uploading, sent, self.size, String::new()),
            None => sample(Phase::Checking, 0, 0, String::new()),
            Some(counts) => {
                let note = format!("{}/{} sleds have all of it", counts.sleds_complete, counts.sleds);
                sample(Phase::Replicating, counts.bytes_done, counts.bytes_total, note)
            }
        }
    }

    fn saw(&mut self, sight: Sight) {
        match sight {
            Sight::Nothing => return,
            Sight::Alive => {}
            Sight::Replication(counts) => self.counts = Some(counts),
        }
        self.last_answer = Instant::now();
    }

    fn start_looking(&mut self) {
        let (client, sender, wait) = (self.client.clone(), self.sights_sender.clone(), self.wait);
        let sha256 = self.tally.sha256().unwrap_or_default().to_owned();
        self.looking.spawn(async move {
            let mut period = tokio::time::interval(LOOK_PERIOD);
            period.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                period.tick().await;
                let sight = look(&client, &sha256, wait).await.unwrap_or(Sight::Nothing);
                if sender.send(sight).await.is_err() {
                    return;
                }
            }
        });
    }

    /// What a failed call means: a refusal speaks for itself, a torn connection depends on how much had been sent.
    fn failed(&self, error: ClientError) -> Failure {
        match error {
            ClientError::Transport { .. } => Failure::UploadBroken {
                sent: self.tally.sent_bytes(),
                size: self.size,
                cause: root_cause(&error),
                source: error,
            },
            other => Failure::Api(other),
        }
    }
}

/// What Ctrl-C leaves, by phase.
fn interrupted(phase: Phase) -> Failure {
    let goes_on = match phase {
        Phase::Uploading | Phase::Receiving => "nothing was stored; upload it again when you like",
        Phase::Checking => {
            "the coordinator has all bytes and may still store the release; see sledctl repo list"
        }
        Phase::Replicating => {
            "the release is stored and goes on to the sleds by itself; see sledctl artifact matrix"
        }
    };
    Failure::Interrupted { doing: phase.word(), goes_on: goes_on.to_owned() }
}

/// Asks the coordinator how far it is.
async fn look(client: &OperatorClient, sha256: &str, wait: bool) -> Result<Sight, ClientError> {
    let repositories = client.repositories().await?;
    let ours = repositories.iter().find(|repository| repository.sha256 == sha256);
    match ours.filter(|_| wait) {
        Some(ours) => {
            let replication = client.repository_replication(&ours.system_version).await?;
            Ok(Sight::Replication(Counts::of(&replication)))
        }
        None => Ok(Sight::Alive),
    }
}
