//! Other doors than the first: opened and closed while clients are at work.

use crate::{
    client::{Client, EPERM, ESHUTDOWN, FLUSH, READ, request, write},
    site::{BLOCK, LIMIT, Site, of_set},
};
use camino::Utf8PathBuf;
use std::{
    io::{ErrorKind, Read},
    net::TcpListener,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};
use volume_export::{
    Address, ClosedDoor, DOORS_MAX, DoorError, DoorId, DoorOrder, ExportError, Handle, NoAnswer, OpenDoor,
};

/// Clients of a door are cut off after so long, whatever is under way.
const CLOSE_MAX: Duration = Duration::from_secs(5);

fn order(path: Utf8PathBuf, is_read_only: bool) -> DoorOrder {
    DoorOrder { address: Address::Unix(path), name: String::new(), is_read_only, clients_max: 4 }
}

/// A door at a socket of this name.
fn open(site: &Site, name: &str, is_read_only: bool) -> (DoorId, Utf8PathBuf) {
    let path = site.place(name);
    let opened = site.handle.open_door(order(path.clone(), is_read_only)).unwrap().unwrap();
    assert_eq!(opened.address, Address::Unix(path.clone()));
    (opened.id, path)
}

fn close(handle: &Handle, door: DoorId, is_forced: bool) -> Result<ClosedDoor, DoorError> {
    handle.close_door(door, is_forced).unwrap()
}

/// Nobody listens there, and nothing is left.
fn is_gone(path: &Utf8PathBuf) {
    assert_eq!(UnixStream::connect(path).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_door_is_used_while_others_are_and_is_closed_when_nobody_is_in() {
    let site = Site::start();
    let mut first = site.client();
    let (writes, write_path) = open(&site, "rw", false);
    let (reads, read_path) = open(&site, "ro", true);
    assert_ne!(writes, reads);
    let (mut writer, mut reader) = (Client::connect(&write_path), Client::connect(&read_path));
    writer.write(5, &[5; BLOCK]);
    assert!(reader.read(5, BLOCK) == [5; BLOCK] && first.read(5, BLOCK) == [5; BLOCK]);
    reader.say(&write(1, 5, &[6; BLOCK]));
    assert_eq!(reader.reply(), (EPERM, 1));
    let told = site.status();
    assert_eq!(told.clients, 3);
    let [one, other] = &told.doors[..] else { panic!("{told:?}") };
    assert_eq!((one.id, one.read_only, one.clients, one.clients_max), (writes, false, 1, 4));
    assert_eq!((other.id, other.read_only, other.clients), (reads, true, 1));
    assert_eq!(one.listen, format!("unix:{write_path}"));

    // Somebody is in: nothing has changed.
    let in_use = |id| Err(DoorError::InUse { id, clients: 1 });
    assert_eq!(
        (close(&site.handle, writes, false), close(&site.handle, reads, false)),
        (in_use(writes), in_use(reads))
    );
    writer.write(5, &[7; BLOCK]);
    assert!(Client::connect(&read_path).read(5, BLOCK) == [7; BLOCK]);
    // Who does not shake hands does not use it.
    let mut silent = Client::silent(&read_path);
    drop(reader);
    site.wait(|status| status.doors[1].clients == 0);
    let flushes = of_set(&site.status()).totals.flushes;
    assert_eq!(close(&site.handle, reads, false), Ok(ClosedDoor { clients: 0, is_flushed: true }));
    assert_eq!(of_set(&site.status()).totals.flushes, flushes, "nobody has written there");
    is_gone(&read_path);
    // It is greeted, and cut off.
    assert!(silent.read_to_end(&mut Vec::new()).is_ok_and(|count| [0, 18].contains(&count)));
    for is_forced in [false, true] {
        assert_eq!(close(&site.handle, reads, is_forced), Err(DoorError::NotThere(reads)));
        // The first one is nobody's to close.
        assert_eq!(close(&site.handle, DoorId(0), is_forced), Err(DoorError::NotThere(DoorId(0))));
    }
    writer.write(6, &[8; BLOCK]);
    assert!(first.read(6, BLOCK) == [8; BLOCK]);
    // The same place again is another door.
    let (again, path) = open(&site, "ro", true);
    assert_ne!(again, reads);
    assert!(Client::connect(&path).read(6, BLOCK) == [8; BLOCK]);
}

#[test]
fn who_is_cut_off_has_the_answer_to_what_it_has_asked_and_what_it_has_written_is_durable() {
    let site = Site::start_unactivated();
    let (door, path) = open(&site, "rw", false);
    let (mut first, mut client) = (site.client(), Client::connect(&path));
    client.say(&write(1, 5, &[1; BLOCK]));
    site.wait(|status| of_set(status).jobs.waiting == 1);
    let handle = site.handle.clone();
    let closing = thread::spawn(move || close(&handle, door, true));
    site.wait(|status| status.doors.is_empty());
    is_gone(&path);
    // What is asked from now on is not done, and told.
    client.say(&write(2, 6, &[2; BLOCK]));
    assert_eq!(client.reply(), (ESHUTDOWN, 2));
    client.say(&request(READ, 3, 0, BLOCK));
    assert_eq!(client.reply(), (ESHUTDOWN, 3));
    client.say(&request(FLUSH, 4, 0, 0));
    assert_eq!(client.reply(), (ESHUTDOWN, 4));
    assert_eq!(close(&site.handle, door, true), Err(DoorError::NotThere(door)), "it is being closed");
    assert!(!closing.is_finished());
    let began = Instant::now();
    site.handle.activate();
    assert_eq!(client.reply(), (0, 1));
    client.is_closed();
    assert_eq!(closing.join().unwrap(), Ok(ClosedDoor { clients: 1, is_flushed: true }));
    assert!(began.elapsed() < CLOSE_MAX, "nobody was waited for");
    assert_eq!(of_set(&site.status()).totals.flushes, 1);
    assert!(first.read(5, BLOCK) == [1; BLOCK] && first.read(6, BLOCK) == [0; BLOCK]);
}

#[test]
fn a_door_is_gone_in_time_also_if_nothing_is_answered_or_its_client_takes_no_answer() {
    const PAYLOAD: usize = 1 << 20;
    let site = Site::start();
    let (door, path) = open(&site, "rw", false);
    let mut deaf = Client::connect(&path);
    deaf.say(&(0..64).flat_map(|cookie| request(READ, cookie, 0, PAYLOAD)).collect::<Vec<u8>>());
    site.wait(|status| of_set(status).totals.reads > 0);
    let began = Instant::now();
    // Whether it was flushed is not known before all is answered.
    assert_eq!(close(&site.handle, door, true), Ok(ClosedDoor { clients: 1, is_flushed: false }));
    assert!((CLOSE_MAX..LIMIT / 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    site.wait(|status| status.clients == 0);
    assert!(site.client().read(0, BLOCK) == [0; BLOCK]);

    let waits = Site::start_unactivated();
    let (door, path) = open(&waits, "rw", false);
    let (mut first, mut client) = (waits.client(), Client::connect(&path));
    client.say(&write(1, 5, &[1; BLOCK]));
    first.say(&write(1, 6, &[1; BLOCK]));
    waits.wait(|status| of_set(status).jobs.waiting == 2);
    assert_eq!(close(&waits.handle, door, true), Ok(ClosedDoor { clients: 1, is_flushed: false }));
    client.is_closed();
    waits.handle.activate();
    assert_eq!(first.reply(), (0, 1), "it was nobody's to cut off");
}

#[test]
fn clients_and_doors_are_bounded_and_nobody_takes_the_place_of_another_door() {
    let site = Site::start();
    let (door, path) = open(&site, "rw", false);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&path)).collect();
    let mut refused = Client::silent(&path);
    assert_eq!(refused.read_to_end(&mut Vec::new()).unwrap(), 0, "it is not even greeted");
    let told = site.status().doors.remove(0);
    assert_eq!((told.clients, told.clients_max, told.clients_refused), (4, 4, 1));
    let mut first = site.client();
    first.write(0, &[1; BLOCK]);
    clients.pop();
    site.wait(|status| status.doors[0].clients == 3);
    assert!(Client::connect(&path).read(0, BLOCK) == [1; BLOCK]);

    let more: Vec<DoorId> =
        (2..DOORS_MAX).map(|number| open(&site, &format!("door-{number}"), true).0).collect();
    let one_more = site.place("one-more");
    let full = site.handle.open_door(order(one_more.clone(), true)).unwrap();
    assert!(matches!(full, Err(ExportError::Doors(DOORS_MAX))), "{full:?}");
    is_gone(&one_more);
    close(&site.handle, more[0], false).unwrap();
    open(&site, "one-more", true);
    assert_eq!(close(&site.handle, door, true).map(|closed| closed.is_flushed), Ok(true));
}

#[test]
fn a_door_that_has_a_name_is_found_by_that_alone_and_a_port_is_given_to_one() {
    let site = Site::start();
    let path = site.place("named");
    let named = DoorOrder { name: "mine".to_owned(), ..order(path.clone(), false) };
    site.handle.open_door(named).unwrap().unwrap();
    assert!(Client::connect_by_name(&path, "mine", &[]).is_ok());
    for other in ["", "other"] {
        let (kind, _) = Client::connect_by_name(&path, other, &[]).unwrap_err();
        assert_eq!(kind, 0x8000_0006, "no such export");
    }
    let at = |address: &str| {
        let address = Address::Tcp(address.parse().unwrap());
        site.handle.open_door(DoorOrder { address, ..order(path.clone(), true) }).unwrap()
    };
    let OpenDoor { address: Address::Tcp(address), id } = at("127.0.0.1:0").unwrap() else {
        panic!("a port")
    };
    assert_ne!(address.port(), 0);
    let taken = at(&address.to_string()).unwrap_err();
    let ExportError::Listen { source, .. } = &taken else { panic!("{taken}") };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
    // A socket at which somebody listens is his.
    let theirs = site.handle.open_door(order(site.socket(), true)).unwrap().unwrap_err();
    assert!(matches!(theirs, ExportError::Listen { .. }));
    close(&site.handle, id, false).unwrap();
    drop(TcpListener::bind(address).unwrap());
    // From an address that the machine does not have nobody is let in.
    let ExportError::Listen { source, .. } = at("192.0.2.1:0").unwrap_err() else { panic!("it listens") };
    assert_eq!(source.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn an_export_that_has_ended_leaves_no_door() {
    let mut site = Site::start();
    let (door, path) = open(&site, "rw", false);
    let mut client = Client::connect(&path);
    site.handle.stop();
    site.end().unwrap();
    client.is_closed();
    is_gone(&path);
    assert_eq!(site.handle.close_door(door, true), Err(NoAnswer::Gone));
    assert_eq!(site.handle.open_door(order(path.clone(), true)).unwrap_err(), NoAnswer::Gone);
    is_gone(&path);
}
