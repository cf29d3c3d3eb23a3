# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What node_checks does on a node: checks, and looks at what would be changed, side by side."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    Check,
    OptionError,
    broken_check,
)
from ansible_collections.muster.serving.plugins.module_utils.common.states import State

# A module's code comes to the node without its compiled form: what is not asked for is not loaded.


def _host_look() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.host import look_io as host_look

    return host_look


def _nic_look() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.network import nic_io as nic_look

    return nic_look


def _npu_look() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
        look_io as npu_look,
    )

    return npu_look


def _gpu_look() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.devices.gpu import (
        look_io as gpu_look,
    )

    return gpu_look


def _port_look() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.network import (
        ports_io as port_look,
    )

    return port_look


# By the name of its module, what makes a check; what takes longest comes first.
LOOKS: dict[str, Callable[[], Any]] = {
    "npu_topology_check": _npu_look,
    "gpu_topology_check": _gpu_look,
    "host_check": _host_look,
    "nic_check": _nic_look,
    "port_check": _port_look,
}


def _tuning() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.host import tuning_io

    return tuning_io


def _firewall() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.network import firewall_io

    return firewall_io


def _docker() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.host import docker_io

    return docker_io


def _image() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.engine import image_io

    return image_io


def _venv() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.engine import venv_io

    return venv_io


def _units() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.units import look_io as unit_look

    return unit_look


def _address() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.units import gateway_address_io

    return gateway_address_io


def _access() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.units import gateway_access_io

    return gateway_access_io


def _verified() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.units import verified_io

    return verified_io


def _takeover() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.node import takeover_io

    return takeover_io


# What prepare, serve, verify and a takeover look after, by the names that a plan's stages have.
STATES: dict[str, Callable[[], Any]] = {
    "docker": _docker,
    "engine_image": _image,
    "gateway_image": _image,
    "engine_venv": _venv,
    "host_tuning": _tuning,
    "firewall": _firewall,
    "unit": _units,
    "gateway": _address,
    "gateway_access": _access,
    "verified": _verified,
    "takeover": _takeover,
}
# What it finds is no obstacle to the checks, so it is looked at before them.
_FIRST = "takeover"
# To listen, it forks, which is no good beside threads.
_FORKS = "port_check"


def options_of(where: str, name: str, given: Any) -> dict[str, Any]:
    """Return a module's options, as AnsibleModule would hand them to it.

    Args:
        where: The option of node_checks that they stand in: checks or states.
        name: A name of LOOKS or STATES.
        given: What stands there.

    Raises:
        OptionError: It would not take them.
    """
    if not isinstance(given, dict):
        raise OptionError(f"{where}: {name} has no options, but {given!r:.80}")
    one = (LOOKS if where == "checks" else STATES)[name]()
    spec = getattr(one, "STATE_SPEC", one.ARGUMENT_SPEC) if where == "states" else one.ARGUMENT_SPEC
    validator = ArgumentSpecValidator(spec, **getattr(one, "RULES", {}))
    result = validator.validate({key: said for key, said in given.items() if said is not None})
    if result.error_messages:
        raise OptionError(f"{where}: {name}: {'; '.join(result.error_messages)}")
    options: dict[str, Any] = result.validated_parameters
    return options


def look(
    asked: Mapping[str, Any], check_mode: bool, states: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Make all checks that are asked for, and look at all states.

    Args:
        asked: By module, its options; one whose options are None is not asked for.
        check_mode: Whether nothing may be started or ended.
        states: By a name of STATES, its options; one whose options are None is not asked for.

    Raises:
        OptionError: There is no such module or state, or it would not take its options.
    """
    states = {name: options for name, options in (states or {}).items() if options is not None}
    for where, names, table in (("checks", asked, LOOKS), ("states", states, STATES)):
        for name in names:
            if name not in table:
                raise OptionError(f"{where}: {name} is none of {', '.join(table)}")
    running, last, looking, stops = {}, {}, {}, []
    done: dict[str, State] = {}
    if _FIRST in states:
        done[_FIRST] = _state(_FIRST, options_of("states", _FIRST, states[_FIRST]))
        stops = done[_FIRST].seen.get("own_units", [])
    with ThreadPoolExecutor(len(LOOKS) + len(STATES)) as pool:
        for name in LOOKS:
            if asked.get(name) is None:
                continue
            # The first is under way while the code of the others is loaded.
            options = options_of("checks", name, asked[name])
            if stops and "own_units" in options:
                options["own_units"] = [*options["own_units"], *stops]
            if name == _FORKS and options.get("mode") == "listen":
                last[name] = options
            else:
                running[name] = pool.submit(_one, name, options, check_mode)
        for name, given in states.items():
            if name in done:
                continue
            looking[name] = pool.submit(_state, name, options_of("states", name, given))
    results = {name: future.result() for name, future in running.items()}
    results.update((name, _one(name, options, check_mode)) for name, options in last.items())
    checks: list[Check] = []
    facts: dict[str, Any] = {}
    more: dict[str, Any] = {"states": {}}
    done.update((name, future.result()) for name, future in looking.items())
    for name, state in done.items():
        more["states"][name] = {"differs": list(state.differs), **state.seen}
        checks += state.checks
        facts.update(state.facts)
    for result in results.values():
        checks += result.pop("checks")
        facts.update(result.pop("facts", {}))
        more.update(result)
    if "clock" in more:
        # What passes after it blurs by how much the node's clock is off.
        more["clock"]["ended"] = time.time()
    return {**more, "checks": checks, "facts": facts}


def _one(name: str, options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    try:
        result: dict[str, Any] = LOOKS[name]().look(options, check_mode)
    except OptionError as error:
        raise OptionError(f"checks: {name}: {error}") from error
    # Whatever it is, the other checks are worth having.
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return {"checks": [broken_check(name, text)]}
    return result


def _state(name: str, options: dict[str, Any]) -> State:
    try:
        state: State = STATES[name]().state(options)
    # What goes wrong here goes wrong in its stage, which says it with the remedy.
    except Exception as error:
        return State([f"it cannot be told: {type(error).__name__}: {error}"])
    return state
