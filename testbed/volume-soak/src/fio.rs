//! The other client: fio, which writes blocks of its own with checksums and verifies them, again and again, through its nbd engine. It
//! cannot come again, so it runs only while the export does.

use crate::{block::BLOCK, finding::Findings, order::VolumeOrder};
use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use testbed::owned_command;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::JoinSet,
    time::timeout,
};

/// How long one run may take. It takes a second or two, and waits whenever the volume does.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// fio, running again and again.
#[derive(Debug)]
pub(crate) struct Fio {
    /// One. It is ended with whoever holds it.
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: Utf8PathBuf,
    args: Vec<String>,
    seed: u64,
    runs: AtomicU64,
    is_over: AtomicBool,
    /// Who has it may use the volume.
    turn: Arc<Mutex<()>>,
}

/// Says what to do if fio is not there.
pub(crate) async fn check() -> Result<()> {
    let output = owned_command("fio").arg("--enghelp").output().await;
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let is_there = said.is_ok_and(|said| said.lines().any(|line| line.trim() == "nbd"));
    ensure!(
        is_there,
        "fio with its engine nbd is missing; on Debian: apt-get install --no-install-recommends fio"
    );
    Ok(())
}

impl Fio {
    /// Begins; what fails is added to the findings.
    pub(crate) fn start(
        order: &VolumeOrder,
        dir: &Utf8Path,
        socket: &Utf8Path,
        findings: &Arc<Findings>,
    ) -> Fio {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            args: arguments(order, socket),
            seed: order.seed,
            runs: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            turn: Arc::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (shared, findings) = (Arc::clone(&shared), Arc::clone(findings));
            async move {
                while !shared.is_over.load(Ordering::SeqCst) && !findings.are_there() {
                    let _turn = shared.turn.lock().await;
                    match shared.run_once().await {
                        Ok(()) => drop(shared.runs.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => findings.add(None, "fio has failed", format!("{error:#}")),
                    }
                }
            }
        });
        Fio { tasks, shared }
    }

    /// Lets the run that is under way end, and no other one begin while the answer is held.
    pub(crate) async fn rest(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.shared.turn).lock_owned().await
    }

    /// Lets the run that is under way end, unless nobody wants to know any more. How many there were.
    pub(crate) async fn end(mut self, wants_to_know: bool) -> Result<u64> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if wants_to_know {
            while let Some(ended) = self.tasks.join_next().await {
                ended.context("waiting for fio")?;
            }
        } else {
            self.tasks.shutdown().await;
        }
        Ok(self.shared.runs.load(Ordering::SeqCst))
    }
}

impl Shared {
    async fn run_once(&self) -> Result<()> {
        let run = self.runs.load(Ordering::SeqCst);
        let output = owned_command("fio")
            .args(&self.args)
            .arg(format!("--randseed={}", self.seed.wrapping_add(run)))
            .current_dir(&self.dir)
            .output();
        let output = timeout(RUN_LIMIT, output);
        let output = output.await.with_context(|| format!("it has not ended after {RUN_LIMIT:?}"))?;
        let output = output.context("running fio")?;
        let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)];
        ensure!(
            output.status.success() && said[0].contains("err= 0"),
            "{}: {}",
            output.status,
            said.concat()
        );
        Ok(())
    }
}

/// Reads and writes of mixed sizes, flushes between them; what was written is verified while it runs, and at its end.
fn arguments(order: &VolumeOrder, socket: &Utf8Path) -> Vec<String> {
    let bytes = |blocks: u64| blocks * BLOCK as u64;
    let fixed = [
        "--name=verified",
        // One process, so that ending it ends all of it.
        "--thread",
        "--ioengine=nbd",
        "--rw=randrw",
        "--bsrange=4k-64k",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_backlog=64",
        "--verify_state_save=0",
        "--fsync=64",
    ];
    let mut args: Vec<String> = fixed.map(str::to_owned).into();
    args.push(format!("--uri=nbd+unix:///?socket={socket}"));
    args.push(format!("--offset={}", bytes(order.fio_first())));
    args.push(format!("--size={}", bytes(order.fio_blocks.into())));
    args
}
