//! Ours as a subject: a volume of three copies, made and served by `sled-agent` as a person does it by hand. Owns its
//! command lines, ports and directories; what a process is, is `server`'s.

use super::{
    REGION_BYTES,
    server::{Door, Server},
    subject::{Role, Subject, version},
};
use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
};
use testbed::owned_command;

/// What the process that serves NBD is called.
pub(super) const EXPORT: &str = "export";

/// What the processes of the three disks are called, before their number.
pub(super) const DISK: &str = "disk";

/// Copies of each block.
const MEMBERS: usize = 3;

/// Where ports for the Downstairs are looked for: below those that Linux gives to outgoing connections, which could
/// have one of them at the moment when it is wanted.
const PORTS: Range<u16> = 13_000..29_000;

/// Whether what is written is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// It is not.
    None,
    /// With the key in a file.
    File,
}

/// Bytes of disk that the regions of a volume take: its blocks three times, and each time what is kept about them and the
/// room to move, which are a twelfth at this size.
pub(super) fn bytes(volume_bytes: u64) -> u64 {
    MEMBERS as u64 * (volume_bytes + volume_bytes / 10)
}

/// A volume, its three Downstairs and its export. `programs` has `sled-agent`.
pub(super) async fn start(dir: &Utf8Path, programs: &Utf8Path, keys: Keys) -> Result<Subject> {
    let (role, what, name) = match keys {
        Keys::None => (Role::Ours, "three Downstairs and an export of sled-agent", "ours"),
        Keys::File => (Role::OursEncrypted, "the same, encrypted by the export", "ours-encrypted"),
    };
    let dir = dir.join(name);
    std::fs::create_dir(&dir).with_context(|| format!("creating {dir}"))?;
    let agent = programs.join("sled-agent");
    let mut servers = Vec::new();
    let mut members = Vec::new();
    let free = free_addresses(MEMBERS)?;
    for (number, address) in (1..).zip(&free) {
        let disk = dir.join(format!("{DISK}{number}"));
        std::fs::create_dir(&disk).with_context(|| format!("creating {disk}"))?;
        members.push(Place { directory: disk, address: *address });
    }
    let volume = Volume::create(&agent, &dir, "volume", REGION_BYTES, &members, keys).await?;
    for (number, member) in (1..).zip(&members) {
        servers.push(downstairs(&agent, &dir, &format!("{DISK}{number}"), member).await?);
    }
    let socket = dir.join("volume.sock");
    servers.push(volume.export(&agent, &dir, EXPORT, &socket, 1).await?);
    Ok(Subject { role, what: what.to_owned(), version: version(agent.as_str()).await?, socket, servers })
}

/// A disk, and where its regions are served.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directory: Utf8PathBuf,
    pub(super) address: SocketAddr,
}

/// The process of one disk.
pub(super) async fn downstairs(
    agent: &Utf8Path,
    dir: &Utf8Path,
    name: &str,
    place: &Place,
) -> Result<Server> {
    let mut server = begin_downstairs(agent, dir, name, place)?;
    server.wait_ready(Door::Tcp(place.address)).await?;
    Ok(server)
}

/// The same, which may not listen yet.
pub(super) fn begin_downstairs(
    agent: &Utf8Path,
    dir: &Utf8Path,
    name: &str,
    place: &Place,
) -> Result<Server> {
    let (directory, address) = (&place.directory, place.address);
    let args = ["downstairs".to_owned(), format!("--directory={directory}"), format!("--listen={address}")];
    Server::start(dir, name, agent, &args)
}

/// A volume that was made.
#[derive(Debug)]
pub(super) struct Volume {
    file: Utf8PathBuf,
    key: Option<Utf8PathBuf>,
}

impl Volume {
    /// Makes one of so many bytes; its files in `dir` begin with `name`.
    pub(super) async fn create(
        agent: &Utf8Path,
        dir: &Utf8Path,
        name: &str,
        bytes: u64,
        members: &[Place],
        keys: Keys,
    ) -> Result<Volume> {
        let volume = Volume {
            file: dir.join(format!("{name}.json")),
            key: (keys == Keys::File).then(|| dir.join(format!("{name}.key"))),
        };
        if let Some(key) = &volume.key {
            succeed(agent, &["volume".to_owned(), "key".to_owned(), key.to_string()]).await?;
        }
        let mut args = vec![
            "volume".to_owned(),
            "create".to_owned(),
            format!("--size={bytes}"),
            format!("--output={}", volume.file),
        ];
        args.extend(members.iter().map(|place| format!("--member={}@{}", place.directory, place.address)));
        args.extend(volume.key_file());
        succeed(agent, &args).await?;
        Ok(volume)
    }

    /// One that another file describes.
    pub(super) fn described_by(file: Utf8PathBuf) -> Volume {
        Volume { file, key: None }
    }

    /// The file that describes it.
    pub(super) fn file(&self) -> &Utf8Path {
        &self.file
    }

    /// Serves it on a unix socket, with this epoch.
    pub(super) async fn export(
        &self,
        agent: &Utf8Path,
        dir: &Utf8Path,
        name: &str,
        socket: &Utf8Path,
        epoch: u32,
    ) -> Result<Server> {
        let mut server = self.begin_export(agent, dir, name, socket, epoch, &[])?;
        server.wait_ready(Door::Unix(socket)).await?;
        Ok(server)
    }

    /// The same, with more arguments; it may not listen yet.
    pub(super) fn begin_export(
        &self,
        agent: &Utf8Path,
        dir: &Utf8Path,
        name: &str,
        socket: &Utf8Path,
        epoch: u32,
        more: &[&str],
    ) -> Result<Server> {
        let mut args = vec![
            "volume".to_owned(),
            "export".to_owned(),
            format!("--volume={}", self.file),
            format!("--epoch={epoch}"),
            format!("--listen=unix:{socket}"),
        ];
        args.extend(self.key_file());
        args.extend(more.iter().map(|argument| (*argument).to_owned()));
        Server::start(dir, name, agent, &args)
    }

    fn key_file(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("--key-file={key}"))
    }
}

/// Runs a command of ours that ends by itself.
pub(super) async fn succeed(agent: &Utf8Path, args: &[String]) -> Result<()> {
    said(agent, args).await.map(drop)
}

/// The same; what it says.
pub(super) async fn said(agent: &Utf8Path, args: &[String]) -> Result<String> {
    let output = owned_command(agent).args(args).output().await;
    let output = output.with_context(|| format!("running {agent}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{agent} {}: {}", args.join(" "), error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// So many addresses on which nobody listens.
pub(super) fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let addresses = PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free: Vec<SocketAddr> =
        addresses.filter(|address| TcpListener::bind(address).is_ok()).take(count).collect();
    ensure!(free.len() == count, "no {count} ports of {PORTS:?} are free");
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_no_free_one() {
        let taken = free_addresses(1).unwrap()[0];
        let _listener = TcpListener::bind(taken).unwrap();
        let free = free_addresses(3).unwrap();
        assert!(!free.contains(&taken), "{taken} is in {free:?}");
    }
}
