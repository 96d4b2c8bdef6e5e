//! A volume over what a web server has.

use crate::{
    site::{MIB, Served, Site, over, pattern, request},
    web::{Manners, Web},
};
use serde_json::{Value, json};

fn web() -> Web {
    Web::start(Manners { content: pattern(2 * MIB), tag: Some("\"one\"".to_owned()), ..Manners::default() })
}

fn part(url: &str, bytes: u64) -> Value {
    json!({"url": {"url": url, "size_bytes": bytes}})
}

/// 3 MiB of a region set over what the server has; the first 64 KiB were written.
fn over_web(site: &mut Site, web: &Web) -> Served {
    let set = site.region_set(3 * MIB);
    let served = site.export(&over(request(1, &[&set]), request(0, &[&part(&web.url(), 2 * MIB)])));
    served.io(&["write -P 1 0 64k", "flush"]);
    served
}

fn expected() -> Vec<u8> {
    let mut expected = pattern(2 * MIB);
    expected.resize(usize::try_from(3 * MIB).unwrap(), 0);
    expected[..64 << 10].fill(1);
    expected
}

fn trouble(served: &Served) -> Value {
    served.json()["layers"]["layers"][1]["parts"][0]["url"].clone()
}

#[test]
fn what_a_server_has_is_seen_where_nobody_wrote_and_asked_for_by_ranges() {
    let (mut site, web) = (Site::new(), web());
    let served = over_web(&mut site, &web);
    assert!(served.content() == expected());
    let asked = web.manners().asked;
    assert_eq!(asked[0], "range: bytes=0-4095;");
    assert!(asked.iter().all(|asked| asked.starts_with("range: bytes=")), "{asked:?}");
    assert!((4..100).contains(&asked.len()), "{} requests for 2 MiB", asked.len());
    assert_eq!(trouble(&served)["trouble"], Value::Null);
}

#[test]
fn name_and_password_go_to_the_server_and_nowhere_else() {
    let (mut site, web) = (Site::new(), web());
    let url = format!("http://me:secret@{}/base.img?key=secret", web.address());
    let served = site.export(&request(0, &[&part(&url, 2 * MIB)]));
    assert!(served.content() == pattern(2 * MIB));
    // "me:secret", as the protocol writes it.
    assert!(web.manners().asked.iter().all(|asked| asked.contains("authorization: basic bwu6c2vjcmv0;")));
    let status = served.json().to_string();
    assert!(!status.contains("secret") && status.contains("/base.img?…"), "{status}");
    web.change(|manners| manners.tag = Some("\"two\"".to_owned()));
    let said = served.io_fails(&["read 0 4k"]);
    let status = served.json().to_string();
    assert!(!said.contains("secret") && !status.contains("secret"), "{said}{status}");
}

#[test]
fn a_server_of_no_use_is_refused_by_name_before_anybody_is_served() {
    let mut site = Site::new();
    let mut code = |bytes: u64, change: fn(&mut Manners)| {
        let web = web();
        web.change(change);
        let refused = site.try_export(&request(0, &[&part(&web.url(), bytes)]));
        let error = refused.err().expect("it is refused");
        (error.code(), web.manners().asked.len())
    };
    assert_eq!(code(2 * MIB, |web| web.ignores_ranges = true), ("volume_url_without_ranges", 1));
    assert_eq!(code(MIB, |_| {}), ("volume_url_size", 1));
    assert_eq!(code(2 * MIB, |web| web.status = Some(("404 Not Found", 9))), ("volume_url_not_usable", 1));
    assert_eq!(code(2 * MIB, |web| web.status = Some(("302 Found", 9))), ("volume_url_not_usable", 1));
    assert_eq!(code(2 * MIB, |web| web.shifts = true), ("volume_url_not_usable", 1));
    assert_eq!(code(2 * MIB, |web| web.encoding = Some("gzip")), ("volume_url_not_usable", 1));
    assert_eq!(code(2 * MIB, |web| web.breaks_off = 9), ("volume_url_not_answered", 4));
    let gone = web().url();
    let refused = site.try_export(&request(0, &[&part(&gone, 2 * MIB)]));
    assert_eq!(refused.err().unwrap().code(), "volume_url_not_answered");
}

#[test]
fn what_has_changed_at_the_server_is_an_error_and_never_mixed_with_what_was_there() {
    let (mut site, web) = (Site::new(), web());
    let served = over_web(&mut site, &web);
    let before = web.manners();
    let changes: [fn(&mut Manners); 5] = [
        |web| web.tag = Some("\"two\"".to_owned()),
        |web| web.tag = None,
        |web| web.content.extend_from_slice(&[0; 4_096]),
        |web| web.ignores_ranges = true,
        |web| web.encoding = Some("gzip"),
    ];
    for change in changes {
        web.change(change);
        web.change(|web| web.content.fill(9));
        let said = served.io_fails(&["read 1M 4k", "read -P 1 0 64k", "read -P 0 2M 1M"]);
        assert_eq!(said.matches("Input/output error").count(), 1, "{said}");
        assert!(trouble(&served)["trouble"].is_string());
        web.change(|web| *web = before.clone());
    }
    assert!(served.content() == expected(), "it is what was opened again");
    assert_eq!(trouble(&served)["trouble"], Value::Null);
}

#[test]
fn without_a_tag_it_counts_when_it_was_changed() {
    let (mut site, web) = (Site::new(), web());
    web.change(|web| {
        // A weak one may stay when bytes change.
        web.tag = Some("W/\"one\"".to_owned());
        web.modified = Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
    });
    let served = over_web(&mut site, &web);
    web.change(|web| web.modified = Some("Sun, 06 Nov 1994 08:49:38 GMT".to_owned()));
    let said = served.io_fails(&["read 1M 4k"]);
    assert!(said.contains("Input/output error"), "{said}");
}

#[test]
fn a_server_that_stumbles_is_asked_again_and_one_that_is_gone_is_an_error_until_it_is_back() {
    let (mut site, web) = (Site::new(), web());
    let served = over_web(&mut site, &web);
    web.change(|web| web.status = Some(("503 Service Unavailable", 2)));
    served.io(&["read 1M 4k"]);
    web.change(|web| web.breaks_off = 2);
    served.io(&["read 1M 4k"]);
    assert_eq!(trouble(&served)["failed"], 0);
    let start_again = web.stop();
    let said = served.io_fails(&["read 1M 4k", "read -P 1 0 64k"]);
    assert_eq!(said.matches("Input/output error").count(), 1, "{said}");
    assert_eq!(trouble(&served)["failed"], 1);
    let web = start_again();
    assert!(served.content() == expected());
    drop(web);
}
