//! What is said of a volume of several parts, and of what lies under it, for people. Pure: data in, text out.

use super::view::{bytes, end_of, list, set, size as set_size};
use volume_layers::{LayersStatus, PartKind, PartStatus, ScrubPhase, ScrubStatus, ScrubWait, SourceStatus};

/// What it is like.
pub(super) fn size(status: &LayersStatus) -> String {
    let size = status.blocks * u64::from(status.block_bytes);
    let read_only = if status.is_read_only { ", read-only" } else { "" };
    let under = match status.layers.len() {
        1 => String::new(),
        layers => format!(", over {} that it is seen through to", layers - 1),
    };
    let parts = match status.layers.first().map_or(0, |own| own.parts.len()) {
        1 => "1 part".to_owned(),
        parts => format!("{parts} parts"),
    };
    format!("{} in blocks of {} bytes{read_only}; {parts}{under}", bytes(size), status.block_bytes)
}

/// Each of its parts, then those of what lies under it.
pub(super) fn parts(status: &LayersStatus) -> Vec<String> {
    let mut lines = Vec::new();
    for (depth, layer) in status.layers.iter().enumerate() {
        for part in &layer.parts {
            lines.push(String::new());
            lines.push(format!("{}: {}", whose(depth), place(part)));
            match &part.kind {
                PartKind::RegionSet(upstairs) => {
                    lines.push(format!("region set: {}", set_size(upstairs)));
                    lines.extend(upstairs.epoch.map(|epoch| format!("its epoch is {epoch}")));
                    lines.extend(end_of(upstairs));
                    lines.extend(list(upstairs));
                    lines.extend(set(upstairs, None));
                }
                PartKind::File(source) => lines.extend(source_lines("file", source)),
                PartKind::Url(source) => lines.extend(source_lines("URL", source)),
                PartKind::Snapshot(source) => lines.extend(source_lines("read-only", source)),
            }
        }
    }
    lines.extend(scrub(status).map(|line| format!("\n{line}")));
    lines
}

/// How far the copying of what lies under it is.
pub(super) fn scrub(status: &LayersStatus) -> Option<String> {
    let ScrubStatus { bytes_done, bytes: all, copied_bytes, zeroed_bytes, .. } = status.scrub.as_ref()?;
    let percent = bytes_done * 100 / (*all).max(1);
    let copied = format!("{} copied, {} zeros", bytes(*copied_bytes), bytes(*zeroed_bytes));
    Some(format!(
        "{}, {} of {} ({percent} %); {copied}",
        scrub_state(status)?,
        bytes(*bytes_done),
        bytes(*all)
    ))
}

/// The same in few words, without figures that change all the time.
pub(super) fn scrub_state(status: &LayersStatus) -> Option<String> {
    let ScrubStatus { phase, waits, .. } = status.scrub.as_ref()?;
    let phase = match phase {
        ScrubPhase::Stopped => "stopped",
        ScrubPhase::Preparing => "preparing",
        ScrubPhase::Copying => "copying",
        ScrubPhase::MakingDurable => "making it durable",
        ScrubPhase::Done => "done: all is the volume's own",
        ScrubPhase::Ended => "ended with the volume",
    };
    let waits = match waits {
        None => String::new(),
        Some(ScrubWait::Activation) => ", waits for the activation".to_owned(),
        Some(ScrubWait::Clients) => ", waits for clients, who ask much".to_owned(),
        Some(ScrubWait::Members(why)) => format!(", waits for members ({why})"),
        Some(ScrubWait::Parent(why)) => format!(", waits for the parent ({why})"),
    };
    Some(format!("scrub: {phase}{waits}"))
}

/// What of files, URLs and snapshots cannot be read.
pub(super) fn troubles(status: &LayersStatus) -> Vec<String> {
    let parts = status.layers.iter().flat_map(|layer| &layer.parts);
    let trouble = |part: &PartStatus| match &part.kind {
        PartKind::File(source) | PartKind::Url(source) | PartKind::Snapshot(source) => {
            source.trouble.as_ref().map(|why| format!("{} cannot be read ({why})", source.name))
        }
        PartKind::RegionSet(_) => None,
    };
    parts.filter_map(trouble).collect()
}

fn whose(depth: usize) -> String {
    match depth {
        0 => "own part".to_owned(),
        1 => "parent".to_owned(),
        depth => format!("parent {depth} below"),
    }
}

fn place(part: &PartStatus) -> String {
    format!("blocks {} to {}", part.first_block, part.first_block + part.blocks - 1)
}

fn source_lines(kind: &str, source: &SourceStatus) -> Vec<String> {
    let SourceStatus { name, fetches, fetched_bytes, failed, waiting, under_way, trouble } = source;
    let mut lines = vec![format!("{kind}: {name}")];
    lines.push(format!(
        "read so far: {fetches} times ({}), {failed} failed; under way: {under_way}; not begun: {waiting}",
        bytes(*fetched_bytes)
    ));
    lines.extend(trouble.as_ref().map(|why| format!("it cannot be read: {why}")));
    lines
}
