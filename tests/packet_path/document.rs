//! `docs/counters.md` says of every counter what it means, and of nothing
//! else.

use crate::lab::Lab;

const DOCUMENT: &str = include_str!("../../docs/counters.md");

/// The names of the counters in the document, in its order: each stands at
/// the start of a line, as "- `name`: text".
fn documented() -> Vec<(&'static str, &'static str)> {
    DOCUMENT
        .split("\n- `")
        .skip(1)
        .filter_map(|entry| entry.split_once("`: "))
        .map(|(name, text)| (name, text.split("\n\n").next().unwrap_or_default()))
        .collect()
}

#[test]
fn every_counter_has_its_entry_in_the_order_of_show_counters() {
    let counters = Lab::start().director.management.counters();
    let names: Vec<_> = counters.iter().map(|counter| &counter.name).collect();
    let documented: Vec<_> = documented().into_iter().map(|(name, _)| name).collect();
    assert_eq!(documented, names);
}

#[test]
fn every_entry_says_what_to_do() {
    for (name, text) in documented() {
        let text = text.replace("\n  ", " ");
        let (meaning, advice) = text.split_once(" Do: ").unwrap_or((&text, ""));
        assert!(meaning.len() > 30, "{name}: {meaning}");
        assert!(advice.len() >= 8, "{name} does not say what to do");
    }
}
