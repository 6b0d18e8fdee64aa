"""Cut-offs of robust scores, by simulation: testdata/anomaly_cutoffs.json.

For n values drawn from one normal distribution the robust score of each is its distance from their
median over 1.4826 times the median of all distances. A cut-off is the quantile that the most extreme of
the n scores passes in one of 300 draws: `either` for scores of either sign, `low` for the lowest alone.

    python testdata/generators/anomaly_cutoffs.py > testdata/anomaly_cutoffs.json
"""

import json

import numpy

RATE = 0.01 / 3
SIZES = list(range(3, 41)) + [50, 60, 80, 100, 150, 200, 300, 500, 1000]

rows = []
for n in SIZES:
    rng = numpy.random.default_rng([20261124, n])
    draws = max(200_000, min(2_000_000, 60_000_000 // n))
    either, low = [], []
    while draws > 0:
        size = min(draws, 4_000_000 // n)
        x = rng.standard_normal((size, n))
        x -= numpy.median(x, axis=1, keepdims=True)
        spread = 1.4826 * numpy.median(numpy.abs(x), axis=1)
        either.append(numpy.abs(x).max(axis=1) / spread)
        low.append(-x.min(axis=1) / spread)
        draws -= size
    cut = lambda parts: round(float(numpy.quantile(numpy.concatenate(parts), 1 - RATE)), 3)
    rows.append({"hospitals": n, "either": cut(either), "low": cut(low)})

print('{"rate": %r, "cutoffs": [' % RATE)
print(",\n".join("  " + json.dumps(row) for row in rows))
print("]}")
