//! Several Garage nodes that keep every object three times: what is written survives the loss of one of them.

use serde_json::json;

use super::node::{Node, Settings};
use super::{ACCESS_KEY, BUCKET, SECRET_KEY, url};
use crate::process::wait_for;

/// What each node says it has room for; only the relation between nodes counts.
const CAPACITY_BYTES: u64 = 10_000_000_000;

/// Nodes with one bucket, replication factor 3: reads and writes need two of the three copies.
#[derive(Debug)]
pub struct GarageCluster {
    nodes: Vec<Node>,
    // Last: the nodes are killed before their data goes.
    _directory: tempfile::TempDir,
}

impl GarageCluster {
    /// Starts `count` nodes (at least three), gives them a layout, a key and a bucket, and waits until all are healthy.
    pub fn start(count: usize) -> Self {
        let directory = tempfile::Builder::new().prefix("lifeboat-garage-").tempdir().unwrap();
        let start = |number| {
            let place = directory.path().join(format!("node-{number}"));
            Node::start(Settings { replication_factor: 3, ..Settings::in_directory(&place) })
        };
        let cluster = Self { nodes: (0..count).map(start).collect(), _directory: directory };
        cluster.set_up();
        cluster
    }

    /// `s3://BUCKET/PREFIX?…` by way of node `i`.
    pub fn url(&self, i: usize, prefix: &str) -> String {
        url(BUCKET, prefix, self.nodes[i].s3())
    }

    /// `http://ADDRESS:PORT` where node `i` serves S3.
    pub fn endpoint(&self, i: usize) -> String {
        format!("http://{}", self.nodes[i].s3())
    }

    /// Node `i`.
    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i]
    }

    /// Node `i`, to damage what it holds.
    pub fn node_mut(&mut self, i: usize) -> &mut Node {
        &mut self.nodes[i]
    }

    /// Ends node `i` at once (SIGKILL). The others notice when their connections to it break.
    pub fn kill(&mut self, i: usize) {
        self.nodes[i].kill();
    }

    /// Starts node `i` again, on the same ports and the same data, and waits until every running node reaches it.
    pub fn restart(&mut self, i: usize) {
        self.nodes[i].restart();
        self.wait_until_healthy();
    }

    /// Waits until every node is connected to all others. All must be running.
    pub fn wait_until_healthy(&self) {
        for node in &self.nodes {
            self.wait_for_status(node, "healthy");
        }
    }

    /// Waits until node `i` says that the others are too few (`unavailable`), too few for full copies (`degraded`), or
    /// all there (`healthy`).
    pub fn wait_until(&self, i: usize, status: &str) {
        self.wait_for_status(&self.nodes[i], status);
    }

    fn wait_for_status(&self, node: &Node, status: &str) {
        let health = || node.try_admin("GetClusterHealth", None);
        wait_for(
            || format!("a node to be {status}, it says {:?}\n{}", health(), node.log()),
            || (health().ok()?["status"] == status).then_some(()),
        );
    }

    /// Connects the nodes, spreads the data over them, makes the key and the bucket.
    fn set_up(&self) {
        let first = &self.nodes[0];
        let peers: Vec<_> = self.nodes.iter().skip(1).map(Node::peer).collect();
        // A node that is not listening yet is asked again.
        wait_for(
            || format!("the nodes to connect\n{}", first.log()),
            || {
                let outcomes = first.try_admin("ConnectClusterNodes", Some(json!(peers))).ok()?;
                let all = outcomes.as_array()?.iter().all(|outcome| outcome["success"] == true);
                all.then_some(())
            },
        );
        let role = |(number, node): (usize, &Node)| json!({ "id": node.id(), "zone": format!("zone-{number}"), "capacity": CAPACITY_BYTES, "tags": [] });
        let roles: Vec<_> = self.nodes.iter().enumerate().map(role).collect();
        first.admin("UpdateClusterLayout", Some(json!({ "roles": roles })));
        first.admin("ApplyClusterLayout", Some(json!({ "version": 1 })));
        for node in &self.nodes {
            wait_for(
                || format!("the layout to reach a node\n{}", node.log()),
                || (node.try_admin("GetClusterLayout", None).ok()?["version"] == 1).then_some(()),
            );
        }
        self.wait_until_healthy();
        let key = json!({ "accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY, "name": "test" });
        first.admin("ImportKey", Some(key));
        first.create_bucket(BUCKET, ACCESS_KEY);
        // Another node may learn of the bucket a moment later; reads with a quorum are not used for aliases.
        for node in &self.nodes {
            wait_for(|| format!("the bucket to reach a node\n{}", node.log()), || node.bucket_id(BUCKET));
        }
    }
}
