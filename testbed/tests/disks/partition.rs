//! Sleds that are cut off from everybody else. Needs root and nft.

use crate::{LIMIT, cluster};
use camino_tempfile::Utf8TempDir;
use nexus_client::sleds::SledLiveness;
use std::{
    net::{SocketAddr, TcpListener},
    process::Command,
    time::Duration,
};
use testbed::{Cluster, ClusterBuilder, check_partition, wait_for};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// A packet on loopback that is not dropped is there in less than a millisecond; a busy machine takes longer.
const UNANSWERED: Duration = Duration::from_secs(1);

/// Whether this can be tried here. In CI it can.
pub(crate) fn can_cut_off() -> bool {
    let refusal = check_partition().err();
    if let Some(refusal) = &refusal {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs this: {refusal:#}");
        eprintln!("left out: {refusal:#}");
    }
    refusal.is_none()
}

fn names(who: &[&str]) -> Vec<String> {
    who.iter().map(|who| (*who).to_owned()).collect()
}

fn address(cluster: &Cluster, who: &str) -> SocketAddr {
    let port = if who == "nexus-1" { 12221 } else { 12345 };
    SocketAddr::new(cluster.record().unwrap().node(who).unwrap().address, port)
}

/// Whether one reaches another one, by the addresses that they have.
async fn reaches(cluster: &Cluster, from: &str, to: &str) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address(cluster, from).ip(), 0)).unwrap();
    matches!(timeout(UNANSWERED, socket.connect(address(cluster, to))).await, Ok(Ok(_)))
}

async fn is(cluster: &Cluster, who: &str, liveness: SledLiveness) {
    wait_for(&format!("{who} to be {liveness:?}"), LIMIT, async || {
        let sleds = cluster.operator().unwrap().sleds().await.map_err(|error| error.to_string())?;
        let sled = sleds.into_iter().find(|sled| sled.name == who).expect("it is there");
        if sled.liveness == liveness { Ok(()) } else { Err(format!("{:?}", sled.liveness)) }
    })
    .await
    .unwrap();
}

/// Whether the kernel has rules of this cluster.
fn has_rules(cluster: &Cluster) -> bool {
    let output = Command::new("/usr/sbin/nft").args(["list", "tables"]).output().expect("nft is there");
    assert!(output.status.success());
    let table = format!("bobsled_testbed_{}\n", cluster.record().unwrap().number);
    String::from_utf8(output.stdout).unwrap().contains(&table)
}

#[tokio::test]
async fn who_is_cut_off_reaches_nobody_is_offline_and_comes_back_when_that_is_healed() {
    if !can_cut_off() {
        return;
    }
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "cut", 3, 0).await;
    cluster.wait_in_service().await.unwrap();
    assert!(reaches(&cluster, "sled-a", "sled-b").await && reaches(&cluster, "sled-b", "nexus-1").await);
    // A connection that is there already is cut, too.
    let mut open = TcpStream::connect(address(&cluster, "sled-b")).await.unwrap();

    cluster.partition(&names(&["sled-b"])).unwrap();
    for (from, to) in
        [("sled-a", "sled-b"), ("sled-b", "sled-a"), ("sled-b", "nexus-1"), ("nexus-1", "sled-b")]
    {
        assert!(!reaches(&cluster, from, to).await, "{from} reaches {to}");
    }
    for (from, to) in
        [("sled-a", "sled-c"), ("sled-b", "sled-b"), ("nexus-1", "sled-a"), ("sled-c", "nexus-1")]
    {
        assert!(reaches(&cluster, from, to).await, "{from} does not reach {to}");
    }
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    open.write_all(request).await.unwrap();
    assert!(timeout(UNANSWERED, open.read_u8()).await.is_err(), "it was answered");
    // Everything that the sled calls, it calls from its own address: so nobody hears of it.
    is(&cluster, "sled-b", SledLiveness::Offline).await;
    is(&cluster, "sled-a", SledLiveness::Online).await;
    // The rest of the machine's loopback is as it was, and the sled lives: who asks it from its own host is answered.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(elsewhere.local_addr().unwrap()).await.unwrap();
    assert!(cluster.sled("sled-b").unwrap().inventory().await.is_ok());
    cluster.restart("sled-b").await.unwrap();
    assert_eq!(cluster.status().await.unwrap().partitions, [["sled-b".to_owned()].into()]);

    let mut waits = TcpStream::connect(address(&cluster, "sled-c")).await.unwrap();
    // Two that are cut off together reach each other, and leave nobody behind who was cut off with one of them.
    cluster.partition(&names(&["sled-b", "sled-c"])).unwrap();
    assert!(reaches(&cluster, "sled-b", "sled-c").await && reaches(&cluster, "sled-c", "sled-b").await);
    assert!(!reaches(&cluster, "sled-c", "sled-a").await && !reaches(&cluster, "nexus-1", "sled-c").await);
    waits.write_all(request).await.unwrap();
    assert!(timeout(UNANSWERED, waits.read_u8()).await.is_err(), "it was answered");

    assert!(cluster.heal_partitions().unwrap() && !cluster.heal_partitions().unwrap());
    assert!(reaches(&cluster, "sled-b", "sled-a").await && !has_rules(&cluster));
    assert_eq!(timeout(LIMIT, waits.read_u8()).await.unwrap().unwrap(), b'H', "what was lost is sent again");
    is(&cluster, "sled-b", SledLiveness::Online).await;
    is(&cluster, "sled-c", SledLiveness::Online).await;
}

#[tokio::test]
async fn nobody_is_cut_off_when_the_cluster_has_ended_and_nobody_who_is_not_there() {
    if !can_cut_off() {
        return;
    }
    let temp = Utf8TempDir::new().unwrap();
    let build = || ClusterBuilder::new(temp.path()).name("end").sleds(2);
    let cluster = build().start().await.unwrap();
    let refusal = cluster.partition(&names(&["sled-b", "sled-q"])).unwrap_err().to_string();
    assert!(refusal.contains("there is nexus-1, sled-a, sled-b"), "{refusal}");
    assert!(cluster.partition(&[]).is_err() && cluster.record().unwrap().partitions.is_empty());
    assert!(!has_rules(&cluster));
    cluster.partition(&names(&["nexus-1"])).unwrap();
    assert!(has_rules(&cluster) && !reaches(&cluster, "nexus-1", "sled-a").await);
    assert!(reaches(&cluster, "sled-b", "sled-a").await);
    let cluster = cluster.detach().unwrap();
    assert!(cluster.down().await.unwrap() && !has_rules(&cluster));
    let refusal = cluster.partition(&names(&["sled-b"])).unwrap_err().to_string();
    assert!(refusal.contains("is stopped"), "{refusal}");
    // What only the record knows of is ended, too: the rules of a cluster whose machine was started anew are not there.
    let cluster = build().start().await.unwrap();
    cluster.partition(&names(&["sled-a"])).unwrap();
    let table = format!("bobsled_testbed_{}", cluster.record().unwrap().number);
    assert!(
        Command::new("/usr/sbin/nft").args(["delete", "table", "ip", &table]).status().unwrap().success()
    );
    let left = Cluster::open(temp.path(), "end").unwrap();
    drop(cluster);
    assert!(left.record().unwrap().partitions.is_empty());
    left.reset().await.unwrap();
}
