//! `laneway`: arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use laneway::cli::Cli;
use laneway::exit::Exit;

/// Frames, records and replies are many small blocks: with the allocator of the C library a sixth of a loaded scheduler's time
/// goes into them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.globals.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("error: cannot start: {error}"), Exit::Fault),
    };
    match runtime.block_on(cli.run()) {
        Ok(exit) => exit.into(),
        Err(error) => match error.message(json) {
            Some(message) => complain(&message, error.exit()),
            None => error.exit().into(),
        },
    }
}

fn complain(message: &str, exit: Exit) -> ExitCode {
    // Where stderr is closed, the exit code alone has to tell.
    writeln!(std::io::stderr(), "{message}").unwrap_or_default();
    exit.into()
}
