//! What comes of all that was told of one repair, in whatever order it came. Pure.
//!
//! ```text
//!               start, progress                  a newer finish
//!                  ┌────┐                           ┌────┐
//!   (no row) ──► running ────────finish────────► finished (terminal) ◄── start, progress: noted, it stays finished
//!        └───────────────────────finish───────────────┘
//! ```
//! Each kind of notice has a place of its own in a [`Repair`], and the notice with the greatest stamp (epoch, then sequence) has it: so an
//! older Upstairs never overwrites a newer one, and no order of delivery matters. Of bytes done the most that was told counts. Whether
//! it has ended is whether there is a finish, and none is ever taken away.
//!
//! What contradicts itself is refused, and changes nothing: the same id for another member, or one stamp for two contents of a kind.

use super::notice::{Finish, Notice, Progress, Said, Stamp, Start, Subject};
use jiff::Timestamp;
use std::cmp::Ordering;

/// What was told of one repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Which, and of what.
    pub subject: Subject,
    /// The newest notice of any kind.
    pub newest: Stamp,
    /// The newest start.
    pub start: Option<Part<Start>>,
    /// The newest progress; its bytes are the most that was told by any.
    pub progress: Option<Part<Progress>>,
    /// The newest finish.
    pub finish: Option<Part<Finish>>,
}

/// The newest notice of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// Its place in the order: epoch, then sequence.
    pub place: (u32, u64),
    /// The sender's time.
    pub told_at: Timestamp,
    /// What was told.
    pub said: T,
}

/// A notice that contradicts what was told before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The id is another repair's.
    OtherRepair(Box<Subject>),
    /// A notice of this kind and stamp has said something else.
    OtherContent,
}

impl Repair {
    /// After its first notice.
    pub(super) fn begun_by(notice: &Notice) -> Repair {
        let subject = notice.subject.clone();
        let none = Repair { subject, newest: notice.stamp, start: None, progress: None, finish: None };
        none.with(notice).expect("nothing is there that it could contradict")
    }

    /// After one more notice; none if that changes nothing.
    pub(super) fn take(self, notice: &Notice) -> Result<Option<Repair>, Conflict> {
        if self.subject != notice.subject {
            return Err(Conflict::OtherRepair(Box::new(self.subject)));
        }
        let before = self.clone();
        let after = self.with(notice)?;
        Ok((after != before).then_some(after))
    }

    fn with(mut self, notice: &Notice) -> Result<Repair, Conflict> {
        match &notice.said {
            Said::Start(start) => newer(&mut self.start, &notice.stamp, start)?,
            Said::Finish(finish) => newer(&mut self.finish, &notice.stamp, finish)?,
            Said::Progress(progress) => {
                // What was done is not undone, whoever tells it later.
                let done = self.progress.as_ref().map_or(0, |known| known.said.bytes_done);
                let bytes_done = done.max(progress.bytes_done);
                if let Some(known) = &mut self.progress {
                    known.said.bytes_done = bytes_done;
                }
                newer(&mut self.progress, &notice.stamp, &Progress { bytes_done, ..progress.clone() })?;
            }
        }
        let order = |stamp: &Stamp| (stamp.place(), stamp.told_at, stamp.config_version);
        if order(&notice.stamp) > order(&self.newest) {
            self.newest = notice.stamp;
        }
        Ok(self)
    }
}

/// Gives the notice the place if it is newer than what has it.
fn newer<T: Clone + PartialEq>(part: &mut Option<Part<T>>, stamp: &Stamp, said: &T) -> Result<(), Conflict> {
    let new = Part { place: stamp.place(), told_at: stamp.told_at, said: said.clone() };
    match part.as_ref().map_or(Ordering::Greater, |known| new.place.cmp(&known.place)) {
        Ordering::Greater => *part = Some(new),
        Ordering::Equal if part.as_ref() != Some(&new) => return Err(Conflict::OtherContent),
        Ordering::Equal | Ordering::Less => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repairs::{Outcome, RegionLife};
    use ids::{RegionId, RegionSetId, RepairId, VolumeId};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn notice(epoch: u32, sequence: u64, said: Said) -> Notice {
        let id = Uuid::from_u128;
        let subject = Subject {
            id: RepairId(id(1)),
            volume: VolumeId(id(2)),
            region_set: RegionSetId(id(3)),
            region: RegionLife { id: RegionId(id(4)), incarnation: 1 },
            replaces: None,
            bytes: 1_000,
        };
        let told_at = Timestamp::from_second(i64::from(epoch) * 1_000 + sequence.cast_signed()).unwrap();
        Notice { subject, stamp: Stamp { epoch, sequence, config_version: 7, told_at }, said }
    }

    fn start(why: &str) -> Said {
        Said::Start(Start { why: why.to_owned() })
    }

    fn progress(bytes_done: u64) -> Said {
        Said::Progress(Progress { phase: "copying".to_owned(), waits: Vec::new(), bytes_done })
    }

    fn finish(outcome: Outcome) -> Said {
        Said::Finish(Finish { outcome, interrupted_by: None })
    }

    fn after(notices: &[&Notice]) -> Repair {
        let (first, rest) = notices.split_first().unwrap();
        let take = |repair: Repair, notice: &&Notice| {
            let same = repair.clone();
            repair.take(notice).unwrap().unwrap_or(same)
        };
        rest.iter().fold(Repair::begun_by(first), take)
    }

    /// Every order of these that differs from the others.
    fn orders(left: &mut Vec<usize>, taken: &mut Vec<usize>, found: &mut BTreeSet<Vec<usize>>) {
        if left.is_empty() {
            found.insert(taken.clone());
        }
        let choices: BTreeSet<usize> = left.iter().copied().collect();
        for choice in choices {
            let at = left.iter().position(|one| *one == choice).unwrap();
            left.remove(at);
            taken.push(choice);
            orders(left, taken, found);
            taken.pop();
            left.insert(at, choice);
        }
    }

    #[test]
    fn every_order_of_start_two_progresses_and_finish_each_twice_comes_to_the_same() {
        let told = [
            notice(5, 1, start("catches_up")),
            notice(5, 2, progress(900)),
            // The filling has begun again: less is told than before.
            notice(5, 3, progress(300)),
            notice(5, 4, finish(Outcome::Completed)),
        ];
        let mut found = BTreeSet::new();
        orders(&mut vec![0, 0, 1, 1, 2, 2, 3, 3], &mut Vec::new(), &mut found);
        assert_eq!(found.len(), 2_520, "8! / 2^4");
        let ends: Vec<Repair> = found
            .into_iter()
            .map(|order| after(&order.into_iter().map(|number| &told[number]).collect::<Vec<_>>()))
            .collect();
        let end = &ends[0];
        assert!(ends.iter().all(|other| other == end));
        assert_eq!(end.progress.as_ref().map(|part| (part.place, part.said.bytes_done)), Some(((5, 3), 900)));
        assert_eq!(end.newest, told[3].stamp);
        assert!(end.start.is_some() && end.finish.is_some());
    }

    #[test]
    fn of_two_epochs_the_newer_one_counts_and_what_has_ended_stays_so() {
        let old = notice(5, 90, finish(Outcome::Interrupted));
        let new = notice(6, 1, finish(Outcome::Completed));
        for order in [[&old, &new], [&new, &old]] {
            assert_eq!(after(&order).finish.unwrap().said.outcome, Outcome::Completed);
        }
        let later = [&old, &notice(6, 1, start("catches_up")), &notice(6, 2, progress(10))];
        assert!(after(&later).finish.is_some());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let known = after(&[&notice(5, 1, start("catches_up"))]);
        let other = |change: fn(&mut Subject)| {
            let mut other = notice(5, 2, progress(1));
            change(&mut other.subject);
            let refused = known.clone().take(&other);
            assert_eq!(refused, Err(Conflict::OtherRepair(Box::new(known.subject.clone()))));
        };
        other(|subject| subject.volume = VolumeId::generate());
        other(|subject| subject.region_set = RegionSetId::generate());
        other(|subject| subject.region.id = RegionId::generate());
        other(|subject| subject.region.incarnation += 1);
        other(|subject| subject.replaces = Some(RegionLife { incarnation: 9, ..subject.region }));
        other(|subject| subject.bytes += 1);
        let contrary = notice(5, 1, start("replaces_gone"));
        assert_eq!(known.clone().take(&contrary), Err(Conflict::OtherContent));
        assert_eq!(known.take(&notice(5, 1, start("catches_up"))), Ok(None));
    }

    fn any_notice() -> impl Strategy<Value = Notice> {
        let said = prop_oneof![
            Just(start("catches_up")),
            (0..=1_000_u64).prop_map(progress),
            Just(finish(Outcome::Completed)),
            Just(finish(Outcome::Interrupted)),
        ];
        (1..4_u32, said).prop_map(|(epoch, said)| notice(epoch, 0, said))
    }

    proptest! {
        /// Each has a stamp of its own, as senders give them.
        #[test]
        fn any_notices_in_any_order_with_any_duplicates_come_to_the_same(
            said in prop::collection::vec(any_notice(), 1..8),
            orders in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..16), 2),
        ) {
            let told: Vec<Notice> = (1..)
                .zip(said)
                .map(|(sequence, said)| notice(said.stamp.epoch, sequence, said.said))
                .collect();
            let ends = orders.iter().map(|order| {
                let some = order.iter().map(|index| index.get(&told));
                after(&some.chain(&told).collect::<Vec<_>>())
            });
            let reversed = after(&told.iter().rev().collect::<Vec<_>>());
            for end in ends {
                prop_assert_eq!(&end, &reversed);
            }
            let ended = told.iter().any(|notice| matches!(notice.said, Said::Finish(_)));
            prop_assert_eq!(reversed.finish.is_some(), ended);
        }
    }
}
