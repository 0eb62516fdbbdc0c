//! Commands of Redis Cluster, as a server answers them that is not part of one.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const CLUSTER: Spec =
    Spec { group: Group::Cluster, categories: category::CONNECTION, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[
    Row {
        run: disabled as AdminFn,
        spec: Spec {
            name: "asking",
            arity: Exactly(1),
            flags: FAST,
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Lets the next command touch a slot that is being imported.",
            ..CLUSTER
        },
    },
    Row {
        run: disabled,
        spec: Spec {
            name: "cluster",
            arity: AtLeast(2),
            categories: Categories::NONE,
            since: "3.0.0",
            complexity: "Depends on the subcommand.",
            summary: "Holds the commands about the cluster.",
            subcommands: &[
                Spec {
                    name: "cluster|addslots",
                    arity: AtLeast(3),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the number of slots given.",
                    summary: "Assigns hash slots to this node.",
                    args: &[integer("slot").multiple()],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|addslotsrange",
                    arity: AtLeast(4),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "7.0.0",
                    complexity: "O(N) where N is the number of slots in the ranges.",
                    summary: "Assigns ranges of hash slots to this node.",
                    args: &[block("range", &[integer("start-slot"), integer("end-slot")]).multiple()],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|bumpepoch",
                    arity: Exactly(2),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Raises the configuration epoch of this node.",
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|count-failure-reports",
                    arity: Exactly(3),
                    flags: ADMIN.and(STALE),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the number of reports.",
                    summary: "Counts the nodes that currently report a node as failing.",
                    args: &[string("node-id")],
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|countkeysinslot",
                    arity: Exactly(3),
                    flags: STALE,
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Counts the keys in a hash slot.",
                    args: &[integer("slot")],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|delslots",
                    arity: AtLeast(3),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the number of slots given.",
                    summary: "Gives hash slots up.",
                    args: &[integer("slot").multiple()],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|delslotsrange",
                    arity: AtLeast(4),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "7.0.0",
                    complexity: "O(N) where N is the number of slots in the ranges.",
                    summary: "Gives ranges of hash slots up.",
                    args: &[block("range", &[integer("start-slot"), integer("end-slot")]).multiple()],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|failover",
                    arity: AtLeast(2),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Makes this replica take over from its primary.",
                    args: &[one_of("options", &[token("FORCE"), token("TAKEOVER")]).optional()],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|flushslots",
                    arity: Exactly(2),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Gives all hash slots of this node up.",
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|forget",
                    arity: Exactly(3),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Takes a node out of this node's view of the cluster.",
                    args: &[string("node-id")],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|getkeysinslot",
                    arity: Exactly(4),
                    flags: STALE,
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the number of keys asked for.",
                    summary: "Lists keys in a hash slot.",
                    args: &[integer("slot"), integer("count")],
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|help",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    categories: Categories::NONE,
                    since: "5.0.0",
                    complexity: "O(1)",
                    summary: "Explains the subcommands.",
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|info",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Describes the state of the cluster as this node sees it.",
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|keyslot",
                    arity: Exactly(3),
                    flags: STALE,
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the length of the key.",
                    summary: "Returns the hash slot of a key.",
                    args: &[string("key")],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|links",
                    arity: Exactly(2),
                    flags: STALE,
                    categories: Categories::NONE,
                    since: "7.0.0",
                    complexity: "O(N) where N is the number of nodes.",
                    summary: "Lists the connections between this node and the others.",
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|meet",
                    arity: AtLeast(4),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Introduces another node to this one.",
                    args: &[string("ip"), integer("port"), integer("cluster-bus-port").since("4.0.0").optional()],
                    history: &[("4.0.0", "Added the optional `cluster_bus_port` argument.")],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|myid",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Returns the id of this node.",
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|myshardid",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    categories: Categories::NONE,
                    since: "7.2.0",
                    complexity: "O(1)",
                    summary: "Returns the id of the shard this node belongs to.",
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|nodes",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the number of nodes.",
                    summary: "Lists the nodes, in the format of the configuration file.",
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|replicas",
                    arity: Exactly(3),
                    flags: ADMIN.and(STALE),
                    categories: Categories::NONE,
                    since: "5.0.0",
                    complexity: "O(N) for N replicas.",
                    summary: "Lists the replicas of a primary.",
                    args: &[string("node-id")],
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|replicate",
                    arity: Exactly(3),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Makes this node a replica of a primary.",
                    args: &[string("node-id")],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|reset",
                    arity: AtLeast(2),
                    flags: ADMIN.and(NOSCRIPT).and(STALE),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the number of nodes known; a replica is flushed as well.",
                    summary: "Makes this node forget the cluster.",
                    args: &[one_of("reset-type", &[token("HARD"), token("SOFT")]).optional()],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|saveconfig",
                    arity: Exactly(2),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Writes the cluster configuration file now.",
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|set-config-epoch",
                    arity: Exactly(3),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Sets the configuration epoch of a fresh node.",
                    args: &[integer("config-epoch")],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|setslot",
                    arity: AtLeast(4),
                    flags: ADMIN.and(STALE).and(NO_ASYNC_LOADING),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(1)",
                    summary: "Changes the owner or the migration state of a hash slot.",
                    args: &[
                        integer("slot"),
                        one_of(
                            "subcommand",
                            &[
                                string("importing").after("IMPORTING").display("node-id"),
                                string("migrating").after("MIGRATING").display("node-id"),
                                string("node").after("NODE").display("node-id"),
                                token("STABLE"),
                            ],
                        ),
                        integer("timeout").after("TIMEOUT").since("8.0.0").optional(),
                    ],
                    history: &[("8.0.0", "Added the `TIMEOUT` option.")],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|shards",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    categories: Categories::NONE,
                    since: "7.0.0",
                    complexity: "O(N) where N is the number of nodes.",
                    summary: "Lists the shards with their slots and nodes.",
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|slaves",
                    arity: Exactly(3),
                    flags: ADMIN.and(STALE),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) for N replicas.",
                    summary: "Lists the replicas of a primary.",
                    args: &[string("node-id")],
                    tips: &["nondeterministic_output"],
                    deprecated: Some(Deprecated { since: "5.0.0", replaced_by: "`CLUSTER REPLICAS`" }),
                    ..CLUSTER
                },
                Spec {
                    name: "cluster|slots",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    categories: Categories::NONE,
                    since: "3.0.0",
                    complexity: "O(N) where N is the number of nodes.",
                    summary: "Lists ranges of hash slots with the nodes that serve them.",
                    history: &[("4.0.0", "Added node IDs."), ("7.0.0", "Added additional networking metadata field.")],
                    tips: &["nondeterministic_output"],
                    ..CLUSTER
                },
            ],
            ..CLUSTER
        },
    },
    Row {
        run: disabled,
        spec: Spec {
            name: "readonly",
            arity: Exactly(1),
            flags: LOADING.and(STALE).and(FAST),
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Lets this connection read from a replica in a cluster.",
            ..CLUSTER
        },
    },
    Row {
        run: disabled,
        spec: Spec {
            name: "readwrite",
            arity: Exactly(1),
            flags: LOADING.and(STALE).and(FAST),
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Takes READONLY back.",
            ..CLUSTER
        },
    },
];

fn disabled(_ctx: &mut AdminCtx, _args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    Err(Error::Text("ERR This instance has cluster support disabled"))
}
