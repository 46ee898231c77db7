//! On a disk: what is kept, what is refused, and what a disk that fails costs.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{control::snapshot::Snapshot, service::Timeouts};

fn state(udp: u32) -> Saved {
    let running = Snapshot {
        timeouts: Timeouts {
            udp,
            ..Timeouts::default()
        },
        ..Snapshot::default()
    };
    Saved {
        saved_by: "0.1.0".to_owned(),
        file: Snapshot::default(),
        running,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_there_for_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/state.json");
    let file = StateFile::open(&path).unwrap();
    assert_eq!(file.load().unwrap(), None);
    let writer = file.spawn().unwrap();
    writer.finish(Some(state(7)));
    let file = StateFile::open(&path).unwrap();
    assert_eq!(file.load().unwrap(), Some(state(7)));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(
        names(path.parent().unwrap()),
        ["state.json", "state.json.lock"]
    );
}

#[test]
fn the_newest_state_is_the_one_that_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let mut writer = StateFile::open(&path).unwrap().spawn().unwrap();
    for udp in 1..50 {
        if writer.is_ready() {
            writer.save(state(udp));
        }
    }
    writer.finish(Some(state(50)));
    let file = StateFile::open(&path).unwrap();
    assert_eq!(file.load().unwrap(), Some(state(50)));
}

#[test]
fn two_directors_do_not_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let first = StateFile::open(&path).unwrap();
    let error = StateFile::open(&path).unwrap_err();
    assert!(matches!(error, StateFileError::InUse(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("give each a `state_file` of its own"),
        "{error}"
    );
    drop(first);
    StateFile::open(&path).unwrap();
}

#[test]
fn a_refused_file_is_put_aside_once_and_never_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    fs::write(&path, "first").unwrap();
    let file = StateFile::open(&path).unwrap();
    let error = file.load().unwrap_err();
    assert!(!error.is_in_the_way());
    let (name, text) = (path.display().to_string(), error.to_string());
    for part in [
        format!("state file {name}: it is no state file of pointsman. Nothing is restored"),
        format!("The file is kept as {name}.refused; to use it after all"),
    ] {
        assert!(text.contains(&part), "{text}");
    }
    file.save(&state(1)).unwrap();
    assert_eq!(
        fs::read_to_string(beside(&path, ".refused")).unwrap(),
        "first"
    );
    assert_eq!(file.load().unwrap(), Some(state(1)));

    fs::write(&path, "second").unwrap();
    let error = file.load().unwrap_err();
    assert!(error.is_in_the_way());
    assert!(
        error
            .to_string()
            .contains("nothing is saved, since the place of refused files")
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    assert_eq!(
        fs::read_to_string(beside(&path, ".refused")).unwrap(),
        "first"
    );
}

#[test]
fn what_is_no_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    fs::create_dir(&path).unwrap();
    let error = StateFile::open(&path).unwrap().load().unwrap_err();
    assert!(error.is_in_the_way());
    assert!(
        error
            .to_string()
            .contains("cannot read it: it is no regular file"),
        "{error}"
    );
    assert!(path.is_dir());
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("no/such/state.json");
    let error = StateFile::open(&path).unwrap_err().to_string();
    for part in [
        "no/such/state.json: cannot create its directory",
        "or to \"none\"",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

/// A directory in the place of the temporary file stands for a disk that takes
/// nothing: the tests run as root, whom permissions do not stop.
#[test]
fn a_disk_that_takes_nothing_is_counted_and_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let file = StateFile::open(&path).unwrap();
    file.save(&state(1)).unwrap();
    let obstacle = beside(&path, ".new");
    fs::create_dir(&obstacle).unwrap();
    let news = News::default();
    let mut complaint = String::new();
    assert!(!record(&(1, state(2)), &file, &news, &mut complaint));
    assert!(complaint.contains("Is a directory"), "{complaint}");
    assert_eq!(news.errors.load(Ordering::Relaxed), 1);
    assert_eq!(news.saved.load(Ordering::Relaxed), 0);
    assert_eq!(file.load().unwrap(), Some(state(1)));

    // The thread keeps what it could not write, and writes it at the latest
    // when it is told to end.
    let (states, states_out) = bounded(1);
    states.send((7, state(3))).unwrap();
    let news = thread::scope(|scope| {
        let news = Arc::new(News::default());
        let thread_news = Arc::clone(&news);
        let file = &file;
        scope.spawn(move || write_states(file, &states_out, &thread_news));
        while news.errors.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        fs::remove_dir(&obstacle).unwrap();
        drop(states);
        news
    });
    assert_eq!(file.load().unwrap(), Some(state(3)));
    assert_eq!(news.saves.load(Ordering::Relaxed), 1);
    assert_eq!(news.saved.load(Ordering::Relaxed), 7);
}

#[test]
fn links_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let other = directory.path().join("other");
    fs::write(&other, "precious").unwrap();
    std::os::unix::fs::symlink(&other, beside(&path, ".lock")).unwrap();
    let error = StateFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("cannot lock it"), "{error}");
    fs::remove_file(beside(&path, ".lock")).unwrap();
    let file = StateFile::open(&path).unwrap();
    std::os::unix::fs::symlink(&other, beside(&path, ".new")).unwrap();
    file.save(&state(7)).unwrap_err();
    assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
    // The link is gone with the failure.
    file.save(&state(8)).unwrap();
    assert_eq!(file.load().unwrap(), Some(state(8)));
    assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
}
