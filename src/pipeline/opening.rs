//! The short way for packets of flows that have no connection: it opens one to
//! a service on one VIP and port without persistence, or drops what is for
//! nobody here. As on the short way of connections ([`super::express`]), what
//! is out of the ordinary goes, as it came, the long way, before anything has
//! been changed.

use std::net::IpAddr;

use super::{
    DropReason, Exit, Outputs, Pipeline, PuntReason,
    express::Express,
    is_martian, leave,
    selection::{Flow, Picked, TCP_RST, goes_by_hash, state_after},
};
use crate::{
    connection::CoarseTime,
    flow::{FlowKey, FlowKeyV4},
    forwarding::{FTP_DATA_PORT, RealServerIndex},
    io::{Driver, PortIndex},
    scheduler::Request,
    service::Protocol,
};

impl<D: Driver> Pipeline<D> {
    /// Opens a connection for a packet and sends it, drops the packet, or gives
    /// it back unchanged.
    #[inline(never)]
    pub(super) fn open_express(
        &mut self,
        port: PortIndex,
        packet: D::Packet,
        express: &Express,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) -> Result<(), D::Packet> {
        let flow = express.flow();
        let picked = match self.pick_express(&flow, now) {
            Choice::Server(picked) => picked,
            Choice::LongWay => return Err(packet),
            Choice::Leave(exit) => {
                let l3_offset = express.inner().l3_offset;
                leave(port, packet, l3_offset, (exit, None), outputs);
                return Ok(());
            }
        };
        let server = picked.server;
        let state = state_after(None, &flow, &self.state.tunables);
        let beginning = (state, self.state.timeouts.of(state));
        let inner = express.inner();
        if let Err(exit) = self.begin(&picked, &flow, beginning, now) {
            leave(port, packet, inner.l3_offset, (exit, None), outputs);
            return Ok(());
        }
        self.count_packet_of(server, inner.total_len);
        let is_ordinary = self
            .state
            .server(server)
            .is_some_and(|it| inner.total_len <= it.express_len_max && inner.ttl > 1);
        if is_ordinary {
            return self.encapsulate_express(packet, express, server, outputs);
        }
        self.send_opening(port, packet, express, (&flow, server), (now, outputs));
        Ok(())
    }

    #[inline]
    fn pick_express(&mut self, flow: &Flow<FlowKeyV4>, now: CoarseTime) -> Choice {
        let services = &self.state.services;
        if services.is_empty() || services.has_marks() || self.may_be_astray(flow.hash, now) {
            return Choice::LongWay;
        }
        let endpoints = flow.key.endpoints();
        let Some((index, service)) = services.find_plain(&flow.key) else {
            return if self.state.local.contains(&endpoints.service.ip()) {
                Choice::LongWay
            } else {
                Choice::Leave(Exit::Drop(DropReason::NotLocal))
            };
        };
        let may_open = match flow.protocol {
            Protocol::Tcp => flow.is_opening() && flow.signal & TCP_RST == 0,
            Protocol::Udp => true,
            Protocol::Sctp => false,
        };
        let options = &service.options;
        let client: IpAddr = endpoints.client.ip();
        if !may_open
            || options.persistence.is_some()
            || options.one_packet
            || endpoints.client.port() == FTP_DATA_PORT
            || is_martian(client)
            || self.state.local.contains(&client)
        {
            return Choice::LongWay;
        }
        let request = Request {
            service,
            loads: &self.state.loads,
            flow: &endpoints,
            now,
        };
        match self.schedulers.pick(index, &request) {
            Some(server) => Choice::Server(Picked {
                server,
                template: None,
                one_packet: false,
                by_hash: goes_by_hash(service),
            }),
            None => Choice::Leave(Exit::Punt(PuntReason::NoServer)),
        }
    }

    /// The rest of the long way, for a packet that opened a connection.
    #[cold]
    fn send_opening(
        &mut self,
        port: PortIndex,
        mut packet: D::Packet,
        express: &Express,
        (flow, server): (&Flow<FlowKeyV4>, RealServerIndex),
        (now, outputs): (CoarseTime, &mut Outputs<D>),
    ) {
        let (parsed, _) = express.parsed();
        match self.reach(&mut packet, &parsed, server, false) {
            Ok(route) => {
                if let Err(reason) = self.send(packet, &route, outputs) {
                    self.counters.drops(reason).add(1);
                }
            }
            Err(exit) => {
                if exit == Exit::Punt(PuntReason::Local) {
                    self.close_as_host(flow, now);
                }
                let l3_offset = parsed.inner.l3_offset;
                leave(port, packet, l3_offset, (exit, Some(server)), outputs);
            }
        }
    }
}

/// What becomes of a packet of a flow that has no connection.
enum Choice {
    Server(Picked),
    LongWay,
    Leave(Exit),
}
