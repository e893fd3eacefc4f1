//! The windlass binary: parses the command line and hands over.

/// A request allocates small pieces that another thread frees: the system's allocator took an eighth of the CPU of a
/// publish for that (docs/PERFORMANCE.md).
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    windlass::cli::run()
}
