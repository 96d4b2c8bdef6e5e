//! Sleds: the list, and one sled with what it misses and why.

use super::{
    Look, Tone,
    table::{Cell, Column, Facts, Table},
    words::{ago, rfc3339, size, time},
};
use crate::replica::{Replica, copies_wanted};
use jiff::Timestamp;
use nexus_client::{
    replication::{Replication, ReplicationSled, ReplicationSledState},
    sleds::{M2, M2Health, Scrub, Sled, SledLiveness, SledPolicy},
};

/// One row for each sled, by name: the API's order is that of joining.
#[must_use]
pub fn list(sleds: &[Sled], look: &Look, now: Timestamp) -> String {
    let mut columns = vec![
        Column::flexible("SLED", 12),
        Column::new("POLICY").expendable(1),
        Column::new("STATE"),
        Column::new("ARTIFACTS"),
        Column::new("M.2"),
        Column::new("SEEN").expendable(2),
        Column::flexible("REASON", 16).expendable(3),
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
        Cell::toned(artifacts(sled), if complete { Tone::Good } else { Tone::Busy }),
        Cell::toned(m2_count(sled), if m2s_are_sound(sled) { Tone::Plain } else { Tone::Bad }),
        Cell::new(sled.last_seen_at.map_or_else(|| "never".to_owned(), |seen| time(seen, now, look.wide))),
        Cell::new(reason(sled, look)),
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

/// `4/18`; of a sled that takes no part what it had last, if anything is known of that.
fn artifacts(sled: &Sled) -> String {
    let wanted = sled.artifacts_wanted;
    let held = held(sled);
    match sled.replication {
        ReplicationSledState::Active => format!("{held}/{wanted}"),
        _ if sled.observed_at.is_none() => format!("?/{wanted}"),
        _ => format!("{held}/{wanted}?"),
    }
}

/// Artifacts of which it has a copy. An older coordinator tells only those of which it has every copy.
fn held(sled: &Sled) -> u64 {
    sled.artifacts_held.max(sled.artifacts_complete)
}

/// Usable M.2s of all: `1/2`.
fn m2_count(sled: &Sled) -> String {
    let healthy = sled.m2s.iter().filter(|m2| m2.health == M2Health::Healthy).count();
    if sled.observed_at.is_none() { "?".to_owned() } else { format!("{healthy}/{}", sled.m2s.len()) }
}

fn m2s_are_sound(sled: &Sled) -> bool {
    sled.m2s.iter().all(|m2| m2.health == M2Health::Healthy)
}

/// Why it is not complete: what the coordinator says, or the M.2s that cannot be used. Why there is no answer is a chain of
/// causes, of which the last one matters; `-o wide` and `show` have all of it.
fn reason(sled: &Sled, look: &Look) -> String {
    if let Some(reason) = &sled.reason {
        let chain = sled.replication == ReplicationSledState::Unreachable && !look.wide;
        let cause = reason.rsplit(": ").next().filter(|_| chain);
        return cause.unwrap_or(reason).to_owned();
    }
    let unusable = sled.m2s.iter().filter(|m2| m2.health != M2Health::Healthy);
    let words = unusable.map(|m2| format!("{} {}", m2.name, health_word(m2.health)));
    words.collect::<Vec<_>>().join(", ")
}

/// One sled: facts, its M.2s, then what it misses and why.
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
    let then = if sled.replication == ReplicationSledState::Active { "" } else { " when it answered last" };
    let on_m2s = sled.artifacts_complete;
    let fewer = (on_m2s < held(sled)).then(|| format!(", {on_m2s}/{} on every M.2", sled.artifacts_wanted));
    let held = artifacts(sled);
    facts
        .fact("artifacts", format!("{} held{}{then}", held.trim_end_matches('?'), fewer.unwrap_or_default()));
    facts.fact(
        "replication",
        column.map_or_else(
            || "takes no part in it".to_owned(),
            |column| participation(column, replication, look, now),
        ),
    );
    facts.maybe("reason", sled.reason.as_deref());
    if sled.copies_unverified > 0 {
        facts.fact("unverified", format!("{} wait to be hashed again", copies(sled.copies_unverified)));
    }
    if sled.copies_quarantined > 0 {
        let set_aside = format!("{} set aside because of wrong bytes", copies(sled.copies_quarantined));
        facts.toned("quarantine", set_aside, Tone::Bad);
    }
    facts.maybe("scrub", scrub(&sled.scrub, look, now));
    let mut text = facts.render(look);
    text.push_str(&m2s(&sled.m2s, look, now));
    if let Some(column) = column {
        text.push_str(&misses(column, replication, look, now));
    }
    text
}

/// `1 copy`, `2 copies`.
fn copies(number: u64) -> String {
    if number == 1 { "1 copy".to_owned() } else { format!("{number} copies") }
}

/// How far the verification of all copies is, or how the last one ended; none if there was none.
fn scrub(scrub: &Scrub, look: &Look, now: Timestamp) -> Option<String> {
    let corrupt = match scrub.corrupt {
        0 => String::new(),
        corrupt => format!(", {} corrupt", copies(corrupt)),
    };
    let (done, total) = (size(scrub.bytes_done), size(scrub.bytes_total));
    if scrub.running {
        return Some(format!("runs, {done} of {total} verified{corrupt}"));
    }
    let finished = scrub.finished_at?;
    Some(format!("ended {}, {done} verified{corrupt}", time(finished, now, look.wide)))
}

/// What a scrub that was asked for answers.
#[must_use]
pub fn scrub_started(status: &Scrub, look: &Look, now: Timestamp) -> String {
    let mut facts = Facts::new();
    facts.fact("scrub", scrub(status, look, now).unwrap_or_else(|| "begins".to_owned()));
    facts.render(look)
}

/// One row for each M.2.
fn m2s(m2s: &[M2], look: &Look, now: Timestamp) -> String {
    if m2s.is_empty() {
        return String::new();
    }
    let mut table = Table::new(vec![
        Column::new("M.2"),
        Column::new("HEALTH"),
        Column::new("SINCE").expendable(2),
        Column::new("USED"),
        Column::new("CAPACITY").expendable(1),
        Column::new("QUARANTINED").expendable(3),
        Column::flexible("REASON", 12),
    ]);
    for m2 in m2s {
        let tone = if m2.health == M2Health::Healthy { Tone::Good } else { Tone::Bad };
        table.row(vec![
            Cell::new(&m2.name),
            Cell::toned(health_word(m2.health), tone),
            Cell::new(m2.since.map_or_else(|| "-".to_owned(), |since| time(since, now, look.wide))),
            Cell::new(size(m2.used_bytes)),
            Cell::new(size(m2.capacity_bytes)),
            Cell::new(m2.copies_quarantined.to_string()),
            Cell::new(m2.reason.as_deref().unwrap_or("")),
        ]);
    }
    format!("\n{}", table.render(look))
}

/// An M.2's health in a word.
#[must_use]
pub fn health_word(health: M2Health) -> &'static str {
    match health {
        M2Health::Healthy => "healthy",
        M2Health::Full => "full",
        M2Health::ReadOnly => "read-only",
        M2Health::Slow => "slow",
        M2Health::Failed => "failed",
        M2Health::Missing => "missing",
        M2Health::Unrecognized => "unusable",
    }
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
        ReplicationSledState::Unrecognized => "in a state that this sledctl is too old to know",
    };
    let generation = match column.config_generation {
        Some(generation) => format!("generation {generation} of {}", replication.generation),
        None => format!("no generation of {} yet", replication.generation),
    };
    let asked = column.observed_at.map_or_else(String::new, |asked| {
        if look.wide { format!(", asked {}", rfc3339(asked)) } else { format!(", asked {}", ago(asked, now)) }
    });
    let reason = column.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    let healthy = format!("{}/{} M.2s healthy", column.datasets_healthy, copies_wanted(column));
    format!("{state}, {generation}, {healthy}{asked}{reason}")
}

/// The artifacts without a verified copy on each M.2, and why.
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
        if replica.is_everywhere() {
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
        return "\nmisses nothing\n".to_owned();
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
        SledPolicy::Unrecognized => "?",
    }
}

fn policy_tone(policy: SledPolicy) -> Tone {
    match policy {
        SledPolicy::InService => Tone::Plain,
        SledPolicy::NoProvision => Tone::Busy,
        SledPolicy::Expunged | SledPolicy::Unrecognized => Tone::Dim,
    }
}

fn liveness_word(liveness: SledLiveness) -> &'static str {
    match liveness {
        SledLiveness::Online => "online",
        SledLiveness::Offline => "offline",
        SledLiveness::Unknown => "unknown",
        SledLiveness::Unrecognized => "?",
    }
}

fn liveness_tone(liveness: SledLiveness) -> Tone {
    match liveness {
        SledLiveness::Online => Tone::Good,
        SledLiveness::Offline => Tone::Bad,
        SledLiveness::Unknown | SledLiveness::Unrecognized => Tone::Dim,
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
        insta::assert_snapshot!(list(&[], &narrow(), now()), @"SLED POLICY STATE ARTIFACTS M.2 SEEN REASON");
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
    fn degraded_sled_shows_its_m2s_its_scrub_and_its_quarantine() {
        let (sled, replication) = (sample::degraded_sled(), sample::degraded());
        insta::assert_snapshot!(show(&sled, &replication, &narrow(), now()));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        sample::assert_fits(|look| list(&sample::sleds(), look, now()));
        sample::assert_fits(|look| show(&sample::degraded_sled(), &sample::degraded(), look, now()));
        sample::assert_fits(|look| show(&sample::sleds()[3], &sample::replication(), look, now()));
    }

    #[test]
    fn sled_of_which_nothing_is_known_shows_no_zeros() {
        let mut sled = sample::sleds().remove(3);
        (sled.observed_at, sled.liveness) = (None, SledLiveness::Unknown);
        sled.m2s.clear();
        let text = list(&[sled], &narrow(), now());
        assert!(text.contains("unknown ?/5       ?"), "{text}");
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
