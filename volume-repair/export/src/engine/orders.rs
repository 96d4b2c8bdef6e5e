//! What other threads ask of the loop, and what is told about repairs.

use super::Export;
use crate::{
    handle::Order, repairs::Moment, scrubs::ScrubOrder, snapshots::SnapshotOrder, status::ExportStatus,
    waiting::Place,
};
use ids::RegionId;
use jiff::Timestamp;
use upstairs::{Job, JobError, JobId};
use volume_layers::ScrubError;
use volume_repair::{Applied, ChangeError, ConstructionRequest};

impl Export {
    /// Does what other threads ask. An answer that nobody waits for any more goes nowhere; a comparison that nobody waits for any more ends.
    pub(super) fn obey(&mut self) {
        self.end_left_comparisons();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Status(answer) => {
                    // So that it says the same of members and of their repairs.
                    self.look_at_repairs();
                    drop(answer.try_send(Box::new(self.status())));
                }
                Order::Newcomers(request, answer) => {
                    let executor = self.executor.as_ref();
                    let newcomers =
                        executor.map(|executor| executor.newcomers(self.now(), &self.volume, &request));
                    drop(answer.try_send((newcomers.unwrap_or_default(), self.source_address)));
                }
                Order::Apply { request, is_check, answer } => {
                    let applied = self.apply(*request, is_check);
                    drop(answer.try_send(applied));
                }
                Order::Open(listener, order, answer) => {
                    let opened = self.open_door(*listener, &order);
                    let id = opened.as_ref().ok().map(|door| door.id);
                    if let (Err(_), Some(id)) = (answer.try_send(opened), id) {
                        // Nobody waits any more, so nobody would ever close it.
                        self.clients.cut(id);
                    }
                }
                Order::Close(door, is_forced, answer) => self.close_door(door, is_forced, answer),
                Order::Snapshot(order, place) => self.snapshot(order, place),
                Order::Compare(first, count, place) => {
                    // They take no place of this one.
                    self.end_left_comparisons();
                    let id = self.next_own_job();
                    if self.comparisons.begin(id, place) {
                        self.submit_own(id, Job::Compare { first, count });
                    }
                }
                Order::Scrub(order, answer) => drop(answer.try_send(self.scrub(order))),
                Order::RepairRate(rate, answer) => {
                    if rate != self.volume.repair_rate() {
                        tracing::info!(
                            bytes_per_second = rate,
                            "how fast members are filled at most is changed"
                        );
                    }
                    self.volume.set_repair_rate(rate);
                    // Who does not wait any more has it all the same.
                    let _ = answer.try_send(());
                }
                Order::Activate(epoch, answer) => {
                    let activated = self.volume.activate_with(self.now(), epoch);
                    let told = activated.map(|actions| self.perform(actions));
                    drop(answer.try_send(told));
                }
            }
        }
    }

    fn end_left_comparisons(&mut self) {
        for job in self.comparisons.take_left() {
            let actions = self.volume.give_up_compare(self.now(), job);
            self.perform(actions);
        }
    }

    fn snapshot(&mut self, order: SnapshotOrder, place: Place<RegionId>) {
        let (SnapshotOrder::Take(snapshot) | SnapshotOrder::Delete(snapshot)) = order;
        if !self.volume.is_activated() {
            let why = "the volume was not activated: nobody knows who has what was written".to_owned();
            return place.refuse(JobError::Snapshot { snapshot, why });
        }
        if let (SnapshotOrder::Take(_), Some(why)) =
            (order, self.volume.status(self.now()).waits_for_two_members())
        {
            return place.refuse(JobError::SnapshotFaulted { snapshot, why });
        }
        let id = self.next_own_job();
        if !self.snapshots.begin(id, place) {
            return;
        }
        let job = match order {
            SnapshotOrder::Take(snapshot) => Job::Snapshot(snapshot),
            SnapshotOrder::Delete(snapshot) => Job::DeleteSnapshot(snapshot),
        };
        self.submit_own(id, job);
    }

    pub(super) fn next_own_job(&mut self) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        id
    }

    /// A job that is no client's.
    pub(super) fn submit_own(&mut self, id: JobId, job: Job) {
        let actions = self.volume.submit(self.now(), id, job);
        self.perform(actions);
    }

    pub(super) fn scrub(&mut self, order: ScrubOrder) -> Result<(), ScrubError> {
        let now = self.now();
        let actions = match order {
            ScrubOrder::Start => self.volume.start_scrub(now)?,
            ScrubOrder::Stop => self.volume.stop_scrub(now),
        };
        tracing::info!(?order, "the copying of what lies under the volume is started, or stopped");
        self.perform(actions);
        Ok(())
    }

    /// Applies a newer request, or says whether it would.
    fn apply(&mut self, request: ConstructionRequest, is_check: bool) -> Result<Applied, ChangeError> {
        let now = self.now();
        let Some(executor) = &mut self.executor else { return Ok(Applied::Missing) };
        if is_check {
            return executor.check(now, &self.volume, &request);
        }
        let before = executor.request().clone();
        let (applied, actions) = executor.apply(now, &mut self.volume, request)?;
        self.repairs.note_request(&before, executor.request());
        // Those that leave are in it, too, as long as they are needed; and so are those of a parent that is read for the last time.
        match before.layers().count() == executor.request().layers().count() {
            true => self.addresses = executor.addresses(),
            false => self.addresses.extend(executor.addresses()),
        }
        if let Some(sources) = &self.sources {
            executor.readers_members().for_each(|(source, members)| sources.set_members(source, members));
        }
        if applied == Applied::Started {
            tracing::info!(version = executor.request().config_version, "the volume runs by a newer request");
        }
        self.perform(actions);
        Ok(applied)
    }

    /// Which members are filled, by what the volume believes now.
    pub(super) fn look_at_repairs(&mut self) {
        if let Some(executor) = &self.executor {
            let volume = self.volume.status(self.now());
            self.repairs.look(Timestamp::now(), executor.request(), &volume);
            self.tell();
        }
    }

    /// Hands over what the coordinator is to be told. What does not go now goes later.
    pub(super) fn tell(&mut self) {
        let (Some(notices), moment) = (&self.notices, Moment { now: self.now(), at: Timestamp::now() })
        else {
            return;
        };
        while let Some(notice) = self.repairs.next_notice(moment)
            && notices.take(notice.clone())
        {
            self.repairs.note_taken(&notice, moment.now);
        }
    }

    fn status(&self) -> ExportStatus {
        let mut volume = self.volume.status(self.now());
        volume.set_addresses(&self.addresses);
        ExportStatus {
            pid: std::process::id(),
            listen: self.clients.address().to_string(),
            running_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            clients: self.clients.len() as u64,
            unused_ms: u64::try_from(self.clients.unused(self.now()).as_millis()).unwrap_or(u64::MAX),
            doors: self.clients.doors(),
            is_stopping: self.is_stopping,
            repair_bytes_per_second: self.volume.repair_rate(),
            repairs: self.repairs.status(),
            notices: None,
            volume,
        }
    }
}
