//! The published Sequin client `sequin-py`, unmodified, against the real binary: in open mode and with a token
//! as the password of HTTP Basic. The script is in `tests/clients`; when it asks for it, the server is killed
//! with SIGKILL and started again on its directory.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use process::script::{drive, make_tokens, python};

/// Restarts that the script asks for.
const RESTARTS: usize = 2;

#[test]
fn pypi_sequin_py_finds_its_streams_in_open_mode() {
    drive(python("streams.py"), RESTARTS, |_, _| {});
}

#[test]
fn pypi_sequin_py_finds_its_streams_with_a_token() {
    drive(python("streams.py"), RESTARTS, |server, script| {
        let (all, publish) = make_tokens(server, "default");
        script.env("SERVER_TOKEN", all).env("PUBLISH_TOKEN", publish);
    });
}
