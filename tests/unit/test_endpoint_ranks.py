"""Engines that have an API of their own: external data parallelism."""

from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.probe_io import Prober

from tests.unit.fake_endpoint import MODEL, serving


def probe(front, ranks, engines):
    clients = {label: Client(rank.url, None, 5) for label, rank in ranks.items()}
    hosts = {"0": "a2-node0", "1": "a2-node1"}
    prober = Prober(Client(front.url, None, 5), MODEL, hosts, clients)
    prober.run(features=["chat"], engines=engines, max_requests=8)
    return prober


def of_engines(prober):
    return {
        one["subject"].split(" (")[0]: one["status"]
        for one in prober.checks
        if one["id"] == "endpoint-engines"
    }


def test_each_rank_is_asked_itself():
    with serving() as first, serving() as second:
        for rank in (first, second):
            rank.engines = {"9": 0.0}
        prober = probe(first, {"0": first, "1": second}, ["0", "1"])
        assert of_engines(prober) == {
            "engine 0 on a2-node0": "ok",
            "engine 1 on a2-node1": "ok",
        }
        assert prober.tokens == {"0": 16, "1": 16}
        assert len(second.requests) == 1


def test_a_rank_that_does_not_answer_is_named_with_its_url():
    with serving() as first, serving() as second:
        second.broken["/v1/chat/completions"] = 500
        prober = probe(first, {"0": first, "1": second}, ["0", "1"])
        (check,) = [one for one in prober.checks if one["status"] == "failed"]
        assert check["subject"] == f"engine 1 on a2-node1 ({second.url})"
        assert "500" in check["observed"]
        assert prober.tokens["1"] == 0
