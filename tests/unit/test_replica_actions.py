"""The two actions over whole plays: hosts of several replicas and gateways, each a thread."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible_collections.muster.serving.plugins.action import replica_decision, replica_wait
from ansible_collections.muster.serving.plugins.plugin_utils.replica import waiting

CONNECTION = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))


def unit(host: str, group: str = "replica-0", rank: int = 0, **changes: Any) -> dict[str, Any]:
    kind, _hyphen, index = group.partition("-")
    name = f"c-gateway{index}" if kind == "gateway" else f"c-r{index}-rank{rank}"
    return {
        "name": name,
        "systemd_unit": f"muster-{name}.service",
        "host": host,
        "group": group,
        "start_timeout_s": 60,
        "api_url": "http://192.0.2.1:8000/v1",
        **changes,
    }


def report(one: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": one["name"],
        "group": one["group"],
        "installed": True,
        "differences": [],
        "active_state": "active",
        "sub_state": "running",
        "result": "success",
        "exit_status": "0",
        "restarts": 0,
        "ready": True,
        "ended": False,
        "first_start": None,
        "invocation_id": "1",
        "log": ["the last line"],
        **changes,
    }


NOT_INSTALLED = {"installed": False, "active_state": "inactive", "ready": False}
ENDED = {"ended": True, "ready": False, "sub_state": "auto-restart", "exit_status": "1"}
LOADING = {"ready": False}


def task(check_mode: bool = False, **args: Any) -> Any:
    return SimpleNamespace(args=args, check_mode=check_mode, async_val=0, _uuid="task")


def decide(
    host: str,
    units: list[dict[str, Any]],
    states: dict[str, dict[str, Any]] | None = None,
    gone: str = "",
    check_mode: bool = False,
    orphans: list[str] | None = None,
    running: list[str] | None = None,
    planned_links: dict[str, list[dict[str, Any]]] | None = None,
    of_stages: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """What the decision of a host is, when unit_info found the units in these states."""
    hosts = sorted({one["host"] for one in units})
    found = {
        name: {
            "seen": {
                "units": [
                    report(one, **(states or {}).get(one["name"], {}))
                    for one in units
                    if one["host"] == name
                ],
                "orphans": (orphans or []) if name == host else [],
                "installed": {"running": running or []},
                "planned_links": (planned_links or {}).get(name, []),
            }
        }
        for name in hosts
    }
    if of_stages:
        found = {name: {"seen": {"states": {"unit": one["seen"]}}} for name, one in found.items()}
    links = [
        {"name": f"link-{group}", "host": name, "group": group, "systemd_unit": f"link-{group}"}
        for group, name in {(one["group"], one["host"]) for one in units}
        if group.startswith("replica")
    ]
    action = replica_decision.ActionModule.__new__(replica_decision.ActionModule)
    plan = {"deployment": "c", "units": units, "links": links, **more}
    action._task = task(check_mode, plan=plan, results="seen")
    action._connection = CONNECTION
    return action.run(
        task_vars={
            "inventory_hostname": host,
            "hostvars": found,
            "ansible_play_hosts": [name for name in hosts if name != gone],
        }
    )


def names(units: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in units]


PAIR = [unit("n0"), unit("n1", rank=1)]
RANKS = [unit("n0", rank=rank) for rank in range(3)]


def test_every_unit_of_a_host_starts_when_one_of_its_replica_must() -> None:
    verdict = decide("n0", RANKS, {"c-r0-rank2": NOT_INSTALLED})
    assert names(verdict["start_units"]) == ["c-r0-rank0", "c-r0-rank1", "c-r0-rank2"]
    assert names(verdict["start_links"]) == ["link-replica-0"]
    assert verdict["wait"]


@pytest.mark.parametrize(
    ("running", "stops"),
    [
        ([], False),
        (["muster-c-r0-rank1.service"], True),
        # An agent would take the start for a fault of its replica.
        (["link-replica-0"], True),
        (["muster-c-r1-rank0.service"], False),
        (["muster-c-old.service"], True),
    ],
)
def test_what_rests_is_not_stopped_before_it_starts(running: list[str], stops: bool) -> None:
    down = {one["name"]: NOT_INSTALLED for one in RANKS}
    verdict = decide("n0", RANKS, down, running=running, orphans=["c-old"])
    assert (verdict["start"], verdict["stop"]) == (True, stops)


def test_a_look_of_all_stages_tells_of_the_units_as_well() -> None:
    down = {one["name"]: NOT_INSTALLED for one in PAIR}
    asked = decide("n0", PAIR, down)
    looked = decide("n0", PAIR, down, of_stages=True)
    assert looked == asked
    assert looked["start"]


def link(start_id: str, *differences: str) -> list[dict[str, Any]]:
    return [{"name": "link-replica-0", "start_id": start_id, "differences": [*differences]}]


@pytest.mark.parametrize(
    ("own", "other", "start_ids"),
    [
        (link("a", "has other settings"), link("a"), ["a"]),
        (link("a"), link("a", "has other settings"), []),
        # Of the start that its peers know; where none does, a new one.
        (link("", "is not installed"), link("b"), ["b"]),
        (link("", "is not installed"), link("", "is not installed"), ["task"]),
    ],
)
def test_a_link_that_differs_is_renewed_while_its_replica_runs_on(
    own: list[dict[str, Any]], other: list[dict[str, Any]], start_ids: list[str]
) -> None:
    told = {"n0": own, "n1": other}
    verdict = decide("n0", PAIR, planned_links=told)
    assert not verdict["start"]
    assert [one["start_id"] for one in verdict["stale_links"]] == start_ids
    # With the replica it is written anyway, or left as it is.
    changed = {"c-r0-rank1": {"differences": [{"name": "a", "current": "1", "desired": "2"}]}}
    for restart in ("now", "never"):
        verdict = decide("n0", PAIR, changed, planned_links=told, restart=restart)
        assert verdict["stale_links"] == []


def test_a_gateway_beside_a_rank_starts_alone() -> None:
    units = [*PAIR, unit("n0", "gateway-0")]
    verdict = decide("n0", units, {"c-gateway0": NOT_INSTALLED})
    assert names(verdict["start_units"]) == ["c-gateway0"]
    assert verdict["start_links"] == []
    assert verdict["hosts"] == {"gateway-0": ["n0"], "replica-0": ["n0", "n1"]}
    assert not decide("n1", units, {"c-gateway0": NOT_INSTALLED})["start"]


def test_ranks_start_beside_a_gateway_that_stays() -> None:
    units = [*PAIR, unit("n0", "gateway-0")]
    verdict = decide("n0", units, {"c-r0-rank1": {"active_state": "failed"}, "c-gateway0": {}})
    assert names(verdict["start_units"]) == ["c-r0-rank0"]
    assert set(verdict["restarts_before"]) == {"c-gateway0"}


def test_a_gateway_does_not_wait_for_a_host_of_a_replica() -> None:
    units = [*PAIR, unit("n2", "gateway-0")]
    assert not decide("n2", units, gone="n1")["start"]
    with pytest.raises(AnsibleActionFail, match="n1 left the play"):
        decide("n0", units, gone="n1")


@pytest.mark.parametrize("check_mode", [False, True])
def test_why_a_replica_restarts_is_said_once_before_anything_stops(
    monkeypatch: pytest.MonkeyPatch, check_mode: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(replica_decision, "show", said.append)
    key = {"name": "secret VLLM_API_KEY", "current": "<secret>", "desired": "<another secret>"}
    rows = [{"name": "image", "current": "a", "desired": "b"}, key]
    states = {"c-r0-rank0": {"differences": rows}, "c-r0-rank1": {"differences": rows[:1]}}
    decide("n0", PAIR, states, check_mode=check_mode)
    assert said == [
        "replica 0 of c restarts on n0, n1:",
        "  c-r0-rank0, c-r0-rank1: image a -> b",
        "  c-r0-rank0: secret VLLM_API_KEY <secret> -> <another secret>",
    ]
    decide("n1", PAIR, states)
    assert len(said) == 3, "one host speaks for the replica"


def test_a_first_start_is_none_and_what_goes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(replica_decision, "show", said.append)
    decide("n0", [unit("n0")], {"c-r0-rank0": NOT_INSTALLED}, orphans=["c-gateway7"])
    assert said == [
        "replica 0 of c starts on n0:",
        "  c-r0-rank0 is not installed on n0",
        "c-gateway7 on n0 is removed: it is no longer planned",
    ]
    decide("n0", PAIR)
    assert len(said) == 3, "what runs as planned is not spoken of"


OTHER = {"differences": [{"name": "image", "current": "a", "desired": "b"}]}


@pytest.mark.parametrize(("restart", "read"), [("stage", ["c-r0-rank0"]), ("never", [])])
def test_a_running_replica_stays_and_only_stage_reads_its_command_lines(
    monkeypatch: pytest.MonkeyPatch, restart: str, read: list[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(replica_decision, "display", SimpleNamespace(warning=said.append))
    verdict = decide("n0", PAIR, {"c-r0-rank1": OTHER}, restart=restart)
    assert (verdict["start"], verdict["wait"], verdict["stays"]) == (False, False, ["replica-0"])
    assert (names(verdict["read_units"]), verdict["start_units"]) == (read, [])
    assert "c-r0-rank1: image a -> b" in said[0]
    assert "playbooks/serve.yml -l c -e muster_restart=now" in said[0]
    decide("n1", PAIR, {"c-r0-rank1": OTHER}, restart=restart)
    assert len(said) == 1, "one host speaks for the replica"


def test_a_gateway_starts_beside_a_replica_that_stays() -> None:
    units = [*PAIR, unit("n0", "gateway-0")]
    states = {"c-r0-rank1": OTHER, "c-gateway0": NOT_INSTALLED}
    verdict = decide("n0", units, states, restart="never")
    assert names(verdict["start_units"]) == ["c-gateway0"]
    assert names(verdict["units"]) == ["c-gateway0"], "nobody waits for what stays"
    assert list(verdict["hosts"]) == ["gateway-0"]


def test_units_that_are_no_longer_planned_stay_with_a_replica_that_stays() -> None:
    verdict = decide("n0", PAIR, {"c-r0-rank1": OTHER}, orphans=["c-gateway7"], restart="never")
    assert (verdict["start"], verdict["orphans"], verdict["gateway_gone"]) == (False, [], False)
    assert decide("n0", PAIR, orphans=["c-gateway7"])["gateway_gone"]


def test_units_that_are_no_longer_planned_leave_only_for_one_of_their_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(replica_decision, "display", SimpleNamespace(warning=said.append))
    units, orphans = [*PAIR, unit("n0", "gateway-0")], ["c-r1-rank0", "c-gateway7"]
    gateway = {"c-gateway0": {"active_state": "failed"}}
    verdict = decide("n0", units, gateway, orphans=orphans, restart="never")
    assert verdict["orphans"] == ["c-gateway7"], "the gateway needs its port"
    assert said == [
        "c-r1-rank0 on n0 stays as it is (muster_restart: never), though no longer planned. To "
        "remove it: ansible-playbook playbooks/serve.yml -l c -e muster_restart=now"
    ]
    ranks = {"c-r0-rank0": NOT_INSTALLED, "c-r0-rank1": NOT_INSTALLED}
    assert decide("n0", PAIR, ranks, orphans=["c-r9-rank0"], restart="never")["stays"]
    assert decide("n0", PAIR, ranks, orphans=["c-gateway7"], restart="never")["start"]
    assert decide("n0", units, gateway, orphans=orphans)["orphans"] == orphans


def test_what_is_no_longer_planned_goes_and_nothing_else_starts() -> None:
    verdict = decide("n0", PAIR, orphans=["c-gateway7"])
    assert (verdict["start"], verdict["wait"], verdict["start_units"]) == (True, False, [])
    assert verdict["orphans"] == ["c-gateway7"]


def test_what_start_leaves_out_is_neither_started_nor_removed() -> None:
    gateway = unit("n0", "gateway-0")
    verdict = decide("n0", [gateway], orphans=["c-r0-rank0"], left_out=["c-r0-rank0", "c-r0-rank1"])
    assert (verdict["start"], verdict["orphans"]) == (False, [])


def test_nothing_stops_for_an_environment_that_is_not_there() -> None:
    row = {"name": "environment id", "current": "sha256:1", "desired": "not present"}
    states = {"c-r0-rank1": {"differences": [row]}}
    with pytest.raises(AnsibleActionFail, match=r"c-r0-rank1: the environment .*prepare"):
        decide("n0", PAIR, states)
    # Where prepare would have made it.
    assert decide("n0", PAIR, states, check_mode=True)["start"]


class Play:
    """Hosts that wait at the same time; what each sees of its units is the test's."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, units: list[dict[str, Any]]
    ) -> None:
        monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path))
        monkeypatch.setattr(replica_wait, "LOOK_S", 0.05)
        monkeypatch.setattr(replica_wait, "READ_S", 0.01)
        monkeypatch.setattr(waiting, "SETTLE_S", 0.3)
        self.said: list[str] = []
        monkeypatch.setattr(replica_wait, "show", self.said.append)
        self.units = units
        self.states: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[list[str]] = []
        # What the whole log of a run has that can tell, and whose logs were read.
        self.telling: list[str] = []
        self.logs: dict[str, list[str]] = {}
        self.read: list[list[str]] = []
        self.lock = threading.Lock()

    def look(
        self, module_name: str, module_args: dict[str, Any], **_ignored: Any
    ) -> dict[str, Any]:
        """unit_info, where a unit's last state stays, and unit_log."""
        with self.lock:
            if module_name == "muster.serving.unit_log":
                self.read.append(module_args["invocations"])
                return {"lines": self.logs.get(module_args["invocations"][-1], self.telling)}
            self.asked.append(names(module_args["units"]))
            reports = []
            for one in module_args["units"]:
                states = self.states.get(one["name"], [{}])
                state = states.pop(0) if len(states) > 1 else states[0]
                if "msg" in state:
                    return state
                reports.append(report(one, **state))
        return {"units": reports}

    def wait(self, host: str) -> dict[str, Any]:
        own = [one for one in self.units if one["host"] == host]
        hosts = {
            mine["group"]: sorted(
                {one["host"] for one in self.units if one["group"] == mine["group"]}
            )
            for mine in own
        }
        action = replica_wait.ActionModule.__new__(replica_wait.ActionModule)
        action._task = task(deployment="d", model="m", units=own, hosts=hosts)
        action._connection = CONNECTION
        action._execute_module = self.look
        every = sorted({one["host"] for one in self.units})
        return action.run(task_vars={"inventory_hostname": host, "ansible_play_hosts": every})

    def run(self, **states: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        self.states = {f"c-{name}".replace("_", "-"): list(rows) for name, rows in states.items()}
        hosts = sorted({one["host"] for one in self.units})
        with ThreadPoolExecutor(len(hosts)) as pool:
            return dict(zip(hosts, pool.map(self.wait, hosts), strict=True))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[..., Play]:
    return lambda *units: Play(monkeypatch, tmp_path, list(units))


def test_a_dead_replica_fails_its_own_hosts_alone(play: Callable[..., Play]) -> None:
    results = play(*PAIR, unit("n2", "replica-1"), unit("n3", "replica-1", 1)).run(
        r0_rank1=[LOADING, ENDED], r1_rank0=[LOADING] * 20 + [{}]
    )
    assert {host: result.get("failed", False) for host, result in results.items()} == {
        "n0": True,
        "n1": True,
        "n2": False,
        "n3": False,
    }
    assert "c-r0-rank1 on n1 ended" in results["n0"]["msg"]


def test_the_last_lines_are_followed_by_the_likely_cause(play: Callable[..., Play]) -> None:
    log = ["Engine core initialization failed", "ZMQError: Address already in use (addr='tcp://a')"]
    said = play(*PAIR).run(r0_rank0=[{**ENDED, "log": log}])["n0"]["msg"]
    assert re.search(
        r"Its last lines:\n    Engine core.*\n    ZMQError.*\n"
        r"zmq-port-taken, a line: ZMQError.*\nCause: the port .*\nCheck: port-free\n"
        r"Remedy: .*muster_dp_rpc_port.*\nRunbook: docs/runbooks/ports.md\n"
        r"Also: engine-core, a line: .*\n"
        r"All of them: journalctl -u muster-c-r0-rank0",
        said,
    )


def test_the_cause_is_found_far_above_the_last_lines(play: Callable[..., Play]) -> None:
    pair = play(*PAIR)
    pair.telling = ["ZMQError: Address already in use (addr='tcp://a')"]
    results = pair.run(
        r0_rank1=[
            {**LOADING, "invocation_id": "first"},
            {**ENDED, "invocation_id": "second", "log": ["Engine core initialization failed"]},
        ]
    )
    for host in ("n0", "n1"):
        said = results[host]["msg"]
        assert "zmq-port-taken, a line: ZMQError" in said
        assert "Check: port-free" in said
    assert pair.read == [["first", "second"]], "all runs of this start, once"


def lines_of(unit: str, *, at: str, text: str) -> list[str]:
    """A run of a unit in its journal that ended at this second."""
    start = f"2026-11-21T10:00:00+0000 n systemd[1]: Starting {unit}.service - Muster..."
    end = f"{unit}.service: Main process exited, code=exited, status=1/FAILURE"
    return [start, text, f"2026-11-21T10:00:{at}+0000 n systemd[1]: {end}"]


def test_the_cause_is_that_of_the_unit_that_ended_first(play: Callable[..., Play]) -> None:
    """Both have ended with a fault, and the log of each says something."""
    ranks = play(*RANKS[:2])
    connect = "NCCL WARN socketStartConnect: Connect to 192.0.2.2<41000> failed : refused"
    ranks.logs = {
        "a": lines_of("c-r0-rank0", at="09", text=connect),
        "b": lines_of("c-r0-rank1", at="07", text="torch.OutOfMemoryError: CUDA out of memory."),
    }
    said = ranks.run(
        r0_rank0=[{**ENDED, "invocation_id": "a"}], r0_rank1=[{**ENDED, "invocation_id": "b"}]
    )["n0"]["msg"]
    assert "c-r0-rank0 on n0 ended" in said
    assert "It follows from c-r0-rank1 on n0, which ended first:" in said
    assert "Cause: a device ran out of memory" in said


def test_a_symptom_waits_for_what_it_followed(play: Callable[..., Play]) -> None:
    pair = play(*PAIR)
    pair.logs = {
        "a": lines_of("c-r0-rank0", at="09", text="RuntimeError: Connection closed by peer"),
        "b": lines_of("c-r0-rank1", at="07", text="torch.OutOfMemoryError: CUDA out of memory."),
    }
    results = pair.run(
        r0_rank0=[{**ENDED, "invocation_id": "a"}],
        r0_rank1=[*[LOADING] * 2, {**ENDED, "invocation_id": "b"}],
    )
    said = results["n0"]["msg"]
    assert "It follows from c-r0-rank1 on n1, which ended first:" in said
    assert "Cause: a device ran out of memory" in said


def test_a_log_that_cannot_be_read_leaves_the_last_lines(play: Callable[..., Play]) -> None:
    pair = play(*PAIR)
    pair.telling = []
    said = pair.run(r0_rank0=[{**ENDED, "log": ["No space left on device"]}])["n0"]["msg"]
    assert "Cause: a file system of the node is full" in said


def test_no_secret_of_the_last_lines_is_printed(play: Callable[..., Play]) -> None:
    log = ["api_key='abcdef0123456789'", "No space left on device"]
    said = play(*PAIR).run(r0_rank0=[{**ENDED, "log": log}])["n0"]["msg"]
    assert "abcdef" not in said


def test_a_gateway_comes_up_beside_a_rank_that_dies(play: Callable[..., Play]) -> None:
    both = play(*PAIR, unit("n0", "gateway-0"), unit("n1", "gateway-1"))
    results = both.run(r0_rank1=[ENDED], gateway0=[LOADING] * 10 + [{}])
    assert [results[host]["dead"] for host in ("n0", "n1")] == [["replica-0"], ["replica-0"]]
    assert both.states["c-gateway0"] == [{}], "it was waited for to the end"


def test_a_rank_comes_up_beside_a_gateway_that_dies(play: Callable[..., Play]) -> None:
    results = play(*PAIR, unit("n0", "gateway-0")).run(
        r0_rank0=[LOADING] * 10 + [{}], gateway0=[ENDED]
    )
    assert results["n0"]["dead"] == ["gateway-0"]
    assert "c-gateway0 on n0 ended" in results["n0"]["msg"]
    assert not results["n1"].get("failed")


def test_a_host_out_of_sight_ends_the_wait_of_its_replica(play: Callable[..., Play]) -> None:
    results = play(*PAIR, unit("n2", "replica-1")).run(
        r0_rank0=[LOADING], r0_rank1=[{"unreachable": True, "msg": "no route to host"}]
    )
    assert results["n1"]["dead"] == results["n0"]["dead"] == ["replica-0"]
    assert "no route to host" in results["n0"]["msg"]
    assert not results["n2"].get("failed")


def test_several_ranks_of_one_node_are_all_waited_for(play: Callable[..., Play]) -> None:
    ranks = play(*RANKS)
    results = ranks.run(r0_rank2=[LOADING, LOADING, {}])
    assert not results["n0"].get("failed")
    assert len(ranks.asked) == 3


ONCE = {"cache": "/var/cache/x", "extra_s": 900, "reason": "compiles kernels"}


def test_a_first_start_has_longer_on_all_hosts_and_says_why_once(
    play: Callable[..., Play],
) -> None:
    pair = [unit("n0", start_timeout_s=0), unit("n1", rank=1, start_timeout_s=0)]
    # The cache holds something as soon as the engine has begun to fill it.
    first = play(*pair)
    results = first.run(
        r0_rank1=[{**LOADING, "first_start": ONCE}, *[LOADING] * 5, {}],
        r0_rank0=[*[LOADING] * 5, {}],
    )
    assert not any(result.get("failed") for result in results.values())
    assert first.said == [
        "  first start on n1: compiles kernels into /var/cache/x, up to 900 s more"
    ]


def test_a_later_start_has_no_longer(play: Callable[..., Play]) -> None:
    pair = [unit("n0", start_timeout_s=0), unit("n1", rank=1, start_timeout_s=0)]
    results = play(*pair).run(r0_rank1=[LOADING])
    assert "(allowed: 0 s) still waiting" in results["n1"]["msg"]
    assert "c-r0-rank1 on n1 to serve: the last line" in results["n1"]["msg"]
