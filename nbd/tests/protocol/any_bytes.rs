//! Any bytes in any pieces: the same bytes always say the same, and no bytes at all make the library panic, wait for what no client
//! would send, or keep more than its bounds (`talk.rs` checks those at every step).

use crate::{
    client::*,
    exports,
    talk::{Said, Talk},
};
use nbd_server::{Event, Refusal};
use proptest::{collection::vec, prelude::*, sample::select};

/// All that was said, in words, and all that was answered.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    said: Vec<String>,
    output: Vec<u8>,
}

/// Hands the bytes over in pieces of these lengths, again and again.
fn transcript(bytes: &[u8], lengths: &[usize]) -> Transcript {
    let mut talk = Talk::start(&exports());
    let (mut said, mut rest) = (Vec::new(), bytes);
    for length in lengths.iter().cycle() {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        rest = after;
        talk.receive(piece);
        said.extend(talk.steps());
        let ended =
            matches!(said.last(), Some(Said::Aborted | Said::Broken(_) | Said::Event(Event::Disconnect)));
        if ended || rest.is_empty() {
            break;
        }
    }
    let said = said.iter().map(|said| format!("{said:?}")).collect();
    Transcript { said, output: talk.answer() }
}

/// Hands over exactly what is asked for, so that asking for one byte too many would hang.
fn transcript_as_asked(bytes: &[u8]) -> Transcript {
    let mut talk = Talk::start(&exports());
    let (mut said, mut rest) = (Vec::new(), bytes);
    loop {
        match talk.step() {
            Said::NeedMore(wanted) => {
                let Some((piece, after)) = rest.split_at_checked(wanted) else { break };
                rest = after;
                talk.receive(piece);
            }
            end @ (Said::Aborted | Said::Broken(_) | Said::Event(Event::Disconnect)) => {
                said.push(format!("{end:?}"));
                break;
            }
            other => said.push(format!("{other:?}")),
        }
    }
    Transcript { said, output: talk.answer() }
}

fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec!["", "all", "bare", "read-only", "demanding", "other"]);
    let query = select(vec!["base:", "base:allocation", "qemu:x", ""]);
    let with_info = (select(vec![OPT_INFO, OPT_GO]), name.clone(), vec(0_u16..6, 0..4));
    let with_meta = (select(vec![OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT]), name, vec(query, 0..4));
    let bare = select(vec![OPT_LIST, OPT_STRUCTURED_REPLY, OPT_STARTTLS, OPT_EXTENDED_HEADERS, 4, 77]);
    prop_oneof![
        1 => with_info.prop_map(|(number, name, wanted)| option(number, &info_data(name, &wanted))),
        3 => with_meta.prop_map(|(number, name, queries)| option(number, &meta_data(name, &queries))),
        3 => bare.prop_map(|number| option(number, &[])),
        1 => (any::<u32>(), vec(any::<u8>(), 0..40)).prop_map(|(number, data)| option(number, &data)),
    ]
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![3 => (0_u64..8).prop_map(|n| n * 4096), 1 => any::<u64>()];
    let length = prop_oneof![5 => (0_u32..5).prop_map(|n| n * 4096), 1 => 0_u32..20_000];
    let flags = prop_oneof![4 => Just(0_u16), 2 => 0_u16..32, 1 => any::<u16>()];
    let command = prop_oneof![9 => select(vec![0_u16, 1, 1, 3, 4, 5, 6, 7]), 1 => 8_u16..20];
    (flags, command, any::<u64>(), offset, length).prop_map(|(flags, command, cookie, offset, length)| {
        Sent { flags, command, cookie, offset, length }.bytes()
    })
}

/// A whole connection, of a client that keeps to the form.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let end = select(vec![
        option(OPT_EXPORT_NAME, b"all"),
        option(OPT_GO, &info_data("", &[3])),
        option(OPT_GO, &info_data("bare", &[3])),
        option(OPT_GO, &info_data("read-only", &[])),
    ]);
    let last = select(vec![vec![], Sent::new(DISC, 0, 0).bytes()]);
    (0_u32..4, vec(any_option(), 0..6), end, vec(any_request(), 0..12), last).prop_map(
        |(flags, options, end, requests, last)| {
            // Without fixed newstyle there are no options to be sent.
            let options = if flags & 1 == 1 { options.concat() } else { Vec::new() };
            [&flags.to_be_bytes()[..], &options, &end, &requests.concat(), &last].concat()
        },
    )
}

/// One act of damage to a stream. Places are parts of the whole.
#[derive(Clone, Debug)]
enum Damage {
    Flip { at: f64, bit: u8 },
    Set { at: f64, to: u8 },
    Cut { at: f64, bytes: usize },
    Insert { at: f64, bytes: Vec<u8> },
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let at = 0.0..1.0;
    prop_oneof![
        (at.clone(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        (at.clone(), select(vec![0_u8, 1, 0x7f, 0x80, 0xff])).prop_map(|(at, to)| Damage::Set { at, to }),
        (at.clone(), 1_usize..40).prop_map(|(at, bytes)| Damage::Cut { at, bytes }),
        (at, vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
    ]
}

fn damage(stream: &mut Vec<u8>, damage: &Damage) {
    let place = |at: f64| ((stream.len() as f64 * at) as usize).min(stream.len().saturating_sub(1));
    match damage {
        _ if stream.is_empty() => {}
        Damage::Flip { at, bit } => {
            let place = place(*at);
            stream[place] ^= 1 << bit;
        }
        Damage::Set { at, to } => {
            let place = place(*at);
            stream[place] = *to;
        }
        Damage::Cut { at, bytes } => {
            let place = place(*at);
            stream.drain(place..(place + bytes).min(stream.len()));
        }
        Damage::Insert { at, bytes } => {
            let place = place(*at);
            stream.splice(place..place, bytes.iter().copied());
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn any_split_of_a_stream_says_the_same(stream in any_stream(), lengths in vec(1_usize..200, 1..6)) {
        let whole = transcript(&stream, &[stream.len()]);
        prop_assert_eq!(&transcript(&stream, &lengths), &whole);
        prop_assert_eq!(&transcript_as_asked(&stream), &whole);
    }

    /// A request, refused or not, takes nothing with it: the others are understood as if it had not been there.
    #[test]
    fn one_request_changes_nothing_for_the_others(
        requests in vec(any_request(), 1..6), one in any_request(), place in 0_usize..6,
    ) {
        let start = [&MODERN.to_be_bytes()[..], &option(OPT_GO, &info_data("all", &[3]))].concat();
        let with = |requests: &[Vec<u8>]| {
            let stream = [&start[..], &requests.concat()].concat();
            transcript(&stream, &[stream.len()]).said
        };
        let place = place.min(requests.len());
        let mut more = requests.clone();
        more.insert(place, one);
        let (mut said, before) = (with(&more), with(&requests));
        said.remove(place + 1);
        prop_assert_eq!(said, before);
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn damaged_streams_end_in_order(
        stream in any_stream(), acts in vec(any_damage(), 1..4), lengths in vec(1_usize..5000, 1..4),
    ) {
        let mut stream = stream;
        for act in &acts {
            damage(&mut stream, act);
        }
        transcript(&stream, &lengths);
    }

    #[test]
    fn garbage_ends_in_order(
        garbage in vec(any::<u8>(), 0..300), start in 0_usize..4, lengths in vec(1_usize..100, 1..4),
    ) {
        let handshake: &[&[u8]] = &[
            &MODERN.to_be_bytes(),
            b"IHAVEOPT",
            &[0, 0, 0, 7, 0, 0, 0, 90],
        ];
        let chosen = [&MODERN.to_be_bytes()[..], &option(OPT_EXPORT_NAME, b"all")].concat();
        let start = if start == 3 { chosen } else { handshake[..start].concat() };
        transcript(&[start, garbage].concat(), &lengths);
    }

    /// Headers with the right magic and everything else by chance, so that garbage gets further than its first word.
    #[test]
    fn headers_by_chance_end_in_order(
        headers in vec((any::<u16>(), 0_u16..10, any::<u64>(), any::<u64>(), any::<u32>()), 1..8),
        options in vec((0_u32..13, any::<u32>(), vec(any::<u8>(), 0..60)), 0..4),
    ) {
        let mut stream = MODERN.to_be_bytes().to_vec();
        for (number, length, data) in &options {
            let mut header = option(*number, data);
            // Every other one lies about its length.
            if length % 2 == 0 {
                header[12..16].copy_from_slice(&(length % 1000).to_be_bytes());
            }
            stream.extend(header);
        }
        transcript(&stream, &[7, 1000]);
        let mut stream = [&MODERN.to_be_bytes()[..], &option(OPT_EXPORT_NAME, b"all")].concat();
        for (flags, command, cookie, offset, length) in headers {
            stream.extend(Sent { flags, command, cookie, offset, length }.header());
        }
        transcript(&stream, &[11, 1000]);
    }
}

/// The longest refusal in words is what bounds an answer to it.
#[test]
fn refusals_are_short() {
    let longest =
        Refusal::BeyondEnd { offset: u64::MAX, length: u32::MAX, size_bytes: u64::MAX, written: true }
            .to_string();
    assert!(longest.len() < 128, "{longest}");
}
