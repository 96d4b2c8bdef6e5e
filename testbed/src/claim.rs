//! Which number a cluster has on this machine. Owns the claims; what the number means is the addresses' business.
//!
//! Claims live in one directory per user (`$XDG_RUNTIME_DIR/bobsled-testbed`, else `bobsled-testbed-UID` in the
//! directory for temporary files), one file per number, changed under one lock:
//!
//! ```text
//!   lock ─► for each number, in order:  claimed, and the claim holds?        ─► next
//!                                       somebody listens on its addresses?   ─► next (another user, or not ours)
//!                                       else write K.json                    ─► taken
//! ```
//!
//! A claim holds while its cluster's record has that number and is not stopped, and either is detached since this boot
//! or something of it lives; or while the claimer lives and the record is not written yet. So a crash at any step
//! leaves at worst a file that no longer holds, and the next claimer replaces it.

use crate::{
    addresses::ClusterNumber,
    layout::ClusterDirectory,
    process::{ProcessIdentity, boot_id},
    record::{Phase, write_private},
};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
};

/// The machine-wide register of claimed numbers.
#[derive(Clone, Debug)]
pub struct Claims {
    directory: Utf8PathBuf,
}

/// Which free number is taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOrder {
    /// From 1 up: clusters for people, whose first one has the well-known addresses.
    LowestFirst,
    /// From 254 down: clusters of tests, which keep out of the way of the former.
    HighestFirst,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    /// Directory in which the cluster's directory lies.
    parent: Utf8PathBuf,
    /// The cluster's name.
    name: String,
    /// Who claimed.
    claimer: ProcessIdentity,
    /// When it was claimed: a claim does not outlive a boot.
    boot_id: String,
}

impl Claims {
    /// The register of this user.
    pub fn of_this_user() -> Result<Claims> {
        let user = rustix::process::getuid().as_raw();
        let runtime = std::env::var("XDG_RUNTIME_DIR").ok().map(Utf8PathBuf::from).filter(|dir| dir.is_dir());
        let directory = match runtime {
            Some(dir) => dir.join("bobsled-testbed"),
            None => Utf8PathBuf::try_from(std::env::temp_dir())
                .context("the directory for temporary files has a name that is not UTF-8")?
                .join(format!("bobsled-testbed-{user}")),
        };
        Claims::at(directory)
    }

    /// A register of its own, for tests of the register.
    pub fn at(directory: impl Into<Utf8PathBuf>) -> Result<Claims> {
        let directory = directory.into();
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("creating {directory}"));
            }
            _ => {}
        }
        // Others may write where temporary files are: a directory or link that somebody else put there is not used.
        let found = fs::symlink_metadata(&directory).with_context(|| format!("looking at {directory}"))?;
        if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() || found.mode() & 0o022 != 0 {
            bail!("{directory} is not a directory that only this user can write to; remove it");
        }
        Ok(Claims { directory })
    }

    /// Claims a number for `cluster`: `preferred` if it is free, else the first free one in `order`. `listens` tells
    /// the sockets that the cluster would listen on.
    pub fn claim(
        &self,
        cluster: &ClusterDirectory,
        preferred: Option<ClusterNumber>,
        order: ClaimOrder,
        listens: impl Fn(ClusterNumber) -> Result<Vec<SocketAddr>>,
    ) -> Result<ClusterNumber> {
        let _lock = self.lock()?;
        let all = (ClusterNumber::MIN..=ClusterNumber::MAX).filter_map(ClusterNumber::new);
        let in_order: Vec<ClusterNumber> = match order {
            ClaimOrder::LowestFirst => all.collect(),
            ClaimOrder::HighestFirst => all.rev().collect(),
        };
        let mut last_obstacle = String::new();
        for number in preferred.into_iter().chain(in_order) {
            if let Some(claim) = self.holder(number)?
                && !(claim.name == cluster.name() && Some(claim.parent.as_path()) == cluster.root().parent())
            {
                last_obstacle = format!("{number} is cluster {} in {}", claim.name, claim.parent);
                continue;
            }
            if let Some(address) = first_in_use(&listens(number)?)? {
                last_obstacle = format!("something listens on {address}");
                continue;
            }
            self.write(number, cluster)?;
            return Ok(number);
        }
        bail!(
            "no number from {} to {} is free for another cluster; the last one tried: {last_obstacle}",
            ClusterNumber::MIN,
            ClusterNumber::MAX
        )
    }

    /// Gives a number back, if `cluster` has it.
    pub fn release(&self, cluster: &ClusterDirectory, number: ClusterNumber) -> Result<()> {
        let _lock = self.lock()?;
        let ours = self.read(number)?.is_some_and(|claim| {
            claim.name == cluster.name() && Some(claim.parent.as_path()) == cluster.root().parent()
        });
        if ours {
            let path = self.file(number);
            fs::remove_file(&path).with_context(|| format!("removing {path}"))?;
        }
        Ok(())
    }

    /// The claim on a number, if it holds.
    fn holder(&self, number: ClusterNumber) -> Result<Option<Claim>> {
        let Some(claim) = self.read(number)? else { return Ok(None) };
        if claim.boot_id != boot_id()? {
            return Ok(None);
        }
        let directory = ClusterDirectory::new(&claim.parent, &claim.name)?;
        // A record that cannot be read may belong to a cluster that runs: better one number less.
        let Ok(record) = directory.read_record() else { return Ok(Some(claim)) };
        let holds = match record.filter(|record| record.number == number && record.phase != Phase::Stopped) {
            Some(record) => record.owner.is_none() || record.anything_lives()?,
            None => claim.claimer.lives()?,
        };
        Ok(holds.then_some(claim))
    }

    fn read(&self, number: ClusterNumber) -> Result<Option<Claim>> {
        let path = self.file(number);
        match fs::read(&path) {
            // Torn by a crash, or of another version: it protects nothing that a listener would not.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {path}")),
        }
    }

    fn write(&self, number: ClusterNumber, cluster: &ClusterDirectory) -> Result<()> {
        let parent = cluster.root().parent().unwrap_or(Utf8Path::new("/")).to_owned();
        let claimer = ProcessIdentity::current()?;
        let claim = Claim { parent, name: cluster.name().to_owned(), claimer, boot_id: boot_id()? };
        let bytes = serde_json::to_vec(&claim).context("encoding a claim")?;
        write_private(&self.file(number), &bytes)
    }

    fn file(&self, number: ClusterNumber) -> Utf8PathBuf {
        self.directory.join(format!("{number}.json"))
    }

    /// The lock; given back when the file is dropped.
    fn lock(&self) -> Result<fs::File> {
        let path = self.directory.join("lock");
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {path}"))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {path}"))?;
        Ok(file)
    }
}

/// The first of the sockets that somebody listens on already.
fn first_in_use(sockets: &[SocketAddr]) -> Result<Option<SocketAddr>> {
    for &socket in sockets {
        match TcpListener::bind(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(Some(socket)),
            Err(error) => return Err(error).with_context(|| format!("trying to listen on {socket}")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClusterRecord, Tokens};
    use camino_tempfile::Utf8TempDir;

    fn nothing(_: ClusterNumber) -> Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }

    fn record(directory: &ClusterDirectory, number: ClusterNumber, change: impl FnOnce(&mut ClusterRecord)) {
        let tokens = Tokens { operator: "o".into(), sled: "s".into(), coordinator: "c".into() };
        let mut record = ClusterRecord::new(directory.name(), number, tokens, "bin".into());
        change(&mut record);
        directory.update(|_| Ok((Some(record), ()))).expect("the record is written");
    }

    #[test]
    fn two_clusters_get_two_numbers_and_a_released_one_is_taken_again() {
        let temp = Utf8TempDir::new().unwrap();
        let claims = Claims::at(temp.path().join("run")).unwrap();
        let one = ClusterDirectory::new(temp.path(), "one").unwrap();
        let two = ClusterDirectory::new(temp.path(), "two").unwrap();
        let first = claims.claim(&one, None, ClaimOrder::LowestFirst, nothing).unwrap();
        let second = claims.claim(&two, None, ClaimOrder::LowestFirst, nothing).unwrap();
        assert_eq!((first, second), (ClusterNumber::new(1).unwrap(), ClusterNumber::new(2).unwrap()));
        claims.release(&two, first).unwrap();
        assert!(claims.holder(first).unwrap().is_some(), "another cluster's number was released");
        claims.release(&one, first).unwrap();
        let three = ClusterDirectory::new(temp.path(), "three").unwrap();
        assert_eq!(claims.claim(&three, None, ClaimOrder::LowestFirst, nothing).unwrap(), first);
    }

    #[test]
    fn clusters_of_simultaneous_claimers_all_differ() {
        let temp = Utf8TempDir::new().unwrap();
        let claims = Claims::at(temp.path().join("run")).unwrap();
        let mut numbers = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|index| {
                    let cluster = ClusterDirectory::new(temp.path(), &format!("c{index}")).unwrap();
                    let claims = &claims;
                    scope.spawn(move || {
                        claims.claim(&cluster, None, ClaimOrder::HighestFirst, nothing).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), 16);
    }

    #[test]
    fn a_preferred_number_is_kept_unless_somebody_else_has_it() {
        let temp = Utf8TempDir::new().unwrap();
        let claims = Claims::at(temp.path().join("run")).unwrap();
        let one = ClusterDirectory::new(temp.path(), "one").unwrap();
        let seven = ClusterNumber::new(7);
        assert_eq!(claims.claim(&one, seven, ClaimOrder::LowestFirst, nothing).unwrap(), seven.unwrap());
        assert_eq!(claims.claim(&one, seven, ClaimOrder::LowestFirst, nothing).unwrap(), seven.unwrap());
        let two = ClusterDirectory::new(temp.path(), "two").unwrap();
        assert_eq!(
            claims.claim(&two, seven, ClaimOrder::LowestFirst, nothing).unwrap(),
            ClusterNumber::new(1).unwrap()
        );
    }

    #[test]
    fn addresses_that_somebody_listens_on_are_left_alone() {
        let temp = Utf8TempDir::new().unwrap();
        let claims = Claims::at(temp.path().join("run")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let one = ClusterDirectory::new(temp.path(), "one").unwrap();
        let number = claims
            .claim(&one, None, ClaimOrder::LowestFirst, |number| {
                Ok(if number == ClusterNumber::new(1).unwrap() { vec![taken] } else { Vec::new() })
            })
            .unwrap();
        assert_eq!(number, ClusterNumber::new(2).unwrap());
        let refusal =
            claims.claim(&one, None, ClaimOrder::LowestFirst, |_| Ok(vec![taken])).unwrap_err().to_string();
        assert!(refusal.contains(&taken.to_string()), "{refusal}");
    }

    #[test]
    fn claims_hold_exactly_while_their_cluster_may_run() {
        let temp = Utf8TempDir::new().unwrap();
        let claims = Claims::at(temp.path().join("run")).unwrap();
        let one = ClusterDirectory::new(temp.path(), "one").unwrap();
        let number = claims.claim(&one, None, ClaimOrder::LowestFirst, nothing).unwrap();
        let dead = ProcessIdentity { start_ticks: 1, ..ProcessIdentity::current().unwrap() };
        let holds = || claims.holder(number).unwrap().is_some();
        assert!(holds(), "claimed just now by a process that lives");
        record(&one, number, |record| record.owner = Some(dead.clone()));
        assert!(!holds(), "its owner died and nothing of it lives");
        record(&one, number, |record| record.owner = Some(ProcessIdentity::current().unwrap()));
        assert!(holds(), "its owner lives");
        record(&one, number, |_| {});
        assert!(holds(), "detached: every process may have been killed on purpose");
        let other_boot = Claim {
            parent: temp.path().to_owned(),
            name: "one".to_owned(),
            claimer: dead,
            boot_id: "another".to_owned(),
        };
        write_private(&claims.file(number), &serde_json::to_vec(&other_boot).unwrap()).unwrap();
        assert!(!holds(), "made before the machine was booted");
        fs::write(claims.file(number), "{").unwrap();
        assert!(!holds(), "torn");
    }

    #[test]
    fn a_register_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let temp = Utf8TempDir::new().unwrap();
        let open = temp.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Claims::at(&open).unwrap_err().to_string().contains("only this user"));
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(temp.path(), &link).unwrap();
        assert!(Claims::at(&link).is_err());
    }
}
