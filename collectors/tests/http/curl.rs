//! curl as a sender, with each shape and encoding.

use crate::dialects::pack;
use crate::support::{Rig, event};
use std::io::Write;
use std::process::{Command, Stdio};

crate::tests!(curl_sends_each_shape_and_encoding);

/// The status, and what was answered.
fn curl(rig: &Rig, path: &str, arguments: &[&str], body: &[u8]) -> Option<(String, String)> {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}", "--data-binary", "@-"])
        .args(arguments)
        .arg(format!("http://{}{path}", rig.http))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    Some((status.to_owned(), answer.to_owned()))
}

fn curl_sends_each_shape_and_encoding() {
    let rig = Rig::new();
    let lines: String = (0..200).map(|n| event(n, 700) + "\n").collect();
    let array = format!("[{}]", (0..200).map(|n| event(n, 700)).collect::<Vec<_>>().join(","));
    let bulk = (0..200).map(|n| ["{\"index\":{}}\n", &event(n, 700), "\n"].concat()).collect::<String>();
    let xml = format!("<Events>{}</Events>", "<Event><System><EventID>1</EventID></System></Event>".repeat(200));
    let mut sum = 0;
    for (path, body) in [("/", &lines), ("/api/data/windows", &array), ("/_bulk", &bulk), ("/x", &xml)] {
        for encoding in ["identity", "gzip", "deflate", "zstd"] {
            for more in [&[][..], &["--http1.0"], &["-H", "Transfer-Encoding: chunked"], &["-X", "PUT"]] {
                let header = format!("Content-Encoding: {encoding}");
                let arguments = [&["-H", &header], more].concat();
                let Some((status, answer)) = curl(&rig, path, &arguments, &pack(encoding, body.as_bytes())) else {
                    println!("SKIPPED: curl is not installed");
                    return;
                };
                assert_eq!(status, "200", "{path} {arguments:?}: {answer}");
                sum += 200;
                assert_eq!(rig.kept().len(), sum, "{path} {arguments:?}");
            }
        }
    }
    let (status, _) = curl(&rig, "/", &[], &vec![b'x'; 40 << 20]).unwrap();
    assert_eq!(status, "413", "curl reads the answer to what is too long");
}
