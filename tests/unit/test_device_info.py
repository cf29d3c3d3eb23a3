"""The one module that looks at devices, whoever made them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.muster.serving.plugins.action import device_info
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS

FOUND = {
    "devices": [{"device_id": 0, "name": "one"}],
    "version": "1.2",
    "topology": None,
    "problems": ["GPU 0: no power draw told"],
}


def asked(vendor: str, answer: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The modules that were called on the node, and the task's result."""
    called: list[str] = []

    def execute(module_name: str, **_args: Any) -> dict[str, Any]:
        called.append(module_name)
        return answer

    action = device_info.ActionModule.__new__(device_info.ActionModule)
    action._task = SimpleNamespace(args={"vendor": vendor}, check_mode=False, async_val=0)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action._execute_module = execute
    return called, action.run(task_vars={})


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_vendor_has_a_module_whose_answer_is_cut_to_what_all_have(vendor: str) -> None:
    called, result = asked(vendor, {**FOUND, "changed": False, "cuda_version": "13.0"})
    assert called == [f"muster.serving.{VENDORS[vendor].info_module}"]
    assert result == {**FOUND, "changed": False}


@pytest.mark.parametrize("state", ["failed", "unreachable"])
def test_a_node_that_cannot_say_has_no_devices(state: str) -> None:
    _called, result = asked("amd", {state: True, "msg": "no Python"})
    assert result[state]
    assert result["msg"] == "no Python"
    assert "devices" not in result


def test_a_vendor_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(AnsibleActionFail, match="vendor: 'nvidea': did you mean nvidia"):
        asked("nvidea", FOUND)
