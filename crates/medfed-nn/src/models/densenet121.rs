//! DenseNet-121 in torchvision's layout with GroupNorm in place of BatchNorm.

use super::ModelSpec;
use crate::error::NnError;
use crate::network::{Builder, Init, Network, NodeId, Window, norm_groups};

/// Channels that each dense layer adds.
const GROWTH: usize = 32;
/// Dense layers of each block.
const LAYERS: [usize; 4] = [6, 12, 24, 16];

pub(super) fn build(spec: &ModelSpec) -> Result<Network, NnError> {
    let mut net = Builder::new(spec, Init::HeFanIn);
    let small = spec.small_input();
    let image = net.input();
    let stem = if small { Window::new(3, 1, 1) } else { Window::new(7, 2, 3) };
    let mut x = net.conv(image, "features.conv0", 64, stem, false);
    x = norm_relu(&mut net, x, "features.norm0");
    if !small {
        x = net.max_pool(x, Window::new(3, 2, 1));
    }
    for (block, layers) in LAYERS.into_iter().enumerate() {
        for layer in 0..layers {
            let name = format!("features.denseblock{}.denselayer{}", block + 1, layer + 1);
            let mut y = norm_relu(&mut net, x, &format!("{name}.norm1"));
            y = net.conv(y, &format!("{name}.conv1"), 4 * GROWTH, Window::new(1, 1, 0), false);
            y = norm_relu(&mut net, y, &format!("{name}.norm2"));
            y = net.conv(y, &format!("{name}.conv2"), GROWTH, Window::new(3, 1, 1), false);
            x = net.concat(&[x, y]);
        }
        if block + 1 < LAYERS.len() {
            let name = format!("features.transition{}", block + 1);
            x = norm_relu(&mut net, x, &format!("{name}.norm"));
            let half = net.shape(x).channels / 2;
            x = net.conv(x, &format!("{name}.conv"), half, Window::new(1, 1, 0), false);
            x = net.avg_pool(x, Window::new(2, 2, 0));
        }
    }
    x = norm_relu(&mut net, x, "features.norm5");
    x = net.global_avg_pool(x);
    x = net.dropout(x);
    net.finish(x, "classifier")
}

fn norm_relu(net: &mut Builder, x: NodeId, name: &str) -> NodeId {
    let channels = net.shape(x).channels;
    let y = net.group_norm(x, name, norm_groups(32, channels));
    net.relu(y)
}
