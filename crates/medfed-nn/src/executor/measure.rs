//! The parts of a step as they begin, and the 3×3 convolutions of a network one by one, by their definition
//! and by tiles: what the cost model's constants follow from. `benches/` hold the clock.

use super::cost::Sizes;
use super::geometry::Method;
pub use super::part::Part;
pub use super::part::observer::{Begun, Convolved, observe};
use super::plan::{Mode, Plan};
use super::{MEMORY, MICRO_BATCH};
use crate::kernels::convolution::{Convolution, WeightGradient};
use crate::kernels::correlate::{Correlation, Grid, Start};
use crate::kernels::outer::OuterSum;
pub use crate::kernels::product::product;
use crate::kernels::winograd::Side;
use crate::kernels::winograd::gradient::Tiles;
use crate::network::Network;
use crate::trainable::Trainable;
use std::ops::Range;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// The convolution, which is also how a gradient goes back to the input (with the sides exchanged). The
    /// weights are made ready each time, as in a step of one micro-batch.
    Convolve,
    /// The weight gradient of each image.
    PerImage,
    /// The weight gradient over all images.
    Sum,
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the definition.
    Direct,
    /// By tiles of 2×2 results.
    Two,
    /// By tiles of 4×4 results.
    Four,
}

impl Way {
    fn side(self) -> Option<Side> {
        match self {
            Self::Direct => None,
            Self::Two => Some(Side::Two),
            Self::Four => Some(Side::Four),
        }
    }
}

/// A 3×3 convolution with stride 1 of some network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What is computed.
    pub work: Work,
    /// Rows and columns of the map.
    pub map: [usize; 2],
    /// Channels of the input in memory.
    pub inputs: usize,
    /// Channels of the output in memory.
    pub outputs: usize,
    /// Images of a micro-batch.
    pub images: usize,
}

impl Case {
    /// All that private and plain steps of a network compute.
    pub fn of(network: &Network) -> Vec<Self> {
        let trainable = Trainable::all(network);
        let mut cases = Vec::new();
        for mode in [Mode::Private { trainable: &trainable, unit_images: 1.0 }, Mode::Plain(&trainable)] {
            let plan = Plan::new(network, mode);
            let images = (MEMORY / plan.bytes_per_image().max(1)).clamp(2, MICRO_BATCH);
            for layer in plan.layers.iter().filter(|layer| layer.in_tiles()) {
                let (map, inputs, outputs) =
                    (layer.output(), layer.shape.padded_inputs, layer.shape.padded_outputs);
                let case = Self { work: Work::Convolve, map, inputs, outputs, images };
                cases.extend([case, Self { inputs: outputs, outputs: inputs, ..case }]);
                match layer.method {
                    Method::Instantiate => cases.push(Self { work: Work::PerImage, ..case }),
                    Method::None => cases.push(Self { work: Work::Sum, ..case }),
                    Method::Ghost => {}
                }
            }
        }
        cases
    }

    /// What the planner chooses.
    pub fn chosen(self) -> Way {
        let sizes = Sizes { map: self.map, inputs: self.inputs, outputs: self.outputs };
        let side = match self.work {
            Work::Convolve => sizes.side_forward(),
            Work::PerImage => sizes.side_per_unit(),
            Work::Sum => sizes.side_sum(),
        };
        match side {
            None => Way::Direct,
            Some(Side::Two) => Way::Two,
            Some(Side::Four) => Way::Four,
        }
    }
}

/// A case in memory.
#[derive(Debug)]
pub struct Trial {
    case: Case,
    correlation: Correlation,
    outer: OuterSum,
    source: Vec<f32>,
    target: Vec<f32>,
    packed: Vec<f32>,
    scratch: Vec<f32>,
    /// Weights as each way reads them.
    prepared: [Vec<f32>; 3],
    gradients: Vec<f32>,
    units: Vec<Range<usize>>,
    norms: Vec<f64>,
    tiles: Tiles,
}

impl Trial {
    /// Makes room and fills it with numbers of about unit size.
    pub fn new(case: Case) -> Self {
        let Case { work, map, inputs, outputs, images } = case;
        let grid = |channels: usize, halo: usize| {
            let row = (map[1] + 2 * halo) * channels;
            Grid { first: 0, image: (map[0] + 2 * halo) * row, row, column: channels }
        };
        let (source, target) = (grid(inputs, 1), grid(outputs, 0));
        let (tap_stride, run, width) = (source.row, 3 * inputs, outputs);
        let [rows, columns] = map;
        let correlation = Correlation { source, target, rows, columns, tap_rows: 3, tap_stride, run, width };
        let outer = OuterSum { source, output: target, rows, columns, tap_rows: 3, tap_stride, run, width };
        let values = |len: usize| (0..len).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
        let kept = match work {
            Work::Convolve => 0,
            Work::PerImage => images,
            Work::Sum => 1,
        };
        Self {
            case,
            correlation,
            outer,
            source: values(images * source.image),
            target: values(images * target.image),
            packed: values(9 * inputs * outputs),
            scratch: Vec::new(),
            prepared: Default::default(),
            gradients: vec![0.0; kept * outer.len()],
            units: (0..images).map(|image| image..image + 1).collect(),
            norms: vec![0.0; images],
            tiles: Tiles::default(),
        }
    }

    /// Computes it once.
    pub fn run(&mut self, way: Way) {
        let images = self.case.images;
        let of = WeightGradient::new(self.outer, way.side());
        match self.case.work {
            Work::Convolve => {
                let of = Convolution::new(self.correlation, way.side());
                // The copy stands for the packing, which both ways need.
                self.scratch.clear();
                self.scratch.extend_from_slice(&self.packed);
                let prepared = &mut self.prepared[way as usize];
                of.prepare(&mut self.scratch, prepared);
                of.apply(images, prepared, Start::Zero, &self.source, &mut self.target);
            }
            Work::PerImage => {
                let (source, output) = (&self.source, &self.target);
                of.per_unit(&self.units, source, output, &mut self.gradients, &mut self.norms);
            }
            Work::Sum => {
                let (source, output) = (&self.source, &self.target);
                of.add(0..images, source, output, &mut self.gradients, &mut self.tiles);
            }
        }
    }
}
