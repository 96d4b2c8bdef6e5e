//! Each call of an action or undo: told what to do by the script, or its own code runs.

use crate::{
    scenario::How,
    stage::{Stage, call_name},
};
use futures::FutureExt;
use nexus_sagas::{
    Fault, RetryPolicy,
    interpose::{Call, Interposer, Running},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Attempts of an action or undo at most, whatever its kind declares: enough for "not the first, not the last".
const ATTEMPTS_MAX: u32 = 3;

/// Between two of them: what runs beside a node gets ahead of it meanwhile. In virtual time it always does.
const PAUSE: Duration = Duration::from_millis(1);

/// One per life.
pub(crate) struct Calls {
    pub(crate) stage: Arc<Stage>,
    pub(crate) life: u32,
    pub(crate) dead: CancellationToken,
}

/// One call in one life.
struct OneCall {
    stage: Arc<Stage>,
    life: u32,
    dead: CancellationToken,
    call: Call,
    own: Box<dyn Fn() -> Running + Send + Sync>,
}

impl Interposer for Calls {
    fn call(&self, call: Call, own: Box<dyn Fn() -> Running + Send + Sync>) -> Running {
        let (stage, dead) = (Arc::clone(&self.stage), self.dead.clone());
        OneCall { stage, life: self.life, dead, call, own }.run().boxed()
    }

    fn policy(&self, declared: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            first_pause: PAUSE,
            pause_max: PAUSE,
            attempts_max: declared.attempts_max.min(ATTEMPTS_MAX),
        }
    }
}

impl OneCall {
    async fn run(self) -> Result<Value, Fault> {
        self.alive().await;
        let Call { saga, ref node, undo, .. } = self.call;
        let name = call_name(undo, node);
        self.stage.called(&self.call);
        self.stage.hold(self.life, saga, &name).await;
        self.alive().await;
        let Some(how) = self.stage.told(self.life, saga, &name) else { return self.execute().await };
        match how {
            How::Refused => Err(self.told("refused", Fault::refused("told", "told to refuse"))),
            How::Transient => Err(self.told("not now", Fault::transient("told", "told to wait"))),
            How::UnknownBefore => {
                Err(self.told("lost before its code", Fault::unknown("told", "told to lose the request")))
            }
            How::UnknownAfter => {
                self.execute().await?;
                Err(self.told("lost after its code", Fault::unknown("told", "told to lose the answer")))
            }
            How::PanicBefore => self.panic("panic before its code"),
            How::PanicAfter => {
                self.execute().await?;
                self.panic("panic after its code")
            }
            How::Twice => {
                self.execute().await?;
                self.execute().await
            }
        }
    }

    async fn execute(&self) -> Result<Value, Fault> {
        let running = self.stage.execute(&self.call);
        let answer = (self.own)().await;
        drop(running);
        self.alive().await;
        match &answer {
            Ok(_) => {
                self.stage.executed(&self.call);
                self.note("done");
            }
            Err(fault) => self.note(&fault.to_string()),
        }
        answer
    }

    fn told(&self, words: &str, fault: Fault) -> Fault {
        self.note(&format!("told: {words}"));
        fault
    }

    /// Without the panic hook, which would print each of thousands.
    fn panic(&self, words: &str) -> ! {
        self.note(&format!("told: {words}"));
        std::panic::resume_unwind(Box::new("told to panic"))
    }

    fn note(&self, outcome: &str) {
        let Call { saga, node, undo, attempt, .. } = &self.call;
        let name = call_name(*undo, node);
        self.stage.line(format!("life {}  {saga}  {name} (attempt {attempt}): {outcome}", self.life));
    }

    /// A dead process goes no further.
    async fn alive(&self) {
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}
