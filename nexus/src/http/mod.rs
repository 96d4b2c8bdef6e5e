//! The coordinator's two APIs. One file per noun; a handler extracts, asks, and answers, and holds no logic of its own.
//!
//! - [`context`]: what handlers may ask. [`problems`]: how errors become answers, in one place. `to_the_end`: work that
//!   a client who goes away does not stop. `answer_limit`: an answer also while the database gives none.
//! - [`operator`]: the operator API (`/v1`). [`internal`]: the sled-facing API. `repair_rows`: between what is told of repairs and
//!   their rows.

mod answer_limit;
pub mod context;
pub mod internal;
pub mod operator;
mod problems;
mod repair_rows;
mod to_the_end;

pub(crate) use answer_limit::answer_in_time;
pub use context::Context;
