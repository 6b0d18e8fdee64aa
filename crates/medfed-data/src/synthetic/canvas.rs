//! The drawing surface: where the patient lies on it, strokes, texture, blur.

/// A point in patient coordinates: x to the right of the image (the patient's left), y down; the
/// detector spans about −1 to 1 in both.
pub(super) type Point = [f32; 2];

/// How the patient lies on the detector of `size` × `size` pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) size: usize,
    /// Pixel = matrix · point + offset.
    matrix: [f32; 4],
    offset: Point,
    /// Width of a pixel in patient coordinates.
    pub(super) pixel: f32,
}

impl View {
    /// `scale` 1 fits the standard adult; `angle` in radians; `shift` in patient coordinates.
    pub(super) fn new(size: usize, scale: f32, angle: f32, shift: Point) -> Self {
        let half = size as f32 / 2.0;
        let (sin, cos) = angle.sin_cos();
        let k = half * scale;
        let offset = [half + shift[0] * half, half + shift[1] * half];
        Self { size, matrix: [k * cos, -k * sin, k * sin, k * cos], offset, pixel: 1.0 / k }
    }

    fn pixel_of(&self, p: Point) -> Point {
        let m = &self.matrix;
        [m[0] * p[0] + m[1] * p[1] + self.offset[0], m[2] * p[0] + m[3] * p[1] + self.offset[1]]
    }

    /// The patient coordinates of a pixel's centre.
    pub(super) fn point_of(&self, column: usize, row: usize) -> Point {
        let (x, y) = (column as f32 + 0.5 - self.offset[0], row as f32 + 0.5 - self.offset[1]);
        let m = &self.matrix;
        let k2 = self.pixel * self.pixel;
        [(m[0] * x + m[2] * y) * k2, (m[1] * x + m[3] * y) * k2]
    }
}

/// Strokes, each pixel holding the strongest that covers it, 0 to about 1.
#[derive(Debug)]
pub(super) struct Layer {
    view: View,
    pub(super) values: Vec<f32>,
}

/// How a stroke looks across its width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Profile {
    /// A filled tube: densest in the middle.
    Tube,
    /// A hollow bone: the two cortical edges are densest.
    Bone,
}

impl Layer {
    pub(super) fn new(view: View) -> Self {
        Self { view, values: vec![0.0; view.size * view.size] }
    }

    /// Draws a line through `points`; half width (patient coordinates) and strength run linearly from
    /// the first to the second value along it.
    pub(super) fn stroke(
        &mut self,
        points: &[Point],
        half_width: [f32; 2],
        strength: [f32; 2],
        profile: Profile,
    ) {
        let last = (points.len().max(2) - 1) as f32;
        for (i, ends) in points.windows(2).enumerate() {
            let at = |range: [f32; 2], t: f32| range[0] + (range[1] - range[0]) * t / last;
            let (t0, t1) = (i as f32, i as f32 + 1.0);
            self.segment(
                self.view.pixel_of(ends[0]),
                self.view.pixel_of(ends[1]),
                [at(half_width, t0), at(half_width, t1)],
                [at(strength, t0), at(strength, t1)],
                profile,
            );
        }
    }

    fn segment(&mut self, a: Point, b: Point, half_width: [f32; 2], strength: [f32; 2], profile: Profile) {
        let size = self.view.size;
        let reach = half_width[0].max(half_width[1]) / self.view.pixel + 1.0;
        let span = |lo: f32, hi: f32| {
            // Casts from negative floats saturate at 0, so strokes that leave the detector are cut.
            ((lo - reach).floor() as usize).min(size)..((hi + reach).ceil() as usize).min(size)
        };
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length2 = (dx * dx + dy * dy).max(1e-6);
        for row in span(a[1].min(b[1]), a[1].max(b[1])) {
            for column in span(a[0].min(b[0]), a[0].max(b[0])) {
                let (px, py) = (column as f32 + 0.5 - a[0], row as f32 + 0.5 - a[1]);
                let t = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
                let distance = ((px - t * dx).powi(2) + (py - t * dy).powi(2)).sqrt();
                let wanted = (half_width[0] + (half_width[1] - half_width[0]) * t) / self.view.pixel;
                // A line thinner than a pixel is drawn one pixel wide and fainter.
                let width = wanted.max(0.5);
                let cover = (width - distance + 0.5).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let across = (distance / width).min(1.0);
                    let shape = match profile {
                        Profile::Tube => 1.0 - 0.5 * across * across,
                        Profile::Bone => 0.62 + 0.38 * across * across * across,
                    };
                    let value =
                        cover * shape * (strength[0] + (strength[1] - strength[0]) * t) * (wanted / width);
                    let pixel = &mut self.values[row * size + column];
                    *pixel = pixel.max(value);
                }
            }
        }
    }
}

/// Value noise: smooth, in −1 to 1, about one feature per unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texture(pub(super) u32);

impl Texture {
    fn lattice(self, x: i32, y: i32) -> f32 {
        let mut h = self.0
            ^ x.cast_unsigned().wrapping_mul(0x9e37_79b1)
            ^ y.cast_unsigned().wrapping_mul(0x85eb_ca77);
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
        (h ^ (h >> 15)) as f32 / (u32::MAX as f32 / 2.0) - 1.0
    }

    fn smooth(self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let (ix, iy) = (fx as i32, fy as i32);
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (u, v) = (ease(x - fx), ease(y - fy));
        let top = self.lattice(ix, iy) * (1.0 - u) + self.lattice(ix + 1, iy) * u;
        let bottom = self.lattice(ix, iy + 1) * (1.0 - u) + self.lattice(ix + 1, iy + 1) * u;
        top * (1.0 - v) + bottom * v
    }

    /// `octaves` of noise, each twice as fine and half as strong; in −1 to 1.
    pub(super) fn at(self, p: Point, frequency: f32, octaves: u32) -> f32 {
        let (mut sum, mut weight, mut total) = (0.0, 1.0, 0.0);
        let mut scale = frequency;
        for octave in 0..octaves {
            // The offset keeps the octaves' lattices from sharing corners.
            let o = 17.3 * octave as f32;
            sum += weight * self.smooth(p[0] * scale + o, p[1] * scale - o);
            total += weight;
            weight *= 0.5;
            scale *= 2.0;
        }
        sum / total
    }
}

/// Averages blocks of `factor` × `factor` pixels; `size` is the side of the result.
pub(super) fn shrink(pixels: &[f32], size: usize, factor: usize) -> Vec<f32> {
    let wide = size * factor;
    let share = 1.0 / (factor * factor) as f32;
    let mut out = vec![0.0; size * size];
    for (row, line) in pixels.chunks_exact(wide).enumerate() {
        for (sum, block) in out[row / factor * size..].iter_mut().zip(line.chunks_exact(factor)) {
            *sum += block.iter().sum::<f32>() * share;
        }
    }
    out
}

/// Gaussian blur with a standard deviation in pixels; the border repeats.
pub(super) fn blur(pixels: &mut [f32], size: usize, sigma: f32) {
    if sigma < 0.2 {
        return;
    }
    let reach = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=reach).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
    let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    for weight in &mut kernel {
        *weight /= total;
    }
    let mut line = vec![0.0; size];
    let mut pass = |start: usize, step: usize| {
        for (i, value) in line.iter_mut().enumerate() {
            *value = pixels[start + i * step];
        }
        for i in 0..size {
            let mut sum = kernel[0] * line[i];
            for (j, weight) in kernel.iter().enumerate().skip(1) {
                sum += weight * (line[i.saturating_sub(j)] + line[(i + j).min(size - 1)]);
            }
            pixels[start + i * step] = sum;
        }
    };
    for i in 0..size {
        pass(i * size, 1);
    }
    for i in 0..size {
        pass(i, size);
    }
}
