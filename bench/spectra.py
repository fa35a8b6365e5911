"""Row 6: the Hessian's largest eigenvalue against pyhessian; operator norms against the FFT."""

import importlib.util
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from bench.cells import NETWORKS, TWINS, Plan, cell, classified, update
from bench.line import Line, faster
from bench.peers import fourier_operator_norm
from bench.timing import Work, paired
from sns.config.schema import MeasureConfig
from sns.measure.hessian import hessian_eigenvalue
from sns.measure.referee import convolutions

ACCURACY = 1e-4  # relative, of an eigenvalue
TIGHT = 1e-9  # the tolerance of the value that counts as exact
UPDATES = 200  # they separate the largest eigenvalue from the others
PEER = "pyhessian, same accuracy"
LAYERS = 6  # of a network, whose norms are timed
FOURIER = "FFT and an SVD at every frequency, for circular padding"


def spectra(plan: Plan) -> Iterator[Line]:
    """Row 6."""
    twins = {TWINS[setting]: setting for setting in NETWORKS}
    for setting in twins.values():
        yield _hessian(plan, setting, plan.budget / 2 / len(twins))
    for setting in NETWORKS:
        yield from _norms(plan, setting)


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


def _norms(plan: Plan, setting: str) -> Iterator[Line]:
    """The norm with zero padding of different convolutions of a network as it is initialised, at
    most `LAYERS`, evenly spread: in all, and where it is slowest against the peer."""
    session = cell(plan, setting, "train.mode=eager")
    shape = tuple(classified(session).dataset.train.x.shape[1:])
    layers = {
        (tuple(operator.weight.shape), operator.input_size): (name, operator)
        for name, operator in convolutions(classified(session).model, shape)
    }
    chosen = list(layers.values())[:: math.ceil(len(layers) / LAYERS)]
    ours, theirs = dict[str, list[float]](), dict[str, list[float]]()
    for name, operator in chosen:
        works: dict[str, Work] = {
            "ours": operator.norm,
            "theirs": partial(fourier_operator_norm, operator.weight, operator.input_size),
        }
        taken = paired(works, plan.device, plan.budget / 2 / len(NETWORKS) / len(chosen), rounds=3)
        ours[name], theirs[name] = taken["ours"], taken["theirs"]
    ratios = {name: statistics.median(b / a for a, b in zip(ours[name], theirs[name], strict=True)) for name in ours}
    slowest, what = min(ratios, key=ratios.__getitem__), f"zero-padded norms, {NETWORKS[setting][0]}"
    rounds = min(map(len, ours.values()))
    in_all = [[sum(times[i] for times in each.values()) for i in range(rounds)] for each in (ours, theirs)]
    note = f"{len(chosen)} of {len(layers)} different layers; faster in {sum(r >= 1 for r in ratios.values())}"
    yield faster(6, f"{what}, in all", FOURIER, *in_all, note=note)
    yield faster(6, f"{what}, {slowest}", FOURIER, ours[slowest], theirs[slowest], target=1.0, note="the slowest layer")
