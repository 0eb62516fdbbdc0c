//! One-line stories of each command.

use super::*;
use crate::command::testing::{Families, check_effects, stories};
use crate::command::{generic, string};

const FAMILIES: Families = &[ROWS, zset::ROWS, string::ROWS, generic::ROWS];

const SICILY: &str = "GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania";

stories!(FAMILIES: check);

/// After Sicily's two cities were added.
#[track_caller]
fn check_sicily(script: &str, replies: &str) {
    check(&format!("{SICILY} | {script}"), &format!(":2 | {replies}"));
}

#[track_caller]
fn effects(script: &str, recorded: &str) {
    check_effects(FAMILIES, &format!("{SICILY} | {script}"), recorded);
}

#[test]
fn places_are_members_with_scores() {
    check_sicily("ZSCORE s Palermo | TYPE s | ZCARD s", "3479099956230698 | zset | :2");
    check("GEOADD s NX 1 1 a | GEOADD s NX CH 2 2 a | GEOADD s XX CH 2 2 a 3 3 b | ZCARD s", ":1 | :0 | :1 | :1");
    check("GEOADD s XX 1 1 a | EXISTS s", ":0 | :0");
    check(
        "GEOADD s NX XX 1 1 a | GEOADD s 1 1 a 2 | GEOADD s ch ch ch",
        "ERR syntax error | ERR syntax error | ERR syntax error",
    );
    check("GEOADD s 181 1 a", "ERR invalid longitude,latitude pair 181.000000,1.000000");
    check(
        "GEOADD s 1 86 a | GEOADD s x 1 a | EXISTS s",
        "ERR invalid longitude,latitude pair 1.000000,86.000000 | ERR value is not a valid float | :0",
    );
    check("SET s x | GEOADD s 1 1 a", "OK | WRONGTYPE Operation against a key holding the wrong kind of value");
}

#[test]
fn distances() {
    check_sicily(
        "GEODIST s Palermo Catania | GEODIST s Palermo Catania km | GEODIST s Palermo Catania MI",
        "166274.1516 | 166.2742 | 103.3182",
    );
    check_sicily("GEODIST s Palermo none | GEODIST none a b | GEODIST s Palermo Palermo", "nil | nil | 0.0000");
    check_sicily(
        "GEODIST s Palermo Catania x | GEODIST s Palermo Catania m m",
        "ERR unsupported unit provided. please use M, KM, FT, MI | ERR syntax error",
    );
}

#[test]
fn places_are_told() {
    check_sicily("GEOHASH s Palermo none Catania", "[sqc8b49rny0 nil sqdtr74hyu0]");
    check_sicily("GEOPOS s Palermo none", "[[13.36138933897018433 38.11555639549629859] nil]");
    check("GEOPOS none a | GEOHASH none a | GEOPOS none | GEOHASH none", "[nil] | [nil] | [] | []");
}

#[test]
fn places_around_a_point() {
    check_sicily(
        "GEORADIUS s 15 37 200 km | GEORADIUS s 15 37 200 km ASC | GEORADIUS s 15 37 100 km",
        "[Palermo Catania] | [Catania Palermo] | [Catania]",
    );
    check_sicily("GEORADIUS s 15 37 200 km WITHDIST WITHHASH COUNT 1", "[[Catania 56.4413 :3479447370796909]]");
    check_sicily("GEORADIUS_RO s 15 37 100 km WITHCOORD", "[[Catania [15.08726745843887329 37.50266842333162032]]]");
    check_sicily(
        "GEORADIUSBYMEMBER s Palermo 200 km DESC | GEORADIUSBYMEMBER_RO s Palermo 1 m",
        "[Catania Palermo] | [Palermo]",
    );
    check_sicily("GEORADIUSBYMEMBER s none 1 m", "ERR could not decode requested zset member");
    check_sicily(
        "GEORADIUS s 15 37 -1 m | GEORADIUS s 15 37 x m",
        "ERR radius cannot be negative | ERR need numeric radius",
    );
    check_sicily(
        "GEORADIUS_RO s 15 37 1 km STORE d | GEORADIUS s 15 37 1 km STORE",
        "ERR syntax error | ERR syntax error",
    );
    check(
        "GEORADIUS none 1 1 1 m | GEORADIUSBYMEMBER none a x y | SET d x | GEORADIUS none 1 1 1 m STORE d | EXISTS d",
        "[] | [] | OK | :0 | :0",
    );
}

#[test]
fn places_in_a_shape() {
    check_sicily(
        "GEOSEARCH s FROMLONLAT 15 37 BYBOX 400 400 km ASC | GEOSEARCH s FROMMEMBER Palermo BYRADIUS 1 m",
        "[Catania Palermo] | [Palermo]",
    );
    check_sicily(
        "GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 ANY | GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ANY",
        "[Palermo] | ERR the ANY argument requires COUNT argument",
    );
    check_sicily(
        "GeoSearch s FROMLONLAT 15 37 ASC ASC | geosearch s BYRADIUS 1 m ASC ASC",
        "ERR exactly one of BYRADIUS and BYBOX can be specified for GeoSearch | ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for geosearch",
    );
    check_sicily(
        "GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 1 m BYBOX 1 1 m | GEOSEARCH s FROMMEMBER Palermo FROMLONLAT 1 1 BYRADIUS 1 m",
        "ERR syntax error | ERR syntax error",
    );
    check_sicily(
        "GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 1 m COUNT 0 | GEOSEARCH s FROMLONLAT 15 37 BYBOX 1 -1 m",
        "ERR COUNT must be > 0 | ERR height or width cannot be negative",
    );
    check("GEOSEARCH none FROMMEMBER a BYRADIUS 1 m", "[]");
}

#[test]
fn results_are_stored() {
    check_sicily(
        "GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 100 km | ZRANGE d 0 -1 WITHSCORES",
        ":1 | [Catania 3479447370796909]",
    );
    check_sicily(
        "GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST | ZRANGE d 0 -1 | ZSCORE d Catania",
        ":2 | [Catania Palermo] | 56.4412578701582",
    );
    check_sicily(
        "SET d x | GEORADIUS s 15 37 200 km COUNT 1 STORE d | ZRANGE d 0 -1 | GEORADIUS s 15 37 1 m STORE d | EXISTS d",
        "OK | :1 | [Catania] | :0 | :0",
    );
    check_sicily("GEORADIUS s 15 37 200 km STORE d STOREDIST e | EXISTS d e", ":2 | :1");
    check_sicily("GEOSEARCHSTORE s s FROMLONLAT 15 37 BYRADIUS 100 km | ZCARD s", ":1 | :1");
    check_sicily(
        "GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 100 km WITHDIST",
        "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
    );
    check_sicily(
        "GEORADIUS s 15 37 100 km WITHDIST STORE d",
        "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
    );
}

#[test]
fn what_is_recorded() {
    effects("GEOADD s CH 13.361389 38.115556 Palermo 1 1 a", "ZADD s 3377822707026402 a");
    effects("GEOADD s 13.361389 38.115556 Palermo", "");
    effects("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 100 km", "");
    effects("SET d x | GEORADIUS s 15 37 1 m STORE d", "DEL d");
    effects(
        "GEOSEARCHSTORE {s}d s FROMLONLAT 15 37 BYRADIUS 100 km",
        "GEOSEARCHSTORE {s}d s FROMLONLAT 15 37 BYRADIUS 100 km",
    );
}
