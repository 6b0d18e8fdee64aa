//! Runs a network on the CPU: logits, sums of gradients, clipped sums.
//!
//! A batch goes through the network in micro-batches; memory depends on their size and not on the
//! batch's. All threads of the current rayon pool work on one layer of one micro-batch at a time, each on
//! output elements of its own, so results are the same bits whatever the number of threads, there is one
//! accumulator for the gradient, and a layer's weights are read once per micro-batch.
//!
//! A private step is a plain step and the norms. A layer's per-unit gradients are either computed and
//! kept until the clip factors are known, or only their norms are computed (ghost norms) and the clipped
//! sum follows from the kept output gradients scaled by the clip factors (book-keeping: Bu, Wang, Zha,
//! Karypis 2023); there is no second backward pass.

mod cost;
mod geometry;
mod lifetime;
#[cfg(feature = "measure")]
pub mod measure;
mod part;
mod pass;
mod plan;
mod workspace;

use crate::dropout::DropoutStream;
use crate::error::NnError;
use crate::network::Network;
use crate::sums::{ClippedSum, GradientSum, clip_factor};
use crate::trainable::Trainable;
use medfed_types::{Batch, ClipNorm, ImageSource};
use part::{Part, begin};
use pass::{Dropout, Pass, Target};
use plan::{Mode, Plan};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use workspace::{Accumulator, Workspace};

/// Working memory aimed at, in bytes.
const MEMORY: usize = 384 << 20;
/// Images of a micro-batch, memory permitting.
const MICRO_BATCH: usize = 64;

/// Choices that change speed and memory, and results at most in the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerformanceOptions {
    /// Images that go through the network together; chosen from the network's size if absent.
    pub micro_batch: Option<NonZeroUsize>,
}

/// The CPU executor of one network. Calls may run at the same time; each has working memory of its own,
/// which is kept for later calls.
#[derive(Debug)]
pub struct Executor {
    network: Arc<Network>,
    options: PerformanceOptions,
    idle: Mutex<Vec<Workspace>>,
}

impl Executor {
    /// An executor of the network.
    pub fn new(network: Arc<Network>, options: PerformanceOptions) -> Self {
        Self { network, options, idle: Mutex::default() }
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Logits `[images, classes]` in evaluation mode: nothing is dropped.
    pub fn logits(
        &self,
        params: &[f32],
        images: &dyn ImageSource,
        indices: &[u32],
    ) -> Result<Vec<f32>, NnError> {
        self.check(params, images, indices)?;
        let plan = Plan::new(&self.network, Mode::Evaluate);
        let size = self.micro_batch(&plan).min(indices.len()).max(1);
        let classes = self.network.spec().classes;
        let mut out = Vec::with_capacity(indices.len() * classes);
        self.with_memory(&plan, params, size, |pass| {
            for chunk in indices.chunks(size) {
                let chunk: Vec<(u32, usize)> = chunk.iter().map(|index| (*index, 0)).collect();
                pass.forward(images, &chunk, None);
                (0..chunk.len()).for_each(|image| out.extend_from_slice(pass.logits(image)));
            }
        });
        Ok(out)
    }

    /// The sum over the batch's images of the gradient of the cross-entropy, without privacy.
    ///
    /// `dropout` is the stream of this step; nothing is dropped without one.
    #[expect(clippy::needless_pass_by_value, reason = "a stream belongs to one step")]
    pub fn gradient_sum(
        &self,
        params: &[f32],
        images: &dyn ImageSource,
        batch: &Batch,
        trainable: &Trainable,
        dropout: Option<DropoutStream>,
    ) -> Result<GradientSum, NnError> {
        self.check_training(params, images, batch, trainable)?;
        let plan = Plan::new(&self.network, Mode::Plain(trainable));
        let mut sum = Accumulator::new(&plan, |view| trainable.view(view));
        let positions: Vec<(u32, usize)> = batch.images().iter().copied().zip(0..).collect();
        let step = Step { source: images, dropout: self.dropout(dropout.as_ref()) };
        let loss_sum = self.add_plain(&plan, params, &step, &positions, &mut sum);
        begin(Part::Finish, 0, None);
        let values = sum.into_values(&plan, self.network.layout());
        Ok(GradientSum { values, loss_sum, images: positions.len() })
    }

    /// The sum over the batch's units of their gradients, each clipped to `clip`. A unit's gradient is
    /// the sum over its images.
    ///
    /// `dropout` is the stream of this step; nothing is dropped without one.
    #[expect(clippy::needless_pass_by_value, reason = "a stream belongs to one step")]
    pub fn clipped_sum(
        &self,
        params: &[f32],
        images: &dyn ImageSource,
        batch: &Batch,
        trainable: &Trainable,
        clip: ClipNorm,
        dropout: Option<DropoutStream>,
    ) -> Result<ClippedSum, NnError> {
        self.check_training(params, images, batch, trainable)?;
        let squares: f64 = (0..batch.units()).map(|unit| (batch.unit(unit).len() as f64).powi(2)).sum();
        let unit_images = (squares / batch.images().len().max(1) as f64).max(1.0);
        let plan = Plan::new(&self.network, Mode::Private { trainable, unit_images });
        let size = self.micro_batch(&plan).min(batch.images().len()).max(1);
        let step = Step { source: images, dropout: self.dropout(dropout.as_ref()) };
        let mut sum = Accumulator::new(&plan, |view| trainable.view(view));
        let groups = Groups::of(batch, size);
        let mut unit_norms = vec![0.0; batch.units()];
        let mut loss_sum = 0.0;
        self.with_memory(&plan, params, size, |pass| {
            for group in &groups.small {
                let norms = &mut unit_norms[group.units.clone()];
                loss_sum += step.clipped(pass, &group.images, &group.ranges, norms, clip, &mut sum);
            }
        });
        if !groups.large.is_empty() {
            // A unit that does not fit a micro-batch: its gradient is summed like a batch's.
            let plain = Plan::new(&self.network, Mode::Plain(trainable));
            let mut own = Accumulator::new(&plain, |view| trainable.view(view));
            for (unit, positions) in &groups.large {
                own.clear();
                let loss = self.add_plain(&plain, params, &step, positions, &mut own);
                let norm = own.squared_norm().sqrt();
                unit_norms[*unit] = norm;
                let factor = clip_factor(norm, clip);
                if factor != 0.0 {
                    sum.add(factor, &own);
                    loss_sum += loss;
                }
            }
        }
        begin(Part::Finish, 0, None);
        let values = sum.into_values(&plan, self.network.layout());
        Ok(ClippedSum { values, clip, loss_sum, images: batch.images().len(), unit_norms })
    }

    /// Adds the gradients of images to a sum; gives the sum of their losses.
    fn add_plain(
        &self,
        plan: &Plan,
        params: &[f32],
        step: &Step<'_>,
        images: &[(u32, usize)],
        sum: &mut Accumulator,
    ) -> f64 {
        let size = self.micro_batch(plan).min(images.len()).max(1);
        let mut loss_sum = 0.0;
        self.with_memory(plan, params, size, |pass| {
            for chunk in images.chunks(size) {
                loss_sum += step.losses(pass, chunk).iter().sum::<f64>();
                pass.backward(chunk.len(), Target::Sum(sum));
                pass.add_small(chunk.len(), sum);
            }
        });
        loss_sum
    }

    /// Images that go through the network together.
    fn micro_batch(&self, plan: &Plan) -> usize {
        match self.options.micro_batch {
            Some(size) => size.get(),
            None => (MEMORY / plan.bytes_per_image().max(1)).clamp(2, MICRO_BATCH),
        }
    }

    fn dropout<'s>(&self, stream: Option<&'s DropoutStream>) -> Dropout<'s> {
        let p = self.network.spec().dropout;
        stream.filter(|_| p > 0.0).map(|stream| (stream, p))
    }

    /// Runs `work` with memory for `size` images and packed parameters.
    fn with_memory<T>(
        &self,
        plan: &Plan,
        params: &[f32],
        size: usize,
        work: impl FnOnce(&mut Pass<'_>) -> T,
    ) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = idle().pop().unwrap_or_default();
        begin(Part::Prepare, size, None);
        memory.prepare(plan, &self.network, params, size);
        let classes = self.network.spec().classes;
        let result = work(&mut Pass { plan, memory: &mut memory, classes });
        idle().push(memory);
        result
    }

    fn check(&self, params: &[f32], images: &dyn ImageSource, indices: &[u32]) -> Result<(), NnError> {
        let expected = self.network.layout().len();
        if params.len() != expected {
            return Err(NnError::Parameters { expected, found: params.len() });
        }
        let (expected, found) = (self.network.spec().input, images.shape());
        if expected != found {
            return Err(NnError::ImageShape { expected, found });
        }
        let len = images.len();
        match indices.iter().find(|index| **index as usize >= len) {
            Some(index) => Err(NnError::ImageIndex { index: *index as usize, len }),
            None => Ok(()),
        }
    }

    fn check_training(
        &self,
        params: &[f32],
        images: &dyn ImageSource,
        batch: &Batch,
        trainable: &Trainable,
    ) -> Result<(), NnError> {
        self.check(params, images, batch.images())?;
        if !trainable.fits(&self.network) {
            return Err(NnError::Trainable);
        }
        let classes = self.network.spec().classes;
        for &image in batch.images() {
            let (image, label) = (image as usize, images.label(image as usize));
            if label as usize >= classes {
                return Err(NnError::Label { image, label, classes });
            }
        }
        Ok(())
    }
}

/// What stays the same over the micro-batches of a step.
struct Step<'a> {
    source: &'a dyn ImageSource,
    dropout: Dropout<'a>,
}

impl Step<'_> {
    /// Forward; gives each image's loss.
    fn losses(&self, pass: &mut Pass<'_>, images: &[(u32, usize)]) -> Vec<f64> {
        pass.forward(self.source, images, self.dropout);
        let labels: Vec<u32> = images.iter().map(|(index, _)| self.source.label(*index as usize)).collect();
        pass.losses(&labels)
    }

    /// A micro-batch of whole units: adds their clipped gradients to `sum`, writes their norms, and gives
    /// the sum of the losses of units whose gradient is finite.
    fn clipped(
        &self,
        pass: &mut Pass<'_>,
        images: &[(u32, usize)],
        units: &[Range<usize>],
        norms: &mut [f64],
        clip: ClipNorm,
        sum: &mut Accumulator,
    ) -> f64 {
        let losses = self.losses(pass, images);
        pass.backward(images.len(), Target::Norms { units, norms });
        pass.add_clipped(units, norms, clip, sum);
        let finite = units.iter().zip(norms).filter(|(_, norm)| norm.is_finite());
        finite.map(|(unit, _)| losses[unit.clone()].iter().sum::<f64>()).sum()
    }
}

/// A micro-batch of whole units, consecutive in the batch.
struct Group {
    units: Range<usize>,
    images: Vec<(u32, usize)>,
    /// Each unit's images within the group.
    ranges: Vec<Range<usize>>,
}

/// A batch divided into micro-batches of at most `size` images, and the units that are larger.
struct Groups {
    small: Vec<Group>,
    large: Vec<(usize, Vec<(u32, usize)>)>,
}

impl Groups {
    fn of(batch: &Batch, size: usize) -> Self {
        let mut groups = Self { small: Vec::new(), large: Vec::new() };
        let mut position = 0;
        for unit in 0..batch.units() {
            let images = batch.unit(unit);
            let own = images.iter().copied().zip(position..);
            position += images.len();
            if images.len() > size {
                groups.large.push((unit, own.collect()));
                continue;
            }
            let fits = |group: &Group| group.units.end == unit && group.images.len() + images.len() <= size;
            if !groups.small.last().is_some_and(fits) {
                groups.small.push(Group { units: unit..unit, images: Vec::new(), ranges: Vec::new() });
            }
            let group = groups.small.last_mut().expect("one was just pushed if there was none");
            let start = group.images.len();
            group.images.extend(own);
            group.ranges.push(start..group.images.len());
            group.units.end = unit + 1;
        }
        groups
    }
}
