//! Convolution layers.

use super::{Description, Kind, Layer, Module, Path, Visitor, VisitorMut, init};
use crate::{ConvOptions, ConvTransposeOptions, Error, Result, Shape, Tensor};

macro_rules! convolutions {
    ($($n:literal: $Conv:ident $conv:ident, $Transpose:ident $transpose:ident, $space:literal;)*) => {$(
        #[doc = concat!("A convolution layer: `[B, in, ", $space, "] → [B, out, …]`. PyTorch: `nn.", stringify!($Conv), "`.")]
        ///
        #[doc = concat!("See [`Tensor::", stringify!($conv), "`].")]
        pub struct $Conv {
            /// `[out, in/groups, kernel…]`
            pub weight: Tensor,
            /// `[out]`
            pub bias: Option<Tensor>,
            /// How the kernel moves.
            pub options: ConvOptions<$n>,
        }

        impl $Conv {
            /// With bias; weight and bias start uniform within ±1/√(in/groups · kernel), as PyTorch's.
            ///
            /// Errors: groups that do not divide the channels; a kernel without places.
            pub fn new(
                in_channels: usize,
                out_channels: usize,
                kernel: [usize; $n],
                options: ConvOptions<$n>,
            ) -> Result<$Conv> {
                let shape = weight_shape(stringify!($conv), out_channels, in_channels, options.groups, &kernel)?;
                let fan_in = shape[1..].iter().product();
                let (weight, bias) = (init::layer(shape, fan_in)?, init::layer([out_channels].into(), fan_in)?);
                Ok($Conv { weight, bias: Some(bias), options })
            }

            /// The same without bias.
            pub fn without_bias(mut self) -> $Conv {
                self.bias = None;
                self
            }
        }

        impl Layer for $Conv {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$conv(&self.weight, self.bias.as_ref(), self.options)
            }
        }

        convolutions!(@module $Conv);

        #[doc = concat!("A transposed convolution layer: `[B, in, ", $space, "] → [B, out, …]`. PyTorch: `nn.", stringify!($Transpose), "`.")]
        ///
        #[doc = concat!("See [`Tensor::", stringify!($transpose), "`].")]
        pub struct $Transpose {
            /// `[in, out/groups, kernel…]`
            pub weight: Tensor,
            /// `[out]`
            pub bias: Option<Tensor>,
            /// How the kernel moves.
            pub options: ConvTransposeOptions<$n>,
        }

        impl $Transpose {
            /// With bias; weight and bias start uniform within ±1/√(out/groups · kernel), as PyTorch's.
            ///
            /// Errors: groups that do not divide the channels; a kernel without places.
            pub fn new(
                in_channels: usize,
                out_channels: usize,
                kernel: [usize; $n],
                options: ConvTransposeOptions<$n>,
            ) -> Result<$Transpose> {
                let shape = weight_shape(stringify!($transpose), in_channels, out_channels, options.groups, &kernel)?;
                let fan_in = shape[1..].iter().product();
                let (weight, bias) = (init::layer(shape, fan_in)?, init::layer([out_channels].into(), fan_in)?);
                Ok($Transpose { weight, bias: Some(bias), options })
            }
        }

        impl Layer for $Transpose {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                x.$transpose(&self.weight, self.bias.as_ref(), self.options)
            }
        }

        convolutions!(@module $Transpose);
    )*};
    (@module $Name:ident) => {
        impl Module for $Name {
            fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
                path.enter("weight", |p| f(p.name(), Kind::Parameter, &self.weight));
                path.enter("bias", |p| self.bias.visit(p, f));
            }

            fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
                path.enter("weight", |p| f(p.name(), Kind::Parameter, &mut self.weight))?;
                path.enter("bias", |p| self.bias.visit_mut(p, f))
            }

            fn set_training(&mut self, _: bool) {}

            fn describe(&self) -> Description {
                let o = &self.options;
                let mut settings = format!("weight={}, stride={:?}, padding={:?}", self.weight.shape(), o.stride, o.padding);
                if o.dilation.iter().any(|d| *d != 1) {
                    settings += &format!(", dilation={:?}", o.dilation);
                }
                if o.groups != 1 {
                    settings += &format!(", groups={}", o.groups);
                }
                Description::leaf(stringify!($Name), settings + &format!(", bias={}", self.bias.is_some()))
            }
        }
    };
}

convolutions! {
    1: Conv1d conv1d, ConvTranspose1d conv_transpose1d, "L";
    2: Conv2d conv2d, ConvTranspose2d conv_transpose2d, "H, W";
    3: Conv3d conv3d, ConvTranspose3d conv_transpose3d, "D, H, W";
}

/// `[first, second/groups, kernel…]`
fn weight_shape(op: &'static str, first: usize, second: usize, groups: usize, kernel: &[usize]) -> Result<Shape> {
    if groups == 0 || !first.is_multiple_of(groups) || !second.is_multiple_of(groups) {
        return Err(Error::invalid(op, format!("{groups} groups do not divide {first} and {second} channels")));
    }
    if first == 0 || second == 0 || kernel.contains(&0) {
        let message = format!("{first} and {second} channels with a kernel of {kernel:?}: each must be at least 1");
        return Err(Error::invalid(op, message));
    }
    Ok([first, second / groups].into_iter().chain(kernel.iter().copied()).collect())
}
