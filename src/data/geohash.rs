//! Places on the earth as numbers of 52 bits, whose order keeps near places near each other.
//!
//! Longitude and latitude are each divided into 2^26 steps, and the bits of the two interleaved, latitude first at the
//! low end. A prefix of such a number is a cell, and a cell is a range of numbers: an area is searched by the ranges of
//! its own cell and that cell's neighbours, and each place found is measured. Numbers, distances (haversine, on a
//! sphere) and the choice of cells are Redis's, down to the order of floating point operations, so that results are
//! equal, including their order. It knows nothing of sorted sets.

use std::ops::Range;

const LATITUDE: Scale = Scale { min: -85.05112878, max: 85.05112878 };
const LONGITUDE: Scale = Scale { min: -180.0, max: 180.0 };
/// Of the geohash that other systems understand.
const LATITUDE_STANDARD: Scale = Scale { min: -90.0, max: 90.0 };

const STEP_MAX: u32 = 26;
const EARTH_RADIUS_M: f64 = 6372797.560856;
/// Half the circumference at the equator.
const MERCATOR_MAX_M: f64 = 20037726.37;
const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// What lies around a point. Lengths are in a unit of `unit_m` metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub outline: Outline,
    pub unit_m: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outline {
    Circle { radius: f64 },
    Rectangle { width: f64, height: f64 },
}

#[derive(Clone, Copy)]
struct Scale {
    min: f64,
    max: f64,
}

impl Scale {
    fn contains(self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// The number of the step that a value falls into.
    fn step_of(self, value: f64, steps: u32) -> u32 {
        ((value - self.min) / (self.max - self.min) * (1_u64 << steps) as f64) as u32
    }

    /// From where to where a step reaches.
    fn bounds(self, step: u32, steps: u32) -> Scale {
        let at = |step: f64| self.min + step / (1_u64 << steps) as f64 * (self.max - self.min);
        Scale { min: at(f64::from(step)), max: at(f64::from(step) + 1.0) }
    }

    fn middle_within(self, limits: Scale) -> f64 {
        ((self.min + self.max) / 2.0).min(limits.max).max(limits.min)
    }
}

impl Point {
    /// Near the poles there are no places.
    pub fn is_valid(self) -> bool {
        LONGITUDE.contains(self.longitude) && LATITUDE.contains(self.latitude)
    }

    /// The place's number.
    pub fn encode(self) -> u64 {
        Cell::of(self, STEP_MAX).interleaved()
    }

    /// The middle of the smallest cell, whose number is a score. What is no such number still gives a valid place.
    pub fn decode(score: f64) -> Point {
        let bits = to_bits(score);
        let cell = Cell { latitude: gather_even(bits), longitude: gather_even(bits >> 1), steps: STEP_MAX };
        let (longitude, latitude) = cell.bounds();
        Point { longitude: longitude.middle_within(LONGITUDE), latitude: latitude.middle_within(LATITUDE) }
    }

    /// The geohash that other systems understand: 11 letters, of which the last says nothing.
    pub fn standard_geohash(self) -> [u8; 11] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let latitude = LATITUDE_STANDARD.step_of(self.latitude, STEP_MAX);
        let longitude = LONGITUDE.step_of(self.longitude, STEP_MAX);
        let bits = Cell { latitude, longitude, steps: STEP_MAX }.interleaved();
        std::array::from_fn(|index| match index {
            10 => ALPHABET[0],
            _ => ALPHABET[(bits >> (2 * STEP_MAX as usize - (index + 1) * 5)) as usize & 31],
        })
    }

    /// In metres.
    pub fn distance_m(self, other: Point) -> f64 {
        let half_longitude = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if half_longitude == 0.0 {
            return self.latitude_distance_m(other);
        }
        let (latitude, other_latitude) = (radians(self.latitude), radians(other.latitude));
        let half_latitude = ((other_latitude - latitude) / 2.0).sin();
        let a = half_latitude * half_latitude + latitude.cos() * other_latitude.cos() * half_longitude * half_longitude;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }

    fn latitude_distance_m(self, other: Point) -> f64 {
        EARTH_RADIUS_M * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

impl Shape {
    /// The distance in metres of a point from the centre, if it lies in the shape.
    pub fn distance_within_m(&self, centre: Point, point: Point) -> Option<f64> {
        match self.outline {
            Outline::Circle { radius } => {
                Some(centre.distance_m(point)).filter(|&distance_m| distance_m <= radius * self.unit_m)
            }
            Outline::Rectangle { width, height } => {
                let level = Point { longitude: centre.longitude, latitude: point.latitude };
                let inside = point.latitude_distance_m(centre) <= height * self.unit_m / 2.0
                    && point.distance_m(level) <= width * self.unit_m / 2.0;
                inside.then(|| centre.distance_m(point))
            }
        }
    }

    /// Ranges of numbers that hold all places in the shape, none of them twice, in the order in which to search.
    pub fn ranges(&self, centre: Point) -> Vec<Range<u64>> {
        /// East and north.
        const NEIGHBOURS: [(i32, i32); 8] = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let (longitudes, latitudes) = self.bounding_box(centre);
        let mut steps = steps_of_radius(self.radius_m(), centre.latitude);
        let mut own = Cell::of(centre, steps);
        if steps > 1 && !own.neighbours_cover(longitudes, latitudes) {
            steps -= 1;
            own = Cell::of(centre, steps);
        }
        let (own_longitudes, own_latitudes) = own.bounds();
        let is_needed = |east: i32, north: i32| {
            // With fewer steps a cell is its neighbours' neighbour on the other side, too.
            steps < 2
                || !(north < 0 && own_latitudes.min < latitudes.min
                    || north > 0 && own_latitudes.max > latitudes.max
                    || east < 0 && own_longitudes.min < longitudes.min
                    || east > 0 && own_longitudes.max > longitudes.max)
        };
        let mut ranges = vec![own.range()];
        for (east, north) in NEIGHBOURS {
            let range = own.neighbour(east, north).range();
            if is_needed(east, north) && ranges.last() != Some(&range) {
                ranges.push(range);
            }
        }
        ranges
    }

    fn radius_m(&self) -> f64 {
        let radius = match self.outline {
            Outline::Circle { radius } => radius,
            Outline::Rectangle { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        };
        radius * self.unit_m
    }

    /// Longitudes and latitudes between which the shape lies.
    fn bounding_box(&self, centre: Point) -> (Scale, Scale) {
        let (width, height) = match self.outline {
            Outline::Circle { radius } => (radius, radius),
            Outline::Rectangle { width, height } => (width / 2.0, height / 2.0),
        };
        let (width_m, height_m) = (self.unit_m * width, self.unit_m * height);
        let north = degrees(height_m / EARTH_RADIUS_M);
        // Where the shape is nearer to a pole it spans more degrees. (For a rectangle Redis does likewise.)
        let widest = if centre.latitude < 0.0 { centre.latitude - north } else { centre.latitude + north };
        let east = degrees(width_m / EARTH_RADIUS_M / radians(widest).cos());
        let longitudes = Scale { min: centre.longitude - east, max: centre.longitude + east };
        (longitudes, Scale { min: centre.latitude - north, max: centre.latitude + north })
    }
}

/// So many steps that a cell is about as large as the radius.
fn steps_of_radius(mut radius_m: f64, latitude: f64) -> u32 {
    if radius_m == 0.0 {
        return STEP_MAX;
    }
    let mut steps: i32 = 1;
    while radius_m < MERCATOR_MAX_M {
        radius_m *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Towards the poles cells become narrow.
    steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    steps.clamp(1, STEP_MAX as i32) as u32
}

/// A rectangle of longitude and latitude: each divided into 2^steps, and which of these it is.
#[derive(Clone, Copy)]
struct Cell {
    latitude: u32,
    longitude: u32,
    steps: u32,
}

impl Cell {
    fn of(point: Point, steps: u32) -> Cell {
        Cell {
            latitude: LATITUDE.step_of(point.latitude, steps),
            longitude: LONGITUDE.step_of(point.longitude, steps),
            steps,
        }
    }

    fn interleaved(self) -> u64 {
        spread(self.latitude) | spread(self.longitude) << 1
    }

    fn bounds(self) -> (Scale, Scale) {
        (LONGITUDE.bounds(self.longitude, self.steps), LATITUDE.bounds(self.latitude, self.steps))
    }

    /// The numbers of all places in it.
    fn range(self) -> Range<u64> {
        let shift = 2 * (STEP_MAX - self.steps);
        let bits = self.interleaved();
        bits << shift..(bits + 1) << shift
    }

    /// The cell so many cells to the east and to the north, around the earth.
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let moved = |step: u32, by: i32| match by {
            0 => step,
            _ => step.wrapping_add_signed(by) & ((1 << self.steps) - 1),
        };
        Cell { latitude: moved(self.latitude, north), longitude: moved(self.longitude, east), ..self }
    }

    /// Do the cells around this one reach to these bounds?
    fn neighbours_cover(self, longitudes: Scale, latitudes: Scale) -> bool {
        let bounds = |east, north| self.neighbour(east, north).bounds();
        bounds(0, 1).1.max >= latitudes.max
            && bounds(0, -1).1.min <= latitudes.min
            && bounds(1, 0).0.max >= longitudes.max
            && bounds(-1, 0).0.min <= longitudes.min
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * RADIANS_PER_DEGREE
}

fn degrees(radians: f64) -> f64 {
    radians / RADIANS_PER_DEGREE
}

/// A score as C converts it on x86: what does not fit wraps.
fn to_bits(score: f64) -> u64 {
    const TWO_TO_63: f64 = (1_u64 << 63) as f64;
    if score < TWO_TO_63 {
        return score as i64 as u64;
    }
    let rest = score - TWO_TO_63;
    (if rest < TWO_TO_63 { rest as u64 } else { 1 << 63 }) ^ 1 << 63
}

/// The masks by which bits are spread to even places, or gathered from them, in five steps.
const EVEN_MASKS: [u64; 5] =
    [0x5555_5555_5555_5555, 0x3333_3333_3333_3333, 0x0f0f_0f0f_0f0f_0f0f, 0x00ff_00ff_00ff_00ff, 0x0000_ffff_0000_ffff];

fn spread(value: u32) -> u64 {
    EVEN_MASKS
        .iter()
        .enumerate()
        .rev()
        .fold(u64::from(value), |bits, (index, mask)| (bits | bits << (1 << index)) & mask)
}

fn gather_even(bits: u64) -> u32 {
    let folded = EVEN_MASKS[1..]
        .iter()
        .enumerate()
        .fold(bits & EVEN_MASKS[0], |bits, (index, mask)| (bits | bits >> (1 << index)) & mask);
    (folded | folded >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point() -> impl Strategy<Value = Point> {
        (-180.0..=180.0, LATITUDE.min..=LATITUDE.max).prop_map(|(longitude, latitude)| Point { longitude, latitude })
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let length = || (0.0..23.0_f64).prop_map(|power| power.exp2());
        prop_oneof![
            length().prop_map(|radius| Outline::Circle { radius }),
            (length(), length()).prop_map(|(width, height)| Outline::Rectangle { width, height }),
        ]
        .prop_map(|outline| Shape { outline, unit_m: 1.0 })
    }

    #[test]
    fn places_have_redis_s_numbers() {
        let palermo = Point { longitude: 13.361389, latitude: 38.115556 };
        assert_eq!(palermo.encode(), 3479099956230698);
        assert_eq!(&Point::decode(3479099956230698.0).standard_geohash(), b"sqc8b49rny0");
        let catania = Point::decode(3479447370796909.0);
        assert_eq!(&catania.standard_geohash(), b"sqdtr74hyu0");
        let distance_m = Point::decode(3479099956230698.0).distance_m(catania);
        assert!((distance_m - 166274.1516).abs() < 0.0001);
    }

    #[test]
    fn numbers_that_are_no_places() {
        assert_eq!(to_bits(-1.0), u64::MAX);
        assert_eq!(to_bits(f64::INFINITY), 0);
        assert_eq!(to_bits(f64::NEG_INFINITY), 1 << 63);
        assert_eq!(to_bits(1.9), 1);
        for score in [f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, 1e19] {
            assert!(Point::decode(score).is_valid());
        }
    }

    proptest! {
        #[test]
        fn bits_are_spread_and_gathered(value: u32) {
            let expected = (0..32).fold(0, |sum, bit| sum | u64::from(value >> bit & 1) << (2 * bit));
            prop_assert_eq!(spread(value), expected);
            prop_assert_eq!(gather_even(expected | !EVEN_MASKS[0]), value);
        }

        #[test]
        fn a_place_is_near_its_number(point in point()) {
            let decoded = Point::decode(point.encode() as f64);
            prop_assert!((decoded.longitude - point.longitude).abs() < 6e-6);
            prop_assert!((decoded.latitude - point.latitude).abs() < 3e-6);
        }

        /// Circles that do not reach a pole: there Redis misses places, too.
        #[test]
        fn ranges_hold_all_places_in_a_circle(centre in point(), bearing in 0.0..6.28_f64, part in 0.0..1.0_f64, power in 0.0..19.0_f64) {
            let radius = power.exp2();
            let north = degrees(bearing.cos() * part * radius / EARTH_RADIUS_M);
            let latitude = centre.latitude + north;
            let east = degrees(bearing.sin() * part * radius / EARTH_RADIUS_M / radians(latitude).cos());
            let point = Point { longitude: centre.longitude + east, latitude };
            let reach = centre.latitude.abs() + degrees(radius / EARTH_RADIUS_M);
            prop_assume!(point.is_valid() && reach < 80.0);
            let shape = Shape { outline: Outline::Circle { radius }, unit_m: 1.0 };
            let decoded = Point::decode(point.encode() as f64);
            if shape.distance_within_m(centre, decoded).is_some() {
                prop_assert!(shape.ranges(centre).iter().any(|range| range.contains(&point.encode())));
            }
        }

        #[test]
        fn no_place_is_in_two_ranges(centre in point(), shape in shape()) {
            let mut ranges = shape.ranges(centre);
            ranges.sort_by_key(|range| range.start);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(ranges.len() <= 9);
        }
    }
}
