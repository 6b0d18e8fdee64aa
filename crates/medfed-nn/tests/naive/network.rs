//! A slow, plain implementation of the networks in double precision, image by image, `[channel, row,
//! column]`, with direct loops: what the executor is compared with.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::needless_range_loop, reason = "indices as in the formulas")]

use medfed_nn::Network;
use medfed_nn::network::{MapShape, Node, Op, Window};
use std::ops::Range;

/// One image's loss and gradient.
pub(crate) struct Gradient {
    pub(crate) loss: f64,
    pub(crate) values: Vec<f64>,
}

/// Results of all nodes for one image. `dropout` holds the factors of the features.
fn forward(network: &Network, params: &[f64], image: &[f64], dropout: &[f64]) -> Vec<Vec<f64>> {
    let mut results: Vec<Vec<f64>> = Vec::new();
    for node in network.nodes() {
        let input = |i: usize| &results[node.inputs[i]];
        let from = |i: usize| network.nodes()[node.inputs[i]].shape;
        let out = match &node.op {
            Op::Input => image.to_vec(),
            Op::Conv2d { window, weight, bias } => {
                let bias = bias.map(|b| &params[range(network, b)]);
                convolve(input(0), from(0), &params[range(network, *weight)], bias, window, node.shape)
            }
            Op::GroupNorm { groups, weight, bias } => {
                let normal = normalise(input(0), *groups).0;
                let (scale, shift) = (&params[range(network, *weight)], &params[range(network, *bias)]);
                let pixels = node.shape.pixels();
                normal.iter().enumerate().map(|(i, x)| x * scale[i / pixels] + shift[i / pixels]).collect()
            }
            Op::Relu => input(0).iter().map(|x| x.max(0.0)).collect(),
            Op::MaxPool { window } => {
                let x = input(0);
                taps(window, from(0), node.shape).map(|t| x[winner(x, &t)]).collect()
            }
            Op::AvgPool { window } => {
                let x = input(0);
                taps(window, from(0), node.shape)
                    .map(|t| t.iter().map(|i| x[*i]).sum::<f64>() / t.len() as f64)
                    .collect()
            }
            Op::Linear { weight, bias } => {
                let (w, b) = (&params[range(network, *weight)], &params[range(network, *bias)]);
                let x = input(0);
                (0..b.len())
                    .map(|o| {
                        b[o] + x
                            .iter()
                            .enumerate()
                            .map(|(i, x)| x * w[o * x_len(node, network) + i])
                            .sum::<f64>()
                    })
                    .collect()
            }
            Op::Add => input(0).iter().zip(input(1)).map(|(a, b)| a + b).collect(),
            Op::Concat => node.inputs.iter().flat_map(|i| results[*i].clone()).collect(),
            Op::Dropout => input(0).iter().zip(dropout).map(|(x, f)| x * f).collect(),
        };
        results.push(out);
    }
    results
}

fn x_len(node: &Node, network: &Network) -> usize {
    network.nodes()[node.inputs[0]].shape.len()
}

fn range(network: &Network, view: usize) -> Range<usize> {
    network.layout().views()[view].range()
}

fn log_sum(logits: &[f64]) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, z| m.max(*z));
    largest + logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln()
}

/// The logits of one image.
pub(crate) fn logits(network: &Network, params: &[f64], image: &[f64], dropout: &[f64]) -> Vec<f64> {
    forward(network, params, image, dropout).pop().unwrap()
}

/// The cross-entropy of one image.
pub(crate) fn loss(network: &Network, params: &[f64], image: &[f64], label: usize, dropout: &[f64]) -> f64 {
    let results = forward(network, params, image, dropout);
    let logits = results.last().unwrap();
    log_sum(logits) - logits[label]
}

/// The cross-entropy of one image and its gradient.
pub(crate) fn gradient(
    network: &Network,
    params: &[f64],
    image: &[f64],
    label: usize,
    dropout: &[f64],
) -> Gradient {
    let nodes = network.nodes();
    let results = forward(network, params, image, dropout);
    let logits = results.last().unwrap().clone();
    let total = log_sum(&logits);
    let mut values = vec![0.0; params.len()];
    let mut grads: Vec<Vec<f64>> = results.iter().map(|r| vec![0.0; r.len()]).collect();
    for (class, z) in logits.iter().enumerate() {
        grads.last_mut().unwrap()[class] = (z - total).exp() - f64::from(u8::from(class == label));
    }
    for (id, node) in nodes.iter().enumerate().rev() {
        let g = grads[id].clone();
        let pixels = node.shape.pixels();
        let source = node.inputs.first().map(|i| (*i, nodes[*i].shape));
        match &node.op {
            Op::Input => {}
            Op::Conv2d { window, weight, bias } => {
                let (from, shape) = source.unwrap();
                let weight = range(network, *weight);
                for_products(shape, window, node.shape, |x, w, y| {
                    values[weight.start + w] += g[y] * results[from][x];
                    grads[from][x] += g[y] * params[weight.start + w];
                });
                if let Some(bias) = bias {
                    let start = range(network, *bias).start;
                    g.iter().enumerate().for_each(|(i, g)| values[start + i / pixels] += g);
                }
            }
            Op::GroupNorm { groups, weight, bias } => {
                let from = source.unwrap().0;
                let (normal, deviations) = normalise(&results[from], *groups);
                let (w, b) = (range(network, *weight).start, range(network, *bias).start);
                let size = g.len() / groups;
                let scaled: Vec<f64> =
                    g.iter().enumerate().map(|(i, g)| g * params[w + i / pixels]).collect();
                for (i, g) in g.iter().enumerate() {
                    values[w + i / pixels] += g * normal[i];
                    values[b + i / pixels] += g;
                }
                for group in 0..*groups {
                    let r = group * size..(group + 1) * size;
                    let mean = scaled[r.clone()].iter().sum::<f64>() / size as f64;
                    let product = r.clone().map(|i| scaled[i] * normal[i]).sum::<f64>() / size as f64;
                    for i in r {
                        grads[from][i] += deviations[group] * (scaled[i] - mean - normal[i] * product);
                    }
                }
            }
            Op::Relu => {
                let from = source.unwrap().0;
                for (i, g) in g.iter().enumerate().filter(|(i, _)| results[from][*i] > 0.0) {
                    grads[from][i] += g;
                }
            }
            Op::MaxPool { window } => {
                let (from, shape) = source.unwrap();
                for (t, g) in taps(window, shape, node.shape).zip(&g) {
                    grads[from][winner(&results[from], &t)] += g;
                }
            }
            Op::AvgPool { window } => {
                let (from, shape) = source.unwrap();
                for (t, g) in taps(window, shape, node.shape).zip(&g) {
                    for i in &t {
                        grads[from][*i] += g / t.len() as f64;
                    }
                }
            }
            Op::Linear { weight, bias } => {
                let (from, shape) = source.unwrap();
                let (w, b) = (range(network, *weight).start, range(network, *bias).start);
                for (o, g) in g.iter().enumerate() {
                    values[b + o] += g;
                    for i in 0..shape.len() {
                        values[w + o * shape.len() + i] += g * results[from][i];
                        grads[from][i] += g * params[w + o * shape.len() + i];
                    }
                }
            }
            Op::Add => {
                for from in &node.inputs {
                    grads[*from].iter_mut().zip(&g).for_each(|(a, b)| *a += b);
                }
            }
            Op::Concat => {
                let mut at = 0;
                for from in &node.inputs {
                    let len = grads[*from].len();
                    grads[*from].iter_mut().zip(&g[at..at + len]).for_each(|(a, b)| *a += b);
                    at += len;
                }
            }
            Op::Dropout => {
                let from = source.unwrap().0;
                for (i, g) in g.iter().enumerate() {
                    grads[from][i] += g * dropout[i];
                }
            }
        }
    }
    Gradient { loss: total - logits[label], values }
}

/// Calls `product` with the indices of input, weight and output of every product of a convolution.
fn for_products(from: MapShape, window: &Window, to: MapShape, mut product: impl FnMut(usize, usize, usize)) {
    let [kh, kw] = window.kernel;
    for o in 0..to.channels {
        for c in 0..from.channels {
            for i in 0..kh {
                for j in 0..kw {
                    let w = ((o * from.channels + c) * kh + i) * kw + j;
                    for row in 0..to.height {
                        let Some(r) = (row * window.stride[0] + i).checked_sub(window.padding[0]) else {
                            continue;
                        };
                        for column in 0..to.width {
                            let s = (column * window.stride[1] + j).checked_sub(window.padding[1]);
                            let Some(s) = s.filter(|s| *s < from.width && r < from.height) else { continue };
                            let x = (c * from.height + r) * from.width + s;
                            product(x, w, (o * to.height + row) * to.width + column);
                        }
                    }
                }
            }
        }
    }
}

fn convolve(
    x: &[f64],
    from: MapShape,
    weight: &[f64],
    bias: Option<&[f64]>,
    window: &Window,
    to: MapShape,
) -> Vec<f64> {
    let mut out: Vec<f64> = (0..to.len()).map(|i| bias.map_or(0.0, |b| b[i / to.pixels()])).collect();
    for_products(from, window, to, |i, w, o| out[o] += x[i] * weight[w]);
    out
}

/// x̂ and each group's reciprocal deviation.
fn normalise(x: &[f64], groups: usize) -> (Vec<f64>, Vec<f64>) {
    let size = x.len() / groups;
    let mut out = Vec::new();
    let mut deviations = Vec::new();
    for group in x.chunks(size) {
        let mean = group.iter().sum::<f64>() / size as f64;
        let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size as f64;
        let deviation = 1.0 / (variance + 1e-5).sqrt();
        out.extend(group.iter().map(|x| (x - mean) * deviation));
        deviations.push(deviation);
    }
    (out, deviations)
}

/// The input indices under each position of a pooling window.
fn taps(window: &Window, from: MapShape, to: MapShape) -> impl Iterator<Item = Vec<usize>> {
    let window = *window;
    (0..to.len()).map(move |index| {
        let (channel, row, column) = (index / to.pixels(), index % to.pixels() / to.width, index % to.width);
        let mut taps = Vec::new();
        for i in 0..window.kernel[0] {
            for j in 0..window.kernel[1] {
                let r = (row * window.stride[0] + i).checked_sub(window.padding[0]);
                let s = (column * window.stride[1] + j).checked_sub(window.padding[1]);
                if let (Some(r), Some(s)) = (r, s)
                    && r < from.height
                    && s < from.width
                {
                    taps.push((channel * from.height + r) * from.width + s);
                }
            }
        }
        taps
    })
}

/// The first of the largest.
fn winner(x: &[f64], taps: &[usize]) -> usize {
    taps.iter().copied().reduce(|best, i| if x[i] > x[best] { i } else { best }).unwrap()
}
