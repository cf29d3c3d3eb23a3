# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulates `python3 -m sglang.launch_server` of SGLang 0.5.7: its flags and its API, no model.

It takes exactly the flags that SGLang takes (flags.json beside this file, read from SGLang's own
argument parser), checks what can be checked without an accelerator, and answers each request with
words that nobody takes for a model's. With MUSTER_LAB_SGLANG=rocm it starts only when the two
source files that SGLang's ROCm image needs changed have been changed.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent
DECORATOR = "@torch.compile(dynamic=True, backend=get_compiler_backend())"
DEFAULT_TOKENS = 64

Reply = dict[str, Any]


class StartError(Exception):
    """What keeps the server from starting."""


class RequestError(Exception):
    """What is wrong with a request."""


# --- flags ------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Like SGLang's: abbreviations are taken, underscores and unknown flags are not."""
    types: dict[str, Callable[[str], Any]] = {
        "int": int,
        "float": float,
        "str": str,
        "json": json.loads,
    }
    parser = argparse.ArgumentParser(prog="launch_server.py")
    for flag in json.loads((HOME / "flags.json").read_text()):
        names, kind = flag.pop("names"), flag.pop("type")
        if kind == "bool":
            parser.add_argument(*names, action="store_true", **flag)
        else:
            parser.add_argument(*names, type=types[kind], **flag)
    parser.set_defaults(host="127.0.0.1", port=30000, data_parallel_size=1)
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    if "--config" in argv:
        at = argv.index("--config")
        argv = [*_config_words(argv[at + 1]), *argv[:at], *argv[at + 2 :]]
    return make_parser().parse_args(argv)


def _config_words(path: str) -> list[str]:
    """A YAML file's keys as flags; those of the command line come after and win.

    Only as much YAML as such a file needs: on each line a key with its value, plain or quoted.
    """
    words: list[str] = []
    for line in Path(path).read_text().splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if colon and not key.startswith("#") and value != "false":
            words += [f"--{key}"] if value == "true" else [f"--{key}", value.strip("\"'")]
    return words


# --- start ------------------------------------------------------------------------------------


def check_sources(models: Path) -> None:
    """What SGLang's ROCm image stumbles over, unless its source files were changed."""
    hiding = models / "transformers.py"
    if hiding.exists():
        raise StartError(
            f"ImportError: {hiding} hides the package transformers: rename it to "
            "hf_transformers_model.py"
        )
    lines = (models / "minimax_m2.py").read_text().splitlines()
    if any(line.strip() == DECORATOR for line in lines):
        raise StartError(
            f"ImportError: {models}/minimax_m2.py cannot be compiled on ROCm: comment out "
            f"{DECORATOR}"
        )


def context_length(args: argparse.Namespace) -> int:
    """The context to serve, once the model's files are there."""
    folder = Path(args.model_path)
    tokenizer = Path(args.tokenizer_path or folder)
    if not (folder / "config.json").is_file():
        raise StartError(f"OSError: {folder} has no config.json, and there is no network")
    if not (tokenizer / "tokenizer.json").is_file():
        raise StartError(f"OSError: {tokenizer} has no tokenizer.json")
    most: int = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    wanted: int = args.context_length or most
    if wanted > most and os.environ.get("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN") != "1":
        raise StartError(
            f"ValueError: User-specified context_length ({wanted}) is greater than the derived "
            f"context_length ({most})"
        )
    return wanted


# --- answers ----------------------------------------------------------------------------------


class Engine:
    """Words for requests, and the counters of those."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model: str = args.served_model_name or args.model_path
        self.context = context_length(args)
        self.requests = self.prompt_tokens = 0
        self.tokens = [0] * args.data_parallel_size
        self._lock = threading.Lock()

    def words(self, prompt: str, most: int | None) -> list[str]:
        if most is not None and most > self.context:
            raise RequestError(
                f"Requested token count exceeds the model's maximum context length of "
                f"{self.context} tokens."
            )
        mark = hashlib.sha256(prompt.encode()).hexdigest()[:8]
        text = f"emulated answer {mark}, no model has computed this"
        if self.args.reasoning_parser == "minimax-append-think":
            text = f"<think>emulated thought</think> {text}"
        return text.split()[: DEFAULT_TOKENS if most is None else most]

    def count(self, prompt: str, words: list[str]) -> Reply:
        """Count a request for the next rank, as the round robin of SGLang's controller."""
        asked, answered = len(prompt.split()), len(words)
        with self._lock:
            self.tokens[self.requests % len(self.tokens)] += answered
            self.requests += 1
            self.prompt_tokens += asked
        return {
            "prompt_tokens": asked,
            "total_tokens": asked + answered,
            "completion_tokens": answered,
            "prompt_tokens_details": None,
            "reasoning_tokens": 0,
        }

    def metrics(self) -> str:
        model = f'model_name="{self.model}"'
        lines = [
            f"sglang:prompt_tokens_total{{{model}}} {self.prompt_tokens}.0",
            f"sglang:generation_tokens_total{{{model}}} {sum(self.tokens)}.0",
            f"sglang:num_requests_total{{{model}}} {self.requests}.0",
        ]
        for rank, tokens in enumerate(self.tokens):
            labels = f'engine_type="unified",{model},moe_ep_rank="0",pp_rank="0",tp_rank="0"'
            if len(self.tokens) > 1:
                labels += f',dp_rank="{rank}"'
            lines += [
                f"sglang:num_running_reqs{{{labels}}} 0.0",
                f"sglang:num_queue_reqs{{{labels}}} 0.0",
                f'sglang:realtime_tokens_total{{{labels},mode="decode"}} {tokens}.0',
            ]
        return "\n".join(lines) + "\n"


def tool_call(tools: list[Reply]) -> Reply:
    """A call of the first tool with a value for each argument that it requires."""
    function = tools[0]["function"]
    schema = function.get("parameters") or {}
    values = {"integer": 0, "number": 0, "boolean": True, "array": [], "object": {}}
    arguments = {
        name: values.get(schema.get("properties", {}).get(name, {}).get("type"), "emulated")
        for name in schema.get("required", [])
    }
    call = {"name": function["name"], "arguments": json.dumps(arguments)}
    return {"id": "call_emulated", "index": 0, "type": "function", "function": call}


def prompt_of(messages: list[Reply]) -> str:
    """All that was said, whether as text or in parts."""
    contents = [message.get("content") or "" for message in messages]
    return "\n".join(
        content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
        for content in contents
    )


def chat(engine: Engine, asked: Reply) -> tuple[Reply, list[Reply], Reply]:
    """The message, its deltas as a stream has them, and the usage."""
    prompt = prompt_of(asked["messages"])
    tools = asked.get("tools") if asked.get("tool_choice") != "none" else None
    words = engine.words(prompt, asked.get("max_completion_tokens") or asked.get("max_tokens"))
    if tools:
        call = tool_call(tools)
        if engine.args.tool_call_parser:
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            usage = engine.count(prompt, words)
            return message, [{"role": "assistant"}, {"tool_calls": [call]}], usage
        # Without a parser the model's own words come through.
        words = f'<minimax:tool_call> <invoke name="{call["function"]["name"]}">'.split()
    message = {"role": "assistant", "content": " ".join(words), "tool_calls": None}
    deltas = [{"role": "assistant", "content": ""}, *({"content": word + " "} for word in words)]
    return message, deltas, engine.count(prompt, words)


# --- HTTP -------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        engine = self.server.engine
        if not self._is_allowed():
            return
        if self.path in ("/health", "/health_generate"):
            self._send(b"")
        elif self.path == "/metrics" and engine.args.enable_metrics:
            self._send(engine.metrics().encode(), kind="text/plain; version=0.0.4")
        elif self.path == "/v1/models":
            card = {
                "id": engine.model,
                "object": "model",
                "created": int(time.time()),
                "owned_by": "sglang",
                "root": engine.model,
                "parent": None,
                "max_model_len": engine.context,
            }
            self._send_json({"object": "list", "data": [card]})
        else:
            self._send_json({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/responses": self._response,
        }
        if not self._is_allowed():
            return
        if self.path not in answers:
            self._send_json({"detail": "Not Found"}, 404)
            return
        try:
            if self.headers.get_content_type() != "application/json":
                raise RequestError("Unsupported Media Type: Only 'application/json' is allowed")
            answers[self.path](json.loads(body))
        except (RequestError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = {"message": str(error), "type": "BadRequest", "param": None, "code": 400}
            nested = self.path == "/v1/responses"
            self._send_json({"error": said} if nested else {"object": "error", **said}, 400)

    def _chat(self, asked: Reply) -> None:
        message, deltas, usage = chat(self.server.engine, asked)
        reason = "tool_calls" if message["tool_calls"] else "stop"
        if asked.get("stream"):
            choices: list[Reply] = [{"delta": delta, "finish_reason": None} for delta in deltas]
            choices.append({"delta": {}, "finish_reason": reason})
            self._stream(asked, "chat.completion.chunk", choices, usage)
        else:
            choices = [{"index": 0, "message": message, "finish_reason": reason}]
            self._send_json(self._reply(asked, "chat.completion", choices, usage))

    def _completion(self, asked: Reply) -> None:
        engine, prompt = self.server.engine, str(asked["prompt"])
        words = engine.words(prompt, asked.get("max_tokens", 16))
        usage = engine.count(prompt, words)
        if asked.get("stream"):
            choices: list[Reply] = [{"text": f"{word} ", "finish_reason": None} for word in words]
            choices.append({"text": "", "finish_reason": "stop"})
            self._stream(asked, "text_completion", choices, usage)
        else:
            choices = [{"index": 0, "text": " ".join(words), "finish_reason": "stop"}]
            self._send_json(self._reply(asked, "text_completion", choices, usage))

    def _response(self, asked: Reply) -> None:
        engine, prompt = self.server.engine, str(asked["input"])
        words = engine.words(prompt, asked.get("max_output_tokens"))
        text = {"text": " ".join(words), "annotations": [], "type": "output_text"}
        message = {
            "id": "msg_emulated",
            "content": [text],
            "role": "assistant",
            "status": "completed",
            "type": "message",
        }
        reply = {
            "id": "resp_emulated",
            "object": "response",
            "created_at": int(time.time()),
            "model": asked.get("model"),
            "output": [message],
            "status": "completed",
            "usage": engine.count(prompt, words),
        }
        self._send_json(reply)

    def _reply(self, asked: Reply, kind: str, choices: list[Reply], usage: Reply | None) -> Reply:
        return {
            "id": "emulated",
            "object": kind,
            "created": int(time.time()),
            "model": asked.get("model"),
            "choices": choices,
            "usage": usage,
        }

    def _stream(self, asked: Reply, kind: str, choices: list[Reply], usage: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self._events(asked, kind, choices, usage):
            data = f"data: {event}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _events(self, asked: Reply, kind: str, choices: list[Reply], usage: Reply) -> Iterator[str]:
        for choice in choices:
            yield json.dumps(self._reply(asked, kind, [{"index": 0, **choice}], None))
        if (asked.get("stream_options") or {}).get("include_usage"):
            yield json.dumps(self._reply(asked, kind, [], usage))
        yield "[DONE]"

    def _is_allowed(self) -> bool:
        key = self.server.engine.args.api_key
        open_to_all = self.path.startswith(("/health", "/metrics"))
        if not key or open_to_all or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._send_json({"error": "Unauthorized"}, 401)
        return False

    def _send_json(self, value: Reply, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), status, "application/json")

    def _send(self, body: bytes, status: int = 200, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, engine: Engine) -> None:
        super().__init__((engine.args.host, engine.args.port), Handler)
        self.engine = engine


def main() -> int:
    # As process 1 of a container it would otherwise not be ended by SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(0))
    args = parse(sys.argv[1:])
    print("emulator of SGLang 0.5.7: no model, no accelerator", file=sys.stderr)
    try:
        if os.environ.get("MUSTER_LAB_SGLANG") == "rocm":
            check_sources(HOME / "srt/models")
        server = Server(Engine(args))
    except (StartError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ready to roll on port {server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
