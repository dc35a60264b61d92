//! The ratios as a picture: one bar for each row, on a logarithmic axis, from 1 to the right where we are faster.

use std::fmt::Write;

use crate::report::{Report, geometric_mean, three_digits};

pub const PAPER: &str = "#fdfcfa";
pub const INK: &str = "#26282b";
pub const FADED: &str = "#62666c";
pub const GRID: &str = "#e7e6e3";
const FASTER: &str = "#34689c";
const SLOWER: &str = "#cd661d";

/// The names' column, the axis, and the room for the last number.
const NAMES: f64 = 250.0;
const AXIS: f64 = 480.0;
const MARGIN: f64 = 60.0;
/// Where the rows begin, and their and the bars' heights.
const TOP: f64 = 92.0;
const STEP: f64 = 20.0;
const BAR: f64 = 13.0;

/// An SVG of the ratios to peer `i` of the report; `None` if there are none.
pub fn svg(report: &Report, i: usize) -> Option<String> {
    let ratios: Vec<(&str, f64)> = report.lines.iter().filter_map(|l| Some((&*l.name, l.ratio(i)?))).collect();
    let mean = geometric_mean(ratios.iter().map(|r| r.1))?;
    // Whole octaves, with 1 and 2 always within.
    let low = ratios.iter().map(|r| r.1.log2().floor()).fold(-1.0, f64::min);
    let high = ratios.iter().map(|r| r.1.log2().ceil()).fold(2.0, f64::max);
    let x = |ratio: f64| NAMES + AXIS * (ratio.log2() - low) / (high - low);
    let (width, bottom) = (NAMES + AXIS + MARGIN, TOP + STEP * ratios.len() as f64 + 6.0);
    let height = bottom + 34.0;

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" font-family=\"Ubuntu, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>\n"
    );
    let mut text = |x: f64, y: f64, look: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {look}>{text}</text>");
    };
    let (who, machine) = (&report.who[i], &report.machine);
    let tuned = if who.key == "torch_tuned" { " with tuned malloc" } else { "" };
    let title = format!("Times as fast as {} {}{tuned}", who.hello.name, who.hello.version);
    let heading = |size: usize, fill: &str| format!("font-size=\"{size}\" fill=\"{fill}\"");
    text(20.0, 30.0, &heading(17, INK), &title);
    let place = format!("{}, threads: {}, {}. Geometric mean {mean:.2}.", machine.cpu, machine.threads, machine.date);
    text(20.0, 50.0, &heading(12, FADED), &place);
    let faded = format!("text-anchor=\"middle\" fill=\"{FADED}\"");
    for octave in low as i32..=high as i32 {
        let ratio = f64::from(octave).exp2();
        let label = if octave < 0 { format!("1/{}", ratio.recip()) } else { format!("{ratio}") };
        text(x(ratio), TOP - 12.0, &faded, &label);
        text(x(ratio), bottom + 18.0, &faded, &label);
    }
    for (row, (name, ratio)) in ratios.iter().enumerate() {
        let y = TOP + STEP * (row as f64 + 0.5) + 4.0;
        text(NAMES - 10.0, y, &format!("text-anchor=\"end\" fill=\"{INK}\""), name);
        // Beyond the end of the bar.
        let (at, anchor) = if *ratio < 1.0 { (x(*ratio) - 5.0, "end") } else { (x(*ratio) + 5.0, "start") };
        // With a rim of paper, where a line of the axis passes below.
        let rim = format!("stroke=\"{PAPER}\" stroke-width=\"4\" paint-order=\"stroke\"");
        text(at, y, &format!("text-anchor=\"{anchor}\" fill=\"{FADED}\" {rim}"), &three_digits(*ratio));
    }

    // Lines and bars lie below the numbers, so they go in before them.
    let mut below = String::new();
    for octave in low as i32..=high as i32 {
        let at = x(f64::from(octave).exp2());
        let (colour, dashes) = match octave {
            0 => (INK, ""),
            1 => (FADED, " stroke-dasharray=\"4 3\""),
            _ => (GRID, ""),
        };
        let (from, to) = (TOP - 6.0, bottom);
        let _ = writeln!(below, "<path d=\"M{at:.1} {from}V{to}\" stroke=\"{colour}\"{dashes}/>");
    }
    for (row, (_, ratio)) in ratios.iter().enumerate() {
        let (from, to) = (x(ratio.min(1.0)), x(ratio.max(1.0)));
        let y = TOP + STEP * row as f64 + (STEP - BAR) / 2.0;
        let (length, colour) = ((to - from).max(0.5), if *ratio < 1.0 { SLOWER } else { FASTER });
        let _ = writeln!(
            below,
            "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
        );
    }
    let first = out.find("<text").unwrap_or(out.len());
    out.insert_str(first, &below);
    out.push_str("</svg>\n");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_bar_for_each_ratio() {
        let svg = svg(&report(), 1).unwrap();
        let (faster, slower) = (svg.matches(&format!("fill=\"{FASTER}\"/>")).count(), svg.matches(SLOWER).count());
        assert_eq!((faster, slower), (1, 1), "{svg}");
        // From 1/2 to 8: four octaves, so that 8 ends at the right and 1/2 begins at the left.
        for part in ["x=\"370.0\" y=\"95.5\" width=\"360.0\"", "x=\"250.0\" y=\"115.5\" width=\"120.0\"", ">8.00<"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        let mut none = report();
        none.lines.clear();
        assert!(super::svg(&none, 1).is_none());
    }
}
