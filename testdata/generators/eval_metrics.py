"""Writes ../eval_metrics.json: performance metrics of scikit-learn on random predictions.

    python testdata/generators/eval_metrics.py

Undefined rates follow zero_division=nan (left out of macro means), which JSON writes as null. DeLong's
variance is computed from its definition, comparing every positive with every negative; with more than two
classes the components of all one-against-rest areas are added up per image and their variance is taken
within each true class. The calibration error is a loop over the bins.
"""

import json
import math
import pathlib

import numpy as np
import sklearn
from sklearn import metrics

Z = 1.959963984540054


def components(score, positive):
    """DeLong's structural components of every image, by comparing all pairs."""
    wins = (score[positive][:, None] > score[~positive][None, :]) + 0.5 * (
        score[positive][:, None] == score[~positive][None, :]
    )
    out = np.empty(len(score))
    out[positive] = wins.mean(1)
    out[~positive] = wins.mean(0)
    return out


def delong(p, y):
    """Variance and logit-scale interval of the (macro) area; None where a class has a single image or nothing varies."""
    classes = p.shape[1]
    if min(np.bincount(y, minlength=classes)) < 2:
        return None
    # The covariance matrix of the areas, summed over strata of the true class.
    used = [1] if classes == 2 else list(range(classes))
    parts = np.stack([components(p[:, c], y == c) for c in used], 1)
    counts = np.stack([np.where(y == c, (y == c).sum(), (y != c).sum()) for c in used], 1)
    covariance = np.zeros((len(used), len(used)))
    for c in range(classes):
        rows = (parts / counts)[y == c]
        covariance += len(rows) * np.atleast_2d(np.cov(rows, rowvar=False, ddof=1))
    w = np.full(len(used), 1 / len(used))
    area, variance = float(np.mean([area_of(p[:, c], y == c) for c in used])), float(w @ covariance @ w)
    if variance < 1e-24:
        return None
    logit, half = math.log(area / (1 - area)), Z * math.sqrt(variance) / (area * (1 - area))
    return [1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))]


def area_of(score, positive):
    return metrics.roc_auc_score(positive, score)


def calibration_error(p, y):
    confidence, predicted = p.max(1), p.argmax(1)
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.sum() * abs((predicted[inside] == y[inside]).mean() - confidence[inside].mean())
    return total / len(y)


def average_precision(p, y, used):
    if any((y == c).sum() == 0 for c in used):
        return None
    return float(np.mean([metrics.average_precision_score(y == c, p[:, c]) for c in used]))


def curves(p, y, c):
    """All points of both curves, from the highest score on."""
    if c is None:
        return None
    fpr, tpr, _ = metrics.roc_curve(y == c, p[:, c], drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(y == c, p[:, c])
    # scikit-learn goes up in thresholds and ends in an artificial point (1, 0).
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "precision": precision[:-1][::-1].tolist(),
            "recall": recall[:-1][::-1].tolist()}


def number(x):
    return None if x is None or math.isnan(x) else float(x)


def expected(p, y):
    classes = p.shape[1]
    present = np.bincount(y, minlength=classes) > 0
    predicted = p.argmax(1)
    labels = list(range(classes))
    # Binary means class 1; otherwise the mean over the classes in which the rate is defined.
    how = {"average": "binary"} if classes == 2 else {"average": "macro"}
    nan = {"zero_division": np.nan, "labels": labels}
    if classes == 2:
        auc = area_of(p[:, 1], y == 1) if present.all() else None
    else:
        auc = metrics.roc_auc_score(y, p, multi_class="ovr", average="macro") if present.all() else None
    return {
        "accuracy": metrics.accuracy_score(y, predicted),
        "log_loss": metrics.log_loss(y, p, labels=labels),
        "auc": auc,
        "auc_interval": delong(p, y) if present.all() else None,
        "sensitivity": number(metrics.recall_score(y, predicted, **how, **nan)),
        "precision": number(metrics.precision_score(y, predicted, **how, **nan)),
        "f1": number(metrics.f1_score(y, predicted, **how, **nan)),
        "specificity": number(
            metrics.recall_score(y, predicted, pos_label=0, **how, **nan)
            if classes == 2
            else np.nanmean([
                metrics.recall_score(y == c, predicted == c, pos_label=False, zero_division=np.nan) for c in labels
            ])
        ),
        "balanced_accuracy": float(np.mean([(predicted[y == c] == c).mean() for c in labels if present[c]])),
        "calibration_error": calibration_error(p, y),
        "brier": metrics.brier_score_loss(y, p if classes > 2 else p[:, 1], labels=labels),
        "average_precision": average_precision(p, y, [1] if classes == 2 else labels),
        "curves": curves(p, y, 1 if classes == 2 and 0 < y.sum() < len(y) else None),
        "confusion": metrics.confusion_matrix(y, predicted, labels=labels).tolist(),
        "class_auc": [area_of(p[:, c], y == c) if 0 < (y == c).sum() < len(y) else None for c in labels],
    }


def case(name, rng, n, classes, skill, weights=None, grid=None, labels=None):
    """`skill` is how far the true class stands out (-99: scores are all equal); `grid` rounds the probabilities to make ties."""
    y = rng.choice(classes, n, p=weights) if labels is None else np.array(labels)
    logits = rng.normal(size=(n, classes))
    if skill == -99.0:
        logits[:] = 0.0
    else:
        logits[np.arange(n), y] += skill
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    if grid:
        # Multiples of a power of two, so that rows sum to exactly 1 and ties are exact.
        p = np.floor(p * grid) / grid
        p[:, -1] = 1 - p[:, :-1].sum(1)
    else:
        # Stored rounded; the last class makes the sum 1.
        p = np.round(p, 6)
        p[:, -1] = np.round(1 - p[:, :-1].sum(1), 6)
    return {"name": name, "classes": classes, "labels": y.tolist(), "probabilities": p.ravel().tolist(),
            "expected": expected(p, y)}


def main():
    rng = np.random.default_rng(20)
    cases = [
        case("balanced", rng, 80, 2, 1.0),
        case("rare positives", rng, 120, 2, 1.5, [0.92, 0.08]),
        case("many ties", rng, 100, 2, 0.8, grid=8),
        case("chance", rng, 60, 2, 0.0),
        case("no positive", rng, 12, 2, 1.0, [1.0, 0.0]),
        case("one positive", rng, 15, 2, 0.5, labels=[0] * 6 + [1] + [0] * 8),
        case("three classes", rng, 90, 3, 1.2),
        case("five classes, uneven, ties", rng, 150, 5, 1.5, [0.4, 0.3, 0.15, 0.1, 0.05], grid=32),
        case("constant scores", rng, 30, 2, -99.0, labels=[0, 1, 1] * 10),
        case("two images", rng, 2, 2, 1.0, labels=[0, 1]),
        case("an absent class", rng, 40, 4, 1.0, [0.5, 0.3, 0.2, 0.0]),
    ]
    path = pathlib.Path(__file__).parent.parent / "eval_metrics.json"
    text = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    path.write_text(f'{{"source":"scikit-learn {sklearn.__version__}","cases":[\n{text}\n]}}\n')


main()
