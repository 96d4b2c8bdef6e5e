//! The body of an attachment: a construction request, and whether it is to be activated, which may as well be in the query.

use http_edge::ApiError;
use problem::Code;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use sled_client::pantry::{Activate, AttachQuery};
use utoipa::ToSchema;
use volume_pantry::AttachOrder;

/// A construction request, how fast members are filled at most, and whether the volume reads and writes from now on.
#[derive(Debug, ToSchema)]
pub(super) struct AttachBody {
    #[serde(flatten)]
    pub(super) order: AttachOrder,
    /// As in the query; `now` if neither says it.
    activate: Option<Activate>,
}

/// The query as it came.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct GivenQuery {
    executor_epoch: u64,
    activate: Option<Activate>,
}

impl<'de> Deserialize<'de> for AttachBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AttachBody, D::Error> {
        // What no request has is refused, which a flattened struct would not do.
        let mut fields = Map::deserialize(deserializer)?;
        let activate = fields.remove("activate").map(serde_json::from_value).transpose();
        let order = serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)?;
        Ok(AttachBody { order, activate: activate.map_err(D::Error::custom)?.flatten() })
    }
}

impl AttachBody {
    /// What is asked by both together.
    ///
    /// # Errors
    /// `bad_request`, if they say two things.
    pub(super) fn query(&self, given: GivenQuery) -> Result<AttachQuery, ApiError> {
        let activate = match (given.activate, self.activate) {
            (Some(query), Some(body)) if query != body => {
                let words =
                    format!("activate is {query:?} in the query and {body:?} in the body: say it once");
                return Err(ApiError::new(Code::BadRequest, words));
            }
            (query, body) => query.or(body).unwrap_or_default(),
        };
        Ok(AttachQuery { executor_epoch: given.executor_epoch, activate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = r#"{"id":"00000000-0000-0000-0000-000000000007","config_version":1,"epoch":0,"block_size":4096,
        "sub_volumes":[{"file":{"path":"/images/a.img"}}]MORE}"#;

    fn body(more: &str) -> Result<AttachBody, serde_json::Error> {
        serde_json::from_str(&REQUEST.replace("MORE", more))
    }

    #[test]
    fn it_may_say_whether_the_volume_is_activated_and_nothing_else_that_no_request_has() {
        let given = |activate| GivenQuery { executor_epoch: 3, activate };
        let asked = |more: &str, activate| {
            let query = body(more).unwrap().query(given(activate));
            query.map(|query| query.activate).map_err(|error| error.0.code)
        };
        let later = r#","activate":"later""#;
        assert_eq!(asked("", None), Ok(Activate::Now));
        assert_eq!(asked(later, None), Ok(Activate::Later));
        assert_eq!(asked("", Some(Activate::Never)), Ok(Activate::Never));
        assert_eq!(asked(later, Some(Activate::Later)), Ok(Activate::Later));
        assert_eq!(asked(later, Some(Activate::Now)), Err(Code::BadRequest.name().to_owned()));
        for wrong in [r#","activate":"soon""#, r#","activated":"now""#, r#","key":"00""#] {
            assert!(body(wrong).is_err(), "{wrong}");
        }
    }
}
