//! A cluster with one tenant, and what happens to it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use relay_operator::{
    api::v1beta1::{Delivery, Fill, Tenant, ToolsDelivery},
    tenant::{
        Step, names,
        plan::{Plan, Target, Wanted, plan},
        seen::{
            Claim, Content, Job, JobPod, JobState, Namespace, Observed, Phase, StorageClass,
            Volumes, Webhook,
        },
    },
};
use serde_json::json;

use crate::{now, settings, tenant};

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The operator makes a plan and carries out all of it.
    Reconcile,
    /// It is killed after so many steps.
    ReconcilePartly(usize),
    /// All Jobs that run end, of those that can begin.
    JobsEnd(JobState),
    /// Finished Jobs are cleared away, with their pods.
    JobsVanish,
    /// All claims get a volume, of those that can.
    ClaimsBind,
    /// Somebody deletes a claim of tools; no pod mounts it.
    ClaimVanishes,
    /// A pod starts, and mounts what is published.
    PodStarts,
    PodEnds,
    TimePasses(i64),
    NewImage(u8),
    /// Somebody writes how the tools are to reach pods.
    NewWish(Delivery, Fill),
    /// The default storage class is another, or there is none.
    NewClass(Option<&'static str>),
    /// What the cluster can do, from now on.
    NewPowers(Powers),
}

/// What a cluster can do.
#[derive(Clone, Debug)]
pub(super) struct Powers {
    /// Classes that share claims.
    pub(super) sharing: BTreeSet<&'static str>,
    /// What becomes of image volumes.
    pub(super) images: Images,
}

/// What becomes of image volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    Mounted,
    /// The API server takes them away.
    Dropped,
    /// A node is too old for them.
    TooYoung,
}

pub(super) const CLASSES: [&str; 2] = ["block", "nfs"];

impl Powers {
    pub(super) fn all() -> Self {
        Self { sharing: CLASSES.into(), images: Images::Mounted }
    }
}

pub(super) struct World {
    pub(super) tenant: Tenant,
    pub(super) observed: Observed,
    pub(super) image: u8,
    pub(super) now: Timestamp,
    uids: u32,
    /// Generations that running pods mount.
    pub(super) pods: Vec<String>,
    powers: Powers,
    default: Option<&'static str>,
    /// Uids of claims that hold all of the tools.
    filled: BTreeSet<String>,
    /// Jobs that need a claim, by name.
    with_claim: BTreeSet<String>,
}

impl World {
    pub(super) fn new() -> Self {
        let spec = json!({ "spec": { "entrypointInjection": { "delivery": "Auto" } } });
        let mut world = Self {
            tenant: tenant(&spec, &BTreeMap::from([("finalizers".to_owned(), json!([]))])),
            observed: Observed { webhook: Webhook::Trusted, ..Observed::default() },
            image: 1,
            now: now(),
            uids: 0,
            pods: vec![],
            powers: Powers::all(),
            default: None,
            filled: BTreeSet::new(),
            with_claim: BTreeSet::new(),
        };
        world.happen(&Event::NewClass(Some("nfs")));
        world
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Reconcile => self.reconcile(usize::MAX),
            Event::ReconcilePartly(steps) => self.reconcile(*steps),
            Event::JobsEnd(state) => self.end_jobs(state),
            Event::JobsVanish => {
                self.observed.jobs.retain(|_, job| job.state == JobState::Running);
                let jobs = &self.observed.jobs;
                self.observed.pods.retain(|_, pod| jobs.contains_key(&pod.job));
            }
            Event::ClaimsBind => self.bind(),
            Event::ClaimVanishes => {
                let mut claims = self.observed.claims.iter();
                let unused = claims.find(|(_, claim)| !self.pods.contains(&claim.generation));
                if let Some(name) = unused.map(|(name, _)| name.clone()) {
                    self.observed.claims.remove(&name);
                    // No Job runs and another claim comes within the second that the API server's times have.
                    self.now += SignedDuration::from_secs(1);
                }
            }
            Event::PodStarts => self.start_pod(),
            Event::PodEnds => {
                self.pods.pop();
            }
            Event::TimePasses(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Event::NewImage(image) => self.image = *image,
            Event::NewWish(delivery, fill) => {
                let injection = &mut self.tenant.spec.entrypoint_injection;
                (injection.delivery, injection.fill) = (*delivery, *fill);
            }
            Event::NewClass(default) => self.set_class(*default),
            Event::NewPowers(powers) => {
                let is_old = powers.images == Images::TooYoung;
                let why = is_old.then(|| "node a is old".to_owned());
                self.observed.nodes.without_image_volumes = why;
                self.powers = powers.clone();
            }
        }
        self.observed.mounts = BTreeMap::new();
        for generation in &self.pods {
            *self.observed.mounts.entry(generation.clone()).or_default() += 1;
        }
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("u{}", self.uids)
    }

    fn set_class(&mut self, default: Option<&'static str>) {
        let class = |name: &str| {
            if default == Some(name) { StorageClass::Default } else { StorageClass::ByName }
        };
        self.observed.classes = CLASSES.map(|name| (name.to_owned(), class(name))).into();
        self.default = default;
    }

    /// Jobs run when their claim is there, and only read what others wrote.
    fn end_jobs(&mut self, state: &JobState) {
        let Observed { jobs, claims, .. } = &mut self.observed;
        for (name, job) in jobs.iter_mut().filter(|(_, job)| job.state == JobState::Running) {
            let held = |prefix: &str| claims.get(&format!("{prefix}{}", job.generation));
            let is_install = name.starts_with("relay-install-");
            let source = held("relay-source-").filter(|_| is_install);
            let claim = source.or_else(|| held("relay-tools-"));
            let is_bound = claim.is_some_and(|claim| claim.phase == Phase::Bound);
            if !is_bound && self.with_claim.contains(name) {
                continue;
            }
            job.state = state.clone();
            match claim {
                Some(claim) if is_install && *state == JobState::Succeeded => {
                    self.filled.insert(claim.uid.clone());
                }
                Some(claim) if !is_install && !self.filled.contains(&claim.uid) => {
                    job.state = JobState::Failed("nothing is there".to_owned());
                }
                _ => {}
            }
        }
    }

    fn bind(&mut self) {
        for (name, claim) in &mut self.observed.claims {
            // As the API server does for claims that were made before there was a default class.
            if claim.class.is_none() {
                claim.class = self.default.map(str::to_owned);
            }
            let Some(class) = claim.class.as_deref() else { continue };
            if names::is_source(name) || self.powers.sharing.contains(class) {
                claim.phase = Phase::Bound;
            } else if claim.phase == Phase::Pending {
                claim.warning = Some("only ReadWriteOnce access modes".to_owned());
            }
        }
    }

    fn start_pod(&mut self) {
        let status = self.tenant.status.as_ref();
        let Some(tools) = status.and_then(|status| status.tools.as_ref()) else { return };
        // Without the claim it would wait to be scheduled.
        if tools.claim_name.as_ref().is_none_or(|name| self.observed.claims.contains_key(name)) {
            self.pods.push(tools.generation.clone());
        }
    }

    fn reconcile(&mut self, limit: usize) {
        let tenant = self.tenant.clone();
        let settings = settings(&format!("tools:{}", self.image));
        let wanted = Wanted::new(&tenant, &settings, Some("PEM".to_owned()), &self.observed);
        let Plan { steps, status, .. } = plan(&wanted, &self.observed, self.now);
        let claim = status.tools.as_ref().and_then(|tools| tools.claim_uid.as_ref());
        assert!(claim.is_none_or(|uid| self.filled.contains(uid)), "new pods mount nothing");
        let count = steps.len();
        for step in steps.into_iter().take(limit) {
            self.apply(&wanted, step);
        }
        if limit >= count {
            self.tenant.status = Some(status);
        }
    }

    fn apply(&mut self, wanted: &Wanted<'_>, step: Step) {
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
            Step::CreateClaim | Step::CloneSource(_) => self.create_claim(wanted),
            Step::CreateSource => {
                let claim = self.claim(wanted);
                self.observed.claims.entry(wanted.generation.source()).or_insert(claim);
            }
            Step::SealSource => {
                let source = self.observed.claims.get_mut(&wanted.generation.source()).unwrap();
                assert!(self.filled.contains(&source.uid), "nothing was written");
                source.content = Content::Filled;
            }
            Step::Install => self.start(wanted, wanted.generation.install_job()),
            Step::Verify => self.start(wanted, wanted.generation.verify_job()),
            Step::RetireClaim(target) => self.retire(&target),
            Step::DeleteJob(target) => {
                let job = self.observed.jobs.remove(&target.name).unwrap();
                assert_eq!(job.uid, target.uid);
            }
            other => unreachable!("{other:?} for a tenant that stays"),
        }
    }

    fn claim(&mut self, wanted: &Wanted<'_>) -> Claim {
        Claim {
            class: self.default.map(str::to_owned),
            uid: self.uid(),
            generation: wanted.generation.as_str().to_owned(),
            created: Some(Time(self.now)),
            ..Claim::default()
        }
    }

    fn create_claim(&mut self, wanted: &Wanted<'_>) {
        let claim = self.claim(wanted);
        if wanted.tenant.spec.entrypoint_injection.fill == Fill::Clone {
            let source = &self.observed.claims[&wanted.generation.source()];
            assert_eq!(source.content, Content::Filled);
            let install = wanted.generation.install_job();
            assert!(!self.observed.pods.contains_key(&install), "the source is mounted");
            self.filled.insert(claim.uid.clone());
        }
        self.observed.claims.entry(wanted.generation.claim()).or_insert(claim);
    }

    fn retire(&mut self, target: &Target) {
        let claim = self.observed.claims.remove(&target.name).unwrap();
        assert_eq!(claim.uid, target.uid);
        let is_mounted = self.pods.contains(&claim.generation);
        assert!(!is_mounted || names::is_source(&target.name), "a pod mounts {}", target.name);
        let tools = self.tenant.status.as_ref().and_then(|status| status.tools.as_ref());
        let published = tools.and_then(|tools| tools.claim_name.as_ref());
        assert!(published != Some(&target.name), "new pods mount it");
    }

    fn start(&mut self, wanted: &Wanted<'_>, name: String) {
        let is_image = wanted.choice.delivery == ToolsDelivery::ImageVolume;
        let is_dropped = is_image && self.powers.images == Images::Dropped;
        let volumes = if is_dropped { Volumes::Dropped } else { Volumes::Kept };
        let (uid, generation) = (self.uid(), wanted.generation.as_str().to_owned());
        let created = Some(Time(self.now));
        let job = Job { uid, generation, created, volumes, ..Job::default() };
        self.observed.jobs.entry(name.clone()).or_insert(job);
        if wanted.choice.delivery == ToolsDelivery::PersistentVolumeClaim {
            self.with_claim.insert(name.clone());
        }
        self.observed.pods.insert(name.clone(), JobPod { job: name, ..JobPod::default() });
    }

    pub(super) fn is_ready(&self) -> bool {
        let conditions = self.tenant.status.iter().flat_map(|status| &status.conditions);
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
        ready.any(|condition| condition.status == "True")
    }
}
