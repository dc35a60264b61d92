//! Embedding: the rows at the indices, and a gradient added where they came from.

mod common;

use common::*;
use rushlight::{DType, Result, Tensor, gradcheck, gradgradcheck};

#[test]
fn looks_up_rows_of_any_layout_by_indices_of_any_shape() -> Result<()> {
    let rng = &mut Rng(1);
    for shape in [vec![], vec![1], vec![0], vec![2, 3], vec![2, 0, 2], vec![2, 1, 3]] {
        let (rows, width) = (1 + rng.below(4), rng.below(4));
        let table = tensor(rng, &[rows, width], DType::F64);
        let places: Vec<i64> = indices(&shape).iter().map(|_| rng.below(rows) as i64).collect();
        let index = Tensor::from_vec(places, &shape[..])?;
        let (naive, at) = (Naive::of(&table), Naive::of(&index));
        let out = [&shape[..], &[width]].concat();
        let expected = Naive::from_fn(&out, |i| naive.at(&[at.at(&i[..shape.len()]) as usize, i[shape.len()]]));
        assert_same(&table.embedding(&index, None)?, &expected, "embedding");
        assert_same(&table.embedding(&index, Some(0))?, &expected, "the padding row is read as any other");
        for f in [
            |t: &[Tensor], i: &Tensor| t[0].embedding(i, None),
            |t: &[Tensor], i: &Tensor| t[0].square()?.embedding(i, None),
        ] {
            gradcheck(|t| f(t, &index), &[table.contiguous()?], Default::default())?;
            gradgradcheck(|t| f(t, &index), &[table.contiguous()?], Default::default())?;
        }
    }
    Ok(())
}

#[test]
fn the_padding_row_gets_no_gradient() -> Result<()> {
    let table = Tensor::ones([3, 2], DType::F32)?.requires_grad()?;
    let index = Tensor::new([[2i64, 0], [2, 1]])?.t()?;
    for padding in [2, -1] {
        let grads = table.embedding(&index, Some(padding))?.sum(..)?.backward()?;
        assert_eq!(grads.get(&table).unwrap().to_vec::<f32>()?, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    }
    Ok(())
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    let table = Tensor::ones([3, 2], DType::F32)?;
    assert!(message(table.embedding(&Tensor::new([0i64, 3])?, None)).contains("index 3 is out of range"));
    assert!(message(table.embedding(&Tensor::new([-1i64])?, None)).contains("index -1 is out of range"));
    assert!(message(table.embedding(&Tensor::new([1.0f32])?, None)).contains("i64"));
    assert!(message(table.embedding(&Tensor::new([1i64])?, Some(3))).contains("padding_idx 3"));
    assert!(table.flatten(0, -1)?.embedding(&Tensor::new([1i64])?, None).is_err());
    Ok(())
}

/// As in a GPT: what comes through the output layer first is added to in place.
#[test]
fn a_table_that_is_the_output_layer_too_gets_the_sum_of_both() -> Result<()> {
    let table = Tensor::randn([5, 3], DType::F64)?.requires_grad()?;
    let (read, written) = (table.detach().requires_grad()?, table.detach().requires_grad()?);
    let index = Tensor::new([[4i64, 0, 4], [2, 4, 0]])?;
    for padding in [None, Some(4)] {
        let through = |first: &Tensor, last: &Tensor| -> Result<Tensor> {
            first.embedding(&index, padding)?.tanh()?.linear(last, None)?.square()?.sum(..)
        };
        let tied = through(&table, &table)?;
        // The graph kept, then freed: twice the same.
        let kept = rushlight::grad(&[&tied], &[&table], false)?.remove(0).unwrap();
        let freed = tied.backward()?;
        let apart = through(&read, &written)?.backward()?;
        let sum = apart.get(&read).unwrap().add(apart.get(&written).unwrap())?;
        for got in [&kept, freed.get(&table).unwrap()] {
            assert_close(got, &Naive::of(&sum), 1e-12, "tied");
        }
    }
    Ok(())
}
