//! A mixture of experts: softmax gating over networks.
//!
//! ```text
//! p = softmax(gate(x))        y = Σᵢ pᵢ·expertᵢ(x)               dense: all experts, each by its weight
//! w = p of the k largest / their sum    y = Σ wᵢ·expertᵢ(x)      top-k: the others are not computed
//! loss = n · Σᵢ fᵢ·Pᵢ                                            over n experts, to be added to the task's, with a factor
//! ```
//!
//! `Pᵢ` is the mean of `pᵢ` over the rows, and `fᵢ` the share of rows that went to expert `i`. The loss is 1 where all
//! experts are used alike and grows to n where one is used alone; its gradient takes `p` away from the busy ones. In a
//! dense mixture `f` is `P` itself, and the loss is 1 plus the square of the coefficient of variation of the experts'
//! importance. Source: Jacobs et al. 1991; Shazeer et al. 2017, for top-k and importance; Fedus et al. 2021, for the loss.

use super::gate::BoxedLayer;
use super::{Layer, Module};
use crate::{Error, Result, Tensor};

const OP: &str = "MixtureOfExperts";

/// Networks of which a gate chooses by the input: all by their weights, or the `top_k` best for each row.
///
/// ```
/// use rushlight::nn::{BoxedLayer, Layer, Linear, MixtureOfExperts};
/// use rushlight::{DType, Tensor};
///
/// let experts = (0..4).map(|_| Ok(Box::new(Linear::new(8, 3)?) as BoxedLayer)).collect::<rushlight::Result<_>>()?;
/// let mixture = MixtureOfExperts::new(experts, Linear::without_bias(8, 4)?, Some(2))?;
/// let x = Tensor::randn([5, 8], DType::F32)?;
/// let (y, gates) = mixture.forward_with_gates(&x)?;
/// assert_eq!((y.dims(), gates.weights.dims()), (&[5, 3][..], &[5, 4][..]));
/// let loss = y.square()?.mean(..)?.add(&gates.load_balancing_loss.mul(0.01)?)?;
/// assert!(loss.backward().is_ok());
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct MixtureOfExperts {
    /// How many experts compute a row; none, or as many as there are: all of them.
    top_k: Option<usize>,
    /// Whether the weights of the chosen sum to 1, which is how it starts; else they are `p`. With `top_k` of 1 they are
    /// then 1, whatever the score, and but for the loss the gate learns nothing: Switch sets this to false. Qwen's
    /// `norm_topk_prob`.
    pub renormalize: bool,
    /// From `[.., width]` to `[.., experts]`: the scores.
    pub gate: BoxedLayer,
    /// From `[.., width]` to one shape.
    pub experts: Vec<BoxedLayer>,
}

/// What the gate of a [`MixtureOfExperts`] did.
#[derive(Clone, Debug)]
pub struct ExpertGates {
    /// `[.., experts]`: the weight of each expert in the output, 0 of those that were not chosen.
    pub weights: Tensor,
    /// One number, from 1, where all experts are used alike, to their count, where one is used alone.
    pub load_balancing_loss: Tensor,
}

impl MixtureOfExperts {
    /// Errors: no experts; `top_k` is 0 or more than there are.
    pub fn new(
        experts: Vec<BoxedLayer>,
        gate: impl Layer + Send + Sync + 'static,
        top_k: Option<usize>,
    ) -> Result<MixtureOfExperts> {
        let n = experts.len();
        if n == 0 {
            return Err(Error::invalid(OP, "a mixture needs at least one expert"));
        }
        if let Some(k) = top_k.filter(|&k| k == 0 || k > n) {
            return Err(Error::invalid(OP, format!("top_k is {k}, expected 1 to the {n} experts")));
        }
        Ok(MixtureOfExperts { top_k, renormalize: true, gate: Box::new(gate), experts })
    }

    /// [`MixtureOfExperts::forward`], and what the gate did. `[.., width]` to `[.., out]`.
    ///
    /// In top-k each chosen expert is called once, with its rows, `[rows, width]`. Of equal scores the first expert is
    /// chosen. Errors: a gate of another width; experts whose outputs differ in shape.
    pub fn forward_with_gates(&self, x: &Tensor) -> Result<(Tensor, ExpertGates)> {
        let (n, scores) = (self.experts.len(), self.gate.forward(x)?);
        let lead = &x.dims()[..x.rank().saturating_sub(1)];
        if x.rank() == 0 || scores.rank() != x.rank() || scores.dims() != [lead, &[n]].concat() {
            let message = format!(
                "the gate made {} of input {}, expected one score for each of {n} experts",
                scores.shape(),
                x.shape()
            );
            return Err(Error::invalid(OP, message));
        }
        let p = scores.softmax(-1)?; // [.., experts]
        match self.top_k.filter(|&k| k < n) {
            None => self.dense(x, p),
            Some(k) => self.sparse(x, &scores, &p, k),
        }
    }

    fn dense(&self, x: &Tensor, p: Tensor) -> Result<(Tensor, ExpertGates)> {
        let mut outputs = vec![];
        for (i, expert) in self.experts.iter().enumerate() {
            outputs.push(expert.forward(x)?);
            same_shape(&outputs, i)?;
        }
        let mut y = outputs[0].mul(&p.narrow(-1, 0, 1)?)?;
        for (i, output) in outputs.iter().enumerate().skip(1) {
            y = y.add(&output.mul(&p.narrow(-1, i, 1)?)?)?;
        }
        let importance = mean_of_rows(&p)?;
        let load_balancing_loss = self.balance(&importance, &importance)?;
        Ok((y, ExpertGates { weights: p, load_balancing_loss }))
    }

    /// Rows sorted by expert go through theirs, and the outputs back to their places.
    fn sparse(&self, x: &Tensor, scores: &Tensor, p: &Tensor, k: usize) -> Result<(Tensor, ExpertGates)> {
        let (n, width) = (self.experts.len(), x.size(-1)?);
        let rows = p.numel() / n;
        let flat = x.reshape([rows, width])?;
        let (best, chosen) = scores.reshape([rows, n])?.topk(k, 1, true)?; // [rows, k]
        let shares = match self.renormalize {
            // The softmax of the chosen scores is p of the chosen over its sum.
            true => best.softmax(-1)?,
            false => p.reshape([rows, n])?.gather(1, &chosen)?,
        };

        let chosen_flat = chosen.reshape(-1)?.to_vec::<i64>()?; // place row · k + slot
        let mut order: Vec<usize> = (0..rows * k).collect();
        order.sort_by_key(|&place| chosen_flat[place]);
        let mut back = vec![0i64; rows * k];
        order.iter().zip(0i64..).for_each(|(&place, i)| back[place] = i);
        let mut counts = vec![0usize; n];
        chosen_flat.iter().for_each(|&e| counts[e as usize] += 1);

        let row_of = Tensor::from_vec(order.iter().map(|&place| (place / k) as i64).collect(), rows * k)?;
        let mut outputs = vec![];
        let mut start = 0;
        for (expert, &count) in self.experts.iter().zip(&counts) {
            if count > 0 {
                outputs.push(expert.forward(&flat.index_select(0, &row_of.narrow(0, start, count)?)?)?);
                start += count;
                let (shape, first) = (outputs[outputs.len() - 1].shape(), outputs[0].shape());
                if *shape != first.with(0, count) || shape.rank() != 2 {
                    let message = format!("an expert made {shape} of {count} rows, another {first}");
                    return Err(Error::invalid(OP, message));
                }
            }
        }
        if outputs.is_empty() {
            outputs.push(self.experts[0].forward(&flat)?);
        }
        let y = Tensor::cat(&outputs, 0)?.index_select(0, &Tensor::from_vec(back, rows * k)?)?; // [rows · k, out]
        let out = y.size(-1)?;
        let y = y.reshape([rows, k, out])?.mul(&shares.unsqueeze(-1)?)?.sum(1)?; // [rows, out]

        let weights = Tensor::zeros([rows, n], shares.dtype())?.scatter(1, &chosen, &shares)?.reshape(p.shape())?;
        let used = counts.iter().map(|&c| c as f64 / (rows * k).max(1) as f64).collect();
        let used = Tensor::from_vec::<f64>(used, n)?.to_dtype(p.dtype())?;
        let load_balancing_loss = self.balance(&used, &mean_of_rows(p)?)?;
        let shape = x.shape().with(x.rank() - 1, out);
        Ok((y.reshape(shape)?, ExpertGates { weights, load_balancing_loss }))
    }

    /// `n · Σ fᵢ·Pᵢ`
    fn balance(&self, f: &Tensor, importance: &Tensor) -> Result<Tensor> {
        f.mul(importance)?.sum(..)?.mul(self.experts.len() as f64)
    }
}

impl Layer for MixtureOfExperts {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_with_gates(x)?.0)
    }
}

/// `[.., n]` to `[n]`; zeros of no rows.
fn mean_of_rows(p: &Tensor) -> Result<Tensor> {
    let n = p.size(-1)?;
    let rows = p.numel() / n;
    p.reshape([rows, n])?.sum(0)?.div(rows.max(1) as f64)
}

fn same_shape(outputs: &[Tensor], last: usize) -> Result<()> {
    let (first, last_shape) = (outputs[0].shape(), outputs[last].shape());
    match first == last_shape {
        true => Ok(()),
        false => Err(Error::invalid(OP, format!("expert 0 made {first}, expert {last} made {last_shape}"))),
    }
}
