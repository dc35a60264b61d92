//! Batches of tokens: blocks of one long text, and sentences of about the same length, padded.

use std::ops::Range;

use rushlight::random::Generator;
use rushlight::{Error, Result, Tensor};

/// A long text as a language model learns it: blocks of `block` tokens, each with the tokens that follow.
///
/// ```
/// use rushlight::random::Generator;
/// use rushlight_models::text::LmBatches;
///
/// let batches = LmBatches::new((0..100).collect(), 8)?;
/// let [x, y] = batches.random(4, &mut Generator::new(0))?;
/// assert_eq!((x.dims(), y.dims()), (&[4, 8][..], &[4, 8][..]));
/// assert_eq!(y.to_vec::<i64>()?[0], x.to_vec::<i64>()?[0] + 1); // what follows
///
/// // To measure: every token but the first is foretold once.
/// let foretold: usize = batches.in_order(3).map(|b| Ok(b?[1].numel())).sum::<Result<_, rushlight::Error>>()?;
/// assert_eq!(foretold, 99);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct LmBatches {
    tokens: Vec<i64>,
    block: usize,
}

impl LmBatches {
    /// Errors: blocks of 0; fewer tokens than a block and the one behind it.
    pub fn new(tokens: Vec<i64>, block: usize) -> Result<LmBatches> {
        if block == 0 || tokens.len() <= block {
            let message = format!("{} tokens; blocks of {block} need at least {}", tokens.len(), block.max(1) + 1);
            return Err(Error::invalid("LmBatches", message));
        }
        Ok(LmBatches { tokens, block })
    }

    /// How many tokens there are.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// `[batch, block]` tokens from places that the generator draws, and what follows each.
    pub fn random(&self, batch: usize, generator: &mut Generator) -> Result<[Tensor; 2]> {
        let places = (self.tokens.len() - self.block) as f64;
        let start = |_| ((generator.next_f64() * places) as usize).min(self.tokens.len() - self.block - 1);
        let starts: Vec<usize> = (0..batch).map(start).collect();
        self.blocks(starts.into_iter().map(|at| at..at + self.block))
    }

    /// All tokens but the first as what follows, once each, in order: batches of up to `batch` blocks, the last block
    /// a batch of its own where it is shorter.
    pub fn in_order(&self, batch: usize) -> impl Iterator<Item = Result<[Tensor; 2]>> + '_ {
        let (n, block, batch) = (self.tokens.len() - 1, self.block, batch.max(1));
        let whole = n / block;
        let full = (0..whole).step_by(batch).map(move |i| i * block..(i + batch).min(whole) * block);
        let last = (whole * block < n).then_some(whole * block..n);
        full.map(move |r| (r, block))
            .chain(last.map(|r| (r.clone(), r.len())))
            .map(|(range, len)| self.blocks(range.step_by(len).map(|at| at..at + len)))
    }

    fn blocks(&self, ranges: impl Iterator<Item = Range<usize>>) -> Result<[Tensor; 2]> {
        let (mut x, mut y, mut rows) = (vec![], vec![], 0);
        for range in ranges {
            x.extend_from_slice(&self.tokens[range.clone()]);
            y.extend_from_slice(&self.tokens[range.start + 1..range.end + 1]);
            rows += 1;
        }
        let shape = [rows, x.len() / rows.max(1)];
        Ok([Tensor::from_vec(x, shape)?, Tensor::from_vec(y, shape)?])
    }
}

/// The sentences of an epoch in batches, each of about the same length: `lengths` of all sentences to their indices.
///
/// The generator puts sentences of the same length, and then the batches, in an order of its own. A batch holds at most
/// `tokens` tokens, its padding counted, though always a sentence.
///
/// ```
/// use rushlight::random::Generator;
/// use rushlight_models::text::bucketed;
///
/// let lengths = [3, 9, 4, 3, 10, 2];
/// let batches = bucketed(&lengths, 20, &mut Generator::new(0));
/// for batch in &batches {
///     let longest = batch.iter().map(|&i| lengths[i]).max().unwrap();
///     assert!(longest * batch.len() <= 20);
/// }
/// let mut all = batches.concat();
/// all.sort();
/// assert_eq!(all, [0, 1, 2, 3, 4, 5]);
/// ```
pub fn bucketed(lengths: &[usize], tokens: usize, generator: &mut Generator) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = generator.permutation(lengths.len()).into_iter().map(|i| i as usize).collect();
    order.sort_by_key(|&i| lengths[i]); // stable: equal ones stay shuffled
    let mut batches: Vec<Vec<usize>> = vec![];
    for i in order {
        // Ascending, so that this one is the longest.
        match batches.last_mut().filter(|batch| (batch.len() + 1) * lengths[i] <= tokens) {
            Some(batch) => batch.push(i),
            None => batches.push(vec![i]),
        }
    }
    let order = generator.permutation(batches.len());
    order.into_iter().map(|i| std::mem::take(&mut batches[i as usize])).collect()
}

/// Sentences as one `[B, T]` tensor, the short ones followed by `pad_id` up to the longest, and where that padding is
/// (`[B, T]`, bool): the `key_padding_mask` of attention.
///
/// ```
/// let (tokens, padding) = rushlight_models::text::pad(&[vec![5, 6, 7], vec![8]], 0)?;
/// assert_eq!(tokens.to_vec::<i64>()?, [5, 6, 7, 8, 0, 0]);
/// assert_eq!(padding.to_vec::<bool>()?, [false, false, false, false, true, true]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn pad<S: AsRef<[i64]>>(sentences: &[S], pad_id: i64) -> Result<(Tensor, Tensor)> {
    let longest = sentences.iter().map(|s| s.as_ref().len()).max().unwrap_or(0);
    let (mut tokens, mut padding) = (vec![pad_id; sentences.len() * longest], vec![true; sentences.len() * longest]);
    for (i, sentence) in sentences.iter().enumerate() {
        let sentence = sentence.as_ref();
        tokens[i * longest..][..sentence.len()].copy_from_slice(sentence);
        padding[i * longest..][..sentence.len()].fill(false);
    }
    let shape = [sentences.len(), longest];
    Ok((Tensor::from_vec(tokens, shape)?, Tensor::from_vec(padding, shape)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_foretells_every_token_once() {
        for (n, block, batch) in [(2, 1, 1), (9, 8, 4), (10, 8, 4), (100, 7, 3), (50, 49, 5), (97, 8, 100)] {
            let batches = LmBatches::new((0..n).collect(), block).unwrap();
            let mut seen = vec![];
            for b in batches.in_order(batch) {
                let [x, y] = b.unwrap();
                assert!(x.dims()[0] <= batch && x.dims()[1] <= block);
                let (x, y) = (x.to_vec::<i64>().unwrap(), y.to_vec::<i64>().unwrap());
                assert!(x.iter().zip(&y).all(|(x, y)| x + 1 == *y));
                seen.extend(y);
            }
            assert_eq!(seen, (1..n).collect::<Vec<_>>(), "{n} tokens in blocks of {block}, {batch} at a time");
        }
    }

    #[test]
    fn random_blocks_reach_both_ends_and_no_further() {
        let batches = LmBatches::new((0..12).collect(), 8).unwrap();
        let [x, y] = batches.random(200, &mut Generator::new(1)).unwrap();
        let starts: Vec<i64> = x.to_vec::<i64>().unwrap().chunks(8).map(|row| row[0]).collect();
        assert_eq!((starts.iter().min(), starts.iter().max()), (Some(&0), Some(&3)));
        assert_eq!(y.to_vec::<i64>().unwrap().iter().max(), Some(&11));
    }

    #[test]
    fn a_text_too_short_is_an_error_with_both_numbers() {
        let error = LmBatches::new(vec![1; 8], 8).err().unwrap().to_string();
        assert!(error.contains("8 tokens") && error.contains("at least 9"), "{error}");
        assert!(LmBatches::new(vec![1; 8], 0).is_err());
    }

    #[test]
    fn buckets_hold_everything_once_within_their_budget() {
        let mut rng = Generator::new(3);
        for n in [0, 1, 5, 300] {
            let lengths: Vec<usize> = (0..n).map(|_| (rng.next_f64() * 30.0) as usize).collect();
            let batches = bucketed(&lengths, 64, &mut Generator::new(7));
            assert_eq!(batches, bucketed(&lengths, 64, &mut Generator::new(7)));
            for batch in &batches {
                let longest = batch.iter().map(|&i| lengths[i]).max().unwrap();
                assert!(batch.len() == 1 || longest * batch.len() <= 64);
            }
            let mut all = batches.concat();
            all.sort();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
        // One longer than the budget is a batch of its own.
        assert_eq!(bucketed(&[100], 64, &mut Generator::new(0)), [[0]]);
    }

    #[test]
    fn padding_of_nothing_is_empty() {
        assert_eq!(pad::<Vec<i64>>(&[], 0).unwrap().0.dims(), [0, 0]);
        assert_eq!(pad(&[vec![], vec![3i64]], 9).unwrap().0.to_vec::<i64>().unwrap(), [9, 3]);
    }
}
