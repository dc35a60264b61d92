//! Typed buffers over a caching allocator.
//!
//! A fresh large buffer costs a page fault per 4 KiB, more than the addition that fills it, so buffers return to a
//! free list by size class and are handed out again. Memory comes zeroed from the system and holds plain numbers ever
//! after, so a reused buffer is *initialised*, with arbitrary contents: [`Buffer::scratch`] is safe and costs nothing.
//!
//! Built with `--cfg rushlight_exact` (`scripts/sanitize.sh`) each buffer is a heap block of its own that ends with its
//! last element and is full of NaN, and none is kept: so a sanitizer sees whoever reaches past one or uses a freed one,
//! and a test sees who reads what was never written.

mod mapped;

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) use mapped::Bytes;
use mapped::Mapping;

use crate::{DType, Element, Error, Result, bf16, f16};

/// Alignment of every buffer: a cache line, and the widest vector.
const ALIGN: usize = 64;
/// Blocks from here on come from `mmap`, aligned for and advised to use huge pages.
const LARGE: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;
/// Blocks up to here are kept in a list per thread, without a lock.
const SMALL: usize = 64 << 10;
const SMALL_CLASSES: usize = 42;
const SMALL_LIST: usize = 32;
/// Classes that a large request looks through: a free block of up to one and a half times its size serves as well. So the
/// gradients of a step lie where its activations were, which saves a sixth of the memory of training a GPT.
const LOOSE: usize = 4;

/// Bytes handed out now, the most there ever were, and bytes waiting in free lists.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static CACHED: AtomicUsize = AtomicUsize::new(0);
static CAP: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Size classes: 64 bytes, then four to each power of two, so at most a fifth of a block is unused.
fn class_of(bytes: usize) -> usize {
    if bytes <= 64 {
        return 0;
    }
    let log = (bytes - 1).ilog2() as usize;
    1 + (log - 6) * 4 + ((bytes - 1) >> (log - 2)) % 4
}

fn class_size(class: usize) -> usize {
    match class {
        0 => 64,
        c => (1 << (6 + (c - 1) / 4 - 2)) * (5 + (c - 1) % 4),
    }
}

enum Memory {
    /// From the heap: `calloc`, so that fresh pages are not touched to zero them.
    Heap { _block: Exact },
    /// From the heap, to be watched by a sanitizer.
    Exact { _block: Exact },
    /// From the system, in huge pages where it has them.
    Mapped { _map: memmap2::MmapMut },
    /// A part of a file: read only, of no size class.
    File { _map: Arc<Mapping> },
    /// Another library's: read only, alive as long as its owner.
    Foreign { _owner: Box<dyn std::any::Any + Send + Sync> },
}

/// A zeroed or recycled piece of memory of one size class.
struct Block {
    start: NonNull<u8>,
    class: usize,
    memory: Memory,
}

// SAFETY: a Block owns its memory alone; `start` points into `memory`, which is Send and Sync.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    fn fresh(class: usize) -> Option<Block> {
        let size = class_size(class);
        let (base, align, memory) = if size >= LARGE {
            let mut map = memmap2::MmapMut::map_anon(size.checked_add(HUGE_PAGE)?).ok()?;
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage); // only speed depends on it
            (map.as_mut_ptr(), HUGE_PAGE, Memory::Mapped { _map: map })
        } else {
            let block = zeroed(size + ALIGN)?;
            (block.0.as_ptr(), ALIGN, Memory::Heap { _block: block })
        };
        let skip = base.align_offset(align);
        // SAFETY: `skip < align`, and `align` bytes more than `size` were asked for.
        let start = unsafe { NonNull::new_unchecked(base.add(skip)) };
        Some(Block { start, class, memory })
    }

    fn is_file(&self) -> bool {
        matches!(self.memory, Memory::File { .. } | Memory::Foreign { .. })
    }
}

/// `bytes` zeroed bytes, or `None` where the system refuses them. No Box: moving one would end what was derived from it.
fn zeroed(bytes: usize) -> Option<Exact> {
    let layout = std::alloc::Layout::array::<u64>(bytes.div_ceil(8)).ok()?;
    // SAFETY: the size is not zero (at least ALIGN bytes).
    let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
    Some(Exact(start, layout))
}

/// A heap block, with the layout that it was allocated with.
struct Exact(NonNull<u8>, std::alloc::Layout);

impl Drop for Exact {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` or `Block::exact` with this layout.
        unsafe { std::alloc::dealloc(self.0.as_ptr(), self.1) };
    }
}

impl Block {
    fn exact(bytes: usize) -> Option<Block> {
        let layout = std::alloc::Layout::from_size_align(bytes, ALIGN).ok()?;
        // SAFETY: nobody asks for 0 bytes.
        let start = NonNull::new(unsafe { std::alloc::alloc(layout) })?;
        // SAFETY: the block has so many bytes. All ones are a number of each type: −1, or NaN.
        unsafe { start.write_bytes(0xFF, bytes) };
        Some(Block { start, class: class_of(bytes), memory: Memory::Exact { _block: Exact(start, layout) } })
    }
}

/// Enough for the largest size that [`Buffer::try_scratch`] lets through.
const CLASSES: usize = 224;
static FREE: Mutex<[Vec<Block>; CLASSES]> = Mutex::new([const { Vec::new() }; CLASSES]);

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local([const { Vec::new() }; SMALL_CLASSES])) };
}

/// The small free blocks of one thread.
struct Local([Vec<Block>; SMALL_CLASSES]);

impl Drop for Local {
    fn drop(&mut self) {
        let bytes: usize = self.0.iter().flatten().map(|b| class_size(b.class)).sum();
        CACHED.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn take(bytes: usize) -> Option<Block> {
    let class = class_of(bytes);
    let size = class_size(class);
    let cached = if cfg!(rushlight_exact) {
        None
    } else if size <= SMALL {
        LOCAL.try_with(|l| l.borrow_mut().0[class].pop()).ok().flatten()
    } else {
        let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
        (class..(class + LOOSE).min(CLASSES)).find_map(|class| free[class].pop())
    };
    let block = match cached {
        Some(block) => {
            CACHED.fetch_sub(class_size(block.class), Ordering::Relaxed);
            block
        }
        None if cfg!(rushlight_exact) => Block::exact(bytes)?,
        None => Block::fresh(class).or_else(|| {
            memory::clear();
            Block::fresh(class)
        })?,
    };
    let size = class_size(block.class);
    let used = IN_USE.fetch_add(size, Ordering::Relaxed) + size;
    if used > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(used, Ordering::Relaxed);
    }
    Some(block)
}

fn give_back(block: Block) {
    if block.is_file() {
        return;
    }
    let size = class_size(block.class);
    IN_USE.fetch_sub(size, Ordering::Relaxed);
    if cfg!(rushlight_exact) || CACHED.load(Ordering::Relaxed).saturating_add(size) > CAP.load(Ordering::Relaxed) {
        return;
    }
    if size > SMALL {
        CACHED.fetch_add(size, Ordering::Relaxed);
        FREE.lock().unwrap_or_else(|e| e.into_inner())[block.class].push(block);
        return;
    }
    // Where the thread is ending, `try_with` drops the closure, and the block with it.
    let _ = LOCAL.try_with(move |l| {
        let list = &mut l.borrow_mut().0[block.class];
        if list.len() < SMALL_LIST {
            CACHED.fetch_add(size, Ordering::Relaxed);
            list.push(block);
        }
    });
}

/// How much memory tensors use.
pub mod memory {
    use super::*;

    /// Figures of the allocator, in bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Stats {
        /// Held by tensors.
        pub in_use: usize,
        /// The most that tensors ever held at once, since the start or [`reset_peak`].
        pub peak: usize,
        /// Freed by tensors and kept to be used again.
        pub cached: usize,
    }

    /// The allocator's figures now.
    pub fn stats() -> Stats {
        Stats {
            in_use: IN_USE.load(Ordering::Relaxed),
            peak: PEAK.load(Ordering::Relaxed),
            cached: CACHED.load(Ordering::Relaxed),
        }
    }

    /// Starts the peak figure anew from what is in use.
    pub fn reset_peak() {
        PEAK.store(IN_USE.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Gives the memory that waits in free lists back to the system (small blocks: this thread's).
    pub fn clear() {
        let mut freed = 0;
        let mut drop_all = |list: &mut Vec<Block>| {
            freed += list.iter().map(|b| class_size(b.class)).sum::<usize>();
            list.clear();
            list.shrink_to_fit();
        };
        FREE.lock().unwrap_or_else(|e| e.into_inner()).iter_mut().for_each(&mut drop_all);
        let _ = LOCAL.try_with(|l| l.borrow_mut().0.iter_mut().for_each(&mut drop_all));
        CACHED.fetch_sub(freed, Ordering::Relaxed);
    }

    /// The most memory that this process has held at once, and what it holds now, in bytes: code, files that are mapped
    /// and looked at, all. `None` where the system does not tell, which is all but Linux.
    pub fn resident() -> Option<(u64, u64)> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        Some((field(&status, "VmHWM:")?, field(&status, "VmRSS:")?))
    }

    fn field(status: &str, name: &str) -> Option<u64> {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// Keeps at most `bytes` in free lists from now on; what is beyond goes back to the system when freed.
    pub fn set_cache_limit(bytes: usize) {
        CAP.store(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    mod tests {
        use super::field;

        #[test]
        fn memory_is_read_from_the_status() {
            let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t     4 kB\n";
            assert_eq!((field(status, "VmHWM:"), field(status, "VmRSS:")), (Some(2 << 20), Some(4096)));
            assert_eq!((field(status, "VmSwap:"), field("VmRSS: x kB", "VmRSS:")), (None, None));
        }
    }
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
        let block =
            Block { start: NonNull::new(start.cast_mut())?, class: 0, memory: Memory::File { _map: map.clone() } };
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
        let block = Block { start: start.cast(), class: 0, memory: Memory::Foreign { _owner: owner } };
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
    use super::*;

    #[test]
    fn classes_hold_what_they_are_asked_for() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, 5 << 20, usize::MAX / 8]) {
            let c = class_of(bytes);
            assert!(class_size(c) >= bytes, "{bytes} in class {c} of {}", class_size(c));
            assert!(c == 0 || class_size(c - 1) < bytes, "{bytes} fits class {}", c - 1);
            assert!(c < CLASSES);
        }
        assert!(class_of(SMALL) < SMALL_CLASSES);
    }

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
