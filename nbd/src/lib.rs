//! The server's side of the NBD protocol, without sockets.
//!
//! **Problem.** A volume is used through NBD: by QEMU, by the kernel, by tools. The protocol has grown for 25 years; its
//! handshake alone has a dozen options, its replies two forms, and its document says for each mistake of a client whether it is an error
//! or the end. That is easily got half right inside of a server's loop, and hard to test there.
//!
//! **Theory.** The protocol is a function from bytes to events and from answers to bytes. So this crate has no socket, no task, no
//! clock: the caller reads into a buffer, hands it in, gets an event of a closed set, and sends what it is given to send. What must
//! not happen is kept from compiling: a handshake becomes a transmission once, and a reply is made from what came with its
//! request, once, in the form that the client has negotiated.
//!
//! ```text
//!   bytes from the client                                                          bytes to the client
//!        │                                                                              ▲
//!        │    Handshake ──(GO, EXPORT_NAME)──► Transmission                             │
//!        ▼        │ answers                        │                                    │
//!    BytesMut ────┴────────────────────────────────┴──► Event ─ Refused ────────────────┤
//!                                                         └── Request ─► caller ─► reply's Head, data
//! ```
//!
//! **The caller's loop.** Read until `NeedMore` is satisfied, into all the room that there is, so that a large payload takes few
//! system calls; then call again, until it says `NeedMore`. How many requests are in flight, in which order they are answered, how long
//! a silent client is borne, and when everything ends, is the caller's.
//!
//! ```
//! use bytes::BytesMut;
//! use nbd_server::{Event, ProtocolError, Request, Transmission};
//!
//! /// What the input holds, done and answered; returns how many bytes must be read before the next call, or nothing at the end.
//! fn work(
//!     transmission: &mut Transmission,
//!     input: &mut BytesMut,
//!     disk: &mut [u8],
//!     output: &mut BytesMut,
//! ) -> Result<Option<usize>, ProtocolError> {
//!     loop {
//!         match transmission.next_event(input)? {
//!             Event::NeedMore { bytes } => return Ok(Some(bytes)),
//!             Event::Disconnect => return Ok(None),
//!             Event::Refused { reply, .. } => output.extend_from_slice(&reply),
//!             Event::Request(Request::Write { offset, data, reply, .. }) => {
//!                 disk[offset as usize..][..data.len()].copy_from_slice(&data);
//!                 output.extend_from_slice(&reply.success());
//!             }
//!             Event::Request(Request::Read { offset, length, reply }) => {
//!                 output.extend_from_slice(&reply.whole());
//!                 output.extend_from_slice(&disk[offset as usize..][..length as usize]);
//!             }
//!             Event::Request(_) => unreachable!("the export offers nothing else"),
//!         }
//!     }
//! }
//! ```
//!
//! **Bounds.** No call allocates more than the answer to one option (the list of all exports at most), one error message, or one list
//! of extents. The input never has to be longer than a payload ([`Exports::payload_bytes_max`]) or an option's data
//! ([`OPTION_DATA_BYTES_MAX`]).
//!
//! What is served and what is refused: `docs/NBD.md`. Where the protocol's document leaves a choice, the choice is where it is made.

pub mod wire;

mod export;
mod handshake;
mod option_answer;
mod option_data;
mod protocol_error;

mod head;
mod read_reply;
mod refusal;
mod reply;
mod transmission;

pub use export::{
    Access, BlockSize, EXPORTS_MAX, Export, ExportError, ExportProblem, Exports, Features,
    PAYLOAD_BYTES_MAX_GREATEST, PAYLOAD_BYTES_MAX_LEAST, PAYLOAD_BYTES_MAX_USUAL, SizesNotAsked, TextProblem,
};
pub use handshake::{Handshake, HandshakeProgress, OPTION_DATA_BYTES_MAX, OPTIONS_MAX};
pub use head::{Cookie, Head};
pub use protocol_error::ProtocolError;
pub use read_reply::{ReadChunks, ReadReply};
pub use refusal::Refusal;
pub use reply::{BlockStatusReply, EXTENTS_MAX, ErrorCode, Extent, StatusReply, ZeroesReply};
pub use transmission::{Event, Request, Transmission};
