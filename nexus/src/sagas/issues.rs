//! What is not as it should be about sagas. Pure; the one place that says so.

use super::reported::{OTHERS_MAX, Others, UnreadableSagas};
use ids::{CoordinatorId, SagaId};
use jiff::SignedDuration;
use nexus_client::issues::{Issue, IssueCode};
use nexus_database::sagas::OthersSaga;
use nexus_saga_recovery::{RecoveryReport, report::LastPass};
use nexus_sagas::LiveStatus;
use std::collections::BTreeMap;

/// Issues of one kind that are named one by one; of the rest only how many there are.
const NAMED_MAX: usize = 20;

/// A saga of another coordinator that has written no line for so long is worth a look. Nodes that take longer are few, and the
/// words say that it may only wait.
const QUIET: SignedDuration = SignedDuration::from_mins(10);

/// What there is to judge.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Sagas that are executed here, and that need attention or wait for the database.
    pub troubled: Vec<LiveStatus>,
    /// What recovery has done.
    pub recovered: RecoveryReport,
    /// What it could not read.
    pub unreadable: UnreadableSagas,
    /// What it could not go on with, and why.
    pub failing: BTreeMap<SagaId, String>,
    /// What is claimed here, and its executor has lost.
    pub lost: Vec<SagaId>,
    /// What others own.
    pub others: Others,
}

/// Sagas that need attention, that wait for the database, that recovery cannot resume, and that others may have left.
#[must_use]
pub fn issues(seen: &Seen) -> Vec<Issue> {
    let (troubled, recovered) = (&seen.troubled, &seen.recovered);
    let mut issues = Vec::new();
    let attention: Vec<_> = troubled.iter().filter(|saga| !saga.attention.is_empty()).collect();
    issues.extend(attention.iter().take(NAMED_MAX).map(|saga| needs_attention(saga)));
    issues.extend(and_more(IssueCode::SagaNeedsAttention, attention.len()));
    issues.extend(waits_for_database(troubled));
    issues.extend(not_resumed(&seen.failing));
    issues.extend(unreadable(&seen.unreadable));
    issues.extend(nobodys(&seen.others.sagas));
    issues.extend(quiet_elsewhere(seen));
    issues.extend(waits_for_version(recovered));
    issues.extend(lost(&seen.lost));
    issues
}

fn needs_attention(saga: &LiveStatus) -> Issue {
    let failures = saga.attention.values().map(|attention| format!("undo of {}", attention.failure));
    let detail = format!("{} ({})", failures.collect::<Vec<_>>().join("; "), saga.kind);
    let id = saga.key.id.to_string();
    let hint = format!(
        "mend the cause, then: sledctl op retry {id}; or give it up: sledctl op abandon {id} --reason …"
    );
    Issue::new(IssueCode::SagaNeedsAttention, id, detail).with_hint(hint)
}

fn and_more(code: IssueCode, count: usize) -> Option<Issue> {
    let more = count.checked_sub(NAMED_MAX).filter(|more| *more > 0)?;
    let hint = "sledctl op list --state needs_attention";
    Some(Issue::new(code, "sagas", format!("{more} more")).with_hint(hint))
}

fn waits_for_database(troubled: &[LiveStatus]) -> Option<Issue> {
    let blocked = troubled.iter().filter_map(|saga| saga.blocked.as_ref());
    let (count, oldest) = (blocked.clone().count(), blocked.min_by_key(|blocked| blocked.since)?);
    let detail = format!("{count} of them since {:.0}: {}", oldest.since, oldest.words);
    let hint = "nothing is lost; they go on by themselves once it takes writes again";
    Some(Issue::new(IssueCode::SagaWaitsForDatabase, "sagas", detail).with_hint(hint))
}

/// Also those that are put off at the moment.
fn not_resumed(failing: &BTreeMap<SagaId, String>) -> Option<Issue> {
    let (id, reason) = failing.first_key_value()?;
    let detail = match failing.len() {
        1 => format!("it cannot be executed on: {reason}"),
        count => format!("{count} cannot be executed on; one of them, {id}: {reason}"),
    };
    let hint = "they are tried again by themselves; the last attempts: sledctl task show saga_recovery";
    Some(Issue::new(IssueCode::SagaNotResumed, id.to_string(), detail).with_hint(hint))
}

fn waits_for_version(recovered: &RecoveryReport) -> Option<Issue> {
    let LastPass::Completed(pass) = &recovered.last_pass else { return None };
    let count = Some(pass.waiting_for_version).filter(|count| *count > 0)?;
    let detail = format!("{count} wait for a coordinator of another version");
    let hint = "run the version that began them until they have ended, or abandon them";
    Some(Issue::new(IssueCode::SagaWaitsForVersion, "sagas", detail).with_hint(hint))
}

/// Each with its rows; those without a key cannot be named, and so not be given up.
fn unreadable(unreadable: &UnreadableSagas) -> Vec<Issue> {
    let code = IssueCode::SagaUnreadable;
    let named = unreadable.sagas.iter().take(NAMED_MAX).map(|(id, words)| {
        let hint = format!(
            "mend the rows that nexus db check names, or put a backup back: it then goes on by itself; or give it up: \
             sledctl op abandon {id} --reason …"
        );
        Issue::new(code, id.to_string(), words.clone()).with_hint(hint)
    });
    let mut issues: Vec<_> = named.collect();
    let more = unreadable.sagas.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        let hint = "sledctl op list --state unreadable";
        issues.push(Issue::new(code, "sagas", format!("{more} more")).with_hint(hint));
    }
    if let Some(first) = unreadable.without_key.first() {
        let count = unreadable.without_key.len();
        let detail =
            format!("{count} rows do not say any more which saga under which adoption they are: {first}");
        let hint = "mend the rows that nexus db check names, or put a backup back: no command can name them";
        issues.push(Issue::new(code, "sagas", detail).with_hint(hint));
    }
    issues
}

fn nobodys(others: &[OthersSaga]) -> Option<Issue> {
    let lost: Vec<_> = others.iter().filter(|saga| saga.owner.is_none()).collect();
    let first = lost.first()?;
    let detail = format!("{} do not say any more whose they are, so no coordinator finds them", lost.len());
    let hint = "write the id of a coordinator into the owner of the rows that nexus db check names";
    Some(Issue::new(IssueCode::SagaUnreadable, first.id.clone(), detail).with_hint(hint))
}

/// By owner. Nothing here tells whether a coordinator lives, so nothing is said of that.
fn quiet_elsewhere(seen: &Seen) -> Vec<Issue> {
    let mut owners: BTreeMap<CoordinatorId, Vec<&OthersSaga>> = BTreeMap::new();
    for saga in &seen.others.sagas {
        let is_quiet = saga.last_line.is_none_or(|last| seen.others.read_at.duration_since(last) >= QUIET);
        if let (Some(owner), true) = (saga.owner, is_quiet) {
            owners.entry(owner).or_default().push(saga);
        }
    }
    let at_least = if seen.others.sagas.len() >= OTHERS_MAX as usize { "at least " } else { "" };
    let issue = |(owner, sagas): (CoordinatorId, Vec<&OthersSaga>)| {
        let known = seen.others.coordinators.iter().find(|row| row.id == owner);
        let who = match known {
            Some(row) => format!("{} started last at {:.0}", row.name, row.started_at),
            None => "the database knows no coordinator of this id".to_owned(),
        };
        let oldest = sagas.iter().filter_map(|saga| saga.last_line).min();
        let since = oldest.map(|oldest| format!(", the longest since {oldest:.0}")).unwrap_or_default();
        let detail = format!(
            "{who}; {at_least}{} of its unfinished sagas have had no new line in their logs for {} minutes or more{since}: they \
             wait for something there, or for that coordinator to come back",
            sagas.len(),
            QUIET.as_secs() / 60
        );
        let hint = "look whether it runs; started again on its own state directory, it goes on with them: sledctl op list \
                    --state elsewhere";
        Issue::new(IssueCode::SagaElsewhere, owner.to_string(), detail).with_hint(hint)
    };
    owners.into_iter().map(issue).collect()
}

/// Defects of this program, never expected.
fn lost(lost: &[SagaId]) -> Option<Issue> {
    let first = lost.first()?;
    let named: Vec<_> = lost.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = lost.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!(
        "{} were lost by their executor; nothing of them is executed: {}{more}",
        lost.len(),
        named.join(", ")
    );
    let hint = "restart the coordinator: it goes on with them; and report it, with its log";
    Some(Issue::new(IssueCode::SagaNotResumed, first.to_string(), detail).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::AdoptionEpoch;
    use jiff::Timestamp;
    use nexus_database::cluster::CoordinatorRow;
    use nexus_saga_recovery::{PassReport, SagaKey};
    use nexus_sagas::{Attention, Blocked, Cause, Failure};

    fn issues(troubled: &[LiveStatus], recovered: &RecoveryReport) -> Vec<Issue> {
        let (troubled, recovered) = (troubled.to_vec(), recovered.clone());
        super::issues(&Seen { troubled, recovered, ..Seen::default() })
    }

    fn saga_id(number: usize) -> SagaId {
        format!("00000000-0000-7000-8000-{number:012}").parse().unwrap()
    }

    fn status() -> LiveStatus {
        LiveStatus {
            key: SagaKey { id: SagaId::generate(), epoch: AdoptionEpoch::default() },
            kind: "demo".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            nodes: BTreeMap::new(),
            blocked: None,
            attention: BTreeMap::new(),
            cancel_requested: false,
            failure: None,
        }
    }

    fn stuck() -> LiveStatus {
        let cause = Cause::new("sled_unreachable", "it is away");
        let failure = Failure { node: "left".to_owned(), cause, attempts: 3 };
        let attention = Attention { failure, since: Timestamp::UNIX_EPOCH };
        LiveStatus { attention: BTreeMap::from([("left".to_owned(), attention)]), ..status() }
    }

    #[test]
    fn no_trouble_is_no_issue() {
        assert_eq!(issues(&[status()], &RecoveryReport::default()), []);
    }

    #[test]
    fn each_saga_that_needs_attention_is_named_with_the_way_out_and_the_rest_is_counted() {
        let troubled: Vec<_> = (0..NAMED_MAX + 7).map(|_| stuck()).collect();
        let issues = issues(&troubled, &RecoveryReport::default());
        assert_eq!(issues.len(), NAMED_MAX + 1);
        assert_eq!(
            issues[0].detail,
            "undo of node left failed after 3 attempts: it is away (sled_unreachable) (demo)"
        );
        assert!(issues[0].hint.as_ref().unwrap().contains(&format!("op retry {}", troubled[0].key.id)));
        assert_eq!(issues[NAMED_MAX].detail, "7 more");
    }

    #[test]
    fn waiting_for_the_database_is_one_issue_with_the_oldest_wait() {
        let blocked = |second, words: &str| LiveStatus {
            blocked: Some(Blocked {
                since: Timestamp::from_second(second).unwrap(),
                words: words.to_owned(),
            }),
            ..status()
        };
        let issues = issues(&[blocked(20, "newer"), blocked(10, "older")], &RecoveryReport::default());
        let [issue] = &issues[..] else { panic!("one issue: {issues:?}") };
        assert_eq!(issue.detail, "2 of them since 1970-01-01T00:00:10Z: older");
    }

    #[test]
    fn what_cannot_be_resumed_is_an_issue_however_many_have_failed_since() {
        let failing: BTreeMap<_, _> =
            (0..200).map(|number| (saga_id(number), format!("no digest {number}"))).collect();
        let seen = |failing| Seen { failing, ..Seen::default() };
        let issues = super::issues(&seen(failing));
        let [issue] = &issues[..] else { panic!("one issue: {issues:?}") };
        assert!(issue.is(IssueCode::SagaNotResumed) && issue.subject == saga_id(0).to_string(), "{issue:?}");
        let begin = format!("200 cannot be executed on; one of them, {}: no digest 0", saga_id(0));
        assert_eq!(issue.detail, begin);
        let issues = super::issues(&seen(BTreeMap::from([(saga_id(7), "no digest".to_owned())])));
        assert_eq!(issues[0].detail, "it cannot be executed on: no digest");
        assert_eq!(super::issues(&seen(BTreeMap::new())), []);
    }

    #[test]
    fn what_waits_for_a_version_or_a_pass_is_not_said_to_have_failed() {
        let pass = PassReport { found: 5, deferred: 3, waiting_for_version: 2, ..PassReport::default() };
        let report = RecoveryReport { last_pass: LastPass::Completed(pass), ..RecoveryReport::default() };
        let issues = issues(&[], &report);
        let codes: Vec<_> = issues.iter().map(|issue| issue.code.as_str()).collect();
        assert_eq!(codes, ["saga_waits_for_version"]);
    }

    #[test]
    fn what_an_executor_has_lost_is_named() {
        let lost: Vec<_> = (0..NAMED_MAX + 2).map(saga_id).collect();
        let issues = super::issues(&Seen { lost, ..Seen::default() });
        let [issue] = &issues[..] else { panic!("one issue: {issues:?}") };
        assert!(issue.is(IssueCode::SagaNotResumed) && issue.subject == saga_id(0).to_string(), "{issue:?}");
        assert!(issue.detail.contains(&saga_id(19).to_string()), "{issue:?}");
        assert!(issue.detail.ends_with(" and 2 more"), "{issue:?}");
    }

    #[test]
    fn each_saga_that_cannot_be_read_is_named_with_its_rows_and_the_ways_out() {
        let ids: Vec<_> = (0..NAMED_MAX + 3).map(|_| SagaId::generate()).collect();
        let sagas =
            ids.iter().map(|id| (*id, format!("saga_mark, row {id}: no mark (nexus db check)"))).collect();
        let unreadable = UnreadableSagas { sagas, without_key: vec!["saga, row x: no id".to_owned()] };
        assert_eq!(unreadable.count(), NAMED_MAX as u64 + 4);
        let issues = super::issues(&Seen { unreadable, ..Seen::default() });
        assert_eq!(issues.len(), NAMED_MAX + 2);
        assert!(issues.iter().all(|issue| issue.is(IssueCode::SagaUnreadable)));
        assert!(issues[0].detail.starts_with("saga_mark, row "), "{:?}", issues[0]);
        let hint = issues[0].hint.as_ref().unwrap();
        assert!(
            hint.contains("nexus db check") && hint.contains(&format!("op abandon {}", issues[0].subject)),
            "{hint}"
        );
        assert_eq!(issues[NAMED_MAX].detail, "3 more");
        assert!(issues[NAMED_MAX + 1].detail.ends_with("saga, row x: no id"));
    }

    #[test]
    fn sagas_of_another_coordinator_are_an_issue_once_they_have_been_quiet_and_only_what_is_known_is_said() {
        let owner = CoordinatorId::generate();
        let at = |second| Timestamp::from_second(second).unwrap();
        let saga =
            |last_line| OthersSaga { id: SagaId::generate().to_string(), owner: Some(owner), last_line };
        let coordinator = CoordinatorRow {
            id: owner,
            name: "nexus-2".to_owned(),
            epoch: 3,
            version: "1".to_owned(),
            started_at: at(60),
        };
        let seen = |sagas| Seen {
            others: Others { sagas, coordinators: vec![coordinator.clone()], read_at: at(1_000) },
            ..Seen::default()
        };
        assert_eq!(super::issues(&seen(vec![saga(Some(at(401)))])), [], "it has just gone on");
        let issues =
            super::issues(&seen(vec![saga(Some(at(400))), saga(Some(at(300))), saga(Some(at(999)))]));
        let [issue] = &issues[..] else { panic!("one for a coordinator: {issues:?}") };
        assert!(issue.is(IssueCode::SagaElsewhere) && issue.subject == owner.to_string());
        assert_eq!(
            issue.detail,
            "nexus-2 started last at 1970-01-01T00:01:00Z; 2 of its unfinished sagas have had no new line in their logs for 10 \
             minutes or more, the longest since 1970-01-01T00:05:00Z: they wait for something there, or for that coordinator \
             to come back"
        );
        let lost = OthersSaga { id: "x".to_owned(), owner: None, last_line: None };
        let issues = super::issues(&seen(vec![lost]));
        assert!(issues[0].is(IssueCode::SagaUnreadable) && issues[0].subject == "x", "{issues:?}");
    }
}
