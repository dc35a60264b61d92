//! The element types: f32 f64 bf16 f16 i64 u8 bool, as a value ([`DType`]) and as traits ([`Element`], [`Float`]).

use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

pub use half::{bf16, f16};

use crate::storage::{Buffer, Storage};

/// The type of a tensor's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit float: the default.
    F32,
    /// 64-bit float.
    F64,
    /// Brain float: f32's exponent, 8 bits of precision. Computed in f32.
    BF16,
    /// IEEE half precision. Computed in f32.
    F16,
    /// 64-bit signed integer: indices and labels.
    I64,
    /// 8-bit unsigned integer: pixels and bytes.
    U8,
    /// True or false: masks.
    Bool,
}

impl DType {
    /// All dtypes.
    pub const ALL: [DType; 7] = [DType::F32, DType::F64, DType::BF16, DType::F16, DType::I64, DType::U8, DType::Bool];

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 => 4,
            DType::BF16 | DType::F16 => 2,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether this is one of the four float dtypes, the ones gradients exist for.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::BF16 | DType::F16)
    }

    /// The dtype that holds the result of combining two, as PyTorch's `torch.promote_types`.
    pub fn promote(self, other: DType) -> DType {
        use DType::*;
        match (self, other) {
            (a, b) if a == b => a,
            (F64, _) | (_, F64) => F64,
            (F32, _) | (_, F32) | (BF16, F16) | (F16, BF16) => F32,
            (BF16, _) | (_, BF16) => BF16,
            (F16, _) | (_, F16) => F16,
            (I64, _) | (_, I64) => I64,
            _ => U8,
        }
    }

    /// The lower-case name: `f32`, `bool`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a tensor can hold.
///
/// Conversions follow Rust's `as`: a float becomes an integer by truncation, saturating; anything but zero is `true`.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + PartialOrd + fmt::Debug + Send + Sync + 'static
{
    /// The dtype of this type.
    const DTYPE: DType;
    /// To f64; exact but for large i64.
    fn to_f64(self) -> f64;
    /// From f64.
    fn from_f64(x: f64) -> Self;
    /// To i64.
    fn to_i64(self) -> i64;
    /// From i64.
    fn from_i64(x: i64) -> Self;
    #[doc(hidden)]
    fn buffer(storage: &Storage) -> Option<&Buffer<Self>>;
    #[doc(hidden)]
    fn buffer_mut(storage: &mut Storage) -> Option<&mut Buffer<Self>>;
    #[doc(hidden)]
    fn wrap(buffer: Buffer<Self>) -> Storage;
}

/// A float element: what gradients flow through.
pub trait Float: Element {
    /// The type it is computed in: itself for f32 and f64, f32 for the halves.
    type Compute: Real;
    /// To the type it is computed in.
    fn up(self) -> Self::Compute;
    /// Back, rounded to nearest.
    fn down(x: Self::Compute) -> Self;
    /// The slice itself, where this is the type it is computed in.
    #[doc(hidden)]
    fn computed(x: &[Self]) -> Option<&[Self::Compute]>;
    #[doc(hidden)]
    fn computed_mut(x: &mut [Self]) -> Option<&mut [Self::Compute]>;
}

/// A type that arithmetic happens in: f32 or f64. Its functions are in `kernels::math`.
pub trait Real:
    Float<Compute = Self>
    + crate::kernels::math::Functions
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + std::iter::Sum
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// ∞
    const INFINITY: Self;
    /// −∞
    const NEG_INFINITY: Self;
    /// NaN
    const NAN: Self;
    /// A constant of a formula in this type.
    fn of(x: f64) -> Self;
}

macro_rules! element {
    ($t:ty, $variant:ident, $to_f64:expr, $from_f64:expr, $to_i64:expr, $from_i64:expr) => {
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to_f64(self)
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                $from_f64(x)
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                $to_i64(self)
            }
            #[inline(always)]
            fn from_i64(x: i64) -> Self {
                $from_i64(x)
            }
            fn buffer(storage: &Storage) -> Option<&Buffer<Self>> {
                match storage {
                    Storage::$variant(b) => Some(b),
                    _ => None,
                }
            }
            fn buffer_mut(storage: &mut Storage) -> Option<&mut Buffer<Self>> {
                match storage {
                    Storage::$variant(b) => Some(b),
                    _ => None,
                }
            }
            fn wrap(buffer: Buffer<Self>) -> Storage {
                Storage::$variant(buffer)
            }
        }
    };
}

element!(f32, F32, |x| x as f64, |x| x as f32, |x| x as i64, |x| x as f32);
element!(f64, F64, |x| x, |x| x, |x| x as i64, |x| x as f64);
element!(bf16, BF16, |x: bf16| x.to_f64(), bf16::from_f64, |x: bf16| x.to_f64() as i64, |x| bf16::from_f64(x as f64));
element!(f16, F16, |x: f16| x.to_f64(), f16::from_f64, |x: f16| x.to_f64() as i64, |x| f16::from_f64(x as f64));
element!(i64, I64, |x| x as f64, |x| x as i64, |x| x, |x| x);
element!(u8, U8, |x| x as f64, |x| x as u8, |x| x as i64, |x| x as u8);
element!(bool, Bool, |x| x as u8 as f64, |x| x != 0.0, |x| x as i64, |x| x != 0);

macro_rules! float {
    ($t:ty, $c:ty, $up:expr, $down:expr, $same:expr, $same_mut:expr) => {
        impl Float for $t {
            type Compute = $c;
            #[inline(always)]
            fn up(self) -> $c {
                $up(self)
            }
            #[inline(always)]
            fn down(x: $c) -> Self {
                $down(x)
            }
            #[inline(always)]
            fn computed(x: &[Self]) -> Option<&[$c]> {
                $same(x)
            }
            #[inline(always)]
            fn computed_mut(x: &mut [Self]) -> Option<&mut [$c]> {
                $same_mut(x)
            }
        }
    };
}

float!(f32, f32, |x| x, |x| x, Some, Some);
float!(f64, f64, |x| x, |x| x, Some, Some);
float!(bf16, f32, |x: bf16| x.to_f32(), bf16::from_f32, |_| None, |_| None);
float!(f16, f32, |x: f16| x.to_f32(), f16::from_f32, |_| None, |_| None);

macro_rules! real {
    ($($t:ident),*) => {$(
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $t::INFINITY;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const NAN: Self = $t::NAN;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
        }
    )*};
}

real!(f32, f64);

/// Runs `$body` with `$T` standing for the Rust type of `$dtype`.
macro_rules! each_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::bf16;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::f16;
                $body
            }
            $crate::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
            $crate::DType::Bool => {
                type $T = bool;
                $body
            }
        }
    };
}

/// Runs `$body` with `$T` standing for the Rust float type of `$dtype`, or returns a dtype error of `$op`.
macro_rules! each_float {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::bf16;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::f16;
                $body
            }
            other => return Err($crate::Error::dtype($op, other, "expected a float dtype (cast with to_dtype)")),
        }
    };
}

pub(crate) use {each_dtype, each_float};
