//! With two choices, 0 and x, max is ReLU, argmax is step and softmax is sigmoid.
//!
//! What holds for the three holds for the two-way ones: ReLU has the gradient step, step has none but 0, and sigmoid is the
//! step that has one. The soft maximum of 0 and x is softplus, and its gradient is sigmoid.
//!
//! ```text
//! x            -4.00 -1.00  0.00  1.00  4.00
//! max[0, x]     0.00  0.00  0.00  1.00  4.00
//! relu          0.00  0.00  0.00  1.00  4.00
//! relu'         0.00  0.00  0.00  1.00  1.00
//! argmax        0.00  0.00  0.00  1.00  1.00
//! step          0.00  0.00  0.00  1.00  1.00
//! step'         0.00  0.00  0.00  0.00  0.00
//! softmax       0.02  0.27  0.50  0.73  0.98
//! sigmoid       0.02  0.27  0.50  0.73  0.98
//! sigmoid'      0.02  0.20  0.25  0.20  0.02
//! softplus      0.02  0.31  0.69  1.31  4.02
//! softplus'     0.02  0.27  0.50  0.73  0.98
//! ```

mod common;

use common::{BLUE, INK, ORANGE, Picture, holds, row};
use rushlight::{DType, Result, Tensor};

/// `f(x)` and the slope there, of a function that maps one element to one element.
fn with_slope(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let x = x.detach().requires_grad()?;
    let y = f(&x)?;
    let slope = y.sum(..)?.backward()?.remove(&x).expect("y depends on x");
    Ok((y.detach(), slope))
}

fn main() -> Result<()> {
    let x = Tensor::new([-4.0f64, -1.0, 0.0, 1.0, 4.0])?;
    // [2, 5]: for each x the two choices 0 and x. At 0 they tie, and the first is picked: the step is 0 there.
    let choices = Tensor::stack(&[&x.zeros_like()?, &x], 0)?;
    let show = |name: &str, t: &Tensor| -> Result<()> {
        println!("{name:<12} {}", row(t)?);
        Ok(())
    };
    show("x", &x)?;

    let (relu, relu_slope) = with_slope(Tensor::relu, &x)?;
    let (step, step_slope) = with_slope(Tensor::step, &x)?;
    let (sigmoid, sigmoid_slope) = with_slope(Tensor::sigmoid, &x)?;
    let (softplus, softplus_slope) = with_slope(Tensor::softplus, &x)?;

    let max = choices.amax(0)?;
    show("max[0, x]", &max)?;
    show("relu", &relu)?;
    show("relu'", &relu_slope)?;
    holds(&relu, &max.to_f64_vec()?)?;
    holds(&relu_slope, &step.to_f64_vec()?)?;

    let argmax = choices.argmax_one_hot(0)?.select(0, 1)?;
    show("argmax", &argmax)?;
    show("step", &step)?;
    show("step'", &step_slope)?;
    holds(&step, &argmax.to_f64_vec()?)?;
    holds(&step_slope, &[0.0; 5])?;

    let softmax = choices.softmax(0)?.select(0, 1)?;
    show("softmax", &softmax)?;
    show("sigmoid", &sigmoid)?;
    show("sigmoid'", &sigmoid_slope)?;
    holds(&sigmoid, &softmax.to_f64_vec()?)?;
    holds(&sigmoid_slope, &(&sigmoid * &(1.0 - &sigmoid)).to_f64_vec()?)?;

    show("softplus", &softplus)?;
    show("softplus'", &softplus_slope)?;
    holds(&softplus, &choices.logsumexp(0)?.to_f64_vec()?)?;
    holds(&softplus_slope, &sigmoid.to_f64_vec()?)?;

    draw()
}

fn draw() -> Result<()> {
    let fine = Tensor::linspace(-4.0, 4.0, 161, DType::F64)?;
    let points =
        |y: Tensor| -> Result<Vec<(f64, f64)>> { Ok(fine.to_f64_vec()?.into_iter().zip(y.to_f64_vec()?).collect()) };
    let mut picture = Picture::new(660.0, 230.0);
    let panels = [
        (30.0, 4.0, ["max", "relu", "softplus"], [fine.relu()?, fine.softplus()?]),
        (360.0, 1.0, ["argmax", "step", "sigmoid"], [fine.step()?, fine.sigmoid()?]),
    ];
    for (left, top, [title, hard, soft], [y, soft_y]) in panels {
        picture.text(left + 60.0, 28.0, &format!("{title} of 0 and x:"));
        picture.text_in(ORANGE, left + 150.0, 28.0, hard);
        picture.text_in(BLUE, left + 205.0, 28.0, soft);
        let curves = [(ORANGE, points(y)?), (BLUE, points(soft_y)?)];
        picture.plot((left, 45.0), (270.0, 150.0), (-4.0, 4.0), (0.0, top), &curves);
        picture.line(&[(left, 195.0), (left + 270.0, 195.0)], INK, 1.0);
        for (i, label) in ["−4", "x = 0", "4"].iter().enumerate() {
            picture.text(left + 135.0 * i as f64, 215.0, label);
        }
    }
    picture.save()
}
