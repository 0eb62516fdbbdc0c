//! Commands that wait for data: what one asks for that found nothing, and how its timeout is written.
//!
//! A handler runs as if it could not wait. If it found nothing, it writes the reply of one that has waited in vain, and
//! says with [`ShardCtx::wait`] when to run it again. Where nobody may wait (inside a transaction or a script) that is
//! not heeded, and the reply stands.

use super::ctx::ShardCtx;
use super::error::{Error, Result};
use crate::base::number::{parse_f64, parse_i64};

/// How long, and for what, a command wants to wait.
#[derive(Clone, Debug)]
pub struct Wait {
    /// Without one, for ever.
    pub timeout_ms: Option<i64>,
    pub is_ready: IsReady,
    /// It also wants to know when a key is gone.
    pub minds_removal: bool,
    /// What to run then, if not the command as it was: `$` of XREAD is the ID that it stood for.
    pub words: Option<Vec<Vec<u8>>>,
}

/// Whether running the command (its words) would find something, or an error, at this key now.
pub type IsReady = fn(&mut ShardCtx, &[&[u8]], &[u8]) -> bool;

impl ShardCtx {
    /// The command that runs found nothing and would wait; its keys are those it accesses.
    pub fn wait(&mut self, timeout_ms: Option<i64>, is_ready: IsReady) {
        self.waiting = Some(Wait { timeout_ms, is_ready, minds_removal: false, words: None });
    }
}

/// A timeout in seconds, as BLPOP takes it; `None` for 0. A fraction of a millisecond counts as one.
pub fn timeout_seconds(text: &[u8], now_ms: i64) -> Result<Option<i64>> {
    let not_a_float = Error::Text("ERR timeout is not a float or out of range");
    let seconds = parse_f64(text).filter(|seconds| !seconds.is_nan()).ok_or(not_a_float)?;
    let milliseconds = (seconds * 1000.0).ceil();
    if milliseconds > i64::MAX as f64 {
        return Err(OUT_OF_RANGE);
    }
    checked(milliseconds as i64, now_ms)
}

/// A timeout in milliseconds, as XREAD takes it; `None` for 0.
pub fn timeout_milliseconds(text: &[u8], now_ms: i64) -> Result<Option<i64>> {
    let not_an_integer = Error::Text("ERR timeout is not an integer or out of range");
    checked(parse_i64(text).ok_or(not_an_integer)?, now_ms)
}

const OUT_OF_RANGE: Error = Error::Text("ERR timeout is out of range");

fn checked(milliseconds: i64, now_ms: i64) -> Result<Option<i64>> {
    if milliseconds < 0 {
        return Err(Error::Text("ERR timeout is negative"));
    }
    if milliseconds > i64::MAX - now_ms {
        return Err(OUT_OF_RANGE);
    }
    Ok(Some(milliseconds).filter(|milliseconds| *milliseconds > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_round_up_to_milliseconds() {
        let seconds = |text: &str| timeout_seconds(text.as_bytes(), 1000).map_err(|error| error.text().into_owned());
        assert_eq!(seconds("0"), Ok(None));
        assert_eq!(seconds("1.5"), Ok(Some(1500)));
        assert_eq!(seconds("0.0001"), Ok(Some(1)));
        assert_eq!(seconds("-1"), Err(b"ERR timeout is negative".to_vec()));
        assert_eq!(seconds("x"), Err(b"ERR timeout is not a float or out of range".to_vec()));
        assert_eq!(seconds("1e300"), Err(b"ERR timeout is out of range".to_vec()));
        assert_eq!(timeout_milliseconds(b"7", 0).unwrap(), Some(7));
        assert!(timeout_milliseconds(b"1.5", 0).is_err());
    }
}
