//! Shape, Strides and Layout: where each element of a tensor lies in its storage.
//!
//! A [`Layout`] is a shape, one stride per dim and an offset, all counted in elements: index `(i, j, …)` lies at
//! `offset + i·stride[0] + j·stride[1] + …`. Every view of the library is a function from one layout to another,
//! here; no data is touched. A stride may be 0 (broadcast) or negative (flipped), and windows may overlap.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::{Error, Result};

/// The sizes of a tensor, dim by dim. Kept inline up to six dims.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 6]>);

/// The strides of a layout, in elements.
pub type Strides = SmallVec<[isize; 6]>;

impl Shape {
    /// The number of dims.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.0.iter().product()
    }

    /// The sizes as a slice.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Like [`Shape::numel`], but an error where the product of the sizes does not fit in memory.
    pub(crate) fn checked_numel(&self, op: &'static str) -> Result<usize> {
        let mut n = 1usize;
        for &d in self.iter() {
            // A zero elsewhere must not hide an overflow: sizes above isize::MAX are never valid.
            n = n
                .checked_mul(d.max(1))
                .filter(|&n| n <= isize::MAX as usize / 16)
                .ok_or_else(|| Error::invalid(op, format!("shape {self} has more elements than memory can address")))?;
        }
        Ok(self.numel())
    }

    /// Strides of this shape in row-major order.
    pub fn contiguous_strides(&self) -> Strides {
        let mut strides: Strides = SmallVec::from_elem(1, self.rank());
        let mut step = 1isize;
        for d in (0..self.rank()).rev() {
            strides[d] = step;
            step *= self.0[d] as isize;
        }
        strides
    }

    /// The same shape without dim `dim`.
    pub fn without(&self, dim: usize) -> Shape {
        let mut s = self.clone();
        s.0.remove(dim);
        s
    }

    /// The same shape with size `size` at `dim`.
    pub fn with(&self, dim: usize, size: usize) -> Shape {
        let mut s = self.clone();
        s.0[dim] = size;
        s
    }

    /// The same shape with a new dim of size `size` before `dim`.
    pub fn inserted(&self, dim: usize, size: usize) -> Shape {
        let mut s = self.clone();
        s.0.insert(dim, size);
        s
    }

    /// The shape that two shapes broadcast to by NumPy's rule: aligned at the right, sizes equal or one of them 1.
    pub fn broadcast(&self, other: &Shape, op: &'static str) -> Result<Shape> {
        if self == other {
            return Ok(self.clone());
        }
        let rank = self.rank().max(other.rank());
        let mut out: SmallVec<[usize; 6]> = SmallVec::from_elem(1, rank);
        for (dim, size) in out.iter_mut().enumerate() {
            let a = (dim + self.rank()).checked_sub(rank).map_or(1, |d| self.0[d]);
            let b = (dim + other.rank()).checked_sub(rank).map_or(1, |d| other.0[d]);
            *size = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                (lhs_size, rhs_size) => {
                    let shapes = Box::new((self.clone(), other.clone()));
                    return Err(Error::Broadcast { op, shapes, dim, lhs_size, rhs_size });
                }
            };
        }
        Ok(Shape(out))
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_slice())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Shape {
        Shape(SmallVec::from_slice(dims))
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Shape {
        Shape(SmallVec::from_vec(dims))
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Shape {
        Shape(SmallVec::from_slice(&dims))
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Shape {
        Shape(iter.into_iter().collect())
    }
}

impl PartialEq<[usize]> for Shape {
    fn eq(&self, other: &[usize]) -> bool {
        self.dims() == other
    }
}

impl<const N: usize> PartialEq<[usize; N]> for Shape {
    fn eq(&self, other: &[usize; N]) -> bool {
        self.dims() == other
    }
}

/// One window of a fold, per dim: its size, the step between windows, and the spacing of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
}

/// Where the elements of a tensor lie in its storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    shape: Shape,
    strides: Strides,
    offset: usize,
}

impl Layout {
    /// Row-major from the start of the storage.
    pub fn contiguous(shape: Shape) -> Layout {
        let strides = shape.contiguous_strides();
        Layout { shape, strides, offset: 0 }
    }

    /// From its parts; crate-internal because views rely on every layout staying inside its storage.
    pub(crate) fn new(shape: Shape, strides: Strides, offset: usize) -> Layout {
        debug_assert_eq!(shape.rank(), strides.len());
        Layout { shape, strides, offset }
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The sizes.
    pub fn dims(&self) -> &[usize] {
        &self.shape
    }

    /// The strides, in elements.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Where the first element lies.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The number of dims.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// Whether the elements lie one after the other in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1isize;
        for (&d, &s) in self.shape.iter().zip(&self.strides).rev() {
            if d == 0 {
                return true;
            }
            if d != 1 && s != step {
                return false;
            }
            step *= d as isize;
        }
        true
    }

    /// The smallest and the largest place that an element lies at, `None` if there is no element.
    pub fn bounds(&self) -> Option<(usize, usize)> {
        let (mut low, mut high) = (self.offset as isize, self.offset as isize);
        for (&d, &s) in self.shape.iter().zip(&self.strides) {
            if d == 0 {
                return None;
            }
            let reach = (d as isize - 1) * s;
            if reach < 0 { low += reach } else { high += reach }
        }
        Some((low as usize, high as usize))
    }

    /// Whether two different indices can share a place, as in `expand` and overlapping `windows`.
    pub fn may_overlap(&self) -> bool {
        let mut dims: SmallVec<[(usize, usize); 6]> = self
            .shape
            .iter()
            .zip(&self.strides)
            .filter(|(d, _)| **d > 1)
            .map(|(&d, &s)| (s.unsigned_abs(), d))
            .collect();
        dims.sort_unstable();
        let mut reach = 0;
        for (stride, size) in dims {
            if stride <= reach {
                return true;
            }
            reach += stride * (size - 1);
        }
        false
    }

    // ---- views ----

    /// The same elements in another shape, or `None` where that needs a copy.
    pub(crate) fn reshape(&self, shape: &Shape) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout::new(shape.clone(), shape.contiguous_strides(), self.offset));
        }
        // Split both shapes into the shortest runs of dims with equal products; each run of the old dims must be
        // evenly strided to be cut anew.
        let old: SmallVec<[(usize, isize); 6]> =
            self.shape.iter().zip(&self.strides).filter(|(d, _)| **d != 1).map(|(&d, &s)| (d, s)).collect();
        let mut strides: Strides = SmallVec::from_elem(1, shape.rank());
        let (mut i, mut j) = (0, 0);
        while i < old.len() && j < shape.rank() {
            let (i0, j0) = (i, j);
            let (mut a, mut b) = (old[i].0, shape[j]);
            while a != b {
                if a < b {
                    i += 1;
                    a *= old.get(i)?.0;
                } else {
                    j += 1;
                    b *= shape.get(j)?;
                }
            }
            for k in i0..i {
                if old[k].1 != old[k + 1].1 * old[k + 1].0 as isize {
                    return None;
                }
            }
            let mut step = old[i].1;
            for k in (j0..=j).rev() {
                strides[k] = step;
                step *= shape[k] as isize;
            }
            i += 1;
            j += 1;
        }
        Some(Layout::new(shape.clone(), strides, self.offset))
    }

    /// The dims in another order: dim `d` of the result is dim `order[d]` of this.
    pub(crate) fn permute(&self, order: &[usize]) -> Layout {
        let shape = order.iter().map(|&d| self.shape[d]).collect();
        let strides = order.iter().map(|&d| self.strides[d]).collect();
        Layout::new(shape, strides, self.offset)
    }

    /// Dims of size 1 repeated without a copy to the sizes of `shape`, new dims in front.
    pub(crate) fn expand(&self, shape: &Shape, op: &'static str) -> Result<Layout> {
        let lead = shape
            .rank()
            .checked_sub(self.rank())
            .ok_or_else(|| Error::invalid(op, format!("shape {} has more dims than the target {shape}", self.shape)))?;
        let mut strides: Strides = SmallVec::from_elem(0, shape.rank());
        for (dim, (&d, &s)) in self.shape.iter().zip(&self.strides).enumerate() {
            let target = shape[lead + dim];
            if d == target {
                strides[lead + dim] = s;
            } else if d != 1 {
                let shapes = Box::new((self.shape.clone(), shape.clone()));
                return Err(Error::Broadcast { op, shapes, dim: lead + dim, lhs_size: d, rhs_size: target });
            }
        }
        Ok(Layout::new(shape.clone(), strides, self.offset))
    }

    /// `length` places of `dim` from `start` on, `step` apart. The caller has checked that they are inside.
    pub(crate) fn slice(&self, dim: usize, start: usize, length: usize, step: usize) -> Layout {
        let mut out = self.clone();
        out.shape = self.shape.with(dim, length);
        if length > 0 {
            out.offset = (self.offset as isize + start as isize * self.strides[dim]) as usize;
        }
        // The step of a single place is never taken, and might overflow.
        if length > 1 {
            out.strides[dim] = self.strides[dim] * step as isize;
        }
        out
    }

    /// The place `index` of `dim`, which goes away.
    pub(crate) fn select(&self, dim: usize, index: usize) -> Layout {
        let mut out = self.slice(dim, index, 1, 1);
        out.shape = out.shape.without(dim);
        out.strides.remove(dim);
        out
    }

    /// `dim` backwards.
    pub(crate) fn flip(&self, dim: usize) -> Layout {
        let mut out = self.clone();
        if self.shape[dim] > 0 {
            out.offset = (self.offset as isize + (self.shape[dim] as isize - 1) * self.strides[dim]) as usize;
        }
        out.strides[dim] = -self.strides[dim];
        out
    }

    /// Element `(…, i, …, i + offset, …)` of dims `a` and `b` as a new last dim.
    pub(crate) fn diagonal(&self, offset: i64, a: usize, b: usize) -> Layout {
        let (start_a, start_b) = if offset >= 0 { (0, offset as usize) } else { (offset.unsigned_abs() as usize, 0) };
        let length = self.shape[a].saturating_sub(start_a).min(self.shape[b].saturating_sub(start_b));
        let mut out = self.clone();
        if length > 0 {
            let place = self.offset as isize + start_a as isize * self.strides[a] + start_b as isize * self.strides[b];
            out.offset = place as usize;
        }
        let (first, second) = (a.max(b), a.min(b));
        out.shape = out.shape.without(first).without(second);
        out.strides.remove(first);
        out.strides.remove(second);
        let rank = out.rank();
        out.shape = out.shape.inserted(rank, length);
        out.strides.push(self.strides[a] + self.strides[b]);
        out
    }

    /// The fold: the last `windows.len()` dims become that many dims of window positions, followed by that many dims
    /// of places within a window. No element is copied, even where windows overlap.
    ///
    /// MiniTorch folds `[.., h, w]` into `[.., h/kh, w/kw, kh, kw]` by a view on contiguous memory; strides give the
    /// same without the condition, and with stride and dilation.
    pub(crate) fn windows(&self, windows: &[Window]) -> Layout {
        let lead = self.rank() - windows.len();
        let mut shape: SmallVec<[usize; 6]> = SmallVec::from_slice(&self.shape[..lead]);
        let mut strides: Strides = SmallVec::from_slice(&self.strides[..lead]);
        for (d, w) in windows.iter().enumerate() {
            let span = w.dilation * (w.kernel - 1) + 1;
            let size = self.shape[lead + d];
            let count = if size >= span { (size - span) / w.stride + 1 } else { 0 };
            shape.push(count);
            strides.push(self.strides[lead + d] * if count > 1 { w.stride as isize } else { 1 });
        }
        for (d, w) in windows.iter().enumerate() {
            shape.push(w.kernel);
            strides.push(self.strides[lead + d] * if w.kernel > 1 { w.dilation as isize } else { 1 });
        }
        Layout::new(Shape(shape), strides, self.offset)
    }

    /// A dim of size 1 before `dim`.
    pub(crate) fn unsqueeze(&self, dim: usize) -> Layout {
        let mut out = self.clone();
        out.shape = self.shape.inserted(dim, 1);
        out.strides.insert(dim, 1);
        out
    }

    /// Without the dims where `gone` holds, each of size 1.
    pub(crate) fn squeeze(&self, gone: impl Fn(usize) -> bool) -> Layout {
        let keep = |d: &usize| !gone(*d);
        let shape = (0..self.rank()).filter(keep).map(|d| self.shape[d]).collect();
        let strides = (0..self.rank()).filter(keep).map(|d| self.strides[d]).collect();
        Layout::new(shape, strides, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place of a layout in row-major order of its indices: the definition that views are tested by.
    fn places(l: &Layout) -> Vec<usize> {
        let mut out = vec![];
        for i in 0..l.numel() {
            let (mut rest, mut place) = (i, l.offset() as isize);
            for d in (0..l.rank()).rev() {
                place += (rest % l.dims()[d]) as isize * l.strides()[d];
                rest /= l.dims()[d];
            }
            out.push(place as usize);
        }
        out
    }

    fn iota(dims: &[usize]) -> Layout {
        Layout::contiguous(dims.into())
    }

    #[test]
    fn reshape_keeps_the_order_or_declines() {
        let t = iota(&[4, 6]);
        assert_eq!(places(&t.reshape(&[2, 2, 3, 2].into()).unwrap()), (0..24).collect::<Vec<_>>());
        let p = t.permute(&[1, 0]);
        assert!(p.reshape(&[24].into()).is_none());
        let split = p.reshape(&[2, 3, 2, 2].into()).unwrap();
        assert_eq!(places(&split), places(&p));
        let s = t.slice(1, 1, 2, 2);
        assert_eq!(places(&s.reshape(&[2, 2, 1, 2].into()).unwrap()), places(&s));
        assert!(s.reshape(&[8].into()).is_none());
        assert_eq!(iota(&[0, 3]).reshape(&[3, 0].into()).unwrap().numel(), 0);
    }

    #[test]
    fn flip_slice_select_diagonal() {
        let t = iota(&[3, 4]);
        assert_eq!(places(&t.flip(1))[..4], [3, 2, 1, 0]);
        assert_eq!(places(&t.flip(1).flip(1)), places(&t));
        assert_eq!(places(&t.flip(1).slice(1, 1, 2, 2)), [2, 0, 6, 4, 10, 8]);
        assert_eq!(places(&t.select(0, 2)), [8, 9, 10, 11]);
        assert_eq!(places(&t.diagonal(0, 0, 1)), [0, 5, 10]);
        assert_eq!(places(&t.diagonal(2, 0, 1)), [2, 7]);
        assert_eq!(places(&t.diagonal(-1, 0, 1)), [4, 9]);
        assert_eq!(places(&t.diagonal(-1, 1, 0)), [1, 6, 11]);
        assert_eq!(t.diagonal(9, 0, 1).dims(), [0]);
    }

    #[test]
    fn windows_fold_and_overlap() {
        let w = |kernel, stride, dilation| Window { kernel, stride, dilation };
        let t = iota(&[4, 4]);
        let fold = t.windows(&[w(2, 2, 1), w(2, 2, 1)]);
        assert_eq!(fold.dims(), [2, 2, 2, 2]);
        assert_eq!(places(&fold)[..8], [0, 1, 4, 5, 2, 3, 6, 7]);
        assert!(!fold.may_overlap());
        let slide = iota(&[5]).windows(&[w(3, 1, 1)]);
        assert_eq!(places(&slide), [0, 1, 2, 1, 2, 3, 2, 3, 4]);
        assert!(slide.may_overlap());
        assert_eq!(places(&iota(&[5]).windows(&[w(2, 1, 3)])), [0, 3, 1, 4]);
        assert_eq!(iota(&[2]).windows(&[w(3, 1, 1)]).dims(), [0, 3]);
    }

    #[test]
    fn broadcast_and_expand() {
        let s = |d: &[usize]| Shape::from(d);
        assert_eq!(s(&[2, 1, 3]).broadcast(&s(&[4, 1]), "add").unwrap(), [2, 4, 3]);
        assert_eq!(s(&[0, 1]).broadcast(&s(&[1, 5]), "add").unwrap(), [0, 5]);
        let e = s(&[2, 3]).broadcast(&s(&[4, 3]), "add").unwrap_err().to_string();
        assert_eq!(e, "add: lhs [2, 3] and rhs [4, 3] cannot broadcast at dim 0 (2 vs 4)");
        assert_eq!(places(&iota(&[2, 1]).expand(&s(&[2, 2, 2]), "expand").unwrap()), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert!(iota(&[2]).expand(&s(&[3]), "expand").is_err());
        assert!(s(&[usize::MAX, 4, 0]).checked_numel("zeros").is_err());
    }
}
