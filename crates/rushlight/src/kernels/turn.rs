//! Rows turned to columns: the copy behind a transposed operand.

use super::simd::dispatch;

/// A matrix in a slice that it need not fill: element `(i, j)` is at `i * row + j`.
pub(crate) struct Grid<S> {
    pub data: S,
    pub row: usize,
}

/// An element type that is turned.
pub(crate) trait Turn: Copy {
    /// [`turn`] of 4 rows and 4 columns.
    ///
    /// # Safety
    /// `from` leads to four elements in each of four rows that are `from_row` apart, and so does `to`.
    #[inline(always)]
    unsafe fn turn_block(from: *const Self, from_row: usize, to: *mut Self, to_row: usize) {
        for i in 0..4 {
            for j in 0..4 {
                // SAFETY: the caller's promise.
                unsafe { *to.add(j * to_row + i) = *from.add(i * from_row + j) };
            }
        }
    }
}

/// `to[j, i] = from[i, j]` for `i` below `rows` and `j` below `cols`. What blocks of four leave over is turned with those
/// before it, some of them again.
pub(crate) fn turn<C: Turn>(from: Grid<&[C]>, to: Grid<&mut [C]>, rows: usize, cols: usize) {
    if rows > 0 && cols > 0 {
        assert!(rows <= to.data.len() && (cols - 1).saturating_mul(to.row) <= to.data.len() - rows);
    }
    let to = Grid { data: to.data.as_mut_ptr(), row: to.row };
    // SAFETY: the last element's place lies within the slice, which is borrowed for this.
    unsafe { turn_to(from, to, rows, cols) };
}

/// [`turn`] to where other threads write in between.
///
/// # Safety
/// Each element written lies in one allocation with the first, and nobody else uses it.
pub(crate) unsafe fn turn_to<C: Turn>(from: Grid<&[C]>, to: Grid<*mut C>, rows: usize, cols: usize) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(cols <= from.data.len() && (rows - 1).saturating_mul(from.row) <= from.data.len() - cols);
    let source = from.data.as_ptr();
    if rows < 4 || cols < 4 {
        for j in 0..cols {
            for i in 0..rows {
                // SAFETY: the source lies within as asserted, the target as the caller has promised.
                unsafe { *to.data.add(j * to.row + i) = *source.add(i * from.row + j) };
            }
        }
        return;
    }
    dispatch(
        #[inline(always)]
        || {
            let mut j = 0;
            while j < cols {
                let column = j.min(cols - 4);
                let mut i = 0;
                while i < rows {
                    let row = i.min(rows - 4);
                    // SAFETY: as above, at most four rows and columns before the last.
                    unsafe {
                        let source = source.add(row * from.row + column);
                        C::turn_block(source, from.row, to.data.add(column * to.row + row), to.row);
                    }
                    i += 4;
                }
                j += 4;
            }
        },
    );
}

impl Turn for f64 {}

#[cfg(not(target_arch = "x86_64"))]
impl Turn for f32 {}

#[cfg(target_arch = "x86_64")]
impl Turn for f32 {
    /// By eight shuffles, three times as fast; the compiler does not find them.
    #[inline(always)]
    unsafe fn turn_block(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise; SSE is part of x86-64.
        unsafe {
            let row = |i: usize| _mm_loadu_ps(from.add(i * from_row));
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            let put = |j: usize, x: __m128| _mm_storeu_ps(to.add(j * to_row), x);
            put(0, _mm_movelh_ps(ab, cd));
            put(1, _mm_movehl_ps(cd, ab));
            put(2, _mm_movelh_ps(ab_high, cd_high));
            put(3, _mm_movehl_ps(cd_high, ab_high));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Real;

    fn check<C: Turn + Real>() {
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
