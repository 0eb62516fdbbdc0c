//! One-line stories.

use super::*;
use crate::command::testing::{Families, stories};
use crate::command::{generic, string};

const FAMILIES: Families = &[ROWS, generic::ROWS, string::ROWS];

stories!(FAMILIES: check, effects);

#[test]
fn pushes_go_to_their_end() {
    check("RPUSH k a b | LPUSH k c d | LRANGE k 0 -1 | LLEN k", ":2 | :4 | [d c a b] | :4");
    check("LPUSHX k a | RPUSHX k a | EXISTS k", ":0 | :0 | :0");
    check("RPUSH k a | LPUSHX k b c | RPUSHX k d | LRANGE k 0 -1", ":1 | :3 | :4 | [c b a d]");
    check("LPUSH k", "ERR wrong number of arguments for 'lpush' command");
    check("RPUSH k \"\" 12 -0 | LRANGE k 0 -1 | OBJECT ENCODING k", ":3 | [\"\" 12 -0] | listpack");
}

#[test]
fn pops_take_from_their_end() {
    check("RPUSH k a b c d e | LPOP k | RPOP k | LPOP k 2 | RPOP k 9 | EXISTS k", ":5 | a | e | [b c] | [d] | :0");
    check("LPOP k | LPOP k 0 | LPOP k 1 | RPUSH k a | LPOP k 0", "nil | nil | nil | :1 | []");
    check(
        "LPOP k -1 | RPOP k x",
        "ERR value is out of range, must be positive | ERR value is out of range, must be positive",
    );
    check("LPOP k 1 2", "ERR wrong number of arguments for 'lpop' command");
    check("RPUSH k a b c | RPOP k 2", ":3 | [c b]");
}

#[test]
fn ranges_end_where_the_list_does() {
    check(
        "RPUSH k a b c d | LRANGE k 1 2 | LRANGE k -2 99 | LRANGE k -99 0 | LRANGE k 3 1",
        ":4 | [b c] | [c d] | [a] | []",
    );
    check("LRANGE k 0 x | LRANGE k 0 1", "ERR value is not an integer or out of range | []");
    check("RPUSH k a b | LRANGE k -9223372036854775808 9223372036854775807", ":2 | [a b]");
    check("RPUSH k a b c d | LTRIM k 1 -2 | LRANGE k 0 -1 | LTRIM k 5 9 | EXISTS k", ":4 | OK | [b c] | OK | :0");
    check("LTRIM k 0 0 | LTRIM k 0 x", "OK | ERR value is not an integer or out of range");
}

#[test]
fn elements_by_index() {
    check("RPUSH k a b c | LINDEX k 0 | LINDEX k -1 | LINDEX k 3 | LINDEX k -4", ":3 | a | c | nil | nil");
    check("LINDEX k x | RPUSH k a | LINDEX k x", "nil | :1 | ERR value is not an integer or out of range");
    check(
        "LSET k 0 a | RPUSH k a b | LSET k 1 c | LSET k -3 d | LSET k x d",
        "ERR no such key | :2 | OK | ERR index out of range | ERR value is not an integer or out of range",
    );
    check("LSET k x a | RPUSH k a b c | LSET k -1 5 | LRANGE k 0 -1", "ERR no such key | :3 | OK | [a b 5]");
}

#[test]
fn inserts_beside_a_pivot() {
    check("RPUSH k a b | LINSERT k BEFORE b x | LINSERT k after b y | LRANGE k 0 -1", ":2 | :3 | :4 | [a x b y]");
    check(
        "LINSERT k BEFORE a b | RPUSH k a | LINSERT k BEFORE b c | LINSERT k BESIDE a b",
        ":0 | :1 | :-1 | ERR syntax error",
    );
    check("RPUSH k 1 10 | LINSERT k AFTER 10 11 | LRANGE k 0 -1", ":2 | :3 | [1 10 11]");
}

#[test]
fn removes_equal_elements() {
    check("RPUSH k a b a c a | LREM k 2 a | LRANGE k 0 -1", ":5 | :2 | [b c a]");
    check("RPUSH k a b a c a | LREM k -2 a | LRANGE k 0 -1", ":5 | :2 | [a b c]");
    check("RPUSH k a b a | LREM k 0 a | LREM k 0 b | EXISTS k | LREM k 0 a", ":3 | :2 | :1 | :0 | :0");
    check(
        "LREM k -9223372036854775808 a",
        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    );
}

#[test]
fn positions_of_elements() {
    check(
        "RPUSH k a b c 1 2 3 c c | LPOS k c | LPOS k c RANK 2 | LPOS k c RANK -1 | LPOS k x",
        ":8 | :2 | :6 | :7 | nil",
    );
    check(
        "RPUSH k a b c 1 2 3 c c | LPOS k c COUNT 0 | LPOS k c COUNT 2 RANK -1 | LPOS k x COUNT 1",
        ":8 | [:2 :6 :7] | [:7 :6] | []",
    );
    check(
        "RPUSH k a b c 1 2 3 c c | LPOS k c COUNT 0 MAXLEN 3 | LPOS k c MAXLEN 2 | LPOS k c RANK -1 COUNT 0 MAXLEN 3",
        ":8 | [:2] | nil | [:7 :6]",
    );
    check(
        "LPOS k a | LPOS k a COUNT 1 | LPOS k a COUNT | LPOS k a FOO 1",
        "nil | [] | ERR syntax error | ERR syntax error",
    );
    check("LPOS k a COUNT -1 | LPOS k a MAXLEN -1", "ERR COUNT can't be negative | ERR MAXLEN can't be negative");
    check("RPUSH k a | LPOS k a RANK 2 | LPOS k a RANK 9223372036854775807", ":1 | nil | nil");
}

#[test]
fn elements_move_between_lists() {
    check(
        "RPUSH k a b c | LMOVE k l LEFT RIGHT | RPOPLPUSH k l | LRANGE k 0 -1 | LRANGE l 0 -1",
        ":3 | a | c | [b] | [c a]",
    );
    check(
        "RPUSH k a b c | LMOVE k k LEFT RIGHT | RPOPLPUSH k k | LMOVE k k LEFT LEFT | LRANGE k 0 -1",
        ":3 | a | a | a | [a b c]",
    );
    check("RPUSH k a | LMOVE k k LEFT RIGHT | LMOVE k l LEFT RIGHT | EXISTS k l", ":1 | a | a | :1");
    check(
        "LMOVE k l LEFT UP | LMOVE k l LEFT RIGHT | SET l x | LMOVE k l LEFT RIGHT",
        "ERR syntax error | nil | OK | nil",
    );
    check(
        "RPUSH k a | SET l x | RPOPLPUSH k l | LRANGE k 0 -1 | RPOPLPUSH l k",
        ":1 | OK | WRONGTYPE Operation against a key holding the wrong kind of value | [a] | WRONGTYPE Operation against a \
         key holding the wrong kind of value",
    );
}

#[test]
fn pops_from_the_first_list_there_is() {
    check(
        "RPUSH b 1 2 3 | LMPOP 2 a b LEFT | LMPOP 2 a b right COUNT 9 | LMPOP 2 a b LEFT",
        ":3 | [b [1]] | [b [3 2]] | nil",
    );
    check(
        "LMPOP 0 a LEFT | LMPOP x a LEFT | LMPOP 9 a LEFT",
        "ERR numkeys should be greater than 0 | ERR numkeys should be greater than 0 | ERR syntax error",
    );
    check(
        "LMPOP 1 a LEFT COUNT 0 | LMPOP 1 a LEFT COUNT | LMPOP 1 a LEFT COUNT 1 COUNT 1",
        "ERR count should be greater than 0 | ERR syntax error | ERR syntax error",
    );
    check(
        "SET a x | RPUSH b 1 | LMPOP 2 a b LEFT",
        "OK | :1 | WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn other_types_are_refused() {
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    for command in [
        "RPUSH k a",
        "LPUSHX k a",
        "LPOP k",
        "RPOP k 1",
        "LLEN k",
        "LRANGE k 0 1",
        "LINDEX k 0",
        "LSET k 0 a",
        "LINSERT k BEFORE a b",
        "LREM k 0 a",
        "LTRIM k 0 1",
        "LPOS k a",
        "LMOVE k l LEFT LEFT",
        "LMPOP 1 k LEFT",
    ] {
        check(&format!("SET k x | {command} | GET k"), &format!("OK | {wrong} | x"));
    }
    check("RPUSH k a | GET k | TYPE k", &format!(":1 | {wrong} | list"));
}

#[test]
fn a_list_that_expired_is_not_there() {
    check(
        "RPUSH k a | PEXPIRE k 10 | +11ms | RPUSHX k b | RPUSH k c | LRANGE k 0 -1 | TTL k",
        ":1 | :1 | :0 | :1 | [c] | :-1",
    );
    effects("RPUSH k a | PEXPIRE k 10 | +11ms | LPUSH k b", "DEL k | LPUSH k b");
}

#[test]
fn effects_repeat_what_happened() {
    effects("RPUSH k a b", "RPUSH k a b");
    effects("LPUSHX k a", "");
    effects("RPUSH k a b | RPUSHX k c", "RPUSHX k c");
    effects("RPUSH k a b | LPOP k", "LPOP k");
    effects("RPUSH k a b | RPOP k 5", "RPOP k 2");
    effects("RPUSH k a b | RPOP k 0", "");
    effects("RPUSH k a b | LMPOP 2 j k RIGHT COUNT 9", "RPOP k 2");
    effects("RPUSH k a b | RPOPLPUSH k l", "RPOP k | LPUSH l b");
    effects("RPUSH k a b | LMOVE k k LEFT RIGHT", "LMOVE k k LEFT RIGHT");
    effects("RPUSH k a b | LREM k 0 c", "");
    effects("RPUSH k a b | LTRIM k 0 -1", "");
    effects("RPUSH k a b | LTRIM k 1 1", "LTRIM k 1 1");
    effects("RPUSH k a b | LSET k 0 c", "LSET k 0 c");
    effects("RPUSH k a b | LSET k 9 c", "");
    effects("RPUSH k a b | LINSERT k AFTER a c", "LINSERT k AFTER a c");
    effects("RPUSH k a b | LINSERT k AFTER c d", "");
}
