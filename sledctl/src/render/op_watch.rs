//! A saga while it is watched: what changed, where it stands, how it ended.

use super::{
    Look,
    op::{about, accepted, advice, failed, node_about, node_word, nodes, progress, tone, took},
    table::wrap,
    words::{count, printable},
};
use jiff::Timestamp;
use nexus_client::sagas::{Saga, SagaDetail, SagaNode, SagaNodeState, SagaState};

/// Nodes that a block shows at a time: it must fit any terminal.
const BLOCK_NODES_MAX: usize = 8;

/// What has changed since it was looked at before, one line each; at the first look, where it stands.
#[must_use]
pub fn changes(before: Option<&SagaDetail>, detail: &SagaDetail, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let saga = &detail.saga;
    if before.is_none() {
        let created = accepted(saga, now, false);
        lines.push(format!("saga {} ({}), accepted {created}", saga.id, saga.kind));
    }
    for (place, node) in detail.nodes.iter().enumerate() {
        let known = before.and_then(|before| before.nodes.get(place));
        let began = known.is_none() && node.state != SagaNodeState::Pending;
        if began
            || known.is_some_and(|known| (known.state, &known.last_error) != (node.state, &node.last_error))
        {
            lines.push(format!(
                "  {} {}{}",
                node.node,
                node_word(node.state),
                after_colon(&node_about(node))
            ));
        }
    }
    let stands = |saga: &Saga| (saga.state, about(saga));
    if before.is_none_or(|before| stands(&before.saga) != stands(saga)) {
        lines.push(format!(
            "{}, {}{}",
            saga.state.word(),
            progress(&detail.nodes),
            after_colon(&about(saga))
        ));
    }
    lines
}

fn after_colon(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// The few lines that say where it stands, to be drawn in one place.
#[must_use]
pub fn block(detail: &SagaDetail, look: &Look, now: Timestamp) -> String {
    let saga = &detail.saga;
    let since =
        saga.created_at.map(|created| format!(", for {}", took(created, saga.ended_at.unwrap_or(now))));
    let (word, since) = (saga.state.word(), since.unwrap_or_default());
    let head = format!("{} {word}, {}{since}", printable(&saga.kind), progress(&detail.nodes));
    let head = wrap(&head, look.width, 2).join("\n");
    let mut text = format!("{}\n", head.replacen(word, &look.paint(tone(saga.state), word), 1));
    let active = |node: &&SagaNode| {
        use SagaNodeState::{Failed, Running, Undoing};
        matches!(node.state, Running | Undoing | Failed)
    };
    let active: Vec<SagaNode> = detail.nodes.iter().filter(active).cloned().collect();
    let shown = active.len().min(BLOCK_NODES_MAX);
    if shown > 0 {
        text.push_str(&nodes(&active[..shown], &Look { headers: false, ..*look }, now));
    }
    if active.len() > shown {
        text.push_str(&format!("… {}\n", count((active.len() - shown) as u64, "more node")));
    }
    text.push_str(&advice(saga, &detail.nodes, look, now));
    text
}

/// How it ended, as the end of a sentence that begins with its id; none if it has succeeded.
#[must_use]
pub fn bad_end(saga: &Saga) -> Option<String> {
    let why = saga.failure.as_ref().map_or_else(String::new, |failure| format!(": {}", failed(failure)));
    match saga.state {
        SagaState::Succeeded => None,
        SagaState::Abandoned => {
            let left = if saga.not_undone.is_empty() {
                String::new()
            } else {
                format!("; may be left behind: {}", saga.not_undone.join(", "))
            };
            Some(format!("was abandoned{why}{left}"))
        }
        SagaState::Failed => Some(format!("failed, and every effect is undone{why}")),
        other => Some(format!("is {}", other.word())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{
        sample::{assert_fits, narrow, now},
        sample_saga::{abandoned, detail, stuck, waiting},
    };

    #[test]
    fn first_look_says_where_it_stands_and_later_ones_what_changed() {
        let first = changes(None, &waiting(), now());
        insta::assert_snapshot!(first.join("\n"));
        assert!(changes(Some(&waiting()), &waiting(), now()).is_empty());
        let mut later = waiting();
        later.nodes[3].state = SagaNodeState::Succeeded;
        later.nodes[4].state = SagaNodeState::Running;
        (later.nodes[3].waits_for, later.saga.waits_for) = (None, None);
        later.saga.state = SagaState::Running;
        insta::assert_snapshot!(changes(Some(&waiting()), &later, now()).join("\n"), @r"
          inner/one succeeded
          inner/two running
        running, 4 of 6 done
        ");
    }

    #[test]
    fn attempt_that_fails_is_a_change() {
        let mut later = stuck();
        later.nodes[3].last_error = Some("sled-b: no route".into());
        assert_eq!(changes(Some(&stuck()), &later, now()), ["  inner/one undoing: sled-b: no route"]);
    }

    #[test]
    fn block_shows_what_is_being_done_and_what_it_waits_for() {
        insta::assert_snapshot!(block(&waiting(), &narrow(), now()));
        insta::assert_snapshot!(block(&stuck(), &narrow(), now()));
    }

    #[test]
    fn block_is_no_higher_and_no_wider_than_a_small_terminal() {
        let mut large = detail(0, [SagaNodeState::Running; 6]);
        large.nodes = large.nodes.iter().cycle().take(400).cloned().collect();
        let text = block(&large, &narrow(), now());
        assert_eq!(text.lines().count(), 2 + BLOCK_NODES_MAX, "{text}");
        assert!(text.contains("… 392 more nodes\n"), "{text}");
        for detail in [waiting(), stuck(), large] {
            assert_fits(|look| block(&detail, look, now()));
        }
    }

    #[test]
    fn only_success_is_no_bad_end() {
        assert_eq!(bad_end(&detail(5, [SagaNodeState::Succeeded; 6]).saga), None);
        assert_eq!(
            bad_end(&detail(6, [SagaNodeState::Undone; 6]).saga).unwrap(),
            "failed, and every effect is undone: left: was told to fail here (demo_refused, 1 attempt)"
        );
        let abandoned = bad_end(&abandoned().saga).unwrap();
        assert!(abandoned.ends_with("; may be left behind: first, inner/one"), "{abandoned}");
    }
}
