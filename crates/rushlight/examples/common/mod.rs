//! What the examples share: numbers and bars as text, and pictures as SVG.
#![allow(dead_code)] // each example uses some of it

use rushlight::{Result, Tensor};

/// Ink, blue, orange: colours that stay apart for colour-blind eyes.
pub const INK: &str = "#26282b";
pub const BLUE: &str = "#34689c";
pub const ORANGE: &str = "#cd661d";

/// The numbers of a tensor in one line, with two decimals.
pub fn row(t: &Tensor) -> Result<String> {
    // Adding 0 turns −0 into 0.
    let words: Vec<String> =
        t.to_f64_vec()?.iter().map(|v| format!("{:5.2}", (v * 100.0).round() / 100.0 + 0.0)).collect();
    Ok(words.join(" "))
}

/// A bar of `value`, from 0 to 1, at most `width` characters long.
pub fn bar(value: f64, width: usize) -> String {
    let eighths = (value.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}

/// Asserts that a tensor holds these numbers, to 1e-6.
#[track_caller]
pub fn holds(t: &Tensor, expected: &[f64]) -> Result<()> {
    let values = t.to_f64_vec()?;
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6;
    assert!(values.len() == expected.len() && values.iter().zip(expected).all(close), "{values:?}, not {expected:?}");
    Ok(())
}

/// A picture, written as SVG to the path that is the program's first argument, if there is one.
pub struct Picture {
    size: (f64, f64),
    body: String,
}

impl Picture {
    pub fn new(width: f64, height: f64) -> Picture {
        Picture { size: (width, height), body: String::new() }
    }

    /// Text whose middle is at `x`.
    pub fn text(&mut self, x: f64, y: f64, text: &str) {
        self.text_in(INK, x, y, text);
    }

    pub fn text_in(&mut self, colour: &str, x: f64, y: f64, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.body += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" style=\"fill:{colour}\">{text}</text>\n");
    }

    pub fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, fill: &str) {
        self.body += &format!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{fill}\"/>\n");
    }

    pub fn line(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.body +=
            &format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n");
    }

    /// A matrix (or one row) as cells with their numbers: blue above 0, orange below, full at `most`.
    pub fn cells(&mut self, x: f64, y: f64, cell: f64, matrix: &Tensor, most: f64) -> Result<()> {
        let columns = matrix.dims().last().copied().unwrap_or(1);
        for (i, v) in matrix.to_f64_vec()?.into_iter().enumerate() {
            let (x, y) = (x + cell * (i % columns) as f64, y + cell * (i / columns) as f64);
            let share = (v.abs() / most).min(1.0);
            self.rect(x, y, cell, cell, "#f1f0ec");
            let fill = format!("{}\" fill-opacity=\"{share:.2}", if v < 0.0 { ORANGE } else { BLUE });
            self.rect(x + 1.0, y + 1.0, cell - 2.0, cell - 2.0, &fill);
            let number = format!("{:.2}", (v * 100.0).round() / 100.0 + 0.0);
            let number = number.strip_suffix(".00").unwrap_or(&number);
            let ink = if share > 0.55 { "#ffffff" } else { INK };
            let at = format!("x=\"{:.1}\" y=\"{:.1}\"", x + cell / 2.0, y + cell / 2.0 + 4.0);
            self.body += &format!("<text {at} style=\"fill:{ink};font-size:11px\">{number}</text>\n");
        }
        Ok(())
    }

    /// Bars of values from 0 to `most`, each with its label below and its number on top.
    pub fn bars(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), bars: &[(&str, f64)], most: f64, colour: &str) {
        let each = w / bars.len() as f64;
        for (i, (label, value)) in bars.iter().enumerate() {
            let (x, tall) = (x + each * i as f64, h * value / most);
            self.rect(x + each * 0.15, y + h - tall, each * 0.7, tall, colour);
            self.text(x + each / 2.0, y + h - tall - 5.0, &format!("{value:.2}"));
            self.text(x + each / 2.0, y + h + 16.0, label);
        }
        self.line(&[(x, y + h), (x + w, y + h)], INK, 1.0);
    }

    /// Curves over axes through 0, drawn in the box from `at` of size `size`; each with its colour.
    pub fn plot(
        &mut self,
        at: (f64, f64),
        size: (f64, f64),
        xs: (f64, f64),
        ys: (f64, f64),
        curves: &[(&str, Vec<(f64, f64)>)],
    ) {
        let to = |(x, y): (f64, f64)| {
            (at.0 + (x - xs.0) / (xs.1 - xs.0) * size.0, at.1 + (ys.1 - y) / (ys.1 - ys.0) * size.1)
        };
        self.line(&[to((xs.0, 0.0)), to((xs.1, 0.0))], "#bebebb", 1.0);
        self.line(&[to((0.0, ys.0)), to((0.0, ys.1))], "#bebebb", 1.0);
        for (colour, points) in curves {
            self.line(&points.iter().map(|p| to(*p)).collect::<Vec<_>>(), colour, 2.5);
        }
    }

    pub fn save(self) -> Result<()> {
        let Some(path) = std::env::args().nth(1) else { return Ok(()) };
        let ((w, h), body) = (self.size, self.body);
        let style = "text{font:13px sans-serif;text-anchor:middle}";
        let head =
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\">");
        let svg = format!(
            "{head}\n<style>{style}</style>\n<rect width=\"{w}\" height=\"{h}\" fill=\"#fdfcfa\"/>\n{body}</svg>\n"
        );
        std::fs::write(&path, svg).map_err(|e| rushlight::Error::io(path, e))
    }
}
