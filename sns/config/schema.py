"""The configuration of one run, as dataclasses, and the run's identity, which follows from it.

YAML files under configs/ hold the values. `sns.config.compose` turns a composed tree into these
classes once; nothing changes them afterwards. A field made with `free` cannot change the result
(paths, device, progress) and is not part of the run_id. A field made with `later` is part of it
only if it differs from its default.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from sns.common.errors import ConfigError
from sns.config import names, units

# OmegaConf's sign of a value that must be given. Without its import, sns.method needs torch only.
MISSING: Any = "???"
REGIMES = ("small", "large")
PRECISIONS = ("fp32", "tf32", "bf16")
MODES = ("auto", "eager", "compile", "graph")
MEMORY_FORMATS = ("auto", "contiguous", "channels_last")
PROGRESS = ("auto", "bar", "lines", "none")
TRACKING = ("auto", "online", "offline", "disabled")
GCN_VARIANTS = ("std", "l2", "none")
# Files whose runs were named by the file: content (sns.data.identity) to that name.
COMMITTED = {"caa2f119b5db2f16cc337d35889ed6ea": "cifar10.npz"}


def free(default: Any) -> Any:
    """A field that cannot change the result of a run and is not part of its identity."""
    return field(default=default, metadata={"identity": False})


def later(default: Any) -> Any:
    """A field added after records existed: part of the identity only if it is not its default.

    The run_ids of older records thus stay the same.
    """
    return field(default=default, metadata={"identity": "changed"})


def require(condition: bool, message: str) -> None:
    """Raises ConfigError(message) unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def _require_one_of(choices: Sequence[str], **named: str) -> None:
    """ConfigError for an option, such as train.mode (here train_mode), with another value."""
    for name, value in named.items():
        key = name.replace("_", ".", 1)
        require(value in choices, f"{key}={value} is unknown; choose one of {', '.join(choices)}")


def _require_positive(part: str, options: Any, unset: Mapping[str, str]) -> None:
    """ConfigError for a number that is neither positive nor None. `unset`: what None means."""
    for key, meaning in unset.items():
        value = getattr(options, key)
        require(value is None or value > 0, f"{part}.{key}={value} must be positive, or null for {meaning}")


@dataclass
class DataConfig:
    """Which images, how many of them, their contrast normalization and augmentation."""

    name: str = MISSING  # of a reader in sns/data, such as digits or npz
    root: str = free("~/.cache/sns")  # the folder of archives
    download: bool = free(True)  # False: never use the network
    path: str | None = field(default=None, metadata={"identity": "source"})  # the file of name=npz
    content: str | None = free(None)  # what `path` holds, as 32 hex digits; filled in where it can be read
    subset: int | None = None  # training images to use, balanced over classes; None: all
    test_subset: int | None = None  # likewise of the test set
    gcn: str = "std"  # std: subtract mean, divide by deviation; l2: to L2 norm 55; none: bytes / 255
    crop_padding: int = 0  # zero padding in pixels before a random crop to the original size; 0: no crop
    flip: bool = False  # horizontal flip with probability 1/2
    resolution: int | None = later(None)  # pixels a side after area averaging of the bytes; None: the original size
    # Training images that become the test split, the same for every run: to choose hyper-parameters
    holdout: int | None = later(None)
    unlabelled: bool = later(False)  # of stl10: its 100,000 unlabelled images are the training set, without classes

    def __post_init__(self) -> None:
        require(not self.unlabelled or self.name == "stl10", "data.unlabelled belongs to data.name=stl10")
        _require_one_of(GCN_VARIANTS, data_gcn=self.gcn)
        require(self.crop_padding >= 0, f"data.crop_padding={self.crop_padding} must not be negative")
        require(self.name != "npz" or self.path is not None, "data.name=npz needs data.path=FILE.npz")
        unset = {"subset": "all images", "test_subset": "all images", "resolution": "theirs", "holdout": "the test set"}
        _require_positive("data", self, unset)

    @property
    def source(self) -> str | None:
        """What identifies the images of `path`: their content, in COMMITTED and in records
        without `content` the file's name."""
        name = None if self.path is None else Path(self.path).name
        return name if self.content is None else COMMITTED.get(self.content, self.content)


@dataclass
class BatchConfig:
    """How many images one update uses, and how they are split into passes."""

    regime: str = MISSING  # small | large: the column of the paper's Table 1
    size: int = MISSING  # B, images an update
    ghost: int | None = None  # images that share batch-norm statistics; None: the whole batch
    micro: int | None = free(None)  # images a pass, at most; fewer, with a message, if memory is short

    def __post_init__(self) -> None:
        _require_one_of(REGIMES, batch_regime=self.regime)
        require(self.size > 0, f"batch.size={self.size} must be positive")
        for key, part in (("ghost", self.ghost), ("micro", self.micro)):
            require(
                part is None or part >= self.size or (part > 0 and self.size % part == 0),
                f"batch.{key}={part} must be positive and divide batch.size={self.size}, or be no smaller",
            )
        if self.micro is not None and self.micro < self.size:
            require(
                self.ghost is not None and self.micro % self.ghost == 0,
                f"batch.micro={self.micro} must be a multiple of batch.ghost={self.ghost}, or the batch-norm "
                "statistics would change; set batch.ghost to a divisor of batch.micro",
            )


@dataclass
class TrainConfig:
    """How long a run trains, at which precision and on which device."""

    epochs: float = MISSING  # one epoch is as many images as the training set holds
    precision: str = "fp32"  # of training passes: fp32 | tf32 | bf16; in bf16 all else is fp32
    device: str = free("auto")  # auto | cpu | cuda | cuda:N
    mode: str = free("auto")  # eager | compile | graph; auto: graph (captured CUDA graph) on a GPU, eager on a CPU
    memory_format: str = free("auto")  # contiguous (auto in fp32 on a GPU) | channels_last (else)
    threads: int | None = free(None)  # CPU threads; None: torch's choice
    checkpoint_minutes: float = free(5.0)  # between checkpoints; one is also written at a signal and at the end
    time_limit_minutes: float | None = free(None)  # of this process, which saves and stops before; None: no limit
    keep_checkpoint: bool = free(True)  # keep the final weights with the record
    stop_after: int | None = free(None)  # stop after this many updates, to be resumed; None: train to the end
    progress: str = free("auto")  # auto | bar | lines | none

    def __post_init__(self) -> None:
        require(self.epochs > 0, f"train.epochs={self.epochs} must be positive")
        require(self.epochs <= 1e6, f"train.epochs={self.epochs:g} is too many: at most 1,000,000")
        _require_one_of(PRECISIONS, train_precision=self.precision)
        _require_one_of(MODES, train_mode=self.mode)
        _require_one_of(MEMORY_FORMATS, train_memory_format=self.memory_format)
        _require_one_of(PROGRESS, train_progress=self.progress)
        require(self.checkpoint_minutes >= 0, "train.checkpoint_minutes must not be negative")
        unset = {"threads": "torch's choice", "stop_after": "the end", "time_limit_minutes": "no limit"}
        _require_positive("train", self, unset)


@dataclass
class MeasureConfig:
    """What is measured, how often and on how many images."""

    every: float = 1.0  # epochs between evaluations; the last update is always evaluated
    gradient_samples: int = 10_000  # training images, fixed, whose input-gradient norms are averaged
    test_gradient_samples: int | None = later(None)  # likewise of the test images; None: all of them
    recalibration_samples: int | None = later(1_000)  # training images for batch norm's statistics anew; None: not
    # Of forward passes for losses and accuracies alone: fp32 | bf16; gradients are always in fp32
    precision: str = later("fp32")
    batch_size: int | None = free(None)  # images an evaluation pass; None: by device, fewer if memory is short
    hessian: bool = True  # largest Hessian eigenvalue at the end of training (section 4.3)
    hessian_samples: int = 10_000  # images of each split that it is computed from
    hessian_tolerance: float = 1e-3  # relative, on the eigenvalue between two iterations
    hessian_iterations: int = 100  # at most, of Lanczos iteration
    lanczos: bool = False  # check the eigenvalue by scipy's eigsh
    spectra: bool = True  # every singular value and the operator norms at the end of training (section 4.4)
    jacobian_samples: int = 256  # test images for a lower bound to compare with the product bound of section 3.1

    def __post_init__(self) -> None:
        require(self.every > 0, f"measure.every={self.every} must be positive")
        _require_one_of(("fp32", "bf16"), measure_precision=self.precision)
        unset = {"batch_size": "the device's", "test_gradient_samples": "all", "recalibration_samples": "no such pass"}
        _require_positive("measure", self, unset)
        for key in ("gradient_samples", "hessian_samples", "hessian_iterations", "jacobian_samples"):
            require(getattr(self, key) > 0, f"measure.{key}={getattr(self, key)} must be positive")
        require(self.hessian_tolerance > 0, "measure.hessian_tolerance must be positive")


@dataclass
class LaunchConfig:
    """How the runs of a sweep are spread over processes and devices. No result depends on it."""

    per_gpu: int = free(1)  # runs at a time on one GPU (hydra/launcher=local); without MPS 2 give less than 1.3 times 1
    per_process: int = free(1)  # runs that one process trains in turns, each on a CUDA stream (-m, not on Slurm)
    gpus_per_run: int = free(1)  # GPUs of one machine that share the batch of one run; for more machines: torchrun
    processes: int | None = free(None)  # runs at a time on CPUs (hydra/launcher=local); None: one a core
    retries: int = free(2)  # further attempts at a run that is killed or ends with an error, before it counts as failed
    # 540s, 9m or 1.5h: the command saves and ends within this time of its start, and the same
    # command resumes it. None: no limit
    budget: str | None = free(None)
    run: str | None = free(None)  # set by launchers: a YAML file with the composed run, in place of all other options
    # Cells to train first, in the words of the command line: 'setting=vgg_cifar10 method=decay'
    priority: list[str] = field(default_factory=list, metadata={"identity": False})

    def __post_init__(self) -> None:
        for key in ("per_gpu", "per_process", "gpus_per_run"):
            require(getattr(self, key) >= 1, f"launch.{key}={getattr(self, key)} must be at least 1")
        _require_positive("launch", self, {"processes": "one a core"})
        require(self.retries >= 0, f"launch.retries={self.retries} must not be negative")
        for text, check in ((self.budget, units.seconds), *((entry, units.cells) for entry in self.priority)):
            if text is not None:
                check(text)


@dataclass
class TrackConfig:
    """What Weights & Biases receives. No result depends on it."""

    mode: str = free("auto")  # auto | online | offline | disabled; auto: online with credentials, else offline
    project: str = free("spectral-norm-regularization")
    entity: str | None = free(None)  # team or user; None: the account's default
    dir: str | None = free(None)  # W&B writes to its folder `wandb`; None: the results folder
    artifacts: bool = free(False)  # upload the final weights too

    def __post_init__(self) -> None:
        _require_one_of(TRACKING, track_mode=self.mode)
        require(bool(self.project), "track.project must not be empty")


@dataclass
class ExperimentConfig:
    """The named set of runs that a run belongs to. No result depends on it."""

    name: str = free("single")  # a folder under results/runs

    def __post_init__(self) -> None:
        names.require_folder("experiment.name", self.name, reserved=("paper", "runs", "wandb"))


@dataclass
class Config:
    """Everything that one run depends on.

    `task`, `data`, `model`, `method` and `optim` are the options of what was chosen.
    """

    setting: str = MISSING  # row of Table 1, such as vgg_cifar10
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig, metadata={"identity": False})
    results: str = free("results")  # the folder of all results
    seed: int = 0
    task: Any = None
    data: Any = None
    model: Any = None
    method: Any = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    optim: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig, metadata={"identity": False})
    track: TrackConfig = field(default_factory=TrackConfig, metadata={"identity": False})

    def __post_init__(self) -> None:
        names.require_folder("setting", self.setting)
        names.require_folder("method.name", getattr(self.method, "name", "none"))

    @property
    def run_id(self) -> str:
        """`<setting>__<method>__b<batch>__s<seed>__<8 hex>`, the same on every machine."""
        digest = _digest(_identity_of_run(self))
        return f"{self.setting}__{self.method.name}__b{self.batch.size}__s{self.seed}__{digest}"

    @property
    def variant(self) -> str:
        """8 hex digits of the configuration without the seed: only equal ones are averaged."""
        tree = _identity_of_run(self)
        del tree["seed"]
        return _digest(tree)

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.results).expanduser() / "runs" / self.experiment.name / self.run_id


def identity(node: Any) -> dict[str, Any]:
    """The part of a configuration dataclass that can change the result."""
    tree: dict[str, Any] = {}
    for entry in fields(node):
        rule = entry.metadata.get("identity", True)
        value = getattr(node, entry.name)
        if is_dataclass(value):
            value = identity(value)
        if rule == "source":
            value = node.source
        if rule and not (rule == "changed" and value == entry.default):
            tree[entry.name] = value
    return tree


def _identity_of_run(config: Config) -> dict[str, Any]:
    """`identity`, with the options of the task classification at the top level.

    They were there when it was the only task, and the run_ids of its records must stay the same.
    """
    tree = identity(config)
    if "name" not in tree["task"]:
        tree |= tree.pop("task")
    return tree


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain containers, for config.yaml."""
    return asdict(config)
