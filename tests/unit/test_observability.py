"""Rules, alerts and dashboards: what they take, and that the names they use are real."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.programs import link_metrics
from ansible_collections.muster.serving.plugins.plugin_utils.observability import (
    dashboards,
    names,
)

from tests.conftest import ROOT

from . import prometheus_tools
from .test_replica_link import Node, eventually

RULES = ROOT / "roles" / "observability" / "files" / "muster.rules.yml"
TESTS = Path(__file__).parent / "observability" / "alerts.test.yml"
CAPTURES = Path(__file__).parent / "captures" / "metrics"


def groups() -> list[dict[str, Any]]:
    return yaml.safe_load(RULES.read_text())["groups"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def panels() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted((RULES.parent / "dashboards").glob("*.json")):
        found += [(path.stem, panel) for panel in json.loads(path.read_text())["panels"]]
    return found


def expressions() -> list[str]:
    of_panels = [target["expr"] for _page, panel in panels() for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *of_panels]


# --- rules ------------------------------------------------------------------------------------


def run_tests(folder: Path, instead: str | None) -> subprocess.CompletedProcess[str]:
    """Run the alerts' tests, where asked with one expression in place of every alert's."""
    read = groups()
    for group in read:
        for rule in group["rules"]:
            if "alert" in rule and instead is not None:
                rule["expr"] = instead
    (folder / "muster.rules.yml").write_text(yaml.safe_dump({"groups": read}))
    shutil.copy(TESTS, folder)
    return subprocess.run(
        [prometheus_tools.tool("promtool"), "test", "rules", str(folder / "alerts.test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )


def test_prometheus_takes_the_rules() -> None:
    assert "SUCCESS" in prometheus_tools.run("promtool", "check", "rules", str(RULES))


def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    done = run_tests(tmp_path, None)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("instead", ["vector(0) == 1", "vector(1) == 1"], ids=["never", "always"])
def test_each_alert_that_never_or_always_fires_would_be_seen(instead: str, tmp_path: Path) -> None:
    done = run_tests(tmp_path, instead)
    assert done.returncode == 1
    assert [alert for alert in ALERTS if alert not in done.stdout + done.stderr] == []


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_type_and_has_its_page(alert: str) -> None:
    said = ALERTS[alert]["annotations"]
    page = ROOT / said["runbook_url"]
    assert f"`{alert}`" in page.read_text(), f"{page.name} does not name it"
    for playbook in re.findall(r"playbooks/\w+\.yml", said["description"]):
        assert (ROOT / playbook).is_file()
    assert ALERTS[alert]["labels"]["severity"] in ("critical", "warning")


def test_recording_rules_are_named_by_level_metric_and_operation() -> None:
    for name in RECORDED:
        assert re.fullmatch(r"(unit|rank|replica|device):[a-z_]+:[a-z0-9]+", name)


def test_what_is_recorded_is_used_and_what_is_used_is_recorded() -> None:
    used = {name for text in expressions() for name in re.findall(r"\w+:\w+:\w+", text)}
    assert used == RECORDED


def test_the_page_has_each_alert() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    assert set(re.findall(r"^\| `(Muster\w+)` \|", text, re.M)) == ALERTS.keys()


# --- names of metrics -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('sum by (a, le) (rate(x:y_total{b="c", d=~"e|f"}[5m]))', {"x:y_total"}),
        ('{__name__=~"a(b|c)?|d[:_]e"} == bool 1', {"a", "ab", "ac", "d:e", "d_e"}),
        ('a unless on (unit) b{x="by (c)"}', {"a", "b"}),
        ('label_replace(changes(a[2m]), "of", "b c", "", "") < 14 * 86400', {"a"}),
        ("level:metric:sum and time() - z > 1", {"z"}),
    ],
)
def test_names_are_read_from_expressions(expression: str, expected: set[str]) -> None:
    assert names.names_in(expression) == expected


def test_rules_and_dashboards_use_no_name_that_is_not_in_the_table() -> None:
    known = {form for metric in names.METRICS for form in names.forms(metric)}
    unknown = {name for text in expressions() for name in names.names_in(text)} - known
    assert unknown == set()


def test_each_name_of_the_table_is_used() -> None:
    used = {name for text in expressions() for name in names.names_in(text)}
    unused = [metric.name for metric in names.METRICS if not names.forms(metric) & used]
    assert unused == []


def exposed(text: str) -> set[str]:
    """Return the names of samples, and those that are only declared."""
    declared = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    return declared | set(re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", text, re.M))


def assert_has(text: str, source: str) -> None:
    found = exposed(text)
    rows = [metric for metric in names.METRICS if metric.source == source]
    assert rows
    assert [metric.name for metric in rows if metric.name not in found] == []


@pytest.mark.parametrize(
    "capture", sorted(CAPTURES.glob("vllm-*.prom")), ids=lambda path: path.stem
)
def test_a_real_vllm_has_the_names(capture: Path) -> None:
    assert_has(capture.read_text(), "vllm")


def test_an_agent_has_the_names() -> None:
    config = link_metrics.Config("/x", {}, 3, 1.0)
    seen = link_metrics.Seen(True, True, True, 1.0, 1)
    assert_has(link_metrics.render(config, {"u": seen}, 1.0, 1.0, 1.0, 1.0), "muster")


@pytest.mark.parametrize("vendor", ["ascend", "nvidia", "amd"])
def test_the_lists_that_vendors_publish_have_the_names(vendor: str) -> None:
    lines = (CAPTURES / "published.txt").read_text().splitlines()
    published = {
        name.lower() if vendor == "amd" else name
        for line in lines
        if line.startswith(f"{vendor} ")
        for name in line.split()[1:]
    }
    used = {metric.name for metric in names.METRICS if metric.source == vendor}
    assert used
    assert used <= published


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(name: str, *arguments: str, port: int) -> Iterator[None]:
    """Run a program until it listens, and end it afterwards."""
    process = subprocess.Popen(
        [prometheus_tools.tool(name), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, f"{name} ended"
            assert time.monotonic() < end, f"{name} does not listen"
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_real_node_exporter_has_the_names_and_reads_what_an_agent_writes(tmp_path: Path) -> None:
    # As the role joins them: a link to a file elsewhere.
    written = tmp_path / "run" / "c-r0.prom"
    written.parent.mkdir()
    config = link_metrics.Config(str(written), {"cluster": "c"}, 3, 1.0)
    seen = link_metrics.Seen(True, True, True, 1.0, 1)
    written.write_text(link_metrics.render(config, {"u": seen}, 1.0, 1.0, 1.0, 1.0))
    folder = tmp_path / "textfiles"
    folder.mkdir()
    (folder / "muster-c-r0.prom").symlink_to(written)
    (folder / "muster-c-r1.prom").symlink_to(tmp_path / "not started yet")
    port = free_port()
    arguments = [f"--web.listen-address=127.0.0.1:{port}"]
    arguments.append(f"--collector.textfile.directory={folder}")
    with running("prometheus-node-exporter", *arguments, port=port):
        text = get(f"http://127.0.0.1:{port}/metrics")
    assert_has(text, "node")
    assert_has(text, "muster")
    assert f'node_textfile_mtime_seconds{{file="{folder}/muster-c-r0.prom"}}' in text


def test_a_real_haproxy_has_the_names(tmp_path: Path) -> None:
    if not shutil.which("haproxy"):
        pytest.skip("no haproxy")
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  http-request use-service prometheus-exporter\n"
        "  default_backend engines\nbackend engines\n  server a 127.0.0.1:1 check\n"
    )
    with running("haproxy", "-db", "-f", str(config), port=port):
        assert_has(get(f"http://127.0.0.1:{port}/"), "haproxy")


def test_a_real_blackbox_exporter_tells_when_a_certificate_ends(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"),
            *("-days", "9", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    blackbox = str(RULES.parent / "blackbox.yml")
    arguments = [f"--web.listen-address=127.0.0.1:{port}", f"--config.file={blackbox}"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running("prometheus-blackbox-exporter", *arguments, port=port),
    ):
        target = f"127.0.0.1:{server.getsockname()[1]}"
        probe = f"http://127.0.0.1:{port}/probe?target={target}&module=muster_certificate"
        asking = subprocess.Popen(["curl", "-sf", probe], stdout=subprocess.PIPE, text=True)
        server.settimeout(20)
        client, _address = server.accept()
        with context.wrap_socket(client, server_side=True):
            text, _ = asking.communicate(timeout=20)
    assert_has(text, "blackbox")
    (ends,) = re.findall(r"^probe_ssl_earliest_cert_expiry (\S+)", text, re.M)
    assert 8 < (float(ends) - time.time()) / 86400 < 9.1


# --- all of it together -----------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Node, Callable[[], set[str]]]]:
    """A real agent of a rank, and the alerts that a real Prometheus has of it."""
    node = Node(tmp_path / "rank", "127.0.0.1", free_port(), [])
    node.tell_prometheus()
    ports = {name: free_port() for name in ("exporter", "prometheus")}
    local = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    textfiles, targets = tmp_path / "textfiles", tmp_path / "targets"
    for folder in (textfiles, targets):
        folder.mkdir()
    (textfiles / "muster-c-r0.prom").symlink_to(node.metrics)
    labels = {"job": "muster-node", "cluster": "c", "node": "n"}
    target = [{"targets": [local["exporter"]], "labels": labels}]
    (targets / "c.json").write_text(json.dumps(target))
    template = jinja2.Template((RULES.parents[1] / "templates" / "scrape.yml.j2").read_text())
    scrape = template.render(observability_dir=str(tmp_path), observability_interval_s=1)
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        **yaml.safe_load(scrape),
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))

    def alerts() -> set[str]:
        told = json.loads(get(f"http://{local['prometheus']}/api/v1/alerts"))["data"]["alerts"]
        return {one["labels"]["alertname"] for one in told if one["state"] == "firing"}

    with (
        running(
            "prometheus-node-exporter",
            f"--web.listen-address={local['exporter']}",
            f"--collector.textfile.directory={textfiles}",
            port=ports["exporter"],
        ),
        running(
            "prometheus",
            f"--web.listen-address={local['prometheus']}",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            port=ports["prometheus"],
        ),
    ):
        node.start()
        try:
            yield node, alerts
        finally:
            node.end()


def test_what_befalls_a_rank_becomes_an_alert(
    watched: tuple[Node, Callable[[], set[str]]],
) -> None:
    node, alerts = watched
    eventually([node], lambda: node.metrics.exists())
    time.sleep(5)
    assert {name for name in alerts() if "Rank" in name or "Replica" in name} == set()
    node.set(NRestarts=1, InvocationID="after-crash")
    eventually([node], lambda: {"MusterReplicaRestarted", "MusterRestartBudget"} <= alerts())


# --- dashboards -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", dashboards.DASHBOARDS, ids=lambda page: page.uid)
def test_a_dashboard_is_one_that_grafana_reads(page: dashboards.Dashboard) -> None:
    rendered = dashboards.render(page)
    (source, *chosen) = rendered["templating"]["list"]
    assert (source["name"], source["type"]) == ("datasource", "datasource")
    assert [variable["name"] for variable in chosen] == list(page.chosen_by)
    uses = [*rendered["panels"], *chosen]
    uses += [target for panel in rendered["panels"] for target in panel["targets"]]
    assert {use["datasource"]["uid"] for use in uses} == {"${datasource}"}
    ids = [panel["id"] for panel in rendered["panels"]]
    assert len(ids) == len(set(ids))
    for panel in rendered["panels"]:
        places = panel["gridPos"]
        assert places["x"] + places["w"] <= 24
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
    known = {*page.chosen_by, "datasource"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(rendered["panels"]))) <= known
    corners = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in rendered["panels"]]
    assert len(corners) == len(set(corners))


def test_dashboards_have_each_their_own_address() -> None:
    uids = [page.uid for page in dashboards.DASHBOARDS]
    assert len(uids) == len(set(uids))
    # As what Grafana is given, whole and no more than that.
    assert {path.stem for path in (RULES.parent / "dashboards").glob("*.json")} == set(uids)


def test_prometheus_takes_the_expressions_of_dashboards(tmp_path: Path) -> None:
    asked = [
        {"record": f"panel:p{number}:x", "expr": re.sub(r"\$\w+", ".*", target["expr"])}
        for number, target in enumerate(t for _page, panel in panels() for t in panel["targets"])
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    found = prometheus_tools.run("promtool", "check", "rules", str(path))
    assert f"SUCCESS: {len(asked)} rules found" in found
