"""The paper's Table 2 beside ours: each method in its best Adam setting, as the paper shows it, and
every Adam setting below."""

from typing import Any

import pandas as pd

from sns.analysis.bakeoff.costs import Cost
from sns.analysis.cells import PAPER, is_given, title_of
from sns.analysis.claims.tables import markdown
from sns.analysis.sngan.runs import ADAM, SCORES, at_best, letters, place
from sns.analysis.stats import summarise

PAPER_DATA = {"cifar10": "CIFAR-10", "stl10": "STL-10"}
ROW = "13"  # of bench: an update of each method on the pocket networks
KEYS = ["setting", "row", "method", "optimizer"]
COLUMNS = [*KEYS, "runs", "n", *(f"{name}_{part}" for name in SCORES for part in ("mean", "sd"))]
COLUMNS += ["broken", "cost", "cost_low", "cost_high", "paper_is", "paper_fid"]
NOTE = (
    "Each method in its best Adam setting, as in the paper's Table 2: that with the least geometric mean of the "
    "distance over seeds ({distance}), chosen on these same runs. Mean ± sd over the n seeds with a score. Broke down: "
    "runs that diverged, collapsed or are more than twice as far as a common reference (results/sngan/claims.yaml), of "
    "all runs, by Adam setting. Time per update: over that without normalization, median of paired rounds "
    "(bench/README.md). Paper: inception score / FID of its own networks, on all images of the data set."
)
OTHER = " The classifier's and the ImageNet features' numbers are neither FID nor inception score: only orders compare."


def paper_table() -> pd.DataFrame:
    """Table 2 as printed: columns row, data_set, inception_score and fid; NaN: not reported."""
    return pd.read_csv(PAPER / "sngan_table2.csv")


def compute(frame: pd.DataFrame, measured_costs: dict[tuple[str, int, str], Cost] | None = None) -> pd.DataFrame:
    """A row COLUMNS for each method of each setting, of `frame`, from `runs.compute`;
    then the paper's rows that have no counterpart.

    sd has n - 1 in the denominator. Costs are {} unless given.
    """
    rows: list[dict[str, Any]] = []
    paper = paper_table().set_index(["data_set", "row"])
    data = dict(zip(frame["setting"], frame["data"].map(PAPER_DATA), strict=True))  # NaN: not in the paper
    shown = at_best(frame).sort_values(["setting", "method"], key=place, kind="stable")
    for (setting, method), part in shown.groupby(["setting", "method"], sort=False):
        every = frame[(frame["setting"] == setting) & (frame["method"] == method)]
        row = dict(zip(KEYS, (setting, _row(part.iloc[0]), method, part["optimizer"].iloc[0]), strict=True))
        row |= {"runs": len(part), "n": int(part["distance"].notna().sum())}
        for name in SCORES:
            summary = summarise(part[name].where(part["status"] == "ok"))
            row |= {f"{name}_mean": summary.mean, f"{name}_sd": summary.sd}
        row["broken"] = ", ".join(_count(every[every["optimizer"] == name], name) for name in letters(frame))
        cost = (measured_costs or {}).get((str(setting), int(part["batch_size"].iloc[0]), str(method)))
        row |= {} if cost is None else {"cost": cost.median, "cost_low": cost.low, "cost_high": cost.high}
        rows.append(row)
    ours = {(row["setting"], row["row"]) for row in rows}
    printed = [(setting, row) for setting, name in data.items() for own, row in paper.index if own == name]
    rows += [{"setting": setting, "row": row} for setting, row in printed if (setting, row) not in ours]
    for row in rows:
        key = data[row["setting"]], row["row"]
        if key in paper.index:
            row |= {"paper_is": paper.loc[key, "inception_score"], "paper_fid": paper.loc[key, "fid"]}
    order = {setting: number for number, setting in enumerate(dict.fromkeys(frame["setting"]))}
    table = (
        pd.DataFrame(rows).reindex(columns=COLUMNS).sort_values("setting", key=lambda s: s.map(order), kind="stable")
    )
    table.attrs["distance"] = frame.attrs["distance"]
    return table.reset_index(drop=True)


def _count(part: pd.DataFrame, optimizer: str) -> str:
    """`D 1/2`: how many of the runs `part` broke down."""
    count = f"{int(part['broken_down'].sum())}/{len(part)}" if len(part) else "–"
    return f"{ADAM.get(optimizer, optimizer)} {count}"


def _row(run: Any) -> str:
    """The paper's row of a run."""
    network, loss = ", ResNet" if "resnet" in run["setting"] else "", ", hinge" if run["loss"] == "hinge" else ""
    return f"{run['method']}{network}{loss}"


def texts(part: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Head and lines of one setting's table, as text; scores that no run has are left out."""
    scores = [name for name in SCORES if part[f"{name}_mean"].notna().any()]
    head = ["method", "best Adam", "n", *(SCORES[name] for name in scores), "broke down", "time per update"]
    lines = []
    for row in part.to_dict("records"):
        ours = is_given(row["method"])
        n = (
            "–"
            if not ours
            else f"{row['n']:.0f}"
            if row["n"] == row["runs"]
            else f"{row['n']:.0f} of {row['runs']:.0f}"
        )
        line = [row["row"], ADAM.get(row["optimizer"], row["optimizer"]) if ours else "–", n]
        line += [_written(row[f"{name}_mean"], row[f"{name}_sd"]) for name in scores]
        line.append(row["broken"] if ours else "–")
        line.append(f"{row['cost']:.2f}x" if is_given(row["cost"]) else "–")
        lines.append([*line, f"{_printed(row['paper_is'], 2)} / {_printed(row['paper_fid'], 1)}"])
    return [*head, "paper: IS / FID"], lines


def _printed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if is_given(value) else "–"


def _written(mean: float, sd: float) -> str:
    """`55.5 ± 0.4`, of three significant digits or whole numbers."""
    if not is_given(mean):
        return "–"
    digits = "{:,.0f}" if abs(mean) >= 100 else "{:#.3g}"
    return digits.format(mean) + (
        f" ± {sd:.2g}" if is_given(sd) and sd < 100 else f" ± {sd:,.0f}" if is_given(sd) else ""
    )


def by_adam(frame: pd.DataFrame, setting: str) -> tuple[list[str], list[list[str]]]:
    """Head and lines: `distance` of each method in each Adam setting, ✗ for each run that broke
    down."""
    own = frame[frame["setting"] == setting]
    lines = []
    for method, part in own.groupby("method", sort=False):
        cells = []
        for optimizer in letters(own):
            runs = part[part["optimizer"] == optimizer]
            mean = summarise(runs["distance"])
            cells.append(f"{_written(mean.mean, mean.sd)} {'✗' * int(runs['broken_down'].sum())}".strip())  # type: ignore[arg-type]
        lines.append([str(method), *cells])
    return ["method", *letters(own).values()], lines


def note(distance: str) -> str:
    """What the columns mean."""
    return NOTE.format(distance=distance) + ("" if distance == SCORES["fid"] else OTHER)


def to_markdown(content: tuple[pd.DataFrame, pd.DataFrame]) -> str:
    """For each setting of (table, runs) its table, what the columns mean, and all Adam settings."""
    table, frame = content
    parts = []
    for setting, part in table.groupby("setting", sort=False):
        name, distance = str(setting), table.attrs["distance"]
        parts.append(f"### {title_of(name)}\n\n{markdown(*texts(part))}\n{note(distance)}\n")
        parts.append(f"{distance} by Adam setting (✗: a run that broke down)\n\n{markdown(*by_adam(frame, name))}")
    return "\n".join(parts)


def to_csv(content: tuple[pd.DataFrame, pd.DataFrame]) -> str:
    """The table as CSV, numbers with every digit."""
    return content[0].to_csv(index=False)


FORMATS = {"md": to_markdown, "csv": to_csv}
