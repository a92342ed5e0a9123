//! Plans in a cluster that does what it likes: Jobs fail, claims and Jobs vanish, images change, and the
//! operator is killed between any two steps.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use relay_operator::{
    api::v1beta1::Tenant,
    tenant::{
        Step,
        plan::{Plan, Wanted, plan},
        seen::{Claim, Job, JobState, Namespace, Observed, Phase, Webhook},
    },
};
use serde_json::json;

use crate::{now, settings, tenant};

#[derive(Clone, Debug)]
enum Event {
    /// The operator makes a plan and carries out all of it.
    Reconcile,
    /// It is killed after so many steps.
    ReconcilePartly(usize),
    /// All Jobs that run end.
    JobsEnd(JobState),
    /// Finished Jobs are cleared away.
    JobsVanish,
    ClaimsBind,
    /// Somebody deletes a claim of tools; no pod mounts it.
    ClaimVanishes,
    /// A pod starts, and mounts what is published.
    PodStarts,
    PodEnds,
    TimePasses(i64),
    NewImage(u8),
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Reconcile),
        3 => (0..3_usize).prop_map(Event::ReconcilePartly),
        4 => Just(Event::JobsEnd(JobState::Succeeded)),
        1 => Just(Event::JobsEnd(JobState::Failed("it failed".to_owned()))),
        2 => Just(Event::JobsVanish),
        3 => Just(Event::ClaimsBind),
        1 => Just(Event::ClaimVanishes),
        3 => Just(Event::PodStarts),
        2 => Just(Event::PodEnds),
        3 => (1..400_i64).prop_map(Event::TimePasses),
        2 => (0..3_u8).prop_map(Event::NewImage),
    ]
}

struct World {
    tenant: Tenant,
    observed: Observed,
    image: u8,
    now: Timestamp,
    uids: u32,
    /// Generations that running pods mount.
    pods: Vec<String>,
}

impl World {
    fn new() -> Self {
        let tenant = tenant(&json!({}), &BTreeMap::from([("finalizers".to_owned(), json!([]))]));
        let observed = Observed { webhook: Webhook::Trusted, ..Observed::default() };
        Self { tenant, observed, image: 1, now: now(), uids: 0, pods: vec![] }
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("u{}", self.uids)
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Reconcile => self.reconcile(usize::MAX),
            Event::ReconcilePartly(steps) => self.reconcile(*steps),
            Event::JobsEnd(state) => {
                for job in
                    self.observed.jobs.values_mut().filter(|job| job.state == JobState::Running)
                {
                    job.state = state.clone();
                }
            }
            Event::JobsVanish => self.observed.jobs.retain(|_, job| job.state == JobState::Running),
            Event::ClaimsBind => {
                self.observed.claims.values_mut().for_each(|claim| claim.phase = Phase::Bound);
            }
            Event::ClaimVanishes => {
                let pods = self.pods.clone();
                let unused = self
                    .observed
                    .claims
                    .iter()
                    .find(|(_, claim)| !pods.contains(&claim.generation));
                if let Some(name) = unused.map(|(name, _)| name.clone()) {
                    self.observed.claims.remove(&name);
                }
            }
            Event::PodStarts => self.start_pod(),
            Event::PodEnds => {
                self.pods.pop();
            }
            Event::TimePasses(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Event::NewImage(image) => self.image = *image,
        }
        self.observed.mounts = BTreeMap::new();
        for generation in &self.pods {
            *self.observed.mounts.entry(generation.clone()).or_default() += 1;
        }
    }

    fn start_pod(&mut self) {
        let status = self.tenant.status.as_ref();
        let Some(tools) = status.and_then(|status| status.tools.as_ref()) else { return };
        // Without the claim it would wait to be scheduled.
        if self.observed.claims.contains_key(&tools.claim_name) {
            self.pods.push(tools.generation.clone());
        }
    }

    fn reconcile(&mut self, limit: usize) {
        let tenant = self.tenant.clone();
        let settings = settings(&format!("tools:{}", self.image));
        let wanted = Wanted::new(&tenant, &settings, Some("PEM".to_owned()));
        let Plan { steps, status, .. } = plan(&wanted, &self.observed, self.now);
        let count = steps.len();
        for step in steps.into_iter().take(limit) {
            self.apply(&wanted, step);
        }
        if limit >= count {
            self.tenant.status = Some(status);
        }
    }

    fn apply(&mut self, wanted: &Wanted<'_>, step: Step) {
        let generation = wanted.generation.as_str().to_owned();
        match step {
            Step::Own => self.tenant.metadata.finalizers = Some(vec!["relay.sh/tenant".to_owned()]),
            Step::CreateNamespace => {
                let labels = BTreeMap::from([("relay.sh/tenant".to_owned(), "acme".to_owned())]);
                let uid = self.uid();
                self.observed.namespace = Some(Namespace { uid, labels, ..Namespace::default() });
            }
            Step::LabelNamespace => {
                let namespace = self.observed.namespace.as_mut().unwrap();
                namespace.labels.insert("relay.sh/injection".to_owned(), "required".to_owned());
                namespace.applied = Some(wanted.namespace_hash());
            }
            Step::WriteAuthorities => self.observed.authorities = wanted.authorities_hash(),
            Step::CreateClaim => {
                let uid = self.uid();
                let created = Some(Time(self.now));
                let claim = Claim {
                    uid,
                    generation,
                    created,
                    class: Some("nfs".to_owned()),
                    ..Claim::default()
                };
                self.observed.classes.entry("nfs".to_owned()).or_default();
                self.observed.claims.entry(wanted.generation.claim()).or_insert(claim);
            }
            Step::Install => self.start(wanted.generation.install_job(), generation),
            Step::Verify => self.start(wanted.generation.verify_job(), generation),
            Step::RetireClaim(target) => {
                let claim = self.observed.claims.remove(&target.name).unwrap();
                assert_eq!(claim.uid, target.uid);
                assert!(!self.pods.contains(&claim.generation), "a pod mounts {}", target.name);
                let tools = self.tenant.status.as_ref().and_then(|status| status.tools.as_ref());
                assert!(
                    tools.is_none_or(|tools| tools.claim_name != target.name),
                    "new pods mount it"
                );
            }
            Step::DeleteJob(target) => {
                let job = self.observed.jobs.remove(&target.name).unwrap();
                assert_eq!(job.uid, target.uid);
            }
            other => unreachable!("{other:?} for a tenant that stays"),
        }
    }

    fn start(&mut self, name: String, generation: String) {
        let uid = self.uid();
        let job = Job { uid, generation, created: Some(Time(self.now)), ..Job::default() };
        self.observed.jobs.entry(name).or_insert(job);
    }

    fn is_ready(&self) -> bool {
        let conditions = self.tenant.status.iter().flat_map(|status| &status.conditions);
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
        ready.any(|condition| condition.status == "True")
    }
}

proptest! {
    #[test]
    fn whatever_happens_pods_keep_their_tools_and_the_tenant_becomes_ready(
        events in prop::collection::vec(events(), 0..60),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.pods.clear();
        for _ in 0..30 {
            let calm = [
                Event::Reconcile, Event::ClaimsBind, Event::Reconcile, Event::JobsEnd(JobState::Succeeded),
                Event::Reconcile, Event::JobsVanish, Event::TimePasses(400),
            ];
            for event in &calm {
                world.happen(event);
            }
        }
        prop_assert!(world.is_ready(), "{:?}", world.tenant.status);
        prop_assert_eq!(world.observed.claims.len(), 1);
        let tools = world.tenant.status.clone().unwrap().tools.unwrap();
        prop_assert_eq!(&tools.image, &format!("tools:{}", world.image));
        let before = world.tenant.clone();
        let settings = settings(&format!("tools:{}", world.image));
        let wanted = Wanted::new(&before, &settings, Some("PEM".to_owned()));
        let Plan { steps, status, .. } = plan(&wanted, &world.observed, world.now);
        prop_assert!(steps.is_empty(), "{:?}", steps);
        prop_assert_eq!(Some(&status), before.status.as_ref());
    }
}
