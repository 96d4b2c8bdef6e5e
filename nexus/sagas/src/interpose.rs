//! Who stands between the engine and a kind's own code, in tests: sees each call of an action or undo, and decides
//! whether it runs, how often, and what is answered. The engine, its log and steno are the real ones.

use crate::{
    fault::Fault,
    kind::{ActionSpec, SagaKind, UndoFunction},
    policy::{RetryPolicy, UndoPolicy},
    step::Step,
};
use futures::{FutureExt, future::BoxFuture};
use ids::{AdoptionEpoch, SagaId};
use serde_json::Value;
use std::sync::Arc;

/// One attempt of one node's action or undo, about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The saga.
    pub saga: SagaId,
    /// The node's path.
    pub node: String,
    /// The action's name.
    pub action: String,
    /// Whether it is the undo.
    pub undo: bool,
    /// Which attempt of this life, from 1.
    pub attempt: u32,
    /// As many are made at most.
    pub attempts_max: u32,
    /// Under which adoption.
    pub adoption_epoch: AdoptionEpoch,
}

/// An action that runs; an undo's output is null.
pub type Running = BoxFuture<'static, Result<Value, Fault>>;

/// See the module.
pub trait Interposer: Send + Sync + 'static {
    /// Answers for the kind's own code, of which each call of `own` is one execution.
    fn call(&self, call: Call, own: Box<dyn Fn() -> Running + Send + Sync>) -> Running;

    /// What a declared policy is replaced by.
    fn policy(&self, declared: RetryPolicy) -> RetryPolicy;
}

/// An action with somebody in between.
pub(crate) fn interposed<K: SagaKind>(
    by: &Arc<dyn Interposer>,
    action: &str,
    spec: ActionSpec<K>,
) -> ActionSpec<K> {
    let retry = by.policy(spec.retry);
    let undo_retry = by.policy(spec.undo_retry.0);
    let (interposer, name, own) = (Arc::clone(by), action.to_owned(), spec.does);
    let does = move |step: Step<K>| {
        let (call, own) = (call_of(&step, &name, retry), Arc::clone(&own));
        interposer.call(call, Box::new(move || own(step.again())))
    };
    let undoes = spec.undoes.map(|own| {
        let (interposer, name) = (Arc::clone(by), action.to_owned());
        let undoes = move |step: Step<K>| {
            let (call, own) = (call_of(&step, &name, undo_retry), Arc::clone(&own));
            let own = move || own(step.again()).map(|undone| undone.map(|()| Value::Null)).boxed();
            interposer.call(call, Box::new(own)).map(|undone| undone.map(drop)).boxed()
        };
        Arc::new(undoes) as UndoFunction<K>
    });
    ActionSpec { does: Arc::new(does), undoes, retry, undo_retry: UndoPolicy(undo_retry) }
}

fn call_of<K: SagaKind>(step: &Step<K>, action: &str, policy: RetryPolicy) -> Call {
    Call {
        saga: step.saga(),
        node: step.node().to_owned(),
        action: action.to_owned(),
        undo: step.is_undo(),
        attempt: step.attempt(),
        attempts_max: policy.attempts_max,
        adoption_epoch: step.adoption_epoch(),
    }
}
