//! Random volumes. `VOLUME_LAYERS_SEED` runs one alone, `VOLUME_LAYERS_RUNS` so many.

use crate::{
    history::Mark,
    sites::Site,
    world::{Ground, World},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    time::Duration,
};
use upstairs::{Job, JobError, Limits};
use volume_layers::{Rule, ScrubStatus};

const SEEDS: u64 = 300;

/// What was done in one run.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    reads: u64,
    looks: u64,
    failed: u64,
    /// Volumes that have no parent any more, and bytes that were copied for that.
    dropped: u64,
    copied: u64,
    zeroed: u64,
}

/// A site, and what was written there before: by another volume, of which it was all.
fn written_site(random: &mut StdRng, number: u128) -> (Ground, Vec<Option<Mark>>) {
    let blocks = random.random_range(1..40_u64);
    let none = vec![0; usize::try_from(blocks).expect("it is small")];
    let layers = vec![vec![Ground::Set(Site::new(number, blocks))]];
    let mut world = World::new(random.random(), layers, 1, &none);
    world.activate();
    let mut known: BTreeMap<u64, Mark> = BTreeMap::new();
    for turn in 0..random.random_range(0..6_u64) {
        let first = random.random_range(0..blocks);
        let count = random.random_range(1..=(blocks - first).min(9));
        let marks: Vec<Mark> = match random.random_bool(0.6) {
            true => (0..count).map(|at| 10_000_000 * (turn + 1) + 1_000 * number as u64 + at).collect(),
            false => vec![0; usize::try_from(count).expect("it is small")],
        };
        let job = if marks[0] == 0 {
            Job::Zero { first, count, is_durable: false }
        } else {
            let bytes: Vec<u8> = marks.iter().flat_map(|mark| crate::world::block(*mark)).collect();
            Job::Write { first, bytes: bytes.into(), is_durable: false }
        };
        world.submit(job);
        world.settle();
        known.extend((first..).zip(marks));
    }
    let mut ground = world.layers.pop().expect("it has one layer");
    let mut ground = ground.pop().expect("it has one part");
    if let Ground::Set(site) = &mut ground {
        site.change_hands();
    }
    (ground, (0..blocks).map(|block| known.get(&block).copied()).collect())
}

/// Parts of a layer, and what each of its blocks holds; none if nobody ever wrote it.
fn layer(random: &mut StdRng, sets: &mut u128, is_own: bool) -> (Vec<Ground>, Vec<Option<Mark>>) {
    let (mut grounds, mut marks) = (Vec::new(), Vec::new());
    let sources = if is_own { 0.05 } else { 0.5 };
    for _ in 0..random.random_range(1..=3) {
        if random.random_bool(sources) {
            // Of a snapshot, there are blocks that nobody ever wrote.
            let never = if random.random_bool(0.5) { 0.3 } else { 0.0 };
            let own: Vec<Option<Mark>> = (0..random.random_range(1..30_u64))
                .map(|at| {
                    let mark = if random.random_bool(0.2) { 0 } else { 500_000 + at };
                    (!random.random_bool(never)).then_some(mark)
                })
                .collect();
            marks.extend(own.iter().copied());
            grounds.push(Ground::Source(own));
        } else {
            *sets += 1;
            let (ground, own) = written_site(random, *sets);
            marks.extend(own);
            grounds.push(ground);
        }
    }
    (grounds, marks)
}

fn run(seed: u64) -> Sum {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sets = 0;
    let layers: Vec<(Vec<Ground>, Vec<Option<Mark>>)> =
        (0..random.random_range(1..=3)).map(|depth| layer(&mut random, &mut sets, depth == 0)).collect();
    let own: u64 = layers[0].0.iter().map(Ground::blocks).sum();
    let seen = |block: u64| {
        let at = usize::try_from(block).expect("it is small");
        layers
            .iter()
            .map(|(_, marks)| marks.get(at))
            .take_while(Option::is_some)
            .flatten()
            .find_map(|mark| *mark)
    };
    let initial: Vec<Mark> = (0..own).map(|block| seen(block).unwrap_or(0)).collect();
    let mut grounds: Vec<Vec<Ground>> = layers.into_iter().map(|(grounds, _)| grounds).collect();
    // In some volumes little is kept for members, so that writes wait; in some of those members go away for longer than clients wait.
    let (is_narrow, goes_away) = (random.random_bool(0.4), random.random_bool(0.4));
    for ground in &mut grounds[0] {
        if let (Ground::Set(site), true) = (ground, is_narrow) {
            site.limits = Limits { window_entries: 2, in_flight_entries: 1, ..Limits::default() };
            site.patience.for_members = goes_away.then_some(Duration::from_millis(400));
        }
    }
    let goes_away = is_narrow && goes_away && matches!(grounds[0][0], Ground::Set(_));

    let mut world = World::new(random.random(), grounds, 2, &initial);
    world.errors = if random.random_bool(0.2) { 30 } else { 0 };
    let before = random.random_range(0..4);
    (0..before).for_each(|_| world.submit_any());
    world.activate();
    let scrubs = if random.random_bool(0.6) { 0.01 } else { 0.0 };
    let (mut left, mut is_dropped, mut scrub) = (120, false, None);
    if scrubs > 0.0 && random.random_bool(0.7) {
        world.start_scrub();
    }
    while left > 0 {
        if goes_away && random.random_bool(0.02) {
            world.turn(random.random_range(0..3));
        }
        if random.random_bool(scrubs) {
            match random.random_range(0..8) {
                0 => world.stop_scrub(),
                1 => is_dropped |= world.drop_parents(),
                _ => drop(world.start_scrub()),
            }
        }
        if random.random_bool(0.1) {
            world.submit_any();
            left -= 1;
        } else if !world.happen() {
            world.tick();
        }
        check_progress(&mut scrub, world.scrub());
    }
    world.turn_all_back();
    world.settle();
    if scrubs > 0.0 && world.start_scrub() {
        world.finish_scrub();
        check_progress(&mut scrub, world.scrub());
        let done = scrub.as_ref().expect("it was begun");
        assert_eq!((done.bytes_done, &done.waits), (done.bytes, &None));
        is_dropped |= world.drop_parents();
        assert!(is_dropped && !world.start_scrub(), "nothing lies under it any more");
    }
    // All of it, at the end, when nothing else is under way.
    world.errors = 0;
    world.submit(Job::Read { first: 0, count: own });
    world.settle();
    let is_expected = |error: &JobError| match error {
        JobError::NotFetched { why, .. } => why == "it is broken",
        JobError::ReadOnly => world.volume.is_read_only(),
        JobError::TooFewMembers { .. } => goes_away,
        _ => false,
    };
    assert!(world.failed.iter().all(is_expected), "{:?}", world.failed);
    Sum {
        reads: world.reads,
        looks: world.looks,
        failed: world.failed.len() as u64,
        dropped: u64::from(is_dropped),
        copied: scrub.as_ref().map_or(0, |scrub| scrub.copied_bytes),
        zeroed: scrub.as_ref().map_or(0, |scrub| scrub.zeroed_bytes),
    }
}

/// How far a scrub is never becomes less.
fn check_progress(before: &mut Option<ScrubStatus>, now: Option<ScrubStatus>) {
    let Some(now) = now else { return };
    let was = before.as_ref().map_or((0, 0, 0), |was| (was.bytes_done, was.copied_bytes, was.zeroed_bytes));
    let (done, copied, zeroed) = was;
    let is_further = now.bytes_done >= done && now.copied_bytes >= copied && now.zeroed_bytes >= zeroed;
    assert!(is_further && now.bytes_done <= now.bytes, "{before:?}, {now:?}");
    *before = Some(now);
}

#[test]
fn any_volume_is_an_array_of_blocks() {
    let number = |variable| std::env::var(variable).ok().map(|text| text.parse().expect("it is a number"));
    let seeds: Range<u64> = match number("VOLUME_LAYERS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VOLUME_LAYERS_RUNS").unwrap_or(SEEDS),
    };
    let mut sum = Sum::default();
    for seed in seeds.clone() {
        let ran = catch_unwind(|| run(seed)).unwrap_or_else(|_| {
            panic!("VOLUME_LAYERS_SEED={seed} cargo test -p volume-layers --test parts any_volume")
        });
        sum = Sum {
            reads: sum.reads + ran.reads,
            looks: sum.looks + ran.looks,
            failed: sum.failed + ran.failed,
            dropped: sum.dropped + ran.dropped,
            copied: sum.copied + ran.copied,
            zeroed: sum.zeroed + ran.zeroed,
        };
    }
    println!("{sum:?}");
    if seeds.end - seeds.start >= SEEDS {
        assert!(sum.reads > 12_000 && sum.looks > 3_000 && sum.failed > 500, "{sum:?}");
        assert!(sum.dropped > 80 && sum.copied > 100_000 && sum.zeroed > 30_000, "{sum:?}");
    }
}

/// A seed that notices that a rule is left out.
fn noticed(rule: Rule) -> Option<u64> {
    (0..SEEDS).find(|seed| catch_unwind(AssertUnwindSafe(|| rule.left_out(|| run(*seed)))).is_err())
}

#[test]
fn leaving_out_a_rule_is_noticed() {
    let before = take_hook();
    set_hook(Box::new(|_| {}));
    // The others need a writer that takes over, `crate::rights`, and a write that fails, or an answer that is late, at a certain moment: `crate::scrubs`.
    let elsewhere = [Rule::LateAnswersNeedTheRight, Rule::FailedWritesStay, Rule::WhatWasBegunSeesThrough];
    let rules = Rule::ALL.iter().filter(|rule| !elsewhere.contains(rule));
    let missed: Vec<&Rule> = rules.filter(|rule| noticed(**rule).is_none()).collect();
    set_hook(before);
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_single_region_set_says_what_its_upstairs_says() {
    let layers = vec![vec![Ground::Set(Site::new(1, 20))]];
    let mut world = World::new(1, layers, 1, &[0; 20]);
    world.activate();
    world.settle();
    assert!(matches!(world.volume.status(world.now), volume_layers::VolumeStatus::Upstairs(_)));
}
