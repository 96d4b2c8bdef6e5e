//! What a simulated disk has after its power failed: the rules, and the choices that a seed makes within them.
//!
//! Promised, as by a journaling file system: synced bytes of a file; entries of a synced directory. Not promised, so
//! decided by the seed for each crash: changes of directories that were not synced are lost, kept, kept up to some
//! point, or kept at random (reordered); of a file that was not synced the last synced bytes stay, or the new ones, or
//! a torn mixture with blocks of zeros; of one that is written in place, any pieces of any of the writes. Two rules hold
//! even then: a rename shows the new name before the old one goes (a crash may leave both, never neither), and what lies in a
//! directory that itself was lost is lost.

use crate::sim_state::{Content, NameChange, Namespace, Node, SimFile};
use camino::Utf8Path;

/// The unit in which a torn write reaches the medium.
const BLOCK: usize = 512;

/// The unit in which a medium that does not keep its sectors whole tears what is written in place.
const PIECE: usize = 64;

/// A tiny deterministic generator (splitmix64): the same seed is the same crash, on every machine.
#[derive(Debug)]
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) fn new(seed: u64) -> Choices {
        Choices(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("a remainder is below its divisor, a usize")
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// The entries that are left: the durable ones and some of the pending changes.
pub(crate) fn surviving_names(
    durable: &Namespace,
    pending: &[NameChange],
    choices: &mut Choices,
) -> Namespace {
    let mut names = durable.clone();
    let prefix = choices.below(pending.len() + 1);
    let manner = choices.below(4);
    for (index, change) in pending.iter().enumerate() {
        let kept = match manner {
            0 => false,
            1 => true,
            2 => index < prefix,
            _ => choices.coin(),
        };
        match (kept, change) {
            (false, _) => {}
            (true, NameChange::Insert { path, node }) => drop(names.insert(path.clone(), *node)),
            (true, NameChange::Remove { path, node }) => remove_if_same(&mut names, path, *node),
            (true, NameChange::Rename { from, to, node }) => {
                names.insert(to.clone(), *node);
                // With the new name durable, the old one may still be there.
                if manner != 3 || choices.coin() {
                    remove_if_same(&mut names, from, *node);
                }
            }
        }
    }
    let reachable = |path: &Utf8Path| {
        path.ancestors()
            .skip(1)
            .all(|above| above.as_str().is_empty() || names.get(above) == Some(&Node::Directory))
    };
    names.iter().filter(|(path, _)| reachable(path)).map(|(path, node)| (path.clone(), *node)).collect()
}

/// Removes an entry only if it still means the same file: a removal that is reordered behind a later creation of the
/// same name must not hit the new file.
pub(crate) fn remove_if_same(names: &mut Namespace, path: &Utf8Path, node: Node) {
    if names.get(path) == Some(&node) {
        names.remove(path);
    }
}

/// The bytes and times of a file that are left.
pub(crate) fn surviving_file(file: &SimFile, choices: &mut Choices) -> SimFile {
    let (synced, live) = (&file.synced, &file.live);
    let left = match choices.below(3) {
        _ if !file.unsynced.is_empty() || file.has_forgotten => left_in_place(file, choices),
        _ if synced == live => live.clone(),
        0 => synced.clone(),
        1 => live.clone(),
        _ => {
            let mut torn = live.clone();
            torn.data.truncate(choices.below(live.data.len() + 1));
            for (index, block) in torn.data.chunks_mut(BLOCK).enumerate() {
                let start = index * BLOCK;
                if choices.coin() {
                    for (offset, byte) in block.iter_mut().enumerate() {
                        *byte = synced.data.get(start + offset).copied().unwrap_or(0);
                    }
                }
            }
            torn
        }
    };
    SimFile { synced: left.clone(), live: left, ..SimFile::default() }
}

/// The synced bytes, and over them pieces of the writes since then: none of them, all, those of the first writes, those of all
/// writes but one, or any. Where a piece was written twice, either may be what is left.
pub(crate) fn left_in_place(file: &SimFile, choices: &mut Choices) -> Content {
    let mut left = file.synced.clone();
    let (manner, whole) = (choices.below(5), choices.below(file.unsynced.len() + 1));
    let unit = if choices.coin() { BLOCK } else { PIECE };
    if manner > 0 {
        left.data.resize(file.live.data.len(), 0);
    }
    for (index, (offset, bytes)) in file.unsynced.iter().enumerate() {
        let mut at = usize::try_from(*offset).expect("it was written in memory");
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(unit - at % unit));
            let is_kept = match manner {
                0 => false,
                1 => true,
                2 => index < whole,
                3 => index != whole,
                _ => choices.coin(),
            };
            if is_kept {
                left.data[at..at + piece.len()].copy_from_slice(piece);
            }
            at += piece.len();
            rest = behind;
        }
    }
    left
}
