//! The storage port's contract: one suite, run on the real disk, the simulated one, and a faulty one without faults.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::Utf8Path;
use durable_fs::{
    DiskFaults, FaultyDisk, InPlaceFile, PendingFile, RealDisk, SimMachine, Storage, write_atomically,
};
use std::{io::IoSlice, sync::Arc};

/// Runs every claim of the suite on a fresh disk from `make`.
fn suite(make: impl Fn() -> Arc<dyn Storage>) {
    what_was_written_is_read_back(&*make());
    a_new_file_must_not_exist(&*make());
    appending_goes_to_the_end_and_makes_a_missing_file(&*make());
    renaming_replaces_and_open_readers_keep_the_old_file(&*make());
    missing_things_are_not_found(&*make());
    listing_is_sorted_and_tells_sizes(&*make());
    what_is_no_file_is_listed_apart_and_can_be_moved_away(&*make());
    read_only_is_kept_and_seen(&*make());
    changing_a_file_moves_its_time(&*make());
    space_is_told_and_full_is_no_space(&*make());
    publishing_leaves_no_temporary_file(&make());
    dropping_a_pending_file_removes_it(&make());
    an_interrupted_control_file_is_written_over(&make());
    in_place_bytes_are_written_anywhere_and_gaps_are_zeros(&*make());
    reserved_space_is_there_and_more_than_there_is_is_refused(&*make());
    what_is_written_through_is_read_however_it_lies(&*make());
    a_longer_file_has_zeros_behind_what_it_had(&*make());
    no_byte_is_before_the_next_data(&*make());
}

#[test]
fn real_disk_keeps_the_contract() {
    let dirs = std::cell::RefCell::new(Vec::new());
    suite(|| {
        let dir = camino_tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path());
        dirs.borrow_mut().push(dir);
        Arc::new(disk)
    });
}

#[test]
fn simulated_disk_keeps_the_contract() {
    suite(|| Arc::new(SimMachine::new().add_disk(8 << 20)));
}

#[test]
fn faulty_disk_without_faults_keeps_the_contract() {
    suite(|| Arc::new(FaultyDisk::new(SimMachine::new().add_disk(8 << 20), DiskFaults::new())));
}

fn what_is_no_file_is_listed_apart_and_can_be_moved_away(disk: &dyn Storage) {
    disk.create_directory("artifacts".into()).unwrap();
    disk.create_directory("artifacts/d".into()).unwrap();
    disk.create_new("artifacts/f".into()).unwrap();
    assert_eq!(disk.list("artifacts".into()).unwrap().len(), 1);
    assert_eq!(disk.list_irregular("artifacts".into()).unwrap(), ["d"]);
    assert!(!disk.metadata("artifacts/d".into()).unwrap().is_file);
    assert!(disk.metadata("artifacts/f".into()).unwrap().is_file);
    assert!(disk.open("artifacts/d".into()).unwrap_err().is_not_a_file());
    disk.rename("artifacts/d".into(), "artifacts/e".into()).unwrap();
    assert_eq!(disk.list_irregular("artifacts".into()).unwrap(), ["e"]);
    assert!(disk.list_irregular("nothing".into()).unwrap_err().is_not_found());
}

#[test]
fn pipes_links_and_sockets_are_refused_at_once_and_never_followed() {
    let dir = camino_tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path());
    disk.create_new("file".into()).unwrap().write_all(b"x").unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let path = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, path.as_std_path(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let names = ["dangling", "link", "pipe", "socket"];
    assert_eq!(disk.list_irregular("".into()).unwrap(), names);
    assert_eq!(disk.list("".into()).unwrap().len(), 1);
    for name in names {
        assert!(!disk.metadata(name.into()).unwrap().is_file, "{name}");
        assert!(disk.open(name.into()).unwrap_err().is_not_a_file(), "{name}");
        assert!(disk.open_append(name.into()).unwrap_err().is_not_a_file(), "{name}");
    }
    assert!(disk.sync_directory("pipe".into()).is_err());
}

#[test]
fn two_paths_to_one_directory_have_one_identity() {
    let dir = camino_tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::create_dir(dir.path().join("b")).unwrap();
    std::os::unix::fs::symlink("a", dir.path().join("c")).unwrap();
    let identity = |name| RealDisk::new(dir.path().join(name)).identity().unwrap().unwrap();
    assert_eq!(identity("a"), identity("c"));
    assert_ne!(identity("a"), identity("b"));
}

#[test]
fn a_real_root_may_appear_later() {
    let dir = camino_tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path().join("m2"));
    assert!(disk.list("".into()).unwrap_err().is_not_found());
    std::fs::create_dir(dir.path().join("m2")).unwrap();
    assert_eq!(disk.list("".into()).unwrap(), []);
}

#[test]
fn flipping_a_bit_changes_bytes_and_nothing_else() {
    let dir = camino_tempfile::tempdir().unwrap();
    let real = RealDisk::new(dir.path());
    flips_quietly(&real, || real.flip_bit("a".into(), 1).unwrap());
    let sim = SimMachine::new().add_disk(1 << 20);
    flips_quietly(&sim, || sim.flip_bit("a".into(), 1).unwrap());
}

fn flips_quietly(disk: &dyn Storage, flip: impl Fn()) {
    let mut file = disk.create_new("a".into()).unwrap();
    file.write_all(b"abc").unwrap();
    file.set_read_only().unwrap();
    file.sync().unwrap();
    let before = disk.metadata("a".into()).unwrap();
    flip();
    assert_eq!(disk.metadata("a".into()).unwrap(), before);
    assert_eq!(read(disk, "a"), b"acc");
}

fn what_was_written_is_read_back(disk: &dyn Storage) {
    let mut file = disk.create_new("a".into()).unwrap();
    let mut slices = [IoSlice::new(b""), IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
    file.write_all_vectored(&mut slices).unwrap();
    file.write_all(b" three").unwrap();
    file.start_writeback(0, 8);
    file.sync().unwrap();
    assert_eq!(read(disk, "a"), b"one two three");
    let reader = disk.open("a".into()).unwrap();
    reader.drop_cache();
    let mut middle = [0; 3];
    assert_eq!(reader.read_at(4, &mut middle).unwrap(), 3);
    assert_eq!(&middle, b"two");
    assert_eq!(reader.read_at(11, &mut [0; 9]).unwrap(), 2, "a read stops at the end");
    assert_eq!(reader.read_at(99, &mut [0; 9]).unwrap(), 0, "behind the end is nothing");
    assert_eq!(reader.metadata().unwrap().size, 13);
}

fn a_new_file_must_not_exist(disk: &dyn Storage) {
    disk.create_new("a".into()).unwrap();
    assert!(disk.create_new("a".into()).unwrap_err().is_already_exists());
    disk.create_directory("d".into()).unwrap();
    assert!(disk.create_directory("d".into()).unwrap_err().is_already_exists());
}

fn appending_goes_to_the_end_and_makes_a_missing_file(disk: &dyn Storage) {
    for line in ["one\n", "two\n"] {
        disk.open_append("log".into()).unwrap().write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(read(disk, "log"), b"one\ntwo\n");
}

fn renaming_replaces_and_open_readers_keep_the_old_file(disk: &dyn Storage) {
    disk.create_directory("d".into()).unwrap();
    disk.create_new("a".into()).unwrap().write_all(b"new").unwrap();
    disk.create_new("d/b".into()).unwrap().write_all(b"old").unwrap();
    let reader = disk.open("d/b".into()).unwrap();
    disk.rename("a".into(), "d/b".into()).unwrap();
    assert_eq!(read(disk, "d/b"), b"new");
    let mut old = [0; 3];
    reader.read_at(0, &mut old).unwrap();
    assert_eq!(&old, b"old");
    assert!(disk.metadata("a".into()).unwrap_err().is_not_found());
    disk.sync_directory("d".into()).unwrap();
    disk.sync_directory("".into()).unwrap();
}

fn missing_things_are_not_found(disk: &dyn Storage) {
    let nothing = Utf8Path::new("nothing");
    assert!(disk.open(nothing).unwrap_err().is_not_found());
    assert!(disk.remove(nothing).unwrap_err().is_not_found());
    assert!(disk.metadata(nothing).unwrap_err().is_not_found());
    assert!(disk.list(nothing).unwrap_err().is_not_found());
    assert!(disk.rename(nothing, "b".into()).unwrap_err().is_not_found());
    assert!(disk.sync_directory(nothing).unwrap_err().is_not_found());
    assert!(disk.create_new("no/where".into()).unwrap_err().is_not_found());
}

fn listing_is_sorted_and_tells_sizes(disk: &dyn Storage) {
    disk.create_directory("d".into()).unwrap();
    for name in ["d/b", "d/a", "c"] {
        disk.create_new(name.into()).unwrap().write_all(name.as_bytes()).unwrap();
    }
    let listed = |path: &str| -> Vec<(String, u64)> {
        let entries = disk.list(path.into()).unwrap();
        entries.into_iter().map(|entry| (entry.name, entry.metadata.size)).collect()
    };
    assert_eq!(listed("d"), [("a".to_owned(), 3), ("b".to_owned(), 3)]);
    assert_eq!(listed(""), [("c".to_owned(), 1)], "directories are left out");
    disk.remove("d/a".into()).unwrap();
    assert_eq!(listed("d"), [("b".to_owned(), 3)]);
}

fn read_only_is_kept_and_seen(disk: &dyn Storage) {
    let mut file = disk.create_new("a".into()).unwrap();
    assert!(!file.metadata().unwrap().read_only);
    file.set_read_only().unwrap();
    file.write_all(b"through the open file").unwrap();
    file.sync().unwrap();
    assert!(disk.metadata("a".into()).unwrap().read_only);
}

fn changing_a_file_moves_its_time(disk: &dyn Storage) {
    let mut file = disk.create_new("a".into()).unwrap();
    file.write_all(b"x").unwrap();
    file.sync().unwrap();
    let before = file.metadata().unwrap();
    assert!(before.modified_ns > 1_600_000_000_000_000_000, "nanoseconds since 1970");
    assert_eq!(disk.metadata("a".into()).unwrap(), before, "the open file and the name say the same");
    disk.rename("a".into(), "b".into()).unwrap();
    assert_eq!(disk.metadata("b".into()).unwrap(), before, "a rename is no change of content");
}

fn space_is_told_and_full_is_no_space(disk: &dyn Storage) {
    let space = disk.space().unwrap();
    assert!(space.capacity >= space.available && space.available > 0, "{space:?}");
}

fn publishing_leaves_no_temporary_file(disk: &Arc<dyn Storage>) {
    disk.create_directory("tmp".into()).unwrap();
    let mut file = PendingFile::create(Arc::clone(disk), "test", "tmp/x".into()).unwrap();
    file.write(&mut [IoSlice::new(b"bytes")]).unwrap();
    assert_eq!(file.written(), 5);
    let sealed = file.seal(true).unwrap();
    let metadata = sealed.publish("a".into()).unwrap();
    assert_eq!(disk.metadata("a".into()).unwrap(), metadata);
    assert!(metadata.read_only);
    assert_eq!(disk.list("tmp".into()).unwrap(), []);
}

fn dropping_a_pending_file_removes_it(disk: &Arc<dyn Storage>) {
    let mut file = PendingFile::create(Arc::clone(disk), "test", "x".into()).unwrap();
    file.write(&mut [IoSlice::new(b"bytes")]).unwrap();
    drop(file);
    let sealed = PendingFile::create(Arc::clone(disk), "test", "y".into()).unwrap().seal(false).unwrap();
    drop(sealed);
    assert_eq!(disk.list("".into()).unwrap(), []);
}

fn an_interrupted_control_file_is_written_over(disk: &Arc<dyn Storage>) {
    disk.create_new("state.new".into()).unwrap().write_all(b"torn").unwrap();
    for content in ["one", "two"] {
        write_atomically(disk, "state", "state".into(), content.as_bytes()).unwrap();
        assert_eq!(read(&**disk, "state"), content.as_bytes());
        assert_eq!(disk.list("".into()).unwrap().len(), 1);
    }
}

fn read(disk: &dyn Storage, path: &str) -> Vec<u8> {
    let file = disk.open(path.into()).unwrap();
    let mut bytes = vec![0; 100];
    let read = file.read_at(0, &mut bytes).unwrap();
    bytes.truncate(read);
    bytes
}

fn in_place_bytes_are_written_anywhere_and_gaps_are_zeros(disk: &dyn Storage) {
    let file = disk.create_in_place("f".into()).unwrap();
    assert!(disk.create_in_place("f".into()).is_err(), "it must not exist");
    file.write_all_at(10, &mut [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")]).unwrap();
    file.write_all_at(11, &mut [IoSlice::new(b"B")]).unwrap();
    assert_eq!(file.size().unwrap(), 14);
    file.sync_data().unwrap();
    let mut bytes = [9; 8];
    disk.open_in_place("f".into()).unwrap().read_exact_at(8, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0aBcd\0\0", "also behind its end");
    assert!(disk.open_in_place("g".into()).unwrap_err().is_not_found());
}

/// The bytes that lie there, read into a place of just their size, and behind others.
fn read_in_place(file: &dyn InPlaceFile, offset: u64, length: usize) -> Vec<u8> {
    let mut exact = Vec::with_capacity(length);
    file.append_exact_at(offset, length, &mut exact).unwrap();
    let mut behind = vec![7];
    file.append_exact_at(offset, length, &mut behind).unwrap();
    assert_eq!((behind[0], &behind[1..]), (7, &exact[..]));
    exact
}

fn what_is_written_through_is_read_however_it_lies(disk: &dyn Storage) {
    let file = disk.create_in_place("f".into()).unwrap();
    let content = |seed: u8, length: usize| -> Vec<u8> {
        (0..length).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap())).collect()
    };
    let mut model = vec![0; 4 << 20];
    // In the cache, partly, before: aligned and large, unaligned, small, more than one piece.
    for (seed, offset, length) in
        [(1, 4096, 2 << 20), (2, 8192, 128 << 10), (3, 8191, 256 << 10), (4, 0, 4096), (5, 4096, 3 << 20)]
    {
        let bytes = content(seed, length);
        if seed == 1 {
            file.write_all_at(offset, &mut [IoSlice::new(&bytes)]).unwrap();
        } else {
            // However it is cut.
            let (first, rest) = bytes.split_at(length / 3);
            let mut slices = [first, &[], rest].map(IoSlice::new);
            file.write_through_at(offset, &mut slices).unwrap();
        }
        let start = usize::try_from(offset).unwrap();
        model[start..start + length].copy_from_slice(&bytes);
        assert!(read_in_place(&*file, 0, model.len()) == model, "behind write {seed}");
    }
    // From memory that lies as the medium wants it, in one piece and in two.
    let memory = content(6, (512 << 10) + 4096);
    let start = memory.as_ptr().align_offset(4096);
    let aligned = &memory[start..start + (512 << 10)];
    for (offset, cut) in [(4096, 0), (1 << 20, 128 << 10), (2 << 20, 100)] {
        let (first, rest) = aligned.split_at(cut);
        file.write_through_at(offset, &mut [first, &[], rest].map(IoSlice::new)).unwrap();
        let at = usize::try_from(offset).unwrap();
        model[at..at + aligned.len()].copy_from_slice(aligned);
        assert!(read_in_place(&*file, 0, model.len()) == model, "of aligned memory, at {offset}");
    }
    file.sync_data().unwrap();
    let again = disk.open_in_place("f".into()).unwrap();
    assert!(read_in_place(&*again, 0, model.len()) == model);
    assert_eq!(again.size().unwrap(), 4096 + (3 << 20));
}

fn no_byte_is_before_the_next_data(disk: &dyn Storage) {
    let file = disk.create_in_place("f".into()).unwrap();
    file.reserve(0, 4 << 20).unwrap();
    let written = [(1 << 20) + 5_000, (1 << 20) + 70_000, (3 << 20) + 1];
    for at in written {
        file.write_all_at(at, &mut [IoSlice::new(b"x")]).unwrap();
    }
    for is_synced in [false, true] {
        for from in [0, 1 << 20, written[0], written[0] + 1, written[1], written[2], written[2] + 1, 4 << 20]
        {
            let is = file.next_data(from);
            let first = written.into_iter().find(|at| *at >= from);
            assert!(is.is_none_or(|at| at >= from), "{from} {is:?}");
            assert!(first.is_none_or(|first| is.is_some_and(|at| at <= first)), "{from} {is:?} {first:?}");
        }
        if !is_synced {
            file.sync_data().unwrap();
        }
    }
}

#[test]
fn what_was_never_written_is_passed_over() {
    let dir = camino_tempfile::tempdir().unwrap();
    let disks: [Box<dyn Storage>; 2] =
        [Box::new(RealDisk::new(dir.path())), Box::new(SimMachine::new().add_disk(64 << 20))];
    for disk in disks {
        let file = disk.create_in_place("f".into()).unwrap();
        file.reserve(0, 4 << 20).unwrap();
        assert_eq!(file.next_data(0), None, "{disk:?}");
        file.write_all_at(3 << 20, &mut [IoSlice::new(b"x")]).unwrap();
        assert_eq!(file.next_data(1), Some(3 << 20), "{disk:?}");
    }
}

fn a_longer_file_has_zeros_behind_what_it_had(disk: &dyn Storage) {
    let file = disk.create_in_place("f".into()).unwrap();
    file.write_all_at(0, &mut [IoSlice::new(b"abc")]).unwrap();
    file.lengthen(8).unwrap();
    file.lengthen(2).unwrap();
    assert_eq!((file.size().unwrap(), &read_in_place(&*file, 0, 8)[..]), (8, &b"abc\0\0\0\0\0"[..]));
}

fn reserved_space_is_there_and_more_than_there_is_is_refused(disk: &dyn Storage) {
    let file = disk.create_in_place("f".into()).unwrap();
    file.reserve(100, 50).unwrap();
    file.reserve(0, 10).unwrap();
    file.reserve(7, 0).unwrap();
    assert_eq!(file.size().unwrap(), 150);
    file.write_all_at(149, &mut [IoSlice::new(b"x")]).unwrap();
    assert_eq!(file.size().unwrap(), 150);
    // More than any of the disks has.
    let refused = file.reserve(0, 1 << 50).unwrap_err();
    assert!(refused.is_no_space() || refused.source.raw_os_error() == Some(27), "{refused:?}");
    assert_eq!(file.size().unwrap(), 150, "nothing was changed");
}
