//! The append-only file: a directory of segments, one a shard and generation, behind a base (`codec::aof` has the
//! format).

pub mod load;
pub mod manifest;
pub mod open;
pub mod recover;
pub mod repair;
pub mod scan;

/// The operating system's text of an error, as C programs print it.
fn text_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
