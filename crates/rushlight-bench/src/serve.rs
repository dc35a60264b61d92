//! The line protocol: a process that runs rows for the benchmark, one at a time.
//!
//! It first prints who it is, a [`Hello`]. Then it reads names of rows, a line each, and answers each with one line, an
//! [`Answer`]. It ends when its input does. `torch_rows.py` speaks it too.

use std::fmt::Display;
use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::{measure, memory};

/// Who answers, and what it can run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// `PyTorch`
    pub name: String,
    /// Its version.
    pub version: String,
    /// The threads it was told to use.
    pub threads: usize,
    /// The rows it knows.
    pub rows: Vec<String>,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It ran.
    Measured {
        /// Its name, as asked.
        row: String,
        /// Seconds of the best sample.
        best: f64,
        /// Seconds of the middle one.
        median: f64,
        /// The most bytes the process held.
        peak_rss: Option<u64>,
        /// The bytes it held before.
        base_rss: Option<u64>,
    },
    /// It did not.
    Failed {
        /// Its name, as asked.
        row: String,
        /// Why.
        error: String,
    },
}

/// One step of a row, over inputs that are ready.
pub type Step<E> = Box<dyn FnMut() -> Result<(), E>>;

/// Answers until the input ends. `make` gives the step of the row of that name, freeing what earlier rows left first.
pub fn serve<E: Display>(
    hello: &Hello,
    seconds: f64,
    mut make: impl FnMut(&str) -> Option<Result<Step<E>, E>>,
    mut free: impl FnMut(),
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").and_then(|()| out.flush());
    say(serde_json::to_string(hello)?)?;
    for line in std::io::stdin().lock().lines() {
        let row = line?;
        free();
        measure::reset_peak();
        let base_rss = memory::resident().map(|(_, now)| now);
        let timing = match make(&row) {
            None => Err("no such row".to_string()),
            Some(step) => step.and_then(|step| measure::time(seconds, step)).map_err(|e| e.to_string()),
        };
        let peak_rss = memory::resident().map(|(peak, _)| peak);
        say(serde_json::to_string(&match timing {
            Ok(t) => Answer::Measured { row, best: t.best, median: t.median, peak_rss, base_rss },
            Err(error) => Answer::Failed { row, error },
        })?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let read = |s: &str| serde_json::from_str::<Answer>(s).unwrap();
        let measured =
            Answer::Measured { row: "x".to_string(), best: 1e-3, median: 2e-3, peak_rss: Some(4096), base_rss: None };
        // As Python writes it: spaces, another order, a field of its own, an absent one.
        assert_eq!(read(r#"{"best": 0.001, "row": "x", "median": 2e-3, "peak_rss": 4096, "samples": 7}"#), measured);
        assert_eq!(read(&serde_json::to_string(&measured).unwrap()), measured);
        let failed = Answer::Failed { row: "x".to_string(), error: "no".to_string() };
        assert_eq!(read(r#"{"row": "x", "error": "no"}"#), failed);
        assert!(serde_json::from_str::<Answer>(r#"{"row": "x", "best": 1}"#).is_err());
    }
}
