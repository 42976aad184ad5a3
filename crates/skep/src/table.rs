//! Tables as `kubectl` prints them: capitals, two spaces between columns, no lines, and as wide as
//! the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const GAP: usize = 2;
/// What a column keeps as long as others are wider, and what it keeps at all.
const NARROW: usize = 9;
const NARROWEST: usize = 5;

/// Gives a cell of a column another look; the text keeps its width.
pub(crate) type Paint<'a> = &'a dyn Fn(usize, &str) -> Option<&'static str>;

/// The table as text. `width` of `None` cuts nothing. `paint` gives the SGR code of a cell.
pub(crate) fn render(
    headers: &[&str],
    rows: &[Vec<String>],
    width: Option<usize>,
    paint: Paint<'_>,
) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = headers.iter().map(|header| header.width()).collect();
    for row in &rows {
        for (slot, cell) in widths.iter_mut().zip(row) {
            *slot = (*slot).max(cell.width());
        }
    }
    if let Some(width) = width {
        shrink(&mut widths, width);
    }
    let mut out = String::new();
    line(&mut out, headers.iter().copied(), &widths, &|_, _| None);
    for row in &rows {
        line(&mut out, row.iter().map(String::as_str), &widths, paint);
    }
    out
}

/// Takes what is missing from the widest columns; the first, which people copy, gives last.
fn shrink(widths: &mut [usize], width: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    for (first, least) in [(1, NARROW), (1, NARROWEST), (0, NARROW)] {
        while widths.iter().sum::<usize>() + gaps > width {
            let rest = widths.get_mut(first..).unwrap_or_default();
            match rest.iter_mut().filter(|width| **width > least).max() {
                Some(widest) => *widest -= 1,
                None => break,
            }
        }
    }
}

fn line<'a>(
    out: &mut String,
    cells: impl Iterator<Item = &'a str>,
    widths: &[usize],
    paint: Paint<'_>,
) {
    let start = out.len();
    for (index, (cell, width)) in cells.zip(widths).enumerate() {
        if index > 0 {
            out.extend(std::iter::repeat_n(' ', GAP));
        }
        let shown = cut(cell, *width);
        match paint(index, cell) {
            Some(code) => out.push_str(&format!("\x1b[{code}m{shown}\x1b[0m")),
            None => out.push_str(&shown),
        }
        out.extend(std::iter::repeat_n(' ', width - shown.width()));
    }
    let end = start + out[start..].trim_end().len();
    out.truncate(end);
    out.push('\n');
}

/// A text as far as so many columns hold it.
pub(crate) fn cut(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut shown = String::new();
    let mut used = 0;
    for c in cell.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide >= width {
            break;
        }
        used += wide;
        shown.push(c);
    }
    shown.push('…');
    shown
}

/// Letters that change the direction of those behind them (UAX #9).
const TURNS: [char; 11] = [
    '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}',
    '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Text of others must not move the cursor, or turn letters around.
pub(crate) fn clean(text: &str) -> String {
    let odd = |c: char| c.is_control() || TURNS.contains(&c);
    text.chars()
        .map(|c| if odd(c) { '\u{fffd}' } else { c })
        .collect()
}

/// The same for text that has lines.
pub(crate) fn clean_lines(text: &str) -> String {
    let parts = text.split_inclusive(['\n', '\t']);
    let clean_part = |part: &str| match part.strip_suffix(['\n', '\t']) {
        Some(words) => clean(words) + part.get(words.len()..).unwrap_or_default(),
        None => clean(part),
    };
    parts.map(clean_part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_moves_no_cursor() {
        assert_eq!(
            clean("a\x1b[2J\r\u{202e}ü\n"),
            "a\u{fffd}[2J\u{fffd}\u{fffd}ü\u{fffd}"
        );
        assert_eq!(clean_lines("a\n\tb\x1b\r\n"), "a\n\tb\u{fffd}\u{fffd}\n");
        assert_eq!(clean_lines(""), "");
    }

    #[test]
    fn columns_fit_the_terminal_and_the_widest_give_way() {
        let rows = vec![
            vec![
                "hello".into(),
                "ready".into(),
                "a long text that goes on and on".into(),
            ],
            vec!["w\x1b[31m".into(), "日本".into(), String::new()],
        ];
        assert_eq!(
            render(&["NAME", "STATE", "REASON"], &rows, Some(32), &|_, _| None),
            "NAME    STATE  REASON\nhello   ready  a long text that…\nw\u{fffd}[31m  日本\n"
        );
        assert!(
            render(&["A"], &[vec!["x".repeat(99)]], None, &|_, _| None).contains(&"x".repeat(99))
        );
        let painted = render(&["A"], &[vec!["x".into()]], None, &|_, _| Some("32"));
        assert_eq!(painted, "A\n\x1b[32mx\x1b[0m\n");
    }
}
