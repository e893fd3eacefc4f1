//! The windlass binary: parses the command line and hands over.

fn main() -> std::process::ExitCode {
    windlass::cli::run()
}
