//! The protocol, without sockets: every option, every command, what is refused, every form of a reply, and any bytes at all.
//!
//! `client.rs` is the other side, and knows nothing of the library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod any_bytes;
mod client;
mod handshake;
mod offers;
mod replies;
mod requests;
mod talk;

use client::{MODERN, OPT_GO, OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY, info_data, meta_data, option};
use nbd_server::{Access, BlockSize, Export, Exports, Features, PAYLOAD_BYTES_MAX_LEAST, SizesNotAsked};
use std::sync::Arc;
use talk::{Said, Talk};

/// Bytes of the exports of these tests.
const SIZE_BYTES: u64 = 1 << 30;
/// Bytes of one payload at most, for the exports of these tests.
const PAYLOAD_BYTES_MAX: u32 = 4 * PAYLOAD_BYTES_MAX_LEAST;

/// `all` can do everything, in blocks of 512 bytes; `bare` nothing, in bytes; `read-only` all that can be done without
/// writing; `demanding` wants its block sizes known. The default is `all`.
fn exports() -> Arc<Exports> {
    let mut all = Export::new("all", SIZE_BYTES, BlockSize::of(512));
    all.features = Features::all();
    all.description = "everything".to_owned();
    let bare = Export::new("bare", SIZE_BYTES, BlockSize::of(1));
    let mut read_only = Export { name: "read-only".to_owned(), ..all.clone() };
    read_only.access = Access::ReadOnly;
    let mut demanding = Export::new("demanding", SIZE_BYTES, BlockSize::of(4096));
    demanding.sizes_not_asked = SizesNotAsked::Refuse;
    let mut exports = Exports::new(PAYLOAD_BYTES_MAX).unwrap();
    for export in [all, bare, read_only, demanding] {
        exports.add(export).unwrap();
    }
    exports.set_default("all").unwrap();
    Arc::new(exports)
}

/// A connection that is done with the handshake, with simple replies.
fn simple(export: &str) -> Talk {
    chosen(&[option(OPT_GO, &info_data(export, &[3]))])
}

/// A connection that is done with the handshake, with structured replies and block status.
fn structured(export: &str) -> Talk {
    chosen(&[
        option(OPT_STRUCTURED_REPLY, &[]),
        option(OPT_SET_META_CONTEXT, &meta_data(export, &["base:allocation"])),
        option(OPT_GO, &info_data(export, &[3])),
    ])
}

fn chosen(options: &[Vec<u8>]) -> Talk {
    let mut talk = Talk::start(&exports());
    talk.receive(&MODERN.to_be_bytes());
    talk.receive(&options.concat());
    assert!(matches!(talk.steps().last(), Some(Said::Chosen)), "no export was chosen");
    talk.output.clear();
    talk
}
