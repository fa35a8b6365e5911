"""Tables that pages quote, from the runs that the claims are judged with: leads and means."""

from collections.abc import Iterable

from sns.analysis.cells import METHODS, REGIMES, Results, title_of
from sns.analysis.claims.claim import LEADER, OTHERS
from sns.analysis.claims.measures import Measured, Place
from sns.analysis.claims.seeds import in_plan
from sns.analysis.stats import Summary, paired, summarise

MEANS = {
    "train_accuracy": "training accuracy",
    "test_gradient_norm": "test gradient norm",
    "sigma_max": "largest sigma",
    "hessian_train": "largest Hessian eigenvalue, training",
}


def leads(results: Results, measure: str) -> dict[Place, Summary]:
    """Spectral less each other method, in hundredths (points of an accuracy), paired over the seeds
    that both have. The key is the cell of the other method."""
    measured = Measured(results)

    def values(place: Place) -> dict[int, float]:
        return {seed: 100 * value for seed, value in measured.values(measure, place).items()}

    others = (Place(*line, method) for line in _lines(results) for method in OTHERS)
    return {other: paired(values(Place(other.setting, other.regime, LEADER)), values(other)) for other in others}


def leads_table(results: Results) -> str:
    """Markdown: the lead of spectral in test accuracy, its 95% interval, n pairs of runs."""
    results = in_plan(results)
    lead = leads(results, "test_accuracy")
    head = ["lead of spectral in test accuracy, points", "B", "n", *(f"over {method}" for method in OTHERS)]
    rows = []
    for line in _lines(results):
        own = [lead[Place(*line, method)] for method in OTHERS]
        rows.append([title_of(line[0]), _sizes(results, [line]), _span(each.n for each in own), *map(_lead, own)])
    return markdown(head, rows)


def _lead(own: Summary) -> str:
    if own.mean is None or own.low is None or own.high is None:
        return "–"
    return f"{own.mean:+.1f} ({own.low:.1f}, {own.high:.1f})"


def means_table(results: Results) -> str:
    """Markdown: MEANS over n seeds, for both batch sizes in one cell."""
    results = in_plan(results)
    measured = Measured(results)
    rows = []
    for setting in results.settings:
        lines = [line for line in _lines(results) if line[0] == setting]
        title = f"{title_of(setting)}, B = {_sizes(results, lines)}"
        for measure, label in MEANS.items():
            own = [[summarise(measured.values(measure, Place(*line, m)).values()) for line in lines] for m in METHODS]
            cells = [", ".join(map(_mean, each)) for each in own]
            rows.append([title, label, _span(mean.n for each in own for mean in each), *cells])
            title = ""  # stated once
    return markdown(["means over seeds, last evaluation", "", "n", *METHODS], rows)


def _mean(own: Summary) -> str:
    return "–" if own.mean is None else f"{own.mean:.0f}" if abs(own.mean) >= 100 else f"{own.mean:#.3g}"


def _lines(results: Results) -> list[tuple[str, str]]:
    """Setting and regime of each line of cells with runs."""
    begun = {(cell.setting, cell.regime) for cell in results.cells}
    return [(setting, regime) for setting in results.settings for regime in REGIMES if (setting, regime) in begun]


def _sizes(results: Results, lines: Iterable[tuple[str, str]]) -> str:
    """`64, 416`."""
    wanted = set(lines)
    sizes = (c.records[0].result.batch_size for c in results.cells if (c.setting, c.regime) in wanted)
    return ", ".join(map(str, dict.fromkeys(sizes)))


def _span(counts: Iterable[int]) -> str:
    """`3`, or `3-9` where they differ."""
    every = sorted(set(counts))
    return "-".join(map(str, dict.fromkeys((every[0], every[-1]))))


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table as Markdown."""
    first, *others = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in [head, *rows])
    return "\n".join([first, "|---" * len(head) + "|", *others, ""])


TABLES = {"leads": leads_table, "means": means_table}
