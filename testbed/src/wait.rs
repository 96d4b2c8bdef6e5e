//! Bounded waiting that says what it saw last. Owns the one polling loop; what is waited for is the caller's business.

use anyhow::{Result, bail};
use std::{fmt::Display, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// Pause between two looks: short enough that nobody notices, long enough not to keep two cores busy.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` finds what it waits for, at most `limit`.
///
/// `look` answers `Ok(found)`, or `Err(status)`: how things stand. When the time is over, the error repeats the last
/// status, so that a failed test says where it was stuck. A look that hangs is cut off at the limit.
pub async fn wait_for<T, S: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut last: Option<S> = None;
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(status)) => last = Some(status),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            let status = last.map_or_else(|| "it never answered".to_owned(), |status| status.to_string());
            bail!("waited {:.1} s for {what}; last status: {status}", limit.as_secs_f64());
        }
        sleep(POLL_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_status_is_in_the_error() {
        let mut looks = 0;
        let error = wait_for("the moon", Duration::from_millis(300), async || {
            looks += 1;
            Err::<(), _>(format!("look {looks}"))
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), format!("waited 0.3 s for the moon; last status: look {looks}"));
        assert!(looks > 1);
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off() {
        let error = wait_for("an answer", Duration::from_millis(300), async || {
            std::future::pending::<()>().await;
            Err::<(), _>("never said")
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("it never answered"), "{error}");
    }
}
