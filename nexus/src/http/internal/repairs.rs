//! `/volumes/{id}/repair-*`: what an Upstairs tells of repairs. Noted, and nothing reacts to it yet.
//!
//! Whatever was told before, whatever is newer, and whatever is forgotten is answered alike: the sender has told it, and is not to tell
//! it again. Only what can not be true, or contradicts what was told, is refused.

use crate::http::{Context, problems, repair_rows};
use axum::{extract::State, http::StatusCode};
use http_edge::{ApiError, ApiJson, ApiPath};
use ids::VolumeId;
use nexus_client::repairs::{RepairFinish, RepairNotice, RepairProgress, RepairStart};
use nexus_database::repairs::NoticeOutcome;
use problem::{Code, Problem};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(progress)).routes(routes!(finish))
}

/// Says that a member of a volume is being filled.
#[utoipa::path(
    post, path = "/volumes/{id}/repair-start", operation_id = "volume_repair_start",
    params(("id" = VolumeId, Path)), request_body = RepairStart,
    responses(
        (status = 204), (status = 409, body = Problem), (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn start(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(start): ApiJson<RepairStart>,
) -> Result<StatusCode, ApiError> {
    take(&context, id, RepairNotice::Start(start)).await
}

/// Says how far a member is that is filled.
#[utoipa::path(
    post, path = "/volumes/{id}/repair-progress", operation_id = "volume_repair_progress",
    params(("id" = VolumeId, Path)), request_body = RepairProgress,
    responses(
        (status = 204), (status = 409, body = Problem), (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn progress(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(progress): ApiJson<RepairProgress>,
) -> Result<StatusCode, ApiError> {
    take(&context, id, RepairNotice::Progress(progress)).await
}

/// Says that a member is full, or that nobody fills it any more.
#[utoipa::path(
    post, path = "/volumes/{id}/repair-finish", operation_id = "volume_repair_finish",
    params(("id" = VolumeId, Path)), request_body = RepairFinish,
    responses(
        (status = 204), (status = 409, body = Problem), (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn finish(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(finish): ApiJson<RepairFinish>,
) -> Result<StatusCode, ApiError> {
    take(&context, id, RepairNotice::Finish(finish)).await
}

async fn take(context: &Context, volume: VolumeId, notice: RepairNotice) -> Result<StatusCode, ApiError> {
    if notice.repair().volume_id != volume {
        let told = notice.repair().volume_id;
        let detail = format!("{notice} is of volume {told}, and was sent to volume {volume}");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    if let Err(error) = notice.check() {
        return Err(ApiError::new(Code::BadRequest, format!("{notice}: {error}")));
    }
    let taken = context.database.repair_notice(&repair_rows::notice(&notice)).await;
    match taken.map_err(|error| problems::of_database(&error))? {
        NoticeOutcome::Conflict(conflict) => Err(problems::of_repair_conflict(&notice, &conflict)),
        NoticeOutcome::Changed(_) => {
            if !matches!(notice, RepairNotice::Progress(_)) {
                tracing::info!(%volume, notice = %notice, "told of a repair");
            }
            Ok(StatusCode::NO_CONTENT)
        }
        NoticeOutcome::Unchanged | NoticeOutcome::Forgotten => Ok(StatusCode::NO_CONTENT),
    }
}
