//! What each block may hold: everything that was written to it, and when.

/// When, in steps of the world.
pub(crate) type Instant = u64;

/// A content of a block. Each write has another one; 0 is zeros.
pub(crate) type Mark = u64;

#[derive(Clone, Copy, Debug)]
struct Written {
    mark: Mark,
    began: Instant,
    /// None while it was not acknowledged.
    ended: Option<Instant>,
}

/// The history of a volume's blocks.
#[derive(Debug)]
pub(crate) struct History(Vec<Vec<Written>>);

impl History {
    /// Begins with these contents.
    pub(crate) fn new(marks: &[Mark]) -> History {
        let first = |mark: &Mark| vec![Written { mark: *mark, began: 0, ended: Some(0) }];
        History(marks.iter().map(first).collect())
    }

    pub(crate) fn begin(&mut self, block: u64, mark: Mark, began: Instant) {
        self.of(block).push(Written { mark, began, ended: None });
    }

    pub(crate) fn end(&mut self, block: u64, mark: Mark, began: Instant, ended: Instant) {
        let is_it = |written: &&mut Written| written.mark == mark && written.began == began;
        self.of(block).iter_mut().find(is_it).expect("it was begun").ended = Some(ended);
    }

    /// Whether a read of this time may have seen this content.
    pub(crate) fn allows(&self, block: u64, mark: Mark, (began, ended): (Instant, Instant)) -> bool {
        let all = &self.0[usize::try_from(block).expect("it is small")];
        let is_replaced = |old: &Written| {
            let after = old.ended.unwrap_or(Instant::MAX);
            all.iter().any(|new| new.began > after && new.ended.is_some_and(|end| end < began))
        };
        all.iter().any(|written| written.mark == mark && written.began <= ended && !is_replaced(written))
    }

    fn of(&mut self, block: u64) -> &mut Vec<Written> {
        &mut self.0[usize::try_from(block).expect("it is small")]
    }
}
