"""No secret and no prompt passes, whatever its form; what an operator needs does."""

import json
import string
import time

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from hypothesis import assume, given
from hypothesis import strategies as st

SECRETS = st.text(string.ascii_letters + string.digits + "_-/+.", min_size=12, max_size=40).map(
    lambda text: f"zq{text}"
)
FORMS = st.sampled_from(
    [
        "VLLM_API_KEY={}",
        "export HF_TOKEN='{}'",
        "HF_TOKEN = {} and more",
        "S3_ACCESS_KEY_ID: {}",
        "AWS_SECRET_ACCESS_KEY={}",
        "DB_PASSWORD=two words {}",
        "Authorization: Bearer {}",
        "{{'authorization': 'Basic {}', 'host': 'x'}}",
        "x-api-key: {}",
        "curl -H 'api-key: {}' http://n0:8000/v1/models",
        "GET /v1/models?api_key={} HTTP/1.1",
        "vllm serve /models/m2 --api-key {} --port 8000",
        "--hf-token={}",
        "non-default args: {{'port': 8000, 'api_key': ['{}'], 'seed': 0}}",
        "Namespace(api_key=None, hf_token='{}', port=8000)",
        'os.environ["OPENAI_API_KEY"] = "{}"',
        "auth_pass {}",
        "proxy is http://user:{}@proxy.example:3128",
        "the token hf_{} was refused",
        "key sk-{} is unknown",
    ]
)
PLAIN = st.text(string.ascii_letters + string.digits, min_size=20, max_size=40)


@given(FORMS, PLAIN, st.text(), st.text())
def test_a_secret_never_passes(form: str, secret: str, before: str, after: str) -> None:
    assume(secret not in before + after)
    text = f"{before} {form.replace('{}', secret).replace('{{', '{').replace('}}', '}')} {after}"
    assert secret not in redaction.lines(text)


@given(SECRETS, st.dictionaries(st.text(), st.integers()))
def test_a_secret_never_passes_in_data(secret: str, rest: dict) -> None:
    data = {
        "Args": ["serve", "/models/m2", "--api-key", secret, "--port", "8000"],
        "Labels": {"x-token": secret, "nested": [{"hf_token": secret}]},
        "effective": {"secret VLLM_API_KEY": secret},
        "rest": rest,
    }
    assert secret not in json.dumps(redaction.value(data))


def test_a_configuration_stays_one() -> None:
    unit = {"role": "head", "env": {"HF_TOKEN": "abc", "A": "1"}, "secret VLLM_API_KEY": "0f"}
    text = redaction.lines(json.dumps(redaction.value(unit), indent=2))
    kept = {"role": "head", "env": {"HF_TOKEN": "<secret>", "A": "1"}}
    assert json.loads(text) == {**kept, "secret VLLM_API_KEY": "<secret>"}


PROMPTS = [
    "INFO Received request cmpl-7: prompt: 'TELL ME', params: SamplingParams(n=1)",
    "Request cmpl-7 details: prompt: 'TELL ME', prompt_token_ids: [1, 2]",
    "Generated response cmpl-7: output: 'TELL ME', output_token_ids: [3]",
    "Receive: obj=GenerateReqInput(rid='7', text='TELL ME', input_ids=None)",
    "ERROR 'input': {'messages': [{'role': 'user', 'content': 'TELL ME'}]}",
    '{"model": "m2", "prompt": "TELL ME"}',
]


@pytest.mark.parametrize("line", PROMPTS)
def test_a_line_with_a_prompt_goes(line: str) -> None:
    assert redaction.lines(f"before\n{line}\nafter\n") == f"before\n{redaction.PROMPT}\nafter\n"


def test_a_private_key_goes_as_a_whole() -> None:
    key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\nAAAA\n-----END EC PRIVATE KEY-----"
    assert redaction.lines(f"a\n{key}\nb") == "a\n<secret>\nb\n"
    assert "MHcC" not in redaction.lines(key[:40])


KEPT = [
    "max_num_batched_tokens=65536, tokenizer='/models/m2', tokenizer_mode=auto",
    "Maximum concurrency for 196,608 tokens per request: 3.10x",
    "Avg prompt throughput: 12.0 tokens/s, Avg generation throughput: 3.1 tokens/s",
    "RuntimeError: n_group should not be zero for DeepSeekV3 routing",
    "api_key=None, hf_token=None, port=8000",
    "EI0006: Getting socket times out. Reason: wait socket establish timeout",
    "ZMQError: Address already in use (addr='tcp://10.0.0.1:2347')",
]


@pytest.mark.parametrize("line", KEPT)
def test_what_an_operator_needs_stays(line: str) -> None:
    assert redaction.line(line) == line


def test_an_environment_keeps_its_names_alone() -> None:
    assert redaction.without_values(["A=b=c", "D="]) == ["A=", "D="]
    assert redaction.without_values(None) == []


@given(st.recursive(st.text() | st.integers() | st.none(), lambda one: st.lists(one)))
def test_any_data_is_read(data: object) -> None:
    redaction.value(data)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert redaction.lines(text).count("\n") == len(text.splitlines())


@pytest.mark.parametrize("piece", ["-", "--a", "eyJ", "request ", "token ", "key_", " ", "://a"])
def test_a_long_line_is_bounded(piece: str) -> None:
    text = "\n".join([piece * (1_000_000 // len(piece))] * 20)
    begin = time.monotonic()
    assert len(redaction.lines(text)) <= 20 * (redaction.LINE_LIMIT + 1000)
    assert time.monotonic() - begin < 5
