//! Which members there are to be, and how that changes while clients go on.
//!
//! ```text
//!   wanted, new ──► filling ──holds everything──► full
//!
//!   leaving, full ──is away, or a new one needs its place in the list──► in no list ──► gone, and its place is free
//!   leaving, filling ─────────────────────────────────────────────────────────────────► gone
//!   neither wanted nor leaving ───────────────────────────────────────────────────────► gone, also from the list
//! ```
//!
//! **Who leaves** goes on counting, as it did, until a list without it is in force. A healthy one makes room only when a new one holds
//! everything; one that is away makes room at once. If one that stays is away meanwhile, it is that one that makes room, and it is filled
//! when it is back: the new one has everything now. Whoever begins meanwhile, with the
//! same request, knows those that leave, too: what is acknowledged may be on one of them, and on one that stays.
//!
//! **Who is gone** is never asked again, neither by this process nor by one that begins later: whoever says so answers for that. Only so there
//! may be a *list of one*. Lists otherwise lose one member at a time, because the others then know of it. If all full members but one are
//! gone, the list has that one alone: it has everything that was acknowledged when it keeps that list, nothing is acknowledged before there are
//! two again, and it has to be asked by whoever begins later. Two that are gone could be back, and know of nothing: nobody asks them.
//!
//! **What is refused** would leave nothing to begin with if this process died at once, or calls gone who is there.

use crate::{
    peer::Peer,
    rules::Rule,
    trouble::Trouble,
    types::{Action, JobError, PeerId},
    upstairs::{Phase, Upstairs},
};
use ids::RegionId;
use region::Member;
use std::{collections::BTreeSet, time::Duration};

/// Members that there are to be, at most; and those that leave.
pub const MEMBERS_MAX: usize = 3;

/// Members that there are to be, at least.
pub const MEMBERS_MIN: usize = 2;

/// Places of members: for those that are to be, and for those that leave.
pub const PLACES: usize = 2 * MEMBERS_MAX;

/// Who leaves is waited for as long, if it is away, and so is whoever stays, while a new one could have its place in the list: a restart of a
/// process costs no copy.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// Which members there are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those.
    pub wanted: Vec<Member>,
    /// Those that are members as long as they are needed. One that is in no list any more is none, whether it is here or not.
    pub leaving: Vec<Member>,
    /// Those that were, and are lost for good. While there are any, a full member that is the only one by its list is enough to begin.
    pub gone: Vec<RegionId>,
}

/// Why the members stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Two or three make a set.
    #[error("a region set with {0} members: it has {MEMBERS_MIN} or {MEMBERS_MAX}")]
    Count(usize),
    /// No list has more.
    #[error("{0} members leave a region set: it has {MEMBERS_MAX} at most")]
    LeavingCount(usize),
    /// It cannot be two of them.
    #[error("region {0} is there twice")]
    Twice(RegionId),
    /// It does nothing more.
    #[error("it does nothing more")]
    Ended {
        /// Why.
        source: JobError,
    },
    /// Which members are full is not known before it is active.
    #[error(
        "it is not known yet which members are full, so none can be called gone: wait until the volume is active"
    )]
    NotActive,
    /// Only what is lost for good may be no member any more from one instant to the next.
    #[error(
        "{} {} to be no member any more, and nobody says that it is lost for good: what is to be replaced leaves",
        list_of(members),
        if members.len() == 1 { "is" } else { "are" }
    )]
    NotGone {
        /// Those that are members.
        members: Vec<RegionId>,
    },
    /// Nobody would have what was written.
    #[error("no full member would stay: what was written would be lost with those that are gone")]
    NobodyStays,
    /// It is there.
    #[error(
        "{} {} here, and full: only what is lost for good is gone; what is to be replaced leaves",
        list_of(members),
        if members.len() == 1 { "is" } else { "are" }
    )]
    Here {
        /// Those that were called gone.
        members: Vec<RegionId>,
    },
}

fn list_of(members: &[RegionId]) -> String {
    let words: Vec<String> = members.iter().map(|region| format!("region {region}")).collect();
    words.join(" and ")
}

impl Members {
    /// These, and none that leaves.
    #[must_use]
    pub fn only(wanted: Vec<Member>) -> Members {
        Members { wanted, ..Members::default() }
    }

    /// Whether there may be such members.
    ///
    /// # Errors
    /// [`MembersError::Count`], [`MembersError::LeavingCount`], [`MembersError::Twice`].
    pub fn check(&self) -> Result<(), MembersError> {
        if !(MEMBERS_MIN..=MEMBERS_MAX).contains(&self.wanted.len()) {
            return Err(MembersError::Count(self.wanted.len()));
        }
        if self.leaving.len() > MEMBERS_MAX {
            return Err(MembersError::LeavingCount(self.leaving.len()));
        }
        let mut regions = BTreeSet::new();
        match self.all().find(|member| !regions.insert(member.region)) {
            Some(twice) => Err(MembersError::Twice(twice.region)),
            None => Ok(()),
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.wanted.iter().chain(&self.leaving)
    }
}

impl Upstairs {
    /// The members that are here, with their places: those that there are to be, and those that leave and have not gone.
    pub fn members(&self) -> impl Iterator<Item = (PeerId, Member)> {
        let here = (0..).map(PeerId).zip(&self.peers).filter(|(_, peer)| !peer.is_gone);
        here.map(|(id, peer)| (id, peer.member))
    }

    /// Whether some of those that there are to be are not full, or some that leave have not gone.
    #[must_use]
    pub fn is_replacing(&self) -> bool {
        let is_ready = |id: PeerId, peer: &Peer| peer.is_gone || (!peer.is_leaving && self.is_full(id));
        !(0..).map(PeerId).zip(&self.peers).all(|(id, peer)| is_ready(id, peer))
    }

    /// Whether a member that counts has what was acknowledged, or can be sent it, as far as anybody knows. One that has lost what is not kept
    /// any more, or has failed, is only to be filled: from others.
    fn may_have_all(&self, id: PeerId) -> bool {
        let peer = &self.peers[id.0];
        let has_failed = matches!(peer.trouble, Some(Trouble::Failed(_)));
        !peer.is_condemned || (!has_failed && self.window.behind(peer.applied).is_some())
    }

    /// Whether [`Upstairs::set_members`] would be done.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn may_set_members(&self, now: Duration, members: &Members) -> Result<(), MembersError> {
        members.check()?;
        let stays = |member: &Member| members.all().any(|other| other == member);
        match self.phase {
            Phase::Ended(end) => return Err(MembersError::Ended { source: self.error_of(end) }),
            Phase::Idle | Phase::Gathering(_) | Phase::BringingUp(_) | Phase::Listing(_) => {
                let all_stay = self.members().all(|(_, member)| stays(&member));
                return if all_stay { Ok(()) } else { Err(MembersError::NotActive) };
            }
            Phase::Active => {}
        }
        let is_unsaid = |member: &Member| !stays(member) && !members.gone.contains(&member.region);
        let unsaid = self.members().map(|(_, member)| member).filter(is_unsaid);
        let unsaid: Vec<RegionId> = unsaid.map(|member| member.region).collect();
        if !unsaid.is_empty() {
            return Err(MembersError::NotGone { members: unsaid });
        }
        let (staying, going): (Vec<PeerId>, Vec<PeerId>) =
            self.counting().into_iter().partition(|peer| stays(&self.peers[peer.0].member));
        if !staying.iter().any(|peer| self.may_have_all(*peer)) {
            return Err(MembersError::NobodyStays);
        }
        // A connection that has just broken says nothing of its member.
        let is_here = |peer: &&PeerId| self.peers[peer.0].is_promoted() || self.is_heard(now, **peer);
        let here: Vec<RegionId> =
            going.iter().filter(is_here).map(|peer| self.peers[peer.0].member.region).collect();
        if here.is_empty() { Ok(()) } else { Err(MembersError::Here { members: here }) }
    }

    /// From now on there are to be these members. New ones are filled. The same a second time changes nothing.
    ///
    /// # Errors
    /// [`MembersError`]; nothing has changed.
    pub fn set_members(&mut self, now: Duration, members: &Members) -> Result<Vec<Action>, MembersError> {
        self.may_set_members(now, members)?;
        self.now = now;
        for id in (0..self.peers.len()).map(PeerId) {
            let member = self.peers[id.0].member;
            let is_wanted = members.wanted.contains(&member);
            self.peers[id.0].is_leaving = !is_wanted;
            if !self.peers[id.0].is_gone && !is_wanted && !members.leaving.contains(&member) {
                self.dismiss(id);
            }
        }
        let is_active = matches!(self.phase, Phase::Active);
        self.config.members = members.clone();
        for member in members.all() {
            let is_leaving = !members.wanted.contains(member);
            // One that leaves, and is in no list, is gone.
            let is_needed = !is_leaving || !is_active || self.list.full.contains(member);
            if is_needed && !self.members().any(|(_, other)| other == *member) {
                self.add(Peer::new(*member, is_leaving));
            }
        }
        if !matches!(self.phase, Phase::Idle) {
            (0..self.peers.len()).map(PeerId).for_each(|peer| self.tick_peer(peer));
        }
        Ok(self.step())
    }

    /// At a place that is free.
    fn add(&mut self, peer: Peer) {
        match self.peers.iter_mut().find(|place| place.is_gone) {
            Some(place) => *place = peer,
            None => self.peers.push(peer),
        }
        assert!(
            self.peers.len() <= PLACES,
            "there are places for all that are to be, and for all that leave"
        );
    }

    /// Who leaves and is in no list has gone. Before it is active nobody knows whose list counts: who leaves may be needed.
    pub(crate) fn let_go(&mut self) {
        for id in (0..self.peers.len()).map(PeerId) {
            let peer = &self.peers[id.0];
            if peer.is_leaving && !peer.is_gone && !self.is_full(id) && !self.is_to_be_full(id) {
                self.dismiss(id);
            }
        }
    }

    fn is_away_for_long(&self, id: PeerId) -> bool {
        let peer = &self.peers[id.0];
        let is_heard = peer.heard.is_some_and(|heard| self.now.saturating_sub(heard) < AWAY_MAX);
        !peer.is_streaming() && !is_heard
    }

    /// Who leaves, and is away for long, is not waited for.
    pub(crate) fn note_who_is_away(&mut self) {
        for id in (0..self.peers.len()).map(PeerId) {
            let is_leaving = self.peers[id.0].is_leaving && !self.peers[id.0].is_gone;
            self.peers[id.0].is_condemned |= is_leaving && self.is_away_for_long(id);
        }
    }

    /// While a new member holds everything, and a list has no more room: one that leaves makes some, if a list without it can be made. If
    /// none can be, because one that stays is away for long, that one is left out, and is filled when it is back.
    pub(crate) fn make_room_in_list(&mut self) {
        let all = || (0..self.peers.len()).map(PeerId);
        let is_wanted = all().any(|peer| self.peers[peer.0].is_ready && self.peers[peer.0].is_streaming());
        let full: Vec<PeerId> = all().filter(|peer| self.is_full(*peer)).collect();
        let counts = |peer: &PeerId| self.peers[peer.0].is_streaming() && !self.peers[peer.0].is_condemned;
        let others_count = |one: &PeerId| full.iter().filter(|peer| *peer != one).all(counts);
        let may_leave = |peer: &PeerId| self.peers[peer.0].is_leaving && others_count(peer);
        let is_away = |peer: &PeerId| self.is_away_for_long(*peer) && others_count(peer);
        // Who is gone comes first.
        let is_due = is_wanted && full.len() == self.list.full.len() && full.len() == MEMBERS_MAX;
        let makes_room = full.iter().copied().find(may_leave).filter(|_| is_due);
        let away = full.iter().copied().find(is_away).filter(|_| is_due && makes_room.is_none());
        if let Some(away) = away {
            self.peers[away.0].is_condemned = true;
        }
        for (id, peer) in (0..).map(PeerId).zip(&mut self.peers) {
            peer.makes_room = makes_room == Some(id);
        }
    }

    /// Whether all that a list of this one alone would leave out are gone.
    pub(crate) fn may_be_alone(&self, member: &Member) -> bool {
        let is_gone = |other: &Member| {
            !self.members().any(|(_, member)| member == *other) || !Rule::AloneOnlyIfOthersAreGone.is_kept()
        };
        let mut others = self.list.full.iter().filter(|other| *other != member);
        self.list.full.len() > 1 && others.all(is_gone)
    }

    fn is_to_be_full(&self, id: PeerId) -> bool {
        let member = self.peers[id.0].member;
        self.pending.as_ref().is_some_and(|pending| pending.list.full.contains(&member))
    }
}
