//! What an export says of its members when it is asked on its control socket: as much of it as tells whether a member is lost,
//! missed something, or is full. `sled-agent volume look --json` prints the same; but a process that is started for each look would
//! take a share of the processors from what is measured.

use anyhow::{Context, Result};
use camino::Utf8Path;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// Nobody may be called gone who was heard of since then, in milliseconds.
const GONE_AFTER_MS: u64 = 4_000;

const QUESTION: &[u8] = b"{\"request\":\"status\"}\n";

#[derive(Debug, Deserialize)]
struct Answer {
    status: ExportState,
}

#[derive(Debug, Deserialize)]
struct ExportState {
    upstairs: State,
}

/// What is believed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct State {
    phase: String,
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Member {
    region: String,
    state: String,
    role: String,
    is_leaving: bool,
    heard_ms_ago: Option<u64>,
    /// None if that is more than is kept.
    behind: Option<Behind>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Behind {
    writes: u64,
}

/// Asks.
pub(super) async fn ask(control: &Utf8Path) -> Result<State> {
    let stream = UnixStream::connect(control).await.with_context(|| format!("connecting to {control}"))?;
    let mut stream = BufReader::new(stream);
    stream.write_all(QUESTION).await.with_context(|| format!("asking at {control}"))?;
    let mut line = String::new();
    stream.read_line(&mut line).await.with_context(|| format!("reading from {control}"))?;
    parse(&line)
}

fn parse(line: &str) -> Result<State> {
    let answer: Answer =
        serde_json::from_str(line).context("an export's word on itself is not understood")?;
    Ok(answer.status.upstairs)
}

impl State {
    /// Whether it reads and writes, and all who are members are there and full, this one among them. (Under load somebody is always some
    /// requests behind another one; whoever is full holds everything but those.)
    pub(super) fn is_full_with(&self, region: &str) -> bool {
        let is_full =
            |member: &Member| member.state == "streaming" && member.role == "full" && !member.is_leaving;
        self.phase == "active"
            && self.members.iter().all(is_full)
            && self.members.iter().any(|member| member.region == region)
    }

    /// Whether it may be called gone.
    pub(super) fn may_be_gone(&self, region: &str) -> bool {
        let of = |member: &&Member| member.region == region;
        self.members.iter().find(of).is_some_and(|member| {
            member.state != "streaming" && member.heard_ms_ago.is_none_or(|ago| ago > GONE_AFTER_MS)
        })
    }

    /// A member that is away and lacks so many writes at least: how it counts.
    pub(super) fn role_of_one_that_lacks(&self, region: &str, writes: u64) -> Option<&str> {
        let member = self.members.iter().find(|member| member.region == region)?;
        let lacks = member.behind.as_ref().is_none_or(|behind| behind.writes >= writes);
        (member.state != "streaming" && lacks).then_some(&*member.role)
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let member = |member: &Member| {
            let leaves = if member.is_leaving { ", leaves" } else { "" };
            format!("{} {} {}{leaves}", member.region, member.state, member.role)
        };
        format!("{}: {}", self.phase, self.members.iter().map(member).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two members; of the second one it is said what is tested.
    fn state(phase: &str, second: &str) -> State {
        let first = r#"{"region":"a","state":"streaming","role":"full","is_leaving":false,"heard_ms_ago":5,"behind":{"writes":0,"bytes":0}}"#;
        parse(&format!(
            r#"{{"status":{{"pid":1,"upstairs":{{"phase":"{phase}","members":[{first},{{"region":"b",{second}}}]}}}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn it_is_full_when_everybody_counts_and_the_new_one_is_there() {
        let full = r#""state":"streaming","role":"full","is_leaving":false,"heard_ms_ago":5,"behind":null"#;
        assert!(state("active", full).is_full_with("b"));
        assert!(!state("active", full).is_full_with("c"));
        assert!(!state("bringing_up", full).is_full_with("b"));
        for (one, other) in [("streaming", "away"), ("full", "filling"), ("false", "true")] {
            assert!(!state("active", &full.replace(one, other)).is_full_with("b"), "{other}");
        }
    }

    #[test]
    fn only_who_was_not_heard_of_for_four_seconds_may_be_gone() {
        let away = |heard: &str| {
            format!(
                r#""state":"away","role":"filling","is_leaving":false,"heard_ms_ago":{heard},"behind":null"#
            )
        };
        assert!(!state("active", &away("4000")).may_be_gone("b"));
        assert!(
            state("active", &away("4001")).may_be_gone("b")
                && state("active", &away("null")).may_be_gone("b")
        );
        assert!(!state("active", &away("4001").replace("away", "streaming")).may_be_gone("b"));
        assert!(!state("active", &away("4001")).may_be_gone("c"));
    }

    #[test]
    fn who_is_away_and_behind_lacks_what_was_written() {
        let away = r#""state":"away","role":"full","is_leaving":false,"heard_ms_ago":9,"behind":{"writes":7,"bytes":1}"#;
        assert_eq!(state("active", away).role_of_one_that_lacks("b", 7), Some("full"));
        assert_eq!(state("active", away).role_of_one_that_lacks("b", 8), None);
        assert_eq!(state("active", &away.replace("away", "streaming")).role_of_one_that_lacks("b", 7), None);
        assert_eq!(state("active", away).role_of_one_that_lacks("c", 7), None);
    }

    #[test]
    fn what_is_no_word_of_an_export_is_an_error() {
        for line in ["", "\"done\"", r#"{"status":{"upstairs":{}}}"#] {
            let error = parse(line).unwrap_err().to_string();
            assert_eq!(error, "an export's word on itself is not understood");
        }
    }
}
