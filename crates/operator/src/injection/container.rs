//! What is decided about one container.

use std::fmt;

use serde_json::Value;

use super::{
    ENTRYPOINT, Images,
    argv::{self, NoArgv},
    mounts,
    skip::{FIRST_PROCESSES, Selection},
};

/// One of a pod's lists of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Init,
    Regular,
    Ephemeral,
}

/// One container of a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'pod> {
    pub(super) list: List,
    pub(super) index: usize,
    pub(super) container: &'pod Value,
}

/// What is decided about a container.
pub(super) enum Verdict {
    /// It is wrapped, and the entrypoint gets these arguments.
    Wrap(Vec<Value>),
    /// It was wrapped before.
    IsWrapped,
    /// It is none of Relay's.
    LeaveAlone,
    /// Its image starts what must be process 1.
    LeaveImageAlone,
    Cannot(Obstacle),
}

/// Why a container cannot be wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Something is mounted at this path.
    Mounted(String),
    /// It names neither command nor image.
    NoImage,
    /// Its image could not be looked up, and why.
    NotFound(String, String),
    /// Its image does not say what to run.
    NoArgv(String, NoArgv),
    /// Its image starts this program, which must be process 1.
    FirstProcess(String, String),
}

impl List {
    /// Its name in a pod's spec.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Regular => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

impl Place<'_> {
    /// Where one of its fields is in the pod.
    pub(super) fn path(self, field: &str) -> String {
        format!("/spec/{}/{}/{field}", self.list.field(), self.index)
    }

    /// One of its fields.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.container.get(field)
    }
}

impl Verdict {
    pub(super) fn of(place: Place<'_>, selection: &Selection<'_>, images: &Images) -> Self {
        let (command, args) = (words(place.container, "command"), words(place.container, "args"));
        if !is_eligible(place.container, selection) {
            Self::LeaveAlone
        } else if let Some(path) = mounts::taken(place.container) {
            Self::Cannot(Obstacle::Mounted(path.to_owned()))
        } else if is_wrapped(place.container) {
            Self::IsWrapped
        } else if !command.is_empty() {
            Self::Wrap(argv::of_pod(command, args))
        } else {
            match looked_up(place, args, images) {
                Ok(verdict) => verdict,
                // The webhook is asked again, and has said so the first time.
                Err(Obstacle::NotFound(..))
                    if place.list != List::Ephemeral
                        && selection.was_left_alone(name(place.container)) =>
                {
                    Self::LeaveImageAlone
                }
                Err(obstacle) => Self::Cannot(obstacle),
            }
        }
    }
}

/// What the image of a container without a command makes of it.
fn looked_up(place: Place<'_>, args: &[Value], images: &Images) -> Result<Verdict, Obstacle> {
    let image = image(place.container).ok_or(Obstacle::NoImage)?;
    let found = images
        .get(image)
        .map_or(Err("nobody has looked"), |found| found.as_ref().map_err(String::as_str));
    let found = found.map_err(|why| Obstacle::NotFound(image.to_owned(), why.to_owned()))?;
    let words = argv::of_image(found, args);
    let words = words.map_err(|why| Obstacle::NoArgv(image.to_owned(), why))?;
    let first = words.programs.into_iter().find(|program| must_be_first(program));
    match (first, place.list) {
        (None, _) => Ok(Verdict::Wrap(words.arguments)),
        // Nothing of the pod can say so any more.
        (Some(program), List::Ephemeral) => Err(Obstacle::FirstProcess(image.to_owned(), program)),
        (Some(_), _) => Ok(Verdict::LeaveImageAlone),
    }
}

/// Whether a container is Relay's to change, as far as the pod says.
pub(super) fn is_eligible(container: &Value, selection: &Selection<'_>) -> bool {
    let is_terminal = container.get("tty").and_then(Value::as_bool) == Some(true);
    let program = words(container, "command").first().and_then(Value::as_str);
    selection.selects(name(container)) && !is_terminal && !program.is_some_and(must_be_first)
}

/// The image whose command a container runs, if it must be looked up.
pub(super) fn wanted<'pod>(container: &'pod Value, selection: &Selection<'_>) -> Option<&'pod str> {
    let is_wanted = is_eligible(container, selection)
        && mounts::taken(container).is_none()
        && words(container, "command").is_empty();
    is_wanted.then(|| image(container))?
}

/// Whether a container runs under the entrypoint.
pub(super) fn is_wrapped(container: &Value) -> bool {
    words(container, "command").first().and_then(Value::as_str) == Some(ENTRYPOINT)
}

fn must_be_first(program: &str) -> bool {
    FIRST_PROCESSES.contains(&program)
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted(path) => {
                write!(
                    formatter,
                    "something is mounted at {path:?}, where Relay needs to be: move it"
                )
            }
            Self::NoImage => {
                formatter.write_str("neither a command nor an image: write the command")
            }
            Self::NotFound(image, why) => {
                write!(
                    formatter,
                    "no command, and Relay cannot look into its image {image}: {why}; or write the command"
                )
            }
            Self::NoArgv(image, NoArgv::Neither) => {
                write!(
                    formatter,
                    "no command, and its image {image} has neither ENTRYPOINT nor CMD: write the command"
                )
            }
            Self::NoArgv(image, NoArgv::TooLong) => {
                write!(
                    formatter,
                    "no command, and those of its image {image} for several platforms are too long: write the command"
                )
            }
            Self::FirstProcess(image, program) => {
                write!(
                    formatter,
                    "its image {image} starts {program}, which must be process 1: write another command"
                )
            }
        }
    }
}

/// The containers of a list, none if there is no such list.
pub(super) fn all(pod: &Value, list: List) -> impl Iterator<Item = Place<'_>> {
    let there = pod.get("spec").and_then(|spec| spec.get(list.field())).and_then(Value::as_array);
    let there = there.map_or(&[][..], Vec::as_slice).iter().enumerate();
    there.map(move |(index, container)| Place { list, index, container })
}

/// A container's name, empty if it has none.
pub(super) fn name(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// A container's image, if it names one.
fn image(container: &Value) -> Option<&str> {
    container.get("image").and_then(Value::as_str).filter(|image| !image.is_empty())
}

/// The words of a list, none if there is no such list.
fn words<'pod>(container: &'pod Value, list: &str) -> &'pod [Value] {
    container.get(list).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
