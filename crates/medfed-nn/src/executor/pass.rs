//! One micro-batch through the network and back.

use super::geometry::Method;
use super::part::{Part, begin};
use super::plan::{Back, Place, Plan, Sink, Step};
use super::workspace::{Accumulator, Workspace};
use crate::dropout::DropoutStream;
use crate::kernels::correlate::Start;
use crate::kernels::group_norm::{NormGradients, ScaleShift};
use crate::kernels::{Map, pool, vector};
use medfed_types::{ClipNorm, ImageSource};
use rayon::prelude::*;
use std::mem::take;
use std::ops::Range;

/// The images of a micro-batch: index in the source and position in the batch.
pub(super) type Images<'a> = &'a [(u32, usize)];

/// A plan at work in its memory.
pub(super) struct Pass<'a> {
    pub(super) plan: &'a Plan,
    pub(super) memory: &'a mut Workspace,
    /// Real classes; logits are padded.
    pub(super) classes: usize,
}

/// How dropout draws, and its probability.
pub(super) type Dropout<'a> = Option<(&'a DropoutStream, f32)>;

impl Pass<'_> {
    /// From images to logits.
    pub(super) fn forward(&mut self, source: &dyn ImageSource, images: Images<'_>, dropout: Dropout<'_>) {
        let count = images.len();
        begin(Part::Load, count, None);
        self.load(source, images);
        let features = self.plan.features;
        match dropout {
            Some((stream, p)) => {
                for ((_, position), out) in images.iter().zip(self.memory.factors.chunks_exact_mut(features))
                {
                    stream.factors(*position, p, out);
                }
            }
            None => self.memory.factors.fill(1.0),
        }
        for step in &self.plan.forward {
            match step {
                Step::Conv { layer, x, y } => {
                    begin(Part::Convolve, count, Some(&self.plan.layers[*layer]));
                    let packed = &self.memory.packed[*layer];
                    let start = if packed.bias.is_empty() { Start::Zero } else { Start::Bias(&packed.bias) };
                    let mut out = take(&mut self.memory.slots[y.slot]);
                    clear_halos(count, y.map, &mut out);
                    let correlation =
                        self.plan.layers[*layer].forward.as_ref().expect("every layer has a way forward");
                    correlation.apply(count, &packed.forward, start, &self.memory.slots[x.slot], &mut out);
                    self.memory.slots[y.slot] = out;
                }
                Step::Norm { norm, x, residual, y } => {
                    begin(Part::Normalise, count, None);
                    let mut out = take(&mut self.memory.slots[y.slot]);
                    let mut statistics = take(&mut self.memory.statistics[*norm]);
                    let affine = &self.memory.affine[*norm];
                    let read = |place: &Place| (&self.memory.slots[place.slot][..], place.map);
                    self.plan.norms[*norm].kernel.forward(
                        count,
                        read(x),
                        residual.as_ref().map(read),
                        ScaleShift { scale: &affine.scale, shift: &affine.shift },
                        (&mut out, y.map),
                        &mut statistics,
                    );
                    self.memory.slots[y.slot] = out;
                    self.memory.statistics[*norm] = statistics;
                }
                Step::MaxPool { pool, x, y } => {
                    begin(Part::Pool, count, None);
                    let mut out = take(&mut self.memory.slots[y.slot]);
                    let from = (&self.memory.slots[x.slot][..], x.map);
                    let winners = &mut self.memory.winners[*pool];
                    pool::max_forward(count, self.plan.pools[*pool].window, from, (&mut out, y.map), winners);
                    self.memory.slots[y.slot] = out;
                }
                Step::AvgPool { window, x, y } => {
                    begin(Part::Pool, count, None);
                    self.write(*y, |memory, out| {
                        pool::mean_forward(count, *window, (&memory.slots[x.slot], x.map), (out, y.map));
                    });
                }
                Step::Dropout { x, y } => {
                    begin(Part::Pool, count, None);
                    self.write(*y, |memory, out| {
                        let from = (&memory.slots[x.slot][..], x.map);
                        pool::multiply(count, from, &memory.factors, (out, y.map), false);
                    });
                }
            }
        }
    }

    /// Lets `work` write one slot while it reads the others.
    fn write(&mut self, place: Place, work: impl FnOnce(&Workspace, &mut [f32])) {
        let mut out = take(&mut self.memory.slots[place.slot]);
        work(self.memory, &mut out);
        self.memory.slots[place.slot] = out;
    }

    /// Reads the images into the first map.
    fn load(&mut self, source: &dyn ImageSource, images: Images<'_>) {
        let Place { slot, map } = self.plan.input;
        let plane = map.pixels();
        self.memory.slots[slot].par_chunks_mut(map.image()).zip(images).for_each_init(
            || vec![0.0; plane * map.channels],
            |scratch, (out, (index, _))| {
                source.fill(*index as usize, scratch);
                map.clear_halo(out);
                for row in 0..map.height {
                    let line = &mut out[map.first() + row * map.row()..][..map.row_span()];
                    for (column, pixel) in line.chunks_exact_mut(map.pitch).enumerate() {
                        for (channel, value) in pixel.iter_mut().enumerate() {
                            *value = scratch[channel * plane + row * map.width + column];
                        }
                    }
                }
            },
        );
    }

    /// Logits of one image of the micro-batch.
    pub(super) fn logits(&self, image: usize) -> &[f32] {
        let Place { slot, map } = self.plan.logits;
        &self.memory.slots[slot][image * map.image() + map.first()..][..self.classes]
    }

    /// Cross-entropy of each image, and its gradient.
    pub(super) fn losses(&mut self, labels: &[u32]) -> Vec<f64> {
        begin(Part::Loss, labels.len(), None);
        let place = self.plan.dlogits.expect("only training computes losses");
        let mut gradients = take(&mut self.memory.slots[place.slot]);
        let losses = labels.iter().enumerate().map(|(image, label)| {
            let logits = self.logits(image);
            let largest = logits.iter().fold(f32::NEG_INFINITY, |m, z| m.max(*z));
            let sum: f64 = logits.iter().map(|z| f64::from(z - largest).exp()).sum();
            let out = &mut gradients[image * place.map.image() + place.map.first()..][..place.map.channels];
            out.fill(0.0);
            for (class, (out, z)) in out.iter_mut().zip(logits).enumerate() {
                let target = if class == *label as usize { 1.0 } else { 0.0 };
                *out = (f64::from(z - largest).exp() / sum - target) as f32;
            }
            sum.ln() - f64::from(logits[*label as usize] - largest)
        });
        let losses = losses.collect();
        self.memory.slots[place.slot] = gradients;
        losses
    }

    /// Gradients of all activations; weight gradients as the target asks.
    pub(super) fn backward(&mut self, count: usize, mut target: Target<'_>) {
        for back in &self.plan.backward {
            match back {
                Back::Conv { layer, x, gather, dy, dx } => {
                    if let Some(from) = gather {
                        begin(Part::Pool, count, None);
                        self.write(*dy, |memory, out| {
                            pool::copy(count, (&memory.slots[from.slot], from.map), (out, dy.map));
                        });
                    }
                    self.layer_gradients(*layer, count, *x, *dy, &mut target);
                    if let Some(dx) = dx {
                        begin(Part::InputGradient, count, Some(&self.plan.layers[*layer]));
                        self.carry_back(*layer, count, *dy, *dx);
                    }
                }
                Back::Norm { norm, x, y, dy, dx, residual } => {
                    begin(Part::NormaliseBack, count, None);
                    self.norm_back(*norm, count, [*x, *y, *dy], *dx, *residual);
                }
                Back::MaxPool { pool, dy, dx } => self.write(dx.place, |memory, out| {
                    begin(Part::Pool, count, None);
                    let window = self.plan.pools[*pool].window;
                    let from = (&memory.slots[dy.slot][..], dy.map);
                    pool::max_backward(
                        count,
                        window,
                        from,
                        &memory.winners[*pool],
                        (out, dx.place.map),
                        dx.add,
                    );
                }),
                Back::AvgPool { window, dy, dx } => self.write(dx.place, |memory, out| {
                    begin(Part::Pool, count, None);
                    let from = (&memory.slots[dy.slot][..], dy.map);
                    pool::mean_backward(count, *window, from, (out, dx.place.map), dx.add);
                }),
                Back::Dropout { dy, dx } => self.write(dx.place, |memory, out| {
                    begin(Part::Pool, count, None);
                    let from = (&memory.slots[dy.slot][..], dy.map);
                    pool::multiply(count, from, &memory.factors, (out, dx.place.map), dx.add);
                }),
            }
        }
    }

    fn norm_back(
        &mut self,
        norm: usize,
        count: usize,
        [x, y, dy]: [Place; 3],
        dx: Option<Sink>,
        residual: Option<Sink>,
    ) {
        let take_sink = |slots: &mut Vec<Vec<f32>>, sink: Option<Sink>| {
            sink.map(|sink| (take(&mut slots[sink.place.slot]), sink))
        };
        let mut dx = take_sink(&mut self.memory.slots, dx);
        let mut residual = take_sink(&mut self.memory.slots, residual);
        let mut small = take(&mut self.memory.small);
        let read = |place: Place| (&self.memory.slots[place.slot][..], place.map);
        let of = &self.plan.norms[norm];
        of.kernel.backward(
            count,
            NormGradients {
                dy: read(dy),
                y: read(y),
                x: read(x),
                statistics: &self.memory.statistics[norm],
                scale: &self.memory.affine[norm].scale,
                dx: dx.as_mut().map(|(buffer, sink)| ((&mut buffer[..], sink.place.map), sink.add)),
                residual: residual
                    .as_mut()
                    .map(|(buffer, sink)| ((&mut buffer[..], sink.place.map), sink.add)),
                small: &mut small,
                small_row: self.plan.small_len,
                small_at: of.small_at,
            },
        );
        for (buffer, sink) in [dx, residual].into_iter().flatten() {
            self.memory.slots[sink.place.slot] = buffer;
        }
        self.memory.small = small;
    }

    /// The gradient of a layer's input.
    fn carry_back(&mut self, layer: usize, count: usize, dy: Place, dx: Sink) {
        let plan = &self.plan.layers[layer];
        self.write(dx.place, |memory, out| {
            let start = if dx.add { Start::Accumulate } else { Start::Zero };
            if !dx.add && plan.leaves_gaps() {
                pool::clear_all(count, (&mut *out, dx.place.map));
            }
            for (phase, weights) in plan.backward.iter().zip(&memory.packed[layer].backward) {
                phase.kernel.apply(count, weights, start, &memory.slots[dy.slot], out);
            }
        });
    }

    /// A layer's weight and bias gradients.
    fn layer_gradients(&mut self, layer: usize, count: usize, x: Place, dy: Place, target: &mut Target<'_>) {
        let plan = &self.plan.layers[layer];
        let (source, output) = (&self.memory.slots[x.slot], &self.memory.slots[dy.slot]);
        if let Some((_, at)) = plan.bias {
            let row = self.plan.small_len;
            pool::sum_pixels(count, (output, dy.map), &mut self.memory.small, row, at);
        }
        let outer = plan.outer.as_ref().expect("a layer on the way back has its geometry");
        let ghost = matches!(target, Target::Norms { .. }) && plan.method == Method::Ghost;
        begin(if ghost { Part::GhostNorms } else { Part::WeightGradient }, count, (!ghost).then_some(plan));
        match target {
            Target::Sum(sum) if !sum.layers[layer].is_empty() => {
                outer.add(0..count, source, output, &mut sum.layers[layer], &mut self.memory.tiles);
            }
            Target::Sum(_) => {}
            Target::Norms { units, norms } => match plan.method {
                Method::None => {}
                Method::Instantiate => {
                    outer.per_unit(units, source, output, &mut self.memory.kept[layer], norms);
                }
                Method::Ghost => outer.direct.ghost_norms(units, source, output, norms),
            },
        }
    }

    /// Adds the small parameters' gradients of all images to a plain sum.
    pub(super) fn add_small(&self, count: usize, sum: &mut Accumulator) {
        begin(Part::Clip, count, None);
        for row in self.memory.small.chunks_exact(self.plan.small_len).take(count) {
            sum.add_small(1.0, row);
        }
    }

    /// After a backward pass for norms: completes them, clips, and adds the clipped gradients to `sum`.
    /// `norms` hold the squared norms of the layers and become the units' norms.
    pub(super) fn add_clipped(
        &mut self,
        units: &[Range<usize>],
        norms: &mut [f64],
        clip: ClipNorm,
        sum: &mut Accumulator,
    ) {
        begin(Part::Clip, 0, None);
        let row = self.plan.small_len;
        for (unit, norm) in units.iter().zip(norms.iter_mut()) {
            let rows = &mut self.memory.small[unit.start * row..unit.end * row];
            let (first, rest) = rows.split_at_mut(row);
            for other in rest.chunks_exact(row) {
                first.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
            }
            *norm = (*norm + sum.small_squared_norm(first)).sqrt();
        }
        let factors: Vec<f32> = norms.iter().map(|norm| crate::sums::clip_factor(*norm, clip)).collect();
        for (unit, factor) in units.iter().zip(&factors).filter(|(_, factor)| **factor != 0.0) {
            sum.add_small(*factor, &self.memory.small[unit.start * row..][..row]);
        }
        let images = units.last().map_or(0, |unit| unit.end);
        let mut per_image = vec![0.0; images];
        for (unit, factor) in units.iter().zip(&factors) {
            per_image[unit.clone()].fill(*factor);
        }
        let spoilt = factors.contains(&0.0);
        for back in &self.plan.backward {
            let Back::Conv { layer, x, dy, .. } = back else { continue };
            let plan = &self.plan.layers[*layer];
            match plan.method {
                Method::None => {}
                Method::Instantiate => {
                    begin(Part::Clip, images, None);
                    vector::add_weighted(&mut sum.layers[*layer], &factors, &self.memory.kept[*layer]);
                }
                Method::Ghost => {
                    begin(Part::WeightGradient, images, Some(plan));
                    vector::scale_images(&mut self.memory.slots[dy.slot], dy.map.image(), &per_image);
                    if spoilt {
                        // Zero times a NaN of the input would be a NaN. Nothing reads the input after this.
                        let whole: Vec<f32> =
                            per_image.iter().map(|f| if *f == 0.0 { 0.0 } else { 1.0 }).collect();
                        vector::scale_images(&mut self.memory.slots[x.slot], x.map.image(), &whole);
                    }
                    let outer = plan.outer.as_ref().expect("a layer on the way back has its geometry");
                    let (source, output) = (&self.memory.slots[x.slot], &self.memory.slots[dy.slot]);
                    let gradient = &mut sum.layers[*layer];
                    outer.add(0..images, source, output, gradient, &mut self.memory.tiles);
                }
            }
        }
    }
}

/// What becomes of weight gradients on the way back.
pub(super) enum Target<'a> {
    /// They are added up.
    Sum(&'a mut Accumulator),
    /// Their squared norms are added to each unit's, given as a range of images.
    Norms { units: &'a [Range<usize>], norms: &'a mut [f64] },
}

fn clear_halos(count: usize, map: Map, buffer: &mut [f32]) {
    if map.halo != [0; 2] {
        buffer.chunks_exact_mut(map.image()).take(count).for_each(|image| map.clear_halo(image));
    }
}
