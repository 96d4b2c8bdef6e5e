//! Which names an entry of the archive may have. Pure.
//!
//! Nothing is ever extracted, so a hostile name can not write anywhere. It is refused all the same: whoever
//! made such an archive did not make a release, and other tools that read the same file do extract.

use problem::Code;

/// The longest name that is accepted, in bytes: a path of Linux (`PATH_MAX` is 4096) with room to spare, and a
/// bound on what the index keeps per entry.
pub(crate) const NAME_BYTES_MAX: usize = 1024;

/// Checks the raw name of an entry. Returns the name without the slash that marks a directory.
///
/// # Errors
/// The code and the reason of the refusal.
pub(crate) fn check_name(raw: &[u8]) -> Result<&str, (Code, String)> {
    let unsupported = |reason: &str| (Code::ZipEntryUnsupported, reason.to_owned());
    let Ok(name) = std::str::from_utf8(raw) else {
        return Err(unsupported("the name is not UTF-8"));
    };
    // Some tools take a backslash for a separator, so the two rules that matter most see it as one.
    let slashed = name.replace('\\', "/");
    if slashed.starts_with('/') || has_drive(&slashed) {
        return Err((Code::ZipPathAbsolute, "the name is absolute".to_owned()));
    }
    if slashed.split('/').any(|part| part == "..") {
        return Err((Code::ZipPathTraversal, "the name has a '..' part".to_owned()));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err((
            Code::ZipEntryUnsupported,
            format!("the name has {} bytes, {NAME_BYTES_MAX} are accepted", name.len()),
        ));
    }
    if name.contains('\\') {
        return Err(unsupported("the name has a backslash"));
    }
    if name.chars().any(char::is_control) {
        return Err(unsupported("the name has a control character"));
    }
    let plain = name.strip_suffix('/').unwrap_or(name);
    if plain.split('/').any(|part| part.is_empty() || part == ".") {
        return Err(unsupported("the name has an empty or '.' part, so that one file could have two names"));
    }
    Ok(plain)
}

/// The name as it may be shown: whatever it holds, short and printable.
pub(crate) fn shown(raw: &[u8]) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    String::from_utf8_lossy(raw).chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// `C:` and its like.
fn has_drive(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic()) && chars.next() == Some(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_accepted_and_lose_the_slash_of_a_directory() {
        for (raw, plain) in [
            ("repo/metadata/1.root.json", "repo/metadata/1.root.json"),
            ("targets/", "targets"),
            ("targets/a b+c_d.tar.gz", "targets/a b+c_d.tar.gz"),
            ("targets/..hidden", "targets/..hidden"),
            ("targets/é", "targets/é"),
        ] {
            assert_eq!(check_name(raw.as_bytes()), Ok(plain));
        }
    }

    #[test]
    fn each_bad_name_is_refused_with_its_own_code() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        let cases: [(&[u8], Code); 16] = [
            (b"../x", Code::ZipPathTraversal),
            (b"targets/../../x", Code::ZipPathTraversal),
            (b"targets/..", Code::ZipPathTraversal),
            (b"targets\\..\\x", Code::ZipPathTraversal),
            (b"/etc/passwd", Code::ZipPathAbsolute),
            (b"\\\\host\\share", Code::ZipPathAbsolute),
            (b"C:\\x", Code::ZipPathAbsolute),
            (b"c:x", Code::ZipPathAbsolute),
            (b"targets\\x", Code::ZipEntryUnsupported),
            (b"targets/x\0y", Code::ZipEntryUnsupported),
            (b"targets/\xff\xfe", Code::ZipEntryUnsupported),
            (b"targets//x", Code::ZipEntryUnsupported),
            (b"./targets/x", Code::ZipEntryUnsupported),
            (b"", Code::ZipEntryUnsupported),
            (b"targets/\x1b[2J", Code::ZipEntryUnsupported),
            (long.as_bytes(), Code::ZipEntryUnsupported),
        ];
        for (raw, code) in cases {
            assert_eq!(check_name(raw).unwrap_err().0, code, "{}", shown(raw));
        }
    }

    #[test]
    fn a_shown_name_is_short_and_printable() {
        assert_eq!(shown(b"a\x1b\xff"), "a\\u{1b}\u{fffd}");
        assert!(shown(&[b'a'; 5000]).len() <= 200);
    }
}
