"""Table 1 as Markdown, CSV, LaTeX and text for a terminal: a line for each setting and batch size;
columns are the methods' accuracies, alpha, the methods' gaps."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from sns.analysis.cells import is_given, methods_of, title_of
from sns.analysis.table1.reproduction import mark

BLOCKS = {"accuracy": "Test accuracy", "gap": "Generalization gap"}
Row = dict[str, Any]


def measured_value(row: Row, block: str) -> str:
    """Our value, such as `0.898 ± 0.002 (3)`, and the number of runs that diverged, failed or never
    exceeded alpha."""
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


def paper_value(row: Row, block: str) -> str:
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
        yield title_of(str(setting)), size, alpha, {row["method"]: row for row in rows}


def _body(frame: pd.DataFrame, cell: Callable[[Row, str], str], labels: bool = True) -> Iterator[list[str]]:
    """The lines of the table with `cell` of every entry; without `labels`, setting, batch size and
    alpha are empty."""
    names = methods_of(frame)
    for setting, size, alpha, rows in _lines(frame):
        accuracy, gap = ([cell(rows[name], block) for name in names] for block in BLOCKS)
        yield [setting, size, *accuracy, alpha, *gap] if labels else ["", "", *accuracy, "", *gap]


def _emphasised(row: Row, block: str, before: str, after: str) -> str:
    """Our value, its number between `before` and `after` where it is the best of its line."""
    text = measured_value(row, block)
    if not row[f"{block}_best"]:
        return text
    number, rest = text.split(" ", 1)
    return f"{before}{number}{after} {rest}"


def to_csv(frame: pd.DataFrame) -> str:
    """Every column of `table.compute`, with all digits."""
    return frame.to_csv(index=False)


def to_markdown(frame: pd.DataFrame) -> str:
    """The table in the paper's layout, below the counted verdicts and above the notes; a cell has
    our value, the paper's and the verdict."""

    def cell(row: Row, block: str) -> str:
        return "<br>".join(
            filter(None, (_emphasised(row, block, "**", "**"), paper_value(row, block), mark(row, block)))
        )

    names = methods_of(frame)
    head = ["", "B", *(f"accuracy: {name}" for name in names), "α", *(f"gap: {name}" for name in names)]
    table = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *_body(frame, cell))]
    counted = [f"{line[0].upper()}{line[1:]}." for line in frame.attrs.get("tally", {}).values()]
    notes = [f"- {note}" for note in frame.attrs.get("notes", [])]
    return "\n".join(["# Table 1", "", *(text for line in counted for text in (line, "")), *table, "", *notes, ""])


def to_latex(frame: pd.DataFrame) -> str:
    r"""A `tabular` in the paper's layout for \usepackage{booktabs, amssymb}: our line, then the
    paper's and the verdicts in small type."""

    def ours(row: Row, block: str) -> str:
        return _tex(_emphasised(row, block, r"\textbf{", "}"))

    def small(text: Callable[[Row, str], str]) -> Callable[[Row, str], str]:
        return lambda row, block: rf"{{\scriptsize {_tex(text(row, block))}}}" if text(row, block) else ""

    lines = []
    below = (_body(frame, small(text), labels=False) for text in (paper_value, mark))
    for first, *others in zip(_body(frame, ours), *below, strict=True):
        lines += [[_tex(first[0]), *first[1:]], *(line for line in others if any(line))]
    names = [_tex(name) for name in methods_of(frame)]
    accuracy, gap = ([(block, name) for name in names] for block in BLOCKS.values())
    head = pd.MultiIndex.from_tuples([("", "Model, data"), ("", "$B$"), *accuracy, ("", r"$\alpha$"), *gap])
    table = pd.DataFrame(lines, columns=head).to_latex(
        index=False, escape=False, multicolumn_format="c", column_format="ll" + "c" * (2 * len(names) + 1)
    )
    tally = frame.attrs.get("tally", {}).values()
    needs = f"% needs \\usepackage{{booktabs{', amssymb' if tally else ''}}}; written by scripts/table1.py"
    notes = [f"% {note}" for note in frame.attrs.get("notes", [])]
    return "\n".join([needs, *(f"% {line}" for line in tally), table.rstrip(), *notes, ""])


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


def to_plain(frame: pd.DataFrame) -> str:
    """The table for a terminal: accuracies, then gaps; `*` marks the best of a line."""
    names, counted = methods_of(frame), frame.attrs.get("tally", {})
    out = []
    for block, heading in zip(BLOCKS, ("TEST ACCURACY", "GENERALIZATION GAP (at alpha)"), strict=True):
        table = [["", "B", *(["alpha"] if block == "gap" else []), *names]]
        for setting, size, alpha, rows in _lines(frame):
            labels = [setting, size, *([alpha] if block == "gap" else [])]
            cells = [rows[name] for name in names]
            table.append([*labels, *(("*" if c[f"{block}_best"] else "") + measured_value(c, block) for c in cells)])
            for texts in ([paper_value(c, block) for c in cells], [mark(c, block) for c in cells]):
                if any(texts):
                    table.append([*[""] * len(labels), *texts])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        out += [
            heading,
            *([counted[block]] if block in counted else []),
            *("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in table),
            "",
        ]
    return "\n".join([*out, *(f"- {note}" for note in frame.attrs.get("notes", []))])


FORMATS = {"md": to_markdown, "csv": to_csv, "tex": to_latex}
