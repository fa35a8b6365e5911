"""Row 6: the Hessian's largest eigenvalue against pyhessian; operator norms against the FFT."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from bench.cells import NETWORKS, TWINS, Plan, cell, classified, update
from bench.line import Line, faster
from bench.peers import fourier_operator_norm
from bench.timing import Work, paired
from sns.config.schema import MeasureConfig
from sns.linalg.circular import circular_operator_norm
from sns.linalg.conv_operator import operator_norm
from sns.measure.hessian import hessian_eigenvalue

ACCURACY = 1e-4  # relative, of an eigenvalue
TIGHT = 1e-9  # the tolerance of the value that counts as exact
UPDATES = 200  # they separate the largest eigenvalue from the others
PEER = "pyhessian, same accuracy"
KERNELS = {  # name: (out, in, 3, 3), pixels a side
    "VGG's second layer, 64 -> 64 on 32x32": (64, 64, 32),
    "VGG's last group, 512 -> 512 on 4x4": (512, 512, 4),
}


def spectra(plan: Plan) -> Iterator[Line]:
    """Row 6."""
    twins = {TWINS[setting]: setting for setting in NETWORKS}
    for setting in twins.values():
        yield _hessian(plan, setting, plan.budget / 2 / len(twins))
    for name, (out, channels, side) in KERNELS.items():
        yield from _operator(plan, name, out // (8 if plan.tiny else 1), channels // (8 if plan.tiny else 1), side)


def _hessian(plan: Plan, setting: str, budget: float) -> Line:
    """Each at the loosest tolerance, a power of ten, that gives the eigenvalue to `ACCURACY`."""
    what = f"largest Hessian eigenvalue, {TWINS[setting]}, trained, 64 images"
    if importlib.util.find_spec("pyhessian") is None:
        return Line(6, what, PEER, note="not installed: pip install -r bench/requirements.txt")
    small = cell(_tiny(plan), setting, "optim.lr=0.02", "train.mode=eager")
    for _ in range(5 if plan.tiny else UPDATES):
        update(small)()
    model = classified(small).model
    x, y = classified(small).dataset.train.x, classified(small).dataset.train.y

    def ours(tolerance: float) -> float:
        options = MeasureConfig(hessian_tolerance=tolerance, hessian_iterations=1_000)
        return hessian_eigenvalue(model, x, y, options, torch.Generator().manual_seed(0)).eigenvalue

    def theirs(tolerance: float) -> float:
        from pyhessian import hessian

        torch.manual_seed(0)
        model.eval()
        peer = hessian(model, torch.nn.CrossEntropyLoss(), data=(x, y), cuda=not x.is_cpu)
        (value,), _ = peer.eigenvalues(maxIter=1_000, tol=tolerance)
        model.train()
        return float(value)

    exact = ours(TIGHT)
    found = {"ours": _loosest(ours, exact), "theirs": _loosest(theirs, exact)}
    works: dict[str, Work] = {"ours": partial(ours, found["ours"]), "theirs": partial(theirs, found["theirs"])}
    taken = paired(works, plan.device, budget, rounds=5)
    note = f"eigenvalue {exact:.6g}; tolerances {found['ours']:g} and {found['theirs']:g}"
    return faster(6, what, PEER, taken["ours"], taken["theirs"], target=2.0, note=note)


def _loosest(solve: Callable[[float], float], exact: float) -> float:
    """The first of .1, .01, ... whose value is within `ACCURACY` of `exact`."""
    tolerances = [10.0**-digits for digits in range(1, 8)]
    close = (t for t in tolerances if abs(solve(t) / exact - 1) <= ACCURACY)
    return next(close, tolerances[-1])


def _tiny(plan: Plan) -> Plan:
    return replace(plan, tiny=True)


def _operator(plan: Plan, name: str, out: int, channels: int, side: int) -> Iterator[Line]:
    weight = torch.randn(out, channels, 3, 3, generator=torch.Generator().manual_seed(0)).to(plan.device)
    norms: dict[str, float] = {}

    def circular() -> None:
        norms["circular"] = circular_operator_norm(weight, (side, side))

    def padded() -> None:
        norms["padded"] = operator_norm(weight, (side, side), 1, 1)

    def fourier() -> None:
        norms["fourier"] = fourier_operator_norm(weight, side)

    works: dict[str, Work] = {"circular": circular, "padded": padded, "fourier": fourier}
    taken = paired(works, plan.device, plan.budget / 4, rounds=3)
    label = "FFT and an SVD at every frequency"
    note = f"norms {norms['circular']:.8g} and {norms['fourier']:.8g}"
    yield faster(6, f"circular operator norm, {name}", label, taken["circular"], taken["fourier"], note=note)
    note = f"norms {norms['padded']:.6g} and {norms['fourier']:.6g}: the peer's map pads circularly, ours with zeros"
    yield faster(6, f"zero-padded operator norm, {name}", label, taken["padded"], taken["fourier"], note=note)
