//! What a server has, as a part of a volume or under one: read by ranges. Owns what an answer has to be like to count, so that no bytes of
//! two different contents are ever taken for one.
//!
//! | an answer counts if | otherwise |
//! |---|---|
//! | it is 206, with the range that was asked for, of as many bytes as the request says | the server is of no use; or what it has was changed |
//! | it has the strong `ETag` that was there when it was opened; without one, the `Last-Modified` | it was changed |
//! | it is not encoded | the server is of no use |
//! | all of it comes | it is asked again |

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use std::{net::IpAddr, ops::Range, time::Duration};
use volume_layers::HttpUrl;

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a server may say nothing.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long one answer may take, however little of it comes at a time: one has 512 KiB at most.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long a connection stays that nothing is asked on: shorter than servers wait.
const UNUSED_MAX: Duration = Duration::from_secs(10);

/// Pauses before it is asked again; then it is given up, and whoever reads gets an error. A server that is started again is back by then.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_millis(2_000)];

/// What a server has.
#[derive(Debug)]
pub(crate) struct UrlSource {
    http: Client,
    url: HttpUrl,
    size: u64,
    content: Content,
}

/// By what it is told that it is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// Two contents never have the same.
    Tag(String),
    /// When it was changed last.
    Modified(String),
    /// Only its size.
    Unnamed,
}

/// Why bytes of it were not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("nothing can be asked by HTTP")]
    Setup(#[source] reqwest::Error),
    #[error("the server has not answered, or not to the end")]
    NotAnswered(#[source] reqwest::Error),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error(
        "the server answers with all that it has where it was asked for a part: it cannot be read by ranges"
    )]
    NoRanges,
    #[error("the server says {told:?} of the range, where {wanted:?} was asked for")]
    OtherRange { told: String, wanted: String },
    #[error("the server has {told} bytes there, and it should be {expected}")]
    Size { told: u64, expected: u64 },
    #[error("the server has encoded it, though it was not asked to")]
    Encoded,
    #[error("the server has sent {told} bytes of {expected}")]
    Length { told: usize, expected: usize },
    #[error("it was changed since it was opened: what was read of it before may not fit what it has now")]
    Changed,
}

impl UrlError {
    /// Whether the next answer may be another one.
    fn may_pass(&self) -> bool {
        match self {
            UrlError::NotAnswered(_) | UrlError::Length { .. } => true,
            UrlError::Status(status) => {
                status.is_server_error()
                    || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(status)
            }
            _ => false,
        }
    }

    /// A name for programs, if it cannot be opened.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            UrlError::NoRanges => "volume_url_without_ranges",
            UrlError::Size { .. } => "volume_url_size",
            _ if self.may_pass() => "volume_url_not_answered",
            _ => "volume_url_not_usable",
        }
    }
}

/// What is asked goes to the server that the URL names, and to no other; from this address, if one is given.
pub(crate) fn client(from: Option<IpAddr>) -> Result<Client, UrlError> {
    client_with(from, IDLE_MAX)
}

fn client_with(from: Option<IpAddr>, idle_max: Duration) -> Result<Client, UrlError> {
    let builder = Client::builder().connect_timeout(CONNECT_MAX).read_timeout(idle_max).timeout(ANSWER_MAX);
    let builder = builder.local_address(from);
    let builder = builder.pool_idle_timeout(UNUSED_MAX).redirect(Policy::none()).no_proxy().http1_only();
    builder.build().map_err(UrlError::Setup)
}

impl UrlSource {
    /// Sees that a server has it, by its first block.
    pub(crate) async fn open(
        http: Client,
        url: HttpUrl,
        size: u64,
        block_bytes: u64,
    ) -> Result<UrlSource, UrlError> {
        let mut source = UrlSource { http, url, size, content: Content::Unnamed };
        let (content, _) = source.ask_patiently(0..block_bytes).await?;
        source.content = content;
        Ok(source)
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// These of its bytes.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, UrlError> {
        let (_, bytes) = self.ask_patiently(range).await?;
        Ok(bytes)
    }

    async fn ask_patiently(&self, range: Range<u64>) -> Result<(Content, Bytes), UrlError> {
        for pause in PAUSES {
            match self.ask(range.clone()).await {
                Err(error) if error.may_pass() => {
                    tracing::debug!(url = %self.url, error = problem::chain(&error), "it is asked again");
                }
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
        }
        self.ask(range).await
    }

    async fn ask(&self, range: Range<u64>) -> Result<(Content, Bytes), UrlError> {
        let not_answered = |error: reqwest::Error| UrlError::NotAnswered(error.without_url());
        let wanted = format!("bytes {}-{}", range.start, range.end - 1);
        let request = self
            .http
            .get(self.url.with_secrets().clone())
            .header(header::RANGE, wanted.replacen(' ', "=", 1))
            .header(header::ACCEPT_ENCODING, "identity");
        let mut response = request.send().await.map_err(not_answered)?;
        let content = self.check(&response, &wanted)?;
        let expected = usize::try_from(range.end - range.start).expect("a fetch is small");
        let mut bytes = BytesMut::with_capacity(expected);
        while let Some(some) = response.chunk().await.map_err(not_answered)? {
            if bytes.len() + some.len() > expected {
                return Err(UrlError::Length { told: bytes.len() + some.len(), expected });
            }
            bytes.extend_from_slice(&some);
        }
        if bytes.len() < expected {
            return Err(UrlError::Length { told: bytes.len(), expected });
        }
        Ok((content, bytes.freeze()))
    }

    /// Whether an answer counts, by its head.
    fn check(&self, response: &Response, wanted: &str) -> Result<Content, UrlError> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => return Err(UrlError::NoRanges),
            other => return Err(UrlError::Status(other)),
        }
        if !matches!(text(header::CONTENT_ENCODING), None | Some("identity")) {
            return Err(UrlError::Encoded);
        }
        let told = text(header::CONTENT_RANGE).unwrap_or_default();
        let other_range = || {
            let told = told.chars().take(100).collect();
            UrlError::OtherRange { told, wanted: format!("{wanted}/{}", self.size) }
        };
        let (range, size) = told.split_once('/').ok_or_else(other_range)?;
        if range != wanted {
            return Err(other_range());
        }
        let size: u64 = size.parse().map_err(|_| other_range())?;
        if size != self.size {
            return Err(UrlError::Size { told: size, expected: self.size });
        }
        let content = match (text(header::ETAG), text(header::LAST_MODIFIED)) {
            (Some(tag), _) if tag.starts_with('"') => Content::Tag(tag.to_owned()),
            (_, Some(modified)) => Content::Modified(modified.to_owned()),
            _ => Content::Unnamed,
        };
        if self.content != Content::Unnamed && content != self.content {
            return Err(UrlError::Changed);
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        thread,
    };

    /// Answers the first one in part, the others not at all, and hangs up on nobody. How many there were.
    fn falls_silent(listener: &TcpListener, connections: usize) -> Vec<TcpStream> {
        let answer = |number: usize| {
            let (mut socket, _) = listener.accept().unwrap();
            let asked = BufReader::new(socket.try_clone().unwrap()).lines();
            assert!(asked.map_while(Result::ok).any(|line| line.is_empty()), "it asks to the end");
            if number == 0 {
                let head = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-511/1024\r\n";
                write!(socket, "{head}content-length: 512\r\n\r\nsome").unwrap();
            }
            socket
        };
        (0..connections).map(answer).collect()
    }

    #[test]
    fn a_server_that_falls_silent_is_given_up_and_asked_again_and_then_given_up_for_good() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/base.img", listener.local_addr().unwrap()).parse().unwrap();
        let server = thread::spawn(move || falls_silent(&listener, PAUSES.len() + 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(async {
            let http = client_with(None, Duration::from_millis(100)).unwrap();
            UrlSource::open(http, url, 1_024, 512).await.unwrap_err()
        });
        assert!(matches!(&error, UrlError::NotAnswered(cause) if cause.is_timeout()), "{error:?}");
        assert_eq!(error.code(), "volume_url_not_answered");
        assert_eq!(server.join().unwrap().len(), 4);
    }
}
