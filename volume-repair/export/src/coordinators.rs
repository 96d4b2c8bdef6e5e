//! Those who may be told of repairs. Owns whom of them is asked next, and what of an answer is that of all; knows nothing of waits.
//!
//! ```text
//!   the first one ──takes it──► stays the first one
//!        ├──────── is away ───► the last one; what waits, waits for a while
//!        └──────── refuses ───► the last one, and the next one is asked at once; once all have refused the same notice, they refuse it
//! ```
//!
//! One that refuses may be of another version, or have lost its token, while the others take what it does not.

use ids::RepairId;
use nexus_client::{SledFacingClient, repairs::RepairNotice};
use std::collections::VecDeque;
use volume_notices::Answer;

/// All of them; the first one is asked next.
pub(crate) struct Coordinators {
    clients: VecDeque<SledFacingClient>,
    /// Which notice was refused last, and in which words by those who did, one behind the other.
    refused: Option<((RepairId, u64), Vec<String>)>,
}

impl Coordinators {
    pub(crate) fn new(clients: VecDeque<SledFacingClient>) -> Coordinators {
        Coordinators { clients, refused: None }
    }

    /// Whom to ask.
    pub(crate) fn first(&self) -> Option<&SledFacingClient> {
        self.clients.front()
    }

    /// What the answer of the first one is for all of them: none, if another one is to be asked first.
    pub(crate) fn note(&mut self, notice: &RepairNotice, answer: Answer) -> Option<Answer> {
        let refused = self.refused.take();
        let Answer::Refused(why) = answer else {
            if matches!(answer, Answer::Away(_)) {
                self.clients.rotate_left(1);
            }
            return Some(answer);
        };
        let of = (notice.repair().id, notice.stamp().sequence);
        let mut words = refused.filter(|(other, _)| *other == of).map(|(_, words)| words).unwrap_or_default();
        words.push(why);
        self.clients.rotate_left(1);
        if words.len() >= self.clients.len() {
            return Some(Answer::Refused(words.join("; ")));
        }
        self.refused = Some((of, words));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{RegionId, RegionSetId, VolumeId};
    use jiff::Timestamp;
    use nexus_client::{
        ClientOptions,
        repairs::{Repair, RepairReason, RepairRegion, RepairStart, Stamp},
    };

    fn notice() -> RepairNotice {
        let repair = Repair {
            id: RepairId::generate(),
            volume_id: VolumeId::generate(),
            region_set_id: RegionSetId::generate(),
            region: RepairRegion { region_id: RegionId::generate(), incarnation: 1 },
            replaces: None,
            bytes: 4096,
        };
        let stamp = Stamp { epoch: 1, sequence: 1, config_version: 1, told_at: Timestamp::now() };
        RepairNotice::Start(RepairStart { repair, stamp, why: RepairReason::CatchesUp })
    }

    fn three() -> Coordinators {
        let client =
            |number| SledFacingClient::new(&format!("http://127.0.0.{number}"), &ClientOptions::default());
        Coordinators::new((1..=3).map(|number| client(number).expect("a client")).collect())
    }

    fn first(coordinators: &Coordinators) -> Option<char> {
        coordinators.first()?.base_url().trim_end_matches('/').chars().last()
    }

    fn refusal(why: &str) -> Answer {
        Answer::Refused(why.to_owned())
    }

    #[test]
    fn one_that_is_away_is_put_last_and_one_that_takes_a_notice_stays_the_first() {
        let (mut coordinators, notice) = (three(), notice());
        for next in ['2', '3', '1', '2'] {
            let away = Answer::Away("no answer".to_owned());
            assert_eq!(coordinators.note(&notice, away.clone()), Some(away));
            assert_eq!(first(&coordinators), Some(next));
        }
        assert_eq!(coordinators.note(&notice, Answer::Taken), Some(Answer::Taken));
        assert_eq!(first(&coordinators), Some('2'));
    }

    #[test]
    fn a_notice_is_refused_when_all_have_refused_it_and_not_before() {
        let (mut coordinators, one, other) = (three(), notice(), notice());
        assert_eq!(coordinators.note(&one, refusal("a")), None);
        assert_eq!(first(&coordinators), Some('2'));
        assert_eq!(coordinators.note(&one, refusal("b")), None);
        assert_eq!(coordinators.note(&one, refusal("c")), Some(refusal("a; b; c")));
        assert_eq!(first(&coordinators), Some('1'));
        // What one has refused is no word on another notice, nor on the same one when somebody was away meanwhile.
        assert_eq!(coordinators.note(&one, refusal("a")), None);
        assert_eq!(coordinators.note(&other, refusal("b")), None);
        assert_eq!(coordinators.note(&other, refusal("c")), None);
        coordinators.note(&other, Answer::Away("no answer".to_owned()));
        for answered in [None, None, Some(refusal("d; d; d"))] {
            assert_eq!(coordinators.note(&other, refusal("d")), answered);
        }
    }

    #[test]
    fn one_that_is_alone_refuses_for_all() {
        let client = SledFacingClient::new("http://127.0.0.1", &ClientOptions::default());
        let mut coordinators = Coordinators::new([client.expect("a client")].into());
        assert_eq!(coordinators.note(&notice(), refusal("a")), Some(refusal("a")));
    }
}
