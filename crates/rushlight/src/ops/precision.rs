//! How exactly products of f32 are computed: mixed precision without a second copy of anything.

use std::cell::Cell;

/// How exactly matrix products of f32 are computed. PyTorch: `set_float32_matmul_precision`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// In f32.
    #[default]
    Highest,
    /// Operands may be rounded to bf16 (8 bits of precision, f32's range), sums are f32. Only on processors that
    /// multiply bf16 faster (AVX512-BF16), and then about twice as fast; elsewhere as [`MatmulPrecision::Highest`].
    Medium,
}

thread_local! {
    static PRECISION: Cell<MatmulPrecision> = const { Cell::new(MatmulPrecision::Highest) };
}

/// Runs `f` with products of f32 on this thread computed in `precision`, and restores what was before, also on panic.
///
/// It holds for `matmul`, `linear` and `einsum`, for their gradients where `backward` is called within, and not for
/// convolution and attention. Weights, activations, gradients and optimizer states stay f32: this is mixed precision
/// training (Micikevicius et al. 2018) with nothing to cast and, bf16 having f32's range, no loss to scale.
///
/// ```
/// use rushlight::{DType, MatmulPrecision, Tensor, with_matmul_precision};
///
/// let (a, b) = (Tensor::rand([64, 64], DType::F32)?, Tensor::rand([64, 64], DType::F32)?);
/// let exact = a.matmul(&b)?;
/// let rounded = with_matmul_precision(MatmulPrecision::Medium, || a.matmul(&b))?;
/// let error = exact.sub(&rounded)?.abs()?.amax(..)?.item::<f32>()?;
/// assert!(error < 64.0 / 256.0);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn with_matmul_precision<R>(precision: MatmulPrecision, f: impl FnOnce() -> R) -> R {
    struct Restore(MatmulPrecision);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(precision));
    f()
}

/// Whether products of f32 may round their operands.
pub(super) fn rounds() -> bool {
    PRECISION.get() == MatmulPrecision::Medium
}
