//! The rows, in the order of the table.

use std::hint::black_box;

use candle_core::{D, DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::{
    AdamW, Conv2d, Conv2dConfig, Dropout, Linear, Module, Optimizer, ParamsAdamW, SGD, VarBuilder, VarMap, conv2d,
    linear, loss, ops,
};

pub type Step = crate::serve::Step<Error>;
/// A name, and what makes the inputs and gives the step.
pub type Row = (String, Box<dyn Fn() -> Result<Step>>);

const N: usize = 1 << 24;
const MATRIX: (usize, usize) = (4096, 4096);
const ROWS: (usize, usize) = (8192, 1024);
const IMAGES: (usize, usize, usize, usize) = (32, 64, 56, 56);

pub fn all() -> Vec<Row> {
    let mut rows = products();
    rows.extend(maps());
    rows.extend(reductions());
    rows.extend(softmaxes());
    rows.extend(pools());
    rows.push(row("layernorm_fb_8192x768", || {
        // The fused form has no gradient.
        let x = Var::from_tensor(&randn((8192, 768))?)?;
        let weight = Var::ones(768, DType::F32, &Device::Cpu)?;
        let bias = Var::zeros(768, DType::F32, &Device::Cpu)?;
        step(move || ops::layer_norm_slow(&x, &weight, &bias, 1e-5)?.backward())
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

pub fn row(name: impl Into<String>, make: impl Fn() -> Result<Step> + 'static) -> Row {
    (name.into(), Box::new(make))
}

fn step<R>(f: impl Fn() -> Result<R> + 'static) -> Result<Step> {
    Ok(Box::new(move || {
        black_box(f()?);
        Ok(())
    }))
}

fn randn(shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu)
}

/// Whole numbers below `high`.
pub fn labels(count: usize, high: usize) -> Result<Tensor> {
    Tensor::rand(0f32, high as f32, count, &Device::Cpu)?.floor()?.clamp(0.0, (high - 1) as f64)?.to_dtype(DType::U32)
}

/// Forward only, of an input of `shape`.
fn forward<S: Into<Shape> + Copy + 'static, R>(name: &str, shape: S, f: fn(&Tensor) -> Result<R>) -> Row
where
    R: 'static,
{
    row(name, move || {
        let x = randn(shape)?;
        step(move || f(&x))
    })
}

/// There and back; candle starts from a gradient of ones itself.
fn forward_backward<S: Into<Shape> + Copy + 'static>(name: &str, shape: S, f: fn(&Tensor) -> Result<Tensor>) -> Row {
    row(name, move || {
        let x = Var::from_tensor(&randn(shape)?)?;
        step(move || f(&x)?.backward())
    })
}

fn products() -> Vec<Row> {
    let square = |name: &str, n: usize, dtype: DType| {
        row(name, move || {
            let (a, b) = (randn((n, n))?.to_dtype(dtype)?, randn((n, n))?.to_dtype(dtype)?);
            step(move || a.matmul(&b))
        })
    };
    vec![
        square("matmul_f32_64", 64, DType::F32),
        square("matmul_f32_256", 256, DType::F32),
        square("matmul_f32_1024", 1024, DType::F32),
        square("matmul_f32_2048", 2048, DType::F32),
        square("matmul_f64_1024", 1024, DType::F64),
        row("bmm_96x256x64x256", || {
            let (a, b) = (randn((96, 256, 64))?, randn((96, 64, 256))?);
            step(move || a.matmul(&b))
        }),
    ]
}

fn maps() -> Vec<Row> {
    let add = |name: &str, n: usize| {
        row(name, move || {
            let (x, y) = (randn(n)?, randn(n)?);
            step(move || x.add(&y))
        })
    };
    vec![
        add("ew_add_16M", N),
        // candle's gelu is the one by tanh.
        forward("ew_gelu_tanh_16M", N, |x| x.gelu()),
        forward("ew_exp_16M", N, |x| x.exp()),
        row("ew_broadcast_add_4096x4096", || {
            let (r, c) = (randn((4096, 1))?, randn((1, 4096))?);
            step(move || r.broadcast_add(&c))
        }),
        add("ew_add_1K", 1024),
    ]
}

fn reductions() -> Vec<Row> {
    vec![
        forward("sum_all_16M", MATRIX, |x| x.sum_all()),
        forward("sum_dim0", MATRIX, |x| x.sum(0)),
        forward("sum_dim1", MATRIX, |x| x.sum(1)),
        // Values and places, as the others give them.
        forward("max_dim1", MATRIX, |x| Ok((x.max(1)?, x.argmax(1)?))),
        forward("max_dim0", MATRIX, |x| Ok((x.max(0)?, x.argmax(0)?))),
        forward("argmax_dim1", MATRIX, |x| x.argmax(1)),
    ]
}

fn softmaxes() -> Vec<Row> {
    vec![
        // The fused form; it has no gradient.
        forward("softmax_fwd_8192x1024", ROWS, ops::softmax_last_dim),
        forward_backward("softmax_fb_8192x1024", ROWS, |x| ops::softmax(x, D::Minus1)),
        forward_backward("logsoftmax_fb_8192x1024", ROWS, |x| ops::log_softmax(x, D::Minus1)),
        row("cross_entropy_fb_1024x50257", || {
            let (logits, target) = (Var::from_tensor(&randn((1024, 50257))?)?, labels(1024, 50257)?);
            step(move || loss::cross_entropy(&logits, &target)?.backward())
        }),
    ]
}

fn pools() -> Vec<Row> {
    vec![
        forward("maxpool2_fwd_32x64x56x56", IMAGES, |x| x.max_pool2d(2)),
        forward_backward("maxpool2_fb", IMAGES, |x| x.max_pool2d(2)),
        forward_backward("avgpool2_fb", IMAGES, |x| x.avg_pool2d(2)),
    ]
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
    let inputs =
        move || Ok::<_, Error>((randn((batch, channels, size, size))?, randn((out, channels, kernel, kernel))?));
    let fwd = row(format!("conv2d_fwd_{shape}"), move || {
        let (x, w) = inputs()?;
        step(move || x.conv2d(&w, padding, stride, 1, 1))
    });
    let fb = row(format!("conv2d_fb_{shape}"), move || {
        let (x, w) = inputs()?;
        let (x, w) = (Var::from_tensor(&x)?, Var::from_tensor(&w)?);
        step(move || x.conv2d(&w, padding, stride, 1, 1)?.backward())
    });
    [fwd, fb]
}

fn adamw() -> Result<Step> {
    let mut parameters = vec![];
    // The gradient of Σ p·g is g.
    let mut sum = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    for _ in 0..32 {
        let p = Var::from_tensor(&randn(1 << 20)?)?;
        sum = (sum + p.mul(&randn(1 << 20)?)?.sum_all()?)?;
        parameters.push(p);
    }
    let grads = sum.backward()?;
    let mut optimizer = AdamW::new(parameters, ParamsAdamW { lr: 1e-3, ..ParamsAdamW::default() })?;
    Ok(Box::new(move || optimizer.step(&grads)))
}

struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    dense: Linear,
    dropout: Dropout,
    out: Linear,
}

impl LeNet {
    fn new(vb: &VarBuilder) -> Result<LeNet> {
        let same = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        Ok(LeNet {
            conv1: conv2d(1, 32, 3, same, vb.pp("conv1"))?,
            conv2: conv2d(32, 64, 3, same, vb.pp("conv2"))?,
            dense: linear(64 * 7 * 7, 128, vb.pp("dense"))?,
            dropout: Dropout::new(0.25),
            out: linear(128, 10, vb.pp("out"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(x)?.relu()?.max_pool2d(2)?; // [B, 32, 14, 14]
        let x = self.conv2.forward(&x)?.relu()?.max_pool2d(2)?; // [B, 64, 7, 7]
        let x = self.dense.forward(&x.flatten_from(1)?)?.relu()?; // [B, 128]
        self.out.forward(&self.dropout.forward(&x, true)?) // [B, 10]
    }
}

fn lenet() -> Result<Step> {
    let variables = VarMap::new();
    let model = LeNet::new(&VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    // candle's SGD has no momentum, so it has a little less to do than the others.
    let mut optimizer = SGD::new(variables.all_vars(), 0.01)?;
    let (x, y) = (randn((64, 1, 28, 28))?, labels(64, 10)?);
    Ok(Box::new(move || optimizer.backward_step(&loss::cross_entropy(&model.forward(&x)?, &y)?)))
}

fn mlp() -> Result<Step> {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let layers = [linear(2, 64, vb.pp("0"))?, linear(64, 64, vb.pp("1"))?, linear(64, 1, vb.pp("2"))?];
    let mut optimizer = SGD::new(variables.all_vars(), 0.5)?;
    let (x, y) = (randn((50, 2))?, Tensor::rand(0f32, 1f32, (50, 1), &Device::Cpu)?.round()?);
    Ok(Box::new(move || {
        let h = layers[0].forward(&x)?.relu()?;
        let h = layers[1].forward(&h)?.relu()?;
        let loss = loss::binary_cross_entropy_with_logit(&layers[2].forward(&h)?, &y)?;
        optimizer.backward_step(&loss)
    }))
}
