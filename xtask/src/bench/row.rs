//! One measured figure, in the shape that the outside contract gives it.

use serde::Serialize;
use std::fmt::Write;

/// One figure beside what it is compared with. Ratios above 1 are good for us.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What is measured.
    pub(crate) name: String,
    /// Unit of every number of this row.
    pub(crate) unit: &'static str,
    /// Ours.
    pub(crate) ours: Samples,
    /// Another program doing the same in the same run.
    pub(crate) peer: Option<Peer>,
    /// What cannot be beaten, or must not be exceeded.
    pub(crate) limit: Option<Limit>,
    /// Against the peer.
    pub(crate) ratio: Option<f64>,
    /// Against the limit.
    pub(crate) ratio_limit: Option<f64>,
    /// The command that measures it again.
    pub(crate) argv: Vec<String>,
    /// What the numbers count.
    pub(crate) note: String,
}

/// Measured values and their median.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Samples {
    /// The middle one.
    pub(crate) median: f64,
    /// All of them, in the order of measuring.
    pub(crate) samples: Vec<f64>,
}

/// Another program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(flatten)]
    pub(crate) samples: Samples,
}

/// A limit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    /// Which.
    pub(crate) name: String,
    /// How much.
    pub(crate) median: f64,
}

impl Samples {
    /// Of at least one value.
    pub(crate) fn of(samples: Vec<f64>) -> Samples {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        Samples { median: sorted[sorted.len() / 2], samples }
    }
}

impl Row {
    /// A figure of `bench sagas` of which more is better, beside its limit and perhaps a peer.
    pub(crate) fn at_least(
        name: &str,
        unit: &'static str,
        ours: Vec<f64>,
        limit: Limit,
        peer: Option<Peer>,
        note: impl Into<String>,
    ) -> Row {
        let ours = Samples::of(ours);
        Row {
            name: name.to_owned(),
            unit,
            ratio: peer.as_ref().map(|peer| ours.median / peer.samples.median),
            ratio_limit: Some(ours.median / limit.median),
            peer,
            limit: Some(limit),
            argv: argv("sagas", name),
            note: note.into(),
            ours,
        }
    }

    /// A figure of which less is better, beside its limit.
    pub(crate) fn at_most(
        group: &str,
        name: &str,
        unit: &'static str,
        ours: Vec<f64>,
        limit: Limit,
        note: impl Into<String>,
    ) -> Row {
        let ours = Samples::of(ours);
        Row {
            name: name.to_owned(),
            unit,
            ratio: None,
            ratio_limit: Some(limit.median / ours.median),
            peer: None,
            limit: Some(limit),
            argv: argv(group, name),
            note: note.into(),
            ours,
        }
    }

    /// A figure that nothing is asked of.
    pub(crate) fn reported(
        group: &str,
        name: &str,
        unit: &'static str,
        ours: Vec<f64>,
        note: impl Into<String>,
    ) -> Row {
        Row {
            name: name.to_owned(),
            unit,
            ours: Samples::of(ours),
            peer: None,
            limit: None,
            ratio: None,
            ratio_limit: None,
            argv: argv(group, name),
            note: note.into(),
        }
    }
}

/// The command that measures a row again.
fn argv(group: &str, name: &str) -> Vec<String> {
    ["cargo", "xtask", "bench", group, "--only", name].map(str::to_owned).to_vec()
}

/// The rows for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let spread: Vec<String> = row.ours.samples.iter().map(|sample| format!("{sample:.3}")).collect();
        let limit = row
            .limit
            .as_ref()
            .map_or_else(String::new, |limit| format!("  limit {:.3} ({})", limit.median, limit.name));
        let peer = row.peer.as_ref().map_or_else(String::new, |peer| {
            format!("  {} {} {:.3}", peer.name, peer.version, peer.samples.median)
        });
        writeln!(
            text,
            "{:<22} {:>10.3} {:<4} [{}]{limit}{peer}\n  {}",
            row.name,
            row.ours.median,
            row.unit,
            spread.join(", "),
            row.note
        )
        .expect("writing to a string succeeds");
    }
    text
}
