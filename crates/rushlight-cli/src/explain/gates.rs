//! Layers that are made of gates: highways, mixtures of experts, recurrent networks.

use rushlight::nn::{
    BoxedLayer, Gru, Highway, Layer, Linear, Lstm, MixtureOfExperts, Module, Nonlinearity, Path, RecurrentOptions, Rnn,
    Tanh,
};
use rushlight::{Result, Tensor};

use super::Topic;
use super::worked::Worked;

/// A product with these weights.
fn product(weight: &Tensor) -> Linear {
    Linear { weight: weight.clone(), bias: None }
}

/// A recurrent layer of one number in and one of state, with weights `w` for the input, `v` for the state, and biases `b`.
fn one_number<M: Module>(mut layer: M, t: &[Tensor]) -> Result<M> {
    let column = |t: &Tensor| t.reshape([t.numel(), 1]);
    layer.visit_mut(&mut Path::default(), &mut |name, _, p| {
        *p = match name {
            "weight_ih_l0" => column(&t[1])?,
            "weight_hh_l0" => column(&t[2])?,
            "bias_ih_l0" => t[3].clone(),
            _ => t[3].zeros_like()?,
        };
        Ok(())
    })?;
    Ok(layer)
}

/// `[T]` as a sequence of single numbers, through `f`, as `[T]`.
fn sequence(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    f(&x.reshape([1, -1, 1])?)?.reshape(-1)
}

/// Step by step, from a state of zeros: `f(x, h, c)` is the next `(h, c)`. Outputs are h.
fn steps(x: &Tensor, f: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<(Tensor, Tensor)>) -> Result<Tensor> {
    let zero = x.select(0, 0)?.zeros_like()?;
    let (mut state, mut outputs) = ((zero.clone(), zero), vec![]);
    for x in x.unbind(0)? {
        state = f(&x, &state.0, &state.1)?;
        outputs.push(state.0.clone());
    }
    Tensor::stack(&outputs, 0)
}

/// `w·x + v·h + b` of every gate.
fn sums(t: &[Tensor], x: &Tensor, h: &Tensor) -> Result<Tensor> {
    t[1].mul(x)?.add(&t[2].mul(h)?)?.add(&t[3])
}

/// Something happens at the first step, and then nothing.
const EVENT: &[f64] = &[1.0, 0.0, 0.0, 0.0];
const LAST: &[f64] = &[0.0, 0.0, 0.0, 1.0];

pub const TOPICS: &[Topic] = &[
    Topic {
        name: "highway",
        aliases: &["highway-network", "carry-gate"],
        short: "a gate between a layer and its own input",
        what: "Every number is either transformed or carried past the layer, as a gate says that reads the input. The \
               gates' biases start below 0, so that a deep stack begins as a road that passes all its layers, and the \
               gradient with it.",
        formula: &["y = H(x) · σ(r) + x · (1 − σ(r))", "H(x) = f(W·x + b), r = W_T·x + b_T"],
        gradient: &[
            "dH = dy · σ(r)",
            "dx = dy · (1 − σ(r)), and what comes back through H and r",
            "dr = dy · (H(x) − x) · σ(r) · (1 − σ(r))",
        ],
        relation: "The gate with the input as its second choice. A residual connection, x + H(x), is one without the gate. A \
                   GRU is a highway through time.",
        examples: &[Worked {
            output: "highway(x), tanh",
            f: |t| {
                let mut highway = Highway::new(2, 1, Tanh)?;
                highway.layers[0].transform = product(&t[1]);
                highway.layers[0].gate = Linear { weight: t[2].clone(), bias: Some(t[3].clone()) };
                highway.forward(&t[0])
            },
            inputs: &[
                ("x", &[1, 2], &[2.0, -1.0]),
                ("W", &[2, 2], &[1.0, 0.0, 0.0, 1.0]),
                ("W_T", &[2, 2], &[2.0, 0.0, 0.0, 2.0]),
                ("b_T", &[2], &[-2.0, -2.0]),
            ],
            dy: &[1.0; 2],
            same: &[("tanh(W·x) · σ(r) + x · (1 − σ(r))", |t| {
                let open = t[0].linear(&t[2], Some(&t[3]))?.sigmoid()?;
                t[0].linear(&t[1], None)?.tanh()?.mul(&open)?.add(&t[0].mul(&open.neg()?.add(1.0)?)?)
            })],
        }],
        call: "nn::Highway",
    },
    Topic {
        name: "mixture",
        aliases: &["mixture-of-experts", "moe", "experts", "top-k"],
        short: "softmax gating over networks, of which only the best are computed",
        what: "A layer scores the experts by the input. The k best are computed, and their outputs summed by the softmax of \
               their scores. The others cost nothing and learn nothing. So that not all rows go to one expert, a loss is \
               added that is 1 where all are used alike, and more where they are not.",
        formula: &[
            "y = Σ wᵢ · expertᵢ(x), w = softmax of the k largest scores",
            "loss = n · Σᵢ fᵢ · Pᵢ: rows that went to i, times the mean softmax weight of i",
        ],
        gradient: &[
            "to expert i: wᵢ · dy, and 0 if it was not chosen",
            "drᵢ = wᵢ · Σ dy · (expertᵢ(x) − y), and 0 if it was not chosen",
        ],
        relation: "Softmax gating with scores from a layer. With k = 1 it is a hard choice, as argmax, unless the weight is \
                   left as the softmax made it; with all n it is dense.",
        examples: &[Worked {
            output: "the two best of three experts",
            f: |t| {
                let experts = (0..3).map(|i| Ok(Box::new(product(&t[2].narrow(0, i, 1)?)) as BoxedLayer));
                MixtureOfExperts::new(experts.collect::<Result<_>>()?, product(&t[1]), Some(2))?.forward(&t[0])
            },
            inputs: &[
                ("x", &[1, 2], &[1.0, 2.0]),
                ("gate", &[3, 2], &[1.0, 0.0, 0.0, 1.0, -1.0, 0.0]),
                ("experts", &[3, 2], &[10.0, 0.0, 0.0, 10.0, 100.0, 100.0]),
            ],
            dy: &[1.0],
            same: &[("Σ softmax(r)ᵢ · expertᵢ(x), i = 1, 2", |t| {
                let [weights, made] = [&t[1], &t[2]].map(|w| t[0].linear(&w.narrow(0, 0, 2)?, None));
                weights?.softmax(1)?.mul(&made?)?.sum(1)?.reshape([1, 1])
            })],
        }],
        call: "nn::MixtureOfExperts",
    },
    Topic {
        name: "rnn",
        aliases: &["recurrent", "recurrent-network", "elman"],
        short: "a state that every step writes anew",
        what: "A step makes the next state of its input and of the state before. The gradient goes back through all steps, and \
               at each is multiplied by v and by the slope of tanh: over many steps it fades, or grows beyond measure.",
        formula: &["hₜ = tanh(w·xₜ + v·hₜ₋₁ + b)"],
        gradient: &["da = dhₜ · (1 − hₜ²), a what stands in tanh", "dhₜ₋₁ = v·da, dxₜ = w·da"],
        relation: "Gates are the remedy: see gru and lstm. Attention does without a state, and looks back at all steps.",
        examples: &[Worked {
            output: "h of every step",
            f: |t| {
                let rnn = Rnn::new(1, 1, Nonlinearity::Tanh, &RecurrentOptions::default())?;
                sequence(&t[0], |x| Ok(one_number(rnn, t)?.forward(x, None)?.0))
            },
            inputs: &[("x", &[4], EVENT), ("w", &[1], &[2.0]), ("v", &[1], &[0.5]), ("b", &[1], &[0.0])],
            dy: LAST,
            same: &[("step by step", |t| steps(&t[0], |x, h, c| Ok((sums(t, x, h)?.tanh()?.reshape(())?, c.clone()))))],
        }],
        call: "nn::Rnn, nn::RnnCell",
    },
    Topic {
        name: "gru",
        aliases: &["gated-recurrent-unit"],
        short: "a state with a gate between the old and the new",
        what: "The gate z says how much of the old state stays; a second gate, r, says how much of it the new one is made of. \
               Where z is open the state goes on as it is, and the gradient comes back as it is. Here z is nearly 1 but \
               for the event at the first step, which is remembered.",
        formula: &[
            "r, z = σ(w·x + v·h + b), each with its own w, v, b",
            "n = tanh(w·x + b + r·(v·h))",
            "h ← n · (1 − z) + h · z = gate(h, n, z)",
        ],
        gradient: &[
            "dn = dh · (1 − z)",
            "dz = dh · (h − n), with h the old state",
            "to the old state: dh · z, and by the gates",
        ],
        relation: "The soft gate of this lecture, from step to step. An LSTM has one gate more, and keeps what it remembers \
                   apart from what it shows.",
        examples: &[Worked {
            output: "h of every step",
            f: |t| {
                let gru = Gru::new(1, 1, &RecurrentOptions::default())?;
                sequence(&t[0], |x| Ok(one_number(gru, t)?.forward(x, None)?.0))
            },
            inputs: &[
                ("x", &[4], EVENT),
                ("w", &[3], &[0.0, -8.0, 2.0]),
                ("v", &[3], &[0.0, 0.0, 0.5]),
                ("b", &[3], &[0.0, 4.0, 0.0]),
            ],
            dy: LAST,
            same: &[("step by step, by gate(h, n, z)", |t| {
                steps(&t[0], |x, h, c| {
                    let gates = sums(t, x, h)?; // [3]
                    let r = gates.select(0, 0)?.sigmoid()?;
                    let own = t[1].select(0, 2)?.mul(x)?.add(&t[3].select(0, 2)?)?;
                    let n = own.add(&r.mul(&t[2].select(0, 2)?.mul(h)?)?)?.tanh()?;
                    Ok((h.gate(&n, &gates.select(0, 1)?)?, c.clone()))
                })
            })],
        }],
        call: "nn::Gru, nn::GruCell",
    },
    Topic {
        name: "lstm",
        aliases: &["long-short-term-memory", "memory-cell"],
        short: "a memory that three gates write, keep and show",
        what: "The cell c is what is remembered: the gate f keeps it, i lets something new in, and o shows it as h. In the \
               weights below the gates stand as i, f, u, o. An event at the first step opens i; then i is shut and f open, \
               and c stays.",
        formula: &[
            "i, f, o = σ(w·x + v·h + b), u = tanh(w·x + v·h + b), each with its own w, v, b",
            "c ← f · c + i · u",
            "h ← o · tanh(c)",
        ],
        gradient: &[
            "dc = what came from the next step, and dh · o · (1 − tanh² c)",
            "di = dc · u, du = dc · i, df = dc · (the old c), do = dh · tanh(c)",
            "to the old c: dc · f, so nothing fades where f is open",
        ],
        relation: "Gates again, f and i where a gate has σ(r) and 1 − σ(r). A GRU ties the two together. Where c would stay \
                   without gates, as x in x + H(x), it is a residual network.",
        examples: &[Worked {
            output: "h of every step",
            f: |t| {
                let lstm = Lstm::new(1, 1, &RecurrentOptions::default())?;
                sequence(&t[0], |x| Ok(one_number(lstm, t)?.forward(x, None)?.0))
            },
            inputs: &[
                ("x", &[4], EVENT),
                ("w", &[4], &[8.0, 0.0, 2.0, 0.0]),
                ("v", &[4], &[0.0, 0.0, 0.5, 0.0]),
                ("b", &[4], &[-4.0, 4.0, 0.0, 4.0]),
            ],
            dy: LAST,
            same: &[("step by step", |t| {
                steps(&t[0], |x, h, c| {
                    let gates = sums(t, x, h)?; // [4]
                    let open = |i| gates.select(0, i)?.sigmoid();
                    let c = open(1)?.mul(c)?.add(&open(0)?.mul(&gates.select(0, 2)?.tanh()?)?)?;
                    Ok((open(3)?.mul(&c.tanh()?)?, c))
                })
            })],
        }],
        call: "nn::Lstm, nn::LstmCell",
    },
];
