//! Ending a walk early: for a program whose user may ask for it while gradients are computed.

use std::cell::Cell;

use crate::Result;

thread_local! {
    static CHECK: Cell<Option<fn() -> Result<()>>> = const { Cell::new(None) };
}

/// Runs `f`, in which every backward walk of this thread asks `check` before each operation's rule; its error ends the
/// walk and is what the walk returns. No gradient is given then, and what was walked cannot be walked again.
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

/// What the check of this thread says, if there is one.
pub(super) fn interrupted() -> Result<()> {
    CHECK.get().map_or(Ok(()), |check| check())
}
