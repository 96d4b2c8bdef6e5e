//! Work of a handler that a client who goes away must not stop halfway.
//!
//! A handler is dropped with its connection, at whichever `.await` it stands. What it has changed by then stays changed,
//! and what should follow (a file's removal, waking a task) would be left out. Such work runs in a task of its own, and
//! the handler only waits for it.

use std::panic;
use tracing::Instrument;

/// Runs work to its end, whether or not anybody waits for it. A panic in it is the caller's.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work.in_current_span()).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(reason) => panic::resume_unwind(reason),
            // The runtime ends, and so does whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{task::Poll, time::Duration};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_for_it_any_more() {
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut waiting = Box::pin(to_the_end(async move {
            may_go_on.await.unwrap();
            done.send("done").unwrap();
        }));
        assert_eq!(futures::poll!(&mut waiting), Poll::Pending);
        drop(waiting);
        go_on.send(()).unwrap();
        let done = tokio::time::timeout(Duration::from_secs(10), is_done).await;
        assert_eq!(done.unwrap(), Ok("done"));
    }
}
