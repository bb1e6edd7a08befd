//! Pseudorandom numbers and bytes, the same in each run.

pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// xorshift64.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Fewer than `limit` bytes.
    pub fn bytes(&mut self, limit: u64) -> Vec<u8> {
        let count = self.next() % limit;
        (0..count).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}
