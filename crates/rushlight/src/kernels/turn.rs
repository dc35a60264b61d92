//! Rows turned to columns: the copy behind a transposed operand.

/// A matrix in a slice that it need not fill: element `(i, j)` is at `i * row + j`.
pub(crate) struct Grid<S> {
    pub data: S,
    pub row: usize,
}

/// An element type that is turned.
pub(crate) trait Turn: Copy {
    /// [`turn`] of 4 rows and 4 columns.
    #[inline(always)]
    fn turn_block(from: &[Self], from_row: usize, to: &mut [Self], to_row: usize) {
        for i in 0..4 {
            for j in 0..4 {
                to[j * to_row + i] = from[i * from_row + j];
            }
        }
    }
}

/// `to[j, i] = from[i, j]` for `i` below `rows` and `j` below `cols`.
pub(crate) fn turn<C: Turn>(from: Grid<&[C]>, to: Grid<&mut [C]>, rows: usize, cols: usize) {
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

impl Turn for f64 {}

#[cfg(not(target_arch = "x86_64"))]
impl Turn for f32 {}

#[cfg(target_arch = "x86_64")]
impl Turn for f32 {
    /// By eight shuffles, three times as fast; the compiler does not find them.
    #[inline(always)]
    fn turn_block(from: &[f32], from_row: usize, to: &mut [f32], to_row: usize) {
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
