//! Random damage to a good archive never panics and never passes with other content.

use camino_tempfile::tempdir;
use ids::TrustRootId;
use nexus_release::{
    ExamineError, ExamineOptions, ExaminedRelease, ReleaseArtifact, StagedZip, TrustedRoot, examine,
};
use proptest::{prelude::*, test_runner::TestRunner};
use sample_release::{Content, Keys, MadeRelease, SampleRelease};
use std::fs;
use tokio::runtime::Runtime;

/// One act of damage. Positions are parts of the whole, so that they fit any length.
#[derive(Clone, Debug)]
enum Damage {
    Flip {
        at: f64,
        bit: u8,
    },
    Overwrite {
        at: f64,
        with: Vec<u8>,
    },
    Truncate {
        to: f64,
    },
    CutOut {
        from: f64,
        bytes: usize,
    },
    /// Copies a piece of the archive over another place, or into it.
    Splice {
        from: f64,
        to: f64,
        bytes: usize,
        insert: bool,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    // Headers are at the end and between entries; half of all positions aim at the central directory.
    let place = || prop_oneof![0.0..1.0, 0.85..1.0];
    prop_oneof![
        4 => (place(), 0u8..8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        2 => (place(), prop_oneof![Just(vec![0xff; 4]), Just(vec![0; 4]), prop::collection::vec(any::<u8>(), 1..9)])
            .prop_map(|(at, with)| Damage::Overwrite { at, with }),
        1 => (0.0..1.0).prop_map(|to| Damage::Truncate { to }),
        1 => (place(), 1usize..2000).prop_map(|(from, bytes)| Damage::CutOut { from, bytes }),
        2 => (place(), place(), 1usize..2000, any::<bool>())
            .prop_map(|(from, to, bytes, insert)| Damage::Splice { from, to, bytes, insert }),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a small file"
)]
fn place(part: f64, length: usize) -> usize {
    ((part * length as f64) as usize).min(length.saturating_sub(1))
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    let length = bytes.len();
    if length == 0 {
        return;
    }
    match damage {
        Damage::Flip { at, bit } => bytes[place(*at, length)] ^= 1 << bit,
        Damage::Overwrite { at, with } => {
            let start = place(*at, length);
            let end = (start + with.len()).min(length);
            bytes[start..end].copy_from_slice(&with[..end - start]);
        }
        Damage::Truncate { to } => bytes.truncate(place(*to, length)),
        Damage::CutOut { from, bytes: count } => {
            let start = place(*from, length);
            bytes.drain(start..(start + count).min(length));
        }
        Damage::Splice { from, to, bytes: count, insert } => {
            let start = place(*from, length);
            let piece = bytes[start..(start + count).min(length)].to_vec();
            let to = place(*to, length);
            let replaced = if *insert { to..to } else { to..(to + piece.len()).min(length) };
            bytes.splice(replaced, piece);
        }
    }
}

fn tiny() -> SampleRelease {
    let text =
        Content::Bytes(b"text that is worth to be deflated, text that is worth to be deflated ".repeat(4));
    SampleRelease::new("1.0.0")
        .seeded("stored", "1", "file", 700, false)
        .seeded("empty", "1", "file", 0, false)
        .artifact(sample_release::Artifact {
            name: "text".to_owned(),
            version: "1".to_owned(),
            kind: "file".to_owned(),
            target: "folder/text".to_owned(),
            content: text,
        })
}

struct Bench {
    made: MadeRelease,
    roots: Vec<TrustedRoot>,
    archive: Vec<u8>,
    runtime: Runtime,
    _dir: camino_tempfile::Utf8TempDir,
}

impl Bench {
    fn new(release: &SampleRelease) -> Bench {
        let dir = tempdir().unwrap();
        let made = release.make(&Keys::generate().unwrap(), &dir.path().join("release.zip")).unwrap();
        let roots = vec![TrustedRoot { id: TrustRootId::generate(), root_json: made.root_json.clone() }];
        let archive = fs::read(&made.path).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        Bench { made, roots, archive, runtime, _dir: dir }
    }

    fn verdict(&self, archive: &[u8]) -> Result<ExaminedRelease, ExamineError> {
        fs::write(&self.made.path, archive).unwrap();
        // Opening it as a staged file must not panic either; it says less, so its verdict is not compared.
        drop(self.runtime.block_on(StagedZip::open(&self.made.path)));
        self.runtime.block_on(examine(&self.made.path, &self.roots, &ExamineOptions::default()))
    }
}

#[test]
fn damaged_archives_never_panic_and_never_pass_with_other_content() {
    for release in [tiny(), tiny().with_consistent_snapshot().without_outer_folder()] {
        let bench = Bench::new(&release);
        let good: Vec<ReleaseArtifact> = bench.verdict(&bench.archive).unwrap().artifacts;
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let outcome = runner.run(&prop::collection::vec(damage(), 1..4), |damages| {
            let mut archive = bench.archive.clone();
            damages.iter().for_each(|damage| apply(damage, &mut archive));
            match bench.verdict(&archive) {
                Ok(release) => prop_assert_eq!(&release.artifacts, &good),
                Err(ExamineError::Rejected(findings)) => prop_assert!(!findings.is_empty()),
                Err(error) => {
                    prop_assert!(false, "the archive's fault was taken for the machine's: {error:?}");
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn any_byte_of_a_central_directory_may_be_wrong() {
    let bench = Bench::new(&SampleRelease::new("1.0.0").seeded("only", "1", "file", 100, false));
    let good = bench.verdict(&bench.archive).unwrap().artifacts;
    let end = bench.archive.len() - 22;
    let directory = u32::from_le_bytes(bench.archive[end + 16..end + 20].try_into().unwrap()) as usize;
    for position in directory..bench.archive.len() {
        // Each byte with another bit: eight times as many would take eight times as long.
        let bit = position % 8;
        let mut archive = bench.archive.clone();
        archive[position] ^= 1 << bit;
        match bench.verdict(&archive) {
            Ok(release) => assert_eq!(release.artifacts, good, "byte {position} bit {bit}"),
            Err(ExamineError::Rejected(_)) => {}
            Err(error) => panic!("byte {position} bit {bit}: {error:?}"),
        }
    }
}
