//! Which scenarios there are: made of what a run has come to. Pure.
//!
//! ```text
//!   nothing ──► told: each node, each way ──► those that unwind ("bases")
//!      │             each undo, each way  ◄────────┤
//!      ├──► store: each write, each trouble ◄──────┤
//!      ├──► run: each gap, each operation   ◄──────┤
//!      └──► die, and die again at each write of the recovery ◄── the last base
//! ```

use crate::{
    case::{Case, World},
    conductor::BUILT_IN,
    scenario::{How, Incident, Scenario, Trouble},
    stage::{Called, Observed},
};

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything.
    Full,
    /// Each operation between any two nodes, forward and unwinding. For stores on which everything would take minutes.
    Gaps,
}

/// What scenarios are made of.
pub(crate) struct Matrix<'m> {
    pub(crate) case: &'m str,
    pub(crate) depth: Depth,
    /// Names of the case's own operations.
    pub(crate) operations: Vec<&'m str>,
}

/// A scenario that unwinds, and where it begins to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) scenario: Scenario,
    pub(crate) node: String,
    /// Whether everything is run on it, or only deaths.
    pub(crate) is_full: bool,
}

impl<'m> Matrix<'m> {
    /// `name`: the case's full one.
    pub(crate) fn of<W: World>(case: &'m Case<W>, name: &'m str, depth: Depth) -> Matrix<'m> {
        let operations = case.operations.iter().map(|operation| operation.name.as_str()).collect();
        Matrix { case: name, depth, operations }
    }
}

impl Matrix<'_> {
    pub(crate) fn nothing(&self) -> Scenario {
        Scenario { case: self.case.to_owned(), incidents: Vec::new() }
    }

    /// Of the run without incidents.
    pub(crate) fn first(&self, observed: &Observed) -> Vec<Scenario> {
        let nothing = self.nothing();
        let writes: Vec<_> = writes_of(observed, 1).collect();
        let mut scenarios = Vec::new();
        if self.depth == Depth::Full {
            for called in actions_of(observed) {
                scenarios.extend(told_actions(called).map(|incident| nothing.and(incident)));
            }
            for write in &writes {
                scenarios.extend(Trouble::ALL.map(|what| nothing.and(Incident::store(write, what))));
            }
            for write in writes.iter().filter(|write| is_between(write)) {
                // What is durable of a cancellation holds in the next life.
                let cancelled = nothing.and(Incident::run("cancel", write));
                scenarios.push(cancelled.and(Incident::store(write, Trouble::DieAfter)));
            }
        }
        scenarios.extend(self.operations_at(&nothing, &writes));
        for called in actions_of(observed) {
            let adopted = nothing.and(Incident::run("adopt", &called.call));
            let refused = Incident::told(&called.call, How::Refused, None).in_life(2);
            scenarios.extend([adopted.and(refused), adopted]);
        }
        scenarios
    }

    /// The scenarios that unwind, from the first node to the last.
    pub(crate) fn bases(&self, observed: &Observed) -> Vec<Base> {
        let base = |called: &Called, how, is_full| Base {
            scenario: self.nothing().and(Incident::told(&called.call, how, None)),
            node: called.node.clone(),
            is_full,
        };
        actions_of(observed)
            .flat_map(|called| [base(called, How::Refused, false), base(called, How::UnknownAfter, true)])
            .filter(|base| base.is_full || self.depth == Depth::Full)
            .collect()
    }

    /// Of a base that has run.
    pub(crate) fn of_base(&self, base: &Base, is_last: bool, observed: &Observed) -> Vec<Scenario> {
        let begun = format!("started:{}", base.node);
        let writes: Vec<_> = writes_of(observed, 1).collect();
        // What begins a node is the last line of its write, so that the write has its name.
        let from = writes.iter().position(|write| *write == begun).map_or(0, |at| at + 1);
        let unwinding = writes[from..].to_vec();
        let mut scenarios = Vec::new();
        if self.depth == Depth::Full {
            for write in if base.is_full { &writes } else { &unwinding } {
                let deaths = Trouble::ALL.into_iter().filter(|what| what.is_death());
                scenarios.extend(deaths.map(|what| base.scenario.and(Incident::store(write, what))));
            }
        }
        if !base.is_full {
            return scenarios;
        }
        if let Some(failing) = unwinding.iter().find(|write| write.starts_with("mark:failing:")) {
            // What the action would do in the next life does not matter any more.
            let call = format!("do:{}", base.node);
            let in_this_life = self.nothing().and(Incident::told(&call, How::UnknownAfter, None).in_life(1));
            scenarios.push(in_this_life.and(Incident::store(failing, Trouble::DieAfter)));
        }
        if self.depth == Depth::Full {
            for write in &unwinding {
                let lies = Trouble::ALL.into_iter().filter(|what| !what.is_death());
                scenarios.extend(lies.map(|what| base.scenario.and(Incident::store(write, what))));
            }
        }
        scenarios.extend(self.operations_at(&base.scenario, &unwinding));
        if is_last {
            for called in observed.calls.iter().filter(|called| called.undo) {
                scenarios.push(base.scenario.and(Incident::run("adopt", &called.call)));
                if self.depth == Depth::Full {
                    scenarios.extend(told_undos(&base.scenario, called));
                }
            }
        }
        scenarios
    }

    /// Deaths at each write, of which each next life is to die again.
    pub(crate) fn deaths(&self, base: &Scenario, observed: &Observed) -> Vec<Scenario> {
        if self.depth == Depth::Gaps {
            return Vec::new();
        }
        let die = |write: &str| base.and(Incident::store(write, Trouble::DieAfter));
        writes_of(observed, 1).map(die).collect()
    }

    /// Of a run that has died once: it dies again, or its adoption goes wrong.
    pub(crate) fn second_deaths(&self, died: &Scenario, observed: &Observed) -> Vec<Scenario> {
        let die = |write: &str| died.and(Incident::store(write, Trouble::DieBefore).in_life(2));
        let adopted = Trouble::ALL.into_iter().filter(|what| *what != Trouble::DieBefore);
        let adopted = adopted.map(|what| died.and(Incident::store("adopted", what).in_life(2)));
        writes_of(observed, 2).map(die).chain(adopted).collect()
    }

    fn operations_at(&self, base: &Scenario, writes: &[&str]) -> Vec<Scenario> {
        let wanted = |write: &&&str| match self.depth {
            Depth::Full => **write != "created",
            Depth::Gaps => is_between(write),
        };
        let operations: Vec<_> = BUILT_IN.iter().copied().chain(self.operations.iter().copied()).collect();
        let at = |write: &&str| {
            let write = (*write).to_owned();
            operations
                .iter()
                .map(move |operation| base.and(Incident::run(operation, &write)))
                .collect::<Vec<_>>()
        };
        writes.iter().filter(wanted).flat_map(at).collect()
    }
}

/// Everything that an action may be told.
fn told_actions(called: &Called) -> impl Iterator<Item = Incident> {
    let told = |how, times| Incident::told(&called.call, how, times);
    let always = [
        How::Refused,
        How::Transient,
        How::UnknownBefore,
        How::UnknownAfter,
        How::PanicBefore,
        How::PanicAfter,
    ];
    let some = [How::Transient, How::UnknownBefore, How::UnknownAfter, How::PanicBefore, How::PanicAfter];
    let mut incidents: Vec<_> = always.into_iter().map(|how| told(how, None)).collect();
    for times in 1..called.attempts_max {
        incidents.extend(some.into_iter().map(|how| told(how, Some(times))));
    }
    incidents.push(told(How::Twice, Some(1)));
    incidents.into_iter()
}

/// Everything that an undo may be told.
fn told_undos(base: &Scenario, called: &Called) -> Vec<Scenario> {
    let told = |how, times| base.and(Incident::told(&called.call, how, times));
    let some = [How::Transient, How::UnknownBefore, How::UnknownAfter, How::PanicBefore, How::PanicAfter];
    let mut scenarios = vec![told(How::Twice, Some(1))];
    for times in 1..called.attempts_max {
        scenarios.extend(some.into_iter().map(|how| told(how, Some(times))));
    }
    for how in [How::Transient, How::PanicAfter] {
        for operator in ["retry", "abandon"] {
            let stuck =
                Incident::Run { operation: operator.to_owned(), place: "attention".to_owned(), life: None };
            let stuck = told(how, None).and(stuck);
            for write in ["attention_set", "attention_cleared", "mark:abandoned"] {
                let deaths = Trouble::ALL.into_iter().filter(|what| what.is_death());
                scenarios.extend(deaths.map(|what| stuck.and(Incident::store(write, what))));
            }
            scenarios.push(stuck);
        }
    }
    scenarios
}

fn actions_of(observed: &Observed) -> impl Iterator<Item = &Called> {
    observed.calls.iter().filter(|called| !called.undo)
}

fn writes_of(observed: &Observed, life: u32) -> impl Iterator<Item = &str> {
    observed.writes.iter().filter(move |(of, _)| *of == life).map(|(_, write)| write.as_str())
}

/// Whether the saga is between two nodes before this write.
fn is_between(write: &str) -> bool {
    write.starts_with("started:") || write.starts_with("undo_started:") || write == "ended"
}
