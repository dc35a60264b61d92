//! Max has a gradient, which is its argmax; argmax has none but 0; softmax is the argmax that has one.
//!
//! The soft maximum `t · log Σ exp(x/t)` has the gradient `softmax(x/t)`, as the maximum has the gradient argmax. A high
//! temperature t spreads it over all places, a low one gathers it at the largest.
//!
//! ```text
//! x                   1.00  3.00  2.00
//! max 3.00, its dx    0.00  1.00  0.00
//! argmax one-hot      0.00  1.00  0.00
//! dx of argmax[1]     0.00  0.00  0.00
//! softmax             0.09  0.67  0.24   sum 1.00
//! log-softmax        -2.41 -0.41 -1.41
//! dx of softmax[1]   -0.06  0.22 -0.16   sum 0.00
//! t = 5.00  soft max 7.56, its dx    0.27  0.40  0.33
//!   ████▎
//!   ██████▍
//!   █████▎
//! t = 1.00  soft max 3.41, its dx    0.09  0.67  0.24
//!   █▌
//!   ██████████▋
//!   ███▉
//! t = 0.20  soft max 3.00, its dx    0.00  0.99  0.01
//!
//!   ███████████████▉
//!   ▏
//! log of softmax [0, 1000]: -inf; log-softmax: -1000
//! ```

mod common;

use common::{BLUE, ORANGE, Picture, bar, holds, row};
use rushlight::{Result, Tensor};

/// The gradient of `y`, a number, with respect to `x`.
fn gradient(y: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(y.backward()?.remove(x).expect("y depends on x"))
}

fn main() -> Result<()> {
    let x = Tensor::new([1.0f64, 3.0, 2.0])?.requires_grad()?;
    println!("x                  {}", row(&x)?);

    let (max, one_hot) = (x.amax(0)?, x.argmax_one_hot(0)?);
    let dx = gradient(&max, &x)?;
    println!("max {:.2}, its dx   {}", max.item::<f64>()?, row(&dx)?);
    println!("argmax one-hot     {}", row(&one_hot)?);
    holds(&dx, &one_hot.to_f64_vec()?)?;
    // It jumps, and is flat in between: nothing can be learned through it.
    let flat = gradient(&one_hot.select(0, 1)?, &x)?;
    println!("dx of argmax[1]    {}", row(&flat)?);
    holds(&flat, &[0.0, 0.0, 0.0])?;

    let p = x.softmax(0)?;
    println!("softmax            {}   sum {:.2}", row(&p)?, p.sum(..)?.item::<f64>()?);
    println!("log-softmax        {}", row(&x.log_softmax(0)?)?);
    holds(&x.log_softmax(0)?.exp()?, &p.to_f64_vec()?)?;

    // One probability depends on every score: more for the others is less for this one.
    let dx = gradient(&p.select(0, 1)?, &x)?;
    println!("dx of softmax[1]   {}   sum {:.2}", row(&dx)?, dx.sum(..)?.item::<f64>()?.abs());
    let p1 = p.to_f64_vec()?[1];
    let jacobian: Vec<f64> =
        p.to_f64_vec()?.iter().enumerate().map(|(i, pi)| p1 * ((i == 1) as u8 as f64 - pi)).collect();
    holds(&dx, &jacobian)?;

    // From one point to all: the gradient of the soft maximum at three temperatures.
    let mut picture = Picture::new(660.0, 220.0);
    let places = ["x = 1", "x = 3", "x = 2"];
    let draw = |picture: &mut Picture, left: f64, title: &str, dx: &[f64], colour: &str| {
        picture.text(left + 65.0, 28.0, title);
        let bars: Vec<(&str, f64)> = places.iter().copied().zip(dx.iter().copied()).collect();
        picture.bars((left, 60.0), (130.0, 120.0), &bars, 1.0, colour);
    };
    for (i, t) in [5.0, 1.0, 0.2].into_iter().enumerate() {
        let soft_max = x.div(t)?.logsumexp(0)?.mul(t)?;
        let dx = gradient(&soft_max, &x)?;
        println!("t = {t:.2}  soft max {:.2}, its dx   {}", soft_max.item::<f64>()?, row(&dx)?);
        for share in dx.to_f64_vec()? {
            println!("{}", format!("  {}", bar(share, 16)).trim_end());
        }
        holds(&dx, &x.div(t)?.softmax(0)?.to_f64_vec()?)?;
        draw(&mut picture, 20.0 + 160.0 * i as f64, &format!("softmax, t = {t}"), &dx.to_f64_vec()?, BLUE);
    }
    draw(&mut picture, 500.0, "argmax (t → 0)", &one_hot.to_f64_vec()?, ORANGE);

    // The logarithm of a softmax that has rounded to 0 is lost; log-softmax never leaves the logarithms.
    let far = Tensor::new([0.0f64, 1000.0])?;
    let (lost, kept) = (far.softmax(0)?.log()?.to_f64_vec()?[0], far.log_softmax(0)?.to_f64_vec()?[0]);
    println!("log of softmax [0, 1000]: {lost}; log-softmax: {kept}");
    assert_eq!((lost, kept), (f64::NEG_INFINITY, -1000.0));

    picture.save()
}
