//! Matrix products: `2 m n k` operations.

use rushlight::{DType, Tensor};

use super::{Row, Work, randn, step};

pub fn rows() -> Vec<Row> {
    let flops = |n: usize| 2.0 * (n as f64).powi(3);
    let mut rows: Vec<Row> = [64, 256, 1024, 2048]
        .into_iter()
        .map(|n| square(format!("matmul_f32_{n}"), n, DType::F32, Work::Flops(flops(n))))
        .collect();
    rows.push(square("matmul_bf16_1024".to_string(), 1024, DType::BF16, Work::Flops(flops(1024))));
    rows.push(square("matmul_f64_1024".to_string(), 1024, DType::F64, Work::FlopsF64(flops(1024))));
    rows.push(Row::new("bmm_96x256x64x256", Work::Flops(2.0 * 96.0 * 256.0 * 64.0 * 256.0), || {
        let (a, b) = (randn([96, 256, 64])?, randn([96, 64, 256])?);
        step(move || a.matmul(&b))
    }));
    rows
}

fn square(name: String, n: usize, dtype: DType, work: Work) -> Row {
    Row::new(name, work, move || {
        let (a, b) = (Tensor::randn([n, n], dtype)?, Tensor::randn([n, n], dtype)?);
        step(move || a.matmul(&b))
    })
}
