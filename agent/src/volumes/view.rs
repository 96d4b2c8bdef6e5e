//! What an export says of itself, for people: a page, and a line. Pure: data in, text out. What is said of several parts is
//! [`super::parts_view`]'s.

use super::{parts_view, region_look::at, repairs_view};
use ids::RegionId;
use std::fmt::Write;
use upstairs::{
    At, CopyStatus, FillPhase, FillStatus, MemberState, MemberStatus, PhaseName, Role, Status, Totals,
};
use volume_export::ExportStatus;
use volume_layers::VolumeStatus;

/// What was done in the time between two looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    before: Totals,
    seconds: f64,
}

impl Rates {
    /// Since that look. None if it was not one at this export, or none of another instant; or if the volume is not one region set, whose
    /// figures are those of what clients do.
    pub(super) fn since(before: &ExportStatus, now: &ExportStatus) -> Option<Rates> {
        let is_same = before.pid == now.pid && before.running_ms < now.running_ms;
        let seconds = now.running_ms.saturating_sub(before.running_ms) as f64 / 1_000.0;
        let VolumeStatus::Upstairs(upstairs) = &before.volume else { return None };
        is_same.then_some(Rates { before: upstairs.totals, seconds })
    }
}

/// All of it.
pub(super) fn page(status: &ExportStatus, rates: Option<Rates>) -> String {
    let mut lines = vec![headline(status)];
    let clients = if status.clients == 1 { "1 client" } else { &format!("{} clients", status.clients) };
    let running = status.running_ms as f64 / 1_000.0;
    let clients = format!("{clients} at {}; process {}, for {running:.0} s", status.listen, status.pid);
    match &status.volume {
        VolumeStatus::Upstairs(upstairs) => {
            lines.extend([size(upstairs), clients]);
            lines.extend(list(upstairs));
            lines.push(String::new());
            lines.extend(set(upstairs, rates));
        }
        VolumeStatus::Layers(layers) => {
            lines.extend([parts_view::size(layers), clients]);
            lines.extend(parts_view::parts(layers));
        }
    }
    let repairs = repairs_view::repairs(status);
    if !repairs.is_empty() {
        lines.push(String::new());
        lines.extend(repairs);
    }
    let waits = waits(status);
    if !waits.is_empty() {
        lines.push(String::new());
        lines.extend(waits);
    }
    lines.join("\n") + "\n"
}

/// What a region set is like.
pub(super) fn size(set: &Status) -> String {
    let size = set.blocks * u64::from(set.block_bytes);
    let encrypted = if set.is_encrypted { ", encrypted" } else { "" };
    format!("{} in blocks of {} bytes{encrypted}; set {}", bytes(size), set.block_bytes, set.set)
}

/// Its list in force.
pub(super) fn list(set: &Status) -> Option<String> {
    let list = set.list.as_ref()?;
    let (number, since) = (format!("{}.{}", list.epoch, list.number), at(list.base));
    Some(format!("list {number} in force from {since} on, with {} full members", list.full.len()))
}

/// Its members, and what they and its writer do.
pub(super) fn set(set: &Status, rates: Option<Rates>) -> Vec<String> {
    let mut lines = table(&set.members);
    lines.extend(troubles(&set.members));
    lines.push(String::new());
    if let Some(copy) = &set.copy {
        lines.push(copying(set, copy));
    }
    let (window, jobs) = (&set.window, &set.jobs);
    lines.push(format!(
        "kept for members: {} of {} writes, {} of {}",
        window.entries,
        window.entries_max,
        bytes(window.bytes),
        bytes(window.bytes_max)
    ));
    lines.push(format!(
        "under way: {} reads, {} writes, {} flushes; not begun: {}",
        jobs.reads, jobs.writes, jobs.flushes, jobs.waiting
    ));
    lines.push(totals(&set.totals));
    lines.extend(rates.map(|rates| pace(&set.totals, rates)));
    lines
}

/// What has changed if it has: who is there, and what does not go on. Without figures that change all the time.
pub(super) fn line(status: &ExportStatus) -> String {
    let mut parts = vec![headline(status)];
    parts.extend(status.volume.members().map(|member| {
        let trouble = member.trouble.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{} {} {}{trouble}", place(member), state(member.state), role(member))
    }));
    if let VolumeStatus::Layers(layers) = &status.volume {
        parts.extend(parts_view::troubles(layers));
        parts.extend(parts_view::scrub_state(layers));
        parts
            .extend(status.volume.ended_parents().filter_map(end_of).map(|why| format!("a parent is {why}")));
    }
    let codes = status.volume.waits().map(|wait| format!("waits: {}", wait.words));
    parts.extend(codes);
    parts.extend(status.volume.is_giving_up().then(|| "clients get errors".to_owned()));
    parts.join("; ")
}

fn headline(status: &ExportStatus) -> String {
    let epoch = status.volume.epoch().map(|epoch| format!(" with epoch {epoch}")).unwrap_or_default();
    let ends = if status.is_stopping { "; it is ending" } else { "" };
    match status.volume.phase() {
        PhaseName::Idle => format!("not activated: reads and writes wait{ends}"),
        PhaseName::Gathering => format!("gathering{epoch}: reads and writes wait{ends}"),
        PhaseName::BringingUp => format!("bringing up{epoch}: reads and writes wait{ends}"),
        PhaseName::Listing => format!("listing{epoch}: reads and writes wait{ends}"),
        PhaseName::Active => format!("active{epoch}{ends}"),
        PhaseName::Fenced | PhaseName::Lost => format!("ended: {}{ends}", end(status)),
    }
}

/// Why nothing more is done.
pub(super) fn end(status: &ExportStatus) -> String {
    status.volume.own_sets().find_map(end_of).unwrap_or_else(|| "it goes on".to_owned())
}

/// Why a region set does nothing more, if it does not.
pub(super) fn end_of(set: &Status) -> Option<String> {
    match (set.fenced_by, set.lost_up_to) {
        (Some(by), _) => {
            let ours = set.epoch.unwrap_or_default();
            if by.epoch == ours {
                return Some(format!(
                    "fenced: another process has epoch {ours}, and this one does nothing more"
                ));
            }
            Some(format!("fenced: epoch {} has the volume, and epoch {ours} does nothing more", by.epoch))
        }
        (_, Some(position)) => {
            Some(format!("lost: acknowledged writes up to {} that were not flushed are gone", at(position)))
        }
        _ => None,
    }
}

/// What does not go on, and for whom it waits.
pub(super) fn waits(status: &ExportStatus) -> Vec<String> {
    let named = |region: &RegionId| {
        let member = status.volume.members().find(|member| member.region == *region);
        member.map_or_else(|| region.to_string(), place)
    };
    let line = |wait: &upstairs::Wait| {
        let members: Vec<String> = wait.members.iter().map(named).collect();
        let whom = if members.is_empty() { String::new() } else { format!(" [for {}]", members.join(", ")) };
        format!("waits: {}{whom}", wait.words)
    };
    let gives_up = status
        .volume
        .is_giving_up()
        .then(|| "gives up: it has waited for as long as it is to; clients get errors".to_owned());
    status.volume.waits().map(line).chain(gives_up).collect()
}

fn table(members: &[MemberStatus]) -> Vec<String> {
    let head = ["MEMBER", "STATE", "ROLE", "BEHIND", "APPLIED", "DURABLE", "HEARD", "WRONG/HEALED", "REGION"];
    let row = |member: &MemberStatus| {
        let behind = member.behind.map_or("?".to_owned(), |behind| match behind.writes {
            0 => "-".to_owned(),
            writes => format!("{writes} ({})", bytes(behind.bytes)),
        });
        let heard =
            member.heard_ms_ago.map_or("never".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1_000.0));
        [
            place(member),
            state(member.state).to_owned(),
            role(member),
            behind,
            position(member.applied),
            position(member.durable),
            heard,
            format!("{}/{}", member.wrong_blocks, member.healed_blocks),
            member.region.to_string(),
        ]
    };
    columns(head, members.iter().map(row))
}

/// Lines with a head, whose cells stand below each other.
pub(super) fn columns<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> Vec<String> {
    let rows: Vec<[String; COLUMNS]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let text = |row: &[String; COLUMNS]| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a text does not fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.trim_end().to_owned()
    };
    rows.iter().map(text).collect()
}

fn troubles(members: &[MemberStatus]) -> Vec<String> {
    let mut lines = Vec::new();
    for member in members {
        let name = place(member);
        if let Some(why) = &member.trouble {
            let retry = member.retry_in_ms.map(|ms| format!("; tried again in {:.1} s", ms as f64 / 1_000.0));
            lines.push(format!("{name}: {why}{}", retry.unwrap_or_default()));
        }
        if member.is_suspect {
            lines.push(format!("{name}: a power cut may have taken something from it"));
        }
        if member.wrong_seals > 0 {
            let blocks = member.wrong_seals;
            lines.push(format!("{name}: it had {blocks} blocks that the volume's key has not sealed: somebody has changed them"));
        }
        if member.is_condemned {
            lines.push(format!("{name}: it has to be filled before it counts again"));
        }
    }
    lines
}

fn copying(set: &Status, copy: &CopyStatus) -> String {
    let named = |region: RegionId| {
        let member = set.members.iter().find(|member| member.region == region);
        member.map_or_else(|| region.to_string(), place)
    };
    let (to, from) = (named(copy.to), named(copy.from));
    let fill = set.members.iter().find(|member| member.region == copy.to).and_then(|member| member.fill);
    match fill {
        Some(FillStatus { phase, bytes_done, bytes, .. }) => {
            let percent = bytes_done * 100 / bytes.max(1);
            let limit = copy.bytes_per_second_max;
            let at_most = limit.map(|rate| format!(", at most {} in a second", self::bytes(rate)));
            let at_most = at_most.unwrap_or_default();
            format!("filling {to} from {from}: {}, {percent} %{at_most}", fill_phase(phase))
        }
        None => {
            let percent = copy.blocks_done * 100 / copy.blocks.max(1);
            format!("bringing up {to} from {from}: {percent} %")
        }
    }
}

fn fill_phase(phase: FillPhase) -> &'static str {
    match phase {
        FillPhase::Away => "it is away",
        FillPhase::Queued => "waiting for its turn",
        FillPhase::Copying => "copying",
        FillPhase::Checking => "checking",
        FillPhase::MakingDurable => "making it durable",
        FillPhase::MakingRoom => "making room in the list",
        FillPhase::Joining => "joining the list",
    }
}

fn totals(totals: &Totals) -> String {
    let unreadable = match (totals.unreadable_reads, totals.lost_blocks) {
        (0, 0) => String::new(),
        (reads, lost) => format!(
            "; {reads} reads failed because no member had a block right, and {lost} blocks were lost in copies for that reason"
        ),
    };
    format!(
        "so far: {} reads ({}), {} writes ({}), {} zeroings ({}), {} flushes; {} reads were asked twice{unreadable}",
        totals.reads,
        bytes(totals.read_bytes),
        totals.writes,
        bytes(totals.written_bytes),
        totals.zeroings,
        bytes(totals.zeroed_bytes),
        totals.flushes,
        totals.hedged_reads
    )
}

fn pace(now: &Totals, Rates { before, seconds }: Rates) -> String {
    let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    format!(
        "now: {:.0} reads/s ({}/s), {:.0} writes/s ({}/s), {:.0} flushes/s",
        per_second(now.reads, before.reads),
        bytes(per_second(now.read_bytes, before.read_bytes) as u64),
        per_second(now.writes, before.writes),
        bytes(per_second(now.written_bytes, before.written_bytes) as u64),
        per_second(now.flushes, before.flushes)
    )
}

/// What people know a member by.
fn place(member: &MemberStatus) -> String {
    member.address.map_or_else(|| member.region.to_string(), |address| address.to_string())
}

fn position(position: At) -> String {
    if position == At::default() { "-".to_owned() } else { at(position) }
}

fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Away => "away",
        MemberState::Connecting => "connecting",
        MemberState::Greeting => "greeting",
        MemberState::Promoting => "promoting",
        MemberState::Told => "told",
        MemberState::Streaming => "streaming",
    }
}

fn role(member: &MemberStatus) -> String {
    let role = match member.role {
        Role::Unknown => "?",
        Role::Full => "full",
        Role::Filling => "filling",
    };
    if member.is_leaving { format!("{role}, leaves") } else { role.to_owned() }
}

/// A number of bytes as people say it.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| bytes >= 1 << shift);
    unit.map_or(format!("{bytes} B"), |(unit, shift)| {
        let whole = bytes as f64 / (1_u64 << shift) as f64;
        if whole.fract() == 0.0 { format!("{whole:.0} {unit}") } else { format!("{whole:.1} {unit}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_in_the_largest_unit_that_they_fill() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(4_096), "4 KiB");
        assert_eq!(bytes(3 << 19), "1.5 MiB");
        assert_eq!(bytes(2 << 30), "2 GiB");
    }
}
