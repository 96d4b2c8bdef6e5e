//! One member, asked by several Upstairs at once: who may write, and what is done in which order. The disk is simulated, so that a test
//! may cut the power wherever it likes.

mod beside;
mod cloning;
mod desk;
mod fencing;
mod lists;
mod readers;
mod snapshots;
mod waiting;
