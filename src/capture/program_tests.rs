//! What programs are refused, and that the others do as in libpcap.

use super::*;

fn program(source: &[(u16, u8, u8, u32)]) -> Result<Program, ProgramError> {
    let source = source.iter();
    Program::new(
        source
            .map(|&(code, yes, no, k)| Instruction(code, yes, no, k))
            .collect(),
    )
}

/// `tcp dst port 80`, as `tcpdump -dd` of libpcap 1.10.3 prints it.
const TCP_TO_PORT_80: [(u16, u8, u8, u32); 16] = [
    (0x28, 0, 0, 0x0000_000c),
    (0x15, 0, 4, 0x0000_86dd),
    (0x30, 0, 0, 0x0000_0014),
    (0x15, 0, 11, 0x0000_0006),
    (0x28, 0, 0, 0x0000_0038),
    (0x15, 8, 9, 0x0000_0050),
    (0x15, 0, 8, 0x0000_0800),
    (0x30, 0, 0, 0x0000_0017),
    (0x15, 0, 6, 0x0000_0006),
    (0x28, 0, 0, 0x0000_0014),
    (0x45, 4, 0, 0x0000_1fff),
    (0xb1, 0, 0, 0x0000_000e),
    (0x48, 0, 0, 0x0000_0010),
    (0x15, 0, 1, 0x0000_0050),
    (0x06, 0, 0, 0x0004_0000),
    (0x06, 0, 0, 0x0000_0000),
];

#[test]
fn a_program_that_jumps_out_of_itself_is_refused() {
    let without_the_last = &TCP_TO_PORT_80[..15];
    assert_eq!(program(without_the_last), Err(ProgramError::Jump(3)));
    let endless = program(&[(0x05, 0, 0, u32::MAX), (0x06, 0, 0, 0)]);
    assert_eq!(endless, Err(ProgramError::Jump(0)));
}

#[test]
fn a_recorded_program_finds_what_it_is_for() {
    let program = program(&TCP_TO_PORT_80).unwrap();
    let mut frame = crate::wire::test_support::hex(
        "020000000001020000000002 0800 45000028123440003f06c356cb007107c633640a\
         9c410050000003e8000000005002faf0ae320000",
    );
    assert_eq!(program.run(&frame), 0x40000);
    frame[37] = 81;
    assert_eq!(program.run(&frame), 0);
    frame[37] = 80;
    frame[23] = 17;
    assert_eq!(program.run(&frame), 0);
    // Cut before the port.
    frame[23] = 6;
    assert_eq!(program.run(&frame[..37]), 0);
    assert_eq!(program.run(&[]), 0);
}

#[test]
fn what_cannot_end_or_is_not_known_is_refused() {
    assert_eq!(program(&[]), Err(ProgramError::Len(0)));
    let long = vec![(0x06, 0, 0, 0); INSTRUCTIONS_MAX + 1];
    assert_eq!(program(&long), Err(ProgramError::Len(513)));
    assert_eq!(program(&[(0x07, 0, 0, 0)]), Err(ProgramError::NoReturn));
    for (code, k) in [
        (0x18, 0),  // a load of no size
        (0x68, 0),  // half of a cell
        (0x60, 16), // cells end at 15
        (0x02, 16),
        (0x61, 16),
        (0x34, 0), // a division by 0
        (0x94, 0),
        (0x55, 0), // no such condition
        (0xc4, 0), // no such operation
        (0x0e, 0), // libpcap does not return X
        (0x17, 0),
        (0xffff, 0),
    ] {
        let refused = program(&[(code, 0, 0, k), (0x06, 0, 0, 0)]);
        assert_eq!(refused, Err(ProgramError::Unknown { index: 0, code }));
    }
}

#[test]
fn arithmetic_wraps_and_a_division_by_nothing_ends_it() {
    // A = 7, X = A op k...; returns A.
    let result = |code, k| {
        let source = [(0x00, 0, 0, 7), (code, 0, 0, k), (0x16, 0, 0, 0)];
        program(&source).unwrap().run(&[])
    };
    assert_eq!(result(0x04, u32::MAX), 6);
    assert_eq!(result(0x14, 8), u32::MAX);
    assert_eq!(result(0x24, 3), 21);
    assert_eq!(result(0x34, 2), 3);
    assert_eq!(result(0x94, 4), 3);
    assert_eq!(result(0x44, 8), 15);
    assert_eq!(result(0x54, 5), 5);
    assert_eq!(result(0xa4, 5), 2);
    assert_eq!(result(0x64, 4), 112);
    assert_eq!(result(0x74, 1), 3);
    assert_eq!(result(0x84, 0), 7_u32.wrapping_neg());
    // By X, which is 0.
    assert_eq!(result(0x3c, 0), 0);
    assert_eq!(result(0x9c, 0), 0);
}

#[test]
fn an_index_that_overflows_reads_nothing() {
    let source = [(0x01, 0, 0, u32::MAX), (0x50, 0, 0, 2), (0x06, 0, 0, 1)];
    assert_eq!(program(&source).unwrap().run(&[0; 64]), 0);
}

#[test]
fn a_program_is_checked_when_it_is_read() {
    let good = serde_json::from_str::<Program>("[[6,0,0,1]]").unwrap();
    assert_eq!(serde_json::to_string(&good).unwrap(), "[[6,0,0,1]]");
    let error = serde_json::from_str::<Program>("[[5,0,0,9],[6,0,0,1]]").unwrap_err();
    assert!(error.to_string().contains("jumps out of it"), "{error}");
}

#[cfg(feature = "bpf")]
mod against_libpcap {
    use pcap::{Capture, Linktype};
    use proptest::prelude::*;

    use super::*;

    /// Loads, arithmetic, cells and branches of all kinds.
    const FILTERS: [&str; 14] = [
        "",
        "tcp",
        "ip6",
        "arp or icmp",
        "host 198.51.100.10 and port 80",
        "net 203.0.113.0/24 and not tcp",
        "udp portrange 100-2000",
        "vlan 7 and host 203.0.113.7",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "ip[2:2] - ((ip[0] & 0xf) << 2) > 40",
        "greater 100 and ether[0] & 1 = 0",
        "ip[8] * 3 % 7 = ip[9] / 2 - 1",
        "ip6 proto 17 and ip6[6] ^ 3 >= 2",
        "tcp[(tcp[12] >> 4) * 4 - 20 : 4] > 0",
    ];

    /// Frames that get past the first conditions of those filters often.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let types = prop::sample::select(vec![
            "0800",
            "86dd",
            "0806",
            "810000070800",
            "8100000786dd",
            "88cc",
        ]);
        let starts = prop::sample::select(vec![
            "4500002812340000 3f06c356cb007107c633640a 9c410050000003e8000000005002faf0ae320000",
            "4600002812342000 0111c356cb007107c633640a 01020304 0100005000100000",
            "6000000000101140 20010db8000000000000000000000001",
            "0001080006040001 020000000002 c6336401 000000000000 cb007101",
        ]);
        (
            types,
            starts,
            prop::collection::vec(any::<u8>(), 0..90),
            any::<u16>(),
            any::<u8>(),
        )
            .prop_map(|(ether_type, start, tail, at, byte)| {
                let text = ["020000000001020000000002", ether_type, start].concat();
                let mut frame = crate::wire::test_support::hex(&text);
                frame.extend(tail);
                let at = usize::from(at) % frame.len();
                // Half of them stay as they are; some are cut.
                match byte {
                    0..=100 => frame[at] = byte,
                    101..=150 => frame.truncate(at),
                    _ => {}
                }
                frame
            })
    }

    #[test]
    fn a_program_says_what_libpcap_says() {
        let capture = Capture::dead(Linktype::ETHERNET).unwrap();
        for filter in FILTERS {
            for optimize in [true, false] {
                let oracle = capture.compile(filter, optimize).unwrap();
                let source = oracle.get_instructions().iter();
                let source = source.map(|it| it.to_string().parse().unwrap());
                let program = Program::new(source.collect()).unwrap();
                proptest!(ProptestConfig::with_cases(300), |(frame in frames())| {
                    prop_assert_eq!(program.run(&frame) != 0, oracle.filter(&frame), "{}", filter);
                });
            }
        }
    }
}
