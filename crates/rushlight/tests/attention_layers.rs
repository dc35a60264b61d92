//! Attention with several heads, rotary positions and caches.

mod common;
#[path = "common/layers.rs"]
mod layers;
#[path = "common/reference.rs"]
mod reference;

use common::{Naive, Rng, assert_close, message, smooth};
use layers::{cast, check, check_gradients};
use reference::{close, load};
use rushlight::nn::*;
use rushlight::{DType, Result, RotaryPairs, Tensor, gradcheck, gradgradcheck, no_grad, random};

const BOTH: [RotaryPairs; 2] = [RotaryPairs::HalfSplit, RotaryPairs::Interleaved];

fn attention(width: usize, heads: usize, options: MultiHeadAttentionOptions) -> Result<MultiHeadAttention> {
    MultiHeadAttention::new(width, heads, &options)
}

fn causal() -> AttentionMasks {
    AttentionMasks { causal: true, ..Default::default() }
}

fn padded(mask: &Tensor) -> AttentionMasks {
    AttentionMasks { key_padding_mask: Some(mask.clone()), ..Default::default() }
}

#[test]
fn is_pytorchs() {
    let cases = load("transformer");
    let cases = cases.iter().filter(|c| c.op == "multi_head_attention");
    let mut seen = 0;
    for c in cases {
        let names = c.arg::<Vec<String>>("names");
        let at = |name: &str| names.iter().position(|n| n == name);
        let inputs = c.inputs.len() - names.len() - c.arg::<Vec<String>>("masks").len();
        let heads = c.outputs[1].shape[1];
        let options = MultiHeadAttentionOptions {
            bias: at("out_proj.bias").is_some(),
            kv_width: c.inputs[..inputs].last().map(|x| x.shape[2]),
            ..Default::default()
        };
        check(c, attention(4, heads, options).unwrap(), |layer, x, mask| {
            let masks = AttentionMasks {
                key_padding_mask: mask("key_padding_mask"),
                attn_mask: mask("attn_mask"),
                causal: c.optional("causal").unwrap_or(false),
            };
            let (y, weights) = layer.forward_with_weights(&x[0], &x[x.len() - 1], &masks)?;
            let alone = layer.forward(&x[0], &x[x.len() - 1], &masks)?;
            assert_close(&alone, &Naive::of(&y), 0.0, "without the weights");
            Ok(vec![y, weights])
        });
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn rotary_is_a_turn_of_complex_numbers() -> Result<()> {
    let cases = load("transformer");
    let cases: Vec<_> = cases.iter().filter(|c| c.op == "rotary").collect();
    assert_eq!(cases.len(), 6);
    for c in cases {
        let x = layers::tensor(&c.inputs[0]).requires_grad()?;
        let pairs = if c.arg("interleaved") { RotaryPairs::Interleaved } else { RotaryPairs::HalfSplit };
        let rotary = Rotary::new(x.size(-1)?, c.arg("base"), pairs)?;
        let y = rotary.forward(&x, c.arg("offset"))?;
        close(&y.to_f64_vec()?, &c.outputs[0].data, 1e-11, 1e-12).unwrap_or_else(|e| panic!("{}: {e}", c.name()));
        let sent = layers::tensor(c.grad_output[0].as_ref().unwrap());
        let grads = y.mul(&sent)?.sum(..)?.backward()?;
        let expected = &c.grads[0].as_ref().unwrap().data;
        close(&grads.get(&x).unwrap().to_f64_vec()?, expected, 1e-11, 1e-12).unwrap();
    }
    Ok(())
}

#[test]
fn rotary_reads_any_layout() -> Result<()> {
    let rng = &mut Rng(1);
    for pairs in BOTH {
        for shape in [[2, 3, 5, 6], [1, 1, 1, 2], [2, 1, 4, 8], [0, 2, 3, 4], [2, 3, 0, 4]] {
            let x = smooth(rng, &shape, -2.0, 2.0);
            let rotary = Rotary::new(shape[3], 100.0, pairs)?;
            let expected = Naive::of(&rotary.forward(&x.contiguous()?, 2)?);
            let swapped = x.transpose(1, 2)?.contiguous()?.transpose(1, 2)?;
            for (x, what) in [(&x, "strided"), (&swapped, "swapped")] {
                let y = rotary.forward(x, 2)?;
                assert_close(&y, &expected, 0.0, what);
            }
            if shape == [2, 3, 5, 6] {
                assert_eq!(rotary.forward(&swapped, 0)?.strides(), swapped.strides(), "laid out like the input");
            }
            for dtype in [DType::F32, DType::BF16] {
                let tolerance = if dtype == DType::F32 { 1e-6 } else { 2e-2 };
                assert_close(&rotary.forward(&x.to_dtype(dtype)?, 2)?, &expected, tolerance, "narrow");
            }
        }
        let x = smooth(rng, &[2, 2, 3, 4], -2.0, 2.0);
        let rotary = Rotary::new(4, 100.0, pairs)?;
        for x in [x.clone(), x.transpose(1, 2)?.contiguous()?.transpose(1, 2)?] {
            gradcheck(|x| rotary.forward(&x[0], 3), std::slice::from_ref(&x), Default::default())?;
            gradgradcheck(|x| rotary.forward(&x[0], 3)?.square(), &[x], Default::default())?;
        }
    }
    Ok(())
}

/// What rotary positions are for: only the distance counts. And turns do not change a length.
#[test]
fn rotary_products_know_the_distance_alone() -> Result<()> {
    let rng = &mut Rng(2);
    for pairs in BOTH {
        let rotary = Rotary::new(8, 10_000.0, pairs)?;
        let (q, k) = (smooth(rng, &[1, 8], -2.0, 2.0), smooth(rng, &[1, 8], -2.0, 2.0));
        let product = |m, n| rotary.forward(&q, m)?.mul(&rotary.forward(&k, n)?)?.sum(..)?.item::<f64>();
        for distance in [0, 1, 5] {
            let first = product(distance, 0)?;
            for n in [1, 17, 900] {
                assert!((product(n + distance, n)? - first).abs() < 1e-10, "{distance} from {n}");
            }
        }
        assert!((product(1, 0)? - product(2, 0)?).abs() > 1e-3);
        let norm = |x: Tensor| x.square()?.sum(..)?.item::<f64>();
        assert!((norm(rotary.forward(&q, 77)?)? - norm(q.clone())?).abs() < 1e-12);
        assert_close(&rotary.forward(&q, 0)?, &Naive::of(&q), 0.0, "place 0 stays");
    }
    Ok(())
}

/// Interleaved rows are half-split rows in another order.
#[test]
fn the_conventions_are_a_permutation_apart() -> Result<()> {
    let x = smooth(&mut Rng(3), &[2, 3, 5, 8], -2.0, 2.0);
    let half = Rotary::new(8, 50.0, RotaryPairs::HalfSplit)?.forward(&x, 4)?;
    let to_pairs = Tensor::new([0i64, 4, 1, 5, 2, 6, 3, 7])?; // half-split to interleaved
    let back = Tensor::new([0i64, 2, 4, 6, 1, 3, 5, 7])?;
    let x = x.index_select(-1, &to_pairs)?;
    let inter = Rotary::new(8, 50.0, RotaryPairs::Interleaved)?.forward(&x, 4)?.index_select(-1, &back)?;
    assert_close(&inter, &Naive::of(&half), 1e-14, "");
    Ok(())
}

/// One table serves places beyond it and other dtypes, and clones share it.
#[test]
fn rotary_tables_grow() -> Result<()> {
    let rng = &mut Rng(4);
    let rotary = Rotary::new(4, 100.0, RotaryPairs::HalfSplit)?;
    let x = smooth(rng, &[3, 4], -1.0, 1.0);
    for (offset, dtype) in [(3, DType::F32), (0, DType::F64), (9, DType::F64), (2, DType::F32), (500, DType::F64)] {
        let fresh = Rotary::new(4, 100.0, RotaryPairs::HalfSplit)?.forward(&x.to_dtype(dtype)?, offset)?;
        assert_close(&rotary.clone().forward(&x.to_dtype(dtype)?, offset)?, &Naive::of(&fresh), 0.0, "");
    }
    Ok(())
}

#[test]
fn sinusoids_are_the_papers() -> Result<()> {
    for width in [1, 2, 5, 8] {
        let y = sinusoidal_positions(3..9, width, DType::F64)?;
        let expected = Naive::from_fn(&[6, width], |at| {
            let angle = (at[0] + 3) as f64 / 10_000f64.powf((at[1] / 2 * 2) as f64 / width as f64);
            if at[1] % 2 == 0 { angle.sin() } else { angle.cos() }
        });
        assert_close(&y, &expected, 1e-14, "");
    }
    assert_eq!(sinusoidal_positions(0..0, 4, DType::F32)?.dims(), [0, 4]);
    assert_eq!(sinusoidal_positions(0..4, 0, DType::F32)?.dims(), [4, 0]);
    assert!(message(sinusoidal_positions(0..4, 4, DType::I64)).contains("float"));
    Ok(())
}

#[test]
fn gradients_are_differences() -> Result<()> {
    random::manual_seed(0);
    let rng = &mut Rng(5);
    let (x, z) = (smooth(rng, &[2, 3, 4], -1.0, 1.0), smooth(rng, &[2, 4, 3], -1.0, 1.0));
    let rotary = Rotary::new(2, 100.0, RotaryPairs::Interleaved)?;
    let grouped = MultiHeadAttentionOptions {
        num_kv_heads: Some(2),
        head_dim: Some(2),
        rotary: Some(rotary),
        ..Default::default()
    };
    check_gradients(
        || attention(4, 4, grouped.clone()),
        std::slice::from_ref(&x),
        |layer, x| layer.forward(&x[0], &x[0], &causal()),
    )?;
    let other = MultiHeadAttentionOptions { kv_width: Some(3), bias: false, ..Default::default() };
    let padding = Tensor::new([[false, true, false, false], [false, false, false, true]])?;
    let float = smooth(rng, &[1, 3, 4], -1.0, 1.0);
    check_gradients(
        || attention(4, 2, other.clone()),
        &[x, z, float],
        |layer, x| {
            let masks = AttentionMasks { attn_mask: Some(x[2].clone()), ..padded(&padding) };
            layer.forward(&x[0], &x[1], &masks)
        },
    )
}

/// Groups of query heads that share a head of keys are heads with the same keys.
#[test]
fn grouped_queries_are_repeated_heads() -> Result<()> {
    random::manual_seed(1);
    let options = |kv| MultiHeadAttentionOptions { num_kv_heads: Some(kv), ..Default::default() };
    let few = cast(attention(12, 6, options(2))?, DType::F64);
    let mut many = cast(attention(12, 6, options(6))?, DType::F64);
    let mut state = few.state_dict();
    for name in ["k_proj", "v_proj"] {
        for kind in ["weight", "bias"] {
            let t = &state[&format!("{name}.{kind}")];
            let heads = t.unflatten(0, [2, 2])?.repeat_interleave(3, 0)?.flatten(0, 1)?;
            state.insert(format!("{name}.{kind}"), heads);
        }
    }
    many.load_state_dict(&state)?;
    let x = smooth(&mut Rng(6), &[2, 5, 12], -1.0, 1.0);
    let (y, weights) = few.forward_with_weights(&x, &x, &causal())?;
    let (expected, all) = many.forward_with_weights(&x, &x, &causal())?;
    assert_close(&y, &Naive::of(&expected), 1e-13, "");
    assert_close(&weights, &Naive::of(&all), 1e-13, "weights");
    Ok(())
}

#[test]
fn padding_is_not_seen() -> Result<()> {
    let rng = &mut Rng(7);
    let layer = cast(attention(8, 2, Default::default())?, DType::F64);
    let (x, z) = (smooth(rng, &[2, 3, 8], -1.0, 1.0), smooth(rng, &[2, 5, 8], -1.0, 1.0));
    let padding = Tensor::new([[false, false, false, true, true], [false, false, false, false, false]])?;
    let seen = padding.logical_not()?;
    // As without the last two places, whatever stands there.
    let noise = z.masked_fill(&padding.unsqueeze(2)?, 1e3)?;
    let whole = layer.forward(&x, &z, &Default::default())?;
    let mut all = vec![padded(&padding)];
    let attn_mask = seen.reshape([2, 1, 1, 5])?;
    all.push(AttentionMasks { attn_mask: Some(attn_mask.clone()), ..Default::default() });
    let any = Tensor::ones([3, 5], DType::F64)?;
    all.push(AttentionMasks { attn_mask: Some(any.ne(0.0)?), ..padded(&padding) });
    all.push(AttentionMasks { attn_mask: Some(any), ..padded(&padding) });
    for masks in &all {
        for z in [&z, &noise] {
            let y = layer.forward(&x, z, masks)?;
            let cut = layer.forward(&x.narrow(0, 0, 1)?, &z.narrow(0, 0, 1)?.narrow(1, 0, 3)?, &Default::default())?;
            assert_close(&y.narrow(0, 0, 1)?, &Naive::of(&cut), 1e-13, "cut");
            assert_close(&y.narrow(0, 1, 1)?, &Naive::of(&whole.narrow(0, 1, 1)?), 1e-13, "not padded");
        }
        let (_, weights) = layer.forward_with_weights(&x, &z, masks)?;
        assert_eq!(weights.select(0, 0)?.narrow(2, 3, 2)?.abs()?.amax(..)?.item::<f64>()?, 0.0);
    }
    // No gradient either.
    let z = noise.requires_grad()?;
    let grads = layer.forward(&x, &z, &padded(&padding))?.square()?.sum(..)?.backward()?;
    let hidden = grads.get(&z).unwrap().select(0, 0)?.narrow(0, 3, 2)?;
    assert!(hidden.to_vec::<f64>()?.iter().all(|g| *g == 0.0));
    Ok(())
}

#[test]
fn a_text_of_padding_alone_gives_the_bias() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let layer = cast(attention(8, 2, Default::default())?, dtype);
        let x = Tensor::randn([2, 3, 8], dtype)?.requires_grad()?;
        let padding = Tensor::new([[true, true, true], [false, false, true]])?;
        for masks in [padded(&padding), AttentionMasks { causal: true, ..padded(&padding) }] {
            let (y, weights) = layer.forward_with_weights(&x, &x, &masks)?;
            let bias = layer.out_proj.bias.as_ref().unwrap().expand([3, 8])?;
            assert_close(&y.select(0, 0)?, &Naive::of(&bias), 0.0, "all hidden");
            assert!(weights.select(0, 0)?.to_f64_vec()?.iter().all(|w| *w == 0.0));
            let grads = y.square()?.sum(..)?.backward()?;
            for t in layer.parameters().iter().chain([&x]) {
                assert!(grads.get(t).unwrap().to_f64_vec()?.iter().all(|g| g.is_finite()));
            }
        }
    }
    Ok(())
}

#[test]
fn empty_sequences_are_no_trouble() -> Result<()> {
    let rotary = Some(Rotary::new(4, 100.0, RotaryPairs::HalfSplit)?);
    let layer = attention(8, 2, MultiHeadAttentionOptions { rotary, ..Default::default() })?;
    let zeros = |shape: [usize; 3]| Tensor::zeros(shape, DType::F32);
    for (x, z) in [([2, 0, 8], [2, 3, 8]), ([2, 3, 8], [2, 0, 8]), ([0, 3, 8], [0, 2, 8]), ([2, 0, 8], [2, 0, 8])] {
        let z = zeros(z)?;
        let padding = Tensor::zeros([z.size(0)?, z.size(1)?], DType::Bool)?;
        for masks in [padded(&padding), causal()] {
            let (y, weights) = layer.forward_with_weights(&zeros(x)?, &z, &masks)?;
            assert_eq!((y.dims(), weights.dims()), (&x[..], &[x[0], 2, x[1], z.size(1)?][..]));
            // No key to see: the bias, which starts as 0.
            assert!(z.size(1)? > 0 || y.to_vec::<f32>()?.iter().all(|y| *y == 0.0));
        }
    }
    Ok(())
}

#[test]
fn a_cache_gives_what_the_whole_gives() -> Result<()> {
    random::manual_seed(2);
    let rng = &mut Rng(8);
    for (pairs, kv) in [(None, 4), (Some(RotaryPairs::HalfSplit), 2), (Some(RotaryPairs::Interleaved), 1)] {
        let rotary = pairs.map(|pairs| Rotary::new(4, 100.0, pairs)).transpose()?;
        let options = MultiHeadAttentionOptions { num_kv_heads: Some(kv), rotary, ..Default::default() };
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            let layer = cast(attention(16, 4, options.clone())?, dtype);
            let x = smooth(rng, &[2, 9, 16], -1.0, 1.0).to_dtype(dtype)?;
            let whole = layer.forward(&x, &x, &causal())?;
            for steps in [&[1; 9][..], &[4, 1, 1, 3], &[9], &[0, 5, 4]] {
                let mut cache = AttentionCache::new(11);
                no_grad(|| -> Result<()> {
                    for &n in steps {
                        let at = cache.len();
                        let y = layer.forward_cached(&x.narrow(1, at, n)?, &causal(), &mut cache)?;
                        let what = format!("{n} from {at} on, {dtype}");
                        assert_close(&y, &Naive::of(&whole.narrow(1, at, n)?), tolerance, &what);
                    }
                    // Back, and once more.
                    cache.truncate(3);
                    let y = layer.forward_cached(&x.narrow(1, 3, 2)?, &causal(), &mut cache)?;
                    assert_close(&y, &Naive::of(&whole.narrow(1, 3, 2)?), tolerance, "after truncate");
                    cache.reset();
                    let one = x.narrow(0, 1, 1)?;
                    let y = layer.forward_cached(&one, &causal(), &mut cache)?;
                    assert_close(&y, &Naive::of(&whole.narrow(0, 1, 1)?), tolerance, "another batch after reset");
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_view_that_is_held_stays_as_it_was() -> Result<()> {
    let rows = |n: usize| Tensor::randn([2, 3, n, 4], DType::F32);
    let mut cache = AttentionCache::new(6);
    let (a, b) = (rows(2)?, rows(1)?.transpose(1, 2)?.contiguous()?.transpose(1, 2)?);
    let [held, _] = cache.append(&a, &a)?;
    cache.truncate(1);
    let [keys, _] = cache.append(&b, &b)?;
    assert_close(&held, &Naive::of(&a), 0.0, "held");
    assert_close(&keys, &Naive::of(&Tensor::cat(&[&a.narrow(2, 0, 1)?, &b], 2)?), 0.0, "");
    assert_eq!(keys.strides(), [3 * 6 * 4, 6 * 4, 4, 1], "a view of the whole room");
    Ok(())
}

#[test]
fn beams_continue_their_parents() -> Result<()> {
    let rows = |n: usize| Tensor::randn([3, 2, n, 4], DType::F32);
    let (a, b, c) = (rows(3)?, rows(3)?, rows(1)?);
    let mut cache = AttentionCache::new(8);
    cache.append(&a, &b)?;
    for parents in [vec![2i64, 0, 0], vec![0, 1, 2], vec![1], vec![0, 0, 0, 0, 0]] {
        let before = cache.get()?.unwrap();
        let parents = Tensor::new(parents)?;
        cache.reorder(&parents)?;
        for (now, before) in cache.get()?.unwrap().iter().zip(&before) {
            assert_close(now, &Naive::of(&before.index_select(0, &parents)?), 0.0, "");
        }
    }
    assert!(cache.append(&c, &c).is_err(), "three samples behind five");
    cache.reorder(&Tensor::new([0i64, 1, 2])?)?;
    let [keys, values] = cache.append(&c, &c)?;
    assert_close(&keys.narrow(2, 3, 1)?, &Naive::of(&c), 0.0, "");
    assert_eq!((cache.len(), values.dims()), (4, &[3, 2, 4, 4][..]));
    let bad = |parents: Tensor, cache: &mut AttentionCache| message(cache.reorder(&parents));
    assert!(bad(Tensor::new([3i64]).unwrap(), &mut cache).contains("index 3 is out of range"));
    assert!(bad(Tensor::new([0.5f32]).unwrap(), &mut cache).contains("i64"));
    assert!(bad(Tensor::new([[0i64]]).unwrap(), &mut cache).contains("dims"));
    assert_close(&cache.get()?.unwrap()[0], &Naive::of(&keys), 0.0, "as before the errors");
    Ok(())
}

#[test]
fn a_memory_is_looked_at_once() -> Result<()> {
    let layer = attention(8, 2, MultiHeadAttentionOptions { kv_width: Some(6), ..Default::default() })?;
    let (x, z) = (Tensor::randn([2, 3, 8], DType::F32)?, Tensor::randn([2, 5, 6], DType::F32)?);
    let padding = Tensor::new([[false, false, false, true, true], [false, false, false, false, false]])?;
    let masks = padded(&padding);
    let whole = layer.forward(&x, &z, &masks)?;
    let mut cache = AttentionCache::new(0);
    no_grad(|| -> Result<()> {
        for t in 0..3 {
            let z = if t == 0 { z.clone() } else { z.zeros_like()? };
            let y = layer.forward_memory(&x.narrow(1, t, 1)?, &z, &masks, &mut cache)?;
            assert_close(&y, &Naive::of(&whole.narrow(1, t, 1)?), 1e-5, "");
        }
        cache.reorder(&Tensor::new([1i64])?)?;
        let y = layer.forward_memory(&x.narrow(0, 1, 1)?, &z, &padded(&padding.narrow(0, 1, 1)?), &mut cache)?;
        assert_close(&y, &Naive::of(&whole.narrow(0, 1, 1)?), 1e-5, "the second alone");
        cache.reset();
        let longer = Tensor::randn([2, 9, 6], DType::F32)?;
        let y = layer.forward_memory(&x, &longer, &Default::default(), &mut cache)?;
        assert_close(&y, &Naive::of(&layer.forward(&x, &longer, &Default::default())?), 1e-5, "another memory");
        Ok(())
    })
}

#[test]
fn dropout_is_for_training() -> Result<()> {
    let mut layer = attention(8, 2, MultiHeadAttentionOptions { dropout: 0.5, ..Default::default() })?;
    let x = Tensor::randn([1, 6, 8], DType::F32)?;
    let run = |layer: &MultiHeadAttention| layer.forward(&x, &x, &Default::default())?.to_vec::<f32>();
    assert_ne!(run(&layer)?, run(&layer)?);
    layer.eval();
    assert_eq!(run(&layer)?, run(&layer)?);
    let printout = layer.describe().to_string();
    let expected = "\
MultiHeadAttention(
  num_heads=2, num_kv_heads=2
  (q_proj): Linear(in_features=8, out_features=8, bias=true)
  (k_proj): Linear(in_features=8, out_features=8, bias=true)
  (v_proj): Linear(in_features=8, out_features=8, bias=true)
  (out_proj): Linear(in_features=8, out_features=8, bias=true)
  (dropout): Dropout(p=0.5)
)";
    assert_eq!(printout, expected);
    Ok(())
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    let make = |width, heads, options| message(attention(width, heads, options));
    let kv = |n| MultiHeadAttentionOptions { num_kv_heads: Some(n), ..Default::default() };
    assert!(make(8, 3, Default::default()).contains("MultiHeadAttention: 3 heads do not divide a width of 8"));
    assert!(make(8, 0, Default::default()).contains("0 heads"));
    assert!(make(0, 2, Default::default()).contains("must not be 0"));
    assert!(make(8, 4, kv(3)).contains("3 heads of keys"));
    assert!(make(8, 4, kv(0)).contains("0 heads of keys"));
    assert!(make(8, 4, MultiHeadAttentionOptions { dropout: 2.0, ..Default::default() }).contains("probability"));

    let layer = attention(8, 2, Default::default())?;
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32).unwrap();
    let run = |x: &[usize], z: &[usize], masks: AttentionMasks| message(layer.forward(&ones(x), &ones(z), &masks));
    assert!(run(&[2, 3], &[2, 3, 8], Default::default()).contains("MultiHeadAttention: expected a tensor of 3 dims"));
    assert!(run(&[2, 3, 7], &[2, 3, 8], Default::default()).contains("expected [B, T, 8], got [2, 3, 7]"));
    assert!(run(&[2, 3, 8], &[2, 4, 9], Default::default()).contains("expected [B, T, 8], got [2, 4, 9]"));
    assert!(run(&[2, 3, 8], &[3, 4, 8], Default::default()).contains("scaled_dot_product_attention"));
    let mask = |m: Tensor| AttentionMasks { attn_mask: Some(m), ..Default::default() };
    let x = [2, 3, 8];
    assert!(run(&x, &x, padded(&ones(&[2, 3]))).contains("expected a bool key_padding_mask"));
    assert!(run(&x, &x, padded(&ones(&[2, 4]).ne(0.0)?)).contains("key_padding_mask of shape [2, 4] for keys [2, 3]"));
    assert!(run(&x, &x, mask(ones(&[3, 4]))).contains("cannot broadcast"));
    let both = AttentionMasks { attn_mask: Some(Tensor::new([1i64])?), ..padded(&ones(&[2, 3]).ne(1.0)?) };
    assert!(run(&x, &x, both).contains("expected a bool or float attn_mask"));

    let mut cache = AttentionCache::new(4);
    let cached =
        |n: usize, cache: &mut AttentionCache| message(layer.forward_cached(&ones(&[2, n, 8]), &causal(), cache));
    assert!(cached(1, &mut cache).contains("KvCache: has no gradient; detach() its input or use no_grad"));
    no_grad(|| {
        assert!(cached(5, &mut cache).contains("5 places do not fit behind 0 in a capacity of 4"));
        layer.forward_cached(&ones(&[2, 3, 8]), &causal(), &mut cache).unwrap();
        assert!(cached(2, &mut cache).contains("2 places do not fit behind 3 in a capacity of 4"));
        let other = message(layer.forward_cached(&ones(&[3, 1, 8]), &causal(), &mut cache));
        assert!(other.contains("keys [3, 2, 1, 4]") && other.contains("[2, 2, 4, 4]"), "{other}");
        assert_eq!(cache.len(), 3);
    });
    assert!(message(cache.append(&ones(&[2, 2, 1, 4]), &ones(&[2, 1, 1, 4]))).contains("differ beside the last dim"));
    assert!(message(cache.append(&ones(&[2, 2]), &ones(&[2, 2]))).contains("4 dims"));
    assert!(message(KvCache::new(2, 4).layers(3)).contains("a cache of 2 layers for a model of 3"));

    let rotary = |dim, base| message(Rotary::new(dim, base, RotaryPairs::HalfSplit));
    assert!(rotary(3, 10.0).contains("rotary: rows of 3 numbers"));
    assert!(
        rotary(0, 10.0).contains("rotary") && rotary(4, 0.0).contains("base 0") && rotary(4, f64::NAN).contains("NaN")
    );
    let rotary = Rotary::new(4, 10.0, RotaryPairs::HalfSplit)?;
    assert!(message(rotary.forward(&ones(&[2, 6]), 0)).contains("rotary: expected [.., T, 4], got [2, 6]"));
    assert!(message(rotary.forward(&ones(&[4]), 0)).contains("got [4]"));
    assert!(message(rotary.forward(&ones(&[2, 4]), usize::MAX)).contains("rotary: 2 places from"));
    assert!(message(rotary.forward(&Tensor::new([[1i64, 2, 3, 4]])?, 0)).contains("i64"));
    let (x, table) = (ones(&[2, 4]), ones(&[2, 2]));
    let turn = |cos: &Tensor, sin: &Tensor| message(x.rotary(cos, sin, RotaryPairs::HalfSplit));
    assert!(turn(&ones(&[3, 2]), &table).contains("got [2, 4], [3, 2] and [2, 2]"));
    assert!(turn(&table, &ones(&[2, 1])).contains("[2, 1]"));
    assert!(turn(&table.requires_grad()?, &table).contains("no gradient"));
    let with = MultiHeadAttentionOptions { rotary: Some(rotary), ..Default::default() };
    let crossed = attention(8, 2, with)?.forward_memory(&ones(&[1, 1, 8]), &ones(&[1, 2, 8]), &causal(), &mut cache);
    assert!(message(crossed).contains("rotary"));
    let stacked = [("a.in_proj_weight".to_string(), ones(&[4, 2]))].into_iter().collect();
    assert!(message(state_from_torch(&stacked)).contains("a.in_proj_weight [4, 2] does not stack three"));
    Ok(())
}
