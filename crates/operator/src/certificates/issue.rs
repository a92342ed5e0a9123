//! Makes keys and certificates.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{Authority, Held, Leaf, Moment, Names, Periods, Step, held::Facts, plan::next};

/// How far another machine's clock may be behind ours.
pub(super) const SKEW: Duration = Duration::from_mins(5);

/// More than any real plan has: a life of a second would begin and end in one.
const MAX_STEPS: usize = 16;

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueFailed {
    /// The library refused.
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    /// What was made cannot be read.
    #[error("failed to read a certificate that was made")]
    Read(#[from] super::Unreadable),
    /// A moment that no certificate can name.
    #[error("the clock shows a time that no certificate can name")]
    Clock(#[from] time::error::ComponentRange),
    /// No path can be made that nobody guesses.
    #[error("the system has no randomness")]
    NoRandomness,
}

/// Takes the steps that are due; returns those that were taken.
///
/// # Errors
///
/// [`IssueFailed`] if a certificate cannot be made; `held` is then as far as it came.
pub fn advance(
    held: &mut Held,
    names: &Names,
    periods: &Periods,
    now: Moment,
) -> Result<Vec<Step>, IssueFailed> {
    let mut steps = Vec::new();
    while let Some(step) = next(held, names, periods, now).filter(|_| steps.len() < MAX_STEPS) {
        match &step {
            Step::Forget(name) => held.authorities.retain(|authority| authority.name != *name),
            Step::Announce => held.authorities.push(announce(periods.authority, now)?),
            Step::Issue(which, name) => {
                let Some(signer) = held.authorities.iter().find(|it| it.name == *name) else {
                    break;
                };
                let leaf = sign(signer, names.of(*which), periods.leaf, now)?;
                held.leaves.insert(*which, leaf);
            }
            Step::ChangePaths => held.paths.advance(now)?,
        }
        steps.push(step);
    }
    Ok(steps)
}

fn announce(life: Duration, now: Moment) -> Result<Authority, IssueFailed> {
    let key = KeyPair::generate()?;
    let mut params = params(now, now.after(life))?;
    // Unique, so that a certificate says which authority signed it.
    let hash = Sha256::digest(key.public_key_raw());
    let number = hash.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    params.distinguished_name.push(DnType::CommonName, format!("Relay CA {number:08x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    let Facts { subject: name, begins, ends, .. } =
        Facts::of("the new authority", certificate.der())?;
    Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem(), name, begins, ends })
}

fn sign(
    signer: &Authority,
    names: &[String],
    life: Duration,
    now: Moment,
) -> Result<Leaf, IssueFailed> {
    let key = KeyPair::generate()?;
    let mut params = params(now, now.after(life).min(signer.ends))?;
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    // A Common Name of more than 64 characters is not valid, and nobody reads it.
    params.distinguished_name.push(DnType::CommonName, "Relay");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_pem(&signer.certificate, KeyPair::from_pem(&signer.key)?)?;
    let certificate = params.signed_by(&key, &issuer)?;
    let Facts { issuer: signed_by, names, begins, ends, .. } =
        Facts::of("the new certificate", certificate.der())?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    Ok(Leaf { certificate, key, signed_by, names, begins, ends })
}

fn params(now: Moment, ends: Moment) -> Result<CertificateParams, IssueFailed> {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from_unix_timestamp(now.before(SKEW).0)?;
    params.not_after = OffsetDateTime::from_unix_timestamp(ends.0)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}
