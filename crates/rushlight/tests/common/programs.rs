//! Programs of tensor operations, run beside numbers that know their derivatives.
//!
//! The reference has no tensors and no graph: each element is a number with its derivative by every element of the
//! inputs (forward mode), views move such numbers, and operations follow the chain rule one number at a time.

use super::common::{Naive, Rng, assert_close, indices, smooth};
use rushlight::{Result, Tensor};

/// A number and its derivatives.
#[derive(Clone, Debug)]
struct Dual(f64, Vec<f64>);

impl Dual {
    /// `f(x)`, where its slope is `slope`.
    fn chain(&self, value: f64, slope: f64) -> Dual {
        Dual(value, self.1.iter().map(|d| d * slope).collect())
    }

    fn exp(&self) -> Dual {
        self.chain(self.0.exp(), self.0.exp())
    }

    fn recip(&self) -> Dual {
        self.chain(1.0 / self.0, -1.0 / (self.0 * self.0))
    }
}

impl std::ops::Add for &Dual {
    type Output = Dual;
    fn add(self, other: &Dual) -> Dual {
        Dual(self.0 + other.0, self.1.iter().zip(&other.1).map(|(a, b)| a + b).collect())
    }
}

impl std::ops::Mul for &Dual {
    type Output = Dual;
    #[allow(clippy::suspicious_arithmetic_impl)] // the rule of products is a sum
    fn mul(self, other: &Dual) -> Dual {
        Dual(self.0 * other.0, self.1.iter().zip(&other.1).map(|(a, b)| a * other.0 + self.0 * b).collect())
    }
}

/// Shape and elements in row-major order.
#[derive(Clone, Debug)]
struct Duals {
    shape: Vec<usize>,
    data: Vec<Dual>,
}

impl Duals {
    fn from_fn(shape: Vec<usize>, f: impl FnMut(&Vec<usize>) -> Dual) -> Duals {
        let data = indices(&shape).iter().map(f).collect();
        Duals { shape, data }
    }

    /// The element at `index`; where a dim has size 1, the only one.
    fn at(&self, index: &[usize]) -> &Dual {
        let lead = index.len() - self.shape.len();
        let place = index[lead..].iter().zip(&self.shape).fold(0, |p, (&i, &d)| p * d + if d == 1 { 0 } else { i });
        &self.data[place]
    }

    fn map(&self, f: impl Fn(&Dual) -> Dual) -> Duals {
        Duals { shape: self.shape.clone(), data: self.data.iter().map(f).collect() }
    }

    /// The elements along `dim`, of which `index` names one.
    fn line(&self, dim: usize, index: &[usize]) -> Vec<&Dual> {
        let place = |k| index.iter().enumerate().map(|(d, &i)| if d == dim { k } else { i }).collect::<Vec<_>>();
        (0..self.shape[dim]).map(|k| self.at(&place(k))).collect()
    }

    /// Each line along `dim` to one number.
    fn reduce(&self, dim: usize, f: impl Fn(&[&Dual]) -> Dual) -> Duals {
        let mut shape = self.shape.clone();
        shape.remove(dim);
        Duals::from_fn(shape, |i| {
            let mut whole = i.clone();
            whole.insert(dim, 0);
            f(&self.line(dim, &whole))
        })
    }

    /// A view: where each of its elements comes from.
    fn view(&self, shape: Vec<usize>, from: impl Fn(&[usize]) -> Vec<usize>) -> Duals {
        Duals::from_fn(shape, |i| self.at(&from(i)).clone())
    }
}

fn total(line: &[&Dual]) -> Dual {
    line[1..].iter().fold(line[0].clone(), |a, b| &a + b)
}

fn first_largest(line: &[&Dual]) -> Dual {
    line[1..].iter().fold(line[0], |most, x| if x.0 > most.0 { x } else { most }).clone()
}

fn exps(line: &[&Dual]) -> (f64, Vec<Dual>) {
    let most = line.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.0));
    (most, line.iter().map(|x| x.chain(x.0 - most, 1.0).exp()).collect())
}

/// The larger shape of two that broadcast.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |s: &[usize], d: usize| (d + s.len()).checked_sub(rank).map_or(1, |d| s[d]);
    (0..rank)
        .map(|d| match (size(a, d), size(b, d)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}

pub const OPERATIONS: u8 = 26;

/// An operation, which two of the values so far, a dim and a number.
pub type Step = (u8, usize, usize, usize, usize);

/// [`check`] of a program that is spelled as bytes: eight of a seed, then five a step.
pub fn check_bytes(bytes: &[u8]) {
    let Some((seed, steps)) = bytes.split_first_chunk::<8>() else { return };
    let step = |s: &[u8; 5]| (s[0] % OPERATIONS, s[1].into(), s[2].into(), s[3].into(), s[4].into());
    let program: Vec<Step> = steps.as_chunks::<5>().0.iter().take(24).map(step).collect();
    check(u64::from_le_bytes(*seed), &program);
}

/// One step: an operation, which two of the values so far, a dim and a number. `None` where it does not fit.
fn step(op: u8, x: (&Tensor, &Duals), y: (&Tensor, &Duals), dim: usize, n: usize) -> Option<(Result<Tensor>, Duals)> {
    let ((t, a), (u, b)) = (x, y);
    let rank = a.shape.len();
    let unary = |t, f: fn(&Dual) -> Dual| Some((t, a.map(f)));
    let binary = |r: Result<Tensor>, f: fn(&Dual, &Dual) -> Dual| {
        let shape = broadcast(&a.shape, &b.shape)?;
        Some((r, Duals::from_fn(shape, |i| f(a.at(i), b.at(i)))))
    };
    match op {
        0 => {
            return unary(t.sigmoid(), |x| {
                x.chain(1.0 / (1.0 + (-x.0).exp()), {
                    let s = 1.0 / (1.0 + (-x.0).exp());
                    s * (1.0 - s)
                })
            });
        }
        1 => return unary(t.tanh(), |x| x.chain(x.0.tanh(), 1.0 - x.0.tanh() * x.0.tanh())),
        2 => return unary(t.relu(), |x| x.chain(x.0.max(0.0), if x.0 > 0.0 { 1.0 } else { 0.0 })),
        3 => return unary(t.square(), |x| x * x),
        4 => return unary(t.sin(), |x| x.chain(x.0.sin(), x.0.cos())),
        5 => return unary(t.neg(), |x| x.chain(-x.0, -1.0)),
        6 => {
            return unary(t.tanh().and_then(|t| t.exp()), |x| x.chain(x.0.tanh(), 1.0 - x.0.tanh() * x.0.tanh()).exp());
        }
        7 => return binary(t.add(u), |x, y| x + y),
        8 => return binary(t.sub(u), |x, y| x + &y.chain(-y.0, -1.0)),
        9 => return binary(t.mul(u), |x, y| x * y),
        10 => {
            return binary(u.square().and_then(|u| u.add(1.0)).and_then(|u| t.div(&u)), |x, y| {
                let square = y * y;
                x * &square.chain(square.0 + 1.0, 1.0).recip()
            });
        }
        11 => {
            let mut shape = a.shape.clone();
            shape.insert(dim % (rank + 1), 1);
            return Some((t.unsqueeze(dim % (rank + 1)), Duals { shape, data: a.data.clone() }));
        }
        _ if rank == 0 => return None,
        _ => {}
    }
    let (dim, other) = (dim % rank, (dim + 1) % rank);
    let size = a.shape[dim];
    let resized = |n: usize| {
        let mut shape = a.shape.clone();
        shape[dim] = n;
        shape
    };
    let moved = |i: &[usize], k: usize| {
        let mut i = i.to_vec();
        i[dim] = k;
        i
    };
    Some(match op {
        12 => {
            let mut shape = a.shape.clone();
            shape.swap(dim, other);
            let swapped = a.view(shape, |i| {
                let mut i = i.to_vec();
                i.swap(dim, other);
                i
            });
            (t.transpose(dim, other), swapped)
        }
        13 => (t.flip(dim), a.view(a.shape.clone(), |i| moved(i, size - 1 - i[dim]))),
        14 => {
            let start = n % size;
            (t.narrow(dim, start, size - start), a.view(resized(size - start), |i| moved(i, start + i[dim])))
        }
        15 => (t.slice_step(dim, 0, i64::MAX, 2), a.view(resized(size.div_ceil(2)), |i| moved(i, 2 * i[dim]))),
        16 => {
            let chosen = a.reduce(dim, |line| line[n % size].clone());
            (t.select(dim, (n % size) as i64 - if n.is_multiple_of(2) { 0 } else { size as i64 }), chosen)
        }
        17 if size == 1 => (t.expand(resized(n % 3 + 1)), a.view(resized(n % 3 + 1), |i| moved(i, 0))),
        18 if rank >= 2 => {
            let n = a.shape[0].min(a.shape[1]);
            let shape = [&a.shape[2..], &[n]].concat();
            let from = |i: &[usize]| [&[i[i.len() - 1]; 2], &i[..i.len() - 1]].concat();
            (t.diagonal(0, 0, 1), a.view(shape, from))
        }
        19 => (t.sum(dim), a.reduce(dim, total)),
        20 => (
            t.mean(dim),
            a.reduce(dim, |line| total(line).chain(total(line).0 / line.len() as f64, 1.0 / line.len() as f64)),
        ),
        21 => (t.max(dim).map(|m| m.0), a.reduce(dim, first_largest)),
        22 => {
            let out = Duals::from_fn(a.shape.clone(), |i| {
                let (_, all) = exps(&a.line(dim, i));
                &all[i[dim]] * &total(&all.iter().collect::<Vec<_>>()).recip()
            });
            (t.softmax(dim), out)
        }
        23 => {
            let out = a.reduce(dim, |line| {
                let (most, all) = exps(line);
                let sum = total(&all.iter().collect::<Vec<_>>());
                sum.chain(most + sum.0.ln(), 1.0 / sum.0)
            });
            (t.logsumexp(dim), out)
        }
        24 => (t.cumsum(dim), Duals::from_fn(a.shape.clone(), |i| total(&a.line(dim, i)[..=i[dim]]))),
        25 if rank == 2 => {
            // With its transpose, which is a view of the same elements.
            let out = Duals::from_fn(vec![a.shape[0]; 2], |i| {
                let products: Vec<Dual> = (0..a.shape[1]).map(|k| a.at(&[i[0], k]) * a.at(&[i[1], k])).collect();
                total(&products.iter().collect::<Vec<_>>())
            });
            (t.t().and_then(|u| t.matmul(&u)), out)
        }
        _ => return None,
    })
}

/// Runs a program from random leaves; panics where values or gradients differ.
pub fn check(seed: u64, program: &[Step]) {
    let rng = &mut Rng(seed);
    let shapes: Vec<Vec<usize>> = (0..2).map(|_| (0..1 + rng.below(3)).map(|_| 1 + rng.below(3)).collect()).collect();
    let leaves: Vec<Tensor> = shapes.iter().map(|s| smooth(rng, s, -2.0, 2.0).requires_grad().unwrap()).collect();
    let inputs: usize = leaves.iter().map(Tensor::numel).sum();
    let mut values: Vec<(Tensor, Duals)> = vec![];
    let mut first = 0;
    for leaf in &leaves {
        let one = |(k, v): (usize, f64)| Dual(v, (0..inputs).map(|i| if i == first + k { 1.0 } else { 0.0 }).collect());
        let data = leaf.to_f64_vec().unwrap().into_iter().enumerate().map(one).collect();
        values.push((leaf.clone(), Duals { shape: leaf.dims().to_vec(), data }));
        first += leaf.numel();
    }
    for &(op, x, y, dim, n) in program {
        // Mostly the newest, so that programs are deep.
        let pick = |k: usize| values.len() - 1 - (k % 4).min(values.len() - 1);
        let (x, y) = (&values[pick(x)], &values[pick(y)]);
        let Some((t, d)) = step(op, (&x.0, &x.1), (&y.0, &y.1), dim, n) else { continue };
        let t = t.unwrap_or_else(|e| panic!("operation {op} on {:?} and {:?}: {e}", x.1.shape, y.1.shape));
        let tame = d.data.len() <= 64 && d.shape.len() <= 5 && d.data.iter().all(|x| x.0.abs() < 1e4);
        if tame {
            assert_close(
                &t,
                &Naive { shape: d.shape.clone(), data: d.data.iter().map(|x| x.0).collect() },
                1e-9,
                &format!("operation {op}"),
            );
            values.push((t, d));
        }
    }
    // Every value counts, each element with a weight of its own.
    let (mut loss, mut slopes) = (Tensor::new(0.0f64).unwrap(), vec![0.0; inputs]);
    for (t, d) in &values {
        let weights: Vec<f64> = d.data.iter().map(|_| rng.below(1000) as f64 / 1000.0 - 0.5).collect();
        let weighted = t.mul(Tensor::from_vec(weights.clone(), d.shape.clone()).unwrap()).unwrap();
        loss = loss.add(weighted.sum(..).unwrap()).unwrap();
        for (w, x) in weights.iter().zip(&d.data) {
            slopes.iter_mut().zip(&x.1).for_each(|(s, d)| *s += w * d);
        }
    }
    let grads = loss.backward().unwrap();
    let most = slopes.iter().fold(1.0f64, |m, s| m.max(s.abs()));
    let mut slopes = slopes.into_iter();
    for leaf in &leaves {
        for got in grads.get(leaf).unwrap().to_f64_vec().unwrap() {
            let want = slopes.next().unwrap();
            assert!((got - want).abs() <= 1e-9 * most, "the gradient is {got}, expected {want}");
        }
    }
}
