//! What is said with QEMU's monitor (QMP): one JSON value in a line, each way, on a unix socket. Owns the few commands that
//! replace a child of a quorum, and what its events mean for the one job.
//!
//! ```text
//!   ◄── {"QMP":…}            once, at the beginning
//!   ──► {"execute":…}        ◄── {"return":…} or {"error":{"class","desc"}}
//!   ◄── {"event":…}          at any time
//! ```

use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What the one job is called.
const JOB: &str = "repair";

/// A line of the monitor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Line {
    Event {
        event: String,
        data: Option<Value>,
    },
    Return {
        r#return: Value,
    },
    Refused {
        error: Refusal,
    },
    Greeting {
        #[serde(rename = "QMP")]
        version: Value,
    },
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Refusal {
    desc: String,
}

/// How far the job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The new child has everything, and gets what is written.
    Ready,
    /// It has ended, and nothing of it is left.
    Gone,
    /// It has ended without reaching its end.
    Failed(String),
}

/// A connection.
pub(super) struct Qmp {
    lines: Lines<BufReader<OwnedReadHalf>>,
    sink: OwnedWriteHalf,
    /// Of the job under way: a handful. What was told while an answer was waited for.
    steps: VecDeque<Step>,
}

impl Qmp {
    /// Connects, and says that nothing special is wanted.
    pub(super) async fn connect(socket: &Utf8Path) -> Result<Qmp> {
        let stream = UnixStream::connect(socket).await.with_context(|| format!("connecting to {socket}"))?;
        let (source, sink) = stream.into_split();
        let mut qmp = Qmp { lines: BufReader::new(source).lines(), sink, steps: VecDeque::new() };
        let Line::Greeting { .. } = qmp.line().await? else { bail!("{socket} is no monitor of QEMU") };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Adds a node for what is exported on a unix socket.
    pub(super) async fn add(&mut self, node: &str, socket: &Utf8Path) -> Result<()> {
        let server = json!({"type": "unix", "path": socket});
        self.execute("blockdev-add", json!({"driver": "nbd", "node-name": node, "server": server})).await
    }

    /// Removes a node that nobody uses.
    pub(super) async fn remove(&mut self, node: &str) -> Result<()> {
        self.execute("blockdev-del", json!({"node-name": node})).await
    }

    /// Begins to copy all of `volume` to `new`, which is to take the place of `old`.
    pub(super) async fn mirror(&mut self, volume: &str, old: &str, new: &str) -> Result<()> {
        // Of an earlier job.
        self.steps.clear();
        // Ignored means tried again later. A read that meets a write finds children that differ, and there is no majority among two.
        let job = json!({
            "job-id": JOB, "device": volume, "target": new, "sync": "full", "replaces": old, "on-source-error": "ignore",
        });
        self.execute("blockdev-mirror", job).await
    }

    /// Lets the new one take the place of the old one.
    pub(super) async fn complete(&mut self) -> Result<()> {
        self.execute("block-job-complete", json!({"device": JOB})).await
    }

    /// Ends the job; all stays as it was.
    pub(super) async fn cancel(&mut self) -> Result<()> {
        self.execute("block-job-cancel", json!({"device": JOB, "force": true})).await
    }

    /// The next step of the job.
    pub(super) async fn step(&mut self) -> Result<Step> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(step);
            }
            // What is no event answers somebody who has given up waiting for it.
            if let Line::Event { event, data } = self.line().await? {
                self.steps.extend(step(&event, data.as_ref()));
            }
        }
    }

    async fn execute(&mut self, command: &str, arguments: Value) -> Result<()> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.sink.write_all(line.as_bytes()).await.with_context(|| format!("asking for {command}"))?;
        loop {
            match self.line().await? {
                Line::Event { event, data } => self.steps.extend(step(&event, data.as_ref())),
                Line::Return { .. } => return Ok(()),
                Line::Refused { error } => bail!("QEMU refuses {command}: {}", error.desc),
                Line::Greeting { .. } => bail!("QEMU greets a second time"),
            }
        }
    }

    /// Nothing is lost if whoever waits for it gives up.
    async fn line(&mut self) -> Result<Line> {
        let line = self.lines.next_line().await.context("reading from QEMU's monitor")?;
        parse(&line.context("QEMU's monitor has gone")?)
    }
}

fn parse(line: &str) -> Result<Line> {
    serde_json::from_str(line).with_context(|| format!("QEMU's monitor says {line:?}"))
}

/// What an event means for the job; none if nothing.
fn step(event: &str, data: Option<&Value>) -> Option<Step> {
    let text = |name: &str| data.and_then(|data| data.get(name)).and_then(Value::as_str);
    match event {
        "BLOCK_JOB_READY" if text("device") == Some(JOB) => Some(Step::Ready),
        "BLOCK_JOB_COMPLETED" if text("device") == Some(JOB) => {
            text("error").map(|error| Step::Failed(error.to_owned()))
        }
        "BLOCK_JOB_CANCELLED" if text("device") == Some(JOB) => Some(Step::Failed("cancelled".to_owned())),
        "JOB_STATUS_CHANGE" if text("id") == Some(JOB) && text("status") == Some("null") => Some(Step::Gone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_of(line: &str) -> Option<Step> {
        match parse(line).unwrap() {
            Line::Event { event, data } => step(&event, data.as_ref()),
            other => panic!("no event: {other:?}"),
        }
    }

    /// As QEMU 10.0.2 wrote them.
    #[test]
    fn events_tell_how_far_the_job_is() {
        let at = r#""timestamp":{"seconds":1,"microseconds":2}"#;
        let job = r#""device":"repair","len":9,"offset":9,"speed":0,"type":"mirror""#;
        let status = |status: &str| {
            format!(r#"{{{at},"event":"JOB_STATUS_CHANGE","data":{{"status":"{status}","id":"repair"}}}}"#)
        };
        for (line, expected) in [
            (status("running"), None),
            (status("concluded"), None),
            (status("null"), Some(Step::Gone)),
            (format!(r#"{{{at},"event":"BLOCK_JOB_READY","data":{{{job}}}}}"#), Some(Step::Ready)),
            (format!(r#"{{{at},"event":"BLOCK_JOB_COMPLETED","data":{{{job}}}}}"#), None),
            (
                format!(
                    r#"{{{at},"event":"BLOCK_JOB_COMPLETED","data":{{{job},"error":"Input/output error"}}}}"#
                ),
                Some(Step::Failed("Input/output error".to_owned())),
            ),
            (
                format!(r#"{{{at},"event":"BLOCK_JOB_CANCELLED","data":{{{job}}}}}"#),
                Some(Step::Failed("cancelled".to_owned())),
            ),
            (format!(r#"{{{at},"event":"BLOCK_JOB_READY","data":{{"device":"other"}}}}"#), None),
            (format!(r#"{{{at},"event":"QUORUM_REPORT_BAD","data":{{"node-name":"child2"}}}}"#), None),
            (format!(r#"{{{at},"event":"SHUTDOWN"}}"#), None),
        ] {
            assert_eq!(step_of(&line), expected, "{line}");
        }
    }

    #[test]
    fn answers_and_the_greeting_are_told_from_events() {
        assert!(matches!(
            parse(r#"{"QMP":{"version":{},"capabilities":["oob"]}}"#),
            Ok(Line::Greeting { .. })
        ));
        assert_eq!(parse(r#"{"return":{}}"#).unwrap(), Line::Return { r#return: json!({}) });
        let error = parse(r#"{"error":{"class":"GenericError","desc":"no such node"}}"#).unwrap();
        assert_eq!(error, Line::Refused { error: Refusal { desc: "no such node".to_owned() } });
        assert!(parse("").is_err() && parse(r#"{"other":1}"#).is_err());
    }
}
