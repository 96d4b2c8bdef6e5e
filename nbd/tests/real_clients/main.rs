//! The library behind real sockets, used by the clients that people use: QEMU's tools, libnbd's, fio. They come from Debian's
//! packages `qemu-utils`, `libnbd-bin` and `fio`; a test whose client is not there fails and says so.
//!
//! None of them speaks the old forms any more (`NBD_OPT_EXPORT_NAME`, simple replies); the tests in `protocol` do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fio;
mod libnbd;
mod memory;
mod program;
mod qemu;
mod server;

use nbd_server::{BlockSize, Export, Features};

/// Bytes of an export.
const SIZE_BYTES: u64 = 16 << 20;

/// An export of 512-byte blocks that can do everything.
fn capable(name: &str) -> Export {
    let mut export = Export::new(name, SIZE_BYTES, BlockSize::of(512));
    export.features = Features::all();
    export
}
