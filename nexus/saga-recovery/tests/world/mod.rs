//! One saga and all that can happen to it, around the real claims and the real pass.

mod step;

pub(crate) use step::Step;

use ids::{AdoptionEpoch, SagaId};
use jiff::Timestamp;
use nexus_saga_recovery::{
    Adopted, Claim, Claims, Listed, PlanRules, Resuming, SagaKey, Setbacks, Totals, UnfinishedSaga, Window,
};
use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};
use uuid::Uuid;

const SAGA: SagaId = SagaId(Uuid::from_u128(7));

/// Adoptions after which the second coordinator loses interest: enough to go away and come back.
const EPOCHS: u64 = 3;

/// Own adoptions are in vain up to this epoch: without a limit a pass could fail for ever.
const EPOCHS_IN_VAIN: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Creator {
    Idle,
    Claimed,
    Created,
    /// It executes, or has given up: nothing more comes of it.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    None,
    Unfinished {
        epoch: u64,
        ours: bool,
    },
    /// By the executor of that adoption.
    Ended {
        epoch: u64,
    },
}

/// The claim of an executor, which runs until its row has ended or it was fenced.
#[derive(Debug)]
struct Executor {
    claim: Option<Claim>,
    epoch: u64,
    has_ended_row: bool,
}

#[derive(Debug)]
enum Pass {
    Rest,
    Open(Window),
    Listed(Listed),
}

/// The order in which things are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Right,
    ListBeforeWindow,
    ClaimAfterInsert,
    /// A log is loaded without adopting its row.
    NoAdoption,
    /// A log is loaded before its row is adopted.
    LoadBeforeAdoption,
}

/// What a pass does with the saga that it wants resumed.
#[derive(Debug)]
enum Recovering {
    Planned(Resuming),
    /// Of a coordinator that loads too early.
    LoadedEarly(Resuming),
    Adopted(Adopted),
    Loaded(Adopted),
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    order: Order,
    claims: Claims,
    creator: Creator,
    created: Option<Claim>,
    /// Whether an INSERT that was given up may still be committed.
    insert_in_flight: bool,
    row: Row,
    executors: Vec<Executor>,
    pass: Pass,
    /// What a pass that lists too early has seen.
    seen_early: Option<Vec<UnfinishedSaga>>,
    recovering: Option<Recovering>,
    /// The adoption under which an executor that has died has a write on its way.
    late_write: Option<u64>,
    broken: Option<String>,
    /// Whether the process has died once; it is enough.
    crashed: bool,
}

/// What distinguishes a state from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct View {
    creator: Creator,
    row: Row,
    insert_in_flight: bool,
    executors: Vec<(u64, bool)>,
    held: Vec<SagaKey>,
    pass: (u8, Vec<UnfinishedSaga>),
    seen_early: Option<Vec<UnfinishedSaga>>,
    recovering: Option<(u8, u64)>,
    late_write: Option<u64>,
    given_back: u64,
    crashed: bool,
}

impl View {
    /// Whether the row has ended, or never came to be.
    pub(crate) fn is_settled(&self) -> bool {
        !matches!(self.row, Row::Unfinished { .. }) && !self.insert_in_flight
    }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Order::Right)
    }

    /// A coordinator whose passes list before they open their window.
    pub(crate) fn that_lists_too_early() -> World {
        World::with(Order::ListBeforeWindow)
    }

    /// A coordinator that claims what it creates after it was created.
    pub(crate) fn that_claims_too_late() -> World {
        World::with(Order::ClaimAfterInsert)
    }

    /// A coordinator that executes on under the epoch that it has found.
    pub(crate) fn that_does_not_adopt() -> World {
        World::with(Order::NoAdoption)
    }

    /// A coordinator that loads a log and adopts its row then.
    pub(crate) fn that_loads_too_early() -> World {
        World::with(Order::LoadBeforeAdoption)
    }

    fn with(order: Order) -> World {
        World {
            order,
            claims: Claims::new(),
            creator: Creator::Idle,
            created: None,
            insert_in_flight: false,
            row: Row::None,
            executors: Vec::new(),
            pass: Pass::Rest,
            seen_early: None,
            recovering: None,
            late_write: None,
            broken: None,
            crashed: false,
        }
    }

    /// What can happen next.
    pub(crate) fn possible(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        match self.creator {
            Creator::Idle => steps.push(Step::Claim),
            Creator::Claimed => {
                steps.extend([Step::InsertCommits, Step::InsertIsAmbiguous, Step::InsertCommitsUnanswered]);
            }
            Creator::Created => steps.push(Step::Start),
            Creator::Over => {}
        }
        if self.insert_in_flight {
            steps.extend([Step::InsertCommitsLate, Step::InsertVanishes]);
        }
        match self.row {
            Row::Unfinished { ours: true, epoch } if epoch < EPOCHS => steps.push(Step::AdoptAway),
            Row::Unfinished { ours: false, epoch } if epoch < EPOCHS => {
                steps.extend([Step::AdoptBack, Step::OtherEndsRow]);
            }
            Row::Unfinished { ours: false, .. } => steps.push(Step::OtherEndsRow),
            _ => {}
        }
        if let Some(executor) = self.executors.first() {
            let rightful = self.row == Row::Unfinished { epoch: executor.epoch, ours: true };
            steps.extend(match (executor.has_ended_row, rightful) {
                (true, _) => Some(Step::Finish),
                (false, true) => Some(Step::EndRow),
                (false, false) => Some(Step::Fence),
            });
        }
        match self.pass {
            Pass::Rest => steps.extend(self.possible_at_rest()),
            Pass::Open(_) => steps.extend([Step::List, Step::ListFails]),
            Pass::Listed(_) => steps.push(Step::Plan),
        }
        if !self.crashed {
            steps.push(Step::Crash);
        }
        if self.late_write.is_some() {
            steps.push(Step::LateWrite);
        }
        steps
    }

    fn possible_at_rest(&self) -> Vec<Step> {
        let as_listed = |resuming: &Resuming| self.row == unfinished(resuming.key().epoch.0);
        let in_vain = |key: SagaKey| (key.epoch.0 < EPOCHS_IN_VAIN).then_some(Step::ResumeFails);
        let adopt = |resuming: &Resuming| match as_listed(resuming) {
            false => vec![Step::AdoptRefused],
            true if resuming.key().epoch.0 < EPOCHS_IN_VAIN => {
                vec![Step::Adopt, Step::AdoptUnanswered, Step::ResumeFails]
            }
            true => vec![Step::Adopt],
        };
        match &self.recovering {
            None if self.order == Order::ListBeforeWindow && self.seen_early.is_none() => {
                vec![Step::ListEarly]
            }
            None => vec![Step::Open],
            Some(Recovering::Planned(_)) if self.order == Order::LoadBeforeAdoption => vec![Step::Load],
            Some(Recovering::Planned(resuming) | Recovering::LoadedEarly(resuming)) => adopt(resuming),
            Some(Recovering::Adopted(adopted)) => {
                in_vain(adopted.key()).into_iter().chain([Step::Load]).collect()
            }
            Some(Recovering::Loaded(adopted)) => {
                in_vain(adopted.key()).into_iter().chain([Step::Resume]).collect()
            }
        }
    }

    /// Lets them happen, one after the other.
    pub(crate) fn take_all(&mut self, steps: &[Step]) {
        steps.iter().for_each(|&step| self.take(step));
    }

    /// Lets one of them happen.
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Claim => self.claim(),
            Step::InsertCommits => self.insert_commits(),
            Step::InsertIsAmbiguous | Step::InsertCommitsUnanswered => self.give_up(step),
            Step::InsertCommitsLate => {
                self.insert_in_flight = false;
                self.row = Row::Unfinished { epoch: 0, ours: true };
            }
            Step::InsertVanishes => self.insert_in_flight = false,
            Step::Start => {
                // Who claims too late, and is refused, does not care.
                let claim = self.created.take().or_else(|| self.claims.claim(key(0)).ok());
                let claim = claim.or_else(|| Claims::new().claim(key(0)).ok()).expect("it is claimed");
                self.executors.push(Executor { claim: Some(claim), epoch: 0, has_ended_row: false });
                self.creator = Creator::Over;
            }
            Step::EndRow => {
                let executor = &mut self.executors[0];
                executor.has_ended_row = true;
                self.row = Row::Ended { epoch: executor.epoch };
            }
            Step::Finish => self.executors.remove(0).claim.expect("it has one").finished(),
            Step::Fence => self.executors.remove(0).claim.expect("it has one").fenced(),
            Step::AdoptAway | Step::AdoptBack => {
                let Row::Unfinished { epoch, ours } = self.row else { unreachable!("there is a row") };
                self.row = Row::Unfinished { epoch: epoch + 1, ours: !ours };
            }
            Step::OtherEndsRow => {
                let Row::Unfinished { epoch, .. } = self.row else { unreachable!("there is a row") };
                self.row = Row::Ended { epoch };
            }
            Step::ListEarly => self.seen_early = Some(self.listing()),
            Step::Open => self.pass = Pass::Open(Window::open(&self.claims)),
            Step::List => self.list(),
            Step::ListFails => self.list_fails(),
            Step::Plan => self.plan(),
            Step::Adopt | Step::AdoptUnanswered | Step::AdoptRefused => self.adopt(step),
            Step::Load => {
                self.recovering = self.recovering.take().map(|recovering| match recovering {
                    Recovering::Planned(resuming) => Recovering::LoadedEarly(resuming),
                    Recovering::Adopted(adopted) => Recovering::Loaded(adopted),
                    loaded => loaded,
                });
            }
            Step::Resume => {
                let Some(Recovering::Loaded(adopted)) = self.recovering.take() else {
                    unreachable!("its log is loaded")
                };
                // Who does not adopt writes under the epoch that was listed.
                let epoch = adopted.key().epoch.0 - u64::from(self.order == Order::NoAdoption);
                let claim = Some(adopted.resumed());
                self.executors.push(Executor { claim, epoch, has_ended_row: false });
            }
            // Dropped: it is given back.
            Step::ResumeFails => self.recovering = None,
            Step::Crash => self.crash(),
            Step::LateWrite => self.late_write(),
        }
        self.check();
    }

    fn claim(&mut self) {
        self.creator = Creator::Claimed;
        if self.order != Order::ClaimAfterInsert {
            self.created = Some(self.claims.claim(key(0)).expect("nobody has claimed it"));
        }
    }

    fn insert_commits(&mut self) {
        self.row = Row::Unfinished { epoch: 0, ours: true };
        self.creator = Creator::Created;
    }

    fn give_up(&mut self, step: Step) {
        self.creator = Creator::Over;
        match step {
            Step::InsertIsAmbiguous => self.insert_in_flight = true,
            _ => self.row = Row::Unfinished { epoch: 0, ours: true },
        }
        if let Some(claim) = self.created.take() {
            claim.gave_up();
        }
    }

    fn listing(&self) -> Vec<UnfinishedSaga> {
        match self.row {
            Row::Unfinished { epoch, ours: true } => {
                vec![UnfinishedSaga { key: key(epoch), kind: "demo".to_owned(), version: 1 }]
            }
            _ => Vec::new(),
        }
    }

    fn list(&mut self) {
        let Pass::Open(window) = std::mem::replace(&mut self.pass, Pass::Rest) else {
            unreachable!("a window is open")
        };
        let rows = self.seen_early.take().unwrap_or_else(|| self.listing());
        let listed = at_once(window.list(async || Ok::<_, Infallible>(rows)));
        self.pass = Pass::Listed(listed.unwrap_or_else(|error| match error {}));
    }

    fn list_fails(&mut self) {
        let Pass::Open(window) = std::mem::replace(&mut self.pass, Pass::Rest) else {
            unreachable!("a window is open")
        };
        at_once(window.list(async || Err("the database is away"))).expect_err("it fails");
    }

    fn plan(&mut self) {
        let Pass::Listed(listed) = std::mem::replace(&mut self.pass, Pass::Rest) else {
            unreachable!("there is a list")
        };
        let (setbacks, now) = (Setbacks::default(), Timestamp::UNIX_EPOCH);
        let rules = PlanRules { is_capable: &|_| true, setbacks: &setbacks, resumed_max: 10, now };
        let plan = listed.plan(&rules);
        let decided = plan.resume.len() + plan.deferred.len() + plan.waiting_for_version.len();
        if plan.found != (plan.skipped.len() + decided) as u64 {
            self.broken = Some(format!("the numbers of a pass do not add up: {plan:?}"));
        }
        self.recovering = plan.resume.into_iter().next().map(|(_, resuming)| Recovering::Planned(resuming));
    }

    fn adopt(&mut self, step: Step) {
        let (Recovering::Planned(resuming) | Recovering::LoadedEarly(resuming)) =
            self.recovering.take().expect("there is something to resume")
        else {
            unreachable!("it is not adopted yet")
        };
        if step == Step::AdoptRefused {
            if self.row == (Row::Ended { epoch: resuming.key().epoch.0 }) {
                self.broken =
                    Some("a saga that has ended here is counted as one that cannot be resumed".to_owned());
            }
            return resuming.failed();
        }
        let next = resuming.key().epoch.0 + 1;
        if self.order != Order::NoAdoption {
            self.row = unfinished(next);
        }
        if step == Step::AdoptUnanswered {
            return resuming.failed();
        }
        let adopted = resuming.adopted(AdoptionEpoch(next));
        self.recovering = Some(match self.order {
            Order::LoadBeforeAdoption => Recovering::Loaded(adopted),
            _ => Recovering::Adopted(adopted),
        });
    }

    /// What comes to the log after it was loaded is not seen by whoever executes on.
    fn late_write(&mut self) {
        let epoch = self.late_write.take().expect("one is on its way");
        let is_loaded = matches!(self.recovering, Some(Recovering::Loaded(_) | Recovering::LoadedEarly(_)))
            || !self.executors.is_empty();
        if self.row == unfinished(epoch) && is_loaded {
            self.broken = Some("a line has come to the log after it was loaded".to_owned());
        }
    }

    fn crash(&mut self) {
        // What it was doing is forgotten, not given back. What it had sent is on its way.
        let late_write = self.executors.first().map(|executor| executor.epoch);
        *self = World {
            row: self.row,
            insert_in_flight: self.insert_in_flight,
            late_write,
            ..World::with(self.order)
        };
        self.creator = Creator::Over;
        self.crashed = true;
    }

    fn check(&mut self) {
        if self.executors.len() > 1 {
            self.broken = Some("the saga is executed twice at once".to_owned());
        }
        // One of an earlier adoption is refused its next write, and does no harm.
        let after_its_end =
            |executor: &Executor| !executor.has_ended_row && self.row == Row::Ended { epoch: executor.epoch };
        if self.executors.iter().any(after_its_end) {
            self.broken = Some("the saga is executed after its end".to_owned());
        }
        let totals = self.claims.totals();
        if self.order == Order::Right && !totals.add_up() {
            self.broken = Some(format!("the totals do not add up: {totals:?}"));
        }
    }

    /// The first rule that was broken.
    pub(crate) fn broken_rule(&self) -> Option<String> {
        self.broken.clone()
    }

    /// Executors at this moment.
    pub(crate) fn executors(&self) -> usize {
        self.executors.len()
    }

    /// The state.
    pub(crate) fn view(&self) -> View {
        let Totals { finished, given_up, fenced, .. } = self.claims.totals();
        let executors = self.executors.iter().map(|one| (one.epoch, one.has_ended_row)).collect();
        View {
            creator: self.creator,
            row: self.row,
            insert_in_flight: self.insert_in_flight,
            executors,
            held: self.claims.held(),
            pass: match &self.pass {
                Pass::Rest => (0, Vec::new()),
                Pass::Open(_) => (1, Vec::new()),
                Pass::Listed(listed) => (2, listed.sagas().to_vec()),
            },
            seen_early: self.seen_early.clone(),
            recovering: self.recovering.as_ref().map(|recovering| match recovering {
                Recovering::Planned(resuming) => (0, resuming.key().epoch.0),
                Recovering::LoadedEarly(resuming) => (1, resuming.key().epoch.0),
                Recovering::Adopted(adopted) => (2, adopted.key().epoch.0),
                Recovering::Loaded(adopted) => (3, adopted.key().epoch.0),
            }),
            late_write: self.late_write,
            given_back: finished + given_up + fenced,
            crashed: self.crashed,
        }
    }
}

fn unfinished(epoch: u64) -> Row {
    Row::Unfinished { epoch, ours: true }
}

fn key(epoch: u64) -> SagaKey {
    SagaKey { id: SAGA, epoch: AdoptionEpoch(epoch) }
}

/// Runs what never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the model's listing never waits"),
    }
}
