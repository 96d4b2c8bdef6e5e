//! A volume over NBD: exported and taken back, by each way once. The volume's own socket is for jobs; each export has a door of its own
//! ([`volume_export`]), so that one is taken back while others go on.
//!
//! | way | clients find it at | called |
//! |---|---|---|
//! | `unix`, read-only or read/write | `<volume>.ro`, `<volume>.rw` beside the volume's own socket | nothing |
//! | `tcp`, read-only or read/write | the sled's address, and a port | the volume's id: who comes back to a port that another volume has by then is refused |

use crate::{
    attached::Attached,
    board::{Place, Way},
    error::PantryError,
};
use camino::Utf8PathBuf;
use ids::VolumeId;
use sled_client::pantry::{ExportListen, Exported, PantryExport, UnexportAnswer, UnexportResult};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};
use volume_export::{
    Address, ClosedDoor, DoorError, DoorOrder, DoorStatus, ExportError, ExportStatus, NoAnswer, OpenDoor,
};

/// Clients of one export at a time: as many connections as tools open for one copy (16), or a guest for one disk.
pub(crate) const CLIENTS_MAX: usize = 16;

impl Attached {
    /// Exports it by this way; over TCP at this address, and at the port if one is said. Where clients find it.
    pub(crate) fn export(
        &self,
        way: Way,
        address: Option<IpAddr>,
        port: Option<NonZeroU16>,
    ) -> Result<String, PantryError> {
        self.check_usable(way.how == Exported::ReadWrite)?;
        let place = match way.listen {
            ExportListen::Unix => Address::Unix(self.socket_of(way.how)),
            ExportListen::Tcp => {
                let address = address.ok_or(PantryError::ExportAddressMissing)?;
                Address::Tcp(SocketAddr::new(address, port.map_or(0, NonZeroU16::get)))
            }
        };
        if let Place::Known(door) = self.board.begin_export(self.id, way)? {
            return match (&place, &door.address) {
                (Address::Tcp(wanted), Address::Tcp(there))
                    if wanted.ip() != there.ip() || ![0, there.port()].contains(&wanted.port()) =>
                {
                    Err(PantryError::ExportConflict { id: self.id, uri: self.uri(&door) })
                }
                _ => Ok(self.uri(&door)),
            };
        }
        match self.open(way, place) {
            Ok(door) => {
                let uri = self.uri(&door);
                tracing::info!(volume = %self.id, uri, how = ?way.how, "volume exported");
                self.board.note_door(way, door);
                Ok(uri)
            }
            Err(error) => {
                self.board.end_export(way);
                Err(error)
            }
        }
    }

    fn open(&self, way: Way, address: Address) -> Result<OpenDoor, PantryError> {
        let name = match way.listen {
            ExportListen::Unix => String::new(),
            ExportListen::Tcp => self.id.to_string(),
        };
        let is_read_only = way.how == Exported::ReadOnly;
        let order = DoorOrder { address, name, is_read_only, clients_max: CLIENTS_MAX };
        let opened = self.handle.open_door(order).map_err(|gone| self.no_answer(gone))?;
        opened.map_err(|error| match error {
            ExportError::Listen { address: Address::Tcp(address), source } => match source.kind() {
                io::ErrorKind::AddrInUse => PantryError::ExportPortTaken(address),
                io::ErrorKind::AddrNotAvailable => PantryError::ExportAddress(address.ip()),
                _ => ExportError::Listen { address: Address::Tcp(address), source }.into(),
            },
            error => error.into(),
        })
    }

    /// Takes an export back; done if there is none. If clients use it, only if that `is_forced`.
    pub(crate) fn unexport(&self, way: Way, is_forced: bool) -> Result<UnexportAnswer, PantryError> {
        let gone = UnexportAnswer { result: UnexportResult::GoneAlready, clients: 0, flushed: true };
        let Some(door) = self.board.door(way) else { return Ok(gone) };
        let answer = match self.handle.close_door(door.id, is_forced) {
            Ok(Ok(ClosedDoor { clients, is_flushed })) => {
                tracing::info!(volume = %self.id, clients, flushed = is_flushed, "export taken back");
                UnexportAnswer { result: UnexportResult::Ended, clients, flushed: is_flushed }
            }
            Ok(Err(DoorError::InUse { clients, .. })) => {
                return Err(PantryError::ExportInUse { id: self.id, clients });
            }
            Ok(Err(DoorError::NotThere(_))) | Err(NoAnswer::Gone) => gone,
            Err(error) => return Err(self.no_answer(error)),
        };
        self.board.end_export(way);
        Ok(answer)
    }

    /// Its exports, as they are told.
    pub(crate) fn exports(&self, status: &ExportStatus) -> Vec<PantryExport> {
        let tell = |(way, door): (Way, OpenDoor)| {
            let told: &DoorStatus = status.doors.iter().find(|told| told.id == door.id)?;
            Some(PantryExport {
                listen: way.listen,
                read_only: way.how == Exported::ReadOnly,
                uri: self.uri(&door),
                clients: told.clients,
                clients_max: told.clients_max,
                clients_refused: told.clients_refused,
            })
        };
        self.board.doors().into_iter().filter_map(tell).collect()
    }

    fn socket_of(&self, how: Exported) -> Utf8PathBuf {
        self.socket.with_extension(extension(how))
    }

    fn uri(&self, door: &OpenDoor) -> String {
        uri(self.id, &door.address)
    }
}

/// What the name of an export's socket ends with.
fn extension(how: Exported) -> &'static str {
    match how {
        Exported::ReadOnly => "ro",
        Exported::ReadWrite => "rw",
    }
}

/// Whether a file's name is one that a volume's socket has.
pub(crate) fn is_sockets_name(name: &str) -> bool {
    let parts = name.rsplit_once('.');
    let ours = ["nbd", extension(Exported::ReadOnly), extension(Exported::ReadWrite)];
    parts.is_some_and(|(volume, end)| ours.contains(&end) && volume.parse::<VolumeId>().is_ok())
}

fn uri(id: VolumeId, address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("nbd+unix:///?socket={}", escaped(path.as_str())),
        Address::Tcp(address) => format!("nbd://{address}/{id}"),
    }
}

/// A path as a part of a URI.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_what_clients_take_and_names_the_volume_where_others_may_come_later() {
        let id = VolumeId::generate();
        assert_eq!(uri(id, &Address::Unix("/a b/c.rw".into())), "nbd+unix:///?socket=/a%20b/c.rw");
        for address in ["127.0.1.1:10809", "[fd00::1]:10809"] {
            let told = uri(id, &Address::Tcp(address.parse().unwrap()));
            assert_eq!(told, format!("nbd://{address}/{id}"));
        }
    }

    #[test]
    fn sockets_of_volumes_are_known_by_their_names_and_nothing_else_is() {
        let id = VolumeId::generate().0.simple();
        for end in ["nbd", "ro", "rw"] {
            assert!(is_sockets_name(&format!("{id}.{end}")));
        }
        for other in ["socket", "lock", "x.nbd", ".ro", &format!("{id}"), &format!("{id}.nbd.old")] {
            assert!(!is_sockets_name(other), "{other}");
        }
    }
}
