//! One small cluster in every state worth showing, for the tests of what is shown.

use ids::{
    AgentEpoch, ArtifactHash, ClusterId, CoordinatorId, Generation, RepositoryId, SledId, TrustRootId,
};
use jiff::Timestamp;
use nexus_client::{
    issues::{Issue, IssueCode},
    releases::{
        Artifact, ArtifactHolder, Repository, RepositoryArtifact, RepositoryDetail, RepositoryState,
        TrustRoot,
    },
    replication::{
        ArtifactBlocked, CellState, CellTransfer, Replication, ReplicationArtifact, ReplicationCell,
        ReplicationSled, ReplicationSledState, TransferKind,
    },
    sleds::{M2, M2Health, Scrub, Sled, SledLiveness, SledPolicy},
    system::{Coordinator, SystemStatus},
    tasks::{BackgroundTask, FinishedPass, PassOutcome, Pause, RunningPass},
};
use serde_json::json;
use std::collections::BTreeMap;
use unicode_width::UnicodeWidthStr;

use super::Look;

const MIB: u64 = 1 << 20;

/// The moment at which everything here is shown.
pub(crate) fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn before(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

/// An 80-column terminal without colour.
pub(crate) fn narrow() -> Look {
    Look { width: Some(80), color: false, headers: true, wide: false }
}

/// `-o wide`.
pub(crate) fn wide() -> Look {
    Look { width: None, wide: true, ..narrow() }
}

/// Draws for narrow and usual screens, and asserts that no line is wider.
#[track_caller]
pub(crate) fn assert_fits(draw: impl Fn(&Look) -> String) {
    for width in [60, 80] {
        for line in draw(&Look { width: Some(width), ..narrow() }).lines() {
            assert!(line.width() <= width, "{line:?} is wider than {width} columns");
        }
    }
}

pub(crate) fn hash(number: u8) -> ArtifactHash {
    ArtifactHash([number.wrapping_mul(37).wrapping_add(11); 32])
}

fn sled_id(number: u8) -> SledId {
    format!("0191f2a{number}-3c1e-7000-8000-0123456789ab").parse().unwrap()
}

fn root_id() -> TrustRootId {
    "0191aaaa-0000-7000-8000-000000000001".parse().unwrap()
}

pub(crate) fn sleds() -> Vec<Sled> {
    let sled = |number: u8, name: &str| Sled {
        id: sled_id(number),
        name: name.into(),
        policy: SledPolicy::InService,
        liveness: SledLiveness::Online,
        last_seen_at: Some(before(3)),
        created_at: before(86_400 * 2),
        agent_epoch: AgentEpoch(4),
        agent_url: format!("http://127.0.1.{number}:12345"),
        depot_url: format!("http://127.0.1.{number}:12348"),
        artifacts_wanted: 5,
        artifacts_held: 0,
        artifacts_complete: 5,
        reason: None,
        replication: ReplicationSledState::Active,
        config_generation: Some(Generation(5)),
        observed_at: Some(before(2)),
        m2s: m2s(),
        copies_quarantined: 0,
        copies_unverified: 0,
        scrub: Scrub::default(),
    };
    let mut sleds = vec![sled(1, "sled-a"), sled(2, "sled-b"), sled(3, "sled-c"), sled(4, "sled-d")];
    sleds[1].artifacts_complete = 1;
    sleds[1].reason = Some("2 artifacts on their way, 1 failed".into());
    sleds[2].policy = SledPolicy::NoProvision;
    sleds[2].replication = ReplicationSledState::Refusing;
    sleds[2].artifacts_complete = 1;
    sleds[2].reason = Some("refuses generation 5: belongs to another cluster".into());
    sleds[3].liveness = SledLiveness::Offline;
    sleds[3].last_seen_at = Some(before(240));
    sleds[3].replication = ReplicationSledState::Unreachable;
    sleds[3].observed_at = Some(before(240));
    sleds[3].artifacts_complete = 0;
    sleds[3].reason = Some("no heartbeat for 4 min".into());
    sleds
}

/// Two sound M.2s.
pub(crate) fn m2s() -> Vec<M2> {
    let m2 = |name: &str| M2 {
        name: name.into(),
        health: M2Health::Healthy,
        reason: None,
        since: Some(before(7300)),
        capacity_bytes: 40 << 30,
        used_bytes: 197 * MIB,
        copies_quarantined: 0,
    };
    vec![m2("m2-0"), m2("m2-1")]
}

/// A sled whose second M.2 has failed, in the middle of a scrub that has found something.
pub(crate) fn degraded_sled() -> Sled {
    let mut sled = sleds().remove(0);
    sled.m2s[1].health = M2Health::Failed;
    sled.m2s[1].reason = Some("input/output error in artifacts/30303030".into());
    sled.m2s[0].copies_quarantined = 1;
    sled.copies_quarantined = 1;
    (sled.artifacts_held, sled.artifacts_complete) = (5, 0);
    sled.scrub = Scrub {
        running: true,
        bytes_done: 61 * MIB,
        bytes_total: 197 * MIB,
        corrupt: 1,
        finished_at: Some(before(86_400)),
    };
    sled
}

/// The replication to go with [`degraded_sled`].
pub(crate) fn degraded() -> Replication {
    let mut replication = complete(1);
    let sled = &mut replication.sleds[0];
    sled.name = "sled-a".into();
    sled.m2s = degraded_sled().m2s;
    sled.datasets_healthy = 1;
    for cell in sled.cells.values_mut() {
        cell.copies = 1;
    }
    replication.fully_replicated = false;
    replication.artifacts_complete = 0;
    replication
}

pub(crate) fn replication() -> Replication {
    let artifact = |number: u8, name: &str, version: &str, size: u64| ReplicationArtifact {
        hash: hash(number),
        name: name.into(),
        version: version.into(),
        size,
        staged: true,
        blocked: None,
    };
    let mut artifacts = vec![
        artifact(0, "agent-bundle", "0.3.1", 61 * MIB),
        artifact(1, "guest-image", "1.0", 24 * MIB),
        artifact(2, "kernel", "6.1.0", 12 * MIB),
        artifact(3, "tools", "0.3.1", 4 * MIB + 100 * 1024),
        artifact(4, "zones", "0.3.1", 96 * MIB),
    ];
    artifacts[4].staged = false;
    artifacts[4].blocked = Some(ArtifactBlocked::NoSource);
    let held = CellState::Held;
    let copies = |copies| ReplicationCell { state: held, copies, transfer: None, last_error: None };
    let sled = |number: u8, name: &str, cells: Vec<(u8, ReplicationCell)>| ReplicationSled {
        id: sled_id(number),
        name: name.into(),
        state: ReplicationSledState::Active,
        reason: None,
        config_generation: Some(Generation(5)),
        observed_at: Some(before(2)),
        datasets_healthy: 2,
        m2s: m2s(),
        cells: cells.into_iter().map(|(number, cell)| (hash(number), cell)).collect::<BTreeMap<_, _>>(),
    };
    let arriving = ReplicationCell {
        state: CellState::Transferring,
        copies: 0,
        transfer: Some(CellTransfer {
            kind: TransferKind::Copy,
            bytes_done: 61 * MIB * 71 / 100 + 1,
            started_at: before(3),
        }),
        last_error: None,
    };
    let partial = ReplicationCell { last_error: Some("m2-1: no space left on device".into()), ..copies(1) };
    let failed = ReplicationCell {
        state: CellState::BackingOff,
        last_error: Some("source sled-a closed the connection after 3 MiB".into()),
        ..copies(0)
    };
    let mut sleds = vec![
        sled(1, "sled-a", vec![(0, copies(2)), (1, copies(2)), (2, copies(2))]),
        sled(2, "sled-b", vec![(0, arriving), (1, partial), (2, failed)]),
        sled(3, "sled-c", vec![(1, copies(2))]),
        sled(4, "sled-d", vec![(0, copies(2))]),
    ];
    sleds[2].state = ReplicationSledState::Refusing;
    sleds[2].reason = Some("belongs to another cluster".into());
    sleds[2].config_generation = Some(Generation(4));
    sleds[3].state = ReplicationSledState::Unreachable;
    sleds[3].reason = Some("connection refused".into());
    sleds[3].config_generation = Some(Generation(4));
    sleds[3].observed_at = Some(before(240));
    Replication {
        generation: Generation(5),
        artifacts,
        sleds,
        fully_replicated: false,
        artifacts_complete: 0,
    }
}

/// Everything everywhere, on as many sleds as asked for.
pub(crate) fn complete(sleds: u8) -> Replication {
    let mut replication = replication();
    replication.artifacts[4].blocked = None;
    let state = CellState::Held;
    let cells: BTreeMap<_, _> = replication
        .artifacts
        .iter()
        .map(|artifact| {
            (artifact.hash, ReplicationCell { state, copies: 2, transfer: None, last_error: None })
        })
        .collect();
    let first = ReplicationSled { cells, ..replication.sleds[0].clone() };
    replication.sleds = (0..sleds)
        .map(|number| ReplicationSled { name: format!("rack-{number:02}"), ..first.clone() })
        .collect();
    replication.fully_replicated = true;
    replication.artifacts_complete = 5;
    replication
}

pub(crate) fn artifacts() -> Vec<Artifact> {
    let sleds = sleds();
    let holder = |index: usize| ArtifactHolder {
        sled_id: sleds[index].id,
        sled_name: sleds[index].name.clone(),
        copies: 2,
        depot_url: sleds[index].depot_url.clone(),
    };
    let row = |index: usize, holders: Vec<ArtifactHolder>| {
        let replication = replication();
        let artifact = &replication.artifacts[index];
        Artifact {
            hash: artifact.hash,
            size: artifact.size,
            name: artifact.name.clone(),
            version: artifact.version.clone(),
            kind: "file".into(),
            repositories: vec!["0.3.0".into(), "0.3.1".into()],
            holders,
        }
    };
    vec![
        row(0, vec![holder(0)]),
        row(1, vec![holder(0), ArtifactHolder { copies: 1, ..holder(1) }, holder(2)]),
        row(4, Vec::new()),
    ]
}

pub(crate) fn repositories() -> Vec<Repository> {
    let repository = |version: &str, state| Repository {
        id: "0191bbbb-0000-7000-8000-000000000001".parse::<RepositoryId>().unwrap(),
        system_version: version.into(),
        sha256: "c0ffee".repeat(10) + "c0ff",
        file_name: Some(format!("release-{version}.zip")),
        size_bytes: 197 * MIB,
        artifact_count: 5,
        trust_root_id: root_id(),
        created_at: before(7300),
        staged_on: Some("nexus-1".into()),
        state,
        sleds_complete: 3,
        sleds_total: 4,
    };
    let mut repositories = vec![
        repository("0.3.1", RepositoryState::Replicating),
        repository("0.3.0", RepositoryState::Replicated),
        repository("0.2.9-rc.1+build.20261101.with.a.long.tail", RepositoryState::NeedsUpload),
    ];
    repositories[1].sleds_complete = 4;
    repositories[1].staged_on = None;
    repositories[2].file_name = None;
    repositories
}

pub(crate) fn repository_detail() -> RepositoryDetail {
    let artifacts = replication()
        .artifacts
        .into_iter()
        .map(|artifact| RepositoryArtifact {
            target: format!("{}.tar.gz", artifact.name),
            name: artifact.name,
            version: artifact.version,
            kind: "file".into(),
            hash: artifact.hash,
            size: artifact.size,
        })
        .collect();
    RepositoryDetail { repository: repositories().remove(0), artifacts }
}

pub(crate) fn trust_roots() -> Vec<TrustRoot> {
    let root = |number: u8, expires| TrustRoot {
        id: format!("0191aaaa-0000-7000-8000-00000000000{number}").parse().unwrap(),
        fingerprint: format!("{number}badcafe").repeat(8),
        version: 1,
        expires,
        created_at: before(86_400 * 3),
    };
    vec![root(1, "2027-11-20T00:00:00Z".parse().unwrap()), root(2, before(86_400))]
}

pub(crate) fn status() -> SystemStatus {
    SystemStatus {
        cluster_id: "0191cccc-0000-7000-8000-000000000001".parse::<ClusterId>().unwrap(),
        coordinator: Coordinator {
            id: "0191dddd-0000-7000-8000-000000000001".parse::<CoordinatorId>().unwrap(),
            name: "nexus-1".into(),
            epoch: 7,
            version: "0.1.0".into(),
            started_at: before(3 * 3600 + 60),
        },
        sleds_in_service: 4,
        sleds_online: 3,
        sleds_unheard: 0,
        repositories: 1,
        artifacts: 18,
        artifacts_on_every_sled: 18,
        artifacts_complete: 17,
        sleds_complete: 3,
        sleds_away: 1,
        database_bytes: 4 * MIB + 100 * 1024,
        staging_bytes: 197 * MIB,
        issues: vec![
            Issue::new(IssueCode::SledOffline, "sled-d", "no heartbeat since 2026-11-20T11:56:00Z")
                .with_hint("nothing is lost, it catches up when it returns; gone for good: sledctl sled set-policy sled-d expunged"),
            Issue::new(
                IssueCode::M2Failed,
                "sled-b/m2-1",
                "its operations fail: input/output error in artifacts/3030303030303030303030303030",
            ),
            Issue::new(IssueCode::ArtifactNeedsUpload, "zones 0.3.1", "it is on no sled and not staged")
                .with_hint("upload its release again: nothing else is needed"),
        ],
    }
}

pub(crate) fn tasks() -> Vec<BackgroundTask> {
    let pass = |iteration, error: Option<&str>| FinishedPass {
        iteration,
        trigger: "timer".into(),
        started_at: before(20),
        duration_seconds: 0.42,
        outcome: if error.is_some() { PassOutcome::Failed } else { PassOutcome::Succeeded },
        error: error.map(str::to_owned),
        report: json!({
            "generation": 5,
            "puts": {"ok": 6, "failed": 0},
            "sleds_skipped": ["sled-d: unreachable"],
            "requests": [{"sled": "sled-b", "artifact": "kernel"}, {"sled": "sled-b", "artifact": "tools"}],
            "note": null,
            "nothing": [],
        }),
    };
    let task = |name: &str, last: FinishedPass| BackgroundTask {
        name: name.into(),
        description: "brings every wanted artifact to every sled".into(),
        period_seconds: 60.0,
        periodic: true,
        time_limit_seconds: Some(60.0),
        dependencies: Vec::new(),
        paused: None,
        next_at: Some(before(-40)),
        running: None,
        recent: vec![last.clone(), FinishedPass { trigger: "start".into(), ..pass(41, None) }],
        last: Some(last),
        succeeded: 42,
        failed: 0,
        failed_in_a_row: 0,
        last_success_at: Some(before(20)),
        panicked: 0,
        timed_out: 0,
        answer: None,
    };
    let mut tasks = vec![
        task("artifact_replication", pass(42, None)),
        task("staging_cleanup", pass(7, Some("the staging area could not be listed: permission denied"))),
        task("sled_liveness", pass(1, None)),
        task("saga_recovery", pass(9, None)),
    ];
    tasks[1].failed = 3;
    (tasks[1].panicked, tasks[1].timed_out) = (1, 0);
    tasks[1].last_success_at = Some(before(200));
    tasks[1].failed_in_a_row = 2;
    tasks[0].running = Some(RunningPass { iteration: 43, trigger: "upload".into(), started_at: before(1) });
    tasks[0].next_at = None;
    let reason = Some("looking for a fault".into());
    tasks[3].paused = Some(Pause { since: before(180), until: Some(before(-1640)), reason });
    tasks[3].next_at = tasks[3].paused.as_ref().unwrap().until;
    tasks[3].dependencies = vec!["after sled_liveness".into(), "changed coordinators".into()];
    tasks[2].last = None;
    tasks[2].recent.clear();
    tasks[2].succeeded = 0;
    tasks[2].last_success_at = None;
    tasks
}
