//! All that may have happened before an Upstairs begins, with few members, lists and writes: every order of every step. Whoever begins by
//! [`decide`] has everything that was acknowledged, and goes on from where the one before it began.
//!
//! ```text
//!   an Upstairs:   promotes members ──decides──► brings up ──► its first list ──kept by all──► active
//!   active:        writes, members apply, two of those that count: acknowledged
//!                  wants a list with one less, one more, the same as before, or of one alone ──kept by all──► in force
//!                  tells who is not full the list in force; may stop at any time, and be promoted past at any time
//!   the request:   members are called gone, as long as one that counts stays; the newest Upstairs hears of it at once, later or never
//! ```
//!
//! A member keeps any list that it was ever asked to keep by whoever promoted it last, at any time, if it is newer than the one that it keeps.
//! So lost messages and late ones are there, too. Members that behave alike are the same one: only one order of them is looked at. No power
//! fails here; what that may take is looked at by the simulation.
//!
//! The one that begins in the end is not a part of a state: in each of them every set of members that it may reach is asked. That is as good
//! as promoting them one by one, since a member that is promoted earlier is one to which nothing more happens.
//!
//! What there is at an instant: [`state`]. Here is what may happen next, and what is looked at.

mod state;

use super::*;
use state::*;
use std::collections::BTreeSet;

/// How much may happen.
#[derive(Clone, Copy)]
struct Bounds {
    /// By each of them.
    lists: [u8; WRITERS],
    writes: [u8; WRITERS],
    /// Times that members are called gone.
    changes: u8,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    /// Times that one begins with one member alone, which keeps a list of more.
    last: usize,
}

/// What each of some members keeps, and has applied.
type Told = Vec<(usize, Listed, At)>;

/// Looks at everything that may happen.
struct Search {
    bounds: Bounds,
    seen: BTreeSet<State>,
    left: Vec<State>,
    /// What was decided of what was told.
    decided: BTreeMap<(Asked, Told), Vec<usize>>,
    found: Found,
}

fn look(bounds: Bounds) -> Result<Found, String> {
    let (seen, left) = (BTreeSet::new(), Vec::new());
    let mut search = Search { bounds, seen, left, decided: BTreeMap::new(), found: Found::default() };
    search.add(State::first());
    while let Some(state) = search.left.pop() {
        search.go_on(state).map_err(|why| format!("{why}: {state:?}"))?;
    }
    search.found.states = search.seen.len();
    Ok(search.found)
}

impl Search {
    fn add(&mut self, state: State) {
        let state = state.canonical();
        if self.seen.insert(state) {
            self.left.push(state);
        }
    }

    /// Those that are full, the one with the longest prefix first; nobody, if it waits.
    fn decide(&mut self, state: &State, asked: Asked, here: Set) -> Vec<usize> {
        let known = |member: usize| {
            let list = Listed { kept: Set(0), ..state.kept_by(member) };
            (member, list, state.members[member].applied)
        };
        let told: Told = here.members().map(known).collect();
        let decided = self.decided.entry((asked, told)).or_insert_with(|| {
            let places = asked.places.members().map(|member| (named(member), PeerId(member))).collect();
            let gone: Vec<RegionId> = asked.gone.members().map(|member| named(member).region).collect();
            let given = Given { accepts_possible_loss: false, gone: &gone };
            match decide(&places, &state.told(here), LONG_PATIENCE, given) {
                Decision::Wait | Decision::WaitForMore => Vec::new(),
                Decision::Go(full) => full.iter().map(|peer| peer.0).collect(),
            }
        });
        decided.clone()
    }

    fn go_on(&mut self, state: State) -> Result<(), String> {
        let (asked, epochs) = (state.asked, state.epochs());
        for here in asked.places.parts() {
            let full = self.decide(&state, asked, here);
            if !full.is_empty() {
                state.check_begin(&full, epochs + 1)?;
                let is_last = full.len() == 1 && state.kept_by(full[0]).full.count() > 1;
                self.found.last += usize::from(is_last);
            }
        }
        if let Some(place) = state.writers.iter().position(Option::is_none)
            && self.bounds.lists[place] > 0
        {
            let mut next = state;
            next.writers[place] = Some(Writer { asked, ..Writer::default() });
            self.add(next);
        }
        self.change_request(&state);
        for epoch in 1..=epochs {
            self.promote(&state, epoch);
            match state.writer(epoch).map(|writer| writer.stage) {
                Some(Stage::Gathering) => self.gather(&state, epoch)?,
                Some(Stage::BringingUp) => self.bring_up(&state, epoch),
                Some(Stage::Listing) => self.list(&state, epoch)?,
                None => {}
            }
        }
        Ok(())
    }

    fn promote(&mut self, state: &State, epoch: u8) {
        let Some(writer) = state.writer(epoch) else { return };
        for member in writer.asked.places.members().filter(|member| state.members[*member].promoted < epoch) {
            let mut next = *state;
            next.members[member].promoted = epoch;
            self.add(next);
        }
    }

    /// As long as the newest Upstairs is active.
    fn change_request(&mut self, state: &State) {
        let epoch = state.epochs();
        let Some(writer) = state.writer(epoch) else { return };
        let Some(list) = writer.list.map(|list| state.list(list).full) else { return };
        let pending = writer.pending.map_or(list, |pending| state.list(pending).full);
        let counting = list.both(pending).both(writer.asked.places);
        let knows_all = writer.asked == state.asked;
        if knows_all && list.is_in(state.asked.places) && state.changes < self.bounds.changes {
            for gone in state.asked.places.parts() {
                if counting.without(gone).count() > 0 && counting.both(gone).count() > 0 {
                    let mut next = *state;
                    next.asked =
                        Asked { places: next.asked.places.without(gone), gone: next.asked.gone | gone };
                    next.changes += 1;
                    self.add(next);
                }
            }
        }
        // All three are full: who has left is forgotten, and who is gone.
        if knows_all && list.count() == 3 && list.is_in(state.asked.places) && writer.pending.is_none() {
            let mut next = *state;
            next.asked = Asked { places: list, gone: Set(0) };
            next.writer_mut(epoch).asked = next.asked;
            self.add(next);
        }
        if !knows_all {
            let mut next = *state;
            next.writer_mut(epoch).asked = state.asked;
            self.add(next);
        }
    }

    fn may_make_list(&self, writer: &Writer, epoch: u8) -> bool {
        writer.lists_made < self.bounds.lists[usize::from(epoch) - 1]
    }

    fn gather(&mut self, state: &State, epoch: u8) -> Result<(), String> {
        let Some(writer) = state.writer(epoch).filter(|writer| self.may_make_list(writer, epoch)) else {
            return Ok(());
        };
        let are_told = |here: &Set| here.members().all(|member| state.members[member].promoted == epoch);
        for here in writer.asked.places.parts().filter(are_told) {
            let full = self.decide(state, writer.asked, here);
            if !full.is_empty() {
                let begins_at = state.check_begin(&full, epoch)?;
                let full = full.into_iter().fold(Set(0), |all, member| all | Set::one(member));
                let mut next = *state;
                let stage = Stage::BringingUp;
                *next.writer_mut(epoch) = Writer { stage, full, begins_at, ..*writer };
                self.add(next);
            }
        }
        Ok(())
    }

    fn bring_up(&mut self, state: &State, epoch: u8) {
        let Some(writer) = state.writer(epoch) else { return };
        self.gather_again(state, epoch);
        let is_ours = |member: usize| state.members[member].promoted == epoch;
        if !writer.full.members().all(is_ours) {
            return;
        }
        let is_behind = |member: &usize| state.members[*member].applied < writer.begins_at;
        for behind in writer.full.members().filter(is_behind) {
            let mut next = *state;
            next.members[behind].applied = writer.begins_at;
            self.add(next);
        }
        if !writer.full.members().any(|member| is_behind(&member)) {
            let mut next = *state;
            next.writer_mut(epoch).stage = Stage::Listing;
            self.begin_list(&next, epoch, writer.full, writer.begins_at);
        }
    }

    fn gather_again(&mut self, state: &State, epoch: u8) {
        let mut next = *state;
        let writer = next.writer_mut(epoch);
        (writer.stage, writer.pending) = (Stage::Gathering, None);
        self.add(next);
    }

    fn begin_list(&mut self, state: &State, epoch: u8, full: Set, base: At) {
        let mut next = *state;
        let Some(place) = next.lists.iter().position(Option::is_none) else { return };
        let writer = next.writer_mut(epoch);
        let is_same = writer.pending.is_some_and(|pending| state.list(pending).full == full);
        if is_same || writer.lists_made >= self.bounds.lists[usize::from(epoch) - 1] {
            return;
        }
        writer.lists_made += 1;
        writer.pending = Some(place);
        let version = (epoch, writer.lists_made);
        next.lists[place] = Some(Listed { version, full, base, kept: Set(0) });
        self.add(next);
    }

    /// What one does that has a list, or is to have its first one.
    fn list(&mut self, state: &State, epoch: u8) -> Result<(), String> {
        let Some(writer) = state.writer(epoch) else { return Ok(()) };
        self.keep_lists(state, epoch, writer);
        if let Some(pending) =
            writer.pending.filter(|list| state.list(*list).full.is_in(state.list(*list).kept))
        {
            let mut next = *state;
            let writer = next.writer_mut(epoch);
            (writer.list, writer.pending) = (Some(pending), None);
            self.add(next);
        }
        let Some(in_force) = writer.list else {
            self.gather_again(state, epoch);
            return Ok(());
        };
        self.write(state, epoch, writer, state.list(in_force))?;
        self.change_list(state, epoch, writer, state.list(in_force));
        let is_ours = |member: &usize| state.members[*member].promoted == epoch;
        let others = writer.asked.places.without(state.list(in_force).full);
        for member in others.members().filter(is_ours) {
            if state.kept_by(member).version < state.list(in_force).version {
                let mut next = *state;
                next.members[member].list = in_force;
                self.add(next);
            }
        }
        Ok(())
    }

    fn keep_lists(&mut self, state: &State, epoch: u8, writer: &Writer) {
        for (number, list) in state.lists.iter().enumerate() {
            let Some(list) = list.filter(|list| list.version.0 == epoch) else { continue };
            for member in list.full.members() {
                let known = state.members[member];
                let has_base = !state.is_full(member) || known.applied >= list.base;
                let is_newer = state.kept_by(member).version < list.version;
                if known.promoted != epoch || !is_newer || !has_base {
                    continue;
                }
                let mut next = *state;
                if !state.is_full(member) {
                    next.members[member].applied = list.base;
                    if list.base.0 == epoch {
                        next.writer_mut(epoch).heard[member] = writer.heard[member].max(list.base.1);
                    }
                }
                next.members[member].list = number;
                next.lists[number] = Some(Listed { kept: list.kept | Set::one(member), ..list });
                self.add(next);
            }
        }
    }

    fn write(&mut self, state: &State, epoch: u8, writer: &Writer, list: Listed) -> Result<(), String> {
        if writer.written < self.bounds.writes[usize::from(epoch) - 1] {
            let mut next = *state;
            next.writer_mut(epoch).written += 1;
            self.add(next);
        }
        for member in list.full.both(writer.asked.places).members() {
            let known = state.members[member];
            let counter = match known.applied {
                (of, counter) if of == epoch => counter + 1,
                at if at == writer.begins_at => 1,
                _ => continue,
            };
            if known.promoted == epoch && state.is_full(member) && counter <= writer.written {
                let mut next = *state;
                next.members[member].applied = (epoch, counter);
                next.writer_mut(epoch).heard[member] = counter;
                self.add(next);
            }
        }
        let pending = writer.pending.map_or(list.full, |pending| state.list(pending).full);
        let counting = list.full.both(pending).both(writer.asked.places);
        let next_one = writer.acknowledged + 1;
        if next_one <= writer.written
            && counting.members().filter(|member| writer.heard[*member] >= next_one).count() >= 2
        {
            let began =
                |later: &u8| state.writer(*later).is_some_and(|later| later.stage != Stage::Gathering);
            for later in (epoch + 1..=state.epochs()).filter(began) {
                let begins_at = state.writer(later).map(|later| later.begins_at).unwrap_or_default();
                if !state.has(begins_at, (epoch, next_one)) {
                    return Err(format!("{epoch} acknowledges {next_one} when {later} has begun without it"));
                }
            }
            let mut next = *state;
            next.writer_mut(epoch).acknowledged = next_one;
            self.add(next);
        }
        Ok(())
    }

    fn change_list(&mut self, state: &State, epoch: u8, writer: &Writer, list: Listed) {
        let places = writer.asked.places;
        let is_ours = |member: usize| state.members[member].promoted == epoch;
        let acknowledged = if writer.acknowledged > 0 { (epoch, writer.acknowledged) } else { (0, 0) };
        let base = list.base.max(acknowledged);
        for member in list.full.members() {
            let one = Set::one(member);
            let rest = list.full.without(one);
            if rest.count() >= 2 && rest.is_in(places) && rest.members().all(is_ours) {
                self.begin_list(state, epoch, rest, base);
            }
            // All others are gone.
            if rest.count() >= 1 && rest.both(places).count() == 0 && places.has(member) && is_ours(member) {
                self.begin_list(state, epoch, one, base);
            }
        }
        if writer.pending.is_some() {
            return self.begin_list(state, epoch, list.full, base);
        }
        let newest = if writer.written > 0 { (epoch, writer.written) } else { list.base };
        for new in places.without(list.full).members() {
            // It was told the list in force when it began to be filled.
            let is_told = state.kept_by(new).version >= list.version;
            if list.full.count() < 3 && is_ours(new) && is_told {
                self.begin_list(state, epoch, list.full | Set::one(new), newest);
            }
        }
    }
}

/// One Upstairs, and whoever begins after it.
const ONE: Bounds = Bounds { lists: [3, 0], writes: [1, 0], changes: 1 };

/// Another one that begins and has a list, or does not come so far.
const TWO: Bounds = Bounds { lists: [2, 1], writes: [1, 1], changes: 1 };

#[test]
fn whoever_begins_has_everything_that_was_acknowledged() {
    for (bounds, states) in [(ONE, 50_000), (TWO, 50_000)] {
        let found = look(bounds).expect("nothing is missed");
        assert!(found.states > states && found.last > 1_000, "{found:?}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn leaving_out_a_rule_of_who_counts_is_noticed() {
    look(ONE).expect("nothing is missed");
    for rule in [
        Rule::TwoActivate,
        Rule::LongestPrefix,
        Rule::TheLastOneIsKnownToBe,
        Rule::WhoWasLeftOutOfTheLastListCounts,
    ] {
        let missed = rule.left_out(|| look(ONE));
        assert!(missed.is_err(), "{rule:?}: {missed:?}");
    }
}
