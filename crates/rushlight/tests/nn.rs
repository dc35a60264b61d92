//! Modules: names, modes, state dicts, printouts, and that each layer is the function it names.

mod common;

use common::*;
use rushlight::io::{load_safetensors, save_safetensors};
use rushlight::nn::*;
use rushlight::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, DType, PoolOptions, Result, Tensor};

#[derive(Module)]
struct Block {
    norm: BatchNorm,
    layers: Vec<Linear>,
    gate: Option<Linear>,
    dropout: Dropout,
    scale: Tensor,
    seen: Buffer,
    width: usize,
    #[module(skip)]
    _note: std::time::Duration,
}

fn block(gate: bool) -> Result<Block> {
    Ok(Block {
        norm: BatchNorm::new(3)?,
        layers: vec![Linear::new(3, 4)?, Linear::without_bias(4, 2)?],
        gate: if gate { Some(Linear::new(3, 1)?) } else { None },
        dropout: Dropout::new(0.5)?,
        scale: Tensor::ones(2, DType::F32)?.requires_grad()?,
        seen: Buffer::new(Tensor::zeros((), DType::F32)?),
        width: 4,
        _note: std::time::Duration::ZERO,
    })
}

fn names(list: Vec<(String, Tensor)>) -> Vec<String> {
    list.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn names_are_dotted_and_in_the_order_of_the_fields() -> Result<()> {
    let parameters =
        ["norm.weight", "norm.bias", "layers.0.weight", "layers.0.bias", "layers.1.weight", "gate.weight", "gate.bias"];
    let all: Vec<&str> = parameters.into_iter().chain(["scale"]).collect();
    assert_eq!(names(block(true)?.named_parameters()), all);
    assert_eq!(names(block(true)?.named_buffers()), ["norm.running_mean", "norm.running_var", "seen"]);
    assert_eq!(names(block(false)?.named_parameters()).len(), 6);
    assert_eq!(block(false)?.num_parameters(), 3 + 3 + 12 + 4 + 8 + 2);
    Ok(())
}

#[test]
fn the_printout_is_nested() -> Result<()> {
    let expected = "\
Block(
  width=4
  (norm): BatchNorm(3, eps=1e-5, momentum=0.1)
  (layers): ModuleList(
    (0): Linear(in_features=3, out_features=4, bias=true)
    (1): Linear(in_features=4, out_features=2, bias=false)
  )
  (dropout): Dropout(p=0.5)
)";
    assert_eq!(block(false)?.describe().to_string(), expected);
    Ok(())
}

#[test]
fn a_state_goes_through_a_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.safetensors");
    let (model, mut other) = (block(true)?, block(true)?);
    model.norm.forward(&Tensor::randn([8, 3], DType::F32)?)?;
    save_safetensors(&path, &model.state_dict(), &Default::default())?;
    let before = other.layers[0].weight.clone();
    other.load_state_dict(&load_safetensors(&path)?.0)?;
    for ((name, a), b) in model.state_dict().iter().zip(other.state_dict().values()) {
        assert_eq!(a.to_vec::<f32>()?, b.to_vec::<f32>()?, "{name}");
    }
    // Still trained, and found by gradients of the graph that was built before.
    assert!(other.layers[0].weight.is_tracked() && !other.norm.running_mean.get().is_tracked());
    assert!(before.sum(..)?.backward()?.get(&other.layers[0].weight).is_some());
    Ok(())
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() -> Result<()> {
    let mut model = block(false)?;
    let before = model.layers[0].bias.as_ref().unwrap().to_vec::<f32>()?;
    let mut state = block(true)?.state_dict();
    state.insert("layers.0.weight".into(), Tensor::zeros([4, 5], DType::F32)?);
    state.remove("norm.bias");
    let message = model.load_state_dict(&state).unwrap_err().to_string();
    for part in
        ["layers.0.weight has shape [4, 5], the module's is [4, 3]", "missing norm.bias [3]", "unknown gate.weight"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(model.layers[0].bias.as_ref().unwrap().to_vec::<f32>()?, before);
    // Names that only one side has are passed over on demand; shapes are not.
    assert!(model.load_state_dict_partial(&state).is_err());
    state.remove("layers.0.weight");
    state.insert("scale".into(), Tensor::new([7.0f64, 8.0])?);
    model.load_state_dict_partial(&state)?;
    assert_eq!(model.scale.to_vec::<f32>()?, [7.0, 8.0]);
    Ok(())
}

#[test]
fn modes_and_freezing_reach_every_layer() -> Result<()> {
    let mut model = block(true)?;
    let x = Tensor::ones([200, 3], DType::F32)?;
    let zeros = |m: &Block| -> Result<bool> { m.dropout.forward(&x)?.eq(0.0)?.any(..)?.item() };
    let mean = model.norm.running_mean.get();
    let moved = |m: &Block| -> Result<bool> { m.norm.running_mean.get().ne(&mean)?.any(..)?.item() };
    model.eval();
    model.norm.forward(&x)?;
    assert!(!zeros(&model)? && !moved(&model)?);
    model.train();
    model.norm.forward(&x)?;
    assert!(zeros(&model)? && moved(&model)?);
    model.set_requires_grad(false)?;
    assert!(model.parameters().iter().all(|p| !p.is_tracked()));
    model.set_requires_grad(true)?;
    assert!(model.parameters().iter().all(Tensor::is_tracked));
    assert!(model.named_buffers().iter().all(|(_, b)| !b.is_tracked()));
    Ok(())
}

#[test]
fn layers_are_their_functions() -> Result<()> {
    let rng = &mut Rng(4);
    let mut same = |layer: &dyn Layer, shape: &[usize], f: &dyn Fn(&Tensor) -> Result<Tensor>| {
        let x = tensor(rng, shape, DType::F32);
        let name = layer.describe().to_string();
        assert_same(&layer.forward(&x)?, &Naive::of(&f(&x)?), &name);
        Ok::<_, rushlight::Error>(())
    };
    same(&Relu, &[2, 3], &|x| x.relu())?;
    same(&Gelu, &[2, 3], &|x| x.gelu())?;
    same(&GeluTanh, &[2, 3], &|x| x.gelu_tanh())?;
    same(&Silu, &[2, 3], &|x| x.silu())?;
    same(&Sigmoid, &[2, 3], &|x| x.sigmoid())?;
    same(&Tanh, &[2, 3], &|x| x.tanh())?;
    same(&Softplus, &[2, 3], &|x| x.softplus())?;
    same(&LeakyRelu { negative_slope: 0.2 }, &[2, 3], &|x| x.leaky_relu(0.2))?;
    same(&Elu { alpha: 0.5 }, &[2, 3], &|x| x.elu(0.5))?;
    same(&Softmax { dim: -1 }, &[2, 3], &|x| x.softmax(1))?;
    same(&LogSoftmax { dim: 0 }, &[2, 3], &|x| x.log_softmax(0))?;
    same(&Flatten, &[2, 3, 4], &|x| x.reshape([2, 12]))?;
    same(&MaxPool1d::new([2]), &[2, 3, 6], &|x| x.max_pool1d([2], PoolOptions::default()))?;
    same(&MaxPool2d::new([2, 3]), &[2, 3, 6, 6], &|x| x.max_pool2d([2, 3], PoolOptions::default()))?;
    same(&MaxPool3d::new([2, 1, 3]), &[2, 3, 4, 4, 4], &|x| x.max_pool3d([2, 1, 3], PoolOptions::default()))?;
    same(&SoftmaxPool2d::new([2, 3]), &[2, 3, 6, 6], &|x| x.softmax_pool2d([2, 3], PoolOptions::default()))?;
    same(&LpPool1d::new(2.0, [2]), &[2, 3, 6], &|x| x.lp_pool1d(2.0, [2], None, false))?;
    same(&AvgPool1d::new([3]), &[2, 3, 6], &|x| x.avg_pool1d([3], AvgPoolOptions::default()))?;
    same(&AvgPool2d::new([2, 2]), &[2, 3, 5, 6], &|x| x.avg_pool2d([2, 2], AvgPoolOptions::default()))?;
    same(&AvgPool3d::new([1, 2, 2]), &[1, 2, 2, 4, 4], &|x| x.avg_pool3d([1, 2, 2], AvgPoolOptions::default()))?;
    same(&AdaptiveMaxPool1d { output: [2] }, &[2, 3, 5], &|x| x.adaptive_max_pool1d([2]))?;
    same(&AdaptiveMaxPool2d { output: [2, 3] }, &[2, 3, 5, 7], &|x| x.adaptive_max_pool2d([2, 3]))?;
    same(&AdaptiveMaxPool3d { output: [1, 2, 2] }, &[1, 2, 3, 4, 5], &|x| x.adaptive_max_pool3d([1, 2, 2]))?;
    same(&AdaptiveAvgPool1d { output: [3] }, &[2, 3, 5], &|x| x.adaptive_avg_pool1d([3]))?;
    same(&AdaptiveAvgPool2d { output: [1, 1] }, &[2, 3, 5, 7], &|x| x.adaptive_avg_pool2d([1, 1]))?;
    same(&AdaptiveAvgPool3d { output: [2, 2, 2] }, &[1, 2, 3, 4, 5], &|x| x.adaptive_avg_pool3d([2, 2, 2]))?;

    let linear = Linear::new(3, 4)?;
    let y = |x: &Tensor| x.matmul(&linear.weight.t()?)?.add(linear.bias.as_ref().unwrap());
    assert_close(
        &linear.forward(&Tensor::eye(3, DType::F32)?)?,
        &Naive::of(&y(&Tensor::eye(3, DType::F32)?)?),
        1e-6,
        "",
    );
    let options = ConvOptions { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 };
    let conv = Conv2d::new(4, 6, [3, 2], options)?;
    same(&conv, &[2, 4, 7, 6], &|x| x.conv2d(&conv.weight, conv.bias.as_ref(), options))?;
    let conv = Conv1d::new(2, 3, [3], ConvOptions::default())?.without_bias();
    assert!(conv.bias.is_none());
    same(&conv, &[2, 2, 7], &|x| x.conv1d(&conv.weight, None, ConvOptions::default()))?;
    let conv = ConvTranspose2d::new(4, 2, [3, 3], ConvTransposeOptions::default())?;
    same(&conv, &[2, 4, 3, 3], &|x| x.conv_transpose2d(&conv.weight, conv.bias.as_ref(), Default::default()))?;

    let table = Embedding::with_padding(5, 3, 1)?;
    let y = table.forward(&Tensor::new([[0i64, 1], [4, 4]])?)?;
    assert_eq!(y.dims(), [2, 2, 3]);
    assert_eq!(y.select(0, 0)?.select(0, 1)?.to_vec::<f32>()?, [0.0; 3]);
    assert_same(&y.select(0, 1)?.select(0, 0)?, &Naive::of(&table.weight.select(0, 4)?), "row 4");
    let row = y.sum(..)?.backward()?.get(&table.weight).unwrap().sum(1)?.to_vec::<f32>()?;
    assert_eq!(row, [3.0, 0.0, 0.0, 0.0, 6.0], "padding gets no gradient, a row met twice gets both");
    Ok(())
}
