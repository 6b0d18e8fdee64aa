"""Known answers of secure aggregation: `python3 testdata/generators/secagg.py > testdata/secagg.json`.

A second implementation with the standard library only: X25519 by the Montgomery ladder (RFC 7748), HKDF-SHA-256
(RFC 5869), AES-256 in counter mode (FIPS 197, NIST SP 800-38A), Shamir's sharing over the field of 2^61 - 1
elements, fixed-point numbers, and from them the masked inputs of three sites.
"""

import hashlib
import hmac
import json
import random
import struct

P = 2**61 - 1
DOMAIN = b"medfed secure aggregation v1"


# X25519.


def x25519(scalar, point):
    prime, a24 = 2**255 - 19, 121665
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    u = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x1, x2, z2, x3, z3, swap = u, 1, 0, u, 1, 0
    for bit in reversed(range(255)):
        now = k >> bit & 1
        if swap ^ now:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = now
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % prime, b * b % prime, d * a % prime, c * b % prime
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % prime, x1 * (da - cb) ** 2 % prime
        x2, z2 = aa * bb % prime, e * (aa + a24 * e) % prime
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, prime - 2, prime) % prime).to_bytes(32, "little")


BASE = (9).to_bytes(32, "little")


# Hashes and keys.


def hkdf(secret, salt, info):
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()


def derive(secret, transcript, purpose, sites):
    return hkdf(secret, transcript, DOMAIN + b"\0" + purpose.encode() + b"\0" + bytes(sites))


def digest(purpose, parts):
    framed = b"".join(struct.pack("<Q", len(part)) + part for part in [DOMAIN, purpose.encode(), *parts])
    return hashlib.sha256(framed).digest()


# AES-256 in counter mode.


def make_box():
    box, p, q = [0] * 256, 1, 1
    while True:
        p ^= (p << 1) & 0xFF ^ (0x1B if p & 0x80 else 0)
        for shift in (1, 2, 4):
            q ^= q << shift & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        rotated = q
        for shift in (1, 2, 3, 4):
            rotated ^= (q << shift | q >> 8 - shift) & 0xFF
        box[p] = rotated ^ 0x63
        if p == 1:
            box[0] = 0x63
            return box


BOX = make_box()


def double(x):
    return (x << 1) & 0xFF ^ (0x1B if x & 0x80 else 0)


def round_keys(key):
    words, constant = [list(key[i : i + 4]) for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = list(words[-1])
        if i % 8 == 0:
            word = [BOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = double(constant)
        elif i % 8 == 4:
            word = [BOX[b] for b in word]
        words.append([a ^ b for a, b in zip(word, words[-8])])
    return [sum(words[i : i + 4], []) for i in range(0, 60, 4)]


def encrypt(keys, block):
    state = [a ^ b for a, b in zip(block, keys[0])]
    for number, key in enumerate(keys[1:], 1):
        state = [BOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number < 14:
            mixed = []
            for c in range(0, 16, 4):
                column = state[c : c + 4]
                every = column[0] ^ column[1] ^ column[2] ^ column[3]
                mixed += [column[i] ^ every ^ double(column[i] ^ column[(i + 1) % 4]) for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def stream(key, words):
    keys = round_keys(key)
    blocks = b"".join(encrypt(keys, n.to_bytes(16, "big")) for n in range((words + 3) // 4))
    return list(struct.unpack(f"<{words}I", blocks[: 4 * words]))


# Shamir, and the protocol's second round.


def seed_bytes(seed):
    return b"".join(struct.pack("<Q", element) for element in seed)


def deal(rng, seed, threshold, holders):
    higher = [[rng.randrange(P) for _ in seed] for _ in range(threshold - 1)]

    def share(x):
        return [(s + sum(c[i] * x ** (k + 1) for k, c in enumerate(higher))) % P for i, s in enumerate(seed)]

    return [share(holder + 1) for holder in holders]


def quantise(values, limit, sites):
    scale = (2**31 - 1 - sites) / limit / sites
    return scale, [round(value * scale) for value in values]


def masked_inputs(rng):
    """Three sites with given seeds; the values are multiples of 1/64, so every step is exact."""
    sites, transcript, context = 3, digest("keys", []), digest("terms", [])
    seeds = [[rng.randrange(P) for _ in range(5)] for _ in range(sites)]
    mask_seeds = [[rng.randrange(P) for _ in range(5)] for _ in range(sites)]
    secrets = [derive(seed_bytes(seed), context, "mask secret", []) for seed in mask_seeds]
    publics = [x25519(secret, BASE) for secret in secrets]
    values = [[rng.randrange(-64, 65) / 64 for _ in range(11)] for _ in range(sites)]
    masked = []
    for me in range(sites):
        words = quantise(values[me], 1.0, sites)[1]
        masks = [(1, derive(seed_bytes(seeds[me]), transcript, "self-mask", [me]))]
        for other in range(sites):
            if other != me:
                shared = x25519(secrets[me], publics[other])
                pair = [min(me, other), max(me, other)]
                masks.append((1 if me < other else -1, derive(shared, transcript, "pairwise mask", pair)))
        for sign, key in masks:
            words = [word + sign * mask for word, mask in zip(words, stream(key, len(words)))]
        masked.append([word % 2**32 for word in words])
    return {
        "transcript": transcript.hex(),
        "context": context.hex(),
        "self_seeds": seeds,
        "mask_seeds": mask_seeds,
        "public_mask_keys": [public.hex() for public in publics],
        "values": values,
        "masked": masked,
        "sum": [sum(column) for column in zip(*(quantise(v, 1.0, sites)[1] for v in values))],
    }


def main():
    # RFC 7748, section 6.1, and NIST SP 800-38A, F.5.5, against the code above.
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    assert x25519(alice, BASE).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plain, cipher = "6bc1bee22e409f96e93d7e117393172a", "601ec313775789a5b7a7f504bbf3d228"
    first = encrypt(round_keys(key), counter)
    assert bytes(a ^ b for a, b in zip(first, bytes.fromhex(plain))).hex() == cipher

    rng = random.Random(6)
    sharings = []
    for threshold, holders in [(2, [0, 1, 2]), (4, [0, 1, 2, 3, 4]), (7, [0, 1, 3, 4, 6, 7, 8, 9])]:
        seed = [rng.randrange(P) for _ in range(5)]
        shares = deal(rng, seed, threshold, holders)
        sharings.append({"threshold": threshold, "holders": holders, "seed": seed, "shares": shares})
    sequence = stream(bytes(range(32)), 5000)
    answers = {
        "generator": "generators/secagg.py",
        "shamir": sharings,
        "stream": {"key": bytes(range(32)).hex(), "first": sequence[:8], "from_4996": sequence[4996:]},
        "derive": {
            "secret": "0b" * 22,
            "transcript": digest("keys", [b"a", b""]).hex(),
            "purpose": "share",
            "sites": [3, 99],
            "key": derive(bytes([11] * 22), digest("keys", [b"a", b""]), "share", [3, 99]).hex(),
        },
        "session": masked_inputs(rng),
    }
    print(json.dumps(answers))


main()
