use super::*;

pub fn question(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut out = Writer { buf: Vec::new(), names: HashMap::new() };
    out.u16(0x1234);
    out.u16(0x0100);
    out.u16(1);
    out.buf.extend_from_slice(&[0, 0, 0, 0, 0, edns.is_some() as u8]);
    out.name(name, false);
    out.u16(kind);
    out.u16(IN);
    if let Some(size) = edns {
        out.buf.push(0);
        out.u16(OPT);
        out.u16(size);
        out.buf.extend_from_slice(&[0; 6]);
    }
    out.buf
}

fn a(name: &str, n: u8) -> Record {
    Record { name: name.into(), ttl: 30, data: Data::A([10, 0, 0, n].into()) }
}

#[test]
fn a_question_and_its_answer() {
    let query = Query::parse(&question("Web.Default.svc", A, None)).unwrap();
    assert_eq!((query.name.as_str(), query.kind, query.udp_limit()), ("web.default.svc", A, 512));
    let response =
        Response { answers: vec![a("web.default.svc", 1), a("x.default.svc", 2)], ..Default::default() };
    let bytes = query.write(&response, 512);
    let foreign = Foreign::parse(&bytes, &query, 0x1234).unwrap();
    assert_eq!(foreign.records(&query), response.answers);
    assert_eq!(&bytes[12..16], b"\x03Web", "the question as it came");
    assert_eq!(bytes.len(), 12 + 21 + 16 + 2 + 16, "names are compressed");
    assert_eq!(foreign.keep, 30);
    let aged = foreign.to_client(&query, 10, 512);
    assert_eq!(Foreign::parse(&aged, &query, 0x1234).unwrap().keep, 20);
}

#[test]
fn what_does_not_fit_is_left_out_whole() {
    let plain = Query::parse(&question("a.b", A, None)).unwrap();
    let edns = Query::parse(&question("a.b", A, Some(4096))).unwrap();
    let response = Response { answers: (0..100).map(|n| a("a.b", n)).collect(), ..Default::default() };
    for (query, limit) in [(&plain, 512), (&edns, 1232)] {
        assert_eq!(query.udp_limit(), limit);
        let bytes = query.write(&response, limit);
        assert!(bytes.len() <= limit && bytes[2] & 2 != 0);
        let foreign = Foreign::parse(&bytes, query, 0x1234).unwrap();
        assert!(foreign.truncated && foreign.records(query).len() > 25);
    }
    let whole = plain.write(&response, usize::MAX);
    assert_eq!(
        (whole[2] & 2, Foreign::parse(&whole, &plain, 0x1234).unwrap().records(&plain).len()),
        (0, 100)
    );
    let cut = Foreign::parse(&whole, &plain, 0x1234).unwrap().to_client(&plain, 0, 512);
    assert_eq!((cut.len(), cut[2] & 2), (12 + 9, 2));
}

#[test]
fn bad_messages() {
    let good = question("a.b", A, Some(1232));
    for end in 0..good.len() {
        assert!(Query::parse(&good[..end]).is_err(), "{end}");
    }
    assert_eq!(Query::parse(&good[..11]), Err(Bad::Ignore));
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    assert_eq!(Query::parse(&changed(2, 0x81)), Err(Bad::Ignore), "an answer");
    let code = |bytes: &[u8]| match Query::parse(bytes) {
        Err(Bad::Refuse(answer)) => answer[3] & 15,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&changed(2, 0x29)), NOTIMP);
    assert_eq!(code(&changed(5, 2)), FORMERR);
    assert_eq!(code(&changed(12, 0xc0)), FORMERR);
    let versioned = changed(good.len() - 5, 1);
    let Err(Bad::Refuse(answer)) = Query::parse(&versioned) else { panic!() };
    assert_eq!((answer[3] & 15, answer[answer.len() - 6]), (0, 1), "BADVERS");
}

/// Every byte of an answer flipped, every length cut: refused or read, never a panic.
#[test]
fn damaged_answers() {
    let query = Query::parse(&question("web.default.svc", A, Some(1232))).unwrap();
    let soa = Data::Soa {
        mname: "ns.b".into(),
        rname: "x.b".into(),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum: 5,
    };
    let response = Response {
        answers: vec![Record {
            name: "web.default.svc".into(),
            ttl: 9,
            data: Data::Cname("x.default.svc".into()),
        }],
        authority: vec![Record { name: "b".into(), ttl: 60, data: soa }],
        ..Default::default()
    };
    let good = query.write(&response, usize::MAX);
    for at in 0..good.len() {
        for flip in [1u8, 0x40, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            if let Some(foreign) = Foreign::parse(&bytes, &query, id) {
                foreign.records(&query);
                foreign.to_client(&query, 1, 512);
            }
            let _ = Query::parse(&bytes);
        }
        assert!(Foreign::parse(&good[..at], &query, 0x1234).is_none());
    }
}
