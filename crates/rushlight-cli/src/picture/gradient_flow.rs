//! How gradients fare on their way through the layers: their norms, the size of a step against the size of the
//! weights, and the share of units that no longer fire.

use std::path::Path;

use plotters::style::RGBColor;

use super::Result;
use super::axes::{Axis, Panel, SMALL, Unit};
use super::page::{Align, Page, Point, fit, save, text_width};
use super::palette::{FADED, INK, VIRIDIS};

/// The ratio of update to weight at which training usually goes well.
const USUAL_RATIO: f64 = 1e-3;

const GRID: Point = (620.0, 168.0);
const ROW: f64 = 19.0;

/// What was measured of each layer at each step: `values[layer][step]`. A value that is missing is NaN.
#[derive(Debug, Clone, Default)]
pub struct GradientFlow {
    /// The names of the layers, from the input on.
    pub layers: Vec<String>,
    /// The steps at which was measured.
    pub steps: Vec<u64>,
    /// Norm of the gradient.
    pub norm: Vec<Vec<f64>>,
    /// Norm of the step taken over norm of the weights.
    pub ratio: Vec<Vec<f64>>,
    /// Share of units that are zero for every sample, 0 to 1.
    pub dead: Vec<Vec<f64>>,
}

/// Draws the three one above the other, a line for each layer, the later the lighter.
///
/// Errors: not as many rows of as many values as there are layers and steps.
pub fn gradient_flow(path: impl AsRef<Path>, flow: &GradientFlow) -> Result {
    let GradientFlow { layers, steps, norm, ratio, dead } = flow;
    for (name, values) in [("norm", norm), ("ratio", ratio), ("dead", dead)] {
        if values.len() != layers.len() || values.iter().any(|row| row.len() != steps.len()) {
            let sizes: Vec<usize> = values.iter().map(Vec::len).collect();
            let (l, s) = (layers.len(), steps.len());
            return Err(format!("gradient_flow: {l} layers and {s} steps, but {name} has rows of {sizes:?}").into());
        }
    }
    let x = Axis::tight(steps.iter().map(|&s| s as f64));
    let all = |values: &'_ [Vec<f64>]| values.iter().flatten().copied().collect::<Vec<f64>>().into_iter();
    let panels = [
        ("gradient norm", norm, Axis::log(all(norm))),
        ("update ÷ weight", ratio, Axis::log(all(ratio))),
        ("dead units", dead, Axis::linear(all(dead).chain([0.0]), Unit::Percent)),
    ];
    let names: Vec<String> = layers.iter().map(|name| fit(name, SMALL, 260.0)).collect();
    let longest = names.iter().map(|name| text_width(name, SMALL)).fold(0.0, f64::max);
    let (left, top, between) = (76.0, 96.0, 52.0);
    let width = left + GRID.0 + 24.0 + 26.0 + 1.12 * longest + 28.0;
    let height = (top + 3.0 * GRID.1 + 2.0 * between + 64.0).max(top + ROW * layers.len() as f64 + 28.0);

    save(path.as_ref(), width.ceil(), height.ceil(), |page| {
        page.text("Gradient flow", (28.0, 42.0), 21.0, Align::Left, INK)?;
        for (i, (title, values, y)) in panels.iter().enumerate() {
            let corner = (left, top + i as f64 * (GRID.1 + between));
            let panel = Panel { corner, size: GRID, x, y: *y };
            panel.frame(page, title, (i == 2).then_some("step"))?;
            if i == 1 && panel.y.holds(USUAL_RATIO) {
                usual(page, &panel)?;
            }
            for (layer, row) in values.iter().enumerate() {
                let points: Vec<Point> = steps.iter().zip(row).map(|(&s, &v)| (s as f64, v)).collect();
                panel.curve(page, &points, 1.6, colour(layer, layers.len()))?;
            }
        }
        let at = left + GRID.0 + 24.0;
        for (i, name) in names.iter().enumerate() {
            let y = top + ROW * (i as f64 + 0.5);
            page.line(&[(at, y), (at + 16.0, y)], 3.0, colour(i, names.len()))?;
            page.text(name, (at + 26.0, y + 0.35 * SMALL), SMALL, Align::Left, INK)?;
        }
        Ok(())
    })
}

/// A dashed line at the usual ratio.
fn usual(page: &mut Page, panel: &Panel) -> Result {
    let (left, y) = (panel.corner.0, panel.place((0.0, USUAL_RATIO)).1);
    let dashes = (panel.size.0 / 8.0) as usize;
    for i in 0..dashes {
        page.rect((left + 8.0 * i as f64, y - 0.5), (4.0, 1.0), FADED)?;
    }
    let right = left + panel.size.0;
    page.text("usual", (right - 2.0, y - 5.0), 0.9 * SMALL, Align::Right, FADED)
}

/// Dark for the first layer, light for the last; the palest end of the map is left out.
fn colour(layer: usize, layers: usize) -> RGBColor {
    VIRIDIS.at(0.06 + 0.8 * layer as f64 / (layers.max(2) - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::drawn;
    use super::*;

    fn flow(layers: usize, steps: usize, name: impl Fn(usize) -> String) -> GradientFlow {
        let noise = |l: usize, s: usize| ((l * 131 + s * 7919) % 97) as f64 / 97.0;
        let rows = |f: &dyn Fn(usize, f64, f64) -> f64| -> Vec<Vec<f64>> {
            let value = |l, s: usize| f(l, s as f64 / steps as f64, noise(l, s));
            (0..layers).map(|l| (0..steps).map(|s| value(l, s)).collect()).collect()
        };
        GradientFlow {
            layers: (0..layers).map(name).collect(),
            steps: (0..steps as u64).map(|s| s * 20).collect(),
            norm: rows(&|l, t, e| 2.0 * 0.4f64.powi((layers - l) as i32) * (1.0 - 0.8 * t) * (0.8 + 0.4 * e)),
            ratio: rows(&|l, t, e| 8e-4 * (1.0 + l as f64) * (-2.0 * t).exp() * (0.7 + 0.6 * e)),
            dead: rows(&|l, t, _| (0.05 * l as f64 * t.sqrt()).min(1.0)),
        }
    }

    #[test]
    fn three_panels() {
        let names = ["conv1", "conv2", "linear1", "linear2", "head"];
        let mut data = flow(5, 60, |i| names[i].into());
        data.norm[1][30] = f64::NAN;
        data.ratio[2][10] = 0.0;
        let (_, h, _, svg) = drawn(|path| gradient_flow(path, &data));
        assert_eq!(h, 2 * (96 + 3 * 168 + 104 + 64));
        for label in names.into_iter().chain(["gradient norm", "update ÷ weight", "dead units", "step", "usual", "−3"])
        {
            assert!(svg.contains(label), "{label}");
        }
    }

    #[test]
    fn many_layers_with_long_names() {
        let data = flow(40, 300, |i| format!("encoder.layers.{}.attention.projections.query.weight", i));
        let (_, h, _, svg) = drawn(|path| gradient_flow(path, &data));
        assert_eq!(h, 2 * (96 + 40 * 19 + 28));
        assert!(svg.contains("…"));
    }

    #[test]
    fn nothing_measured() {
        drawn(|path| gradient_flow(path, &GradientFlow::default()));
    }

    #[test]
    fn refuses_rows_that_do_not_fit() {
        let mut data = flow(2, 3, |i| i.to_string());
        data.ratio[1].pop();
        let error = gradient_flow("never", &data).unwrap_err().to_string();
        assert_eq!(error, "gradient_flow: 2 layers and 3 steps, but ratio has rows of [3, 2]");
    }
}
