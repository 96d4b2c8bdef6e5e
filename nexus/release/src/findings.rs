//! The list of everything that is wrong with an upload: bounded, without repetition, most important first.
//!
//! Owns the order of importance. What is wrong, and in which words, is for the checks to say.

use problem::{Code, Finding};

/// Findings that are kept word for word. An archive of a thousand bad entries is as refused as one of a
/// hundred, and the answer must fit into a response that people read.
const FINDINGS_MAX: usize = 100;

/// Codes of a release by importance: what makes later findings meaningless comes first. A reader who fixes the
/// first finding fixes what the whole answer is named for.
const BY_IMPORTANCE: [Code; 24] = [
    Code::NotAZip,
    Code::ZipBomb,
    Code::ZipPathTraversal,
    Code::ZipPathAbsolute,
    Code::ZipDuplicateName,
    Code::ZipEntryUnsupported,
    Code::ZipTruncated,
    Code::NoTrustRoots,
    Code::MetadataMissing,
    Code::UnknownRoot,
    Code::MetadataInvalid,
    Code::BadSignature,
    Code::SignatureThreshold,
    Code::MetadataExpired,
    Code::TargetMissing,
    Code::TargetLengthMismatch,
    Code::TargetDigestMismatch,
    Code::ReleaseInvalid,
    Code::VersionMismatch,
    Code::VersionMissing,
    Code::BadRequest,
    Code::RootInvalid,
    Code::VersionConflict,
    Code::Internal,
];

/// Collects findings while checks go on after the first failure.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<(usize, Finding)>,
    left_out: usize,
}

impl Findings {
    /// A finding about the whole upload.
    pub(crate) fn add(&mut self, code: Code, detail: impl Into<String>) {
        self.push(code, Finding::new(code, detail));
    }

    /// A finding about one entry, file, field or key.
    pub(crate) fn about(&mut self, code: Code, subject: impl Into<String>, detail: impl Into<String>) {
        self.push(code, Finding::about(code, subject, detail));
    }

    /// Takes over what another check found.
    pub(crate) fn append(&mut self, other: Findings) {
        self.left_out += other.left_out;
        for (rank, finding) in other.found {
            self.keep(rank, finding);
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many things are wrong.
    pub(crate) fn len(&self) -> usize {
        self.found.len() + self.left_out
    }

    /// Whether something of this kind was found.
    pub(crate) fn has(&self, code: Code) -> bool {
        self.found.iter().any(|(_, finding)| finding.code == code.name())
    }

    /// Everything, the most important first; findings of equal importance in the order in which they were made.
    pub(crate) fn into_sorted(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|(rank, _)| *rank);
        let mut sorted: Vec<Finding> = self.found.into_iter().map(|(_, finding)| finding).collect();
        if self.left_out > 0 {
            let code = sorted.last().map(|last| last.code.clone()).unwrap_or_default();
            let detail = format!("and {} findings more, which are not listed", self.left_out);
            sorted.push(Finding { code, detail, subject: None });
        }
        sorted
    }

    fn push(&mut self, code: Code, finding: Finding) {
        let rank = BY_IMPORTANCE.iter().position(|listed| *listed == code).unwrap_or(BY_IMPORTANCE.len());
        self.keep(rank, finding);
    }

    /// Keeps the finding; where the list is full, in place of the least important one if that is less so.
    fn keep(&mut self, rank: usize, finding: Finding) {
        if self.found.iter().any(|(_, kept)| *kept == finding) {
            return;
        }
        if self.found.len() < FINDINGS_MAX {
            self.found.push((rank, finding));
            return;
        }
        self.left_out += 1;
        if let Some(least) = self.found.iter_mut().max_by_key(|(rank, _)| *rank)
            && least.0 > rank
        {
            *least = (rank, finding);
        }
    }
}

/// Warnings of one examination; bounded like [`Findings`] and for the same reason.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    texts: Vec<String>,
    left_out: usize,
}

impl Warnings {
    /// Something odd that is no reason to refuse.
    pub(crate) fn add(&mut self, text: impl Into<String>) {
        if self.texts.len() < FINDINGS_MAX {
            self.texts.push(text.into());
        } else {
            self.left_out += 1;
        }
    }

    /// Takes over what another check warned of.
    pub(crate) fn append(&mut self, other: Warnings) {
        self.left_out += other.left_out;
        other.texts.into_iter().for_each(|text| self.add(text));
    }

    /// All of them, in the order in which they were made.
    pub(crate) fn into_texts(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.texts.push(format!("and {} warnings more, which are not listed", self.left_out));
        }
        self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_important_finding_comes_first_and_repetition_is_dropped() {
        let mut findings = Findings::default();
        findings.about(Code::TargetMissing, "targets/b", "missing");
        findings.add(Code::ZipBomb, "too large");
        findings.about(Code::TargetMissing, "targets/b", "missing");
        let codes: Vec<String> = findings.into_sorted().into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["zip_bomb", "target_missing"]);
    }

    #[test]
    fn a_flood_of_findings_is_cut_but_counted_and_never_hides_a_worse_one() {
        let mut findings = Findings::default();
        for number in 0..FINDINGS_MAX + 50 {
            findings.about(Code::TargetMissing, format!("targets/{number}"), "missing");
        }
        findings.add(Code::ZipBomb, "too large");
        assert_eq!(findings.len(), FINDINGS_MAX + 51);
        let sorted = findings.into_sorted();
        assert_eq!(sorted.len(), FINDINGS_MAX + 1);
        assert_eq!(sorted[0].code, "zip_bomb");
        assert!(sorted[FINDINGS_MAX].detail.contains("51 findings more"), "{}", sorted[FINDINGS_MAX].detail);
    }
}
