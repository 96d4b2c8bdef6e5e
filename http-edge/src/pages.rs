//! Tokens of keyset pages.
//!
//! A page ends with the key of its last item; the token of the next page is that key, wrapped so that clients do
//! not start to build tokens themselves. The server keeps nothing between two pages.

use crate::ApiError;
use problem::Code;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Items per page unless the client says otherwise.
const LIMIT_DEFAULT: u32 = 100;

/// Items per page at most: bounds the memory that one request costs.
const LIMIT_MAX: u32 = 1000;

/// The token's format; a token of another version is refused.
const TOKEN_VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Token<K> {
    v: u8,
    after: K,
}

/// Which page a client asks for: so many items after this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// Items at most.
    pub limit: u32,
    /// The key of the last item of the page before.
    pub after: Option<K>,
}

impl<K: DeserializeOwned> PageRequest<K> {
    /// Reads `limit` and `page_token` as they came in the query.
    pub fn parse(limit: Option<u32>, page_token: Option<&str>) -> Result<PageRequest<K>, ApiError> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::new(
                Code::BadRequest,
                format!("limit is {limit}; it may be 1 to {LIMIT_MAX}"),
            ));
        }
        let after = page_token.map(decode).transpose()?;
        Ok(PageRequest { limit, after })
    }
}

/// The token of the page that follows the item with this key.
pub fn token_after<K: Serialize>(key: &K) -> String {
    let json = serde_json::to_vec(&Token { v: TOKEN_VERSION, after: key }).expect("a key is plain data");
    let mut text = String::with_capacity(json.len() * 2);
    for byte in json {
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are one digit"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are one digit"));
    }
    text
}

/// Cuts a list that was read with one item too many into a page and the token of the next.
pub fn cut<T, K: Serialize>(
    mut items: Vec<T>,
    limit: u32,
    key_of: impl Fn(&T) -> K,
) -> (Vec<T>, Option<String>) {
    let limit = limit as usize;
    if items.len() <= limit {
        return (items, None);
    }
    items.truncate(limit);
    let next = items.last().map(|last| token_after(&key_of(last)));
    (items, next)
}

fn decode<K: DeserializeOwned>(text: &str) -> Result<K, ApiError> {
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
    let token: Token<K> = serde_json::from_slice(&json).map_err(|_| refuse())?;
    if token.v == TOKEN_VERSION { Ok(token.after) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_continues_after_its_last_item() {
        let (page, next) = cut(vec![1u32, 2, 3], 2, |item| *item);
        assert_eq!(page, [1, 2]);
        let request = PageRequest::<u32>::parse(Some(2), next.as_deref()).unwrap();
        assert_eq!(request.after, Some(2));
        assert_eq!(cut(vec![3u32], 2, |item| *item), (vec![3], None));
    }

    #[test]
    fn refuses_limits_and_tokens_that_are_not_ours() {
        assert!(PageRequest::<u32>::parse(Some(0), None).is_err());
        assert!(PageRequest::<u32>::parse(Some(1001), None).is_err());
        for bad in ["", "xyz", "0", "é", "7b7d", &token_after(&"text")] {
            assert!(PageRequest::<u32>::parse(None, Some(bad)).is_err(), "{bad:?}");
        }
    }
}
