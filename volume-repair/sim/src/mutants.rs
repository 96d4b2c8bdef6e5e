//! The rules that are left out, one at a time, to see that the simulation notices.
//!
//! Some rules are a second line: what they forbid never comes, as long as everybody else keeps the others, so that a whole volume does
//! not notice when one of them alone is left out. Their own tests do ([`crate::own_tests`]), which put in their way what they forbid;
//! `cargo xtask sim volume --mutate-all` runs those, too, and the ones of the rules of the region's format and of volumes of several parts.
//!
//! | rule | what keeps it from being needed | noticed by |
//! |---|---|---|
//! | `NoGaps` | an Upstairs sends each connection its window from what the member has applied, one by one | `region/downstairs/tests` |
//! | `BaseIsApplied` | an Upstairs asks a list of those only whom it has sent all before its base, on the same connection | the same |
//! | `OnlyFillingInstalls` | who is filled was told the list without it before, on the same connection; if it refuses, it is not filled | the same |
//! | `OnlyFillingIsPassedOver` | the same | the same |
//! | `FullIsDurable` | an Upstairs has the target flushed between the last copy and the list | the same |
//! | `PromotionIsDurable` | nothing is acknowledged before a list of this epoch is kept, and what is kept with it is the promotion; before, only the connection is used that was promoted, and it does not outlive the process | the same |
//! | `EpochsRiseSlowly` | the coordinator gives epochs one by one | the same |
//! | `PongIsBehindReads` | a disk there does everything it is asked, sooner or later | the same |
//! | `OnlyProvenIsRead`, `HashesAreCompared` | nobody is cloned there | the same |
//! | `ListIsKeptByAll` | of a list of three any two have what was acknowledged, of one that was to get a third one of the two; and nobody keeps one without having what is before it. It keeps the third in the choice | `activation` of the Upstairs |
//! | `NewerListsCountForWhoKeptThem` | two lists that follow each other have to be kept by one member each, and the power of one that kept the newer one has to fail behind a write: a seed in ten thousand | the same |
//! | `TheLastOneIsKnownToBe`, `WhoWasLeftOutOfTheLastListCounts` | two have to be gone, or one and a list that was given up behind it, and the Upstairs to die before it hears of it | every history of few members: `activation/histories` of the Upstairs |
//! | `RemovedBeforeSkipped` | who comes back and lacks what is not kept any more is treated as one that has lost it: it is left out and filled, or all are asked again and it is brought up; and of its list any two have what was acknowledged | `tests/machine` of the Upstairs |
//! | `FullAfterAQuietRound` | a round copies all that differs, behind one position, and what is newer is in the stream. The second one is for what goes wrong meanwhile | `tests/machine` of the Upstairs |
//! | `UntoldIsKept` | it takes two members that are gone at once, and the power of the third one right behind a write | the same |

use crate::run;
use std::{
    fmt,
    ops::Range,
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

/// A rule that may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Of fencing and membership.
    Downstairs(downstairs::Rule),
    /// Of writing and reading.
    Upstairs(upstairs::Rule),
}

/// Those that are a second line.
const SECOND_LINE: [Mutant; 18] = [
    Mutant::Downstairs(downstairs::Rule::NoGaps),
    Mutant::Downstairs(downstairs::Rule::BaseIsApplied),
    Mutant::Downstairs(downstairs::Rule::OnlyFillingInstalls),
    Mutant::Downstairs(downstairs::Rule::OnlyFillingIsPassedOver),
    Mutant::Downstairs(downstairs::Rule::FullIsDurable),
    Mutant::Downstairs(downstairs::Rule::PromotionIsDurable),
    Mutant::Downstairs(downstairs::Rule::EpochsRiseSlowly),
    Mutant::Downstairs(downstairs::Rule::PongIsBehindReads),
    Mutant::Downstairs(downstairs::Rule::OnlyProvenIsRead),
    Mutant::Downstairs(downstairs::Rule::HashesAreCompared),
    // A member that takes one of another position says so, and does not count.
    Mutant::Downstairs(downstairs::Rule::SnapshotAtItsPosition),
    Mutant::Upstairs(upstairs::Rule::ListIsKeptByAll),
    Mutant::Upstairs(upstairs::Rule::NewerListsCountForWhoKeptThem),
    Mutant::Upstairs(upstairs::Rule::TheLastOneIsKnownToBe),
    Mutant::Upstairs(upstairs::Rule::WhoWasLeftOutOfTheLastListCounts),
    Mutant::Upstairs(upstairs::Rule::RemovedBeforeSkipped),
    Mutant::Upstairs(upstairs::Rule::FullAfterAQuietRound),
    Mutant::Upstairs(upstairs::Rule::UntoldIsKept),
];

/// The rule's own name: no two have the same.
impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mutant::Downstairs(rule) => fmt::Debug::fmt(rule, f),
            Mutant::Upstairs(rule) => fmt::Debug::fmt(rule, f),
        }
    }
}

impl Mutant {
    /// Leaves it out while `act` runs.
    pub fn left_out<T>(self, act: impl FnOnce() -> T) -> T {
        match self {
            Mutant::Downstairs(rule) => rule.left_out(act),
            Mutant::Upstairs(rule) => rule.left_out(act),
        }
    }
}

/// The first of these seeds that breaks a promise without this rule, and which; a panic is one, too.
fn noticed_by(mutant: Mutant, mut seeds: Range<u64>) -> Option<(u64, String)> {
    seeds.find_map(|seed| match panic::catch_unwind(|| mutant.left_out(|| run(seed))) {
        Ok(Ok(_)) => None,
        Ok(Err(promise)) => Some((seed, promise)),
        Err(_) => Some((seed, "a panic".to_owned())),
    })
}

/// Leaves out each of these in turn, on so many threads, until one of these seeds notices. `told` is called with each: the seed and what it
/// broke, or nothing. The ones that nobody noticed are returned.
///
/// # Panics
/// If `told` does.
#[must_use]
pub fn leave_out_each(
    mutants: Vec<Mutant>,
    seeds: &Range<u64>,
    threads: usize,
    told: impl Fn(Mutant, Option<(u64, String)>) + Sync,
) -> Vec<Mutant> {
    let before = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let (left, missed) = (Mutex::new(mutants.into_iter()), Mutex::new(Vec::new()));
    let work = || loop {
        let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(mutant) = next else { return };
        let broken = noticed_by(mutant, seeds.clone());
        if broken.is_none() {
            missed.lock().unwrap_or_else(PoisonError::into_inner).push(mutant);
        }
        told(mutant, broken);
    };
    thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    panic::set_hook(before);
    missed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// All that the simulation notices, each by itself.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let downstairs = downstairs::Rule::ALL.iter().copied().map(Mutant::Downstairs);
    let all = downstairs.chain(upstairs::Rule::ALL.iter().copied().map(Mutant::Upstairs));
    all.filter(|mutant| !SECOND_LINE.contains(mutant)).collect()
}

/// Those that it need not notice: a second line, with tests of their own.
#[must_use]
pub fn second_line() -> &'static [Mutant] {
    &SECOND_LINE
}
