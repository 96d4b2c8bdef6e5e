//! Snapshots of a region set: all full members keep what they have at one position of the stream.
//!
//! **Theory.** A position is one content of all blocks, and each member reaches it, in the order of its connection. So it is enough to ask each of
//! them for a snapshot between the write of that position and the next one: nobody has to stop, and nobody waits for anybody else. A
//! member that is past it, because it was brought up or has lost the snapshot with its power, refuses, and does not have it.
//!
//! Who asks for it once more, because the answer was lost, asks at a later position. Members that have it say of which one it is, and two that have
//! it of the same one have the same content: that is it. If only one has it of an earlier position it is not taken: one name has one content.
//!
//! ```text
//!   asked, at the newest position P ──► of each full member: the stream is sent up to P ──► asked ──► has it, or refuses
//!                                                               ▲                             │ its connection is lost
//!                                                               └─────────────────────────────┘
//!   two have it of one position, nobody of an earlier one, and nobody else is waited for ──► done, with the names of those
//!   two cannot have it any more, or do not in PATIENCE ──► not taken: whoever asked deletes what one of them may have
//!   writes before it have no room for PATIENCE ──► not begun
//! ```

use crate::{
    rules::Rule,
    types::{Action, JobError, JobId, PeerId},
    upstairs::{Purpose, Upstairs},
};
use ids::{RegionId, SnapshotId};
use region::{Member, Position};
use region_wire::Request;
use std::{collections::BTreeMap, time::Duration};

/// Snapshots that are taken or deleted at the same time at most.
const AT_ONCE: usize = 16;

/// Members that are away are waited for so long. If the others are not enough by then it is not taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A snapshot that is to be taken, or deleted.
#[derive(Debug)]
pub(crate) struct Snapshotting {
    pub(crate) job: JobId,
    snapshot: SnapshotId,
    wants: Wants,
    since: Duration,
    /// Those that were asked on the connection that they have now, and by which request.
    asked: BTreeMap<PeerId, u64>,
    /// Of which position it is, of those that have it.
    answered: BTreeMap<Member, Result<Option<Position>, String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// What was written up to here.
    At(Position),
    Gone,
}

impl Snapshotting {
    /// The regions that have done it; of snapshots, those that have the oldest one: who has one of a later position took it just now, under a name
    /// that had its content already.
    fn regions_that_agree(&self) -> Vec<RegionId> {
        let mut all: BTreeMap<Option<Position>, Vec<RegionId>> = BTreeMap::new();
        for (member, answer) in &self.answered {
            if let Ok(of) = answer {
                all.entry(*of).or_default().push(member.region);
            }
        }
        all.into_values().next().unwrap_or_default()
    }

    /// For people.
    fn not_taken(&self) -> String {
        let said = self.answered.iter().map(|(member, answer)| match answer {
            Ok(Some(of)) => format!("region {} has one of position {of}", member.region),
            Ok(None) => format!("region {} has done it", member.region),
            Err(why) => format!("region {}: {why}", member.region),
        });
        let said = said.collect::<Vec<_>>().join("; ");
        format!(
            "it is not taken, because two members do not have the same: {said}; delete it, and take one of another id"
        )
    }

    /// For people.
    fn not_taken_in_time(&self) -> String {
        let done = self.answered.iter().filter(|(_, answer)| answer.is_ok());
        let done: Vec<String> = done.map(|(member, _)| member.region.to_string()).collect();
        let have = match &done[..] {
            [] => "none of them is known to have it, and one that was asked may".to_owned(),
            done => format!("{} has it", done.join(", ")),
        };
        let seconds = PATIENCE.as_secs();
        format!(
            "two full members were not there to take it within {seconds} s; of the regions {have}: delete it"
        )
    }
}

impl Upstairs {
    pub(crate) fn begin_snapshot(&mut self, job: JobId, snapshot: SnapshotId, since: Duration) {
        self.begin_snapshotting((job, since), snapshot, Wants::At(self.newest()));
    }

    pub(crate) fn begin_delete_snapshot(&mut self, job: JobId, snapshot: SnapshotId, since: Duration) {
        self.begin_snapshotting((job, since), snapshot, Wants::Gone);
    }

    /// By a job that was asked then: it is not begun at once where writes before it wait.
    fn begin_snapshotting(&mut self, (job, since): (JobId, Duration), snapshot: SnapshotId, wants: Wants) {
        let refused = |why: &str| Err(JobError::Snapshot { snapshot, why: why.to_owned() });
        if self.snapshots.len() >= AT_ONCE {
            let why = "as many snapshots as there may be are taken or deleted just now: try again later";
            return self.act(Action::Done(job, refused(why)));
        }
        if self.snapshots.iter().any(|other| other.snapshot == snapshot) {
            let why = "it is taken or deleted just now: try again later";
            return self.act(Action::Done(job, refused(why)));
        }
        let (asked, answered) = (BTreeMap::new(), BTreeMap::new());
        self.snapshots.push(Snapshotting { job, snapshot, wants, since, asked, answered });
    }

    /// Asks a member for those that it has reached, before it is sent more of the stream.
    pub(crate) fn ask_snapshots(&mut self, peer: PeerId) {
        if self.snapshots.is_empty() || !self.peers[peer.0].is_streaming() {
            return;
        }
        let (member, sent, is_full) =
            (self.peers[peer.0].member, self.peers[peer.0].sent, self.is_full(peer));
        for number in 0..self.snapshots.len() {
            let Snapshotting { snapshot, wants, asked, answered, .. } = &self.snapshots[number];
            let (snapshot, wants) = (*snapshot, *wants);
            let is_due = match wants {
                Wants::At(position) => is_full && sent >= position,
                Wants::Gone => true,
            };
            if !is_due || asked.contains_key(&peer) || answered.contains_key(&member) {
                continue;
            }
            let id = self.ask(peer, Purpose::Snapshot, |id| match wants {
                Wants::At(at) => Request::Snapshot { id, snapshot, at },
                Wants::Gone => Request::DeleteSnapshot { id, snapshot },
            });
            self.snapshots[number].asked.insert(peer, id);
        }
    }

    pub(crate) fn note_snapshot(&mut self, peer: PeerId, id: u64, answer: Result<Option<Position>, String>) {
        if self.take_purpose(id) != Some((peer, Purpose::Snapshot)) {
            return;
        }
        let member = self.peers[peer.0].member;
        if let Some(one) = self.snapshots.iter_mut().find(|one| one.asked.get(&peer) == Some(&id)) {
            one.asked.remove(&peer);
            one.answered.insert(member, answer);
        }
    }

    /// What it was asked it may not have heard.
    pub(crate) fn note_snapshots_lost(&mut self, peer: PeerId) {
        for one in &mut self.snapshots {
            one.asked.remove(&peer);
        }
    }

    /// Answers those that were not begun for too long. Nobody was asked for one of them, and nobody will be.
    pub(crate) fn give_up_waiting_snapshots(&mut self) {
        let Some(before) = self.now.checked_sub(PATIENCE) else { return };
        for (job, snapshot) in self.jobs.take_late_snapshots(before) {
            let seconds = PATIENCE.as_secs();
            let why = format!(
                "writes before it have waited for {seconds} s, and no member was asked: nothing is changed"
            );
            self.act(Action::Done(job, Err(JobError::Snapshot { snapshot, why })));
        }
    }

    /// Answers those that have waited for too long. While it is not active nobody is asked, and nobody knows what is full.
    pub(crate) fn give_up_late_snapshots(&mut self) {
        let now = self.now;
        let is_late = |one: &mut Snapshotting| now.saturating_sub(one.since) >= PATIENCE;
        for one in self.snapshots.extract_if(.., is_late).collect::<Vec<_>>() {
            let why = match one.wants {
                Wants::At(_) => one.not_taken_in_time(),
                Wants::Gone => "members may have it still: two full ones are not there".to_owned(),
            };
            self.act(Action::Done(one.job, Err(JobError::Snapshot { snapshot: one.snapshot, why })));
        }
    }

    /// Answers what is done.
    pub(crate) fn finish_snapshots(&mut self) {
        for one in std::mem::take(&mut self.snapshots) {
            match self.verdict(&one) {
                None => self.snapshots.push(one),
                Some(Ok(regions)) => {
                    if let Wants::At(_) = one.wants {
                        self.act(Action::Snapshotted(one.job, regions));
                    }
                    self.act(Action::Done(one.job, Ok(())));
                }
                // Nobody lets go by itself of what it has: it may be one of that name that was taken before.
                Some(Err(why)) => {
                    let error = JobError::Snapshot { snapshot: one.snapshot, why };
                    self.act(Action::Done(one.job, Err(error)));
                }
            }
        }
    }

    /// Whether it is done, and the regions that have done it.
    fn verdict(&self, one: &Snapshotting) -> Option<Result<Vec<RegionId>, String>> {
        let is_waited_for = |member: &Member| match one.wants {
            Wants::At(_) => self.list.full.contains(member),
            Wants::Gone => true,
        };
        let members = self.members().map(|(_, member)| member);
        let open: Vec<Member> =
            members.filter(|member| is_waited_for(member) && !one.answered.contains_key(member)).collect();
        let done = one.regions_that_agree();
        let mut refusals =
            one.answered.iter().filter_map(|(member, answer)| Some((member.region, answer.as_ref().err()?)));
        let is_late = self.now.saturating_sub(one.since) >= PATIENCE;
        let enough = if Rule::TwoHaveASnapshot.is_kept() { 2 } else { 1 };
        match one.wants {
            Wants::At(_) if done.len() + open.len() < 2 => Some(Err(one.not_taken())),
            Wants::At(_) if done.len() >= enough => (open.is_empty() || is_late).then_some(Ok(done)),
            Wants::At(_) => is_late.then(|| Err(one.not_taken_in_time())),
            Wants::Gone => match (refusals.next(), open.first()) {
                (Some((region, why)), _) => Some(Err(format!("region {region} has it still: {why}"))),
                (None, Some(member)) if is_late => {
                    Some(Err(format!("region {} is away, and may have it still", member.region)))
                }
                (None, Some(_)) => None,
                (None, None) => Some(Ok(done)),
            },
        }
    }
}
