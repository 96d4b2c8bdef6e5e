//! The machine's face. A volume that is one region set, with nothing under it, is that set's Upstairs: what it is asked and says goes through
//! here as it is, so that such a volume, which most are, pays nothing for what others are.

use crate::{
    composition::{Composition, Part},
    layered::Layered,
    scrub::{ParentNeeded, ScrubError},
    sources::{Fetch, FetchError, FetchId, Queue, SourceId},
    status::VolumeStatus,
};
use region::Member;
use region_wire::Reply;
use std::{num::NonZeroU64, time::Duration};
use upstairs::{
    Action, ActivateError, Config, Data, Job, JobId, Members, MembersError, PLACES, PeerId, Trouble, Upstairs,
};

/// A volume, between its clients and its parts.
#[derive(Debug)]
pub struct Volume {
    shape: Shape,
    blocks: u64,
}

#[derive(Debug)]
enum Shape {
    /// One region set.
    Alone(Box<Upstairs>),
    Layers(Box<Layered>),
}

impl Volume {
    /// Of these parts; `source_blocks` says how many blocks each of its sources has, in the order of [`Composition::sources`]. Does nothing
    /// before it is activated.
    ///
    /// # Panics
    /// If a source has no size, or the blocks cannot be counted: whoever composes it sees to that.
    #[must_use]
    pub fn new(composition: Composition, source_blocks: &[u64]) -> Volume {
        let Composition { block_size, mut layers } = composition;
        if let [parts] = &mut layers[..]
            && parts.len() == 1
        {
            match parts.pop() {
                Some(Part::RegionSet { config, .. }) => {
                    let blocks = config.geometry.blocks;
                    return Volume { shape: Shape::Alone(Box::new(Upstairs::new(*config))), blocks };
                }
                other => parts.extend(other),
            }
        }
        let mut layered = Layered::new(block_size.bytes() as u64);
        let mut sizes = source_blocks.iter().copied();
        for parts in layers {
            layered.add_layer();
            for part in parts {
                match part {
                    Part::RegionSet { config, .. } => {
                        let Config { geometry, .. } = *config;
                        layered.add_set(Upstairs::new(*config), geometry.blocks);
                    }
                    Part::Source(source) => {
                        let blocks = sizes.next().expect("each source has a size");
                        layered.add_source(Queue::new(source, blocks, block_size.bytes() as u64));
                    }
                }
            }
        }
        Volume { blocks: layered.layers[0].blocks, shape: Shape::Layers(Box::new(layered)) }
    }

    /// How many blocks it has.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether nothing can be written, because one of its own parts is only read: a file, a URL, a snapshot.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(&self.shape, Shape::Layers(layered) if layered.is_read_only)
    }

    /// Whether it was told to look for the members of its region sets.
    #[must_use]
    pub fn is_activated(&self) -> bool {
        match &self.shape {
            Shape::Alone(upstairs) => upstairs.is_activated(),
            Shape::Layers(layered) => layered.is_activated,
        }
    }

    /// Begins to look for the members of all region sets.
    pub fn activate(&mut self, now: Duration) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.activate(now),
            Shape::Layers(layered) => layered.activate(now),
        }
    }

    /// The same, with a right that was not known when it was made, for its own region sets; those that lie under it use theirs.
    ///
    /// # Errors
    /// [`ActivateError`]; nothing has changed.
    pub fn activate_with(&mut self, now: Duration, epoch: u32) -> Result<Vec<Action>, ActivateError> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.activate_with(now, epoch),
            Shape::Layers(layered) => layered.activate_with(now, epoch),
        }
    }

    /// Whether more may be asked: otherwise what is asked waits, here.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match &self.shape {
            Shape::Alone(upstairs) => upstairs.has_room(),
            Shape::Layers(layered) => layered.has_room(),
        }
    }

    /// A client asks something.
    pub fn submit(&mut self, now: Duration, id: JobId, job: Job) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.submit(now, id, job),
            Shape::Layers(layered) => layered.submit(now, id, job),
        }
    }

    /// Nobody waits for this job any more: if it compares, it ends, and nothing is said of it. Whatever else was asked goes to its end.
    pub fn give_up_compare(&mut self, now: Duration, id: JobId) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.give_up_compare(now, id),
            Shape::Layers(layered) => layered.give_up(now, id),
        }
    }

    /// A connection that was asked for is there, or is not.
    pub fn connected(&mut self, now: Duration, peer: PeerId, is_there: bool) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.connected(now, peer, is_there),
            Shape::Layers(layered) => {
                layered.tell_upstairs(now, peer, |upstairs, place| upstairs.connected(now, place, is_there))
            }
        }
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, now: Duration, peer: PeerId) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.disconnected(now, peer),
            Shape::Layers(layered) => {
                layered.tell_upstairs(now, peer, |upstairs, place| upstairs.disconnected(now, place))
            }
        }
    }

    /// A member says something.
    pub fn received(&mut self, now: Duration, peer: PeerId, replies: Vec<Reply>) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.received(now, peer, replies),
            Shape::Layers(layered) => layered.received(now, peer, replies),
        }
    }

    /// Time has gone by. To be called every quarter of a second or so.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.tick(now),
            Shape::Layers(layered) => layered.tick(now),
        }
    }

    /// What is to be read from files, URLs and snapshots, behind any event. Each is answered once, with [`Volume::fetched`]. Few are under way at a
    /// time, so whoever reads needs no limit of its own.
    #[must_use]
    pub fn take_fetches(&mut self) -> Vec<Fetch> {
        match &mut self.shape {
            Shape::Alone(_) => Vec::new(),
            Shape::Layers(layered) => layered.take_fetches(),
        }
    }

    /// What was read from a source, in its order, or why not. What it says that nobody ever wrote is looked for in the layer below.
    ///
    /// # Panics
    /// If it has other blocks than were to be read.
    pub fn fetched(
        &mut self,
        now: Duration,
        id: FetchId,
        result: Result<Vec<Data>, FetchError>,
    ) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(_) => Vec::new(),
            Shape::Layers(layered) => layered.fetched(now, id, result),
        }
    }

    /// Its region sets: its own first, then those that lie under it, in the order of [`Composition::layers`].
    fn sets(&self) -> Vec<&Upstairs> {
        match &self.shape {
            Shape::Alone(upstairs) => vec![upstairs],
            Shape::Layers(layered) => layered.sets.iter().map(|set| &set.upstairs).collect(),
        }
    }

    /// Places of members: each has a number below this one.
    #[must_use]
    pub fn places(&self) -> usize {
        self.sets().len() * PLACES
    }

    /// Who is at a place, if somebody is.
    #[must_use]
    pub fn member_at(&self, peer: PeerId) -> Option<Member> {
        let (upstairs, place) = self.upstairs_of(peer)?;
        upstairs.members().find(|(peer, _)| *peer == place).map(|(_, member)| member)
    }

    /// Whether members of some region set are being replaced.
    #[must_use]
    pub fn is_replacing(&self) -> bool {
        self.sets().into_iter().any(Upstairs::is_replacing)
    }

    /// Whether [`Volume::set_members`] would be done of the region set of this number, [`Composition::layers`] says which.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn may_set_members(&self, now: Duration, set: usize, members: &Members) -> Result<(), MembersError> {
        self.sets()[set].may_set_members(now, members)
    }

    /// From now on a region set is to have these members.
    ///
    /// # Errors
    /// [`MembersError`]; nothing has changed.
    pub fn set_members(
        &mut self,
        now: Duration,
        set: usize,
        members: &Members,
    ) -> Result<Vec<Action>, MembersError> {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.set_members(now, members),
            Shape::Layers(layered) => layered.set_members(now, set, members),
        }
    }

    /// From now on the members of each region set are filled with so many bytes in a second at most, or as fast as it goes.
    pub fn set_repair_rate(&mut self, rate: Option<NonZeroU64>) {
        match &mut self.shape {
            Shape::Alone(upstairs) => upstairs.set_repair_rate(rate),
            Shape::Layers(layered) => {
                layered.sets.iter_mut().for_each(|set| set.upstairs.set_repair_rate(rate));
            }
        }
    }

    /// With how many at most, if that was said. It is the same of all.
    #[must_use]
    pub fn repair_rate(&self) -> Option<NonZeroU64> {
        self.sets().first().and_then(|set| set.repair_rate())
    }

    /// Begins to copy what lies under it into its own region sets, or goes on.
    ///
    /// # Errors
    /// [`ScrubError`]; nothing is done.
    pub fn start_scrub(&mut self, now: Duration) -> Result<Vec<Action>, ScrubError> {
        match &mut self.shape {
            Shape::Alone(_) => Err(ScrubError::NoParent),
            Shape::Layers(layered) => layered.start_scrub(now),
        }
    }

    /// Copies nothing more, until it is started again.
    pub fn stop_scrub(&mut self, now: Duration) -> Vec<Action> {
        match &mut self.shape {
            Shape::Alone(_) => Vec::new(),
            Shape::Layers(layered) => layered.stop_scrub(now),
        }
    }

    /// Whether [`Volume::drop_parents`] would be done.
    ///
    /// # Errors
    /// [`ParentNeeded`], until a scrub is done.
    pub fn may_drop_parents(&self) -> Result<(), ParentNeeded> {
        match &self.shape {
            Shape::Alone(_) => Ok(()),
            Shape::Layers(layered) => layered.may_drop_parents(),
        }
    }

    /// From now on nothing lies under it. What is being read of what did is answered first.
    ///
    /// # Errors
    /// [`ParentNeeded`]; nothing has changed.
    pub fn drop_parents(&mut self, now: Duration) -> Result<Vec<Action>, ParentNeeded> {
        match &mut self.shape {
            Shape::Alone(_) => Ok(Vec::new()),
            Shape::Layers(layered) => layered.drop_parents(now),
        }
    }

    /// Whether files, URLs or snapshots are a part of it, or lie under it.
    #[must_use]
    pub fn has_sources(&self) -> bool {
        matches!(&self.shape, Shape::Layers(layered) if !layered.queues.is_empty())
    }

    /// What a source is, for people.
    #[must_use]
    pub fn source_name(&self, source: SourceId) -> String {
        match &self.shape {
            Shape::Alone(_) => String::new(),
            Shape::Layers(layered) => {
                layered.queues.get(source.0).map(|queue| queue.source.to_string()).unwrap_or_default()
            }
        }
    }

    /// Why a member is not of use, or was not last time.
    #[must_use]
    pub fn trouble(&self, peer: PeerId) -> Option<&Trouble> {
        let (upstairs, place) = self.upstairs_of(peer)?;
        upstairs.trouble(place)
    }

    /// Blocks of a member that had their checksums, and that the volume's key has not sealed.
    #[must_use]
    pub fn wrong_seals(&self, peer: PeerId) -> u64 {
        self.upstairs_of(peer).map_or(0, |(upstairs, place)| upstairs.wrong_seals(place))
    }

    fn upstairs_of(&self, peer: PeerId) -> Option<(&Upstairs, PeerId)> {
        match &self.shape {
            Shape::Alone(upstairs) => Some((upstairs, peer)),
            Shape::Layers(layered) => layered.upstairs_of(peer),
        }
    }

    /// What it believes. Changes nothing.
    #[must_use]
    pub fn status(&self, now: Duration) -> VolumeStatus {
        match &self.shape {
            Shape::Alone(upstairs) => VolumeStatus::Upstairs(Box::new(upstairs.status(now))),
            Shape::Layers(layered) => VolumeStatus::Layers(layered.status(now)),
        }
    }
}
