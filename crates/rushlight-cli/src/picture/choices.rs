//! What a model weighed before each token that it wrote.

use std::path::Path;

use super::Result;
use super::axes::{SMALL, number};
use super::page::{Align, Page, Point, fit, save, text_width};
use super::palette::{BLUE, FADED, GRID, INK, ORANGE, PAPER, mix};

/// A token that was written.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The text that it continues.
    pub before: String,
    /// Tokens with their probabilities, likeliest first.
    pub weighed: Vec<(String, f64)>,
    /// Which of them was written.
    pub chosen: usize,
}

/// Cards side by side, and the size of each but for its lines.
const COLUMNS: usize = 6;
const CARD: f64 = 172.0;
const HEAD: f64 = 30.0;
const LINE: f64 = 15.5;
const GAP: Point = (20.0, 22.0);
const MARGIN: f64 = 28.0;
/// In a card: the end of the names, and the length of a bar of all.
const NAMES: f64 = 54.0;
const BAR: f64 = 68.0;

/// Draws a card for each token: the text before it, and the alternatives as bars, the written one in orange.
///
/// Errors: no token; a choice of none, or of one that was not weighed.
pub fn choices(path: impl AsRef<Path>, title: &str, caption: &str, shown: &[Choice]) -> Result {
    if shown.is_empty() {
        return Err("choices: no token was written".into());
    }
    if let Some(at) = shown.iter().position(|c| c.chosen >= c.weighed.len()) {
        let (chosen, n) = (shown[at].chosen, shown[at].weighed.len());
        return Err(format!("choices: token {at} is number {chosen} of {n} that were weighed").into());
    }
    let lines = shown.iter().map(|c| c.weighed.len()).max().unwrap_or(0);
    let columns = shown.len().min(COLUMNS);
    let height = HEAD + lines as f64 * LINE;
    let width = (2.0 * MARGIN + columns as f64 * (CARD + GAP.0) - GAP.0)
        .max(2.0 * MARGIN + 1.12 * text_width(title, 21.0))
        .max(2.0 * MARGIN + 1.12 * text_width(caption, 13.0));
    let rows = shown.len().div_ceil(columns) as f64;
    save(path.as_ref(), width.ceil(), (88.0 + rows * (height + GAP.1)).ceil(), |page| {
        page.text(title, (MARGIN, 42.0), 21.0, Align::Left, INK)?;
        page.text(caption, (MARGIN, 64.0), 13.0, Align::Left, FADED)?;
        for (i, choice) in shown.iter().enumerate() {
            let (row, column) = ((i / columns) as f64, (i % columns) as f64);
            card(page, (MARGIN + column * (CARD + GAP.0), 88.0 + row * (height + GAP.1)), choice)?;
        }
        Ok(())
    })
}

fn card(page: &mut Page, (x, y): Point, choice: &Choice) -> Result {
    let written = &choice.weighed[choice.chosen].0;
    // Other fonts than the one measured with run wider: the token to the right, the text before it into the gap.
    let token = fit(written, 14.0, 64.0 / 1.12);
    let before = tail(&choice.before, 14.0, CARD - 1.12 * text_width(&token, 14.0) - 2.0);
    let seam = x + text_width(&before, 14.0);
    page.text(&before, (seam, y + 13.0), 14.0, Align::Right, FADED)?;
    page.text(&token, (seam + 0.5, y + 13.0), 14.0, Align::Left, ORANGE)?;
    page.rect((x, y + 19.0), (CARD, 1.0), GRID)?;
    for (i, (token, p)) in choice.weighed.iter().enumerate() {
        let base = y + HEAD + i as f64 * LINE + 6.0;
        let (ink, fill) = if i == choice.chosen { (INK, ORANGE) } else { (FADED, mix(BLUE, PAPER, 0.35)) };
        page.text(&fit(token, SMALL, NAMES / 1.12), (x + NAMES, base), SMALL, Align::Right, ink)?;
        let bar = (BAR * p.clamp(0.0, 1.0)).max(0.5);
        page.rect((x + NAMES + 6.0, base - 9.0), (bar, 11.0), fill)?;
        let percent = if *p < 0.0005 { "< 0.1%".into() } else { number(100.0 * p, 1) + "%" };
        page.text(&percent, (x + NAMES + 6.0 + bar + 5.0, base), 11.0, Align::Left, ink)?;
    }
    Ok(())
}

/// As much of the end of `text` as `width` allows.
fn tail(text: &str, em: f64, width: f64) -> String {
    let mut starts: Vec<usize> = text.char_indices().map(|(at, _)| at).rev().take(60).collect();
    // A kern aside, a longer end is wider.
    let fits = starts.iter().take_while(|&&at| text_width(&text[at..], em) <= width).count();
    starts.truncate(fits);
    starts.last().map_or(String::new(), |&at| text[at..].to_string())
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::drawn;
    use super::*;

    fn choice(before: &str, weighed: &[(&str, f64)], chosen: usize) -> Choice {
        Choice { before: before.into(), weighed: weighed.iter().map(|&(t, p)| (t.into(), p)).collect(), chosen }
    }

    #[test]
    fn cards_in_reading_order() {
        let mut shown = vec![
            choice("", &[("T", 1.0), ("W", 0.0004)], 0),
            choice("ROMEO:¶What·say'st·thou·my·lord", &[("·the", 0.5), ("·a", 0.25), ("·queen", 0.01)], 2),
            choice("WWWWWWWWWWWWWWWWWWWWWWWWW", &[("·incomprehensibilities", 0.999), ("WWWWWWWW", 0.001)], 0),
        ];
        for i in 0..20 {
            let weighed = [("·to", 0.4), ("·be", 0.3), (",", 0.1), ("·or", 0.05), ("·not", 0.05), ("¶", 0.02)];
            shown.push(choice("It·is·a·far·better·thing", &weighed, i % 6));
        }
        let (w, h, _, svg) = drawn(|path| choices(path, "What it weighed", "the model's own probabilities", &shown));
        assert_eq!((w, h), (2 * (56 + 6 * 172 + 5 * 20), 2 * (88 + 4 * (30 + 93 + 22))));
        for label in ["·queen", "100.0%", "&lt; 0.1%", "y·lord", "What it weighed"] {
            assert!(svg.contains(label), "{label}");
        }
    }

    #[test]
    fn the_end_of_a_text_is_kept() {
        assert_eq!(tail("to be or not", 14.0, 1000.0), "to be or not");
        assert_eq!(tail("", 14.0, 10.0), "");
        assert_eq!(tail("abc", 14.0, 1.0), "");
        let end = tail("¿dónde está la biblioteca?", 14.0, 60.0);
        assert!(end.ends_with("oteca?") && text_width(&end, 14.0) <= 60.0, "{end}");
    }

    #[test]
    fn refuses_choices_of_nothing() {
        assert!(choices("never", "t", "", &[]).unwrap_err().to_string().contains("no token was written"));
        let error = choices("never", "t", "", &[choice("", &[("a", 1.0)], 1)]).unwrap_err().to_string();
        assert_eq!(error, "choices: token 0 is number 1 of 1 that were weighed");
    }
}
