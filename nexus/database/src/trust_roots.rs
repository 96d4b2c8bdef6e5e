//! Trust roots: whose signatures are believed.

use crate::{
    Database, DatabaseError,
    error::during,
    rows::{key, now, of_table, parsed, signed, text, unsigned},
    sql::{Connection, Row, sql},
};
use ids::TrustRootId;
use jiff::Timestamp;

/// One trust root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRootRow {
    /// Its id.
    pub id: TrustRootId,
    /// SHA-256 of `root_json`, hexadecimal; unique.
    pub fingerprint: String,
    /// The file as it was sent, byte for byte.
    pub root_json: String,
    /// The root's version.
    pub version: u64,
    /// When the root says that it expires.
    pub expires: Timestamp,
    /// When it was added.
    pub created_at: Timestamp,
}

/// A trust root to add.
#[derive(Clone, Debug)]
pub struct NewTrustRoot {
    /// SHA-256 of `root_json`, hexadecimal.
    pub fingerprint: String,
    /// The file as it was sent.
    pub root_json: String,
    /// The root's version; below 2^63.
    pub version: u64,
    /// When the root says that it expires.
    pub expires: Timestamp,
}

impl Database {
    /// Adds a trust root; one that is known already is answered as it is. The flag says whether it is new.
    pub async fn trust_root_insert(&self, new: &NewTrustRoot) -> Result<(TrustRootRow, bool), DatabaseError> {
        let operation = "add a trust root";
        let (id, created_at) = (TrustRootId::generate(), now());
        self.write(operation, |mut tx| {
            Box::pin(async move {
                let changed =
                    sql("INSERT INTO trust_root (id, fingerprint, root_json, version, expires, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (fingerprint) DO NOTHING")
                    .bind(key(&id))
                    .bind(&new.fingerprint)
                    .bind(&new.root_json)
                    .bind(signed(new.version))
                    .bind(key(&new.expires))
                    .bind(key(&created_at))
                    .execute(&mut *tx)
                    .await
                    .map_err(during(operation))?;
                let row =
                    sql("SELECT id, fingerprint, root_json, version, expires, created_at FROM trust_root
                 WHERE fingerprint = $1")
                    .bind(&new.fingerprint)
                    .fetch_one(&mut *tx)
                    .await
                    .map_err(during(operation))?;
                Ok((read_trust_root(&row)?, changed == 1))
            })
        })
        .await
    }

    /// Trust roots after the given one, oldest first, at most `limit`.
    pub async fn trust_roots(
        &self,
        after: Option<TrustRootId>,
        limit: u32,
    ) -> Result<Vec<TrustRootRow>, DatabaseError> {
        let rows = sql("SELECT id, fingerprint, root_json, version, expires, created_at FROM trust_root
             WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(after.map(|id| key(&id)).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await
        .map_err(during("list trust roots"))?;
        rows.iter().map(read_trust_root).collect()
    }

    /// One trust root.
    pub async fn trust_root(&self, id: TrustRootId) -> Result<Option<TrustRootRow>, DatabaseError> {
        let row = sql(
            "SELECT id, fingerprint, root_json, version, expires, created_at FROM trust_root WHERE id = $1",
        )
        .bind(key(&id))
        .fetch_optional(&self.read)
        .await
        .map_err(during("read a trust root"))?;
        row.as_ref().map(read_trust_root).transpose()
    }

    /// Takes a trust root away. Repositories that it vouched for stay; nothing new is believed on its word.
    pub async fn trust_root_delete(&self, id: TrustRootId) -> Result<(), DatabaseError> {
        let operation = "delete a trust root";
        self.write(operation, |mut tx| {
            Box::pin(async move {
                sql("DELETE FROM trust_root WHERE id = $1")
                    .bind(key(&id))
                    .execute(&mut *tx)
                    .await
                    .map(drop)
                    .map_err(during(operation))
            })
        })
        .await
    }
}

/// Whether a trust root is there, seen from within a write.
pub(crate) async fn is_known(tx: &mut Connection, id: TrustRootId) -> Result<bool, DatabaseError> {
    let row = sql("SELECT id FROM trust_root WHERE id = $1")
        .bind(key(&id))
        .fetch_optional(tx)
        .await
        .map_err(during("look for a trust root"))?;
    Ok(row.is_some())
}

fn read_trust_root(row: &Row) -> Result<TrustRootRow, DatabaseError> {
    of_table(row, ("trust_root", "id"), read_trust_root_values)
}

fn read_trust_root_values(row: &Row) -> Result<TrustRootRow, DatabaseError> {
    Ok(TrustRootRow {
        id: parsed(row, "id")?,
        fingerprint: text(row, "fingerprint")?,
        root_json: text(row, "root_json")?,
        version: unsigned(row, "version")?,
        expires: parsed(row, "expires")?,
        created_at: parsed(row, "created_at")?,
    })
}
