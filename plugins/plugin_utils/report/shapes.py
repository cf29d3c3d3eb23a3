# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page reads of each kind of report, as JSON Schema: what else a report has is its own.

A file of another release, or that was edited, is told of and left out; nothing after this guesses.
"""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

# The plan that the page is of has said already where it is missing.
from ansible_collections.muster.serving.plugins.module_utils.common.checks import STATUSES

with contextlib.suppress(ImportError):
    import jsonschema

Schema = dict[str, Any]


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.datetime.fromisoformat(value).tzinfo is not None


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 10**15}
_NUMBER = {"type": "number", "minimum": -1e15, "maximum": 1e15}
# With its zone: times of several machines stand side by side.
_TIME = {"type": "string", "format": "time"}
_STATUS = {"enum": list(STATUSES)}

_CHECK = _object(
    host=_TEXT,
    id=_TEXT,
    status=_STATUS,
    subject=_TEXT,
    observed=_TEXT,
    expected=_TEXT,
    remedy=_TEXT,
)
_VERDICT = _object(
    time=_TIME,
    passed=_FLAG,
    counts=_map(_COUNT),
    checks=_list(_CHECK),
    expired_waivers=_list(_TEXT),
    facts=_map({"type": "object", "properties": {"mtu": _or_null(_COUNT)}}),
)
_UNIT = _object(
    host=_TEXT,
    name=_TEXT,
    installed=_FLAG,
    stalled=_TEXT,
    active_state=_TEXT,
    sub_state=_TEXT,
    ready=_or_null(_FLAG),
    differences=_list({}),
    restarts=_COUNT,
)
_DEVICE = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("name", "health"), _or_null(_TEXT)),
        "device_id": _or_null(_COUNT),
        **dict.fromkeys(
            ("temperature_c", "power_w", "utilisation_percent", "memory_used_mb"),
            _or_null(_NUMBER),
        ),
        "memory_total_mb": _or_null({**_NUMBER, "exclusiveMinimum": 0}),
    },
}
_NODE = _object(
    time=_TIME,
    version=_or_null(_TEXT),
    devices=_list(_DEVICE),
    topology=_or_null(_object(devices=_list(_COUNT), links=_list(_list(_TEXT)))),
    problems=_list(_TEXT),
)
_ROW = _object(
    metric=_TEXT,
    measured=_NUMBER,
    reference=_NUMBER,
    spread_percent=_or_null(_NUMBER),
    change_percent=_or_null(_NUMBER),
    status={"enum": ["ok", "better", "worse", "shown"]},
)
_LOAD = _object(dataset=_TEXT, input=_COUNT, output=_COUNT, prefix=_COUNT, concurrency=_COUNT)
_SCENARIO = _object(
    name=_TEXT,
    title=_TEXT,
    source=_or_null(_TEXT),
    status={"enum": ["met", "below", "no figure", "not compared"]},
    load=_LOAD,
    metrics=_map(_NUMBER),
    rows=_list(_ROW),
    notes=_list(_TEXT),
)
_SETTING = _object(
    recipe=_TEXT,
    engine=_TEXT,
    sizes=_map(_COUNT),
    weights=_TEXT,
    devices=_list(_TEXT),
    through=_TEXT,
    replicas=_COUNT,
)
_METRICS = _map(_NUMBER)
_POINT = _or_null({**_METRICS, "required": ["concurrency"], "properties": {"concurrency": _COUNT}})
# In seconds since 1970.
_AT = {"type": "number", "minimum": 0, "maximum": 10**10}
_ABOUT: dict[str, Schema] = {
    "time": _TIME,
    "plan": _object(variant=_or_null(_TEXT)),
    "setting": _SETTING,
    "driver": _or_null(_TEXT),
    "prefix_caching": _FLAG,
    "client": _object(host=_TEXT),
}
_STEP = _object(
    concurrency=_COUNT,
    requests=_COUNT,
    metrics=_METRICS,
    broken=_list(_TEXT),
    engine=_or_null(_object(running_mean=_NUMBER, waiting_mean=_NUMBER, kv_usage_max=_NUMBER)),
)
_SAMPLE = _object(
    at=_AT,
    units=_map(_object(memory_mb=_or_null(_NUMBER))),
    devices=_map(_or_null(_NUMBER)),
)
_SET = _object(
    name=_TEXT,
    title=_TEXT,
    form=_TEXT,
    status={"enum": ["met", "unclear", "below", "no figure", "not compared"]},
    questions=_COUNT,
    total=_COUNT,
    references=_list(
        _object(percent=_NUMBER, source=_TEXT, differences=_list(_TEXT), status=_or_null(_TEXT))
    ),
    notes=_list(_TEXT),
)
# What a set without a score lacks.
_SET["properties"] |= {
    "right": _COUNT,
    "score_percent": _NUMBER,
    "strict_percent": _NUMBER,
    "interval_percent": {**_list(_NUMBER), "minItems": 2, "maxItems": 2},
}

# By kind of report.
SHAPES: dict[str, Schema] = {
    "verdict": _VERDICT,
    "status": _object(
        time=_TIME,
        units=_list(_UNIT),
        unreachable=_list(_TEXT),
        problems=_list(_TEXT),
        runs=_list(_TEXT),
    ),
    "devices": _object(hosts=_map(_NODE)),
    "plan": {"type": "object"},
    "run": _object(
        time=_TIME,
        playbook=_TEXT,
        failed_hosts=_list(_TEXT),
        stages=_list(
            _object(name=_TEXT, seconds=_NUMBER, nodes=_COUNT, changed=_COUNT, failed=_COUNT)
        ),
        verdicts=_map(_object(passed=_or_null(_FLAG))),
    ),
    "bench": _object(
        **_ABOUT,
        tolerance_percent=_NUMBER,
        baseline=_or_null(_TEXT),
        repetitions=_COUNT,
        refused=_map(_list(_TEXT)),
        scenarios=_list(_SCENARIO),
    ),
    "sweep": _object(
        **_ABOUT,
        scenario=_LOAD,
        bounds=_METRICS,
        ended=_TEXT,
        knee=_POINT,
        largest_within_bounds=_POINT,
        binds=_or_null(
            _object(concurrency=_COUNT, limit=_TEXT, certainty=_TEXT, evidence=_TEXT, change=_TEXT)
        ),
        steps={**_list(_STEP), "minItems": 1},
    ),
    "soak": _object(
        **_ABOUT,
        scenario=_LOAD,
        passed=_FLAG,
        seconds=_NUMBER,
        soak=_object(duration=_NUMBER),
        requests=_COUNT,
        failed=_COUNT,
        findings=_list(_object(kind=_TEXT, at=_AT, subject=_TEXT, what=_TEXT)),
        notes=_list(_TEXT),
        windows=_list(
            _object(begin=_AT, end=_AT, requests=_COUNT, failed=_COUNT, metrics=_METRICS)
        ),
        nodes=_map(_list(_SAMPLE)),
    ),
    "accuracy": _object(
        time=_TIME,
        passed=_FLAG,
        harness=_TEXT,
        plan=_object(model=_object(format=_or_null(_TEXT))),
        sets=_list(_SET),
    ),
}


def wrong(kind: str, value: Any) -> str:
    """Return what is not as a report of a kind has it; empty where all is."""
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("time", raises=ValueError)(_is_time)
    validator = jsonschema.Draft202012Validator(SHAPES[kind], format_checker=checker)
    error = next(validator.iter_errors(value), None)
    if error is None:
        return ""
    return f"{error.json_path}: {error.message[:200]}"
