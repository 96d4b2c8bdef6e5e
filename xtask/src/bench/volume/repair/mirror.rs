//! The peer: QEMU's quorum, one of whose children is replaced by a mirror of the whole quorum. Owns its processes and files.
//!
//! ```text
//!   fio ─► qemu-storage-daemon: quorum (2 of 3) ─┬─► qemu-nbd ─► file        child0
//!                  │                             ├─► qemu-nbd ─► file        child1
//!                  │                             ├─► qemu-nbd, killed        child2, to be replaced
//!                  └─ blockdev-mirror ───────────┴─► qemu-nbd ─► new file    child3
//! ```
//!
//! The child that is replaced is killed before, as the member of ours is. That is to the peer's advantage: with it the quorum would
//! read three copies of each block, and without it reads two.

use super::{
    Took,
    load::{Window, now_ms},
    qmp::{Qmp, Step},
};
use crate::bench::volume::{
    server::{Door, Server},
    subject::{Blocks, CHILDREN, RawFile, file_export},
};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::time::{Duration, Instant};
use testbed::owned_command;
use tokio::time::timeout;

/// The node that clients see.
const VOLUME: &str = "volume";

/// How long a copy may take while nobody else asks anything, and how long one may take to be ended.
const LIMIT: Duration = Duration::from_secs(120);

/// A quorum.
pub(super) struct Quorum {
    dir: Utf8PathBuf,
    pub(super) socket: Utf8PathBuf,
    daemon: Server,
    qmp: Qmp,
    /// The last one is the one that is replaced; the others have been there from the beginning.
    children: Vec<Child>,
    spare: Option<Child>,
    made: usize,
}

struct Child {
    node: String,
    file: RawFile,
    /// None if it was killed.
    server: Option<Server>,
}

impl Quorum {
    /// Three children, and the process that has the quorum.
    pub(super) async fn start(dir: &Utf8Path) -> Result<Quorum> {
        let mut children = Vec::new();
        for number in 0..CHILDREN {
            children.push(child(dir, number, Blocks::Reserved).await?);
        }
        let (socket, monitor) = (dir.join("quorum.sock"), dir.join("qmp.sock"));
        let args = daemon_args(&children, &socket, &monitor);
        let mut daemon = Server::start(dir, "quorum", Utf8Path::new("qemu-storage-daemon"), &args)?;
        daemon.wait_ready(Door::Unix(&socket)).await?;
        let qmp = Qmp::connect(&monitor).await?;
        Ok(Quorum { dir: dir.to_owned(), socket, daemon, qmp, children, spare: None, made: CHILDREN })
    }

    /// Kills a child, when an empty one is there.
    pub(super) async fn lose(&mut self) -> Result<()> {
        self.make_spare().await?;
        let old = self.children.last_mut().context("there are children")?;
        old.server.take().context("the child was killed already")?.kill().await
    }

    async fn make_spare(&mut self) -> Result<()> {
        self.spare = Some(child(&self.dir, self.made, Blocks::Sparse).await?);
        self.made += 1;
        Ok(())
    }

    /// The empty one takes the place of the one that was lost, or does not within this time; then nothing has changed.
    pub(super) async fn replace(&mut self, limit: Duration) -> Result<Took> {
        let new = self.spare.take().context("there is an empty child")?;
        let old = self.children.last().context("there are children")?.node.clone();
        let (from_ms, began) = (now_ms()?, Instant::now());
        self.qmp.add(&new.node, &new.file.socket).await?;
        self.qmp.mirror(VOLUME, &old, &new.node).await?;
        let ended = timeout(limit, self.job()).await;
        let took = Took {
            seconds: began.elapsed().as_secs_f64(),
            is_whole: ended.is_ok(),
            window: Window::since(from_ms)?,
        };
        match ended {
            Ok(done) => {
                done?;
                let old = self.children.pop().context("there are children")?;
                self.children.push(new);
                self.remove(old).await?;
            }
            Err(_) => {
                self.qmp.cancel().await?;
                timeout(LIMIT, self.gone()).await.context("a cancelled job does not end")??;
                self.remove(new).await?;
            }
        }
        Ok(took)
    }

    /// All three are there again, if a replacement has not come to its end.
    pub(super) async fn finish(&mut self) -> Result<()> {
        if self.children.iter().all(|child| child.server.is_some()) {
            return Ok(());
        }
        self.make_spare().await?;
        let took = self.replace(LIMIT).await?;
        if took.is_whole { Ok(()) } else { bail!("the peer's child is not replaced after {LIMIT:?}") }
    }

    /// The job's way from its beginning to its end.
    async fn job(&mut self) -> Result<()> {
        loop {
            match self.qmp.step().await? {
                Step::Ready => self.qmp.complete().await?,
                Step::Gone => return Ok(()),
                Step::Failed(why) => bail!("QEMU's mirror has failed: {why}"),
            }
        }
    }

    /// Until it is no more, however it has ended.
    async fn gone(&mut self) -> Result<()> {
        while self.qmp.step().await? != Step::Gone {}
        Ok(())
    }

    async fn remove(&mut self, child: Child) -> Result<()> {
        self.qmp.remove(&child.node).await?;
        if let Some(server) = child.server {
            server.stop().await?;
        }
        let file = child.file.file;
        std::fs::remove_file(&file).with_context(|| format!("removing {file}"))
    }

    /// Ends all of it, and sees whether the newest file is as one that was there from the beginning.
    pub(super) async fn stop_and_compare(self) -> Result<()> {
        self.daemon.stop().await?;
        let mut files = Vec::new();
        for child in self.children {
            if let Some(server) = child.server {
                server.stop().await?;
            }
            files.push(child.file.file);
        }
        let [first, .., last] = files.as_slice() else { bail!("there are children") };
        compare(first.as_str(), last.as_str()).await
    }
}

async fn child(dir: &Utf8Path, number: usize, blocks: Blocks) -> Result<Child> {
    let node = format!("child{number}");
    let (file, server) = file_export(dir, &node, blocks).await?;
    Ok(Child { node, file, server: Some(server) })
}

fn daemon_args(children: &[Child], socket: &Utf8Path, monitor: &Utf8Path) -> Vec<String> {
    let mut args = Vec::new();
    let mut quorum = format!("driver=quorum,node-name={VOLUME},vote-threshold=2");
    for (number, child) in children.iter().enumerate() {
        let (node, path) = (&child.node, escaped(&child.file.socket));
        args.push(format!("--blockdev=driver=nbd,node-name={node},server.type=unix,server.path={path}"));
        quorum.push_str(&format!(",children.{number}={node}"));
    }
    args.push(format!("--blockdev={quorum}"));
    args.push(format!("--nbd-server=addr.type=unix,addr.path={}", escaped(socket)));
    args.push(format!("--export=type=nbd,id=export,node-name={VOLUME},name=,writable=on"));
    args.push(format!("--chardev=socket,id=monitor,path={},server=on,wait=off", escaped(monitor)));
    args.push("--monitor=chardev=monitor".to_owned());
    args
}

/// A comma within a value is doubled.
fn escaped(path: &Utf8Path) -> String {
    path.as_str().replace(',', ",,")
}

/// Whether two images, files or exports, have the same content; an error if not.
pub(super) async fn compare(one: &str, other: &str) -> Result<()> {
    let output = owned_command("qemu-img").args(["compare", "-f", "raw", "-F", "raw", one, other]).output();
    let output = timeout(LIMIT, output).await.context("qemu-img compare does not end")?;
    let output = output.context("running qemu-img")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{one} and {other} are not the same: {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_differ_in_one_byte_are_not_the_same() {
        let dir = camino_tempfile::tempdir().unwrap();
        let file = |name: &str, at: usize| {
            let mut bytes = vec![7; 8192];
            bytes[at] = 8;
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.into_string()
        };
        let (one, same, other) = (file("one", 5000), file("same", 5000), file("other", 5001));
        compare(&one, &same).await.unwrap();
        let error = compare(&one, &other).await.unwrap_err().to_string();
        assert!(error.contains("are not the same"), "{error}");
    }
}
