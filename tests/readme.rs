//! README's five commands, typed as they stand: only the binary's place and the server's port differ.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("## Five commands").nth(1).expect("README should have five commands");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    block.lines().map(str::to_owned).collect()
}

fn run(command: &str, url: &str) -> String {
    let command = command.replace("target/release/windlass", env!("CARGO_BIN_EXE_windlass"));
    let output = Command::new("sh").args(["-c", &command]).env("WINDLASS_SERVER", url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_five_commands_of_the_readme_do_what_it_says() {
    let commands = commands();
    assert_eq!(commands.len(), 5);
    assert_eq!(commands[0], "cargo run --release");
    let scratch = tempfile::tempdir().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_windlass"));
    server.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.path().join("data"));
    let mut server = Server(server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut first = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let url = first.trim().strip_prefix("listening on ").expect("the first line says where").to_owned();

    run(&commands[1], &url);
    run(&commands[2], &url);
    let pulled = run(&commands[3], &url);
    assert!(pulled.contains("first message"), "{pulled}");
    let token = pulled.split_whitespace().last().unwrap();
    run(&commands[4].replace("TOKEN", token), &url);
    let empty = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["pull", "hello", "workers"])
        .env("WINDLASS_SERVER", &url)
        .output()
        .unwrap();
    assert_eq!(empty.status.code(), Some(3), "nothing is left");
}
