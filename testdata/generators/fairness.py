"""Writes ../fairness.json: Fairlearn's measures on random predictions.

    python testdata/generators/fairness.py

Differences are MetricFrame's `difference(method="between_groups")`, the ratio its `ratio`, the largest (or
smallest) over the classes, one against the rest, where there are more than two. Fairlearn takes the true
positive rate of a group without positives to be 0; here such a group is left out of that rate's
difference, by giving Fairlearn the other groups only. Disparate impact is the selection rate over that of
the largest group (the first by name of equals), furthest from 1.
"""

import json
import math
import pathlib

import fairlearn
import numpy as np
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score


def spread(metric, y, p, g):
    """Difference of a rate over the groups in which it is defined."""
    if metric is true_positive_rate:
        used = np.isin(g, [name for name in np.unique(g) if (y[g == name] == 1).any()])
    elif metric is false_positive_rate:
        used = np.isin(g, [name for name in np.unique(g) if (y[g == name] == 0).any()])
    else:
        used = np.ones(len(y), bool)
    if len(np.unique(g[used])) < 2:
        return None
    frame = MetricFrame(metrics=metric, y_true=y[used], y_pred=p[used], sensitive_features=g[used])
    return float(frame.difference(method="between_groups"))


def most(values):
    values = [value for value in values if value is not None]
    return max(values) if values else None


def expected(y, p, g, classes):
    # One against the rest.
    binary = [((y == c).astype(int), (p == c).astype(int)) for c in ([1] if classes == 2 else range(classes))]
    tpr = most(spread(true_positive_rate, a, b, g) for a, b in binary)
    fpr = most(spread(false_positive_rate, a, b, g) for a, b in binary)
    out = {
        "accuracy_difference": spread(accuracy_score, y, p, g),
        "demographic_parity_difference": most(spread(selection_rate, a, b, g) for a, b in binary),
        "true_positive_rate_difference": tpr,
        "false_positive_rate_difference": fpr,
        "equalized_odds_difference": most([tpr, fpr]),
    }
    ratios, impacts = [], []
    names, sizes = np.unique(g, return_counts=True)
    largest = names[sizes.argmax()]
    for a, b in binary:
        rates = MetricFrame(metrics=selection_rate, y_true=a, y_pred=b, sensitive_features=g).by_group
        if rates.max() > 0:
            ratios.append(float(demographic_parity_ratio(a, b, sensitive_features=g)))
        if rates[largest] > 0:
            impacts += [float(rates[name] / rates[largest]) for name in names if name != largest]
    out["demographic_parity_ratio"] = min(ratios, default=None)
    out["disparate_impact"] = max(
        impacts, key=lambda r: math.inf if r == 0 else abs(math.log(r)), default=None)
    if classes == 2:
        assert out["demographic_parity_difference"] == demographic_parity_difference(y, p, sensitive_features=g)
        if all((y[g == n] == 1).any() and (y[g == n] == 0).any() for n in names):
            assert out["equalized_odds_difference"] == equalized_odds_difference(y, p, sensitive_features=g)
        by_group = lambda metric: MetricFrame(
            metrics=metric, y_true=y, y_pred=p, sensitive_features=g).by_group.to_dict()
        out["groups"] = {name: {
            "accuracy": float(by_group(accuracy_score)[name]),
            "selection_rate": float(by_group(selection_rate)[name]),
            "true_positive_rate": float(by_group(true_positive_rate)[name]) if (y[g == name] == 1).any() else None,
            "false_positive_rate": float(by_group(false_positive_rate)[name]) if (y[g == name] == 0).any() else None,
        } for name in names}
    return out


def case(name, rng, n, shares, skill, classes=2, base=None):
    """`shares` are the groups' shares, `skill[g]` the probability of a right answer in a group."""
    g = rng.choice(list(shares), n, p=list(shares.values()))
    y = rng.choice(classes, n, p=base)
    right = rng.random(n) < np.array([skill[name] for name in g])
    p = np.where(right, y, rng.integers(0, classes, n))
    return {"name": name, "classes": classes, "labels": y.tolist(), "predicted": p.tolist(),
            "groups": g.tolist(), "expected": expected(y, p, g, classes)}


def main():
    rng = np.random.default_rng(5)
    ages = {"18-40": 0.4, "40-60": 0.4, "60+": 0.2}
    cases = [
        case("two equal groups", rng, 120, {"F": 0.5, "M": 0.5}, {"F": 0.7, "M": 0.7}),
        case("one group is served badly", rng, 150, {"F": 0.3, "M": 0.7}, {"F": 0.2, "M": 0.9}),
        case("three groups", rng, 160, ages, {"18-40": 0.9, "40-60": 0.7, "60+": 0.4}, base=[0.7, 0.3]),
        case("rare positives, a group without", rng, 60, {"A": 0.8, "B": 0.2}, {"A": 0.9, "B": 0.9}, base=[0.95, 0.05]),
        case("nobody is selected", rng, 40, {"A": 0.5, "B": 0.5}, {"A": 1.0, "B": 1.0}, base=[1.0, 0.0]),
        case("three classes", rng, 150, {"F": 0.5, "M": 0.5}, {"F": 0.5, "M": 0.8}, classes=3),
    ]
    path = pathlib.Path(__file__).parent.parent / "fairness.json"
    text = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    path.write_text(f'{{"source":"Fairlearn {fairlearn.__version__}","cases":[\n{text}\n]}}\n')


main()
