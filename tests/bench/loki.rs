//! Loki, as one process on a folder: lines pushed as protobuf, its cheapest form.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use relay_tests::{
    measure::{Samples, cpu_time, now, status_of},
    wait::eventually,
};
use serde_json::Value;

use crate::{
    Bench, follow,
    http::{Connection, Request},
    ingest::{self, STREAMS, Took},
    lines::{self, Kind},
    peer::Peer,
    wrapper::Wrapper,
};

/// Lines of a push: about 1 MiB.
const PUSH: usize = 10_000;

/// A Loki that is ready.
#[derive(Debug)]
struct Loki {
    peer: Peer,
    url: String,
}

impl Loki {
    /// Starts it, again if somebody else took a port that was free.
    fn start(bench: &Bench, folder: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        loop {
            let mut loki = Self::try_start(bench, folder)?;
            let ready = Request { line: "GET /ready", headers: "", body: b"" };
            let mut ended = false;
            eventually(Duration::from_mins(2), "Loki is ready", || {
                ended = loki.peer.has_ended();
                ended || Connection::open(&loki.url).is_ok_and(|mut it| it.ask(ready).is_ok())
            });
            if !ended {
                return Ok(loki);
            }
        }
    }

    /// Starts it with its limits out of the way. Its default of 4 MB/s is no figure of its speed.
    fn try_start(bench: &Bench, folder: &Path) -> Result<Self> {
        let [http, grpc] = [free_port()?, free_port()?];
        let directory = folder.display();
        let configuration = format!(
            "auth_enabled: false
server: {{http_listen_address: 127.0.0.1, http_listen_port: {http}, grpc_listen_address: 127.0.0.1, grpc_listen_port: {grpc}, log_level: error, grpc_server_max_recv_msg_size: 67108864}}
common:
  instance_addr: 127.0.0.1
  path_prefix: {directory}
  storage: {{filesystem: {{chunks_directory: {directory}/chunks, rules_directory: {directory}/rules}}}}
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
schema_config: {{configs: [{{from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {{prefix: index_, period: 24h}}}}]}}
limits_config: {{ingestion_rate_mb: 4096, ingestion_burst_size_mb: 4096, per_stream_rate_limit: 4GB, per_stream_rate_limit_burst: 4GB, reject_old_samples: false}}
analytics: {{reporting_enabled: false}}
"
        );
        let path = folder.join("loki.yaml");
        fs::write(&path, configuration)?;
        let arguments = [format!("-config.file={}", path.display())];
        let peer = Peer::start(&bench.tool("loki/loki")?, &arguments)?;
        Ok(Self { peer, url: format!("http://127.0.0.1:{http}") })
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Pushes as much as Relay is sent, on as many connections and streams.
pub(crate) fn ingest(bench: &Bench, bytes: u64) -> Result<Took> {
    let folder = bench.store();
    let loki = Loki::start(bench, &folder)?;
    let process = loki.peer.pid();
    let block = lines::block(Kind::Real);
    let pushes = bytes / u64::try_from(PUSH * lines::LINE)?;
    let left = Mutex::new(pushes);
    let before = cpu_time(process)?;
    let begun = now();
    thread::scope(|scope| {
        let (left, url, block) = (&left, &loki.url, &block);
        let threads: Vec<_> = (0..STREAMS)
            .map(|stream| scope.spawn(move || push_until_none_is_left(url, (stream, block), left)))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no writer panics"))
    })?;
    let took = Took {
        bytes: pushes * u64::try_from(PUSH * lines::LINE)?,
        wall: begun.elapsed(),
        cpu: cpu_time(process)?.saturating_sub(before),
        peak: status_of(process, "VmHWM")?,
        stored: ingest::stored(&folder)?,
    };
    Ok(took)
}

fn push_until_none_is_left(
    url: &str,
    (stream, block): (usize, &[u8]),
    left: &Mutex<u64>,
) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let labels = format!(r#"{{job="bench",stream="{stream}"}}"#);
    for piece in block.chunks_exact(PUSH * lines::LINE).cycle() {
        {
            let mut left = left.lock().expect("no writer panics");
            if *left == 0 {
                break;
            }
            *left -= 1;
        }
        let lines = piece.chunks_exact(lines::LINE).map(|line| &line[..lines::LINE - 1]);
        push(&mut connection, &labels, lines)?;
    }
    Ok(())
}

/// One push: `PushRequest` of logproto, in a block of snappy that is stored and not compressed,
/// which is what costs the server least.
fn push<'a>(
    connection: &mut Connection,
    labels: &str,
    lines: impl Iterator<Item = &'a [u8]>,
) -> Result<()> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut stream = field(1, labels.as_bytes());
    for (number, line) in (0_u32..).zip(lines) {
        let time = time + Duration::from_nanos(number.into());
        let mut stamp = vec![1 << 3];
        stamp.extend(varint(time.as_secs()));
        stamp.push(2 << 3);
        stamp.extend(varint(time.subsec_nanos().into()));
        let mut entry = field(1, &stamp);
        entry.extend(field(2, line));
        stream.extend(field(2, &entry));
    }
    let request = field(1, &stream);
    let mut body = varint(u64::try_from(request.len())?);
    body.push(63 << 2);
    body.extend(u32::try_from(request.len() - 1)?.to_le_bytes());
    body.extend(request);
    let headers = "Content-Type: application/x-protobuf\r\n";
    let line = "POST /loki/api/v1/push";
    connection.ask(Request { line, headers, body: &body }).map(drop)
}

/// A field of protobuf that has a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    field.extend(varint(bytes.len().try_into().expect("it fits")));
    field.extend(bytes);
    field
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
    bytes
}

/// Ages of lines that are pushed one by one and tailed.
pub(crate) fn follow(bench: &Bench) -> Result<Samples> {
    let folder = bench.store();
    let loki = Loki::start(bench, &folder)?;
    let mut tail = Connection::open(&loki.url)?;
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let line = "GET /loki/api/v1/tail?query=%7Bjob%3D%22clock%22%7D&delay_for=0";
    tail.send(Request { line, headers, body: b"" })?;
    let (status, _) = tail.head()?;
    ensure!(status == 101, "Loki's tail answered {status}");
    let mut ticker = follow::ticker(bench, &Wrapper::none()).spawn()?;
    let ticks = ticker.stdout.take().context("the program has no output")?;
    let url = loki.url.clone();
    let sender = thread::spawn(move || -> Result<()> {
        let mut connection = Connection::open(&url)?;
        for line in BufReader::new(ticks).lines() {
            push(&mut connection, r#"{job="clock"}"#, std::iter::once(line?.as_bytes()))?;
        }
        Ok(())
    });
    let mut ages = Vec::new();
    while ages.len() < bench.runs(follow::LINES) {
        let message: Value = serde_json::from_slice(&message(tail.raw())?)?;
        for stream in message["streams"].as_array().into_iter().flatten() {
            for value in stream["values"].as_array().into_iter().flatten() {
                ages.push(follow::age(value[1].as_str().context("a line is text")?)?);
            }
        }
    }
    sender.join().expect("it does not panic")?;
    ticker.wait()?;
    Ok(Samples::new(ages))
}

/// A message of a websocket, which a server sends in one frame.
fn message(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length)?;
            usize::try_from(u64::from_be_bytes(length))?
        }
        length => length.into(),
    };
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    // Pings and the like have nothing to tell.
    if head[0] & 0xf == 1 { Ok(message) } else { self::message(stream) }
}
