//! Lists of sagas and their logs, page by page.

use crate::scene::{Scene, code, refusal};
use ids::SagaId;
use nexus_client::{
    pages::{Page, PageQuery},
    sagas::{DemoSaga, Saga, SagaEvent, SagaQuery, SagaState},
};
use std::collections::BTreeMap;

/// All pages of so many, and how many pages there were.
async fn walk(scene: &Scene, query: &SagaQuery, limit: u32) -> (Vec<Saga>, usize) {
    let (mut sagas, mut pages) = (Vec::new(), 0);
    let mut query = SagaQuery { limit: Some(limit), ..query.clone() };
    loop {
        let page = scene.operator.sagas(&query).await.expect("a page");
        assert!(page.items.len() <= limit as usize);
        sagas.extend(page.items);
        pages += 1;
        match page.next_page {
            Some(token) => query.page_token = Some(token),
            None => return (sagas, pages),
        }
    }
}

fn ids(sagas: &[Saga]) -> Vec<SagaId> {
    sagas.iter().map(|saga| saga.id).collect()
}

#[tokio::test]
pub(crate) async fn sagas_are_listed_newest_first_in_pages_that_others_do_not_disturb() {
    let scene = Scene::start().await;
    let mut begun = Vec::new();
    for _ in 0..7 {
        let id = scene.begin(DemoSaga::default()).await;
        scene.ended(id).await;
        begun.push(id);
    }
    begun.reverse();
    for limit in [1, 3, 7, 1000] {
        let (sagas, pages) = walk(&scene, &SagaQuery::default(), limit).await;
        assert_eq!(ids(&sagas), begun);
        assert_eq!(pages, 7usize.div_ceil(limit as usize), "pages of {limit}");
    }
    let first =
        scene.operator.sagas(&SagaQuery { limit: Some(3), ..SagaQuery::default() }).await.expect("a page");
    let newer = scene.begin(DemoSaga::default()).await;
    let rest = SagaQuery { page_token: first.next_page, ..SagaQuery::default() };
    let rest = scene.operator.sagas(&rest).await.expect("the rest");
    assert_eq!([ids(&first.items), ids(&rest.items)].concat(), begun, "{newer} came meanwhile");
}

#[tokio::test]
pub(crate) async fn lists_show_only_the_state_and_the_kind_that_are_asked_for() {
    let scene = Scene::start().await;
    let fail = |stuck: Option<&str>| DemoSaga {
        fail_at: Some("join".to_owned()),
        stuck_at: stuck.map(str::to_owned),
        ..DemoSaga::default()
    };
    let succeeded = scene.begin(DemoSaga::default()).await;
    let failed = scene.begin(fail(None)).await;
    let abandoned = scene.begin(fail(Some("left"))).await;
    scene.in_state(abandoned, SagaState::NeedsAttention).await;
    scene.abandon(abandoned, "enough").await.expect("it is taken");
    let stuck = scene.begin(fail(Some("right"))).await;
    scene.in_state(stuck, SagaState::NeedsAttention).await;
    let waiting = scene.begin_waiting(DemoSaga::default()).await;
    for id in [succeeded, failed, abandoned] {
        scene.ended(id).await;
    }
    let mut expected: BTreeMap<SagaState, Vec<SagaId>> =
        SagaState::ALL.into_iter().map(|state| (state, Vec::new())).collect();
    for (state, id) in [
        (SagaState::Succeeded, succeeded),
        (SagaState::Failed, failed),
        (SagaState::Abandoned, abandoned),
        (SagaState::NeedsAttention, stuck),
        (SagaState::Waiting, waiting),
    ] {
        expected.insert(state, vec![id]);
    }
    for (state, wanted) in expected {
        for (kind, wanted) in [(None, wanted.clone()), (Some("demo"), wanted), (Some("other"), vec![])] {
            let query =
                SagaQuery { state: Some(state), kind: kind.map(str::to_owned), ..SagaQuery::default() };
            assert_eq!(ids(&walk(&scene, &query, 1000).await.0), wanted, "{query:?}");
            assert_eq!(ids(&walk(&scene, &query, 1).await.0), wanted, "{query:?}");
        }
    }
}

#[tokio::test]
pub(crate) async fn a_log_is_told_in_its_order_and_in_pages() {
    let scene = Scene::start().await;
    let id = scene.begin(DemoSaga { fail_at: Some("close".to_owned()), ..DemoSaga::default() }).await;
    scene.ended(id).await;
    let events = scene.operator.saga_events(id).await.expect("its log");
    let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    assert!(events.is_sorted_by_key(|event| event.time));
    let count = |what: &str| events.iter().filter(|event| event.event == what).count();
    assert_eq!(count("started"), count("succeeded") + count("failed"));
    assert_eq!(count("undo_started"), count("undo_finished"));
    let place = |node: &str, what: &str| {
        let found = events.iter().position(|event| event.node == node && event.event == what);
        found.unwrap_or_else(|| panic!("{what} of {node} in {events:?}"))
    };
    assert!(place("begin", "succeeded") < place("left", "started"));
    assert!(place("left", "succeeded") < place("inner/open", "started"));
    assert!(place("inner/close", "failed") < place("inner/open", "undo_started"));
    assert!(place("left", "undo_finished") < place("begin", "undo_started"));

    let (mut paged, mut page_token) = (Vec::new(), None);
    loop {
        let page = page_of_events(&scene, id, 4, page_token).await;
        assert!(page.items.len() <= 4);
        paged.extend(page.items);
        page_token = page.next_page;
        if page_token.is_none() {
            break;
        }
    }
    assert_eq!(paged, events);
}

/// One page of a log.
async fn page_of_events(
    scene: &Scene,
    id: SagaId,
    limit: u32,
    page_token: Option<String>,
) -> Page<SagaEvent> {
    let token = scene.record().expect("the record is there").tokens.operator;
    let url = format!("{}/v1/sagas/{id}/events", scene.operator.base_url());
    let query = PageQuery { limit: Some(limit), page_token };
    let answer = reqwest::Client::new().get(url).query(&query).bearer_auth(token).send().await;
    answer.expect("it answers").json().await.expect("a page")
}

#[tokio::test]
pub(crate) async fn a_page_token_of_another_list_is_refused() {
    let scene = Scene::start().await;
    let id = scene.begin(DemoSaga::default()).await;
    scene.ended(id).await;
    let page_token = page_of_events(&scene, id, 1, None).await.next_page;
    let query = SagaQuery { page_token: Some(page_token.expect("there are more")), ..SagaQuery::default() };
    assert_eq!(refusal(scene.operator.sagas(&query).await), code(400, "bad_page_token"));
}
