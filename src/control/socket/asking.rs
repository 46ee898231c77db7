//! Asking the management thread, and giving up on it.
//!
//! Whoever asks waits for a limited time and then tells its client that nothing
//! came of it. That is to be true, so a request is either withdrawn or begun,
//! whichever comes first: one that nobody has begun yet is never carried out,
//! and one that has been begun is waited for a little longer, as it takes
//! moments.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam::channel::{self, Sender};

use crate::control::status::{Request, Response};

/// What a client wants from the management thread.
#[derive(Debug)]
pub struct ControlRequest {
    request: Request,
    reply: Sender<Response>,
    /// Whether somebody has decided what becomes of it.
    is_decided: Arc<AtomicBool>,
}

impl ControlRequest {
    /// A request whose answer goes to `reply`. That has to have room for one, so
    /// that sending never blocks.
    pub fn new(request: Request, reply: Sender<Response>) -> Self {
        Self {
            request,
            reply,
            is_decided: Arc::default(),
        }
    }

    /// Takes what is asked, and where the answer goes, so as to carry it out.
    /// `None` when whoever asked has given up: it is not to be done then.
    pub fn begin(self) -> Option<(Request, Sender<Response>)> {
        decide(&self.is_decided).then_some((self.request, self.reply))
    }

    /// What gives up on it.
    pub fn withdrawal(&self) -> Withdrawal {
        Withdrawal(Arc::clone(&self.is_decided))
    }
}

/// Gives up on a request.
#[derive(Debug)]
pub struct Withdrawal(Arc<AtomicBool>);

impl Withdrawal {
    /// Has the request not be carried out. Returns false when it has been begun
    /// already.
    pub fn withdraw(&self) -> bool {
        decide(&self.0)
    }
}

/// Returns whether nobody had decided before.
fn decide(is_decided: &AtomicBool) -> bool {
    !is_decided.swap(true, Ordering::AcqRel)
}

/// Why the management thread gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It has too much to do, or is stuck. The request is not carried out, not
    /// later either.
    #[error("the director did not answer within {} s; nothing was done, so try again", .0.as_secs_f64())]
    Busy(Duration),
    /// It has begun to carry the request out, and is not seen to end that.
    #[error(
        "the director has begun this and not ended it within {} s; look with `pointsman show` \
         whether it took effect",
        .0.as_secs_f64()
    )]
    Unfinished(Duration),
    /// It has ended.
    #[error("the director is stopping")]
    Stopping,
    /// It has dropped the request.
    #[error("the director did not answer this request")]
    Unanswered,
}

/// How long the management thread may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until it answers.
    pub(super) answer: Duration,
    /// After that, when it has begun in time.
    pub(super) end: Duration,
}

/// Asks the management thread, and waits for its answer within limits.
///
/// # Errors
/// When there is none.
pub(super) fn ask_within(
    limits: Limits,
    request: Request,
    requests: &Sender<ControlRequest>,
) -> Result<Response, AskError> {
    let Limits { answer, end } = limits;
    let deadline = Instant::now() + answer;
    let (reply, response) = channel::bounded(1);
    let request = ControlRequest::new(request, reply);
    let withdrawal = request.withdrawal();
    requests
        .send_deadline(request, deadline)
        .map_err(|error| match error {
            channel::SendTimeoutError::Timeout(_) => AskError::Busy(answer),
            channel::SendTimeoutError::Disconnected(_) => AskError::Stopping,
        })?;
    let wait = |deadline| response.recv_deadline(deadline);
    let answered = match wait(deadline) {
        Err(channel::RecvTimeoutError::Timeout) if withdrawal.withdraw() => {
            return Err(AskError::Busy(answer));
        }
        Err(channel::RecvTimeoutError::Timeout) => wait(Instant::now() + end),
        answered => answered,
    };
    answered.map_err(|error| match error {
        channel::RecvTimeoutError::Timeout => AskError::Unfinished(answer + end),
        channel::RecvTimeoutError::Disconnected => AskError::Unanswered,
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);
    /// Long enough for a thread that waits already to begin.
    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(10);

    fn ask(
        (answer, end): (Duration, Duration),
        requests: &Sender<ControlRequest>,
    ) -> Result<Response, AskError> {
        ask_within(Limits { answer, end }, Request::Counters, requests)
    }

    #[test]
    fn what_has_not_begun_in_time_is_never_begun() {
        let (requests, queue) = channel::bounded(4);
        let asked = ask((MOMENT, PATIENCE), &requests);
        assert_eq!(asked, Err(AskError::Busy(MOMENT)));
        assert!(queue.recv().unwrap().begin().is_none());
    }

    #[test]
    fn what_has_begun_in_time_is_waited_for() {
        let (requests, queue) = channel::bounded::<ControlRequest>(4);
        let management = thread::spawn(move || {
            let (_, reply) = queue.recv().unwrap().begin().unwrap();
            // Longer than the first limit, much less than the second.
            thread::sleep(SECOND + 10 * MOMENT);
            reply.send(Response::Applied).unwrap();
        });
        assert_eq!(ask((SECOND, PATIENCE), &requests), Ok(Response::Applied));
        management.join().unwrap();
    }

    #[test]
    fn what_has_begun_and_does_not_end_is_told_as_that() {
        let (requests, queue) = channel::bounded::<ControlRequest>(4);
        let management = thread::spawn(move || queue.recv().unwrap().begin().unwrap());
        let asked = ask((SECOND, MOMENT), &requests);
        assert_eq!(asked, Err(AskError::Unfinished(SECOND + MOMENT)));
        drop(management.join().unwrap());
    }

    #[test]
    fn a_full_queue_is_given_up_on() {
        let (requests, _queue) = channel::bounded(1);
        let (reply, _) = channel::bounded(1);
        requests
            .send(ControlRequest::new(Request::Counters, reply))
            .unwrap();
        let asked = ask((MOMENT, PATIENCE), &requests);
        assert_eq!(asked, Err(AskError::Busy(MOMENT)));
    }

    #[test]
    fn an_end_of_the_management_is_told_at_once() {
        let (requests, queue) = channel::bounded::<ControlRequest>(1);
        let management = thread::spawn(move || drop(queue.recv()));
        let asked = ask((PATIENCE, PATIENCE), &requests);
        assert_eq!(asked, Err(AskError::Unanswered));
        management.join().unwrap();
        let asked = ask((PATIENCE, PATIENCE), &requests);
        assert_eq!(asked, Err(AskError::Stopping));
    }
}
