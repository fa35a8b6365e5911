"""The answers to the questions, and everything that the comparison writes."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sns.analysis import cli
from sns.analysis.bakeoff import table
from sns.analysis.bakeoff.questions import RULES, Answer, Experiment, Question, answers, load_questions
from sns.analysis.cells import Results, title_of
from sns.analysis.claims.rules import Comparison
from sns.analysis.claims.tables import markdown
from sns.analysis.claims.text import MARKS
from sns.analysis.claims.verdicts import VERDICTS

Answered = Sequence[tuple[Question, Sequence[Answer]]]
PAGES = ("comparison", "answers", "methods")
POINTS = ("test_accuracy", "gap", "train_accuracy")
NOTE = (
    "Margin: by how much each inequality of the rule holds (negative: it fails), the mean over settings, batch sizes "
    "and seeds with its 95% interval; accuracies and gaps in points. The columns of single settings and batch sizes "
    "show the same with their own seeds alone; ✓, ✗ and ? there are not corrected for the number of tests."
)


def answer_all(results: Results) -> Answered:
    """The questions to the experiment of these results that have a rule, each with its answers;
    none where no question is about it, or where the results are of several experiments."""
    names = {record.result.experiment for record in results.records}
    asked = [q for q in load_questions() if len(names) == 1 and names <= {*q.experiments} and q.expect]
    experiment = Experiment(results) if asked else None
    return [(question, answers(experiment, question)) for question in asked if experiment is not None]


def write(results: Results, out: Path) -> str:
    """Writes answers.md and .csv, methods.md and comparison.md and .csv; lines that name them."""
    answered, frame = answer_all(results), table.compute(results)
    lines = [cli.save(out, "comparison", {"md": table.to_markdown, "csv": table.to_csv}, frame)]
    if answered:
        lines.append(cli.save(out, "answers", {"md": to_markdown, "csv": to_csv}, answered))
    if any(question.methods for question, _ in answered):
        lines.append(cli.save(out, "methods", {"md": lambda content: by_method(*content)}, (answered, frame)))
    return "\n".join(lines)


def margin(comparison: Comparison, digits: int = 2) -> str:
    """`+1.2 [+0.4, +2.0]`: in points where the measure is an accuracy or a gap."""
    scale, end = (100, 1) if comparison.measure in POINTS else (1, digits)
    ends = comparison.margin, comparison.low, comparison.high
    mean, low, high = (None if x is None else f"{scale * x:+.{end}f}" for x in ends)
    return "–" if mean is None else mean if low is None else f"{mean} [{low}, {high}]"


def margins(comparisons: Sequence[Comparison]) -> str:
    """The margins of a rule's inequalities, in its order."""
    return "; ".join(margin(comparison) for comparison in comparisons)


def mark(state: str) -> str:
    """✓, ✗ or ?."""
    return MARKS[VERDICTS[state]]


def rows(several: Sequence[Answer]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table of one question's answers."""
    places = [f"{title_of(local.setting).split(',')[0]}, {_part(several[0], local.part)}" for local in several[0].local]
    head = ["method", "verdict", "margin", "n", *places, "why undecided"]
    lines = []
    for answer in several:
        local = [f"{mark(own.state)} {'; '.join(_short(c) for c in own.comparisons)}" for own in answer.local]
        n = "/".join(dict.fromkeys(str(c.n) for c in answer.comparisons))
        first = [answer.method or "all", f"{mark(answer.state)} {answer.verdict}", margins(answer.comparisons), n]
        lines.append([*first, *local, answer.reason])
    return head, lines


def _part(answer: Answer, part: str) -> str:
    return f"{part} batch" if answer.question.coordinate == "regime" else part


def _short(comparison: Comparison) -> str:
    return margin(comparison).partition(" [")[0]


def counts(several: Sequence[Answer]) -> str:
    """`3 supported, 1 contradicted, 12 undecided`; the verdict alone of a single answer."""
    verdicts = [answer.verdict for answer in several]
    if len(verdicts) == 1:
        return verdicts[0]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in MARKS)


def to_markdown(answered: Answered, rules: Path = RULES, note: str = NOTE) -> str:
    """A section for each question: its rule, and a line for each answer."""
    parts = [f"# Answers\n\nRules: {rules.parent.name}/{rules.name}, written before the runs. {note}\n"]
    for question, several in answered:
        rule = f"{question.rule} {counts(several).capitalize()}."
        parts.append(f"## {question.text}\n\n{rule}\n\n{markdown(*rows(several))}")
    return "\n".join(parts)


def to_plain(answered: Answered) -> str:
    """For a terminal: each question with its counts, and a line for each answer."""
    lines = []
    for question, several in answered:
        lines += ["", f"{question.text} {counts(several).capitalize()}."]
        lines += [f"  {mark(a.state)} {a.method or ''} {margins(a.comparisons)} {a.reason}".rstrip() for a in several]
    return "\n".join(lines)


def to_csv(answered: Answered) -> str:
    """One row for each inequality of each answer, over all runs and in each setting and batch size,
    numbers with every digit."""
    lines = []
    for question, several in answered:
        for answer in several:
            first = {"question": question.id, "method": answer.method or ""}
            parts = [("", "", answer.state, answer.comparisons)]
            parts += [(own.setting, own.part, own.state, own.comparisons) for own in answer.local]
            for setting, part, state, comparisons in parts:
                place = {
                    "setting": setting,
                    question.coordinate: part,
                    "verdict": VERDICTS[state],
                    "corrected": not setting,
                }
                for c in comparisons:
                    numbers = {name: getattr(c, name) for name in ("margin", "low", "high", "n", "p_holds", "p_fails")}
                    lines.append({**first, **place, "measure": c.measure, "inequality": c.inequality, **numbers})
    return pd.DataFrame(lines).to_csv(index=False)


def by_method(answered: Answered, frame: pd.DataFrame) -> str:
    """A line for each method: the mark and the margins of each question that is asked of each, and
    the range of its cost over settings and batch sizes."""
    asked = [(question, {a.method: a for a in several}) for question, several in answered if question.methods]
    names = list(dict.fromkeys(name for question, _ in asked for name in question.methods))
    head = ["method", *(question.id.replace("_", " ") for question, _ in asked), table.COST]
    lines = []
    for name in names:
        cells = [
            f"{mark(own[name].state)} {margins(own[name].comparisons)}" if name in own else "–" for _, own in asked
        ]
        lines.append([name, *cells, _cost(frame[frame["method"] == name]["cost"].dropna())])
    return markdown(head, lines)


def _cost(ratios: "pd.Series[float]") -> str:
    if ratios.empty:
        return "–"
    ends = dict.fromkeys(f"{ratio:.2f}" for ratio in (ratios.min(), ratios.max()))
    return f"{' to '.join(ends)}x"
