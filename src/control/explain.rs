//! Explaining packets: copies of what the workers know are taken, and the
//! packets sent through a rehearsal of the packet path
//! ([`crate::explain`]).

use std::{net::IpAddr, sync::Arc};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{
    Management,
    status::{
        NextHopStatus, Response,
        explanation::{
            CandidateStatus, ExplainedPacket, Explanation, Fate, FlowStatus, KnownConnection,
            KnownTemplate, Question, QuestionPacket, Scheduling, SentFrame, ServiceMatch,
            ServiceRule, TunnelFit,
        },
    },
};
use crate::{
    clock::Ticks,
    connection::{CoarseTime, Held},
    explain::{self, FRAMES_MAX, Outcome, Rehearsal},
    flow::Endpoints,
    forwarding::{FTP_PORT, RealServerIndex, ServiceForwarding},
    io::{Driver, Port, PortDescription, PortIndex},
    pipeline::Snapshot,
    scheduler::{Candidate, Consideration},
    service::ServiceKey,
    wire::{
        IpVersion,
        ethernet::{EtherType, EthernetFields, MacAddr},
        vlan::VlanFields,
    },
    worker::WorkerRequest,
};

/// A question whose answer is being prepared.
#[derive(Debug)]
pub(super) struct Explaining {
    port: PortIndex,
    worker: Option<usize>,
    frames: Vec<Vec<u8>>,
    copies: Receiver<(usize, Snapshot)>,
    /// Of the workers, as they come.
    snapshots: Vec<(usize, Snapshot)>,
    deadline: Ticks,
    answer: Sender<Response>,
}

impl<D: Driver> Management<D> {
    pub(super) fn start_explaining(
        &mut self,
        question: &Question,
        answer: &Sender<Response>,
        now: Ticks,
    ) {
        match self.prepare(question, answer, now) {
            Ok(explaining) => self.explaining.push(explaining),
            Err(why) => {
                // A client that has gone away misses nothing.
                let _ = answer.send(Response::Error(why));
            }
        }
    }

    /// Goes on with all questions. Returns whether there are any.
    pub(super) fn continue_explaining(&mut self, now: Ticks) -> bool {
        let mut all = std::mem::take(&mut self.explaining);
        let busy = !all.is_empty();
        all.retain_mut(|explaining| {
            explaining.snapshots.extend(explaining.copies.try_iter());
            let is_complete = explaining.snapshots.len() >= self.workers.len();
            if !is_complete && now < explaining.deadline {
                return true;
            }
            let response = if is_complete {
                self.explain(explaining, now)
            } else {
                Err("the workers did not answer in time".to_owned())
            };
            let response = response.map_or_else(Response::Error, Response::Explain);
            let _ = explaining.answer.send(response);
            false
        });
        self.explaining.append(&mut all);
        busy
    }

    fn prepare(
        &self,
        question: &Question,
        answer: &Sender<Response>,
        now: Ticks,
    ) -> Result<Explaining, String> {
        if question.packets.is_empty() || question.packets.len() > FRAMES_MAX {
            return Err(format!("ask about 1 to {FRAMES_MAX} packets"));
        }
        let worker = question.worker.map(|worker| worker as usize);
        if let Some(worker) = worker.filter(|worker| *worker >= self.workers.len()) {
            let last = self.workers.len().saturating_sub(1);
            return Err(format!("there is no worker {worker}; write 0 to {last}"));
        }
        let port = self.port_of(question)?;
        let frame = |packet: &QuestionPacket| self.frame(port, packet);
        let frames = question.packets.iter().map(frame);
        let frames: Vec<_> = frames.collect::<Result<_, _>>()?;
        let bare = Snapshot::bare(Arc::clone(&self.state));
        let reader = Rehearsal::new(bare, self.descriptions(), CoarseTime::from_ticks(now))
            .map_err(|error| error.to_string())?;
        let flows = frames.iter().filter_map(|it| reader.flow_of(port, it));
        let flows: Arc<[Endpoints]> = flows.collect();
        let (reply, copies) = bounded(self.workers.len());
        for worker in &self.workers {
            let request = WorkerRequest::Snapshot {
                flows: Arc::clone(&flows),
                reply: reply.clone(),
            };
            // Publishing needs room in the queue too.
            if worker.requests.len() * 2 >= super::REQUESTS_MAX
                || worker.requests.try_send(request).is_err()
            {
                return Err("a worker has too many requests waiting; try again".to_owned());
            }
        }
        Ok(Explaining {
            port,
            worker,
            frames,
            copies,
            snapshots: Vec::new(),
            deadline: now + WORKERS_MS_MAX,
            answer: answer.clone(),
        })
    }

    fn port_of(&self, question: &Question) -> Result<PortIndex, String> {
        let Some(name) = &question.port else {
            return Ok(PortIndex(0));
        };
        let mut names = self.ports.iter().map(|port| &port.description().name);
        let found = names.position(|known| known == name);
        let index = found.and_then(|index| index.try_into().ok()).map(PortIndex);
        index.ok_or_else(|| format!("there is no port \"{name}\"; see pointsman show ports"))
    }

    /// What the port would receive.
    fn frame(&self, port: PortIndex, packet: &QuestionPacket) -> Result<Vec<u8>, String> {
        let packet = match packet {
            QuestionPacket::Frame(frame) => return Ok(frame.clone()),
            QuestionPacket::Ip(packet) => packet,
        };
        if packet.is_empty() {
            return Err("an IP packet has at least one byte".to_owned());
        }
        let known = self.state.ports.get(port.as_usize());
        let known = known.ok_or("the director has no port")?;
        let ether_type = IpVersion::of_packet(packet).ether_type();
        let header = EthernetFields {
            destination: known.mac,
            source: CLIENT_MAC,
            ether_type: known.vlan.map_or(ether_type, |_| EtherType::VLAN),
        };
        let mut frame = header.to_bytes().to_vec();
        if let Some(vid) = known.vlan {
            let tag = VlanFields {
                priority: 0,
                drop_eligible: false,
                vid,
                ether_type,
            };
            frame.extend(tag.to_bytes());
        }
        frame.extend(packet);
        Ok(frame)
    }

    fn descriptions(&self) -> Vec<PortDescription> {
        let descriptions = self.ports.iter().map(Port::description);
        descriptions.cloned().collect()
    }

    fn explain(&self, explaining: &mut Explaining, now: Ticks) -> Result<Explanation, String> {
        let now = CoarseTime::from_ticks(now);
        let mut snapshots = std::mem::take(&mut explaining.snapshots);
        snapshots.sort_by_key(|(worker, _)| *worker);
        let holder = snapshots
            .iter()
            .position(|(_, snapshot)| !snapshot.connections.is_empty());
        let chosen = explaining.worker.or(holder).unwrap_or(0);
        if chosen >= snapshots.len() {
            return Err("there is no worker".to_owned());
        }
        let (worker, mut snapshot) = snapshots.swap_remove(chosen);
        if explaining.worker.is_none() {
            for (_, other) in snapshots {
                snapshot.connections.extend(other.connections);
            }
        }
        let mut rehearsal = Rehearsal::new(snapshot, self.descriptions(), now)
            .map_err(|error| error.to_string())?;
        let packets = explaining.frames.iter().map(|frame| {
            let outcome = rehearsal.take(explaining.port, frame);
            self.explained(outcome, &rehearsal, now)
        });
        Ok(Explanation {
            packets: packets.collect(),
            port: self.port_name(explaining.port),
            worker: u32::try_from(worker).unwrap_or(u32::MAX),
            generation: rehearsal.state().generation,
        })
    }

    fn explained(&self, outcome: Outcome, in_it: &Rehearsal, now: CoarseTime) -> ExplainedPacket {
        let service = outcome.service.as_deref();
        let server = outcome.server;
        let address = server.and_then(|server| self.address_of(server));
        let forwarding = server.and_then(|server| in_it.state().server(server));
        ExplainedPacket {
            flow: outcome.flow.map(|flow| FlowStatus {
                protocol: flow.protocol,
                client: flow.client,
                service: flow.service,
            }),
            service: outcome
                .flow
                .zip(service)
                .map(|(flow, service)| match_of(service, &flow)),
            connection: outcome.before.map(|held| self.known(&held, now)),
            template: outcome.template.map(|template| KnownTemplate {
                client: template.key.client,
                server: self.address_of(RealServerIndex(template.server)),
                expires_ms: template.deadline.ms_after(now),
            }),
            scheduling: outcome
                .consideration
                .zip(service)
                .map(|(seen, service)| self.scheduling(&seen, service)),
            next_hop: address.map(|address| self.next_hop_of(address)),
            tunnel: forwarding.map(|server| TunnelFit {
                kind: server.tunnel,
                path_mtu: server.mtu,
                path_mtu_is_learned: server.mtu_is_learned,
                inner_len_max: server.inner_len_max(),
            }),
            server: address,
            fate: self.fate(outcome.fate),
            connection_after: outcome.after.map(|held| self.known(&held, now)),
        }
    }

    fn scheduling(&self, seen: &Consideration, service: &ServiceForwarding) -> Scheduling {
        let candidate = |candidate: &Candidate| CandidateStatus {
            server: self.address_of(candidate.server),
            weight: candidate.weight,
            active_connections: candidate.active,
            inactive_connections: candidate.inactive,
            overloaded: candidate.is_overloaded,
            cost: candidate.cost.map(|cost| cost.value),
            cost_for_weight: candidate.cost.is_some_and(|cost| cost.for_weight),
        };
        Scheduling {
            scheduler: service.options.scheduler,
            slot: seen.slot,
            candidates: seen.candidates.iter().map(candidate).collect(),
        }
    }

    fn fate(&self, fate: explain::Fate) -> Fate {
        match fate {
            explain::Fate::Sent(frames) => Fate::Forwarded {
                frames: frames
                    .into_iter()
                    .map(|(port, bytes)| SentFrame {
                        port: self.port_name(port),
                        bytes,
                    })
                    .collect(),
            },
            explain::Fate::Dropped(reason) => Fate::Dropped {
                reason: reason.name().to_owned(),
                help: reason.help().to_owned(),
            },
            explain::Fate::Punted(reason) => Fate::Punted {
                reason: reason.name().to_owned(),
                help: reason.help().to_owned(),
            },
            explain::Fate::Waits => Fate::Waits,
            explain::Fate::TooLong => Fate::TooLong,
        }
    }

    fn known(&self, held: &Held, now: CoarseTime) -> KnownConnection {
        KnownConnection {
            server: self.address_of(RealServerIndex(held.server)),
            state: held.state.name().to_owned(),
            expires_ms: held.deadline.ms_after(now),
        }
    }

    fn next_hop_of(&self, address: IpAddr) -> NextHopStatus {
        self.next_hop_status(address).0
    }

    fn address_of(&self, server: RealServerIndex) -> Option<IpAddr> {
        let server = self.services.server(server)?;
        Some(server.key.address)
    }
}

fn match_of(service: &ServiceForwarding, flow: &Endpoints) -> ServiceMatch {
    let l4_port = service.key.l4_port();
    let rule = match service.key {
        ServiceKey::Mark { .. } => ServiceRule::Mark,
        _ if l4_port == 0 => ServiceRule::AllPorts,
        _ if l4_port == FTP_PORT && flow.service.port() != FTP_PORT => ServiceRule::FtpData,
        ServiceKey::Network { .. } => ServiceRule::NetworkAndPort,
        ServiceKey::Vip { .. } => ServiceRule::AddressAndPort,
    };
    ServiceMatch {
        key: service.key,
        rule,
        scheduler: service.options.scheduler,
        persistent: service.options.persistence.is_some(),
    }
}

/// Where frames of packets come from that are no frames themselves: a locally
/// administered address.
const CLIENT_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);

/// Workers that take longer to copy are waited for no more.
const WORKERS_MS_MAX: u64 = 1500;
