//! Where a database is: a file, or a server. Owns the reading of the operator's words, and never says a password.

use camino::{Utf8Path, Utf8PathBuf};
use sqlx::postgres::PgConnectOptions;
use std::{fmt, io, str::FromStr};
use thiserror::Error;

/// Bytes of a password file at most.
const PASSWORD_BYTES_MAX: usize = 4_096;

/// Where a database is.
#[derive(Clone)]
pub enum Location {
    /// SQLite, in this file.
    Sqlite(Utf8PathBuf),
    /// PostgreSQL.
    Postgres(PostgresLocation),
}

/// A database of a PostgreSQL server.
#[derive(Clone)]
pub struct PostgresLocation {
    pub(crate) options: Box<PgConnectOptions>,
    /// Without any password.
    url: String,
    password_file: Option<Utf8PathBuf>,
}

/// Words that are no location.
#[derive(Debug, Error)]
pub enum LocationError {
    /// It is of no kind that is known.
    #[error("{url:?} is no database: say \"sqlite\", or postgres://USER@HOST:PORT/DATABASE")]
    Kind {
        /// What was said, without a password.
        url: String,
    },
    /// It is no URL of a PostgreSQL database.
    #[error("{url:?} is no URL of a PostgreSQL database, which is postgres://USER@HOST:PORT/DATABASE")]
    Url {
        /// What was said.
        url: String,
        /// Why.
        #[source]
        source: crate::SqlError,
    },
    /// A part of it is missing.
    #[error("{url:?} names no {part}: say postgres://USER@HOST:PORT/DATABASE")]
    Missing {
        /// What was said.
        url: String,
        /// The part.
        part: &'static str,
    },
    /// The password is in the URL, which logs and process lists show.
    #[error(
        "the URL of the database holds a password: put it into a file that only this user can read, and name that file as password_file"
    )]
    PasswordInUrl,
    /// The password file can not be used.
    #[error("cannot read the password file {path}")]
    PasswordFile {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is a password, and nothing that asks for one.
    #[error("password_file is for PostgreSQL; with SQLite, leave it out")]
    PasswordOfNothing,
}

impl Location {
    /// Reads what the operator said: `sqlite`, which is the file `sqlite_file`, or a `postgres://` URL.
    ///
    /// # Errors
    /// [`LocationError`], which never says a password.
    pub fn parse(
        url: &str,
        password_file: Option<&Utf8Path>,
        sqlite_file: &Utf8Path,
    ) -> Result<Location, LocationError> {
        if url == "sqlite" {
            return match password_file {
                None => Ok(Location::Sqlite(sqlite_file.to_owned())),
                Some(_) => Err(LocationError::PasswordOfNothing),
            };
        }
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        if scheme != "postgres" && scheme != "postgresql" {
            return Err(LocationError::Kind { url: scheme.to_owned() });
        }
        let (authority, path) = rest.split_once(['/', '?']).unwrap_or((rest, ""));
        let (user, _host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') || rest.contains("password=") {
            return Err(LocationError::PasswordInUrl);
        }
        let missing = |part| Err(LocationError::Missing { url: url.to_owned(), part });
        if user.is_empty() {
            return missing("user");
        }
        if path.split('?').next().is_none_or(str::is_empty) || !rest.contains('/') {
            return missing("database");
        }
        let mut options = PgConnectOptions::from_str(url)
            .map_err(|source| LocationError::Url { url: url.to_owned(), source: source.into() })?
            .application_name("nexus");
        if let Some(file) = password_file {
            options = options.password(&read_password(file)?);
        }
        Ok(Location::Postgres(PostgresLocation {
            options: Box::new(options),
            url: url.to_owned(),
            password_file: password_file.map(Utf8Path::to_owned),
        }))
    }
}

fn read_password(path: &Utf8Path) -> Result<String, LocationError> {
    let failed = |source| LocationError::PasswordFile { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX || password.contains('\n') {
        let words = "it must hold one line: the password, and nothing else";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, words)));
    }
    Ok(password.to_owned())
}

impl PostgresLocation {
    /// The URL, without any password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file that holds the password.
    #[must_use]
    pub fn password_file(&self) -> Option<&Utf8Path> {
        self.password_file.as_deref()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Sqlite(path) => f.write_str(path.as_str()),
            Location::Postgres(server) => f.write_str(&server.url),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl fmt::Debug for PostgresLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresLocation({})", self.url)
    }
}

impl From<&Utf8Path> for Location {
    fn from(path: &Utf8Path) -> Location {
        Location::Sqlite(path.to_owned())
    }
}

impl From<&Utf8PathBuf> for Location {
    fn from(path: &Utf8PathBuf) -> Location {
        Location::Sqlite(path.clone())
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Location, LocationError> {
        Location::parse(url, None, Utf8Path::new("/state/nexus.db"))
    }

    #[test]
    fn a_location_is_a_file_or_a_server() {
        assert_eq!(parse("sqlite").unwrap().to_string(), "/state/nexus.db");
        for url in [
            "postgres://nexus@db.rack:5433/bobsled",
            "postgresql://nexus@[::1]/bobsled?sslmode=disable",
            "postgres://nexus@%2Frun%2Fpostgresql/bobsled",
        ] {
            assert_eq!(parse(url).unwrap().to_string(), url);
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for url in ["postgres://nexus:hunter2@db/bobsled", "postgres://nexus@db/bobsled?password=hunter2"] {
            let refused = parse(url).unwrap_err();
            assert!(matches!(refused, LocationError::PasswordInUrl));
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |url| match parse(url).unwrap_err() {
            LocationError::Missing { part, .. } => part,
            other => panic!("{other}"),
        };
        assert_eq!(missing("postgres://db/bobsled"), "user");
        assert_eq!(missing("postgres://nexus@db"), "database");
        assert_eq!(missing("postgres://nexus@db/"), "database");
        assert!(
            matches!(parse("mysql://u:secret@h/d").unwrap_err(), LocationError::Kind { url } if url == "mysql")
        );
    }

    #[test]
    fn the_password_comes_from_a_file_of_one_line() {
        let dir = camino_tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let with =
            || Location::parse("postgres://nexus@db/bobsled", Some(&file), Utf8Path::new("/state/nexus.db"));
        assert!(matches!(with().unwrap_err(), LocationError::PasswordFile { .. }));
        std::fs::write(&file, "hunter2\n").unwrap();
        assert!(!format!("{:?}", with().unwrap()).contains("hunter2"));
        std::fs::write(&file, "two\nlines").unwrap();
        assert!(matches!(with().unwrap_err(), LocationError::PasswordFile { .. }));
        let for_sqlite = Location::parse("sqlite", Some(&file), Utf8Path::new("/state/nexus.db"));
        assert!(matches!(for_sqlite.unwrap_err(), LocationError::PasswordOfNothing));
    }
}
