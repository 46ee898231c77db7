//! Each kept input is taken without a fault.

use std::{fs, path::Path};

use pointsman_fuzz::TARGETS;

#[test]
fn the_kept_inputs_are_taken_without_a_fault() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let entries = fs::read_dir(corpora.join(name)).unwrap();
        let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        assert!(!paths.is_empty(), "{name} has no inputs");
        for path in paths {
            // Said when the target panics.
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
        }
    }
}
