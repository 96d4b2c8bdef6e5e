//! Telling what the machine believes, and what of it does not go on and for whom. Looks at everything; changes nothing, decides nothing.

use crate::{
    activation::{Decision, patience},
    lists::Pending,
    peer::{Peer, State},
    status::{CopyStatus, FillPhase, FillStatus, MemberStatus, PhaseName, Role, Status, Wait, WaitCode},
    trouble::Trouble,
    types::PeerId,
    upstairs::{End, Phase, SILENCE_MAX, Upstairs},
};
use ids::RegionId;
use region::{ListVersion, Member};
use std::{collections::BTreeSet, num::NonZeroU64, time::Duration};

impl Upstairs {
    /// What it believes. Takes no longer than a look at all that is kept; changes nothing.
    #[must_use]
    pub fn status(&self, now: Duration) -> Status {
        let geometry = self.config.geometry;
        let end = if let Phase::Ended(end) = self.phase { Some(end) } else { None };
        let is_idle = matches!(self.phase, Phase::Idle);
        Status {
            set: self.config.set,
            block_bytes: u32::try_from(geometry.block_size.bytes()).expect("a block is small"),
            blocks: geometry.blocks,
            is_encrypted: geometry.is_sealed,
            phase: self.phase_name(),
            waits: self.waits(now),
            is_giving_up: self.giving_up(now).is_some(),
            epoch: (!is_idle).then_some(self.config.promotion.epoch),
            session: self.config.promotion.session,
            fenced_by: match end {
                Some(End::Fenced(by)) => Some(by.into()),
                _ => None,
            },
            lost_up_to: match end {
                Some(End::Lost(position)) => Some(position.into()),
                _ => None,
            },
            newest: self.newest().into(),
            acknowledged: self.jobs.acknowledged.into(),
            list: self.has_list().then(|| (&self.list).into()),
            next_list: self.pending.as_ref().map(|pending| (&pending.list).into()),
            members: (0..)
                .map(PeerId)
                .zip(&self.peers)
                .filter(|(_, peer)| !peer.is_gone)
                .map(|(id, peer)| self.member(now, id, peer))
                .collect(),
            copy: self.copier.as_ref().map(|copier| {
                let (from, to) = copier.between();
                CopyStatus {
                    from: self.region_of(from),
                    to: self.region_of(to),
                    is_bring_up: copier.is_staging(),
                    blocks_done: copier.blocks_done(),
                    blocks: geometry.blocks,
                    bytes_per_second_max: self
                        .allowance
                        .rate()
                        .filter(|_| !copier.is_staging())
                        .map(NonZeroU64::get),
                }
            }),
            window: self.window.status(),
            jobs: self.jobs.status(),
            totals: self.totals,
        }
    }

    fn phase_name(&self) -> PhaseName {
        match self.phase {
            Phase::Idle => PhaseName::Idle,
            Phase::Gathering(_) => PhaseName::Gathering,
            Phase::BringingUp(_) => PhaseName::BringingUp,
            Phase::Listing(_) => PhaseName::Listing,
            Phase::Active => PhaseName::Active,
            Phase::Ended(End::Fenced(_)) => PhaseName::Fenced,
            Phase::Ended(End::Lost(_)) => PhaseName::Lost,
        }
    }

    /// Whether any list was in force yet.
    fn has_list(&self) -> bool {
        self.list.version != ListVersion::default()
    }

    fn region_of(&self, peer: PeerId) -> RegionId {
        self.peers[peer.0].member.region
    }

    fn member(&self, now: Duration, id: PeerId, peer: &Peer) -> MemberStatus {
        let role = match (self.has_list(), self.is_full(id)) {
            (false, _) => Role::Unknown,
            (true, true) => Role::Full,
            (true, false) => Role::Filling,
        };
        let retry = match peer.state {
            // Nobody tries any more.
            State::Away(Duration::MAX) => None,
            State::Away(until) => Some(milliseconds(until.saturating_sub(now))),
            _ => None,
        };
        let is_known = role == Role::Full || peer.is_streaming();
        MemberStatus {
            region: peer.member.region,
            incarnation: peer.member.incarnation,
            address: None,
            state: peer.state.into(),
            retry_in_ms: retry,
            role,
            fill: (role == Role::Filling && !peer.is_leaving).then(|| self.fill(id, peer)),
            is_suspect: peer.told.as_ref().is_some_and(|told| told.is_suspect),
            is_condemned: peer.is_condemned,
            is_leaving: peer.is_leaving,
            applied: peer.applied.into(),
            durable: peer.durable.into(),
            behind: if is_known { self.window.lag(peer.applied) } else { None },
            heard_ms_ago: peer.heard.map(|heard| milliseconds(now.saturating_sub(heard))),
            trouble: peer.trouble.as_ref().map(Trouble::to_string),
            trouble_code: peer.trouble.as_ref().map(Trouble::code),
            wrong_blocks: peer.wrong_blocks,
            wrong_seals: peer.wrong_seals,
            healed_blocks: peer.healed_blocks,
        }
    }

    fn fill(&self, id: PeerId, peer: &Peer) -> FillStatus {
        let has_it = |pending: &Pending| pending.list.full.contains(&peer.member);
        let copier = self.copier.as_ref().filter(|copier| copier.between().1 == id);
        let phase = match (copier, &self.pending) {
            _ if !peer.is_streaming() => FillPhase::Away,
            (Some(copier), _) => copier.fill_phase(),
            (_, Some(pending)) if has_it(pending) => FillPhase::Joining,
            (None, Some(_)) if self.copier.is_none() && peer.filled == self.config.geometry.blocks => {
                FillPhase::MakingRoom
            }
            _ => FillPhase::Queued,
        };
        let size = self.config.geometry.block_size.bytes() as u64;
        FillStatus {
            phase,
            source: copier.map(|copier| self.region_of(copier.between().0)),
            bytes_done: peer.filled * size,
            bytes: self.config.geometry.blocks * size,
        }
    }

    /// What does not go on.
    fn waits(&self, now: Duration) -> Vec<Wait> {
        match &self.phase {
            Phase::Idle => {
                vec![wait(WaitCode::Activation, [], "it was not activated: nobody gave it an epoch")]
            }
            Phase::Gathering(since) => self.gathering_waits(now, *since),
            Phase::BringingUp(full) => {
                let behind = full[1..].iter().map(|peer| self.region_of(*peer));
                vec![wait(
                    WaitCode::BringUp,
                    behind,
                    "members are brought to the state of the one that has most",
                )]
            }
            Phase::Listing(_) => self.list_wait().into_iter().collect(),
            Phase::Active => self.active_waits(now),
            Phase::Ended(_) => Vec::new(),
        }
    }

    fn gathering_waits(&self, now: Duration, since: Option<Duration>) -> Vec<Wait> {
        let told = self.told();
        let missing = self.members().map(|(peer, _)| peer).filter(|peer| !told.contains_key(peer));
        let missing: Vec<RegionId> = missing.map(|peer| self.region_of(peer)).collect();
        let waited = since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let needed = if self.config.accepts_possible_loss { "one member" } else { "two members" };
        match self.decide_now(&told, waited) {
            Decision::Go(_) => Vec::new(),
            Decision::WaitForMore => {
                let left = patience(&self.known(), &told).saturating_sub(waited).as_secs_f32();
                let words = format!(
                    "enough are here to begin; another one may know better and is waited for, {left:.0} s longer"
                );
                vec![wait(WaitCode::AnotherMember, missing, words)]
            }
            Decision::Wait if missing.is_empty() => vec![self.wait_for_who_is_gone()],
            Decision::Wait => {
                let here = told.len();
                let words = format!(
                    "{needed} of the newest list are needed to begin, because they hold everything that was \
                     acknowledged; of the members {here} {} here",
                    if here == 1 { "is" } else { "are" }
                );
                vec![wait(WaitCode::TooFewMembers, missing, words)]
            }
        }
    }

    /// All that there are to be have told, and nobody else will come.
    fn wait_for_who_is_gone(&self) -> Wait {
        let is_member = |member: &Member| self.members().any(|(_, known)| known == *member);
        let told = self.told();
        let lists = told.values().map(|promoted| &promoted.list);
        let unknown = lists.flat_map(|list| &list.full).filter(|member| !is_member(member));
        let unknown: BTreeSet<RegionId> = unknown.map(|member| member.region).collect();
        let words = "all members are here, and what was acknowledged may be on others alone, which the request does not name any \
                     more: take the request back that has them, if they can be reached; if they are lost for good, begin with \
                     possible loss";
        wait(WaitCode::TooFewMembers, unknown, words)
    }

    fn list_wait(&self) -> Option<Wait> {
        let pending = self.pending.as_ref()?;
        let asked = |member: &&Member| {
            self.peers
                .iter()
                .position(|peer| peer.member == **member)
                .is_none_or(|at| !pending.is_kept(PeerId(at)))
        };
        let missing = pending.list.full.iter().filter(asked).map(|member| member.region);
        let words = format!("list {} of the full members is to be kept by all of them", pending.list.version);
        Some(wait(WaitCode::List, missing, words))
    }

    fn active_waits(&self, now: Duration) -> Vec<Wait> {
        let mut waits = Vec::new();
        let streams = |peer: &PeerId| self.peers[peer.0].is_streaming();
        let missing = self.members().map(|(peer, _)| peer);
        let missing = missing.filter(|peer| !streams(peer) || !self.is_full(*peer));
        if self.counting().iter().filter(|peer| streams(peer)).count() < 2 {
            let words = match self.config.patience.for_members {
                None => {
                    "writes and flushes wait, without errors, until a second full member is there".to_owned()
                }
                Some(limit) => format!(
                    "writes and flushes wait until a second full member is there, for {} s at most",
                    limit.as_secs()
                ),
            };
            waits.push(wait(WaitCode::SecondMember, missing.map(|peer| self.region_of(peer)), words));
        }
        let full: Vec<PeerId> = self.counting().into_iter().filter(streams).collect();
        let is_out_of_room = |peer: &&PeerId| self.peers[peer.0].is_out_of_room();
        if full.iter().filter(is_out_of_room).count() + 2 > full.len().max(2) {
            let these = full.iter().filter(is_out_of_room).map(|peer| self.region_of(*peer));
            let limit =
                self.config.patience.for_room.map(|limit| format!(", for {} s at most", limit.as_secs()));
            let words = format!(
                "writes and flushes wait until there is room on the disks of these members{}",
                limit.unwrap_or_default()
            );
            waits.push(wait(WaitCode::DiskRoom, these, words));
        }
        if !self.has_right_at(now) {
            let silent = self.members().map(|(peer, _)| peer).filter(|peer| !self.is_heard(now, *peer));
            let words = format!(
                "reads are held: two full members were not heard of in the last {} s",
                SILENCE_MAX.as_secs()
            );
            waits.push(wait(WaitCode::Silence, silent.map(|peer| self.region_of(peer)), words));
        }
        if !self.window.has_room() {
            let two_have = self.two_have(|peer| peer.applied);
            let is_slow = |peer: &Peer| peer.applied < two_have || !peer.is_streaming();
            let slow = self.peers.iter().filter(|peer| !peer.is_gone && is_slow(peer));
            let words = "writes wait for room: so much was written that a member has not taken yet";
            waits.push(wait(WaitCode::Room, slow.map(|peer| peer.member.region), words));
        }
        waits.extend(self.list_wait());
        waits
    }
}

fn wait(code: WaitCode, members: impl IntoIterator<Item = RegionId>, words: impl Into<String>) -> Wait {
    Wait { code, members: members.into_iter().collect(), words: words.into() }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
