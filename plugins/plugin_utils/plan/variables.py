# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory can set: one table, from which reading, checking and docs follow."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import (
    MAX_PORT,
    port_range,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.image import (
    ImageError,
    parse_reference,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker import REGISTRY
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.units import gateway_access
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import nearest, shown
from ansible_collections.muster.serving.plugins.plugin_utils.plan import addresses

PREFIX = "muster_"

# Statistics of a run, which a workflow of AWX gives to its next job as variables.
STATISTICS = (
    "muster_accuracy",
    "muster_bench",
    "muster_diagnose",
    "muster_endpoints",
    "muster_preflight",
    "muster_prepare",
    "muster_serve",
    "muster_soak",
    "muster_status",
    "muster_sweep",
    "muster_uninstall",
    "muster_verify",
)
# Names that are no settings. What playbooks register is among a host's variables in later plays.
REGISTERED = ("muster_plan", "muster_work", *STATISTICS)


class Variable(NamedTuple):
    """One variable of the inventory.

    where is cluster for what must be equal on all nodes of a cluster, node for what may
    differ, play for what only the controller reads.
    """

    name: str
    type: str
    where: str
    default: str
    doc: str


VARIABLES: tuple[Variable, ...] = (
    # Which
    Variable("muster_recipe", "str", "cluster", "", "The recipe to serve, `MODEL/PLATFORM`."),
    Variable("muster_variant", "str", "cluster", "the recipe's first", "A variant of the recipe."),
    Variable(
        "muster_recipes_path",
        "path or paths",
        "cluster",
        "",
        "Folders with own recipes, searched before those of the collection.",
    ),
    Variable(
        "muster_cluster",
        "str",
        "node",
        "the host's one group that sets muster_recipe",
        "The inventory group that is the cluster. Has to be said where several groups of a host "
        "set the recipe.",
    ),
    # Model and engine
    Variable(
        "muster_model_source",
        "local, modelscope or huggingface",
        "cluster",
        "local",
        "Where the engine gets the weights: from muster_model_path, or by itself from a hub.",
    ),
    Variable(
        "muster_model_revision",
        "revision",
        "cluster",
        "the recipe's",
        "The revision of the weights that a hub is asked for.",
    ),
    Variable(
        "muster_model_path",
        "path",
        "cluster",
        "",
        "The folder of the weights on every node. Needed unless the source is a hub.",
    ),
    Variable(
        "muster_draft_model_path",
        "path",
        "cluster",
        "",
        "The folder of the draft weights. Without it, speculative decoding stays off.",
    ),
    Variable(
        "muster_weights_hashes",
        "bool",
        "cluster",
        "false",
        "Whether preflight hashes all files of the weights and holds them to what is published. "
        "Takes minutes once, then is kept on the node.",
    ),
    Variable(
        "muster_npu_ping",
        "sampled, full or none",
        "cluster",
        "sampled",
        "Which NPUs preflight has ping each other between two nodes: those of one number from one "
        "side, each all of them, or none.",
    ),
    Variable(
        "muster_weights_gb",
        "float",
        "cluster",
        "the recipe's",
        "Device memory that other weights than the recipe's take, in GiB.",
    ),
    Variable(
        "muster_device_memory_gb",
        "device gb",
        "cluster",
        "the recipe's",
        "Memory of one device in GiB, where the nodes have other ones than the recipe says.",
    ),
    Variable(
        "muster_image",
        "image",
        "cluster",
        "the recipe's",
        "The container image, `NAME:TAG` or `NAME[:TAG]@sha256:DIGEST`.",
    ),
    Variable(
        "muster_engine_version",
        "str",
        "cluster",
        "the recipe's",
        "The version of the engine in the image. The plan renders what this version takes.",
    ),
    Variable(
        "muster_engine_version_unproven",
        "bool",
        "cluster",
        "false",
        "Accept an engine version for which the recipe does not hold; the plan warns of it.",
    ),
    Variable(
        "muster_install",
        "container or venv",
        "cluster",
        "container",
        "How the engine is installed, where the recipe leaves a choice.",
    ),
    Variable(
        "muster_wheel_channel",
        "str",
        "cluster",
        "the recipe's first",
        "Without a container: which of the recipe's sources of wheels, such as release or nightly.",
    ),
    Variable(
        "muster_wheel_requirements",
        "list of str",
        "cluster",
        "the channel's",
        "Without a container: the requirements to install, in place of the channel's.",
    ),
    Variable(
        "muster_wheel_index_urls",
        "list of str",
        "cluster",
        "the channel's",
        "Without a container: further package indexes, in place of the channel's.",
    ),
    Variable(
        "muster_wheel_dir",
        "path",
        "cluster",
        "",
        "Without a container: a folder of wheels on every node, asked in place of any index.",
    ),
    Variable(
        "muster_engine_args",
        "map of flags",
        "cluster",
        "{}",
        "Flags laid over the recipe's. null removes one; maps merge key by key.",
    ),
    Variable(
        "muster_engine_env",
        "map of str",
        "cluster",
        "{}",
        "Environment laid over the recipe's. null removes a variable.",
    ),
    Variable(
        "muster_engine_unchecked",
        "list of str",
        "cluster",
        "[]",
        "Names that Muster passes on unknown, or with any number or value: `flag`, `flag.key` or "
        "`ENV_NAME`.",
    ),
    Variable(
        "muster_served_model_name",
        "name",
        "cluster",
        "the recipe's",
        "The model's name in the API.",
    ),
    Variable("muster_port", "port", "cluster", "the recipe's", "The port of the API."),
    Variable(
        "muster_dp_rpc_port",
        "port",
        "cluster",
        "the recipe's",
        "The port on which a head of several nodes awaits its followers.",
    ),
    Variable(
        "muster_link_port",
        "port",
        "cluster",
        "muster_dp_rpc_port + 1",
        "The port on which the nodes of a replica tell each other of restarts.",
    ),
    Variable(
        "muster_hccl_base_port",
        "port",
        "cluster",
        "60000",
        "The first of the host ports that HCCL takes. A second deployment on a machine needs "
        "its own.",
    ),
    Variable(
        "muster_tool_calling",
        "bool",
        "cluster",
        "the recipe's",
        "Whether the endpoint takes tools.",
    ),
    Variable(
        "muster_deep_gemm",
        "bool",
        "cluster",
        "vLLM's own choice",
        "Whether vLLM on NVIDIA uses the DeepGEMM kernels: for everything, or for nothing.",
    ),
    Variable(
        "muster_reasoning_parser",
        "str or false",
        "cluster",
        "the recipe's",
        "The engine's reasoning parser; false for none.",
    ),
    Variable(
        "muster_profiler_dir",
        "path",
        "cluster",
        "",
        "A folder on the nodes for the engine's profiles. Unset, there is no profiler.",
    ),
    Variable(
        "muster_extra_mounts",
        "list of mounts",
        "cluster",
        "[]",
        "More mounts for the containers, `SRC:DST[:ro]`.",
    ),
    Variable(
        "muster_privileged",
        "bool",
        "cluster",
        "false",
        "Run containers with --privileged instead of the devices that they need.",
    ),
    Variable(
        "muster_api_key_file",
        "path",
        "cluster",
        "",
        "A file on the nodes that holds the key which the API asks for.",
    ),
    Variable(
        "muster_idle_devices",
        "bool",
        "cluster",
        "false",
        "Accept an engine that uses fewer devices than it is given.",
    ),
    # Shape
    Variable(
        "muster_replica_nodes",
        "count",
        "cluster",
        "the recipe's",
        "Nodes of one replica. More nodes than the recipe's give as many more ranks.",
    ),
    Variable(
        "muster_data_parallel",
        "internal or external",
        "cluster",
        "internal",
        "Data parallelism within one API (internal), or with a process and an API for each rank.",
    ),
    Variable(
        "muster_gateway_hosts",
        "list of str",
        "cluster",
        "[]",
        "Hosts of the cluster that run a gateway over all its APIs.",
    ),
    Variable("muster_gateway_port", "port", "cluster", "8080", "The port of the gateway."),
    Variable(
        "muster_gateway_balance",
        "least-outstanding or prefix-affine",
        "cluster",
        "least-outstanding",
        "Send a request where fewest are under way, or where its conversation's prefix is cached.",
    ),
    Variable(
        "muster_gateway_address",
        "ip",
        "cluster",
        "",
        "A free address of the cluster network that floats between two gateways.",
    ),
    Variable(
        "muster_gateway_router_id",
        "router id",
        "cluster",
        "51",
        "VRRP's number for the floating address, different for each on one network.",
    ),
    Variable(
        "muster_gateway_keys",
        "map of keys",
        "cluster",
        "",
        "By team its API key, or a list of them, from a vault; or the path of a file on the "
        "controller with that map.",
    ),
    Variable(
        "muster_gateway_tls",
        "map of TLS",
        "cluster",
        "",
        "The gateway's certificate, key, ca (files on its hosts) and name; {} for one that its "
        "host makes.",
    ),
    Variable(
        "muster_gateway_image",
        "image",
        "cluster",
        "HAProxy's own",
        "The gateway's container image.",
    ),
    Variable(
        "muster_known_answers",
        "bool",
        "cluster",
        "true",
        "Whether verify asks questions whose answers it knows.",
    ),
    Variable(
        "muster_verify_soak_s",
        "seconds or 0",
        "cluster",
        "the recipe's",
        "How long verify keeps a small load on a replica that the run has started, before it "
        "counts as verified; 0 for not at all.",
    ),
    # Node
    Variable(
        "muster_address",
        "ip",
        "node",
        "ansible_host or the inventory name, when that is an IP",
        "The node's address on the cluster network.",
    ),
    Variable(
        "muster_interface",
        "interface",
        "node",
        "",
        "The NIC that carries HCCL's host traffic. Needed where a replica has several nodes.",
    ),
    Variable(
        "muster_replica",
        "index",
        "node",
        "by inventory order",
        "The replica, from 0, that the node stays in when other nodes come or go.",
    ),
    Variable(
        "muster_devices",
        "list of int",
        "node",
        "all",
        "The devices of the node that the deployment uses.",
    ),
    Variable(
        "muster_node",
        "str",
        "node",
        "the inventory name",
        "The machine. Inventory names with the same one share its devices and ports.",
    ),
    # Preparation
    Variable(
        "muster_host_tuning",
        "map of tuning",
        "cluster",
        "the recipe's",
        "Changes to cpu_governor, sysctl (a map), sched_migration_cost_ns and reserved_ports (a "
        "list of ranges). null leaves one alone.",
    ),
    Variable(
        "muster_registry_mirrors",
        "list of mirrors",
        "cluster",
        "[]",
        "URLs of mirrors that the container engine asks first.",
    ),
    Variable(
        "muster_insecure_registries",
        "list of registries",
        "cluster",
        "[]",
        "Registries, HOST:PORT, that speak plain HTTP or have an unknown certificate.",
    ),
    Variable(
        "muster_registry_ca",
        "map of registries",
        "cluster",
        "{}",
        "By registry, the file on the controller with its CA certificate.",
    ),
    Variable(
        "muster_proxy",
        "map of proxies",
        "cluster",
        "{}",
        "http, https and no_proxy of the container engine.",
    ),
    Variable(
        "muster_firewall",
        "map of the firewall",
        "cluster",
        "off",
        "Closes the nodes to all but each other, where `enabled` is true: `api_sources` (required) "
        "reach the API, `internal_sources` everything, and `also_allowed` names ports that stay as "
        "they are. `close_others: true` closes what else listens. See [the firewall](firewall.md).",
    ),
    # Operation
    Variable(
        "muster_drain_s",
        "seconds up to 600",
        "cluster",
        "30",
        "How long an engine that is stopped may go on with the requests that it has: vLLM from "
        "0.18 on (`--shutdown-timeout`), and SGLang. It takes no new ones. 0 cuts them off.",
    ),
    Variable(
        "muster_redeal",
        "bool",
        "cluster",
        "false",
        "Whether nodes that are stopped may go from one replica to another.",
    ),
    Variable(
        "muster_restart",
        "now, stage or never",
        "cluster",
        "now",
        "What site.yml may do to a running replica whose configuration changed.",
    ),
    Variable(
        "muster_stall_patience_s",
        "seconds",
        "cluster",
        "120",
        "How long an engine with work may yield no token before its replica restarts. Longer than "
        "its longest single step: the first token of a request, where prefills are not chunked. "
        "A change restarts no engine.",
    ),
    Variable(
        "muster_waivers",
        "list of waivers",
        "node",
        "[]",
        "Failed checks to accept: maps of `check`, `reason` and `until` (a date).",
    ),
    Variable(
        "muster_output_dir",
        "str",
        "play",
        "./muster-output/CLUSTER",
        "The folder on the controller for reports.",
    ),
)

_BY_NAME = {variable.name: variable for variable in VARIABLES}
_SQUEEZED = {re.sub(r"[_-]", "", name): name for name in _BY_NAME}
# More than the largest device has; a larger number is one of MB.
_MOST_DEVICE_GB = 1024
# What the kernel gives to connections that go out (net.ipv4.ip_local_port_range), and how many of
# these a node cannot do without.
_EPHEMERAL = frozenset(range(32768, 61000))
_LEAST_EPHEMERAL = 4096
_PROXY = ("http", "https", "no_proxy")
_TLS = ("certificate", "key", "ca", "name")
_HOST_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
# Of those that are tuned for inference, what the kernel takes.
_SYSCTLS = {
    "kernel.numa_balancing": (0, 3),
    "vm.overcommit_memory": (0, 2),
    "vm.swappiness": (0, 200),
    "vm.zone_reclaim_mode": (0, 7),
}
_PATH = re.compile(r"/[^:$`\x00-\x1f\x7f]*")
# What the kernel takes as an interface name, without what HCCL and NCCL read as more than one.
_INTERFACE = re.compile(r"(?!\.{1,2}$)[^\s/:,=^\x00-\x1f\x7f]{1,15}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Inside(ValueError):
    """What is wrong with a part of a value, as a whole message."""


def _need(right: bool, what: str) -> None:
    """Refuse a value that is not what its variable has to be."""
    if not right:
        raise ValueError(what)


def _need_inside(right: bool, text: str) -> None:
    """Refuse a part of a value."""
    if not right:
        raise Inside(text)


def _as_text(value: Any) -> str:
    """Return a hint for what YAML has read as something else than text."""
    if isinstance(value, bool):
        return "; YAML reads a bare yes, no, on and off as true and false: put it in quotes"
    return "; put it in quotes" if isinstance(value, (int, float)) else ""


def _as_json(value: Any) -> str:
    """Return a hint for what -e NAME=VALUE has given as text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        return """; with -e, give the whole as JSON: -e '{"NAME": VALUE}'"""
    return ""


def _str(value: Any) -> Any:
    right = isinstance(value, str) and value != "" and not _CONTROL.search(value)
    _need(right, "a line of text" + _as_text(value))
    # To who reads it, it would be another text, and look the same.
    _need(value == value.strip(), "a line of text with no space at its beginning or end")
    return value


def _api_name(value: Any) -> Any:
    text = str(value)
    right = text == text.strip() and not text.startswith("-")
    _need(right, "a line of text that begins with no hyphen and no space, and ends with none")
    return _str(value)


def _revision(value: Any) -> Any:
    right = not str(value).startswith("-") and not re.search(r"\s", str(value))
    _need(right, "a branch, tag or commit, without spaces and without a hyphen before it")
    return _str(value)


def _int(value: Any) -> Any:
    # -e NAME=VALUE gives text. YAML makes text of 080 as well, and another number of 0600.
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,8}", value):
        return int(value)
    _need(isinstance(value, int) and not isinstance(value, bool), "a whole number")
    return value


def _between(first: int, last: int, what: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        with contextlib.suppress(ValueError):
            if first <= _int(value) <= last:
                return _int(value)
        raise ValueError(what)

    return convert


def _float(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        value = float(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _need(number and 0 < value < 1e9, "a number above 0")
    return value


def _device_gb(value: Any) -> Any:
    what = f"GB of one device, above 0 and at most {_MOST_DEVICE_GB}"
    with contextlib.suppress(ValueError):
        if _float(value) <= _MOST_DEVICE_GB:
            return _float(value)
    raise ValueError(what)


def _bool(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("true", "yes", "false", "no"):
        return value.lower() in ("true", "yes")
    _need(isinstance(value, bool), "true or false")
    return value


def _ip(value: Any) -> Any:
    address = addresses.ip_or_none(value)
    if address is None:
        raise ValueError("an IP address")
    why = addresses.unfit(address)
    _need(why is None, f"an IP address that a node can have ({why})")
    return address


def _image(value: Any) -> Any:
    what = "NAME:TAG or NAME[:TAG]@sha256: and 64 hex digits, as in registry.lan:5000/name:tag"
    with contextlib.suppress(ValueError, ImageError):
        reference = parse_reference(_str(value))
        port = re.search(r":([0-9]+)$", reference.registry)
        # Without a tag it would be whatever is the latest on that day.
        tagged = "@" in value or ":" in value.rpartition("/")[2]
        if tagged and (not port or 0 < int(port[1]) <= MAX_PORT):
            return value
    raise ValueError(what)


def _map(value: Any) -> Any:
    right = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    _need(right, "a map with names as its keys" + _as_json(value))
    return value


def _map_of_str(value: Any) -> Any:
    for key, item in _map(value).items():
        if item is None:
            continue
        # A text may be a secret, a number is none.
        said = "" if isinstance(item, (str, dict, list)) else f", not {shown(item)}"
        _need_inside(isinstance(item, str), f"{key} has to be text in quotes, or null{said}")
        _need_inside(not re.search(r"[\x00\r\n]", item), f"{key} has to be one line of text")
    return value


def _registry(text: str) -> bool:
    """Tell whether a text is HOST or HOST:PORT."""
    port = re.search(r":([0-9]+)$", text)
    return re.fullmatch(REGISTRY, text) is not None and (not port or 0 < int(port[1]) <= MAX_PORT)


def _mirror(value: Any) -> Any:
    text = _str(value)
    scheme, _colon, rest = text.partition("://")
    _need(scheme in ("http", "https") and _registry(rest.removesuffix("/")), "")
    return text


def _insecure(value: Any) -> Any:
    text = _str(value)
    if "/" in text:
        ipaddress.ip_network(text)
    else:
        _need(_registry(text), "")
    return text


def _authorities(value: Any) -> Any:
    for registry in _map_of_str(value):
        _need_inside(_registry(registry), f"{registry!r} has to be a registry, HOST or HOST:PORT")
    return value


def _team_keys(value: Any) -> Any:
    if isinstance(value, str):
        # Whether it is there, and whose to read, is seen where it is read.
        _need_inside(value.strip() != "" and "\n" not in value, "an empty path names no file")
        return value
    # No word of the value is repeated: it is all keys.
    _need_inside(isinstance(value, dict), "it has to be a map of teams to keys, or a path")
    team_digests(value)
    return value


def team_digests(keys: Mapping[Any, Any]) -> dict[str, str]:
    """Return the SHA-256 of each key with its team.

    Args:
        keys: By team its key, or a list of them.

    Raises:
        Inside: They cannot be used; the text names the team and never shows a key.
    """
    teams: dict[str, str] = {}
    for team, said in keys.items():
        right = isinstance(team, str) and re.fullmatch(gateway_access.TEAM, team) is not None
        _need_inside(right, "a team's name has to be letters, digits, '.', '_' and '-'")
        _need_inside(team != gateway_access.OWN_TEAM, f"{team} is Muster's own: rename the team")
        several = said if isinstance(said, list) else [said]
        _need_inside(len(several) > 0, f"{team} has no key: leave the team out to refuse it")
        for key in several:
            _need_inside(
                isinstance(key, str) and re.fullmatch(r"[!-~]{16,512}", key) is not None,
                f"a key of {team} has to be 16 to 512 characters without spaces, as of: openssl "
                "rand -hex 24",
            )
            digest = hashlib.sha256(key.encode()).hexdigest()
            other = teams.setdefault(digest, team)
            _need_inside(other == team, f"{other} and {team} have the same key")
    return teams


def _gateway_tls(value: Any) -> Any:
    for name, item in _map(value).items():
        _need_inside(name in _TLS, f"{name} is unknown in it: known: {', '.join(_TLS)}")
        if name == "name":
            host = isinstance(item, str) and re.fullmatch(_HOST_NAME, item) is not None
            right = host or addresses.ip_or_none(item) is not None
            _need_inside(right, f"name has to be that of a host, or an address, not {shown(item)}")
        else:
            try:
                _path(item)
            except ValueError as wrong:
                raise Inside(f"{name} has to be {wrong}") from None
    both = ("certificate" in value) == ("key" in value)
    _need_inside(both, "certificate and key go together")
    _need_inside("ca" not in value or "key" in value, "ca is that of a certificate that is given")
    return value


def _proxy(value: Any) -> Any:
    for name, item in _map_of_str(value).items():
        _need_inside(name in _PROXY, f"{name} is unknown in it: known: {', '.join(_PROXY)}")
        if item and name != "no_proxy":
            address = re.sub(r"^(?:(?:https?|socks5h?)://)?(?:[^\s/@]+@)?", "", item)
            _need_inside(
                _registry(address.removesuffix("/")),
                f"{name} has to be the URL of a proxy, as in http://proxy.lan:3128",
            )
    return value


def _parser(value: Any) -> Any:
    if value is not False:
        with contextlib.suppress(ValueError):
            return _str(value)
        raise ValueError("the name of a parser, or false")
    return value


def _waivers(value: Any) -> Any:
    what = "a list of maps with check, reason and until (YYYY-MM-DD)"
    _need(isinstance(value, list), what + _as_json(value))
    for item in value:
        _need(isinstance(item, dict) and set(item) == {"check", "reason", "until"}, what)
        _need(all(isinstance(text, str) and text.strip() for text in item.values()), what)
        _need_inside(_is_date(item["until"]), f"until has to be YYYY-MM-DD, not {item['until']!r}")
        name = item["check"]
        _need_inside(name in CHECKS, f"there is no check {name}: {nearest(name, CHECKS)}")
    return value


def _is_date(value: str) -> bool:
    with contextlib.suppress(ValueError):
        return datetime.date.fromisoformat(value).isoformat() == value
    return False


def _host_tuning(value: Any) -> Any:
    for name, item in _map(value).items():
        _need_inside(name in _TUNING, f"{name} is unknown in it: {nearest(name, _TUNING)}")
        if item is not None:
            _TUNING[name](item)
    return value


def _governor(value: Any) -> None:
    right = isinstance(value, str) and re.fullmatch(r"[a-z_]{1,32}", value) is not None
    _need_inside(
        right,
        "cpu_governor has to be the name of a governor in small letters, such as performance, not "
        f"{shown(value)}",
    )


def _sysctl(value: Any) -> None:
    _need_inside(isinstance(value, dict), "sysctl has to be a map of names to values")
    for name, item in value.items():
        right = isinstance(name, str) and re.fullmatch(r"[a-z0-9_./-]+", name) is not None
        _need_inside(right, f"{name!r} is no sysctl")
        text = isinstance(item, str) and item != "" and not _CONTROL.search(item)
        number = isinstance(item, int) and not isinstance(item, bool)
        _need_inside(
            item is None or text or number,
            f"sysctl.{name} has to be a number, text or null, not {shown(item)}",
        )
        first, last = _SYSCTLS.get(name, (None, None))
        if first is not None and last is not None and item is not None:
            plain = re.fullmatch(r"-?[0-9]{1,9}", str(item))
            _need_inside(
                plain is not None and first <= int(item) <= last,
                f"sysctl.{name} has to be {first} to {last}, not {item}",
            )


def _cost(value: Any) -> None:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    _need_inside(right, f"sched_migration_cost_ns has to be a whole number, not {shown(value)}")


def _port_ranges(value: Any) -> None:
    what = f'reserved_ports has to be a list of "FIRST-LAST", not {shown(value)}'
    _need_inside(isinstance(value, list), what)
    for item in value:
        right = isinstance(item, str) and "-" in item and port_range(item) is not None
        _need_inside(right, what)
    reserved = {port for item in value for port in port_range(item) or ()}
    _need_inside(
        len(_EPHEMERAL - reserved) >= _LEAST_EPHEMERAL,
        f"reserved_ports leaves the node fewer than {_LEAST_EPHEMERAL} of the ports "
        f"{min(_EPHEMERAL)}-{max(_EPHEMERAL)} for connections that go out",
    )


_TUNING: dict[str, Callable[[Any], None]] = {
    "cpu_governor": _governor,
    "sysctl": _sysctl,
    "sched_migration_cost_ns": _cost,
    "reserved_ports": _port_ranges,
}


_FIREWALL = ("enabled", "api_sources", "internal_sources", "also_allowed", "close_others")


def _firewall(value: Any) -> Any:
    """Return the firewall that is asked for, with its defaults; of one that is off, only that."""
    for name in _map(value):
        _need_inside(name in _FIREWALL, f"{name} is unknown in it: {nearest(name, _FIREWALL)}")
    said = {name: item for name, item in value.items() if item is not None}
    switches = {}
    for name in ("enabled", "close_others"):
        try:
            switches[name] = _bool(said.get(name, False))
        except ValueError as expected:
            raise Inside(f"{name} has to be {expected}, not {shown(said[name])}") from None
    _need_inside("enabled" in said, "enabled has to be said: true or false")
    lists = {name: said.get(name, []) for name in _FIREWALL if name not in switches}
    for name, items in lists.items():
        _need_inside(isinstance(items, list), f"{name} has to be a list, not {shown(items)}")
    try:
        for name in ("api_sources", "internal_sources"):
            lists[name] = [str(one) for one in firewall.networks(name, lists[name])]
        lists["also_allowed"] = [str(one) for one in lists["also_allowed"]]
        firewall.allowed(lists["also_allowed"])
    except firewall.FirewallError as wrong:
        raise Inside(str(wrong)) from None
    if not switches["enabled"]:
        return {"enabled": False}
    _need_inside(
        bool(lists["api_sources"]),
        "api_sources has to name who reaches the API, such as [10.2.0.0/16]; everybody is "
        "[0.0.0.0/0, ::/0]",
    )
    return {**switches, **lists}


def _path(value: Any) -> Any:
    # Nothing expands a variable in it, and where .. leads is not seen from here.
    right = isinstance(value, str) and _PATH.fullmatch(value) and ".." not in value.split("/")
    _need(bool(right), "an absolute path without a colon, a $ or ..")
    _need(value == value.rstrip(), "an absolute path with no space at its end")
    return "/" + posixpath.normpath(value).lstrip("/")


def _mount(value: Any) -> Any:
    _need(isinstance(value, str), "")
    source, _colon, rest = value.partition(":")
    target, colon, mode = rest.partition(":")
    _need(mode == "ro" or not colon, "")
    return f"{_path(source)}:{_path(target)}{colon}{mode}"


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        _need(isinstance(value, str) and pattern.fullmatch(value) is not None, what)
        return value

    return convert


def _list_of(convert: Callable[[Any], Any], what: str) -> Callable[[Any], Any]:
    def convert_all(value: Any) -> Any:
        _need(isinstance(value, list), what + _as_json(value))
        with contextlib.suppress(ValueError):
            return [convert(item) for item in value]
        raise ValueError(what)

    return convert_all


def _choice(*words: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        _need(value in words, "one of " + ", ".join(words) + _as_text(value))
        return value

    return convert


def _paths(value: Any) -> Any:
    convert = _list_of(_str, "a path or a list of paths")
    return convert([value] if isinstance(value, str) else value)


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "str": _str,
    "int": _int,
    "name": _api_name,
    "revision": _revision,
    "float": _float,
    "device gb": _device_gb,
    "count": _between(1, 1024, "a whole number from 1"),
    "index": _between(0, 1023, "a whole number from 0"),
    "router id": _between(1, 255, "a number from 1 to 255"),
    "port": _between(1, 65535, "a port, 1 to 65535"),
    "seconds": _between(10, 86400, "seconds, 10 to 86400"),
    "seconds up to 600": _between(0, 600, "seconds, 0 to 600"),
    "seconds or 0": _between(0, 86400, "seconds, 0 to 86400"),
    "bool": _bool,
    "ip": _ip,
    "image": _image,
    "path": _path,
    "path or paths": _paths,
    "interface": _matching(_INTERFACE, "the name of one network interface, at most 15 characters"),
    "map": _map,
    "map of flags": _map,
    "map of the firewall": _firewall,
    "map of tuning": _host_tuning,
    "map of str": _map_of_str,
    "map of registries": _authorities,
    "map of proxies": _proxy,
    "map of keys": _team_keys,
    "map of TLS": _gateway_tls,
    "list of mirrors": _list_of(_mirror, "a list of http[s]://HOST[:PORT] without path or user"),
    "list of registries": _list_of(
        _insecure, "a list of HOST[:PORT] or networks, without http:// and path"
    ),
    "list of str": _list_of(_str, "a list of text"),
    "list of int": _list_of(_int, "a list of whole numbers"),
    "list of mounts": _list_of(_mount, "a list of SRC:DST or SRC:DST:ro, of absolute paths"),
    "list of waivers": _waivers,
    "str or false": _parser,
    "local, modelscope or huggingface": _choice("local", "modelscope", "huggingface"),
    "container or venv": _choice("container", "venv"),
    "internal or external": _choice("internal", "external"),
    "least-outstanding or prefix-affine": _choice("least-outstanding", "prefix-affine"),
    "sampled, full or none": _choice("sampled", "full", "none"),
    "now, stage or never": _choice("now", "stage", "never"),
}


class Unreadable(str):
    """In place of a value whose template failed: the reason."""


class Settings(NamedTuple):
    """What one host's variables say, and what is wrong with them."""

    values: dict[str, Any]
    wrong: list[str]
    errors: list[str]


def concerns(name: str) -> bool:
    """Tell whether a variable is one of Muster's, or one in another spelling."""
    return name.startswith(PREFIX) or _squeezed(name) in _SQUEEZED


def _squeezed(name: str) -> str:
    return re.sub(r"[_-]", "", name).lower()


def read_settings(host: str, hostvars: Mapping[str, Any]) -> Settings:
    """Check and convert a host's muster_* variables; unset ones and nulls are left out."""
    settings = Settings({}, [], [])
    for name in sorted(key for key in hostvars if isinstance(key, str) and concerns(key)):
        value = hostvars[name]
        if name in REGISTERED or (name in _BY_NAME and value is None):
            continue
        if name not in _BY_NAME:
            meant = _SQUEEZED.get(_squeezed(name))
            close = f"did you mean {meant}?" if meant else nearest(name, _BY_NAME)
            settings.errors.append(f"{host}: {name} is unknown: {close}")
            continue
        if isinstance(value, Unreadable):
            settings.wrong.append(name)
            settings.errors.append(f"{host}: {name} cannot be evaluated: {value}")
            continue
        try:
            settings.values[name] = _CONVERT[_BY_NAME[name].type](value)
        except Inside as wrong:
            settings.wrong.append(name)
            settings.errors.append(f"{host}: {name}: {wrong}")
        except ValueError as expected:
            settings.wrong.append(name)
            what, _semicolon, hint = str(expected).partition("; ")
            hint = f"; {hint.replace('NAME', name)}" if hint else ""
            settings.errors.append(f"{host}: {name} has to be {what}, not {shown(value)}{hint}")
    return settings


def cluster_wide() -> list[str]:
    """Return the names that have to be equal on all nodes of a cluster."""
    return [variable.name for variable in VARIABLES if variable.where == "cluster"]


def reference() -> str:
    """Return the table of all variables, as the docs have it."""
    rows = [
        "| variable | type | same on all nodes | default | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for variable in VARIABLES:
        equal = "yes" if variable.where == "cluster" else ""
        cells = (f"`{variable.name}`", variable.type, equal, variable.default, variable.doc)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
