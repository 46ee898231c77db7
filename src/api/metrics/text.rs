//! Prometheus' text format, version 0.0.4.
#![forbid(unsafe_code)]

use std::fmt::{Display, Write};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grows from 0 while the director runs; its name ends with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// Metrics, one after the other.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a metric. Its samples follow before the next one begins.
    pub(super) fn metric<'t>(&'t mut self, name: &str, kind: Kind, help: &str) -> Samples<'t> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a text does not fail.
        let _ = writeln!(
            self.0,
            "# HELP {name} {help}\n# TYPE {name} {}",
            kind.name()
        );
        Samples {
            name: name.to_owned(),
            text: &mut self.0,
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub(super) struct Samples<'t> {
    name: String,
    text: &'t mut String,
}

impl Samples<'_> {
    /// One with labels.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.name);
        for (index, (name, value)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{opening}{name}=\"{}\"", escaped(value));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{closing} {value}");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_as_the_format_says() {
        let mut text = Text::default();
        text.metric("a_total", Kind::Counter, "of \\ and\nmore")
            .add(&[], 5);
        let mut samples = text.metric("b_ratio", Kind::Gauge, "half");
        samples.add(&[("x", "1"), ("y", "a\"b\\c\nd")], 0.5);
        samples.add(&[("x", "2"), ("y", "")], 1.0);
        assert_eq!(
            text.finish(),
            "# HELP a_total of \\\\ and\\nmore\n\
             # TYPE a_total counter\n\
             a_total 5\n\
             # HELP b_ratio half\n\
             # TYPE b_ratio gauge\n\
             b_ratio{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 0.5\n\
             b_ratio{x=\"2\",y=\"\"} 1\n"
        );
    }
}
