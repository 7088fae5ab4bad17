//! What only a real connection shows: clients that go away, and shutdown.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tutti::{
    engine::FinishReason,
    report::runs::Runs,
    server::{ServerConfig, ServerError, serve},
};

use super::client::{CHAT, chat, config};
use crate::scripted::{Scripted, Step, finished, started, text};

struct Running {
    port: u16,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServerError>>,
}

async fn running(engine: &Arc<Scripted>, config: ServerConfig) -> Running {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        stopped.await.unwrap();
    };
    let ended = tokio::spawn(serve(listener, Arc::clone(engine) as _, config, shutdown));
    Running { port, stop, ended }
}

async fn connect(port: u16, body: &Value) -> TcpStream {
    connect_to(port, CHAT, body).await
}

/// Sends a request that asks the server to close after it.
async fn connect_to(port: u16, path: &str, body: &Value) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    socket.writable().await.unwrap();
    assert_eq!(socket.try_write(request.as_bytes()).unwrap(), request.len());
    socket
}

async fn read_until(socket: &TcpStream, wanted: &str) -> String {
    let mut received = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if text.contains(wanted) {
            return text;
        }
        socket.readable().await.unwrap();
        let count = match socket.try_read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            read => read.unwrap(),
        };
        assert_ne!(count, 0, "the server closed after {text}");
        received.extend_from_slice(&buffer[..count]);
    }
}

async fn within_seconds<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("took too long")
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_cancels_its_generation() {
    let engine = Scripted::new(|_| Ok(vec![started(), text("first"), Step::Hang]));
    let server = running(&engine, config()).await;
    let socket = connect(server.port, &chat(json!({ "stream": true }))).await;
    within_seconds(read_until(&socket, "first")).await;
    drop(socket);
    engine.wait_for_cancelled(1).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_cancels_its_generation() {
    let engine = Scripted::new(|_| Ok(vec![started(), Step::Hang]));
    let server = running(&engine, config()).await;
    let socket = connect(server.port, &chat(json!({}))).await;
    within_seconds(async {
        while engine.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(socket);
    engine.wait_for_cancelled(1).await;
}

#[tokio::test]
async fn shutdown_lets_a_running_request_finish() {
    let engine = Scripted::new(|_| {
        let pause = Step::Pause(Duration::from_millis(200));
        Ok(vec![started(), text("first"), pause, text("last"), finished(FinishReason::Stop, 3)])
    });
    let server = running(&engine, config()).await;
    let socket = connect(server.port, &chat(json!({ "stream": true }))).await;
    within_seconds(read_until(&socket, "first")).await;
    server.stop.send(()).unwrap();
    let rest = within_seconds(read_until(&socket, "[DONE]")).await;
    assert!(rest.contains("last"), "{rest}");
    within_seconds(server.ended).await.unwrap().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", server.port)).await.is_err());
}

/// A server that was told to stop while an answer without an end streams, within 50 ms.
async fn told_to_stop_in_a_stream() -> (JoinHandle<Result<(), ServerError>>, TcpStream) {
    let engine = Scripted::new(|_| Ok(vec![started(), text("first"), Step::Hang]));
    let grace = Duration::from_millis(50);
    let server = running(&engine, ServerConfig { grace, ..config() }).await;
    let socket = connect(server.port, &chat(json!({ "stream": true }))).await;
    within_seconds(read_until(&socket, "first")).await;
    server.stop.send(()).unwrap();
    (server.ended, socket)
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_its_grace() {
    let (ended, _socket) = told_to_stop_in_a_stream().await;
    within_seconds(ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_the_shutdown_cuts_is_told_so() {
    let (ended, socket) = told_to_stop_in_a_stream().await;
    let rest = within_seconds(read_until(&socket, "engine_stopped")).await;
    assert!(!rest.contains("[DONE]"), "{rest}");
    within_seconds(ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn every_answer_that_the_shutdown_cuts_is_told_so() {
    let stopped = "\"code\":\"engine_stopped\"";
    let (report, plain) = ("/v1/reports", json!({ "topic": "x", "model": "duet" }));
    let streamed = json!({ "topic": "x", "model": "duet", "stream": true });
    let writer = |stream| chat(json!({ "model": "duet-report", "stream": stream }));
    for (path, body, status, wanted) in [
        (CHAT, chat(json!({})), 503, stopped),
        ("/v1/completions", json!({ "model": "duet", "prompt": "x" }), 503, stopped),
        ("/v1/responses", json!({ "model": "duet", "input": "x" }), 503, stopped),
        ("/v1/responses", json!({ "model": "duet", "input": "x", "stream": true }), 200, "failed"),
        (report, plain, 503, stopped),
        (report, streamed, 200, "the server has stopped; resume the report"),
        (CHAT, writer(false), 503, stopped),
        (CHAT, writer(true), 200, "\"code\":\"report_failed\""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let engine = Scripted::new(|_| Ok(vec![started(), Step::Hang]));
        let reports = Some(Runs::open(folder.path()).unwrap());
        let grace = Duration::from_millis(50);
        let server = running(&engine, ServerConfig { grace, reports, ..config() }).await;
        let socket = connect_to(server.port, path, &body).await;
        within_seconds(async {
            while engine.seen().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        server.stop.send(()).unwrap();
        let told = within_seconds(read_until(&socket, wanted)).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {body}: {told}");
        assert!(!told.contains("[DONE]"), "{told}");
        within_seconds(server.ended).await.unwrap().unwrap();
    }
}
