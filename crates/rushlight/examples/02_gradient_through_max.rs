//! The gradient of a maximum goes to the place it came from, and to no other.
//!
//! At a tie the maximum has a kink, and no gradient: the library picks the first of the largest. Central differences see
//! both sides of the kink and say ½ each, so a gradient check needs a little noise there, which breaks the tie.
//!
//! ```text
//! x                 1.00  5.00  2.00  4.00
//! dx of max         0.00  1.00  0.00  0.00
//! differences       0.00  1.00  0.00  0.00
//! x with a tie      1.00  5.00  2.00  5.00
//! dx of max         0.00  1.00  0.00  0.00
//! differences       0.00  0.50  0.00  0.50
//! gradcheck at the tie: differs
//! gradcheck with noise of 0.01: agrees
//! image             1.00  3.00  0.00  2.00
//!                   5.00  7.00  4.00  6.00
//!                   9.00  1.00  8.00  8.00
//!                   1.00  1.00  0.00  0.00
//! dx of its pool    0.00  0.00  0.00  0.00
//!                   0.00  1.00  0.00  1.00
//!                   1.00  0.00  1.00  0.00
//!                   0.00  0.00  0.00  0.00
//! ```

mod common;

use common::{Picture, holds, row};
use rushlight::{GradCheck, Result, Tensor, gradcheck, random};

/// `(f(x + ε) − f(x − ε)) / 2ε` at each place in turn.
fn differences(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Tensor> {
    let eps = 1e-4;
    let mut slopes = vec![];
    for i in 0..x.numel() {
        let nudge = Tensor::new(i as i64)?.one_hot(x.numel())?.to_dtype(x.dtype())?.mul(eps)?;
        slopes.push((f(&x.add(&nudge)?)?.item::<f64>()? - f(&x.sub(&nudge)?)?.item::<f64>()?) / (2.0 * eps));
    }
    Tensor::new(slopes)
}

fn main() -> Result<()> {
    random::manual_seed(0);
    let max = |x: &Tensor| x.amax(0);

    for (name, x, slopes) in [
        ("x", [1.0f64, 5.0, 2.0, 4.0], [0.0, 1.0, 0.0, 0.0]),
        ("x with a tie", [1.0, 5.0, 2.0, 5.0], [0.0, 0.5, 0.0, 0.5]),
    ] {
        let x = Tensor::new(x)?.requires_grad()?;
        let grads = max(&x)?.backward()?;
        let dx = grads.get(&x).expect("x is a leaf");
        let seen = differences(max, &x.detach())?;
        println!("{name:<16} {}", row(&x)?);
        println!("dx of max        {}", row(dx)?);
        println!("differences      {}", row(&seen)?);
        holds(dx, &[0.0, 1.0, 0.0, 0.0])?;
        holds(&seen, &slopes)?;
    }

    // What breaks ties in a check: the inputs are moved by a little noise first.
    let tie = [Tensor::new([1.0f64, 5.0, 2.0, 5.0])?];
    let plain = gradcheck(|x| max(&x[0]), &tie, GradCheck::default());
    let noisy = gradcheck(|x| max(&x[0]), &tie, GradCheck { perturb: 0.01, ..Default::default() });
    let word = |r: &Result<()>| if r.is_ok() { "agrees" } else { "differs" };
    println!("gradcheck at the tie: {}", word(&plain));
    println!("gradcheck with noise of 0.01: {}", word(&noisy));
    assert!(plain.is_err() && noisy.is_ok());

    // Max pooling is a maximum in every tile: the gradient of each goes to one place of four. Of 8, 8 it is the first.
    let image =
        Tensor::new([[1.0f64, 3.0, 0.0, 2.0], [5.0, 7.0, 4.0, 6.0], [9.0, 1.0, 8.0, 8.0], [1.0, 1.0, 0.0, 0.0]])?
            .requires_grad()?;
    let pooled = image.reshape([1, 1, 4, 4])?.max_pool2d([2, 2], Default::default())?;
    let grads = pooled.sum(..)?.backward()?;
    let dx = grads.get(&image).expect("the image is a leaf");
    for (what, name) in [(&image, "image"), (dx, "dx of its pool")] {
        for (y, name) in [name, "", "", ""].iter().enumerate() {
            println!("{name:<16} {}", row(&what.select(0, y as i64)?)?);
        }
    }
    holds(dx, &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])?;

    let mut picture = Picture::new(560.0, 230.0);
    picture.text(100.0, 28.0, "image");
    picture.cells(20.0, 45.0, 40.0, &image.detach(), 12.0)?;
    picture.text(280.0, 28.0, "max of each 2 × 2 tile");
    picture.cells(240.0, 85.0, 40.0, &pooled.detach().reshape([2, 2])?, 12.0)?;
    picture.text(460.0, 28.0, "where its gradient goes");
    picture.cells(380.0, 45.0, 40.0, dx, 1.0)?;
    picture.text(212.0, 130.0, "→");
    picture.text(350.0, 130.0, "→");
    picture.save()
}
