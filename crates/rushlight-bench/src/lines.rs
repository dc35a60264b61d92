//! Curves side by side in one picture: panels with a linear or a logarithmic axis each way.

use std::fmt::Write;

use crate::chart::{FADED, GRID, INK, PAPER};

pub const BLUE: &str = "#34689c";
pub const ORANGE: &str = "#cd661d";
pub const GREEN: &str = "#5a8a4c";

/// One curve, with what is said at its right end.
pub struct Curve {
    pub label: String,
    pub colour: &'static str,
    /// Drawn with a point at each place.
    pub dots: bool,
    pub points: Vec<(f64, f64)>,
}

/// An axis: what stands at it, the values that are marked, and whether equal ratios are equally long.
pub struct Axis {
    pub name: String,
    pub marks: Vec<(f64, String)>,
    pub log: bool,
    pub low: f64,
    pub high: f64,
}

impl Axis {
    /// From a little below the least to a little above the largest value, with marks at powers of `base`.
    pub fn log(name: &str, base: f64, values: impl Iterator<Item = f64>, written: impl Fn(f64) -> String) -> Axis {
        let (low, high) = values.filter(|v| *v > 0.0).fold((f64::MAX, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low <= high { (low / 1.25, high * 1.25) } else { (1.0, base) };
        let powers = low.log(base).ceil() as i32..=high.log(base).floor() as i32;
        let marks = powers.map(|p| base.powi(p)).map(|v| (v, written(v))).collect();
        Axis { name: name.to_string(), marks, log: true, low, high }
    }

    /// From `low` to `high`, with marks at multiples of `step`.
    pub fn linear(name: &str, low: f64, high: f64, step: f64) -> Axis {
        let count = ((high - low) / step).floor() as usize;
        let marks = (0..=count).map(|i| low + i as f64 * step).map(|v| (v, format!("{v}"))).collect();
        Axis { name: name.to_string(), marks, log: false, low, high }
    }

    fn share(&self, v: f64) -> f64 {
        let place = |v: f64| if self.log { v.ln() } else { v };
        (place(v) - place(self.low)) / (place(self.high) - place(self.low))
    }
}

/// A rectangle with two axes.
pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 62.0;
const LABELS: f64 = 92.0;
const TOP: f64 = 104.0;

/// An SVG of the panels, with a heading and a line in small below it.
pub fn svg(title: &str, place: &str, panels: &[Panel], wide: f64) -> String {
    let grid = WIDTH * wide;
    let (width, height) = (panels.len() as f64 * (LEFT + grid + LABELS), TOP + HEIGHT + 52.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" font-family=\"Ubuntu, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>\n"
    );
    let text = |out: &mut String, (x, y): (f64, f64), look: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {look}>{text}</text>");
    };
    text(&mut out, (20.0, 30.0), &format!("font-size=\"17\" fill=\"{INK}\""), title);
    text(&mut out, (20.0, 50.0), &format!("fill=\"{FADED}\""), place);
    let (middle, end) =
        (format!("text-anchor=\"middle\" fill=\"{FADED}\""), format!("text-anchor=\"end\" fill=\"{FADED}\""));
    for (i, panel) in panels.iter().enumerate() {
        let left = LEFT + i as f64 * (LEFT + grid + LABELS);
        let x = |v: f64| left + grid * panel.x.share(v);
        let y = |v: f64| TOP + HEIGHT * (1.0 - panel.y.share(v));
        text(&mut out, (left, TOP - 16.0), &format!("font-size=\"14\" fill=\"{INK}\""), &panel.title);
        text(&mut out, (left + grid / 2.0, TOP + HEIGHT + 38.0), &middle, &panel.x.name);
        for (v, mark) in &panel.x.marks {
            let _ = writeln!(out, "<path d=\"M{:.1} {TOP}v{HEIGHT}\" stroke=\"{GRID}\"/>", x(*v));
            text(&mut out, (x(*v), TOP + HEIGHT + 18.0), &middle, mark);
        }
        for (v, mark) in &panel.y.marks {
            let _ = writeln!(out, "<path d=\"M{left} {:.1}h{grid}\" stroke=\"{GRID}\"/>", y(*v));
            text(&mut out, (left - 8.0, y(*v) + 4.0), &end, mark);
        }
        let _ = writeln!(out, "<path d=\"M{left} {}h{grid}\" stroke=\"{FADED}\"/>", TOP + HEIGHT);
        // Labels stand at the ends of their curves, fourteen apart at least.
        let mut ends: Vec<(f64, (f64, f64), &Curve)> = vec![];
        for curve in panel.curves.iter().filter(|c| !c.points.is_empty()) {
            let places: Vec<(f64, f64)> = curve.points.iter().map(|p| (x(p.0), y(p.1))).collect();
            let path: Vec<String> = places.iter().map(|p| format!("{:.1} {:.1}", p.0, p.1)).collect();
            let _ = writeln!(
                out,
                "<path d=\"M{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>",
                path.join("L"),
                curve.colour
            );
            for p in places.iter().filter(|_| curve.dots) {
                let _ =
                    writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{}\"/>", p.0, p.1, curve.colour);
            }
            let last = places[places.len() - 1];
            ends.push((last.1 + 4.0, last, curve));
        }
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut above = f64::MIN;
        for (y, last, curve) in ends {
            let y = y.max(above + 14.0);
            above = y;
            text(&mut out, (last.0 + 9.0, y), &format!("fill=\"{}\"", curve.colour), &curve.label);
        }
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_is_a_straight_line() {
        let points: Vec<(f64, f64)> = [128.0, 256.0, 512.0].into_iter().map(|t| (t, t * t)).collect();
        let axis = |f: fn(&(f64, f64)) -> f64| Axis::log("n", 2.0, points.iter().map(f), |v| format!("{v}"));
        let (x, y) = (axis(|p| p.0), axis(|p| p.1));
        let [a, b, c] = [0, 1, 2].map(|i| (x.share(points[i].0), y.share(points[i].1)));
        assert!(((b.1 - a.1) / (b.0 - a.0) - (c.1 - b.1) / (c.0 - b.0)).abs() < 1e-9);
        assert_eq!(x.marks.iter().map(|m| m.1.as_str()).collect::<Vec<_>>(), ["128", "256", "512"]);
        let curve = |label: &str| Curve { label: label.to_string(), colour: BLUE, dots: true, points: points.clone() };
        let panel = Panel { title: "t<2".to_string(), x, y, curves: vec![curve("one"), curve("two")] };
        let svg = svg("title", "place", &[panel], 1.0);
        assert_eq!(svg.matches("<circle").count(), 6);
        assert!(svg.contains("t&lt;2") && svg.contains(">two</text>"));
    }
}
