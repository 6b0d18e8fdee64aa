//! Buffers that are not needed at the same time share memory.

/// A buffer's size and the first and last step that touches it.
#[derive(Debug, Clone, Copy)]
struct Life {
    size: usize,
    birth: usize,
    death: usize,
}

/// Buffers while a plan is drawn.
#[derive(Debug, Default)]
pub(super) struct Lifetimes(Vec<Life>);

impl Lifetimes {
    /// A buffer of `size` floats per image that is first written at `time`.
    pub(super) fn add(&mut self, size: usize, time: usize) -> usize {
        self.0.push(Life { size, birth: time, death: time });
        self.0.len() - 1
    }

    /// Keeps the buffer until `time`.
    pub(super) fn touch(&mut self, buffer: usize, time: usize) {
        let life = &mut self.0[buffer];
        life.death = life.death.max(time);
    }

    /// Gives each buffer a slot. In the order of birth, each takes the free slot that fits best, growing it
    /// if need be, or a new one.
    pub(super) fn assign(self) -> Slots {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by_key(|buffer| (self.0[*buffer].birth, *buffer));
        let mut slots = Slots { of: vec![0; self.0.len()], sizes: Vec::new() };
        let mut busy_until: Vec<usize> = Vec::new();
        for buffer in order {
            let Life { size, birth, death } = self.0[buffer];
            let free = (0..busy_until.len())
                .filter(|slot| busy_until[*slot] < birth)
                .min_by_key(|slot| (slots.sizes[*slot] < size, slots.sizes[*slot].abs_diff(size)));
            let slot = free.unwrap_or_else(|| {
                busy_until.push(0);
                slots.sizes.push(0);
                busy_until.len() - 1
            });
            busy_until[slot] = death;
            slots.sizes[slot] = slots.sizes[slot].max(size);
            slots.of[buffer] = slot;
        }
        slots
    }
}

/// The slot of each buffer, and the slots' sizes in floats per image.
#[derive(Debug)]
pub(super) struct Slots {
    of: Vec<usize>,
    sizes: Vec<usize>,
}

impl Slots {
    pub(super) fn of(&self, buffer: usize) -> usize {
        self.of[buffer]
    }

    pub(super) fn into_sizes(self) -> Vec<usize> {
        self.sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_share_a_slot_only_when_their_lives_do_not_meet() {
        let mut lifetimes = Lifetimes::default();
        let a = lifetimes.add(10, 0);
        let b = lifetimes.add(20, 1);
        lifetimes.touch(a, 1);
        let c = lifetimes.add(15, 2);
        lifetimes.touch(b, 2);
        let slots = lifetimes.assign();
        assert_ne!(slots.of(a), slots.of(b));
        assert_ne!(slots.of(b), slots.of(c));
        assert_eq!(slots.of(a), slots.of(c));
        assert_eq!(slots.into_sizes(), [15, 20]);
    }
}
