//! What one run goes through, as one line that names it: `greeting/plain: told do:left refused always @1 + run cancel at
//! started:right @1`.
//!
//! Points are named by what happens there, not by a count: `started:left` is the append of that event, `do:left` a call
//! of that node's action. Each of them occurs once in a life, so a line means the same whatever ran beside it.
//!
//! ```text
//!   line      ::= kind/case: nothing | kind/case: incident + incident …
//!   incident  ::= told CALL HOW TIMES [@LIFE]       what a node is told to do
//!               | store WRITE WHAT [@LIFE]          what becomes of a write
//!               | run OPERATION at PLACE [@LIFE]    what is done while the saga is held there
//!   PLACE     ::= WRITE | CALL | attention
//!   CALL      ::= do:NODE | undo:NODE
//!   WRITE     ::= created | adopted | EVENT:NODE | mark:MARK | attention_set | attention_cleared | ended
//! ```
//!
//! A blank or percent sign within a name is written as `%20`, `%25`.

use std::{fmt, str::FromStr};
use thiserror::Error;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scenario {
    /// The kind and the case: `kind/case`.
    pub case: String,
    /// What happens, each once.
    pub incidents: Vec<Incident>,
}

/// One thing that happens in a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incident {
    /// A node does not do as its code says.
    Told {
        /// `do:NODE` or `undo:NODE`.
        call: String,
        /// What it does instead.
        how: How,
        /// How often; always, if none.
        times: Option<u32>,
        /// In which life; in any, if none.
        life: Option<u32>,
    },
    /// A write goes wrong.
    Store {
        /// Which.
        write: String,
        /// How.
        what: Trouble,
        /// In which life; in the first that comes to it, if none.
        life: Option<u32>,
    },
    /// The saga is held and something else is done to its end; then the saga goes on.
    Run {
        /// One of the built-in operations, or of the case's.
        operation: String,
        /// Where: before that write, before that call's own code, or when an operator is asked.
        place: String,
        /// In which life; in the first that comes to it, if none.
        life: Option<u32>,
    },
}

/// What a call does that is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Its code does not run: refused.
    Refused,
    /// Its code does not run: not now.
    Transient,
    /// Its code does not run: nobody knows that.
    UnknownBefore,
    /// Its code runs, and the answer is lost.
    UnknownAfter,
    /// It panics before its code runs.
    PanicBefore,
    /// It panics after its code has run.
    PanicAfter,
    /// Its code runs twice, one after the other.
    Twice,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The coordinator dies before it is durable.
    DieBefore,
    /// The coordinator dies after it is durable.
    DieAfter,
    /// The store refuses it once.
    NotDone,
    /// It is durable, and the answer is lost.
    UnknownDone,
    /// It is not durable, and the answer is lost.
    UnknownNotDone,
}

/// A line that names no scenario.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{words:?} names no scenario: {expected}")]
pub struct NoScenario {
    /// What was read.
    pub words: String,
    /// What would be one.
    pub expected: &'static str,
}

const HOWS: [(How, &str); 7] = [
    (How::Refused, "refused"),
    (How::Transient, "transient"),
    (How::UnknownBefore, "unknown_before"),
    (How::UnknownAfter, "unknown_after"),
    (How::PanicBefore, "panic_before"),
    (How::PanicAfter, "panic_after"),
    (How::Twice, "twice"),
];

const TROUBLES: [(Trouble, &str); 5] = [
    (Trouble::DieBefore, "die_before"),
    (Trouble::DieAfter, "die_after"),
    (Trouble::NotDone, "not_done"),
    (Trouble::UnknownDone, "unknown_done"),
    (Trouble::UnknownNotDone, "unknown_not_done"),
];

impl Trouble {
    /// All.
    pub(crate) const ALL: [Trouble; 5] = [
        Trouble::DieBefore,
        Trouble::DieAfter,
        Trouble::NotDone,
        Trouble::UnknownDone,
        Trouble::UnknownNotDone,
    ];

    /// Whether the coordinator dies of it.
    pub(crate) fn is_death(self) -> bool {
        matches!(self, Trouble::DieBefore | Trouble::DieAfter)
    }
}

impl Incident {
    /// A node that is told something, in whatever life.
    pub(crate) fn told(call: &str, how: How, times: Option<u32>) -> Incident {
        Incident::Told { call: call.to_owned(), how, times, life: None }
    }

    /// A write of the first life that goes wrong.
    pub(crate) fn store(write: &str, what: Trouble) -> Incident {
        Incident::Store { write: write.to_owned(), what, life: Some(1) }
    }

    /// An operation in the first life.
    pub(crate) fn run(operation: &str, place: &str) -> Incident {
        Incident::Run { operation: operation.to_owned(), place: place.to_owned(), life: Some(1) }
    }

    pub(crate) fn in_life(mut self, number: u32) -> Incident {
        match &mut self {
            Incident::Told { life, .. } | Incident::Store { life, .. } | Incident::Run { life, .. } => {
                *life = Some(number);
            }
        }
        self
    }
}

impl Scenario {
    /// The same with one more incident.
    pub(crate) fn and(&self, incident: Incident) -> Scenario {
        let mut scenario = self.clone();
        scenario.incidents.push(incident);
        scenario
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", escaped(&self.case))?;
        if self.incidents.is_empty() {
            return f.write_str("nothing");
        }
        for (number, incident) in self.incidents.iter().enumerate() {
            if number > 0 {
                f.write_str(" + ")?;
            }
            write!(f, "{incident}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = match self {
            Incident::Told { call, how, times, life } => {
                write!(f, "told {} {} ", escaped(call), word_of(&HOWS, *how))?;
                match times {
                    Some(times) => write!(f, "{times}")?,
                    None => f.write_str("always")?,
                }
                life
            }
            Incident::Store { write, what, life } => {
                write!(f, "store {} {}", escaped(write), word_of(&TROUBLES, *what))?;
                life
            }
            Incident::Run { operation, place, life } => {
                write!(f, "run {} at {}", escaped(operation), escaped(place))?;
                life
            }
        };
        life.map_or(Ok(()), |life| write!(f, " @{life}"))
    }
}

impl FromStr for Scenario {
    type Err = NoScenario;

    fn from_str(line: &str) -> Result<Scenario, NoScenario> {
        let refused = |expected| NoScenario { words: line.to_owned(), expected };
        let (case, incidents) =
            line.trim().split_once(": ").ok_or_else(|| refused("a case, a colon and incidents"))?;
        let incidents = match incidents.trim() {
            "nothing" => Vec::new(),
            incidents => incidents.split(" + ").map(str::parse).collect::<Result<_, _>>()?,
        };
        Ok(Scenario { case: unescaped(case), incidents })
    }
}

impl FromStr for Incident {
    type Err = NoScenario;

    fn from_str(text: &str) -> Result<Incident, NoScenario> {
        let refused = |expected| NoScenario { words: text.to_owned(), expected };
        let mut words: Vec<_> = text.split_whitespace().collect();
        let life = match words.last().and_then(|word| word.strip_prefix('@')) {
            Some(number) => {
                words.pop();
                Some(number.parse().map_err(|_| refused("a life is a number"))?)
            }
            None => None,
        };
        match words[..] {
            ["told", call, how, times] => Ok(Incident::Told {
                call: unescaped(call),
                how: value_of(&HOWS, how).ok_or_else(|| refused("this is nothing to be told"))?,
                times: match times {
                    "always" => None,
                    times => Some(times.parse().map_err(|_| refused("times are a number, or always"))?),
                },
                life,
            }),
            ["store", write, what] => Ok(Incident::Store {
                write: unescaped(write),
                what: value_of(&TROUBLES, what).ok_or_else(|| refused("this becomes of no write"))?,
                life,
            }),
            ["run", operation, "at", place] => {
                Ok(Incident::Run { operation: unescaped(operation), place: unescaped(place), life })
            }
            _ => Err(refused("told CALL HOW TIMES, store WRITE WHAT, or run OPERATION at PLACE")),
        }
    }
}

fn word_of<T: PartialEq + Copy>(words: &[(T, &'static str)], value: T) -> &'static str {
    words.iter().find(|(known, _)| *known == value).map_or("?", |(_, word)| word)
}

fn value_of<T: Copy>(words: &[(T, &'static str)], word: &str) -> Option<T> {
    words.iter().find(|(_, known)| *known == word).map(|(value, _)| *value)
}

fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace(' ', "%20")
}

fn unescaped(name: &str) -> String {
    name.replace("%20", " ").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_read_back_from_its_line() {
        let mut scenario = Scenario { case: "greeting/50% off".to_owned(), incidents: Vec::new() };
        assert_eq!(scenario.to_string(), "greeting/50%25%20off: nothing");
        assert_eq!(scenario.to_string().parse(), Ok(scenario.clone()));
        for (how, _) in HOWS {
            scenario.incidents.push(Incident::told("do:inner/two words", how, Some(2)));
            scenario.incidents.push(Incident::told("undo:left", how, None).in_life(2));
        }
        for what in Trouble::ALL {
            scenario.incidents.push(Incident::store("started:(start)", what));
        }
        scenario.incidents.push(Incident::run("delete the card", "do:left"));
        assert_eq!(scenario.to_string().parse(), Ok(scenario));
    }

    #[test]
    fn what_names_no_scenario_is_refused_with_what_would() {
        for line in ["", "a/b", "a/b: tell do:x", "a/b: told do:x loudly 1", "a/b: store x die_before @x"] {
            assert!(line.parse::<Scenario>().is_err(), "{line}");
        }
        let refused = "a/b: told do:x refused often".parse::<Scenario>().expect_err("often is no number");
        assert!(refused.to_string().ends_with("times are a number, or always"), "{refused}");
    }
}
