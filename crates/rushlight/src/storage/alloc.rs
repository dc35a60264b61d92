//! The caching allocator: blocks by size classes, large ones from the pool.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::mapped::Mapping;
use super::pool::{Pool, UNIT};

/// Alignment of every buffer: a cache line, and the widest vector.
pub(super) const ALIGN: usize = 64;
/// Blocks above this are spans of the pool: a unit is a small part of them.
const LARGE: usize = 512 << 10;
/// Blocks up to here are kept in a list per thread, without a lock.
const SMALL: usize = 64 << 10;
const SMALL_CLASSES: usize = 42;
const SMALL_LIST: usize = 32;

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

pub(super) enum Memory {
    /// From the heap: `calloc`, so that fresh pages are not touched to zero them.
    Heap { _block: Exact },
    /// From the heap, to be watched by a sanitizer.
    Exact { _block: Exact },
    /// From the pool.
    Span { size: usize },
    /// A part of a file: read only, of no size class.
    File { _map: Arc<Mapping> },
    /// Another library's: read only, alive as long as its owner.
    Foreign { _owner: Box<dyn std::any::Any + Send + Sync> },
}

/// A zeroed or recycled piece of memory of one size class.
pub(super) struct Block {
    pub(super) start: NonNull<u8>,
    class: usize,
    memory: Memory,
}

// SAFETY: a Block owns its memory alone; `start` points into `memory`, which is Send and Sync.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    /// Memory of others: read only, of no size class, and not ours to recycle.
    pub(super) fn of_others(start: NonNull<u8>, memory: Memory) -> Block {
        Block { start, class: 0, memory }
    }

    fn fresh(class: usize) -> Option<Block> {
        let block = zeroed(class_size(class) + ALIGN)?;
        let base = block.0.as_ptr();
        // SAFETY: less than ALIGN, and so many bytes more than the size were asked for.
        let start = unsafe { NonNull::new_unchecked(base.add(base.align_offset(ALIGN))) };
        Some(Block { start, class, memory: Memory::Heap { _block: block } })
    }

    fn large(bytes: usize) -> Option<Block> {
        let size = bytes.checked_next_multiple_of(UNIT)?;
        let start = with_pool(|pool| pool.take(size))?;
        Some(Block { start, class: 0, memory: Memory::Span { size } })
    }

    fn size(&self) -> usize {
        match self.memory {
            Memory::Span { size } => size,
            _ => class_size(self.class),
        }
    }

    pub(super) fn is_file(&self) -> bool {
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
pub(super) struct Exact(NonNull<u8>, std::alloc::Layout);

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

/// Enough for all up to `LARGE`.
const CLASSES: usize = 56;
static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// What is free afterwards counts as cached.
fn with_pool<R>(f: impl FnOnce(&mut Pool) -> R) -> R {
    let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
    let before = pool.free_bytes();
    let result = f(&mut pool);
    CACHED.fetch_add(pool.free_bytes().wrapping_sub(before), Ordering::Relaxed); // a sum that wraps, as atomics do
    result
}

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

pub(super) fn take(bytes: usize) -> Option<Block> {
    let fresh = || match bytes {
        _ if cfg!(rushlight_exact) => Block::exact(bytes),
        _ if bytes > LARGE => Block::large(bytes),
        _ => Block::fresh(class_of(bytes)),
    };
    let block = match cached(bytes) {
        Some(block) => block,
        None => fresh().or_else(|| {
            memory::clear();
            fresh()
        })?,
    };
    let size = block.size();
    let used = IN_USE.fetch_add(size, Ordering::Relaxed) + size;
    if used > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(used, Ordering::Relaxed);
    }
    Some(block)
}

/// A free block of the class.
fn cached(bytes: usize) -> Option<Block> {
    if cfg!(rushlight_exact) || bytes > LARGE {
        return None;
    }
    let class = class_of(bytes);
    let size = class_size(class);
    let block = if size <= SMALL {
        LOCAL.try_with(|l| l.borrow_mut().0[class].pop()).ok().flatten()
    } else {
        FREE.lock().unwrap_or_else(|e| e.into_inner())[class].pop()
    };
    if block.is_some() {
        CACHED.fetch_sub(size, Ordering::Relaxed);
    }
    block
}

pub(super) fn give_back(block: Block) {
    if block.is_file() {
        return;
    }
    let size = block.size();
    IN_USE.fetch_sub(size, Ordering::Relaxed);
    let full = CACHED.load(Ordering::Relaxed).saturating_add(size) > CAP.load(Ordering::Relaxed);
    if let Memory::Span { size } = block.memory {
        with_pool(|pool| {
            pool.give_back(block.start, size);
            if full {
                pool.release_at(block.start);
            }
        });
        return;
    }
    if cfg!(rushlight_exact) || full {
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
    pub use crate::storage::resident::resident;

    /// Figures of the allocator, in bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Stats {
        /// Held by tensors.
        pub in_use: usize,
        /// The most that tensors ever held at once, since the start or [`reset_peak`].
        pub peak: usize,
        /// Freed by tensors and kept to be used again. Pieces between large tensors still count after [`clear`], though
        /// the system has their memory.
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
        with_pool(Pool::clear);
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

    /// Keeps at most `bytes` in free lists from now on; what is beyond goes back to the system when freed.
    pub fn set_cache_limit(bytes: usize) {
        CAP.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_asked_for() {
        for bytes in (1..5000).chain([1 << 18, (1 << 18) + 1, LARGE - 1, LARGE]) {
            let c = class_of(bytes);
            assert!(class_size(c) >= bytes, "{bytes} in class {c} of {}", class_size(c));
            assert!(c == 0 || class_size(c - 1) < bytes, "{bytes} fits class {}", c - 1);
            assert!(c < CLASSES);
        }
        assert!(class_of(SMALL) < SMALL_CLASSES);
    }
}
