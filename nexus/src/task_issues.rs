//! What is not as it should be about background tasks. Pure; the one place that says so.

use nexus_client::{
    issues::{Issue, IssueCode},
    tasks::{BackgroundTask, Pause},
};

/// Failures in a row that are an issue. One or two pass by themselves: the first retries come within seconds.
const FAILURES_MIN: u64 = 3;

/// Tasks that are paused, and tasks that fail again and again. Of a task that is paused nothing but that is said.
#[must_use]
pub fn issues(tasks: &[BackgroundTask]) -> Vec<Issue> {
    let issue = |task: &BackgroundTask| match &task.paused {
        Some(pause) => Some(paused(task, pause)),
        None => failing(task),
    };
    tasks.iter().filter_map(issue).collect()
}

fn paused(task: &BackgroundTask, pause: &Pause) -> Issue {
    let until = pause.until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
    let reason = pause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let detail = format!("it is paused since {:.0}{until}{reason}", pause.since);
    let hint = format!("when it may run again: sledctl task resume {}", task.name);
    Issue::new(IssueCode::TaskPaused, &task.name, detail).with_hint(hint)
}

fn failing(task: &BackgroundTask) -> Option<Issue> {
    let failures = Some(task.failed_in_a_row).filter(|failures| *failures >= FAILURES_MIN)?;
    let error = task.last.as_ref().and_then(|pass| pass.error.as_deref()).unwrap_or("no reason was given");
    let detail = format!("its last {failures} passes failed: {error}");
    let hint = format!("it is tried again by itself; more: sledctl task show {}", task.name);
    Some(Issue::new(IssueCode::TaskFailing, &task.name, detail).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task(failed_in_a_row: u64) -> BackgroundTask {
        let pass = json!({"iteration": 9, "trigger": "retry", "started_at": "2026-11-20T12:00:00Z",
            "duration_seconds": 0.1, "error": "the disk is on fire", "report": null});
        let task = json!({"name": "worker", "description": "works", "period_seconds": 60.0, "running": null,
            "last": pass, "succeeded": 1, "failed": 9, "failed_in_a_row": failed_in_a_row});
        serde_json::from_value(task).unwrap()
    }

    #[test]
    fn task_that_fails_again_and_again_is_an_issue_and_one_that_stumbles_is_none() {
        assert_eq!(issues(&[task(0), task(FAILURES_MIN - 1)]), []);
        let [issue] = &issues(&[task(FAILURES_MIN)])[..] else { panic!("one issue") };
        assert_eq!(issue.to_string(), "task_failing worker: its last 3 passes failed: the disk is on fire");
    }

    #[test]
    fn paused_task_is_an_issue_with_its_reason_and_the_way_out() {
        let since = "2026-11-20T12:00:00Z".parse().unwrap();
        let pause = Pause { since, until: None, reason: Some("a fault".into()) };
        let paused = BackgroundTask { paused: Some(pause), ..task(FAILURES_MIN) };
        let [issue] = &issues(&[paused])[..] else { panic!("one issue") };
        assert_eq!(issue.to_string(), "task_paused worker: it is paused since 2026-11-20T12:00:00Z: a fault");
        assert!(issue.hint.as_ref().unwrap().ends_with("sledctl task resume worker"));
    }
}
