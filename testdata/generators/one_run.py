"""p-values and lower bounds of the one-run privacy audit, by scipy's binomial distribution.

Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One (1) Training Run", theorem 5.3 as its appendix D
computes it. Writes testdata/one_run.json.

    python testdata/generators/one_run.py
"""

import json
import math
from pathlib import Path

from scipy.optimize import brentq
from scipy.stats import binom


def p_value(m, r, v, epsilon, delta):
    q = 1 / (1 + math.exp(-epsilon))
    tail = lambda k: binom.sf(k - 1, r, q)
    slope = max(((tail(v - i) - tail(v)) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, tail(v) + 2 * m * delta * slope)


def bound(m, r, v, delta, confidence):
    level = 1 - confidence
    if p_value(m, r, v, 0, delta) >= level:
        return 0.0
    return brentq(lambda e: p_value(m, r, v, e, delta) - level, 0, 30, xtol=1e-12)


def main():
    counts = [(1, 1, 1), (10, 10, 10), (100, 100, 60), (100, 50, 45), (100, 12, 12), (1000, 1000, 560), (1000, 250, 240), (5000, 600, 599)]
    p_values = [
        (m, r, v, epsilon, delta, p_value(m, r, v, epsilon, delta))
        for m, r, v in counts
        for epsilon in (0.0, 0.5, 1.0, 3.0, 8.0)
        for delta in (0.0, 1e-5)
    ]
    bounds = [
        (m, r, v, delta, confidence, bound(m, r, v, delta, confidence))
        for m, r, v in counts
        for delta in (0.0, 1e-5, 1e-3)
        for confidence in (0.95, 0.99)
    ]
    path = Path(__file__).parents[1] / "one_run.json"
    rows = lambda values: "[\n" + ",\n".join(json.dumps(row) for row in values) + "\n]"
    path.write_text('{"p_values": ' + rows(p_values) + ',\n"bounds": ' + rows(bounds) + "}\n")


main()
