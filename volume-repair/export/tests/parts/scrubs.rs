//! What lies under a volume is copied into it while clients go on, and then it is not needed any more.

use crate::{
    site::{MIB, Served, Site, over, pattern, request},
    web::{Manners, Web},
};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};
use volume_export::{Applied, ChangeError, ScrubOrder};

/// Looks until the scrub is as it is wanted.
#[track_caller]
fn until(served: &Served, is_it: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let scrub = served.json()["layers"]["scrub"].clone();
        if is_it(&scrub) {
            return scrub;
        }
        assert!(Instant::now() < end, "{scrub}");
        std::thread::yield_now();
    }
}

fn without_parent(request: &Value) -> Value {
    let mut newer = request.clone();
    newer["read_only_parent"] = Value::Null;
    newer["config_version"] = json!(2);
    newer
}

#[test]
fn a_volume_over_an_image_becomes_its_own_under_a_client_and_the_image_may_go() {
    let mut site = Site::encrypted();
    let (one, two) = (site.region_set(6 * MIB), site.region_set(6 * MIB));
    let mut image = pattern(8 * MIB);
    image[3 << 20..4 << 20].fill(0);
    fs::write(site.path("base.img"), &image).unwrap();
    let parent = request(0, &[&json!({"file": {"path": site.path("base.img")}})]);
    let request = over(request(1, &[&one, &two]), parent);
    let served = site.export(&request);
    served.io(&["write -P 7 1M 64k", "discard 2M 64k"]);
    image[1 << 20..(1 << 20) + (64 << 10)].fill(7);
    image[2 << 20..(2 << 20) + (64 << 10)].fill(0);
    image.resize(12 << 20, 0);

    let newer = without_parent(&request);
    let refused = served.apply(&newer).expect_err("it is needed");
    assert!(matches!(refused, ChangeError::ParentNeeded(_)) && refused.code() == "request_parent_needed");
    served.scrub(ScrubOrder::Start);
    // Clients write meanwhile, each block another value.
    for block in 0..64_usize {
        let at = block * 131_072 + 4_096;
        served.io(&[&format!("write -P {} {at} 4k", block + 1)]);
        image[at..at + 4_096].fill(u8::try_from(block).unwrap() + 1);
    }
    let done = until(&served, |scrub| scrub["phase"] == "done");
    assert_eq!((&done["bytes_done"], &done["waits"]), (&json!(8 * MIB), &Value::Null));
    assert!(done["zeroed_bytes"].as_u64() >= Some(512 << 10), "{done}");
    assert!(served.content() == image);

    // It is durable: an export that begins again, and is started again, finds nothing to copy.
    drop(served);
    let mut later = request.clone();
    later["epoch"] = json!(2);
    let served = site.export(&later);
    served.scrub(ScrubOrder::Start);
    let done = until(&served, |scrub| scrub["phase"] == "done");
    assert_eq!(done["copied_bytes"], 0);
    let mut newer = without_parent(&later);
    assert_eq!(served.apply(&newer), Ok(Applied::Started));
    assert_eq!(served.apply(&newer), Ok(Applied::CompletedAlready));
    fs::write(site.path("base.img"), "changed").unwrap();
    assert!(served.content() == image);
    let status = served.json();
    assert_eq!(status["layers"]["layers"].as_array().map(Vec::len), Some(1), "{status}");

    // And whoever exports it without the image has the same.
    drop(served);
    fs::remove_file(site.path("base.img")).unwrap();
    newer["epoch"] = json!(3);
    assert!(site.export(&newer).content() == image);
}

#[test]
fn a_server_that_is_away_is_waited_for_and_a_killed_scrub_goes_on() {
    let mut site = Site::new();
    let set = site.region_set(4 * MIB);
    let web = Web::start(Manners {
        content: pattern(4 * MIB),
        tag: Some("\"one\"".to_owned()),
        ..Manners::default()
    });
    let url = json!({"url": {"url": web.url(), "size_bytes": 4 * MIB}});
    let request = over(request(1, &[&set]), request(0, &[&url]));
    let served = site.export(&request);
    web.change(|manners| manners.status = Some(("404 Not Found", 1_000)));
    served.scrub(ScrubOrder::Start);
    let waiting = until(&served, |scrub| scrub["waits"]["parent"].is_string());
    assert_eq!((&waiting["phase"], &waiting["bytes_done"]), (&json!("copying"), &json!(0)));
    served.io(&["write -P 5 1M 4k"]);
    served.scrub(ScrubOrder::Stop);
    until(&served, |scrub| scrub["phase"] == "stopped" && scrub["waits"].is_null());
    web.change(|manners| manners.status = None);
    served.scrub(ScrubOrder::Start);
    until(&served, |scrub| scrub["copied_bytes"].as_u64() > Some(0));
    // It ends in the middle, or not; the next one does what is left.
    drop(served);
    let mut later = request.clone();
    later["epoch"] = json!(2);
    let served = site.export(&later);
    served.scrub(ScrubOrder::Start);
    until(&served, |scrub| scrub["phase"] == "done");
    assert_eq!(served.apply(&without_parent(&later)), Ok(Applied::Started));
    drop(web);
    let mut content = pattern(4 * MIB);
    content[1 << 20..(1 << 20) + 4_096].fill(5);
    assert!(served.content() == content);
}
