import json

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

VENV = "/opt/muster/venvs/tiny"


def test_what_was_asked_for_can_be_imported_by_the_engines_user(host: Host) -> None:
    program = f"{VENV}/bin/python -c 'import sortedcontainers; print(sortedcontainers.__file__)'"
    assert host.check_output(f"runuser -u muster -- {program}").startswith(VENV)


def test_the_environment_says_what_it_holds(host: Host) -> None:
    marker = json.loads(host.file(f"{VENV}/.muster.json").content_string)
    assert marker["packages"] == ["sortedcontainers==2.4.0"]


def test_the_engines_user_is_nobody_who_logs_in(host: Host) -> None:
    user = host.user("muster")
    assert user.uid < 1000
    assert user.shell == "/usr/sbin/nologin"
    assert "video" in user.groups
