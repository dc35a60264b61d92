//! Rushlight side by side with its peers: `cargo run --release -p rushlight-bench -- --torch python3`.
//!
//! Everyone is a process of its own that answers the name of a row with a time: we, PyTorch as installed, PyTorch with
//! glibc's malloc told to keep its memory ("tuned"), candle, burn. They are asked in turns, never two at once, and the
//! best of the rounds counts: what slows a round down (a neighbour, the clock) does not hit one of them alone.

mod chart;
mod growth;
mod language;
mod limits;
mod lines;
mod losses;
mod machine;
mod measure;
mod peer;
mod report;
mod rows;
mod sentences;
mod serve;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use machine::Machine;
use peer::Wanted;
use report::{Cell, Line, Report, Who};
use rows::Row;
use rushlight::memory;

/// What is refused is refused with a sentence.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The best of so many turns counts.
const ROUNDS: usize = 3;

/// Measure Rushlight, and PyTorch, candle and burn beside it
#[derive(Parser)]
#[command(name = "rushlight-bench", version)]
struct Args {
    /// Only rows whose name contains one of these
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Compare with the PyTorch of this Python
    #[arg(long, value_name = "PYTHON")]
    torch: Option<PathBuf>,
    /// Compare with candle, which is built first
    #[arg(long)]
    candle: bool,
    /// Compare with burn, which is built first
    #[arg(long)]
    burn: bool,
    /// Write everything to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the ratios to tuned PyTorch, or else to the first peer, to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Threads for everyone [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Seconds of measuring for a row, a peer and a round
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// Measure how time and memory grow with a context and a batch, once each; what --json FILE has of other rows stays
    #[arg(long)]
    growth: bool,
    /// Instead, train a small GPT for N steps in f32 and in mixed precision; --svg and --json take the losses
    #[arg(long, value_name = "N", conflicts_with_all = ["growth", "rows", "torch", "candle", "burn"])]
    losses: Option<usize>,
    /// Instead, answer questions about this language model, for scripts/compare_llama.py
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["growth", "rows", "torch", "candle", "burn", "losses"])]
    language: Option<PathBuf>,
    /// Instead, answer questions about this model of sentences, for scripts/compare_minilm.py
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["growth", "rows", "torch", "candle", "burn", "losses", "language"])]
    sentences: Option<PathBuf>,
    /// Answer as one of the peers
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = args.threads.map_or_else(machine::cores, usize::from);
    let result = match args.losses {
        _ if args.serve => serve(&args, threads),
        Some(steps) => losses::compare(steps, threads, args.svg.as_deref(), args.json.as_deref()),
        None => match (&args.language, &args.sentences) {
            (Some(model), _) => language::serve(model, threads),
            (None, Some(model)) => sentences::serve(model, threads),
            (None, None) => compare(&args, threads),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Our own side of the line protocol.
fn serve(args: &Args, threads: usize) -> Outcome {
    rushlight::set_num_threads(threads)?;
    rushlight::random::manual_seed(0);
    let rows: Vec<Row> = rows::all().into_iter().chain(rows::growth::rows()).collect();
    let hello = serve::Hello {
        name: "Rushlight".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        threads: rushlight::num_threads(),
        rows: rows.iter().map(|r| r.name.clone()).collect(),
    };
    let make = |name: &str| rows.iter().find(|r| r.name == name).map(|r| (r.make)());
    Ok(serve::serve(&hello, args.seconds, make, memory::clear)?)
}

fn compare(args: &Args, threads: usize) -> Outcome {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err("--seconds: a time above 0, an hour at most".into());
    }
    if args.svg.is_some() && !args.growth && args.torch.is_none() && !args.candle && !args.burn {
        return Err("--svg: ratios need a peer: --torch PYTHON, --candle or --burn".into());
    }
    let all = || if args.growth { rows::growth::rows() } else { rows::all() };
    let rounds = if args.growth { 1 } else { ROUNDS };
    let rows = rows::matching(all(), &args.rows);
    if rows.is_empty() {
        let names: Vec<String> = all().into_iter().map(|r| r.name).collect();
        return Err(format!("no row has such a name; there are {}", names.join(", ")).into());
    }
    let wanted =
        Wanted { torch: args.torch.as_deref(), candle: args.candle, burn: args.burn, threads, seconds: args.seconds };
    let mut peers = wanted.start()?;
    for peer in peers.iter().filter(|p| p.hello.threads != threads) {
        eprintln!("warning: {} uses {} threads instead of {threads}", peer.title, peer.hello.threads);
    }

    let who = peers.iter().map(|p| Who { key: p.key, title: p.title.clone(), hello: p.hello.clone() }).collect();
    let mut report = Report {
        machine: Machine::new(threads),
        limits: limits::measure(threads)?,
        seconds: args.seconds,
        rounds,
        who,
        lines: vec![],
    };
    println!("{}", report.head());
    let bar = bar((rows.len() * rounds * peers.len()) as u64);
    for row in &rows {
        let line = ask(row, &mut peers, rounds, &bar);
        bar.suspend(|| println!("{}", report.line(&line)));
        report.lines.push(line);
    }
    bar.finish_and_clear();
    print!("\n{}", report.tail());

    let mut json = report.json();
    if let (true, Some(path)) = (args.growth, &args.json) {
        growth::keep_others(&mut json, path)?;
    }
    if let Some(path) = &args.json {
        write(path, &format!("{json:#}\n"))?;
    }
    if let (true, Some(path)) = (args.growth, &args.svg) {
        write(path, &growth::svg(&json))?;
    } else if let Some(path) = &args.svg {
        let peer = report.who.iter().position(|w| w.key == "torch_tuned").unwrap_or(1);
        let svg = chart::svg(&report, peer).ok_or("there is nothing to draw: no peer ran a row")?;
        write(path, &svg)?;
    }
    if report.lines.iter().any(|l| l.cells[0].best().is_none()) {
        return Err("some of our own rows failed".into());
    }
    Ok(())
}

/// Replaces a file whole or not at all.
fn write(path: &Path, text: &str) -> Outcome {
    let refused = |e| rushlight::Error::io(path, e);
    Ok(rushlight::io::write_atomic(path, |file| file.write_all(text.as_bytes()).map_err(refused))?)
}

/// All rounds of one row: everyone in turn, then everyone again.
fn ask(row: &Row, peers: &mut [peer::Peer], rounds: usize, bar: &ProgressBar) -> Line {
    let mut cells = vec![Cell::default(); peers.len()];
    for round in 1..=rounds {
        for (peer, cell) in peers.iter_mut().zip(&mut cells) {
            bar.set_message(format!("{}: {}, round {round} of {rounds}", row.name, peer.title));
            // Who failed once is not asked again.
            if peer.has(&row.name) && cell.error().is_none() {
                cell.0.push(peer.ask(&row.name));
            }
            bar.inc(1);
        }
    }
    Line { name: row.name.clone(), work: row.work, memory: row.memory, cells }
}

/// On stderr; it moves only between measurements.
fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style.progress_chars("━━╌"));
    }
    bar
}
