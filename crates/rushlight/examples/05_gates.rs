//! A soft gate `x · σ(r) + y · (1 − σ(r))` chooses between x and y, and learns which by its gradient.
//!
//! `dx = σ(r)`, `dy = 1 − σ(r)`, `dr = (x − y) · σ(r) · (1 − σ(r))`, each times the gradient of the output. Here x is 3 and
//! y is −1, for five scores r. A hard gate has no gradient for r. Below, r learns to let 2.6 through: nine parts of x, one
//! of y.
//!
//! ```text
//! r          -4.00 -1.00  0.00  1.00  4.00
//! σ(r)        0.02  0.27  0.50  0.73  0.98
//! gate       -0.93  0.08  1.00  1.92  2.93
//! dx          0.02  0.27  0.50  0.73  0.98
//! dy          0.98  0.73  0.50  0.27  0.02
//! dr          0.07  0.79  1.00  0.79  0.07
//! hard gate  -1.00 -1.00 -1.00  3.00  3.00
//! its dr      0.00  0.00  0.00  0.00  0.00
//! step  0  out  1.00  σ(r) 0.50 ██████████
//! step 10  out  2.56  σ(r) 0.89 █████████████████▉
//! step 20  out  2.59  σ(r) 0.90 ██████████████████
//! step 30  out  2.60  σ(r) 0.90 ██████████████████
//! step 40  out  2.60  σ(r) 0.90 ██████████████████
//! ```

mod common;

use common::{BLUE, INK, ORANGE, Picture, bar, holds, row};
use rushlight::{DType, Result, Tensor, gradcheck};

fn main() -> Result<()> {
    let r = Tensor::new([-4.0f64, -1.0, 0.0, 1.0, 4.0])?.requires_grad()?;
    let x = Tensor::full([5], 3.0, DType::F64)?.requires_grad()?;
    let y = Tensor::full([5], -1.0, DType::F64)?.requires_grad()?;
    let show = |name: &str, t: &Tensor| -> Result<()> {
        println!("{name:<10} {}", row(t)?);
        Ok(())
    };

    show("r", &r)?;
    let open = r.detach().sigmoid()?;
    show("σ(r)", &open)?;
    let out = x.gate(&y, &r)?;
    show("gate", &out)?;

    // The three gradients: x gets what the gate lets through, y the rest, and r learns which of them is to be larger.
    let mut grads = out.sum(..)?.backward()?;
    let [dx, dy, dr] = [&x, &y, &r].map(|t| grads.remove(t).expect("the gate depends on all three"));
    show("dx", &dx)?;
    show("dy", &dy)?;
    show("dr", &dr)?;
    let shut = 1.0 - &open;
    holds(&dx, &open.to_f64_vec()?)?;
    holds(&dy, &shut.to_f64_vec()?)?;
    holds(&dr, &(&(&x - &y).detach() * &(&open * &shut)).to_f64_vec()?)?;
    gradcheck(|t| t[0].gate(&t[1], &t[2]), &[x.detach(), y.detach(), r.detach()], Default::default())?;

    // A hard gate chooses as well, but nothing tells r whether it chose well.
    let open = r.step()?;
    let hard = x.mul(&open)?.add(&y.mul(&open.neg()?.add(1.0)?)?)?;
    let dr = hard.sum(..)?.backward()?.remove(&r).expect("flat, but there");
    show("hard gate", &hard)?;
    show("its dr", &dr)?;
    holds(&hard, &[-1.0, -1.0, -1.0, 3.0, 3.0])?;
    holds(&dr, &[0.0; 5])?;

    // Learned: the wanted output is 2.6, between the two. r follows its gradient there.
    let mut r = Tensor::new([0.0f64])?;
    let (x, y) = (Tensor::new([3.0f64])?, Tensor::new([-1.0f64])?);
    for step in 0..=40 {
        let tracked = r.requires_grad()?;
        let out = x.gate(&y, &tracked)?;
        if step % 10 == 0 {
            let open = r.sigmoid()?.item::<f64>()?;
            println!("step {step:>2}  out {:5.2}  σ(r) {open:.2} {}", out.item::<f64>()?, bar(open, 20));
        }
        let loss = out.sub(2.6)?.square()?.sum(..)?;
        r = r.sub(&loss.backward()?.remove(&tracked).expect("the loss depends on r").mul(0.5)?)?;
    }
    assert!((r.sigmoid()?.item::<f64>()? - 0.9).abs() < 0.001);

    draw()
}

fn draw() -> Result<()> {
    let r = Tensor::linspace(-6.0, 6.0, 121, DType::F64)?;
    let open = r.sigmoid()?;
    let points =
        |y: &Tensor| -> Result<Vec<(f64, f64)>> { Ok(r.to_f64_vec()?.into_iter().zip(y.to_f64_vec()?).collect()) };
    let (shut, out) = (1.0 - &open, Tensor::new(3.0f64)?.gate(-1.0, &r)?);
    let dr = &(&open * &shut) * 4.0;
    let mut picture = Picture::new(660.0, 230.0);
    picture.text(165.0, 28.0, "gate of x = 3 and y = −1");
    picture.plot((30.0, 45.0), (270.0, 150.0), (-6.0, 6.0), (-1.0, 3.0), &[(INK, points(&out)?)]);
    for (x, colour, text) in [(400.0, BLUE, "dx = σ(r)"), (485.0, ORANGE, "dy = 1 − σ(r)"), (580.0, INK, "dr")] {
        picture.text_in(colour, x, 28.0, text);
    }
    let curves = [(BLUE, points(&open)?), (ORANGE, points(&shut)?), (INK, points(&dr)?)];
    picture.plot((360.0, 45.0), (270.0, 150.0), (-6.0, 6.0), (0.0, 1.0), &curves);
    for left in [30.0, 360.0] {
        for (i, label) in ["−6", "r = 0", "6"].iter().enumerate() {
            picture.text(left + 135.0 * i as f64, 217.0, label);
        }
    }
    picture.text(312.0, 50.0, "3");
    picture.text(17.0, 190.0, "−1");
    picture.save()
}
