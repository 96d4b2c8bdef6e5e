//! `/v1/sagas`: work of several steps, and what an operator may say about it.

use super::saga_steering::{STEER_LIMIT, give_up, steer_deadline, steered};
use crate::{
    http::{Context, problems, to_the_end::to_the_end},
    sagas::{
        demo::{Demo, DemoParams},
        find::{Found, Wanted},
        known::Known,
        view,
    },
};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, LongJson, OptionalJson, pages};
use ids::SagaId;
use jiff::Timestamp;
use nexus_client::{
    pages::{Page, PageQuery},
    sagas::{
        DemoSaga, Saga, SagaAbandon, SagaAccepted, SagaDetail, SagaEvent, SagaQuery, SagaSignal,
        SagaSignalled, SagaState, SagaSteer, SagaWaitQuery,
    },
};
use nexus_database::sagas::{self as stored, SagaLog, SagaPosition};
use nexus_sagas::{SagaKind, StartError};
use nexus_tasks::Reason;
use problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Seconds that one call may wait for an end: less than clients wait for an answer that does not begin.
const WAIT_SECONDS_MAX: u32 = 25;

/// Between two looks at a saga that is not executed here.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Between two looks at a saga that another request is creating: a commit takes milliseconds.
const LOOK_AT_CREATION: Duration = Duration::from_millis(20);

/// Lines of a log that are read to show where each node is: a saga of the most nodes has not as many.
const EVENTS_MAX: u32 = 5_000;

/// A sentence for people, kept on the row.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// A name, kept on a row.
const SIGNAL_CHARACTERS_MAX: usize = 100;

/// What a signal says, as JSON without blanks: a decision and what it needs, not a file. Every look at the saga reads it.
const SIGNAL_BYTES_MAX: usize = 64 * 1024;

/// Signals of one saga, far more than any kind waits for. Requests at one instant may go over it by their number.
const SIGNALS_MAX: usize = 32;

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(demo))
        .routes(routes!(show))
        .routes(routes!(events))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(abandon))
        .routes(routes!(signal))
}

/// Begins a demo saga. Answered once it is durable: from then on it ends, whatever dies. The same once more with the same
/// `id` is the same saga.
#[utoipa::path(
    post, path = "/v1/sagas/demo", operation_id = "saga_demo", request_body = DemoSaga,
    responses(
        (status = 202, body = SagaAccepted), (status = 200, body = SagaAccepted), (status = 400, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn demo(
    State(context): State<Context>,
    ApiJson(demo): ApiJson<DemoSaga>,
) -> Result<Response, ApiError> {
    let id = demo.id.unwrap_or_else(SagaId::generate);
    let params = DemoParams {
        wait_for_signal: demo.wait_for_signal,
        sleep_ms: demo.sleep_ms,
        fail_at: demo.fail_at,
        stuck_at: demo.stuck_at,
    };
    let params = serde_json::to_value(&params)
        .map_err(|error| ApiError::from(Problem::from_error(Code::Internal, &error)))?;
    let status = match begun_before(&context, id, &params).await? {
        None => StatusCode::ACCEPTED,
        Some(known) if known.summary.kind == Demo::NAME && known.params == params => StatusCode::OK,
        Some(stored::SagaDetail { unreadable: Some(unreadable), .. }) => {
            let detail = format!(
                "whether saga {id} is the same cannot be told, because it cannot be read: {unreadable}"
            );
            return Err(ApiError::new(Code::SagaConflict, detail));
        }
        Some(known) => {
            let detail = format!("saga {id} is a {} saga, with other parameters", known.summary.kind);
            return Err(ApiError::new(Code::SagaConflict, detail));
        }
    };
    let mut response = (status, ApiJson(SagaAccepted { id })).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/sagas/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Begins a demo saga, unless one of this id is there: that one.
async fn begun_before(
    context: &Context,
    id: SagaId,
    params: &serde_json::Value,
) -> Result<Option<stored::SagaDetail>, ApiError> {
    let until = steer_deadline();
    loop {
        // It goes on, in a task of its own, when nobody waits for it any more.
        let starting = context.sagas.engine.start_as(id, Demo::NAME, params.clone());
        let started = tokio::time::timeout(STEER_LIMIT, starting).await;
        match started.map_err(|_| problems::of_slow_saga_start(id))? {
            // Durable, and in the second case another life will execute it.
            Ok(()) => return Ok(None),
            Err(StartError::LeftToRecovery { .. }) => {
                context.sagas.recovery.activate(Reason::Event("saga_left"));
                return Ok(None);
            }
            Err(StartError::Exists { .. }) => {}
            Err(error) => return Err(problems::of_saga_start(&error)),
        }
        let row = context.database.saga(id).await.map_err(|error| problems::of_database(&error))?;
        if row.is_some() {
            return Ok(row);
        }
        // Somebody else creates it at this moment: it is claimed before its row is there.
        if tokio::time::Instant::now() >= until {
            let detail =
                format!("another request is creating saga {id}, and the database has not taken it yet");
            return Err(ApiError::new(Code::DatabaseUnavailable, detail));
        }
        tokio::time::sleep(LOOK_AT_CREATION).await;
    }
}

/// The number of the line of that saga's log after which a page begins.
#[derive(Serialize, Deserialize)]
struct AfterEvent(SagaId, u64);

/// Sagas, newest first. Those that ended long ago are in the archive. A page may have fewer than `limit` sagas, or none, and
/// a `next_page` all the same: what a saga does is not in its row, and one call goes through so many rows only.
#[utoipa::path(
    get, path = "/v1/sagas", operation_id = "saga_list", params(SagaQuery),
    responses((status = 200, body = inline(Page<Saga>)), (status = 400, body = Problem))
)]
async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<SagaQuery>,
) -> Result<ApiJson<Page<Saga>>, ApiError> {
    let page = pages::PageRequest::<SagaPosition>::parse("sagas", query.limit, query.page_token.as_deref())?;
    if query.state == Some(SagaState::Unrecognized) {
        let known = SagaState::ALL.map(SagaState::word).join(", ");
        return Err(ApiError::new(Code::BadRequest, format!("the states of sagas are: {known}")));
    }
    let wanted = Wanted { kind: query.kind.clone(), state: query.state };
    let found = context.sagas.find(&wanted, page.after.clone(), page.read_limit()).await;
    let Found { sagas, go_on } = found.map_err(|error| problems::of_database(&error))?;
    let (sagas, mut next_page) = page.cut(sagas, |(position, _)| position.clone());
    if next_page.is_none() {
        next_page = go_on.map(|position| page.token(&position));
    }
    Ok(ApiJson(Page { items: sagas.into_iter().map(|(_, saga)| saga).collect(), next_page }))
}

/// One saga with its nodes; with `wait_seconds`, once it has ended, or after so long.
#[utoipa::path(
    get, path = "/v1/sagas/{id}", operation_id = "saga_show", params(("id" = SagaId, Path), SagaWaitQuery),
    responses((status = 200, body = SagaDetail), (status = 400, body = Problem), (status = 404, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SagaId>,
    ApiQuery(query): ApiQuery<SagaWaitQuery>,
) -> Result<ApiJson<SagaDetail>, ApiError> {
    if let Some(seconds) = query.wait_seconds {
        if !(1..=WAIT_SECONDS_MAX).contains(&seconds) {
            let detail = format!("wait_seconds is {seconds}; it may be 1 to {WAIT_SECONDS_MAX}");
            return Err(ApiError::new(Code::BadRequest, detail));
        }
        let limit = Duration::from_secs(u64::from(seconds));
        let mut stopping = context.stopping.subscribe();
        tokio::select! {
            waited = wait(&context, id, limit) => waited?,
            // Answered as it is; whoever wants to know more asks the next life.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
    let row = stored(&context, id).await?;
    let paths = context.sagas.paths(&row.summary.kind, row.summary.version, &row.params);
    let log = context.database.saga_events(id, 0, EVENTS_MAX).await;
    let log = log.map_err(|error| problems::of_database(&error))?;
    Ok(ApiJson(view::detail(&row, &known(&context, &row).await?.of(&row.summary), &paths, &log)))
}

/// Until it has ended, or its executor has stopped, or the time is over. Sagas that are not executed here are looked at
/// again and again.
async fn wait(context: &Context, id: SagaId, limit: Duration) -> Result<(), ApiError> {
    let until = tokio::time::Instant::now() + limit;
    while tokio::time::Instant::now() < until {
        let ended = tokio::time::timeout_at(until, context.sagas.engine.wait(id)).await;
        if ended.is_err() || stored(context, id).await?.end.is_some() {
            break;
        }
        let look = tokio::time::Instant::now() + LOOK_AGAIN;
        tokio::time::sleep_until(look.min(until)).await;
    }
    Ok(())
}

/// A saga's log, in the order in which it became durable.
#[utoipa::path(
    get, path = "/v1/sagas/{id}/events", operation_id = "saga_events", params(("id" = SagaId, Path), PageQuery),
    responses(
        (status = 200, body = inline(Page<SagaEvent>)), (status = 400, body = Problem), (status = 404, body = Problem)
    )
)]
async fn events(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SagaId>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<ApiJson<Page<SagaEvent>>, ApiError> {
    let list = "saga_events";
    let page = pages::PageRequest::<AfterEvent>::parse(list, query.limit, query.page_token.as_deref())?;
    let row = stored(&context, id).await?;
    let after = match &page.after {
        None => 0,
        Some(AfterEvent(of, _)) if *of != id => {
            return Err(ApiError::new(Code::BadPageToken, "the page token is of another saga's log"));
        }
        Some(AfterEvent(_, number)) => *number,
    };
    let log = context.database.saga_events(id, after, page.limit).await;
    let log = log.map_err(|error| problems::of_database(&error))?;
    let paths = context.sagas.paths(&row.summary.kind, row.summary.version, &row.params);
    let mut items: BTreeMap<u64, SagaEvent> =
        log.lines.iter().map(|line| (line.number, view::event(line.number, line, &paths))).collect();
    for (number, lost) in &log.lost {
        items.entry(*number).or_insert_with(|| lost_line(*number)).unreadable = Some(lost.to_string());
    }
    let last = items.keys().next_back().copied();
    let next_page = last.filter(|_| log.more).map(|number| page.token(&AfterEvent(id, number)));
    Ok(ApiJson(Page { items: items.into_values().collect(), next_page }))
}

/// A line of which nothing can be shown but that it is there.
fn lost_line(number: u64) -> SagaEvent {
    let (node, event, body) = (String::new(), String::new(), serde_json::Value::Null);
    SagaEvent { number, time: Timestamp::UNIX_EPOCH, node, event, adoption_epoch: 0, body, unreadable: None }
}

/// Begins no further node of a saga, and undoes those that have run. Nodes that run go on to their ends.
#[utoipa::path(
    post, path = "/v1/sagas/{id}/cancel", operation_id = "saga_cancel", params(("id" = SagaId, Path)),
    responses(
        (status = 200, body = Saga), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn cancel(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SagaId>,
    OptionalJson(SagaSteer {}): OptionalJson<SagaSteer>,
) -> Result<ApiJson<Saga>, ApiError> {
    let engine = context.sagas.engine.clone();
    steered(&context, id, steer_deadline(), async move { engine.cancel(id).await }).await
}

/// Tries the undos of a saga again that wait for an operator.
#[utoipa::path(
    post, path = "/v1/sagas/{id}/retry", operation_id = "saga_retry", params(("id" = SagaId, Path)),
    responses((status = 200, body = Saga), (status = 404, body = Problem), (status = 409, body = Problem))
)]
async fn retry(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SagaId>,
    OptionalJson(SagaSteer {}): OptionalJson<SagaSteer>,
) -> Result<ApiJson<Saga>, ApiError> {
    let engine = context.sagas.engine.clone();
    steered(&context, id, steer_deadline(), async move { engine.retry(id) }).await
}

/// Gives up on the undos of a saga that wait for an operator, and on all that would follow; or on a saga that no coordinator
/// can go on with. What may be left is in its `not_undone`.
#[utoipa::path(
    post, path = "/v1/sagas/{id}/abandon", operation_id = "saga_abandon", params(("id" = SagaId, Path)),
    request_body = SagaAbandon,
    responses(
        (status = 200, body = Saga), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)
    )
)]
async fn abandon(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SagaId>,
    ApiJson(abandon): ApiJson<SagaAbandon>,
) -> Result<ApiJson<Saga>, ApiError> {
    let characters = abandon.reason.trim().chars().count();
    if !(1..=REASON_CHARACTERS_MAX).contains(&characters) {
        let detail =
            format!("the reason has {characters} characters; it may have 1 to {REASON_CHARACTERS_MAX}");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let row = stored(&context, id).await?;
    if context.sagas.is_left(&row.summary) {
        return give_up(&context, id, abandon.reason).await;
    }
    let engine = context.sagas.engine.clone();
    steered(&context, id, steer_deadline(), async move { engine.abandon(id, &abandon.reason).await }).await
}

/// Gives a saga something that it waits for, or will wait for. The first value of a name stays.
#[utoipa::path(
    post, path = "/v1/sagas/{id}/signal", operation_id = "saga_signal", params(("id" = SagaId, Path)),
    request_body = SagaSignal,
    responses(
        (status = 200, body = SagaSignalled), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn signal(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SagaId>,
    // With room for a value that is refused with its limit, instead of a body that is.
    LongJson(signal): LongJson<SagaSignal>,
) -> Result<ApiJson<SagaSignalled>, ApiError> {
    let characters = signal.name.chars().count();
    if !(1..=SIGNAL_CHARACTERS_MAX).contains(&characters) || signal.name.contains(char::is_control) {
        let detail = format!(
            "the name has {characters} characters; it may have 1 to {SIGNAL_CHARACTERS_MAX}, none of them a control character"
        );
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let bytes = signal.value.to_string().len();
    if bytes > SIGNAL_BYTES_MAX {
        let detail = format!("the value has {bytes} bytes as JSON; it may have {SIGNAL_BYTES_MAX}");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let row = stored(&context, id).await?;
    if has_ended(&row) {
        return Err(problems::of_ended_saga(id));
    }
    if row.signals.len() >= SIGNALS_MAX && !row.signals.contains_key(&signal.name) {
        let detail = format!("saga {id} has {SIGNALS_MAX} signals already, as many as one may have");
        return Err(ApiError::new(Code::SagaSignalsFull, detail));
    }
    let engine = context.sagas.engine.clone();
    let SagaSignal { name, value } = signal;
    let (kept, value) = to_the_end(async move { (engine.signal(id, &name, &value).await, value) }).await;
    let kept = kept.map_err(|fault| problems::of_saga_store(&fault))? == value;
    Ok(ApiJson(SagaSignalled { saga: shown(&context, &row).await?, kept }))
}

/// Also if it cannot be read how.
pub(super) fn has_ended(row: &stored::SagaDetail) -> bool {
    row.summary.state != stored::SagaState::Unfinished
}

pub(super) async fn known(context: &Context, row: &stored::SagaDetail) -> Result<Known, ApiError> {
    context.sagas.known([&row.summary]).await.map_err(|error| problems::of_database(&error))
}

/// A saga with what is known of its end, as verbs answer it.
pub(super) async fn shown(context: &Context, row: &stored::SagaDetail) -> Result<Saga, ApiError> {
    let known = known(context, row).await?;
    Ok(view::detail(row, &known.of(&row.summary), &BTreeMap::new(), &SagaLog::default()).saga)
}

pub(super) async fn stored(context: &Context, id: SagaId) -> Result<stored::SagaDetail, ApiError> {
    let row = context.database.saga(id).await.map_err(|error| problems::of_database(&error))?;
    row.ok_or_else(|| ApiError::new(Code::SagaNotFound, format!("no saga {id}")))
}
