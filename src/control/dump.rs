//! Listing connections: a walk over the workers' tables, a page at a time, so
//! that neither they nor the management thread stand still for it.

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{
    Management,
    status::{CONNECTIONS_SHOWN_MAX, ConnectionStatus, Response},
};
use crate::{
    clock::Ticks,
    io::Driver,
    service::ServiceKey,
    worker::{ConnectionsPage, WorkerRequest},
};

/// A listing under way.
#[derive(Debug)]
pub(super) struct Dump {
    limit: usize,
    service: Option<ServiceKey>,
    found: Vec<ConnectionStatus>,
    truncated: bool,
    worker: usize,
    /// The page asked for but not yet come.
    pending: Option<Receiver<ConnectionsPage>>,
    cursor: u64,
    deadline: Ticks,
    answer: Sender<Response>,
}

impl<D: Driver> Management<D> {
    pub(super) fn start_dump(
        &mut self,
        limit: usize,
        service: Option<ServiceKey>,
        answer: Sender<Response>,
        now: Ticks,
    ) {
        self.dumps.push(Dump {
            limit: limit.min(CONNECTIONS_SHOWN_MAX),
            service,
            found: Vec::new(),
            truncated: false,
            worker: 0,
            pending: None,
            cursor: 0,
            deadline: now + DUMP_MS_MAX,
            answer,
        });
    }

    /// Goes on with all listings. Returns whether there are any.
    pub(super) fn continue_dumps(&mut self, now: Ticks) -> bool {
        let mut dumps = std::mem::take(&mut self.dumps);
        let busy = !dumps.is_empty();
        dumps.retain_mut(|dump| !self.continue_dump(dump, now));
        self.dumps.append(&mut dumps);
        busy
    }

    /// Takes a page and asks for the next. Returns whether the listing is
    /// done.
    fn continue_dump(&self, dump: &mut Dump, now: Ticks) -> bool {
        if let Some(page) = dump
            .pending
            .as_ref()
            .and_then(|pending| pending.try_recv().ok())
        {
            dump.pending = None;
            self.take_page(dump, page);
        }
        if dump.worker >= self.workers.len() || dump.truncated {
            let connections = std::mem::take(&mut dump.found);
            let workers = self.workers.iter();
            let connections_total: u64 = workers
                .map(|worker| worker.counters.connections.value())
                .sum();
            let total = connections_total + self.state.templates.len() as u64;
            let truncated = dump.truncated;
            // A client that has gone away misses nothing.
            let _ = dump.answer.send(Response::Connections {
                connections,
                total,
                truncated,
            });
            return true;
        }
        if now >= dump.deadline {
            let text = "the workers did not answer in time".to_owned();
            let _ = dump.answer.send(Response::Error(text));
            return true;
        }
        if dump.pending.is_none()
            && let Some(worker) = self.workers.get(dump.worker)
        {
            let (reply, pending) = bounded(1);
            let request = WorkerRequest::Connections {
                cursor: dump.cursor,
                reply,
            };
            // Publishing needs room in the queue too.
            if worker.requests.len() * 2 < super::REQUESTS_MAX
                && worker.requests.try_send(request).is_ok()
            {
                dump.pending = Some(pending);
            }
        }
        false
    }

    fn take_page(&self, dump: &mut Dump, page: ConnectionsPage) {
        for connection in page.connections {
            let Some(server) = self.services.server(connection.server) else {
                continue;
            };
            if dump.service.is_some_and(|wanted| wanted != server.service) {
                continue;
            }
            if dump.found.len() >= dump.limit {
                dump.truncated = true;
                return;
            }
            dump.found.push(ConnectionStatus {
                worker: u32::try_from(page.worker).unwrap_or(u32::MAX),
                protocol: connection.protocol,
                is_template: connection.is_template,
                client: connection.client,
                service: connection.service,
                server: server.key.address,
                state: connection.state.to_owned(),
                expires_ms: connection.expires_ms,
                packets: u64::from(connection.packets),
            });
        }
        dump.cursor = page.next.unwrap_or(0);
        if page.next.is_none() {
            dump.worker += 1;
        }
    }
}

/// A listing that takes longer is given up.
const DUMP_MS_MAX: u64 = 1500;
