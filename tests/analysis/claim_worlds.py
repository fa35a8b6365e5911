"""Records with a given answer to every claim: all hold, all fail, or the seeds disagree."""

from typing import Any

import numpy as np

from sns.analysis.cells import METHODS, REGIMES

ROWS = 8
RAMP = np.linspace(0, 1, ROWS)

TRUE = {  # (test accuracy, gap) at the end, small then large batch
    "vanilla": ((0.80, 0.18), (0.76, 0.20)),
    "adversarial": ((0.801, 0.17), (0.765, 0.19)),
    "decay": ((0.84, 0.12), (0.80, 0.155)),
    "spectral": ((0.88, 0.09), (0.87, 0.095)),
}
FALSE = {
    "vanilla": ((0.55, 0.29), (0.60, 0.28)),
    "adversarial": ((0.52, 0.21), (0.57, 0.20)),
    "decay": ((0.58, 0.19), (0.63, 0.18)),
    "spectral": ((0.45, 0.30), (0.46, 0.33)),
}
TRUE_HESSIAN = {"vanilla": (5, 10), "adversarial": (12, 13), "decay": (14, 15), "spectral": (30, 31)}
FALSE_HESSIAN = {"vanilla": (32, 31), "adversarial": (20, 19), "decay": (10, 9), "spectral": (30, 29)}
FALSE_GRADIENT = {"vanilla": (1.0, 1.1), "adversarial": (3.0, 3.1), "decay": (4.0, 4.1), "spectral": (2.0, 2.1)}


def curves(accuracy: float, gap: float, below: float, test: np.ndarray, train: np.ndarray) -> dict[str, Any]:
    """Columns of a history: test accuracy exceeds `below` in the last row only, so that gap at
    alpha = final gap."""
    accuracies = np.append(below * RAMP[:-1], accuracy)
    return {
        "test_accuracy": accuracies,
        "train_accuracy": accuracies + gap * (0.1 + 0.9 * RAMP),
        "test_gradient_norm": test,
        "train_gradient_norm": train,
    }


def holds(setting: str, method: str, regime: str, seed: int) -> dict[str, Any]:
    """Every claim holds."""
    number, jitter = REGIMES.index(regime), 1e-5 * seed
    accuracy, gap = TRUE[method][number]
    history = curves(accuracy + jitter, gap, 0.6, 20 * gap * (0.2 + 0.8 * RAMP), 3 - RAMP)
    history |= {"sigma_mean": 1.0 if method == "spectral" else 3.0, "frobenius": 20.0 if method == "vanilla" else 15.0}
    eigenvalue = TRUE_HESSIAN[method][number] + jitter
    return {
        "history": history,
        "hessian": {"train": eigenvalue, "test": 2 * eigenvalue},
        "skew": 0.5 if method == "spectral" else 6.0,
        "alpha": 0.65,
    }


def fails(setting: str, method: str, regime: str, seed: int) -> dict[str, Any]:
    """Every claim fails, but the one on alpha."""
    number, jitter = REGIMES.index(regime), 1e-5 * seed
    accuracy, gap = FALSE[method][number]
    history = curves(accuracy + jitter, gap, 0.2, FALSE_GRADIENT[method][number] * (2 - RAMP), 1 + RAMP)
    history |= {"sigma_mean": 3.0 if method == "spectral" else 1.0, "frobenius": 15.0 if method == "vanilla" else 20.0}
    eigenvalue = FALSE_HESSIAN[method][number] + jitter
    return {
        "history": history,
        "hessian": {"train": eigenvalue, "test": 2 * eigenvalue},
        "skew": 6.0 if method == "spectral" else 0.5,
        "alpha": 0.3,
    }


def disagrees(setting: str, method: str, regime: str, seed: int) -> dict[str, Any]:
    """Every quantity is pushed by each cell's own amount, in opposite directions for even and odd
    seeds."""
    cell = METHODS.index(method) + len(METHODS) * REGIMES.index(regime)
    push = (-1) ** seed * 2.0**cell / 2**7
    direction = RAMP if seed % 2 else RAMP[::-1]
    history = curves(0.75 + push / 10, 0.2 + push / 20, 0.5, (1 + direction) * (1 + push / 2), 1 + direction[::-1])
    # Final rows tie training accuracy to its threshold, pushed like all else.
    history["train_accuracy"] = history["test_accuracy"] + (0.2 + push / 20) * (0.1 + 0.9 * RAMP)
    if seed % 4 in (1, 2):
        history["train_gradient_norm"] = history["train_gradient_norm"][::-1]
    history |= {"sigma_mean": 3 + push, "frobenius": 20 + push}
    turned = push if seed % 4 < 2 else -push  # so that ranks over the cells disagree with those of the gap as well
    eigenvalues = {"train": 20 + turned, "test": 20 - turned}
    return {"history": history, "hessian": eigenvalues, "skew": 1.9 + 1.2 * (-1) ** seed + push / 2, "alpha": 0.6}
