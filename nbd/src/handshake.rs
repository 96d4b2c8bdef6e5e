//! The handshake: from the first byte of a connection to the chosen export. Owns which option is answered how.
//!
//! ```text
//!               start: greeting
//!                     │
//!            client's flags ────────────── unknown bit ─────────────────────────► ProtocolError
//!                     │
//!          ┌───► option header ─────────── wrong magic, too long, too many ─────► ProtocolError
//!          │          │ its data, kept if the option has use for it, otherwise skipped
//!          │          ▼
//!          └─────── answer: Answered
//!                     ├─ GO, EXPORT_NAME: Chosen(Transmission)   the export's; no way back
//!                     ├─ EXPORT_NAME that cannot be granted ────────────────────► ProtocolError (it has no error answer)
//!                     └─ ABORT: Aborted                          write the answer, then close
//! ```
//!
//! | option | answered |
//! |---|---|
//! | EXPORT_NAME, GO, INFO, LIST, ABORT, STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT | as the protocol says |
//! | STARTTLS, EXTENDED_HEADERS, everything else | ERR_UNSUP; the client goes on without |
//!
//! TLS, where it is wanted, is put under the whole connection by whoever owns the socket, not negotiated inside it.
//! Extended headers serve requests of 4 GiB and more, which nobody sends to a server that bounds its payloads.

use crate::{
    export::{Export, Exports, SizesNotAsked},
    option_answer::{OptionAnswer, OptionError, TextInfo, put_export_name_answer, put_greeting},
    option_data::{InfoRequest, parse_info, parse_meta_context, parse_text},
    protocol_error::ProtocolError,
    reply::Form,
    transmission::{Negotiated, Transmission},
    wire::{
        BASE_ALLOCATION_ID, CLIENT_FLAGS_BYTES, OPTION_HEADER_BYTES, OPTION_MAGIC, SKIPPED_BYTES_AT_ONCE,
        STRING_BYTES_MAX, handshake_flag, option,
    },
};
use bytes::{Buf, BytesMut};
use std::sync::Arc;

/// Bytes of an option's data that are kept to be answered; longer ones are skipped and answered with ERR_TOO_BIG. A name
/// and some dozen queries fit, more than any client sends.
pub const OPTION_DATA_BYTES_MAX: u32 = 64 << 10;
/// Options of one handshake that are answered. A client that looks at every one of 1,024 exports sends four for each.
pub const OPTIONS_MAX: u32 = 8192;

/// A connection that has not chosen an export yet. [`advance`](Self::advance) consumes it, so a chosen export is final.
#[derive(Debug)]
pub struct Handshake {
    exports: Arc<Exports>,
    awaited: Awaited,
    fixed_newstyle: bool,
    no_zeroes: bool,
    structured: bool,
    /// The export for which `base:allocation` was selected last.
    block_status_of: Option<Arc<Export>>,
    options: u32,
}

/// What comes next from the client.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    ClientFlags,
    Option,
    /// All of an option's data.
    Data(OptionHeader),
    /// The rest of data that is not kept.
    Skipped {
        header: OptionHeader,
        remaining: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct OptionHeader {
    option: u32,
    data_bytes: u32,
}

/// How far the handshake got.
#[derive(Debug)]
pub enum HandshakeProgress {
    /// Nothing more can be done before `bytes` more bytes are in the input.
    NeedMore {
        /// Go on with this.
        handshake: Handshake,
        /// How many at least.
        bytes: usize,
    },
    /// One option was answered: write the output before going on, because that bounds it.
    Answered(Handshake),
    /// The client gives up: write the output, then close.
    Aborted,
    /// The client has chosen: write the output, then serve its requests.
    Chosen(Transmission),
}

/// What an option led to.
enum Outcome {
    Answered,
    Aborted,
    Chosen(Arc<Export>),
}

impl Handshake {
    /// Begins: the greeting is appended to `output`.
    pub fn start(exports: Arc<Exports>, output: &mut BytesMut) -> Self {
        put_greeting(output);
        Handshake {
            exports,
            awaited: Awaited::ClientFlags,
            fixed_newstyle: false,
            no_zeroes: false,
            structured: false,
            block_status_of: None,
            options: 0,
        }
    }

    /// Takes what the client sent off the front of `input`, one option at most, and appends the answer to `output`.
    ///
    /// # Errors
    /// The client broke the protocol beyond repair: close the connection.
    pub fn advance(
        mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<HandshakeProgress, ProtocolError> {
        loop {
            let needed = self.needed();
            if input.len() < needed {
                let bytes = needed - input.len();
                return Ok(HandshakeProgress::NeedMore { handshake: self, bytes });
            }
            let outcome = match self.awaited {
                Awaited::ClientFlags => {
                    self.take_client_flags(input.get_u32())?;
                    continue;
                }
                Awaited::Option => {
                    let (magic, option, data_bytes) = (input.get_u64(), input.get_u32(), input.get_u32());
                    if magic != OPTION_MAGIC {
                        return Err(ProtocolError::OptionMagic { found: magic });
                    }
                    self.take_option_header(OptionHeader { option, data_bytes })?;
                    continue;
                }
                Awaited::Skipped { header, remaining } if remaining > 0 => {
                    let skipped = remaining.min(input.len());
                    input.advance(skipped);
                    self.awaited = Awaited::Skipped { header, remaining: remaining - skipped };
                    continue;
                }
                Awaited::Skipped { header, .. } => self.answer_without_data(header, output),
                Awaited::Data(header) => {
                    let data = input.split_to(header.data_bytes as usize);
                    self.answer_with_data(header.option, &data, output)?
                }
            };
            self.awaited = Awaited::Option;
            return Ok(match outcome {
                Outcome::Answered => HandshakeProgress::Answered(self),
                Outcome::Aborted => HandshakeProgress::Aborted,
                Outcome::Chosen(export) => HandshakeProgress::Chosen(self.into_transmission(export)),
            });
        }
    }

    /// Bytes that must be there for the next step. Data that is skipped is taken in pieces.
    fn needed(&self) -> usize {
        match self.awaited {
            Awaited::ClientFlags => CLIENT_FLAGS_BYTES,
            Awaited::Option => OPTION_HEADER_BYTES,
            Awaited::Data(header) => header.data_bytes as usize,
            Awaited::Skipped { remaining, .. } => remaining.min(SKIPPED_BYTES_AT_ONCE),
        }
    }

    fn take_client_flags(&mut self, flags: u32) -> Result<(), ProtocolError> {
        if flags & !(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES) != 0 {
            return Err(ProtocolError::UnknownClientFlags { flags });
        }
        self.fixed_newstyle = flags & handshake_flag::FIXED_NEWSTYLE != 0;
        self.no_zeroes = flags & handshake_flag::NO_ZEROES != 0;
        self.awaited = Awaited::Option;
        Ok(())
    }

    fn take_option_header(&mut self, header: OptionHeader) -> Result<(), ProtocolError> {
        let OptionHeader { option, data_bytes } = header;
        let bytes_max = self.exports.payload_bytes_max();
        self.options += 1;
        if self.options > OPTIONS_MAX {
            return Err(ProtocolError::TooManyOptions { options_max: OPTIONS_MAX });
        }
        if !self.fixed_newstyle && option != option::EXPORT_NAME {
            return Err(ProtocolError::OptionWithoutFixedNewstyle { option });
        }
        if option == option::EXPORT_NAME && data_bytes as usize > STRING_BYTES_MAX {
            return Err(ProtocolError::ExportNameInvalid);
        }
        if data_bytes > bytes_max {
            return Err(ProtocolError::OptionTooLong { option, bytes: data_bytes, bytes_max });
        }
        self.awaited = if has_data(option) && data_bytes <= OPTION_DATA_BYTES_MAX {
            Awaited::Data(header)
        } else {
            Awaited::Skipped { header, remaining: data_bytes as usize }
        };
        Ok(())
    }

    /// Options that take no data, that are not known, or that have more data than is kept.
    fn answer_without_data(&mut self, header: OptionHeader, output: &mut BytesMut) -> Outcome {
        let OptionHeader { option, data_bytes } = header;
        let mut answer = OptionAnswer { option, output };
        match option {
            // The protocol wants data ignored here, and only here.
            option::ABORT => {
                answer.acknowledge();
                return Outcome::Aborted;
            }
            option::LIST | option::STRUCTURED_REPLY if data_bytes > 0 => {
                answer.refuse(OptionError::Invalid, "this option has no data");
            }
            option::LIST => {
                for export in self.exports.iter() {
                    answer.list_entry(export);
                }
                answer.acknowledge();
            }
            option::STRUCTURED_REPLY => {
                self.structured = true;
                answer.acknowledge();
            }
            _ if has_data(option) => {
                if option == option::SET_META_CONTEXT {
                    self.block_status_of = None;
                }
                answer.refuse(OptionError::TooBig, "this option has too much data");
            }
            _ => answer.refuse(OptionError::Unsupported, "this option is not supported"),
        }
        Outcome::Answered
    }

    fn answer_with_data(
        &mut self,
        option: u32,
        data: &[u8],
        output: &mut BytesMut,
    ) -> Result<Outcome, ProtocolError> {
        if option == option::EXPORT_NAME {
            return self.choose_by_name(data, output).map(Outcome::Chosen);
        }
        let mut answer = OptionAnswer { option, output };
        match option {
            option::INFO | option::GO => {
                let Some(request) = parse_info(data) else {
                    answer.refuse(OptionError::Invalid, "this option's data is malformed");
                    return Ok(Outcome::Answered);
                };
                let export = self.inform(&request, &mut answer);
                Ok(export.filter(|_| option == option::GO).map_or(Outcome::Answered, Outcome::Chosen))
            }
            _ => {
                self.answer_meta_context(option == option::SET_META_CONTEXT, data, &mut answer);
                Ok(Outcome::Answered)
            }
        }
    }

    fn choose_by_name(&self, data: &[u8], output: &mut BytesMut) -> Result<Arc<Export>, ProtocolError> {
        let name = parse_text(data).ok_or(ProtocolError::ExportNameInvalid)?;
        let export =
            self.exports.find(name).ok_or_else(|| ProtocolError::ExportUnknown { name: name.to_owned() })?;
        if export.sizes_not_asked == SizesNotAsked::Refuse {
            return Err(ProtocolError::BlockSizeRequired { name: export.name.clone() });
        }
        let flags = export.transmission_flags(self.structured);
        put_export_name_answer(output, export.size_bytes, flags, !self.no_zeroes);
        Ok(Arc::clone(export))
    }

    /// Answers INFO and GO; returns the export if the client may have it.
    fn inform(&self, request: &InfoRequest<'_>, answer: &mut OptionAnswer<'_>) -> Option<Arc<Export>> {
        let Some(export) = self.exports.find(request.name) else {
            answer.refuse(OptionError::Unknown, "there is no export of this name");
            return None;
        };
        // The sizes are told to everybody: who does not understand them ignores them.
        answer.block_size_info(export.block_size);
        if !request.block_size_wanted && export.sizes_not_asked == SizesNotAsked::Refuse {
            answer.refuse(OptionError::BlockSizeRequired, "clients of this export must ask for block sizes");
            return None;
        }
        answer.export_info(export.size_bytes, export.transmission_flags(self.structured));
        if request.name_wanted || request.name != export.name {
            answer.text_info(TextInfo::Name, &export.name);
        }
        if request.description_wanted && !export.description.is_empty() {
            answer.text_info(TextInfo::Description, &export.description);
        }
        answer.acknowledge();
        Some(Arc::clone(export))
    }

    /// LIST_META_CONTEXT and SET_META_CONTEXT. A selection replaces the one before, also when it fails.
    fn answer_meta_context(&mut self, selects: bool, data: &[u8], answer: &mut OptionAnswer<'_>) {
        if selects {
            self.block_status_of = None;
        }
        if !self.structured {
            return answer.refuse(OptionError::Invalid, "structured replies have to be negotiated first");
        }
        let Some(request) = parse_meta_context(data) else {
            return answer.refuse(OptionError::Invalid, "this option's data is malformed");
        };
        let Some(export) = self.exports.find(request.name) else {
            return answer.refuse(OptionError::Unknown, "there is no export of this name");
        };
        let listed = !selects && (request.no_queries || request.base_namespace);
        if export.features.block_status && (request.base_allocation || listed) {
            // An id that is only listed means nothing and is zero.
            answer.base_allocation(if selects { BASE_ALLOCATION_ID } else { 0 });
            if selects {
                self.block_status_of = Some(Arc::clone(export));
            }
        }
        answer.acknowledge();
    }

    fn into_transmission(self, export: Arc<Export>) -> Transmission {
        let block_status = self.block_status_of.is_some_and(|selected| selected.name == export.name);
        Transmission::begin(Negotiated {
            transmission_flags: export.transmission_flags(self.structured),
            form: if self.structured { Form::Structured } else { Form::Simple },
            block_status,
            payload_bytes_max: self.exports.payload_bytes_max(),
            export,
        })
    }
}

/// Options whose data has a layout.
fn has_data(option: u32) -> bool {
    matches!(
        option,
        option::EXPORT_NAME
            | option::INFO
            | option::GO
            | option::LIST_META_CONTEXT
            | option::SET_META_CONTEXT
    )
}
