//! Everything that was put in is told: whatever crashes when, and however often nobody answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use durable_fs::{PublishStep, SimDisk, SimMachine, Storage};
use nexus_client::repairs::{RepairNotice, RepairOutcome};
use scene::{Coordinator, Scene, finish, notice_of, progress, repair, start};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use volume_notices::{Answer, OpenError, Outbox, Pass, Put, PutError, REPAIRS_MAX, Transport};

const PATH: &str = "repair-notices";

fn disk() -> (SimMachine, SimDisk, Arc<dyn Storage>) {
    let machine = SimMachine::new();
    let disk = machine.add_disk(16 << 20);
    (machine, disk.clone(), Arc::new(disk))
}

fn open(storage: &Arc<dyn Storage>) -> Outbox {
    Outbox::open(Arc::clone(storage), PATH.into()).unwrap()
}

const NOW: Duration = Duration::from_secs(1_000);

/// A coordinator that gives these answers, one after the other, and then takes everything.
struct Answers(Vec<Answer>, Vec<String>);

impl Transport for Answers {
    fn send(&mut self, notice: &RepairNotice) -> Answer {
        self.1.push(notice.to_string().split(' ').next().unwrap().to_owned());
        if self.0.is_empty() { Answer::Taken } else { self.0.remove(0) }
    }
}

#[test]
fn nothing_that_was_put_is_lost_by_a_crash_before_any_operation() {
    let (mut stopped, mut lost_answers) = (0, 0);
    for seed in 0..24 {
        for changes in 0.. {
            let mut scene = Scene::new(seed);
            scene.machine.stop_after_changes(changes);
            let was_stopped = scene.play();
            scene.end();
            stopped += usize::from(was_stopped);
            lost_answers += scene.coordinator.lost_answers;
            if !was_stopped {
                break;
            }
        }
    }
    assert!(stopped > 1_000, "only {stopped} crashes");
    assert!(lost_answers > 100, "only {lost_answers} answers were lost");
}

#[test]
fn nothing_that_was_put_is_lost_by_a_crash_after_any_step_of_any_write() {
    for step in PublishStep::ALL {
        let mut stopped = 0;
        for seed in 0..16 {
            for nth in 1.. {
                let mut scene = Scene::new(seed);
                scene.machine.stop_at(step.of(volume_notices::PROCEDURE), nth);
                let was_stopped = scene.play();
                scene.end();
                stopped += usize::from(was_stopped);
                if !was_stopped {
                    break;
                }
            }
        }
        assert!(stopped > 50, "only {stopped} crashes after {step:?}");
    }
}

#[test]
fn whatever_fails_and_in_whatever_order_it_comes_each_start_and_finish_is_told() {
    let mut orders = BTreeSet::new();
    for seed in 0..500 {
        let mut scene = Scene::new(seed);
        assert!(!scene.play(), "nothing stops it");
        scene.end();
        orders.insert(scene.coordinator.order());
    }
    assert!(orders.len() > 100, "only {} orders of delivery", orders.len());
}

#[test]
fn of_progress_only_the_newest_waits_and_a_finish_takes_its_place() {
    let (_, _, storage) = disk();
    let mut outbox = open(&storage);
    let repair = repair(1);
    outbox.put(start(repair, 5)).unwrap();
    for bytes in 1..=3_000 {
        assert_eq!(outbox.put(progress(repair, 5, bytes)).unwrap(), Put::Kept);
    }
    assert_eq!(outbox.status().waiting, 2);
    let mut told = Answers(Vec::new(), Vec::new());
    let first = outbox.next(NOW).unwrap();
    assert!(matches!(first, RepairNotice::Start(_)), "the oldest first: {first}");
    outbox.answered(NOW, &first, Answer::Taken).unwrap();
    let on_its_way = outbox.next(NOW).unwrap();
    outbox.put(progress(repair, 5, 4_000)).unwrap();
    outbox.answered(NOW, &on_its_way, Answer::Taken).unwrap();
    assert!(matches!(outbox.next(NOW), Some(RepairNotice::Progress(newest)) if newest.bytes_done == 4_000));
    outbox.put(finish(repair, 5, RepairOutcome::Completed)).unwrap();
    assert_eq!(outbox.put(progress(repair, 5, 5_000)).unwrap(), Put::Superfluous);
    assert_eq!(outbox.pass(NOW, &mut told).unwrap(), Pass { taken: 1, refused: 0, is_away: false });
    assert_eq!(told.1, ["finish"]);
    assert_eq!(outbox.status().repairs, 0);
    assert_eq!((outbox.next(NOW), outbox.next_at()), (None, None));
}

/// A process that is killed leaves its file, and a machine what was durable.
#[test]
fn whoever_goes_on_with_a_repair_knows_how_far_it_was_but_for_a_part_of_it() {
    for loses_power in [false, true] {
        let (machine, _, storage) = disk();
        let known = repair(1);
        let mut outbox = open(&storage);
        let before = machine.changes();
        outbox.put(start(known, 5)).unwrap();
        let (of_one, mut of_all) = (machine.changes() - before, 0);
        let mut told = Answers(Vec::new(), Vec::new());
        for part in 1..=700 {
            let done = known.bytes / 1_000 * part;
            let before = machine.changes();
            outbox.put(progress(known, 5, done)).unwrap();
            outbox.pass(NOW, &mut told).unwrap();
            of_all += machine.changes() - before;
            if loses_power {
                machine.crash(part);
            }
            let open = open(&storage).open_repairs().collect::<Vec<_>>();
            let [there] = open[..] else { panic!("{open:?}") };
            assert_eq!(there.repair, known);
            assert!(
                there.bytes_done <= done && there.bytes_done + known.bytes / 64 >= done,
                "{part}: {there:?}"
            );
        }
        assert!(of_all <= 64 * of_one, "the disk is asked too often: {of_all} changes, {of_one} each time");
        outbox.put(finish(known, 5, RepairOutcome::Completed)).unwrap();
        assert_eq!(open(&storage).open_repairs().count(), 0);
    }
}

#[test]
fn one_that_does_not_answer_is_left_alone_for_longer_each_time_and_one_that_refuses_holds_up_one_notice() {
    let (_, _, storage) = disk();
    let mut outbox = open(&storage);
    for number in 1..=3 {
        outbox.put(start(repair(number), 5)).unwrap();
    }
    let away = || Answer::Away("no answer".to_owned());
    let mut answers =
        Answers(vec![away(), away(), Answer::Refused("repair_conflict".to_owned())], Vec::new());
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..2 {
        assert!(outbox.pass(now, &mut answers).unwrap().is_away);
        assert_eq!(outbox.next(now), None);
        assert_eq!(outbox.status().away.as_deref(), Some("no answer"));
        let next = outbox.next_at().unwrap();
        assert_eq!(outbox.next(next - Duration::from_millis(1)), None);
        waits.push(next - now);
        now = next;
    }
    assert!(waits[0] < waits[1] && answers.1.len() == 2, "{waits:?}: one was asked each time");
    assert_eq!(outbox.pass(now, &mut answers).unwrap(), Pass { taken: 2, refused: 1, is_away: false });
    let status = outbox.status();
    assert_eq!((status.waiting, status.away, status.refused.len()), (1, None, 1));
    assert_eq!(status.refused[0].words, "repair_conflict");
    assert_eq!(outbox.next(now + Duration::from_secs(599)), None);
    assert_eq!(outbox.next_at(), Some(now + Duration::from_secs(600)));
    assert_eq!(outbox.pass(now + Duration::from_secs(600), &mut answers).unwrap().taken, 1);
    assert_eq!((outbox.status().waiting, outbox.status().refused.len()), (0, 0));
    assert_eq!(outbox.open_repairs().count(), 3, "their ends are still to come");
}

#[test]
fn a_full_outbox_takes_no_new_repair_and_every_word_of_those_that_it_has() {
    let (_, _, storage) = disk();
    let mut outbox = open(&storage);
    for number in 0..REPAIRS_MAX {
        outbox.put(start(repair(number as u128 + 1), 5)).unwrap();
    }
    let another = repair(REPAIRS_MAX as u128 + 1);
    for notice in [start(another, 5), finish(another, 5, RepairOutcome::Completed)] {
        assert!(matches!(outbox.put(notice), Err(PutError::Full)));
    }
    assert_eq!(outbox.put(progress(another, 5, 1)).unwrap(), Put::Superfluous);
    for number in 0..REPAIRS_MAX {
        outbox.put(finish(repair(number as u128 + 1), 5, RepairOutcome::Completed)).unwrap();
    }
    let mut outbox = open(&storage);
    assert_eq!(outbox.status().waiting, 2 * REPAIRS_MAX);
    let mut one = Answers(Vec::new(), Vec::new());
    for _ in 0..REPAIRS_MAX + 1 {
        let notice = outbox.next(NOW).unwrap();
        let answer = one.send(&notice);
        outbox.answered(NOW, &notice, answer).unwrap();
    }
    assert_eq!(outbox.put(start(another, 5)).unwrap(), Put::Kept, "one is told to its end, and has left");
    assert!(storage.metadata(PATH.into()).unwrap().size < 512 << 10);
}

#[test]
fn what_can_not_be_true_is_another_repairs_or_comes_after_the_end_is_refused_and_changes_nothing() {
    let (_, _, storage) = disk();
    let mut outbox = open(&storage);
    let known = repair(1);
    outbox.put(start(known, 5)).unwrap();
    let before = format!("{:?}", outbox.status());
    let refused = outbox.put(progress(known, 5, known.bytes + 1)).unwrap_err();
    assert!(matches!(refused, PutError::Untrue { .. }), "{refused}");
    let other = nexus_client::repairs::Repair { bytes: 4_096, ..known };
    let refused = outbox.put(finish(other, 5, RepairOutcome::Completed)).unwrap_err();
    assert!(matches!(refused, PutError::OtherRepair { id } if id == known.id), "{refused}");
    assert_eq!(outbox.put(start(known, 5)).unwrap(), Put::Superfluous);
    assert_eq!(outbox.put(start(known, 4)).unwrap(), Put::Superfluous, "of an older epoch");
    assert_eq!(format!("{:?}", outbox.status()), before);
    assert_eq!(outbox.put(start(known, 6)).unwrap(), Put::Kept, "the same fill, under a newer epoch");
    outbox.put(finish(known, 6, RepairOutcome::Interrupted)).unwrap();
    assert_eq!(outbox.put(finish(known, 6, RepairOutcome::Interrupted)).unwrap(), Put::Superfluous);
    for late in [start(known, 7), finish(known, 7, RepairOutcome::Completed)] {
        assert!(matches!(outbox.put(late), Err(PutError::HasEnded { id }) if id == known.id));
    }
    assert_eq!(outbox.status().waiting, 2);
}

#[test]
fn a_disk_that_takes_no_writes_is_told_and_what_was_told_is_not_told_again() {
    let (_, disk, storage) = disk();
    let mut outbox = open(&storage);
    outbox.put(start(repair(1), 5)).unwrap();
    disk.set_capacity(0);
    let refused = outbox.put(start(repair(2), 5)).unwrap_err();
    assert!(matches!(&refused, PutError::Write { source, .. } if source.is_no_space()), "{refused}");
    assert_eq!(outbox.status().repairs, 1);
    let notice = outbox.next(NOW).unwrap();
    outbox.answered(NOW, &notice, Answer::Taken).unwrap_err();
    assert_eq!(outbox.next(NOW), None);
    disk.set_capacity(16 << 20);
    outbox.put(start(repair(2), 5)).unwrap();
    assert_eq!(open(&storage).next(NOW).map(|notice| notice.repair().id), Some(repair(2).id));
}

#[test]
fn a_file_with_any_bit_flipped_or_of_another_format_is_refused_and_left_as_it_is() {
    let (_, disk, storage) = disk();
    open(&storage).put(start(repair(1), 5)).unwrap();
    let before = storage.metadata(PATH.into()).unwrap().size;
    for offset in 0..before {
        disk.flip_bit(PATH.into(), offset).unwrap();
        let refused = Outbox::open(Arc::clone(&storage), PATH.into()).unwrap_err();
        assert!(refused.to_string().contains(PATH), "{refused}");
        disk.flip_bit(PATH.into(), offset).unwrap();
    }
    assert_eq!(open(&storage).status().waiting, 1);
    durable_fs::write_atomically(&storage, "test", PATH.into(), b"{\"format\":3,\"more\":[]}").unwrap();
    let refused = Outbox::open(storage, PATH.into()).unwrap_err();
    assert!(matches!(refused, OpenError::UnknownFormat { found: 3, .. }), "{refused}");
}

#[test]
fn a_file_of_the_format_before_is_read_and_is_of_the_new_one_when_it_is_written() {
    let (_, _, storage) = disk();
    let text = || {
        let file = storage.open(PATH.into()).unwrap();
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().size).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    open(&storage).put(start(repair(1), 5)).unwrap();
    // What was new with the second format is not there yet.
    let new = text();
    assert!(new.starts_with(r#"{"format":2,"#) && !new.contains("bytes_done"), "{new}");
    let old = new.replacen(r#"{"format":2,"#, r#"{"format":1,"#, 1);
    durable_fs::write_atomically(&storage, "test", PATH.into(), old.as_bytes()).unwrap();
    let mut outbox = open(&storage);
    assert_eq!((outbox.status().waiting, text()), (1, old));
    outbox.put(progress(repair(1), 5, 1 << 29)).unwrap();
    let newer = text();
    assert!(
        newer.starts_with(r#"{"format":2,"#) && newer.contains(r#""bytes_done":536870912,"start""#),
        "{newer}"
    );
    assert_eq!(open(&storage).status().repairs, 1);
}

#[test]
fn sequence_numbers_are_never_given_again_whatever_was_not_written() {
    let (machine, _, storage) = disk();
    let mut coordinator = Coordinator::new(0);
    for life in 0..5 {
        let mut outbox = open(&storage);
        let repair = repair(life + 1);
        outbox.put(start(repair, 5)).unwrap();
        for bytes in 1..=2_000 {
            outbox.put(progress(repair, 5, bytes)).unwrap();
            let notice = outbox.next(NOW).unwrap();
            // Which fails if the same place in the order is another notice's.
            coordinator.note(&notice);
            outbox.answered(NOW, &notice, Answer::Taken).unwrap();
        }
        machine.crash(life as u64);
    }
    assert!(notice_of(&coordinator).len() >= 10_000);
}
