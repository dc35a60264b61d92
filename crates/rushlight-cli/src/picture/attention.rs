//! What tokens looked at: a map of weights for each layer and head.

use std::path::Path;

use plotters::style::RGBColor;

use super::Result;
use super::page::{Align, Page, fit, save, text_width};
use super::palette::{BLUES, EDGE, FADED, INK, PAPER, mix};

/// The weights of some layers of attention.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// The tokens that look: `T`.
    pub rows: &'a [String],
    /// The tokens that are looked at: `S`.
    pub columns: &'a [String],
    /// Heads of a layer.
    pub heads: usize,
    /// For each layer its weights, `[heads, T, S]`.
    pub layers: &'a [Vec<f32>],
}

/// The longest label, and the most room for all maps side by side or one below the other.
const LABEL: f64 = 76.0;
const ROOM: f64 = 4400.0;
/// The least size of a cell that has room for its token's name.
const NAMED: f64 = 9.0;
const GAP: f64 = 26.0;
const MARGIN: f64 = 28.0;

/// Draws a row of maps for each layer, one for each head: rows look, columns are looked at, darker is more. `caption`
/// stands below the title.
///
/// Errors: no layer, head or token; weights that are not `heads · T · S`.
pub fn attention(path: impl AsRef<Path>, title: &str, caption: &str, shown: &Attention) -> Result {
    let Attention { rows, columns, heads, layers } = *shown;
    let each = heads * rows.len() * columns.len();
    if each == 0 || layers.is_empty() || layers.iter().any(|l| l.len() != each) {
        let sizes: Vec<usize> = layers.iter().map(Vec::len).collect();
        let (t, s) = (rows.len(), columns.len());
        return Err(
            format!("attention: {heads} heads of {t} rows and {s} columns, but layers of {sizes:?} weights").into()
        );
    }
    let map = Map::new(shown);
    let (w, h) = map.size();
    let width = (2.0 * MARGIN + heads as f64 * (w + GAP) - GAP)
        .max(2.0 * MARGIN + 1.12 * text_width(title, 21.0))
        .max(2.0 * MARGIN + 1.12 * text_width(caption, 13.0))
        .max(2.0 * MARGIN + KEY);
    save(path.as_ref(), width.ceil(), (118.0 + layers.len() as f64 * (h + GAP)).ceil(), |page| {
        page.text(title, (MARGIN, 42.0), 21.0, Align::Left, INK)?;
        page.text(caption, (MARGIN, 64.0), 13.0, Align::Left, FADED)?;
        key(page, (MARGIN, 78.0))?;
        for (layer, weights) in layers.iter().enumerate() {
            for (head, weights) in weights.chunks_exact(each / heads).enumerate() {
                let corner = (MARGIN + head as f64 * (w + GAP), 118.0 + layer as f64 * (h + GAP));
                let name = match heads {
                    1 => format!("layer {}", layer + 1),
                    _ => format!("layer {}, head {}", layer + 1, head + 1),
                };
                map.draw(page, corner, &name, weights)?;
            }
        }
        Ok(())
    })
}

/// How a token is written in a picture: with its spaces and line ends.
pub fn visible(token: &str) -> String {
    let shown = |c: char| match c {
        ' ' => '·',
        '\n' => '¶',
        c if c.is_control() => '¬',
        c => c,
    };
    token.chars().map(shown).collect()
}

/// 48 shades: more cannot be seen, and equal neighbours make a small SVG. By the square root, or the small weights of a
/// long text would all be white.
fn colour(weight: f32) -> RGBColor {
    if weight.is_nan() { EDGE } else { BLUES.at((f64::from(weight).max(0.0).sqrt() * 48.0).round() / 48.0) }
}

/// The width of the colour key.
const KEY: f64 = 250.0;

/// Which colour is which weight.
fn key(page: &mut Page, (x, y): (f64, f64)) -> Result {
    page.text("weight", (x, y + 10.5), 11.0, Align::Left, FADED)?;
    for (i, weight) in [0.0, 0.01, 0.05, 0.2, 0.5, 1.0f32].into_iter().enumerate() {
        let x = x + 46.0 + i as f64 * 34.0;
        page.rect((x - 0.5, y - 0.5), (33.0, 13.0), EDGE)?;
        page.rect((x, y), (32.0, 12.0), colour(weight))?;
        let ink = if weight > 0.3 { PAPER } else { INK };
        page.text(&weight.to_string(), (x + 16.0, y + 9.5), 9.5, Align::Center, ink)?;
    }
    Ok(())
}

/// How all maps of a picture are laid out.
struct Map {
    /// The side of a cell.
    cell: f64,
    /// The size of the labels' font.
    em: f64,
    rows: Labels,
    columns: Labels,
    /// Whether the columns' labels run upwards.
    upright: bool,
}

/// The names along a side: every `step`th.
struct Labels {
    names: Vec<String>,
    step: usize,
    longest: f64,
}

impl Labels {
    fn new(tokens: &[String], cell: f64, em: f64) -> Labels {
        let names: Vec<String> = tokens.iter().map(|token| fit(token, em, LABEL)).collect();
        // Other fonts than the one measured with run wider.
        let longest = 1.12 * names.iter().map(|name| text_width(name, em)).fold(0.0, f64::max);
        Labels { names, step: (NAMED / cell).ceil().max(1.0) as usize, longest }
    }

    /// Whether neighbours would, side by side.
    fn meet(&self, cell: f64, em: f64) -> bool {
        let widths: Vec<f64> = self.shown().map(|(_, name)| 1.12 * text_width(name, em)).collect();
        widths.windows(2).any(|pair| (pair[0] + pair[1]) / 2.0 + 1.0 > cell * self.step as f64)
    }

    fn shown(&self) -> impl Iterator<Item = (usize, &String)> {
        self.names.iter().enumerate().step_by(self.step)
    }
}

impl Map {
    fn new(shown: &Attention) -> Map {
        let fair = |maps: usize, tokens: usize| (ROOM / maps as f64 - GAP - 1.2 * LABEL) / tokens as f64;
        let least = fair(shown.heads, shown.columns.len()).min(fair(shown.layers.len(), shown.rows.len()));
        // In whole dots.
        let cell = ((2.0 * least.min(11.0)).floor() / 2.0).max(0.5);
        let em = cell.clamp(NAMED, 11.0) * 0.9;
        let (rows, columns) = (Labels::new(shown.rows, cell, em), Labels::new(shown.columns, cell, em));
        let upright = columns.meet(cell, em);
        Map { cell, em, rows, columns, upright }
    }

    /// Above the cells: the name of the map, and the labels of the columns.
    fn above(&self) -> f64 {
        20.0 + if self.upright { self.columns.longest } else { self.em }
    }

    fn size(&self) -> (f64, f64) {
        let side = |labels: &Labels| labels.names.len() as f64 * self.cell;
        // The name of the map is some 90 wide.
        ((self.rows.longest + 6.0 + side(&self.columns)).max(96.0), self.above() + 6.0 + side(&self.rows))
    }

    fn draw(&self, page: &mut Page, (x, y): (f64, f64), name: &str, weights: &[f32]) -> Result {
        let (cell, em) = (self.cell, self.em);
        let corner = ((x + self.rows.longest + 6.0).round(), (y + self.above() + 6.0).round());
        let size = (self.columns.names.len() as f64 * cell, self.rows.names.len() as f64 * cell);
        page.text(name, (x, y + 10.0), 13.0, Align::Left, INK)?;
        page.rect((corner.0 - 0.5, corner.1 - 0.5), (size.0 + 1.0, size.1 + 1.0), EDGE)?;
        let colours: Vec<RGBColor> = weights.iter().map(|&w| colour(w)).collect();
        page.raster(corner, size, self.columns.names.len(), &colours)?;
        // Lines to follow from a name to its cell.
        let faint = mix(EDGE, PAPER, 0.35);
        for i in (5..self.rows.names.len()).step_by(5).filter(|_| cell >= NAMED) {
            page.rect((corner.0, corner.1 + i as f64 * cell - 0.25), (size.0, 0.5), faint)?;
        }
        for i in (5..self.columns.names.len()).step_by(5).filter(|_| cell >= NAMED) {
            page.rect((corner.0 + i as f64 * cell - 0.25, corner.1), (0.5, size.1), faint)?;
        }
        let middle = |i: usize| (i as f64 + 0.5) * cell;
        for (i, name) in self.rows.shown() {
            page.text(name, (corner.0 - 4.0, corner.1 + middle(i) + 0.34 * em), em, Align::Right, INK)?;
        }
        for (i, name) in self.columns.shown() {
            let (x, y) = (corner.0 + middle(i), corner.1 - 4.0);
            if self.upright {
                page.text_up(name, (x + 0.34 * em, y), em, Align::Left, INK)?;
            } else {
                page.text(name, (x, y), em, Align::Center, INK)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::drawn;
    use super::*;

    /// Weights that mostly follow the diagonal, less sharply with each head.
    fn weights(heads: usize, t: usize, s: usize, causal: bool) -> Vec<f32> {
        let mut out = vec![];
        for (head, i) in (0..heads).flat_map(|h| (0..t).map(move |i| (h, i))) {
            let at = i as f32 * s as f32 / t as f32;
            let far = |j: usize| (j as f32 - at).powi(2) / (0.5 + 3.0 * head as f32).powi(2);
            let row: Vec<f32> = (0..s).map(|j| if causal && j > i { 0.0 } else { (-far(j)).exp() }).collect();
            let sum: f32 = row.iter().sum();
            out.extend(row.iter().map(|w| w / sum));
        }
        out
    }

    fn tokens(text: &str) -> Vec<String> {
        text.split_inclusive(' ').map(visible).collect()
    }

    #[test]
    fn words_that_look_at_words() {
        let english = tokens("He said that the international conference would begin tomorrow , at nine .");
        let spanish = tokens("Dijo que la conferencia internacional empezaría mañana , a las nueve .");
        let layers: Vec<_> = (0..3).map(|_| weights(4, spanish.len(), english.len(), false)).collect();
        let shown = Attention { rows: &spanish, columns: &english, heads: 4, layers: &layers };
        let (_, _, _, svg) = drawn(|path| attention(path, "What was translated", "each row was written", &shown));
        for label in ["international·", "mañana·", "layer 3, head 4", "rotate(270", "What was translated", "0.05"] {
            assert!(svg.contains(label), "{label}");
        }
    }

    #[test]
    fn characters_that_look_back() {
        let text: Vec<String> = "ROMEO:\nWhat say'st thou? Of the queen, my lord, and\nthe"
            .chars()
            .map(|c| visible(&c.to_string()))
            .collect();
        let n = text.len();
        let layers: Vec<_> = (0..2).map(|_| weights(2, n, n, true)).collect();
        let shown = Attention { rows: &text, columns: &text, heads: 2, layers: &layers };
        let (_, _, _, svg) = drawn(|path| attention(path, "ROMEO", "", &shown));
        assert!(svg.contains('¶') && svg.contains('·') && !svg.contains("rotate(270"));
    }

    #[test]
    fn many_heads_and_a_long_text() {
        let text: Vec<String> = (0..100).map(|i| format!("token{i}")).collect();
        let layers = [weights(16, 100, 100, true)];
        let shown = Attention { rows: &text, columns: &text, heads: 16, layers: &layers };
        let (w, h, _, svg) = drawn(|path| attention(path, "long", "", &shown));
        assert!(w < 9000 && h < 1000, "{w} x {h}");
        // There is room for every sixth name.
        assert!(svg.contains("token6\n") && !svg.contains("token7\n"), "names");
    }

    #[test]
    fn one_token() {
        let one = ["a".to_string()];
        let shown = Attention { rows: &one, columns: &one, heads: 1, layers: &[vec![f32::NAN]] };
        drawn(|path| attention(path, "one", "", &shown));
    }

    #[test]
    fn refuses_weights_that_do_not_fit() {
        let (a, b) = (["a".to_string()], ["b".to_string(), "c".to_string()]);
        for layers in [&[][..], &[vec![0.5; 2], vec![1.0]]] {
            let shown = Attention { rows: &a, columns: &b, heads: 1, layers };
            let error = attention("never", "t", "", &shown).unwrap_err().to_string();
            assert!(error.starts_with("attention: 1 heads of 1 rows and 2 columns, but layers of ["), "{error}");
        }
        let shown = Attention { rows: &[], columns: &b, heads: 1, layers: &[vec![]] };
        assert!(attention("never", "t", "", &shown).is_err());
    }
}
