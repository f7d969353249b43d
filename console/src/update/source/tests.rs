#![allow(clippy::unwrap_used)]
use super::*;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

/// A server of `bytes` that hangs up after `each` bytes of a body; with or without ranges. Returns its address.
fn server(bytes: Vec<u8>, each: usize, ranges: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let from = lines.by_ref().take_while(|line| !line.is_empty()).find_map(|line| {
                line.to_lowercase().strip_prefix("range: bytes=")?.trim_end_matches('-').parse::<usize>().ok()
            });
            let from = if ranges { from.unwrap_or(0) } else { 0 };
            let status = if ranges { "206 Partial Content" } else { "200 OK" };
            let left = &bytes[from.min(bytes.len())..];
            let mut stream = stream;
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", left.len());
            let _ = stream.write_all(&left[..left.len().min(each)]);
        }
    });
    format!("http://{address}/raven.bundle")
}

fn bundle() -> Vec<u8> {
    let manifest = vec![b' '; 500];
    let len = (manifest.len() as u32).to_le_bytes();
    [b"RAVENUP1".to_vec(), len.to_vec(), vec![7; 64], manifest, (0..300_000).map(|n| n as u8).collect()].concat()
}

/// Header, then from `offset` on to the end.
fn fetched(mut source: Source, offset: u64) -> (Vec<u8>, Vec<u8>) {
    let header = source.header().unwrap();
    let total = (bundle().len() - header.len()) as u64;
    source.go_to(header.len() as u64, offset, total).unwrap();
    let mut rest = vec![0; (total - offset) as usize];
    source.read_exact(&mut rest).unwrap();
    (header, rest)
}

fn is_right((header, rest): (Vec<u8>, Vec<u8>), offset: usize) {
    assert!(bundle().starts_with(&header) && header.len() == FIXED + 500);
    assert!(bundle()[header.len() + offset..] == rest);
}

#[test]
fn a_server_that_hangs_up_is_asked_for_the_rest() {
    let url = server(bundle(), 70_000, true);
    is_right(fetched(Source::open(&url).unwrap(), 0), 0);
    is_right(fetched(Source::open(&url).unwrap(), 123_456), 123_456);
}

#[test]
fn a_server_without_ranges_is_read_from_the_beginning() {
    let url = server(bundle(), usize::MAX, false);
    is_right(fetched(Source::open(&url).unwrap(), 123_456), 123_456);
}

#[test]
fn a_file_and_a_stream_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b");
    std::fs::write(&path, bundle()).unwrap();
    is_right(fetched(Source::open(path.to_str().unwrap()).unwrap(), 5), 5);
    let stream = Source::Stream(Box::new(io::Cursor::new(bundle())), "standard input".into(), 0);
    is_right(fetched(stream, 5), 5);
}

#[test]
fn what_is_no_bundle_or_not_there_is_told_at_once() {
    let stream = |bytes: &[u8]| Source::Stream(Box::new(io::Cursor::new(bytes.to_vec())), "x".into(), 0);
    assert!(stream(b"PK\x03\x04").header().unwrap_err().to_string().contains("too short"));
    assert!(stream(&[7; 100]).header().unwrap_err().to_string().contains("no update bundle"));
    assert!(Source::open("/not/there").is_err());
}
