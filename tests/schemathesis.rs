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
    for topic in ["t", "u"] {
        let mut client = server.client().with_token(token);
        client.post("/api/windlass/v1/topics", &json!({"name": topic})).unwrap().expect(201);
        let path = format!("/api/windlass/v1/topics/{topic}/groups");
        client.post(&path, &json!({"name": "g"})).unwrap().expect(201);
    }
    let examples = counts::rounds("WINDLASS_SCHEMATHESIS_EXAMPLES", 20, 100).to_string();
    let seed = counts::rounds("WINDLASS_FUZZ_SEED", 1, 1).to_string();
    let run = |what: &str, config: &[&str], left_out: &[&str]| {
        let begun = Instant::now();
        let mut command = Command::new(tools.join(".venv/bin/st"));
        command.current_dir(dir.path()).args(config);
        command.args(["run", &format!("http://{}/openapi.json", server.address), "--checks", CHECKS]);
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
        command.args(["--max-examples", &examples, "--seed", &seed, "--continue-on-failure"]);
        command.args(["--request-timeout", "20", "--generation-database", "none", "--no-color"]);
        // The first would revoke the one credential that the run has.
        for operation in ["revokeCredential"].iter().chain(left_out) {
            command.args(["--exclude-operation-id", operation]);
        }
        let status = command.env("no_proxy", "*").status().unwrap();
        eprintln!("schemathesis: {what}, {examples} examples per operation, seed {seed}, {:.1?}", begun.elapsed());
        assert!(status.success(), "schemathesis found the above; the server said:\n{}", server.said());
    };
    let given = tools.join("given.toml");
    let config = ["--config-file", given.to_str().unwrap()];
    run("on a topic and a group that are there", &config, &["deleteTopic", "deleteGroup", "updateTopic"]);
    run("on whatever it makes up", &[], &[]);
}
