//! `services_file`: services in the language of `ipvsadm`, beside those of the
//! configuration.
use std::fs;

use pointsman::config::{self, Files};

use super::machine;

const DIRECTOR: &str = r#"
[director]
services_file = "www.rules"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#;

/// The configuration with this beside it as `www.rules` is refused, or doubted,
/// with exactly these messages, in which the folder is left out.
fn said(toml: &str, rules: Option<&str>) -> String {
    let folder = tempfile::tempdir().expect("a file");
    let file = folder.path().join("director.toml");
    fs::write(&file, &toml[1..]).expect("a file");
    if let Some(rules) = rules {
        fs::write(folder.path().join("www.rules"), rules).expect("a file");
    }
    let text = match config::load_for(&file, &machine()) {
        Ok(loaded) => {
            let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
            warnings.join("\n") + "\n"
        }
        Err(errors) => format!("{errors}\n"),
    };
    text.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn mistakes_have_the_line_of_their_own_file() {
    assert_eq!(
        said(
            &format!("{DIRECTOR}mtu = 64000\n"),
            Some(
                "-A -t 198.51.100.10:80 -s rr\n\
                 -a -t 198.51.100.10:80 -r 192.0.2.11 -m\n\
                 -a -t 198.51.100.10:80 -r 192.0.2.12 -i -w heavy\n"
            )
        ),
        r"director.toml:7: `mtu` is 64000; write a whole number from 68 to 9702 bytes
    mtu = 64000
          ^^^^^
www.rules:2: this director only tunnels, and masquerading (-m) is something else; write -i, and have the real server take packets out of the tunnel
    -a -t 198.51.100.10:80 -r 192.0.2.11 -m
    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
www.rules:3: illegal weight specified; correct it, `ipvsadm -h` lists what can be written
    -a -t 198.51.100.10:80 -r 192.0.2.12 -i -w heavy
    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"
    );
}

#[test]
fn service_of_both_files_is_refused_with_both_places() {
    let toml = format!("{DIRECTOR}[[service]]\naddress = \"198.51.100.10:80\"\n");
    let rules = "-A -u 198.51.100.10:80 -s rr\n-A -t 198.51.100.10:80 -s rr\n";
    assert_eq!(
        said(&toml, Some(rules)),
        "www.rules:2: service TCP 198.51.100.10:80 stands already in line 8 of director.toml; \
         remove one of the two\n    \
         -A -t 198.51.100.10:80 -s rr\n          \
         ^^^^^^^^^^^^^^^^\n"
    );
}

#[test]
fn addresses_have_one_role_over_both_files() {
    let rules = "-A -t 198.51.100.10:80\n-a -t 198.51.100.10:80 -r 192.0.2.10 -i\n";
    assert_eq!(
        said(DIRECTOR, Some(rules)),
        "www.rules:2: 192.0.2.10 is a real server and, in line 6 of director.toml, a port's \
         address; write the address at which the real server itself is reached\n    \
         -a -t 198.51.100.10:80 -r 192.0.2.10 -i\n                              \
         ^^^^^^^^^^\n"
    );
}

#[test]
fn unreachable_and_impossible_addresses_are_refused() {
    let rules = "-A -t 224.0.0.1:80\n-A -t 198.51.100.10:80\n\
                 -a -t 198.51.100.10:80 -r 10.0.0.1:80 -i\n";
    assert_eq!(
        said(DIRECTOR, Some(rules)),
        "www.rules:1: 224.0.0.1 is a multicast address and cannot be a VIP; write a unicast \
         address\n    \
         -A -t 224.0.0.1:80\n          \
         ^^^^^^^^^^^^\n\
         www.rules:3: no route leads to real server 10.0.0.1; write a [[route]] with `to = \
         \"10.0.0.1/32\"` (or its network, or \"default\") and `via = \"GATEWAY\"`\n    \
         -a -t 198.51.100.10:80 -r 10.0.0.1:80 -i\n                              \
         ^^^^^^^^^^^\n"
    );
}

#[test]
fn services_that_nobody_answers_are_doubted() {
    let rules = "-A -t 198.51.100.10:80\n-A -t 198.51.100.10:81\n\
                 -a -t 198.51.100.10:81 -r 192.0.2.11 -i -w 0\n";
    assert_eq!(
        said(DIRECTOR, Some(rules)),
        "www.rules:1: warning: service TCP 198.51.100.10:80 has no real server; clients are \
         refused until one is added\n    \
         -A -t 198.51.100.10:80\n          \
         ^^^^^^^^^^^^^^^^\n\
         www.rules:2: warning: all real servers of TCP 198.51.100.10:81 have weight 0; new \
         clients are refused until one gets a weight\n    \
         -A -t 198.51.100.10:81\n          \
         ^^^^^^^^^^^^^^^^\n"
    );
}

#[test]
fn file_that_is_not_there_is_refused() {
    assert_eq!(
        said(DIRECTOR, None),
        "www.rules: cannot be read: No such file or directory (os error 2); name a file that \
         `ipvsadm -Sn` wrote\n"
    );
}

#[test]
fn file_that_is_not_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (toml, rules) = (
        folder.path().join("director.toml"),
        folder.path().join("rules"),
    );
    fs::write(&toml, &DIRECTOR[1..]).unwrap();
    fs::write(&rules, b"-A \xff\n").unwrap();
    let files = Files {
        config: &toml,
        services: Some(&rules),
    };
    let errors = config::load_files(files, &machine()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        format!(
            "{}: is not UTF-8 text; save it in that encoding",
            rules.display()
        )
    );
}
