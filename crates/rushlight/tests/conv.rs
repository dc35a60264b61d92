//! Convolution against its definition in f64, and its gradients of first and second order.

use rushlight::{
    ConvOptions, ConvTransposeOptions, DType, GradCheck, Result, Tensor, grad, gradcheck, gradgradcheck, random,
    set_grad_enabled,
};

/// Numbers for shapes: the test cases are the same on every run.
struct Cases(u64);

impl Cases {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn pick(&mut self, choices: &[usize]) -> usize {
        choices[self.below(choices.len())]
    }
}

/// A convolution in `N` dims and the sizes of its input and weight.
#[derive(Debug)]
struct Case<const N: usize> {
    options: ConvOptions<N>,
    x: Vec<usize>,
    w: Vec<usize>,
    out: [usize; N],
}

impl<const N: usize> Case<N> {
    fn new(cases: &mut Cases, batch: usize, room: usize) -> Case<N> {
        let groups = cases.pick(&[1, 1, 2, 3]);
        let (ci, co) = (cases.pick(&[1, 2]), cases.pick(&[1, 2]));
        let mut options = ConvOptions::<N> { groups, ..Default::default() };
        let (mut x, mut w) = (vec![batch, groups * ci], vec![groups * co, ci]);
        let mut out = [0; N];
        for (d, out) in out.iter_mut().enumerate() {
            let kernel = cases.pick(&[1, 2, 3]);
            options.stride[d] = cases.pick(&[1, 1, 2, 3]);
            options.padding[d] = cases.pick(&[0, 1, 2]);
            options.dilation[d] = cases.pick(&[1, 1, 2]);
            let reach = options.dilation[d] * (kernel - 1) + 1;
            let size = reach.saturating_sub(2 * options.padding[d]).max(1) + cases.below(room);
            *out = (size + 2 * options.padding[d] - reach) / options.stride[d] + 1;
            x.push(size);
            w.push(kernel);
        }
        Case { options, x, w, out }
    }

    /// Calls `f(place in x, place in w, place in y)` for each product of the definition.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (groups, ins, outs) = (self.options.groups, self.w[1], self.w[0] / self.options.groups);
        let index = |at: &[usize], dims: &[usize]| at.iter().zip(dims).fold(0, |i, (a, n)| i * n + a);
        for o in every(&self.out) {
            for k in every(&self.w[2..]) {
                let at: Vec<usize> = (0..N)
                    .map(|d| o[d] * self.options.stride[d] + k[d] * self.options.dilation[d])
                    .zip(self.options.padding)
                    .map(|(i, p)| i.wrapping_sub(p))
                    .collect();
                if at.iter().zip(&self.x[2..]).any(|(a, n)| a >= n) {
                    continue;
                }
                for b in 0..self.x[0] {
                    for (g, co, ci) in every(&[groups, outs, ins]).into_iter().map(|v| (v[0], v[0] * outs + v[1], v[2]))
                    {
                        let x = [&[b, g * ins + ci], &at[..]].concat();
                        let w = [&[co, ci], &k[..]].concat();
                        let y = [&[b, co], &o[..]].concat();
                        f(index(&x, &self.x), index(&w, &self.w), index(&y, &self.y()));
                    }
                }
            }
        }
    }

    fn y(&self) -> Vec<usize> {
        [&[self.x[0], self.w[0]], &self.out[..]].concat()
    }
}

fn every(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter()
        .fold(vec![vec![]], |all, &n| all.iter().flat_map(|at| (0..n).map(move |i| [&at[..], &[i]].concat())).collect())
}

/// The methods under one name for each number of dims.
trait Conv: Sized {
    fn conv(self, x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor>;
    fn transposed(self, y: &Tensor, w: &Tensor, b: Option<&Tensor>, more: usize) -> Result<Tensor>;
}

macro_rules! conv {
    ($n:literal, $conv:ident, $transpose:ident) => {
        impl Conv for ConvOptions<$n> {
            fn conv(self, x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
                x.$conv(w, b, self)
            }
            fn transposed(self, y: &Tensor, w: &Tensor, b: Option<&Tensor>, more: usize) -> Result<Tensor> {
                let ConvOptions { stride, padding, dilation, groups } = self;
                let output_padding = std::array::from_fn(|d| more.min(stride[d].max(dilation[d]) - 1));
                y.$transpose(w, b, ConvTransposeOptions { stride, padding, output_padding, dilation, groups })
            }
        }
    };
}

conv!(1, conv1d, conv_transpose1d);
conv!(2, conv2d, conv_transpose2d);
conv!(3, conv3d, conv_transpose3d);

#[track_caller]
fn close(got: &[f64], expected: &[f64], tolerance: f64, what: &dyn std::fmt::Debug) {
    assert_eq!(got.len(), expected.len(), "{what:?}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * (1.0 + e.abs()), "at {i}: {g} instead of {e} in {what:?}");
    }
}

fn by_definition<const N: usize>(dtype: DType, tolerance: f64) -> Result<()>
where
    ConvOptions<N>: Conv,
{
    random::manual_seed(N as u64);
    let mut cases = Cases(N as u64);
    for i in 0..25 {
        let case = Case::<N>::new(&mut cases, i % 4, 6);
        let [x, w, b] = [&case.x, &case.w, &vec![case.w[0]]].map(|s| Tensor::randn(s, dtype)?.requires_grad());
        let (x, w, b) = (x?, w?, b?);
        let dy = Tensor::randn(case.y(), dtype)?;
        let y = case.options.conv(&x, &w, Some(&b))?;
        assert_eq!(y.dims(), case.y());
        let grads = y.mul(&dy)?.sum(..)?.backward()?;

        let [xs, ws, bs, dys] = [&x, &w, &b, &dy].map(|t| t.to_f64_vec().unwrap());
        let (mut ys, mut dx, mut dw) = (vec![0.0; y.numel()], vec![0.0; x.numel()], vec![0.0; w.numel()]);
        let area = case.out.iter().product::<usize>();
        ys.iter_mut().enumerate().for_each(|(i, y)| *y = bs[i / area % bs.len()]);
        let mut db = vec![0.0; b.numel()];
        dys.iter().enumerate().for_each(|(i, d)| db[i / area % bs.len()] += d);
        case.products(|i, j, k| {
            ys[k] += xs[i] * ws[j];
            dx[i] += dys[k] * ws[j];
            dw[j] += dys[k] * xs[i];
        });
        close(&y.to_f64_vec()?, &ys, tolerance, &case);
        for (t, expected) in [(&x, &dx), (&w, &dw), (&b, &db)] {
            let grad = grads.get(t).unwrap();
            assert_eq!(grad.dims(), t.dims());
            close(&grad.to_f64_vec()?, expected, tolerance * 4.0, &case);
        }

        // The transposed convolution is dx, where its output has the size of x.
        let (stride, padding) = (case.options.stride, case.options.padding);
        let size = |d: usize| (case.out[d] - 1) * stride[d] + case.options.dilation[d] * (case.w[2 + d] - 1) + 1;
        if (0..N).all(|d| size(d) == case.x[2 + d] + 2 * padding[d]) {
            let back = case.options.transposed(&dy, &w, None, 0)?;
            assert_eq!(back.dims(), x.dims());
            close(&back.to_f64_vec()?, &dx, tolerance * 4.0, &case);
        }
    }
    Ok(())
}

#[test]
fn values_and_gradients_are_those_of_the_definition() -> Result<()> {
    by_definition::<1>(DType::F64, 1e-12)?;
    by_definition::<2>(DType::F64, 1e-12)?;
    by_definition::<3>(DType::F64, 1e-12)?;
    by_definition::<1>(DType::F32, 1e-5)?;
    by_definition::<2>(DType::F32, 1e-5)?;
    by_definition::<2>(DType::F16, 2e-2)?;
    by_definition::<2>(DType::BF16, 1e-1)
}

fn differentiable<const N: usize>() -> Result<()>
where
    ConvOptions<N>: Conv + Copy,
{
    random::manual_seed(N as u64);
    let mut cases = Cases(7 + N as u64);
    for i in 0..6 {
        let case = Case::<N>::new(&mut cases, 1 + i % 2, 2);
        let [x, w, b] = [&case.x, &case.w, &vec![case.w[0]]].map(|s| Tensor::randn(s, DType::F64));
        let (x, w, b) = (x?, w?, b?);
        let conv = |t: &[Tensor]| case.options.conv(&t[0], &t[1], t.get(2));
        gradcheck(conv, &[x.clone(), w.clone(), b.clone()], GradCheck::default())?;
        gradgradcheck(conv, &[x, w, b], GradCheck::default())?;

        let y = Tensor::randn(case.y(), DType::F64)?;
        let w = Tensor::randn(&case.w, DType::F64)?;
        let b = Tensor::randn(case.w[1] * case.options.groups, DType::F64)?;
        let more = i % 3;
        let transposed = |t: &[Tensor]| case.options.transposed(&t[0], &t[1], t.get(2), more);
        if transposed(&[y.clone(), w.clone()]).is_ok() {
            gradcheck(transposed, &[y.clone(), w.clone(), b.clone()], GradCheck::default())?;
            gradgradcheck(transposed, &[y, w, b], GradCheck::default())?;
        }
    }
    Ok(())
}

#[test]
fn gradients_are_right_twice_in_1d() -> Result<()> {
    differentiable::<1>()
}

#[test]
fn gradients_are_right_twice_in_2d() -> Result<()> {
    differentiable::<2>()
}

#[test]
fn gradients_are_right_twice_in_3d() -> Result<()> {
    random::manual_seed(3);
    let options = ConvOptions { stride: [1, 2, 1], padding: [1, 0, 1], dilation: [1, 1, 2], groups: 2 };
    let (x, w) = (Tensor::randn([1, 2, 2, 3, 3], DType::F64)?, Tensor::randn([2, 1, 2, 2, 2], DType::F64)?);
    let conv = |t: &[Tensor]| t[0].conv3d(&t[1], None, options);
    gradcheck(conv, &[x.clone(), w.clone()], GradCheck::default())?;
    gradgradcheck(conv, &[x.clone(), w.clone()], GradCheck::default())?;
    let transposed = |t: &[Tensor]| options.transposed(&t[0], &t[1], None, 1);
    gradcheck(transposed, &[x.clone(), w.clone()], GradCheck::default())?;
    gradgradcheck(transposed, &[x, w], GradCheck::default())
}

#[test]
fn third_derivatives_exist() -> Result<()> {
    // A loss of third order in the result, so that no third derivative is zero. The check runs part of it in no_grad.
    let slope = |t: &[Tensor]| {
        set_grad_enabled(true, || {
            let t: Vec<Tensor> = t
                .iter()
                .map(|t| if t.is_tracked() { Ok(t.clone()) } else { t.requires_grad() })
                .collect::<Result<_>>()?;
            let y = t[0].conv1d(&t[1], None, ConvOptions { padding: [1], ..Default::default() })?;
            let loss = y.powi(3)?.sum(..)?;
            grad(&[&loss], &[&t[0]], true)?.remove(0).map_or_else(|| t[0].zeros_like(), Ok)
        })
    };
    random::manual_seed(5);
    let inputs = [Tensor::randn([1, 1, 4], DType::F64)?, Tensor::randn([1, 1, 3], DType::F64)?];
    gradgradcheck(slope, &inputs, GradCheck { atol: 1e-4, ..Default::default() })
}

#[test]
fn values_of_pytorch() -> Result<()> {
    // torch.nn.functional.conv_transpose1d(torch.ones(1, 1, 3), torch.tensor([[[1., 2., 3.]]]), **options)
    let (y, w) = (Tensor::ones([1, 1, 3], DType::F64)?, Tensor::new([[[1.0, 2.0, 3.0]]])?);
    let run = |stride, padding, output_padding, dilation| {
        let options = ConvTransposeOptions {
            stride: [stride],
            padding: [padding],
            output_padding: [output_padding],
            dilation: [dilation],
            groups: 1,
        };
        y.conv_transpose1d(&w, None, options)?.to_vec::<f64>()
    };
    assert_eq!(run(2, 0, 0, 1)?, [1.0, 2.0, 4.0, 2.0, 4.0, 2.0, 3.0]);
    assert_eq!(run(2, 1, 1, 1)?, [2.0, 4.0, 2.0, 4.0, 2.0, 3.0]);
    // An output_padding of the stride or more, allowed below the dilation.
    assert_eq!(run(2, 0, 2, 3)?, [1.0, 0.0, 1.0, 2.0, 1.0, 2.0, 3.0, 2.0, 3.0, 0.0, 3.0, 0.0, 0.0]);
    assert_eq!(run(1, 1, 2, 3)?, [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 0.0]);
    Ok(())
}

#[test]
fn strided_inputs_give_what_their_copies_give() -> Result<()> {
    random::manual_seed(11);
    let x = Tensor::randn([7, 2, 9, 3], DType::F64)?.permute([3, 1, 0, 2])?.slice_step(3, 8, -10, -2)?; // [3, 2, 7, 5]
    let w = Tensor::randn([1, 2, 1, 3], DType::F64)?.expand([4, 2, 2, 3])?;
    let options = ConvOptions { padding: [1, 1], ..Default::default() };
    let y = x.conv2d(&w, None, options)?;
    assert_eq!(y.to_vec::<f64>()?, x.contiguous()?.conv2d(&w.contiguous()?, None, options)?.to_vec::<f64>()?);
    let f = |t: &[Tensor]| {
        let x = t[0].transpose(2, 3)?.slice_step(2, 0, 9, 2)?;
        x.conv2d(&t[1].expand([2, 2, 2, 2])?, None, ConvOptions { padding: [1, 1], ..Default::default() })
    };
    let inputs = [Tensor::randn([1, 2, 2, 3], DType::F64)?, Tensor::randn([1, 2, 2, 1], DType::F64)?];
    gradcheck(f, &inputs, GradCheck::default())?;
    gradgradcheck(f, &inputs, GradCheck::default())
}

#[test]
fn without_a_batch_and_with_an_empty_one() -> Result<()> {
    random::manual_seed(12);
    let (x, w) = (Tensor::randn([2, 5, 4], DType::F64)?, Tensor::randn([2, 2, 3, 2], DType::F64)?);
    let b = Tensor::randn(2, DType::F64)?;
    let one = x.conv2d(&w, Some(&b), Default::default())?;
    assert_eq!(one.dims(), [2, 3, 3]);
    let batched = x.unsqueeze(0)?.conv2d(&w, Some(&b), Default::default())?;
    assert_eq!(one.to_vec::<f64>()?, batched.to_vec::<f64>()?);
    let back = one.conv_transpose2d(&w, Some(&b), Default::default())?;
    assert_eq!(back.dims(), x.dims());
    let f = |t: &[Tensor]| t[0].conv2d(&t[1], Some(&t[2]), Default::default());
    gradcheck(f, &[x, w.clone(), b.clone()], GradCheck::default())?;

    let (none, w, b) = (Tensor::zeros([0, 2, 5, 4], DType::F64)?, w.requires_grad()?, b.requires_grad()?);
    let y = none.conv2d(&w, Some(&b), Default::default())?;
    assert_eq!(y.dims(), [0, 2, 3, 3]);
    let grads = y.sum(..)?.backward()?;
    assert_eq!(grads.get(&w).unwrap().to_vec::<f64>()?, [0.0; 24]);
    assert_eq!(grads.get(&b).unwrap().to_vec::<f64>()?, [0.0; 2]);
    Ok(())
}

#[test]
fn a_window_that_sees_nan_or_infinity_shows_it() -> Result<()> {
    let x = Tensor::new([[1.0f32, f32::NAN, 1.0, 1.0, f32::INFINITY]])?;
    let w = Tensor::ones([1, 1, 2], DType::F32)?;
    let y = x.conv1d(&w, None, Default::default())?.to_vec::<f32>()?;
    assert!(y[0].is_nan() && y[1].is_nan());
    assert_eq!(y[2..], [2.0, f32::INFINITY]);
    Ok(())
}

/// A stride that leads out of the input is never taken, however long: there is one output.
#[test]
fn strides_that_are_never_taken() -> Result<()> {
    let x = Tensor::arange(0.0, 100.0, 1.0, DType::F64)?.reshape([1, 4, 5, 5])?.requires_grad()?;
    let w = Tensor::ones([2, 4, 3, 3], DType::F64)?;
    let of = |stride| -> Result<[Vec<f64>; 2]> {
        let y = x.conv2d(&w, None, ConvOptions { stride, ..Default::default() })?;
        assert_eq!(y.dims(), [1, 2, 1, 1]);
        let dx = grad(&[&y.sum(..)?], &[&x], false)?.remove(0).unwrap();
        Ok([y.to_f64_vec()?, dx.to_f64_vec()?])
    };
    assert_eq!(of([usize::MAX, 1 << 40])?, of([3, 3])?);
    let y = Tensor::ones([1, 2, 1, 1], DType::F64)?;
    let far = ConvTransposeOptions { stride: [usize::MAX; 2], ..Default::default() };
    assert_eq!(y.conv_transpose2d(&w, None, far)?.to_f64_vec()?, [2.0; 36]);
    Ok(())
}

#[test]
fn bad_arguments_are_named() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape.to_vec(), DType::F32).unwrap();
    let x = zeros(&[1, 4, 5, 5]);
    let said = |r: Result<Tensor>| r.err().map(|e| e.to_string()).unwrap_or_default();
    let conv = |w: &[usize], options| said(x.conv2d(&zeros(w), None, options));
    let usual = ConvOptions::<2>::default();

    let e = conv(&[2, 4, 6, 3], usual);
    assert!(e.contains("conv2d: a kernel of 6 places") && e.contains("larger than spatial dim 0"), "{e}");
    let e = conv(&[2, 3, 3, 3], usual);
    assert!(e.contains("has 4 channels") && e.contains("takes 3"), "{e}");
    let e = conv(&[3, 2, 3, 3], ConvOptions { groups: 2, ..usual });
    assert!(e.contains("2 groups do not divide the 3 channels"), "{e}");
    assert!(conv(&[2, 4, 3], usual).contains("expected a weight of 4 dims"));
    assert!(conv(&[2, 4, 0, 3], usual).contains("is empty"));
    for bad in [
        ConvOptions { stride: [0, 1], ..usual },
        ConvOptions { dilation: [1, 0], ..usual },
        ConvOptions { groups: 0, ..usual },
    ] {
        assert!(conv(&[2, 4, 3, 3], bad).contains("at least 1"));
    }
    // Sizes that overflow are refused, not wrapped round.
    for bad in [
        ConvOptions { padding: [usize::MAX; 2], ..usual },
        ConvOptions { padding: [usize::MAX / 4; 2], ..usual },
        ConvOptions { dilation: [usize::MAX; 2], ..usual },
    ] {
        assert!(!conv(&[2, 4, 3, 3], bad).is_empty());
    }
    assert!(said(zeros(&[5, 5]).conv2d(&zeros(&[2, 4, 3, 3]), None, usual)).contains("expected an input of 4 dims"));
    let e = said(x.conv2d(&zeros(&[2, 4, 3, 3]), Some(&zeros(&[3])), usual));
    assert!(e.contains("expected a bias of shape [2]"), "{e}");
    let ints = x.to_dtype(DType::I64).unwrap();
    let e = said(ints.conv2d(&zeros(&[2, 4, 3, 3]).to_dtype(DType::I64).unwrap(), None, usual));
    assert!(e.contains("float"), "{e}");

    let transposed = |w: &[usize], options| said(x.conv_transpose2d(&zeros(w), None, options));
    let usual = ConvTransposeOptions::<2>::default();
    assert!(transposed(&[3, 2, 3, 3], usual).contains("has 4 channels"));
    let e = transposed(&[4, 2, 3, 3], ConvTransposeOptions { output_padding: [1, 0], ..usual });
    assert!(e.contains("output_padding 1"), "{e}");
    let e = transposed(&[4, 2, 3, 3], ConvTransposeOptions { padding: [4, 0], ..usual });
    assert!(e.contains("no places"), "{e}");
    assert!(!transposed(&[4, 2, 3, 3], ConvTransposeOptions { padding: [usize::MAX; 2], ..usual }).is_empty());
    assert!(!transposed(&[4, 2, 3, 3], ConvTransposeOptions { stride: [usize::MAX; 2], ..usual }).is_empty());
    assert!(transposed(&[4, 2, 3, 3], ConvTransposeOptions { groups: 3, ..usual }).contains("3 groups"));
}
