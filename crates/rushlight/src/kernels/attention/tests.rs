use super::product::{Product, product};
use super::*;
use crate::kernels::random::philox;
use crate::kernels::simd::lanes;

/// Numbers in (−1, 1) that depend on the seed.
fn numbers<C: Attend>(seed: u64, n: usize) -> Vec<C> {
    (0..n as u64).map(|i| C::of(philox(seed, i)[0] as f64 / 2f64.powi(31) - 1.0)).collect()
}

struct Case {
    sizes: Sizes,
    scale: f64,
    diagonal: Option<isize>,
    mask: Option<bool>,
    dropout: Option<Dropout>,
    interleaved: bool,
}

/// Output, log-sums, and the three gradients, as `[batch, heads, rows, n]`.
type Results = [Vec<f64>; 4];

/// Rows with a gap behind each, where they are not contiguous.
fn at(case: &Case, heads: usize, rows: usize, n: usize) -> (Rows, usize) {
    let mut at = Rows::contiguous(heads, rows, n, case.interleaved);
    if case.interleaved {
        at = Rows { offset: 3, batch: rows * (heads * n + 5), head: n, row: heads * n + 5 };
    }
    (at, case.sizes.batch * at.batch + at.offset + n)
}

impl Case {
    fn rows(&self) -> [[usize; 3]; 3] {
        let s = self.sizes;
        [[s.heads, s.queries, s.dim], [s.kv_heads, s.keys, s.dim], [s.kv_heads, s.keys, s.value_dim]]
    }

    fn mask_values(&self) -> (Vec<bool>, Vec<f64>) {
        let s = self.sizes;
        let added: Vec<f64> = numbers::<f64>(4, s.heads * s.queries * s.keys);
        let added: Vec<f64> = added.iter().map(|x| if *x < -0.6 { f64::NEG_INFINITY } else { *x }).collect();
        (added.iter().map(|x| *x > -0.3).collect(), added)
    }

    fn kernels<C: Attend>(&self) -> Results {
        let s = self.sizes;
        let [q, k, v] = self.rows().map(|[heads, rows, n]| at(self, heads, rows, n));
        let data = [q.1, k.1, v.1].into_iter().enumerate().map(|(i, len)| numbers::<C>(i as u64, len));
        let data: Vec<Vec<C>> = data.collect();
        let (keep, added) = self.mask_values();
        let added: Vec<C> = added.iter().map(|x| C::of(*x)).collect();
        let values = |kind| if kind { MaskValues::Keep(&keep) } else { MaskValues::Add(&added[..]) };
        // The same for all samples.
        let strides = [0, s.queries * s.keys, s.keys, 1];
        let p = Problem {
            sizes: s,
            q: Operand { data: &data[0], at: q.0 },
            k: Operand { data: &data[1], at: k.0 },
            v: Operand { data: &data[2], at: v.0 },
            scale: self.scale,
            diagonal: self.diagonal,
            mask: self.mask.map(|kind| Mask { values: values(kind), offset: 0, strides }),
            dropout: self.dropout,
        };
        let rows = s.batch * s.heads * s.queries;
        let (mut y, mut lse) = (vec![C::NAN; rows * s.value_dim], vec![C::NAN; rows]);
        forward(&p, &mut y, self.interleaved, &mut lse).unwrap();
        let dy = numbers::<C>(3, y.len());
        let y_at = Rows::contiguous(s.heads, s.queries, s.value_dim, self.interleaved);
        let dy_at = Rows::contiguous(s.heads, s.queries, s.value_dim, false);
        let saved = Saved { y: Operand { data: &y, at: y_at }, lse: &lse, dy: Operand { data: &dy, at: dy_at } };
        let mut grads = self.rows().map(|[heads, rows, n]| vec![C::NAN; s.batch * heads * rows * n]);
        let [dq, dk, dv] = &mut grads;
        backward(&p, &saved, [(dq, self.interleaved), (dk, false), (dv, self.interleaved)]).unwrap();
        let [dq, dk, dv] = grads;
        let flat = |x: &[C], [heads, rows, n]: [usize; 3], interleaved| {
            let at = Rows::contiguous(heads, rows, n, interleaved);
            let mut out = vec![];
            for (b, h, t) in places(s.batch, heads, rows) {
                out.extend(x[at.start(b, h, t)..][..n].iter().map(|x| x.to_f64()));
            }
            out
        };
        let [of_q, of_k, of_v] = self.rows();
        let of_y = [s.heads, s.queries, s.value_dim];
        let i = self.interleaved;
        [flat(&y, of_y, i), flat(&dq, of_q, i), flat(&dk, of_k, false), flat(&dv, of_v, i)]
    }

    /// The definition, a row at a time.
    fn naive<C: Attend>(&self) -> Results {
        let s = self.sizes;
        let places_of = self.rows().map(|[heads, rows, n]| at(self, heads, rows, n));
        let data: Vec<Vec<f64>> =
            (0..3).map(|i| numbers::<C>(i as u64, places_of[i].1).iter().map(|x| x.to_f64()).collect()).collect();
        let row = |i: usize, b, h, t| &data[i][places_of[i].0.start(b, h, t)..];
        let (keep, added) = self.mask_values();
        let dy: Vec<f64> =
            numbers::<C>(3, s.batch * s.heads * s.queries * s.value_dim).iter().map(|x| x.to_f64()).collect();
        let mut y = vec![];
        let mut grads = self.rows().map(|[heads, rows, n]| vec![0.0; s.batch * heads * rows * n]);
        for (flat, (b, h, t)) in places(s.batch, s.heads, s.queries).enumerate() {
            let kv = h / (s.heads / s.kv_heads);
            let (q, dy) = (row(0, b, h, t), &dy[flat * s.value_dim..][..s.value_dim]);
            let score = |j: usize| {
                let k = row(1, b, kv, j);
                let mut score = (0..s.dim).map(|d| q[d] * k[d]).sum::<f64>() * self.scale;
                let place = (h * s.queries + t) * s.keys + j;
                match self.mask {
                    Some(true) if !keep[place] => score = f64::NEG_INFINITY,
                    Some(false) => score += added[place],
                    _ => {}
                }
                let hidden = self.diagonal.is_some_and(|d| j as isize > d.saturating_add(t as isize));
                if hidden { f64::NEG_INFINITY } else { score }
            };
            let scores: Vec<f64> = (0..s.keys).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|x| (x - max).exp()).sum();
            let p = |j: usize| if max == f64::NEG_INFINITY { 0.0 } else { (scores[j] - max).exp() / sum };
            let z = |j: usize| {
                let Some(Dropout { p, place: (seed, offset) }) = self.dropout else { return 1.0 };
                let block = offset + (flat * s.keys.div_ceil(4) + j / 4) as u64;
                let dropped = (philox(seed, block)[j % 4] as f64) < p * 2f64.powi(32);
                if dropped { 0.0 } else { 1.0 / (1.0 - p) }
            };
            let value = |j: usize, e: usize| row(2, b, kv, j)[e];
            y.extend((0..s.value_dim).map(|e| (0..s.keys).map(|j| p(j) * z(j) * value(j, e)).sum::<f64>()));
            let dp = |j: usize| z(j) * (0..s.value_dim).map(|e| dy[e] * value(j, e)).sum::<f64>();
            let delta: f64 = (0..s.keys).map(|j| p(j) * dp(j)).sum();
            for j in 0..s.keys {
                let (ds, at) = (p(j) * (dp(j) - delta) * self.scale, (b * s.kv_heads + kv) * s.keys + j);
                for d in 0..s.dim {
                    grads[0][flat * s.dim + d] += ds * row(1, b, kv, j)[d];
                    grads[1][at * s.dim + d] += ds * q[d];
                }
                for e in 0..s.value_dim {
                    grads[2][at * s.value_dim + e] += p(j) * z(j) * dy[e];
                }
            }
        }
        let [dq, dk, dv] = grads;
        [y, dq, dk, dv]
    }

    fn check<C: Attend>(&self, tolerance: f64) {
        let (got, expected) = (self.kernels::<C>(), self.naive::<C>());
        for (name, (got, expected)) in ["y", "dq", "dk", "dv"].iter().zip(got.iter().zip(&expected)) {
            assert_eq!(got.len(), expected.len());
            for (i, (a, e)) in got.iter().zip(expected).enumerate() {
                let close = (a - e).abs() <= tolerance * (1.0 + e.abs());
                assert!(close, "{name}[{i}] is {a}, not {e}: {:?} {:?} {:?}", self.sizes, self.diagonal, self.mask);
            }
        }
    }
}

fn places(batch: usize, heads: usize, rows: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch * heads * rows).map(move |i| (i / (heads * rows), i / rows % heads, i % rows))
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for i in 0..60u64 {
        let mut state = 0;
        let mut below = |n: usize| {
            state += 1;
            philox(100 + i, state)[0] as usize % n
        };
        let kv_heads = 1 + below(3);
        let sizes = Sizes {
            batch: 1 + below(2),
            heads: kv_heads * (1 + below(3)),
            kv_heads,
            queries: [1, 2, 7, 16, 33, 70][below(6)],
            keys: [0, 1, 5, 12, 24, 31][below(6)],
            dim: [1, 4, 16, 17][below(4)],
            value_dim: [1, 3, 16, 33][below(4)],
        };
        let shift = sizes.keys as isize - sizes.queries as isize;
        cases.push(Case {
            sizes,
            scale: [1.0, 0.3, -2.0][below(3)],
            diagonal: [None, Some(0), Some(shift), Some(isize::MAX), Some(-3)][below(5)],
            mask: [None, Some(false), Some(true)][below(3)],
            dropout: [None, Some(Dropout { p: 0.3, place: (7, 11) })][below(2)],
            interleaved: below(2) == 0,
        });
    }
    cases
}

#[test]
fn are_their_definition() {
    for case in cases() {
        case.check::<f32>(3e-5);
        case.check::<f64>(1e-12);
    }
}

#[test]
fn powers_of_two() {
    for i in -126_000..=126_000 {
        let x = i as f32 / 1000.0;
        for power in [f32::power::<true>(x), f32::power::<false>(x)] {
            let exact = (x as f64).exp2();
            assert!((power as f64 - exact).abs() <= 1.2e-7 * exact, "2^{x} is {exact}, not {power}");
        }
    }
    assert_eq!([0.0, 1.0, -3.0].map(f32::power::<true>), [1.0, 2.0, 0.125]);
    assert_eq!([-126.5, -1e30, f32::NEG_INFINITY].map(f32::power::<true>), [0.0; 3]);
    assert!(f32::power::<true>(f32::NAN).is_nan());
}

#[test]
#[should_panic(expected = "a vector outside its slice")]
fn a_product_that_reads_outside_is_refused() {
    let (scalars, vectors, mut out) = ([0.0f32; 4], vec![0.0f32; 2 * lanes::<f32>() - 1], [0.0f32; 64]);
    let p = Product { scalars: &scalars, row: 1, step: 1, vectors: &vectors, stride: 16, rows: 2, steps: 2, width: 1 };
    product(&p, &mut out, 16, false);
}
