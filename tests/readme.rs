//! README's commands, typed as they stand: only the binary's place and the server's port differ.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first block of this language in a section.
fn block(section: &str, language: &str) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split(&format!("## {section}\n")).nth(1).expect("README should have the section");
    let block = section.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the section should have the block").to_owned()
}

fn commands(section: &str) -> Vec<String> {
    block(section, "sh").lines().map(str::to_owned).collect()
}

/// Starts a server of the tests; gives where it listens.
fn serve(arguments: &[&str], data: &Path) -> (Server, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_windlass"));
    server.arg("serve").args(arguments).args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    let mut server = Server(server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut out = BufReader::new(server.0.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    // A server that starts again says so again: somebody has to read it.
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let url = first.trim().strip_prefix("listening on ").expect("the first line says where").to_owned();
    (server, url)
}

fn output(command: &str, url: &str, dir: &Path) -> Output {
    let command = command.replace("target/release/windlass", env!("CARGO_BIN_EXE_windlass"));
    let command = command.replace("http://127.0.0.1:7070", url);
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).current_dir(dir).env("WINDLASS_SERVER", url).env("no_proxy", "*");
    shell.output().unwrap()
}

fn run_in(command: &str, url: &str, dir: &Path) -> String {
    let output = output(command, url, dir);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn run(command: &str, url: &str) -> String {
    run_in(command, url, Path::new("."))
}

#[test]
fn the_five_commands_of_the_readme_do_what_it_says() {
    let commands = commands("Five commands");
    assert_eq!(commands.len(), 5);
    assert_eq!(commands[0], "cargo run --release");
    let scratch = tempfile::tempdir().unwrap();
    let (_server, url) = serve(&[], &scratch.path().join("data"));

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

#[test]
fn the_consumer_of_the_readme_passes_its_crash_test_and_a_careless_one_does_not() {
    let commands = commands("Crash-test your consumer");
    let consumer = block("Crash-test your consumer", "python");
    let careful = "if message[\"id\"] not in done: ";
    assert!(consumer.contains(careful));
    assert_eq!(commands.len(), 7);
    assert!(commands[0].contains("serve --chaos"));
    let verdicts: Vec<Output> = std::thread::scope(|scope| {
        let runs = [consumer.clone(), consumer.replace(careful, "")].map(|consumer| {
            let commands = &commands;
            scope.spawn(move || {
                let scratch = tempfile::tempdir().unwrap();
                let (_server, url) = serve(&["--chaos"], &scratch.path().join("data"));
                std::fs::write(scratch.path().join("consumer.py"), consumer).unwrap();
                commands[1..6].iter().for_each(|command| drop(run_in(command, &url, scratch.path())));
                output(&commands[6], &url, scratch.path())
            })
        });
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let told = |verdict: &Output| String::from_utf8_lossy(&verdict.stdout).into_owned();
    let (careful, careless) = (&verdicts[0], &verdicts[1]);
    assert_eq!(careful.status.code(), Some(0), "{}", told(careful));
    assert!(told(careful).contains("100 acked") && told(careful).contains("nothing was lost"), "{}", told(careful));
    assert!(told(careful).contains("dropped by a fault"), "{}", told(careful));
    assert_eq!(careless.status.code(), Some(6), "{}", told(careless));
    assert!(told(careless).contains("doubled") && !told(careless).contains("lost:"), "{}", told(careless));
}
