//! Who is full, as this member is told.

use crate::{
    member::{Member, NotDone},
    rules::Rule,
};
use region::{Control, List, Position};
use region_wire::{Refusal, Reply};

impl Member {
    /// Keeps a list, durably. If it makes this member full, what it has is durable before: a power cut within one sync could leave
    /// the word and not the bytes.
    pub(crate) fn set_list(&mut self, id: u64, list: List) -> Result<Reply, NotDone> {
        let control = self.region.control();
        let kept = &control.list;
        if list == *kept {
            // Its writer says once more that it is full: it has all that it ever had, or will when this is durable.
            let is_cleared =
                control.is_suspect && self.region.is_full() && list.base <= self.region.applied();
            if is_cleared && control.promoted.epoch == list.version.epoch {
                self.region.sync()?;
                let control = Control { is_suspect: false, ..self.region.control().clone() };
                self.region.set_control(control)?;
            }
            return Ok(Reply::ListKept { id });
        }
        let refused = |why: String| Ok(Reply::Refused(Refusal::List { id, why }));
        if list.version <= kept.version {
            return refused(format!("list {} is not newer than {}", list.version, kept.version));
        }
        if list.version.epoch != control.promoted.epoch {
            return refused(format!("list {} is of another writer", list.version));
        }
        let (is_in, applied) = (list.full.contains(&self.region.member()), self.region.applied());
        if is_in && list.base > applied && Rule::BaseIsApplied.is_kept() {
            return refused(format!("it holds from {} on, and {applied} is applied", list.base));
        }
        if is_in && !self.region.is_full() && Rule::FullIsDurable.is_kept() {
            self.region.sync()?;
        }
        let control = Control { list, is_suspect: false, ..self.region.control().clone() };
        self.region.set_control(control)?;
        Ok(Reply::ListKept { id })
    }

    /// A member that is not full takes part in the stream from here on.
    pub(crate) fn join(&mut self, position: Position) -> Result<(), NotDone> {
        if self.region.is_full() {
            return Err(NotDone::Wrong("a full member has its place in the stream".to_owned()));
        }
        let control = self.region.control();
        if position.epoch > control.promoted.epoch && control.clone_of.is_none() {
            return Err(NotDone::Wrong(format!("{position} is of a later epoch than its writer's")));
        }
        match self.region.write(position, &[]) {
            Ok(_) => {
                self.unsynced += 1;
                Ok(())
            }
            Err(error) => {
                let not_done = self.not_written(error);
                if matches!(not_done, NotDone::Wait(_)) {
                    self.put_back(region_wire::Request::Join(position));
                }
                Err(not_done)
            }
        }
    }
}
