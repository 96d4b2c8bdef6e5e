//! Many seeds, on several threads.

use crate::{Summary, run};
use std::{
    ops::Range,
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

/// What many seeds have come to.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Seeds that were run.
    pub seeds: u64,
    /// What has happened in those that kept all promises.
    pub summary: Summary,
    /// Those that did not, and what was broken, in words.
    pub broken: Vec<(u64, String)>,
}

struct Shared {
    next: u64,
    so_far: Campaign,
}

/// Runs these seeds on so many threads. `progress` is called after each of them, with what all have come to so far.
///
/// # Panics
/// If `progress` does. A simulation that panics is a seed that is broken.
#[must_use]
pub fn campaign(seeds: Range<u64>, threads: usize, progress: impl Fn(&Campaign) + Sync) -> Campaign {
    let shared = Mutex::new(Shared { next: seeds.start, so_far: Campaign::default() });
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || loop {
        let seed = {
            let mut shared = lock();
            let seed = shared.next;
            if seed >= seeds.end {
                return;
            }
            shared.next += 1;
            seed
        };
        let result = panic::catch_unwind(|| run(seed));
        let mut shared = lock();
        shared.so_far.seeds += 1;
        match result {
            Ok(Ok(summary)) => shared.so_far.summary = shared.so_far.summary.and(summary),
            Ok(Err(promise)) => shared.so_far.broken.push((seed, promise)),
            Err(_) => shared.so_far.broken.push((seed, "a panic".to_owned())),
        }
        progress(&shared.so_far);
    };
    thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut all = shared.into_inner().unwrap_or_else(PoisonError::into_inner).so_far;
    all.broken.sort();
    all
}
