"""Table 1 as Markdown, LaTeX and plain text: lines are setting x B, columns the methods; accuracy,
alpha, then gap."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from sns.analysis.cells import METHODS, TITLES
from sns.analysis.table1 import reproduction as verdict
from sns.analysis.table1.table import is_given

BLOCKS = ("accuracy", "gap")
Row = dict[str, Any]


def measured(row: Row, block: str) -> str:
    """What the runs of a cell say, such as `0.898 ± 0.002 (3)`, with diverged, failed and missing
    runs spelt out."""
    runs, n = int(row["runs"]), int(row["n"])
    if runs == 0:
        return "not run"
    lost = [f"{int(row[kind])} of {runs} {kind}" if runs > 1 else kind for kind in ("diverged", "failed") if row[kind]]
    if n == 0:
        return ", ".join(lost)
    count = int(row["gap_n"]) if block == "gap" else n
    if count == 0:
        text = "no α" if not is_given(row["alpha"]) else "α never exceeded"
    else:
        sd = f" ± {row[f'{block}_sd']:.3f}" if is_given(row[f"{block}_sd"]) else ""
        text = f"{row[f'{block}_mean']:.3f}{sd} ({count})"
        if block == "gap" and count < n:
            lost.append(f"α never exceeded in {n - count} of {n}")
    return ", ".join([text, *lost])


def beside(row: Row, block: str) -> str:
    """The paper's value and the difference, such as `paper 0.898, +0.003`; empty where the paper
    has no such cell."""
    printed, difference = row[f"paper_{block}"], row[f"{block}_difference"]
    if not is_given(printed):
        return ""
    return f"paper {printed:.3f}" + (f", {round(difference, 3) + 0.0:+.3f}" if is_given(difference) else "")


def _lines(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, dict[str, Row]]]:
    """Setting, batch size, alpha and the cells by method of each line of the table."""
    for (setting, regime), part in frame.groupby(["setting", "regime"], sort=False):
        rows: list[Row] = part.to_dict("records")  # type: ignore[assignment]
        sizes = sorted({int(row["batch_size"]) for row in rows if is_given(row["batch_size"])})
        alphas = sorted({row["alpha"] for row in rows if is_given(row["alpha"])})
        size = "/".join(map(str, sizes)) if sizes else str(regime)
        alpha = "/".join(f"{value:.2f}" for value in alphas) if alphas else "-"
        yield TITLES.get(str(setting), str(setting)), size, alpha, {row["method"]: row for row in rows}


def methods(frame: pd.DataFrame) -> list[str]:
    """The columns of a block: the paper's methods, then the others."""
    seen = list(dict.fromkeys(frame["method"]))
    return [name for name in METHODS if name in seen] + [name for name in seen if name not in METHODS]


def _body(frame: pd.DataFrame, cell: Callable[[Row, str], str]) -> Iterator[list[str]]:
    names = methods(frame)
    for title, size, alpha, rows in _lines(frame):
        accuracy, gap = ([cell(rows[name], block) for name in names] for block in BLOCKS)
        yield [title, size, *accuracy, alpha, *gap]


def to_csv(frame: pd.DataFrame) -> str:
    """Every column of `table1.compute`, floats in full."""
    return frame.to_csv(index=False)


def to_markdown(frame: pd.DataFrame) -> str:
    """The table in the paper's layout: the verdicts counted above it, its notes below; in each cell
    our value, the paper's and the verdict."""
    names = methods(frame)
    head = ["", "B", *(f"accuracy: {name}" for name in names), "α", *(f"gap: {name}" for name in names)]

    def cell(row: Row, block: str) -> str:
        text = measured(row, block)
        if row[f"{block}_best"]:
            number, rest = text.split(" ", 1)
            text = f"**{number}** {rest}"
        return "<br>".join(filter(None, (text, beside(row, block), verdict.text(row, block))))

    table = [head, ["---"] * len(head), *_body(frame, cell)]
    lines = ["| " + " | ".join(line) + " |" for line in table]
    counted = [f"{line[0].upper()}{line[1:]}." for line in frame.attrs.get("tally", {}).values()]
    notes = [f"- {note}" for note in frame.attrs.get("notes", [])]
    return "\n".join(["# Table 1", "", *(text for line in counted for text in (line, "")), *lines, "", *notes, ""])


def to_latex(frame: pd.DataFrame) -> str:
    r"""A `tabular` in the paper's layout for \usepackage{booktabs, amssymb}: our line, then the
    paper's and the verdict in small type."""
    names = methods(frame)
    k = len(names)

    def ours(row: Row, block: str) -> str:
        text = _tex(measured(row, block))
        if row[f"{block}_best"]:
            number, rest = text.split(" ", 1)
            text = rf"\textbf{{{number}}} {rest}"
        return text

    def theirs(row: Row, block: str) -> str:
        return _small(beside(row, block))

    def judged(row: Row, block: str) -> str:
        return _small(verdict.text(row, block))

    counted = frame.attrs.get("tally", {}).values()
    out = [
        f"% needs \\usepackage{{booktabs{', amssymb' if counted else ''}}}; written by scripts/table1.py",
        *(f"% {line}" for line in counted),
        rf"\begin{{tabular}}{{ll{'c' * k}c{'c' * k}}}",
        r"\toprule",
        rf" & & \multicolumn{{{k}}}{{c}}{{Test accuracy}} & & \multicolumn{{{k}}}{{c}}{{Generalization gap}} \\",
        rf"\cmidrule(lr){{3-{k + 2}}} \cmidrule(lr){{{k + 4}-{2 * k + 3}}}",
        " & ".join(["Model, data", "$B$", *map(_tex, names), r"$\alpha$", *map(_tex, names)]) + r" \\",
        r"\midrule",
    ]
    for first, *small in zip(_body(frame, ours), _body(frame, theirs), _body(frame, judged), strict=True):
        out.append(" & ".join([_tex(first[0]), *first[1:]]) + r" \\")
        for line in small:
            cells = ["", "", *line[2 : k + 2], "", *line[k + 3 :]]
            if any(cells):
                out.append(" & ".join(cells) + r" \\")
    out += [r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in frame.attrs.get("notes", [])), ""]
    return "\n".join(out)


TEX = {
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "±": r"$\pm$",
    "α": r"$\alpha$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "≈": r"$\approx$",
    "–": "--",
}


def _tex(text: str) -> str:
    for plain, tex in TEX.items():
        text = text.replace(plain, tex)
    return text


def _small(text: str) -> str:
    return rf"{{\scriptsize {_tex(text)}}}" if text else ""


def to_plain(frame: pd.DataFrame) -> str:
    """The table for a terminal: one block for accuracy, one for the gap; `*` marks the best of a
    line."""
    names, counted = methods(frame), frame.attrs.get("tally", {})
    out = []
    for block, title in zip(BLOCKS, ("TEST ACCURACY", "GENERALIZATION GAP (at alpha)"), strict=True):
        table = [["", "B", *(["alpha"] if block == "gap" else []), *names]]
        for setting, size, alpha, rows in _lines(frame):
            lead = [setting, size, *([alpha] if block == "gap" else [])]
            cells = [rows[name] for name in names]
            table.append([*lead, *(("*" if c[f"{block}_best"] else "") + measured(c, block) for c in cells)])
            for texts in ([beside(c, block) for c in cells], [verdict.text(c, block) for c in cells]):
                if any(texts):
                    table.append([*[""] * len(lead), *texts])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        out += [
            title,
            *([counted[block]] if block in counted else []),
            *("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in table),
            "",
        ]
    return "\n".join([*out, *(f"- {note}" for note in frame.attrs.get("notes", []))])
