//! Transformer layers and stacks: PyTorch's numbers, gradients, caches, masks.

mod common;
#[path = "common/layers.rs"]
mod layers;
#[path = "common/reference.rs"]
mod reference;

use common::{Naive, Rng, assert_close, message, smooth};
use layers::{cast, check, check_gradients};
use reference::{Case, load};
use rushlight::nn::*;
use rushlight::{DType, Result, RotaryPairs, Tensor, no_grad, random};

/// The options of a recorded layer.
fn recorded(c: &Case) -> TransformerOptions {
    TransformerOptions {
        dim_feedforward: Some(5),
        dropout: 0.0,
        activation: if c.arg::<String>("activation") == "relu" { Activation::Relu } else { Activation::Gelu },
        norm_first: c.arg("norm_first"),
        bias: c.arg::<Vec<String>>("names").iter().any(|n| n == "norm1.bias"),
        ..Default::default()
    }
}

/// As Llama's.
fn llama() -> Result<TransformerOptions> {
    Ok(TransformerOptions {
        dim_feedforward: Some(6),
        dropout: 0.0,
        activation: Activation::SwiGlu,
        norm: NormKind::RmsNorm,
        norm_first: true,
        bias: false,
        num_kv_heads: Some(1),
        rotary: Some(Rotary::new(2, 100.0, RotaryPairs::HalfSplit)?),
        ..Default::default()
    })
}

/// As GPT-2's, small.
fn gpt() -> TransformerOptions {
    let (dim_feedforward, activation) = (Some(6), Activation::GeluTanh);
    TransformerOptions { dim_feedforward, dropout: 0.0, activation, norm_first: true, ..Default::default() }
}

fn causal() -> AttentionMasks {
    AttentionMasks { causal: true, ..Default::default() }
}

#[test]
fn layers_are_pytorchs() {
    let cases = load("transformer");
    let mut seen = 0;
    for c in cases.iter().filter(|c| c.op.ends_with("_layer")) {
        let options = recorded(c);
        if c.op == "encoder_layer" {
            check(c, TransformerEncoderLayer::new(4, 2, &options).unwrap(), |layer, x, mask| {
                let key_padding_mask = mask("src_key_padding_mask");
                Ok(vec![layer.forward(&x[0], &AttentionMasks { key_padding_mask, ..Default::default() })?])
            });
        } else {
            check(c, TransformerDecoderLayer::new(4, 2, &options).unwrap(), |layer, x, mask| {
                let memory_key_padding_mask = mask("memory_key_padding_mask");
                let masks = DecoderMasks { memory_key_padding_mask, ..Default::default() };
                Ok(vec![layer.forward(&x[0], &x[1], &masks)?])
            });
        }
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn gradients_are_differences() -> Result<()> {
    random::manual_seed(3);
    let rng = &mut Rng(1);
    let (x, memory) = (smooth(rng, &[2, 3, 4], -1.0, 1.0), smooth(rng, &[2, 2, 4], -1.0, 1.0));
    let post = TransformerOptions { activation: Activation::Gelu, norm: NormKind::RmsNorm, norm_first: false, ..gpt() };
    for options in [llama()?, gpt(), post] {
        let make = || TransformerEncoderLayer::new(4, 2, &options);
        check_gradients(make, std::slice::from_ref(&x), |layer, x| layer.forward(&x[0], &causal()))?;
        let make = || TransformerDecoderLayer::new(4, 2, &options);
        check_gradients(make, &[x.clone(), memory.clone()], |layer, x| {
            layer.forward(&x[0], &x[1], &DecoderMasks::default())
        })?;
    }
    for activation in [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::SwiGlu] {
        for bias in [false, true] {
            let make = || FeedForward::new(4, 3, activation, bias, 0.0);
            check_gradients(make, std::slice::from_ref(&x), |layer, x| layer.forward(&x[0]))?;
        }
    }
    Ok(())
}

#[test]
fn a_feed_forward_is_its_formula() -> Result<()> {
    let x = Tensor::randn([2, 3, 4], DType::F32)?;
    for activation in [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::SwiGlu] {
        let layer = FeedForward::new(4, 5, activation, true, 0.0)?;
        let up = layer.up_proj.forward(&x)?;
        let hidden = match activation {
            Activation::Relu => up.relu()?,
            Activation::Gelu => up.gelu()?,
            Activation::GeluTanh => up.gelu_tanh()?,
            Activation::SwiGlu => {
                let gate = layer.gate_proj.as_ref().unwrap().forward(&x)?;
                gate.mul(&gate.sigmoid()?)?.mul(&up)?
            }
        };
        assert_close(
            &layer.forward(&x)?,
            &Naive::of(&layer.down_proj.forward(&hidden)?),
            1e-6,
            &format!("{activation:?}"),
        );
    }
    Ok(())
}

#[test]
fn cached_steps_give_what_the_whole_gives() -> Result<()> {
    random::manual_seed(4);
    let rng = &mut Rng(2);
    let post = TransformerOptions { norm_first: false, ..gpt() };
    for options in [llama()?, gpt(), post] {
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-4)] {
            let encoder = cast(TransformerEncoder::new(3, 4, 2, &options)?, dtype);
            let decoder = cast(TransformerDecoder::new(2, 4, 2, &options)?, dtype);
            assert_eq!(encoder.norm.is_some(), options.norm_first);
            let x = smooth(rng, &[2, 7, 4], -1.0, 1.0).to_dtype(dtype)?;
            let memory = smooth(rng, &[2, 5, 4], -1.0, 1.0).to_dtype(dtype)?;
            let memory_key_padding_mask =
                Some(Tensor::new([[false, false, true, false, true], [false, true, false, false, false]])?);
            let masks = DecoderMasks { memory_key_padding_mask, ..Default::default() };
            let whole = [encoder.forward(&x, &causal())?, decoder.forward(&x, &memory, &masks)?];
            for steps in [&[1; 7][..], &[3, 1, 2, 1]] {
                let (mut own, mut both) = (KvCache::new(3, 7), KvCache::new(2, 8));
                no_grad(|| -> Result<()> {
                    for &n in steps {
                        let at = own.len();
                        let new = x.narrow(1, at, n)?;
                        let y = [
                            encoder.forward_cached(&new, &causal(), &mut own)?,
                            decoder.forward_cached(&new, &memory, &masks, &mut both)?,
                        ];
                        for (y, whole) in y.iter().zip(&whole) {
                            let whole = Naive::of(&whole.narrow(1, at, n)?);
                            assert_close(y, &whole, tolerance, &format!("{n} from {at} on, {dtype}"));
                        }
                    }
                    // The samples exchanged, the last three places taken back.
                    let swap = Tensor::new([1i64, 0])?;
                    both.truncate(4);
                    both.reorder(&swap)?;
                    let new = x.index_select(0, &swap)?.narrow(1, 4, 3)?;
                    let swapped = masks.memory_key_padding_mask.as_ref().unwrap().index_select(0, &swap)?;
                    let masks = DecoderMasks { memory_key_padding_mask: Some(swapped), ..Default::default() };
                    let y = decoder.forward_cached(&new, &memory, &masks, &mut both)?;
                    let expected = whole[1].index_select(0, &swap)?.narrow(1, 4, 3)?;
                    assert_close(&y, &Naive::of(&expected), tolerance, "exchanged");
                    assert_eq!((both.len(), both.capacity()), (7, 8));
                    both.reset();
                    assert!(both.is_empty());
                    let y = decoder.forward_cached(&x, &memory.neg()?, &DecoderMasks::default(), &mut both)?;
                    let expected = decoder.forward(&x, &memory.neg()?, &DecoderMasks::default())?;
                    assert_close(&y, &Naive::of(&expected), tolerance, "another memory after reset");
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn padding_changes_nothing() -> Result<()> {
    random::manual_seed(5);
    let rng = &mut Rng(3);
    let encoder = cast(TransformerEncoder::new(2, 4, 2, &gpt())?, DType::F64);
    let decoder = cast(TransformerDecoder::new(2, 4, 2, &gpt())?, DType::F64);
    let (x, z) = (smooth(rng, &[2, 5, 4], -1.0, 1.0), smooth(rng, &[2, 5, 4], -1.0, 1.0));
    let padding = Tensor::new([[false, false, false, true, true], [false; 5]])?;
    let run = |noise: f64| -> Result<[Tensor; 2]> {
        let fill = |t: &Tensor| t.masked_fill(&padding.unsqueeze(2)?, noise);
        let own = AttentionMasks { key_padding_mask: Some(padding.clone()), ..Default::default() };
        let memory = encoder.forward(&fill(&z)?, &own)?;
        let masks = DecoderMasks {
            tgt_key_padding_mask: Some(padding.clone()),
            memory_key_padding_mask: Some(padding.clone()),
            ..Default::default()
        };
        let (y, weights) = decoder.forward_with_weights(&fill(&x)?, &memory, &masks)?;
        assert_close(&decoder.forward(&fill(&x)?, &memory, &masks)?, &Naive::of(&y), 0.0, "without weights");
        assert_eq!(weights.len(), 2);
        for w in weights {
            assert_eq!(w.dims(), [2, 2, 5, 5]);
            assert!(w.select(0, 0)?.narrow(2, 3, 2)?.to_vec::<f64>()?.iter().all(|w| *w == 0.0));
        }
        Ok([memory.select(0, 0)?.narrow(0, 0, 3)?, y.select(0, 0)?.narrow(0, 0, 3)?])
    };
    let (a, b) = (run(0.5)?, run(-7.0)?);
    let cut = |t: &Tensor| t.narrow(0, 0, 1)?.narrow(1, 0, 3);
    let memory = encoder.forward(&cut(&z)?, &Default::default())?;
    let y = decoder.forward(&cut(&x)?, &memory, &Default::default())?;
    for (i, alone) in [memory, y].iter().enumerate() {
        let alone = Naive::of(&alone.select(0, 0)?);
        assert_close(&a[i], &alone, 1e-12, "without the padding");
        assert_close(&b[i], &alone, 1e-12, "other padding");
    }
    // Padding in front, which causal attention alone would see.
    let front = Tensor::new([[true, true, false, false, false]])?;
    let masks = DecoderMasks { tgt_key_padding_mask: Some(front.clone()), ..Default::default() };
    let (x, memory) = (x.narrow(0, 0, 1)?, z.narrow(0, 0, 1)?);
    let alone = decoder.forward(&x.narrow(1, 2, 3)?, &memory, &Default::default())?;
    for noise in [0.5, -7.0] {
        let y = decoder.forward(&x.masked_fill(&front.unsqueeze(2)?, noise)?, &memory, &masks)?;
        assert_close(&y.narrow(1, 2, 3)?, &Naive::of(&alone), 1e-12, "without the padding in front");
    }
    // Nothing but padding: finite all the same.
    let hidden = AttentionMasks { key_padding_mask: Some(Tensor::new([[true; 5], [false; 5]])?), ..Default::default() };
    let y = encoder.forward(&z, &hidden)?;
    assert!(y.to_vec::<f64>()?.iter().all(|y| y.is_finite()));
    Ok(())
}

#[test]
fn a_decoder_does_not_look_ahead() -> Result<()> {
    let decoder = TransformerDecoder::new(2, 4, 2, &gpt())?;
    let (x, memory) = (Tensor::randn([1, 5, 4], DType::F32)?, Tensor::randn([1, 3, 4], DType::F32)?);
    let changed = Tensor::cat(&[x.narrow(1, 0, 3)?, Tensor::randn([1, 2, 4], DType::F32)?], 1)?;
    let masks = DecoderMasks::default();
    let (a, b) = (decoder.forward(&x, &memory, &masks)?, decoder.forward(&changed, &memory, &masks)?);
    assert_close(&a.narrow(1, 0, 3)?, &Naive::of(&b.narrow(1, 0, 3)?), 1e-6, "before the change");
    assert!(a.narrow(1, 4, 1)?.sub(&b.narrow(1, 4, 1)?)?.abs()?.amax(..)?.item::<f32>()? > 1e-3);
    Ok(())
}

#[test]
fn they_are_modules() -> Result<()> {
    let mut model = TransformerDecoder::new(1, 4, 2, &TransformerOptions::default())?;
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    let attention = ["q_proj", "k_proj", "v_proj", "out_proj"];
    let mut expected = vec![];
    for part in ["self_attn", "multihead_attn"] {
        expected.extend(attention.map(|n| format!("{part}.{n}")));
    }
    expected.extend(["feed_forward.up_proj", "feed_forward.down_proj", "norm1", "norm2", "norm3"].map(String::from));
    let both = |n: &String| ["weight", "bias"].map(|kind| format!("layers.0.{n}.{kind}"));
    assert_eq!(names, expected.iter().flat_map(both).collect::<Vec<_>>());
    assert_eq!(model.layers[0].feed_forward.up_proj.weight.dims(), [16, 4]);

    let (x, memory) = (Tensor::randn([1, 3, 4], DType::F32)?, Tensor::randn([1, 2, 4], DType::F32)?);
    let run = |m: &TransformerDecoder| m.forward(&x, &memory, &Default::default())?.to_vec::<f32>();
    assert_ne!(run(&model)?, run(&model)?, "dropout");
    model.eval();
    assert_eq!(run(&model)?, run(&model)?);
    let mut other = TransformerDecoder::new(1, 4, 2, &TransformerOptions::default())?;
    other.eval();
    other.load_state_dict(&model.state_dict())?;
    assert_eq!(run(&model)?, run(&other)?);

    let llama = TransformerEncoderLayer::new(4, 2, &llama()?)?;
    let expected = "\
TransformerEncoderLayer(
  (self_attn): MultiHeadAttention(
    num_heads=2, num_kv_heads=1
    (q_proj): Linear(in_features=4, out_features=4, bias=false)
    (k_proj): Linear(in_features=4, out_features=2, bias=false)
    (v_proj): Linear(in_features=4, out_features=2, bias=false)
    (out_proj): Linear(in_features=4, out_features=4, bias=false)
    (dropout): Dropout(p=0)
    (rotary): Rotary(2, base=100, pairs=HalfSplit)
  )
  (feed_forward): FeedForward(
    (activation): Activation(SwiGlu)
    (gate_proj): Linear(in_features=4, out_features=6, bias=false)
    (up_proj): Linear(in_features=4, out_features=6, bias=false)
    (down_proj): Linear(in_features=6, out_features=4, bias=false)
    (dropout): Dropout(p=0)
  )
  (norm1): RmsNorm([4], eps=1e-5)
  (norm2): RmsNorm([4], eps=1e-5)
  (residual): Residual(
    norm_first=true
    (dropout): Dropout(p=0)
  )
)";
    assert_eq!(llama.describe().to_string(), expected);
    Ok(())
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    assert!(
        message(TransformerEncoder::new(1, 6, 4, &Default::default())).contains("4 heads do not divide a width of 6")
    );
    let drop = TransformerOptions { dropout: 1.5, ..Default::default() };
    assert!(message(TransformerDecoderLayer::new(4, 2, &drop)).contains("1.5 is no probability"));
    let decoder = TransformerDecoder::new(2, 4, 2, &gpt())?;
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32).unwrap();
    let run = |x: &[usize], m: &[usize]| message(decoder.forward(&ones(x), &ones(m), &DecoderMasks::default()));
    assert!(run(&[1, 2, 5], &[1, 2, 4]).contains("[1, 2, 5]"));
    assert!(run(&[1, 2, 4], &[1, 2, 5]).contains("expected [B, T, 4], got [1, 2, 5]"));
    assert!(run(&[1, 2, 4], &[2, 2, 4]).contains("scaled_dot_product_attention"));
    let (x, mut cache) = (ones(&[1, 2, 4]), KvCache::new(1, 4));
    let cached = |cache: &mut KvCache| message(decoder.forward_cached(&x, &x, &DecoderMasks::default(), cache));
    assert!(cached(&mut cache).contains("KvCache: a cache of 1 layers for a model of 2"));
    assert!(no_grad(|| cached(&mut KvCache::new(2, 1))).contains("2 places do not fit behind 0 in a capacity of 1"));
    let mut network = FeedForward::new(4, 4, Activation::SwiGlu, true, 0.0)?;
    network.gate_proj = None;
    assert!(message(network.forward(&x)).contains("FeedForward: SwiGlu needs its gate_proj"));
    Ok(())
}
