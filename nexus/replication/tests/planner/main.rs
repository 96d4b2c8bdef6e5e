//! The planner's tests: tables of single decisions, laws that hold for every plan over any inputs, and a model of the
//! world that plans are carried out in.
//!
//! - `scene`: small inputs in few words. `decisions`: one test per decision.
//! - `rules`: the laws, written down a second time, slowly and plainly. `any_inputs`: checks them on anything.
//! - `world`: sleds, transfers and the coordinator as a model. `schedules`: runs it under random faults.
//! - `replay`: how a random test says which seed made it fail.
//! - `scale`: ten thousand sleds.

mod any_inputs;
mod decisions;
mod replay;
mod rules;
mod scale;
mod scene;
mod schedules;
mod world;
