//! What became of an upload.

use super::{Look, table::Facts};
use nexus_client::releases::{UploadResult, UploadStatus};
use std::collections::BTreeMap;

/// The release, and who holds it durably. `names` are those of coordinators and sleds, by id; who is not among them is
/// shown by id.
#[must_use]
pub fn result(result: &UploadResult, names: &BTreeMap<String, String>, look: &Look) -> String {
    let mut facts = Facts::new();
    facts.fact("release", &result.system_version);
    facts.fact(
        "status",
        match result.status {
            UploadStatus::Inserted => "inserted",
            UploadStatus::AlreadyExists => "already exists, with the same artifacts",
            UploadStatus::Unrecognized => "taken in, in a way that this sledctl is too old to know",
        },
    );
    facts.fact("sha256", &result.sha256);
    let holder = |id: &String| match names.get(id) {
        Some(name) if look.wide => format!("{name} ({id})"),
        Some(name) => name.clone(),
        None => id.clone(),
    };
    let mut holders: Vec<String> = result.durable_on.iter().map(holder).collect();
    holders.sort();
    let holders = if holders.is_empty() { "-".to_owned() } else { holders.join(", ") };
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
            durable_on: vec!["0191".into(), "0192".into(), "0193".into()],
        };
        let names = [("0191", "nexus-1"), ("0192", "sled-b")];
        let names = names.map(|(id, name)| (id.to_owned(), name.to_owned())).into();
        insta::assert_snapshot!(result(&inserted, &names, &narrow()), @r"
        release     0.3.1
        status      inserted
        sha256      c0ffee
        durable on  0193, nexus-1, sled-b
        ");
    }
}
