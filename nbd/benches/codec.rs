//! What the codec costs per request, without sockets: `cargo bench -p nbd-server`. Owns no promise, it prints nanoseconds.
//!
//! Input is prepared before the clock runs, in buffers of 64 requests, as one read of a busy socket brings them.

use bytes::BytesMut;
use nbd_server::{
    BlockSize, Event, Export, Exports, Features, Handshake, HandshakeProgress, PAYLOAD_BYTES_MAX_USUAL,
    Request, Transmission,
};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

const REQUESTS_PER_BUFFER: u64 = 64;
const BUFFERS: usize = 400;
const ROUNDS: usize = 7;

fn main() {
    for structured in [false, true] {
        let form = if structured { "structured" } else { "simple" };
        for (name, command, payload) in [
            ("write 4 KiB", 1, 4096),
            ("read 4 KiB", 0, 0),
            ("flush", 3, 0),
            ("refused write 4 KiB", 1, 4096),
        ] {
            let refused = name.starts_with("refused");
            let mut rounds =
                (0..ROUNDS).map(|_| round(structured, command, payload, refused)).collect::<Vec<_>>();
            rounds.sort();
            let median = rounds[ROUNDS / 2].as_nanos() as f64;
            let requests = (BUFFERS as u64 * REQUESTS_PER_BUFFER) as f64;
            println!("{form:10} {name:20} {:6.0} ns for a request and its reply", median / requests);
        }
    }
}

fn round(structured: bool, command: u16, payload: usize, refused: bool) -> Duration {
    let mut transmission = transmission(structured);
    let mut inputs = (0..BUFFERS).map(|_| buffer(command, payload, refused)).collect::<Vec<_>>();
    let mut output = BytesMut::with_capacity(1 << 20);
    let start = Instant::now();
    for input in &mut inputs {
        output.clear();
        loop {
            match transmission.next_event(input).expect("the requests are right") {
                Event::NeedMore { .. } => break,
                Event::Request(request) => answer(request, &mut output),
                Event::Refused { reply, .. } => output.extend_from_slice(&reply),
                Event::Disconnect => return Duration::ZERO,
            }
        }
        black_box(&output);
    }
    start.elapsed()
}

fn answer(request: Request, output: &mut BytesMut) {
    let head = match request {
        Request::Read { reply, .. } => reply.whole(),
        Request::Write { data, reply, .. } => {
            black_box(data);
            reply.success()
        }
        Request::WriteZeroes { reply, .. } => reply.success(),
        Request::Trim { reply, .. } | Request::Flush { reply } | Request::Cache { reply, .. } => {
            reply.success()
        }
        Request::BlockStatus { reply, .. } => return output.extend_from_slice(&reply.extents([])),
    };
    output.extend_from_slice(&head);
}

fn buffer(command: u16, payload: usize, refused: bool) -> BytesMut {
    let mut buffer = BytesMut::new();
    let length = if command == 3 { 0 } else { 4096_u32 };
    for cookie in 0..REQUESTS_PER_BUFFER {
        let offset = if refused { 1 } else { cookie * u64::from(length) };
        buffer.extend_from_slice(&0x2560_9513_u32.to_be_bytes());
        buffer.extend_from_slice(&0_u16.to_be_bytes());
        buffer.extend_from_slice(&command.to_be_bytes());
        buffer.extend_from_slice(&cookie.to_be_bytes());
        buffer.extend_from_slice(&offset.to_be_bytes());
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.resize(buffer.len() + payload, 7);
    }
    buffer
}

/// A client that has chosen the export.
fn transmission(structured: bool) -> Transmission {
    let mut export = Export::new("", 1 << 30, BlockSize::of(4096));
    export.features = Features::all();
    let mut exports = Exports::new(PAYLOAD_BYTES_MAX_USUAL).expect("the usual bound is a bound");
    exports.add(export).expect("the export keeps the rules");
    let (mut input, mut output) = (BytesMut::from(&[0, 0, 0, 3][..]), BytesMut::new());
    if structured {
        input.extend_from_slice(b"IHAVEOPT\0\0\0\x08\0\0\0\0");
    }
    input.extend_from_slice(b"IHAVEOPT\0\0\0\x01\0\0\0\0");
    let mut handshake = Handshake::start(Arc::new(exports), &mut output);
    loop {
        match handshake.advance(&mut input, &mut output).expect("the client keeps the rules") {
            HandshakeProgress::Answered(again) => handshake = again,
            HandshakeProgress::Chosen(transmission) => return transmission,
            other => panic!("nothing was chosen: {other:?}"),
        }
    }
}
