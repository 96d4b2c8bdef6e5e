//! `/v1/repositories`: uploaded releases.

use crate::{
    http::{Context, problems, to_the_end::to_the_end},
    releases::intake::{Taken, Upload},
    replication::{issues, view},
};
use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, body::BoundedBody, pages};
use ids::ArtifactHash;
use nexus_client::{
    issues::Issue,
    pages::{Page, PageQuery},
    releases::{
        Repository, RepositoryArtifact, RepositoryDetail, RepositoryState, UploadQuery, UploadResult,
        UploadStatus, UploadWait,
    },
    replication::{ArtifactBlocked, Replication},
};
use nexus_database::{
    DatabaseError,
    repositories::RepositoryRow,
    sleds::{Policy, SledRow},
    wanted::Wanted,
};
use nexus_tasks::Reason;
use problem::{Code, Problem};
use std::{collections::BTreeSet, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Bytes of an uploaded file's name at most, as in file systems: it is kept and shown in tables.
const FILE_NAME_BYTES_MAX: usize = 255;

/// How long the sender of an upload may be silent.
const UPLOAD_IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Seconds that `?wait=replicated` waits unless said.
const WAIT_SECONDS_DEFAULT: u32 = 600;

/// Seconds that `?wait=replicated` waits at most.
const WAIT_SECONDS_MAX: u32 = 3600;

/// Seconds after which a look at the replication makes sense.
const REPLICATION_RETRY_SECONDS: u32 = 5;

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(list, upload))
        .routes(routes!(show, delete))
        .routes(routes!(replication_of))
        .routes(routes!(replication))
}

/// Takes a release in. Answers with everything that is wrong before anything is changed.
#[utoipa::path(
    put, path = "/v1/repositories", operation_id = "repository_upload", params(UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/zip"),
    responses(
        (status = 201, body = UploadResult), (status = 200, body = UploadResult), (status = 400, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn upload(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<UploadQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    query.file_name.as_deref().map_or(Ok(()), check_file_name)?;
    let slots = context.config.release.uploads_at_once;
    let admission = context.intake.admit(slots).map_err(problems::of_intake)?;
    let bytes_max = context.config.release.upload_bytes_max;
    let body = BoundedBody::new(request.into_body(), bytes_max, UPLOAD_IDLE_LIMIT)?;
    let upload = Upload { file_name: query.file_name, system_version: query.system_version };
    let taken = context.intake.take(admission, upload, body).await.map_err(problems::of_intake)?;
    if query.wait == Some(UploadWait::Replicated) {
        let seconds = query.wait_seconds.unwrap_or(WAIT_SECONDS_DEFAULT).min(WAIT_SECONDS_MAX);
        wait_replicated(&context, &taken, Duration::from_secs(u64::from(seconds))).await?;
    }
    let is_new = taken.status == UploadStatus::Inserted;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let result = UploadResult {
        durable_on: durable_on(&context, &taken).await?,
        system_version: taken.system_version,
        sha256: taken.sha256,
        status: taken.status,
        warnings: taken.warnings,
    };
    Ok((status, ApiJson(result)).into_response())
}

/// The name is for people and goes to their terminals.
fn check_file_name(name: &str) -> Result<(), ApiError> {
    if name.len() <= FILE_NAME_BYTES_MAX && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let detail = format!(
        "file_name must have at most {FILE_NAME_BYTES_MAX} bytes and no control characters, and has {} bytes",
        name.len()
    );
    Err(ApiError::new(Code::BadRequest, detail))
}

/// Waits until enough sleds hold verified copies of everything.
async fn wait_replicated(context: &Context, taken: &Taken, limit: Duration) -> Result<(), ApiError> {
    let needed = context.config.replication.min_replication.get() as usize;
    let mut changed = context.observed.subscribe();
    let wait = async {
        loop {
            changed.mark_unchanged();
            let holders = complete_sleds(context, &taken.artifacts).await?;
            if holders.len() >= needed {
                return Ok(());
            }
            // The observer lives as long as the context.
            let _ = changed.changed().await;
        }
    };
    let mut stopping = context.stopping.subscribe();
    let waited = tokio::select! {
        waited = tokio::time::timeout(limit, wait) => waited,
        _ = stopping.wait_for(|stopping| *stopping) => return Err(problems::of_stop()),
    };
    match waited {
        Ok(result) => result,
        Err(_) => {
            let holders = complete_sleds(context, &taken.artifacts).await?.len();
            let in_service = context.database.sleds_in_service().await;
            let in_service = in_service.map_err(|error| problems::of_database(&error))?.len();
            let too_few = issues::too_few_sleds(in_service, context.config.replication.min_replication);
            let detail = format!(
                "release {} is stored and will be replicated; after {} s, {holders} of the {needed} sleds that were asked for hold all of it",
                taken.system_version,
                limit.as_secs()
            );
            let problem =
                Problem::new(Code::NotReplicated, detail).with_retry_after(REPLICATION_RETRY_SECONDS);
            // Where it cannot go on by itself, that is what has to be said.
            Err(match too_few {
                Some(Issue { detail, hint: Some(hint), .. }) => {
                    problem.with_hint(format!("{detail}; {hint}")).into()
                }
                _ => problem.into(),
            })
        }
    }
}

/// Sleds in service that follow the set in force and hold verified copies of all of these.
async fn complete_sleds(context: &Context, artifacts: &[ArtifactHash]) -> Result<Vec<String>, ApiError> {
    let generation = context.database.generation().await.map_err(|error| problems::of_database(&error))?;
    let holders = context.observed.holders_of_all(artifacts, generation);
    Ok(holders.iter().map(ToString::to_string).collect())
}

async fn durable_on(context: &Context, taken: &Taken) -> Result<Vec<String>, ApiError> {
    let row = context
        .database
        .repository(&taken.system_version)
        .await
        .map_err(|error| problems::of_database(&error))?;
    let mut holders: Vec<String> =
        row.and_then(|row| row.staged_on).iter().map(ToString::to_string).collect();
    holders.extend(complete_sleds(context, &taken.artifacts).await?);
    Ok(holders)
}

/// Every repository, newest first.
#[utoipa::path(
    get, path = "/v1/repositories", operation_id = "repository_list",
    params(PageQuery), responses((status = 200, body = inline(Page<Repository>)))
)]
async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<ApiJson<Page<Repository>>, ApiError> {
    let page = pages::PageRequest::parse("repositories", query.limit, query.page_token.as_deref())?;
    let rows = context
        .database
        .repositories(page.after, page.read_limit())
        .await
        .map_err(|error| problems::of_database(&error))?;
    let (rows, next_page) = page.cut(rows, |row| row.id);
    let scene = Scene::look(&context).await?;
    Ok(ApiJson(Page { items: rows.into_iter().map(|row| scene.shown(row)).collect(), next_page }))
}

/// One repository with its artifacts.
#[utoipa::path(
    get, path = "/v1/repositories/{version}", operation_id = "repository_show",
    params(("version" = String, Path)),
    responses((status = 200, body = RepositoryDetail), (status = 404, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(version): ApiPath<String>,
) -> Result<ApiJson<RepositoryDetail>, ApiError> {
    let row = find(&context, &version).await?;
    let artifacts = context
        .database
        .repository_artifacts(row.id)
        .await
        .map_err(|error| problems::of_database(&error))?
        .into_iter()
        .map(|row| RepositoryArtifact {
            name: row.name,
            version: row.version,
            kind: row.kind,
            target: row.target,
            hash: row.hash,
            size: row.size,
        })
        .collect();
    let scene = Scene::look(&context).await?;
    Ok(ApiJson(RepositoryDetail { repository: scene.shown(row), artifacts }))
}

/// Takes a repository away. What no other repository wants leaves every sled.
#[utoipa::path(
    delete, path = "/v1/repositories/{version}", operation_id = "repository_delete",
    params(("version" = String, Path)), responses((status = 204))
)]
async fn delete(
    State(context): State<Context>,
    ApiPath(version): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    to_the_end(take_away(context, version)).await.map_err(|error| problems::of_database(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_away(context: Context, version: String) -> Result<(), DatabaseError> {
    let staged = context.database.repository_delete(&version, context.coordinator.id).await?;
    fault_points::reach("repository.deleted").await;
    for file in staged.into_iter().flatten() {
        // A failure leaves a file that no row names; the clean-up of the staging directory removes it.
        if let Err(error) = context.staging.remove(&file).await {
            tracing::warn!(error = &error as &dyn std::error::Error, file, "a staged file stays for now");
        }
    }
    context.replication.activate(Reason::Event("repository_deleted"));
    Ok(())
}

/// Per sled, per artifact: where one repository's replication stands.
#[utoipa::path(
    get, path = "/v1/repositories/{version}/replication", operation_id = "repository_replication",
    params(("version" = String, Path)),
    responses((status = 200, body = Replication), (status = 404, body = Problem))
)]
async fn replication_of(
    State(context): State<Context>,
    ApiPath(version): ApiPath<String>,
) -> Result<ApiJson<Replication>, ApiError> {
    let row = find(&context, &version).await?;
    let scene = Scene::look(&context).await?;
    let only = scene.artifacts_of(&row);
    Ok(ApiJson(view::replication(&scene.wanted, &scene.sleds, &context.observed, Some(&only))))
}

/// Per sled, per artifact: where the replication of everything stands.
#[utoipa::path(
    get, path = "/v1/replication", operation_id = "replication",
    responses((status = 200, body = Replication))
)]
async fn replication(State(context): State<Context>) -> Result<ApiJson<Replication>, ApiError> {
    let scene = Scene::look(&context).await?;
    Ok(ApiJson(view::replication(&scene.wanted, &scene.sleds, &context.observed, None)))
}

async fn find(context: &Context, version: &str) -> Result<RepositoryRow, ApiError> {
    let row = context.database.repository(version).await.map_err(|error| problems::of_database(&error))?;
    row.ok_or_else(|| {
        ApiError::new(Code::RepositoryNotFound, format!("no repository of version {version:?}"))
    })
}

/// What a repository's state is told from, read once for a whole page.
struct Scene<'a> {
    context: &'a Context,
    wanted: Wanted,
    sleds: Vec<SledRow>,
}

impl Scene<'_> {
    async fn look(context: &Context) -> Result<Scene<'_>, ApiError> {
        let wanted = context.database.wanted().await.map_err(|error| problems::of_database(&error))?;
        let sleds =
            context.database.sleds_in_service().await.map_err(|error| problems::of_database(&error))?;
        Ok(Scene { context, wanted, sleds })
    }

    fn artifacts_of(&self, row: &RepositoryRow) -> BTreeSet<ArtifactHash> {
        let has = |(_, artifact): &(_, &nexus_database::wanted::WantedArtifact)| {
            artifact.repositories.contains(&row.id)
        };
        self.wanted.artifacts.iter().filter(has).map(|(hash, _)| *hash).collect()
    }

    fn shown(&self, row: RepositoryRow) -> Repository {
        let only = self.artifacts_of(&row);
        let view = view::replication(&self.wanted, &self.sleds, &self.context.observed, Some(&only));
        let complete = |sled: &&nexus_client::replication::ReplicationSled| {
            only.iter().all(|hash| view::is_complete(sled, hash))
        };
        let sleds_complete = view.sleds.iter().filter(complete).count() as u64;
        let lost = view.artifacts.iter().any(|artifact| artifact.blocked == Some(ArtifactBlocked::NoSource));
        let reachable_complete = view
            .sleds
            .iter()
            .filter(|sled| sled.state == nexus_client::replication::ReplicationSledState::Active)
            .all(|sled| complete(&sled));
        let state = match (lost, reachable_complete && sleds_complete > 0) {
            (true, _) => RepositoryState::NeedsUpload,
            (false, true) => RepositoryState::Replicated,
            (false, false) => RepositoryState::Replicating,
        };
        Repository {
            id: row.id,
            system_version: row.system_version,
            sha256: row.sha256,
            file_name: row.file_name,
            size_bytes: row.size_bytes,
            artifact_count: row.artifact_count,
            trust_root_id: row.trust_root_id,
            created_at: row.created_at,
            staged_on: row.staged_on.map(|id| id.to_string()),
            state,
            sleds_complete,
            sleds_total: self.sleds.iter().filter(|sled| sled.policy != Policy::Expunged).count() as u64,
        }
    }
}
