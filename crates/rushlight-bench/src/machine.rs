//! What it was measured on and when: numbers without that say nothing.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The model of the processor.
    pub cpu: String,
    pub cores: usize,
    /// The threads that were used.
    pub threads: usize,
    /// `linux x86_64`
    pub system: String,
    /// The compiler's version.
    pub rustc: String,
    /// UTC.
    pub date: String,
}

impl Machine {
    pub fn new(threads: usize) -> Machine {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        let rustc = Command::new("rustc").arg("--version").output().map(|o| o.stdout).unwrap_or_default();
        let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
        Machine {
            cpu: cpu.map_or("unknown processor", |(_, model)| model.trim()).to_string(),
            cores: cores(),
            threads,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            rustc: String::from_utf8_lossy(&rustc).trim().to_string(),
            date: date(days),
        }
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// The date so many days after 1970-01-01: `2026-11-23`.
fn date(mut days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_days() {
        let dates = [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_780, "2026-11-23")];
        for (days, text) in dates {
            assert_eq!(date(days), text);
        }
    }
}
