"""Rows 1, 2 and 5: the training step against peers and against the floor."""

from collections.abc import Iterator
from functools import partial

from bench.cells import NETWORKS, Plan, at_precision, batch_of, cell, classified, floor, mean_loss, sgd, update
from bench.guard import each_cell, guarded
from bench.line import Line, added, faster, times
from bench.peers import fresh_iterations_penalty, normalize_spectrally, svd_penalty, three_passes
from bench.timing import Work, paired
from sns.common.precision import fastest_kernels

FACTOR = 0.01


def spectral(plan: Plan) -> Iterator[Line]:
    """Row 1: the penalty alone and the whole step, VGG."""
    for regime in plan.batches():
        yield from guarded(plan, 1, f"penalty alone, {regime} batch", partial(_penalty_alone, plan, regime))
        yield from guarded(plan, 1, f"whole step, {regime} batch", partial(_whole_step, plan, regime))


def _name(plan: Plan, setting: str, size: int) -> str:
    return f"{NETWORKS[setting][0]}{' (tiny)' if plan.tiny else ''}, B = {size}"


def _penalty_alone(plan: Plan, regime: str) -> Iterator[Line]:
    ours = cell(plan, "vgg_cifar10", "method=spectral", f"batch={regime}", "train.mode=eager")
    update(ours)()  # makes every .grad
    model = classified(ours).model
    works: dict[str, Work] = {
        "ours": classified(ours).method.regularize,
        "recipe": lambda: fresh_iterations_penalty(model, FACTOR),
        "svd": lambda: svd_penalty(model, FACTOR),
    }
    taken = paired(works, plan.device, plan.budget / 4, rounds=9)
    what = f"spectral penalty alone, {_name(plan, 'vgg_cifar10', ours.config.batch.size)}"
    recipe, svd = (None, None) if plan.gpu else (10.0, 50.0)
    note = "both op by op" if plan.gpu else ""
    yield faster(1, what, "five fresh iterations, autograd", taken["ours"], taken["recipe"], target=recipe, note=note)
    yield faster(1, what, "matrix_norm(W, 2), autograd", taken["ours"], taken["svd"], target=svd, note=note)


def _whole_step(plan: Plan, regime: str) -> Iterator[Line]:
    sessions = {
        name: cell(plan, "vgg_cifar10", f"method={name}", f"batch={regime}") for name in ("vanilla", "spectral")
    }
    eager = [f"batch={regime}", "train.mode=eager"]
    plain, recipe, svd, normed = (cell(plan, "vgg_cifar10", *eager) for _ in range(4))
    normalize_spectrally(classified(normed).model)
    works: dict[str, Work] = {name: update(session) for name, session in sessions.items()} | {
        "plain": floor(plain),
        "recipe": floor(recipe, lambda: fresh_iterations_penalty(classified(recipe).model, FACTOR)),
        "svd": floor(svd, lambda: svd_penalty(classified(svd).model, FACTOR)),
        "normed": floor(normed),
    }
    taken = paired(works, plan.device, plan.budget / 2 / len(plan.batches()))
    what = f"step, {_name(plan, 'vgg_cifar10', plain.config.batch.size)}"
    limit = (3.0 if regime == "small" else 1.0) if plan.gpu else 5.0
    mode = sessions["spectral"].mode
    yield added(
        1, f"spectral {what}", "vanilla step", taken["spectral"], taken["vanilla"], target=limit, note=f"ours, {mode}"
    )
    others = (("recipe", "five fresh iterations"), ("svd", "matrix_norm(W, 2)"), ("normed", "spectral_norm layers"))
    for key, label in others:
        peer = f"peer: {label} {what}"
        yield added(1, peer, "bare step, eager", taken[key], taken["plain"], note="the peer's own overhead")


def adversarial(plan: Plan) -> Iterator[Line]:
    """Row 2: two passes against the textbook's three, and against vanilla, VGG."""
    for regime in plan.batches():
        yield from guarded(plan, 2, f"adversarial step, {regime} batch", partial(_adversarial, plan, regime))


def _adversarial(plan: Plan, regime: str) -> Iterator[Line]:
    ours = cell(plan, "vgg_cifar10", "method=adversarial", f"batch={regime}")
    vanilla = cell(plan, "vgg_cifar10", f"batch={regime}")
    works: dict[str, Work] = {"ours": update(ours), "vanilla": update(vanilla)}
    for name, whole in (("tutorial", True), ("lean", False)):
        works[name] = _textbook(plan, regime, whole)
    taken = paired(works, plan.device, plan.budget / len(plan.batches()), rounds=5)
    what = f"adversarial step, {_name(plan, 'vgg_cifar10', ours.config.batch.size)}"
    note = f"ours {ours.mode}, peer eager"
    label = "three passes, loss.backward() for the input gradient"
    yield faster(2, what, label, taken["ours"], taken["tutorial"], target=1.4, note=note)
    label = "three passes, autograd.grad for the input gradient"
    yield faster(2, what, label, taken["ours"], taken["lean"], note=f"{note}; no gradients to drop")
    yield times(2, what, "vanilla step", taken["ours"], taken["vanilla"], target=2.1, note=ours.mode)


def _textbook(plan: Plan, regime: str, whole: bool) -> Work:
    peer = cell(plan, "vgg_cifar10", f"batch={regime}", "train.mode=eager")
    x, y = batch_of(peer)
    loss, optimizer = mean_loss(peer), sgd(classified(peer).model, peer.config)
    pieces = list(zip(x.split(peer.task.sizes.train), y.split(peer.task.sizes.train), strict=True))

    @fastest_kernels()
    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        for part_x, part_y in pieces:
            three_passes(classified(peer).model, loss, part_x, part_y, share=len(part_y) / len(y), whole=whole)
        optimizer.step()

    return at_precision(peer, work)


def distance(plan: Plan) -> Iterator[Line]:
    """Row 5: our vanilla step against the bare one, for each network."""
    yield from each_cell(plan, 5, "distance to the floor", floor_distance)


def floor_distance(plan: Plan, setting: str, regime: str) -> Iterator[Line]:
    """Our vanilla step and the bare one, for one network and batch."""
    ours, bare = (cell(plan, setting, f"batch={regime}") for _ in range(2))
    works = {"ours": update(ours), "floor": floor(bare)}
    taken = paired(works, plan.device, plan.budget / len(NETWORKS) / len(plan.batches()), rounds=7)
    what = f"vanilla step, {_name(plan, setting, ours.config.batch.size)}"
    note = f"{ours.mode}, {ours.config.train.precision}, passes of {ours.task.sizes.train}"
    target = 1.05 if plan.gpu else 1.10
    yield times(5, what, "bare forward, backward, SGD", taken["ours"], taken["floor"], target=target, note=note)
