//! steno's view of the store: the log of one saga.
//!
//! Creation is not steno's business here: the engine makes the row durable before steno hears of the saga, so that no
//! attempt at it can outlive its caller. Nor is the end: the engine writes it with its outcome, after steno has let go.
//!
//! # Lines that wait for the next one
//!
//! steno logs one line at a time and goes on when it is durable. But a line that says how a node has *ended*, while no other
//! node of the saga runs, is followed at once by the line that begins the next one, before which nothing can happen. The two
//! are written together, and so are the lines of steno's own nodes (the ends of sagas and sub-sagas), which have no effects:
//!
//! ```text
//!   a started │ a succeeded  b started │ b succeeded  c started │ c succeeded  end of the saga
//!    write 1  │         write 2        │        write 3         │           write 4
//! ```
//!
//! A row of n nodes takes n + 2 durable writes in place of 2 n + 6. What is at stake is one line at most, and that only until
//! steno has taken its next step: if the process dies before the write, the log says that the node was begun and not
//! that it has ended, as if it had died a moment earlier, with the effect there and the answer not. Before *another*
//! node's action or undo runs, all lines before it are durable: so what runs again is what was in flight. While another
//! node runs, which may take hours, no line of an action or undo waits; those of steno's own nodes do, and are made again.

use crate::{live::LiveSaga, persist::persist, ports::SagaStore, types::NodeEvent};
use async_trait::async_trait;
use ids::SagaId;
use newtype_uuid::GenericUuid;
use std::sync::Arc;
use steno::{SagaCachedState, SagaCreateParams, SagaNodeEvent, SecStore};

/// The log of one saga.
#[derive(Debug)]
pub(crate) struct LogStore {
    pub(crate) store: Arc<dyn SagaStore>,
    pub(crate) live: Arc<LiveSaga>,
}

#[async_trait]
impl SecStore for LogStore {
    async fn saga_create(&self, _: SagaCreateParams) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn record_event(&self, event: SagaNodeEvent) {
        let event = to_stored(&event);
        let live = &self.live;
        live.observe(event.node, &event.event);
        let Some(events) = live.log(event) else { return };
        // If halted, steno goes on into nodes that do nothing; see `live`.
        let _ = persist(live, || self.store.append(live.key, &events)).await;
    }

    async fn saga_update(&self, _: steno::SagaId, _: SagaCachedState) {}
}

fn to_stored(event: &SagaNodeEvent) -> NodeEvent {
    NodeEvent {
        node: number_of(event),
        event: event.event_type.label().to_owned(),
        body: serde_json::to_value(&event.event_type).expect("an event is made of JSON values and strings"),
    }
}

/// steno tells the number of a node only through its serialisation.
fn number_of(event: &SagaNodeEvent) -> u32 {
    serde_json::to_value(event.node_id)
        .ok()
        .and_then(|number| number.as_u64())
        .and_then(|number| u32::try_from(number).ok())
        .expect("steno numbers nodes with 32 bits")
}

/// An event as steno wants it back.
///
/// # Errors
/// The body is no event.
pub(crate) fn to_steno(saga: SagaId, event: &NodeEvent) -> Result<SagaNodeEvent, serde_json::Error> {
    Ok(SagaNodeEvent {
        saga_id: steno::SagaId::from_untyped_uuid(saga.0),
        node_id: event.node.into(),
        event_type: serde_json::from_value(event.body.clone())?,
    })
}
