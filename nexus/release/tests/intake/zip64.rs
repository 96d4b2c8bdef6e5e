//! The format of large archives: sizes and offsets of 64 bits. The archive here is small, and written as if it
//! were not; one of really more than 4 GiB differs in nothing but the time that it takes.

use camino_tempfile::tempdir;
use futures::TryStreamExt;
use ids::TrustRootId;
use nexus_release::{ExamineError, ExamineOptions, StagedZip, TrustedRoot, examine};
use sample_release::{Keys, SampleRelease};
use std::fs;

const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;

fn u16_at(bytes: &[u8], offset: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[offset..offset + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap()))
}

/// Moves every size and offset of the central directory into 64-bit extra fields, and the directory's own into a
/// 64-bit end record.
fn as_zip64(archive: &[u8], lie_about_size: u64) -> Vec<u8> {
    let end = archive.len() - END_BYTES;
    let (count, directory) = (u16_at(archive, end + 10), usize::try_from(u32_at(archive, end + 16)).unwrap());
    let mut out = archive[..directory].to_vec();
    let mut record = directory;
    for _ in 0..count {
        let (name, extra, comment) =
            (u16_at(archive, record + 28), u16_at(archive, record + 30), u16_at(archive, record + 32));
        let mut fixed = archive[record..record + CENTRAL_BYTES].to_vec();
        let mut field = vec![1, 0, 24, 0];
        field.extend((u32_at(archive, record + 24) + lie_about_size).to_le_bytes());
        field.extend(u32_at(archive, record + 20).to_le_bytes());
        field.extend(u32_at(archive, record + 42).to_le_bytes());
        for offset in [20, 24, 42] {
            fixed[offset..offset + 4].fill(0xff);
        }
        fixed[30..32].copy_from_slice(&u16::try_from(extra + field.len()).unwrap().to_le_bytes());
        out.extend(fixed);
        let variable = record + CENTRAL_BYTES;
        out.extend(&archive[variable..variable + name]);
        out.extend(field);
        out.extend(&archive[variable + name..variable + name + extra + comment]);
        record = variable + name + extra + comment;
    }
    let end64 = out.len() as u64;
    let directory_bytes = end64 - directory as u64;
    out.extend(b"PK\x06\x06");
    out.extend(44u64.to_le_bytes());
    out.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for value in [count as u64, count as u64, directory_bytes, directory as u64] {
        out.extend(value.to_le_bytes());
    }
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(end64.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([0xff; 12]);
    out.extend([0, 0]);
    out
}

#[tokio::test]
async fn a_zip64_archive_is_examined_and_read_like_any_other() {
    let dir = tempdir().unwrap();
    let made = SampleRelease::small("1.0.0")
        .make(&Keys::generate().unwrap(), &dir.path().join("release.zip"))
        .unwrap();
    let archive = fs::read(&made.path).unwrap();
    let roots = [TrustedRoot { id: TrustRootId::generate(), root_json: made.root_json }];

    fs::write(&made.path, as_zip64(&archive, 0)).unwrap();
    let release = examine(&made.path, &roots, &ExamineOptions::default()).await.unwrap();
    assert_eq!(release.artifacts.len(), 3);
    let staged = StagedZip::open(&made.path).await.unwrap();
    for one in &release.artifacts {
        let chunks: Vec<_> =
            staged.read(&one.target, None, one.hash, one.size).unwrap().try_collect().await.unwrap();
        assert_eq!(chunks.concat().len() as u64, one.size);
    }

    // 64 bits are room for larger lies.
    fs::write(&made.path, as_zip64(&archive, 1 << 50)).unwrap();
    let error = examine(&made.path, &roots, &ExamineOptions::default()).await.unwrap_err();
    let ExamineError::Rejected(findings) = error else { panic!("{error:?}") };
    assert_eq!(findings[0].code, "zip_bomb");
}
