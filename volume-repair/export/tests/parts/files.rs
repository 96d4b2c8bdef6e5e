//! Region sets one behind the other, and over files.

use crate::site::{MIB, Site, over, pattern, request};
use serde_json::{Value, json};
use std::fs;
use upstairs::PhaseName;
use volume_export::ExportStatus;

/// The content of a volume of so many MiB over a file of 4 MiB of which nothing was written.
fn over_file(mib: u64) -> Vec<u8> {
    let mut content = pattern(4 * MIB);
    content.resize(usize::try_from(mib * MIB).unwrap(), 0);
    content
}

fn fill(content: &mut [u8], from: u64, to: u64, with: u8) {
    content[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].fill(with);
}

#[test]
fn a_file_is_seen_where_nobody_wrote_and_never_again_where_somebody_did() {
    let mut site = Site::new();
    let (file, set) = (site.file("base.img", 4 * MIB), site.region_set(8 * MIB));
    let over_it = |epoch| over(request(epoch, &[&set]), request(0, &[&file]));
    let mut expected = over_file(8);
    {
        let served = site.export(&over_it(1));
        assert_eq!(served.content(), expected);
        served.io(&[
            "write -P 1 512k 64k",
            "write -z 1M 64k",
            "discard 2M 64k",
            "write -P 2 4090k 8k",
            "flush",
            "read -P 1 512k 64k",
            "read -P 0 1M 64k",
            "read -P 0 2M 64k",
            "read -P 2 4090k 8k",
            "read -P 0 5M 3M",
        ]);
        fill(&mut expected, 512 << 10, 576 << 10, 1);
        fill(&mut expected, MIB, MIB + (64 << 10), 0);
        fill(&mut expected, 2 * MIB, 2 * MIB + (64 << 10), 0);
        fill(&mut expected, 4_090 << 10, 4_098 << 10, 2);
        assert!(served.content() == expected);
        // Blocks have 4 KiB. What was zeroed is zeros; what the file has is data, whatever it is; behind its end is nothing.
        assert_eq!(
            served.map(),
            [
                "0 1048576 0 data",
                "1048576 65536 2 zero",
                "1114112 983040 0 data",
                "2097152 65536 2 zero",
                "2162688 2035712 0 data",
                "4198400 4190208 3 hole,zero",
            ]
        );
    }
    let served = site.export(&over_it(2));
    assert!(served.content() == expected, "the next writer sees the same");
    assert!(fs::read(site.path("base.img")).unwrap() == pattern(4 * MIB), "nothing was written to the file");
}

#[test]
fn two_region_sets_are_one_volume_and_its_border_is_nowhere_to_be_seen() {
    let mut site = Site::new();
    let sets = [site.region_set(4 * MIB), site.region_set(3 * MIB)];
    {
        let served = site.export(&request(1, &[&sets[0], &sets[1]]));
        served.io(&["write -P 3 3M 2M", "write -z 4092k 8k", "write -f -P 4 4090k 4k", "flush"]);
        served.io(&[
            "read -P 3 3M 1018k",
            "read -P 4 4090k 4k",
            "read -P 0 4094k 6k",
            "read -P 3 4100k 1020k",
            "read -P 0 5M 2M",
        ]);
    }
    let served = site.export(&request(2, &[&sets[0], &sets[1]]));
    let mut expected = vec![0; usize::try_from(7 * MIB).unwrap()];
    fill(&mut expected, 3 * MIB, 5 * MIB, 3);
    fill(&mut expected, 4_092 << 10, 4_100 << 10, 0);
    fill(&mut expected, 4_090 << 10, 4_094 << 10, 4);
    assert!(served.content() == expected);
    assert_eq!((served.status().phase(), served.status().epoch()), (PhaseName::Active, Some(2)));
    let status = served.json();
    let parts = status["layers"]["layers"][0]["parts"].as_array().unwrap();
    let places: Vec<(u64, u64)> = parts
        .iter()
        .map(|part| (part["first_block"].as_u64().unwrap(), part["blocks"].as_u64().unwrap()))
        .collect();
    assert_eq!(places, [(0, 1_024), (1_024, 768)]);
    assert_eq!(parts[1]["region_set"]["members"].as_array().unwrap().len(), 3);
    assert!(parts[1]["region_set"]["members"][2]["address"].is_string());
    assert_eq!(status.get("upstairs"), None);
    let read: ExportStatus = serde_json::from_value(status).unwrap();
    assert_eq!(read.volume.members().count(), 6);
}

#[test]
fn a_region_set_under_a_volume_is_read_and_never_written() {
    let mut site = Site::new();
    let (base, top) = (site.region_set(2 * MIB), site.region_set(4 * MIB));
    let file = site.file("base.img", 3 * MIB);
    site.export(&request(1, &[&base])).io(&["write -P 7 0 1M", "write -z 1M 64k", "flush"]);
    let parent = |epoch| over(request(epoch, &[&base]), request(0, &[&file]));
    {
        let served = site.export(&over(request(1, &[&top]), parent(2)));
        served.io(&["write -P 8 512k 128k", "write -P 8 1M 4k", "flush"]);
        let mut expected = pattern(3 * MIB);
        expected.resize(usize::try_from(4 * MIB).unwrap(), 0);
        // Behind the base's own end nothing is seen, not even of the file that is longer.
        fill(&mut expected, 0, MIB, 7);
        fill(&mut expected, MIB, MIB + (64 << 10), 0);
        fill(&mut expected, 2 * MIB, 4 * MIB, 0);
        fill(&mut expected, 512 << 10, 640 << 10, 8);
        fill(&mut expected, MIB, MIB + (4 << 10), 8);
        assert!(served.content() == expected);
    }
    let child = site.export(&over(request(2, &[&top]), parent(3)));
    let served = site.export(&parent(4));
    served.io(&["read -P 7 0 1M", "read -P 0 1M 64k"]);
    // Who had it as a parent has it no more; what it has itself it goes on with.
    let said =
        child.io_fails(&["read 0 4k", "read -P 8 512k 128k", "write -P 9 512k 128k", "read -P 9 512k 128k"]);
    assert_eq!(said.matches("read failed").count(), 1, "{said}");
    assert_eq!((said.matches("read 131072/131072").count(), said.matches("wrote").count()), (2, 1), "{said}");
    let status = child.status();
    assert_eq!((status.phase(), status.epoch()), (PhaseName::Active, Some(2)));
    assert_eq!(status.ended_parents().count(), 1);
}

#[test]
fn a_volume_with_a_file_among_its_own_parts_is_read_only() {
    let mut site = Site::new();
    let (file, set) = (site.file("base.img", MIB), site.region_set(MIB));
    site.export(&request(1, &[&set])).io(&["write -P 5 0 1M", "flush"]);
    let served = site.export(&request(2, &[&file, &set]));
    assert!(served.info().contains("is_read_only: true"), "{}", served.info());
    let said = served.io_fails(&["write 0 4k"]);
    assert!(said.contains("Permission denied") || said.contains("read-only"), "{said}");
    served.read_only_io(&["read -P 5 1M 1M"]);
    let mut expected = pattern(MIB);
    expected.resize(usize::try_from(2 * MIB).unwrap(), 5);
    assert!(served.content() == expected);
}

#[test]
fn a_file_that_changes_is_an_error_where_it_is_seen_and_nowhere_else() {
    let mut site = Site::new();
    let (file, set) = (site.file("base.img", MIB), site.region_set(2 * MIB));
    let served = site.export(&over(request(1, &[&set]), request(0, &[&file])));
    served.io(&["write -P 1 0 64k", "read -v 64k 512"]);
    fs::write(site.path("base.img"), vec![9; usize::try_from(MIB).unwrap()]).unwrap();
    let said = served.io_fails(&["read 64k 4k", "read -P 1 0 64k", "read -P 0 1M 1M"]);
    assert!(said.contains("read failed: Input/output error"), "{said}");
    assert_eq!(said.matches("Input/output error").count(), 1, "{said}");
    let status = served.json();
    let trouble = &status["layers"]["layers"][1]["parts"][0]["file"]["trouble"];
    assert!(trouble.as_str().unwrap().contains("changed since it was opened"), "{status}");
}

#[test]
fn a_part_that_is_not_there_or_of_no_use_is_refused_by_name() {
    let mut site = Site::new();
    let mut code = |part: &Value| {
        let refused = site.try_export(&request(0, &[part]));
        refused.err().expect("it is refused").code()
    };
    assert_eq!(code(&json!({"file": {"path": "/nowhere/base.img"}})), "volume_file_not_opened");
    assert_eq!(code(&json!({"file": {"path": "/dev/zero"}})), "volume_file_kind");
    let mut odd = |bytes| {
        let site = Site::new();
        let file = site.file("odd.img", bytes);
        (code(&file), site).0
    };
    assert_eq!(odd(0), "volume_source_empty");
    assert_eq!(odd(4_104), "volume_source_size");
}
