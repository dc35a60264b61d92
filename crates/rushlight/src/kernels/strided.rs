//! Reading operands of any layout: coalesced dims, and blocks gathered into contiguous scratch.
//!
//! An elementwise kernel walks its output in row-major order, in blocks of [`BLOCK`] elements. An operand that is
//! contiguous over a block is read where it lies; any other is gathered into a scratch block in the L1 cache first.
//! So each function is compiled for one inner loop only, and a broadcast or transposed operand costs one extra pass
//! in cache.

use smallvec::SmallVec;

use crate::kernels::parallel::{self, GRAIN, Shared};
use crate::kernels::simd::dispatch;
use crate::{Element, Layout, Shape};

/// Elements per block: 4 KiB of f32, so three operands stay in the L1 cache.
pub(crate) const BLOCK: usize = 1024;

/// A slice of a storage and how a tensor lies in it.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    data: &'a [T],
    layout: &'a Layout,
}

impl<'a, T: Element> Strided<'a, T> {
    /// Panics if the layout reaches outside the slice, so reads by it need no check.
    pub fn new(data: &'a [T], layout: &'a Layout) -> Self {
        if let Some((_, high)) = layout.bounds() {
            assert!(high < data.len(), "layout {layout:?} reaches outside its storage of {}", data.len());
        }
        Strided { data, layout }
    }

    /// The elements in order, where they lie one after the other.
    pub fn contiguous(&self) -> Option<&'a [T]> {
        let n = self.layout.numel();
        if n == 0 {
            return Some(&[]);
        }
        self.layout.is_contiguous().then(|| &self.data[self.layout.offset()..self.layout.offset() + n])
    }
}

/// Adjacent dims merged where every operand allows it, size-1 dims dropped: the fewest loops that do the job.
pub(crate) fn coalesce<const N: usize>(
    shape: &Shape,
    strides: [&[isize]; N],
) -> (SmallVec<[usize; 6]>, [SmallVec<[isize; 6]>; N]) {
    let mut dims: SmallVec<[usize; 6]> = SmallVec::new();
    let mut out: [SmallVec<[isize; 6]>; N] = std::array::from_fn(|_| SmallVec::new());
    for d in 0..shape.rank() {
        let size = shape[d];
        if size == 1 {
            continue;
        }
        let last = dims.len();
        let merges = last > 0 && (0..N).all(|k| out[k][last - 1] == strides[k][d] * size as isize);
        if merges {
            dims[last - 1] *= size;
            (0..N).for_each(|k| out[k][last - 1] = strides[k][d]);
        } else {
            dims.push(size);
            (0..N).for_each(|k| out[k].push(strides[k][d]));
        }
    }
    (dims, out)
}

/// A block of memory in the L1 cache, which only costs anything once it is used.
pub(crate) struct Scratch<T> {
    block: Option<[T; BLOCK]>,
    /// The element that fills the block, and how much of it.
    filled: (usize, usize),
}

impl<T: Element> Scratch<T> {
    pub fn none() -> Scratch<T> {
        Scratch { block: None, filled: (0, 0) }
    }

    fn get(&mut self, n: usize) -> &mut [T] {
        self.filled = (0, 0);
        &mut self.block.get_or_insert([T::default(); BLOCK])[..n]
    }

    /// `n` times the element at `place`: what a broadcast reads block after block is filled in once.
    fn fill(&mut self, data: &[T], place: usize, n: usize) -> &[T] {
        if self.filled.0 != place || self.filled.1 < n {
            self.get(n).fill(data[place]);
            self.filled = (place, n);
        }
        &self.block.get_or_insert([T::default(); BLOCK])[..n]
    }
}

/// Where an operand's elements come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// A stretch of memory that begins here, read as it lies.
    Stretch(*const u8),
    /// Nearby: each is read many times, as a row that is added to all rows.
    Near,
    /// Anywhere.
    Gathered,
}

/// One operand of an elementwise kernel, ready to be read block by block.
pub(crate) struct Reader<'a, T> {
    data: &'a [T],
    offset: usize,
    dims: SmallVec<[usize; 6]>,
    strides: SmallVec<[isize; 6]>,
    contiguous: bool,
}

impl<'a, T: Element> Reader<'a, T> {
    pub fn new(x: Strided<'a, T>) -> Self {
        if x.layout.is_contiguous() {
            let (dims, strides) = (SmallVec::from_slice(&[x.layout.numel()]), SmallVec::from_slice(&[1]));
            return Reader { data: x.data, offset: x.layout.offset(), dims, strides, contiguous: true };
        }
        let (dims, [strides]) = coalesce(x.layout.shape(), [x.layout.strides()]);
        Reader { data: x.data, offset: x.layout.offset(), dims, strides, contiguous: false }
    }

    /// Where its elements come from.
    #[inline]
    pub fn source(&self) -> Source {
        if self.contiguous {
            return Source::Stretch(self.data[self.offset.min(self.data.len())..].as_ptr().cast());
        }
        let repeated = self.dims.iter().zip(&self.strides).filter(|d| *d.1 == 0);
        if repeated.map(|d| *d.0).product::<usize>() >= 8 { Source::Near } else { Source::Gathered }
    }

    /// Elements `start..start + n` in row-major order, read in place or gathered into `scratch`.
    #[inline]
    pub fn block<'s>(&'s self, start: usize, n: usize, scratch: &'s mut Scratch<T>) -> &'s [T] {
        if self.contiguous {
            let first = self.offset + start;
            return &self.data[first..first + n];
        }
        // A row of a matrix whose rows are contiguous, or one element each, as in a broadcast.
        if let (Some(&inner), Some(&step @ (0 | 1))) = (self.dims.last(), self.strides.last()) {
            let at = start % inner;
            if at + n <= inner {
                let first = self.place(start);
                return if step == 1 { &self.data[first..first + n] } else { scratch.fill(self.data, first, n) };
            }
        }
        let scratch = scratch.get(n);
        self.gather(start, scratch);
        scratch
    }

    /// Where element `index` of the row-major order lies.
    fn place(&self, index: usize) -> usize {
        let (mut rest, mut place) = (index, self.offset as isize);
        for (&d, &s) in self.dims.iter().zip(&self.strides).rev() {
            place += (rest % d) as isize * s;
            rest /= d;
        }
        place as usize
    }

    /// Copies elements `start..start + out.len()` of the row-major order to `out`.
    pub fn gather(&self, start: usize, out: &mut [T]) {
        let Some((&inner, &step)) = self.dims.last().zip(self.strides.last()) else {
            out.fill(self.data[self.offset]);
            return;
        };
        let rank = self.dims.len();
        // The index of each dim at `start`, and the place of the start of its row.
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, rank);
        let mut rest = start;
        for d in (0..rank).rev() {
            index[d] = rest % self.dims[d];
            rest /= self.dims[d];
        }
        let mut row = self.offset as isize;
        for d in 0..rank - 1 {
            row += index[d] as isize * self.strides[d];
        }
        let mut column = index[rank - 1];
        let mut filled = 0;
        while filled < out.len() {
            let run = (inner - column).min(out.len() - filled);
            let piece = &mut out[filled..filled + run];
            let first = row + column as isize * step;
            match step {
                1 => piece.copy_from_slice(&self.data[first as usize..first as usize + run]),
                0 => piece.fill(self.data[first as usize]),
                _ => {
                    for (i, o) in piece.iter_mut().enumerate() {
                        // SAFETY: `Strided::new` checked that every index of the layout lies inside `data`.
                        *o = unsafe { *self.data.get_unchecked((first + i as isize * step) as usize) };
                    }
                }
            }
            filled += run;
            column = 0;
            for d in (0..rank - 1).rev() {
                index[d] += 1;
                row += self.strides[d];
                if index[d] < self.dims[d] {
                    break;
                }
                row -= self.strides[d] * self.dims[d] as isize;
                index[d] = 0;
            }
        }
    }
}

/// Copies `x` to `out` in row-major order.
pub(crate) fn copy<T: Element>(x: Strided<'_, T>, out: &mut [T]) {
    assert_eq!(out.len(), x.layout.numel());
    if out.is_empty() {
        return;
    }
    let reader = Reader::new(x);
    parallel::chunks(out, GRAIN, |start, piece| reader.gather(start, piece));
}

/// `out[to] += x`, in row-major order of `x`: the adjoint of reading through the view `to`. Places may repeat.
pub(crate) fn add_at<T: crate::Float>(out: &mut [T], to: &Layout, x: &[T]) {
    each_at(out, to, x, |out, x| *out = T::down(out.up() + x.up()));
}

/// `out[to] = x`, in row-major order of `x`.
pub(crate) fn write_at<T: Element>(out: &mut [T], to: &Layout, x: &[T]) {
    each_at(out, to, x, |out, x| *out = x);
}

/// `f(out[to], x)` for each element of `x`, in row-major order; on several threads where no place comes twice.
fn each_at<T: Element>(out: &mut [T], to: &Layout, x: &[T], f: impl Fn(&mut T, T) + Sync + Copy) {
    assert_eq!(x.len(), to.numel());
    let Some((_, high)) = to.bounds() else { return };
    assert!(high < out.len(), "layout {to:?} reaches outside its storage of {}", out.len());
    let (dims, [strides]) = coalesce(to.shape(), [to.strides()]);
    let (inner, step) = dims.last().zip(strides.last()).map_or((1, 1), |(&inner, &step)| (inner, step));
    let rows = Reader { data: x, offset: to.offset(), dims, strides, contiguous: false };
    let out = Shared::new(out);
    let run = |range: std::ops::Range<usize>| {
        for row in range {
            let (x, first) = (&x[row * inner..][..inner], rows.place(row * inner));
            if step == 1 {
                // SAFETY: within the slice, as asserted. Rows are one thread's, or no two of them share a place.
                let out = unsafe { out.at(first, inner) };
                dispatch(
                    #[inline(always)]
                    || out.iter_mut().zip(x).for_each(|(out, &x)| f(out, x)),
                );
            } else {
                for (i, &x) in x.iter().enumerate() {
                    let place = first.wrapping_add_signed(i as isize * step);
                    // SAFETY: as above.
                    f(unsafe { &mut out.at(place, 1)[0] }, x);
                }
            }
        }
    };
    let count = x.len() / inner;
    if to.may_overlap() {
        return run(0..count);
    }
    let rows = GRAIN.div_ceil(inner);
    parallel::run(count.div_ceil(rows), |i| run(i * rows..((i + 1) * rows).min(count)));
}
