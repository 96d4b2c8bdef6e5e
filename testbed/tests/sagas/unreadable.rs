//! Rows that bit rot, a person's hand or a newer program have spoilt, and rows of another coordinator: said truly, counted
//! apart, in nobody's way, and an operator can end them.

use crate::{
    recovery::{adds_up, number},
    scene::{COORDINATOR, Scene, code, refusal},
};
use ids::CoordinatorId;
use nexus_client::{
    ClientError,
    issues::IssueCode,
    sagas::{DemoSaga, Saga, SagaQuery, SagaState},
};
use nexus_database::{Database, check, during, sql::sql};

const SPOILT: [&str; 5] = [
    "UPDATE saga_definition SET params = '{' WHERE saga_id = $1",
    "UPDATE saga_event SET body = 'no JSON' WHERE event = 'started' AND saga_id = $1",
    "INSERT INTO saga_mark (saga_id, digest, mark, adoption_epoch, written_at) \
     VALUES ($1, 'x', '{\"mark\":\"of_a_newer_program\"}', 0, '2026-01-01T00:00:00.000000Z')",
    "UPDATE saga SET version = -1 WHERE id = $1",
    "DELETE FROM saga_definition WHERE saga_id = $1",
];

/// Somebody's hand, while the coordinator does not run.
async fn change(scene: &Scene, changes: &[(&'static str, Vec<String>)]) {
    let database = Database::open(scene.database()).await.expect("the database is there");
    for (words, values) in changes {
        let statement = &values.iter().fold(sql(words), nexus_database::sql::Statement::bind);
        let changed = database.write("change rows", |mut tx| {
            Box::pin(async move { statement.clone().execute(&mut *tx).await.map_err(during("change rows")) })
        });
        assert!(changed.await.expect("it is changed") > 0, "{words}");
    }
    database.close().await;
}

async fn in_state(scene: &Scene, state: Option<SagaState>) -> Vec<Saga> {
    let query = SagaQuery { state, ..SagaQuery::default() };
    let mut sagas = scene.operator.sagas(&query).await.expect("a list").items;
    sagas.sort_by_key(|saga| saga.id);
    sagas
}

#[tokio::test]
pub(crate) async fn what_cannot_be_read_is_said_and_counted_apart_and_given_up_by_an_operator() {
    let scene = Scene::configured("sagas.keep_ended_hours = 0").await;
    let mut spoilt = Vec::new();
    for _ in SPOILT {
        spoilt.push(scene.begin_waiting(DemoSaga::default()).await);
    }
    spoilt.sort();
    let whole = scene.begin_waiting(DemoSaga::default()).await;
    scene.stop(COORDINATOR).await.expect("it stops");
    let changes: Vec<_> =
        SPOILT.iter().zip(&spoilt).map(|(words, id)| (*words, vec![id.to_string()])).collect();
    change(&scene, &changes).await;
    scene.restart(COORDINATOR).await.expect("it starts");

    // In the first pass they are read, in the second one they are put off: it is the same number.
    for _ in 0..2 {
        let report = scene.pass("saga_recovery").await.report;
        adds_up(&report);
        assert_eq!(number(&report, "/last_pass/unreadable"), 5, "{report}");
        assert_eq!(number(&report, "/last_pass/found"), 6, "{report}");
    }
    scene.waits_for(whole, "the signal proceed").await;
    assert_eq!(in_state(&scene, None).await.len(), 6);
    let listed = in_state(&scene, Some(SagaState::Unreadable)).await;
    assert_eq!(listed.iter().map(|saga| saga.id).collect::<Vec<_>>(), spoilt);
    let waiting = in_state(&scene, Some(SagaState::Waiting)).await;
    assert_eq!(waiting.iter().map(|saga| saga.id).collect::<Vec<_>>(), [whole]);
    for (saga, table) in
        listed.iter().zip(["saga_definition", "saga_event", "saga_mark", "saga", "saga_definition"])
    {
        let words = saga.unreadable.as_deref().expect("it says what");
        assert!(words.starts_with(&format!("{table}, row {}", saga.id)), "{words}");
        assert!(words.contains("nexus db check"), "{words}");
        assert_eq!((saga.kind.as_str(), saga.executing), ("demo", false));
        let shown = scene.saga(saga.id).await.saga;
        assert_eq!((shown.state, shown.executing), (SagaState::Unreadable, false), "{shown:?}");
        assert!(shown.unreadable.is_some_and(|words| words.contains(table)));
        let log = scene.operator.saga_events(saga.id).await.expect("what can be read of its log");
        let lost: Vec<_> = log.iter().filter_map(|line| line.unreadable.as_deref()).collect();
        assert_eq!(!lost.is_empty(), table == "saga_event", "{lost:?}");
        assert!(lost.iter().all(|words| words.contains("started: ")), "{lost:?}");
        assert_eq!(
            log.iter().map(|line| line.number).collect::<Vec<_>>(),
            (1..=log.len() as u64).collect::<Vec<_>>()
        );
    }
    let mut issues: Vec<_> =
        scene.issues(IssueCode::SagaUnreadable).await.into_iter().map(|issue| issue.subject).collect();
    issues.sort();
    assert_eq!(issues, spoilt.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(scene.issues(IssueCode::SagaNotResumed).await.is_empty());

    for id in &spoilt {
        scene.abandon(*id, "its rows are lost").await.expect("it is given up");
        let saga = scene.saga(*id).await.saga;
        assert_eq!(saga.state, SagaState::Abandoned, "{saga:?}");
        assert_eq!(saga.abandoned_because.as_deref(), Some("its rows are lost"));
        assert!(saga.not_undone.len() >= 15, "everything that had begun is named: {saga:?}");
    }
    let report = scene.pass("saga_recovery").await.report;
    adds_up(&report);
    assert_eq!(number(&report, "/last_pass/found"), 1, "{report}");
    assert!(scene.issues(IssueCode::SagaUnreadable).await.is_empty());
    let report = scene.pass("saga_retention").await.report;
    assert_eq!((&report["archived"], &report["pruned"]), (&5.into(), &5.into()), "{report}");
    scene.proceed(whole).await;
    scene.succeeds_with_every_node_once(whole).await;
}

#[tokio::test]
pub(crate) async fn what_is_mended_goes_on_by_itself() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    let named = |words| (words, vec![id.to_string()]);
    scene.stop(COORDINATOR).await.expect("it stops");
    change(&scene, &[named("UPDATE saga_definition SET dag = '!' || dag WHERE saga_id = $1")]).await;
    let found = check(&scene.database()).await.expect("it can be looked at").findings;
    assert!(found.iter().any(|found| found.to_string().contains(&id.to_string())), "{found:?}");
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.pass("saga_recovery").await;
    assert_eq!(scene.saga(id).await.saga.state, SagaState::Unreadable);
    scene.stop(COORDINATOR).await.expect("it stops");
    change(&scene, &[named("UPDATE saga_definition SET dag = substr(dag, 2) WHERE saga_id = $1")]).await;
    assert_eq!(check(&scene.database()).await.expect("it can be looked at").findings, []);
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.proceed(id).await;
    scene.succeeds_with_every_node_once(id).await;
}

#[tokio::test]
pub(crate) async fn a_saga_of_another_coordinator_is_said_to_be_its_and_takes_no_word_here() {
    let scene = Scene::start().await;
    let (theirs, nobodys, ours) = (
        scene.begin_waiting(DemoSaga::default()).await,
        scene.begin_waiting(DemoSaga::default()).await,
        scene.begin_waiting(DemoSaga::default()).await,
    );
    let other = CoordinatorId::generate().to_string();
    scene.stop(COORDINATOR).await.expect("it stops");
    change(
        &scene,
        &[
            (
                "INSERT INTO coordinator (id, name, epoch, version, started_at) \
             VALUES ($1, 'nexus-2', 7, '0.1.0', '2026-01-01T00:00:00Z')",
                vec![other.clone()],
            ),
            ("UPDATE saga SET owner = $1 WHERE id = $2", vec![other.clone(), theirs.to_string()]),
            ("UPDATE saga SET owner = 'nobody' WHERE id = $1", vec![nobodys.to_string()]),
            (
                "UPDATE saga_event SET written_at = '2026-01-02T00:00:00.000000Z' WHERE saga_id = $1",
                vec![theirs.to_string()],
            ),
        ],
    )
    .await;
    scene.restart(COORDINATOR).await.expect("it starts");
    let report = scene.pass("saga_recovery").await.report;
    assert_eq!(number(&report, "/last_pass/found"), 1, "it is not looked for here: {report}");

    let saga = scene.saga(theirs).await.saga;
    assert_eq!((saga.state, saga.executing, saga.waits_for.clone()), (SagaState::Elsewhere, false, None));
    let elsewhere = saga.elsewhere.expect("it says where");
    assert_eq!(elsewhere.coordinator_name.as_deref(), Some("nexus-2"));
    assert_eq!(elsewhere.started_at, Some("2026-01-01T00:00:00Z".parse().expect("a time")));
    assert_eq!(in_state(&scene, Some(SagaState::Elsewhere)).await.len(), 1);
    let unreadable = in_state(&scene, Some(SagaState::Unreadable)).await;
    assert_eq!(
        unreadable.iter().map(|saga| (saga.id, saga.coordinator)).collect::<Vec<_>>(),
        [(nobodys, None)]
    );

    let detail = |answer: Result<Saga, ClientError>| match answer {
        Err(ClientError::Problem { problem, .. }) => (code(problem.status, &problem.code), problem.detail),
        other => panic!("that is no refusal: {other:?}"),
    };
    for (id, named) in [(theirs, "nexus-2"), (nobodys, "\"nobody\" as owner")] {
        for answer in [scene.operator.saga_cancel(id).await, scene.operator.saga_retry(id).await] {
            let (refused, words) = detail(answer);
            assert_eq!(refused, code(409, "saga_not_executing"));
            assert!(words.contains(named), "{words}");
        }
        assert_eq!(refusal(scene.abandon(id, "why not").await), code(409, "saga_not_executing"));
    }
    let issues = scene.issues(IssueCode::SagaElsewhere).await;
    let [issue] = &issues[..] else { panic!("one: {issues:?}") };
    assert_eq!(issue.subject, other);
    assert!(issue.detail.contains("nexus-2 started last at 2026-01-01T00:00:00Z; 1 of its"), "{issue:?}");
    assert!(issue.detail.contains("the longest since 2026-01-02T00:00:00Z"), "{issue:?}");
    let issues = scene.issues(IssueCode::SagaUnreadable).await;
    assert_eq!(issues.iter().map(|issue| issue.subject.clone()).collect::<Vec<_>>(), [nobodys.to_string()]);
    scene.proceed(ours).await;
    scene.succeeds_with_every_node_once(ours).await;
}
