//! Small images for pods under test, written as the folders that OCI defines, without a registry.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    digest::digest,
    process::{output, run},
};
use crate::registry::{CONFIG, INDEX, MANIFEST};

/// An image with a shell, the small programs of busybox, and curl, on every node that the tests
/// start. Debian's static busybox crashes where it looks up an address, as in `wget` and `nc`.
pub const SHELL: &str = "dev.local/shell:1";
/// The image of sandboxes.
const PAUSE: &str = "dev.local/pause:1";
/// The architecture of this machine, and one that it has not.
const ARCHITECTURES: [&str; 2] =
    if cfg!(target_arch = "aarch64") { ["arm64", "amd64"] } else { ["amd64", "arm64"] };
/// Where Debian has the programs that go into images. These are linked statically,
const BUSYBOX: &str = "/bin/busybox";
const TINI: &str = "/usr/bin/tini-static";
/// and this one is not.
const CURL: &str = "/usr/bin/curl";

/// Writes an image whose process waits for ever and reaps what comes to it. Returns its archive.
///
/// # Errors
///
/// If the programs are missing or the folder cannot be written.
pub fn pause(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("images/pause.root");
    fs::create_dir_all(&root)?;
    for program in [BUSYBOX, TINI] {
        copy(Path::new(program), &root)?;
    }
    write(&root, PAUSE, &["/tini-static", "--", "/busybox", "sleep", "2147483647"])
}

/// Writes the image [`SHELL`]. Returns its archive.
///
/// # Errors
///
/// If the programs are missing or the folder cannot be written.
pub fn shell(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("images/shell.root");
    for name in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    copy(Path::new(BUSYBOX), &root.join("bin"))?;
    copy(Path::new(CURL), &root.join("bin"))?;
    copy_libraries(CURL, &root)?;
    let names = output(Command::new(BUSYBOX).arg("--list"))?;
    for name in names.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name))?;
    }
    write(&root, SHELL, &["/bin/sh"])
}

/// Writes an image that holds one static program, at `/PROGRAM`, and nothing else. Returns its archive.
///
/// # Errors
///
/// If the program is missing or the folder cannot be written.
pub fn bare(folder: &Path, name: &str, program: &Path) -> Result<PathBuf> {
    let root = folder.join("bare.root");
    fs::create_dir_all(&root)?;
    copy(program, &root)?;
    write(&root, name, &["/none"])
}

/// Writes an image with the small programs of busybox and these files, whose configuration holds `config` (`Entrypoint`,
/// `Cmd` and so on). Returns its archive.
///
/// # Errors
///
/// If the programs are missing or the folder cannot be written.
pub fn configured(
    folder: &Path,
    name: &str,
    scripts: &[(&str, &str)],
    config: &Value,
) -> Result<PathBuf> {
    let root = folder.join("configured.root");
    fill(&root, scripts)?;
    write_configured(&root, name, config)
}

/// Writes an index of two images with the small programs of busybox and these files: one for this machine, whose
/// configuration holds the first of `configs`, and one for another platform with the second. Returns its archive.
///
/// # Errors
///
/// If the programs are missing or the folder cannot be written.
pub fn indexed(
    folder: &Path,
    name: &str,
    scripts: &[(&str, &str)],
    configs: &[Value; 2],
) -> Result<PathBuf> {
    let root = folder.join("indexed.root");
    fill(&root, scripts)?;
    let image = Layout::begin(&root)?;
    let mut manifests = Vec::new();
    for (architecture, config) in ARCHITECTURES.iter().zip(configs) {
        let mut manifest = image.manifest(architecture, config)?;
        manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
        manifests.push(manifest);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let index = add(&image.folder, &serde_json::to_vec(&index)?, INDEX)?;
    image.end(name, index)
}

/// The small programs of busybox and files that run, as the root of an image.
fn fill(root: &Path, scripts: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(root.join("bin"))?;
    copy(Path::new(BUSYBOX), &root.join("bin"))?;
    symlink("busybox", root.join("bin/sh"))?;
    for (path, text) in scripts {
        fs::write(root.join(path), text)?;
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Writes an image as `ko` makes them of programs in Go: one static program, `/ko-app/NAME`, which is its ENTRYPOINT and
/// runs without root. Returns its archive.
///
/// # Errors
///
/// If the program is missing or the folder cannot be written.
pub fn ko(folder: &Path, name: &str, program: &Path) -> Result<PathBuf> {
    let file = program.file_name().context("a program has a name")?;
    let root = folder.join("ko.root");
    fs::create_dir_all(root.join("ko-app"))?;
    copy(program, &root.join("ko-app"))?;
    let entrypoint = format!("/ko-app/{}", file.display());
    write_configured(&root, name, &json!({ "Entrypoint": [entrypoint], "User": "65532" }))
}

/// The digest by which registries know the image in an archive.
///
/// # Errors
///
/// If it is none.
pub fn digest_of(archive: &Path) -> Result<String> {
    let index = output(Command::new("tar").arg("-xOf").arg(archive).arg("./index.json"))?;
    let index: Value = serde_json::from_str(&index)?;
    let digest = index["manifests"][0]["digest"].as_str();
    Ok(digest.context("an image has a digest")?.to_owned())
}

/// Copies an archive with one image, giving that another name. Returns the copy.
///
/// # Errors
///
/// If it is none, or the folder cannot be written.
pub fn rename(archive_of: &Path, name: &str, folder: &Path) -> Result<PathBuf> {
    let image = folder.join("image");
    fs::create_dir_all(&image)?;
    run(Command::new("tar").arg("-C").arg(&image).arg("-xf").arg(archive_of))?;
    let index = image.join("index.json");
    let mut named: Value = serde_json::from_slice(&fs::read(&index)?)?;
    let tag = name.rsplit(':').next().unwrap_or(name);
    named["manifests"][0]["annotations"] = json!({
        "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag,
    });
    fs::write(&index, serde_json::to_vec(&named)?)?;
    archive(&image, &folder.join("image.tar"))
}

/// Copies what a program is linked with to the same places.
fn copy_libraries(program: &str, root: &Path) -> Result<()> {
    let libraries = output(Command::new("ldd").arg(program))?;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let library = Path::new(library);
        let folder = library.parent().and_then(|folder| folder.strip_prefix("/").ok());
        let folder = root.join(folder.context("a library is in a folder")?);
        fs::create_dir_all(&folder)?;
        copy(library, &folder)?;
    }
    Ok(())
}

fn copy(program: &Path, folder: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    let copied = fs::copy(program, folder.join(name));
    copied.with_context(|| {
        format!("{} is missing: run `scripts/install cluster`", program.display())
    })?;
    Ok(())
}

/// Writes an image of one layer, the folder `root`, as an archive beside it.
fn write(root: &Path, name: &str, command: &[&str]) -> Result<PathBuf> {
    write_configured(root, name, &json!({ "Cmd": command }))
}

fn write_configured(root: &Path, name: &str, config: &Value) -> Result<PathBuf> {
    let image = Layout::begin(root)?;
    let manifest = image.manifest(ARCHITECTURES[0], config)?;
    image.end(name, manifest)
}

/// An image that is being written, as the folder that OCI defines.
struct Layout {
    folder: PathBuf,
    /// How its only layer is named.
    layer: Value,
}

impl Layout {
    /// Begins one beside its root.
    fn begin(root: &Path) -> Result<Self> {
        let folder = root.with_extension("oci");
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        let layer = archive(root, &root.with_extension("layer"))?;
        let layer = add(&folder, &fs::read(layer)?, "application/vnd.oci.image.layer.v1.tar")?;
        Ok(Self { folder, layer })
    }

    /// Adds the manifest for a platform. Returns how it is named.
    fn manifest(&self, architecture: &str, config: &Value) -> Result<Value> {
        let mut all = json!({ "Env": ["PATH=/bin"], "WorkingDir": "/" });
        for (name, value) in config.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let config = json!({
            "architecture": architecture, "os": "linux", "config": all,
            "rootfs": { "type": "layers", "diff_ids": [self.layer["digest"]] },
        });
        let config = add(&self.folder, &serde_json::to_vec(&config)?, CONFIG)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [self.layer],
        });
        add(&self.folder, &serde_json::to_vec(&manifest)?, MANIFEST)
    }

    /// Ends it with what stands for the whole. Returns its archive.
    fn end(self, name: &str, mut top: Value) -> Result<PathBuf> {
        top["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [top] });
        fs::write(self.folder.join("index.json"), serde_json::to_vec(&index)?)?;
        fs::write(self.folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        archive(&self.folder, &self.folder.with_extension("tar"))
    }
}

/// Adds a blob to an image and returns how it is named in others.
fn add(image: &Path, blob: &[u8], kind: &str) -> Result<Value> {
    let digest = digest(blob, 64);
    fs::File::create(image.join("blobs/sha256").join(&digest))?.write_all(blob)?;
    Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": blob.len() }))
}

/// Writes a folder's content to an archive, the same bytes for the same content.
///
/// # Errors
///
/// If it cannot be read or written.
pub fn archive(folder: &Path, to: &Path) -> Result<PathBuf> {
    let flags = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"];
    run(Command::new("tar").args(flags).arg("-C").arg(folder).arg("-cf").arg(to).arg("."))?;
    Ok(to.to_owned())
}
