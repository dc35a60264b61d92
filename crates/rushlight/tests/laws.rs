//! Arithmetic, comparisons, reductions and scans against loops over indices, on random shapes and layouts; how integers
//! behave; dtype promotion; refusals.

mod common;

use common::*;
use rushlight::{DType, Tensor, einsum};

fn with_specials(rng: &mut Rng, t: &Tensor) -> Tensor {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][rng.below(3)];
    let here = t.to_f64_vec().unwrap().iter().map(|_| rng.chance(5)).collect::<Vec<_>>();
    t.masked_fill(&Tensor::from_vec(here, t.shape()).unwrap(), special).unwrap()
}

#[test]
fn binary_operations_broadcast() {
    type Op = (&'static str, fn(&Tensor, &Tensor) -> rushlight::Result<Tensor>, fn(f64, f64) -> f64);
    let ops: &[Op] = &[
        ("add", |a, b| a.add(b), |a, b| a + b),
        ("sub", |a, b| a.sub(b), |a, b| a - b),
        ("mul", |a, b| a.mul(b), |a, b| a * b),
        ("div", |a, b| a.div(b), |a, b| a / b),
        ("maximum", |a, b| a.maximum(b), |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }),
        ("minimum", |a, b| a.minimum(b), |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }),
        ("eq", |a, b| a.eq(b), |a, b| (a == b) as u8 as f64),
        ("ne", |a, b| a.ne(b), |a, b| (a != b) as u8 as f64),
        ("lt", |a, b| a.lt(b), |a, b| (a < b) as u8 as f64),
        ("le", |a, b| a.le(b), |a, b| (a <= b) as u8 as f64),
        ("gt", |a, b| a.gt(b), |a, b| (a > b) as u8 as f64),
        ("ge", |a, b| a.ge(b), |a, b| (a >= b) as u8 as f64),
        ("logical_and", |a, b| a.logical_and(b), |a, b| (a != 0.0 && b != 0.0) as u8 as f64),
        ("logical_or", |a, b| a.logical_or(b), |a, b| (a != 0.0 || b != 0.0) as u8 as f64),
        ("logical_xor", |a, b| a.logical_xor(b), |a, b| ((a != 0.0) != (b != 0.0)) as u8 as f64),
    ];
    let rng = &mut Rng(1);
    for round in 0..150 {
        let (sa, sb, shape) = broadcast_shapes(rng);
        let (mut a, mut b) = (tensor(rng, &sa, DType::F64), tensor(rng, &sb, DType::F64));
        if round % 2 == 0 {
            (a, b) = (with_specials(rng, &a), with_specials(rng, &b));
        }
        let (na, nb) = (Naive::of(&a), Naive::of(&b));
        for (name, op, f) in ops {
            let expected = Naive::from_fn(&shape, |i| f(na.broadcast_at(i), nb.broadcast_at(i)));
            assert_same(&op(&a, &b).unwrap(), &expected, name);
        }
        if round % 2 == 1 {
            let floor = Naive::from_fn(&shape, |i| (na.broadcast_at(i) / nb.broadcast_at(i)).floor());
            assert_same(&a.floor_divide(&b).unwrap(), &floor, "floor_divide");
        }
    }
}

/// Python's `%` on floats, as torch.remainder gives it.
#[test]
fn remainder_has_the_sign_of_the_divisor() {
    let inf = f64::INFINITY;
    let a = Tensor::new([5.5, -5.5, 5.5, -5.5, 1.0, 5.0, -5.0, 6.0, -6.0]).unwrap();
    let b = Tensor::new([2.0, 2.0, -2.0, -2.0, 0.1, inf, inf, 3.0, 3.0]).unwrap();
    let expected = [1.5, 0.5, -0.5, -1.5, 0.09999999999999995, 5.0, inf, 0.0, 0.0];
    assert_eq!(a.remainder(&b).unwrap().to_vec::<f64>().unwrap(), expected);
    let floors = [2.0, -3.0, -3.0, 2.0, 9.0, 0.0, -1.0, 2.0, -2.0];
    assert_eq!(a.floor_divide(&b).unwrap().to_vec::<f64>().unwrap(), floors);
    assert!(Tensor::new(1f32).unwrap().remainder(0.0).unwrap().item::<f32>().unwrap().is_nan());
}

#[test]
fn integers_wrap_and_divide_as_python_does() {
    let a = Tensor::new([7i64, -7, 7, -7, i64::MIN, i64::MAX, 5]).unwrap();
    let b = Tensor::new([2i64, 2, -2, -2, -1, 1, 0]).unwrap();
    let i = |t: rushlight::Result<Tensor>| t.unwrap().to_vec::<i64>().unwrap();
    assert_eq!(i(a.floor_divide(&b))[..4], [3, -4, -4, 3]);
    assert_eq!(i(a.remainder(&b)), [1, 1, -1, -1, 0, 0, 0]);
    assert_eq!(i(a.add(&b))[5], i64::MIN);
    assert_eq!(i(a.neg())[4], i64::MIN);
    assert_eq!(i(a.abs())[4], i64::MIN);
    assert_eq!(i(a.mul(2i64))[5], -2);
    let base = Tensor::new([1i64, -1, -1, 2, 3, 2]).unwrap();
    assert_eq!(i(base.pow(Tensor::new([-3i64, -3, -2, -1, 4, 70]).unwrap())), [1, -1, 1, 0, 81, 0]);
    assert_eq!(i(a.square())[5], 1);
    let u = Tensor::new([250u8, 3]).unwrap();
    let bytes = |t: rushlight::Result<Tensor>| t.unwrap().to_vec::<u8>().unwrap();
    assert_eq!(bytes(u.add(10i64)), [4, 13]);
    assert_eq!(bytes(u.sub(4i64)), [246, 255]);
    assert_eq!(bytes(u.mul(&u)), [36, 9]);
    assert_eq!(bytes(u.floor_divide(Tensor::new([7u8, 0]).unwrap())), [35, 0]);
    assert_eq!(i(u.sum(..)), [253]);
    assert_eq!(u.div(2i64).unwrap().to_vec::<f32>().unwrap(), [125.0, 1.5]);
    let t = Tensor::new([true, false, true]).unwrap();
    assert_eq!(i(t.sum(0)), [2]);
    assert_eq!(i(t.add(1i64)), [2, 1, 2]);
    assert_eq!(i(t.cumsum(0)), [1, 1, 2]);
    assert_eq!(message(t.add(&t)), "add: got dtype bool, expected numbers (cast with to_dtype)");
    // Large i64 survive casts to i64 and comparisons.
    let big = Tensor::new([i64::MAX, i64::MAX - 1]).unwrap();
    assert_eq!(i(big.max(0).map(|m| m.1)), [0]);
    assert_eq!(big.eq(i64::MAX as usize).unwrap().to_vec::<bool>().unwrap(), [true, false]);
}

/// `torch.promote_types`, and the dtype that a number takes.
#[test]
fn dtypes_are_promoted_as_in_pytorch() {
    use DType::*;
    let table = [
        [F32, F64, F32, F32, F32, F32, F32],
        [F64, F64, F64, F64, F64, F64, F64],
        [F32, F64, BF16, F32, BF16, BF16, BF16],
        [F32, F64, F32, F16, F16, F16, F16],
        [F32, F64, BF16, F16, I64, I64, I64],
        [F32, F64, BF16, F16, I64, U8, U8],
        [F32, F64, BF16, F16, I64, U8, Bool],
    ];
    for (a, row) in DType::ALL.into_iter().zip(table) {
        for (b, expected) in DType::ALL.into_iter().zip(row) {
            assert_eq!(a.promote(b), expected, "{a} with {b}");
            if expected != Bool {
                let (x, y) = (Tensor::ones(2, a).unwrap(), Tensor::ones(2, b).unwrap());
                assert_eq!(x.add(&y).unwrap().dtype(), expected);
            }
        }
        let x = Tensor::ones(2, a).unwrap();
        let number = |t: rushlight::Result<Tensor>| t.unwrap().dtype();
        assert_eq!(number(x.mul(2.0)), if a.is_float() { a } else { F32 });
        assert_eq!(number(x.mul(2i64)), if a == Bool { I64 } else { a });
        // A tensor without dims does not widen one of its kind, and does one of a lesser kind.
        assert_eq!(number(x.mul(Tensor::ones((), F64).unwrap())), if a.is_float() { a } else { F64 });
        assert_eq!(number(x.mul(Tensor::ones((), I64).unwrap())), if a == Bool { I64 } else { a });
    }
}

#[test]
fn reductions_over_any_dims() {
    let rng = &mut Rng(2);
    for round in 0..200 {
        let shape = rng.shape(5);
        let dims = rng.some_dims(shape.len());
        let t = tensor(rng, &shape, DType::F64);
        let n = Naive::of(&t);
        let reduce = |f: &dyn Fn(&[f64]) -> f64| n.reduce(&dims, f);
        let count = |v: &[f64]| v.len() as f64;
        let sum = |v: &[f64]| v.iter().sum::<f64>() + 0.0;
        let var =
            |v: &[f64]| v.iter().map(|x| (x - sum(v) / count(v)).powi(2)).sum::<f64>() / (count(v) - 1.0).max(0.0);
        let named = || dims.clone();
        assert_same(&t.sum(named()).unwrap(), &reduce(&sum), "sum");
        assert_close(&t.mean(named()).unwrap(), &reduce(&|v| sum(v) / count(v)), 1e-12, "mean");
        assert_close(&t.prod(named()).unwrap(), &reduce(&|v| v.iter().product()), 1e-12, "prod");
        assert_close(&t.var(named(), 1.0).unwrap(), &reduce(&var), 1e-12, "var");
        assert_close(&t.std(named(), 1.0).unwrap(), &reduce(&|v| var(v).sqrt()), 1e-12, "std");
        let lse = |v: &[f64]| v.iter().map(|x| x.exp()).sum::<f64>().ln();
        assert_close(&t.logsumexp(named()).unwrap(), &reduce(&lse), 1e-6, "logsumexp");
        for p in [1.0, 2.0, 3.0, 0.5] {
            let norm = |v: &[f64]| v.iter().map(|x| x.abs().powf(p)).sum::<f64>().powf(1.0 / p);
            assert_close(&t.norm(p, named()).unwrap(), &reduce(&norm), 1e-6, "norm");
        }
        assert_same(&t.any(named()).unwrap(), &reduce(&|v| v.iter().any(|x| *x != 0.0) as u8 as f64), "any");
        assert_same(&t.all(named()).unwrap(), &reduce(&|v| v.iter().all(|x| *x != 0.0) as u8 as f64), "all");
        let whole = t.to_dtype(DType::I64).unwrap();
        let ints = Naive::of(&whole);
        assert_same(&whole.sum(named()).unwrap(), &ints.reduce(&dims, sum), "sum of i64");
        assert_same(&whole.prod(named()).unwrap(), &ints.reduce(&dims, |v| v.iter().product()), "prod of i64");
        // reduce(broadcast(x)) = n · x
        let wide = t.unsqueeze(0).unwrap().expand(t.shape().inserted(0, 3)).unwrap();
        assert_same(&wide.sum(0).unwrap(), &Naive::of(&t.mul(3.0).unwrap()), "sum of a broadcast");
        if dims.iter().any(|&d| shape[d] == 0) {
            assert!(dims.is_empty() || t.amax(named()).is_err());
            continue;
        }
        let t = if round % 2 == 0 { with_specials(rng, &t) } else { t };
        let n = Naive::of(&t);
        let pick = |v: &[f64], f: fn(f64, f64) -> f64| {
            v.iter().copied().reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { f(a, b) }).unwrap_or(0.0)
        };
        assert_same(&t.amax(named()).unwrap(), &n.reduce(&dims, |v| pick(v, f64::max)), "amax");
        assert_same(&t.amin(named()).unwrap(), &n.reduce(&dims, |v| pick(v, f64::min)), "amin");
        assert_same(
            &t.norm(f64::INFINITY, named()).unwrap(),
            &n.reduce(&dims, |v| pick(&v.iter().map(|x| x.abs()).collect::<Vec<_>>(), f64::max)),
            "norm inf",
        );
        for &d in dims.iter().take(1) {
            let first = |v: &[f64], better: fn(f64, f64) -> bool| {
                (0..v.len()).fold(0, |b, i| if better(v[i], v[b]) || (v[i].is_nan() && !v[b].is_nan()) { i } else { b })
                    as f64
            };
            assert_same(&t.argmax(d).unwrap(), &n.reduce(&[d], |v| first(v, |a, b| a > b)), "argmax");
            assert_same(&t.argmin(d).unwrap(), &n.reduce(&[d], |v| first(v, |a, b| a < b)), "argmin");
            let keep = t.max_keepdim(d).unwrap();
            assert_same(&keep.0.squeeze(d).unwrap(), &n.reduce(&[d], |v| pick(v, f64::max)), "max");
        }
    }
}

/// Long rows and columns cross the kernels' chunks; the thread count changes no bit.
#[test]
fn long_reductions_and_scans() {
    let values: Vec<f64> = (0..300_000i64).map(|i| ((i * 7919) % 1013) as f64 / 8.0 - 60.0).collect();
    let t = Tensor::from_vec(values.clone(), 300_000).unwrap();
    let total: f64 = values.iter().sum();
    let run = || {
        let m = t.reshape([30, 10_000]).unwrap();
        [t.sum(0), m.sum(0), m.sum(1), t.cumsum(0), m.cumsum(0), m.cumsum(1)]
            .map(|r| r.unwrap().to_vec::<f64>().unwrap())
    };
    let many = run();
    assert_eq!(many[0], [total]);
    assert_eq!(many[1][17], (0..30).map(|r| values[r * 10_000 + 17]).sum::<f64>());
    assert_eq!(many[2][3], values[30_000..40_000].iter().sum::<f64>());
    assert_eq!(many[3][299_999], total);
    assert_eq!(many[4][29 * 10_000 + 5], (0..30).map(|r| values[r * 10_000 + 5]).sum::<f64>());
    assert_eq!(many[5][10_000], values[10_000]);
    rushlight::set_num_threads(1).unwrap();
    assert_eq!(run(), many);
    rushlight::set_num_threads(0).unwrap();
}

#[test]
fn scans_and_sorts() {
    let rng = &mut Rng(3);
    for round in 0..200 {
        let mut shape = rng.shape(4);
        shape.push(1 + rng.below(5));
        let d = rng.below(shape.len());
        let t = tensor(rng, &shape, DType::F64);
        let n = Naive::of(&t);
        let row = |n: &Naive, i: &[usize]| -> Vec<f64> {
            (0..shape[d])
                .map(|k| {
                    let mut j = i.to_vec();
                    j[d] = k;
                    n.at(&j)
                })
                .collect()
        };
        let sum = Naive::from_fn(&shape, |i| row(&n, i)[..=i[d]].iter().sum::<f64>() + 0.0);
        assert_same(&t.cumsum(d).unwrap(), &sum, "cumsum");
        let product = Naive::from_fn(&shape, |i| row(&n, i)[..=i[d]].iter().product());
        assert_same(&t.cumprod(d).unwrap(), &product, "cumprod");

        let t = if round % 2 == 0 { with_specials(rng, &t) } else { t };
        let n = Naive::of(&t);
        for descending in [false, true] {
            let order = |i: &[usize]| {
                let row = row(&n, i);
                let mut at: Vec<usize> = (0..row.len()).collect();
                // NaN is the greatest; a stable sort keeps equals (and NaNs) in order.
                let key = |a: &usize| if row[*a].is_nan() { (1, 0.0) } else { (0, row[*a]) };
                at.sort_by(|a, b| {
                    let order = key(a).partial_cmp(&key(b)).unwrap();
                    if descending { order.reverse() } else { order }
                });
                (row, at)
            };
            let (values, places) = t.sort(d, descending).unwrap();
            assert_same(&places, &Naive::from_fn(&shape, |i| order(i).1[i[d]] as f64), "argsort");
            assert_same(
                &values,
                &Naive::from_fn(&shape, |i| {
                    let (row, at) = order(i);
                    row[at[i[d]]]
                }),
                "sort",
            );
            assert_same(&t.argsort(d, descending).unwrap(), &Naive::of(&places), "argsort");
            let k = rng.below(shape[d] + 1);
            let (top, at) = t.topk(k, d, descending).unwrap();
            assert_same(&top, &Naive::of(&values.narrow(d, 0, k).unwrap()), "topk");
            assert_same(&at, &Naive::of(&places.narrow(d, 0, k).unwrap()), "topk places");
        }
    }
}

/// Σ over all letters that are not in the result, by loops.
fn naive_einsum(terms: &[&str], result: &str, operands: &[Naive]) -> Naive {
    let mut letters: Vec<char> = result.chars().collect();
    terms.iter().flat_map(|t| t.chars()).for_each(|c| {
        if !letters.contains(&c) {
            letters.push(c)
        }
    });
    let size = |c: &char| {
        let sizes = terms.iter().zip(operands).flat_map(|(t, o)| t.chars().zip(&o.shape)).filter(|(l, _)| l == c);
        let sizes: Vec<usize> = sizes.map(|(_, &s)| s).collect();
        sizes.iter().copied().find(|s| *s != 1).unwrap_or(1)
    };
    let sizes: Vec<usize> = letters.iter().map(size).collect();
    let lead = result.len();
    Naive::from_fn(&sizes[..lead], |out| {
        let value = |rest: &Vec<usize>| -> f64 {
            let index = [out, rest].concat();
            let at = |c: char| index[letters.iter().position(|l| *l == c).unwrap()];
            let factor = |(t, o): (&&str, &Naive)| o.broadcast_at(&t.chars().map(at).collect::<Vec<_>>());
            terms.iter().zip(operands).map(factor).product()
        };
        indices(&sizes[lead..]).iter().map(value).sum::<f64>() + 0.0
    })
}

#[test]
fn einsum_is_the_sum_of_products() {
    let rng = &mut Rng(4);
    for round in 0..300 {
        // Random terms over four letters, with repeats and dims of size 1.
        let sizes: Vec<usize> = (0..4).map(|_| if rng.chance(15) { 0 } else { 1 + rng.below(3) }).collect();
        let count = 1 + rng.below(3);
        let mut terms: Vec<String> = vec![];
        let mut operands = vec![];
        for _ in 0..count {
            let letters: Vec<usize> = (0..rng.below(4)).map(|_| rng.below(4)).collect();
            terms.push(letters.iter().map(|&l| (b'a' + l as u8) as char).collect());
            let one: Vec<bool> = (0..4).map(|_| rng.chance(6)).collect();
            let shape: Vec<usize> = letters.iter().map(|&l| if one[l] { 1 } else { sizes[l] }).collect();
            operands.push(tensor(rng, &shape, DType::F64));
        }
        let all: String = terms.concat();
        let mut result: Vec<char> = vec![];
        for p in rng.permutation(4) {
            let c = (b'a' + p as u8) as char;
            if all.contains(c) && rng.chance(2) {
                result.push(c);
            }
        }
        let mut result: String = result.into_iter().collect();
        let refs: Vec<&str> = terms.iter().map(String::as_str).collect();
        let mut equation = format!("{} -> {result}", refs.join(", "));
        if round % 4 == 0 {
            equation = refs.join(",");
            let mut once: Vec<char> = all.chars().filter(|c| all.matches(*c).count() == 1).collect();
            once.sort_unstable();
            result = once.into_iter().collect();
        }
        let naive: Vec<Naive> = operands.iter().map(Naive::of).collect();
        let borrowed: Vec<&Tensor> = operands.iter().collect();
        let got = einsum(&equation, &borrowed).unwrap_or_else(|e| panic!("{equation}: {e}"));
        assert_close(&got, &naive_einsum(&refs, &result, &naive), 1e-12, &equation);
    }
}

#[test]
fn einsum_with_an_ellipsis() {
    let rng = &mut Rng(5);
    let (a, b) = (tensor(rng, &[2, 1, 3, 4], DType::F64), tensor(rng, &[5, 4, 2], DType::F64));
    let product = Naive::of(&a.matmul(&b).unwrap());
    assert_close(&einsum("...ij,...jk->...ik", &[&a, &b]).unwrap(), &product, 1e-12, "batched");
    assert_close(&einsum("...ij, ...jk", &[&a, &b]).unwrap(), &product, 1e-12, "implicit");
    let back = Naive::of(&a.matmul(&b).unwrap().permute([2, 0, 1, 3]).unwrap());
    assert_close(&einsum("...ij,...jk->i...k", &[&a, &b]).unwrap(), &back, 1e-12, "moved");
    assert_close(&einsum("b...->b", &[&a]).unwrap(), &Naive::of(&a.sum([1, 2, 3]).unwrap()), 1e-12, "summed");
    assert_close(&einsum("...", &[&a]).unwrap(), &Naive::of(&a), 0.0, "all");
    let m = tensor(rng, &[3, 3], DType::F64);
    assert_close(&einsum("...ii->...", &[&m]).unwrap(), &Naive::of(&m.trace().unwrap()), 1e-12, "trace");
}

#[test]
fn dot_outer_trace() {
    let rng = &mut Rng(6);
    let (a, b) = (tensor(rng, &[4], DType::F64), tensor(rng, &[4], DType::F64));
    let (na, nb) = (Naive::of(&a), Naive::of(&b));
    let dot = (0..4).map(|i| na.data[i] * nb.data[i]).sum::<f64>();
    assert_eq!(a.dot(&b).unwrap().item::<f64>().unwrap(), dot);
    assert_same(&a.outer(&b).unwrap(), &Naive::from_fn(&[4, 4], |i| na.data[i[0]] * nb.data[i[1]]), "outer");
    assert_eq!(a.outer(&b).unwrap().trace().unwrap().item::<f64>().unwrap(), dot);
}

#[test]
fn bad_arguments_are_errors_that_say_what_is_wrong() {
    let z = |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap();
    let (t, e, v) = (z(&[2, 3]), z(&[0, 3]), z(&[3]));
    let label = Tensor::zeros([2, 3], DType::I64).unwrap();
    for (text, expected) in [
        (message(t.add(z(&[2, 4]))), "add: lhs [2, 3] and rhs [2, 4] cannot broadcast at dim 1 (3 vs 4)"),
        (message(t.eq(z(&[5, 1, 2]))), "eq: lhs [2, 3] and rhs [5, 1, 2] cannot broadcast at dim 2 (3 vs 2)"),
        (message(t.sum(2)), "sum: dim 2 is out of range for shape [2, 3] of rank 2"),
        (message(t.mean([0, -2])), "mean: a dim is named twice in [0, 0] for shape [2, 3]"),
        (message(label.mean(0)), "mean: got dtype i64, expected a float dtype (cast with to_dtype)"),
        (message(e.max(0)), "max: dim 0 of shape [0, 3] is empty: there is no largest or smallest"),
        (message(t.argmax(-3)), "argmax: dim -3 is out of range for shape [2, 3] of rank 2"),
        (message(t.cumsum(2)), "cumsum: dim 2 is out of range for shape [2, 3] of rank 2"),
        (message(t.sort(-3, true)), "sort: dim -3 is out of range for shape [2, 3] of rank 2"),
        (message(t.dot(&v)), "dot: expected a tensor of 1 dims, got shape [2, 3]"),
        (message(v.dot(&z(&[2]))), "dot: vectors of 3 and 2 elements"),
        (message(t.matmul(&t)), "matmul: lhs [2, 3] and rhs [2, 3] differ in the inner size (3 vs 2)"),
        (message(label.requires_grad()), "requires_grad: got dtype i64, only float tensors have gradients"),
        (message(einsum("ij,jk", &[&t])), "einsum: `ij,jk` has 2 terms for 1 operands"),
        (message(einsum("i1", &[&t])), "einsum: '1' is neither a letter nor part of `...` at position 1 of `i1`"),
        (message(einsum("ij->ik", &[&t])), "einsum: no operand has the result's letter 'k' at position 5 of `ij->ik`"),
        (message(einsum("ij->ii", &[&t])), "einsum: the result names 'i' twice at position 5 of `ij->ii`"),
        (
            message(einsum("ijk", &[&t])),
            "einsum: operand 0 of shape [2, 3] has 2 dims, its term names 3 at position 0 of `ijk`",
        ),
        (
            message(einsum("i,...ijk", &[&v, &t])),
            "einsum: operand 1 of shape [2, 3] has 2 dims, its term names at least 3 at position 2 of `i,...ijk`",
        ),
        (message(einsum("ij,jk", &[&t, &t])), "einsum: letter 'j' has size 3 before and 2 in operand 1 of `ij,jk`"),
        (message(einsum("ii", &[&t])), "einsum: operand 0 of shape [2, 3] has sizes 2 and 3 for one letter in `ii`"),
        (message(einsum("...i...", &[&t])), "einsum: a second ellipsis at position 4 of `...i...`"),
        (message(einsum("ij->é", &[&t])), "einsum: 'é' is neither a letter nor part of `...` at position 4 of `ij->é`"),
        (message(einsum("", &[])), "einsum: `` has 1 terms for 0 operands"),
    ] {
        assert_eq!(text, expected);
    }
}

/// A mean is within the range of what it is the mean of, whatever their sum is.
#[test]
fn statistics_of_halves_do_not_overflow() -> rushlight::Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        let signs = Tensor::arange(0.0, 3000.0, 1.0, DType::F32)?.remainder(2.0)?.mul(2.0)?.sub(1.0)?;
        let x = signs.to_dtype(dtype)?.mul(300.0)?.reshape([3, 10, 100])?.requires_grad()?;
        for (name, y, expected) in [
            ("mean", x.abs()?.mean(..)?, 300.0),
            ("mean of outer dims", x.abs()?.mean([0, 2])?.select(0, 3)?, 300.0),
            ("sum", x.sum([0, 2])?.select(0, 3)?, 0.0),
            ("std", x.std(.., 0.0)?, 300.0),
            ("norm", x.norm(2.0, ..)?, 300.0 * 3000f64.sqrt()),
        ] {
            let found = y.detach().to_dtype(DType::F64)?.item::<f64>()?;
            assert!((found - expected).abs() <= 4e-3 * expected, "{name} of {dtype}: {found}, not {expected}");
            let dx = y.backward()?.get(&x).unwrap().to_dtype(DType::F64)?;
            assert!(dx.to_vec::<f64>()?.iter().all(|d| d.is_finite()), "{name} of {dtype}");
        }
    }
    Ok(())
}
