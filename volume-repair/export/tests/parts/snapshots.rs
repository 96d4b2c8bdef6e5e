//! Snapshots that are read, beside the volume that they are of and under others.

use crate::site::{MIB, Served, Site, over, pattern, request};
use ids::SnapshotId;
use serde_json::{Value, json};
use std::{fs, net::TcpListener};
use uuid::Uuid;
use volume_repair::Applied;

/// What a region set has held.
fn snapshot_of(set: &Value, snapshot: SnapshotId) -> Value {
    let mut part = set.clone();
    part["region_set"]["snapshot"] = json!(snapshot);
    part
}

fn content(mib: u64, fills: &[(u64, u64, u8)]) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(mib * MIB).unwrap()];
    for (from, to, with) in fills {
        content[usize::try_from(*from).unwrap()..usize::try_from(*to).unwrap()].fill(*with);
    }
    content
}

/// What is said of the first part of a layer that is a snapshot.
fn status_of(served: &Served, layer: usize) -> Value {
    served.json()["layers"]["layers"][layer]["parts"][0]["snapshot"].clone()
}

/// The file of a member's region, and in how many places of it these bytes were changed.
fn spoil(site: &Site, disk: u32, set: &Value, wanted: &[u8]) -> usize {
    let region = set["region_set"]["members"][disk as usize - 1]["region_id"].as_str().unwrap();
    let path = site.path(&format!("disk{disk}/{region}.region"));
    let mut bytes = fs::read(&path).unwrap();
    let mut places = 0;
    for block in bytes.chunks_exact_mut(4_096).filter(|block| block.starts_with(wanted)) {
        block[17] ^= 1;
        places += 1;
    }
    fs::write(&path, bytes).unwrap();
    places
}

#[test]
fn it_has_what_was_there_beside_the_writer_and_cannot_be_written() {
    for mut site in [Site::new(), Site::encrypted()] {
        let set = site.region_set(4 * MIB);
        let writer = site.export(&request(1, &[&set]));
        writer.io(&["write -P 1 0 1M", "write -z 1M 64k", "write -P 2 3M 4k", "flush"]);
        let snapshot = writer.take_snapshot(1);
        let then = content(4, &[(0, MIB, 1), (3 * MIB, 3 * MIB + 4_096, 2)]);
        writer.io(&["write -P 9 0 2M", "write -P 9 3M 1M", "flush"]);
        let read = [(); 2].map(|()| site.export(&request(0, &[&snapshot_of(&set, snapshot)])));
        for served in &read {
            assert!(served.info().contains("is_read_only: true"), "{}", served.info());
            assert!(served.content() == then);
            let said = served.io_fails(&["write 0 4k"]);
            assert!(said.contains("Permission denied") || said.contains("read-only"), "{said}");
        }
        writer.io(&["write -P 8 0 4M", "flush"]);
        assert!(read[0].content() == then && writer.content() == content(4, &[(0, 4 * MIB, 8)]));
        let told = status_of(&read[0], 0);
        assert_eq!((&told["failed"], &told["trouble"]), (&json!(0), &Value::Null));
        assert!(told["name"].as_str().unwrap().contains(&snapshot.to_string()), "{told}");
        // Whoever reads it reads nothing that is gone, as soon as it is.
        writer.delete_snapshot(snapshot);
        let said = read[1].read_only_io_fails(&["read 0 4k"]);
        assert!(said.contains("read failed: Input/output error"), "{said}");
        let trouble = status_of(&read[1], 0)["trouble"].as_str().unwrap().to_owned();
        assert_eq!(trouble.matches("has no snapshot").count(), 3, "{trouble}");
        writer.io(&["read -P 8 0 4M"]);
    }
}

#[test]
fn many_volumes_lie_over_one_and_what_it_never_had_is_seen_through_to_what_lies_under_it() {
    let mut site = Site::new();
    let base = site.region_set(2 * MIB);
    let snapshot = {
        let writer = site.export(&request(1, &[&base]));
        writer.io(&["write -P 7 0 1M", "write -z 1M 64k", "flush"]);
        writer.take_snapshot(1)
    };
    let file = site.file("base.img", 2 * MIB);
    let parent = over(request(0, &[&snapshot_of(&base, snapshot)]), request(0, &[&file]));
    let sets = [site.region_set(4 * MIB), site.region_set(4 * MIB)];
    let served = sets.each_ref().map(|set| site.export(&over(request(1, &[set]), parent.clone())));
    served[0].io(&["write -P 8 512k 128k", "flush"]);
    served[1].io(&["write -P 9 1M 4k", "flush"]);
    let through = |fills: &[(u64, u64, u8)]| {
        let mut all = content(4, &[]);
        all[..pattern(2 * MIB).len()].copy_from_slice(&pattern(2 * MIB));
        for (from, to, with) in [(0, MIB, 7), (MIB, MIB + (64 << 10), 0)].iter().chain(fills) {
            all[usize::try_from(*from).unwrap()..usize::try_from(*to).unwrap()].fill(*with);
        }
        all
    };
    assert!(served[0].content() == through(&[(512 << 10, 640 << 10, 8)]));
    assert!(served[1].content() == through(&[(MIB, MIB + 4_096, 9)]));
    // The set itself has a writer meanwhile, and fences nobody.
    let writer = site.export(&request(2, &[&base]));
    writer.io(&["write -P 3 0 2M", "flush"]);
    assert!(served[0].content() == through(&[(512 << 10, 640 << 10, 8)]));
    served[0].io(&["write -P 4 3M 4k", "flush"]);
    writer.io(&["read -P 3 0 2M"]);
}

#[test]
fn a_member_that_is_gone_or_has_wrong_bytes_costs_nothing_while_another_has_them_right() {
    for mut site in [Site::new(), Site::encrypted()] {
        let is_encrypted = site.region_set(MIB)["region_set"].get("encryption").is_some();
        let set = site.region_set(2 * MIB);
        let snapshot = {
            let writer = site.export(&request(1, &[&set]));
            writer.io(&["write -P 1 0 1M", "write -P 5 1M 4k", "write -P 6 1028k 4k", "flush"]);
            let snapshot = writer.take_snapshot(1);
            writer.io(&["write -P 9 0 2M", "flush"]);
            snapshot
        };
        let then = content(2, &[(0, MIB, 1), (MIB, MIB + 4_096, 5), (MIB + 4_096, MIB + 8_192, 6)]);
        let served = site.export(&request(0, &[&snapshot_of(&set, snapshot)]));
        assert!(served.content() == then);
        if !is_encrypted {
            // Each of two members has other blocks wrong, and the third one is not there.
            assert_eq!(spoil(&site, 1, &set, &[5; 4_096]), 1);
            assert_eq!(spoil(&site, 2, &set, &[6; 4_096]), 1);
        }
        site.stop(2);
        assert!(served.content() == then, "together they have all of it");
        assert_eq!(status_of(&served, 0)["failed"], 0);
        if !is_encrypted {
            assert_eq!(spoil(&site, 1, &set, &[6; 4_096]), 1);
            let said = served.read_only_io_fails(&["read 1028k 4k"]);
            assert!(said.contains("read failed: Input/output error"), "{said}");
            served.read_only_io(&["read -P 1 0 1M", "read -P 5 1M 4k", "read -P 0 1032k 512k"]);
            let trouble = status_of(&served, 0)["trouble"].clone();
            assert_eq!(trouble, Value::Null, "the last fetch has worked");
            assert!(status_of(&served, 0)["failed"].as_u64().unwrap() > 0);
        }
        site.stop(1);
        site.stop(0);
        let said = served.read_only_io_fails(&["read 0 4k"]);
        assert!(said.contains("read failed: Input/output error"), "{said}");
        let trouble = status_of(&served, 0)["trouble"].as_str().unwrap().to_owned();
        assert_eq!(trouble.matches("it cannot be reached").count(), 3, "{trouble}");
    }
}

#[test]
fn a_member_that_it_is_read_from_is_replaced_by_a_clone_under_a_client_that_notices_nothing() {
    for mut site in [Site::new(), Site::encrypted()] {
        let set = site.region_set(2 * MIB);
        let snapshot = {
            let writer = site.export(&request(1, &[&set]));
            writer.io(&["write -P 1 0 1M", "write -z 1M 64k", "write -P 5 1600k 4k", "flush"]);
            let snapshot = writer.take_snapshot(1);
            writer.io(&["write -P 9 0 2M", "flush"]);
            snapshot
        };
        let then = content(2, &[(0, MIB, 1), (1_600 << 10, 1_604 << 10, 5)]);
        let mut before = request(0, &[&snapshot_of(&set, snapshot)]);
        before["sub_volumes"][0]["region_set"]["members"].as_array_mut().unwrap().remove(0);
        let served = site.export(&before);
        assert_eq!(served.apply(&before), Ok(Applied::VcrMatches));
        let new = site.clone_of(0, &set, snapshot);
        let mut after = before.clone();
        after["config_version"] = json!(2);
        after["sub_volumes"][0]["region_set"]["members"] = json!([new]);
        std::thread::scope(|scope| {
            let reads = scope.spawn(|| (0..12).all(|_| served.content() == then));
            assert_eq!(served.apply(&after), Ok(Applied::Started));
            assert!(reads.join().unwrap());
        });
        assert_eq!(served.apply(&after), Ok(Applied::CompletedAlready));
        // Those that it was read from are of no use to it any more.
        site.stop(2);
        site.stop(1);
        assert!(served.content() == then);
        let told = status_of(&served, 0);
        assert_eq!((&told["failed"], &told["trouble"]), (&json!(0), &Value::Null));
        // What is refused changes nothing.
        for (change, code) in [
            ((|set| set["members"] = json!([])) as fn(&mut Value), "volume_snapshot_members"),
            (|set| set["snapshot"] = json!(SnapshotId(Uuid::from_u128(2))), "request_differs"),
        ] {
            let mut wrong = after.clone();
            wrong["config_version"] = json!(3);
            change(&mut wrong["sub_volumes"][0]["region_set"]);
            assert_eq!(served.apply(&wrong).unwrap_err().code(), code);
        }
        assert!(served.content() == then);
    }
}

#[test]
fn one_that_is_not_there_or_of_no_use_is_refused_by_name_before_anybody_is_served() {
    let mut site = Site::new();
    let set = site.region_set(MIB);
    let snapshot = {
        let writer = site.export(&request(1, &[&set]));
        writer.io(&["write -P 1 0 1M", "flush"]);
        writer.take_snapshot(1)
    };
    let mut refused = |change: &dyn Fn(&mut Value)| {
        let mut part = snapshot_of(&set, snapshot);
        change(&mut part["region_set"]);
        let error = site.try_export(&request(0, &[&part])).err().expect("it is refused");
        (error.code(), problem::chain(&error))
    };
    let (code, words) = refused(&|set| set["snapshot"] = json!(SnapshotId(Uuid::from_u128(2))));
    assert_eq!(code, "volume_snapshot_not_there");
    assert_eq!(words.matches("has no snapshot 00000000-0000-0000-0000-000000000002").count(), 3, "{words}");
    let (code, words) = refused(&|set| set["extent_count"] = json!(2));
    assert_eq!(code, "volume_snapshot_not_usable");
    assert!(words.contains("its blocks are"), "{words}");
    let (code, words) = refused(&|set| {
        set["members"].as_array_mut().unwrap().iter_mut().for_each(|member| member["incarnation"] = json!(8));
    });
    assert_eq!(code, "volume_snapshot_not_usable");
    assert!(words.contains("its incarnation is 7, and should be 8"), "{words}");
    let (code, words) = refused(&|set| set["id"] = json!(Uuid::from_u128(77)));
    assert_eq!(code, "volume_snapshot_not_usable");
    assert!(words.contains("is a member of set"), "{words}");
    // Nobody is there; by the time that it is given up, all three were asked again.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, words) = refused(&|set| {
        set["members"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|member| member["address"] = json!(nobody));
    });
    assert_eq!(code, "volume_snapshot_not_answered");
    assert_eq!(words.matches("it cannot be reached").count(), 3, "{words}");
}
