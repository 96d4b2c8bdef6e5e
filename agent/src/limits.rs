//! What the host lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of open files to what the host allows at most: sockets of readers and files of artifacts share it,
/// and the usual soft limit of 1024 is there for programs that use `select`.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = current, to = maximum, "limit of open files raised"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(current, maximum, error, "cannot raise the limit of open files");
        }
    }
}
