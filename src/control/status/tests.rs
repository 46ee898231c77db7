//! The form of messages on the control socket.

use super::*;

fn port() -> PortStatus {
    PortStatus {
        name: "lan".to_owned(),
        device: "0000:01:00.0".to_owned(),
        driver: "net_ixgbe".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 0xfe]),
        mtu: 1500,
        vlan: None,
        link_up: true,
        speed_mbps: 10_000,
        numa_node: Some(0),
        rx_queues: 2,
        tx_queues: 2,
        workers: 2,
        capabilities: PortCapabilities {
            rss: true,
            ..PortCapabilities::default()
        },
        rx_burst_mode: Some("Vector AVX2".to_owned()),
        tx_burst_mode: None,
        statistics: PortStatistics {
            rx_packets: 7,
            ..PortStatistics::default()
        },
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
    }
}

#[test]
fn requests_have_a_short_stable_form() {
    let json = |request| serde_json::to_string(&request).unwrap();
    assert_eq!(json(Request::Services), r#""services""#);
    assert_eq!(
        json(Request::Connections {
            limit: 5,
            service: Some(ServiceKey::Vip {
                protocol: Protocol::Tcp,
                address: "192.0.2.10:80".parse().unwrap(),
            }),
        }),
        r#"{"connections":{"limit":5,"service":{"protocol":"tcp","address":"192.0.2.10:80"}}}"#
    );
}

#[test]
fn connections_can_be_asked_for_without_a_limit() {
    let request: Request = serde_json::from_str(r#"{"connections":{}}"#).unwrap();
    assert_eq!(
        request,
        Request::Connections {
            limit: 1000,
            service: None
        }
    );
}

#[test]
fn a_port_survives_the_socket_with_its_mac_as_text() {
    let response = Response::Ports(vec![port()]);
    let json = serde_json::to_string(&response).unwrap();
    assert!(json.contains(r#""mac":"02:00:00:00:00:fe""#), "{json}");
    assert!(json.contains(r#""rss":true"#), "{json}");
    assert_eq!(serde_json::from_str::<Response>(&json).unwrap(), response);
}

#[test]
fn a_neighbor_without_a_mac_survives_the_socket() {
    let neighbor = NeighborStatus {
        port: "lan".to_owned(),
        address: "192.0.2.9".parse().unwrap(),
        mac: None,
        state: "INCOMPLETE".to_owned(),
        age_ms: None,
    };
    let json = serde_json::to_string(&neighbor).unwrap();
    assert!(json.contains(r#""mac":null"#), "{json}");
    assert_eq!(
        serde_json::from_str::<NeighborStatus>(&json).unwrap(),
        neighbor
    );
}

#[test]
fn a_mac_that_is_none_is_refused() {
    let json = r#"{"state":"resolved","port":"lan","address":"192.0.2.9","mac":"02:00"}"#;
    let error = serde_json::from_str::<NextHopStatus>(json)
        .unwrap_err()
        .to_string();
    assert!(error.contains("is not a MAC address"), "{error}");
}
