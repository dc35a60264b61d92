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
        if TypeId::of::<T>() == TypeId::of::<C>() {
            // SAFETY: it is the same type.
            return Ok(Plain::AsTheyAre(unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) }));
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
