//! The calls: who may ask, what is remembered, and the Pantry that is asked.
//!
//! A coordinator's right is checked when nothing has to be waited for any more, and again by the Pantry where the call's act begins: so none acts that has
//! been replaced while it waited.

use super::{
    error::PantryCallError,
    places::Places,
    records::{Record, Records, Request},
    supervise::{self, Process},
};
use crate::{
    config::Config,
    supervision::{Launch, Standing, State, Supervisor},
};
use camino::Utf8Path;
use daemon::state_file::StateFileError;
use ids::VolumeId;
use problem::Code;
use sled_client::{
    ClientError, ClientOptions, SledClient,
    pantry::{
        Activate, AttachAnswer, AttachQuery, ExportAnswer, ExportRequest, PantryVolume, PantryVolumePage,
        PantryVolumeState, RequestResult,
    },
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use supervised_process::pantry as process;
use tokio::sync::watch;
use volume_pantry::AttachOrder;
use volume_repair::ConstructionRequest;
use volume_seals::VolumeKey;

/// How long a call waits for the process to be started.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long the Pantry may take to answer: it gives up itself after 20 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long an import whose bytes are a body may take. Who sends it may end it at any time.
const IMPORT_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The sled's Pantry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pantry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    records: Records,
    places: Places,
    client: SledClient,
    imports: SledClient,
    needed: watch::Sender<bool>,
    standing: watch::Receiver<Standing>,
    at_work: Mutex<BTreeSet<VolumeId>>,
}

/// The right to attach or detach a volume; given back when this is gone.
struct AtWork(Arc<Shared>, VolumeId);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Why there is no Pantry to ask.
#[derive(Debug, thiserror::Error)]
pub enum PantryStartError {
    /// What is remembered cannot be read.
    #[error("what is remembered of the Pantry's volumes cannot be read")]
    Records(#[source] StateFileError),
    /// No HTTP.
    #[error("the Pantry cannot be asked anything")]
    Client(#[source] ClientError),
}

impl Pantry {
    /// Of an agent with this config, and who sees to it that the process runs.
    ///
    /// # Errors
    /// [`PantryStartError`].
    pub fn open(config: &Config, launch: Launch) -> Result<(Pantry, Supervisor<Process>), PantryStartError> {
        let records = Records::open(&config.state_dir).map_err(PantryStartError::Records)?;
        let directory = process::directory(&config.state_dir);
        let socket = directory.join("socket");
        let client = |limit| {
            let options = ClientOptions { read_idle_timeout: Some(limit), ..ClientOptions::default() };
            SledClient::at_socket(socket.as_std_path(), &options).map_err(PantryStartError::Client)
        };
        let needed = watch::Sender::new(false);
        let process =
            Process::new(&directory, &socket, arguments(config, &directory, &socket), needed.clone());
        let supervisor = Supervisor::new(process, launch);
        let shared = Shared {
            records,
            places: Places::of(config),
            client: client(ANSWER_LIMIT)?,
            imports: client(IMPORT_LIMIT)?,
            needed,
            standing: supervisor.standing(),
            at_work: Mutex::default(),
        };
        Ok((Pantry(Arc::new(shared)), supervisor))
    }

    /// Attaches a volume, or applies a newer request to it.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn put(
        &self,
        id: VolumeId,
        query: AttachQuery,
        order: AttachOrder,
        key: Option<VolumeKey>,
    ) -> Result<AttachAnswer, PantryCallError> {
        self.0.records.hear(id, query.executor_epoch).await?;
        let put = async move |pantry: Pantry| {
            if query.activate == Activate::Never && pantry.running().await.is_none() {
                pantry.0.records.hear(id, query.executor_epoch).await?;
                return Ok(AttachAnswer { result: RequestResult::Missing, volume: None });
            }
            pantry.attach(id, query, order, key).await
        };
        let mut answer = self.work(id, put).await?;
        if let Some(volume) = &mut answer.volume {
            volume.executor_epoch = query.executor_epoch;
        }
        Ok(answer)
    }

    async fn attach(
        self,
        id: VolumeId,
        query: AttachQuery,
        order: AttachOrder,
        key: Option<VolumeKey>,
    ) -> Result<AttachAnswer, PantryCallError> {
        let Shared { records, client, .. } = &*self.0;
        self.start().await?;
        let before = records.get(id).and_then(|record| record.attached);
        if query.activate == Activate::Never {
            records.hear(id, query.executor_epoch).await?;
        } else {
            let ConstructionRequest { config_version, epoch, .. } = order.request;
            let next = Request { config_version, epoch, encrypted: order.request.is_encrypted() };
            records.begin(id, query.executor_epoch, next).await?;
        }
        let answer = match key {
            None => client.put_pantry_volume(id, query, &order).await,
            Some(key) => {
                let text = key.to_text();
                client.put_encrypted_pantry_volume(id, query, &order, text.trim_end()).await
            }
        };
        let has = match &answer {
            Ok(AttachAnswer { volume: Some(volume), .. }) => Ok(volume.clone()),
            _ => client.pantry_volume(id).await,
        };
        match has {
            Ok(PantryVolume { config_version, epoch, encrypted, .. }) => {
                records.note(id, Some(Request { config_version, epoch, encrypted })).await?;
            }
            // One that was there before and is not now was lost, and not detached.
            Err(error) if error.is(Code::PantryVolumeNotFound) => records.note(id, before).await?,
            // Nobody says what has become of it: it is remembered as what it was to be.
            Err(_) => {}
        }
        Ok(answer?)
    }

    /// Detaches a volume; done if it is not attached.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn delete(&self, id: VolumeId, executor_epoch: u64) -> Result<(), PantryCallError> {
        self.0.records.hear(id, executor_epoch).await?;
        let detach = async move |pantry: Pantry| {
            let running = pantry.running().await;
            pantry.0.records.hear(id, executor_epoch).await?;
            if let Some(client) = running {
                client.delete_pantry_volume(id, executor_epoch).await?;
            }
            pantry.0.records.note(id, None).await
        };
        self.work(id, detach).await
    }

    /// Does the work of a call in a task of its own, alone on its volume: the record has to fit what becomes of it, also if whoever asked
    /// goes away.
    async fn work<T, F>(
        &self,
        id: VolumeId,
        work: impl FnOnce(Pantry) -> F + Send + 'static,
    ) -> Result<T, PantryCallError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PantryCallError>> + Send + 'static,
    {
        if !self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Err(PantryCallError::Busy(id));
        }
        let at_work = AtWork(Arc::clone(&self.0), id);
        let work = work(self.clone());
        let task = tokio::spawn(async move {
            let done = work.await;
            drop(at_work);
            done
        });
        task.await.unwrap_or(Err(PantryCallError::Died(id)))
    }

    /// A volume as it is.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn show(&self, id: VolumeId) -> Result<PantryVolume, PantryCallError> {
        let record = self.0.records.get(id);
        let Some(client) = self.running().await else {
            return record.and_then(|record| ended(id, record)).ok_or(PantryCallError::NotFound(id));
        };
        match client.pantry_volume(id).await {
            Ok(mut volume) => {
                volume.executor_epoch = record.map_or(0, |record| record.executor_epoch);
                Ok(volume)
            }
            Err(error) if error.is(Code::PantryVolumeNotFound) => {
                record.and_then(|record| ended(id, record)).ok_or(PantryCallError::NotFound(id))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All volumes, by id, and how their process does.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn list(&self) -> Result<PantryVolumePage, PantryCallError> {
        let mut remembered = self.0.records.attached();
        let items = match self.running().await {
            None => Vec::new(),
            Some(client) => client.pantry_volumes().await?.items,
        };
        let mut told = Vec::new();
        for mut volume in items {
            remembered.remove(&volume.id);
            volume.executor_epoch = self.0.records.get(volume.id).map_or(0, |record| record.executor_epoch);
            told.push(volume);
        }
        told.extend(remembered.into_iter().filter_map(|(id, record)| ended(id, record)));
        told.sort_by_key(|volume| volume.id);
        let pantry = Some(supervise::status(&self.0.standing.borrow()));
        Ok(PantryVolumePage { items: told, pantry, next_page: None })
    }

    /// Whom to ask something that changes a volume, if the coordinator may: it waits for an answer as long as one may take.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn changing(&self, id: VolumeId, executor_epoch: u64) -> Result<&SledClient, PantryCallError> {
        self.0.records.hear(id, executor_epoch).await?;
        let running = self.running().await;
        self.0.records.hear(id, executor_epoch).await?;
        running.ok_or_else(|| self.absent(id))
    }

    /// Has a volume exported, if it may be there.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn export(
        &self,
        id: VolumeId,
        request: ExportRequest,
    ) -> Result<ExportAnswer, PantryCallError> {
        let request = self.0.places.place(request)?;
        let client = self.changing(id, request.executor_epoch).await?;
        client.pantry_export(id, &request).await.map_err(|error| self.explain(id, error))
    }

    /// The same for an import whose bytes are sent along.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn importing(&self, id: VolumeId, executor_epoch: u64) -> Result<&SledClient, PantryCallError> {
        self.changing(id, executor_epoch).await.map(|_| &self.0.imports)
    }

    /// Whom to ask about a volume.
    ///
    /// # Errors
    /// [`PantryCallError`].
    pub async fn asking(&self, id: VolumeId) -> Result<&SledClient, PantryCallError> {
        self.running().await.ok_or_else(|| self.absent(id))
    }

    /// What it means that the Pantry has said this of a volume.
    #[must_use]
    pub fn explain(&self, id: VolumeId, error: ClientError) -> PantryCallError {
        if error.is(Code::PantryVolumeNotFound) {
            return self.absent(id);
        }
        error.into()
    }

    fn absent(&self, id: VolumeId) -> PantryCallError {
        let record = self.0.records.get(id);
        match record.and_then(|record| record.attached) {
            Some(_) => PantryCallError::Ended(id),
            None => PantryCallError::NotFound(id),
        }
    }

    /// Has the process started, and waits until it answers.
    async fn start(&self) -> Result<(), PantryCallError> {
        self.0.needed.send_replace(true);
        let mut standing = self.0.standing.clone();
        let running = standing.wait_for(|standing| standing.state == State::Running);
        let is_running = matches!(tokio::time::timeout(START_LIMIT, running).await, Ok(Ok(_)));
        if is_running {
            return Ok(());
        }
        let status = supervise::status(&self.0.standing.borrow());
        Err(PantryCallError::Down(status.reason.unwrap_or_else(|| format!("it is {:?}", status.state))))
    }

    /// Whom to ask, if the process runs. Who asks before it was looked for waits for that.
    async fn running(&self) -> Option<&SledClient> {
        let mut standing = self.0.standing.clone();
        let known = standing.wait_for(|standing| match standing.state {
            State::NotLooked | State::Starting => false,
            State::Idle | State::Running | State::BackingOff | State::HeldElsewhere => true,
        });
        let known = tokio::time::timeout(START_LIMIT, known).await;
        let is_running = matches!(&known, Ok(Ok(standing)) if standing.state == State::Running);
        is_running.then_some(&self.0.client)
    }
}

/// What the process is told when it is started. One that runs goes on with what it was told.
fn arguments(config: &Config, directory: &Utf8Path, socket: &Utf8Path) -> Vec<String> {
    let mut arguments = process::arguments(directory, socket);
    arguments.extend(process::source_arguments(config.address));
    let token_file = &config.auth.token_file;
    arguments.extend(process::telling_arguments(directory, &config.coordinators, token_file));
    arguments
}

/// A volume that was attached, and that no process has.
fn ended(id: VolumeId, record: Record) -> Option<PantryVolume> {
    let Request { config_version, epoch, encrypted } = record.attached?;
    let needs = if encrypted { "; it is encrypted: attached anew, it needs its key again" } else { "" };
    Some(PantryVolume {
        id,
        state: PantryVolumeState::Ended,
        reason: Some(format!("{}{needs}", PantryCallError::Ended(id))),
        config_version,
        epoch,
        executor_epoch: record.executor_epoch,
        size_bytes: None,
        block_size: None,
        read_only: false,
        encrypted,
        exported: None,
        exports: Vec::new(),
        jobs_running: 0,
        idle_ms: None,
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::log::LogFormat;
    use std::pin::Pin;

    /// Of a sled whose Pantry is not looked for yet: whoever asks waits for that.
    fn not_looked(state_dir: &Utf8Path) -> (Pantry, Supervisor<Process>) {
        let config = serde_json::json!({
            "name": "alone", "state_dir": state_dir, "address": "127.0.0.1", "coordinators": [], "m2": [],
            "auth": { "token_file": "/own", "coordinator_token_file": "/coordinator", "operator_token_file": "/operator" },
        });
        let config: Config = serde_json::from_value(config).expect("a config");
        let program = "/no/program".into();
        let launch = Launch { program, log_format: LogFormat::Text, fault_sockets: None };
        Pantry::open(&config, launch).expect("it opens")
    }

    fn code<T>(answer: Result<T, PantryCallError>) -> Option<Code> {
        answer.err().map(|error| error.code())
    }

    type Call = fn(Pantry, VolumeId, u64) -> Pin<Box<dyn Future<Output = Option<Code>>>>;

    #[tokio::test]
    async fn who_is_replaced_while_he_waits_for_the_process_does_not_act_when_it_is_there() {
        let calls: [Call; 4] = [
            |pantry, id, epoch| Box::pin(async move { code(pantry.changing(id, epoch).await) }),
            |pantry, id, epoch| Box::pin(async move { code(pantry.importing(id, epoch).await) }),
            |pantry, id, executor_epoch| {
                let query = AttachQuery { executor_epoch, activate: Activate::Never };
                let request = ConstructionRequest::first(id.0, 1, 4096, Vec::new());
                let order = AttachOrder { request, repair_bytes_per_second: None };
                Box::pin(async move { code(pantry.put(id, query, order, None).await) })
            },
            |pantry, id, epoch| Box::pin(async move { code(pantry.delete(id, epoch).await) }),
        ];
        for (number, call) in calls.into_iter().enumerate() {
            let temp = camino_tempfile::tempdir().expect("a directory");
            let (pantry, supervisor) = not_looked(temp.path());
            let (records, id) = (&pantry.0.records, VolumeId::generate());
            let stop = watch::Sender::new(false);
            let replaced = async {
                while records.get(id).map(|record| record.executor_epoch) != Some(3) {
                    tokio::task::yield_now().await;
                }
                records.hear(id, 4).await.expect("it is newer");
                // From now on it is known that there is no process, and nobody waits.
                supervisor.run(stop.subscribe()).await;
            };
            let late = async {
                let late = call(pantry.clone(), id, 3).await;
                stop.send_replace(true);
                late
            };
            let (late, ()) = tokio::join!(late, replaced);
            assert_eq!(late, Some(Code::StaleEpoch), "{number}");
        }
    }
}
