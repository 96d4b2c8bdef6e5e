//! What is mounted where, as the kernel has it. Looking needs neither the disk nor its daemon, so it never hangs.

use camino::Utf8Path;
use std::{fs, io};

/// This process's mounts.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Whether that dataset of ZFS is what is mounted there.
///
/// # Errors
/// If the system does not tell its mounts.
pub fn is_mounted(dataset: &str, directory: &Utf8Path) -> io::Result<bool> {
    Ok(source_at(&fs::read_to_string(MOUNTS)?, directory).is_some_and(|source| source == dataset))
}

/// What is mounted there, if that is ZFS, and is to be seen there: what was mounted later there, or above it, hides it.
fn source_at<'a>(mounts: &'a str, directory: &Utf8Path) -> Option<&'a str> {
    // id, parent, device, root, mountpoint, …
    let place = |line: &str| line.split(' ').nth(4).map(unescaped);
    let last = mounts.lines().rev().find(|line| place(line).is_some_and(|at| directory.starts_with(at)))?;
    if place(last)? != directory.as_str() {
        return None;
    }
    // … - kind, source, options
    let (_, of_source) = last.split_once(" - ")?;
    let (kind, rest) = of_source.split_once(' ')?;
    let source = rest.split(' ').next()?;
    matches!(kind, "zfs" | "fuse.zfs").then_some(source)
}

/// The kernel writes space, tab, line feed and backslash as three octal digits.
fn unescaped(path: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.into_iter().fold(path.to_owned(), |path, (written, meant)| path.replace(written, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
60 1 0:30 / / rw,relatime - ext4 /dev/vda rw
66 60 0:42 / /tank rw,relatime shared:1 - zfs tank rw,xattr
67 66 0:43 / /tank/bob rw - fuse.zfs tank/bob rw,user_id=0
68 66 0:44 / /tank/a\\040b rw - zfs tank/spaced rw
69 66 0:45 / /tank/hidden rw - zfs tank/hidden rw
70 66 0:46 / /tank/hidden rw - tmpfs none rw
71 66 0:47 / /tank/ext rw - ext4 tank/ext rw
72 60 0:48 / /pool/below rw - zfs pool/below rw
73 60 0:49 / /pool rw - zfs pool rw
";

    #[test]
    fn what_is_mounted_last_counts_and_only_zfs() {
        for (directory, source) in [
            ("/tank", Some("tank")),
            ("/tank/bob", Some("tank/bob")),
            ("/tank/a b", Some("tank/spaced")),
            ("/tank/hidden", None),
            ("/tank/ext", None),
            ("/", None),
            ("/tank/none", None),
            ("/pool", Some("pool")),
            ("/pool/below", None),
        ] {
            assert_eq!(source_at(LINES, Utf8Path::new(directory)), source, "{directory}");
        }
        assert!(!is_mounted("tank/bob", Utf8Path::new("/proc")).unwrap());
    }
}
