# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an API answers this host, which clients of others tell late and in many lines."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import EndpointError

_ASK_S = 60


def why_unreachable(url: str, key: str | None, role: str, ca: str | None = None) -> str | None:
    """Return why an API does not answer this host and what to do; None where it does.

    Args:
        url: The API, http[s]://HOST:PORT/v1.
        key: Its key; None for none.
        role: The role whose variables are the remedy.
        ca: The file with the authority of its certificate; None for those that the host knows.
    """
    try:
        client = Client(url, key, _ASK_S, ca)
    except OSError as error:
        return f"{ca}, by which the certificate of {url} is checked, cannot be read: {error}"
    try:
        client.get(f"{client.base}/models")
    except EndpointError as error:
        remedy = f"choose a host that reaches it ({role}_client)"
        if error.status in (401, 403):
            remedy = f"give its key ({role}_api_key_file)"
        elif "CERTIFICATE" in str(error):
            remedy = (
                f"name the authority of its certificate, SSL_CERT_FILE in {role}_environment; of "
                "a gateway it is muster-output/CLUSTER/gateway.pem"
            )
        return f"{url} does not answer this host: {error}; {remedy}"
    return None
