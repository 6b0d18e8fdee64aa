//! Through a proxy of the hospital.

use crate::fixture::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medfed_net::{LinkProblem, Proxy};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// A proxy that answers `refusal` unless the user is the right one.
async fn proxy(refusal: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await?;
                    if line.trim().is_empty() {
                        break;
                    }
                    head.push(line.trim().to_owned());
                }
                let target = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
                let basic = format!("Proxy-Authorization: Basic {}", STANDARD.encode("hospital:s3cret"));
                if !head.contains(&basic) {
                    return stream.write_all(refusal.as_bytes()).await;
                }
                let mut far = TcpStream::connect(target).await?;
                stream.write_all(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n").await?;
                copy_bidirectional(&mut stream, &mut far).await.map(|_| ())
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_carries_the_connection_for_who_may_use_it() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let place = proxy("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let right: Proxy = format!("http://hospital:s3cret@{place}").parse().unwrap();
    let by = route_by(coordinator.address(), Some(right), None);
    let mut site = federation.join_by("a", by, QUICK).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
    let wrong: Proxy = place.to_string().parse().unwrap();
    let site = federation.join_by("a", route_by(coordinator.address(), Some(wrong), None), QUICK).await;
    match fails(&site).await {
        LinkProblem::Proxy { detail, .. } => assert!(detail.contains("user and a password"), "{detail}"),
        problem => panic!("{problem:?}"),
    }
}

#[tokio::test]
async fn what_a_proxy_says_is_told() {
    let federation = Federation::new(&["a"]);
    let coordinator = federation.coordinate().await;
    for (answer, told) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        ("SSH-2.0-x\r\n\r\n", "SSH-2.0-x"),
        ("", "closed the connection"),
    ] {
        let by: Proxy = proxy(answer).await.to_string().parse().unwrap();
        let site = federation.join_by("a", route_by(coordinator.address(), Some(by), None), QUICK).await;
        match fails(&site).await {
            LinkProblem::Proxy { detail, .. } => assert!(detail.contains(told), "{detail}"),
            problem => panic!("{answer:?}: {problem:?}"),
        }
    }
}
