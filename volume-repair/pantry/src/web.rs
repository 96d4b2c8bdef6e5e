//! What a web server has, as an import: one answer from its first byte to its last, and where it breaks off, the rest of it. Owns what a
//! server has to say to be believed, so that no bytes of two contents are ever put together.
//!
//! | an answer counts if | otherwise |
//! |---|---|
//! | it is 200, says its length, and that is what was announced | refused, before anything is written |
//! | it is not encoded | refused |
//! | behind a break: it is 206, of exactly the rest, with the strong `ETag` or the `Last-Modified` that there was | the import stops |
//! | it goes on within [`IDLE_MAX`] | the rest is asked for, a few times |

use crate::{error::PantryError, import::Piece};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use std::{net::IpAddr, time::Duration};
use tokio::sync::mpsc::Sender;
use volume_export::web_address;
use volume_layers::HttpUrl;

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a server may say nothing.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(10);

/// Pauses before the rest is asked for; after the last one the import stops. A server that is started again is back by then. What has
/// moved on in between begins with the first one again.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Hands on what is there, until nobody takes it any more; asked for from this address, if that reaches the server.
pub(crate) async fn fetch(own: Option<IpAddr>, url: HttpUrl, bytes: u64, pieces: Sender<Piece>) {
    let end = match (Fetch { own, url: &url, bytes, taken: 0, name: None, pieces: &pieces }).run().await {
        Ok(()) => Piece::End,
        Err(End::Failed(error)) => Piece::Failed(error),
        Err(End::Stopped(why)) => Piece::Stopped(why),
    };
    // Nobody listens if the job was cancelled, or the volume has failed.
    let _ = pieces.send(end).await;
}

enum End {
    /// It was of no use from the start.
    Failed(PantryError),
    /// It was, for a while.
    Stopped(String),
}

/// Why there is no answer to use.
enum Trouble {
    /// It may be better later.
    MayPass(String),
    /// It will be the same again.
    Lasts(Box<PantryError>),
}

struct Fetch<'a> {
    own: Option<IpAddr>,
    url: &'a HttpUrl,
    bytes: u64,
    taken: u64,
    /// By what it is told that it is still the same content.
    name: Option<String>,
    pieces: &'a Sender<Piece>,
}

impl Fetch<'_> {
    async fn run(mut self) -> Result<(), End> {
        let client = client(web_address(self.own, self.url).await);
        let client = client.map_err(|error| End::Failed(self.useless(&problem::chain(&error))))?;
        let mut pauses = PAUSES.iter();
        loop {
            let before = self.taken;
            let why = match self.once(&client).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Lasts(error)) if self.taken == 0 => return Err(End::Failed(*error)),
                Err(Trouble::Lasts(error)) => return Err(End::Stopped(problem::chain(&error))),
                Err(Trouble::MayPass(why)) => why,
            };
            if self.taken > before {
                pauses = PAUSES.iter();
            }
            if self.taken > 0 && self.name.is_none() {
                return Err(End::Stopped(format!(
                    "{why}; and {} gives neither a strong ETag nor a Last-Modified, by which the rest would be known",
                    self.url
                )));
            }
            let Some(pause) = pauses.next() else {
                return Err(if self.taken == 0 {
                    End::Failed(self.useless(&why))
                } else {
                    End::Stopped(format!("{why}, also when it was asked again"))
                });
            };
            tracing::info!(url = %self.url, taken = self.taken, why, "an import asks for the rest");
            tokio::time::sleep(*pause).await;
        }
    }

    async fn once(&mut self, client: &Client) -> Result<(), Trouble> {
        let passes = |error: reqwest::Error| Trouble::MayPass(problem::chain(&error.without_url()));
        let mut request =
            client.get(self.url.with_secrets().clone()).header(header::ACCEPT_ENCODING, "identity");
        if self.taken > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.taken));
        }
        let mut answer = request.send().await.map_err(passes)?;
        let name = self.check(&answer)?;
        if self.taken == 0 {
            self.name = name;
        } else if self.name != name {
            return Err(Trouble::Lasts(Box::new(self.useless("it was changed meanwhile"))));
        }
        while let Some(some) = answer.chunk().await.map_err(passes)? {
            self.taken += some.len() as u64;
            if self.pieces.send(Piece::Bytes(some)).await.is_err() {
                // The job has ended: what is said now nobody hears.
                return Ok(());
            }
        }
        if self.taken < self.bytes {
            return Err(Trouble::MayPass(format!("its answer ended after {} bytes", self.taken)));
        }
        Ok(())
    }

    /// Whether an answer counts, by its head; and what its content is known by.
    fn check(&self, answer: &Response) -> Result<Option<String>, Trouble> {
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let lasts = |why: &str| Err(Trouble::Lasts(Box::new(self.useless(why))));
        let wanted = if self.taken == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
        match answer.status() {
            status if status == wanted => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Trouble::MayPass(format!("it answers {status}")));
            }
            status => return lasts(&format!("it answers {status}, where {wanted} was asked for")),
        }
        if !matches!(text(header::CONTENT_ENCODING), None | Some("identity")) {
            return lasts("its answer is encoded");
        }
        if self.taken == 0 {
            let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
            match length {
                None => return lasts("it does not say how many bytes it has"),
                Some(given) if given > self.bytes => {
                    let what = "size_bytes is";
                    return Err(Trouble::Lasts(Box::new(PantryError::TooLong {
                        given,
                        what,
                        wanted: self.bytes,
                    })));
                }
                Some(given) if given < self.bytes => {
                    let what = "size_bytes is";
                    return Err(Trouble::Lasts(Box::new(PantryError::TooShort {
                        given,
                        what,
                        wanted: self.bytes,
                    })));
                }
                Some(_) => {}
            }
        } else {
            let rest = format!("bytes {}-{}/{}", self.taken, self.bytes - 1, self.bytes);
            if text(header::CONTENT_RANGE) != Some(&*rest) {
                return lasts("its answer is of another range than was asked for");
            }
        }
        let strong = text(header::ETAG).filter(|tag| tag.starts_with('"'));
        Ok(strong.or_else(|| text(header::LAST_MODIFIED)).map(str::to_owned))
    }

    fn useless(&self, why: &str) -> PantryError {
        PantryError::Source { url: self.url.to_string(), why: why.to_owned() }
    }
}

/// What is asked goes to the server that the URL names, and to no other.
fn client(from: Option<IpAddr>) -> Result<Client, reqwest::Error> {
    let builder = Client::builder().connect_timeout(CONNECT_MAX).read_timeout(IDLE_MAX).local_address(from);
    builder.redirect(Policy::none()).no_proxy().http1_only().build()
}
