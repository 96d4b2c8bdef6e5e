//! Tokens of keyset pages.
//!
//! A page ends with the key of its last item; the token of the next page is the list's name and that key, wrapped so
//! that clients do not start to build tokens themselves. The server keeps nothing between two pages.

use crate::ApiError;
use problem::Code;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;

/// Items per page unless the client says otherwise.
const LIMIT_DEFAULT: u32 = 100;

/// Items per page at most: bounds the memory that one request costs.
const LIMIT_MAX: u32 = 1000;

/// The token's format; a token of another version is refused.
const TOKEN_VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token<'a, K> {
    v: u8,
    /// Keys of different lists look alike (most are ids), so the token says which list it goes on with.
    list: Cow<'a, str>,
    after: K,
}

/// Which page of which list a client asks for: so many items after this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    list: &'static str,
    /// Items at most.
    pub limit: u32,
    /// The key of the last item of the page before.
    pub after: Option<K>,
}

impl<K: Serialize + DeserializeOwned> PageRequest<K> {
    /// Reads `limit` and `page_token` as they came in the query for the list of this name.
    pub fn parse(
        list: &'static str,
        limit: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<PageRequest<K>, ApiError> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::new(
                Code::BadRequest,
                format!("limit is {limit}; it may be 1 to {LIMIT_MAX}"),
            ));
        }
        let after = page_token.map(|text| decode(list, text)).transpose()?;
        Ok(PageRequest { list, limit, after })
    }

    /// Items to read for this page: one more than it shows, which tells whether there is another page.
    #[must_use]
    pub fn read_limit(&self) -> u32 {
        self.limit + 1
    }

    /// The token of a page that goes on after this key: for lists that stop looking before a page is full.
    #[must_use]
    pub fn token(&self, after: &K) -> String {
        encode(self.list, after)
    }

    /// Cuts what was read with [`read_limit`](PageRequest::read_limit) into the page and the token of the next.
    pub fn cut<T>(&self, mut items: Vec<T>, key_of: impl Fn(&T) -> K) -> (Vec<T>, Option<String>) {
        let limit = self.limit as usize;
        if items.len() <= limit {
            return (items, None);
        }
        items.truncate(limit);
        let next = items.last().map(|last| self.token(&key_of(last)));
        (items, next)
    }
}

fn encode<K: Serialize>(list: &str, key: &K) -> String {
    let token = Token { v: TOKEN_VERSION, list: Cow::Borrowed(list), after: key };
    let json = serde_json::to_vec(&token).expect("a key is plain data");
    let mut text = String::with_capacity(json.len() * 2);
    for byte in json {
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are one digit"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are one digit"));
    }
    text
}

fn decode<K: DeserializeOwned>(list: &str, text: &str) -> Result<K, ApiError> {
    let refuse = || ApiError::new(Code::BadPageToken, "the page token is damaged or of another list");
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(refuse)?;
    if !digits.len().is_multiple_of(2) {
        return Err(refuse());
    }
    let json: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let token: Token<'_, K> = serde_json::from_slice(&json).map_err(|_| refuse())?;
    if token.v == TOKEN_VERSION && token.list == list { Ok(token.after) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(limit: u32, page_token: Option<&str>) -> Result<PageRequest<u32>, ApiError> {
        PageRequest::parse("numbers", Some(limit), page_token)
    }

    #[test]
    fn a_page_continues_after_its_last_item() {
        let (page, next) = request(2, None).unwrap().cut(vec![1u32, 2, 3], |item| *item);
        assert_eq!(page, [1, 2]);
        let second = request(2, next.as_deref()).unwrap();
        assert_eq!((second.after, second.read_limit()), (Some(2), 3));
        assert_eq!(second.cut(vec![3u32], |item| *item), (vec![3], None));
    }

    #[test]
    fn a_page_that_is_just_full_is_the_last_one() {
        assert_eq!(request(2, None).unwrap().cut(vec![1u32, 2], |item| *item), (vec![1, 2], None));
    }

    #[test]
    fn refuses_limits_and_tokens_that_are_not_ours() {
        assert!(request(0, None).unwrap_err().0.is(Code::BadRequest));
        assert!(request(1001, None).is_err());
        assert!(request(1000, None).is_ok());
        for bad in ["", "xyz", "0", "é", "7b7d", &encode("numbers", &"text"), &encode("letters", &1u32)] {
            let refusal = request(1, Some(bad)).unwrap_err();
            assert!(refusal.0.is(Code::BadPageToken), "{bad:?}");
        }
    }
}
