//! Flags and environment, and what they mean.

mod labels;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum, value_parser};

use crate::{
    certificates::Names, injection, injection::ContextLabels, tenant, webhook,
    webhook::configuration::Address,
};
use labels::LabelFlags;

/// Service in front of the webhook, by its name in the chart.
const SERVICE: &str = "relay-operator";
/// Its port.
const SERVICE_PORT: u16 = 443;

/// Gives tenants their tools and wraps their pods.
#[derive(Clone, Debug, Parser)]
#[command(name = "relay-operator", version)]
pub struct Flags {
    /// What to do; to run is the default
    #[command(subcommand)]
    command: Option<Command>,
    /// Image with the tools; a new one is rolled out to all tenants. Name a digest, or a new tag
    #[arg(long, env = "RELAY_TOOLS_IMAGE", value_name = "IMAGE", global = true)]
    tools_image: Option<String>,
    /// Secrets in tenants' namespaces with which that image is pulled there, separated by commas
    #[arg(
        long,
        env = "RELAY_TOOLS_PULL_SECRETS",
        value_name = "NAMES",
        value_delimiter = ',',
        global = true
    )]
    tools_pull_secrets: Vec<String>,
    /// The operator's own namespace [default: that of its service account or kubeconfig]
    #[arg(long, env = "RELAY_NAMESPACE", value_name = "NAME", global = true)]
    namespace: Option<String>,
    /// Name of this process among operators: whoever has the same takes over its lead at once
    #[arg(
        long,
        env = "HOSTNAME",
        default_value = "relay-operator",
        value_name = "NAME",
        global = true
    )]
    identity: String,
    /// Where to answer probes and Prometheus
    #[arg(
        long,
        env = "RELAY_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR",
        global = true
    )]
    listen: SocketAddr,
    /// File that receives that address once the operator listens
    #[arg(long, env = "RELAY_ADDRESS_FILE", value_name = "FILE", global = true)]
    address_file: Option<PathBuf>,
    /// Where to answer the API server
    #[arg(
        long,
        env = "RELAY_WEBHOOK_LISTEN",
        default_value = "127.0.0.1:9443",
        value_name = "ADDR",
        global = true
    )]
    webhook_listen: SocketAddr,
    /// Address at which the API server finds the webhook's /inject [default: the Service relay-operator]
    #[arg(long, env = "RELAY_WEBHOOK_URL", value_name = "URL", global = true)]
    webhook_url: Option<String>,
    /// Cluster role with which the webhook's configuration goes
    #[arg(long, env = "RELAY_OWNER", value_name = "NAME", global = true)]
    owner: Option<String>,
    /// Log service that wrapped containers send to [default: the Service relay-log-service]
    #[arg(long, env = "RELAY_LOG_URL", value_name = "URL", global = true)]
    log_url: Option<String>,
    /// Whom the tokens of wrapped containers are for
    #[arg(
        long,
        env = "RELAY_AUDIENCE",
        default_value = "relay",
        value_name = "NAME",
        global = true
    )]
    audience: String,
    /// Cluster role with the rights to read pull secrets; the operator binds itself to it in tenants' namespaces
    #[arg(long, env = "RELAY_PULL_SECRETS_ROLE", value_name = "NAME", global = true)]
    pull_secrets_role: Option<String>,
    /// What is said of registries and images: a file of YAML (docs/images.md)
    #[arg(long, env = "RELAY_IMAGES_CONFIG", value_name = "FILE", global = true)]
    images_config: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelFlags,
    /// How long earlier tools stay after the last pod that mounted them
    #[arg(
        long,
        env = "RELAY_GRACE_SECONDS",
        default_value = "300",
        value_name = "SECONDS",
        global = true
    )]
    grace_seconds: u64,
    /// How long a claim may be pending, or an image volume awaited, until another way is taken or the tenant says so
    #[arg(
        long,
        env = "RELAY_CLAIM_SECONDS",
        default_value = "60",
        value_name = "SECONDS",
        global = true
    )]
    claim_seconds: u64,
    /// How long the lead lasts when it is not renewed
    #[arg(long, env = "RELAY_LEASE_SECONDS", default_value = "15", value_name = "SECONDS", value_parser = value_parser!(u64).range(3..=600), global = true)]
    lease_seconds: u64,
    /// How long nobody has connected to the webhook when an operator that stops closes it; four times of it at most
    #[arg(
        long,
        env = "RELAY_DRAIN_SECONDS",
        default_value = "5",
        value_name = "SECONDS",
        global = true
    )]
    drain_seconds: u64,
    /// How long a round takes that looks for pods without Relay in all tenants' namespaces
    #[arg(long, env = "RELAY_AUDIT_SECONDS", default_value = "300", value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=86400), global = true)]
    audit_seconds: u64,
    /// Form of the log on stderr
    #[arg(long, env = "RELAY_LOG_FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
    /// What to log: a level, or directives such as `relay=debug`
    #[arg(long, env = "RELAY_LOG", default_value = "info", value_name = "FILTER", global = true)]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Run the controller and the webhook
    Run,
    /// Print the custom resource definitions as YAML
    Crds,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run.
    Run(Box<Config>),
    /// Print the definitions.
    Crds,
}

/// What the flags mean: what is left open here only the cluster can say.
#[derive(Clone, Debug)]
pub struct Config {
    pull_role: Option<String>,
    tools_image: String,
    pull_secrets: Vec<String>,
    namespace: Option<String>,
    log_url: Option<String>,
    audience: String,
    context: ContextLabels,
    grace: Duration,
    claim_patience: Duration,
    drain: Duration,
    webhook_url: Option<String>,
    /// File about registries and images.
    pub images_config: Option<PathBuf>,
    /// Name of this process among operators.
    pub identity: String,
    /// Where to answer probes.
    pub listen: SocketAddr,
    /// File that receives that address.
    pub address_file: Option<PathBuf>,
    /// Where to answer the API server.
    pub webhook_listen: SocketAddr,
    /// `ClusterRole` with which the webhook's configuration goes.
    pub owner: Option<String>,
    /// How long the lead lasts.
    pub lease: Duration,
    /// How long a round of the audit takes.
    pub audit: Duration,
    /// Form of the operator's own log.
    pub log_format: LogFormat,
    /// What of it is shown.
    pub log: String,
}

/// Form of the operator's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// No image with tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no tools to give to tenants: use --tools-image, or RELAY_TOOLS_IMAGE")]
pub struct NoToolsImage;

impl Flags {
    /// What the flags mean together.
    ///
    /// # Errors
    ///
    /// [`NoToolsImage`].
    pub fn resolve(self) -> Result<Request, NoToolsImage> {
        if self.command == Some(Command::Crds) {
            return Ok(Request::Crds);
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Request::Run(Box::new(Config {
            tools_image: given(self.tools_image).ok_or(NoToolsImage)?,
            pull_secrets: self.tools_pull_secrets.into_iter().filter(|it| !it.is_empty()).collect(),
            namespace: given(self.namespace),
            log_url: given(self.log_url),
            audience: self.audience,
            context: self.labels.resolve(),
            grace: Duration::from_secs(self.grace_seconds),
            claim_patience: Duration::from_secs(self.claim_seconds),
            drain: Duration::from_secs(self.drain_seconds),
            webhook_url: given(self.webhook_url),
            pull_role: given(self.pull_secrets_role),
            images_config: self.images_config.filter(|path| !path.as_os_str().is_empty()),
            identity: self.identity,
            listen: self.listen,
            address_file: self.address_file,
            webhook_listen: self.webhook_listen,
            owner: given(self.owner),
            lease: Duration::from_secs(self.lease_seconds),
            audit: Duration::from_secs(self.audit_seconds),
            log_format: self.log_format,
            log: self.log,
        })))
    }
}

impl Config {
    /// The operator's own namespace; `otherwise` is what the cluster's credentials say.
    #[must_use]
    pub fn namespace(&self, otherwise: &str) -> String {
        self.namespace.clone().unwrap_or_else(|| otherwise.to_owned())
    }

    /// What holds for all tenants.
    #[must_use]
    pub fn tenants(&self, namespace: &str) -> tenant::Settings {
        tenant::Settings {
            tools_image: self.tools_image.clone(),
            pull_role: self.pull_role.clone(),
            pull_secrets: self.pull_secrets.clone(),
            namespace: namespace.to_owned(),
            grace: self.grace,
            claim_patience: self.claim_patience,
        }
    }

    /// What the webhook writes into pods.
    #[must_use]
    pub fn webhook(&self, namespace: &str) -> webhook::Settings {
        let service = || format!("https://relay-log-service.{namespace}.svc:8443");
        webhook::Settings {
            pods: injection::Settings {
                log_url: self.log_url.clone().unwrap_or_else(service),
                audience: self.audience.clone(),
                context: self.context.clone(),
            },
            pull_secrets: self.pull_secrets.clone(),
            drain: self.drain,
        }
    }

    /// Which names certificates are for.
    #[must_use]
    pub fn names(&self, namespace: &str) -> Names {
        let names = Names::in_namespace(namespace);
        let url = self.webhook_url.as_ref().and_then(|url| url.parse::<http::Uri>().ok());
        match url.as_ref().and_then(http::Uri::host) {
            Some(host) => names.and_webhook_at(host),
            None => names,
        }
    }

    /// Where the API server finds the webhook.
    #[must_use]
    pub fn webhook_address(&self) -> Address {
        let service = || Address::Service { name: SERVICE.to_owned(), port: SERVICE_PORT };
        self.webhook_url.clone().map_or_else(service, Address::Url)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Flags, Request};
    use crate::{
        api::v1beta1::InjectionMode,
        injection::{CONTEXT_VARIABLES, Facts, Images, Outcome, Source, Tools, inject},
    };
    use clap::{CommandFactory, Parser};
    use serde_json::{Value, json};

    fn config(flags: &[&str]) -> Box<Config> {
        let flags = [&["relay-operator", "--tools-image", "tools:1"], flags].concat();
        let Ok(Request::Run(config)) = Flags::try_parse_from(flags).unwrap().resolve() else {
            panic!("it runs")
        };
        config
    }

    /// What a pod with these labels is told about its part of a workflow.
    fn told(config: &Config, labels: &Value) -> Vec<(String, String)> {
        let source = Source::Claim("relay-tools-1".to_owned());
        let facts = Facts {
            mode: InjectionMode::Required,
            tools: Tools::Ready { source, generation: "1".to_owned(), pull_secrets: vec![] },
            settings: config.webhook("relay-system").pods.into(),
        };
        let pod = json!({
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "main", "command": ["true"] }] },
        });
        let Outcome::Wrapped { patch, .. } = inject(&pod, &facts, &Images::new()) else {
            panic!("it is wrapped")
        };
        let patch = serde_json::to_value(patch).unwrap();
        let env =
            patch.as_array().unwrap().iter().find(|it| it["path"] == "/spec/containers/0/env");
        let all = env.unwrap()["value"].as_array().unwrap().iter();
        let all = all.map(|it| (it["name"].as_str().unwrap(), it["value"].as_str().unwrap_or("")));
        let ours = all.filter(|(name, _)| CONTEXT_VARIABLES.contains(name));
        ours.map(|(name, value)| (name.replace("RELAY_", ""), value.to_owned())).collect()
    }

    #[test]
    fn labels_of_another_system_say_the_part_of_a_workflow_if_the_flags_name_them() {
        let flags = [
            "--workflow-labels=w.example/first,w.example/second",
            "--trigger-labels=t.example/first,t.example/second",
            "--run-labels=r.example/first,r.example/second",
            "--step-labels=s.example/first,s.example/second",
        ];
        let config = config(&flags);
        let told = |labels: Value| {
            let told = told(&config, &labels);
            told.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        let run =
            json!({ "w.example/second": "a", "r.example/second": "b", "s.example/second": "c" });
        assert_eq!(told(run), "WORKFLOW=a RUN=b STEP=c");
        let trigger = json!({ "w.example/second": "a", "t.example/second": "d" });
        assert_eq!(told(trigger), "WORKFLOW=a TRIGGER=d");
        let both = json!({
            "w.example/first": "a", "w.example/second": "x", "r.example/second": "x", "r.example/first": "b",
        });
        assert_eq!(told(both), "WORKFLOW=a RUN=b", "the first that the flag names counts");
        let others = json!({ "tekton.dev/pipeline": "ci", "tekton.dev/pipelineRun": "ci-1" });
        assert_eq!(told(others), "", "the flags took their place");
        let own =
            json!({ "relay.sh/workflow": "own", "relay.sh/run": "1", "w.example/first": "a" });
        assert_eq!(told(own), "WORKFLOW=own RUN=1");
    }

    #[test]
    fn labels_come_from_the_environment_too() {
        let command = Flags::command();
        let variable = |flag: &str| {
            let mut all = command.get_arguments();
            let argument = all.find(|argument| argument.get_long() == Some(flag)).unwrap();
            argument.get_env().unwrap().to_str().unwrap().to_owned()
        };
        for part in ["workflow", "trigger", "run", "step"] {
            let name = format!("RELAY_{}_LABELS", part.to_uppercase());
            assert_eq!(variable(&format!("{part}-labels")), name);
        }
    }

    #[test]
    fn running_needs_tools_and_printing_definitions_does_not() {
        let parse = |flags: &[&str]| {
            Flags::try_parse_from([&["relay-operator"], flags].concat()).unwrap().resolve()
        };
        assert!(matches!(parse(&["crds"]), Ok(Request::Crds)));
        assert!(parse(&["run", "--tools-image", ""]).is_err());
        for flags in [&["--tools-image", "tools:1"][..], &["run", "--tools-image", "tools:1"]] {
            let Ok(Request::Run(config)) = parse(flags) else { panic!("{flags:?}") };
            let settings = config.tenants("relay-system");
            assert_eq!(settings.tools_image, "tools:1");
            assert_eq!(settings.namespace, config.namespace("relay-system"));
        }
    }
}
