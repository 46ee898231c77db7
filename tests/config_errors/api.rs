//! `[api]`.
use super::refused;

#[test]
fn api_without_an_address_is_refused() {
    refused(
        r#"
[api]
metrics_without_token = true
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:1: [api] has no `listen`; write for example `listen = "127.0.0.1:9110"`
    [api]
    ^^^^^
"#,
    );
}

#[test]
fn api_at_a_name_is_refused() {
    refused(
        r#"
[api]
listen = "localhost:9110"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `listen` is "localhost:9110"; write an address of this host with a port, such as "127.0.0.1:9110" or "[::1]:9110", or a path that begins with /, of 107 bytes at most
    listen = "localhost:9110"
             ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn api_beyond_loopback_without_a_token_is_refused() {
    refused(
        r#"
[api]
listen = "0.0.0.0:9110"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `listen` is "0.0.0.0:9110"; write a loopback address, such as "127.0.0.1:9110", or name a `token_file` besides: without one, whoever reaches this address could change services
    listen = "0.0.0.0:9110"
             ^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn relative_token_file_is_refused() {
    refused(
        r#"
[api]
listen = "[::1]:9110"
token_file = "token"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: `token_file` is "token"; write a path that begins with /
    token_file = "token"
                 ^^^^^^^
"#,
    );
}

#[test]
fn token_for_reading_alone_is_refused() {
    refused(
        r#"
[api]
listen = "[::1]:9110"
read_token_file = "/etc/read"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: `read_token_file` is "/etc/read"; write a `token_file` besides, or leave this one out: without that, whoever reaches the director may change services as well as read
    read_token_file = "/etc/read"
                      ^^^^^^^^^^^
"#,
    );
}
