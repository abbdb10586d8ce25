// SPDX-License-Identifier: MIT OR Apache-2.0
//! SVG plots: takes labelled reports or a comparison, gives the text of an SVG file. Text stays text, so no font is needed to draw.

mod bars;
mod lines;

pub use bars::policies;
pub use lines::{hit_and_waste, reliability, window};

use crate::report::Report;
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 480);
/// Told apart by people with any colour vision (Okabe and Ito, "Color Universal Design", 2008).
const COLOURS: [RGBColor; 5] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167), RGBColor(86, 86, 86)];
const FONT: &str = "sans-serif";

/// Drawing into text cannot fail for want of a file; a figure without a range can.
#[derive(Debug, thiserror::Error)]
#[error("plot {name}: {why}")]
pub struct PlotError {
    pub name: &'static str,
    pub why: String,
}

/// Draws with `draw` into a light sheet.
fn sheet(
    name: &'static str,
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend, plotters::coord::Shift>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = root.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&root));
        let drawn = drawn.and_then(|()| root.present().map_err(Into::into));
        drawn.map_err(|why: Box<dyn std::error::Error>| PlotError { name, why: why.to_string() })?;
    }
    Ok(text)
}

/// Width of the strip to the right of a chart that its legend has to itself: within the chart it would hide data.
const LEGEND_WIDTH: u32 = 180;

/// Names and colours, one below the other.
fn legend<'a>(
    area: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    entries: impl Iterator<Item = (&'a str, RGBColor)>,
) -> Result<(), Box<dyn std::error::Error>> {
    for (index, (name, colour)) in entries.enumerate() {
        let y = 52 + 22 * i32::try_from(index)?;
        area.draw(&Rectangle::new([(4, y - 5), (22, y + 5)], colour.filled()))?;
        area.draw(&Text::new(name.to_owned(), (30, y - 6), (FONT, 14)))?;
    }
    Ok(())
}

/// The end of the longest run, for time axes; an empty run still has an axis.
fn end(reports: &[&Report]) -> f64 {
    reports.iter().map(|r| r.seconds).fold(1.0, f64::max)
}
