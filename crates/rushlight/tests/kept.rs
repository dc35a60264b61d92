//! What the graph keeps alive. A process of its own, as it looks at the allocator's figures.

use rushlight::nn::{Layer, Linear};
use rushlight::{DType, Result, Tensor, memory};

const N: usize = 1 << 10;
/// Bytes of a matrix.
const ONE: isize = (4 * N * N) as isize;

/// Bytes that stay in use when only the output of `f` is held, beside that output.
fn kept(f: impl FnOnce() -> Result<Tensor>) -> Result<isize> {
    let before = memory::stats().in_use;
    let y = f()?;
    let after = memory::stats().in_use;
    assert!(y.is_tracked() && y.dims() == [N, N]);
    Ok(after as isize - before as isize - ONE)
}

#[test]
fn an_operand_is_kept_for_a_gradient_that_needs_it_alone() -> Result<()> {
    let matrix = || Tensor::randn([N, N], DType::F32);
    let x = matrix()?.requires_grad()?;
    let near = |bytes: isize, matrices: isize, what: &str| {
        let expected = matrices * ONE;
        assert!((bytes - expected).abs() < ONE / 2, "{what}: {bytes} bytes, expected about {expected}");
    };
    near(kept(|| x.add(&matrix()?))?, 0, "a sum");
    near(kept(|| x.sub(&matrix()?))?, 0, "a difference");
    near(kept(|| x.mul(&matrix()?))?, 1, "a product, whose other factor it is the gradient of");
    near(kept(|| matrix()?.mul(&x)?.mul(2.0))?, 1, "a product with a number");
    near(kept(|| matrix()?.matmul(&x)?.matmul(&matrix()?))?, 2, "products of matrices");
    let frozen = Linear { weight: matrix()?, bias: None };
    near(kept(|| frozen.forward(&x.add(1.0)?))?, 0, "a layer that does not learn");
    let learns = Linear { weight: matrix()?.requires_grad()?, bias: None };
    near(kept(|| learns.forward(&x.add(1.0)?))?, 1, "a layer that learns");
    Ok(())
}
