//! Pooling is a fold and a reduction.
//!
//! A contiguous 4 × 4 image has a second shape, `[2, 2, 2, 2]`: which pair of rows, which of the two, which pair of columns,
//! which of the two. Nothing moves in memory. With the places within a tile at the end, a pool is a reduction over them.
//!
//! ```text
//! image       1.00  3.00  0.00  2.00
//!             5.00  7.00  4.00  6.00
//!             9.00  1.00  8.00  8.00
//!             1.00  1.00  0.00  0.00
//! tile 0,0    1.00  3.00  5.00  7.00
//! tile 0,1    0.00  2.00  4.00  6.00
//! tile 1,0    9.00  1.00  1.00  1.00
//! tile 1,1    8.00  8.00  0.00  0.00
//! mean        4.00  3.00  3.00  4.00
//! max         7.00  6.00  9.00  8.00
//! the fold shares the image's memory: true
//! a tile's places as one dim need a copy: true
//! 3 × 3 windows that overlap: [2, 2, 3, 3], their memory shared: true
//! max         9.00  8.00  9.00  8.00
//! ```

mod common;

use common::{INK, Picture, holds, row};
use rushlight::{PoolOptions, Result, Tensor};

fn main() -> Result<()> {
    let image =
        Tensor::new([[1.0f32, 3.0, 0.0, 2.0], [5.0, 7.0, 4.0, 6.0], [9.0, 1.0, 8.0, 8.0], [1.0, 1.0, 0.0, 0.0]])?;
    for (y, name) in ["image", "", "", ""].iter().enumerate() {
        println!("{name:<10} {}", row(&image.select(0, y as i64)?)?);
    }

    // The fold: [height, width] to [tile rows, rows in a tile, tile columns, columns in a tile], then the tiles first.
    let fold = image.view([2, 2, 2, 2])?.permute([0, 2, 1, 3])?;
    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        println!("tile {i},{j}   {}", row(&fold.select(0, i)?.select(0, j)?)?);
    }

    // The reduction over what is in a tile.
    let (mean, max) = (fold.mean([-2, -1])?, fold.amax([-2, -1])?);
    println!("mean       {}", row(&mean)?);
    println!("max        {}", row(&max)?);
    holds(&mean, &[4.0, 3.0, 3.0, 4.0])?;
    holds(&max, &[7.0, 6.0, 9.0, 8.0])?;

    // The library's own pools are this, without the fold in between.
    let batch = image.reshape([1, 1, 4, 4])?;
    holds(&batch.avg_pool2d([2, 2], Default::default())?, &mean.to_f64_vec()?)?;
    holds(&batch.max_pool2d([2, 2], Default::default())?, &max.to_f64_vec()?)?;

    println!("the fold shares the image's memory: {}", fold.shares_storage(&image));
    assert!(fold.shares_storage(&image));
    // In memory a tile is two pieces of two rows: its places become one dim only by a copy. The reduction needs none.
    let one_dim = fold.view([2, 2, 4]);
    println!("a tile's places as one dim need a copy: {}", one_dim.is_err());
    assert!(one_dim.is_err() && fold.contiguous()?.view([2, 2, 4]).is_ok());

    // Windows that overlap need a view of their own: one element is then in several windows.
    let windows = image.windows([3, 3], [1, 1], [1, 1])?;
    let shared = windows.shares_storage(&image);
    println!("3 × 3 windows that overlap: {:?}, their memory shared: {shared}", windows.dims());
    assert!(shared && windows.dims() == [2, 2, 3, 3]);
    let max3 = windows.amax([-2, -1])?;
    println!("max        {}", row(&max3)?);
    let stride_1 = PoolOptions { stride: Some([1, 1]), ..Default::default() };
    holds(&batch.max_pool2d([3, 3], stride_1)?, &max3.to_f64_vec()?)?;

    draw(&image, &fold, &max)
}

fn draw(image: &Tensor, fold: &Tensor, max: &Tensor) -> Result<()> {
    let mut picture = Picture::new(620.0, 230.0);
    picture.text(100.0, 28.0, "image [4, 4]");
    picture.cells(20.0, 45.0, 40.0, image, 12.0)?;
    picture.line(&[(100.0, 41.0), (100.0, 209.0)], INK, 2.0);
    picture.line(&[(16.0, 125.0), (184.0, 125.0)], INK, 2.0);
    picture.text(212.0, 130.0, "fold →");
    picture.text(320.0, 28.0, "tiles [2, 2] of 4 places");
    picture.cells(240.0, 45.0, 40.0, &fold.reshape([4, 4])?, 12.0)?;
    picture.text(443.0, 130.0, "max →");
    picture.text(530.0, 28.0, "pooled [2, 2]");
    picture.cells(490.0, 85.0, 40.0, max, 12.0)?;
    picture.save()
}
