//! Pictures of a run: each one function from plain numbers to `name.svg` and `name.png`.

mod axes;
mod page;
mod palette;

/// What a picture returns: it is refused with a sentence.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
