//! A volume of random parts with random parents, against a plain array of blocks: whatever the order in which members and sources answer.
//!
//! Region sets are real: the real machine with its Upstairs, and real members on simulated disks. What is simulated is the environment:
//! messages are on their way for as long as chance has it, and files and URLs answer in any order, or not.

mod comparing;
mod history;
mod looks;
mod model;
mod rights;
mod scrubs;
mod sites;
mod world;
