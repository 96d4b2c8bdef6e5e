//! Copies of blocks: onto a member that is not full, onto bytes that are wrong, and onto a full one that is behind.
//!
//! | | onto | which blocks take it |
//! |---|---|---|
//! | Install | members that are not full | those that are older, or of an epoch before this one |
//! | Heal | any | those that have this very version |
//! | Stage, Commit | any | those that are older; all of them at one instant, which is a position of the stream |
//!
//! A copy may say that the bytes are lost. It heals nothing, so it never takes the place of bytes of the same version: a member
//! that has them keeps them, right or wrong.

use crate::{
    member::{Member, NotDone},
    rules::Rule,
    stream::{check_data, content_of},
};
use region::{NewContent, Onto, Position, Write, WriteError};
use region_wire::{BlockCopy, Reply, Request};

impl Member {
    pub(crate) fn install(&mut self, id: u64, copy: &BlockCopy, request: &Request) -> Result<Reply, NotDone> {
        if self.region.is_full() && Rule::OnlyFillingInstalls.is_kept() {
            return Err(NotDone::Wrong("a full member takes no copies".to_owned()));
        }
        let control = self.region.control();
        // A clone has nothing of its own: its source is right about all of it.
        let epoch = if control.clone_of.is_some() { u32::MAX } else { control.promoted.epoch };
        self.put(id, copy, Onto::Past { epoch }, request)
    }

    pub(crate) fn heal(&mut self, id: u64, copy: &BlockCopy, request: &Request) -> Result<Reply, NotDone> {
        if matches!(copy, BlockCopy::Lost(..)) {
            return Err(NotDone::Wrong("no block is healed by one that is lost".to_owned()));
        }
        self.put(id, copy, Onto::Same, request)
    }

    fn put(&mut self, id: u64, copy: &BlockCopy, onto: Onto, request: &Request) -> Result<Reply, NotDone> {
        check(copy)?;
        match self.region.write(self.region.applied(), &writes_of(copy, onto)) {
            Ok(blocks) => {
                self.unsynced += bytes_of(copy).max(1);
                Ok(Reply::Taken { id, blocks })
            }
            Err(error) => Err(self.not_put(error, request)),
        }
    }

    pub(crate) fn stage(&mut self, id: u64, copy: &BlockCopy, request: &Request) -> Result<Reply, NotDone> {
        check(copy)?;
        if !self.region.can_ever_commit(&self.staged) {
            return Err(NotDone::Wrong("more was staged than can be committed at once".to_owned()));
        }
        match self.region.stage(&writes_of(copy, Onto::Older)) {
            Ok(staged) => {
                let blocks = staged.blocks();
                self.staged.append(staged);
                Ok(Reply::Taken { id, blocks })
            }
            Err(error) => Err(self.not_put(error, request)),
        }
    }

    pub(crate) fn commit(&mut self, id: u64, applied: Position) -> Result<Reply, NotDone> {
        let now = self.region.applied();
        if applied.epoch > self.region.control().promoted.epoch {
            return Err(NotDone::Wrong(format!("{applied} is of a later epoch than its writer's")));
        }
        if applied < now {
            return Err(NotDone::Wrong(format!("{applied} is before {now}, which is applied")));
        }
        let staged = std::mem::take(&mut self.staged);
        match self.region.commit(applied, staged) {
            Ok(blocks) => {
                self.unsynced += 1;
                Ok(Reply::Taken { id, blocks })
            }
            Err((error, staged)) => {
                self.staged = staged.unwrap_or_default();
                Err(self.not_put(error, &Request::Commit { id, applied }))
            }
        }
    }

    /// It is tried again if there is hope.
    fn not_put(&mut self, error: WriteError, request: &Request) -> NotDone {
        let not_done = self.not_written(error);
        if matches!(not_done, NotDone::Wait(_)) {
            self.put_back(request.clone());
        }
        not_done
    }
}

fn check(copy: &BlockCopy) -> Result<(), NotDone> {
    match copy {
        BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data) => check_data(data),
        BlockCopy::Never(_) | BlockCopy::Zeros(..) | BlockCopy::Lost(..) => Ok(()),
    }
}

fn bytes_of(copy: &BlockCopy) -> u64 {
    copy.data().map_or(0, |data| data.bytes.len() as u64)
}

/// One for each run of blocks of one version.
fn writes_of(copy: &BlockCopy, onto: Onto) -> Vec<Write<'_>> {
    let BlockCopy::Mixed(versions, data) = copy else { return vec![write_of(copy, onto)] };
    let size = data.bytes.len() / versions.len();
    let (mut at, mut writes) = (0, Vec::new());
    for run in versions.chunk_by(|one, next| one == next) {
        let here = at..at + run.len();
        let seals = data.seals.get(here.clone()).unwrap_or_default();
        let (bytes, checksums) = (&data.bytes[at * size..here.end * size], &data.checksums[here.clone()]);
        let content = NewContent::Bytes { bytes, checksums, seals };
        writes.push(Write { version: run[0], block: data.first + at as u64, content, onto });
        at = here.end;
    }
    writes
}

/// Of what has one version.
fn write_of(copy: &BlockCopy, onto: Onto) -> Write<'_> {
    match copy {
        BlockCopy::Never(blocks) => Write {
            version: Position::NONE,
            block: blocks.first,
            content: NewContent::Never(blocks.count.into()),
            onto,
        },
        BlockCopy::Zeros(version, blocks) => Write {
            version: *version,
            block: blocks.first,
            content: NewContent::Zeros(blocks.count.into()),
            onto,
        },
        BlockCopy::Bytes(version, data) => {
            Write { version: *version, block: data.first, content: content_of(data), onto }
        }
        BlockCopy::Mixed(..) => unreachable!("it has more versions than one"),
        BlockCopy::Lost(version, data) => Write {
            version: *version,
            block: data.first,
            content: NewContent::Lost { checksums: &data.checksums, seals: &data.seals },
            onto,
        },
    }
}
