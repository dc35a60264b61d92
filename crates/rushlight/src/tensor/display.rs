//! Printing: `Display` as PyTorch prints, `Debug` in one line.
//!
//! All elements share one format, chosen from those that are shown: whole numbers as `1.`, others with four decimals,
//! and scientific notation where the largest is above 1e8 or 1000 times the smallest, or the smallest below 1e-4
//! (zeros, NaN and infinities left out of account). Beyond 1000 elements three at each edge of a dim are shown. Rows
//! are wrapped at 80 columns. The dtype is named where the elements do not tell it.

use std::fmt;

use crate::dtype::each_dtype;
use crate::{DType, Element, Tensor};

/// Elements from which on a tensor is shortened.
const THRESHOLD: usize = 1000;
/// Elements shown at each edge of a shortened dim.
const EDGE: usize = 3;
/// Columns of a line.
const WIDTH: usize = 80;
/// What stands before the elements; lines below it are indented by its length.
const PREFIX: &str = "tensor(";

/// How the elements are written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Whole,
    Fixed,
    Scientific,
}

impl Style {
    fn of(values: &[f64]) -> Style {
        let counted = || values.iter().map(|v| v.abs()).filter(|v| v.is_finite() && *v != 0.0);
        let (min, max) = counted().fold((f64::INFINITY, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
        if max > 0.0 && (max / min > 1000.0 || max > 1e8 || min < 1e-4) {
            Style::Scientific
        } else if counted().all(|v| v.fract() == 0.0) {
            Style::Whole
        } else {
            Style::Fixed
        }
    }

    fn write(self, v: f64) -> String {
        match self {
            _ if v.is_nan() => "nan".into(),
            _ if v.is_infinite() => format!("{v}"),
            Style::Whole => format!("{v:.0}."),
            Style::Fixed => format!("{v:.4}"),
            Style::Scientific => {
                // Rust writes 1.0000e-5 where C and Python write 1.0000e-05.
                let text = format!("{v:.4e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                format!("{digits}e{sign}{exponent:0>2}")
            }
        }
    }
}

/// The indices of a dim that are shown; a gap lies after the first [`EDGE`] where `shorten` left some out.
fn shown(size: usize, shorten: bool) -> Vec<usize> {
    if shorten && size > 2 * EDGE { (0..EDGE).chain(size - EDGE..size).collect() } else { (0..size).collect() }
}

/// The shown elements of `data` in row-major order.
fn collect<T: Element>(data: &[T], t: &Tensor, dims: &[Vec<usize>]) -> Vec<T> {
    let mut places = vec![t.layout().offset() as isize];
    for (indices, &stride) in dims.iter().zip(t.strides()) {
        places = places.iter().flat_map(|p| indices.iter().map(move |&i| p + i as isize * stride)).collect();
    }
    places.into_iter().map(|p| data[p as usize]).collect()
}

/// The shown elements as text, padded to one width (NaN and infinities do not count for it, as in PyTorch).
fn texts(t: &Tensor, dims: &[Vec<usize>]) -> crate::Result<(Vec<String>, usize)> {
    let (mut texts, counted): (Vec<String>, Vec<bool>) = each_dtype!(t.dtype(), T => {
        let values = collect(t.raw::<T>("display")?, t, dims);
        match T::DTYPE {
            DType::Bool => values.iter().map(|v| (if v.to_i64() == 1 { "True" } else { "False" }.into(), true)).unzip(),
            DType::I64 | DType::U8 => values.iter().map(|v| (v.to_i64().to_string(), true)).unzip(),
            _ => {
                let values: Vec<f64> = values.iter().map(|v| v.to_f64()).collect();
                let style = Style::of(&values);
                values.iter().map(|&v| (style.write(v), v.is_finite() && v != 0.0)).unzip()
            }
        }
    });
    let width = texts.iter().zip(counted).filter(|(_, c)| *c).map(|(text, _)| text.len()).max().unwrap_or(1);
    texts.iter_mut().for_each(|text| *text = format!("{text:>width$}"));
    Ok((texts, width))
}

/// The brackets of the dims from `depth` on around their share of `texts`.
fn nested(out: &mut String, (texts, width): (&[String], usize), dims: &[Vec<usize>], sizes: &[usize], indent: usize) {
    let [indices, inner @ ..] = dims else {
        out.push_str(&texts[0]);
        return;
    };
    let gap = indices.len() < sizes[0];
    out.push('[');
    if inner.is_empty() {
        let mut cells: Vec<&str> = texts.iter().map(String::as_str).collect();
        if gap {
            cells.insert(EDGE, " ...");
        }
        let per_line = (WIDTH.saturating_sub(indent) / (width + 2)).max(1);
        let lines: Vec<String> = cells.chunks(per_line).map(|line| line.join(", ")).collect();
        out.push_str(&lines.join(&format!(",\n{:1$}", "", indent + 1)));
    } else {
        let share = texts.len() / indices.len();
        let between = format!(",{}{:2$}", "\n".repeat(inner.len()), "", indent + 1);
        for (i, part) in texts.chunks(share).enumerate() {
            if i > 0 {
                out.push_str(&between);
            }
            if gap && i == EDGE {
                out.push_str("...");
                out.push_str(&between);
            }
            nested(out, (part, width), inner, &sizes[1..], indent + 1);
        }
    }
    out.push(']');
}

/// Prints like PyTorch, with this library's dtype and operation names.
///
/// ```
/// # use rushlight::Tensor;
/// let t = Tensor::new([[1.0f32, 2.5], [-3.25, 100.0]])?;
/// assert_eq!(t.to_string(), "tensor([[  1.0000,   2.5000],\n        [ -3.2500, 100.0000]])");
/// # Ok::<(), rushlight::Error>(())
/// ```
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::from(PREFIX);
        let mut notes: Vec<String> = vec![];
        let empty = self.numel() == 0;
        if empty {
            out.push_str("[]");
            if self.rank() != 1 {
                let sizes: Vec<String> = self.dims().iter().map(usize::to_string).collect();
                notes.push(format!("size=({})", sizes.join(", ")));
            }
        } else {
            let shorten = self.numel() > THRESHOLD;
            let dims: Vec<Vec<usize>> = self.dims().iter().map(|&d| shown(d, shorten)).collect();
            let (texts, width) = texts(self, &dims).map_err(|_| fmt::Error)?;
            nested(&mut out, (&texts, width), &dims, self.dims(), PREFIX.len());
        }
        let dtype = self.dtype();
        let plain = dtype == DType::F32 || (!empty && matches!(dtype, DType::I64 | DType::Bool));
        if !plain {
            notes.push(format!("dtype={dtype}"));
        }
        if let Some(name) = self.grad_fn() {
            notes.push(format!("grad_fn=<{name}>"));
        } else if self.is_tracked() {
            notes.push("requires_grad=True".into());
        }
        // A note that does not fit on the last line starts a new one.
        let mut column = out.len() - out.rfind('\n').map_or(0, |i| i + 1) + 2;
        for note in notes {
            if column + note.len() + 2 > WIDTH {
                out.push_str(&format!(",\n{:1$}{note}", "", PREFIX.len()));
                column = PREFIX.len() + note.len();
            } else {
                out.push_str(&format!(", {note}"));
                column += note.len() + 2;
            }
        }
        out.push(')');
        f.write_str(&out)
    }
}

/// One line: `Tensor([2, 3], f32, grad_fn=<add>)`.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {}", self.shape(), self.dtype())?;
        match self.grad_fn() {
            Some(name) => write!(f, ", grad_fn=<{name}>)"),
            None if self.is_tracked() => f.write_str(", requires_grad=True)"),
            None => f.write_str(")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Tensor};

    fn check(t: &Tensor, expected: &str) {
        assert_eq!(t.to_string(), expected);
    }

    fn range(n: usize) -> Tensor {
        Tensor::arange(0.0, n as f64, 1.0, DType::F32).unwrap()
    }

    /// Text of `torch.tensor(values)`.
    #[test]
    fn numbers_share_one_format() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (values, expected) in [
            (&[1.0, 2.0, 30.0][..], "tensor([ 1.,  2., 30.])"),
            (&[1e-5, 1.0], "tensor([1.0000e-05, 1.0000e+00])"),
            (&[1e10, 1.5], "tensor([1.0000e+10, 1.5000e+00])"),
            (&[123_456_789.0, 1.0], "tensor([1.2346e+08, 1.0000e+00])"),
            (&[nan, 1.0, inf, -inf], "tensor([nan, 1., inf, -inf])"),
            (&[nan, 1.5, inf], "tensor([   nan, 1.5000,    inf])"),
            (&[nan, inf], "tensor([nan, inf])"),
            (&[0.001, 1.5], "tensor([1.0000e-03, 1.5000e+00])"),
            (&[0.99e-4, 2e-4], "tensor([9.9000e-05, 2.0000e-04])"),
            (&[1e-4, 2e-4], "tensor([1.0000e-04, 2.0000e-04])"),
            (&[-0.0, 1.0], "tensor([-0., 1.])"),
            (&[99999.5], "tensor([99999.5000])"),
        ] {
            check(&Tensor::new(values).unwrap(), expected);
        }
        check(&Tensor::new(2.56789f32).unwrap(), "tensor(2.5679)");
        check(&Tensor::new(-7i64).unwrap(), "tensor(-7)");
        check(&Tensor::new(1e-7f32).unwrap(), "tensor(1.0000e-07)");
    }

    #[test]
    fn dtypes_are_named_where_the_elements_do_not_tell() {
        check(&Tensor::new([[1i64, -20], [300, 4]]).unwrap(), "tensor([[  1, -20],\n        [300,   4]])");
        check(&Tensor::new([true, false]).unwrap(), "tensor([ True, False])");
        check(&Tensor::new([1u8, 20]).unwrap(), "tensor([ 1, 20], dtype=u8)");
        check(&Tensor::new([1.5f64, 2.0]).unwrap(), "tensor([1.5000, 2.0000], dtype=f64)");
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype).unwrap();
        check(&zeros(&[0], DType::F32), "tensor([])");
        check(&zeros(&[2, 0], DType::I64), "tensor([], size=(2, 0), dtype=i64)");
        check(&zeros(&[2, 0, 3], DType::F32), "tensor([], size=(2, 0, 3))");
    }

    #[test]
    fn deep_long_and_wide_tensors() {
        check(
            &range(12).reshape([2, 2, 3]).unwrap(),
            "tensor([[[ 0.,  1.,  2.],\n         [ 3.,  4.,  5.]],\n\n        [[ 6.,  7.,  8.],\n         [ 9., 10., 11.]]])",
        );
        check(&range(1001), "tensor([   0.,    1.,    2.,  ...,  998.,  999., 1000.])");
        check(
            &range(2000).reshape([40, 50]).unwrap().to_dtype(DType::I64).unwrap(),
            "tensor([[   0,    1,    2,  ...,   47,   48,   49],
        [  50,   51,   52,  ...,   97,   98,   99],
        [ 100,  101,  102,  ...,  147,  148,  149],
        ...,
        [1850, 1851, 1852,  ..., 1897, 1898, 1899],
        [1900, 1901, 1902,  ..., 1947, 1948, 1949],
        [1950, 1951, 1952,  ..., 1997, 1998, 1999]])",
        );
        check(
            &range(1200).reshape([2, 600]).unwrap(),
            "tensor([[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 5.9700e+02, 5.9800e+02,
         5.9900e+02],
        [6.0000e+02, 6.0100e+02, 6.0200e+02,  ..., 1.1970e+03, 1.1980e+03,
         1.1990e+03]])",
        );
        check(
            &range(21).to_dtype(DType::F64).unwrap().div(7.0).unwrap(),
            "tensor([0.0000, 0.1429, 0.2857, 0.4286, 0.5714, 0.7143, 0.8571, 1.0000, 1.1429,
        1.2857, 1.4286, 1.5714, 1.7143, 1.8571, 2.0000, 2.1429, 2.2857, 2.4286,
        2.5714, 2.7143, 2.8571], dtype=f64)",
        );
        check(
            &range(6).reshape([2, 3]).unwrap().t().unwrap().flip(0).unwrap(),
            "tensor([[2., 5.],\n        [1., 4.],\n        [0., 3.]])",
        );
    }

    #[test]
    fn tracked_tensors_say_so() {
        let x = Tensor::new([1.0f32, 2.0]).unwrap().requires_grad().unwrap();
        check(&x, "tensor([1., 2.], requires_grad=True)");
        let y = x.to_dtype(DType::F64).unwrap().exp().unwrap();
        check(&y, "tensor([2.7183, 7.3891], dtype=f64, grad_fn=<exp>)");
        assert_eq!(format!("{x:?} {y:?}"), "Tensor([2], f32, requires_grad=True) Tensor([2], f64, grad_fn=<exp>)");
        // The last line has 78 columns: the note goes below.
        let wide = range(9).mul(1.0 / 7.0).unwrap().requires_grad().unwrap();
        assert!(wide.to_string().ends_with("1.1429],\n       requires_grad=True)"), "{wide}");
    }
}
