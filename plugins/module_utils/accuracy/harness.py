# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lm-evaluation-harness is given to do, and what it says came of it."""

from __future__ import annotations

import json
from typing import Any, Iterable, Mapping

from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import SETS

# What the harness puts in place of an answer that a pattern does not find.
_UNREAD = "[invalid]"
_THINK, _THINK_END = "<think>", "</think>"


class HarnessError(ValueError):
    """What the harness left contradicts itself; the text says how."""


def task_of(name: str, files: Mapping[str, str], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the harness's task for a data set.

    Args:
        name: The data set.
        files: By split the file with what `questions_of` returned, as JSON lines.
        sampling: temperature, top_p, top_k, max_gen_toks.
    """
    one = SETS[name]
    return {
        "task": task_name(name),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": dict(files)},
        "output_type": "generate_until",
        "test_split": "test",
        **(
            {"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}
            if one.shots
            else {}
        ),
        "num_fewshot": one.shots,
        "doc_to_text": one.prompt,
        "doc_to_target": "{{target}}",
        # A text that ends an answer would end a model's thinking, too.
        "generation_kwargs": {"until": [], "do_sample": True, **sampling},
        "filter_list": [
            {
                "name": way,
                "filter": [
                    {"function": "regex", "regex_pattern": pattern, "group_select": -1},
                    {"function": "take_first"},
                ],
            }
            for way, pattern in one.patterns.items()
        ],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": False,
                # As of the harness's own gsm8k: 1,000 and $18. and the working before the number.
                "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
            }
        ],
        "metadata": {"version": 1},
    }


def task_name(name: str) -> str:
    """Return the name of a data set's task, which is none of the harness's own."""
    return f"muster_{name}"


def config_of(name: str, folder: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the harness's settings for one run.

    Args:
        name: The data set.
        folder: Where tasks lie (tasks) and results go to (out).
        asked: url, model, concurrency, request_timeout, seed.
    """
    seed = asked["seed"]
    return {
        "model": "local-chat-completions",
        "model_args": {
            "model": asked["model"],
            "base_url": f"{asked['url'].rstrip('/')}/chat/completions",
            "num_concurrent": asked["concurrency"],
            "timeout": asked["request_timeout"],
            "max_retries": 3,
            "seed": seed,
            # Where the engine does not take thinking out of the answer.
            "think_end_token": _THINK_END,
        },
        "tasks": [task_name(name)],
        "include_path": f"{folder}/tasks",
        "apply_chat_template": True,
        "fewshot_as_multiturn": True,
        "log_samples": True,
        "output_path": f"{folder}/out",
        "seed": [seed, seed, seed, seed],
    }


def summary_of(name: str, results: Mapping[str, Any], lines: Iterable[str]) -> dict[str, Any]:
    """Return what a run came to.

    Args:
        name: The data set.
        results: What the harness wrote of all questions.
        lines: What it wrote of each, a JSON document a line.

    Returns:
        questions: How many were asked.
        right: By way to read an answer, how many were right.
        unread: By way, in how many answers it found nothing.
        empty: How many answers had no text, since thinking took all tokens, or none came.
        unfinished: How many answers ended within the thinking.
        harness_version: The harness's version.
        task_hash: What tells two forms of the task apart.

    Raises:
        HarnessError: Its score is not what its log of answers adds up to.
    """
    right = dict.fromkeys(SETS[name].patterns, 0)
    unread = dict(right)
    texts: dict[int, str] = {}
    for line in lines:
        entry = json.loads(line)
        way = entry["filter"]
        right[way] += entry["exact_match"] == 1.0
        unread[way] += entry["filtered_resps"][0] == _UNREAD
        texts[entry["doc_id"]] = entry["resps"][0][0] or ""
    task = task_name(name)
    if not texts:
        raise HarnessError("the harness left no log of answers")
    for way, number in right.items():
        told = results["results"][task][f"exact_match,{way}"]
        if abs(told - number / len(texts)) > 1e-6:
            raise HarnessError(
                f"by the harness's score ({way}) {100 * told:.2f} % are right, and by its log of "
                f"answers {number} of {len(texts)}"
            )
    return {
        "questions": len(texts),
        "right": right,
        "unread": unread,
        "empty": sum(not text.strip() for text in texts.values()),
        "unfinished": sum(_THINK in text for text in texts.values()),
        "harness_version": results.get("lm_eval_version"),
        "task_hash": results.get("task_hashes", {}).get(task),
    }
