//! Every range from both sides of its ends, every spelling of an address, and what stays closed
//! whatever is opened.

use super::*;
use crate::outbound::target::{Target, TargetHost};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
}

fn check(vet: &Vet, ip: IpAddr) -> Result<(), Vetoed> {
    vet.check(SocketAddr::new(ip, 80))
}

fn public() -> Vet {
    Vet::public(Vec::new(), Vec::new())
}

fn allowing(nets: &[&str]) -> Vet {
    let nets = nets.iter().map(|net| net.parse().expect("a network")).collect();
    Vet::public(nets, Vec::new())
}

#[test]
fn every_special_range_is_refused_from_its_first_to_its_last_address_and_no_further() {
    // First and last address of the range, and the neighbours outside that are public.
    for (before, first, last, after) in [
        (None, "0.0.0.0", "0.255.255.255", Some("1.0.0.0")),
        (Some("9.255.255.255"), "10.0.0.0", "10.255.255.255", Some("11.0.0.0")),
        (Some("100.63.255.255"), "100.64.0.0", "100.127.255.255", Some("100.128.0.0")),
        (Some("126.255.255.255"), "127.0.0.0", "127.255.255.255", Some("128.0.0.0")),
        (Some("168.63.129.15"), "168.63.129.16", "168.63.129.16", Some("168.63.129.17")),
        (Some("169.253.255.255"), "169.254.0.0", "169.254.255.255", Some("169.255.0.0")),
        (Some("172.15.255.255"), "172.16.0.0", "172.31.255.255", Some("172.32.0.0")),
        (Some("191.255.255.255"), "192.0.0.0", "192.0.0.255", Some("192.0.1.0")),
        (Some("192.0.1.255"), "192.0.2.0", "192.0.2.255", Some("192.0.3.0")),
        (Some("192.88.98.255"), "192.88.99.0", "192.88.99.255", Some("192.88.100.0")),
        (Some("192.167.255.255"), "192.168.0.0", "192.168.255.255", Some("192.169.0.0")),
        (Some("198.17.255.255"), "198.18.0.0", "198.19.255.255", Some("198.20.0.0")),
        (Some("198.51.99.255"), "198.51.100.0", "198.51.100.255", Some("198.51.101.0")),
        (Some("203.0.112.255"), "203.0.113.0", "203.0.113.255", Some("203.0.114.0")),
        (Some("223.255.255.255"), "224.0.0.0", "255.255.255.255", None),
        (None, "::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("2000::")),
        (
            Some("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "2001::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2001:200::"),
        ),
        (
            Some("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2001:db9::"),
        ),
        (
            Some("2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "2002::",
            "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2003::"),
        ),
        (
            Some("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("3fff:1000::"),
        ),
        (
            Some("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "4000::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
        ),
    ] {
        for refused in [first, last] {
            assert_eq!(check(&public(), ip(refused)), Err(Vetoed(ip(refused))), "{refused}");
        }
        for allowed in [before, after].into_iter().flatten() {
            assert_eq!(check(&public(), ip(allowed)), Ok(()), "{allowed}");
        }
    }
}

#[test]
fn every_kind_of_address_that_is_not_public_is_refused() {
    for (kind, text) in [
        ("loopback", "127.0.0.1"),
        ("loopback", "127.1.2.3"),
        ("loopback", "::1"),
        ("unspecified", "0.0.0.0"),
        ("unspecified", "::"),
        ("broadcast", "255.255.255.255"),
        ("multicast", "224.0.0.1"),
        ("multicast", "239.255.255.250"),
        ("multicast", "ff02::1"),
        ("multicast, global", "ff0e::1"),
        ("reserved", "240.0.0.1"),
        ("link-local", "fe80::1"),
        ("site-local", "fec0::1"),
        ("unique local", "fc00::1"),
        ("unique local", "fd12:3456:789a::1"),
        ("metadata of AWS, Google, Azure", "169.254.169.254"),
        ("metadata of ECS", "169.254.170.2"),
        ("metadata of AWS", "fd00:ec2::254"),
        ("metadata of Google", "fd20:ce::254"),
        ("metadata of Alibaba", "100.100.100.200"),
        ("metadata of Oracle", "192.0.0.192"),
        ("host of Azure", "168.63.129.16"),
        ("NAT64 of a private address", "64:ff9b::10.0.0.1"),
        ("NAT64 of a public address", "64:ff9b::8.8.8.8"),
        ("NAT64, local", "64:ff9b:1::1"),
        ("6to4 of loopback", "2002:7f00:1::1"),
        ("6to4 of a public address", "2002:808:808::1"),
        ("Teredo", "2001:0:53aa:64c:0:0:80ff:fffe"),
        ("ORCHID", "2001:20::1"),
        ("benchmark", "2001:2::1"),
        ("documentation", "2001:db8::1"),
        ("discard-only", "100::1"),
        ("segment routing", "5f00::1"),
        ("ISATAP of a private address", "2a00:1450::5efe:10.0.0.1"),
        ("ISATAP of a public address", "2a00:1450::200:5efe:8.8.8.8"),
        ("IPv4-compatible", "::127.0.0.1"),
        ("IPv4-compatible of a public address", "::8.8.8.8"),
        ("translated (SIIT)", "::ffff:0:127.0.0.1"),
    ] {
        assert_eq!(check(&public(), ip(text)), Err(Vetoed(ip(text))), "{kind}: {text}");
    }
    for text in ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450::1"] {
        assert_eq!(check(&public(), ip(text)), Ok(()), "{text}");
    }
}

#[test]
fn a_mapped_address_is_judged_as_the_one_it_maps() {
    let private = Err(Vetoed(ip("10.1.2.3")));
    assert_eq!(check(&public(), ip("::ffff:10.1.2.3")), private);
    assert_eq!(check(&public(), ip("::ffff:8.8.8.8")), Ok(()));
    assert_eq!(check(&allowing(&["10.0.0.0/8"]), ip("::ffff:10.1.2.3")), Ok(()));
    // What is opened in IPv6 opens nothing in IPv4.
    assert_eq!(check(&allowing(&["::/0"]), ip("::ffff:10.1.2.3")), private);
}

#[test]
fn the_operator_opens_exactly_the_networks_he_names() {
    let vet = allowing(&["10.1.0.0/16", "127.0.0.1/32", "fd00::/8"]);
    for (text, is_open) in [
        ("10.1.0.0", true),
        ("10.1.255.255", true),
        ("10.0.255.255", false),
        ("10.2.0.0", false),
        ("127.0.0.1", true),
        ("127.0.0.2", false),
        ("fd00:ec2::254", true),
        ("fc00::1", false),
        ("::1", false),
        ("64:ff9b::10.1.0.1", false),
    ] {
        assert_eq!(check(&vet, ip(text)).is_ok(), is_open, "{text}");
    }
}

#[test]
fn the_servers_own_listeners_are_never_called_whatever_is_open() {
    let everything = || vec!["0.0.0.0/0".parse().expect("v4"), "::/0".parse().expect("v6")];
    let refused = |own: &str, called: &str| {
        let own = vec![own.parse().expect("an address")];
        Vet::public(everything(), own).check(called.parse().expect("an address")).is_err()
    };
    for (own, called, is_refused) in [
        ("127.0.0.1:8080", "127.0.0.1:8080", true),
        ("127.0.0.1:8080", "127.0.0.1:8081", false),
        ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", true),
        ("127.0.0.1:8080", "0.0.0.0:8080", true),
        ("127.0.0.1:8080", "[::]:8080", true),
        ("127.0.0.1:8080", "10.0.0.1:8080", false),
        ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080", true),
        ("203.0.113.7:443", "203.0.113.7:443", true),
        ("203.0.113.7:443", "203.0.113.7:80", false),
        ("0.0.0.0:8080", "127.0.0.1:8080", true),
        ("0.0.0.0:8080", "127.8.9.1:8080", true),
        ("0.0.0.0:8080", "127.0.0.1:80", false),
        ("0.0.0.0:8080", "203.0.113.7:8080", false),
        ("[::]:8080", "127.0.0.1:8080", true),
        ("[::]:8080", "[::1]:8080", true),
        ("[::]:8080", "8.8.8.8:8080", false),
    ] {
        assert_eq!(refused(own, called), is_refused, "listening at {own}, calling {called}");
    }
}

#[test]
fn destinations_of_the_operator_are_not_vetted() {
    for text in ["127.0.0.1", "169.254.169.254", "::1", "fd00::1", "0.0.0.0"] {
        assert_eq!(check(&Vet::none(), ip(text)), Ok(()), "{text}");
    }
}

/// What the standard's reader makes of a host, vetted; `None` if it is no address.
fn vetted(host: &str) -> Option<Result<(), Vetoed>> {
    let target = Target::parse(&format!("http://{host}/")).expect(host);
    match target.host() {
        TargetHost::Address(ip) => Some(check(&public(), *ip)),
        TargetHost::Name(_) => None,
    }
}

#[test]
fn every_spelling_of_an_address_is_vetted_as_the_address() {
    for (host, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7F.1", "127.0.0.1"),
        ("0x7f.0.0.0x1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("00000177.0.0.1", "127.0.0.1"),
        ("%31%32%37.0.0.1", "127.0.0.1"),
        ("127%2e0%2e0%2e1", "127.0.0.1"),
        ("１２７.０.０.１", "127.0.0.1"),
        ("①②⑦.⓪.⓪.①", "127.0.0.1"),
        ("127。0。0。1", "127.0.0.1"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("2852039166", "169.254.169.254"),
        ("169.254.43518", "169.254.169.254"),
        ("0251.0376.0251.0376", "169.254.169.254"),
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::]", "::"),
        ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ("[::FFFF:7f00:1]", "127.0.0.1"),
        ("[0:0:0:0:0:ffff:7f00:0001]", "127.0.0.1"),
        ("[::ffff:169.254.169.254]", "169.254.169.254"),
        ("[::ffff:a9fe:a9fe]", "169.254.169.254"),
        ("[::127.0.0.1]", "::7f00:1"),
        ("[64:ff9b::7f00:1]", "64:ff9b::7f00:1"),
        ("[fe80::1]", "fe80::1"),
        ("[FD00::1]", "fd00::1"),
    ] {
        assert_eq!(vetted(host), Some(Err(Vetoed(ip(address)))), "{host}");
    }
    for host in ["1.1.1.1", "0x01010101", "16843009", "[::ffff:1.1.1.1]", "[2606:4700::1111]"] {
        assert_eq!(vetted(host), Some(Ok(())), "{host}");
    }
    // Names that only look like addresses are looked up, and what comes of it is vetted.
    for host in ["127.0.0.1.nip.io", "localhost", "LOCALHOST.", "a.0x7f.example", "xn--nxasmq6b"] {
        assert_eq!(vetted(host), None, "{host}");
    }
}
