//! Moving numbers to where a tile wants them: in the type that is computed in, rows turned to columns.

use std::any::TypeId;
use std::ops::Deref;

use super::tile::Tiled;
use crate::Result;
use crate::dtype::Float;
use crate::storage::Buffer;

/// Numbers in the type that they are computed in: as they are where that is theirs, else converted.
pub(super) enum Plain<'a, C> {
    AsTheyAre(&'a [C]),
    Converted(Buffer<C>),
}

impl<'a, C: Float> Plain<'a, C> {
    pub(super) fn new<T: Float<Compute = C>>(x: &'a [T]) -> Result<Plain<'a, C>> {
        if TypeId::of::<T>() == TypeId::of::<C>() {
            // SAFETY: it is the same type.
            return Ok(Plain::AsTheyAre(unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) }));
        }
        let mut converted = Buffer::try_scratch(x.len(), "conv")?;
        converted.iter_mut().zip(x).for_each(|(to, from)| *to = from.up());
        Ok(Plain::Converted(converted))
    }
}

impl<C> Deref for Plain<'_, C> {
    type Target = [C];
    fn deref(&self) -> &[C] {
        match self {
            Plain::AsTheyAre(x) => x,
            Plain::Converted(x) => x,
        }
    }
}

/// A matrix in a slice that it need not fill: element `(i, j)` is at `i * row + j`.
pub(super) struct Grid<S> {
    pub data: S,
    pub row: usize,
}

/// `to[j, i] = from[i, j]` for `i` below `rows` and `j` below `cols`.
pub(super) fn turn<C: Tiled>(from: Grid<&[C]>, to: Grid<&mut [C]>, rows: usize, cols: usize) {
    let (whole_rows, whole_cols) = (rows / 4 * 4, cols / 4 * 4);
    for j in (0..whole_cols).step_by(4) {
        for i in (0..whole_rows).step_by(4) {
            C::turn_block(&from.data[i * from.row + j..], from.row, &mut to.data[j * to.row + i..], to.row);
        }
    }
    for j in 0..cols {
        let done = if j < whole_cols { whole_rows } else { 0 };
        for i in done..rows {
            to.data[j * to.row + i] = from.data[i * from.row + j];
        }
    }
}

/// [`turn`] of 4 rows and 4 columns.
#[inline(always)]
pub(super) fn turn_block<C: Copy>(from: &[C], from_row: usize, to: &mut [C], to_row: usize) {
    for i in 0..4 {
        for j in 0..4 {
            to[j * to_row + i] = from[i * from_row + j];
        }
    }
}

/// [`turn_block`] by eight shuffles, three times as fast; the compiler does not find them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn turn_block_f32(from: &[f32], from_row: usize, to: &mut [f32], to_row: usize) {
    use std::arch::x86_64::*;
    assert!(from.len() >= 3 * from_row + 4 && to.len() >= 3 * to_row + 4);
    // SAFETY: each of the four rows of four lies within its slice; SSE is part of x86-64.
    unsafe {
        let row = |i: usize| _mm_loadu_ps(from.as_ptr().add(i * from_row));
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        let mut put = |j: usize, x: __m128| _mm_storeu_ps(to.as_mut_ptr().add(j * to_row), x);
        put(0, _mm_movelh_ps(ab, cd));
        put(1, _mm_movehl_ps(cd, ab));
        put(2, _mm_movelh_ps(ab_high, cd_high));
        put(3, _mm_movehl_ps(cd_high, ab_high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<C: Tiled>() {
        for (rows, cols) in [(0, 3), (1, 1), (4, 4), (3, 9), (8, 5), (13, 16), (17, 19)] {
            let (from_row, to_row) = (cols + 2, rows + 1);
            let from: Vec<C> = (0..rows * from_row).map(|i| C::of(i as f64)).collect();
            let mut to = vec![C::NAN; cols * to_row];
            turn(Grid { data: &from, row: from_row }, Grid { data: &mut to[..], row: to_row }, rows, cols);
            for (place, x) in to.iter().enumerate() {
                let (j, i) = (place / to_row, place % to_row);
                assert!(if i < rows { *x == from[i * from_row + j] } else { x.is_nan() }, "{rows} x {cols}");
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        check::<f32>();
        check::<f64>();
    }
}
