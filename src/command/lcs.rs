//! LCS: the longest common subsequence of two strings, by the table of its lengths for all prefixes.
//!
//! Of several longest subsequences Redis answers a certain one, and clients see which: the walk back through the table
//! goes to the shorter first string only if that keeps strictly more.

use super::args::Args;
use super::ctx::ShardCtx;
use super::error::{Error, Result};
use crate::resp::reply::Reply;

struct Options {
    len: bool,
    idx: bool,
    match_len_min: i64,
    with_match_len: bool,
}

/// Bytes that follow each other in both strings: where they begin, and how many they are.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

/// Lengths of the longest common subsequence of every prefix of `a` and every prefix of `b`.
struct Lengths<'s> {
    a: &'s [u8],
    b: &'s [u8],
    /// Row by row: one for each prefix of `a`, from the empty one on.
    table: Vec<u32>,
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]
pub(super) fn lcs(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let a = text_at(ctx, args.get(1))?;
    let b = text_at(ctx, args.get(2))?;
    let options = Options::parse(args)?;
    let lengths = Lengths::new(&a, &b, ctx.config.proto_max_bulk_len)?;
    let len = lengths.at(a.len(), b.len());
    if options.idx {
        reply_matches(&lengths.matches(), &options, len, reply);
    } else if options.len {
        reply.integer(len.into());
    } else {
        let mut common = Vec::with_capacity(len as usize);
        for found in lengths.matches().iter().rev() {
            common.extend_from_slice(&a[found.a..found.a + found.len]);
        }
        reply.bulk(&common);
    }
    Ok(())
}

/// A copy, because the second string is looked up while the first is in use.
fn text_at(ctx: &mut ShardCtx, key: &[u8]) -> Result<Vec<u8>> {
    let value = ctx.read_string(key).map_err(|_| Error::Text("ERR The specified keys must contain string values"))?;
    Ok(value.map_or_else(Vec::new, |value| value.bytes(&mut itoa::Buffer::new()).to_vec()))
}

impl Options {
    fn parse(args: &Args) -> Result<Options> {
        let mut options = Options { len: false, idx: false, match_len_min: 0, with_match_len: false };
        let mut index = 3;
        while index < args.len() {
            if args.is(index, "IDX") {
                options.idx = true;
            } else if args.is(index, "LEN") {
                options.len = true;
            } else if args.is(index, "WITHMATCHLEN") {
                options.with_match_len = true;
            } else if args.is(index, "MINMATCHLEN") && index + 1 < args.len() {
                index += 1;
                options.match_len_min = args.integer(index)?;
            } else {
                return Err(Error::Syntax);
            }
            index += 1;
        }
        if options.idx && options.len {
            return Err(Error::Text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

impl<'s> Lengths<'s> {
    fn new(a: &'s [u8], b: &'s [u8], bytes_max: u64) -> Result<Lengths<'s>> {
        const TOO_LONG: Error = Error::Text("ERR String too long for LCS");
        const TOO_LARGE: Error =
            Error::Text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
        const NO_MEMORY: Error = Error::Text("ERR Insufficient memory, failed allocating transient memory for LCS");
        if a.len().max(b.len()) >= u32::MAX as usize - 1 {
            return Err(TOO_LONG);
        }
        let cells = (a.len() + 1).checked_mul(b.len() + 1).ok_or(NO_MEMORY)?;
        let bytes = cells.checked_mul(size_of::<u32>()).ok_or(NO_MEMORY)?;
        if bytes as u64 > bytes_max {
            return Err(TOO_LARGE);
        }
        let mut table = Vec::new();
        table.try_reserve_exact(cells).map_err(|_| NO_MEMORY)?;
        table.resize(cells, 0);
        let mut lengths = Lengths { a, b, table };
        lengths.fill();
        Ok(lengths)
    }

    fn fill(&mut self) {
        let width = self.b.len() + 1;
        for (i, byte) in self.a.iter().enumerate() {
            let (above, row) = self.table[i * width..(i + 2) * width].split_at_mut(width);
            for (j, other) in self.b.iter().enumerate() {
                row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.table[i * (self.b.len() + 1) + j]
    }

    /// The matches that make up the subsequence, from the last to the first.
    fn matches(&self) -> Vec<Match> {
        let mut matches = Vec::new();
        let (mut i, mut j) = (self.a.len(), self.b.len());
        while i > 0 && j > 0 {
            let len = self.common_end(i, j);
            if len > 0 {
                (i, j) = (i - len, j - len);
                matches.push(Match { a: i, b: j, len });
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        matches
    }

    /// With how many equal bytes the prefixes of length `i` and `j` end.
    fn common_end(&self, i: usize, j: usize) -> usize {
        self.a[..i].iter().rev().zip(self.b[..j].iter().rev()).take_while(|(a, b)| a == b).count()
    }
}

fn reply_matches(matches: &[Match], options: &Options, len: u32, reply: &mut Reply) {
    let long_enough = |found: &&Match| found.len as i64 >= options.match_len_min;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.iter().filter(long_enough).count());
    for &Match { a, b, len } in matches.iter().filter(long_enough) {
        reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [a, b] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + len - 1) as i64);
        }
        if options.with_match_len {
            reply.integer(len as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(len.into());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::string;
    use crate::command::testing::{TestShard, check};

    const STRINGS: &str = "MSET a ohmytext b mynewtext";

    #[track_caller]
    fn lcs_of_both(options: &str, reply: &str) {
        check(&[string::ROWS], &format!("{STRINGS} | LCS a b {options}"), &format!("OK | {reply}"));
    }

    #[test]
    fn the_subsequence_its_length_and_its_matches() {
        lcs_of_both("", "mytext");
        lcs_of_both("LEN", ":6");
        lcs_of_both("IDX", "[matches [[[:4 :7] [:5 :8]] [[:2 :3] [:0 :1]]] len :6]");
        lcs_of_both("IDX MINMATCHLEN 4", "[matches [[[:4 :7] [:5 :8]]] len :6]");
        lcs_of_both("idx withmatchlen minmatchlen -1", "[matches [[[:4 :7] [:5 :8] :4] [[:2 :3] [:0 :1] :2]] len :6]");
        lcs_of_both("WITHMATCHLEN MINMATCHLEN 9", "mytext");
    }

    #[test]
    fn a_missing_key_is_an_empty_string() {
        check(
            &[string::ROWS],
            "SET a 123 | LCS a b | LCS a b IDX | LCS x y LEN",
            "OK | \"\" | [matches [] len :0] | :0",
        );
        check(&[string::ROWS], "SET a 123 | LCS a a", "OK | 123");
    }

    #[test]
    fn what_is_refused() {
        lcs_of_both("LEN IDX", "ERR If you want both the length and indexes, please just use IDX.");
        lcs_of_both("MINMATCHLEN", "ERR syntax error");
        lcs_of_both("MINMATCHLEN x", "ERR value is not an integer or out of range");
        lcs_of_both("FOO", "ERR syntax error");
    }

    #[test]
    fn the_table_stays_below_the_largest_bulk() {
        let mut shard = TestShard::new(&[string::ROWS]);
        let mut config = (*shard.ctx.config).clone();
        config.proto_max_bulk_len = 9 * 10 * 4;
        shard.ctx.config = config.into();
        let too_large = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        assert_eq!(shard.run(&format!("{STRINGS} | LCS a b LEN")), "OK | :6");
        assert_eq!(shard.run("APPEND a x | LCS a b LEN"), format!(":9 | {too_large}"));
    }

    /// By definition, and in exponential time.
    fn length(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([x, a @ ..], [y, b @ ..]) if x == y => 1 + length(a, b),
            ([_, shorter_a @ ..], [_, shorter_b @ ..]) => length(shorter_a, b).max(length(a, shorter_b)),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn matches_are_in_both_strings_and_add_up(a in "[a-c]{0,9}", b in "[a-c]{0,9}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let lengths = Lengths::new(a, b, u64::MAX).unwrap();
            let matches = lengths.matches();
            prop_assert_eq!(lengths.at(a.len(), b.len()) as usize, length(a, b));
            prop_assert_eq!(matches.iter().map(|found| found.len).sum::<usize>(), length(a, b));
            let mut before = (a.len(), b.len());
            for found in matches {
                prop_assert_eq!(&a[found.a..found.a + found.len], &b[found.b..found.b + found.len]);
                prop_assert!(found.a + found.len <= before.0 && found.b + found.len <= before.1);
                before = (found.a, found.b);
            }
        }
    }
}
