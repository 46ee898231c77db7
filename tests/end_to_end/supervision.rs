//! What a director tells the service manager that started it.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    thread,
    time::{Duration, Instant},
};

use nix::{sys::ptrace, unistd::Pid};
use rustix::process::Signal;

use crate::support::{Lab, Shape, wait_for};

/// What systemd would hear.
struct Ear {
    socket: UnixDatagram,
}

impl Ear {
    fn open(lab: &Lab) -> (Self, String) {
        let path = lab.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        (Self { socket }, format!("NOTIFY_SOCKET={}", path.display()))
    }

    fn message(&self) -> String {
        let mut buffer = [0; 1024];
        let len = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    /// What was said and not heard.
    fn forget(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1024];
        let mut heard = Vec::new();
        while let Ok(len) = self.socket.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..len].to_vec()).unwrap());
        }
        self.socket.set_nonblocking(false).unwrap();
        heard
    }

    /// The next message that begins so; others are passed over.
    fn hear(&self, beginning: &str) -> String {
        let start = Instant::now();
        loop {
            let message = self.message();
            if message.starts_with(beginning) {
                return message;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{message}");
        }
    }
}

#[test]
fn systemd_hears_of_the_start_a_reload_and_the_end() {
    const NAME: &str = "systemd_hears_of_the_start_a_reload_and_the_end";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let (ear, variable) = Ear::open(&lab);
    let mut director = lab.start_director_with(&lab.configuration(), &[variable]);
    assert_eq!(
        ear.message(),
        "READY=1\nSTATUS=1 workers, 2 services, generation 1\n"
    );
    director.reload();
    let reloading = ear.hear("RELOADING=1\n");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    ear.hear("READY=1\n");
    director.signal(Signal::TERM);
    ear.hear("STOPPING=1\n");
    assert!(director.wait().success());
}

#[test]
fn the_watchdog_is_fed_while_workers_live() {
    const NAME: &str = "the_watchdog_is_fed_while_workers_live";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let (ear, variable) = Ear::open(&lab);
    let environment = [variable, "WATCHDOG_USEC=400000".to_owned()];
    let _director = lab.start_director_with(&lab.configuration(), &environment);
    ear.hear("READY=1\n");
    ear.hear("WATCHDOG=1\n");
    ear.hear("WATCHDOG=1\n");
}

#[test]
fn the_watchdog_starves_while_a_worker_is_stuck() {
    const NAME: &str = "the_watchdog_starves_while_a_worker_is_stuck";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let (ear, variable) = Ear::open(&lab);
    let environment = [variable, "WATCHDOG_USEC=400000".to_owned()];
    let director = lab.start_director_with(&lab.configuration(), &environment);
    ear.hear("WATCHDOG=1\n");
    // A debugger can stop one thread of several.
    let worker = thread_called("worker-0", director.id());
    ptrace::seize(worker, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(worker).unwrap();
    wait_for("the log says who is stuck", || {
        director
            .log()
            .contains("worker 0 has made no progress for 200 ms; the watchdog is not told")
    });
    ear.forget();
    thread::sleep(Duration::from_millis(600));
    let heard = ear.forget();
    assert!(
        !heard.iter().any(|message| message.contains("WATCHDOG")),
        "{heard:?}"
    );
    // As a thread that the kernel runs again is sure to have stopped.
    nix::sys::wait::waitpid(worker, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
    ptrace::detach(worker, None).unwrap();
    ear.hear("WATCHDOG=1\n");
}

fn thread_called(name: &str, pid: u32) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let task = tasks.find(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == name);
    let id = task.unwrap().file_name().unwrap().to_str().unwrap().parse();
    Pid::from_raw(id.unwrap())
}
