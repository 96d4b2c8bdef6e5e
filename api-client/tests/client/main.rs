//! What the client sends and what it makes of every kind of answer, against peers that answer byte by byte.
//!
//! - [`peer`]: such a peer. [`requests`]: what is sent. [`answers`]: what becomes of what comes back.

mod answers;
mod peer;
mod requests;
