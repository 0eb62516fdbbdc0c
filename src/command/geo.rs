//! Commands on places. A place is a member of a sorted set, whose score is the place's number (`data::geohash`): what
//! adds and stores them is what sorted sets have, and any command on sorted sets works on them, too.
//!
//! The six commands that search are one, with two ways of naming the centre and the shape: by position, as in GEORADIUS,
//! or by options, as in GEOSEARCH.

use std::borrow::Cow;
use std::cmp::Ordering;

use smallvec::SmallVec;

use super::KeyFn;
use super::args::Args;
use super::ctx::ShardCtx;
use super::error::{Error, Result};
use super::spec::*;
use super::zset;
use crate::base::number::parse_f64;
use crate::data::geohash::{Outline, Point, Shape};
use crate::data::listpack::{Digits, Element};
use crate::data::zset::{ScoreBound, Zset, sort_members};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const GEO: Spec = Spec { group: Group::Geo, categories: category::GEO, shape: OneShard, ..Spec::DEFAULT };

const SEARCH_COMPLEXITY: &str =
    "O(N + log(M)) where N is the number of members in the cells around the shape and M the size of the set.";

const UNIT: Arg = one_of("unit", &[token("M"), token("KM"), token("FT"), token("MI")]);
const ORDER: Arg = one_of("order", &[token("ASC"), token("DESC")]).optional();
const COUNT: Arg = block("count-block", &[integer("count").after("COUNT"), token("ANY").optional()]).optional();
const COUNT_ANY_SINCE: Arg =
    block("count-block", &[integer("count").after("COUNT"), token("ANY").since("6.2.0").optional()]).optional();
const WITH_COORD: Arg = token("WITHCOORD").optional();
const WITH_DIST: Arg = token("WITHDIST").optional();
const WITH_HASH: Arg = token("WITHHASH").optional();
const STORE: Arg = one_of(
    "store",
    &[
        key("storekey").after("STORE").key_spec(1).display("key"),
        key("storedistkey").after("STOREDIST").key_spec(2).display("key"),
    ],
)
.optional();
const FROM: Arg = one_of(
    "from",
    &[
        string("member").after("FROMMEMBER"),
        block("fromlonlat", &[double("longitude"), double("latitude")]).after("FROMLONLAT"),
    ],
);
const BY: Arg = one_of(
    "by",
    &[
        block("circle", &[double("radius").after("BYRADIUS"), UNIT]),
        block("box", &[double("width").after("BYBOX"), double("height"), UNIT]),
    ],
);

const UPPERCASE_UNITS: (&str, &str) = ("7.0.0", "Added support for uppercase unit names.");

const RADIUS_HISTORY: &[(&str, &str)] = &[("6.2.0", "Added the `ANY` option for `COUNT`."), UPPERCASE_UNITS];

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: geoadd,
        spec: Spec {
            name: "geoadd",
            arity: AtLeast(5),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "3.2.0",
            complexity: "O(log(N)) for each member, where N is the size of the set.",
            summary: "Adds places to a set, which is created if the key does not exist, or moves them.",
            args: &[
                key("key"),
                one_of("condition", &[token("NX"), token("XX")]).since("6.2.0").optional(),
                token("CH").named("change").since("6.2.0").optional(),
                block("data", &[double("longitude"), double("latitude"), string("member")]).multiple(),
            ],
            history: &[("6.2.0", "Added the `CH`, `NX` and `XX` options.")],
            ..GEO
        },
    },
    Row {
        run: geodist,
        spec: Spec {
            name: "geodist",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "3.2.0",
            complexity: "O(1)",
            summary: "Measures how far two places are from each other.",
            args: &[key("key"), string("member1"), string("member2"), UNIT.optional()],
            ..GEO
        },
    },
    Row {
        run: geohash,
        spec: Spec {
            name: "geohash",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "3.2.0",
            complexity: "O(1) for each member.",
            summary: "Tells places as geohashes, the text that other systems understand.",
            args: &[key("key"), string("member").optional().multiple()],
            ..GEO
        },
    },
    Row {
        run: geopos,
        spec: Spec {
            name: "geopos",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "3.2.0",
            complexity: "O(1) for each member.",
            summary: "Tells the longitude and latitude of places.",
            args: &[key("key"), string("member").optional().multiple()],
            ..GEO
        },
    },
    Row {
        run: georadius,
        spec: Spec {
            name: "georadius",
            arity: AtLeast(6),
            flags: WRITE.and(DENYOOM),
            keys: &[
                key_at(1, RO.and(ACCESS)),
                key_after("STORE", 6, OW.and(UPDATE)),
                key_after("STOREDIST", 6, OW.and(UPDATE)),
            ],
            extract: Some(keys_of_georadius),
            shape: Gather,
            since: "3.2.0",
            complexity: SEARCH_COMPLEXITY,
            summary: "Finds the places around a point, and stores them if asked to.",
            args: &[
                key("key"),
                double("longitude"),
                double("latitude"),
                double("radius"),
                UNIT,
                WITH_COORD,
                WITH_DIST,
                WITH_HASH,
                COUNT_ANY_SINCE,
                ORDER,
                STORE,
            ],
            history: RADIUS_HISTORY,
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
            }),
            ..GEO
        },
    },
    Row {
        run: georadius_ro,
        spec: Spec {
            name: "georadius_ro",
            arity: AtLeast(6),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "3.2.10",
            complexity: SEARCH_COMPLEXITY,
            summary: "Finds the places around a point.",
            args: &[
                key("key"),
                double("longitude"),
                double("latitude"),
                double("radius"),
                UNIT,
                WITH_COORD,
                WITH_DIST,
                WITH_HASH,
                COUNT_ANY_SINCE,
                ORDER,
            ],
            history: RADIUS_HISTORY,
            deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`GEOSEARCH` with the `BYRADIUS` argument" }),
            ..GEO
        },
    },
    Row {
        run: georadiusbymember,
        spec: Spec {
            name: "georadiusbymember",
            arity: AtLeast(5),
            flags: WRITE.and(DENYOOM),
            keys: &[
                key_at(1, RO.and(ACCESS)),
                key_after("STORE", 5, OW.and(UPDATE)),
                key_after("STOREDIST", 5, OW.and(UPDATE)),
            ],
            extract: Some(keys_of_georadius),
            shape: Gather,
            since: "3.2.0",
            complexity: SEARCH_COMPLEXITY,
            summary: "Finds the places around a member, and stores them if asked to.",
            args: &[
                key("key"),
                string("member"),
                double("radius"),
                UNIT,
                WITH_COORD,
                WITH_DIST,
                WITH_HASH,
                COUNT,
                ORDER,
                STORE,
            ],
            history: RADIUS_HISTORY,
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
            }),
            ..GEO
        },
    },
    Row {
        run: georadiusbymember_ro,
        spec: Spec {
            name: "georadiusbymember_ro",
            arity: AtLeast(5),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "3.2.10",
            complexity: SEARCH_COMPLEXITY,
            summary: "Finds the places around a member.",
            args: &[
                key("key"),
                string("member"),
                double("radius"),
                UNIT,
                WITH_COORD,
                WITH_DIST,
                WITH_HASH,
                COUNT,
                ORDER,
            ],
            history: RADIUS_HISTORY,
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
            }),
            ..GEO
        },
    },
    Row {
        run: geosearch,
        spec: Spec {
            name: "geosearch",
            arity: AtLeast(7),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "6.2.0",
            complexity: SEARCH_COMPLEXITY,
            summary: "Finds the places inside a circle or a box.",
            args: &[key("key"), FROM, BY, ORDER, COUNT, WITH_COORD, WITH_DIST, WITH_HASH],
            history: &[UPPERCASE_UNITS],
            ..GEO
        },
    },
    Row {
        run: geosearchstore,
        spec: Spec {
            name: "geosearchstore",
            arity: AtLeast(8),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), key_at(2, RO.and(ACCESS))],
            shape: Gather,
            since: "6.2.0",
            complexity: SEARCH_COMPLEXITY,
            summary: "Stores the places inside a circle or a box as a set of their own.",
            args: &[
                key("destination"),
                key("source").key_spec(1),
                FROM,
                BY,
                ORDER,
                COUNT,
                token("STOREDIST").optional(),
            ],
            history: &[UPPERCASE_UNITS],
            ..GEO
        },
    },
];

/// GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]: a ZADD of the places' numbers.
fn geoadd(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let is_option = |index: &usize| ["NX", "XX", "CH"].iter().any(|option| args.is(*index, option));
    let options = (2..args.len()).take_while(is_option).count();
    let has = |option: &str| (2..2 + options).any(|index| args.is(index, option));
    let (triples, rest) = args.from(2 + options).as_chunks::<3>();
    if !rest.is_empty() || has("NX") && has("XX") {
        return Err(Error::Syntax);
    }
    let mut scores: SmallVec<[itoa::Buffer; 2]> = SmallVec::new();
    let mut digits = Vec::with_capacity(triples.len());
    for [longitude, latitude, _] in triples {
        digits.push(parse_point(longitude, latitude)?.encode());
        scores.push(itoa::Buffer::new());
    }
    let mut words: SmallVec<[&[u8]; 8]> = SmallVec::from_slice(&args.words()[..2 + options]);
    for (([_, _, member], score), number) in triples.iter().zip(&mut scores).zip(digits) {
        words.extend([score.format(number).as_bytes(), member]);
    }
    zset::zadd(ctx, &Args::new(&words), reply)
}

/// GEODIST key member1 member2 [M | KM | FT | MI]
fn geodist(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let unit_m = match args.from(4) {
        [] => 1.0,
        [unit] => parse_unit(unit)?,
        _ => return Err(Error::Syntax),
    };
    let places = ctx.read_as::<Zset>(args.get(1))?.and_then(|zset| {
        let place = |index| zset.score(args.get(index)).map(Point::decode);
        Some((place(2)?, place(3)?))
    });
    match places {
        Some((first, second)) => reply_distance(first.distance_m(second) / unit_m, reply),
        None => reply.null(),
    }
    Ok(())
}

/// GEOHASH key [member ...]
fn geohash(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let zset = ctx.read_as::<Zset>(args.get(1))?;
    reply.array(args.from(2).len());
    for member in args.from(2) {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply.bulk(&Point::decode(score).standard_geohash()),
            None => reply.null(),
        }
    }
    Ok(())
}

/// GEOPOS key [member ...]
fn geopos(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let zset = ctx.read_as::<Zset>(args.get(1))?;
    reply.array(args.from(2).len());
    for member in args.from(2) {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply_point(Point::decode(score), reply),
            None => reply.null_array(),
        }
    }
    Ok(())
}

/// GEORADIUS key longitude latitude radius M | KM | FT | MI [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]]
/// [ASC | DESC] [STORE key | STOREDIST key]
fn georadius(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    search(ctx, args, reply, Form { source: 1, options: 6, centre: Centre::Point, store: Store::Option })
}

/// GEORADIUS_RO: the same without storing.
fn georadius_ro(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    search(ctx, args, reply, Form { source: 1, options: 6, centre: Centre::Point, store: Store::Never })
}

/// GEORADIUSBYMEMBER key member radius M | KM | FT | MI [option ...], with the options of GEORADIUS.
fn georadiusbymember(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    search(ctx, args, reply, Form { source: 1, options: 5, centre: Centre::Member, store: Store::Option })
}

/// GEORADIUSBYMEMBER_RO: the same without storing.
fn georadiusbymember_ro(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    search(ctx, args, reply, Form { source: 1, options: 5, centre: Centre::Member, store: Store::Never })
}

/// GEOSEARCH key FROMMEMBER member | FROMLONLAT longitude latitude BYRADIUS radius unit | BYBOX width height unit
/// [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]
fn geosearch(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    search(ctx, args, reply, Form { source: 1, options: 2, centre: Centre::Option, store: Store::Never })
}

/// GEOSEARCHSTORE destination source [option ...] [STOREDIST], with the options of GEOSEARCH, but for WITH...
fn geosearchstore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    search(ctx, args, reply, Form { source: 2, options: 3, centre: Centre::Option, store: Store::Always })
}

/// How a command that searches is written.
#[derive(Clone, Copy)]
struct Form {
    /// Where the key of the set is, and where options begin.
    source: usize,
    options: usize,
    centre: Centre,
    store: Store,
}

/// Where the centre and the shape are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Centre {
    /// Longitude and latitude, radius and unit follow the key.
    Point,
    /// A member, radius and unit follow the key.
    Member,
    /// Options say it.
    Option,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Never,
    /// If an option says where to.
    Option,
    /// Under the first key.
    Always,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Any,
    Ascending,
    Descending,
}

/// What is asked for. Without a set to be searched, no centre is found by a member, and none is needed.
struct Search<'a> {
    centre: Option<Point>,
    shape: Option<Shape>,
    from_member: bool,
    with_distance: bool,
    with_number: bool,
    with_coordinates: bool,
    order: Order,
    count: Option<usize>,
    /// Any so many will do, not only the nearest.
    any: bool,
    target: Option<&'a [u8]>,
    store_distance: bool,
}

/// A place that was found.
struct Found<'a> {
    member: Element<'a>,
    score: f64,
    point: Point,
    distance_m: f64,
}

fn search(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, form: Form) -> Result {
    let source = args.get(form.source);
    let event = if form.store == Store::Always { "geosearchstore" } else { "georadiusstore" };
    let zset = ctx.read_as::<Zset>(source)?;
    let search = Search::parse(args, form, zset)?;
    let (Some(zset), Some(centre), Some(shape)) = (zset, search.centre, search.shape) else {
        match search.target {
            Some(target) => zset::store_at(ctx, args, target, &[source], Zset::default(), event, reply),
            None => reply.array(0),
        }
        return Ok(());
    };
    let found = search.find(zset, centre, &shape);
    let Some(target) = search.target else {
        search.reply(&found, shape.unit_m, reply);
        return Ok(());
    };
    let mut members: Vec<(Cow<'_, [u8]>, f64)> = found
        .iter()
        .map(|found| {
            let score = if search.store_distance { found.distance_m / shape.unit_m } else { found.score };
            (Cow::Owned(found.member.to_vec()), score)
        })
        .collect();
    sort_members(&mut members);
    let result = Zset::of_members(&members, &ctx.env());
    zset::store_at(ctx, args, target, &[source], result, event, reply);
    Ok(())
}

impl<'a> Search<'a> {
    fn parse(args: &Args<'a>, form: Form, zset: Option<&Zset>) -> Result<Search<'a>> {
        let mut search = Search {
            centre: None,
            shape: None,
            from_member: false,
            with_distance: false,
            with_number: false,
            with_coordinates: false,
            order: Order::Any,
            count: None,
            any: false,
            target: (form.store == Store::Always).then(|| args.get(1)),
            store_distance: false,
        };
        match form.centre {
            Centre::Point => {
                search.centre = Some(parse_point(args.get(2), args.get(3))?);
                search.shape = Some(parse_circle(args.get(4), args.get(5))?);
            }
            // Redis looks at the radius only if there is a set.
            Centre::Member => {
                if let Some(zset) = zset {
                    search.centre = Some(point_of_member(zset, args.get(2))?);
                    search.shape = Some(parse_circle(args.get(3), args.get(4))?);
                }
            }
            Centre::Option => {}
        }
        let mut words = args.from(form.options);
        while !words.is_empty() {
            words = match search.option(words, form, zset)? {
                Some(rest) => rest,
                None => return Err(Error::Syntax),
            };
        }
        search.check(args, form)?;
        Ok(search)
    }

    /// Takes the first option, and returns what is left; `None` if it is none.
    fn option<'w>(&mut self, words: &'w [&'a [u8]], form: Form, zset: Option<&Zset>) -> Result<Option<&'w [&'a [u8]]>> {
        let by_options = form.centre == Centre::Option;
        let is_circle = |shape: Shape| matches!(shape.outline, Outline::Circle { .. });
        let name = words[0].to_ascii_uppercase();
        let rest = &words[1..];
        match (name.as_slice(), rest) {
            (b"WITHDIST", _) => self.with_distance = true,
            (b"WITHHASH", _) => self.with_number = true,
            (b"WITHCOORD", _) => self.with_coordinates = true,
            (b"ANY", _) => self.any = true,
            (b"ASC", _) => self.order = Order::Ascending,
            (b"DESC", _) => self.order = Order::Descending,
            (b"COUNT", [count, rest @ ..]) => {
                let count = crate::base::number::parse_i64(count).ok_or(Error::NotAnInteger)?;
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                self.count = Some(count.ok_or(Error::Text("ERR COUNT must be > 0"))?);
                return Ok(Some(rest));
            }
            (b"STORE" | b"STOREDIST", [target, rest @ ..]) if form.store == Store::Option => {
                self.target = Some(target);
                self.store_distance = name == b"STOREDIST";
                return Ok(Some(rest));
            }
            (b"STOREDIST", _) if form.store == Store::Always => self.store_distance = true,
            (b"FROMMEMBER", [member, rest @ ..]) if by_options && (self.centre.is_none() || self.from_member) => {
                self.from_member = true;
                self.centre = zset.map(|zset| point_of_member(zset, member)).transpose()?;
                return Ok(Some(rest));
            }
            (b"FROMLONLAT", [longitude, latitude, rest @ ..]) if by_options && !self.from_member => {
                self.centre = Some(parse_point(longitude, latitude)?);
                return Ok(Some(rest));
            }
            (b"BYRADIUS", [radius, unit, rest @ ..]) if by_options && self.shape.is_none_or(is_circle) => {
                self.shape = Some(parse_circle(radius, unit)?);
                return Ok(Some(rest));
            }
            (b"BYBOX", [width, height, unit, rest @ ..]) if by_options && !self.shape.is_some_and(is_circle) => {
                self.shape = Some(parse_box(width, height, unit)?);
                return Ok(Some(rest));
            }
            _ => return Ok(None),
        }
        Ok(Some(rest))
    }

    /// Do the options go together?
    fn check(&mut self, args: &Args, form: Form) -> Result {
        let by_options = form.centre == Centre::Option;
        if self.target.is_some() && (self.with_distance || self.with_number || self.with_coordinates) {
            return Err(Error::Text(if by_options {
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            } else {
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            }));
        }
        let missing = |what: &str| {
            let mut text = format!("ERR exactly one of {what} can be specified for ").into_bytes();
            text.extend_from_slice(args.get(0));
            Err(Error::dynamic(text))
        };
        if by_options && self.centre.is_none() && !self.from_member {
            return missing("FROMMEMBER or FROMLONLAT");
        }
        if by_options && self.shape.is_none() {
            return missing("BYRADIUS and BYBOX");
        }
        if self.any && self.count.is_none() {
            return Err(Error::Text("ERR the ANY argument requires COUNT argument"));
        }
        // So many, without more being said, are the nearest.
        if self.count.is_some() && self.order == Order::Any && !self.any {
            self.order = Order::Ascending;
        }
        Ok(())
    }

    /// The places that are asked for, in the order of the reply.
    fn find<'z>(&self, zset: &'z Zset, centre: Point, shape: &Shape) -> Vec<Found<'z>> {
        let enough = self.count.filter(|_| self.any).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for range in shape.ranges(centre) {
            let first = ScoreBound::included(range.start as f64);
            let end = ScoreBound { score: range.end as f64, excluded: true };
            for (member, score) in zset.range(zset.ranks_of_scores(first, end)) {
                if found.len() >= enough {
                    break;
                }
                let point = Point::decode(score);
                if let Some(distance_m) = shape.distance_within_m(centre, point) {
                    found.push(Found { member, score, point, distance_m });
                }
            }
        }
        let by_distance = |a: &Found, b: &Found| a.distance_m.partial_cmp(&b.distance_m).unwrap_or(Ordering::Equal);
        match self.order {
            Order::Any => {}
            Order::Ascending => found.sort_by(by_distance),
            Order::Descending => found.sort_by(|a, b| by_distance(b, a)),
        }
        found.truncate(self.count.unwrap_or(usize::MAX));
        found
    }

    fn reply(&self, found: &[Found<'_>], unit_m: f64, reply: &mut Reply) {
        let parts = [self.with_distance, self.with_number, self.with_coordinates].iter().filter(|with| **with).count();
        let mut digits = Digits::new();
        reply.array(found.len());
        for Found { member, score, point, distance_m } in found {
            if parts > 0 {
                reply.array(1 + parts);
            }
            reply.bulk(member.text(&mut digits));
            if self.with_distance {
                reply_distance(distance_m / unit_m, reply);
            }
            if self.with_number {
                reply.integer(*score as i64);
            }
            if self.with_coordinates {
                reply_point(*point, reply);
            }
        }
    }
}

fn parse_point(longitude: &[u8], latitude: &[u8]) -> Result<Point> {
    let number = |text| parse_f64(text).ok_or(Error::NotAFloat);
    let point = Point { longitude: number(longitude)?, latitude: number(latitude)? };
    if point.is_valid() {
        return Ok(point);
    }
    let Point { longitude, latitude } = point;
    Err(Error::dynamic(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

fn point_of_member(zset: &Zset, member: &[u8]) -> Result<Point> {
    let score = zset.score(member).ok_or(Error::Text("ERR could not decode requested zset member"))?;
    Ok(Point::decode(score))
}

fn parse_circle(radius: &[u8], unit: &[u8]) -> Result<Shape> {
    let radius = parse_f64(radius).ok_or(Error::Text("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(Error::Text("ERR radius cannot be negative"));
    }
    Ok(Shape { outline: Outline::Circle { radius }, unit_m: parse_unit(unit)? })
}

fn parse_box(width: &[u8], height: &[u8], unit: &[u8]) -> Result<Shape> {
    let width = parse_f64(width).ok_or(Error::Text("ERR need numeric width"))?;
    let height = parse_f64(height).ok_or(Error::Text("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(Error::Text("ERR height or width cannot be negative"));
    }
    Ok(Shape { outline: Outline::Rectangle { width, height }, unit_m: parse_unit(unit)? })
}

/// A unit in metres.
fn parse_unit(word: &[u8]) -> Result<f64> {
    const UNITS: [(&str, f64); 4] = [("M", 1.0), ("KM", 1000.0), ("FT", 0.3048), ("MI", 1609.34)];
    let named = UNITS.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, unit_m)| unit_m).ok_or(Error::Text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Four digits behind the point.
fn reply_distance(distance: f64, reply: &mut Reply) {
    let scaled = (distance * 10000.0).round_ties_even() as i64;
    reply.bulk(format!("{}.{:04}", scaled / 10000, scaled % 10000).as_bytes());
}

fn reply_point(point: Point, reply: &mut Reply) {
    reply.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        reply.double_text(if text == "-0" { b"0" } else { text.as_bytes() });
    }
}

#[cfg(test)]
mod tests;
