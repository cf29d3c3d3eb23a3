"""An OpenAI endpoint with engines behind it, which a test can break in one way at a time."""

import contextlib
import http.server
import json
import re
import threading
import time

MODEL = "minimax25"


class Endpoint:
    """What the server does. Tests set its attributes."""

    def __init__(self):
        self.engines = {"0": 5.0, "1": 7.0}
        self.dead_engines = set()
        self.labelled = True
        self.context = 4096
        self.text = "<think>Who am I?</think>I am a model."
        self.known = {}
        self.tool_message = {
            "content": "",
            "tool_calls": [
                {"function": {"name": "get_current_weather", "arguments": '{"city": "Shanghai"}'}}
            ],
        }
        self.key = None
        self.broken = {}  # path: what to do instead
        self.requests = []
        self.delay = 0.0
        self._lock = threading.Lock()

    def produce(self, tokens):
        """Give a request to the engine with the fewest tokens of those that are not busy."""
        with self._lock:
            engine = min(self.engines, key=lambda one: self.engines[one])
            if engine in self.dead_engines:
                engine = next(one for one in self.engines if one not in self.dead_engines)
            self.engines[engine] += tokens

    def metrics(self):
        lines = ["# TYPE vllm:generation_tokens_total counter"]
        for engine, tokens in self.engines.items():
            label = f'engine="{engine}",' if self.labelled else ""
            lines += [
                f'vllm:prompt_tokens_total{{{label}model_name="{MODEL}"}} 1.0',
                f'vllm:generation_tokens_total{{{label}model_name="{MODEL}"}} {tokens}',
                f'vllm:generation_tokens_created{{{label}model_name="{MODEL}"}} 1.8e+09',
            ]
        return "\n".join(lines) + "\n"

    def answer(self, path, asked):
        tokens = asked.get("max_tokens") or asked.get("max_output_tokens")
        self.produce(tokens)
        usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": tokens + 3}
        if path == "/v1/completions":
            return {"choices": [{"text": "words"}], "usage": usage}
        if path == "/v1/responses":
            return {"output": [{"content": [{"text": "words"}]}], "usage": usage}
        prompt = asked["messages"][0]["content"]
        message = {"content": self.known.get(prompt, self.text)}
        if asked.get("tools"):
            message = self.tool_message
        return {"choices": [{"message": message}], "usage": usage}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        endpoint = self.server.endpoint
        if self._broken():
            return
        if self.path == "/metrics":
            self._send(endpoint.metrics().encode())
        else:
            entry = {"id": MODEL, "max_model_len": endpoint.context}
            self._send(json.dumps({"data": [entry]}).encode())

    def do_POST(self):
        endpoint = self.server.endpoint
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        endpoint.requests.append((self.path, asked))
        if self._broken():
            return
        time.sleep(endpoint.delay)
        reply = endpoint.answer(self.path, asked)
        if asked.get("stream"):
            self._stream(reply)
        else:
            self._send(json.dumps(reply).encode())

    def _broken(self):
        endpoint = self.server.endpoint
        sent = self.headers.get("Authorization")
        if endpoint.key and sent != f"Bearer {endpoint.key}" and self.path.startswith("/v1"):
            self._send(b'{"error": "Unauthorized"}', 401)
            return True
        how = endpoint.broken.get(self.path)
        if how is None:
            return False
        if how == "hang":
            endpoint.hung.wait(30)
        elif how == "trickle":
            self._trickle()
        elif how == "close":
            self.close_connection = True
        elif isinstance(how, int):
            self._send(b'{"error": {"message": "EngineCore encountered an issue."}}', how)
        else:
            self._send(how.encode())
        return True

    def _trickle(self):
        """Never be silent for long, and never end."""
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.endpoint.hung.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()
        self.close_connection = True

    def _stream(self, reply):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        words = re.findall(r"\S+\s*", reply["choices"][0]["message"]["content"])
        events = [{"choices": [{"delta": {"content": word}}]} for word in words]
        events.append({"choices": [], "usage": reply["usage"]})
        for event in [json.dumps(event) for event in events] + ["[DONE]"]:
            data = f"data: {event}\n\n".encode()
            # Two writes: an event may arrive in parts.
            for part in (data[:7], data[7:]):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, body, status=200):
        self.send_response(status)
        self.send_header(
            "Content-Type", "text/plain" if self.path == "/metrics" else "application/json"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args):
        """A client that goes away is what some tests are about."""


@contextlib.contextmanager
def serving(host="127.0.0.1", port=0):
    """Serve an endpoint; its address is C(url)."""
    endpoint = Endpoint()
    endpoint.hung = threading.Event()
    server = Server((host, port), Handler)
    server.endpoint = endpoint
    endpoint.port = server.server_address[1]
    endpoint.url = f"http://{host}:{endpoint.port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.hung.set()
        server.shutdown()
        server.server_close()
        thread.join()
