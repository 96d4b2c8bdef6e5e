//! The rules that are left out, one at a time, to see that the simulation notices.

/// A rule that may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Of fencing and membership.
    Downstairs(downstairs::Rule),
    /// Of writing and reading.
    Upstairs(upstairs::Rule),
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

/// All of them.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let downstairs = downstairs::Rule::ALL.into_iter().map(Mutant::Downstairs);
    downstairs.chain(upstairs::Rule::ALL.into_iter().map(Mutant::Upstairs)).collect()
}
