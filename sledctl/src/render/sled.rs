//! Sleds: the list, and one sled with what it misses and why.

use super::{
    Look, Tone,
    table::{Cell, Column, Facts, Table},
    words::{ago, count, rfc3339, size, time},
};
use crate::replica::Replica;
use jiff::Timestamp;
use nexus_client::{
    replication::{Replication, ReplicationSled, ReplicationSledState},
    sleds::{Sled, SledLiveness, SledPolicy},
};

/// One row for each sled, by name: the API's order is that of joining.
#[must_use]
pub fn list(sleds: &[Sled], look: &Look, now: Timestamp) -> String {
    let mut columns = vec![
        Column::flexible("SLED", 12),
        Column::new("POLICY"),
        Column::new("STATE"),
        Column::new("ARTIFACTS"),
        Column::new("SEEN"),
        Column::flexible("REASON", 16),
    ];
    if look.wide {
        columns.extend(["ID", "AGENT", "DEPOT", "EPOCH", "CREATED"].map(Column::new));
    }
    let mut table = Table::new(columns);
    let mut by_name: Vec<&Sled> = sleds.iter().collect();
    by_name.sort_by_key(|sled| (&sled.name, sled.id));
    for sled in by_name {
        table.row(row(sled, look, now));
    }
    table.render(look)
}

fn row(sled: &Sled, look: &Look, now: Timestamp) -> Vec<Cell> {
    let complete = sled.artifacts_complete >= sled.artifacts_wanted;
    let mut cells = vec![
        Cell::new(&sled.name),
        Cell::toned(policy_word(sled.policy), policy_tone(sled.policy)),
        Cell::toned(liveness_word(sled.liveness), liveness_tone(sled.liveness)),
        Cell::toned(
            format!("{}/{}", sled.artifacts_complete, sled.artifacts_wanted),
            if complete { Tone::Good } else { Tone::Busy },
        ),
        Cell::new(sled.last_seen_at.map_or_else(|| "never".to_owned(), |seen| time(seen, now, look.wide))),
        Cell::new(sled.reason.as_deref().unwrap_or("")),
    ];
    if look.wide {
        cells.extend([
            Cell::new(sled.id.to_string()),
            Cell::new(&sled.agent_url),
            Cell::new(&sled.depot_url),
            Cell::new(sled.agent_epoch.to_string()),
            Cell::new(rfc3339(sled.created_at)),
        ]);
    }
    cells
}

/// One sled: facts, then what it misses and why.
#[must_use]
pub fn show(sled: &Sled, replication: &Replication, look: &Look, now: Timestamp) -> String {
    let column = replication.sleds.iter().find(|column| column.id == sled.id);
    let mut facts = Facts::new();
    facts.fact("sled", &sled.name);
    facts.fact("id", sled.id.to_string());
    facts.toned("policy", policy_word(sled.policy), policy_tone(sled.policy));
    let seen = sled.last_seen_at.map_or_else(|| "never".to_owned(), |seen| time(seen, now, look.wide));
    facts.toned(
        "state",
        format!("{}, seen {seen}", liveness_word(sled.liveness)),
        liveness_tone(sled.liveness),
    );
    facts.fact("agent", format!("{} (epoch {})", address(&sled.agent_url), sled.agent_epoch));
    facts.fact("depot", address(&sled.depot_url));
    facts.fact("joined", time(sled.created_at, now, look.wide));
    facts.fact("artifacts", format!("{}/{} complete", sled.artifacts_complete, sled.artifacts_wanted));
    facts.fact(
        "replication",
        column.map_or_else(
            || "takes no part in it".to_owned(),
            |column| participation(column, replication, look, now),
        ),
    );
    facts.maybe("reason", sled.reason.as_deref());
    let mut text = facts.render(look);
    if let Some(column) = column {
        text.push_str(&misses(column, replication, look, now));
    }
    text
}

/// A sled that has not said where it listens since the coordinator knows it has no address.
fn address(url: &str) -> &str {
    if url.is_empty() { "not known yet" } else { url }
}

fn participation(column: &ReplicationSled, replication: &Replication, look: &Look, now: Timestamp) -> String {
    let state = match column.state {
        ReplicationSledState::Active => "active",
        ReplicationSledState::Unknown => "not asked yet since the coordinator started",
        ReplicationSledState::Unreachable => "unreachable",
        ReplicationSledState::Refusing => "refuses its config",
    };
    let generation = match column.config_generation {
        Some(generation) => format!("generation {generation} of {}", replication.generation),
        None => format!("no generation of {} yet", replication.generation),
    };
    let asked = column.observed_at.map_or_else(String::new, |asked| {
        if look.wide { format!(", asked {}", rfc3339(asked)) } else { format!(", asked {}", ago(asked, now)) }
    });
    let reason = column.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{state}, {generation}, {} healthy{asked}{reason}", count(column.datasets_healthy.into(), "M.2"))
}

/// The artifacts without a verified copy on each healthy M.2, and why.
fn misses(column: &ReplicationSled, replication: &Replication, look: &Look, now: Timestamp) -> String {
    let mut table = Table::new(vec![
        Column::flexible("MISSING", 12),
        Column::flexible("VERSION", 8),
        Column::new("SIZE"),
        Column::new("HERE"),
        Column::flexible("WHY", 16),
    ]);
    let mut missing = 0_u64;
    for artifact in &replication.artifacts {
        let replica = Replica::of(artifact, column);
        if replica == Replica::Complete {
            continue;
        }
        missing += 1;
        table.row(vec![
            Cell::new(&artifact.name),
            Cell::new(&artifact.version),
            Cell::new(size(artifact.size)),
            Cell::toned(replica.word(artifact), replica.tone()),
            Cell::new(replica.why(artifact, now)),
        ]);
    }
    if missing == 0 {
        return "misses nothing\n".to_owned();
    }
    format!("\n{}", table.render(look))
}

/// The policy as it is written in the API.
#[must_use]
pub fn policy_word(policy: SledPolicy) -> &'static str {
    match policy {
        SledPolicy::InService => "in_service",
        SledPolicy::NoProvision => "no_provision",
        SledPolicy::Expunged => "expunged",
    }
}

fn policy_tone(policy: SledPolicy) -> Tone {
    match policy {
        SledPolicy::InService => Tone::Plain,
        SledPolicy::NoProvision => Tone::Busy,
        SledPolicy::Expunged => Tone::Dim,
    }
}

fn liveness_word(liveness: SledLiveness) -> &'static str {
    match liveness {
        SledLiveness::Online => "online",
        SledLiveness::Offline => "offline",
    }
}

fn liveness_tone(liveness: SledLiveness) -> Tone {
    match liveness {
        SledLiveness::Online => Tone::Good,
        SledLiveness::Offline => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{self, narrow, now, wide};

    #[test]
    fn list_fits_80_columns() {
        let mut sleds = sample::sleds();
        sleds[1].name = "a-sled-whose-name-somebody-made-far-too-long-for-any-table".into();
        insta::assert_snapshot!(list(&sleds, &narrow(), now()));
    }

    #[test]
    fn wide_list_shows_everything_in_full() {
        insta::assert_snapshot!(list(&sample::sleds(), &wide(), now()));
    }

    #[test]
    fn empty_list_is_its_header() {
        insta::assert_snapshot!(list(&[], &narrow(), now()), @"SLED POLICY STATE ARTIFACTS SEEN REASON");
        assert_eq!(list(&[], &Look { headers: false, ..narrow() }, now()), "");
    }

    #[test]
    fn sled_shows_what_it_misses_and_why() {
        insta::assert_snapshot!(show(&sample::sleds()[1], &sample::replication(), &narrow(), now()));
    }

    #[test]
    fn unreachable_sled_shows_when_it_was_asked_last() {
        insta::assert_snapshot!(show(&sample::sleds()[3], &sample::replication(), &narrow(), now()));
    }

    #[test]
    fn complete_sled_misses_nothing() {
        let replication = sample::complete(1);
        insta::assert_snapshot!(show(&sample::sleds()[0], &replication, &wide(), now()));
    }

    #[test]
    fn expunged_sled_takes_no_part() {
        let mut sled = sample::sleds().remove(3);
        sled.policy = SledPolicy::Expunged;
        let text = show(&sled, &sample::complete(0), &narrow(), now());
        assert!(text.contains("replication  takes no part in it"), "{text}");
    }
}
