//! The published Cloudflare clients, unmodified, against the real binary: npm's and PyPI's, in open mode
//! and with a bearer token. The scripts are in `tests/clients`; when they ask for it, the server is killed
//! with SIGKILL and started again on its directory.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::process::Command;

use process::script::{drive, installed, make_tokens, python};

/// An account as Cloudflare writes them.
const ACCOUNT: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// Restarts that each script asks for.
const RESTARTS: usize = 5;

/// The npm client of this name in package.json: the latest, or one older major.
fn node(client: &str) -> Command {
    installed(&format!("node_modules/{client}/package.json"));
    let mut command = Command::new("node");
    command.arg("queues.mjs").env("CLIENT", client);
    command
}

fn drive_open(script: Command) {
    drive(script, RESTARTS, |_, script| {
        script.env("SERVER_MODE", "open").env("ACCOUNT", ACCOUNT);
        script.env("SERVER_TOKEN", "any").env("PUBLISH_TOKEN", "any");
    });
}

fn drive_with_token(script: Command) {
    drive(script, RESTARTS, |server, script| {
        let (token, publish_token) = make_tokens(server, ACCOUNT);
        script.env("SERVER_MODE", "token").env("ACCOUNT", ACCOUNT);
        script.env("SERVER_TOKEN", token).env("PUBLISH_TOKEN", publish_token);
    });
}

#[test]
fn npm_cloudflare_finds_its_queues_in_open_mode() {
    drive_open(node("cloudflare"));
}

#[test]
fn npm_cloudflare_finds_its_queues_with_a_token() {
    drive_with_token(node("cloudflare"));
}

#[test]
fn an_older_npm_cloudflare_finds_its_queues_with_a_token() {
    drive_with_token(node("cloudflare-5"));
}

#[test]
fn pypi_cloudflare_finds_its_queues_in_open_mode() {
    drive_open(python("queues.py"));
}

#[test]
fn pypi_cloudflare_finds_its_queues_with_a_token() {
    drive_with_token(python("queues.py"));
}
