//! How much an operation has to do, guessed from its arguments before it runs: what is long runs without the GIL.

use rushlight::Tensor;

use super::{Tensored, Variadic};
use crate::args::{Ints, Operand};
use crate::dtype::AnyDType;

/// An argument beside a tensor.
pub trait Load {
    /// About how many elements an operation of `x` with this argument touches.
    fn load(&self, x: &Tensor) -> usize;
}

/// Products of so many numbers cost what an element does where it is only passed over.
const PRODUCTS: usize = 32;

/// Of two tensors that are multiplied, or spread over each other.
fn crossed(x: &Tensor, other: &Tensor) -> usize {
    (x.numel().saturating_mul(other.numel()) / PRODUCTS).max(other.numel())
}

impl Load for Tensored {
    fn load(&self, x: &Tensor) -> usize {
        crossed(x, &self.0)
    }
}

impl Load for Operand {
    fn load(&self, x: &Tensor) -> usize {
        match self {
            Operand::Tensor(t) if t.rank() > 0 && t.shape() != x.shape() => crossed(x, t),
            other => other.numel(),
        }
    }
}

/// A count: of places or of copies. Dims, which are small, count for nothing.
fn counted(n: i64, x: &Tensor) -> usize {
    let n = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
    n.saturating_mul(x.numel()) / PRODUCTS
}

impl Load for i64 {
    fn load(&self, x: &Tensor) -> usize {
        counted(*self, x)
    }
}

impl Load for usize {
    fn load(&self, x: &Tensor) -> usize {
        counted(i64::try_from(*self).unwrap_or(i64::MAX), x)
    }
}

impl Load for Ints {
    fn load(&self, x: &Tensor) -> usize {
        counted(self.0.iter().fold(1, |all: i64, n| all.saturating_mul(n.saturating_abs().max(1))), x)
    }
}

impl Load for Variadic {
    fn load(&self, _: &Tensor) -> usize {
        0
    }
}

impl<T: Load> Load for Option<T> {
    fn load(&self, x: &Tensor) -> usize {
        self.as_ref().map_or(0, |argument| argument.load(x))
    }
}

/// Arguments that make an operation no longer.
macro_rules! light {
    ($($ty:ty)*) => {$(
        impl Load for $ty {
            fn load(&self, _: &Tensor) -> usize {
                0
            }
        }
    )*};
}

light! { f64 bool &str String AnyDType }
