"""The record of a run: the name and unit of every field.

A run directory `results/runs/<experiment>/<run_id>/` holds

    config.yaml    the resolved configuration
    history.csv    one row an evaluation: `RUN_COLUMNS` and the columns of the run's task
    result.json    the fields of `Result`, written last and atomically: the run is finished
    layers.csv     one row a weight matrix at the end of training, columns `LAYERS`
    spectra.csv    every singular value at the end of training, columns `SPECTRA`
    checkpoint.pt  weights and the state needed to resume; not part of the record, not in git

Accuracies are fractions in [0, 1]. Losses are mean cross entropy in nats. Input-gradient norms are
L2 norms, over one image, of the gradient of that image's loss with respect to its
contrast-normalised pixels. Times are wall-clock seconds.
"""

from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 2

STATUSES = ("ok", "diverged", "failed")
RESULT, CONFIG, HISTORY_CSV = "result.json", "config.yaml", "history.csv"
LAYERS_CSV, SPECTRA_CSV = "layers.csv", "spectra.csv"
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Column:
    """A column of history.csv. `label`: short name if it is shown on the screen during training."""

    name: str
    unit: str
    meaning: str
    label: str = ""


@dataclass(frozen=True)
class Score:
    """The column that decides which history row is best; `high`: whether a high value is good."""

    column: str
    high: bool = True


BEFORE = (  # columns of every run, left of the task's columns
    Column("epoch", "epochs", "updates done * batch size / size of the training set"),
    Column("step", "updates", "updates done"),
    Column("lr", "", "learning rate of the last update"),
)
AFTER = (  # columns of every run, right of the task's columns
    Column("train_seconds", "s", "time spent in updates since the start of the run, over all sessions"),
    Column("measure_seconds", "s", "time spent in evaluations, likewise"),
)
RUN_COLUMNS = tuple(column.name for column in (*BEFORE, *AFTER))

CLASSIFICATION = (  # columns of the task `classification`, which every record of schema 1 has
    Column("train_loss", "nats", "evaluation mode, whole training set, without augmentation", "loss"),
    Column("train_accuracy", "fraction", "on the same images", "train"),
    Column("test_loss", "nats", "test set"),
    Column("test_accuracy", "fraction", "on the same images", "test"),
    Column("gap", "fraction", "train_accuracy - test_accuracy"),
    Column("running_train_loss", "nats", "training mode, mean over the images since the last evaluation"),
    Column("running_train_accuracy", "fraction", "on the same images"),
    Column("train_gradient_norm", "nats / pixel unit", "mean over a fixed sample of training images"),
    Column("train_gradient_norm_rms", "nats / pixel unit", "root of the mean of squares over the same images"),
    Column("test_gradient_norm", "nats / pixel unit", "mean over the test set"),
    Column("test_gradient_norm_rms", "nats / pixel unit", "root of the mean of squares over the same images"),
    Column("sigma_max", "", "largest singular value of all reshaped weight matrices (section 3.2), exact"),
    Column("sigma_mean", "", "geometric mean over the weight matrices of their largest singular values"),
    Column("frobenius", "", "root of the sum of squares of all weight matrices"),
    Column("penalty", "nats", "the method's regularisation term at the last update, 0 where it has none"),
)

RECALIBRATED = Column(  # of the same task, in records since it is measured
    "recalibrated_test_accuracy", "fraction", "test set, batch-norm statistics taken anew without dropout"
)

LAYERS = (
    "layer",  # the parameter's name, such as features.0.weight
    "kind",  # conv | linear
    "rows",  # output channels
    "columns",  # input channels * kernel height * kernel width (section 3.2)
    "sigma",  # largest singular value of the reshaped matrix
    "frobenius",
    "operator_norm",  # norm of the layer as a linear map on its own input: zero padding and stride as trained, exact
    "operator_norm_circular",  # the same at stride 1 with circular padding, from the FFT; empty for linear layers
)

SPECTRA = ("layer", "index", "singular_value")  # index counts from 0, values descend


@dataclass(frozen=True)
class Result:
    """The content of result.json."""

    schema: int
    run_id: str
    experiment: str  # the folder under runs
    status: str  # ok | diverged | failed
    reason: str | None  # one sentence for diverged and failed runs, else None
    task: str
    setting: str
    method: str
    optimizer: str
    regime: str  # small | large
    batch_size: int
    seed: int
    variant: str  # 8 hex digits of the configuration less the seed: only runs of one variant may be averaged
    epochs: float  # planned
    steps: int  # updates done
    columns: list[str]  # of history.csv, in their order
    score: str  # the column by which `best` was chosen
    high_is_good: bool  # whether a high score is a good one
    final: dict[str, float]  # the last finite row of the history: primary
    best: dict[str, float]  # the row with the best score, the earliest of equals: secondary
    # learning_rate_sum; e_folds, None without a penalty or where it is undefined; factor, lambda
    # (weighted by the learning rate where it changes), None likewise and in older records
    dose: dict[str, float | None]
    measured: dict[str, Any]  # by the task, at the end; of classification: `MEASURED`
    timings: dict[str, float]  # train, measure, setup seconds; images_per_second; sessions
    memory: dict[str, float | None]  # peak_bytes on the device (None on CPU), peak_host_bytes, pass_images
    environment: dict[str, Any]  # versions, device, threads, precision, commit, data fingerprint and note
    command: str  # repeats this run

    @property
    def outcome(self) -> str:
        """How the run ended, in a few words."""
        if self.status != "ok":
            return f"{self.status}: {self.reason}"
        return f"{self.score.replace('_', ' ')} {self.final[self.score]:.4f}"


MEASURED = (  # keys of Result.measured for `classification`; None or absent if a run did not measure it
    "alpha",  # test-accuracy threshold of the generalization gap (section 4.1)
    "gap_at_alpha",  # smallest gap over the rows whose test accuracy exceeds alpha
    "gap_at_alpha_epoch",
    "gradient_quantiles",  # {train|test: {"0.05": value, ...}} of the input-gradient norms
    "hessian",  # {train|test: {eigenvalue, residual, iterations, converged, samples, lanczos...}}
    "lipschitz",  # the bound of section 3.1 and the measured lower bound
    "recalibrated",  # {train|test: {loss, accuracy, gradient_norm, gradient_norm_rms}} with such statistics
)
