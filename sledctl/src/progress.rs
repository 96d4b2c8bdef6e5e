//! How far something is: what is counted, and how it is shown.
//!
//! [`Meter`] is pure: it is given samples with their time, and promises that within a phase the share never falls and
//! never exceeds the whole, that phases only go forward, and that the whole is named ("3.1 MiB of 8.0 MiB").
//! [`Counter`] is the same for things that are counted one by one. [`Display`] draws either: a bar where a person sits at
//! standard error, otherwise one line per phase and one every `LINE_PERIOD`. [`Block`] draws a few lines over and over in
//! the same place.

use crate::{
    render::words::{duration, size},
    talk::Talk,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A log that is read afterwards needs no more than this.
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// A rate over less than this is noise.
const RATE_PERIOD_MIN: Duration = Duration::from_secs(1);

/// Positions of the bar: finer than any terminal is wide.
const BAR_STEPS: u64 = 1000;

/// What is going on. Later phases never go back to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Bytes go to the coordinator.
    Uploading,
    /// Bytes come from a depot.
    Receiving,
    /// The coordinator checks signatures and bytes.
    Checking,
    /// Sleds get verified copies.
    Replicating,
}

impl Phase {
    /// The phase in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Phase::Uploading => "uploading",
            Phase::Receiving => "receiving",
            Phase::Checking => "checking",
            Phase::Replicating => "replicating",
        }
    }
}

/// How far it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The phase.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes to do in this phase; 0 where they are not known.
    pub total_bytes: u64,
    /// What else is to be said.
    pub note: String,
}

/// How far it is, as it may be shown.
#[derive(Clone, Debug)]
pub struct Meter {
    /// The last sample, with no fewer bytes done than the share says.
    latest: Sample,
    /// The largest share of this phase so far, as done and total.
    share: (u64, u64),
    /// Bytes that were done when the phase began: an upload that is resumed did not bring them.
    first_done_bytes: u64,
    phase_started: Duration,
    now: Duration,
}

impl Meter {
    /// A meter that begins at `now` (the time since any fixed moment).
    #[must_use]
    pub fn new(first: Sample, now: Duration) -> Meter {
        let first = clamped(first);
        let (done, total) = (first.done_bytes, first.total_bytes);
        Meter { latest: first, share: (done, total), first_done_bytes: done, phase_started: now, now }
    }

    /// Takes a sample in.
    pub fn observe(&mut self, sample: Sample, now: Duration) {
        self.now = self.now.max(now);
        let sample = clamped(sample);
        let whole_was_lost = sample.total_bytes == 0 && self.latest.total_bytes > 0;
        if sample.phase < self.latest.phase || (sample.phase == self.latest.phase && whole_was_lost) {
            return;
        }
        if sample.phase > self.latest.phase {
            *self = Meter::new(sample, self.now);
            return;
        }
        let (done, total) = self.share;
        let grew = u128::from(sample.done_bytes) * u128::from(total)
            >= u128::from(done) * u128::from(sample.total_bytes);
        if grew {
            self.share = (sample.done_bytes, sample.total_bytes);
        }
        // Where the whole has changed (a sled has joined), the share is kept and scaled to the new whole.
        let kept = scaled(self.share.0, self.share.1, sample.total_bytes);
        self.latest = Sample { done_bytes: sample.done_bytes.max(kept), ..sample };
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.latest.phase
    }

    /// The share that is done, in steps of which there are `steps`.
    #[must_use]
    pub fn position(&self, steps: u64) -> u64 {
        scaled(self.share.0, self.share.1, steps)
    }

    /// `uploading 120 MiB of 200 MiB, 35 MiB/s, 2.3 s left`
    #[must_use]
    pub fn line(&self) -> String {
        let Sample { phase, done_bytes, total_bytes, note } = &self.latest;
        let elapsed = self.now.saturating_sub(self.phase_started);
        let mut line = phase.word().to_owned();
        if *total_bytes == 0 {
            if elapsed >= RATE_PERIOD_MIN {
                line.push_str(&format!(" for {}", duration(elapsed.as_secs_f64())));
            }
        } else {
            line.push_str(&format!(" {} of {}", size(*done_bytes), size(*total_bytes)));
            let brought = done_bytes.saturating_sub(self.first_done_bytes);
            if elapsed >= RATE_PERIOD_MIN && brought > 0 && done_bytes < total_bytes {
                let rate = brought as f64 / elapsed.as_secs_f64();
                let left = (total_bytes - done_bytes) as f64 / rate;
                line.push_str(&format!(", {}/s, {} left", size(rate as u64), duration(left)));
            }
        }
        if !note.is_empty() {
            line.push_str(&format!(", {note}"));
        }
        line
    }
}

/// How many of a known number of calls have been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What is done: `starting sagas`.
    pub doing: &'static str,
    /// Answered so far.
    pub done: u64,
    /// All of them.
    pub total: u64,
    /// Since when.
    pub started: Duration,
    /// What else is to be said.
    pub note: String,
}

impl Counter {
    /// The share that is done, in steps of which there are `steps`.
    #[must_use]
    pub fn position(&self, steps: u64) -> u64 {
        scaled(self.done, self.total, steps)
    }

    /// `starting sagas 120 of 200, 35 per s, 2.3 s left`
    #[must_use]
    pub fn line(&self, now: Duration) -> String {
        let Counter { doing, done, total, started, note } = self;
        let mut line = format!("{doing} {done} of {total}");
        let elapsed = now.saturating_sub(*started);
        if elapsed >= RATE_PERIOD_MIN && *done > 0 && done < total {
            let rate = *done as f64 / elapsed.as_secs_f64();
            let left = total.saturating_sub(*done) as f64 / rate;
            line.push_str(&format!(", {rate:.0} per s, {} left", duration(left)));
        }
        if !note.is_empty() {
            line.push_str(&format!(", {note}"));
        }
        line
    }
}

fn clamped(sample: Sample) -> Sample {
    Sample { done_bytes: sample.done_bytes.min(sample.total_bytes), ..sample }
}

/// `done` of `total`, as so many of `whole`; never more than `whole`, and exact where the two are equal.
fn scaled(done: u64, total: u64, whole: u64) -> u64 {
    let share = u128::from(done) * u128::from(whole) / u128::from(total.max(1));
    u64::try_from(share).unwrap_or(whole).min(whole)
}

/// Draws a meter or a counter on standard error.
pub struct Display {
    talk: Talk,
    bar: Option<ProgressBar>,
    /// What was going on when a line was written last, and when that was.
    shown: Option<(&'static str, Duration)>,
}

impl Display {
    /// A display that suits where standard error goes.
    #[must_use]
    pub fn new(talk: Talk) -> Display {
        let bar = talk.terminal.then(|| {
            let style = ProgressStyle::with_template("[{bar:24}] {wide_msg}")
                .expect("the template is a constant")
                .progress_chars("=> ");
            ProgressBar::with_draw_target(Some(BAR_STEPS), ProgressDrawTarget::stderr()).with_style(style)
        });
        Display { talk, bar, shown: None }
    }

    /// Shows where the meter stands, if it is time to.
    pub fn show(&mut self, meter: &Meter, now: Duration) {
        self.draw(meter.phase().word(), meter.position(BAR_STEPS), || meter.line(), now);
    }

    /// Shows where the counter stands, if it is time to.
    pub fn count(&mut self, counter: &Counter, now: Duration) {
        self.draw(counter.doing, counter.position(BAR_STEPS), || counter.line(now), now);
    }

    fn draw(&mut self, doing: &'static str, position: u64, line: impl FnOnce() -> String, now: Duration) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(line());
            return;
        }
        if line_is_due(self.shown, doing, now) {
            self.shown = Some((doing, now));
            self.talk.progress(&line());
        }
    }

    /// Says something without tearing the bar.
    pub fn say(&self, speak: impl FnOnce(&Talk)) {
        match &self.bar {
            Some(bar) => bar.suspend(|| speak(&self.talk)),
            None => speak(&self.talk),
        }
    }
}

/// The bar is gone whatever way the command ends.
impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line_is_due(shown: Option<(&'static str, Duration)>, doing: &'static str, now: Duration) -> bool {
    shown.is_none_or(|(before, at)| before != doing || now.saturating_sub(at) >= LINE_PERIOD)
}

/// A few lines that are drawn over and over in the same place, where a person sits at standard error.
pub struct Block {
    bar: ProgressBar,
}

impl Block {
    /// A block; none where standard error is no terminal.
    #[must_use]
    pub fn new(talk: Talk) -> Option<Block> {
        let style = ProgressStyle::with_template("{msg}").expect("the template is a constant");
        let bar = || ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
        talk.terminal.then(|| Block { bar: bar() })
    }

    /// Draws these lines instead of those that are there.
    pub fn draw(&self, text: &str) {
        self.bar.set_message(text.trim_end().to_owned());
    }

    /// Says something above the block.
    pub fn say(&self, speak: impl FnOnce()) {
        self.bar.suspend(speak);
    }
}

/// The block is gone whatever way the command ends.
impl Drop for Block {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn sample(phase: Phase, done_mib: u64, total_mib: u64) -> Sample {
        Sample { phase, done_bytes: done_mib * MIB, total_bytes: total_mib * MIB, note: String::new() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn line_names_phase_share_rate_and_time_left() {
        let mut meter = Meter::new(sample(Phase::Uploading, 0, 200), seconds(0));
        assert_eq!(meter.line(), "uploading 0 B of 200 MiB");
        meter.observe(sample(Phase::Uploading, 50, 200), seconds(2));
        assert_eq!(meter.line(), "uploading 50 MiB of 200 MiB, 25 MiB/s, 6.0 s left");
        meter.observe(sample(Phase::Uploading, 200, 200), seconds(8));
        assert_eq!(meter.line(), "uploading 200 MiB of 200 MiB");
        meter.observe(sample(Phase::Checking, 0, 0), seconds(9));
        meter.observe(sample(Phase::Checking, 0, 0), seconds(21));
        assert_eq!(meter.line(), "checking for 12 s");
        let note = "1/4 sleds have all of it".to_owned();
        meter.observe(Sample { note, ..sample(Phase::Replicating, 143, 800) }, seconds(22));
        assert_eq!(meter.line(), "replicating 143 MiB of 800 MiB, 1/4 sleds have all of it");
    }

    #[test]
    fn rate_counts_only_what_this_phase_brought() {
        let mut meter = Meter::new(sample(Phase::Receiving, 100, 200), seconds(0));
        meter.observe(sample(Phase::Receiving, 150, 200), seconds(10));
        assert_eq!(meter.line(), "receiving 150 MiB of 200 MiB, 5.0 MiB/s, 10 s left");
    }

    #[test]
    fn whole_that_grows_does_not_take_the_share_back() {
        let mut meter = Meter::new(sample(Phase::Replicating, 0, 100), seconds(0));
        meter.observe(sample(Phase::Replicating, 50, 100), seconds(1));
        meter.observe(sample(Phase::Replicating, 50, 200), seconds(2));
        assert_eq!(meter.position(100), 50);
    }

    #[test]
    fn lines_come_with_each_phase_and_then_every_ten_seconds() {
        assert!(line_is_due(None, "uploading", seconds(0)));
        let shown = Some(("uploading", seconds(5)));
        assert!(!line_is_due(shown, "uploading", seconds(14)));
        assert!(line_is_due(shown, "uploading", seconds(15)));
        assert!(line_is_due(shown, "checking", seconds(6)));
    }

    #[test]
    fn counter_names_share_rate_and_time_left() {
        let counter = |done, note: &str| Counter {
            doing: "starting sagas",
            done,
            total: 200,
            started: seconds(2),
            note: note.into(),
        };
        assert_eq!(counter(0, "").line(seconds(2)), "starting sagas 0 of 200");
        assert_eq!([0, 50, 200].map(|done| counter(done, "").position(1000)), [0, 250, 1000]);
        assert_eq!(counter(50, "").line(seconds(4)), "starting sagas 50 of 200, 25 per s, 6.0 s left");
        let done = counter(200, "3 refused").line(seconds(10));
        assert_eq!(done, "starting sagas 200 of 200, 3 refused");
    }

    proptest! {
        #[test]
        fn share_never_falls_and_never_exceeds_the_whole(
            samples in prop::collection::vec((0u8..3, any::<u64>(), any::<u64>()), 1..40),
        ) {
            let phases = [Phase::Uploading, Phase::Checking, Phase::Replicating];
            let mut meter = Meter::new(sample(Phase::Uploading, 0, 1), seconds(0));
            for (second, (phase, done_bytes, total_bytes)) in samples.into_iter().enumerate() {
                let before = (meter.phase(), meter.position(1000));
                let phase = phases[usize::from(phase)];
                let note = String::new();
                meter.observe(Sample { phase, done_bytes, total_bytes, note }, seconds(second as u64));
                let after = (meter.phase(), meter.position(1000));
                prop_assert!(after.1 <= 1000);
                prop_assert!(after.0 > before.0 || after.1 >= before.1, "{before:?} fell to {after:?}");
            }
        }
    }
}
