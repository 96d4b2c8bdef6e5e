//! Under which user the server runs. PostgreSQL refuses root, so root lends it another user.

use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

/// Users that root may run it as, best first. The first one comes with PostgreSQL's package.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// A user that is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// Whoever runs this.
    Own,
    /// Another one, whose rights root takes on.
    Other { user: u32, group: u32 },
}

impl Account {
    /// The user to run the server as.
    pub(crate) fn choose() -> Result<Account> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        match NAMES.iter().find_map(|name| entry(&passwd, name)) {
            Some(account) => Ok(account),
            None => {
                bail!("PostgreSQL refuses to run as root, and this machine has none of the users {NAMES:?}")
            }
        }
    }

    /// The words before a command that runs it as this user.
    pub(crate) fn prefix(self) -> Vec<String> {
        match self {
            Account::Own => Vec::new(),
            Account::Other { user, group } => vec![
                "setpriv".to_owned(),
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
            ],
        }
    }

    /// Refuses a directory that this user can not get to.
    pub(crate) fn must_reach(self, directory: &Utf8Path) -> Result<()> {
        let Account::Other { user, .. } = self else { return Ok(()) };
        for above in directory.ancestors().skip(1) {
            let mode =
                fs::metadata(above).with_context(|| format!("looking at {above}"))?.permissions().mode();
            if mode & 0o001 == 0 {
                bail!(
                    "PostgreSQL refuses to run as root, and user {user}, as which it runs instead, cannot pass \
                     {above}: chmod o+x it, or choose another directory"
                );
            }
        }
        Ok(())
    }

    /// Makes a file or directory this user's own.
    pub(crate) fn own(self, path: &Utf8Path) -> Result<()> {
        match self {
            Account::Own => Ok(()),
            Account::Other { user, group } => {
                chown(path, Some(user), Some(group)).with_context(|| format!("giving {path} to user {user}"))
            }
        }
    }
}

/// A user of `/etc/passwd`: `name:password:uid:gid:…`.
fn entry(passwd: &str, name: &str) -> Option<Account> {
    let mut fields = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
    let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    (user != 0).then_some(Account::Other { user, group })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/x\npostgres:x:101:104:P:/var:/bin/bash\n";
        assert_eq!(entry(passwd, "postgres"), Some(Account::Other { user: 101, group: 104 }));
        assert_eq!(entry(passwd, "root"), None);
        assert_eq!(entry(passwd, "nobody"), None);
    }
}
