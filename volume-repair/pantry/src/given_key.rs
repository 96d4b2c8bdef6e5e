//! A volume's key, as a call carries it: in a header, so that the body is the construction request as everybody writes it.
//!
//! The header is taken off the request, what it says is parsed at once into a key that is wiped when it is dropped, and no refusal repeats
//! it. What HTTP itself has read into its buffers is freed and not wiped, as with tokens.

use axum::{extract::FromRequestParts, http::request::Parts};
use http_edge::ApiError;
use problem::{Code, Problem};
use sled_client::pantry::VOLUME_KEY_HEADER;
use volume_seals::{KeyTextError, VolumeKey};

/// The key that a call has, if it has one.
#[derive(Debug)]
pub struct GivenKey(pub Option<VolumeKey>);

/// Why what was given is no key. It does not say what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum GivenKeyError {
    #[error("there are {0} keys, and a volume has one")]
    Several(usize),
    #[error("the header Volume-Key has no key")]
    NoKey(#[source] KeyTextError),
}

impl<S: Send + Sync> FromRequestParts<S> for GivenKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<GivenKey, ApiError> {
        let count = parts.headers.get_all(VOLUME_KEY_HEADER).iter().count();
        // Whoever looks at the request later does not see it.
        let Some(given) = parts.headers.remove(VOLUME_KEY_HEADER) else { return Ok(GivenKey(None)) };
        let key = match count {
            1 => std::str::from_utf8(given.as_bytes())
                .map_err(|error| KeyTextError::Digit(error.valid_up_to()))
                .and_then(str::parse)
                .map_err(GivenKeyError::NoKey),
            several => Err(GivenKeyError::Several(several)),
        };
        let refused = |error| Problem::from_error(Code::VolumeKeyMalformed, &error).into();
        key.map(|key| GivenKey(Some(key))).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use ids::RegionSetId;

    async fn given(values: &[&[u8]]) -> Result<Option<VolumeKey>, Problem> {
        let mut request = Request::new(());
        for value in values {
            request.headers_mut().append(VOLUME_KEY_HEADER, (*value).try_into().unwrap());
        }
        let (mut parts, ()) = request.into_parts();
        let given = GivenKey::from_request_parts(&mut parts, &()).await;
        assert!(parts.headers.is_empty(), "nobody finds it later");
        given.map(|GivenKey(key)| key).map_err(|error| *error.0)
    }

    #[tokio::test]
    async fn a_key_is_taken_off_the_request_and_shown_by_nobody() {
        assert!(given(&[]).await.unwrap().is_none());
        let (key, set) = (VolumeKey::random(), RegionSetId::generate());
        let text = key.to_text();
        let taken = given(&[text.trim_end().as_bytes()]).await.unwrap().unwrap();
        assert_eq!(taken.check(set), key.check(set));
        assert_eq!(format!("{:?}", GivenKey(Some(taken))), "GivenKey(Some(VolumeKey(..)))");
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_and_not_repeated() {
        let text = VolumeKey::random().to_text();
        let digits = text.trim_end();
        let wrong: [&[&[u8]]; 5] = [
            &[b""],
            &[&digits.as_bytes()[1..]],
            &[&[b"x", &digits.as_bytes()[1..]].concat()],
            &[&[0xff; 64]],
            &[digits.as_bytes(), digits.as_bytes()],
        ];
        for values in wrong {
            let refusal = given(values).await.unwrap_err();
            assert_eq!(refusal.code, Code::VolumeKeyMalformed.name());
            assert!(!refusal.to_string().contains(&digits[8..24]), "{refusal}");
        }
    }
}
