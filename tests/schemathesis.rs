//! Property-based requests from the server's own OpenAPI document, by schemathesis (PyPI), against the real binary:
//! no undocumented status or content type, no answer that breaks its schema, nothing broken taken, no 5xx.
//!
//! In the long suite only; without python3 it says so and does nothing. `tests/schemathesis/install` puts it there.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod counts;
mod process;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use process::{Process, serve_command};
use serde_json::json;

/// What is looked at. Not whether all that fits a schema is taken: a schema does not say every bound of a name, and
/// the answer to such a request is a 4xx that the document has.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,negative_data_rejection,unsupported_method";

#[test]
fn every_answer_is_one_that_the_openapi_document_has() {
    if !counts::long() {
        println!("schemathesis: only in the long suite (./test long schemathesis)");
        return;
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    if !Command::new("python3").args(["-c", "import ensurepip, venv"]).status().is_ok_and(|status| status.success()) {
        println!("schemathesis: LEFT OUT, there is no python3 with venv");
        return;
    }
    assert!(Command::new(tools.join("install")).status().unwrap().success(), "schemathesis was not installed");
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = serve_command(&data);
    command.arg("--chaos");
    let server = Process::start_command(command, &data);
    // So that every request has a credential, and none that the run makes shuts the door behind it.
    let grant = json!({"account": "default", "permissions": ["publish", "consume", "admin"]});
    let made = server.client().post("/api/windlass/v1/tokens", &grant).unwrap().expect(201);
    let token = made["secret"].as_str().unwrap();
    let examples = counts::rounds("WINDLASS_SCHEMATHESIS_EXAMPLES", 20, 100);
    let seed = counts::rounds("WINDLASS_FUZZ_SEED", 1, 1);
    let begun = Instant::now();
    let status = Command::new(tools.join(".venv/bin/st"))
        .current_dir(dir.path())
        .args(["run", &format!("http://{}/openapi.json", server.address), "--checks", CHECKS])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--max-examples", &examples.to_string(), "--seed", &seed.to_string(), "--continue-on-failure"])
        // It would revoke the one credential that it has.
        .args(["--exclude-operation-id", "revokeCredential"])
        .args(["--request-timeout", "20", "--generation-database", "none", "--no-color"])
        .env("no_proxy", "*")
        .status()
        .unwrap();
    eprintln!("schemathesis: {examples} examples for each operation, seed {seed}, {:.1?}", begun.elapsed());
    assert!(status.success(), "schemathesis found the above; the server said:\n{}", server.said());
}
