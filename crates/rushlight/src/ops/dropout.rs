//! Dropout: zero at random, scale what is left.

use crate::autograd::record;
use crate::dtype::each_float;
use crate::kernels::dropout;
use crate::ops::reduce::float_only;
use crate::{Error, Result, Tensor, random};

impl Tensor {
    /// Zeroes each element with probability `p` and divides the others by `1 − p`, so that the mean stays.
    ///
    /// The mask is not kept: gradient and output are both made from the same place in this thread's random stream.
    /// PyTorch: `F.dropout(training=True)`. Source: Srivastava et al. 2014.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor};
    /// let x = Tensor::ones(1000, DType::F32)?.dropout(0.5)?;
    /// assert!(x.to_vec::<f32>()?.iter().all(|v| *v == 0.0 || *v == 2.0));
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: `p` is no probability; not a float dtype.
    pub fn dropout(&self, p: f64) -> Result<Tensor> {
        float_only("dropout", self)?;
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::invalid("dropout", format!("{p} is no probability")));
        }
        if p == 0.0 {
            return Ok(self.clone());
        }
        self.dropped(p, random::place("dropout", self.numel(), dropout::PER_BLOCK)?)
    }

    /// Dropout by the mask at `place` of the random stream: linear, so it is its own gradient.
    pub(super) fn dropped(&self, p: f64, place: random::Place) -> Result<Tensor> {
        let x = self.detach().packed()?;
        let y = each_float!("dropout", x.dtype(), T => {
            let x = x.slice::<T>("dropout")?;
            Tensor::build("dropout", self.shape().clone(), |y: &mut [T]| dropout::apply(x, p, place, y))?
        });
        record("dropout", y, &[self], move |dy| dy.dropped(p, place))
    }
}
