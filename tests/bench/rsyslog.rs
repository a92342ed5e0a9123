//! rsyslog: lines over TCP into a file. It acknowledges nothing; *sync* lets it call fsync after
//! each batch that it wrote.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use relay_tests::{
    measure::{cpu_time, now, status_of},
    wait::eventually,
};

use crate::{
    Bench,
    ingest::{STREAMS, Took},
    lines::{self, Kind},
    peer::Peer,
};

/// Whether rsyslog syncs what it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    On,
    Off,
}

/// An rsyslog that writes the lines it gets to a file.
#[derive(Debug)]
pub(crate) struct Rsyslog {
    pub(crate) peer: Peer,
    pub(crate) port: u16,
    pub(crate) file: PathBuf,
}

impl Rsyslog {
    /// Starts it in a folder that is not there yet.
    pub(crate) fn start(folder: &Path, sync: Sync) -> Result<Self> {
        fs::create_dir(folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let sync = if sync == Sync::On { "on" } else { "off" };
        let configuration = format!(
            r#"global(workDirectory="{}")
main_queue(queue.timeoutEnqueue="600000")
module(load="imtcp")
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imtcp" SupportOctetCountedFraming="off" address="127.0.0.1" port="0" listenPortFileName="{}")
action(type="omfile" file="{}" template="raw" sync="{sync}" asyncWriting="off" ioBufferSize="64k")
"#,
            folder.display(),
            path("port"),
            path("out"),
        );
        fs::write(folder.join("rsyslog.conf"), configuration)?;
        let arguments = ["-n", "-f", &path("rsyslog.conf"), "-i", &path("pid")];
        let peer = Peer::start(Path::new("/usr/sbin/rsyslogd"), &arguments.map(str::to_owned))?;
        let port = || fs::read_to_string(folder.join("port")).ok()?.trim().parse().ok();
        eventually(Duration::from_secs(20), "rsyslog listens", || port().is_some());
        Ok(Self { peer, port: port().unwrap_or_default(), file: folder.join("out") })
    }

    /// Bytes that it wrote.
    fn written(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }
}

/// Sends lines on as many connections as Relay is sent streams.
pub(crate) fn ingest(bench: &Bench, sync: Sync, bytes: u64) -> Result<Took> {
    let folder = bench.store();
    let rsyslog = Rsyslog::start(&folder, sync)?;
    let process = rsyslog.peer.pid();
    let block = lines::block(Kind::Real);
    let line = u64::try_from(lines::LINE)?;
    let streams = u64::try_from(STREAMS)?;
    let each = bytes / streams / line * line;
    let before = cpu_time(process)?;
    let begun = now();
    thread::scope(|scope| {
        let send = || -> Result<()> {
            let mut connection = TcpStream::connect(("127.0.0.1", rsyslog.port))?;
            let mut left = each;
            while left > 0 {
                let count = block.len().min(usize::try_from(left)?);
                connection.write_all(&block[..count])?;
                left -= u64::try_from(count)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..STREAMS).map(|_| scope.spawn(send)).collect();
        let all = threads.into_iter().map(|thread| thread.join().expect("no sender panics"));
        all.collect::<Result<Vec<_>>>()
    })?;
    eventually(Duration::from_mins(5), "rsyslog wrote all lines", || {
        rsyslog.written() >= each * streams
    });
    let took = Took {
        bytes: each * streams,
        wall: begun.elapsed(),
        cpu: cpu_time(process)?.saturating_sub(before),
        peak: status_of(process, "VmHWM")?,
        stored: rsyslog.written(),
    };
    ensure!(took.stored == each * streams, "rsyslog changed the lines");
    drop(rsyslog);
    fs::remove_file(folder.join("out"))?;
    Ok(took)
}
