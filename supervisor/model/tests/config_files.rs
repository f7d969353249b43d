//! Every file in `tests/bad` is refused with exactly the lines of the `.expected` file beside it; every file in
//! `tests/good` is accepted and reads back from what `to_toml` writes. `RAVEN_ACCEPT=1` writes the `.expected` files anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use raven_model::config::{Config, Disk, Listen};
use raven_model::units::ByteCount;
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "toml"));
    files.sort();
    files
}

fn refusal(text: &str) -> String {
    let errors = Config::from_toml(text, "raven.toml").expect_err("a bad file");
    errors.iter().flat_map(|error| [error.to_string(), "\n".to_owned()]).collect()
}

#[test]
fn every_bad_file_is_refused_with_place_reason_and_remedy() {
    let files = files("bad");
    assert!(files.len() >= 40);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let said = refusal(&text);
        let beside = path.with_extension("expected");
        if std::env::var_os("RAVEN_ACCEPT").is_some() {
            fs::write(&beside, &said).unwrap();
        }
        assert_eq!(said, fs::read_to_string(&beside).unwrap_or_default(), "{}", path.display());
    }
}

#[test]
fn every_good_file_is_accepted_and_reads_back() {
    for path in files("good") {
        let text = fs::read_to_string(&path).unwrap();
        let config =
            Config::from_toml(&text, "raven.toml").unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
        assert_eq!(Config::from_toml(&config.to_toml(), "written"), Ok(config), "{}", path.display());
    }
}

fn layered(factory: Option<&str>, site: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::layered(factory, ("raven.toml", site), env)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn the_later_layer_wins_key_by_key() {
    let factory = "schema = 1\n[site]\nname = 'factory'\n[buffer]\nkeep = '7d'\ndisk = '50%'\n[uplink.noc]\nkind = 'relp'\nto = 'noc:2514'\n";
    let site = "schema = 1\n[site]\nname = 'arena'\n[buffer]\ndisk = '60%'\n[uplink.noc]\nwindow = 7\n";
    let config =
        layered(Some(factory), site, &[("RAVEN_BUFFER__DISK", "2GiB"), ("RAVEN_DATA", "/x"), ("HOME", "/")]).unwrap();
    assert_eq!(config.site.name, "arena");
    assert_eq!(config.buffer.keep.to_string(), "7d");
    assert_eq!(config.buffer.disk, Disk::Amount(ByteCount(2 << 30)));
    assert_eq!((config.uplink["noc"].window, config.uplink["noc"].to.as_str()), (7, "noc:2514"));
}

#[test]
fn variables_name_keys_with_one_or_two_underscores() {
    let env = [
        ("RAVEN_SITE_NAME", "2026"),
        ("RAVEN_COLLECT__SYSLOG__UDP", "1514, 127.0.0.1:1515"),
        ("RAVEN_COLLECT_SYSLOG_TCP", "[1514]"),
        ("RAVEN_COLLECT_SYSLOG_CONNECTIONS_PER_SOURCE", "9"),
        ("RAVEN_UPLINK__LAB__KIND", "relp"),
        ("RAVEN_UPLINK__LAB__TO", "lab:2514"),
    ];
    let config = layered(None, "schema = 1", &env).unwrap();
    assert_eq!(config.site.name, "2026");
    assert_eq!(config.collect.syslog.udp, [Listen::port(1514), Listen("127.0.0.1:1515".parse().unwrap())]);
    assert_eq!(config.collect.syslog.tcp, [Listen::port(1514)]);
    assert_eq!(config.collect.syslog.connections_per_source, 9);
    assert_eq!(config.uplink["lab"].to, "lab:2514");
}

#[test]
fn a_bad_variable_is_named() {
    let said = |name, value| layered(None, "schema = 1", &[(name, value)]).unwrap_err().join("\n");
    assert_eq!(
        said("RAVEN_BUFFER__DISC", "2GiB"),
        "RAVEN_BUFFER__DISC: names no key; expected a key of the file with its tables before it, such as `RAVEN_BUFFER__DISK`"
    );
    assert_eq!(said("RAVEN_BUFFER_DISK", "much"), "RAVEN_BUFFER_DISK: `buffer.disk`: `much` is not an amount of bytes; expected a share such as `90%` or an amount such as `2GiB`".replace("`90%`", "`\"90%\"`").replace("`2GiB`", "`\"2GiB\"`"));
    assert_eq!(
        said("RAVEN_UPLINK_LAB_KIND", "relp"),
        "RAVEN_UPLINK_LAB_KIND: the destination `lab` has no `to`; expected `to` = `\"host:port\"`, or `\"http://host:port/path\"` for HTTP and OTLP"
    );
    assert_eq!(said("RAVEN_BUFFER_SYNC", "1h"), "RAVEN_BUFFER_SYNC: `sync` is 1h; expected 10ms to 1s");
}

#[test]
fn an_error_in_the_factory_file_is_placed_there() {
    let said = layered(Some("schema = 1\n[buffer]\nsync = '9s'\n"), "schema = 1\n", &[]).unwrap_err();
    assert_eq!(said, ["factory.toml:3:1: `sync` is 9s; expected 10ms to 1s"]);
}

#[test]
fn an_override_hides_what_is_below_it() {
    let config = layered(Some("schema = 1\n[buffer]\nsync = '9s'\n"), "schema = 1\n[buffer]\nsync = '1s'\n", &[]);
    assert_eq!(config.unwrap().buffer.sync.to_string(), "1s");
}

#[test]
fn deep_nesting_is_refused_and_not_followed_down() {
    for part in ["a.", "[", "a = [", "{a = ", "[a.", "uplink.a."] {
        let errors = Config::from_toml(&format!("schema = 1\n{}", part.repeat(100_000)), "deep").unwrap_err();
        assert!(errors[0].to_string().starts_with("deep:"), "{}", errors[0]);
    }
    let dotted = format!("schema = 1\nuplink.a{}.kind = 'relp'\n", ".a".repeat(100_000));
    assert!(Config::from_toml(&dotted, "deep").is_err());
}

fn tomlish() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "schema",
        " = ",
        "1",
        "\n",
        "[",
        "]",
        "site",
        "collect",
        ".",
        "syslog",
        "udp",
        "buffer",
        "uplink",
        "noc",
        "kind",
        "\"relp\"",
        "to",
        "'x:1'",
        "{",
        "}",
        ",",
        "\"",
        "'''",
        "514",
        "-1",
        "1e9",
        "true",
        "2026-01-01",
        "\\u0000",
        "ü",
        "#",
        "streams",
        "disk",
        "'90%'",
        "window",
        "\r\n",
        "99999999999999999999",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in ".{0,200}") {
        let _ = Config::from_toml(&text, "any");
        let _ = Config::from_toml(&format!("schema = 1\n{text}"), "any");
    }

    #[test]
    fn any_mix_of_toml_words_is_read_without_panic(text in tomlish(), value in ".{0,40}") {
        if let Err(errors) = Config::from_toml(&format!("schema = 1\n{text}"), "any") {
            prop_assert!(!errors.is_empty() && errors.iter().all(|error| error.to_string().starts_with("any:")));
        }
        let _ = layered(Some(&text), "schema = 1", &[("RAVEN_COLLECT_SYSLOG_UDP", &value), ("RAVEN_UPLINK_A_WINDOW", &value)]);
    }
}
