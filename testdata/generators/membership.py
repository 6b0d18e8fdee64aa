"""Membership scores with AUC and rates at few false positives, by scikit-learn and scipy.

Writes testdata/membership.json.

    python testdata/generators/membership.py
"""

import json
from pathlib import Path

import numpy as np
from scipy.stats import beta
from sklearn.metrics import roc_auc_score, roc_curve


def clopper_pearson(k, n):
    lower = 0.0 if k == 0 else beta.ppf(0.025, k, n - k + 1)
    upper = 1.0 if k == n else beta.ppf(0.975, k + 1, n - k)
    return [float(lower), float(upper)]


def case(members, others):
    truth = np.r_[np.ones(len(members)), np.zeros(len(others))]
    scores = np.r_[members, others]
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    low = []
    for rate in (0.01, 0.001):
        if len(others) >= round(1 / rate):
            at = np.flatnonzero(fpr <= rate + 1e-12)[-1]
            hit, wrong = round(tpr[at] * len(members)), round(fpr[at] * len(others))
            low.append([rate, hit, wrong, clopper_pearson(hit, len(members)), clopper_pearson(wrong, len(others))])
    return {
        "members": [float(s) for s in members],
        "others": [float(s) for s in others],
        "auc": float(roc_auc_score(truth, scores)),
        "low": low,
    }


def main():
    rng = np.random.default_rng(5)
    rounded = lambda shift, n: np.round(rng.normal(shift, 1, n), 2)
    cases = [
        case(rounded(0.3, 150), rounded(0, 120)),
        case(rounded(1.5, 60), rounded(0, 1000)),
        case(np.round(rng.normal(0, 1, 200)), np.round(rng.normal(0, 1, 250))),
        case(rounded(5, 20), rounded(-5, 100)),
    ]
    path = Path(__file__).parents[1] / "membership.json"
    path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
