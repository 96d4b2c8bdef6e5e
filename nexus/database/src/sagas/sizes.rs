//! How many bytes of sagas are read or deleted at once.
//!
//! A number of sagas says nothing about that: the output of a node may have any size. Each call has a limit of time
//! ([`crate::limits`]), so what takes longer than that would never be done; and all that is read is in memory. So whoever
//! goes through many sagas asks for their sizes first, which are told without reading what is large, and takes as many at
//! once as stay below [`BYTES_AT_ONCE`]. One that is larger than that goes by itself: it is executed as a whole, too.

use crate::{
    DatabaseError,
    error::during,
    rows::{text, unsigned},
    sql::{Connection, Value, assembled},
};
use std::collections::BTreeMap;

/// Bytes of the documents of sagas that one transaction reads or deletes, unless one saga has more. Some hundred milliseconds
/// of work, where a statement may take seconds; and in memory some times as much.
pub(super) const BYTES_AT_ONCE: u64 = 8 << 20;

/// What of a saga may be large: its table, its key, the column.
const DOCUMENTS: [(&str, &str, &str); 6] = [
    ("saga", "id", "outcome"),
    ("saga_definition", "saga_id", "params"),
    ("saga_definition", "saga_id", "dag"),
    ("saga_event", "saga_id", "body"),
    ("saga_mark", "saga_id", "mark"),
    ("saga_signal", "saga_id", "value"),
];

/// The bytes of the documents of each of these sagas; none of what does not exist.
pub(super) async fn sizes(
    connection: &mut Connection,
    ids: &[Value],
) -> Result<BTreeMap<String, u64>, DatabaseError> {
    let operation = "measure sagas";
    let places: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
    let places = places.join(", ");
    let of = |(table, key, column): &(&str, &str, &str)| {
        format!("SELECT {key} AS saga, OCTET_LENGTH({column}) AS size FROM {table} WHERE {key} IN ({places})")
    };
    let parts = DOCUMENTS.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ");
    let query = format!(
        "SELECT saga, CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM ({parts}) AS part GROUP BY saga"
    );
    let rows =
        assembled(query.into(), ids.to_vec()).fetch_all(connection).await.map_err(during(operation))?;
    rows.iter().map(|row| Ok((text(row, "saga")?, unsigned(row, "bytes")?))).collect()
}

/// Cuts these into parts that have [`BYTES_AT_ONCE`] at most, or one each.
pub(super) fn parts<T>(all: &[T], bytes: impl Fn(&T) -> u64) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let (mut first, mut sum) = (0, 0_u64);
    for (at, one) in all.iter().enumerate() {
        let size = bytes(one);
        if at > first && sum.saturating_add(size) > BYTES_AT_ONCE {
            parts.push(&all[first..at]);
            (first, sum) = (at, 0);
        }
        sum = sum.saturating_add(size);
    }
    if first < all.len() {
        parts.push(&all[first..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_large_as_may_be_and_what_is_larger_goes_by_itself() {
        let of = |sizes: &[u64]| -> Vec<usize> {
            parts(sizes, |size| *size).iter().map(|part| part.len()).collect()
        };
        assert_eq!(of(&[]), Vec::<usize>::new());
        assert_eq!(of(&[0; 600]), [600]);
        assert_eq!(of(&[BYTES_AT_ONCE, 0, 1, 1]), [2, 2]);
        assert_eq!(of(&[1, u64::MAX, u64::MAX, 1, 2]), [1, 1, 1, 2]);
    }
}
