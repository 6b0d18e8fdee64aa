//! A network as a description: a directed graph of operations with static shapes, and the names and
//! shapes of its parameters. It knows nothing of how it is run; [`Executor`](crate::Executor) does.

use crate::checkpoint::Target;
use crate::error::NnError;
use crate::models::ModelSpec;
use medfed_types::{ParameterLayout, SimulationRng};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

/// ε of every GroupNorm, PyTorch's default.
pub const GROUP_NORM_EPSILON: f64 = 1e-5;

/// Position of a node in [`Network::nodes`].
pub type NodeId = usize;

/// Shape of a feature map of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapShape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl MapShape {
    /// Elements of the map.
    pub fn len(self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether it has no element.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Positions of one channel.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// How a convolution or a pooling slides over a map, `[rows, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Step between two windows.
    pub stride: [usize; 2],
    /// Rows and columns added on each side: zeros for convolutions, nothing for a maximum.
    pub padding: [usize; 2],
}

impl Window {
    /// A square window.
    pub(crate) fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] }
    }

    /// Positions of the window along `axis` of a map with `size` rows or columns.
    fn positions(&self, axis: usize, size: usize) -> usize {
        (size + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
    }

    fn slide(&self, map: MapShape, channels: usize) -> MapShape {
        MapShape { channels, height: self.positions(0, map.height), width: self.positions(1, map.width) }
    }
}

/// One operation. Parameters are given by their position in the layout's views.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The image.
    Input,
    /// Convolution; the weight is `[out, in, rows, columns]`.
    Conv2d {
        /// How the kernel slides.
        window: Window,
        /// Weight.
        weight: usize,
        /// Bias per output channel.
        bias: Option<usize>,
    },
    /// Normalisation over groups of channels (Wu and He 2018), then scale and shift per channel.
    GroupNorm {
        /// Number of groups; it divides the channels.
        groups: usize,
        /// Scale.
        weight: usize,
        /// Shift.
        bias: usize,
    },
    /// max(x, 0).
    Relu,
    /// Maximum over a window; what the padding adds never wins.
    MaxPool {
        /// How the window slides.
        window: Window,
    },
    /// Mean over a window without padding.
    AvgPool {
        /// How the window slides.
        window: Window,
    },
    /// Fully connected layer on a map of one pixel; the weight is `[out, in]`.
    Linear {
        /// Weight.
        weight: usize,
        /// Bias.
        bias: usize,
    },
    /// Sum of two maps.
    Add,
    /// Channels of several maps one after the other.
    Concat,
    /// Sets each value to 0 with the model's dropout probability in training and scales the others up.
    Dropout,
}

/// An operation, what it works on, and the shape of its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// Earlier nodes.
    pub inputs: Vec<NodeId>,
    /// Shape of the result for one image.
    pub shape: MapShape,
}

/// A checked network. Nodes are in an order in which they can be computed; the last gives the logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    spec: ModelSpec,
    nodes: Vec<Node>,
    layout: ParameterLayout,
    head: &'static str,
    init: Init,
}

impl Network {
    /// The model it was built from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The graph.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Names and places of the parameters.
    pub fn layout(&self) -> &ParameterLayout {
        &self.layout
    }

    /// Name of the last linear layer; its parameters are `NAME.weight` and `NAME.bias`.
    pub fn head(&self) -> &str {
        self.head
    }

    /// Number of groups of the GroupNorm with that name.
    pub fn norm_groups(&self, name: &str) -> Option<usize> {
        self.nodes.iter().find_map(|node| match node.op {
            Op::GroupNorm { groups, weight, .. } => {
                let found = self.layout.views()[weight].name.strip_suffix(".weight");
                (found == Some(name)).then_some(groups)
            }
            _ => None,
        })
    }

    /// What pretrained weights are fitted to.
    pub fn target(&self) -> Target<'_> {
        Target { layout: &self.layout, head: self.head, groups: Box::new(|name| self.norm_groups(name)) }
    }

    /// Fresh parameters, drawn in the layout's order.
    ///
    /// Convolutions are normal with variance 2/fan (He et al. 2015): the fan is that of the output for
    /// ResNet-18 and of the input otherwise, as in torchvision; their biases are 0. GroupNorm begins with
    /// scale 1 and shift 0. The head is uniform within ±1/√fan-in.
    pub fn initial_parameters(&self, rng: &mut SimulationRng) -> Vec<f32> {
        let mut out = vec![0.0; self.layout.len()];
        for node in &self.nodes {
            match node.op {
                Op::Conv2d { weight, .. } => {
                    let view = &self.layout.views()[weight];
                    let fan = match self.init {
                        Init::HeFanIn => view.shape[1..].iter().product::<usize>(),
                        Init::HeFanOut => view.shape[0] * view.shape[2] * view.shape[3],
                    };
                    let deviation = (2.0 / fan as f64).sqrt();
                    for value in &mut out[view.range()] {
                        let z: f64 = StandardNormal.sample(rng);
                        *value = (deviation * z) as f32;
                    }
                }
                Op::GroupNorm { weight, .. } => out[self.layout.views()[weight].range()].fill(1.0),
                Op::Linear { weight, bias } => {
                    let bound = 1.0 / (self.layout.views()[weight].shape[1] as f64).sqrt();
                    for parameter in [weight, bias] {
                        for value in &mut out[self.layout.views()[parameter].range()] {
                            *value = (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32;
                        }
                    }
                }
                _ => {}
            }
        }
        out
    }
}

/// Which fan scales a convolution's initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    HeFanIn,
    HeFanOut,
}

/// `min(limit, channels)` groups, reduced until they divide the channels.
pub(crate) fn norm_groups(limit: usize, channels: usize) -> usize {
    (1..=limit.min(channels)).rev().find(|g| channels.is_multiple_of(*g)).unwrap_or(1)
}

/// Puts a network together node by node.
pub(crate) struct Builder {
    spec: ModelSpec,
    init: Init,
    nodes: Vec<Node>,
    parameters: Vec<(String, Vec<usize>)>,
}

impl Builder {
    pub(crate) fn new(spec: &ModelSpec, init: Init) -> Self {
        Self { spec: spec.clone(), init, nodes: Vec::new(), parameters: Vec::new() }
    }

    pub(crate) fn shape(&self, id: NodeId) -> MapShape {
        self.nodes[id].shape
    }

    pub(crate) fn input(&mut self) -> NodeId {
        let input = self.spec.input;
        let shape = MapShape { channels: input.channels, height: input.height, width: input.width };
        self.push(Op::Input, &[], shape)
    }

    pub(crate) fn conv(&mut self, x: NodeId, name: &str, out: usize, window: Window, bias: bool) -> NodeId {
        let shape = self.shape(x);
        let [rows, columns] = window.kernel;
        let weight = self.parameter(name, "weight", vec![out, shape.channels, rows, columns]);
        let bias = bias.then(|| self.parameter(name, "bias", vec![out]));
        self.push(Op::Conv2d { window, weight, bias }, &[x], window.slide(shape, out))
    }

    pub(crate) fn group_norm(&mut self, x: NodeId, name: &str, groups: usize) -> NodeId {
        let shape = self.shape(x);
        let weight = self.parameter(name, "weight", vec![shape.channels]);
        let bias = self.parameter(name, "bias", vec![shape.channels]);
        self.push(Op::GroupNorm { groups, weight, bias }, &[x], shape)
    }

    pub(crate) fn relu(&mut self, x: NodeId) -> NodeId {
        self.push(Op::Relu, &[x], self.shape(x))
    }

    pub(crate) fn max_pool(&mut self, x: NodeId, window: Window) -> NodeId {
        let shape = self.shape(x);
        self.push(Op::MaxPool { window }, &[x], window.slide(shape, shape.channels))
    }

    pub(crate) fn avg_pool(&mut self, x: NodeId, window: Window) -> NodeId {
        let shape = self.shape(x);
        self.push(Op::AvgPool { window }, &[x], window.slide(shape, shape.channels))
    }

    pub(crate) fn global_avg_pool(&mut self, x: NodeId) -> NodeId {
        let kernel = [self.shape(x).height, self.shape(x).width];
        self.avg_pool(x, Window { kernel, stride: [1, 1], padding: [0, 0] })
    }

    pub(crate) fn dropout(&mut self, x: NodeId) -> NodeId {
        self.push(Op::Dropout, &[x], self.shape(x))
    }

    pub(crate) fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.push(Op::Add, &[a, b], self.shape(a))
    }

    pub(crate) fn concat(&mut self, inputs: &[NodeId]) -> NodeId {
        let channels = inputs.iter().map(|i| self.shape(*i).channels).sum();
        self.push(Op::Concat, inputs, MapShape { channels, ..self.shape(inputs[0]) })
    }

    /// Adds the linear layer `head` on `x` and closes the network.
    pub(crate) fn finish(mut self, x: NodeId, head: &'static str) -> Result<Network, NnError> {
        let classes = self.spec.classes;
        let weight = self.parameter(head, "weight", vec![classes, self.shape(x).len()]);
        let bias = self.parameter(head, "bias", vec![classes]);
        self.push(Op::Linear { weight, bias }, &[x], MapShape { channels: classes, height: 1, width: 1 });
        let layout = ParameterLayout::new(self.parameters)?;
        Ok(Network { spec: self.spec, nodes: self.nodes, layout, head, init: self.init })
    }

    fn parameter(&mut self, layer: &str, kind: &str, shape: Vec<usize>) -> usize {
        self.parameters.push((format!("{layer}.{kind}"), shape));
        self.parameters.len() - 1
    }

    fn push(&mut self, op: Op, inputs: &[NodeId], shape: MapShape) -> NodeId {
        self.nodes.push(Node { op, inputs: inputs.to_vec(), shape });
        self.nodes.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Architecture;
    use medfed_types::{ImageShape, Seed};

    #[test]
    fn groups_divide_the_channels() {
        assert_eq!(norm_groups(32, 64), 32);
        assert_eq!(norm_groups(8, 12), 6);
        assert_eq!(norm_groups(8, 7), 7);
        assert_eq!(norm_groups(32, 1), 1);
    }

    #[test]
    fn fresh_parameters_have_the_stated_spread() {
        let spec = ModelSpec {
            architecture: Architecture::ResNet18,
            input: ImageShape { channels: 3, height: 32, width: 32 },
            classes: 7,
            dropout: 0.0,
            channels: None,
        };
        let network = spec.build().unwrap();
        let parameters = network.initial_parameters(&mut Seed(1).generator("initial", &[]));
        assert_eq!(parameters, network.initial_parameters(&mut Seed(1).generator("initial", &[])));
        let of = |name: &str| &parameters[network.layout().find(name).unwrap().range()];
        let weight = of("layer3.0.conv2.weight");
        let variance = weight.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / weight.len() as f64;
        assert!((variance * (256.0 * 9.0) / 2.0 - 1.0).abs() < 0.02, "{variance}");
        assert!(of("bn1.weight").iter().all(|w| *w == 1.0) && of("bn1.bias").iter().all(|b| *b == 0.0));
        let bound = 1.0 / 512f32.sqrt();
        assert!(of("fc.weight").iter().all(|w| w.abs() <= bound));
        assert_eq!(network.norm_groups("layer1.0.bn1"), Some(32));
        assert_eq!(network.norm_groups("layer1.0.conv1"), None);
    }
}
