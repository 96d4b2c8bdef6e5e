//! Errors as every API here answers them: `application/problem+json` (RFC 9457) with a stable `code`.
//!
//! - [`code`]: the catalogue. One row per code: status, title, what to do. `docs/ERRORS.md` is printed from it.
//! - [`Problem`]: the wire type, used by servers, clients and reports alike.

mod code;
mod types;

pub use code::Code;
pub use types::{Finding, MEDIA_TYPE, Problem, chain};
