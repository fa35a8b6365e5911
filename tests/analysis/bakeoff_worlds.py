"""Records of the comparison of all methods with a given answer to every question."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from synthetic import write_run

from sns.analysis.bakeoff.questions import load_questions

METHODS = sorted({"vanilla", "decay", *(name for question in load_questions() for name in question.methods)})
PLACES = [("vgg_pocket", "small"), ("nin_pocket", "large")]
SIZES = {"small": 64, "large": 416}
SEEDS = (1, 2, 3)
MIXED = [(7 * number) % len(METHODS) for number in range(len(METHODS))]  # hardly correlated with the places
Numbers = Callable[[str, int], dict[str, float]]  # method, seed: accuracy, gap, sigma, jacobian


def holds(method: str, seed: int) -> dict[str, float]:
    """Every question is answered by yes: rivals above spectral above decay above vanilla, smaller
    gaps, and the gap's order is that of the Jacobian norms, nearly that of the sigmas."""
    number = METHODS.index(method)
    level = {"vanilla": 0.45, "decay": 0.5, "spectral": 0.55}.get(method, 0.6)
    gap = (0.4 if method in ("vanilla", "decay") else 0.2) + number / 1000 + seed / 1e4
    jacobian = 10 * gap
    return {
        "accuracy": level + seed / 1000,
        "gap": gap,
        "sigma": jacobian + 0.005 * MIXED[number],
        "jacobian": jacobian,
    }


def fails(method: str, seed: int) -> dict[str, float]:
    """Every answer is no: the opposite order."""
    number = METHODS.index(method)
    level = {"vanilla": 0.65, "decay": 0.6, "spectral": 0.55}.get(method, 0.4)
    gap = (0.2 if method in ("vanilla", "decay") else 0.4) + number / 1000 + seed / 1e4
    return {"accuracy": level - seed / 1000, "gap": gap, "sigma": 1.0 + MIXED[number], "jacobian": 9 - 10 * gap}


def disagrees(method: str, seed: int) -> dict[str, float]:
    """Yes for an even seed, no for an odd one."""
    return (fails if seed % 2 else holds)(method, seed)


def muon_holds(method: str, optimizer: str, seed: int) -> float:
    """Test accuracy: a penalty gains .1 under Nesterov and nothing under Muon."""
    return 0.5 + seed / 1000 + (0.1 if optimizer == "nesterov" and method != "vanilla" else 0.0)


def muon_fails(method: str, optimizer: str, seed: int) -> float:
    """It gains .1 under Muon alone."""
    return 0.5 + seed / 1000 + (0.1 if optimizer == "muon" and method != "vanilla" else 0.0)


def muon_disagrees(method: str, optimizer: str, seed: int) -> float:
    """It depends on the seed."""
    return (muon_fails if seed % 2 else muon_holds)(method, optimizer, seed)


def write_world(
    folder: Path,
    numbers: Numbers,
    places: Iterable[tuple[str, str]] = PLACES,
    methods: Iterable[str] = METHODS,
    seeds: Iterable[int] = SEEDS,
) -> Path:
    """A run of each method at each place, with each seed. Returns `folder`."""
    methods, seeds = list(methods), list(seeds)
    for setting, regime in places:
        for method in methods:
            for seed in seeds:
                one(folder, setting, regime, method, seed, numbers(method, seed))
    return folder


def one(folder: Path, setting: str, regime: str, method: str, seed: int, own: dict[str, float], **more: Any) -> Path:
    """One run with these numbers."""
    norm = {"jacobian_norm_mean": own["jacobian"], "jacobian_norm_max": 9.0, "samples": 64}
    norm |= {"product_sigma": 1.0, "product_operator_norm": 2.0}
    return write_run(
        folder,
        setting,
        method,
        regime,
        seed,
        test_accuracy=own["accuracy"],
        gap=own["gap"],
        history={"sigma_mean": own["sigma"]},
        lipschitz=norm,
        spectra=False,
        batch_size=SIZES[regime],
        **more,
    )


def write_optim(folder: Path, accuracy: Callable[[str, str, int], float], places: Any = PLACES[:1]) -> Path:
    """A run of four methods under three optimizers. Returns `folder`."""
    for setting, regime in places:
        for optimizer in ("nesterov", "adamw", "muon"):
            for method in ("vanilla", "decay", "spectral", "spectral_hard_cap"):
                for seed in SEEDS:
                    own = {"run_id": f"{setting}__{method}__{regime}__{optimizer}__s{seed}"}
                    own |= {"variant": f"{optimizer} {method}", "optimizer": optimizer}
                    numbers = {"accuracy": accuracy(method, optimizer, seed), "gap": 0.2, "sigma": 1.0, "jacobian": 1.0}
                    one(folder, setting, regime, method, seed, numbers, **own)
    return folder


def write_candidate(
    folder: Path, place: tuple[str, str, str], option: str, value: float, accuracy: float, **more: Any
) -> Path:
    """A tuning run of (setting, method, regime) with method.`option`, or optim.lr for lr, at
    `value`."""
    setting, method, regime = place
    name = "__".join([*place, more.get("optimizer", "nesterov"), f"{value:g}", f"{more.get('rate', '')}"])
    rate = more.pop("rate", value)
    own = {"run_id": name, "variant": name, "batch_size": SIZES[regime], "spectra": False, **more}
    path = write_run(folder, setting, method, regime, 0, test_accuracy=accuracy, gap=0.2, **own)
    config = yaml.safe_load((path / "config.yaml").read_text())
    if option == "lr":
        config["optim"]["lr"] = value
    else:
        config["method"][option] = value
        config["optim"]["lr"] = rate
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path
