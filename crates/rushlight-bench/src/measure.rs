//! How one step is timed, by us and by every peer written in Rust.
//!
//! After a warm-up, samples are taken for about the given time. A sample is one call, or as many as last a millisecond:
//! a clock is too coarse for a step of microseconds. `torch_rows.py` does the same.

use std::time::{Duration, Instant};

/// What the samples of one step came to, in seconds per call.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The shortest: what the machine can do when nothing else wants it.
    pub best: f64,
    /// The middle one.
    pub median: f64,
}

/// A sample lasts at least this long.
const SAMPLE: f64 = 1e-3;
const WARM_UPS: usize = 3;
/// So many samples are taken, however long they last.
const FEWEST: usize = 3;

/// Times `step` for about `seconds`, after a warm-up of a fifth of that.
pub fn time<E>(seconds: f64, mut step: impl FnMut() -> Result<(), E>) -> Result<Timing, E> {
    let mut once = || -> Result<f64, E> {
        let begin = Instant::now();
        step()?;
        Ok(begin.elapsed().as_secs_f64())
    };
    let begin = Instant::now();
    let mut shortest = f64::INFINITY;
    for calls in 1.. {
        shortest = shortest.min(once()?);
        let passed = begin.elapsed().as_secs_f64();
        // A step of many seconds is warm after one.
        if (calls >= WARM_UPS && passed >= seconds / 5.0) || passed >= 4.0 * seconds {
            break;
        }
    }

    let calls = (SAMPLE / shortest.max(1e-9)).ceil().max(1.0) as usize;
    let budget = Duration::from_secs_f64(seconds);
    let mut samples = vec![];
    let begin = Instant::now();
    while samples.len() < FEWEST || begin.elapsed() < budget {
        let begin = Instant::now();
        for _ in 0..calls {
            step()?;
        }
        samples.push(begin.elapsed().as_secs_f64() / calls as f64);
    }
    samples.sort_by(f64::total_cmp);
    Ok(Timing { best: samples[0], median: samples[samples.len() / 2] })
}

/// Starts the peak of `memory::resident` anew from what is held now.
pub fn reset_peak() {
    // Where this is refused the peak is that since the start, which is no less.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_step_is_called_often_and_divided() {
        let mut calls = 0u64;
        let step = || -> Result<(), ()> {
            calls += 1;
            std::thread::sleep(Duration::from_micros(50));
            Ok(())
        };
        let timing = time(0.02, step).unwrap();
        assert!(timing.best >= 50e-6 && timing.best < 1e-3, "{timing:?}");
        assert!(timing.median >= timing.best);
        // Three samples of at least two calls, after the warm-up.
        assert!(calls as usize > 2 * FEWEST + WARM_UPS, "{calls} calls");
        assert!(time(0.01, || Err("refused")).is_err());
    }
}
