//! The rows, in the order of the table.

use std::convert::Infallible;
use std::hint::black_box;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{BinaryCrossEntropyLossConfig, CrossEntropyLossConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, SgdConfig};
use burn::tensor::activation::{gelu_approximate, log_softmax, relu, softmax};
use burn::tensor::module::{avg_pool2d, conv2d, layer_norm, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Device, Distribution, Int, Tensor};

/// burn panics instead of returning errors.
pub type Step = crate::serve::Step<Infallible>;
/// A name, and what makes the inputs and gives the step.
pub type Row = (String, Box<dyn Fn() -> Result<Step, Infallible>>);

const N: [usize; 1] = [1 << 24];
const MATRIX: [usize; 2] = [4096, 4096];
const ROWS: [usize; 2] = [8192, 1024];
const IMAGES: [usize; 4] = [32, 64, 56, 56];

pub fn all() -> Vec<Row> {
    let mut rows = products();
    rows.extend(maps());
    rows.extend(reductions());
    rows.extend(softmaxes());
    rows.extend(pools());
    rows.push(row("layernorm_fb_8192x768", || {
        let device = Device::flex().autodiff();
        let x = tracked([8192, 768]);
        let weight = Tensor::<1>::ones([768], &device).require_grad();
        let bias = Tensor::<1>::zeros([768], &device).require_grad();
        step(move || layer_norm(x.clone(), weight.clone(), Some(bias.clone()), 1e-5).backward())
    }));
    rows.extend(convolution(32, 3, 112, 64, 7, 2, 3));
    rows.extend(convolution(32, 64, 56, 64, 3, 1, 1));
    rows.extend(convolution(32, 256, 14, 256, 3, 1, 1));
    rows.extend(convolution(64, 1, 28, 32, 3, 1, 1));
    rows.extend(crate::gpt::rows());
    rows.push(row("adamw_32M", adamw));
    rows.push(row("lenet_train_step_b64", lenet));
    rows.push(row("mlp_tiny_train_step", mlp));
    rows
}

pub fn row(name: impl Into<String>, make: impl Fn() -> Step + 'static) -> Row {
    (name.into(), Box::new(move || Ok(make())))
}

pub fn step<R>(f: impl Fn() -> R + 'static) -> Step {
    Box::new(move || {
        black_box(f());
        Ok(())
    })
}

const NORMAL: Distribution = Distribution::Normal(0.0, 1.0);

pub fn randn<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, NORMAL, &Device::flex())
}

pub fn tracked<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, NORMAL, &Device::flex().autodiff()).require_grad()
}

/// Whole numbers below `high`.
pub fn labels<const D: usize>(shape: [usize; D], high: usize) -> Tensor<D, Int> {
    let uniform = Distribution::Uniform(0.0, high as f64);
    Tensor::<D>::random(shape, uniform, &Device::flex().autodiff()).floor().clamp_max((high - 1) as f64).int()
}

/// Forward only, of an input of `shape`.
fn forward<const D: usize, R: 'static>(name: &str, shape: [usize; D], f: fn(Tensor<D>) -> R) -> Row {
    row(name, move || {
        let x = randn(shape);
        step(move || f(x.clone()))
    })
}

/// There and back; burn starts from a gradient of ones itself.
fn forward_backward<const D: usize>(name: &str, shape: [usize; D], f: fn(Tensor<D>) -> Tensor<D>) -> Row {
    row(name, move || {
        let x = tracked(shape);
        step(move || f(x.clone()).backward())
    })
}

fn products() -> Vec<Row> {
    let square = |name: &str, n: usize, dtype: DType| {
        row(name, move || {
            let randn = || Tensor::<2>::random([n, n], NORMAL, (&Device::flex(), dtype));
            let (a, b) = (randn(), randn());
            step(move || a.clone().matmul(b.clone()))
        })
    };
    vec![
        square("matmul_f32_64", 64, DType::F32),
        square("matmul_f32_256", 256, DType::F32),
        square("matmul_f32_1024", 1024, DType::F32),
        square("matmul_f32_2048", 2048, DType::F32),
        square("matmul_bf16_1024", 1024, DType::BF16),
        square("matmul_f64_1024", 1024, DType::F64),
        row("bmm_96x256x64x256", || {
            let (a, b) = (randn([96, 256, 64]), randn([96, 64, 256]));
            step(move || a.clone().matmul(b.clone()))
        }),
    ]
}

fn maps() -> Vec<Row> {
    let add = |name: &str, shape: [usize; 1]| {
        row(name, move || {
            let (x, y) = (randn(shape), randn(shape));
            step(move || x.clone() + y.clone())
        })
    };
    vec![
        add("ew_add_16M", N),
        forward("ew_gelu_tanh_16M", N, gelu_approximate),
        forward("ew_exp_16M", N, |x| x.exp()),
        row("ew_broadcast_add_4096x4096", || {
            let (r, c) = (randn([4096, 1]), randn([1, 4096]));
            step(move || r.clone() + c.clone())
        }),
        add("ew_add_1K", [1024]),
    ]
}

fn reductions() -> Vec<Row> {
    vec![
        forward("sum_all_16M", MATRIX, |x| x.sum()),
        forward("sum_dim0", MATRIX, |x| x.sum_dim(0)),
        forward("sum_dim1", MATRIX, |x| x.sum_dim(1)),
        forward("max_dim1", MATRIX, |x| x.max_dim_with_indices(1)),
        forward("max_dim0", MATRIX, |x| x.max_dim_with_indices(0)),
        forward("argmax_dim1", MATRIX, |x| x.argmax(1)),
    ]
}

fn softmaxes() -> Vec<Row> {
    vec![
        forward("softmax_fwd_8192x1024", ROWS, |x| softmax(x, 1)),
        forward_backward("softmax_fb_8192x1024", ROWS, |x| softmax(x, 1)),
        forward_backward("logsoftmax_fb_8192x1024", ROWS, |x| log_softmax(x, 1)),
        row("cross_entropy_fb_1024x50257", || {
            let (logits, target) = (tracked([1024, 50257]), labels([1024], 50257));
            let loss = CrossEntropyLossConfig::new().init(&logits.device());
            step(move || loss.forward(logits.clone(), target.clone()).backward())
        }),
    ]
}

fn pools() -> Vec<Row> {
    vec![
        forward("maxpool2_fwd_32x64x56x56", IMAGES, halve),
        forward_backward("maxpool2_fb", IMAGES, halve),
        forward_backward("maxpool3s2p1_fb", IMAGES, |x| {
            max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]))
        }),
        forward_backward("avgpool2_fb", IMAGES, |x| avg_pool2d(x, AvgPoolOptions::new([2, 2]))),
    ]
}

fn halve(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([2, 2]))
}

fn convolution(
    batch: usize,
    channels: usize,
    size: usize,
    out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> [Row; 2] {
    let shape = format!("{batch}x{channels}x{size}_k{kernel}s{stride}_co{out}");
    let (xs, ws) = ([batch, channels, size, size], [out, channels, kernel, kernel]);
    let options = move || ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
    let fwd = row(format!("conv2d_fwd_{shape}"), move || {
        let (x, w) = (randn(xs), randn(ws));
        step(move || conv2d(x.clone(), w.clone(), None, options()))
    });
    let fb = row(format!("conv2d_fb_{shape}"), move || {
        let (x, w) = (tracked(xs), tracked(ws));
        step(move || conv2d(x.clone(), w.clone(), None, options()).backward())
    });
    [fwd, fb]
}

/// A step takes the model and returns it.
pub fn updating<M: 'static>(model: M, mut update: impl FnMut(M) -> M + 'static) -> Step {
    let mut model = Some(model);
    Box::new(move || {
        model = model.take().map(&mut update);
        Ok(())
    })
}

#[derive(Module, Debug)]
struct Parameters {
    all: Vec<Param<Tensor<1>>>,
}

fn adamw() -> Step {
    let parameter = |_| Param::from_tensor(tracked([1 << 20]));
    let model = Parameters { all: (0..32).map(parameter).collect() };
    let grads: Vec<Tensor<1>> = model.all.iter().map(|_| randn([1 << 20])).collect();
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.01).init();
    updating(model, move |model| {
        // A step takes the gradients; these share their memory.
        let mut taken = GradientsParams::new();
        for (p, grad) in model.all.iter().zip(&grads) {
            taken.register(p.id, grad.clone());
        }
        optimizer.step(1e-3, model, taken)
    })
}

#[derive(Module, Debug)]
struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    dense: Linear,
    dropout: Dropout,
    out: Linear,
}

impl LeNet {
    fn new(device: &Device) -> LeNet {
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
        };
        LeNet {
            conv1: conv(1, 32),
            conv2: conv(32, 64),
            dense: LinearConfig::new(64 * 7 * 7, 128).init(device),
            dropout: DropoutConfig::new(0.25).init(),
            out: LinearConfig::new(128, 10).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = halve(relu(self.conv1.forward(x))); // [B, 32, 14, 14]
        let x = halve(relu(self.conv2.forward(x))); // [B, 64, 7, 7]
        let x = relu(self.dense.forward(x.flatten::<2>(1, 3))); // [B, 128]
        self.out.forward(self.dropout.forward(x)) // [B, 10]
    }
}

fn lenet() -> Step {
    let device = Device::flex().autodiff();
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
    let mut optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let x = Tensor::<4>::random([64, 1, 28, 28], NORMAL, &device);
    let y = labels([64], 10);
    updating(LeNet::new(&device), move |model| {
        let grads = loss.forward(model.forward(x.clone()), y.clone()).backward();
        let grads = GradientsParams::from_grads(grads, &model);
        optimizer.step(0.01, model, grads)
    })
}

#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

fn mlp() -> Step {
    let device = Device::flex().autodiff();
    let layer = |from, to| LinearConfig::new(from, to).init(&device);
    let model = Mlp { layers: vec![layer(2, 64), layer(64, 64), layer(64, 1)] };
    let mut optimizer = SgdConfig::new().init();
    let loss = BinaryCrossEntropyLossConfig::new().with_logits(true).init(&device);
    let x = Tensor::<2>::random([50, 2], NORMAL, &device);
    let y = labels([50, 1], 2);
    updating(model, move |model| {
        let h = relu(model.layers[0].forward(x.clone()));
        let h = relu(model.layers[1].forward(h));
        let grads = loss.forward(model.layers[2].forward(h), y.clone()).backward();
        let grads = GradientsParams::from_grads(grads, &model);
        optimizer.step(0.5, model, grads)
    })
}
