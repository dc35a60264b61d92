//! The transforms of Winograd's F(4 × 4, 3 × 3), of one side of a square and of both, on vectors of channels.

use super::{IN, LANES, OUT};

/// Aligned, so that what is put aside between the passes lies in one cache line each.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Vector(pub [f32; LANES]);

// The transforms of one side. They are loops over lanes, from arrays to arrays: so the compiler makes vectors of them.

/// `Bᵀ d`
#[inline(always)]
pub(super) fn input_side(d: &[Vector; IN], out: &mut [Vector; IN]) {
    for l in 0..LANES {
        let [a, b, c, d, e, f] = [d[0].0[l], d[1].0[l], d[2].0[l], d[3].0[l], d[4].0[l], d[5].0[l]];
        out[0].0[l] = 4.0 * a - 5.0 * c + e;
        out[1].0[l] = (d + e) - 4.0 * (b + c);
        out[2].0[l] = 4.0 * (b - c) + (e - d);
        out[3].0[l] = 2.0 * (d - b) + (e - c);
        out[4].0[l] = 2.0 * (b - d) + (e - c);
        out[5].0[l] = 4.0 * b - 5.0 * d + f;
    }
}

/// `Aᵀ m`
#[inline(always)]
pub(super) fn output_side(m: &[Vector; IN], out: &mut [Vector; OUT]) {
    for l in 0..LANES {
        let [a, b, c, d, e, f] = [m[0].0[l], m[1].0[l], m[2].0[l], m[3].0[l], m[4].0[l], m[5].0[l]];
        out[0].0[l] = a + (b + c) + (d + e);
        out[1].0[l] = (b - c) + 2.0 * (d - e);
        out[2].0[l] = (b + c) + 4.0 * (d + e);
        out[3].0[l] = (b - c) + 8.0 * (d - e) + f;
    }
}

/// `A y`
#[inline(always)]
pub(super) fn output_back(y: &[Vector; OUT], out: &mut [Vector; IN]) {
    for l in 0..LANES {
        let [a, b, c, d] = [y[0].0[l], y[1].0[l], y[2].0[l], y[3].0[l]];
        out[0].0[l] = a;
        out[1].0[l] = (a + c) + (b + d);
        out[2].0[l] = (a + c) - (b + d);
        out[3].0[l] = (a + 4.0 * c) + (2.0 * b + 8.0 * d);
        out[4].0[l] = (a + 4.0 * c) - (2.0 * b + 8.0 * d);
        out[5].0[l] = d;
    }
}

/// `G w`
#[inline(always)]
pub(super) fn weight_side(w: &[Vector; 3], out: &mut [Vector; IN]) {
    for l in 0..LANES {
        let [a, b, c] = [w[0].0[l], w[1].0[l], w[2].0[l]];
        out[0].0[l] = a * 0.25;
        out[1].0[l] = (a + c + b) * (-1.0 / 6.0);
        out[2].0[l] = (a + c - b) * (-1.0 / 6.0);
        out[3].0[l] = (a + 4.0 * c + 2.0 * b) * (1.0 / 24.0);
        out[4].0[l] = (a + 4.0 * c - 2.0 * b) * (1.0 / 24.0);
        out[5].0[l] = c;
    }
}

/// `Gᵀ u`
#[inline(always)]
pub(super) fn weight_back(u: &[Vector; IN], out: &mut [Vector; 3]) {
    for l in 0..LANES {
        let [a, b, c, d, e, f] = [u[0].0[l], u[1].0[l], u[2].0[l], u[3].0[l], u[4].0[l], u[5].0[l]];
        out[0].0[l] = a * 0.25 - (b + c) * (1.0 / 6.0) + (d + e) * (1.0 / 24.0);
        out[1].0[l] = (c - b) * (1.0 / 6.0) + (d - e) * (1.0 / 12.0);
        out[2].0[l] = (d + e) * (1.0 / 6.0) - (b + c) * (1.0 / 6.0) + f;
    }
}

/// A square of vectors `from`, whose rows and columns are `from_at` elements apart, transformed on both sides to a
/// square at `to`: the columns first, then the rows.
#[inline(always)]
pub(super) fn both_sides<const N: usize, const M: usize>(
    from: &[f32],
    [from_row, from_column]: [usize; 2],
    to: &mut [f32],
    [to_row, to_column]: [usize; 2],
    side: impl Fn(&[Vector; N], &mut [Vector; M]),
) {
    let zero = Vector([0.0; LANES]);
    let (mut column, mut half, mut result) = ([zero; N], [[zero; N]; M], [zero; M]);
    for j in 0..N {
        for i in 0..N {
            column[i].0.copy_from_slice(&from[i * from_row + j * from_column..][..LANES]);
        }
        side(&column, &mut result);
        for i in 0..M {
            half[i][j] = result[i];
        }
    }
    for i in 0..M {
        side(&half[i], &mut result);
        for j in 0..M {
            to[i * to_row + j * to_column..][..LANES].copy_from_slice(&result[j].0);
        }
    }
}
