//! Which half of each page counts, and that it is the one that was written: the checksums of all pages, in index pages of
//! their own, whose checksums are in higher ones, whose checksums are in the super.
//!
//! ```text
//!   super:  c c c c …                     at most `TOP_MAX`
//!           │
//!   upper:  c c c c … 508 of each page
//!           │
//!   lower:  c c c c … 508 of each page
//!           │
//!   leaves: the map's pages, and then the free pages
//! ```
//!
//! Tracts ([`crate::layout`]) have a tree of their own, of two levels: their free pages, and an index page for each group of them, whose
//! checksums are in the super.
//!
//! A checksum of 0 is that of a page that was never written; it is all zeros. The index is in memory as a whole while a region is
//! open: 16 bytes for each leaf, 26 MB for a TiB of 4 KiB blocks.
//!
//! ```text
//!   in force ──plan, write: the half that does not count──► written ──the super says so──► in force, the other half is the old one
//! ```

use crate::{
    fields::{Fields, PutFields},
    layout::Layout,
    rules::Rule,
    sealed::{HEADER, Half, PAGE, Page},
};
use durable_fs::{InPlaceFile, StorageError};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::IoSlice,
    sync::Arc,
};

/// Checksums of one index page.
pub(crate) const FAN: u64 = ((PAGE - HEADER) / 8) as u64;

/// Checksums of the super.
pub(crate) const TOP_MAX: u64 = 400;

/// Leaves of a region at most.
pub(crate) const LEAVES_MAX: u64 = TOP_MAX * FAN * FAN;

/// A page below the super, by its level and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Leaf(u64),
    Lower(u64),
    Upper(u64),
    /// The free page of a tract.
    Tract(u64),
    /// The index of a group of them.
    Group(u64),
}

impl Node {
    fn above(self) -> Option<Node> {
        match self {
            Node::Leaf(number) => Some(Node::Lower(number / FAN)),
            Node::Lower(number) => Some(Node::Upper(number / FAN)),
            Node::Tract(number) => Some(Node::Group(number / FAN)),
            Node::Upper(_) | Node::Group(_) => None,
        }
    }

    /// The pages whose checksums an index page has.
    fn below(self) -> Box<dyn Iterator<Item = Node>> {
        match self {
            Node::Leaf(_) | Node::Tract(_) => Box::new(std::iter::empty()),
            Node::Lower(number) => Box::new((number * FAN..(number + 1) * FAN).map(Node::Leaf)),
            Node::Upper(number) => Box::new((number * FAN..(number + 1) * FAN).map(Node::Lower)),
            Node::Group(number) => Box::new((number * FAN..(number + 1) * FAN).map(Node::Tract)),
        }
    }

    fn number(self) -> u64 {
        match self {
            Node::Leaf(number)
            | Node::Lower(number)
            | Node::Upper(number)
            | Node::Tract(number)
            | Node::Group(number) => number,
        }
    }
}

/// The checksums that the super has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tops {
    /// Of the highest index pages.
    pub(crate) upper: Vec<u64>,
    /// Of the index pages of groups of tracts.
    pub(crate) groups: Vec<u64>,
}

/// Why a page is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRead {
    #[error(transparent)]
    Disk(#[from] StorageError),
    #[error("the page at byte {offset} is not the one that was written, in either of its places")]
    Rotten { offset: u64 },
}

/// The tree that is in force.
#[derive(Debug)]
pub(crate) struct Tree {
    layout: Layout,
    leaves: Vec<Known>,
    lower: Vec<Known>,
    upper: Vec<Known>,
    tracts: Vec<Known>,
    groups: Vec<Known>,
}

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    checksum: u64,
    /// Whether the second half has it. Of a leaf not before it was read.
    is_second: bool,
}

impl Known {
    /// The half that does not count. Of a page that was never written, either is free.
    fn free_half(self) -> Half {
        let is_first = self.checksum == 0 || self.is_second;
        if is_first == Rule::OtherHalf.is_kept() { Half::First } else { Half::Second }
    }
}

/// The pages of a checkpoint and where they go. Writing them needs nothing else.
#[derive(Debug)]
pub(crate) struct TreePlan {
    layout: Layout,
    leaves: Vec<(Node, Half, Arc<Page>)>,
    lower: Vec<IndexPlan>,
    upper: Vec<IndexPlan>,
    groups: Vec<IndexPlan>,
    tops: Tops,
}

/// An index page with the checksums that it has now.
#[derive(Debug)]
struct IndexPlan {
    number: u64,
    half: Half,
    below: Vec<u64>,
}

/// Pages of a checkpoint: sealed, in place, and not yet in force.
#[derive(Debug, Default)]
pub(crate) struct NewTree {
    changed: BTreeMap<Node, Known>,
    /// The checksums for the super.
    pub(crate) tops: Tops,
}

impl Tree {
    /// The tree that a super says. Reads all index pages.
    pub(crate) fn open(file: &dyn InPlaceFile, layout: &Layout, tops: &Tops) -> Result<Tree, NotRead> {
        let mut tree = Tree::empty(layout);
        let in_lower = tree.read_level(file, Node::Upper, &tops.upper)?;
        let in_leaves = tree.read_level(file, Node::Lower, &in_lower)?;
        let in_tracts = tree.read_level(file, Node::Group, &tops.groups)?;
        for (known, checksum) in tree.leaves.iter_mut().zip(in_leaves) {
            known.checksum = checksum;
        }
        for (number, checksum) in in_tracts.into_iter().enumerate().filter(|(_, checksum)| *checksum != 0) {
            let offset = layout.page(Node::Tract(number as u64)).0;
            // What the file is too short for is no tract that nobody ever wrote.
            tree.tracts.get_mut(number).ok_or(NotRead::Rotten { offset })?.checksum = checksum;
        }
        Ok(tree)
    }

    /// Of a region that nobody ever wrote.
    pub(crate) fn empty(layout: &Layout) -> Tree {
        let known = |count: u64| vec![Known::default(); index(count)];
        let leaves = layout.leaf_pages();
        let lower = leaves.div_ceil(FAN);
        let upper = lower.div_ceil(FAN);
        let groups = layout.tracts.div_ceil(FAN);
        Tree {
            layout: *layout,
            leaves: known(leaves),
            lower: known(lower),
            upper: known(upper),
            tracts: known(layout.tracts),
            groups: known(groups),
        }
    }

    /// There is one tract more, which nobody ever wrote.
    pub(crate) fn grow(&mut self) {
        self.layout.tracts += 1;
        self.tracts.push(Known::default());
        self.groups.resize(index(self.layout.tracts.div_ceil(FAN)), Known::default());
    }

    /// The checksums that the super of this tree has.
    pub(crate) fn tops(&self) -> Tops {
        let checksums = |level: &[Known]| level.iter().map(|known| known.checksum).collect();
        Tops { upper: checksums(&self.upper), groups: checksums(&self.groups) }
    }

    /// A leaf as the checkpoint in force has it.
    pub(crate) fn read(&mut self, file: &dyn InPlaceFile, leaf: Node) -> Result<Box<Page>, NotRead> {
        let layout = self.layout;
        let known = &mut self.level(leaf)[index(leaf.number())];
        let (page, is_second) = read(file, &layout, leaf, known.checksum)?;
        known.is_second = is_second;
        Ok(page)
    }

    /// What writing these leaves takes: over the halves that do not count, with the index above them. Each of them was read.
    pub(crate) fn plan(&self, leaves: Vec<(Node, Arc<Page>)>) -> TreePlan {
        let above: BTreeSet<Node> = leaves.iter().filter_map(|(leaf, _)| leaf.above()).collect();
        let highest: BTreeSet<Node> = above.iter().filter_map(|node| node.above()).collect();
        let index_plan = |node: &Node| IndexPlan {
            number: node.number(),
            half: self.known(*node).free_half(),
            below: node.below().map(|below| self.known(below).checksum).collect(),
        };
        let is_group = |node: &&Node| matches!(node, Node::Group(_));
        TreePlan {
            layout: self.layout,
            lower: above.iter().filter(|node| !is_group(node)).map(index_plan).collect(),
            upper: highest.iter().map(index_plan).collect(),
            groups: above.iter().filter(is_group).map(index_plan).collect(),
            tops: self.tops(),
            leaves: leaves
                .into_iter()
                .map(|(leaf, page)| (leaf, self.known(leaf).free_half(), page))
                .collect(),
        }
    }

    /// The super says so, and it is durable.
    pub(crate) fn put_in_force(&mut self, new: NewTree) {
        for (node, known) in new.changed {
            self.level(node)[index(node.number())] = known;
        }
    }

    fn level(&mut self, node: Node) -> &mut Vec<Known> {
        match node {
            Node::Leaf(_) => &mut self.leaves,
            Node::Lower(_) => &mut self.lower,
            Node::Upper(_) => &mut self.upper,
            Node::Tract(_) => &mut self.tracts,
            Node::Group(_) => &mut self.groups,
        }
    }

    /// Takes over the index pages of a level; the checksums that they have.
    fn read_level(
        &mut self,
        file: &dyn InPlaceFile,
        node: fn(u64) -> Node,
        checksums: &[u64],
    ) -> Result<Vec<u64>, NotRead> {
        let (mut all, layout) = (Vec::new(), self.layout);
        for (number, (known, checksum)) in (0..).zip(self.level(node(0)).iter_mut().zip(checksums)) {
            let (page, is_second) = read(file, &layout, node(number), *checksum)?;
            *known = Known { checksum: *checksum, is_second };
            let mut fields = Fields(&page[HEADER..]);
            all.extend(std::iter::from_fn(|| fields.u64()));
        }
        Ok(all)
    }

    fn known(&self, node: Node) -> Known {
        let level = match node {
            Node::Leaf(_) => &self.leaves,
            Node::Lower(_) => &self.lower,
            Node::Upper(_) => &self.upper,
            Node::Tract(_) => &self.tracts,
            Node::Group(_) => &self.groups,
        };
        // The last index page of a level has room for more than there are.
        level.get(index(node.number())).copied().unwrap_or_default()
    }
}

impl TreePlan {
    /// Writes all of it. Nothing of it is durable on return, and nothing in force.
    pub(crate) fn write(self, file: &dyn InPlaceFile, generation: u64) -> Result<NewTree, StorageError> {
        let TreePlan { layout, leaves, mut lower, mut upper, mut groups, mut tops } = self;
        let mut changed = BTreeMap::new();
        let mut put = |node: Node, half: Half, page: &mut Page| {
            let (offset, label) = layout.page(node);
            let checksum = label.seal(page, generation);
            file.write_all_at(half.of(offset), &mut [IoSlice::new(page)])?;
            changed.insert(node, Known { checksum, is_second: half == Half::Second });
            Ok(checksum)
        };
        for (leaf, half, page) in leaves {
            let checksum = put(leaf, half, &mut page.as_ref().clone())?;
            let above = if let Node::Tract(_) = leaf { &mut groups } else { &mut lower };
            set_below(above, leaf.number(), checksum);
        }
        for index_page in lower {
            let checksum = put(Node::Lower(index_page.number), index_page.half, &mut index_page.page())?;
            set_below(&mut upper, index_page.number, checksum);
        }
        for index_page in upper {
            let checksum = put(Node::Upper(index_page.number), index_page.half, &mut index_page.page())?;
            tops.upper[index(index_page.number)] = checksum;
        }
        for index_page in groups {
            let checksum = put(Node::Group(index_page.number), index_page.half, &mut index_page.page())?;
            tops.groups[index(index_page.number)] = checksum;
        }
        Ok(NewTree { changed, tops })
    }
}

impl IndexPlan {
    fn page(&self) -> Page {
        let mut page = [0; PAGE];
        let mut body = &mut page[HEADER..];
        self.below.iter().for_each(|checksum| body.put_u64(*checksum));
        page
    }
}

/// Puts a new checksum into the index page that has it, which is among these.
fn set_below(pages: &mut [IndexPlan], number: u64, checksum: u64) {
    let at = pages.binary_search_by_key(&(number / FAN), |page| page.number);
    let page = &mut pages[at.expect("the page above a page that changes changes, too")];
    page.below[index(number % FAN)] = checksum;
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("an index fits in memory")
}

/// The page of this checksum, and whether it is in the second half.
fn read(
    file: &dyn InPlaceFile,
    layout: &Layout,
    node: Node,
    checksum: u64,
) -> Result<(Box<Page>, bool), NotRead> {
    let mut page = Box::new([0; PAGE]);
    if checksum == 0 {
        return Ok((page, false));
    }
    let (offset, label) = layout.page(node);
    let mut refused = None;
    for half in Half::BOTH {
        match file.read_exact_at(half.of(offset), page.as_mut_slice()) {
            Ok(()) if label.check(&page).is_some_and(|(_, found)| found == checksum) => {
                return Ok((page, half == Half::Second));
            }
            Ok(()) => {}
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or(NotRead::Rotten { offset }, NotRead::Disk))
}
