//! The confusion matrix: how often each true class was taken for each other.

use std::path::Path;

use super::Result;
use super::axes::{SMALL, number};
use super::page::{Align, fit, save, text_width};
use super::palette::{BLUES, FADED, GRID, INK, PAPER, mix};

/// Draws `counts[true][predicted]`: counts in the cells, coloured by their share of the row.
///
/// Errors: `counts` is not as many rows of as many columns as there are names.
pub fn confusion(path: impl AsRef<Path>, class_names: &[String], counts: &[Vec<u64>]) -> Result {
    let n = class_names.len();
    if n == 0 || counts.len() != n || counts.iter().any(|row| row.len() != n) {
        let sizes: Vec<usize> = counts.iter().map(Vec::len).collect();
        return Err(format!("confusion: {n} classes, but rows of {sizes:?} counts").into());
    }
    let cell = match n {
        ..=12 => 50.0,
        13..=24 => 36.0,
        _ => 22.0,
    };
    let names: Vec<String> = class_names.iter().map(|name| fit(name, SMALL, 160.0)).collect();
    // Other fonts than the one measured with run wider.
    let longest = 1.12 * names.iter().map(|name| text_width(name, SMALL)).fold(0.0, f64::max);
    let upright = longest + 4.0 > cell;

    let (left, top) = (longest + 44.0, 102.0 + if upright { longest } else { 16.0 });
    let side = n as f64 * cell;
    let total: u64 = counts.iter().flatten().sum();
    let right: u64 = (0..n).map(|i| counts[i][i]).sum();
    let title = match total {
        0 => "no samples".to_string(),
        _ => format!("{}% of {} right", number(100.0 * right as f64 / total as f64, 1), number(total as f64, 0)),
    };
    let width = (left + side + 78.0).max(text_width(&title, 21.0) * 1.12 + 56.0);

    save(path.as_ref(), width.ceil(), (top + side + 32.0).ceil(), |page| {
        page.text(&title, (28.0, 42.0), 21.0, Align::Left, INK)?;
        page.text("predicted", (left + side / 2.0, 78.0), SMALL + 1.0, Align::Center, FADED)?;
        page.text("true", (left - 12.0, top - 12.0), SMALL + 1.0, Align::Right, FADED)?;
        page.text("recall", (left + side + 12.0, top - 12.0), SMALL + 1.0, Align::Left, FADED)?;
        for (i, name) in names.iter().enumerate() {
            let middle = (i as f64 + 0.5) * cell;
            page.text(name, (left - 12.0, top + middle + 0.35 * SMALL), SMALL, Align::Right, INK)?;
            if upright {
                page.text_up(name, (left + middle + 0.35 * SMALL, top - 10.0), SMALL, Align::Left, INK)?;
            } else {
                page.text(name, (left + middle, top - 12.0), SMALL, Align::Center, INK)?;
            }
        }
        page.rect((left - 1.0, top - 1.0), (side + 1.0, side + 1.0), GRID)?;
        for (i, row) in counts.iter().enumerate() {
            let sum = row.iter().sum::<u64>();
            for (j, &count) in row.iter().enumerate() {
                let share = count as f64 / sum.max(1) as f64;
                let (x, y) = (left + j as f64 * cell, top + i as f64 * cell);
                let colour = BLUES.at(share);
                page.rect((x, y), (cell - 1.0, cell - 1.0), colour)?;
                let ink = match share {
                    _ if count == 0 => mix(FADED, PAPER, 0.6),
                    0.55.. => PAPER,
                    _ => INK,
                };
                let text = count.to_string();
                let em = (0.3 * cell).min(0.3 * cell * (0.8 * cell) / (text_width(&text, 0.3 * cell) * 1.12));
                let base = (x + (cell - 1.0) / 2.0, y + (cell - 1.0) / 2.0 + 0.35 * em);
                page.text(&text, base, em, Align::Center, ink)?;
            }
            let recall = if sum == 0 { "–".into() } else { number(100.0 * row[i] as f64 / sum as f64, 1) + "%" };
            let base = (left + side + 12.0, top + (i as f64 + 0.5) * cell + 0.35 * SMALL);
            page.text(&recall, base, SMALL, Align::Left, FADED)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::drawn;
    use super::*;

    fn counts(n: usize, each: u64) -> Vec<Vec<u64>> {
        let off = |i: usize, j: usize| if (i + j) % 4 == 2 { each / 40 * (i as u64 % 3) } else { (i * j % 3) as u64 };
        (0..n)
            .map(|i| (0..n).map(|j| if i == j { each - i as u64 * (each / 40) } else { off(i, j) }).collect())
            .collect()
    }

    #[test]
    fn long_names_run_upwards() {
        let names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot";
        let names: Vec<String> = names.split(',').map(String::from).collect();
        let (_, _, _, svg) = drawn(|path| confusion(path, &names, &counts(10, 1000)));
        for label in names.iter().map(String::as_str).chain(["predicted", "true", "1000", "rotate(270", "% of "]) {
            assert!(svg.contains(label), "{label}");
        }
    }

    #[test]
    fn short_names_run_across() {
        let names = ["no".to_string(), "yes".to_string()];
        let (w, h, dots, svg) = drawn(|path| confusion(path, &names, &[vec![75, 25], vec![0, 0]]));
        assert!(svg.contains("75.0% of 100 right") && !svg.contains("rotate"));
        assert_eq!(dots.len(), (w * h * 3) as usize);
    }

    #[test]
    fn many_classes_and_large_counts() {
        let names: Vec<String> = (0..36).map(|i| i.to_string()).collect();
        drawn(|path| confusion(path, &names, &counts(36, 1_234_567)));
    }

    #[test]
    fn refuses_what_is_not_square() {
        let names = ["a".to_string(), "b".to_string()];
        for counts in [vec![], vec![vec![1, 2]], vec![vec![1, 2], vec![1]]] {
            let error = confusion("never", &names, &counts).unwrap_err().to_string();
            assert!(error.starts_with("confusion: 2 classes, but rows of ["), "{error}");
        }
        assert!(confusion("never", &[], &[]).is_err());
    }
}
