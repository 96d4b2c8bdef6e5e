//! Every form of every reply, read by a client that knows the protocol's document only.

use crate::{client::*, simple, structured, talk::Talk};
use bytes::Bytes;
use nbd_server::{
    BlockStatusReply, EXTENTS_MAX, ErrorCode, Event, Extent, ReadChunks, ReadReply, Request, StatusReply,
    ZeroesReply,
};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

const COOKIE: u64 = 0xC00C_1E00_0000_0001;

fn request(talk: &mut Talk, sent: Sent) -> Request {
    match talk.event(&sent.bytes()) {
        Event::Request(request) => request,
        other => panic!("{sent:?}: {other:?}"),
    }
}

fn read_reply(talk: &mut Talk, sent: Sent) -> ReadReply {
    match request(talk, sent) {
        Request::Read { reply, .. } => reply,
        other => panic!("{other:?}"),
    }
}

/// A reply in chunks to a read of 4096 bytes at 8192.
fn chunks() -> ReadChunks {
    read_reply(&mut structured("bare"), Sent::new(READ, 8192, 4096)).in_chunks().unwrap()
}

fn status_reply(talk: &mut Talk, sent: Sent) -> StatusReply {
    match request(talk, sent) {
        Request::Write { reply, .. }
        | Request::Trim { reply, .. }
        | Request::Flush { reply }
        | Request::Cache { reply, .. } => reply,
        other => panic!("{other:?}"),
    }
}

fn zeroes_reply(talk: &mut Talk, flags: u16) -> ZeroesReply {
    match request(talk, Sent::new(WRITE_ZEROES, 0, 512).with(flags)) {
        Request::WriteZeroes { reply, .. } => reply,
        other => panic!("{other:?}"),
    }
}

fn block_status_reply(length: u32, flags: u16) -> BlockStatusReply {
    match request(&mut structured("all"), Sent::new(BLOCK_STATUS, 0, length).with(flags)) {
        Request::BlockStatus { reply, .. } => reply,
        other => panic!("{other:?}"),
    }
}

fn chunk(last: bool, content: Content) -> Vec<Message> {
    vec![Message::Chunk { cookie: COOKIE, last, content }]
}

fn simple_reply(error: u32) -> Vec<Message> {
    vec![Message::Simple { error, cookie: COOKIE }]
}

const ERRORS: [(ErrorCode, u32); 6] = [
    (ErrorCode::NotPermitted, 1),
    (ErrorCode::Io, 5),
    (ErrorCode::OutOfMemory, 12),
    (ErrorCode::Invalid, 22),
    (ErrorCode::NoSpace, 28),
    (ErrorCode::ShuttingDown, 108),
];

#[test]
fn success_without_data_is_a_simple_reply() {
    for mut talk in [simple("all"), structured("all")] {
        for sent in [
            Sent::new(WRITE, 0, 512),
            Sent::new(TRIM, 0, 512),
            Sent::new(FLUSH, 0, 0),
            Sent::new(CACHE, 0, 512),
        ] {
            assert_eq!(Message::all(&status_reply(&mut talk, sent).success()), simple_reply(0));
        }
        assert_eq!(Message::all(&zeroes_reply(&mut talk, 0).success()), simple_reply(0));
    }
}

#[test]
fn errors_have_their_numbers_and_words_where_there_is_room() {
    for (code, error) in ERRORS {
        let content = Content::Error { error, message: "why".to_owned() };
        for (mut talk, expected) in
            [(simple("all"), simple_reply(error)), (structured("all"), chunk(true, content))]
        {
            let reply = status_reply(&mut talk, Sent::new(WRITE, 0, 512));
            assert_eq!(Message::all(&reply.error(code, "why")), expected);
            assert_eq!(Message::all(&zeroes_reply(&mut talk, 0).error(code, "why")), expected);
            let reply = read_reply(&mut talk, Sent::new(READ, 0, 512));
            assert_eq!(Message::all(&reply.error(code, "why")), expected);
        }
        let content = Content::Error { error, message: "why".to_owned() };
        assert_eq!(Message::all(&block_status_reply(512, 0).error(code, "why")), chunk(true, content));
    }
}

#[test]
fn long_messages_are_cut_between_characters() {
    let reply = status_reply(&mut structured("all"), Sent::new(FLUSH, 0, 0));
    // 4096 is not a multiple of three.
    let messages = Message::all(&reply.error(ErrorCode::Io, &"€".repeat(2000)));
    assert_eq!(messages, chunk(true, Content::Error { error: 5, message: "€".repeat(1365) }));
}

#[test]
fn zeroing_that_is_not_fast_is_not_supported() {
    let reply = zeroes_reply(&mut simple("all"), FAST_ZERO).not_fast();
    assert_eq!(Message::all(&reply), simple_reply(95));
    let unasked = zeroes_reply(&mut simple("all"), 0);
    assert!(catch_unwind(AssertUnwindSafe(|| unasked.not_fast())).is_err());
}

#[test]
fn a_whole_read_is_one_head_and_the_data() {
    let data = vec![7; 4096];
    let head = read_reply(&mut simple("all"), Sent::new(READ, 8192, 4096)).whole();
    let bytes = [&head, &data[..]].concat();
    let mut rest = Received(&bytes);
    assert_eq!(Message::take(&mut rest), Message::Simple { error: 0, cookie: COOKIE });
    assert_eq!(rest.0, data);

    for flags in [0, DF] {
        let head = read_reply(&mut structured("all"), Sent::new(READ, 8192, 4096).with(flags)).whole();
        let sent = [&head, &data[..]].concat();
        assert_eq!(Message::all(&sent), chunk(true, Content::Data { offset: 8192, data: data.clone() }));
    }
}

#[test]
fn one_piece_is_never_cut_into_chunks() {
    let mut simple = simple("all");
    assert!(read_reply(&mut simple, Sent::new(READ, 0, 4096)).in_chunks().is_err());
    assert!(read_reply(&mut structured("all"), Sent::new(READ, 0, 4096).with(DF)).in_chunks().is_err());
}

#[test]
fn chunks_of_every_kind_are_what_they_say() {
    let mut reply = chunks();
    let hole = Message::all(&reply.hole(8192, 1024));
    assert_eq!(hole, chunk(false, Content::Hole { offset: 8192, length: 1024 }));
    let error = Message::all(&reply.error_at(9300, ErrorCode::Io, "rot"));
    assert_eq!(error, chunk(false, Content::ErrorAt { error: 5, message: "rot".to_owned(), offset: 9300 }));
    let data = [&reply.data(10_240, 3)[..], b"abc"].concat();
    assert_eq!(Message::all(&data), chunk(false, Content::Data { offset: 10_240, data: b"abc".to_vec() }));
    assert_eq!(Message::all(&reply.done()), chunk(true, Content::None));

    assert_eq!(
        Message::all(&chunks().last_hole(8192, 4096)),
        chunk(true, Content::Hole { offset: 8192, length: 4096 })
    );
    let data = [&chunks().last_data(8192, 4096)[..], &[1; 4096]].concat();
    assert_eq!(Message::all(&data), chunk(true, Content::Data { offset: 8192, data: vec![1; 4096] }));
    let mut reply = chunks();
    let _ = reply.hole(8192, 4096);
    let error = Message::all(&reply.error(ErrorCode::Io, "all of it"));
    assert_eq!(error, chunk(true, Content::Error { error: 5, message: "all of it".to_owned() }));
}

#[test]
fn chunks_that_a_client_could_not_take_are_not_made() {
    type Make = fn(&mut ReadChunks);
    let wrong: [(&str, Make); 8] = [
        ("before the read", |chunks| drop(chunks.data(8191, 2))),
        ("beyond the read", |chunks| drop(chunks.hole(12_287, 2))),
        ("far beyond", |chunks| drop(chunks.data(u64::MAX, 2))),
        ("empty", |chunks| drop(chunks.data(8192, 0))),
        ("the same again", |chunks| drop((chunks.data(8200, 8), chunks.data(8200, 8)))),
        ("overlaps the one before", |chunks| drop((chunks.data(8200, 8), chunks.hole(8207, 8)))),
        ("overlaps the one after", |chunks| drop((chunks.data(8200, 8), chunks.hole(8193, 8)))),
        ("follows its error", |chunks| {
            drop((chunks.error_at(8200, ErrorCode::Io, ""), chunks.data(8192, 9)));
        }),
    ];
    for (what, make) in wrong {
        let made = catch_unwind(AssertUnwindSafe(|| make(&mut chunks())));
        assert!(made.is_err(), "{what}");
    }
    assert!(catch_unwind(AssertUnwindSafe(|| chunks().error_at(12_288, ErrorCode::Io, ""))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| chunks().done())).is_err(), "nothing was sent");
    assert!(
        catch_unwind(AssertUnwindSafe(|| chunks().last_data(8192, 4095))).is_err(),
        "one byte is missing"
    );
    assert!(
        catch_unwind(AssertUnwindSafe(|| chunks().last_hole(8193, 4095))).is_err(),
        "one byte is missing"
    );
}

fn extent(length: u64, hole: bool, zero: bool) -> Extent {
    Extent { length, hole, zero }
}

/// The extents that a client is told of.
fn told(reply: &Bytes) -> Vec<(u32, u32)> {
    match &Message::all(reply)[..] {
        [
            Message::Chunk {
                cookie: COOKIE,
                last: true,
                content: Content::BlockStatus { context: 1, extents },
            },
        ] => extents.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn extents_are_joined_and_cut_to_what_was_asked() {
    let all = [
        extent(512, false, false),
        extent(0, true, true),
        extent(512, false, false),
        extent(1024, true, true),
        extent(512, false, true),
        extent(1 << 40, true, false),
    ];
    assert_eq!(told(&block_status_reply(8192, 0).extents(all)), [(1024, 0), (1024, 3), (512, 2), (5632, 1)]);
    assert_eq!(told(&block_status_reply(1536, 0).extents(all)), [(1024, 0), (512, 3)]);
    assert_eq!(told(&block_status_reply(8192, REQ_ONE).extents(all)), [(1024, 0)]);
    assert_eq!(told(&block_status_reply(512, REQ_ONE).extents(all)), [(512, 0)]);
    assert_eq!(told(&block_status_reply(8192, 0).extents([])), [(8192, 0)], "nothing known: it is data");
    assert_eq!(told(&block_status_reply(8192, 0).extents([extent(0, true, true)])), [(8192, 0)]);
    assert_eq!(
        told(&block_status_reply(8192, 0).extents([extent(512, true, true)])),
        [(512, 3)],
        "fewer than asked"
    );
}

#[test]
fn extents_of_one_reply_are_bounded() {
    let many = (0..).map(|n| extent(512, n % 2 == 0, n % 2 == 0));
    assert_eq!(told(&block_status_reply(1 << 30, 0).extents(many)).len(), EXTENTS_MAX);
}

/// A piece of a read.
#[derive(Clone, Debug)]
enum Piece {
    Data,
    Hole,
    Unreadable,
}

fn pieces() -> impl Strategy<Value = Vec<(u32, Piece)>> {
    let piece = prop_oneof![4 => Just(Piece::Data), 2 => Just(Piece::Hole), 1 => Just(Piece::Unreadable)];
    proptest::collection::vec((1_u32..5000, piece), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a read is made of and in whichever order its chunks are sent, a client that puts them together has the content,
    /// and knows of every error.
    #[test]
    fn a_client_puts_any_chunks_in_any_order_together(
        (pieces, order) in pieces().prop_flat_map(|pieces| {
            let order = Just((0..pieces.len()).collect::<Vec<_>>()).prop_shuffle();
            (Just(pieces), order)
        }),
        end in 0..3,
    ) {
        let base = 10_000;
        let length = pieces.iter().map(|(length, _)| length).sum::<u32>();
        let content = (0..length).map(|n| (n % 250) as u8 + 1).collect::<Vec<_>>();
        let starts = pieces.iter().scan(0, |next, (length, _)| {
            *next += length;
            Some(*next - length)
        }).collect::<Vec<_>>();
        let sent = Sent::new(READ, base, length);
        let mut chunks = read_reply(&mut structured("bare"), sent).in_chunks().unwrap();
        let unreadable = pieces.iter().any(|(_, piece)| matches!(piece, Piece::Unreadable));
        let (last, others) = order.split_last().unwrap();
        let (mut wire, mut expected) = (Vec::new(), vec![None; length as usize]);
        let mut note = |n: usize| {
            let (start, length) = (starts[n], pieces[n].0);
            let range = start as usize..(start + length) as usize;
            for at in range.clone() {
                expected[at] = match pieces[n].1 {
                    Piece::Data => Some(content[at]),
                    Piece::Hole => Some(0),
                    Piece::Unreadable => None,
                };
            }
            (base + u64::from(start), length, &content[range])
        };
        for n in others {
            let (offset, length, data) = note(*n);
            match pieces[*n].1 {
                Piece::Data => wire.extend([&chunks.data(offset, length)[..], data].concat()),
                Piece::Hole => wire.extend(&*chunks.hole(offset, length)),
                Piece::Unreadable => wire.extend(chunks.error_at(offset, ErrorCode::Io, "rot")),
            }
        }
        let (offset, length, data) = note(*last);
        match (&pieces[*last].1, end) {
            (Piece::Data, 0) => wire.extend([&chunks.last_data(offset, length)[..], data].concat()),
            (Piece::Hole, 0) => wire.extend(&*chunks.last_hole(offset, length)),
            (piece, _) => {
                match piece {
                    Piece::Data => wire.extend([&chunks.data(offset, length)[..], data].concat()),
                    Piece::Hole => wire.extend(&*chunks.hole(offset, length)),
                    Piece::Unreadable => wire.extend(chunks.error_at(offset, ErrorCode::Io, "rot")),
                }
                wire.extend(&*chunks.done());
            }
        }

        let (mut got, mut errors, mut lasts) = (vec![None; expected.len()], 0, 0);
        for message in Message::all(&wire) {
            let Message::Chunk { cookie: COOKIE, last, content } = message else { panic!("{message:?}") };
            prop_assert_eq!(lasts, 0, "nothing follows the last chunk");
            lasts += i32::from(last);
            match content {
                Content::Data { offset, data } => {
                    for (at, byte) in data.iter().enumerate() {
                        prop_assert!(got[(offset - base) as usize + at].replace(*byte).is_none());
                    }
                }
                Content::Hole { offset, length } => {
                    for at in 0..length as usize {
                        prop_assert!(got[(offset - base) as usize + at].replace(0).is_none());
                    }
                }
                Content::ErrorAt { error: 5, .. } => errors += 1,
                Content::None => {}
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(lasts, 1);
        prop_assert_eq!(errors > 0, unreadable);
        prop_assert!(got == expected);
    }
}
