//! A connection without a socket: bytes go in, in any pieces, and what the library makes of them is written down. Owns the bounds that
//! every call has to keep, whatever the bytes are.

use bytes::BytesMut;
use nbd_server::{
    Event, Exports, Handshake, HandshakeProgress, OPTION_DATA_BYTES_MAX, ProtocolError, Request, Transmission,
};
use std::sync::Arc;

/// Bytes that one call may answer with: a list of the few exports of these tests, or one error.
const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// A connection.
pub(crate) struct Talk {
    exports: Arc<Exports>,
    phase: Phase,
    input: BytesMut,
    /// Not looked at yet.
    pub(crate) output: BytesMut,
}

enum Phase {
    Handshake(Handshake),
    Transmission(Transmission),
    Ended,
}

/// What the library said.
#[derive(Debug)]
pub(crate) enum Said {
    NeedMore(usize),
    Answered,
    Aborted,
    Chosen,
    Event(Event),
    Broken(ProtocolError),
}

impl Talk {
    pub(crate) fn start(exports: &Arc<Exports>) -> Self {
        let mut output = BytesMut::new();
        let handshake = Handshake::start(Arc::clone(exports), &mut output);
        let phase = Phase::Handshake(handshake);
        Talk { exports: Arc::clone(exports), phase, input: BytesMut::new(), output }
    }

    /// As if these bytes had come.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// One call.
    #[track_caller]
    pub(crate) fn step(&mut self) -> Said {
        let (input_before, output_before) = (self.input.len(), self.output.len());
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        let (phase, said) = match phase {
            Phase::Handshake(handshake) => match handshake.advance(&mut self.input, &mut self.output) {
                Ok(HandshakeProgress::NeedMore { handshake, bytes }) => {
                    (Phase::Handshake(handshake), Said::NeedMore(bytes))
                }
                Ok(HandshakeProgress::Answered(handshake)) => (Phase::Handshake(handshake), Said::Answered),
                Ok(HandshakeProgress::Aborted) => (Phase::Ended, Said::Aborted),
                Ok(HandshakeProgress::Chosen(transmission)) => {
                    (Phase::Transmission(transmission), Said::Chosen)
                }
                Err(error) => (Phase::Ended, Said::Broken(error)),
            },
            Phase::Transmission(mut transmission) => {
                let said = match transmission.next_event(&mut self.input) {
                    Ok(Event::NeedMore { bytes }) => Said::NeedMore(bytes),
                    Ok(event) => Said::Event(event),
                    Err(error) => Said::Broken(error),
                };
                (Phase::Transmission(transmission), said)
            }
            Phase::Ended => panic!("the connection has ended"),
        };
        self.phase = phase;
        self.check_bounds(&said, input_before, self.output.len() - output_before);
        said
    }

    fn check_bounds(&self, said: &Said, input_before: usize, output: usize) {
        assert!(output <= OUTPUT_BYTES_MAX, "one call answered with {output} bytes");
        assert!(self.input.len() <= input_before, "the input has grown");
        if let Said::NeedMore(bytes) = said {
            let awaited = self.input.len() + bytes;
            let bytes_max = self.exports.payload_bytes_max().max(OPTION_DATA_BYTES_MAX) as usize;
            assert!((1..=bytes_max).contains(bytes) && awaited <= bytes_max, "{awaited} bytes are awaited");
        }
        if let Said::Event(Event::Refused { reply, .. }) = said {
            assert!(reply.len() <= 256, "a refusal has {} bytes", reply.len());
        }
        if let Said::Event(Event::Request(Request::Write { data, .. })) = said {
            assert!(data.len() <= self.exports.payload_bytes_max() as usize);
        }
    }

    /// All steps until more bytes are needed or the connection ends, but not what is needed.
    #[track_caller]
    pub(crate) fn steps(&mut self) -> Vec<Said> {
        let mut all = Vec::new();
        loop {
            let said = self.step();
            match &said {
                Said::NeedMore(_) => return all,
                Said::Aborted | Said::Broken(_) | Said::Event(Event::Disconnect) => {
                    all.push(said);
                    return all;
                }
                Said::Answered | Said::Chosen | Said::Event(_) => all.push(said),
            }
        }
    }

    /// What was answered since it was asked last.
    pub(crate) fn answer(&mut self) -> Vec<u8> {
        self.output.split().to_vec()
    }

    /// The transmission, if that is where it is.
    pub(crate) fn transmission(&mut self) -> &mut Transmission {
        match &mut self.phase {
            Phase::Transmission(transmission) => transmission,
            Phase::Handshake(_) | Phase::Ended => panic!("no export was chosen"),
        }
    }

    /// The one request or refusal that these bytes are.
    #[track_caller]
    pub(crate) fn event(&mut self, bytes: &[u8]) -> Event {
        self.receive(bytes);
        match self.steps().pop() {
            Some(Said::Event(event)) => event,
            said => panic!("no event but {said:?}"),
        }
    }
}
