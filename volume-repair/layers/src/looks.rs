//! Looking at what blocks hold without reading them, through the layers: run by run, as far as few questions go. A client that wants to know
//! more asks on.
//!
//! ```text
//!   layer 0 tells runs ──► written: told │ never written: what does the layer below say? ──► its runs, and so on
//!                          one that tells less than it was asked ends it: what is behind is not known
//! ```

use crate::{
    jobs::Piece,
    layered::Layered,
    places::{PartId, Section},
    rules::Rule,
    scrub::is_own,
};
use std::collections::VecDeque;
use upstairs::{Action, Holds, Job, JobId, Run};

/// Questions to lower layers for one job. More than there are layers, so something is always told.
const QUESTIONS_MAX: u32 = 32;

/// How far a look is.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// What is known for good, from its first block on.
    told: Vec<Run>,
    /// What was said of the layers so far, from the uppermost one that is not through down to the one that is looked at.
    frames: Vec<Frame>,
    questions: u32,
}

/// What was said of a range of one layer.
#[derive(Debug)]
struct Frame {
    layer: usize,
    /// The first block that is not in `told`.
    at: u64,
    /// The one behind the last that was asked for.
    end: u64,
    runs: VecDeque<Run>,
}

/// What follows from what is known.
enum Next {
    Ask { layer: usize, first: u64, count: u64 },
    Over(Vec<Run>),
}

impl Look {
    fn tell(&mut self, run: Run) {
        match self.told.last_mut() {
            Some(last) if last.holds == run.holds => last.blocks += run.blocks,
            _ => self.told.push(run),
        }
    }

    fn go_on(&mut self, covers: impl Fn(usize, u64, u64) -> u64) -> Next {
        while let Some(frame) = self.frames.last_mut() {
            let Some(run) = frame.runs.pop_front() else {
                let is_short = frame.at < frame.end;
                let end = frame.end;
                self.frames.pop();
                match self.frames.last_mut() {
                    Some(above) if !is_short => above.at = end,
                    _ => break,
                }
                continue;
            };
            let (lower, at) = (frame.layer + 1, frame.at);
            let is_never = run.holds == Holds::Never && Rule::LooksAreTrue.is_kept();
            let covered = if is_never { covers(lower, at, run.blocks) } else { 0 };
            if covered == 0 {
                frame.at += run.blocks;
                self.tell(run);
                continue;
            }
            if self.questions == QUESTIONS_MAX {
                break;
            }
            self.questions += 1;
            if covered < run.blocks {
                frame.runs.push_front(Run { blocks: run.blocks - covered, ..run });
            }
            return Next::Ask { layer: lower, first: at, count: covered };
        }
        Next::Over(std::mem::take(&mut self.told))
    }
}

impl Layered {
    pub(crate) fn begin_look(&mut self, id: JobId, first: u64, count: u64) {
        if let Some(asked) = self.jobs.get_mut(&id) {
            asked.look = Some(Look::default());
        }
        self.look_at(id, 0, first, count, None);
    }

    /// Looks at a range of a layer, and at whatever follows from it without asking anybody.
    fn look_at(&mut self, id: JobId, mut layer: usize, mut first: u64, mut count: u64, guard: Option<usize>) {
        loop {
            let section: Option<Section> = self.layers[layer].sections(first, count).next();
            let Some(section) = section else { return };
            let end = first + count;
            let Some(look) = self.jobs.get_mut(&id).and_then(|asked| asked.look.as_mut()) else { return };
            let mut frame = Frame { layer, at: first, end, runs: VecDeque::new() };
            if let PartId::Set(_) = section.place.part {
                look.frames.push(frame);
                return self.ask_set(id, layer, section, guard, |first, count| Job::Look { first, count });
            }
            // It may have zeros, and nobody has looked.
            frame.runs.push_back(Run { blocks: section.count, holds: Holds::Bytes });
            look.frames.push(frame);
            match self.go_on_looking(id) {
                Some(Next::Ask { layer: below, first: from, count: blocks }) => {
                    (layer, first, count) = (below, from, blocks);
                }
                Some(Next::Over(runs)) => return self.tell(guard, id, Action::Looked(id, runs)),
                None => return,
            }
        }
    }

    fn go_on_looking(&mut self, id: JobId) -> Option<Next> {
        let layers = &self.layers[..self.depth_of(id)?];
        let look = self.jobs.get_mut(&id)?.look.as_mut()?;
        Some(
            look.go_on(|layer, first, count| layers.get(layer).map_or(0, |layer| layer.covers(first, count))),
        )
    }

    /// A region set has said what some blocks hold.
    pub(crate) fn note_looked(&mut self, set: usize, piece: Piece, runs: Vec<Run>) {
        if is_own(piece.job) {
            // It asks what the set itself has, and nothing else.
            return self.act(Action::Looked(piece.job, runs));
        }
        let look = self.jobs.get_mut(&piece.job).and_then(|asked| asked.look.as_mut());
        let Some(frame) = look.and_then(|look| look.frames.last_mut()) else { return };
        frame.runs = VecDeque::from(runs);
        let id = piece.job;
        match self.go_on_looking(id) {
            Some(Next::Ask { layer, first, count }) => {
                self.look_at(id, layer, first, count, piece.guard.or(Some(set)));
            }
            Some(Next::Over(runs)) => self.tell(piece.guard, id, Action::Looked(id, runs)),
            None => {}
        }
    }
}
