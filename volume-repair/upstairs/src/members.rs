//! Each member's way from away to streaming, and back.

use crate::{
    peer::State,
    trouble::Trouble,
    types::{Action, PeerId},
    upstairs::{End, Phase, Purpose, Upstairs},
};
use region::{Position, Promotion};
use region_wire::{Expected, Hello, Promoted, Refusal, Request, Welcome};
use std::time::Duration;

/// Before somebody is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The same for one that has failed or refused.
const RETRY_TROUBLE: Duration = Duration::from_secs(5);

/// How often members are asked whether they are there.
const PING: Duration = Duration::from_secs(1);

/// Who has not answered for so long is asked on another connection.
const PONG_MAX: Duration = Duration::from_secs(10);

impl Upstairs {
    pub(crate) fn tick_peer(&mut self, id: PeerId) {
        let now = self.now;
        let peer = &mut self.peers[id.0];
        match peer.state {
            State::Away(until) if until <= now => {
                peer.state = State::Connecting;
                self.act(Action::Connect(id));
            }
            State::Away(_) | State::Connecting => {}
            State::Greeting | State::Promoting | State::Told | State::Streaming => match peer.pinged {
                Some(sent) if now.saturating_sub(sent) >= PONG_MAX => self.lose(id, Trouble::Silent),
                Some(_) => {}
                None if peer.state != State::Greeting => {
                    let last = peer.heard.unwrap_or_default();
                    if now.saturating_sub(last) >= PING {
                        self.ping(id);
                    }
                }
                None => {}
            },
        }
    }

    pub(crate) fn ping(&mut self, id: PeerId) {
        let now = self.now;
        self.peers[id.0].pinged = Some(now);
        self.ask(id, Purpose::Ping(now), |id| Request::Ping { id });
    }

    pub(crate) fn greet(&mut self, id: PeerId) {
        let peer = &mut self.peers[id.0];
        peer.state = State::Greeting;
        // If it does not answer this it does not answer.
        peer.pinged = Some(self.now);
        let hello = Hello::new(peer.member.region, self.config.set, None);
        self.act(Action::Send(id, Request::Hello(hello)));
    }

    pub(crate) fn promote(&mut self, id: PeerId, welcome: &Welcome) {
        let peer = &mut self.peers[id.0];
        if peer.state != State::Greeting {
            return self.lose(id, Trouble::WrongAnswer("it welcomes twice"));
        }
        let incarnation = Some(peer.member.incarnation);
        if let Err(unfit) = (Expected { geometry: self.config.geometry, incarnation }).check(welcome) {
            return self.lose_for_long(id, unfit.into());
        }
        peer.state = State::Promoting;
        peer.pinged = None;
        self.act(Action::Send(id, Request::Promote(self.config.promotion)));
        self.ping(id);
    }

    pub(crate) fn note_promoted(&mut self, id: PeerId, promoted: Promoted) {
        let peer = &mut self.peers[id.0];
        if peer.state != State::Promoting {
            return self.lose(id, Trouble::WrongAnswer("it was not to be promoted"));
        }
        peer.state = State::Told;
        peer.trouble = None;
        peer.applied = promoted.applied;
        peer.durable = promoted.durable;
        peer.told = Some(promoted);
        if matches!(self.phase, Phase::Active) {
            self.begin_stream(id);
        }
    }

    /// It is active, and this one has said what it has.
    pub(crate) fn begin_stream(&mut self, id: PeerId) {
        let applied = self.peers[id.0].applied;
        if !self.is_full(id) {
            return self.join(id);
        }
        let is_left_out = self.is_being_left_out(id);
        match self.window.behind(applied) {
            // It is filled when the list without it is in force.
            Some(_) if is_left_out => {}
            Some(next) => {
                self.peers[id.0].is_condemned = false;
                self.peers[id.0].stream_from(next, applied);
                self.note_suspect(id);
                self.flush_again();
            }
            // It has lost what it had. If it can be spared it is left out, and filled; otherwise it is brought up to what the
            // others have.
            None => {
                let is_enough = |peer: &PeerId| {
                    let known = &self.peers[peer.0];
                    *peer != id && self.is_full(*peer) && known.is_streaming() && !known.is_condemned
                };
                let others = (0..self.peers.len()).map(PeerId).filter(is_enough).count();
                self.peers[id.0].is_condemned = others >= 2;
                if others < 2 {
                    self.gather_again();
                }
            }
        }
    }

    /// Who was to be left out, and is not any more, goes on from where it is.
    pub(crate) fn stream_to_all(&mut self) {
        for id in (0..self.peers.len()).map(PeerId) {
            let peer = &self.peers[id.0];
            let waits = peer.state == State::Told && self.is_full(id) && !self.is_being_left_out(id);
            if waits && self.window.behind(peer.applied).is_some() {
                self.begin_stream(id);
            }
        }
    }

    /// A member that is not full gets the stream from now on.
    fn join(&mut self, id: PeerId) {
        let (next, last) = (self.window.end(), self.newest());
        // By the list that it has it may be full.
        let list = self.list.clone();
        self.ask(id, Purpose::List, |id| Request::SetList { id, list });
        self.act(Action::Send(id, Request::Join(last)));
        let peer = &mut self.peers[id.0];
        peer.is_condemned = false;
        peer.is_new |= peer.told.as_ref().is_some_and(|told| told.applied == Position::NONE);
        peer.stream_from(next, last);
    }

    pub(crate) fn note_refused(&mut self, id: PeerId, refusal: Refusal) {
        match refusal {
            Refusal::Epoch(by) => self.note_fenced(id, by),
            Refusal::Hello(why) => self.lose_for_long(id, Trouble::Unfit(why.into())),
            Refusal::NoSnapshot(_) => self.lose(id, Trouble::WrongAnswer("it was asked for no snapshot")),
            Refusal::EpochTooHigh(why) => self.lose_for_long(id, Trouble::EpochTooHigh(why)),
            Refusal::List { why, .. } => self.lose(id, Trouble::ListRefused(why)),
        }
    }

    /// Somebody else may write. For good: this process never gets a higher epoch.
    pub(crate) fn note_fenced(&mut self, id: PeerId, by: Promotion) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        let ours = self.config.promotion;
        if by.epoch < ours.epoch || by == ours {
            return self.lose(id, Trouble::WrongAnswer("it is held by somebody whose right is not higher"));
        }
        self.phase = Phase::Ended(End::Fenced(by));
        for id in (0..self.peers.len()).map(PeerId) {
            if !matches!(self.peers[id.0].state, State::Away(_)) {
                self.act(Action::Disconnect(id));
                self.peers[id.0].lose(Duration::MAX);
            }
        }
    }

    /// Its connection is of no use.
    pub(crate) fn lose(&mut self, id: PeerId, why: Trouble) {
        self.lose_until(id, why, RETRY);
    }

    pub(crate) fn lose_for_long(&mut self, id: PeerId, why: Trouble) {
        self.lose_until(id, why, RETRY_TROUBLE);
    }

    fn lose_until(&mut self, id: PeerId, why: Trouble, retry: Duration) {
        self.end_connection(id, self.now + retry);
        self.peers[id.0].trouble = Some(why);
    }

    fn end_connection(&mut self, id: PeerId, until: Duration) {
        let was_told = matches!(self.peers[id.0].state, State::Told | State::Streaming);
        self.act(Action::Disconnect(id));
        self.peers[id.0].lose(until);
        for purpose in self.forget_asked(id) {
            match purpose {
                Purpose::Read(piece) => self.note_not_read(id, piece),
                Purpose::Heal(heal) => self.give_up_heal(heal),
                Purpose::Compare(_)
                | Purpose::Copy
                | Purpose::List
                | Purpose::Flush
                | Purpose::Snapshot
                | Purpose::Ping(_) => {}
            }
        }
        self.note_comparer_lost(id);
        self.note_copy_lost(id);
        self.note_list_lost(id);
        self.note_snapshots_lost(id);
        // What was decided with it is decided again without it.
        let is_of = |full: &[PeerId]| was_told && full.contains(&id);
        match &self.phase {
            Phase::BringingUp(full) if is_of(full) && self.has_nothing_of_its_own(full, id) => {
                self.phase = Phase::BringingUp(full.iter().copied().filter(|peer| *peer != id).collect());
            }
            Phase::BringingUp(full) | Phase::Listing(full) if is_of(full) => self.gather_again(),
            _ => {}
        }
    }

    /// It is not a member any more. Its place is free.
    pub(crate) fn dismiss(&mut self, id: PeerId) {
        self.end_connection(id, Duration::MAX);
        self.reads.forget_member(id);
        self.forget_who_was_asked(id);
        self.peers[id.0].is_gone = true;
    }

    /// The last write that is in the stream, or was before it.
    pub(crate) fn newest(&self) -> Position {
        if self.window.last.counter == 0 { self.list.base } else { self.window.last }
    }
}
