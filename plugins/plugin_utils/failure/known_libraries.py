# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of an image or environment: libraries, Python packages, kernels compiled at start."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    LIKELY,
    PREPARE,
    RECIPE_IMAGE,
    SYMPTOM,
    Signature,
)

# An exception in quotation marks is one that the program met and went on.
_RAISED = r"^(?![-\s]*- )[^\"'`(]*(?:\([^)]*\)[^\"'`(]*)*"

SIGNATURES = (
    # Shared libraries that are missing or do not fit.
    Signature(
        "gpu-library",
        r"lib(?:cuda|nvidia-ml)\.so[.\d]*:? (?:cannot open|(?:was |is )?not found)"
        r"|Cannot open libnvidia-ml"
        r"|NVML Shared Library Not Found|\bERROR_LIBRARY_NOT_FOUND\b|NVMLError_LibraryNotFound"
        r"|exec: \"nvidia-smi\": executable file not found|\bnvidia-smi: (?:command )?not found"
        r"|NVIDIA Driver was not detected|failed to locate (?:libcuda\.so|driver root)",
        "the container or environment has no driver library: Docker gave it no GPU, or the node has"
        " no driver",
        f"see that nvidia-smi answers on the node, then {PREPARE} (toolkit, Docker's runtime)",
        "gpustack issue 3810; vLLM issue 27268",
        ("gpu-toolkit", "gpu-tool"),
    ),
    Signature(
        "cuda-library-missing",
        r"lib(?:cudart|cublas\w*|cudnn\w*|nvrtc\w*|nvJitLink|cusparse\w*|cufft\w*|curand|cusolver"
        r"|nccl|cupti|nvToolsExt|nvshmem\w*|cufile)\.so[.\d]*:? (?:cannot open|undefined symbol"
        r"|(?:was |is )?not found)"
        r"|undefined symbol: (?:__nv|nccl|cudnn|cublas|cuda[A-Z]|nvrtc|nvshmem)\w+"
        r"|version `lib(?:cu|nv|nccl)\S+' not found|Unable to load any of \{libcu"
        r"|Could not load library libcu|CUDA (?:version )?mismatch"
        r"|libcudart is not loaded in the current process"
        r"|detected CUDA version .{0,80}mismatches|compiled with CUDA \S+ .{0,60}but"
        r"|CUDNN_STATUS_VERSION_MISMATCH|cuDNN version incompatibility"
        r"|Could not find CUDA lib directory|PTX JIT compiler library not found"
        r"|cudaErrorJitCompilerNotFound",
        "the engine or a kernel library is built for another CUDA than the one in this image or"
        " environment",
        "one CUDA for torch, engine and kernels: the recipe's image, or wheels of one"
        " muster_wheel_channel; CUDA 13 wants driver 580",
        "vLLM issues 1738, 44335 and 47628",
        ("gpu-driver",),
    ),
    Signature(
        "rocm-mismatch",
        r"lib(?:roctx64|roctracer64|amdhip64|rocblas|hipblas\w*|hipsparse\w*|hipfft|hipsolver"
        r"|hiprtc|MIOpen|rccl|hsa-runtime64|rocm_smi64|rocprofiler\S*|rocsolver|rocsparse"
        r"|amd_comgr|rocrand|hiprand)\.so[.\d]*: (?:cannot open|undefined symbol)"
        r"|undefined symbol: (?:hip|hsa|roc|rccl)\w+|version `(?:hip|ROCR"
        r"|amd_comgr)_[\d.]+' not found",
        "torch or the engine is built for another ROCm than the one in this image or environment",
        RECIPE_IMAGE,
        "ROCm",
    ),
    Signature(
        "sglang-import",
        r"cannot import name .{0,80} from '(?:sglang|aiter|sgl_kernel)"
        r"|AttributeError: module '(?:aiter|sgl_kernel)[\w.]*' has no attribute"
        r"|(?:sgl_kernel|common_ops|aiter)\S*: undefined symbol(?!: _ZN\w{0,3}7ck_tile)"
        r"|ImportError: sgl_kernel\S* is missing from the installed"
        r"|Could not run '(?:sgl_kernel|aiter)::",
        "the engine and the kernels in this image (sgl_kernel, AITER) are not built for each other"
        " or for this torch",
        "take the image that the recipe names, or an older tag of its series, with muster_image",
        "SGLang issues 13948, 14398 and 23083",
    ),
    Signature(
        "torch-mismatch",
        r"undefined symbol: _ZN\w*(?:c10|torch|3at)\w*",
        "a compiled part of the engine is built for another torch than the one beside it",
        f"{RECIPE_IMAGE}; an environment is made anew by playbooks/prepare.yml",
        "torch's extensions",
    ),
    Signature(
        "kernel-versions",
        r"flashinfer\S* version .{0,60}does not match|(?:flashinfer|sgl[-_]kernel"
        r"|deep[-_]gemm)\S* is installed with version .{0,120}less than"
        r"|sgl[-_]kernel .{0,60}(?:version mismatch|required)|'_OpNamespace' '\w+' object"
        r" has no attribute|Could not run '(?:_\w*C|vllm|sgl_kernel|aiter)::"
        r"|operator torchvision::\w+ does not exist"
        r"|Numba needs NumPy|numpy\.dtype size changed|compiled using NumPy 1\.x cannot be run"
        r"|numpy\.core\.multiarray failed to import|Numpy is not available"
        r"|was removed in the NumPy 2"
        r"|aot_compile is not supported by"
        r"|Tried to instantiate class '\S+', but it does not exist|infer_schema\(func\): Parameter"
        r"|(?:Error|Exception): .{0,80}\brequires (?:at least )?CUDA"
        r" (?:>=? ?|[Tt]oolkit |version )?\d",
        "packages of the image or environment are of versions that do not fit; the line names both",
        f"{RECIPE_IMAGE}; an environment is made anew by playbooks/prepare.yml",
        "FlashInfer; SGLang; NumPy",
    ),
    Signature(
        "static-tls",
        r"cannot allocate memory in static TLS block",
        "the loader has no room left for a library that is loaded late (libgomp on Arm, mostly)",
        "put the library that the line names first in LD_PRELOAD (muster_engine_env)",
        "ld.so",
    ),
    Signature(
        "library-broken",
        r"\.so[.\d]*: (?:file too short|invalid ELF header|cannot read file data"
        r"|ELF load command|ELF file's phentsize)",
        "a shared library is empty or cut off: a broken layer of the image, or a mount that does"
        " not reach it",
        "ls -l of the file in the container; pull the image again, or mend what is mounted there",
        "ld.so",
        ("driver-mount",),
    ),
    Signature(
        "cpu-instructions",
        r"Illegal instruction|\bSIGILL\b|trap invalid opcode|exit(?:ed)?(?: with)?(?: status"
        r"| code)?:? 132\b|\b(?:with|by) signal 4\b|status=4/ILL"
        r"|(?i:cpu (?:does not|doesn't|lacks) .{0,40}\b(?:avx\w*|sse\S*|amx|instruction))",
        "the processor of the node lacks instructions that the image was built with, AVX-512 for"
        " one; in a virtual machine the host may hide them",
        "take an image or wheels for this processor, or give the virtual machine the host's",
        "kernel, SIGILL",
        ("host-arch",),
        LIKELY,
    ),
    Signature(
        "glibc-old",
        r"version `(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found(?!.{0,120}libnccl-net)"
        r"|undefined symbol: (?:_ZN?K?St\w+|__cxa_\w+|__libc_\w+|_dl_\w+)",
        "the node's or image's C or C++ library is older than the engine's wheels were built for",
        "take the container in place of an environment (muster_install), or a newer release of the"
        " system",
        "ld.so",
        ("host-os",),
        hint=r"version `(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found.{0,120}libnccl-net",
        explains=("nccl-network",),
    ),
    # Python packages.
    # A module of no known place is a bare folder of the package's name.
    Signature(
        "package-shadowed",
        r"cannot import name '?\w+'? from '(?!sglang|aiter|sgl_kernel)\w+' \(unknown location\)"
        r"|AttributeError: module '(?:vllm|torch|torch_npu|transformers|sglang)' has no attribute"
        r" '__version__'",
        "a folder of the package's name stands in its place: the working directory holds one, or"
        " what is left of an earlier installation does",
        "start the engine in another folder (no vllm or torch beside it); else install the package"
        f" anew, or {RECIPE_IMAGE}",
        "Python, packages without a place; vllm-ascend issue 5497",
        rank=LIKELY,
    ),
    Signature(
        "package-mismatch",
        r"^[^\"`(]*(?:\([^)]*\)[^\"`(]*)*ImportError: cannot import name"
        r"|AttributeError: (?:'?\w*(?:Tokenizer\w*|Config|Processor|Version|ServerArgs"
        r"|EngineArgs)'?(?: object)?|type object '\w+'"
        r"|module '(?!__main__)\w[\w.]*') has no attribute|TypeError: (?!\S*(?:Args"
        r"|Config)\.__init__)\S+\(\) got an unexpected keyword argument"
        r"|TypeError: (?:\S+\.)?__init__\(\) (?:missing \d+ required"
        r"|takes .{0,40}but \d+ were given)"
        r"|KeyError: 'rope_(?:theta|parameters|scaling)'"
        r"|AttributeError: 'dict' object has no attribute"
        r" '(?:model_type|architectures|rope_\w+|num_\w+|\w+_size|to_dict)'"
        r"|TypeError: Can't instantiate abstract class \w"
        r"|is already used by a Transformers config|PydanticUserError"
        r"|TypeError: \S+\(\): incompatible constructor arguments"
        r"|Expected type: .{0,200}but found type: |unsupported operand type\(s\) for \|: "
        r"|(?:Value|Import)Error: Ray version \S+ is required, but found"
        r"|^ImportError: \S+ ?[<>=!]=?.{0,60}is required|VersionConflict"
        r"|ImportError: \S+ version is wrong|[Pp]lease check flashinfer version"
        r"|[Pp]lease upgrade your '[\w-]+' installation"
        r"|requires a different Python"
        r"|because of the following error \(look up to see its traceback\)"
        r"|Couldn't build proto file into descriptor|Descriptors cannot be created directly",
        "two Python packages of the image or environment do not fit each other",
        f"{RECIPE_IMAGE}; an environment is made anew by playbooks/prepare.yml",
        "Python",
        rank=LIKELY,
        hint=r"but you(?:'ll)? have .{0,60}which is incompatible",
    ),
    # The words are the same where the image lacks the package and where it has no use for it.
    Signature(
        "cuda-kernels-absent",
        _RAISED + r"ModuleNotFoundError: No module named '(?:flashinfer|deep_gemm|deep_ep)\b",
        "a package of kernels for NVIDIA's GPUs is not there: the image lacks it, or the engine"
        " takes a backend that this kind of device does not have",
        f"on NVIDIA's GPUs {RECIPE_IMAGE}; on others name a backend that they have in"
        " muster_engine_args (moe-runner-backend, attention-backend), or take other weights",
        "Python; SGLang issue 35272",
        rank=SYMPTOM,
    ),
    Signature(
        "module-missing",
        _RAISED + r"ModuleNotFoundError: No module named (?!'(?:transformers_modules|aiter\.jit\.))"
        r"|^(?:\([^)]*\) )?ERROR [^\]]*\] No module named '(?!transformers_modules)"
        r"|(?:finding module specification for .{0,80}|System error: )No module named"
        r"|requires the \S+ library but it was not found"
        r"|(?:Error|Exception): [^`]{0,80}\brequires? (?:\S+ ){1,3}to be installed"
        r"|ImportError: The package .{1,40} is required|\bpython[\d.]*: No module named"
        r"|PackageNotFoundError: \S"
        r"|with minimum required version \S+ is not installed"
        r"|packages that were not found in your environment"
        r"|the package \S+ seems to be not installed"
        r"|(?:Error|Exception): [^`]{0,120}[Pp]lease (?:pip )?install \S+\[\w+\]"
        r"|(?:DeepEP|MoRI|PPLX|pplx) kernels not found|DeepGEMM (?:backend )?is (?:not available"
        r"|unavailable)|[Ff]lashinfer \w+ module (?:not|cannot be) found|Ray Compiled Graph is"
        r" not installed|cupy is not installed|requires installation of ray"
        r"|FlashInfer backend is not available"
        r"|(?:Error|Exception): [^`]{0,120}[Pp]lease (?:pip )?install .{0,60}(?:via|with|using"
        r"|pip|by following)|(?:Error|Exception): (?:NIXL\S*|Mooncake"
        r"|Triton)(?:/ RIXL)? is (?:not |un)(?:available|installed)"
        r"|ImportError: [Pp]lease install \S+\s*$"
        r"|ImportError: .{0,80}(?:is|are) (?:required (?:when|for|on)|not (?:installed|available))"
        r"|need to install the hf_xet|Install `hf_xet`"
        r"|'hf_transfer' package is not available|\brequires Accelerate\b"
        r"|Cannot find a working triton installation",
        "the image or environment lacks a Python module",
        f"take the image that the recipe names; for an environment, {PREPARE}",
        "Python",
        rank=LIKELY,
    ),
    Signature(
        "wheels-absent",
        r"No matching distribution found|only has wheels for the following platforms"
        r"|Could not find a version that satisfies"
        r"|is not a supported wheel on this platform|ResolutionImpossible"
        r"|No solution found when resolving|require a different python version",
        "no wheels of these versions go together, or for this Python and system, on the index",
        "correct muster_wheel_requirements, muster_wheel_index_urls or muster_wheel_channel",
        "pip; uv",
        ("host-python",),
    ),
    # Kernels compiled at start.
    Signature(
        "jit-libcuda",
        r"cannot find -lcuda(?!\w)|libcuda\.so cannot found",
        "a kernel is compiled at start, and the linker does not find the driver's libcuda.so",
        "put a link libcuda.so beside the driver's libcuda.so.1, or name its folder in LIBRARY_PATH"
        " (muster_engine_env)",
        "Triton; FlashInfer",
        explains=("jit-compiler",),
    ),
    Signature(
        "jit-compiler",
        r"(?i:could not find nvcc)|No such file or directory: '[^']*(?:nvcc|ninja|hipcc)'"
        r"|nvcc: (?:command )?not found|ninja: (?:command )?not found|Ninja is required"
        r"|Ninja build failed|Error building extension|Command '\['(?:\S*/)?ninja'"
        r"|(?i:cannot find CUDA[_ ]HOME)|CUDA_HOME is not (?:set|None)"
        r"|NVR?T?C?C compilation failed|(?i:\bnvrtc(?:: | ).{0,20}error)"
        r"|Command '\['\S*/?(?:gcc|g\+\+|cc|c\+\+|clang|nvcc|hipcc|ld)'.{0,4000}non-zero exit"
        r"|\b(?:g\+\+|gcc|c\+\+|clang|hipcc): (?:command )?not found"
        r"|No such file or directory: '(?:gcc|g\+\+|cc|c\+\+)'"
        r"|CUDA_HOME environment variable is not set|cuda_home='[^']*' doesn't exist"
        r"|ninja: error: |(?:NVCC|nvcc|CUDA) version (?:should|must) be"
        r"|nvcc: No such file|unsupported GNU version|cicc: not found|hipcc: not found"
        r"|No such file or directory: '[^']*(?:cuobjdump|nvdisasm|ptxas|cicc|clang)'"
        r"|Failed to find C compiler|nvcc fatal\b|\bfatal error: (?:Python|cuda\w*|cu\w+"
        r"|nv\w+)\.h|Error compiling objects for extension|errors? detected in the compilation of"
        r"|fatal error: [\w./-]+\.(?:h|hpp|cuh|inc): No such file|ninja: build stopped: "
        r"|fatal error: '[\w./-]+' file not found|\berrors? generated when compiling for \w"
        r"|cannot find -l(?:cu\w+|nccl|nvToolsExt)|No CMAKE_CUDA_COMPILER could be found"
        r"|CUDA_TOOLKIT_ROOT_DIR not found"
        r"|error: command '\S*(?:gcc|g\+\+|nvcc|clang|cc)\S*' failed|\bnvcc (?:was )?not found"
        r"|Assertion error \(\S{0,80}/jit/\w+\.hpp:\d+\): (?:exit_code == 0|.{0,40}major > \d)"
        r"|NVCC compiler not found",
        "a kernel is compiled at start (FlashInfer, DeepGEMM, Triton, torch), and the compiler or"
        " what it needs is missing or fails; the lines before say which",
        "install the CUDA toolkit of the wheels' version with ninja and g++ on the node, or take an"
        " image that has the kernels or a backend that needs none",
        "FlashInfer issue 1919; vLLM issues 23176 and 50705",
        ("gpu-compiler",),
    ),
    Signature(
        "kernel-download",
        r"\bedge\.urm\.nvidia\.com\b|(?i:failed to (?:get|download|load) (?:\w+ )?cubins?\b)",
        "FlashInfer's compiled kernels are not in the image and cannot be downloaded at start",
        "an image that has them (flashinfer-cubin, flashinfer-jit-cache), a proxy for the engine in"
        " muster_engine_env, or a backend without them (VLLM_USE_FLASHINFER_* and"
        " attention-backend)",
        "FlashInfer",
        rank=LIKELY,
        explains=("name-resolution", "no-route"),
    ),
    Signature(
        "triton-compile",
        r"triton\.compiler\.errors\.\w+|\bPTXASError\b|Cannot find option named '\S+'"
        r"|not supported in this architecture|out of resource: shared memory"
        r"|triton\S*OutOfResources|Value '\S+' is not defined for option 'gpu-name'"
        r"|ptxas fatal|Command '\['[^']*\bptxas'|PTX \.version \S+ does not support"
        r"|\barange's (?:end|range|arguments)\b|exceeds triton maximum tensor numel"
        r"|Shape element \d+ must be a power of 2|\bub overflow, requires"
        r"|Internal Triton PTX codegen error|[Cc]annot find (?:a working )?ptxas"
        r"|requires \.target sm_\d"
        r"|error: '?(?:tt\w*|triton_\w+|arith|scf|hivm|linalg)\.\w+'? op\b"
        r"|too old to be supported by the triton GPU compiler",
        "Triton cannot compile a kernel for this device",
        "another engine version or image whose Triton knows the device, a newer ptxas of the image"
        " named by TRITON_PTXAS_PATH in muster_engine_env, or a backend without Triton",
        "Triton issue 8539; vLLM's troubleshooting; vllm-ascend issue 7421",
        ("gpu-name", "npu-topology"),
        likely=r"LLVM ERROR: (?!out of memory)|PassManager::run failed"
        r"|failed to legalize operation",
    ),
    Signature(
        "triton-driver",
        r"\b(?:0|2) active drivers \(",
        "Triton finds no driver for the device, or two: the process sees no device, or the package"
        " is that of another platform (triton over triton-ascend or over ROCm's)",
        "see that the vendor's tool lists the devices in the container; then"
        f" {RECIPE_IMAGE}: one triton, that of the platform",
        "Triton; verl issue 904; ms-swift issue 3279",
        ("gpu-count", "npu-count"),
        LIKELY,
    ),
    Signature(
        "compile-cache",
        r"corrupted compilation artifact|failed to get the hash of the compiled graph"
        r"|(?:torch_compile|torch_aot_compile|inductor)_?cache.{0,120}(?:EOFError|corrupt"
        r"|Truncated)|No such file or directory: '[^']*(?:torch_compile_cache|torchinductor_\w+"
        r"|inductor_cache|\.triton/cache)/",
        "the cache of compiled graphs on the node is broken: an earlier start ended while it wrote",
        "remove torch_compile_cache below VLLM_CACHE_ROOT (~/.cache/vllm) on the node and start"
        " again",
        "vLLM issues 18851 and 21858",
        rank=LIKELY,
    ),
    Signature(
        "aiter-build",
        r"No module named 'aiter\.jit\.|failed (?:jit build|build jit) \["
        r"|\[aiter\] build \[?\w+\]? .{0,200}failed"
        # Kernels of ck_tile are compiled into each module itself.
        r"|aiter/jit/\S+: undefined symbol: _ZN\w{0,3}7ck_tile|\bFAILED: .{0,40}\bmodule_\w+\.so\b",
        "a module of AITER could not be built or loaded at start; the lines around say why",
        f"{RECIPE_IMAGE}; one that has AITER's modules built needs no compiler",
        "AITER",
        explains=("jit-compiler",),
    ),
    Signature(
        "aiter-shape",
        r"Unsupported kernel config for moe|\bdevice_\w+ .{0,60}does not support"
        r"|\b[Nn]ot find (?:kernel|proper cfg)\b|no kernel support a\dw\d for"
        r"|\bget_heuristic_kernel\w* .{0,40}(?:not find|no )|Unsupported gqa ratio",
        "AITER has no kernel for the model's shapes at this parallelism",
        "another tensor- or expert-parallel size, or VLLM_ROCM_USE_AITER_MOE=0 (muster_engine_env)",
        "AITER, fused MoE",
    ),
    Signature(
        "aiter-lock",
        r"waiting for baton release at",
        "workers wait for the lock of a build of AITER's kernels: another one builds, or ended"
        " without giving it back",
        "where it does not go on within minutes: stop the unit, remove the lock that the line names"
        " and start again; AITER_JIT_DIR to null in muster_engine_env keeps to the image's own",
        "AITER issue 3635; SGLang issue 16242",
        rank=LIKELY,
    ),
)
