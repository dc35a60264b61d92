//! Layers without parameters: activations, pools, dropout, flatten; and [`Sequential`], which chains layers.

use super::{Description, Layer, Module, Path, Visitor, VisitorMut};
use crate::{AvgPoolOptions, Error, PoolOptions, Result, Tensor};

/// A layer that has settings and no tensors.
macro_rules! plain_module {
    ($Name:ident, |$s:ident| $settings:expr) => {
        impl Module for $Name {
            fn visit(&self, _: &mut Path, _: &mut Visitor<'_>) {}
            fn visit_mut(&mut self, _: &mut Path, _: &mut VisitorMut<'_>) -> Result<()> {
                Ok(())
            }
            fn set_training(&mut self, _: bool) {}
            fn describe(&self) -> Description {
                let $s = self;
                let _ = $s;
                Description::leaf(stringify!($Name), $settings)
            }
        }
    };
}

pub(super) use plain_module;

macro_rules! activations {
    ($($(#[$doc:meta])* $Name:ident => $method:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $Name;
        plain_module!($Name, |s| "");

        impl Layer for $Name {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$method()
            }
        }
    )*};
}

activations! {
    /// [`Tensor::relu`] as a layer. PyTorch: `nn.ReLU`.
    Relu => relu;
    /// [`Tensor::gelu`] as a layer. PyTorch: `nn.GELU`.
    Gelu => gelu;
    /// [`Tensor::gelu_tanh`] as a layer. PyTorch: `nn.GELU(approximate="tanh")`.
    GeluTanh => gelu_tanh;
    /// [`Tensor::silu`] as a layer. PyTorch: `nn.SiLU`.
    Silu => silu;
    /// [`Tensor::sigmoid`] as a layer. PyTorch: `nn.Sigmoid`.
    Sigmoid => sigmoid;
    /// [`Tensor::tanh`] as a layer. PyTorch: `nn.Tanh`.
    Tanh => tanh;
    /// [`Tensor::softplus`] as a layer. PyTorch: `nn.Softplus`.
    Softplus => softplus;
}

/// [`Tensor::leaky_relu`] as a layer. PyTorch: `nn.LeakyReLU`.
#[derive(Clone, Copy, Debug)]
pub struct LeakyRelu {
    /// The slope below 0.
    pub negative_slope: f64,
}
plain_module!(LeakyRelu, |s| format!("negative_slope={}", s.negative_slope));

impl Layer for LeakyRelu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.leaky_relu(self.negative_slope)
    }
}

/// [`Tensor::elu`] as a layer. PyTorch: `nn.ELU`.
#[derive(Clone, Copy, Debug)]
pub struct Elu {
    /// The limit far below 0 is −alpha.
    pub alpha: f64,
}
plain_module!(Elu, |s| format!("alpha={}", s.alpha));

impl Layer for Elu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.elu(self.alpha)
    }
}

/// [`Tensor::softmax`] as a layer. PyTorch: `nn.Softmax`.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// The dim that sums to 1.
    pub dim: i64,
}
plain_module!(Softmax, |s| format!("dim={}", s.dim));

impl Layer for Softmax {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.softmax(self.dim)
    }
}

/// [`Tensor::log_softmax`] as a layer. PyTorch: `nn.LogSoftmax`.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax {
    /// The dim whose exponentials sum to 1.
    pub dim: i64,
}
plain_module!(LogSoftmax, |s| format!("dim={}", s.dim));

impl Layer for LogSoftmax {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.log_softmax(self.dim)
    }
}

/// All dims but the first merged into one. PyTorch: `nn.Flatten`.
#[derive(Clone, Copy, Debug)]
pub struct Flatten;
plain_module!(Flatten, |s| "");

impl Layer for Flatten {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.flatten(1, -1)
    }
}

macro_rules! pools {
    ($($n:literal: $Max:ident $max:ident, $Soft:ident $soft:ident, $Avg:ident $avg:ident, $Lp:ident $lp:ident,
       $AdaptiveMax:ident $amax:ident, $AdaptiveAvg:ident $aavg:ident;)*) => {$(
        #[doc = concat!("[`Tensor::", stringify!($max), "`] as a layer. PyTorch: `nn.", stringify!($Max), "`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $Max {
            /// The size of a window.
            pub kernel: [usize; $n],
            /// How the windows lie.
            pub options: PoolOptions<$n>,
        }
        plain_module!($Max, |s| format!("kernel={:?}, {}", s.kernel, steps(&s.kernel, s.options.stride.as_ref())));

        impl $Max {
            /// Windows of `kernel` side by side.
            pub fn new(kernel: [usize; $n]) -> $Max {
                $Max { kernel, options: PoolOptions::default() }
            }
        }

        impl Layer for $Max {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$max(self.kernel, self.options)
            }
        }

        #[doc = concat!("[`Tensor::", stringify!($soft), "`] as a layer: a soft ", stringify!($Max), ".")]
        #[derive(Clone, Copy, Debug)]
        pub struct $Soft {
            /// The size of a window.
            pub kernel: [usize; $n],
            /// How the windows lie.
            pub options: PoolOptions<$n>,
        }
        plain_module!($Soft, |s| format!("kernel={:?}, {}", s.kernel, steps(&s.kernel, s.options.stride.as_ref())));

        impl $Soft {
            /// Windows of `kernel` side by side.
            pub fn new(kernel: [usize; $n]) -> $Soft {
                $Soft { kernel, options: PoolOptions::default() }
            }
        }

        impl Layer for $Soft {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$soft(self.kernel, self.options)
            }
        }

        #[doc = concat!("[`Tensor::", stringify!($lp), "`] as a layer. PyTorch: `nn.LPPool", stringify!($n), "d`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $Lp {
            /// The norm: 1 sums, and the larger the nearer to a maximum.
            pub p: f64,
            /// The size of a window.
            pub kernel: [usize; $n],
            /// From one window to the next; none: the size.
            pub stride: Option<[usize; $n]>,
            /// Whether a last window that reaches over the end counts.
            pub ceil_mode: bool,
        }
        plain_module!($Lp, |s| format!("p={}, kernel={:?}, {}", s.p, s.kernel, steps(&s.kernel, s.stride.as_ref())));

        impl $Lp {
            /// Windows of `kernel` side by side.
            pub fn new(p: f64, kernel: [usize; $n]) -> $Lp {
                $Lp { p, kernel, stride: None, ceil_mode: false }
            }
        }

        impl Layer for $Lp {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$lp(self.p, self.kernel, self.stride, self.ceil_mode)
            }
        }

        #[doc = concat!("[`Tensor::", stringify!($avg), "`] as a layer. PyTorch: `nn.", stringify!($Avg), "`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $Avg {
            /// The size of a window.
            pub kernel: [usize; $n],
            /// How the windows lie.
            pub options: AvgPoolOptions<$n>,
        }
        plain_module!($Avg, |s| format!("kernel={:?}, {}", s.kernel, steps(&s.kernel, s.options.stride.as_ref())));

        impl $Avg {
            /// Windows of `kernel` side by side.
            pub fn new(kernel: [usize; $n]) -> $Avg {
                $Avg { kernel, options: AvgPoolOptions::default() }
            }
        }

        impl Layer for $Avg {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$avg(self.kernel, self.options)
            }
        }

        #[doc = concat!("[`Tensor::", stringify!($amax), "`] as a layer. PyTorch: `nn.", stringify!($AdaptiveMax), "`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $AdaptiveMax {
            /// The size of the output.
            pub output: [usize; $n],
        }
        plain_module!($AdaptiveMax, |s| format!("output={:?}", s.output));

        impl Layer for $AdaptiveMax {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$amax(self.output)
            }
        }

        #[doc = concat!("[`Tensor::", stringify!($aavg), "`] as a layer. PyTorch: `nn.", stringify!($AdaptiveAvg), "`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $AdaptiveAvg {
            /// The size of the output.
            pub output: [usize; $n],
        }
        plain_module!($AdaptiveAvg, |s| format!("output={:?}", s.output));

        impl Layer for $AdaptiveAvg {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$aavg(self.output)
            }
        }
    )*};
}

fn steps(kernel: &[usize], stride: Option<impl AsRef<[usize]>>) -> String {
    format!("stride={:?}", stride.as_ref().map_or(kernel, |s| s.as_ref()))
}

pools! {
    1: MaxPool1d max_pool1d, SoftmaxPool1d softmax_pool1d, AvgPool1d avg_pool1d, LpPool1d lp_pool1d,
       AdaptiveMaxPool1d adaptive_max_pool1d, AdaptiveAvgPool1d adaptive_avg_pool1d;
    2: MaxPool2d max_pool2d, SoftmaxPool2d softmax_pool2d, AvgPool2d avg_pool2d, LpPool2d lp_pool2d,
       AdaptiveMaxPool2d adaptive_max_pool2d, AdaptiveAvgPool2d adaptive_avg_pool2d;
    3: MaxPool3d max_pool3d, SoftmaxPool3d softmax_pool3d, AvgPool3d avg_pool3d, LpPool3d lp_pool3d,
       AdaptiveMaxPool3d adaptive_max_pool3d, AdaptiveAvgPool3d adaptive_avg_pool3d;
}

/// Zeroes elements at random in training, and passes everything in evaluation. PyTorch: `nn.Dropout`.
///
/// Source: Srivastava et al. 2014. See [`Tensor::dropout`].
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    p: f64,
    training: bool,
}

impl Dropout {
    /// Each element is zeroed with probability `p`. Errors: no probability.
    pub fn new(p: f64) -> Result<Dropout> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::invalid("dropout", format!("{p} is no probability")));
        }
        Ok(Dropout { p, training: true })
    }

    /// The share that is dropped now: 0 in evaluation.
    pub fn rate(&self) -> f64 {
        if self.training { self.p } else { 0.0 }
    }
}

impl Layer for Dropout {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.training { x.dropout(self.p) } else { Ok(x.clone()) }
    }
}

impl Module for Dropout {
    fn visit(&self, _: &mut Path, _: &mut Visitor<'_>) {}

    fn visit_mut(&mut self, _: &mut Path, _: &mut VisitorMut<'_>) -> Result<()> {
        Ok(())
    }

    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn describe(&self) -> Description {
        Description::leaf("Dropout", format!("p={}", self.p))
    }
}

/// Layers one after the other. PyTorch: `nn.Sequential`.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Layer, Linear, Module, Relu, Sequential}};
/// let model = Sequential::new().push(Linear::new(2, 16)?).push(Relu).push(Linear::new(16, 1)?);
/// assert_eq!(model.forward(&Tensor::ones([8, 2], DType::F32)?)?.dims(), [8, 1]);
/// assert_eq!(model.named_parameters()[2].0, "2.weight");
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Layer + Send + Sync>>,
}

impl Sequential {
    /// No layers: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// One more layer at the end.
    pub fn push(mut self, layer: impl Layer + Send + Sync + 'static) -> Sequential {
        self.layers.push(Box::new(layer));
        self
    }
}

impl Layer for Sequential {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }
}

impl Module for Sequential {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        self.layers.visit(path, f);
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        self.layers.visit_mut(path, f)
    }

    fn set_training(&mut self, training: bool) {
        self.layers.set_training(training);
    }

    fn describe(&self) -> Description {
        Description { name: "Sequential".to_string(), ..self.layers.describe() }
    }
}
