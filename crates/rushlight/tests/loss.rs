//! Losses by their definitions, PyTorch's conventions, and gradients twice, over random shapes and layouts.

mod common;

use common::*;
use rushlight::loss::{self, CrossEntropy, Reduction};
use rushlight::{DType, GradCheck, Result, Tensor, grad, gradcheck, gradgradcheck};

const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

fn both(name: &str, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    gradcheck(f, inputs, GradCheck::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    // A function after it makes dy depend on the inputs, so that the rule is differentiated by dy as well.
    gradgradcheck(|t| f(t)?.sin(), inputs, GradCheck::default()).unwrap_or_else(|e| panic!("{name}, twice: {e}"));
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.requires_grad().unwrap()).collect();
    let y = f(&inputs).unwrap();
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let loss = y.mul(y.detach().cos().unwrap()).unwrap().sum(..).unwrap();
    let [fused, made] = [false, true].map(|c| grad(&[&loss], &refs, c).unwrap());
    for (fused, made) in fused.iter().zip(&made) {
        assert_close(fused.as_ref().unwrap(), &Naive::of(made.as_ref().unwrap()), 1e-12, name);
    }
}

/// The losses by their formula, reduced.
fn reduce(losses: Naive, reduction: Reduction, total: f64) -> Naive {
    let sum: f64 = losses.data.iter().sum();
    match reduction {
        Reduction::None => losses,
        Reduction::Sum => Naive { shape: vec![], data: vec![sum] },
        Reduction::Mean => Naive { shape: vec![], data: vec![sum / total] },
    }
}

/// `−Σ q_c ln softmax(x)_c` for each place beside `dim`, where `q(place, class)`.
fn naive_cross_entropy(x: &Naive, dim: usize, q: impl Fn(&[usize], usize) -> f64) -> Naive {
    let mut shape = x.shape.clone();
    let classes = shape.remove(dim);
    Naive::from_fn(&shape, |place| {
        let at = |c: usize| x.at(&[&place[..dim], &[c], &place[dim..]].concat());
        let log = (0..classes).map(|c| at(c).exp()).sum::<f64>().ln();
        (0..classes).map(|c| q(place, c)).zip(0..).filter(|(q, _)| *q != 0.0).map(|(q, c)| q * (log - at(c))).sum()
    })
}

const LOGITS: [&[usize]; 8] = [&[4], &[3, 5], &[1, 1], &[7, 2], &[2, 3, 4], &[2, 1, 2, 2], &[0, 3], &[2, 3, 0]];

#[test]
fn cross_entropy_of_classes_is_its_definition() {
    let rng = &mut Rng(1);
    for shape in LOGITS {
        let dim = 1.min(shape.len() - 1);
        let classes = shape[dim];
        for (weighted, label_smoothing, reduction) in [false, true]
            .into_iter()
            .flat_map(|w| [0.0, 0.3].map(|s| (w, s)))
            .flat_map(|(w, s)| REDUCTIONS.map(|r| (w, s, r)))
        {
            let x = tensor(rng, shape, DType::F64);
            let weight = smooth(rng, &[classes], 0.5, 2.0);
            let mut beside = shape.to_vec();
            beside.remove(dim);
            // One of the classes, or −1, stands for nothing.
            let ignore_index = if rng.chance(2) { -1 } else { 0 };
            let target: Vec<i64> = indices(&beside)
                .iter()
                .map(|_| if rng.chance(4) { ignore_index } else { rng.below(classes) as i64 })
                .collect();
            let target = Tensor::from_vec(target, beside).unwrap();
            let (naive, at, w) = (Naive::of(&x), Naive::of(&target), Naive::of(&weight));
            let w = |c: usize| if weighted { w.at(&[c]) } else { 1.0 };
            let q = |place: &[usize], c: usize| match at.at(place) as i64 {
                t if t == ignore_index => 0.0,
                t => {
                    let hot = if t == c as i64 { 1.0 } else { 0.0 };
                    w(c) * ((1.0 - label_smoothing) * hot + label_smoothing / classes as f64)
                }
            };
            let counted = at.data.iter().map(|&t| t as i64).filter(|t| *t != ignore_index);
            let total: f64 = counted.map(|t| w(t as usize)).sum();
            let expected = reduce(naive_cross_entropy(&naive, dim, q), reduction, total);
            let options = CrossEntropy { weight: weighted.then_some(weight), ignore_index, label_smoothing, reduction };
            assert_close(&options.forward(&x, &target).unwrap(), &expected, 1e-12, "cross_entropy");
            let halves = options.forward(&x.to_dtype(DType::F16).unwrap(), &target).unwrap();
            assert_eq!(halves.dtype(), DType::F16);
            assert_close(&halves, &expected, 2e-2, "cross_entropy, f16");

            if label_smoothing == 0.0 {
                let log_p = x.log_softmax(dim).unwrap();
                assert_close(&options.forward_log(&log_p, &target).unwrap(), &expected, 1e-12, "nll_loss");
            }
            // The mean of nothing is NaN, everywhere around.
            let some = total > 0.0 || reduction != Reduction::Mean;
            if shape.len() < 4 && some {
                both("cross_entropy", &[x.contiguous().unwrap()], &|t| options.forward(&t[0], &target));
                both("nll_loss", &[x], &|t| options.forward_log(&t[0], &target));
            }
        }
    }
}

#[test]
fn cross_entropy_of_distributions_is_its_definition() {
    let rng = &mut Rng(2);
    for shape in LOGITS {
        let dim = 1.min(shape.len() - 1);
        let classes = shape[dim];
        for (reduction, label_smoothing) in REDUCTIONS.into_iter().zip([0.0, 0.2, 0.1]) {
            let x = tensor(rng, shape, DType::F64);
            let target = smooth(rng, shape, 0.0, 1.0).softmax(dim).unwrap();
            let weight = smooth(rng, &[classes], 0.5, 2.0);
            let (t, w) = (Naive::of(&target), Naive::of(&weight));
            let q = |place: &[usize], c: usize| {
                let given = t.at(&[&place[..dim], &[c], &place[dim..]].concat());
                w.at(&[c]) * ((1.0 - label_smoothing) * given + label_smoothing / classes as f64)
            };
            let total = shape.iter().product::<usize>() as f64 / classes as f64;
            let expected = reduce(naive_cross_entropy(&Naive::of(&x), dim, q), reduction, total);
            let options =
                CrossEntropy { weight: Some(weight.clone()), label_smoothing, reduction, ..Default::default() };
            assert_close(&options.forward(&x, &target).unwrap(), &expected, 1e-12, "soft cross_entropy");
            let all = [x.contiguous().unwrap(), target];
            both("soft cross_entropy", &all, &|t| options.forward(&t[0], &t[1]));
        }
    }
    // A weight that is learnt gets its gradient, whichever way the loss is computed.
    let (x, w) = (smooth(rng, &[3, 2], -1.0, 1.0), smooth(rng, &[2], 0.5, 2.0));
    let target = Tensor::new([1i64, 0, 1]).unwrap();
    both("learnt weight", &[x, w], &|t| {
        CrossEntropy { weight: Some(t[1].clone()), label_smoothing: 0.1, ..Default::default() }.forward(&t[0], &target)
    });
}

/// Computed with PyTorch 2.
#[test]
fn cross_entropy_follows_pytorch_where_a_definition_leaves_room() -> Result<()> {
    let x = Tensor::new([[1.0f64, 2.0, -1.0], [0.5, -0.3, 0.2]])?;
    let weight = Some(Tensor::new([0.5f64, 2.0, 1.5])?);
    let soft = Tensor::new([[0.2f64, 0.5, 0.3], [0.0, 1.0, 0.0]])?;
    let mean = CrossEntropy { weight, label_smoothing: 0.1, ..Default::default() };
    let is = |got: Result<Tensor>, expected: f64| -> Result<()> {
        let got = got?.item::<f64>()?;
        assert!((got - expected).abs() < 5e-5 || got.is_nan() && expected.is_nan(), "{got} for {expected}");
        Ok(())
    };
    is(mean.forward(&x, &soft), 2.5145)?;
    is(mean.forward(&x, &Tensor::new([2i64, 0])?), 2.6300)?;
    is(mean.forward(&x, &Tensor::new([2i64, -100])?), 3.1562)?;
    // Nothing but ignored targets, or nothing at all: the mean of nothing.
    let none = Tensor::new([-100i64, -100])?;
    is(loss::cross_entropy(&x, &none), f64::NAN)?;
    is(CrossEntropy { reduction: Reduction::Sum, ..Default::default() }.forward(&x, &none), 0.0)?;
    is(loss::cross_entropy(&x.narrow(0, 0, 0)?, &none.narrow(0, 0, 0)?), f64::NAN)?;
    // A class ruled out by −∞, and logits of 1e4.
    let x = Tensor::new([[1.0f64, f64::NEG_INFINITY, 0.0], [1e4, -1e4, 1e4]])?.requires_grad()?;
    let y = loss::cross_entropy(&x, &Tensor::new([0i64, 2])?)?;
    is(Ok(y.clone()), (0.3133 + 2f64.ln()) / 2.0)?;
    for create_graph in [false, true] {
        let dx = grad(&[&y], &[&x], create_graph)?.remove(0).unwrap().to_vec::<f64>()?;
        let expected = [-0.2689 / 2.0, 0.0, 0.2689 / 2.0, 0.25, 0.0, -0.25];
        assert!(dx.iter().zip(expected).all(|(a, b)| (a - b).abs() < 5e-5), "{dx:?}");
    }
    Ok(())
}

#[test]
fn an_ignored_sample_of_nan_has_no_part_in_loss_or_gradient() -> Result<()> {
    let x = Tensor::new([[f32::NAN, 1.0], [0.0, 0.0]])?.requires_grad()?;
    let target = Tensor::new([-100i64, 1])?;
    let y = loss::cross_entropy(&x, &target)?;
    assert!((y.item::<f32>()? - 2f32.ln()).abs() < 1e-6);
    for create_graph in [false, true] {
        let dx = grad(&[&y], &[&x], create_graph)?.remove(0).unwrap();
        assert_eq!(dx.to_vec::<f32>()?, [0.0, 0.0, 0.5, -0.5]);
    }
    Ok(())
}

#[test]
fn the_mean_over_more_samples_than_f16_counts() -> Result<()> {
    let x = Tensor::zeros([70_000, 2], DType::F16)?;
    let target = Tensor::zeros(70_000, DType::I64)?;
    for weight in [None, Some(Tensor::full(2, 2.0, DType::F32)?)] {
        let mean = CrossEntropy { weight, ..Default::default() }.forward(&x, &target)?;
        assert!((mean.item::<f64>()? - 2f64.ln()).abs() < 1e-3, "{mean}");
    }
    Ok(())
}

type Loss = fn(&Tensor, &Tensor, Reduction) -> Result<Tensor>;

#[test]
fn elementwise_losses_are_their_definitions() {
    fn huber(d: f64, delta: f64) -> f64 {
        if d.abs() < delta { d * d / 2.0 } else { delta * (d.abs() - delta / 2.0) }
    }
    type Entry = (&'static str, (f64, f64), Loss, fn(f64, f64) -> f64);
    let losses: &[Entry] = &[
        ("mse", (-2.0, 2.0), loss::mse_loss, |x, t| (x - t) * (x - t)),
        ("l1", (-2.0, 2.0), loss::l1_loss, |x, t| (x - t).abs()),
        ("smooth l1", (-2.0, 2.0), |x, t, r| loss::smooth_l1_loss(x, t, 0.5, r), |x, t| huber(x - t, 0.5) / 0.5),
        ("smooth l1, 0", (-2.0, 2.0), |x, t, r| loss::smooth_l1_loss(x, t, 0.0, r), |x, t| (x - t).abs()),
        ("huber", (-2.0, 2.0), |x, t, r| loss::huber_loss(x, t, 1.5, r), |x, t| huber(x - t, 1.5)),
        (
            "bce",
            (0.05, 0.95),
            |p, t, reduction| loss::binary_cross_entropy(p, t, None, reduction),
            |p, t| -t * p.ln() - (1.0 - t) * (1.0 - p).ln(),
        ),
        (
            "bce with logits",
            (-3.0, 3.0),
            |x, t, r| loss::binary_cross_entropy_with_logits(x, t, None, None, r),
            |x, t| x.max(0.0) - x * t + (-x.abs()).exp().ln_1p(),
        ),
        ("kl", (0.1, 2.0), |x, t, r| loss::kl_div(x, t, false, false, r), |x, t| t * (t.ln() - x)),
        ("kl of logs", (-2.0, 0.0), |x, t, r| loss::kl_div(x, t, true, false, r), |x, t| t.exp() * (t - x)),
    ];
    let rng = &mut Rng(3);
    for (name, (low, high), f, formula) in losses {
        for shape in [vec![], vec![3], vec![2, 1], vec![2, 3, 2], vec![0, 2]] {
            let inputs = [smooth(rng, &shape, *low, *high), smooth(rng, &shape, *low, *high)];
            let (x, t) = (Naive::of(&inputs[0]), Naive::of(&inputs[1]));
            let apart = Naive::from_fn(&shape, |i| formula(x.at(i), t.at(i)));
            for reduction in REDUCTIONS {
                let expected = reduce(apart.clone(), reduction, apart.data.len() as f64);
                assert_close(&f(&inputs[0], &inputs[1], reduction).unwrap(), &expected, 1e-12, name);
            }
            both(name, &inputs, &|t| f(&t[0], &t[1], Reduction::None));
            both(name, &inputs, &|t| f(&t[0], &t[1], Reduction::Sum));
        }
        let (x, t) = (Tensor::ones([2, 1], DType::F32).unwrap(), Tensor::ones(2, DType::F32).unwrap());
        let text = message(f(&x, &t, Reduction::Mean));
        assert!(text.contains("[2, 1]") && text.contains("[2]"), "{name}: {text}");
    }
}

#[test]
fn binary_cross_entropy_at_its_ends() -> Result<()> {
    // Values and gradients of PyTorch, whose logarithms stop at −100.
    let sum = |p: [f32; 3], t: [f32; 3]| -> Result<(f32, Vec<f32>)> {
        let p = Tensor::new(p)?.requires_grad()?;
        let y = loss::binary_cross_entropy(&p, &Tensor::new(t)?, None, Reduction::Sum)?;
        Ok((y.item()?, y.backward()?.get(&p).unwrap().to_vec()?))
    };
    let (y, dp) = sum([0.0, 1.0, 0.3], [0.0, 1.0, 1.0])?;
    assert!((y - 1.2040).abs() < 1e-4 && dp[..2] == [0.0, 0.0] && (dp[2] + 3.3333).abs() < 1e-4, "{y} {dp:?}");
    let (y, dp) = sum([0.0, 1.0, 0.3], [1.0, 0.0, 0.5])?;
    assert!((y - 200.7803).abs() < 1e-3 && (dp[0] / -1e12 - 1.0).abs() < 1e-6 && (dp[1] / 1e12 - 1.0).abs() < 1e-6);
    let one = Tensor::ones(1, DType::F32)?;
    for bad in [1.5, -0.1, f64::NAN] {
        let text = message(loss::binary_cross_entropy(&one.full_like(bad)?, &one, None, Reduction::Mean));
        assert!(text.contains("is no probability"), "{text}");
    }
    // With logits there is no end: no overflow at 800, and gradients σ(x) − t.
    let x = Tensor::new([800.0f32, -800.0, 0.0])?.requires_grad()?;
    let t = Tensor::new([0.0f32, 1.0, 1.0])?;
    let y = loss::binary_cross_entropy_with_logits(&x, &t, None, None, Reduction::None)?;
    assert_eq!(y.to_vec::<f32>()?[..2], [800.0, 800.0]);
    assert_eq!(y.sum(..)?.backward()?.get(&x).unwrap().to_vec::<f32>()?, [1.0, -1.0, -0.5]);
    Ok(())
}

#[test]
fn weights_of_binary_cross_entropy_broadcast() {
    let rng = &mut Rng(4);
    let (x, t) = (smooth(rng, &[3, 2], -3.0, 3.0), smooth(rng, &[3, 2], 0.0, 1.0));
    let (w, pos) = (smooth(rng, &[3, 1], 0.5, 2.0), smooth(rng, &[2], 0.5, 2.0));
    let [nx, nt, nw, np] = [&x, &t, &w, &pos].map(Naive::of);
    let expected = Naive::from_fn(&[3, 2], |i| {
        let (x, t) = (nx.at(i), nt.at(i));
        let (log_p, log_q) = (-(-x).exp().ln_1p(), -x.exp().ln_1p());
        -nw.broadcast_at(i) * (np.broadcast_at(i) * t * log_p + (1.0 - t) * log_q)
    });
    let f =
        |t: &[Tensor]| loss::binary_cross_entropy_with_logits(&t[0], &t[1], Some(&t[2]), Some(&t[3]), Reduction::None);
    let inputs = [x, t, w, pos];
    assert_close(&f(&inputs).unwrap(), &expected, 1e-12, "weighted");
    both("weighted", &inputs, &f);
}

#[test]
fn where_two_pieces_meet_and_at_zero() -> Result<()> {
    let x = Tensor::new([0.0f64, 1.0, -1.0, 3.0, f64::INFINITY])?.requires_grad()?;
    let t = x.detach().zeros_like()?;
    let y = loss::huber_loss(&x, &t, 1.0, Reduction::None)?;
    assert_eq!(y.to_vec::<f64>()?, [0.0, 0.5, 0.5, 2.5, f64::INFINITY]);
    let dx = grad(&[&y.sum(..)?], &[&x], true)?.remove(0).unwrap();
    assert_eq!(dx.to_vec::<f64>()?, [0.0, 1.0, -1.0, 1.0, 1.0]);
    // The curvature at 0 is 1, not that of |x|.
    let second = grad(&[&dx.select(0, 0)?], &[&x], false)?.remove(0).unwrap();
    assert_eq!(second.to_vec::<f64>()?[0], 1.0);
    Ok(())
}

#[test]
fn kl_divergence_is_zero_of_itself_and_takes_zeros() -> Result<()> {
    let p = Tensor::new([[0.0f64, 0.25, 0.75], [0.5, 0.5, 0.0]])?;
    let q = Tensor::new([[0.2f64, 0.3, 0.5], [0.4, 0.4, 0.2]])?;
    let of = |log: &Tensor, p: &Tensor| loss::kl_div(log, p, false, true, Reduction::Mean)?.item::<f64>();
    let expected = 0.25 * (0.25f64 / 0.3).ln() + 0.75 * (0.75f64 / 0.5).ln() + (0.5f64 / 0.4).ln();
    assert!((of(&q.log()?, &p)? - expected / 2.0).abs() < 1e-12);
    assert!(of(&q.log()?, &q)?.abs() < 1e-15);
    Ok(())
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    let x = Tensor::ones([2, 3], DType::F32)?;
    let text = message(loss::cross_entropy(&x, &Tensor::new([0i64, 3])?));
    assert!(text.contains("target 3 at index 1 is outside the 3 classes"), "{text}");
    let text = message(loss::nll_loss(&x, &Tensor::new([-1i64, 0])?));
    assert!(text.contains("nll_loss: target -1 at index 0"), "{text}");
    let text = message(loss::cross_entropy(&x, &Tensor::new([0i64, 1, 2])?));
    assert!(text.contains("[3]") && text.contains("expected i64 of shape [2]"), "{text}");
    assert!(message(loss::cross_entropy(&x, &Tensor::new([0u8, 1])?)).contains("u8"));
    assert!(message(loss::nll_loss(&x, &x)).contains("expected i64"));
    assert!(message(loss::cross_entropy(&x, &Tensor::ones([2, 2], DType::F32)?)).contains("soft targets"));
    assert!(message(loss::cross_entropy(&x.to_dtype(DType::I64)?, &Tensor::new([0i64, 1])?)).contains("float"));
    assert!(message(loss::cross_entropy(&Tensor::ones((), DType::F32)?, &x)).contains("[N, C]"));
    let options = |weight: usize, label_smoothing: f64| -> Result<CrossEntropy> {
        Ok(CrossEntropy { weight: Some(Tensor::ones(weight, DType::F32)?), label_smoothing, ..Default::default() })
    };
    for weight in [2, 4] {
        let text = message(options(weight, 0.0)?.forward(&x, &Tensor::new([0i64, 1])?));
        assert!(text.contains("for 3 classes"), "{text}");
    }
    assert!(message(options(3, 1.5)?.forward(&x, &Tensor::new([0i64, 1])?)).contains("label smoothing 1.5"));
    assert!(message(loss::huber_loss(&x, &x, 0.0, Reduction::Mean)).contains("delta"));
    assert!(message(loss::smooth_l1_loss(&x, &x, -1.0, Reduction::Mean)).contains("beta"));
    Ok(())
}
