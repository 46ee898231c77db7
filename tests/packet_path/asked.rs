//! A director that is asked over the queue of the control socket.

use pointsman::{
    config::Config,
    control::status::{Request, Response},
};

use crate::lab::{Lab, Setup, config};

/// A director that can be asked, and its configuration.
pub(crate) struct Asked {
    pub(crate) lab: Lab,
    pub(crate) config: Config,
}

impl Asked {
    pub(crate) fn with(setup: &Setup) -> Self {
        Self {
            lab: Lab::with(setup),
            config: config(setup),
        }
    }

    pub(crate) fn ask(&mut self, request: Request) -> Response {
        self.lab.ask(request)
    }
}
