//! What a network of two inputs says of each point of the unit square, and the points it was taught with.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use plotters::style::RGBColor;

use super::Result;
use super::axes::SMALL;
use super::page::{Align, Page, Point, save, text_width};
use super::palette::{BLUE, DIVERGING, EDGE, FADED, INK, ORANGE, PAPER, mix};

const SIDE: f64 = 420.0;

/// Draws `grid`, `n` times `n` probabilities of which the one in row i and column j is at
/// `x = j / (n - 1)`, `y = i / (n - 1)` (so row 0 is the lower edge), the line where they are 0.5, and the points.
///
/// Errors: `grid` is not square, or smaller than 2 times 2; not as many labels as points.
pub fn decision_boundary(
    path: impl AsRef<Path>,
    title: &str,
    grid: &[f32],
    points: &[[f32; 2]],
    labels: &[bool],
) -> Result {
    let n = grid.len().isqrt();
    if n < 2 || n * n != grid.len() {
        return Err(format!("decision_boundary: {} probabilities are no square grid", grid.len()).into());
    }
    if points.len() != labels.len() {
        return Err(format!("decision_boundary: {} points, but {} labels", points.len(), labels.len()).into());
    }
    let (left, top) = (52.0, 70.0);
    let place = |x: f64, y: f64| (left + SIDE * x, top + SIDE * (1.0 - y));
    let width = (left + SIDE + 92.0).max(56.0 + 1.12 * text_width(title, 21.0));
    save(path.as_ref(), width.ceil(), top + SIDE + 44.0, |page| {
        page.text(title, (28.0, 42.0), 21.0, Align::Left, INK)?;
        page.rect((left - 0.5, top - 0.5), (SIDE + 1.0, SIDE + 1.0), EDGE)?;
        // An SVG grows with each cell that differs from the one before.
        let (cells, shades) = if page.in_dots() { (2 * SIDE as usize, 255.0) } else { (SIDE as usize / 3, 64.0) };
        page.raster((left, top), (SIDE, SIDE), cells, &field(grid, n, cells, shades))?;
        for line in joined(&contour(grid, n)) {
            let line: Vec<Point> = line.into_iter().map(|(x, y)| place(x, y)).collect();
            page.line(&line, 1.6, INK)?;
        }
        for (&[x, y], &label) in points.iter().zip(labels) {
            let at = place(f64::from(x), f64::from(y));
            page.disc(at, 5.0, PAPER)?;
            page.disc(at, 4.0, if label { ORANGE } else { BLUE })?;
        }
        for (value, text) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
            page.text(text, (place(value, 0.0).0, top + SIDE + 20.0), SMALL, Align::Center, FADED)?;
            page.text(text, (left - 10.0, place(0.0, value).1 + 0.35 * SMALL), SMALL, Align::Right, FADED)?;
        }
        scale(page, left + SIDE + 24.0, top)
    })
}

/// The colours and what they stand for.
fn scale(page: &mut Page, left: f64, top: f64) -> Result {
    let (length, steps) = (160.0, 80);
    let shades: Vec<RGBColor> = (0..steps).map(|i| shade(1.0 - (i as f64 + 0.5) / f64::from(steps))).collect();
    page.text("p(true)", (left, top + 0.7 * SMALL), SMALL, Align::Left, FADED)?;
    let top = top + 22.0;
    page.rect((left - 0.5, top - 0.5), (15.0, length + 1.0), EDGE)?;
    page.raster((left, top), (14.0, length), 1, &shades)?;
    page.rect((left, top + length / 2.0 - 0.5), (14.0, 1.0), INK)?;
    for (value, text) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
        let base = top + length * (1.0 - value) + 0.35 * SMALL;
        page.text(text, (left + 22.0, base), SMALL, Align::Left, FADED)?;
    }
    Ok(())
}

/// The field is paler than the points on it.
fn shade(p: f64) -> RGBColor {
    mix(DIVERGING.at(0.08 + 0.84 * p), PAPER, 0.25)
}

/// The colours of `cells` times `cells` cells in so many `shades`, from the upper edge on, interpolated between the values of the grid.
fn field(grid: &[f32], n: usize, cells: usize, shades: f64) -> Vec<RGBColor> {
    let at = |i: usize, j: usize| f64::from(grid[i * n + j]);
    // Which two grid lines a cell lies between, and how far from the first.
    let between = |cell: usize| {
        let place = (cell as f64 + 0.5) / cells as f64 * (n - 1) as f64;
        let below = (place as usize).min(n - 2);
        (below, place - below as f64)
    };
    let colour = |row: usize, column: usize| {
        let ((i, t), (j, u)) = (between(cells - 1 - row), between(column));
        let low = at(i, j) * (1.0 - u) + at(i, j + 1) * u;
        let high = at(i + 1, j) * (1.0 - u) + at(i + 1, j + 1) * u;
        let p = low * (1.0 - t) + high * t;
        if p.is_nan() { EDGE } else { shade((p * (shades - 1.0)).round() / (shades - 1.0)) }
    };
    (0..cells * cells).map(|c| colour(c / cells, c % cells)).collect()
}

/// Where the grid is 0.5, in pieces: of each cell of the grid the edges whose ends lie on different sides are cut where
/// a straight line between the values is 0.5 (marching squares).
fn contour(grid: &[f32], n: usize) -> Vec<[Point; 2]> {
    let value = |(i, j): (usize, usize)| f64::from(grid[i * n + j]) - 0.5;
    let spot = |from: (usize, usize), to: (usize, usize)| {
        // In one order for both cells at this edge, so that they agree to the last bit.
        let ((i, j), (k, l)) = (from.min(to), from.max(to));
        let (a, b) = (value((i, j)), value((k, l)));
        let t = a / (a - b);
        let along = |from: usize, to: usize| (from as f64 + (to as f64 - from as f64) * t) / (n - 1) as f64;
        (along(j, l), along(i, k))
    };
    let mut pieces = vec![];
    for i in 0..n - 1 {
        for j in 0..n - 1 {
            let corners = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)];
            let cuts: Vec<Point> = (0..4)
                .map(|k| (corners[k], corners[(k + 1) % 4]))
                .filter(|&(a, b)| (value(a) >= 0.0 && value(b) < 0.0) || (value(a) < 0.0 && value(b) >= 0.0))
                .map(|(a, b)| spot(a, b))
                .collect();
            match cuts[..] {
                [a, b] => pieces.push([a, b]),
                // A saddle: its middle says which corners belong together.
                [a, b, c, d] => {
                    let middle = corners.iter().map(|&c| value(c)).sum::<f64>();
                    let joined = (middle >= 0.0) == (value(corners[0]) >= 0.0);
                    pieces.extend(if joined { [[a, b], [c, d]] } else { [[d, a], [b, c]] });
                }
                _ => {}
            }
        }
    }
    pieces
}

/// The pieces joined at their common ends, as long as there is one.
fn joined(pieces: &[[Point; 2]]) -> Vec<Vec<Point>> {
    let key = |p: Point| (p.0.to_bits(), p.1.to_bits());
    let mut ends: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    for (i, piece) in pieces.iter().enumerate() {
        piece.iter().for_each(|&p| ends.entry(key(p)).or_default().push(i));
    }
    let mut used = vec![false; pieces.len()];
    let mut lines = vec![];
    for first in 0..pieces.len() {
        if std::mem::replace(&mut used[first], true) {
            continue;
        }
        let mut line = VecDeque::from(pieces[first]);
        for forward in [true, false] {
            loop {
                let end = if forward { line[line.len() - 1] } else { line[0] };
                let Some(&next) = ends[&key(end)].iter().find(|&&i| !used[i]) else { break };
                used[next] = true;
                let [a, b] = pieces[next];
                let far = if key(a) == key(end) { b } else { a };
                if forward { line.push_back(far) } else { line.push_front(far) }
            }
        }
        lines.push(line.into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use rushlight::data::points::{PointSet, points};

    use super::super::page::tests::drawn;
    use super::*;

    fn grid(n: usize, p: impl Fn(f64, f64) -> f64) -> Vec<f32> {
        let at = |k: usize| k as f64 / (n - 1) as f64;
        (0..n * n).map(|i| p(at(i % n), at(i / n)) as f32).collect()
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn circle() {
        let p = points(PointSet::Circle, 150, 3);
        let taught = grid(60, |x, y| sigmoid(60.0 * ((x - 0.5).powi(2) + (y - 0.5).powi(2) - 0.1)));
        let (w, h, dots, svg) =
            drawn(|path| decision_boundary(path, "Circle, after 500 steps", &taught, &p.xy, &p.labels));
        assert_eq!((w, h), (2 * 564, 2 * 534));
        for label in ["Circle, after 500 steps", "0.5", "p(true)"] {
            assert!(svg.contains(label), "{label}");
        }
        assert!(svg.len() < 500_000, "{}", svg.len());
        // Blue within, orange in the corner.
        let dot = |x: usize, y: usize| &dots[(y * w as usize + x) * 3..][..3];
        let corner = dot(2 * 52 + 1, 2 * 70 + 1);
        assert!(corner[0] > corner[2], "{corner:?}");
        assert_eq!(svg.matches("<circle").count(), 300);
    }

    #[test]
    fn xor() {
        let p = points(PointSet::Xor, 120, 1);
        let taught = grid(40, |x, y| sigmoid(-70.0 * (x - 0.5) * (y - 0.5)));
        drawn(|path| decision_boundary(path, "Xor", &taught, &p.xy, &p.labels));
    }

    #[test]
    fn the_contour_is_where_it_belongs() {
        let straight = contour(&grid(11, |x, _| x + 0.13), 11);
        assert_eq!(straight.len(), 10);
        assert!(straight.iter().flatten().all(|p| (p.0 - 0.37).abs() < 1e-6));
        let circle = contour(&grid(80, |x, y| (x - 0.5).hypot(y - 0.4) + 0.2), 80);
        assert!(circle.iter().flatten().all(|p| ((p.0 - 0.5).hypot(p.1 - 0.4) - 0.3).abs() < 1e-3));
        let length: f64 = circle.iter().map(|[a, b]| (a.0 - b.0).hypot(a.1 - b.1)).sum();
        assert!((length - 0.6 * std::f64::consts::PI).abs() < 1e-2, "{length}");
        assert!(contour(&grid(5, |_, _| 0.9), 5).is_empty());
        assert!(contour(&[f32::NAN, 0.0, 1.0, f32::NAN], 2).is_empty());
    }

    #[test]
    fn the_contour_is_joined() {
        let circle = contour(&grid(80, |x, y| (x - 0.5).hypot(y - 0.4) + 0.2), 80);
        let lines = joined(&circle);
        assert_eq!((lines.len(), lines[0].len()), (1, circle.len() + 1));
        assert_eq!(lines[0][0], lines[0][circle.len()]);
        let two = joined(&contour(&grid(50, |x, y| if x > 0.3 && x < 0.71 { 0.9 } else { 0.1 * y }), 50));
        assert_eq!(two.len(), 2);
        assert!(joined(&[]).is_empty());
    }

    #[test]
    fn a_saddle_joins_the_corners_of_its_middle() {
        // Lower left and upper right are high, and so is the middle: the low corners are cut off.
        let pieces = contour(&[1.0, 0.2, 0.2, 1.0], 2);
        assert_eq!(pieces.len(), 2);
        let near = |p: &Point, corner: Point| (p.0 - corner.0).hypot(p.1 - corner.1) < 0.5;
        for corner in [(1.0, 0.0), (0.0, 1.0)] {
            assert!(pieces.iter().any(|piece| piece.iter().all(|p| near(p, corner))), "{pieces:?}");
        }
        assert!(contour(&[0.8, 0.0, 0.0, 0.8], 2).iter().flatten().all(|p| near(p, (0.0, 0.0)) || near(p, (1.0, 1.0))));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let refused = |grid: &[f32], labels: &[bool]| {
            decision_boundary("never", "t", grid, &[[0.5, 0.5]], labels).unwrap_err().to_string()
        };
        assert!(refused(&[0.5; 5], &[true]).contains("5 probabilities are no square grid"));
        assert!(refused(&[0.5], &[true]).contains("1 probabilities are no square grid"));
        assert!(refused(&[0.5; 4], &[]).contains("1 points, but 0 labels"));
    }
}
