//! An Upstairs' own words as notices say them: the same ones.

use nexus_client::repairs::{RepairPhase, RepairWait};
use upstairs::{FillPhase, WaitCode};

/// What is done for a member that is filled.
#[must_use]
pub fn phase(phase: FillPhase) -> RepairPhase {
    match phase {
        FillPhase::Away => RepairPhase::Away,
        FillPhase::Queued => RepairPhase::Queued,
        FillPhase::Copying => RepairPhase::Copying,
        FillPhase::Checking => RepairPhase::Checking,
        FillPhase::MakingDurable => RepairPhase::MakingDurable,
        FillPhase::MakingRoom => RepairPhase::MakingRoom,
        FillPhase::Joining => RepairPhase::Joining,
    }
}

/// What does not go on.
#[must_use]
pub fn wait(code: WaitCode) -> RepairWait {
    match code {
        WaitCode::Activation => RepairWait::Activation,
        WaitCode::TooFewMembers => RepairWait::TooFewMembers,
        WaitCode::AnotherMember => RepairWait::AnotherMember,
        WaitCode::BringUp => RepairWait::BringUp,
        WaitCode::List => RepairWait::List,
        WaitCode::SecondMember => RepairWait::SecondMember,
        WaitCode::Silence => RepairWait::Silence,
        WaitCode::Room => RepairWait::Room,
        WaitCode::DiskRoom => RepairWait::DiskRoom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::to_value;

    #[test]
    fn a_notice_says_it_in_the_words_of_the_status() {
        for one in [
            FillPhase::Away,
            FillPhase::Queued,
            FillPhase::Copying,
            FillPhase::Checking,
            FillPhase::MakingDurable,
            FillPhase::MakingRoom,
            FillPhase::Joining,
        ] {
            assert_eq!(to_value(one).ok(), to_value(phase(one)).ok(), "{one:?}");
        }
        for one in [
            WaitCode::Activation,
            WaitCode::TooFewMembers,
            WaitCode::AnotherMember,
            WaitCode::BringUp,
            WaitCode::List,
            WaitCode::SecondMember,
            WaitCode::Silence,
            WaitCode::Room,
            WaitCode::DiskRoom,
        ] {
            assert_eq!(to_value(one).ok(), to_value(wait(one)).ok(), "{one:?}");
        }
    }
}
