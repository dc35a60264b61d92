//! Some rows of an image, turned so that the channels come last, with zeros around.

use std::ops::Range;

use super::padded;
use crate::Result;
use crate::kernels::simd::prefetch;
use crate::kernels::turn::{Grid, turn};
use crate::storage::Buffer;

/// `[rows, width, channels]`
pub(super) struct Slab {
    pub data: Buffer<f32>,
    pub width: usize,
    /// Rounded up to whole vectors; those behind the last are zero.
    pub channels: usize,
}

impl Slab {
    pub(super) fn new(rows: usize, width: usize, channels: usize) -> Result<Slab> {
        let channels = padded(channels);
        Ok(Slab { data: Buffer::full(rows * width * channels, 0.0, "conv")?, width, channels })
    }

    /// Takes row `y` (beyond the image: zeros) of `channels` planes of `size` as row `row`, from column `left` on. What
    /// is left and right of it stays zero.
    pub(super) fn take(
        &mut self,
        row: usize,
        planes: &[f32],
        size: [usize; 2],
        channels: usize,
        y: Option<usize>,
        left: usize,
    ) {
        let to = &mut self.data[(row * self.width + left) * self.channels..][..size[1] * self.channels];
        match y.filter(|&y| y < size[0]) {
            Some(y) => {
                let from = Grid { data: &planes[y * size[1]..], row: size[0] * size[1] };
                turn(from, Grid { data: to, row: self.channels }, channels, size[1]);
            }
            None => to.fill(0.0),
        }
    }

    /// Moves the last `rows` rows to the first.
    pub(super) fn keep_last(&mut self, rows: usize) {
        let first = self.data.len() - rows * self.width * self.channels;
        self.data.copy_within(first.., 0);
    }
}

/// Asks for rows of `channels` planes of `size` that will be taken soon.
pub(super) fn ask_for(planes: &[f32], size: [usize; 2], channels: usize, rows: Range<usize>) {
    let (start, end) = (rows.start.min(size[0]) * size[1], rows.end.min(size[0]) * size[1]);
    for c in 0..channels {
        prefetch(planes[c * size[0] * size[1]..][start..end].as_ptr(), end - start);
    }
}
