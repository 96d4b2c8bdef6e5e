//! One run of one scenario: lives of coordinators, one after the other or one beside a fenced one, until every saga has
//! ended; operations while the saga is held.
//!
//! ```text
//!   begin ─► living ─┬─ died ──────► halt its engine, begin the next life of that coordinator
//!                    ├─ held ──────► operation, to its end ─► check ─► release ─► living
//!                    │                └ adopt: the next coordinator lives to the end, then release: the old one is fenced
//!                    ├─ attention ─► as the script says: retry, or abandon
//!                    └─ nothing unfinished ─► judge
//! ```

use crate::{
    backend::Session,
    case::{Case, Gap, Moment, World},
    judge::{Judging, Reference},
    life::{Life, ToStart},
    scenario::{Incident, Scenario},
    stage::{Event, Observed, Stage},
};
use futures::{FutureExt, future::BoxFuture};
use ids::SagaId;
use nexus_sagas::{SagaStore, StartError};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Events on their way at a time: one per node that runs, and the sender waits.
const EVENTS: usize = 16;

/// Looks for an attention that is durable until it is visible: a few instructions later.
const LOOKS_MAX: u32 = 1_000;
/// Between two of them. In virtual time: until nothing else can be done.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// What can be done to any kind, at any write of it but its creation.
pub(crate) const BUILT_IN: [&str; 6] = ["cancel", "recovery", "same_id", "same_again", "adopt", "adopt_late"];

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) found: Option<String>,
    pub(crate) trace: Vec<String>,
    pub(crate) observed: Observed,
    pub(crate) reference: Reference,
}

/// What a run is made of.
pub(crate) struct Run<'r, W: World> {
    pub(crate) case: &'r Case<W>,
    pub(crate) scenario: &'r Scenario,
    pub(crate) session: &'r dyn Session,
    pub(crate) reference: Option<&'r Reference>,
    pub(crate) saga: SagaId,
    /// For the whole run: virtual time, in which it passes only while nothing moves, or real.
    pub(crate) time_limit: Duration,
    /// Whether the trace is wanted also if nothing is found.
    pub(crate) keep: bool,
}

struct Conductor<'r, W: World> {
    run: &'r Run<'r, W>,
    world: Arc<W>,
    stage: Arc<Stage>,
    events: mpsc::Receiver<Event>,
    /// Events that have come during an operation, which ends first.
    put_off: VecDeque<Event>,
    lives: BTreeMap<u32, Arc<Life>>,
}

impl<W: World> Run<'_, W> {
    pub(crate) async fn conduct(&self) -> Outcome {
        let (sender, events) = mpsc::channel(EVENTS);
        let world = (self.case.world)();
        let stage = Arc::new(Stage::new(self.saga, Arc::clone(&world) as _, self.scenario.clone(), sender));
        let mut conductor = Conductor {
            run: self,
            world,
            stage: Arc::clone(&stage),
            events,
            put_off: VecDeque::new(),
            lives: BTreeMap::new(),
        };
        let going = async {
            let Some(life) = conductor.begin(1) else { return Reference::default() };
            let start = ToStart { id: self.saga, kind: self.case.kind, params: self.case.params.clone() };
            conductor.live_to_end(life, Some(start)).await;
            conductor.judge().await
        };
        let reference = tokio::time::timeout(self.time_limit, going).await.unwrap_or_else(|_| {
            stage.found(&conductor.stillness());
            Reference::default()
        });
        let (found, observed, trace) = stage.close(self.keep);
        Outcome { found, trace, observed, reference }
    }
}

impl<W: World> Conductor<'_, W> {
    fn begin(&mut self, coordinator: u32) -> Option<Arc<Life>> {
        let number = u32::try_from(self.lives.len()).unwrap_or(u32::MAX).saturating_add(1);
        let inner = self.run.session.store(coordinator);
        match Life::begin(self.run.case, &self.world, &self.stage, inner, (number, coordinator)) {
            Ok(life) => {
                let life = Arc::new(life);
                self.lives.insert(number, Arc::clone(&life));
                self.stage.line(format!("life {number}  begins, of coordinator {coordinator}"));
                Some(life)
            }
            Err(error) => {
                self.stage.found(&format!("the kinds cannot be registered: {error}"));
                None
            }
        }
    }

    /// Lives until nothing is unfinished; the next life goes on where this one dies.
    fn live_to_end(&mut self, life: Arc<Life>, start: Option<ToStart>) -> BoxFuture<'_, ()> {
        async move {
            let (mut life, mut start) = (life, start);
            while self.live_or_die(&life, start.take()).await {
                let Some(next) = self.begin(life.coordinator) else { return };
                life = next;
            }
        }
        .boxed()
    }

    /// Whether it died.
    async fn live_or_die(&mut self, life: &Life, start: Option<ToStart>) -> bool {
        let living = life.live(start);
        tokio::pin!(living);
        loop {
            if let Some(event) = self.put_off.pop_front() {
                if self.handle(event).await == Some(life.number) {
                    return true;
                }
                continue;
            }
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => {
                    if self.handle(event).await == Some(life.number) {
                        return true;
                    }
                }
                lived = &mut living => {
                    if let Err(words) = lived {
                        self.stage.found(&words);
                    }
                    return false;
                }
            }
        }
    }

    /// Answers the life that has died.
    async fn handle(&mut self, event: Event) -> Option<u32> {
        match event {
            Event::Died { life } => {
                if let Some(life) = self.lives.get(&life) {
                    life.engine.die().await;
                }
                return Some(life);
            }
            Event::Held { life, operation, place, release } => {
                let life = self.lives.get(&life).cloned()?;
                self.stage.line(format!("life {}  held at {place}: {operation}", life.number));
                let done = self.operate(&life, &operation, &place, release).await;
                if let Err(words) = done {
                    self.stage.found(&format!("{operation} at {place}: {words}"));
                }
            }
            Event::Attention { life, saga } => {
                if let Some(life) = self.lives.get(&life).cloned() {
                    self.attend(&life, saga).await;
                }
            }
        }
        None
    }

    async fn operate(
        &mut self,
        life: &Arc<Life>,
        operation: &str,
        place: &str,
        release: oneshot::Sender<()>,
    ) -> Result<(), String> {
        let saga = self.run.saga;
        match operation {
            "adopt" | "adopt_late" => return self.adopt(life, operation == "adopt_late", release).await,
            // An error: it has ended meanwhile.
            "cancel" => drop(life.unless_dead(life.engine.cancel(saga)).await),
            "recovery" => match life.recover().await? {
                0 => {}
                resumed => return Err(format!("recovery resumes {resumed} sagas that are executed")),
            },
            "same_id" => {
                let again =
                    life.engine.start_as(saga, self.run.case.kind, self.run.case.params.clone()).await;
                if again != Err(StartError::Exists { id: saga }) {
                    return Err(format!("a second start of the same saga is answered {again:?}"));
                }
            }
            "same_again" => {
                let (gap, run) = (self.gap(life, place), self.run);
                let again = gap.run_saga(run.case.kind, run.case.params.clone());
                self.beside(again).await?;
            }
            own => {
                let Some(known) = self.run.case.operation_of(own) else {
                    return Err("the case has no such operation".to_owned());
                };
                let operating = (known.run)(self.gap(life, place));
                self.beside(life.unless_dead(operating)).await.unwrap_or(Ok(()))?;
            }
        }
        self.stage.check(Moment::After { operation }, None);
        // The other end is gone if the saga's life was halted meanwhile.
        let _ = release.send(());
        Ok(())
    }

    /// What other sagas do while one is held: they may need attention, too. Everything else waits for the end of it.
    async fn beside<T>(&mut self, doing: impl Future<Output = T>) -> T {
        tokio::pin!(doing);
        loop {
            tokio::select! {
                biased;
                done = &mut doing => return done,
                Some(event) = self.events.recv() => match event {
                    Event::Attention { life, saga } if saga != self.run.saga => {
                        if let Some(life) = self.lives.get(&life).cloned() {
                            self.attend(&life, saga).await;
                        }
                    }
                    other => self.put_off.push_back(other),
                },
            }
        }
    }

    fn gap(&self, life: &Arc<Life>, place: &str) -> Gap<W> {
        Gap {
            world: Arc::clone(&self.world),
            engine: life.engine.clone(),
            store: Arc::clone(&life.wire) as Arc<dyn SagaStore>,
            saga: self.run.saga,
            place: place.to_owned(),
            next_id: self.stage.next_id(),
        }
    }

    /// The next coordinator adopts the saga. The old one goes on when the new one has brought it to its end, or, if
    /// late, before the new one begins. Either way it is fenced, and changes nothing of what the new one has done. (What
    /// an operator has told the new one to abandon it has not done: its end says that this may be left.)
    async fn adopt(
        &mut self,
        old: &Arc<Life>,
        late: bool,
        release: oneshot::Sender<()>,
    ) -> Result<(), String> {
        let Some(key) = self.stage.key_of(self.run.saga) else { return Err("it has no row".to_owned()) };
        let adopting = self.run.session.store(old.coordinator + 1);
        let adopted = adopting.adopt(&[key]).await.map_err(|error| error.to_string())?;
        self.stage.adopted(*adopted.first().ok_or("it cannot be adopted any more")?);
        let Some(next) = self.begin(old.coordinator + 1) else { return Ok(()) };
        if late {
            let _ = release.send(());
            old.idle().await;
            self.live_to_end(next, None).await;
        } else {
            self.live_to_end(next, None).await;
            let before = self.stage.effects_to_answer_for();
            self.stage.line(format!("life {}  released", old.number));
            let _ = release.send(());
            old.idle().await;
            let after = self.stage.effects_to_answer_for();
            if before != after {
                return Err(format!(
                    "the executor that was fenced has changed effects: {before:?} became {after:?}"
                ));
            }
        }
        if old.claims.totals().fenced != 1 {
            return Err("the executor that was fenced has not said so".to_owned());
        }
        Ok(())
    }

    async fn attend(&mut self, life: &Arc<Life>, saga: SagaId) {
        // Durable first, then visible. Never, if another undo's attention has been answered for this one too.
        for _ in 0..LOOKS_MAX {
            let status = life.engine.status(saga);
            if status.is_none_or(|status| !status.attention.is_empty()) || life.dead.is_cancelled() {
                break;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        // The script is about the saga itself; the case about each of its kind.
        let told = self.stage.operator().filter(|_| saga == self.run.saga);
        let by_case = self.run.case.operator.filter(|_| self.stage.is_of_the_kind(saga));
        let operator = told.or_else(|| by_case.map(|verdict| verdict.word().to_owned()));
        if operator.is_none() {
            let attention = life.engine.status(saga).map_or_else(BTreeMap::new, |status| status.attention);
            let attention: Vec<_> =
                attention.into_values().map(|attention| attention.failure.to_string()).collect();
            self.stage.found(&format!(
                "{saga} needs attention, though no undo was told to fail for ever: {attention:?}"
            ));
        }
        self.stage.line(format!("life {}  {saga}  operator: {operator:?}", life.number));
        if operator.as_deref() == Some("retry") {
            self.stage.heal();
            // An error: another undo's attention was answered with it.
            let _ = life.engine.retry(saga);
        } else {
            // Beside: the saga may be held while that becomes durable.
            let life = Arc::clone(life);
            tokio::spawn(async move {
                let _ = life.unless_dead(life.engine.abandon(saga, "told to")).await;
            });
        }
    }

    async fn judge(&self) -> Reference {
        for life in self.lives.values().filter(|life| !life.dead.is_cancelled()) {
            if let Some(words) = life.left_over() {
                self.stage.found(&words);
            }
        }
        self.stage.check(Moment::End, None);
        let ids: Vec<_> = self.stage.sagas().into_keys().collect();
        let stored = match self.run.session.store(1).load(&ids).await {
            Ok(stored) => stored,
            Err(error) => {
                self.stage.found(&format!("the sagas cannot be loaded: {error}"));
                return Reference::default();
            }
        };
        let removing = |incident: &Incident| match incident {
            Incident::Run { operation, .. } => {
                self.run.case.operation_of(operation).is_some_and(|operation| operation.removes_effects)
            }
            _ => false,
        };
        let judging = Judging {
            stage: &self.stage,
            scenario: self.run.scenario,
            reference: self.run.reference,
            effects_may_miss: self.run.scenario.incidents.iter().any(removing),
        };
        judging.judge(&stored)
    }

    /// What everybody was doing when nothing moved any more.
    fn stillness(&self) -> String {
        let mut words = "nothing moves any more".to_owned();
        for life in self.lives.values().filter(|life| !life.dead.is_cancelled()) {
            for key in life.engine.executing() {
                if let Some(status) = life.engine.status(key.id) {
                    let nodes: Vec<_> = status
                        .nodes
                        .iter()
                        .map(|(path, node)| format!("{path} {} attempt {}", node.event, node.attempt))
                        .collect();
                    let blocked = status.blocked.map(|blocked| blocked.words);
                    words =
                        format!("{words}; life {}: {}: {nodes:?}, blocked {blocked:?}", life.number, key.id);
                }
            }
        }
        words
    }
}
