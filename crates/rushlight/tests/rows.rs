//! Parts of a batch, each computed for itself: together they are the batch, dropout included.

use rushlight::nn::*;
use rushlight::{DType, Gradients, Result, Tensor, checkpoint, random};

/// Sums of the outputs of `rows`, and what all generators of the parts end with.
fn forward(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, parts: &[usize]) -> Result<(Vec<f64>, Vec<f64>)> {
    let of = x.dims()[0];
    let mut out = vec![];
    let mut next = vec![];
    for ends in parts.windows(2) {
        random::manual_seed(5);
        let part = x.narrow(0, ends[0], ends[1] - ends[0])?;
        out.extend(random::with_rows(ends[0]..ends[1], of, || f(&part))?.to_f64_vec()?);
        next.push(Tensor::rand((), DType::F64)?.item()?);
    }
    Ok((out, next))
}

#[test]
fn dropout_drops_the_same_of_a_part() -> Result<()> {
    // Rows of 3 and of 5 elements begin within a block of random numbers.
    for row in [3usize, 4, 5, 64] {
        let x = Tensor::ones([7, row], DType::F32)?;
        random::manual_seed(5);
        let whole = x.dropout(0.3)?.to_f64_vec()?;
        let after: f64 = Tensor::rand((), DType::F64)?.item()?;
        for parts in [vec![0, 7], vec![0, 1, 2, 3, 4, 5, 6, 7], vec![0, 4, 7]] {
            let (out, next) = forward(|x| x.dropout(0.3), &x, &parts)?;
            assert_eq!(out, whole, "{row} {parts:?}");
            assert!(next.iter().all(|v| *v == after), "the generators do not stay together");
        }
    }
    let error = random::with_rows(0..2, 4, || Tensor::ones(3, DType::F32).unwrap().dropout(0.5)).unwrap_err();
    assert!(error.to_string().contains("3 elements are not rows 0 to 2 of a batch of 4"), "{error}");
    assert!(random::with_rows(3..5, 4, || Tensor::ones(4, DType::F32).unwrap().dropout(0.5)).is_err());
    assert!(random::with_rows(2..2, 4, || Tensor::ones(4, DType::F32).unwrap().dropout(0.5)).is_err());
    Ok(())
}

#[test]
fn gradients_of_parts_with_dropout_add_up_to_that_of_the_batch() -> Result<()> {
    random::manual_seed(1);
    let options = TransformerOptions { dropout: 0.4, dim_feedforward: Some(12), ..TransformerOptions::default() };
    let layer = std::sync::Arc::new(TransformerEncoderLayer::new(8, 2, &options)?);
    let x = Tensor::randn([5, 3, 8], DType::F32)?;
    let loss = |x: &Tensor| -> Result<Tensor> {
        let layer = layer.clone();
        checkpoint(&[x], move |x| layer.forward(&x[0], &AttentionMasks::default()))?
            .flatten(0, 1)?
            .dropout(0.2)?
            .square()?
            .sum(..)
    };
    let run = |parts: &[usize]| -> Result<Gradients> {
        let mut sum = Gradients::new();
        for ends in parts.windows(2) {
            random::manual_seed(9);
            let part = x.narrow(0, ends[0], ends[1] - ends[0])?;
            sum.accumulate(random::with_rows(ends[0]..ends[1], 5, || loss(&part)?.backward())?)?;
        }
        Ok(sum)
    };
    let (whole, parts) = (run(&[0, 5])?, run(&[0, 2, 4, 5])?);
    for (name, p) in layer.named_parameters() {
        let (a, b) = (whole.get(&p).unwrap(), parts.get(&p).unwrap());
        let error: f32 = a.sub(b)?.abs()?.amax(..)?.item()?;
        assert!((error as f64) < 1e-6 * whole.norm()?, "{name}: {error}");
    }
    Ok(())
}
