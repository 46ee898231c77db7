//! Replaying one recorded case against a [`Subject`].

use std::fmt;

use pointsman::ipvsadm::{self, ArgumentError, Columns, Invocation, Listing, listing};

use super::{
    case::{Case, CommandStep, PacketStep, RecordedFrame, Step},
    frame::describe,
    interpret::{Action, interpret},
    lists::{Difference, Intended},
    mask::{Comparison, is_ignored},
    network::Network,
    output::{Compare, RecordedOutput},
    shell,
    subject::{Printed, Subject},
};

/// Virtual time that a step waits for frames that the recording has and that
/// have not come yet: three ARP requests a second apart and some to spare.
pub const PATIENCE_MS: u64 = 5000;

/// The steps in which the virtual clock goes forward.
const CLOCK_STEP_MS: u64 = 100;

/// The kernel brings statistics up to date once in this time.
const STATISTICS_PERIOD_MS: u64 = 2000;

/// A step went differently from the recording.
#[derive(Debug)]
pub struct Failure {
    step: usize,
    note: String,
    problem: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            note,
            problem,
        } = self;
        write!(
            f,
            "step {step} ({note}): {}",
            problem.replace('\n', "\n    ")
        )
    }
}

/// Replays a case, and compares all that the director sends and prints.
pub fn replay<S: Subject>(
    case: &Case,
    intended: &Intended,
    start: impl FnOnce(&Network) -> Result<S, String>,
) -> Result<(), Failure> {
    let mut replay = Replay::new(case, start)?;
    for (index, step) in case.steps.iter().enumerate() {
        let intended = intended.of(&case.name, index);
        let (note, result) = match step {
            Step::Config(step) | Step::Cmd(step) => (
                step.cmd.as_str(),
                replay.command_step(index, step, intended),
            ),
            Step::Packet(step) => (step.note.as_str(), replay.packet_step(step, intended)),
            Step::Note { .. } => continue,
        };
        result.map_err(|problem| Failure {
            step: index,
            note: note.lines().next().unwrap_or_default().to_owned(),
            problem,
        })?;
    }
    replay.subject.finish().map_err(|problem| Failure {
        step: case.steps.len(),
        note: "end".to_owned(),
        problem,
    })
}

struct Replay<'a, S> {
    case: &'a Case,
    subject: S,
    network: Network,
    /// Milliseconds from one `date` to the next.
    date_interval_ms: u64,
}

impl<'a, S: Subject> Replay<'a, S> {
    fn new(
        case: &'a Case,
        start: impl FnOnce(&Network) -> Result<S, String>,
    ) -> Result<Self, Failure> {
        let failed = |problem: String| Failure {
            step: 0,
            note: "network set-up".to_owned(),
            problem,
        };
        let mut network = Network::default();
        for pipeline in shell::parse(&case.net_setup.join("\n")).map_err(failed)? {
            match interpret(&pipeline) {
                Ok(Action::Network(change)) => {
                    network
                        .change(&change)
                        .map_err(|refusal| failed(refusal.to_string()))?;
                }
                Ok(_) => {}
                Err(refusal) => return Err(failed(refusal.to_string())),
            }
        }
        let subject = start(&network).map_err(failed)?;
        Ok(Self {
            case,
            subject,
            network,
            date_interval_ms: date_interval_ms(case),
        })
    }

    fn packet_step(
        &mut self,
        step: &PacketStep,
        intended: Option<&Difference>,
    ) -> Result<(), String> {
        self.subject.send(step.nic, &step.frame)?;
        self.compare_frames(&step.out, intended)
    }

    fn command_step(
        &mut self,
        index: usize,
        step: &CommandStep,
        intended: Option<&Difference>,
    ) -> Result<(), String> {
        let expected = intended.and_then(|entry| entry.output.as_deref());
        if expected == Some(&step.output) {
            return Err("the intended output is the recorded one".to_owned());
        }
        let lost_s = self.subject.seconds_lost();
        let mut recorded = RecordedOutput::new(expected.unwrap_or(&step.output), index, lost_s);
        let mut shell = ShellState::default();
        for pipeline in shell::parse(&step.cmd)? {
            let action = interpret(&pipeline).map_err(|refusal| refusal.to_string())?;
            let words = pipeline.commands.first().map_or(&[][..], Vec::as_slice);
            self.run(words, &action, &mut recorded, &mut shell)?;
        }
        recorded.finish()?;
        self.compare_frames(&step.out, intended)
    }

    /// Does what `action` says, which is what the program with these words does.
    fn run(
        &mut self,
        words: &[String],
        action: &Action,
        recorded: &mut RecordedOutput<'_>,
        shell: &mut ShellState,
    ) -> Result<(), String> {
        match action {
            // A text of ipvsadm alone, which asks nothing of a director.
            Action::Ipvsadm(Invocation::Help, _) => {
                match self.run_program(words, action, shell)? {
                    Some(text) => return recorded.take_lines(&text),
                    None => recorded.expect_unknown(),
                }
                shell.exit_code = 0;
            }
            Action::Ipvsadm(invocation, filters) => {
                let mut text = self.ipvsadm(words, action, invocation, shell)?;
                if matches!(invocation, Invocation::List(Listing::Connections)) {
                    let waited_s = recorded.seconds_waited(&text);
                    if waited_s > 0 {
                        self.wait(waited_s * 1000)?;
                        text = self.ipvsadm(words, action, invocation, shell)?;
                    }
                }
                for filter in filters {
                    text = filter.apply(&text);
                }
                return compare_output(invocation, &text, recorded, shell);
            }
            Action::Refused { message, code } => {
                if let Some(text) = self.run_program(words, action, shell)? {
                    return recorded.take_lines(&text);
                }
                shell.exit_code = *code;
                return recorded.take_lines(message);
            }
            Action::Synchronise => {
                if let Some(text) = self.run_program(words, action, shell)? {
                    return recorded.take_lines(&text);
                }
                let error = ArgumentError::Synchronisation;
                let (message, code) = error.answer().ok_or("ipvsadm does not refuse that")?;
                shell.exit_code = code;
                return recorded.take_lines(&message);
            }
            Action::Tunable(name, value) => self.subject.set_tunable(name, *value)?,
            Action::IcmpInterval(interval_ms) => {
                self.subject.limit_icmp(*interval_ms)?;
            }
            Action::Network(change) => {
                self.network
                    .change(change)
                    .map_err(|refusal| refusal.to_string())?;
                self.subject.reconfigure(&self.network)?;
            }
            Action::SleepMs(ms) => {
                self.wait(*ms)?;
                shell.slept_ms += ms;
            }
            Action::Date => {
                self.wait(self.date_interval_ms)?;
                recorded.take_line();
            }
            Action::ReadConnections => {
                let text = match self.run_program(words, action, shell)? {
                    Some(text) => text,
                    None => listing::proc_connections(&self.subject.connections()?),
                };
                return recorded.take_connections(&text);
            }
            Action::Print(text) => {
                let text = text.replace("$?", &shell.exit_code.to_string());
                return recorded.take_lines(&text);
            }
            Action::Look => recorded.expect_unknown(),
            Action::Nothing => {}
        }
        Ok(())
    }

    /// Runs the program itself, where the subject has it, and returns what it
    /// prints.
    fn run_program(
        &mut self,
        words: &[String],
        action: &Action,
        shell: &mut ShellState,
    ) -> Result<Option<String>, String> {
        let printed = self.subject.run_program(words, action)?;
        Ok(printed.map(|Printed { text, code }| {
            shell.exit_code = code;
            text
        }))
    }

    /// Runs `ipvsadm` and returns what it prints.
    fn ipvsadm(
        &mut self,
        words: &[String],
        action: &Action,
        invocation: &Invocation,
        shell: &mut ShellState,
    ) -> Result<String, String> {
        if let Some(text) = self.run_program(words, action, shell)? {
            return Ok(text);
        }
        shell.exit_code = 0;
        match invocation {
            Invocation::Change(command) => {
                let Err(error) = self.subject.apply(command)? else {
                    return Ok(String::new());
                };
                shell.exit_code = 255;
                Ok(ipvsadm::error_message(command, &error))
            }
            Invocation::SetTimeouts(seconds) => {
                let timeouts = ipvsadm::set_timeouts(self.subject.timeouts(), *seconds);
                self.subject.set_timeouts(timeouts)?;
                Ok(String::new())
            }
            Invocation::List(listing) => self.list(*listing, shell),
            Invocation::Save => self.subject.saved(),
            Invocation::Restore | Invocation::Help => {
                Err("the replay has no text to compare this with".to_owned())
            }
        }
    }

    fn list(&mut self, asked: Listing, shell: &mut ShellState) -> Result<String, String> {
        Ok(match asked {
            Listing::Services {
                only,
                columns,
                exact,
                sorted,
            } => {
                let mut services = self.subject.services()?;
                if let Some(key) = only {
                    services.retain(|service| service.key == key);
                    if services.is_empty() {
                        shell.exit_code = 1;
                        return Ok("No such service\n".to_owned());
                    }
                }
                listing::services(&services, columns, only.is_none(), sorted, exact)
            }
            Listing::Connections => self.subject.listed_connections()?,
            Listing::Timeouts => listing::timeouts(self.subject.timeouts()),
            Listing::Daemon => String::new(),
        })
    }

    fn wait(&mut self, ms: u64) -> Result<(), String> {
        wait(&mut self.subject, ms)
    }

    /// Compares what was sent in this step. Waits while frames are missing.
    fn compare_frames(
        &mut self,
        recorded: &[RecordedFrame],
        intended: Option<&Difference>,
    ) -> Result<(), String> {
        let meant = match intended {
            Some(entry) => entry.frames()?,
            None => None,
        };
        let recorded: Vec<&RecordedFrame> = recorded
            .iter()
            .filter(|frame| !is_ignored(&frame.bytes))
            .collect();
        let expected = match &meant {
            Some(frames) => frames.iter().collect(),
            None => recorded.clone(),
        };
        let mut ours = self.take_frames()?;
        let mut waited_ms = 0;
        while ours.len() < expected.len() && waited_ms < PATIENCE_MS {
            self.subject.advance(CLOCK_STEP_MS)?;
            waited_ms += CLOCK_STEP_MS;
            ours.extend(self.take_frames()?);
        }
        if !self.subject.knows_order_of_ports() {
            ours = in_order_of(&expected, ours);
        }
        if let Some(entry) = intended.filter(|_| meant.is_some())
            && self.difference(&recorded, &ours).is_none()
        {
            return Err(format!(
                "the answer is the recorded one, so take this out of the list of intended \
                 differences: {}",
                entry.reason
            ));
        }
        self.difference(&expected, &ours).map_or(Ok(()), Err)
    }

    fn take_frames(&mut self) -> Result<Vec<(u8, Vec<u8>)>, String> {
        let mut frames = self.subject.take_sent()?;
        frames.retain(|(_, frame)| !is_ignored(frame) && !is_gratuitous_arp(frame));
        Ok(frames)
    }

    /// What distinguishes our frames from those expected, if anything.
    fn difference(&self, expected: &[&RecordedFrame], ours: &[(u8, Vec<u8>)]) -> Option<String> {
        let mut comparison = Comparison::new(&self.case.gue_ports);
        for (index, (expected, (port, ours))) in expected.iter().zip(ours).enumerate() {
            if let Err(difference) = comparison.compare(expected, *port, ours) {
                return Some(format!(
                    "frame {index}: {difference}\n\
                     expected: port {} {}\n          {}\n\
                     ours:     port {port} {}\n          {}",
                    expected.nic,
                    describe(&expected.bytes),
                    hex(&expected.bytes),
                    describe(ours),
                    hex(ours),
                ));
            }
        }
        let missing = expected
            .iter()
            .skip(ours.len())
            .map(|frame| (frame.nic, &frame.bytes));
        let surplus = ours
            .iter()
            .skip(expected.len())
            .map(|(port, frame)| (*port, frame));
        let missing = missing.map(|(port, frame)| ("missing", port, frame));
        let surplus = surplus.map(|(port, frame)| ("too many", port, frame));
        let lines: Vec<String> = missing
            .chain(surplus)
            .map(|(what, port, frame)| {
                format!(
                    "{what}: port {port} {}\n          {}",
                    describe(frame),
                    hex(frame)
                )
            })
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// Lets time pass in small steps.
pub fn wait(subject: &mut impl Subject, ms: u64) -> Result<(), String> {
    let mut left_ms = ms;
    while left_ms > 0 {
        let step_ms = left_ms.min(CLOCK_STEP_MS);
        subject.advance(step_ms)?;
        left_ms -= step_ms;
    }
    Ok(())
}

/// Frames in the order of those expected as far as their ports go, in which
/// they themselves stay in order.
fn in_order_of(expected: &[&RecordedFrame], mut frames: Vec<(u8, Vec<u8>)>) -> Vec<(u8, Vec<u8>)> {
    let mut ordered = Vec::with_capacity(frames.len());
    for expected in expected {
        if let Some(at) = frames.iter().position(|(port, _)| *port == expected.nic) {
            ordered.push(frames.remove(at));
        }
    }
    ordered.append(&mut frames);
    ordered
}

/// What the commands of one step hand on to each other.
#[derive(Debug, Default)]
struct ShellState {
    exit_code: u8,
    slept_ms: u64,
}

fn compare_output(
    invocation: &Invocation,
    text: &str,
    recorded: &mut RecordedOutput<'_>,
    shell: &ShellState,
) -> Result<(), String> {
    match invocation {
        Invocation::List(Listing::Connections) => recorded.take_connections(text),
        Invocation::List(Listing::Services {
            columns, sorted, ..
        }) if shell.exit_code == 0 => {
            // The kernel's own numbers are old at any other time.
            let is_current = match columns {
                Columns::Statistics => shell.slept_ms >= STATISTICS_PERIOD_MS,
                Columns::Rates => false,
                _ => true,
            };
            let compare = match (is_current, sorted) {
                (false, _) => Compare::Nothing,
                (true, true) => Compare::InOrder,
                (true, false) => Compare::AnyOrder,
            };
            recorded.take_services(text, compare)
        }
        _ => recorded.take_lines(text),
    }
}

/// An ARP frame about its sender's own address: at their start and for new
/// addresses, directors announce themselves, which the recordings leave out.
fn is_gratuitous_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06]) && frame.get(28..32) == frame.get(38..42)
}

/// How long a recording waited from one `date` to the next. It waited equally
/// long before the first.
fn date_interval_ms(case: &Case) -> u64 {
    let seconds: Vec<u64> = case
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Cmd(step) if step.cmd.starts_with("date") => {
                step.output.lines().next()?.trim().parse().ok()
            }
            _ => None,
        })
        .collect();
    match seconds.as_slice() {
        [first, .., last] => (last - first) * 1000 / (seconds.len() as u64 - 1),
        _ => 0,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
