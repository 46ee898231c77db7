//! `pointsman top`: a running director, live on a terminal.
//!
//! A thread asks the director, so that a slow or stopped one does not keep
//! keys from working; a [`Model`] says what is shown, and the view draws it.
//! The director may come and go meanwhile.
#![forbid(unsafe_code)]

mod details;
#[cfg(test)]
mod fixture;
mod grid;
mod model;
mod sample;
mod screens;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use crossbeam::channel::{Receiver, Sender, bounded};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::{
    model::{Effect, Model},
    sample::Sample,
    screens::Screen,
};
use crate::{
    config::CONTROL_SOCKET_DEFAULT,
    control::socket::{QueryError, query},
};

/// What to watch, and how.
#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// Seconds between two questions to the director
    #[arg(long, short, value_name = "SECONDS", default_value = "2", value_parser = interval)]
    interval: Duration,
    /// Print one frame as text and end; rates are of one interval
    #[arg(long)]
    once: bool,
    /// The screen to begin with
    #[arg(long, value_enum, value_name = "NAME", default_value = "services")]
    screen: Screen,
    /// Sort by the column of this title
    #[arg(long, value_name = "TITLE")]
    sort: Option<String>,
    /// Show only rows that have all of these words
    #[arg(long, value_name = "WORDS")]
    filter: Option<String>,
    /// Columns of text that --once prints
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u16).range(20..=500))]
    width: u16,
    /// The control socket of the director
    #[arg(long, value_name = "PATH", default_value = CONTROL_SOCKET_DEFAULT)]
    socket: PathBuf,
}

fn interval(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "write 0.1 to 3600 seconds".to_owned())
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum TopError {
    #[error("there is no column \"{title}\"; write one of: {titles}")]
    NoSuchColumn { title: String, titles: String },
    #[error("stdout is no terminal; --once prints one frame as text")]
    NoTerminal,
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

impl TopArguments {
    /// Watches until the user has seen enough, or gives the text of one frame.
    ///
    /// # Errors
    /// When there is no terminal, or with `--once` no director.
    pub(super) fn watch(&self) -> Result<String, TopError> {
        let mut model = Model::new(self.screen, self.interval);
        model.filter = self.filter.clone().unwrap_or_default();
        if let Some(title) = &self.sort {
            let title = title.clone();
            let sorted = model.sort_by(&title);
            sorted.map_err(|titles| TopError::NoSuchColumn { title, titles })?;
        }
        if self.once {
            return self.frame(&mut model);
        }
        if !io::stdout().is_terminal() {
            return Err(TopError::NoTerminal);
        }
        live(&mut model, &self.socket)?;
        Ok(String::new())
    }

    fn frame(&self, model: &mut Model) -> Result<String, TopError> {
        model.take(ask(&self.socket)?);
        thread::sleep(self.interval);
        model.take(ask(&self.socket)?);
        Ok(view::text(model, self.width))
    }
}

fn ask(socket: &Path) -> Result<Sample, QueryError> {
    Sample::take(|request| query(socket, request))
}

/// Shows the model on the terminal until it is to end, and leaves the terminal
/// as it was, however this ends: a panic is written after that.
fn live(model: &mut Model, socket: &Path) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let asker = Asker::start(socket.to_owned())?;
    let mut terminal = ratatui::try_init()?;
    let restore = Restore;
    let result = show(model, &mut terminal, &asker, &stop);
    drop(restore);
    result
}

/// Gives the terminal back.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // Nothing can be said to a terminal that has gone.
        let _ = ratatui::try_restore();
    }
}

fn show(
    model: &mut Model,
    terminal: &mut DefaultTerminal,
    asker: &Asker,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut due = Instant::now();
    let mut is_asked = false;
    let mut is_stale = true;
    while !stop.load(Ordering::Relaxed) {
        if !is_asked && !model.paused && Instant::now() >= due {
            is_asked = asker.ask();
            due = Instant::now() + model.interval;
        }
        if let Ok(answer) = asker.answers.try_recv() {
            is_asked = false;
            is_stale = true;
            match answer {
                Ok(sample) if !model.paused => model.take(sample),
                Ok(_) => {}
                Err(error) => model.fail(trouble(&error)),
            }
        }
        if is_stale {
            terminal.draw(|frame| {
                model.page = view::page(frame.area().height);
                view::draw(model, frame.area(), frame.buffer_mut());
            })?;
            is_stale = false;
        }
        if !event::poll(POLL_INTERVAL)? {
            continue;
        }
        is_stale = true;
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match model.press(key) {
                Effect::None => {}
                Effect::Ask => due = Instant::now(),
                Effect::Quit => break,
            }
        }
    }
    Ok(())
}

/// In one line, that a user who waits understands.
fn trouble(error: &QueryError) -> String {
    match error {
        QueryError::NotRunning(path) | QueryError::Timeout(path) => {
            format!("no answer from {}; retrying", path.display())
        }
        error => format!("{error}; retrying"),
    }
}

/// Signals and answers are noticed within this time.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A thread that asks the director when told to.
struct Asker {
    questions: Sender<()>,
    answers: Receiver<Result<Sample, QueryError>>,
}

impl Asker {
    fn start(socket: PathBuf) -> io::Result<Self> {
        let (questions, questions_out) = bounded::<()>(1);
        let (answers_in, answers) = bounded(1);
        thread::Builder::new()
            .name("asker".to_owned())
            .spawn(move || {
                for () in questions_out {
                    if answers_in.send(ask(&socket)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { questions, answers })
    }

    /// Whether the question was taken.
    fn ask(&self) -> bool {
        self.questions.try_send(()).is_ok()
    }
}
