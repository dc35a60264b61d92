//! Writing into a part of a tensor: what a cache that grows does, and nothing that is recorded.

use crate::dtype::each_dtype;
use crate::kernels::strided::Reader;
use crate::ops::reduce::cut;
use crate::{Error, Result, Tensor};

impl Tensor {
    /// `self[.., start.., ..] = src` along `dim`: in place where nobody else holds the elements, else in a copy.
    /// PyTorch: `x.narrow(dim, start, n).copy_(src)`.
    ///
    /// Errors: `src` does not fit there, or is of another dtype.
    pub(crate) fn overwrite(&mut self, op: &'static str, dim: usize, start: usize, src: &Tensor) -> Result<()> {
        let (outer, size, inner) = cut(self.shape(), dim, dim + 1);
        let n = src.dims().get(dim).copied().unwrap_or(0);
        if src.rank() != self.rank() || src.shape().with(dim, size) != *self.shape() || n > size.saturating_sub(start) {
            let message = format!("{} does not fit into {} from {start} on at dim {dim}", src.shape(), self.shape());
            return Err(Error::invalid(op, message));
        }
        each_dtype!(self.dtype(), T => {
            let from = src.strided::<T>(op)?;
            let to = self.make_mut::<T>(op)?;
            if src.numel() == 0 {
                return Ok(());
            }
            let from = Reader::new(from);
            for i in 0..outer {
                from.gather(i * n * inner, &mut to[(i * size + start) * inner..][..n * inner]);
            }
        });
        Ok(())
    }
}
