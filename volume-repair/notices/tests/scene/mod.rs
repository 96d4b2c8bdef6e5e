//! An outbox on a machine that crashes, an Upstairs that fills members, and a coordinator that answers or not, all by a seed.

use durable_fs::{SimMachine, Storage};
use ids::{RegionId, RegionSetId, RepairId, VolumeId};
use jiff::Timestamp;
use nexus_client::repairs::{
    Repair, RepairFinish, RepairInterruption, RepairNotice, RepairOutcome, RepairPhase, RepairProgress,
    RepairReason, RepairRegion, RepairStart, Stamp,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;
use volume_notices::{Answer, Outbox, PutError, Transport};

pub(crate) fn repair(number: u128) -> Repair {
    let id = Uuid::from_u128;
    Repair {
        id: RepairId(id(number)),
        volume_id: VolumeId(id(1_000)),
        region_set_id: RegionSetId(id(2_000)),
        region: RepairRegion { region_id: RegionId(id(3_000 + number)), incarnation: 1 },
        replaces: None,
        bytes: 1 << 30,
    }
}

fn stamp(epoch: u32) -> Stamp {
    Stamp { epoch, sequence: 0, config_version: 1, told_at: Timestamp::UNIX_EPOCH }
}

pub(crate) fn start(repair: Repair, epoch: u32) -> RepairNotice {
    RepairNotice::Start(RepairStart { repair, stamp: stamp(epoch), why: RepairReason::CatchesUp })
}

pub(crate) fn progress(repair: Repair, epoch: u32, bytes_done: u64) -> RepairNotice {
    let (phase, waits) = (RepairPhase::Copying, BTreeSet::new());
    RepairNotice::Progress(RepairProgress { repair, stamp: stamp(epoch), phase, bytes_done, waits })
}

pub(crate) fn finish(repair: Repair, epoch: u32, outcome: RepairOutcome) -> RepairNotice {
    let interrupted_by = (outcome == RepairOutcome::Interrupted).then_some(RepairInterruption::NewerEpoch);
    RepairNotice::Finish(RepairFinish { repair, stamp: stamp(epoch), outcome, interrupted_by })
}

/// A notice by what it says, whatever its sequence: of a repair, a start or an end.
type Word = (RepairId, &'static str);

fn word(notice: &RepairNotice) -> Word {
    let kind = match notice {
        RepairNotice::Start(_) => "start",
        RepairNotice::Progress(_) => "progress",
        RepairNotice::Finish(_) => "finish",
    };
    (notice.repair().id, kind)
}

/// Who is told, over a network that loses requests and answers, and delivers some late.
#[derive(Debug)]
pub(crate) struct Coordinator {
    random: SmallRng,
    /// While it is away, or nobody of this scene dies any more.
    is_reliable: bool,
    /// On their way, though their sender was told that nobody answers.
    late: Vec<RepairNotice>,
    told: Vec<RepairNotice>,
    by_place: BTreeMap<(u32, u64), RepairNotice>,
    pub(crate) lost_answers: usize,
}

impl Coordinator {
    pub(crate) fn new(seed: u64) -> Coordinator {
        Coordinator {
            random: SmallRng::seed_from_u64(seed),
            is_reliable: false,
            late: Vec::new(),
            told: Vec::new(),
            by_place: BTreeMap::new(),
            lost_answers: 0,
        }
    }

    /// It is told this.
    pub(crate) fn note(&mut self, notice: &RepairNotice) {
        let known = self.by_place.entry(notice.stamp().place()).or_insert_with(|| notice.clone());
        assert_eq!(known, notice, "one place in the order for two notices");
        self.told.push(notice.clone());
    }

    /// In which order it was told, by repair and kind.
    pub(crate) fn order(&self) -> Vec<Word> {
        self.told.iter().map(word).collect()
    }

    fn knows(&self, one: Word) -> bool {
        self.told.iter().any(|notice| word(notice) == one)
    }
}

pub(crate) fn notice_of(coordinator: &Coordinator) -> &[RepairNotice] {
    &coordinator.told
}

impl Transport for Coordinator {
    fn send(&mut self, notice: &RepairNotice) -> Answer {
        while !self.late.is_empty() && self.random.random_bool(0.5) {
            let at = self.random.random_range(0..self.late.len());
            let late = self.late.swap_remove(at);
            self.note(&late);
        }
        let away = || Answer::Away("no answer".to_owned());
        match if self.is_reliable { 9 } else { self.random.random_range(0..10) } {
            0 | 1 => away(),
            2 => {
                self.late.push(notice.clone());
                away()
            }
            3 | 4 => {
                self.note(notice);
                self.lost_answers += 1;
                away()
            }
            5 => Answer::Refused("not now".to_owned()),
            _ => {
                self.note(notice);
                Answer::Taken
            }
        }
    }
}

/// All of it.
pub(crate) struct Scene {
    pub(crate) machine: SimMachine,
    pub(crate) coordinator: Coordinator,
    storage: Arc<dyn Storage>,
    random: SmallRng,
    seed: u64,
    now: Duration,
    epoch: u32,
    /// What was put, and acknowledged as kept.
    kept: BTreeSet<Word>,
}

/// What the Upstairs does next.
#[derive(Clone, Copy)]
enum Move {
    Start(Repair),
    Progress(Repair, u64),
    Finish(Repair),
    Tell,
}

impl Scene {
    pub(crate) fn new(seed: u64) -> Scene {
        let machine = SimMachine::new();
        let storage: Arc<dyn Storage> = Arc::new(machine.add_disk(16 << 20));
        Scene {
            machine,
            coordinator: Coordinator::new(seed),
            storage,
            random: SmallRng::seed_from_u64(seed ^ 0x5eed),
            seed,
            now: Duration::from_secs(1),
            epoch: 1,
            kept: BTreeSet::new(),
        }
    }

    /// Three members are filled, side by side, and told of meanwhile. Whether the machine crashed: then it went on afterwards.
    pub(crate) fn play(&mut self) -> bool {
        let mut crashed = false;
        let mut outbox = match self.open() {
            Some(outbox) => outbox,
            None => {
                crashed = true;
                self.again()
            }
        };
        for one in self.script() {
            // Whoever was stopped in the middle of something does it again.
            while !self.make(&mut outbox, one) {
                assert!(!crashed, "it is stopped once");
                crashed = true;
                outbox = self.again();
            }
        }
        crashed
    }

    fn script(&mut self) -> Vec<Move> {
        let mut of_each: Vec<Vec<Move>> = (1..=3)
            .map(|number| {
                let repair = repair(number);
                let mut moves = vec![Move::Finish(repair)];
                moves.extend((0..2).map(|step| Move::Progress(repair, 100 - step)));
                moves.push(Move::Start(repair));
                moves
            })
            .collect();
        let mut script = Vec::new();
        while of_each.iter().any(|moves| !moves.is_empty()) {
            let at = self.random.random_range(0..of_each.len());
            script.extend(of_each[at].pop());
            script.extend(self.random.random_bool(0.5).then_some(Move::Tell));
        }
        script
    }

    /// Whether nothing stopped it.
    fn make(&mut self, outbox: &mut Outbox, one: Move) -> bool {
        let notice = match one {
            Move::Start(repair) => start(repair, self.epoch),
            Move::Progress(repair, bytes) => progress(repair, self.epoch, bytes),
            Move::Finish(repair) => finish(repair, self.epoch, RepairOutcome::Completed),
            Move::Tell => {
                self.now += Duration::from_millis(self.random.random_range(0..2_000));
                return outbox.pass(self.now, &mut self.coordinator).is_ok();
            }
        };
        let is_progress = matches!(notice, RepairNotice::Progress(_));
        let one = word(&notice);
        match outbox.put(notice) {
            Ok(_) => {
                if !is_progress {
                    self.kept.insert(one);
                }
                true
            }
            // It was kept before the crash that hid the answer, and told since.
            Err(PutError::HasEnded { .. }) => true,
            Err(PutError::Write { .. }) => false,
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    fn open(&self) -> Option<Outbox> {
        Outbox::open(Arc::clone(&self.storage), "repair-notices".into()).ok()
    }

    /// After a crash, of the machine or of the process alone: an Upstairs with the next epoch.
    fn again(&mut self) -> Outbox {
        if self.seed.is_multiple_of(3) {
            self.machine.cut_power();
            self.machine.power_on();
        } else {
            self.machine.crash(self.seed);
        }
        self.epoch += 1;
        self.open().expect("a crash leaves the old file or the new one")
    }

    /// Once more another life, with a coordinator that is there: everything that was kept is told, and nothing is left.
    pub(crate) fn end(&mut self) {
        let mut outbox = self.again();
        self.coordinator.is_reliable = true;
        self.now += Duration::from_secs(3_600);
        outbox.pass(self.now, &mut self.coordinator).expect("the disk works");
        let (seed, status) = (self.seed, outbox.status());
        assert_eq!((status.repairs, status.waiting), (0, 0), "seed {seed}: {status:?}");
        let outbox = self.open().expect("nothing has crashed");
        assert_eq!(outbox.status().repairs, 0, "seed {seed}: in the file");
        assert_eq!(self.kept.len(), 6, "seed {seed}: three starts and ends");
        for one in &self.kept {
            assert!(self.coordinator.knows(*one), "seed {seed}: {one:?} was kept, and never told");
        }
    }
}
