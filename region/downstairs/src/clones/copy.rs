//! What differs between source and clone is copied, range by range. Owns what of a source's words is believed.
//!
//! A block that the source has wrong is left out, and the pass goes on: another source may have it right. The pass has failed then, and the
//! next one finds everything else equal.

use super::{CloneError, Phase, SourceError, Sources, Target, Watch, machine::strange};
use crate::content::ranges;
use bytes::Bytes;
use region::{Geometry, Held, Position, Seal, What, checksum};
use region_wire::{
    BlockCopy, BlockData, Blocks, Haste, LOOK_MAX, PeerError, Reply, Request, WRITE_BYTES_MAX,
};

/// Why a pass has not made them equal.
#[derive(Debug)]
pub(super) enum NotCopied {
    /// Another source may have what this one has not.
    Source(SourceError),
    Other(CloneError),
}

impl From<PeerError> for NotCopied {
    fn from(error: PeerError) -> NotCopied {
        NotCopied::Source(error.into())
    }
}

impl From<CloneError> for NotCopied {
    fn from(error: CloneError) -> NotCopied {
        NotCopied::Other(error)
    }
}

/// Blocks that follow each other and differ, and are copied by one message.
#[derive(Debug)]
struct Piece<'a> {
    first: u64,
    held: &'a [Held],
    /// The clone has this very version, and another content of it: one of two sources has said what is not so.
    is_same_version: bool,
}

/// One pass over all blocks.
pub(super) fn from(
    source: usize,
    geometry: Geometry,
    target: &mut impl Target,
    sources: &mut impl Sources,
    watch: &mut impl Watch,
) -> Result<(), NotCopied> {
    let size = geometry.block_size.bytes() as u64;
    let mut first_wrong = None;
    for range in ranges(geometry, LOOK_MAX) {
        let done = |blocks: u64| (range.first + blocks) * size;
        watch.at(Phase::Copying, done(0), 0)?;
        let digest = Request::Digest { id: 0, blocks: range };
        let (theirs, ours) = (sources.ask(source, digest.clone())?, target.ask(digest)?);
        match (&theirs, &ours) {
            (Reply::Digested { digest: theirs, .. }, Reply::Digested { digest: ours, .. }) => {
                if theirs == ours {
                    continue;
                }
            }
            (Reply::Digested { .. }, _) => return Err(strange(&ours).into()),
            _ => return Err(PeerError::Strange("it answers something else than a digest").into()),
        }
        let look = Request::Look { id: 0, blocks: range };
        let theirs = match sources.ask(source, look.clone())? {
            Reply::Looked { held, .. } if held.len() == range.count as usize => held,
            _ => return Err(PeerError::Strange("it answers something else than it was asked").into()),
        };
        let ours = match target.ask(look)? {
            Reply::Looked { held, .. } if held.len() == range.count as usize => held,
            other => return Err(strange(&other).into()),
        };
        check_held(&theirs)?;
        for piece in pieces(range, geometry, &theirs, &ours) {
            let bytes = match copy(source, geometry, &piece, target, sources)? {
                Copied::All(bytes) => bytes,
                Copied::Without(error, bytes) => {
                    first_wrong.get_or_insert(error);
                    bytes
                }
            };
            let behind = piece.first + piece.held.len() as u64 - range.first;
            watch.at(Phase::Copying, done(behind), bytes)?;
        }
    }
    watch.at(Phase::Copying, geometry.blocks * size, 0)?;
    first_wrong.map_or(Ok(()), |error| Err(NotCopied::Source(error)))
}

/// Whether a region may hold that.
fn check_held(held: &[Held]) -> Result<(), PeerError> {
    let is_none = |position: Position| position == Position::NONE;
    let is_possible = |held: &Held| is_none(held.version) == matches!(held.what, What::Never);
    if held.iter().all(is_possible) {
        Ok(())
    } else {
        Err(PeerError::Strange("a block that nobody wrote has a version, or one that was written has none"))
    }
}

/// The blocks that differ: one piece for what one message may have.
fn pieces<'a>(range: Blocks, geometry: Geometry, theirs: &'a [Held], ours: &[Held]) -> Vec<Piece<'a>> {
    let bytes_max = WRITE_BYTES_MAX / geometry.block_size.bytes();
    let mut pieces: Vec<Piece<'a>> = Vec::new();
    for (at, (held, own)) in theirs.iter().zip(ours).enumerate() {
        if held.version == own.version && held.what.as_written() == own.what {
            continue;
        }
        let (first, is_same_version) = (range.first + at as u64, held.version == own.version);
        if let Some(piece) = pieces.last_mut()
            && piece.first + piece.held.len() as u64 == first
            && piece.is_same_version == is_same_version
            && goes_with(&piece.held[0], held, is_same_version)
            && (piece.held.len() < bytes_max || !matches!(held.what, What::Bytes { .. }))
        {
            let start = at - piece.held.len();
            piece.held = &theirs[start..=at];
        } else {
            pieces.push(Piece { first, held: &theirs[at..=at], is_same_version });
        }
    }
    pieces
}

/// Bytes may have a version each, but for those that heal.
fn goes_with(one: &Held, other: &Held, is_same_version: bool) -> bool {
    match (one.what, other.what) {
        (What::Bytes { .. }, What::Bytes { .. }) => !is_same_version || one.version == other.version,
        (What::Never, What::Never) => true,
        (What::Zeros, What::Zeros) => one.version == other.version,
        _ => false,
    }
}

/// What came of a piece, and how many bytes of blocks were copied.
enum Copied {
    All(u64),
    /// But for the first block that is wrong, and others.
    Without(SourceError, u64),
}

fn copy(
    source: usize,
    geometry: Geometry,
    piece: &Piece<'_>,
    target: &mut impl Target,
    sources: &mut impl Sources,
) -> Result<Copied, NotCopied> {
    let count = u32::try_from(piece.held.len()).expect("a piece is small");
    let blocks = Blocks { first: piece.first, count };
    let version = piece.held[0].version;
    match piece.held[0].what {
        What::Never => install(piece, BlockCopy::Never(blocks), target).map(|()| Copied::All(0)),
        What::Zeros => install(piece, BlockCopy::Zeros(version, blocks), target).map(|()| Copied::All(0)),
        What::Lost { .. } => Ok(Copied::Without(SourceError::Lost(piece.first), 0)),
        What::Bytes { .. } => copy_bytes(source, geometry, (piece, blocks), target, sources),
    }
}

fn copy_bytes(
    source: usize,
    geometry: Geometry,
    (piece, blocks): (&Piece<'_>, Blocks),
    target: &mut impl Target,
    sources: &mut impl Sources,
) -> Result<Copied, NotCopied> {
    let size = geometry.block_size.bytes();
    let (whats, bytes) = match sources.ask(source, Request::Read { id: 0, blocks, haste: Haste::Later })? {
        Reply::Read { first, whats, bytes, .. }
            if first == blocks.first && bytes.len() == blocks.count as usize * size =>
        {
            (whats, bytes)
        }
        _ => return Err(PeerError::Strange("it answers something else than it was asked").into()),
    };
    if !whats.iter().eq(piece.held.iter().map(|held| &held.what)) {
        return Err(PeerError::Strange("it says two things of one block, which never changes").into());
    }
    let is_right = |at: usize| match whats[at] {
        What::Bytes { checksum: kept, .. } => {
            checksum(blocks.first + at as u64, &bytes[at * size..(at + 1) * size]) == kept
        }
        _ => false,
    };
    let all: Vec<usize> = (0..whats.len()).collect();
    let (mut copied, mut wrong) = (0, None);
    for run in all.chunk_by(|one, other| is_right(*one) == is_right(*other)) {
        let (start, end) = (run[0], run[0] + run.len());
        if !is_right(start) {
            wrong.get_or_insert(PeerError::WrongBlock(blocks.first + start as u64).into());
            continue;
        }
        let held = &piece.held[start..end];
        let part = Piece { first: blocks.first + start as u64, held, ..*piece };
        let data = data(geometry, &part, bytes.slice(start * size..end * size));
        let copy = match piece.is_same_version {
            true => BlockCopy::Bytes(held[0].version, data),
            false => BlockCopy::Mixed(held.iter().map(|held| held.version).collect(), data),
        };
        install(&part, copy, target)?;
        copied += (held.len() * size) as u64;
    }
    Ok(wrong.map_or(Copied::All(copied), |error| Copied::Without(error, copied)))
}

fn data(geometry: Geometry, piece: &Piece<'_>, bytes: Bytes) -> BlockData {
    let of = |held: &Held| match held.what {
        What::Bytes { checksum, seal } => (checksum, seal),
        _ => unreachable!("all of them have bytes"),
    };
    let (checksums, seals): (Vec<u64>, Vec<Seal>) = piece.held.iter().map(of).unzip();
    let seals = if geometry.is_sealed { seals } else { Vec::new() };
    BlockData { first: piece.first, checksums, seals, bytes }
}

fn install(piece: &Piece<'_>, copy: BlockCopy, target: &mut impl Target) -> Result<(), NotCopied> {
    let request = match piece.is_same_version {
        true => Request::Heal { id: 0, copy },
        false => Request::Install { id: 0, copy, haste: Haste::Later },
    };
    match target.ask(request)? {
        Reply::Taken { blocks, .. } if blocks == piece.held.len() as u64 => Ok(()),
        other => Err(strange(&other).into()),
    }
}
