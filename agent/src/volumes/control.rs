//! `volume activate`, `volume set`, `volume wait`, `volume stop`: what is asked of a running export by its control socket, and where that is.

use super::{pause::Pause, view};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use std::{
    error::Error,
    io,
    num::NonZeroU64,
    time::{Duration, Instant},
};
use upstairs::{Behind, MemberState, MemberStatus, PhaseName, Role};
use volume_export::{Answer, Applied, ExportStatus, NotAppliedThere, Refusal, RefusalCode, Request, ask};
use volume_layers::{ScrubPhase, VolumeStatus};

/// `volume activate` looks so long whether the volume becomes active, before it says what it waits for.
const ACTIVATION: Duration = Duration::from_secs(5);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// What the control socket's name ends with, in place of what the volume's file ends with.
const EXTENSION: &str = "control";

/// Which export is asked.
#[derive(Debug, Args)]
pub struct Which {
    /// The file that describes the volume, which an export on this machine serves.
    #[arg(value_name = "VOLUME")]
    pub(super) volume: Utf8PathBuf,
    /// The export's control socket, if it is not where exports have it: beside VOLUME, ending with .control.
    #[arg(long, value_name = "PATH")]
    pub(super) control: Option<Utf8PathBuf>,
}

/// What may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// An export answers.
    Served,
    /// It reads and writes.
    Active,
    /// It reads and writes, and a member is away or is being filled.
    Degraded,
    /// It reads and writes, and all members are there, full, and have everything.
    Whole,
    /// What lies under it was scrubbed to the end: it needs no parent.
    Own,
}

impl Goal {
    fn is_reached(self, status: &ExportStatus) -> bool {
        let is_active = status.volume.phase() == PhaseName::Active;
        let are_whole = || status.volume.members().all(is_whole);
        match self {
            Goal::Served => true,
            Goal::Active => is_active,
            Goal::Degraded => is_active && !status.volume.members().all(is_there),
            Goal::Whole => is_active && are_whole(),
            Goal::Own => is_own(status),
        }
    }
}

fn is_own(status: &ExportStatus) -> bool {
    let VolumeStatus::Layers(layers) = &status.volume else { return true };
    let is_done = layers.scrub.as_ref().is_some_and(|scrub| scrub.phase == ScrubPhase::Done);
    layers.layers.len() == 1 || is_done
}

/// It gets every write, and has those before. What is on its way to it is not missing: where clients write, something always is.
fn is_there(member: &MemberStatus) -> bool {
    member.state == MemberState::Streaming && member.role == Role::Full
}

fn is_whole(member: &MemberStatus) -> bool {
    is_there(member) && member.behind == Some(Behind::default())
}

/// It was not reached in time.
#[derive(Debug, thiserror::Error)]
#[error("not {goal} after {seconds} s: {state}")]
pub(super) struct NotReached {
    goal: &'static str,
    seconds: u64,
    state: String,
}

impl Which {
    pub(super) fn socket(&self) -> Utf8PathBuf {
        socket(&self.volume, self.control.as_deref())
    }
}

/// Where the export of a volume listens for orders.
pub(super) fn socket(volume: &Utf8Path, control: Option<&Utf8Path>) -> Utf8PathBuf {
    control.map_or_else(|| volume.with_extension(EXTENSION), Utf8Path::to_owned)
}

pub(super) fn set_repair_rate(which: &Which, rate: Option<NonZeroU64>) -> Result<(), Box<dyn Error>> {
    done(ask(&which.socket(), &Request::SetRepairRate { bytes_per_second: rate })?)?;
    match rate {
        Some(rate) => say!("members are filled with {} in a second at most", view::bytes(rate.get())),
        None => say!("members are filled as fast as it goes"),
    }
    Ok(())
}

pub(super) fn activate(which: &Which, epoch: u32) -> Result<(), Box<dyn Error>> {
    let socket = which.socket();
    done(ask(&socket, &Request::Activate { epoch })?)?;
    let mut clock = Clock::start(ACTIVATION)?;
    loop {
        let status = status(&socket)?;
        match status.volume.phase() {
            PhaseName::Active => {
                say!("active with epoch {epoch}");
                return Ok(());
            }
            PhaseName::Fenced => return Err(ended(RefusalCode::Fenced, &status).into()),
            PhaseName::Lost => return Err(ended(RefusalCode::Lost, &status).into()),
            _ if clock.goes_on() => {}
            _ => {
                say!("activated with epoch {epoch}, and not active yet");
                view::waits(&status).iter().for_each(|wait| say!("{wait}"));
                return Ok(());
            }
        }
    }
}

/// Looks until the goal is reached, or the time is over, or it will never be.
pub(super) fn wait(which: &Which, goal: Goal, seconds: u64) -> Result<(), Box<dyn Error>> {
    let socket = which.socket();
    let mut clock = Clock::start(Duration::from_secs(seconds))?;
    loop {
        let state = match status(&socket) {
            Ok(status) if goal.is_reached(&status) => {
                say!("{}", view::line(&status));
                return Ok(());
            }
            Ok(status) => match status.volume.phase() {
                PhaseName::Fenced => return Err(ended(RefusalCode::Fenced, &status).into()),
                PhaseName::Lost => return Err(ended(RefusalCode::Lost, &status).into()),
                _ => view::line(&status),
            },
            Err(error) => problem::chain(error.as_ref()),
        };
        if !clock.goes_on() {
            let goal = match goal {
                Goal::Served => "served",
                Goal::Active => "active",
                Goal::Degraded => "degraded",
                Goal::Whole => "whole",
                Goal::Own => "own",
            };
            return Err(NotReached { goal, seconds, state }.into());
        }
    }
}

/// The time between looks, and the time for all of them.
struct Clock {
    pause: Pause,
    end: Instant,
}

impl Clock {
    fn start(length: Duration) -> io::Result<Clock> {
        Ok(Clock { pause: Pause::new()?, end: Instant::now() + length })
    }

    /// Waits until it is time for the next look. False if there is none.
    fn goes_on(&mut self) -> bool {
        let is_over = Instant::now() >= self.end;
        if !is_over {
            self.pause.wait(LOOK);
        }
        !is_over
    }
}

pub(super) fn stop(which: &Which) -> Result<(), Box<dyn Error>> {
    done(ask(&which.socket(), &Request::Stop)?)?;
    say!("it ends when what is under way was answered");
    Ok(())
}

pub(super) fn status(socket: &Utf8Path) -> Result<Box<ExportStatus>, Box<dyn Error>> {
    match ask(socket, &Request::Status)? {
        Answer::Status(status) => Ok(status),
        Answer::Refused(refusal) => Err(refusal.into()),
        Answer::Done | Answer::Applied(_) | Answer::Snapshotted(_) | Answer::Compared(_) => {
            Err("the export answers something else than it was asked".into())
        }
    }
}

fn ended(code: RefusalCode, status: &ExportStatus) -> Refusal {
    let words = format!("{}; a later export needs a higher epoch", view::end(status));
    Refusal { code, words }
}

/// What has become of a request, or would. An error if nobody exports the volume, or what is exported was not built by a request.
pub(super) fn told(
    socket: &Utf8Path,
    applied: Result<Applied, NotAppliedThere>,
    missing: impl Error + 'static,
) -> Result<Applied, Box<dyn Error>> {
    match applied {
        Ok(Applied::Missing) => {
            status(socket)?;
            Err(missing.into())
        }
        Ok(applied) => Ok(applied),
        // Each by its own name.
        Err(NotAppliedThere::Refused(refusal)) => Err(refusal.into()),
        Err(NotAppliedThere::Ask(error)) => Err(error.into()),
        Err(strange @ NotAppliedThere::Strange(_)) => Err(strange.into()),
    }
}

pub(super) fn done(answer: Answer) -> Result<(), Refusal> {
    if let Answer::Refused(refusal) = answer { Err(refusal) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn member(state: &str, role: &str, writes_behind: u64) -> MemberStatus {
        let at = json!({"epoch": 1, "counter": 9});
        let member = json!({
            "region": "11111111-1111-4111-8111-111111111111", "incarnation": 1, "address": null, "state": state, "retry_in_ms": null,
            "role": role, "is_suspect": false, "is_condemned": false, "applied": at, "durable": at,
            "behind": {"writes": writes_behind, "bytes": writes_behind * 4096}, "heard_ms_ago": null,
            "trouble": null, "trouble_code": null, "wrong_blocks": 0, "wrong_seals": 0, "healed_blocks": 0,
        });
        serde_json::from_value(member).unwrap()
    }

    #[test]
    fn a_member_that_clients_keep_busy_is_there_and_not_whole() {
        let looked = |member: MemberStatus| (is_there(&member), is_whole(&member));
        assert_eq!(looked(member("streaming", "full", 0)), (true, true));
        assert_eq!(looked(member("streaming", "full", 400)), (true, false));
        assert_eq!(looked(member("streaming", "filling", 0)), (false, false));
        assert_eq!(looked(member("away", "full", 0)), (false, false));
    }
}
