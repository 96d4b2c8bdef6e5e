//! Questions and transfers that have begun. Each ends exactly once, also when the task that runs it is cut off or panics:
//! otherwise its sled would count as being asked, or its artifact as being under way, for as long as the coordinator lives.

use super::{Answer, Observed, Question, TransferFailure};
use ids::{ArtifactHash, SledId};
use std::collections::BTreeSet;

/// A sled that is being asked. Dropped without an answer, it can be asked again.
#[derive(Debug)]
#[must_use = "dropping it gives the question up"]
pub struct Asking {
    observed: Observed,
    sled: SledId,
    question: Option<Question>,
}

/// A transfer that runs. Dropped without a result, it has failed.
#[derive(Debug)]
#[must_use = "dropping it ends the transfer"]
pub struct Transferring {
    observed: Observed,
    target: SledId,
    hash: ArtifactHash,
    ended: bool,
}

impl Asking {
    pub(super) fn new(observed: Observed, sled: SledId, question: Question) -> Asking {
        Asking { observed, sled, question: Some(question) }
    }

    /// How the sled has to be asked.
    #[must_use]
    pub fn question(&self) -> Question {
        self.question.expect("it is given up only by the end")
    }

    /// Takes the answer in.
    pub fn end(mut self, answer: Answer) {
        if let Some(question) = self.question.take() {
            self.observed.question_ended(self.sled, question, answer);
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.question.is_some() {
            self.observed.question_abandoned(self.sled);
        }
    }
}

impl Transferring {
    pub(super) fn new(observed: Observed, target: SledId, hash: ArtifactHash) -> Transferring {
        Transferring { observed, target, hash, ended: false }
    }

    /// Records the end: copies that the sled holds now, or why it has none.
    pub fn end(mut self, result: Result<u32, TransferFailure>) {
        self.ended = true;
        self.observed.transfer_ended(self.target, self.hash, result);
    }
}

impl Drop for Transferring {
    fn drop(&mut self) {
        if !self.ended {
            let error = "it was cut off by the coordinator".to_owned();
            let failure = TransferFailure { error, failed_sources: BTreeSet::new(), ask_target: true };
            self.observed.transfer_ended(self.target, self.hash, Err(failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{AgentEpoch, Generation};
    use nexus_replication::How;

    const WANTED: Generation = Generation(7);

    #[tokio::test]
    async fn a_question_whose_task_is_cut_off_can_be_asked_again() {
        let (observed, sled) = (Observed::default(), SledId::generate());
        observed.heard_from(sled, AgentEpoch(1), 0);
        let asking = observed.begin_question(sled, WANTED, false).expect("it has to be asked");
        assert!(observed.begin_question(sled, WANTED, false).is_none(), "one question at a time");
        let pass = tokio::spawn(async move {
            let _asking = asking;
            std::future::pending::<()>().await;
        });
        pass.abort();
        assert!(pass.await.is_err_and(|error| error.is_cancelled()));
        assert!(observed.begin_question(sled, WANTED, false).is_some());
    }

    #[tokio::test]
    async fn a_transfer_whose_task_panics_has_failed_and_is_tried_again() {
        let (observed, sled, hash) = (Observed::default(), SledId::generate(), ArtifactHash([1; 32]));
        let transfer = observed.begin_transfer(sled, hash, How::Put, 1).expect("none is under way");
        assert!(observed.begin_transfer(sled, hash, How::Put, 1).is_none());
        let task = tokio::spawn(async move {
            let _transfer = transfer;
            panic!("a bug");
        });
        assert!(task.await.is_err_and(|error| error.is_panic()));
        assert!(observed.in_flight().is_empty());
        assert!(observed.backing_off().contains(&(sled, hash)));
    }

    #[test]
    fn what_ends_late_brings_no_forgotten_sled_back() {
        let (observed, sled, hash) = (Observed::default(), SledId::generate(), ArtifactHash([1; 32]));
        observed.heard_from(sled, AgentEpoch(1), 0);
        let asking = observed.begin_question(sled, WANTED, false).expect("it has to be asked");
        let delivered = observed.begin_transfer(sled, hash, How::Put, 1).expect("none is under way");
        let failed = observed.begin_transfer(sled, ArtifactHash([2; 32]), How::Put, 1).expect("none is");
        observed.forget_others(&[].into(), &[hash].into());
        asking.end(Answer::Refuses("it is gone".to_owned()));
        delivered.end(Ok(2));
        drop(failed);
        assert!(observed.lock().sleds.is_empty(), "an expunged sled is back");
    }
}
