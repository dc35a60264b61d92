//! Small products of vectors and matrices: dot, outer, trace.

use crate::{Error, Result, Tensor};

impl Tensor {
    /// The inner product `Σ a_i b_i` of two vectors of one size.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let a = Tensor::new([1.0f32, 2.0])?;
    /// assert_eq!(a.dot(&a)?.item::<f32>()?, 5.0);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `dot`. Errors: not two vectors of one size.
    pub fn dot(&self, rhs: &Tensor) -> Result<Tensor> {
        let ([n], [m]) = (self.dims_of("dot")?, rhs.dims_of("dot")?);
        if n != m {
            return Err(Error::invalid("dot", format!("vectors of {n} and {m} elements")));
        }
        self.matmul(rhs)
    }

    /// The outer product `y_ij = a_i b_j` of two vectors: `[n]` and `[m]` to `[n, m]`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let y = Tensor::new([1.0f32, 2.0])?.outer(&Tensor::new([3.0f32, 4.0])?)?;
    /// assert_eq!(y.to_vec::<f32>()?, [3.0, 4.0, 6.0, 8.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `outer`. Errors: not two vectors.
    pub fn outer(&self, rhs: &Tensor) -> Result<Tensor> {
        let ([n], [m]) = (self.dims_of("outer")?, rhs.dims_of("outer")?);
        self.reshape([n, 1])?.mul(&rhs.reshape([1, m])?)
    }

    /// The sum of the diagonal of a matrix, `Σ x_ii`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// assert_eq!(Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?.trace()?.item::<f32>()?, 5.0);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `trace`. Errors: not a matrix.
    pub fn trace(&self) -> Result<Tensor> {
        let [_, _] = self.dims_of("trace")?;
        self.diagonal(0, 0, 1)?.sum(0)
    }
}
