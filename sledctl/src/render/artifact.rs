//! Artifacts: the list, and one artifact with the sleds that hold it.

use super::{
    Look, Tone,
    table::{Cell, Column, Facts, Table},
    words::{count, size},
};
use nexus_client::releases::Artifact;

/// One row for each artifact, by name: the API's order is that of hashes.
#[must_use]
pub fn list(artifacts: &[Artifact], look: &Look) -> String {
    let mut table = Table::new(vec![
        Column::flexible("ARTIFACT", 12),
        Column::flexible("VERSION", 8),
        Column::flexible("KIND", 6).expendable(3),
        Column::new("SIZE").expendable(1),
        Column::new("HELD BY"),
        Column::new("HASH").expendable(2),
        Column::flexible("RELEASES", 8).expendable(4),
    ]);
    let mut by_name: Vec<&Artifact> = artifacts.iter().collect();
    by_name.sort_by_key(|artifact| (&artifact.name, &artifact.version, artifact.hash));
    for artifact in by_name {
        let holders = artifact.holders.len() as u64;
        let hash = if look.wide { artifact.hash.to_string() } else { artifact.hash.short() };
        table.row(vec![
            Cell::new(&artifact.name),
            Cell::new(&artifact.version),
            Cell::new(&artifact.kind),
            Cell::new(size(artifact.size)),
            Cell::toned(count(holders, "sled"), if holders == 0 { Tone::Busy } else { Tone::Plain }),
            Cell::new(hash),
            Cell::new(artifact.repositories.join(",")),
        ]);
    }
    table.render(look)
}

/// One artifact: facts, then who holds it.
#[must_use]
pub fn show(artifact: &Artifact, look: &Look) -> String {
    let mut facts = Facts::new();
    facts.fact("artifact", &artifact.name);
    facts.fact("version", &artifact.version);
    facts.fact("kind", &artifact.kind);
    facts.fact("hash", artifact.hash.to_string());
    facts.fact("size", format!("{} ({} bytes)", size(artifact.size), artifact.size));
    facts.fact("releases", artifact.repositories.join(", "));
    let mut text = facts.render(look);
    if artifact.holders.is_empty() {
        text.push_str("no sled holds a verified copy\n");
        return text;
    }
    let mut table = Table::new(vec![
        Column::flexible("SLED", 12),
        Column::new("COPIES"),
        Column::new("DEPOT").expendable(1),
        Column::flexible("SLED ID", 8).expendable(2),
    ]);
    for holder in &artifact.holders {
        table.row(vec![
            Cell::new(&holder.sled_name),
            Cell::new(holder.copies.to_string()),
            Cell::new(&holder.depot_url),
            Cell::new(holder.sled_id.to_string()),
        ]);
    }
    text.push('\n');
    text.push_str(&table.render(look));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{self, narrow, wide};

    #[test]
    fn list_fits_80_columns() {
        insta::assert_snapshot!(list(&sample::artifacts(), &narrow()));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        sample::assert_fits(|look| list(&sample::artifacts(), look));
        sample::assert_fits(|look| show(&sample::artifacts()[1], look));
    }

    #[test]
    fn wide_list_has_whole_hashes() {
        insta::assert_snapshot!(list(&sample::artifacts(), &wide()));
    }

    #[test]
    fn empty_list_is_its_header() {
        insta::assert_snapshot!(list(&[], &narrow()), @"ARTIFACT VERSION KIND SIZE HELD BY HASH RELEASES");
    }

    #[test]
    fn artifact_shows_its_holders() {
        insta::assert_snapshot!(show(&sample::artifacts()[1], &narrow()));
    }

    #[test]
    fn artifact_without_holders_says_so() {
        insta::assert_snapshot!(show(&sample::artifacts()[2], &narrow()));
    }
}
