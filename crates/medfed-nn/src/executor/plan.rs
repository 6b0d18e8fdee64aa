//! From a network to what is executed: fused steps, places in memory, and for each layer the way its
//! per-unit norms are computed.

use super::geometry::{Layer, Method};
use super::lifetime::{Lifetimes, Slots};
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::{Map, padded};
use crate::network::{MapShape, Network, NodeId, Op, Window};
use crate::trainable::Trainable;

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode<'a> {
    /// Logits only.
    Evaluate,
    /// One gradient over all images.
    Plain(&'a Trainable),
    /// Norms per unit, then the clipped sum.
    Private {
        /// What is trained.
        trainable: &'a Trainable,
        /// Images of the unit that an image belongs to, on average over images.
        unit_images: f64,
    },
}

impl<'a> Mode<'a> {
    fn trainable(self) -> Option<&'a Trainable> {
        match self {
            Mode::Evaluate => None,
            Mode::Plain(trainable) | Mode::Private { trainable, .. } => Some(trainable),
        }
    }
}

/// A feature map and the slot that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) map: Map,
}

/// A gradient to write, and whether it is added to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sink {
    pub(super) place: Place,
    pub(super) add: bool,
}

/// A GroupNorm with what is fused into it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Norm {
    pub(super) kernel: GroupNorm,
    /// Views of its parameters.
    pub(super) weight: usize,
    pub(super) bias: usize,
    /// Place of the scale's gradient among the small parameters; the shift's follows.
    pub(super) small_at: usize,
    /// Channels in memory.
    pub(super) channels: usize,
}

/// A step forward.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Conv { layer: usize, x: Place, y: Place },
    Norm { norm: usize, x: Place, residual: Option<Place>, y: Place },
    MaxPool { pool: usize, x: Place, y: Place },
    AvgPool { window: Window, x: Place, y: Place },
    Dropout { x: Place, y: Place },
}

/// A step backward.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Back {
    /// `gather` is where the output's gradient lies inside a wider map; it is first copied to `dy`.
    Conv {
        layer: usize,
        x: Place,
        gather: Option<Place>,
        dy: Place,
        dx: Option<Sink>,
    },
    Norm {
        norm: usize,
        x: Place,
        y: Place,
        dy: Place,
        dx: Option<Sink>,
        residual: Option<Sink>,
    },
    MaxPool {
        pool: usize,
        dy: Place,
        dx: Sink,
    },
    AvgPool {
        window: Window,
        dy: Place,
        dx: Sink,
    },
    Dropout {
        dy: Place,
        dx: Sink,
    },
}

/// A max pooling and its size per image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) window: Window,
    /// Elements of its output.
    pub(super) len: usize,
}

/// Everything that is known before the first image.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layers: Vec<Layer>,
    pub(super) norms: Vec<Norm>,
    pub(super) pools: Vec<Pool>,
    pub(super) forward: Vec<Step>,
    pub(super) backward: Vec<Back>,
    pub(super) input: Place,
    pub(super) logits: Place,
    /// Gradient of the logits.
    pub(super) dlogits: Option<Place>,
    /// Channels that dropout works on.
    pub(super) features: usize,
    /// Floats of small parameters: biases and GroupNorm's.
    pub(super) small_len: usize,
    /// Floats per image of each slot.
    pub(super) slots: Vec<usize>,
}

impl Plan {
    pub(super) fn new(network: &Network, mode: Mode<'_>) -> Self {
        Drawing::new(network, mode).finish()
    }

    /// Bytes of working memory per image.
    pub(super) fn bytes_per_image(&self) -> usize {
        let kept = self.layers.iter().filter(|layer| layer.method == Method::Instantiate);
        let floats = self.slots.iter().sum::<usize>()
            + kept.map(|layer| layer.shape.packed_len()).sum::<usize>()
            + self.norms.iter().map(|norm| GroupNorm::statistics_len(norm.channels)).sum::<usize>()
            + self.pools.iter().map(|pool| pool.len).sum::<usize>()
            + self.small_len;
        4 * floats
    }
}

/// A fused operation on nodes, before anything has a place.
#[derive(Debug, Clone)]
enum Fused {
    Conv { layer: usize, x: NodeId, y: NodeId },
    Norm { norm: usize, x: NodeId, residual: Option<NodeId>, y: NodeId },
    MaxPool { pool: usize, x: NodeId, y: NodeId },
    AvgPool { window: Window, x: NodeId, y: NodeId },
    Dropout { x: NodeId, y: NodeId },
}

impl Fused {
    fn output(&self) -> NodeId {
        match self {
            Self::Conv { y, .. }
            | Self::Norm { y, .. }
            | Self::MaxPool { y, .. }
            | Self::AvgPool { y, .. }
            | Self::Dropout { y, .. } => *y,
        }
    }

    fn inputs(&self) -> impl Iterator<Item = NodeId> {
        let (x, residual) = match self {
            Self::Norm { x, residual, .. } => (*x, *residual),
            Self::Conv { x, .. }
            | Self::MaxPool { x, .. }
            | Self::AvgPool { x, .. }
            | Self::Dropout { x, .. } => (*x, None),
        };
        std::iter::once(x).chain(residual)
    }
}

/// A plan being drawn.
struct Drawing<'a> {
    network: &'a Network,
    mode: Mode<'a>,
    layers: Vec<Layer>,
    norms: Vec<Norm>,
    pools: Vec<Pool>,
    steps: Vec<Fused>,
    small_len: usize,
    /// The node whose buffer holds each node's result, and the first channel in it.
    home: Vec<(NodeId, usize)>,
    /// Whether a gradient of the node's result is needed.
    needed: Vec<bool>,
    /// Halo of each node's result.
    halo: Vec<[usize; 2]>,
}

impl<'a> Drawing<'a> {
    fn new(network: &'a Network, mode: Mode<'a>) -> Self {
        let count = network.nodes().len();
        let mut drawing = Self {
            network,
            mode,
            layers: Vec::new(),
            norms: Vec::new(),
            pools: Vec::new(),
            steps: Vec::new(),
            small_len: 0,
            home: (0..count).map(|node| (node, 0)).collect(),
            needed: vec![false; count],
            halo: vec![[0; 2]; count],
        };
        drawing.fuse();
        drawing.place_concatenations();
        drawing.find_needed();
        drawing.find_halos();
        drawing
    }

    fn shape(&self, node: NodeId) -> MapShape {
        self.network.nodes()[node].shape
    }

    /// Channels in memory: padded, but for the image's.
    fn channels(&self, node: NodeId) -> usize {
        let channels = self.shape(node).channels;
        if node == 0 { channels } else { padded(channels) }
    }

    /// The node that alone uses `node`'s result, if there is one.
    fn only_consumer(&self, node: NodeId) -> Option<NodeId> {
        let mut consumers =
            (0..self.network.nodes().len()).filter(|i| self.network.nodes()[*i].inputs.contains(&node));
        let first = consumers.next();
        if consumers.next().is_some() { None } else { first }
    }

    fn small(&mut self, channels: usize, vectors: usize) -> usize {
        let at = self.small_len;
        self.small_len += vectors * padded(channels);
        at
    }

    fn fuse(&mut self) {
        let nodes = self.network.nodes();
        // Steps by the node at which they can run.
        let mut at: Vec<Option<Fused>> = vec![None; nodes.len()];
        let mut absorbed = vec![false; nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            match node.op {
                Op::Conv2d { window, weight, bias } => {
                    let x = node.inputs[0];
                    let small_at = bias.map(|_| self.small(node.shape.channels, 1));
                    let bias = bias.zip(small_at);
                    let inputs = self.channels(x);
                    self.layers.push(Layer::new(window, self.shape(x), inputs, node.shape, weight, bias));
                    at[id] = Some(Fused::Conv { layer: self.layers.len() - 1, x, y: id });
                }
                Op::Linear { weight, bias } => {
                    let x = node.inputs[0];
                    let small_at = self.small(node.shape.channels, 1);
                    let inputs = self.channels(x);
                    let window = Window::new(1, 1, 0);
                    let bias = Some((bias, small_at));
                    self.layers.push(Layer::new(window, self.shape(x), inputs, node.shape, weight, bias));
                    at[id] = Some(Fused::Conv { layer: self.layers.len() - 1, x, y: id });
                }
                Op::GroupNorm { groups, weight, bias } => {
                    let (mut y, mut residual) = (id, None);
                    if let Some(sum) = self.only_consumer(id)
                        && nodes[sum].op == Op::Add
                        && nodes[sum].inputs[0] == id
                    {
                        (y, residual) = (sum, Some(nodes[sum].inputs[1]));
                        absorbed[sum] = true;
                    }
                    let mut relu = false;
                    if let Some(next) = self.only_consumer(y)
                        && nodes[next].op == Op::Relu
                    {
                        (y, relu) = (next, true);
                        absorbed[next] = true;
                    }
                    let channels = node.shape.channels;
                    let small_at = self.small(channels, 2);
                    let kernel = GroupNorm { channels, groups, relu };
                    self.norms.push(Norm { kernel, weight, bias, small_at, channels: padded(channels) });
                    let norm = self.norms.len() - 1;
                    at[y] = Some(Fused::Norm { norm, x: node.inputs[0], residual, y });
                }
                Op::MaxPool { window } => {
                    let len = node.shape.pixels() * padded(node.shape.channels);
                    self.pools.push(Pool { window, len });
                    at[id] = Some(Fused::MaxPool { pool: self.pools.len() - 1, x: node.inputs[0], y: id });
                }
                Op::AvgPool { window } => at[id] = Some(Fused::AvgPool { window, x: node.inputs[0], y: id }),
                Op::Dropout => at[id] = Some(Fused::Dropout { x: node.inputs[0], y: id }),
                Op::Relu | Op::Add => {
                    assert!(absorbed[id], "every sum and every ReLU follows a GroupNorm");
                }
                Op::Input | Op::Concat => {}
            }
        }
        self.steps = at.into_iter().flatten().collect();
    }

    /// The inputs of a concatenation live inside its buffer, so that nothing is copied.
    fn place_concatenations(&mut self) {
        let nodes = self.network.nodes();
        for (id, node) in nodes.iter().enumerate().rev().filter(|(_, node)| node.op == Op::Concat) {
            let (root, mut offset) = self.home[id];
            for input in &node.inputs {
                self.home[*input] = (root, offset);
                offset += self.channels(*input);
            }
        }
    }

    fn find_needed(&mut self) {
        let Some(trainable) = self.mode.trainable() else { return };
        for (id, node) in self.network.nodes().iter().enumerate() {
            let own = match node.op {
                Op::Conv2d { weight, bias, .. } => {
                    trainable.view(weight) || bias.is_some_and(|bias| trainable.view(bias))
                }
                Op::GroupNorm { weight, bias, .. } | Op::Linear { weight, bias } => {
                    trainable.view(weight) || trainable.view(bias)
                }
                _ => false,
            };
            self.needed[id] = own || node.inputs.iter().any(|input| self.needed[*input]);
        }
    }

    fn find_halos(&mut self) {
        for step in &self.steps {
            if let Fused::Conv { layer, x, .. } = step {
                let wanted = self.layers[*layer].input_halo();
                let home = self.home[*x].0;
                let halo = &mut self.halo[home];
                halo.iter_mut().zip(wanted).for_each(|(halo, wanted)| *halo = (*halo).max(wanted));
            }
        }
    }

    /// The map of a node's result within its buffer.
    fn map(&self, node: NodeId, halo: [usize; 2]) -> Map {
        let (home, offset) = self.home[node];
        let shape = self.shape(node);
        Map {
            height: shape.height,
            width: shape.width,
            channels: self.channels(node),
            pitch: self.channels(home),
            offset,
            halo,
        }
    }

    fn finish(mut self) -> Plan {
        let mut lifetimes = Lifetimes::default();
        let count = self.network.nodes().len();
        let steps = std::mem::take(&mut self.steps);
        let maps: Vec<Map> = (0..count).map(|node| self.map(node, self.halo[self.home[node].0])).collect();

        // Results forward. Times: step i at i, the loss at `turn`, backward steps after it.
        let mut buffer_of = vec![None; count];
        let mut buffer = |lifetimes: &mut Lifetimes, node: NodeId, home: NodeId, time: usize| {
            let id = *buffer_of[home].get_or_insert_with(|| lifetimes.add(maps[node].image(), time));
            lifetimes.touch(id, time);
            id
        };
        let input = buffer(&mut lifetimes, 0, self.home[0].0, 0);
        let mut held = vec![None; count];
        held[0] = Some(input);
        for (time, step) in steps.iter().enumerate() {
            for node in step.inputs().chain([step.output()]) {
                held[node] = Some(buffer(&mut lifetimes, node, self.home[node].0, time));
            }
        }
        let turn = steps.len();
        let last = steps.last().expect("a network ends in a linear layer").output();
        let of = |node: NodeId| held[node].expect("every step's nodes have a buffer");
        lifetimes.touch(of(last), turn);

        let mut backward = Backward::new(&self, &maps, turn + 1 + 2 * turn);
        if self.needed[last] {
            backward.draw(&steps, last, &of, &mut lifetimes);
        }
        let Backward { back, dlogits, layers, .. } = backward;
        let slots = lifetimes.assign();
        let place = |node: NodeId| Place { slot: slots.of(of(node)), map: maps[node] };
        let forward = steps
            .iter()
            .map(|step| match *step {
                Fused::Conv { layer, x, y } => Step::Conv { layer, x: place(x), y: place(y) },
                Fused::Norm { norm, x, residual, y } => {
                    Step::Norm { norm, x: place(x), residual: residual.map(place), y: place(y) }
                }
                Fused::MaxPool { pool, x, y } => Step::MaxPool { pool, x: place(x), y: place(y) },
                Fused::AvgPool { window, x, y } => Step::AvgPool { window, x: place(x), y: place(y) },
                Fused::Dropout { x, y } => Step::Dropout { x: place(x), y: place(y) },
            })
            .collect();
        let features = steps
            .iter()
            .find_map(|step| match step {
                Fused::Dropout { x, .. } => Some(self.channels(*x)),
                _ => None,
            })
            .unwrap_or(0);
        let mut layers = layers;
        for step in &steps {
            if let Fused::Conv { layer, x, y } = step {
                layers[*layer].set_forward(&maps[*x], &maps[*y]);
            }
        }
        Plan {
            layers,
            norms: self.norms,
            pools: self.pools,
            forward,
            backward: back.into_iter().map(|back| back.settle(&slots)).collect(),
            input: place(0),
            logits: place(last),
            dlogits: dlogits.map(|place| place.settle(&slots)),
            features,
            small_len: self.small_len,
            slots: slots.into_sizes(),
        }
    }
}

impl Place {
    /// Turns the buffer that stands in `slot` while drawing into the slot it got.
    fn settle(self, slots: &Slots) -> Self {
        Self { slot: slots.of(self.slot), ..self }
    }
}

impl Back {
    fn settle(self, slots: &Slots) -> Self {
        let sink = |sink: Sink| Sink { place: sink.place.settle(slots), ..sink };
        match self {
            Self::Conv { layer, x, gather, dy, dx } => Self::Conv {
                layer,
                x: x.settle(slots),
                gather: gather.map(|place| place.settle(slots)),
                dy: dy.settle(slots),
                dx: dx.map(sink),
            },
            Self::Norm { norm, x, y, dy, dx, residual } => Self::Norm {
                norm,
                x: x.settle(slots),
                y: y.settle(slots),
                dy: dy.settle(slots),
                dx: dx.map(sink),
                residual: residual.map(sink),
            },
            Self::MaxPool { pool, dy, dx } => Self::MaxPool { pool, dy: dy.settle(slots), dx: sink(dx) },
            Self::AvgPool { window, dy, dx } => Self::AvgPool { window, dy: dy.settle(slots), dx: sink(dx) },
            Self::Dropout { dy, dx } => Self::Dropout { dy: dy.settle(slots), dx: sink(dx) },
        }
    }
}

/// The gradient of a home's buffer.
#[derive(Debug, Clone)]
struct Gradient {
    buffer: usize,
    halo: [usize; 2],
    /// Which channels have been written.
    written: Vec<bool>,
}

/// The way back being drawn. Places hold buffers in `slot` until lifetimes are known.
struct Backward<'d, 'a> {
    drawing: &'d Drawing<'a>,
    maps: &'d [Map],
    end: usize,
    layers: Vec<Layer>,
    back: Vec<Back>,
    dlogits: Option<Place>,
    /// By home.
    gradients: Vec<Option<Gradient>>,
}

impl<'d, 'a> Backward<'d, 'a> {
    fn new(drawing: &'d Drawing<'a>, maps: &'d [Map], end: usize) -> Self {
        Self {
            drawing,
            maps,
            end,
            layers: drawing.layers.clone(),
            back: Vec::new(),
            dlogits: None,
            gradients: vec![None; maps.len()],
        }
    }

    fn draw(
        &mut self,
        steps: &[Fused],
        last: NodeId,
        of: &dyn Fn(NodeId) -> usize,
        lifetimes: &mut Lifetimes,
    ) {
        let turn = steps.len();
        let drawing = self.drawing;
        let trainable = drawing.mode.trainable().expect("only training goes backward");
        for (layer, method) in self.layers.iter_mut().zip(drawing.layers.iter().map(|layer| &layer.weight)) {
            layer.choose_method(drawing.mode, trainable.view(*method));
        }
        let halos = self.output_halos(steps);
        let dlogits = self.sink(last, [0; 2], turn, lifetimes);
        self.dlogits = Some(dlogits.place);
        let mut time = turn;
        for step in steps.iter().rev().filter(|step| drawing.needed[step.output()]) {
            time += 1;
            let dy = self.source(step.output(), time, lifetimes);
            let held = |node: NodeId| Place { slot: of(node), map: self.maps[node] };
            match *step {
                Fused::Conv { layer, x, y } => {
                    let at = held(x);
                    let wants_dx = drawing.needed[x];
                    let halo = if wants_dx { halos[y] } else { [0; 2] };
                    // A gradient inside a wider map is copied out, with the halo that the way back needs.
                    let compact = dy.map.pitch == dy.map.channels && dy.map.halo == halo;
                    let (gather, dy) = if compact {
                        (None, dy)
                    } else {
                        let map = Map { pitch: dy.map.channels, offset: 0, halo, ..dy.map };
                        let buffer = lifetimes.add(map.image(), time);
                        (Some(dy), Place { slot: buffer, map })
                    };
                    let keep = if self.layers[layer].method == Method::Ghost { self.end } else { time };
                    if trainable.view(self.layers[layer].weight) {
                        lifetimes.touch(at.slot, keep);
                        lifetimes.touch(dy.slot, keep);
                    }
                    let dx = wants_dx.then(|| self.sink(x, [0; 2], time, lifetimes));
                    let to = dx.map(|sink| sink.place.map);
                    self.layers[layer].set_backward(&at.map, &dy.map, to.as_ref());
                    self.back.push(Back::Conv { layer, x: at, gather, dy, dx });
                }
                Fused::Norm { norm, x, residual, y } => {
                    let (from, to) = (held(x), held(y));
                    lifetimes.touch(from.slot, time);
                    lifetimes.touch(to.slot, time);
                    let halo = halos[x];
                    let dx = drawing.needed[x].then(|| self.sink(x, halo, time, lifetimes));
                    let residual = residual
                        .filter(|node| drawing.needed[*node])
                        .map(|node| self.sink(node, [0; 2], time, lifetimes));
                    self.back.push(Back::Norm { norm, x: from, y: to, dy, dx, residual });
                }
                Fused::MaxPool { pool, x, .. } => {
                    let dx = self.sink(x, halos[x], time, lifetimes);
                    self.back.push(Back::MaxPool { pool, dy, dx });
                }
                Fused::AvgPool { window, x, .. } => {
                    let dx = self.sink(x, halos[x], time, lifetimes);
                    self.back.push(Back::AvgPool { window, dy, dx });
                }
                Fused::Dropout { x, .. } => {
                    let dx = self.sink(x, halos[x], time, lifetimes);
                    self.back.push(Back::Dropout { dy, dx });
                }
            }
        }
    }

    /// Halo that the gradient of each convolution's result needs on the way to its input.
    fn output_halos(&self, steps: &[Fused]) -> Vec<[usize; 2]> {
        let mut halos = vec![[0; 2]; self.maps.len()];
        for step in steps {
            if let Fused::Conv { layer, x, y } = step
                && self.drawing.needed[*x]
            {
                halos[*y] = self.layers[*layer].output_halo();
            }
        }
        halos
    }

    /// The gradient of a node's result, complete at `time`.
    fn source(&self, node: NodeId, time: usize, lifetimes: &mut Lifetimes) -> Place {
        let home = self.drawing.home[node].0;
        let gradient = self.gradients[home].as_ref().expect("a result that is needed was used");
        lifetimes.touch(gradient.buffer, time);
        Place { slot: gradient.buffer, map: self.drawing.map(node, gradient.halo) }
    }

    /// Where a gradient of a node's result goes.
    fn sink(&mut self, node: NodeId, halo: [usize; 2], time: usize, lifetimes: &mut Lifetimes) -> Sink {
        let (home, offset) = self.drawing.home[node];
        let channels = self.drawing.channels(node);
        let shared = home != node;
        let entry = self.gradients[home].get_or_insert_with(|| {
            let halo = if shared { [0; 2] } else { halo };
            let map = Map { channels: self.drawing.channels(home), ..self.drawing.map(home, halo) };
            Gradient { buffer: lifetimes.add(map.image(), time), halo, written: vec![false; map.channels] }
        });
        lifetimes.touch(entry.buffer, time);
        let written = &mut entry.written[offset..offset + channels];
        let add = written[0];
        assert!(written.iter().all(|w| *w == add), "a gradient is written whole before it is added to");
        written.fill(true);
        Sink { place: Place { slot: entry.buffer, map: self.drawing.map(node, entry.halo) }, add }
    }
}
