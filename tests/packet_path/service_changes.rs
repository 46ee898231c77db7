//! Several changes of the services in one published generation.

use pointsman::{
    control::command::Command, scheduler::SchedulerKind, service::Protocol, service::ServiceOptions,
};

use crate::{
    frames::{SYN, VIP, tcp, udp},
    lab::{Lab, server_key, service_key, web, weight},
};

/// Each of the two gets the slot that the other had.
#[test]
fn services_deleted_and_added_again_at_once_are_all_there() {
    let mut lab = Lab::start();
    let dns = service_key(VIP, Protocol::Udp, 53);
    let options = ServiceOptions::from(SchedulerKind::Rr);
    lab.add_udp_service(crate::frames::server(12));
    for order in [[web(), dns], [dns, web()]] {
        lab.command(&Command::Flush);
        for key in order {
            lab.command(&Command::AddService(key, options));
            lab.command(&Command::AddServer(key, server_key(11), weight(1)));
        }
        lab.settle();
        let client_port = 1000;
        let tcp = lab.answers(&tcp(client_port, SYN).frame());
        let udp = lab.answers(&udp(client_port, 53, b"?").frame());
        // Into the tunnel, by port 1.
        assert_eq!((tcp[0].0, udp[0].0), (1, 1), "{order:?}");
        lab.advance(1_000_000);
    }
}
