//! Contexts: the list, one context, and the connection that is in effect. Tokens are never shown.

use super::{
    Look,
    table::{Cell, Column, Facts, Table},
};
use crate::{connection::Connection, context_file::Context};
use camino::Utf8PathBuf;
use serde::Serialize;

/// One context as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContextView {
    /// Its name.
    pub name: String,
    /// Whether it is used when none is named.
    pub current: bool,
    /// The coordinator's operator API.
    pub url: String,
    /// Whether it holds a token.
    pub has_token: bool,
    /// The file that holds its token.
    pub token_file: Option<Utf8PathBuf>,
}

impl ContextView {
    /// What may be shown of a context.
    #[must_use]
    pub fn new(name: &str, context: &Context, current: bool) -> ContextView {
        ContextView {
            name: name.to_owned(),
            current,
            url: context.url.clone(),
            has_token: context.token.is_some(),
            token_file: context.token_file.clone(),
        }
    }

    fn token(&self) -> String {
        match &self.token_file {
            Some(path) => format!("in {path}"),
            None if self.has_token => "set".to_owned(),
            None => "none".to_owned(),
        }
    }
}

/// The connection in effect, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionView {
    /// The coordinator's operator API.
    pub url: String,
    /// Who said so.
    pub url_from: String,
    /// Whether there is a token.
    pub has_token: bool,
    /// Where it came from.
    pub token_from: String,
}

impl ConnectionView {
    /// What may be shown of a connection.
    #[must_use]
    pub fn new(connection: &Connection) -> ConnectionView {
        ConnectionView {
            url: connection.url.clone(),
            url_from: connection.url_origin.to_string(),
            has_token: connection.token.is_some(),
            token_from: connection.token_origin.to_string(),
        }
    }
}

/// One row for each context.
#[must_use]
pub fn list(contexts: &[ContextView], look: &Look) -> String {
    let mut table = Table::new(vec![
        Column::flexible("CONTEXT", 12),
        Column::new("CURRENT"),
        Column::new("URL"),
        Column::flexible("TOKEN", 8),
    ]);
    for context in contexts {
        table.row(vec![
            Cell::new(&context.name),
            Cell::new(if context.current { "*" } else { "" }),
            Cell::new(&context.url),
            Cell::new(context.token()),
        ]);
    }
    table.render(look)
}

/// One context.
#[must_use]
pub fn show(context: &ContextView, look: &Look) -> String {
    let mut facts = Facts::new();
    facts.fact("context", &context.name);
    facts.fact("current", if context.current { "yes" } else { "no" });
    facts.fact("url", &context.url);
    facts.fact("token", context.token());
    facts.render(look)
}

/// The connection in effect.
#[must_use]
pub fn effective(connection: &ConnectionView, look: &Look) -> String {
    let mut facts = Facts::new();
    facts.fact("url", &connection.url);
    facts.fact("url from", &connection.url_from);
    facts.fact("token", if connection.has_token { "set" } else { "none" });
    facts.fact("token from", &connection.token_from);
    facts.render(look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::narrow;

    #[test]
    fn list_marks_the_current_context_and_hides_tokens() {
        let lab =
            Context { url: "http://10.0.0.1:12220".into(), token: Some("secret".into()), token_file: None };
        let rack = Context { token: None, token_file: Some("/etc/rack-token".into()), ..lab.clone() };
        let views = [ContextView::new("lab", &lab, true), ContextView::new("rack", &rack, false)];
        insta::assert_snapshot!(list(&views, &narrow()), @r"
        CONTEXT CURRENT URL                   TOKEN
        lab     *       http://10.0.0.1:12220 set
        rack            http://10.0.0.1:12220 in /etc/rack-token
        ");
    }
}
