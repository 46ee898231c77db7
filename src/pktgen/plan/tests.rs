use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// One flow to one service by a single real server, as little as there can be.
pub(in crate::pktgen) fn options(service: &str) -> Options {
    Options {
        services: vec![service.parse().unwrap()],
        servers: vec!["10.0.0.11-10.0.0.14".parse().unwrap()],
        clients_v4: "198.18.0.0/15".parse().unwrap(),
        clients_v6: "2001:2::/104".parse().unwrap(),
        flows: 1,
        tcp: TcpTraffic::Established,
        packets_per_flow: None,
        sizes: SizeMix::fixed(60),
        fragmentation: None,
        dont_fragment: true,
        ttl: 64,
        tos: 0,
        vlan: None,
        seed: 1,
        rate: None,
        new_flows: 0,
        syn_flood: 0,
        window: None,
        count: None,
        duration: Duration::from_secs(1),
        warm_up: Duration::ZERO,
        drain: Duration::from_millis(100),
        tunnel: None,
        gue_l4_port: GUE_PORT_DEFAULT,
        outer_sources: None,
        outer_df: ExpectedDf::Copied,
        reflected: false,
        loss_max_percent: 0.0,
        may_move: Vec::new(),
        may_lose: Vec::new(),
        per_flow: false,
        server_macs: Vec::new(),
    }
}

fn error(change: impl FnOnce(&mut Options)) -> PlanError {
    let mut options = options("198.51.100.10:80");
    change(&mut options);
    Plan::new(options).unwrap_err()
}

#[test]
fn what_cannot_be_is_named() {
    assert_eq!(error(|o| o.services.clear()), PlanError::NoService);
    assert_eq!(
        error(|o| o.services = vec!["10.0.0.0/8:80".parse().unwrap()]),
        PlanError::TooManyServices { count: 1 << 24 }
    );
    assert_eq!(error(|o| o.servers.clear()), PlanError::NoServer);
    let all: AddressRange = "10.0.0.0/8".parse().unwrap();
    assert_eq!(error(|o| o.servers = vec![all]), PlanError::Servers(all));
    assert_eq!(error(|o| o.flows = 0), PlanError::Flows(0));
    assert_eq!(
        error(|o| o.flows = 100_000_001),
        PlanError::Flows(100_000_001)
    );
    assert_eq!(
        error(|o| (o.flows, o.clients_v4) = (65_537, "10.1.0.0/31".parse().unwrap())),
        PlanError::TooFewClients {
            flows: 65_537,
            clients: 2,
            network: "10.1.0.0/31".parse().unwrap()
        }
    );
    let range: AddressRange = "10.0.0.14-10.0.0.15".parse().unwrap();
    let error_of = PlanError::NotAServer(range);
    assert_eq!(error(|o| o.may_move = vec![range]), error_of);
    assert_eq!(error(|o| o.may_lose = vec![range]), error_of);
    assert_eq!(
        error(|o| (o.per_flow, o.new_flows) = (true, 1)),
        PlanError::PerFlow
    );
    let fragmentation = Some(Fragmentation {
        percent: 10,
        parts: 2,
        reversed: false,
    });
    let server: AddressRange = "10.0.0.11".parse().unwrap();
    assert_eq!(
        error(|o| (o.fragmentation, o.may_lose) = (fragmentation, vec![server])),
        PlanError::MayLoseFragments
    );
    assert_eq!(error(|o| o.ttl = 1), PlanError::Ttl(1));
    assert_eq!(error(|o| o.vlan = Some(4095)), PlanError::Vlan(4095));
    assert_eq!(error(|o| o.rate = Some(0)), PlanError::NoRate);
    assert_eq!(
        error(|o| o.loss_max_percent = 100.5),
        PlanError::LossMax(100.5)
    );
    assert_eq!(
        error(|o| o.packets_per_flow = Some(0)),
        PlanError::PacketsPerFlow(0)
    );
    assert_eq!(
        error(|o| {
            o.packets_per_flow = Some(3);
            o.tcp = TcpTraffic::Connections { data_segments: 1 };
        }),
        PlanError::TwoEnds
    );
    assert_eq!(
        error(|o| {
            o.services = vec!["198.51.100.10:80/udp".parse().unwrap()];
            o.syn_flood = 1;
        }),
        PlanError::FloodWithoutTcp
    );
}

#[test]
fn fragments_that_cannot_be_are_named() {
    let fragments = |percent, parts, len| {
        error(|o| {
            o.sizes = SizeMix::fixed(len);
            o.fragmentation = Some(Fragmentation {
                percent,
                parts,
                reversed: false,
            });
        })
    };
    assert_eq!(fragments(101, 2, 60), PlanError::Percent(101));
    assert_eq!(fragments(10, 1, 60), PlanError::FragmentParts(1));
    assert_eq!(fragments(10, 9, 60), PlanError::FragmentParts(9));
    assert_eq!(
        fragments(10, 8, 9000),
        PlanError::DatagramTooLong {
            parts: 8,
            len: 9000
        }
    );
    assert_eq!(fragments(10, 2, 60), PlanError::FragmentsWithoutUdp);
}

#[test]
fn flows_of_all_slots_and_generations_differ() {
    let mut options = options("198.51.100.10:80-82");
    options.flows = 1000;
    options.clients_v4 = "10.1.0.0/30".parse().unwrap();
    let plan = Plan::new(options).unwrap();
    let mut seen = HashSet::new();
    for generation in 0..100 {
        for slot in 0..1000 {
            let flow = plan.flow(slot, generation).unwrap();
            assert!((0x0a01_0000..=0x0a01_0003).contains(&flow.client_low));
            assert!((16_384..49_152).contains(&flow.l4_port));
            assert_eq!(flow.service.l4_port, 80 + u16::try_from(slot % 3).unwrap());
            assert!(seen.insert((flow.client_low, flow.l4_port)));
        }
    }
    for number in 0..60_000 {
        let flow = plan.flood(number).unwrap();
        assert!(flow.l4_port >= 49_152);
        assert!(seen.insert((flow.client_low, flow.l4_port)), "{number}");
    }
}

#[test]
fn identifications_of_a_client_differ_until_they_go_round() {
    let mut options = options("198.51.100.10:53/udp");
    options.flows = 10;
    options.clients_v4 = "10.1.0.0/30".parse().unwrap();
    let plan = Plan::new(options).unwrap();
    let mut seen = HashSet::new();
    for slot in 0..10 {
        let client = plan.flow(slot, 0).unwrap().client_low;
        for sequence in 0..20_000 {
            let id = plan.identification(IpVersion::V4, slot, sequence);
            assert!(id < 65_536);
            assert!(seen.insert((client, id)), "{slot} {sequence}");
        }
    }
}

#[test]
fn segments_are_those_of_a_connection() {
    let mut options = options("198.51.100.10:80");
    options.tcp = TcpTraffic::Connections { data_segments: 2 };
    let plan = Plan::new(options).unwrap();
    assert_eq!(plan.packets_per_flow, Some(5));
    let flags: Vec<_> = (0..5).map(|place| plan.segment(place)).collect();
    let short = |flags| (TcpFlags(flags), false);
    let long = |flags| (TcpFlags(flags), true);
    assert_eq!(
        flags,
        [
            short(0x02),
            short(0x10),
            long(0x18),
            long(0x18),
            short(0x11)
        ]
    );
}

proptest! {
    #[test]
    fn remainders_are_those_of_the_division(divisor in 1_u32..2_000_000, number: u32) {
        let modulo = Modulo::of(usize::try_from(divisor).unwrap());
        prop_assert_eq!(modulo.apply(number), usize::try_from(number % divisor).unwrap());
    }
}
