//! An operator's word to one saga: said to whoever executes it, or, where nobody does, to recovery. Owns how long the answer
//! may take and what it says; which words there are, the handlers say.

use super::sagas::{LOOK_AGAIN, has_ended, known, shown, stored};
use crate::http::{Context, problems, to_the_end::to_the_end};
use http_edge::{ApiError, ApiJson};
use ids::SagaId;
use nexus_client::sagas::Saga;
use nexus_database::sagas as database;
use nexus_sagas::SteerError;
use nexus_tasks::Reason;
use std::time::Duration;

/// How long an operator's word may take to become durable: with what is read around it, less than the 10 s within which
/// every call is answered.
pub(super) const STEER_LIMIT: Duration = Duration::from_secs(6);

/// A saga that is not executed is given up in a pass of recovery, if it cannot be executed. If it turns out that it can, the
/// word is said to its executor. What was said stays until a pass has decided, also if that takes longer than this answer may.
pub(super) async fn give_up(
    context: &Context,
    id: SagaId,
    reason: String,
) -> Result<ApiJson<Saga>, ApiError> {
    let (until, sagas) = (steer_deadline(), &context.sagas);
    // The first pass may only find out that it cannot be executed; what else there is to wait for takes longer.
    for look in 1.. {
        sagas.given_up.give_up(id, &reason);
        let pass = context.tasks.activate_and_wait("saga_recovery", Reason::Operator);
        let Ok(passed) = tokio::time::timeout_at(until, pass).await else { break };
        passed.map_err(|error| problems::of_giving_up(id, &error))?;
        if sagas.engine.status(id).is_some() {
            let engine = sagas.engine.clone();
            return steered(context, id, until, async move { engine.abandon(id, &reason).await }).await;
        }
        let row = stored(context, id).await?;
        if has_ended(&row) {
            return Ok(ApiJson(shown(context, &row).await?));
        }
        if !sagas.given_up.is_undecided(id) {
            return Err(not_here(context, id, &row).await?);
        }
        let next = tokio::time::Instant::now() + if look < 2 { Duration::ZERO } else { LOOK_AGAIN };
        if next >= until {
            break;
        }
        tokio::time::sleep_until(next).await;
    }
    Err(problems::of_slow_recovery(id, sagas.recovered.failing().get(&id).map(String::as_str)))
}

/// When an operator's word has to be answered that is said now.
pub(super) fn steer_deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + STEER_LIMIT
}

/// Says something to the engine, to the end, and shows the saga as it is then, or, where that cannot be read any more, as it
/// was before: what was said is said.
pub(super) async fn steered(
    context: &Context,
    id: SagaId,
    until: tokio::time::Instant,
    steer: impl Future<Output = Result<(), SteerError>> + Send + 'static,
) -> Result<ApiJson<Saga>, ApiError> {
    let before = stored(context, id).await?;
    match tokio::time::timeout_at(until, to_the_end(steer)).await {
        Err(_) => Err(problems::of_slow_saga_store(id)),
        Ok(Ok(())) => Ok(ApiJson(shown(context, &stored(context, id).await.unwrap_or(before)).await?)),
        Ok(Err(error)) => {
            let row = stored(context, id).await.unwrap_or(before);
            Err(match error {
                _ if has_ended(&row) => problems::of_ended_saga(id),
                SteerError::NotHere { .. } => not_here(context, id, &row).await?,
                error => problems::of_saga_steering(&error),
            })
        }
    }
}

/// Why an unfinished saga takes no word here.
async fn not_here(context: &Context, id: SagaId, row: &database::SagaDetail) -> Result<ApiError, ApiError> {
    let known = known(context, row).await?.of(&row.summary);
    Ok(match (row.summary.owner, known.elsewhere) {
        (Some(owner), Some(elsewhere)) => problems::of_saga_elsewhere(id, owner, &elsewhere),
        (None, _) => problems::of_saga_of_nobody(id, row.unreadable.as_ref()),
        (Some(_), None) if context.sagas.claims.is_lost(id) => problems::of_lost_saga(id),
        (Some(_), None) => problems::of_saga_steering(&SteerError::NotHere { id }),
    })
}
