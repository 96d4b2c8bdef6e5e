//! The sled agent: sled API, repo depot, registration.

fn main() {}
