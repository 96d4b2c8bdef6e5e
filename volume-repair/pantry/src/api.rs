//! The calls: the same paths as the agent has, which documents them, checks who asks, and hands them on.

use crate::{
    attach_order::AttachOrder,
    attached::Attached,
    board::Begun,
    copy_parent,
    error::PantryError,
    given_key::GivenKey,
    import::{self, PIECES_MAX, Piece},
    job::{Job, Order, Wanted},
    scrub,
    shelf::Shelf,
    volume_io::VolumeIo,
    web,
};
use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    routing::{get, post, put},
};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, body::BoundedBody};
use ids::{ArtifactHash, JobId, SnapshotId, VolumeId};
use problem::Code;
use sled_client::{
    pantry::{
        AttachAnswer, AttachQuery, ExportAnswer, ExportRequest, ImportQuery, ImportRequest, JobQuery,
        PantryJob, PantryJobPage, PantryJobState, PantryVolume, PantryVolumePage, ScrubRequest,
        SnapshotAnswer, UnexportAnswer, UnexportRequest, WAIT_MS_MAX,
    },
    regions::ExecutorQuery,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use volume_layers::HttpUrl;

/// How long the sender of an import may be silent.
const BODY_IDLE_MAX: Duration = Duration::from_secs(30);

pub(crate) fn router(shelf: Shelf) -> Router {
    Router::new()
        .route("/pantry/volumes", get(list))
        .route("/pantry/volumes/{id}", get(show).put(attach).delete(detach))
        .route("/pantry/volumes/{id}/import", put(import_body).post(import_url))
        .route("/pantry/volumes/{id}/export", post(export))
        .route("/pantry/volumes/{id}/unexport", post(unexport))
        .route("/pantry/volumes/{id}/scrub", post(begin_scrub))
        .route("/pantry/volumes/{id}/copy-parent", post(begin_copy))
        .route("/pantry/volumes/{id}/snapshots/{snapshot}", put(snapshot))
        .route("/pantry/volumes/{id}/jobs", get(jobs))
        .route("/pantry/volumes/{id}/jobs/{job}", get(job).delete(cancel))
        .with_state(shelf)
}

async fn list(State(shelf): State<Shelf>) -> ApiJson<PantryVolumePage> {
    ApiJson(PantryVolumePage { items: shelf.list().await, pantry: None, next_page: None })
}

async fn show(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
) -> Result<ApiJson<PantryVolume>, ApiError> {
    let volume = shelf.get(id)?;
    Ok(ApiJson(ask(&volume, |volume| Ok(volume.tell(true))).await?))
}

async fn attach(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiQuery(query): ApiQuery<AttachQuery>,
    GivenKey(key): GivenKey,
    ApiJson(order): ApiJson<AttachOrder>,
) -> Result<ApiJson<AttachAnswer>, ApiError> {
    Ok(ApiJson(shelf.put(id, query, order, key).await?))
}

async fn detach(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<StatusCode, ApiError> {
    shelf.detach(id, query.executor_epoch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The bytes are the body; answered when they are durable, or are not going to be.
async fn import_body(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiQuery(query): ApiQuery<ImportQuery>,
    request: Request,
) -> Result<ApiJson<PantryJob>, ApiError> {
    let volume = shelf.changed(id, query.executor_epoch)?;
    // What was declared is what is taken: less than the declared is an error of its own.
    let mut body = BoundedBody::new(request.into_body(), u64::MAX, BODY_IDLE_MAX)?;
    let given = body.declared_bytes().ok_or(PantryError::LengthMissing)?;
    let bytes = import::check_size(given, query.size_bytes, volume.size, volume.block_size)?;
    let wanted = Wanted::Import { url: None, sha256: query.sha256 };
    let order = Order { executor_epoch: query.executor_epoch, id: query.job_id, wanted };
    let check = move |volume: &Attached| volume.check_usable(true).map(|()| bytes);
    let job = match begin(&volume, order, Some(bytes), check).await? {
        Begun::Known(job) if job.is_running() => return Err(PantryError::JobRunning(job.id).into()),
        Begun::Known(job) => return answer(job.status()),
        Begun::New(job) => job,
    };
    let pieces = run_import(&volume, &job, query.sha256);
    loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            // It may have failed, or be cancelled, while the body has no bytes to give.
            ended = job.ended() => return answer(ended),
            () = job.cancelled.cancelled() => {
                drop(pieces);
                return answer(job.ended().await);
            }
        };
        let (piece, is_last) = match piece {
            Ok(Some(bytes)) => (Piece::Bytes(bytes), false),
            Ok(None) => (Piece::End, true),
            Err(error) => (Piece::Stopped(error.0.detail.clone()), true),
        };
        if pieces.send(piece).await.is_err() || is_last {
            return answer(job.ended().await);
        }
    }
}

/// A job that is to be told as the answer to the call that has done it.
fn answer(job: PantryJob) -> Result<ApiJson<PantryJob>, ApiError> {
    match (job.state, job.error) {
        (PantryJobState::Running | PantryJobState::Done, error) => Ok(ApiJson(PantryJob { error, ..job })),
        (_, Some(mut problem)) => {
            problem.detail = format!("job {}: {}", job.id, problem.detail);
            Err(problem.into())
        }
        (state, None) => Err(ApiError::new(Code::Internal, format!("job {} is {state:?}", job.id))),
    }
}

async fn import_url(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ImportRequest>,
) -> Result<(StatusCode, ApiJson<PantryJob>), ApiError> {
    let volume = shelf.changed(id, request.executor_epoch)?;
    let url: HttpUrl = request
        .url
        .parse()
        .map_err(|error| ApiError::new(Code::BadRequest, format!("the URL is of no use: {error}")))?;
    let bytes =
        import::check_size(request.size_bytes, Some(request.size_bytes), volume.size, volume.block_size)?;
    let wanted = Wanted::Import { url: Some(request.url), sha256: request.sha256 };
    let order = Order { executor_epoch: request.executor_epoch, id: request.job_id, wanted };
    let check = move |volume: &Attached| volume.check_usable(true).map(|()| bytes);
    Ok(begun(begin(&volume, order, Some(bytes), check).await?, |job| {
        let pieces = run_import(&volume, job, request.sha256);
        let cancelled = job.cancelled.clone();
        let own = shelf.source_address();
        tokio::spawn(async move {
            // Who cancels it need not wait for the server.
            cancelled.run_until_cancelled(web::fetch(own, url, bytes, pieces)).await;
        });
    }))
}

async fn begin_scrub(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ScrubRequest>,
) -> Result<(StatusCode, ApiJson<PantryJob>), ApiError> {
    let volume = shelf.changed(id, request.executor_epoch)?;
    let check = |volume: &Attached| volume.check_usable(false).map(|()| volume.size);
    Ok(begun(begin(&volume, order(request, Wanted::Scrub), Some(volume.size), check).await?, |job| {
        let scrubbed = Arc::clone(&volume);
        run(&volume, job, move |job, io| scrub::scrub(job, &scrubbed, io).map(|()| None));
    }))
}

async fn begin_copy(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ScrubRequest>,
) -> Result<(StatusCode, ApiJson<PantryJob>), ApiError> {
    let volume = shelf.changed(id, request.executor_epoch)?;
    let check = |volume: &Attached| {
        volume.check_usable(true)?;
        volume.parents_bytes()
    };
    // Of one that is known, how many there were: there may be nothing under the volume by now.
    Ok(begun(begin(&volume, order(request, Wanted::CopyParent), None, check).await?, |job| {
        let copied = Arc::clone(&volume);
        run(&volume, job, move |job, _| copy_parent::copy(job, &copied).map(|()| None));
    }))
}

fn order(request: ScrubRequest, wanted: Wanted) -> Order {
    let ScrubRequest { executor_epoch, job_id: id } = request;
    Order { executor_epoch, id, wanted }
}

async fn export(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ExportRequest>,
) -> Result<ApiJson<ExportAnswer>, ApiError> {
    Ok(ApiJson(ExportAnswer { uri: shelf.export(id, request).await? }))
}

async fn unexport(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<UnexportRequest>,
) -> Result<ApiJson<UnexportAnswer>, ApiError> {
    Ok(ApiJson(shelf.unexport(id, request).await?))
}

async fn snapshot(
    State(shelf): State<Shelf>,
    ApiPath((id, snapshot)): ApiPath<(VolumeId, SnapshotId)>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<ApiJson<SnapshotAnswer>, ApiError> {
    let volume = shelf.changed(id, query.executor_epoch)?;
    volume.note_call();
    let regions = ask(&volume, move |volume| volume.snapshot(snapshot, query.executor_epoch)).await?;
    Ok(ApiJson(SnapshotAnswer { id: snapshot, regions }))
}

async fn jobs(
    State(shelf): State<Shelf>,
    ApiPath(id): ApiPath<VolumeId>,
) -> Result<ApiJson<PantryJobPage>, ApiError> {
    let volume = shelf.get(id)?;
    let tell = |volume: &Attached| Ok(volume.board.list().iter().map(|job| volume.tell_job(job)).collect());
    let items = ask(&volume, tell).await?;
    Ok(ApiJson(PantryJobPage { items, next_page: None }))
}

async fn job(
    State(shelf): State<Shelf>,
    ApiPath((id, job)): ApiPath<(VolumeId, JobId)>,
    ApiQuery(query): ApiQuery<JobQuery>,
) -> Result<ApiJson<PantryJob>, ApiError> {
    let volume = shelf.get(id)?;
    let job = volume.board.get(job).ok_or(PantryError::NoJob { id, job })?;
    job.wait(Duration::from_millis(query.wait_ms.min(WAIT_MS_MAX))).await;
    Ok(ApiJson(ask(&volume, move |volume| Ok(volume.tell_job(&job))).await?))
}

async fn cancel(
    State(shelf): State<Shelf>,
    ApiPath((id, job)): ApiPath<(VolumeId, JobId)>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<StatusCode, ApiError> {
    shelf.changed(id, query.executor_epoch)?.board.cancel(id, query.executor_epoch, job)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a volume, in a thread that may wait for its answer.
async fn ask<T: Send + 'static>(
    volume: &Arc<Attached>,
    question: impl FnOnce(&Attached) -> Result<T, PantryError> + Send + 'static,
) -> Result<T, PantryError> {
    let (id, volume) = (volume.id, Arc::clone(volume));
    tokio::task::spawn_blocking(move || question(&volume)).await.unwrap_or(Err(PantryError::Died(id)))
}

/// A job that is known already, whatever its volume does by now; or one that begins, if this finds that it may, and how many bytes it has.
async fn begin(
    volume: &Arc<Attached>,
    order: Order,
    bytes: Option<u64>,
    check: impl FnOnce(&Attached) -> Result<u64, PantryError> + Send + 'static,
) -> Result<Begun, PantryError> {
    if let Some(known) = volume.board.known(&order, bytes)? {
        return Ok(Begun::Known(known));
    }
    let bytes = ask(volume, check).await?;
    volume.board.begin(volume.id, order, bytes)
}

/// Has one that begins run by this; answered at once in either case.
fn begun(begun: Begun, run: impl FnOnce(&Arc<Job>)) -> (StatusCode, ApiJson<PantryJob>) {
    let job = match begun {
        Begun::Known(job) => job,
        Begun::New(job) => {
            run(&job);
            job
        }
    };
    (StatusCode::ACCEPTED, ApiJson(job.status()))
}

/// Begins to import what is put in here.
fn run_import(volume: &Arc<Attached>, job: &Arc<Job>, sha256: Option<ArtifactHash>) -> mpsc::Sender<Piece> {
    let (pieces, mut taken) = mpsc::channel(PIECES_MAX);
    let work = move |job: &Job, io| import::write(job, io, &mut taken, sha256).map(Some);
    run(volume, job, work);
    pieces
}

/// Runs a job in a thread of its own, on a connection of its own.
fn run(
    volume: &Arc<Attached>,
    job: &Arc<Job>,
    work: impl FnOnce(&Job, VolumeIo) -> Result<Option<ArtifactHash>, PantryError> + Send + 'static,
) {
    let (volume, job) = (Arc::clone(volume), Arc::clone(job));
    tokio::task::spawn_blocking(move || {
        tracing::info!(volume = %volume.id, job = %job.id, bytes = job.bytes, "a job has begun");
        let _ends = EndsAnyway(&volume, &job);
        let connected = VolumeIo::connect(volume.socket.as_std_path()).map_err(PantryError::from);
        let done = connected.and_then(|io| {
            job.holds(io.cut())?;
            work(&job, io)
        });
        job.end(done.map_err(|error| volume.explain(error)));
    });
}

/// A job whose thread has panicked has ended, too.
struct EndsAnyway<'a>(&'a Attached, &'a Job);

impl Drop for EndsAnyway<'_> {
    fn drop(&mut self) {
        if self.1.is_running() {
            self.1.end(Err(PantryError::Died(self.0.id)));
        }
    }
}
