//! What commands publish: only what they touched is made anew, and it is the
//! same as when everything is.

use pointsman::{
    control::command::Command,
    scheduler::SchedulerKind,
    service::{
        GueChecksum, Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions, TunnelKind,
    },
};
use proptest::prelude::*;

use crate::{
    frames::VIP,
    lab::{Lab, Setup, config, for_all, service_key},
};

/// One of three services.
fn service(number: u8) -> ServiceKey {
    service_key(VIP, Protocol::Tcp, 80 + u16::from(number % 3))
}

/// One of five servers, of which one has no route.
fn server(number: u8) -> ServerKey {
    let address = match number % 5 {
        4 => [172, 16, 0, 1],
        near => [10, 0, 0, 11 + near],
    };
    ServerKey {
        address: address.into(),
    }
}

fn server_options(number: u8) -> ServerOptions {
    let tunnel = match number % 4 {
        0 => TunnelKind::Ipip,
        1 => TunnelKind::Gre { checksum: false },
        2 => TunnelKind::Gue {
            l4_port: 6080,
            checksum: GueChecksum::None,
        },
        _ => TunnelKind::Gue {
            l4_port: 6081,
            checksum: GueChecksum::Outer,
        },
    };
    ServerOptions {
        weight: u32::from(number / 16),
        tunnel,
        ..ServerOptions::default()
    }
}

fn service_options(number: u8) -> ServiceOptions {
    let schedulers = [SchedulerKind::Rr, SchedulerKind::Mh];
    ServiceOptions {
        outer_source: (number % 4 == 3).then(|| "10.9.0.0/24".parse().unwrap()),
        ..ServiceOptions::from(schedulers[usize::from(number % 2)])
    }
}

fn command((kind, service_number, server_number, options): (u8, u8, u8, u8)) -> Command {
    let (service, server) = (service(service_number), server(server_number));
    match kind {
        0 => Command::AddService(service, service_options(options)),
        1 => Command::EditService(service, service_options(options)),
        2 => Command::DeleteService(service),
        3 | 4 => Command::DeleteServer(service, server),
        5..=7 => Command::EditServer(service, server, server_options(options)),
        8 if options < 30 => Command::Flush,
        _ => Command::AddServer(service, server, server_options(options)),
    }
}

/// What workers are told of servers and tunnels. In which slot a server is may
/// differ: those that are free again are so in any order.
fn published(lab: &Lab) -> (Vec<String>, Vec<String>) {
    fn sorted<T: std::fmt::Debug>(items: impl Iterator<Item = T>) -> Vec<String> {
        let mut texts: Vec<_> = items.map(|item| format!("{item:?}")).collect();
        texts.sort();
        texts
    }
    let state = lab.director.management.state();
    (sorted(state.servers.iter()), sorted(state.gue_ends.iter()))
}

#[test]
fn what_commands_touch_is_published_as_if_all_were_made_anew() {
    let setup = Setup::default();
    let mut labs = [Lab::with(&setup), Lab::with(&setup)];
    let values = (0..14_u8, any::<u8>(), any::<u8>(), any::<u8>());
    for_all(2000, &mut labs, values, |labs, value| {
        let command = command(value);
        let [touched, anew] = labs;
        let answers =
            [&mut *touched, &mut *anew].map(|lab| lab.director.management.apply(&command).err());
        prop_assert_eq!(&answers[0], &answers[1]);
        // So that both publish, also when the command was refused: slots are free
        // again when workers know that a server is gone.
        touched.command(&Command::SetTunables(setup.tunables));
        let now = anew.now;
        let management = &mut anew.director.management;
        management.reconfigure(&config(&setup), now).unwrap();
        // Now and then, for slots of deleted servers to be free again.
        let ms = if value.3 % 8 == 0 { 1001 } else { 1 };
        for lab in [&mut *touched, &mut *anew] {
            lab.advance(ms);
            lab.take_sent();
        }
        prop_assert_eq!(published(touched), published(anew));
        Ok(())
    });
    let [touched, _] = &labs;
    assert!(touched.director.management.state().servers.len() > 5);
}
