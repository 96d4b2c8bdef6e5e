//! fio, with its engine `nbd`: random writes that are verified, with many requests in flight. Always with `--thread`: a process that it
//! forks would outlive it when it is killed.

use crate::{SIZE_BYTES, capable, program::FIO, server::Server};

/// Random writes of mixed sizes; then everything is read and verified.
const VERIFIED_WRITES: [&str; 12] = [
    "--name=verified",
    "--thread",
    "--verify_state_save=0",
    "--ioengine=nbd",
    "--rw=randwrite",
    "--bsrange=512-128k",
    "--bs_unaligned=0",
    "--iodepth=32",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--fsync=64",
    "--randseed=7",
];

#[test]
fn fio_verifies_what_it_wrote() {
    let server = Server::start(vec![capable("volume")]);
    for uri in [server.unix_uri("volume"), server.tcp_uri("volume")] {
        let (uri, size) = (format!("--uri={uri}"), format!("--size={SIZE_BYTES}"));
        let said = FIO.run(VERIFIED_WRITES.into_iter().chain([uri.as_str(), size.as_str()])).success();
        assert!(said.contains("err= 0"), "{said}");
    }
    let seen = server.all_seen();
    assert!(seen["write"] > 100 && seen["read"] > 100 && seen["flush"] > 2, "{seen:?}");
}

#[test]
fn fio_trims() {
    let server = Server::start(vec![capable("volume")]);
    server.disk("volume").write(0, &vec![1; SIZE_BYTES as usize]);
    let (uri, size) = (format!("--uri={}", server.unix_uri("volume")), format!("--size={SIZE_BYTES}"));
    let arguments =
        ["--name=trim", "--thread", "--ioengine=nbd", "--rw=trim", "--bs=64k", "--iodepth=8", &uri, &size];
    FIO.run(arguments).success();
    assert_eq!(server.seen("trim"), SIZE_BYTES / (64 << 10));
    assert_eq!(server.disk("volume").extents(0, SIZE_BYTES).len(), 1);
}
