//! What looks at a tensor window by window.

use rushlight::ConvOptions;

use super::Topic;
use super::worked::Worked;

pub const TOPICS: &[Topic] = &[
    Topic {
        name: "fold",
        aliases: &["windows", "unfold"],
        short: "a view that shows a tensor as windows",
        what: "The windows of a tensor get dims of their own, and nothing is copied: the same memory is read with other \
               strides. Windows that do not overlap are a reshape; where they overlap, an element is seen several times.",
        formula: &["y[i, u] = x[i·stride + u·dilation]"],
        gradient: &["dx[j] = Σ dy[i, u] over all (i, u) with i·stride + u·dilation = j"],
        relation: "A pool is a fold and a reduction over the windows. A convolution is a fold and a product with the kernel.",
        examples: &[Worked {
            output: "windows of 3, stride 1",
            f: |t| t[0].windows([3], [1], [1]),
            inputs: &[("x", &[5], &[1.0, 2.0, 3.0, 4.0, 5.0])],
            dy: &[1.0; 9],
            same: &[],
        }],
        call: "Tensor::windows(kernel, stride, dilation)",
    },
    Topic {
        name: "pool",
        aliases: &["pooling", "max-pool", "avg-pool", "average-pool", "max-pool2d", "avg-pool2d"],
        short: "one number for each window",
        what: "Each window becomes its largest element (max pooling) or its mean (average pooling). The picture gets \
               smaller, and small shifts of what it shows matter less.",
        formula: &[
            "max pooling:      y[i] = max over u of x[i·stride + u]",
            "average pooling:  y[i] = Σᵤ x[i·stride + u] / k",
        ],
        gradient: &[
            "max pooling:      dy[i] to the argmax of window i alone",
            "average pooling:  dy[i] / k to each of window i",
        ],
        relation: "A fold and a reduction. With softmax weights instead of the argmax, the gradient reaches every place of a \
                   window: softmax pooling.",
        examples: &[
            Worked {
                output: "max pool of 2",
                f: |t| t[0].max_pool1d([2], Default::default()),
                inputs: &[("x", &[1, 1, 6], &[1.0, 5.0, 4.0, 2.0, 3.0, 6.0])],
                dy: &[1.0, 2.0, 3.0],
                same: &[("max over a fold", |t| t[0].windows([2], [2], [1])?.amax(-1))],
            },
            Worked {
                output: "average pool of 2",
                f: |t| t[0].avg_pool1d([2], Default::default()),
                inputs: &[("x", &[1, 1, 6], &[1.0, 5.0, 4.0, 2.0, 3.0, 6.0])],
                dy: &[1.0, 2.0, 3.0],
                same: &[("mean over a fold", |t| t[0].windows([2], [2], [1])?.mean(-1))],
            },
        ],
        call: "Tensor::max_pool2d, avg_pool2d, softmax_pool2d, lp_pool2d (1d to 3d)",
    },
    Topic {
        name: "conv",
        aliases: &["convolution", "conv1d", "conv2d", "conv3d"],
        short: "the same weighted sum at every window",
        what: "A kernel slides over the input, and at each place the products of kernel and window are summed. Input and \
               kernel both get gradients that are convolutions again.",
        formula: &["y[o, i] = b[o] + Σ over c, u of w[o, c, u] · x[c, i·stride + u − padding]"],
        gradient: &[
            "dx = the transposed convolution of dy with w",
            "dw[o, c, u] = Σᵢ dy[o, i] · x[c, i·stride + u − padding]",
            "db[o] = Σᵢ dy[o, i]",
        ],
        relation: "A fold and a matrix product. Average pooling is a convolution whose weights are all 1/k.",
        examples: &[Worked {
            output: "conv(x, w)",
            f: |t| t[0].conv1d(&t[1], None, ConvOptions::default()),
            inputs: &[("x", &[1, 1, 5], &[1.0, 2.0, 4.0, 7.0, 11.0]), ("w", &[1, 1, 2], &[-1.0, 1.0])],
            dy: &[1.0, 1.0, 1.0, 2.0],
            same: &[("Σ fold(x) · w", |t| t[0].windows([2], [1], [1])?.mul(&t[1].reshape(2)?)?.sum(-1))],
        }],
        call: "Tensor::conv2d(weight, bias, options) (1d to 3d), nn::Conv2d",
    },
];
