//! ResNet-18 in torchvision's layout with GroupNorm in place of BatchNorm.

use super::ModelSpec;
use crate::error::NnError;
use crate::network::{Builder, Init, Network, NodeId, Window, norm_groups};

pub(super) fn build(spec: &ModelSpec) -> Result<Network, NnError> {
    let mut net = Builder::new(spec, Init::HeFanOut);
    let small = spec.small_input();
    let image = net.input();
    let stem = if small { Window::new(3, 1, 1) } else { Window::new(7, 2, 3) };
    let mut x = norm_conv(&mut net, image, ("conv1", "bn1"), 64, stem);
    x = net.relu(x);
    if !small {
        x = net.max_pool(x, Window::new(3, 2, 1));
    }
    for (stage, width) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..2 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(&mut net, x, &format!("layer{}.{block}", stage + 1), width, stride);
        }
    }
    x = net.global_avg_pool(x);
    x = net.dropout(x);
    net.finish(x, "fc")
}

/// Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes.
fn basic_block(net: &mut Builder, x: NodeId, name: &str, width: usize, stride: usize) -> NodeId {
    let names = [1, 2].map(|i| (format!("{name}.conv{i}"), format!("{name}.bn{i}")));
    let mut y = norm_conv(net, x, (&names[0].0, &names[0].1), width, Window::new(3, stride, 1));
    y = net.relu(y);
    y = norm_conv(net, y, (&names[1].0, &names[1].1), width, Window::new(3, 1, 1));
    let mut shortcut = x;
    if stride != 1 || net.shape(x).channels != width {
        let names = [0, 1].map(|i| format!("{name}.downsample.{i}"));
        shortcut = norm_conv(net, x, (&names[0], &names[1]), width, Window::new(1, stride, 0));
    }
    let sum = net.add(y, shortcut);
    net.relu(sum)
}

fn norm_conv(net: &mut Builder, x: NodeId, names: (&str, &str), width: usize, window: Window) -> NodeId {
    let y = net.conv(x, names.0, width, window, false);
    net.group_norm(y, names.1, norm_groups(32, width))
}
