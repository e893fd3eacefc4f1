//! The windlass binary: parses the command line and hands over.

/// A request allocates some dozens of small pieces that another thread frees: the system's allocator takes an eighth
/// of the CPU for that, this one a third of it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    windlass::cli::run()
}
