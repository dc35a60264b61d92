//! What the metrics of translations share.

use std::fmt;

use rushlight::{Error, Result};

/// Who computed it, in a signature.
pub const VERSION: &str = concat!("rushlight-", env!("CARGO_PKG_VERSION"));

/// How many references a hypothesis has: all so many, or not all as many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum References {
    Each(usize),
    Various,
}

impl fmt::Display for References {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            References::Each(n) => write!(f, "{n}"),
            References::Various => f.write_str("var"),
        }
    }
}

/// Errors: other than one list of references to a hypothesis; an empty one; no hypothesis.
pub fn check_pairs<R: AsRef<[T]>, T>(op: &'static str, hypotheses: usize, references: &[R]) -> Result<References> {
    if hypotheses != references.len() {
        let message = format!("{hypotheses} hypotheses, but references for {}", references.len());
        return Err(Error::invalid(op, message));
    }
    let mut numbers = references.iter().map(|r| r.as_ref().len());
    if let Some(at) = numbers.clone().position(|n| n == 0) {
        return Err(Error::invalid(op, format!("hypothesis {at} has no reference")));
    }
    let first = numbers.next().ok_or_else(|| Error::invalid(op, "no hypothesis to measure"))?;
    Ok(if numbers.all(|n| n == first) { References::Each(first) } else { References::Various })
}

/// What Python, in which the others are written, takes for a space.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// The parts of a text between spaces.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}
