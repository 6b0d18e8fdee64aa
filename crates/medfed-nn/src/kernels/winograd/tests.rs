//! Tiles against the definition in double precision, on every vector unit of this machine.

use super::gradient::{Tiles, WinogradSum};
use super::*;
use crate::kernels::correlate::Grid;
use crate::kernels::outer::OuterSum;

/// Sizes of a convolution with one row and column of padding.
#[derive(Debug, Clone, Copy)]
struct Case {
    images: usize,
    map: [usize; 2],
    inputs: usize,
    outputs: usize,
}

/// Maps that tiles cover exactly and not, narrow ones, several panels, several tasks.
const CASES: [Case; 6] = [
    Case { images: 2, map: [4, 4], inputs: 16, outputs: 16 },
    Case { images: 3, map: [7, 5], inputs: 32, outputs: 48 },
    Case { images: 1, map: [2, 9], inputs: 16, outputs: 80 },
    Case { images: 1, map: [3, 2], inputs: 144, outputs: 32 },
    Case { images: 5, map: [14, 14], inputs: 16, outputs: 64 },
    Case { images: 1, map: [47, 46], inputs: 16, outputs: 16 },
];

/// A fixed series of values of about unit size.
fn values(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) as f32 * 0.37).sin() * 1.7).collect()
}

impl Case {
    fn pixels(self) -> usize {
        self.map[0] * self.map[1]
    }

    /// Grids of a map of `channels` with a halo of one, and of one without, at position (0, 0) of what is
    /// read and written.
    fn grid(self, channels: usize, halo: usize) -> Grid {
        let row = (self.map[1] + 2 * halo) * channels;
        Grid { first: 0, image: (self.map[0] + 2 * halo) * row, row, column: channels }
    }

    fn correlation(self) -> Correlation {
        let source = self.grid(self.inputs, 1);
        Correlation {
            source,
            target: self.grid(self.outputs, 0),
            rows: self.map[0],
            columns: self.map[1],
            tap_rows: 3,
            tap_stride: source.row,
            run: 3 * self.inputs,
            width: self.outputs,
        }
    }

    fn outer(self) -> OuterSum {
        let Correlation { source, target, rows, columns, tap_rows, tap_stride, run, width } =
            self.correlation();
        OuterSum { source, output: target, rows, columns, tap_rows, tap_stride, run, width }
    }

    fn source(self) -> Vec<f32> {
        values(self.images * self.correlation().source.image, 1)
    }

    fn output(self) -> Vec<f32> {
        values(self.images * self.pixels() * self.outputs, 2)
    }

    /// Weights `[tap, input, output]`.
    fn weights(self) -> Vec<f32> {
        values(9 * self.inputs * self.outputs, 3)
    }

    /// The same, panel after panel, for panels of at most `limit` outputs.
    fn packed(self, limit: usize) -> Vec<f32> {
        let weights = self.weights();
        let mut packed = Vec::new();
        for first in (0..self.outputs).step_by(limit) {
            for row in weights.chunks_exact(self.outputs) {
                packed.extend_from_slice(&row[first..self.outputs.min(first + limit)]);
            }
        }
        packed
    }

    /// Calls `add` with each tap's row of weights, and the places of its input pixel and of the result.
    fn each_product(self, mut add: impl FnMut(usize, usize, usize)) {
        let grid = self.correlation().source;
        for image in 0..self.images {
            for row in 0..self.map[0] {
                for column in 0..self.map[1] {
                    let position = (image * self.map[0] + row) * self.map[1] + column;
                    for tap in 0..9 {
                        add(tap, grid.at(image, row + tap / 3, column + tap % 3), position * self.outputs);
                    }
                }
            }
        }
    }

    /// The correlation by definition.
    fn expected(self) -> Vec<f64> {
        let (source, weights) = (self.source(), self.weights());
        let mut expected = vec![0f64; self.images * self.pixels() * self.outputs];
        self.each_product(|tap, from, to| {
            for k in 0..self.inputs {
                let row = &weights[(tap * self.inputs + k) * self.outputs..][..self.outputs];
                for (sum, w) in expected[to..].iter_mut().zip(row) {
                    *sum += f64::from(source[from + k]) * f64::from(*w);
                }
            }
        });
        expected
    }

    /// The weight gradient by definition, over all images.
    fn expected_gradient(self) -> Vec<f64> {
        let (source, output) = (self.source(), self.output());
        let mut expected = vec![0f64; self.outer().len()];
        self.each_product(|tap, from, to| {
            for k in 0..self.inputs {
                let row = &mut expected[(tap * self.inputs + k) * self.outputs..][..self.outputs];
                for (sum, y) in row.iter_mut().zip(&output[to..]) {
                    *sum += f64::from(source[from + k]) * f64::from(*y);
                }
            }
        });
        expected
    }
}

/// Largest difference, relative to the root of the mean square.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
    let errors = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs());
    errors.fold(0.0, f64::max) / scale
}

/// What rounding may do: sums of some hundred products in single precision, and for tiles of four the
/// factors up to 8 of their transformations.
fn tolerance(side: Side) -> f64 {
    match side {
        Side::Two => 1e-5,
        Side::Four => 5e-5,
    }
}

#[test]
fn tiles_agree_with_the_definition() {
    for case in CASES {
        let expected = case.expected();
        for side in [Side::Two, Side::Four] {
            let tiles = Winograd::new(case.correlation(), side).unwrap();
            let mut weights = vec![f32::NAN; tiles.weights_len()];
            tiles.transform_weights(&case.packed(tile::panel_limit()), &mut weights);
            let source = case.source();
            let mut found = vec![f32::NAN; expected.len()];
            tiles.apply(case.images, &weights, Start::Zero, &source, &mut found);
            let zero = error(&found, &expected);
            assert!(zero < tolerance(side), "{case:?} {side:?}: {zero}");

            let mut twice = found.clone();
            tiles.apply(case.images, &weights, Start::Accumulate, &source, &mut twice);
            let bias = values(case.outputs, 4);
            let mut biased = found.clone();
            tiles.apply(case.images, &weights, Start::Bias(&bias), &source, &mut biased);
            for (i, found) in found.iter().enumerate() {
                assert_eq!(twice[i], found + found);
                assert_eq!(biased[i], found + bias[i % case.outputs]);
            }
        }
    }
}

#[test]
fn weight_gradients_agree_with_the_definition() {
    for case in CASES {
        let (source, output) = (case.source(), case.output());
        let expected = case.expected_gradient();
        for side in [Side::Two, Side::Four] {
            let sum = WinogradSum::new(case.outer(), side).unwrap();
            let mut found = vec![0.0; expected.len()];
            sum.add(0..case.images, &source, &output, &mut found, &mut Tiles::default());
            let of_all = error(&found, &expected);
            assert!(of_all < tolerance(side), "{case:?} {side:?}: {of_all}");

            // One unit of all images but the first, and its norm.
            let unit = 1.min(case.images - 1)..case.images;
            let mut own = vec![f32::NAN; expected.len()];
            let mut norms = [1.0];
            sum.per_unit(std::slice::from_ref(&unit), &source, &output, &mut own, &mut norms);
            let mut direct = vec![0.0; expected.len()];
            case.outer().add(unit, &source, &output, &mut direct);
            let direct: Vec<f64> = direct.iter().map(|g| f64::from(*g)).collect();
            assert!(error(&own, &direct) < 2.0 * tolerance(side));
            let squared: f64 = own.iter().map(|g| f64::from(*g).powi(2)).sum();
            assert!((norms[0] - 1.0 - squared).abs() < 1e-6 * squared);
        }
    }
}

/// The tasks of one vector unit after another, on panels of 16, which all of them pack alike.
#[test]
fn all_vector_units_agree_with_the_definition() {
    let case = Case { images: 2, map: [5, 6], inputs: 32, outputs: 16 };
    let expected = case.expected();
    for side in [Side::Two, Side::Four] {
        let of = Winograd::new(case.correlation(), side).unwrap();
        let (packed, source) = (case.packed(16), case.source());
        let tiles = 0..case.images * side.tiles(case.map).iter().product::<usize>();
        let run_on = |prepare: &dyn Fn(transform::Weights<'_>), with: &dyn Fn(Task<'_>)| {
            let mut weights = vec![f32::NAN; of.weights_len()];
            prepare(transform::Weights { side, packed: &packed, inputs: 32, width: 16, out: &mut weights });
            let mut found = vec![f32::NAN; expected.len()];
            let (target, scratch) = (Shared::of(&mut found), &mut Scratch::default());
            let start = Start::Zero;
            let tiles = tiles.clone();
            with(Task { of: &of, tiles, weights: &weights, start, source: &source, target, scratch });
            found
        };
        let arch = pulp::Arch::new();
        let mut all = vec![run_on(&|w| w.with_simd(pulp::Scalar), &|task| task.with_simd(pulp::Scalar))];
        all.push(run_on(&|w| arch.dispatch(w), &|task| arch.dispatch(task)));
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = pulp::x86::V3::try_new() {
            all.push(run_on(&|w| Simd::vectorize(unit, w), &|task| Simd::vectorize(unit, task)));
        }
        for found in all {
            assert!(error(&found, &expected) < tolerance(side));
        }
    }
}

#[test]
fn what_is_not_finite_stays_within_its_image() {
    let case = Case { images: 3, map: [7, 7], inputs: 16, outputs: 16 };
    let mut source = case.source();
    let image = case.correlation().source.image;
    source[image + 5] = f32::NAN;
    for side in [Side::Two, Side::Four] {
        let tiles = Winograd::new(case.correlation(), side).unwrap();
        let mut weights = vec![0.0; tiles.weights_len()];
        tiles.transform_weights(&case.packed(tile::panel_limit()), &mut weights);
        let mut found = vec![0.0; case.images * case.pixels() * case.outputs];
        tiles.apply(case.images, &weights, Start::Zero, &source, &mut found);
        let finite: Vec<bool> = found
            .chunks_exact(case.pixels() * case.outputs)
            .map(|image| image.iter().all(|v| v.is_finite()))
            .collect();
        assert_eq!(finite, [true, false, true]);
    }
}

#[test]
fn other_convolutions_have_no_tiles() {
    let fits = CASES[0].correlation();
    let (column, row) = (fits.source.column, fits.source.row);
    for other in [
        Correlation { tap_rows: 1, ..fits },
        Correlation { run: fits.run / 3, ..fits },
        Correlation { source: Grid { column: 2 * column, ..fits.source }, ..fits },
        Correlation { source: Grid { row: 2 * row, ..fits.source }, ..fits },
        Correlation { source: Grid { column: 3, ..fits.source }, run: 9, ..fits },
    ] {
        assert!(Winograd::new(other, Side::Two).is_none(), "{other:?}");
    }
}
