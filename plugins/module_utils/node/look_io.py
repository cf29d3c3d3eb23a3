# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What node_checks does on a node: the work of several check modules, side by side."""

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
# To listen, it forks, which is no good beside threads.
_FORKS = "port_check"


def options_of(name: str, given: Any) -> dict[str, Any]:
    """Return a module's options, as AnsibleModule would hand them to it.

    Raises:
        OptionError: It would not take them.
    """
    if not isinstance(given, dict):
        raise OptionError(f"checks: {name} has no options, but {given!r:.80}")
    one = LOOKS[name]()
    validator = ArgumentSpecValidator(one.ARGUMENT_SPEC, **getattr(one, "RULES", {}))
    result = validator.validate({key: said for key, said in given.items() if said is not None})
    if result.error_messages:
        raise OptionError(f"checks: {name}: {'; '.join(result.error_messages)}")
    options: dict[str, Any] = result.validated_parameters
    return options


def look(asked: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make all checks that are asked for.

    Args:
        asked: By module, its options; one whose options are None is not asked for.
        check_mode: Whether nothing may be started or ended.

    Raises:
        OptionError: There is no such module, or it would not take its options.
    """
    for name in asked:
        if name not in LOOKS:
            raise OptionError(f"checks: {name} is none of {', '.join(LOOKS)}")
    running, last = {}, {}
    with ThreadPoolExecutor(len(LOOKS)) as pool:
        for name in LOOKS:
            if asked.get(name) is None:
                continue
            # The first is under way while the code of the others is loaded.
            options = options_of(name, asked[name])
            if name == _FORKS and options.get("mode") == "listen":
                last[name] = options
            else:
                running[name] = pool.submit(_one, name, options, check_mode)
    results = {name: future.result() for name, future in running.items()}
    results.update((name, _one(name, options, check_mode)) for name, options in last.items())
    checks: list[Check] = []
    facts: dict[str, Any] = {}
    more: dict[str, Any] = {}
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
