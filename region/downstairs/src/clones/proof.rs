//! The proof: what the clone's disk gives back is what the source's disk gives back, leaf by leaf.

use super::{CloneError, Phase, Sources, Target, Watch, machine::strange};
use crate::{
    content::{Whole, leaves},
    rules::Rule,
};
use region::{Geometry, What};
use region_wire::{Blocks, PeerError, Reply, Request};

/// The hash of all of it.
pub(super) fn of_all(
    geometry: Geometry,
    usable: &[usize],
    target: &mut impl Target,
    sources: &mut impl Sources,
    watch: &mut impl Watch,
) -> Result<[u8; 32], CloneError> {
    let size = geometry.block_size.bytes() as u64;
    let mut whole = Whole::new();
    for leaf in leaves(geometry) {
        watch.at(Phase::Proving, leaf.first * size, bytes_of(leaf, target)? * size)?;
        let ours = match target.ask(Request::Hash { id: 0, blocks: leaf })? {
            Reply::Hashed { hash, .. } => hash.map_err(CloneError::Rotten)?,
            other => return Err(strange(&other)),
        };
        let theirs = of_any(usable, leaf, sources)?;
        if ours != theirs && Rule::HashesAreCompared.is_kept() {
            return Err(CloneError::Unequal { first: leaf.first, last: leaf.range().end - 1 });
        }
        whole.add(&ours);
    }
    watch.at(Phase::Proving, geometry.blocks * size, 0)?;
    Ok(whole.end())
}

/// How many blocks of a leaf have bytes, which are read.
fn bytes_of(leaf: Blocks, target: &mut impl Target) -> Result<u64, CloneError> {
    match target.ask(Request::Look { id: 0, blocks: leaf })? {
        Reply::Looked { held, .. } => {
            Ok(held.iter().filter(|held| matches!(held.what, What::Bytes { .. })).count() as u64)
        }
        other => Err(strange(&other)),
    }
}

/// From the first that has all of the leaf right.
fn of_any(usable: &[usize], leaf: Blocks, sources: &mut impl Sources) -> Result<[u8; 32], CloneError> {
    let mut tried = Vec::new();
    for source in usable {
        let error = match sources.ask(*source, Request::Hash { id: 0, blocks: leaf }) {
            Ok(Reply::Hashed { hash: Ok(hash), .. }) => return Ok(hash),
            Ok(Reply::Hashed { hash: Err(block), .. }) => PeerError::WrongBlock(block),
            Ok(_) => PeerError::Strange("it answers something else than a hash"),
            Err(error) => error,
        };
        tried.push((*source, error.into()));
    }
    Err(CloneError::Sources(tried))
}
