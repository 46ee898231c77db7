//! `keepalived` watches real servers and tells the director.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use crate::{
    support::{
        Lab, Namespace, Shape,
        namespace::{PATIENCE, Process},
        wait_for, wait_long_for,
    },
    tools::{Tools, has, run_in},
};

/// A lab whose real servers have an nginx each, at port 8080.
///
/// `keepalived` is at home with the client, from where it reaches the real
/// servers; the director's socket is a path, which namespaces do not matter to.
pub(crate) struct Site {
    nginx: Vec<Option<Nginx>>,
    pub(crate) tools: Tools,
    pub(crate) lab: Lab,
}

/// One in a namespace. It is told to stop, so that its worker goes with it.
pub(crate) struct Nginx {
    directory: PathBuf,
    namespace: String,
}

impl Site {
    /// `None`, with the reason printed, where something is missing.
    pub(crate) fn build(test: &str, servers: u8) -> Option<Self> {
        let programs = ["keepalived", "nginx", "curl"];
        if !programs.iter().all(|program| has(test, program)) {
            return None;
        }
        let lab = Lab::build(test, Shape::TwoArms, servers)?;
        let tools = Tools::find(test, &lab)?;
        let mut site = Self {
            nginx: (0..=servers).map(|_| None).collect(),
            tools,
            lab,
        };
        for number in 1..=servers {
            site.start_nginx(number);
        }
        Some(site)
    }

    pub(crate) fn start_nginx(&mut self, number: u8) {
        let directory = self.lab.path(&format!("nginx{number}"));
        let namespace = self.lab.server(number);
        self.nginx[usize::from(number)] = Some(Nginx::start(directory, namespace, number));
    }

    pub(crate) fn stop_nginx(&mut self, number: u8) {
        self.nginx[usize::from(number)] = None;
    }

    /// One virtual server with all real servers, each with a check of its port
    /// unless `check` is another one. `keys` are more of the virtual server's.
    pub(crate) fn configuration(&self, keys: &str, check: &str) -> String {
        let check = if check.is_empty() {
            "TCP_CHECK {\n connect_port 8080\n connect_timeout 2\n retry 0\n}\n"
        } else {
            check
        };
        let servers: Vec<_> = (1..self.nginx.len())
            .map(|number| {
                format!(
                    "real_server 10.0.0.1{number} 8080 {{\n weight 1\n {}{check}}}\n",
                    if keys.contains("inhibit") {
                        "inhibit_on_failure\n"
                    } else {
                        ""
                    }
                )
            })
            .collect();
        let keys = keys.replace("inhibit", "");
        format!(
            "{GLOBAL}virtual_server 198.51.100.10 8080 {{\n delay_loop 1\n lvs_sched rr\n \
             lvs_method TUN\n protocol TCP\n {keys}\n{}}}\n",
            servers.concat()
        )
    }

    /// Waits until the service at port 8080 has these servers, with these
    /// weights.
    pub(crate) fn wait_for_servers(&self, wanted: &[(u8, u32)]) {
        let mut wanted_lines: Vec<_> = wanted
            .iter()
            .map(|(number, weight)| format!("10.0.0.1{number}:8080 Tunnel {weight}"))
            .collect();
        wanted_lines.sort();
        let listed = || {
            let text = self.tools.ipvsadm("-Ln -t 198.51.100.10:8080").out;
            let servers = text.lines().filter_map(|line| {
                let mut words = line.trim().strip_prefix("-> ")?.split_whitespace();
                let words = [words.next()?, words.next()?, words.next()?];
                words[0].ends_with(":8080").then(|| words.join(" "))
            });
            let mut servers: Vec<_> = servers.collect();
            servers.sort();
            servers
        };
        let what = format!("the service has the servers {wanted_lines:?}");
        wait_long_for(3 * PATIENCE, &what, || listed() == wanted_lines);
    }

    /// Asks the VIP so many times with curl: which server answered each.
    pub(crate) fn curl(&self, count: usize) -> Vec<String> {
        let one = || {
            run_in(
                &self.lab.client,
                "curl --silent --show-error --fail --max-time 10 http://198.51.100.10:8080/",
            )
        };
        (0..count).map(|_| one()).collect()
    }
}

impl Nginx {
    pub(crate) fn start(directory: PathBuf, namespace: &Namespace, number: u8) -> Self {
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("index.html"), number.to_string()).unwrap();
        let path = directory.display();
        let text = format!(
            "user root;\nworker_processes 1;\npid {path}/pid;\nerror_log {path}/error.log;\n\
             events {{}}\nhttp {{\n access_log off;\n server {{\n  listen 8080;\n  \
             listen [::]:8080;\n  root {path};\n }}\n}}\n"
        );
        fs::write(directory.join("nginx.conf"), text).unwrap();
        let nginx = Self {
            directory,
            namespace: namespace.name.clone(),
        };
        nginx.run(&[]);
        nginx
    }

    fn run(&self, words: &[&str]) {
        let file = self.directory.join("nginx.conf");
        let output = std::process::Command::new("ip")
            .args(["netns", "exec", &self.namespace, "nginx", "-c"])
            .arg(file)
            .args(words)
            .output();
        assert!(
            output.as_ref().is_ok_and(|output| output.status.success()),
            "{output:?}"
        );
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = self.directory.join("pid");
        self.run(&["-s", "stop"]);
        wait_for("nginx is gone", || !pid.exists());
    }
}

/// A running keepalived.
pub(crate) struct Keepalived {
    process: Process,
    log: PathBuf,
    file: PathBuf,
}

impl Keepalived {
    pub(crate) fn start(site: &Site, configuration: &str) -> Self {
        let [file, log] = ["keepalived.conf", "keepalived.log"].map(|name| site.lab.path(name));
        fs::write(&file, configuration).unwrap();
        let pids = ["pid", "checkers.pid", "vrrp.pid"].map(|name| site.lab.path(name));
        let [pid, checkers, vrrp] = pids.each_ref().map(|path| path.to_str().unwrap());
        let preloaded = site.tools.preloaded();
        let mut words: Vec<&str> = preloaded.iter().map(String::as_str).collect();
        words.extend([
            "keepalived",
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--dont-release-vrrp",
            "--use-file",
            file.to_str().unwrap(),
            "--pid",
            pid,
            "--checkers_pid",
            checkers,
            "--vrrp_pid",
            vrrp,
        ]);
        let process = site.lab.client.spawn(&words, &log);
        Self { process, log, file }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn reload(&self, configuration: &str) {
        fs::write(&self.file, configuration).unwrap();
        self.process.signal(Signal::HUP);
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        self.process.signal(Signal::TERM);
        self.process.wait_quietly();
    }
}

/// Removes a directory when it is dropped.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0);
    }
}

/// Whatever is checked, it is checked at once and then every second.
pub(crate) const GLOBAL: &str = "global_defs {\n router_id test\n script_user root\n \
                      enable_script_security\n vrrp_garp_master_repeat 1\n}\n";

#[test]
fn a_killed_server_is_taken_out_and_put_back() {
    const NAME: &str = "a_killed_server_is_taken_out_and_put_back";
    let Some(mut site) = Site::build(NAME, 2) else {
        return;
    };
    let _director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    let _keepalived = Keepalived::start(&site, &site.configuration("", ""));
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    wait_for("both answer", || {
        let mut answers = site.curl(2);
        answers.sort();
        answers == ["1", "2"]
    });
    site.stop_nginx(1);
    site.wait_for_servers(&[(2, 1)]);
    wait_for("the workers have it", || site.curl(2) == ["2", "2"]);
    assert_eq!(site.curl(20), ["2"; 20], "and no request fails");
    site.start_nginx(1);
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    wait_for("both answer", || site.curl(2) != ["2", "2"]);
}

#[test]
fn http_and_scripts_are_checks_as_well() {
    const NAME: &str = "http_and_scripts_are_checks_as_well";
    let Some(mut site) = Site::build(NAME, 2) else {
        return;
    };
    let _director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    let http = "HTTP_GET {\n url {\n path /\n status_code 200\n }\n connect_port 8080\n \
                connect_timeout 2\n retry 0\n}\n";
    {
        let _keepalived = Keepalived::start(&site, &site.configuration("", http));
        site.wait_for_servers(&[(1, 1), (2, 1)]);
        site.stop_nginx(2);
        site.wait_for_servers(&[(1, 1)]);
        site.start_nginx(2);
        site.wait_for_servers(&[(1, 1), (2, 1)]);
    }
    // When it ends, it takes its services with it.
    wait_for("the service is gone", || {
        site.tools.ipvsadm("-Ln -t 198.51.100.10:8080").code != Some(0)
    });
    let flag = site.lab.path("healthy");
    fs::write(&flag, "").unwrap();
    let script = format!(
        "MISC_CHECK {{\n misc_path \"/usr/bin/test -e {}\"\n misc_timeout 2\n}}\n",
        flag.display()
    );
    let _keepalived = Keepalived::start(&site, &site.configuration("", &script));
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    fs::remove_file(&flag).unwrap();
    site.wait_for_servers(&[]);
    fs::write(&flag, "").unwrap();
    site.wait_for_servers(&[(1, 1), (2, 1)]);
}

#[test]
fn alpha_mode_inhibition_and_the_sorry_server_work() {
    const NAME: &str = "alpha_mode_inhibition_and_the_sorry_server_work";
    let Some(mut site) = Site::build(NAME, 2) else {
        return;
    };
    let _director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    site.stop_nginx(2);
    {
        let keys = "alpha\n sorry_server 10.0.0.19 8080\n sorry_server_lvs_method TUN\n";
        let _keepalived = Keepalived::start(&site, &site.configuration(keys, ""));
        site.wait_for_servers(&[(1, 1)]);
        site.stop_nginx(1);
        site.wait_for_servers(&[(9, 1)]);
        site.start_nginx(1);
        site.wait_for_servers(&[(1, 1)]);
    }
    site.start_nginx(2);
    let _keepalived = Keepalived::start(&site, &site.configuration("inhibit", ""));
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    site.stop_nginx(2);
    site.wait_for_servers(&[(1, 1), (2, 0)]);
    site.start_nginx(2);
    site.wait_for_servers(&[(1, 1), (2, 1)]);
}

#[test]
fn quorum_scripts_run_when_it_is_gained_and_lost() {
    const NAME: &str = "quorum_scripts_run_when_it_is_gained_and_lost";
    let Some(mut site) = Site::build(NAME, 2) else {
        return;
    };
    let _director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    // It runs no script as root that stands where others may write.
    let (directory, told) = (
        Path::new("/run").join(&site.lab.prefix),
        site.lab.path("told"),
    );
    fs::create_dir(&directory).unwrap();
    let _removed = Removed(&directory);
    // They are preloaded as well, so that they see the director's services.
    let script = |word: &str| {
        let path = directory.join(word);
        let text = format!(
            "#!/bin/sh\nservers=$(/sbin/ipvsadm -Sn | grep -c '^-a')\n\
             echo {word} $servers >>{}\n",
            told.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    };
    let keys = format!(
        "alpha\n quorum 2\n quorum_up {}\n quorum_down {}\n sorry_server 10.0.0.19 8080\n \
         sorry_server_lvs_method TUN\n",
        script("up"),
        script("down")
    );
    let _keepalived = Keepalived::start(&site, &site.configuration(&keys, ""));
    let wait_for_words = |words: &[&str]| {
        wait_for(&format!("the scripts say {words:?}"), || {
            let told = fs::read_to_string(&told).unwrap_or_default();
            told.lines()
                .map(|line| line.split(' ').next().unwrap())
                .eq(words.iter().copied())
        });
    };
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    // In alpha mode it begins with the loss.
    wait_for_words(&["down", "up"]);
    site.stop_nginx(2);
    site.wait_for_servers(&[(9, 1)]);
    wait_for_words(&["down", "up", "down"]);
    site.start_nginx(2);
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    wait_for_words(&["down", "up", "down", "up"]);
    let told = fs::read_to_string(&told).unwrap();
    let counts = |line: &str| line.split(' ').nth(1)?.parse::<u8>().ok();
    assert!(told.lines().all(|line| counts(line).is_some()), "{told}");
}

#[test]
fn a_reload_changes_servers_tunnels_and_ip_versions() {
    const NAME: &str = "a_reload_changes_servers_tunnels_and_ip_versions";
    let Some(site) = Site::build(NAME, 2) else {
        return;
    };
    let _director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    let first = site.configuration("", "");
    let keepalived = Keepalived::start(&site, &first);
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    let more = "virtual_server 2001:db8:ff::10 443 {\n delay_loop 1\n lvs_sched mh\n \
                lvs_method TUN type gue port 6080 csum\n protocol TCP\n persistence_timeout 60\n \
                real_server 10.0.0.11 443 {\n weight 3\n }\n \
                real_server 2001:db8:2::11 443 {\n weight 4\n lvs_method TUN type gre\n }\n}\n\
                virtual_server fwmark 7 {\n lvs_sched wrr\n lvs_method TUN\n protocol TCP\n \
                real_server 10.0.0.12 0 {\n weight 2\n }\n}\n";
    keepalived.reload(&format!("{first}{more}").replace("weight 1", "weight 6"));
    let expected = "\
        -A -t 198.51.100.10:8080 -s rr\n\
        -a -t 198.51.100.10:8080 -r 10.0.0.11:8080 -i -w 6 --tun-type ipip\n\
        -a -t 198.51.100.10:8080 -r 10.0.0.12:8080 -i -w 6 --tun-type ipip\n\
        -A -t [2001:db8:ff::10]:443 -s mh -p 60\n\
        -a -t [2001:db8:ff::10]:443 -r 10.0.0.11:443 -i -w 3 --tun-type gue --tun-port 6080 --tun-csum\n\
        -a -t [2001:db8:ff::10]:443 -r [2001:db8:2::11]:443 -i -w 4 --tun-type gre --tun-nocsum\n\
        -A -f 7 -s wrr\n\
        -a -f 7 -r 10.0.0.12:0 -i -w 2 --tun-type ipip\n";
    let mut saved = String::new();
    let log = || keepalived.log();
    for _ in 0..500 {
        saved = site.tools.ipvsadm("-Sn").ok();
        if saved == expected {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(saved, expected, "{}", log());
}

#[test]
fn vrrp_stands_beside_it() {
    const NAME: &str = "vrrp_stands_beside_it";
    let Some(site) = Site::build(NAME, 1) else {
        return;
    };
    let director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    let vrrp = "vrrp_instance one {\n state MASTER\n interface servers\n virtual_router_id 51\n \
                priority 200\n advert_int 1\n virtual_ipaddress {\n 10.0.0.77/32\n }\n}\n";
    let keepalived = Keepalived::start(&site, &(site.configuration("", "") + vrrp));
    site.wait_for_servers(&[(1, 1)]);
    let has_address = || {
        let addresses = site.lab.client.ip("-o address show dev servers");
        addresses.contains("10.0.0.77/32")
    };
    wait_for("it is the master", has_address);
    // A stopped director does not cost it the address, nor does one that is
    // killed.
    director.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(has_address(), "{}", keepalived.log());
    director.signal(Signal::KILL);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(has_address(), "{}", keepalived.log());
    let log = keepalived.log();
    assert!(
        log.rfind("MASTER STATE") > log.rfind("BACKUP STATE"),
        "{log}"
    );
}
