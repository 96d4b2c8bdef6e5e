//! Clients that have said all that they will, and exports that are told to stop, while requests are under way.

use crate::{
    client::{FLUSH, READ, request, write},
    site::{BLOCK, Site, of_set},
};
use std::time::{Duration, Instant};

/// An export that is to stop waits so long for what is under way.
const STOP_MAX: Duration = Duration::from_secs(10);

#[test]
fn what_was_asked_before_the_end_of_a_connection_is_answered() {
    let site = Site::start();
    for round in 1..=50 {
        let mut client = site.client();
        let content = [round; BLOCK];
        let mut bytes = write(1, 5, &content);
        bytes.extend(request(FLUSH, 2, 0, 0));
        bytes.extend(request(READ, 3, 5 * BLOCK as u64, BLOCK));
        client.say(&bytes);
        client.finish();
        let mut answered = Vec::new();
        for _ in 0..3 {
            let (error, cookie) = client.reply();
            assert_eq!(error, 0);
            // The three were under way together: a read beside a write sees it or not.
            if cookie == 3 {
                let read = client.payload(BLOCK);
                assert!(read == content || read == [round - 1; BLOCK], "{round}");
            }
            answered.push(cookie);
        }
        answered.sort_unstable();
        assert_eq!(answered, [1, 2, 3]);
        client.is_closed();
    }
    site.wait(|status| status.clients == 0);
}

#[test]
fn an_end_that_comes_while_a_request_waits_takes_nothing_from_it() {
    let site = Site::start_unactivated();
    let mut client = site.client();
    client.say(&write(1, 5, &[1; BLOCK]));
    client.finish();
    site.wait(|status| of_set(status).jobs.waiting == 1);
    site.handle.activate();
    assert_eq!(client.reply(), (0, 1));
    client.is_closed();
    assert!(site.client().read(5, BLOCK) == [1; BLOCK]);
}

#[test]
fn an_export_that_is_stopped_answers_what_is_under_way_and_takes_nothing_more() {
    let mut site = Site::start_unactivated();
    let mut clients = [site.client(), site.client()];
    for (client, first) in clients.iter_mut().zip([0, 100]) {
        let writes: Vec<u8> =
            (0..100).flat_map(|cookie| write(cookie, first + cookie, &[1; BLOCK])).collect();
        client.say(&writes);
    }
    site.wait(|status| of_set(status).jobs.waiting == 200);
    let began = Instant::now();
    site.handle.stop();
    site.wait(|status| status.is_stopping);
    // Who asks now is not heard, and who asked before is answered.
    clients[0].say(&write(100, 500, &[1; BLOCK]));
    site.handle.activate();
    for client in &mut clients {
        let mut cookies: Vec<u64> = (0..100)
            .map(|_| {
                let (error, cookie) = client.reply();
                assert_eq!(error, 0);
                cookie
            })
            .collect();
        cookies.sort_unstable();
        assert!(cookies.into_iter().eq(0..100));
        client.is_closed();
    }
    site.end().unwrap();
    assert!(began.elapsed() < STOP_MAX / 2, "it has waited for nobody for {:?}", began.elapsed());
}

#[test]
fn what_is_answered_and_not_read_yet_is_still_read_when_the_export_stops() {
    const PAYLOAD: usize = 1 << 20;
    let mut site = Site::start();
    let mut client = site.client();
    client.write(0, &vec![1; PAYLOAD]);
    let reads: Vec<u8> = (0..8).flat_map(|cookie| request(READ, cookie, 0, PAYLOAD)).collect();
    client.say(&reads);
    site.wait(|status| of_set(status).totals.reads == 8 && of_set(status).jobs.reads == 0);
    site.handle.stop();
    site.wait(|status| status.is_stopping);
    let mut cookies: Vec<u64> = (0..8)
        .map(|_| {
            let (error, cookie) = client.reply();
            assert_eq!(error, 0);
            assert!(client.payload(PAYLOAD).iter().all(|byte| *byte == 1));
            cookie
        })
        .collect();
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(0..8));
    site.end().unwrap();
}
