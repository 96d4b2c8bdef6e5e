//! All that there is at one instant: what each member keeps, the lists, and how far each Upstairs is. What a state says of who begins in it; and
//! that two of them are the same one if they differ in names alone.

use super::super::*;
use region::{ListVersion, Position};
use std::ops::BitOr;
use uuid::Uuid;

/// Three are full in the beginning; the fourth one is new.
pub(super) const MEMBERS: usize = 4;

/// Lists, but for those that nobody may keep or use any more.
pub(super) const LISTS: usize = 10;

/// Upstairs that do something.
pub(super) const WRITERS: usize = 2;

/// Members, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set(pub(super) u8);

impl Set {
    pub(super) fn one(member: usize) -> Set {
        Set(1 << member)
    }

    pub(super) fn has(self, member: usize) -> bool {
        self.0 >> member & 1 == 1
    }

    pub(super) fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub(super) fn both(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    pub(super) fn count(self) -> u32 {
        self.0.count_ones()
    }

    pub(super) fn is_in(self, other: Set) -> bool {
        self.without(other).count() == 0
    }

    pub(super) fn members(self) -> impl Iterator<Item = usize> {
        (0..MEMBERS).filter(move |member| self.has(*member))
    }

    /// All sets of its members, but for the empty one.
    pub(super) fn parts(self) -> impl Iterator<Item = Set> {
        (1..1 << MEMBERS).map(Set).filter(move |part| part.is_in(self))
    }
}

impl BitOr for Set {
    type Output = Set;

    fn bitor(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }
}

/// Epoch and counter: of writes, and of lists.
pub(super) type At = (u8, u8);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    pub(super) promoted: u8,
    /// Which list it keeps; the first one is that of a new member.
    pub(super) list: usize,
    pub(super) applied: At,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) version: At,
    pub(super) full: Set,
    pub(super) base: At,
    pub(super) kept: Set,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    #[default]
    Gathering,
    BringingUp,
    /// It is active when a list of it is in force.
    Listing,
}

/// Which members there are, and which were called gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    pub(super) places: Set,
    pub(super) gone: Set,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Writer {
    pub(super) stage: Stage,
    pub(super) asked: Asked,
    /// Who is brought up, and to what: from there it goes on.
    pub(super) full: Set,
    pub(super) begins_at: At,
    /// The list in force, and the one that is to be.
    pub(super) list: Option<usize>,
    pub(super) pending: Option<usize>,
    pub(super) lists_made: u8,
    pub(super) written: u8,
    pub(super) acknowledged: u8,
    /// What it may hear that each member has applied of its writes.
    pub(super) heard: [u8; MEMBERS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) members: [Known; MEMBERS],
    pub(super) lists: [Option<Listed>; LISTS],
    pub(super) writers: [Option<Writer>; WRITERS],
    pub(super) asked: Asked,
    pub(super) changes: u8,
}

pub(super) fn named(member: usize) -> Member {
    Member { region: RegionId(Uuid::from_u128(member as u128 + 1)), incarnation: 1 }
}

pub(super) fn position((epoch, counter): At) -> Position {
    Position { epoch: epoch.into(), counter: counter.into() }
}

impl State {
    /// The first Upstairs is active, with three members.
    pub(super) fn first() -> State {
        let full = Set(0b111);
        let mut state = State::default();
        state.lists[0] = Some(Listed::default());
        state.lists[1] = Some(Listed { version: (1, 1), full, base: (0, 0), kept: full });
        state.asked.places = Set(0b1111);
        for member in &mut state.members[..3] {
            *member = Known { promoted: 1, list: 1, applied: (0, 0) };
        }
        let asked = state.asked;
        let stage = Stage::Listing;
        state.writers[0] =
            Some(Writer { stage, asked, full, list: Some(1), lists_made: 1, ..Writer::default() });
        state
    }

    pub(super) fn list(&self, number: usize) -> Listed {
        self.lists[number].expect("lists that somebody has are there")
    }

    pub(super) fn kept_by(&self, member: usize) -> Listed {
        self.list(self.members[member].list)
    }

    pub(super) fn is_full(&self, member: usize) -> bool {
        self.kept_by(member).full.has(member)
    }

    pub(super) fn writer(&self, epoch: u8) -> Option<&Writer> {
        self.writers.get(usize::from(epoch).checked_sub(1)?)?.as_ref()
    }

    pub(super) fn writer_mut(&mut self, epoch: u8) -> &mut Writer {
        self.writers[usize::from(epoch) - 1].as_mut().expect("it is one that does something")
    }

    pub(super) fn epochs(&self) -> u8 {
        self.writers.iter().flatten().fold(0, |count, _| count + 1)
    }

    /// Where the stream of this prefix has been before, from the newest position that is its own writer's, back to the beginning.
    pub(super) fn came_by(&self, at: At) -> impl Iterator<Item = At> {
        std::iter::successors(Some(at), |at| self.writer(at.0).map(|writer| writer.begins_at))
    }

    pub(super) fn has(&self, at: At, write: At) -> bool {
        self.came_by(at).any(|(epoch, counter)| epoch == write.0 && counter >= write.1)
    }

    /// Whoever begins with these, in this epoch, has what it has to have.
    pub(super) fn check_begin(&self, full: &[usize], epoch: u8) -> Result<At, String> {
        if full.len() > 3 || !full.iter().all(|member| self.is_full(*member)) {
            return Err("one takes part that is not full, or there are four".to_owned());
        }
        let most = self.members[full[0]].applied;
        for before in 1..epoch {
            let Some(writer) = self.writer(before) else { continue };
            let (first, last) = (writer.begins_at, (before, writer.acknowledged));
            let goes_on = self.came_by(most).any(|at| at == first || at.0 == before);
            if writer.list.is_some() && !goes_on {
                return Err(format!("it begins with {most:?}, and the one before with {first:?}"));
            }
            if last.1 > 0 && !self.has(most, last) {
                return Err(format!("it begins with {most:?}, and {last:?} was acknowledged"));
            }
        }
        Ok(most)
    }

    /// What these tell.
    pub(super) fn told(&self, here: Set) -> BTreeMap<PeerId, Promoted> {
        let told = |member: usize| {
            let Listed { version: (epoch, number), full, base, .. } = self.kept_by(member);
            let version = ListVersion { epoch: epoch.into(), number: number.into() };
            let full = full.members().map(named).collect();
            let applied = position(self.members[member].applied);
            let list = List { version, base: position(base), full };
            (PeerId(member), Promoted { list, applied, durable: applied, is_suspect: false })
        };
        here.members().map(told).collect()
    }

    /// Numbers of lists, and orders of members, that say the same are the same.
    pub(super) fn canonical(mut self) -> State {
        let is_used = |number: usize, list: &Listed| {
            let may_keep = |member: usize| {
                let known = self.members[member];
                known.promoted == list.version.0 && self.kept_by(member).version < list.version
            };
            let is_of = |writer: &Writer| [writer.list, writer.pending].contains(&Some(number));
            number == 0
                || self.members.iter().any(|member| member.list == number)
                || self.writers.iter().flatten().any(is_of)
                || list.full.members().any(may_keep)
        };
        let all = self.lists.iter().enumerate();
        let used: Vec<usize> =
            all.filter_map(|(number, list)| is_used(number, list.as_ref()?).then_some(number)).collect();
        let number_of = |old: usize| used.iter().position(|used| *used == old).expect("it is used");
        let lists = std::array::from_fn(|number| self.lists[*used.get(number)?]);
        for member in &mut self.members {
            member.list = number_of(member.list);
        }
        for writer in self.writers.iter_mut().flatten() {
            writer.list = writer.list.map(number_of);
            writer.pending = writer.pending.map(number_of);
        }
        self.lists = lists;
        let mut order: [usize; MEMBERS] = std::array::from_fn(|member| member);
        order.sort_by_cached_key(|member| {
            let is_in = |set: Set| set.has(*member);
            let lists = self.lists.map(|list| list.map(|list| (is_in(list.full), is_in(list.kept))));
            let writers = self.writers.map(|writer| {
                writer.map(|Writer { full, asked, heard, .. }| {
                    (is_in(full), is_in(asked.places), is_in(asked.gone), heard[*member])
                })
            });
            let asked = (is_in(self.asked.places), is_in(self.asked.gone));
            (self.members[*member], lists, writers, asked)
        });
        self.in_order(order)
    }

    pub(super) fn in_order(mut self, order: [usize; MEMBERS]) -> State {
        let ordered = |set: Set| {
            let new = order.iter().enumerate().filter(|(_, old)| set.has(**old));
            new.fold(Set(0), |all, (new, _)| all | Set::one(new))
        };
        let asked = |asked: Asked| Asked { places: ordered(asked.places), gone: ordered(asked.gone) };
        self.members = order.map(|old| self.members[old]);
        for list in self.lists.iter_mut().flatten() {
            (list.full, list.kept) = (ordered(list.full), ordered(list.kept));
        }
        for writer in self.writers.iter_mut().flatten() {
            (writer.full, writer.asked) = (ordered(writer.full), asked(writer.asked));
            writer.heard = order.map(|old| writer.heard[old]);
        }
        self.asked = asked(self.asked);
        self
    }
}
