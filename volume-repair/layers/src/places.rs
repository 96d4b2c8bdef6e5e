//! Where in a layer a block is. Pure.

/// Which part: the number of a region set or of a source, among all of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartId {
    Set(usize),
    Source(usize),
}

/// A part in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) part: PartId,
    /// Its first block in the layer.
    pub(crate) first: u64,
    /// How many it has.
    pub(crate) blocks: u64,
}

/// Blocks of one part, by their numbers in the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) place: Place,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Parts, one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    pub(crate) places: Vec<Place>,
    pub(crate) blocks: u64,
}

impl Layer {
    /// Puts a part behind the others.
    ///
    /// # Panics
    /// If there are more blocks than there are numbers: whoever composes a volume has seen to that.
    pub(crate) fn push(&mut self, part: PartId, blocks: u64) {
        self.places.push(Place { part, first: self.blocks, blocks });
        self.blocks = self.blocks.checked_add(blocks).expect("a volume's blocks can be counted");
    }

    /// These blocks, part by part. What is beyond the end is left out.
    pub(crate) fn sections(&self, first: u64, count: u64) -> impl Iterator<Item = Section> + '_ {
        let end = first.saturating_add(count).min(self.blocks);
        let from = self.places.partition_point(|place| place.first + place.blocks <= first);
        self.places[from..].iter().map_while(move |place| {
            let at = first.max(place.first);
            let count = end.min(place.first + place.blocks).checked_sub(at).filter(|count| *count > 0)?;
            Some(Section { place: *place, first: at, count })
        })
    }

    /// How many of these blocks it has.
    pub(crate) fn covers(&self, first: u64, count: u64) -> u64 {
        self.blocks.saturating_sub(first).min(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_divided_at_borders_and_end_with_the_layer() {
        let mut layer = Layer::default();
        for (number, blocks) in [4, 1, 5].into_iter().enumerate() {
            layer.push(PartId::Set(number), blocks);
        }
        let told = |first, count| -> Vec<(PartId, u64, u64)> {
            layer
                .sections(first, count)
                .map(|section| (section.place.part, section.first, section.count))
                .collect()
        };
        let (a, b, c) = (PartId::Set(0), PartId::Set(1), PartId::Set(2));
        assert_eq!(told(0, 10), [(a, 0, 4), (b, 4, 1), (c, 5, 5)]);
        assert_eq!(told(3, 3), [(a, 3, 1), (b, 4, 1), (c, 5, 1)]);
        assert_eq!(told(4, 1), [(b, 4, 1)]);
        assert_eq!(told(9, 100), [(c, 9, 1)]);
        assert_eq!(told(9, u64::MAX), [(c, 9, 1)]);
        assert_eq!((told(10, 1), told(3, 0)), (vec![], vec![]));
        assert_eq!([layer.covers(8, 5), layer.covers(10, 5), layer.covers(2, 3)], [2, 0, 3]);
    }
}
