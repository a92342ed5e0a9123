//! Images as `scripts/images` leaves them: archives of OCI layouts.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use relay_tests::{cluster::digest::digest, program};
use serde_json::Value;

/// What an archive says of a file or folder, whose name has no slash at its ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) is_folder: bool,
    pub(crate) bytes: Vec<u8>,
}

/// An image's archive.
pub(crate) struct Image {
    entries: BTreeMap<String, Entry>,
}

/// An image for one platform.
#[derive(Debug)]
pub(crate) struct OfPlatform {
    pub(crate) platform: String,
    pub(crate) config: Value,
    pub(crate) files: BTreeMap<String, Entry>,
}

impl Image {
    pub(crate) fn read(archive: &Path) -> Self {
        Self { entries: entries(&fs::read(archive).unwrap()) }
    }

    /// How the one image of the layout is described.
    pub(crate) fn descriptor(&self) -> Value {
        let index: Value = serde_json::from_slice(&self.entries["index.json"].bytes).unwrap();
        let [descriptor] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("not one image: {index}")
        };
        descriptor.clone()
    }

    /// The bytes that a descriptor speaks of.
    fn blob(&self, descriptor: &Value) -> &[u8] {
        let sum = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = &self.entries[&format!("blobs/sha256/{sum}")].bytes;
        assert_eq!(digest(blob, 64), sum);
        assert_eq!(descriptor["size"], blob.len());
        blob
    }

    fn json(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(self.blob(descriptor)).unwrap()
    }

    /// The image for each of its platforms.
    pub(crate) fn platforms(&self) -> Vec<OfPlatform> {
        let index = self.json(&self.descriptor());
        index["manifests"].as_array().unwrap().iter().map(|each| self.of_platform(each)).collect()
    }

    fn of_platform(&self, descriptor: &Value) -> OfPlatform {
        let manifest = self.json(descriptor);
        let config = self.json(&manifest["config"]);
        let layers = manifest["layers"].as_array().unwrap();
        let diffs = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(layers.len(), diffs.len());
        let mut files = BTreeMap::new();
        for (layer, diff) in layers.iter().zip(diffs) {
            let bytes = unzip(self.blob(layer));
            assert_eq!(*diff, format!("sha256:{}", digest(&bytes, 64)));
            files.extend(entries(&bytes));
        }
        let platform = descriptor["platform"]["architecture"].as_str().unwrap().to_owned();
        assert_eq!(
            (&config["architecture"], &config["os"]),
            (&Value::from(platform.as_str()), &"linux".into())
        );
        OfPlatform { platform, config, files }
    }
}

impl OfPlatform {
    /// Writes its files below a folder, as a runtime does.
    pub(crate) fn unpack(&self, folder: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        // Folders sort before what they hold.
        for (name, entry) in &self.files {
            let path = folder.join(name);
            if entry.is_folder {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode)).unwrap();
            } else {
                program::write(&path, &entry.bytes, entry.mode);
            }
        }
    }
}

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    let gzip = gzip.args(["--decompress", "--stdout"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut gzip = gzip.spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        let output = gzip.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    })
}

/// Reads an archive, all of whose entries belong to root and have no time of their own.
fn entries(mut archive: &[u8]) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    while let Some((header, rest)) =
        archive.split_at_checked(512).filter(|(header, _)| header[0] != 0)
    {
        let text = |from: usize, to: usize| {
            let field = header[from..to].split(|byte| *byte == 0).next().unwrap();
            std::str::from_utf8(field).unwrap().trim()
        };
        let number = |from, to| u64::from_str_radix(text(from, to), 8).unwrap();
        let name = text(0, 100).trim_matches('/').to_owned();
        assert_eq!((number(108, 116), number(116, 124), number(136, 148)), (0, 0, 0), "{name}");
        assert!(
            matches!(header[156], b'0' | b'5') && header[345] == 0,
            "{name} is a plain file or folder"
        );
        let size = usize::try_from(number(124, 136)).unwrap();
        let mode = u32::try_from(number(100, 108)).unwrap();
        let entry = Entry { mode, is_folder: header[156] == b'5', bytes: rest[..size].to_vec() };
        assert_eq!(entries.insert(name, entry), None);
        archive = &rest[size.next_multiple_of(512)..];
    }
    entries
}
