//! How many connections the files that this process may open allow. A connection is an open file; so is a segment,
//! and a log that cannot open its next segment ends the process. So strangers never get the last of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are kept for the log, the index, backups, and connections that are turned away.
const RESERVED: u64 = 256;

/// Asks for as many files as the system allows, and answers how many connections, of those configured, there may be.
pub fn connections_max(configured: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let files = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let allowed = allowed(files);
    if allowed < configured {
        tracing::warn!(configured, allowed, "fewer connections than configured: this process may open few files");
    }
    configured.min(allowed)
}

/// `None`: there is no bound on files.
fn allowed(files: Option<u64>) -> usize {
    let allowed = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVED).max(files / 4));
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_log() {
        assert_eq!(allowed(None), usize::MAX);
        assert_eq!(allowed(Some(20_000)), 19_744);
        assert_eq!(allowed(Some(1_024)), 768);
        assert_eq!(allowed(Some(300)), 75);
        assert!(connections_max(7) <= 7);
    }
}
