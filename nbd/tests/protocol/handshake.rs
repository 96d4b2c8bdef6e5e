//! Every option: how it is answered, and what is refused how.

use crate::{
    PAYLOAD_BYTES_MAX, SIZE_BYTES,
    client::*,
    exports,
    talk::{Said, Talk},
};
use nbd_server::{OPTION_DATA_BYTES_MAX, OPTIONS_MAX, ProtocolError};

/// A connection that has said what it is, and is answered.
fn greeted(flags: u32) -> Talk {
    let mut talk = Talk::start(&exports());
    talk.receive(&flags.to_be_bytes());
    assert_eq!(talk.steps().len(), 0);
    talk.output.clear();
    talk
}

/// The answers to one option.
fn answers(talk: &mut Talk, number: u32, data: &[u8]) -> Vec<OptionReply> {
    talk.receive(&option(number, data));
    let said = talk.steps();
    assert!(matches!(said[..], [Said::Answered | Said::Aborted | Said::Chosen]), "{said:?}");
    let replies = option_replies(&talk.answer());
    assert!(replies.iter().all(|reply| reply.option == number), "{replies:?}");
    replies
}

/// The kinds of the answers to one option.
fn kinds(talk: &mut Talk, number: u32, data: &[u8]) -> Vec<u32> {
    answers(talk, number, data).iter().map(|reply| reply.kind).collect()
}

/// What is said to bytes that cannot be answered.
fn broken(talk: &mut Talk, bytes: &[u8]) -> ProtocolError {
    talk.receive(bytes);
    let said = talk.steps();
    assert_eq!(talk.answer(), [], "something was answered before the end");
    match said.into_iter().next() {
        Some(Said::Broken(error)) => error,
        said => panic!("not the end: {said:?}"),
    }
}

/// INFO replies by kind of information.
fn information(replies: &[OptionReply]) -> Vec<(u16, Vec<u8>)> {
    let infos = replies.iter().filter(|reply| reply.kind == INFO);
    infos
        .map(|reply| {
            let mut data = Received(&reply.data);
            (data.u16(), data.0.to_vec())
        })
        .collect()
}

fn export_info(size_bytes: u64, flags: u16) -> Vec<u8> {
    [&size_bytes.to_be_bytes()[..], &flags.to_be_bytes()].concat()
}

fn sizes(minimum: u32, preferred: u32, maximum: u32) -> Vec<u8> {
    [minimum, preferred, maximum].iter().flat_map(|size| size.to_be_bytes()).collect()
}

#[test]
fn greeting_offers_fixed_newstyle_without_zeroes() {
    let mut talk = Talk::start(&exports());
    assert_eq!(talk.answer(), b"NBDMAGICIHAVEOPT\x00\x03");
}

#[test]
fn unknown_client_flags_end_the_connection() {
    for flags in [4_u32, 0x8000_0000, 7] {
        let mut talk = Talk::start(&exports());
        talk.output.clear();
        assert_eq!(broken(&mut talk, &flags.to_be_bytes()), ProtocolError::UnknownClientFlags { flags });
    }
}

#[test]
fn chosen_by_name_is_answered_with_size_flags_and_zeroes_unless_refused() {
    for (flags, zeroes) in [(0, 124), (1, 124), (2, 0), (3, 0)] {
        for name in ["all", ""] {
            let mut talk = greeted(flags);
            talk.receive(&option(OPT_EXPORT_NAME, name.as_bytes()));
            assert!(matches!(talk.steps()[..], [Said::Chosen]));
            let expected = [export_info(SIZE_BYTES, 0b1101_0110_1101), vec![0; zeroes]].concat();
            assert_eq!(talk.answer(), expected, "flags {flags}");
            assert_eq!(talk.transmission().export().name, "all");
        }
    }
}

#[test]
fn a_name_that_cannot_be_chosen_ends_the_connection() {
    let choose = |name: &[u8]| broken(&mut greeted(MODERN), &option(OPT_EXPORT_NAME, name));
    assert_eq!(choose(b"other"), ProtocolError::ExportUnknown { name: "other".to_owned() });
    assert_eq!(choose(b"demanding"), ProtocolError::BlockSizeRequired { name: "demanding".to_owned() });
    assert_eq!(choose(b"\xff"), ProtocolError::ExportNameInvalid);
    assert_eq!(choose(b"a\0b"), ProtocolError::ExportNameInvalid);
    assert_eq!(choose(&[b'a'; 4097]), ProtocolError::ExportNameInvalid);
    let longest = String::from_utf8(vec![b'a'; 4096]).unwrap();
    assert_eq!(choose(longest.as_bytes()), ProtocolError::ExportUnknown { name: longest });
}

#[test]
fn without_fixed_newstyle_nothing_but_a_name_is_understood() {
    for number in [OPT_ABORT, OPT_LIST, OPT_GO, OPT_STRUCTURED_REPLY, 99] {
        let error = broken(&mut greeted(0), &option(number, &[]));
        assert_eq!(error, ProtocolError::OptionWithoutFixedNewstyle { option: number });
    }
}

#[test]
fn an_option_with_wrong_magic_ends_the_connection() {
    let error = broken(&mut greeted(MODERN), b"IHAVEOPX\x00\x00\x00\x02\x00\x00\x00\x00");
    assert_eq!(error, ProtocolError::OptionMagic { found: u64::from_be_bytes(*b"IHAVEOPX") });
}

#[test]
fn go_tells_sizes_and_flags_and_enters_the_transmission() {
    for (name, flags, minimum) in
        [("all", 0b1101_0110_1101, 512), ("bare", 1, 1), ("read-only", 0b101_0000_1111, 512)]
    {
        let mut talk = greeted(MODERN);
        let replies = answers(&mut talk, OPT_GO, &info_data(name, &[3]));
        let expected = [(3, sizes(minimum, 4096, PAYLOAD_BYTES_MAX)), (0, export_info(SIZE_BYTES, flags))];
        assert_eq!(information(&replies), expected);
        assert_eq!(replies.last().unwrap().kind, ACK);
        assert_eq!(talk.transmission().export().name, name);
    }
}

#[test]
fn info_tells_the_same_and_goes_on() {
    let mut talk = greeted(MODERN);
    let info = information(&answers(&mut talk, OPT_INFO, &info_data("", &[3, 2, 1])));
    let go = information(&answers(&mut talk, OPT_GO, &info_data("", &[3, 2, 1])));
    assert_eq!(info, go);
    assert_eq!(info[2..], [(1, b"all".to_vec()), (2, b"everything".to_vec())]);
}

#[test]
fn information_that_nobody_knows_is_ignored() {
    let mut talk = greeted(MODERN);
    let replies = answers(&mut talk, OPT_INFO, &info_data("bare", &[77, 0, 2, 0xffff]));
    assert_eq!(information(&replies).iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [3, 0]);
}

#[test]
fn structured_replies_bring_the_df_flag() {
    let mut talk = greeted(MODERN);
    assert_eq!(kinds(&mut talk, OPT_STRUCTURED_REPLY, &[]), [ACK]);
    assert_eq!(kinds(&mut talk, OPT_STRUCTURED_REPLY, &[]), [ACK]);
    let info = information(&answers(&mut talk, OPT_GO, &info_data("bare", &[3])));
    assert_eq!(info[1], (0, export_info(SIZE_BYTES, 0b1000_0001)));
    assert!(talk.transmission().has_structured_replies());
}

#[test]
fn an_export_that_is_not_there_is_unknown() {
    let mut talk = greeted(MODERN);
    answers(&mut talk, OPT_STRUCTURED_REPLY, &[]);
    for number in [OPT_INFO, OPT_GO] {
        assert_eq!(kinds(&mut talk, number, &info_data("other", &[])), [ERR_UNKNOWN]);
    }
    for number in [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
        assert_eq!(kinds(&mut talk, number, &meta_data("other", &[])), [ERR_UNKNOWN]);
    }
}

#[test]
fn sizes_are_demanded_where_the_export_wants_it() {
    let mut talk = greeted(MODERN);
    for number in [OPT_INFO, OPT_GO] {
        let replies = answers(&mut talk, number, &info_data("demanding", &[0, 1]));
        assert_eq!(information(&replies), [(3, sizes(4096, 4096, PAYLOAD_BYTES_MAX))]);
        assert_eq!(replies.last().unwrap().kind, ERR_BLOCK_SIZE_REQD);
    }
    let replies = answers(&mut talk, OPT_GO, &info_data("demanding", &[3]));
    assert_eq!(replies.last().unwrap().kind, ACK);
    assert_eq!(talk.transmission().export().name, "demanding");
}

#[test]
fn list_names_and_describes_every_export() {
    let mut talk = greeted(MODERN);
    let replies = answers(&mut talk, OPT_LIST, &[]);
    let (last, entries) = replies.split_last().unwrap();
    assert_eq!(last.kind, ACK);
    let entries = entries
        .iter()
        .map(|entry| {
            assert_eq!(entry.kind, SERVER);
            let mut data = Received(&entry.data);
            let length = data.u32() as usize;
            (Received(data.take(length)).text(), data.text())
        })
        .collect::<Vec<_>>();
    let entries = entries.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>();
    let expected = [("all", "everything"), ("bare", ""), ("demanding", ""), ("read-only", "everything")];
    assert_eq!(entries, expected);
}

#[test]
fn abort_is_acknowledged_whatever_it_carries() {
    for data in [&[][..], b"bye"] {
        let mut talk = greeted(MODERN);
        talk.receive(&option(OPT_ABORT, data));
        assert!(matches!(talk.steps()[..], [Said::Aborted]));
        assert_eq!(option_replies(&talk.answer())[0].kind, ACK);
    }
}

#[test]
fn options_that_are_not_served_are_unsupported_and_the_haggling_goes_on() {
    let mut talk = greeted(MODERN);
    for number in [0, 4, OPT_STARTTLS, OPT_EXTENDED_HEADERS, 12, 0xffff_ffff] {
        for data in [&[][..], &[1; 3], &vec![2; PAYLOAD_BYTES_MAX as usize]] {
            assert_eq!(kinds(&mut talk, number, data), [ERR_UNSUP], "option {number}");
        }
    }
    assert_eq!(kinds(&mut talk, OPT_STRUCTURED_REPLY, &[]), [ACK]);
}

#[test]
fn options_without_data_are_invalid_with_data() {
    let mut talk = greeted(MODERN);
    for number in [OPT_LIST, OPT_STRUCTURED_REPLY] {
        assert_eq!(kinds(&mut talk, number, &[0]), [ERR_INVALID], "option {number}");
    }
    let info = information(&answers(&mut talk, OPT_INFO, &info_data("bare", &[])));
    assert_eq!(info[1], (0, export_info(SIZE_BYTES, 1)), "structured replies were negotiated all the same");
}

#[test]
fn data_that_is_cut_short_or_too_long_is_invalid() {
    let (info, meta) = (info_data("all", &[3, 2]), meta_data("all", &["base:allocation", "x:y"]));
    let mut talk = greeted(MODERN);
    answers(&mut talk, OPT_STRUCTURED_REPLY, &[]);
    for (numbers, data) in [([OPT_INFO, OPT_GO], info), ([OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT], meta)]
    {
        for number in numbers {
            for length in 0..data.len() {
                assert_eq!(
                    kinds(&mut talk, number, &data[..length]),
                    [ERR_INVALID],
                    "{number}: {length} bytes"
                );
            }
            assert_eq!(kinds(&mut talk, number, &[&data[..], b"x"].concat()), [ERR_INVALID], "{number}");
            assert_eq!(kinds(&mut talk, number, &[0xff; 12]), [ERR_INVALID], "{number}");
        }
    }
}

#[test]
fn strings_that_are_none_are_invalid() {
    let mut talk = greeted(MODERN);
    answers(&mut talk, OPT_STRUCTURED_REPLY, &[]);
    let too_long = "a".repeat(4097);
    for name in ["a\0b", too_long.as_str()] {
        assert_eq!(kinds(&mut talk, OPT_GO, &info_data(name, &[])), [ERR_INVALID]);
        assert_eq!(kinds(&mut talk, OPT_SET_META_CONTEXT, &meta_data(name, &[])), [ERR_INVALID]);
    }
    assert_eq!(kinds(&mut talk, OPT_GO, b"\0\0\0\x01\xff\0\0"), [ERR_INVALID]);
    assert_eq!(kinds(&mut talk, OPT_SET_META_CONTEXT, &meta_data("all", &[&too_long])), [ERR_INVALID]);
}

#[test]
fn options_with_too_much_data_are_too_big_and_with_far_too_much_the_end() {
    let too_much = vec![0; OPTION_DATA_BYTES_MAX as usize + 1];
    let mut talk = greeted(MODERN);
    for number in [OPT_INFO, OPT_GO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
        assert_eq!(kinds(&mut talk, number, &too_much), [ERR_TOO_BIG]);
    }
    let bytes = PAYLOAD_BYTES_MAX + 1;
    let mut header = option(OPT_GO, &[]);
    header[12..].copy_from_slice(&bytes.to_be_bytes());
    let expected = ProtocolError::OptionTooLong { option: OPT_GO, bytes, bytes_max: PAYLOAD_BYTES_MAX };
    assert_eq!(broken(&mut talk, &header), expected);
}

#[test]
fn haggling_has_an_end() {
    let mut talk = greeted(MODERN);
    for _ in 0..OPTIONS_MAX {
        assert_eq!(kinds(&mut talk, 99, &[]), [ERR_UNSUP]);
    }
    let error = broken(&mut talk, &option(99, &[]));
    assert_eq!(error, ProtocolError::TooManyOptions { options_max: OPTIONS_MAX });
}

#[test]
fn meta_contexts_need_structured_replies_first() {
    let mut talk = greeted(MODERN);
    for number in [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
        assert_eq!(kinds(&mut talk, number, &meta_data("all", &["base:allocation"])), [ERR_INVALID]);
    }
}

#[test]
fn meta_contexts_are_listed_and_selected_by_query() {
    const LIST: u32 = OPT_LIST_META_CONTEXT;
    const SET: u32 = OPT_SET_META_CONTEXT;
    let mut talk = greeted(MODERN);
    answers(&mut talk, OPT_STRUCTURED_REPLY, &[]);
    for (number, export, queries, found) in [
        (LIST, "all", &[][..], true),
        (LIST, "all", &["base:"], true),
        (LIST, "all", &["base:allocation"], true),
        (LIST, "all", &["base:allocation", "base:", "qemu:"], true),
        (LIST, "all", &["base:other", "x-ours:base:allocation", "", "base", "allocation"], false),
        (LIST, "bare", &[], false),
        (LIST, "", &["base:allocation"], true),
        (SET, "all", &[], false),
        (SET, "all", &["base:"], false),
        (SET, "all", &["base:allocation"], true),
        (SET, "all", &["qemu:dirty-bitmap:b", "base:allocation", "base:allocation"], true),
        (SET, "all", &["base:allocation2"], false),
        (SET, "bare", &["base:allocation"], false),
    ] {
        let replies = answers(&mut talk, number, &meta_data(export, queries));
        let id = if number == SET { 1_u32 } else { 0 };
        let context = [&id.to_be_bytes()[..], b"base:allocation"].concat();
        let mut expected = vec![(ACK, vec![])];
        if found {
            expected.insert(0, (META_CONTEXT, context));
        }
        let replies = replies.into_iter().map(|reply| (reply.kind, reply.data)).collect::<Vec<_>>();
        assert_eq!(replies, expected, "option {number} for {export:?} with {queries:?}");
    }
}

#[test]
fn block_status_is_served_if_the_last_selection_was_for_the_chosen_export() {
    let all = |queries: &[&str]| option(OPT_SET_META_CONTEXT, &meta_data("all", queries));
    let too_big = option(OPT_SET_META_CONTEXT, &vec![0; OPTION_DATA_BYTES_MAX as usize + 1]);
    let selected = all(&["base:allocation"]);
    for (options, go, served) in [
        (vec![selected.clone()], "all", true),
        (vec![selected.clone()], "", true),
        (vec![selected.clone()], "read-only", false),
        (vec![selected.clone(), all(&[])], "all", false),
        (vec![selected.clone(), option(OPT_SET_META_CONTEXT, &[1])], "all", false),
        (vec![selected.clone(), too_big], "all", false),
        (vec![], "all", false),
        (vec![selected, option(OPT_LIST_META_CONTEXT, &meta_data("all", &[]))], "all", true),
    ] {
        let mut talk = greeted(MODERN);
        talk.receive(&option(OPT_STRUCTURED_REPLY, &[]));
        talk.receive(&options.concat());
        talk.receive(&option(OPT_GO, &info_data(go, &[3])));
        assert!(matches!(talk.steps().last(), Some(Said::Chosen)));
        let event = talk.event(&Sent::new(BLOCK_STATUS, 0, 4096).bytes());
        let request = matches!(event, nbd_server::Event::Request(_));
        assert_eq!(request, served, "{go:?} after {} selections", options.len());
    }
}
