//! What copies of the same blocks say of each other. Pure.
//!
//! Of blocks that were written last before the copies were asked for, every copy has that write: whoever has another one, or another content of
//! it, is wrong, and two of three say who. Blocks that were written meanwhile are compared among those that have the newest write only.

use crate::{rules::Rule, sealing::Wrong, types::PeerId};
use region::{Held, Position, What};
use region_wire::Blocks;
use std::collections::BTreeMap;

/// What a member has given.
#[derive(Debug)]
pub(super) struct Copy {
    /// What it has of each block, as it said before it read them.
    pub(super) held: Vec<Held>,
    /// What it has read. Other than what it said if somebody has written in between.
    pub(super) whats: Vec<What>,
    /// Blocks whose bytes are not what they should be.
    pub(super) wrong: BTreeMap<u64, Wrong>,
    /// The last write that it was sent before it answered: it can have none behind that.
    pub(super) sent: Position,
}

/// A block of a member that is not what it should be, and somebody's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Odd {
    pub(super) of: PeerId,
    pub(super) block: u64,
    /// Who has it right, and what that is, if two agree on it.
    pub(super) right: Option<(PeerId, Held)>,
}

/// What is wrong with the copies.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What can be mended, perhaps.
    pub(super) odd: Vec<Odd>,
    /// Blocks that differ, and nobody can say who has them right, or how that could be mended.
    pub(super) differing: Vec<(PeerId, u64)>,
}

/// Compares copies of these blocks, all of which were asked for behind this write.
pub(super) fn compare(blocks: Blocks, behind: Position, copies: &BTreeMap<PeerId, Copy>) -> Findings {
    let mut findings = Findings::default();
    for (at, block) in blocks.range().enumerate() {
        let is_wrong = |peer: PeerId| copies[&peer].wrong.contains_key(&block);
        let is_possible = |copy: &Copy| copy.held[at].version <= copy.sent.max(behind);
        findings
            .differing
            .extend(copies.iter().filter(|(_, copy)| !is_possible(copy)).map(|(peer, _)| (*peer, block)));
        let groups = groups(at, behind, copies.iter().filter(|(_, copy)| is_possible(copy)));
        let agreed = majority(&groups);
        let right = agreed.and_then(|(held, peers)| {
            let from = peers.iter().copied().find(|peer| !is_wrong(*peer))?;
            Some((from, *held))
        });
        for of in copies.keys().copied().filter(|peer| is_wrong(*peer)) {
            findings.odd.push(Odd { of, block, right });
        }
        if groups.len() < 2 {
            continue;
        }
        let Some((held, _)) = agreed else {
            findings.differing.extend(groups.iter().flat_map(|(_, peers)| peers).map(|peer| (*peer, block)));
            continue;
        };
        for (theirs, peers) in groups.iter().filter(|(theirs, _)| theirs != held) {
            for of in peers.iter().copied().filter(|peer| !is_wrong(*peer)) {
                match right {
                    Some(_) if theirs.version == held.version => findings.odd.push(Odd { of, block, right }),
                    _ => findings.differing.push((of, block)),
                }
            }
        }
    }
    findings
}

/// Who says what of a block.
fn groups<'a>(
    at: usize,
    behind: Position,
    copies: impl Iterator<Item = (&'a PeerId, &'a Copy)>,
) -> Vec<(Held, Vec<PeerId>)> {
    let said = |copy: &Copy| {
        let held = copy.held[at];
        // It was written between the two.
        let is_settled = held.what.as_written() == copy.whats[at].as_written();
        is_settled.then_some(Held { what: held.what.as_written(), ..held })
    };
    let mut all: Vec<(PeerId, Held)> = copies.filter_map(|(peer, copy)| Some((*peer, said(copy)?))).collect();
    let newest = all.iter().map(|(_, held)| held.version).max().unwrap_or(behind);
    if newest > behind && Rule::ComparedBehindOneWrite.is_kept() {
        all.retain(|(_, held)| held.version == newest);
    }
    let mut groups: Vec<(Held, Vec<PeerId>)> = Vec::new();
    for (peer, held) in all {
        match groups.iter_mut().find(|(known, _)| *known == held) {
            Some((_, peers)) => peers.push(peer),
            None => groups.push((held, vec![peer])),
        }
    }
    groups
}

/// What two or more say, and more than say anything else.
fn majority(groups: &[(Held, Vec<PeerId>)]) -> Option<(&Held, &Vec<PeerId>)> {
    let (held, peers) = groups.iter().max_by_key(|(_, peers)| peers.len())?;
    let is_alone = groups.iter().filter(|(_, others)| others.len() == peers.len()).count() == 1;
    (peers.len() >= 2 && is_alone).then_some((held, peers))
}

#[cfg(test)]
mod tests {
    use super::{Copy, Findings, Odd, compare};
    use crate::{sealing::Wrong, types::PeerId};
    use region::{Held, Position, SEAL, What};
    use region_wire::Blocks;
    use std::collections::BTreeMap;

    const BLOCK: u64 = 9;
    const BEHIND: u64 = 10;

    fn position(counter: u64) -> Position {
        Position { epoch: 1, counter }
    }

    /// Of one block: of which write, with which checksum.
    fn copy(version: u64, checksum: u64) -> Copy {
        let what = What::Bytes { checksum, seal: [0; SEAL] };
        let version = position(version);
        let sent = position(20);
        Copy { held: vec![Held { version, what }], whats: vec![what], wrong: BTreeMap::new(), sent }
    }

    fn found(copies: Vec<Copy>) -> (Vec<Odd>, Vec<usize>) {
        let copies = (0..).map(PeerId).zip(copies).collect();
        let Findings { odd, differing } =
            compare(Blocks { first: BLOCK, count: 1 }, position(BEHIND), &copies);
        (odd, differing.into_iter().map(|(PeerId(peer), _)| peer).collect())
    }

    /// One of them is mended by another, to this.
    fn odd(of: usize, from: usize, right: &Copy) -> Vec<Odd> {
        vec![Odd { of: PeerId(of), block: BLOCK, right: Some((PeerId(from), right.held[0])) }]
    }

    #[test]
    fn who_lacks_a_write_that_was_there_before_differs_and_is_not_mended_by_it() {
        assert_eq!(found(vec![copy(4, 1), copy(3, 2), copy(4, 1)]), (vec![], vec![1]));
        assert_eq!(found(vec![copy(4, 1), copy(3, 1)]), (vec![], vec![0, 1]));
    }

    #[test]
    fn who_has_another_content_of_that_write_is_mended_by_what_two_have() {
        assert_eq!(found(vec![copy(4, 1), copy(4, 1), copy(4, 2)]), (odd(2, 0, &copy(4, 1)), vec![]));
        assert_eq!(found(vec![copy(4, 1), copy(4, 2)]), (vec![], vec![0, 1]));
        assert_eq!(found(vec![copy(4, 1), copy(4, 2), copy(4, 3)]), (vec![], vec![0, 1, 2]));
    }

    #[test]
    fn what_is_written_meanwhile_is_compared_among_those_that_have_it() {
        assert_eq!(found(vec![copy(11, 1), copy(4, 2), copy(4, 2)]), (vec![], vec![]));
        assert_eq!(found(vec![copy(11, 1), copy(12, 2), copy(4, 2)]), (vec![], vec![]));
        assert_eq!(found(vec![copy(11, 1), copy(11, 2), copy(11, 1)]), (odd(1, 0, &copy(11, 1)), vec![]));
        let between = Copy { whats: vec![What::Zeros], ..copy(4, 1) };
        assert_eq!(found(vec![between, copy(3, 2), copy(3, 2)]), (vec![], vec![]));
    }

    #[test]
    fn who_has_lost_the_bytes_says_the_same_and_gets_what_two_agree_on_and_nothing_else() {
        let lost = What::Lost { checksum: 1, seal: [0; SEAL] };
        let held = vec![Held { version: position(4), what: lost }];
        let wrong = BTreeMap::from([(BLOCK, Wrong::Bytes)]);
        let lost = || Copy { held: held.clone(), whats: vec![lost], wrong: wrong.clone(), ..copy(4, 1) };
        assert_eq!(found(vec![copy(4, 1), lost(), copy(4, 1)]), (odd(1, 0, &copy(4, 1)), vec![]));
        // The one that says something else is mended, and mends nobody.
        let both = [odd(0, 1, &copy(4, 1)), odd(2, 1, &copy(4, 1))].concat();
        assert_eq!(found(vec![lost(), copy(4, 1), copy(4, 2)]), (both, vec![]));
    }

    #[test]
    fn nobody_is_mended_by_bytes_that_are_wrong_themselves() {
        let wrong = || Copy { wrong: BTreeMap::from([(BLOCK, Wrong::Bytes)]), ..copy(4, 1) };
        let alone = |of| Odd { of: PeerId(of), block: BLOCK, right: None };
        assert_eq!(found(vec![wrong(), wrong(), copy(4, 2)]), (vec![alone(0), alone(1)], vec![2]));
    }

    #[test]
    fn a_version_that_nobody_was_sent_hides_nothing_of_the_others() {
        assert_eq!(found(vec![copy(21, 1), copy(4, 1), copy(4, 1)]), (vec![], vec![0]));
        assert_eq!(found(vec![copy(21, 1), copy(4, 1), copy(4, 2)]), (vec![], vec![0, 1, 2]));
    }
}
