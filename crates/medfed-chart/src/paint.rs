//! Colours by what they are for.
//!
//! Series take colours of Okabe and Ito (2008), a little darker so that lines stand out on white, and a
//! purple of Tol (2021): the usual kinds of colour blindness tell them apart. Dashes and markers tell the
//! series apart in grey.

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
                // Where black and white stand out equally, at 4.58 to 1.
                if luminance(heat(at)) > 0.179 { "#000000" } else { "#ffffff" }
            }
        };
        colour.into()
    }

    /// The colour on a dark ground.
    pub(crate) fn dark(self) -> Cow<'static, str> {
        let colour = match self {
            Self::Ink => "#e6edf3",
            Self::Muted => "#a3adb8",
            Self::Axis => "#768390",
            Self::Grid => "#2d333b",
            Self::Surface => DARK_GROUND,
            Self::Track => "#262c34",
            Self::Good => "#3fc495",
            Self::Warning => "#e3a83b",
            Self::Alert => "#ff8552",
            Self::Series(index) => DARK[index % SERIES],
            Self::Heat(_) | Self::OnHeat(_) => return self.colour(),
        };
        colour.into()
    }
}

const DARK_GROUND: &str = "#0f141a";

/// The same series on a dark ground.
const DARK: [&str; SERIES] = ["#5ab0e8", "#ff8c42", "#35c495", "#dd8fd0", "#e3b23b", "#9ad2f7", "#c3ccd5"];

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

/// Paints whose colour depends on the mode of the viewer.
const THEMED: [Paint; 9 + SERIES] = [
    Paint::Ink,
    Paint::Muted,
    Paint::Axis,
    Paint::Grid,
    Paint::Surface,
    Paint::Track,
    Paint::Good,
    Paint::Warning,
    Paint::Alert,
    Paint::Series(0),
    Paint::Series(1),
    Paint::Series(2),
    Paint::Series(3),
    Paint::Series(4),
    Paint::Series(5),
    Paint::Series(6),
];

/// What a page puts into its style sheet so that charts inside it follow light, dark and print. The page may
/// set the custom properties (`--chart-ink` and so on) otherwise.
pub fn stylesheet() -> String {
    let colours = |of: fn(Paint) -> Cow<'static, str>| -> String {
        THEMED
            .iter()
            .filter_map(|paint| Some(format!("--chart-{}:{};", paint.class()?, of(*paint))))
            .collect()
    };
    let rule = |class: Cow<'static, str>| {
        format!(
            ".chart .f-{class}{{fill:var(--chart-{class})}}.chart .l-{class}{{stroke:var(--chart-{class})}}\n"
        )
    };
    let rules: Vec<String> = THEMED.iter().filter_map(|paint| paint.class()).map(rule).collect();
    format!(
        ":root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n{}",
        colours(Paint::colour),
        colours(Paint::dark),
        rules.concat()
    )
}

/// What a file brings along: dark colours for viewers that are dark. Without custom properties, which not
/// every program knows.
pub(crate) fn dark_rules() -> String {
    let rule = |paint: &Paint| {
        let (class, colour) = (paint.class()?, paint.dark());
        Some(format!(".f-{class}{{fill:{colour}}}.l-{class}{{stroke:{colour}}}"))
    };
    let rules: String = THEMED.iter().filter_map(rule).collect();
    format!("@media screen and (prefers-color-scheme:dark){{{rules}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_and_a_file_know_every_paint() {
        let (page, file) = (stylesheet(), dark_rules());
        for paint in THEMED {
            let class = paint.class().unwrap();
            for kind in ['f', 'l'] {
                assert!(page.contains(&format!(".chart .{kind}-{class}{{")), "{kind}-{class}");
                assert!(file.contains(&format!(".{kind}-{class}{{")), "{kind}-{class}");
            }
        }
        assert!(!file.contains("var("));
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
        for paint in THEMED {
            let least = match paint {
                Paint::Ink | Paint::Muted | Paint::Good | Paint::Alert => 4.5,
                Paint::Series(_) | Paint::Axis | Paint::Warning => 3.0,
                _ => 1.0,
            };
            assert!(contrast(&paint.colour(), "#ffffff") >= least, "{paint:?}");
            assert!(contrast(&paint.dark(), DARK_GROUND) >= least, "{paint:?} in the dark");
        }
        let steps = (0..=100).map(|step| f64::from(step) / 100.0);
        assert!(
            steps.clone().all(|at| contrast(&Paint::Heat(at).colour(), &Paint::OnHeat(at).colour()) >= 4.5)
        );
        assert!(steps.map(|at| luminance(heat(at))).is_sorted_by(|a, b| a >= b), "pale to dark");
    }
}
