//! The public face: start, resume, watch and steer sagas.
//!
//! The way of a new saga, and what a crash after each step leaves:
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | claim | nothing |
//! | row durable | an unfinished row, which recovery resumes |
//! | handed to a SEC, started: once, here and nowhere else | the same |
//! | nodes, each logged before and after | a log, which recovery resumes |
//! | end durable | an ended row: nobody lists it |
//! | claim given back | the same |
//!
//! All of it happens in tasks of the engine's own: a caller that goes away changes nothing.

use crate::{
    complete::Completing,
    definition::{Definition, DefinitionError, stored_paths},
    fault::{Cause, Failure},
    kind::SagaKind,
    live::{Ended, Halt, LiveSaga, LiveStatus, Phase},
    log_store::{self, LogStore},
    persist::{Persisted, persist},
    ports::{Created, SagaStore, StoreFault, Written},
    refusal::{ResumeError, StartError, SteerError},
    registry::{AnyKind, Handing, Kinds, What},
    types::{EndState, Mark, NewSaga, NodeEvent, StoredSaga},
};
use futures::{FutureExt, future::BoxFuture};
use ids::{AdoptionEpoch, SagaId};
use jiff::Timestamp;
use newtype_uuid::GenericUuid;
use nexus_saga_recovery::{Adopted, Claim, Claims, SagaKey};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use steno::{SagaResult, SecClient};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Attempts to create a row, or to end one that nobody executes, before the caller is told. With the pauses between them
/// about a second; where the store hangs, each takes as long as the store lets a call take.
const WRITE_ATTEMPTS_MAX: u32 = 5;
/// Between two of them.
const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// Why a saga is ended that cannot be executed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buried {
    /// Why it cannot.
    pub cause: Cause,
    /// Why it is given up, in the operator's words.
    pub reason: String,
}

/// Executes sagas. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn SagaStore>,
    claims: Claims,
    kinds: Kinds,
    lives: Mutex<Lives>,
    completions: TaskTracker,
}

#[derive(Default)]
struct Lives {
    sagas: BTreeMap<SagaId, Arc<LiveSaga>>,
    stopping: bool,
}

impl Engine {
    /// An engine of these kinds. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(store: Arc<dyn SagaStore>, claims: Claims, kinds: Kinds) -> Engine {
        let inner = Inner { store, claims, kinds, lives: Mutex::default(), completions: TaskTracker::new() };
        Engine { inner: Arc::new(inner) }
    }

    /// Whether this build can execute sagas of that kind and version.
    #[must_use]
    pub fn is_capable(&self, kind: &str, version: u32) -> bool {
        self.inner.kinds.get(kind).is_some_and(|known| known.version() == version)
    }

    /// What a saga of this kind and these parameters is made of.
    ///
    /// # Errors
    /// This build has no such kind, or makes no plan of these parameters.
    pub fn define(&self, kind: &str, params: &Value) -> Result<Definition, DefinitionError> {
        self.inner.kinds.define(kind, params)
    }

    /// Starts a saga; on return it is durable and runs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start<K: SagaKind>(&self, params: &K::Params) -> Result<SagaId, StartError> {
        let params = serde_json::to_value(params).map_err(|error| StartError::Definition {
            kind: K::NAME.to_owned(),
            source: DefinitionError::Params { kind: K::NAME.to_owned(), error: error.to_string() },
        })?;
        let id = SagaId::generate();
        self.start_as(id, K::NAME, params).await.map(|()| id)
    }

    /// Starts a saga under an id that the caller has chosen: asked for a second time, it is refused.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_as(&self, id: SagaId, kind: &str, params: Value) -> Result<(), StartError> {
        let inner = Arc::clone(&self.inner);
        let kind = kind.to_owned();
        // A task of its own: what has begun is not left half done when the caller goes away.
        tokio::spawn(async move { inner.start(id, &kind, params).await }).await.unwrap_or_else(|error| {
            let source = StoreFault::Unknown(format!("the task that creates it has ended: {error}"));
            Err(StartError::Unknown { id, source })
        })
    }

    /// Executes a saga on from where its log ends.
    ///
    /// # Errors
    /// See [`ResumeError`]; nothing of it is executed then.
    pub async fn resume(&self, adopted: Adopted, stored: StoredSaga) -> Result<(), ResumeError> {
        let id = adopted.key().id;
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.resume(adopted, stored).await }).await.unwrap_or_else(|error| {
            Err(ResumeError::Log { id, words: format!("the task that resumes it has ended: {error}") })
        })
    }

    /// Ends a saga as abandoned that cannot be executed on: an operator has given it up. What may be left of it is every
    /// node that was begun and is not undone.
    ///
    /// # Errors
    /// The store does not take it; nothing of it is executed.
    pub async fn bury(&self, adopted: Adopted, stored: StoredSaga, why: Buried) -> Result<(), String> {
        let inner = Arc::clone(&self.inner);
        let burying = tokio::spawn(async move { inner.bury(adopted, &stored, why).await });
        burying.await.unwrap_or_else(|error| Err(format!("the task that ends it has ended: {error}")))
    }

    /// What a saga is doing here. Never waits for the store.
    #[must_use]
    pub fn status(&self, id: SagaId) -> Option<LiveStatus> {
        self.inner.live(id).map(|live| live.status())
    }

    /// The sagas that are executed here.
    #[must_use]
    pub fn executing(&self) -> Vec<SagaKey> {
        self.inner.lock().sagas.values().map(|live| live.key).collect()
    }

    /// Those of them that are in this phase now.
    #[must_use]
    pub fn in_phase(&self, phase: Phase) -> Vec<SagaId> {
        let lives: Vec<_> = self.inner.lock().sagas.values().cloned().collect();
        lives.iter().filter(|live| live.phase() == phase).map(|live| live.key.id).collect()
    }

    /// Those of them that need attention, or that wait for their store.
    #[must_use]
    pub fn troubled(&self) -> Vec<LiveStatus> {
        let lives: Vec<_> = self.inner.lock().sagas.values().cloned().collect();
        lives.iter().filter(|live| live.is_troubled()).map(|live| live.status()).collect()
    }

    /// Waits while a saga is executed here; then, how it has ended. None if there is no such saga, or if it has not ended
    /// and is not executed here (any more).
    ///
    /// # Errors
    /// It is not executed here, and the store does not say how it ended.
    pub async fn wait(&self, id: SagaId) -> Result<Option<EndState>, StoreFault> {
        if let Some(live) = self.inner.live(id) {
            let mut ended = live.ended().subscribe();
            // The sender is in `live`, which this holds.
            if let Ok(ended) = ended.wait_for(Option::is_some).await
                && let Some(Ended::Here(end)) = &*ended
            {
                return Ok(Some(end.clone()));
            }
        }
        Ok(self.inner.store.load(&[id]).await?.pop().and_then(|saga| saga.end))
    }

    /// Begins no further node of a saga, and undoes those that have run. Nodes that run go on to their ends, but those that an
    /// earlier life has begun are undone. On return it is durable. A saga whose last node runs succeeds all the same, unless
    /// its coordinator dies.
    ///
    /// # Errors
    /// It is not executed here.
    pub async fn cancel(&self, id: SagaId) -> Result<(), SteerError> {
        let live = self.inner.live(id).ok_or(SteerError::NotHere { id })?;
        self.inner.mark(&live, Mark::CancelRequested).await?;
        live.cancel();
        Ok(())
    }

    /// Keeps a signal for a saga, whether or not it waits for it yet. On return it is durable. The first value of a name
    /// stays: the answer is what is kept.
    ///
    /// # Errors
    /// The store does not take it, or does not say what it has kept.
    pub async fn signal(&self, id: SagaId, name: &str, value: &Value) -> Result<Value, StoreFault> {
        self.inner.store.put_signal(id, name, value).await?;
        if let Some(live) = self.inner.live(id) {
            live.signals().send_modify(|told| *told += 1);
        }
        let kept = self.inner.store.signal(id, name).await?;
        kept.ok_or_else(|| StoreFault::Unknown(format!("the signal {name} was kept, and cannot be found")))
    }

    /// Tries the undos again that wait for an operator.
    ///
    /// # Errors
    /// None waits.
    pub fn retry(&self, id: SagaId) -> Result<(), SteerError> {
        let live = self.needing_attention(id)?;
        live.verdicts().send_modify(|verdicts| verdicts.retries += 1);
        Ok(())
    }

    /// Gives up on the undos that wait for an operator, and on all that would follow. On return it is durable.
    ///
    /// # Errors
    /// None waits.
    pub async fn abandon(&self, id: SagaId, reason: &str) -> Result<(), SteerError> {
        let live = self.needing_attention(id)?;
        self.inner.mark(&live, Mark::Abandoned { reason: reason.to_owned() }).await?;
        live.verdicts().send_modify(|verdicts| {
            verdicts.abandoned.get_or_insert_with(|| reason.to_owned());
        });
        Ok(())
    }

    /// Stops executing: no action is begun, none runs on, and of the logs only what has happened is still written. Returns
    /// when every executor has stopped. What is unfinished stays so, and recovery resumes it.
    pub async fn halt(&self) {
        self.stop(Halt::Stopped).await;
    }

    /// As if the process had died: nothing is written any more.
    #[cfg(feature = "testing")]
    pub async fn die(&self) {
        self.stop(Halt::Died).await;
    }

    async fn stop(&self, why: Halt) {
        let lives: Vec<_> = {
            let mut lives = self.inner.lock();
            lives.stopping = true;
            lives.sagas.values().cloned().collect()
        };
        for live in lives {
            live.halt(why);
        }
        self.inner.completions.close();
        self.inner.completions.wait().await;
    }

    fn needing_attention(&self, id: SagaId) -> Result<Arc<LiveSaga>, SteerError> {
        let live = self.inner.live(id).ok_or(SteerError::NotHere { id })?;
        if live.status().attention.is_empty() {
            return Err(SteerError::NoAttention { id });
        }
        Ok(live)
    }
}

impl Inner {
    async fn start(self: Arc<Self>, id: SagaId, kind: &str, params: Value) -> Result<(), StartError> {
        let known =
            self.kinds.get(kind).cloned().ok_or_else(|| StartError::UnknownKind { kind: kind.to_owned() })?;
        let refused = |source| StartError::Definition { kind: kind.to_owned(), source };
        let definition = known.define(&params).map_err(refused)?;
        let key = SagaKey { id, epoch: AdoptionEpoch::default() };
        let row = new_row(key, known.as_ref(), &definition, params).map_err(refused)?;
        let claim = self.claims.claim(key).map_err(|_| StartError::Exists { id })?;
        if let Err(error) = self.create(&row).await {
            claim.gave_up();
            return Err(error);
        }
        let live = LiveSaga::new(key, known.name(), Arc::clone(&definition.nodes), &[], &[]);
        let left = |words| StartError::LeftToRecovery { id, words };
        match self.hand_over(known.as_ref(), Arc::new(live), What::New(definition)).await {
            Ok(handed) => self.begin(handed, claim).await.map_err(left),
            Err(words) => {
                claim.gave_up();
                Err(left(words))
            }
        }
    }

    /// Returns when the answer is known, or when no attempt is under way any more.
    async fn create(&self, row: &NewSaga) -> Result<(), StartError> {
        let id = row.key.id;
        let mut in_doubt = false;
        let mut attempt = 1;
        loop {
            let source = match self.store.create(row).await {
                Ok(Created::Ours) => return Ok(()),
                Ok(Created::Others) => return Err(StartError::Exists { id }),
                Err(fault) => fault,
            };
            in_doubt |= matches!(source, StoreFault::Unknown(_));
            if attempt == WRITE_ATTEMPTS_MAX || source == StoreFault::Superseded {
                return Err(if in_doubt {
                    StartError::Unknown { id, source }
                } else {
                    StartError::NotCreated { id, source }
                });
            }
            tokio::time::sleep(WRITE_PAUSE).await;
            attempt += 1;
        }
    }

    async fn resume(self: Arc<Self>, adopted: Adopted, stored: StoredSaga) -> Result<(), ResumeError> {
        let id = adopted.key().id;
        let ready = self.check(adopted.key(), &stored).and_then(|(known, definition)| {
            let log: Result<Vec<_>, _> =
                stored.events.iter().map(|event| log_store::to_steno(id, event)).collect();
            let log = log.map_err(|error| ResumeError::Log { id, words: error.to_string() })?;
            Ok((known, definition, log))
        });
        let (known, definition, log) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                adopted.failed();
                return Err(error);
            }
        };
        let key = adopted.key();
        let live = LiveSaga::new(key, known.name(), definition.nodes, &stored.events, &stored.marks);
        let what = What::Stored { dag: stored.row.dag, log };
        match self.hand_over(known.as_ref(), Arc::new(live), what).await {
            Ok(handed) => {
                let claim = adopted.resumed();
                self.begin(handed, claim).await.map_err(|words| ResumeError::Log { id, words })
            }
            Err(words) => {
                adopted.failed();
                let stopping = self.lock().stopping;
                Err(if stopping { ResumeError::Stopping { id } } else { ResumeError::Log { id, words } })
            }
        }
    }

    async fn bury(&self, adopted: Adopted, stored: &StoredSaga, why: Buried) -> Result<(), String> {
        let key = adopted.key();
        let not_undone = left_behind(stored);
        // What failed first stays what it was.
        let failed = stored.events.iter().find_map(NodeEvent::failure);
        let failure =
            failed.unwrap_or_else(|| Failure { node: String::new(), cause: why.cause, attempts: 0 });
        // What an operator has said first stays.
        let said = stored.marks.iter().find_map(|mark| match mark {
            Mark::Abandoned { reason } => Some(reason.clone()),
            _ => None,
        });
        let end = EndState::Abandoned { failure, reason: said.unwrap_or(why.reason), not_undone };
        let mut written = self.store.end(key, &end, &[]).await;
        for _ in 1..WRITE_ATTEMPTS_MAX {
            if written.is_ok() {
                break;
            }
            tokio::time::sleep(WRITE_PAUSE).await;
            written = self.store.end(key, &end, &[]).await;
        }
        match written {
            Ok(Written::Now | Written::Already) => {
                adopted.resumed().finished();
                Ok(())
            }
            Ok(Written::Fenced | Written::Contradicted) => {
                Err("another coordinator has adopted it".to_owned())
            }
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn check(
        &self,
        key: SagaKey,
        stored: &StoredSaga,
    ) -> Result<(Arc<dyn AnyKind>, Definition), ResumeError> {
        let (id, row) = (key.id, &stored.row);
        if row.key != key || stored.end.is_some() {
            return Err(ResumeError::Changed { id });
        }
        let known = self.kinds.get(&row.kind).filter(|known| known.version() == row.version);
        let known = known.cloned().ok_or_else(|| ResumeError::UnknownKind {
            id,
            kind: row.kind.clone(),
            version: row.version,
        })?;
        let definition =
            known.define(&row.params).map_err(|source| ResumeError::Definition { id, source })?;
        let made = definition.digest();
        if made != row.digest {
            return Err(ResumeError::Digest { id, stored: row.digest.clone(), made });
        }
        Ok((known, definition))
    }

    /// Gives a saga to a SEC, which does not start it yet. After an error no SEC has it.
    async fn hand_over(&self, kind: &dyn AnyKind, live: Arc<LiveSaga>, what: What) -> Result<Handed, String> {
        {
            let mut lives = self.lock();
            if lives.stopping {
                return Err("the engine stops".to_owned());
            }
            if lives.sagas.contains_key(&live.key.id) {
                return Err("it is executed here already".to_owned());
            }
            lives.sagas.insert(live.key.id, Arc::clone(&live));
        }
        let sec = executor(&self.store, &live);
        let handing = Handing { sec: &sec, live: Arc::clone(&live), store: Arc::clone(&self.store), what };
        match AssertUnwindSafe(kind.hand_over(handing)).catch_unwind().await {
            Ok(Ok(result)) => Ok(Handed { live, sec, result }),
            Ok(Err(error)) => {
                self.let_go(&live);
                Err(format!("{error:#}"))
            }
            Err(_) => {
                self.let_go(&live);
                Err("the SEC has panicked".to_owned())
            }
        }
    }

    /// Starts a saga that was handed over: the one place where it is, so that no saga is started twice.
    async fn begin(self: &Arc<Self>, handed: Handed, claim: Claim) -> Result<(), String> {
        let Handed { live, sec, result } = handed;
        let id = steno::SagaId::from_untyped_uuid(live.key.id.0);
        let started = AssertUnwindSafe(sec.saga_start(id)).catch_unwind().await;
        if !matches!(started, Ok(Ok(()))) {
            self.let_go(&live);
            // Whether it runs is unknown, so the claim stays.
            live.halt(Halt::Stopped);
            drop(claim);
            return Err("its SEC does not start it".to_owned());
        }
        let completing = Completing { engine: Arc::clone(self), live, _sec: sec, claim };
        self.completions.spawn(completing.run(result));
        Ok(())
    }

    /// After steno has let go of a saga.
    pub(crate) fn let_go(&self, live: &LiveSaga) {
        self.lock().sagas.remove(&live.key.id);
    }

    async fn mark(&self, live: &LiveSaga, mark: Mark) -> Result<(), SteerError> {
        match persist(live, || self.store.mark(live.key, &mark)).await {
            Persisted::Durable => {
                live.marked(mark);
                Ok(())
            }
            Persisted::Halted => Err(SteerError::NotHere { id: live.key.id }),
        }
    }

    fn live(&self, id: SagaId) -> Option<Arc<LiveSaga>> {
        self.lock().sagas.get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A SEC for one saga: steno keeps every saga that has ended for as long as its SEC lives, runs all sagas of a SEC in one
/// task, and takes them all down with it when it panics. Of one saga each, nothing is kept, waits for others, or is lost with
/// them. It ends when it is dropped.
fn executor(store: &Arc<dyn SagaStore>, live: &Arc<LiveSaga>) -> SecClient {
    let silent = slog::Logger::root(slog::Discard, slog::o!());
    let log = LogStore { store: Arc::clone(store), live: Arc::clone(live) };
    steno::sec(silent, Arc::new(log))
}

/// A saga that a SEC has and has not started.
struct Handed {
    live: Arc<LiveSaga>,
    sec: SecClient,
    result: BoxFuture<'static, SagaResult>,
}

/// Nodes that may have left something: begun or done, and neither failed (which leaves nothing) nor undone; and those whose
/// undoing was skipped. By their paths in the graph that was stored: this build may plan another one.
fn left_behind(stored: &StoredSaga) -> Vec<String> {
    let of = |what: &str| -> BTreeSet<u32> {
        let events = stored.events.iter().filter(|event| event.event == what);
        events.map(|event| event.node).collect()
    };
    let paths = stored_paths(&stored.row.dag);
    let gone = &of("failed") | &of("undo_finished");
    // Each of them says that it was begun, also if the line before it is missing.
    let begun = &(&of("started") | &of("succeeded")) | &of("undo_started");
    let name = |node: &u32| match paths.get(node) {
        Some(path) => Some(path.clone()),
        None if paths.is_empty() => Some(format!("node {node}")),
        // One of steno's own.
        None => None,
    };
    let mut left: BTreeSet<String> = begun.difference(&gone).filter_map(name).collect();
    left.extend(stored.marks.iter().filter_map(|mark| match mark {
        Mark::UndoSkipped { node } => Some(node.clone()),
        _ => None,
    }));
    left.into_iter().collect()
}

fn new_row(
    key: SagaKey,
    kind: &dyn AnyKind,
    definition: &Definition,
    params: Value,
) -> Result<NewSaga, DefinitionError> {
    let dag = serde_json::to_value(&*definition.dag)
        .map_err(|error| DefinitionError::Steno { words: error.to_string() })?;
    Ok(NewSaga {
        key,
        creation: Uuid::new_v4(),
        kind: kind.name().to_owned(),
        version: kind.version(),
        digest: definition.digest(),
        params,
        dag,
        created: Timestamp::now(),
    })
}
