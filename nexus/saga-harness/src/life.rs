//! One life of a coordinator: the real engine over a scripted wire, with recovery's real passes.

use crate::{calls::Calls, case::Case, case::World, stage::Stage, wire::Wire};
use ids::SagaId;
use nexus_saga_recovery::{Claims, PlanRules, Setbacks, Window};
use nexus_sagas::{Engine, Kinds, RegisterError, SagaStore, StartError, taking::take};
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Passes of recovery in one life at most: each but the last resumes something, and a saga is resumed once.
const PASSES_MAX: u32 = 20;

pub(crate) struct Life {
    /// From 1, in the order in which they begin.
    pub(crate) number: u32,
    /// Which coordinator's life it is, from 1.
    pub(crate) coordinator: u32,
    pub(crate) engine: Engine,
    pub(crate) claims: Claims,
    pub(crate) wire: Arc<Wire>,
    pub(crate) dead: CancellationToken,
    stage: Arc<Stage>,
}

/// A saga that is to be started.
pub(crate) struct ToStart {
    pub(crate) id: SagaId,
    pub(crate) kind: &'static str,
    pub(crate) params: Value,
}

impl Life {
    pub(crate) fn begin<W: World>(
        case: &Case<W>,
        world: &Arc<W>,
        stage: &Arc<Stage>,
        inner: Arc<dyn SagaStore>,
        (number, coordinator): (u32, u32),
    ) -> Result<Life, RegisterError> {
        let dead = CancellationToken::new();
        let calls = Calls { stage: Arc::clone(stage), life: number, dead: dead.clone() };
        let mut kinds = Kinds::interposed(Arc::new(calls));
        (case.register)(&mut kinds, world)?;
        let wire = Arc::new(Wire {
            inner,
            stage: Arc::clone(stage),
            life: number,
            dead: dead.clone(),
            kind: case.kind,
            signals: case.signals.clone(),
        });
        let claims = Claims::new();
        let engine = Engine::new(Arc::clone(&wire) as _, claims.clone(), kinds);
        Ok(Life { number, coordinator, engine, claims, wire, dead, stage: Arc::clone(stage) })
    }

    /// Starts a saga, or recovers what there is; then goes on until nothing is unfinished.
    pub(crate) async fn live(&self, start: Option<ToStart>) -> Result<(), String> {
        if let Some(ToStart { id, kind, params }) = start {
            match self.engine.start_as(id, kind, params).await {
                Ok(()) => self.stage.acknowledged(id),
                Err(StartError::NotCreated { .. } | StartError::Unknown { .. }) => {
                    self.stage.line(format!("life {}  {id}  not acknowledged", self.number));
                }
                Err(error) => return Err(format!("the saga is not started: {}", with_causes(&error))),
            }
        }
        for _ in 0..PASSES_MAX {
            self.idle().await;
            if self.recover().await? == 0 {
                return Ok(());
            }
        }
        Err(format!("after {PASSES_MAX} passes recovery still resumes sagas"))
    }

    /// One pass of recovery. How many sagas it has found that nobody executes.
    pub(crate) async fn recover(&self) -> Result<usize, String> {
        let listed = Window::open(&self.claims).list(async || self.wire.unfinished().await).await;
        let listed = listed.map_err(|error| error.to_string())?;
        let setbacks = Setbacks::default();
        let plan = listed.plan(&PlanRules {
            is_capable: &|saga| self.engine.is_capable(&saga.kind, saga.version),
            setbacks: &setbacks,
            resumed_max: usize::MAX,
            now: jiff::Timestamp::now(),
        });
        let batch: Vec<_> = plan.resume.into_iter().map(|(_, resuming)| resuming).collect();
        let found = batch.len();
        for taken in take(self.wire.as_ref(), batch).await {
            let (adopted, stored) = match taken {
                Ok(taken) => taken,
                Err(not_taken) => {
                    let id = not_taken.listed.id;
                    self.stage
                        .line(format!("life {}  {id}  not recovered: {}", self.number, not_taken.words));
                    continue;
                }
            };
            self.stage.line(format!("life {}  {}  recovered", self.number, adopted.key().id));
            let resumed = self.engine.resume(adopted, stored).await;
            resumed.map_err(|error| format!("recovery cannot resume it: {}", with_causes(&error)))?;
        }
        Ok(found)
    }

    /// Waits until nothing is executed here.
    pub(crate) async fn idle(&self) {
        while let Some(key) = self.engine.executing().first() {
            let _ = self.engine.wait(key.id).await;
        }
    }

    /// What somebody does who is there only as long as this life is: none if it dies meanwhile.
    pub(crate) async fn unless_dead<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.dead.cancelled() => None,
            done = doing => Some(done),
        }
    }

    /// What is still held in memory after everything has ended here.
    pub(crate) fn left_over(&self) -> Option<String> {
        let (executing, held) = (self.engine.executing(), self.claims.held());
        if executing.is_empty() && held.is_empty() {
            return None;
        }
        Some(format!("life {} still executes {executing:?} and holds claims on {held:?}", self.number))
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
