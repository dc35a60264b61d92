//! Einstein summation: `"bij,bjk->bik"` names the dims of each operand and of the result.
//!
//! `out[result letters] = Σ over the other letters of the product of the operands at their letters`. Each operand is
//! first made to have distinct letters (a repeated one takes the diagonal); then operands are contracted two by two
//! from the left: letters that neither the rest nor the result needs are summed, the others lined up as batch, rows
//! and columns of one matrix product. All of it is views, sums and matmul, so it is differentiable as they are.

use crate::{Error, Result, Tensor};

const OP: &str = "einsum";

/// The dims of one term. An ellipsis stands for dims numbered from the right, so that operands with fewer line up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    /// A dim of the ellipsis: the number of ellipsis dims that lie to its right, negated so that order is position.
    Dots(isize),
    Letter(u8),
}

/// One operand with a label for each dim, all different.
struct Term {
    x: Tensor,
    labels: Vec<Label>,
}

/// Sums of products over named dims.
///
/// A letter on the left stands for a dim, a repeated one in one operand for its diagonal, `...` for any further dims,
/// which are broadcast. After `->` come the dims of the result; without it, `...` and then the letters that appear
/// once, in alphabetical order. Letters not in the result are summed out. Spaces are ignored, dims of size 1 broadcast.
///
/// ```
/// # use rushlight::{Tensor, einsum};
/// let a = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?;
/// assert_eq!(einsum("ij,jk->ik", &[&a, &a])?.to_vec::<f32>()?, [7.0, 10.0, 15.0, 22.0]); // a matrix product
/// assert_eq!(einsum("ii", &[&a])?.item::<f32>()?, 5.0); // the trace
/// assert_eq!(einsum("ij->ji", &[&a])?.to_vec::<f32>()?, [1.0, 3.0, 2.0, 4.0]); // the transpose
/// # Ok::<(), rushlight::Error>(())
/// ```
/// PyTorch: `torch.einsum`. Errors, with the place in the equation: a character that is no letter, a number of terms
/// or dims that does not match the operands, sizes that differ, a result letter that no operand has.
pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
    let (left, right) = match equation.find("->") {
        Some(i) => (&equation[..i], Some((&equation[i + 2..], i + 2))),
        None => (equation, None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if operands.is_empty() || terms.len() != operands.len() {
        let message = format!("`{equation}` has {} terms for {} operands", terms.len(), operands.len());
        return Err(Error::invalid(OP, message));
    }
    let dtype = operands.iter().fold(operands[0].dtype(), |d, t| d.promote(t.dtype()));
    let (mut parsed, mut names, mut at) = (vec![], vec![], 0);
    for (i, (term, x)) in terms.iter().zip(operands).enumerate() {
        let tokens = tokens(equation, term, at)?;
        names.extend(tokens.iter().flatten().copied());
        let labels = labels(equation, at, &tokens, i, x)?;
        parsed.push(distinct(equation, i, &x.to_dtype(dtype)?, &labels)?);
        at += term.len() + 1;
    }
    let dots = parsed.iter().flat_map(|t| &t.labels).filter(|l| matches!(l, Label::Dots(_)));
    let mut dots: Vec<Label> = dots.copied().collect();
    dots.sort();
    dots.dedup();
    let result = match right {
        Some((right, at)) => result_labels(equation, right, at, &names, &dots)?,
        None => {
            let mut once: Vec<u8> =
                names.iter().copied().filter(|l| names.iter().filter(|m| *m == l).count() == 1).collect();
            once.sort_unstable();
            dots.iter().copied().chain(once.into_iter().map(Label::Letter)).collect()
        }
    };
    check_sizes(equation, &parsed)?;
    contract(parsed, &result)
}

fn error(equation: &str, at: usize, what: impl std::fmt::Display) -> Error {
    Error::invalid(OP, format!("{what} at position {at} of `{equation}`"))
}

/// The letters of a term, `None` for the ellipsis.
fn tokens(equation: &str, term: &str, at: usize) -> Result<Vec<Option<u8>>> {
    let (mut out, mut i) = (vec![], 0);
    while let Some(c) = term[i..].chars().next() {
        match c {
            ' ' => {}
            'a'..='z' | 'A'..='Z' => out.push(Some(c as u8)),
            '.' if term[i..].starts_with("...") => {
                if out.contains(&None) {
                    return Err(error(equation, at + i, "a second ellipsis"));
                }
                out.push(None);
                i += 2;
            }
            c => return Err(error(equation, at + i, format!("{c:?} is neither a letter nor part of `...`"))),
        }
        i += c.len_utf8();
    }
    Ok(out)
}

/// One label per dim of operand `i`; an error where its term does not fit it.
fn labels(equation: &str, at: usize, tokens: &[Option<u8>], i: usize, x: &Tensor) -> Result<Vec<Label>> {
    let named = tokens.iter().flatten().count();
    let dots = tokens.contains(&None);
    if x.rank() < named || (!dots && x.rank() > named) {
        let least = if dots { "at least " } else { "" };
        let (shape, rank) = (x.shape(), x.rank());
        let message = format!("operand {i} of shape {shape} has {rank} dims, its term names {least}{named}");
        return Err(error(equation, at, message));
    }
    let more = (x.rank() - named) as isize;
    let expand = |token: &Option<u8>| match token {
        Some(letter) => vec![Label::Letter(*letter)],
        None => (0..more).map(|i| Label::Dots(i - more)).collect(),
    };
    Ok(tokens.iter().flat_map(expand).collect())
}

/// The labels after `->`.
fn result_labels(equation: &str, right: &str, at: usize, names: &[u8], dots: &[Label]) -> Result<Vec<Label>> {
    let tokens = tokens(equation, right, at)?;
    for (i, letter) in right.bytes().enumerate().filter(|(_, c)| c.is_ascii_alphabetic()) {
        if !names.contains(&letter) {
            return Err(error(equation, at + i, format!("no operand has the result's letter {:?}", letter as char)));
        }
        if right.as_bytes()[..i].contains(&letter) {
            return Err(error(equation, at + i, format!("the result names {:?} twice", letter as char)));
        }
    }
    Ok(tokens.iter().flat_map(|t| t.map_or(dots.to_vec(), |l| vec![Label::Letter(l)])).collect())
}

/// The operand with each repeated letter's dims replaced by their diagonal.
fn distinct(equation: &str, operand: usize, x: &Tensor, labels: &[Label]) -> Result<Term> {
    let (mut x, mut labels) = (x.clone(), labels.to_vec());
    while let Some((a, b)) =
        (0..labels.len()).find_map(|b| labels[..b].iter().position(|l| *l == labels[b]).map(|a| (a, b)))
    {
        if x.dims()[a] != x.dims()[b] {
            let message = format!(
                "operand {operand} of shape {} has sizes {} and {} for one letter in `{equation}`",
                x.shape(),
                x.dims()[a],
                x.dims()[b]
            );
            return Err(Error::invalid(OP, message));
        }
        x = x.diagonal(0, a, b)?;
        let label = labels.remove(b);
        labels.remove(a);
        labels.push(label);
    }
    Ok(Term { x, labels })
}

/// Every label has one size, or 1.
fn check_sizes(equation: &str, terms: &[Term]) -> Result<()> {
    let mut seen: Vec<(Label, usize)> = vec![];
    for (operand, term) in terms.iter().enumerate() {
        for (&label, &size) in term.labels.iter().zip(term.x.dims()) {
            match seen.iter_mut().find(|(l, _)| *l == label) {
                None => seen.push((label, size)),
                Some((_, known)) if *known == 1 => *known = size,
                Some((_, known)) if size != *known && size != 1 => {
                    let name = match label {
                        Label::Letter(l) => format!("letter {:?}", l as char),
                        Label::Dots(_) => "a dim of `...`".to_string(),
                    };
                    let message =
                        format!("{name} has size {known} before and {size} in operand {operand} of `{equation}`");
                    return Err(Error::invalid(OP, message));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Two by two from the left, then the order of the result.
fn contract(terms: Vec<Term>, result: &[Label]) -> Result<Tensor> {
    let needed = |rest: &[Term], label: &Label| result.contains(label) || rest.iter().any(|t| t.labels.contains(label));
    let mut terms = terms.into_iter();
    let Some(first) = terms.next() else { return Err(Error::invalid(OP, "no operands")) };
    let mut left = sum_out(first, |l| needed(terms.as_slice(), l))?;
    while let Some(next) = terms.next() {
        let rest = terms.as_slice();
        let right = sum_out(next, |l| left.labels.contains(l) || needed(rest, l))?;
        left = pair(left, right, |l| needed(rest, l))?;
    }
    let order: Vec<usize> = result.iter().filter_map(|l| left.labels.iter().position(|m| m == l)).collect();
    left.x.permute(&order)
}

/// Without the labels that nothing needs any more.
fn sum_out(term: Term, needed: impl Fn(&Label) -> bool) -> Result<Term> {
    let gone: Vec<usize> = (0..term.labels.len()).filter(|&d| !needed(&term.labels[d])).collect();
    if gone.is_empty() {
        return Ok(term);
    }
    let labels = term.labels.iter().copied().filter(|l| needed(l)).collect();
    let dtype = term.x.dtype();
    Ok(Term { x: term.x.sum(gone)?.to_dtype(dtype)?, labels })
}

/// The product of two terms as one batched matrix product `[batch, rows, sum] · [batch, sum, columns]`.
fn pair(a: Term, b: Term, needed: impl Fn(&Label) -> bool) -> Result<Term> {
    let size = |t: &Term, l: &Label| t.labels.iter().position(|m| m == l).map(|d| t.x.dims()[d]);
    let (mut batch, mut inner, mut rows) = (vec![], vec![], vec![]);
    for l in &a.labels {
        match size(&b, l) {
            Some(_) if needed(l) => batch.push(*l),
            Some(_) => inner.push(*l),
            None => rows.push(*l),
        }
    }
    let columns: Vec<Label> = b.labels.iter().copied().filter(|l| size(&a, l).is_none()).collect();
    // Shared dims of size 1 on one side are repeated to the other's size.
    let wide: Vec<usize> = batch
        .iter()
        .chain(&inner)
        .map(|l| match (size(&a, l), size(&b, l)) {
            (Some(1), Some(n)) | (Some(n), _) => n,
            _ => 1,
        })
        .collect();
    let (nb, ni) = wide.split_at(batch.len());
    let sizes = |t: &Term, labels: &[Label]| -> Vec<usize> { labels.iter().filter_map(|l| size(t, l)).collect() };
    let (nr, nc) = (sizes(&a, &rows), sizes(&b, &columns));
    let count = |sizes: &[usize]| sizes.iter().product::<usize>();
    let line_up = |t: &Term, labels: [&[Label]; 3], to: [&[usize]; 3]| -> Result<Tensor> {
        let place = |l: &Label| t.labels.iter().position(|m| m == l);
        let order: Vec<usize> = labels.iter().copied().flatten().filter_map(place).collect();
        let flat = [to[0], &[count(to[1]), count(to[2])]].concat();
        t.x.permute(&order)?.expand(to.concat())?.reshape(flat)
    };
    let x = line_up(&a, [&batch, &rows, &inner], [nb, &nr, ni])?;
    let y = line_up(&b, [&batch, &inner, &columns], [nb, ni, &nc])?;
    let shape = [nb, &nr, &nc].concat();
    let product = if inner.is_empty() { x.mul(&y)? } else { x.matmul(&y)? };
    Ok(Term { x: product.reshape(shape)?, labels: [batch, rows, columns].concat() })
}
