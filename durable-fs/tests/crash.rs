//! A power cut after every step of publishing: old or new, whole; and the simulated disk really forgets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use durable_fs::{PublishStep, SimDisk, SimMachine, Storage, write_atomically};
use std::{collections::BTreeSet, sync::Arc};

/// Enough crashes for every choice that a crash can make, many times over.
const SEEDS: u64 = 64;

fn read(disk: &dyn Storage, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(path.into()).ok()?;
    let mut bytes = vec![0; 10_000];
    let read = file.read_at(0, &mut bytes).unwrap();
    bytes.truncate(read);
    Some(bytes)
}

#[test]
fn a_crash_after_any_step_leaves_old_or_new() {
    for step in PublishStep::ALL {
        let mut left = BTreeSet::new();
        for seed in 0..SEEDS {
            let machine = SimMachine::new();
            let disk: Arc<dyn Storage> = Arc::new(machine.add_disk(1 << 20));
            let (old, new) = (vec![1; 3000], vec![2; 5000]);
            write_atomically(&disk, "state", "state".into(), &old).unwrap();
            machine.stop_at(step.of("state"), 1);
            write_atomically(&disk, "state", "state".into(), &new).unwrap_err();
            machine.crash(seed);
            let found = read(&*disk, "state").expect("the file is there");
            assert!(found == old || found == new, "{step:?}, seed {seed}: {} bytes", found.len());
            left.insert(found == new);
            write_atomically(&disk, "state", "state".into(), &new).unwrap();
            assert_eq!(read(&*disk, "state"), Some(new));
        }
        let expected: &[bool] = match step {
            PublishStep::Created | PublishStep::Written | PublishStep::Synced => &[false],
            PublishStep::Renamed => &[false, true],
            PublishStep::DirectorySynced => &[true],
        };
        assert_eq!(left.into_iter().collect::<Vec<_>>(), expected, "what a crash after {step:?} can leave");
    }
}

#[test]
fn a_crash_before_any_operation_leaves_old_or_new() {
    for changes in 0.. {
        let machine = SimMachine::new();
        let disk: Arc<dyn Storage> = Arc::new(machine.add_disk(1 << 20));
        write_atomically(&disk, "state", "state".into(), b"old").unwrap();
        machine.stop_after_changes(machine.changes() + changes);
        let finished = write_atomically(&disk, "state", "state".into(), b"new").is_ok();
        machine.crash(changes);
        let found = read(&*disk, "state").unwrap();
        assert!(found == b"old" || found == b"new", "after {changes} changes: {found:?}");
        assert!(!finished || found == b"new", "acknowledged, and lost");
        if finished {
            return;
        }
    }
}

/// Writes a file with each sync or without it, crashes in every way, and collects what can be left of it.
fn outcomes(sync_file: bool, sync_directory: bool) -> BTreeSet<Option<Vec<u8>>> {
    let crash = |seed| {
        let machine = SimMachine::new();
        let disk: SimDisk = machine.add_disk(1 << 20);
        let mut file = disk.create_new("a".into()).unwrap();
        file.write_all(&[7; 1500]).unwrap();
        if sync_file {
            file.sync().unwrap();
        }
        if sync_directory {
            disk.sync_directory("".into()).unwrap();
        }
        machine.crash(seed);
        assert!(file.write_all(b"x").is_err(), "a file of the machine's last life is dead");
        read(&disk, "a")
    };
    (0..SEEDS).map(crash).collect()
}

#[test]
fn what_was_synced_stays_and_what_was_not_may_be_lost_or_torn() {
    let whole = Some(vec![7; 1500]);
    assert_eq!(outcomes(true, true), BTreeSet::from([whole.clone()]));
    assert_eq!(outcomes(true, false), BTreeSet::from([None, whole.clone()]));
    let torn = outcomes(false, true);
    assert!(!torn.contains(&None) && torn.contains(&whole) && torn.contains(&Some(Vec::new())));
    assert!(torn.len() > 5, "torn in several ways: {}", torn.len());
}

#[test]
fn a_rename_that_was_not_synced_leaves_the_file_under_one_name_at_least() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let machine = SimMachine::new();
        let disk = machine.add_disk(1 << 20);
        for directory in ["from", "to"] {
            disk.create_directory(directory.into()).unwrap();
        }
        let mut file = disk.create_new("from/a".into()).unwrap();
        file.write_all(b"x").unwrap();
        file.sync().unwrap();
        disk.sync_directory("from".into()).unwrap();
        disk.sync_directory("".into()).unwrap();
        disk.rename("from/a".into(), "to/a".into()).unwrap();
        machine.crash(seed);
        seen.insert((read(&disk, "from/a").is_some(), read(&disk, "to/a").is_some()));
    }
    assert_eq!(seen, BTreeSet::from([(false, true), (true, false), (true, true)]));
}

#[test]
fn what_lies_in_a_lost_directory_is_lost() {
    let machine = SimMachine::new();
    let disk = machine.add_disk(1 << 20);
    let lost = (0..SEEDS).any(|seed| {
        let _ = disk.create_directory("d".into());
        if let Ok(mut file) = disk.create_new("d/a".into()) {
            file.sync().unwrap();
        }
        disk.sync_directory("d".into()).unwrap();
        machine.crash(seed);
        disk.metadata("d/a".into()).is_err()
    });
    assert!(lost, "the entry of \"d\" was never synced");
}

#[test]
fn what_a_killed_process_had_done_is_there_and_still_lost_by_a_later_power_cut() {
    let mut left = BTreeSet::new();
    for seed in 0..SEEDS {
        let machine = SimMachine::new();
        let disk: Arc<dyn Storage> = Arc::new(machine.add_disk(1 << 20));
        let mut open = disk.create_new("a".into()).unwrap();
        open.write_all(b"kept by the kernel").unwrap();
        machine.cut_power();
        machine.power_on();
        assert_eq!(read(&*disk, "a").unwrap(), b"kept by the kernel");
        assert!(open.write_all(b"x").is_err(), "the process that had it open is dead");
        machine.crash(seed);
        left.insert(read(&*disk, "a").is_some());
    }
    assert_eq!(left.len(), 2, "some crashes lose the name and some keep it");
}

/// Of two writes to one sector and one to another, unsynced: every mixture, also the first of the two alone; and sectors that are torn.
#[test]
fn a_crash_leaves_any_pieces_of_what_was_written_in_place_and_all_that_was_synced() {
    let (mut left, mut torn) = (BTreeSet::new(), 0);
    for seed in 0..SEEDS {
        let machine = SimMachine::new();
        let disk = machine.add_disk(1 << 20);
        let file = disk.create_in_place("f".into()).unwrap();
        disk.sync_directory("".into()).unwrap();
        let write = |offset, byte| {
            file.write_all_at(offset, &mut [std::io::IoSlice::new(&[byte; 512])]).unwrap();
        };
        write(1024, 1);
        file.sync_data().unwrap();
        write(0, 2);
        write(512, 3);
        write(0, 4);
        machine.crash(seed);
        let mut bytes = [9; 1536];
        disk.open_in_place("f".into()).unwrap().read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(bytes[1024..], [1; 512], "what was synced");
        let is_whole = |bytes: &[u8]| bytes.iter().all(|byte| *byte == bytes[0]);
        assert!(bytes.chunks(64).all(is_whole));
        torn += usize::from(!bytes.chunks(512).all(is_whole));
        if bytes.chunks(512).all(is_whole) {
            left.insert((bytes[0], bytes[512]));
        }
    }
    assert!(torn > 0, "no sector is ever torn");
    let all = [0, 2, 4].into_iter().flat_map(|first| [(first, 0), (first, 3)]);
    assert_eq!(left, all.collect(), "in {SEEDS} crashes");
}
