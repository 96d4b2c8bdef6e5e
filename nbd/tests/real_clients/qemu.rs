//! `qemu-io`, `qemu-img` and `qemu-nbd --list`.

use crate::{
    SIZE_BYTES, capable,
    program::{Finished, QEMU_IMG, QEMU_IO, QEMU_NBD},
    server::Server,
};
use nbd_server::{Access, BlockSize, Export};
use std::fs;

/// Runs the commands. Without `-t writeback` QEMU sets FUA on every write.
fn qemu_io(uri: &str, commands: &[&str]) -> Finished {
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    QEMU_IO.run(["-f", "raw", "-t", "writeback"].into_iter().chain(commands).chain([uri]))
}

#[test]
fn qemu_io_reads_back_what_it_wrote() {
    let server = Server::start(vec![capable("volume")]);
    for uri in [server.unix_uri("volume"), server.tcp_uri("volume"), server.unix_uri("")] {
        let said = qemu_io(
            &uri,
            &[
                "write -P 0xa5 0 2M",
                "write -f -P 0x5a 1M 64k",
                "write -P 0x11 512 512",
                "flush",
                "read -P 0xa5 0 512",
                "read -P 0x11 512 512",
                "read -P 0xa5 1k 1023k",
                "read -P 0x5a 1M 64k",
                "read -P 0 2M 1M",
            ],
        )
        .success();
        assert!(!said.contains("Pattern verification failed"), "{said}");
    }
    assert!(server.seen("write+fua") >= 3 && server.seen("flush") >= 3, "{:?}", server.all_seen());
    assert_eq!(server.disk("volume").read(1 << 20, 64 << 10), Ok(vec![0x5a; 64 << 10]));
}

#[test]
fn qemu_io_keeps_many_requests_in_flight() {
    let server = Server::start(vec![capable("volume")]);
    let commands =
        (0..64_u64).map(|n| format!("aio_write -q -P {} {}k 96k", n + 1, n * 96)).collect::<Vec<_>>();
    let reads = (0..64_u64).map(|n| format!("aio_read -q -P {} {}k 96k", n + 1, n * 96)).collect::<Vec<_>>();
    let commands =
        commands.iter().chain([&"aio_flush".to_owned()]).chain(&reads).cloned().collect::<Vec<_>>();
    let commands = commands.iter().map(String::as_str).chain(["aio_flush"]).collect::<Vec<_>>();
    let said = qemu_io(&server.unix_uri("volume"), &commands).success();
    assert_eq!(said.trim(), "");
}

#[test]
fn qemu_io_zeroes_and_trims() {
    let server = Server::start(vec![capable("volume")]);
    let said = qemu_io(
        &server.unix_uri("volume"),
        &[
            "write -P 0xff 0 1M",
            "write -z 64k 64k",
            "write -z -u 128k 64k",
            "write -z -u -n 256k 64k",
            "discard 512k 64k",
            "read -P 0xff 0 64k",
            "read -P 0 64k 128k",
            "read -P 0 256k 64k",
            "read -P 0xff 576k 448k",
            "read -P 0 512k 64k",
        ],
    )
    .success();
    assert!(!said.contains("verification failed"), "{said}");
    assert!(server.seen("zeroes") >= 2, "{:?}", server.all_seen());
    assert!(server.seen("fast zeroes") >= 1 && server.seen("trim") >= 1, "{:?}", server.all_seen());
    let status = server.disk("volume").extents(0, 192 << 10);
    let status = status.iter().map(|extent| (extent.hole, extent.zero)).collect::<Vec<_>>();
    assert_eq!(status, [(false, false), (false, true), (true, true)], "data, zeroed with storage, hole");
}

#[test]
fn fast_zeroing_that_is_not_fast_is_told_to_qemu_as_such() {
    let server = Server::start(vec![capable("volume")]);
    // Without -u, the zeroes must keep their storage, which is not fast on the test's disk.
    let said = qemu_io(&server.unix_uri("volume"), &["write -z -n 0 64k"]).failure();
    assert!(said.contains("Operation not supported"), "{said}");
    assert_eq!(server.seen("fast zeroes"), 1);
}

#[test]
fn qemu_keeps_to_blocks_of_4096_and_does_the_rest_itself() {
    let mut export = capable("volume");
    export.block_size = BlockSize::of(4096);
    let server = Server::start(vec![export]);
    let uri = server.unix_uri("volume");
    qemu_io(&uri, &["write -P 1 0 8k", "write -P 2 512 512", "write -z 7k 2k"]).success();
    let said = qemu_io(&uri, &["read -P 2 512 512", "read -P 1 1k 6k", "read -P 0 7k 1k"]).success();
    assert!(!said.contains("verification failed"), "{said}");
    let refused = server.all_seen().into_keys().find(|what| what.starts_with("refused"));
    assert_eq!(refused, None);
}

#[test]
fn qemu_io_cannot_write_what_is_read_only() {
    let mut export = capable("volume");
    export.access = Access::ReadOnly;
    let server = Server::start(vec![export]);
    let said = qemu_io(&server.unix_uri("volume"), &["write 0 4k"]).failure();
    assert!(said.contains("Permission denied"), "{said}");
    let said = QEMU_IO.run(["-r", "-f", "raw", "-c", "read -P 0 0 1M", &server.unix_uri("volume")]).success();
    assert!(said.contains("read 1048576/1048576"), "{said}");
}

#[test]
fn a_block_that_cannot_be_read_is_an_error_and_the_connection_goes_on() {
    let server = Server::start(vec![capable("volume")]);
    server.disk("volume").write(0, &[7; 4096]);
    server.disk("volume").go_bad(1024);
    let said =
        qemu_io(&server.unix_uri("volume"), &["read -P 7 0 4k", "read -P 7 2k 2k", "read 0 4k"]).failure();
    assert_eq!(said.matches("Input/output error").count(), 2, "{said}");
    assert_eq!(said.matches("read 2048/2048").count(), 1, "{said}");
}

#[test]
fn qemu_img_sees_size_map_and_copies_in_and_out() {
    let server = Server::start(vec![capable("volume")]);
    let uri = server.unix_uri("volume");
    let info = QEMU_IMG.run(["info", "--output=json", &uri]).success();
    assert!(info.contains(&format!("\"virtual-size\": {SIZE_BYTES}")), "{info}");

    let (image, copy) = (server.directory().join("image"), server.directory().join("copy"));
    let mut content = vec![0; SIZE_BYTES as usize];
    content[1 << 20..2 << 20].fill(0x42);
    content[15 << 20] = 0x43;
    fs::write(&image, &content).unwrap();
    QEMU_IMG.run(["convert", "-n", "-f", "raw", "-O", "raw", image.as_str(), &uri]).success();
    QEMU_IMG.run(["compare", "-f", "raw", "-F", "raw", image.as_str(), &uri]).success();
    let map = QEMU_IMG.run(["map", "--output=json", "-f", "raw", &uri]).success();
    assert!(map.contains("\"start\": 1048576, \"length\": 1048576"), "{map}");
    QEMU_IMG.run(["convert", "-f", "raw", "-O", "raw", &uri, copy.as_str()]).success();
    assert!(fs::read(&copy).unwrap() == content, "the copy differs");
    assert!(server.seen("block status") > 0, "{:?}", server.all_seen());
}

#[test]
fn qemu_nbd_lists_every_export() {
    let mut first = capable("first");
    first.description = "the first one".to_owned();
    let mut second = Export::new("second", 1 << 20, BlockSize::of(4096));
    second.access = Access::ReadOnly;
    let server = Server::start(vec![first, second]);
    let list = QEMU_NBD.run(["--list", "-k", server.socket().as_str()]).success();
    for expected in [
        "exports available: 2",
        "export: 'first'",
        "description: the first one",
        "size:  16777216",
        "flags: 0xded ( flush fua trim zeroes df multi cache fast-zero )",
        "base:allocation",
        "export: 'second'",
        "size:  1048576",
        "flags: 0x83 ( readonly df )",
        "min block: 4096",
        "max block: 33554432",
    ] {
        assert!(list.contains(expected), "{expected:?} is not in\n{list}");
    }
}
