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
    lead = "Every method at a strength chosen on held-out training images."
    tables = {}
    frame = table.compute(results)
    for (setting, _, size), part in frame.groupby(["setting", "regime", "batch_size"], sort=False):
        tables[f"{title_of(str(setting))}, B = {size}"] = table.texts(part)
    notes = [text.NOTE, table.NOTE]
    return {"title": "All methods", "lead": lead, "questions": texts(answered), "tables": tables, "notes": notes}


def texts(answered: text.Answered) -> list[dict[str, Any]]:
    """Each question with its rule and its answers."""
    return [
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
