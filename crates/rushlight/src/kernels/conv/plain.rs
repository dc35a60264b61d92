//! Numbers in the type that they are computed in.

use std::any::TypeId;
use std::ops::Deref;

use crate::Result;
use crate::dtype::Float;
use crate::storage::Buffer;

/// Numbers in the type that they are computed in: as they are where they have it, else converted.
pub(super) enum Plain<'a, C> {
    AsTheyAre(&'a [C]),
    Converted(Buffer<C>),
}

impl<'a, C: Float> Plain<'a, C> {
    pub(super) fn new<T: Float<Compute = C>>(x: &'a [T]) -> Result<Plain<'a, C>> {
        if let Some(x) = same(x) {
            return Ok(Plain::AsTheyAre(x));
        }
        let mut converted = Buffer::try_scratch(x.len(), "conv")?;
        converted.iter_mut().zip(x).for_each(|(to, from)| *to = from.up());
        Ok(Plain::Converted(converted))
    }
}

impl<C> Deref for Plain<'_, C> {
    type Target = [C];
    fn deref(&self) -> &[C] {
        match self {
            Plain::AsTheyAre(x) => x,
            Plain::Converted(x) => x,
        }
    }
}

/// The slice itself, if `T` is `U`.
pub(super) fn same<T: 'static, U: 'static>(x: &[T]) -> Option<&[U]> {
    // SAFETY: it is the same type.
    (TypeId::of::<T>() == TypeId::of::<U>()).then(|| unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) })
}

/// The slice itself, if `T` is `U`.
pub(super) fn same_mut<T: 'static, U: 'static>(x: &mut [T]) -> Option<&mut [U]> {
    let (start, len) = (x.as_mut_ptr(), x.len());
    // SAFETY: it is the same type.
    (TypeId::of::<T>() == TypeId::of::<U>()).then(|| unsafe { std::slice::from_raw_parts_mut(start.cast(), len) })
}
