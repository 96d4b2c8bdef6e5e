//! What a volume is attached by: its construction request, and what is said beside it of how its holder does its work. That may change at any time,
//! is no part of what the volume is, and needs no newer version of the request.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};
use std::num::NonZeroU64;
use utoipa::ToSchema;
use volume_repair::ConstructionRequest;

/// A construction request, and how fast members are filled at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttachOrder {
    /// What the volume is.
    #[serde(flatten)]
    pub request: ConstructionRequest,
    /// Members are filled with so many bytes in a second at most, of each region set; from 1 on. As fast as it goes, if it is null or not said. Of a
    /// volume that is attached it changes what was said before, while everything goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub repair_bytes_per_second: Option<NonZeroU64>,
}

impl<'de> Deserialize<'de> for AttachOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AttachOrder, D::Error> {
        // What no request has is refused, which a flattened struct would not do.
        let mut fields = Map::deserialize(deserializer)?;
        let rate = fields.remove("repair_bytes_per_second").unwrap_or_default();
        let rate = serde_json::from_value(rate)
            .map_err(|error| D::Error::custom(format!("repair_bytes_per_second: {error}")))?;
        let request = serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)?;
        Ok(AttachOrder { request, repair_bytes_per_second: rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volume_repair::{FilePart, SubVolume};

    #[test]
    fn a_rate_is_from_1_on_or_none_and_stands_beside_what_a_request_has() {
        let parts = vec![SubVolume::File(FilePart { path: "/image".into() })];
        let request = ConstructionRequest::first(uuid::Uuid::from_u128(7), 0, 4096, parts);
        let read = |rate: Option<Value>| {
            let mut body = serde_json::to_value(&request).unwrap();
            body.as_object_mut()
                .unwrap()
                .extend(rate.map(|rate| ("repair_bytes_per_second".to_owned(), rate)));
            serde_json::from_value::<AttachOrder>(body).map_err(|error| error.to_string())
        };
        for (said, rate) in
            [(None, 0), (Some(Value::Null), 0), (Some(1.into()), 1), (Some((1u64 << 40).into()), 1 << 40)]
        {
            let order = read(said).unwrap();
            assert_eq!((&order.request, order.repair_bytes_per_second), (&request, NonZeroU64::new(rate)));
            let again = serde_json::from_value(serde_json::to_value(&order).unwrap());
            assert_eq!(again.ok(), Some(order));
        }
        for wrong in
            [Value::from(0), Value::from(-1), Value::from(1.5), Value::from("100MiB"), Value::from(true)]
        {
            let refused = read(Some(wrong)).unwrap_err();
            assert!(refused.contains("repair_bytes_per_second"), "{refused}");
        }
        let mut other = serde_json::to_value(&request).unwrap();
        other["repair_rate"] = 1.into();
        assert!(serde_json::from_value::<AttachOrder>(other).is_err());
    }
}
