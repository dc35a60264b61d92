//! Learning curves: loss and accuracy, of training and of validation, along a run.

use std::path::Path;

use plotters::style::RGBColor;

use super::Result;
use super::axes::{Axis, Panel, SMALL, Unit, number, spread};
use super::page::{Align, Page, Point, save, text_width};
use super::palette::{BLUE, INK, ORANGE, PAPER, mix};

/// From so many points on, a curve is drawn pale under a smooth one.
const NOISY: usize = 200;

/// What was measured along a run: `(epoch or step, value)`, each series as often as it was. One that was not measured
/// is empty.
#[derive(Debug, Clone, Default)]
pub struct Curves {
    /// What the first numbers count: `epoch`, `step`.
    pub x_name: String,
    /// Loss on the training data.
    pub train_loss: Vec<Point>,
    /// Loss on the validation data.
    pub valid_loss: Vec<Point>,
    /// Share of the training data that is right, 0 to 1.
    pub train_accuracy: Vec<Point>,
    /// Share of the validation data that is right, 0 to 1.
    pub valid_accuracy: Vec<Point>,
}

/// Draws loss on the left and, if it was measured, accuracy on the right.
pub fn curves(path: impl AsRef<Path>, title: &str, curves: &Curves) -> Result {
    let loss = [&curves.train_loss[..], &curves.valid_loss];
    let accuracy = [&curves.train_accuracy[..], &curves.valid_accuracy];
    let with_accuracy = accuracy.iter().any(|s| !s.is_empty());
    let x = Axis::tight(loss.into_iter().chain(accuracy).flatten().map(|p| p.0));
    let panel = |left: f64, series: [&[Point]; 2], unit: Unit| {
        let values = series.into_iter().flatten().map(|p| p.1);
        Panel { corner: (left, 92.0), size: (330.0, 240.0), x, y: Axis::linear(values, unit) }
    };
    let width = if with_accuracy { 1000f64 } else { 512.0 }.max(56.0 + 1.12 * text_width(title, 21.0));
    save(path.as_ref(), width.ceil(), 396.0, |page| {
        page.text(title, (28.0, 42.0), 21.0, Align::Left, INK)?;
        draw(page, &panel(72.0, loss, Unit::Number), "loss", &curves.x_name, loss, short)?;
        if with_accuracy {
            let percent = |v: f64| number(100.0 * v, 1) + "%";
            draw(page, &panel(564.0, accuracy, Unit::Percent), "accuracy", &curves.x_name, accuracy, percent)?;
        }
        Ok(())
    })
}

/// A loss in about four digits.
fn short(loss: f64) -> String {
    match loss.abs() {
        0.01..10.0 => number(loss, 3),
        10.0..1000.0 => number(loss, 1),
        1000.0..1e6 => number(loss, 0),
        0.0 => "0".to_string(),
        _ => format!("{loss:.1e}"),
    }
}

fn draw(
    page: &mut Page,
    panel: &Panel,
    name: &str,
    x_name: &str,
    series: [&[Point]; 2],
    write: impl Fn(f64) -> String,
) -> Result {
    panel.frame(page, name, Some(x_name))?;
    let mut ends: Vec<(f64, String, RGBColor)> = vec![];
    for ((points, who), colour) in series.into_iter().zip(["train", "valid"]).zip([BLUE, ORANGE]) {
        let smooth = if points.len() >= NOISY {
            panel.curve(page, points, 1.0, mix(colour, PAPER, 0.72))?;
            smoothed(points)
        } else {
            points.to_vec()
        };
        panel.curve(page, &smooth, 2.0, colour)?;
        if points.len() <= 40 {
            for place in smooth.iter().map(|&p| panel.place(p)).filter(|p| p.0.is_finite() && p.1.is_finite()) {
                page.disc(place, 2.5, colour)?;
            }
        }
        if let Some(&last) = smooth.iter().rev().find(|p| p.1.is_finite()) {
            ends.push((panel.place(last).1, format!("{who} {}", write(last.1)), colour));
        }
    }
    let mut heights: Vec<f64> = ends.iter().map(|e| e.0).collect();
    spread(&mut heights, 17.0, panel.corner.1, panel.corner.1 + panel.size.1);
    for (height, (_, text, colour)) in heights.into_iter().zip(ends) {
        let right = panel.corner.0 + panel.size.0;
        page.text(&text, (right + 10.0, height + 0.35 * SMALL), SMALL + 1.0, Align::Left, colour)?;
    }
    Ok(())
}

/// At each place the straight line that fits the values around best, by least squares; missing values (NaN) are left
/// out. Unlike a mean it bends no slope where there are neighbours on one side only.
fn smoothed(points: &[Point]) -> Vec<Point> {
    // More than can be seen would only take time.
    let parts: Vec<Point> = points.chunks(points.len().div_ceil(1000)).filter_map(mean).collect();
    let reach = parts.len() / 40 + 2;
    let line = |i: usize| {
        let near = &parts[i.saturating_sub(reach)..(i + reach + 1).min(parts.len())];
        let (x, y) = mean(near)?;
        let (sxy, sxx) = near.iter().fold((0.0, 0.0), |(sxy, sxx), p| {
            let dx = p.0 - x;
            (sxy + dx * (p.1 - y), sxx + dx * dx)
        });
        let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
        Some((parts[i].0, y + slope * (parts[i].0 - x)))
    };
    (0..parts.len()).filter_map(line).collect()
}

/// The middle of those points which are there.
fn mean(points: &[Point]) -> Option<Point> {
    let there = || points.iter().filter(|p| p.1.is_finite());
    let n = there().count();
    let sum = there().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    (n > 0).then_some((sum.0 / n as f64, sum.1 / n as f64))
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::drawn;
    use super::*;

    fn run(n: usize, from: f64, to: f64, noise: f64) -> Vec<Point> {
        let wobble = |i: usize| ((i * 7919 % 101) as f64 / 50.0 - 1.0) * noise;
        (0..n).map(|i| (i as f64, to + (from - to) * (-6.0 * i as f64 / n as f64).exp() + wobble(i))).collect()
    }

    #[test]
    fn per_epoch() {
        let data = Curves {
            x_name: "epoch".into(),
            train_loss: run(15, 1.1, 0.21, 0.005),
            valid_loss: run(15, 0.9, 0.32, 0.01),
            train_accuracy: run(15, 0.6, 0.93, 0.002),
            valid_accuracy: run(15, 0.68, 0.889, 0.004),
        };
        let (w, h, _, svg) = drawn(|path| curves(path, "LeNet on Fashion-MNIST", &data));
        assert_eq!((w, h), (2000, 792));
        for label in ["LeNet on Fashion-MNIST", "loss", "accuracy", "epoch", "train 0.2", "valid 89.0%", "90%"] {
            assert!(svg.contains(label), "{label}");
        }
    }

    #[test]
    fn per_step_without_accuracy() {
        let mut train = run(4000, 9.0, 3.1, 0.35);
        train[2000].1 = f64::NAN;
        let valid = run(4000, 9.0, 3.4, 0.0).into_iter().step_by(400).collect();
        let data = Curves { x_name: "step".into(), train_loss: train, valid_loss: valid, ..Curves::default() };
        let (w, h, _, svg) = drawn(|path| curves(path, "GPT on Shakespeare", &data));
        assert_eq!((w, h), (1024, 792));
        assert!(svg.contains("step") && svg.contains("2000") && !svg.contains("accuracy"));
    }

    #[test]
    fn one_point_or_none() {
        drawn(|path| curves(path, "Nothing yet", &Curves::default()));
        let one = vec![(1.0, 0.5)];
        let data = Curves { train_loss: one.clone(), valid_accuracy: one, ..Curves::default() };
        let (_, _, _, svg) = drawn(|path| curves(path, "One epoch", &data));
        assert!(svg.contains("train 0.500") && svg.contains("valid 50.0%") && !svg.contains("valid 0"));
    }

    #[test]
    fn losses_are_short() {
        for (loss, text) in [(0.0, "0"), (2.30352, "2.304"), (35.2, "35.2"), (1234.5, "1234"), (3.21e-5, "3.2e-5")] {
            assert_eq!(short(loss), text);
        }
    }

    #[test]
    fn smoothing_keeps_a_slope_and_takes_noise() {
        let mut points: Vec<Point> = (0..300).map(|i| (i as f64, 3.0 * i as f64)).collect();
        points[20].1 = f64::NAN;
        assert!(smoothed(&points).iter().all(|p| (p.1 - 3.0 * p.0).abs() < 1e-9));
        let noisy = run(100_000, 2.0, 2.0, 1.0);
        let smooth = smoothed(&noisy);
        assert!(smooth.len() <= 1000 && smooth.iter().all(|p| (p.1 - 2.0).abs() < 0.05));
        assert!(smoothed(&[(0.0, f64::NAN); 300]).is_empty());
    }
}
