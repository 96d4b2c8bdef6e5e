//! The examination of one uploaded zip: the order of the checks, and what each may rely on.
//!
//! ```text
//! 1 index      structure, names, kinds, sizes      cannot be read, or a bomb: stop
//! 2 metadata   signatures, by each trust root       refused: go on with what it promises, to report more
//! 3 expiry     each role against the policy
//! 4 content    every entry once: CRC, length, digest
//! 5 release    artifacts.json, versions
//!              no findings and a trust root: accepted. Otherwise: everything that was found.
//! ```
//! Nothing is written or extracted; the file is only read. Memory does not grow with the archive: the index is
//! bounded by the number of entries, metadata by [`crate::metadata_files`], content by one chunk per reader.

use crate::{
    artifacts_json::{
        ARTIFACTS_JSON, ARTIFACTS_JSON_BYTES_MAX, Described, DescribedArtifact, describe, describe_plain,
        is_word,
    },
    content::{self, Expected, Task},
    entry_reader::{ReadFault, read_small},
    findings::{Findings, Warnings},
    layout::Layout,
    metadata::{self, Judgement},
    metadata_files::MetadataFiles,
    signed_targets::{SignedTarget, SignedTargets},
    types::{ExamineError, ExamineOptions, ExaminedRelease, ReleaseArtifact, TrustedRoot},
    zip_index::{self, ZipIndex},
};
use camino::Utf8Path;
use problem::Code;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, io, sync::Arc};
use tokio::runtime::Handle;

/// Examines a zip file on disk and accepts it only if every byte of every target is what one of the trust
/// roots vouches for.
///
/// Reads every entry once. Changes nothing. May be given up at any time by dropping the future.
///
/// # Errors
/// [`ExamineError::Rejected`] with everything that is wrong, the most important first;
/// [`ExamineError::Io`] and [`ExamineError::Scratch`] where the machine failed.
pub async fn examine(
    zip: &Utf8Path,
    roots: &[TrustedRoot],
    options: &ExamineOptions,
) -> Result<ExaminedRelease, ExamineError> {
    let io_error = |source: io::Error| ExamineError::Io { path: zip.to_owned(), source };
    let (mut findings, mut warnings) = (Findings::default(), Warnings::default());
    check_asked_version(options, &mut findings);

    let opened = blocking({
        let (zip, expanded_bytes_max) = (zip.to_owned(), options.expanded_bytes_max);
        move || zip_index::open(&zip, expanded_bytes_max)
    });
    let opened = opened.await.map_err(io_error)?;
    findings.append(opened.findings);
    let Some(index) = opened.index.map(Arc::new) else {
        return Err(ExamineError::Rejected(findings.into_sorted()));
    };

    let layout = match Layout::find(&index.entries) {
        Ok(layout) => layout,
        Err(reason) => {
            findings.add(Code::MetadataInvalid, reason);
            return Err(ExamineError::Rejected(findings.into_sorted()));
        }
    };
    let files = read_metadata(&index, &layout, &mut findings, &mut warnings).await.map_err(io_error)?;
    let (Judgement { trust_root, promised }, found) = judge(&files, roots, &options.scratch).await?;
    findings.append(found);
    metadata::check_expiry(&promised, options, &mut findings, &mut warnings);

    let places = find_targets(&index, &layout, &promised, &mut findings);
    let tasks = content_tasks(&index, &layout, &promised, &places, &mut warnings);
    let content_findings = content::check(Arc::clone(&index), tasks).await.map_err(io_error)?;
    findings.append(content_findings);

    let described = describe_release(&index, &promised, &places, options, &mut findings, &mut warnings)
        .await
        .map_err(io_error)?;
    match (trust_root, described.system_version) {
        (Some(trust_root), Some(system_version)) if findings.is_empty() => Ok(ExaminedRelease {
            system_version,
            artifacts: described.artifacts.into_iter().map(|artifact| placed(artifact, &places)).collect(),
            trust_root,
            warnings: warnings.into_texts(),
        }),
        _ => Err(ExamineError::Rejected(never_empty(findings))),
    }
}

/// Where each promised target is in the archive, by its path. A target that stands there under several of its
/// spellings must be right under each, so that no later reader depends on which one we looked at.
type Places = BTreeMap<String, Vec<String>>;

fn placed(artifact: DescribedArtifact, places: &Places) -> ReleaseArtifact {
    let DescribedArtifact { name, version, kind, target, hash, size } = artifact;
    let entry = places.get(&target).and_then(|entries| entries.first()).cloned();
    let entry = entry.expect("a target without a place is a finding");
    ReleaseArtifact { name, version, kind, target, entry, hash, size }
}

fn check_asked_version(options: &ExamineOptions, findings: &mut Findings) {
    if let Some(asked) = options.system_version.as_ref().filter(|asked| !is_word(asked)) {
        findings.about(
            Code::BadRequest,
            "system_version",
            format!("{asked:?} is not a version: 1 to 63 characters of A-Z a-z 0-9 . _ + - were expected"),
        );
    }
}

async fn read_metadata(
    index: &Arc<ZipIndex>,
    layout: &Layout,
    findings: &mut Findings,
    warnings: &mut Warnings,
) -> io::Result<Arc<MetadataFiles>> {
    let (index, layout) = (Arc::clone(index), layout.clone());
    let (files, found, warned) = blocking(move || {
        let (mut found, mut warned) = (Findings::default(), Warnings::default());
        let files = MetadataFiles::read(&index, layout, &mut found, &mut warned)?;
        Ok((files, found, warned))
    })
    .await?;
    findings.append(found);
    warnings.append(warned);
    Ok(Arc::new(files))
}

/// Judges the metadata off the async threads: `tough` computes signatures between its awaits, one for each key of each
/// file, and a thread that computes answers nobody.
async fn judge(
    files: &Arc<MetadataFiles>,
    roots: &[TrustedRoot],
    scratch: &Utf8Path,
) -> Result<(Judgement, Findings), ExamineError> {
    let (files, roots, scratch) = (Arc::clone(files), roots.to_vec(), scratch.to_owned());
    let runtime = Handle::current();
    let judged = tokio::task::spawn_blocking(move || {
        let mut findings = Findings::default();
        let judgement = runtime.block_on(metadata::judge(&files, &roots, &scratch, &mut findings))?;
        Ok((judgement, findings))
    });
    match judged.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(ExamineError::Scratch { message: error.to_string() }),
    }
}

fn find_targets(
    index: &ZipIndex,
    layout: &Layout,
    promised: &SignedTargets,
    findings: &mut Findings,
) -> Places {
    let mut places = Places::new();
    for (target, SignedTarget { digests, .. }) in &promised.targets {
        let spellings = layout.target_entries(target, digests, promised.consistent);
        let present: Vec<String> =
            spellings.iter().filter(|entry| index.entries.contains_key(*entry)).cloned().collect();
        if !present.is_empty() {
            places.insert(target.clone(), present);
        } else if !spellings.iter().any(|entry| index.refused.contains(entry)) {
            let detail = format!("neither {} is in the archive", spellings.join(" nor "));
            findings.about(Code::TargetMissing, target.clone(), detail);
        }
    }
    places
}

/// Every entry but metadata is read; those that hold targets are compared with what is signed.
fn content_tasks(
    index: &ZipIndex,
    layout: &Layout,
    promised: &SignedTargets,
    places: &Places,
    warnings: &mut Warnings,
) -> Vec<Task> {
    let mut expected: BTreeMap<&str, Vec<Expected>> = BTreeMap::new();
    for (target, entries) in places {
        let Some(SignedTarget { length, sha256, .. }) = promised.targets.get(target) else { continue };
        for entry in entries {
            let one = Expected { target: target.clone(), length: *length, sha256: *sha256 };
            expected.entry(entry).or_default().push(one);
        }
    }
    let mut tasks = Vec::new();
    for (name, entry) in &index.entries {
        if layout.metadata_file(name).is_some() {
            continue;
        }
        let expected = expected.remove(name.as_str()).unwrap_or_default();
        if expected.is_empty() {
            let why = if layout.is_target(name) { "no signed target" } else { "no part of a TUF repository" };
            warnings.add(format!("{name} is {why}: it is ignored"));
        }
        tasks.push(Task { name: name.clone(), entry: *entry, expected });
    }
    tasks
}

async fn describe_release(
    index: &Arc<ZipIndex>,
    promised: &SignedTargets,
    places: &Places,
    options: &ExamineOptions,
    findings: &mut Findings,
    warnings: &mut Warnings,
) -> io::Result<Described> {
    let nothing = Described { system_version: None, artifacts: Vec::new() };
    let asked = options.system_version.as_deref();
    let Some(signed) = promised.targets.get(ARTIFACTS_JSON) else {
        // Without any metadata there is nothing to describe, and that has been reported.
        let is_readable = promised.expiries.iter().any(|(role, _)| role == "targets");
        return Ok(if is_readable { describe_plain(&promised.targets, asked, findings) } else { nothing });
    };
    let place = places.get(ARTIFACTS_JSON).and_then(|entries| entries.first());
    let Some(entry) = place.and_then(|entry| index.entries.get(entry)).copied() else {
        return Ok(nothing);
    };
    let read = blocking({
        let index = Arc::clone(index);
        move || match read_small(&index.file, &entry, ARTIFACTS_JSON_BYTES_MAX) {
            Err(ReadFault::Io(error)) => Err(error),
            other => Ok(other),
        }
    });
    match read.await? {
        // Other bytes than the signed ones describe nothing, and have been reported.
        Ok(bytes) if Sha256::digest(&bytes)[..] != signed.sha256 => Ok(nothing),
        Ok(bytes) => Ok(describe(&bytes, &promised.targets, asked, findings, warnings)),
        Err(_) if entry.size <= ARTIFACTS_JSON_BYTES_MAX => Ok(nothing),
        Err(_) => {
            let detail = format!("{} bytes, {ARTIFACTS_JSON_BYTES_MAX} are accepted", entry.size);
            findings.about(Code::ReleaseInvalid, ARTIFACTS_JSON, detail);
            Ok(nothing)
        }
    }
}

/// A refusal names a reason. That there is none would be our own mistake; the upload is refused all the same.
fn never_empty(mut findings: Findings) -> Vec<problem::Finding> {
    if findings.is_empty() {
        findings.add(Code::ReleaseInvalid, "the release could not be described");
    }
    findings.into_sorted()
}

/// Runs file access off the async threads. A panic there is carried over to the caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(io::Error::other(error)),
    }
}
