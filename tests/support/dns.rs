//! A small name server, RFC 1035, and a thread's own files in /etc that name it. The test decides
//! the answers.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

use super::Folder;

pub const A: u16 = 1;
pub const AAAA: u16 = 28;
const CNAME: u16 = 5;

pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const REFUSED: u8 = 5;

const HEADER: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub kind: u16,
    pub is_tcp: bool,
    /// How many times this server was asked this before, by UDP or by TCP.
    pub turn: usize,
}

pub enum Reply {
    /// No answer.
    Lost,
    /// Only a code; 0 means that the name has no such record.
    Code(u8),
    /// The addresses of the requested family.
    Addresses(Vec<IpAddr>),
    /// The name is an alias of another one, which has these.
    Alias(&'static str, Vec<IpAddr>),
    /// These addresses, with the truncation bit.
    Cut(Vec<IpAddr>),
    /// Like `Addresses`, with a wrong id.
    Forged(Vec<IpAddr>),
}

pub fn addresses(texts: &[&str]) -> Reply {
    Reply::Addresses(parsed(texts))
}

pub fn parsed(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// Listens on port 53 of an address in this network, by UDP and by TCP.
pub struct NameServer {
    asked: Arc<Mutex<Vec<Question>>>,
}

impl NameServer {
    pub fn on(
        address: [u8; 4],
        reply: impl Fn(&Question) -> Reply + Clone + Send + 'static,
    ) -> Self {
        let address = Ipv4Addr::from(address);
        let socket = UdpSocket::bind((address, 53)).expect("port 53");
        let listener = TcpListener::bind((address, 53)).expect("port 53");
        let asked = Arc::<Mutex<Vec<Question>>>::default();
        let server = Self { asked: asked.clone() };
        let (tcp_asked, tcp_reply) = (asked.clone(), reply.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer_tcp(stream, &tcp_asked, &tcp_reply);
            }
        });
        thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                if let Some(answer) = answered(&packet[..length], false, &asked, &reply) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        server
    }

    /// The questions so far, in order.
    pub fn asked(&self) -> Vec<Question> {
        self.asked.lock().expect("the questions").clone()
    }

    /// In short: `A app.test`, `AAAA app.test`; over TCP after a T.
    pub fn log(&self) -> Vec<String> {
        let line = |question: Question| {
            let kind = if question.kind == A { "A" } else { "AAAA" };
            let tcp = if question.is_tcp { "T" } else { "" };
            format!("{tcp}{kind} {}", question.name)
        };
        self.asked().into_iter().map(line).collect()
    }
}

fn answer_tcp(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Question>>,
    reply: impl Fn(&Question) -> Reply,
) -> io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut packet = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut packet)?;
    let Some(answer) = answered(&packet, true, asked, &reply) else { return Ok(()) };
    // In pieces.
    stream.write_all(&[(answer.len() >> 8) as u8])?;
    stream.write_all(&[answer.len() as u8])?;
    stream.write_all(&answer[..20])?;
    stream.write_all(&answer[20..])
}

fn answered(
    packet: &[u8],
    is_tcp: bool,
    asked: &Mutex<Vec<Question>>,
    reply: &dyn Fn(&Question) -> Reply,
) -> Option<Vec<u8>> {
    let (name, mut end) = name_in(packet)?;
    let kind = u16::from_be_bytes([*packet.get(end)?, *packet.get(end + 1)?]);
    end += 4;
    let question = {
        let mut asked = asked.lock().expect("the questions");
        let same =
            |other: &&Question| (&other.name, other.kind, other.is_tcp) == (&name, kind, is_tcp);
        let turn = asked.iter().filter(same).count();
        asked.push(Question { name, kind, is_tcp, turn });
        asked.last()?.clone()
    };
    let mut answer = packet[..end].to_vec();
    (answer[2], answer[3]) = (0x81, 0x80);
    answer[HEADER - 6..HEADER].fill(0); // no records yet, whatever the question had besides
    match reply(&question) {
        Reply::Lost => return None,
        Reply::Code(code) => answer[3] |= code,
        Reply::Addresses(addresses) => append(&mut answer, kind, HEADER, &addresses),
        Reply::Alias(name, addresses) => {
            let name = encoded(name);
            append_record(&mut answer, HEADER, CNAME, &name);
            let target = answer.len() - name.len();
            append(&mut answer, kind, target, &addresses);
        }
        Reply::Cut(addresses) => {
            answer[2] |= 2;
            append(&mut answer, kind, HEADER, &addresses);
        }
        Reply::Forged(addresses) => {
            answer[1] ^= 1;
            append(&mut answer, kind, HEADER, &addresses);
        }
    }
    Some(answer)
}

/// The name, and the offset of its end.
fn name_in(packet: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (vec![], HEADER);
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[label.len() as u8][..], label.as_bytes()].concat();
    let mut bytes: Vec<u8> = name.split('.').flat_map(label).collect();
    bytes.push(0);
    bytes
}

/// Appends the addresses of that family, as records of the name at offset `owner`.
fn append(answer: &mut Vec<u8>, kind: u16, owner: usize, addresses: &[IpAddr]) {
    for address in addresses {
        match address {
            IpAddr::V4(address) if kind == A => {
                append_record(answer, owner, kind, &address.octets());
            }
            IpAddr::V6(address) if kind == AAAA => {
                append_record(answer, owner, kind, &address.octets());
            }
            _ => {}
        }
    }
}

fn append_record(answer: &mut Vec<u8>, owner: usize, kind: u16, data: &[u8]) {
    answer.extend([0xc0 | (owner >> 8) as u8, owner as u8]);
    answer.extend([0, kind as u8, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
    answer.extend(data);
    answer[7] += 1;
}

/// The files in /etc that this thread, and every process it starts from now on, sees.
pub struct OwnEtc(Folder);

impl OwnEtc {
    /// Without hosts and name servers.
    pub fn enter() -> Self {
        let own = Self(Folder::new());
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NO, "/", NO, private, NO).expect("mounts of its own");
        own.set("", "");
        // Only glibc reads it.
        fs::write(own.0.path("nsswitch.conf"), "hosts: files dns\n").expect("a file");
        for name in ["resolv.conf", "hosts", "nsswitch.conf"] {
            let place = Path::new("/etc").join(name);
            if name != "nsswitch.conf" || place.exists() {
                mount(Some(&own.0.path(name)), &place, NO, MsFlags::MS_BIND, NO).expect("mounted");
            }
        }
        own
    }

    /// Writes resolv.conf and hosts.
    pub fn set(&self, servers: &str, hosts: &str) {
        fs::write(self.0.path("resolv.conf"), servers).expect("a file");
        fs::write(self.0.path("hosts"), hosts).expect("a file");
    }
}

const NO: Option<&Path> = None;

/// Accepts connections at this address while it is kept.
pub fn listener(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).expect("a port");
    let port = listener.local_addr().map(|address: SocketAddr| address.port());
    let port = port.expect("an address");
    (listener, port)
}
