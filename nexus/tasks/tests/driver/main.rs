//! What the driver promises, one test per claim, on tokio's paused clock: time passes only when every task waits, so
//! each instant is exact.

mod dependencies;
mod holding;
mod passes;
mod stage;
