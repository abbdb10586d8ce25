// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tape stays within its bound however long the agent runs, and the file does not keep what was deleted.

use super::{run_info, tick};
use keepahead::journal::{Journal, Retention};
use keepahead_core::device::BdiName;
use keepahead_core::event::{Hold, Record, What};
use keepahead_core::units::Nanos;

#[test]
fn inputs_stay_within_their_bound_and_records_within_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let mut info = run_info();
    info.retention = Retention { inputs_mib: 1, days: 90 };
    let (mut journal, _) = Journal::open(dir.path(), info).unwrap();
    let state = "x".repeat(10_000);
    for i in 0..60_000_u64 {
        if journal.checkpoint_due() {
            journal.checkpoint(&state).unwrap();
        }
        journal.input(&tick(i * 500)).unwrap();
        if i % 1000 == 0 {
            let what = What::Held { reason: Hold::NoDemand };
            let (bdi, label) = (BdiName("259:0".into()), "nvme0n1".into());
            journal.record(&[Record { at: Nanos::from_millis(i * 500), bdi, label, what }]).unwrap();
        }
    }
    journal.flush().unwrap();
    let conn = rusqlite::Connection::open(Journal::path(dir.path())).unwrap();
    let one = |sql: &str| conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
    assert!(one("SELECT sum(bytes) FROM segment") <= (1 << 20) + (1 << 18));
    assert!(one("SELECT sum(length(body)) FROM input") <= 1 << 20);
    assert!(one("SELECT min(seq) FROM input") > 1000, "nothing was deleted");
    assert_eq!(one("SELECT count(*) FROM record"), 60);
    let pages = one("SELECT (SELECT page_count FROM pragma_page_count) * 4096");
    assert!(pages < 6 << 20, "{pages} bytes");

    conn.execute("UPDATE record SET utc = '2020-01-01T00:00:00.000Z' WHERE seq < 30000", []).unwrap();
    journal.flush().unwrap();
    assert!(one("SELECT count(*) FROM record") < 40);
}
