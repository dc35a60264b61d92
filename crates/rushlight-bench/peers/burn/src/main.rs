//! The rows of the benchmark in burn, on Flex, its CPU backend, as a server of the line protocol:
//! `burn-rows THREADS SECONDS`.
//!
//! Each row is what a user of burn would write. burn has all of them.

// The timing and the protocol are ours, shared as files: this crate is not in our workspace.
#[path = "../../../src/measure.rs"]
mod measure;
#[path = "../../../../rushlight/src/storage/resident.rs"]
mod memory;
#[path = "../../../src/serve.rs"]
mod serve;

mod gpt;
mod rows;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, threads, seconds] = args.as_slice() else {
        return Err("usage: burn-rows THREADS SECONDS, with RAYON_NUM_THREADS set to THREADS".into());
    };
    // burn uses rayon's own threads.
    let (wanted, threads) = (threads.parse::<usize>()?, rayon::current_num_threads());
    if wanted != threads {
        return Err(format!("RAYON_NUM_THREADS is to be {wanted}, burn uses {threads}").into());
    }
    let rows = rows::all();
    let hello = serve::Hello {
        name: "burn".to_string(),
        version: "0.22.1".to_string(),
        threads,
        rows: rows.iter().map(|r| r.0.clone()).collect(),
    };
    let make = |name: &str| rows.iter().find(|r| r.0 == name).map(|r| (r.1)());
    Ok(serve::serve(&hello, seconds.parse()?, make, || {})?)
}
