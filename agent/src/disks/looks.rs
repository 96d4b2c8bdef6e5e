//! Looks at all regions of a disk, which take as long as there is to be read. Owns that one of them is under way at a time.
//!
//! ```text
//!   asked for ──nobody looks──────────────────────────► under way ──► told to all who share it
//!       └── one is under way, and may have passed what has changed since ──► the next one: shared by all who ask before it begins
//! ```
//!
//! A look goes on as long as anybody waits for it.

use datasets::DatasetError;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// What a look finds, for all who share it.
pub(super) type Found = Result<u64, Arc<DatasetError>>;

/// Those at one disk. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks(Arc<Mutex<Option<Last>>>);

/// The one that was asked for last.
#[derive(Debug)]
struct Last {
    has_begun: Arc<AtomicBool>,
    look: Shared<BoxFuture<'static, Found>>,
}

impl Looks {
    /// What is found by a look that begins after this was called: this one, or another one's.
    pub(super) async fn share(&self, look: impl Future<Output = Found> + Send + 'static) -> Found {
        self.next(look).await
    }

    fn next(&self, look: impl Future<Output = Found> + Send + 'static) -> Shared<BoxFuture<'static, Found>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match last.take() {
            Some(waiting) if !waiting.has_begun.load(Ordering::SeqCst) => {
                return last.insert(waiting).look.clone();
            }
            other => other.map(|last| last.look),
        };
        let has_begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&has_begun);
        let look = async move {
            if let Some(before) = before {
                // Whatever it finds, it is for others.
                let _ = before.await;
            }
            begins.store(true, Ordering::SeqCst);
            look.await
        };
        last.insert(Last { has_begun, look: look.boxed().shared() }).look.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use std::sync::atomic::AtomicU64;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn one_look_is_under_way_at_a_time_and_who_comes_meanwhile_shares_the_next_one() {
        let (looks, gate) = (Looks::default(), Arc::new(Semaphore::new(0)));
        let (begun, under_way) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ask = || {
            let (looks, gate) = (looks.clone(), Arc::clone(&gate));
            let (begun, under_way) = (Arc::clone(&begun), Arc::clone(&under_way));
            tokio::spawn(async move {
                let look = async move {
                    let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                    assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0, "another one is under way");
                    gate.acquire().await.expect("it is not closed").forget();
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    Ok(number)
                };
                looks.share(look).await
            })
        };
        let found = async |asked: Vec<tokio::task::JoinHandle<Found>>| {
            let found = join_all(asked).await.into_iter().map(|found| found.expect("it ends"));
            found.map(|found| found.expect("it is told")).collect::<Vec<_>>()
        };
        let settle = async || {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        };
        let first = ask();
        settle().await;
        let shared: Vec<_> = (0..20).map(|_| ask()).collect();
        settle().await;
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        gate.add_permits(1);
        assert_eq!(found(vec![first]).await, [1]);
        settle().await;
        // It has begun: who comes now may know of something that it has passed.
        let late = ask();
        settle().await;
        gate.add_permits(1);
        assert_eq!(found(shared).await, [2; 20]);
        gate.add_permits(1);
        assert_eq!(found(vec![late]).await, [3]);
        // Nobody looks: it begins at once.
        gate.add_permits(1);
        assert_eq!(found(vec![ask()]).await, [4]);
    }

    #[tokio::test]
    async fn a_look_that_has_failed_is_told_to_all_who_share_it_and_to_nobody_else() {
        let looks = Looks::default();
        let failed = || async { Err(Arc::new(DatasetError::NotMounted { disk: "tank".to_owned() })) };
        let (first, second) = tokio::join!(looks.share(failed()), looks.share(failed()));
        assert!(first.is_err() && second.is_err());
        assert!(matches!(looks.share(async { Ok(7) }).await, Ok(7)));
    }
}
