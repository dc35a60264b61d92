//! Memory for small things when the system has no more.
//!
//! Where a large buffer is refused the library says so. Where the few hundred bytes of a tensor's shape are, Rust ends the
//! process, and with it Python, whose own answer to the same is a `MemoryError`. So small requests that the system refuses are
//! met from here: what Python asks for next is refused as well, it raises, and with what it lets go of there is room again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Untouched, and so no memory but addresses, until it is needed. What Python still has for objects of its own is a few
/// thousand of them.
const SIZE: usize = 8 << 20;
/// More than this is refused: what is larger is asked for by code that can hear a no.
const SMALL: usize = 64 << 10;

#[repr(align(64))]
struct Space(UnsafeCell<[u8; SIZE]>);

// SAFETY: places in it are given out under `LIVE`, each to one owner at a time; nobody else reads or writes there.
unsafe impl Sync for Space {}

static SPACE: Space = Space(UnsafeCell::new([0; SIZE]));

/// The bytes given out and the blocks that live. When none does, all is free again; before, nothing is used twice.
static LIVE: Mutex<(usize, usize)> = Mutex::new((0, 0));

fn live() -> MutexGuard<'static, (usize, usize)> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(layout: Layout) -> *mut u8 {
    let mut live = live();
    let start = SPACE.0.get().cast::<u8>().wrapping_add(live.0);
    let padding = start.align_offset(layout.align());
    let Some(end) = live.0.checked_add(padding).and_then(|at| at.checked_add(layout.size())) else {
        return std::ptr::null_mut();
    };
    if layout.size() > SMALL || end > SIZE {
        return std::ptr::null_mut();
    }
    *live = (end, live.1 + 1);
    start.wrapping_add(padding)
}

fn is_ours(block: *mut u8) -> bool {
    let start = SPACE.0.get() as usize;
    (start..start + SIZE).contains(&(block as usize))
}

fn give_back() {
    let mut live = live();
    live.1 -= 1;
    if live.1 == 0 {
        live.0 = 0;
    }
}

/// The system's allocator, with the reserve behind it.
pub struct Reserve;

// SAFETY: blocks are the system's, or, told apart by their address, pieces of `SPACE` of the size and alignment asked for
// that are given out once until all are back.
unsafe impl GlobalAlloc for Reserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { take(layout) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            return block;
        }
        let block = take(layout);
        if !block.is_null() {
            // SAFETY: as many bytes were just given out, and may have been used before.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_ours(block) {
            return give_back();
        }
        // SAFETY: what is not ours is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_ours(block) {
            // SAFETY: what is not ours is the system's.
            let moved = unsafe { System.realloc(block, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller promises that the size is one that a layout can have.
        let to = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: `to` is not empty, as the caller promises.
        let moved = unsafe { self.alloc(to) };
        if !moved.is_null() {
            // SAFETY: both blocks have the smaller of the sizes, and are two.
            unsafe { moved.copy_from_nonoverlapping(block, size.min(layout.size())) };
            // SAFETY: the caller gives it up.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}
