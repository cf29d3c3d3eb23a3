"""hccn_tool's answers and /etc/hccn.conf."""

from __future__ import annotations

import pytest
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import hccn
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.npu_node import capture


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (hccn.parse_link, "link status: UP\n", "UP"),
        (hccn.parse_link, "link status: DOWN\r\n", "DOWN"),
        (hccn.parse_link, "vnic link status: UP\n", None),
        (hccn.parse_link, "Command execute failed!\n", None),
        (hccn.parse_link, "hccn_tool is busy, please try again.\n", None),
        (hccn.parse_net_health, "net health status: Success\n", "Success"),
        (hccn.parse_net_health, "net health status: Socket fail \n", "Socket fail"),
        (hccn.parse_net_health, "net health status:\nInit\n", None),
        (hccn.parse_net_health, "", None),
        (hccn.parse_address, "ipaddr:10.0.0.1\nnetmask:255.255.0.0\n", "10.0.0.1"),
        (hccn.parse_address, "ipaddr:\nnetmask:\n", None),
        (hccn.parse_address, "ipaddr:10.0.0.300\n", None),
        (hccn.parse_gateway, "default gateway: 10.0.0.1, Iface:eth0\n", "10.0.0.1"),
        (hccn.parse_gateway, "Get gateway failed, because no gateway was preset there!", None),
        (hccn.parse_detect_address, "netdetect addr: 10.0.0.1\n", "10.0.0.1"),
        (hccn.parse_detect_address, "netdetect address: \n", None),
        (hccn.parse_neighbour, "System Description TLV\n\tAscendNPU\nEnd of LLDPDU TLV\n", "npu"),
        (hccn.parse_neighbour, "Port ID TLV\n\tIfname: AscendNPU0\nEnd of LLDPDU TLV\n", None),
        (hccn.parse_neighbour, "System Description TLV\nMaximum Frame Size TLV\n\t9216\n", None),
    ],
)
def test_answers(parse, text, expected):
    assert parse(text) == expected


def test_the_end_of_hccs_is_a_link_and_an_address():
    up = capture("hccn_vnic_loop_8")

    assert hccn.parse_vnic(up) == hccn.Vnic("UP", "192.168.2.199")
    assert hccn.parse_vnic(up.replace("UP", "DOWN")) == hccn.Vnic("DOWN", "192.168.2.199")
    assert hccn.parse_vnic("vnic link status: UP\n") is None
    assert hccn.parse_vnic("vnic link status: UP\nvnic ipaddr: none\n") is None


def test_captured_answers():
    assert hccn.parse_net_health(capture("hccn_net_health_SOCKET_FAILED")) == "Socket failed"
    assert hccn.parse_address(capture("hccn_ip_910B1")) == "29.1.112.213"
    assert hccn.parse_gateway(capture("hccn_gateway_loop_8")) == "11.12.165.1"
    assert hccn.parse_detect_address(capture("hccn_netdetect_loop_ELIDED")) == "11.12.165.1"
    assert hccn.parse_neighbour(capture("hccn_lldp_910B1_switch")) == "switch"
    assert hccn.parse_neighbour(capture("hccn_lldp_ifname_loop_8")) is None
    assert hccn.parse_ping(capture("hccn_ping_910B1_ok")) == hccn.Ping(3, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 packets transmitted, 2 received, 33.33% packet loss\n", (3, 2)),
        ("recv seq 2, time = 7us\n3 packets transmitted, 3 received, 0.00% packets loss\n", (3, 3)),
        ("recv time out seq=0\n3 packets transmitted, 0 received, 100.00% packet loss\n", (3, 0)),
        ("device 3 PING 29.1.137.205\nDestination Host Unreachable\n", None),
        ("3 packets transmitted, ", None),
        ("Execute failed: Link status is down.\n", None),
    ],
)
def test_pings(text, expected):
    assert hccn.parse_ping(text) == expected


@pytest.mark.parametrize(
    ("text", "unset"),
    [
        ("Get gateway failed, because no gateway was preset there!\n", True),
        ("Get ipconf failed, because no ip was preset there!\n", True),
        ("\n", True),
        ("permission denied: pls check this cmd run permission.\n", False),
        ("ipaddr:10.0.0.1\nnetmask:255.255.0.0\n", False),
    ],
)
def test_a_setting_is_unset_when_the_tool_says_so(text, unset):
    assert hccn.is_unset(text) is unset


def test_tls_is_the_switch_and_not_another_one_in_the_line():
    assert hccn.parse_tls(capture("hccn_tls_switch_loop_8_off"), 7) == "0"
    assert hccn.parse_tls(capture("hccn_tls_with_certs_2dev"), 1) == "0"


def test_tls_is_the_asked_devices_own():
    text = capture("hccn_tls_MISMATCH_2dev")

    assert [hccn.parse_tls(text, device) for device in (0, 1, 2)] == ["0", "1", None]


def test_configuration_of_every_device():
    settings, problems = hccn.parse_configuration(capture("hccn_conf_A3_16npu"))

    assert problems == []
    assert sorted(settings) == list(range(16))
    assert settings[1]["address"] == "127.0.0.114"
    assert settings[1]["arp"] == "-i eth1 -s 127.0.0.24 bc:1e:85:d8:ca:dc"
    assert all(values["tls_enable"] == "0" for values in settings.values())


def test_a_truncated_configuration_lacks_what_was_cut():
    settings, problems = hccn.parse_configuration(capture("hccn_conf_4npu_TRUNCATED"))

    assert problems == []
    assert set(settings[3]) == {"address"}


def test_a_line_that_is_no_setting_is_a_problem():
    settings, problems = hccn.parse_configuration(capture("hccn_conf_910B1_x8_ELIDED"))

    assert sorted(settings) == [0, 7]
    assert problems == ["/etc/hccn.conf line 6 is not KEY_DEVICE=VALUE"]


def test_an_empty_configuration_is_none():
    assert hccn.parse_configuration("\n# made by the installer\n") == ({}, [])


PARSERS = [
    hccn.parse_link,
    hccn.parse_net_health,
    hccn.parse_address,
    hccn.parse_gateway,
    hccn.parse_detect_address,
    hccn.parse_neighbour,
    hccn.parse_ping,
    hccn.parse_vnic,
    hccn.parse_configuration,
    lambda text: hccn.parse_tls(text, 0),
]
WORDS = [
    "link status: ",
    "net health status:",
    "ipaddr:",
    "default gateway:",
    "dev_id:0, tls switch[",
]
WORDS += ["System Description TLV\n", "UP", "0", "]", "10.0.0.1", "address_0=", "\n", "\t", "٣"]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5)).map("".join))
def test_any_text_is_taken(text):
    for parse in PARSERS:
        parse(text)
