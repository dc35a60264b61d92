//! Six ways to colour points of the unit square: the first tasks of a network.
//!
//! They are MiniTorch's. The first five draw points evenly and label them by a rule, from one that a straight line
//! solves to one that takes a closed curve; the sixth lays the points along two arms.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The rule by which points are labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointSet {
    /// `x < 0.5`
    Simple,
    /// `x + y < 0.5`
    Diag,
    /// `x < 0.2` or `x > 0.8`
    Split,
    /// `x < 0.5` or `y < 0.5`, and not both
    Xor,
    /// `(x - 0.5)² + (y - 0.5)² > 0.1`
    Circle,
    /// Two arms of one spiral shape, a quarter turn apart
    Spiral,
}

/// Points and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    /// `[x, y]`, both in 0 to 1.
    pub xy: Vec<[f32; 2]>,
    /// One label for each point.
    pub labels: Vec<bool>,
}

/// `n` points labelled by `set`; the same ones for the same seed.
///
/// The arms of the spiral are `0.5 + t/20·(cos t, sin t)` and `0.5 + t/20·(sin t, -cos t)` for t evenly from 1 to 10,
/// which is all of MiniTorch's that lies in the square, whatever the seed; half of the points are on each.
pub fn points(set: PointSet, n: usize, seed: u64) -> Points {
    let Some(rule) = rule(set) else { return spiral(n) };
    let mut state = seed;
    let xy: Vec<[f32; 2]> = (0..n).map(|_| [uniform(&mut state), uniform(&mut state)]).collect();
    let labels = xy.iter().map(|&[x, y]| rule(x, y)).collect();
    Points { xy, labels }
}

/// The rule of a set that has one: the spiral's points are laid out by their labels instead.
fn rule(set: PointSet) -> Option<fn(f32, f32) -> bool> {
    Some(match set {
        PointSet::Simple => |x, _| x < 0.5,
        PointSet::Diag => |x, y| x + y < 0.5,
        PointSet::Split => |x, _| !(0.2..=0.8).contains(&x),
        PointSet::Xor => |x, y| (x < 0.5) != (y < 0.5),
        PointSet::Circle => |x, y| (x - 0.5).powi(2) + (y - 0.5).powi(2) > 0.1,
        PointSet::Spiral => return None,
    })
}

fn spiral(n: usize) -> Points {
    let arm = |label: bool, count: usize| {
        (0..count).map(move |i| {
            let t = 1.0 + 9.0 * i as f64 / (count.max(2) - 1) as f64;
            let (sin, cos) = t.sin_cos();
            let [x, y] = if label { [sin, -cos] } else { [cos, sin] };
            ([x, y].map(|v| (0.5 + t / 20.0 * v) as f32), label)
        })
    };
    let (xy, labels) = arm(false, n / 2).chain(arm(true, n - n / 2)).unzip();
    Points { xy, labels }
}

/// The next number of splitmix64, brought to 0 ≤ u < 1 with 24 bits.
///
/// Reference: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u32 << 24) as f32
}

impl PointSet {
    /// All six, from the easiest on.
    pub const ALL: [PointSet; 6] =
        [PointSet::Simple, PointSet::Diag, PointSet::Split, PointSet::Xor, PointSet::Circle, PointSet::Spiral];
}

impl fmt::Display for PointSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            PointSet::Simple => "simple",
            PointSet::Diag => "diag",
            PointSet::Split => "split",
            PointSet::Xor => "xor",
            PointSet::Circle => "circle",
            PointSet::Spiral => "spiral",
        })
    }
}

impl FromStr for PointSet {
    type Err = Error;

    /// Upper and lower case are the same.
    fn from_str(name: &str) -> Result<PointSet> {
        PointSet::ALL.into_iter().find(|set| set.to_string().eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names = PointSet::ALL.map(|set| set.to_string()).join(", ");
            Error::invalid("points", format!("no point set {name:?}; there are {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for set in PointSet::ALL {
            assert_eq!(set.to_string().parse::<PointSet>().unwrap(), set);
        }
        assert_eq!("XOR".parse::<PointSet>().unwrap(), PointSet::Xor);
        let error = "ring".parse::<PointSet>().unwrap_err().to_string();
        assert!(error.contains("\"ring\"") && error.contains("simple, diag, split, xor, circle, spiral"), "{error}");
    }

    #[test]
    fn rules() {
        use PointSet::*;
        for (set, inside, outside) in [
            (Simple, [0.4, 0.9], [0.6, 0.1]),
            (Diag, [0.2, 0.2], [0.3, 0.3]),
            (Split, [0.9, 0.5], [0.5, 0.9]),
            (Split, [0.1, 0.5], [0.3, 0.1]),
            (Xor, [0.1, 0.9], [0.9, 0.9]),
            (Xor, [0.9, 0.1], [0.1, 0.1]),
            (Circle, [0.1, 0.5], [0.6, 0.6]),
        ] {
            let rule = rule(set).unwrap();
            assert!(rule(inside[0], inside[1]), "{set}");
            assert!(!rule(outside[0], outside[1]), "{set}");
        }
    }

    #[test]
    fn points_fill_the_square_and_repeat() {
        for set in PointSet::ALL {
            for n in [0, 1, 2, 3, 400] {
                let p = points(set, n, 7);
                assert_eq!((p.xy.len(), p.labels.len()), (n, n));
                assert!(p.xy.iter().flatten().all(|v| (0.0..=1.0).contains(v)), "{set}");
                assert_eq!(p, points(set, n, 7));
            }
            let p = points(set, 400, 7);
            let share = p.labels.iter().filter(|&&l| l).count() as f32 / 400.0;
            // The areas of the six rules.
            let area = [0.5, 0.125, 0.4, 0.5, 1.0 - std::f32::consts::PI / 10.0, 0.5][set as usize];
            assert!((share - area).abs() < 0.1, "{set}: {share}");
        }
        assert_ne!(points(PointSet::Simple, 5, 1), points(PointSet::Simple, 5, 2));
        let mean = points(PointSet::Simple, 4000, 3).xy.iter().flatten().sum::<f32>() / 8000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The published first output for seed 0 is 0xe220a8397b1dcdaf.
        assert_eq!(uniform(&mut 0), 0xe220a8 as f32 / (1u32 << 24) as f32);
    }

    #[test]
    fn the_arms_of_the_spiral_stay_apart() {
        let Points { xy, labels } = points(PointSet::Spiral, 200, 0);
        for (a, _) in xy.iter().zip(&labels).filter(|(_, l)| **l) {
            for (b, _) in xy.iter().zip(&labels).filter(|(_, l)| !**l) {
                assert!((a[0] - b[0]).hypot(a[1] - b[1]) > 0.04, "{a:?} {b:?}");
            }
        }
    }
}
