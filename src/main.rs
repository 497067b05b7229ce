//! Arguments in, exit code out; the rest is the library.

/// Takes a tenth of the network thread's time per POST and a sixth of the writer's off that with
/// glibc's allocator (docs/PERFORMANCE.md). A static build would otherwise get musl's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sillage::cli::run()
}
