"""Merkle trees of RFC 6962 by its recursive definitions, for testdata/audit_merkle.json.

MTH, PATH and PROOF are written down as section 2.1 of the RFC defines them, on lists of entries. Known
answers of the Certificate Transparency project (the tree of 8 entries that its test suites share) are
asserted before anything is written.

Usage: python audit_merkle.py > ../audit_merkle.json
"""

import hashlib
import json


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(entries: list[bytes]) -> bytes:
    n = len(entries)
    if n == 0:
        return sha256(b"")
    if n == 1:
        return sha256(b"\x00" + entries[0])
    k = split(n)
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:]))


def path(m: int, entries: list[bytes]) -> list[bytes]:
    n = len(entries)
    if n == 1:
        return []
    k = split(n)
    if m < k:
        return path(m, entries[:k]) + [mth(entries[k:])]
    return path(m - k, entries[k:]) + [mth(entries[:k])]


def subproof(m: int, entries: list[bytes], complete: bool) -> list[bytes]:
    n = len(entries)
    if m == n:
        return [] if complete else [mth(entries)]
    k = split(n)
    if m <= k:
        return subproof(m, entries[:k], complete) + [mth(entries[k:])]
    return subproof(m - k, entries[k:], False) + [mth(entries[:k])]


def proof(m: int, entries: list[bytes]) -> list[bytes]:
    return subproof(m, entries, True)


# The inputs and the roots that implementations of Certificate Transparency test themselves with.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def main() -> None:
    for size, root in enumerate(ROOTS, start=1):
        assert mth(ENTRIES[:size]).hex() == root, size
    known = [path(0, ENTRIES), path(5, ENTRIES), proof(6, ENTRIES)]
    assert [node.hex()[:8] for node in known[0]] == ["96a296d2", "5f083f0a", "6b47aaf2"]
    assert [node.hex()[:8] for node in known[1]] == ["bc1a0643", "ca854ea1", "d37ee418"]
    assert [node.hex()[:8] for node in known[2]] == ["0ebc5d34", "ca854ea1", "d37ee418"]

    # Odd and complete trees of up to 33 entries; entry i is the bytes of i.
    longer = [bytes([i]) * (i % 5) for i in range(33)]
    print('{\n"entries": [')
    print(",\n".join(json.dumps(entry.hex()) for entry in longer))
    print('],\n"known": {"entries": ' + json.dumps([entry.hex() for entry in ENTRIES]) + ",")
    print('"roots": ' + json.dumps(ROOTS) + "},")
    print('"roots": [')
    print(",\n".join(json.dumps(mth(longer[:size]).hex()) for size in range(34)))
    print('],\n"inclusion": [')
    chosen = [(m, n) for n in (1, 2, 3, 5, 8, 13, 31, 32, 33) for m in sorted({0, n // 2, n - 1})]
    rows = [[m, n, [node.hex() for node in path(m, longer[:n])]] for m, n in chosen]
    print(",\n".join(json.dumps(row) for row in rows))
    print('],\n"consistency": [')
    chosen = [(m, n) for n in (2, 3, 6, 7, 8, 21, 32, 33) for m in sorted({1, n // 2, n - 1, n})]
    rows = [[m, n, [node.hex() for node in proof(m, longer[:n])]] for m, n in chosen]
    print(",\n".join(json.dumps(row) for row in rows))
    print("]\n}")


main()
