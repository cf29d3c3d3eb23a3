import json
import time

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

UNITS = ["muster-venv-r0-rank0", "muster-venv-r0-rank1"]
GET = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


def answer(host: Host, port: int) -> dict:
    return json.loads(host.check_output(f'python3 -c "{GET}" http://127.0.0.1:{port}/v1/models'))


def show(host: Host, unit: str, name: str) -> str:
    return host.check_output(f"systemctl show --value --property {name} {unit}")


def test_an_engine_gets_its_command_line_and_environment_unchanged(host: Host) -> None:
    found = answer(host, 8000)
    assert found["argv"] == ["8000", "--stubborn", "--name", "a b $HOME %n \"c\" 'd'"]
    expected = {
        "SPACES": "  two before, two after  ",
        "QUOTES": "\"double\" 'single' `back`",
        "SPECIAL": "$HOME ${HOME} %n %% \\ \\n # ; = ü",
        "EMPTY": "",
        "JSON": '{"mode": "FULL", "path": "a\\\\b"}',
        "TOKEN": "se$cret",
        "HOME": "/var/cache/muster/venv-r0-rank0",
    }
    assert {name: found["environment"].get(name) for name in expected} == expected


def test_an_engine_runs_as_its_own_user_with_a_home_of_its_own(host: Host) -> None:
    assert answer(host, 8000)["user"] == host.user("muster").uid
    home = host.file("/var/cache/muster/venv-r0-rank0")
    assert (home.user, home.group) == ("muster", "muster")


def test_limits_are_as_high_as_the_node_lets_them_be(host: Host) -> None:
    found = answer(host, 8000)
    for name in "memlock", "nofile":
        soft, hard = found[name]
        assert soft == hard, name


def test_the_secret_stands_in_a_file_of_root_alone(host: Host) -> None:
    secret = host.file("/etc/muster/venv-r0-rank0.env")
    assert (secret.user, oct(secret.mode)) == ("root", "0o600")
    for unit in UNITS:
        assert "cret" not in host.file(f"/etc/systemd/system/{unit}.service").content_string


def test_units_without_a_container_want_no_docker(host: Host) -> None:
    assert "docker" not in show(host, UNITS[0], "Requires")


def test_a_crash_of_one_rank_restarts_the_other(host: Host) -> None:
    before = {show(host, unit, "InvocationID") for unit in UNITS}
    host.check_output(f"systemctl kill --signal KILL {UNITS[0]}")
    end = time.monotonic() + 60
    while before & {show(host, unit, "InvocationID") for unit in UNITS}:
        assert time.monotonic() < end, "one of them goes on as it was"
        time.sleep(1)
    for unit in UNITS:
        assert show(host, unit, "ActiveState") == "active"


def test_an_engine_that_does_not_end_is_stopped_and_not_failed(host: Host) -> None:
    host.check_output("systemctl stop muster-venv-r0-link")
    host.check_output(f"systemctl stop {UNITS[0]}")
    assert show(host, UNITS[0], "ActiveState") == "inactive"
    assert show(host, UNITS[0], "Result") == "success"
