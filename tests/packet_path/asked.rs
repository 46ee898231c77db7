//! A director that is asked over the queue of the control socket.

use crossbeam::channel::{Sender, bounded};
use pointsman::{
    clock::Ticks,
    config::Config,
    control::{
        socket::ControlRequest,
        status::{Request, Response},
    },
    director::assemble,
    io::mem::MemNetwork,
    worker::WorkerQueues,
};

use crate::lab::{Lab, Setup, config, descriptions, materials};

/// A director that can be asked, and its configuration.
pub(crate) struct Asked {
    pub(crate) lab: Lab,
    requests: Sender<ControlRequest>,
    pub(crate) config: Config,
}

impl Asked {
    pub(crate) fn with(setup: &Setup) -> Self {
        let config = config(setup);
        let descriptions = descriptions(&config, setup.capabilities);
        let network = MemNetwork::new(descriptions, setup.workers, setup.packets);
        let queues = (0..setup.workers).map(|worker| {
            let (receive, transmit) = network.queues(worker);
            WorkerQueues {
                receive,
                transmit,
                pool: network.pool(),
            }
        });
        let mut materials = materials(network.ports(), queues.collect(), network.pool());
        let (requests, receiver) = bounded(1);
        materials.requests = receiver;
        let director = assemble(config.clone(), materials, Ticks::ZERO).unwrap();
        let mut lab = Lab {
            network,
            director,
            now: Ticks::ZERO,
        };
        lab.settle();
        lab.network.take_sent();
        Self {
            lab,
            requests,
            config,
        }
    }

    /// Asks, but takes the place of the answer before it is given.
    pub(crate) fn give_up(&mut self, request: Request) {
        let (reply, _answer) = bounded(1);
        reply.send(Response::Error(String::new())).unwrap();
        let request = ControlRequest { request, reply };
        self.requests.send(request).unwrap();
        self.lab.settle();
    }

    pub(crate) fn ask(&mut self, request: Request) -> Response {
        let (reply, answer) = bounded(1);
        let request = ControlRequest { request, reply };
        self.requests.send(request).unwrap();
        self.lab.settle();
        answer.try_recv().unwrap()
    }
}
