//! Arguments that name dims and shapes: `-1`, `[0, 2]`, `..`, `[2, 3]`.

use smallvec::SmallVec;

use crate::{Error, Result, Shape};

/// One dim of a tensor; negative counts from the end.
pub trait Dim: Copy {
    /// As a signed number.
    fn signed(self) -> i64;

    /// The dim this names in `shape`, or an error of `op`.
    fn index(self, op: &'static str, shape: &Shape) -> Result<usize> {
        let (dim, rank) = (self.signed(), shape.rank() as i64);
        if dim < -rank || dim >= rank {
            return Err(Error::Dim { op, dim, shape: Box::new(shape.clone()) });
        }
        Ok(if dim < 0 { dim + rank } else { dim } as usize)
    }

    /// A place between dims (`0..=rank`), for `unsqueeze` and `stack`.
    fn gap(self, op: &'static str, shape: &Shape) -> Result<usize> {
        let (dim, rank) = (self.signed(), shape.rank() as i64);
        if dim < -rank - 1 || dim > rank {
            return Err(Error::Dim { op, dim, shape: Box::new(shape.clone()) });
        }
        Ok(if dim < 0 { dim + rank + 1 } else { dim } as usize)
    }
}

/// Some dims of a tensor: one dim, an array or slice of dims, or `..` for all.
pub trait Dims {
    /// The dims this names in `shape`, ascending; an error of `op` where one is out of range or named twice.
    fn indices(&self, op: &'static str, shape: &Shape) -> Result<SmallVec<[usize; 6]>>;
}

fn collect(op: &'static str, shape: &Shape, dims: impl Iterator<Item = impl Dim>) -> Result<SmallVec<[usize; 6]>> {
    let mut out = dims.map(|d| d.index(op, shape)).collect::<Result<SmallVec<[usize; 6]>>>()?;
    out.sort_unstable();
    if out.windows(2).any(|w| w[0] == w[1]) {
        return Err(Error::invalid(op, format!("a dim is named twice in {out:?} for shape {shape}")));
    }
    Ok(out)
}

impl Dims for std::ops::RangeFull {
    fn indices(&self, _: &'static str, shape: &Shape) -> Result<SmallVec<[usize; 6]>> {
        Ok((0..shape.rank()).collect())
    }
}

impl<D: Dim, const N: usize> Dims for [D; N] {
    fn indices(&self, op: &'static str, shape: &Shape) -> Result<SmallVec<[usize; 6]>> {
        collect(op, shape, self.iter().copied())
    }
}

impl<D: Dim> Dims for &[D] {
    fn indices(&self, op: &'static str, shape: &Shape) -> Result<SmallVec<[usize; 6]>> {
        collect(op, shape, self.iter().copied())
    }
}

impl<D: Dim> Dims for Vec<D> {
    fn indices(&self, op: &'static str, shape: &Shape) -> Result<SmallVec<[usize; 6]>> {
        collect(op, shape, self.iter().copied())
    }
}

/// A shape to make or to reshape to. `-1` stands for the size that the others leave, in `reshape` only.
pub trait IntoShape {
    /// The sizes as signed numbers.
    fn sizes(&self) -> SmallVec<[i64; 6]>;

    /// As a shape; no `-1`.
    fn shape(&self, op: &'static str) -> Result<Shape> {
        let sizes = self.sizes();
        if let Some(bad) = sizes.iter().find(|s| **s < 0) {
            return Err(Error::invalid(op, format!("size {bad} in shape {sizes:?} is negative")));
        }
        let shape: Shape = sizes.iter().map(|&s| s as usize).collect();
        shape.checked_numel(op)?;
        Ok(shape)
    }

    /// As the shape of `numel` elements, with at most one `-1` to infer.
    fn infer(&self, op: &'static str, numel: usize) -> Result<Shape> {
        let mut sizes = self.sizes();
        let known = sizes.iter().filter(|s| **s != -1).try_fold(1i64, |a, &s| a.checked_mul(s));
        let mut holes = sizes.iter_mut().filter(|s| **s == -1);
        if let (Some(hole), Some(known)) = (holes.next(), known) {
            if holes.next().is_some() {
                return Err(Error::invalid(op, "only one size can be -1"));
            }
            if known <= 0 || numel as i64 % known != 0 {
                let message = format!("cannot infer the size at -1: {numel} elements over {known} for the other dims");
                return Err(Error::invalid(op, message));
            }
            *hole = numel as i64 / known;
        }
        let shape = sizes.as_slice().shape(op)?;
        if shape.numel() != numel {
            let message = format!("shape {shape} has {} elements, the tensor has {numel}", shape.numel());
            return Err(Error::invalid(op, message));
        }
        Ok(shape)
    }
}

impl<T: IntoShape + ?Sized> IntoShape for &T {
    fn sizes(&self) -> SmallVec<[i64; 6]> {
        (**self).sizes()
    }
}

impl IntoShape for Shape {
    fn sizes(&self) -> SmallVec<[i64; 6]> {
        self.iter().map(|&d| d as i64).collect()
    }
}

impl IntoShape for () {
    fn sizes(&self) -> SmallVec<[i64; 6]> {
        SmallVec::new()
    }
}

impl<D: Dim, const N: usize> IntoShape for [D; N] {
    fn sizes(&self) -> SmallVec<[i64; 6]> {
        self.iter().map(|d| d.signed()).collect()
    }
}

impl<D: Dim> IntoShape for [D] {
    fn sizes(&self) -> SmallVec<[i64; 6]> {
        self.iter().map(|d| d.signed()).collect()
    }
}

impl<D: Dim> IntoShape for Vec<D> {
    fn sizes(&self) -> SmallVec<[i64; 6]> {
        self.iter().map(|d| d.signed()).collect()
    }
}

macro_rules! dim {
    ($($t:ty),*) => {$(
        impl Dim for $t {
            fn signed(self) -> i64 {
                // A size beyond i64 is out of range everywhere.
                i64::try_from(self).unwrap_or(i64::MAX)
            }
        }
        impl Dims for $t {
            fn indices(&self, op: &'static str, shape: &Shape) -> Result<SmallVec<[usize; 6]>> {
                Ok(smallvec::smallvec![self.index(op, shape)?])
            }
        }
        impl IntoShape for $t {
            fn sizes(&self) -> SmallVec<[i64; 6]> {
                smallvec::smallvec![self.signed()]
            }
        }
    )*};
}

#[allow(clippy::useless_conversion)]
mod integers {
    use super::*;
    dim!(i32, i64, isize, usize);
}
