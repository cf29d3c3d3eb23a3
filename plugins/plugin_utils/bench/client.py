# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured and from where, and the command of the engine's own client that does it."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    DOCKER,
    PREFIX,
    STATE_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import USER
from ansible_collections.muster.serving.plugins.module_utils.units.names import replica_group
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Plan, Scenario
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

# Where the client's container finds the folder for its result, and texts for its prompts.
INSIDE = "/muster-bench"
TEXTS = "/muster-texts.json"
RESULT = "result.json"
PERCENTILES = "50,90,95,99"
# An answer of a warm-up need not be as long: graphs and kernels are made by the first tokens.
WARM_UP_TOKENS = 32
# Far from the seeds of repetitions, so that no measured prompt was seen before.
WARM_UP_SEED = 1_000_000


class Target(NamedTuple):
    """What is measured.

    Fields:
        url: The API, http[s]://HOST:PORT/v1.
        through: replica, or gateway.
        replicas: How many replicas are behind it.
        head: The node whose devices stand for those of the replica.
        unit: A unit of it, whose engine the client comes with.
        units: All units of it.
        metrics: The APIs of the engines behind it.
    """

    url: str
    through: str
    replicas: int
    head: str
    unit: Mapping[str, Any]
    units: list[Any]
    metrics: list[str]


class Client(NamedTuple):
    """How the client is run on a node.

    Fields:
        folder: Its folder on the node.
        prefix: What stands before the client's own command.
        program: The engine's program, as its client is called.
        mount: Where the client itself sees the folder of its result.
        texts: Where it sees the file with conversations; None for none.
        container: Its container; None without one.
        image: Its image; None without one.
        owner: As whom it runs; None in a container.
    """

    folder: str
    prefix: list[str]
    program: list[str]
    mount: str
    texts: str | None
    container: str | None
    image: str | None
    owner: str | None


def target_of(plan: Plan, hosts: Sequence[str], through: str, replica: int | None) -> Target:
    """Return what is measured.

    Args:
        plan: The plan of one cluster.
        hosts: The hosts of the run.
        through: replica or gateway.
        replica: The replica's index; None for the first that the run has whole.

    Raises:
        PlanError: There is no such replica or gateway, or its API is not that of all its ranks.
    """
    one = _whole_replica(plan, hosts, replica)
    engines = [unit for unit in plan["units"] if unit["role"] != "gateway"]
    own = [unit for unit in engines if unit["group"] == replica_group(one["index"])]
    apis = [unit["api_url"] for unit in own if unit["api_url"]]
    head = next(unit for unit in own if unit["api_url"])
    if through == "gateway":
        _check_gateway(plan)
        every = [unit["api_url"] for unit in engines if unit["api_url"]]
        url = plan["endpoint"]["url"]
        count = len(plan["replicas"])
        return Target(url, through, count, head["host"], head, list(plan["units"]), every)
    if len(apis) > 1:
        raise PlanError(
            [
                f"bench: each of the replica's {len(apis)} ranks has an API of its own, and the "
                "load would be on one: set bench_through to gateway (muster_gateway_hosts)"
            ]
        )
    return Target(one["url"], through, 1, head["host"], head, own, apis)


def _whole_replica(plan: Plan, hosts: Sequence[str], replica: int | None) -> Mapping[str, Any]:
    """Return the replica that is asked for, or the first, if the run has all its hosts.

    Raises:
        PlanError: It has not.
    """
    for one in plan["replicas"]:
        if set(one["hosts"]) <= set(hosts) and replica in (None, one["index"]):
            found: Mapping[str, Any] = one
            return found
    if replica is None:
        raise PlanError(["bench: the run has no replica whole: widen -l to its hosts"])
    known = ", ".join(str(one["index"]) for one in plan["replicas"])
    raise PlanError(
        [
            f"bench_replica: the run does not have replica {replica} whole (the cluster's are "
            f"{known}): widen -l to its hosts"
        ]
    )


def _check_gateway(plan: Plan) -> None:
    """See that the engine's client can ask the gateway.

    Raises:
        PlanError: There is none, or one whose certificate the client cannot know.
    """
    if not plan["gateway"]:
        raise PlanError(
            ["bench_through: the cluster has no gateway (muster_gateway_hosts): take replica"]
        )
    tls = plan["gateway"]["tls"]
    if tls and not tls["certificate"]:
        raise PlanError(
            [
                "bench_through: the engine's client does not know the certificate that the "
                "gateway's host has made: give one (muster_gateway_tls), or take replica"
            ]
        )


def client_of(
    plan: Plan, target: Target, image: str | None = None, texts: str | None = None
) -> Client:
    """Return how the client is run: as the engine is installed.

    Args:
        plan: The plan of one cluster.
        target: What is measured.
        image: Another image than the engine's.
        texts: A file with conversations on the client's node, from which SGLang's cuts prompts.
    """
    unit, name = target.unit, plan["deployment"]
    argv = unit["argv"]
    folder = folder_of(plan)
    program = [argv[0], "-m", "sglang.bench_serving"]
    if plan["engine"]["name"] != "sglang":
        program = [argv[0], "bench", "serve"]
    settings = [f"{key}={value}" for key, value in environment(plan, target).items()]
    if unit["install"] == "venv" and image is None:
        prefix = ["/usr/bin/setpriv", "--reuid", USER, "--regid", USER, "--init-groups"]
        prefix += ["/usr/bin/env", f"HOME={folder}/out", *settings]
        return Client(folder, prefix, program, f"{folder}/out", texts, None, None, USER)
    container = f"{PREFIX}bench-{name}"
    chosen = image or unit["image"]
    prefix = [DOCKER, "run", "--rm", "--init", "--name", container, "--network", "host"]
    prefix += ["--pull", "never", "--log-driver", "none", "--user", "0"]
    # As root without privileges; it reads weights of any owner and writes its result.
    prefix += ["--cap-drop", "ALL", "--cap-add", "DAC_OVERRIDE"]
    prefix += ["--security-opt", "no-new-privileges", "--env-file", f"{folder}/env"]
    for setting in settings:
        prefix += ["--env", setting]
    for mount in unit["mounts"]:
        source, inside, *mode = mount.split(":")
        if mode == ["ro"] or (not plan["model"]["path"] and inside.endswith("/.cache")):
            prefix += ["--mount", f"type=bind,source={source},target={inside},readonly"]
    authority = authority_of(plan, target)
    if authority:
        prefix += ["--mount", f"type=bind,source={authority},target={authority},readonly"]
    prefix += ["--mount", f"type=bind,source={folder}/out,target={INSIDE}"]
    if texts:
        prefix += ["--mount", f"type=bind,source={texts},target={TEXTS},readonly"]
    words = _entrypoint(plan, unit)
    prefix += ["--entrypoint", (words or program)[0], chosen, *words[1:]]
    program = program if words else program[1:]
    inside = TEXTS if texts else None
    return Client(folder, prefix, program, INSIDE, inside, container, chosen, None)


def folder_of(plan: Plan) -> str:
    """Return the folder on its host that a cluster's client runs in."""
    return f"{STATE_DIR}/bench/{plan['deployment']}"


def _entrypoint(plan: Plan, unit: Mapping[str, Any]) -> list[str]:
    """Return what stands before the engine in its container; SGLang's is for its key alone."""
    return [] if plan["engine"]["name"] == "sglang" else list(unit["container"]["entrypoint"])


def environment(plan: Plan, target: Target) -> dict[str, str]:
    """Return what a client's environment has, whichever client it is."""
    host = urllib.parse.urlsplit(target.url).hostname or ""
    # Docker hands a proxy on to containers, and the load is to go straight to the engine.
    env = {"PYTHONUNBUFFERED": "1", "NO_PROXY": host, "no_proxy": host}
    if plan["model"]["path"]:
        # The tokenizer is there, and a look at a hub would only be a wait.
        env.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    authority = authority_of(plan, target)
    if authority:
        # What aiohttp and what requests read.
        env.update(SSL_CERT_FILE=authority, REQUESTS_CA_BUNDLE=authority)
    return env


def authority_of(plan: Plan, target: Target) -> str | None:
    """Return the file on the node by which the client checks a gateway's certificate."""
    tls = plan["gateway"]["tls"] if target.through == "gateway" else None
    return tls["ca"] if tls else None


def command(
    plan: Plan,
    client: Client,
    target: Target,
    one: Scenario,
    seed: int,
    goodput: Mapping[str, float] | None = None,
) -> list[str]:
    """Return the client's whole command for one run of a scenario.

    Args:
        plan: The plan of one cluster.
        client: How the client is run.
        target: What is measured.
        one: The scenario.
        seed: What its prompts are drawn with.
        goodput: What a good request takes at most, in milliseconds by ttft, tpot and e2el. SGLang's
            client does not count them.
    """
    if plan["engine"]["name"] == "sglang":
        flags = _sglang(plan, client, target, one, seed)
    else:
        flags = _vllm(plan, client, target, one, seed)
        if goodput:
            flags += ["--goodput", *(f"{kind}:{limit:g}" for kind, limit in goodput.items())]
    return [*client.prefix, *client.program, *(str(word) for word in flags)]


def warm_up(one: Scenario) -> Scenario:
    """Return the load that goes before a scenario: as wide, with short answers of other prompts."""
    prompts = max(min(one.concurrency, one.prompts), one.prefixes)
    return one._replace(prompts=prompts, output=min(one.output, WARM_UP_TOKENS))


def _vllm(plan: Plan, client: Client, target: Target, one: Scenario, seed: int) -> list[Any]:
    """Return the flags of vllm bench serve; 0.12.0 to 0.32.0 take all of them."""
    flags: list[Any] = [
        *("--backend", "vllm"),
        *("--base-url", root_of(target.url)),
        *("--endpoint", "/v1/completions"),
        *model_of(plan, target),
        *("--dataset-name", one.dataset),
    ]
    if one.dataset == "prefix_repetition":
        flags += ["--prefix-repetition-prefix-len", one.prefix]
        flags += ["--prefix-repetition-suffix-len", one.input - one.prefix]
        flags += ["--prefix-repetition-output-len", one.output]
        flags += ["--prefix-repetition-num-prefixes", one.prefixes]
    else:
        flags += ["--random-input-len", one.input, "--random-output-len", one.output]
        flags += ["--random-range-ratio", "0.0"]
    flags += [*_load(one, seed), "--ignore-eos"]
    # Its look sends the first prompt, which the measured run would find in the cache.
    flags += ["--ready-check-timeout-sec", 0]
    flags += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", PERCENTILES]
    return [
        *flags,
        *("--save-result", "--result-dir", client.mount, "--result-filename", RESULT),
        *(["--trust-remote-code"] if "--trust-remote-code" in target.unit["argv"] else []),
    ]


def _sglang(plan: Plan, client: Client, target: Target, one: Scenario, seed: int) -> list[Any]:
    """Return the flags of sglang.bench_serving, which leaves the end of a text out of account."""
    # A gateway lets nothing but the OpenAI API through.
    backend = "sglang-oai" if target.through == "gateway" else "sglang"
    flags: list[Any] = [
        "--backend",
        backend,
        "--base-url",
        root_of(target.url),
        *model_of(plan, target),
    ]
    if one.dataset == "prefix_repetition":
        flags += ["--dataset-name", "generated-shared-prefix", "--gsp-num-groups", one.prefixes]
        flags += ["--gsp-prompts-per-group", one.requests // one.prefixes]
        flags += ["--gsp-system-prompt-len", one.prefix]
        flags += ["--gsp-question-len", one.input - one.prefix, "--gsp-output-len", one.output]
    else:
        # Its random takes words from ShareGPT, and fetches that from a hub where there is no file.
        flags += ["--dataset-name", "random" if client.texts else "random-ids"]
        flags += ["--dataset-path", client.texts] if client.texts else []
        flags += ["--random-input-len", one.input, "--random-output-len", one.output]
        flags += ["--random-range-ratio", "1.0" if one.lengths == "exact" else "0.0"]
    # Its warm-up sends the first prompt, which the measured run would find in the cache.
    flags += [*_load(one, seed), "--warmup-requests", 0]
    return [*flags, "--output-file", f"{client.mount}/{RESULT}"]


def model_of(plan: Plan, target: Target) -> list[str]:
    """Return the flags that name the model in the API and its tokenizer."""
    unit, engine = target.unit["argv"], plan["engine"]["name"]
    loaded = unit[unit.index("--model-path") + 1] if engine == "sglang" else unit[2]
    return ["--model", plan["endpoint"]["model"], "--tokenizer", plan["model"]["path"] or loaded]


def _load(one: Scenario, seed: int) -> list[Any]:
    return [
        *("--num-prompts", one.prompts),
        *("--max-concurrency", one.concurrency),
        *("--request-rate", "inf"),
        *("--seed", seed),
    ]


def root_of(url: str) -> str:
    """Return an API's address without the version, as clients take it."""
    return url.rstrip("/").removesuffix("/v1")


def digest(plan: Plan) -> str:
    """Return what tells two plans apart."""
    return "sha256:" + hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
