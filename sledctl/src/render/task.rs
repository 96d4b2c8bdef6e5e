//! Background tasks: the list, and one task with its passes and what the last one did.

use super::{
    Look, Tone,
    table::{Cell, Column, Facts, Table},
    words::{ago, count, duration, printable, time},
};
use jiff::Timestamp;
use nexus_client::tasks::{BackgroundTask, FinishedPass, Pause};
use serde_json::Value;

/// A report that is longer is cut, with a word about where to find the rest.
const REPORT_LINES_MAX: usize = 60;

/// Passes that are shown to people; what is behind them is history.
const PASSES_MAX: usize = 10;

/// One row for each task.
#[must_use]
pub fn list(tasks: &[BackgroundTask], look: &Look, now: Timestamp) -> String {
    let mut table = Table::new(vec![
        Column::flexible("TASK", 16),
        Column::flexible("STATE", 7),
        Column::new("LAST").expendable(1),
        Column::new("NEXT").expendable(4),
        Column::new("TOOK").expendable(5),
        Column::new("OK").expendable(3),
        Column::new("FAILED"),
        Column::new("PERIOD").expendable(6),
        Column::flexible("ERROR", 8).expendable(2),
    ]);
    for task in tasks {
        let (state, tone) = state(task);
        let last = task.last.as_ref();
        let error = last.and_then(|pass| pass.error.as_deref());
        table.row(vec![
            Cell::new(&task.name),
            Cell::toned(state, tone),
            Cell::new(last.map_or_else(|| "never".to_owned(), |pass| time(pass.started_at, now, look.wide))),
            Cell::new(task.next_at.map_or_else(|| "-".to_owned(), |at| time(at, now, look.wide))),
            Cell::new(last.map_or_else(|| "-".to_owned(), |pass| duration(pass.duration_seconds))),
            Cell::new(task.succeeded.to_string()),
            Cell::new(task.failed.to_string()),
            Cell::new(if task.periodic { duration(task.period_seconds) } else { "off".to_owned() }),
            Cell::toned(error.unwrap_or(""), Tone::Bad),
        ]);
    }
    table.render(look)
}

/// One task: facts, its passes, and what the last one did.
#[must_use]
pub fn show(task: &BackgroundTask, look: &Look, now: Timestamp) -> String {
    let (state, tone) = state(task);
    let mut facts = Facts::new();
    facts.fact("task", &task.name);
    facts.fact("does", &task.description);
    facts.toned("state", state, tone);
    if let Some(running) = &task.running {
        let started = time(running.started_at, now, look.wide);
        facts.fact(
            "running",
            format!("pass {}, by {}, started {started}", running.iteration, running.trigger),
        );
    }
    if let Some(pause) = &task.paused {
        facts.fact("paused", paused(pause, look, now));
    }
    facts.fact("every", every(task));
    if !task.dependencies.is_empty() {
        facts.fact("also", task.dependencies.join(", "));
    }
    if let Some(limit) = task.time_limit_seconds {
        facts.fact("limit", format!("{} for a pass", duration(limit)));
    }
    if let Some(next) = task.next_at {
        facts.fact("next", time(next, now, look.wide));
    }
    facts.fact("passes", totals(task));
    if let Some(success) = task.last_success_at {
        facts.fact("last ok", time(success, now, look.wide));
    }
    let mut text = facts.render(look);
    if !task.recent.is_empty() {
        text.push('\n');
        text.push_str(&passes(&task.recent, look, now));
    }
    if let Some(pass) = task.answer.as_ref().or(task.last.as_ref()) {
        text.push_str(&format!("\nreport of pass {}, {}\n", pass.iteration, ago(pass.started_at, now)));
        text.push_str(&report(&pass.report));
    }
    text
}

/// `since 3 min ago, until in 27 min: looking for a fault`.
fn paused(pause: &Pause, look: &Look, now: Timestamp) -> String {
    let mut text = format!("since {}", time(pause.since, now, look.wide));
    match pause.until {
        Some(until) => text.push_str(&format!(", ends {}", time(until, now, look.wide))),
        None => text.push_str(", until it is resumed"),
    }
    if let Some(reason) = &pause.reason {
        text.push_str(&format!(": {reason}"));
    }
    text
}

fn every(task: &BackgroundTask) -> String {
    let period = duration(task.period_seconds);
    if task.periodic { period } else { format!("{period}, but switched off") }
}

/// How many passes ended in which way.
fn totals(task: &BackgroundTask) -> String {
    let of_these = match (task.panicked, task.timed_out) {
        (0, 0) => String::new(),
        (panicked, timed_out) => format!(" ({panicked} panicked, {timed_out} timed out)"),
    };
    format!("{} ok, {} failed{of_these} since the coordinator started", task.succeeded, task.failed)
}

fn state(task: &BackgroundTask) -> (String, Tone) {
    if task.paused.is_some() {
        let word = if task.running.is_some() { "pausing" } else { "paused" };
        return (word.to_owned(), Tone::Busy);
    }
    if task.failed_in_a_row > 0 {
        return (format!("failing, {} in a row", task.failed_in_a_row), Tone::Bad);
    }
    if task.running.is_some() {
        return ("running".to_owned(), Tone::Busy);
    }
    if task.last.is_none() {
        return ("not run".to_owned(), Tone::Dim);
    }
    ("idle".to_owned(), Tone::Good)
}

fn passes(recent: &[FinishedPass], look: &Look, now: Timestamp) -> String {
    let mut table = Table::new(vec![
        Column::new("PASS"),
        Column::flexible("BY", 8),
        Column::new("STARTED").expendable(1),
        Column::new("TOOK").expendable(2),
        Column::flexible("RESULT", 10),
    ]);
    let shown = if look.wide { recent.len() } else { PASSES_MAX };
    for pass in recent.iter().take(shown) {
        let (result, tone) = match &pass.error {
            Some(error) => (error.as_str(), Tone::Bad),
            None => ("ok", Tone::Good),
        };
        table.row(vec![
            Cell::new(pass.iteration.to_string()),
            Cell::new(&pass.trigger),
            Cell::new(time(pass.started_at, now, look.wide)),
            Cell::new(duration(pass.duration_seconds)),
            Cell::toned(result, tone),
        ]);
    }
    let mut text = table.render(look);
    if recent.len() > shown {
        let rest = recent.len() - shown;
        text.push_str(&format!("… {rest} more; -o wide has them all\n"));
    }
    text
}

/// Any report, one line for each value, under the path that leads to it: every task has its own shape, and a new one
/// must be readable before this program knows it.
#[must_use]
pub fn report(report: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", report, &mut lines);
    let total = lines.len();
    let label_width =
        lines.iter().take(REPORT_LINES_MAX).map(|(path, _)| path.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (path, value) in lines.iter().take(REPORT_LINES_MAX) {
        text.push_str(format!("  {path:label_width$} {value}").trim_end());
        text.push('\n');
    }
    if total > REPORT_LINES_MAX {
        let rest = count((total - REPORT_LINES_MAX) as u64, "more line");
        text.push_str(&format!("  … {rest}; -o json has them all\n"));
    }
    text
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                flatten(&under(key), value, lines);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&under(&index.to_string()), item, lines);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let words: Vec<String> = items.iter().map(scalar).collect();
            lines.push((printable(path).into_owned(), words.join(", ")));
        }
        other => lines.push((printable(path).into_owned(), scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Array(_) | Value::Object(_) => "none".to_owned(),
        Value::String(text) => printable(text).into_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{self, narrow, now, wide};
    use serde_json::json;

    #[test]
    fn list_fits_80_columns() {
        insta::assert_snapshot!(list(&sample::tasks(), &narrow(), now()));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        sample::assert_fits(|look| list(&sample::tasks(), look, now()));
    }

    #[test]
    fn wide_list_has_whole_errors() {
        insta::assert_snapshot!(list(&sample::tasks(), &wide(), now()));
    }

    #[test]
    fn running_task_shows_its_passes_and_its_report() {
        insta::assert_snapshot!(show(&sample::tasks()[0], &narrow(), now()));
    }

    #[test]
    fn failing_task_shows_why() {
        insta::assert_snapshot!(show(&sample::tasks()[1], &narrow(), now()));
    }

    #[test]
    fn paused_task_shows_since_when_until_when_and_why() {
        insta::assert_snapshot!(show(&sample::tasks()[3], &narrow(), now()));
        insta::assert_snapshot!(show(&sample::tasks()[3], &wide(), now()));
    }

    #[test]
    fn period_that_is_switched_off_is_told_in_the_list_and_in_full() {
        let mut task = sample::tasks().remove(0);
        task.periodic = false;
        assert!(show(&task, &narrow(), now()).contains("\nevery    1 min, but switched off\n"));
        assert!(list(&[task], &narrow(), now()).contains(" off"));
    }

    #[test]
    fn report_is_that_of_the_pass_that_answers() {
        let mut task = sample::tasks().remove(0);
        task.answer = Some(FinishedPass { report: json!({"mine": true}), ..task.recent[1].clone() });
        let text = show(&task, &narrow(), now());
        assert!(text.contains("report of pass 41") && text.ends_with("  mine yes\n"), "{text}");
    }

    #[test]
    fn history_is_cut_where_people_stop_reading() {
        let mut task = sample::tasks().remove(0);
        task.recent = vec![task.recent[0].clone(); 64];
        assert!(show(&task, &narrow(), now()).contains("… 54 more; -o wide has them all\n"));
        assert_eq!(show(&task, &wide(), now()).matches(" timer ").count(), 64);
    }

    #[test]
    fn report_of_any_shape_is_readable_and_bounded() {
        assert_eq!(report(&json!("done")), "   done\n");
        let long: Vec<Value> = (0..200).map(|number| json!({"sled": number})).collect();
        let text = report(&json!({ "asked": long }));
        assert_eq!(text.lines().count(), REPORT_LINES_MAX + 1);
        assert!(text.ends_with("  … 140 more lines; -o json has them all\n"), "{text}");
    }
}
