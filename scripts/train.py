"""Trains one run, or with -m every run of a grid. See configs/config.yaml for what can be set.

python scripts/train.py setting=vgg_cifar10 method=spectral batch=large seed=1
python scripts/train.py -m experiment=demo
"""

import os
import shlex
import sys
from pathlib import Path

import hydra
from hydra._internal import utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sns.errors import UserError, first_line
from sns.launch.mistakes import explain
from sns.train.run import configure, run
from sns.train.signals import RESUMABLE, Interrupted

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEBUG = bool(os.environ.get("SNS_DEBUG") or os.environ.get("HYDRA_FULL_ERROR"))

failures: list[str] = []


@hydra.main(version_base="1.3", config_path="../configs", config_name="config")
def train(tree: DictConfig) -> None:
    """One run of the grid; a fault of one run never stops the others."""
    overrides = list(HydraConfig.get().overrides.task)
    command = shlex.join(["python", "scripts/train.py", *overrides])
    try:
        run(configure(tree), command)
    except UserError as error:
        _fail(str(error), overrides)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(RESUMABLE)
    except Exception as error:  # a fault of ours: told in a line, so that the sweep goes on; SNS_DEBUG=1 shows where
        if DEBUG:
            raise
        _fail(f"{type(error).__name__}: {first_line(error)} (SNS_DEBUG=1 shows the trace)", overrides)


def _fail(message: str, overrides: list[str]) -> None:
    failures.append(message)
    print(f"error: {message} [{' '.join(overrides)}]", file=sys.stderr)


def main() -> int:
    """The exit code: 0 if every run is over, 1 after a mistake or a failed run, 75 where the same command goes on."""
    utils.run_and_report = lambda function: function()  # else Hydra tells its errors itself, over ten lines
    try:
        train()
    except (HydraException, OmegaConfBaseException) as error:
        if DEBUG:
            raise
        print(f"error: {explain(error, CONFIGS)} (--help lists all; SNS_DEBUG=1 shows the trace)", file=sys.stderr)
        return 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
