"""Image classification: cross entropy, accuracy, input gradients, spectra (sections 2 to 4)."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sns import model
from sns.common.errors import UserError
from sns.common.precision import autocast
from sns.common.ranks import Ranks
from sns.common.seed import generator
from sns.config.schema import BatchConfig, later
from sns.data.augment import crop_and_flip
from sns.data.dataset import Images
from sns.measure.evaluation import Evaluation, accuracy, evaluate, gradient_norms, probe_indices, quantiles
from sns.measure.hessian import hessian_split
from sns.measure.lipschitz import lipschitz_summary
from sns.measure.recalibration import recalibrated
from sns.measure.spectrum import layer_table, sigma_and_frobenius, singular_values, spectra_table
from sns.method.base import Sums, Term, no_term
from sns.model.adversaries import Adversaries
from sns.record.gap import gap_at_alpha
from sns.record.schema import CLASSIFICATION, LAYERS, LAYERS_CSV, RECALIBRATED, SPECTRA, SPECTRA_CSV, Score
from sns.task import passes
from sns.task.base import Pieces, Row, Setup, Sizes, register
from sns.task.exchange import Exchange
from sns.task.images import ImageTask
from sns.task.supervised import Supervised


@dataclass
class ClassificationOptions:
    """Options that the paper states for each setting."""

    name: str = later("classification")
    alpha: float | None = None  # test-accuracy threshold of the generalization gap (section 4.1)


@register("classification")
class Classification(ImageTask, Supervised):
    """A network from images to classes, trained on the mean cross entropy in nats."""

    Config = ClassificationOptions
    columns = (*CLASSIFICATION, RECALIBRATED)
    score = Score("test_accuracy")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        config, device, ranks = setup.config, setup.device, setup.ranks
        own = ranks.part(config.batch.size, config.batch.ghost)
        shape = self.dataset.channels, self.dataset.image_size, self.dataset.classes
        net = model.build(config.model, *shape, config.batch.ghost, generator(config.seed, "init"))
        if isinstance(net, Adversaries):
            raise UserError(f"model={config.model.name} is a GAN, no classifier; use it with setting=sngan_cifar10")
        self.model: nn.Module = net.to(device).to(memory_format=setup.memory_format)
        self.network: Callable[[Tensor], Tensor] = self.model  # called by a pass: the model, or its compiled form
        sizes = self._sizes(dataclasses.replace(config.batch, size=own), shape)
        sums = {"loss": torch.float64, "correct": torch.int64}
        self.begin(self.model, len(self.dataset.train), sums, sizes)
        self.augmentation = self.parts["augmentation"] = generator(config.seed, "augmentation", device)
        self.generators = [*self.generators, self.augmentation]
        self.exchange = Exchange(ranks, self.model, own // (config.batch.ghost or own))
        images, measure = self.dataset, config.measure
        self.splits = {  # with the indices of the images whose gradient norms are averaged; None: all
            "train": (images.train, _sample(len(images.train), measure.gradient_samples, device)),
            "test": (images.test, _sample(len(images.test), measure.test_gradient_samples, device)),
        }

    def _sizes(self, batch: BatchConfig, shape: tuple[int, int, int]) -> Sizes:
        """The pass sizes that memory allows, with a note if they are smaller than configured."""
        config, device = self.setup.config, self.setup.device
        per_image = passes.saved_bytes(self.model, *shape, config.train.precision)
        train, why_train = passes.choose(batch, per_image, device)
        measure, why_measure = passes.choose_measuring(config.measure.batch_size, per_image, device)
        self.notes += [reason for reason in (why_train, why_measure) if reason is not None]
        return Sizes(train, measure)

    # One update

    def update(self) -> None:
        """One or several passes over a batch, the penalty, the optimizer's step, the projection."""
        images, data, ranks = self.dataset.train, self.setup.config.data, self.setup.ranks
        x, y = images.x.index_select(0, self.index), images.y.index_select(0, self.index)
        x = crop_and_flip(x, data.crop_padding, data.flip, self.augmentation)
        own = slice(*ranks.bounds(len(y)))  # cut after augmentation, so that every rank draws the same crops
        x, own_y = x[own].contiguous(memory_format=self.setup.memory_format), y[own]
        (optimizer,) = self.optimizers
        optimizer.zero_grad()
        before, sums = self.exchange.begin(), self.running.zeros()
        for part, labels in zip(x.split(self.sizes.train), own_y.split(self.sizes.train), strict=True):
            pass_sums = self.method.backward(partial(self.risk, labels), part, len(labels) / len(y))
            for name, total in sums.items():
                total += pass_sums[name]
        sums = self.exchange.end(before, sums)
        penalty = self.method.regularize()
        optimizer.step()
        self.method.project()
        self.running.note(sums, penalty)

    def risk(self, y: Tensor, x: Tensor, share: float, term: Term = no_term) -> Sums:
        """The mean cross entropy on images x (N, C, H, W) with labels y (N,), plus `term(logits)`.

        Adds `share` times its gradient to `.grad`, and to x.grad if x requires a gradient. Returns
        the summed loss and the number of correct predictions, both ().
        """
        logits = self.logits(x)
        loss = F.cross_entropy(logits, y)
        ((loss + term(logits)) * share).backward()
        with torch.no_grad():
            return {"loss": loss.detach() * len(y), "correct": (logits.argmax(dim=1) == y).sum()}

    def logits(self, x: Tensor) -> Tensor:
        """The network at training precision: images (N, C, H, W) to logits (N, classes) in fp32."""
        with autocast(self.setup.config.train.precision, x.device):
            out = self.network(x)
        return out.float()

    def compile(self, compiled: Callable[[nn.Module], Callable[..., Any]]) -> None:
        """Compiles the network for training passes; evaluations use the plain model."""
        if self.method.second_order:  # a compiled backward pass has no derivative
            name = self.setup.config.method.name
            raise UserError(f"method={name} differentiates gradients; train.mode=compile cannot: use graph or eager")
        self.network = compiled(self.model)

    # Measuring

    def evaluate(self) -> Row:
        """Measures both splits in evaluation mode without augmentation, and the weights."""
        self.setup.ranks.require_equal(self.model)
        train, test = (self._shared_evaluation(*self.splits[name]) for name in ("train", "test"))
        row = {
            "train_loss": train.loss,
            "train_accuracy": train.accuracy,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "gap": train.accuracy - test.accuracy,
            "running_train_loss": self.running.mean("loss"),
            "running_train_accuracy": self.running.mean("correct"),
            "train_gradient_norm": train.gradient_norm,
            "train_gradient_norm_rms": train.gradient_norm_rms,
            "test_gradient_norm": test.gradient_norm,
            "test_gradient_norm_rms": test.gradient_norm_rms,
            **sigma_and_frobenius(self.model),
            "penalty": self.running.penalty.item(),
            RECALIBRATED.name: self._recalibrated_accuracy(test.accuracy),
        }
        self.running.reset()
        return row

    def _evaluation(self, x: Tensor, y: Tensor, sample: Tensor | None) -> Evaluation:
        return evaluate(self.model, x, y, self.sizes.measure, sample, self.setup.config.measure.precision)

    def _shared_evaluation(self, split: Images, sample: Tensor | None) -> Evaluation:
        """`evaluate` on a split, shared by the ranks, with gradient norms of the sample."""
        ranks = self.setup.ranks
        if ranks.world == 1:
            return self._evaluation(split.x, split.y, sample)
        parts = [Ranks(i, ranks.world).bounds(len(split)) for i in range(ranks.world)]
        whole = torch.arange(len(split), device=split.y.device) if sample is None else sample
        samples = [whole[(whole >= start) & (whole < stop)] for start, stop in parts]
        if min(len(part) for part in samples) == 0:  # too few to share: every rank evaluates all
            return self._evaluation(split.x, split.y, sample)
        start, stop = parts[ranks.rank]
        own = samples[ranks.rank] - start
        mine = self._evaluation(split.x[start:stop], split.y[start:stop], None if sample is None else own)
        n, k = stop - start, len(own)
        sums = ranks.sums([mine.loss * n, mine.accuracy * n, mine.gradient_norm * k, mine.gradient_norm_rms**2 * k])
        n, k = len(split), len(whole)
        return Evaluation(sums[0] / n, sums[1] / n, sums[2] / k, (sums[3] / k) ** 0.5)

    def _recalibration(self, count: int) -> AbstractContextManager[None]:
        """Inside, batch norm's statistics are those of `count` fixed clean training images."""
        x = self.dataset.train.x
        return recalibrated(self.model, x[probe_indices(len(x), count, self.setup.device)], self.sizes.measure)

    def _recalibrated_accuracy(self, plain: float) -> float:
        """The test accuracy with such statistics; `plain`, without a pass, if they are left out."""
        test, ranks, measure = self.dataset.test, self.setup.ranks, self.setup.config.measure
        count = measure.recalibration_samples
        if count is None:
            return plain
        own = slice(*ranks.bounds(len(test)))
        with self._recalibration(count):
            part = accuracy(self.model, test.x[own], test.y[own], self.sizes.measure, measure.precision)
        correct = part * len(test.y[own])
        return ranks.sums([correct])[0] / len(test)

    def _recalibrated(self, count: int) -> dict[str, dict[str, float]]:
        """Both splits with such statistics, by the fields of `Evaluation`."""
        with self._recalibration(count):
            return {
                name: dataclasses.asdict(self._evaluation(split.x, split.y, sample))
                for name, (split, sample) in self.splits.items()
            }

    def final(self, pieces: Pieces) -> dict[str, Any]:
        """Quantiles of gradient norms, spectra (section 4.4), Hessian eigenvalues (section 4.3)."""
        measure = dataclasses.replace(self.setup.config.measure, batch_size=self.sizes.measure)
        measured: dict[str, Any] = {
            "gradient_quantiles": {n: pieces.once(f"norms {n}", partial(self._norms, n)) for n in self.splits}
        }
        if measure.recalibration_samples is not None:
            measured["recalibrated"] = pieces.once(
                "recalibrated", partial(self._recalibrated, measure.recalibration_samples)
            )
        if measure.spectra:
            measured["lipschitz"] = pieces.once("spectra", partial(self._spectra, pieces))
        if measure.hessian:
            measured["hessian"] = {
                name: pieces.once(f"hessian {name}", partial(hessian_split, self.model, split.x, split.y, measure))
                for name, (split, _) in self.splits.items()
            }
        return measured

    def _norms(self, name: str) -> dict[str, float]:
        split, sample = self.splits[name]
        probe = slice(None) if sample is None else sample
        return quantiles(gradient_norms(self.model, split.x[probe], split.y[probe], self.sizes.measure))

    def _spectra(self, pieces: Pieces) -> dict[str, Any]:
        images, spectra = self.dataset, singular_values(self.model)
        layers = layer_table(self.model, tuple(images.train.x.shape[1:]), spectra)
        pieces.table(LAYERS_CSV, LAYERS, layers)
        pieces.table(SPECTRA_CSV, SPECTRA, spectra_table(spectra))
        chosen = probe_indices(len(images.test), self.setup.config.measure.jacobian_samples, self.setup.device)
        return lipschitz_summary(self.model, images.test.x[chosen], self.sizes.measure, layers)

    def summary(self, history: Sequence[Row]) -> dict[str, Any]:
        """The generalization gap at alpha (section 4.1)."""
        alpha = self.setup.config.task.alpha
        gap, epoch = gap_at_alpha(history, alpha) or (None, None)
        return {"alpha": alpha, "gap_at_alpha": gap, "gap_at_alpha_epoch": epoch}


def _sample(n: int, k: int | None, device: torch.device) -> Tensor | None:
    return None if k is None or k >= n else probe_indices(n, k, device)
