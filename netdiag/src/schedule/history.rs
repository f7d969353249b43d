//! What tests came to, kept in an SQLite file: a row for each result, bounded in age and size.
//!
//! It is for looking back on the box. The records of stream `diag` are what is kept and delivered; so a row that cannot be written
//! is counted and no more, and a file that is damaged is set aside and begun anew. A write is in the file when it returns (a
//! killed process loses none), and on the medium a little later (a power cut may cost the newest).

use raven_model::diag::Rtt;
use raven_model::diag::schedule::{Figures, HistoryRow, HistoryStatus, Outcome, TestKind};
use raven_model::units::UnixNanos;
use rusqlite::{Connection, ErrorCode, Row, params};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rows older than this go.
pub const AGE: Duration = Duration::from_hours(90 * 24);
/// The file grows no larger than this.
pub const BYTES: u64 = 256 << 20;
/// Rows that go at once: a clock that is wrong for a moment must not cost everything.
const BATCH: u32 = 10_000;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Version of the table.
const VERSION: i64 = 1;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS result (
        id INTEGER PRIMARY KEY, t INTEGER NOT NULL, schedule TEXT NOT NULL, test TEXT NOT NULL, outcome TEXT NOT NULL,
        took_ms INTEGER NOT NULL, why TEXT, loss REAL, rtt_min INTEGER, rtt_mean INTEGER, rtt_p50 INTEGER, rtt_p95 INTEGER,
        rtt_p99 INTEGER, rtt_max INTEGER, jitter INTEGER, time_us INTEGER, rate REAL, mtu INTEGER, offset_us INTEGER,
        days_left INTEGER, path TEXT, hops INTEGER
    ) STRICT;
    CREATE INDEX IF NOT EXISTS by_schedule ON result (schedule, t);";
const COLUMNS: &str = "t, schedule, test, outcome, took_ms, why, loss, rtt_min, rtt_mean, rtt_p50, rtt_p95, rtt_p99, rtt_max, \
                       jitter, time_us, rate, mtu, offset_us, days_left, path, hops";

/// The file.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    most: u64,
    /// None while it cannot be opened.
    file: Option<Connection>,
    status: HistoryStatus,
}

impl History {
    /// In this directory, no larger than `most` bytes. What cannot be read is set aside.
    pub fn open(directory: &Path, most: u64) -> Self {
        let path = directory.join("history.sqlite");
        let mut history = Self { path, most, file: None, status: HistoryStatus::default() };
        history.open_again();
        history
    }

    fn open_again(&mut self) {
        let opened = self.try_open().or_else(|error| {
            if !is_damage(&error) {
                return Err(error);
            }
            self.set_aside(&error);
            self.try_open()
        });
        self.file = opened.map_err(|error| self.status.error = Some(format!("{}: {error}", self.path.display()))).ok();
    }

    fn try_open(&mut self) -> rusqlite::Result<Connection> {
        let file = Connection::open(&self.path)?;
        file.busy_timeout(Duration::ZERO)?;
        // One process has it: no shared memory beside it is needed.
        file.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        file.pragma_update(None, "page_size", PAGE.cast_signed())?;
        file.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        file.pragma_update(None, "synchronous", "NORMAL")?;
        file.pragma_update(None, "temp_store", "MEMORY")?;
        file.pragma_update(None, "cache_size", -2048)?;
        file.pragma_update(None, "trusted_schema", false)?;
        file.pragma_update_and_check(None, "journal_size_limit", 8 << 20, |_| Ok(()))?;
        let pages = (self.most / PAGE).max(16).cast_signed();
        file.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        let version: i64 = file.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > VERSION {
            // Of a newer Raven: not ours to change.
            return Err(damage());
        }
        file.execute_batch(TABLE)?;
        file.pragma_update(None, "user_version", VERSION)?;
        let rows: i64 = file.query_row("SELECT count(*) FROM result", [], |row| row.get(0))?;
        self.status.rows = rows.cast_unsigned();
        Ok(file)
    }

    /// Moves a file that cannot be read out of the way; the one that was moved before goes.
    fn set_aside(&mut self, error: &rusqlite::Error) {
        self.file = None;
        self.status.set_aside += 1;
        self.status.error = Some(format!("set aside as damaged: {error}"));
        let beside = |end: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let _ = fs::rename(&self.path, beside(".damaged"));
        let _ = fs::remove_file(beside("-wal"));
        let _ = fs::remove_file(beside("-shm"));
    }

    /// What is to be told of it.
    pub fn status(&self) -> HistoryStatus {
        let pages = |file: &Connection| file.pragma_query_value::<i64, _>(None, "page_count", |row| row.get(0)).ok();
        let bytes = self.file.as_ref().and_then(pages).map_or(0, |pages| pages.cast_unsigned() * PAGE);
        HistoryStatus { bytes, ..self.status.clone() }
    }

    /// Does something with the file. Damage has it set aside; who asked may ask once more.
    fn with<T>(&mut self, work: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, String> {
        if self.file.is_none() {
            self.open_again();
        }
        let Some(file) = &self.file else {
            return Err(self.status.error.clone().unwrap_or_else(|| "the history cannot be opened".to_owned()));
        };
        let error = match work(file) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if is_damage(&error) {
            self.set_aside(&error);
            self.open_again();
        }
        Err(error.to_string())
    }

    /// Keeps a result; makes room for it where there is none.
    pub fn keep(&mut self, row: &HistoryRow) {
        let mut kept = self.with(|file| insert(file, row));
        if kept.is_err() {
            self.make_room();
            kept = self.with(|file| insert(file, row));
        }
        match kept {
            Ok(()) => self.status.rows += 1,
            Err(error) => {
                self.status.lost += 1;
                self.status.error = Some(error);
            }
        }
    }

    /// The oldest of them go, where the file has come to its limit.
    fn make_room(&mut self) {
        let is_full = |file: &Connection| {
            let page = |name| file.pragma_query_value::<i64, _>(None, name, |row| row.get(0));
            Ok(page("page_count")? + 16 >= page("max_page_count")? && page("freelist_count")? < 16)
        };
        if self.with(is_full) == Ok(true) {
            let some = (self.status.rows / 20).clamp(100, BATCH.into()) as u32;
            self.remove(
                "DELETE FROM result WHERE id IN (SELECT id FROM result ORDER BY id LIMIT ?1) AND t <> ?2",
                some,
                0,
            );
        }
    }

    /// What is too old goes, some of it each time.
    pub fn forget_old(&mut self, now: UnixNanos) {
        let before = now.0.saturating_sub(AGE.as_nanos() as u64).cast_signed();
        self.remove(
            "DELETE FROM result WHERE id IN (SELECT id FROM result ORDER BY id LIMIT ?1) AND t < ?2",
            BATCH,
            before,
        );
    }

    fn remove(&mut self, statement: &str, most: u32, before: i64) {
        if let Ok(gone) = self.with(|file| file.execute(statement, params![most, before])) {
            self.status.removed += gone as u64;
            self.status.rows = self.status.rows.saturating_sub(gone as u64);
        }
    }

    /// The newest results of a schedule, not older than that, the oldest of them first.
    pub fn rows(&mut self, schedule: &str, since: UnixNanos, most: u32) -> Result<Vec<HistoryRow>, String> {
        let query =
            format!("SELECT {COLUMNS} FROM result WHERE schedule = ?1 AND t >= ?2 ORDER BY t DESC, id DESC LIMIT ?3");
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let mut rows = self.with(|file| {
            let mut statement = file.prepare_cached(&query)?;
            let rows = statement.query_map(params![schedule, since, most], read)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.reverse();
        Ok(rows)
    }
}

fn insert(file: &Connection, row: &HistoryRow) -> rusqlite::Result<()> {
    let marks = (1..=21).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
    let figures = &row.figures;
    let of_rtt = |part: fn(&Rtt) -> u32| figures.rtt.as_ref().map(part);
    let mut statement = file.prepare_cached(&format!("INSERT INTO result ({COLUMNS}) VALUES ({marks})"))?;
    let why = row.why.as_ref().map(|why| why.chars().take(500).collect::<String>());
    statement.execute(params![
        i64::try_from(row.t.0).unwrap_or(i64::MAX),
        row.schedule,
        row.test.name(),
        row.outcome.name(),
        i64::try_from(row.took_ms).unwrap_or(i64::MAX),
        why,
        figures.loss,
        of_rtt(|rtt| rtt.min_us),
        of_rtt(|rtt| rtt.mean_us),
        of_rtt(|rtt| rtt.p50_us),
        of_rtt(|rtt| rtt.p95_us),
        of_rtt(|rtt| rtt.p99_us),
        of_rtt(|rtt| rtt.max_us),
        of_rtt(|rtt| rtt.jitter_us),
        figures.time_us,
        figures.rate,
        figures.mtu,
        figures.offset_us,
        figures.days_left,
        figures.path,
        figures.hops,
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<HistoryRow> {
    let test: String = row.get("test")?;
    let outcome: String = row.get("outcome")?;
    let rtt = match row.get("rtt_p50")? {
        None => None,
        Some(p50_us) => Some(Rtt {
            min_us: row.get("rtt_min")?,
            mean_us: row.get("rtt_mean")?,
            p50_us,
            p95_us: row.get("rtt_p95")?,
            p99_us: row.get("rtt_p99")?,
            max_us: row.get("rtt_max")?,
            jitter_us: row.get("jitter")?,
            ..Rtt::default()
        }),
    };
    Ok(HistoryRow {
        t: UnixNanos(row.get::<_, i64>("t")?.max(0).cast_unsigned()),
        schedule: row.get("schedule")?,
        test: TestKind::ALL.into_iter().find(|kind| kind.name() == test).ok_or_else(damage)?,
        outcome: Outcome::named(&outcome).ok_or_else(damage)?,
        took_ms: row.get::<_, i64>("took_ms")?.max(0).cast_unsigned(),
        why: row.get("why")?,
        figures: Figures {
            loss: row.get("loss")?,
            rtt,
            time_us: row.get("time_us")?,
            rate: row.get("rate")?,
            mtu: row.get("mtu")?,
            offset_us: row.get("offset_us")?,
            days_left: row.get("days_left")?,
            path: row.get("path")?,
            hops: row.get("hops")?,
        },
    })
}

/// What is in the file is not what was written.
fn damage() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        // A table of another shape, or a value that is none of that column's.
        || matches!(error, rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..))
        || matches!(error, rusqlite::Error::InvalidColumnName(_))
        || code == Some(ErrorCode::Unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Seek as _, SeekFrom, Write as _};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("raven-history-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(&place).unwrap();
            Self(place)
        }

        fn file(&self) -> PathBuf {
            self.0.join("history.sqlite")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn row(t: u64) -> HistoryRow {
        let rtt =
            Rtt { min_us: 1, mean_us: 2, p50_us: 3, p95_us: 4, p99_us: 5, max_us: 6, jitter_us: 7, ..Rtt::default() };
        let figures = Figures {
            loss: Some(0.5),
            rtt: Some(rtt),
            time_us: Some(8),
            rate: Some(1e9),
            mtu: Some(1500),
            offset_us: Some(-9),
            days_left: Some(-1),
            path: Some("0123456789abcdef".to_owned()),
            hops: Some(7),
        };
        HistoryRow {
            t: UnixNanos(t),
            schedule: "gateway".to_owned(),
            test: TestKind::Ping,
            outcome: Outcome::Bad,
            took_ms: 11,
            why: Some("no 'answer'; DROP TABLE result".to_owned()),
            figures,
        }
    }

    const ALL: UnixNanos = UnixNanos(0);

    #[test]
    fn rows_read_back_as_written_also_by_the_next_process() {
        let place = Place::new("rows");
        let mut history = History::open(&place.0, BYTES);
        let bare = HistoryRow { figures: Figures::default(), why: None, outcome: Outcome::Skipped, ..row(2) };
        let other = HistoryRow { schedule: "other".to_owned(), ..row(3) };
        for row in [row(1), bare.clone(), other] {
            history.keep(&row);
        }
        assert_eq!(history.rows("gateway", ALL, 10), Ok(vec![row(1), bare.clone()]));
        assert_eq!(history.rows("gateway", ALL, 1), Ok(vec![bare.clone()]), "the newest");
        assert_eq!(history.rows("gateway", UnixNanos(2), 10), Ok(vec![bare.clone()]));
        assert_eq!(history.rows("nobody", ALL, 10), Ok(Vec::new()));
        drop(history);
        let mut history = History::open(&place.0, BYTES);
        assert_eq!(history.rows("gateway", ALL, 10), Ok(vec![row(1), bare]));
        assert_eq!((history.status().rows, history.status().lost), (3, 0));
    }

    #[test]
    fn what_a_process_wrote_before_it_was_killed_is_there() {
        let place = Place::new("killed");
        let mut history = History::open(&place.0, BYTES);
        (0..50).for_each(|t| history.keep(&row(t)));
        // As the kernel leaves the files when a process is killed: nothing is closed.
        let copy = Place::new("killed-copy");
        for name in ["history.sqlite", "history.sqlite-wal"] {
            fs::copy(place.0.join(name), copy.0.join(name)).unwrap();
        }
        let mut found = History::open(&copy.0, BYTES);
        assert_eq!(found.rows("gateway", ALL, 100).unwrap().len(), 50);
        assert_eq!(found.status().set_aside, 0);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_counted() {
        for (name, damage) in [("text", 0), ("page", 4096), ("deep", 3 * 4096)] {
            let place = Place::new(name);
            let mut history = History::open(&place.0, BYTES);
            (0..400).for_each(|t| history.keep(&row(t)));
            drop(history);
            let mut file = fs::OpenOptions::new().write(true).open(place.file()).unwrap();
            file.seek(SeekFrom::Start(damage)).unwrap();
            file.write_all(&[0xa5; 8192]).unwrap();
            let mut history = History::open(&place.0, BYTES);
            let _ = history.rows("gateway", ALL, 1000);
            for t in 0..50 {
                history.keep(&row(1000 + t));
            }
            let status = history.status();
            assert_eq!(status.set_aside, 1, "{name}: {status:?}");
            assert!(status.lost <= 1 && place.0.join("history.sqlite.damaged").exists(), "{name}: {status:?}");
            assert!(history.rows("gateway", ALL, 1000).unwrap().len() >= 49, "{name}");
        }
    }

    #[test]
    fn a_file_of_another_program_is_set_aside() {
        let place = Place::new("other");
        fs::write(place.file(), b"hello").unwrap();
        assert_eq!(History::open(&place.0, BYTES).status().set_aside, 1);
        let other = Connection::open(place.file()).unwrap();
        other.pragma_update(None, "user_version", 99).unwrap();
        drop(other);
        assert_eq!(History::open(&place.0, BYTES).status().set_aside, 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_reason_to_end() {
        let mut history = History::open(Path::new("/nonexistent"), BYTES);
        history.keep(&row(1));
        assert!(history.rows("gateway", ALL, 10).is_err());
        let status = history.status();
        assert!(status.lost == 1 && status.error.is_some(), "{status:?}");
    }

    #[test]
    fn the_file_stays_within_its_bound_and_keeps_the_newest() {
        let place = Place::new("bound");
        let most = 512 << 10;
        let mut history = History::open(&place.0, most);
        (1..=8000).for_each(|t| history.keep(&row(t)));
        let status = history.status();
        assert!(status.bytes <= most && status.removed > 0 && status.lost == 0, "{status:?}");
        let rows = history.rows("gateway", ALL, 10_000).unwrap();
        assert_eq!(rows.len() as u64, status.rows);
        assert!(rows.len() > 1000 && rows.last() == Some(&row(8000)), "{}", rows.len());
        assert!(rows.windows(2).all(|two| two[0].t.0 + 1 == two[1].t.0), "none between is missing");
    }

    #[test]
    fn what_is_too_old_goes_and_a_wrong_clock_costs_little() {
        let place = Place::new("old");
        let mut history = History::open(&place.0, BYTES);
        let day = 86_400_000_000_000;
        (0..100).for_each(|n| history.keep(&row(n * day)));
        history.forget_old(UnixNanos(100 * day));
        assert_eq!(history.rows("gateway", ALL, 1000).unwrap().len(), 90);
        assert_eq!((history.status().removed, history.status().rows), (10, 90));
    }
}
