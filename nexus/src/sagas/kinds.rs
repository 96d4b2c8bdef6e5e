//! The registry of saga kinds. To add one: its own file, its line here, its case in the proof of all kinds
//! (`nexus/tests/saga_proofs.rs`).

use super::{
    demo::{Demo, DemoTools},
    witness::Witness,
};
use nexus_sagas::{Kinds, RegisterError};
use std::sync::Arc;

/// What kinds get their tools from.
#[derive(Debug)]
pub struct Parts {
    /// Where the demo's effects go.
    pub witness: Witness,
}

/// Every kind of saga that this build can execute.
///
/// # Errors
/// Two of them have one name: a mistake in the program.
pub fn kinds(parts: Parts) -> Result<Kinds, RegisterError> {
    let mut kinds = Kinds::new();
    kinds.add::<Demo>(Arc::new(DemoTools::new(parts.witness)))?;
    Ok(kinds)
}
