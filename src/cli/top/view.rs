//! Draws a [`Model`] into the cells of a terminal of any size.
#![forbid(unsafe_code)]

use std::time::Duration;

use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Widget},
};

use super::{
    grid::{Grid, Tone, cut},
    model::Model,
    sample::{Pair, rate_text},
    screens::{BUSY_SHARE_ALARM, Screen},
};
use crate::cli::format::{count, duration};

/// Draws everything. Rows that are scrolled out of sight are not drawn.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width);
    let mut lines = head(model, width, area.height);
    let foot = foot(model, width);
    let body_height = usize::from(area.height).saturating_sub(lines.len() + 1);
    if model.help {
        lines.extend(help().into_iter().take(body_height));
    } else if model.detail.is_some() {
        lines.extend(detail(model, width).into_iter().take(body_height));
    } else {
        lines.extend(table(model, width, body_height));
    }
    lines.truncate(usize::from(area.height).saturating_sub(1));
    let body = Rect {
        height: area.height.saturating_sub(1),
        ..area
    };
    let last = Rect {
        y: area.y + body.height,
        height: area.height.min(1),
        ..area
    };
    Paragraph::new(lines).render(body, buffer);
    Paragraph::new(foot).render(last, buffer);
}

/// How many rows of a table fit into a terminal of this height.
pub(super) fn page(height: u16) -> usize {
    let head = if height < HEIGHT_OF_FULL_HEAD { 1 } else { 4 };
    // The titles, and the line at the bottom.
    usize::from(height).saturating_sub(head + 2).max(1)
}

/// A terminal of fewer lines has the tabs alone above the table.
const HEIGHT_OF_FULL_HEAD: u16 = 12;

fn head(model: &Model, width: usize, height: u16) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if height >= HEIGHT_OF_FULL_HEAD {
        match model.pair() {
            Some(pair) => lines.extend(summary(&pair, model.interval, width)),
            None => lines.extend([Line::raw("pointsman top"), Line::raw("")]),
        }
        lines.push(Line::raw(""));
    }
    lines.push(tabs(model, width));
    lines
}

/// Two lines about the director as a whole.
fn summary(pair: &Pair<'_>, interval: Duration, width: usize) -> [Line<'static>; 2] {
    let director = &pair.new.director;
    let every = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let every = format!("  every {}", duration(every));
    let first = format!(
        "pointsman {}  up {}  generation {} on {}/{} workers{every}",
        director.version,
        duration(director.uptime_ms),
        director.generation,
        director.workers_live,
        director.workers,
    );
    let busiest = pair.new.workers.iter().map(|worker| worker.busy_share);
    let busiest = busiest.fold(0.0, f64::max);
    let drops = pair.drop_rate();
    let parts = [
        (
            format!("in {}/s", rate_text(pair.counter_rate("rx_packets"))),
            false,
        ),
        (
            format!("tunnelled {}/s", rate_text(pair.counter_rate("forwarded"))),
            false,
        ),
        (format!("drops {}/s", rate_text(drops)), drops > Some(0.0)),
        (
            format!(
                "new {}/s",
                rate_text(pair.counter_rate("connections_opened"))
            ),
            false,
        ),
        (format!("conns {}", count(director.connections)), false),
        (
            format!("busiest {:.0}%", busiest * 100.0),
            busiest > BUSY_SHARE_ALARM,
        ),
    ];
    let mut second = Line::default();
    let mut used = 0;
    for (text, is_alarm) in parts {
        // Padded, so that what follows does not move with every digit.
        let text = format!("{text:<PART_WIDTH_MIN$}  ");
        used += text.trim_end().len();
        if used > width {
            break;
        }
        used += text.len() - text.trim_end().len();
        let style = if is_alarm {
            style_of(Tone::Alarm)
        } else {
            Style::new()
        };
        second.push_span(Span::styled(text, style));
    }
    [
        Line::styled(
            cut(&first, width),
            Style::new().add_modifier(Modifier::BOLD),
        ),
        second,
    ]
}

/// Of a part of the second line.
const PART_WIDTH_MIN: usize = 10;

/// The screens, as numbers alone where there is no room for all names.
fn tabs(model: &Model, width: usize) -> Line<'static> {
    let long: usize = Screen::ALL.iter().map(|s| s.title().len() + 4).sum();
    let mut line = Line::default();
    for (number, screen) in (1..).zip(Screen::ALL) {
        let title = screen.title();
        let (text, style) = if screen == model.screen {
            let style = Style::new().add_modifier(Modifier::REVERSED);
            (format!(" {number} {title} "), style)
        } else if long > width {
            (format!(" {number} "), Style::new())
        } else {
            (format!(" {number} {title} "), Style::new())
        };
        line.push_span(Span::styled(text, style));
    }
    line
}

/// The titles and as many rows as there is room for, with the one under the
/// cursor among them.
fn table(model: &Model, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some(grid) = model.grid() else {
        return Vec::new();
    };
    if grid.rows.is_empty() {
        return vec![Line::raw(""), Line::raw(nothing(model))];
    }
    let layout = grid.layout(width);
    let sorted_by = model.sorting().column;
    let mut titles = Line::default();
    for (column, title) in layout.titles() {
        let style = Style::new().add_modifier(if Some(column) == sorted_by {
            Modifier::BOLD | Modifier::REVERSED
        } else {
            Modifier::BOLD
        });
        if !titles.spans.is_empty() {
            titles.push_span(Span::raw(" "));
        }
        titles.push_span(Span::styled(title, style));
    }
    let rows_shown = height.saturating_sub(1).max(1);
    let cursor = model.cursor(&grid);
    let first = first_row(cursor, rows_shown);
    let rows = grid.rows.iter().enumerate().skip(first).take(rows_shown);
    let rows = rows.map(|(place, row)| {
        let text = layout.line(row);
        if place == cursor {
            // Across the whole screen.
            let style = style_of(row.tone).add_modifier(Modifier::REVERSED);
            Line::styled(format!("{text:<width$}"), style)
        } else {
            Line::styled(text, style_of(row.tone))
        }
    });
    [titles].into_iter().chain(rows).collect()
}

/// Pages, not lines, go by: a cursor that moves does not move the rows.
fn first_row(cursor: usize, rows_shown: usize) -> usize {
    cursor / rows_shown * rows_shown
}

fn style_of(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Dim => Style::new().add_modifier(Modifier::DIM),
        Tone::Alarm => Style::new().fg(Color::Red),
    }
}

/// Why there are no rows.
fn nothing(model: &Model) -> String {
    if !model.filter.is_empty() {
        return format!("nothing matches \"{}\"", model.filter);
    }
    match model.screen {
        Screen::Services => "there are no services".to_owned(),
        Screen::Servers => match model.service {
            Some(service) => format!("{service} has no real servers"),
            None => "there are no real servers".to_owned(),
        },
        Screen::Counters => "nothing was counted yet; z shows what could be".to_owned(),
        Screen::Neighbors => "no neighbors are known".to_owned(),
        Screen::Workers | Screen::Ports => "there are none".to_owned(),
    }
}

fn detail(model: &Model, width: usize) -> Vec<Line<'static>> {
    let Some(lines) = model.detail_lines() else {
        let gone = model.detail.as_deref().unwrap_or_default();
        return vec![Line::raw(""), Line::raw(format!("{gone} is gone"))];
    };
    let mut text = vec![Line::raw("")];
    for (label, value) in lines {
        let label = format!("{label:>LABEL_WIDTH$}  ");
        let room = width.saturating_sub(label.len()).max(8);
        for (number, piece) in wrapped(&value, room).into_iter().enumerate() {
            let label = if number == 0 {
                label.clone()
            } else {
                " ".repeat(label.len())
            };
            let bold = Style::new().add_modifier(Modifier::BOLD);
            text.push(Line::from(vec![
                Span::styled(label, bold),
                Span::raw(piece),
            ]));
        }
    }
    text
}

const LABEL_WIDTH: usize = 17;

/// Lines of whole words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The line at the bottom: trouble before anything else, then what is special
/// about what is shown, then keys.
fn foot(model: &Model, width: usize) -> Line<'static> {
    if model.edits_filter {
        return Line::raw(cut(&format!("filter: {}_", model.filter), width));
    }
    if let Some(trouble) = &model.trouble {
        let text = cut(trouble, width);
        return Line::styled(text, style_of(Tone::Alarm).add_modifier(Modifier::BOLD));
    }
    if model.pair().is_none() {
        return Line::raw("asking ...");
    }
    let mut parts = Vec::new();
    if model.paused {
        parts.push("PAUSED".to_owned());
    }
    if let Some(service) = model.service {
        parts.push(format!("servers of {service}"));
    }
    if !model.filter.is_empty() {
        parts.push(format!("filter \"{}\"", model.filter));
    }
    if let Some(grid) = model.grid().filter(|_| model.detail.is_none()) {
        parts.push(position(model, &grid));
    }
    parts.push(if model.detail.is_some() || model.service.is_some() {
        "Esc back".to_owned()
    } else {
        "Enter more".to_owned()
    });
    parts.push("/ filter  s sort  p pause  ? help  q quit".to_owned());
    let text = cut(&parts.join("  "), width);
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

fn position(model: &Model, grid: &Grid) -> String {
    match grid.rows.len() {
        0 => "0 rows".to_owned(),
        len => format!("{} of {len}", model.cursor(grid) + 1),
    }
}

fn help() -> Vec<Line<'static>> {
    HELP.lines().map(Line::raw).collect()
}

const HELP: &str = "
  1-6  Tab  Left Right    go to a screen, or to the one beside
  Up Down  PgUp PgDn      move the cursor; Home and End, j k g G, too
  Enter                   a service's servers; everything about a row
  Esc  Backspace          go back; take the filter away
  /                       filter: rows that have all of these words
  s S                     sort by the next, by the previous column
  r                       reverse the order
  z                       also counters that are 0
  p  Space                pause, and go on
  + -                     ask less often, more often
  Ctrl-L                  ask at once
  q  Ctrl-C               quit

  Rates are of the time between two answers, \"-\" where there is one only.
  Red rows want to be looked at; dim ones are quiesced, or do not change.";

/// The same as text: one frame, as high as it takes.
pub(super) fn text(model: &Model, width: u16) -> String {
    let rows = model.grid().map_or(0, |grid| grid.rows.len());
    let height = u16::try_from(rows.saturating_add(HEAD_AND_FOOT)).unwrap_or(u16::MAX);
    let area = Rect::new(0, 0, width, height.max(HEIGHT_OF_FULL_HEAD));
    let mut buffer = Buffer::empty(area);
    draw(model, area, &mut buffer);
    let mut lines = lines_of(&buffer);
    // Keys are of no use there.
    lines.pop();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.join("\n")
}

/// Lines of a frame that are no rows: head, titles, foot.
const HEAD_AND_FOOT: usize = 7;

/// The cells of a frame as text.
pub(super) fn lines_of(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    buffer
        .content
        .chunks(width)
        .map(|cells| {
            let line: String = cells.iter().map(Cell::symbol).collect();
            line.trim_end().to_owned()
        })
        .collect()
}
