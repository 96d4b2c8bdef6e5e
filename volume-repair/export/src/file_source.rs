//! A file that is a part of a volume, or lies under one. Owns its descriptor, which can do nothing but read, and the proof that it is still
//! the file that was opened.

use crate::sources::SourceError;
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;
use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    time::SystemTime,
};

/// A file that is open.
#[derive(Debug)]
pub(crate) struct FileSource {
    file: File,
    size: u64,
    modified: SystemTime,
}

/// Why bytes of it were not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    #[error(
        "the file was changed since it was opened: what was read of it before may not fit what it has now"
    )]
    Changed,
}

impl FileSource {
    /// Opens a file that has whole blocks.
    pub(crate) fn open(path: &Utf8Path, block_bytes: u64) -> Result<FileSource, SourceError> {
        let path = || Utf8PathBuf::from(path);
        let failed = |source| SourceError::NotOpened { path: path(), source };
        // One that is no file might wait for somebody at its other end.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags are few");
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path()).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(SourceError::NotAFile { path: path() });
        }
        let size = metadata.len();
        if size == 0 {
            return Err(SourceError::Empty { path: path() });
        }
        if !size.is_multiple_of(block_bytes) {
            return Err(SourceError::HalfBlock { path: path(), bytes: size, block: block_bytes });
        }
        Ok(FileSource { size, modified: metadata.modified().map_err(failed)?, file })
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// So many of its bytes from there on. Waits for the disk.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Bytes, FileError> {
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, offset);
        // Behind the reading: whoever changes it later has not changed what was read.
        let is_same = |metadata: Metadata| {
            Ok::<bool, io::Error>(metadata.len() == self.size && metadata.modified()? == self.modified)
        };
        if !self.file.metadata().and_then(is_same).map_err(FileError::Read)? {
            return Err(FileError::Changed);
        }
        read.map_err(FileError::Read)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_no_file_of_whole_blocks_is_refused_by_name() {
        let directory = camino_tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let code = |path: &Utf8Path| FileSource::open(path, 512).unwrap_err().code();
        assert_eq!(code(&path), "volume_file_not_opened");
        assert_eq!(code(directory.path()), "volume_file_kind");
        rustix::fs::mkfifoat(rustix::fs::CWD, directory.path().join("fifo").as_str(), rustix::fs::Mode::RWXU)
            .unwrap();
        assert_eq!(code(&directory.path().join("fifo")), "volume_file_kind");
        for (length, expected) in
            [(0, "volume_source_empty"), (511, "volume_source_size"), (513, "volume_source_size")]
        {
            fs::write(&path, vec![1; length]).unwrap();
            assert_eq!(code(&path), expected);
        }
    }

    #[test]
    fn a_file_is_read_until_it_is_changed() {
        let directory = camino_tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        fs::write(&path, [[1; 512], [2; 512]].concat()).unwrap();
        let file = FileSource::open(&path, 512).unwrap();
        assert_eq!((file.size(), file.read(512, 512).unwrap()), (1_024, Bytes::from(vec![2; 512])));
        let set_modified =
            |time| File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        set_modified(SystemTime::UNIX_EPOCH);
        assert!(matches!(file.read(0, 512), Err(FileError::Changed)));
        set_modified(file.modified);
        assert_eq!(file.read(0, 512).unwrap(), Bytes::from(vec![1; 512]));
        File::options().append(true).open(&path).unwrap().set_len(512).unwrap();
        set_modified(file.modified);
        assert!(matches!(file.read(512, 512), Err(FileError::Changed)));
    }
}
