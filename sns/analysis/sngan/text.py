"""Everything that the analysis of SN-GAN writes beside figures and report: table and answers."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from sns.analysis import cli
from sns.analysis.bakeoff.costs import Cost
from sns.analysis.bakeoff.costs import costs as bench_costs
from sns.analysis.bakeoff.questions import Answer, Question, answers, load_questions
from sns.analysis.bakeoff.text import Answered, to_csv, to_markdown
from sns.analysis.cells import Results
from sns.analysis.claims.rules import FAILS, HOLDS, OPEN, Comparison, Inequality
from sns.analysis.sngan import table
from sns.analysis.sngan.runs import Runs, compute, records
from sns.common.folders import project_folder

RULES = project_folder("results/sngan") / "claims.yaml"
PAGES = ("table2", "runs", "answers")
NOTE = (
    "Margin: by how much each inequality of the rule holds (negative: it fails), the mean over settings, Adam settings "
    "and seeds with its 95% interval; distances in doublings, break-downs as a share of runs, times relative to no "
    "normalization. The columns of single Adam settings show the same with their own seeds alone; ✓, ✗ and ? there are "
    "not corrected for the number of tests."
)
Costs = Mapping[tuple[str, int, str], Cost]


def measured_costs(results: Results) -> dict[tuple[str, int, str], Cost]:
    """What an update of each method costs on the device of the runs."""
    return bench_costs({str(record.result.environment.get("device")) for record in records(results)}, row=table.ROW)


def answer_all(results: Results, costs: Costs | None = None) -> Answered:
    """The questions to the experiment of these results, each with its answers; none where no
    question is about it. `costs` are those of bench unless given."""
    names = {record.result.experiment for record in results.records}
    asked = [question for question in load_questions(RULES) if len(names) == 1 and names <= {*question.experiments}]
    if not asked:
        return []
    frame = compute(results)
    source, costs = Runs(frame), measured_costs(results) if costs is None else costs
    sizes = {(str(setting), int(size)) for setting, size in zip(frame["setting"], frame["batch_size"], strict=True)}
    own = {key[2]: cost for key, cost in costs.items() if key[:2] in sizes}
    return [(q, [_rounds(q, own)] if q.test == "rounds" else answers(source, q)) for q in asked]


def _rounds(question: Question, costs: Mapping[str, Cost]) -> Answer:
    """The answer from times relative to no normalization, by the rule `rounds`."""
    rules = [(branch, name, x) for branch, (name, holds) in enumerate(question.expect) for x in holds]
    comparisons = tuple(_round(question.id, branch, name, x, costs) for branch, name, x in rules)
    state = OPEN
    if all(c.low is not None and c.low > 0 for c in comparisons):
        state = HOLDS
    if any(c.high is not None and c.high < 0 for c in comparisons):
        state = FAILS
    return Answer(question, None, state, comparisons, ())


def _round(unit: str, branch: int, measure: str, x: Inequality, costs: Mapping[str, Cost]) -> Comparison:
    """The margin of the medians; from the slowest rounds of the smaller side and the fastest of the
    larger (low), to the opposite (high)."""
    absent = tuple(f"{name}: not measured (make bench)" for _, name in x.terms if name not in costs)
    if absent:
        return Comparison(unit, branch, measure, x.text, None, None, None, 0, None, None, absent)
    terms = [(sign, costs[name]) for sign, name in x.terms]
    middle = x.constant + sum(sign * cost.median for sign, cost in terms)
    low = x.constant + sum(sign * (cost.low if sign > 0 else cost.high) for sign, cost in terms)
    high = x.constant + sum(sign * (cost.high if sign > 0 else cost.low) for sign, cost in terms)
    return Comparison(unit, branch, measure, x.text, middle, low, high, 0, None, None, ())


def write(results: Results, out: Path) -> str:
    """Writes table2.md and .csv, runs.csv and, where a question is about the experiment, answers.md
    and .csv; lines that name them."""
    return f"{write_table(results, out)}\n{write_answers(results, out)}".strip()


def write_table(results: Results, out: Path) -> str:
    """Writes table2.md and .csv, and runs.csv with every run; lines that name them."""
    frame = compute(results)
    content = table.compute(frame, measured_costs(results)), frame
    lines = [cli.save(out, "table2", table.FORMATS, content), cli.save(out, "runs", {"csv": _runs}, frame)]
    return "\n".join(lines)


def _runs(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False)


def write_answers(results: Results, out: Path) -> str:
    """Writes answers.md and .csv if a question is about the experiment; a line that names them."""
    answered = answer_all(results)
    formats = {"md": lambda content: to_markdown(content, RULES, NOTE), "csv": to_csv}
    return cli.save(out, "answers", formats, answered) if answered else ""
