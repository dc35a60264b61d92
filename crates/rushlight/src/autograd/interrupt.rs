//! Ending early what takes long: for a program whose user may ask for it while something is computed.

use std::cell::Cell;

use crate::Result;

thread_local! {
    static CHECK: Cell<Option<fn() -> Result<()>>> = const { Cell::new(None) };
    /// Elements that were made since the check was last asked.
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// So many elements take longer to make than the check to ask.
const WORTH_ASKING: usize = 1 << 14;
/// What making a small tensor costs, in elements.
const AT_LEAST: usize = 512;

/// Runs `f`, in which this thread asks `check` between operations: before each operation's rule in a backward walk, and
/// before a new tensor where some work was done since. Its error ends the walk, or the operation, and is what that
/// returns; a kernel that has begun is not left halfway. A walk gives no gradient then, and what was walked cannot be
/// walked again.
///
/// ```
/// # use rushlight::{Error, Tensor, with_interrupt};
/// let w = Tensor::new([2.0f32])?.requires_grad()?;
/// let loss = w.square()?;
/// let stop = || Err(Error::gradient("backward", "the user pressed a key"));
/// assert!(with_interrupt(stop, || loss.backward()).is_err());
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn with_interrupt<R>(check: fn() -> Result<()>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<fn() -> Result<()>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHECK.set(self.0);
        }
    }
    let _restore = Restore(CHECK.replace(Some(check)));
    f()
}

/// Before a tensor of `len` elements is made: what the check says, if there is one and enough was made since it was asked.
#[inline]
pub(crate) fn interrupted_before(len: usize) -> Result<()> {
    let Some(check) = CHECK.get() else { return Ok(()) };
    let made = MADE.get().saturating_add(len.max(AT_LEAST));
    MADE.set(if made < WORTH_ASKING { made } else { 0 });
    if made < WORTH_ASKING { Ok(()) } else { check() }
}

/// What the check of this thread says, if there is one.
pub(super) fn interrupted() -> Result<()> {
    CHECK.get().map_or(Ok(()), |check| check())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Error, Tensor};

    #[test]
    fn operations_end_between_tensors_and_only_inside() {
        let stop = || Err(Error::gradient("test", "stopped"));
        let x = Tensor::ones([300, 300], DType::F32).unwrap();
        let long = |steps: usize| (0..steps).try_fold(x.clone(), |y, _| y.add(1.0));
        assert!(with_interrupt(stop, || long(1)).unwrap_err().to_string().contains("stopped"));
        assert!(long(3).is_ok());
        let small = Tensor::ones(3, DType::F32).unwrap();
        let many = |steps: usize| (0..steps).try_fold(small.clone(), |y, _| y.add(1.0));
        assert!(with_interrupt(stop, || many(100)).is_err());
        assert_eq!(with_interrupt(|| Ok(()), || many(100)).unwrap().to_vec::<f32>().unwrap(), [101.0; 3]);
    }
}
