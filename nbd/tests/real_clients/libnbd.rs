//! `nbdinfo` and `nbdcopy`.

use crate::{
    SIZE_BYTES, capable,
    program::{NBDCOPY, NBDINFO},
    server::Server,
};
use nbd_server::{Access, BlockSize, Export, Features, SizesNotAsked};
use std::fs;

#[test]
fn nbdinfo_sees_what_an_export_is_and_can() {
    let mut export = capable("volume");
    export.description = "a volume".to_owned();
    let server = Server::start(vec![export]);
    for uri in [server.unix_uri("volume"), server.tcp_uri("volume")] {
        let info = NBDINFO.run(["--json", &uri]).success();
        for expected in [
            "\"protocol\": \"newstyle-fixed\"",
            "\"structured\": true",
            "\"export-name\": \"volume\"",
            "\"description\": \"a volume\"",
            "\"base:allocation\"",
            "\"is_read_only\": false",
            "\"can_cache\": true",
            "\"can_df\": true",
            "\"can_fast_zero\": true",
            "\"can_flush\": true",
            "\"can_fua\": true",
            "\"can_multi_conn\": true",
            "\"can_trim\": true",
            "\"can_zero\": true",
            "\"block_size_minimum\": 512",
            "\"block_size_preferred\": 4096",
            "\"block_size_maximum\": 33554432",
            "\"export-size\": 16777216",
        ] {
            assert!(info.contains(expected), "{expected:?} is not in\n{info}");
        }
    }
}

#[test]
fn nbdinfo_sees_what_a_bare_export_cannot() {
    let mut export = Export::new("bare", SIZE_BYTES, BlockSize::of(4096));
    export.access = Access::ReadOnly;
    let server = Server::start(vec![export]);
    let uri = server.unix_uri("bare");
    NBDINFO.run(["--is", "read-only", &uri]).success();
    for ability in ["cache", "fast-zero", "flush", "fua", "multi-conn", "trim", "zero", "write"] {
        NBDINFO.run(["--can", ability, &uri]).failure();
    }
    let info = NBDINFO.run(["--json", &uri]).success();
    assert!(!info.contains("base:allocation"), "{info}");
}

#[test]
fn nbdinfo_is_told_that_an_export_is_not_there() {
    let server = Server::start(vec![capable("volume")]);
    let said = NBDINFO.run([server.unix_uri("other")]).failure();
    assert!(said.contains("No such file or directory for export: other"), "{said}");
}

#[test]
fn nbdinfo_asks_for_the_sizes_where_that_is_demanded() {
    let mut export = capable("volume");
    export.sizes_not_asked = SizesNotAsked::Refuse;
    let server = Server::start(vec![export]);
    let size = NBDINFO.run(["--size", &server.unix_uri("volume")]).success();
    assert_eq!(size.trim(), SIZE_BYTES.to_string());
}

#[test]
fn nbdinfo_lists_every_export() {
    let mut second = capable("second");
    second.description = "another".to_owned();
    let server = Server::start(vec![capable("first"), second]);
    let list = NBDINFO.run(["--list", "--json", &server.unix_uri("")]).success();
    for expected in
        ["\"export-name\": \"first\"", "\"export-name\": \"second\"", "\"description\": \"another\""]
    {
        assert!(list.contains(expected), "{expected:?} is not in\n{list}");
    }
}

#[test]
fn nbdinfo_maps_data_zeroes_and_holes() {
    let server = Server::start(vec![capable("volume")]);
    let disk = server.disk("volume");
    disk.write(1 << 20, &[1; 64 << 10]);
    disk.zero(2 << 20, 4096, true);
    let map = NBDINFO.run(["--map", &server.unix_uri("volume")]).success();
    let rows =
        map.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(
        rows,
        [
            "0 1048576 3 hole,zero",
            "1048576 65536 0 data",
            "1114112 983040 3 hole,zero",
            "2097152 4096 2 zero",
            "2101248 14675968 3 hole,zero",
        ]
    );
}

#[test]
fn nbdcopy_copies_in_and_out() {
    let server = Server::start(vec![capable("volume")]);
    let (image, copy) = (server.directory().join("image"), server.directory().join("copy"));
    let mut content = vec![0_u8; SIZE_BYTES as usize];
    for (n, byte) in content[3 << 20..7 << 20].iter_mut().enumerate() {
        *byte = (n / 512 % 251) as u8;
    }
    content[SIZE_BYTES as usize - 1] = 9;
    fs::write(&image, &content).unwrap();
    for uri in [server.unix_uri("volume"), server.tcp_uri("volume")] {
        NBDCOPY.run(["--flush", "--requests=32", "--connections=4", image.as_str(), &uri]).success();
        assert!(server.disk("volume").read(0, SIZE_BYTES).as_ref() == Ok(&content), "copied in, it differs");
        fs::remove_file(&copy).ok();
        NBDCOPY.run(["--requests=32", "--connections=4", &uri, copy.as_str()]).success();
        assert!(fs::read(&copy).unwrap() == content, "copied out, it differs");
        server.disk("volume").zero(0, SIZE_BYTES, false);
    }
    for what in ["write", "flush", "block status", "read"] {
        assert!(server.seen(what) > 0, "no {what}: {:?}", server.all_seen());
    }
}

#[test]
fn nbdcopy_copies_between_exports_with_and_without_abilities() {
    let mut bare = Export::new("bare", SIZE_BYTES, BlockSize::of(4096));
    bare.features = Features { flush: true, ..Features::default() };
    let server = Server::start(vec![capable("volume"), bare]);
    server.disk("volume").write(5 << 20, &[3; 1 << 20]);
    let expected = server.disk("volume").read(0, SIZE_BYTES);
    let (volume, bare) = (server.unix_uri("volume"), server.tcp_uri("bare"));
    NBDCOPY.run([&volume, &bare]).success();
    assert!(server.disk("bare").read(0, SIZE_BYTES) == expected, "copied to the bare one, it differs");
    server.disk("volume").write(0, &[4; 4 << 20]);
    NBDCOPY.run([&bare, &volume]).success();
    assert!(server.disk("volume").read(0, SIZE_BYTES) == expected, "copied back, it differs");
    assert!(server.seen("zeroes") + server.seen("fast zeroes") > 0, "{:?}", server.all_seen());
}
