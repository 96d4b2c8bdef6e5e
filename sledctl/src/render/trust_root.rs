//! Trust roots: whose releases are believed.

use super::{
    Look, Tone,
    table::{Cell, Column, Table},
    words::{ago, rfc3339, time},
};
use jiff::Timestamp;
use nexus_client::releases::TrustRoot;

/// A fingerprint's beginning that is enough to tell two apart.
const FINGERPRINT_DIGITS: usize = 16;

/// One row for each trust root.
#[must_use]
pub fn list(roots: &[TrustRoot], look: &Look, now: Timestamp) -> String {
    let mut table = Table::new(vec![
        Column::new("TRUST ROOT"),
        Column::new("FINGERPRINT").expendable(1),
        Column::new("VERSION").expendable(3),
        Column::new("ADDED").expendable(2),
        Column::new("EXPIRES"),
    ]);
    for root in roots {
        let fingerprint = if look.wide { root.fingerprint.as_str() } else { beginning(&root.fingerprint) };
        let (expires, tone) = expiry(root, look, now);
        table.row(vec![
            Cell::new(root.id.to_string()),
            Cell::new(fingerprint),
            Cell::new(root.version.to_string()),
            Cell::new(time(root.created_at, now, look.wide)),
            Cell::toned(expires, tone),
        ]);
    }
    table.render(look)
}

fn beginning(fingerprint: &str) -> &str {
    fingerprint.get(..FINGERPRINT_DIGITS).unwrap_or(fingerprint)
}

fn expiry(root: &TrustRoot, look: &Look, now: Timestamp) -> (String, Tone) {
    let expired = root.expires <= now;
    let tone = if expired { Tone::Bad } else { Tone::Plain };
    let words = if look.wide { rfc3339(root.expires) } else { ago(root.expires, now) };
    (if expired { format!("expired {words}") } else { words }, tone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{self, narrow, now, wide};

    #[test]
    fn list_fits_80_columns_and_shows_what_has_expired() {
        insta::assert_snapshot!(list(&sample::trust_roots(), &narrow(), now()));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        sample::assert_fits(|look| list(&sample::trust_roots(), look, now()));
    }

    #[test]
    fn wide_list_has_whole_fingerprints() {
        insta::assert_snapshot!(list(&sample::trust_roots(), &wide(), now()));
    }
}
