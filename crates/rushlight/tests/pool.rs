//! Pooling: each fused form equals padding, windows and a reduction, in values, gradients and second gradients.

use std::slice::from_ref;

use rushlight::{
    AvgPoolOptions, DType, GradCheck, PoolOptions, Result, Tensor, gradcheck, gradgradcheck, random, set_num_threads,
};

/// Numbers for shapes: the test cases are the same on every run.
struct Cases(u64);

impl Cases {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

#[derive(Debug)]
struct Case<const N: usize> {
    shape: Vec<usize>,
    kernel: [usize; N],
    options: PoolOptions<N>,
    out: [usize; N],
}

impl<const N: usize> Case<N> {
    fn new(cases: &mut Cases, room: usize, dilated: bool) -> Case<N> {
        // Without a batch, with an empty one, with planes of any number.
        let mut shape = [vec![3], vec![0, 2], vec![2, 1], vec![1, 2], vec![2, 2]][cases.below(5)].clone();
        let (mut kernel, mut stride, mut out) = ([1; N], [1; N], [1; N]);
        let mut options = PoolOptions::<N> { ceil_mode: cases.below(2) == 1, ..Default::default() };
        for d in 0..N {
            kernel[d] = 1 + cases.below(4);
            stride[d] = 1 + cases.below(3);
            options.padding[d] = cases.below(kernel[d] / 2 + 1);
            options.dilation[d] = if dilated { 1 + cases.below(2) } else { 1 };
            let reach = options.dilation[d] * (kernel[d] - 1) + 1;
            let size = reach.saturating_sub(2 * options.padding[d]).max(1) + cases.below(room);
            let (whole, room) = (size + options.padding[d], size + 2 * options.padding[d] - reach);
            out[d] = if options.ceil_mode { room.div_ceil(stride[d]) } else { room / stride[d] } + 1;
            if options.ceil_mode && (out[d] - 1) * stride[d] >= whole {
                out[d] -= 1;
            }
            shape.push(size);
        }
        // Now and then the default stride, where it is the one drawn.
        options.stride = (stride != kernel || cases.below(2) == 0).then_some(stride);
        Case { shape, kernel, options, out }
    }

    /// The definition's first two steps: `outside` around `x`, and the windows, those dims flattened into one.
    fn windows(&self, x: &Tensor, outside: f64) -> Result<Tensor> {
        let (stride, lead) = (self.options.stride.unwrap_or(self.kernel), x.rank() - N);
        let amounts: Vec<(i64, i64)> = (0..N)
            .rev()
            .map(|d| {
                let end = (self.out[d] - 1) * stride[d] + self.options.dilation[d] * (self.kernel[d] - 1) + 1;
                let before = self.options.padding[d];
                (before as i64, end as i64 - (before + x.dims()[lead + d]) as i64)
            })
            .collect();
        let windows = x.pad(&amounts, outside)?.windows(self.kernel, stride, self.options.dilation)?;
        assert_eq!(windows.dims()[lead..lead + N], self.out, "{self:?}");
        let shape = [&windows.dims()[..lead + N], &[self.kernel.iter().product()]].concat();
        windows.reshape(shape)
    }
}

/// The methods under one name for each number of dims.
trait Pool<const N: usize> {
    fn max_pool(&self, kernel: [usize; N], options: PoolOptions<N>) -> Result<(Tensor, Tensor)>;
    fn max_values(&self, kernel: [usize; N], options: PoolOptions<N>) -> Result<Tensor>;
    fn softmax_pool(&self, kernel: [usize; N], options: PoolOptions<N>) -> Result<Tensor>;
    fn avg_pool(&self, kernel: [usize; N], options: AvgPoolOptions<N>) -> Result<Tensor>;
    fn lp_pool(&self, p: f64, kernel: [usize; N], stride: Option<[usize; N]>, ceil_mode: bool) -> Result<Tensor>;
    fn adaptive_avg(&self, output: [usize; N]) -> Result<Tensor>;
    fn adaptive_max(&self, output: [usize; N]) -> Result<(Tensor, Tensor)>;
}

macro_rules! pool {
    ($n:literal, $max:ident, $values:ident, $soft:ident, $avg:ident, $lp:ident, $aavg:ident, $amax:ident) => {
        impl Pool<$n> for Tensor {
            fn max_pool(&self, kernel: [usize; $n], options: PoolOptions<$n>) -> Result<(Tensor, Tensor)> {
                self.$max(kernel, options)
            }
            fn max_values(&self, kernel: [usize; $n], options: PoolOptions<$n>) -> Result<Tensor> {
                self.$values(kernel, options)
            }
            fn softmax_pool(&self, kernel: [usize; $n], options: PoolOptions<$n>) -> Result<Tensor> {
                self.$soft(kernel, options)
            }
            fn avg_pool(&self, kernel: [usize; $n], options: AvgPoolOptions<$n>) -> Result<Tensor> {
                self.$avg(kernel, options)
            }
            fn lp_pool(&self, p: f64, k: [usize; $n], stride: Option<[usize; $n]>, ceil: bool) -> Result<Tensor> {
                self.$lp(p, k, stride, ceil)
            }
            fn adaptive_avg(&self, output: [usize; $n]) -> Result<Tensor> {
                self.$aavg(output)
            }
            fn adaptive_max(&self, output: [usize; $n]) -> Result<(Tensor, Tensor)> {
                self.$amax(output)
            }
        }
    };
}

pool!(
    1,
    max_pool1d_with_indices,
    max_pool1d,
    softmax_pool1d,
    avg_pool1d,
    lp_pool1d,
    adaptive_avg_pool1d,
    adaptive_max_pool1d_with_indices
);
pool!(
    2,
    max_pool2d_with_indices,
    max_pool2d,
    softmax_pool2d,
    avg_pool2d,
    lp_pool2d,
    adaptive_avg_pool2d,
    adaptive_max_pool2d_with_indices
);
pool!(
    3,
    max_pool3d_with_indices,
    max_pool3d,
    softmax_pool3d,
    avg_pool3d,
    lp_pool3d,
    adaptive_avg_pool3d,
    adaptive_max_pool3d_with_indices
);

#[track_caller]
fn close(got: &Tensor, expected: &Tensor, what: &dyn std::fmt::Debug) {
    assert_eq!(got.dims(), expected.dims(), "{what:?}");
    for (i, (g, e)) in got.to_f64_vec().unwrap().into_iter().zip(expected.to_f64_vec().unwrap()).enumerate() {
        let near = g == e || (g - e).abs() <= 1e-12 * (1.0 + e.abs()) || g.is_nan() && e.is_nan();
        assert!(near, "at {i}: {g} instead of {e} in {what:?}");
    }
}

/// Two functions of a tensor agree in values, and in gradients for one random gradient of the result.
#[track_caller]
fn agree(
    x: &Tensor,
    fused: impl Fn(&Tensor) -> Result<Tensor>,
    definition: impl Fn(&Tensor) -> Result<Tensor>,
    what: &dyn std::fmt::Debug,
) -> Result<()> {
    let x = x.requires_grad()?;
    let (a, b) = (fused(&x)?, definition(&x)?);
    close(&a, &b, what);
    let dy = a.detach().randn_like()?;
    let mut grads = [a, b].map(|y| y.mul(&dy)?.sum(..)?.backward()?.remove(&x).map_or_else(|| x.zeros_like(), Ok));
    let [a, b] = grads.each_mut().map(|g| std::mem::replace(g, Ok(x.clone())));
    close(&a?, &b?, what);
    Ok(())
}

/// Few different values, so that ties are everywhere; NaN and −∞ now and then.
fn with_ties(shape: &[usize], infinite: bool) -> Result<Tensor> {
    let x = Tensor::randint(-2, 3, shape.to_vec())?.to_dtype(DType::F64)?;
    let mut values = x.to_vec::<f64>()?;
    if infinite {
        let n = values.len();
        values.iter_mut().take(n / 3).for_each(|v| *v = f64::NEG_INFINITY); // whole windows of −∞
        values.iter_mut().skip(n / 2).step_by(17).for_each(|v| *v = f64::NAN);
    }
    Tensor::from_vec(values, shape.to_vec())
}

fn equals_the_definition<const N: usize>() -> Result<()>
where
    Tensor: Pool<N>,
{
    random::manual_seed(N as u64);
    let mut cases = Cases(N as u64);
    for i in 0..60 {
        let case = Case::<N>::new(&mut cases, 6, true);
        let max = |x: &Tensor| x.max_values(case.kernel, case.options);
        let max_of_windows = |x: &Tensor| Ok(case.windows(x, f64::NEG_INFINITY)?.max(-1)?.0);
        agree(&Tensor::randn(case.shape.clone(), DType::F64)?, max, max_of_windows, &case)?;
        agree(&with_ties(&case.shape, false)?, max, max_of_windows, &case)?;
        // A window of −∞ alone may name a place of the padding by the definition, so its values only.
        let x = with_ties(&case.shape, true)?;
        close(&max(&x)?, &max_of_windows(&x)?, &case);

        let x = Tensor::randn(case.shape.clone(), DType::F64)?;
        let soft = |x: &Tensor| x.softmax_pool(case.kernel, case.options);
        let soft_of_windows = |x: &Tensor| {
            let w = case.windows(x, f64::NEG_INFINITY)?.exp()?;
            let weighted = case.windows(&x.mul(&x.exp()?)?, 0.0)?;
            weighted.sum(-1)?.div(&w.sum(-1)?)
        };
        // A window wholly in the padding (which dilation allows) has no softmax.
        if case.options.dilation == [1; N] {
            agree(&x, soft, soft_of_windows, &case)?;
        }

        let case = Case::<N>::new(&mut cases, 6, false);
        let x = Tensor::randn(case.shape.clone(), DType::F64)?;
        let PoolOptions { stride, padding, ceil_mode, .. } = case.options;
        let count_include_pad = i % 3 == 0;
        let divisor_override = (i % 3 == 2).then_some(1 + i);
        let options = AvgPoolOptions { stride, padding, ceil_mode, count_include_pad, divisor_override };
        let average = |x: &Tensor| x.avg_pool(case.kernel, options);
        let by_windows = |x: &Tensor| {
            let sum = case.windows(x, 0.0)?.sum(-1)?;
            if let Some(divisor) = divisor_override {
                return sum.div(divisor as f64);
            }
            // How many places of a window count: those of x, or of x with its padding, but not what lies behind.
            let counted = if count_include_pad {
                let all: Vec<(i64, i64)> = padding.iter().rev().map(|&p| (p as i64, p as i64)).collect();
                let bare = Case { options: PoolOptions { padding: [0; N], ..case.options }, ..clone(&case) };
                bare.windows(&x.detach().ones_like()?.pad(&all, 1.0)?, 0.0)?
            } else {
                case.windows(&x.detach().ones_like()?, 0.0)?
            };
            sum.div(&counted.sum(-1)?)
        };
        agree(&x, average, by_windows, &(&case, options))?;

        // Whole windows only: the definition of Lp pooling.
        let plain = PoolOptions { stride, ..Default::default() };
        let out: Vec<usize> = (0..N)
            .map(|d| (case.shape[case.shape.len() - N + d], case.kernel[d], stride.unwrap_or(case.kernel)[d]))
            .map(|(n, k, s)| if n < k { 0 } else { (n - k) / s + 1 })
            .collect();
        if out.iter().all(|&n| n > 0) {
            let case = Case { options: plain, out: std::array::from_fn(|d| out[d]), ..clone(&case) };
            for p in [1.0, 2.0, 3.0, 4.5] {
                let x = x.abs()?;
                let lp = |x: &Tensor| x.lp_pool(p, case.kernel, stride, false);
                let by_windows = |x: &Tensor| case.windows(x, 0.0)?.powf(p)?.sum(-1)?.powf(1.0 / p);
                agree(&x, lp, by_windows, &(&case, p))?;
            }
        }
    }
    Ok(())
}

fn clone<const N: usize>(case: &Case<N>) -> Case<N> {
    Case { shape: case.shape.clone(), ..*case }
}

#[test]
fn fused_pooling_is_windows_and_a_reduction_in_1d() -> Result<()> {
    equals_the_definition::<1>()
}

#[test]
fn fused_pooling_is_windows_and_a_reduction_in_2d() -> Result<()> {
    equals_the_definition::<2>()
}

#[test]
fn fused_pooling_is_windows_and_a_reduction_in_3d() -> Result<()> {
    equals_the_definition::<3>()
}

#[test]
fn indices_name_the_first_largest_place() -> Result<()> {
    random::manual_seed(4);
    let mut cases = Cases(4);
    for i in 0..40 {
        let case = Case::<2>::new(&mut cases, 6, false);
        let x = with_ties(&case.shape, i % 2 == 1)?;
        let (y, index) = x.max_pool(case.kernel, case.options)?;
        assert_eq!((index.dims(), index.dtype()), (y.dims(), DType::I64));
        let (values, y, index) = (x.to_vec::<f64>()?, y.to_vec::<f64>()?, index.to_vec::<i64>()?);
        let [h, w] = [case.shape[case.shape.len() - 2], case.shape[case.shape.len() - 1]];
        let (stride, [oh, ow]) = (case.options.stride.unwrap_or(case.kernel), case.out);
        for o in 0..y.len() {
            let (plane, r, c) = (o / (oh * ow), o / ow % oh, o % ow);
            let mut best: Option<usize> = None;
            for (u, v) in (0..case.kernel[0]).flat_map(|u| (0..case.kernel[1]).map(move |v| (u, v))) {
                let (i, j) = (r * stride[0] + u, c * stride[1] + v);
                let [p, q] = case.options.padding;
                if i < p || j < q || i - p >= h || j - q >= w {
                    continue;
                }
                let at = (i - p) * w + j - q;
                let value = |at: usize| values[plane * h * w + at];
                best = Some(match best {
                    Some(b) if value(at) > value(b) || value(at).is_nan() && !value(b).is_nan() => at,
                    Some(b) => b,
                    None => at,
                });
            }
            let best = best.unwrap();
            assert_eq!(index[o], best as i64, "output {o} of {case:?}");
            assert_eq!(y[o].to_bits(), values[plane * h * w + best].to_bits());
        }
    }
    Ok(())
}

#[test]
fn ties_send_the_gradient_to_the_first() -> Result<()> {
    let x = Tensor::ones([1, 1, 3, 3], DType::F32)?.requires_grad()?;
    let options = PoolOptions { stride: Some([1, 1]), ..Default::default() };
    let grads = x.max_pool2d([2, 2], options)?.sum(..)?.backward()?;
    assert_eq!(grads.get(&x).unwrap().to_vec::<f32>()?, [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn planes_of_minus_infinity_and_nan() -> Result<()> {
    for (value, dtype) in [(f64::NEG_INFINITY, DType::F32), (f64::NAN, DType::F32), (f64::NEG_INFINITY, DType::BF16)] {
        let x = Tensor::full([1, 2, 4, 4], value, dtype)?.requires_grad()?;
        let options = PoolOptions { padding: [1, 1], ..Default::default() };
        let (y, index) = x.max_pool2d_with_indices([2, 2], options)?;
        assert!(y.to_f64_vec()?.iter().all(|v| v.to_bits() == value.to_bits() || v.is_nan() && value.is_nan()));
        assert_eq!(index.to_vec::<i64>()?[..9], [0, 1, 3, 4, 5, 7, 12, 13, 15]);
        let dx = y.backward_with(&y.ones_like()?)?.remove(&x).unwrap().to_f64_vec()?;
        assert_eq!((dx[0], dx[2], dx[15], dx.iter().sum::<f64>()), (1.0, 0.0, 1.0, 18.0));
    }
    Ok(())
}

#[test]
fn a_window_in_the_padding_has_no_place() -> Result<()> {
    // Kernel 2, dilation 2, padding 1 on one element: both places lie outside. torch gives −∞ too.
    let x = Tensor::ones([1, 1], DType::F32)?.requires_grad()?;
    let options = PoolOptions { stride: Some([1]), padding: [1], dilation: [2], ceil_mode: false };
    let (y, index) = x.max_pool1d_with_indices([2], options)?;
    assert_eq!((y.to_vec::<f32>()?, index.to_vec::<i64>()?), (vec![f32::NEG_INFINITY], vec![-1]));
    assert_eq!(y.sum(..)?.backward()?.get(&x).unwrap().to_vec::<f32>()?, [0.0]);
    Ok(())
}

#[test]
fn ceil_mode_is_pytorchs() -> Result<()> {
    // F.max_pool1d(torch.arange(n), k, s, ceil_mode=True), F.avg_pool2d likewise
    let run = |n: usize, k, s, p| {
        let x = Tensor::arange(0.0, n as f64, 1.0, DType::F64)?.reshape([1, 1, n])?;
        let options = PoolOptions { stride: Some([s]), padding: [p], ceil_mode: true, ..Default::default() };
        x.max_pool1d([k], options)?.to_vec::<f64>()
    };
    assert_eq!(run(5, 2, 2, 0)?, [1.0, 3.0, 4.0]);
    assert_eq!(run(2, 3, 3, 0)?, [1.0]); // larger than the input, by less than the stride
    assert_eq!(run(1, 5, 3, 1)?, [0.0]);
    assert_eq!(run(5, 2, 4, 1)?, [0.0, 4.0]);
    assert!(run(2, 3, 1, 0).is_err());
    assert!(run(2, 5, 2, 0).is_err());
    let x = Tensor::new([[[1.0, 2.0, 3.0, 4.0, 5.0]]])?;
    // F.lp_pool1d(x, 2, 2, ceil_mode=True): the last window counts its one place twice.
    let y = x.lp_pool1d(2.0, [2], None, true)?.to_vec::<f64>()?;
    let expected = [5f64.sqrt(), 5.0, 50f64.sqrt()];
    assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{y:?}");
    Ok(())
}

#[test]
fn lp_pooling_of_zeros_has_gradient_zero() -> Result<()> {
    let x = Tensor::new([[0.0f64, 0.0, 3.0, 4.0]])?.requires_grad()?;
    let y = x.lp_pool1d(2.0, [2], None, false)?;
    assert_eq!(y.to_vec::<f64>()?, [0.0, 5.0]);
    let dx = y.sum(..)?.backward()?.remove(&x).unwrap().to_vec::<f64>()?;
    assert!(dx.iter().zip([0.0, 0.0, 0.6, 0.8]).all(|(a, b)| (a - b).abs() < 1e-12), "{dx:?}");
    Ok(())
}

fn differentiable<const N: usize>(rounds: usize) -> Result<()>
where
    Tensor: Pool<N>,
{
    random::manual_seed(20 + N as u64);
    let mut cases = Cases(20 + N as u64);
    let usual = GradCheck::default();
    for _ in 0..rounds {
        let case = Case::<N>::new(&mut cases, 2, false);
        // Values far enough apart that a small step changes no maximum.
        let n: usize = case.shape.iter().product();
        let apart = Tensor::randperm(n)?.to_dtype(DType::F64)?.div(n.max(1) as f64)?.reshape(case.shape.clone())?;
        let max = |t: &[Tensor]| t[0].square()?.max_values(case.kernel, case.options);
        gradcheck(max, from_ref(&apart), usual)?;
        gradgradcheck(max, from_ref(&apart), usual)?;
        let adaptive_max = |t: &[Tensor]| Ok(t[0].square()?.adaptive_max([2; N])?.0);
        gradcheck(adaptive_max, from_ref(&apart), usual)?;
        gradgradcheck(adaptive_max, &[apart], usual)?;

        let x = Tensor::randn(case.shape.clone(), DType::F64)?;
        let soft = |t: &[Tensor]| t[0].softmax_pool(case.kernel, case.options);
        gradcheck(soft, from_ref(&x), usual)?;
        gradgradcheck(soft, from_ref(&x), usual)?;
        let PoolOptions { stride, padding, ceil_mode, .. } = case.options;
        let options = AvgPoolOptions { stride, padding, ceil_mode, ..Default::default() };
        let average = |t: &[Tensor]| t[0].square()?.avg_pool(case.kernel, options);
        gradcheck(average, from_ref(&x), usual)?;
        gradgradcheck(average, from_ref(&x), usual)?;
        let adaptive = |t: &[Tensor]| t[0].square()?.adaptive_avg([2; N]);
        gradcheck(adaptive, from_ref(&x), usual)?;
        gradgradcheck(adaptive, from_ref(&x), usual)?;
        if (0..N).all(|d| case.shape[case.shape.len() - N + d] >= case.kernel[d]) {
            let lp = |t: &[Tensor]| t[0].lp_pool(3.0, case.kernel, stride, ceil_mode);
            let x = x.abs()?.add(0.1)?;
            gradcheck(lp, from_ref(&x), usual)?;
            gradgradcheck(lp, &[x], usual)?;
        }
    }
    Ok(())
}

#[test]
fn gradients_are_right_twice() -> Result<()> {
    differentiable::<1>(6)?;
    differentiable::<2>(4)?;
    differentiable::<3>(1)
}

#[test]
fn adaptive_pooling_cuts_by_its_definition() -> Result<()> {
    random::manual_seed(6);
    for (h, w, oh, ow) in [(7, 5, 3, 2), (3, 3, 7, 4), (1, 1, 1, 1), (6, 4, 1, 1), (6, 4, 3, 2), (5, 5, 5, 1)] {
        let x = Tensor::randn([2, 3, h, w], DType::F64)?;
        let span = |i: usize, n: usize, o: usize| (i * n / o, ((i + 1) * n).div_ceil(o) - i * n / o);
        let part = |x: &Tensor, i: usize, j: usize| {
            let ((r, rows), (c, cols)) = (span(i, h, oh), span(j, w, ow));
            x.narrow(2, r, rows)?.narrow(3, c, cols)
        };
        let parts = |x: &Tensor, f: &dyn Fn(Tensor) -> Result<Tensor>| {
            let all = (0..oh * ow).map(|i| f(part(x, i / ow, i % ow)?)).collect::<Result<Vec<_>>>()?;
            Tensor::stack(&all, -1)?.reshape([2, 3, oh, ow])
        };
        let mean = |x: &Tensor| parts(x, &|p| p.mean([2, 3]));
        agree(&x, |x| x.adaptive_avg_pool2d([oh, ow]), mean, &(h, w, oh, ow))?;
        let largest = |x: &Tensor| parts(x, &|p| p.amax([2, 3]));
        agree(&x, |x| x.adaptive_max_pool2d([oh, ow]), largest, &(h, w, oh, ow))?;
        let (y, index) = x.adaptive_max_pool2d_with_indices([oh, ow])?;
        let found = x.flatten(2, 3)?.gather(2, &index.flatten(2, 3)?)?.reshape(y.shape())?;
        assert_eq!(found.to_vec::<f64>()?, y.to_vec::<f64>()?);
    }
    Ok(())
}

#[test]
fn strided_inputs_give_what_their_copies_give() -> Result<()> {
    random::manual_seed(7);
    let x = Tensor::randn([9, 2, 7, 3], DType::F32)?.permute([3, 1, 0, 2])?.slice_step(3, 7, -9, -1)?;
    let wide = Tensor::randn([3, 1, 1, 6], DType::F32)?.expand([3, 2, 5, 6])?;
    for x in [x, wide] {
        let copy = x.contiguous()?;
        let same = |f: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<()> {
            assert_eq!(f(&x)?.to_vec::<f32>()?, f(&copy)?.to_vec::<f32>()?);
            Ok(())
        };
        let options = PoolOptions { stride: Some([2, 1]), padding: [1, 1], ..Default::default() };
        same(&|x| x.max_pool2d([3, 2], options))?;
        same(&|x| x.softmax_pool2d([3, 2], options))?;
        same(&|x| x.avg_pool2d([3, 2], Default::default()))?;
        same(&|x| x.adaptive_avg_pool2d([2, 3]))?;
        same(&|x| x.adaptive_max_pool2d([2, 3]))?;
    }
    Ok(())
}

#[test]
fn results_do_not_depend_on_the_threads() -> Result<()> {
    random::manual_seed(8);
    let x = Tensor::randn([8, 5, 61, 67], DType::F32)?.requires_grad()?;
    let mut seen: Vec<Vec<f32>> = vec![];
    for threads in [1, 2, 3] {
        set_num_threads(threads)?;
        let options = PoolOptions { stride: Some([2, 2]), padding: [1, 1], ..Default::default() };
        let y = x.max_pool2d([3, 3], options)?;
        let z = x.avg_pool2d([2, 2], Default::default())?.adaptive_avg_pool2d([7, 3])?;
        let loss = y.square()?.sum(..)?.add(&z.square()?.sum(..)?)?;
        let mut all = loss.backward()?.remove(&x).unwrap().to_vec::<f32>()?;
        all.extend(y.to_vec::<f32>()?);
        all.extend(z.to_vec::<f32>()?);
        seen.push(all);
    }
    set_num_threads(0)?;
    assert!(seen.iter().all(|s| s.iter().zip(&seen[0]).all(|(a, b)| a.to_bits() == b.to_bits())));
    Ok(())
}

#[test]
fn bad_arguments_are_named() -> Result<()> {
    let x = Tensor::zeros([1, 2, 4, 4], DType::F32)?;
    let said = |r: Result<Tensor>| r.err().map(|e| e.to_string()).unwrap_or_default();
    let max = |kernel, options| said(x.max_pool2d(kernel, options));
    let usual = PoolOptions::<2>::default();

    let e = max([5, 2], usual);
    assert!(e.contains("max_pool2d: a window of 5 places") && e.contains("dim 2 of shape [1, 2, 4, 4]"), "{e}");
    let e = max([2, 3], PoolOptions { padding: [1, 2], ..usual });
    assert!(e.contains("padding 2 is more than half the kernel 3"), "{e}");
    assert!(max([0, 2], usual).contains("at least 1"));
    assert!(max([2, 2], PoolOptions { stride: Some([1, 0]), ..usual }).contains("at least 1"));
    assert!(max([2, 2], PoolOptions { dilation: [1, 0], ..usual }).contains("at least 1"));
    for ceil_mode in [false, true] {
        // Sizes that overflow are refused, not wrapped round.
        assert!(!max([2, 2], PoolOptions { dilation: [usize::MAX; 2], ceil_mode, ..usual }).is_empty());
        assert!(!max([usize::MAX; 2], PoolOptions { ceil_mode, ..usual }).is_empty());
        let far = PoolOptions { stride: Some([usize::MAX; 2]), ..usual };
        let y = x.max_pool2d([2, 2], PoolOptions { ceil_mode, ..far })?;
        assert_eq!(y.dims(), [1, 2, 1, 1]);
    }
    assert!(said(x.select(0, 0)?.select(0, 0)?.max_pool2d([2, 2], usual)).contains("expected an input of 4 dims"));
    assert!(said(x.to_dtype(DType::I64)?.max_pool2d([2, 2], usual)).contains("float"));
    assert!(said(Tensor::zeros([1, 0], DType::F32)?.max_pool1d([1], Default::default())).contains("does not fit"));
    let zero = AvgPoolOptions { divisor_override: Some(0), ..Default::default() };
    assert!(said(x.avg_pool2d([2, 2], zero)).contains("divisor_override is 0"));
    assert!(said(x.lp_pool2d(0.0, [2, 2], None, false)).contains("p = 0"));
    assert!(said(x.lp_pool2d(f64::NAN, [2, 2], None, false)).contains("p = NaN"));
    assert!(said(Tensor::zeros([1, 0], DType::F32)?.adaptive_avg_pool1d([1])).contains("no places"));
    assert!(!said(x.adaptive_avg_pool2d([usize::MAX; 2])).is_empty());
    assert!(!said(x.adaptive_max_pool2d([1 << 50, 1])).is_empty());
    // Of no planes there may be more windows than memory has room to describe.
    let none = Tensor::zeros([0, 1usize << 45], DType::F32)?;
    assert_eq!(none.avg_pool1d([1], Default::default())?.dims(), [0, 1 << 45]);
    assert!(said(none.max_pool1d([1], Default::default())).contains("too large to be indexed"));
    assert!(said(none.adaptive_avg_pool1d([1 << 44])).contains("too large"));
    // ceil_mode forgives a kernel as much larger than the input as the stride is.
    let huge = 1 << 58;
    let y = x.max_pool2d([huge; 2], PoolOptions { ceil_mode: true, ..usual })?;
    assert_eq!(y.dims(), [1, 2, 1, 1]);
    let y = x.add(3.0)?.avg_pool2d([huge; 2], AvgPoolOptions { ceil_mode: true, ..Default::default() })?;
    assert_eq!(y.to_vec::<f32>()?, [3.0, 3.0]);
    assert_eq!(x.adaptive_max_pool2d([0, 2])?.dims(), [1, 2, 0, 2]);
    Ok(())
}
