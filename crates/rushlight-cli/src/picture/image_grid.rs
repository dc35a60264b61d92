//! Small grey images side by side: an input, the feature maps of a layer, what pooling keeps of them.

use std::path::Path;

use plotters::style::RGBColor;

use super::Result;
use super::axes::SMALL;
use super::page::{Align, fit, save, text_width};
use super::palette::{DIVERGING, EDGE, FADED, INK, VIRIDIS};

/// The longer side of an image on the page, about.
const SIDE: f64 = 112.0;
const GAP: f64 = 14.0;

/// An image with its name.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Stands below it.
    pub label: &'a str,
    /// The values, row by row.
    pub pixels: &'a [f32],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Draws rows of images, all in their own range: from the least to the greatest value in Viridis, or, if there are
/// negative ones, from blue over white at 0 to orange. `None` leaves a place free.
///
/// Errors: an image with other than `height · width` pixels, or none.
pub fn image_grid(path: impl AsRef<Path>, title: &str, rows: &[Vec<Option<Picture>>]) -> Result {
    for picture in rows.iter().flatten().flatten() {
        let Picture { label, pixels, height, width } = picture;
        if height.checked_mul(*width) != Some(pixels.len()) || pixels.is_empty() {
            return Err(format!("image_grid: {label}: {} pixels for {height} x {width}", pixels.len()).into());
        }
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as f64;
    let tallest = |row: &[Option<Picture>]| row.iter().flatten().map(|p| size(p).1).fold(0.0, f64::max);
    let heights: Vec<f64> = rows.iter().map(|row| tallest(row) + 34.0).collect();
    let width = (56.0 + columns * (SIDE + GAP) - GAP).max(56.0 + 1.12 * text_width(title, 21.0));
    save(path.as_ref(), width.ceil(), (82.0 + heights.iter().sum::<f64>()).ceil(), |page| {
        page.text(title, (28.0, 42.0), 21.0, Align::Left, INK)?;
        let mut top = 68.0;
        for (row, height) in rows.iter().zip(&heights) {
            for (i, picture) in row.iter().enumerate() {
                let Some(picture) = picture else { continue };
                let (w, h) = size(picture);
                let middle = 28.0 + i as f64 * (SIDE + GAP) + SIDE / 2.0;
                // Half a dot would blur the raster.
                let corner = ((middle - w / 2.0).round(), top);
                page.rect((corner.0 - 0.5, corner.1 - 0.5), (w + 1.0, h + 1.0), EDGE)?;
                page.raster(corner, (w, h), picture.width, &colours(picture.pixels))?;
                let label = fit(picture.label, SMALL, SIDE);
                page.text(&label, (middle, top + h + 17.0), SMALL, Align::Center, FADED)?;
            }
            top += height;
        }
        Ok(())
    })
}

/// The size on the page: a whole number of dots to a pixel, so many that the longer side is about `SIDE`.
fn size(picture: &Picture) -> (f64, f64) {
    let longer = picture.height.max(picture.width) as f64;
    let magnified = if longer > 2.0 * SIDE { SIDE / longer } else { (2.0 * SIDE / longer).floor() / 2.0 };
    (picture.width as f64 * magnified, picture.height as f64 * magnified)
}

/// 64 shades at most: more cannot be seen, and equal neighbours make a small SVG.
fn colours(pixels: &[f32]) -> Vec<RGBColor> {
    let finite = || pixels.iter().copied().filter(|v| v.is_finite()).map(f64::from);
    let (low, high) = finite().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let (map, low, high) = if low < 0.0 {
        let far = high.max(-low);
        (DIVERGING, -far, far)
    } else {
        (VIRIDIS, low, high)
    };
    let range = if high > low { high - low } else { 1.0 };
    let shade = |v: f64| map.at(((v - low) / range * 63.0).round() / 63.0);
    pixels.iter().map(|&v| if v.is_nan() { EDGE } else { shade(f64::from(v)) }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::drawn;
    use super::*;

    /// A ring with soft edges, `n` times `n`.
    fn ring(n: usize) -> Vec<f32> {
        let c = (n as f32 - 1.0) / 2.0;
        let radius = |i: usize| ((i / n) as f32 - c).hypot((i % n) as f32 - c) / c;
        (0..n * n).map(|i| (1.0 - 4.0 * (radius(i) - 0.6).abs()).max(0.0)).collect()
    }

    /// How much `image` of 28 times 28 grows in direction `(dy, dx)`.
    fn slope(image: &[f32], dy: f32, dx: f32) -> Vec<f32> {
        let at = |y: usize, x: usize| image[y.min(27) * 28 + x.min(27)];
        let grows = |y, x| dy * (at(y + 1, x) - at(y, x)) + dx * (at(y, x + 1) - at(y, x));
        (0..28 * 28).map(|i| grows(i / 28, i % 28)).collect()
    }

    fn pool(map: &[f32]) -> Vec<f32> {
        let at = |i: usize, k: usize| map[(i / 14 * 2 + k / 2) * 28 + i % 14 * 2 + k % 2];
        (0..14 * 14).map(|i| (0..4).map(|k| at(i, k)).fold(f32::MIN, f32::max)).collect()
    }

    #[test]
    fn maps_above_what_pooling_keeps() {
        let input = ring(28);
        let mut maps = [(1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (0.7, -0.7)].map(|(y, x)| slope(&input, y, x)).to_vec();
        maps.push(maps[0].iter().map(|v| v.max(0.0)).collect());
        let pooled: Vec<_> = maps.iter().map(|m| pool(m)).collect();
        let square = |label, pixels, side| Some(Picture { label, pixels, height: side, width: side });
        let names = ["down", "right", "both", "across", "down, relu"];
        let mut rows = vec![vec![square("input", &input, 28)], vec![None]];
        for ((map, pooled), name) in maps.iter().zip(&pooled).zip(names) {
            rows[0].push(square(name, map, 28));
            rows[1].push(square("max-pooled", pooled, 14));
        }
        let (w, h, _, svg) = drawn(|path| image_grid(path, "What the first layer sees", &rows));
        assert_eq!((w, h), (1596, 748));
        for label in ["What the first layer sees", "input", "down, relu", "max-pooled"] {
            assert!(svg.contains(label), "{label}");
        }
        assert!(svg.len() < 600_000, "{}", svg.len());
    }

    #[test]
    fn odd_images() {
        let wide = vec![f32::NAN; 3 * 500];
        let flat = [0.5, 0.5];
        let rows = vec![
            vec![Some(Picture { label: "wide, and all of it missing", pixels: &wide, height: 3, width: 500 })],
            vec![],
            vec![None, Some(Picture { label: "flat", pixels: &flat, height: 2, width: 1 })],
        ];
        drawn(|path| image_grid(path, "Empty", &[]));
        let (w, _, _, svg) = drawn(|path| image_grid(path, "Odd", &rows));
        assert_eq!(w, 2 * (56 + 2 * 112 + 14));
        assert!(svg.contains("wide") && svg.contains("flat"));
    }

    #[test]
    fn refuses_what_is_no_image() {
        for (pixels, height, width) in [(&[1.0, 2.0][..], 1, 1), (&[], 0, 4), (&[1.0], usize::MAX, 2)] {
            let picture = Picture { label: "map 3", pixels, height, width };
            let error = image_grid("never", "t", &[vec![Some(picture)]]).unwrap_err().to_string();
            assert!(error.starts_with("image_grid: map 3: "), "{error}");
        }
    }

    #[test]
    fn each_image_has_its_own_range() {
        assert_eq!(colours(&[0.0, 10.0]), [VIRIDIS.at(0.0), VIRIDIS.at(1.0)]);
        assert_eq!(colours(&[3.0, 3.0]), [VIRIDIS.at(0.0); 2]);
        assert_eq!(colours(&[-1.0, 2.0])[1], DIVERGING.at(1.0));
        assert_eq!(colours(&[f32::NAN, 1.0])[0], EDGE);
    }
}
