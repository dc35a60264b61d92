//! Typed buffers over a caching allocator.
//!
//! A fresh large buffer costs a page fault per 4 KiB, more than the addition that fills it, so buffers return to free
//! lists (by size class in [`alloc`], large ones to a [`pool`] of spans) and are handed out again. Memory comes zeroed from
//! the system and holds plain numbers ever after, so a reused buffer is *initialised*, with arbitrary contents:
//! [`Buffer::try_scratch`] is safe and costs nothing.
//!
//! Built with `--cfg rushlight_exact` (`scripts/sanitize.sh`) each buffer is a heap block of its own that ends with its
//! last element and is full of NaN, and none is kept: so a sanitizer sees whoever reaches past one or uses a freed one,
//! and a test sees who reads what was never written.

mod alloc;
mod mapped;
mod pool;
mod resident;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

pub use alloc::memory;
use alloc::{Block, Memory, give_back, take};
pub(crate) use mapped::Bytes;

use crate::{DType, Element, Error, Result, bf16, f16};

/// A vector with room for `len` elements. Errors: there is no memory for them.
pub(crate) fn reserved<T>(op: &'static str, len: usize) -> Result<Vec<T>> {
    let mut out = vec![];
    let refused = |_| Error::OutOfMemory { op, bytes: len.saturating_mul(size_of::<T>()) };
    out.try_reserve_exact(len).map_err(refused)?;
    Ok(out)
}

/// `len` elements of `T`, aligned to 64 bytes, from the free lists.
pub struct Buffer<T> {
    block: Option<Block>,
    len: usize,
    _element: std::marker::PhantomData<T>,
}

impl<T> Buffer<T> {
    fn recycled(len: usize, op: &'static str) -> Result<Buffer<T>> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&b| b <= isize::MAX as usize / 4);
        let refused = || Error::OutOfMemory { op, bytes: bytes.unwrap_or(usize::MAX) };
        let block = match bytes.ok_or_else(refused)? {
            0 => None,
            bytes => Some(take(bytes).ok_or_else(refused)?),
        };
        Ok(Buffer { block, len, _element: std::marker::PhantomData })
    }
}

impl Buffer<u32> {
    /// Room for indices, with arbitrary contents: u32 is no tensor's dtype.
    pub(crate) fn try_indices(len: usize, op: &'static str) -> Result<Buffer<u32>> {
        Buffer::recycled(len, op)
    }
}

impl<T: Element> Buffer<T> {
    /// A buffer with arbitrary contents (`false` for bool), to be written in full by its maker.
    pub fn try_scratch(len: usize, op: &'static str) -> Result<Buffer<T>> {
        let mut buffer = Buffer::recycled(len, op)?;
        if T::DTYPE == DType::Bool {
            // A recycled block may hold bytes that are no bool.
            if let Some(b) = &mut buffer.block {
                // SAFETY: the block has at least `len` bytes.
                unsafe { b.start.as_ptr().write_bytes(0, len) };
            }
        }
        Ok(buffer)
    }

    /// A buffer filled with `value`.
    pub fn full(len: usize, value: T, op: &'static str) -> Result<Buffer<T>> {
        let mut b = Buffer::try_scratch(len, op)?;
        b.fill(value);
        Ok(b)
    }

    /// A buffer holding a copy of `data`.
    pub fn copy_of(data: &[T], op: &'static str) -> Result<Buffer<T>> {
        let mut b = Buffer::try_scratch(data.len(), op)?;
        b.copy_from_slice(data);
        Ok(b)
    }
}

impl<T: Element> Buffer<T> {
    /// The elements where they lie in a file, or `None` where they cannot be used in place: bytes in memory, places
    /// that are not aligned, a machine of the other byte order, bools (not every byte is one).
    pub(crate) fn mapped(bytes: &Bytes) -> Option<Buffer<T>> {
        let (map, range) = bytes.file()?;
        let start = bytes.as_ptr();
        let fits = bytes.len().is_multiple_of(size_of::<T>()) && start.align_offset(align_of::<T>()) == 0;
        if !fits || T::DTYPE == DType::Bool || cfg!(target_endian = "big") {
            return None;
        }
        let len = range.len() / size_of::<T>();
        let block = Block::of_others(NonNull::new(start.cast_mut())?, Memory::File { _map: map.clone() });
        Some(Buffer { block: (len > 0).then_some(block), len, _element: std::marker::PhantomData })
    }
}

impl<T: Element> Buffer<T> {
    /// `len` elements of another library, or `None` where they cannot be used in place.
    ///
    /// # Safety
    /// As [`crate::Tensor::from_foreign`].
    unsafe fn foreign(start: *const T, len: usize, owner: Box<dyn std::any::Any + Send + Sync>) -> Option<Buffer<T>> {
        let start = NonNull::new(start.cast_mut())?;
        if !start.is_aligned() || T::DTYPE == DType::Bool {
            return None;
        }
        let block = Block::of_others(start.cast(), Memory::Foreign { _owner: owner });
        Some(Buffer { block: (len > 0).then_some(block), len, _element: std::marker::PhantomData })
    }
}

impl crate::Tensor {
    /// A tensor over another library's elements in row-major order, without a copy; writing to it copies them first.
    /// `None` where they cannot be used in place: not aligned, or bools (not every byte is one). Then copy them.
    ///
    /// # Safety
    /// `start` is valid for reads of all elements of `shape`, and they do not change, until `owner` is dropped.
    pub unsafe fn from_foreign<T: Element>(
        start: *const T,
        shape: crate::Shape,
        owner: Box<dyn std::any::Any + Send + Sync>,
    ) -> Option<crate::Tensor> {
        // SAFETY: the caller's promise.
        let buffer = unsafe { Buffer::foreign(start, shape.numel(), owner) }?;
        Some(crate::Tensor::from_buffer(buffer, shape))
    }

    /// Where its first element lies. Valid while this tensor, or a clone of it, lives; the elements do not change.
    pub fn data_ptr(&self) -> *const u8 {
        let first = if self.numel() == 0 { 0 } else { self.layout().offset() };
        crate::dtype::each_dtype!(self.dtype(), T => {
            // `raw` fails for another dtype only.
            self.raw::<T>("data_ptr").map_or(std::ptr::null(), |all| all[first.min(all.len())..].as_ptr().cast())
        })
    }
}

impl<T> Buffer<T> {
    /// Whether its elements lie in a file and must not be written to.
    pub(crate) fn is_mapped(&self) -> bool {
        self.block.as_ref().is_some_and(Block::is_file)
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        match &self.block {
            // SAFETY: the block holds at least `len` elements, aligned to 64; every byte was zeroed by the system or
            // written as a number since, and any bit pattern is a valid number (bool buffers are cleared when made).
            // A file's part is as long and aligned as `mapped` has seen, and no bool's.
            Some(b) => unsafe { std::slice::from_raw_parts(b.start.as_ptr().cast(), self.len) },
            None => &[],
        }
    }
}

impl<T> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &self.block {
            // Writing there would end the program. `Tensor::make_mut`, the only way to an old buffer, copies it before.
            Some(b) if b.is_file() => &mut [],
            // SAFETY: as in `deref`; `&mut self` is the only way to the block.
            Some(b) => unsafe { std::slice::from_raw_parts_mut(b.start.as_ptr().cast(), self.len) },
            None => &mut [],
        }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            give_back(block);
        }
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} elements)", self.len)
    }
}

/// A buffer of any dtype.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Storage {
    F32(Buffer<f32>),
    F64(Buffer<f64>),
    BF16(Buffer<bf16>),
    F16(Buffer<f16>),
    I64(Buffer<i64>),
    U8(Buffer<u8>),
    Bool(Buffer<bool>),
}

impl Storage {
    /// The dtype of its elements.
    pub fn dtype(&self) -> DType {
        match self {
            Storage::F32(_) => DType::F32,
            Storage::F64(_) => DType::F64,
            Storage::BF16(_) => DType::BF16,
            Storage::F16(_) => DType::F16,
            Storage::I64(_) => DType::I64,
            Storage::U8(_) => DType::U8,
            Storage::Bool(_) => DType::Bool,
        }
    }

    /// Whether its elements lie in a file and must not be written to.
    pub(crate) fn is_mapped(&self) -> bool {
        crate::dtype::each_dtype!(self.dtype(), T => T::buffer(self).is_some_and(Buffer::is_mapped))
    }
}

#[cfg(test)]
mod tests {
    use super::alloc::ALIGN;
    use super::*;

    #[test]
    fn a_freed_block_comes_back() {
        let a = Buffer::full(100_000, 1.5f32, "test").unwrap();
        let p = a.as_ptr();
        assert_eq!(p as usize % ALIGN, 0);
        drop(a);
        let b = Buffer::<f32>::try_scratch(99_000, "test").unwrap();
        assert_eq!(b.len(), 99_000);
        let c = Buffer::<bool>::try_scratch(400_000, "test").unwrap();
        assert!(c.iter().all(|b| !b));
    }

    #[test]
    fn a_refused_size_is_an_error() {
        let e = Buffer::<f64>::try_scratch(usize::MAX / 64, "zeros").unwrap_err();
        assert!(e.to_string().starts_with("zeros: cannot allocate"), "{e}");
    }
}
