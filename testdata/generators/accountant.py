"""Writes testdata/accountant_vectors.json: what histories of subsampled Gaussian steps cost.

Needs dp-accounting 0.6, numpy and scipy. Run from the repository root:

    python testdata/generators/accountant.py

Each case has
* `pld`: [lower, upper], a bracket of the tight epsilon: dp-accounting's optimistic and pessimistic
  privacy loss distributions, the worse of both directions;
* `tight`: the tight epsilon once more by a method of its own: of one step in closed form, of more by the
  Laplace inversion delta(eps) = 1/pi * Int_0^inf Re[M(s)^T exp(-s*eps) / (s*(s+1))] dt on
  s = theta + i*t, where M is the moment generating function of one step's loss; null where the
  integral converges too slowly;
* `rdp`: dp-accounting's Renyi epsilon, and `rdp_optimum`: the same bound with the order optimised
  continuously by quadrature.
`published` repeats values of dp-accounting 0.6.0 and opacus 1.6.0 that were measured elsewhere.
"""

import json
import math
import sys
from importlib.metadata import version

import dp_accounting
import numpy as np
from dp_accounting import rdp
from dp_accounting.pld import privacy_loss_distribution as distribution
from scipy import optimize, special

GRID = [
    # sampling rate, noise multiplier, steps, delta
    (0.01, 1.0, 1000, 1e-5), (0.01, 1.0, 1, 1e-5), (0.01, 1.0, 100_000, 1e-5), (0.01, 1.0, 1000, 1e-2),
    (0.01, 1.0, 1000, 1e-9), (0.01, 1.0, 1000, 1e-12), (0.01, 0.5, 500, 1e-5), (0.01, 0.3, 50, 1e-5),
    (0.01, 4.0, 10_000, 1e-5), (0.01, 0.7, 2000, 1e-8), (0.1, 1.0, 100, 1e-6), (0.1, 0.5, 10, 1e-5),
    (0.1, 2.0, 1000, 1e-5), (0.1, 10.0, 10_000, 1e-7), (0.1, 0.8, 1, 1e-5), (0.5, 1.0, 20, 1e-5),
    (0.5, 3.0, 300, 1e-6), (0.5, 0.4, 3, 1e-5), (0.9, 5.0, 100, 1e-5), (0.99, 2.0, 10, 1e-5),
    (1.0, 1.0, 1, 1e-5), (1.0, 10.0, 100, 1e-6), (1.0, 0.3, 1, 1e-5), (1.0, 0.1, 1, 1e-5),
    (1.0, 100.0, 1_000_000, 1e-5), (1.0, 5.0, 10, 1e-12), (0.001, 0.6, 10_000, 1e-6), (0.001, 1.0, 100_000, 1e-6),
    (0.001, 0.4, 1000, 1e-7), (0.001, 2.0, 1_000_000, 1e-5), (1e-4, 0.5, 100_000, 1e-7), (1e-4, 1.0, 1_000_000, 1e-8),
    (1e-4, 0.3, 1000, 1e-6), (1e-6, 0.5, 1_000_000, 1e-9), (1e-6, 1.0, 1_000_000, 1e-7), (1e-6, 0.1, 1000, 1e-6),
    (0.05, 100.0, 1_000_000, 1e-5), (0.2, 30.0, 1000, 1e-5), (0.03, 1.1, 1860, 1e-5), (0.128, 1.3, 240, 1e-5),
]  # fmt: skip
HISTORIES = [
    ([(0.05, 0.8, 100), (0.05, 0.88, 100), (0.05, 1.2, 50)], 1e-5),
    ([(0.01, 1.0, 500), (0.02, 1.0, 250), (0.04, 1.0, 125)], 1e-5),
    ([(0.1, 1.0, 50), (0.1, 1.1, 50), (0.1, 1.21, 50), (0.1, 1.331, 50), (0.1, 1.4641, 50)], 1e-6),
    ([(1.0, 10.0, 5), (0.01, 0.8, 1000)], 1e-5),
    ([(0.001, 0.5, 1000), (0.5, 5.0, 10)], 1e-6),
    ([(0.3, 2.0, 1), (0.2, 1.5, 1), (0.1, 1.0, 1)], 1e-4),
    ([(1e-5, 0.6, 100_000), (0.01, 2.0, 1000)], 1e-8),
    ([(0.02, 0.7, 2000), (0.02, 1.5, 8000)], 1e-10),
]


def log_mgf(q, noise, s, direction, spacing=0.01):
    """Logarithm of one step's E_P[exp(s*L)] for every s, on the principal branch of each value."""
    step = spacing * min(1.0, noise)
    top = 1 / noise + max(14.0, (s.real.max() + 1) / noise + 12.0)
    z = np.arange(-14.0, top, step)
    exponent = z / noise - 0.5 / noise**2
    loss = exponent if q == 1 else np.log1p(q * np.expm1(exponent))
    base = math.log(step) - z * z / 2 - 0.5 * math.log(2 * math.pi)
    out = np.empty(len(s), complex)
    for start in range(0, len(s), 64):
        part = s[start : start + 64, None]
        log = ((part + 1) if direction == 0 else -part) * loss + base
        peak = log.real.max(1)
        out[start : start + 64] = np.log(np.exp(log - peak[:, None]).sum(1)) + peak
    return out


def log_moment(q, noise, theta):
    if q == 1:
        return theta * (theta + 1) / (2 * noise**2)
    spacing = 0.05 * min(1.0, noise)
    z = np.arange(-12, (theta + 1) / noise + 12, spacing)
    log = (theta + 1) * np.logaddexp(np.log1p(-q), math.log(q) + z / noise - 0.5 / noise**2)
    return special.logsumexp(log - z * z / 2) + math.log(spacing) - 0.5 * math.log(2 * math.pi)


def rdp_optimum(phases, delta):
    def bound(x):
        theta = math.exp(x)
        total = sum(t * log_moment(q, noise, theta) for q, noise, t in phases)
        return (total - math.log(delta) + theta * math.log(theta) - (theta + 1) * math.log1p(theta)) / theta

    grid = np.linspace(math.log(1e-4), math.log(3000), 60)
    best = grid[int(np.argmin([bound(x) for x in grid]))]
    found = optimize.minimize_scalar(bound, bounds=(best - 0.4, best + 0.4), method="bounded", options={"xatol": 1e-9})
    return float(max(found.fun, 0.0)), math.exp(found.x)


def single(q, noise, delta):
    """Tight epsilon of one step."""

    def missing(epsilon):
        def z(loss):
            return noise * math.log(math.expm1(loss) / q + 1) + 0.5 / noise if math.expm1(loss) > -q else -math.inf

        def above(x):
            return (1 - q) * special.ndtr(-x) + q * special.ndtr(1 / noise - x)

        removing = above(z(epsilon)) - math.exp(epsilon) * special.ndtr(-z(epsilon))
        mixed = (1 - q) * special.ndtr(z(-epsilon)) + q * special.ndtr(z(-epsilon) - 1 / noise)
        adding = special.ndtr(z(-epsilon)) - math.exp(epsilon) * mixed
        return math.log(max(removing, adding, 1e-300)) - math.log(delta)

    return optimize.brentq(missing, 0, 400, rtol=1e-13) if missing(0) > 0 else 0.0


def inversion(phases, delta, guess):
    """Tight epsilon by inversion, or None."""
    answers = []
    for direction in range(2):

        def cumulant(s, spacing=0.01):
            return sum(t * log_mgf(q, n, s, direction, spacing) for q, n, t in phases)

        def saddle(x):
            theta = np.exp(x)
            low, mid, high = (cumulant(np.array([theta * f + 0j]))[0].real for f in (0.999, 1.0, 1.001))
            return (high - low) / 0.002 - mid + math.log(delta)

        low = high = math.log(guess)
        while saddle(low) > 0:
            low -= 1
        while saddle(high) < 0:
            high += 1
        theta = math.exp(optimize.brentq(saddle, low, high, xtol=1e-3) if low < high else low)
        width = [cumulant(np.array([theta * f + 0j]))[0].real for f in (0.99, 1.0, 1.01)]
        deviation = math.sqrt(max((width[0] - 2 * width[1] + width[2]) / (0.01 * theta) ** 2, 1e-300))
        reach = 14 / deviation
        while cumulant(np.array([theta + 1j * reach]))[0].real - width[1] > -34:
            reach *= 1.5
            if reach > 3000 / deviation:
                return None
        values = None
        for density in (12, 25):
            nodes = int(reach * deviation * density)
            s = theta + 1j * (np.arange(nodes) + 0.5) * reach / nodes
            log = cumulant(s, 0.01 if values is None else 0.007)

            def log_delta(epsilon):
                value = (np.exp(log - log[0].real - s * epsilon + theta * epsilon) / (s * (s + 1))).real.sum()
                value *= reach / nodes / math.pi
                return math.log(max(value, 1e-300)) + log[0].real - theta * epsilon

            def missing(epsilon):
                return log_delta(epsilon) - math.log(delta)

            high = (width[2] - width[0]) / (0.02 * theta) + 2 * deviation
            low = high - 0.25 * deviation
            while missing(low) < 0:
                low -= 0.25 * deviation
            found = optimize.brentq(missing, low, high, rtol=1e-13)
            if values is not None and abs(found - values) > 1e-8 * abs(found):
                return None
            values = found
        answers.append(values)
    return float(max(*answers, 0.0))


def bracket(phases, delta, epsilon, theta):
    steps = sum(t for _, _, t in phases)
    interval = min(max(math.sqrt(2e-4 * max(epsilon, 1e-6) / (steps * (theta + 1))), 2e-7), 1e-2)
    result = []
    for pessimistic in (False, True):
        composed = None
        for q, noise, t in phases:
            one = gaussian(q, noise, interval, math.log(delta) - math.log(steps) - 16, pessimistic)
            one = one.self_compose(t, tail_mass_truncation=delta * 1e-6)
            composed = one if composed is None else composed.compose(one, tail_mass_truncation=delta * 1e-6)
        result.append(float(composed.get_epsilon_for_delta(delta)))
    return result


def gaussian(q, noise, interval, log_bound, pessimistic):
    return distribution.from_gaussian_mechanism(
        noise,
        sampling_prob=q,
        value_discretization_interval=interval,
        log_mass_truncation_bound=log_bound,
        pessimistic_estimate=pessimistic,
        use_connect_dots=pessimistic,
    )


def peer_rdp(phases, delta):
    accountant = rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for q, noise, t in phases:
        event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(dp_accounting.SelfComposedDpEvent(event, t))
    return float(accountant.get_epsilon(delta))


def case(phases, delta):
    optimum, theta = rdp_optimum(phases, delta)
    alone = len(phases) == 1 and phases[0][2] == 1
    exact = single(*phases[0][:2], delta) if alone else inversion(phases, delta, theta)
    # dp-accounting's convolutions have an absolute error near 1e-13: no bracket for the smallest deltas.
    tight = bracket(phases, delta, exact or optimum, theta) if delta > 1e-11 else None
    row = {
        "history": [{"rate": q, "noise": noise, "steps": t} for q, noise, t in phases],
        "delta": delta,
        "pld": tight,
        "tight": exact,
        "rdp": peer_rdp(phases, delta),
        "rdp_optimum": optimum,
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main(published):
    cases = [case([(q, noise, steps)], delta) for q, noise, steps, delta in GRID]
    cases += [case(phases, delta) for phases, delta in HISTORIES]
    lines = ",\n".join("  " + json.dumps(row) for row in cases)
    source = f"dp-accounting {version('dp-accounting')}, numpy {version('numpy')}"
    text = f'{{"source": {json.dumps(source)}, "cases": [\n{lines}\n],\n"published": {json.dumps(published)}}}\n'
    with open("testdata/accountant_vectors.json", "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    with open("testdata/accountant_vectors.json", encoding="utf-8") as file:
        main(json.load(file)["published"])
