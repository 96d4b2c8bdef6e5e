//! What became of an upload.

use super::{Look, table::Facts};
use nexus_client::releases::{UploadResult, UploadStatus};

/// The release, and who holds it durably.
#[must_use]
pub fn result(result: &UploadResult, look: &Look) -> String {
    let mut facts = Facts::new();
    facts.fact("release", &result.system_version);
    facts.fact(
        "status",
        match result.status {
            UploadStatus::Inserted => "inserted",
            UploadStatus::AlreadyExists => "already exists, with the same artifacts",
        },
    );
    facts.fact("sha256", &result.sha256);
    let holders = if result.durable_on.is_empty() { "-".to_owned() } else { result.durable_on.join(", ") };
    facts.fact("durable on", holders);
    facts.render(look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::narrow;

    #[test]
    fn result_says_who_holds_the_release() {
        let inserted = UploadResult {
            system_version: "0.3.1".into(),
            sha256: "c0ffee".into(),
            status: UploadStatus::Inserted,
            warnings: Vec::new(),
            durable_on: vec!["nexus-1".into(), "sled-a".into()],
        };
        insta::assert_snapshot!(result(&inserted, &narrow()), @r"
        release     0.3.1
        status      inserted
        sha256      c0ffee
        durable on  nexus-1, sled-a
        ");
    }
}
