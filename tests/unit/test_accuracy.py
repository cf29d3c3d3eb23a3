"""What is asked of data sets, what chance allows a score, and what a report says of it.

tests/accuracy has the real harness.
"""

import json
import math
import re
import tomllib

import pytest
from ansible_collections.muster.serving.plugins.module_utils.accuracy import client_io
from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import (
    FLEXIBLE,
    SETS,
    STRICT,
    DataError,
    chosen,
    questions_of,
    wanted_files,
)
from ansible_collections.muster.serving.plugins.plugin_utils.accuracy import chance
from ansible_collections.muster.serving.plugins.plugin_utils.accuracy.runs import (
    HARNESS,
    Wish,
    announcement,
    references_of,
    runs_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.accuracy.verdict import (
    BELOW,
    MET,
    NO_FIGURE,
    NOT_COMPARED,
    UNCLEAR,
    gate_failures,
    judge,
    report_of,
    status_of,
    tables,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.unit.plan_support import SCHEMA, SINGLE, host, pair, plan, view

shares = st.floats(0.01, 0.99)


# What chance allows


def likelihoods(total, share):
    return [
        math.comb(total, right) * share**right * (1 - share) ** (total - right)
        for right in range(total + 1)
    ]


@given(total=st.integers(1, 60), share=shares)
def test_at_most_is_the_sum_of_likelihoods(total, share):
    found = 0.0
    for right, likelihood in enumerate(likelihoods(total, share)):
        found += likelihood
        assert chance.at_most(right, total, share) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        # Clopper and Pearson's, as statistical tables have them.
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (7, 10, 0.3475, 0.9333),
        (70, 100, 0.6002, 0.7876),
        (1218, 1319, 0.9077, 0.9371),
    ],
)
def test_an_interval_is_that_of_the_tables(right, total, low, high):
    assert chance.interval(right, total) == pytest.approx((low, high), abs=2e-4)


@given(total=st.integers(1, 80), share=shares)
def test_the_true_share_lies_outside_in_one_of_twenty_runs_at_most(total, share):
    outside = sum(
        likelihood
        for right, likelihood in enumerate(likelihoods(total, share))
        if not chance.interval(right, total)[0] <= share <= chance.interval(right, total)[1]
    )
    assert outside <= 0.05 + 1e-6


@given(total=st.integers(1, 80), reference=st.floats(5, 99), tolerance=st.floats(0, 4))
def test_noise_alone_fails_no_model(total, reference, tolerance):
    """One that is just as good as it has to be fails in one of forty runs at most."""
    share = (reference - tolerance) / 100
    failing = sum(
        likelihood
        for right, likelihood in enumerate(likelihoods(total, share))
        if status_of(right, total, reference, tolerance) == BELOW
    )
    assert failing <= 0.025 + 1e-6


@given(total=st.integers(1, 200), data=st.data(), reference=st.floats(0, 100))
def test_a_better_score_never_stands_worse(total, data, reference):
    order = [BELOW, UNCLEAR, MET]
    right = data.draw(st.integers(0, total - 1))
    one, next_ = (status_of(number, total, reference, 1) for number in (right, right + 1))
    assert order.index(one) <= order.index(next_)


@pytest.mark.parametrize(
    ("right", "total", "reference", "status"),
    [
        (92, 100, 94, MET),
        (90, 100, 94, UNCLEAR),
        (80, 100, 94, BELOW),
        (1180, 1319, 94, BELOW),
        (1226, 1319, 94, MET),
        (0, 3, 92.5, BELOW),
        (29, 30, 92.5, MET),
        (25, 30, 92.5, UNCLEAR),
    ],
)
def test_a_score_beside_a_reference(right, total, reference, status):
    assert status_of(right, total, reference, 2) == status


# Data sets


@given(total=st.integers(1, 500), wanted=st.integers(1, 600), seed=st.integers(0, 9))
def test_questions_are_drawn_from_all_of_a_set_and_the_same_ones_again(total, wanted, seed):
    places = chosen(total, wanted, seed)
    assert len(set(places)) == len(places) == min(total, wanted)
    assert places == sorted(places) == chosen(total, wanted, seed)
    assert set(places) <= set(range(total))
    assert chosen(total, None, seed) == list(range(total))


GPQA = {
    "Question": "Why?",
    "Correct Answer": "right",
    **{f"Incorrect Answer {number}": f"wrong {number}" for number in (1, 2, 3)},
}


@pytest.mark.parametrize(
    ("name", "row", "target"),
    [
        ("gsm8k", {"question": "1+1", "answer": "So.\n#### 2"}, "So.\n#### 2"),
        ("mmlu", {"question": "?", "subject": "s", "choices": list("wxyz"), "answer": 2}, "C"),
        (
            "mmlu",
            {"question": "?", "subject": "s", "choices": '["w","x","y","z"]', "answer": "d"},
            "D",
        ),
        ("aime25", {"problem": "?", "answer": "070"}, "70"),
    ],
)
def test_the_right_answer_of_a_row(name, row, target):
    assert questions_of(name, [row])[0]["target"] == target


@given(st.text(min_size=1))
def test_the_right_choice_of_gpqa_stands_anywhere_and_always_there(question):
    (first,) = questions_of("gpqa", [{**GPQA, "Question": question}])
    assert first[first["target"].lower()] == "right"
    assert sorted(first[letter] for letter in "abcd") == ["right", "wrong 1", "wrong 2", "wrong 3"]
    assert questions_of("gpqa", [{**GPQA, "Question": question}]) == [first]


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("gsm8k", [], "no rows"),
        ("gsm8k", [{"question": "1+1"}], "row 1 has no answer"),
        ("gsm8k", [{"question": "1+1", "answer": "2"}], "row 1: answer has no '#### NUMBER'"),
        (
            "mmlu",
            [{"question": "?", "subject": "s", "choices": ["a"], "answer": 0}],
            "list of four",
        ),
        ("mmlu", [{"question": "?", "subject": "s", "choices": "a", "answer": 0}], "no list"),
        (
            "mmlu",
            [{"question": "?", "subject": "s", "choices": list("abcd"), "answer": 4}],
            "neither 0 to 3 nor A to D",
        ),
        ("gpqa", [{"Question": "?"}], "no Correct Answer, Incorrect Answer 1"),
        ("aime25", [{"problem": "?", "answer": "1/2"}], "no whole number"),
    ],
)
def test_a_wrong_row_is_named(name, rows, said):
    with pytest.raises(DataError, match=said):
        questions_of(name, rows)


def read(pattern, text):
    """Read an answer as the harness's regex filter does: the last match, its first group."""
    found = re.findall(pattern, text)
    if not found:
        return None
    last = found[-1]
    return last if isinstance(last, str) else next(group for group in last if group)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: B", "B"),
        ("**Answer: B**", "B"),
        ("**Answer:** B", "B"),
        ("answer is (C).", "C"),
        ("The answer is: $\\boxed{D}$", "D"),
        ("so \\boxed{A}", "A"),
        ("Answer: \\boxed{A}", "A"),
        ("First I thought Answer: A. No.\nAnswer: D", "D"),
        ("The answer is clear: A good one", None),
        ("Answer: Because", None),
        ("I choose B", None),
    ],
)
def test_a_letter_is_read_where_it_is_given_as_the_answer(text, letter):
    assert read(SETS["mmlu"].patterns[FLEXIBLE], text) == letter


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("\\boxed{70}", "70", "70"),
        ("\\boxed{ 007 }", "7", "7"),
        ("\\boxed{0}", "0", "0"),
        ("it is 588", None, "588"),
        ("none", None, None),
    ],
)
def test_a_whole_number_is_read(text, strict, flexible):
    patterns = SETS["aime25"].patterns
    assert read(patterns[STRICT], text) == strict
    assert read(patterns[FLEXIBLE], text) == flexible


def test_a_folder_says_what_it_has_and_what_is_missing(tmp_path):
    for name, rows in {
        "gsm8k/test.jsonl": [{"question": "1+1", "answer": "#### 2"}] * 3,
        "gsm8k/train.jsonl": [{"question": "1+1", "answer": "2"}],
        "aime25/test.jsonl": [{"problem": "?", "answer": 70}],
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "mmlu").mkdir()
    (tmp_path / "mmlu/test.jsonl").write_text("no JSON")
    found = client_io.look_for(str(tmp_path), list(SETS))
    assert found["gsm8k"]["rows"] == 3
    assert found["gsm8k"]["problems"] == [
        f"{tmp_path}/gsm8k/train.jsonl: row 1: answer has no '#### NUMBER' at its end"
    ]
    assert found["aime25"]["problems"] == []
    assert found["mmlu"]["problems"] == [f"{tmp_path}/mmlu/test.jsonl: line 1 is no JSON"]
    (missing,) = found["gpqa"]["problems"]
    assert "gpqa/test.jsonl (or .csv, .parquet) with the columns Question, Correct" in missing
    nothing = client_io.look_for(None, list(SETS))
    assert all(one["files"] == {} and one["problems"] for one in nothing.values())


# What a run asks


def there(*names, rows=500):
    return {
        name: {
            "files": {split: f"/data/{name}/{split}.jsonl" for split in SETS[name].splits},
            "rows": rows,
            "problems": [],
        }
        for name in names
    }


def absent(*names):
    return {
        name: {
            "files": {},
            "rows": None,
            "problems": [f"there is no {one}" for one in wanted_files(name)],
        }
        for name in names
    }


RECIPE = "minimax-m2.7/vllm-ascend-a2"


def made(*names, inventory=None, data=None, **wished):
    inventory = inventory or view(c=[host(1, RECIPE), host(2, RECIPE)])
    wish = Wish(sets=names, data=data or there(*names), hosts=inventory["groups"]["c"], **wished)
    return runs_of(plan(inventory), wish)


def refused(*names, **more):
    with pytest.raises(PlanError) as caught:
        made(*names, **more)
    return caught.value.messages


def test_a_quick_run_asks_some_and_a_full_run_all():
    (quick,) = made("gsm8k")["sets"]
    assert (quick["questions"], quick["samples"], quick["total"]) == (200, 200, 500)
    (full,) = made("gsm8k", full=True)["sets"]
    assert (full["questions"], full["samples"]) == (500, None)
    (few,) = made("gsm8k", samples=7)["sets"]
    assert few["questions"] == 7
    # The model's authors' sampling, and answers as long as the set wants.
    assert quick["sampling"] == {
        "temperature": 1.0,
        "top_p": 0.95,
        "top_k": 40,
        "max_gen_toks": SETS["gsm8k"].max_tokens,
    }


def test_what_is_missing_is_told_for_all_sets_at_once_with_what_to_put_where():
    said = "\n".join(refused("gsm8k", "gpqa", data=absent("gsm8k", "gpqa")))
    for part in (
        "gsm8k: there is no gsm8k/test.jsonl",
        "gsm8k: there is no gsm8k/train.jsonl",
        "gpqa: there is no gpqa/test.jsonl",
        "https://github.com/openai/grade-school-math",
        "accuracy_hub=true",
    ):
        assert part in said


def test_the_hub_gives_what_no_folder_has_and_replaces_no_broken_file():
    (one,) = made("gsm8k", data=absent("gsm8k"), hub=True)["sets"]
    assert (one["files"], one["total"]) == ({}, SETS["gsm8k"].size)
    assert one["source"] == "openai/gsm8k of the hub"
    broken = there("gsm8k")
    broken["gsm8k"]["problems"] = ["/data/gsm8k/test.jsonl: line 1 is no JSON"]
    assert "line 1 is no JSON" in "\n".join(refused("gsm8k", data=broken, hub=True))


@pytest.mark.parametrize(
    ("wished", "said"),
    [
        ({"full": True, "samples": 3}, "take one"),
        ({"samples": 0}, "accuracy_samples has to be 1 or more"),
        ({"concurrency": 0}, "accuracy_concurrency has to be 1 or more"),
        ({"references": {"gsm": 90}}, "gsm is none of gsm8k"),
        ({"references": {"gsm8k": 940}}, "0 to 100"),
        ({"replica": 3}, "does not have replica 3 whole"),
    ],
)
def test_contradictions_are_refused(wished, said):
    assert said in "\n".join(refused("gsm8k", **wished))


def test_the_gateway_is_asked_for_the_whole_cluster_and_a_replica_for_its_part():
    many = view(c=[host(number, SINGLE, gateway_hosts=["c-0"]) for number in (1, 2)])
    whole = plan(many)
    wish = Wish(sets=["gsm8k"], data=there("gsm8k"), hosts=["c-0", "c-1"])
    every = runs_of(whole, wish)
    assert every["url"] == whole["endpoint"]["url"]
    assert set(every["units"]) == {"c-0", "c-1"}
    for one in (wish._replace(hosts=["c-1"]), wish._replace(replica=1)):
        part = runs_of(whole, one)
        assert (part["url"], list(part["units"])) == (whole["replicas"][1]["url"], ["c-1"])
    with pytest.raises(PlanError, match="no replica whole"):
        runs_of(whole, wish._replace(hosts=[]))


def test_a_context_too_short_is_refused_unless_answers_are_said_to_be_short():
    short = view(c=[host(number, RECIPE, engine_args={"max-model-len": 2048}) for number in (1, 2)])
    assert "longer context" in "\n".join(refused("gsm8k", inventory=short))
    (one,) = made("gsm8k", inventory=short, max_tokens=64)["sets"]
    assert one["sampling"]["max_gen_toks"] == 64


def test_published_scores_of_another_harness_stand_beside_and_decide_nothing():
    (one,) = made("gpqa")["sets"]
    (published,) = one["references"]
    assert published["percent"] == 84.91
    assert published["differences"] == [
        "asked by NeMo-Skills (chat, eval/aai/mcq-4choices, temperature 0.6)"
    ]
    (own, other) = made("gpqa", references={"gpqa": 80})["sets"][0]["references"]
    assert (own["percent"], own["differences"], other) == (80.0, [], published)
    # Other weights, as in the lab, are said so beside a figure of the hardware.
    lab = view(c=[host(number, RECIPE, weights_gb=1) for number in (1, 2)])
    assert (
        "as in a lab" in made("gpqa", inventory=lab)["sets"][0]["references"][0]["differences"][1]
    )


def test_a_published_score_that_was_asked_in_the_same_way_decides():
    whole = plan(view(c=[host(1, RECIPE), host(2, RECIPE)]))
    asked = {"set": "gsm8k", "harness": HARNESS, "form": SETS["gsm8k"].form}
    for model, differences in (
        ("MiniMax-M2.7", []),
        ("MiniMax-M2", ["of MiniMax-M2, and this is MiniMax-M2.7"]),
    ):
        figure = {
            "scenario": "GSM8K",
            "source": "somebody",
            "results": {"score_percent": 94.0},
            "accuracy": {**asked, "model": model},
        }
        found = references_of({**whole, "bench": {"figures": [figure]}}, "gsm8k", {})
        assert found == [{"percent": 94.0, "source": "somebody: GSM8K", "differences": differences}]


def test_the_recipes_schema_knows_the_data_sets():
    figure = SCHEMA["properties"]["figures"]["items"]["properties"]["accuracy"]
    assert figure["properties"]["set"]["enum"] == list(SETS)


def test_the_table_before_a_run_has_the_count_the_form_and_an_estimate():
    heading, row = announcement(made("gsm8k"))
    told = dict(zip(heading, row, strict=True))
    assert (told["QUESTIONS"], told["OF"], told["PROMPT"]) == ("200", "500", SETS["gsm8k"].form)
    assert told["TOKENS"] == "some 160k"


# The report


RESULT = {
    "questions": 100,
    "right": {STRICT: 60, FLEXIBLE: 94},
    "unread": {STRICT: 30, FLEXIBLE: 0},
    "empty": 0,
    "unfinished": 0,
    "harness_version": "0.4.13",
    "task_hash": "abc",
}


def entry(**more):
    (one,) = made("gsm8k", samples=100, references={"gsm8k": 94})["sets"]
    return {**one, **more}


def judged(ended=None, tolerance=2, **more):
    return judge(entry(**more), ended or {"result": RESULT, "kept": "/kept"}, 5, tolerance)


def test_a_verdict_names_form_count_seed_score_and_interval():
    one = judged()
    assert (one["status"], one["failures"]) == (MET, [])
    assert (one["score_percent"], one["strict_percent"], one["questions"]) == (94.0, 60.0, 100)
    assert one["interval_percent"] == [87.4, 97.77]
    assert (one["form"], one["shots"], one["seed"]) == (SETS["gsm8k"].form, 5, 5)
    assert (one["harness_version"], one["answers"]) == ("0.4.13", "/kept")


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"right": {STRICT: 0, FLEXIBLE: 70}}, BELOW, ""),
        ({"right": {STRICT: 0, FLEXIBLE: 90}}, UNCLEAR, "ask more questions (accuracy_full)"),
        ({"unfinished": 9}, MET, "9 of 100 answers have no end of their thinking"),
        ({"unread": {STRICT: 0, FLEXIBLE: 6}}, MET, "in 6 of 100 answers nothing was found"),
    ],
)
def test_what_a_score_may_come_from_is_told(changes, status, said):
    one = judged({"result": {**RESULT, **changes}})
    assert one["status"] == status
    assert said in "\n".join(one["notes"])
    assert bool(one["failures"]) == (status == BELOW)


def test_without_a_result_there_is_no_figure():
    one = judged({"result": None, "problem": "it left no result", "log": ["HTTP 500"]})
    assert one["status"] == NO_FIGURE
    assert one["failures"] == ["gsm8k: it left no result"]
    assert one["notes"] == ["it left no result", "HTTP 500"]


def report(*ended, references=None, **variables):
    inventory = pair(**variables)
    wish = Wish(
        sets=["gsm8k"],
        data=there("gsm8k"),
        hosts=inventory["groups"]["c"],
        references=references or {},
    )
    done = {"sets": list(ended), "venv": "/venv", "client_host": "localhost"}
    whole = plan(inventory)
    return report_of(whole, runs_of(whole, wish), done, 2.0, "2026-11-30T13:00:00+00:00")


def test_a_gate_wants_something_to_compare_with():
    alone = report({"result": RESULT})
    assert (alone["passed"], alone["compared"], alone["sets"][0]["status"]) == (
        True,
        0,
        NOT_COMPARED,
    )
    assert "accuracy_references" in gate_failures(alone)[0]
    good, bad = (report({"result": RESULT}, references={"gsm8k": one}) for one in (94, 99))
    assert gate_failures(good) == []
    assert (bad["passed"], gate_failures(bad)) == (True, [])
    worse = report(
        {"result": {**RESULT, "right": {STRICT: 0, FLEXIBLE: 50}}}, references={"gsm8k": 94}
    )
    assert (worse["passed"], worse["harness"]) == (False, HARNESS)
    assert "50 % of 100 questions" in gate_failures(worse)[0]


def test_the_tables_say_what_the_report_says():
    text = "\n".join(
        block for block, _status in tables(report({"result": RESULT}, references={"gsm8k": 94}))
    )
    for part in ("lm-evaluation-harness 0.4.13", "94.00 %", "87.4 to 97.8 %", "met"):
        assert part in text
    # The published one of another harness is beside it, with what differs.
    assert "95 % (SGLang cookbook, MiniMax-M2.5: GSM8K): asked by benchmark/gsm8k" in text


def test_a_figure_of_a_lab_is_marked_as_one_whatever_it_stands_beside():
    own = {"gsm8k": 94}
    marked = report({"result": RESULT}, references=own, weights_gb=0.1)
    assert "as in a lab" in tables(marked)[0][0]
    assert "lab" not in tables(report({"result": RESULT}, references=own))[0][0]


def test_the_lock_has_the_pinned_harness():
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["accuracy"]
    (version,) = re.findall(r"lm_eval\[api\]==(\S+)", " ".join(pins))
    locked = (ROOT / "roles/accuracy/files/requirements.lock").read_text()
    assert f"lm-eval=={version}\n" in locked
    # The API needs none of it, and a gigabyte is none of a client's.
    assert "torch" not in locked
