//! The way to being active: who is there is asked what it has, brought to the same state, and made to keep the list of who is full.
//! What follows from what they tell is decided in [`crate::activation`].

use crate::{
    activation::{Decision, Given, decide},
    copier::Copier,
    peer::State,
    trouble::Trouble,
    types::PeerId,
    upstairs::{End, Phase, Upstairs},
};
use region::Member;
use region_wire::Promoted;
use std::{collections::BTreeMap, time::Duration};

impl Upstairs {
    /// Goes on to be active, as far as what is known allows.
    pub(crate) fn go_on_activating(&mut self) {
        loop {
            let next = match &self.phase {
                Phase::Gathering(since) => self.decide_full(*since),
                Phase::BringingUp(full) => self.bring_up(&full.clone()),
                Phase::Listing(_) if self.pending.is_none() => Some(Phase::Active),
                _ => None,
            };
            let Some(next) = next else { return };
            let becomes_active = matches!(next, Phase::Active);
            self.phase = next;
            if becomes_active {
                self.become_active();
            }
        }
    }

    /// What those have said that have said what they have.
    pub(crate) fn told(&self) -> BTreeMap<PeerId, Promoted> {
        let told = (0..).map(PeerId).zip(&self.peers).filter(|(_, peer)| peer.state == State::Told);
        told.filter_map(|(id, peer)| Some((id, peer.told.clone()?))).collect()
    }

    /// Who is at which place.
    pub(crate) fn known(&self) -> BTreeMap<Member, PeerId> {
        self.members().map(|(peer, member)| (member, peer)).collect()
    }

    pub(crate) fn decide_now(&self, told: &BTreeMap<PeerId, Promoted>, waited: Duration) -> Decision {
        let accepts_possible_loss = self.config.accepts_possible_loss;
        decide(&self.known(), told, waited, Given { accepts_possible_loss, gone: &self.config.members.gone })
    }

    fn decide_full(&self, since: Option<Duration>) -> Option<Phase> {
        let waited = since.map_or(Duration::ZERO, |since| self.now.saturating_sub(since));
        match (self.decide_now(&self.told(), waited), since) {
            (Decision::Go(full), _) => Some(Phase::BringingUp(full)),
            // From now on, and not from when the first one was here.
            (Decision::WaitForMore, None) => Some(Phase::Gathering(Some(self.now))),
            (Decision::Wait, Some(_)) => Some(Phase::Gathering(None)),
            (Decision::WaitForMore | Decision::Wait, _) => None,
        }
    }

    /// Those that have less than the first are brought up to it.
    fn bring_up(&mut self, full: &[PeerId]) -> Option<Phase> {
        let most = self.peers[full[0].0].applied;
        if most < self.window.forgotten {
            return Some(Phase::Ended(End::Lost(self.window.forgotten)));
        }
        if let Some(behind) = full.iter().find(|peer| self.peers[peer.0].applied < most) {
            if self.copier.is_none() {
                self.copier = Some(Copier::staging(full[0], *behind));
            }
            self.go_on_copying();
            return None;
        }
        self.copier = None;
        let members = full.iter().map(|peer| self.peers[peer.0].member).collect();
        self.begin_list(members, most);
        Some(Phase::Listing(full.to_vec()))
    }

    /// Whether two others of these have all that any of them has: then nobody waits for one that is gone, or has no room.
    pub(crate) fn has_nothing_of_its_own(&self, full: &[PeerId], id: PeerId) -> bool {
        let applied = |peer: &PeerId| self.peers[peer.0].applied;
        let most = full.iter().map(applied).max();
        full.iter().filter(|peer| **peer != id && Some(applied(peer)) == most).count() >= 2
    }

    /// The disk of a member refuses what it was asked.
    pub(crate) fn note_waits(&mut self, id: PeerId, trouble: Trouble) {
        match &self.phase {
            Phase::BringingUp(full) if full.contains(&id) && self.has_nothing_of_its_own(full, id) => {
                self.lose_for_long(id, trouble);
            }
            _ => self.peers[id.0].trouble = Some(trouble),
        }
    }

    fn become_active(&mut self) {
        self.pressed_at = self.now;
        // Before the first write of this epoch nobody needs anything that is older.
        if self.window.forgotten.epoch < self.config.promotion.epoch && self.window.is_empty() {
            self.window.forgotten = self.list.base;
        }
        self.let_go();
        for peer in (0..self.peers.len()).map(PeerId) {
            if self.peers[peer.0].state == State::Told {
                self.begin_stream(peer);
            }
        }
    }

    /// From the start: everybody says again what it has.
    pub(crate) fn gather_again(&mut self) {
        self.phase = Phase::Gathering(None);
        self.pending = None;
        self.copier = None;
        for peer in (0..self.peers.len()).map(PeerId) {
            self.peers[peer.0].is_condemned = false;
            if !matches!(self.peers[peer.0].state, State::Away(_) | State::Connecting) {
                self.lose(peer, Trouble::AskedAgain);
            }
        }
    }
}
