//! Memory does not grow with the release. A process of its own, because it measures one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino_tempfile::tempdir;
use futures::StreamExt;
use ids::TrustRootId;
use nexus_release::{ExamineOptions, StagedZip, TrustedRoot, examine};
use sample_release::{Keys, SampleRelease};

/// The most that this process has had in memory so far, in bytes.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_artifact_takes_no_more_memory_than_a_small_one() {
    let dir = tempdir().unwrap();
    let keys = Keys::generate().unwrap();
    let mut peaks = Vec::new();
    for size in [1 << 20, 160 << 20] {
        for compressible in [true, false] {
            let release = SampleRelease::new("1.0.0").seeded("large", "1", "file", size, compressible);
            let made = release.make(&keys, &dir.path().join("release.zip")).unwrap();
            let roots = [TrustedRoot { id: TrustRootId::generate(), root_json: made.root_json.clone() }];
            let accepted = examine(&made.path, &roots, &ExamineOptions::default()).await.unwrap();
            let one = &accepted.artifacts[0];
            let staged = StagedZip::open(&made.path).await.unwrap();
            let mut stream = staged.read(&one.target, None, one.hash, one.size).unwrap();
            let mut received = 0;
            while let Some(chunk) = stream.next().await {
                received += chunk.unwrap().len() as u64;
            }
            assert_eq!(received, size);
            peaks.push(peak_rss());
        }
    }
    let (small, large) = (peaks[1], peaks[3]);
    assert!(large < 64 << 20, "{} MiB in all, 64 were allowed: {peaks:?}", large >> 20);
    assert!(large - small < 16 << 20, "160 MiB took {} MiB more than one: {peaks:?}", (large - small) >> 20);
}
