//! What an OpenAPI document says: which calls there are, and with which statuses each may be answered.

use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeSet;

/// One API's document.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) json: Value,
    pub(crate) calls: Vec<Call>,
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// With its parameters in braces.
    pub(crate) path: String,
    /// Described one by one; `default` is not among them.
    pub(crate) statuses: BTreeSet<u16>,
    /// Whether it is for everybody.
    pub(crate) open: bool,
    pub(crate) takes_body: bool,
    pub(crate) takes_query: bool,
    pub(crate) json: Value,
}

impl Document {
    pub(crate) fn read(json: Value) -> Document {
        let api_is_open = json.get("security").is_none();
        let mut calls = Vec::new();
        for (path, item) in json["paths"].as_object().expect("a document has paths") {
            for (method, operation) in item.as_object().expect("a path has operations") {
                let responses = operation["responses"].as_object().expect("an operation has responses");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                calls.push(Call {
                    method: method.to_uppercase().parse().expect("a method"),
                    path: path.clone(),
                    statuses: responses.keys().filter_map(|status| status.parse().ok()).collect(),
                    open: api_is_open || operation["security"].as_array().is_some_and(Vec::is_empty),
                    takes_body: operation.get("requestBody").is_some(),
                    takes_query: parameters.iter().any(|parameter| parameter["in"] == "query"),
                    json: operation.clone(),
                });
            }
        }
        Document { json, calls }
    }

    /// The call that a request is; none if the API has no such call. HEAD is GET where it is not described itself.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<&Call> {
        let path = path.split('?').next().unwrap_or_default();
        let of = |method: &Method| {
            let fitting = self.calls.iter().filter(|call| call.method == *method && fits(&call.path, path));
            // A fixed segment is meant before a parameter.
            fitting.min_by_key(|call| call.path.matches('{').count())
        };
        of(method).or_else(|| if *method == Method::HEAD { of(&Method::GET) } else { None })
    }
}

impl Call {
    /// A path of this call with something harmless for each parameter.
    pub(crate) fn sample_path(&self) -> String {
        let segment = |segment: &str| match segment {
            "{hash}" => "00".repeat(32),
            "{id}" | "{job_id}" | "{snapshot_id}" => "00000000-0000-7000-8000-000000000000".to_owned(),
            parameter if parameter.starts_with('{') => "none".to_owned(),
            fixed => fixed.to_owned(),
        };
        self.path.split('/').map(segment).collect::<Vec<_>>().join("/")
    }

    /// A query of this call: the numbers that it has to have.
    pub(crate) fn sample_query(&self) -> String {
        let parameters = self.json["parameters"].as_array().cloned().unwrap_or_default();
        let needed = parameters.iter().filter(|one| one["in"] == "query" && one["required"] == true);
        let words: Vec<_> = needed.filter_map(|one| Some(format!("{}=1", one["name"].as_str()?))).collect();
        if words.is_empty() { String::new() } else { format!("?{}", words.join("&")) }
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if pattern == segment || pattern.starts_with('{') => {}
            _ => return false,
        }
    }
}
