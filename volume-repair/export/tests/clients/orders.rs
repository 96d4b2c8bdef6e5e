//! What is ordered and asked at the control socket while clients wait.

use crate::{
    client::write,
    site::{BLOCK, LIMIT, Site, of_set},
};
use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};
use upstairs::PhaseName;
use volume_export::{Answer, NoAnswer, Request, ask};

/// Connections to the control socket at a time.
const CONNECTIONS_MAX: usize = 16;

/// All that is answered to these bytes.
fn says_to(site: &Site, bytes: &[u8]) -> String {
    let mut socket = UnixStream::connect(site.control_socket()).unwrap();
    // Whoever is refused may be cut off before all of it was heard.
    let _ = socket.write_all(bytes);
    let mut said = Vec::new();
    if let Err(error) =
        socket.shutdown(std::net::Shutdown::Write).and_then(|()| socket.read_to_end(&mut said))
    {
        assert!([ErrorKind::ConnectionReset, ErrorKind::NotConnected].contains(&error.kind()), "{error}");
    }
    String::from_utf8(said).unwrap()
}

#[test]
fn whatever_is_said_to_the_control_socket_a_client_waits_until_it_is_activated_there() {
    let site = Site::start_unactivated();
    let mut client = site.client();
    client.say(&write(1, 5, &[1; BLOCK]));
    site.wait(|status| of_set(status).jobs.waiting == 1);
    let mut long = br#"{"request":"activate","epoch":1"#.to_vec();
    long.resize(80_000, b' ');
    long.extend(b"}\n");
    for (said, code) in [
        (&b"\0\xff garbage\n"[..], "not_a_request"),
        (b"{\"request\":\"activate\"}\n", "not_a_request"),
        (b"{\"request\":\"activate\",\"epoch\":-1}\n", "not_a_request"),
        (b"{\"request\":\"activate\",\"epoch\":1,\"more\":1}\n", "not_a_request"),
        (b"{\"request\":\"activate\",\"epoch\":0}\n", "no_epoch"),
        (&long, "line_too_long"),
    ] {
        let answer = says_to(&site, said);
        assert!(answer.starts_with(&format!("{{\"refused\":{{\"code\":\"{code}\"")), "{answer}");
    }
    // Half a line is nothing.
    assert_eq!(says_to(&site, b"{\"request\":\"activate\",\"epoch\":1}"), "");
    assert_eq!(of_set(&site.status()).phase, PhaseName::Idle);
    assert_eq!(ask(&site.control_socket(), &Request::Activate { epoch: 1 }).unwrap(), Answer::Done);
    assert_eq!(client.reply(), (0, 1));
}

#[test]
fn many_that_ask_at_once_are_each_answered_and_clients_are_served_meanwhile() {
    let site = Site::start();
    let mut client = site.client();
    client.write(5, &[1; BLOCK]);
    thread::scope(|scope| {
        // As many as may be connected, again and again on one connection.
        for _ in 0..CONNECTIONS_MAX {
            scope.spawn(|| {
                let bytes = b"{\"request\":\"status\"}\n".repeat(20);
                let said = says_to(&site, &bytes);
                assert_eq!(said.lines().filter(|line| line.starts_with("{\"status\"")).count(), 20, "{said}");
            });
        }
        for _ in 0..50 {
            assert!(client.read(5, BLOCK) == [1; BLOCK]);
        }
    });
    // Far more than may be: each is told so, or answered; and none of them is forgotten.
    let answered: usize = thread::scope(|scope| {
        let ask = || says_to(&site, b"{\"request\":\"status\"}\n");
        let all: Vec<_> = (0..4 * CONNECTIONS_MAX).map(|_| scope.spawn(ask)).collect();
        let is_answer = |said: String| {
            let is_busy = said.is_empty() || said.starts_with("{\"refused\":{\"code\":\"busy\"");
            assert!(is_busy || said.starts_with("{\"status\""), "{said}");
            usize::from(!is_busy)
        };
        all.into_iter().map(|one| is_answer(one.join().unwrap())).sum()
    });
    assert!(answered >= CONNECTIONS_MAX, "{answered}");
    assert!(client.read(5, BLOCK) == [1; BLOCK]);
}

/// Comparisons that are waited for at a time.
const COMPARED_AT_A_TIME: u64 = 64;

#[test]
fn one_comparison_too_many_is_refused_and_those_that_nobody_waits_for_end() {
    let site = Site::start_unactivated();
    let waiting = || of_set(&site.status()).jobs.waiting;
    let mut all = Vec::new();
    for number in 1..=COMPARED_AT_A_TIME {
        all.push(site.handle.compare(0, 1).unwrap());
        assert_eq!(waiting(), number);
    }
    let refused = site.handle.compare(0, 1).unwrap();
    assert_eq!(refused.wait(LIMIT), Err(NoAnswer::Full));
    all.truncate(5);
    // There is a place at once, and nobody asks members for nothing.
    all.push(site.handle.compare(0, 1).unwrap());
    assert_eq!(waiting(), 6);
    all.clear();
    site.wait(|status| of_set(status).jobs.waiting == 0);
}

#[test]
fn a_comparison_ends_if_whoever_asked_at_the_control_socket_has_gone() {
    let mut site = Site::start();
    site.wait(|status| status.volume.phase() == PhaseName::Active);
    site.stop_members();
    let mut asker = UnixStream::connect(site.control_socket()).unwrap();
    asker.write_all(b"{\"request\":\"compare\",\"first\":0,\"count\":4}\n").unwrap();
    site.wait(|status| of_set(status).jobs.background == 1);
    drop(asker);
    let began = Instant::now();
    site.wait(|status| of_set(status).jobs.background == 0);
    // Whoever stays is answered after 20 s, that nobody was there.
    assert!(began.elapsed() < Duration::from_secs(10));
}
