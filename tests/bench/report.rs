//! What the harness found: targets with their marks, and tables with all figures. The same text is
//! printed and written to the page.

use std::{fmt::Write, time::Duration};

/// A figure that was promised.
#[derive(Debug)]
pub(crate) struct Claim {
    /// What was measured.
    pub(crate) what: &'static str,
    /// What it has to reach.
    pub(crate) target: &'static str,
    /// What it reached.
    pub(crate) relay: String,
    /// The same of others, in the same run.
    pub(crate) peers: String,
    /// Whether it reached the target.
    pub(crate) verdict: Verdict,
}

/// What became of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Reached.
    Met,
    /// Not reached.
    Missed,
}

impl Verdict {
    /// Met if the condition holds.
    pub(crate) fn of(condition: impl FnOnce() -> bool) -> Self {
        if condition() { Self::Met } else { Self::Missed }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Met => "ok",
            Self::Missed => "**missed**",
        }
    }
}

/// Figures side by side.
#[derive(Debug)]
pub(crate) struct Table {
    title: &'static str,
    /// How the figures came about.
    how: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: &'static str, head: &[&'static str]) -> Self {
        Self { title, how: String::new(), head: head.to_vec(), rows: Vec::new() }
    }

    /// Says how the figures came about.
    pub(crate) fn how(mut self, text: impl Into<String>) -> Self {
        self.how = text.into();
        self
    }

    /// Adds a row, as long as the head.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    claims: Vec<Claim>,
    tables: Vec<Table>,
}

impl Report {
    /// Adds a promise.
    pub(crate) fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// The whole as Markdown, aligned for people who read it as text.
    pub(crate) fn text(&self) -> String {
        let mut targets = Table::new("Targets", &["what", "target", "Relay", "peers", ""]);
        for Claim { what, target, relay, peers, verdict } in &self.claims {
            targets.row([*what, *target, relay, peers, verdict.mark()]);
        }
        std::iter::once(&targets).chain(&self.tables).map(render).collect()
    }
}

fn render(table: &Table) -> String {
    let mut text = format!("### {}\n\n", table.title);
    if !table.how.is_empty() {
        text.extend([&table.how, "\n\n"]);
    }
    let head: Vec<String> = table.head.iter().map(ToString::to_string).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            let cells = table.rows.iter().chain([&head]).filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    text += &line(&head, &widths);
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat((*width).max(3))).collect();
    text += &line(&rule, &widths);
    for row in &table.rows {
        text += &line(row, &widths);
    }
    text + "\n"
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::from("|");
    for (cell, width) in cells.iter().zip(widths) {
        write!(text, " {cell:width$} |").expect("a String takes everything");
    }
    text + "\n"
}

/// Milliseconds with two digits behind the point.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Seconds with two digits behind the point.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// How much more the first is than the second, in percent.
pub(crate) fn more_than(value: f64, base: f64) -> String {
    format!("{:+.1} %", (value / base - 1.0) * 100.0)
}
