//! What is on the screen, and what a key does to it. Neither draws nor asks.
#![forbid(unsafe_code)]

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    details::{self, Line},
    grid::Grid,
    sample::{Pair, Sample},
    screens::{self, Scope, Screen},
};
use crate::service::ServiceKey;

/// What is shown and how.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own, and any of them can be on with any other"
)]
pub(super) struct Model {
    pub(super) screen: Screen,
    /// Servers of this service alone.
    pub(super) service: Option<ServiceKey>,
    /// The row of which everything is shown.
    pub(super) detail: Option<String>,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) edits_filter: bool,
    pub(super) help: bool,
    pub(super) paused: bool,
    /// Also counters that are 0.
    zeros: bool,
    /// Of each screen.
    sorting: [Sorting; Screen::ALL.len()],
    /// The row that the cursor is on, and where it was last, for when that row
    /// has gone.
    selected: Option<String>,
    place: usize,
    /// Rows of a page; the view says how many there is room for.
    pub(super) page: usize,
    pub(super) interval: Duration,
    new: Option<Sample>,
    old: Option<Sample>,
    /// Why there are no newer answers.
    pub(super) trouble: Option<String>,
}

/// By which column a screen is sorted; by none in the director's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sorting {
    pub(super) column: Option<usize>,
    pub(super) descending: bool,
}

/// What the loop has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Draw.
    None,
    /// Ask at once.
    Ask,
    /// End.
    Quit,
}

/// What can be chosen as interval with + and -, in milliseconds.
const INTERVALS_MS: [u64; 7] = [500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

impl Model {
    pub(super) fn new(screen: Screen, interval: Duration) -> Self {
        Self {
            screen,
            service: None,
            detail: None,
            filter: String::new(),
            edits_filter: false,
            help: false,
            paused: false,
            zeros: false,
            sorting: [Sorting::default(); Screen::ALL.len()],
            selected: None,
            place: 0,
            page: 1,
            interval,
            new: None,
            old: None,
            trouble: None,
        }
    }

    /// Takes up news from the director.
    pub(super) fn take(&mut self, sample: Sample) {
        self.old = self.new.replace(sample);
        self.trouble = None;
    }

    /// There were no news; what is shown stays.
    pub(super) fn fail(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// What is shown, if there is anything yet.
    pub(super) fn pair(&self) -> Option<Pair<'_>> {
        let new = self.new.as_ref()?;
        Some(Pair::of(new, self.old.as_ref()))
    }

    /// The rows of the screen as they are shown.
    pub(super) fn grid(&self) -> Option<Grid> {
        let scope = Scope {
            service: self.service,
            zeros: self.zeros,
        };
        let mut grid = screens::grid(self.screen, &self.pair()?, scope);
        grid.retain(&self.filter);
        let Sorting { column, descending } = self.sorting();
        if let Some(column) = column {
            grid.sort(column, descending);
        }
        Some(grid)
    }

    /// Everything about the row that was chosen, while it is there.
    pub(super) fn detail_lines(&self) -> Option<Vec<Line>> {
        details::detail(self.screen, &self.pair()?, self.detail.as_ref()?)
    }

    /// Where the cursor stands among these rows.
    pub(super) fn cursor(&self, grid: &Grid) -> usize {
        let by_id = |id: &String| grid.rows.iter().position(|row| row.id == *id);
        let place = self.selected.as_ref().and_then(by_id);
        place
            .unwrap_or(self.place)
            .min(grid.rows.len().saturating_sub(1))
    }

    pub(super) fn sorting(&self) -> Sorting {
        let index = self.screen as usize;
        self.sorting.get(index).copied().unwrap_or_default()
    }

    pub(super) fn set_sorting(&mut self, sorting: Sorting) {
        if let Some(of_screen) = self.sorting.get_mut(self.screen as usize) {
            *of_screen = sorting;
        }
    }

    /// Sorts by the column of this title, in any case.
    ///
    /// # Errors
    /// The titles that there are.
    pub(super) fn sort_by(&mut self, title: &str) -> Result<(), String> {
        let columns = self.screen.columns();
        let column = columns
            .iter()
            .position(|column| column.title.eq_ignore_ascii_case(title));
        let Some(column) = column else {
            let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
            return Err(titles.join(", "));
        };
        self.sort_first(column);
        Ok(())
    }

    /// Numbers from the top, texts from A.
    fn sort_first(&mut self, column: usize) {
        let columns = self.screen.columns();
        let side = columns.get(column).map(|column| column.side);
        self.set_sorting(Sorting {
            column: Some(column),
            descending: side == Some(super::grid::Side::Right),
        });
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent) -> Effect {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Effect::Quit,
            KeyCode::Char('l') if is_control => return Effect::Ask,
            _ if self.edits_filter => self.edit_filter(key.code),
            _ if self.help => {
                // Any key ends it, and does nothing else.
                self.help = false;
            }
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('p' | ' ') => {
                self.paused = !self.paused;
                if !self.paused {
                    return Effect::Ask;
                }
            }
            KeyCode::Char('+' | '=') => self.change_interval(1),
            KeyCode::Char('-') => self.change_interval(-1),
            code => self.navigate(code),
        }
        Effect::None
    }

    fn edit_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.edits_filter = false,
            KeyCode::Esc => {
                self.edits_filter = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.chars().count() < FILTER_LEN_MAX => {
                self.filter.push(letter);
            }
            _ => {}
        }
    }

    fn navigate(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('/') => self.edits_filter = true,
            KeyCode::Char('z') => self.zeros = !self.zeros,
            KeyCode::Char('s' | '>') => self.sort_beside(1),
            KeyCode::Char('S' | '<') => self.sort_beside(-1),
            KeyCode::Char('r') => {
                let Sorting { column, descending } = self.sorting();
                self.set_sorting(Sorting {
                    column: column.or(Some(0)),
                    descending: !descending,
                });
            }
            KeyCode::Char(digit @ '1'..='6') => {
                let index = digit.to_digit(10).unwrap_or(1) as usize - 1;
                self.go_to(Screen::ALL.get(index).copied().unwrap_or(self.screen));
            }
            KeyCode::Tab | KeyCode::Right => self.go_beside(1),
            KeyCode::BackTab | KeyCode::Left => self.go_beside(Screen::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(self.page.cast_signed()),
            KeyCode::PageUp => self.move_by(-self.page.cast_signed()),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            KeyCode::Enter => self.drill_down(),
            KeyCode::Esc | KeyCode::Backspace => self.go_back(),
            _ => {}
        }
    }

    fn go_to(&mut self, screen: Screen) {
        self.screen = screen;
        self.service = None;
        self.detail = None;
        self.selected = None;
        self.place = 0;
    }

    fn go_beside(&mut self, steps: usize) {
        let all = Screen::ALL;
        let index = (self.screen as usize + steps) % all.len();
        self.go_to(all.get(index).copied().unwrap_or(self.screen));
    }

    fn drill_down(&mut self) {
        let Some(grid) = self.grid().filter(|_| self.detail.is_none()) else {
            return;
        };
        let cursor = self.cursor(&grid);
        let Some(row) = grid.rows.get(cursor) else {
            return;
        };
        let id = row.id.clone();
        match self.screen {
            Screen::Services => {
                let service = self.pair().and_then(|pair| screens::service_of(&pair, &id));
                self.go_to(Screen::Servers);
                self.service = service;
                // It has said which services; of their servers all are wanted.
                self.filter.clear();
            }
            Screen::Neighbors => {}
            _ => {
                self.detail = Some(id.clone());
                self.selected = Some(id);
                self.place = cursor;
            }
        }
    }

    /// From the innermost outwards.
    fn go_back(&mut self) {
        if self.detail.take().is_some() {
            return;
        }
        if let Some(service) = self.service {
            self.go_to(Screen::Services);
            self.selected = Some(service.to_string());
            return;
        }
        self.filter.clear();
    }

    fn move_by(&mut self, rows: isize) {
        let Some(grid) = self.grid().filter(|_| self.detail.is_none()) else {
            return;
        };
        let last = grid.rows.len().saturating_sub(1);
        self.place = self.cursor(&grid).saturating_add_signed(rows).min(last);
        self.selected = grid.rows.get(self.place).map(|row| row.id.clone());
    }

    /// The next column, or the director's order behind the last one.
    fn sort_beside(&mut self, step: isize) {
        let len = self.screen.columns().len();
        let now = self.sorting().column.map_or(0, |column| column + 1);
        let next = match now.checked_add_signed(step) {
            None => len,
            Some(next) if next > len => 0,
            Some(next) => next,
        };
        match next.checked_sub(1) {
            None => self.set_sorting(Sorting::default()),
            Some(column) => self.sort_first(column),
        }
    }

    fn change_interval(&mut self, step: i32) {
        let now = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let mut choices = INTERVALS_MS.into_iter();
        let next = if step > 0 {
            choices.find(|&ms| ms > now)
        } else {
            choices.rfind(|&ms| ms < now)
        };
        self.interval = Duration::from_millis(next.unwrap_or(now));
    }
}

const FILTER_LEN_MAX: usize = 60;
