"""The fields of synthetic records except their curves, under the keys that real runs write.

tests/train/test_synthetic_matches.py compares the two.
"""

from typing import Any

import pandas as pd

MEASURED = ("hessian", "gradient_quantiles", "lipschitz")  # None where a run did not measure them
PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "pandas", "scipy")
ENVIRONMENT: dict[str, Any] = {
    "python": "3.12.0",
    "platform": "Linux x86_64",
    "packages": dict.fromkeys(PACKAGES, "1.2.3"),
    "device": "Synthetic GPU",
    "device_type": "cuda",
    "threads": 1,
    "cuda": "13.0",
    "cudnn": 91002,
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "sns": "0.1.0",
    "precision": "fp32",
    "mode": "eager",
    "memory_format": "contiguous",
    "data": {"name": "synthetic", "fingerprint": "00000000", "note": None},
}
LEVELS = {"0.05": 0.1, "0.25": 0.3, "0.5": 0.6, "0.75": 1.0, "0.95": 2.0, "1.0": 4.0}  # of the mean gradient norm
TIMINGS = {
    "train_seconds": 60.0,
    "measure_seconds": 5.0,
    "setup_seconds": 1.0,
    "images_per_second": 1000.0,
    "sessions": 1,
}
MEMORY = {"peak_bytes": 2e9, "peak_host_bytes": 1e9, "pass_images": 64.0}


def measured_at_end(
    frame: pd.DataFrame, eigenvalues: dict[str, float] | None, weights: tuple[pd.DataFrame, ...]
) -> dict[str, Any]:
    """The fields MEASURED of a run that trained to its end."""
    last = frame.iloc[-1]
    values: dict[str, Any] = dict.fromkeys(MEASURED)
    values["gradient_quantiles"] = {
        part: {level: share * float(last[f"{part}_gradient_norm"]) for level, share in LEVELS.items()}
        for part in ("train", "test")
    }
    values["recalibrated"] = {
        part: {
            "loss": float(last[f"{part}_loss"]),
            "accuracy": float(last[f"{part}_accuracy"]),
            "gradient_norm": float(last[f"{part}_gradient_norm"]),
            "gradient_norm_rms": float(last[f"{part}_gradient_norm_rms"]),
        }
        for part in ("train", "test")
    }
    if eigenvalues is not None:
        values["hessian"] = {
            part: {
                "eigenvalue": value,
                "residual": 1e-4,
                "iterations": 30,
                "converged": True,
                "largest_magnitude": value,
                "samples": 1000,
            }
            for part, value in eigenvalues.items()
        }
    if weights:
        values["lipschitz"] = {
            "product_sigma": float(weights[0]["sigma"].prod()),
            "product_operator_norm": float(weights[0]["operator_norm"].prod()),
            "jacobian_norm_max": 12.0,
            "jacobian_norm_mean": 3.0,
            "samples": 512,
        }
    return values
