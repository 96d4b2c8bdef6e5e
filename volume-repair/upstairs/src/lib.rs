//! The one writer of a region set: mirrors over its members, reads from them, and keeps them the same.
//!
//! **Problem.** Three processes on three machines each lose their connection, their power or their disk at any instant, and another writer
//! may take over at any instant; what a client was told is done must stay done, and the client is to notice nothing else.
//!
//! **Theory.** `docs/BLOCK.md`. A state machine that touches no socket and no clock: each event is told with the time, and answered
//! with what is to be done. So a simulation runs this very one, with any network and any clock.
//!
//! ```text
//!   client ──submit──► ┌──────────┐ ──Send──► members
//!          ◄──Done──── │ Upstairs │ ◄─received──
//!          clock─tick─►└──────────┘
//! ```
//!
//! - [`types`]: what it is asked, and says.
//! - [`upstairs`]: the machine, its phases, and who counts. [`activation`]: who has everything; a pure decision.
//! - [`peer`], [`members`]: each member, from away to streaming; [`trouble`]: why one is not of use. [`lists`]: which are full.
//! - [`window`]: the stream, as long as somebody may need it. [`jobs`]: what clients have asked.
//! - [`reads`]: reading. [`heals`]: healing what was read wrong. [`comparing`]: reading every copy. [`copier`]: making one member have what another one has;
//!   [`ranges`]: each range of it; [`copies`]: of what; [`pace`]: how much at a time, and
//!   [`allowance`]: in a second. [`doubts`]: what of it the other one has wrong. [`forged`]: which of two is right.
//! - [`replacing`]: which members there are to be. [`snapshots`]: what the members keep of one moment.
//! - [`standstill`]: how long clients wait for what does not go on.
//! - [`sealing`]: what members get to see of a block, and whether what they give back is that.
//! - [`status`]: what it believes, for people and programs; [`report`]: how that is made.
//! - [`rules`]: what the simulation leaves out, one at a time, to see that it notices.

mod activation;
mod allowance;
mod comparing;
mod copier;
mod copies;
mod doubts;
mod forged;
mod heals;
mod jobs;
mod lists;
mod members;
mod pace;
mod peer;
mod ranges;
mod reads;
mod replacing;
mod report;
mod rules;
mod sealing;
mod snapshots;
mod standstill;
mod status;
mod trouble;
mod types;
mod upstairs;
mod window;

pub use replacing::{MEMBERS_MAX, MEMBERS_MIN, Members, MembersError, PLACES};
pub use rules::Rule;
pub use status::{
    At, Behind, CopyStatus, FillPhase, FillStatus, JobsStatus, ListStatus, MemberState, MemberStatus,
    PhaseName, Role, Status, Totals, Wait, WaitCode, WindowStatus, Writer,
};
pub use trouble::{Trouble, TroubleCode};
pub use types::{
    Action, ActivateError, Config, CopyCompared, Data, Holds, Job, JobError, JobId, Limits, Patience, PeerId,
    Run,
};
pub use upstairs::Upstairs;
