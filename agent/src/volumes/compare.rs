//! `volume compare`: every copy of a volume is read and compared while clients go on, and what is wrong with one is mended. If the export
//! refuses to go on, what was found before that is shown all the same.

use super::{
    control::{self, Which},
    view,
};
use camino::Utf8Path;
use ids::RegionId;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    error::Error,
    io::{IsTerminal, Write, stderr},
    time::Instant,
};
use volume_export::{Answer, COMPARED_MAX, CopyCompared, Request, ask};

/// Something was found that could not be mended.
#[derive(Debug, thiserror::Error)]
#[error(
    "copies are wrong or differ, and could not be mended; the first such block is {first}. What is written there again is right; replace \
     members that have much of it: sled-agent volume replace"
)]
pub(super) struct CopiesDamaged {
    first: u64,
}

/// What was found, as JSON.
#[derive(Serialize)]
struct Found {
    blocks: u64,
    block_bytes: u32,
    copies: Vec<CopyCompared>,
    /// There, if not all of it was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
}

/// Why it does not go on.
#[derive(Serialize)]
struct Stopped {
    /// The first block that was not compared.
    first_block: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    words: String,
}

pub(super) fn compare(which: &Which, is_json: bool) -> Result<(), Box<dyn Error>> {
    let socket = which.socket();
    let status = control::status(&socket)?;
    let (blocks, block_bytes) = (status.volume.blocks(), status.volume.block_bytes());
    let step = (COMPARED_MAX / 4 / u64::from(block_bytes)).max(1);
    let mut copies: BTreeMap<RegionId, CopyCompared> = BTreeMap::new();
    let mut progress = Progress::start(blocks * u64::from(block_bytes));
    let (mut first, mut refused) = (0, None);
    while first < blocks && refused.is_none() {
        let count = step.min(blocks - first);
        match compare_step(&socket, first, count) {
            Ok(found) => {
                for copy in found {
                    let known = copies.entry(copy.region).or_insert_with(|| CopyCompared::new(copy.region));
                    known.add(&copy);
                }
                first += count;
                progress.tell(first * u64::from(block_bytes));
            }
            Err(error) => refused = Some(error),
        }
    }
    progress.end();
    let first_bad = copies.values().filter_map(|copy| copy.first_left).min();
    let copies: Vec<CopyCompared> = copies.into_values().collect();
    if is_json {
        let stopped = refused.as_deref().map(|error| Stopped {
            first_block: first,
            code: super::code(error),
            words: problem::chain(error),
        });
        say!("{}", serde_json::to_string(&Found { blocks, block_bytes, copies, stopped })?);
    } else {
        let head = ["BLOCKS", "WRONG", "HEALED", "DIFFERING", "FIRST BAD", "REGION"];
        view::columns(head, copies.iter().map(row)).iter().for_each(|line| say!("{line}"));
        if refused.is_some() {
            say!("blocks from {first} on were not compared");
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    first_bad.map_or(Ok(()), |first| Err(CopiesDamaged { first }.into()))
}

fn compare_step(socket: &Utf8Path, first: u64, count: u64) -> Result<Vec<CopyCompared>, Box<dyn Error>> {
    match ask(socket, &Request::Compare { first, count })? {
        Answer::Compared(found) => Ok(found),
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err("the export answers something else than it was asked".into()),
    }
}

fn row(copy: &CopyCompared) -> [String; 6] {
    let first = copy.first_left.map_or_else(|| "-".to_owned(), |block| block.to_string());
    let [blocks, wrong, healed, differing] =
        [copy.blocks, copy.wrong, copy.healed, copy.differing].map(|number| number.to_string());
    [blocks, wrong, healed, differing, first, copy.region.to_string()]
}

/// How far it is, for people who look at a terminal.
struct Progress {
    bytes: u64,
    began: Instant,
    is_shown: bool,
}

impl Progress {
    fn start(bytes: u64) -> Progress {
        Progress { bytes, began: Instant::now(), is_shown: stderr().is_terminal() }
    }

    fn tell(&mut self, done: u64) {
        if self.is_shown {
            let seconds = self.began.elapsed().as_secs().max(1);
            let (all, rate) = (view::bytes(self.bytes), view::bytes(done / seconds));
            // A terminal that is gone has nobody who looks.
            let _ = write!(stderr(), "\r{} of {all}, {rate}/s \x1b[K", view::bytes(done));
        }
    }

    fn end(&self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
