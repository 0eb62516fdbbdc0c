//! What single texts must look like beyond being texts. The reasons are Redis's.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes in a host name, its terminator in C included.
const HOST_NAME_MAX: usize = 256;

pub fn not_empty_dir(value: &str) -> Result<(), &'static str> {
    if value.is_empty() { Err("dir can't be empty") } else { Ok(()) }
}

pub fn db_file_name(value: &str) -> Result<(), &'static str> {
    base_name(value, "dbfilename can't be empty", "dbfilename can't be a path, just a filename")
}

pub fn append_file_name(value: &str) -> Result<(), &'static str> {
    base_name(value, "appendfilename can't be empty", "appendfilename can't be a path, just a filename")
}

pub fn append_dir_name(value: &str) -> Result<(), &'static str> {
    base_name(value, "appenddirname can't be empty", "appenddirname can't be a path, just a dirname")
}

fn base_name(value: &str, if_empty: &'static str, if_path: &'static str) -> Result<(), &'static str> {
    if value.is_empty() {
        Err(if_empty)
    } else if value.contains(['/', '\\']) {
        Err(if_path)
    } else {
        Ok(())
    }
}

pub fn cluster_config_file(value: &str) -> Result<(), &'static str> {
    if value.is_empty() { Err("cluster-config-file can't be empty") } else { Ok(()) }
}

pub fn host_name(value: &str) -> Result<(), &'static str> {
    if value.len() >= HOST_NAME_MAX {
        Err("Hostnames must be less than 256 characters")
    } else if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
        Err("Hostnames may only contain alphanumeric characters, hyphens or dots")
    } else {
        Ok(())
    }
}

pub fn ipv4_address(value: &str) -> Result<(), &'static str> {
    if value.is_empty() || value.parse::<Ipv4Addr>().is_ok() { Ok(()) } else { Err("Invalid IPv4 address") }
}

pub fn ipv6_address(value: &str) -> Result<(), &'static str> {
    if value.is_empty() || value.parse::<Ipv6Addr>().is_ok() { Ok(()) } else { Err("Invalid IPv6 address") }
}

pub fn node_name(value: &str) -> Result<(), &'static str> {
    // The characters that CLUSTER NODES keeps for itself.
    if value.contains(|c| "!#$%&()*+:;<>?@[]^{|}~".contains(c)) {
        Err("Announced human node name contained invalid character")
    } else {
        Ok(())
    }
}

pub fn proc_title(value: &str) -> Result<(), &'static str> {
    const VARIABLES: [&str; 7] =
        ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    const INVALID: &str = "template format is invalid or contains unknown variables";
    if value.is_empty() {
        return Err(INVALID);
    }
    let mut rest = value;
    while let Some(open) = rest.find('{') {
        rest = &rest[open + 1..];
        if let Some(behind) = rest.strip_prefix('{') {
            rest = behind;
            continue;
        }
        let variable = rest.split_once('}').filter(|(name, _)| VARIABLES.contains(name));
        rest = variable.ok_or(INVALID)?.1;
    }
    Ok(())
}
