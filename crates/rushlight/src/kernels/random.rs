//! Philox4x32-10: random numbers as a function of a key and a counter.
//!
//! Element `i` of a fill depends on the key and on `offset + i / (elements per block)` alone, so a fill can be cut
//! anywhere and shared among threads. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;

/// The 128 bits at `counter` of the stream `key`.
#[inline(always)]
pub(crate) fn philox(key: u64, counter: u64) -> [u32; 4] {
    const M: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    rounds([counter as u32, (counter >> 32) as u32, 0, 0], [key as u32, (key >> 32) as u32], M, WEYL)
}

#[inline(always)]
fn rounds(mut c: [u32; 4], mut k: [u32; 2], m: [u32; 2], weyl: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (a, b) = (m[0] as u64 * c[0] as u64, m[1] as u64 * c[2] as u64);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(weyl[0]), k[1].wrapping_add(weyl[1])];
    }
    c
}

/// Fills `out` with `f` of each block's bits, which makes `PER` elements.
pub(crate) fn fill<T: Copy + Send, const PER: usize>(
    out: &mut [T],
    key: u64,
    offset: u64,
    f: impl Fn([u32; 4]) -> [T; PER] + Sync + Copy,
) {
    // GRAIN is a multiple of every PER (1, 2 and 4), so pieces start at a block.
    parallel::chunks(out, GRAIN, |start, piece| {
        dispatch(
            #[inline(always)]
            || {
                // A copy, and closures that own what they use: numbers behind a reference might change with each write
                // to `piece` for all the compiler knows, and would keep it from vector code.
                let elements = f;
                let first = offset.wrapping_add((start / PER) as u64);
                // Whole blocks apart from the rest: the compiler then makes a vector of blocks at a time.
                let (blocks, rest) = piece.as_chunks_mut::<PER>();
                for (b, out) in blocks.iter_mut().enumerate() {
                    *out = elements(philox(key, first.wrapping_add(b as u64)));
                }
                let last = elements(philox(key, first.wrapping_add(blocks.len() as u64)));
                rest.iter_mut().zip(last).for_each(|(o, x)| *o = x);
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that Random123 publishes for philox4x32-10.
    #[test]
    fn known_answers() {
        assert_eq!(philox(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let (m, weyl) = ([0xD251_1F53, 0xCD9E_8D57], [0x9E37_79B9, 0xBB67_AE85]);
        let ones = rounds([u32::MAX; 4], [u32::MAX; 2], m, weyl);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }
}
