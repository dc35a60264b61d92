//! Gradients summed over all ranks, in buckets, while backward still runs.

use std::collections::HashMap;
use std::ops::Range;

use rushlight::nn::Module;
use rushlight::{DType, Error, Gradients, Result, Tensor};

use crate::{Pending, World};

/// Elements of a bucket, or more: large enough that the wire is what takes time, small enough that the first one leaves
/// early.
pub const BUCKET: usize = 1 << 18;
/// Buckets of a large model, or some more: with many ranks each costs its way around the ring.
const BUCKETS: usize = 16;

/// Elements of a bucket of a model of `parameters`, where `RUSHLIGHT_BUCKET` does not say otherwise. It must be the same
/// on every rank; `mpirun -x RUSHLIGHT_BUCKET` sees to that.
///
/// Errors: the variable is no number from 1 on.
fn room(parameters: usize) -> Result<usize> {
    match std::env::var("RUSHLIGHT_BUCKET") {
        Err(_) => Ok(BUCKET.max(parameters / BUCKETS)),
        Ok(asked) => asked.parse().ok().filter(|&n| n > 0).ok_or_else(|| {
            Error::invalid(
                "mpi",
                format!("RUSHLIGHT_BUCKET is {asked:?}: expected the elements of a bucket, 1 or more"),
            )
        }),
    }
}

/// The rows of a batch of `n` that are rank `rank`'s of `of`: none twice, none left out, and as many for each as can be.
///
/// A rank that gets none, for want of rows, is the last.
pub fn rows(n: usize, rank: usize, of: usize) -> Range<usize> {
    let at = |rank: usize| (n as u128 * rank as u128).div_ceil(of as u128) as usize;
    at(rank)..at(rank + 1)
}

impl World {
    /// One backward walk on each rank: the gradients of `Σ weight · loss` over all ranks, and the sums over all ranks of
    /// each of `also`, as every rank gets them to the same bits. A collective.
    ///
    /// A bucket of gradients leaves as soon as it is whole, while the walk goes on. Every rank fills the same buckets in
    /// the same order: of the model's parameters from the last to the first, as a walk finds most of them.
    ///
    /// Errors: a parameter that is no f32; a rank is gone; those of backward.
    pub fn gradients(
        &self,
        model: &impl Module,
        loss: &Tensor,
        weight: f64,
        also: &[f64],
    ) -> Result<(Gradients, Vec<f64>)> {
        let also = also.to_vec();
        let sums = self.start(move |link| link.sum(&also));
        let mut buckets = Buckets::new(self, model)?;
        loss.backward_each(&loss.full_like(weight)?, |leaf, grad| buckets.take(leaf, &grad))?;
        Ok((buckets.finish()?, sums.wait()?))
    }
}

/// A part of the gradients, one after the other, and behind them for each whether this rank has it (1 or 0).
struct Bucket {
    leaves: Vec<(Tensor, Range<usize>)>,
    data: Vec<f32>,
    left: usize,
}

struct Buckets<'a> {
    world: &'a World,
    buckets: Vec<Bucket>,
    /// Bucket and place in it of each leaf.
    places: HashMap<u64, (usize, usize)>,
    sent: Vec<Pending<Vec<f32>>>,
}

impl<'a> Buckets<'a> {
    fn new(world: &'a World, model: &impl Module) -> Result<Buckets<'a>> {
        let mut buckets: Vec<Bucket> = vec![];
        let mut places = HashMap::new();
        let room = room(model.num_parameters())?;
        for (name, p) in model.named_parameters().into_iter().rev() {
            let Some(id) = p.leaf_id() else { continue };
            if p.dtype() != DType::F32 {
                return Err(Error::dtype("mpi", p.dtype(), format!("expected f32 parameters, as of {name}")));
            }
            if places.contains_key(&id) {
                continue;
            }
            let n = p.numel();
            if buckets.last().is_none_or(|b| b.data.len() + n > room) {
                buckets.push(Bucket { leaves: vec![], data: vec![], left: 0 });
            }
            let at = buckets.len() - 1;
            let bucket = &mut buckets[at];
            let begin = bucket.data.len();
            places.insert(id, (at, bucket.leaves.len()));
            bucket.leaves.push((p, begin..begin + n));
            bucket.data.resize(begin + n, 0.0);
            bucket.left += 1;
        }
        for bucket in &mut buckets {
            bucket.data.resize(bucket.data.len() + bucket.leaves.len(), 0.0);
        }
        Ok(Buckets { world, buckets, places, sent: vec![] })
    }

    /// Puts a gradient in its place, and sends what is whole.
    fn take(&mut self, leaf: u64, grad: &Tensor) -> Result<()> {
        // A leaf that is no parameter of the model.
        let Some(&(at, i)) = self.places.get(&leaf) else { return Ok(()) };
        let bucket = &mut self.buckets[at];
        let flags = bucket.data.len() - bucket.leaves.len();
        bucket.data[bucket.leaves[i].1.clone()].copy_from_slice(&grad.to_vec::<f32>()?);
        bucket.data[flags + i] = 1.0;
        bucket.left -= 1;
        while self.buckets.get(self.sent.len()).is_some_and(|b| b.left == 0) {
            self.send();
        }
        Ok(())
    }

    /// Sends the next bucket.
    fn send(&mut self) {
        let data = std::mem::take(&mut self.buckets[self.sent.len()].data);
        self.sent.push(self.world.start(move |link| link.sum(&data)));
    }

    /// Sends the rest, in which gradients are missing, and waits for all. What no rank has a gradient of has none.
    fn finish(mut self) -> Result<Gradients> {
        while self.sent.len() < self.buckets.len() {
            self.send();
        }
        let mut grads = Gradients::new();
        for (bucket, sums) in self.buckets.into_iter().zip(self.sent) {
            let sums = sums.wait()?;
            let n = sums.len() - bucket.leaves.len();
            let all = Tensor::from_slice(&sums[..n], n)?;
            for ((leaf, range), had) in bucket.leaves.iter().zip(&sums[n..]) {
                if *had > 0.0 {
                    let grad = all.narrow(0, range.start, range.len())?.reshape(leaf.dims().to_vec())?;
                    grads.insert(leaf, grad)?;
                }
            }
        }
        Ok(grads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_one_ranks() {
        for n in [0, 1, 2, 3, 7, 64] {
            for of in [1, 2, 3, 4, 9] {
                let parts: Vec<Range<usize>> = (0..of).map(|rank| rows(n, rank, of)).collect();
                assert_eq!(parts.iter().cloned().flatten().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
                assert!(parts.iter().all(|p| p.len() >= n / of && p.len() <= n.div_ceil(of)));
                assert!(n == 0 || !parts[0].is_empty(), "rank 0 has rows");
            }
        }
    }
}
