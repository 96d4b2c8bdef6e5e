//! What every OpenAPI document here has in common: how a caller proves who it is, how a refusal looks, and the calls
//! that the edge itself answers. Handlers describe what is their own.
//!
//! Completing a document
//! - gives every error answer the body that it has, a [`Problem`] as `application/problem+json`;
//! - adds the answers that the edge and the extractors give before a handler runs (400, 401, 403, 408, 413), and `default`
//!   for the rest: whatever else goes wrong is a problem too;
//! - gives every answer the description that OpenAPI asks for;
//! - says of bodies that are no JSON that they are bytes, by giving them no schema, as OpenAPI 3.1 does.

use axum::http::StatusCode;
use problem::Problem;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, HttpMethod, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, OperationBuilder},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

/// The name of the security scheme in the document.
const SCHEME: &str = "bearer";

/// Who may call an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever has a token of a fitting role.
    Token,
    /// Everybody.
    Open,
}

/// Completes the document of an API whose calls are all described.
pub fn complete(document: &mut OpenApi, access: Access) {
    let components = document.components.get_or_insert_with(Components::new);
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    if access == Access::Token {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.security_schemes.insert(SCHEME.to_owned(), RefOr::T(SecurityScheme::Http(scheme)));
        document.security = Some(vec![requirement()]);
    }
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(|operation| complete_operation(operation, access));
    }
    add_own_calls(document, access);
}

fn requirement() -> SecurityRequirement {
    SecurityRequirement::new(SCHEME, std::iter::empty::<String>())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, head, patch, .. } = item;
    [get, put, post, delete, head, patch].into_iter().flatten()
}

fn complete_operation(operation: &mut Operation, access: Access) {
    let takes_body = operation.request_body.is_some();
    let takes_input = takes_body || operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    let mut given = vec!["default"];
    given.extend(takes_input.then_some("400"));
    given.extend(takes_body.then_some(["408", "413"]).into_iter().flatten());
    given.extend((access == Access::Token).then_some(["401", "403"]).into_iter().flatten());
    for status in given {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(Response::default()));
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response {
            complete_response(status, response);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.iter_mut().for_each(|(media_type, content)| omit_schema_of_bytes(media_type, content));
    }
}

fn complete_response(status: &str, response: &mut Response) {
    let code = status.parse::<u16>().ok();
    if response.description.is_empty() {
        let reason = code.and_then(|code| StatusCode::from_u16(code).ok()?.canonical_reason());
        reason.unwrap_or("Any other problem").clone_into(&mut response.description);
    }
    if code.is_none_or(|code| code >= 400) {
        response.content.clear();
        let problem = Content::new(Some(Ref::from_schema_name(Problem::name())));
        response.content.insert(problem::MEDIA_TYPE.to_owned(), RefOr::T(problem));
    }
    response.content.iter_mut().for_each(|(media_type, content)| omit_schema_of_bytes(media_type, content));
}

fn omit_schema_of_bytes(media_type: &str, content: &mut RefOr<Content>) {
    if let RefOr::T(content) = content
        && !media_type.ends_with("json")
    {
        content.schema = None;
    }
}

/// The calls that [`Edge`](crate::Edge) answers itself.
fn add_own_calls(document: &mut OpenApi, access: Access) {
    let text = "text/plain; charset=utf-8";
    let ready = [("200", "Everything is well", text), ("503", "What is not well, a line each", text)];
    let live = [("200", "The process lives", text)];
    let itself = [("200", "This document", "application/json")];
    let metrics = [("200", "The metrics", crate::metrics::MEDIA_TYPE)];
    add_call(document, "/healthz", "healthz", "Whether the process lives.", &live, Access::Open);
    add_call(document, "/readyz", "readyz", "Whether the process can do its work.", &ready, Access::Open);
    add_call(document, "/openapi.json", "openapi", "What the API is.", &itself, Access::Open);
    add_call(document, "/metrics", "metrics", "What the process counts and measures.", &metrics, access);
}

fn add_call(
    document: &mut OpenApi,
    path: &str,
    id: &str,
    summary: &str,
    answers: &[(&str, &str, &str)],
    access: Access,
) {
    let mut operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
    for (status, description, media_type) in answers {
        let schema = media_type.ends_with("json").then(utoipa::openapi::Object::new);
        let response =
            ResponseBuilder::new().description(*description).content(*media_type, Content::new(schema));
        operation = operation.response(*status, response.build());
    }
    let mut operation = operation.build();
    match access {
        Access::Open => operation.security = Some(Vec::new()),
        Access::Token => complete_operation(&mut operation, access),
    }
    document.paths.paths.insert(path.to_owned(), PathItem::new(HttpMethod::Get, operation));
}
