//! Quantised tensors: weights of four to eight bits, in blocks that share a scale, as GGUF files hold them.
//!
//! A [`QTensor`] keeps its blocks as they are, in memory or where they lie in a file, and takes an eighth to a quarter of
//! the memory of f32. The blocks of each [`QuantKind`] are those of the ggml library.

use std::fmt;

use crate::autograd::no_gradient;
use crate::kernels::quant as kernels;
use crate::kernels::quant_matmul;
use crate::storage::Bytes;
use crate::{DType, Error, Result, Shape, Tensor};

/// Runs `$body` with `$K` standing for the type in `kernels` of this kind.
macro_rules! each_kind {
    ($kind:expr, $K:ident => $body:expr) => {
        each_kind!(@ $kind, $K, $body, Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K)
    };
    (@ $kind:expr, $K:ident, $body:expr, $($name:ident)*) => {
        match $kind {
            $(QuantKind::$name => {
                type $K = kernels::$name;
                $body
            })*
        }
    };
}

/// How the numbers of a block are kept. The digit is how many bits each has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(non_camel_case_types)]
pub enum QuantKind {
    /// Blocks of 32, a scale: `d·q`.
    Q8_0,
    /// Blocks of 32, a scale: `d·(q − 8)`.
    Q4_0,
    /// Blocks of 32, a scale and a minimum: `d·q + m`.
    Q4_1,
    /// Blocks of 32, a scale: `d·(q − 16)`.
    Q5_0,
    /// Blocks of 32, a scale and a minimum: `d·q + m`.
    Q5_1,
    /// Blocks of 256, a scale and a minimum for every 32.
    Q4_K,
    /// Blocks of 256, a scale and a minimum for every 32.
    Q5_K,
    /// Blocks of 256, a scale for every 16.
    Q6_K,
}

impl QuantKind {
    /// All kinds.
    pub const ALL: [QuantKind; 8] = [
        QuantKind::Q8_0,
        QuantKind::Q4_0,
        QuantKind::Q4_1,
        QuantKind::Q5_0,
        QuantKind::Q5_1,
        QuantKind::Q4_K,
        QuantKind::Q5_K,
        QuantKind::Q6_K,
    ];

    /// Numbers in a block.
    pub fn block_len(self) -> usize {
        match self {
            QuantKind::Q4_K | QuantKind::Q5_K | QuantKind::Q6_K => 256,
            _ => 32,
        }
    }

    /// Bytes of a block.
    pub fn block_size(self) -> usize {
        match self {
            QuantKind::Q8_0 => 34,
            QuantKind::Q4_0 => 18,
            QuantKind::Q4_1 => 20,
            QuantKind::Q5_0 => 22,
            QuantKind::Q5_1 => 24,
            QuantKind::Q4_K => 144,
            QuantKind::Q5_K => 176,
            QuantKind::Q6_K => 210,
        }
    }

    /// The name in lower case: `q8_0`, `q4_k`.
    pub fn name(self) -> &'static str {
        match self {
            QuantKind::Q8_0 => "q8_0",
            QuantKind::Q4_0 => "q4_0",
            QuantKind::Q4_1 => "q4_1",
            QuantKind::Q5_0 => "q5_0",
            QuantKind::Q5_1 => "q5_1",
            QuantKind::Q4_K => "q4_k",
            QuantKind::Q5_K => "q5_k",
            QuantKind::Q6_K => "q6_k",
        }
    }

    /// The bytes that a tensor of these sizes takes; `None` where its last size is no multiple of a block, it has no
    /// dim, or it is too large for memory.
    pub(crate) fn size_of(self, dims: &[usize]) -> Option<usize> {
        let blocks = dims.last().filter(|n| n.is_multiple_of(self.block_len()))? / self.block_len();
        let all = dims[..dims.len() - 1].iter().try_fold(blocks, |n, &d| n.checked_mul(d))?;
        // What it decodes to must be countable too.
        all.checked_mul(self.block_len() * 4).filter(|&n| n <= isize::MAX as usize)?;
        all.checked_mul(self.block_size())
    }
}

impl fmt::Display for QuantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor of quantised numbers. A clone is free and shares its blocks; the value never changes.
///
/// Each row (the last dim) is a whole number of blocks, and rows lie one after the other.
#[derive(Clone)]
pub struct QTensor {
    kind: QuantKind,
    shape: Shape,
    bytes: Bytes,
}

impl QTensor {
    /// From blocks in row-major order.
    ///
    /// Errors: a last dim that is no multiple of the block's length; more or fewer bytes than `shape` asks for.
    pub fn new(kind: QuantKind, shape: impl Into<Shape>, blocks: Vec<u8>) -> Result<QTensor> {
        QTensor::of_bytes("qtensor", kind, shape.into(), blocks.into())
    }

    pub(crate) fn of_bytes(op: &'static str, kind: QuantKind, shape: Shape, bytes: Bytes) -> Result<QTensor> {
        let asked = size_of(op, kind, &shape)?;
        if asked != bytes.len() {
            let message = format!("{kind} of shape {shape} takes {asked} bytes, got {}", bytes.len());
            return Err(Error::invalid(op, message));
        }
        Ok(QTensor { kind, shape, bytes })
    }

    /// How its numbers are kept.
    pub fn kind(&self) -> QuantKind {
        self.kind
    }

    /// The sizes of its dims.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The sizes of its dims, as a slice.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// Its blocks in row-major order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The numbers, f32.
    ///
    /// ```
    /// # use rushlight::{Tensor, quant::{QTensor, QuantKind}};
    /// // One block of Q4_0: the scale 0.5 as f16, then 32 numbers of four bits, of which 8 stands for 0.
    /// let mut block = vec![0x00, 0x38];
    /// block.extend([0x89; 16]);
    /// let q = QTensor::new(QuantKind::Q4_0, [1, 32], block)?;
    /// let x = q.dequantize()?.to_vec::<f32>()?;
    /// assert_eq!((x[0], x[31]), (0.5, 0.0));
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: memory is refused.
    pub fn dequantize(&self) -> Result<Tensor> {
        Tensor::build("dequantize", self.shape.clone(), |out: &mut [f32]| {
            let x = &self.bytes[..];
            match self.kind {
                QuantKind::Q8_0 => kernels::decode(x, out, kernels::decode_q8_0),
                QuantKind::Q4_0 => kernels::decode(x, out, kernels::decode_q4_0),
                QuantKind::Q4_1 => kernels::decode(x, out, kernels::decode_q4_1),
                QuantKind::Q5_0 => kernels::decode(x, out, kernels::decode_q5_0),
                QuantKind::Q5_1 => kernels::decode(x, out, kernels::decode_q5_1),
                QuantKind::Q4_K => kernels::decode(x, out, kernels::decode_q4_k),
                QuantKind::Q5_K => kernels::decode(x, out, kernels::decode_q5_k),
                QuantKind::Q6_K => kernels::decode(x, out, kernels::decode_q6_k),
            }
        })
    }

    /// `x · Wᵀ` with this as W: `[.., in]` by `[out, in]` to `[.., out]`, f32, as [`Tensor::linear`] of the decoded weights.
    /// The blocks are read as they are. Not differentiable.
    ///
    /// Each product is within `|w| · 2⁻¹⁶` of the largest `|x|` of the 32 beside the block, the rounding of f32 aside: with
    /// AVX512-VNNI numbers of `x` are rounded to 16 bits.
    ///
    /// ```
    /// # use rushlight::{Tensor, quant::{QTensor, QuantKind}};
    /// let w = Tensor::linspace(-1.0, 1.0, 64, rushlight::DType::F32)?.reshape([2, 32])?;
    /// let (x, q) = (w.mul(0.5)?, QTensor::quantize(&w, QuantKind::Q8_0)?);
    /// let (y, exact) = (q.linear(&x)?, x.linear(&q.dequantize()?, None)?);
    /// assert!(y.sub(&exact)?.abs()?.amax(..)?.item::<f32>()? < 1e-4);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: this has other than two dims; `x` ends in another size, or is of no float dtype; memory is refused.
    pub fn linear(&self, x: &Tensor) -> Result<Tensor> {
        let op = "linear";
        let &[n, k] = self.dims() else {
            return Err(Error::invalid(op, format!("weight {} has not two dims", self.shape)));
        };
        if x.dims().last() != Some(&k) {
            let message = format!("input {} does not end in the {k} features of weight {}", x.shape(), self.shape);
            return Err(Error::invalid(op, message));
        }
        if !x.dtype().is_float() {
            return Err(Error::dtype(op, x.dtype(), "expected a float dtype (cast with to_dtype)"));
        }
        let x = no_gradient(op, x.detach(), &[x])?.to_dtype(DType::F32)?.packed()?;
        let mut done = Ok(());
        let y = Tensor::build(op, x.shape().with(x.rank() - 1, n), |y: &mut [f32]| {
            let product = |x| each_kind!(self.kind, K => quant_matmul::product::<K>(y, x, &self.bytes, (n, k)));
            done = x.slice::<f32>(op).and_then(product);
        })?;
        done.map(|()| y)
    }

    /// Rows of this table, `[rows, width]`, at i64 indices `[..]`: `[.., width]`, f32, as [`Tensor::embedding`].
    ///
    /// Errors: this has other than two dims; indices not i64, or outside of the table.
    pub fn embedding(&self, index: &Tensor) -> Result<Tensor> {
        let op = "embedding";
        let &[rows, width] = self.dims() else {
            return Err(Error::invalid(op, format!("table {} has not two dims", self.shape)));
        };
        if index.dtype() != DType::I64 {
            return Err(Error::dtype(op, index.dtype(), "expected i64 indices"));
        }
        let places = index.detach().packed()?;
        let places = places.slice::<i64>(op)?;
        let row = width / self.kind.block_len() * self.kind.block_size();
        let mut bytes = Vec::new();
        for &index in places {
            let i = usize::try_from(index).ok().filter(|i| *i < rows);
            let i = i.ok_or(Error::Index { op, index, dim: 0, size: rows })?;
            bytes.extend_from_slice(&self.bytes[i * row..][..row]);
        }
        QTensor::of_bytes(op, self.kind, index.shape().inserted(index.rank(), width), bytes.into())?.dequantize()
    }

    /// `x` in blocks of `kind`, each number rounded to the nearest that its block has. Not differentiable.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor, quant::{QTensor, QuantKind}};
    /// let x = Tensor::linspace(-1.0, 1.0, 64, DType::F32)?.reshape([2, 32])?;
    /// let q = QTensor::quantize(&x, QuantKind::Q8_0)?;
    /// assert_eq!(q.bytes().len(), 2 * 34);
    /// // Half a step of 1/127, and the rounding of the scale to f16.
    /// let error = q.dequantize()?.sub(&x)?.abs()?.to_vec::<f32>()?.into_iter().fold(0.0, f32::max);
    /// assert!(error < 0.6 / 127.0);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: `x` is of no float dtype; a kind other than Q8_0, Q4_0 and Q4_1; a last dim that is no multiple of 32; a
    /// number that is not finite or too large for a scale in f16.
    pub fn quantize(x: &Tensor, kind: QuantKind) -> Result<QTensor> {
        let op = "quantize";
        if !x.dtype().is_float() {
            return Err(Error::dtype(op, x.dtype(), "expected a float dtype (cast with to_dtype)"));
        }
        let mut blocks = vec![0; size_of(op, kind, x.shape())?];
        let shape = x.shape().clone();
        let x = x.detach().to_dtype(DType::F32)?.packed()?;
        let x = x.slice::<f32>(op)?;
        // The largest number whose scale or minimum f16 still holds.
        let limit = match kind {
            QuantKind::Q8_0 => 127.0 * 65504.0,
            QuantKind::Q4_0 => 8.0 * 65504.0,
            _ => 65504.0,
        };
        if let Some((i, x)) = x.iter().enumerate().find(|(_, x)| x.is_nan() || x.abs() > limit) {
            return Err(Error::invalid(op, format!("element {i} is {x}; {kind} holds numbers up to {limit}")));
        }
        match kind {
            QuantKind::Q8_0 => kernels::encode(x, &mut blocks, kernels::encode_q8_0),
            QuantKind::Q4_0 => kernels::encode(x, &mut blocks, kernels::encode_q4_0),
            QuantKind::Q4_1 => kernels::encode(x, &mut blocks, kernels::encode_q4_1),
            other => return Err(Error::invalid(op, format!("{other} is only read; q8_0, q4_0 and q4_1 are made"))),
        }
        Ok(QTensor { kind, shape, bytes: blocks.into() })
    }
}

impl fmt::Debug for QTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QTensor({}, {})", self.kind, self.shape)
    }
}

/// [`QuantKind::size_of`] with its refusal in words.
fn size_of(op: &'static str, kind: QuantKind, shape: &Shape) -> Result<usize> {
    kind.size_of(shape.dims()).ok_or_else(|| {
        let message = format!("{kind} takes rows of a multiple of {} numbers, got shape {shape}", kind.block_len());
        Error::invalid(op, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::parallel::set_num_threads;
    use crate::kernels::simd::{Level, force_level, testing::force_levels};
    use crate::random::Generator;

    /// Blocks of random bits whose scales are small numbers, more of them than a thread takes at a time.
    fn random(kind: QuantKind) -> QTensor {
        let blocks = 40_000 / kind.block_len() + 3;
        let mut words = vec![0i64; blocks * kind.block_size()];
        Generator::new(kind as u64).fill_randint(&mut words, 0, 256);
        let mut bytes: Vec<u8> = words.into_iter().map(|b| b as u8).collect();
        for block in bytes.chunks_exact_mut(kind.block_size()) {
            // The second byte of each f16 has its exponent: none is infinite.
            for at in if kind == QuantKind::Q6_K { [209, 209] } else { [1, 3] } {
                block[at] &= 0xbf;
            }
        }
        QTensor::new(kind, [blocks, kind.block_len()], bytes).unwrap()
    }

    #[test]
    fn every_level_and_number_of_threads_gives_the_same_bits() {
        let _forced = force_levels();
        for kind in QuantKind::ALL {
            let q = random(kind);
            let mut first: Option<Vec<u32>> = None;
            for (level, threads) in [(Level::Baseline, 1), (Level::Avx2, 3), (Level::Avx512, 2)] {
                force_level(level);
                set_num_threads(threads).unwrap();
                let x = q.dequantize().unwrap().to_vec::<f32>().unwrap();
                assert!(x.iter().all(|x| x.is_finite()));
                let bits = x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert!(first.get_or_insert_with(|| bits.clone()) == &bits, "{kind} at {level:?}");
            }
        }
        set_num_threads(0).unwrap();
    }

    #[test]
    fn numbers_come_back_within_half_a_step() {
        let _forced = force_levels();
        let mut x = vec![0.0f32; 48 * 1024];
        Generator::new(1).fill_normal(&mut x, 0.5, 3.0);
        let t = Tensor::new(&x).unwrap().reshape([48, 1024]).unwrap();
        for (kind, levels) in [(QuantKind::Q8_0, 254.0), (QuantKind::Q4_0, 16.0), (QuantKind::Q4_1, 15.0)] {
            let mut bits: Option<Vec<u8>> = None;
            for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
                force_level(level);
                let q = QTensor::quantize(&t, kind).unwrap();
                assert!(bits.get_or_insert_with(|| q.bytes().to_vec()) == q.bytes(), "{kind} at {level:?}");
                let y = q.dequantize().unwrap().to_vec::<f32>().unwrap();
                for (x, y) in x.chunks(32).zip(y.chunks(32)) {
                    let most = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                    // Q4_0 has one level less on one side, where up to a whole step is lost.
                    let step = 2.0 * most / levels;
                    let lost = x.iter().zip(y).fold(0.0f32, |m, (x, y)| m.max((x - y).abs()));
                    assert!(lost <= 1.01 * step, "{kind}: {lost} of {step}");
                }
            }
        }
        // A view is quantised as its elements stand, halves as f32.
        let turned = t.t().unwrap().narrow(1, 0, 32).unwrap();
        let q = QTensor::quantize(&turned.to_dtype(DType::F16).unwrap(), QuantKind::Q8_0).unwrap();
        let same =
            QTensor::quantize(&turned.contiguous().unwrap().to_dtype(DType::F16).unwrap(), QuantKind::Q8_0).unwrap();
        assert_eq!((q.dims(), q.bytes()), (&[1024, 32][..], same.bytes()));
    }

    /// Blocks of random bits for `[n, k]`.
    fn weights(kind: QuantKind, n: usize, k: usize) -> QTensor {
        let size = n * k / kind.block_len() * kind.block_size();
        let bytes = random(kind).bytes().iter().copied().cycle().take(size).collect();
        QTensor::new(kind, [n, k], bytes).unwrap()
    }

    #[test]
    fn products_are_those_of_the_decoded_weights() {
        let _forced = force_levels();
        let mut worst = 0.0f64;
        for kind in QuantKind::ALL {
            let odd = kind.block_len();
            for (m, n, k) in [(1, 37, 9 * odd), (2, 1, odd), (3, 70, 2 * odd), (4, 33, 3 * odd), (19, 50, 5 * odd)] {
                let w = weights(kind, n, k);
                let mut x = vec![0.0f32; m * k];
                Generator::new(k as u64).fill_normal(&mut x, 0.3, 1.0);
                // A block of zeros, one of tiny numbers, and one number far above the rest.
                x[..32].fill(0.0);
                x[(m - 1) * k..][..32].iter_mut().for_each(|x| *x *= 1e-35);
                x[m * k - 1] = 1000.0;
                let decoded = w.dequantize().unwrap().to_vec::<f32>().unwrap();
                let input = Tensor::new(&x).unwrap().reshape([m, k]).unwrap();
                for (level, threads) in [(Level::Baseline, 1), (Level::Avx2, 3), (Level::Avx512, 1), (Level::Avx512, 2)]
                {
                    force_level(level);
                    set_num_threads(threads).unwrap();
                    let y = w.linear(&input).unwrap().to_vec::<f32>().unwrap();
                    for (i, x) in x.chunks(k).enumerate() {
                        for (j, w) in decoded.chunks(k).enumerate() {
                            let (mut exact, mut bound) = (0.0, 1e-30);
                            for (x, w) in x.chunks(32).zip(w.chunks(32)) {
                                let most = x.iter().fold(0.0f32, |m, x| m.max(x.abs())) as f64;
                                // What is known of the numbers of a block before they are scaled rounds too.
                                let large = w.iter().fold(0.0f32, |m, w| m.max(w.abs())) as f64;
                                for (&x, &w) in x.iter().zip(w) {
                                    exact += x as f64 * w as f64;
                                    bound += most * (w.abs() as f64 / 65536.0 + large * 4e-6);
                                }
                            }
                            let apart = (y[i * n + j] as f64 - exact).abs();
                            assert!(
                                apart <= bound,
                                "{kind} at {level:?}, {m} x {n} x {k}: {} for {exact}, {bound} allowed",
                                y[i * n + j]
                            );
                            worst = worst.max(apart / bound);
                        }
                    }
                }
            }
        }
        println!("errors of at most {worst:.2} of what is allowed");
        set_num_threads(0).unwrap();
    }

    #[test]
    fn products_of_what_is_not_finite_or_does_not_fit() -> Result<()> {
        for m in [1, 9] {
            for bad in [f32::NAN, f32::INFINITY] {
                let w = weights(QuantKind::Q4_1, 20, 64);
                let mut x = vec![1.0f32; m * 64];
                x[40] = bad;
                let y = w.linear(&Tensor::new(&x)?.reshape([m, 64])?)?.to_vec::<f32>()?;
                assert!(y[..20].iter().all(|y| !y.is_finite()) && y[20..].iter().all(|y| y.is_finite()));
            }
        }
        let w = weights(QuantKind::Q8_0, 3, 32);
        assert_eq!(w.linear(&Tensor::zeros([2, 0, 32], DType::F32)?)?.dims(), [2, 0, 3]);
        assert_eq!(w.linear(&Tensor::zeros([32], DType::F16)?)?.dims(), [3]);
        assert!(w.linear(&Tensor::zeros([2, 31], DType::F32)?).is_err());
        assert!(w.linear(&Tensor::zeros([2, 32], DType::I64)?).is_err());
        assert!(w.linear(&Tensor::zeros([2, 32], DType::F32)?.requires_grad()?).is_err());
        let rows = w.embedding(&Tensor::new([[2i64], [0]])?)?;
        assert_eq!(rows.dims(), [2, 1, 32]);
        let all = w.dequantize()?.to_vec::<f32>()?;
        assert_eq!(rows.to_vec::<f32>()?, [&all[64..], &all[..32]].concat());
        for index in [-1i64, 3] {
            assert!(matches!(w.embedding(&Tensor::new([index])?), Err(Error::Index { size: 3, .. })));
        }
        Ok(())
    }
}
