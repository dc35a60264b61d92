//! The `rushlight` command as a user runs it: what it prints, what it leaves behind, and how it refuses.

mod bad_input;
mod bad_run;
mod explain;
mod finetune;
mod formats;
mod helpers;
mod images;
#[cfg(unix)]
mod killed;
mod play;
mod points;
mod pretrained;
#[cfg(unix)]
mod stopping;
mod texts;
mod translations;
