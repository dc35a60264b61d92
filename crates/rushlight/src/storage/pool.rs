//! Large blocks: spans of regions that are mapped once, split when taken and joined when given back.
//!
//! The activations of a training step and its gradients are seldom of one size. By lists of sizes each would keep its own
//! memory, so that a step held the most of each size together; here what the activations leave is joined, and the
//! gradients lie there. A step of training a GPT of 124M parameters, 4 texts of 64 tokens, went from 2.4 GiB to 2.1; its
//! parameters, gradients and moments are 1.85 of it.
//!
//! A region hands out from its front what was never touched only where no span that was used before is large enough.
//! Source: the allocator for large blocks of PyTorch's CUDA cache; best fit as in Knuth, The Art of Computer
//! Programming, vol. 1, 2.5.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;

use memmap2::MmapMut;

/// Sizes and places of spans are multiples of this.
pub(super) const UNIT: usize = 64 << 10;
/// Regions are aligned to this and advised to use such pages.
const HUGE_PAGE: usize = 2 << 20;
/// What a region has at least. What is not used of it costs addresses, no memory.
const REGION: usize = if cfg!(test) { 4 << 20 } else { 64 << 20 };

/// A mapping: spans in use and free ones up to `used`, and behind that what was never touched.
struct Region {
    _map: MmapMut,
    start: NonNull<u8>,
    size: usize,
    used: usize,
}

// SAFETY: a region owns its memory, and `start` points into it.
unsafe impl Send for Region {}

/// Regions, and their free spans.
pub(super) struct Pool {
    /// By address.
    regions: BTreeMap<usize, Region>,
    /// The size of each free span, by address. No two of them touch.
    free: BTreeMap<usize, usize>,
    /// The same as (size, address): the first that is large enough fits best.
    by_size: BTreeSet<(usize, usize)>,
    /// All of them together.
    free_bytes: usize,
}

impl Pool {
    pub(super) const fn new() -> Pool {
        Pool { regions: BTreeMap::new(), free: BTreeMap::new(), by_size: BTreeSet::new(), free_bytes: 0 }
    }

    /// Bytes of the free spans.
    pub(super) fn free_bytes(&self) -> usize {
        self.free_bytes
    }

    /// `size` bytes, a multiple of [`UNIT`]: zeroed by the system, or with what their last user left. `None` where the
    /// system refuses them.
    pub(super) fn take(&mut self, size: usize) -> Option<NonNull<u8>> {
        if let Some(&(len, at)) = self.by_size.range((size, 0)..).next() {
            self.remove(at, len);
            if len > size {
                self.insert(at + size, len - size);
            }
            return Some(self.pointer(at));
        }
        // Behind what a region has used, from the free span on that ends there.
        let edge = self.regions.iter().find_map(|(&base, region)| {
            let edge = base + region.used;
            let (at, len) =
                self.last_before(edge).filter(|(at, len)| at + len == edge && *at >= base).unwrap_or((edge, 0));
            (len + region.size - region.used >= size).then_some((base, at, len))
        });
        let (base, at, len) = match edge {
            Some(found) => found,
            None => {
                self.release_small();
                let base = self.map(size)?;
                (base, base, 0)
            }
        };
        if len > 0 {
            self.remove(at, len);
        }
        self.regions.get_mut(&base)?.used += size - len;
        Some(self.pointer(at))
    }

    /// Regions of a single span, which is free and was too small. Where each request is larger than the one before
    /// (a text that grows), it would be for ever, and all of them would be kept.
    fn release_small(&mut self) {
        let idle = |(base, region): (&usize, &Region)| {
            (region.size > REGION && self.free.get(base) == Some(&region.used)).then_some((*base, region.used))
        };
        let idle: Vec<(usize, usize)> = self.regions.iter().filter_map(idle).collect();
        idle.into_iter().for_each(|(at, len)| self.release(at, len));
    }

    /// Takes back what [`Pool::take`] gave.
    pub(super) fn give_back(&mut self, start: NonNull<u8>, size: usize) {
        let (mut at, mut len) = (start.as_ptr() as usize, size);
        let Some((&base, region)) = self.regions.range(..=at).next_back() else { return };
        let end = base + region.used;
        // Regions may lie side by side; spans end with their region.
        if let Some(&next) = self.free.get(&(at + len)).filter(|_| at + len < end) {
            self.remove(at + len, next);
            len += next;
        }
        if let Some((before, size)) = self.last_before(at).filter(|(b, size)| b + size == at && *b >= base) {
            self.remove(before, size);
            (at, len) = (before, len + size);
        }
        self.insert(at, len);
    }

    /// Gives the memory of free spans back to the system. Those between spans in use still count as free, though there is
    /// no memory behind them until they are written to again.
    pub(super) fn clear(&mut self) {
        let free: Vec<(usize, usize)> = self.free.iter().map(|(&at, &len)| (at, len)).collect();
        for (at, len) in free {
            self.release(at, len);
        }
    }

    /// The same for the span that the free byte at `start` belongs to.
    pub(super) fn release_at(&mut self, start: NonNull<u8>) {
        let start = start.as_ptr() as usize;
        if let Some((&at, &len)) = self.free.range(..=start).next_back() {
            self.release(at, len);
        }
    }

    fn release(&mut self, at: usize, len: usize) {
        let Some((&base, region)) = self.regions.range_mut(..=at).next_back() else { return };
        if (at, len) == (base, region.used) {
            self.remove(at, len);
            self.regions.remove(&base);
            return;
        }
        // SAFETY: nobody uses a free span, and it holds plain numbers before and after, whatever they are.
        #[cfg(all(unix, not(miri)))]
        let _ = unsafe { region.advise_away(at - base, len) };
        if at + len == base + region.used {
            region.used -= len;
            self.remove(at, len);
        }
    }

    /// A new region for `size` bytes: where it begins.
    fn map(&mut self, size: usize) -> Option<usize> {
        let region = Region::new(size.max(REGION)).or_else(|| Region::new(size))?;
        let base = region.start.as_ptr() as usize;
        self.regions.insert(base, region);
        Some(base)
    }

    /// From an address to the pointer, by way of the region's own.
    fn pointer(&self, at: usize) -> NonNull<u8> {
        let (base, region) = self.regions.range(..=at).next_back().expect("a span lies in a region");
        // SAFETY: spans lie within their region.
        unsafe { region.start.add(at - base) }
    }

    fn last_before(&self, at: usize) -> Option<(usize, usize)> {
        self.free.range(..at).next_back().map(|(&at, &len)| (at, len))
    }

    fn insert(&mut self, at: usize, len: usize) {
        self.free_bytes += len;
        self.free.insert(at, len);
        self.by_size.insert((len, at));
    }

    fn remove(&mut self, at: usize, len: usize) {
        self.free_bytes -= len;
        self.free.remove(&at);
        self.by_size.remove(&(len, at));
    }
}

impl Region {
    fn new(size: usize) -> Option<Region> {
        let size = size.checked_next_multiple_of(HUGE_PAGE)?;
        let mut map = MmapMut::map_anon(size.checked_add(HUGE_PAGE)?).ok()?;
        #[cfg(all(target_os = "linux", not(miri)))]
        let _ = map.advise(memmap2::Advice::HugePage); // only speed depends on it
        let base = map.as_mut_ptr();
        // SAFETY: less than a page of the one more that was asked for.
        let start = unsafe { NonNull::new_unchecked(base.add(base.align_offset(HUGE_PAGE))) };
        Some(Region { _map: map, start, size, used: 0 })
    }

    /// Lets the system have the pages of a part back.
    ///
    /// # Safety
    /// Nobody uses the part.
    #[cfg(all(unix, not(miri)))]
    unsafe fn advise_away(&self, from: usize, len: usize) -> std::io::Result<()> {
        let from = self.start.as_ptr() as usize - self._map.as_ptr() as usize + from;
        // SAFETY: the caller's; what comes instead are zeros, or the same again.
        unsafe { self._map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(pool: &Pool) -> usize {
        assert_eq!(pool.free.len(), pool.by_size.len());
        assert_eq!(pool.free_bytes, pool.free.values().sum::<usize>());
        pool.free_bytes
    }

    #[test]
    fn spans_are_split_and_joined() {
        let mut pool = Pool::new();
        let taken: Vec<_> = (0..4).map(|_| pool.take(3 * UNIT).unwrap()).collect();
        assert_eq!((pool.regions.len(), free(&pool)), (1, 0));
        // The second and third together hold what neither does alone.
        pool.give_back(taken[1], 3 * UNIT);
        pool.give_back(taken[2], 3 * UNIT);
        assert_eq!(pool.free.len(), 1);
        let large = pool.take(5 * UNIT).unwrap();
        assert_eq!((large, free(&pool)), (taken[1], UNIT));
        // The last one ends where nothing was used before, and is grown.
        pool.give_back(taken[3], 3 * UNIT);
        let grown = pool.take(7 * UNIT).unwrap();
        assert_eq!((grown.as_ptr() as usize, free(&pool)), (taken[3].as_ptr() as usize - UNIT, 0));
        pool.give_back(grown, 7 * UNIT);
        pool.give_back(large, 5 * UNIT);
        pool.give_back(taken[0], 3 * UNIT);
        assert_eq!((pool.free.len(), free(&pool)), (1, 15 * UNIT));
        pool.clear();
        assert_eq!((pool.regions.len(), free(&pool)), (0, 0));
    }

    #[test]
    fn what_is_released_between_others_can_be_used_again() {
        let mut pool = Pool::new();
        let [a, b, c] = [0; 3].map(|_| pool.take(UNIT).unwrap());
        // SAFETY: `b` is ours, and has so many bytes.
        unsafe { b.as_ptr().write_bytes(7, UNIT) };
        pool.give_back(b, UNIT);
        pool.release_at(b);
        assert_eq!(free(&pool), UNIT);
        let again = pool.take(UNIT).unwrap();
        // SAFETY: as above; the system gives zeros for what it took, where it took it.
        assert!(again == b && (cfg!(any(miri, not(target_os = "linux"))) || unsafe { *again.as_ptr() } == 0));
        pool.give_back(c, UNIT);
        pool.release_at(c);
        assert_eq!((free(&pool), pool.regions.len()), (0, 1), "the end of a region");
        pool.give_back(again, UNIT);
        pool.give_back(a, UNIT);
        pool.release_at(a);
        assert_eq!((free(&pool), pool.regions.len()), (0, 0), "a whole region");
    }

    /// Each a little larger than the one before, of which one is still in use: texts that grow, and lists.
    #[test]
    fn growing_spans_use_what_smaller_ones_left() {
        let mut pool = Pool::new();
        let (mut last, mut size) = (pool.take(UNIT).unwrap(), UNIT);
        while size < 400 * UNIT {
            let next = pool.take(size + UNIT).unwrap();
            pool.give_back(last, size);
            (last, size) = (next, size + UNIT);
            let used: usize = pool.regions.values().map(|r| r.used).sum();
            assert!(used <= 2 * size + 2 * REGION, "{} units used for one of {}", used / UNIT, size / UNIT);
        }
    }

    /// Against a list of what is in use: no two overlap, and nothing is lost.
    #[test]
    fn random_spans_do_not_overlap() {
        let mut pool = Pool::new();
        let (mut seed, mut in_use) = (1u64, Vec::<(NonNull<u8>, usize)>::new());
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for round in 0..if cfg!(miri) { 300 } else { 3000 } {
            if in_use.is_empty() || random(5) < 3 && in_use.len() < 60 {
                let most = if random(20) == 0 { 100 } else { 12 };
                let size = UNIT * (1 + random(most));
                let start = pool.take(size).unwrap();
                let (from, to) = (start.as_ptr() as usize, start.as_ptr() as usize + size);
                assert_eq!(from % UNIT, 0);
                let apart =
                    |(s, n): &(NonNull<u8>, usize)| to <= s.as_ptr() as usize || s.as_ptr() as usize + n <= from;
                assert!(in_use.iter().all(apart));
                in_use.push((start, size));
            } else {
                let (start, size) = in_use.swap_remove(random(in_use.len()));
                pool.give_back(start, size);
                if random(10) == 0 {
                    pool.release_at(start);
                }
            }
            let held: usize = in_use.iter().map(|s| s.1).sum();
            let used: usize = pool.regions.values().map(|r| r.used).sum();
            assert_eq!(held + free(&pool), used, "round {round}");
        }
        for (start, size) in in_use {
            pool.give_back(start, size);
        }
        pool.clear();
        assert!(pool.regions.is_empty() && free(&pool) == 0);
    }
}
