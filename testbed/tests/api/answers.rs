//! What every answer of every API has in common.

use crate::{
    call::{Api, Reply},
    stage::Stage,
};
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn with_request_id(api: &Api, id: &str) -> Reply {
    let headers = HeaderMap::from_iter([(REQUEST_ID, id.parse().expect("a header value"))]);
    api.call_with(Method::GET, "/no/such/path", headers, "").await
}

async fn all_apis(stage: &Stage) -> [Api; 4] {
    [stage.operator.clone(), stage.internal.clone(), stage.sled().await, stage.depot().await]
}

#[tokio::test]
async fn a_problem_carries_the_id_of_its_request_the_callers_own_if_it_is_sane() {
    let stage = Stage::shared().await;
    for api in all_apis(&stage).await {
        let kept = with_request_id(&api, "my-request_42").await;
        assert_eq!(kept.problem().request_id, "my-request_42");
        for odd in ["with blank", "a;b", &"x".repeat(65)] {
            let given = with_request_id(&api, odd).await.problem().request_id;
            assert!(given.len() == 32 && given != odd, "{odd:?} became {given:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_done_are_told_apart() {
    let stage = Stage::shared().await;
    for api in all_apis(&stage).await {
        assert_eq!(api.get("/no/such/path").await.refusal(), (404, "no_such_route".to_owned()));
        for call in &api.document.calls {
            let path = call.sample_path();
            let taken: Vec<&Method> = api
                .document
                .calls
                .iter()
                .filter(|other| other.path == call.path)
                .map(|call| &call.method)
                .collect();
            // PATCH of a path that another template takes for GET would be another call's 405.
            let method = [Method::PATCH, Method::OPTIONS].into_iter().find(|method| !taken.contains(&method));
            let method = method.expect("no path takes everything");
            let reply = api.call(method.clone(), &path, "").await;
            assert_eq!(reply.refusal(), (405, "method_not_allowed".to_owned()), "{method} {path}");
            let allowed = reply.header("allow").unwrap_or_default();
            assert!(allowed.contains(call.method.as_str()), "{path} allows {allowed:?}, not {}", call.method);
        }
    }
}

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let stage = Stage::shared().await;
    for path in ["/v1/status", "/v1/repositories", "/v1/sleds", "/v1/repositories/none", "/healthz"] {
        let (head, get) = (stage.operator.call(Method::HEAD, path, "").await, stage.operator.get(path).await);
        assert_eq!(
            (head.status, head.header("content-type")),
            (get.status, get.header("content-type")),
            "{path}"
        );
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn unknown_query_keys_are_refused_by_every_call_that_takes_a_query() {
    let stage = Stage::shared().await;
    let mut checked = 0;
    for api in all_apis(&stage).await {
        for call in api.document.calls.iter().filter(|call| call.takes_query) {
            let path = format!("{}?no_such_key=1", call.sample_path());
            let reply = api.call(call.method.clone(), &path, "").await;
            assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{} {path}", call.method);
            assert!(reply.problem().detail.contains("no_such_key"), "{path}");
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} calls take a query");
}

#[tokio::test]
async fn ids_that_are_none_are_refused_by_every_call_that_takes_one() {
    let stage = Stage::shared().await;
    for api in all_apis(&stage).await {
        let takes_id = |path: &str| path.contains("{id}") || path.contains("{hash}");
        for call in api.document.calls.iter().filter(|call| takes_id(&call.path)) {
            let path = call.path.replace("{id}", "not-an-id").replace("{hash}", "not-a-hash");
            let reply = api.call(call.method.clone(), &path, "").await;
            assert_eq!(reply.status, 400, "{} {path}", call.method);
        }
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_by_every_call_that_takes_json() {
    let stage = Stage::shared().await;
    let mut checked = 0;
    for api in all_apis(&stage).await {
        let takes_json = |call: &&crate::document::Call| {
            call.takes_body && call.json["requestBody"]["content"].get("application/json").is_some()
        };
        for call in api.document.calls.iter().filter(takes_json).filter(|call| call.path != "/v1/trust-roots")
        {
            for body in ["", "{", "7", "{\"no_such_key\":1}"] {
                let path = format!("{}{}", call.sample_path(), call.sample_query());
                let reply = api.call(call.method.clone(), &path, body).await;
                assert_eq!(reply.refusal(), (400, "bad_json".to_owned()), "{} {path} {body:?}", call.method);
            }
            checked += 1;
        }
    }
    assert!(checked >= 4, "only {checked} calls take JSON");
}
