//! The members' files: whether they are the same and what the book says, while they are served and afterwards. Owns when they may be
//! looked at; what is compared is [`regions`]'s.

use super::Run;
use crate::{
    faults::MEMBERS,
    finding::Findings,
    load::PATIENCE,
    plaintext,
    regions::{self, Blocks, Book, Difference},
    site::Site,
};
use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use testbed::wait_for;
use tokio::task::spawn_blocking;

impl Run<'_> {
    /// Whether all three are full, as they soon are; otherwise that was found wrong. Two of three are enough only then.
    pub(super) async fn are_all_full(&self) -> Result<bool> {
        let resting = match &self.fio {
            Some(fio) => Some(fio.rest().await),
            None => None,
        };
        let compared = self.compare_served().await?;
        drop(resting);
        Ok(compared.is_some())
    }

    /// After a part.
    pub(super) async fn compare_after(&self, part: &str) -> Result<Option<Blocks>> {
        if self.begin_round(part) { self.compare_served().await } else { Ok(None) }
    }

    /// The members' files, while they are served and nobody writes. None if something was found wrong.
    async fn compare_served(&self) -> Result<Option<Blocks>> {
        let settled = self.load.settle().await;
        self.must("clients do not come to rest", settled);
        if self.findings.are_there() {
            return Ok(None);
        }
        let (files, dir, book) = (self.files()?, self.site.dir().to_owned(), self.book());
        let mut last: Option<Difference> = None;
        let compared = wait_for("three full members that are the same", PATIENCE, async || {
            let (files, dir, book) = (files.clone(), dir.clone(), book.clone());
            let compared = spawn_blocking(move || regions::compare_copies(&files, &dir, &book)).await;
            let compared = compared.map_err(anyhow::Error::new).flatten();
            match compared.map_err(|error| format!("{error:#}"))? {
                Ok(blocks) => Ok(blocks),
                Err(difference) => {
                    let told = format!("{difference:?}");
                    last = Some(difference);
                    Err(told)
                }
            }
        })
        .await;
        self.load.go_on();
        match compared {
            Ok(blocks) => Ok(Some(blocks)),
            Err(error) => {
                let block = last.and_then(|difference| difference.block);
                self.found_difference(block, format!("{error:#}"));
                Ok(None)
            }
        }
    }

    fn files(&self) -> Result<Vec<Utf8PathBuf>> {
        (0..MEMBERS).map(|member| self.site.region_file(member)).collect()
    }

    pub(super) fn book(&self) -> Book {
        Book { salt: self.order.seed, key: self.site.key(), contents: self.load.settled() }
    }

    fn found_difference(&self, block: Option<u64>, what: String) {
        let history = block.map(|block| self.load.history(block)).unwrap_or_default();
        self.findings.add(block, what, history);
    }
}

/// Of each member; they have to be the same.
pub(super) async fn region_hashes(site: &Site, findings: &Findings) -> Result<Vec<String>> {
    let files = (0..MEMBERS).map(|member| site.region_file(member)).collect::<Result<Vec<_>>>()?;
    let hashed =
        spawn_blocking(move || files.iter().map(|file| regions::hash(file)).collect::<Result<Vec<_>>>());
    let hashes = hashed.await.context("hashing the regions")??;
    if hashes.iter().any(|hash| *hash != hashes[0]) {
        findings.add(None, "the regions have not the same content", format!("{hashes:?}"));
    }
    Ok(hashes)
}

/// In how many of the files there is something that a client has written. In one of an encrypted volume it was found wrong.
pub(super) async fn look_for_plaintext(
    files: Vec<Utf8PathBuf>,
    is_encrypted: bool,
    findings: &Findings,
) -> Result<u64> {
    let mut members = 0;
    for file in files {
        let found = spawn_blocking({
            let file = file.clone();
            move || plaintext::find(&file)
        });
        let Some(at) = found.await.context("looking for plaintext")?? else { continue };
        members += 1;
        if is_encrypted {
            findings.add(None, format!("{file} has what a client has written, at byte {at}"), "");
        }
    }
    Ok(members)
}
