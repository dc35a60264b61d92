//! Pictures of a run: each one function from plain numbers to `name.svg` and `name.png`.

mod attention;
mod axes;
mod choices;
mod confusion;
mod curves;
mod decision_boundary;
mod gradient_flow;
mod image_grid;
mod page;
mod palette;

pub use attention::{Attention, attention, visible};
pub use choices::{Choice, choices};
pub use confusion::confusion;
pub use curves::{Curves, curves};
pub use decision_boundary::decision_boundary;
pub use gradient_flow::{GradientFlow, gradient_flow};
pub use image_grid::{Picture, image_grid};

/// What a picture returns: it is refused with a sentence.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
