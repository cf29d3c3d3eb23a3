# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_access
short_description: Say who a gateway lets in, and give it its certificate, while it runs
version_added: "0.1.0"
description:
  - Keeps the teams' keys and the certificate of a gateway in files that HAProxy reads when it
    starts, and gives both to the one that runs by its runtime API. Nothing is restarted, and
    connections that are open go on.
  - Keys come as digests. There is no key on the node.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows the beginnings of the keys' digests by team, and the public part of
      certificates.
  idempotent:
    support: full
options:
  gateway:
    description: The name of the gateway's unit.
    type: str
    required: true
  teams:
    description:
      - The SHA-256 of each key, as hexadecimal digits, with its team.
      - Null, or nothing, leaves what there is.
    type: dict
  tls:
    description:
      - The gateway's certificate. Null, or nothing, leaves what there is.
    type: dict
    suboptions:
      certificate:
        description:
          - The file on the node with the certificate and its chain, PEM.
          - Without it the node makes a certificate and signs it itself, once.
        type: path
      key:
        description: The file on the node with its key, PEM, without a passphrase.
        type: path
      names:
        description: The names or addresses that the certificate has to be for.
        type: list
        elements: str
        required: true
      ca:
        description: The file on the node with the authority that clients check it by.
        type: path
  authority_file:
    description:
      - A file on the controller for RV(authority), where there is one.
      - In a run of the playbooks it also holds what clients check a given certificate by, which
        M(muster.serving.cluster_work) keeps there.
    type: path
requirements:
  - openssl on the node, for O(tls)
notes:
  - An action of the same name runs it, and writes O(authority_file).
  - Without O(teams) and O(tls) files stay, so that an older plan that needs them can be started.
seealso:
  - module: muster.serving.gateway_drain
"""

EXAMPLES = r"""
- name: Let two teams in, one of them with its next key, too
  muster.serving.gateway_access:
    gateway: a2-replicas-gateway0
    teams:
      2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae: search
      fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9: search
      baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096: support

- name: Take over a certificate that has been renewed
  muster.serving.gateway_access:
    gateway: a2-replicas-gateway0
    tls:
      certificate: /etc/ssl/llm/fullchain.pem
      key: /etc/ssl/llm/privkey.pem
      names: [llm.example.net]
"""

RETURN = r"""
authority:
  description:
    - The certificate that the node has made, PEM. It has signed it itself, so that clients check
      it by that very certificate.
  returned: with O(tls) that has no O(tls.certificate)
  type: str
told:
  description: What the running gateway was given, or would be, V(keys) and V(certificate).
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_access,
    gateway_access_io,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_access import (
    CertificateError,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_access_io import (
    Ask,
    Part,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_admin import AdminError


def apply(files: NodeFiles, params: dict[str, Any], part: Part, ask: Ask | None) -> None:
    """Tell the running gateway, then write a part's file: a run that is killed is repeated."""
    if ask and part.in_process:
        if part.what == "keys":
            gateway_access_io.tell_keys(ask, part.path, params["teams"])
        else:
            gateway_access_io.tell_certificate(ask, part.path, part.wanted)
    if part.in_file:
        gateway_access_io.write(files, part.path, part.wanted)


def made(files: NodeFiles, params: dict[str, Any], part: Part) -> Part:
    """Return a part with the certificate made that the node has yet to make."""
    if part.wanted or part.what == "keys":
        return part
    pem = gateway_access_io.make_own(files, params["gateway"], params["tls"]["names"])
    return part._replace(wanted=pem)


def diff(part: Part) -> dict[str, str]:
    """Return a part's file before and after, without what is secret in it."""
    of_keys = part.what == "keys"
    shown = gateway_access.keys_shown if of_keys else gateway_access.public_part
    return {
        "before": shown(part.found or ""),
        "after": shown(part.wanted),
        "before_header": part.path,
        "after_header": part.path,
    }


def authority_of(tls: dict[str, Any] | None, parts: list[Part]) -> dict[str, str]:
    """Return the result's authority; nothing where the node has made no certificate."""
    own = tls is not None and tls["certificate"] is None and parts[-1].wanted
    return {"authority": gateway_access.public_part(parts[-1].wanted)} if own else {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **gateway_access_io.ARGUMENT_SPEC,
            # The action's.
            "authority_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    files = NodeFiles()
    try:
        ask = gateway_access_io.asker(params["gateway"])
        parts, _checks = gateway_access_io.look(files, params, ask)
        if not module.check_mode:
            parts = [made(files, params, part) for part in parts]
            for part in parts:
                apply(files, params, part, ask)
    except (AdminError, CertificateError, unit_io.UnitError, OSError) as error:
        module.fail_json(msg=f"{params['gateway']}: {error}")
    module.exit_json(
        changed=any(part.in_file or part.in_process for part in parts),
        told=[part.what for part in parts if part.in_process],
        diff=[diff(part) for part in parts if part.in_file],
        **authority_of(params["tls"], parts),
    )


if __name__ == "__main__":
    main()
