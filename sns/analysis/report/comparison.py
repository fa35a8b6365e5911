"""The report's section on the comparison of all methods: its questions with their answers, and the
table."""

from typing import Any

from sns.analysis.bakeoff import table, text
from sns.analysis.cells import Results, title_of


def comparison(results: Results) -> dict[str, Any] | None:
    """Texts for the page; None where no question is about this experiment."""
    answered = text.answer_all(results)
    if not answered:
        return None
    tables = {}
    frame = table.compute(results)
    for (setting, _, size), part in frame.groupby(["setting", "regime", "batch_size"], sort=False):
        tables[f"{title_of(str(setting))}, B = {size}"] = table.texts(part)
    questions = [
        {
            "id": question.id,
            "text": question.text,
            "rule": question.rule,
            "counts": text.counts(several),
            "table": text.rows(several),
            "verdict": several[0].verdict if len(several) == 1 else "mixed",
        }
        for question, several in answered
    ]
    return {"questions": questions, "tables": tables, "notes": [text.NOTE, table.NOTE]}
