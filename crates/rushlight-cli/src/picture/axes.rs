//! A panel: two axes, a thin grid, and curves within.

use plotters::style::RGBColor;

use super::Result;
use super::page::{Align, Page, Point, text_width};
use super::palette::{EDGE, FADED, GRID, INK};

/// The size of the labels at the ticks.
pub const SMALL: f64 = 12.0;

/// How the values of an axis are written.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Number,
    Percent,
    /// Epochs, steps: nothing lies between two of them.
    Whole,
}

/// An axis from `low` to `high`.
#[derive(Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    unit: Unit,
}

impl Axis {
    /// A linear axis that holds `values`, with a little room; from 0 if that is near.
    pub fn linear(values: impl Iterator<Item = f64>, unit: Unit) -> Axis {
        let (low, high) = span(values.filter(|v| v.is_finite())).unwrap_or((0.0, 1.0));
        let room = if high > low { 0.06 * (high - low) } else { 0.5 * high.abs().max(0.1) };
        let from_zero = low >= 0.0 && low < (0.3 * high).max(room);
        let (mut low, mut high) = (if from_zero { 0.0 } else { low - room }, high + room);
        if unit == Unit::Percent {
            (low, high) = (low.clamp(0.0, 0.9), high.clamp(0.02, 1.0));
        }
        Axis { low, high, log: false, unit }
    }

    /// An axis of epochs or steps that holds `values` from end to end.
    pub fn tight(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = span(values.filter(|v| v.is_finite())).unwrap_or((0.0, 1.0));
        let high = if high > low { high } else { low + 1.0 };
        Axis { low, high, log: false, unit: Unit::Whole }
    }

    /// A logarithmic axis that holds the positive ones of `values`.
    pub fn log(values: impl Iterator<Item = f64>) -> Axis {
        let logs = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10);
        let (low, high) = span(logs).unwrap_or((-1.0, 0.0));
        let room = (0.06 * (high - low)).max(0.1);
        Axis { low: low - room, high: high + room, log: true, unit: Unit::Number }
    }

    /// Whether `value` lies on the axis.
    pub fn holds(&self, value: f64) -> bool {
        (0.0..=1.0).contains(&self.share(value))
    }

    /// How far along the axis `value` lies, from 0 to 1 within it; NaN or infinite if it has no place.
    fn share(&self, value: f64) -> f64 {
        let place = if self.log { value.log10() } else { value };
        (place - self.low) / (self.high - self.low)
    }

    /// About `count` values to mark, with how each is written.
    fn ticks(&self, count: usize) -> Vec<(f64, Label)> {
        if self.log && self.high - self.low > 1.7 {
            let every = step(self.low, self.high, count).max(1.0).ceil();
            return multiples(self.low, self.high, every).map(|p| (10f64.powf(p), Label::Power(p as i32))).collect();
        }
        let (low, high) = if self.log { (10f64.powf(self.low), 10f64.powf(self.high)) } else { (self.low, self.high) };
        let (scale, sign) = if self.unit == Unit::Percent { (100.0, "%") } else { (1.0, "") };
        let least = if self.unit == Unit::Whole { 1.0 } else { 0.0 };
        let step = step(low * scale, high * scale, count).max(least);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        multiples(low * scale, high * scale, step)
            .map(|v| (v / scale, Label::Plain(number(v, decimals) + sign)))
            .collect()
    }
}

/// A number as it stands at a tick.
enum Label {
    Plain(String),
    /// 10 to this power.
    Power(i32),
}

impl Label {
    /// Draws it to the left of `x`.
    fn draw_left_of(&self, page: &mut Page, (x, base): Point) -> Result {
        match self {
            Label::Plain(text) => page.text(text, (x, base), SMALL, Align::Right, FADED),
            Label::Power(power) => {
                let exponent = power.to_string().replace('-', "−");
                page.text(&exponent, (x, base - 4.5), 0.75 * SMALL, Align::Right, FADED)?;
                let x = x - 1.12 * text_width(&exponent, 0.75 * SMALL) - 1.0;
                page.text("10", (x, base), SMALL, Align::Right, FADED)
            }
        }
    }
}

/// A rectangle of the page with its axes.
pub struct Panel {
    /// The upper left corner of the grid.
    pub corner: Point,
    /// Width and height of the grid.
    pub size: Point,
    pub x: Axis,
    pub y: Axis,
}

impl Panel {
    /// Where a value lies on the page.
    pub fn place(&self, (x, y): Point) -> Point {
        let (left, bottom) = (self.corner.0, self.corner.1 + self.size.1);
        (left + self.x.share(x) * self.size.0, bottom - self.y.share(y) * self.size.1)
    }

    /// Draws grid and labels; `title` says above the panel what is measured upwards, `x_name` below it what to the
    /// right (the labels of that axis are left out where it is `None`).
    pub fn frame(&self, page: &mut Page, title: &str, x_name: Option<&str>) -> Result {
        let (left, top) = self.corner;
        let (right, bottom) = (left + self.size.0, top + self.size.1);
        page.text(title, (left, top - 14.0), 15.0, Align::Left, INK)?;
        for (value, label) in self.y.ticks((self.size.1 / 42.0) as usize) {
            let y = bottom - self.y.share(value) * self.size.1;
            page.rect((left, y - 0.5), (self.size.0, 1.0), GRID)?;
            label.draw_left_of(page, (left - 9.0, y + 0.35 * SMALL))?;
        }
        page.rect((left, bottom - 0.5), (self.size.0, 1.0), EDGE)?;
        let Some(name) = x_name else { return Ok(()) };
        page.text(name, ((left + right) / 2.0, bottom + 40.0), SMALL + 1.0, Align::Center, FADED)?;
        for (value, label) in self.x.ticks((self.size.0 / 70.0) as usize) {
            let Label::Plain(text) = label else { continue };
            let x = left + self.x.share(value) * self.size.0;
            page.rect((x - 0.5, bottom), (1.0, 4.0), EDGE)?;
            page.text(&text, (x, bottom + 18.0), SMALL, Align::Center, FADED)?;
        }
        Ok(())
    }

    /// Draws a line through `points`, with a gap where one is missing (NaN) or has no place on a logarithmic axis.
    pub fn curve(&self, page: &mut Page, points: &[Point], width: f64, colour: RGBColor) -> Result {
        let places: Vec<Point> = points.iter().map(|&p| self.place(p)).collect();
        for part in places.split(|p| !(p.0.is_finite() && p.1.is_finite())) {
            page.line(&thinned(part, 2 * self.size.0 as usize), width, colour)?;
        }
        Ok(())
    }
}

/// The least and the greatest of each of `parts` parts of the points, in their order: what can be seen of more.
fn thinned(points: &[Point], parts: usize) -> Vec<Point> {
    let each = points.len().div_ceil(parts.max(1));
    if each <= 2 {
        return points.to_vec();
    }
    let ends = |part: &[Point]| {
        let by = |a: &usize, b: &usize| part[*a].1.total_cmp(&part[*b].1);
        let (low, high) = ((0..part.len()).min_by(by).unwrap_or(0), (0..part.len()).max_by(by).unwrap_or(0));
        [part[low.min(high)], part[low.max(high)]]
    };
    points.chunks(each).flat_map(ends).collect()
}

/// Moves the heights of labels apart until none is nearer than `gap` to the next, within `top..=bottom` where that is
/// possible. The order stays.
pub fn spread(heights: &mut [f64], gap: f64, top: f64, bottom: f64) {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|&a, &b| heights[a].total_cmp(&heights[b]));
    let mut floor = top;
    for &i in &order {
        heights[i] = heights[i].max(floor);
        floor = heights[i] + gap;
    }
    let mut ceiling = bottom;
    for &i in order.iter().rev() {
        heights[i] = heights[i].min(ceiling);
        ceiling = heights[i] - gap;
    }
}

/// `v` with `decimals`, its thousands set apart.
pub fn number(v: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", v.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::from(if v < 0.0 && text.contains(|c| ('1'..='9').contains(&c)) { "−" } else { "" });
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 && whole.len() > 4 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |span, v| Some(span.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v)))))
}

/// 1, 2 or 5 times a power of ten, so that about `count` of them go from `low` to `high`.
fn step(low: f64, high: f64, count: usize) -> f64 {
    let raw = (high - low) / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= 0.999 * raw).unwrap_or(raw)
}

fn multiples(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last.min(first.saturating_add(100))).map(move |i| i as f64 * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, count: usize) -> Vec<String> {
        let text = |label: &Label| match label {
            Label::Plain(text) => text.clone(),
            Label::Power(p) => format!("10^{p}"),
        };
        axis.ticks(count).iter().map(|(_, label)| text(label)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let number = |values: &[f64]| Axis::linear(values.iter().copied(), Unit::Number);
        assert_eq!(labels(number(&[0.1, 2.3]), 5), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(labels(number(&[3.0, 3.2]), 5), ["3.00", "3.05", "3.10", "3.15", "3.20"]);
        assert_eq!(labels(Axis::tight([1.0, 3.0].into_iter()), 9), ["1", "2", "3"]);
        assert_eq!(labels(Axis::tight([0.0, 20_000.0].into_iter()), 4), ["0", "5000", "10,000", "15,000", "20,000"]);
        let percent = Axis::linear([0.62, 0.98].into_iter(), Unit::Percent);
        assert_eq!(labels(percent, 5), ["60%", "70%", "80%", "90%", "100%"]);
        assert_eq!(labels(Axis::log([1e-4, 0.5].into_iter()), 6), ["10^-4", "10^-3", "10^-2", "10^-1"]);
        assert_eq!(labels(Axis::log([2.0, 5.0].into_iter()), 4), ["2", "4", "6"]);
        assert_eq!(number(&[-1.0, 1.0]).ticks(3).len(), 3);
    }

    #[test]
    fn every_axis_has_a_length() {
        let nan = f64::NAN;
        for values in [&[][..], &[0.0], &[nan], &[5.0, 5.0], &[-3.0], &[1e-300], &[1e300, -1e300, nan], &[1e-9, 0.0]] {
            for log in [false, true] {
                let values = values.iter().copied();
                let axis = if log { Axis::log(values.clone()) } else { Axis::linear(values.clone(), Unit::Number) };
                assert!(axis.high > axis.low, "{:?}", values.collect::<Vec<_>>());
                assert!(axis.ticks(5).len() <= 101);
                assert!(values.filter(|v| v.is_finite() && !(log && *v <= 0.0)).all(|v| axis.holds(v)));
            }
        }
    }

    #[test]
    fn thinning_keeps_the_peaks() {
        let mut points: Vec<Point> = (0..10_000).map(|i| (i as f64, (i % 7) as f64)).collect();
        (points[5003].1, points[5004].1) = (99.0, -99.0);
        let thin = thinned(&points, 100);
        assert_eq!(thin.len(), 200);
        assert!(thin.windows(2).all(|p| p[0].0 <= p[1].0));
        assert!(thin.contains(&(5003.0, 99.0)) && thin.contains(&(5004.0, -99.0)));
        assert_eq!(thinned(&points[..150], 100), points[..150]);
    }

    #[test]
    fn labels_are_spread() {
        let mut heights = [50.0, 10.0, 52.0, 99.0];
        spread(&mut heights, 15.0, 0.0, 100.0);
        assert_eq!(heights, [50.0, 10.0, 65.0, 99.0]);
        let mut heights = [100.0, 99.0];
        spread(&mut heights, 15.0, 0.0, 100.0);
        assert_eq!(heights, [100.0, 85.0]);
    }

    #[test]
    fn numbers() {
        for (v, decimals, text) in
            [(0.0, 0, "0"), (-0.001, 1, "0.0"), (-2.5, 1, "−2.5"), (1234.0, 0, "1234"), (1234567.0, 0, "1,234,567")]
        {
            assert_eq!(number(v, decimals), text);
        }
    }
}
