"""TensorBoard event files from run directories, running or finished; W&B is not needed."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from sns.common.files import read_yaml
from sns.record import store

TAGS = {  # a card of the page, in folders, and its column of history.csv
    "accuracy/test": "test_accuracy",
    "accuracy/train": "train_accuracy",
    "gap/train - test accuracy": "gap",
    "gradient norm/test": "test_gradient_norm",
    "gradient norm/train": "train_gradient_norm",
    "loss/test": "test_loss",
    "loss/train": "train_loss",
    "loss/penalty": "penalty",
    "weights/largest singular value": "sigma_max",
    "weights/largest singular values, geometric mean": "sigma_mean",
    "weights/Frobenius norm": "frobenius",
    "optimiser/learning rate": "lr",
}


@dataclass
class Shown:
    """The event file of one run, and the rows in it."""

    writer: EventFileWriter
    rows: list[dict[str, str]] = field(default_factory=list)


class EventFiles:
    """Event files below `target` that follow the run directories below `runs`, at each `update`."""

    def __init__(self, runs: Path, target: Path) -> None:
        self.runs, self.target = runs, target
        self.shown: dict[Path, Shown] = {}

    def update(self) -> int:
        """Writes the new rows; returns the number of runs with any rows."""
        for directory in store.run_directories(self.runs):
            rows = _rows(directory / store.HISTORY_CSV)
            if rows:
                self._show(directory, rows)
        return len(self.shown)

    def close(self) -> None:
        """Ends the writers' threads."""
        for file in self.shown.values():
            file.writer.close()

    def _show(self, directory: Path, rows: list[dict[str, str]]) -> None:
        if directory not in self.shown:
            writer = EventFileWriter(str(self.target / self._name(directory)))
            writer.add_event(Event(step=0, summary=_session_start(_place(directory))))
            self.shown[directory] = Shown(writer)
        events = self.shown[directory]
        same = _agreement(events.rows, rows)
        if same < len(events.rows):  # it resumed from before its last rows: TensorBoard drops those
            events.writer.add_event(Event(step=same + 1, session_log=SessionLog(status=SessionLog.START)))
        for number, row in enumerate(rows[same:], start=same + 1):
            values = [
                Summary.Value(tag=tag, simple_value=float(row[name])) for tag, name in TAGS.items() if row.get(name)
            ]
            events.writer.add_event(Event(step=number, summary=Summary(value=values)))
        if same < max(len(rows), len(events.rows)):
            events.writer.flush()
        events.rows = rows

    def _name(self, directory: Path) -> Path:
        """The run's path below `runs`; its digits are left out unless two runs would collide."""
        full = directory.relative_to(self.runs)
        short = full.with_name(full.name.rsplit("__", 1)[0])
        return full if (self.target / short).exists() else short


def _agreement(before: list[dict[str, str]], now: list[dict[str, str]]) -> int:
    """The number of rows at the start that are the same."""
    for number, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            return number
    return min(len(before), len(now))


def _rows(file: Path) -> list[dict[str, str]]:
    """The table as text; empty if it cannot be read now."""
    try:
        with file.open(encoding="utf-8", newline="") as table:
            return list(csv.DictReader(table))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _session_start(place: dict[str, str]) -> Summary:
    """The run's line in TensorBoard's table; TensorBoard's own helper needs TensorFlow."""
    info = SessionStartInfo()
    for name, value in place.items():
        info.hparams[name].string_value = value
    content = HParamsPluginData(session_start_info=info, version=0).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    return Summary(
        value=[Summary.Value(tag="_hparams_/session_start_info", metadata=SummaryMetadata(plugin_data=plugin))]
    )


def _place(directory: Path) -> dict[str, str]:
    """The run's setting, batch, method and seed, for the table of all runs."""
    try:
        config = read_yaml(directory / store.CONFIG)
        return {
            "setting": config["setting"],
            "batch": str(config["batch"]["size"]),
            "method": config["method"]["name"],
            "seed": str(config["seed"]),
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}
