//! Which keys a query string may have: those that the type knows which it becomes.
//!
//! Every derived `Deserialize` of a struct hands the names of its fields to its deserializer before it asks for a value.
//! So the names are had by deserializing from nothing, with a deserializer that notes them and then gives up. Types
//! that are no plain structs name nothing, and take what they like.

use crate::ApiError;
use problem::Code;
use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor, value::Error},
    forward_to_deserialize_any,
};
use url::form_urlencoded;

/// Refuses a query string with a key that `T` has no field for.
pub(crate) fn check<T: DeserializeOwned>(query: &str) -> Result<(), ApiError> {
    let Some(known) = fields_of::<T>() else { return Ok(()) };
    match form_urlencoded::parse(query.as_bytes()).find(|(key, _)| !known.contains(&key.as_ref())) {
        None => Ok(()),
        Some((key, _)) => {
            let detail = format!("the query has no key {key:?}; it may have: {}", known.join(", "));
            Err(ApiError::new(Code::BadRequest, detail))
        }
    }
}

/// The names of a struct's fields.
fn fields_of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut fields = None;
    // It always fails: what it was after is in `fields`.
    let _ = T::deserialize(FieldNames(&mut fields));
    fields
}

/// A deserializer of nothing, which notes the names of the fields that it is asked for.
struct FieldNames<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Some(fields);
        Err(serde::de::Error::custom("only the names were asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("this is no struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    struct Wait {
        #[allow(dead_code, reason = "only its name matters")]
        wait_ms: Option<u64>,
    }

    #[test]
    fn a_key_that_the_type_does_not_know_is_refused_with_those_that_it_does() {
        assert!(check::<Wait>("").is_ok());
        assert!(check::<Wait>("wait_ms=5").is_ok());
        assert!(check::<Wait>("wait%5Fms=5").is_ok(), "keys are compared as they are meant");
        let refusal = check::<Wait>("wait_ms=5&wait=5").unwrap_err();
        assert!(refusal.0.is(Code::BadRequest));
        assert_eq!(refusal.0.detail, "the query has no key \"wait\"; it may have: wait_ms");
    }

    #[test]
    fn types_that_name_no_keys_take_any() {
        assert!(check::<BTreeMap<String, String>>("anything=1").is_ok());
        assert!(check::<()>("anything=1").is_ok());
    }
}
