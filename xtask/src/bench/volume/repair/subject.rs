//! Ours and the peer as what is measured: something that keeps three copies, one of which is lost and replaced, with and without
//! clients. Owns what happens within one round; the rounds are the caller's.

use super::{
    Loaded, Pause, Took,
    load::{Load, Requests, Window, now_ms},
    mirror::Quorum,
    ours::{Replaced, Returned},
    writer::{Writer, fill_all},
    written::Order,
};
use crate::bench::volume::{REGION_BYTES, fio, settle, subject::Role};
use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use std::time::Duration;
use tokio::{task::spawn_blocking, time::sleep};

/// How long a load runs before anything is counted.
const SETTLING: Duration = Duration::from_secs(1);

/// How long a load goes on behind what is counted.
const TAIL: Duration = Duration::from_millis(500);

/// Snapshots of a round, and the time between two.
const SNAPSHOTS: usize = 10;
/// Those of them that are read back: behind the one most has been written over, and from the other least.
pub(super) const READ_BACK: [usize; 2] = [0, SNAPSHOTS - 1];
const BETWEEN: Duration = Duration::from_millis(400);

/// How long the peer's copy may take under load: it need not come to an end.
pub(super) const PEER_LIMIT: Duration = Duration::from_secs(60);

/// Something that keeps three copies, one of which is lost and replaced.
pub(super) struct Subject {
    /// All of its files.
    dir: Utf8PathBuf,
    kind: Kind,
}

enum Kind {
    Ours(Box<Replaced>),
    Peer(Box<Quorum>),
}

impl Subject {
    pub(super) async fn start(dir: &Utf8Path, programs: &Utf8Path, role: Role) -> Result<Subject> {
        let dir = dir.join(if role == Role::Peer { "peer" } else { "ours" });
        std::fs::create_dir(&dir).with_context(|| format!("creating {dir}"))?;
        let kind = match role {
            Role::Peer => Kind::Peer(Box::new(Quorum::start(&dir).await?)),
            _ => Kind::Ours(Box::new(Replaced::start(&dir, programs).await?)),
        };
        Ok(Subject { dir, kind })
    }

    pub(super) fn role(&self) -> Role {
        match &self.kind {
            Kind::Ours(_) => Role::Ours,
            Kind::Peer(_) => Role::Peer,
        }
    }

    fn socket(&self) -> &Utf8Path {
        match &self.kind {
            Kind::Ours(ours) => &ours.socket,
            Kind::Peer(peer) => &peer.socket,
        }
    }

    /// Writes all of it once: each block says where it is, and the rest of it is random.
    pub(super) async fn fill(&self) -> Result<()> {
        let size = format!("--size={REGION_BYTES}");
        let args = ["--name=fill", "--rw=write", "--bs=1M", "--iodepth=8", &size];
        let content = ["--verify=crc32c", "--verify_interval=4k", "--do_verify=0", "--verify_state_save=0"];
        let args: Vec<String> = args.into_iter().chain(content).map(str::to_owned).collect();
        let filled = fio::run(&self.dir, self.socket(), &args, fio::Direction::Write).await;
        filled.with_context(|| format!("filling {}", self.role().word())).map(drop)
    }

    pub(super) async fn settle(&self) -> Result<()> {
        settle(&self.dir, self.socket(), self.role()).await
    }

    async fn lose(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Ours(ours) => ours.lose().await,
            Kind::Peer(peer) => peer.lose().await,
        }
    }

    /// Afterwards all members are there, and have everything.
    async fn finish(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Ours(ours) => ours.wait_whole().await?,
            Kind::Peer(peer) => peer.finish().await?,
        }
        self.settle().await
    }

    async fn replace(&mut self) -> Result<Took> {
        match &mut self.kind {
            Kind::Ours(ours) => ours.replace().await,
            Kind::Peer(peer) => peer.replace(PEER_LIMIT).await,
        }
    }

    /// Nobody else asks anything.
    pub(super) async fn idle(&mut self) -> Result<Took> {
        self.lose().await?;
        let took = self.replace().await?;
        self.finish().await?;
        Ok(took)
    }

    /// Clients go on.
    pub(super) async fn loaded(&mut self, load: Load, seconds: u32) -> Result<Loaded> {
        let run = fio::start_logged(&self.dir, self.socket(), load.name(), load.jobs(), &load.fio_args())?;
        // The measurement itself: this much time is passed over, and that much is looked at.
        sleep(SETTLING).await;
        let from_ms = now_ms()?;
        sleep(Duration::from_secs(seconds.into())).await;
        let without = Window::since(from_ms)?;
        self.lose().await?;
        let took = self.replace().await?;
        // What was asked before the end of the replacement is answered, and counted by how long it took.
        sleep(TAIL).await;
        let requests = Requests::of(&run.end().await?)?;
        self.finish().await?;
        let (without, during) = (requests.seen_in(without)?, requests.seen_in(took.window)?);
        if load == Load::Paced {
            let all = [&without, &during].map(|seen| seen.read_p99_us.and(seen.write_p99_us));
            ensure!(all.iter().all(Option::is_some), "the load had no reads, or no writes: {all:?}");
        }
        Ok(Loaded { took, without, during })
    }

    /// A member comes back; none where nothing is known of what it lacks.
    pub(super) async fn reconcile(&mut self) -> Result<Option<Returned>> {
        let Kind::Ours(ours) = &mut self.kind else { return Ok(None) };
        let returned = ours.reconcile().await?;
        self.settle().await?;
        Ok(Some(returned))
    }

    /// A client writes, and snapshots are taken; none of what has no snapshots. Some are read back: one that is not, byte for byte, what the volume
    /// was at one moment while it was taken is an error.
    pub(super) async fn snapshots(&mut self) -> Result<Vec<Pause>> {
        let Kind::Ours(ours) = &mut self.kind else { return Ok(Vec::new()) };
        let order = Order::of(REGION_BYTES);
        fill_all(&ours.socket, order).await?;
        settle(&self.dir, &ours.socket, Role::Ours).await?;
        let writer = Writer::start(&ours.socket, order);
        // The measurement itself.
        sleep(SETTLING).await;
        let (mut windows, mut snapshots) = (Vec::new(), Vec::new());
        for number in 0..SNAPSHOTS {
            let (from_ms, answered) = (now_ms()?, writer.answered());
            let snapshot = ours.take_snapshot(number).await?;
            windows.push(Window::since(from_ms)?);
            // Whatever was answered before is in it, and nothing that was sent later.
            snapshots.push((snapshot, answered..=writer.sent()));
            sleep(BETWEEN).await;
        }
        sleep(TAIL).await;
        let requests = writer.end().await?;
        for (number, (snapshot, may_be)) in snapshots.iter().enumerate() {
            if READ_BACK.contains(&number) {
                let read = ours.read_snapshot(snapshot, order).await?;
                let checked = spawn_blocking({
                    let may_be = may_be.clone();
                    move || order.check(&read, &may_be)
                });
                if let Err(wrong) = checked.await? {
                    bail!("snapshot {} is not what the volume was: {wrong}", snapshot.name);
                }
            }
            ours.delete_snapshot(snapshot).await?;
        }
        settle(&self.dir, &ours.socket, Role::Ours).await?;
        let pause = |window: &Window| {
            let seen = requests.seen_in(*window)?;
            Ok(Pause { request_ms: seen.longest_us / 1e3, took_ms: window.milliseconds() })
        };
        windows.iter().map(pause).collect()
    }

    pub(super) async fn stop_and_compare(self) -> Result<()> {
        let role = self.role().word();
        let ended = match self.kind {
            Kind::Ours(ours) => ours.stop_and_compare().await,
            Kind::Peer(peer) => peer.stop_and_compare().await,
        };
        ended.with_context(|| format!("ending {role}"))
    }
}
