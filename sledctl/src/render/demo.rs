//! What became of many demo sagas that were asked for.

use super::{
    Look, Tone,
    table::Facts,
    words::{count, duration},
};
use nexus_client::sagas::SagaState;
use std::collections::BTreeMap;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Sagas that were asked for.
    pub asked: u64,
    /// Those that are durable.
    pub accepted: u64,
    /// Those that the coordinator refused.
    pub refused: u64,
    /// Those of which no answer came: they may have been accepted.
    pub unanswered: u64,
    /// Seconds until the last answer.
    pub seconds: f64,
    /// How they ended, if that was waited for.
    pub ends: Option<Ends>,
}

/// How the accepted ones ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ends {
    /// So many in each state.
    pub states: BTreeMap<SagaState, u64>,
    /// Those whose end is not known, because asking for it failed.
    pub unknown: u64,
    /// Seconds from the first call to the last end.
    pub seconds: f64,
}

/// The counts beside their labels.
#[must_use]
pub fn summary(summary: &Summary, look: &Look) -> String {
    let mut facts = Facts::new();
    facts.fact("accepted", format!("{} of {}", summary.accepted, count(summary.asked, "demo saga")));
    if summary.refused > 0 {
        facts.toned("refused", summary.refused.to_string(), Tone::Bad);
    }
    if summary.unanswered > 0 {
        let unanswered = format!("{}; they may have been accepted", summary.unanswered);
        facts.toned("unanswered", unanswered, Tone::Bad);
    }
    facts.fact("took", pace(summary.accepted, summary.seconds));
    if let Some(ends) = &summary.ends {
        facts.fact("ended", states(ends));
        facts.fact("all ended", pace(ends.states.values().sum(), ends.seconds));
    }
    facts.render(look)
}

/// The same on one line, to be said beside the ids.
#[must_use]
pub fn line(summary: &Summary) -> String {
    let mut parts = vec![format!("{} of {} accepted", summary.accepted, summary.asked)];
    if summary.refused > 0 {
        parts.push(format!("{} refused", summary.refused));
    }
    if summary.unanswered > 0 {
        parts.push(format!("{} unanswered", summary.unanswered));
    }
    let took = format!("{} in {}", parts.join(", "), pace(summary.accepted, summary.seconds));
    match &summary.ends {
        Some(ends) => {
            let pace = pace(ends.states.values().sum(), ends.seconds);
            format!("{took}; {} after {pace}", states(ends))
        }
        None => took,
    }
}

/// `95 succeeded, 2 failed`
#[must_use]
pub fn states(ends: &Ends) -> String {
    let mut parts: Vec<String> =
        ends.states.iter().map(|(state, number)| format!("{number} {}", state.word())).collect();
    if ends.unknown > 0 {
        parts.push(format!("{} unknown", ends.unknown));
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// `1.3 s, 75 per s`
fn pace(number: u64, seconds: f64) -> String {
    let took = duration(seconds);
    let rate = number as f64 / seconds;
    // A rate over no time says nothing.
    if rate.is_finite() { format!("{took}, {rate:.0} per s") } else { took }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{assert_fits, narrow};

    fn mixed() -> Summary {
        let states = [(SagaState::Succeeded, 95), (SagaState::Failed, 1)].into();
        let ends = Ends { states, unknown: 1, seconds: 4.0 };
        Summary { asked: 100, accepted: 97, refused: 2, unanswered: 1, seconds: 2.0, ends: Some(ends) }
    }

    #[test]
    fn summary_has_every_count_and_both_rates() {
        insta::assert_snapshot!(summary(&mixed(), &narrow()), @r"
        accepted    97 of 100 demo sagas
        refused     2
        unanswered  1; they may have been accepted
        took        2.0 s, 48 per s
        ended       95 succeeded, 1 failed, 1 unknown
        all ended   4.0 s, 24 per s
        ");
        assert_fits(|look| summary(&mixed(), look));
    }

    #[test]
    fn line_says_the_same() {
        assert_eq!(
            line(&mixed()),
            "97 of 100 accepted, 2 refused, 1 unanswered in 2.0 s, 48 per s; \
             95 succeeded, 1 failed, 1 unknown after 4.0 s, 24 per s"
        );
    }

    #[test]
    fn what_did_not_happen_is_not_counted() {
        let all = Summary { asked: 1, accepted: 1, seconds: 0.0, ..Summary::default() };
        assert_eq!(line(&all), "1 of 1 accepted in 0 ms");
        assert_eq!(summary(&all, &narrow()), "accepted  1 of 1 demo saga\ntook      0 ms\n");
    }
}
