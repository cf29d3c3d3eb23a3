"""Whether a node can compile kernels, as an engine without a container does at its first start."""

from __future__ import annotations

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import look_io
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.compiler_checks import (
    Compilers,
    compiler_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    NvidiaGpus,
)

NVCC, CXX = "/usr/local/cuda/bin/nvcc", "/usr/bin/c++"


@pytest.mark.parametrize(
    ("files", "cuda_home", "found"),
    [
        ([NVCC, CXX], None, Compilers(NVCC, CXX)),
        (["/usr/bin/nvcc", "/usr/bin/g++"], None, Compilers("/usr/bin/nvcc", "/usr/bin/g++")),
        ([], None, Compilers("", "")),
        # Whoever names a place is taken at his word, as FlashInfer does.
        ([NVCC], "/opt/cuda", Compilers("", "")),
        (["/opt/cuda/bin/nvcc"], "/opt/cuda/", Compilers("/opt/cuda/bin/nvcc", "")),
        (
            ["/usr/local/cuda-12.9/bin/nvcc", "/usr/local/cuda-13.0/bin/nvcc"],
            None,
            Compilers("", "", ("/usr/local/cuda-12.9/bin/nvcc", "/usr/local/cuda-13.0/bin/nvcc")),
        ),
    ],
)
def test_compilers_are_looked_for_where_the_engines_libraries_do(tmp_path, files, cuda_home, found):
    node = NodeFiles(str(tmp_path))
    for path in files:
        node.write(path, "", mode=0o755)

    assert look_io.observe_compilers(node, cuda_home) == found


@pytest.mark.parametrize(
    ("found", "cuda_home", "required", "statuses", "remedy"),
    [
        (Compilers(NVCC, CXX), None, True, ["ok", "ok"], ""),
        (Compilers("", CXX), None, True, ["failed", "ok"], "install NVIDIA's CUDA toolkit"),
        (Compilers("", CXX), None, False, ["warning", "ok"], "muster_install: container"),
        (Compilers("", CXX), "/opt/x", True, ["failed", "ok"], "install NVIDIA's CUDA toolkit"),
        (Compilers(NVCC, ""), None, True, ["ok", "failed"], "install g++"),
        (
            Compilers("", CXX, ("/usr/local/cuda-13.0/bin/nvcc",)),
            None,
            True,
            ["failed", "ok"],
            "set CUDA_HOME: /usr/local/cuda-13.0 in muster_engine_env",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(found, cuda_home, required, statuses, remedy):
    checks = compiler_checks(found, cuda_home, required=required)

    assert [one["id"] for one in checks] == ["gpu-compiler"] * 2
    assert [one["status"] for one in checks] == statuses
    assert remedy in "".join(one["remedy"] for one in checks)
    assert all(bool(one["remedy"]) == (one["status"] != "ok") for one in checks)
    if cuda_home:
        assert f"nvcc in {cuda_home}" in checks[0]["expected"]


@pytest.mark.parametrize(
    ("compiler", "status"), [(None, []), ("used", ["warning"] * 2), ("required", ["failed"] * 2)]
)
def test_only_where_the_plan_compiles_a_compiler_is_missed(tmp_path, compiler, status):
    params = {
        "fabric_manager": False,
        "container_gpus": False,
        "compiler": compiler,
        "cuda_home": None,
    }
    checks = look_io.more_checks(params, NvidiaGpus(), [0], NodeFiles(str(tmp_path)))

    assert [one["status"] for one in checks] == status
