//! The OpenAPI documents: served as the programs print them, and well formed.

use crate::{call::Api, document::Document, stage::Stage};
use serde_json::Value;
use std::{collections::BTreeSet, process::Command};

/// What a program prints for one of its APIs.
fn printed(stage: &Stage, program: &str, api: &str) -> Value {
    let bin_dir = stage.cluster.environment().expect("it is recorded").bin_dir;
    let output = Command::new(bin_dir.join(program)).args(["openapi", api]).output().expect("it runs");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

async fn all_apis(stage: &Stage) -> [(&'static str, &'static str, Api); 4] {
    [
        ("nexus", "operator", stage.operator.clone()),
        ("nexus", "internal", stage.internal.clone()),
        ("sled-agent", "sled", stage.sled().await),
        ("sled-agent", "depot", stage.depot().await),
    ]
}

#[tokio::test]
async fn what_is_served_is_what_the_programs_print() {
    let stage = Stage::shared().await;
    for (program, name, api) in all_apis(&stage).await {
        assert_eq!(printed(&stage, program, name), api.document.json, "{program} {name}");
    }
}

#[tokio::test]
async fn documents_are_well_formed() {
    let stage = Stage::shared().await;
    for (_, name, api) in all_apis(&stage).await {
        let json = &api.document.json;
        let version = json["openapi"].as_str().expect("a version");
        assert!(version.starts_with("3.1."), "{name} is of {version}");
        for key in ["title", "version", "description"] {
            assert!(json["info"][key].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {key}");
        }
        check_references(name, json, json);
        check_operations(name, &api.document);
    }
}

/// Every reference leads somewhere.
fn check_references(name: &str, document: &Value, part: &Value) {
    match part {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("references stay inside");
                assert!(document.pointer(pointer).is_some(), "{name}: {reference} leads nowhere");
            }
            map.values().for_each(|part| check_references(name, document, part));
        }
        Value::Array(list) => list.iter().for_each(|part| check_references(name, document, part)),
        _ => {}
    }
}

fn check_operations(name: &str, document: &Document) {
    let mut ids = BTreeSet::new();
    for call in &document.calls {
        let seen = format!("{name}: {} {}", call.method, call.path);
        let id = call.json["operationId"].as_str().unwrap_or_else(|| panic!("{seen} has no id"));
        assert!(ids.insert(id), "{seen} has the id of another, {id}");
        assert!(call.json["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{seen} says nothing");
        let parameters = call.json["parameters"].as_array().cloned().unwrap_or_default();
        let of_path: BTreeSet<String> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| {
                assert_eq!(parameter["required"], true, "{seen}");
                format!("{{{}}}", parameter["name"].as_str().expect("a name"))
            })
            .collect();
        let in_path: BTreeSet<String> =
            call.path.split('/').filter(|part| part.starts_with('{')).map(str::to_owned).collect();
        assert_eq!(of_path, in_path, "{seen}");
        check_answers(&seen, call.open, &call.json["responses"]);
    }
}

/// Every answer is described; those that are errors are problems.
fn check_answers(seen: &str, open: bool, answers: &Value) {
    let answers = answers.as_object().expect("answers");
    assert!(answers.keys().any(|status| status.starts_with('2')), "{seen} never succeeds");
    for (status, answer) in answers {
        assert!(answer["description"].as_str().is_some_and(|text| !text.is_empty()), "{seen} {status}");
        let is_error = status == "default" || status.parse::<u16>().expect("a status") >= 400;
        if is_error && !(open && status == "503") {
            let schema = &answer["content"][problem::MEDIA_TYPE]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{seen} {status}");
        }
    }
}

#[tokio::test]
async fn documents_say_how_to_prove_who_one_is() {
    let stage = Stage::shared().await;
    for (_, name, api) in all_apis(&stage).await {
        let scheme = &api.document.json["components"]["securitySchemes"]["bearer"];
        if name == "depot" {
            assert!(scheme.is_null() && api.document.json.get("security").is_none());
            continue;
        }
        assert_eq!((&scheme["type"], &scheme["scheme"]), (&"http".into(), &"bearer".into()), "{name}");
        assert_eq!(api.document.json["security"], serde_json::json!([{"bearer": []}]), "{name}");
    }
}

#[tokio::test]
async fn every_path_of_the_outside_contract_is_described() {
    let stage = Stage::shared().await;
    let paths =
        |api: &Api| api.document.calls.iter().map(|call| format!("{} {}", call.method, call.path)).collect();
    let operator: BTreeSet<String> = paths(&stage.operator);
    for call in [
        "POST /v1/trust-roots",
        "GET /v1/trust-roots",
        "DELETE /v1/trust-roots/{id}",
        "PUT /v1/repositories",
        "GET /v1/repositories",
        "GET /v1/repositories/{version}",
        "DELETE /v1/repositories/{version}",
        "GET /v1/repositories/{version}/replication",
        "GET /v1/artifacts",
        "GET /v1/sleds",
        "GET /v1/coordinators",
        "GET /v1/background-tasks",
        "GET /v1/background-tasks/{name}",
        "POST /v1/background-tasks/{name}/activate",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    ] {
        assert!(operator.contains(call), "{call} is not described");
    }
    let sled: BTreeSet<String> = paths(&stage.sled().await);
    for call in [
        "GET /artifacts-config",
        "PUT /artifacts-config",
        "GET /artifacts",
        "PUT /artifacts/{hash}",
        "POST /artifacts/{hash}/copy-from-depot",
        "GET /artifact-jobs",
        "GET /artifact-jobs/{id}",
        "DELETE /artifact-jobs/{id}",
        "DELETE /artifacts/{hash}",
        "POST /artifacts/scrub",
        "GET /inventory",
        "GET /disks",
        "GET /healthz",
        "GET /metrics",
    ] {
        assert!(sled.contains(call), "{call} is not described");
    }
    let depot: BTreeSet<String> = paths(&stage.depot().await);
    assert!(depot.contains("GET /artifact/sha256/{hash}") && depot.contains("HEAD /artifact/sha256/{hash}"));
    let internal: BTreeSet<String> = paths(&stage.internal);
    for call in [
        "PUT /sleds/{id}",
        "POST /volumes/{id}/repair-start",
        "POST /volumes/{id}/repair-progress",
        "POST /volumes/{id}/repair-finish",
    ] {
        assert!(internal.contains(call), "{call} is not described");
    }
}
