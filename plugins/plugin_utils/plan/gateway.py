# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway in front of replicas or ranks: HAProxy's and keepalived's configuration. Pure.

The configuration is for HAProxy 2.4 and later, that of the address for keepalived 2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.paths import MANAGED_HEADER
from ansible_collections.muster.serving.plugins.module_utils.units import names
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_access import (
    OWN_TEAM,
    USER_ID,
    certificate_path,
    keys_path,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_address import PROBE_PATH
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_admin import (
    BACKEND,
    admin_folder,
    admin_socket,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

IMAGE = "docker.io/library/haproxy:3.0"
LEAST_OUTSTANDING = "least-outstanding"
PREFIX_AFFINE = "prefix-affine"
BALANCES = (LEAST_OUTSTANDING, PREFIX_AFFINE)
HEALTH_PATH = "/muster/health"
METRICS_PATH = "/muster/metrics"
USAGE_PATH = "/muster/usage"
# What users of a model that writes text need of vLLM's and SGLang's APIs. Everything else stays
# with those who reach the engines themselves: below /v1, too, engines load adapters and tell what
# they were given.
API_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/responses",
)
# One model, whose name may have slashes in it; one answer that is under way.
API_PATTERNS = (
    "^/v1/models(/[A-Za-z0-9][A-Za-z0-9._:@+-]*)+$",
    "^/v1/responses/resp_[A-Za-z0-9_-]+(/cancel)?$",
)
API_KEY_ENV = "MUSTER_API_KEY"

# A completion may take an hour; that an engine's host has died is found out by keep-alives.
REQUEST_TIMEOUT_S = 3600
# A check asks for one token, which waits its turn behind the prefill of all that came before it.
# An engine that is merely busy has three times this long before it is taken out; one that refuses
# connections has a few seconds.
CHECK_TIMEOUT_S = 120
# Requests in flight that a gateway holds for each engine, waiting ones included.
CONNECTIONS_PER_BACKEND = 512
# Where a conversation's first messages have to fit for the balancing to see them.
BODY_BYTES = 131072
# How much more than its share of the requests an engine may get for affinity's sake. Twice the
# share of one of two engines would be all of them.
LOAD_BOUND_PERCENT = 200
LOAD_BOUND_PERCENT_OF_TWO = 150
# What HAProxy has no use for where it begins as root: it opens its port and changes its user.
GATEWAY_DROPS = ["AUDIT_WRITE", "FSETID", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_CHROOT"]
FIRST_FREE_PORT = 1024


class GatewayHost(NamedTuple):
    """A host of the cluster that runs a gateway."""

    host: str
    machine: str
    address: str
    interface: str


class Backend(NamedTuple):
    """One API server behind the gateway: a replica, or a rank that has its own."""

    name: str
    address: str
    port: int


class Floating(NamedTuple):
    """An address that moves to a gateway that answers; router_id is VRRP's, 1 to 255."""

    address: str
    router_id: int


class Tls(NamedTuple):
    """How gateways speak TLS.

    Fields:
        certificate: The file with the certificate and its chain on their hosts; None for a
            certificate that the host makes and signs itself.
        key: The file with its key there; None with the certificate.
        ca: A file on their hosts with the authority that the certificate is checked by; None for
            those that the host knows.
        name: What clients call the gateway; None for its address.
    """

    certificate: str | None = None
    key: str | None = None
    ca: str | None = None
    name: str | None = None


def gateway_units(
    *,
    cluster: str,
    hosts: Sequence[GatewayHost],
    port: int,
    backends: Sequence[Backend],
    model: str,
    balance: str = LEAST_OUTSTANDING,
    api_key_file: str | None = None,
    image: str = IMAGE,
    floating: Floating | None = None,
    team_keys: bool = False,
    tls: Tls | None = None,
) -> list[dict[str, Any]]:
    """Return the gateway units of a plan, one a host.

    Beside the keys of every unit each has floating: null, or what the role
    muster.serving.gateway takes, {"address", "router_id", "interface", "config"}; and tls: null,
    or what muster.serving.gateway_access takes, {"certificate", "key", "names", "ca"}.

    Raises:
        PlanError: The floating address, keys or TLS cannot work with these hosts.
    """
    errors = _floating_errors(cluster, hosts, floating) if floating else []
    if team_keys and api_key_file is None:
        errors.append(
            f"{cluster}: muster_gateway_keys would close the front door alone: engines answer "
            "whoever reaches their ports unless they ask for a key of their own. Put one into a "
            "file on the nodes and set muster_api_key_file; no user needs it"
        )
    if tls and not tls.certificate and len(hosts) > 1:
        errors.append(
            f"{cluster}: muster_gateway_tls has no certificate, and each of the {len(hosts)} "
            "gateways would make one of its own, of which a client can know one: name a "
            "certificate and key that are on all of muster_gateway_hosts"
        )
    if errors:
        raise PlanError(errors)
    units = []
    for index, host in enumerate(hosts):
        name = names.gateway_name(cluster, index)
        folder = f"/etc/muster/{name}"
        # Whoever holds the floating address changes: HAProxy listens on all of the host's.
        bind = _any_address(floating.address) if floating else host.address
        config = haproxy_config(
            bind=bind,
            port=port,
            backends=backends,
            model=model,
            balance=balance,
            api_key=api_key_file is not None,
            admin=admin_socket(name),
            keys=keys_path(name) if team_keys else None,
            usage=f"{folder}/usage.lua" if team_keys else None,
            certificate=certificate_path(name) if tls else None,
        )
        units.append(
            {
                "name": name,
                "host": host.host,
                "node": host.machine,
                "address": host.address,
                "interface": host.interface,
                # Of no replica: its own number among the gateways. It restarts alone.
                "replica": index,
                "group": names.gateway_group(index),
                "role": "gateway",
                "ranks": [],
                "devices": [],
                "device_nodes": [],
                "mounts": [f"{folder}:{folder}:ro", f"{admin_folder(name)}:{admin_folder(name)}"],
                "env": {},
                "argv": ["haproxy", "-W", "-db", "-f", f"{folder}/haproxy.cfg"],
                "files": {
                    f"{folder}/haproxy.cfg": config,
                    **({f"{folder}/usage.lua": USAGE_LUA} if team_keys else {}),
                },
                "ports": {"gateway": port},
                "image": image,
                "install": "container",
                "container": {
                    "ipc": None,
                    "shm_size": None,
                    "privileged": False,
                    "cap_add": [],
                    "cap_drop": GATEWAY_DROPS if port < FIRST_FREE_PORT else ["ALL"],
                    "group_add": [],
                    "security_opt": ["no-new-privileges"],
                    # A capability would not reach a process that is not root: for a port below
                    # 1024 HAProxy begins as root, opens it and changes its user itself.
                    "user": "0:0" if port < FIRST_FREE_PORT else f"{USER_ID}:{USER_ID}",
                    "entrypoint": [],
                    "gpus": [],
                },
                "start_timeout_s": 60,
                "first_start": None,
                "restart": {"count": 10, "window_s": 600},
                "secret_files": {API_KEY_ENV: api_key_file} if api_key_file else {},
                "systemd_unit": names.service(name),
                "api_url": gateway_url(host.address, port, tls) + "/v1",
                "floating": _floating(cluster, hosts, index, port, floating, tls)
                if floating
                else None,
                "team_keys": team_keys,
                "tls": _unit_tls(name, host.address, floating, tls) if tls else None,
            }
        )
    return units


def gateway_url(host: str, port: int, tls: Tls | None) -> str:
    """Return where a gateway is, by its address or name, without a path."""
    return f"{'https' if tls else 'http'}://{_host_port(host, port)}"


def _unit_tls(name: str, address: str, floating: Floating | None, tls: Tls) -> dict[str, Any]:
    called = tls.name or (floating.address if floating else address)
    own = certificate_path(name)
    return {
        "certificate": tls.certificate,
        "key": tls.key,
        "names": [called],
        # One that the host has signed itself is its own authority.
        "ca": tls.ca if tls.certificate else own,
    }


def _floating_errors(cluster: str, hosts: Sequence[GatewayHost], floating: Floating) -> list[str]:
    errors = []
    if len(hosts) < 2:
        errors.append(
            f"{cluster}: muster_gateway_address moves between gateways, and muster_gateway_hosts "
            f"names {len(hosts)}: name two, or unset muster_gateway_address"
        )
    errors += [
        f"{host.host}: muster_interface is not set: the gateway's floating address "
        f"{floating.address} needs the name of the NIC that is to hold it"
        for host in hosts
        if not host.interface
    ]
    return errors


def _floating(
    cluster: str,
    hosts: Sequence[GatewayHost],
    index: int,
    port: int,
    floating: Floating,
    tls: Tls | None,
) -> dict[str, Any]:
    host = hosts[index]
    return {
        "address": floating.address,
        "router_id": floating.router_id,
        "interface": host.interface,
        "config": keepalived_config(
            cluster=cluster,
            address=floating.address,
            router_id=floating.router_id,
            interface=host.interface,
            priority=100 - index,
            own=host.address,
            probes=[
                gateway_url(one.address, port, tls) + HEALTH_PATH
                for one in (host, *(other for other in hosts if other is not host))
            ],
            peers=[other.address for other in hosts if other is not host],
        ),
    }


def haproxy_config(
    *,
    bind: str,
    port: int,
    backends: Sequence[Backend],
    model: str,
    balance: str = LEAST_OUTSTANDING,
    api_key: bool = False,
    admin: str | None = None,
    keys: str | None = None,
    usage: str | None = None,
    certificate: str | None = None,
    request_timeout_s: int = REQUEST_TIMEOUT_S,
    check_timeout_s: int = CHECK_TIMEOUT_S,
) -> str:
    """Return HAProxy's configuration.

    Args:
        bind: The address to listen on.
        port: The port to listen on.
        backends: The API servers.
        model: The model's name in their API.
        balance: One of BALANCES.
        api_key: Whether they ask for a key, which then stands in the variable API_KEY_ENV.
        admin: The socket by which it is told to drain an engine.
        keys: The map of digests of keys to teams. None for no keys of its own: the engines then
            judge those of its clients. With it goes api_key, which engines alone see.
        usage: The script that tells what teams have used; with keys.
        certificate: The file with its certificate and key. None for no TLS.
        request_timeout_s: How long a request may be without a byte from the engine.
        check_timeout_s: How long a health check may wait for its token.
    """
    blocks = [
        [MANAGED_HEADER],
        _global(port, len(backends), balance, admin, usage),
        _defaults(request_timeout_s, check_timeout_s, keys is not None),
        _frontend(bind, port, len(backends), keys, certificate),
        _backend(backends, model, balance, api_key),
        *([_TEAMS] if keys else []),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _global(
    port: int, backends: int, balance: str, admin: str | None, usage: str | None
) -> list[str]:
    lines = [
        "global",
        "    log stdout format raw local0",
        # Said, not derived: HAProxy would size itself for all files that the container may open.
        f"    maxconn {max(4096, CONNECTIONS_PER_BACKEND * backends)}",
        # Passing tokens on is little work, and the node's cores are the engine's.
        "    nbthread 4",
        # `docker stop` gives requests in flight half a minute.
        "    hard-stop-after 25s",
    ]
    if admin:
        # In a folder of its own, which nobody else may enter.
        lines.append(f"    stats socket {admin} mode 600 level admin")
    if port < FIRST_FREE_PORT:
        lines += [f"    uid {USER_ID}", f"    gid {USER_ID}"]
    if balance == PREFIX_AFFINE:
        lines.append(f"    tune.bufsize {BODY_BYTES}")
    if usage:
        lines += _with_lua(f"    lua-load {usage}")
    return lines


def _with_lua(line: str, otherwise: str | None = None) -> list[str]:
    """Return a line for an HAProxy that was built with Lua, and one for any other."""
    return [".if feature(LUA)", line, *([".else", otherwise] if otherwise else []), ".endif"]


def _defaults(request_timeout_s: int, check_timeout_s: int, keys: bool) -> list[str]:
    team = "team %[var(txn.team)], " if keys else ""
    return [
        "defaults",
        "    mode http",
        "    log global",
        # The path and no more of what was asked: queries and bodies may hold prompts.
        f'    log-format "%ci:%cp %b/%s %HM %[var(txn.path)] %ST %B bytes, {team}'
        'queued/connected/answered/done %Tw/%Tc/%Tr/%Ta ms, %ts, %rc retries"',
        "    option dontlognull",
        "    option log-health-checks",
        # An engine goes on with a request until it sees that its client has gone. HAProxy has to
        # watch for that on both sides.
        "    option abortonclose",
        "    timeout connect 2s",
        "    timeout http-request 30s",
        "    timeout http-keep-alive 75s",
        "    timeout queue 30s",
        f"    timeout client {request_timeout_s}s",
        f"    timeout server {request_timeout_s}s",
        f"    timeout tunnel {request_timeout_s}s",
        f"    timeout check {check_timeout_s}s",
    ]


def _frontend(
    bind: str, port: int, backends: int, keys: str | None, certificate: str | None
) -> list[str]:
    health, metrics = f"{{ path /health {HEALTH_PATH} }}", f"{{ path {METRICS_PATH} }}"
    tls = f" ssl crt {certificate} alpn h2,http/1.1 ssl-min-ver TLSv1.2" if certificate else ""
    open_paths = [*API_PATHS, *([USAGE_PATH] if keys else [])]
    closed = _error(403, "This gateway does not pass this path on.", "path_not_allowed")
    return [
        "frontend gateway",
        f"    bind {_host_port(bind, port)}{tls}",
        # Tokens go on one by one; waiting for a fuller packet would make a stream stutter.
        "    option http-no-delay",
        "    http-request set-var(txn.path) path",
        f"    http-request set-log-level silent if {health} or {metrics}",
        # An engine's own /health can be fine while every completion fails; this one counts
        # engines that produce tokens.
        f"    http-request return status 200 content-type text/plain lf-string "
        f'"%[nbsrv(engines)] of {backends} engines serve\\n" if {health} {{ nbsrv(engines) gt 0 }}',
        f"    http-request return status 503 content-type text/plain string "
        f'"0 of {backends} engines serve\\n" if {health}',
        f"    http-request use-service prometheus-exporter if {metrics}",
        # Engines have paths that stop or change them and that their API key does not protect. What
        # is let through is spelled out: a path in any other spelling is another path.
        f"    acl open path {' '.join(open_paths)}",
        f"    acl open path_reg {' '.join(API_PATTERNS)}",
        f"    http-request return {closed} if !open",
        # What was asked for by a whole URL goes on as a path, which engines read in one way.
        "    http-request set-uri %[pathq]",
        *(_keys(keys) if keys else []),
        '    http-error status 503 content-type application/json string "'
        '{\\"error\\":{\\"message\\":\\"No engine behind this gateway serves.\\",'
        '\\"type\\":\\"service_unavailable\\",\\"code\\":503}}"',
        f"    default_backend {BACKEND}",
    ]


def _keys(path: str) -> list[str]:
    """Let teams in by their keys, and nobody's key through to an engine.

    What is compared are digests: no key is in the map, nor in this process for longer than a
    request.
    """
    unknown = "!{ var(txn.team) -m found }"
    refused = _error(401, "Missing or incorrect API key.", "invalid_api_key")
    return [
        "    http-request set-var(txn.key) "
        "req.fhdr(Authorization),regsub('^Bearer +',,i),sha2(256),hex,lower"
        # Of two keys an engine might take the other one.
        " if { req.fhdr_cnt(Authorization) eq 1 } { req.fhdr(Authorization) -m beg -i 'bearer ' }",
        f"    http-request set-var(txn.team) var(txn.key),map_str({path})",
        # Muster's own requests have the engines' key.
        f"    http-request set-var(txn.own) env({API_KEY_ENV}),sha2(256),hex,lower",
        f"    http-request set-var(txn.team) str({OWN_TEAM})"
        " if { var(txn.own),strcmp(txn.key) eq 0 }",
        f"    http-request track-sc0 str(-) table teams if {unknown}",
        f"    http-request return {refused} hdr WWW-Authenticate Bearer if {unknown}",
        *_with_lua(
            f"    http-request use-service lua.muster-usage if {{ path {USAGE_PATH} }}",
            "    http-request return status 501 content-type text/plain string "
            f'"This HAProxy was built without Lua.\\n" if {{ path {USAGE_PATH} }}',
        ),
        "    http-request track-sc0 var(txn.team) table teams",
        f'    http-request set-header Authorization "Bearer %[env({API_KEY_ENV})]"',
    ]


def _error(status: int, message: str, code: str) -> str:
    """Return an answer in the form of OpenAI's errors, as HAProxy takes it."""
    text = json.dumps(
        {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": None,
                "code": code,
            }
        }
    )
    return f"status {status} content-type application/json string '{text}'"


# What teams have used since the gateway started. Entries stay until there is no room left.
_TEAMS = [
    "backend teams",
    "    stick-table type string len 64 size 4096 "
    "store http_req_cnt,http_err_cnt,http_fail_cnt,bytes_in_cnt,bytes_out_cnt",
]
# HAProxy's own metrics know no entry of a table.
USAGE_LUA = """\
-- Managed by Muster (muster.serving).
local counters = {
  {"http_req_cnt", "requests", "Requests that were let in; of the team -, refused for their key"},
  {"http_err_cnt", "client_errors", "Answers with a status of 400 to 499"},
  {"http_fail_cnt", "failures", "Answers with a status of 500 and above"},
  {"bytes_in_cnt", "received_bytes", "Bytes of requests"},
  {"bytes_out_cnt", "sent_bytes", "Bytes of answers"},
}

core.register_service("muster-usage", "http", function(applet)
  local teams, lines = core.backends["teams"].stktable:dump(), {}
  for _, counter in ipairs(counters) do
    local name = "muster_gateway_team_" .. counter[2] .. "_total"
    table.insert(lines, "# HELP " .. name .. " " .. counter[3] .. ".")
    table.insert(lines, "# TYPE " .. name .. " counter")
    for team, seen in pairs(teams) do
      table.insert(lines, string.format('%s{team="%s"} %d', name, team, seen[counter[1]]))
    end
  end
  local text = table.concat(lines, "\\n") .. "\\n"
  applet:set_status(200)
  applet:add_header("content-type", "text/plain; version=0.0.4")
  applet:add_header("content-length", tostring(#text))
  applet:start_response()
  applet:send(text)
end)
"""


def _backend(backends: Sequence[Backend], model: str, balance: str, api_key: bool) -> list[str]:
    asked = json.dumps({"model": model, "prompt": "1", "max_tokens": 1}).replace("'", "\\u0027")
    # Read when a check is sent, so that no character of a key means anything to HAProxy.
    key = f' hdr Authorization "Bearer %[env({API_KEY_ENV})]"' if api_key else ""
    return [
        f"backend {BACKEND}",
        *(_affinity(len(backends)) if balance == PREFIX_AFFINE else ["    balance leastconn"]),
        # A connection for each request. One that is kept may be closed by the engine while a
        # request is on its way into it, which is then lost: it cannot be sent again, since the
        # engine may have begun with it.
        "    option http-server-close",
        # For the same reason only a connection that did not come about is tried elsewhere.
        "    retries 3",
        "    retry-on conn-failure",
        "    option redispatch 1",
        # An engine may be silent for long; a host that has died does not answer keep-alives.
        "    option srvtcpka",
        "    srvtcpka-idle 30s",
        "    srvtcpka-intvl 10s",
        "    srvtcpka-cnt 3",
        "    option httpchk",
        "    http-check send meth POST uri /v1/completions ver HTTP/1.1 hdr Host gateway"
        f" hdr Content-Type application/json{key} body '{asked}'",
        "    http-check expect status 200",
        '    http-check expect rstring "completion_tokens.: ?[1-9]"',
        # Refused connections: out after at most 5 + 1 + 1 s. A host that has died while a check
        # waits for its token is found out by three requests that do not get through to it.
        "    default-server check inter 5s fastinter 1s downinter 5s fall 3 rise 2 "
        "observe layer4 error-limit 3 on-error mark-down",
        *(
            f"    server {backend.name} {_host_port(backend.address, backend.port)}"
            for backend in backends
        ),
    ]


def _affinity(backends: int) -> list[str]:
    """Send a conversation where its beginning is cached already, unless that engine is full.

    A conversation is told by its first messages: the system's, if any, and the user's. Where
    they cannot be found, by the beginning of the prompt or of the body.
    """
    body = "var(txn.body),json_query"
    missing = "if !{ var(txn.first) -m found }"
    bound = LOAD_BOUND_PERCENT if backends > 2 else LOAD_BOUND_PERCENT_OF_TWO
    told = "if { var(txn.role) -m str system developer }"
    return [
        f"    http-request wait-for-body time 30s at-least {BODY_BYTES} if METH_POST",
        # json_query gives up on some escapes, \u4f60 and \/ among them. What they stand for does
        # not matter here: all but an escaped quote become something plain.
        "    http-request set-var(txn.body) req.body,regsub('\\\\x5c[^\\\\x22]',~,g)",
        f"    http-request set-var(txn.role) {body}('$.messages[0].role')",
        # Before HAProxy 2.9 json_query finds no lists, only what is in them.
        f"    http-request set-var(txn.first) {body}('$.messages[0].content')",
        f"    http-request set-var(txn.first) {body}('$.messages[0].content[0].text') {missing}",
        f"    http-request set-var(txn.next) {body}('$.messages[1].content') {told}",
        f"    http-request set-var(txn.next) {body}('$.messages[1].content[0].text') {told}"
        " !{ var(txn.next) -m found }",
        f"    http-request set-var(txn.first) {body}('$.prompt'),bytes(0,1024) {missing}",
        f"    http-request set-var(txn.first) req.body,bytes(0,1024) {missing}",
        "    http-request set-header X-Muster-Affinity "
        "%[var(txn.first),xxh64,hex]-%[var(txn.next),xxh64,hex]",
        "    balance hdr(X-Muster-Affinity)",
        "    hash-type consistent sdbm avalanche",
        f"    hash-balance-factor {bound}",
    ]


def keepalived_config(
    *,
    cluster: str,
    address: str,
    router_id: int,
    interface: str,
    priority: int,
    own: str,
    peers: Sequence[str],
    probes: Sequence[str],
) -> str:
    """Return keepalived's configuration on one of the hosts between which an address moves.

    Args:
        cluster: Names the instance.
        address: The address that moves.
        router_id: VRRP's number of the address, equal on all hosts.
        interface: The NIC that is to hold it.
        priority: VRRP's; decides which host takes the address when none has it.
        own: The host's own address.
        peers: The addresses of the other hosts.
        probes: The health pages of the gateways, the host's own first.
    """
    return "\n".join(
        [
            MANAGED_HEADER,
            "global_defs {",
            f"    router_id {cluster}",
            "    script_user nobody",
            "    enable_script_security",
            "}",
            "",
            "vrrp_script gateway {",
            f'    script "{PROBE_PATH} {" ".join(probes)}"',
            "    interval 1",
            "    timeout 4",
            "    fall 2",
            "    rise 2",
            "    init_fail",
            "}",
            "",
            f"vrrp_instance {cluster} {{",
            # The address stays where it is until its gateway fails: moving it back cuts streams.
            "    state BACKUP",
            "    nopreempt",
            f"    interface {interface}",
            f"    virtual_router_id {router_id}",
            f"    priority {priority}",
            "    advert_int 1",
            # From host to host, since many networks of accelerator nodes filter multicast.
            f"    unicast_src_ip {own}",
            "    unicast_peer {",
            *(f"        {peer}" for peer in peers),
            "    }",
            "    virtual_ipaddress {",
            f"        {address}",
            "    }",
            "    track_script {",
            "        gateway",
            "    }",
            "}",
            "",
        ]
    )


def _any_address(like: str) -> str:
    return "::" if ":" in like else "0.0.0.0"  # noqa: S104 (the host's own choice of NIC)


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
