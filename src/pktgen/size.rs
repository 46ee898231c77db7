//! Lengths of frames, and in which order they come.
use std::{fmt, str::FromStr};

/// The shortest frame, without FCS.
pub const FRAME_LEN_MIN: u16 = 60;
/// The longest frame: an IP packet of 9216 bytes in it, which with an outer
/// IPv6 header and GUE around it is still below the largest MTU of a port.
pub const FRAME_LEN_MAX: u16 = 9230;
/// Different lengths that a mix can have.
pub const LENS_MAX: usize = 8;

/// Frames of one length, or of several by turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeMix {
    lens: Vec<u16>,
    /// Places in `lens`, in the order in which frames have them.
    pattern: Vec<u8>,
}

/// The text does not say lengths.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" does not say lengths of frames; write a number from {FRAME_LEN_MIN} to \
     {FRAME_LEN_MAX} (without FCS), imix, or up to {LENS_MAX} lengths with their shares like \
     60:7,576:4,1500:1"
)]
pub struct InvalidSizes(pub String);

impl SizeMix {
    /// The usual mix: of twelve frames seven of 60 bytes, four of 576 and one
    /// of 1500.
    pub fn imix() -> Self {
        Self::of(&[(60, 7), (576, 4), (1500, 1)])
    }

    /// Frames of the same length.
    pub fn fixed(len: u16) -> Self {
        Self::of(&[(len, 1)])
    }

    /// The lengths that there are, without FCS and VLAN tag.
    pub fn lens(&self) -> &[u16] {
        &self.lens
    }

    /// Which of the lengths the frames have, one after the other and then from
    /// the beginning.
    pub(super) fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// Lengths with their shares. The long ones are spread over the short
    /// ones: each time comes whichever is the furthest behind its share.
    fn of(shares: &[(u16, u16)]) -> Self {
        let total: i64 = shares.iter().map(|(_, share)| i64::from(*share)).sum();
        let mut behind = vec![0_i64; shares.len()];
        let mut pattern = Vec::new();
        for _ in 0..total {
            for (behind, (_, share)) in behind.iter_mut().zip(shares) {
                *behind += i64::from(*share);
            }
            let next = (0_u8..).zip(&mut behind).max_by_key(|(_, behind)| **behind);
            if let Some((place, behind)) = next {
                *behind -= total;
                pattern.push(place);
            }
        }
        Self {
            lens: shares.iter().map(|(len, _)| *len).collect(),
            pattern,
        }
    }
}

impl FromStr for SizeMix {
    type Err = InvalidSizes;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSizes(text.to_owned());
        if text == "imix" {
            return Ok(Self::imix());
        }
        let mut shares = Vec::new();
        for part in text.split(',') {
            let (len, share) = part.split_once(':').unwrap_or((part, "1"));
            let len: u16 = len.parse().map_err(|_| invalid())?;
            let share: u16 = share.parse().map_err(|_| invalid())?;
            let fits = (FRAME_LEN_MIN..=FRAME_LEN_MAX).contains(&len);
            if !fits || !(1..=SHARE_MAX).contains(&share) {
                return Err(invalid());
            }
            shares.push((len, share));
        }
        if shares.len() > LENS_MAX {
            return Err(invalid());
        }
        Ok(Self::of(&shares))
    }
}

impl fmt::Display for SizeMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, len) in (0_u8..).zip(&self.lens) {
            let is_place = |other: &&u8| **other == place;
            let share = self.pattern.iter().filter(is_place).count();
            let comma = if place == 0 { "" } else { "," };
            if self.lens.len() == 1 {
                write!(f, "{len}")?;
            } else {
                write!(f, "{comma}{len}:{share}")?;
            }
        }
        Ok(())
    }
}

const SHARE_MAX: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_has_seven_four_and_one_spread_over_twelve() {
        let mix: SizeMix = "imix".parse().unwrap();
        assert_eq!(mix.lens(), [60, 576, 1500]);
        assert_eq!(mix.pattern(), [0, 1, 0, 2, 0, 1, 0, 1, 0, 0, 1, 0]);
        assert_eq!(mix.to_string(), "60:7,576:4,1500:1");
        assert_eq!(mix.to_string().parse(), Ok(mix));
    }

    #[test]
    fn a_number_is_the_length_of_all_frames() {
        let mix: SizeMix = "512".parse().unwrap();
        assert_eq!((mix.lens(), mix.pattern()), (&[512][..], &[0][..]));
        assert_eq!(mix.to_string(), "512");
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_with_what_to_write() {
        for text in [
            "",
            "59",
            "9231",
            "60:0",
            "60:101",
            "60:7;576:4",
            "jumbo",
            "60,",
        ] {
            let error = text.parse::<SizeMix>().unwrap_err();
            assert!(error.to_string().contains("60:7,576:4,1500:1"), "{error}");
        }
        assert!("60,61,62,63,64,65,66,67".parse::<SizeMix>().is_ok());
        assert!("60,61,62,63,64,65,66,67,68".parse::<SizeMix>().is_err());
    }
}
