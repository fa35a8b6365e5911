"""Trains one run, or with -m every run of a grid. See configs/config.yaml for what can be set.

python scripts/train.py setting=vgg_cifar10 method=spectral batch=large seed=1
python scripts/train.py -m experiment=demo
python scripts/train.py -m experiment=table1 hydra/launcher=local     # or slurm: docs/cluster.md

Exit code: 0 all is done, 75 the same command goes on where this one stopped, anything else: an
error, told in a line.
"""

import os
import shlex
import sys
from pathlib import Path

import hydra
from hydra._internal import utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sns.common.errors import UserError
from sns.launch import several
from sns.launch.attempt import RETRY, Fault, attempt
from sns.launch.budget import announce, leave
from sns.launch.mistakes import explain
from sns.record.attempts import LAUNCHER
from sns.train.configure import configure
from sns.train.stop import RESUMABLE, Interrupted

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEBUG = bool(os.environ.get("SNS_DEBUG") or os.environ.get("HYDRA_FULL_ERROR"))

faults: list[int] = []  # exit codes


@hydra.main(version_base="1.3", config_path="../configs", config_name="config")
def train(tree: DictConfig) -> None:
    """One run of the grid; a fault of one run never stops the others."""
    overrides = list(HydraConfig.get().overrides.task)
    command = shlex.join(["python", "scripts/train.py", *overrides])
    in_a_grid = HydraConfig.get().mode == RunMode.MULTIRUN or LAUNCHER in os.environ
    try:
        config = configure(tree)
        announce(config.launch)
        if config.launch.gpus_per_run > 1 and not several.is_one_of_several():
            code = several.start(config.launch.gpus_per_run, [sys.executable, __file__, *overrides])
            faults.extend([code] if code else [])
            return
        result = attempt(config, command, counted=in_a_grid)
        if result.status == "failed":
            _fault(1, f"{result.run_id} {result.reason}", overrides)
    except UserError as error:
        _fault(1, str(error), overrides)
    except Fault as error:
        _fault(RETRY if error.again else 1, str(error), overrides)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(RESUMABLE)


def _fault(code: int, message: str, overrides: list[str]) -> None:
    faults.append(code)
    print(f"error: {message} [{' '.join(overrides)}]", file=sys.stderr)


def main() -> int:
    """The exit code: 0 if every run is over, 1 after a mistake or a failed run, 75 where the same
    command goes on."""
    utils.run_and_report = lambda function: function()  # else Hydra tells its errors itself, over ten lines
    try:
        train()
    except (HydraException, OmegaConfBaseException) as error:
        if DEBUG:
            raise
        print(f"error: {explain(error, CONFIGS)} (--help lists all; SNS_DEBUG=1 shows the trace)", file=sys.stderr)
        return 1
    return faults[0] if len(faults) == 1 else int(bool(faults))


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    leave(code)
