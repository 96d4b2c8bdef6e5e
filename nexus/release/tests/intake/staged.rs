//! Reading artifacts back out of a staged zip, before and after damage.

use camino_tempfile::tempdir;
use futures::TryStreamExt;
use ids::{ArtifactHash, TrustRootId};
use nexus_release::{ExamineOptions, StagedZip, StagedZipError, TrustedRoot, examine};
use sample_release::{Keys, SampleRelease};
use sha2::{Digest, Sha256};
use std::{fs, os::unix::fs::FileExt};

async fn read(
    staged: &StagedZip,
    target: &str,
    hash: ArtifactHash,
    size: u64,
) -> Result<Vec<u8>, StagedZipError> {
    read_entry(staged, target, None, hash, size).await
}

async fn read_entry(
    staged: &StagedZip,
    target: &str,
    entry: Option<&str>,
    hash: ArtifactHash,
    size: u64,
) -> Result<Vec<u8>, StagedZipError> {
    let chunks: Vec<_> = staged.read(target, entry, hash, size)?.try_collect().await?;
    assert!(chunks.iter().all(|chunk| chunk.len() <= 256 << 10));
    Ok(chunks.concat())
}

#[tokio::test]
async fn every_artifact_is_read_back_from_every_layout_after_reopening() {
    let dir = tempdir().unwrap();
    let keys = Keys::generate().unwrap();
    let large = || SampleRelease::small("1.0.0").seeded("large", "1", "file", 3_000_000, true);
    for release in [
        large(),
        large().with_consistent_snapshot(),
        large().without_outer_folder(),
        large().without_artifacts_json().with_consistent_snapshot().without_outer_folder(),
    ] {
        let made = release.make(&keys, &dir.path().join("release.zip")).unwrap();
        let staged = StagedZip::open(&made.path).await.unwrap();
        for artifact in &made.artifacts {
            let bytes = read(&staged, &artifact.target, artifact.hash, artifact.size).await.unwrap();
            assert_eq!(ArtifactHash(Sha256::digest(&bytes).into()), artifact.hash);
        }
    }
}

#[tokio::test]
async fn what_examine_accepts_can_be_read_from_where_it_was_found() {
    let dir = tempdir().unwrap();
    let small = || SampleRelease::small("1.0.0");
    for release in [small(), small().with_consistent_snapshot(), small().with_sha512_names()] {
        let made = release.make(&Keys::generate().unwrap(), &dir.path().join("release.zip")).unwrap();
        let roots = [TrustedRoot { id: TrustRootId::generate(), root_json: made.root_json }];
        let release = examine(&made.path, &roots, &ExamineOptions::default()).await.unwrap();
        let staged = StagedZip::open(&made.path).await.unwrap();
        assert_eq!(staged.path(), made.path);
        for one in release.artifacts {
            let bytes = read_entry(&staged, &one.target, Some(&one.entry), one.hash, one.size).await.unwrap();
            assert_eq!(ArtifactHash(Sha256::digest(&bytes).into()), one.hash);
        }
    }
}

#[tokio::test]
async fn another_target_size_or_hash_is_an_error() {
    let dir = tempdir().unwrap();
    let made = SampleRelease::small("1.0.0")
        .make(&Keys::generate().unwrap(), &dir.path().join("release.zip"))
        .unwrap();
    let staged = StagedZip::open(&made.path).await.unwrap();
    let one = &made.artifacts[0];
    let missing = read(&staged, "ghost", one.hash, one.size).await;
    assert!(matches!(missing, Err(StagedZipError::TargetMissing { .. })), "{missing:?}");
    let size = read(&staged, &one.target, one.hash, one.size + 1).await;
    assert!(matches!(size, Err(StagedZipError::NotTheArtifact { .. })), "{size:?}");
    let hash = read(&staged, &one.target, made.artifacts[1].hash, one.size).await;
    assert!(matches!(hash, Err(StagedZipError::NotTheArtifact { .. })), "{hash:?}");
}

#[tokio::test]
async fn damage_after_staging_never_ends_a_stream_without_an_error() {
    let dir = tempdir().unwrap();
    let release = SampleRelease::new("1.0.0").seeded("stored", "1", "file", 600_000, false);
    let made = release.make(&Keys::generate().unwrap(), &dir.path().join("release.zip")).unwrap();
    let one = &made.artifacts[0];
    let staged = StagedZip::open(&made.path).await.unwrap();
    // The one entry of this size starts right behind its header: the middle of it is its own.
    let file = fs::File::options().read(true).write(true).open(&made.path).unwrap();
    let mut byte = [0u8];
    file.read_exact_at(&mut byte, 300_000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x80], 300_000).unwrap();
    let damaged = read(&staged, &one.target, one.hash, one.size).await;
    assert!(matches!(damaged, Err(StagedZipError::NotTheArtifact { .. })), "{damaged:?}");
    file.set_len(400_000).unwrap();
    let cut = read(&staged, &one.target, one.hash, one.size).await;
    assert!(matches!(cut, Err(StagedZipError::NotTheArtifact { .. })), "{cut:?}");
    let reopened = StagedZip::open(&made.path).await;
    assert!(matches!(reopened, Err(StagedZipError::Damaged { .. })), "{reopened:?}");
    fs::remove_file(&made.path).unwrap();
    let gone = StagedZip::open(&made.path).await;
    assert!(matches!(gone, Err(StagedZipError::Io { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_dropped_stream_ends_its_reader() {
    let dir = tempdir().unwrap();
    let release = SampleRelease::new("1.0.0").seeded("stored", "1", "file", 8 << 20, false);
    let made = release.make(&Keys::generate().unwrap(), &dir.path().join("release.zip")).unwrap();
    let one = &made.artifacts[0];
    let staged = StagedZip::open(&made.path).await.unwrap();
    // More than the blocking pool's threads: were readers left behind, the last reads would never start.
    for _ in 0..600 {
        let mut stream = staged.read(&one.target, None, one.hash, one.size).unwrap();
        assert!(stream.try_next().await.unwrap().is_some());
    }
    read(&staged, &one.target, one.hash, one.size).await.unwrap();
}
