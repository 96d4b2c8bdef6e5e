//! Members are replaced: the part of a coordinator that keeps which members there are to be, and tells the Upstairs.
//!
//! ```text
//!   those that leave are kept with the request until the newest Upstairs says that all is done
//!
//!   those that are gone:
//!   request R ──may it be R'?──no──► R stays
//!                   └─yes──► R' is kept ──told to the newest Upstairs──► a list without those that are gone is in force: done
//!                              └── that one has died before, and no later one becomes active with R' ──► R again
//! ```
//!
//! A change is kept before anybody makes it, so that whoever begins later has it. One with members that are gone is taken back only while the
//! newest Upstairs has been told by all members that the list still has them, and cannot begin: then no older one makes it any more, also not
//! with what it has sent and nobody has got, and this one has asked nobody to. Those that are gone may come back at any time: nobody who begins with the newest request asks
//! them.

use crate::{
    events::Event,
    sled::{Sled, named},
    world::{APPLY, Broken, World},
    writer::Writer,
};
use ids::RegionId;
use rand::Rng;
use std::time::Duration;
use upstairs::{MEMBERS_MAX, MemberState, Members, MembersError, PhaseName, Status};

/// Sleds at most.
const SLEDS_MAX: usize = 14;

/// Times that Upstairs are asked of which none is active, before the change is taken back.
const TRIES: u32 = 12;

/// Which members there are to be, by their sleds.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) wanted: Vec<usize>,
    leaving: Vec<usize>,
    gone: Vec<RegionId>,
}

/// Which members are to be replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    first: usize,
    count: usize,
    are_gone: bool,
}

/// A change to members without some that are gone, which may be in the list in force yet.
#[derive(Debug)]
pub(crate) struct Change {
    before: Request,
    gone: Vec<RegionId>,
    tries: u32,
}

impl Request {
    /// The first one.
    pub(crate) fn new() -> Request {
        Request { wanted: (0..MEMBERS_MAX).collect(), leaving: Vec::new(), gone: Vec::new() }
    }

    pub(crate) fn members(&self) -> Members {
        let of = |sleds: &[usize]| sleds.iter().copied().map(named).collect();
        Members { wanted: of(&self.wanted), leaving: of(&self.leaving), gone: self.gone.clone() }
    }
}

impl World {
    /// Some members are to be replaced: such as are gone, or away for long, or healthy ones. Who finds that out takes its time.
    pub(crate) fn replace(&mut self) {
        let count = match self.random.random_range(0..20) {
            0..12 => 1,
            12..18 => 2,
            _ => 3,
        };
        let first = self.random.random_range(0..MEMBERS_MAX);
        let (are_away, are_gone) = (self.random.random_bool(0.7), self.random.random_bool(0.5));
        let plan = Plan { first, count, are_gone };
        if are_away {
            for place in places_of(plan) {
                let away = Duration::from_secs(4) + self.soon(40_000);
                self.kill_sled_for(self.request.wanted[place], away);
            }
        }
        let later = self.soon(10_000);
        self.at(later, Event::Plan(plan));
    }

    /// All members but the one at this place are to leave, soon.
    pub(crate) fn replace_all_but(&mut self, place: usize) {
        let plan = Plan { first: (place + 1) % MEMBERS_MAX, count: MEMBERS_MAX - 1, are_gone: false };
        let later = self.soon(500);
        self.at(later, Event::Plan(plan));
    }

    /// The Upstairs that has the volume, as far as anybody knows; not one that is stopped, and none that was taken over from and has not
    /// heard of it.
    fn newest_writer(&self) -> Option<usize> {
        let newest = (0..).zip(&self.writers).max_by_key(|(number, writer)| (writer.session.epoch, *number));
        let is_there =
            |writer: &Writer| writer.is_alive && !writer.is_over && writer.paused_until <= self.now;
        newest.filter(|(_, writer)| is_there(writer)).map(|(number, _)| number)
    }

    /// The change is kept, if the Upstairs would make it.
    pub(crate) fn plan(&mut self, plan: Plan) -> Result<(), Broken> {
        let Some(writer) = self.newest_writer() else { return Ok(()) };
        let (mut next, mut gone, count) = (self.request.clone(), Vec::new(), self.sleds.len());
        for (new, place) in (count..).zip(places_of(plan)) {
            let old = std::mem::replace(&mut next.wanted[place], new);
            if plan.are_gone {
                gone.push(named(old).region);
                next.gone.push(named(old).region);
            } else {
                next.leaving.push(old);
            }
        }
        let is_free = self.has_faults && self.change.is_none() && count + plan.count <= SLEDS_MAX;
        let members = next.members();
        let may_be = is_free && members.check().is_ok();
        let upstairs = &self.writers[writer].upstairs;
        if !may_be || (plan.are_gone && upstairs.may_set_members(self.now, &members).is_err()) {
            return Ok(());
        }
        for number in count..count + plan.count {
            let salt = self.random.random();
            self.sleds.push(Sled::new(number, 0, self.geometry, salt));
            self.start_sled(number)?;
            self.tick_sled(number);
        }
        let before = std::mem::replace(&mut self.request, next);
        self.change = plan.are_gone.then_some(Change { before, gone, tries: 0 });
        self.replaced += plan.count as u64;
        Ok(())
    }

    /// Tells the newest Upstairs.
    pub(crate) fn apply(&mut self) -> Result<(), Broken> {
        let later = self.soon(2_000) + APPLY / 10;
        self.at(later, Event::Apply);
        let Some(writer) = self.newest_writer() else { return Ok(()) };
        let members = self.request.members();
        match self.writers[writer].upstairs.set_members(self.now, &members) {
            Ok(actions) => self.perform(writer, actions)?,
            Err(MembersError::NotActive) => {}
            Err(MembersError::Ended { .. }) => return Ok(()),
            // They came back before anybody was told that they are gone: then they leave.
            Err(MembersError::Here { members }) => {
                if let Some(Change { gone, before, .. }) = &mut self.change {
                    gone.retain(|region| !members.contains(region));
                    self.request.gone.retain(|region| !members.contains(region));
                    // Who leaves, and is no member any more, has left.
                    let known = self.writers[writer].upstairs.status(self.now).members;
                    let is_member = |sled: &usize| known.iter().any(|one| one.region == named(*sled).region);
                    self.request.leaving.retain(is_member);
                    let is_here = |sled: &&usize| members.contains(&named(**sled).region);
                    self.request.leaving.extend(before.wanted.iter().filter(is_here));
                }
                return Ok(());
            }
            // Who was to stay was left out before anybody was told: nobody has made the change.
            Err(MembersError::NobodyStays) => {
                if let Some(Change { before, .. }) = self.change.take() {
                    self.request = before;
                }
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        }
        let upstairs = &self.writers[writer].upstairs;
        let Status { phase, list, .. } = upstairs.status(self.now);
        if phase != PhaseName::Active {
            return self.take_back(writer);
        }
        let full = list.map(|list| list.full).unwrap_or_default();
        self.change.take_if(|change| !full.iter().any(|region| change.gone.contains(region)));
        if !upstairs.is_replacing() {
            self.request.leaving.clear();
            self.request.gone.clear();
        }
        Ok(())
    }

    /// Nobody can begin without one that is gone, and is needed. If it has not been left out by anybody it may be asked again.
    fn take_back(&mut self, writer: usize) -> Result<(), Broken> {
        let Some(change) = &mut self.change else { return Ok(()) };
        change.tries += 1;
        let Status { phase, members, .. } = self.writers[writer].upstairs.status(self.now);
        let have_all_told = members.iter().all(|member| member.state == MemberState::Told);
        if phase != PhaseName::Gathering || !have_all_told {
            return Ok(());
        }
        let sleds = self.request.wanted.iter().chain(&self.request.leaving);
        let lists = sleds.map(|sled| Some(&self.sleds[*sled].member.as_ref()?.region().control().list));
        let Some(lists) = lists.collect::<Option<Vec<_>>>() else { return Ok(()) };
        let newest = lists.iter().max_by_key(|list| list.version);
        let has_gone =
            newest.is_some_and(|list| list.full.iter().any(|member| change.gone.contains(&member.region)));
        if change.tries < TRIES || !has_gone {
            return Ok(());
        }
        self.request = change.before.clone();
        self.change = None;
        self.kill_writer(writer);
        self.last_writer = self.writers.len();
        self.add_writer(0)
    }
}

/// The places of those that are to be replaced, among those that there are to be.
fn places_of(plan: Plan) -> impl Iterator<Item = usize> {
    (plan.first..plan.first + plan.count).map(|place| place % MEMBERS_MAX)
}
