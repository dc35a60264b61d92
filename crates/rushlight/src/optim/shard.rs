//! A part of a tensor's elements.

use std::ops::Range;

use crate::{Error, Result, Tensor};

/// One of some equal parts of a tensor's elements, in their order; the whole, by default.
///
/// ```
/// # use rushlight::optim::Shard;
/// let parts = [0, 1, 2].map(|i| Shard::new(i, 3).unwrap().range(10));
/// assert_eq!(parts, [0..3, 3..6, 6..10]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard { index: 0, of: 1 }
    }
}

impl Shard {
    /// Part `index` of `of`. Errors: there is no such part.
    pub fn new(index: usize, of: usize) -> Result<Shard> {
        if index < of {
            Ok(Shard { index, of })
        } else {
            Err(Error::invalid("Shard", format!("part {index} of {of}: they count from 0")))
        }
    }

    /// Which of `n` elements it is.
    pub fn range(&self, n: usize) -> Range<usize> {
        let at = |i: usize| (n as u128 * i as u128 / self.of as u128) as usize;
        at(self.index)..at(self.index + 1)
    }

    /// Whether it is everything.
    pub fn is_whole(&self) -> bool {
        self.of == 1
    }

    /// The part of `tensor`, a vector; the tensor itself where it is everything.
    pub fn of(&self, tensor: &Tensor) -> Result<Tensor> {
        if self.is_whole() {
            return Ok(tensor.clone());
        }
        let range = self.range(tensor.numel());
        // A copy, so that the rest of the tensor can go.
        tensor.reshape(tensor.numel())?.narrow(0, range.start, range.len())?.mul(1.0)
    }
}
