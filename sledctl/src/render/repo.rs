//! Repositories: the list, and one release with its artifacts.

use super::{
    Look, Tone,
    table::{Cell, Column, Facts, Table},
    words::{size, time},
};
use jiff::Timestamp;
use nexus_client::releases::{Repository, RepositoryDetail, RepositoryState};

/// One row for each repository.
#[must_use]
pub fn list(repositories: &[Repository], look: &Look, now: Timestamp) -> String {
    let mut columns = vec![
        Column::flexible("RELEASE", 10),
        Column::new("STATE"),
        Column::new("SLEDS"),
        Column::new("ARTIFACTS").expendable(3),
        Column::new("SIZE").expendable(1),
        Column::new("UPLOADED").expendable(2),
        Column::flexible("FILE", 8).expendable(4),
    ];
    if look.wide {
        columns.extend(["STAGED ON", "TRUST ROOT", "SHA256", "ID"].map(Column::new));
    }
    let mut table = Table::new(columns);
    for repository in repositories {
        let mut row = vec![
            Cell::new(&repository.system_version),
            Cell::toned(state_word(repository.state), state_tone(repository.state)),
            Cell::new(format!("{}/{}", repository.sleds_complete, repository.sleds_total)),
            Cell::new(repository.artifact_count.to_string()),
            Cell::new(size(repository.size_bytes)),
            Cell::new(time(repository.created_at, now, look.wide)),
            Cell::new(repository.file_name.as_deref().unwrap_or("-")),
        ];
        if look.wide {
            row.extend([
                Cell::new(repository.staged_on.as_deref().unwrap_or("-")),
                Cell::new(repository.trust_root_id.to_string()),
                Cell::new(&repository.sha256),
                Cell::new(repository.id.to_string()),
            ]);
        }
        table.row(row);
    }
    table.render(look)
}

/// One repository: facts, then its artifacts.
#[must_use]
pub fn show(detail: &RepositoryDetail, look: &Look, now: Timestamp) -> String {
    let repository = &detail.repository;
    let mut facts = Facts::new();
    facts.fact("release", &repository.system_version);
    facts.toned("state", state_sentence(repository), state_tone(repository.state));
    facts.fact("artifacts", format!("{}, {}", repository.artifact_count, size(repository.size_bytes)));
    facts.fact("uploaded", time(repository.created_at, now, look.wide));
    facts.maybe("file", repository.file_name.as_deref());
    facts.fact("sha256", &repository.sha256);
    facts.fact("trust root", repository.trust_root_id.to_string());
    facts.fact("staged on", repository.staged_on.as_deref().unwrap_or("nobody: the sleds have it"));
    facts.fact("id", repository.id.to_string());
    let mut table = Table::new(vec![
        Column::flexible("ARTIFACT", 12),
        Column::flexible("VERSION", 8),
        Column::flexible("KIND", 6).expendable(2),
        Column::new("SIZE"),
        Column::new("HASH").expendable(1),
        Column::flexible("TARGET", 8).expendable(3),
    ]);
    for artifact in &detail.artifacts {
        table.row(vec![
            Cell::new(&artifact.name),
            Cell::new(&artifact.version),
            Cell::new(&artifact.kind),
            Cell::new(size(artifact.size)),
            Cell::new(if look.wide { artifact.hash.to_string() } else { artifact.hash.short() }),
            Cell::new(&artifact.target),
        ]);
    }
    format!("{}\n{}", facts.render(look), table.render(look))
}

fn state_word(state: RepositoryState) -> &'static str {
    match state {
        RepositoryState::Replicating => "replicating",
        RepositoryState::Replicated => "replicated",
        RepositoryState::NeedsUpload => "needs upload",
        RepositoryState::Unrecognized => "?",
    }
}

fn state_sentence(repository: &Repository) -> String {
    let (complete, total) = (repository.sleds_complete, repository.sleds_total);
    match repository.state {
        RepositoryState::Replicating | RepositoryState::Replicated => {
            format!("{}: {complete}/{total} sleds have all of it", state_word(repository.state))
        }
        RepositoryState::NeedsUpload => {
            "needs upload: some of its bytes are neither staged nor on any sled; upload it again".to_owned()
        }
        RepositoryState::Unrecognized => {
            format!("one that this sledctl is too old to know: {complete}/{total} sleds have all of it")
        }
    }
}

fn state_tone(state: RepositoryState) -> Tone {
    match state {
        RepositoryState::Replicating => Tone::Busy,
        RepositoryState::Replicated => Tone::Good,
        RepositoryState::NeedsUpload => Tone::Bad,
        RepositoryState::Unrecognized => Tone::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{self, narrow, now, wide};

    #[test]
    fn list_fits_80_columns() {
        insta::assert_snapshot!(list(&sample::repositories(), &narrow(), now()));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        sample::assert_fits(|look| list(&sample::repositories(), look, now()));
        sample::assert_fits(|look| show(&sample::repository_detail(), look, now()));
    }

    #[test]
    fn wide_list_shows_everything_in_full() {
        insta::assert_snapshot!(list(&sample::repositories(), &wide(), now()));
    }

    #[test]
    fn empty_list_is_its_header() {
        insta::assert_snapshot!(list(&[], &narrow(), now()), @"RELEASE STATE SLEDS ARTIFACTS SIZE UPLOADED FILE");
    }

    #[test]
    fn repository_shows_its_artifacts() {
        insta::assert_snapshot!(show(&sample::repository_detail(), &narrow(), now()));
    }

    #[test]
    fn repository_whose_bytes_are_gone_says_what_to_do() {
        let mut detail = sample::repository_detail();
        detail.repository.state = RepositoryState::NeedsUpload;
        assert!(show(&detail, &narrow(), now()).contains("upload it again"));
    }
}
