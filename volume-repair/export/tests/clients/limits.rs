//! Payloads and requests up to the limit and beyond it.

use crate::{
    client::{Client, EINVAL, ENOSPC, READ, request, write},
    site::{BLOCK, BLOCKS, LIMIT, Site, of_set},
};
use std::{
    io::Read,
    time::{Duration, Instant},
};

/// Bytes of one payload at most.
const PAYLOAD_MAX: usize = 32 << 20;

/// Requests of all clients that wait to be begun, before nothing more is read.
const WAITING_MAX: usize = 256;

/// What is on the way from a client with a small buffer at most, twice its size as the kernel counts, and what is read at once, twice.
const ON_THE_WAY_MAX: usize = 256 << 10;

#[test]
fn the_largest_payload_is_written_and_read_and_a_larger_one_ends_its_client() {
    let site = Site::start();
    let mut client = site.client();
    let payload: Vec<u8> = (0..PAYLOAD_MAX).map(|at| (at / 1_000 % 251) as u8).collect();
    client.write(3, &payload);
    assert!(client.read(3, PAYLOAD_MAX) == payload);

    // The head alone: nobody has to send what nobody takes.
    let mut greedy = site.client();
    greedy.say(&request(crate::client::WRITE, 1, 0, PAYLOAD_MAX + BLOCK));
    greedy.is_closed();
    assert!(client.read(3, PAYLOAD_MAX) == payload && client.read(0, BLOCK) == [0; BLOCK]);
}

#[test]
fn what_is_refused_is_told_by_its_code_and_the_connection_goes_on() {
    let site = Site::start();
    let mut client = site.client();
    let end = BLOCKS * BLOCK as u64;
    client.say(&request(READ, 1, 0, PAYLOAD_MAX + BLOCK));
    assert_eq!(client.reply(), (EINVAL, 1));
    // What comes with it is read, and not taken for requests.
    client.say(&write(2, BLOCKS - 1, &[2; 2 * BLOCK]));
    assert_eq!(client.reply(), (ENOSPC, 2));
    client.say(&write(3, BLOCKS, &vec![2; PAYLOAD_MAX]));
    assert_eq!(client.reply(), (ENOSPC, 3));
    client.say(&request(READ, 4, end - BLOCK as u64, 2 * BLOCK));
    assert_eq!(client.reply(), (EINVAL, 4));
    client.say(&request(READ, 5, 100, BLOCK));
    assert_eq!(client.reply(), (EINVAL, 5));
    assert!(client.read(BLOCKS - 1, BLOCK) == [0; BLOCK], "what was refused is written");
}

#[test]
fn a_client_that_never_reads_its_replies_keeps_no_other_one_waiting_and_gets_all_of_them_later() {
    const REQUESTS: u64 = 5_000;
    const LENGTH: usize = 16 << 10;
    let site = Site::start();
    let mut other = site.client();
    let content = vec![9; LENGTH];
    other.write(0, &content);
    let mut deaf = site.client();
    // More than its socket takes, more than wait to be sent, and more than are taken at a time.
    let requests: Vec<u8> = (0..REQUESTS).flat_map(|cookie| request(READ, cookie, 0, LENGTH)).collect();
    deaf.say(&requests);
    let began = Instant::now();
    for round in 0..200 {
        other.write(100, &[round as u8; BLOCK]);
        assert!(other.read(100, BLOCK) == [round as u8; BLOCK]);
    }
    assert!(began.elapsed() < LIMIT / 2, "200 rounds took {:?}", began.elapsed());
    let reads = of_set(&site.status()).totals.reads;
    assert!(reads < REQUESTS, "all was read for somebody who takes nothing: {reads}");
    let mut cookies: Vec<u64> = (0..REQUESTS)
        .map(|_| {
            let (error, cookie) = deaf.reply();
            assert!(error == 0 && deaf.payload(LENGTH) == content);
            cookie
        })
        .collect();
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(0..REQUESTS));
}

#[test]
fn a_client_that_asks_for_everything_at_once_gets_no_more_memory_than_it_may_have() {
    const LENGTH: usize = 32 << 20;
    let site = Site::start();
    let mut other = site.client();
    let mut greedy = site.client();
    // All of them come with one look at its socket.
    let requests: Vec<u8> = (0..500).flat_map(|cookie| request(READ, cookie, 0, LENGTH)).collect();
    greedy.say(&requests);
    for round in 0..100 {
        other.write(100, &[round as u8; BLOCK]);
        assert!(other.read(100, BLOCK) == [round as u8; BLOCK]);
    }
    let reads = of_set(&site.status()).totals.reads - 100;
    assert!((1..=2).contains(&reads), "{reads} times 32 MiB are read for somebody who takes nothing");
    for cookie in 0..3 {
        assert_eq!(greedy.reply(), (0, cookie));
        // Block 100 as it was in some round, and nothing else.
        let payload = greedy.payload(LENGTH);
        let (before, rest) = payload.split_at(100 * BLOCK);
        let (written, behind) = rest.split_at(BLOCK);
        assert!(written.iter().all(|byte| *byte == written[0]) && written[0] < 100, "{}", written[0]);
        assert!(before.iter().chain(behind).all(|byte| *byte == 0));
    }
}

#[test]
fn requests_that_wait_are_taken_up_to_a_limit_and_all_answered_when_they_can_be() {
    const REQUESTS: usize = 4_000;
    let site = Site::start_unactivated();
    let (mut client, mut other) = (site.client(), site.client());
    client.keep_little_on_the_way();
    let all: Vec<u8> =
        (0..REQUESTS as u64).flat_map(|cookie| write(cookie, cookie % 64, &[7; BLOCK])).collect();
    let mut said = 0;
    site.wait(|status| {
        said += client.say_what_is_taken(&all[said..]);
        of_set(status).jobs.waiting >= WAITING_MAX as u64
    });
    // Each answer is a turn of the loop, in which it would read more if it did.
    for _ in 0..100 {
        said += client.say_what_is_taken(&all[said..]);
        site.status();
    }
    let limit = WAITING_MAX * (BLOCK + 28) + ON_THE_WAY_MAX;
    assert!(said < limit && limit < all.len(), "{said} bytes are taken, of requests that nobody can do");
    site.handle.activate();
    other.write(100, &[8; BLOCK]);
    let mut cookies = Vec::new();
    while cookies.len() < REQUESTS {
        said += client.say_what_is_taken(&all[said..]);
        // Of what it has said there is always something that was not answered yet.
        let (error, cookie) = client.reply();
        assert_eq!(error, 0);
        cookies.push(cookie);
    }
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(0..REQUESTS as u64));
}

#[test]
fn who_comes_while_others_wait_is_told_what_there_is_and_waits_behind_them() {
    let site = Site::start_unactivated();
    let mut first = site.client();
    // More than wait at a time: what is behind them is not taken.
    let asked = WAITING_MAX as u64 + 50;
    let reads: Vec<u8> = (0..asked).flat_map(|cookie| request(READ, cookie, 0, BLOCK)).collect();
    first.say(&reads);
    site.wait(|status| of_set(status).jobs.waiting >= WAITING_MAX as u64);
    // Its hands are shaken, and what it says with the last of it waits for room.
    let mut second = Client::connect_saying(&site.socket(), &request(READ, 7, 0, BLOCK));
    site.wait(|status| status.clients == 2);
    site.handle.activate();
    assert_eq!(second.reply(), (0, 7));
    assert!(second.payload(BLOCK) == [0; BLOCK]);
    for _ in 0..asked {
        assert_eq!(first.reply().0, 0);
        first.payload(BLOCK);
    }
}

#[test]
fn who_does_not_shake_hands_keeps_no_place() {
    let site = Site::start();
    let mut client = site.client();
    let began = Instant::now();
    let mut silent = Client::silent(&site.socket());
    let mut greeting = Vec::new();
    silent.read_to_end(&mut greeting).unwrap();
    assert_eq!(greeting.len(), 18, "it is greeted, and nothing else");
    let waited = began.elapsed();
    assert!((Duration::from_secs(10)..LIMIT / 2).contains(&waited), "{waited:?}");
    // Who has shaken hands may be silent as long as it likes.
    assert!(client.read(0, BLOCK) == [0; BLOCK]);
    site.wait(|status| status.clients == 1);
}
