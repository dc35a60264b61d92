//! Choices: of the largest, hard and soft; of two; by gates; by attention.

use rushlight::{AttentionOptions, Causal, DType, Result, Tensor};

use super::Topic;
use super::worked::Worked;

/// The two choices 0 and x, one below the other: `[2, n]`.
fn choices(x: &Tensor) -> Result<Tensor> {
    Tensor::stack(&[&x.zeros_like()?, x], 0)
}

const FIVE: &[f64] = &[-4.0, -1.0, 0.5, 1.0, 4.0];
const SCORES: &[f64] = &[1.0, 3.0, 2.0];

pub const TOPICS: &[Topic] = &[
    Topic {
        name: "max",
        aliases: &["maximum", "amax"],
        short: "the largest, and the gradient goes to it alone",
        what: "The largest element. Moving another one a little changes nothing, so the gradient goes to the place of the \
               largest and to no other. At a tie it goes to the first.",
        formula: &["y = maxᵢ xᵢ"],
        gradient: &["dxᵢ = dy · argmax(x)ᵢ, with argmax as a one-hot vector"],
        relation: "Its gradient is argmax. Of two choices 0 and x it is ReLU. Its soft form is logsumexp, whose gradient is \
                   softmax.",
        examples: &[Worked {
            output: "max(x)",
            f: |t| t[0].amax(0),
            inputs: &[("x", &[3], SCORES)],
            dy: &[1.0],
            same: &[("Σ x · argmax(x)", |t| t[0].mul(&t[0].argmax_one_hot(0)?)?.sum(..))],
        }],
        call: "Tensor::max(dim), amax(dims)",
    },
    Topic {
        name: "argmax",
        aliases: &["one-hot", "argmax-one-hot"],
        short: "where the largest is, as a one-hot vector",
        what: "1 at the place of the largest element, 0 elsewhere. It jumps where another element becomes the largest and \
               is flat in between, so nothing is learned through it.",
        formula: &["yᵢ = 1 if xᵢ is the largest (the first of several), else 0"],
        gradient: &["dx = 0"],
        relation: "It is the gradient of max. Of two choices 0 and x it is the step. Its soft form, which has a gradient, is \
                   softmax.",
        examples: &[Worked {
            output: "argmax(x)",
            f: |t| t[0].argmax_one_hot(0),
            inputs: &[("x", &[3], SCORES)],
            dy: &[1.0, 2.0, 3.0],
            same: &[("softmax(x / t), t = 0.01", |t| t[0].div(0.01)?.softmax(0))],
        }],
        call: "Tensor::argmax_one_hot(dim), argmax(dim) for the index",
    },
    Topic {
        name: "softmax",
        aliases: &["soft-argmax", "temperature"],
        short: "the soft argmax, weights that sum to 1",
        what: "Scores become positive weights that sum to 1, the largest score getting most. Divided by a temperature t \
               first, they come near argmax as t goes to 0 and near equal shares as t grows. The maximum is taken off \
               first, so that nothing overflows.",
        formula: &["yᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m), m = max x"],
        gradient: &[
            "dxᵢ = yᵢ · (dyᵢ − Σⱼ dyⱼ·yⱼ)",
            "∂yᵢ/∂xⱼ = yᵢ · ([i = j] − yⱼ): each output depends on every input",
        ],
        relation: "The soft argmax, and the gradient of logsumexp. Of two choices 0 and x it is the sigmoid. It is the gate \
                   between many choices, and what attention weighs positions with.",
        examples: &[Worked {
            output: "softmax(x)",
            f: |t| t[0].softmax(0),
            inputs: &[("x", &[3], SCORES)],
            dy: &[0.0, 1.0, 0.0],
            same: &[("exp(x) / Σ exp(x)", |t| t[0].exp()?.div(&t[0].exp()?.sum(..)?))],
        }],
        call: "Tensor::softmax(dim)",
    },
    Topic {
        name: "log-softmax",
        aliases: &[],
        short: "the logarithm of softmax, without the loss of small numbers",
        what: "The logarithm of the softmax weights. It is computed without the weights themselves, since a weight that has \
               rounded to 0 has the logarithm −∞.",
        formula: &["yᵢ = xᵢ − m − log Σⱼ exp(xⱼ − m), m = max x"],
        gradient: &["dxᵢ = dyᵢ − softmax(x)ᵢ · Σⱼ dyⱼ"],
        relation: "x minus its logsumexp. Cross-entropy is minus the log-softmax at the target.",
        examples: &[Worked {
            output: "log-softmax(x)",
            f: |t| t[0].log_softmax(0),
            inputs: &[("x", &[3], SCORES)],
            dy: &[0.0, 1.0, 0.0],
            same: &[("log(softmax(x))", |t| t[0].softmax(0)?.log())],
        }],
        call: "Tensor::log_softmax(dim)",
    },
    Topic {
        name: "logsumexp",
        aliases: &[],
        short: "the soft maximum, whose gradient is softmax",
        what: "A little more than the largest element: by log n if all n are equal, by nothing if one is far above the \
               rest. Its gradient is spread over all places, where that of max goes to one.",
        formula: &["y = m + log Σⱼ exp(xⱼ − m), m = max x"],
        gradient: &["dxᵢ = dy · softmax(x)ᵢ"],
        relation: "The soft form of max. Of two choices 0 and x it is softplus, the soft ReLU.",
        examples: &[Worked {
            output: "logsumexp(x)",
            f: |t| t[0].logsumexp(0),
            inputs: &[("x", &[3], SCORES)],
            dy: &[1.0],
            same: &[("log Σ exp(x)", |t| t[0].exp()?.sum(..)?.log())],
        }],
        call: "Tensor::logsumexp(dims)",
    },
    Topic {
        name: "relu",
        aliases: &["rectifier"],
        short: "the larger of 0 and x",
        what: "What is below 0 becomes 0, the rest passes. The gradient passes where x is above 0, and stops elsewhere. At 0 \
               the library says 0.",
        formula: &["y = max(0, x)"],
        gradient: &["dx = dy · step(x)"],
        relation: "ReLU is the two-way max, and its gradient is the two-way argmax, the step.",
        examples: &[Worked {
            output: "relu(x)",
            f: |t| t[0].relu(),
            inputs: &[("x", &[5], FIVE)],
            dy: &[1.0; 5],
            same: &[("max[0, x]", |t| choices(&t[0])?.amax(0)), ("x · step(x)", |t| t[0].mul(&t[0].step()?))],
        }],
        call: "Tensor::relu(), nn::Relu",
    },
    Topic {
        name: "step",
        aliases: &["heaviside", "threshold"],
        short: "1 above 0, else 0",
        what: "A hard decision by the sign of x. It is flat on both sides of its jump, so its gradient is 0 and what decides \
               cannot be learned through it.",
        formula: &["y = 1 if x > 0, else 0"],
        gradient: &["dx = 0"],
        relation: "Step is the two-way argmax, and the gradient of ReLU. Its soft form is the sigmoid.",
        examples: &[Worked {
            output: "step(x)",
            f: |t| t[0].step(),
            inputs: &[("x", &[5], FIVE)],
            dy: &[1.0; 5],
            same: &[("argmax[0, x] at x", |t| choices(&t[0])?.argmax_one_hot(0)?.select(0, 1))],
        }],
        call: "Tensor::step()",
    },
    Topic {
        name: "sigmoid",
        aliases: &["logistic", "σ"],
        short: "the soft step, from 0 to 1",
        what: "A soft decision: near 0 far below 0, near 1 far above, ½ at 0. Unlike the step it has a gradient, which is \
               largest where the decision is open.",
        formula: &["σ(x) = 1 / (1 + exp(−x))"],
        gradient: &["dx = dy · σ(x) · (1 − σ(x))"],
        relation: "Sigmoid is the two-way softmax of 0 and x, and the gradient of softplus. It is what opens a gate.",
        examples: &[Worked {
            output: "sigmoid(x)",
            f: |t| t[0].sigmoid(),
            inputs: &[("x", &[5], FIVE)],
            dy: &[1.0; 5],
            same: &[("softmax[0, x] at x", |t| choices(&t[0])?.softmax(0)?.select(0, 1))],
        }],
        call: "Tensor::sigmoid(), nn::Sigmoid",
    },
    Topic {
        name: "softplus",
        aliases: &["soft-relu"],
        short: "the soft ReLU",
        what: "ReLU with a round corner: near 0 far below 0, near x far above.",
        formula: &["y = log(1 + exp(x))"],
        gradient: &["dx = dy · σ(x)"],
        relation: "The two-way logsumexp of 0 and x. As ReLU has the gradient step, softplus has the sigmoid.",
        examples: &[Worked {
            output: "softplus(x)",
            f: |t| t[0].softplus(),
            inputs: &[("x", &[5], FIVE)],
            dy: &[1.0; 5],
            same: &[("logsumexp[0, x]", |t| choices(&t[0])?.logsumexp(0))],
        }],
        call: "Tensor::softplus(), nn::Softplus",
    },
    Topic {
        name: "gate",
        aliases: &["soft-gate", "gated-connection"],
        short: "a learned choice between two",
        what: "The score r says how much of a and how much of b passes. All three have a gradient: the one that is used gets \
               most of it, and r learns which is useful. With the step in place of σ, r would learn nothing.",
        formula: &["y = a · σ(r) + b · (1 − σ(r))"],
        gradient: &["da = dy · σ(r)", "db = dy · (1 − σ(r))", "dr = dy · (a − b) · σ(r) · (1 − σ(r))"],
        relation: "A gate is opened by a sigmoid; it is softmax gating between two. Highways, GRUs and LSTMs are made of \
                   gates.",
        examples: &[Worked {
            output: "gate(r, a, b)",
            f: |t| t[1].gate(&t[2], &t[0]),
            inputs: &[("r", &[3], &[-2.0, 0.0, 2.0]), ("a", &[3], &[3.0, 3.0, 3.0]), ("b", &[3], &[-1.0, -1.0, -1.0])],
            dy: &[1.0; 3],
            same: &[("Σ softmax[0, r] · [b, a]", |t| {
                choices(&t[0])?.softmax(0)?.mul(&Tensor::stack(&[&t[2], &t[1]], 0)?)?.sum(0)
            })],
        }],
        call: "Tensor::gate(y, r), nn::Gate; examples/05_gates.rs, 06_gate_between_networks.rs",
    },
    Topic {
        name: "softmax-gating",
        aliases: &["gating", "memory"],
        short: "a learned choice between many",
        what: "Scores r become weights, and the output is the weighted sum of the choices: outputs of networks, or places of \
               a memory. Each choice gets the gradient by its weight, so what is used learns most.",
        formula: &["y = Σᵢ pᵢ · xᵢ, p = softmax(r)"],
        gradient: &[
            "dxᵢ = pᵢ · dy",
            "drᵢ = pᵢ · (xᵢ − y) · dy: up for a choice that is above the output, where dy > 0",
        ],
        relation: "A gate for more than two. If a layer makes the scores, it is a mixture of experts; if they are products \
                   of a query with keys, it is attention.",
        examples: &[Worked {
            output: "Σ softmax(r) · x",
            f: |t| t[0].softmax(0)?.mul(&t[1])?.sum(..),
            inputs: &[("r", &[3], SCORES), ("x", &[3], &[10.0, 20.0, 30.0])],
            dy: &[1.0],
            same: &[],
        }],
        call: "softmax, mul and sum, as in examples/07_softmax_gating.rs; nn::MixtureOfExperts",
    },
    Topic {
        name: "attention",
        aliases: &["scaled-dot-product-attention", "sdpa", "self-attention"],
        short: "softmax gating of positions, by queries and keys",
        what: "Each query is compared with all keys; the products become weights, and the output is the mean of the values \
               by these weights. A causal mask sets the scores of later positions to −∞, which makes their weights 0.",
        formula: &["p = softmax(q·kᵀ / √d)", "y = p·v"],
        gradient: &["dv = pᵀ·dy", "ds = p ∘ (dy·vᵀ − Σ dy ∘ y), the softmax's", "dq = ds·k / √d", "dk = dsᵀ·q / √d"],
        relation: "Attention is softmax gating: every row of p is the gate of one query over the memory of values.",
        examples: &[Worked {
            output: "attention(q, k, v), causal",
            f: |t| {
                let options = AttentionOptions { causal: Causal::UpperLeft, ..Default::default() };
                t[0].scaled_dot_product_attention(&t[1], &t[2], &options)
            },
            inputs: &[
                ("q", &[3, 2], &[1.0, 0.0, 0.0, 2.0, 2.0, 2.0]),
                ("k", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
                ("v", &[3, 1], &[10.0, 20.0, 30.0]),
            ],
            dy: &[1.0; 3],
            same: &[("softmax(q·kᵀ/√2 + mask)·v", |t| {
                let later = Tensor::ones([3, 3], DType::Bool)?.triu(1)?;
                let scores = t[0].matmul(&t[1].t()?)?.mul(std::f64::consts::FRAC_1_SQRT_2)?;
                scores.masked_fill(&later, f64::NEG_INFINITY)?.softmax(-1)?.matmul(&t[2])
            })],
        }],
        call: "Tensor::scaled_dot_product_attention, attention_weights, nn::MultiHeadAttention",
    },
];
