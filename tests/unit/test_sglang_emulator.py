"""The lab's emulator of SGLang: the API that endpoint_check asks, and the flags it refuses."""

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.probe_io import (
    FEATURES,
    Prober,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import EndpointError

from lab.sglang.build import HERE, INPUTS
from lab.sglang.launch_server import DECORATOR

MODEL = "minimax-m2.1"
PARSERS = ("--tool-call-parser", "minimax-m2", "--reasoning-parser", "minimax-append-think")


class Lab:
    """The emulator as it stands in its image, and a model for it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "sglang"
        self.models = self.home / "srt/models"
        self.models.mkdir(parents=True)
        for name in INPUTS:
            shutil.copy(HERE / name, self.home)
        self.model = folder / "model"
        self.model.mkdir()
        (self.model / "config.json").write_text('{"max_position_embeddings": 4096}')
        (self.model / "tokenizer.json").write_text("{}")

    def start(self, *flags, **env) -> subprocess.Popen:
        program = [sys.executable, "-m", "sglang.launch_server"]
        return subprocess.Popen(
            [*program, "--model-path", str(self.model), "--port", "0", *flags],
            cwd=self.home.parent,
            env={**os.environ, **env},
            stderr=subprocess.PIPE,
            text=True,
        )

    def refusal(self, *flags, **env) -> str:
        """What the emulator says when it does not start."""
        process = self.start(*flags, **env)
        try:
            _out, said = process.communicate(timeout=20)
        finally:
            process.kill()
        assert process.returncode
        return said


@pytest.fixture
def lab(tmp_path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def serve(lab):
    """Start the emulator; returns its endpoint."""
    started = []

    def start(*flags, **env) -> str:
        process = lab.start("--served-model-name", MODEL, *flags, **env)
        started.append(process)
        said = ""
        for line in process.stderr:
            said += line
            if "ready to roll" in line:
                return f"http://127.0.0.1:{line.split()[-1]}/v1"
        raise AssertionError(said)

    yield start
    for process in started:
        process.terminate()
        assert process.wait(timeout=10) == 0, "SIGTERM ends it"
        process.stderr.close()


def probe(url, engines=("0",), key=None, features=FEATURES) -> Prober:
    prober = Prober(Client(url, key, 5), MODEL)
    prober.run(features, engines, max_requests=20, max_repetition=16)
    return prober


def page(url) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def test_all_that_the_endpoint_check_asks_is_answered_as_sglang_does(serve):
    prober = probe(serve(*PARSERS, "--enable-metrics"))
    assert [one for one in prober.checks if one["status"] != "ok"] == []
    assert {one["id"] for one in prober.checks} > {"endpoint-tools", "endpoint-engines"}
    assert prober.answer.startswith("emulated answer ")
    assert prober.tokens["0"] == prober.usage["completion_tokens"]


def test_data_parallel_ranks_are_told_apart(serve):
    prober = probe(serve("--dp-size", "2", "--enable-metrics"), ["0", "1"], features=["chat"])
    assert all(tokens > 0 for tokens in prober.tokens.values())


def test_without_the_flag_there_are_no_metrics(serve):
    (one,) = (one for one in probe(serve()).checks if one["id"] == "endpoint-engines")
    assert one["status"] == "failed"
    assert "--enable-metrics" in one["remedy"]


def test_without_a_parser_the_tool_call_stands_in_the_text(serve):
    (one,) = (one for one in probe(serve(), []).checks if one["id"] == "endpoint-tools")
    assert (one["status"], "stands in the text" in one["observed"]) == ("failed", True)


def test_answers_are_the_same_for_the_same_question(serve):
    url = serve()
    assert probe(url, []).answer == probe(url, []).answer


def test_the_key_protects_all_but_health_and_metrics(serve, tmp_path):
    config = tmp_path / "secret.yml"
    config.write_text("# written by a test\napi-key: 'abc'\nenable-metrics: true\n")
    url = serve("--config", str(config))
    assert probe(url, key="abc", features=["chat"]).answer
    (one,) = probe(url, key="wrong").checks
    assert one["observed"] == "HTTP 401: Unauthorized"
    root = url.removesuffix("/v1")
    assert page(f"{root}/health_generate") == ""
    assert "sglang:generation_tokens_total" in page(f"{root}/metrics")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tp_size", "8"], "unrecognized arguments: --tp_size 8"),
        (["--enable-auto-tool-choice"], "unrecognized arguments"),
        (["--tool-call-parser", "minimax_m2"], "invalid choice: 'minimax_m2'"),
        (["--reasoning-parser", "minimax_m2_append_think"], "invalid choice"),
        (["--tp", "eight"], "invalid int value: 'eight'"),
        (["--enable-metrics=yes"], "ignored explicit argument 'yes'"),
        (["--enable-m"], "ambiguous option: --enable-m could match"),
        (["--context-length", "8192"], "greater than the derived context_length (4096)"),
    ],
)
def test_flags_are_refused_as_sglang_refuses_them(lab, flags, said):
    assert said in lab.refusal(*flags)


def test_abbreviations_are_taken(serve):
    # As in `--tp 8 --ep 8` of the published commands.
    assert serve("--tp", "8", "--ep", "8", "--mem-frac", "0.85", "--trust-remote-code")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_model_without_its_files_is_refused(lab, missing):
    (lab.model / missing).unlink()
    assert missing in lab.refusal()


def test_the_rocm_flavour_wants_its_sources_changed(lab, serve):
    hiding, model = lab.models / "transformers.py", lab.models / "minimax_m2.py"
    hiding.touch()
    model.write_text(f"class Norm:\n    {DECORATOR}\n    def forward(self): ...\n")
    rocm = {"MUSTER_LAB_SGLANG": "rocm"}
    assert "ImportError" in lab.refusal(**rocm)
    hiding.rename(lab.models / "hf_transformers_model.py")
    assert DECORATOR in lab.refusal(**rocm)
    model.write_text(model.read_text().replace("    @", "    # @"))
    assert serve(**rocm)


def test_other_flavours_start_from_unchanged_sources(lab, serve):
    (lab.models / "transformers.py").touch()
    assert serve(MUSTER_LAB_SGLANG="nvidia")


def test_requests_that_sglang_refuses(serve):
    url = serve()
    client = Client(url, None, 5)
    for path, asked, said in [
        ("/chat/completions", {"messages": [], "max_tokens": 5000}, "context length of 4096"),
        ("/chat/completions", {}, "messages"),
        ("/responses", {"input": "Hi", "max_output_tokens": 5000}, "context length of 4096"),
    ]:
        with pytest.raises(EndpointError, match=f"HTTP 400: .*{said}"):
            client.post(path, asked)
