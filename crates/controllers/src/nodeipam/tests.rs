//! Parts by table.

use super::decide::{Range, part_for};

#[test]
fn nodes_get_the_first_free_part_of_every_range() {
    let ranges = |texts: &[&str]| -> Vec<Range> {
        texts.iter().map(|text| Range::parse(text, (24, 64)).unwrap()).collect()
    };
    let check = |range: &[&str], taken: &[&str], want: Option<&[&str]>| {
        let taken: Vec<String> = taken.iter().map(ToString::to_string).collect();
        let got = part_for(&ranges(range), &taken);
        let want = want.map(|want| want.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(got, want, "{range:?} without {taken:?}");
    };
    check(&["10.244.0.0/16"], &[], Some(&["10.244.0.0/24"]));
    check(&["10.244.0.0/16"], &["10.244.0.0/24", "10.244.2.0/24"], Some(&["10.244.1.0/24"]));
    check(&["10.244.0.0/16"], &["10.244.0.0/23"], Some(&["10.244.2.0/24"]));
    check(&["10.244.0.0/16"], &["10.244.0.128/25", "192.0.2.0/24"], Some(&["10.244.1.0/24"]));
    check(&["10.244.0.0/23"], &["10.244.0.0/24", "10.244.1.0/24"], None);
    check(
        &["10.244.0.0/16", "fd00::/48"],
        &["10.244.0.0/24", "fd00::/64"],
        Some(&["10.244.1.0/24", "fd00:0:0:1::/64"]),
    );
    check(&["10.244.7.0/24"], &[], Some(&["10.244.7.0/24"]));
}

#[test]
fn what_is_no_range_is_refused() {
    for bad in ["", "10.0.0.0", "10.0.0.0/25", "x/16", "10.0.0.0/99"] {
        assert_eq!(Range::parse(bad, (24, 64)), None, "{bad}");
    }
}
