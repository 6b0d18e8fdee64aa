//! The parts of a step, told to whoever measures as each begins. Nothing happens here without the feature
//! `measure`, and the clock is the measuring program's.

use super::geometry::Layer;

/// What a pass does with a micro-batch.
#[cfg_attr(not(feature = "measure"), expect(unreachable_pub, reason = "the feature makes it public"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Weights are packed, or transformed for tiles; memory is made ready.
    Prepare,
    /// Images are read.
    Load,
    /// A convolution, or the linear layer.
    Convolve,
    /// GroupNorm with ReLU and the sum of a residual block.
    Normalise,
    /// Pooling, dropout, and copies out of wider maps, either way.
    Pool,
    /// The loss and its gradient.
    Loss,
    /// The gradient of a convolution's input.
    InputGradient,
    /// The gradient of a convolution's weights: of each unit, or summed.
    WeightGradient,
    /// Norms of gradients that are not computed.
    GhostNorms,
    /// GroupNorm on the way back.
    NormaliseBack,
    /// Gradients are scaled by the clip factors and added up.
    Clip,
    /// The sum is brought into the order of the parameters.
    Finish,
}

#[cfg(not(feature = "measure"))]
pub(super) fn begin(_: Part, _: usize, _: Option<&Layer>) {}

#[cfg(feature = "measure")]
pub(super) use observer::begin;

#[cfg(feature = "measure")]
pub(super) mod observer {
    use super::{Layer, Part};
    use std::cell::RefCell;

    /// A part that begins; the one before it has ended.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Begun {
        /// What.
        pub part: Part,
        /// The convolution, counted from the first; absent for other parts.
        pub convolution: Option<Convolved>,
        /// Floating-point operations by the definition: two for each image, result, and weight that meets it.
        pub operations: f64,
    }

    /// A convolution as the network has it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Convolved {
        /// Rows and columns of the result.
        pub map: [usize; 2],
        /// Rows and columns of the kernel.
        pub kernel: [usize; 2],
        /// Channels read.
        pub inputs: usize,
        /// Channels written.
        pub outputs: usize,
    }

    type Observer = Box<dyn FnMut(Begun)>;

    thread_local! {
        static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    }

    /// Does `work` while `observer` is told of each part that an executor begins on this thread. Passes call
    /// kernels from the thread that called the executor, so there is an order.
    pub fn observe<T>(observer: impl FnMut(Begun) + 'static, work: impl FnOnce() -> T) -> T {
        OBSERVER.set(Some(Box::new(observer)));
        let result = work();
        OBSERVER.set(None);
        result
    }

    pub(in crate::executor) fn begin(part: Part, count: usize, layer: Option<&Layer>) {
        OBSERVER.with_borrow_mut(|observer| {
            let Some(observer) = observer else { return };
            let convolution = layer.map(|layer| {
                let shape = &layer.shape;
                let (inputs, outputs) = (shape.inputs, shape.outputs);
                Convolved { map: layer.output(), kernel: shape.kernel, inputs, outputs }
            });
            let operations = convolution.map_or(0.0, |of| {
                let weights = of.inputs * of.outputs * of.kernel[0] * of.kernel[1];
                2.0 * (count * of.map[0] * of.map[1]) as f64 * weights as f64
            });
            observer(Begun { part, convolution, operations });
        });
    }
}
