// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures over time: the knob, and hits beside waste, one line a control.

use super::{COLOURS, FONT, LEGEND_WIDTH, PlotError, SIZE, end, legend, sheet};
use crate::report::{DiskReport, Figures, Report};
use plotters::coord::Shift;
use plotters::prelude::*;

type Drawn = Result<(), Box<dyn std::error::Error>>;
/// A name and its points.
pub type Line = (String, Vec<(f64, f64)>);

struct Axes {
    caption: String,
    y: &'static str,
    top: f64,
    end: f64,
}

/// `read_ahead_kb` over time on the disk that was read most; logarithmic, because values double.
pub fn window(reports: &[&Report]) -> Result<String, PlotError> {
    let label = busiest(reports).unwrap_or_default();
    let lines: Vec<Line> = reports
        .iter()
        .map(|r| (r.control.clone(), r.disks.iter().find(|d| d.label == label).map_or(Vec::new(), |d| steps(d, r.seconds))))
        .collect();
    let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y));
    let (low, high) = (values().fold(f64::INFINITY, f64::min).min(64.0), values().fold(256.0, f64::max));
    let end = end(reports);
    sheet("window", SIZE, |root| {
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&left)
            .caption(format!("Readahead window of {label}"), (FONT, 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..end, (low / 1.5..high * 2.0).log_scale().base(2.0))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("time (s)")
            .y_desc("read_ahead_kb (KiB)")
            .label_style((FONT, 14))
            .y_label_formatter(&|kib| format!("{kib:.0}"))
            .draw()?;
        for (index, (_, points)) in lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        }
        legend(&right, colours(&lines))
    })
}

/// Hit ratio above, waste below, over time, all disks together.
pub fn hit_and_waste(reports: &[&Report]) -> Result<String, PlotError> {
    let of = |figure: &dyn Fn(&Figures) -> Option<f64>| -> Vec<Line> {
        // NaN where there is no figure: the line has a gap there.
        let line = |r: &&Report| {
            let points = totals(r).into_iter().map(|(at, f)| (at, figure(&f).unwrap_or(f64::NAN))).collect();
            (r.control.clone(), points)
        };
        reports.iter().map(line).collect()
    };
    let hits = of(&|f| f.counters.hit_ratio().map(|h| h * 100.0));
    let waste = of(&|f| Some(f.pollution()));
    let most = waste.iter().flat_map(|(_, points)| points).fold(1.0, |most: f64, (_, y)| most.max(*y));
    let end = end(reports);
    sheet("hit-and-waste", (SIZE.0, SIZE.1 * 3 / 2), |root| {
        let (above, below) = root.split_vertically(SIZE.1 * 3 / 4);
        panel(
            &above,
            &Axes { caption: "Demanded pages nobody waited for".into(), y: "hit ratio (%)", top: 102.0, end },
            &hits,
        )?;
        panel(
            &below,
            &Axes { caption: "Pages read ahead and dropped unused".into(), y: "waste (MiB/s)", top: most * 1.1, end },
            &waste,
        )
    })
}

/// How often predictions were right against the confidence they stated, both 0 to 1, one line a set; on the diagonal confidence means
/// what it says (reliability diagram: DeGroot and Fienberg, 1983).
pub fn reliability(sets: &[Line]) -> Result<String, PlotError> {
    let ideal = ("as stated".to_owned(), vec![(0.0, 0.0), (1.0, 1.0)]);
    let lines: Vec<Line> = sets.iter().cloned().chain([ideal]).collect();
    sheet("reliability", (SIZE.1 + LEGEND_WIDTH, SIZE.1), |root| {
        let (left, right) = root.split_horizontally(SIZE.1);
        let mut chart = ChartBuilder::on(&left)
            .caption("Patterns named rightly", (FONT, 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(WHITE)
            .x_desc("stated confidence")
            .y_desc("share named rightly")
            .label_style((FONT, 14))
            .draw()?;
        for (index, (_, points)) in lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            if index < sets.len() {
                chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, colour.filled())))?;
            }
        }
        legend(&right, colours(&lines))
    })
}

fn panel(area: &DrawingArea<SVGBackend, Shift>, axes: &Axes, lines: &[Line]) -> Drawn {
    let (left, right) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    let mut chart = ChartBuilder::on(&left)
        .caption(&axes.caption, (FONT, 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..axes.end, 0.0..axes.top)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).x_desc("time (s)").y_desc(axes.y).y_labels(6).label_style((FONT, 14)).draw()?;
    for (index, (_, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        for stretch in points.split(|(_, y)| y.is_nan()) {
            chart.draw_series(LineSeries::new(stretch.iter().copied(), colour.stroke_width(2)))?;
        }
    }
    legend(&right, colours(lines))
}

fn colours(lines: &[Line]) -> impl Iterator<Item = (&str, RGBColor)> {
    lines.iter().map(|(name, _)| name.as_str()).zip(COLOURS.into_iter().cycle())
}

fn busiest(reports: &[&Report]) -> Option<String> {
    let disks = reports.first()?.disks.iter();
    disks.max_by_key(|d| d.figures.counters.demanded()).map(|d| d.label.clone())
}

/// The knob as a staircase: it holds a value until it is changed. The start is what the first second saw, less changes within it.
fn steps(disk: &DiskReport, end: f64) -> Vec<(f64, f64)> {
    let before_changes = disk.seconds.first().filter(|s| disk.changes.first().is_none_or(|c| c.at > s.at));
    let start = before_changes.map(|s| s.read_ahead).or(disk.changes.first().map(|c| c.to)).unwrap_or(disk.read_ahead);
    let mut value = f64::from(start.0.max(1));
    let mut points = vec![(0.0, value)];
    for change in &disk.changes {
        points.push((change.at, value));
        value = f64::from(change.to.0.max(1));
        points.push((change.at, value));
    }
    points.push((end, value));
    points
}

/// Each second's figures, all disks together.
fn totals(report: &Report) -> Vec<(f64, Figures)> {
    let Some(first) = report.disks.first() else { return Vec::new() };
    let total = |(index, second): (usize, &crate::report::Second)| {
        let others = report.disks[1..].iter().filter_map(|d| d.seconds.get(index));
        let mut sum = others.fold(second.figures.clone(), |sum, other| sum.plus(&other.figures));
        sum.seconds = second.figures.seconds;
        (second.at, sum)
    };
    first.seconds.iter().enumerate().map(total).collect()
}
