"""What a run leaves behind: the names and units of every field that a record holds.

A run directory `results/runs/<experiment>/<run_id>/` holds

    config.yaml   the resolved configuration
    history.csv   one row an evaluation, columns `HISTORY`
    result.json   the fields of `Result`; written last and atomically, so its presence means that the run is over
    layers.csv    one row a weight matrix at the end of training, columns `LAYERS`
    spectra.csv   every singular value at the end of training, columns `SPECTRA`
    checkpoint.pt weights and the state needed to resume (not part of the record, not in git)

Accuracies are fractions in [0, 1]; losses are mean cross entropy in nats; input-gradient norms are
L2 norms, over one image, of the gradient of that image's loss w.r.t. its contrast-normalised
pixels; times are wall-clock seconds.
"""

from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1

STATUSES = ("ok", "diverged", "failed")

HISTORY = (
    "epoch",  # training images seen / size of the training set
    "step",  # updates done
    "lr",  # learning rate of the last update
    "train_loss",  # evaluation mode, whole training set, without augmentation
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "gap",  # train_accuracy - test_accuracy
    "running_train_loss",  # training mode, mean over the images seen since the last evaluation
    "running_train_accuracy",
    "train_gradient_norm",  # mean over a fixed sample of training images
    "train_gradient_norm_rms",  # root of the mean of squares over the same images
    "test_gradient_norm",  # mean over the test set
    "test_gradient_norm_rms",
    "sigma_max",  # largest singular value over all reshaped weight matrices (section 3.2), exact
    "sigma_mean",  # geometric mean over the weight matrices of their largest singular values
    "frobenius",  # root of the sum of squares of all weight matrices
    "penalty",  # the method's own regularisation term at the last update, 0 where it has none
    "train_seconds",  # time spent in updates since the start of the run, over all its sessions
    "measure_seconds",  # time spent in evaluations, likewise
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
    experiment: str  # the grid it belongs to, and its folder under runs
    status: str  # ok | diverged | failed
    reason: str | None  # one sentence for diverged and failed runs, else None
    setting: str
    method: str
    regime: str  # small | large
    batch_size: int
    seed: int
    variant: str  # 8 hex digits of the configuration less the seed: only runs of one variant may be averaged
    epochs: float  # planned
    steps: int  # updates done
    alpha: float | None  # test-accuracy threshold of the generalization gap (section 4.1)
    final: dict[str, float]  # the last finite row of the history: primary
    best: dict[str, float]  # the row with the highest test accuracy, the earliest of equals: secondary
    gap_at_alpha: float | None  # min of gap over rows whose test accuracy exceeds alpha; None if none does
    gap_at_alpha_epoch: float | None
    dose: dict[str, float | None]  # learning_rate_sum; e_folds = factor * sum / (1 - momentum), None without a penalty
    hessian: dict[str, Any] | None  # {train|test: {eigenvalue, residual, iterations, converged, samples, lanczos...}}
    gradient_quantiles: dict[str, dict[str, float]] | None  # {train|test: {"0.05": value, ...}} at the end of training
    lipschitz: dict[str, float] | None  # bound of section 3.1 beside the measured lower bound
    timings: dict[str, float]  # train, measure, setup seconds; images_per_second; sessions
    memory: dict[str, float | None]  # peak_bytes on the device (None on CPU), peak_host_bytes, pass_images
    environment: dict[str, Any]  # versions, device, threads, precision, commit, data fingerprint and note
    command: str  # repeats this run
