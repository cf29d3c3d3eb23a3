import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.redaction import without_users
from ansible_collections.muster.serving.plugins.module_utils.host import docker, docker_io
from ansible_collections.muster.serving.plugins.module_utils.host.docker import (
    DAEMON_JSON,
    DROP_IN,
    INSECURE,
    MIRRORS,
    PROXY_ENV,
    STATE_PATH,
    Daemon,
    DockerError,
    Wanted,
    ca_path,
    live_registries,
    load_daemon_json,
    load_state,
    merge,
    render_environment,
    wanted_from,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_io import client_of, write
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import (
    Lack,
    source_of,
)
from ansible_collections.muster.serving.plugins.modules import docker_config
from hypothesis import given
from hypothesis import strategies as st

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PROXY = {"HTTPS_PROXY": "http://user:secret@proxy.lan:3128"}
DEBIAN_13 = source_of({"ID": "debian", "VERSION_ID": "13"})
EL = source_of({"ID": "rocky", "VERSION_ID": "9.4"})
BARE = Daemon(lack=Lack("not installed", "prepare installs it", DEBIAN_13))
NOTHING = {"insecure_registries": [], "registry_mirrors": [], "proxy": {}, "registry_ca": {}}


def decide(files, wanted, daemon, deployment="a"):
    return docker.decide(files, wanted, daemon, deployment)


def info(insecure=(), mirrors=(), running=0):
    """The part of a real `docker info` that is read."""
    indexes = {"docker.io": {"Name": "docker.io", "Secure": True, "Official": True}}
    indexes.update({name: {"Name": name, "Secure": False} for name in insecure})
    return {
        "ServerVersion": "20.10.24+dfsg1",
        "ContainersRunning": running,
        "RegistryConfig": {
            "IndexConfigs": indexes,
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "Mirrors": [mirror + "/" for mirror in mirrors],
        },
    }


def running(containers=0, **live) -> Daemon:
    return Daemon(active=True, enabled=True, info=info(running=containers, **live))


@pytest.fixture
def files(tmp_path):
    return NodeFiles(str(tmp_path))


def test_entries_are_merged_into_the_nodes_own_configuration(files) -> None:
    own = {"data-root": "/data/docker", "insecure-registries": ["own.lan:5000"]}
    files.write(DAEMON_JSON, json.dumps(own))
    changes = decide(files, Wanted(["lab:5000"], ["https://mirror.lan"]), running(containers=3))
    write(files, changes)
    assert json.loads(files.read(DAEMON_JSON)) == {
        "data-root": "/data/docker",
        "insecure-registries": ["own.lan:5000", "lab:5000"],
        "registry-mirrors": ["https://mirror.lan"],
    }
    assert changes.action == "reload"


def test_a_configured_daemon_is_left_alone_and_its_file_not_reformatted(files) -> None:
    files.write(DAEMON_JSON, '{"insecure-registries":["lab:5000"]}')
    assert not decide(files, Wanted(["lab:5000"]), running(insecure=["lab:5000"])).changed


def test_a_reload_that_was_interrupted_is_made_up_for(files) -> None:
    files.write(DAEMON_JSON, '{"insecure-registries":["lab:5000"]}')
    changes = decide(files, Wanted(["lab:5000"]), running())
    assert (changes.files, changes.action) == ({}, "reload")


def test_what_is_no_longer_wanted_goes_and_the_nodes_own_stays(files) -> None:
    files.write(DAEMON_JSON, '{"insecure-registries": ["own.lan:5000"]}')
    write(files, decide(files, Wanted(["lab:5000", "own.lan:5000"]), running()))
    changes = decide(files, Wanted(), running(insecure=["lab:5000", "own.lan:5000"]))
    write(files, changes)
    assert json.loads(files.read(DAEMON_JSON)) == {"insecure-registries": ["own.lan:5000"]}
    assert files.read(STATE_PATH) is None
    assert changes.action == "reload"


def test_a_node_without_docker_gets_its_files_first(files) -> None:
    changes = decide(files, Wanted(["lab:5000"]), BARE)
    assert changes.changed
    assert list(changes.files) == [DAEMON_JSON]
    assert changes.install == DEBIAN_13
    assert docker.diff(changes)[-1]["after"] == "installed: docker.io docker-cli\nstarted\n"
    assert decide(files, Wanted(), BARE).changed


def test_a_repository_that_is_added_shows_in_the_diff(files) -> None:
    changes = decide(files, Wanted(), Daemon(lack=Lack("not installed", "", EL)))
    shown = docker.diff(changes)
    assert "linux/centos/9/" in shown[0]["after"]
    assert "docker-ce" in shown[1]["after"]


def test_a_docker_that_cannot_be_installed_is_refused_before_anything_is_written(files) -> None:
    lack = Lack("not installed, and Muster knows no package of Plan 9", "install it by hand")
    with pytest.raises(DockerError, match=r"Plan 9\. Nothing was changed: install it by hand"):
        decide(files, Wanted(["lab:5000"], proxy=PROXY), Daemon(lack=lack))


@pytest.mark.parametrize(
    ("there", "client"),
    [
        ([], None),
        (["/usr/local/bin/docker"], "/usr/local/bin/docker"),
        (["/snap/bin/docker", "/usr/bin/docker"], "/usr/bin/docker"),
    ],
)
def test_the_place_that_units_run_goes_before_others(files, there, client) -> None:
    for path in there:
        files.write(path, "")
    assert client_of(files) == client


@pytest.mark.parametrize(
    ("daemon", "action"),
    [
        (BARE, "none"),
        (Daemon(enabled=True), "start"),
        (running(), "restart"),
    ],
)
def test_a_proxy_restarts_a_daemon_only_where_one_runs(files, daemon, action) -> None:
    changes = decide(files, Wanted(proxy=PROXY), daemon)
    assert changes.action == action
    assert changes.files[PROXY_ENV].mode == 0o600
    assert "secret" not in changes.files[DROP_IN].after


def test_a_restart_under_running_containers_is_refused_before_anything_is_written(files) -> None:
    with pytest.raises(DockerError, match=r"2 containers run here.*playbooks/stop\.yml"):
        decide(files, Wanted(proxy=PROXY), running(containers=2))


def test_a_restart_that_was_interrupted_is_made_up_for(files) -> None:
    write(files, decide(files, Wanted(proxy=PROXY), running()))
    assert decide(files, Wanted(proxy=PROXY), running()).action == "restart"
    up = Daemon(active=True, enabled=True, environment=PROXY, info=info())
    assert not decide(files, Wanted(proxy=PROXY), up).changed


def test_a_proxy_that_is_no_longer_wanted_goes(files) -> None:
    write(files, decide(files, Wanted(proxy=PROXY), running()))
    changes = decide(files, Wanted(), running())
    write(files, changes)
    assert changes.action == "restart"
    assert files.read(DROP_IN) is None
    assert files.read(PROXY_ENV) is None


def test_two_deployments_on_a_machine_keep_each_others_settings(files) -> None:
    write(files, decide(files, Wanted(["a:1"], proxy=PROXY, registry_ca={"a:1": PEM}), running()))
    write(files, decide(files, Wanted(["b:1"]), running(insecure=["a:1"]), "b"))
    assert json.loads(files.read(DAEMON_JSON)) == {"insecure-registries": ["a:1", "b:1"]}
    assert files.read(DROP_IN)
    assert files.read(ca_path("a:1"))
    write(files, decide(files, Wanted(), running(), "a"))
    assert json.loads(files.read(DAEMON_JSON)) == {"insecure-registries": ["b:1"]}
    assert files.read(DROP_IN) is None
    assert files.read(ca_path("a:1")) is None


def test_a_ca_needs_neither_reload_nor_restart_and_goes_with_its_registry(files) -> None:
    changes = decide(files, Wanted(registry_ca={"reg.lan:5000": PEM}), running(containers=1))
    write(files, changes)
    assert changes.action == "none"
    assert files.read(ca_path("reg.lan:5000")) == PEM
    write(files, decide(files, Wanted(), running(containers=1)))
    assert files.read(ca_path("reg.lan:5000")) is None


def test_passwords_stay_out_of_the_diff(files) -> None:
    write(files, decide(files, Wanted(proxy=PROXY), running()))
    other = {"HTTPS_PROXY": "http://user:other@proxy.lan:3128"}
    shown = json.dumps(docker.diff(decide(files, Wanted(proxy=other), running())))
    assert "http://***@proxy.lan:3128" in shown
    assert "secret" not in shown
    assert "other" not in shown


def test_a_flag_that_excludes_the_file_is_named(files) -> None:
    daemon = Daemon(active=True, command=["dockerd", "--insecure-registry=x"], info=info())
    with pytest.raises(DockerError, match="started with --insecure-registry"):
        decide(files, Wanted(["lab:5000"]), daemon)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"insecure-registries": "x"}', '{"registry-mirrors": [1]}']
)
def test_a_broken_daemon_json_is_never_overwritten(files, text) -> None:
    files.write(DAEMON_JSON, text)
    with pytest.raises(DockerError, match=DAEMON_JSON):
        decide(files, Wanted(["lab:5000"]), running())


@pytest.mark.parametrize(
    "command",
    [
        ["dockerd", "--config-file=/data/daemon.json"],
        ["/usr/bin/dockerd", "-H", "fd://", "--config-file", "/data/daemon.json", ""],
    ],
)
def test_a_daemon_that_reads_another_file_is_named(files, command) -> None:
    daemon = Daemon(active=True, enabled=True, command=command, info=info())
    with pytest.raises(DockerError, match=r"reads /data/daemon\.json"):
        decide(files, Wanted(["lab:5000"]), daemon)
    assert not decide(files, Wanted(), daemon).changed
    usual = Daemon(active=True, command=["dockerd", f"--config-file={DAEMON_JSON}"], info=info())
    assert decide(files, Wanted(["lab:5000"]), usual).changed


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\ufeff{}", "{}", "null\n"])
def test_an_empty_configuration_may_be_written_in_any_way(files, text) -> None:
    files.write(DAEMON_JSON, text)
    if text == "null\n":
        with pytest.raises(DockerError, match="not an object"):
            decide(files, Wanted(["lab:5000"]), running())
        return
    write(files, decide(files, Wanted(["lab:5000"]), running()))
    assert json.loads(files.read(DAEMON_JSON)) == SETTINGS_IN_FILE


def test_a_link_stays_and_what_it_leads_to_is_changed(files) -> None:
    own = {"data-root": "/data/docker"}
    files.write("/data/daemon.json", json.dumps(own))
    (Path(files.root) / "etc/docker").mkdir(parents=True)
    link = Path(files.path(DAEMON_JSON))
    link.symlink_to(files.path("/data/daemon.json"))
    write(files, decide(files, Wanted(["lab:5000"]), running()))
    assert link.is_symlink()
    assert json.loads(files.read("/data/daemon.json")) == {**own, **SETTINGS_IN_FILE}
    changes = docker.leave(files, running(), "a")
    docker_io.take_back(files, changes)
    assert link.is_symlink()
    assert json.loads(files.read("/data/daemon.json")) == own


def test_a_link_to_an_emptied_file_stays(files) -> None:
    (Path(files.root) / "etc/docker").mkdir(parents=True)
    (Path(files.root) / "data").mkdir()
    link = Path(files.path(DAEMON_JSON))
    link.symlink_to(files.path("/data/daemon.json"))
    write(files, decide(files, Wanted(["lab:5000"]), running()))
    docker_io.take_back(files, docker.leave(files, running(), "a"))
    assert (link.is_symlink(), files.read(DAEMON_JSON)) == (True, "{}\n")


def test_a_link_to_a_device_is_left_alone(files) -> None:
    link = Path(files.path(DAEMON_JSON))
    link.parent.mkdir(parents=True)
    link.symlink_to("/dev/null")
    with pytest.raises(DockerError, match="no file"):
        write(files, decide(files, Wanted(["lab:5000"]), running()))
    assert link.is_symlink()


def test_what_another_tool_writes_meanwhile_is_kept(files) -> None:
    files.write(DAEMON_JSON, "{}")
    changes = decide(files, Wanted(["lab:5000"]), running())
    other = '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}'
    files.write(DAEMON_JSON, other)
    with pytest.raises(DockerError, match="changed by somebody else"):
        write(files, changes)
    assert files.read(DAEMON_JSON) == other
    assert files.read(STATE_PATH) is None
    # The next run starts from what is there.
    write(files, decide(files, Wanted(["lab:5000"]), running()))
    assert json.loads(files.read(DAEMON_JSON)) == {**json.loads(other), **SETTINGS_IN_FILE}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("insecure_registries", ["http://lab:5000"], "leave out http://"),
        ("registry_mirrors", ["mirror.lan"], "is not http"),
        ("registry_mirrors", ["https://mirror.lan/path"], "no path"),
        ("proxy", {"http": "http://a\nExecStart=x"}, "is not one line"),
        ("insecure_registries", ["10.0.0.0/99"], "is not HOST"),
        ("insecure_registries", ["10.0.0.0/255.0.0.0"], "is not HOST"),
        ("registry_ca", {"../../etc": PEM}, "is not HOST"),
        ("registry_ca", {"reg.lan": "/nothing/here.pem"}, "there is no /nothing/here.pem"),
        ("registry_ca", {"reg.lan": "text"}, "no PEM certificate"),
    ],
)
def test_senseless_options_are_refused(files, option, value, message) -> None:
    with pytest.raises(DockerError, match=message):
        wanted_from({**NOTHING, option: value}, files)


def test_options_in_docker_terms(files) -> None:
    files.write("/root/ca.pem", PEM)
    params = {
        **NOTHING,
        "insecure_registries": ["198.51.100.0/24", "lab:5000", "[2001:db8::1]:5000"],
        "proxy": {"https": "http://p:1", "http": None, "no_proxy": "lan"},
        "registry_ca": {"reg.lan": "/root/ca.pem"},
    }
    wanted = wanted_from(params, files)
    assert wanted.proxy == {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "lan"}
    assert wanted.registry_ca == {"reg.lan": PEM}


def test_the_environment_file_keeps_every_character() -> None:
    text = render_environment({"HTTP_PROXY": 'http://u:a"b\\c$d%40@p:1'})
    assert text.splitlines()[1] == 'HTTP_PROXY="http://u:a\\"b\\\\c\\$d%40@p:1"'


def test_live_registries_of_docker_info() -> None:
    live = live_registries(info(insecure=["lab:5000"], mirrors=["https://m.lan"]))
    assert live == {INSECURE: {"lab:5000", "127.0.0.0/8"}, MIRRORS: {"https://m.lan"}}
    assert live_registries({}) == {INSECURE: set(), MIRRORS: set()}


def test_users_of_addresses_are_not_shown() -> None:
    assert without_users('A="http://u:p@h:1/x" https://h2/@') == 'A="http://***@h:1/x" https://h2/@'


ITEMS = st.lists(st.sampled_from("abcdef"), unique=True)


@given(ITEMS, ITEMS, ITEMS)
def test_merging_twice_is_merging_once(existing, ours, wanted) -> None:
    merged = merge(existing, ours, wanted)
    assert set(wanted) <= set(merged)
    assert set(existing) - set(ours) <= set(merged)
    assert merge(merged, ours, wanted) == merged


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_a_configuration_or_a_clear_error(text) -> None:
    with contextlib.suppress(DockerError):
        load_daemon_json(text)
    with contextlib.suppress(DockerError):
        load_state(text)


# The module, on a node whose tools say this


TRIXIE = 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13"\n'
LOADED = "LoadState=loaded\nActiveState={}\nUnitFileState=enabled\nMainPID=0\n"
GONE = "LoadState=not-found\nActiveState=inactive\nUnitFileState=\nMainPID=0\n"
SETTINGS = {"insecure_registries": ["lab:5000"]}
SETTINGS_IN_FILE = {"insecure-registries": ["lab:5000"]}


@pytest.fixture
def node(files, monkeypatch, capsys):
    """A node without Docker; called with options it returns what the module does."""
    asked = []

    def run(argv, timeout, stdin=""):
        asked.append(" ".join(argv))
        if argv[1] == "show":
            return Output(0, node.unit, "")
        live = info(insecure=["lab:5000"] if "systemctl reload docker.service" in asked else [])
        return Output(0, json.dumps(live) if argv[1] == "info" else "", "")

    def node(check_mode=False, **options):
        with (
            patch_module_args({"_ansible_check_mode": check_mode, **options}),
            pytest.raises(SystemExit),
        ):
            docker_config.main()
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(docker_config, "NodeFiles", lambda: files)
    monkeypatch.setattr(docker_config, "run", run)
    monkeypatch.setattr(docker_io, "run", run)
    files.write("/etc/os-release", TRIXIE)
    node.unit, node.asked = GONE, asked
    return node


def test_a_bare_node_gets_its_settings_and_says_what_to_install(node, files) -> None:
    found = node(**SETTINGS)
    assert (found["changed"], found["installed"]) == (True, False)
    assert found["install"] == {
        "manager": "apt",
        "packages": ["docker.io", "docker-cli"],
        "client": ["docker-cli"],
        "repository": None,
    }
    assert json.loads(files.read(DAEMON_JSON)) == SETTINGS_IN_FILE
    assert not [one for one in node.asked if one.startswith("docker")]


def test_a_daemon_without_its_command_is_left_alone_until_it_can_be_asked(node, files) -> None:
    node.unit = LOADED.format("active")
    assert node(**SETTINGS)["install"]["packages"] == ["docker-cli"]
    assert files.read(DAEMON_JSON) is None
    files.write("/usr/bin/docker", "")
    found = node(**SETTINGS)
    assert (found["installed"], found["install"], found["action"]) == (True, None, "reload")
    assert json.loads(files.read(DAEMON_JSON)) == SETTINGS_IN_FILE


def test_on_an_unknown_distribution_nothing_is_changed(node, files) -> None:
    files.write("/etc/os-release", 'ID=plan9\nPRETTY_NAME="Plan 9"\n')
    found = node(**SETTINGS)
    assert found["failed"]
    assert "Plan 9" in found["msg"]
    assert "by hand" in found["msg"]
    assert files.read(DAEMON_JSON) is None
    # What is there is taken all the same.
    node.unit = LOADED.format("active")
    files.write("/usr/bin/docker", "")
    assert node(**SETTINGS)["action"] == "reload"


def test_check_mode_writes_nothing(node, files) -> None:
    found = node(check_mode=True, **SETTINGS)
    assert found["changed"]
    assert "docker.io docker-cli" in json.dumps(found["diff"])
    assert files.read(DAEMON_JSON) is None
    assert [one for one in node.asked if "show" not in one] == []


# What was added goes again


def add(files, deployment="a", **wanted) -> None:
    write(files, decide(files, Wanted(**wanted), running(), deployment))


def leave(files, daemon, deployment="a"):
    """Take back what a deployment added, and return what the daemon was to be told."""
    changes = docker.leave(files, daemon, deployment)
    docker_io.take_back(files, changes)
    docker_io.keep_state(files, changes)
    return changes


FULL = {
    "insecure_registries": ["lab:5000"],
    "registry_mirrors": ["https://m.lan"],
    "proxy": PROXY,
    "registry_ca": {"reg.lan": PEM},
}
LIVE = {"insecure": ["lab:5000"], "mirrors": ["https://m.lan"]}


@pytest.mark.parametrize("own", [None, {}, {"data-root": "/d"}, {INSECURE: ["own.lan"]}])
def test_a_node_is_as_before_when_its_only_deployment_leaves(files, own) -> None:
    if own is not None:
        files.write(DAEMON_JSON, json.dumps(own))
    add(files, **FULL)
    changes = leave(files, running(**LIVE))
    left = files.read(DAEMON_JSON)
    assert (json.loads(left) if left else {}) == (own or {})
    assert files.glob("/etc/docker/certs.d*") == []
    assert files.glob("/etc/systemd/system/docker.service.d*") == []
    assert files.read(PROXY_ENV) is files.read(STATE_PATH) is None
    # The daemon reads an empty list before the key goes, since it ignores a key that is gone.
    assert changes.action == "reload"
    assert json.loads(changes.between)[INSECURE] == (own or {}).get(INSECURE, [])
    assert not docker.leave(files, running(), "a").changed


def test_what_another_deployment_wants_of_docker_stays(files) -> None:
    add(files, **FULL)
    add(files, "b", insecure_registries=["lab:5000"], registry_ca={"reg.lan": PEM})
    leave(files, running(**LIVE))
    assert json.loads(files.read(DAEMON_JSON)) == {INSECURE: ["lab:5000"]}
    assert files.read(ca_path("reg.lan")) == PEM
    assert files.read(DROP_IN) is None
    leave(files, running(insecure=["lab:5000"]), "b")
    assert files.read(DAEMON_JSON) is files.read(STATE_PATH) is None


def test_a_ca_that_the_node_had_stays_when_the_last_deployment_leaves(files) -> None:
    # Put there by hand, in another form.
    found = f"\n{PEM}\n"
    files.write(ca_path("reg.lan"), found)
    assert not decide(files, Wanted(registry_ca={"reg.lan": PEM}), running()).changed
    add(files, registry_ca={"reg.lan": PEM})
    # Another deployment's run makes it no more Muster's.
    add(files, "b", insecure_registries=["lab:5000"])
    add(files, "b", registry_ca={"reg.lan": PEM})
    for deployment in ("b", "a"):
        leave(files, running(insecure=["lab:5000"]), deployment)
    assert files.read(ca_path("reg.lan")) == found


def test_another_ca_that_the_node_had_is_not_overwritten(files) -> None:
    files.write(ca_path("reg.lan"), PEM.replace("MIIB", "MIIC"))
    with pytest.raises(DockerError, match=r"another CA than registry_ca gives for reg\.lan, and"):
        decide(files, Wanted(registry_ca={"reg.lan": PEM}), running())
    # Its own is renewed.
    add(files, registry_ca={"own.lan": PEM})
    add(files, registry_ca={"own.lan": PEM.replace("MIIB", "MIIC")})
    assert "MIIC" in files.read(ca_path("own.lan"))


def test_a_network_counts_as_taken_over_in_the_words_of_docker() -> None:
    live = info()
    live["RegistryConfig"]["InsecureRegistryCIDRs"] += ["10.0.0.0/8", "fd00::/8"]
    assert docker.lacks(live, Wanted(["10.1.2.3/8", "FD00::1/8"])) == []
    assert docker.lacks(live, Wanted(["10.1.0.0/16"])) == ["10.1.0.0/16"]


@pytest.mark.parametrize(
    ("containers", "action", "lingers"), [(0, "restart", []), (2, "none", ["HTTPS_PROXY"])]
)
def test_a_daemon_is_restarted_for_a_proxy_only_while_no_container_runs(
    files, containers, action, lingers
) -> None:
    add(files, proxy=PROXY)
    daemon = Daemon(
        active=True, enabled=True, environment=PROXY, info=info(running=containers, insecure=[])
    )
    changes = leave(files, daemon)
    assert (changes.action, changes.lingers) == (action, lingers)
    assert files.read(DROP_IN) is files.read(PROXY_ENV) is None


@pytest.mark.parametrize("daemon", [BARE, Daemon(), Daemon(lack=Lack("odd", "by hand"))])
def test_docker_is_neither_installed_nor_enabled_nor_started_to_leave_it(files, daemon) -> None:
    add(files, **FULL)
    changes = leave(files, daemon)
    assert (changes.install, changes.enable, changes.action) == (None, False, "none")
    assert files.read(DAEMON_JSON) is files.read(STATE_PATH) is None


@pytest.mark.parametrize("before", ["file", "reload", "key"])
def test_a_leave_that_was_cut_off_is_made_up_for(files, before) -> None:
    add(files, **FULL)
    changes = docker.leave(files, running(**LIVE), "a")
    live = LIVE
    if before != "file":
        files.write(DAEMON_JSON, changes.between)
    if before == "key":
        live = {}
    again = leave(files, running(**live))
    assert again.action == ("none" if before == "key" else "reload")
    assert files.read(DAEMON_JSON) is files.read(STATE_PATH) is None


def test_a_proxy_whose_files_have_gone_is_still_taken_from_the_daemon(files) -> None:
    add(files, proxy=PROXY)
    files.remove(DROP_IN)
    files.remove(PROXY_ENV)
    daemon = Daemon(active=True, enabled=True, environment=PROXY, info=info())
    assert docker.leave(files, daemon, "a").action == "restart"


@given(
    st.lists(st.sampled_from("abcd"), unique=True),
    st.lists(st.sampled_from("abcd"), unique=True),
    st.lists(st.sampled_from("abcd"), unique=True),
)
def test_entries_that_are_not_the_deployments_stay(own, first, second) -> None:
    with tempfile.TemporaryDirectory() as root:
        files = NodeFiles(root)
        files.write(DAEMON_JSON, json.dumps({INSECURE: own, "debug": True}))
        add(files, "a", insecure_registries=first)
        add(files, "b", insecure_registries=second)
        leave(files, running(), "a")
        left = json.loads(files.read(DAEMON_JSON))
        assert left["debug"]
        assert set(left.get(INSECURE, [])) == {*own, *second}


def test_the_module_leaves_in_two_writes_and_touches_nothing_in_check_mode(node, files) -> None:
    node.unit = LOADED.format("active")
    files.write("/usr/bin/docker", "")
    add(files, **SETTINGS)
    node.asked.append("systemctl reload docker.service")
    before = files.read(DAEMON_JSON)
    dry = node(check_mode=True, state="absent", deployment="a")
    assert dry["changed"]
    assert dry["action"] == "reload"
    assert files.read(DAEMON_JSON) == before
    assert node(state="absent", deployment="other")["changed"] is False
    assert files.read(DAEMON_JSON) == before


def test_a_node_to_which_nothing_was_added_is_asked_nothing(node) -> None:
    said = node(state="absent", deployment="a")
    assert (said["changed"], said["action"], said["stays"]) == (False, "none", [])
    assert node.asked == []
