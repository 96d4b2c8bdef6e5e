//! The machine from outside: what it answers, and what it tells of itself.

mod bring_up;
mod comparing;
mod copying;
mod lost;
mod patience;
mod replacing;
mod sealed;
mod snapshots;
mod status;
mod trio;
