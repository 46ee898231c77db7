//! mh: Maglev's table after the words of its paper, filled anew whenever one is
//! looked up.

/// SipHash-1-3 of four bytes, by its paper (Aumasson and Bernstein, 2012).
fn sip_hash_1_3(key: u64, value: u32) -> u64 {
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }
    let mut v = [*b"somepseu", *b"dorandom", *b"lygenera", *b"tedbytes"]
        .map(|text| u64::from_be_bytes(text) ^ key);
    // The only word: its bytes, and how many there are in all.
    let word = u64::from(value) | 4 << 56;
    v[3] ^= word;
    round(&mut v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn hash(value: u32, key: u64) -> u32 {
    let bytes = sip_hash_1_3(key, value).to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

const SLOTS: u32 = 4093;
const LOOKUP: u64 = 2_654_435_761;
const SKIP: u64 = 2_654_446_892;

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// The table of Maglev: in each round a server takes so many free slots of its
/// own permutation as its weight has the common divisor. Servers are hosts with
/// their addresses as a number, and weights.
pub(super) fn table(servers: &[(u8, u32, u32)]) -> Vec<u8> {
    let divisor = servers.iter().fold(0, |divisor, (_, _, weight)| {
        greatest_common_divisor(*weight, divisor)
    });
    let mut slots = vec![None; SLOTS as usize];
    let mut left = SLOTS;
    let permutation = |address: u32| {
        // A server's port is that of its service in a tunnel.
        let value = address.wrapping_add(80);
        let offset = hash(value, LOOKUP) % SLOTS;
        let skip = hash(value, SKIP) % (SLOTS - 1) + 1;
        (0..SLOTS).map(move |n| (u64::from(offset) + u64::from(n) * u64::from(skip)) % 4093)
    };
    let mut rows: Vec<_> = servers
        .iter()
        .map(|&(host, address, weight)| (host, weight / divisor.max(1), permutation(address)))
        .collect();
    while left > 0 && divisor > 0 {
        for (host, turns, permutation) in &mut rows {
            for _ in 0..*turns {
                let free =
                    permutation.find(|slot| slots[usize::try_from(*slot).unwrap()].is_none());
                if let Some(slot) = free {
                    slots[usize::try_from(slot).unwrap()] = Some(*host);
                    left -= 1;
                }
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// The slot of a client, whose address and L4 port make this number.
pub(super) fn slot(value: u32) -> usize {
    (hash(value, LOOKUP) % SLOTS) as usize
}

/// Else the model would be wrong itself.
#[test]
fn all_servers_have_their_share_of_the_table() {
    let table = table(&[
        (11, 0x0a00_000b, 3),
        (12, 0x0a00_000c, 2),
        (13, 0x0a00_000d, 1),
    ]);
    assert_eq!(table.len(), 4093);
    for (host, share) in [(11, 2046), (12, 1364), (13, 682)] {
        let taken = table
            .iter()
            .map(|taken| usize::from(*taken == host))
            .sum::<usize>();
        assert!(taken.abs_diff(share) <= 3, "{host}: {taken}");
    }
}
