//! What recording and walking back promise, apart from any one operation's rule.

use rushlight::{
    DType, Error, GradCheck, Gradients, Result, Tensor, checkpoint, grad, gradcheck, gradgradcheck, memory, no_grad,
    record, record_with_output,
};

fn leaf(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, values.len()).unwrap().requires_grad().unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

#[test]
fn a_shared_tensor_gets_the_sum() -> Result<()> {
    let x = leaf(&[2.0, 3.0]);
    let y = x.mul(&x)?.add(&x)?.add(&x)?;
    let grads = y.sum(..)?.backward()?;
    assert_eq!(values(grads.get(&x).unwrap()), [6.0, 8.0]);
    Ok(())
}

#[test]
fn each_gradient_is_given_once_and_as_soon_as_it_is_whole() -> Result<()> {
    let (first, second, last) = (leaf(&[0.5, 2.0]), leaf(&[1.0, 3.0]), leaf(&[4.0, -1.0]));
    // `first` is used at both ends, `second` through a view, and what a rule gives no gradient counts as passed.
    let loss = || -> Result<Tensor> {
        let x = first.mul(&first)?.mul(&second.flip(0)?)?;
        let deaf = record("deaf", x.detach(), &[&x, &second], |dy| Ok([Some(dy.clone()), None]))?;
        deaf.exp()?.mul(&last)?.add(&first)?.sum(..)
    };
    let expected = loss()?.backward()?;
    let mut given = vec![];
    loss()?.backward_each(&Tensor::ones((), DType::F64)?, |id, grad| {
        given.push((id, grad));
        Ok(())
    })?;
    let ids: Vec<u64> = given.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [&last, &second, &first].map(|t| t.leaf_id().unwrap()));
    for ((_, grad), leaf) in given.iter().zip([&last, &second, &first]) {
        assert_eq!(values(grad), values(expected.get(leaf).unwrap()));
    }
    // Hooks change what is given.
    let hook = first.register_hook(|grad| Ok(Some(grad.mul(10.0)?)))?;
    let mut hooked = None;
    loss()?.backward_each(&Tensor::ones((), DType::F64)?, |id, grad| {
        hooked = hooked.take().or((Some(id) == first.leaf_id()).then_some(grad));
        Ok(())
    })?;
    assert_eq!(values(&hooked.unwrap()), values(&expected.get(&first).unwrap().mul(10.0)?));
    hook.remove();
    // A leaf itself, and what refuses.
    first.sum(..)?.backward_each(&Tensor::ones((), DType::F64)?, |_, _| Ok(()))?;
    first.backward_each(&Tensor::ones(2, DType::F64)?, |id, _| {
        let _: () = assert_eq!(Some(id), first.leaf_id());
        Ok(())
    })?;
    let no = |_, _| Err(Error::invalid("ready", "no"));
    assert!(loss()?.backward_each(&Tensor::ones((), DType::F64)?, no).is_err());
    assert!(first.detach().backward_each(&Tensor::ones(2, DType::F64)?, |_, _| Ok(())).is_err());
    assert!(first.exp()?.leaf_id().is_none());
    Ok(())
}

#[test]
fn gradients_come_while_the_walk_goes_on() -> Result<()> {
    // A chain of layers: when the last weight's gradient is given, the first layer's rule has not run.
    let weights: Vec<Tensor> = (0..4).map(|i| leaf(&[1.0 + i as f64])).collect();
    let ran = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut x = leaf(&[1.0]);
    for w in &weights {
        let (ran, w2, x2) = (ran.clone(), w.clone(), x.detach());
        let y = x.detach().mul(w.detach())?;
        x = record("layer", y, &[&x, w], move |dy| {
            ran.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok([dy.mul(&w2)?, dy.mul(&x2)?])
        })?;
    }
    let mut seen = vec![];
    x.backward_each(&Tensor::ones(1, DType::F64)?, |id, _| {
        seen.push((id, ran.load(std::sync::atomic::Ordering::SeqCst)));
        Ok(())
    })?;
    let expected: Vec<(u64, usize)> =
        weights.iter().rev().enumerate().map(|(i, w)| (w.leaf_id().unwrap(), i + 1)).collect();
    assert_eq!(seen[..3], expected[..3]);
    assert_eq!(seen.len(), 5);
    Ok(())
}

#[test]
fn adding_in_place_leaves_a_shared_gradient_alone() -> Result<()> {
    // Both operands of `add` get the very tensor dy; summing into one must not change the other.
    let (x, y) = (leaf(&[1.0]), leaf(&[1.0]));
    let z = x.add(&y)?;
    let loss = z.add(&x)?.add(&x.mul(3.0)?)?;
    let grads = loss.sum(..)?.backward()?;
    assert_eq!(values(grads.get(&x).unwrap()), [5.0]);
    assert_eq!(values(grads.get(&y).unwrap()), [1.0]);
    Ok(())
}

#[test]
fn a_graph_is_walked_once_unless_kept() -> Result<()> {
    let x = leaf(&[2.0]);
    let y = x.exp()?.sum(..)?;
    grad(&[&y], &[&x], false)?;
    y.backward()?;
    let e = y.backward().err().unwrap().to_string();
    assert!(e.contains("freed") && e.contains("grad()"), "{e}");
    Ok(())
}

#[test]
fn misuse_is_an_error() -> Result<()> {
    let x = leaf(&[1.0, 2.0]);
    let e = x.exp()?.backward().err().unwrap().to_string();
    assert!(e.contains("shape [2]"), "{e}");
    let e = Tensor::ones((), DType::F64)?.backward().err().unwrap().to_string();
    assert!(e.contains("not tracked"), "{e}");
    assert!(x.mul(2.0)?.backward_with(&Tensor::ones(3, DType::F64)?).is_err());
    assert!(Tensor::new([1i64])?.requires_grad().is_err());
    assert!(grad(&[&x.sum(..)?], &[&x.detach()], false).is_err());
    // A rule that returns the wrong shape is caught where it happens.
    let y = record("broken", Tensor::ones(2, DType::F64)?, &[&x], |_| Tensor::ones(3, DType::F64))?;
    assert!(matches!(y.sum(..)?.backward(), Err(Error::Gradient { op: "broken", .. })));
    // So is an output that is tracked already: it would have two histories.
    assert!(record("twice", x.exp()?, &[&x], |dy| Ok(dy.clone())).is_err());
    Ok(())
}

#[test]
fn a_long_chain_neither_recurses_nor_leaks() -> Result<()> {
    let x = leaf(&[1.0]);
    let mut y = x.clone();
    for _ in 0..200_000 {
        y = y.add(1.0)?;
    }
    let grads = y.sum(..)?.backward()?;
    assert_eq!(values(grads.get(&x).unwrap()), [1.0]);
    drop(y);
    Ok(())
}

#[test]
fn outputs_that_rules_keep_are_freed() -> Result<()> {
    let before = memory::stats().in_use;
    for _ in 0..10 {
        let x = Tensor::ones(1 << 20, DType::F64)?.requires_grad()?;
        let y = record_with_output("same", x.detach(), &[&x], |y: &Tensor, dy: &Tensor| dy.mul(y))?;
        drop(y);
    }
    // Other tests run beside this one; ten leaked outputs would be 80 MB.
    assert!(memory::stats().in_use < before + (40 << 20));
    Ok(())
}

#[test]
fn no_grad_records_nothing_and_ends_with_its_scope() -> Result<()> {
    let x = leaf(&[1.0]);
    assert!(!no_grad(|| x.exp())?.is_tracked());
    let _ = std::panic::catch_unwind(|| no_grad(|| panic!("inside")));
    assert!(x.exp()?.is_tracked());
    assert_eq!(x.exp()?.grad_fn(), Some("exp"));
    assert!(x.is_leaf() && !x.exp()?.is_leaf());
    Ok(())
}

#[test]
fn casts_carry_gradients_back() -> Result<()> {
    let x = Tensor::new([1.5f32])?.requires_grad()?;
    let dx = x.to_dtype(DType::F64)?.mul(2.0)?.sum(..)?.backward()?.remove(&x).unwrap();
    assert_eq!((dx.dtype(), values(&dx)), (DType::F32, vec![2.0]));
    Ok(())
}

#[test]
fn third_derivatives() -> Result<()> {
    let x = leaf(&[0.7]);
    let mut y = x.powi(5)?;
    for factor in [5.0, 20.0, 60.0] {
        y = grad(&[&y], &[&x], true)?.remove(0).unwrap();
        let power = match factor {
            5.0 => 4,
            20.0 => 3,
            _ => 2,
        };
        assert!((values(&y)[0] - factor * 0.7f64.powi(power)).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn gradients_accumulate_and_scale() -> Result<()> {
    let x = leaf(&[3.0]);
    let mut total = Gradients::new();
    for _ in 0..4 {
        total.accumulate(x.square()?.sum(..)?.backward()?)?;
    }
    total.scale(0.25)?;
    assert_eq!(values(total.get(&x).unwrap()), [6.0]);
    Ok(())
}

#[test]
fn checkpoint_equals_the_plain_function() -> Result<()> {
    let (x, w) = (leaf(&[0.3, -0.2]), leaf(&[1.5, 2.0]));
    let f = |x: &Tensor, w: &Tensor| x.mul(w)?.tanh()?.mul(x)?.exp();
    let plain = f(&x, &w)?.sum(..)?.backward()?;
    let inner = w.clone();
    let again = checkpoint(&[&x], move |x| f(&x[0], &inner))?.sum(..)?.backward()?;
    for t in [&x, &w] {
        assert_eq!(values(plain.get(t).unwrap()), values(again.get(t).unwrap()));
    }
    let inner = w.clone();
    let y = checkpoint(&[&x], move |x| f(&x[0], &inner))?.sum(..)?;
    assert!(grad(&[&y], &[&x], true).is_err());
    Ok(())
}

#[test]
fn gradcheck_finds_a_wrong_rule() -> Result<()> {
    let x = Tensor::randn([2, 3], DType::F64)?;
    let wrong = |x: &[Tensor]| {
        let y = x[0].detach().square()?;
        let saved = x[0].clone();
        record("wrong", y, &[&x[0]], move |dy| dy.mul(&saved))
    };
    let e = gradcheck(wrong, std::slice::from_ref(&x), GradCheck::default()).unwrap_err().to_string();
    assert!(e.contains("central difference"), "{e}");
    // First gradient right, second wrong: the rule forgets that x is in it.
    let shallow = |x: &[Tensor]| {
        let y = x[0].detach().square()?;
        let saved = x[0].detach();
        record("shallow", y, &[&x[0]], move |dy| dy.mul(&saved)?.mul(2.0))
    };
    gradcheck(shallow, std::slice::from_ref(&x), GradCheck::default())?;
    assert!(gradgradcheck(shallow, &[x], GradCheck::default()).is_err());
    Ok(())
}

#[test]
fn noise_moves_a_check_off_a_tie() -> Result<()> {
    let tie = Tensor::full([1, 4], 1.0, DType::F64)?;
    let f = |x: &[Tensor]| Ok(x[0].max(1)?.0);
    assert!(gradcheck(f, std::slice::from_ref(&tie), GradCheck::default()).is_err());
    gradcheck(f, &[tie], GradCheck { perturb: 1e-2, ..GradCheck::default() })
}
