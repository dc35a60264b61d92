//! Indexing and joining against index loops: values, gradients, refusals.

mod common;

use common::*;
use rushlight::{DType, Result, Tensor, gradcheck, gradgradcheck};

/// i64 indices of `shape` below `n`, some counted from the end.
fn places(rng: &mut Rng, shape: &[usize], n: usize) -> (Tensor, Naive) {
    let naive = Naive::from_fn(shape, |_| rng.below(n) as f64);
    let signed = naive.data.iter().map(|&i| if rng.chance(4) { i as i64 - n as i64 } else { i as i64 }).collect();
    (Tensor::from_vec::<i64>(signed, shape).unwrap(), naive)
}

fn moved(index: &[usize], dim: usize, to: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[dim] = to;
    index
}

fn sized(shape: &[usize], dim: usize, to: usize) -> Vec<usize> {
    moved(shape, dim, to)
}

/// A tensor with at least one dim, its values, and one of its dims.
fn subject(rng: &mut Rng) -> (Tensor, Naive, usize) {
    let mut shape = rng.shape(4);
    if shape.is_empty() {
        shape.push(3);
    }
    let dtype = [DType::F32, DType::F64, DType::I64, DType::BF16][rng.below(4)];
    let t = tensor(rng, &shape, dtype);
    let (n, dim) = (Naive::of(&t), rng.below(shape.len()));
    (t, n, dim)
}

#[test]
fn reading_at_indices() {
    let rng = &mut Rng(1);
    for _ in 0..200 {
        let (t, n, d) = subject(rng);
        let m = if n.shape[d] == 0 { 0 } else { rng.below(6) };
        let (index, at) = places(rng, &[m], n.shape[d]);
        let expected = Naive::from_fn(&sized(&n.shape, d, m), |i| n.at(&moved(i, d, at.data[i[d]] as usize)));
        assert_same(&t.index_select(d, &index).unwrap(), &expected, "index_select");

        let part: Vec<usize> =
            n.shape.iter().enumerate().map(|(k, &s)| if k == d { m } else { s - rng.below(2).min(s) }).collect();
        let (index, at) = places(rng, &part, n.shape[d]);
        let expected = Naive::from_fn(&part, |i| n.at(&moved(i, d, at.at(i) as usize)));
        assert_same(&t.gather(d, &index).unwrap(), &expected, "gather");

        let narrow: Vec<usize> = sized(&n.shape, d, m)
            .iter()
            .enumerate()
            .map(|(k, &s)| if k != d && rng.chance(3) { 1 } else { s })
            .collect();
        let (index, at) = places(rng, &narrow, n.shape[d]);
        let expected = Naive::from_fn(&sized(&n.shape, d, m), |i| n.at(&moved(i, d, at.broadcast_at(i) as usize)));
        assert_same(&t.take_along_dim(&index, d).unwrap(), &expected, "take_along_dim");
    }
}

#[test]
fn writing_at_indices_is_the_adjoint_of_reading() {
    let rng = &mut Rng(2);
    for _ in 0..200 {
        let (t, n, d) = subject(rng);
        let m = if n.shape[d] == 0 { 0 } else { rng.below(6) };
        let part: Vec<usize> =
            n.shape.iter().enumerate().map(|(k, &s)| if k == d { m } else { s - rng.below(2).min(s) }).collect();
        let (index, at) = places(rng, &part, n.shape[d]);
        let src = tensor(rng, &part, t.dtype());
        let s = Naive::of(&src);
        let (mut last, mut sum) = (n.clone(), n.clone());
        for i in indices(&part) {
            let to = moved(&i, d, at.at(&i) as usize);
            let place = to.iter().zip(&n.shape).fold(0, |p, (&i, &d)| p * d + i);
            last.data[place] = s.at(&i);
            sum.data[place] += s.at(&i);
        }
        assert_same(&t.scatter(d, &index, &src).unwrap(), &last, "scatter");
        assert_same(&t.scatter_add(d, &index, &src).unwrap(), &sum, "scatter_add");
        assert_same(&t, &n, "the target is left as it was");
        // ⟨gather(x), s⟩ = ⟨x, scatter_add(0, s)⟩
        let dot = |a: &Tensor, b: &Tensor| a.mul(b).unwrap().sum(..).unwrap().item::<f64>().unwrap();
        let back = t.zeros_like().unwrap().scatter_add(d, &index, &src).unwrap();
        assert_eq!(dot(&t.gather(d, &index).unwrap(), &src), dot(&t, &back));
    }
}

#[test]
fn joining_and_cutting_undo_each_other() {
    let rng = &mut Rng(3);
    for _ in 0..200 {
        let (t, n, d) = subject(rng);
        let size = 1 + rng.below(3);
        let pieces = t.split(size, d).unwrap();
        assert_same(&Tensor::cat(&pieces, d).unwrap(), &n, "cat of split");
        assert!(pieces.iter().all(|p| p.shares_storage(&t)));
        let chunks = t.chunk(size, d as i64 - t.rank() as i64).unwrap();
        assert!(chunks.len() <= size.max(1));
        assert_same(&Tensor::cat(&chunks, d).unwrap(), &n, "cat of chunk");
        let start = rng.below(n.shape[d] + 1);
        let two = t.split_sizes(&[start, n.shape[d] - start], d).unwrap();
        assert_same(&Tensor::cat(&two, d).unwrap(), &n, "cat of split_sizes");
        let rows = t.unbind(d).unwrap();
        if !rows.is_empty() {
            assert_same(&Tensor::stack(&rows, d).unwrap(), &n, "stack of unbind");
        }
    }
}

#[test]
fn moving_repeating_and_padding() {
    let rng = &mut Rng(4);
    for _ in 0..200 {
        let (t, n, d) = subject(rng);
        let size = n.shape[d];
        let shift = rng.below(15) as i64 - 7;
        let expected =
            Naive::from_fn(&n.shape, |i| n.at(&moved(i, d, (i[d] as i64 - shift).rem_euclid(size as i64) as usize)));
        assert_same(&t.roll(shift, d).unwrap(), &expected, "roll");

        let lead = rng.below(2);
        let times: Vec<usize> = (0..n.shape.len() + lead).map(|_| rng.below(4)).collect();
        let shape: Vec<usize> =
            times.iter().enumerate().map(|(k, &r)| r * if k < lead { 1 } else { n.shape[k - lead] }).collect();
        let expected =
            Naive::from_fn(&shape, |i| n.at(&i[lead..].iter().zip(&n.shape).map(|(&i, &s)| i % s).collect::<Vec<_>>()));
        assert_same(&t.repeat(times).unwrap(), &expected, "repeat");

        let r = rng.below(4);
        let expected = Naive::from_fn(&sized(&n.shape, d, size * r), |i| n.at(&moved(i, d, i[d] / r)));
        assert_same(&t.repeat_interleave(r, d).unwrap(), &expected, "repeat_interleave");

        let (before, after) = (rng.below(4) as i64 - 1, rng.below(4) as i64 - 1);
        let last = n.shape.len() - 1;
        let wide = n.shape[last] as i64 + before + after;
        if wide >= 0 && n.shape[last] as i64 + before.min(0) + after.min(0) >= 0 {
            let expected = Naive::from_fn(&sized(&n.shape, last, wide as usize), |i| {
                let from = i[last] as i64 - before;
                if from < 0 || from >= n.shape[last] as i64 { 1.0 } else { n.at(&moved(i, last, from as usize)) }
            });
            assert_same(&t.pad(&[(before, after)], 1.0).unwrap(), &expected, "pad");
        }
        if n.shape.len() > 1 {
            let k = rng.below(9) as i64 - 4;
            let above = |i: &[usize]| i[last] as i64 - i[last - 1] as i64;
            let lower = Naive::from_fn(&n.shape, |i| if above(i) <= k { n.at(i) } else { 0.0 });
            let upper = Naive::from_fn(&n.shape, |i| if above(i) >= k { n.at(i) } else { 0.0 });
            assert_same(&t.tril(k).unwrap(), &lower, "tril");
            assert_same(&t.triu(k).unwrap(), &upper, "triu");
        }
    }
}

#[test]
fn masks_choose_and_nonzero_lists() {
    let rng = &mut Rng(5);
    for _ in 0..200 {
        let (sa, sb, shape) = broadcast_shapes(rng);
        let (t, mask) = (tensor(rng, &sa, DType::F32), tensor(rng, &sb, DType::Bool));
        let (n, m) = (Naive::of(&t), Naive::of(&mask));
        let all = indices(&shape);
        let chosen: Vec<f64> = all.iter().filter(|i| m.broadcast_at(i) == 1.0).map(|i| n.broadcast_at(i)).collect();
        assert_same(
            &t.masked_select(&mask).unwrap(),
            &Naive { shape: vec![chosen.len()], data: chosen },
            "masked_select",
        );
        let other = Tensor::new(7.0f32).unwrap();
        let expected = Naive::from_fn(&shape, |i| if m.broadcast_at(i) == 1.0 { n.broadcast_at(i) } else { 7.0 });
        assert_same(&mask.where_cond(&t, &other).unwrap(), &expected, "where");
        if shape == sa {
            let expected = Naive::from_fn(&shape, |i| if m.broadcast_at(i) == 1.0 { -1.0 } else { n.at(i) });
            assert_same(&t.masked_fill(&mask, -1.0).unwrap(), &expected, "masked_fill");
        }
        let found: Vec<Vec<usize>> = indices(&sa).into_iter().filter(|i| n.at(i) != 0.0).collect();
        let data = found.iter().flatten().map(|&i| i as f64).collect();
        assert_same(&t.nonzero().unwrap(), &Naive { shape: vec![found.len(), sa.len()], data }, "nonzero");
        let (labels, l) = places(rng, &sa, 5);
        let labels = labels.remainder(5i64).unwrap();
        let expected =
            Naive::from_fn(&[&sa[..], &[5]].concat(), |i| (l.at(&i[..sa.len()]) == i[sa.len()] as f64) as u8 as f64);
        assert_same(&labels.one_hot(5).unwrap(), &expected, "one_hot");
    }
}

#[test]
fn every_operation_has_first_and_second_gradients() {
    let i3 = Tensor::new([2i64, 0, -1, 2]).unwrap();
    let i23 = Tensor::new([[[2i64, 0], [1, 0]], [[0, 0], [2, 1]]]).unwrap(); // [2, 2, 2] into [2, 3, 4] at dim 1
    let mask = Tensor::new([[true], [false], [true]]).unwrap();
    let f = |name: &str, f: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>| {
        let rng = &mut Rng(name.len() as u64);
        let inputs = [smooth(rng, &[2, 3, 4], -2.0, 2.0), smooth(rng, &[2, 2, 2], -2.0, 2.0)];
        let first = gradcheck(|x| f(&x[0], &x[1]), &inputs, Default::default());
        first.unwrap_or_else(|e| panic!("{name}: {e}"));
        let second = gradgradcheck(|x| f(&x[0], &x[1])?.powi(3), &inputs, Default::default());
        second.unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    f("index_select", &|x, _| x.index_select(1, &i3));
    f("gather", &|x, _| x.gather(1, &i23));
    f("take_along_dim", &|x, _| x.take_along_dim(&i23.narrow(2, 0, 1)?.narrow(0, 0, 1)?, 1));
    f("scatter_add", &|x, s| x.scatter_add(1, &i23, s));
    f("scatter", &|x, s| x.scatter(1, &i23, s));
    f("masked_select", &|x, _| x.masked_select(&mask));
    f("masked_fill", &|x, _| x.masked_fill(&mask, 3.0));
    f("where", &|x, s| mask.narrow(0, 0, 2)?.where_cond(&x.narrow(1, 0, 2)?.narrow(2, 0, 2)?, s));
    f("cat", &|x, s| {
        Tensor::cat(&[x.narrow(2, 1, 2)?, x.narrow(2, 0, 2)?.narrow(1, 0, 3)?], 0)?.sum(0)?.mul(&s.sum(..)?)
    });
    f("stack", &|x, s| Tensor::stack(&[&x.narrow(1, 0, 2)?.narrow(2, 0, 2)?, s, s], 1));
    f("split", &|x, _| x.split(2, 1)?.remove(0).mul(&x.split(2, 2)?.remove(1).narrow(1, 0, 1)?.sum(..)?));
    f("unbind", &|x, _| x.unbind(2)?.remove(3).mul(&x.unbind(2)?[0]));
    f("repeat", &|x, _| x.repeat([2, 1, 2, 1]));
    f("repeat_interleave", &|x, _| x.repeat_interleave(2, 1));
    f("roll", &|x, _| x.roll(-5, 2));
    f("pad", &|x, _| x.pad(&[(1, -1), (-1, 2)], 0.5));
    f("tril", &|x, _| x.tril(-1));
    f("triu", &|x, _| x.triu(1));
    f("sort", &|x, _| Ok(x.sort(1, true)?.0));
    f("topk", &|x, _| Ok(x.topk(2, 2, false)?.0));
}

/// Of several writes to one place only the last has a gradient.
#[test]
fn scatter_twice_to_one_place() {
    let leaf = |v: &[f32]| Tensor::new(v).unwrap().requires_grad().unwrap();
    let (x, s) = (leaf(&[1.0, 2.0]), leaf(&[5.0, 6.0, 7.0]));
    let y = x.scatter(0, &Tensor::new([0i64, 0, 0]).unwrap(), &s).unwrap();
    assert_eq!(y.to_vec::<f32>().unwrap(), [7.0, 2.0]);
    let grads = y.sum(..).unwrap().backward().unwrap();
    assert_eq!(grads.get(&x).unwrap().to_vec::<f32>().unwrap(), [0.0, 1.0]);
    assert_eq!(grads.get(&s).unwrap().to_vec::<f32>().unwrap(), [0.0, 0.0, 1.0]);
}

#[test]
fn bad_arguments_are_errors_that_say_what_is_wrong() {
    let t = Tensor::zeros([2, 3], DType::F32).unwrap();
    let i = |v: &[i64]| Tensor::new(v).unwrap();
    let wrong = Tensor::zeros([3], DType::F32).unwrap();
    for (text, expected) in [
        (message(t.index_select(1, &i(&[0, 3]))), "index_select: index 3 is out of range for dim 1 of size 3"),
        (message(t.index_select(1, &i(&[-4]))), "index_select: index -4 is out of range for dim 1 of size 3"),
        (
            message(t.index_select(1, &i(&[i64::MIN]))),
            "index_select: index -9223372036854775808 is out of range for dim 1 of size 3",
        ),
        (message(t.index_select(1, &wrong)), "index_select: got dtype f32, expected i64 indices"),
        (message(t.index_select(2, &i(&[0]))), "index_select: dim 2 is out of range for shape [2, 3] of rank 2"),
        (message(t.gather(0, &i(&[0]))), "gather: index of shape [1] does not fit shape [2, 3] beside dim 0"),
        (
            message(t.gather(1, &Tensor::new([[0i64], [0], [0]]).unwrap())),
            "gather: index of shape [3, 1] does not fit shape [2, 3] beside dim 1",
        ),
        (message(t.scatter(1, &i(&[0]), &wrong)), "scatter: index of shape [1] and source of shape [3] differ"),
        (
            message(t.scatter_add(0, &Tensor::new([[2i64]]).unwrap(), &Tensor::new([[1f32]]).unwrap())),
            "scatter_add: index 2 is out of range for dim 0 of size 2",
        ),
        (
            message(t.scatter_add(0, &Tensor::new([[1i64]]).unwrap(), &Tensor::new([[1f64]]).unwrap())),
            "scatter_add: got dtype f64, expected the source as f32, like the target",
        ),
        (message(t.masked_select(&wrong)), "masked_select: got dtype f32, expected a bool mask"),
        (
            message(wrong.where_cond(&t, &t)),
            "where: got dtype f32, expected a bool condition (compare, or cast with to_dtype)",
        ),
        (message(i(&[0, 5]).one_hot(5)), "one_hot: index 5 is out of range for dim 1 of size 5"),
        (message(Tensor::cat::<Tensor>(&[], 0)), "cat: no tensors to join"),
        (message(Tensor::cat(&[&t, &wrong], 0)), "cat: tensor 1 of shape [3] does not join [2, 3] along dim 0"),
        (message(Tensor::stack(&[&t, &wrong], 0)), "stack: shapes [2, 3] and [3] differ"),
        (message(t.split(0, 0)), "split: the size of a piece is 0"),
        (message(t.split_sizes(&[1, 3], 1)), "split: sizes [1, 3] do not add up to dim 1 of shape [2, 3]"),
        (message(t.chunk(0, 0)), "chunk: the number of chunks is 0"),
        (message(t.repeat([2])), "repeat: [2] names fewer dims than shape [2, 3]"),
        (
            message(t.repeat([1usize << 32, 1 << 32])),
            "repeat: shape [4294967296, 4294967296] has more elements than memory can address",
        ),
        (message(t.pad(&[(-2, -2)], 0.0)), "pad: (-2, -2) cuts more than dim 1 of shape [2, 3]"),
        (message(t.pad(&[(0, 0); 3], 0.0)), "pad: 3 pairs for shape [2, 3]"),
        (message(wrong.tril(0)), "tril: expected at least two dims, got shape [3]"),
        (message(t.topk(4, 1, true)), "topk: k = 4 is more than dim 1 of shape [2, 3] has"),
    ] {
        assert_eq!(text, expected);
    }
    // Extreme but valid, or refused without a panic.
    assert_eq!(t.roll(i64::MIN, 1).unwrap().dims(), [2, 3]);
    assert_eq!(t.tril(i64::MIN).unwrap().dims(), [2, 3]);
    assert_eq!(t.triu(i64::MIN).unwrap().dims(), [2, 3]);
    for result in [
        t.pad(&[(i64::MAX, 1)], 0.0),
        t.pad(&[(i64::MIN, 0)], 0.0),
        t.pad(&[(i64::MIN, i64::MIN)], 0.0),
        t.pad(&[(1 << 62, 0), (1 << 62, 0)], 0.0),
        t.repeat_interleave(usize::MAX, 1),
        t.split_sizes(&[usize::MAX, 4], 1).map(|mut v| v.remove(0)),
        i(&[0]).one_hot(usize::MAX),
    ] {
        assert!(result.is_err());
    }
}
