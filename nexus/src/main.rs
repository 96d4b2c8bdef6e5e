//! The coordinator.

fn main() {}
