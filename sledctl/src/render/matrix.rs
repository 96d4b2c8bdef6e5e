//! Which sled has what: artifacts × sleds, and under it what the cells cannot say.
//!
//! Where not all sleds fit beside each other, the table is cut into blocks of sleds, each with the artifacts' names;
//! a line is never broken.

use super::{
    Look, Tone,
    sled::health_word,
    table::{Cell, Column, Table, shorten, wrap},
    words::{ago, count, printable, rfc3339, size},
};
use crate::{
    replica::{Replica, Shortage, blocked_words},
    resolve::row_name,
};
use jiff::Timestamp;
use nexus_client::{
    replication::{Replication, ReplicationArtifact, ReplicationSled, ReplicationSledState},
    sleds::{M2, M2Health},
};
use unicode_width::UnicodeWidthStr;

/// Names and versions take no more than this of a line that has a width, so that the sleds have room.
const NAME_WIDTH_MAX: usize = 24;
const VERSION_WIDTH_MAX: usize = 12;

/// A sled's name takes no more than this of a line that has a width.
const SLED_WIDTH_MAX: usize = 16;

/// The table, its summary, and a line for everything that needs one.
#[must_use]
pub fn matrix(replication: &Replication, look: &Look, now: Timestamp) -> String {
    let mut text = String::new();
    for sleds in blocks(replication, look) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&block(replication, sleds, look));
    }
    if look.headers {
        text.push_str(&summary(replication, look));
        text.push_str(&footnotes(replication, look, now));
    }
    text
}

/// The sleds, in groups that fit beside the labels; at least one in each.
fn blocks<'a>(replication: &'a Replication, look: &Look) -> Vec<&'a [ReplicationSled]> {
    let sleds = replication.sleds.as_slice();
    let Some(limit) = look.width.filter(|_| !sleds.is_empty()) else { return vec![sleds] };
    let labels = label_width(replication, look);
    let mut blocks = Vec::new();
    let mut start = 0;
    let mut used = labels;
    for (index, sled) in sleds.iter().enumerate() {
        let width = sled_width(replication, sled, look) + 1;
        if used + width > limit && index > start {
            blocks.push(&sleds[start..index]);
            start = index;
            used = labels;
        }
        used += width;
    }
    blocks.push(&sleds[start..]);
    blocks
}

fn block(replication: &Replication, sleds: &[ReplicationSled], look: &Look) -> String {
    let mut columns =
        vec![Column::flexible("ARTIFACT", 8), Column::flexible("VERSION", 7), Column::new("SIZE")];
    columns.extend(sleds.iter().map(|sled| Column::new(&sled_header(sled, look))));
    let mut table = Table::new(columns);
    for artifact in &replication.artifacts {
        let mut row = labels(artifact, look);
        row.extend(sleds.iter().map(|sled| {
            let replica = Replica::of(artifact, sled);
            Cell::toned(replica.word(artifact), replica.tone())
        }));
        table.row(row);
    }
    table.render(look)
}

fn labels(artifact: &ReplicationArtifact, look: &Look) -> Vec<Cell> {
    vec![
        Cell::new(fitting(&artifact.name, NAME_WIDTH_MAX, look)),
        Cell::new(fitting(&artifact.version, VERSION_WIDTH_MAX, look)),
        Cell::new(size(artifact.size)),
    ]
}

fn label_width(replication: &Replication, look: &Look) -> usize {
    let mut widths = [8, 7, 4];
    for artifact in &replication.artifacts {
        for (width, cell) in widths.iter_mut().zip(labels(artifact, look)) {
            *width = (*width).max(cell.width());
        }
    }
    widths.iter().sum::<usize>() + 2
}

fn sled_width(replication: &Replication, sled: &ReplicationSled, look: &Look) -> usize {
    let header = sled_header(sled, look).width();
    let words =
        replication.artifacts.iter().map(|artifact| Replica::of(artifact, sled).word(artifact).width());
    words.fold(header, usize::max)
}

fn sled_header(sled: &ReplicationSled, look: &Look) -> String {
    fitting(&sled.name, SLED_WIDTH_MAX, look)
}

fn fitting(text: &str, width_max: usize, look: &Look) -> String {
    let text = printable(text);
    if look.width.is_some() { shorten(&text, width_max) } else { text.into_owned() }
}

/// `fully replicated 17/18 · generation 5 accepted by 4/4 sleds`
fn summary(replication: &Replication, look: &Look) -> String {
    let total = replication.artifacts.len();
    let complete = replication.artifacts_complete;
    let generation = replication.generation;
    let accepted = replication.sleds.iter().filter(|sled| sled.config_generation == Some(generation)).count();
    let sleds = replication.sleds.len();
    let away = replication.sleds.iter().any(|sled| sled.state != ReplicationSledState::Active);
    let seen = if away { ", as last seen" } else { "" };
    let line = format!(
        "fully replicated {complete}/{total}{seen} · generation {generation} accepted by {accepted}/{sleds} sleds"
    );
    let tone = if replication.fully_replicated { Tone::Good } else { Tone::Busy };
    let lines = wrap(&line, look.width, 2);
    lines.iter().map(|line| format!("{}\n", look.paint(tone, line))).collect()
}

/// A line for each artifact and each sled that needs one.
fn footnotes(replication: &Replication, look: &Look, now: Timestamp) -> String {
    let mut text = String::new();
    let mut note = |tone, line: String| {
        for line in wrap(&printable(&line), look.width, 2) {
            text.push_str(&look.paint(tone, &line));
            text.push('\n');
        }
    };
    for artifact in &replication.artifacts {
        if let Some(reason) = artifact.blocked {
            note(Tone::Bad, format!("! {}: {}", row_name(artifact), blocked_words(reason)));
        }
    }
    for sled in &replication.sleds {
        if let Some((tone, line)) = sled_note(sled, replication, look, now) {
            note(tone, line);
        }
        for line in m2_notes(sled) {
            note(Tone::Bad, line);
        }
        if let Some(line) = failures_note(sled, replication) {
            note(Tone::Bad, line);
        }
    }
    text
}

/// What is to be said about a sled as a whole.
fn sled_note(
    sled: &ReplicationSled,
    replication: &Replication,
    look: &Look,
    now: Timestamp,
) -> Option<(Tone, String)> {
    let name = &sled.name;
    let reason = sled.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    // All of it is in `sled show`; here its end, which is the cause.
    let cause = sled.reason.as_deref().and_then(|reason| reason.rsplit(": ").next());
    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    match sled.state {
        ReplicationSledState::Refusing => {
            Some((Tone::Bad, format!("! {name}: refuses generation {}{reason}", replication.generation)))
        }
        ReplicationSledState::Unreachable => {
            let last = match sled.observed_at {
                Some(asked) if look.wide => format!("last answered {}", rfc3339(asked)),
                Some(asked) => format!("last answered {}", ago(asked, now)),
                None => "has not answered this coordinator yet".to_owned(),
            };
            Some((Tone::Dim, format!("? {name}: unreachable, {last}{cause}")))
        }
        ReplicationSledState::Unknown => {
            Some((Tone::Dim, format!("? {name}: not asked yet since the coordinator started{reason}")))
        }
        ReplicationSledState::Unrecognized => {
            Some((Tone::Dim, format!("? {name}: in a state that this sledctl is too old to know{reason}")))
        }
        ReplicationSledState::Active if sled.datasets_healthy == 0 => {
            Some((Tone::Bad, format!("! {name}: none of its M.2s can be written{reason}")))
        }
        ReplicationSledState::Active => {
            sled.reason.as_ref().map(|reason| (Tone::Busy, format!("! {name}: {reason}")))
        }
    }
}

/// The M.2s of a sled that cannot be used, while it takes part.
fn m2_notes(sled: &ReplicationSled) -> Vec<String> {
    let unusable = |m2: &&M2| sled.state == ReplicationSledState::Active && m2.health != M2Health::Healthy;
    let line = |m2: &M2| {
        let reason = m2.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("! {}: {} {}{reason}", sled.name, m2.name, health_word(m2.health))
    };
    sled.m2s.iter().filter(unusable).map(line).collect()
}

/// How many artifacts failed to reach a sled at their last try, and why the first of them did.
fn failures_note(sled: &ReplicationSled, replication: &Replication) -> Option<String> {
    let failed: Vec<(&ReplicationArtifact, &str)> = replication
        .artifacts
        .iter()
        .filter_map(|artifact| match Replica::of(artifact, sled) {
            Replica::Failed(error) | Replica::Partial { why: Shortage::Failed(error), .. } => {
                Some((artifact, error))
            }
            _ => None,
        })
        .collect();
    let (first, error) = failed.first()?;
    let number = count(failed.len() as u64, "artifact");
    Some(format!("! {}: {number} failed at the last try; {}: {error}", sled.name, row_name(first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{self, narrow, now, wide};

    #[test]
    fn every_state_in_one_matrix() {
        insta::assert_snapshot!(matrix(&sample::replication(), &narrow(), now()));
    }

    #[test]
    fn wide_matrix_has_times_in_full() {
        insta::assert_snapshot!(matrix(&sample::replication(), &wide(), now()));
    }

    #[test]
    fn complete_replication_needs_no_footnotes() {
        insta::assert_snapshot!(matrix(&sample::complete(4), &narrow(), now()));
    }

    #[test]
    fn sleds_that_do_not_fit_go_into_further_blocks() {
        insta::assert_snapshot!(matrix(&sample::complete(12), &narrow(), now()));
    }

    #[test]
    fn long_names_leave_room_for_sleds() {
        let mut replication = sample::replication();
        replication.artifacts[0].name = "com.example.firmware.power-controller.revision-d.signed".into();
        replication.artifacts[1].version = "1.0.0-rc.1+build.20261101.nightly".into();
        replication.sleds[0].name = "rack-07-upper-left-sled-with-the-new-fans".into();
        let text = matrix(&replication, &narrow(), now());
        for line in text.lines().take_while(|line| !line.starts_with("fully")) {
            assert!(line.width() <= 80, "{line:?} is wider than 80 columns");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn one_copy_beside_a_failed_m2_is_not_shown_as_ok() {
        insta::assert_snapshot!(matrix(&sample::degraded(), &narrow(), now()));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        sample::assert_fits(|look| matrix(&sample::replication(), look, now()));
        sample::assert_fits(|look| matrix(&sample::degraded(), look, now()));
    }

    #[test]
    fn no_sleds_and_no_artifacts_make_an_empty_table() {
        let mut replication = sample::complete(0);
        replication.artifacts.clear();
        replication.artifacts_complete = 0;
        insta::assert_snapshot!(matrix(&replication, &narrow(), now()), @r"
        ARTIFACT VERSION SIZE
        fully replicated 0/0 · generation 5 accepted by 0/0 sleds
        ");
    }

    #[test]
    fn without_headers_there_are_rows_only() {
        let rows = matrix(&sample::complete(2), &Look { headers: false, ..wide() }, now());
        assert_eq!(rows.lines().count(), 5, "{rows}");
    }

    #[test]
    fn active_sled_without_a_healthy_dataset_is_explained() {
        let mut replication = sample::complete(1);
        replication.sleds[0].datasets_healthy = 0;
        let text = matrix(&replication, &narrow(), now());
        assert!(text.contains("! rack-00: none of its M.2s can be written"), "{text}");
    }
}
