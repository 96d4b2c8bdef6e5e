//! Every command: what the caller gets to do, and what is refused with which error. After a refusal the connection goes on; after
//! garbage it does not.

use crate::{PAYLOAD_BYTES_MAX, SIZE_BYTES, client::*, simple, structured, talk::Said, talk::Talk};
use nbd_server::{Event, ProtocolError, Request};

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;

/// What comes of one request: its error, or nothing if it is for the caller.
fn refusal(talk: &mut Talk, sent: Sent) -> Option<u32> {
    match talk.event(&sent.bytes()) {
        Event::Request(_) => None,
        Event::Refused { refusal, reply } => {
            let messages = Message::all(&reply);
            let error = messages[0].error();
            assert_eq!(messages.len(), 1);
            assert_eq!(error, Some(refusal.code().number()));
            if let Message::Chunk { cookie, content: Content::Error { message, .. }, .. } = &messages[0] {
                assert_eq!((*cookie, message), (sent.cookie, &refusal.to_string()));
            }
            error
        }
        other => panic!("{sent:?}: {other:?}"),
    }
}

#[test]
fn a_request_reaches_the_caller_with_all_that_was_sent() {
    let mut talk = structured("all");
    let mut request = |sent: Sent| match talk.event(&sent.bytes()) {
        Event::Request(request) => request,
        other => panic!("{sent:?}: {other:?}"),
    };
    let (offset, length, cookie) = (4096, 8192, nbd_server::Cookie(0xC00C_1E00_0000_0001));
    for fua in [false, true] {
        let flag = if fua { FUA } else { 0 };
        let read = request(Sent::new(READ, offset, length).with(flag | DF));
        assert!(
            matches!(read, Request::Read { offset: 4096, length: 8192, reply } if reply.cookie() == cookie)
        );
        let sent = Sent::new(WRITE, offset, length).with(flag);
        let expected = &sent.bytes()[28..];
        match request(sent) {
            Request::Write { offset: 4096, data, fua: as_sent, reply } => {
                assert!(data == expected && as_sent == fua && reply.cookie() == cookie);
            }
            other => panic!("{other:?}"),
        }
        for (no_hole, fast) in [(false, false), (true, false), (false, true), (true, true)] {
            let flags = flag | if no_hole { NO_HOLE } else { 0 } | if fast { FAST_ZERO } else { 0 };
            match request(Sent::new(WRITE_ZEROES, offset, length).with(flags)) {
                Request::WriteZeroes { offset: 4096, length: 8192, fua: a, no_hole: b, fast: c, reply } => {
                    assert!((a, b, c) == (fua, no_hole, fast) && reply.cookie() == cookie);
                }
                other => panic!("{other:?}"),
            }
        }
        let trim = request(Sent::new(TRIM, offset, length).with(flag));
        assert!(
            matches!(trim, Request::Trim { offset: 4096, length: 8192, fua: f, reply } if f == fua && reply.cookie() == cookie)
        );
        let cache = request(Sent::new(CACHE, offset, length).with(flag));
        assert!(
            matches!(cache, Request::Cache { offset: 4096, length: 8192, reply } if reply.cookie() == cookie)
        );
        for only_first in [false, true] {
            let flags = flag | if only_first { REQ_ONE } else { 0 };
            let status = request(Sent::new(BLOCK_STATUS, offset, length).with(flags));
            assert!(
                matches!(status, Request::BlockStatus { offset: 4096, length: 8192, only_first: o, reply } if o == only_first && reply.cookie() == cookie)
            );
        }
        let flush = request(Sent::new(FLUSH, 0, 0).with(flag));
        assert!(matches!(flush, Request::Flush { reply } if reply.cookie() == cookie));
    }
}

/// The abilities that matter for what is refused.
struct Case {
    talk: Talk,
    /// All that can be offered is.
    all: bool,
    read_only: bool,
    structured: bool,
}

fn cases() -> Vec<Case> {
    let case = |export: &str, is_structured: bool| Case {
        talk: if is_structured { structured(export) } else { simple(export) },
        all: export != "bare",
        read_only: export == "read-only",
        structured: is_structured,
    };
    ["all", "bare", "read-only"]
        .into_iter()
        .flat_map(|export| [case(export, false), case(export, true)])
        .collect()
}

#[test]
fn every_command_with_every_flag_is_served_or_refused_as_the_protocol_says() {
    for Case { mut talk, all, read_only, structured } in cases() {
        for command in (0..=10).chain([0x100, 0xffff]).filter(|command| *command != DISC) {
            for flags in (0..64).chain([0x8000]) {
                let (offset, length) = if command == FLUSH { (0, 0) } else { (1024, 512) };
                let sent = Sent::new(command, offset, length).with(flags);
                let writes = matches!(command, WRITE | TRIM | WRITE_ZEROES);
                let offered = match command {
                    READ | WRITE => true,
                    FLUSH | TRIM | CACHE | WRITE_ZEROES => all,
                    BLOCK_STATUS => all && structured,
                    _ => false,
                };
                let own = match command {
                    READ if structured => DF,
                    WRITE_ZEROES => NO_HOLE | FAST_ZERO,
                    BLOCK_STATUS => REQ_ONE,
                    _ => 0,
                };
                let allowed = own | if all { FUA } else { 0 };
                let expected = match () {
                    () if read_only && writes => Some(EPERM),
                    () if offered && flags & !allowed == 0 => None,
                    () => Some(EINVAL),
                };
                assert_eq!(refusal(&mut talk, sent), expected, "{sent:?}, {all}, {read_only}, {structured}");
            }
        }
    }
}

#[test]
fn ranges_end_within_the_export() {
    let end = SIZE_BYTES;
    for is_structured in [false, true] {
        let mut talk = if is_structured { structured("all") } else { simple("all") };
        for (offset, length, within) in [
            (end - 512, 512, true),
            (end - 512, 1024, false),
            (end, 512, false),
            (end + 512, 512, false),
            (u64::MAX - 511, 512, false),
            (u64::MAX - 511, 1024, false),
            (1 << 63, 512, false),
        ] {
            for (command, error) in [
                (READ, EINVAL),
                (WRITE, ENOSPC),
                (TRIM, EINVAL),
                (CACHE, EINVAL),
                (WRITE_ZEROES, ENOSPC),
                (BLOCK_STATUS, EINVAL),
            ] {
                let sent = Sent::new(command, offset, length);
                let served = within && (is_structured || command != BLOCK_STATUS);
                assert_eq!(refusal(&mut talk, sent), (!served).then_some(error), "{sent:?}");
            }
        }
    }
}

#[test]
fn ranges_are_whole_blocks_and_not_empty() {
    let (mut talk, mut bytes) = (structured("all"), simple("bare"));
    for command in [READ, WRITE, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS] {
        for (offset, length) in [(1, 512), (512, 1), (256, 256), (0, 513), (0, 0), (512, 0)] {
            let sent = Sent::new(command, offset, length);
            assert_eq!(refusal(&mut talk, sent), Some(EINVAL), "{sent:?}");
        }
    }
    for command in [READ, WRITE] {
        assert_eq!(refusal(&mut bytes, Sent::new(command, 1, 3)), None, "blocks of one byte");
    }
}

#[test]
fn a_flush_is_of_everything() {
    let mut talk = simple("all");
    for (offset, length) in [(512, 0), (0, 512)] {
        assert_eq!(refusal(&mut talk, Sent::new(FLUSH, offset, length)), Some(EINVAL));
    }
}

#[test]
fn the_maximum_bounds_what_has_a_payload_and_nothing_else() {
    let mut talk = structured("all");
    let (most, more) = (PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 512);
    for command in [READ, WRITE, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS] {
        assert_eq!(refusal(&mut talk, Sent::new(command, 0, most)), None, "command {command}");
    }
    for command in [TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS] {
        assert_eq!(refusal(&mut talk, Sent::new(command, 0, 1 << 30)), None, "command {command}");
    }
    assert_eq!(refusal(&mut talk, Sent::new(READ, 0, more)), Some(EINVAL));
    assert_eq!(refusal(&mut talk, Sent::new(READ, 0, more).with(DF)), Some(EOVERFLOW));
    assert_eq!(refusal(&mut talk, Sent::new(READ, 0, 65_536).with(DF)), None, "the protocol demands it");
}

#[test]
fn a_payload_over_the_bound_ends_the_connection() {
    for export in ["all", "read-only"] {
        let mut talk = simple(export);
        let bytes = PAYLOAD_BYTES_MAX + 1;
        talk.receive(&Sent::new(WRITE, 0, bytes).header());
        let expected = ProtocolError::PayloadTooLarge { bytes, bytes_max: PAYLOAD_BYTES_MAX };
        // Also when it is asked again, with more bytes that look right.
        for _ in 0..3 {
            assert!(matches!(talk.step(), Said::Broken(error) if error == expected));
            talk.receive(&Sent::new(READ, 0, 512).bytes());
        }
    }
}

#[test]
fn a_request_with_wrong_magic_ends_the_connection() {
    // The last two are magics of the protocol, in the wrong place.
    for found in [0_u32, 0x2560_9514, 0x6744_6698, u32::from_be_bytes(*b"IHAV")] {
        let mut talk = simple("all");
        let mut bytes = Sent::new(READ, 0, 512).bytes();
        bytes[..4].copy_from_slice(&found.to_be_bytes());
        talk.receive(&bytes);
        for _ in 0..2 {
            assert!(
                matches!(talk.step(), Said::Broken(error) if error == ProtocolError::RequestMagic { found })
            );
        }
    }
}

#[test]
fn disconnect_is_the_last_word_whatever_its_fields_say() {
    for export in ["all", "bare", "read-only"] {
        let mut talk = simple(export);
        talk.receive(&Sent::new(DISC, 7, u32::MAX).with(0xffff).bytes());
        talk.receive(&Sent::new(READ, 0, 512).bytes());
        for _ in 0..2 {
            assert!(matches!(talk.step(), Said::Event(Event::Disconnect)));
        }
    }
}

#[test]
fn what_is_missing_is_told_exactly() {
    let mut talk = simple("all");
    let write = Sent::new(WRITE, 0, PAYLOAD_BYTES_MAX).bytes();
    assert!(matches!(talk.step(), Said::NeedMore(28)));
    talk.receive(&write[..10]);
    assert!(matches!(talk.step(), Said::NeedMore(18)));
    talk.receive(&write[10..30]);
    let missing = PAYLOAD_BYTES_MAX as usize - 2;
    assert!(matches!(talk.step(), Said::NeedMore(bytes) if bytes == missing), "one read fetches the payload");
    talk.receive(&write[30..]);
    assert!(matches!(talk.step(), Said::Event(Event::Request(Request::Write { .. }))));
    assert!(matches!(talk.step(), Said::NeedMore(28)));
}

#[test]
fn a_payload_is_the_memory_that_it_was_read_into() {
    let mut talk = simple("all");
    talk.receive(&[Sent::new(WRITE, 0, 4096).bytes(), Sent::new(WRITE, 4096, 4096).bytes()].concat());
    let mut places = Vec::new();
    for said in talk.steps() {
        match said {
            Said::Event(Event::Request(Request::Write { data, .. })) => places.push(data),
            said => panic!("{said:?}"),
        }
    }
    let distance = places[1].as_ptr() as usize - places[0].as_ptr() as usize;
    assert_eq!(distance, 4096 + 28, "both lie where they were received");
}
