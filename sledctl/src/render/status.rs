//! The cluster on one screen.

use super::{
    Look, Tone,
    table::{Facts, wrap},
    words::{ago, count, printable, rfc3339, size},
};
use jiff::Timestamp;
use nexus_client::{issues::Issue, system::SystemStatus};

/// What there is, then a line with `!` for everything that is not as it should be.
#[must_use]
pub fn status(status: &SystemStatus, look: &Look, now: Timestamp) -> String {
    let mut facts = Facts::new();
    facts.fact("cluster", status.cluster_id.to_string());
    facts.fact("coordinator", coordinator(status, look, now));
    let (online, in_service) = (status.sleds_online, status.sleds_in_service);
    let unheard = match status.sleds_unheard {
        0 => String::new(),
        unheard => format!(", {unheard} not heard of yet"),
    };
    let sleds = format!("{in_service} in service, {online} online{unheard}");
    facts.toned("sleds", sleds, tone(online == in_service));
    // An older coordinator tells only the second of the two.
    let (on_m2s, total) = (status.artifacts_complete, status.artifacts);
    let on_sleds = status.artifacts_on_every_sled.max(on_m2s);
    let artifacts = format!(
        "{}, {on_sleds}/{total} on every sled{}, {}/{in_service} sleds have every copy{}",
        count(total, "artifact"),
        if on_m2s < on_sleds { format!(", {on_m2s}/{total} on every M.2") } else { String::new() },
        status.sleds_complete,
        // What a sled held that does not answer is not known for sure.
        if status.sleds_away > 0 { ", as last seen" } else { "" },
    );
    let complete = status.artifacts_complete == status.artifacts && status.sleds_complete == in_service;
    facts.toned("depot", artifacts, tone(complete));
    facts.fact("releases", releases(status));
    facts.fact("database", size(status.database_bytes));
    let mut text = facts.render(look);
    for issue in &status.issues {
        text.push_str(&one_issue(issue, look));
    }
    if status.issues.is_empty() {
        text.push_str(&look.paint(Tone::Good, "all is well"));
        text.push('\n');
    }
    text
}

/// `! code subject: detail`, and under it what to do.
fn one_issue(issue: &Issue, look: &Look) -> String {
    let mut text = String::new();
    for line in wrap(&printable(&format!("! {issue}")), look.width, 2) {
        text.push_str(&look.paint(Tone::Bad, &line));
        text.push('\n');
    }
    if let Some(hint) = &issue.hint {
        for line in wrap(&printable(&format!("  hint: {hint}")), look.width, 4) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn coordinator(status: &SystemStatus, look: &Look, now: Timestamp) -> String {
    let coordinator = &status.coordinator;
    let started = coordinator.started_at;
    if look.wide {
        let (name, id, version) = (&coordinator.name, coordinator.id, &coordinator.version);
        return format!(
            "{name} {id} version {version} epoch {} started {}",
            coordinator.epoch,
            rfc3339(started)
        );
    }
    format!("{} version {}, started {}", coordinator.name, coordinator.version, ago(started, now))
}

fn releases(status: &SystemStatus) -> String {
    let number = status.repositories;
    let noun = if number == 1 { "repository" } else { "repositories" };
    format!("{number} {noun}, {} staged", size(status.staging_bytes))
}

fn tone(good: bool) -> Tone {
    if good { Tone::Plain } else { Tone::Busy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{self, narrow, now, wide};

    #[test]
    fn degraded_cluster_lists_what_is_wrong() {
        insta::assert_snapshot!(status(&sample::status(), &narrow(), now()));
    }

    #[test]
    fn wide_status_shows_ids_and_times_in_full() {
        insta::assert_snapshot!(status(&sample::status(), &wide(), now()));
    }

    #[test]
    fn healthy_cluster_says_so() {
        let healthy = SystemStatus {
            sleds_online: 4,
            artifacts_complete: 18,
            sleds_complete: 4,
            sleds_away: 0,
            issues: Vec::new(),
            ..sample::status()
        };
        insta::assert_snapshot!(status(&healthy, &narrow(), now()));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        sample::assert_fits(|look| status(&sample::status(), look, now()));
    }

    #[test]
    fn colour_repeats_what_the_words_say() {
        let colored = status(&sample::status(), &Look { color: true, ..narrow() }, now());
        assert!(colored.contains("\u{1b}[31m! sled_offline sled-d"), "{colored}");
        assert!(!status(&sample::status(), &narrow(), now()).contains('\u{1b}'));
    }
}
