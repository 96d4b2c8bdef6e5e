//! Which members are full, and how that changes.
//!
//! ```text
//!   in force: L ──a member is to be left out or let in──► pending: L' ──kept by all of L'──► in force: L'
//!                                                          │  only members of both count
//!                                                          └── something else is wanted ──► pending: L''
//! ```

use crate::{
    peer::{State, Suspicion},
    rules::Rule,
    trouble::Trouble,
    types::PeerId,
    upstairs::{Phase, Purpose, Upstairs},
};
use region::{List, Member, Position};
use region_wire::Request;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Clients wait so long in all for a member that is behind, before it is left out.
const PATIENCE: Duration = Duration::from_secs(1);

/// Of the time in which they do not have to wait, one part in so many makes up for that.
const FORGIVEN: u32 = 8;

/// A list that is to be kept by all its members.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) list: List,
    /// Who was asked, and by which request.
    asked: BTreeMap<PeerId, u64>,
    kept: BTreeSet<PeerId>,
}

impl Pending {
    pub(crate) fn is_kept(&self, peer: PeerId) -> bool {
        self.kept.contains(&peer)
    }
}

impl Upstairs {
    /// Wants these to be the full ones, from this position on.
    pub(crate) fn begin_list(&mut self, full: Vec<Member>, base: Position) {
        let list = List { version: self.next_list_version(), base, full };
        self.pending = Some(Pending { list, asked: BTreeMap::new(), kept: BTreeSet::new() });
        self.ask_list();
        if !Rule::ListBeforeUse.is_kept() {
            self.put_list_in_force();
        }
    }

    /// Asks those that have what is before it, and were not asked.
    fn ask_list(&mut self) {
        let Some(pending) = &self.pending else { return };
        let list = pending.list.clone();
        let is_asked = |peer: &PeerId| pending.asked.contains_key(peer) || pending.kept.contains(peer);
        let may_be_asked = |id: &PeerId| {
            let peer = &self.peers[id.0];
            let is_there = match peer.state {
                State::Told => peer.applied >= list.base,
                State::Streaming => peer.sent >= list.base,
                _ => false,
            };
            is_there && list.full.contains(&peer.member)
        };
        let next: Vec<PeerId> =
            (0..self.peers.len()).map(PeerId).filter(|id| may_be_asked(id) && !is_asked(id)).collect();
        for peer in next {
            let list = list.clone();
            let id = self.ask(peer, Purpose::List, |id| Request::SetList { id, list });
            if let Some(pending) = &mut self.pending {
                pending.asked.insert(peer, id);
            }
        }
    }

    pub(crate) fn note_list_kept(&mut self, peer: PeerId, id: u64) {
        if self.peers[peer.0].suspicion.as_ref().is_some_and(|suspicion| suspicion.asked == Some(id)) {
            self.peers[peer.0].trust();
        }
        let Some(pending) = &mut self.pending else { return };
        if pending.asked.get(&peer) == Some(&id) {
            pending.asked.remove(&peer);
            pending.kept.insert(peer);
        }
        if pending.kept.len() == pending.list.full.len() {
            self.put_list_in_force();
        }
    }

    /// All that it ever had was in the stream before now.
    pub(crate) fn note_suspect(&mut self, peer: PeerId) {
        let until = self.newest();
        let is_suspect = self.peers[peer.0].told.as_ref().is_some_and(|told| told.is_suspect);
        self.peers[peer.0].suspicion = is_suspect.then_some(Suspicion { until, asked: None });
    }

    /// Tells members that have caught up that they are full, as they were: so that nobody waits long for others because of them.
    fn end_suspicions(&mut self) {
        let list = self.list.clone();
        for id in (0..self.peers.len()).map(PeerId) {
            let peer = &self.peers[id.0];
            let is_due = |suspicion: &Suspicion| {
                suspicion.asked.is_none() && peer.is_streaming() && peer.applied >= suspicion.until
            };
            if self.pending.is_some() || !self.is_full(id) || !peer.suspicion.as_ref().is_some_and(is_due) {
                continue;
            }
            let list = list.clone();
            let asked = self.ask(id, Purpose::List, |id| Request::SetList { id, list });
            if let Some(suspicion) = &mut self.peers[id.0].suspicion {
                suspicion.asked = Some(asked);
            }
        }
    }

    fn put_list_in_force(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        for peer in &pending.kept {
            self.peers[peer.0].trust();
        }
        let before = std::mem::replace(&mut self.list, pending.list);
        for id in (0..self.peers.len()).map(PeerId) {
            if before.full.contains(&self.peers[id.0].member) && !self.is_full(id) {
                // It lacks something from now on.
                self.peers[id.0].filled = 0;
            }
            self.peers[id.0].is_new &= !self.is_full(id);
            // Nobody makes room for it any more.
            self.peers[id.0].is_ready &= !self.is_full(id);
        }
        if !matches!(self.phase, Phase::Active) {
            return;
        }
        // Who was left out is behind, and what it lacks is forgotten from now on. It comes again as one that is not full.
        for peer in (0..self.peers.len()).map(PeerId) {
            if self.peers[peer.0].is_condemned && !self.is_full(peer) && self.peers[peer.0].is_streaming() {
                self.lose(peer, Trouble::TooFarBehind);
            } else if self.peers[peer.0].is_condemned && self.peers[peer.0].state == State::Told {
                self.begin_stream(peer);
            }
        }
        self.tell_list_to_the_filling();
    }

    /// Who is filled knows the list in force, too, and on the same connection before the one that has it: if that is kept by some of its
    /// members only, whoever begins next goes back to the one before, which somebody has to tell.
    fn tell_list_to_the_filling(&mut self) {
        let is_filling = |(id, _): &(PeerId, Member)| self.peers[id.0].is_streaming() && !self.is_full(*id);
        let filling: Vec<PeerId> = self.members().filter(is_filling).map(|(id, _)| id).collect();
        for peer in filling {
            let list = self.list.clone();
            self.ask(peer, Purpose::List, |id| Request::SetList { id, list });
        }
    }

    /// What it was asked it may not have heard.
    pub(crate) fn note_list_lost(&mut self, peer: PeerId) {
        let Some(pending) = &mut self.pending else { return };
        pending.asked.remove(&peer);
        let member = self.peers[peer.0].member;
        let is_in = pending.list.full.contains(&member);
        let differs = pending.list.full != self.list.full;
        if is_in && differs && matches!(self.phase, Phase::Active) {
            // It may have kept the list, or not; and the others need not wait for it. The next list says what is true either way.
            // Whoever keeps it has what was acknowledged, as with any other one: it is above suspicion then.
            let (full, base) = (self.list.full.clone(), self.jobs.acknowledged.max(self.list.base));
            self.begin_list(full, base);
        }
    }

    /// Leaves out who has to be, if the others are enough; and forgets what nobody needs.
    pub(crate) fn go_on_listing(&mut self) {
        self.condemn_laggards();
        self.keep_laggards();
        let rest: Vec<Member> = (0..self.peers.len())
            .map(PeerId)
            .filter(|peer| self.is_full(*peer) && !self.peers[peer.0].is_condemned)
            .filter(|peer| !self.peers[peer.0].makes_room)
            .map(|peer| self.peers[peer.0].member)
            .collect();
        let streams =
            |member: &Member| self.peers.iter().any(|peer| peer.member == *member && peer.is_streaming());
        // One at a time; and a list that waits for somebody who is away makes room for one that does not.
        let is_one_less = rest.len() >= 2 && rest.len() + 1 == self.list.full.len();
        let is_less = is_one_less || matches!(&rest[..], [one] if self.may_be_alone(one));
        let is_free = self.pending.as_ref().is_none_or(|pending| !pending.list.full.iter().all(streams));
        if is_less && is_free && rest.iter().all(streams) {
            // Up to here it may have been one of the two that had what was acknowledged.
            let base = self.jobs.acknowledged.max(self.list.base);
            self.begin_list(rest, base);
        }
        self.ask_list();
        self.end_suspicions();
        self.forget_what_all_have();
    }

    /// When clients have had to wait for long because the window was full, whoever is far behind two others is not waited for.
    fn condemn_laggards(&mut self) {
        // Who was stopped for a while was not kept waiting by anybody.
        let elapsed =
            self.now.saturating_sub(std::mem::replace(&mut self.pressed_at, self.now)).min(PATIENCE / 2);
        if self.window.has_room() {
            self.pressed_for = self.pressed_for.saturating_sub(elapsed / FORGIVEN);
            return;
        }
        self.pressed_for += elapsed;
        if self.pressed_for < PATIENCE {
            return;
        }
        self.pressed_for = Duration::ZERO;
        let two_have = self.two_have(|peer| peer.applied);
        for id in (0..self.peers.len()).map(PeerId) {
            let peer = &self.peers[id.0];
            let is_behind = peer.applied < two_have || !peer.is_streaming();
            if !is_behind || peer.is_condemned {
                continue;
            }
            let holds_the_window = self.window.is_far_behind(peer.applied);
            if self.is_full(id) {
                if holds_the_window && self.can_be_spared(id) {
                    self.peers[id.0].is_condemned = true;
                }
            } else if peer.is_streaming() && holds_the_window {
                self.lose(id, Trouble::TooFarBehind);
            }
        }
    }

    /// Who was to be left out because it was behind, and cannot be spared any more, because others are gone, is not: what it lacks is kept, and
    /// is on its way.
    fn keep_laggards(&mut self) {
        let has_lost_some =
            !self.list.full.iter().all(|member| self.members().any(|(_, one)| one == *member));
        for id in (0..self.peers.len()).map(PeerId) {
            let is_laggard = self.is_full(id) && self.peers[id.0].is_streaming();
            if has_lost_some && is_laggard && !self.can_be_spared(id) {
                self.peers[id.0].is_condemned = false;
            }
        }
    }

    /// Whether all other full members, two at least, have the stream: a list without this one can be made.
    fn can_be_spared(&self, id: PeerId) -> bool {
        let others = (0..self.peers.len()).map(PeerId).filter(|peer| *peer != id && self.is_full(*peer));
        let (mut count, mut all_stream) = (0, true);
        for other in others {
            let peer = &self.peers[other.0];
            count += 1;
            all_stream &= peer.is_streaming() && !peer.is_condemned;
        }
        count >= 2 && all_stream
    }

    /// Whether the list that is to follow the one in force is without this member.
    pub(crate) fn is_being_left_out(&self, id: PeerId) -> bool {
        let member = self.peers[id.0].member;
        self.pending.as_ref().is_some_and(|pending| !pending.list.full.contains(&member))
    }

    fn forget_what_all_have(&mut self) {
        let (mut applied, mut sent) = (self.window.last, self.window.end());
        for (id, peer) in (0..).map(PeerId).zip(&self.peers) {
            let is_needed = self.is_full(id) && Rule::RemovedBeforeSkipped.is_kept();
            if is_needed || peer.is_streaming() {
                applied = applied.min(peer.applied);
            }
            if peer.is_streaming() {
                sent = sent.min(peer.next);
            }
        }
        if Rule::UntoldIsKept.is_kept() {
            // One that is alone has what it may lose with its power, and nobody else needs to have it.
            applied = applied.min(self.jobs.acknowledged);
        }
        self.window.forget(applied, sent);
    }
}
