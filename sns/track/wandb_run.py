"""A run directory as one run in Weights & Biases. The only module that imports wandb."""

import csv
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sns.common.files import read_yaml
from sns.record import store
from sns.record.commit import commit
from sns.record.schema import CHECKPOINT

if TYPE_CHECKING:
    import wandb

SUMMARY = {  # of the curves: the last value, and this
    "train_accuracy": "last,max",
    "test_accuracy": "last,max",
    "train_loss": "last,min",
    "test_loss": "last,min",
}
INIT_SECONDS = 30.0  # for the server's first answer
FLUSH_SECONDS = 15.0  # until W&B's file must be on disk after the end
EMPTY = 1000  # bytes; W&B's file of a run without records is smaller
BINS = 64  # of a spectrum's histogram
CLOSED = "closed"  # file in W&B's folder of a completely written session: FINISHED, or STOPPED before the run's end
FINISHED, STOPPED = "finished", "stopped"


class Unreachable(Exception):  # noqa: N818
    """The server did not answer when the run was opened."""


class WandbRun:
    """An open run of W&B. Every method may raise anything that wandb raises."""

    def __init__(self, message: dict[str, Any], mode: str) -> None:
        """`message`: see `client.open_message`; `mode`: online | offline. May raise Unreachable."""
        self.directory, self.artifacts = Path(message["directory"]), bool(message["artifacts"])
        self.logged, self.last_step = 0, -1
        self.run = _init(self.directory, message, mode)

    def log(self, rows: int) -> None:
        """Logs the new rows of history.csv, up to `rows`: later ones are of a killed session."""
        file = self.directory / store.HISTORY_CSV
        if rows <= self.logged or not file.is_file():
            return
        with file.open(encoding="utf-8", newline="") as table:
            new = list(csv.DictReader(table))[self.logged : rows]
        for name in new[0] if new and not self.logged else ():
            if name != "epoch":
                self.run.define_metric(name, step_metric="epoch", summary=SUMMARY.get(name))
        for row in new:
            values = {name: float(text) for name, text in row.items() if text}
            self.last_step = int(values["step"])
            self.run.log(values, step=self.last_step, commit=True)
        self.logged += len(new)

    def finish(self, finished: bool) -> None:
        """Adds the result, where the run is `finished`, and closes."""
        result = self.directory / store.RESULT
        if not (finished and result.is_file()):
            self.run.mark_preempting()  # the same command resumes it
            self._close(1, STOPPED)
            return
        content = json.loads(result.read_text(encoding="utf-8"))
        self.run.log(self._pictures(), step=self.last_step + 1, commit=True)
        self.run.summary.update(content)
        if content["status"] != "ok":
            self.run.tags = (*(self.run.tags or ()), content["status"])
        if self.artifacts:
            self._upload()
        self._close(0, FINISHED)

    def _close(self, code: int, state: str) -> None:
        folder = Path(self.run.dir).parent  # of `files`
        self.run.finish(exit_code=code)
        end = time.monotonic() + FLUSH_SECONDS
        while not any(file.stat().st_size > EMPTY for file in folder.glob("*.wandb")):
            if time.monotonic() > end:
                raise OSError(f"W&B wrote nothing to {folder}")
            time.sleep(0.1)
        (folder / CLOSED).write_text(state + "\n", encoding="utf-8")

    def _pictures(self) -> dict[str, Any]:
        """The spectra as histograms, one a layer, and the run's figure."""
        import matplotlib.pyplot as plt
        import numpy as np
        import wandb

        from sns.analysis.figures import run_figure, style

        record = store.read(self.directory)
        shown: dict[str, Any] = {}
        if record.spectra is not None:
            for layer, rows in record.spectra.groupby("layer", sort=False):
                counts = np.histogram(rows["singular_value"], bins=min(BINS, max(len(rows), 1)))
                shown[f"spectrum/{layer}"] = wandb.Histogram(np_histogram=counts)
        with style.context():
            figure = run_figure.draw(record)
            shown["figures/run"] = wandb.Image(figure)
            plt.close(figure)
        return shown

    def _upload(self) -> None:
        """The weights; they leave the machine only on request."""
        import wandb

        weights = self.directory / CHECKPOINT
        if weights.is_file():
            artifact = wandb.Artifact(f"{self.directory.name}-weights", type="model")
            artifact.add_file(str(weights))
            self.run.log_artifact(artifact)


def _init(directory: Path, message: dict[str, Any], mode: str) -> "wandb.Run":
    folder = Path(message["folder"])
    (folder / "wandb").mkdir(parents=True, exist_ok=True)  # else wandb silently writes to the temporary folder
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb" / ".staging"))
    import wandb

    config = read_yaml(directory / store.CONFIG)
    if "grid" in config:  # the name of the experiment in older records
        config["experiment"] = {"name": config.pop("grid")}
    setting, method, size = config["setting"], config["method"]["name"], config["batch"]["size"]
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        init_timeout=INIT_SECONDS,
        x_stats_pid=message["trainer"],
    )
    try:
        return wandb.init(
            mode="offline" if mode == "offline" else "online",
            dir=str(folder),
            project=message["project"],
            entity=message["entity"],
            id=directory.name,
            resume="allow",
            name=f"{setting} {method} b{size} s{config['seed']}",
            group=f"{setting} b{size}",
            job_type=method,
            tags=[config["experiment"]["name"]],
            config={**config, "code": _code(directory)},
            settings=settings,
        )
    except (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
        if mode == "online":
            wandb.teardown()  # else the run's name remains in use
            raise Unreachable(str(error)) from None
        raise


def _code(directory: Path) -> dict[str, Any]:
    """The commit that trained the run: the record's; the present one if there is no record yet."""
    result = directory / store.RESULT
    if not result.is_file():
        return commit()
    environment = json.loads(result.read_text(encoding="utf-8"))["environment"]
    return {name: environment.get(name) for name in ("commit", "dirty")}
