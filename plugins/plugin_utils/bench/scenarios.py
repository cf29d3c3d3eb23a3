# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loads that a recipe's published figures are of, and whether a deployment can hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError, nearest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import dialect_of

Plan = Mapping[str, Any]

# What makes a load: the engine's own client, or GuideLLM.
ENGINE, GUIDELLM = "engine", "guidellm"
# The data set of a load that is a trace.
TRACE = "trace"
# The oldest versions whose clients are known to take what is asked of them here.
OLDEST = {"vllm": "0.12.0", "vllm-ascend": "0.12.0", "sglang": "0.5.7"}


class Scenario(NamedTuple):
    """A load, and the figures that are known of it.

    Fields:
        title: What the load is, for people.
        dataset: random, prefix_repetition where prompts share their first tokens, or trace.
        input: Tokens of a prompt, with its prefix.
        output: Tokens of an answer.
        lengths: exact, or up_to where prompts and answers have any length up to these.
        prefix: Tokens that prompts share, 0 for random.
        prefixes: How many different ones, 0 for random.
        concurrency: Requests at once.
        prompts: Requests in all.
        seed: What the client draws prompts with.
        max_num_seqs: Requests that all ranks together have to run at once; None where waiting is
            no fault.
        assumed: What of the load its source does not say; empty for none.
        results: The published figures by metric.
        source: Who published them; empty for a load of the operator's own.
        setup: What they were measured on, where that is not the recipe's own.
        orientation: Why they never decide; empty where they do.
    """

    name: str
    title: str
    dataset: str
    input: int
    output: int
    concurrency: int
    prompts: int
    lengths: str = "exact"
    prefix: int = 0
    prefixes: int = 0
    seed: int = 0
    max_num_seqs: int | None = None
    assumed: str = ""
    results: Mapping[str, float] = {}
    source: str = ""
    setup: Mapping[str, Any] = {}
    orientation: str = ""

    @property
    def context(self) -> int:
        """Return the tokens of the longest sequence."""
        return self.input + self.output

    @property
    def requests(self) -> int:
        """Return how many requests the client makes: as many for each prefix."""
        return self.prompts - self.prompts % self.prefixes if self.prefixes else self.prompts


def scenarios_of(plan: Plan, custom: Sequence[Mapping[str, Any]] = ()) -> list[Scenario]:
    """Return the loads of a plan's recipe, and an operator's own, which replace those of a name.

    Raises:
        PlanError: Loads of an operator's own contradict themselves.
    """
    found = {
        figure["run"]["name"]: Scenario(
            title=figure["scenario"],
            results=figure["results"],
            source=figure["source"],
            setup=figure.get("setup", {}),
            orientation=figure.get("orientation", ""),
            **figure["run"],
        )
        for figure in plan["bench"]["figures"]
        if "run" in figure
    }
    errors = []
    for run in custom:
        given = {key: value for key, value in run.items() if value is not None}
        scenario = Scenario(title="a load of your own", **given)
        found[scenario.name] = scenario
        errors += _contradictions(scenario)
    if errors:
        raise PlanError(errors)
    return list(found.values())


def _contradictions(one: Scenario) -> list[str]:
    numbers = ("input", "output", "concurrency", "prompts")
    errors = [
        f"bench: {one.name}: {name} has to be 1 or more"
        for name in numbers
        if getattr(one, name) < 1
    ]
    if one.dataset == "prefix_repetition":
        if one.prefix < 1 or one.prefixes < 1:
            errors.append(f"bench: {one.name}: prefix_repetition needs prefix and prefixes")
        elif one.prefix >= one.input:
            errors.append(f"bench: {one.name}: the prefix has to be shorter than the input")
        elif one.prompts < one.prefixes:
            errors.append(f"bench: {one.name}: fewer prompts than prefixes")
    elif one.prefix or one.prefixes:
        errors.append(f"bench: {one.name}: only prefix_repetition has prefixes")
    return errors


def without_load(plan: Plan) -> list[str]:
    """Return the published throughputs of which the source tells no load that could be repeated."""
    return [
        f"{figure['scenario']} ({figure['source']}): its source does not tell the load"
        for figure in plan["bench"]["figures"]
        if "run" not in figure and "output_tok_per_s" in figure["results"]
    ]


def chosen(scenarios: Sequence[Scenario], names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios of the names in their order, all where none is named.

    Raises:
        PlanError: There is none of a name, or none at all.
    """
    known = {one.name: one for one in scenarios}
    if not known:
        raise PlanError(
            [
                "bench: the recipe's variant has no scenario: give one of your own in "
                "bench_custom, or figures with a run in a recipe of your own"
            ]
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PlanError(
            f"bench_scenarios: there is no {name!r}: {nearest(name, known)}" for name in unknown
        )
    return [known[name] for name in names] if names else list(scenarios)


def refusals(one: Scenario, plan: Plan, tool: str = ENGINE) -> list[str]:
    """Return why a deployment cannot hold a load or a client make it, and what to change."""
    bench, engine = plan["bench"], plan["engine"]
    dialect = dialect_of(plan)
    errors = []
    if one.context > bench["context"]:
        errors.append(_too_long(one, plan, dialect.context))
    if one.dataset == "prefix_repetition" and not bench["prefix_caching"]:
        flag, value = dialect.no_prefix_cache
        written = f"{flag}: {str(value).lower()}"
        errors.append(
            f"its prompts share their first {one.prefix} tokens, and the cache of prefixes is off: "
            f"remove {written} from muster_engine_args"
        )
    ranks, limit = bench["sizes"]["data"], bench["max_num_seqs"]
    if one.max_num_seqs and limit is not None and one.max_num_seqs > limit * ranks:
        errors.append(
            f"it needs {one.max_num_seqs} requests to run at once, and {_at_once(limit, ranks)} "
            f"do: raise {dialect.at_once} to {-(-one.max_num_seqs // ranks)} in muster_engine_args"
        )
    drawn = tool == ENGINE and engine["name"] == "sglang"
    if one.lengths == "up_to" and not drawn and one.dataset != TRACE:
        errors.append(
            "prompts of any length up to a bound are drawn by SGLang's client alone: take a "
            "scenario of exact lengths"
        )
    oldest = OLDEST[engine["name"]]
    if tool == ENGINE and versions.parse(engine["version"]) < versions.parse(oldest):
        errors.append(
            f"the client of {engine['name']} {engine['version']} is not known to bench: it wants "
            f"{oldest} or later"
        )
    return [f"{one.name}: {text}" for text in errors]


def _too_long(one: Scenario, plan: Plan, flag: str) -> str:
    bench, fits = plan["bench"], plan["memory"]["cache_tokens"]
    needs = (
        f"it needs a context of {one.context} tokens ({one.input} + {one.output}), and the "
        f"deployment takes {bench['context']}"
    )
    if one.context > bench["context_limit"]:
        return f"{needs}: the model itself takes {bench['context_limit']}; no setting helps"
    if one.context > fits:
        return (
            f"{needs}: beside the weights there is room for {fits} tokens; give a rank more "
            "devices, or choose smaller weights"
        )
    return f"{needs}: set {flag} to {one.context} or more in muster_engine_args"


def cautions(one: Scenario, plan: Plan) -> list[str]:
    """Return what makes a load slower than its numbers say, without being in its way."""
    bench = plan["bench"]
    ranks, limit = bench["sizes"]["data"], bench["max_num_seqs"]
    told = []
    if limit is not None and one.concurrency > limit * ranks:
        told.append(
            f"of {one.concurrency} requests at once {_at_once(limit, ranks)} run, the others wait"
        )
    own = one.context - one.prefix
    together = one.prefixes * one.prefix + min(one.concurrency, one.requests) * own
    room = plan["memory"]["cache_tokens"] * ranks
    if one.lengths == "exact" and together > room:
        told.append(
            f"its requests at once hold {together} tokens, and the KV cache has room for {room}"
        )
    return told


def _at_once(limit: int, ranks: int) -> str:
    return f"{limit * ranks} ({limit} on each of {ranks} ranks)" if ranks > 1 else str(limit)


def expected_s(one: Scenario) -> float | None:
    """Return how long the load takes by its published figures, in seconds; None without them."""
    if "duration_s" in one.results:
        return one.results["duration_s"]
    throughput = one.results.get("output_tok_per_s")
    if not throughput:
        return None
    share = 0.5 if one.lengths == "up_to" else 1.0
    return one.requests * one.output * share / throughput
