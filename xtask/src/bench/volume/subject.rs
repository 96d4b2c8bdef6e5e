//! What is measured side by side: things that serve a region's worth of bytes over NBD on a unix socket. Owns which
//! processes each one consists of, with which arguments; what a process is, is `server`'s.
//!
//! ```text
//!   limit    fio ─► qemu-nbd ─► file
//!   peer     fio ─► qemu-nbd with QEMU's quorum driver ─┬─► qemu-nbd ─► file
//!                                                       ├─► qemu-nbd ─► file
//!                                                       └─► qemu-nbd ─► file
//!   ours     fio ─► sled-agent volume export ─┬─► sled-agent downstairs ─► region    (`ours`)
//!                                             ├─► sled-agent downstairs ─► region
//!                                             └─► sled-agent downstairs ─► region
//! ```
//!
//! A subject more is a [`Role`], a function like [`limit`], and its call in [`start_all`]; jobs, books and report know it
//! by its role.

use super::{
    REGION_BYTES, fio,
    ours::{self, Keys},
    server::{Door, Server},
};
use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use rustix::fs::{FallocateFlags, fallocate};
use serde::Serialize;
use testbed::owned_command;

/// Connections that an export allows at once: fio has one, and a person who looks has one more.
const CONNECTIONS: u32 = 16;

/// Children of the peer.
pub(super) const CHILDREN: usize = 3;

/// What a subject is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Role {
    /// What cannot be beaten: one export of one file.
    Limit,
    /// Another program that keeps three copies.
    Peer,
    /// Ours.
    Ours,
    /// Ours, with encryption.
    OursEncrypted,
}

impl Role {
    /// All that there are, in the order in which they take turns.
    pub(super) const ALL: [Role; 4] = [Role::Limit, Role::Peer, Role::Ours, Role::OursEncrypted];

    /// Bytes of disk that its files take at their full size.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Role::Limit => REGION_BYTES,
            Role::Peer => CHILDREN as u64 * REGION_BYTES,
            Role::Ours | Role::OursEncrypted => ours::bytes(REGION_BYTES),
        }
    }

    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Role::Limit => "limit",
            Role::Peer => "peer",
            Role::Ours => "ours",
            Role::OursEncrypted => "ours, encrypted",
        }
    }
}

/// Something that serves [`REGION_BYTES`] over NBD.
pub(super) struct Subject {
    pub(super) role: Role,
    /// What it is made of, for people.
    pub(super) what: String,
    /// Of the program that answers.
    pub(super) version: String,
    /// Where it listens.
    pub(super) socket: Utf8PathBuf,
    /// In the order in which they were started.
    pub(super) servers: Vec<Server>,
}

/// Starts these, in the order in which they take turns. `programs` has ours.
pub(super) async fn start_all(dir: &Utf8Path, programs: &Utf8Path, roles: &[Role]) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for role in roles {
        subjects.push(match role {
            Role::Limit => limit(dir).await?,
            Role::Peer => peer(dir).await?,
            Role::Ours => ours::start(dir, programs, Keys::None).await?,
            Role::OursEncrypted => ours::start(dir, programs, Keys::File).await?,
        });
    }
    Ok(subjects)
}

/// One export of one file.
async fn limit(dir: &Utf8Path) -> Result<Subject> {
    let mut servers = Vec::new();
    let (file, server) = file_export(dir, "limit", Blocks::Reserved).await?;
    let socket = file.socket;
    servers.push(server);
    let what = "one qemu-nbd export of a raw file".to_owned();
    Ok(Subject { role: Role::Limit, what, version: version("qemu-nbd").await?, socket, servers })
}

/// QEMU's quorum over three such exports, served by a fourth process.
async fn peer(dir: &Utf8Path) -> Result<Subject> {
    let mut servers = Vec::new();
    let mut options = "driver=quorum,vote-threshold=2".to_owned();
    for child in 0..CHILDREN {
        let (file, server) = file_export(dir, &format!("quorum-{child}"), Blocks::Reserved).await?;
        options.push_str(&quorum_child(child, &file.socket));
        servers.push(server);
    }
    let socket = dir.join("quorum.sock");
    let args = ["--image-opts".to_owned(), options];
    servers.push(export(dir, "quorum", &socket, &args).await?);
    let what = "QEMU quorum (2 of 3) over three qemu-nbd exports".to_owned();
    Ok(Subject { role: Role::Peer, what, version: version("qemu-nbd").await?, socket, servers })
}

/// The options of one child of a quorum. A comma within a value is doubled.
fn quorum_child(child: usize, socket: &Utf8Path) -> String {
    let path = socket.as_str().replace(',', ",,");
    format!(
        ",children.{child}.driver=nbd,children.{child}.server.type=unix,children.{child}.server.path={path}"
    )
}

/// Whether a new file has its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    /// All of them.
    Reserved,
    /// None.
    Sparse,
}

/// A raw file, and where it is served.
pub(super) struct RawFile {
    pub(super) file: Utf8PathBuf,
    pub(super) socket: Utf8PathBuf,
}

/// `qemu-nbd` on a new raw file.
pub(super) async fn file_export(dir: &Utf8Path, name: &str, blocks: Blocks) -> Result<(RawFile, Server)> {
    let file = dir.join(format!("{name}.raw"));
    let created = std::fs::File::create(&file).with_context(|| format!("creating {file}"))?;
    let sized = match blocks {
        Blocks::Reserved => fallocate(created, FallocateFlags::empty(), 0, REGION_BYTES).map_err(Into::into),
        Blocks::Sparse => created.set_len(REGION_BYTES),
    };
    sized.with_context(|| format!("reserving {REGION_BYTES} bytes for {file}"))?;
    let socket = dir.join(format!("{name}.sock"));
    let args = ["--format=raw".to_owned(), file.to_string()];
    let server = export(dir, name, &socket, &args).await?;
    Ok((RawFile { file, socket }, server))
}

/// `qemu-nbd` on an image.
async fn export(dir: &Utf8Path, name: &str, socket: &Utf8Path, image: &[String]) -> Result<Server> {
    let mut args = vec![
        "--cache=writeback".to_owned(),
        "--persistent".to_owned(),
        format!("--shared={CONNECTIONS}"),
        format!("--socket={socket}"),
    ];
    args.extend_from_slice(image);
    let mut server = Server::start(dir, name, Utf8Path::new("qemu-nbd"), &args)?;
    server.wait_ready(Door::Unix(socket)).await?;
    Ok(server)
}

/// Lets qemu-io do this on the export behind a unix socket.
pub(super) async fn qemu_io(socket: &Utf8Path, commands: &[&str]) -> Result<()> {
    let output = owned_command("qemu-io")
        .args(["-f", "raw"])
        .args(commands.iter().flat_map(|command| ["-c", command]))
        .arg(fio::uri(socket))
        .output()
        .await
        .context("running qemu-io")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "qemu-io {commands:?} on {socket}: {}", said.trim());
    Ok(())
}

impl Subject {
    /// Processor time of all of its processes so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        self.servers.iter().map(Server::cpu_seconds).sum()
    }

    /// Ends its processes, the one that uses the others first.
    pub(super) async fn stop(self) -> Result<()> {
        for server in self.servers.into_iter().rev() {
            server.stop().await?;
        }
        Ok(())
    }
}

/// What a program calls its version, as the second word of what it says of it.
pub(super) async fn version(program: &str) -> Result<String> {
    let output = owned_command(program).arg("--version").output().await;
    let output = output.with_context(|| format!("running {program} --version"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.split_whitespace().nth(1).with_context(|| format!("{program} tells no version"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_stays_within_its_option() {
        assert_eq!(
            quorum_child(1, Utf8Path::new("/a,b/q.sock")),
            ",children.1.driver=nbd,children.1.server.type=unix,children.1.server.path=/a,,b/q.sock"
        );
    }
}
