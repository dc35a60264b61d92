//! Views against index arithmetic: chains of views keep the values, and each view's gradient is its adjoint.

mod common;

use common::*;
use rushlight::{DType, Result, Tensor, gradcheck, gradgradcheck};

/// One random view of both.
fn step(rng: &mut Rng, t: &Tensor, n: &Naive) -> (Tensor, Naive, &'static str) {
    let rank = t.rank();
    let kind = rng.below(12);
    if rank == 0 {
        return (t.unsqueeze(0).unwrap(), Naive { shape: vec![1], data: n.data.clone() }, "unsqueeze");
    }
    let d = rng.below(rank);
    let size = n.shape[d];
    let with = |size: usize| {
        let mut s = n.shape.clone();
        s[d] = size;
        s
    };
    let moved = |i: &[usize], to: usize| {
        let mut i = i.to_vec();
        i[d] = to;
        n.at(&i)
    };
    match kind {
        0 => {
            let p = rng.permutation(rank);
            let shape: Vec<usize> = p.iter().map(|&d| n.shape[d]).collect();
            let out = Naive::from_fn(&shape, |i| {
                let mut own = vec![0; rank];
                p.iter().zip(i).for_each(|(&d, &i)| own[d] = i);
                n.at(&own)
            });
            (t.permute(&p).unwrap(), out, "permute")
        }
        1 => {
            let start = rng.below(size + 1);
            let length = rng.below(size - start + 1);
            let out = Naive::from_fn(&with(length), |i| moved(i, i[d] + start));
            (t.narrow(d, start, length).unwrap(), out, "narrow")
        }
        2 => {
            // As Python: walk from the wrapped start while the end is not reached.
            let (start, end) = (rng.below(13) as i64 - 6, rng.below(13) as i64 - 6);
            let step = [1, 2, 3, -1, -2][rng.below(5)];
            let s = size as i64;
            let wrap = |i: i64, low: i64, high: i64| (if i < 0 { i + s } else { i }).clamp(low, high);
            let (low, high) = if step > 0 { (0, s) } else { (-1, s - 1) };
            let (mut at, last, mut places) = (wrap(start, low, high), wrap(end, low, high), vec![]);
            while if step > 0 { at < last } else { at > last } {
                places.push(at as usize);
                at += step;
            }
            let out = Naive::from_fn(&with(places.len()), |i| moved(i, places[i[d]]));
            (t.slice_step(d, start, end, step).unwrap(), out, "slice_step")
        }
        3 => {
            let out = Naive::from_fn(&n.shape, |i| moved(i, size - 1 - i[d]));
            (t.flip(d as i64 - rank as i64).unwrap(), out, "flip")
        }
        4 if size == 1 => {
            let out = Naive::from_fn(&with(3), |i| moved(i, 0));
            (t.expand(t.shape().with(d, 3)).unwrap(), out, "expand")
        }
        5 if size > 0 => {
            let at = rng.below(size);
            let mut shape = n.shape.clone();
            shape.remove(d);
            let out = Naive::from_fn(&shape, |i| n.at(&[&i[..d], &[at], &i[d..]].concat()));
            let index = if rng.chance(2) { at as i64 } else { at as i64 - size as i64 };
            (t.select(d, index).unwrap(), out, "select")
        }
        6 => {
            let at = rng.below(rank + 1);
            let mut shape = n.shape.clone();
            shape.insert(at, 1);
            (t.unsqueeze(at).unwrap(), Naive { shape, data: n.data.clone() }, "unsqueeze")
        }
        7 => {
            let shape: Vec<usize> = n.shape.iter().copied().filter(|&s| s != 1).collect();
            (t.squeeze(..).unwrap(), Naive { shape, data: n.data.clone() }, "squeeze")
        }
        8 => {
            let end = d + rng.below(rank - d);
            let merged = n.shape[d..=end].iter().product();
            let shape = [&n.shape[..d], &[merged], &n.shape[end + 1..]].concat();
            (t.flatten(d, end).unwrap(), Naive { shape, data: n.data.clone() }, "flatten")
        }
        9 if rank > 1 => {
            let e = (d + 1 + rng.below(rank - 1)) % rank;
            let offset = rng.below(7) as i64 - 3;
            let (a0, b0) = ((-offset).max(0) as usize, offset.max(0) as usize);
            let length = n.shape[d].saturating_sub(a0).min(n.shape[e].saturating_sub(b0));
            let rest: Vec<usize> = (0..rank).filter(|k| *k != d && *k != e).collect();
            let shape: Vec<usize> = rest.iter().map(|&k| n.shape[k]).chain([length]).collect();
            let out = Naive::from_fn(&shape, |i| {
                let mut own = vec![0; rank];
                rest.iter().zip(i).for_each(|(&k, &i)| own[k] = i);
                (own[d], own[e]) = (i[rank - 2] + a0, i[rank - 2] + b0);
                n.at(&own)
            });
            (t.diagonal(offset, d, e).unwrap(), out, "diagonal")
        }
        10 if n.shape[rank - 1] > 1 && rank < 6 => {
            let (stride, last) = (1 + rng.below(2), n.shape[rank - 1]);
            let kernel = 1 + rng.below(last.min(3));
            let dilation = if (kernel - 1) * 2 < last { 1 + rng.below(2) } else { 1 };
            let count = (last - (kernel - 1) * dilation - 1) / stride + 1;
            let shape = [&n.shape[..rank - 1], &[count, kernel]].concat();
            let out = Naive::from_fn(&shape, |i| {
                n.at(&[&i[..rank - 1], &[i[rank - 1] * stride + i[rank] * dilation]].concat())
            });
            (t.windows([kernel], [stride], [dilation]).unwrap(), out, "windows")
        }
        _ => (
            t.reshape(-1 + (n.data.is_empty() as i64)).unwrap(),
            Naive { shape: vec![n.data.len()], data: n.data.clone() },
            "reshape",
        ),
    }
}

#[test]
fn chains_of_views_keep_the_values() {
    let rng = &mut Rng(1);
    for round in 0..600 {
        let shape = rng.shape(4);
        let mut t = Tensor::arange(0.0, shape.iter().product::<usize>() as f64, 1.0, DType::F32).unwrap();
        t = t.reshape(shape).unwrap();
        let mut n = Naive::of(&t);
        let mut names = vec![];
        for _ in 0..1 + rng.below(7) {
            let (t2, n2, name) = step(rng, &t, &n);
            names.push(name);
            assert_same(&t2, &n2, &format!("round {round}: {names:?}"));
            (t, n) = (t2, n2);
        }
        assert!(t.shape().numel() == 0 || names.len() < 2 || t.dims() == n.shape);
        // A cast, a copy and an elementwise operation read the same values through the layout.
        assert_same(&t.to_dtype(DType::I64).unwrap(), &n, "cast");
        assert_same(&t.contiguous().unwrap(), &n, "contiguous");
        assert!(t.contiguous().unwrap().is_contiguous());
        let doubled = Naive { shape: n.shape.clone(), data: n.data.iter().map(|v| v * 2.0).collect() };
        assert_same(&t.add(&t).unwrap(), &doubled, "add");
    }
}

#[test]
fn views_share_storage_and_reshape_copies_only_where_it_must() {
    let t = Tensor::arange(0.0, 24.0, 1.0, DType::F32).unwrap().reshape([2, 3, 4]).unwrap();
    for v in [
        t.permute([2, 0, 1]),
        t.narrow(1, 1, 2),
        t.flip(..),
        t.slice_step(2, 0, 4, 3),
        t.windows([2, 2], [1, 1], [1, 1]),
        t.diagonal(1, 0, 2),
        t.unflatten(2, [2, 2]),
        t.t().and_then(|t| t.view([2, 2, 2, 3])),
    ] {
        assert!(v.unwrap().shares_storage(&t));
    }
    assert!(!t.t().unwrap().reshape(24).unwrap().shares_storage(&t));
    let text = message(t.t().unwrap().view(24));
    assert_eq!(
        text,
        "view: shape [2, 4, 3] with strides [12, 1, 4] cannot be viewed as [24] without a copy; use reshape"
    );
}

/// Reshape agrees with a copy for random layouts and random target shapes.
#[test]
fn reshape_of_any_layout_keeps_the_order() {
    let rng = &mut Rng(2);
    for _ in 0..400 {
        let shape = rng.shape(4);
        let t = tensor(rng, &shape, DType::F64);
        let mut parts: Vec<usize> =
            shape.iter().flat_map(|&d| if d == 4 && rng.chance(2) { vec![2, 2] } else { vec![d] }).collect();
        if rng.chance(2) {
            parts = rng.permutation(parts.len()).iter().map(|&i| parts[i]).collect();
        }
        if parts.len() > 1 && rng.chance(2) {
            let last = parts.pop().unwrap_or(1);
            *parts.last_mut().unwrap() *= last;
        }
        if rng.chance(3) {
            parts.insert(0, 1);
        }
        let expected = Naive { shape: parts.clone(), data: t.to_f64_vec().unwrap() };
        assert_same(&t.reshape(parts).unwrap(), &expected, "reshape");
    }
}

type View = (&'static str, fn(&Tensor) -> Result<Tensor>);

#[test]
fn every_view_has_first_and_second_gradients() {
    // Of [2, 3, 4].
    let views: &[View] = &[
        ("reshape", |x| x.reshape([4, -1])),
        ("view", |x| x.contiguous()?.view([6, 4])),
        ("contiguous", |x| x.t()?.contiguous()),
        ("permute", |x| x.permute([2, 0, 1])),
        ("transpose", |x| x.transpose(0, -1)),
        ("expand", |x| x.narrow(1, 0, 1)?.expand([3, 2, 5, -1])),
        ("narrow", |x| x.narrow(2, 1, 2)),
        ("narrow to nothing", |x| x.narrow(2, 4, 0)?.sum(..)),
        ("slice", |x| x.slice_step(2, 0, 4, 3)),
        ("slice back", |x| x.slice_step(1, -1, -9, -2)),
        ("select", |x| x.select(1, -1)),
        ("flip", |x| x.flip([0, 2])),
        ("diagonal", |x| x.diagonal(1, 2, 1)),
        ("diagonal below", |x| x.diagonal(-1, 1, 2)),
        ("windows", |x| x.windows([2, 2], [1, 2], [1, 1])),
        ("windows dilated", |x| x.windows([3], [1], [1])),
        ("unsqueeze", |x| x.unsqueeze(-1)),
        ("squeeze", |x| x.narrow(0, 0, 1)?.squeeze(0)),
        ("flatten", |x| x.flatten(0, 1)),
        ("unflatten", |x| x.unflatten(2, [2, -1])),
    ];
    let rng = &mut Rng(3);
    for (name, f) in views {
        for _ in 0..2 {
            let x = smooth(rng, &[2, 3, 4], -2.0, 2.0);
            gradcheck(|x| f(&x[0]), std::slice::from_ref(&x), Default::default())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let curved = |x: &[Tensor]| f(&x[0])?.powi(3);
            gradgradcheck(curved, &[x], Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn bad_arguments_are_errors_that_say_what_is_wrong() {
    let t = Tensor::zeros([2, 3], DType::F32).unwrap();
    for (text, expected) in [
        (message(t.narrow(2, 0, 1)), "narrow: dim 2 is out of range for shape [2, 3] of rank 2"),
        (message(t.transpose(0, -3)), "transpose: dim -3 is out of range for shape [2, 3] of rank 2"),
        (message(t.narrow(1, 2, 2)), "narrow: 2 places from 2 on reach outside dim 1 of size 3"),
        (
            message(t.narrow(1, usize::MAX, 2)),
            "narrow: 2 places from 18446744073709551615 on reach outside dim 1 of size 3",
        ),
        (message(t.slice_step(1, 0, 3, 0)), "slice: the step is 0"),
        (message(t.select(1, 3)), "select: index 3 is out of range for dim 1 of size 3"),
        (message(t.select(1, -4)), "select: index -4 is out of range for dim 1 of size 3"),
        (message(t.select(1, i64::MIN)), "select: index -9223372036854775808 is out of range for dim 1 of size 3"),
        (message(t.reshape([4, -1])), "reshape: cannot infer the size at -1: 6 elements over 4 for the other dims"),
        (message(t.reshape([-1, -1])), "reshape: only one size can be -1"),
        (message(t.reshape([7])), "reshape: shape [7] has 7 elements, the tensor has 6"),
        (message(t.reshape([-2, 3])), "reshape: size -2 in shape [-2, 3] is negative"),
        (message(t.permute([0, 0])), "permute: order [0, 0] does not name each dim of shape [2, 3] once"),
        (message(t.permute([0])), "permute: order [0] does not name each dim of shape [2, 3] once"),
        (message(t.permute([0, 1, 0])), "permute: order [0, 1, 0] does not name each dim of shape [2, 3] once"),
        (message(t.expand([2, 4])), "expand: lhs [2, 3] and rhs [2, 4] cannot broadcast at dim 1 (3 vs 4)"),
        (message(t.expand([3])), "expand: shape [2, 3] has more dims than the target [3]"),
        (message(t.flip([0, 0])), "flip: a dim is named twice in [0, 0] for shape [2, 3]"),
        (message(t.diagonal(0, 1, -1)), "diagonal: both dims are 1"),
        (message(t.flatten(1, 0)), "flatten: start dim 1 is behind end dim 0"),
        (message(t.windows([4], [1], [1])), "windows: a window of 4 elements spaced 1 does not fit in dim 1 of size 3"),
        (message(t.windows([1, 1, 1], [1; 3], [1; 3])), "windows: 3 window dims on shape [2, 3]"),
        (message(t.windows([2], [0], [1])), "windows: kernel, stride and dilation must be at least 1"),
        (
            message(t.view([1usize << 40, 1 << 40])),
            "view: shape [1099511627776, 1099511627776] has more elements than memory can address",
        ),
        (
            message(Tensor::zeros([1usize << 40, 1 << 40], DType::F32)),
            "full: shape [1099511627776, 1099511627776] has more elements than memory can address",
        ),
        (
            message(Tensor::new(1f32).unwrap().expand([1usize << 40, 1 << 40])),
            "expand: shape [1099511627776, 1099511627776] has more elements than memory can address",
        ),
        (message(t.unsqueeze(4)), "unsqueeze: dim 4 is out of range for shape [2, 3] of rank 2"),
    ] {
        assert_eq!(text, expected);
    }
    // Extreme but valid.
    assert_eq!(t.diagonal(i64::MIN, 0, 1).unwrap().dims(), [0]);
    assert_eq!(t.diagonal(i64::MAX, 0, 1).unwrap().dims(), [0]);
    assert_eq!(t.slice_step(1, i64::MIN, i64::MAX, i64::MAX).unwrap().dims(), [2, 1]);
    assert_eq!(t.slice_step(1, i64::MAX, i64::MIN, i64::MIN).unwrap().dims(), [2, 1]);
    assert_eq!(t.windows([1], [usize::MAX], [1]).unwrap().dims(), [2, 1, 1]);
    let huge = Tensor::new(1f32).unwrap().expand([1usize << 55]).unwrap();
    assert!(message(huge.contiguous()).contains("cannot allocate"));
}

/// Views can have more places than memory: what would list them is refused.
#[test]
fn more_places_than_memory() {
    let many = 1usize << 45;
    let huge = Tensor::new(true).unwrap().expand([many]).unwrap();
    let none = Tensor::zeros([many, 0, 1], DType::F32).unwrap();
    for refused in [
        message(huge.to_vec::<bool>()),
        message(Tensor::new(1i64).unwrap().expand([many]).unwrap().to_vec::<i64>()),
        message(huge.to_f64_vec()),
        message(huge.unbind(0)),
        message(huge.split(1, 0)),
        message(none.unbind(0)),
        message(huge.nonzero()),
        message(Tensor::new([1f32]).unwrap().masked_select(&huge)),
    ] {
        assert!(refused.contains("cannot allocate"), "{refused}");
    }
    assert_eq!(none.matmul(&none.transpose(1, 2).unwrap()).unwrap().dims(), [many, 0, 0]);
}

/// Strides that no element is reached by may be any number.
#[test]
fn strides_that_are_never_taken() {
    let t = Tensor::arange(0.0, 6.0, 1.0, DType::F64).unwrap();
    let far = isize::MAX / 2 + 1;
    let empty = t.as_strided([1usize << 32, 0], &[far, far], usize::MAX).unwrap();
    assert_eq!(empty.flip(0).unwrap().to_f64_vec().unwrap(), [0.0; 0]);
    let one = t.as_strided([1, 1, 2], &[far, far, 1], 3).unwrap();
    let diagonal = one.diagonal(0, 0, 1).unwrap().flip(1).unwrap();
    assert_eq!(diagonal.to_f64_vec().unwrap(), [3.0, 4.0]);
    assert!(t.as_strided([2, 1], &[far, 1], 0).is_err());
}
