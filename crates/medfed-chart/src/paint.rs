//! Colours by what they are for.
//!
//! Series take the palette of Okabe and Ito (2008), which the usual kinds of colour blindness tell apart;
//! dashes and markers tell the series apart in grey.

use std::borrow::Cow;

/// What a mark is drawn with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Paint {
    /// Titles and values.
    Ink,
    /// Labels of axes and notes.
    Muted,
    /// Lines of the axes.
    Axis,
    /// Lines of the grid.
    Grid,
    /// The ground, for gaps between marks.
    Surface,
    /// The part of a gauge or bar that is not filled.
    Track,
    /// The series with this number, counted from 0; colours repeat after [`SERIES`] of them.
    Series(usize),
    /// Within what was agreed.
    Good,
    /// Close to a limit.
    Warning,
    /// Beyond a limit.
    Alert,
    /// A cell of a heat map, from 0 (pale) to 1 (dark).
    Heat(f64),
    /// Text on such a cell.
    OnHeat(f64),
}

/// Colours before they repeat.
pub const SERIES: usize = 7;

const LIGHT: [&str; SERIES] = ["#0072b2", "#d55e00", "#009e73", "#aa4499", "#b27700", "#3d9bd6", "#4d4d4d"];

/// Pale to dark, monotone in lightness so that grey print keeps the order.
const HEAT: [[f64; 3]; 5] = [
    [247.0, 251.0, 255.0],
    [198.0, 219.0, 239.0],
    [107.0, 174.0, 214.0],
    [33.0, 113.0, 181.0],
    [8.0, 48.0, 107.0],
];

impl Paint {
    /// The class that a style sheet changes the colour by; none for colours that are part of the data.
    pub(crate) fn class(self) -> Option<Cow<'static, str>> {
        let name = match self {
            Self::Ink => "ink",
            Self::Muted => "muted",
            Self::Axis => "axis",
            Self::Grid => "grid",
            Self::Surface => "surface",
            Self::Track => "track",
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Alert => "alert",
            Self::Series(index) => return Some(format!("s{}", index % SERIES).into()),
            Self::Heat(_) | Self::OnHeat(_) => return None,
        };
        Some(name.into())
    }

    /// The colour on white, as `#rrggbb`.
    pub fn colour(self) -> Cow<'static, str> {
        let colour = match self {
            Self::Ink => "#1b1f24",
            Self::Muted => "#57606a",
            Self::Axis => "#8c959f",
            Self::Grid => "#e1e5ea",
            Self::Surface => "#ffffff",
            Self::Track => "#e8ecf0",
            Self::Good => "#00795a",
            Self::Warning => "#b27700",
            Self::Alert => "#c04000",
            Self::Series(index) => LIGHT[index % SERIES],
            Self::Heat(at) => return hex(heat(at)).into(),
            Self::OnHeat(at) => {
                if luminance(heat(at)) > 0.3 {
                    "#1b1f24"
                } else {
                    "#ffffff"
                }
            }
        };
        colour.into()
    }
}

fn heat(at: f64) -> [f64; 3] {
    let at = if at.is_finite() { at.clamp(0.0, 1.0) } else { 0.0 } * (HEAT.len() - 1) as f64;
    let below = (at.floor() as usize).min(HEAT.len() - 2);
    let share = at - below as f64;
    std::array::from_fn(|channel| {
        (HEAT[below + 1][channel] - HEAT[below][channel]).mul_add(share, HEAT[below][channel])
    })
}

fn hex(rgb: [f64; 3]) -> String {
    let [red, green, blue] = rgb.map(|channel| channel.round() as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Relative luminance of an sRGB colour (WCAG 2).
fn luminance(rgb: [f64; 3]) -> f64 {
    let linear = rgb.map(|channel| {
        let channel = channel / 255.0;
        if channel <= 0.040_45 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    });
    0.0722f64.mul_add(linear[2], 0.2126f64.mul_add(linear[0], 0.7152 * linear[1]))
}

/// What a page puts into its style sheet so that charts inside it follow light, dark and print. A page may
/// set the custom properties otherwise.
pub const STYLESHEET: &str = concat!(
    ":root{--chart-ink:#1b1f24;--chart-muted:#57606a;--chart-axis:#8c959f;--chart-grid:#e1e5ea;",
    "--chart-surface:#fff;--chart-track:#e8ecf0;--chart-good:#00795a;--chart-warning:#b27700;",
    "--chart-alert:#c04000;--chart-s0:#0072b2;--chart-s1:#d55e00;--chart-s2:#009e73;--chart-s3:#aa4499;",
    "--chart-s4:#b27700;--chart-s5:#3d9bd6;--chart-s6:#4d4d4d}\n",
    "@media screen and (prefers-color-scheme:dark){:root{--chart-ink:#e6edf3;--chart-muted:#a3adb8;",
    "--chart-axis:#768390;--chart-grid:#2d333b;--chart-surface:#0f141a;--chart-track:#262c34;",
    "--chart-good:#3fc495;--chart-warning:#e3a83b;--chart-alert:#ff8552;--chart-s0:#5ab0e8;",
    "--chart-s1:#ff8c42;--chart-s2:#35c495;--chart-s3:#dd8fd0;--chart-s4:#e3b23b;--chart-s5:#9ad2f7;",
    "--chart-s6:#c3ccd5}}\n",
    ".chart .f-ink{fill:var(--chart-ink)}.chart .f-muted{fill:var(--chart-muted)}",
    ".chart .f-axis{fill:var(--chart-axis)}.chart .f-grid{fill:var(--chart-grid)}",
    ".chart .f-surface{fill:var(--chart-surface)}.chart .f-track{fill:var(--chart-track)}",
    ".chart .f-good{fill:var(--chart-good)}.chart .f-warning{fill:var(--chart-warning)}",
    ".chart .f-alert{fill:var(--chart-alert)}.chart .f-s0{fill:var(--chart-s0)}",
    ".chart .f-s1{fill:var(--chart-s1)}.chart .f-s2{fill:var(--chart-s2)}.chart .f-s3{fill:var(--chart-s3)}",
    ".chart .f-s4{fill:var(--chart-s4)}.chart .f-s5{fill:var(--chart-s5)}.chart .f-s6{fill:var(--chart-s6)}\n",
    ".chart .l-ink{stroke:var(--chart-ink)}.chart .l-muted{stroke:var(--chart-muted)}",
    ".chart .l-axis{stroke:var(--chart-axis)}.chart .l-grid{stroke:var(--chart-grid)}",
    ".chart .l-surface{stroke:var(--chart-surface)}.chart .l-track{stroke:var(--chart-track)}",
    ".chart .l-good{stroke:var(--chart-good)}.chart .l-warning{stroke:var(--chart-warning)}",
    ".chart .l-alert{stroke:var(--chart-alert)}.chart .l-s0{stroke:var(--chart-s0)}",
    ".chart .l-s1{stroke:var(--chart-s1)}.chart .l-s2{stroke:var(--chart-s2)}",
    ".chart .l-s3{stroke:var(--chart-s3)}.chart .l-s4{stroke:var(--chart-s4)}",
    ".chart .l-s5{stroke:var(--chart-s5)}.chart .l-s6{stroke:var(--chart-s6)}\n",
);

#[cfg(test)]
mod tests {
    use super::*;

    const PAINTS: [Paint; 9] = [
        Paint::Ink,
        Paint::Muted,
        Paint::Axis,
        Paint::Grid,
        Paint::Surface,
        Paint::Track,
        Paint::Good,
        Paint::Warning,
        Paint::Alert,
    ];

    #[test]
    fn the_style_sheet_knows_every_paint_and_agrees_with_the_colours() {
        for paint in PAINTS.into_iter().chain((0..SERIES).map(Paint::Series)) {
            let class = paint.class().unwrap();
            let colour = if paint == Paint::Surface { "#fff".into() } else { paint.colour() };
            assert!(STYLESHEET.contains(&format!("--chart-{class}:{colour}")), "{class}");
            for kind in ['f', 'l'] {
                assert!(STYLESHEET.contains(&format!(".chart .{kind}-{class}{{")), "{kind}-{class}");
            }
        }
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let channels = |hex: &str| {
            let at = |index: usize| f64::from(u8::from_str_radix(&hex[index..index + 2], 16).unwrap());
            luminance([at(1), at(3), at(5)])
        };
        let (a, b) = (channels(a), channels(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_and_lines_stand_out() {
        let white = "#ffffff";
        for paint in [Paint::Ink, Paint::Muted, Paint::Good, Paint::Alert] {
            assert!(contrast(&paint.colour(), white) >= 4.5, "{paint:?}");
        }
        for paint in (0..SERIES).map(Paint::Series) {
            assert!(contrast(&paint.colour(), white) >= 3.0, "{paint:?}");
        }
        let steps = (0..=100).map(|step| f64::from(step) / 100.0);
        assert!(
            steps.clone().all(|at| contrast(&Paint::Heat(at).colour(), &Paint::OnHeat(at).colour()) >= 4.0)
        );
        assert!(steps.map(|at| luminance(heat(at))).is_sorted_by(|a, b| a >= b), "pale to dark");
    }
}
