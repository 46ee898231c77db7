//! Keys and frames, as text.

use std::time::Duration;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::{Color, Modifier},
};

use super::{
    fixture,
    model::{Effect, Model},
    screens::Screen,
    view,
};

fn model() -> Model {
    let mut model = Model::new(Screen::Services, Duration::from_secs(2));
    model.take(fixture::sample(1));
    model.take(fixture::sample(2));
    model
}

fn press(model: &mut Model, keys: &[KeyCode]) {
    for &code in keys {
        let effect = model.press(KeyEvent::new(code, KeyModifiers::NONE));
        assert_ne!(effect, Effect::Quit);
    }
}

fn type_text(model: &mut Model, text: &str) {
    for letter in text.chars() {
        press(model, &[KeyCode::Char(letter)]);
    }
}

fn terminal(model: &Model, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| view::draw(model, frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal
}

/// The frame as text, without the empty lines in it.
fn frame(model: &Model, width: u16, height: u16) -> String {
    let terminal = terminal(model, width, height);
    let lines = view::lines_of(terminal.backend().buffer());
    assert_eq!(lines.len(), usize::from(height));
    let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

const HEAD: &str = "\
pointsman 0.1.0  up 1 min 4 s  generation 7 on 2/2 workers  every 2 s
in 1500/s   tunnelled 1000/s  drops 5.0/s  new 20/s    conns 1500  busiest 95%
 1 Services  2 Servers  3 Workers  4 Ports  5 Counters  6 Neighbors
";

#[test]
fn services_fit_a_terminal_of_80_columns() {
    assert_eq!(
        frame(&model(), 80, 24),
        HEAD.to_owned()
            + "\
Service            Scheduler Servers Active InAct Conn/s Pkt/s bit/s   Conns
TCP 192.0.2.10:80  wlc           1/2     24   690     15  1500  1.5M      60
TCP 192.0.2.10:443 wlc           1/1     12   345     15  1500  1.5M      60
UDP 192.0.2.53:53  wlc           0/0      0     0     15  1500  1.5M      60
1 of 3  Enter more  / filter  s sort  p pause  ? help  q quit"
    );
}

#[test]
fn a_small_terminal_has_the_most_important_columns_and_no_head() {
    assert_eq!(
        frame(&model(), 40, 10),
        " 1 Services  2  3  4  5  6
Service            Active Conn/s Pkt/s
TCP 192.0.2.10:80      24     15  1500
TCP 192.0.2.10:443     12     15  1500
UDP 192.0.2.53:53       0     15  1500
1 of 3  Enter more  / filter  s sort  p…"
    );
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut model = model();
    for _ in Screen::ALL {
        for (width, height) in [(1, 1), (2, 3), (10, 5), (80, 2), (300, 100)] {
            frame(&model, width, height);
            press(&mut model, &[KeyCode::Enter]);
            frame(&model, width, height);
            press(&mut model, &[KeyCode::Esc, KeyCode::Char('?')]);
            frame(&model, width, height);
            press(&mut model, &[KeyCode::Esc]);
        }
        press(&mut model, &[KeyCode::Tab]);
    }
}

#[test]
fn enter_leads_from_a_service_to_its_servers_and_to_one_of_them_and_escape_back() {
    let mut model = model();
    press(&mut model, &[KeyCode::Enter]);
    assert_eq!(
        frame(&model, 80, 24),
        HEAD.to_owned()
            + "\
Server         Weight Active InAct Conn/s Pkt/s bit/s State
10.0.0.12           1     12   345    5.0   500  500k no ARP from 10.0.0.12
10.0.0.11           3     12   345     10  1000  1.0M up lan
servers of TCP 192.0.2.10:80  1 of 2  Esc back  / filter  s sort  p pause  ? he…"
    );
    press(&mut model, &[KeyCode::Down, KeyCode::Enter]);
    assert_eq!(
        frame(&model, 80, 24),
        HEAD.to_owned()
            + "           server  10.0.0.11
          service  TCP 192.0.2.10:80
        scheduler  wlc
            state  up lan
           weight  3
  upper threshold  none
  lower threshold  none
           tunnel  ipip
         next hop  10.0.0.11 by port lan, MAC 02:00:00:00:00:01
         path MTU  1500 bytes
           active  12
         inactive  345
        templates  0
      connections  40
          packets  4000
            bytes  488 KiB
servers of TCP 192.0.2.10:80  Esc back  / filter  s sort  p pause  ? help  q qu…"
    );
    press(&mut model, &[KeyCode::Esc, KeyCode::Esc]);
    assert_eq!(model.screen, Screen::Services);
    assert_eq!(model.service, None);
}

#[test]
fn going_back_finds_the_cursor_on_the_service_it_came_from() {
    let mut model = model();
    press(&mut model, &[KeyCode::Down, KeyCode::Enter, KeyCode::Esc]);
    assert!(frame(&model, 80, 24).contains("\n2 of 3  "));
}

#[test]
fn workers_are_shown_with_their_load() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('3')]);
    assert_eq!(
        frame(&model, 80, 24),
        HEAD.to_owned()
            + "\
Worker Core   Busy  Rx/s Tunnelled/s Drop/s Punt/s Pkt/burst   Conns  Table
     0    2  25.0%   750         500    2.5      0      15.0     750  75.0%
     1    3  95.0%   750         500    2.5      0      15.0     750  75.0%
1 of 2  Enter more  / filter  s sort  p pause  ? help  q quit"
    );
}

#[test]
fn ports_are_shown_with_their_link() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('4')]);
    assert_eq!(
        frame(&model, 80, 24),
        HEAD.to_owned()
            + "\
Port   Link    Rx pkt/s Rx bit/s Missed/s Tx pkt/s Tx bit/s Errors/s
wan    up 10G      1500     8.0M        0        0        0        0
lan    down           0        0        0        0        0        0
1 of 2  Enter more  / filter  s sort  p pause  ? help  q quit"
    );
}

#[test]
fn drops_come_first_among_counters_and_enter_shows_the_whole_meaning() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('5')]);
    assert_eq!(
        frame(&model, 80, 24),
        HEAD.to_owned()
            + "\
Kind  Name               Per s   Count Meaning
drop  malformed            5.0      20 what malformed means, and what an operat…
drop  ttl_exceeded           0       3 what ttl_exceeded means, and what an ope…
punt  arp                    0       5 what arp means, and what an operator doe…
other rx_packets          1500    6000 what rx_packets means, and what an opera…
other forwarded           1000    4000 what forwarded means, and what an operat…
other connections_opened    20      80 what connections_opened means, and what …
other connections            -    1400 what connections means, and what an oper…
1 of 7  Enter more  / filter  s sort  p pause  ? help  q quit"
    );
    press(&mut model, &[KeyCode::Enter]);
    assert!(frame(&model, 80, 24).contains(
        "          meaning  what malformed means, and what an operator does about it on a
                   bad day\n"
    ));
}

#[test]
fn counters_that_are_0_are_shown_when_asked_for() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('5')]);
    assert!(!frame(&model, 80, 24).contains("no_memory"));
    press(&mut model, &[KeyCode::Char('z')]);
    assert!(frame(&model, 80, 24).contains("drop  no_memory"));
}

#[test]
fn neighbors_are_shown_with_their_state() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('6')]);
    assert_eq!(
        frame(&model, 80, 24),
        HEAD.to_owned()
            + "\
Address         Port   MAC               State      Confirmed ago
10.0.0.11       lan    02:00:00:00:00:01 REACHABLE            4 s
10.0.0.12       lan    -                 FAILED             never
1 of 2  Enter more  / filter  s sort  p pause  ? help  q quit"
    );
}

/// The first words of the rows.
fn rows(model: &Model) -> Vec<String> {
    let grid = model.grid().unwrap();
    grid.rows.into_iter().map(|row| row.id).collect()
}

#[test]
fn sorting_goes_from_column_to_column_and_can_be_reversed() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('5')]);
    model.sort_by("per s").unwrap();
    assert_eq!(rows(&model)[0], "rx_packets");
    press(&mut model, &[KeyCode::Char('r')]);
    assert_eq!(rows(&model)[6], "rx_packets");
    press(&mut model, &[KeyCode::Char('S')]);
    assert_eq!(rows(&model)[0], "arp", "by name");
    // Kind, and the director's order.
    press(&mut model, &[KeyCode::Char('S'), KeyCode::Char('S')]);
    assert_eq!(rows(&model)[0], "malformed");
    assert_eq!(
        model.sort_by("size").unwrap_err(),
        "Kind, Name, Per s, Count, Meaning"
    );
}

#[test]
fn the_column_that_is_sorted_by_is_marked() {
    let mut model = model();
    model.sort_by("conn/s").unwrap();
    let terminal = terminal(&model, 80, 24);
    let buffer = terminal.backend().buffer();
    let titles = &buffer.content[80 * 4..80 * 5];
    let marked: String = titles
        .iter()
        .filter(|cell| cell.modifier.contains(Modifier::REVERSED))
        .map(ratatui::buffer::Cell::symbol)
        .collect();
    assert_eq!(marked, "Conn/s");
}

#[test]
fn a_filter_is_typed_edited_and_taken_away() {
    let mut model = model();
    type_text(&mut model, "/53q");
    assert!(frame(&model, 80, 24).ends_with("filter: 53q_"));
    assert!(frame(&model, 80, 24).contains("nothing matches \"53q\""));
    press(&mut model, &[KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!(rows(&model), ["UDP 192.0.2.53:53"]);
    assert!(frame(&model, 80, 24).contains("filter \"53\"  1 of 1"));
    press(&mut model, &[KeyCode::Esc]);
    assert_eq!(rows(&model).len(), 3);
}

#[test]
fn the_cursor_stays_on_its_row_when_rows_move() {
    let mut model = model();
    press(&mut model, &[KeyCode::End]);
    model.sort_by("service").unwrap();
    model.take(fixture::sample(3));
    let grid = model.grid().unwrap();
    let cursor = model.cursor(&grid);
    assert_eq!(grid.rows[cursor].id, "UDP 192.0.2.53:53");
    press(&mut model, &[KeyCode::Char('r')]);
    assert_eq!(model.cursor(&model.grid().unwrap()), 0);
}

#[test]
fn rows_beyond_the_screen_come_by_pages() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('5')]);
    // The tabs, the titles, three rows, and the foot.
    model.page = view::page(6);
    assert_eq!(model.page, 3);
    assert!(frame(&model, 40, 6).contains("malformed"));
    press(&mut model, &[KeyCode::PageDown]);
    let second = frame(&model, 40, 6);
    assert!(second.contains("connections_opened"), "{second}");
    assert!(!second.contains("malformed"), "{second}");
    assert!(second.contains("4 of 7"), "{second}");
}

#[test]
fn the_row_of_the_cursor_is_reversed_across_the_screen_and_alarms_are_red() {
    let model = model();
    let terminal = terminal(&model, 80, 24);
    let buffer = terminal.backend().buffer();
    let line = |number: usize| &buffer.content[80 * number..80 * (number + 1)];
    let is_reversed = |cell: &ratatui::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
    assert!(line(5).iter().all(is_reversed));
    assert!(!line(6).iter().any(is_reversed));
    // The service without servers, and no other one.
    assert_eq!(line(7)[0].fg, Color::Red);
    assert_ne!(line(6)[0].fg, Color::Red);
}

#[test]
fn trouble_takes_the_last_line_and_what_was_known_stays() {
    let mut model = model();
    model.fail("no answer from /run/pointsman/control.sock; retrying".to_owned());
    let text = frame(&model, 80, 24);
    assert!(text.ends_with("\nno answer from /run/pointsman/control.sock; retrying"));
    assert!(text.contains("TCP 192.0.2.10:443"));
    model.take(fixture::sample(3));
    assert!(!frame(&model, 80, 24).contains("no answer"));
}

#[test]
fn before_the_first_answer_there_is_only_what_was_asked() {
    let mut model = Model::new(Screen::Services, Duration::from_secs(2));
    assert!(frame(&model, 80, 24).ends_with("asking ..."));
    model.fail("no answer from /x; retrying".to_owned());
    assert!(frame(&model, 80, 24).ends_with("no answer from /x; retrying"));
}

#[test]
fn with_one_answer_there_are_no_rates_yet() {
    let mut model = Model::new(Screen::Services, Duration::from_secs(2));
    model.take(fixture::sample(1));
    assert!(
        frame(&model, 80, 24).contains(
            "TCP 192.0.2.10:80  wlc           1/2     24   690      -     -     -      30"
        )
    );
}

#[test]
fn pausing_says_so_and_going_on_asks_at_once() {
    let mut model = model();
    let space = KeyEvent::new(KeyCode::Char(' '), KeyModifiers::NONE);
    assert_eq!(model.press(space), Effect::None);
    assert!(frame(&model, 80, 24).contains("PAUSED  1 of 3"));
    assert_eq!(model.press(space), Effect::Ask);
    assert!(!frame(&model, 80, 24).contains("PAUSED"));
}

#[test]
fn plus_and_minus_change_how_often_it_asks() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('+')]);
    assert_eq!(model.interval, Duration::from_secs(5));
    type_text(&mut model, "-----");
    assert_eq!(model.interval, Duration::from_millis(500));
    assert!(frame(&model, 80, 24).contains("every 500 ms"));
}

#[test]
fn help_fits_and_any_key_ends_it() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('?')]);
    let text = frame(&model, 80, 24);
    assert!(text.contains("quit"), "{text}");
    assert!(text.contains("do not change."), "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    press(&mut model, &[KeyCode::Char('j')]);
    assert!(frame(&model, 80, 24).contains("1 of 3"));
}

#[test]
fn q_and_control_c_quit_also_while_a_filter_is_typed() {
    let mut model = model();
    let q = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.press(q), Effect::Quit);
    type_text(&mut model, "/");
    assert_eq!(model.press(q), Effect::None);
    assert_eq!(model.press(control_c), Effect::Quit);
}

#[test]
fn a_row_that_has_gone_says_so() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('4'), KeyCode::Enter]);
    let mut without = fixture::sample(3);
    without.ports.clear();
    model.take(without);
    assert!(frame(&model, 80, 24).contains("\nwan is gone\n"));
}

#[test]
fn one_frame_as_text_has_all_rows_and_no_keys() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('5')]);
    let text = view::text(&model, 60);
    assert!(text.contains("connections_opened"), "{text}");
    assert!(!text.contains("q quit"), "{text}");
    assert_eq!(
        text.lines().last().unwrap().trim_end(),
        text.lines().last().unwrap()
    );
}
