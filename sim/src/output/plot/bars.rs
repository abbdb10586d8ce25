// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policies as bars: the figure that ranks them, one bar a control, the best static value marked.

use super::{COLOURS, FONT, LEGEND_WIDTH, PlotError, legend, sheet};
use crate::compare::{Comparison, Criterion, Row};
use plotters::prelude::*;

const ROW: u32 = 26;
const KINDS: [&str; 3] = ["default, other static", "best static value", "policies"];

/// Horizontal bars, because names of controls are long; static values in one colour, the best of them in another.
pub fn policies(comparison: &Comparison) -> Result<String, PlotError> {
    let (figure, unit): (fn(&Row) -> f64, _) = match comparison.criterion {
        Criterion::Throughput => (|r| r.throughput_mib_per_s, "throughput (MiB/s), longer is better"),
        Criterion::Stall => (|r| r.stall_us_per_page.unwrap_or(0.0), "stall (µs per demanded page), shorter is better"),
    };
    let best = comparison.best.map(|value| format!("static {value}"));
    let rows = &comparison.rows;
    let most = rows.iter().map(figure).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let height = 110 + ROW * rows.len() as u32;
    sheet("policies", (960, height), |root| {
        let (left, right) = root.split_horizontally(960 - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&left)
            .caption(format!("{}: policies side by side", comparison.scenario), (FONT, 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(8)
            .build_cartesian_2d(-most * 0.25..most * 1.12, 0.0..rows.len() as f64)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().disable_y_axis().y_labels(0).light_line_style(WHITE).x_desc(unit).label_style((FONT, 14));
        mesh.x_label_formatter(&|x| if *x < 0.0 { String::new() } else { short(*x) }).draw()?;
        for (kind, colour) in COLOURS.into_iter().enumerate().take(3) {
            let of_kind = |row: &Row| kind_of(row, best.as_deref()) == kind;
            let bars = rows.iter().enumerate().filter(|(_, row)| of_kind(row)).map(|(index, row)| {
                let top = (rows.len() - index) as f64;
                Rectangle::new([(0.0, top - 0.15), (figure(row), top - 0.85)], colour.filled())
            });
            chart.draw_series(bars)?;
        }
        chart.draw_series(rows.iter().enumerate().map(|(index, row)| {
            let place = (-most * 0.245, (rows.len() - index) as f64 - 0.25);
            Text::new(row.control.clone(), place, (FONT, 14))
        }))?;
        chart.draw_series(rows.iter().enumerate().map(|(index, row)| {
            let place = (figure(row) + most * 0.01, (rows.len() - index) as f64 - 0.25);
            Text::new(short(figure(row)), place, (FONT, 13))
        }))?;
        legend(&right, KINDS.into_iter().zip(COLOURS))
    })
}

fn kind_of(row: &Row, best: Option<&str>) -> usize {
    if best == Some(row.control.as_str()) {
        1
    } else if row.control == "default" || row.control.starts_with("static ") {
        0
    } else {
        2
    }
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
