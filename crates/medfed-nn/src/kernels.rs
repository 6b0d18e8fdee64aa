//! The numeric kernels. Each is safe to call: it checks that the memory it was given covers what it will
//! touch, then divides the work over the current rayon pool.
//!
//! Feature maps are `[image, row, column, channel]` with the channels contiguous, so that vectors run
//! along the channels whatever the size of the map. Channels are padded with zeros to a multiple of
//! [`LANES`]; the image itself is not, because its channels are only ever broadcast. A map may have a
//! halo of zeros around it, which is what padded convolutions read.
//!
//! Results do not depend on the number of threads: work is divided by output elements, and each output
//! element is summed in one fixed order.

#![expect(
    clippy::inline_always,
    reason = "kernels are compiled for the vector unit at hand only if they are inlined into its dispatcher"
)]

pub(crate) mod convolution;
pub(crate) mod correlate;
pub(crate) mod gram;
pub(crate) mod group_norm;
pub(crate) mod outer;
pub(crate) mod pack;
pub(crate) mod pool;
#[cfg(feature = "measure")]
pub(crate) mod product;
mod tile;
pub(crate) mod vector;
pub(crate) mod winograd;

/// Channels are padded to a multiple of this: the widest vector register in floats.
pub(crate) const LANES: usize = 16;

/// `channels` rounded up to whole vectors.
pub(crate) const fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// Where the elements of a feature map lie in a buffer of several images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    /// Rows.
    pub(crate) height: usize,
    /// Columns.
    pub(crate) width: usize,
    /// Channels in memory.
    pub(crate) channels: usize,
    /// Floats from one column to the next; more than `channels` for a part of a wider map.
    pub(crate) pitch: usize,
    /// First channel within the pitch.
    pub(crate) offset: usize,
    /// Rows and columns of zeros on each side.
    pub(crate) halo: [usize; 2],
}

impl Map {
    /// Floats from one row to the next.
    pub(crate) fn row(&self) -> usize {
        (self.width + 2 * self.halo[1]) * self.pitch
    }

    /// Floats from one image to the next.
    pub(crate) fn image(&self) -> usize {
        (self.height + 2 * self.halo[0]) * self.row()
    }

    /// Index of the first element of row 0 within the image.
    pub(crate) fn first(&self) -> usize {
        self.halo[0] * self.row() + self.halo[1] * self.pitch + self.offset
    }

    /// Positions of the map.
    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Floats between the first element of a row and the end of its last pixel.
    pub(crate) fn row_span(&self) -> usize {
        (self.width - 1) * self.pitch + self.channels
    }

    /// Writes zeros around the map of one image.
    pub(crate) fn clear_halo(&self, image: &mut [f32]) {
        let [rows, columns] = self.halo;
        if rows == 0 && columns == 0 {
            return;
        }
        let (row, side) = (self.row(), columns * self.pitch);
        image[..rows * row].fill(0.0);
        image[(rows + self.height) * row..].fill(0.0);
        for line in image[rows * row..(rows + self.height) * row].chunks_exact_mut(row) {
            line[..side].fill(0.0);
            line[row - side..].fill(0.0);
        }
    }
}

/// A pointer that tasks share, each writing elements of its own.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

#[expect(unsafe_code, reason = "tasks of one kernel write disjoint elements")]
// SAFETY: the pointer is only dereferenced inside kernels whose tasks write disjoint elements of a
// buffer that is mutably borrowed for the whole parallel call.
unsafe impl Send for Shared {}
#[expect(unsafe_code, reason = "tasks of one kernel write disjoint elements")]
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn of(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The pointer; a method, so that closures capture the wrapper and not its field.
    fn get(self) -> *mut f32 {
        self.0
    }
}
