//! Somebody with a kubeconfig of their own, and few rights.

use std::process::Command;

use serde_json::{Value, json};

use super::{
    namespace::Namespace,
    relay::{NAMESPACE as RELAY, Relay},
};

/// Somebody who may reach the log service, and read no logs before they are allowed to.
#[derive(Debug)]
pub struct Person {
    folder: tempfile::TempDir,
    name: String,
    user: String,
}

impl Person {
    /// A new one, whose account and whose rights are in a namespace and go with it.
    ///
    /// # Panics
    ///
    /// If the API server refuses.
    #[must_use]
    pub fn new(namespace: &Namespace, name: &str) -> Self {
        namespace.ask(&["create", "serviceaccount", name]).expect("an account can be made");
        let token = namespace.ask(&["create", "token", name, "--duration=1h"]);
        let token = token.expect("tokens can be made").trim().to_owned();
        let cluster = namespace.cluster();
        let flags = ["config", "view", "--raw", "--flatten", "--minify", "--output=json"];
        let config = cluster.ask(&flags).expect("a kubeconfig");
        let mut config: Value = serde_json::from_str(&config).expect("JSON");
        config["users"][0]["user"] = json!({ "token": token });
        config["contexts"][0]["name"] = "own".into();
        config["contexts"][0]["context"]["namespace"] = namespace.name().into();
        let mut elsewhere = config["contexts"][0].clone();
        elsewhere["name"] = "elsewhere".into();
        elsewhere["context"]["namespace"] = "default".into();
        config["contexts"] = json!([config["contexts"][0], elsewhere]);
        config["current-context"] = "own".into();
        let folder = tempfile::tempdir().expect("a folder for the kubeconfig");
        std::fs::write(folder.path().join("config"), config.to_string()).expect("it is ours");
        let user = format!("system:serviceaccount:{}:{name}", namespace.name());
        let binding = format!("{}-{name}", namespace.name());
        let words =
            ["create", "rolebinding", &binding, "--role=relay-reader", "--namespace", RELAY];
        let bound = cluster.ask(&[&words[..], &["--user", &user]].concat());
        bound.expect("the chart has a role for readers");
        Self { folder, name: name.to_owned(), user }
    }

    /// Allows them to `get pods/log` in a namespace.
    ///
    /// # Panics
    ///
    /// If the API server refuses.
    pub fn allow(&self, namespace: &Namespace) {
        let role = ["create", "role", &self.name, "--verb=get", "--resource=pods/log"];
        namespace.ask(&role).expect("a role can be made");
        let words =
            ["create", "rolebinding", &self.name, "--role", &self.name, "--user", &self.user];
        namespace.ask(&words).expect("a role can be bound");
    }

    /// Takes that back.
    ///
    /// # Panics
    ///
    /// If it was not given.
    pub fn forbid(&self, namespace: &Namespace) {
        let words = ["delete", "rolebinding", &self.name];
        namespace.ask(&words).expect("the right was given");
    }

    /// `kubectl relay`, as this person.
    #[must_use]
    pub fn kubectl_relay(&self, relay: &Relay, words: &[&str]) -> Command {
        let mut command = relay.kubectl_relay(words);
        command.env("KUBECONFIG", self.folder.path().join("config"));
        command
    }
}
