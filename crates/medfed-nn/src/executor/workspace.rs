//! Working memory, kept from call to call, and the weights in the kernels' layout.

use super::geometry::Method;
use super::plan::Plan;
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::winograd::gradient::Tiles;
use crate::network::Network;
use medfed_types::ParameterLayout;
use std::ops::Range;

/// A layer's weights as the kernels read them.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) forward: Vec<f32>,
    /// Per phase of the way back.
    pub(super) backward: Vec<Vec<f32>>,
    /// Padded; empty if the layer has none.
    pub(super) bias: Vec<f32>,
}

/// GroupNorm's parameters, padded.
#[derive(Debug, Default)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// Memory for one micro-batch.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) slots: Vec<Vec<f32>>,
    pub(super) statistics: Vec<Vec<f32>>,
    pub(super) winners: Vec<Vec<f32>>,
    /// Dropout's factors, `[image, feature]`.
    pub(super) factors: Vec<f32>,
    /// Per-unit gradients of the layers that keep them.
    pub(super) kept: Vec<Vec<f32>>,
    /// For weight gradients that are summed over all images by tiles.
    pub(super) tiles: Tiles,
    /// Gradients of small parameters, one row per image.
    pub(super) small: Vec<f32>,
    pub(super) packed: Vec<Packed>,
    pub(super) affine: Vec<Affine>,
}

impl Workspace {
    /// Makes room for `images` images and packs the parameters.
    pub(super) fn prepare(&mut self, plan: &Plan, network: &Network, params: &[f32], images: usize) {
        resize_each(&mut self.slots, plan.slots.iter().map(|size| size * images));
        let statistics = plan.norms.iter().map(|norm| images * GroupNorm::statistics_len(norm.channels));
        resize_each(&mut self.statistics, statistics);
        resize_each(&mut self.winners, plan.pools.iter().map(|pool| pool.len * images));
        self.factors.resize(plan.features * images, 0.0);
        let kept = plan.layers.iter().map(|layer| match layer.method {
            Method::Instantiate => layer.shape.packed_len() * images,
            Method::None | Method::Ghost => 0,
        });
        resize_each(&mut self.kept, kept);
        self.small.resize(plan.small_len * images, 0.0);
        self.pack(plan, network.layout(), params);
    }

    fn pack(&mut self, plan: &Plan, layout: &ParameterLayout, params: &[f32]) {
        let values = |view: usize| &params[layout.views()[view].range()];
        self.packed.resize_with(plan.layers.len(), Packed::default);
        let mut scratch = Vec::new();
        for (layer, packed) in plan.layers.iter().zip(&mut self.packed) {
            let weight = values(layer.weight);
            scratch.resize(layer.shape.packed_len(), 0.0);
            layer.shape.pack_forward(weight, &mut scratch);
            let forward = layer.forward.as_ref().expect("every layer has a way forward");
            forward.prepare(&mut scratch, &mut packed.forward);
            packed.backward.resize_with(layer.backward.len(), Vec::new);
            for (phase, out) in layer.backward.iter().zip(&mut packed.backward) {
                scratch.resize(phase.packed_len, 0.0);
                let [rows, columns] = [0, 1].map(|axis| {
                    phase.taps[axis].iter().map(|tap| layer.shape.first[axis] + tap).collect::<Vec<_>>()
                });
                layer.shape.pack_backward(weight, &rows, &columns, &mut scratch);
                phase.kernel.prepare(&mut scratch, out);
            }
            packed.bias.clear();
            if let Some((bias, _)) = layer.bias {
                packed.bias.extend_from_slice(values(bias));
                packed.bias.resize(layer.shape.padded_outputs, 0.0);
            }
        }
        self.affine.resize_with(plan.norms.len(), Affine::default);
        for (norm, affine) in plan.norms.iter().zip(&mut self.affine) {
            for (view, out) in [(norm.weight, &mut affine.scale), (norm.bias, &mut affine.shift)] {
                out.clear();
                out.extend_from_slice(values(view));
                out.resize(norm.channels, 0.0);
            }
        }
    }
}

fn resize_each(buffers: &mut Vec<Vec<f32>>, sizes: impl ExactSizeIterator<Item = usize>) {
    buffers.resize_with(sizes.len(), Vec::new);
    for (buffer, size) in buffers.iter_mut().zip(sizes) {
        buffer.resize(size, 0.0);
    }
}

/// A sum of gradients in the kernels' layout.
#[derive(Debug)]
pub(super) struct Accumulator {
    /// Per layer `[depth, width]`; empty where the weight is frozen.
    pub(super) layers: Vec<Vec<f32>>,
    /// Biases and GroupNorm's parameters.
    pub(super) small: Vec<f32>,
    /// The trained ranges of `small`.
    pub(super) small_ranges: Vec<Range<usize>>,
}

impl Accumulator {
    pub(super) fn new(plan: &Plan, trained: impl Fn(usize) -> bool) -> Self {
        let layers = plan.layers.iter().map(|layer| {
            // A layer that no gradient reaches has no way back.
            let len =
                if trained(layer.weight) && layer.outer.is_some() { layer.shape.packed_len() } else { 0 };
            vec![0.0; len]
        });
        let mut ranges = Vec::new();
        for (view, at, len) in small_views(plan) {
            if trained(view) {
                ranges.push(at..at + len);
            }
        }
        Self { layers: layers.collect(), small: vec![0.0; plan.small_len], small_ranges: ranges }
    }

    /// Adds a row of small parameters' gradients times a factor.
    pub(super) fn add_small(&mut self, factor: f32, row: &[f32]) {
        for range in &self.small_ranges {
            for (sum, value) in self.small[range.clone()].iter_mut().zip(&row[range.clone()]) {
                *sum += factor * value;
            }
        }
    }

    /// Squared norm of the trained part of a row of small parameters' gradients.
    pub(super) fn small_squared_norm(&self, row: &[f32]) -> f64 {
        let squares =
            |range: &Range<usize>| row[range.clone()].iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        self.small_ranges.iter().map(squares).sum()
    }

    /// Squared norm of the whole sum.
    pub(super) fn squared_norm(&self) -> f64 {
        let layers = self.layers.iter().map(|layer| crate::kernels::vector::squared_norm(layer));
        layers.sum::<f64>() + self.small_squared_norm(&self.small)
    }

    /// Adds another sum times a factor.
    pub(super) fn add(&mut self, factor: f32, other: &Self) {
        for (sum, values) in self.layers.iter_mut().zip(&other.layers) {
            crate::kernels::vector::add_weighted(sum, &[factor], values);
        }
        self.add_small(factor, &other.small);
    }

    pub(super) fn clear(&mut self) {
        self.layers.iter_mut().for_each(|layer| layer.fill(0.0));
        self.small.fill(0.0);
    }

    /// The gradient in PyTorch's layout; parameters that are not trained have zeros.
    pub(super) fn into_values(self, plan: &Plan, layout: &ParameterLayout) -> Vec<f32> {
        let mut out = vec![0.0; layout.len()];
        for (layer, sum) in plan.layers.iter().zip(&self.layers).filter(|(_, sum)| !sum.is_empty()) {
            layer.shape.unpack(sum, &mut out[layout.views()[layer.weight].range()]);
        }
        for (view, at, _) in small_views(plan) {
            let view = &layout.views()[view];
            out[view.range()].copy_from_slice(&self.small[at..at + view.len]);
        }
        out
    }
}

/// Views of the small parameters, their places, and their padded lengths.
fn small_views(plan: &Plan) -> impl Iterator<Item = (usize, usize, usize)> {
    let biases = plan
        .layers
        .iter()
        .filter_map(|layer| layer.bias.map(|(view, at)| (view, at, layer.shape.padded_outputs)));
    let norms = plan.norms.iter().flat_map(|norm| {
        let len = norm.channels;
        [(norm.weight, norm.small_at, len), (norm.bias, norm.small_at + len, len)]
    });
    biases.chain(norms)
}
