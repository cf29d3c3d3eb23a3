# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a node can compile kernels for its GPUs, which an engine without a container does itself.

FlashInfer and DeepGEMM look for CUDA's toolkit where CUDA_HOME or CUDA_PATH say, then for nvcc in
the PATH, then in /usr/local/cuda. The compiler that wheels bring into the environment counts for
nothing. Triton and they call the host's own compiler besides.
"""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check

# The PATH of a unit without a container, but for its environment's own folder.
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
CXX = tuple(f"{folder}/{name}" for name in ("c++", "g++", "clang++") for folder in FOLDERS)
ELSEWHERE = "/usr/local/cuda-*/bin/nvcc"


class Compilers(NamedTuple):
    """What a node has: paths, empty where there is none.

    elsewhere are compilers of CUDA where nobody looks for them.
    """

    nvcc: str
    cxx: str
    elsewhere: tuple[str, ...] = ()


def nvcc_places(cuda_home: str | None) -> list[str]:
    """Return where CUDA's compiler is looked for, the first place first.

    Args:
        cuda_home: What the unit's environment says; then it is looked for nowhere else.
    """
    if cuda_home:
        return [f"{cuda_home.rstrip('/')}/bin/nvcc"]
    return [*(f"{folder}/nvcc" for folder in FOLDERS), "/usr/local/cuda/bin/nvcc"]


def compiler_checks(found: Compilers, cuda_home: str | None, *, required: bool) -> list[Check]:
    """Return whether kernels can be compiled.

    Args:
        found: What the node has.
        cuda_home: CUDA_HOME or CUDA_PATH of the unit's environment.
        required: Whether the engine ends where they cannot; otherwise it may do without some.
    """
    missing = "failed" if required else "warning"
    where = f"in {cuda_home}" if cuda_home else "in the PATH or /usr/local/cuda"
    if found.nvcc:
        toolkit = ("ok", found.nvcc, "")
    elif found.elsewhere:
        home = found.elsewhere[-1][: -len("/bin/nvcc")]
        toolkit = (
            missing,
            f"not {where}, but {', '.join(found.elsewhere)}",
            f"set CUDA_HOME: {home} in muster_engine_env, or link /usr/local/cuda to it",
        )
    else:
        toolkit = (
            missing,
            f"not {where}",
            "install NVIDIA's CUDA toolkit, of the CUDA that the engine's wheels are for (nvcc and "
            "headers), or serve from the image (muster_install: container)",
        )
    host = (
        ("ok", found.cxx, "")
        if found.cxx
        else (missing, "none in the PATH", "install g++ (build-essential, or gcc-c++)")
    )
    return [
        check("gpu-compiler", toolkit[0], "CUDA's nvcc", toolkit[1], f"nvcc {where}", toolkit[2]),
        check("gpu-compiler", host[0], "C++ compiler", host[1], "c++, g++ or clang++", host[2]),
    ]
