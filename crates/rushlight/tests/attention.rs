//! Attention: the fused kernels against the formula made of tensor operations, over shapes, layouts, masks and options.

#[path = "common/mod.rs"]
mod common;

use common::{Naive, Rng, assert_close, message, smooth};
use rushlight::{AttentionOptions, Causal, DType, Result, Tensor, grad, gradcheck, gradgradcheck, random};

/// The formula, of `[batch, heads, rows, n]` tensors.
fn composed(q: &Tensor, k: &Tensor, v: &Tensor, o: &AttentionOptions) -> Result<Tensor> {
    let group = q.dims()[1] / k.dims()[1].max(1);
    let (queries, keys) = (q.dims()[2], k.dims()[2]);
    let (k, v) = (k.repeat_interleave(group, 1)?, v.repeat_interleave(group, 1)?);
    let mut s = q.matmul(&k.t()?)?.mul(o.scale.unwrap_or(1.0 / (q.dims()[3] as f64).sqrt()))?;
    let minus = f64::NEG_INFINITY;
    s = match &o.attn_mask {
        Some(mask) if mask.dtype() == DType::Bool => s.masked_fill(&mask.logical_not()?, minus)?,
        Some(mask) => s.add(mask)?,
        None => s,
    };
    let diagonal = match o.causal {
        Causal::No => keys as i64,
        Causal::UpperLeft => 0,
        Causal::LowerRight => keys as i64 - queries as i64,
    };
    let hidden = Tensor::ones([queries, keys], DType::F64)?.triu(diagonal + 1)?.ne(0.0)?;
    s = s.masked_fill(&hidden, minus)?;
    let none = s.detach().eq(minus)?.all(-1)?.unsqueeze(-1)?;
    s.masked_fill(&none, 0.0)?.softmax(-1)?.masked_fill(&none, 0.0)?.matmul(&v)
}

/// Output and gradients of `Σ y ∘ c` by the tensors that are tracked.
fn run(
    f: impl Fn(&Tensor, &Tensor, &Tensor, &AttentionOptions) -> Result<Tensor>,
    [q, k, v]: [&Tensor; 3],
    o: &AttentionOptions,
    create_graph: bool,
) -> Result<Vec<Tensor>> {
    let leaves = [q, k, v].map(|t| t.requires_grad().unwrap());
    let o = AttentionOptions {
        attn_mask: o.attn_mask.as_ref().map(|m| if m.is_tracked() { m.requires_grad().unwrap() } else { m.clone() }),
        ..o.clone()
    };
    let y = f(&leaves[0], &leaves[1], &leaves[2], &o)?;
    let c = Tensor::arange(0.0, y.numel() as f64, 1.0, DType::F64)?.mul(0.37)?.sin()?;
    let c = c.to_dtype(y.dtype())?.reshape(y.shape())?;
    let mut inputs: Vec<&Tensor> = leaves.iter().collect();
    inputs.extend(o.attn_mask.as_ref().filter(|m| m.is_tracked()));
    let grads = grad(&[&y.mul(&c)?.sum(..)?], &inputs, create_graph)?;
    let zero = |(g, x): (Option<Tensor>, &&Tensor)| g.map_or_else(|| x.zeros_like(), Ok);
    let grads = grads.into_iter().zip(&inputs).map(zero).collect::<Result<Vec<_>>>()?;
    Ok([vec![y.detach()], grads].concat())
}

fn fused(q: &Tensor, k: &Tensor, v: &Tensor, o: &AttentionOptions) -> Result<Tensor> {
    q.scaled_dot_product_attention(k, v, o)
}

#[track_caller]
fn check(x: [&Tensor; 3], o: &AttentionOptions, tolerance: f64, what: &str) {
    let expected = run(composed, x, o, false).unwrap();
    for (i, (got, expected)) in run(fused, x, o, false).unwrap().iter().zip(&expected).enumerate() {
        assert_close(got, &Naive::of(expected), tolerance, &format!("{what}, {}", ["y", "dq", "dk", "dv", "dmask"][i]));
    }
}

/// As a transformer has it: `[batch, rows, heads, n]`, transposed.
fn interleaved(t: &Tensor) -> Tensor {
    t.transpose(1, 2).unwrap().contiguous().unwrap().transpose(1, 2).unwrap()
}

#[test]
fn is_the_formula() {
    let rng = &mut Rng(1);
    let sizes = [1, 1, 2, 3, 5, 17, 40];
    for case in 0..60 {
        let (batch, kv_heads, group) = (1 + rng.below(2), 1 + rng.below(2), 1 + rng.below(3));
        let (queries, keys) = (sizes[rng.below(7)], sizes[rng.below(7)]);
        let (dim, value_dim) = ([1, 3, 8, 17][rng.below(4)], [1, 2, 8, 16, 19][rng.below(5)]);
        let heads = kv_heads * group;
        let q = smooth(rng, &[batch, heads, queries, dim], -2.0, 2.0);
        let k = smooth(rng, &[batch, kv_heads, keys, dim], -2.0, 2.0);
        let v = smooth(rng, &[batch, kv_heads, keys, value_dim], -2.0, 2.0);
        let full = [batch, heads, queries, keys];
        let mask_shape: Vec<usize> = full[rng.below(4)..].iter().map(|&n| if rng.chance(3) { 1 } else { n }).collect();
        let attn_mask = match rng.below(4) {
            0 => Some(smooth(rng, &mask_shape, -2.0, 2.0).gt(-1.0).unwrap()),
            1 => Some(smooth(rng, &mask_shape, -2.0, 2.0)),
            2 => Some(smooth(rng, &mask_shape, -2.0, 2.0).requires_grad().unwrap()),
            _ => None,
        };
        let o = AttentionOptions {
            attn_mask,
            causal: [Causal::No, Causal::UpperLeft, Causal::LowerRight][rng.below(3)],
            scale: if rng.chance(2) { None } else { Some(0.7) },
            ..Default::default()
        };
        let what = format!("case {case}: {full:?} of {dim} and {value_dim}, {kv_heads} heads of keys, {:?}", o.causal);
        check([&q, &k, &v], &o, 1e-12, &what);
        let single = [&q, &k, &v].map(|t| t.to_dtype(DType::F32).unwrap());
        let o = AttentionOptions {
            attn_mask: o.attn_mask.map(|m| if m.dtype() == DType::Bool { m } else { m.to_dtype(DType::F32).unwrap() }),
            ..o
        };
        check(single.each_ref(), &o, 1e-5, &what);
        check(single.each_ref().map(interleaved).each_ref(), &o, 1e-5, &what);
    }
}

#[test]
fn long_rows_and_all_widths() {
    let rng = &mut Rng(2);
    for (dim, queries, keys) in [(64, 65, 130), (80, 20, 70), (128, 3, 65), (64, 129, 64), (16, 200, 150)] {
        let mut make = |heads, rows| smooth(rng, &[1, heads, rows, dim], -2.0, 2.0).to_dtype(DType::F32).unwrap();
        let (q, k, v) = (make(2, queries), make(2, keys), make(2, keys));
        for causal in [Causal::No, Causal::UpperLeft, Causal::LowerRight] {
            let o = AttentionOptions { causal, ..Default::default() };
            check([&q, &k, &v], &o, 1e-5, &format!("{dim} {queries} {keys} {causal:?}"));
        }
    }
}

/// New queries that follow the keys of a cache, one or a few at a time, see what they would see in the whole.
#[test]
fn a_cache_gives_what_the_whole_gives() -> Result<()> {
    let rng = &mut Rng(9);
    let n = 11;
    let mut make = |heads, dim| smooth(rng, &[2, heads, n, dim], -2.0, 2.0);
    let (q, k, v) = (make(4, 5), make(2, 5), make(2, 16));
    let o = |causal| AttentionOptions { causal, ..Default::default() };
    let whole = q.scaled_dot_product_attention(&k, &v, &o(Causal::UpperLeft))?;
    for new in [1, 2, 3] {
        for end in new..=n {
            let (q, k, v) = (q.narrow(2, end - new, new)?, k.narrow(2, 0, end)?, v.narrow(2, 0, end)?);
            for dtype in [DType::F64, DType::F32] {
                let [q, k, v] = [&q, &k, &v].map(|t| interleaved(&t.to_dtype(dtype).unwrap()));
                let y = q.scaled_dot_product_attention(&k, &v, &o(Causal::LowerRight))?;
                let tolerance = if dtype == DType::F64 { 1e-13 } else { 1e-5 };
                assert_close(&y, &Naive::of(&whole.narrow(2, end - new, new)?), tolerance, &format!("{new} at {end}"));
            }
        }
    }
    Ok(())
}

/// The kernels as older processors run them.
#[test]
fn every_instruction_set_gives_the_formula() {
    for level in ["baseline", "avx2"] {
        let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
        let run = tests.args(["--exact", "is_the_formula"]).env("RUSHLIGHT_SIMD", level).output().unwrap();
        assert!(run.status.success(), "{level}: {}", String::from_utf8_lossy(&run.stdout));
    }
}

#[test]
fn threads_do_not_change_a_bit() -> Result<()> {
    let o = AttentionOptions { causal: Causal::UpperLeft, dropout_p: 0.1, ..Default::default() };
    // Few heads, whose tiles are shared out; and many.
    for (batch, heads, rows) in [(1, 1, 200), (1, 3, 90), (3, 6, 20)] {
        random::manual_seed(2);
        let x = [(); 3].map(|_| Tensor::randn([batch, heads, rows, 8], DType::F32).unwrap());
        let [one, three] = [1, 3].map(|threads| {
            rushlight::set_num_threads(threads).unwrap();
            random::manual_seed(3);
            let all = run(fused, x.each_ref(), &o, false).unwrap();
            all.iter().map(|t| t.to_vec::<f32>().unwrap()).collect::<Vec<_>>()
        });
        rushlight::set_num_threads(0)?;
        assert!(one == three, "{batch} {heads} {rows}");
    }
    Ok(())
}

#[test]
fn the_layout_of_a_transformer_is_kept() -> Result<()> {
    let (b, t, h, d) = (2, 7, 3, 4);
    let qkv = Tensor::randn([b, t, 3 * h * d], DType::F32)?.requires_grad()?;
    let heads = |part: usize| qkv.narrow(2, part * h * d, h * d)?.reshape([b, t, h, d])?.transpose(1, 2);
    let (q, k, v) = (heads(0)?, heads(1)?, heads(2)?);
    let y = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default())?;
    let rows = y.transpose(1, 2)?;
    assert!(rows.is_contiguous() && rows.reshape([b, t, h * d])?.shares_storage(&y));
    for g in grad(&[&y.square()?.sum(..)?], &[&q, &k, &v], false)? {
        assert!(g.unwrap().transpose(1, 2)?.is_contiguous());
    }
    let plain = q.contiguous()?.scaled_dot_product_attention(&k, &v, &AttentionOptions::default())?;
    assert!(plain.is_contiguous());
    assert_eq!(plain.to_vec::<f32>()?, y.to_vec::<f32>()?);
    Ok(())
}

#[test]
fn other_ranks_and_halves() -> Result<()> {
    let rng = &mut Rng(3);
    let x = [
        smooth(rng, &[2, 2, 3, 4], -1.0, 1.0),
        smooth(rng, &[2, 2, 5, 4], -1.0, 1.0),
        smooth(rng, &[2, 2, 5, 2], -1.0, 1.0),
    ];
    let mask = smooth(rng, &[3, 5], -1.0, 1.0);
    let o = AttentionOptions { attn_mask: Some(mask), causal: Causal::LowerRight, ..Default::default() };
    let y = composed(&x[0], &x[1], &x[2], &o)?;
    let [q, k, v] = x.each_ref().map(|t| t.reshape([&[1, 2, 1][..], &t.dims()[1..]].concat()).unwrap());
    let five = q.scaled_dot_product_attention(&k, &v, &o)?;
    assert_close(&five.reshape(y.shape())?, &Naive::of(&y), 1e-12, "five dims");
    let [q, k, v] = x.each_ref().map(|t| t.select(0, 1).unwrap());
    assert_close(&q.scaled_dot_product_attention(&k, &v, &o)?, &Naive::of(&y.select(0, 1)?), 1e-12, "three dims");
    let [q, k, v] = [q, k, v].map(|t| t.select(0, 0).unwrap());
    let row = y.select(0, 1)?.select(0, 0)?;
    assert_close(&q.scaled_dot_product_attention(&k, &v, &o)?, &Naive::of(&row), 1e-12, "two dims");
    for (dtype, tolerance) in [(DType::BF16, 2e-2), (DType::F16, 2e-3)] {
        let [q, k, v] = x.each_ref().map(|t| t.to_dtype(dtype).unwrap());
        let got = run(fused, [&q, &k, &v], &o, false)?;
        assert!(got.iter().all(|t| t.dtype() == dtype));
        for (got, expected) in got.iter().zip(run(composed, x.each_ref(), &o, false)?) {
            assert_close(got, &Naive::of(&expected), tolerance, "halves");
        }
    }
    Ok(())
}

#[test]
fn the_weights_are_those_that_are_used() -> Result<()> {
    let rng = &mut Rng(4);
    let (q, k) = (smooth(rng, &[1, 4, 3, 2], -1.0, 1.0), smooth(rng, &[1, 2, 5, 2], -1.0, 1.0));
    let o = AttentionOptions { causal: Causal::UpperLeft, ..Default::default() };
    let p = q.attention_weights(&k, &o)?;
    assert_eq!(p.dims(), [1, 4, 3, 5]);
    assert_close(&p.sum(-1)?, &Naive::from_fn(&[1, 4, 3], |_| 1.0), 1e-14, "rows sum to 1");
    let eye = Tensor::eye(5, DType::F64)?.expand([1, 2, 5, 5])?;
    assert_close(&q.scaled_dot_product_attention(&k, &eye, &o)?, &Naive::of(&p), 1e-13, "weights of the identity");
    gradcheck(|x| x[0].attention_weights(&x[1], &o), &[q, k], Default::default())
}

#[test]
fn rows_without_keys_are_zero() -> Result<()> {
    let rng = &mut Rng(5);
    let (q, k, v) = (
        smooth(rng, &[1, 1, 4, 3], -1.0, 1.0),
        smooth(rng, &[1, 1, 3, 3], -1.0, 1.0),
        smooth(rng, &[1, 1, 3, 2], -1.0, 1.0),
    );
    let inf = f64::NEG_INFINITY;
    let seen = Tensor::new([[true, false, true], [false, false, false], [true, true, true], [false, true, false]])?;
    let added = Tensor::new([[0.5, inf, 0.0], [inf, inf, inf], [0.0, -1.0, 2.0], [inf, 0.0, inf]])?;
    for mask in [seen, added.clone(), added.requires_grad()?] {
        let o = AttentionOptions { attn_mask: Some(mask), ..Default::default() };
        for create_graph in [false, true] {
            let got = run(fused, [&q, &k, &v], &o, create_graph)?;
            assert_eq!(got[0].select(2, 1)?.to_vec::<f64>()?, [0.0; 2]);
            assert_eq!(got[1].select(2, 1)?.to_vec::<f64>()?, [0.0; 3]);
            for (got, expected) in got.iter().zip(run(composed, [&q, &k, &v], &o, false)?) {
                assert_close(got, &Naive::of(&expected), 1e-13, "with a row without keys");
            }
        }
    }
    // Fewer keys than queries: the first query sees none.
    let o = AttentionOptions { causal: Causal::LowerRight, ..Default::default() };
    let got = run(fused, [&q, &k, &v], &o, false)?;
    assert_eq!(got[0].select(2, 0)?.to_vec::<f64>()?, [0.0; 2]);
    check([&q, &k, &v], &o, 1e-13, "fewer keys than queries");
    // And with no keys at all, or none to ask.
    for (batch, heads, queries, keys) in [(1, 2, 3, 0), (1, 2, 0, 3), (0, 2, 3, 3), (2, 0, 3, 3)] {
        let make = |rows| Tensor::ones([batch, heads, rows, 2], DType::F32);
        let x = [make(queries)?, make(keys)?, make(keys)?];
        for create_graph in [false, true] {
            for t in run(fused, x.each_ref(), &AttentionOptions::default(), create_graph)? {
                assert!(t.to_vec::<f32>()?.iter().all(|x| *x == 0.0));
            }
        }
    }
    Ok(())
}

#[test]
fn at_the_edge() -> Result<()> {
    // Logits of 1e4: only the largest counts.
    for dtype in [DType::F32, DType::F64] {
        let q = Tensor::new([[[100.0], [-100.0]]])?.to_dtype(dtype)?;
        let k = Tensor::new([[[100.0], [99.0], [-100.0]]])?.to_dtype(dtype)?;
        let v = Tensor::new([[[1.0], [2.0], [3.0]]])?.to_dtype(dtype)?;
        let y = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default())?;
        assert_eq!(y.to_f64_vec()?, [1.0, 3.0]);
    }
    // NaN in a query, and only there, whatever stands beside it in the tile.
    let rng = &mut Rng(6);
    let (k, v) = (smooth(rng, &[1, 1, 9, 4], -1.0, 1.0), smooth(rng, &[1, 1, 9, 4], -1.0, 1.0));
    let mut values = smooth(rng, &[1, 1, 5, 4], -1.0, 1.0).to_vec::<f64>()?;
    values[6] = f64::NAN;
    let q = Tensor::from_vec(values, [1, 1, 5, 4])?;
    let got = run(fused, [&q, &k, &v], &AttentionOptions::default(), false)?;
    for (i, row) in got[0].to_vec::<f64>()?.chunks(4).enumerate() {
        assert!(row.iter().all(|x| x.is_nan() == (i == 1)), "{i}: {row:?}");
    }
    for (i, row) in got[1].to_vec::<f64>()?.chunks(4).enumerate() {
        assert!(row.iter().all(|x| x.is_nan() == (i == 1)), "{i}: {row:?}");
    }
    // An infinite score makes its row NaN, as it does in softmax.
    let added = Tensor::new([[0.0f64], [f64::INFINITY]])?;
    let o = AttentionOptions { attn_mask: Some(added), ..Default::default() };
    let y = q.narrow(2, 3, 2)?.scaled_dot_product_attention(&k, &v, &o)?.to_vec::<f64>()?;
    assert!(y[..4].iter().all(|x| x.is_finite()) && y[4..].iter().all(|x| x.is_nan()), "{y:?}");
    Ok(())
}

#[test]
fn gradients_once_and_twice() {
    let rng = &mut Rng(7);
    for (heads, kv_heads, queries, keys) in [(1, 1, 1, 1), (2, 2, 2, 3), (4, 2, 2, 2), (2, 1, 3, 2)] {
        let q = smooth(rng, &[1, heads, queries, 2], -1.0, 1.0);
        let k = smooth(rng, &[1, kv_heads, keys, 2], -1.0, 1.0);
        let v = smooth(rng, &[1, kv_heads, keys, 3], -1.0, 1.0);
        let added = smooth(rng, &[queries, keys], -1.0, 1.0);
        let seen = smooth(rng, &[1, keys], -1.0, 1.0).gt(-0.8).unwrap();
        for causal in [Causal::No, Causal::UpperLeft, Causal::LowerRight] {
            let by_place = AttentionOptions { causal, attn_mask: Some(seen.clone()), ..Default::default() };
            let f = |x: &[Tensor]| fused(&x[0], &x[1], &x[2], &by_place);
            let x = [q.clone(), k.clone(), v.clone()];
            gradcheck(f, &x, Default::default()).unwrap();
            gradgradcheck(f, &x, Default::default()).unwrap();
            let f = |x: &[Tensor]| {
                let o = AttentionOptions { causal, attn_mask: Some(x[3].clone()), ..Default::default() };
                fused(&x[0], &x[1], &x[2], &o)
            };
            let x = [q.clone(), k.clone(), v.clone(), added.clone()];
            gradcheck(f, &x, Default::default()).unwrap();
            gradgradcheck(f, &x, Default::default()).unwrap();
        }
    }
}

#[test]
fn dropout_drops_the_same_weights_both_ways() -> Result<()> {
    let o = AttentionOptions { dropout_p: 0.4, ..Default::default() };
    // With the identity as values the output is the weights: alike, so 0 or 1 / n / 0.6 each.
    let (n, rows) = (70, 150);
    let zero = Tensor::zeros([1, 2, rows, 1], DType::F32)?;
    let eye = Tensor::eye(n, DType::F32)?.expand([1, 2, n, n])?;
    random::manual_seed(1);
    let p = zero.scaled_dot_product_attention(&zero.narrow(2, 0, n)?, &eye, &o)?.to_vec::<f32>()?;
    let whole = 1.0 / n as f32 / 0.6;
    assert!(p.iter().all(|p| *p == 0.0 || (p - whole).abs() < 1e-6));
    let kept = p.iter().filter(|p| **p != 0.0).count() as f64 / p.len() as f64;
    assert!((kept - 0.6).abs() < 0.015, "{kept} kept");
    let another = zero.scaled_dot_product_attention(&zero.narrow(2, 0, n)?, &eye, &o)?.to_vec::<f32>()?;
    assert_ne!(p, another);
    // Fused and composed rules, and differences of a fixed mask.
    let rng = &mut Rng(8);
    let x = [
        smooth(rng, &[1, 4, 3, 2], -1.0, 1.0),
        smooth(rng, &[1, 2, 5, 2], -1.0, 1.0),
        smooth(rng, &[1, 2, 5, 3], -1.0, 1.0),
    ];
    for causal in [Causal::No, Causal::UpperLeft] {
        let o = AttentionOptions { causal, ..o.clone() };
        let fixed = |x: &[Tensor]| {
            random::manual_seed(5);
            fused(&x[0], &x[1], &x[2], &o)
        };
        gradcheck(fixed, &x, Default::default())?;
        gradgradcheck(fixed, &x, Default::default())?;
        let both = [false, true].map(|create_graph| {
            random::manual_seed(9);
            run(fused, x.each_ref(), &o, create_graph).unwrap()
        });
        for (fused, made) in both[0].iter().zip(&both[1]) {
            assert_close(fused, &Naive::of(made), 1e-13, "with dropout");
        }
    }
    let all = AttentionOptions { dropout_p: 1.0, ..Default::default() };
    for t in run(fused, x.each_ref(), &all, false)? {
        assert!(t.to_vec::<f64>()?.iter().all(|x| *x == 0.0));
    }
    Ok(())
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32).unwrap();
    let o = AttentionOptions::default();
    let q = ones(&[1, 4, 2, 3]);
    let with = |k: &[usize], v: &[usize]| message(q.scaled_dot_product_attention(&ones(k), &ones(v), &o));
    assert!(with(&[1, 4, 5, 2], &[1, 4, 5, 3]).contains("got query [1, 4, 2, 3], key [1, 4, 5, 2]"));
    assert!(with(&[1, 4, 5, 3], &[1, 4, 6, 3]).contains("expected [.., heads, queries, dim]"));
    assert!(with(&[2, 4, 5, 3], &[2, 4, 5, 3]).contains("key [2, 4, 5, 3]"));
    assert!(with(&[4, 5, 3], &[4, 5, 3]).contains("key [4, 5, 3]"));
    assert!(with(&[1, 3, 5, 3], &[1, 3, 5, 3]).contains("4 heads of queries cannot share 3 heads of keys"));
    assert!(message(ones(&[3]).scaled_dot_product_attention(&ones(&[3]), &ones(&[3]), &o)).contains("heads"));
    let double = q.to_dtype(DType::F64)?;
    assert!(message(q.scaled_dot_product_attention(&double, &double, &o)).contains("expected dtype f32"));
    let whole = q.to_dtype(DType::I64)?;
    assert!(message(whole.scaled_dot_product_attention(&whole, &whole, &o)).contains("i64"));
    let masked = |mask: Tensor| {
        let o = AttentionOptions { attn_mask: Some(mask), ..Default::default() };
        message(q.scaled_dot_product_attention(&q, &q, &o))
    };
    assert!(masked(ones(&[3, 2])).contains("cannot broadcast"));
    assert!(masked(ones(&[2, 1, 4, 2, 2])).contains("dims"));
    assert!(masked(ones(&[2, 2]).to_dtype(DType::I64)?).contains("bool or float attn_mask"));
    for p in [-0.1, 1.1, f64::NAN] {
        let o = AttentionOptions { dropout_p: p, ..Default::default() };
        assert!(message(q.scaled_dot_product_attention(&q, &q, &o)).contains("probability"));
    }
    Ok(())
}
