"""Reads and writes run directories: atomic writes, and errors that name the file and the fault."""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sns.common.errors import RecordError, first_line
from sns.common.files import atomic, read_yaml, write_text
from sns.config.old import renamed
from sns.record.check import check
from sns.record.faults import damaged, partial, unreadable
from sns.record.migrate import READABLE, migrated
from sns.record.schema import (
    CONFIG as CONFIG,
)
from sns.record.schema import (
    HISTORY_CSV as HISTORY_CSV,
)
from sns.record.schema import (
    LAYERS,
    RUN_COLUMNS,
    SPECTRA,
    STATUSES,
    Result,
)
from sns.record.schema import (
    LAYERS_CSV as LAYERS_CSV,
)
from sns.record.schema import (
    RESULT as RESULT,
)
from sns.record.schema import (
    SPECTRA_CSV as SPECTRA_CSV,
)

if TYPE_CHECKING:  # pandas is imported where tables are read: training does not need it
    import pandas as pd


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `rows` as CSV with exactly `columns`. Floats keep every digit."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)


def _cell(value: Any) -> Any:
    """The text of one cell, empty for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else format(value, ".17g")
    return value


def write_result(directory: Path, result: Result) -> None:
    """Writes result.json, the mark of a finished run. Numbers that are not finite become null."""
    write_text(directory / RESULT, json.dumps(_plain(asdict(result)), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def is_finished(directory: Path) -> bool:
    """Whether the run of this directory has ended, whatever its status; also where a record is
    there that cannot be read, so that no other one takes its place."""
    try:
        (directory / RESULT).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


@dataclass(frozen=True)
class Record:
    """One finished run, read from its directory; a table is read at its first use."""

    path: Path
    result: Result

    @property
    def images(self) -> str | None:
        """The fingerprint of the data set; None for a task without images."""
        data = self.result.environment.get("data")
        return str(data.get("fingerprint")) if isinstance(data, dict) else None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; {} without config.yaml. RecordError if it is damaged."""
        file = self.path / CONFIG
        if not file.is_file():
            return {}
        try:
            content = read_yaml(file)
        except OSError as error:
            raise unreadable(file, error) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise damaged(file, first_line(error)) from None
        if not isinstance(content, dict):
            raise damaged(file, "it holds no mapping of options")
        return renamed(content)

    @cached_property
    def history(self) -> "pd.DataFrame":
        """One row an evaluation, columns `Result.columns`. RecordError if missing or damaged."""
        return _table(self.path / HISTORY_CSV, self.result.columns)

    @cached_property
    def layers(self) -> "pd.DataFrame | None":
        """Columns `schema.LAYERS`; None if the run did not measure them."""
        file = self.path / LAYERS_CSV
        return _table(file, LAYERS) if file.is_file() else None

    @cached_property
    def spectra(self) -> "pd.DataFrame | None":
        """Columns `schema.SPECTRA`; None if the run did not measure them."""
        file = self.path / SPECTRA_CSV
        return _table(file, SPECTRA) if file.is_file() else None


def read_history(directory: Path) -> list[dict[str, float]]:
    """The rows of history.csv, also of an unfinished run; [] without it. RecordError if damaged."""
    file = directory / HISTORY_CSV
    rows = _table(file, RUN_COLUMNS, others=True).to_dict("records") if file.is_file() else []
    return [{str(name): float(value) for name, value in row.items()} for row in rows]


def _table(path: Path, columns: Sequence[str], others: bool = False) -> "pd.DataFrame":
    """`columns` of a CSV file; with `others` all its columns."""
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except FileNotFoundError:
        raise partial(path) from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise damaged(path, first_line(error)) from None
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise damaged(path, f"it lacks the columns {', '.join(missing)}")
    text = [name for name in columns if name not in ("layer", "kind") and frame[name].dtype.kind not in "fiu"]
    if text and len(frame):
        raise damaged(path, f"column {text[0]} holds something that is not a number")
    return frame if others else frame[list(columns)]


def read_result(directory: Path) -> Result:
    """The content of result.json, without the tables. RecordError as in `read`."""
    file = directory / RESULT
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(file, first_line(error)) from None
    except OSError as error:
        if not is_finished(directory):
            raise RecordError(f"{directory} has no {RESULT}: the run is not finished") from None
        raise unreadable(file, error) from None
    if not isinstance(content, dict) or "schema" not in content:
        raise RecordError(f"{file} is not a record of this project (it states no schema): move it elsewhere")
    if content["schema"] not in READABLE:
        raise RecordError(
            f"{file} has schema {content['schema']}, this version reads {' and '.join(map(str, READABLE))}: "
            "use the version that wrote it"
        )
    result = check(file, migrated(content))
    if result.status not in STATUSES:
        raise damaged(file, f"status: {result.status!r} is none of {', '.join(STATUSES)}")
    return result


def read(directory: Path) -> Record:
    """The record of one run directory.

    RecordError, naming the file and the fault, if it is missing, damaged, partial or of another
    schema. Scripts that follow each other in one process share it while its files do not change.
    """
    return _read(
        directory, tuple(_stamp(directory / name) for name in (RESULT, CONFIG, HISTORY_CSV, LAYERS_CSV, SPECTRA_CSV))
    )


def _stamp(file: Path) -> tuple[int, ...]:
    """What changes with the content of a file; () without it."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=4096)
def _read(directory: Path, stamps: tuple[tuple[int, ...], ...]) -> Record:
    record = Record(directory, read_result(directory))
    if record.result.status == "ok" and record.history.empty:
        raise damaged(directory / HISTORY_CSV, "it has no rows although the run ended well")
    return record


def run_directories(folder: Path) -> list[Path]:
    """Every run directory at or below `folder`, finished or not, sorted by path.

    Symbolic links to folders are followed, except into a folder that the path is in already. A
    folder that cannot be listed is among them: what reads it says why.
    """
    directories: list[Path] = []

    def unlisted(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            directories.append(Path(error.filename))

    for place, folders, files in os.walk(folder, onerror=unlisted, followlinks=True):
        path = Path(place)
        if CONFIG in files or RESULT in files:
            directories.append(path)
        for link in [path / name for name in folders if (path / name).is_symlink()]:
            if any(above.resolve().is_relative_to(link.resolve()) for above in (path, *path.parents)):
                folders.remove(link.name)
    return sorted(directories)


def read_all(folder: Path) -> tuple[list[Record], list[str]]:
    """Every readable record at or below `folder`, and one sentence for each directory left out.

    If two directories hold a run with the same run_id, only the first counts.
    """
    records: dict[str, Record] = {}
    warnings: list[str] = []
    for directory in run_directories(folder):
        try:
            record = read(directory)
        except RecordError as error:
            warnings.append(str(error).replace(f"{folder}/", ""))  # the folder is elsewhere for readers of a report
            continue
        first = records.setdefault(record.result.run_id, record)
        if first is not record:
            paths = directory.relative_to(folder), first.path.relative_to(folder)
            warnings.append(f"{paths[0]} repeats the run {record.result.run_id} of {paths[1]}: left out")
    return list(records.values()), warnings
