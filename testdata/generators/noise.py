"""Known answers of the discrete Gaussian sampler: `python3 testdata/generators/noise.py > testdata/noise.json`.

A second implementation with the standard library only: HKDF-SHA-256 (RFC 5869), ChaCha20 (RFC 8439's block
function with a 64-bit counter and a zero nonce), and Karney's algorithm D (2016) with the coins of Canonne,
Kamath and Steinke (2020), all in Python's unbounded integers.
"""

import hashlib
import hmac
import json
import struct

KEY = bytes([9] * 32)
MASK = 0xFFFFFFFF


def derive(key, domain, numbers):
    info = domain.encode() + b"\0" + b"".join(struct.pack("<Q", n) for n in numbers)
    extracted = hmac.new(b"medfed v1", key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()


def rotate(x, n):
    return (x << n | x >> (32 - n)) & MASK


def quarter(s, a, b, c, d):
    for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & MASK
        s[z] = rotate(s[z] ^ s[x], n)


def chacha20(key):
    counter = 0
    while True:
        start = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
        start += [counter & MASK, counter >> 32, 0, 0]
        s = list(start)
        for _ in range(10):
            for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
                quarter(s, a, b, c, d)
            for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                quarter(s, a, b, c, d)
        block = struct.pack("<16I", *((x + y) & MASK for x, y in zip(s, start)))
        yield from struct.unpack("<8Q", block)
        counter += 1


class Coins:
    def __init__(self, words):
        self.words = words
        self.bits = []

    def bit(self):
        if not self.bits:
            word = next(self.words)
            self.bits = [word >> i & 1 for i in range(63, 0, -1)]
        return self.bits.pop()

    def below(self, bound):
        while True:
            product = next(self.words) * bound
            if product % 2**64 >= 2**64 % bound:
                return product >> 64

    def coin(self, n, d):
        return self.below(d) < n

    def exp_minus(self, coin):
        k = 1
        while coin() and (k == 1 or self.coin(1, k)):
            k += 1
        return k % 2 == 1

    def exp_minus_half(self):
        k = 1
        while self.bit() and (k == 1 or (self.bit() if k == 2 else self.coin(1, k))):
            k += 1
        return k % 2 == 1

    def gaussian(self, p, q):
        while True:
            k = 0
            while self.exp_minus_half():
                k += 1
            if not all(self.exp_minus_half() for _ in range(k * (k - 1))):
                continue
            sign = -1 if self.bit() else 1
            i = -(-k * p // q) + self.below(-(-p // q))
            a = i * q - k * p
            if a >= p or (i == 0 and sign < 0):
                continue
            if not all(self.exp_minus(lambda: self.coin(a, p)) for _ in range(k)):
                continue
            if self.exp_minus(lambda: self.bit() and self.coin(a, p) and self.coin(a, p)):
                return sign * i


cases = []
for stream, (p, q) in enumerate([(3, 10), (1, 1), (7, 5), (10, 1), (1000, 1), (2**40 + 15, 1), (2**50, 3)]):
    coins = Coins(chacha20(derive(KEY, "test", [stream])))
    samples = [coins.gaussian(p, q) for _ in range(400)]
    digest = list(hashlib.sha256(b"".join(struct.pack("<q", x) for x in samples)).digest())
    cases.append({"stream": stream, "p": p, "q": q, "first": samples[:8], "sha256_of_400": digest})
print(json.dumps({"generator": "testdata/generators/noise.py", "key_byte": 9, "cases": cases}))
