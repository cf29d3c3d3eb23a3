"""The real lm-evaluation-harness, asking an engine that answers from a table.

Which of its answers are right is known by construction, so that a harness that asks or reads them
wrongly gives another score. The environment is made once for each content of the lock file.
"""

import csv
import json
import time

import pytest
from ansible_collections.muster.serving.plugins.module_utils.accuracy import (
    client_io,
    harness,
    sets,
)
from ansible_collections.muster.serving.plugins.module_utils.accuracy.client_io import (
    AccuracyError,
    Home,
)
from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import FLEXIBLE, STRICT

from tests.conftest import ROOT
from tests.unit.fake_endpoint import serving

LOCK = (ROOT / "roles/accuracy/files/requirements.lock").read_text(encoding="utf-8")
KEY = "sk-of-the-table"

# By question of GSM8K: the right number, what the engine answers, and what of it is right by which
# way to read it. A number within thinking counts for nothing.
SUMS = [
    ("1+1", 2, "<think>maybe 7</think>\n#### 2", {STRICT, FLEXIBLE}),
    ("2+2", 4, "Two and two.\n#### 4", {STRICT, FLEXIBLE}),
    ("500+500", 1000, "That makes **1,000**.", {FLEXIBLE}),
    ("9+9", 18, "The answer is $18.", {FLEXIBLE}),
    ("3+3", 6, "<think>3 and 3\n\nQuestion: is it 5?</think>6", {FLEXIBLE}),
    ("5-9", -4, "#### -4", {STRICT, FLEXIBLE}),
    ("7+7", 14, "First 7, then 7, so 14", {FLEXIBLE}),
    ("8+8", 16, "<think>16</think>I take it to be 17.", set()),
    ("6+6", 12, "I would rather not say.", set()),
    ("4+4", 8, None, set()),
]
LETTERS = [
    ("Which is B?", "B", "Answer: B", {STRICT, FLEXIBLE}),
    ("Which is C?", "C", "<think>Answer: A</think>It is C.\n\n**Answer: C**", {FLEXIBLE}),
    ("Which is D?", "D", "The answer is (D).", {FLEXIBLE}),
    ("Which is A?", "A", "So it is $\\boxed{A}$", {FLEXIBLE}),
    ("Which is it?", "A", "Answer: B", set()),
    ("Which was it?", "D", "A good question, and no answer to it.", set()),
]
BOXES = [
    ("How many?", "70", "Therefore \\boxed{70}", {STRICT, FLEXIBLE}),
    ("How few?", "7", "It is \\boxed{007}.", {STRICT, FLEXIBLE}),
    ("How much?", "588", "The sum is 588", {FLEXIBLE}),
    ("How often?", "16", "\\boxed{160}", set()),
]


@pytest.fixture(scope="session")
def venv():
    return client_io.prepare(LOCK, None, None)[0]


@pytest.fixture
def engine():
    """An endpoint that answers a question from its table, and wants the key."""
    with serving() as endpoint:
        endpoint.table, endpoint.asked, endpoint.key = {}, [], KEY

        def answer(_path, asked):
            endpoint.asked.append(asked)
            said = asked["messages"][-1]["content"]
            found = [text for question, text in endpoint.table.items() if question in said]
            assert len(found) == 1, said
            return {
                "choices": [
                    {"index": 0, "message": {"content": found[0]}, "finish_reason": "stop"}
                ],
                "usage": {},
            }

        endpoint.answer = answer
        yield endpoint


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def gsm8k(folder, rows=SUMS):
    asked = [{"question": question, "answer": f"So.\n#### {right}"} for question, right, *_ in rows]
    lines(folder / "gsm8k/test.jsonl", asked)
    examples = [{"question": f"{n}*10", "answer": f"So.\n#### {n}0"} for n in range(1, 8)]
    lines(folder / "gsm8k/train.jsonl", examples)


def run(home, venv, engine, folder, name, table, key_file=None, **asked):
    """Ask a data set of a folder to the end."""
    engine.table = {question: text for question, _right, text, _ways in table}
    found = client_io.look_for(str(folder), [name])[name]
    assert found["problems"] == []
    options = {
        "samples": None,
        "seed": 5,
        "sampling": {"temperature": 1.0, "top_p": 0.95, "top_k": 40, "max_gen_toks": 300},
        "url": engine.url,
        "model": "minimax25",
        "concurrency": 4,
        "request_timeout": 20,
        "timeout": 120,
        "key": KEY,
        **asked,
    }
    number = client_io.start(home, venv, name, found["files"], options)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        seen = client_io.look(home, name, 10, str(folder / "kept"))
        if not seen["running"]:
            return number, seen
    raise AssertionError("the harness does not end")


@pytest.fixture
def home(tmp_path):
    made = Home(str(tmp_path / "home"))
    yield made
    client_io.end(made)


def rights(table):
    return {way: sum(way in ways for *_, ways in table) for way in (STRICT, FLEXIBLE)}


def test_gsm8k_gets_the_score_that_the_table_has(home, venv, engine, tmp_path):
    gsm8k(tmp_path)
    number, seen = run(home, venv, engine, tmp_path, "gsm8k", SUMS)
    result = seen["result"]
    assert (number, seen["problem"], seen["rc"]) == (10, None, 0), seen["log"]
    assert result["right"] == rights(SUMS) == {STRICT: 3, FLEXIBLE: 7}
    assert (result["questions"], result["empty"], result["unfinished"]) == (10, 1, 0)
    assert result["unread"][FLEXIBLE] == 2
    assert f"lm-eval=={result['harness_version']}" in LOCK
    # Five examples as turns of the chat, the recommended sampling, and no text that ends thinking.
    for asked in engine.asked:
        assert [one["role"] for one in asked["messages"]] == ["user", "assistant"] * 5 + ["user"]
        assert (asked["temperature"], asked["top_p"], asked["top_k"]) == (1.0, 0.95, 40)
        assert (asked["max_tokens"], asked["seed"], asked["stop"]) == (300, 5, [])
    # The key is in no file, and the log of answers outlives the run.
    client_io.end(home)
    kept = tmp_path / "kept/gsm8k"
    assert {path.name for path in kept.iterdir()} == {
        *("results.json", "answers.jsonl", "task.yaml", "config.yaml"),
    }
    assert not any(KEY in path.read_text() for path in kept.iterdir())


def test_a_harness_that_reads_answers_wrongly_gives_another_score(
    home, venv, engine, tmp_path, monkeypatch
):
    gsm8k(tmp_path)
    broken = {**sets.SETS["gsm8k"].patterns, FLEXIBLE: r"number is ([0-9]+)"}
    monkeypatch.setitem(sets.SETS, "gsm8k", sets.SETS["gsm8k"]._replace(patterns=broken))
    _number, seen = run(home, venv, engine, tmp_path, "gsm8k", SUMS)
    assert seen["result"]["right"][FLEXIBLE] != rights(SUMS)[FLEXIBLE]
    assert seen["result"]["unread"][FLEXIBLE] == 10


def test_lettered_choices_are_read_as_models_write_them(home, venv, engine, tmp_path):
    rows = [
        {"question": question, "subject": "high_school_spelling", "answer": "ABCD".index(right)}
        for question, right, *_ in LETTERS
    ]
    lines(tmp_path / "mmlu/test.jsonl", [{**row, "choices": list("wxyz")} for row in rows])
    _number, seen = run(home, venv, engine, tmp_path, "mmlu", LETTERS)
    assert seen["result"]["right"] == rights(LETTERS) == {STRICT: 1, FLEXIBLE: 4}
    (first, *_more) = engine.asked[0]["messages"]
    assert "multiple choice question about high school spelling" in first["content"]
    assert "A) w\nB) x\nC) y\nD) z" in first["content"]


def test_boxed_numbers_and_an_engine_that_fails(home, venv, engine, tmp_path):
    lines(
        tmp_path / "aime25/test.jsonl",
        [{"problem": question, "answer": right} for question, right, *_ in BOXES],
    )
    _number, seen = run(home, venv, engine, tmp_path, "aime25", BOXES)
    assert seen["result"]["right"] == rights(BOXES) == {STRICT: 2, FLEXIBLE: 3}
    client_io.end(home)
    engine.broken["/v1/chat/completions"] = 500
    _number, seen = run(home, venv, engine, tmp_path, "aime25", BOXES, request_timeout=5)
    assert (seen["result"], seen["problem"]) == (None, "it left no result")
    assert any("EngineCore" in line or "500" in line for line in seen["log"])


def test_gpqa_is_asked_from_its_own_file_with_the_right_choice_anywhere(
    home, venv, engine, tmp_path
):
    rows = [
        {
            "Question": f"Number {number}?",
            "Correct Answer": "right",
            **{f"Incorrect Answer {one}": f"wrong {one}" for one in (1, 2, 3)},
        }
        for number in range(12)
    ]
    path = tmp_path / "gpqa/test.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    # An engine that always says A is right where the right choice happens to stand first.
    always = [(row["Question"], "?", "Answer: A", set()) for row in rows]
    number, seen = run(home, venv, engine, tmp_path, "gpqa", always, samples=10)
    first = sum("A) right" in asked["messages"][-1]["content"] for asked in engine.asked)
    assert (number, len(engine.asked)) == (10, 10)
    assert 0 < seen["result"]["right"][FLEXIBLE] == first < 10


def test_parquet_is_read_by_the_harnesss_environment(home, venv, tmp_path):
    gsm8k(tmp_path)
    source = tmp_path / "gsm8k/test.jsonl"
    code = "import sys, datasets; datasets.Dataset.from_json(sys.argv[1]).to_parquet(sys.argv[2])"
    argv = [f"{venv}/bin/python", "-c", code, str(source), str(source.with_suffix(".parquet"))]
    assert client_io.run(argv, 60).rc == 0
    source.unlink()
    found = client_io.look_for(str(tmp_path), ["gsm8k"])["gsm8k"]
    assert (found["rows"], found["problems"]) == (None, [])
    (tmp_path / "home/work").mkdir(parents=True)
    asked = client_io._questions(home, venv, "gsm8k", "test", found["files"]["test"])
    assert [one["question"] for one in asked] == [question for question, *_ in SUMS]


def test_too_few_examples_are_told(home, venv, engine, tmp_path):
    gsm8k(tmp_path)
    lines(tmp_path / "gsm8k/train.jsonl", [{"question": "1*10", "answer": "#### 10"}])
    with pytest.raises(AccuracyError, match="train part has 1 rows, and 5 examples"):
        run(home, venv, engine, tmp_path, "gsm8k", SUMS)


def test_an_api_that_does_not_answer_is_told_before_anything_is_asked(home, venv, engine):
    asked = {"url": engine.url, "key": None}
    with pytest.raises(AccuracyError, match=r"HTTP 401.*accuracy_api_key_file"):
        client_io.start(home, venv, "aime25", {}, asked)
    asked = {"url": "http://127.0.0.1:9/v1", "key": KEY}
    with pytest.raises(AccuracyError, match=r"127\.0\.0\.1:9/v1 does not.*accuracy_client"):
        client_io.start(home, venv, "aime25", {}, asked)


def test_a_hub_out_of_reach_says_what_to_put_where(home, venv, engine, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    monkeypatch.setattr(client_io, "_FETCH_S", 20)
    with pytest.raises(AccuracyError, match=r"aime25/test.jsonl \(or .csv, .parquet\)"):
        client_io.start(home, venv, "aime25", {}, {"url": engine.url, "key": KEY})


def test_the_harnesss_score_has_to_be_that_of_its_log():
    entry = {"filtered_resps": ["2"], "resps": [["2"]], "doc_id": 0, "exact_match": 1.0}
    log = [json.dumps({**entry, "filter": way}) for way in (STRICT, FLEXIBLE)]
    told = {f"exact_match,{STRICT}": 1.0, f"exact_match,{FLEXIBLE}": 0.5}
    with pytest.raises(harness.HarnessError, match=r"50\.00 % are right, and by its log"):
        harness.summary_of("gsm8k", {"results": {"muster_gsm8k": told}}, log)
