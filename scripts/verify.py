"""Checks what results/ states: records against the schema and their own configuration, pages
against the records.

python scripts/verify.py [RESULTS]
    checks records, the pages computed from them, and quotations
python scripts/verify.py --retrain RUN_DIRECTORY [data.path=FILE]
    trains one run again and compares its history

Retraining on the same kind of processor with the same versions repeats every digit. Elsewhere
rounding errors grow during training, and the accuracies of the last evaluation may differ by the
tolerance of sns/analysis/verify.py.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sns.analysis import cli, verify
from sns.analysis.bakeoff import choice
from sns.common.command import reports_errors
from sns.common.errors import RecordError
from sns.config.schema import DataConfig
from sns.method import strengths
from sns.record import store
from sns.train.configure import configure
from sns.train.run import run


def retrain(directory: Path, overrides: list[str]) -> str:
    """Trains the run of `directory` again in a temporary folder; a sentence on how its history
    compares. RecordError if it differs too much, or if `overrides` make it another run."""
    record = store.read(directory)
    with tempfile.TemporaryDirectory() as scratch:
        places = {"root": DataConfig.root, "download": True}  # not where the machine that trained it had them
        # The memory format decides the last digits, and with dropout the masks.
        trained = {"memory_format": record.result.environment.get("memory_format", "contiguous")}
        free: dict[str, Any] = {"results": scratch, "train": {"keep_checkpoint": False, **trained}}
        if record.config.get("data"):
            free["data"] = places
        config = configure(OmegaConf.merge(record.config, free, OmegaConf.from_dotlist(overrides)))
        if config.run_id != record.result.run_id:
            raise RecordError(f"{directory}: with {' '.join(overrides)} it would be another run, {config.run_id}")
        run(config)
        again = store.read(config.directory)
    images = [(each.result.environment.get("data") or {}).get("fingerprint") for each in (record, again)]
    if images[0] != images[1]:
        raise RecordError(f"{directory} was trained on other images than these")
    return verify.compare_histories(record.history, again.history)


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each thing that does not hold; 0 if everything does."""
    parser = cli.results_parser(str(__doc__), experiment=False, out=None)
    parser.add_argument("--retrain", type=Path, metavar="RUN_DIRECTORY", help="train this run again and compare")
    parser.add_argument("--requote", action="store_true", help="first renew the tables that README and docs quote")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="with --retrain: options for this machine")
    options = parser.parse_intermixed_args(arguments)
    folder, root = options.results, options.results.absolute().parent
    if options.retrain is not None:
        overrides = [text for text in (str(folder), *options.overrides) if "=" in text]
        print(f"{options.retrain.name}: {retrain(options.retrain, overrides)}")
        return 0
    if options.requote:
        verify.requote(root)
    faults = [*verify.record_faults(folder / "runs", configure), *verify.page_faults(folder)]
    faults += [*choice.faults(folder, strengths()), *verify.quote_faults(root)]
    for fault in faults:
        print(fault, file=sys.stderr)
    count = len(store.run_directories(folder / "runs"))
    print(f"{count} records and what is computed from them: {f'{len(faults)} fault(s)' if faults else 'all hold'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
