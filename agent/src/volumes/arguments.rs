//! What is written on the command line: sizes, places of regions, sockets. Reads text; touches nothing.

use camino::Utf8PathBuf;
use std::{
    net::SocketAddr,
    num::{NonZeroU64, ParseIntError},
    str::FromStr,
};
use volume_export::Address;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let with_unit = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
        let (number, shift) = with_unit.unwrap_or((text, 0));
        let number: u64 = number.trim().parse().map_err(SizeError::Number)?;
        number.checked_mul(1 << shift).map(Size).ok_or(SizeError::TooLarge)
    }
}

/// A text that is no number of bytes.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// Not a number.
    #[error("a size is a number of bytes, or one with KiB, MiB, GiB or TiB")]
    Number(#[source] ParseIntError),
    /// No disk is so large.
    #[error("it is more than any disk has")]
    TooLarge,
}

/// Bytes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub(super) NonZeroU64);

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        let Size(bytes) = text.parse().map_err(RateError::Size)?;
        NonZeroU64::new(bytes).map(Rate).ok_or(RateError::Nothing)
    }
}

/// Bytes in a second, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateOrNone(pub(super) Option<NonZeroU64>);

impl FromStr for RateOrNone {
    type Err = RateError;

    fn from_str(text: &str) -> Result<RateOrNone, RateError> {
        match text {
            "none" => Ok(RateOrNone(None)),
            text => text.parse().map(|Rate(rate)| RateOrNone(Some(rate))),
        }
    }
}

/// A text that is no number of bytes in a second.
#[derive(Debug, thiserror::Error)]
pub enum RateError {
    /// No number of bytes.
    #[error(transparent)]
    Size(SizeError),
    /// Nothing would ever end.
    #[error(
        "with 0 bytes in a second nothing would ever be repaired: leave it out, or say none where that may be said, for no limit"
    )]
    Nothing,
}

/// A directory with regions, and where they are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) directory: Utf8PathBuf,
    pub(super) address: SocketAddr,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, &'static str> {
        let parts = text.rsplit_once('@').ok_or("a member is DIRECTORY@ADDRESS:PORT")?;
        let address = parts.1.parse().map_err(|_| "behind the @ there is no ADDRESS:PORT")?;
        Ok(Place { directory: Utf8PathBuf::from(parts.0), address })
    }
}

/// Where clients come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAt(pub(super) Address);

impl FromStr for ListenAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ListenAt, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(ListenAt(Address::Unix(Utf8PathBuf::from(path))));
        }
        let address = text.strip_prefix("tcp:").and_then(|address| address.parse().ok());
        address.map(|address| ListenAt(Address::Tcp(address))).ok_or("it is unix:PATH or tcp:ADDRESS:PORT")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_and_not_nothing() {
        let read =
            |text: &str| text.parse::<Rate>().map(|rate| rate.0.get()).map_err(|error| error.to_string());
        assert_eq!(read("100MiB"), Ok(100 << 20));
        assert_eq!(read("1"), Ok(1));
        assert!(read("0KiB").is_err_and(|why| why.contains("leave it out")));
        assert!(read("fast").is_err_and(|why| why.contains("KiB")));
        let read = |text: &str| text.parse::<RateOrNone>().map(|rate| rate.0.map(NonZeroU64::get)).ok();
        assert_eq!(
            (read("1KiB"), read("none"), read("0"), read("")),
            (Some(Some(1024)), Some(None), None, None)
        );
    }

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let read = |text: &str| text.parse::<Size>().map(|size| size.0).ok();
        assert_eq!(read("4096"), Some(4_096));
        assert_eq!(read("2GiB"), Some(2 << 30));
        assert_eq!(read("3 MiB"), Some(3 << 20));
        for wrong in ["", "GiB", "2GB", "-1", "99999999TiB", "1.5GiB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn members_and_sockets_are_read_as_they_are_told() {
        let place: Place = "/disks/a@b@127.0.0.1:12400".parse().expect("it is one");
        assert_eq!(place.directory, "/disks/a@b");
        assert!("/disks/a".parse::<Place>().is_err() && "/disks/a@nowhere".parse::<Place>().is_err());
        assert!("unix:/run/x".parse::<ListenAt>().is_ok() && "tcp:127.0.0.1:1".parse::<ListenAt>().is_ok());
        assert!("/run/x".parse::<ListenAt>().is_err());
    }
}
