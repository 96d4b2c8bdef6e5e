//! The commands with which a person does by hand what the demo does. Owns the words; runs nothing. All of them, one after the other, are one
//! shell script: a test types them.

use anyhow::{Context, Result};
use std::ops::Range;
use testbed::Cluster;

/// Commands for one cluster.
pub(super) struct ByHand {
    /// What names the cluster, behind every command of the testbed.
    name: String,
    /// The sled API of the sled that holds the volume.
    holder_url: String,
}

/// Reads a volume whole.
const READ: &str = "nbdcopy \"$uri\" - | sha256sum";

/// A call that fails if it is refused.
const CURL: &str = "curl -fsS -H \"$auth\"";

impl ByHand {
    pub(super) fn of(cluster: &Cluster, name: &str, holder: &str) -> Result<ByHand> {
        let environment = cluster.environment()?;
        let sled = environment.sleds.into_iter().find(|sled| sled.name == holder);
        let holder_url = sled.with_context(|| format!("there is no {holder}"))?.agent_url;
        Ok(ByHand { name: name.to_owned(), holder_url })
    }

    fn testbed(&self, what: &str) -> String {
        format!("cargo xtask testbed {what}{}", self.name)
    }

    pub(super) fn preface(&self) -> Vec<String> {
        vec![
            self.testbed("up --detach"),
            format!("eval \"$({})\"", self.testbed("env")),
            "auth=\"Authorization: Bearer $SLEDCTL_TOKEN\"".to_owned(),
        ]
    }

    pub(super) fn make(&self, mebibytes: u64, disks: &[&str]) -> Vec<String> {
        let disks = disks.join(" ");
        vec![
            self.testbed(&format!("volume --size-mib {mebibytes} --output volume.json {disks}")),
            format!("id=$(jq -r .id volume.json); volume={}/pantry/volumes/$id", self.holder_url),
        ]
    }

    pub(super) fn put(&self) -> Vec<String> {
        vec![format!("{CURL} -X PUT \"$volume?executor_epoch=1\" -d @volume.json | jq -r .result")]
    }

    pub(super) fn fill(&self, url: &str, size_bytes: u64, sha256: &str) -> Vec<String> {
        let order = format!(
            "{{\"executor_epoch\":1,\"url\":\"{url}\",\"size_bytes\":{size_bytes},\"sha256\":\"{sha256}\"}}"
        );
        vec![
            format!("job=$({CURL} \"$volume/import\" -d '{order}' | jq -r .id)"),
            format!("{CURL} \"$volume/jobs/$job?wait_ms=20000\" | jq -r .state"),
        ]
    }

    pub(super) fn export_and_read(&self) -> Vec<String> {
        let order = "{\"executor_epoch\":1,\"read_only\":false}";
        vec![format!("uri=$({CURL} \"$volume/export\" -d '{order}' | jq -r .uri)"), READ.to_owned()]
    }

    pub(super) fn read(&self) -> Vec<String> {
        vec![READ.to_owned()]
    }

    pub(super) fn write(&self, place: Range<u64>, byte: u8) -> Vec<String> {
        let (offset, bytes) = (place.start, place.end - place.start);
        vec![format!("qemu-io -f raw \"$uri\" -c 'write -P {byte:#x} {offset} {bytes}' -c flush")]
    }

    /// `what` is done to a disk, or to two.
    pub(super) fn disk(&self, what: &str, disk: &str) -> Vec<String> {
        vec![self.testbed(&format!("disk {what} {disk}"))]
    }

    pub(super) fn replace(&self, from: &str, to: &str) -> Vec<String> {
        vec![self.testbed(&format!("volume-replace volume.json {from} {to}"))]
    }

    pub(super) fn kill(&self, who: &str) -> Vec<String> {
        vec![self.testbed(&format!("kill {who}"))]
    }

    pub(super) fn restart(&self, who: &str) -> Vec<String> {
        vec![self.testbed(&format!("restart {who}"))]
    }

    pub(super) fn look(&self) -> Vec<String> {
        vec![format!(
            "{CURL} \"$volume\" | jq -c '.status.repairs[] | {{phase, bytes_done, bytes, outcome}}'"
        )]
    }

    pub(super) fn wait_until_filled(&self) -> Vec<String> {
        let is_full = "jq -e '.status.repairs[] | select(.outcome == \"completed\").bytes_done'";
        vec![format!("until {CURL} \"$volume\" | {is_full}; do sleep 1; done")]
    }

    pub(super) fn what_the_coordinator_knows(&self) -> Vec<String> {
        vec![format!(
            "{CURL} \"$SLEDCTL_URL/v1/volumes/$id/repairs\" | jq -c '.items[] | {{id, state, bytes_done}}'"
        )]
    }

    pub(super) fn read_each_region_alone(&self) -> Vec<String> {
        let one = ".id = $id | .epoch = 0 | .sub_volumes[0].region_set |= (.members |= [.[$n]] | del(.leaving) | .snapshot = $snapshot)";
        let order = "{\"executor_epoch\":1,\"read_only\":true}";
        vec![
            "snapshot=$(cat /proc/sys/kernel/random/uuid)".to_owned(),
            format!("{CURL} -X PUT \"$volume/snapshots/$snapshot?executor_epoch=1\" | jq -c .regions"),
            "for n in 0 1 2; do alone=$(cat /proc/sys/kernel/random/uuid)".to_owned(),
            format!("  one={}/pantry/volumes/$alone", self.holder_url),
            format!(
                "  jq --arg id $alone --arg snapshot $snapshot --argjson n $n '{one}' volume.json | {CURL} -X PUT \"$one?executor_epoch=1\" -d @- | jq -r .result"
            ),
            format!("  uri=$({CURL} \"$one/export\" -d '{order}' | jq -r .uri); {READ}"),
            format!("  {CURL} -X DELETE \"$one?executor_epoch=1\"; done"),
        ]
    }

    pub(super) fn release(&self, failed: &str) -> Vec<String> {
        vec![
            format!("{CURL} -X DELETE \"$volume?executor_epoch=1\""),
            self.testbed(&format!("disk heal {failed}")),
            self.testbed("volume-remove volume.json"),
        ]
    }
}
