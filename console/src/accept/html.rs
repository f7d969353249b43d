//! The report as one page that needs nothing beside it: no script runs, nothing is loaded. The signed JSON is in it.

use super::report::{Acceptance, Check, Path, Section, Verdict};
use crate::time;
use std::fmt::Write as _;

/// Before and behind the signed text, in the page.
pub const REPORT: &str = "<script type=\"application/json\" id=\"report\">";
/// The same of the signature.
pub const SIGNATURE: &str = "<script type=\"application/json\" id=\"signature\">";
/// Behind either.
pub const END: &str = "</script>";

const STYLE: &str = "\
:root{--ink:#1b1f24;--dim:#5b6570;--line:#d8dde3;--page:#fff;--soft:#f4f6f8;--pass:#1a7f37;--look:#9a6700;--fail:#cf222e;--mark:#0969da}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--dim:#9aa4af;--line:#343b44;--page:#14181d;--soft:#1d232a;--pass:#3fb950;--look:#d29922;--fail:#f85149;--mark:#58a6ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2rem 1.25rem;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}h3{font-size:.95rem;margin:1.25rem 0 .25rem}
p{margin:.25rem 0}.dim{color:var(--dim)}
.verdict{display:inline-block;margin:1rem 0;padding:.5rem 1rem;border-radius:.4rem;font-weight:600}
.verdict.pass{background:#1a7f37;color:#fff}.verdict.fail{background:#cf222e;color:#fff}
table{width:100%;border-collapse:collapse}td{padding:.4rem .5rem;border-top:1px solid var(--line);vertical-align:top}
td:first-child{width:4.5rem;font-weight:600}td:nth-child(2){width:35%;overflow-wrap:anywhere}td:last-child{overflow-wrap:anywhere}
.pass{color:var(--pass)}.look{color:var(--look)}.fail{color:var(--fail)}.untested{color:var(--dim)}
.remedy{color:var(--dim)}svg{display:block;width:100%;height:auto;background:var(--soft);border-radius:.3rem}
svg text{font:11px system-ui,sans-serif;fill:var(--dim)}code{font-size:.85em;overflow-wrap:anywhere}
@media print{body{max-width:none;padding:0}}";

/// The page.
pub fn page(acceptance: &Acceptance, document: &str, signature: &str) -> String {
    let mut page = String::new();
    let device = text(&acceptance.device);
    let class = if acceptance.passed { "pass" } else { "fail" };
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Acceptance of {device}</title><style>{STYLE}</style></head><body>\n\
         <h1>Acceptance test of {device}</h1>\n<p class=\"dim\">Raven {}, from {} to {}</p>\n\
         <p class=\"verdict {class}\">{}</p>\n",
        text(&acceptance.version),
        time::format(acceptance.began_ns, 0),
        time::format(acceptance.ended_ns, 0),
        text(&acceptance.verdict()),
    );
    acceptance.sections.iter().for_each(|part| section(&mut page, part));
    if !acceptance.paths.is_empty() {
        page.push_str("<h2>Measurements</h2>\n");
        acceptance.paths.iter().for_each(|measured| path(&mut page, measured));
    }
    let _ = write!(
        page,
        "<h2>Signature</h2>\n<p class=\"dim\">The device signed what is shown here, as JSON in this file: \
         <code>raven audit verify FILE</code> checks it.</p>\n<p><code>{}</code></p>\n\
         {REPORT}{document}{END}\n{SIGNATURE}{signature}{END}\n</body></html>\n",
        text(signature),
    );
    page
}

/// What was signed, and the signature, of a page; `None` where it is none.
pub fn signed(page: &str) -> Option<(&str, &str)> {
    let part = |begin| Some(page.split_once(begin)?.1.split_once(END)?.0);
    Some((part(REPORT)?, part(SIGNATURE)?))
}

/// Text as text.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in crate::escape::text(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}

fn section(page: &mut String, section: &Section) {
    let _ = writeln!(page, "<h2>{}</h2>\n<table>", text(section.title));
    section.checks.iter().for_each(|one| check(page, one));
    page.push_str("</table>\n");
}

fn check(page: &mut String, check: &Check) {
    let (class, word) = match check.verdict {
        Verdict::Pass => ("pass", "pass"),
        Verdict::Look => ("look", "look"),
        Verdict::Fail => ("fail", "FAIL"),
        Verdict::Untested => ("untested", "not tested"),
    };
    let name = if check.subject.is_empty() { check.name.clone() } else { format!("{} {}", check.name, check.subject) };
    let evidence: Vec<String> = check.evidence.iter().map(|line| text(line)).collect();
    let remedy = if check.remedy.is_empty() {
        String::new()
    } else {
        format!("<div class=\"remedy\">→ {}</div>", text(&check.remedy))
    };
    let _ = writeln!(
        page,
        "<tr><td class=\"{class}\">{word}</td><td>{}</td><td>{}{remedy}</td></tr>",
        text(&name),
        evidence.join("<br>")
    );
}

fn path(page: &mut String, path: &Path) {
    let _ = writeln!(page, "<h3>{} ({})</h3>", text(&path.destination), text(&path.host));
    if path.rtts_us.iter().any(Option::is_some) {
        page.push_str("<p class=\"dim\">Round-trip times, in the order in which they were measured; a red mark is a lost one.</p>\n");
        page.push_str(&times(&path.rtts_us));
    }
    if let Some(trace) = path.trace.as_ref().filter(|trace| !trace.hops.is_empty()) {
        page.push_str("<p class=\"dim\">Median time to each router on the way.</p>\n");
        let rows: Vec<(String, Option<u32>)> = trace
            .hops
            .iter()
            .map(|hop| {
                let who =
                    hop.routers.first().map_or_else(|| "no answer".to_owned(), |router| router.address.to_string());
                (format!("{} {who}", hop.hop), hop.rtt.map(|rtt| rtt.p50_us))
            })
            .collect();
        page.push_str(&bars(&rows));
    }
}

/// Width of a plot, and the room for words at its left.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;

fn milliseconds(us: u32) -> String {
    let ms = f64::from(us) / 1000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// A line of times.
fn times(rtts: &[Option<u32>]) -> String {
    const HEIGHT: f64 = 160.0;
    const FOOT: f64 = 20.0;
    let most = rtts.iter().flatten().copied().max().unwrap_or(1).max(1);
    let step = (WIDTH - LEFT - 10.0) / (rtts.len().max(2) - 1) as f64;
    let x = |at: usize| LEFT + at as f64 * step;
    let y = |us: u32| HEIGHT - FOOT - f64::from(us) / f64::from(most) * (HEIGHT - FOOT - 15.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"round-trip times\">");
    for share in [0, most / 2, most] {
        let at = y(share);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"var(--line)\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 10.0,
            LEFT - 8.0,
            at + 4.0,
            milliseconds(share)
        );
    }
    // Where one is lost the line is broken.
    for part in rtts.iter().enumerate().collect::<Vec<_>>().split(|(_, rtt)| rtt.is_none()) {
        let points: Vec<String> =
            part.iter().filter_map(|(at, rtt)| Some(format!("{:.1},{:.1}", x(*at), y((**rtt)?)))).collect();
        match &points[..] {
            [] => {}
            [one] => {
                let (x, y) = one.split_once(',').unwrap_or(("0", "0"));
                let _ = write!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"2\" fill=\"var(--mark)\"/>");
            }
            _ => {
                let _ = write!(
                    svg,
                    "<polyline fill=\"none\" stroke=\"var(--mark)\" stroke-width=\"1.5\" points=\"{}\"/>",
                    points.join(" ")
                );
            }
        }
    }
    for (at, _) in rtts.iter().enumerate().filter(|(_, rtt)| rtt.is_none()) {
        let x = x(at);
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"12\" y2=\"{:.1}\" stroke=\"var(--fail)\" stroke-width=\"2\"/>",
            HEIGHT - FOOT
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A bar for each.
fn bars(rows: &[(String, Option<u32>)]) -> String {
    const ROW: f64 = 22.0;
    const NAME: f64 = 300.0;
    let most = rows.iter().filter_map(|(_, us)| *us).max().unwrap_or(1).max(1);
    let height = ROW * rows.len() as f64 + 10.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"time to each router\">");
    for (at, (name, us)) in rows.iter().enumerate() {
        let y = 5.0 + at as f64 * ROW;
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            NAME - 8.0,
            y + 15.0,
            text(name)
        );
        let Some(us) = us else { continue };
        let width = f64::from(*us) / f64::from(most) * (WIDTH - NAME - 90.0);
        let _ = write!(
            svg,
            "<rect x=\"{NAME}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" rx=\"2\" fill=\"var(--mark)\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y + 4.0,
            width.max(1.0),
            NAME + width.max(1.0) + 6.0,
            y + 15.0,
            milliseconds(*us)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_is_text_and_nothing_else() {
        assert_eq!(
            text("<script>alert(1)</script> & \"x\""),
            "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;"
        );
        let row = bars(&[("<b>".to_owned(), Some(5))]);
        assert!(row.contains("&lt;b&gt;") && !row.contains("<b>"), "{row}");
    }

    #[test]
    fn a_lost_ping_breaks_the_line_and_is_marked() {
        let svg = times(&[Some(100), Some(200), None, Some(300), None, Some(100), Some(90)]);
        assert_eq!(
            (svg.matches("<polyline").count(), svg.matches("<circle").count(), svg.matches("var(--fail)").count()),
            (2, 1, 2),
            "{svg}"
        );
    }

    #[test]
    fn what_was_signed_is_found_in_the_page() {
        let page = format!("x{REPORT}{{\"a\":1}}{END}\n{SIGNATURE}{{\"b\":2}}{END}y");
        assert_eq!(signed(&page), Some(("{\"a\":1}", "{\"b\":2}")));
        assert_eq!(signed("{}\n{}"), None);
    }
}
