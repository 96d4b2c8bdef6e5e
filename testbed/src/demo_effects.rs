//! What demo sagas have left outside the database, and whether it is what sagas promise. Owns the reading of their
//! witness (`<state_dir>/demo-effects/<saga>/<node>.log`, one line per execution) and the rules that hold whatever was
//! killed when; the demo itself is the coordinator's.
//!
//! A node runs a second time only if its end was not durable when its coordinator died. From outside this is seen so:
//!
//! ```text
//!   a node has a `do` in epoch 7      its end was not durable before epoch 7
//!                                     so no node of a later stage can have begun before epoch 7
//!   the same of `undo`, in reverse    no node of an earlier stage can have been undone before
//!   one epoch                         one life: it remembers what it did, so one `do` and one `undo` per node
//! ```

use anyhow::{Context, Result};
use camino::Utf8Path;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
};

/// The demo's nodes, stage by stage: those of one stage run side by side, after all of the stage before.
pub const DEMO_STAGES: [&[&str]; 12] = [
    &["begin"],
    &["left", "middle", "right"],
    &["join"],
    &["open"],
    &["north", "east", "south"],
    &["close"],
    &["red", "green", "blue"],
    &["gather"],
    &["wait"],
    &["sign"],
    &["seal"],
    &["done"],
];

/// One execution of an action or an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DemoEffect {
    /// The coordinator's life.
    pub epoch: u64,
    /// Whether it was the undo.
    pub is_undo: bool,
}

/// How a demo saga was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoEnd<'a> {
    /// Every node succeeds.
    Succeeded,
    /// It was told to fail at this node.
    FailedAt(&'a str),
    /// It was cancelled somewhere.
    Cancelled,
}

/// What one demo saga has left, by node, in the order in which it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DemoEffects {
    nodes: BTreeMap<String, Vec<DemoEffect>>,
}

impl DemoEffects {
    /// Reads the directory of one saga; one that has none has left nothing.
    pub fn read(directory: &Utf8Path) -> Result<DemoEffects> {
        let mut nodes = BTreeMap::new();
        let entries = match directory.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DemoEffects::default()),
            Err(error) => return Err(error).with_context(|| format!("reading {directory}")),
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {directory}"))?;
            let path = entry.path();
            let node = path.file_name().and_then(|name| name.strip_suffix(".log"));
            let node = node.with_context(|| format!("{path} is no log of a node"))?;
            let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
            let lines: Option<Vec<_>> = text.lines().map(parse_line).collect();
            nodes.insert(
                node.to_owned(),
                lines.with_context(|| format!("{path} has a strange line:\n{text}"))?,
            );
        }
        Ok(DemoEffects { nodes })
    }

    /// What a node has done.
    #[must_use]
    pub fn of(&self, node: &str) -> &[DemoEffect] {
        self.nodes.get(node).map_or(&[], Vec::as_slice)
    }

    /// The nodes that have left something.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// The nodes whose action, or whose undo, ran more than once.
    #[must_use]
    pub fn repeated(&self) -> BTreeSet<&str> {
        let more_than_once =
            |effects: &[DemoEffect]| [false, true].iter().any(|undo| epochs(effects, *undo).count() > 1);
        self.nodes
            .iter()
            .filter(|(_, effects)| more_than_once(effects))
            .map(|(node, _)| node.as_str())
            .collect()
    }

    /// Executions in all.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.values().map(Vec::len).sum()
    }

    /// Every broken promise, in words; none is how it should be.
    #[must_use]
    pub fn findings(&self, end: DemoEnd<'_>) -> Vec<String> {
        let known: BTreeSet<&str> = DEMO_STAGES.iter().copied().flatten().copied().collect();
        let mut findings: Vec<String> = self
            .nodes()
            .filter(|node| !known.contains(node))
            .map(|node| format!("{node} is no node of the demo"))
            .collect();
        for (node, effects) in &self.nodes {
            findings.extend(within_node(node, effects));
        }
        findings.extend(self.out_of_order(false));
        findings.extend(self.out_of_order(true));
        for (stage, nodes) in DEMO_STAGES.iter().enumerate() {
            for node in *nodes {
                let wrong = wrong_end(node, stage, self.of(node), end);
                findings.extend(wrong.map(|wrong| format!("{node} {wrong}")));
            }
        }
        findings
    }

    /// Nodes that were begun although one that comes before them, in this direction, had not ended.
    fn out_of_order(&self, undo: bool) -> Vec<String> {
        let what = if undo { "undone" } else { "done" };
        let mut stages: Vec<&[&str]> = DEMO_STAGES.to_vec();
        if undo {
            stages.reverse();
        }
        let mut findings = Vec::new();
        let mut before: Option<(u64, &str)> = None;
        for stage in stages {
            let ends = |node: &&'static str| {
                let mut epochs: Vec<u64> = epochs(self.of(node), undo).collect();
                epochs.sort_unstable();
                Some((*epochs.first()?, *epochs.last()?, *node))
            };
            let here: Vec<_> = stage.iter().filter_map(ends).collect();
            if let Some((last, earlier)) = before {
                let early = here.iter().filter(|(first, _, _)| *first < last);
                findings.extend(early.map(|(first, _, node)| {
                    format!(
                        "{node} was {what} in epoch {first}, and {earlier}, before it, again in epoch {last}"
                    )
                }));
            }
            before = here.iter().map(|(_, last, node)| (*last, *node)).chain(before).max();
        }
        findings
    }
}

/// What is wrong about one node by itself.
fn within_node(node: &str, effects: &[DemoEffect]) -> Vec<String> {
    let mut findings = Vec::new();
    for (undo, what) in [(false, "done"), (true, "undone")] {
        let mut seen = BTreeSet::new();
        let twice = epochs(effects, undo).filter(|epoch| !seen.insert(*epoch));
        findings.extend(twice.map(|epoch| format!("{node} was {what} twice in epoch {epoch}")));
    }
    let first_undo = effects.iter().position(|effect| effect.is_undo).unwrap_or(effects.len());
    if effects[first_undo..].iter().any(|effect| !effect.is_undo) {
        findings.push(format!("{node} was done after it had been undone"));
    }
    findings
}

/// What is wrong about how one node was left.
fn wrong_end(node: &str, stage: usize, effects: &[DemoEffect], end: DemoEnd<'_>) -> Option<&'static str> {
    let was_done = effects.iter().any(|effect| !effect.is_undo);
    let is_undone = effects.last().is_some_and(|effect| effect.is_undo);
    match end {
        DemoEnd::Succeeded if !was_done => Some("was never done"),
        DemoEnd::Succeeded => effects.iter().any(|effect| effect.is_undo).then_some("was undone"),
        DemoEnd::Cancelled => (was_done && !is_undone).then_some("was not undone"),
        DemoEnd::FailedAt(at) => {
            let failed = stage_of(at)?;
            match stage.cmp(&failed) {
                _ if node == at => was_done.then_some("was done, and was told to fail"),
                std::cmp::Ordering::Greater => (!effects.is_empty()).then_some("was begun after a failure"),
                std::cmp::Ordering::Less if !was_done => Some("was never done"),
                _ => (was_done && !is_undone).then_some("was not undone"),
            }
        }
    }
}

fn stage_of(node: &str) -> Option<usize> {
    DEMO_STAGES.iter().position(|stage| stage.contains(&node))
}

fn epochs(effects: &[DemoEffect], undo: bool) -> impl Iterator<Item = u64> {
    effects.iter().filter(move |effect| effect.is_undo == undo).map(|effect| effect.epoch)
}

/// `epoch=7 coordinator=… do`
fn parse_line(line: &str) -> Option<DemoEffect> {
    let mut words = line.split(' ');
    let epoch = words.next()?.strip_prefix("epoch=")?.parse().ok()?;
    words.next()?.strip_prefix("coordinator=")?;
    let is_undo = match words.next()? {
        "do" => false,
        "undo" => true,
        _ => return None,
    };
    words.next().is_none().then_some(DemoEffect { epoch, is_undo })
}

impl fmt::Display for DemoEffects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (node, effects) in &self.nodes {
            write!(f, "{node:>8}:")?;
            for effect in effects {
                write!(f, " {} in epoch {}", if effect.is_undo { "undo" } else { "do" }, effect.epoch)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino_tempfile::Utf8TempDir;

    /// `node epoch epoch …`, an epoch with `u` for an undo.
    fn effects(lines: &[&str]) -> DemoEffects {
        let line = |line: &&str| {
            let mut words = line.split(' ').map(str::to_owned);
            let node = words.next().unwrap();
            let effect = |word: String| DemoEffect {
                epoch: word.trim_end_matches('u').parse().unwrap(),
                is_undo: word.ends_with('u'),
            };
            (node, words.map(effect).collect())
        };
        DemoEffects { nodes: lines.iter().map(line).collect() }
    }

    /// Every node of the stages before this one, done in epoch 1, and the rest of the line after it.
    fn before(stage: usize, rest: &str) -> Vec<String> {
        let nodes = DEMO_STAGES[..stage].iter().copied().flatten();
        nodes.map(|node| format!("{node} 1{rest}")).collect()
    }

    fn judged(lines: &[String], more: &[&str], end: DemoEnd<'_>) -> Vec<String> {
        let all: Vec<&str> = lines.iter().map(String::as_str).chain(more.iter().copied()).collect();
        effects(&all).findings(end)
    }

    #[test]
    fn lines_are_read_as_the_demo_writes_them_and_strange_ones_are_refused() {
        let temp = Utf8TempDir::new().unwrap();
        assert_eq!(DemoEffects::read(&temp.path().join("none")).unwrap().count(), 0);
        let file = temp.path().join("left.log");
        fs::write(&file, "epoch=3 coordinator=c do\nepoch=4 coordinator=c undo\n").unwrap();
        let read = DemoEffects::read(temp.path()).unwrap();
        assert_eq!(read, effects(&["left 3 4u"]));
        assert_eq!(read.to_string(), "    left: do in epoch 3 undo in epoch 4\n");
        for strange in [
            "epoch=3 do",
            "epoch=x coordinator=c do",
            "epoch=3 coordinator=c redo",
            "epoch=3 coordinator=c do it",
        ] {
            assert_eq!(parse_line(strange), None, "{strange}");
        }
        fs::write(&file, "epoch=3 coord").unwrap();
        assert!(DemoEffects::read(temp.path()).unwrap_err().to_string().contains("strange line"));
    }

    #[test]
    fn once_each_is_right_and_one_missing_or_undone_is_not() {
        let all = before(DEMO_STAGES.len(), "");
        assert_eq!(judged(&all, &[], DemoEnd::Succeeded), Vec::<String>::new());
        assert_eq!(judged(&all[1..], &[], DemoEnd::Succeeded), ["begin was never done"]);
        assert_eq!(judged(&all, &["seal 1 1u"], DemoEnd::Succeeded), ["seal was undone"]);
    }

    #[test]
    fn a_second_time_is_right_only_for_what_was_in_flight() {
        let in_flight = judged(&before(4, ""), &["north 1 2", "east 2", "south 1 2"], DemoEnd::Cancelled);
        assert!(in_flight.iter().all(|finding| finding.ends_with("was not undone")), "{in_flight:?}");
        let had_ended = judged(&before(11, ""), &["done 1", "join 1 2"], DemoEnd::Succeeded);
        assert!(
            had_ended
                .iter()
                .any(|it| it == "open was done in epoch 1, and join, before it, again in epoch 2")
        );
        let same_life = judged(&before(11, ""), &["done 1 1"], DemoEnd::Succeeded);
        assert_eq!(same_life, ["done was done twice in epoch 1"]);
    }

    #[test]
    fn a_late_epoch_is_remembered_over_stages_that_left_nothing() {
        let found = judged(&[], &["begin 1 5", "join 2"], DemoEnd::Cancelled);
        assert!(
            found.iter().any(|it| it == "join was done in epoch 2, and begin, before it, again in epoch 5"),
            "{found:?}"
        );
    }

    #[test]
    fn a_failed_saga_is_undone_in_reverse_and_went_no_further() {
        let end = DemoEnd::FailedAt("join");
        let undone = before(2, " 1u");
        assert_eq!(judged(&undone, &[], end), Vec::<String>::new());
        assert_eq!(
            judged(&undone, &["join 1u"], end),
            Vec::<String>::new(),
            "its own undo, where it was in doubt"
        );
        assert_eq!(judged(&undone, &["join 1 1u"], end), ["join was done, and was told to fail"]);
        assert_eq!(judged(&undone, &["open 1 1u"], end), ["open was begun after a failure"]);
        assert_eq!(judged(&undone, &["left 1"], end), ["left was not undone"]);
        assert_eq!(judged(&undone[1..], &[], end), ["begin was never done"]);
        assert_eq!(judged(&undone, &["left 1 1u 2"], end)[0], "left was done after it had been undone");
        let found = judged(&undone, &["left 1 1u 2u"], end);
        assert_eq!(found, ["begin was undone in epoch 1, and left, before it, again in epoch 2"]);
    }

    #[test]
    fn what_is_beside_the_failed_node_may_have_run_or_not() {
        let end = DemoEnd::FailedAt("middle");
        assert_eq!(judged(&["begin 1 1u".to_owned()], &["left 1 1u"], end), Vec::<String>::new());
        assert_eq!(judged(&["begin 1 1u".to_owned()], &["left 1"], end), ["left was not undone"]);
    }

    #[test]
    fn what_ran_more_than_once_is_named() {
        assert_eq!(
            effects(&["left 1 1u", "join 1 2", "open 1 2u 3u"]).repeated(),
            BTreeSet::from(["join", "open"])
        );
    }
}
