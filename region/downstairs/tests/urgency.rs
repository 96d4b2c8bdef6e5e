//! Who lets others go first: the thread that fills a member, until that is full. Its own process, so that no other one has such threads.

#[path = "server/parts.rs"]
mod parts;

use camino::Utf8Path;
use parts::{Served, region};
use region::{List, ListVersion, Member, Position};
use region_wire::{BlockCopy, Blocks, Haste, Reply, Request};
use std::{collections::BTreeSet, fs};

/// The nice values of the threads that read connections. What follows a thread's name is of fields with spaces between; see `proc_pid_stat(5)`.
fn nice_of_readers() -> BTreeSet<i32> {
    const NICE: usize = 19 - 3;
    let threads = Utf8Path::new("/proc/self/task").read_dir_utf8().expect("it is there");
    let stat = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let readers = stat.filter_map(|stat| stat.split_once("(reader) ").map(|(_, rest)| rest.to_owned()));
    readers.map(|rest| rest.split(' ').nth(NICE).expect("it has it").parse().expect("a number")).collect()
}

fn own_nice() -> i32 {
    rustix::process::getpriority_process(None).expect("it can be asked")
}

/// Only who may be as nice as before can be nicer for a while.
fn may_be_nicer_for_a_while() -> bool {
    let tried = std::thread::spawn(|| {
        let usual = own_nice();
        rustix::process::setpriority_process(None, usual + 1).expect("everybody may");
        rustix::process::setpriority_process(None, usual).is_ok()
    });
    tried.join().expect("it ends")
}

#[test]
fn who_fills_a_member_lets_others_go_first_beside_clients_until_it_is_full() {
    let (usual, nicer) = (own_nice(), may_be_nicer_for_a_while());
    let served = Served::new(1);
    let mut peer = served.promoted(1, 1);
    // The thread is as it is to be when the second of two batches is answered.
    let ping = |peer: &mut parts::Peer, id| {
        peer.say(&[Request::Ping { id }]);
        assert_eq!(peer.hear(), Some(Reply::Pong { id }));
    };
    let beside_clients = if nicer { (usual + 5).min(19) } else { usual };
    for (haste, expected) in [(Haste::Alone, usual), (Haste::Later, beside_clients)] {
        let copy = BlockCopy::Never(Blocks { first: 0, count: 1 });
        peer.say(&[Request::Install { id: 1, copy, haste }]);
        assert!(matches!(peer.hear(), Some(Reply::Taken { id: 1, .. })));
        ping(&mut peer, 2);
        assert_eq!(nice_of_readers(), BTreeSet::from([expected]), "{haste:?}");
    }
    let full = vec![Member { region: region(1), incarnation: 1 }];
    let list = List { version: ListVersion { epoch: 1, number: 1 }, base: Position::NONE, full };
    peer.say(&[Request::SetList { id: 3, list }]);
    assert_eq!(peer.hear(), Some(Reply::ListKept { id: 3 }));
    ping(&mut peer, 4);
    assert_eq!(nice_of_readers(), BTreeSet::from([usual]));
}
