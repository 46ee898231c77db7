//! The driver on DPDK, on software ports and without hugepages.
//!
//! `rte_eal_init` works once in a process, so each test runs in a process of
//! its own: it starts this executable again with its own name.
#![cfg(feature = "dpdk")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes functions that tests call for no part of them"
)]

mod support;

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::Command,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use pointsman::{
    config::Hugepages,
    io::{
        Burst, Link, Packet, PacketPool, Port, PortStatistics, RxQueue, TxQueue,
        dpdk::{
            AvailableDevice, DpdkPool, DpdkPort, Eal, EalError, Mbuf, PageKind, PoolSettings,
            PortError, PortSettings, RegisteredThread, StartedPort, ThreadError, cycles,
            data_room_len,
        },
    },
};
use support::{
    CHILD, arguments, frame, free_hugepages, in_own_process, in_own_process_under,
    may_make_network_namespaces, number_of, packet, pcap_vdev, pool, read_pcap, run, settings,
    start, udp_frame, write_pcap,
};

#[test]
fn packets_pass_a_ring_port_unchanged_and_all_go_back_to_the_pool() {
    in_own_process(
        "packets_pass_a_ring_port_unchanged_and_all_go_back_to_the_pool",
        || {
            let eal = start(&["net_ring0"]);
            assert_eq!(eal.page_kind(), PageKind::Ordinary);
            assert!(eal.version().starts_with("DPDK "), "{}", eal.version());
            let mut pool = pool(&eal, 1023);
            let StartedPort {
                port,
                mut rx_queues,
                mut tx_queues,
            } = DpdkPort::configure(&eal, &settings("net_ring0", 1), &pool).unwrap();
            let description = port.description();
            assert_eq!(description.name, "lan");
            assert_eq!(description.device, "net_ring0");
            assert_eq!(description.driver, "net_ring");
            assert_eq!((description.rx_queues, description.tx_queues), (1, 1));
            assert_eq!(description.mtu, 1500);
            assert_eq!(
                port.link(),
                Link {
                    up: true,
                    speed_mbps: 10_000
                }
            );

            let mut burst = Burst::new();
            for number in 0..3 {
                burst.push(packet(&mut pool, &frame(number)));
            }
            assert_eq!(pool.in_use(), 3);
            assert_eq!(tx_queues[0].transmit(&mut burst), 3);
            assert!(burst.is_empty());
            assert_eq!(tx_queues[0].transmit(&mut burst), 0);

            // Received packets stand behind what the burst holds already.
            burst.push(packet(&mut pool, &frame(100)));
            assert_eq!(rx_queues[0].receive(&mut burst), 3);
            assert_eq!(rx_queues[0].receive(&mut burst), 0);
            assert_eq!(
                burst.iter().map(number_of).collect::<Vec<_>>(),
                [100, 0, 1, 2]
            );
            assert_eq!(burst[3].bytes(), frame(2));
            assert_eq!(burst[3].headroom(), 128);
            let statistics = port.statistics();
            assert_eq!((statistics.rx_packets, statistics.tx_packets), (3, 3));
            assert_eq!((statistics.rx_errors, statistics.tx_errors), (0, 0));

            drop(burst);
            assert_eq!(pool.in_use(), 0);
            drop((port, rx_queues, tx_queues));
            assert_eq!(pool.in_use(), 0);
        },
    );
}

#[test]
fn a_full_ring_takes_a_prefix_of_the_burst() {
    in_own_process("a_full_ring_takes_a_prefix_of_the_burst", || {
        let eal = start(&["net_ring0"]);
        let mut pool = pool(&eal, 2047);
        let mut port = DpdkPort::configure(&eal, &settings("net_ring0", 1), &pool).unwrap();
        let mut numbers = 0..;
        let mut sent = 0;
        let mut burst = Burst::new();
        loop {
            burst.extend(
                numbers
                    .by_ref()
                    .take(64)
                    .map(|number| packet(&mut pool, &frame(number))),
            );
            let accepted = port.tx_queues[0].transmit(&mut burst);
            sent += accepted;
            assert_eq!(burst.len(), 64 - accepted);
            if accepted < 64 {
                break;
            }
        }
        // The ring has 1024 places, one of them never used.
        assert_eq!(sent, 1023);
        assert_eq!(burst.len(), 1);
        assert_eq!(burst[0].bytes(), frame(1023));
        assert_eq!(port.tx_queues[0].transmit(&mut burst), 0);
        assert_eq!(burst[0].bytes(), frame(1023));
        assert_eq!(pool.in_use(), 1024);
        burst.clear();

        // A burst without room takes nothing, one with little room little.
        let mut full: Burst<Mbuf> = (0..64).map(|_| pool.allocate().unwrap()).collect();
        assert_eq!(port.rx_queues[0].receive(&mut full), 0);
        full.truncate(62);
        assert_eq!(port.rx_queues[0].receive(&mut full), 2);
        assert_eq!(full[62..].iter().map(number_of).collect::<Vec<_>>(), [0, 1]);
        // Two places are free now: of three packets one stays.
        burst.extend((2000..2003).map(|number| packet(&mut pool, &frame(number))));
        assert_eq!(port.tx_queues[0].transmit(&mut burst), 2);
        assert_eq!(burst.iter().map(number_of).collect::<Vec<_>>(), [2002]);
        burst.clear();
        full.clear();

        let mut received = Vec::new();
        while port.rx_queues[0].receive(&mut burst) > 0 {
            received.extend(burst.drain(..).map(|packet| number_of(&packet)));
        }
        assert_eq!(received, (2..1023).chain([2000, 2001]).collect::<Vec<_>>());
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_packet_grows_and_shrinks_at_both_ends_within_its_buffer() {
    in_own_process(
        "a_packet_grows_and_shrinks_at_both_ends_within_its_buffer",
        || {
            let eal = start(&[]);
            let mut pool = pool(&eal, 1023);
            let mut packet = pool.allocate().unwrap();
            assert_eq!(packet.bytes(), b"");
            assert_eq!((packet.headroom(), packet.tailroom()), (128, 2048));
            assert!(packet.is_contiguous());
            packet.prefetch();

            packet.extend(4).unwrap().copy_from_slice(b"tail");
            packet.prepend(5).unwrap()[..5].copy_from_slice(b"front");
            assert_eq!(packet.bytes(), b"fronttail");
            assert_eq!((packet.headroom(), packet.tailroom()), (123, 2044));
            packet.bytes_mut()[0] = b'F';
            packet.trim_front(1);
            assert_eq!(packet.bytes(), b"ronttail");
            packet.truncate(3);
            assert_eq!(packet.bytes(), b"ron");
            packet.truncate(7);
            assert_eq!(packet.bytes(), b"ron");
            packet.extend(2).unwrap()[3..].copy_from_slice(b"de");
            assert_eq!(packet.bytes(), b"ronde");

            assert!(packet.prepend(125).is_none());
            assert!(packet.prepend(usize::MAX).is_none());
            assert!(packet.extend(2048).is_none());
            assert!(packet.extend(usize::MAX).is_none());
            assert_eq!(packet.bytes(), b"ronde");
            assert_eq!(packet.prepend(124).unwrap().len(), 129);
            assert_eq!(packet.headroom(), 0);
            assert!(packet.prepend(1).is_none());
            assert_eq!(packet.prepend(0).unwrap().len(), 129);
            assert_eq!(packet.extend(2047).unwrap().len(), 2176);
            assert_eq!(packet.tailroom(), 0);
            assert_eq!(packet.bytes().len(), 2176);
            assert_eq!(&packet.bytes()[124..129], b"ronde");

            packet.trim_front(usize::MAX);
            assert_eq!(packet.bytes(), b"");
            drop(packet);
            assert_eq!(pool.in_use(), 0);
            // A packet from the pool again starts anew.
            let packets: Vec<Mbuf> = std::iter::from_fn(|| pool.allocate()).collect();
            assert_eq!(packets.len(), 1023);
            assert!(
                packets
                    .iter()
                    .all(|packet| packet.bytes().is_empty() && packet.headroom() == 128)
            );
            assert_eq!(pool.in_use(), 1023);
            drop(packets);
            assert_eq!(pool.in_use(), 0);
        },
    );
}

#[test]
fn a_checksum_to_be_offloaded_is_zeroed_for_the_nic() {
    in_own_process("a_checksum_to_be_offloaded_is_zeroed_for_the_nic", || {
        let eal = start(&[]);
        let mut pool = pool(&eal, 1023);
        let mut packet = packet(&mut pool, &[0xaa; 60]);
        packet.offload_ipv4_checksum(14, 20);
        let mut expected = [0xaa; 60];
        expected[24..26].fill(0);
        assert_eq!(packet.bytes(), expected);
        assert!(!packet.has_good_ipv4_checksum());
    });
}

#[test]
fn frames_of_a_capture_file_keep_their_bytes() {
    in_own_process("frames_of_a_capture_file_keep_their_bytes", || {
        let dir = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0_u8..=255).cycle().take(1514).collect();
        write_pcap(&dir.path().join("rx.pcap"), &[&frame(7), &large]);
        let vdev = pcap_vdev(dir.path());
        let eal = start(&[&vdev]);
        let pool = pool(&eal, 1023);
        let mut port = DpdkPort::configure(&eal, &settings(&vdev, 1), &pool).unwrap();
        let mut burst = Burst::new();
        assert_eq!(port.rx_queues[0].receive(&mut burst), 2);
        burst[1].trim_front(14);
        burst[1].prepend(20).unwrap()[..20].fill(0x11);
        assert_eq!(port.tx_queues[0].transmit(&mut burst), 2);
        drop(port);
        assert_eq!(pool.in_use(), 0);

        let written = read_pcap(&dir.path().join("tx.pcap"));
        assert_eq!(written.len(), 2);
        assert_eq!(written[0], frame(7));
        assert_eq!(written[1], [&[0x11; 20], &large[14..]].concat());
    });
}

#[test]
fn a_frame_over_several_buffers_is_told_and_only_changed_at_its_front() {
    in_own_process(
        "a_frame_over_several_buffers_is_told_and_only_changed_at_its_front",
        || {
            let dir = tempfile::tempdir().unwrap();
            let jumbo: Vec<u8> = (0_u8..=255).cycle().take(5000).collect();
            write_pcap(&dir.path().join("rx.pcap"), &[&jumbo]);
            let vdev = pcap_vdev(dir.path());
            let eal = start(&[&vdev]);
            let pool = pool(&eal, 1023);
            let mut port = DpdkPort::configure(&eal, &settings(&vdev, 1), &pool).unwrap();
            let mut burst = Burst::new();
            assert_eq!(port.rx_queues[0].receive(&mut burst), 1);
            let packet = &mut burst[0];
            assert!(!packet.is_contiguous());
            assert_eq!(packet.bytes(), &jumbo[..2048]);
            packet.truncate(100);
            assert!(packet.extend(0).is_none());
            assert_eq!(packet.bytes(), &jumbo[..2048]);
            packet.trim_front(48);
            packet.prepend(1).unwrap()[0] = 0x99;
            assert_eq!(packet.bytes().len(), 2001);
            assert_eq!(pool.in_use(), 3);
            assert_eq!(port.tx_queues[0].transmit(&mut burst), 1);
            drop(port);
            assert_eq!(pool.in_use(), 0);
            let written = read_pcap(&dir.path().join("tx.pcap"));
            assert_eq!(written, [[&[0x99], &jumbo[48..]].concat()]);
        },
    );
}

#[test]
fn jumbo_frames_fit_into_one_buffer_of_a_pool_made_for_them() {
    in_own_process(
        "jumbo_frames_fit_into_one_buffer_of_a_pool_made_for_them",
        || {
            let dir = tempfile::tempdir().unwrap();
            let jumbo: Vec<u8> = (0_u8..=255).cycle().take(9014).collect();
            write_pcap(&dir.path().join("rx.pcap"), &[&jumbo]);
            let vdev = pcap_vdev(dir.path());
            let eal = start(&[&vdev]);
            let settings = PortSettings {
                mtu: 9000,
                ..settings(&vdev, 1)
            };
            let small = pool(&eal, 1023);
            assert_eq!(
                DpdkPort::configure(&eal, &settings, &small)
                    .unwrap_err()
                    .to_string(),
                "port lan: packets of 2176 bytes cannot hold an MTU of 9000"
            );
            let data_room = data_room_len(9000);
            let large = PoolSettings {
                packets: 1023,
                data_room,
                numa_node: Some(0),
            };
            let pool = DpdkPool::create(&eal, large).unwrap();
            let mut port = DpdkPort::configure(&eal, &settings, &pool).unwrap();
            assert_eq!(port.port.description().mtu, 9000);
            let mut burst = Burst::new();
            assert_eq!(port.rx_queues[0].receive(&mut burst), 1);
            assert!(burst[0].is_contiguous());
            assert_eq!(burst[0].bytes(), jumbo);
        },
    );
}

#[test]
fn queues_keep_their_port_running() {
    in_own_process("queues_keep_their_port_running", || {
        let eal = start(&["net_ring0", "net_null0,size=64"]);
        let names: Vec<String> = AvailableDevice::all(&eal)
            .into_iter()
            .map(|device| device.name)
            .collect();
        assert_eq!(names, ["net_ring0", "net_null0"]);
        let mut pool = pool(&eal, 1023);
        let StartedPort {
            port,
            mut rx_queues,
            mut tx_queues,
        } = DpdkPort::configure(&eal, &settings("net_ring0", 1), &pool).unwrap();
        drop((port, eal));
        let mut burst = Burst::from_iter([packet(&mut pool, &frame(1))]);
        assert_eq!(tx_queues[0].transmit(&mut burst), 1);
        assert_eq!(rx_queues[0].receive(&mut burst), 1);
        assert_eq!(burst[0].bytes(), frame(1));
    });
}

#[test]
fn a_packet_may_outlive_everything() {
    in_own_process("a_packet_may_outlive_everything", || {
        let packet = {
            let eal = start(&["net_null0,size=64"]);
            let pool = pool(&eal, 1023);
            let mut port = DpdkPort::configure(&eal, &settings("net_null0", 1), &pool).unwrap();
            let mut burst = Burst::new();
            assert_eq!(port.rx_queues[0].receive(&mut burst), 64);
            burst.pop().unwrap()
        };
        assert_eq!(packet.bytes(), [0; 64]);
        drop(packet);
    });
}

#[test]
fn workers_are_registered_and_have_queues_of_their_own() {
    in_own_process(
        "workers_are_registered_and_have_queues_of_their_own",
        || {
            let eal = start(&["net_null0,size=64"]);
            assert_eq!(
                RegisteredThread::register(&eal).unwrap_err(),
                ThreadError::AlreadyRegistered(0),
                "the thread that started DPDK is its main lcore"
            );
            let pool = pool(&eal, 4095);
            let port = DpdkPort::configure(&eal, &settings("net_null0", 2), &pool).unwrap();
            // It has a redirection table, on paper, and shows what it was told.
            let capabilities = port.port.description().capabilities;
            assert!(capabilities.rss);
            assert_eq!(capabilities.redirection_len, 128);
            assert_eq!((port.rx_queues.len(), port.tx_queues.len()), (2, 2));
            let both_registered = Barrier::new(2);
            let lcores: BTreeSet<u32> = thread::scope(|scope| {
                let workers: Vec<_> = port
                    .rx_queues
                    .into_iter()
                    .zip(port.tx_queues)
                    .map(|(mut rx_queue, mut tx_queue)| {
                        let (eal, both_registered) = (&eal, &both_registered);
                        scope.spawn(move || {
                            let thread = RegisteredThread::register(eal).unwrap();
                            both_registered.wait();
                            let error = RegisteredThread::register(eal).unwrap_err();
                            assert_eq!(error, ThreadError::AlreadyRegistered(thread.lcore_id()));
                            let mut burst = Burst::new();
                            for _ in 0..1000 {
                                assert_eq!(rx_queue.receive(&mut burst), 64);
                                assert_eq!(tx_queue.transmit(&mut burst), 64);
                            }
                            thread.lcore_id()
                        })
                    })
                    .collect();
                workers
                    .into_iter()
                    .map(|worker| worker.join().unwrap())
                    .collect()
            });
            assert_eq!(lcores.len(), 2, "{lcores:?}");
            assert!(!lcores.contains(&0), "{lcores:?}");
            let PortStatistics {
                rx_packets,
                tx_packets,
                ..
            } = port.port.statistics();
            assert_eq!((rx_packets, tx_packets), (128_000, 128_000));
            drop(port.port);
            assert_eq!(pool.in_use(), 0);

            let before = cycles();
            thread::sleep(Duration::from_millis(20));
            let elapsed_ms = (cycles() - before) * 1000 / eal.cycles_per_second();
            assert!((19..1000).contains(&elapsed_ms), "{elapsed_ms}");
        },
    );
}

#[test]
fn what_cannot_be_set_up_is_an_error_that_says_what_to_write() {
    in_own_process(
        "what_cannot_be_set_up_is_an_error_that_says_what_to_write",
        || {
            let dir = tempfile::tempdir().unwrap();
            write_pcap(&dir.path().join("rx.pcap"), &[&frame(7)]);
            let vdev = pcap_vdev(dir.path());
            let eal = start(&[&vdev]);
            let pool = pool(&eal, 1023);
            // One queue will do for two workers.
            let port = DpdkPort::configure(&eal, &settings(&vdev, 2), &pool).unwrap();
            assert_eq!((port.rx_queues.len(), port.tx_queues.len()), (1, 1));
            let description = port.port.description();
            assert_eq!((description.rx_queues, description.tx_queues), (1, 1));
            drop(port);
            let error = |vdev: &str, queues| {
                DpdkPort::configure(&eal, &settings(vdev, queues), &pool)
                    .unwrap_err()
                    .to_string()
            };
            assert_eq!(
                error("net_af_packet0,iface=none", 1),
                "port lan: DPDK has no device net_af_packet0,iface=none; DPDK's messages above say \
             why its driver did not take it"
            );
            assert_eq!(
                Eal::start(&arguments(&[])).unwrap_err(),
                EalError::AlreadyStarted
            );
            let settings = PoolSettings {
                packets: 1 << 20,
                data_room: 2176,
                numa_node: None,
            };
            let text = DpdkPool::create(&eal, settings).unwrap_err().to_string();
            assert!(
                text.starts_with("DPDK gave no memory for 1048576 packets of 2176 bytes"),
                "{text}"
            );
            assert!(text.contains("raise memory_mib in [eal]"), "{text}");
        },
    );
}

#[test]
fn a_device_is_a_port_once_at_a_time() {
    in_own_process("a_device_is_a_port_once_at_a_time", || {
        let eal = start(&["net_ring0"]);
        let mut pool = pool(&eal, 1023);
        let settings = settings("net_ring0", 1);
        let mut first = DpdkPort::configure(&eal, &settings, &pool).unwrap();
        let error = DpdkPort::configure(&eal, &settings, &pool).unwrap_err();
        assert!(matches!(error, PortError::InUse { .. }), "{error}");
        // The first is not disturbed.
        let mut burst = Burst::from_iter([packet(&mut pool, &frame(1))]);
        assert_eq!(first.tx_queues[0].transmit(&mut burst), 1);
        assert_eq!(first.rx_queues[0].receive(&mut burst), 1);
    });
}

#[test]
fn hugepages_that_are_required_but_missing_are_an_error() {
    in_own_process(
        "hugepages_that_are_required_but_missing_are_an_error",
        || {
            let mut arguments = arguments(&[]);
            arguments.config.hugepages = Hugepages::Required;
            arguments.config.memory_mib = u32::MAX;
            let error = Eal::start(&arguments).unwrap_err();
            assert!(
                matches!(
                    error,
                    EalError::TooFewHugepages {
                        wanted_mib: u32::MAX,
                        ..
                    }
                ),
                "{error}"
            );
            // It was not tried, so that the process can go on without.
            arguments.config.hugepages = Hugepages::None;
            arguments.config.memory_mib = 64;
            let eal = Eal::start(&arguments).unwrap();
            assert_eq!(AvailableDevice::all(&eal), []);
        },
    );
}

#[test]
fn an_argument_that_dpdk_does_not_know_is_an_error() {
    in_own_process("an_argument_that_dpdk_does_not_know_is_an_error", || {
        let mut arguments = arguments(&[]);
        arguments.config.extra_arguments = vec!["--no-such-option".to_owned()];
        let error = Eal::start(&arguments).unwrap_err();
        assert!(matches!(error, EalError::Init { .. }), "{error}");
        assert!(error.to_string().contains("--no-such-option"), "{error}");
    });
}

#[test]
fn af_packet_spreads_flows_over_two_queues() {
    const NAME: &str = "af_packet_spreads_flows_over_two_queues";
    if env::var_os(CHILD).is_none() && !may_make_network_namespaces() {
        println!("skipped: {NAME}: needs root for a network namespace; run it as root");
        return;
    }
    // The namespace has no name and goes with the process.
    in_own_process_under(&["unshare", "--net"], NAME, || {
        run("ip link add pmdpdka type veth peer name pmdpdkb");
        for interface in ["pmdpdka", "pmdpdkb"] {
            run(&format!(
                "sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1"
            ));
            run(&format!("ip link set {interface} up"));
        }
        let (two, one) = (
            "net_af_packet0,iface=pmdpdka,qpairs=2",
            "net_af_packet1,iface=pmdpdkb",
        );
        let eal = start(&[two, one]);
        let mut pool = pool(&eal, 4095);
        let error = |vdev, queues| {
            DpdkPort::configure(&eal, &settings(vdev, queues), &pool)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error(two, 1),
            "port lan: net_af_packet0,iface=pmdpdka,qpairs=2 has 2 receive queues, but there \
             are workers for 1, and what arrives on the others would be lost; write qpairs=1 \
             for qpairs=2 in its device string"
        );
        let mac = "02:00:00:00:00:02".parse().unwrap();
        let narrow = PortSettings {
            mtu: 1400,
            mac: Some(mac),
            ..settings(two, 2)
        };
        let mut to = DpdkPort::configure(&eal, &narrow, &pool).unwrap();
        assert_eq!(to.port.description().mac, mac);
        let link = Command::new("ip")
            .args(["link", "show", "pmdpdka"])
            .output()
            .unwrap();
        let link = String::from_utf8(link.stdout).unwrap();
        assert!(
            link.contains("mtu 1400 ") && link.contains("02:00:00:00:00:02"),
            "{link}"
        );
        let mut from = DpdkPort::configure(&eal, &settings(one, 1), &pool).unwrap();
        assert!(from.port.link().up);

        let ports = 1000..1064;
        let mut burst: Burst<Mbuf> = ports
            .clone()
            .map(|port| packet(&mut pool, &udp_frame(port)))
            .collect();
        assert_eq!(from.tx_queues[0].transmit(&mut burst), 64);
        let mut received = [BTreeSet::new(), BTreeSet::new()];
        let deadline = Instant::now() + Duration::from_secs(5);
        while received.iter().map(BTreeSet::len).sum::<usize>() < 64 && Instant::now() < deadline {
            for (rx_queue, received) in to.rx_queues.iter_mut().zip(&mut received) {
                rx_queue.receive(&mut burst);
                received.extend(burst.drain(..).map(|packet| packet.bytes().to_vec()));
            }
        }
        assert!(
            received.iter().all(|queue| queue.len() > 10),
            "{received:?}"
        );
        let all: BTreeSet<Vec<u8>> = received.into_iter().flatten().collect();
        assert_eq!(all, ports.map(udp_frame).collect());
        drop((from, to));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_port_that_offers_it_fills_in_the_ipv4_checksum() {
    const NAME: &str = "a_port_that_offers_it_fills_in_the_ipv4_checksum";
    let may_run = may_make_network_namespaces() && Path::new("/dev/net/tun").exists();
    if env::var_os(CHILD).is_none() && !may_run {
        println!("skipped: {NAME}: needs root and /dev/net/tun for a tap port");
        return;
    }
    in_own_process_under(&["unshare", "--net"], NAME, || {
        // The second port sees what the first one gives to the kernel.
        let (tap, watch) = ("net_tap0,iface=pmdpdkt", "net_af_packet0,iface=pmdpdkt");
        let eal = start(&[tap, watch]);
        let mut pool = pool(&eal, 4095);
        let mut to = DpdkPort::configure(&eal, &settings(watch, 1), &pool).unwrap();
        let mut from = DpdkPort::configure(&eal, &settings(tap, 1), &pool).unwrap();
        assert!(from.port.description().capabilities.tx_ipv4_checksum);
        assert!(!to.port.description().capabilities.tx_ipv4_checksum);

        let mut without_checksum = udp_frame(7);
        without_checksum[24..26].copy_from_slice(&[0x12, 0x34]);
        let mut burst = Burst::from_iter([packet(&mut pool, &without_checksum)]);
        burst[0].offload_ipv4_checksum(14, 20);
        assert_eq!(from.tx_queues[0].transmit(&mut burst), 1);
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut received = Vec::new();
        while received.is_empty() && Instant::now() < deadline {
            to.rx_queues[0].receive(&mut burst);
            let udp = burst
                .drain(..)
                .filter(|packet| packet.bytes()[12..14] == [0x08, 0x00]);
            received.extend(udp.map(|packet| packet.bytes().to_vec()));
        }
        assert_eq!(received, [udp_frame(7)]);
    });
}

#[test]
fn auto_takes_ordinary_pages_where_too_few_hugepages_are_free() {
    const NAME: &str = "auto_takes_ordinary_pages_where_too_few_hugepages_are_free";
    in_own_process(NAME, || {
        let mut arguments = arguments(&[]);
        arguments.config.hugepages = Hugepages::Auto;
        arguments.config.memory_mib = 2 * free_hugepages() + 128;
        let eal = Eal::start(&arguments).unwrap();
        assert_eq!(eal.page_kind(), PageKind::Ordinary);
        assert_eq!(pool(&eal, 1023).in_use(), 0);
    });
}

#[test]
fn auto_takes_hugepages_where_enough_are_free() {
    const NAME: &str = "auto_takes_hugepages_where_enough_are_free";
    if env::var_os(CHILD).is_none() && free_hugepages() < 32 {
        println!("skipped: {NAME}: needs 64 MiB of hugepages; run it after scripts/hugepages.sh");
        return;
    }
    in_own_process(NAME, || {
        let mut arguments = arguments(&["net_null0,size=64"]);
        arguments.config.hugepages = Hugepages::Auto;
        arguments.config.memory_mib = 32;
        let eal = Eal::start(&arguments).unwrap();
        assert_eq!(eal.page_kind(), PageKind::Huge);
        let pool = pool(&eal, 1023);
        let mut port = DpdkPort::configure(&eal, &settings("net_null0", 1), &pool).unwrap();
        let mut burst = Burst::new();
        assert_eq!(port.rx_queues[0].receive(&mut burst), 64);
        assert_eq!(port.tx_queues[0].transmit(&mut burst), 64);
    });
}

#[test]
fn af_xdp_ports_carry_packets_both_ways() {
    const NAME: &str = "af_xdp_ports_carry_packets_both_ways";
    if env::var_os(CHILD).is_none() && !may_make_network_namespaces() {
        println!("skipped: {NAME}: needs root for a network namespace; run it as root");
        return;
    }
    in_own_process_under(&["unshare", "--net"], NAME, || {
        run("ip link add pmdpdka type veth peer name pmdpdkb");
        for interface in ["pmdpdka", "pmdpdkb"] {
            run(&format!(
                "sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1"
            ));
            run(&format!("ip link set {interface} up"));
        }
        let vdevs = [
            "net_af_xdp0,iface=pmdpdka,busy_budget=0",
            "net_af_packet1,iface=pmdpdkb",
        ];
        let eal = start(&vdevs);
        let mut pool = pool(&eal, 16383);
        let mut ports =
            vdevs.map(|vdev| DpdkPort::configure(&eal, &settings(vdev, 1), &pool).unwrap());
        let udp: Vec<Vec<u8>> = (0..32).map(udp_frame).collect();
        for (from, to) in [(0, 1), (1, 0)] {
            let mut burst: Burst<Mbuf> = udp.iter().map(|frame| packet(&mut pool, frame)).collect();
            let deadline = Instant::now() + Duration::from_secs(5);
            assert_eq!(ports[from].tx_queues[0].transmit(&mut burst), 32);
            let mut received = Vec::new();
            while received.len() < 32 && Instant::now() < deadline {
                ports[to].rx_queues[0].receive(&mut burst);
                received.extend(burst.drain(..).map(|packet| packet.bytes().to_vec()));
            }
            assert_eq!(received, udp);
        }
    });
}
