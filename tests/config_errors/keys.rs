//! What is not TOML, and keys and types that the file does not have.
use super::refused;

#[test]
fn text_without_quotes_is_shown_in_quotes() {
    refused(
        r"
[[port]]
name = wan
",
        r#"
director.toml:2: wan is neither a number nor true or false; write texts in quotes, "wan"
    name = wan
           ^^^
"#,
    );
}

#[test]
fn address_without_quotes_is_shown_in_quotes() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = 10.0.0.0/8
"#,
        r#"
director.toml:6: 10.0.0.0/8 is neither a number nor true or false; write texts in quotes, "10.0.0.0/8"
    to = 10.0.0.0/8
         ^^^^^^^^^^
"#,
    );
}

#[test]
fn missing_value_is_asked_for() {
    refused(
        r"
[[port]]
name =
",
        r"
director.toml:2: there is no value; write one behind the =
    name =
          ^
",
    );
}

#[test]
fn text_that_does_not_end_is_shown() {
    refused(
        r#"
[[port]]
name = "wan
device = "net_null0"
"#,
        r#"
director.toml:2: the text does not end in this line; write " at its end
    name = "wan
               ^
"#,
    );
}

#[test]
fn key_twice_is_refused() {
    refused(
        r"
[eal]
memory_mib = 256
memory_mib = 512
",
        r"
director.toml:3: `memory_mib` stands twice; write each key once
    memory_mib = 512
    ^^^^^^^^^^
",
    );
}

#[test]
fn single_and_double_brackets_do_not_mix() {
    refused(
        r#"
[port]
name = "wan"
[[port]]
name = "lan"
"#,
        r"
director.toml:3: table port stands twice; write each table once, lists as [[port]]
    [[port]]
      ^^^^
",
    );
}

#[test]
fn key_with_a_colon_gets_the_right_form() {
    refused(
        r"
[eal]
memory_mib: 256
",
        r"
director.toml:2: this is neither a key with its value nor a table; write `key = value`
    memory_mib: 256
              ^
",
    );
}

#[test]
fn header_that_is_not_closed_is_shown() {
    refused(
        r#"
[[port
name = "wan"
"#,
        r"
director.toml:1: the table's header is not closed; write as many ] as [
    [[port
          ^
",
    );
}

#[test]
fn list_that_is_not_closed_is_shown() {
    refused(
        r"
[director]
workers = [1, 2
",
        r"
director.toml:2: the list is not closed; write ] at its end
    workers = [1, 2
                   ^
",
    );
}

#[test]
fn python_true_is_refused() {
    refused(
        r"
[director.ipvs]
pmtu_disc = True
",
        r"
director.toml:2: True is neither a number nor true or false; write true
    pmtu_disc = True
                ^^^^
",
    );
}

#[test]
fn misspelt_key_gets_the_nearest_one() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mtuu = 9000
"#,
        r"
director.toml:5: unknown key `mtuu` in [[port]]; did you mean `mtu`?
    mtuu = 9000
    ^^^^
",
    );
}

#[test]
fn word_of_another_tool_gets_ours() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
gateway = "192.0.2.1"
"#,
        r#"
director.toml:7: unknown key `gateway` in [[route]]; did you mean `via`?
    gateway = "192.0.2.1"
    ^^^^^^^
"#,
    );
}

#[test]
fn key_of_another_table_is_sent_there() {
    refused(
        r#"
workers = [1]
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:1: unknown key `workers` in the file; write it below [director]
    workers = [1]
    ^^^^^^^
",
    );
}

#[test]
fn key_that_is_like_nothing_lists_all() {
    refused(
        r#"
[director.timeouts]
colour = 3
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: unknown key `colour` in [director.timeouts]; write one of `tcp`, `tcp_fin` or `udp`
    colour = 3
    ^^^^^^
",
    );
}

#[test]
fn misspelt_table_gets_the_nearest_one() {
    refused(
        r#"
[directr]
workers = [1]
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:1: unknown table [directr]; did you mean [director]?
    [directr]
     ^^^^^^^
",
    );
}

#[test]
fn unknown_table_lists_all() {
    refused(
        r#"
[vrrp]
priority = 1
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:1: unknown table [vrrp]; write one of [director], [eal], [api], [[port]], [[route]], [[neighbor]], [[fwmark]] or [[service]]
    [vrrp]
     ^^^^
",
    );
}

#[test]
fn table_in_single_brackets_gets_double_ones() {
    refused(
        r#"
[port]
name = "wan"
"#,
        r"
director.toml:1: `port` must be a list of tables; write [[port]] on a line of its own above each
    [port]
    ^^^^^^
",
    );
}

#[test]
fn value_where_a_table_belongs_is_refused() {
    refused(
        r#"
director = 3
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:1: `director` must be a table; write [director] on a line of its own and its keys below
    director = 3
               ^
",
    );
}

#[test]
fn number_in_quotes_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mtu = "1500"
"#,
        r#"
director.toml:5: `mtu` is a text, not a whole number; write for example `mtu = 1500`
    mtu = "1500"
          ^^^^^^
"#,
    );
}

#[test]
fn text_where_a_list_belongs_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = "192.0.2.10/24"
"#,
        r#"
director.toml:4: `addresses` is a text, not a list in square brackets; write for example `addresses = ["192.0.2.1/24"]`
    addresses = "192.0.2.10/24"
                ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn list_element_of_wrong_type_is_refused() {
    refused(
        r#"
[director]
workers = [1, "2-3"]
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `workers` holds a text where the number of a core must stand; write for example `workers = [1]`
    workers = [1, "2-3"]
                  ^^^^^
"#,
    );
}

#[test]
fn yes_is_not_a_switch() {
    refused(
        r#"
[director.ipvs]
sloppy_tcp = "yes"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `sloppy_tcp` is a text, not true or false; write for example `sloppy_tcp = false`
    sloppy_tcp = "yes"
                 ^^^^^
"#,
    );
}

#[test]
fn decimal_number_is_refused() {
    refused(
        r#"
[director.timeouts]
tcp = 1.5
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `tcp` is a decimal number, not a whole number; write for example `tcp = 900`
    tcp = 1.5
          ^^^
",
    );
}
