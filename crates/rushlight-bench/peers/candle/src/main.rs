//! The rows of the benchmark in candle, as a server of the line protocol: `candle-rows THREADS SECONDS`.
//!
//! Each row is what a user of candle would write. Not there, because candle 0.11 has no such thing on a CPU:
//! `matmul_bf16_1024`, and `maxpool3s2p1_fb` (no padding, and no gradient of windows that overlap).

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
        return Err("usage: candle-rows THREADS SECONDS, with RAYON_NUM_THREADS set to THREADS".into());
    };
    // candle takes the number of threads from RAYON_NUM_THREADS.
    let (wanted, threads) = (threads.parse::<usize>()?, candle_core::utils::get_num_threads());
    if wanted != threads {
        return Err(format!("RAYON_NUM_THREADS is to be {wanted}, candle uses {threads}").into());
    }
    let rows = rows::all();
    let hello = serve::Hello {
        name: "candle".to_string(),
        version: "0.11.1".to_string(),
        threads,
        rows: rows.iter().map(|r| r.0.clone()).collect(),
    };
    let make = |name: &str| rows.iter().find(|r| r.0 == name).map(|r| (r.1)());
    Ok(serve::serve(&hello, seconds.parse()?, make, || {})?)
}
