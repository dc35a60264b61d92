use super::*;
use crate::DType;
use crate::dtype::Element;
use crate::{bf16, f16};

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn pick<const N: usize>(&mut self, choices: [usize; N]) -> usize {
        choices[self.below(N)]
    }

    /// Small numbers that all float types hold, so that f32 sums are exact.
    fn numbers<T: Element>(&mut self, len: usize) -> Vec<T> {
        (0..len).map(|_| T::from_f64(self.below(9) as f64 - 4.0)).collect()
    }

    fn shape(&mut self) -> ConvShape {
        let dims = 1 + self.below(3);
        let groups = self.pick([1, 1, 2, 3]);
        let (i, o) = (self.pick([1, 2, 3, 7, 17]), self.pick([1, 2, 4, 5, 20, 70]));
        let mut s = ConvShape {
            batch: self.pick([0, 1, 1, 2, 3]),
            groups,
            c_in: groups * if dims == 3 { i.min(3) } else { i },
            c_out: groups * o,
            input: [1; 3],
            output: [1; 3],
            kernel: [1; 3],
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
        };
        for d in 3 - dims..3 {
            s.kernel[d] = self.pick([1, 1, 2, 3, 3, 5]);
            s.stride[d] = self.pick([1, 1, 1, 2, 3]);
            s.padding[d] = self.pick([0, 0, 1, 2, 4]);
            s.dilation[d] = self.pick([1, 1, 2, 3]);
            let reach = s.dilation[d] * (s.kernel[d] - 1) + 1;
            let least = reach.saturating_sub(2 * s.padding[d]);
            s.input[d] = least + self.below(if dims == 1 { 90 } else { [3, 6, 22][d] });
            s.output[d] = (s.input[d] + 2 * s.padding[d] - reach) / s.stride[d] + 1;
        }
        s
    }
}

fn steps(size: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..size.iter().product()).map(move |i| [i / size[2] / size[1], i / size[2] % size[1], i % size[2]])
}

fn index(at: [usize; 3], size: [usize; 3]) -> usize {
    (at[0] * size[1] + at[1]) * size[2] + at[2]
}

/// Calls `f(x's index, w's index, y's index)` for each product of the convolution.
fn products(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let [c_in, c_out] = s.group_channels();
    let [area_in, area_out] = [s.input, s.output].map(|a| a.iter().product::<usize>());
    for o in steps(s.output) {
        for k in steps(s.kernel) {
            let at: [usize; 3] =
                std::array::from_fn(|d| (o[d] * s.stride[d] + k[d] * s.dilation[d]).wrapping_sub(s.padding[d]));
            if (0..3).any(|d| at[d] >= s.input[d]) {
                continue;
            }
            for b in 0..s.batch {
                for co in 0..s.c_out {
                    for ci in 0..c_in {
                        f(
                            (b * s.c_in + co / c_out * c_in + ci) * area_in + index(at, s.input),
                            (co * c_in + ci) * s.taps() + index(k, s.kernel),
                            (b * s.c_out + co) * area_out + index(o, s.output),
                        );
                    }
                }
            }
        }
    }
}

struct Case<T> {
    s: ConvShape,
    x: Vec<T>,
    w: Vec<T>,
    dy: Vec<T>,
    bias: Option<Vec<T>>,
}

impl<T: MatMul + Float<Compute: Tiled>> Case<T> {
    fn new(rng: &mut Rng, s: ConvShape) -> Case<T> {
        let [area_in, area_out] = [s.input, s.output].map(|a| a.iter().product::<usize>());
        Case {
            s,
            x: rng.numbers(s.batch * s.c_in * area_in),
            w: rng.numbers(s.c_out * s.c_in / s.groups * s.taps()),
            dy: rng.numbers(s.batch * s.c_out * area_out),
            bias: (rng.below(2) == 0).then(|| rng.numbers(s.c_out)),
        }
    }

    fn run(&self) -> [Vec<T>; 3] {
        let wrong = T::from_f64(f64::NAN);
        let mut out = [self.dy.len(), self.x.len(), self.w.len()].map(|len| vec![wrong; len]);
        let [y, dx, dw] = &mut out;
        forward(&self.s, &self.x, &self.w, self.bias.as_deref(), y).unwrap();
        input_grad(&self.s, &self.dy, &self.w, dx).unwrap();
        weight_grad(&self.s, &self.x, &self.dy, dw).unwrap();
        out
    }

    fn naive(&self) -> [Vec<f64>; 3] {
        let mut out = [self.dy.len(), self.x.len(), self.w.len()].map(|len| vec![0.0; len]);
        let [y, dx, dw] = &mut out;
        if let Some(bias) = &self.bias {
            let area = self.s.output.iter().product::<usize>();
            y.iter_mut().enumerate().for_each(|(i, y)| *y = bias[i / area % self.s.c_out].to_f64());
        }
        products(&self.s, |i, j, k| {
            let (x, w, g) = (self.x[i].to_f64(), self.w[j].to_f64(), self.dy[k].to_f64());
            y[k] += x * w;
            dx[i] += g * w;
            dw[j] += g * x;
        });
        out
    }

    fn check(&self) {
        for ((out, naive), name) in self.run().iter().zip(self.naive()).zip(["y", "dx", "dw"]) {
            let naive: Vec<T> = naive.into_iter().map(T::from_f64).collect();
            // The sums are exact, but for the fractions of Winograd's transforms.
            let rounds = winograd::fits(&self.s) && T::DTYPE == DType::F32;
            let largest = naive.iter().fold(0f64, |m, x| m.max(x.to_f64().abs()));
            let error = if rounds { 1e-5 * largest } else { 0.0 };
            let wrong = out.iter().zip(&naive).position(|(a, b)| (a.to_f64() - b.to_f64()).abs() > error);
            let wrong = wrong.map(|i| (i, out[i], naive[i]));
            assert!(wrong.is_none(), "{name} of {:?}: {wrong:?} (place, result, naive sum)", self.s);
        }
    }
}

#[test]
fn the_three_kernels_are_the_naive_sums() {
    let mut rng = Rng(5);
    for i in 0..120 {
        let s = rng.shape();
        match i % 6 {
            0 | 1 => Case::<f64>::new(&mut rng, s).check(),
            2 if s.dy_is_small() => Case::<f16>::new(&mut rng, s).check(),
            3 => Case::<bf16>::new(&mut rng, s).check(),
            _ => Case::<f32>::new(&mut rng, s).check(),
        }
    }
}

impl ConvShape {
    /// Few enough products that f16's largest number is not passed.
    fn dy_is_small(&self) -> bool {
        let positions = self.batch * self.output.iter().product::<usize>();
        16 * positions.max(self.taps() * self.c_in.max(self.c_out)) < 60_000
    }
}

/// Two dims with "same" padding.
fn two_dims(batch: usize, c_in: usize, size: [usize; 2], c_out: usize, kernel: usize, stride: usize) -> ConvShape {
    let padding = kernel / 2;
    let out = size.map(|n| (n + 2 * padding - kernel) / stride + 1);
    ConvShape {
        batch,
        groups: 1,
        c_in,
        c_out,
        input: [1, size[0], size[1]],
        output: [1, out[0], out[1]],
        kernel: [1, kernel, kernel],
        stride: [1, stride, stride],
        padding: [0, padding, padding],
        dilation: [1; 3],
    }
}

#[test]
fn many_channels_or_groups_are_right() {
    let mut rng = Rng(11);
    for s in [
        two_dims(1, 70, [4, 5], 135, 3, 1),
        two_dims(2, 3, [13, 20], 33, 7, 2),
        two_dims(1, 1, [9, 70], 40, 3, 1),
        two_dims(9, 5, [6, 7], 24, 1, 1),
        ConvShape { groups: 30, ..two_dims(3, 30, [6, 9], 60, 5, 1) },
        ConvShape { groups: 30, ..two_dims(3, 30, [6, 19], 30, 3, 2) },
    ] {
        Case::<f32>::new(&mut rng, s).check();
    }
}

#[test]
fn winograd_is_the_naive_sum() {
    let mut rng = Rng(17);
    for _ in 0..25 {
        let groups = rng.pick([1, 1, 1, 2]);
        let (i, o) = (rng.pick([16, 17, 24, 32, 50]), rng.pick([16, 16, 20, 33]));
        let mut s = two_dims(rng.pick([0, 1, 2, 5]), groups * i, [3, 3], groups * o, 3, 1);
        s.groups = groups;
        for d in 1..3 {
            s.padding[d] = rng.below(3);
            s.input[d] = 3 - s.padding[d] + rng.below(12);
            s.output[d] = s.input[d] + 2 * s.padding[d] - 2;
        }
        assert!(winograd::fits(&s));
        Case::<f32>::new(&mut rng, s).check();
    }
}

#[test]
fn winograd_leaves_infinities_and_nan_where_they_are() {
    let mut rng = Rng(19);
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let mut case = Case::<f32>::new(&mut rng, two_dims(2, 16, [7, 9], 16, 3, 1));
        // Not at an edge, where the padding would be multiplied with it.
        (case.x[283], case.dy[472]) = (bad, bad);
        for (out, naive) in case.run().iter().zip(case.naive()) {
            for (a, b) in out.iter().zip(naive) {
                let (a, b) = (*a as f64, b as f32 as f64);
                assert!(
                    a == b || a.is_nan() == b.is_nan() && (b.is_nan() || (a - b).abs() < 1e-5 * b.abs()),
                    "{a} {b}"
                );
            }
        }
    }
}

#[test]
fn the_thread_count_changes_no_bit() {
    let _kept = crate::kernels::simd::testing::keep_level();
    let mut rng = Rng(13);
    for s in [
        two_dims(3, 17, [9, 14], 20, 3, 1),
        two_dims(3, 17, [9, 14], 10, 3, 1),
        two_dims(1, 20, [14, 15], 70, 3, 2),
        two_dims(5, 1, [10, 28], 32, 3, 1),
        two_dims(9, 10, [20, 20], 10, 1, 1),
        ConvShape { groups: 20, ..two_dims(3, 20, [8, 31], 20, 3, 1) },
    ] {
        let mut case = Case::<f32>::new(&mut rng, s);
        for x in case.x.iter_mut().chain(&mut case.w).chain(&mut case.dy) {
            *x = rng.below(1 << 24) as f32 / 3e6;
        }
        let [one, two, three] = [1, 2, 3].map(|threads| {
            parallel::set_num_threads(threads).unwrap();
            case.run().map(|out| out.iter().map(|x| x.to_bits()).collect::<Vec<u32>>())
        });
        assert!(one == two && one == three, "{s:?}");
    }
    parallel::set_num_threads(0).unwrap();
}
