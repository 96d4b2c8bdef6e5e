//! What the engine answers when it does not do what it was asked for. Each says what is known of the saga.

use crate::{definition::DefinitionError, ports::StoreFault};
use ids::SagaId;
use thiserror::Error;

/// A saga that was not started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// This build has no such kind.
    #[error("there is no saga kind {kind}")]
    UnknownKind {
        /// The name.
        kind: String,
    },
    /// Its plan is refused.
    #[error("saga of kind {kind} cannot be planned")]
    Definition {
        /// The kind's name.
        kind: String,
        /// Why.
        #[source]
        source: DefinitionError,
    },
    /// A saga with this id is there; nothing was started.
    #[error("there is a saga {id}")]
    Exists {
        /// The id.
        id: SagaId,
    },
    /// The store has certainly not taken it.
    #[error("saga {id} was not created")]
    NotCreated {
        /// The id.
        id: SagaId,
        /// Why.
        #[source]
        source: StoreFault,
    },
    /// The store may have taken it. It is not executed now; if its row is there, recovery executes it.
    #[error("whether saga {id} was created is unknown")]
    Unknown {
        /// The id.
        id: SagaId,
        /// Why.
        #[source]
        source: StoreFault,
    },
    /// The row is durable, and this process does not execute it: it stops, or its SEC is broken. Recovery will.
    #[error("saga {id} was created and waits for recovery: {words}")]
    LeftToRecovery {
        /// The id.
        id: SagaId,
        /// Why.
        words: String,
    },
}

/// A saga that was not resumed. Its claim has been given back.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResumeError {
    /// It was listed under another adoption than it was loaded, or it has ended since.
    #[error("saga {id} has changed since it was listed")]
    Changed {
        /// The id.
        id: SagaId,
    },
    /// This build does not know it.
    #[error("saga {id} is of kind {kind} version {version}, which this build does not execute")]
    UnknownKind {
        /// The id.
        id: SagaId,
        /// The kind's name.
        kind: String,
        /// The version of its definition.
        version: u32,
    },
    /// Its plan is refused now.
    #[error("saga {id} cannot be planned again")]
    Definition {
        /// The id.
        id: SagaId,
        /// Why.
        #[source]
        source: DefinitionError,
    },
    /// The code has changed and its version has not.
    #[error("saga {id} was planned with digest {stored}, this build makes {made} of the same version")]
    Digest {
        /// The id.
        id: SagaId,
        /// That of the row.
        stored: String,
        /// That of this build.
        made: String,
    },
    /// Its log or graph cannot be read.
    #[error("the log of saga {id} cannot be replayed: {words}")]
    Log {
        /// The id.
        id: SagaId,
        /// What serde or steno says.
        words: String,
    },
    /// The engine stops.
    #[error("saga {id} is not resumed, the engine stops")]
    Stopping {
        /// The id.
        id: SagaId,
    },
}

impl ResumeError {
    /// Whether it would fail again, as long as neither this program nor the row changes.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            ResumeError::UnknownKind { .. }
            | ResumeError::Definition { .. }
            | ResumeError::Digest { .. }
            | ResumeError::Log { .. } => true,
            ResumeError::Changed { .. } | ResumeError::Stopping { .. } => false,
        }
    }
}

/// A saga that does not take an operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SteerError {
    /// It is not executed here (any more).
    #[error("saga {id} is not executed here")]
    NotHere {
        /// The id.
        id: SagaId,
    },
    /// It does not wait for an operator.
    #[error("saga {id} does not need attention")]
    NoAttention {
        /// The id.
        id: SagaId,
    },
}
