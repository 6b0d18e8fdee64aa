//! Clients that mean no good, and slow ones: neither training nor others notice.

use crate::server::{Dashboard, Events, small};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What comes back for these bytes, up to the end or to nothing.
fn answer(dashboard: &Dashboard, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(dashboard.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The connection may be closed before all of it is written or read.
    let _ = stream.write_all(sent);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn training_and_others_do_not_notice_hostile_clients() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 4, 10);
    dashboard.order("start", "");

    // Streams that nobody reads, connections that say nothing, and heads that never end.
    let host = dashboard.address;
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(host).unwrap()).collect();
    let unread: Vec<Events> = (0..20).map(|_| Events::open(&dashboard, &[])).collect();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(host).unwrap()).collect();
    for stream in &mut slow {
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ").unwrap();
    }
    let mut bodies: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(host).unwrap()).collect();
    for stream in &mut bodies {
        write!(
            stream,
            "POST /api/training/config HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n{{"
        )
        .unwrap();
    }

    // Garbage is refused, and too much of anything.
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = answer(&dashboard, garbage);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    let head = format!("POST /api/training/config HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    let large = format!("{head}Content-Length: 4000000\r\n\r\n{}", "x".repeat(100));
    assert!(answer(&dashboard, large.as_bytes()).starts_with("HTTP/1.1 413"));
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(20));
    let refused = answer(&dashboard, chunked.as_bytes());
    // The answer may be lost when the connection is closed with the rest unread.
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 413"), "{refused}");
    let deep = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    let (status, answer) = dashboard.post("/api/training/config", &deep);
    assert_eq!(status, 400, "{answer}");
    let many: Vec<String> = (0..20_000).map(|key| format!("\"key{key}\":1")).collect();
    let began = Instant::now();
    let (status, answer) = dashboard.post("/api/training/config", &format!("{{{}}}", many.join(",")));
    assert_eq!(status, 422, "{answer}");

    // Others are answered meanwhile, and training comes to its end.
    dashboard.state();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    dashboard.wait_for("completed");
    assert_eq!(dashboard.rounds(), 4);
    drop((silent, unread, slow, bodies));
}

#[cfg(unix)]
#[test]
fn who_connects_and_says_nothing_gives_way_to_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start_with_files(folder.path(), 200);
    let mut stream = Events::open(&dashboard, &[]);
    // Several times as many connections as this dashboard may have.
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..5 {
        silent.extend((0..60).map(|_| TcpStream::connect(dashboard.address).unwrap()));
        assert_eq!(dashboard.state()["status"], "idle");
    }
    // The first of them was closed; the stream of events, which is being answered all the time, was not.
    silent[0].set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    dashboard.order("reset", "");
    assert_eq!(stream.next().as_deref(), Some("state"));
}

#[test]
fn paths_and_methods_that_are_not_there_are_refused_in_the_api_s_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 2, 3);
    for path in [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/runs/none",
        "/api/runs/%ff",
        "/api/audit",
        "/api/audit/entry/x",
    ] {
        let (status, _, body) = dashboard.send("GET", path, &[], "");
        let answer: serde_json::Value =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
        assert_eq!((status, &answer["success"]), (404, &serde_json::json!(false)), "{path}: {answer}");
    }
    for path in [
        "/api/training/logs?limit=0",
        "/api/training/logs?limit=x",
        "/api/audit/entries?offset=-1",
        "/api/audit/entries?limit=5000",
    ] {
        let (status, _, body) = dashboard.send("GET", path, &[], "");
        assert!(status == 400 && body.contains("\"success\":false"), "{path}: {status} {body}");
    }
    let (status, head, _) = dashboard.send("DELETE", "/api/training/config", &[], "");
    assert!(status == 405 && head.contains("allow: GET,HEAD,POST"), "{status} {head}");
    let (status, _, body) = dashboard.send("GET", "/healthz", &[], "");
    assert_eq!(status, 200);
    // A folder that cannot be read is named in the log, not to strangers.
    std::fs::create_dir_all(folder.path().join("results")).unwrap();
    std::fs::write(folder.path().join("results/medfed.sqlite"), "no database").unwrap();
    assert!(!body.contains("results"), "{body}");
    let mut events = Events::open(&dashboard, &[]);
    while dashboard.get("/healthz", &[]) != 503 {
        events.next().unwrap();
    }
    let (_, _, body) = dashboard.send("GET", "/healthz", &[], "");
    assert!(body.contains("cannot be read") && !body.contains("sqlite") && !body.contains('/'), "{body}");
}
