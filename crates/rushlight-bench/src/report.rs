//! What is said about the measurements: the table, the last lines, the JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::limits::Limits;
use crate::machine::Machine;
use crate::rows::Work;
use crate::serve::{Answer, Hello};

/// One peer's answers for one row, in the order of the rounds.
#[derive(Clone, Debug, Default)]
pub struct Cell(pub Vec<Answer>);

impl Cell {
    /// The best time over the rounds; `None` if it has no such row or failed.
    pub fn best(&self) -> Option<f64> {
        let best = |a: &Answer| match a {
            Answer::Measured { best, .. } => Some(*best),
            Answer::Failed { .. } => None,
        };
        self.0.iter().map(best).reduce(|a, b| Some(a?.min(b?)))?
    }

    /// Why it failed.
    pub fn error(&self) -> Option<&str> {
        self.0.iter().find_map(|a| match a {
            Answer::Failed { error, .. } => Some(error.as_str()),
            Answer::Measured { .. } => None,
        })
    }

    /// The peak of the last round and what was held before it, in bytes: what is loaded only once is loaded by then.
    fn memory(&self) -> Option<(u64, u64)> {
        match self.0.last()? {
            Answer::Measured { peak_rss, base_rss, .. } => Some(((*peak_rss)?, (*base_rss)?)),
            Answer::Failed { .. } => None,
        }
    }

    fn json(&self) -> Value {
        if let Some(error) = self.error() {
            return json!({ "error": error });
        }
        let mut medians = vec![];
        for answer in &self.0 {
            if let Answer::Measured { median, .. } = answer {
                medians.push(*median);
            }
        }
        medians.sort_by(f64::total_cmp);
        let memory = self.memory();
        json!({
            "best": self.best(),
            "median": medians.get(medians.len() / 2),
            "peak_rss": memory.map(|m| m.0),
            "base_rss": memory.map(|m| m.1),
        })
    }
}

/// One row with everyone's answers; ours are the first.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub work: Work,
    pub memory: bool,
    pub cells: Vec<Cell>,
}

impl Line {
    /// How many times as long peer `i` takes as we do.
    pub fn ratio(&self, i: usize) -> Option<f64> {
        Some(self.cells.get(i)?.best()? / self.cells[0].best()?)
    }
}

/// Who was measured.
pub struct Who {
    pub key: &'static str,
    pub title: String,
    pub hello: Hello,
}

/// Everything that is known.
pub struct Report {
    pub machine: Machine,
    pub limits: Limits,
    pub seconds: f64,
    pub rounds: usize,
    /// We are the first.
    pub who: Vec<Who>,
    pub lines: Vec<Line>,
}

impl Report {
    /// What stands above the table.
    pub fn head(&self) -> String {
        let Machine { cpu, cores, threads, system, rustc, date } = &self.machine;
        let Limits { f32_gflops, f64_gflops, read_gbs, copy_gbs } = self.limits;
        let mut text = format!("{date}, {cpu}, {cores} cores, threads: {threads}, {system}, {rustc}\n");
        for who in &self.who {
            let tuned = if who.key == "torch_tuned" { " with tuned malloc" } else { "" };
            let _ = write!(text, "{} {}{tuned}, ", who.hello.name, who.hello.version);
        }
        let _ = writeln!(text, "best of {} rounds of {} s", self.rounds, self.seconds);
        let _ = writeln!(
            text,
            "limits: {f32_gflops:.0} GFLOP/s f32, {f64_gflops:.0} GFLOP/s f64, {read_gbs:.1} GB/s read, {copy_gbs:.1} \
             GB/s copied\n"
        );
        let _ = write!(text, "{:32} {:>9} {:>14} {:>6}", "row", self.who[0].title, "rate", "limit");
        for who in &self.who[1..] {
            let _ = write!(text, " {:>10} {:>6}", who.title, "×");
        }
        text
    }

    /// A line of the table.
    pub fn line(&self, line: &Line) -> String {
        let cell = |cell: &Cell| match (cell.best(), cell.error()) {
            (Some(seconds), _) => time(seconds),
            (None, Some(_)) => "failed".to_string(),
            (None, None) => "–".to_string(),
        };
        let rate = Some(()).and_then(|()| Some(line.work.parts().1? / line.cells[0].best()? / 1e9));
        let shown = rate.map_or(String::new(), |r| format!("{r:.1} {}", line.work.unit()));
        let part = rate.and_then(|r| Some(format!("{:.0}%", 100.0 * r / line.work.limit(&self.limits)?)));
        let ours = cell(&line.cells[0]);
        let mut text = format!("{:32} {ours:>9} {shown:>14} {:>6}", line.name, part.unwrap_or_default());
        for (i, other) in line.cells.iter().enumerate().skip(1) {
            let ratio = line.ratio(i).map_or(String::new(), three_digits);
            let _ = write!(text, " {:>10} {ratio:>6}", cell(other));
        }
        text.trim_end().to_string()
    }

    /// What stands below the table: memory, failures, means.
    pub fn tail(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().filter(|l| l.memory) {
            let one = |(cell, who): (&Cell, &Who)| {
                let (peak, base) = cell.memory()?;
                Some(format!("{} {} (+{})", who.title, peak >> 20, peak.saturating_sub(base) >> 20))
            };
            let all: Vec<String> = line.cells.iter().zip(&self.who).filter_map(one).collect();
            if !all.is_empty() {
                let _ = writeln!(text, "peak memory of {} in MiB: {}", line.name, all.join(", "));
            }
        }
        for line in &self.lines {
            for (cell, who) in line.cells.iter().zip(&self.who) {
                if let Some(error) = cell.error() {
                    let _ = writeln!(text, "{} failed in {}: {error}", line.name, who.title);
                }
            }
        }
        for (i, who) in self.who.iter().enumerate().skip(1) {
            let ratios: Vec<(&str, f64)> = self.lines.iter().filter_map(|l| Some((&*l.name, l.ratio(i)?))).collect();
            let Some(mean) = geometric_mean(ratios.iter().map(|r| r.1)) else { continue };
            let mut slower: Vec<_> = ratios.iter().filter(|r| r.1 < 1.0).collect();
            slower.sort_by(|a, b| a.1.total_cmp(&b.1));
            let below = match slower.len() {
                0 => "none below 1".to_string(),
                n => {
                    let names: Vec<String> = slower.iter().map(|(name, r)| format!("{name} {r:.2}")).collect();
                    format!("{n} below 1: {}", names.join(", "))
                }
            };
            let _ = writeln!(text, "{}: geometric mean {mean:.2} over {} rows, {below}", who.title, ratios.len());
        }
        text
    }

    /// Times in seconds, memory in bytes, ratios as theirs to ours.
    pub fn json(&self) -> Value {
        let keyed = |f: &dyn Fn(usize) -> Value, from: usize| -> Value {
            (from..self.who.len())
                .map(|i| (self.who[i].key.to_string(), f(i)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let line = |l: &Line| {
            let (kind, amount) = l.work.parts();
            json!({
                "name": l.name,
                "kind": kind,
                "work": amount,
                "times": keyed(&|i| l.cells[i].json(), 0),
                "ratios": keyed(&|i| json!(l.ratio(i)), 1),
            })
        };
        json!({
            "machine": self.machine,
            "limits": self.limits,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "peers": keyed(&|i| json!({ "name": self.who[i].hello.name, "version": self.who[i].hello.version }), 0),
            "rows": self.lines.iter().map(line).collect::<Vec<_>>(),
            "geometric_means": keyed(&|i| json!(geometric_mean(self.lines.iter().filter_map(|l| l.ratio(i)))), 1),
        })
    }
}

/// `exp(mean(ln r))`; `None` of nothing.
pub fn geometric_mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = ratios.fold((0.0, 0), |(sum, count), r| (sum + r.ln(), count + 1));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

/// Three digits and a unit.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 999.5e-9 => (s * 1e9, "ns"),
        s if s < 999.5e-6 => (s * 1e6, "µs"),
        s if s < 999.5e-3 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// `1.23`, `12.3`, `123`; smaller values with two digits after the point.
pub fn three_digits(value: f64) -> String {
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn cell(seconds: &[f64]) -> Cell {
        let answer = |&s: &f64| Answer::Measured {
            row: String::new(),
            best: s,
            median: 2.0 * s,
            peak_rss: Some(100 << 20),
            base_rss: Some(60 << 20),
        };
        Cell(seconds.iter().map(answer).collect())
    }

    /// Three rows, of which the peer is slower in one, faster in one and fails in one.
    pub(crate) fn report() -> Report {
        let hello = Hello { name: "X".to_string(), version: "1".to_string(), threads: 2, rows: vec![] };
        let who = |key| Who { key, title: key.to_string(), hello: hello.clone() };
        let failed = Cell(vec![Answer::Failed { row: String::new(), error: "no".to_string() }]);
        let line = |name: &str, work, ours, theirs| Line {
            name: name.to_string(),
            work,
            memory: name == "a",
            cells: vec![ours, theirs],
        };
        Report {
            machine: Machine::new(2),
            limits: Limits { f32_gflops: 100.0, f64_gflops: 50.0, read_gbs: 40.0, copy_gbs: 30.0 },
            seconds: 0.5,
            rounds: 2,
            who: vec![who("rushlight"), who("torch")],
            lines: vec![
                line("a", Work::Flops(50e9), cell(&[2.0, 1.0]), cell(&[8.0, 9.0])),
                line("b", Work::Calls, cell(&[2e-6, 4e-6]), cell(&[1e-6])),
                line("c", Work::Copy(1.0), cell(&[1.0]), failed),
            ],
        }
    }

    #[test]
    fn means_are_geometric() {
        assert_eq!(geometric_mean([].into_iter()), None);
        assert!((geometric_mean([4.0, 0.25, 8.0].into_iter()).unwrap() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn three_digits_and_a_unit() {
        let texts =
            [(1.2046e-6, "1.20 µs"), (9.996e-3, "10.0 ms"), (0.9996, "1.00 s"), (0.1, "100 ms"), (5e-9, "5.00 ns")];
        for (seconds, text) in texts {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn the_table_says_what_was_measured() {
        let r = report();
        let columns = |i: usize| r.line(&r.lines[i]).split_whitespace().map(str::to_string).collect::<Vec<_>>();
        assert_eq!(columns(0), ["a", "1.00", "s", "50.0", "GFLOP/s", "50%", "8.00", "s", "8.00"]);
        assert_eq!(columns(1), ["b", "2.00", "µs", "1.00", "µs", "0.50"]);
        assert_eq!(columns(2).last().unwrap(), "failed");
        let tail = r.tail();
        assert!(tail.contains("torch: geometric mean 2.00 over 2 rows, 1 below 1: b 0.50"), "{tail}");
        assert!(tail.contains("c failed in torch: no"), "{tail}");
        assert!(tail.contains("peak memory of a in MiB: rushlight 100 (+40), torch 100 (+40)"), "{tail}");
    }

    #[test]
    fn the_json_holds_it_too() {
        let json = report().json();
        assert_eq!(json["rows"][0]["times"]["rushlight"]["best"], 1.0);
        assert_eq!(json["rows"][0]["times"]["torch"]["median"], 18.0);
        assert_eq!(json["rows"][0]["ratios"]["torch"], 8.0);
        assert_eq!(json["rows"][2]["times"]["torch"]["error"], "no");
        assert!(json["rows"][2]["ratios"]["torch"].is_null());
        assert!((json["geometric_means"]["torch"].as_f64().unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(json["machine"]["threads"], 2);
    }
}
