//! Everything that is not as it should be, from what operators are shown anyway. Work under way is no issue.
//!
//! The one place that says what an issue is; pure. Each fact is said once, where it belongs: of a sled that is away nothing
//! but that, of an artifact that waits for such sleds one line, and the full reasons under `sled show`.

use crate::replication::observed::{CLONE_HINT, Clock, Refused, Refusing};
use nexus_client::{
    issues::{Issue, IssueCode},
    replication::{ArtifactBlocked, Replication, ReplicationArtifact, ReplicationSled, ReplicationSledState},
    sleds::{M2, M2Health, Sled, SledLiveness},
};
use std::num::NonZeroU32;

/// Issues of one kind about artifacts. People read no more, and what is behind them is in the matrix.
const ARTIFACT_ISSUES_MAX: usize = 10;

/// Bytes of a foreign reason in an issue: one line of a terminal or two.
const REASON_BYTES_MAX: usize = 160;

/// A sled in service, with all that an issue about it is made of.
#[derive(Clone, Debug)]
pub struct Member {
    /// The sled as it is shown.
    pub sled: Sled,
    /// Registrations in its name that were refused lately.
    pub refusals: Vec<Refusing>,
}

/// All issues: sleds first, then artifacts, then the cluster. `strangers` are refusals of sleds that were never taken.
#[must_use]
pub fn issues(
    members: &[Member],
    strangers: &[Refusing],
    view: &Replication,
    min_replication: NonZeroU32,
) -> Vec<Issue> {
    let mut issues = Vec::new();
    for member in members {
        let column = view.sleds.iter().find(|column| column.id == member.sled.id);
        let refused: Vec<Issue> =
            member.refusals.iter().filter_map(|refusing| refused(&member.sled, refusing)).collect();
        let is_refused = refused.iter().any(|issue| issue.is(IssueCode::SledRefused));
        issues.extend(refused);
        match away(&member.sled) {
            // It is silent because nobody listens to it.
            Some(issue) if is_refused && issue.is(IssueCode::SledOffline) => {}
            Some(issue) => issues.push(issue),
            None if member.sled.replication == ReplicationSledState::Active => {
                issues.extend(disks(&member.sled));
                issues.extend(column.and_then(|column| failing(column, view)));
            }
            None => {}
        }
    }
    issues.extend(strangers.iter().map(|stranger| not_let_in(&stranger.refusal.name, stranger)));
    issues.extend(artifacts(view));
    issues.extend(too_few_sleds(members.len(), min_replication));
    issues
}

/// That a sled takes no part, if that is not as it should be. One that was not asked yet is about to be.
fn away(sled: &Sled) -> Option<Issue> {
    let name = &sled.name;
    let reason = brief(sled.reason.as_deref().unwrap_or("no reason was given"));
    if sled.liveness == SledLiveness::Offline {
        let since = match sled.last_seen_at {
            Some(seen) => format!("no heartbeat since {seen:.0}"),
            None => "no heartbeat since the coordinator started".to_owned(),
        };
        let hint = format!(
            "nothing is lost, it catches up when it returns; gone for good: sledctl sled set-policy {name} expunged"
        );
        return Some(Issue::new(IssueCode::SledOffline, name, since).with_hint(hint));
    }
    let more = format!("sledctl sled show {name}");
    match sled.replication {
        ReplicationSledState::Refusing => {
            let detail = format!("it does not take the artifact config: {reason}");
            Some(Issue::new(IssueCode::SledRefusing, name, detail).with_hint(more))
        }
        ReplicationSledState::Unreachable if sled.liveness == SledLiveness::Online => {
            let detail = format!("it sends heartbeats, but does not answer: {reason}");
            Some(Issue::new(IssueCode::SledUnreachable, name, detail).with_hint(more))
        }
        _ => None,
    }
}

/// What a refused registration in the name of a sled means: that somebody else says that it is this sled, that the sled
/// itself is not let in, or nothing any more, because whoever was refused is the sled by now.
fn refused(sled: &Sled, refusing: &Refusing) -> Option<Issue> {
    let is_elsewhere = refusing.refusal.agent_url != sled.agent_url;
    match refusing.refusal.why {
        Refused::Cloned => is_elsewhere.then(|| conflict(sled, refusing)),
        // While the sled lives, this is somebody else; while it does not, it may have moved.
        Refused::StaleEpoch { .. } if is_elsewhere && sled.liveness == SledLiveness::Online => {
            Some(conflict(sled, refusing))
        }
        Refused::StaleEpoch { .. } | Refused::OtherAddress => Some(not_let_in(&sled.name, refusing)),
    }
}

fn not_let_in(name: &str, refusing: &Refusing) -> Issue {
    let at = Clock::read().time_of(refusing.at);
    let detail = format!("{}; refused {} times, last at {at:.0}", refusing.refusal.detail, refusing.times);
    Issue::new(IssueCode::SledRefused, name, detail).with_hint(refusing.refusal.hint())
}

fn conflict(sled: &Sled, refusing: &Refusing) -> Issue {
    let at = Clock::read().time_of(refusing.at);
    let detail = format!(
        "{} says that it is this sled, which is at {}; refused {} times, last at {at:.0}",
        refusing.refusal.agent_url, sled.agent_url, refusing.times
    );
    Issue::new(IssueCode::SledIdentityConflict, &sled.name, detail).with_hint(CLONE_HINT)
}

fn disks(sled: &Sled) -> Vec<Issue> {
    let mut issues: Vec<Issue> = sled.m2s.iter().filter_map(|m2| disk(sled, m2)).collect();
    if sled.m2s.iter().all(|m2| m2.health != M2Health::Healthy) {
        let hint = format!("replace or empty one of them: sledctl sled show {}", sled.name);
        let detail = "none of its M.2s can be written: artifacts do not get to it";
        issues.push(Issue::new(IssueCode::SledNoM2, &sled.name, detail).with_hint(hint));
    }
    if sled.copies_quarantined > 0 {
        let detail = format!("{} copies had rotted and were set aside", sled.copies_quarantined);
        let hint = format!(
            "each is restored from another copy; check the disks, verify the rest (sledctl sled scrub {}), then \
             empty <m2>/quarantine on the sled: this ends within a few minutes after",
            sled.name
        );
        issues.push(Issue::new(IssueCode::CopiesQuarantined, &sled.name, detail).with_hint(hint));
    }
    issues
}

fn disk(sled: &Sled, m2: &M2) -> Option<Issue> {
    let (code, words, hint) = match m2.health {
        M2Health::Healthy => return None,
        M2Health::Failed => (
            IssueCode::M2Failed,
            "its operations fail",
            "replace the disk; the sled fills the new one from its other M.2",
        ),
        M2Health::Missing => (
            IssueCode::M2Missing,
            "it is not there",
            "mount it, or replace it; it is noticed when it comes back",
        ),
        M2Health::Full => (
            IssueCode::M2Full,
            "it has no space",
            "delete releases, or raise its quota in the agent's config",
        ),
        M2Health::ReadOnly => (
            IssueCode::M2ReadOnly,
            "it takes no writes",
            "look at the host's kernel log; remount it writable, or replace it",
        ),
        M2Health::Slow => (
            IssueCode::M2Slow,
            "it does not answer in time, and writes leave it out",
            "look at the host's kernel log; replace the disk if it stays so",
        ),
        M2Health::Unrecognized => (IssueCode::M2Unusable, "it cannot be used", "sledctl sled show says more"),
    };
    let reason = m2.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", brief(reason)));
    let subject = format!("{}/{}", sled.name, m2.name);
    Some(Issue::new(code, subject, format!("{words}{reason}")).with_hint(hint))
}

/// That artifacts do not get to a sled, with the first reason: the others are mostly the same.
fn failing(column: &ReplicationSled, view: &Replication) -> Option<Issue> {
    let failed = |artifact: &&ReplicationArtifact| {
        column.cells.get(&artifact.hash).is_some_and(|cell| cell.last_error.is_some())
    };
    let failed: Vec<&ReplicationArtifact> = view.artifacts.iter().filter(failed).collect();
    let first = failed.first()?;
    let error = column.cells.get(&first.hash)?.last_error.as_deref()?;
    let others = match failed.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let detail = format!("{} {}{others} failed at the last try: {}", first.name, first.version, brief(error));
    let hint = format!("it is tried again; sledctl sled show {} has each reason", column.name);
    Some(Issue::new(IssueCode::TransferFailing, &column.name, detail).with_hint(hint))
}

fn artifacts(view: &Replication) -> Vec<Issue> {
    let mut issues = Vec::new();
    for (reason, code, words, hint) in [
        (
            ArtifactBlocked::NoSource,
            IssueCode::ArtifactNeedsUpload,
            "it is on no sled and not staged",
            "upload its release again: nothing else is needed",
        ),
        (
            ArtifactBlocked::HoldersUnavailable,
            IssueCode::ArtifactOutOfReach,
            "only sleds that cannot serve it now have it",
            "it goes on when one of them returns; or upload its release again",
        ),
    ] {
        let blocked: Vec<&ReplicationArtifact> =
            view.artifacts.iter().filter(|artifact| artifact.blocked == Some(reason)).collect();
        for artifact in blocked.iter().take(ARTIFACT_ISSUES_MAX) {
            let subject = format!("{} {}", artifact.name, artifact.version);
            issues.push(Issue::new(code, subject, words).with_hint(hint));
        }
        if let Some(more) = blocked.len().checked_sub(ARTIFACT_ISSUES_MAX).filter(|more| *more > 0) {
            let subject = format!("{more} more artifacts");
            issues.push(Issue::new(code, subject, words).with_hint("sledctl artifact matrix has them all"));
        }
    }
    issues
}

/// What to say where fewer sleds are in service than have to hold an upload; none where there are enough.
#[must_use]
pub fn too_few_sleds(in_service: usize, min_replication: NonZeroU32) -> Option<Issue> {
    let needed = min_replication.get();
    if in_service >= needed as usize {
        return None;
    }
    let detail = format!(
        "{in_service} in service, and {needed} must hold an upload: uploaded bytes stay staged, and nothing that \
         waits for replication ends"
    );
    let hint = "add sleds, or lower min_replication under [replication] in the coordinator's config";
    Some(Issue::new(IssueCode::MinReplicationUnreachable, "sleds", detail).with_hint(hint))
}

/// The end of a reason that came from elsewhere: a chain of causes ends with the one that matters.
fn brief(reason: &str) -> String {
    let Some(surplus) = reason.len().checked_sub(REASON_BYTES_MAX).filter(|surplus| *surplus > 0) else {
        return reason.to_owned();
    };
    let start = (surplus..reason.len()).find(|start| reason.is_char_boundary(*start));
    format!("…{}", &reason[start.unwrap_or(reason.len())..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::observed::Refusal;
    use ids::AgentEpoch;
    use serde_json::json;
    use std::time::Instant;

    fn member(change: impl FnOnce(&mut Sled)) -> Member {
        let mut sled: Sled = serde_json::from_value(json!({
            "id": "0191f2a1-3c1e-7000-8000-0123456789ab", "name": "sled-a", "policy": "in_service",
            "liveness": "online", "last_seen_at": "2026-11-20T12:00:00Z", "created_at": "2026-11-20T12:00:00Z",
            "agent_epoch": 1, "agent_url": "http://127.0.1.1:12345", "depot_url": "http://127.0.1.1:12348",
            "artifacts_wanted": 0, "artifacts_complete": 0, "replication": "active",
            "m2s": [
                {"name": "m2-0", "health": "healthy", "capacity_bytes": 1, "used_bytes": 0},
                {"name": "m2-1", "health": "healthy", "capacity_bytes": 1, "used_bytes": 0},
            ],
        }))
        .expect("a sled");
        change(&mut sled);
        Member { sled, refusals: Vec::new() }
    }

    fn view() -> Replication {
        serde_json::from_value(json!({
            "generation": 1, "artifacts": [], "sleds": [], "fully_replicated": true, "artifacts_complete": 0,
        }))
        .expect("a replication")
    }

    fn codes(member: Member) -> Vec<String> {
        let found = issues(&[member], &[], &view(), NonZeroU32::MIN);
        assert!(found.iter().all(|issue| issue.hint.is_some()), "{found:?}");
        found.into_iter().map(|issue| issue.code).collect()
    }

    #[test]
    fn a_sound_sled_is_no_issue() {
        assert_eq!(codes(member(|_| {})), [""; 0]);
    }

    #[test]
    fn each_way_in_which_an_m2_is_unusable_has_its_code() {
        for (health, code) in [
            (M2Health::Failed, "m2_failed"),
            (M2Health::Missing, "m2_missing"),
            (M2Health::Full, "m2_full"),
            (M2Health::ReadOnly, "m2_read_only"),
            (M2Health::Slow, "m2_slow"),
            (M2Health::Unrecognized, "m2_unusable"),
        ] {
            assert_eq!(codes(member(|sled| sled.m2s[1].health = health)), [code]);
            let both = codes(member(|sled| sled.m2s.iter_mut().for_each(|m2| m2.health = health)));
            assert_eq!(both, [code, code, "sled_no_m2"]);
        }
    }

    #[test]
    fn an_m2_names_itself_and_its_reason() {
        let failed = member(|sled| {
            sled.m2s[0].health = M2Health::Failed;
            sled.m2s[0].reason = Some("input/output error".to_owned());
        });
        let found = issues(&[failed], &[], &view(), NonZeroU32::MIN);
        assert_eq!(found[0].to_string(), "m2_failed sled-a/m2-0: its operations fail: input/output error");
    }

    #[test]
    fn of_a_sled_that_is_away_only_that_is_said() {
        let away = |liveness, replication| {
            member(move |sled| {
                (sled.liveness, sled.replication) = (liveness, replication);
                sled.m2s[0].health = M2Health::Failed;
                sled.copies_quarantined = 3;
            })
        };
        let unreachable = ReplicationSledState::Unreachable;
        assert_eq!(codes(away(SledLiveness::Offline, unreachable)), ["sled_offline"]);
        assert_eq!(codes(away(SledLiveness::Online, unreachable)), ["sled_unreachable"]);
        assert_eq!(codes(away(SledLiveness::Online, ReplicationSledState::Refusing)), ["sled_refusing"]);
        assert_eq!(codes(away(SledLiveness::Online, ReplicationSledState::Unknown)), [""; 0]);
    }

    #[test]
    fn right_after_the_start_silence_is_no_issue() {
        for state in [ReplicationSledState::Unknown, ReplicationSledState::Unreachable] {
            let silent = member(|sled| (sled.liveness, sled.replication) = (SledLiveness::Unknown, state));
            assert_eq!(codes(silent), [""; 0]);
        }
    }

    #[test]
    fn rotten_copies_are_an_issue_until_they_are_cleared_away() {
        assert_eq!(codes(member(|sled| sled.copies_quarantined = 1)), ["copies_quarantined"]);
        let found = issues(&[member(|sled| sled.copies_quarantined = 1)], &[], &view(), NonZeroU32::MIN);
        let hint = found[0].hint.as_deref().expect("it says what to do");
        assert!(hint.contains("<m2>/quarantine") && hint.contains("within a few minutes"), "{hint}");
    }

    fn refusing(agent_url: &str, why: Refused) -> Refusing {
        let refusal = Refusal {
            sled: ids::SledId::generate(),
            name: "sled-a".to_owned(),
            agent_url: agent_url.to_owned(),
            peer: [127, 0, 1, 9].into(),
            why,
            detail: "it is so".to_owned(),
        };
        Refusing { refusal, at: Instant::now(), times: 7 }
    }

    const HERE: &str = "http://127.0.1.1:12345";
    const ELSEWHERE: &str = "http://127.0.1.9:12345";
    const STALE: Refused = Refused::StaleEpoch { current: AgentEpoch(5) };

    #[test]
    fn another_host_with_the_same_identity_is_named_while_it_is_another() {
        for why in [Refused::Cloned, STALE] {
            let mut cloned = member(|_| {});
            cloned.refusals = vec![refusing(ELSEWHERE, why)];
            let found = issues(&[cloned], &[], &view(), NonZeroU32::MIN);
            assert!(
                found[0].is(IssueCode::SledIdentityConflict) && found[0].detail.contains("127.0.1.9"),
                "{found:?}"
            );
        }
        let mut same = member(|_| {});
        same.refusals = vec![refusing(HERE, Refused::Cloned)];
        assert_eq!(codes(same), [""; 0]);
    }

    #[test]
    fn a_sled_that_is_refused_is_not_called_offline_and_each_reason_has_its_own_hint() {
        for (agent_url, why, hint) in [
            (HERE, STALE, "sled.json to 5"),
            (ELSEWHERE, STALE, "sled.json to 5"),
            (HERE, Refused::OtherAddress, "address in the agent's config to 127.0.1.9"),
        ] {
            let mut refused = member(|sled| sled.liveness = SledLiveness::Offline);
            assert_eq!(codes(refused.clone()), ["sled_offline"]);
            refused.refusals = vec![refusing(agent_url, why)];
            let found = issues(&[refused], &[], &view(), NonZeroU32::MIN);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].is(IssueCode::SledRefused) && found[0].detail.contains("it is so"), "{found:?}");
            assert!(found[0].hint.as_ref().is_some_and(|words| words.contains(hint)), "{found:?}");
        }
        let mut cloned = member(|sled| sled.liveness = SledLiveness::Offline);
        cloned.refusals = vec![refusing(ELSEWHERE, Refused::Cloned)];
        assert_eq!(codes(cloned), ["sled_identity_conflict", "sled_offline"]);
    }

    #[test]
    fn a_sled_that_was_never_let_in_is_named_by_what_it_says() {
        let found = issues(&[], &[refusing(HERE, Refused::OtherAddress)], &view(), NonZeroU32::MIN);
        assert!(found[0].is(IssueCode::SledRefused) && found[0].subject == "sled-a", "{found:?}");
    }

    #[test]
    fn fewer_sleds_than_an_upload_needs_are_an_issue() {
        let three = NonZeroU32::new(3).expect("not zero");
        let found = issues(&[member(|_| {})], &[], &view(), three);
        assert_eq!(found.len(), 1);
        assert!(found[0].is(IssueCode::MinReplicationUnreachable), "{found:?}");
        assert_eq!(too_few_sleds(3, three), None);
    }

    #[test]
    fn artifacts_that_are_lost_and_out_of_reach_are_told_apart_and_bounded() {
        let mut view = view();
        let artifact = |number: usize, blocked: ArtifactBlocked| ReplicationArtifact {
            hash: ids::ArtifactHash([0; 32]),
            name: format!("a{number}"),
            version: "1".to_owned(),
            size: 1,
            staged: false,
            blocked: Some(blocked),
        };
        view.artifacts = (0..12).map(|number| artifact(number, ArtifactBlocked::NoSource)).collect();
        view.artifacts.push(artifact(12, ArtifactBlocked::HoldersUnavailable));
        view.artifacts.push(artifact(13, ArtifactBlocked::HoldersUnknown));
        let found = issues(&[], &[], &view, NonZeroU32::MIN);
        let of = |code| found.iter().filter(|issue| issue.is(code)).count();
        assert_eq!(of(IssueCode::ArtifactNeedsUpload), ARTIFACT_ISSUES_MAX + 1);
        assert!(found.iter().any(|issue| issue.subject == "2 more artifacts"), "{found:?}");
        assert_eq!(of(IssueCode::ArtifactOutOfReach), 1);
        assert_eq!(
            found.len(),
            ARTIFACT_ISSUES_MAX + 3,
            "sleds that are not known yet are no issue of an artifact"
        );
    }

    #[test]
    fn of_long_reasons_the_end_is_shown_from_a_character_on() {
        let reason = format!("{}: no space", "ü".repeat(200));
        let shown = brief(&reason);
        assert!(shown.len() <= REASON_BYTES_MAX + "…".len() && shown.ends_with(": no space"), "{shown}");
        assert_eq!(brief("short"), "short");
    }
}
