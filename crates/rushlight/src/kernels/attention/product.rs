//! The inner loops: products of a tile, and what is done to its scores between them.

use crate::dtype::Real;
use crate::kernels::simd::{dispatch, dispatch_fused, lanes, max_vectors};
use crate::kernels::turn::Turn;

/// `Σ over steps of  scalars[r · row + s · step] · vectors[s · stride ..][lane]` for each row and lane of `width` vectors.
///
/// With the strides of the scalars exchanged, the same loop multiplies by a matrix or by its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, C> {
    pub scalars: &'a [C],
    pub row: usize,
    pub step: usize,
    pub vectors: &'a [C],
    pub stride: usize,
    pub rows: usize,
    pub steps: usize,
    pub width: usize,
}

/// How far a maximum may be passed before what was summed is rescaled: weights up to its power harm no sum.
const SLACK: f64 = 8.0;

/// A block of scores `[keys, lanes]` to be made weights, and what is known of each lane's softmax so far.
pub(crate) struct Running<'a, C> {
    pub scores: &'a mut [C],
    pub max: &'a mut [C],
    pub sum: &'a mut [C],
    /// What sums made with the old maximum are to be multiplied by.
    pub factor: &'a mut [C],
}

/// A block `[keys, lanes]` of backward: scores that become weights, and the weights' gradients that become the scores'.
pub(crate) struct Differential<'a, C> {
    pub scores: &'a mut [C],
    pub grads: &'a mut [C],
    /// 0 or 1 / (1 − rate) each.
    pub keep: Option<&'a [C]>,
    pub lse: &'a [C],
    /// `Σ dy ∘ y` of each lane.
    pub delta: &'a [C],
}

/// An element type that attention is computed in.
///
/// Scores are kept in units of [`LOG_BASE`](Attend::LOG_BASE): powers of 2 are cheaper than powers of e.
pub(crate) trait Attend: Real + Turn {
    /// The logarithm of e in the base whose powers are taken.
    const LOG_BASE: f64;
    /// The base to the power of `x`, for `x` below 127; 0 for −∞.
    fn power<const FUSED: bool>(x: Self) -> Self;
    #[doc(hidden)]
    fn products(p: &Product<Self>, from: usize, width: usize, out: &mut [Self], out_row: usize, add: bool);
    /// Whether any factor is not 1.
    #[doc(hidden)]
    fn soften(block: Running<Self>) -> bool;
    #[doc(hidden)]
    fn differentiate(block: Differential<Self>);
    #[doc(hidden)]
    fn dots(query: &[Self], keys: &[Self], row: usize, out: &mut [Self]);
    /// Multiplies rows of `row` elements, each from lane `from` on, by as many factors as there are.
    #[doc(hidden)]
    fn scale(rows: &mut [Self], row: usize, from: usize, by: &[Self]);
}

/// Writes the product to the rows of `out`, `out_row` elements apart, or adds it to them.
#[track_caller]
pub(super) fn product<C: Attend>(product: &Product<C>, out: &mut [C], out_row: usize, add: bool) {
    let Product { scalars, row, step, vectors, stride, rows, steps, width } = *product;
    let span = width * lanes::<C>();
    if rows == 0 || width == 0 {
        return;
    }
    assert!(out_row >= span && (rows - 1) * out_row + span <= out.len(), "sums outside their slice");
    if steps > 0 {
        let last = (rows - 1).saturating_mul(row).saturating_add((steps - 1).saturating_mul(step));
        assert!(last < scalars.len(), "a scalar outside its slice");
        assert!((steps - 1).saturating_mul(stride).saturating_add(span) <= vectors.len(), "a vector outside its slice");
    }
    // As few passes as may be, of the same width.
    let each = width.div_ceil(width.div_ceil(max_vectors()));
    for from in (0..width).step_by(each) {
        C::products(product, from, each.min(width - from), out, out_row, add);
    }
}

macro_rules! attend {
    ($t:ident, $log_base:expr, $power:expr) => {
        impl Attend for $t {
            const LOG_BASE: f64 = $log_base;
            #[inline(always)]
            fn power<const FUSED: bool>(x: Self) -> Self {
                $power(x)
            }
            fn products(p: &Product<$t>, from: usize, width: usize, out: &mut [$t], out_row: usize, add: bool) {
                const L: usize = lanes::<$t>();
                match width {
                    1 => columns::<$t, L, 1>(p, from, out, out_row, add),
                    2 => columns::<$t, L, 2>(p, from, out, out_row, add),
                    3 => columns::<$t, L, 3>(p, from, out, out_row, add),
                    4 => columns::<$t, L, 4>(p, from, out, out_row, add),
                    _ => unreachable!("a tile is one to four vectors wide"),
                }
            }
            fn soften(block: Running<$t>) -> bool {
                dispatch_fused!(FUSED => soften::<$t, { lanes::<$t>() }, FUSED>(block))
            }
            fn scale(rows: &mut [$t], row: usize, from: usize, by: &[$t]) {
                dispatch(
                    #[inline(always)]
                    || {
                        for row in rows.chunks_exact_mut(row) {
                            for (x, by) in row[from..].iter_mut().zip(by) {
                                *x *= by;
                            }
                        }
                    },
                );
            }
            fn dots(query: &[$t], keys: &[$t], row: usize, out: &mut [$t]) {
                dispatch_fused!(FUSED => dots_of::<$t, { lanes::<$t>() }, FUSED>(query, keys, row, out))
            }
            fn differentiate(block: Differential<$t>) {
                dispatch_fused!(FUSED => differentiate::<$t, { lanes::<$t>() }, FUSED>(block))
            }
        }
    };
}

attend!(f32, std::f64::consts::LOG2_E, power_of_2::<FUSED>);
attend!(f64, 1.0, f64::exp);

/// 2ˣ for `x` below 127, 0 below −126. Within 1 unit in the last place, and exactly 1 at 0.
///
/// x = n + r with n whole and |r| ≤ 1/2; 2ʳ is a polynomial, a minimax fit of the relative error (Remez exchange).
#[inline(always)]
fn power_of_2<const FUSED: bool>(x: f32) -> f32 {
    /// Adding 1.5 · 2²³ rounds to a whole number, which then stands in the low bits.
    const TO_WHOLE: f32 = 12_582_912.0;
    const P: [f32; 7] =
        [1.0, std::f32::consts::LN_2, 0.240_226_47, 0.055_503_29, 0.009_618_489, 0.001_339_993_1, 0.000_153_458_12];
    let shifted = x + TO_WHOLE;
    let r = x - (shifted - TO_WHOLE);
    let mut y = P[6];
    for i in (0..6).rev() {
        y = if FUSED { y.mul_add(r, P[i]) } else { y * r + P[i] };
    }
    let exponent = shifted.to_bits().wrapping_sub(TO_WHOLE.to_bits()).wrapping_add(127);
    let y = y * f32::from_bits(exponent << 23);
    // NaN is not below.
    if x < -126.0 { 0.0 } else { y }
}

/// `V` columns of vectors from column `from` on.
fn columns<C: Real, const L: usize, const V: usize>(
    product: &Product<C>,
    from: usize,
    out: &mut [C],
    out_row: usize,
    add: bool,
) {
    dispatch_fused!(FUSED => {
        let mut r = 0;
        while r < product.rows {
            let left = product.rows - r;
            match left {
                1 => sums::<C, L, V, 1, FUSED>(product, from * L, r, out.as_mut_ptr(), out_row, add),
                2..=4 => sums::<C, L, V, 4, FUSED>(product, from * L, r, out.as_mut_ptr(), out_row, add),
                _ => sums::<C, L, V, 6, FUSED>(product, from * L, r, out.as_mut_ptr(), out_row, add),
            }
            r += left.min(6);
        }
    })
}

/// The sums of `J` rows from `r` on; those beyond the last are summed in vain.
#[inline(always)]
fn sums<C: Real, const L: usize, const V: usize, const J: usize, const FUSED: bool>(
    product: &Product<C>,
    from: usize,
    r: usize,
    out: *mut C,
    out_row: usize,
    add: bool,
) {
    let Product { scalars, row, step, vectors, stride, rows, steps, .. } = *product;
    let scalars: [*const C; J] = std::array::from_fn(|j| scalars.as_ptr().wrapping_add((r + j).min(rows - 1) * row));
    let vectors = vectors.as_ptr().wrapping_add(from);
    let mut sum = [[[C::ZERO; L]; V]; J];
    for s in 0..steps {
        // SAFETY: `product` asserted that the last step leaves room for the whole width in `vectors`, and that the last
        // row and step lie within `scalars`. An array has its element's alignment.
        let v: [[C; L]; V] = std::array::from_fn(|i| unsafe { *vectors.add(s * stride + i * L).cast::<[C; L]>() });
        for j in 0..J {
            // SAFETY: as above.
            let x = unsafe { *scalars[j].add(s * step) };
            for i in 0..V {
                for l in 0..L {
                    sum[j][i][l] = if FUSED { v[i][l].mul_add(x, sum[j][i][l]) } else { v[i][l] * x + sum[j][i][l] };
                }
            }
        }
    }
    for j in 0..J {
        if r + j < rows {
            for i in 0..V {
                let out = out.wrapping_add((r + j) * out_row + from + i * L).cast::<[C; L]>();
                // SAFETY: `product` asserted that each row's whole width lies within `out`.
                let mut there = if add { unsafe { *out } } else { [C::ZERO; L] };
                for l in 0..L {
                    there[l] += sum[j][i][l];
                }
                // SAFETY: as above.
                unsafe { *out = there };
            }
        }
    }
}

/// `out[j]`: the product of a query with the row of keys that starts at `j · row`.
pub(super) fn dots<C: Attend>(query: &[C], keys: &[C], row: usize, out: &mut [C]) {
    C::dots(query, keys, row, out);
}

#[inline(always)]
fn dots_of<C: Real, const L: usize, const FUSED: bool>(query: &[C], keys: &[C], row: usize, out: &mut [C]) {
    let (q, q_rest) = query.as_chunks::<L>();
    for (j, out) in out.iter_mut().enumerate() {
        let (k, k_rest) = keys[j * row..][..query.len()].as_chunks::<L>();
        let mut sum = [C::ZERO; L];
        for (q, k) in q.iter().zip(k) {
            for l in 0..L {
                sum[l] = if FUSED { q[l].mul_add(k[l], sum[l]) } else { q[l] * k[l] + sum[l] };
            }
        }
        let mut half = L / 2;
        while half > 0 {
            for l in 0..half {
                sum[l] += sum[l + half];
            }
            half /= 2;
        }
        *out = q_rest.iter().zip(k_rest).fold(sum[0], |sum, (&q, &k)| sum + q * k);
    }
}

/// The vector at `at`.
#[inline(always)]
fn load<C: Copy, const L: usize>(x: &[C], at: usize) -> [C; L] {
    std::array::from_fn(
        #[inline(always)]
        |l| x[at..at + L][l],
    )
}

#[inline(always)]
fn store<C: Copy, const L: usize>(x: &mut [C], at: usize, values: [C; L]) {
    x[at..at + L].copy_from_slice(&values);
}

#[inline(always)]
fn soften<C: Attend, const L: usize, const FUSED: bool>(block: Running<C>) -> bool {
    let Running { scores, max, sum, factor } = block;
    let lanes = max.len();
    let mut moved = false;
    for at in (0..lanes).step_by(L) {
        let old: [C; L] = load(max, at);
        let mut top = [C::NEG_INFINITY; L];
        for row in scores.chunks_exact(lanes) {
            let s: [C; L] = load(row, at);
            for l in 0..L {
                // A NaN is passed over here, and comes back below.
                top[l] = if s[l] > top[l] { s[l] } else { top[l] };
            }
        }
        let mut new = [C::ZERO; L];
        let mut grew = false;
        for l in 0..L {
            let grows = top[l] > old[l] + C::of(SLACK);
            new[l] = if grows { top[l] } else { old[l] };
            grew |= grows;
        }
        store(max, at, new);
        for l in 0..L {
            // Where there was nothing but −∞, any finite number serves.
            new[l] = if new[l] == C::NEG_INFINITY { C::ZERO } else { new[l] };
        }
        let mut total: [C; L] = load(sum, at);
        if grew {
            moved = true;
            let mut rescale = [C::ZERO; L];
            for l in 0..L {
                rescale[l] = C::power::<FUSED>(old[l] - new[l]);
                total[l] *= rescale[l];
            }
            store(factor, at, rescale);
        } else {
            store(factor, at, [C::ONE; L]);
        }
        for row in scores.chunks_exact_mut(lanes) {
            let mut w: [C; L] = load(row, at);
            for l in 0..L {
                w[l] = C::power::<FUSED>(w[l] - new[l]);
                total[l] += w[l];
            }
            store(row, at, w);
        }
        store(sum, at, total);
    }
    moved
}

#[inline(always)]
fn differentiate<C: Attend, const L: usize, const FUSED: bool>(block: Differential<C>) {
    let Differential { scores, grads, keep, lse, delta } = block;
    let lanes = lse.len();
    assert_eq!(scores.len(), grads.len());
    for at in (0..lanes).step_by(L) {
        let (lse, delta): ([C; L], [C; L]) = (load(lse, at), load(delta, at));
        let rows = scores.chunks_exact_mut(lanes).zip(grads.chunks_exact_mut(lanes)).enumerate();
        for (r, (weights, grads)) in rows {
            let (mut w, mut g): ([C; L], [C; L]) = (load(weights, at), load(grads, at));
            let kept: [C; L] = keep.map_or([C::ONE; L], |keep| load(keep, r * lanes + at));
            for l in 0..L {
                let p = C::power::<FUSED>(w[l] - lse[l]);
                g[l] = p * (g[l] * kept[l] - delta[l]);
                w[l] = p * kept[l];
            }
            store(weights, at, w);
            store(grads, at, g);
        }
    }
}
