//! Results as a Markdown table that is also readable on a terminal.

/// Prints rows under a header.
pub fn print(header: &[&str], rows: &[Vec<String>]) {
    print!("{}", markdown(header, rows));
}

/// Rows under a header, columns aligned: the first to the left, the others to the right.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<String>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (cell, width))| match i {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let mut out = line(header.iter().map(ToString::to_string).collect());
    let rule = |(i, width): (usize, &usize)| match i {
        0 => "-".repeat(*width),
        _ => format!("{}:", "-".repeat(width - 1)),
    };
    out.push_str(&line(widths.iter().enumerate().map(rule).collect()));
    for row in rows {
        out.push_str(&line(row.clone()));
    }
    out
}

/// `1234.5` as `1,235`, small numbers with the digits that matter.
pub fn number(value: f64) -> String {
    if value >= 100.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(c);
        }
        out
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers() {
        for (value, text) in [(1234567.8, "1,234,568"), (999.6, "1,000"), (12.34, "12.3"), (0.0456, "0.046")]
        {
            assert_eq!(super::number(value), text);
        }
    }
}
