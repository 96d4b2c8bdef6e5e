//! Connections that end within a request.

use crate::{
    client::write,
    site::{BLOCK, Site},
};

#[test]
fn a_write_that_is_cut_at_any_byte_ends_its_client_alone_and_writes_nothing() {
    let site = Site::start();
    let mut other = site.client();
    let (before, cut) = (vec![1; BLOCK], vec![2; BLOCK]);
    other.write(5, &before);
    let bytes = write(7, 5, &cut);
    for length in 0..bytes.len() {
        let mut client = site.client();
        client.say(&bytes[..length]);
        client.finish();
        client.is_closed();
        if length % 256 == 0 || length + 1 == bytes.len() {
            assert!(other.read(5, BLOCK) == before, "cut at {length}");
        }
    }
    site.wait(|status| status.clients == 1);
    let mut whole = site.client();
    whole.say(&bytes);
    assert_eq!(whole.reply(), (0, 7));
    assert!(other.read(5, BLOCK) == cut);
}

#[test]
fn a_large_write_that_is_cut_writes_none_of_its_blocks() {
    let site = Site::start();
    let mut other = site.client();
    let before = vec![1; 64 * BLOCK];
    other.write(0, &before);
    // Larger than what is read at once, so it is gathered in a place of its own; what came before it is done.
    let large = write(8, 0, &vec![2; 64 * BLOCK]);
    for length in
        [29, 28 + BLOCK, 64 << 10, (64 << 10) + 1, large.len() / 2, large.len() - BLOCK, large.len() - 1]
    {
        let mut client = site.client();
        client.say(&write(7, 100, &[3; BLOCK]));
        client.say(&large[..length]);
        client.finish();
        assert_eq!(client.reply(), (0, 7));
        client.is_closed();
        assert!(other.read(0, 64 * BLOCK) == before, "cut at {length}");
    }
    assert!(other.read(100, BLOCK) == [3; BLOCK]);
}
