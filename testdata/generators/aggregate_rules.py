"""Known answers of the aggregation rules: `python3 testdata/generators/aggregate_rules.py > testdata/aggregate_rules.json`.

Average, median, trimmed mean, Krum, Multi-Krum, geometric median, centred clipping and nearest-neighbour mixing
come from ByzFL 0.0.11 in double precision; Bulyan, FoolsGold, weights, and every case
with ties between hospitals from the transcriptions of the papers below. Where ByzFL differs from the papers:

- Its Krum and Multi-Krum sum the n-f-1 nearest other vectors, Blanchard et al. 2017 the n-f-2 nearest. Its f+1 is
  therefore the paper's f, and its Multi-Krum(f+1), which averages n-(f+1) vectors, the paper's with m = n-f-1.
- Its median of torch tensors is the lower middle value, of arrays the mean of the two; arrays are used.
- Its geometric median starts at 0 and makes T steps with an absolute smoothing; here T is large, nu tiny.
- Ties go wherever argpartition puts them; here they go to the first hospital.
"""

import json

import numpy as np
from byzfl import Average, CenteredClipping, GeometricMedian, Krum, Median, MultiKrum, NNM, TrMean


def squared_distances(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def krum_order(x, f, members=None, nearest=None):
    """Blanchard et al. 2017, section 4: members from the best to the worst score."""
    members = list(range(len(x))) if members is None else members
    nearest = len(members) - f - 2 if nearest is None else nearest
    dist = squared_distances(x)
    score = {i: sum(sorted(dist[i, j] for j in members if j != i)[:nearest]) for i in members}
    return sorted(members, key=lambda i: (score[i], i))


def bulyan(x, f):
    """El Mhamdi et al. 2018, section 4.1, over Krum; at least one neighbour counts in the last picks."""
    left, chosen = list(range(len(x))), []
    while len(chosen) < len(x) - 2 * f:
        best = krum_order(x, f, left, max(len(left) - f - 2, 1))[0]
        chosen.append(best)
        left.remove(best)
    s = np.sort(x[chosen], axis=0)
    beta = len(chosen) - 2 * f
    median = np.median(s, axis=0)
    nearest = np.argsort(np.abs(s - median), axis=0, kind="stable")[:beta]
    return np.take_along_axis(s, nearest, 0).mean(0), chosen


def foolsgold(history):
    """Fung et al. 2020, algorithm 1, kappa = 1: the weights of one round from the histories so far."""
    n = len(history)
    norm = np.linalg.norm(history, axis=1)
    cs = (history @ history.T) / np.outer(norm, norm)
    np.fill_diagonal(cs, 0)
    cs = np.maximum(cs, 0)
    v = cs.max(1)
    for i in range(n):
        for j in range(n):
            if i != j and v[j] > v[i]:
                cs[i, j] *= v[i] / v[j]
    alpha = np.clip(1 - cs.max(1), 0, 1)
    alpha = alpha / alpha.max()
    with np.errstate(divide="ignore"):
        return np.clip(np.log(alpha / (1 - alpha)) + 0.5, 0, 1)


def mixed(x, f):
    """Allouah et al. 2023, algorithm 2; a vector is its own nearest neighbour."""
    dist = squared_distances(x)
    order = [sorted(range(len(x)), key=lambda j: (dist[i, j], j != i, j)) for i in range(len(x))]
    return np.stack([x[o[: len(x) - f]].mean(0) for o in order])


def updates(rng, n, f, d, kind):
    x = np.round(rng.normal(size=(n, d)) * 64) / 64
    if kind == "ties":
        x = rng.integers(-1, 2, size=(n, d)).astype(float)
        x[-1] = x[0]
    bad = rng.permutation(n)[:f]
    if kind == "outliers":
        x[bad] = np.round(x[bad] * 1000)
    if kind == "close":
        x = 8 + x / 64
        x[bad] += 0.5
    return x.astype(np.float32).astype(float)


def case(rng, n, f, d, kind):
    x = updates(rng, n, f, d, kind)
    weights = rng.integers(50, 400, size=n).astype(float)
    ties = kind == "ties"
    order = krum_order(x, f)
    m = n - f - 1
    if not ties:
        assert np.array_equal(Krum(f=f + 1)(x), x[order[0]])
        assert np.allclose(MultiKrum(f=f + 1)(x), x[order[:m]].mean(0), rtol=1e-12)
        assert np.allclose(NNM(f=f)(x), mixed(x, f), rtol=1e-12)
    expected = {
        "fedavg": (weights[:, None] * x).sum(0) / weights.sum(),
        "average": Average()(x),
        "median": Median()(x),
        "trimmed_mean": TrMean(f=f)(x),
        "krum": x[order[0]] if ties else Krum(f=f + 1)(x),
        "multi_krum": x[order[:m]].mean(0) if ties else MultiKrum(f=f + 1)(x),
        "multi_krum_2": x[order[:2]].mean(0),
        "geometric_median": GeometricMedian(nu=1e-9, T=5000)(x),
        "nnm_median": Median()(mixed(x, f) if ties else NNM(f=f)(x)),
        "nnm_trimmed_mean": TrMean(f=f)(mixed(x, f) if ties else NNM(f=f)(x)),
        "nnm_krum": mixed(x, f)[krum_order(mixed(x, f), f)[0]],
    }
    found = {
        "n": n, "f": f, "kind": kind, "updates": x.tolist(), "weights": weights.tolist(),
        "krum_order": order, "expected": {rule: value.tolist() for rule, value in expected.items()},
    }
    if n >= 4 * f + 3:
        step, chosen = bulyan(x, f)
        found["expected"]["bulyan"] = step.tolist()
        found["bulyan_selection"] = chosen
    return found


def foolsgold_case(rng, n, sybils, d, rounds):
    aim, history, found = rng.normal(size=d), np.zeros((n, d)), []
    for _ in range(rounds):
        x = rng.normal(size=(n, d))
        x[n - sybils:] = aim + 0.2 * rng.normal(size=(sybils, d))
        x = (np.round(x * 64) / 64)
        history = history + x
        alpha = foolsgold(history)
        step = (alpha[:, None] * x).sum(0) / alpha.sum()
        found.append({"updates": x.tolist(), "weights": alpha.tolist(), "step": step.tolist()})
    return {"n": n, "sybils": sybils, "rounds": found}


def clipping_case(rng, n, d, radius, iterations, rounds):
    rule, found = CenteredClipping(L=iterations, tau=radius), []
    for _ in range(rounds):
        x = updates(rng, n, 1, d, "outliers")
        found.append({"updates": x.tolist(), "step": rule(x).tolist()})
    return {"radius": radius, "iterations": iterations, "rounds": found}


def main():
    rng = np.random.default_rng(20261124)
    shapes = [(5, 1, 3), (7, 1, 4), (7, 2, 4), (8, 2, 3), (11, 2, 4), (12, 2, 3), (15, 3, 3)]
    out = {
        "generator": "testdata/generators/aggregate_rules.py",
        "cases": [case(rng, *shape, kind) for shape in shapes for kind in ("plain", "outliers", "ties", "close")],
        "foolsgold": [foolsgold_case(rng, *it) for it in ((4, 2, 6, 3), (6, 3, 8, 3), (9, 2, 5, 2), (3, 0, 4, 2))],
        "centered_clipping": [
            clipping_case(rng, *it)
            for it in ((5, 3, 1.0, 1, 3), (6, 4, 0.5, 3, 2), (7, 3, 100.0, 2, 2), (9, 2, 2.0, 5, 2))
        ],
    }
    print(json.dumps(out, separators=(",", ":")))


main()
