//! An export that is told its host's address comes to everybody from there, so that whoever cuts that off cuts off the export.

use crate::agent::{Agent, Owned};
use ids::{RegionId, RegionSetId, VolumeId};
use serde_json::{Value, json};
use std::{fs, io, net::IpAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

/// Far longer than it takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the image.
const IMAGE: usize = 16 * 4096;

fn set(addresses: &[String]) -> Value {
    let members = addresses
        .iter()
        .map(|address| json!({ "region_id": RegionId::generate(), "incarnation": 1, "address": address }));
    let members: Vec<Value> = members.collect();
    json!({ "region_set": {
        "id": RegionSetId::generate(), "blocks_per_extent": 16, "extent_count": 1, "members": members
    } })
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Gives whoever comes first the range of the image that it asks for; tells from where it came.
async fn serve_once(server: TcpListener) -> io::Result<IpAddr> {
    let (mut socket, from) = server.accept().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let range = head.split_once("range: bytes=").and_then(|(_, rest)| rest.split_once("\r\n"));
    let (first, last) = range.and_then(|(range, _)| range.split_once('-')).expect("a range");
    let length = last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap();
    let told = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {first}-{last}/{IMAGE}\r\ncontent-length: {length}\r\netag: \"one\"\r\n\r\n"
    );
    socket.write_all(told.as_bytes()).await?;
    socket.write_all(&vec![7; length]).await?;
    Ok(from.ip())
}

#[tokio::test]
async fn an_export_comes_to_members_and_servers_from_the_address_that_it_is_given() {
    let agent = Agent::new(0);
    let (server, web) = listener().await;
    let (mut members, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (member, address) = listener().await;
        members.push(member);
        addresses.push(address);
    }
    let volume = |sub_volume: Value, parent: Value| {
        json!({ "id": VolumeId::generate(), "config_version": 1, "epoch": 1, "block_size": 4096,
                "sub_volumes": [sub_volume], "read_only_parent": parent })
    };
    let url = format!("http://{web}/image");
    let image = volume(json!({ "url": { "url": url, "size_bytes": IMAGE } }), Value::Null);
    let described = volume(set(&addresses), image);
    fs::write(agent.temp.path().join("volume.json"), described.to_string()).unwrap();
    let (listen, from) = (format!("unix:{}/nbd", agent.temp.path()), agent.ip().to_string());
    let export = ["volume", "export", "--volume", "volume.json", "--epoch", "1", "--listen", &listen];
    let _export = Owned(agent.command(&[&export[..], &["--from", &from]].concat()).spawn().unwrap());
    let asked = timeout(LIMIT, serve_once(server)).await.unwrap_or_else(|_| panic!("{}", agent.log()));
    assert_eq!(asked.unwrap(), agent.ip());
    for member in members {
        let came = timeout(LIMIT, member.accept()).await.unwrap_or_else(|_| panic!("{}", agent.log()));
        assert_eq!(came.unwrap().1.ip(), agent.ip());
    }
}
