//! Places through the public client library, on keys of all shards.

mod common;

use common::with_shards;
use redis::geo::{RadiusOptions, RadiusOrder, RadiusSearchResult, Unit};
use redis::{Commands, Connection, RedisResult, cmd};

const SICILY: &[(f64, f64, &str)] = &[(13.361389, 38.115556, "Palermo"), (15.087269, 37.502669, "Catania")];

/// The same for both protocols, on one, two and four shards.
fn with_clients(test: impl Fn(&mut Connection)) {
    with_shards(|server| {
        for mut client in [server.redis(), server.redis3()] {
            test(&mut client);
            let () = cmd("FLUSHALL").query(&mut client).unwrap();
        }
    });
}

#[test]
fn places_are_told_and_measured() {
    with_clients(|client| {
        for n in 0..20 {
            let key = format!("sicily:{n}");
            assert_eq!(client.geo_add::<_, _, usize>(&key, SICILY), Ok(2));
            assert_eq!(client.geo_dist(&key, "Palermo", "Catania", Unit::Kilometers), Ok(166.2742));
            assert_eq!(client.geo_hash::<_, _, Vec<String>>(&key, "Palermo"), Ok(vec!["sqc8b49rny0".to_owned()]));
            let places: Vec<Option<(f64, f64)>> = client.geo_pos(&key, &["Catania", "none"]).unwrap();
            assert_eq!(places, [Some((15.087_267_458_438_873, 37.502_668_423_331_62)), None]);
        }
    });
}

#[test]
fn places_are_found() {
    with_clients(|client| {
        for n in 0..20 {
            let key = format!("sicily:{n}");
            let () = client.geo_add(&key, SICILY).unwrap();
            let options = || RadiusOptions::default().with_dist().with_coord().order(RadiusOrder::Asc);
            let found: Vec<RadiusSearchResult> =
                client.geo_radius(&key, 15.0, 37.0, 200.0, Unit::Kilometers, options()).unwrap();
            let names: Vec<&str> = found.iter().map(|place| place.name.as_str()).collect();
            assert_eq!(names, ["Catania", "Palermo"]);
            assert_eq!(found[0].dist, Some(56.4413));
            let near: Vec<RadiusSearchResult> =
                client.geo_radius_by_member(&key, "Palermo", 1.0, Unit::Meters, RadiusOptions::default()).unwrap();
            assert_eq!(near.len(), 1);
        }
    });
}

#[test]
fn results_are_stored_on_other_shards() {
    with_clients(|client| {
        let () = client.geo_add("sicily", SICILY).unwrap();
        for n in 0..20 {
            let target = format!("target:{n}");
            let mut search = cmd("GEOSEARCHSTORE");
            search.arg(&target).arg("sicily").arg(&["FROMLONLAT", "15", "37", "BYBOX", "400", "400", "km"]);
            assert_eq!(search.query::<usize>(client), Ok(2));
            assert_eq!(client.zrange::<_, Vec<String>>(&target, 0, -1).unwrap(), ["Palermo", "Catania"]);
            let mut nearest = cmd("GEORADIUS");
            nearest.arg(&["sicily", "15", "37", "200", "km", "COUNT", "1", "STOREDIST"]).arg(&target);
            assert_eq!(nearest.query::<usize>(client), Ok(1));
            assert_eq!(client.zscore::<_, _, f64>(&target, "Catania"), Ok(56.4412578701582));
            let mut none = cmd("GEORADIUS");
            none.arg(&["sicily", "15", "37", "1", "m", "STORE"]).arg(&target);
            assert_eq!(none.query::<usize>(client), Ok(0));
            assert_eq!(client.exists::<_, bool>(&target), Ok(false));
        }
        let () = client.set("string", "value").unwrap();
        let refused: RedisResult<usize> = client.geo_add("string", SICILY);
        assert_eq!(refused.expect_err("no places").code(), Some("WRONGTYPE"));
    });
}
