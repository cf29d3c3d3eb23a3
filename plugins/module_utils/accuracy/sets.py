# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data sets of accuracy: where their questions come from, how they are asked and read."""

from __future__ import annotations

import json
import random
from typing import Any, Callable, Mapping, NamedTuple, Sequence

STRICT, FLEXIBLE = "strict-match", "flexible-extract"
ENDINGS = ("jsonl", "csv", "parquet")

Row = Mapping[str, Any]


class DataError(ValueError):
    """A row is not what its data set has; the text says what is wrong with it."""


class DataSet(NamedTuple):
    """One data set.

    Fields:
        title: Its name, for people.
        size: How many questions were published.
        quick: How many a quick run asks.
        columns: What a row has.
        source: Where it is had, for people.
        hub: Its name on the hub, and of its configuration.
        splits: By the name of a file the hub's: test is asked, train has the examples.
        shots: How many worked examples go before each question, as turns of the chat.
        form: What tells one form of the prompt from another.
        prompt: The question as it is sent, in Jinja over what `question` returns.
        patterns: By the name of a way to read an answer, its regular expression.
        question: Makes of a row what is asked: its columns, and target for the right answer.
        max_tokens: How long an answer may be, thinking included.
        answer_tokens: How long a thinking model's is, roughly; for estimates alone.
        prompt_tokens: How long a prompt is at most, roughly.
    """

    title: str
    size: int
    quick: int
    columns: Sequence[str]
    source: str
    hub: tuple[str, str]
    splits: Mapping[str, str]
    shots: int
    form: str
    prompt: str
    patterns: Mapping[str, str]
    question: Callable[[Row], dict[str, str]]
    max_tokens: int
    answer_tokens: int
    prompt_tokens: int


def _gsm8k(row: Row) -> dict[str, str]:
    answer = str(row["answer"])
    if "####" not in answer:
        raise DataError("answer has no '#### NUMBER' at its end")
    return {"question": str(row["question"]), "target": answer}


def _lettered(question: str, choices: Sequence[Any], right: int, **more: str) -> dict[str, str]:
    told = [str(one).strip() for one in choices]
    return {
        "question": question.strip(),
        **dict(zip("abcd", told)),
        "target": "ABCD"[right],
        **more,
    }


def _mmlu(row: Row) -> dict[str, str]:
    choices = row["choices"]
    if isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except ValueError:
            raise DataError("choices is no list") from None
    if not isinstance(choices, list) or len(choices) != 4:
        raise DataError("choices is no list of four")
    answer = str(row["answer"]).strip().upper()
    right = "ABCD".find(answer) if len(answer) == 1 and answer.isalpha() else -1
    right = int(answer) if answer in ("0", "1", "2", "3") else right
    if right < 0:
        raise DataError("answer is neither 0 to 3 nor A to D")
    subject = str(row["subject"]).replace("_", " ")
    return _lettered(str(row["question"]), choices, right, subject=subject)


def _gpqa(row: Row) -> dict[str, str]:
    names = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    question = str(row["Question"])
    order = [0, 1, 2, 3]
    # The right one stands first in the file. The same order in each run keeps runs comparable.
    random.Random(question).shuffle(order)  # noqa: S311
    return _lettered(question, [row[names[one]] for one in order], order.index(0))


def _aime(row: Row) -> dict[str, str]:
    answer = str(row["answer"]).strip()
    if not answer.isdigit():
        raise DataError("answer is no whole number")
    return {"question": str(row["problem"]).strip(), "target": str(int(answer))}


_CHOICES = "{{question}}\n\nA) {{a}}\nB) {{b}}\nC) {{c}}\nD) {{d}}"
_LAST_LINE = "End with a line 'Answer: X', where X is one of A, B, C and D."
_LETTER = {
    STRICT: r"(?m)^Answer: ([A-D])\s*$",
    # As models write it: **Answer: B**, The answer is (B), \boxed{B}.
    FLEXIBLE: r"(?:(?i:answer)(?i:\s+is)?\s*:?\s*(?:\\boxed)?|\\boxed)[\s*_`$({\[]*([A-D])\b",
}

SETS: dict[str, DataSet] = {
    "gsm8k": DataSet(
        title="GSM8K",
        size=1319,
        quick=200,
        columns=("question", "answer"),
        source="https://github.com/openai/grade-school-math",
        hub=("openai/gsm8k", "main"),
        splits={"test": "test", "train": "train"},
        shots=5,
        form="chat, 5 examples as turns",
        prompt="Question: {{question}}\nAnswer:",
        patterns={
            STRICT: r"#### (\-?[0-9\.\,]+)",
            FLEXIBLE: r"(-?[$0-9.,]{2,})|(-?[0-9]+)",
        },
        question=_gsm8k,
        max_tokens=16384,
        answer_tokens=800,
        prompt_tokens=2048,
    ),
    "mmlu": DataSet(
        title="MMLU",
        size=14042,
        quick=200,
        columns=("question", "subject", "choices", "answer"),
        source="https://huggingface.co/datasets/cais/mmlu, all",
        hub=("cais/mmlu", "all"),
        splits={"test": "test"},
        shots=0,
        form="chat, no examples, the letter in a last line",
        prompt="This is a multiple choice question about {{subject}}. "
        f"{_LAST_LINE}\n\n{_CHOICES}",
        patterns=_LETTER,
        question=_mmlu,
        max_tokens=16384,
        answer_tokens=1000,
        prompt_tokens=2048,
    ),
    "gpqa": DataSet(
        title="GPQA Diamond",
        size=198,
        quick=50,
        columns=(
            "Question",
            "Correct Answer",
            "Incorrect Answer 1",
            "Incorrect Answer 2",
            "Incorrect Answer 3",
        ),
        source="gpqa_diamond.csv of https://huggingface.co/datasets/Idavidrein/gpqa, on request",
        hub=("Idavidrein/gpqa", "gpqa_diamond"),
        splits={"test": "train"},
        shots=0,
        form="chat, no examples, the letter in a last line",
        prompt=f"This is a multiple choice question. {_LAST_LINE}\n\n{_CHOICES}",
        patterns=_LETTER,
        question=_gpqa,
        max_tokens=65536,
        answer_tokens=10000,
        prompt_tokens=4096,
    ),
    "aime25": DataSet(
        title="AIME 2025",
        size=30,
        quick=30,
        columns=("problem", "answer"),
        source="https://huggingface.co/datasets/math-ai/aime25",
        hub=("math-ai/aime25", ""),
        splits={"test": "test"},
        shots=0,
        form="chat, no examples, the number boxed",
        prompt="{{question}}\n\nThe answer is a whole number from 0 to 999. "
        "Put it into \\boxed{} at the end.",
        patterns={
            STRICT: r"\\boxed\{\s*0*(\d+)\s*\}",
            FLEXIBLE: r"(?<!\d)0*(\d+)(?!\d)",
        },
        question=_aime,
        max_tokens=65536,
        answer_tokens=20000,
        prompt_tokens=1024,
    ),
}


def questions_of(name: str, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return what is asked, a row of a data set each.

    Raises:
        DataError: A row has not what the data set has; the text names it by its number.
    """
    one = SETS[name]
    found = []
    for number, row in enumerate(rows, 1):
        missing = [column for column in one.columns if row.get(column) is None]
        if missing:
            raise DataError(f"row {number} has no {', '.join(missing)}")
        try:
            found.append(one.question(row))
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
    if not found:
        raise DataError("it has no rows")
    return found


def chosen(total: int, wanted: int | None, seed: int) -> list[int]:
    """Return the questions of a run by their places: all, or so many drawn by a seed."""
    if not wanted or wanted >= total:
        return list(range(total))
    # Data sets are sorted by subject; their first questions would be of one alone.
    return sorted(random.Random(seed).sample(range(total), wanted))  # noqa: S311


def wanted_files(name: str) -> list[str]:
    """Return what to put into the folder of data, a line a file."""
    one = SETS[name]
    columns = ", ".join(one.columns)
    parts = {split: f"the {split} part of " if len(one.splits) > 1 else "" for split in one.splits}
    return [
        f"{name}/{split}.jsonl (or .csv, .parquet) with the columns {columns}: {part}{one.title} "
        f"({one.source})"
        for split, part in parts.items()
    ]
