//! An operator is answered, also while the database is not: whoever waits for it hears so in time.
//!
//! Calls of the database end by themselves, but a request may make several of them, and work that must not stop halfway
//! (`to_the_end`, sagas) goes on asking. So the edge of the operator's API looks at the database as well: a request that has
//! waited to the limit is answered once the database is known not to answer, and has not for a while, and at a stop at once. The
//! handler is dropped then, as it is when its client goes away. What is slow for other reasons is not cut off, nor a long poll
//! for one slow write of somebody else.

use super::{Context, problems};
use crate::database_watch::is_silent_at_stop;
use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use nexus_database::Trouble;
use std::time::Duration;

/// How long a request waits for a database that does not answer: less than the 10 s that operators are promised, more than
/// one call of the database takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(9);

/// How long the database must have been in trouble: longer than a disk that is busy takes for a write.
const TROUBLE_LASTS: SignedDuration = SignedDuration::from_secs(5);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The middleware.
pub(crate) async fn answer_in_time(State(context): State<Context>, request: Request, next: Next) -> Response {
    // An upload waits for its sender, for minutes.
    if request.method() == Method::PUT {
        return next.run(request).await;
    }
    let is_change = request.method() != Method::GET;
    tokio::select! {
        biased;
        response = next.run(request) => response,
        trouble = is_hopeless(&context) => problems::of_silent_database(&trouble, is_change).into_response(),
    }
}

async fn is_hopeless(context: &Context) -> Trouble {
    let mut stopping = context.stopping.subscribe();
    let stopped = async {
        // The sender is in the context.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    if tokio::time::timeout(ANSWER_LIMIT, stopped).await.is_ok() {
        return is_silent_at_stop(&context.database).await;
    }
    loop {
        if let Some(trouble) = context.database.trouble()
            && Timestamp::now().duration_since(trouble.since) >= TROUBLE_LASTS
        {
            return trouble;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
