//! What is not as it should be about sagas. Pure; the one place that says so.

use nexus_client::issues::{Issue, IssueCode};
use nexus_saga_recovery::{RecoveryReport, report::LastPass};
use nexus_sagas::LiveStatus;

/// Issues of one kind that are named one by one; of the rest only how many there are.
const NAMED_MAX: usize = 20;

/// Sagas that need attention, that wait for the database, and that recovery cannot resume.
#[must_use]
pub fn issues(troubled: &[LiveStatus], recovered: &RecoveryReport) -> Vec<Issue> {
    let mut issues = Vec::new();
    let attention: Vec<_> = troubled.iter().filter(|saga| !saga.attention.is_empty()).collect();
    issues.extend(attention.iter().take(NAMED_MAX).map(|saga| needs_attention(saga)));
    issues.extend(and_more(IssueCode::SagaNeedsAttention, attention.len()));
    issues.extend(waits_for_database(troubled));
    issues.extend(not_resumed(recovered));
    issues.extend(waits_for_version(recovered));
    issues.extend(lost(recovered));
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

/// The last failure of each saga that has failed since it was resumed last, if it was among those of the last pass.
fn not_resumed(recovered: &RecoveryReport) -> Option<Issue> {
    let LastPass::Completed(pass) = &recovered.last_pass else { return None };
    let last = recovered.recent_failures.back()?;
    let count = pass.failed + pass.deferred;
    let reason = last.reason.as_deref().unwrap_or("no reason was given");
    let detail = format!("{count} cannot be executed on; the last one, {}: {reason}", last.saga.id);
    let hint = "they are tried again by themselves; all of them: sledctl task show saga_recovery";
    (count > 0)
        .then(|| Issue::new(IssueCode::SagaNotResumed, last.saga.id.to_string(), detail).with_hint(hint))
}

fn waits_for_version(recovered: &RecoveryReport) -> Option<Issue> {
    let LastPass::Completed(pass) = &recovered.last_pass else { return None };
    let count = Some(pass.waiting_for_version).filter(|count| *count > 0)?;
    let detail = format!("{count} wait for a coordinator of another version");
    let hint = "run the version that began them until they have ended, or abandon them";
    Some(Issue::new(IssueCode::SagaWaitsForVersion, "sagas", detail).with_hint(hint))
}

/// Defects of this program, never expected.
fn lost(recovered: &RecoveryReport) -> Option<Issue> {
    let totals = &recovered.totals;
    let count = Some(totals.missing + totals.bad_state).filter(|count| *count > 0)?;
    let detail = format!("{count} were lost by their executor; nothing of them is executed");
    let hint = "restart the coordinator: it goes on with them; and report it, with its log";
    Some(Issue::new(IssueCode::SagaNotResumed, "sagas", detail).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{AdoptionEpoch, SagaId};
    use jiff::Timestamp;
    use nexus_saga_recovery::{PassReport, SagaKey, report::RecentSaga};
    use nexus_sagas::{Attention, Blocked, Cause, Failure};
    use std::collections::BTreeMap;

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
    fn what_the_last_pass_could_not_resume_is_an_issue_until_a_pass_resumes_it() {
        let key = status().key;
        let mut report = RecoveryReport::default();
        report.note(RecentSaga {
            time: Timestamp::UNIX_EPOCH,
            saga: key,
            reason: Some("no digest".to_owned()),
        });
        let pass = PassReport { found: 3, failed: 1, waiting_for_version: 2, ..PassReport::default() };
        report.last_pass = LastPass::Completed(pass);
        let both = issues(&[], &report);
        let codes: Vec<_> = both.iter().map(|issue| issue.code.as_str()).collect();
        assert_eq!(codes, ["saga_not_resumed", "saga_waits_for_version"]);
        assert!(both[0].detail.contains("no digest"));
        report.last_pass =
            LastPass::Completed(PassReport { found: 1, recovered: 1, ..PassReport::default() });
        assert_eq!(issues(&[], &report), []);
    }
}
