//! Which method of the library each recorded operation is.

use rushlight::loss::{self, CrossEntropy, Reduction};
use rushlight::{
    AttentionOptions, AvgPoolOptions, Causal, ConvOptions, ConvTransposeOptions, DType, PoolOptions, Result, Tensor,
    einsum,
};

use super::reference::{Case, RefTensor};

/// A recorded tensor as one of ours.
pub fn tensor(r: &RefTensor) -> Tensor {
    let x = Tensor::from_vec(r.data.clone(), r.shape.clone()).unwrap();
    x.to_dtype(match r.dtype.as_str() {
        "f64" => DType::F64,
        "i64" => DType::I64,
        _ => DType::Bool,
    })
    .unwrap()
}
fn reduction(c: &Case) -> Reduction {
    match c.arg::<String>("reduction").as_str() {
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        _ => Reduction::None,
    }
}
macro_rules! pools {
    ($c:ident, $x:ident, $n:literal, $max:ident, $avg:ident, $lp:ident, $sm:ident, $k:ident) => {{
        let kernel: [usize; $n] = $c.arg("kernel");
        let stride = $c.optional::<[usize; $n]>("stride");
        match $k {
            "lp" => vec![$x.$lp($c.arg("p"), kernel, stride, $c.arg("ceil_mode"))?],
            "avg" => vec![$x.$avg(
                kernel,
                AvgPoolOptions {
                    stride,
                    padding: $c.arg("padding"),
                    ceil_mode: $c.arg("ceil_mode"),
                    count_include_pad: $c.arg("count_include_pad"),
                    divisor_override: $c.optional::<i64>("divisor_override").map(|d| d as _),
                },
            )?],
            k => {
                let o = PoolOptions {
                    stride,
                    padding: $c.arg("padding"),
                    dilation: $c.arg("dilation"),
                    ceil_mode: $c.arg("ceil_mode"),
                };
                if k == "soft" {
                    vec![$x.$sm(kernel, o)?]
                } else {
                    let (a, b) = $x.$max(kernel, o)?;
                    vec![a, b]
                }
            }
        }
    }};
}
macro_rules! convs {
    ($c:ident, $x:ident, $n:literal, $f:ident, $g:ident) => {{
        let b = $x.get(2);
        if $c.op.contains("transpose") {
            vec![$x[0].$g(
                &$x[1],
                b,
                ConvTransposeOptions::<$n> {
                    stride: $c.arg("stride"),
                    padding: $c.arg("padding"),
                    output_padding: $c.arg("output_padding"),
                    dilation: $c.arg("dilation"),
                    groups: $c.arg("groups"),
                },
            )?]
        } else {
            vec![$x[0].$f(
                &$x[1],
                b,
                ConvOptions::<$n> {
                    stride: $c.arg("stride"),
                    padding: $c.arg("padding"),
                    dilation: $c.arg("dilation"),
                    groups: $c.arg("groups"),
                },
            )?]
        }
    }};
}

/// What the library gives for a case; `None` for an operation that it does not know.
pub fn run(c: &Case, x: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
    let a = &x[0];
    let keep = c.optional::<bool>("keepdim").unwrap_or(false);
    let dims = || c.arg::<Vec<i64>>("dims");
    let dim = || c.arg::<i64>("dim");
    let two = |(a, b)| vec![a, b];
    macro_rules! u { ($($n:ident)*) => { match c.op.as_str() { $(stringify!($n) => Some(a.$n()?),)* _ => None } } }
    if x.len() == 1
        && c.args.is_empty()
        && let Some(y) = u!(exp expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan tanh sigmoid erf relu gelu gelu_tanh mish silu softplus log_sigmoid abs neg square sign step floor ceil round trunc isnan isinf isfinite logical_not t nonzero trace)
    {
        return Ok(Some(vec![y]));
    }
    macro_rules! b { ($($n:ident)*) => { match c.op.as_str() { $(stringify!($n) => Some(match c.optional::<f64>("other") { Some(o) => a.$n(o)?, None => a.$n(&x[1])? }),)* _ => None } } }
    if c.op == "gate" {
        return Ok(Some(vec![a.gate(&x[1], &x[2])?]));
    }
    if let Some(y) = b!(add sub mul div pow maximum minimum remainder floor_divide eq ne lt le gt ge) {
        return Ok(Some(vec![y]));
    }
    macro_rules! r { ($($n:ident $k:ident)*) => { match c.op.as_str() { $(stringify!($n) => Some(if keep { a.$k(dims())? } else { a.$n(dims())? }),)* _ => None } } }
    if let Some(y) = r!(sum sum_keepdim mean mean_keepdim amax amax_keepdim amin amin_keepdim) {
        return Ok(Some(vec![y]));
    }
    let kind = |p: &str| c.op.strip_prefix(p).is_some();
    Ok(Some(match c.op.as_str() {
        "powf" => vec![a.powf(c.arg("exponent"))?],
        "leaky_relu" => vec![a.leaky_relu(c.arg("negative_slope"))?],
        "elu" => vec![a.elu(c.arg("alpha"))?],
        "clamp" => vec![a.clamp(c.arg("min"), c.arg("max"))?],
        "where" => vec![a.where_cond(&x[1], &x[2])?],
        "logical_and" => vec![a.logical_and(&x[1])?],
        "logical_or" => vec![a.logical_or(&x[1])?],
        "logical_xor" => vec![a.logical_xor(&x[1])?],
        "prod" | "logsumexp" => {
            let y = if c.op == "prod" { a.prod(dims())? } else { a.logsumexp(dims())? };
            if keep { vec![y.reshape(c.outputs[0].shape.clone())?] } else { vec![y] }
        }
        "var" if keep => vec![a.var_keepdim(dims(), c.arg("correction"))?],
        "var" => vec![a.var(dims(), c.arg("correction"))?],
        "std" => vec![a.std(dims(), c.arg("correction"))?],
        "norm" => vec![a.norm(c.arg("p"), dims())?],
        "any" => vec![a.any(dims())?],
        "all" => vec![a.all(dims())?],
        "max" if keep => two(a.max_keepdim(dim())?),
        "min" if keep => two(a.min_keepdim(dim())?),
        "max" => two(a.max(dim())?),
        "min" => two(a.min(dim())?),
        "argmax" => vec![a.argmax(dim())?],
        "argmin" => vec![a.argmin(dim())?],
        "cumsum" => vec![a.cumsum(dim())?],
        "cumprod" => vec![a.cumprod(dim())?],
        "argmax_one_hot" => vec![a.argmax_one_hot(dim())?],
        "sort" => two(a.sort(dim(), c.arg("descending"))?),
        "argsort" => vec![a.argsort(dim(), c.arg("descending"))?],
        "topk" => two(a.topk(c.arg("k"), dim(), c.arg("largest"))?),
        "matmul" => vec![a.matmul(&x[1])?],
        "dot" => vec![a.dot(&x[1])?],
        "outer" => vec![a.outer(&x[1])?],
        "linear" => vec![a.linear(&x[1], x.get(2))?],
        "einsum" => vec![einsum(&c.arg::<String>("equation"), &x.iter().collect::<Vec<_>>())?],
        "index_select" => vec![a.index_select(dim(), &x[1])?],
        "gather" => vec![a.gather(dim(), &x[1])?],
        "take_along_dim" => vec![a.take_along_dim(&x[1], dim())?],
        "scatter" => vec![a.scatter(dim(), &x[1], &x[2])?],
        "scatter_add" => vec![a.scatter_add(dim(), &x[1], &x[2])?],
        "cat" => vec![Tensor::cat(x, dim())?],
        "stack" => vec![Tensor::stack(x, dim())?],
        "masked_fill" => vec![a.masked_fill(&x[1], c.arg("value"))?],
        "masked_select" => vec![a.masked_select(&x[1])?],
        "split" => a.split(c.arg("size"), dim())?,
        "split_sizes" => a.split_sizes(&c.arg::<Vec<usize>>("sizes"), dim())?,
        "chunk" => a.chunk(c.arg("chunks"), dim())?,
        "unbind" => a.unbind(dim())?,
        "repeat_interleave" => vec![a.repeat_interleave(c.arg("times"), dim())?],
        "repeat" => vec![a.repeat(c.arg::<Vec<usize>>("times"))?],
        "roll" => vec![a.roll(c.arg("shift"), dim())?],
        "tril" => vec![a.tril(c.arg("diagonal"))?],
        "triu" => vec![a.triu(c.arg("diagonal"))?],
        "one_hot" => vec![a.one_hot(c.arg("classes"))?],
        "flip" => vec![a.flip(dims())?],
        "diagonal" => vec![a.diagonal(c.arg("offset"), c.arg::<i64>("dim1"), c.arg::<i64>("dim2"))?],
        "pad" => {
            vec![a.pad(
                &c.arg::<Vec<i64>>("amounts").chunks(2).map(|p| (p[0], p[1])).collect::<Vec<_>>(),
                c.arg("value"),
            )?]
        }
        "reshape" => vec![a.reshape(c.arg::<Vec<i64>>("shape"))?],
        "permute" => vec![a.permute(c.arg::<Vec<i64>>("order"))?],
        "permute_reshape" => vec![a.permute(c.arg::<Vec<i64>>("order"))?.reshape(c.arg::<Vec<i64>>("shape"))?],
        "transpose" => vec![a.transpose(c.arg::<i64>("dim0"), c.arg::<i64>("dim1"))?],
        "expand" => vec![a.expand(c.arg::<Vec<usize>>("shape"))?],
        "narrow" => vec![a.narrow(dim(), c.arg("start"), c.arg("length"))?],
        "slice_step" => vec![a.slice_step(dim(), c.arg("start"), c.arg("end"), c.arg("step"))?],
        "select" => vec![a.select(dim(), c.arg("index"))?],
        "unsqueeze" => vec![a.unsqueeze(dim())?],
        "squeeze" => vec![a.squeeze(dims())?],
        "flatten" => vec![a.flatten(c.arg::<i64>("start_dim"), c.arg::<i64>("end_dim"))?],
        "unflatten" => vec![a.unflatten(dim(), c.arg::<Vec<i64>>("sizes"))?],
        "windows" => match c.arg::<Vec<usize>>("kernel").len() {
            1 => vec![a.windows::<1>(c.arg("kernel"), c.arg("stride"), c.arg("dilation"))?],
            2 => vec![a.windows::<2>(c.arg("kernel"), c.arg("stride"), c.arg("dilation"))?],
            _ => vec![a.windows::<3>(c.arg("kernel"), c.arg("stride"), c.arg("dilation"))?],
        },
        "softmax" => vec![a.softmax(dim())?],
        "log_softmax" => vec![a.log_softmax(dim())?],
        "adaptive_avg_pool1d" => vec![a.adaptive_avg_pool1d(c.arg("output"))?],
        "adaptive_avg_pool2d" => vec![a.adaptive_avg_pool2d(c.arg("output"))?],
        "adaptive_avg_pool3d" => vec![a.adaptive_avg_pool3d(c.arg("output"))?],
        "adaptive_max_pool1d" => two(a.adaptive_max_pool1d_with_indices(c.arg("output"))?),
        "adaptive_max_pool2d" => two(a.adaptive_max_pool2d_with_indices(c.arg("output"))?),
        "adaptive_max_pool3d" => two(a.adaptive_max_pool3d_with_indices(c.arg("output"))?),
        op if op.contains("pool") => {
            let k = if kind("max") {
                "max"
            } else if kind("avg") {
                "avg"
            } else if kind("lp") {
                "lp"
            } else {
                "soft"
            };
            match &op[op.len() - 2..] {
                "1d" => pools!(c, a, 1, max_pool1d_with_indices, avg_pool1d, lp_pool1d, softmax_pool1d, k),
                "2d" => pools!(c, a, 2, max_pool2d_with_indices, avg_pool2d, lp_pool2d, softmax_pool2d, k),
                _ => pools!(c, a, 3, max_pool3d_with_indices, avg_pool3d, lp_pool3d, softmax_pool3d, k),
            }
        }
        op if op.starts_with("conv") => match &op[op.len() - 2..] {
            "1d" => convs!(c, x, 1, conv1d, conv_transpose1d),
            "2d" => convs!(c, x, 2, conv2d, conv_transpose2d),
            _ => convs!(c, x, 3, conv3d, conv_transpose3d),
        },
        "cross_entropy" | "nll_loss" => {
            let o = CrossEntropy {
                weight: x.get(2).cloned(),
                ignore_index: c.arg("ignore_index"),
                label_smoothing: c.optional("label_smoothing").unwrap_or(0.0),
                reduction: reduction(c),
            };
            vec![if c.op == "nll_loss" { o.forward_log(a, &x[1])? } else { o.forward(a, &x[1])? }]
        }
        "linear_cross_entropy" => {
            let mut rest = x[3..].iter();
            let bias = if c.arg("has_bias") { rest.next() } else { None };
            let (ignore_index, label_smoothing) = (c.arg("ignore_index"), c.arg("label_smoothing"));
            let o =
                CrossEntropy { weight: rest.next().cloned(), ignore_index, label_smoothing, reduction: reduction(c) };
            vec![o.linear(a, &x[1], bias, &x[2])?]
        }
        "bce_with_logits" => {
            let mut rest = x[2..].iter();
            let w = if c.arg("has_weight") { rest.next() } else { None };
            vec![loss::binary_cross_entropy_with_logits(a, &x[1], w, rest.next(), reduction(c))?]
        }
        "bce" => vec![loss::binary_cross_entropy(a, &x[1], x.get(2), reduction(c))?],
        "mse" => vec![loss::mse_loss(a, &x[1], reduction(c))?],
        "l1" => vec![loss::l1_loss(a, &x[1], reduction(c))?],
        "smooth_l1" => vec![loss::smooth_l1_loss(a, &x[1], c.arg("beta"), reduction(c))?],
        "huber" => vec![loss::huber_loss(a, &x[1], c.arg("delta"), reduction(c))?],
        "kl_div" => {
            let bm = c.arg::<String>("reduction") == "batchmean";
            vec![loss::kl_div(a, &x[1], c.arg("log_target"), bm, if bm { Reduction::Sum } else { reduction(c) })?]
        }
        "layer_norm" | "rms_norm" => {
            let s = c.optional::<Vec<usize>>("normalized_shape").unwrap_or(vec![*c.inputs[0].shape.last().unwrap()]);
            vec![if c.op == "rms_norm" {
                a.rms_norm(s, x.get(1), c.arg("eps"))?
            } else {
                a.layer_norm(s, x.get(1), x.get(2), c.arg("eps"))?
            }]
        }
        "group_norm" => vec![a.group_norm(c.arg("groups"), x.get(1), x.get(2), c.arg("eps"))?],
        "unfold" => {
            // PyTorch's unfold of one dim: the window positions stay at the dim, the window is last.
            let windows = a.transpose(dim(), -1)?.windows::<1>([c.arg("size")], [c.arg("step")], [1])?;
            let at = if dim() < 0 { dim() - 1 } else { dim() };
            vec![windows.transpose(at, -2)?]
        }
        "batch_norm" => {
            if c.arg("training") {
                let (y, mean, var) = a.batch_norm_train(x.get(3), x.get(4), c.arg("eps"))?;
                let m: f64 = c.arg("momentum");
                let moved = |old: &Tensor, new: Tensor| old.mul(1.0 - m)?.add(&new.mul(m)?);
                vec![y, moved(&x[1], mean)?, moved(&x[2], var)?]
            } else {
                vec![a.batch_norm(&x[1], &x[2], x.get(3), x.get(4), c.arg("eps"))?]
            }
        }
        "scaled_dot_product_attention" => {
            let causal = match c.optional::<String>("causal").as_deref() {
                Some("upper_left") => Causal::UpperLeft,
                Some("lower_right") => Causal::LowerRight,
                _ => Causal::No,
            };
            let o =
                AttentionOptions { attn_mask: x.get(3).cloned(), causal, scale: c.optional("scale"), dropout_p: 0.0 };
            vec![a.scaled_dot_product_attention(&x[1], &x[2], &o)?]
        }
        "embedding" => vec![a.embedding(&x[1], c.optional("padding_idx"))?],
        _ => return Ok(None),
    }))
}
