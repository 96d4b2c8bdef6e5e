//! Files that share their blocks (reflinks). Owns `FICLONE`: whether a disk has it, and a tree of files by it.

use rustix::{fs::ioctl_ficlone, io::Errno};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// How deep directories of a dataset may lie in each other: a region is a file or a few.
const DEPTH_MAX: usize = 8;

/// Whether files of the disk can share blocks: by doing it, with two files that have lost their names before anybody can see them.
pub(super) fn is_possible(first: &Path, second: &Path) -> io::Result<bool> {
    let mut from = create(first, 0o600)?;
    fs::remove_file(first)?;
    let to = create(second, 0o600)?;
    fs::remove_file(second)?;
    from.write_all(&[1; 4096])?;
    match share(&from, &to) {
        Ok(()) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a directory whose files have what those of another one have now, durably. Each file is as at one instant. They can be
/// read, and not written.
pub(super) fn share_tree(from: &Path, to: &Path) -> io::Result<()> {
    share_directory(from, to, 0)
}

fn share_directory(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("there are more than {DEPTH_MAX} directories in each other")));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            share_directory(&from, &to, depth + 1)?;
        } else if kind.is_file() {
            let copy = create(&to, 0o600)?;
            share(&File::open(&from)?, &copy)?;
            copy.set_permissions(Permissions::from_mode(0o444))?;
            copy.sync_all()?;
        } else {
            return Err(io::Error::other(format!("{} is neither file nor directory", from.display())));
        }
    }
    File::open(to)?.sync_all()
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
}

fn share(from: &File, to: &File) -> io::Result<()> {
    ioctl_ficlone(to, from).map_err(io::Error::from)
}

/// What file systems say that have no reflinks: each has its own way. XFS without them: the first; others know no such call.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL | Errno::XDEV)
    )
}
