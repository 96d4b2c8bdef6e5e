//! What is done to processes, by the seed alone. Pure: the doing is the run's.

use crate::order::VolumeOrder;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// Members of the volume.
pub(crate) const MEMBERS: usize = 3;

/// In the place of a member: the one that it replaces, or the disk that the next one gets.
pub(crate) const SPARE: usize = MEMBERS;

/// Every so many rounds bits are flipped, one member is away for long, and blocks of an encrypted volume are forged; the others are of chance.
const CYCLE: u32 = 5;

/// Blocks whose bits are flipped, or that are forged, at a time, at most.
const ROTTEN_MAX: usize = 24;

/// A process is paused for so long at least, in milliseconds.
const PAUSE_MS_MIN: u64 = 100;

/// Times that one is killed in a row, at most.
const LOOP_MAX: u32 = 5;

/// What is done to the Downstairs in one round. Members are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and started again so much later.
    Kill(usize, Duration),
    /// SIGSTOP, and SIGCONT so much later.
    Pause(usize, Duration),
    /// SIGKILL and start so many times in a row; each life is so long.
    Loop(usize, u32, Duration),
    /// The first one is killed; so much later the second one is paused or killed, too, and so much later it comes back, and then the
    /// first. Clients wait meanwhile.
    Two { first: usize, second: usize, alone: Duration, both: Duration, is_second_killed: bool },
    /// SIGKILL, and started again when so much was written that the Upstairs has left it out, and has to fill it.
    Away(usize),
    /// One is stopped, bits of so many blocks are flipped in its file, and it goes on.
    Rot(usize, usize),
    /// Of an encrypted volume: SIGKILL; so many blocks of its file are changed by somebody who knows the format and not the key, so that their
    /// checksums are right; and started again.
    Forge(usize, usize),
}

/// What ends in one round of part 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGKILL to the export; started again with the next epoch.
    Export,
    /// SIGKILL to the export, and to this member a moment before.
    ExportAndMember(usize),
    /// The two others are paused, so that only this member gets what is written; then SIGKILL to the export and to it. The two others go
    /// on alone, and have everything that was acknowledged.
    Alone(usize),
    /// SIGKILL to all processes.
    Everything,
}

/// A member that is filled has so much of it at most, in percent, when something is killed: then there is enough left to be done.
const FILLED_MAX: u64 = 50;

/// What is done in one round of part 3: a member is replaced, and something else happens while the new one is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    pub(crate) member: usize,
    /// Whether it is killed before, for good.
    pub(crate) is_gone: bool,
    pub(crate) kills: Kills,
    /// When so much of it is filled, in percent.
    pub(crate) filled: u64,
}

/// What is killed while a new member is filled, and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kills {
    Nothing,
    /// The new member.
    New,
    /// The full member that it is filled from.
    Source,
    /// The one that leaves, for good, if it was not killed before.
    Old,
    Export,
}

/// The rounds of part 3. Of each ten, each kind of kill is in two; and every second member is gone.
pub(crate) fn replacements(order: &VolumeOrder) -> Vec<Replacement> {
    let mut random = StdRng::seed_from_u64(order.seed ^ 3);
    (0..order.replacements)
        .map(|round| {
            let member = random.random_range(0..MEMBERS);
            let kills = match round % 5 {
                0 => Kills::Export,
                1 => Kills::New,
                2 => Kills::Source,
                3 => Kills::Old,
                _ => Kills::Nothing,
            };
            let filled = random.random_range(0..=FILLED_MAX);
            Replacement { member, is_gone: round % 2 == 1, kills, filled }
        })
        .collect()
}

/// The rounds of part 1.
pub(crate) fn faults(order: &VolumeOrder) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(order.seed);
    (1..=order.rounds).map(|round| fault(&mut random, order, round)).collect()
}

fn fault(random: &mut StdRng, order: &VolumeOrder, round: u32) -> Fault {
    let member = random.random_range(0..MEMBERS);
    let down = Duration::from_millis(random.random_range(0..=order.down_ms_max));
    match round % CYCLE {
        0 => return Fault::Away(member),
        2 if order.is_encrypted => return Fault::Forge(member, random.random_range(1..=ROTTEN_MAX)),
        3 => return Fault::Rot(member, random.random_range(1..=ROTTEN_MAX)),
        _ => {}
    }
    match random.random_range(0..100) {
        0..40 => Fault::Kill(member, down),
        40..65 => Fault::Pause(member, pause(random, order)),
        65..80 => {
            Fault::Loop(member, random.random_range(2..=LOOP_MAX), down / 4 + Duration::from_millis(20))
        }
        _ => Fault::Two {
            first: member,
            second: (member + random.random_range(1..MEMBERS)) % MEMBERS,
            alone: down / 4,
            both: down / 2,
            is_second_killed: random.random_bool(0.5),
        },
    }
}

/// As often short as long: each doubling is as likely as the next one.
fn pause(random: &mut StdRng, order: &VolumeOrder) -> Duration {
    let (least, most) = ((PAUSE_MS_MIN as f64).ln(), (order.pause_ms_max.max(PAUSE_MS_MIN + 1) as f64).ln());
    Duration::from_millis(random.random_range(least..most).exp() as u64)
}

/// The rounds of part 2. Whatever the seed, the first three are of different kinds.
pub(crate) fn ends(order: &VolumeOrder) -> Vec<End> {
    let mut random = StdRng::seed_from_u64(order.seed ^ u64::MAX);
    (0..order.ends)
        .map(|round| match (round, random.random_range(0..10)) {
            (0, _) => End::Export,
            (1, _) => End::Everything,
            (2, _) => End::Alone(random.random_range(0..MEMBERS)),
            (_, 0..3) => End::Export,
            (_, 3..5) => End::ExportAndMember(random.random_range(0..MEMBERS)),
            (_, 5..7) => End::Alone(random.random_range(0..MEMBERS)),
            _ => End::Everything,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_order_of_things() {
        let one = VolumeOrder::full(1);
        assert_eq!((faults(&one), ends(&one)), (faults(&one), ends(&one)));
        assert_ne!(faults(&one), faults(&VolumeOrder::full(2)));
    }

    #[test]
    fn members_are_replaced_that_are_gone_and_that_are_healthy_with_each_kind_of_kill() {
        for seed in 0..10 {
            let short = replacements(&VolumeOrder::short(seed));
            assert_eq!(short, replacements(&VolumeOrder::short(seed)));
            assert!(short.len() >= 10);
            let kinds: [fn(&Replacement) -> bool; 5] = [
                |one| one.kills == Kills::Nothing,
                |one| one.kills == Kills::New,
                |one| one.kills == Kills::Source,
                |one| one.kills == Kills::Old,
                |one| one.kills == Kills::Export,
            ];
            for is_gone in [false, true] {
                for (number, kind) in kinds.iter().enumerate() {
                    let is_there = short.iter().any(|one| one.is_gone == is_gone && kind(one));
                    assert!(is_there, "seed {seed}: kind {number}, gone: {is_gone}");
                }
            }
        }
    }

    #[test]
    fn every_kind_is_done_whatever_the_seed() {
        for seed in 0..50 {
            let all = faults(&VolumeOrder::full(seed));
            assert_eq!(all.len(), 100);
            for kind in [
                |fault: &Fault| matches!(fault, Fault::Kill(..)),
                |fault: &Fault| matches!(fault, Fault::Pause(..)),
                |fault: &Fault| matches!(fault, Fault::Loop(..)),
                |fault: &Fault| matches!(fault, Fault::Two { .. }),
                |fault: &Fault| matches!(fault, Fault::Away(..)),
                |fault: &Fault| matches!(fault, Fault::Rot(..)),
            ] {
                assert!(all.iter().any(kind), "seed {seed}: {all:?}");
            }
            let short = VolumeOrder::short(seed);
            let count = |kind: fn(&Fault) -> bool| faults(&short).iter().filter(|fault| kind(fault)).count();
            assert!(count(|fault| matches!(fault, Fault::Rot(..))) >= 2, "seed {seed}");
            assert!(count(|fault| matches!(fault, Fault::Away(..))) >= 2, "seed {seed}");
            let forges = |fault: &Fault| matches!(fault, Fault::Forge(..));
            assert!(!all.iter().any(forges), "what is not sealed can be forged, and nobody can tell");
            let sealed = faults(&VolumeOrder::short_encrypted(seed));
            let kinds: [fn(&Fault) -> bool; 3] =
                [forges, |fault| matches!(fault, Fault::Rot(..)), |fault| matches!(fault, Fault::Away(..))];
            assert!(kinds.iter().all(|kind| sealed.iter().any(kind)), "seed {seed}: {sealed:?}");
            let ends = ends(&short);
            assert!(ends.contains(&End::Export) && ends.contains(&End::Everything), "seed {seed}");
            assert!(ends.iter().any(|end| matches!(end, End::Alone(_))), "seed {seed}");
        }
    }

    #[test]
    fn times_are_within_what_is_ordered_and_two_are_two() {
        let order = VolumeOrder::full(3);
        for fault in faults(&order) {
            match fault {
                Fault::Pause(_, pause) => {
                    assert!((PAUSE_MS_MIN..=order.pause_ms_max).contains(&(pause.as_millis() as u64)));
                }
                Fault::Two { first, second, .. } => assert!(first != second && second < MEMBERS),
                Fault::Kill(_, down) => assert!(down.as_millis() as u64 <= order.down_ms_max),
                Fault::Loop(_, times, _) => assert!((2..=LOOP_MAX).contains(&times)),
                Fault::Away(member) => assert!(member < MEMBERS),
                Fault::Rot(_, blocks) | Fault::Forge(_, blocks) => {
                    assert!((1..=ROTTEN_MAX).contains(&blocks));
                }
            }
        }
    }
}
