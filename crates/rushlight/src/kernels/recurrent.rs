//! A recurrent layer over a whole sequence, forward and back, with nothing but its input's product computed before.
//!
//! ```text
//! a = x, g = W·h + b                                        one product a step, of all gates
//! Rnn    h ← f(a + g)
//! Gru    r, z = σ(a + g)   n = tanh(aₙ + r·gₙ)              h ← n·(1 − z) + h·z
//! Lstm   i, f, o = σ(a + g)   u = tanh(aᵤ + gᵤ)             c ← f·c + i·u,   h ← o·tanh(c)
//! ```
//!
//! Arrays are `[steps, batch, …]`. Forward writes the output of each step and, behind the last, the state at the end. Back
//! goes the other way: it turns the gradient of a step's output into that of its gates, and by one product into that of
//! the state before. The gradient of W is one product over all steps, which the caller makes. The loops between the
//! products are short, so they stay on this thread.
//! Source: Hochreiter & Schmidhuber 1997; Cho et al. 2014, in cuDNN's form, which PyTorch has too.

use crate::kernels::gemm::{Mat, MatMul, MatMut, affine, gemm, gemm_rounded};
use crate::kernels::simd::dispatch;
use crate::{Element, Real};

/// What happens in a step. The order of the gates is PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Tanh,
    Relu,
    /// r, z, n
    Gru,
    /// i, f, u, o
    Lstm,
}

impl Cell {
    pub fn gates(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// h, and of an LSTM c.
    pub fn states(self) -> usize {
        if self == Cell::Lstm { 2 } else { 1 }
    }

    /// Numbers that the way back needs of each step, for each number of the state: r, z, n, gₙ, or i, f, u, o, c.
    pub fn kept(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 0,
            Cell::Gru => 4,
            Cell::Lstm => 5,
        }
    }
}

/// One direction of one layer.
#[derive(Clone, Copy)]
pub(crate) struct Sequence<'a> {
    pub cell: Cell,
    pub steps: usize,
    pub batch: usize,
    pub hidden: usize,
    /// Where each row ends: behind it the output is 0 and the state stays.
    pub lengths: Option<&'a [usize]>,
    /// From the last step to the first.
    pub reverse: bool,
    /// Whether products round, as [`gemm_rounded`].
    pub round: bool,
}

/// What a step is made of besides its input: the state before the first, the product with the state.
pub(crate) struct Given<'a, C> {
    /// `[batch, hidden]`
    pub h: &'a [C],
    /// `[batch, hidden]`, of an LSTM; else empty.
    pub c: &'a [C],
    /// `[gates · hidden, hidden]`. Forward reads it fastest where its columns lie together.
    pub weight: Mat<'a, C>,
}

impl Sequence<'_> {
    fn state(&self) -> usize {
        self.batch * self.hidden
    }

    /// The places in time, in the order in which they are computed.
    fn times(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (steps, reverse) = (self.steps, self.reverse);
        (0..steps).map(move |s| if reverse { steps - 1 - s } else { s })
    }

    fn runs(&self, t: usize, row: usize) -> bool {
        self.lengths.is_none_or(|l| t < l[row])
    }

    /// The place that was computed before `t`; none at the start.
    fn before(&self, t: usize, row: usize) -> Option<usize> {
        match self.reverse {
            false => t.checked_sub(1),
            true => Some(t + 1).filter(|&t| t < self.lengths.map_or(self.steps, |l| l[row])),
        }
    }

    /// From `x`, `[steps, batch, gates · hidden]`, to `y`, `[steps + states, batch, hidden]`. `kept` is for the way back.
    pub fn forward<C: MatMul + Real>(
        &self,
        x: &[C],
        given: &Given<'_, C>,
        bias: Option<&[C]>,
        y: &mut [C],
        mut kept: Option<&mut [C]>,
    ) {
        let (n, width, keeps) = (self.hidden, self.cell.gates() * self.hidden, self.cell.kept() * self.hidden);
        let (y, state) = y.split_at_mut(self.steps * self.state());
        let (h, c) = state.split_at_mut(self.state());
        h.copy_from_slice(given.h);
        c.copy_from_slice(given.c);
        if h.is_empty() {
            return;
        }
        let (mut product, mut scratch) = (vec![C::ZERO; self.batch * width], vec![C::ZERO; keeps]);
        for t in self.times() {
            affine(&mut product, Mat::row_major(h, self.batch, n), given.weight.t(), bias, self.round);
            dispatch(
                #[inline(always)]
                || {
                    for row in 0..self.batch {
                        let place = t * self.batch + row;
                        let out = &mut y[place * n..][..n];
                        let keep = match &mut kept {
                            Some(kept) => &mut kept[place * keeps..][..keeps],
                            None => &mut scratch[..],
                        };
                        if !self.runs(t, row) {
                            out.fill(C::ZERO);
                            keep.fill(C::ZERO);
                            continue;
                        }
                        let (x, g) = (&x[place * width..][..width], &product[row * width..][..width]);
                        let h = &mut h[row * n..][..n];
                        match self.cell {
                            Cell::Tanh => map2(h, x, g, |a, g| (a + g).tanh()),
                            Cell::Relu => map2(h, x, g, |a, g| relu(a + g)),
                            Cell::Gru => gru(n, x, g, h, keep),
                            Cell::Lstm => lstm(n, x, g, h, &mut c[row * n..][..n], keep),
                        }
                        out.copy_from_slice(h);
                    }
                },
            );
        }
    }

    /// From `dy`, in the shape of `y`, to the gradients of the gates, `[steps, batch, gates · hidden]`, and of the state
    /// before the first step. `dg` is the gradient of `g` where it is not that of `a`: in a GRU; else empty.
    pub fn backward<C: MatMul + Real>(
        &self,
        given: &Given<'_, C>,
        (y, kept, dy): (&[C], &[C], &[C]),
        (da, dg): (&mut [C], &mut [C]),
        (dh, dc): (&mut [C], &mut [C]),
    ) {
        let (n, width, keeps) = (self.hidden, self.cell.gates() * self.hidden, self.cell.kept() * self.hidden);
        let (dy, end) = dy.split_at(self.steps * self.state());
        dh.copy_from_slice(&end[..self.state()]);
        dc.copy_from_slice(&end[self.state()..]);
        if dh.is_empty() {
            return;
        }
        for t in self.times().rev() {
            dispatch(
                #[inline(always)]
                || {
                    for row in 0..self.batch {
                        let place = t * self.batch + row;
                        let (at, at_gates) = (place * n..place * n + n, place * width..place * width + width);
                        let da = &mut da[at_gates.clone()];
                        let dg = if self.cell == Cell::Gru { &mut dg[at_gates] } else { &mut dg[..0] };
                        if !self.runs(t, row) {
                            da.fill(C::ZERO);
                            dg.fill(C::ZERO);
                            continue;
                        }
                        let (own, keep) = (row * n..row * n + n, &kept[place * keeps..][..keeps]);
                        let before = self.before(t, row).map(|t| t * self.batch + row);
                        let dh = &mut dh[own.clone()];
                        dh.iter_mut().zip(&dy[at.clone()]).for_each(|(o, &d)| *o += d);
                        match self.cell {
                            Cell::Tanh => {
                                map2(da, dh, &y[at], |d, h| d * (C::ONE - h * h));
                                dh.fill(C::ZERO);
                            }
                            Cell::Relu => {
                                map2(da, dh, &y[at], |d, h| if h > C::ZERO { d } else { C::ZERO });
                                dh.fill(C::ZERO);
                            }
                            Cell::Gru => {
                                let h = before.map_or(&given.h[own], |p| &y[p * n..][..n]);
                                gru_back(n, h, keep, dh, da, dg);
                            }
                            Cell::Lstm => {
                                let c = before.map_or(&given.c[own.clone()], |p| &kept[p * keeps + 4 * n..][..n]);
                                lstm_back(n, c, keep, dh, &mut dc[own], da);
                            }
                        }
                    }
                },
            );
            let gates = if self.cell == Cell::Gru { &*dg } else { &*da };
            let gates = Mat::row_major(&gates[t * self.batch * width..][..self.batch * width], self.batch, width);
            let product = if self.round { gemm_rounded } else { gemm };
            product(MatMut::row_major(dh, self.batch, n), gates, given.weight, true);
        }
    }

    /// The state that each step began with, `[steps, batch, hidden]`: the other factor of the weight's gradient.
    pub fn previous<T: Element>(&self, y: &[T], start: &[T], out: &mut [T]) {
        let n = self.hidden;
        for (place, out) in out.chunks_exact_mut(n).enumerate() {
            let (t, row) = (place / self.batch, place % self.batch);
            let before = self.before(t, row);
            out.copy_from_slice(before.map_or(&start[row * n..][..n], |t| &y[(t * self.batch + row) * n..][..n]));
        }
    }
}

#[inline(always)]
fn relu<C: Real>(x: C) -> C {
    if x > C::ZERO || x.is_nan() { x } else { C::ZERO }
}

/// `out = f(a, b)`. A loop for each output: the compiler makes vectors of no loop that writes two slices.
#[inline(always)]
fn map2<C: Real>(out: &mut [C], a: &[C], b: &[C], f: impl Fn(C, C) -> C) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

/// `out = f(out, a, b, c)`
#[inline(always)]
fn update3<C: Real>(out: &mut [C], [a, b, c]: [&[C]; 3], f: impl Fn(C, C, C, C) -> C) {
    for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = f(*out, a, b, c);
    }
}

#[inline(always)]
fn gru<C: Real>(n: usize, x: &[C], g: &[C], h: &mut [C], keep: &mut [C]) {
    let (open, rest) = keep.split_at_mut(2 * n); // r, z
    let (new, product) = rest.split_at_mut(n);
    map2(open, x, g, |a, g| (a + g).sigmoid());
    product.copy_from_slice(&g[2 * n..]);
    let (r, z) = open.split_at(n);
    new.copy_from_slice(&x[2 * n..]);
    update3(new, [r, product, product], |a, r, g, _| (a + r * g).tanh());
    update3(h, [new, z, z], |h, new, z, _| new * (C::ONE - z) + h * z);
}

#[inline(always)]
fn gru_back<C: Real>(n: usize, h: &[C], keep: &[C], dh: &mut [C], da: &mut [C], dg: &mut [C]) {
    let ([r, z], [new, product]) = ([&keep[..n], &keep[n..2 * n]], [&keep[2 * n..3 * n], &keep[3 * n..]]);
    let (dr, rest) = da.split_at_mut(n);
    let (dz, dn) = rest.split_at_mut(n);
    map2(dz, h, new, |h, new| h - new);
    update3(dz, [dh, z, z], |apart, d, z, _| d * apart * z * (C::ONE - z));
    map2(dn, dh, z, |d, z| d * (C::ONE - z));
    update3(dn, [new, new, new], |d, new, _, _| d * (C::ONE - new * new));
    map2(dr, dn, product, |d, g| d * g);
    update3(dr, [r, r, r], |d, r, _, _| d * r * (C::ONE - r));
    dg[..n].copy_from_slice(dr);
    dg[n..2 * n].copy_from_slice(dz);
    map2(&mut dg[2 * n..], dn, r, |d, r| d * r);
    update3(dh, [z, z, z], |d, z, _, _| d * z);
}

#[inline(always)]
fn lstm<C: Real>(n: usize, x: &[C], g: &[C], h: &mut [C], c: &mut [C], keep: &mut [C]) {
    let (gates, cell) = keep.split_at_mut(4 * n);
    let (at_u, at_o) = (2 * n..3 * n, 3 * n..4 * n);
    map2(&mut gates[..2 * n], x, g, |a, g| (a + g).sigmoid()); // i, f
    map2(&mut gates[at_u.clone()], &x[at_u.clone()], &g[at_u.clone()], |a, g| (a + g).tanh());
    map2(&mut gates[at_o.clone()], &x[at_o.clone()], &g[at_o.clone()], |a, g| (a + g).sigmoid());
    update3(c, [&gates[..n], &gates[n..2 * n], &gates[at_u]], |c, i, f, u| f * c + i * u);
    cell.copy_from_slice(c);
    map2(h, &gates[at_o], cell, |o, c| o * c.tanh());
}

#[inline(always)]
fn lstm_back<C: Real>(n: usize, before: &[C], keep: &[C], dh: &mut [C], dc: &mut [C], da: &mut [C]) {
    let ([i, f], [u, o]) = ([&keep[..n], &keep[n..2 * n]], [&keep[2 * n..3 * n], &keep[3 * n..4 * n]]);
    let c = &keep[4 * n..];
    let (di, rest) = da.split_at_mut(n);
    let (df, rest) = rest.split_at_mut(n);
    let (du, d_o) = rest.split_at_mut(n);
    map2(d_o, dh, c, |d, c| d * c.tanh());
    update3(d_o, [o, o, o], |d, o, _, _| d * o * (C::ONE - o));
    update3(dc, [dh, o, c], |dc, d, o, c| {
        let t = c.tanh();
        dc + d * o * (C::ONE - t * t)
    });
    map2(di, dc, u, |d, u| d * u);
    update3(di, [i, i, i], |d, i, _, _| d * i * (C::ONE - i));
    map2(df, dc, before, |d, c| d * c);
    update3(df, [f, f, f], |d, f, _, _| d * f * (C::ONE - f));
    map2(du, dc, i, |d, i| d * i);
    update3(du, [u, u, u], |d, u, _, _| d * (C::ONE - u * u));
    update3(dc, [f, f, f], |d, f, _, _| d * f);
    dh.fill(C::ZERO);
}
