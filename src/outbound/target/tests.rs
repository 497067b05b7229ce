//! What is a URL that can be called, and what is sent for it.

use proptest::prelude::*;

use super::*;

#[test]
fn a_url_is_read_once_and_its_parts_agree() {
    for (text, normal, host, port) in [
        ("http://example.com", "http://example.com/", "example.com", 80),
        ("HTTPS://Example.COM:443/a?b=c", "https://example.com/a?b=c", "example.com", 443),
        ("https://example.com:8443/", "https://example.com:8443/", "example.com", 8443),
        ("http://example.com.:65535/", "http://example.com.:65535/", "example.com.", 65535),
        ("http://bücher.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80),
        ("http://ｅｘａｍｐｌｅ.com/", "http://example.com/", "example.com", 80),
        ("http://a_b.example/", "http://a_b.example/", "a_b.example", 80),
        (
            "http://example.com/a b".trim_end_matches(" b"),
            "http://example.com/a",
            "example.com",
            80,
        ),
        ("http://example.com/ü?ü", "http://example.com/%C3%BC?%C3%BC", "example.com", 80),
        ("http://example.com/a/../b", "http://example.com/b", "example.com", 80),
        ("http://example.com/%2e%2e/b|{}^", "http://example.com/b|%7B%7D^", "example.com", 80),
    ] {
        let target = Target::parse(text).expect(text);
        assert_eq!(target.as_str(), normal, "{text}");
        assert_eq!(target.host(), &TargetHost::Name(host.to_owned()), "{text}");
        assert_eq!(target.port(), port, "{text}");
        assert_eq!(target.uri().to_string(), normal, "{text}");
    }
}

#[test]
fn what_cannot_be_called_is_refused_with_the_reason() {
    for (text, fault) in [
        ("", UrlFault::Malformed),
        ("example.com/hook", UrlFault::Malformed),
        ("/hook", UrlFault::Malformed),
        ("//example.com/", UrlFault::Malformed),
        (" http://example.com/", UrlFault::Malformed),
        ("http://example.com/ ", UrlFault::Malformed),
        ("http://example.com/a b", UrlFault::Malformed),
        ("http://exam\nple.com/", UrlFault::Malformed),
        ("http://example.com/\t", UrlFault::Malformed),
        ("http://example.com\\@127.0.0.1/", UrlFault::Malformed),
        ("http:\\\\example.com/", UrlFault::Malformed),
        ("http://example.com/\u{a0}", UrlFault::Malformed),
        ("foo://example.com/", UrlFault::Scheme),
        ("ftp://example.com/", UrlFault::Scheme),
        ("file:///etc/passwd", UrlFault::Scheme),
        ("gopher://127.0.0.1:6379/_x", UrlFault::Scheme),
        ("javascript:alert(1)", UrlFault::Scheme),
        ("data:text/plain,x", UrlFault::Scheme),
        ("ws://example.com/", UrlFault::Scheme),
        ("http://user@example.com/", UrlFault::Credentials),
        ("http://user:password@example.com/", UrlFault::Credentials),
        ("http://:password@example.com/", UrlFault::Credentials),
        ("http://example.com@127.0.0.1/", UrlFault::Credentials),
        ("http://example.com/#", UrlFault::Fragment),
        ("http://example.com/a#b", UrlFault::Fragment),
        ("http://", UrlFault::Host),
        ("http://?a", UrlFault::Host),
        ("http://:80/", UrlFault::Host),
        ("http://./", UrlFault::Host),
        ("http://../", UrlFault::Host),
        ("http://a..b/", UrlFault::Host),
        ("http://.example.com/", UrlFault::Host),
        ("http://example.com../", UrlFault::Host),
        ("http://exa%00mple.com/", UrlFault::Host),
        ("http://exa%20mple.com/", UrlFault::Host),
        ("http://exa%2fmple.com/", UrlFault::Host),
        ("http://exa%40mple.com/", UrlFault::Host),
        ("http://exa%25mple.com/", UrlFault::Host),
        ("http://exa<mple.com/", UrlFault::Host),
        ("http://xn--a/", UrlFault::Host),
        ("http://\u{ad}/", UrlFault::Host),
        ("http://256.0.0.1/", UrlFault::Host),
        ("http://1.2.3.4.5/", UrlFault::Host),
        ("http://0x100000000/", UrlFault::Host),
        ("http://09.0.0.1/", UrlFault::Host),
        ("http://example.0x7f/", UrlFault::Host),
        ("http://[::1/", UrlFault::Host),
        ("http://[fe80::1%25eth0]/", UrlFault::Host),
        ("http://[::1]]/", UrlFault::Host),
        ("http://[127.0.0.1]/", UrlFault::Host),
        ("http://example.com:0/", UrlFault::Port),
        ("http://example.com:65536/", UrlFault::Port),
        ("http://example.com:-1/", UrlFault::Port),
        ("http://example.com:8o/", UrlFault::Port),
    ] {
        assert_eq!(Target::parse(text).err(), Some(fault), "{text:?}");
    }
}

#[test]
fn lengths_are_bounded_as_sent_and_as_kept() {
    let longest = format!("http://a.example/{}", "x".repeat(URL_BYTES_MAX - 17));
    assert_eq!(longest.len(), URL_BYTES_MAX);
    assert!(Target::parse(&longest).is_ok());
    assert_eq!(Target::parse(&format!("{longest}x")).err(), Some(UrlFault::TooLong));
    // Escaped, it has three times as many bytes.
    let grows = format!("http://a.example/{}", "ü".repeat(URL_BYTES_MAX / 3));
    assert!(grows.len() <= URL_BYTES_MAX);
    assert_eq!(Target::parse(&grows).err(), Some(UrlFault::TooLong));

    let label = "a".repeat(HOST_LABEL_BYTES_MAX);
    assert!(Target::parse(&format!("http://{label}.example/")).is_ok());
    let longer = Target::parse(&format!("http://{label}a.example/")).err();
    assert_eq!(longer, Some(UrlFault::Host));
    let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(name.len(), HOST_NAME_BYTES_MAX);
    assert!(Target::parse(&format!("http://{name}/")).is_ok());
    assert!(Target::parse(&format!("http://{name}./")).is_ok());
    let longer = Target::parse(&format!("http://{name}a/")).err();
    assert_eq!(longer, Some(UrlFault::Host));
}

#[test]
fn a_secret_in_path_or_query_is_not_shown() {
    let target = Target::parse("https://hooks.example:8443/T0/secret?token=secret").expect("good");
    assert!(!format!("{target:?} {}", target.origin()).contains("secret"));
    assert_eq!(target.origin(), "https://hooks.example:8443");
}

#[test]
fn parameters_arrive_as_they_were_meant_under_any_base() {
    let below = |base: &str| {
        let target = Target::parse(base).expect(base);
        let query = [("message", "a&b=ü %+#/"), ("signature", "-._~")];
        target.below("/crypto/sign", &query).expect("short").to_string()
    };
    let line = "/crypto/sign?message=a%26b%3D%C3%BC%20%25%2B%23%2F&signature=-._~";
    assert_eq!(below("http://a.example"), format!("http://a.example{line}"));
    assert_eq!(below("http://a.example/api"), format!("http://a.example/api{line}"));
    assert_eq!(below("http://a.example/api/?x=1"), format!("http://a.example/api{line}"));
    assert_eq!(below("https://[::1]:8443/"), format!("https://[::1]:8443{line}"));
}

#[test]
fn a_line_that_cannot_be_sent_is_refused() {
    use crate::limits::SEAL_TARGET_BYTES_MAX;
    let target = Target::parse("http://a.example").expect("good");
    let longest = "x".repeat(SEAL_TARGET_BYTES_MAX - "/s?message=".len());
    assert!(target.below("/s", &[("message", &longest)]).is_ok());
    let longer = format!("{longest}x");
    assert_eq!(target.below("/s", &[("message", &longer)]), Err(UrlFault::TooLong));
}

/// Pieces that readers of URLs disagree about.
const PIECES: [&str; 32] = [
    "http", "https", "://", ":", "/", "//", "@", "?", "#", "[", "]", "%", "%40", "%2e", ".", "..",
    "127.1", "0x7f", "::1", "::ffff:", "example", "com", "80", "0", "65536", "a:b", "①", "。", "ü",
    "xn--", "\u{ad}", "|",
];

proptest! {
    #[test]
    fn no_text_is_read_in_two_ways(picked in prop::collection::vec(0..PIECES.len(), 0..12)) {
        let rest: String = picked.into_iter().map(|piece| PIECES[piece]).collect();
        for text in [&rest, &format!("http://{rest}")] {
            let Ok(target) = Target::parse(text) else { continue };
            let url = Url::parse(text).expect("it was read");
            prop_assert!(target.port() != 0 && target.as_str().len() <= URL_BYTES_MAX);
            prop_assert_eq!(target.uri().host(), url.host_str());
            prop_assert!(url.username().is_empty() && url.fragment().is_none());
            if let TargetHost::Name(name) = target.host() {
                prop_assert!(name.parse::<IpAddr>().is_err());
            }
            // What is kept is read again as the same.
            prop_assert_eq!(Target::parse(target.as_str()), Ok(target));
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = Target::parse(&text);
        let _ = Target::parse(&format!("http://{text}"));
    }
}
