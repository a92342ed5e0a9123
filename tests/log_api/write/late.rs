//! What comes after the end.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use relay_tests::{
    service::{Service, files},
    store::Store,
};
use serde_json::Value;

use crate::lab::{Lab, Writer, named};

/// Makes the stream's end one that was told so many minutes ago.
fn age_end(store: &Store, minutes: u64) {
    let end = files(store.folder().unwrap(), "/end").pop().unwrap();
    let mut record: Value = serde_json::from_slice(&fs::read(&end).unwrap()).unwrap();
    let told = SystemTime::now() - Duration::from_mins(minutes);
    let told = told.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    record["at"] = u64::try_from(told).unwrap().into();
    fs::write(end, record.to_string()).unwrap();
}

#[test]
fn a_hole_may_be_filled_for_ten_minutes_and_is_missing_then() {
    let store = Store::files();
    {
        let service: Service = store.service();
        let (writer, _) = Writer::at(&service, &named("i"));
        assert_eq!(writer.put_at(0, b"one\n").status, 202);
        assert_eq!(writer.put_at(12, b"four\n").status, 202);
        assert_eq!(writer.end(17, "00000000").header("relay-gaps"), "4-11");
    }
    age_end(&store, 9);
    let mut lab = Lab::on(&store);
    let (writer, _) = Writer::at(lab.service(), &named("i"));
    assert_eq!(writer.put_at(4, b"two\n").status, 202);
    assert_eq!(writer.head(), (8, "8-11".to_owned()));
    let kinds = |lab: &Lab<'_>| -> Vec<String> {
        let records = lab.records("p", "");
        let kind = |record: &Value| record["marker"]["kind"].as_str().unwrap_or("line").to_owned();
        records.iter().map(kind).collect()
    };
    assert_eq!(kinds(&lab), ["line", "line", "gap", "line", "end"]);
    age_end(&store, 11);
    lab.restart();
    let (writer, _) = Writer::at(lab.service(), &named("i"));
    assert_eq!(writer.put_at(8, b"thr\n").status, 409);
    assert_eq!(writer.put_at(4, b"two\n").status, 202, "it is there");
    assert_eq!(writer.put_at(0, b"one\ntwo\n").status, 202);
    assert_eq!(writer.put_at(4, b"TWO\n").status, 409);
    assert_eq!(kinds(&lab), ["line", "line", "missing", "line", "end"]);
}
