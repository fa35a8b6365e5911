"""Generative adversarial networks (Miyato et al. 2018, arXiv 1802.05957).

An update is `n_dis` updates of the discriminator D, each with new real and generated images, and
one of the generator G. The method of the run acts on D alone.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sns import model
from sns.common.errors import UserError
from sns.common.precision import autocast
from sns.common.seed import generator
from sns.config.schema import Config as RunConfig
from sns.config.schema import require
from sns.measure.features import GREY, from_bytes
from sns.measure.samples import CLASSIFIER_COLUMNS, SampleScores, ScoreOptions, grid
from sns.measure.spectrum import (
    largest_singular_values,
    layer_table,
    singular_values,
    spectra_table,
    weight_matrices,
)
from sns.measure.state import unchanged
from sns.method.base import Sums, Term, no_term
from sns.model.adversaries import LATENT, Adversaries
from sns.record.schema import LAYERS, LAYERS_CSV, SPECTRA, SPECTRA_CSV, Column, Score
from sns.task.base import Pieces, Row, Setup, Sizes, register
from sns.task.gan_losses import DISCRIMINATOR, GENERATOR, LOSSES
from sns.task.images import ImageTask
from sns.task.supervised import ExampleTask

MEANS = ("d_loss", "g_loss", "d_real", "d_fake", "d_gradient_norm", "g_gradient_norm")
SAMPLES = "samples.png"  # in the run directory


@dataclass
class GanOptions(ScoreOptions):
    """The paper's choices where it has one. configs/setting/sngan_*.yaml sets what differs."""

    name: str = "gan"
    loss: str = "logistic"  # logistic (non-saturating), hinge or wasserstein
    n_dis: int = 1  # updates of D for each of G
    ema: float | None = None  # decay of the moving average of G's weights, which makes the samples; None: G itself
    collapse: float = 0.05  # a run whose samples have less than this share of the real images' variance collapsed

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.loss in LOSSES, f"task.loss={self.loss} is unknown; choose one of {', '.join(LOSSES)}")
        require(self.n_dis >= 1, f"task.n_dis={self.n_dis} must be at least 1")
        require(self.ema is None or 0 < self.ema < 1, f"task.ema={self.ema} must lie between 0 and 1, or be null")
        require(self.collapse >= 0, f"task.collapse={self.collapse} must not be negative")


@register("gan")
class Gan(ImageTask, ExampleTask):
    """G and D of one model, each with an optimizer of the same options."""

    Config = GanOptions
    score = Score("sample_variance")
    columns = (
        Column("d_loss", "nats", "mean loss of D over its updates since the last evaluation", "d loss"),
        Column("g_loss", "nats", "likewise of G", "g loss"),
        Column("d_real", "", "D's mean output on the real images of these updates"),
        Column("d_fake", "", "D's mean output on the generated images of these updates"),
        Column("d_gradient_norm", "", "L2 norm of the gradient of D's loss and penalty, mean over these updates"),
        Column("g_gradient_norm", "", "likewise of G"),
        Column("sample_variance", "", "variance over generated images in [-1, 1], mean over the pixels"),
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        config, device = setup.config, setup.device
        _require_plain(config, setup.ranks.world)
        self.options: GanOptions = config.task
        shape = self.dataset.channels, self.dataset.image_size, self.dataset.classes
        net = model.build(config.model, *shape, None, generator(config.seed, "init"))
        if not isinstance(net, Adversaries):
            raise UserError(f"model={config.model.name} is no GAN; use sngan_cnn or sngan_resnet")
        net = net.to(device).to(memory_format=setup.memory_format)
        self.g, self.d = net.generator, net.discriminator
        self.call_g: Callable[[Tensor], Tensor] = self.g  # the networks, or their compiled forms
        self.call_d: Callable[[Tensor], Tensor] = self.d
        sums = dict.fromkeys(("loss", *MEANS), torch.float64)
        sizes = Sizes(config.batch.size, config.measure.batch_size or 500)
        self.begin(net, [self.d, self.g], len(self.dataset.train), sums, sizes, self.options.n_dis)
        self.average = None if self.options.ema is None else copy.deepcopy(self.g)
        self.latent, self.noise = (generator(config.seed, name, device) for name in ("latent", "noise"))
        self.generators = [*self.generators, self.latent, self.noise]
        self.parts |= {"latent": self.latent, "noise": self.noise}
        if self.average is not None:
            self.parts["average"] = self.average
        self.scores = SampleScores(self.options, self._real_test(), device)
        self.notes += self.scores.notes

    @classmethod
    def own_columns(cls, config: RunConfig) -> Sequence[Column]:
        """`columns`, sigma of each weight matrix of D, and the scores of an evaluation."""
        cls_of_model = model.MODELS[config.model.name]
        count = cls_of_model.critic_matrices(config.model) if issubclass(cls_of_model, Adversaries) else 0
        sigmas = (Column(f"sigma_{i}", "", "largest singular value of D's i-th weight") for i in range(1, count + 1))
        return (*cls.columns, *sigmas, *(() if config.task.classifier is None else CLASSIFIER_COLUMNS))

    @classmethod
    def own_score(cls, config: RunConfig) -> Score:
        """The Frechet distance by the classifier, low; without one the samples' variance."""
        return cls.score if config.task.classifier is None else Score(CLASSIFIER_COLUMNS[0].name, high=False)

    # One update

    def update(self) -> None:
        """`n_dis` updates of D, then one of G."""
        sums = {name: torch.zeros((), dtype=torch.float64, device=self.setup.device) for name in MEANS}
        penalty = None
        for index in self.index.split(self.setup.config.batch.size):
            penalty = self._update_discriminator(index, sums)
        for name in ("d_loss", "d_real", "d_fake", "d_gradient_norm"):
            sums[name] /= self.options.n_dis
        self._update_generator(sums)
        sums["loss"] = sums["d_loss"] + sums["g_loss"]
        self.running.note({name: value * len(self.index) for name, value in sums.items()}, penalty)  # as of examples

    def _update_discriminator(self, index: Tensor, sums: dict[str, Tensor]) -> Tensor | None:
        real = self._real(index)
        with torch.no_grad():
            fake = self._fake(len(index))
        optimizer = self.optimizers[0]
        optimizer.zero_grad()
        for name, value in self.method.backward(self.risk, torch.cat([real, fake]), 1.0).items():
            sums[name] += value
        penalty = self.method.regularize()
        sums["d_gradient_norm"] += gradient_norm([p.grad for p in optimizer.parameters if p.grad is not None])
        optimizer.step()
        self.method.project()
        return penalty

    def risk(self, x: Tensor, share: float, term: Term = no_term) -> Sums:
        """D's mean loss on images x (2 B, C, S, S), of which the first half is real, plus
        `term(outputs)`. Adds `share` times its gradient to `.grad`. Returns means, each ()."""
        real, fake = (self._judged(half) for half in x.chunk(2))
        loss = DISCRIMINATOR[self.options.loss](real, fake)
        ((loss + term(torch.cat([real, fake]))) * share).backward()
        return {"d_loss": loss.detach(), "d_real": real.detach().mean(), "d_fake": fake.detach().mean()}

    def _update_generator(self, sums: dict[str, Tensor]) -> None:
        optimizer = self.optimizers[1]
        loss = GENERATOR[self.options.loss](self._judged(self._fake(self.setup.config.batch.size)))
        gradients = torch.autograd.grad(loss, optimizer.parameters)  # none for D's weights
        for parameter, gradient in zip(optimizer.parameters, gradients, strict=True):
            parameter.grad = gradient
        sums["g_loss"] += loss.detach()
        sums["g_gradient_norm"] += gradient_norm(gradients)
        optimizer.step()
        if self.average is not None:
            self._follow(self.average)

    @torch.no_grad()
    def _follow(self, average: nn.Module) -> None:
        """The moving average of G's weights; batch norm's statistics are the newest."""
        assert self.options.ema is not None
        torch._foreach_lerp_(list(average.parameters()), list(self.g.parameters()), 1.0 - self.options.ema)
        for own, newest in zip(average.buffers(), self.g.buffers(), strict=True):
            own.copy_(newest)

    def _real(self, index: Tensor) -> Tensor:
        """Real images in [-1, 1), (B, C, S, S), with uniform noise of one grey level."""
        x = self.dataset.train.x.index_select(0, index)
        noise = torch.rand(x.shape, generator=self.noise, device=x.device)
        return from_bytes(x * (GREY - 1), noise).contiguous(memory_format=self.setup.memory_format)

    def _real_test(self) -> Tensor:
        """The test images in (-1, 1), (N, C, S, S)."""
        return from_bytes(self.dataset.test.x * (GREY - 1))

    def _fake(self, count: int) -> Tensor:
        """Generated images, as G in training mode makes them."""
        device = self.setup.device
        z = torch.randn((count, LATENT), generator=self.latent, device=device)
        with autocast(self.setup.config.train.precision, device):
            return self.call_g(z).float()

    def _judged(self, x: Tensor) -> Tensor:
        """D's outputs (N, 1) in fp32."""
        with autocast(self.setup.config.train.precision, x.device):
            return self.call_d(x).float()

    def compile(self, compiled: Callable[[nn.Module], Callable[..., Any]]) -> None:
        """Compiles G and D for training passes."""
        if self.method.second_order:  # a compiled backward pass has no derivative
            name = self.setup.config.method.name
            raise UserError(f"method={name} differentiates gradients; train.mode=compile cannot: use graph or eager")
        self.call_g, self.call_d = compiled(self.g), compiled(self.d)

    # Measuring

    @torch.no_grad()
    def samples(self, count: int) -> Tensor:
        """The first `count` images (count, C, S, S) of a fixed sequence, in [-1, 1], on the host.

        G, or its moving average, is in evaluation mode.
        """
        config, device = self.setup.config, self.setup.device
        net = self.g if self.average is None else self.average
        draws, made = generator(config.seed, "probe", device), []
        with unchanged(net):
            for start in range(0, count, self.sizes.measure):
                z = torch.randn((min(self.sizes.measure, count - start), LATENT), generator=draws, device=device)
                made.append(net(z).float().cpu())
        return torch.cat(made)

    def evaluate(self) -> Row:
        """Means since the last evaluation, sigma of D's weights, and scores of samples."""
        row = {name: self.running.mean(name) for name in MEANS}
        images = self.samples(self.options.samples)
        row["sample_variance"] = pixel_variance(images)
        with torch.no_grad():
            sigmas = torch.stack(largest_singular_values(list(weight_matrices(self.d).values()))).tolist()
        row |= {f"sigma_{i}": sigma for i, sigma in enumerate(sigmas, start=1)}
        row |= self.scores.classifier_scores(lambda count: images[:count])
        self.running.reset()
        return row

    def final(self, pieces: Pieces) -> dict[str, Any]:
        """Whether the run collapsed, all scores, a picture of samples, the spectra of D."""
        images = self.samples(self.options.samples)

        def sample(count: int) -> Tensor:
            return images[:count] if count <= len(images) else self.samples(count)

        grid(images, pieces.path(SAMPLES))
        measured = {
            "samples": pieces.once("samples", lambda: self._variances(images)),
            "scores": pieces.once("scores", lambda: self.scores.scores(sample)),
        }
        if self.setup.config.measure.spectra:
            pieces.once("spectra", lambda: self._spectra(pieces))
        return measured

    def _variances(self, images: Tensor) -> dict[str, Any]:
        own, real, share = pixel_variance(images), pixel_variance(self._real_test()), self.options.collapse
        return {"count": len(images), "variance": own, "real_variance": real, "collapsed": own < share * real}

    def _spectra(self, pieces: Pieces) -> None:
        """D's tables, as those of a classifier."""
        spectra = singular_values(self.d)
        shape = self.dataset.channels, self.dataset.image_size, self.dataset.image_size
        pieces.table(LAYERS_CSV, LAYERS, layer_table(self.d, shape, spectra))
        pieces.table(SPECTRA_CSV, SPECTRA, spectra_table(spectra))


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The L2 norm over all of them, ()."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
    return norm


def pixel_variance(images: Tensor) -> float:
    """The variance over images (N, C, S, S), mean over the pixels."""
    return images.double().var(dim=0).mean().item()


def _require_plain(config: RunConfig, processes: int) -> None:
    """ConfigError or UserError for options that this task has no meaning for."""
    require(config.data.gcn == "none", f"task=gan needs images in [-1, 1]: data.gcn={config.data.gcn} must be none")
    augmented = config.data.crop_padding > 0 or config.data.flip
    require(not augmented, "task=gan does not augment images: set data.crop_padding=0 data.flip=false")
    split = config.batch.ghost is not None or config.batch.micro is not None
    require(not split, "task=gan does not split a batch: set batch.ghost=null batch.micro=null")
    require(config.measure.precision == "fp32", "task=gan measures in fp32: set measure.precision=fp32")
    if processes > 1:
        raise UserError("task=gan trains in one process; use one GPU a run")
