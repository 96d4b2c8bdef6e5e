//! The edge on a real socket: what callers see of it, byte by byte.
//!
//! - [`served`]: a small API behind the edge, on a port of its own. [`wire`]: a client that decides over every byte.
//! - One file per promise: [`identity`], [`refusals`], [`limits`], [`measures`].

mod identity;
mod limits;
mod measures;
mod refusals;
mod served;
mod wire;
