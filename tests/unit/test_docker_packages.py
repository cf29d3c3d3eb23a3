"""Where Docker comes from, by distribution and release."""

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.paths import DOCKER
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.module_utils.host.checks import (
    LAB_SYSTEMS,
    properties,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import (
    CLIENTS,
    SOURCES,
    lack_of,
    source_of,
)
from hypothesis import given
from hypothesis import strategies as st

OPENEULER = """\
NAME="openEuler"
VERSION="22.03 (LTS-SP4)"
ID="openEuler"
VERSION_ID="22.03"
PRETTY_NAME="openEuler 22.03 (LTS-SP4)"
"""
KYLIN = """\
NAME="Kylin Linux Advanced Server"
VERSION="V10 (Lance)"
ID="kylin"
VERSION_ID="V10"
PRETTY_NAME="Kylin Linux Advanced Server V10 (Lance)"
"""
# The desktop's own distribution of the same name, made of Debian's packages.
KYLIN_DESKTOP = 'NAME="Kylin"\nID=kylin\nVERSION_ID="v10"\nID_LIKE=debian\n'
TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n'
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n'
FEDORA = 'ID=fedora\nVERSION_ID=43\nPRETTY_NAME="Fedora Linux 43"\n'
SID = 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nID=debian\n'


@pytest.mark.parametrize(
    ("text", "packages", "repository"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "docker.io", ""),
        (TRIXIE, "docker.io docker-cli", ""),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "docker.io", ""),
        (ROCKY, "docker-ce docker-ce-cli containerd.io", "centos/9/"),
        ('ID="rhel"\nVERSION_ID="10.1"\n', "docker-ce docker-ce-cli containerd.io", "centos/10/"),
        (OPENEULER, "docker-ce docker-ce-cli containerd.io", "centos/8/"),
        (KYLIN, "docker-ce docker-ce-cli containerd.io", "centos/8/"),
    ],
)
def test_a_bare_node_gets_daemon_and_command(text: str, packages: str, repository: str) -> None:
    lack = lack_of(properties(text), service=False, client=None)
    assert lack
    assert lack.install
    assert " ".join(lack.install.packages) == packages
    url = lack.install.repository.url if lack.install.repository else ""
    assert repository in url
    assert bool(url) == bool(repository)
    assert lack.remedy.startswith("prepare installs")


@pytest.mark.parametrize("text", [FEDORA, SID, KYLIN_DESKTOP, "", 'ID=debian\nVERSION_ID="99"\n'])
def test_an_unknown_release_is_named_with_what_to_do_by_hand(text: str) -> None:
    release = properties(text)
    lack = lack_of(release, service=False, client=None)
    assert lack
    assert lack.install is None
    assert release.get("PRETTY_NAME", "") in lack.seen
    assert "by hand" in lack.remedy
    assert DOCKER in lack.remedy


@pytest.mark.parametrize("text", [TRIXIE, FEDORA, OPENEULER, ""])
def test_a_docker_that_is_there_is_taken_whatever_the_distribution(text: str) -> None:
    assert lack_of(properties(text), service=True, client=DOCKER) is None


def test_the_command_alone_is_installed_where_it_has_a_package() -> None:
    lack = lack_of(properties(TRIXIE), service=True, client=None)
    assert lack
    assert lack.install
    assert lack.install.packages == ("docker-cli",)
    elsewhere = lack_of(properties(ROCKY), service=True, client=None)
    assert elsewhere
    assert elsewhere.install is None
    assert DOCKER in elsewhere.remedy


def test_a_command_that_units_do_not_run_is_linked_and_a_snap_removed() -> None:
    lack = lack_of(properties(TRIXIE), service=True, client="/usr/local/bin/docker")
    assert lack
    assert f"ln -s /usr/local/bin/docker {DOCKER}" in lack.remedy
    snap = lack_of(properties(TRIXIE), service=False, client="/snap/bin/docker")
    assert snap
    assert snap.install is None
    assert "snap remove docker" in snap.remedy


def test_what_a_command_lies_apart_in_is_one_of_all_packages() -> None:
    for releases in SOURCES.values():
        for source in releases.values():
            assert set(source.client) < set(source.packages)
            assert source.manager == ("dnf" if source.repository else "apt")


def test_the_systems_that_vendors_and_the_lab_name_are_known_or_said() -> None:
    """A system without packages here is one whose users install Docker by hand."""
    named = {
        (name, version)
        for systems in (LAB_SYSTEMS, *(vendor.systems for vendor in VENDORS.values()))
        for name, versions in systems.items()
        for version in versions
    }
    unknown = {pair for pair in named if not source_of({"ID": pair[0], "VERSION_ID": pair[1]})}
    assert unknown == {
        ("sles", "15"),
        ("sles", "16"),
        ("amzn", "2023"),
        ("azurelinux", "3.0"),
        ("kylin", "V11"),
    }


@given(
    st.dictionaries(st.sampled_from(["ID", "VERSION_ID", "PRETTY_NAME"]), st.text()),
    st.booleans(),
    st.sampled_from([None, *CLIENTS]),
)
def test_whatever_is_missing_has_a_remedy(release, service, client) -> None:
    lack = lack_of(release, service, client)
    assert (lack is None) == (service and client == DOCKER)
    assert lack is None or (lack.seen and lack.remedy)
