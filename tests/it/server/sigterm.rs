//! The process itself, told to end while it answers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use candle_core::quantized::gguf_file::Value;
use serde_json::json;

use crate::{damaged, desk::Desk};

/// Asks for a text that takes longer than this test.
fn ask(address: &str, stream: bool) -> TcpStream {
    let body = json!({
        "model": "mine", "prompt": "in the", "stream": stream, "max_tokens": 60_000,
        "ignore_eos": true,
    });
    let body = body.to_string();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(
        socket,
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    socket
}

#[test]
fn a_server_that_is_told_to_end_tells_those_who_wait_and_ends_well() {
    let desk = Desk::new();
    let mut tiny = damaged::small();
    tiny.set("qwen2.context_length", Value::U32(65_536));
    std::fs::copy(tiny.write().0.path(), desk.at("mine.gguf")).unwrap();
    desk.out(&["models", "add", "mine.gguf"]);
    desk.write("tutti.toml", "load = [\"mine\"]\n[server]\ngrace_seconds = 1\n");
    let mut serve = desk.command(&["serve", "--port", "0"]);
    let mut server = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim().split("http://").nth(1).unwrap().trim_end_matches("/v1").to_owned();

    let mut streamed = ask(&address, true);
    let mut whole = ask(&address, false);
    // Both run once the first has text.
    let mut begun = [0; 2048];
    let mut told = String::new();
    while !told.contains("\"text\"") {
        let count = streamed.read(&mut begun).unwrap();
        told += &String::from_utf8_lossy(&begun[..count]);
    }
    let since = Instant::now();
    let pid = server.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());

    streamed.read_to_string(&mut told).unwrap();
    let end = told.trim_end_matches("\r\n0\r\n\r\n").lines().rfind(|line| !line.is_empty());
    assert!(end.is_some_and(|line| line.contains("\"code\":\"engine_stopped\"")), "{end:?}");
    assert!(!told.contains("[DONE]"));
    told.clear();
    whole.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.contains("\"code\":\"engine_stopped\""), "{told}");
    assert!(server.wait().unwrap().success());
    assert!(since.elapsed() >= Duration::from_secs(1), "running requests have their grace");
    assert!(TcpStream::connect(&address).is_err());
}
