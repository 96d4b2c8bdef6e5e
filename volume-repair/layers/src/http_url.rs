//! A URL that is read from. Owns what of it may be seen: its secrets go to the server that it names, and nowhere else.

use std::{fmt, str::FromStr};
use url::Url;

/// A URL of a server that speaks HTTP. As text it has no user, password or query: these may be what opens the door.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Url);

/// Why a text is no such URL. Does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpUrlError {
    /// Not a URL.
    #[error("it is not a URL")]
    NotAUrl(#[source] url::ParseError),
    /// Another protocol.
    #[error("it does not begin with http://, and nothing else is spoken yet")]
    NotHttp,
    /// Servers are never told what is behind the `#`.
    #[error("it has a part behind a #, which no server is told")]
    Fragment,
}

impl HttpUrl {
    /// All of it, for whoever sends the request.
    #[must_use]
    pub fn with_secrets(&self) -> &Url {
        &self.0
    }
}

impl FromStr for HttpUrl {
    type Err = HttpUrlError;

    fn from_str(text: &str) -> Result<HttpUrl, HttpUrlError> {
        let url = Url::parse(text).map_err(HttpUrlError::NotAUrl)?;
        if url.scheme() != "http" {
            return Err(HttpUrlError::NotHttp);
        }
        if url.fragment().is_some() { Err(HttpUrlError::Fragment) } else { Ok(HttpUrl(url)) }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        let query = if self.0.query().is_some() { "?…" } else { "" };
        write!(f, "http://{host}{port}{}{query}", self.0.path())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_sent_and_never_seen() {
        let url: HttpUrl = "http://me:secret@[::1]:8080/a/b.img?token=secret".parse().expect("it is one");
        assert_eq!(url.to_string(), "http://[::1]:8080/a/b.img?…");
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!(url.with_secrets().password(), Some("secret"));
    }

    #[test]
    fn what_is_not_spoken_is_refused() {
        let refused = |text: &str| text.parse::<HttpUrl>().expect_err("it is refused");
        assert!(matches!(refused("base.img"), HttpUrlError::NotAUrl(_)));
        assert!(matches!(refused("http://"), HttpUrlError::NotAUrl(_)));
        assert_eq!(refused("https://host/base.img"), HttpUrlError::NotHttp);
        assert_eq!(refused("file:///base.img"), HttpUrlError::NotHttp);
        assert_eq!(refused("http://host/base.img#secret"), HttpUrlError::Fragment);
    }
}
