//! The script, wrapped around any store: before each write of the saga it may be held; then the coordinator may die, or
//! the store lie. One per life of a coordinator: after its death every call waits for ever.

use crate::{
    scenario::Trouble,
    stage::{Event, Stage, mark_name},
};
use async_trait::async_trait;
use ids::SagaId;
use jiff::Timestamp;
use nexus_saga_recovery::{SagaKey, UnfinishedSaga};
use nexus_sagas::{
    Attention, Created, EndState, Mark, NewSaga, NodeEvent, SagaStore, StoreFault, StoredSaga, Written,
};
use serde_json::Value;
use std::{fmt, future::Future, sync::Arc};
use tokio_util::sync::CancellationToken;

pub(crate) struct Wire {
    pub(crate) inner: Arc<dyn SagaStore>,
    pub(crate) stage: Arc<Stage>,
    pub(crate) life: u32,
    pub(crate) dead: CancellationToken,
    /// The kind of the case.
    pub(crate) kind: &'static str,
    /// Put with the row of each saga of that kind.
    pub(crate) signals: Vec<(String, Value)>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire of life {}", self.life)
    }
}

/// A write on its way.
struct Writing {
    id: SagaId,
    key: Option<SagaKey>,
    /// As scenarios name it; of several lines of a log, the last: those before it have waited for it.
    name: String,
    /// Everything that is durable with it.
    lines: Vec<String>,
}

impl Writing {
    fn of(id: SagaId, key: Option<SagaKey>, name: impl Into<String>) -> Writing {
        let name = name.into();
        Writing { id, key, lines: vec![name.clone()], name }
    }
}

/// An answer to a write.
trait Answer {
    /// Whether the write was refused, because the saga is another adoption's.
    fn is_fenced(&self) -> bool {
        false
    }
}

impl Answer for Created {}

impl Answer for Timestamp {}

impl Answer for Vec<SagaKey> {
    fn is_fenced(&self) -> bool {
        self.is_empty()
    }
}

impl Answer for Written {
    fn is_fenced(&self) -> bool {
        matches!(self, Written::Fenced | Written::Contradicted)
    }
}

impl Wire {
    async fn write<T: Answer>(
        &self,
        writing: Writing,
        done: impl Future<Output = Result<T, StoreFault>> + Send,
    ) -> Result<T, StoreFault> {
        let Writing { id, key, ref name, ref lines } = writing;
        self.alive().await;
        self.stage.before_write(self.life, (id, key), name, lines);
        self.stage.hold(self.life, id, name).await;
        self.alive().await;
        let trouble = self.stage.trouble(self.life, id, name);
        let name = &lines.join(", ");
        match trouble {
            Some(Trouble::NotDone) => {
                self.note(id, name, "not done");
                return Err(StoreFault::NotDone("told to refuse".to_owned()));
            }
            Some(Trouble::UnknownNotDone) => {
                self.note(id, name, "answer lost, not durable");
                return Err(StoreFault::Unknown("told to lose the answer".to_owned()));
            }
            Some(Trouble::DieBefore) => return self.die(id, name, "dies before").await,
            None | Some(Trouble::DieAfter | Trouble::UnknownDone) => {}
        }
        let answer = done.await;
        let fenced = answer.as_ref().is_ok_and(Answer::is_fenced);
        if answer.is_ok() && !fenced {
            self.stage.written(id, lines);
        }
        match trouble {
            Some(Trouble::DieAfter) => self.die(id, name, "durable, dies after").await,
            Some(Trouble::UnknownDone) => {
                self.note(id, name, "durable, answer lost");
                Err(StoreFault::Unknown("told to lose the answer".to_owned()))
            }
            _ => {
                self.note(
                    id,
                    name,
                    &match &answer {
                        Ok(_) if fenced => "fenced".to_owned(),
                        Ok(_) => "durable".to_owned(),
                        Err(fault) => fault.to_string(),
                    },
                );
                answer
            }
        }
    }

    fn lines(&self, id: SagaId, events: &[NodeEvent]) -> Vec<String> {
        events.iter().map(|event| format!("{}:{}", event.event, self.stage.label(id, event.node))).collect()
    }

    fn note(&self, id: SagaId, name: &str, outcome: &str) {
        self.stage.line(format!("life {}  {id}  write {name}: {outcome}", self.life));
    }

    async fn die<T>(&self, id: SagaId, name: &str, outcome: &str) -> T {
        self.note(id, name, outcome);
        self.dead.cancel();
        self.stage.tell(Event::Died { life: self.life }).await;
        std::future::pending().await
    }

    /// A dead process goes no further.
    async fn alive(&self) {
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl SagaStore for Wire {
    async fn create(&self, saga: &NewSaga) -> Result<Created, StoreFault> {
        let id = saga.key.id;
        self.stage.creating(saga);
        let done = async {
            let created = self.inner.create(saga).await?;
            if saga.kind == self.kind {
                for (name, value) in &self.signals {
                    self.inner.put_signal(id, name, value).await?;
                }
            }
            Ok(created)
        };
        self.write(Writing::of(id, None, "created"), done).await
    }

    async fn append(&self, key: SagaKey, events: &[NodeEvent]) -> Result<Written, StoreFault> {
        let lines = self.lines(key.id, events);
        let name = lines.last().cloned().unwrap_or_default();
        let writing = Writing { id: key.id, key: Some(key), name, lines };
        self.write(writing, self.inner.append(key, events)).await
    }

    async fn end(&self, key: SagaKey, end: &EndState, last: &[NodeEvent]) -> Result<Written, StoreFault> {
        let mut writing = Writing::of(key.id, Some(key), "ended");
        writing.lines.extend(self.lines(key.id, last));
        self.write(writing, self.inner.end(key, end, last)).await
    }

    async fn mark(&self, key: SagaKey, mark: &Mark) -> Result<Written, StoreFault> {
        let writing = Writing::of(key.id, Some(key), mark_name(mark));
        self.write(writing, self.inner.mark(key, mark)).await
    }

    async fn set_attention(
        &self,
        key: SagaKey,
        attention: Option<&Attention>,
    ) -> Result<Written, StoreFault> {
        let name = if attention.is_some() { "attention_set" } else { "attention_cleared" };
        let writing = Writing::of(key.id, Some(key), name);
        let written = self.write(writing, self.inner.set_attention(key, attention)).await?;
        if attention.is_some() && written != Written::Fenced {
            self.stage.tell(Event::Attention { life: self.life, saga: key.id }).await;
        }
        Ok(written)
    }

    async fn put_signal(&self, saga: SagaId, name: &str, value: &Value) -> Result<(), StoreFault> {
        self.alive().await;
        self.inner.put_signal(saga, name, value).await
    }

    async fn signal(&self, saga: SagaId, name: &str) -> Result<Option<Value>, StoreFault> {
        self.alive().await;
        self.inner.signal(saga, name).await
    }

    async fn timer(&self, saga: SagaId, name: &str, due: Timestamp) -> Result<Timestamp, StoreFault> {
        let writing = Writing::of(saga, None, format!("timer:{name}"));
        self.write(writing, self.inner.timer(saga, name, due)).await
    }

    /// One after the other: a scenario names the write of one saga.
    async fn adopt(&self, sagas: &[SagaKey]) -> Result<Vec<SagaKey>, StoreFault> {
        let mut all = Vec::new();
        for key in sagas {
            let done = async {
                let adopted = self.inner.adopt(&[*key]).await?;
                adopted.iter().for_each(|key| self.stage.adopted(*key));
                Ok(adopted)
            };
            all.extend(self.write(Writing::of(key.id, Some(*key), "adopted"), done).await?);
        }
        Ok(all)
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<StoredSaga>, StoreFault> {
        self.alive().await;
        let stored = self.inner.load(sagas).await?;
        stored.iter().for_each(|saga| self.stage.loaded(saga));
        Ok(stored)
    }

    async fn unfinished(&self) -> Result<Vec<UnfinishedSaga>, StoreFault> {
        self.alive().await;
        let mut unfinished = self.inner.unfinished().await?;
        // Other runs may share the store.
        unfinished.retain(|saga| self.stage.is_known(saga.key.id));
        Ok(unfinished)
    }
}
