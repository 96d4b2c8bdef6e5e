//! Sagas: the list, one saga with its nodes and what an operator can do about it, and what changes while it is watched.

use super::{
    Look, Tone,
    table::{Cell, Column, Facts, Table, shorten, wrap},
    words::{count, duration, printable, time},
};
use ids::SagaId;
use jiff::Timestamp;
use nexus_client::sagas::{
    Saga, SagaDetail, SagaElsewhere, SagaEvent, SagaFailure, SagaNode, SagaNodeState, SagaState,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Where an id may be cut: after the time in it, after the digits that tell ids of one millisecond apart, and so on.
const ID_CUTS: [usize; 4] = [13, 18, 23, 36];

/// A command with a whole id fits a screen of this width; on a narrower one it has a beginning.
const WHOLE_ID_WIDTH_MIN: usize = 76;

/// JSON beside a label is cut here; `-o json` has it all.
const JSON_CHARACTERS_MAX: usize = 300;

/// Lines of the log that are shown to people; those before them are history.
const EVENTS_MAX: usize = 20;

/// What a line of the log carries is cut here, so that a line stays a line.
const EVENT_BODY_CHARACTERS_MAX: usize = 160;

/// One row for each saga.
#[must_use]
pub fn list(sagas: &[Saga], look: &Look, now: Timestamp) -> String {
    let mut table = Table::new(vec![
        Column::new("SAGA"),
        Column::flexible("KIND", 6),
        Column::new("STATE"),
        Column::new(if look.wide { "ACCEPTED" } else { "AGE" }).expendable(2),
        Column::new("TOOK").expendable(3),
        Column::flexible("ABOUT", 10).expendable(1),
    ]);
    let cut = if look.wide { usize::MAX } else { shortest_cut(sagas) };
    for saga in sagas {
        let id = saga.id.to_string();
        let took = saga.created_at.zip(saga.ended_at).map(|(created, ended)| took(created, ended));
        table.row(vec![
            Cell::new(id.get(..cut).unwrap_or(&id)),
            Cell::new(&saga.kind),
            Cell::toned(saga.state.word(), tone(saga.state)),
            Cell::new(accepted(saga, now, look.wide)),
            Cell::new(took.unwrap_or_else(|| "-".to_owned())),
            Cell::new(about(saga)),
        ]);
    }
    table.render(look)
}

/// The shortest beginning under which these sagas differ.
fn shortest_cut(sagas: &[Saga]) -> usize {
    let ids: BTreeSet<String> = sagas.iter().map(|saga| saga.id.to_string()).collect();
    let differ = |cut: &&usize| {
        let beginnings: BTreeSet<&str> = ids.iter().map(|id| id.get(..**cut).unwrap_or(id)).collect();
        beginnings.len() == ids.len()
    };
    ID_CUTS.iter().find(differ).copied().unwrap_or(usize::MAX)
}

/// What is to be known beside a saga's state, on one line.
pub(super) fn about(saga: &Saga) -> String {
    if let Some(attention) = saga.attention.first() {
        return format!("undo of {}: {}", attention.failure.node, attention.failure.message);
    }
    if let Some(reason) = &saga.abandoned_because {
        return reason.clone();
    }
    if let Some(unreadable) = &saga.unreadable {
        return unreadable.clone();
    }
    if let Some(waits_for) = saga.waits_for.as_ref().filter(|_| !saga.state.is_ended()) {
        return format!("waits for {waits_for}");
    }
    if let Some(failure) = &saga.failure {
        return of_node(failure, failure.message.clone());
    }
    if let Some(SagaElsewhere { coordinator_name, .. }) = &saga.elsewhere {
        return format!("of coordinator {}", coordinator_name.as_deref().unwrap_or("?"));
    }
    if saga.state.is_ended() {
        return String::new();
    }
    let words = [
        (!saga.executing).then_some("nobody executes it now"),
        saga.cancel_requested.then_some("is being cancelled"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One saga: facts, its nodes, and what an operator can do about it.
#[must_use]
pub fn show(detail: &SagaDetail, look: &Look, now: Timestamp) -> String {
    let mut facts = facts(&detail.saga, look, now);
    facts.fact("nodes", progress(&detail.nodes));
    facts.fact("params", json(&detail.params, look));
    for signal in &detail.signals {
        facts.fact("signal", format!("{}: {}", printable(&signal.name), json(&signal.value, look)));
    }
    if !detail.output.is_null() {
        facts.fact("output", json(&detail.output, look));
    }
    let mut text = facts.render(look);
    if !detail.nodes.is_empty() {
        text.push('\n');
        text.push_str(&nodes(&detail.nodes, look, now));
    }
    text.push_str(&advice(&detail.saga, &detail.nodes, look, now));
    text
}

/// One saga as a verb answers it: without its nodes.
#[must_use]
pub fn brief(saga: &Saga, look: &Look, now: Timestamp) -> String {
    let mut text = facts(saga, look, now).render(look);
    text.push_str(&advice(saga, &[], look, now));
    text
}

fn facts(saga: &Saga, look: &Look, now: Timestamp) -> Facts {
    let mut facts = Facts::new();
    facts.fact("saga", saga.id.to_string());
    facts.fact("kind", kind(saga));
    facts.toned("state", saga.state.word(), tone(saga.state));
    facts.maybe("waits for", saga.waits_for.as_deref());
    if let Some(words) = &saga.unreadable {
        facts.toned("unreadable", words, Tone::Bad);
    }
    if saga.cancel_requested {
        facts.fact("cancelled", if saga.state.is_ended() { "was asked for" } else { "is asked for" });
    }
    facts.fact("accepted", accepted(saga, now, look.wide));
    if let Some(ended) = saga.ended_at {
        let took = saga.created_at.map(|created| format!(", took {}", took(created, ended)));
        facts.fact("ended", format!("{}{}", time(ended, now, look.wide), took.unwrap_or_default()));
    }
    if let Some(failure) = &saga.failure {
        facts.toned("failure", failed(failure), Tone::Bad);
    }
    facts.maybe("abandoned", saga.abandoned_because.as_deref());
    if !saga.not_undone.is_empty() {
        facts.toned("not undone", saga.not_undone.join(", "), Tone::Bad);
    }
    facts.fact("owner", owner(saga));
    facts
}

fn kind(saga: &Saga) -> String {
    match (saga.kind.as_str(), saga.version) {
        ("", _) => "unknown: its row does not say it any more".to_owned(),
        (kind, 0) => format!("{kind}, of an unknown version"),
        (kind, version) => format!("{kind}, version {version}"),
    }
}

/// When it was accepted, if its row still says so.
pub(super) fn accepted(saga: &Saga, now: Timestamp, wide: bool) -> String {
    saga.created_at.map_or_else(|| "?".to_owned(), |created| time(created, now, wide))
}

/// `coordinator 0191…, adopted 2 times, executes it`
fn owner(saga: &Saga) -> String {
    let mut words = match (&saga.coordinator, &saga.elsewhere) {
        (None, _) => return "unknown: its row does not say it any more".to_owned(),
        (Some(id), Some(SagaElsewhere { coordinator_name: Some(name), .. })) => {
            format!("coordinator {name} ({id})")
        }
        (Some(id), _) => format!("coordinator {id}"),
    };
    if saga.adoption_epoch > 0 {
        words.push_str(&format!(", adopted {}", count(saga.adoption_epoch, "time")));
    }
    match &saga.elsewhere {
        Some(SagaElsewhere { started_at: Some(started), .. }) => {
            words.push_str(&format!(", started last {started:.0}"));
        }
        Some(_) => {}
        None if saga.state.is_ended() => {}
        None => words.push_str(if saga.executing { ", executes it" } else { ", does not execute it now" }),
    }
    words
}

/// `left: no answer (sled_unreachable, 3 attempts)`
pub(super) fn failed(failure: &SagaFailure) -> String {
    let SagaFailure { code, message, attempts, .. } = failure;
    let attempts = match attempts {
        0 => String::new(),
        attempts => format!(", {}", count(u64::from(*attempts), "attempt")),
    };
    of_node(failure, format!("{message} ({code}{attempts})"))
}

/// `left: what it says`; a failure that is no node's has the words alone.
fn of_node(failure: &SagaFailure, words: String) -> String {
    if failure.node.is_empty() { words } else { format!("{}: {words}", failure.node) }
}

/// How far it is: `5 of 18 done`, `2 undone, 3 to undo`.
#[must_use]
pub fn progress(nodes: &[SagaNode]) -> String {
    use SagaNodeState::{Failed, Skipped, Succeeded, Undoing, Undone};
    let number = |states: &[SagaNodeState]| nodes.iter().filter(|node| states.contains(&node.state)).count();
    let (undone, failed, skipped) = (number(&[Undone]), number(&[Failed]), number(&[Skipped]));
    if undone + number(&[Undoing]) + failed + skipped == 0 {
        return format!("{} of {} done", number(&[Succeeded]), nodes.len());
    }
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    format!("{failed} failed, {undone} undone, {} to undo{skipped}", number(&[Succeeded, Undoing]))
}

/// One row for each node.
pub(super) fn nodes(nodes: &[SagaNode], look: &Look, now: Timestamp) -> String {
    let mut table = Table::new(vec![
        Column::flexible("NODE", 12),
        Column::new("STATE"),
        Column::new("SINCE").expendable(2),
        Column::new("TRIES").expendable(3),
        Column::flexible("ABOUT", 10).expendable(1),
    ]);
    for node in nodes {
        let since = node.since.map_or_else(|| "-".to_owned(), |since| time(since, now, look.wide));
        let tries = if node.attempts == 0 { "-".to_owned() } else { node.attempts.to_string() };
        table.row(vec![
            Cell::new(&node.node),
            Cell::toned(node_word(node.state), node_tone(node.state)),
            Cell::new(since),
            Cell::new(tries),
            Cell::new(node_about(node)),
        ]);
    }
    table.render(look)
}

/// What a node waits for, and what its last attempt says.
pub(super) fn node_about(node: &SagaNode) -> String {
    let waits_for = node.waits_for.as_ref().map(|what| format!("waits for {what}"));
    let parts = [waits_for, node.last_error.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// In plain words, what holds it up, and the commands to type.
#[must_use]
pub fn advice(saga: &Saga, nodes: &[SagaNode], look: &Look, now: Timestamp) -> String {
    let mut text = String::new();
    let mut say = |words: &str, command: Option<String>| {
        text.push('\n');
        for line in wrap(&printable(words), look.width, 0) {
            text.push_str(&format!("{line}\n"));
        }
        if let Some(command) = command {
            text.push_str(&format!("  sledctl {command}\n"));
        }
    };
    let id = id_to_type(saga.id, look);
    for attention in &saga.attention {
        let SagaFailure { node, code, message, attempts } = &attention.failure;
        let (tried, since) = (count(u64::from(*attempts), "attempt"), time(attention.since, now, look.wide));
        say(
            &format!("the undo of {node} does not succeed: {message} ({code}, {tried}, since {since})"),
            None,
        );
    }
    if saga.state == SagaState::NeedsAttention {
        say("once the cause is gone, to try it again:", Some(format!("op retry {id}")));
        let left = left_behind(nodes);
        let left = if left.is_empty() { String::new() } else { format!(" ({})", left.join(", ")) };
        let words = format!("to give it up, which leaves behind what is not undone yet{left}:");
        say(&words, Some(format!("op abandon {id} --reason TEXT")));
    }
    if saga.state == SagaState::Waiting {
        for signal in signals(saga, nodes) {
            say("to let it go on:", Some(format!("op signal {id} {signal}")));
        }
    }
    if saga.state == SagaState::Unreadable {
        let words = "nobody can execute it on, because a part of it cannot be read. nexus db check names all of that; once the \
                     rows are mended, recovery takes it up by itself. To give it up, which leaves behind what is not undone yet:";
        say(words, Some(format!("op abandon {id} --reason TEXT")));
    } else if saga.elsewhere.is_some() {
        let words = "another coordinator owns it: it is executed there, or waits for that coordinator to come back. Whether that \
                     one lives is not known here; its own words on the saga, and its ear for retry, cancel and abandon, are \
                     there:";
        say(words, Some(format!("--url URL op show {id}")));
    } else if saga.lost_by_executor {
        let words = "its executor has lost it, and nobody executes it until its coordinator is started again. That is a defect: \
                     please report it, with the coordinator's log.";
        say(words, None);
    } else if !saga.executing && !saga.state.is_ended() {
        let words = if saga.cannot_go_on {
            "its coordinator cannot go on with it, and tries again by itself:"
        } else {
            "nobody executes it now; recovery takes it up by itself:"
        };
        say(words, Some("task show saga_recovery".to_owned()));
        if saga.cannot_go_on {
            let left = left_behind(nodes);
            let left = if left.is_empty() { String::new() } else { format!(" ({})", left.join(", ")) };
            let words = format!("to give it up, which leaves behind what it has made{left}:");
            say(&words, Some(format!("op abandon {id} --reason TEXT")));
        }
    }
    text
}

/// The nodes whose effects stay if nothing more is undone.
#[must_use]
pub fn left_behind(nodes: &[SagaNode]) -> Vec<&str> {
    use SagaNodeState::{Running, Skipped, Succeeded, Undoing, Unrecognized};
    let stays =
        |node: &&SagaNode| matches!(node.state, Running | Skipped | Succeeded | Undoing | Unrecognized);
    let left = nodes.iter().filter(stays);
    left.map(|node| node.node.as_str()).collect()
}

/// The names of the signals that it waits for, as far as the words tell.
fn signals(saga: &Saga, nodes: &[SagaNode]) -> BTreeSet<String> {
    let words = nodes.iter().filter_map(|node| node.waits_for.as_deref()).chain(saga.waits_for.as_deref());
    words.filter_map(signal_name).collect()
}

/// The name in `signal proceed`; a placeholder where what follows is no plain name; none if no signal is spoken of.
fn signal_name(words: &str) -> Option<String> {
    let mut words = words.split_whitespace().skip_while(|word| *word != "signal").skip(1);
    let name = words.next()?.trim_matches(|c: char| !c.is_alphanumeric());
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    Some(if plain { name.to_owned() } else { "NAME".to_owned() })
}

/// An id to be typed: whole where the line has room for it.
fn id_to_type(id: SagaId, look: &Look) -> String {
    let id = id.to_string();
    let whole = look.width.is_none_or(|width| width >= WHOLE_ID_WIDTH_MIN);
    if whole { id } else { id.get(..ID_CUTS[1]).unwrap_or(&id).to_owned() }
}

/// The last lines of a saga's log.
#[must_use]
pub fn events(events: &[SagaEvent], look: &Look, now: Timestamp) -> String {
    let mut table = Table::new(vec![
        Column::new("LINE"),
        Column::new("TIME").expendable(2),
        Column::flexible("NODE", 10),
        Column::new("EVENT"),
        Column::new("EPOCH").expendable(3),
        Column::flexible("BODY", 8).expendable(1),
    ]);
    let shown = if look.wide { events.len() } else { EVENTS_MAX };
    let before = events.len().saturating_sub(shown);
    for event in &events[before..] {
        let body = match &event.unreadable {
            Some(words) => format!("unreadable: {words}"),
            None if event.body.is_null() => String::new(),
            None => event.body.to_string(),
        };
        let body = if look.wide { body } else { shorten(&body, EVENT_BODY_CHARACTERS_MAX) };
        // Of a line that has lost its event, all that is shown is that it is there.
        let known = |text: String| Cell::new(if event.event.is_empty() { "?".to_owned() } else { text });
        table.row(vec![
            Cell::new(event.number.to_string()),
            known(time(event.time, now, look.wide)),
            known(event.node.clone()),
            known(event.event.clone()),
            known(event.adoption_epoch.to_string()),
            Cell::new(body),
        ]);
    }
    let mut text = format!("\n{}", table.render(look));
    if before > 0 {
        text.push_str(&format!("… {before} before them; -o wide has them all\n"));
    }
    text
}

fn json(value: &Value, look: &Look) -> String {
    let text = value.to_string();
    if look.wide { text } else { shorten(&text, JSON_CHARACTERS_MAX) }
}

/// How long it took; the clocks are those of coordinators, and may differ.
pub(super) fn took(from: Timestamp, to: Timestamp) -> String {
    duration(to.duration_since(from).as_secs_f64().max(0.0))
}

pub(super) fn tone(state: SagaState) -> Tone {
    match state {
        SagaState::Running | SagaState::Unwinding | SagaState::Waiting | SagaState::Elsewhere => Tone::Busy,
        SagaState::NeedsAttention | SagaState::Unreadable | SagaState::Failed | SagaState::Abandoned => {
            Tone::Bad
        }
        SagaState::Succeeded => Tone::Good,
        SagaState::Unrecognized => Tone::Plain,
    }
}

pub(super) fn node_word(state: SagaNodeState) -> &'static str {
    match state {
        SagaNodeState::Pending => "pending",
        SagaNodeState::Running => "running",
        SagaNodeState::Succeeded => "succeeded",
        SagaNodeState::Failed => "failed",
        SagaNodeState::Undoing => "undoing",
        SagaNodeState::Undone => "undone",
        SagaNodeState::Skipped => "skipped",
        SagaNodeState::Unrecognized => "?",
    }
}

fn node_tone(state: SagaNodeState) -> Tone {
    match state {
        SagaNodeState::Pending | SagaNodeState::Unrecognized => Tone::Dim,
        SagaNodeState::Running | SagaNodeState::Undoing => Tone::Busy,
        SagaNodeState::Succeeded => Tone::Good,
        SagaNodeState::Failed | SagaNodeState::Skipped => Tone::Bad,
        SagaNodeState::Undone => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{
        sample::{assert_fits, narrow, now, wide},
        sample_saga::{abandoned, detail, events as sample_events, saga, sagas, stuck, waiting},
    };

    #[test]
    fn list_fits_80_columns() {
        insta::assert_snapshot!(list(&sagas(), &narrow(), now()));
    }

    #[test]
    fn wide_list_has_whole_ids_and_whole_words() {
        insta::assert_snapshot!(list(&sagas(), &wide(), now()));
    }

    #[test]
    fn ids_are_cut_where_they_still_differ() {
        let (one, mut other) = (saga(1, SagaState::Running, 1), saga(1, SagaState::Running, 1));
        let cut_of = |other: &Saga| shortest_cut(&[one.clone(), other.clone()]);
        assert_eq!(cut_of(&saga(2, SagaState::Running, 1)), 13);
        other.id = "0191f2a1-3c1e-7101-8000-0123456789ab".parse().unwrap();
        assert_eq!(cut_of(&other), 18);
        other.id = "0191f2a1-3c1e-7100-8000-0123456789ac".parse().unwrap();
        assert_eq!(cut_of(&other), 36);
    }

    #[test]
    fn waiting_saga_shows_the_signal_to_type() {
        insta::assert_snapshot!(show(&waiting(), &narrow(), now()));
    }

    #[test]
    fn stuck_saga_shows_why_and_both_ways_out_with_what_stays_behind() {
        insta::assert_snapshot!(show(&stuck(), &narrow(), now()));
    }

    #[test]
    fn abandoned_saga_shows_why_and_what_was_not_undone() {
        insta::assert_snapshot!(show(&abandoned(), &narrow(), now()));
    }

    #[test]
    fn saga_that_nobody_executes_says_who_will() {
        let detail = detail(1, [SagaNodeState::Succeeded; 6]);
        insta::assert_snapshot!(show(&detail, &wide(), now()));
    }

    #[test]
    fn saga_that_its_executor_has_lost_waits_for_a_restart_and_not_for_recovery() {
        let mut detail = detail(1, [SagaNodeState::Succeeded; 6]);
        detail.saga.lost_by_executor = true;
        let text = show(&detail, &wide(), now());
        assert!(text.contains("nobody executes it until its coordinator is started again"), "{text}");
        assert!(!text.contains("recovery") && !text.contains("op abandon"), "{text}");
    }

    #[test]
    fn saga_that_cannot_be_gone_on_with_may_be_given_up() {
        let mut detail = detail(1, [SagaNodeState::Succeeded; 6]);
        detail.saga.cannot_go_on = true;
        let text = show(&detail, &narrow(), now());
        assert!(
            text.contains("cannot go on with it, and tries again by itself:\n  sledctl task show"),
            "{text}"
        );
        assert!(text.contains(&format!("  sledctl op abandon {} --reason TEXT\n", detail.saga.id)), "{text}");
        detail.saga.cannot_go_on = false;
        assert!(!show(&detail, &narrow(), now()).contains("op abandon"));
    }

    #[test]
    fn failure_of_no_node_is_told_without_one() {
        let failure = SagaFailure {
            node: String::new(),
            code: "cannot_be_executed".into(),
            message: "no coordinator could go on with it".into(),
            attempts: 0,
        };
        assert_eq!(failed(&failure), "no coordinator could go on with it (cannot_be_executed)");
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        assert_fits(|look| list(&sagas(), look, now()));
        for detail in [waiting(), stuck(), abandoned()] {
            assert_fits(|look| show(&detail, look, now()));
            assert_fits(|look| brief(&detail.saga, look, now()));
        }
        assert_fits(|look| events(&sample_events(40), look, now()));
    }

    #[test]
    fn log_is_cut_where_people_stop_reading() {
        let text = events(&sample_events(40), &narrow(), now());
        insta::assert_snapshot!(text.lines().take(4).collect::<Vec<_>>().join("\n"));
        assert!(text.ends_with("… 20 before them; -o wide has them all\n"), "{text}");
        let whole = events(&sample_events(40), &wide(), now());
        assert_eq!(whole.lines().count(), 42, "{whole}");
    }

    #[test]
    fn signal_is_named_where_the_words_name_it() {
        for (words, name) in [
            ("signal proceed", Some("proceed")),
            ("the signal proceed (wait), the signal go (inner/open)", Some("proceed")),
            ("the signal `go-on`, since 3 min", Some("go-on")),
            ("signal \"a b\"", Some("a")),
            ("a signal", None),
            ("2026-11-20T12:00:00Z", None),
            ("signal $(reboot)x$y", Some("NAME")),
        ] {
            assert_eq!(signal_name(words).as_deref(), name, "{words}");
        }
    }

    #[test]
    fn words_of_a_saga_cannot_move_the_cursor() {
        let mut detail = stuck();
        detail.saga.attention[0].failure.message = "\u{1b}[2Jgone".into();
        let text = show(&detail, &narrow(), now());
        assert!(!text.contains('\u{1b}') && text.contains("gone"), "{text:?}");
    }
}
