//! Disks without any room left, under real processes: what a region needs it has taken when it was made, so a volume is written all the
//! same; and one that is made there is refused, and leaves nothing.
//!
//! The disks are small tmpfs in a mount namespace of the script's own, which ends with it. A machine that lets nobody make such a
//! namespace leaves the test out.

use crate::shell::{SECONDS_MAX, start};
use std::{
    fs,
    process::{Command, Stdio},
};
use test_processes::OwnAddress;

/// As root there is no need for a namespace of users.
fn unshare() -> &'static str {
    if rustix::process::geteuid().is_root() { "unshare --mount" } else { "unshare --mount --map-root-user" }
}

fn can_unshare() -> bool {
    let probe = format!("{} mount -t tmpfs -o size=4k none /mnt", unshare());
    let status = Command::new("sh").args(["-c", &probe]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Fills the disks behind the making of the volume, writes all of it twice over, and reads it.
const SCRIPT: &str = r#"
mkfifo serving
for disk in 1 2 3; do mkdir disk$disk; mount -t tmpfs -o size=96m none disk$disk; done
sled-agent volume create --size 32MiB --output volume.json \
    --member disk1@ADDRESS:12401 --member disk2@ADDRESS:12402 --member disk3@ADDRESS:12403
for disk in 1 2 3; do
    sled-agent downstairs --directory disk$disk --listen ADDRESS:1240$disk > serving &
    head --lines 1 serving
    dd if=/dev/zero of=disk$disk/filler bs=4k status=none 2>/dev/null || echo "disk$disk is full"
done
sled-agent volume create --size 1MiB --output other.json \
    --member disk1@ADDRESS:12404 --member disk2@ADDRESS:12405 || echo "refused, with $(ls disk1 | grep -c region) region"
sled-agent volume export --volume volume.json --epoch 1 --listen unix:$PWD/nbd & export=$!
sled-agent volume wait volume.json --for whole
uri="nbd+unix:///?socket=$PWD/nbd"
for fill in 1 2 3; do qemu-io -f raw "$uri" -c "write -P $fill 0 32M" -c flush; done
for at in $(seq 0 7 8184); do echo "write -P 9 $((at * 4096)) 4096"; done | qemu-io -f raw "$uri" > /dev/null
qemu-io -f raw "$uri" -c "read -P 9 0 4k" -c "read -P 3 4k 24k" -c "read -P 9 28k 4k"
sled-agent volume wait volume.json --for whole
sled-agent volume look volume.json
sled-agent volume stop volume.json
wait $export
"#;

#[test]
fn a_volume_on_full_disks_is_written_and_read_and_no_other_one_is_made_there() {
    if !can_unshare() {
        eprintln!("this machine lets nobody make a mount namespace");
        return;
    }
    let (directory, address) = (camino_tempfile::tempdir().unwrap(), OwnAddress::claim());
    let said = directory.path().join("said");
    let script = SCRIPT.replace("ADDRESS", &address.ip().to_string());
    fs::write(directory.path().join("script"), script).unwrap();
    let shell = start(&format!("exec {} bash -eu script", unshare()), directory.path(), &said);
    let ended_well = shell.ends_well(SECONDS_MAX);
    let said = fs::read_to_string(&said).unwrap();
    assert!(ended_well, "{said}");
    for disk in 1..=3 {
        assert!(said.contains(&format!("disk{disk} is full")), "{said}");
    }
    assert!(
        said.contains("error[volume_region_not_made]") && said.contains("refused, with 1 region"),
        "{said}"
    );
    assert!(
        !said.contains("Pattern verification failed") && said.contains("read 24576/24576 bytes"),
        "{said}"
    );
    let is_full = |line: &&str| line.split_whitespace().skip(1).take(2).eq(["streaming", "full"]);
    assert_eq!(said.lines().filter(is_full).count(), 3, "{said}");
}
