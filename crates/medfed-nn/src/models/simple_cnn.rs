//! SimpleCNN: blocks of 3×3 convolution, GroupNorm, ReLU and 2×2 pooling, then the mean of each map,
//! dropout and a linear layer. Parameter names count the layers as PyTorch's `Sequential` does.

use super::ModelSpec;
use crate::error::NnError;
use crate::network::{Builder, Init, Network, Window, norm_groups};

/// Widths of the blocks unless others are asked for.
const WIDTHS: [usize; 5] = [32, 64, 128, 256, 512];

pub(super) fn build(spec: &ModelSpec) -> Result<Network, NnError> {
    let mut net = Builder::new(spec, Init::HeFanIn);
    let mut x = net.input();
    let mut layer = 0;
    for &width in spec.channels.as_deref().unwrap_or(&WIDTHS) {
        x = net.conv(x, &format!("features.{layer}"), width, Window::new(3, 1, 1), true);
        x = net.group_norm(x, &format!("features.{}", layer + 1), norm_groups(8, width));
        x = net.relu(x);
        layer += 3;
        let shape = net.shape(x);
        if shape.height > 1 && shape.width > 1 {
            x = net.max_pool(x, Window::new(2, 2, 0));
            layer += 1;
        }
    }
    x = net.global_avg_pool(x);
    x = net.dropout(x);
    net.finish(x, "head")
}
