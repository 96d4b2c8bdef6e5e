//! What the replacements amount to: medians, ratios, verdicts. Pure; owns these rows as JSON and on the page for people. The
//! targets are the issue's.

use super::{Loaded, Measured, Rounds, Took, subject::READ_BACK};
use crate::bench::{
    row::{Limit, Peer, Samples},
    volume::report::{MachineFigures, Verdict, spread},
};
use serde::Serialize;
use std::fmt::Write;

/// What the peer is.
const PEER: &str = "QEMU quorum (2 of 3), blockdev-mirror onto a replaced child";

/// Times the peer's rate, at least.
const RATE: f64 = 3.0;

/// Times our idle time, at most.
const PACED: f64 = 1.5;
const GUEST_TIME: f64 = 3.0;

/// p99 of the load, over that without replacement, at most.
const PACED_P99: f64 = 2.0;

/// Of what clients get without replacement, at least.
const GUEST_SHARE: f64 = 0.60;

/// Seconds, at most.
const RECONCILE: f64 = 1.0;

/// Milliseconds, at most: usually, and ever.
const PAUSE: f64 = 100.0;
const PAUSE_MAX: f64 = 500.0;

/// A row as the outside contract has it, with what explains it.
#[derive(Debug, Serialize)]
pub(crate) struct RepairRow {
    pub(in crate::bench::volume) name: &'static str,
    unit: &'static str,
    /// None where only the peer was measured.
    ours: Option<Samples>,
    peer: Option<Peer>,
    limit: Option<Limit>,
    ratio: Option<f64>,
    ratio_limit: Option<f64>,
    /// What `ratio`, or `ratio_limit` where there is a limit, is to be at least.
    target: f64,
    /// None where something of it was not measured.
    pub(in crate::bench::volume) verdict: Option<Verdict>,
    /// Of ours: highest less lowest sample, over the median.
    spread: Option<f64>,
    argv: Vec<String>,
    note: String,
    machine: MachineFigures,
}

/// What a row is made of.
struct Figures {
    name: &'static str,
    unit: &'static str,
    is_less_better: bool,
    ours: Vec<f64>,
    peer: Vec<f64>,
    goal: Goal,
    note: String,
    machine: MachineFigures,
}

/// What is asked of it.
enum Goal {
    /// So many times as good as the peer.
    Ratio(f64),
    /// To reach this, if it is known.
    Limit(Option<Limit>),
}

/// Those of these names that were measured.
pub(super) fn rows(measured: &Measured, names: &[&str]) -> Vec<RepairRow> {
    let all = [
        rate(measured),
        paced(measured),
        paced_p99(measured),
        guest_share(measured),
        guest_time(measured),
        reconcile(measured),
        snapshot_pause(measured),
        snapshot_pause_max(measured),
    ];
    let wanted = all.into_iter().flatten().filter(|figures| names.contains(&figures.name));
    wanted.map(|figures| row(figures, &measured.peer_version)).collect()
}

fn row(figures: Figures, peer_version: &str) -> RepairRow {
    let samples = |samples: Vec<f64>| (!samples.is_empty()).then(|| Samples::of(samples));
    let (ours, peer) = (samples(figures.ours), samples(figures.peer));
    // Above 1 is good for us.
    let over = |ours: f64, other: f64| if figures.is_less_better { other / ours } else { ours / other };
    let ratio = ours.as_ref().zip(peer.as_ref()).map(|(ours, peer)| over(ours.median, peer.median));
    let (limit, target, is_against_peer) = match figures.goal {
        Goal::Ratio(ratio) => (None, ratio, true),
        Goal::Limit(limit) => (limit, 1.0, false),
    };
    let ratio_limit = ours.as_ref().zip(limit.as_ref()).map(|(ours, limit)| over(ours.median, limit.median));
    let judged = if is_against_peer { ratio } else { ratio_limit };
    let verdict = judged.map(|judged| if judged >= target { Verdict::Reached } else { Verdict::Missed });
    RepairRow {
        name: figures.name,
        unit: figures.unit,
        spread: ours.as_ref().map(spread),
        ours,
        peer: peer.map(|samples| Peer { name: PEER.to_owned(), version: peer_version.to_owned(), samples }),
        limit,
        ratio,
        ratio_limit,
        target,
        verdict,
        argv: ["cargo", "xtask", "bench", "volume", "--only", figures.name].map(str::to_owned).to_vec(),
        note: figures.note,
        machine: figures.machine,
    }
}

fn machine<T>(rounds: &Rounds<T>) -> Option<MachineFigures> {
    (!rounds.machine.is_empty()).then(|| MachineFigures::of(&rounds.machine))
}

fn seconds(all: &[Took]) -> Vec<f64> {
    all.iter().map(|took| took.seconds).collect()
}

fn seconds_loaded(all: &[Loaded]) -> Vec<f64> {
    all.iter().map(|loaded| loaded.took.seconds).collect()
}

/// So many times the median of our idle rounds.
fn times_idle(measured: &Measured, times: f64) -> Goal {
    let ours = seconds(&measured.idle.ours);
    let idle = (!ours.is_empty()).then(|| Samples::of(ours).median);
    Goal::Limit(idle.map(|idle| Limit { name: format!("{times} times our idle time"), median: times * idle }))
}

fn bound(name: &str, median: f64) -> Goal {
    Goal::Limit(Some(Limit { name: name.to_owned(), median }))
}

/// Of the rounds in which the peer did not come to an end.
fn unended(all: &[Loaded]) -> String {
    let count = all.iter().filter(|loaded| !loaded.took.is_whole).count();
    if count == 0 {
        return String::new();
    }
    let limit = super::subject::PEER_LIMIT.as_secs();
    format!(
        "; in {count} of {} rounds the peer's mirror had not come to its end after {limit} s, and was ended",
        all.len()
    )
}

fn rate(measured: &Measured) -> Option<Figures> {
    let idle = &measured.idle;
    Some(Figures {
        name: "repair_rate",
        unit: "s",
        is_less_better: true,
        ours: seconds(&idle.ours),
        peer: seconds(&idle.peer),
        goal: Goal::Ratio(RATE),
        note: "2 GiB, all written, onto an empty member in the place of one that was killed; no client asks anything; from the \
request until it is full"
            .to_owned(),
        machine: machine(idle)?,
    })
}

fn paced(measured: &Measured) -> Option<Figures> {
    let paced = &measured.paced;
    Some(Figures {
        name: "repair_paced",
        unit: "s",
        is_less_better: true,
        ours: seconds_loaded(&paced.ours),
        peer: seconds_loaded(&paced.peer),
        goal: times_idle(measured, PACED),
        note: format!(
            "the same while clients ask 100 reads and 100 writes of 4 KiB in a second{}",
            unended(&paced.peer)
        ),
        machine: machine(paced)?,
    })
}

fn paced_p99(measured: &Measured) -> Option<Figures> {
    let paced = &measured.paced;
    let all = |all: &[Loaded]| all.iter().filter_map(worse_p99).collect::<Vec<_>>();
    Some(Figures {
        name: "repair_paced_p99",
        unit: "x",
        is_less_better: true,
        ours: all(&paced.ours),
        peer: all(&paced.peer),
        goal: bound("bound", PACED_P99),
        note: format!(
            "p99 of that load during the replacement over its p99 just before; of reads or writes, whichever is worse{}{}{}",
            p99s("; ours", &paced.ours),
            p99s("; peer", &paced.peer),
            unended(&paced.peer)
        ),
        machine: machine(paced)?,
    })
}

/// How much longer the worse of both kinds takes.
fn worse_p99(loaded: &Loaded) -> Option<f64> {
    let (during, without) = (&loaded.during, &loaded.without);
    let reads = during.read_p99_us? / without.read_p99_us?;
    let writes = during.write_p99_us? / without.write_p99_us?;
    Some(reads.max(writes))
}

/// The figures themselves, of each round.
fn p99s(who: &str, all: &[Loaded]) -> String {
    let us = |us: Option<f64>| us.map_or_else(|| "none".to_owned(), |us| format!("{us:.0}"));
    let round = |loaded: &Loaded| {
        let (without, during) = (&loaded.without, &loaded.during);
        format!(
            "reads {} to {}, writes {} to {} us",
            us(without.read_p99_us),
            us(during.read_p99_us),
            us(without.write_p99_us),
            us(during.write_p99_us)
        )
    };
    if all.is_empty() {
        String::new()
    } else {
        format!("{who}: {}", all.iter().map(round).collect::<Vec<_>>().join(" | "))
    }
}

fn guest_share(measured: &Measured) -> Option<Figures> {
    let guest = &measured.guest;
    let share = |loaded: &Loaded| loaded.during.per_second / loaded.without.per_second;
    let all = |all: &[Loaded]| all.iter().map(share).collect::<Vec<_>>();
    Some(Figures {
        name: "repair_guest_share",
        unit: "share",
        is_less_better: false,
        ours: all(&guest.ours),
        peer: all(&guest.peer),
        goal: bound("least", GUEST_SHARE),
        note: format!(
            "IOPS of randwrite_4k_qd16 during the replacement over those just before{}{}{}",
            rates("; ours", &guest.ours),
            rates("; peer", &guest.peer),
            unended(&guest.peer)
        ),
        machine: machine(guest)?,
    })
}

fn rates(who: &str, all: &[Loaded]) -> String {
    let round =
        |loaded: &Loaded| format!("{:.0} to {:.0} IOPS", loaded.without.per_second, loaded.during.per_second);
    if all.is_empty() {
        String::new()
    } else {
        format!("{who}: {}", all.iter().map(round).collect::<Vec<_>>().join(" | "))
    }
}

fn guest_time(measured: &Measured) -> Option<Figures> {
    let guest = &measured.guest;
    Some(Figures {
        name: "repair_guest_time",
        unit: "s",
        is_less_better: true,
        ours: seconds_loaded(&guest.ours),
        peer: seconds_loaded(&guest.peer),
        goal: times_idle(measured, GUEST_TIME),
        note: format!("the replacement beside randwrite_4k_qd16{}", unended(&guest.peer)),
        machine: machine(guest)?,
    })
}

fn reconcile(measured: &Measured) -> Option<Figures> {
    let all = &measured.reconcile;
    let roles: Vec<&str> = all.ours.iter().map(|returned| returned.role.as_str()).collect();
    Some(Figures {
        name: "reconcile",
        unit: "s",
        is_less_better: true,
        ours: all.ours.iter().map(|returned| returned.seconds).collect(),
        peer: seconds(&measured.idle.peer),
        goal: bound("bound", RECONCILE),
        note: format!(
            "a member was killed, 1 % of the blocks of 2 GiB was written, the export was killed; from the start of the member's \
process and of the next export, both at once, until all three are full; the member counted as {} before; the peer \
has to copy all: its repair_rate",
            roles.join(", ")
        ),
        machine: machine(all)?,
    })
}

/// What clients notice of a snapshot.
fn pauses(measured: &Measured) -> Vec<f64> {
    measured.snapshots.ours.iter().map(|pause| pause.request_ms).collect()
}

fn snapshot_pause(measured: &Measured) -> Option<Figures> {
    let took: Vec<f64> = measured.snapshots.ours.iter().map(|pause| pause.took_ms).collect();
    let took = if took.is_empty() { 0.0 } else { Samples::of(took).median };
    Some(Figures {
        name: "snapshot_pause",
        unit: "ms",
        is_less_better: true,
        ours: pauses(measured),
        peer: Vec::new(),
        goal: bound("bound", PAUSE),
        note: format!(
            "the longest request of clients that was under way while a snapshot of 2 GiB was taken; they write 50 MiB in a second; it is \
there after {took:.0} ms (median); {} in ten were read through an export of their own, and had the SHA-256 of the volume at one of the writes \
that were under way",
            READ_BACK.len()
        ),
        machine: machine(&measured.snapshots)?,
    })
}

fn snapshot_pause_max(measured: &Measured) -> Option<Figures> {
    let longest = pauses(measured).into_iter().reduce(f64::max);
    Some(Figures {
        name: "snapshot_pause_max",
        unit: "ms",
        is_less_better: true,
        ours: longest.into_iter().collect(),
        peer: Vec::new(),
        goal: bound("bound", PAUSE_MAX),
        note: "the longest of all of them".to_owned(),
        machine: machine(&measured.snapshots)?,
    })
}

/// A row for people.
pub(in crate::bench::volume) fn page(row: &RepairRow) -> String {
    let mut text = String::new();
    write(&mut text, row).expect("writing to a string succeeds");
    text
}

fn write(text: &mut String, row: &RepairRow) -> std::fmt::Result {
    let goal = match &row.limit {
        Some(limit) => format!("{}: {:.2} {}", limit.name, limit.median, row.unit),
        None => format!("{:.1} times as good as the peer", row.target),
    };
    let said = match row.verdict {
        Some(Verdict::Reached) => "reached",
        Some(Verdict::Missed) => "MISSED",
        None => "not measured",
    };
    writeln!(text, "{}  {goal}; {said}", row.name)?;
    let sides = [("ours", row.ours.as_ref()), ("peer", row.peer.as_ref().map(|peer| &peer.samples))];
    for (who, samples) in sides {
        let Some(samples) = samples else { continue };
        let all: Vec<String> = samples.samples.iter().map(|sample| format!("{sample:.2}")).collect();
        let (median, unit, spread) = (samples.median, row.unit, spread(samples) * 100.0);
        writeln!(text, "  {who:<15} {median:>8.2} {unit:<5}  [{}] spread {spread:.0} %", all.join(", "))?;
    }
    if let Some(ratio) = row.ratio {
        writeln!(text, "  {ratio:.2} times as good as the peer")?;
    }
    writeln!(text, "  {}", row.note)?;
    writeln!(text, "  {}", row.machine.line())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::volume::{
        machine::Machine,
        repair::{
            NAMES, Pause,
            load::{Seen, Window},
            ours::Returned,
        },
    };

    fn took(seconds: f64) -> Took {
        Took { seconds, is_whole: seconds < 60.0, window: Window { from_ms: 0, to_ms: 1 } }
    }

    fn loaded(seconds: f64, reads: [f64; 2], writes: [f64; 2], rates: [f64; 2]) -> Loaded {
        let seen = |at: usize| Seen {
            per_second: rates[at],
            read_p99_us: Some(reads[at]),
            write_p99_us: Some(writes[at]),
            longest_us: writes[at],
        };
        Loaded { took: took(seconds), without: seen(0), during: seen(1) }
    }

    fn rounds<T: Clone>(peer: &[T], ours: &[T]) -> Rounds<T> {
        let look = Machine { busy_share: 0.02, sequential_mib_per_second: 1700.0, fdatasync_us: 65.0 };
        Rounds { machine: vec![look; 3], peer: peer.to_vec(), ours: ours.to_vec() }
    }

    /// Everything as it is to be, just so.
    fn measured() -> Measured {
        let returned = |seconds: f64| Returned { seconds, role: "full".to_owned() };
        let pause = |request_ms: f64| Pause { request_ms, took_ms: 70.0 };
        let guest = loaded(12.0, [1.0; 2], [1.0; 2], [1000.0, 600.0]);
        Measured {
            idle: rounds(&[took(11.0), took(12.0), took(13.0)], &[took(4.0), took(9.0), took(3.0)]),
            paced: rounds(
                &[loaded(24.0, [100.0, 900.0], [100.0, 500.0], [200.0; 2])],
                &[loaded(6.0, [100.0, 150.0], [200.0, 400.0], [200.0; 2])],
            ),
            guest: rounds(&[loaded(60.0, [1.0; 2], [1.0; 2], [1000.0, 300.0])], &[guest]),
            reconcile: rounds(&[], &[returned(0.5), returned(1.0), returned(1.5)]),
            snapshots: rounds(&[], &[pause(20.0), pause(100.0), pause(500.0)]),
            peer_version: "10.0".to_owned(),
        }
    }

    fn verdicts(measured: &Measured) -> Vec<Option<bool>> {
        let is_reached = |row: &RepairRow| row.verdict.map(|verdict| verdict == Verdict::Reached);
        rows(measured, &NAMES).iter().map(is_reached).collect()
    }

    fn one<'a>(rows: &'a [RepairRow], name: &str) -> &'a RepairRow {
        rows.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn what_is_just_so_is_reached_and_a_little_worse_is_missed() {
        assert_eq!(verdicts(&measured()), [Some(true); 8]);
        // The times before are those of which the others are multiples.
        let mut worse = measured();
        worse.idle.peer[1].seconds = 11.9;
        worse.idle.peer[2].seconds = 11.9;
        worse.paced.ours[0].took.seconds = 6.1;
        worse.paced.ours[0].during.write_p99_us = Some(401.0);
        worse.guest.ours[0].during.per_second = 599.0;
        worse.guest.ours[0].took.seconds = 12.1;
        worse.reconcile.ours[1].seconds = 1.01;
        worse.snapshots.ours[1].request_ms = 101.0;
        worse.snapshots.ours[2].request_ms = 501.0;
        assert_eq!(verdicts(&worse), [Some(false); 8]);
    }

    #[test]
    fn ratios_above_one_are_good_for_us_whatever_is_counted() {
        let rows = rows(&measured(), &NAMES);
        let told: Vec<_> = rows.iter().filter_map(|row| Some((row.name, row.ratio?))).collect();
        let expected = [
            ("repair_rate", 3.0),
            ("repair_paced", 4.0),
            ("repair_paced_p99", 4.5),
            ("repair_guest_share", 2.0),
            ("repair_guest_time", 5.0),
            ("reconcile", 12.0),
        ];
        assert_eq!(told.len(), expected.len());
        for ((name, ratio), (expected_name, expected)) in told.into_iter().zip(expected) {
            assert_eq!(name, expected_name);
            assert!((ratio - expected).abs() < 1e-9, "{name}: {ratio}");
        }
        assert_eq!(one(&rows, "repair_paced").limit.as_ref().unwrap().median, 6.0);
        assert_eq!(one(&rows, "repair_guest_time").limit.as_ref().unwrap().median, 12.0);
        assert_eq!(one(&rows, "repair_rate").spread, Some(6.0 / 4.0));
    }

    #[test]
    fn a_mirror_that_does_not_end_is_told_and_its_time_is_the_limit() {
        let rows = rows(&measured(), &NAMES);
        for name in ["repair_guest_share", "repair_guest_time"] {
            let row = one(&rows, name);
            assert!(
                row.note.contains("in 1 of 1 rounds the peer's mirror had not come to its end after 60 s"),
                "{}",
                row.note
            );
        }
        assert!(!one(&rows, "repair_paced").note.contains("had not come"));
    }

    #[test]
    fn the_worse_of_reads_and_writes_counts() {
        for (reads, writes) in [([100.0, 150.0], [100.0, 300.0]), ([10.0, 30.0], [900.0, 800.0])] {
            assert_eq!(worse_p99(&loaded(1.0, reads, writes, [1.0; 2])), Some(3.0));
        }
    }

    #[test]
    fn one_side_alone_makes_rows_that_claim_nothing_of_the_other() {
        let mut peer = measured();
        (peer.idle.ours, peer.paced.ours, peer.guest.ours, peer.reconcile.ours) = Default::default();
        peer.snapshots.ours.clear();
        assert_eq!(verdicts(&peer)[..6], [None; 6]);
        let mut ours = measured();
        (ours.idle.peer, ours.paced.peer, ours.guest.peer) = Default::default();
        assert_eq!(verdicts(&ours), [vec![None], vec![Some(true); 7]].concat());
        assert!(page(&rows(&peer, &NAMES)[1]).contains("not measured"));
    }

    #[test]
    fn only_what_was_asked_for_and_measured_is_told() {
        let mut some = measured();
        some.guest = Rounds::none();
        let names: Vec<_> =
            rows(&some, &["repair_paced", "repair_guest_share"]).iter().map(|row| row.name).collect();
        assert_eq!(names, ["repair_paced"]);
    }

    #[test]
    fn json_and_the_page_have_all_of_a_row() {
        let rows = rows(&measured(), &["repair_rate"]);
        let json = serde_json::to_value(&rows).unwrap();
        let row = json[0].as_object().unwrap();
        for field in ["name", "unit", "ours", "peer", "limit", "ratio", "ratio_limit", "argv", "note"] {
            assert!(row.contains_key(field), "{field}");
        }
        assert_eq!((&json[0]["verdict"], &json[0]["peer"]["version"]), (&"reached".into(), &"10.0".into()));
        assert_eq!(json[0]["ours"]["samples"], serde_json::json!([4.0, 9.0, 3.0]));
        let page = page(&rows[0]);
        assert!(page.starts_with("repair_rate  3.0 times as good as the peer; reached\n"), "{page}");
        assert!(
            page.contains("4.00 s      [4.00, 9.00, 3.00] spread 150 %")
                && page.contains("fdatasync 65, 65, 65 us"),
            "{page}"
        );
    }
}
