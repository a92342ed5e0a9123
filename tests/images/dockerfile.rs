//! What the Dockerfiles say, read apart from `scripts/images`.

use std::{collections::BTreeMap, fs, path::Path};

use relay_tests::program::workspace;

/// One stage: what stands after `FROM`, and the instructions below with what stands after them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) from: String,
    pub(crate) instructions: Vec<(String, String)>,
}

/// The stages of a Dockerfile of the workspace.
pub(crate) fn stages(file: &str) -> Vec<Stage> {
    let text = fs::read_to_string(workspace().join(file)).unwrap().replace("\\\n", " ");
    let mut stages = Vec::new();
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            stages.push(Stage { from: rest.to_owned(), instructions: Vec::new() });
        } else {
            let stage = stages.last_mut().unwrap();
            stage.instructions.push((instruction.to_owned(), rest.trim().to_owned()));
        }
    }
    stages
}

/// The stage that is the image `relay-NAME`.
pub(crate) fn stage(name: &str) -> Stage {
    let file = if name == "tools" { "Dockerfile.tools" } else { "Dockerfile" };
    let from = format!("scratch AS {name}");
    stages(file).into_iter().find(|stage| stage.from == from).unwrap()
}

impl Stage {
    /// What stands after each instruction of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.instructions
            .iter()
            .filter(move |(found, _)| found == name)
            .map(|(_, rest)| rest.as_str())
    }

    /// Where its files go, without the first slash, and what they hold, taken from `programs`.
    pub(crate) fn files(&self, programs: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for copy in self.all("COPY") {
            let words: Vec<_> = copy.strip_prefix("--from=build ").unwrap().split(' ').collect();
            let (place, sources) = words.split_last().unwrap();
            for source in sources {
                let name =
                    if place.ends_with('/') { source.rsplit('/').next().unwrap() } else { "" };
                let built = source.strip_prefix("/src/bin/").map(|name| programs.join(name));
                let bytes = fs::read(built.unwrap_or_else(|| source.into())).unwrap();
                files.insert(format!("{place}{name}").trim_start_matches('/').to_owned(), bytes);
            }
        }
        files
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let pairs = self.all("LABEL").flat_map(|text| text.split_terminator("\" ")).map(str::trim);
        let pair = |pair: &str| {
            let (name, value) = pair.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        };
        pairs.map(pair).collect()
    }
}
