//! The port's types as columns, and back.

use super::unreadable::words;
use crate::{
    DatabaseError, ErrorClass,
    rows::{corrupt, epoch, parsed, text, unsigned},
    sql::Row,
};
use ids::AdoptionEpoch;
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{EndState, Failure, StoreFault};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What lists show of an end.
pub(super) struct Ended {
    pub(super) state: &'static str,
    pub(super) node: Option<String>,
    pub(super) error: Option<String>,
}

impl Ended {
    pub(super) fn of(end: &EndState) -> Ended {
        let failed = |state, failure: &Failure| Ended {
            state,
            node: Some(failure.node.clone()),
            error: Some(failure.cause.to_string()),
        };
        match end {
            EndState::Succeeded { .. } => Ended { state: "succeeded", node: None, error: None },
            EndState::Failed { failure } => failed("failed", failure),
            EndState::Abandoned { failure, .. } => failed("abandoned", failure),
        }
    }
}

/// What a database error means to the engine. The one place that tells.
pub(super) fn fault(error: &DatabaseError) -> StoreFault {
    let words = words(error);
    match error.class() {
        ErrorClass::CommitUnknown => StoreFault::Unknown(words),
        ErrorClass::Full => StoreFault::NoSpace(words),
        ErrorClass::Retryable | ErrorClass::Corrupt | ErrorClass::NewerSchema | ErrorClass::Failed => {
            StoreFault::NotDone(words)
        }
    }
}

/// A document as text.
pub(super) fn json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("documents of sagas have text for keys and write to memory")
}

/// A document that is kept as text.
pub(super) fn document<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, DatabaseError> {
    let text = text(row, column)?;
    serde_json::from_str(&text).map_err(|_| corrupt(column, &text))
}

/// A document that is kept as text, or NULL.
pub(super) fn optional_document<T: DeserializeOwned>(
    row: &Row,
    column: &'static str,
) -> Result<Option<T>, DatabaseError> {
    match crate::rows::optional_text(row, column)? {
        None => Ok(None),
        Some(text) => serde_json::from_str(&text).map(Some).map_err(|_| corrupt(column, &text)),
    }
}

/// A document that is only shown: what is no JSON is shown as it is.
pub(super) fn loose(text: String) -> Json {
    serde_json::from_str(&text).unwrap_or(Json::String(text))
}

pub(super) fn digest_of(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hexadecimal, byte| {
        write!(hexadecimal, "{byte:02x}").expect("a string takes what is written");
        hexadecimal
    })
}

pub(super) fn saga_key(row: &Row) -> Result<SagaKey, DatabaseError> {
    Ok(SagaKey { id: parsed(row, "id")?, epoch: saga_epoch(row)? })
}

/// The adoption that a saga's row is of.
pub(super) fn saga_epoch(row: &Row) -> Result<AdoptionEpoch, DatabaseError> {
    epoch(row, "adoption_epoch").map(AdoptionEpoch)
}

pub(super) fn small(row: &Row, column: &'static str) -> Result<u32, DatabaseError> {
    let number = unsigned(row, column)?;
    u32::try_from(number).map_err(|_| corrupt(column, &number.to_string()))
}
