//! The geometry of a convolution: which taps can meet the map, where they lie in memory, and the phases
//! in which gradients go back through a stride.

use super::cost::Sizes;
use super::plan::Mode;
use crate::kernels::convolution::{Convolution, WeightGradient};
use crate::kernels::correlate::{Correlation, Grid};
use crate::kernels::outer::OuterSum;
use crate::kernels::pack::WeightShape;
use crate::kernels::{LANES, Map, padded};
use crate::network::{MapShape, Window};

/// How a layer's part of the per-unit norms is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Not at all: the gradient over all images is summed at once, or the weight is frozen.
    None,
    /// The gradient of each unit is computed and kept until the clip factors are known.
    Instantiate,
    /// The norm comes from Gram matrices; the sum is computed once the clip factors are known.
    Ghost,
}

/// One phase of the way back: the input positions whose distance from the first is a multiple of the
/// stride, and the taps that reach them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Phase {
    /// Taps, last first, so that they meet ascending positions of the output.
    pub(super) taps: [Vec<usize>; 2],
    pub(super) kernel: Convolution,
    /// Floats of its weights, packed for the direct way.
    pub(super) packed_len: usize,
}

/// A convolution, or a linear layer as a convolution of one pixel.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// View of the weight.
    pub(super) weight: usize,
    /// View of the bias and its place among the small parameters.
    pub(super) bias: Option<(usize, usize)>,
    pub(super) shape: WeightShape,
    pub(super) method: Method,
    pub(super) forward: Option<Convolution>,
    pub(super) backward: Vec<Phase>,
    /// The weight gradient; absent if the weight is frozen.
    pub(super) outer: Option<WeightGradient>,
    stride: [usize; 2],
    /// Padding before the first tap in use.
    padding: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
}

/// Nanoseconds per floating-point operation of a Gram matrix.
const GRAM: f64 = 0.012;
/// Nanoseconds per element that is transposed for one.
const TRANSPOSE: f64 = 0.4;
/// Nanoseconds per element of a gradient that is written, kept and added.
const KEEP: f64 = 0.6;

impl Layer {
    /// `inputs` are the input's channels in memory.
    pub(super) fn new(
        window: Window,
        input: MapShape,
        inputs: usize,
        output: MapShape,
        weight: usize,
        bias: Option<(usize, usize)>,
    ) -> Self {
        let (sizes, outputs) = ([input.height, input.width], [output.height, output.width]);
        let mut live = [0..0, 0..0];
        for axis in 0..2 {
            // A tap is alive if it meets the map at some position of the window.
            let alive = |tap: &usize| {
                (0..outputs[axis]).any(|position| {
                    let at = position * window.stride[axis] + tap;
                    at >= window.padding[axis] && at < window.padding[axis] + sizes[axis]
                })
            };
            let first = (0..window.kernel[axis]).find(alive).unwrap_or(0);
            let last = (0..window.kernel[axis]).rev().find(alive).unwrap_or(0);
            live[axis] = first..last + 1;
        }
        let shape = WeightShape {
            outputs: output.channels,
            inputs: input.channels,
            padded_outputs: padded(output.channels),
            padded_inputs: inputs,
            kernel: window.kernel,
            first: [live[0].start, live[1].start],
            taps: [live[0].len(), live[1].len()],
        };
        Self {
            weight,
            bias,
            shape,
            method: Method::None,
            forward: None,
            backward: Vec::new(),
            outer: None,
            stride: window.stride,
            padding: std::array::from_fn(|axis| window.padding[axis] - live[axis].start),
            input: sizes,
            output: outputs,
        }
    }

    /// Zeros that the input needs on each side.
    pub(super) fn input_halo(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let end = (self.output[axis] - 1) * self.stride[axis] + self.shape.taps[axis];
            self.padding[axis].max(end.saturating_sub(self.padding[axis] + self.input[axis]))
        })
    }

    /// Zeros that the output's gradient needs on each side for the way back.
    pub(super) fn output_halo(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let mut halo = 0;
            for phase in 0..self.stride[axis].min(self.input[axis]) {
                let (taps, base) = self.phase(axis, phase);
                if !taps.is_empty() {
                    let positions = (self.input[axis] - phase).div_ceil(self.stride[axis]);
                    let end = base + (positions + taps.len() - 1).cast_signed();
                    let beyond = end - self.output[axis].cast_signed();
                    halo = halo.max(-base).max(beyond);
                }
            }
            halo.cast_unsigned()
        })
    }

    /// Taps (within those in use, last first) that reach the input positions `phase`, `phase + stride`, …
    /// along an axis, and the output position that the first of them meets at `phase`.
    fn phase(&self, axis: usize, phase: usize) -> (Vec<usize>, isize) {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let taps: Vec<usize> = (0..self.shape.taps[axis])
            .rev()
            .filter(|tap| (phase + padding + stride * self.shape.taps[axis] - tap).is_multiple_of(stride))
            .collect();
        let base = taps.first().map_or(0, |tap| {
            ((phase + padding).cast_signed() - tap.cast_signed()).div_euclid(stride.cast_signed())
        });
        (taps, base)
    }

    pub(super) fn set_forward(&mut self, x: &Map, y: &Map) {
        let correlation = Correlation {
            source: self.input_grid(x),
            target: grid(y),
            rows: self.output[0],
            columns: self.output[1],
            tap_rows: self.shape.taps[0],
            tap_stride: x.row(),
            run: self.run(x),
            width: self.shape.padded_outputs,
        };
        let (inputs, outputs) = (self.shape.padded_inputs, self.shape.padded_outputs);
        let sizes = self.in_tiles().then_some(Sizes { map: self.output, inputs, outputs });
        self.forward = Some(Convolution::new(correlation, sizes.and_then(Sizes::side_forward)));
    }

    /// Rows and columns of its output.
    #[cfg(feature = "measure")]
    pub(super) fn output(&self) -> [usize; 2] {
        self.output
    }

    /// Whether Winograd's tiles fit.
    pub(super) fn in_tiles(&self) -> bool {
        self.shape.taps == [3, 3] && self.stride == [1, 1] && self.shape.padded_inputs.is_multiple_of(LANES)
    }

    fn run(&self, x: &Map) -> usize {
        assert!(self.shape.taps[1] == 1 || x.pitch == x.channels, "a convolution reads a compact map");
        self.shape.taps[1] * x.channels
    }

    /// The first tap's places in the input.
    fn input_grid(&self, x: &Map) -> Grid {
        Grid {
            first: x.first() - self.padding[0] * x.row() - self.padding[1] * x.pitch,
            image: x.image(),
            row: self.stride[0] * x.row(),
            column: self.stride[1] * x.pitch,
        }
    }

    /// Places of the input, the output's gradient and, where it is wanted, the input's gradient.
    pub(super) fn set_backward(&mut self, x: &Map, dy: &Map, dx: Option<&Map>) {
        let (inputs, outputs) = (self.shape.padded_inputs, self.shape.padded_outputs);
        let sum = OuterSum {
            source: self.input_grid(x),
            output: grid(dy),
            rows: self.output[0],
            columns: self.output[1],
            tap_rows: self.shape.taps[0],
            tap_stride: x.row(),
            run: self.run(x),
            width: self.shape.padded_outputs,
        };
        let sizes = self.in_tiles().then_some(Sizes { map: self.output, inputs, outputs });
        // A ghost norm is that of the definition's gradient. Tiles would add another one, rounded otherwise,
        // to the sum, and no proof says by how much the two can differ: what is added is what was measured.
        let side = sizes.and_then(|sizes| match self.method {
            Method::None => sizes.side_sum(),
            Method::Instantiate => sizes.side_per_unit(),
            Method::Ghost => None,
        });
        self.outer = Some(WeightGradient::new(sum, side));
        let sizes = self.in_tiles().then_some(Sizes { map: self.input, inputs: outputs, outputs: inputs });
        let Some(dx) = dx else { return };
        for row in 0..self.stride[0].min(self.input[0]) {
            for column in 0..self.stride[1].min(self.input[1]) {
                let (rows, base_row) = self.phase(0, row);
                let (columns, base_column) = self.phase(1, column);
                if rows.is_empty() || columns.is_empty() {
                    continue;
                }
                let shift = base_row * dy.row().cast_signed() + base_column * dy.pitch.cast_signed();
                let source = Grid { first: (dy.first().cast_signed() + shift).cast_unsigned(), ..grid(dy) };
                let target = Grid {
                    first: dx.first() + row * dx.row() + column * dx.pitch,
                    image: dx.image(),
                    row: self.stride[0] * dx.row(),
                    column: self.stride[1] * dx.pitch,
                };
                let correlation = Correlation {
                    source,
                    target,
                    rows: (self.input[0] - row).div_ceil(self.stride[0]),
                    columns: (self.input[1] - column).div_ceil(self.stride[1]),
                    tap_rows: rows.len(),
                    tap_stride: dy.row(),
                    run: columns.len() * dy.channels,
                    width: self.shape.padded_inputs,
                };
                let kernel = Convolution::new(correlation, sizes.and_then(Sizes::side_forward));
                let packed_len = correlation.depth() * correlation.width;
                self.backward.push(Phase { taps: [rows, columns], kernel, packed_len });
            }
        }
    }

    /// Whether some input positions are reached by no tap.
    pub(super) fn leaves_gaps(&self) -> bool {
        let phases = self.stride[0].min(self.input[0]) * self.stride[1].min(self.input[1]);
        self.backward.len() < phases
    }

    /// Chooses the cheaper way to the per-unit norms by estimated time.
    pub(super) fn choose_method(&mut self, mode: Mode<'_>, trained: bool) {
        let Mode::Private { unit_images, .. } = mode else { return };
        if !trained {
            return;
        }
        let positions = (self.output[0] * self.output[1]) as f64;
        let depth = (self.shape.taps[0] * self.shape.taps[1] * self.shape.padded_inputs) as f64;
        let width = self.shape.padded_outputs as f64;
        // Per image; a unit's Gram matrices are over the positions of all its images.
        let ghost = positions * (depth + width) * (2.0 * positions * unit_images * GRAM + TRANSPOSE);
        let keep = depth * width * KEEP / unit_images;
        self.method = if ghost < keep { Method::Ghost } else { Method::Instantiate };
    }
}

fn grid(map: &Map) -> Grid {
    Grid { first: map.first(), image: map.image(), row: map.row(), column: map.pitch }
}
