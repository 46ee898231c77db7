//! MAC addresses in messages: as text.
#![forbid(unsafe_code)]

/// A MAC address as text.
pub(super) mod mac_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::wire::ethernet::MacAddr;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde prescribes the signature"
    )]
    pub(in crate::control::status) fn serialize<S: Serializer>(
        mac: &MacAddr,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(in crate::control::status) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A MAC address as text, or null.
pub(super) mod mac_text_optional {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::wire::ethernet::MacAddr;

    #[expect(
        clippy::ref_option,
        clippy::trivially_copy_pass_by_ref,
        reason = "serde prescribes the signature"
    )]
    pub(in crate::control::status) fn serialize<S: Serializer>(
        mac: &Option<MacAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match mac {
            Some(mac) => serializer.collect_str(mac),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::control::status) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<MacAddr>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
