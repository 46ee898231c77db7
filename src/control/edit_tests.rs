use super::*;

fn service(json: &str) -> ServicePatch {
    serde_json::from_str(json).unwrap()
}

fn options() -> ServiceOptions {
    ServiceOptions {
        persistence: Some(Persistence {
            timeout_s: 360,
            mask: ClientMask::host(false),
        }),
        ..SchedulerKind::Mh.into()
    }
}

#[test]
fn what_a_patch_does_not_name_stays() {
    assert_eq!(service("{}").applied_to(options()), options());
    let changed = service(r#"{"scheduler":"rr"}"#).applied_to(options());
    assert_eq!(changed.scheduler, SchedulerKind::Rr);
    assert_eq!(changed.persistence, options().persistence);
    let patch: ServerPatch = serde_json::from_str(r#"{"weight":0}"#).unwrap();
    let server = ServerOptions {
        weight: 5,
        upper_threshold: 9,
        ..ServerOptions::default()
    };
    assert_eq!(
        patch.applied_to(server),
        ServerOptions {
            weight: 0,
            ..server
        }
    );
}

#[test]
fn null_takes_away_and_nothing_does_not() {
    assert_eq!(
        service(r#"{"persistence":null}"#)
            .applied_to(options())
            .persistence,
        None
    );
    assert_eq!(service(r#"{"persistence":null}"#).persistence, Some(None));
    assert_eq!(service("{}").persistence, None);
}

#[test]
fn a_patch_survives_the_control_socket() {
    let key = ServiceKey::at(Protocol::Tcp, "192.0.2.10:80".parse().unwrap());
    for patch in [
        service("{}"),
        service(r#"{"persistence":null,"one_packet":true}"#),
    ] {
        let edit = Edit::Service(key, patch);
        let json = serde_json::to_string(&edit).unwrap();
        assert_eq!(serde_json::from_str::<Edit>(&json).unwrap(), edit, "{json}");
    }
}

#[test]
fn a_misspelt_part_is_refused() {
    assert!(serde_json::from_str::<ServicePatch>(r#"{"sheduler":"rr"}"#).is_err());
    assert!(serde_json::from_str::<ServerPatch>(r#"{"wieght":1}"#).is_err());
    assert!(serde_json::from_str::<SettingsPatch>(r#"{"timeout":{}}"#).is_err());
}

#[test]
fn settings_are_changed_by_name_with_numbers_and_switches() {
    let patch = |json: &str| {
        let patch: SettingsPatch = serde_json::from_str(json).unwrap();
        patch
            .applied_to(Tunables::default(), Timeouts::default())
            .map_err(|error| error.to_string())
    };
    let (tunables, timeouts) =
        patch(r#"{"tunables":{"sloppy_tcp":true,"conn_reuse_mode":0},"timeouts":{"udp":5}}"#)
            .unwrap();
    let expected = Tunables {
        sloppy_tcp: true,
        conn_reuse_mode: 0,
        ..Tunables::default()
    };
    assert_eq!(tunables, expected);
    assert_eq!((timeouts.udp, timeouts.tcp), (5, 900));
    assert!(
        patch(r#"{"tunables":{"sloppy":1}}"#)
            .unwrap_err()
            .contains("there is no setting")
    );
    assert_eq!(
        patch(r#"{"tunables":{"secure_tcp":4}}"#).unwrap_err(),
        "secure_tcp cannot be 4; write 0 to 3"
    );
    assert_eq!(
        patch(r#"{"timeouts":{"tcp":0}}"#).unwrap_err(),
        "a timeout cannot be 0 s; write 1 to 2678400"
    );
}

#[test]
fn services_that_make_no_sense_are_refused() {
    let refused = |key: &str, options: ServiceOptions| {
        check_service(&key.parse().unwrap(), &options)
            .unwrap_err()
            .to_string()
    };
    let plain = ServiceOptions::from(SchedulerKind::Rr);
    let persistence = |timeout_s, mask| ServiceOptions {
        persistence: Some(Persistence { timeout_s, mask }),
        ..plain
    };
    let outer_source = |network: &str| ServiceOptions {
        outer_source: Some(network.parse().unwrap()),
        ..plain
    };
    let one_packet = ServiceOptions {
        one_packet: true,
        ..plain
    };
    let host = ClientMask::host(false);
    for (key, options, message) in [
        (
            "224.0.0.1:80",
            plain,
            "224.0.0.1 is a multicast address; write a unicast address",
        ),
        (
            "192.0.2.1:0",
            plain,
            "a service at port 0 takes all ports, and needs `persistence` for that",
        ),
        ("192.0.2.1:80", one_packet, "`one_packet` is for UDP only"),
        (
            "192.0.2.1:80",
            persistence(0, host),
            "`timeout_s` of `persistence` cannot be 0; write 1 to 2678400",
        ),
        (
            "192.0.2.1:80",
            outer_source("10.0.0.0/32"),
            "`outer_source` cannot be 10.0.0.0/32; its prefix length is 16 to 31",
        ),
        (
            "192.0.2.1:80",
            outer_source("10.0.0.1/24"),
            "10.0.0.1/24 has bits behind its prefix; write 10.0.0.0/24",
        ),
    ] {
        assert_eq!(refused(key, options), message);
    }
    assert!(refused("[2001:db8::1]:80", persistence(9, host)).contains("over IPv6"));
    assert!(
        refused("192.0.2.1:80", persistence(9, ClientMask::PrefixLen(24))).contains("over IPv4")
    );
    let zero = ServiceKey::Mark {
        fwmark: 0,
        ipv6: false,
    };
    assert_eq!(check_service(&zero, &plain), Err(EditError::MarkZero));
    let loopback = ServerKey {
        address: "127.0.0.1".parse().unwrap(),
    };
    assert!(
        check_server(&loopback)
            .unwrap_err()
            .to_string()
            .contains("a loopback address")
    );
}

#[test]
fn services_that_make_sense_are_not_refused() {
    let accepted = |key: &str, options: ServiceOptions| {
        check_service(&key.parse().unwrap(), &options).unwrap();
    };
    accepted("192.0.2.1:0", options());
    accepted("fwmark/5", SchedulerKind::Rr.into());
    let one_packet = ServiceOptions {
        one_packet: true,
        outer_source: Some("fd00::/120".parse().unwrap()),
        ..SchedulerKind::Rr.into()
    };
    accepted("udp/[2001:db8::/64]:53", one_packet);
    let odd = Persistence {
        timeout_s: 1,
        mask: ClientMask::Netmask([255, 0, 255, 0].into()),
    };
    accepted(
        "192.0.2.1:80",
        ServiceOptions {
            persistence: Some(odd),
            ..SchedulerKind::Rr.into()
        },
    );
}
