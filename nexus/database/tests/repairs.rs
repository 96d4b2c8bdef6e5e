//! What the database promises about repairs of volumes.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;

use futures::future::join_all;
use ids::{RegionId, RegionSetId, RepairId, VolumeId};
use jiff::Timestamp;
use nexus_database::{
    Database, check, during,
    repairs::{
        Conflict, FINISHED_MAX, Finish, Notice, NoticeOutcome, OPEN_MAX, Outcome, Progress, RegionLife,
        Repair, Said, Stamp, Start, Subject,
    },
    sql::sql,
};
use store::Store;

fn subject(volume: VolumeId) -> Subject {
    Subject {
        id: RepairId::generate(),
        volume,
        region_set: RegionSetId::generate(),
        region: RegionLife { id: RegionId::generate(), incarnation: 2 },
        replaces: Some(RegionLife { id: RegionId::generate(), incarnation: 1 }),
        bytes: 1 << 30,
    }
}

fn notice(subject: &Subject, epoch: u32, sequence: u64, said: Said) -> Notice {
    let told_at =
        Timestamp::from_second(i64::from(epoch % 1_000) * 1_000 + (sequence % 1_000).cast_signed()).unwrap();
    Notice { subject: subject.clone(), stamp: Stamp { epoch, sequence, config_version: 3, told_at }, said }
}

fn start() -> Said {
    Said::Start(Start { why: "replaces_gone".to_owned() })
}

fn progress(bytes_done: u64) -> Said {
    let waits = vec!["list".to_owned(), "room".to_owned()];
    Said::Progress(Progress { phase: "copying".to_owned(), waits, bytes_done })
}

fn finish(outcome: Outcome) -> Said {
    let interrupted_by = (outcome == Outcome::Interrupted).then(|| "newer_epoch".to_owned());
    Said::Finish(Finish { outcome, interrupted_by })
}

async fn take(database: &Database, notice: &Notice) -> NoticeOutcome {
    database.repair_notice(notice).await.unwrap()
}

async fn the_one(database: &Database, volume: VolumeId) -> Repair {
    let [repair] = <[Repair; 1]>::try_from(database.volume_repairs(volume, None, 10).await.unwrap()).unwrap();
    repair
}

/// Every order of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let (mut found, mut order) = (Vec::new(), (0..count).collect::<Vec<_>>());
    fn go(at: usize, order: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
        if at == order.len() {
            found.push(order.clone());
        }
        for other in at..order.len() {
            order.swap(at, other);
            go(at + 1, order, found);
            order.swap(at, other);
        }
    }
    go(0, &mut order, &mut found);
    found
}

/// Of the same repair in a volume of its own, in this order, each at once a second time, and all of them again.
async fn row_after(database: &Database, told: &[Notice], order: &[usize]) -> Repair {
    let volume = VolumeId::generate();
    let id = RepairId::generate();
    let mut told: Vec<Notice> = told.to_vec();
    for notice in &mut told {
        (notice.subject.volume, notice.subject.id) = (volume, id);
    }
    for number in order {
        assert!(matches!(
            take(database, &told[*number]).await,
            NoticeOutcome::Changed(_) | NoticeOutcome::Unchanged
        ));
        assert_eq!(take(database, &told[*number]).await, NoticeOutcome::Unchanged, "a duplicate is no news");
    }
    let row = the_one(database, volume).await;
    for notice in &told {
        assert_eq!(take(database, notice).await, NoticeOutcome::Unchanged);
    }
    assert_eq!(the_one(database, volume).await, row);
    // Which volume and which id is all that they may differ in.
    Repair { subject: Subject { volume: VolumeId(id.0), id, ..row.subject }, ..row }
}

on_both! {
    async fn every_order_of_delivery_with_duplicates_leaves_the_same_row(store: Store) {
        let database = store.open().await;
        let subject = subject(VolumeId::generate());
        let told = [
            notice(&subject, 5, 1, start()),
            notice(&subject, 5, 2, progress(700)),
            notice(&subject, 5, 3, progress(300)),
            notice(&subject, 5, 4, finish(Outcome::Completed)),
        ];
        let all = orders(told.len());
        assert_eq!(all.len(), 24);
        let mut rows = Vec::new();
        // As many at once as a coordinator hears of after an outage.
        for some in all.chunks(8) {
            rows.extend(join_all(some.iter().map(|order| row_after(&database, &told, order))).await);
        }
        let same = |row: &Repair| Repair { subject: subject.clone(), ..row.clone() };
        assert!(rows.iter().all(|row| same(row) == same(&rows[0])), "{rows:#?}");
        let Repair { newest, start, progress, finish, .. } = &rows[0];
        assert_eq!(*newest, told[3].stamp);
        assert_eq!(start.as_ref().unwrap().said.why, "replaces_gone");
        let progress = progress.as_ref().unwrap();
        assert_eq!((progress.place, progress.said.bytes_done), ((5, 3), 700), "progress never goes back");
        assert_eq!(progress.said.waits, ["list", "room"]);
        assert_eq!(finish.as_ref().unwrap().said.outcome, Outcome::Completed);
    }
}

on_both! {
    async fn what_was_told_is_read_as_it_was_told(store: Store) {
        let database = store.open().await;
        let subject = subject(VolumeId::generate());
        let told = notice(&subject, u32::MAX, i64::MAX as u64, finish(Outcome::Interrupted));
        let NoticeOutcome::Changed(taken) = take(&database, &told).await else { panic!("it is news") };
        let row = the_one(&database, subject.volume).await;
        assert_eq!(row, *taken);
        assert_eq!((row.subject, row.newest), (subject.clone(), told.stamp));
        let finish = row.finish.unwrap();
        assert_eq!((finish.place, finish.told_at), (told.stamp.place(), told.stamp.told_at));
        assert_eq!(finish.said.interrupted_by.as_deref(), Some("newer_epoch"));
        assert!(row.start.is_none() && row.progress.is_none());
        assert_eq!(check(&store.location).await.unwrap().findings, []);
    }
}

on_both! {
    async fn an_older_epoch_does_not_overwrite_a_newer_one_and_what_has_ended_stays_so(store: Store) {
        let database = store.open().await;
        let subject = subject(VolumeId::generate());
        take(&database, &notice(&subject, 6, 1, progress(10))).await;
        let NoticeOutcome::Changed(row) = take(&database, &notice(&subject, 5, 90, progress(20))).await else {
            panic!("more is done than was known");
        };
        let progress_part = row.progress.unwrap();
        assert_eq!((progress_part.place, progress_part.said.bytes_done), ((6, 1), 20));
        assert_eq!(row.newest.epoch, 6);
        take(&database, &notice(&subject, 6, 2, finish(Outcome::Completed))).await;
        let before = the_one(&database, subject.volume).await;
        let late = notice(&subject, 5, 91, finish(Outcome::Interrupted));
        assert_eq!(take(&database, &late).await, NoticeOutcome::Unchanged);
        assert_eq!(the_one(&database, subject.volume).await, before);
        take(&database, &notice(&subject, 7, 1, start())).await;
        assert!(the_one(&database, subject.volume).await.finish.is_some(), "a later start has reopened it");
    }
}

on_both! {
    async fn one_id_for_two_repairs_and_one_stamp_for_two_contents_change_nothing(store: Store) {
        let database = store.open().await;
        let subject = subject(VolumeId::generate());
        take(&database, &notice(&subject, 5, 1, start())).await;
        let before = the_one(&database, subject.volume).await;
        let others = [
            Subject { volume: VolumeId::generate(), ..subject.clone() },
            Subject { region: RegionLife { incarnation: 3, ..subject.region }, ..subject.clone() },
            Subject { replaces: None, ..subject.clone() },
            Subject { bytes: 4_096, ..subject.clone() },
        ];
        for other in &others {
            for said in [start(), progress(1), finish(Outcome::Completed)] {
                let outcome = take(&database, &notice(other, 9, 9, said)).await;
                assert_eq!(outcome, NoticeOutcome::Conflict(Conflict::OtherRepair(Box::new(subject.clone()))));
            }
        }
        let contrary = Said::Start(Start { why: "catches_up".to_owned() });
        let contrary = take(&database, &notice(&subject, 5, 1, contrary)).await;
        assert_eq!(contrary, NoticeOutcome::Conflict(Conflict::OtherContent));
        assert_eq!(the_one(&database, subject.volume).await, before);
        assert!(database.volume_repairs(others[0].volume, None, 10).await.unwrap().is_empty());
    }
}

on_both! {
    async fn the_newest_of_a_volume_are_remembered_and_late_words_of_others_begin_nothing(store: Store) {
        let database = store.open().await;
        let (volume, other) = (VolumeId::generate(), VolumeId::generate());
        let elsewhere = subject(other);
        take(&database, &notice(&elsewhere, 1, 1, finish(Outcome::Completed))).await;
        let all: Vec<Subject> = (0..FINISHED_MAX + 3).map(|_| subject(volume)).collect();
        for (sequence, subject) in (1..).step_by(2).zip(&all) {
            take(&database, &notice(subject, 1, sequence, start())).await;
            take(&database, &notice(subject, 1, sequence + 1, finish(Outcome::Completed))).await;
        }
        let kept = || async {
            let rows = database.volume_repairs(volume, None, 1_000).await.unwrap();
            rows.into_iter().map(|row| row.subject).collect::<Vec<_>>()
        };
        let newest: Vec<Subject> = all[3..].iter().rev().cloned().collect();
        assert_eq!(kept().await, newest, "the newest, newest first");
        for said in [start(), progress(5)] {
            assert_eq!(take(&database, &notice(&all[0], 1, 1, said)).await, NoticeOutcome::Forgotten);
        }
        let last = notice(&all[2], 1, 6, finish(Outcome::Completed));
        assert_eq!(take(&database, &last).await, NoticeOutcome::Forgotten);
        assert_eq!(kept().await, newest);
        assert_eq!(the_one(&database, other).await.subject, elsewhere, "each volume has its own");
        // What runs is not crowded out by what has ended, nor the other way round.
        let open: Vec<Subject> = (0..OPEN_MAX + 1).map(|_| subject(volume)).collect();
        for (sequence, subject) in (1_000..).zip(&open) {
            take(&database, &notice(subject, 1, sequence, start())).await;
        }
        let rows = database.volume_repairs(volume, None, 1_000).await.unwrap();
        assert_eq!(rows.len(), (FINISHED_MAX + OPEN_MAX) as usize);
        assert!(rows.iter().all(|row| row.subject != open[0]), "the oldest that runs is gone");
        assert!(rows.iter().any(|row| row.subject == open[1]));
    }
}

on_both! {
    async fn pages_go_on_where_they_ended_and_never_show_another_volumes(store: Store) {
        let database = store.open().await;
        let volume = VolumeId::generate();
        let mut ids = Vec::new();
        for sequence in 1..=5 {
            let subject = subject(volume);
            ids.push(subject.id);
            take(&database, &notice(&subject, 1, sequence, start())).await;
            take(&database, &notice(&self::subject(VolumeId::generate()), 1, sequence, start())).await;
        }
        ids.sort();
        ids.reverse();
        let mut walked = Vec::new();
        loop {
            let page = database.volume_repairs(volume, walked.last().copied(), 2).await.unwrap();
            walked.extend(page.iter().map(|row| row.subject.id));
            if page.len() < 2 {
                break;
            }
        }
        assert_eq!(walked, ids);
    }
}

on_both! {
    async fn a_row_that_cannot_be_read_is_found_by_the_check(store: Store) {
        let database = store.open().await;
        let subject = subject(VolumeId::generate());
        take(&database, &notice(&subject, 1, 1, progress(1))).await;
        for (spoil, column) in [
            ("UPDATE volume_repair SET progressed_at = 'noon'", "progressed_at"),
            ("UPDATE volume_repair SET waits = 'for you'", "waits"),
            ("UPDATE volume_repair SET newest_epoch = 4294967296", "newest_epoch"),
        ] {
            let operation = "change what nobody may";
            let spoiled = database.write(operation, |mut tx| {
                Box::pin(async move { sql(spoil).execute(&mut *tx).await.map_err(during(operation)) })
            });
            spoiled.await.unwrap();
            let findings = check(&store.location).await.unwrap().findings;
            let id = subject.id.to_string();
            let found = findings.iter().any(|finding| {
                finding.table == Some("volume_repair")
                    && finding.row.as_deref() == Some(&id)
                    && finding.problem.contains(column)
            });
            assert!(found, "{column}: {findings:?}");
        }
        let unreadable = database.volume_repairs(subject.volume, None, 1).await.unwrap_err().to_string();
        assert!(unreadable.contains("volume_repair") && unreadable.contains(&subject.id.to_string()), "{unreadable}");
    }
}
