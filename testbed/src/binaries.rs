//! Where the programs are, and whether they are of this source. Owns the finding; building is `cargo`'s business.
//!
//! Beside every binary cargo writes `NAME.d`, a rule that lists each source file that went into it. A binary that is
//! older than one of them would test yesterday's code, so it is refused rather than used.

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fs, time::SystemTime};

/// The programs that a cluster runs.
pub const PROGRAMS: [&str; 2] = ["nexus", "sled-agent"];

/// How to get them.
const ADVICE: &str =
    "`cargo xtask test` builds them first; by hand: cargo build -p nexus -p sled-agent -p sledctl";

/// Finds the directory of the binaries from a test's own place: `target/PROFILE/deps/TEST-HASH`. Refuses absent and
/// stale ones.
pub fn beside_this_test() -> Result<Utf8PathBuf> {
    let test = Utf8PathBuf::try_from(std::env::current_exe().context("finding this test's own binary")?)?;
    let profile_dir =
        test.parent().and_then(Utf8Path::parent).context("this test is not in target/PROFILE/deps")?;
    check(profile_dir)?;
    for program in PROGRAMS {
        check_fresh(profile_dir, program)?;
    }
    Ok(profile_dir.to_owned())
}

/// Refuses a directory without the binaries.
pub fn check(bin_dir: &Utf8Path) -> Result<()> {
    for program in PROGRAMS {
        if !bin_dir.join(program).is_file() {
            bail!("{program} is not built in {bin_dir}: {ADVICE}");
        }
    }
    Ok(())
}

fn check_fresh(bin_dir: &Utf8Path, program: &str) -> Result<()> {
    let built = modified(&bin_dir.join(program))?.context("it was there just now")?;
    let rule_file = bin_dir.join(format!("{program}.d"));
    let rule = fs::read_to_string(&rule_file).with_context(|| format!("reading {rule_file}: {ADVICE}"))?;
    for source in sources(&rule) {
        // A source that is gone since is a change too.
        match modified(&source)? {
            Some(changed) if changed <= built => {}
            Some(_) => bail!("{program} in {bin_dir} is older than {source}: {ADVICE}"),
            None => bail!("{program} in {bin_dir} was built with {source}, which is gone: {ADVICE}"),
        }
    }
    Ok(())
}

fn modified(path: &Utf8Path) -> Result<Option<SystemTime>> {
    match fs::metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(time) => Ok(Some(time)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking at {path}")),
    }
}

/// The prerequisites of a make rule `target: a b\ c`, in which a space in a name is escaped.
fn sources(rule: &str) -> Vec<Utf8PathBuf> {
    let Some((_, prerequisites)) = rule.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let escaped_space = '\u{0}';
    let joined = prerequisites.replace("\\ ", &escaped_space.to_string());
    joined
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace(escaped_space, " ").into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino_tempfile::Utf8TempDir;
    use std::time::Duration;

    #[test]
    fn rules_with_spaces_are_split_right() {
        let found = sources("/t/nexus: /a/b.rs /with\\ space/c.rs\n\n/a/b.rs:\n");
        assert_eq!(found, ["/a/b.rs", "/with space/c.rs"]);
        assert!(sources("").is_empty());
        assert!(sources("/t/nexus:").is_empty());
    }

    #[test]
    fn absent_stale_and_orphaned_binaries_are_refused_with_advice() {
        let temp = Utf8TempDir::new().unwrap();
        let source = temp.path().join("main.rs");
        let refused = |wanted: &str| {
            let refusal = check(temp.path()).and_then(|()| check_fresh(temp.path(), "nexus")).unwrap_err();
            assert!(refusal.to_string().contains(wanted), "{refusal}");
            assert!(refusal.to_string().contains("cargo xtask test"), "{refusal}");
        };
        refused("is not built");
        fs::write(&source, "fn main() {}").unwrap();
        for program in PROGRAMS {
            fs::write(temp.path().join(program), "").unwrap();
        }
        refused("nexus.d");
        fs::write(temp.path().join("nexus.d"), format!("{}: {source}\n", temp.path().join("nexus"))).unwrap();
        let file = fs::File::options().write(true).open(&source).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        check_fresh(temp.path(), "nexus").unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
        refused("is older than");
        fs::remove_file(&source).unwrap();
        refused("is gone");
    }
}
