//! What the files of hosts(5) and resolv.conf(5) say.
//!
//! Pure, and as musl reads them; what cannot be read says nothing.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

/// More name servers are not asked.
const SERVERS: usize = 3;

/// The addresses that the hosts file has for a name.
pub fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        if let Some(Ok(address)) = words.next().map(str::parse)
            && words.any(|word| word.eq_ignore_ascii_case(name))
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Who is asked, what, and how often.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolver<'a> {
    pub servers: Vec<IpAddr>,
    search: Vec<&'a str>,
    ndots: u32,
    /// For all attempts together, in seconds.
    pub timeout: u32,
    pub attempts: u32,
}

impl<'a> Resolver<'a> {
    pub fn read(text: &'a str) -> Self {
        let mut resolver =
            Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: 5, attempts: 2 };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(Ok(server)) = words.next().map(str::parse)
                        && resolver.servers.len() < SERVERS
                    {
                        resolver.servers.push(server);
                    }
                }
                Some("domain" | "search") => {
                    resolver.search.clear();
                    for domain in words {
                        resolver.search.push(domain.trim_end_matches('.'));
                    }
                }
                Some("options") => words.for_each(|option| resolver.set(option)),
                _ => {}
            }
        }
        if resolver.servers.is_empty() {
            resolver.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        resolver
    }

    fn set(&mut self, option: &str) {
        let Some((name, Ok(value))) =
            option.split_once(':').map(|(name, text)| (name, text.parse()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = value,
            "timeout" => self.timeout = value.clamp(1, 60),
            "attempts" => self.attempts = value.clamp(1, 10),
            _ => {}
        }
    }

    /// The names that a name may stand for, in the order in which they are asked for.
    pub fn names(&self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        if dots < self.ndots as usize && !name.ends_with('.') {
            for domain in &self.search {
                names.push(format!("{name}.{domain}"));
            }
        }
        names.push(name.strip_suffix('.').unwrap_or(name).to_owned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn hosts_are_found_by_each_of_their_names() {
        let text =
            "# 10.0.0.9 a\n\n127.0.0.1\tlocalhost\n10.0.0.1 a.b  A # c\nx a\n::1 b a\n10.0.0.3 d";
        assert_eq!(hosts(text, "a"), [ip("10.0.0.1"), ip("::1")]);
        assert_eq!(hosts(text, "A.b"), [ip("10.0.0.1")]);
        assert_eq!(hosts(text, "d"), [ip("10.0.0.3")]);
        for missing in ["c", "10.0.0.1", "b.", "loc", "localhost.a", ""] {
            assert!(hosts(text, missing).is_empty(), "{missing}");
        }
    }

    #[test]
    fn what_kubernetes_writes_is_read() {
        let text = "search ns.svc.cluster.local svc.cluster.local cluster.local.\n\
                    nameserver 10.96.0.10\noptions ndots:5 edns0 timeout:x\n";
        let resolver = Resolver::read(text);
        assert_eq!(resolver.servers, [ip("10.96.0.10")]);
        assert_eq!((resolver.timeout, resolver.attempts), (5, 2));
        let names =
            ["app.ns.svc.cluster.local", "app.svc.cluster.local", "app.cluster.local", "app"];
        assert_eq!(resolver.names("app"), names);
        assert_eq!(resolver.names("app."), ["app"]);
        assert_eq!(resolver.names("a.b.c.d.e.f"), ["a.b.c.d.e.f"]);
    }

    #[test]
    fn the_defaults_are_those_of_resolv_conf() {
        let expected = Resolver {
            servers: vec![ip("127.0.0.1")],
            search: Vec::new(),
            ndots: 1,
            timeout: 5,
            attempts: 2,
        };
        for text in
            ["", "; nameserver 10.0.0.1\n#options ndots:2", "nameserver\nnameserver x\noptions"]
        {
            assert_eq!(Resolver::read(text), expected, "{text}");
        }
    }

    #[test]
    fn the_last_list_and_the_first_three_servers_count() {
        let text = "domain a\nsearch b c\nnameserver ::1\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n\
                    nameserver 10.0.0.3\noptions timeout:0 attempts:99\noptions ndots:0";
        let resolver = Resolver::read(text);
        assert_eq!(resolver.servers, [ip("::1"), ip("10.0.0.1"), ip("10.0.0.2")]);
        assert_eq!(resolver.search, ["b", "c"]);
        assert_eq!((resolver.timeout, resolver.attempts, resolver.ndots), (1, 10, 0));
        assert_eq!(resolver.names("app"), ["app"]);
    }
}
