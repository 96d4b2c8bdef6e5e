//! Decides whether the metadata of an archive is believed, and by whom it is vouched for.
//!
//! `tough` is the authority: what it loads with one of the trust roots is believed, nothing else. Four rules
//! are added to it:
//!
//! - Expiry is judged here, for each role, against the time and the policy of the examination. (`tough` would use
//!   the machine's clock and stop at the first expired role.)
//! - Every `root.json` in the archive must be a root that signs itself, though `tough` reads only those newer than
//!   the trusted one: a repository with a damaged file is damaged, and one without any root is not complete.
//! - No role counts one key under two ids (`key_rules`); `tough` tells keys apart by their ids.
//! - A delegated role that the snapshot does not name is a fault; `tough` would leave its targets out in silence.

use crate::{
    diagnosis::{Diagnosis, diagnose},
    findings::{Findings, Warnings},
    key_rules,
    metadata_files::{METADATA_BYTES_MAX, METADATA_URL, MetadataFiles, MetadataTransport, TARGETS_URL},
    signed_targets::SignedTargets,
    trust_root::{ROOT_BYTES_MAX, parse_self_signed},
    types::{ExamineError, ExamineOptions, ExpiryPolicy, TrustedRoot},
};
use camino::Utf8Path;
use camino_tempfile::Utf8TempDir;
use ids::TrustRootId;
use problem::Code;
use std::{collections::BTreeSet, sync::Arc};
use tough::{
    ExpirationEnforcement, Limits, Repository, RepositoryLoader,
    error::Error as ToughError,
    schema::{Delegations, Root, Signed, Targets},
};
use url::Url;

/// Rotations that one archive may hold beyond the trusted root. One per year, generously.
const ROOT_UPDATES_MAX: u64 = 64;

/// What the metadata amounts to.
pub(crate) struct Judgement {
    /// Who vouches for it; `None` where nobody does, and then there are findings.
    pub(crate) trust_root: Option<TrustRootId>,
    /// What it promises. Where nobody vouches for it: as far as it can be read, to check the rest against.
    pub(crate) promised: SignedTargets,
}

/// Judges the metadata with each trust root, in their order.
///
/// # Errors
/// Only where the machine failed.
pub(crate) async fn judge(
    files: &Arc<MetadataFiles>,
    roots: &[TrustedRoot],
    scratch: &Utf8Path,
    findings: &mut Findings,
) -> Result<Judgement, ExamineError> {
    let own_root = check_own_roots(files, findings);
    let mut refusals = Vec::new();
    for root in roots {
        // Added roots were parsed when they were added; one that breaks a rule of today vouches for nothing.
        let Ok(parsed) = parse_self_signed(&root.root_json) else { continue };
        // One for each root: what `tough` keeps of one must not bind the next.
        let datastore = Utf8TempDir::new_in(scratch)
            .map_err(|error| ExamineError::Scratch { message: format!("{scratch}: {error}") })?;
        match load(files, &root.root_json, datastore.path()).await {
            Ok(repository) => {
                let promised = promised_by(&repository, files, findings);
                return Ok(Judgement { trust_root: Some(root.id), promised });
            }
            Err(error) if is_scratch_fault(&error) => {
                return Err(ExamineError::Scratch { message: error.to_string() });
            }
            Err(error) => refusals.push((diagnose(files, parsed), error)),
        }
    }
    Ok(Judgement { trust_root: None, promised: explain(files, roots.len(), own_root, refusals, findings) })
}

/// Says which roles have expired.
pub(crate) fn check_expiry(
    promised: &SignedTargets,
    options: &ExamineOptions,
    findings: &mut Findings,
    warnings: &mut Warnings,
) {
    for (role, expires) in &promised.expiries {
        if *expires > options.now {
            continue;
        }
        let text = format!("the {role} metadata expired at {expires}");
        match options.expiry {
            ExpiryPolicy::Warn => warnings.add(text),
            ExpiryPolicy::Deny => findings.about(Code::MetadataExpired, role.clone(), text),
        }
    }
}

async fn load(
    files: &Arc<MetadataFiles>,
    root_json: &[u8],
    datastore: &Utf8Path,
) -> Result<Repository, ToughError> {
    let url = |text: &str| Url::parse(text).expect("a constant URL parses");
    RepositoryLoader::new(&root_json, url(METADATA_URL), url(TARGETS_URL))
        .transport(MetadataTransport(Arc::clone(files)))
        .datastore(datastore)
        .limits(Limits {
            max_root_size: ROOT_BYTES_MAX as u64,
            max_targets_size: METADATA_BYTES_MAX,
            max_timestamp_size: METADATA_BYTES_MAX,
            max_snapshot_size: METADATA_BYTES_MAX,
            max_root_updates: ROOT_UPDATES_MAX,
        })
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load()
        .await
}

/// Checks the roots in the archive by themselves. Returns the newest good one.
fn check_own_roots(files: &MetadataFiles, findings: &mut Findings) -> Option<Signed<Root>> {
    if !files.has("root") {
        let subject = files.entry_name("root.json");
        let detail = format!("neither {subject} nor a version of it is in the archive");
        findings.about(Code::MetadataMissing, subject, detail);
    }
    let mut newest: Option<Signed<Root>> = None;
    for (file, content) in files.versions_of("root") {
        match parse_self_signed(content) {
            Ok(root)
                if newest.as_ref().is_some_and(|newest| newest.signed.version >= root.signed.version) => {}
            Ok(root) => newest = Some(root),
            Err((code, reason)) => findings.about(code, files.entry_name(file), reason),
        }
    }
    newest
}

fn promised_by(repository: &Repository, files: &MetadataFiles, findings: &mut Findings) -> SignedTargets {
    let mut loaded = BTreeSet::new();
    let mut named = BTreeSet::new();
    collect_roles(&repository.targets().signed, &mut loaded, &mut named);
    for name in named.difference(&loaded) {
        let subject = files.entry_name(&format!("{name}.json"));
        let detail = format!("the snapshot does not name the delegated role {name:?} or one beside it");
        findings.about(Code::MetadataMissing, subject, detail);
    }
    check_delegations(&repository.targets().signed, files, findings);
    SignedTargets::collect(
        &repository.root().signed,
        Some(repository.timestamp()),
        Some(repository.snapshot()),
        Some(repository.targets()),
        findings,
    )
}

/// Whose keys the delegations count, all the way down.
fn check_delegations(targets: &Targets, files: &MetadataFiles, findings: &mut Findings) {
    let Some(delegations) = &targets.delegations else { return };
    for role in &delegations.roles {
        if let Err(reason) = key_rules::check_role(&role.keyids, |keyid| delegations.keys.get(keyid)) {
            let subject = files.entry_name(&format!("{}.json", role.name));
            findings.about(Code::MetadataInvalid, subject, reason);
        }
        if let Some(targets) = &role.targets {
            check_delegations(&targets.signed, files, findings);
        }
    }
}

/// Delegated roles that are named, and those among them that were loaded.
fn collect_roles<'a>(targets: &'a Targets, loaded: &mut BTreeSet<&'a str>, named: &mut BTreeSet<&'a str>) {
    let roles = targets.delegations.iter().flat_map(|Delegations { roles, .. }| roles);
    for role in roles {
        named.insert(&role.name);
        if let Some(targets) = &role.targets {
            loaded.insert(&role.name);
            collect_roles(&targets.signed, loaded, named);
        }
    }
}

/// Nobody vouches for the metadata: says why. Of several trust roots the one speaks that comes nearest.
fn explain(
    files: &MetadataFiles,
    root_count: usize,
    own_root: Option<Signed<Root>>,
    refusals: Vec<(Diagnosis, ToughError)>,
    findings: &mut Findings,
) -> SignedTargets {
    let nearest =
        refusals.into_iter().min_by_key(|(diagnosis, _)| (diagnosis.is_stranger, diagnosis.findings.len()));
    match nearest {
        Some((diagnosis, error)) if !diagnosis.is_stranger => {
            if diagnosis.findings.is_empty() && findings.is_empty() {
                findings.add(Code::MetadataInvalid, format!("the metadata is refused: {error}"));
            }
            findings.append(diagnosis.findings);
            return diagnosis.promised;
        }
        Some(_) => findings.add(Code::UnknownRoot, unknown_root_detail(root_count, own_root.as_ref())),
        None => findings.add(Code::NoTrustRoots, "no trust root has been added, so nothing can be believed"),
    }
    // Seen from its own root the repository is at least coherent, or not.
    match own_root {
        Some(own_root) => {
            let diagnosis = diagnose(files, own_root);
            findings.append(diagnosis.findings);
            diagnosis.promised
        }
        None => SignedTargets::default(),
    }
}

fn unknown_root_detail(root_count: usize, own_root: Option<&Signed<Root>>) -> String {
    let who = match own_root {
        Some(root) => format!("the archive brings a root of version {}", root.signed.version),
        None => "the archive brings no root that could be read".to_owned(),
    };
    let roots = if root_count == 1 { "root that was" } else { "roots that were" };
    format!("no key of the {root_count} trust {roots} added signed this; {who}")
}

/// `tough` keeps scratch files of its own in the temporary directory; that they fail says nothing about the
/// release.
fn is_scratch_fault(error: &ToughError) -> bool {
    matches!(
        error,
        ToughError::DatastoreInit { .. }
            | ToughError::DatastoreCreate { .. }
            | ToughError::DatastoreOpen { .. }
            | ToughError::DatastoreRemove { .. }
            | ToughError::DatastoreSerialize { .. }
            | ToughError::SystemTimeSteppedBackward { .. }
    )
}
