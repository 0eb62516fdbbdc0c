//! One-line stories of each command.

use super::*;
use crate::command::testing::{Families, stories};
use crate::command::{generic, string};

const FAMILIES: Families = &[ROWS, string::ROWS, generic::ROWS];

stories!(FAMILIES: check, effects);

#[test]
fn bits_are_set_and_read() {
    check("SETBIT k 1 1 | GET k | SETBIT k 1 0 | GETBIT k 1 | GETBIT k 1000000", r#":0 | @ | :1 | :0 | :0"#);
    check("SET k 1 | SETBIT k 6 1 | GET k | OBJECT ENCODING k", "OK | :0 | 3 | raw");
    check("SETBIT k 20 0 | STRLEN k | GETBIT none 3 | SETBIT k 9 1 | GET k", r#":0 | :3 | :0 | :0 | "\x00@\x00""#);
    check("SETBIT k 4294967296 1", "ERR bit offset is not an integer or out of range");
    check("SETBIT k -1 1", "ERR bit offset is not an integer or out of range");
    check(
        "SETBIT k x 2 | SETBIT k 0 2",
        "ERR bit offset is not an integer or out of range | ERR bit is not an integer or out of range",
    );
    check("GETBIT k #1", "ERR bit offset is not an integer or out of range");
}

#[test]
fn bits_of_large_values_are_changed_in_place() {
    let large = "a".repeat(40_000);
    check(
        &format!(
            "SET k {large} | COPY k l | SETBIT k 6 0 | SETBIT k 14 0 | GETRANGE k 0 2 | GETRANGE l 0 2 | STRLEN k"
        ),
        "OK | :1 | :0 | :0 | aaa | aaa | :40000",
    );
    check(
        &format!("SET k {large} | COPY k l | SETBIT k 6 1 | SETBIT k 319998 1 | GETRANGE k -2 -1 | GETRANGE l -2 -1"),
        "OK | :1 | :0 | :0 | ac | aa",
    );
}

#[test]
fn a_change_keeps_the_expiry() {
    check("SET k a EX 10 | SETBIT k 6 1 | TTL k | BITFIELD k SET u8 0 65 | TTL k", "OK | :0 | :10 | [:99] | :10");
}

#[test]
fn bits_are_counted() {
    check("SET k foobar | BITCOUNT k | BITCOUNT k 0 0 | BITCOUNT k 1 1 | BITCOUNT k -2 -1", "OK | :26 | :4 | :6 | :7");
    check("SET k foobar | BITCOUNT k 5 30 BIT | BITCOUNT k 1 1 byte | BITCOUNT k 4", "OK | :17 | :6 | :7");
    check("BITCOUNT none | BITCOUNT none 1 2 | SET k \"\" | BITCOUNT k 0 -1", ":0 | :0 | OK | :0");
    check(
        "SET k foobar | BITCOUNT k -1 -9 | BITCOUNT k 3 1 | BITCOUNT k -9223372036854775808 9223372036854775807",
        "OK | :0 | :0 | :26",
    );
    check(
        "BITCOUNT k 1 2 BITS | BITCOUNT k 1 2 BIT x | BITCOUNT k x",
        "ERR syntax error | ERR syntax error | ERR value is not an integer or out of range",
    );
}

#[test]
fn the_first_bit_of_a_kind() {
    check(
        r#"SET k "\xff\xf0\x00" | BITPOS k 0 | BITPOS k 1 | BITPOS k 0 0 0 | BITPOS k 1 2"#,
        "OK | :12 | :0 | :-1 | :-1",
    );
    check(
        r#"SET k "\xff\xff" | BITPOS k 0 | BITPOS k 0 0 | BITPOS k 0 0 -1 | BITPOS k 0 2"#,
        "OK | :16 | :16 | :-1 | :-1",
    );
    check(
        r#"SET k "\xff\xf0\x00" | BITPOS k 0 7 15 BIT | BITPOS k 1 12 -1 BIT | BITPOS k 0 3 -4 BIT"#,
        "OK | :12 | :-1 | :12",
    );
    check("BITPOS none 0 | BITPOS none 1 | BITPOS none 0 5 | SET k \"\" | BITPOS k 0", ":0 | :-1 | :0 | OK | :-1");
    check(
        "BITPOS k 2 | BITPOS k x",
        "ERR The bit argument must be 1 or 0. | ERR value is not an integer or out of range",
    );
}

#[test]
fn strings_are_combined() {
    check(r#"SET a "\xf0\x0f" | SET b "\xff" | BITOP AND c a b | GET c"#, r#"OK | OK | :2 | "\xf0\x00""#);
    check(r#"SET a "\xf0\x0f" | SET b "\xff" | BITOP or c a b none | GET c"#, r#"OK | OK | :2 | "\xff\x0f""#);
    check(r#"SET a "\xf0\x0f" | SET b "\xff" | BITOP XOR a a b | GET a"#, r#"OK | OK | :2 | "\x0f\x0f""#);
    check(r#"SET a "\xf0" | BITOP NOT c a | GET c | OBJECT ENCODING c"#, r#"OK | :1 | "\x0f" | raw"#);
    check(
        "SET a 12 | SET b 10 EX 9 | BITOP OR b a | GET b | OBJECT ENCODING b | TTL b",
        "OK | OK | :2 | 12 | raw | :-1",
    );
    check("SET c x | BITOP AND c none | EXISTS c | BITOP AND c none", "OK | :0 | :0 | :0");
    check(
        "BITOP NAND c a | BITOP NOT c a b",
        "ERR syntax error | ERR BITOP NOT must be called with a single source key.",
    );
    let (a, b) = ("a".repeat(40_000), "b".repeat(33_000));
    check(
        &format!("SET a {a} | SET b {b} | BITOP XOR c a b | STRLEN c | GETRANGE c 32999 33000"),
        r#"OK | OK | :40000 | :40000 | "\x03a""#,
    );
}

#[test]
fn fields_are_read_and_changed() {
    check("BITFIELD k SET u8 0 255 GET u8 0 GET i8 0 INCRBY u8 0 1", "[:0 :255 :-1 :0]");
    check("BITFIELD k INCRBY i5 100 1 GET u4 0 | STRLEN k", "[:1 :0] | :14");
    check("BITFIELD k SET u8 #0 65 SET u8 #1 66 | GET k", "[:0 :0] | AB");
    check(
        "BITFIELD k SET u8 0 250 OVERFLOW SAT INCRBY u8 0 10 OVERFLOW FAIL INCRBY u8 0 1 OVERFLOW WRAP INCRBY u8 0 1",
        "[:0 :255 nil :0]",
    );
    check("BITFIELD k OVERFLOW SAT SET u8 0 -1 GET u8 0 SET i8 8 -1000 GET i8 8", "[:0 :255 :0 :-128]");
    check("BITFIELD k SET i64 3 -9223372036854775808 INCRBY i64 3 -1", "[:0 :9223372036854775807]");
    check("BITFIELD k | EXISTS k | BITFIELD k GET u63 #7 | EXISTS k", "[] | :0 | [:0] | :0");
    check("BITFIELD k OVERFLOW FAIL SET u2 30 4 | STRLEN k", "[nil] | :4");
}

#[test]
fn fields_that_are_none() {
    const TYPE: &str =
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    for word in ["u64", "i65", "i0", "U8", "u", "", "8", "u08"] {
        check(&format!("BITFIELD k GET \"{word}\" 0"), TYPE);
    }
    check("BITFIELD k GET u8 #536870912", "ERR bit offset is not an integer or out of range");
    check("BITFIELD k GET i64 #9223372036854775807", "ERR bit offset is not an integer or out of range");
    check("BITFIELD k SET u8 0 x", "ERR value is not an integer or out of range");
    check("BITFIELD k OVERFLOW x", "ERR Invalid OVERFLOW type specified");
    check(
        "BITFIELD k GET u8 | BITFIELD k SET u8 0 | BITFIELD k FOO u8 0",
        "ERR syntax error | ERR syntax error | ERR syntax error",
    );
}

#[test]
fn fields_of_a_reader() {
    check("SET k A | BITFIELD_RO k GET u8 0 GET u8 4 GET u8 90", "OK | [:65 :16 :0]");
    check("BITFIELD_RO k SET u8 0 1 | EXISTS k", "ERR BITFIELD_RO only supports the GET subcommand | :0");
    check("BITFIELD_RO k OVERFLOW WRAP", "[]");
}

#[test]
fn what_is_recorded() {
    effects("SETBIT k 3 1", "SETBIT k 3 1");
    effects("SETBIT k 3 0", "SETBIT k 3 0");
    effects("SETBIT k 3 1 | SETBIT k 3 1", "");
    effects("SETBIT k 3 1 | SETBIT k 3 2", "");
    effects("BITFIELD k INCRBY u8 0 1", "BITFIELD k INCRBY u8 0 1");
    effects("BITFIELD k INCRBY u8 0 1 | BITFIELD k OVERFLOW FAIL SET u1 0 2", "");
    effects("BITFIELD k OVERFLOW FAIL SET u1 0 2", "BITFIELD k OVERFLOW FAIL SET u1 0 2");
    effects("SET a x | BITOP OR c a b", "SET c x");
    effects("SET c x | BITOP OR c a b", "DEL c");
    effects("BITOP OR c a b", "");
}

#[test]
fn far_below_saturates_upwards() {
    check(
        "BITFIELD k OVERFLOW SAT SET i5 0 -9223372036854775808 GET i5 0 SET i5 0 -9223372036854775793 GET i5 0 \
         SET i5 0 -9223372036854775792 GET i5 0",
        "[:0 :15 :15 :15 :15 :-16]",
    );
    check("BITFIELD k OVERFLOW SAT SET i64 0 -9223372036854775808 GET i64 0", "[:0 :-9223372036854775808]");
    check("BITFIELD k OVERFLOW FAIL SET i5 0 -9223372036854775808", "[nil]");
}
