//! Memory stays flat however many sagas have run. A program of its own, so that nothing else is measured.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nexus_saga_recovery::Claims;
use nexus_sagas::{Actions, Engine, Kinds, Plan, PlanRefused, SagaKind, testing::Disk};
use std::sync::Arc;

/// In all. steno alone would keep more than 100 MiB of them.
const SAGAS: usize = 20_000;
/// At a time.
const CLIENTS: usize = 16;
/// Before the first measurement: caches and the allocator have what they need.
const WARM: usize = 5_000;
/// Allocators keep some of what is freed.
const GROWTH_MAX: u64 = 16 << 20;

struct Tiny;

impl SagaKind for Tiny {
    const NAME: &'static str = "tiny";
    const VERSION: u32 = 1;
    type Params = ();
    type Tools = ();

    fn actions(actions: &mut Actions<Tiny>) {
        actions.add("nothing", async |_| Ok(()));
    }

    fn plan((): &(), plan: &mut Plan) -> Result<(), PlanRefused> {
        plan.node("one", "nothing");
        plan.node("two", "nothing");
        Ok(())
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn run(engine: &Engine, disk: &Disk, sagas: usize) {
    for _ in 0..sagas / CLIENTS {
        let clients = (0..CLIENTS).map(|_| async {
            let id = engine.start::<Tiny>(&()).await.unwrap();
            engine.wait(id).await.unwrap().unwrap();
        });
        futures::future::join_all(clients).await;
        disk.prune();
    }
}

#[tokio::test]
async fn twenty_thousand_sagas_leave_no_memory_behind() {
    let disk = Disk::new();
    let claims = Claims::new();
    let mut kinds = Kinds::new();
    kinds.add::<Tiny>(Arc::new(())).unwrap();
    let engine = Engine::new(disk.store(), claims.clone(), kinds);
    run(&engine, &disk, WARM).await;
    let before = resident_bytes();
    run(&engine, &disk, SAGAS - WARM).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{before} bytes after {WARM} sagas, {grown} more after {SAGAS}");
    let totals = claims.totals();
    assert_eq!((totals.finished, totals.running), (totals.started, 0));
}
