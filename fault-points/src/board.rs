//! Which points are on hold, and who is held there. Owns that state and nothing else: no socket, no disks.
//!
//! One point:
//!
//! ```text
//!   passing ── hold{after: n} ──► counting down ── n passes ──► holding ── release ──► passing
//!                                       └────────── release ─────────────────────────────┘
//! ```
//!
//! Whoever reaches a holding point waits on that hold's watch channel; releasing drops its sender, which wakes them
//! all. The number of held tasks is the channel's number of receivers, so a task that is dropped while held is never
//! counted on. Nothing here is durable: a process that is killed forgets its holds, and its successor runs free.

use crate::protocol::PointStatus;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// Points on one board at most. Programs name a few dozen; a client that makes up more is broken.
pub(crate) const POINTS_MAX: usize = 1024;

/// Servers that are open in this process; while there is none, points are not even counted.
static SERVERS: AtomicUsize = AtomicUsize::new(0);

/// The process's board.
static BOARD: Board = Board { points: Mutex::new(BTreeMap::new()), changed: Mutex::new(None) };

/// Passes a named point; waits there for as long as somebody holds it.
///
/// Names are `area.instant`, such as `replication.before_put`. Costs one relaxed load when no fault socket is open.
pub async fn reach(point: &'static str) {
    if SERVERS.load(Ordering::Relaxed) != 0 {
        BOARD.reach(point).await;
    }
}

/// The board, switched on for as long as this lives. When the last one goes, everybody who is held goes on.
pub(crate) struct BoardInUse(());

impl BoardInUse {
    /// Switches the process's board on.
    pub(crate) fn begin() -> BoardInUse {
        SERVERS.fetch_add(1, Ordering::Relaxed);
        BoardInUse(())
    }

    /// The process's board.
    pub(crate) fn board(&self) -> &'static Board {
        &BOARD
    }
}

impl Drop for BoardInUse {
    fn drop(&mut self) {
        if SERVERS.fetch_sub(1, Ordering::Relaxed) == 1 {
            BOARD.points().clear();
            BOARD.announce();
        }
    }
}

/// Every point that was passed or held.
pub(crate) struct Board {
    points: Mutex<BTreeMap<String, Point>>,
    /// Tells waiters that somebody was held or a hold went away. Made on first use: a channel is not `const`.
    changed: Mutex<Option<watch::Sender<()>>>,
}

#[derive(Default)]
struct Point {
    passes: u64,
    hold: Option<Hold>,
}

struct Hold {
    /// Passes that still go through.
    passes_left: u64,
    /// Dropped on release; its receivers are the tasks that are held.
    released: watch::Sender<()>,
}

impl Board {
    async fn reach(&self, point: &str) {
        let Some(mut released) = self.pass(point) else { return };
        self.announce();
        // Nothing is ever sent: the end of the channel is the release.
        while released.changed().await.is_ok() {}
    }

    /// Counts a pass; hands out the channel to wait on if the point holds.
    fn pass(&self, point: &str) -> Option<watch::Receiver<()>> {
        let mut points = self.points();
        if !points.contains_key(point) {
            if points.len() >= POINTS_MAX {
                return None;
            }
            points.insert(point.to_owned(), Point::default());
        }
        let entry = points.get_mut(point)?;
        entry.passes += 1;
        let hold = entry.hold.as_mut()?;
        if hold.passes_left > 0 {
            hold.passes_left -= 1;
            return None;
        }
        Some(hold.released.subscribe())
    }

    /// Sets a hold. On a point that is on hold already, only the passes to let through change.
    pub(crate) fn hold(&self, point: &str, after: u64) -> Result<(), String> {
        let mut points = self.points();
        if !points.contains_key(point) && points.len() >= POINTS_MAX {
            return Err(format!("there are {POINTS_MAX} points already; {point:?} can not be added"));
        }
        let entry = points.entry(point.to_owned()).or_default();
        match &mut entry.hold {
            Some(hold) => hold.passes_left = after,
            none => *none = Some(Hold { passes_left: after, released: watch::Sender::new(()) }),
        }
        Ok(())
    }

    /// Waits until somebody is held at the point.
    pub(crate) async fn wait_held(&self, point: &str) -> Result<(), String> {
        let mut changed = self.changes();
        loop {
            // Marked seen before the look, so that a change in between is not missed.
            changed.borrow_and_update();
            match self.points().get(point).and_then(|entry| entry.hold.as_ref()) {
                None => return Err(format!("no hold is set on {point:?}")),
                Some(hold) if hold.released.receiver_count() > 0 => return Ok(()),
                Some(_) => {}
            }
            if changed.changed().await.is_err() {
                return Err("the board was closed".to_owned());
            }
        }
    }

    /// Takes a hold away; answers with how many tasks go on.
    pub(crate) fn release(&self, point: &str) -> Result<usize, String> {
        let hold = self.points().get_mut(point).and_then(|entry| entry.hold.take());
        self.announce();
        hold.map(|hold| hold.released.receiver_count()).ok_or_else(|| format!("no hold is set on {point:?}"))
    }

    /// Every point, by name.
    pub(crate) fn list(&self) -> Vec<PointStatus> {
        let status = |(name, point): (&String, &Point)| PointStatus {
            point: name.clone(),
            passes: point.passes,
            on_hold: point.hold.is_some(),
            held: point.hold.as_ref().map_or(0, |hold| hold.released.receiver_count() as u64),
        };
        self.points().iter().map(status).collect()
    }

    fn announce(&self) {
        if let Some(changed) = &*self.changed.lock().unwrap_or_else(PoisonError::into_inner) {
            changed.send_replace(());
        }
    }

    fn changes(&self) -> watch::Receiver<()> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.get_or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// A panic elsewhere leaves the counts as they were: still good enough to go on with.
    fn points(&self) -> MutexGuard<'_, BTreeMap<String, Point>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn board() -> Arc<Board> {
        Arc::new(Board { points: Mutex::new(BTreeMap::new()), changed: Mutex::new(None) })
    }

    #[tokio::test]
    async fn a_point_without_hold_is_passed_and_counted() {
        let board = board();
        board.reach("a").await;
        board.reach("a").await;
        let expected = PointStatus { point: "a".to_owned(), passes: 2, on_hold: false, held: 0 };
        assert_eq!(board.list(), vec![expected]);
    }

    #[tokio::test]
    async fn after_lets_exactly_that_many_passes_through() {
        let board = board();
        board.hold("a", 2).unwrap();
        board.reach("a").await;
        board.reach("a").await;
        let third = tokio::spawn({
            let board = board.clone();
            async move { board.reach("a").await }
        });
        board.wait_held("a").await.unwrap();
        assert!(!third.is_finished());
        assert_eq!(board.release("a").unwrap(), 1);
        third.await.unwrap();
        board.reach("a").await;
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_while_held_is_not_counted() {
        let board = board();
        board.hold("a", 0).unwrap();
        let held = tokio::spawn({
            let board = board.clone();
            async move { board.reach("a").await }
        });
        board.wait_held("a").await.unwrap();
        held.abort();
        assert!(held.await.unwrap_err().is_cancelled());
        assert_eq!(board.list()[0].held, 0);
    }

    #[tokio::test]
    async fn a_second_hold_keeps_those_who_are_held() {
        let board = board();
        board.hold("a", 0).unwrap();
        let held = tokio::spawn({
            let board = board.clone();
            async move { board.reach("a").await }
        });
        board.wait_held("a").await.unwrap();
        board.hold("a", 1).unwrap();
        board.reach("a").await;
        assert!(!held.is_finished());
        board.release("a").unwrap();
        held.await.unwrap();
    }

    #[tokio::test]
    async fn waiting_at_a_point_without_hold_is_refused_also_when_the_hold_goes_away() {
        let board = board();
        assert!(board.wait_held("a").await.unwrap_err().contains("no hold"));
        board.hold("a", 0).unwrap();
        let waiter = tokio::spawn({
            let board = board.clone();
            async move { board.wait_held("a").await }
        });
        tokio::task::yield_now().await;
        board.release("a").unwrap();
        assert!(waiter.await.unwrap().is_err());
        assert!(board.release("a").is_err());
    }

    #[tokio::test]
    async fn the_board_has_a_limit() {
        let board = board();
        for number in 0..POINTS_MAX {
            board.hold(&number.to_string(), 0).unwrap();
        }
        assert!(board.hold("one more", 0).unwrap_err().contains("can not be added"));
        board.hold("0", 5).unwrap();
    }
}
