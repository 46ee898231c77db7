//! Numbers as an operator reads them.
#![forbid(unsafe_code)]

/// A count in at most seven columns: exact up to 999999, then with a decimal
/// prefix: "1.23M", "45.6G".
pub(super) fn count(count: u64) -> String {
    if count < 1_000_000 {
        return count.to_string();
    }
    scaled(count, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// Bytes in at most eight columns: "0 B", "1.50 KiB", "23.4 GiB".
pub(super) fn bytes(bytes: u64) -> String {
    scaled(
        bytes,
        1024,
        &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"],
    )
}

/// A time span in its two largest units: "340 ms", "12 s", "5 min 3 s",
/// "7 d 2 h".
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    let two = |value: u64, unit: &str, rest: u64, rest_unit: &str| match rest {
        0 => format!("{value} {unit}"),
        _ => format!("{value} {unit} {rest} {rest_unit}"),
    };
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s / 60 % 60, "min"),
        _ => two(s / 86_400, "d", s / 3600 % 24, "h"),
    }
}

/// Minutes and seconds, as `ipvsadm -Lnc` has them: "14:59".
pub(super) fn minutes(ms: u64) -> String {
    let s = ms / 1000;
    format!("{:02}:{:02}", s / 60, s % 60)
}

/// Three significant digits and the suffix for the power of `base`.
fn scaled(value: u64, base: u64, suffixes: &[&str]) -> String {
    let mut unit: u64 = 1;
    for suffix in suffixes {
        // Rounding must not show "1000k" or "1024 KiB" as three digits and more.
        if value / unit < base || suffixes.last() == Some(suffix) {
            let whole = value / unit;
            let hundredths = u128::from(value % unit) * 100 / u128::from(unit);
            return match whole {
                _ if unit == 1 => format!("{whole}{suffix}"),
                0..10 => format!("{whole}.{hundredths:02}{suffix}"),
                10..100 => format!("{whole}.{}{suffix}", hundredths / 10),
                _ => format!("{whole}{suffix}"),
            };
        }
        unit = unit.saturating_mul(base);
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_while_they_are_short() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999_999), "999999");
        assert_eq!(count(1_000_000), "1.00M");
        assert_eq!(count(12_345_678), "12.3M");
        assert_eq!(count(999_999_999), "999M");
        assert_eq!(count(u64::MAX), "18.4E");
    }

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(1_048_575), "1023 KiB");
        assert_eq!(bytes(5 << 30), "5.00 GiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(duration(340), "340 ms");
        assert_eq!(duration(59_999), "59 s");
        assert_eq!(duration(60_000), "1 min");
        assert_eq!(duration(303_000), "5 min 3 s");
        assert_eq!(duration(7_500_000), "2 h 5 min");
        assert_eq!(duration(90_000_000), "1 d 1 h");
        assert_eq!(minutes(899_999), "14:59");
        assert_eq!(minutes(6_000_000), "100:00");
    }
}
