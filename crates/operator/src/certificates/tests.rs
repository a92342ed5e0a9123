use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::{Held, Moment, Names, Periods, Step, Unreadable, Use, advance, next};

const HOUR: Duration = Duration::from_hours(1);
const PERIODS: Periods = Periods {
    authority: Duration::from_hours(100),
    leaf: Duration::from_hours(10),
    announcement: HOUR,
};
const BEGIN: i64 = 1_800_000_000;

fn names() -> Names {
    Names::in_namespace("relay-system")
}

fn at(hours: u64) -> Moment {
    Moment::from_seconds(BEGIN).after(HOUR * u32::try_from(hours).expect("a test is short"))
}

fn advanced(held: &mut Held, now: Moment) -> Vec<Step> {
    advance(held, &names(), &PERIODS, now).expect("the library makes certificates")
}

/// Whether whoever trusts `bundle` accepts what is served for `which` at a moment.
fn is_trusted(bundle: &str, held: &Held, which: Use, now: Moment) -> bool {
    let parse = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.expect("PEM")).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(parse(bundle));
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let leaf = parse(&held.leaves[&which].certificate);
    let name = names().of(which)[0].clone();
    let name = ServerName::try_from(name).expect("the name of a Service");
    let seconds = u64::try_from(now.0).expect("after 1970");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.expect("a root").verify_server_cert(&leaf[0], &[], &name, &[], now).is_ok()
}

#[test]
fn the_first_certificates_are_issued_at_once_and_are_trusted() {
    let mut held = Held::default();
    let steps = advanced(&mut held, at(0));
    assert!(
        matches!(steps[..], [Step::Announce, Step::Issue(..), Step::Issue(..), Step::ChangePaths]),
        "{steps:?}"
    );
    assert_eq!(advanced(&mut held, at(0)), []);
    for which in Use::ALL {
        assert!(is_trusted(&held.bundle(), &held, which, at(0)));
    }
}

#[test]
fn a_new_authority_signs_only_after_it_was_announced_and_the_old_one_stays_until_it_expires() {
    let mut held = Held::default();
    advanced(&mut held, at(0));
    let old = held.authorities[0].name.clone();
    for hour in 1..50 {
        advanced(&mut held, at(hour));
    }
    assert_eq!(held.authorities.len(), 1, "it is not half over");
    advanced(&mut held, at(50));
    assert_eq!(held.authorities.len(), 2);
    assert_eq!(held.leaves[&Use::Webhook].signed_by, old, "the new one is only announced");
    advanced(&mut held, at(51));
    assert_ne!(held.leaves[&Use::Webhook].signed_by, old);
    advanced(&mut held, at(99));
    assert_eq!(held.authorities[0].name, old, "it is valid still");
    advanced(&mut held, at(100));
    assert!(held.authorities.iter().all(|authority| authority.name != old));
}

#[test]
fn whoever_learns_of_a_bundle_an_hour_late_trusts_what_is_served_all_the_same() {
    let mut held = Held::default();
    let mut bundles = Vec::new();
    for quarter in 0_u32..800 {
        let now = Moment::from_seconds(BEGIN).after(HOUR * quarter / 4);
        advanced(&mut held, now);
        bundles.push(held.bundle());
        // Both the newest bundle and the one of almost an hour ago.
        for late in [0, 3] {
            let bundle = &bundles[bundles.len().saturating_sub(1 + late)];
            for which in Use::ALL {
                assert!(is_trusted(bundle, &held, which, now), "quarter {quarter}, late by {late}");
            }
        }
    }
}

#[test]
fn after_a_long_sleep_everything_is_issued_anew() {
    let mut held = Held::default();
    advanced(&mut held, at(0));
    let before = held.clone();
    let steps = advanced(&mut held, at(1000));
    assert!(matches!(
        steps[..],
        [Step::Forget(_), Step::Announce, Step::Issue(..), Step::Issue(..), Step::ChangePaths]
    ));
    assert_ne!(held, before);
    assert!(is_trusted(&held.bundle(), &held, Use::Webhook, at(1000)));
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life_and_when_its_names_change() {
    let mut held = Held::default();
    advanced(&mut held, at(0));
    assert_eq!(next(&held, &names(), &PERIODS, at(4)), None);
    let signer = held.authorities[0].name.clone();
    let due = next(&held, &names(), &PERIODS, at(5));
    assert_eq!(due, Some(Step::Issue(Use::Webhook, signer.clone())));
    let other = Names { log_service: vec!["logs.example".to_owned()], ..names() };
    assert_eq!(next(&held, &other, &PERIODS, at(0)), Some(Step::Issue(Use::LogService, signer)));
}

#[test]
fn what_is_held_survives_a_secret() {
    let mut held = Held::default();
    advanced(&mut held, at(0));
    advanced(&mut held, at(50));
    assert_eq!(Held::from_data(&held.to_data()).expect("it was written by us"), held);
}

#[test]
fn a_secret_of_operators_that_had_one_path_is_read_as_theirs() {
    let mut held = Held::default();
    advanced(&mut held, at(0));
    let mut data = held.to_data();
    data.remove("webhook.paths");
    let mut read = Held::from_data(&data).expect("the authorities are there");
    assert!(read.paths.accept("/inject") && !held.paths.accept("/inject"));
    assert_eq!(read.authorities, held.authorities);
    assert_eq!(advanced(&mut read, at(0)), [Step::ChangePaths]);
    assert_eq!(read.paths.named().expect("it is named").as_str(), "/inject", "for an hour");
}

#[test]
fn a_secret_without_a_servers_key_keeps_its_authorities() {
    let mut held = Held::default();
    advanced(&mut held, at(0));
    let mut data = held.to_data();
    data.remove("webhook.key");
    let read = Held::from_data(&data).expect("the authorities are there");
    assert_eq!(read.authorities, held.authorities);
    assert!(!read.leaves.contains_key(&Use::Webhook));
    data.remove("ca.key");
    assert!(matches!(Held::from_data(&data), Err(Unreadable::Missing("ca.key"))));
}

#[test]
fn keys_do_not_stand_in_what_is_printed() {
    let mut held = Held::default();
    advanced(&mut held, at(0));
    assert!(!format!("{held:?}").contains("PRIVATE"), "{held:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whenever_the_leader_wakes_what_it_leaves_behind_is_trusted(
        pauses in prop::collection::vec(0_u32..7_000, 1..12),
    ) {
        let mut held = Held::default();
        let mut now = at(0);
        for minutes in pauses {
            now = now.after(Duration::from_mins(1) * minutes);
            advanced(&mut held, now);
            prop_assert!(is_trusted(&held.bundle(), &held, Use::LogService, now));
            prop_assert_eq!(next(&held, &names(), &PERIODS, now), None);
        }
    }
}
