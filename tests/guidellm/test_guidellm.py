"""The real GuideLLM, loading an engine whose figures are known.

What the engine takes for the first token and for each other is fixed, so that figures that are read
wrongly are others. The environment is made once for each content of the lock file.
"""

import contextlib
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.muster.serving.plugins.module_utils.engine import guidellm_io
from ansible_collections.muster.serving.plugins.module_utils.engine.guidellm_io import GuidellmError
from ansible_collections.muster.serving.plugins.plugin_utils.report.shapes import wrong

from tests.conftest import ROOT
from tests.unit.authority import Authority
from tests.unit.test_bench import B200, made_plan, runs

LOCK = ROOT / "roles/bench/files/requirements.lock"
KEY = "sk-of-the-engine"
FIRST_S, NEXT_S = 0.05, 0.005
TOKENIZER = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
letters = {one: place for place, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
made = Tokenizer(models.BPE(vocab=letters, merges=[]))
made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
made.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(sys.argv[1])
"""


class Handler(BaseHTTPRequestHandler):
    """As a gateway does, it lets through the API alone, to those with the key."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def do_GET(self):
        engine = self.server
        if self.path == "/metrics":
            running = engine.places - engine.free._value
            page = f'vllm:num_requests_running{{engine="0"}} {running}\n'
            page += f'vllm:num_requests_waiting{{engine="0"}} {engine.under_way - running}\n'
            self._send(200, page.encode())
        elif self.path != "/v1/models":
            self._send(404, b"")
        elif self.headers.get("Authorization") != f"Bearer {KEY}":
            self._send(401, b'{"error": "Unauthorized"}')
        else:
            self._send(200, json.dumps({"data": [{"id": "m"}]}).encode())

    def do_POST(self):
        engine = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Authorization"] == f"Bearer {KEY}"
        engine.asked.append((time.monotonic(), asked))
        engine.under_way += 1
        with engine.free:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            time.sleep(FIRST_S)
            for _token in range(asked["max_tokens"]):
                self._event({"choices": [{"index": 0, "text": "a"}]})
                time.sleep(NEXT_S)
        engine.under_way -= 1
        prompt, answer = len(asked["prompt"].encode()), asked["max_tokens"]
        usage = {"prompt_tokens": prompt, "completion_tokens": answer}
        self._event({"choices": [], "usage": {**usage, "total_tokens": prompt + answer}})
        self._write(b"data: [DONE]\n\n")
        self._write(b"")

    def _event(self, value):
        self._write(f"data: {json.dumps(value)}\n\n".encode())

    def _write(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Engine(ThreadingHTTPServer):
    """Something that serves so many requests at once; its address is C(url)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, places, authority=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.places, self.asked, self.under_way = places, [], 0
        self.free = threading.Semaphore(places)
        scheme = "http"
        if authority:
            scheme = "https"
            certificate, key = authority.folder / "engine.pem", authority.folder / "engine.key"
            authority.issue(certificate, key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_args):
        """A client that goes away is what a bound in time is about."""


@contextlib.contextmanager
def serving(places, authority=None):
    engine = Engine(places, authority)
    thread = threading.Thread(target=engine.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield engine
    finally:
        engine.shutdown()
        engine.server_close()
        thread.join()


@pytest.fixture(scope="session")
def venv():
    return guidellm_io.prepare(LOCK.read_text(), None, None, None)[0]


@pytest.fixture(autouse=True)
def few_processes(monkeypatch):
    """GuideLLM starts up to ten for a trace, each of which takes seconds of a core."""
    monkeypatch.setenv("GUIDELLM__MAX_WORKER_PROCESSES", "2")


@pytest.fixture(scope="session")
def tokenizer(venv, tmp_path_factory):
    """A tokenizer whose tokens are letters."""
    folder = str(tmp_path_factory.mktemp("model"))
    subprocess.run([f"{venv}/bin/python", "-c", TOKENIZER, folder], check=True, timeout=120)
    guidellm_io.check_tokenizer(folder)
    return folder


def planned(url, tokenizer, folder, **wish):
    """The plan of a replica behind an address, and what a sweep of it is going to do."""
    plan = made_plan(B200, model_path=tokenizer)
    for one in [*plan["replicas"], *plan["units"]]:
        one["url" if "index" in one else "api_url"] = url
    made = json.dumps(runs(plan, single=True, tool="guidellm", **wish))
    return plan, json.loads(made.replace("/var/lib/muster/bench/c", str(folder)))


LOAD = {"name": "prefix", "dataset": "prefix_repetition", "input": 48, "output": 16}
LOAD |= {"prefix": 16, "prefixes": 1, "concurrency": 1, "prompts": 8}


def swept(tmp_path, plan, made, environment, **options):
    """What the action has reported of a sweep, what Ansible printed, and the folder of reports."""
    (tmp_path / "key").write_text(f"{KEY}\n")
    sweep = {
        "plan": plan,
        "made": {**made, "warm_up": False},
        "every": 0.3,
        "api_key_file": str(tmp_path / "key"),
        "lock": "{{ lookup('ansible.builtin.file', lock_file) }}",
        "output_dir": str(tmp_path / "out"),
        **options,
    }
    tasks = [{"muster.serving.bench_sweep": sweep, "environment": environment}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", str(tmp_path / "play.yml")),
            *("-i", "localhost,", "-e", f"lock_file={LOCK}"),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    (path,) = (tmp_path / "out").glob("sweep-*.json")
    report = json.loads(path.read_text())
    assert wrong("sweep", report) == ""
    # Nothing is left on the host.
    assert not (tmp_path / "run").exists()
    return report, said, tmp_path / "out"


def test_a_sweep_finds_the_knee_and_keeps_what_guidellm_made(venv, tokenizer, tmp_path):
    authority = Authority(tmp_path / "authority")
    with serving(1, authority) as engine:
        plan, made = planned(
            engine.url, tokenizer, tmp_path / "run", custom=[LOAD], scenarios=["prefix"]
        )
        # The second of two has to wait for the first.
        options = {"bounds": {"p50_ttft_ms": 120}, "most": 2, "gain": 50}
        trusted = {"SSL_CERT_FILE": str(authority.ca)}
        report, said, out = swept(tmp_path, plan, made, trusted, **options)
        asked = [one for _at, one in engine.asked]
    assert [step["concurrency"] for step in report["steps"]] == [1, 2]
    assert [step["problems"] for step in report["steps"]] == [[], []]
    assert (report["ended"], report["knee"]["concurrency"]) == ("bound broken", 1)
    assert report["largest_within_bounds"]["concurrency"] == 1
    assert report["binds"]["concurrency"] == 2
    alone, two = (step["metrics"] for step in report["steps"])
    for seen, number, at_once in ((alone, 8, 1), (two, 10, 2)):
        # It may lose the last one, and tells so.
        assert number - 1 <= seen["completed"] <= number
        assert (seen["failed"], seen["peak_concurrent_requests"]) == (0, at_once)
        assert seen["total_generated_tokens"] == 16 * seen["completed"]
        # Between prefix and prompt it puts a space.
        assert seen["total_input_tokens"] == 49 * seen["completed"]
        assert 1000 * NEXT_S <= seen["median_tpot_ms"] < 3000 * NEXT_S
        # One after the other, whatever is asked for at once.
        best = 1 / (FIRST_S + 16 * NEXT_S)
        assert 0.4 * best < seen["request_per_s"] <= best
        assert seen["output_tok_per_s"] == pytest.approx(16 * seen["request_per_s"])
    assert 1000 * FIRST_S <= alone["median_ttft_ms"] < 120 < two["median_ttft_ms"]
    assert 1000 / best <= alone["median_e2e_ms"] < 0.8 * two["median_e2e_ms"]
    assert alone["good_request_per_s"] > two["good_request_per_s"]
    # Lengths and shared prefixes are what was asked for, and no prompt comes twice.
    first, second = asked[:8], asked[8:]
    for step in (first, second):
        assert {len(one["prompt"]) for one in step} == {49}
        assert len({one["prompt"][:16] for one in step}) == 1
    assert len({one["prompt"] for one in asked}) == len(asked)
    assert len(asked) == 18
    assert {(one["max_tokens"], one["ignore_eos"], one["model"]) for one in asked} == {
        (16, True, plan["endpoint"]["model"])
    }
    # What GuideLLM made lies beside the report, without requests, and its page has both loads.
    own = report["guidellm"]
    assert f"guidellm=={own['version']}" in LOCK.read_text()
    assert (own["venv"], own["trace"]) == (venv, None)
    whole = json.loads((out / own["report"]).read_text())
    assert [one["requests"]["successful"] for one in whole["benchmarks"]] == [[], []]
    page = (out / own["page"]).read_text()
    assert "<html" in page
    assert "Concurrent@2" in page or "concurrent@2" in page
    # The key is in nothing that anybody reads.
    assert not any(KEY in text for text in (said, *(one.read_text() for one in out.iterdir())))


def test_a_trace_is_replayed_when_it_came_and_no_longer_than_asked(venv, tokenizer, tmp_path):
    path = tmp_path / "trace.jsonl"
    # In milliseconds, ten a second for a minute; the first block of 512 tokens is all prompts'.
    rows = [
        {
            "timestamp": 5000 + 100 * n,
            "hash_ids": [0, n + 1],
            "input_length": 520 + n % 300,
            "output_length": 4 + n // 300,
        }
        for n in range(600)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with serving(64) as engine:
        plan, made = planned(engine.url, tokenizer, tmp_path / "run", trace=str(path))
        options = {"trace": str(path), "trace_scale": 0.001, "seconds": 2.0, "venv": venv}
        report, _said, _out = swept(tmp_path, plan, made, {}, bounds={"p99_e2e_ms": 1}, **options)
        asked = engine.asked
    (step,) = report["steps"]
    assert step["problems"] == []
    # Two seconds of it, and what was due while a busy machine made it ready.
    assert 10 <= step["metrics"]["completed"] == step["requests"] < 500
    trace, load = report["guidellm"]["trace"], report["scenario"]
    assert (load["dataset"], load["input"], load["output"]) == ("trace", 819, 5)
    assert (trace["kind"], trace["requests"], trace["seconds"]) == ("mooncake", 600, 59900)
    assert (report["ended"], report["knee"]) == ("bound broken", None)
    assert step["broken"][0].startswith("p99_e2e_ms")
    sent = {(len(one["prompt"]), one["max_tokens"]) for _at, one in asked}
    assert len(sent) == len(asked)
    assert sent <= {(row["input_length"], row["output_length"]) for row in rows}
    assert len({one["prompt"][:512] for _at, one in asked}) == 1


def test_an_api_that_does_not_answer_is_told_before_anything_is_made(tmp_path):
    authority = Authority(tmp_path / "authority")
    with serving(1, authority) as engine:
        guidellm_io.check_reach(engine.url, KEY, str(authority.ca))
        for key, ca, said in (
            ("sk-wrong", str(authority.ca), r"HTTP 401.*bench_api_key_file"),
            (KEY, None, r"SSL_CERT_FILE in bench_environment"),
            (KEY, str(tmp_path / "none"), r"none, by which .* cannot be read"),
        ):
            with pytest.raises(GuidellmError, match=said):
                guidellm_io.check_reach(engine.url, key, ca)
