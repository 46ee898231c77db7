//! The golden cases over DPDK's `net_pcap`, each in a process of its own.

use pointsman::{
    io::{
        Port,
        dpdk::{DpdkDriver, DpdkPort, PortSettings, StartedPort},
    },
    worker::WorkerQueues,
};

use crate::{
    dpdk_support::{in_own_process, pool, settings, start},
    golden::{Case, PLAIN, VLAN, assert_sent, read, run, write_received},
};

fn over_net_pcap(case: Case) {
    let folder = tempfile::tempdir().unwrap();
    let input = write_received(case, folder.path());
    let output = folder.path().join("out.pcap");
    let vdev = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        input.display(),
        output.display()
    );
    let eal = start(&[&vdev]);
    let pool = pool(&eal, 1023);
    let settings = PortSettings {
        vlan: case.1.is_some(),
        ..settings(&vdev, 1)
    };
    let StartedPort {
        port,
        rx_queues,
        tx_queues,
    } = DpdkPort::configure(&eal, &settings, &pool).unwrap();
    assert_eq!(port.description().mac.0, *b"\x02pcap\x00");
    let queues = WorkerQueues {
        receive: rx_queues.into_iter().map(Some).collect(),
        transmit: tx_queues.into_iter().map(Some).collect(),
        pool: pool.clone(),
    };
    run::<DpdkDriver>(case, port, queues, pool.clone());
    assert_eq!(pool.in_use(), 0);
    assert_sent(case, &read(&output));
}

#[test]
fn the_plain_case_over_net_pcap() {
    in_own_process("golden_dpdk::the_plain_case_over_net_pcap", || {
        over_net_pcap(PLAIN);
    });
}

#[test]
fn the_vlan_case_over_net_pcap() {
    in_own_process("golden_dpdk::the_vlan_case_over_net_pcap", || {
        over_net_pcap(VLAN);
    });
}
