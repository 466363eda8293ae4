use super::*;

#[test]
fn messages_read_as_upstream() {
    let long = "a".repeat(64);
    assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    assert_eq!(
        dns1123_label("A_"),
        [
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        ]
    );
    assert_eq!(dns1123_label(&long), ["must be no more than 63 characters"]);
    assert_eq!(label_value(&long), ["must be no more than 63 bytes"]);
    assert_eq!(
        dns1123_subdomain("a..b"),
        [
            r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
    assert_eq!(
        qualified_name("/"),
        [
            "prefix part must be non-empty",
            "name part must be non-empty",
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        ]
    );
    assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
    assert_eq!(path_segment(".."), ["may not be '..'"]);
    assert_eq!(path_segment("a/%"), ["may not contain '/'", "may not contain '%'"]);
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
}

#[test]
fn good_names_pass() {
    for name in ["a", "0", "a-1", &"a".repeat(63)] {
        assert!(dns1123_label(name).is_empty(), "{name}");
    }
    assert!(dns1035_label("1a").len() == 1 && dns1035_label("").len() == 1 && dns1035_label("a1").is_empty());
    assert!(is_dns_label_name("web-", true).is_empty() && !is_dns_label_name("web-", false).is_empty());
    assert!(is_dns_label_name("w--", true).is_empty(), "the dash before the last goes too");
    assert!(qualified_name("example.com/My_Name.x").is_empty() && label_value("").is_empty());
    assert!(wildcard_dns1123_subdomain("*.a.b").is_empty() && !wildcard_dns1123_subdomain("*").is_empty());
    assert!(env_var_name("my.VAR_1").is_empty() && !env_var_name("1a").is_empty());
    assert!(config_map_key("a.txt").is_empty() && config_map_key("..").len() == 1);
    assert!(port_name("http-1").is_empty() && port_name("1").len() == 1 && port_name("").len() == 2);
    assert!(dns1123_subdomain_with_underscore("_srv.a_b.x").is_empty());
    assert!(
        decimal_integer("-12").is_empty()
            && !decimal_integer("012").is_empty()
            && !decimal_integer("-0").is_empty()
    );
}

#[test]
fn addresses() {
    assert!(ip::legacy_ip("010.1.2.3", false).is_empty());
    assert_eq!(ip::legacy_ip("010.1.2.3", true), ["must not have leading 0s"]);
    assert_eq!(ip::legacy_ip("x", true), ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]);
    assert_eq!(ip::legacy_ip("::ffff:1.2.3.4", true), ["must not be an IPv4-mapped IPv6 address"]);
    assert_eq!(ip::canonical_ip("2001:DB8::0"), ["must be in canonical form (\"2001:db8::\")"]);
    assert!(ip::canonical_ip("2001:db8::").is_empty());
    assert_eq!(ip::legacy_cidr("10.0.0.1/8", true), ["must not have bits set beyond the prefix length"]);
    assert!(
        ip::legacy_cidr("10.0.0.1/8", false).is_empty() && !ip::legacy_cidr("10.0.0.1/33", false).is_empty()
    );
    assert_eq!(ip::interface_address("10.0.0.01/8"), ["must be in canonical form (\"10.0.0.1/8\")"]);
    assert_eq!(
        ip::ip_warning("spec.ip", "1.2.3.04").unwrap(),
        "spec.ip: non-standard IP address \"1.2.3.04\" is invalid: use \"1.2.3.4\""
    );
    assert_eq!(
        ip::cidr_warnings("f", "10.0.0.1/8"),
        [
            "f: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
        ]
    );
}
