# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an engine about command lines and its version, where it is installed.

Stands alone: engine_parser_check hands this text to the engine's Python, in its image or venv,
with a request {engine, argvs} as JSON. The answer is one marked line of standard output, since
engines print there, too: {version, error, verdicts}, the version that its package tells or null,
and of its own argument parser a verdict an argv, or none and why.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
from typing import Any, Callable

MARK = "muster-engine-parser: "

Parse = Callable[..., None]


class Refused(Exception):
    """The engine refuses what its parser took."""


def vllm() -> Parse:
    """Return how vllm serve takes its arguments."""
    # The subcommand is where all versions meet: what it is made of moves from module to module.
    serve = importlib.import_module("vllm.entrypoints.cli.serve")
    commands = {command.name: command for command in serve.cmd_init()}
    parser = serve.FlexibleArgumentParser(prog="vllm")
    choices = parser.add_subparsers(dest="subparser")
    for command in commands.values():
        command.subparser_init(choices)

    def parse(argv: list[str]) -> None:
        args = parser.parse_args(argv[1:])
        try:
            commands[args.subparser].validate(args)
        except (TypeError, ValueError) as error:
            absent = [word for word in argv if word.startswith("/") and not os.path.exists(word)]
            # A file that only a mount of the unit brings says nothing of the flags.
            if any(word in str(error) for word in absent):
                raise
            raise Refused(str(error)) from error

    return parse


def sglang() -> Parse:
    """Return how sglang.launch_server takes its arguments, short of looking for devices."""
    arguments = importlib.import_module("sglang.srt.server_args")
    parser = argparse.ArgumentParser(prog="sglang.launch_server")
    arguments.ServerArgs.add_cli_args(parser)

    def parse(argv: list[str]) -> None:
        flags = next((place for place, word in enumerate(argv) if word.startswith("--")), len(argv))
        parser.parse_args(argv[flags:])

    return parse


PARSERS = {"vllm": vllm, "vllm-ascend": vllm, "sglang": sglang}


def stand_in_for_driver() -> None:
    """Let torch_npu load without the NPU's driver, as vllm-ascend's own unit tests do.

    CANN has stubs of the driver's libraries. The dynamic linker reads its path only at a start, so
    this process starts over.
    """
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    home = os.environ.get("ASCEND_TOOLKIT_HOME", "/usr/local/Ascend/ascend-toolkit/latest")
    stubs = os.path.join(home, f"{platform.machine()}-linux", "devlib")
    paths = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    if os.path.isdir(stubs) and stubs not in paths:
        os.environ["LD_LIBRARY_PATH"] = ":".join([*filter(None, paths), stubs])
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 (itself)


def attempt(parse: Parse, argv: list[str]) -> dict[str, str]:
    """Parse one command line: {status, text}, in the parser's own words."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parse(argv)
    except SystemExit as end:
        # argparse ends with 2, its usage and then its error.
        text = re.split(r"^.*?: error: ", said.getvalue(), maxsplit=1, flags=re.MULTILINE)[-1]
        return {"status": "refused" if end.code == 2 else "unknown", "text": text.strip()}
    except Refused as error:
        return {"status": "refused", "text": str(error)}
    except Exception as error:
        return {"status": "unknown", "text": in_words(error)}
    return {"status": "accepted", "text": ""}


def installed_version(engine: str) -> str | None:
    """Return what the engine's package tells, also where the engine itself does not load."""
    try:
        return importlib.metadata.version(engine)
    # Not installed as a package, or with metadata that cannot be read.
    except Exception:
        return None


def answer(engine: str, argvs: list[list[str]]) -> dict[str, Any]:
    version = installed_version(engine)
    try:
        parse = PARSERS[engine]()
    # An engine that does not find its devices may well end the process.
    except (Exception, SystemExit) as error:
        return {"version": version, "error": in_words(error), "verdicts": []}
    verdicts = [attempt(parse, argv) for argv in argvs]
    return {"version": version, "error": None, "verdicts": verdicts}


def in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def main() -> None:
    request = json.loads(sys.argv[1])
    if request["engine"] == "vllm-ascend":
        stand_in_for_driver()
    # Engines look there for themselves.
    del sys.argv[1:]
    found = answer(request["engine"], request["argvs"])
    sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
