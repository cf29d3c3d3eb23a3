# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in order, what several failures look like, and what follows any failure."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    CONFIGURATION_FRAME,
    DIAGNOSE,
    FOLLOW_UP,
    HARMLESS,
    LIKELY,
    RECIPE_IMAGE,
    SYMPTOM,
    Signature,
)

# Read before all others: what these match counts for nothing else.
FIRST = (
    Signature(
        "workers-silent",
        r"No available shared memory broadcast block found",
        "a worker has not answered for a minute: it compiles, hangs or has ended",
        DIAGNOSE,
        "vLLM",
        rank=SYMPTOM,
    ),
    # What a program says at these levels has not ended it, whatever words are in it; neither has
    # the name of a file in a traceback.
    Signature(
        "harmless-level",
        r"\b(?:INFO|DEBUG)(?::\s(?!task \S+ blocked|rcu)| \d\d-\d\d \d\d:)(?!.{0,160}memory: -\d)"
        r"|\bNCCL INFO (?!.{0,160}\(\d+/\d+\)"
        r"|.{0,200}not found \(required by)"
        r"|^.{0,60}\[(?:INFO|DEBUG|EVENT)\]|\blevel=(?:info|debug)\b|\[c10d\] The (?:client"
        r"|server) socket .{0,120}"
        r"errno: 9[79]\b|hostname of the client socket cannot be retrieved"
        rf"|^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?  (?!.*{CONFIGURATION_FRAME})"
        r"File \"[^\"]*\", line \d+, in ",
        "",
        "",
        "vLLM, SGLang, uvicorn, NCCL, CANN; frames of Python's tracebacks",
        rank=HARMLESS,
    ),
    # What CANN prints under each error of a kind, whatever its cause.
    Signature(
        "harmless-advice",
        r"^(?:.{0,160}\]|\([^)]{0,80}\))?\s+(?:Possible Cause|Solution): ",
        "",
        "",
        "CANN",
        rank=HARMLESS,
    ),
    Signature(
        "harmless-warning",
        r"Failed to import from (?:vllm\.\w+|custom_ar) with (?:ModuleNotFoundError"
        r"|ImportError\(['\"]lib)"
        r"|Found ulimit of \d+ and failed to automatically increase"
        r"|Failed to import Triton kernels\. Please make sure|Cannot use FA version"
        r"|failed to load cni during init"
        r"|Failed to get usage for snapshot|\bras/\w+\.cc:\d+ NCCL WARN"
        r"|^sysctl: .{0,80}(?:Read-only|cannot stat|ermission denied)",
        "",
        "",
        "vLLM, which looks for kernels of other devices or models; containerd, which counts what it"
        " still unpacks and starts without Kubernetes' networks; NCCL's"
        " port for statistics; sysctl in a container",
        rank=HARMLESS,
    ),
    # No engine ends of it: a node without a way to the Internet says so at each start.
    Signature(
        "harmless-telemetry",
        r"(?i)\bstats\.vllm\.ai\b|\busage_(?:lib|stats)\b|\bwandb: |while exporting (?:traces"
        r"|metrics|spans|logs)\b",
        "",
        "",
        "vLLM's and Ray's statistics of use, OpenTelemetry",
        rank=HARMLESS,
    ),
)

LAST = (
    Signature(
        "name-resolution",
        r"(?i)(?<!huggingface\.co: )temporary failure (?:in name resolution|resolving)"
        r"|name or service not known"
        r"|could not resolve host|getaddrinfo failed"
        r"|nodename nor servname|host not found in upstream|no address associated with hostname"
        r"|network addresses of \([^)]*\) cannot be retrieved"
        r"|\blookup \S+(?: on \S+)?: (?:server misbehaving|no such host|i/o timeout)",
        "a host's name cannot be resolved on this node",
        "give addresses in place of names (muster_address), or mend DNS or /etc/hosts",
        "torch; libc",
        ("nic-route",),
    ),
    Signature(
        "no-route",
        r"(?i)(?<!connect returned )\bno route to host|network is unreachable|host is unreachable"
        r"|\[Errno 11[03]\]",
        "the node has no way to the address in the line: a route, a gateway or a firewall",
        "ip route get ADDRESS on the node; admit the cluster network in the firewall of both ends",
        "kernel, EHOSTUNREACH and ENETUNREACH",
        ("nic-route", "port-reachable"),
        LIKELY,
    ),
    Signature(
        "library-missing",
        r"\b[\w.-]+\.so[.\d]*: cannot open shared object"
        r"|cannot open shared object file: No such file|Could not load this library: \S+\.so"
        r"|[Ee]rror loading shared library \S+"
        r"|version `\w+_[\d.]+' not found \(required by(?!.{0,120}libnccl-net)"
        r"|undefined symbol: \w+|\.so[.\d]*: wrong ELF class|dlopen failed: library"
        r"|DLL load failed while importing",
        "the image or environment lacks a shared library, or has another version of it; the line"
        " names it",
        RECIPE_IMAGE,
        "ld.so",
        rank=LIKELY,
        hint=r"Failed to load .{0,20}library from \S+\.so",
    ),
    Signature(
        "nccl-system",
        r"ncclSystemError|unhandled system error|unhandled cuda error|ncclInternalError"
        r"|ncclUnhandledCudaError|NCCL WARN (?:Cuda|CUDA|HIP|hip) failure"
        r"|RuntimeError: NCCL [Ee]rror|\bNCCL error: (?:internal|invalid|unhandled)"
        r"|NCCL error in: (?!.{0,200}remote process exited)"
        r"|ncclInvalid(?:Usage|Argument)|NCCL WARN Call to \w+ failed"
        r"|NCCL WARN \[(?:Service thread|Proxy Service[^\]]*)\] (?:Error encountered|Failed to)",
        "NCCL or RCCL failed on a call of the system; the lines around it say which",
        "set NCCL_DEBUG: INFO in muster_engine_env and start again",
        "vLLM issues 4383 and 10626",
        ("nic-up", "port-reachable"),
        SYMPTOM,
    ),
    Signature(
        "file-absent",
        r"\[Errno 2\] No such file or directory: '/(?!dev/|proc/|run/|tmp/|(?:psm|mp|sem"
        r"|torch)[_-])"
        r"(?!\S*/\.)"
        r"(?!\S*\.(?:sock|lock)\b)|(?:^|[\s\"])(?:open|stat|lstat) /(?!dev/|proc/|run/|tmp/|sys/)"
        r"[^\s:]{1,300}(?<!\.sock): no such file|\bexportfs: Failed to stat /"
        r"|\bCache directory not found: /",
        "a file or folder that the line names is not on the node, or not in the container",
        "put it there, mount it with muster_extra_mounts, or correct its path in muster_engine_args"
        " or muster_engine_env",
        "kernel, ENOENT",
        ("mount-source",),
        LIKELY,
    ),
    Signature(
        "cuda-unknown",
        r"CUDA unknown error|\bCUDA: unknown error|CUDA driver initialization failed|\b(?:CUDA"
        r"|HIP) (?:driver )?error"
        r"(?: \(\d+\))?: |Triton Error \[\w+\]: |\b(?:cuda"
        r"|hip)Error[A-Z]\w+"
        r"|\bCUDA_ERROR_[A-Z_]+|\b(?:Error|failure) (?:500|999)\b|CU(?:DNN|BLAS)_STATUS_[A-Z_]+"
        r"|HSA_STATUS_ERROR_\w+|Memory critical error by agent|hsa api call failure"
        r"|\bhsa_init failed"
        r"|NVML_SUCCESS == .{0,80}INTERNAL ASSERT|driver_api\.cpp\S* INTERNAL ASSERT"
        r"|\bCUDART error: |---> \[HIP error\]\(",
        "CUDA or HIP refused a call; the words do not say why: modules of the driver (nvidia_uvm),"
        " memory that is taken, libraries that do not fit, or a fault of a kernel",
        "modprobe nvidia_uvm on the node, look at dmesg and the processes of each device; then"
        " another image",
        "CUDA errors 1, 3, 304, 801 and 999; cuDNN; cuBLAS; ROCm",
        ("gpu-tool", "gpu-processes", "gpu-driver"),
        SYMPTOM,
    ),
    Signature(
        "torch-compile",
        r"\bInductorError\b|torch\._inductor\.exc\.\w+|torch\._dynamo\.exc\.\w+"
        r"|\bBackendCompilerFailed",
        "torch.compile failed on the model's graph; the words behind say why",
        "read them; enforce-eager in muster_engine_args starts without, then another engine"
        " version",
        "torch",
        rank=SYMPTOM,
    ),
    Signature(
        "container-start",
        r"(?i:oci runtime (?:create failed|error))|^Error: container create failed"
        r"|runc did not terminate|^Error: crun: |no logs from conmon|conmon bytes "
        r"|exec: \"(?:\S*/)?(?:runc|crun)\"|failed to create shim task"
        r"|error running (?:prestart )?hook"
        r"|\brunc create failed|unable to start container process",
        "Docker could not start the container; the end of the line says why",
        "read it, then run playbooks/preflight.yml",
        "Docker",
        rank=SYMPTOM,
    ),
    Signature(
        "health-silent",
        r"Health check failed\. Server couldn't get a response",
        "SGLang's scheduler or detokenizer does not answer any more",
        DIAGNOSE,
        "SGLang",
        rank=SYMPTOM,
    ),
    Signature(
        "engine-crash",
        r"Segmentation fault|code=dumped|Failed with result 'core-dump'|Segfault encountered"
        r"|\bSIGSEGV\b|status=(?:11/SEGV|6/ABRT)"
        r"|Failed core proc\(s\): \{[^}]*: -11\b|double free or corruption|core dumped"
        r"|\bstd::bad_alloc|\b(?:free|malloc|munmap_chunk|realloc)\(\): (?:invalid|corrupt"
        r"|unaligned|mismatch|double)|corrupted (?:size vs|double-linked)"
        r"|Fatal Python error: "
        r"|\bsegfault at [0-9a-f]+ ip|general protection fault"
        r"|(?:exit ?code|died with (?:exit )?code|died with signal)\W{1,4}-?11\b"
        r"|exit(?:ed)?(?: with)?(?: status| code)?:? 13[49]\b|\b(?:with|by) signal (?:6|11)\b",
        "a process of the engine crashed in compiled code",
        "look at the lines before it; the same image on another node tells software from hardware",
        "kernel; Python's faulthandler",
        rank=SYMPTOM,
    ),
    Signature(
        "peer-ended",
        r"[Cc]onnection closed by (?:remote )?peer|\bncclRemoteError\b"
        r"|[Ff]ailed to recv, got 0 bytes|Did the remote server shutdown or crash"
        r"|[Cc]onnection reset by peer"
        r"|Please check rank \d+ logs|Parent process exited|remote process exited"
        r"|(?:send|recv)\w* failed .{0,120}Broken pipe|BrokenPipeError",
        "another process of the replica ended before this one",
        "look at the other units of the replica: playbooks/diagnose.yml",
        "seen with vLLM 0.32.0",
        rank=FOLLOW_UP,
    ),
    Signature(
        "engine-core",
        r"Engine (?:core|process) (?:initialization failed|failed to start)|\bChildFailedError\b"
        r"|WorkerProc (?:initialization failed|failed to start)|\b(?:Ray)?(?:ActorDied"
        r"|Task)Error\b|Initialization failed\. (?:Please see|warmup error)"
        r"|Frontend process failed during|Application startup failed\. Exiting"
        r"|(?:Input socket thread|Engine loop|[Ee]ngine process|API server process) .{0,40}\bdied\b"
        r"|EngineDeadError\b|EngineCore (?:encountered a fatal|failed to start)"
        r"|Engine core proc \S+ died|died unexpectedly, shutting down"
        r"|fatal signal from worker processes|Received sigquit from a child process"
        r"|It usually means (?:the|one) child failed|Scheduler hit an exception"
        r"|scheduler (?:is dead|died)|DataParallelController \d+ terminated with"
        r"|Capture (?i:cuda|npu) graph failed|Error executing method \S+ This might cause deadlock"
        r"|(?:TokenizerManager|Detokenizer\w*|DataParallelController) hit an exception"
        r"|please check the stack trace above|\bBrokenProcessPool\b|Executor failed\.$",
        "an engine process ended; its own lines stand further up",
        "run playbooks/diagnose.yml and read the lines before this one",
        "seen with vLLM 0.32.0; SGLang",
        rank=FOLLOW_UP,
    ),
    Signature(
        "restart-budget",
        r"Start request repeated too quickly",
        "the unit ended so often that systemd starts it no more",
        "mend the cause of the first end, then run playbooks/serve.yml",
        "systemd",
        rank=FOLLOW_UP,
    ),
)
