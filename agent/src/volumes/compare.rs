//! `volume compare`: every copy of a volume is read and compared while clients go on, and what is wrong with one is mended.

use super::{
    control::{self, Which},
    view,
};
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
}

pub(super) fn compare(which: &Which, is_json: bool) -> Result<(), Box<dyn Error>> {
    let socket = which.socket();
    let status = control::status(&socket)?;
    let (blocks, block_bytes) = (status.volume.blocks(), status.volume.block_bytes());
    let step = (COMPARED_MAX / 4 / u64::from(block_bytes)).max(1);
    let mut copies: BTreeMap<RegionId, CopyCompared> = BTreeMap::new();
    let mut progress = Progress::start(blocks * u64::from(block_bytes));
    let mut first = 0;
    while first < blocks {
        let count = step.min(blocks - first);
        let found = match ask(&socket, &Request::Compare { first, count })? {
            Answer::Compared(found) => found,
            Answer::Refused(refusal) => return Err(refusal.into()),
            _ => return Err("the export answers something else than it was asked".into()),
        };
        for copy in found {
            copies.entry(copy.region).or_insert_with(|| CopyCompared::new(copy.region)).add(&copy);
        }
        first += count;
        progress.tell(first * u64::from(block_bytes));
    }
    progress.end();
    let first_bad = copies.values().filter_map(|copy| copy.first_left).min();
    let copies: Vec<CopyCompared> = copies.into_values().collect();
    if is_json {
        say!("{}", serde_json::to_string(&Found { blocks, block_bytes, copies })?);
    } else {
        let head = ["BLOCKS", "WRONG", "HEALED", "DIFFERING", "FIRST BAD", "REGION"];
        view::columns(head, copies.iter().map(row)).iter().for_each(|line| say!("{line}"));
    }
    first_bad.map_or(Ok(()), |first| Err(CopiesDamaged { first }.into()))
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
