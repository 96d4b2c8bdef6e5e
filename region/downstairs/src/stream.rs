//! The stream of writes, and what is read behind them.

use crate::{
    member::{Member, NotDone, TRIES, Wait},
    rules::Rule,
};
use bytes::Bytes;
use durable_fs::StorageError;
use region::{Held, NewContent, Onto, Position, Write, WriteError, checksum};
use region_wire::{BlockData, Blocks, Reply, Request, WRITE_BYTES_MAX};

/// Bytes of blocks that one record of the journal is written for at most: what comes together is written together.
const BATCH_BYTES: usize = 4 << 20;

impl Member {
    /// Applies a write of the stream, and those that follow it right away.
    pub(crate) fn write_stream(&mut self, first: Request) -> Result<(), NotDone> {
        if self.is_far_from_durable() {
            self.put_back(first);
            return Err(NotDone::Wait(Wait::Sync));
        }
        let batch = self.batch(first)?;
        let Some(last) = batch.last().and_then(position_of) else { return Ok(()) };
        let block_size = self.geometry().block_size.bytes() as u64;
        let writes: Vec<Write<'_>> = batch.iter().filter_map(write_of).collect();
        let bytes: u64 = writes.iter().map(|write| blocks_of(write) * block_size).sum();
        match self.region.write(last, &writes) {
            Ok(_) => {
                // A write that passes over it has moved its position, too.
                self.unsynced += bytes.max(1);
                self.tells_applied = true;
                Ok(())
            }
            Err(error) => {
                let not_done = self.not_written(error);
                batch.into_iter().rev().for_each(|request| self.put_back(request));
                Err(not_done)
            }
        }
    }

    /// Those that are written together. What was written before is left out.
    fn batch(&mut self, first: Request) -> Result<Vec<Request>, NotDone> {
        let (mut batch, mut bytes, mut blocks) = (Vec::new(), 0, 0);
        let mut reached = self.region.applied();
        let mut next = Some(first);
        while let Some(request) = next {
            let (position, count, size) = match &request {
                Request::Write(position, data) => (*position, data.checksums.len() as u64, data.bytes.len()),
                Request::Zero(position, zeros) => (*position, u64::from(zeros.count), 0),
                Request::Pass(position) => (*position, 0, 0),
                _ => break,
            };
            let is_too_much = bytes + size > BATCH_BYTES || blocks + count > self.region.batch_blocks_max();
            if !batch.is_empty() && is_too_much {
                self.put_back(request);
                break;
            }
            if position.epoch != self.region.control().promoted.epoch && Rule::OnlyThePromotedActs.is_kept() {
                return Err(NotDone::Wrong(format!("a write of position {position} by another epoch")));
            }
            if position <= reached {
                self.tells_applied = true;
            } else {
                let is_next =
                    if batch.is_empty() { self.is_next(position) } else { position == reached.next() };
                if !is_next && Rule::NoGaps.is_kept() {
                    return Err(NotDone::Wrong(format!("{position} does not follow {reached}")));
                }
                self.check_stream(&request)?;
                reached = position;
                bytes += size;
                blocks += count;
                batch.push(request);
            }
            next = self.next_if(is_of_the_stream);
        }
        Ok(batch)
    }

    /// Bytes that the wire has changed are not written. Who is full is passed over by no write.
    fn check_stream(&self, request: &Request) -> Result<(), NotDone> {
        match request {
            Request::Write(_, data) => check_data(data),
            Request::Pass(position) if self.region.is_full() && Rule::OnlyFillingIsPassedOver.is_kept() => {
                Err(NotDone::Wrong(format!(
                    "{position} is a write, and a full member is passed over by none"
                )))
            }
            _ => Ok(()),
        }
    }

    /// What to do about a write that was not done.
    pub(crate) fn not_written(&mut self, error: WriteError) -> NotDone {
        match error {
            WriteError::NoRoom { waiting, .. } if waiting > 0 => NotDone::Wait(Wait::Sync),
            WriteError::JournalFull => NotDone::Wait(Wait::Checkpoint),
            WriteError::Disk(error) => {
                self.refusal = Some(waits(&error));
                self.tries += u32::from(!error.is_no_space());
                if self.tries <= TRIES {
                    return NotDone::Wait(Wait::Disk);
                }
                NotDone::Failed(self.region.give_up(&error))
            }
            WriteError::Failed(failed) => NotDone::Failed(failed),
            error @ (WriteError::NoRoom { .. } | WriteError::Wrong { .. } | WriteError::TooMuch { .. }) => {
                NotDone::Wrong(error.to_string())
            }
        }
    }

    pub(crate) fn read(&mut self, id: u64, blocks: Blocks) -> Result<Reply, NotDone> {
        let mut bytes = Vec::with_capacity(self.check_read(blocks).map_err(NotDone::Wrong)?);
        let held = self.region.read(blocks.range(), &mut bytes)?;
        Ok(read_reply(id, blocks.first, held, bytes))
    }

    pub(crate) fn look(&mut self, id: u64, blocks: Blocks) -> Result<Reply, NotDone> {
        self.check_blocks(blocks).map_err(NotDone::Wrong)?;
        Ok(Reply::Looked { id, held: self.region.look(blocks.range())? })
    }

    pub(crate) fn digest(&mut self, id: u64, blocks: Blocks) -> Result<Reply, NotDone> {
        self.check_blocks(blocks).map_err(NotDone::Wrong)?;
        Ok(Reply::Digested { id, digest: self.region.digest(blocks.range())? })
    }

    /// The bytes that a read may have at most; or what is wrong with it.
    pub(crate) fn check_read(&self, blocks: Blocks) -> Result<usize, String> {
        self.check_blocks(blocks)?;
        let size = self.geometry().block_size.bytes() * blocks.count as usize;
        if size > WRITE_BYTES_MAX {
            return Err(format!("a read of {size} bytes; there are {WRITE_BYTES_MAX} at most"));
        }
        Ok(size)
    }

    pub(crate) fn check_blocks(&self, blocks: Blocks) -> Result<(), String> {
        let (range, count) = (blocks.range(), self.geometry().blocks);
        if range.end > count {
            return Err(format!("blocks {range:?} of a region that has {count}"));
        }
        Ok(())
    }
}

pub(crate) fn read_reply(id: u64, first: u64, held: Vec<Held>, bytes: Vec<u8>) -> Reply {
    let whats = held.into_iter().map(|held| held.what).collect();
    Reply::Read { id, first, whats, bytes: Bytes::from(bytes) }
}

/// What its writer is told of what the disk refuses.
pub(crate) fn waits(error: &StorageError) -> Reply {
    let why = format!("its disk refuses writes, and is tried again: {}", error.source);
    Reply::Waits { is_full: error.is_no_space(), why }
}

fn position_of(request: &Request) -> Option<Position> {
    match request {
        Request::Write(position, _) | Request::Zero(position, _) | Request::Pass(position) => Some(*position),
        _ => None,
    }
}

fn is_of_the_stream(request: &Request) -> bool {
    position_of(request).is_some()
}

fn write_of(request: &Request) -> Option<Write<'_>> {
    let onto = Onto::Older;
    match request {
        Request::Write(version, data) => {
            Some(Write { version: *version, block: data.first, content: content_of(data), onto })
        }
        Request::Zero(_, zeros) if !Rule::TrimIsNotUnwritten.is_kept() => {
            let content = NewContent::Never(zeros.count.into());
            Some(Write {
                version: Position::NONE,
                block: zeros.first,
                content,
                onto: Onto::Past { epoch: u32::MAX },
            })
        }
        Request::Zero(version, zeros) => {
            let content = NewContent::Zeros(zeros.count.into());
            Some(Write { version: *version, block: zeros.first, content, onto })
        }
        _ => None,
    }
}

fn blocks_of(write: &Write<'_>) -> u64 {
    match write.content {
        NewContent::Bytes { checksums, .. } => checksums.len() as u64,
        NewContent::Never(_) | NewContent::Zeros(_) | NewContent::Lost { .. } => 1,
    }
}

pub(crate) fn content_of(data: &BlockData) -> NewContent<'_> {
    NewContent::Bytes { bytes: &data.bytes, checksums: &data.checksums, seals: &data.seals }
}

pub(crate) fn check_data(data: &BlockData) -> Result<(), NotDone> {
    let count = data.checksums.len();
    let size = data.bytes.len() / count;
    if size * count != data.bytes.len() || size == 0 {
        return Err(NotDone::Wrong(format!("{} bytes for {count} blocks", data.bytes.len())));
    }
    let mut blocks = (data.first..).zip(data.bytes.chunks_exact(size)).zip(&data.checksums);
    match blocks.find(|((block, bytes), kept)| checksum(*block, bytes) != **kept) {
        Some(((block, _), _)) => {
            Err(NotDone::Wrong(format!("the bytes of block {block} do not have their checksum")))
        }
        None => Ok(()),
    }
}
