//! The sheet a picture is drawn on, once, and saved as SVG and PNG.
//!
//! Lengths are CSS pixels from the top left. Both files hold two dots to the pixel: sharp on dense screens, and half
//! as coarse as the whole numbers `plotters` takes. Text is set in Ubuntu Light, which the program carries, so that a
//! PNG has text on a machine without fonts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, ScaleFont};
use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBColor, ShapeStyle};

use super::Result;
use super::palette::PAPER;

/// Dots to the pixel.
const SCALE: f64 = 2.0;

/// A picture of more than this is a mistake: nobody looks at a confusion of thousands of classes.
const MOST_DOTS: u64 = 1 << 28;

/// A place on the page.
pub type Point = (f64, f64);

static FONT: LazyLock<FontRef> =
    LazyLock::new(|| FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).expect("the font of the program"));

/// Where a text lies from the place it is put at.
#[derive(Clone, Copy)]
pub enum Align {
    Left,
    Center,
    Right,
}

/// What a page can be drawn with. Lengths are dots here.
trait Surface {
    /// Whether each dot is stored anyway, so that detail costs nothing.
    fn in_dots(&self) -> bool;
    fn rect(&mut self, corner: (i32, i32), opposite: (i32, i32), colour: RGBColor) -> Result;
    fn stroke(&mut self, points: &[Point], width: f64, colour: RGBColor) -> Result;
    fn disc(&mut self, center: Point, radius: f64, colour: RGBColor) -> Result;
    /// `em` is the size of the font; the text stands on `base`, turned to run upwards if `upwards`.
    fn text(&mut self, text: &str, base: Point, em: f64, align: Align, upwards: bool, colour: RGBColor) -> Result;
}

/// A page under the pen.
pub struct Page<'a> {
    surface: &'a mut dyn Surface,
}

impl Page<'_> {
    /// Whether each dot is stored anyway, two to the pixel, so that detail costs nothing.
    pub fn in_dots(&self) -> bool {
        self.surface.in_dots()
    }

    /// A filled rectangle by its upper left corner and size.
    pub fn rect(&mut self, (x, y): Point, (w, h): Point, colour: RGBColor) -> Result {
        self.surface.rect((dots(x), dots(y)), (dots(x + w), dots(y + h)), colour)
    }

    /// A line through all of `points`, round at its corners and ends.
    pub fn line(&mut self, points: &[Point], width: f64, colour: RGBColor) -> Result {
        let points: Vec<Point> = points.iter().map(|&(x, y)| (x * SCALE, y * SCALE)).collect();
        if points.is_empty() { Ok(()) } else { self.surface.stroke(&points, width * SCALE, colour) }
    }

    /// A filled circle.
    pub fn disc(&mut self, (x, y): Point, radius: f64, colour: RGBColor) -> Result {
        self.surface.disc((x * SCALE, y * SCALE), radius * SCALE, colour)
    }

    /// One line of text that stands on `base`.
    pub fn text(&mut self, text: &str, base: Point, em: f64, align: Align, colour: RGBColor) -> Result {
        self.surface.text(text, (base.0 * SCALE, base.1 * SCALE), em * SCALE, align, false, colour)
    }

    /// One line of text that runs upwards along `base`.
    pub fn text_up(&mut self, text: &str, base: Point, em: f64, align: Align, colour: RGBColor) -> Result {
        self.surface.text(text, (base.0 * SCALE, base.1 * SCALE), em * SCALE, align, true, colour)
    }

    /// A raster of `columns` cells a row, in the rectangle at `corner` of `size`.
    pub fn raster(&mut self, corner: Point, size: Point, columns: usize, cells: &[RGBColor]) -> Result {
        let rows = cells.len() / columns.max(1);
        let at = |i: usize, n: usize, start: f64, length: f64| dots(start + length * i as f64 / n as f64);
        let [right, bottom] = [dots(corner.0 + size.0), dots(corner.1 + size.1)];
        for (r, row) in cells.chunks_exact(columns.max(1)).enumerate() {
            let (top, below) = (at(r, rows, corner.1, size.1), at(r + 1, rows, corner.1, size.1));
            let mut c = 0;
            for run in row.chunk_by(|a, b| a == b) {
                let (left, after) = (at(c, columns, corner.0, size.0), at(c + run.len(), columns, corner.0, size.0));
                // A dot more to the right and below, where the next cells lie over it: else a magnified SVG shows
                // the paper between them.
                self.surface.rect((left, top), ((after + 1).min(right), (below + 1).min(bottom)), run[0])?;
                c += run.len();
            }
        }
        Ok(())
    }
}

/// The width of a text. Where an SVG is shown without this font it may run a good tenth wider.
pub fn text_width(text: &str, em: f64) -> f64 {
    layout(text, em).1
}

/// The glyphs of a text with how far from its start they stand, and the width of it all.
fn layout(text: &str, em: f64) -> (Vec<(ab_glyph::GlyphId, f64)>, f64) {
    // The scale of the font is its height from the lowest to the highest point, in dots.
    let font = FONT.as_scaled(em as f32 * FONT.height_unscaled() / FONT.units_per_em().unwrap_or(1000.0));
    let mut glyphs = vec![];
    let mut width = 0.0;
    for c in text.chars() {
        let glyph = font.glyph_id(c);
        if let Some(&(before, _)) = glyphs.last() {
            width += f64::from(font.kern(before, glyph));
        }
        glyphs.push((glyph, width));
        width += f64::from(font.h_advance(glyph));
    }
    (glyphs, width)
}

/// `text`, or as much of its two ends as `width` allows.
pub fn fit(text: &str, em: f64, width: f64) -> String {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len())
        .map(|cut| match cut {
            0 => text.to_string(),
            _ => {
                let kept = chars.len() - cut;
                let (head, tail) = (&chars[..kept / 2], &chars[chars.len() - (kept - kept / 2)..]);
                head.iter().chain(&['…']).chain(tail).collect()
            }
        })
        .find(|shorter| text_width(shorter, em) <= width)
        .unwrap_or_default()
}

/// Draws a page of `width` times `height` into `path` with `.svg` and with `.png`, in place of one of these endings if
/// `path` has it. An old picture is replaced whole or not at all.
pub fn save(path: &Path, width: f64, height: f64, draw: impl Fn(&mut Page) -> Result) -> Result {
    let size = (dots(width) as u32, dots(height) as u32);
    if u64::from(size.0) * u64::from(size.1) > MOST_DOTS {
        return Err(format!("a picture of {} by {} dots is too large", size.0, size.1).into());
    }

    let mut svg = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut svg, size);
        draw_on(&mut backend, width, height, &draw)?;
        backend.present()?;
    }
    // What the backend has no words for: its size on the page, round corners. What it need not say: the defaults.
    let shown = format!("<svg width=\"{width}\" height=\"{height}\" ");
    let svg = svg
        .replacen(&format!("<svg width=\"{}\" height=\"{}\" ", size.0, size.1), &shown, 1)
        .replace("<polyline ", "<polyline stroke-linejoin=\"round\" stroke-linecap=\"round\" ")
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "");

    let mut dots = vec![0; size.0 as usize * size.1 as usize * 3];
    draw_on(&mut BitMapBackend::with_buffer(&mut dots, size), width, height, &draw)?;
    let mut png = vec![];
    let mut encoder = png::Encoder::new(&mut png, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    // Large even areas pack best as they are.
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(&dots)?;

    for (ending, content) in [("svg", svg.as_bytes()), ("png", &png)] {
        let path = with_ending(path, ending);
        rushlight::io::write_atomic(&path, |file| file.write_all(content).map_err(|e| rushlight::Error::io(&path, e)))?;
    }
    Ok(())
}

fn draw_on(surface: &mut impl Surface, width: f64, height: f64, draw: impl Fn(&mut Page) -> Result) -> Result {
    let page = &mut Page { surface };
    page.rect((0.0, 0.0), (width, height), PAPER)?;
    draw(page)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    if path.extension().is_some_and(|e| e == "svg" || e == "png") {
        return path.with_extension(ending);
    }
    // A dot in `run.1` is no ending.
    let mut name = path.as_os_str().to_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

fn dots(length: f64) -> i32 {
    (length * SCALE).round() as i32
}

impl Surface for SVGBackend<'_> {
    fn in_dots(&self) -> bool {
        false
    }

    fn rect(&mut self, corner: (i32, i32), opposite: (i32, i32), colour: RGBColor) -> Result {
        Ok(self.draw_rect(corner, opposite, &colour.to_rgba(), true)?)
    }

    fn stroke(&mut self, points: &[Point], width: f64, colour: RGBColor) -> Result {
        let style = ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width: width.round().max(1.0) as u32 };
        let points = points.iter().map(|&(x, y)| (x.round() as i32, y.round() as i32));
        Ok(self.draw_path(points, &style)?)
    }

    fn disc(&mut self, (x, y): Point, radius: f64, colour: RGBColor) -> Result {
        Ok(self.draw_circle((x.round() as i32, y.round() as i32), radius.round() as u32, &colour.to_rgba(), true)?)
    }

    fn text(&mut self, text: &str, base: Point, em: f64, align: Align, upwards: bool, colour: RGBColor) -> Result {
        let horizontal = match align {
            Align::Left => HPos::Left,
            Align::Center => HPos::Center,
            Align::Right => HPos::Right,
        };
        // The backend divides the size by 1.24 and lowers a text hung at its top by 0.76 em.
        let family = "Ubuntu, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif";
        let turned = if upwards { FontTransform::Rotate270 } else { FontTransform::None };
        let font = (family, 1.24 * em).into_font().transform(turned);
        let style = font.color(&colour).pos(Pos::new(horizontal, VPos::Top));
        let (x, y) = if upwards { (base.0 - 0.76 * em, base.1) } else { (base.0, base.1 - 0.76 * em) };
        Ok(self.draw_text(text, &style, (x.round() as i32, y.round() as i32))?)
    }
}

impl Surface for BitMapBackend<'_> {
    fn in_dots(&self) -> bool {
        true
    }

    fn rect(&mut self, corner: (i32, i32), opposite: (i32, i32), colour: RGBColor) -> Result {
        Ok(self.draw_rect(corner, opposite, &colour.to_rgba(), true)?)
    }

    /// Each dot takes as much colour as its distance from the line says; the backend's own thick lines are polygons
    /// with hard edges, which a noisy curve turns inside out.
    fn stroke(&mut self, points: &[Point], width: f64, colour: RGBColor) -> Result {
        let (w, h) = self.get_size();
        let reach = width / 2.0 + 1.0;
        // From the first to the last dot that the values come near.
        let span = |values: &mut dyn Iterator<Item = f64>, end: u32| {
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            ((low - reach).max(0.0) as usize, (high + reach).clamp(0.0, f64::from(end)) as usize)
        };
        let (left, right) = span(&mut points.iter().map(|p| p.0), w);
        let (top, bottom) = span(&mut points.iter().map(|p| p.1), h);
        let columns = right.saturating_sub(left);
        let mut cover = vec![0f64; columns * bottom.saturating_sub(top)];
        let last = &points[points.len() - 1..];
        for segment in points.windows(2).chain((points.len() == 1).then_some(last)) {
            let (a, b) = (segment[0], segment[segment.len() - 1]);
            let (along, across) = ((b.0 - a.0), (b.1 - a.1));
            let square = (along * along + across * across).max(1e-12);
            let (x0, x1) = span(&mut [a.0, b.0].into_iter(), w);
            let (y0, y1) = span(&mut [a.1, b.1].into_iter(), h);
            for y in y0..y1 {
                for x in x0..x1 {
                    let (dx, dy) = (x as f64 + 0.5 - a.0, y as f64 + 0.5 - a.1);
                    let t = ((dx * along + dy * across) / square).clamp(0.0, 1.0);
                    let distance = (dx - t * along).hypot(dy - t * across);
                    let cell = &mut cover[(y - top) * columns + x - left];
                    *cell = cell.max((width / 2.0 + 0.5 - distance).clamp(0.0, 1.0));
                }
            }
        }
        for (i, &share) in cover.iter().enumerate().filter(|(_, c)| **c > 0.0) {
            let (x, y) = (left + i % columns, top + i / columns);
            self.draw_pixel((x as i32, y as i32), colour.mix(share).to_backend_color())?;
        }
        Ok(())
    }

    fn disc(&mut self, center: Point, radius: f64, colour: RGBColor) -> Result {
        self.stroke(&[center], 2.0 * radius, colour)
    }

    fn text(&mut self, text: &str, base: Point, em: f64, align: Align, upwards: bool, colour: RGBColor) -> Result {
        let (glyphs, width) = layout(text, em);
        let before = match align {
            Align::Left => 0.0,
            Align::Center => width / 2.0,
            Align::Right => width,
        };
        let scale = em as f32 * FONT.height_unscaled() / FONT.units_per_em().unwrap_or(1000.0);
        for (glyph, along) in glyphs {
            // Upwards, `x` of the glyph counts down the page from `base`, and `y` across it.
            let along = along - before;
            let start = if upwards { (along - base.1, base.0) } else { (along + base.0, base.1) };
            let position = ab_glyph::point(start.0 as f32, start.1 as f32);
            let Some(outline) = FONT.outline_glyph(glyph.with_scale_and_position(scale, position)) else { continue };
            let (left, top) = (outline.px_bounds().min.x as i32, outline.px_bounds().min.y as i32);
            let mut shares = vec![];
            outline.draw(|x, y, share| shares.push((left + x as i32, top + y as i32, share)));
            for (x, y, share) in shares {
                let dot = if upwards { (y, -x - 1) } else { (x, y) };
                self.draw_pixel(dot, colour.mix(f64::from(share)).to_backend_color())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `draw` drew at `path`: size and dots of the PNG, the text of the SVG; checks that nothing else is there.
    pub(crate) fn drawn(draw: impl Fn(&Path) -> Result) -> (u32, u32, Vec<u8>, String) {
        let dir = tempfile::tempdir().unwrap();
        draw(&dir.path().join("run.1")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let file = std::fs::File::open(dir.path().join("run.1.png")).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
        let mut dots = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut dots).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("run.1.svg")).unwrap();
        // To look at them.
        if let Some(folder) = std::env::var_os("RUSHLIGHT_PICTURES") {
            let name = std::thread::current().name().unwrap_or("picture").replace("::", ".");
            draw(&Path::new(&folder).join(name)).unwrap();
        }
        (frame.width, frame.height, dots, svg)
    }

    #[test]
    fn one_drawing_becomes_two_files() {
        let (w, h, dots, svg) = drawn(|path| {
            save(path, 100.0, 50.0, |page| {
                page.rect((10.0, 10.0), (20.0, 5.0), RGBColor(200, 0, 0))?;
                page.line(&[(50.0, 5.0), (50.0, 45.0)], 4.0, RGBColor(0, 0, 200))?;
                page.disc((80.0, 25.0), 10.0, RGBColor(0, 200, 0))?;
                page.text("a < b & c", (5.0, 45.0), 12.0, Align::Left, RGBColor(0, 0, 0))
            })
        });
        let dot = |x: usize, y: usize| <[u8; 3]>::try_from(&dots[(y * 200 + x) * 3..][..3]).unwrap();
        assert_eq!((w, h), (200, 100));
        assert_eq!(dot(0, 0), [253, 252, 250]);
        assert_eq!((dot(20, 20), dot(59, 29), dot(60, 30)), ([200, 0, 0], [200, 0, 0], dot(0, 0)));
        assert_eq!((dot(96, 50), dot(103, 50), dot(106, 50)), ([0, 0, 200], [0, 0, 200], dot(0, 0)));
        assert_eq!((dot(160, 50), dot(141, 50), dot(138, 50)), ([0, 200, 0], [0, 200, 0], dot(0, 0)));
        assert!((10..100).any(|x| dot(x, 84) != dot(0, 0)), "no text");
        assert!(svg.starts_with("<svg width=\"100\" height=\"50\" viewBox=\"0 0 200 100\""));
        for part in ["a &lt; b &amp; c", "<circle", "stroke-linejoin=\"round\"", "</svg>"] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn what_lies_outside_is_cut() {
        drawn(|path| {
            save(path, 20.0, 20.0, |page| {
                page.line(&[(-50.0, -50.0), (70.0, 70.0), (1e9, 3.0)], 3.0, RGBColor(0, 0, 0))?;
                page.line(&[(90.0, 10.0), (95.0, 10.0)], 3.0, RGBColor(0, 0, 0))?;
                page.line(&[], 3.0, RGBColor(0, 0, 0))?;
                page.disc((-9.0, 90.0), 5.0, RGBColor(0, 0, 0))
            })
        });
    }

    #[test]
    fn a_picture_has_an_end() {
        let error = save(Path::new("never"), 1e5, 1e5, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("200000 by 200000 dots is too large"), "{error}");
    }

    #[test]
    fn texts_are_measured_and_cut() {
        assert!((text_width("mmmm", 12.0) - 2.0 * text_width("mm", 12.0)).abs() < 0.2);
        assert!((2.0 * text_width("width", 12.0) - text_width("width", 24.0)).abs() < 0.2);
        assert_eq!(fit("layer", 12.0, 100.0), "layer");
        let name = "encoder.layers.0.attention.query.weight";
        let short = fit(name, 12.0, 100.0);
        assert!(short.starts_with("encod") && short.ends_with("weight") && short.contains('…'), "{short}");
        assert!(text_width(&short, 12.0) <= 100.0);
        assert_eq!(fit("layer", 12.0, 1.0), "");
    }

    #[test]
    fn an_ending_is_replaced_or_added() {
        for (path, svg) in [("a", "a.svg"), ("b/run.1", "b/run.1.svg"), ("a.png", "a.svg"), ("a.svg", "a.svg")] {
            assert_eq!(with_ending(Path::new(path), "svg"), Path::new(svg));
        }
    }
}
