//! Between PyTorch's weight layout `[out, in, rows, columns]` and the kernels' layouts.

use super::tile;
use rayon::prelude::*;

/// Sizes of a convolution's weight, and the part of its kernel that can meet the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WeightShape {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Outputs and inputs in memory.
    pub(crate) padded_outputs: usize,
    pub(crate) padded_inputs: usize,
    /// The whole kernel.
    pub(crate) kernel: [usize; 2],
    /// First tap in use along each axis.
    pub(crate) first: [usize; 2],
    /// Taps in use along each axis.
    pub(crate) taps: [usize; 2],
}

impl WeightShape {
    fn index(&self, output: usize, input: usize, row: usize, column: usize) -> usize {
        ((output * self.inputs + input) * self.kernel[0] + row) * self.kernel[1] + column
    }

    /// Floats of one packed weight.
    pub(crate) fn packed_len(&self) -> usize {
        self.taps[0] * self.taps[1] * self.padded_inputs * self.padded_outputs
    }

    /// Packs for the forward correlation: panels of outputs; the depth is `[row, column, input]`.
    pub(crate) fn pack_forward(&self, weight: &[f32], out: &mut [f32]) {
        let depth = self.taps[0] * self.taps[1] * self.padded_inputs;
        for_panels(out, self.padded_outputs, depth, |first, width, panel| {
            if self.inputs < self.padded_inputs || first + width > self.outputs {
                panel.fill(0.0);
            }
            for lane in 0..width.min(self.outputs.saturating_sub(first)) {
                for input in 0..self.inputs {
                    let mut from = self.index(first + lane, input, self.first[0], self.first[1]);
                    for row in 0..self.taps[0] {
                        for column in 0..self.taps[1] {
                            let k = (row * self.taps[1] + column) * self.padded_inputs + input;
                            panel[k * width + lane] = weight[from + column];
                        }
                        from += self.kernel[1];
                    }
                }
            }
        });
    }

    /// Packs for the correlation that carries gradients back to one phase of the input: panels of
    /// inputs; the depth is `[row, column, output]` over the listed taps.
    pub(crate) fn pack_backward(&self, weight: &[f32], rows: &[usize], columns: &[usize], out: &mut [f32]) {
        let depth = rows.len() * columns.len() * self.padded_outputs;
        for_panels(out, self.padded_inputs, depth, |first, width, panel| {
            if self.outputs < self.padded_outputs || first + width > self.inputs {
                panel.fill(0.0);
            }
            let lanes = width.min(self.inputs.saturating_sub(first));
            for output in 0..self.outputs {
                for (i, row) in rows.iter().enumerate() {
                    for (j, column) in columns.iter().enumerate() {
                        let k = (i * columns.len() + j) * self.padded_outputs + output;
                        let from = self.index(output, first, *row, *column);
                        let stride = self.kernel[0] * self.kernel[1];
                        let values = weight[from..].iter().step_by(stride);
                        panel[k * width..k * width + lanes].iter_mut().zip(values).for_each(|(p, v)| *p = *v);
                    }
                }
            }
        });
    }

    /// Writes a gradient `[row, column, input, output]` as PyTorch lays it out; taps that never meet the
    /// map have a zero gradient.
    pub(crate) fn unpack(&self, gradient: &[f32], out: &mut [f32]) {
        let per_output = self.inputs * self.kernel[0] * self.kernel[1];
        out.par_chunks_mut(per_output * 16).enumerate().for_each(|(block, out)| {
            if self.taps != self.kernel {
                out.fill(0.0);
            }
            let outputs = out.len() / per_output;
            for input in 0..self.inputs {
                for row in 0..self.taps[0] {
                    for column in 0..self.taps[1] {
                        let k = (row * self.taps[1] + column) * self.padded_inputs + input;
                        let from = &gradient[k * self.padded_outputs + block * 16..][..outputs];
                        let to = self.index(0, input, self.first[0] + row, self.first[1] + column);
                        let slots = out[to..].iter_mut().step_by(per_output);
                        slots.zip(from).for_each(|(slot, value)| *slot = *value);
                    }
                }
            }
        });
    }
}

fn for_panels(out: &mut [f32], width: usize, depth: usize, fill: impl Fn(usize, usize, &mut [f32]) + Sync) {
    let mut rest = out;
    let mut parts = Vec::new();
    for (first, width) in tile::panels(width) {
        let (part, after) = rest.split_at_mut(depth * width);
        parts.push((first, width, part));
        rest = after;
    }
    parts.into_par_iter().for_each(|(first, width, part)| fill(first, width, part));
}
