//! Recurrent layers and cells: PyTorch's numbers, gradients once and twice, lengths, states, state dicts.

mod common;
#[path = "common/layers.rs"]
mod layers;
#[path = "common/reference.rs"]
mod reference;

use common::{Naive, Rng, assert_close, message, smooth};
use layers::{cast, check, check_gradients, with_parameters};
use reference::{Case, load};
use rushlight::nn::*;
use rushlight::{DType, GradCheck, Result, Tensor, bf16, grad, gradgradcheck, random};

/// Any of the layers, with its states in a row, as PyTorch's are recorded.
enum Any {
    Rnn(Rnn),
    Gru(Gru),
    Lstm(Lstm),
}

impl Any {
    /// `rnn` with its nonlinearity, `gru` or `lstm`, of three inputs and a state of two.
    fn new(name: &str, f: Nonlinearity, options: &RecurrentOptions) -> Result<Any> {
        Ok(match name {
            "rnn" => Any::Rnn(Rnn::new(3, 2, f, options)?),
            "gru" => Any::Gru(Gru::new(3, 2, options)?),
            _ => Any::Lstm(Lstm::new(3, 2, options)?),
        })
    }

    /// The output and the states at the end, from an input and, behind it, the states at the start.
    fn run(&self, x: &[Tensor], lengths: Option<&[usize]>) -> Result<Vec<Tensor>> {
        let (x, state) = (&x[0], &x[1..]);
        let (h, pair) = (state.first(), state.get(1).map(|c| LstmState { h: state[0].clone(), c: c.clone() }));
        let one = |(y, h)| vec![y, h];
        Ok(match (self, lengths) {
            (Any::Rnn(rnn), None) => one(rnn.forward(x, h)?),
            (Any::Rnn(rnn), Some(lengths)) => one(rnn.forward_padded(x, lengths, h)?),
            (Any::Gru(gru), None) => one(gru.forward(x, h)?),
            (Any::Gru(gru), Some(lengths)) => one(gru.forward_padded(x, lengths, h)?),
            (Any::Lstm(lstm), lengths) => {
                let (y, end) = match lengths {
                    None => lstm.forward(x, pair.as_ref())?,
                    Some(lengths) => lstm.forward_padded(x, lengths, pair.as_ref())?,
                };
                vec![y, end.h, end.c]
            }
        })
    }
}

impl Module for Any {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        match self {
            Any::Rnn(m) => m.visit(path, f),
            Any::Gru(m) => m.visit(path, f),
            Any::Lstm(m) => m.visit(path, f),
        }
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        match self {
            Any::Rnn(m) => m.visit_mut(path, f),
            Any::Gru(m) => m.visit_mut(path, f),
            Any::Lstm(m) => m.visit_mut(path, f),
        }
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        Description::hidden()
    }
}

fn nonlinearity(c: &Case) -> Nonlinearity {
    if c.optional::<String>("nonlinearity").is_some_and(|f| f == "relu") {
        Nonlinearity::Relu
    } else {
        Nonlinearity::Tanh
    }
}

#[test]
fn layers_are_pytorchs() {
    let cases = load("recurrent");
    let mut seen = 0;
    for c in cases.iter().filter(|c| !c.op.ends_with("_cell")) {
        let options = RecurrentOptions {
            num_layers: c.arg("num_layers"),
            bias: c.optional("bias").unwrap_or(true),
            bidirectional: c.optional("bidirectional").unwrap_or(false),
            ..Default::default()
        };
        let lengths = c.optional::<Vec<usize>>("lengths");
        check(c, Any::new(&c.op, nonlinearity(c), &options).unwrap(), |layer, x, _| layer.run(x, lengths.as_deref()));
        seen += 1;
    }
    assert_eq!(seen, 20);
}

#[test]
fn cells_are_pytorchs() {
    let cases = load("recurrent");
    let mut seen = 0;
    for c in cases.iter().filter(|c| c.op.ends_with("_cell")) {
        let bias = c.arg("bias");
        match c.op.as_str() {
            "rnn_cell" => check(c, RnnCell::new(3, 2, nonlinearity(c), bias).unwrap(), |cell, x, _| {
                Ok(vec![cell.forward(&x[0], x.get(1))?])
            }),
            "gru_cell" => {
                check(c, GruCell::new(3, 2, bias).unwrap(), |cell, x, _| Ok(vec![cell.forward(&x[0], x.get(1))?]))
            }
            _ => check(c, LstmCell::new(3, 2, bias).unwrap(), |cell, x, _| {
                let state = x.get(2).map(|c| LstmState { h: x[1].clone(), c: c.clone() });
                let LstmState { h, c } = cell.forward(&x[0], state.as_ref())?;
                Ok(vec![h, c])
            }),
        }
        seen += 1;
    }
    assert_eq!(seen, 8);
}

/// Each kind, what it is called, and how many states it has.
const KINDS: [(&str, Nonlinearity, usize); 4] = [
    ("rnn", Nonlinearity::Tanh, 1),
    ("rnn", Nonlinearity::Relu, 1),
    ("gru", Nonlinearity::Tanh, 1),
    ("lstm", Nonlinearity::Tanh, 2),
];

/// Everything that comes out, as one tensor.
fn joined(outputs: &[Tensor]) -> Result<Tensor> {
    Tensor::cat(&outputs.iter().map(|y| y.reshape(-1)).collect::<Result<Vec<_>>>()?, 0)
}

#[test]
fn gradients_are_differences() -> Result<()> {
    random::manual_seed(2);
    let rng = &mut Rng(1);
    let both = RecurrentOptions { num_layers: 2, bidirectional: true, ..Default::default() };
    for (name, f, states) in KINDS {
        for (options, ways, lengths) in
            [(both, 4, None), (both, 4, Some(&[1usize, 3][..])), (RecurrentOptions::default(), 1, Some(&[0, 2][..]))]
        {
            let mut inputs = vec![smooth(rng, &[2, 3, 3], -1.0, 1.0)];
            inputs.extend((0..states).map(|_| smooth(rng, &[ways, 2, 2], -1.0, 1.0)));
            let make = || Any::new(name, f, &options);
            check_gradients(make, &inputs, |layer, x| joined(&layer.run(x, lengths)?))?;
        }
    }
    Ok(())
}

#[test]
fn gradients_can_be_differentiated() -> Result<()> {
    random::manual_seed(3);
    let rng = &mut Rng(2);
    let options = RecurrentOptions { bidirectional: true, ..Default::default() };
    for (name, f, states) in KINDS {
        for lengths in [None, Some(&[1usize, 2][..])] {
            let layer = cast(Any::new(name, f, &options)?, DType::F64);
            let mut inputs = vec![smooth(rng, &[2, 2, 3], -1.0, 1.0)];
            inputs.extend((0..states).map(|_| smooth(rng, &[2, 2, 2], -1.0, 1.0)));
            let count = inputs.len();
            inputs.extend(layer.parameters().iter().map(Tensor::detach));
            let run = |x: &[Tensor]| {
                let layer = with_parameters(Any::new(name, f, &options)?, &x[count..])?;
                joined(&layer.run(&x[..count], lengths)?)
            };
            // The fused way back and the one made of operations agree.
            let leaves: Vec<Tensor> = inputs.iter().map(Tensor::requires_grad).collect::<Result<_>>()?;
            let y = run(&leaves)?.square()?;
            let refs: Vec<&Tensor> = leaves.iter().collect();
            let [fused, made] = [grad(&[&y], &refs, false)?, grad(&[&y], &refs, true)?];
            for (i, (fused, made)) in fused.iter().zip(&made).enumerate() {
                let (fused, made) = (fused.as_ref().unwrap(), made.as_ref().unwrap());
                assert_close(fused, &Naive::of(made), 1e-12, &format!("{name} {f:?}: gradient {i}"));
            }
            if lengths.is_some() && f == Nonlinearity::Tanh {
                gradgradcheck(run, &inputs, GradCheck::default())?;
            }
        }
    }
    Ok(())
}

#[test]
fn one_tensor_may_be_both_states() -> Result<()> {
    let lstm = cast(Lstm::new(3, 2, &Default::default())?, DType::F64);
    let (x, s) = (Tensor::randn([1, 2, 3], DType::F64)?, Tensor::randn([1, 1, 2], DType::F64)?.requires_grad()?);
    let state = LstmState { h: s.clone(), c: s.clone() };
    let y = lstm.forward(&x, Some(&state))?.0;
    let [fused, made] = [false, true].map(|create| grad(&[&y], &[&s], create).unwrap().remove(0).unwrap());
    assert_close(&fused, &Naive::of(&made), 1e-12, "the sum of both gradients");
    Ok(())
}

#[test]
fn a_short_row_is_as_if_it_were_alone() -> Result<()> {
    random::manual_seed(4);
    let options = RecurrentOptions { num_layers: 2, bidirectional: true, ..Default::default() };
    let lengths = [3, 5, 0, 1];
    for (name, f, states) in KINDS {
        let layer = Any::new(name, f, &options)?;
        let mut x = vec![Tensor::randn([4, 5, 3], DType::F32)?];
        x.extend((0..states).map(|_| Tensor::randn([4, 4, 2], DType::F32).unwrap()));
        // What stands behind the ends is nobody's business.
        let behind = Tensor::arange(0.0, 5.0, 1.0, DType::F32)?.reshape([1, 5, 1])?;
        let ends = Tensor::new(lengths.map(|l| l as f32))?.reshape([4, 1, 1])?;
        x[0] = behind.ge(&ends)?.where_cond(&x[0].full_like(f64::NAN)?, &x[0])?;
        let all = layer.run(&x, Some(&lengths))?;
        for (row, &length) in lengths.iter().enumerate() {
            let mut own = vec![x[0].narrow(0, row, 1)?.narrow(1, 0, length)?];
            own.extend(x[1..].iter().map(|s| s.narrow(1, row, 1).unwrap()));
            let alone = layer.run(&own, None)?;
            let y = all[0].narrow(0, row, 1)?;
            let what = format!("{name} {f:?} row {row}");
            assert_close(&y.narrow(1, 0, length)?, &Naive::of(&alone[0]), 1e-6, &what);
            assert_eq!(y.narrow(1, length, 5 - length)?.to_f64_vec()?, vec![0.0; (5 - length) * 4], "{what}");
            for (all, alone) in all[1..].iter().zip(&alone[1..]) {
                assert_close(&all.narrow(1, row, 1)?, &Naive::of(alone), 1e-6, &format!("{what}: state"));
            }
        }
        let grads = joined(&all)?.sum(..)?.backward()?;
        for (name, p) in layer.named_parameters() {
            assert!(grads.get(&p).unwrap().isfinite()?.all(..)?.item::<bool>()?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_cell_is_one_step_of_its_layer() -> Result<()> {
    let (layer, mut cell) = (Lstm::new(3, 4, &Default::default())?, LstmCell::new(3, 4, true)?);
    let state = layer.state_dict().into_iter().map(|(name, t)| (name.replace("_l0", ""), t)).collect();
    cell.load_state_dict(&state)?;
    let x = Tensor::randn([2, 5, 3], DType::F32)?;
    let (y, end) = layer.forward(&x, None)?;
    let mut state = None;
    for t in 0..5 {
        let next = cell.forward(&x.select(1, t)?, state.as_ref())?;
        assert_close(&next.h, &Naive::of(&y.select(1, t)?), 1e-6, "step");
        state = Some(next);
    }
    assert_close(&state.unwrap().c, &Naive::of(&end.c.select(0, 0)?), 1e-6, "end");
    Ok(())
}

#[test]
fn they_are_modules() -> Result<()> {
    let options = RecurrentOptions { num_layers: 2, bidirectional: true, dropout: 0.5, ..Default::default() };
    let mut lstm = Lstm::new(3, 4, &options)?;
    let names: Vec<String> = lstm.named_parameters().into_iter().map(|(name, _)| name).collect();
    let mut expected = vec![];
    for suffix in ["l0", "l0_reverse", "l1", "l1_reverse"] {
        expected.extend(["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|n| format!("{n}_{suffix}")));
    }
    assert_eq!(names, expected);
    let state = lstm.state_dict();
    assert_eq!((state["weight_ih_l0"].dims(), state["weight_ih_l1"].dims()), (&[16, 3][..], &[16, 8][..]));
    for p in lstm.parameters() {
        let most = p.abs()?.amax(..)?.item::<f32>()?;
        assert!(most <= 0.5 && most > 0.2, "uniform within 1/√4: {most}");
    }

    let x = Tensor::randn([2, 5, 3], DType::F32)?;
    let run = |m: &Lstm| m.forward(&x, None)?.0.to_vec::<f32>();
    assert_ne!(run(&lstm)?, run(&lstm)?, "dropout");
    lstm.eval();
    assert_eq!(run(&lstm)?, run(&lstm)?);
    let mut other = Lstm::new(3, 4, &options)?;
    other.eval();
    other.load_state_dict(&state)?;
    assert_eq!(run(&lstm)?, run(&other)?);

    let settings = "input_size=3, hidden_size=4, num_layers=2, bias=true, dropout=0.5, bidirectional=true";
    assert_eq!(lstm.describe().to_string(), format!("Lstm({settings})"));
    let rnn = Rnn::new(3, 4, Nonlinearity::Relu, &Default::default())?;
    assert!(rnn.describe().to_string().starts_with("Rnn(input_size=3, hidden_size=4, num_layers=1, nonlinearity=Relu"));
    let cell = GruCell::new(3, 4, false)?;
    assert_eq!(cell.describe().to_string(), "GruCell(input_size=3, hidden_size=4, bias=false)");
    Ok(())
}

#[test]
fn halves_empty_batches_and_sequences() -> Result<()> {
    for (name, f, states) in KINDS {
        let options = RecurrentOptions { bidirectional: true, ..Default::default() };
        let layer = Any::new(name, f, &options)?;
        for (shape, out) in [([0, 4, 3], [0, 4, 4]), ([2, 0, 3], [2, 0, 4])] {
            let x = Tensor::zeros(shape, DType::F32)?.requires_grad()?;
            let y = layer.run(std::slice::from_ref(&x), None)?;
            assert_eq!((y[0].dims(), y.len()), (&out[..], 1 + states));
            assert_eq!(y[1].to_f64_vec()?, vec![0.0; y[1].numel()]);
            let grads = joined(&y)?.sum(..)?.backward()?;
            assert_eq!(grads.get(&x).unwrap().dims(), shape);
        }
        let x = Tensor::randn([2, 4, 3], DType::F32)?;
        let wide = layer.run(std::slice::from_ref(&x), None)?;
        let half = cast(layer, DType::BF16);
        let y = half.run(&[x.to_dtype(DType::BF16)?], None)?;
        assert_eq!(y[0].dtype(), DType::BF16);
        assert!(y[0].to_vec::<bf16>().is_ok());
        assert_close(&y[0].to_dtype(DType::F32)?, &Naive::of(&wide[0]), 3e-2, name);
    }
    Ok(())
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    let default = RecurrentOptions::default();
    for made in [message(Lstm::new(0, 2, &default)), message(Lstm::new(2, 0, &default))] {
        assert!(made.starts_with("Lstm: input_size") && made.contains("must not be 0"), "{made}");
    }
    assert!(message(Gru::new(3, 2, &RecurrentOptions { num_layers: 0, ..default })).contains("num_layers 0"));
    assert!(message(Gru::new(3, 2, &RecurrentOptions { dropout: 2.0, ..default })).contains("2 is no probability"));
    assert!(message(GruCell::new(3, 0, true)).contains("GruCell: input_size 3 and hidden_size 0 must not be 0"));
    let gru = Gru::new(3, 2, &default)?;
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32).unwrap();
    assert!(message(gru.forward(&ones(&[2, 4]), None)).contains("expected a tensor of 3 dims"));
    assert!(message(gru.forward(&ones(&[2, 4, 5]), None)).contains("expected [B, T, 3], got input of shape [2, 4, 5]"));
    let x = ones(&[2, 4, 3]);
    let state = ones(&[2, 2, 2]);
    assert!(message(gru.forward(&x, Some(&state))).contains("an initial state of shape [1, 2, 2], got [2, 2, 2]"));
    assert!(message(gru.forward_padded(&x, &[4], None)).contains("1 lengths for a batch of 2 rows"));
    assert!(message(gru.forward_padded(&x, &[4, 5], None)).contains("row 1 has the length 5, the input has 4 steps"));
    let cell = LstmCell::new(3, 2, true)?;
    assert!(message(cell.forward(&ones(&[2, 4]), None)).contains("expected [B, 3], got input of shape [2, 4]"));
    let state = LstmState { h: ones(&[2, 2]), c: ones(&[2, 1]) };
    assert!(message(cell.forward(&ones(&[2, 3]), Some(&state))).contains("shape [2, 2], got [2, 1]"));
    let mut lstm = Lstm::new(3, 2, &default)?;
    assert!(message(lstm.load_state_dict(&gru.state_dict())).contains("weight_hh_l0 has shape [6, 2]"));
    Ok(())
}
