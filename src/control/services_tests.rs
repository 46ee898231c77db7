use super::*;
use crate::{scheduler::SchedulerKind, service::Protocol};

const NOTHING: ReadTotals<'static> = &|_| Statistics::default();

fn service(l4_port: u16) -> ServiceKey {
    ServiceKey::Vip {
        protocol: Protocol::Tcp,
        address: format!("198.51.100.10:{l4_port}").parse().unwrap(),
    }
}

fn server(last: u8) -> ServerKey {
    ServerKey {
        address: format!("10.0.0.{last}").parse().unwrap(),
    }
}

fn options(scheduler: SchedulerKind) -> ServiceOptions {
    ServiceOptions::from(scheduler)
}

fn weight(weight: u32) -> ServerOptions {
    ServerOptions {
        weight,
        ..ServerOptions::default()
    }
}

struct Fixture {
    services: Services,
    loads: Arc<ServerLoads>,
}

impl Fixture {
    fn new() -> Self {
        let loads = ServerLoads::new(16);
        let services = Services::new(Arc::clone(&loads), Tunables::default(), Timeouts::default());
        Self { services, loads }
    }

    fn run(&mut self, command: &Command) -> Result<(), CommandError> {
        self.services.apply(command, 1, NOTHING)
    }

    fn with_service() -> Self {
        let mut fixture = Self::new();
        fixture
            .run(&Command::AddService(
                service(80),
                options(SchedulerKind::Wrr),
            ))
            .unwrap();
        fixture
    }

    fn add(&mut self, last: u8) {
        self.run(&Command::AddServer(service(80), server(last), weight(1)))
            .unwrap();
    }

    fn list(&self) -> Vec<ServerKey> {
        let listed = &self.services.service(&service(80)).unwrap().servers;
        listed
            .iter()
            .map(|&index| self.services.server(index).unwrap().key)
            .collect()
    }
}

#[test]
fn the_newest_server_stands_first() {
    let mut fixture = Fixture::with_service();
    (11..14).for_each(|last| fixture.add(last));
    assert_eq!(fixture.list(), [server(13), server(12), server(11)]);
}

#[test]
fn what_exists_cannot_be_added() {
    let mut fixture = Fixture::with_service();
    fixture.add(11);
    assert_eq!(
        fixture.run(&Command::AddService(
            service(80),
            options(SchedulerKind::Rr)
        )),
        Err(CommandError::ServiceExists(service(80)))
    );
    assert_eq!(
        fixture.run(&Command::AddServer(service(80), server(11), weight(1))),
        Err(CommandError::ServerExists(service(80), server(11)))
    );
}

#[test]
fn what_does_not_exist_cannot_be_changed() {
    let mut fixture = Fixture::with_service();
    for command in [
        Command::EditService(service(81), options(SchedulerKind::Rr)),
        Command::DeleteService(service(81)),
        Command::AddServer(service(81), server(11), weight(1)),
        Command::DeleteServer(service(81), server(11)),
        Command::Zero(Some(service(81))),
    ] {
        let refused = fixture.run(&command);
        assert_eq!(
            refused,
            Err(CommandError::NoSuchService(service(81))),
            "{command:?}"
        );
    }
    for command in [
        Command::EditServer(service(80), server(11), weight(1)),
        Command::DeleteServer(service(80), server(11)),
    ] {
        let refused = fixture.run(&command);
        assert_eq!(
            refused,
            Err(CommandError::NoSuchServer(service(80), server(11)))
        );
    }
}

#[test]
fn weights_and_thresholds_are_checked() {
    let mut fixture = Fixture::with_service();
    assert_eq!(
        fixture.run(&Command::AddServer(
            service(80),
            server(11),
            weight(2_147_483_648)
        )),
        Err(CommandError::WeightOutOfRange(2_147_483_648))
    );
    let crossed = ServerOptions {
        weight: 1,
        upper_threshold: 2,
        lower_threshold: 3,
        ..ServerOptions::default()
    };
    assert_eq!(
        fixture.run(&Command::AddServer(service(80), server(11), crossed)),
        Err(CommandError::ThresholdsCrossed { lower: 3, upper: 2 })
    );
    assert!(fixture.list().is_empty());
}

#[test]
fn servers_and_services_may_be_of_either_ip_version() {
    let mut fixture = Fixture::with_service();
    let key = ServerKey {
        address: "2001:db8::1".parse().unwrap(),
    };
    assert_eq!(
        fixture.run(&Command::AddServer(service(80), key, weight(1))),
        Ok(())
    );
}

#[test]
fn a_deleted_server_comes_back_into_its_slot_while_connections_are_left() {
    let mut fixture = Fixture::with_service();
    fixture.add(11);
    fixture.add(12);
    let slot = fixture.services.service(&service(80)).unwrap().servers[1];
    fixture.loads.of(slot).open(true);
    fixture
        .run(&Command::DeleteServer(service(80), server(11)))
        .unwrap();
    assert!(!fixture.services.free_deleted(1), "a connection is left");
    fixture.add(11);
    assert_eq!(fixture.list(), [server(11), server(12)]);
    assert_eq!(
        fixture.services.service(&service(80)).unwrap().servers[0],
        slot
    );
}

#[test]
fn a_slot_is_free_when_no_worker_can_use_it_any_more() {
    let mut fixture = Fixture::with_service();
    fixture.add(11);
    fixture
        .services
        .apply(&Command::DeleteServer(service(80), server(11)), 7, NOTHING)
        .unwrap();
    assert!(
        !fixture.services.free_deleted(6),
        "a worker may not have heard of it"
    );
    assert!(fixture.services.free_deleted(7));
    fixture.add(12);
    assert_eq!(fixture.services.servers().len(), 1);
}

#[test]
fn a_service_keeps_what_its_deleted_servers_carried_until_zeroed() {
    let mut fixture = Fixture::with_service();
    fixture.add(11);
    fixture.add(12);
    let after_traffic = |_: RealServerIndex| Statistics {
        in_packets: 5,
        ..Statistics::default()
    };
    fixture
        .services
        .apply(
            &Command::DeleteServer(service(80), server(11)),
            1,
            &after_traffic,
        )
        .unwrap();
    let total = |fixture: &Fixture| {
        let service = fixture.services.service(&service(80)).unwrap();
        fixture
            .services
            .statistics(service, &after_traffic)
            .in_packets
    };
    assert_eq!(total(&fixture), 10);
    fixture
        .services
        .apply(&Command::Zero(None), 1, &after_traffic)
        .unwrap();
    assert_eq!(total(&fixture), 0);
}

#[test]
fn the_same_scheduler_again_is_no_edit() {
    let mut fixture = Fixture::with_service();
    fixture.services.take_edits().for_each(drop);
    fixture
        .run(&Command::EditService(
            service(80),
            options(SchedulerKind::Wrr),
        ))
        .unwrap();
    assert_eq!(fixture.services.take_edits().count(), 0);
    fixture
        .run(&Command::EditService(
            service(80),
            options(SchedulerKind::Rr),
        ))
        .unwrap();
    assert_eq!(fixture.services.take_edits().count(), 1);
}
