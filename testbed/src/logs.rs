//! A process's log, from its beginning, and on as it grows: `testbed logs`. Owns the reading; where it is written to is
//! the caller's business.

use crate::cluster::Cluster;
use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use std::{
    io::{ErrorKind, Write},
    time::Duration,
};
use tokio::{fs::File, io::AsyncReadExt};

/// Pause between two looks for more.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 64 * 1024;

impl Cluster {
    /// Where the log of WHO is.
    pub fn log_file(&self, who: &str) -> Result<Utf8PathBuf> {
        Ok(self.directory().log_file(&self.record()?.node(who)?.name))
    }

    /// Writes the log of WHO to `out`; with `follow`, goes on until the log is removed or `out` is closed.
    pub async fn copy_log(&self, who: &str, follow: bool, out: &mut impl Write) -> Result<()> {
        let path = self.log_file(who)?;
        let mut file = File::open(&path).await.with_context(|| format!("opening {path}"))?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let bytes = file.read(&mut buffer).await.with_context(|| format!("reading {path}"))?;
            match out.write_all(&buffer[..bytes]).and_then(|()| out.flush()) {
                // `logs … | head` is content with what it has.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written.context("writing the log out")?,
            }
            if bytes > 0 {
                continue;
            }
            if !follow || !path.exists() {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_PAUSE).await;
        }
    }
}
