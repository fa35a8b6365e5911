"""Records of SN-GAN with chosen distances, scores and spectra."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from synthetic import write_run

from sns.analysis.bakeoff.costs import Cost
from sns.analysis.sngan.runs import ADAM, METHODS

SETTING = "sngan_pocket"
SEEDS = (0, 1)
Numbers = Callable[[str, str, int], dict[str, Any]]  # method, optimizer, seed: what `one` takes
BROAD = ("spectral_normalization", "orthonormal")
COSTS = {"spectral_normalization": Cost(1.1, 1.05, 1.15), "wgan_gp": Cost(1.5, 1.45, 1.55)}
SLOW = {"spectral_normalization": Cost(1.6, 1.55, 1.65), "wgan_gp": Cost(1.5, 1.45, 1.52)}


def costs(own: dict[str, Cost]) -> dict[tuple[str, int, str], Cost]:
    """As `bakeoff.costs.costs` gives them."""
    return {(SETTING, 64, name): cost for name, cost in own.items()}


def holds(method: str, optimizer: str, seed: int) -> dict[str, Any]:
    """Every statement holds: spectral normalization has distance 50 everywhere, rivals 100 under A
    to C and eight times as much under D to F, where vanilla collapses and clipping diverges."""
    own = method == "spectral_normalization"
    harsh = optimizer in ("adam_d", "adam_e", "adam_f") and not own
    level = (50 if own else 100) * (8 if harsh else 1) * (1 + 0.01 * seed)
    numbers = {
        "distance": level,
        "score": 6.0 + (2.0 if own else 0.0) - 0.01 * seed,
        "skew": 0.5 if method in BROAD else 6.0,
    }
    numbers["collapsed"] = harsh and method == "vanilla"
    numbers["status"] = "diverged" if harsh and method == "weight_clipping" else "ok"
    return numbers


def fails(method: str, optimizer: str, seed: int) -> dict[str, Any]:
    """None holds: rivals have 50 everywhere, spectral normalization 90 and 720."""
    own = method == "spectral_normalization"
    harsh = optimizer in ("adam_d", "adam_e", "adam_f") and own
    level = (90 if own else 50) * (8 if harsh else 1) * (1 + 0.01 * seed)
    return {"distance": level, "score": 6.0 - (2.0 if own else 0.0) - 0.01 * seed, "skew": 6.0 if own else 0.5}


def disagrees(method: str, optimizer: str, seed: int) -> dict[str, Any]:
    """It depends on the seed."""
    return (fails if seed % 2 else holds)(method, optimizer, seed)


def write_world(
    folder: Path, numbers: Numbers, methods: Iterable[str] = METHODS, seeds: Iterable[int] = SEEDS, **more: Any
) -> Path:
    """A run of each method in each Adam setting, with each seed. Returns `folder`."""
    seeds = list(seeds)
    for method in methods:
        for optimizer in ADAM:
            for seed in seeds:
                one(folder, method, optimizer, seed, **{**numbers(method, optimizer, seed), **more})
    return folder


def one(
    folder: Path,
    method: str,
    optimizer: str,
    seed: int,
    *,
    distance: float,
    score: float,
    skew: float = 1.0,
    status: str = "ok",
    collapsed: bool = False,
    setting: str = SETTING,
    loss: str = "logistic",
    samples: bytes = b"",
    **scores: float,
) -> Path:
    """One run with these numbers; `skew` is the log of its largest over its smallest singular
    value."""
    code = f"{setting} {method} {optimizer} {loss}"
    given = dict.fromkeys(("fid", "inception_score", "inception_score_sd"))
    given |= {"classifier_frechet": distance, "classifier_score": score, "imagenet_frechet": 20 * distance}
    measured = {"samples": {"count": 5000, "variance": 0.1, "real_variance": 0.2, "collapsed": collapsed}}
    path = write_run(
        folder,
        setting,
        method,
        "small",
        seed,
        status=status,
        skew=skew,
        run_id=f"{setting}__{method}__{optimizer}__{loss}__s{seed}",
        variant=code,
        batch_size=64,
        task="gan",
        optimizer=optimizer,
        score="classifier_frechet",
        high_is_good=False,
        final={"classifier_frechet": distance},
        best={"classifier_frechet": distance},
        measured={**measured, "scores": {**given, **scores}} if status == "ok" else {},
    )
    config = yaml.safe_load((path / "config.yaml").read_text())
    config |= {"task": {"name": "gan", "loss": loss}, "data": {"name": "stl10" if "stl10" in setting else "cifar10"}}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if samples:
        (path / "samples.png").write_bytes(samples)
    return path
