"""What an engine's log says of a failure, on lines as engines and their libraries print them."""

import re
import time

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.failure import judging, signatures
from ansible_collections.muster.serving.plugins.plugin_utils.failure.judging import explain
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

CORE = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)

# By signature, a line that has to be read as it: of those that tests/logs has no case of, and more.
LINES = {
    "gpu-atomics": "kfd kfd: amdgpu: skipped device 1002:7300, PCI rejects atomics 730<0",
    "cpu-binding": "CPUs available in 'Cpus_allowed_list' conflict with NUMA affinity.",
    "map-limit": "max virtual memory areas vm.max_map_count [65530] is too low",
    "rdma-absent": "ERROR: ibv_get_device_list failed: no IB devices found",
    "npu-port-taken": "socket type[1], listen on ip[10.0.0.1] and specific port[16666] fail",
    "hccl-port-taken": "socket type[2], listen on ip[10.0.0.1%eth0] and specific port[60000] fail",
    "npu-link-down": "EJ0002: network port is down, device[3]",
    "hccl-interface": "[EI0001] set ifname to [abc] by HCCL_SOCKET_IFNAME, but not found",
    "npu-tls": "Communication_Error_TLS(EI0016): the TLS configuration of the ranks differs",
    "super-pod": "EI0014: superDeviceId 7 of rank 3 is not unique",
    "hccl-arguments": "EI0005: the arguments for communication are inconsistent",
    "hccl-memory": "EI0011: memory resources are not enough",
    "npu-dispatch": "call aclnnMoeDistributeDispatchV4 failed, detail: EZ9999 ... error 561000",
    "npu-held": "dcmi model initialized failed, because the device is used. ret is -8020",
    "npu-driver": "dcmi module initialize failed. ret is -8005",
    "hccl-agent-timeout": "[EI0015] topo exchange agent get socket timeout",
    "hccl-timeout": "EI0006: Getting socket times out. wait socket establish timeout",
    "fabric-manager": "CUDA initialization: Error 802: system not yet initialized",
    "gpu-driver-mismatch": "Failed to initialize NVML: Driver/library version mismatch",
    "gpu-toolkit": 'docker: could not select device driver "" with capabilities: [[gpu]].',
    "gpu-none": "RuntimeError: No HIP GPUs are available",
    "gpu-ecc": "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    "gpu-code": "RuntimeError: CUDA error: no kernel image is available for execution",
    "shared-memory": "Error while creating shared memory segment /dev/shm/nccl-bWHyCi",
    "nccl-interface": "NCCL WARN Bootstrap : no socket interface found",
    "nccl-connect": "socketStartConnect: Connect to 10.0.0.2<41000> failed : Connection refused",
    "nccl-system": "NCCL error in: NCCLUtils.hpp:317, unhandled system error, NCCL version 2.21.5",
    "zmq-port-taken": "zmq.error.ZMQError: Address already in use (addr='tcp://10.0.0.1:2347')",
    "torch-port-taken": "DistNetworkError: The server socket has failed to listen",
    "api-port-taken": "OSError: [Errno 98] Address already in use",
    "gloo-interface": "RuntimeError: Unable to find address for: eth9",
    "handshake": "Did not receive response from front-end process within 5 minutes",
    "parallel-mode": "Remote engine 1 must not use --headless in external or hybrid dp lb mode",
    "fuse-qk-norm": "pass_config.fuse_minimax_qk_norm",
    "engine-arguments": "vllm: error: unrecognized arguments: --quantisation ascend",
    "engine-configuration": "1 validation error for SchedulerConfig",
    "grouped-routing": "RuntimeError: n_group should not be zero for DeepSeekV3 routing",
    "sglang-import": "ImportError: cannot import name 'ServerArgs' from 'sglang'",
    "module-missing": "ModuleNotFoundError: No module named 'vllm_ascend'",
    "memory-taken": "Free memory on device (3.1/79.1 GiB) on startup is less than desired",
    "no-cache": "ValueError: No available memory for the cache blocks. Try increasing ...",
    "cache-too-small": "max seq len (196608) is larger than the maximum number of tokens",
    "device-memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "node-memory": "muster-a.service: A process of this unit has been killed by the OOM killer.",
    "weights-absent": "OSError: /models/m2 does not appear to have a file named config.json",
    "weights-broken": "safetensors_rust.SafetensorError: Error while deserializing header",
    "tokenizer": "OSError: Can't load tokenizer for '/models/m2'.",
    "device-permission": "open /dev/davinci0: Permission denied",
    "device-absent": 'error gathering device information while adding custom device "/dev/kfd"',
    "mount-absent": "docker: invalid mount config for type: bind source path does not exist: /x.",
    "image-architecture": "exec /usr/local/bin/vllm: exec format error",
    "image-absent": "Error response from daemon: manifest for x:y not found: manifest unknown",
    "docker-down": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.",
    "disk-full": "OSError: [Errno 28] No space left on device",
    "preload": "ld.so: object '/usr/lib/libjemalloc.so.2' from LD_PRELOAD cannot be preloaded",
    "collective-timeout": "Gloo connectFullMesh failed with [pair.cc:144] no error",
    "peer-ended": "store->get('0') got error: Connection reset by peer",
    "engine-core": CORE,
    "restart-budget": "muster-a.service: Start request repeated too quickly.",
    "workers-silent": "No available shared memory broadcast block found in 60 seconds.",
    "hccl-environment": "EI0001: Environment variable [HCCL_EXEC_TIMEOUT] is invalid.",
    "hccl-versions": "EI0008: [PID: 1] The CANN versions are inconsistent",
    "hccl-transport": "EI0009: [PID: 7] Transport init error. Reason: [Create][DestLink]",
    "npu-transfer": "Execution_Error_ROCE_CQE(EI0013): An error CQE occurred",
    "npu-unavailable": "NPU function error: aclrtGetDeviceCount(&count), error code is 207004",
    "npu-operator": "NPU function error: AclrtSynchronizeStream, error code is 507015",
    "hccl-failed": "HCCL function error: hcclCommInitRootInfoConfig(...), error code is 1",
    "gpu-nvlink": "torch.AcceleratorError: CUDA error: uncorrectable NVLink error detected",
    "gpu-ordinal": "RuntimeError: CUDA error: invalid device ordinal",
    "gpu-few": "Value error, World size (2) is larger than the number of available GPUs (1)",
    "gpu-kernel-fault": "torch.AcceleratorError: CUDA error: an illegal memory access was met",
    "gpu-cgroup": "nvidia-container-cli: mount error: failed to add device rules: unable to find",
    "gpu-hook": "nvidia-container-cli: ldcache error: process /sbin/ldconfig failed",
    "gpu-library": "ImportError: libcuda.so.1: cannot open shared object file: No such file",
    "torch-mismatch": "ImportError: /x/vllm/_C.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEa",
    "jit-libcuda": "/usr/bin/ld: cannot find -lcuda: No such file or directory",
    "aiter-shape": "RuntimeError: Unsupported kernel config for moe heuristic dispatch",
    "nccl-rdma": "NET/IB : Got completion from peer 192.0.2.2<4000> with status=12 opcode=0",
    "name-resolution": "socket.gaierror: [Errno -3] Temporary failure in name resolution",
    "coordinator-late": "DP Coordinator process failed to report ZMQ addresses during startup.",
    "nccl-versions": "NCCL WARN Bootstrap : Mismatched NCCL version detected",
    "parallel-size": "number of attention heads (48) must be divisible by tensor parallel size",
    "context-length": "max_model_len (1000000) is greater than the derived max_model_len",
    "model-code-missing": "OSError: Could not locate the configuration_minimax_m2.py inside /m.",
    "quantisation-unsupported": "ValueError: fp8 quantization is currently not supported in npu.",
    "package-mismatch": "ImportError: cannot import name 'X' from 'transformers' (/x/__init__.py)",
    "hub-unreachable": "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
    "model-inspection": "Model architectures ['MiniMaxM2ForCausalLM'] failed to be inspected.",
    "file-system-lost": "OSError: [Errno 107] Transport endpoint is not connected: '/models'",
    "mount-kind": 'error mounting "/a" to rootfs at "/b": mount: not a directory: unknown',
    "image-command": 'exec: "vllm": executable file not found in $PATH: unknown.',
    "registry-plain": "http: server gave HTTP response to HTTPS client",
    "image-limit": "toomanyrequests: You have reached your unauthenticated pull rate limit.",
    "image-not-pulled": "Unable to find image 'quay.io/ascend/vllm-ascend:v0.18.0' locally",
    "container-name": 'Conflict. The container name "/muster-a" is already in use by container',
    "docker-permission": "permission denied while trying to connect to the Docker daemon socket",
    "library-missing": "ImportError: libGL.so.1: cannot open shared object file: No such file",
    "container-start": "OCI runtime create failed: runc create failed: unable to start: unknown",
    "health-silent": "Health check failed. Server couldn't get a response from detokenizer",
    "gpu-permission": "Failed to initialize NVML: Insufficient Permissions",
    "engine-crash": "Fatal Python error: Segmentation fault",
    "npu-address": "EJ0004: Check ip fail. Reason: the ip address of device 3 is not set",
    "hccl-ranktable": "EI0004: Failed to parse the ranktable file /data/hccl.json. Reason: no such"
    " field",
    "npu-few": "local_world_size (8) must be less than or equal to the number of visible devices"
    " (0).",
    "npu-permission": "NPU function error: aclInit, error code is 207006",
    "npu-driver-old": "EE1015: rtMalloc failed. Reason: The driver version capacity is"
    " insufficient.",
    "npu-unsupported": "EE1005: The current system or device does not support rtMemcpyBatch.",
    "cann-compiler": "[Initialize][Ge]GEInitialize failed. ge result = 4294967295",
    "npu-runtime": "stderr: runc start prestart-hook ...verify parameters valid and parse runtime"
    " options",
    "gpu-shared": "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000",
    "gpu-busy": "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "gpu-mps": "Error 805: MPS client failed to connect to the MPS control daemon or the MPS"
    " server",
    "gpu-init": "amdgpu 0000:83:00.0: amdgpu: Fatal error during GPU init",
    "unit-dependency": "Dependency failed for Muster unit a.",
    "kernel-module": "modprobe: FATAL: Module nvme_rdma not found in directory /lib/modules/6.1.0",
    "cuda-fork": "RuntimeError: Cannot re-initialize CUDA in forked subprocess.",
    "torch-cpu": "AssertionError: Torch not compiled with CUDA enabled",
    "cuda-unknown": "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up"
    " env",
    "gpu-peer": "Cuda failure 'peer access is not supported between these two devices'",
    "gpu-multicast": "transport/nvls.cc:254 NCCL WARN Cuda failure 401 'the operation cannot be"
    " performed'",
    "gpu-runtime-mode": "invoking the NVIDIA Container Runtime Hook directly (e.g. --gpus) is not"
    " supported",
    "kernel-versions": "flashinfer-cubin version (0.5.2) does not match flashinfer version (0.5.3)",
    "static-tls": "libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block",
    "library-broken": "ImportError: /usr/lib/x86_64-linux-gnu/libcuda.so.1: file too short",
    "cpu-instructions": "/bin/bash: line 1: 12 Illegal instruction     (core dumped) vllm serve",
    "memlock-limit": "Please set max locked memory (ulimit -l) to 'unlimited' (current: 8192"
    " kbytes)",
    "gpu-direct": "NCCL WARN Call to ibv_reg_mr_iova2 failed with error Bad address",
    "nccl-network": "net.cc:579 NCCL WARN Error: network AWS Libfabric not found.",
    "address-absent": "ZMQError: Cannot assign requested address (addr='tcp://192.0.2.9:5555')",
    "ranks-differ": "NCCL WARN Bootstrap Root : mismatch in rank count from procs 16 : 8",
    "no-route": "OSError: [Errno 113] No route to host",
    "ray-resources": "ValueError: Current node has no GPU available. current_node_resource={}",
    "ray-versions": "RuntimeError: Version mismatch: The cluster was started with: Ray: 2.40.0",
    "ray-unreachable": "gcs_client.cc:102: Failed to connect to GCS at address 192.0.2.1:6379",
    "engine-environment": "VLLM_PORT 'tcp://192.0.2.5:8000' appears to be a URI.",
    "platform-plugins": "Only one platform plugin can be activated, but got: ['ascend', 'rocm']",
    "batched-tokens": "max_num_batched_tokens (2048) is smaller than max_model_len (32768).",
    "attention-backend": "No valid attention backend found for cuda with AttentionSelectorConfig",
    "chat-template": "The supplied chat template string (/x.jinja) appears path-like, but doesn't"
    " exist!",
    "proxy": "proxyconnect tcp: dial tcp 192.0.2.3:3128: connect: connection refused",
    "hub-limit": "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for"
    " url",
    "clock": "x509: certificate has expired or is not yet valid: current time 1970-01-01 is before",
    "config-broken": "It looks like the config file at '/models/m2/config.json' is not a valid"
    " JSON file.",
    "inotify-limit": "Failed to watch /data; inotify watch limit reached: no space left on device",
    "rlimit-refused": "error during container init: error setting rlimits for ready process: not"
    " permitted",
    "hugepages": "EAL: Cannot allocate huge pages: hugepage allocation failed",
    "unit-setup": "muster-a.service: Failed at step CHDIR spawning /usr/bin/docker: No such file",
    "start-timeout": "muster-a.service: Failed with result 'timeout'.",
    "file-locks": "OSError: [Errno 37] No locks available",
    "path-long": 'zmq.error.ZMQError: ipc path "/data/tmp/x" is longer than 107 characters',
    "image-name": "docker: invalid reference format: repository name must be lowercase.",
    "image-broken": "failed to register layer: error processing tar file: unexpected EOF",
    "docker-network": "iptables failed: iptables --wait -t nat -A DOCKER: No chain/target/match by"
    " that name.",
    "container-cgroup": "runc create failed: unable to apply cgroup configuration: unable to start"
    " unit",
    "nvshmem": "nvshmem setup connections failed",
    "kv-transfer": "nixl._bindings.nixlBackendError: NIXL_ERR_BACKEND",
    "compile-cache": "a previous compilation failed, leading to a corrupted compilation artifact.",
    "torch-compile": "torch._inductor.exc.InductorError: RuntimeError: no such thing",
    "wheels-absent": "ERROR: No matching distribution found for vllm==0.99.0",
    "user-unknown": "KeyError: 'getpwuid(): uid not found: 1000'",
    "rocm-driver-old": "HSA Error: Incompatible kernel and userspace, GPU disabled. Please upgrade",
    "ray-worker-died": "Some potential root causes include: (1) SIGKILL by OOM killer (3) SIGSEGV",
    "docker-storage": "error initializing graphdriver: /var/lib/docker contains several valid"
    " graphdrivers: devicemapper, overlay2",
    "container-memory": "failed to write 1000: write /sys/fs/cgroup/x/memory.limit_in_bytes: device"
    " or resource busy",
    "docker-configuration": "unable to configure the Docker daemon with file"
    " /etc/docker/daemon.json: invalid character '}' looking for beginning of object key string",
    "file-absent": "FileNotFoundError: [Errno 2] No such file or directory: '/data/moe.json'",
    "node-hardware": "Memory failure: 0x7f1: Killing python3:42 due to hardware memory corruption",
    "kernel-hang": "INFO: task python3:1234 blocked for more than 120 seconds.",
    "chat-messages": "jinja2.exceptions.TemplateError: Conversation roles must alternate user/x",
    "multimodal-prompt": "ValueError: Attempted to assign 1176 = 1176 multimodal tokens to 1174"
    " placeholders",
    "tools-off": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to'
    " be set",
    "lora-adapter": "ValueError: Call to add_lora failed: No adapter found for /models/lora",
    "api-certificate": "ssl.SSLError: [SSL] PEM lib (_ssl.c:3900)",
    "cache-layout": "NotImplementedError: The page size of the layer is not divisible by the"
    " maximum page size. Cannot unify by adjusting block_size.",
    "attention-workspace": "RuntimeError: Buffer overflow when allocating memory for"
    " batch_prefill_tmp_v with size 41943040 and alignment 16",
    "spawn-guard": "An attempt has been made to start a new process before the current process has"
    " finished its bootstrapping phase.",
    "gpu-nvml": "pynvml.NVMLError_NotSupported: Not Supported",
    "wsl-gpu": "nvidia-container-cli: initialization error: WSL environment detected but no"
    " adapters were found",
    "custom-all-reduce": "Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:455 'invalid"
    " argument'",
    "cdi-specification": 'failed to parse CDI Spec "/etc/cdi/nvidia.yaml": unknown field',
    "toolkit-privilege": "nvidia-container-cli: initialization error: privilege change failed:"
    " operation not permitted",
    "kernel-download": "HTTPSConnectionPool(host='edge.urm.nvidia.com', port=443): Max retries",
    "weights-pickle": "_pickle.UnpicklingError: Weights only load failed.",
    "bucket-access": "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    "container-options": "Error response from daemon: cannot set both Count and DeviceIDs on device"
    " request",
    "container-peer": "cannot join network of a non running container: 4f2a",
    "container-stuck": "cannot stop container: 4f2a: tried to kill container, but did not receive"
    " an exit event",
    "gpu-driver-branch": "NVRM: installed in this system requires use of the NVIDIA open kernel"
    " modules.",
    "gpu-driver-in-use": "ERROR: An NVIDIA kernel module 'nvidia-drm' appears to already be loaded"
    " in your kernel.",
    "nested-container": "open sysctl net.ipv4.ip_unprivileged_port_start file: reopen fd 8:"
    " permission denied",
    "probe-failed": "Container vllm failed startup probe, will be restarted",
    "graph-capture": "RuntimeError: CUDA error: operation not permitted when stream is capturing",
    "package-shadowed": "ImportError: cannot import name 'LLM' from 'vllm' (unknown location)",
    "docker-old": "client version 1.39 is too old. Minimum supported API version is 1.44",
}


def names(lines: list[str]) -> list[str]:
    return [finding.signature.name for finding in explain(lines)]


@pytest.mark.parametrize("name", LINES)
def test_each_signature_is_read_in_its_own_text(name: str) -> None:
    prefix = "(EngineCore_DP0 pid=214) ERROR 11-18 18:07:28 [core.py:708] "
    assert names([prefix + LINES[name]]) == [name]


def test_names_are_unique() -> None:
    every = [one.name for one in signatures.SIGNATURES]
    assert len({*every}) == len(every)


@pytest.mark.parametrize(
    "name", [one.name for one in signatures.SIGNATURES if one.rank < 3 and one.name in LINES]
)
def test_what_follows_any_failure_is_no_cause(name: str) -> None:
    follow_ups = [LINES[one] for one in ("peer-ended", "engine-core", "restart-budget")]
    assert names([*follow_ups, LINES[name], *follow_ups])[0] == name


def test_a_symptom_stands_between_cause_and_follow_up() -> None:
    order = ["npu-link-down", "hccl-timeout", "engine-core"]
    assert names([LINES[name] for name in reversed(order)]) == order


def test_among_causes_the_first_in_the_log_comes_first() -> None:
    order = ["gloo-interface", "zmq-port-taken"]
    assert names([LINES[name] for name in order]) == order
    assert names([LINES[name] for name in reversed(order)]) == list(reversed(order))


def test_a_finding_keeps_its_first_line_and_counts() -> None:
    lines = ["OSError: [Errno 98] Address already in use", "again: address already in use"]
    (finding,) = explain(lines)
    assert (finding.line, finding.times) == (lines[0], 2)


def test_what_is_known_to_follow_stands_behind_whichever_came_first() -> None:
    assert names([LINES["npu-port-taken"], LINES["npu-link-down"]])[0] == "npu-link-down"
    lines = [LINES["zmq-port-taken"], "KV Cache sending/receiving thread failed to start."]
    assert names(lines)[0] == "kv-port-taken"
    lines = [LINES["name-resolution"], LINES["hub-unreachable"]]
    assert names(lines) == ["hub-unreachable", "name-resolution"]


def test_what_was_killed_after_a_time_out_was_ended_for_it() -> None:
    late = "watchdog timeout"
    killed = "RuntimeError: Engine core failed. Failed core proc(s): {'EngineCore_0': -9}"
    lost = "[c10d] The client socket has timed out after 600000ms"
    for follows, name in ((killed, "worker-killed"), (lost, "store-unreachable")):
        assert names([late, follows]) == ["collective-timeout", name]
        assert names([follows, late]) == [name, "collective-timeout"]


def test_what_failures_end_in_claims_no_cause_behind_an_error_that_is_not_known() -> None:
    strange, killed = "ValueError: what nobody has met before", "line 38: 14328 Killed  vllm serve"
    claimed = [
        judging.judge(judging.Log(lines, []))[0].cause
        for lines in ([strange, killed], [killed, strange], ["    raise ValueError(", killed])
    ]
    assert [one and one.signature.name for one in claimed] == [None, *["worker-killed"] * 2]


def test_a_likely_cause_stands_behind_one_that_is_sure() -> None:
    lines = [LINES["nccl-connect"], LINES["device-memory"]]
    assert names(lines) == ["device-memory", "nccl-connect"]


LOOPBACK = (
    "[W ProcessGroupGloo.cpp:721] Warning: Unable to resolve hostname to a (local) address. Using"
    " the loopback address as fallback."
)


def test_a_hint_counts_where_something_failed_alone() -> None:
    assert names([LOOPBACK]) == []
    failed = explain([LOOPBACK, LINES["collective-timeout"]])
    assert failed[0].signature.name == "gloo-interface"
    judged = judging.judge(judging.Log([LOOPBACK, LINES["collective-timeout"]], []))[0]
    assert judging.sureness(judged) == "likely cause"


def test_a_hint_claims_no_cause_beside_an_error_that_is_not_known() -> None:
    lines = [LOOPBACK, "ValueError: what nobody has met before", CORE]
    judged = judging.judge(judging.Log(lines, []))[0]
    assert (judged.cause, judging.sureness(judged)) == (None, "symptom")
    assert judged.findings[0].signature.name == "gloo-interface"


def test_what_systemd_ends_after_its_time_out_was_not_killed_for_memory() -> None:
    lines = [
        "muster-a.service: start operation timed out. Terminating.",
        "muster-a.service: Main process exited, code=killed, status=9/KILL",
        "muster-a.service: Failed with result 'timeout'.",
    ]
    assert judging.judge(judging.Log(lines, []))[0].cause is None


def test_words_that_come_of_a_cause_as_a_rule_do_not_state_it() -> None:
    rule, stated = "Bus error (core dumped)", LINES["shared-memory"]
    judged = [judging.judge(judging.Log(lines, []))[0] for lines in ([rule], [rule, stated])]
    assert [judging.sureness(one) for one in judged] == ["likely cause", "cause"]
    assert judging.sureness(judging.judge(judging.Log([stated, rule], []))[0]) == "cause"


PLUGIN = (
    "node1:1:1 [7] NCCL INFO NET/Plugin: Plugin load returned 2 : libc.so.6: version"
    " `GLIBC_2.32' not"
    " found (required by /usr/local/nvidia/lib64/libnccl-net.so)"
)


WENT_ON = [
    "FA4 on Blackwell does not support head_size=512, defaulting to FA version 2.",
    "No Mxfp4 MoE backend supports activation=X. Falling back to 'X' with BF16 activations.",
    "X has no vLLM implementation, falling back to Transformers implementation.",
    "Unknown vLLM environment variable detected: VLLM_X",
]


@pytest.mark.parametrize("line", WENT_ON)
def test_a_warning_of_what_was_taken_instead_counts_nowhere(line: str) -> None:
    assert names([f"(EngineCore pid=7) WARNING 11-21 09:00:00 [x.py:1] {line}", CORE]) == [
        "engine-core"
    ]


def test_a_warning_beside_an_error_without_words_claims_no_cause() -> None:
    hint = f"WARNING 11-21 09:00:00 [x.py:1] {LINES['device-memory']}"
    bare = "(EngineCore pid=7) ERROR 11-21 09:00:00 [core.py:7] AssertionError"
    assert judging.judge(judging.Log([hint, bare, CORE], []))[0].cause is None


def test_a_warning_counts_where_something_failed_alone() -> None:
    silent = "INFO [shm_broadcast.py:542] No available shared memory broadcast block found"
    refused = f"WARNING 11-21 [x.py:1] {LINES['device-memory']}"
    assert (names([silent]), names([refused]), names([PLUGIN])) == ([], [], [])
    assert names([silent, CORE]) == ["workers-silent", "engine-core"]
    assert names([refused, CORE]) == ["device-memory", "engine-core"]
    assert names([PLUGIN, LINES["nccl-network"]]) == ["glibc-old", "nccl-network"]


# Lines of failures that have the words of a wider signature and another cause.
OTHERS = [
    (
        "hccl-timeout",
        "Get_Socket_Timeout(EI0006): Getting socket times out. Reason: 3. The communication link is"
        " disconnected. (For example, the TLS configurations are inconsistent.)",
    ),
    (
        "image-certificate",
        "x509: certificate has expired or is not yet valid: current time 2026-01-01 is after 2025",
    ),
    ("gpu-lost", "NVRM: GPU at PCI:0000:3b:00: device lost from bus"),
    ("gpu-ordinal", "AssertionError: Invalid device id"),
    (
        "registry-unreachable",
        'Get "https://quay.io/v2/": dial tcp: lookup quay.io on 127.0.0.53:53: server misbehaving',
    ),
    ("name-resolution", "dial tcp: lookup node2.example on 10.0.0.1:53: no such host"),
    ("triton-compile", "error : PTX .version 8.4 does not support .target sm_120a"),
    ("api-port-taken", "ValueError: engine_info_bootstrap_port 8000 is already in use"),
    ("attention-backend", "ValueError: Sparse MLA does not support fa3 attention backend"),
    ("engine-core", "Scheduler or DataParallelController 4242 terminated with -9"),
    ("hub-unreachable", "HTTPSConnectionPool(host='huggingface.co', port=443): No route to host"),
    ("gpu-lost-in-container", "Failed to initialize NVML: Unknown Error"),
    ("gpu-driver-absent", "Failed to initialize NVML: Driver Not Loaded"),
    ("gpu-nvlink", "CUDA error: uncorrectable NVLink error detected during the execution"),
    ("cuda-driver-old", "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13"),
    (
        "driver-files-in-image",
        "nvidia-container-cli: mount error: file creation failed: file exists",
    ),
    ("model-too-new", "Value error, Model architectures ['X'] are not supported for now."),
    ("hccl-environment", "EI0001: Environment variable [HCCL_RDMA_TC] is invalid."),
    ("rdma-memory", "NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory"),
    ("hccl-environment", "Config_Error(EI0016): Value 3 for config HCCL_ALGO is invalid."),
    ("hccl-ranktable", "EI0014: Value 5 for ranktable variable device_id is invalid."),
    ("cuda-driver-old", "ImportError: common_ops.abi3.so: undefined symbol: cuGreenCtxDestroy"),
    (
        "node-memory",
        "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on",
    ),
    (
        "open-files",
        "unable to open shared memory object </torch_1> in mode rw: Too many open files (24)",
    ),
    (
        "gpu-driver-mismatch",
        "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch",
    ),
    ("image-not-pulled", "Unable to find image 'a/b:c' locally"),
    ("mount-kind", "Are you trying to mount a directory onto a file (or vice-versa)?"),
    ("npu-dispatch", "Nnopbase fails to invoke the HcclAllocComResourceByTiling function. ret = 4"),
    ("hccl-transport", "Discoverer:[0], ExceptionType:[Heartbeat Lost Occurred]"),
    (
        "collective-timeout",
        "DistStoreError: wait timeout after 1800000ms, keys: /default_pg/0",
    ),
    ("gpu-kernel-fault", "NVRM: Xid (PCI:0000:79:00): 13, pid=7, Graphics Exception"),
    (
        "memory-taken",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of"
        " which 1.50 MiB is free. Process 9 has 70.00 GiB memory in use. Process 7 has 9.10 GiB"
        " memory in use. Including non-PyTorch memory, this process has 9.10 GiB memory in use.",
    ),
    (
        "device-memory",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of"
        " which 1.50 MiB is free. Including non-PyTorch memory, this process has 79.09 GiB memory"
        " in use.",
    ),
    (
        "image-limit",
        "unexpected status from HEAD request to https://registry-1.docker.io/v2/library/x/manifests"
        "/latest: 429 Too Many Requests",
    ),
    ("nccl-system", "RuntimeError: NCCL Error 5: invalid usage (run with NCCL_DEBUG=WARN)"),
    ("engine-crash", "terminate called after throwing an instance of 'std::bad_alloc'"),
    ("collective-timeout", "torch.distributed.DistStoreError: Socket Timeout"),
    ("library-missing", "/lib/libGL.so.1: wrong ELF class: ELFCLASS32"),
    ("container-cgroup", "mkdir /sys/fs/cgroup/memory/docker/e2a12: no space left on device"),
    ("device-permission", "permission denied: open /dev/nvidia0"),
    ("cann-compiler", "EC0010: Failed to import Python module [ModuleNotFoundError: 'tbe'.]."),
    ("gpu-hook", "nvidia-container-cli: initialization error: driver error: timed out"),
    ("gpu-hook", "nvidia-container-cli: initialization error: driver error: failed to process"),
    ("cuda-unknown", "cudaGetDeviceCount(). Error 500: named symbol not found"),
    ("gpu-nvlink", "NVRM: Xid (PCI:0000:dc:00): 45, Ch 00000001 caused by previous Xid 149"),
    ("hub-access", "401 Client Error. Repository Not Found for url: https://huggingface.co/api/x"),
    ("weights-absent", "404 Client Error. Repository Not Found for url: https://huggingface.co/x"),
    ("hub-unreachable", "504 Server Error: Gateway Time-out for url: https://huggingface.co/api/x"),
    ("hub-unreachable", "Server error '502 Bad Gateway' for url 'https://huggingface.co/api/x'"),
    ("disk-full", 'SafetensorError: Error while serializing: IoError(kind: StorageFull, "x")'),
    ("api-port-taken", "Error: listen EADDRINUSE: address already in use :::8000"),
    ("glibc-old", "vllm/_C.so: undefined symbol: _ZNSt15__exception_ptr13exception_ptr10_M_r"),
    ("file-permission", "Path [/usr/bin] for [ge.debugDir] is invalid. Reason: Permission denied"),
    ("image-command", 'exec: "vllm": executable file not found in $PATH'),
    ("container-start", 'find runc path: exec: "runc": executable file not found in $PATH'),
    ("device-memory", "Cuda failure 'out of memory' ncclUnhandledCudaError: Call to CUDA failed"),
    ("no-cache", "ValueError: not enough GPU memory available to serve even a single token."),
    ("device-memory", "torch._inductor.exc.InductorError: RuntimeError: CUDA out of memory. Tried"),
    ("docker-old", "Unsupported config option for services.a: 'runtime'"),
    ("jit-compiler", "/usr/bin/ld: cannot find -lcudart: No such file or directory"),
    (
        "gpu-permission",
        "nvidia-container-cli: initialization error: nvml error: insufficient permissions: unknown",
    ),
    (
        "device-absent",
        "nvidia-container-cli: mount error: stat failed: /dev/nvidia-modeset: no such"
        " file or directory",
    ),
    (
        "ray-worker-died",
        "There are some potential root causes. (1) The process is killed by SIGKILL",
    ),
    (
        "name-resolution",
        "The client socket has failed to connect to any network address of (a, 29500). The IPv6"
        " network addresses of (a, 29500) cannot be retrieved (gai error: -2 - Name or service not"
        " known).",
    ),
    (
        "wheels-absent",
        "ERROR: x-1.0-cp312-linux.whl is not a supported wheel on this platform.",
    ),
    ("engine-configuration", "ValueError: Model type qwen3 is not supported for LoRA"),
    (
        "container-name",
        'the container name "vllm" is already in use by 4f2a. You have to remove it',
    ),
    (
        "engine-configuration",
        "  Value error, seven is no rank [type=value_error, input_value=ArgsKwargs((), {})]",
    ),
    (
        "engine-configuration",
        "ValueError: Target and draft model should have the same vocabulary size.",
    ),
    (
        "quantisation-unsupported",
        "ValueError: Fp8 MoE backend 'X' does not support the deployment configuration",
    ),
    ("weights-quantisation", "ValueError: Mixed quant_algo within fused layer qkv_proj: {'FP8'}."),
    ("cache-layout", "    assert spec.page_size_bytes == max_page_size"),
    (
        "parallel-size",
        "ValueError: Input size per partition (7) must be divisible by group size (2)",
    ),
    ("cpu-binding", "ValueError: GPU index 7 exceeds numa_bind_nodes size 4."),
    (
        "nvswitch-absent",
        "request to query NVSwitch device information from NVSwitch driver failed with error:"
        "WARNING Nothing to do [NV_WARN_NOTHING_TO_DO]",
    ),
    (
        "registry-unreachable",
        "error parsing HTTP 403 response body: invalid character '<' looking for beginning",
    ),
    ("docker-old", "Error response from daemon: missing signature key"),
    ("file-absent", "CacheNotFound: Cache directory not found: /data/hub. Please use `cache_dir`"),
    ("hub-unreachable", "FileMetadataError: Distant resource does not have a Content-Length."),
    (
        "weights-broken",
        "The cached snapshot for 'a/b' (commit 7) is incomplete: 3 file(s) are missing",
    ),
    ("model-too-new", "ValueError: The `layer_types` entries must be in ('full_attention',)"),
    (
        "attention-backend",
        "NotImplementedError: FlashInfer backend does not support attention sinks",
    ),
    ("package-mismatch", "AttributeError: 'dict' object has no attribute 'model_type'"),
    ("gpu-hook", "Error: error executing hook `/usr/bin/nvidia-container-toolkit` (exit code: 1)"),
    (
        "nvshmem",
        "/data/nvshmem/src/ibgda/ibgda.cpp:1889: NULL value cannot allocate mlx5dv_devx_uar",
    ),
    ("security-policy", "lsetxattr(label=system_u:object_r:x:s0) /models: operation not supported"),
    ("node-memory", "error: Detected 1 oom_kill event in StepId=1."),
    ("image-absent", "Error response from daemon: unknown: Artifact a/b:c not found"),
    (
        "image-architecture",
        "image a/b was found but does not match the specified platform: wanted x",
    ),
    ("gpu-driver-branch", "NVRM: Open nvidia.ko is only ready for use on Data Center GPUs."),
    ("mount-failed", "mount.nfs: No such device"),
    ("image-command", "vllm.service: Failed to execute /usr/bin/vllm: No such file or directory"),
    (
        "hub-unreachable",
        "Data processing error: CAS Client Error: Request error: error sending request",
    ),
    ("gpu-code", "KeyError: 'gfx1151'"),
    ("gpu-init", "[drm:psp_hw_start [amdgpu]] *ERROR* PSP create ring failed!"),
    ("gpu-kernel-fault", "BatchPrefill failed with error an illegal memory access was encountered"),
    ("cuda-unknown", "CUDA error: operation failed due to a previous error during capture"),
    ("graph-capture", "NPU function error: c10_npu::acl::AclrtMemcpy, error code is 107030"),
    ("sglang-import", "ImportError: cannot import name 'x' from 'aiter' (unknown location)"),
    ("model-too-new", "ValueError: Currently, X only supports versions 2.0, 2.6. Got version: 4"),
    ("module-missing", "ImportError: Rocm platform requires upstream flash-attn to be installed."),
    ("jit-compiler", "hip_bf16.h:30:10: fatal error: 'hip/amd_hip_bf16.h' file not found"),
    ("kv-transfer", "Could not fetch prefill parallel info from bootstrap_addr: 192.0.2.1:8998"),
    ("nccl-system", "ncclCommInitRank failed with error: NCCL error: internal error - please"),
    ("gpu-code", "node1:9:9 [0] NCCL WARN HIP failure 'invalid device function'"),
    (
        "gpu-code",
        "[AITER] aiter_hip_common.h:110 fail to call hipModuleLoad(&module, path) ---> [HIP error]"
        "(file not found)",
    ),
    ("cuda-unknown", "[AITER] x.cu:5 fail to call hipStreamSynchronize(s) ---> [HIP error](a b)"),
    (
        "quantisation-unsupported",
        "RuntimeError: \"addmm_cuda\" not implemented for 'Float8_e4m3fn'",
    ),
    ("parallel-size", "ValueError: size_n = 192 is not divisible by tile_n_size = 64"),
    ("attention-backend", "ValueError: Unknown attention backend: 'FLASHMLA'. Valid options are:"),
    ("gpu-ordinal", "RuntimeError: Please use HIP_VISIBLE_DEVICES instead of ROCR_VISIBLE_DEVICES"),
    ("gpu-multicast", "RuntimeError: [SymmDeviceMemory] Device does not support multicasting."),
    (
        "package-mismatch",
        "TypeError: Can't instantiate abstract class NPUPlatform with abstract method get_uuid",
    ),
    ("npu-dispatch", "call aclnnMoeDistributeDispatchV2 failed, detail: tiling, errno[561002]"),
    # Logs of HCCL itself, which lack its codes.
    ("hccl-environment", "[Parse][rdmaServerLevel]HCCL_RDMA_SL[1000] is invalid. except: [0, 7]"),
    ("hccl-interface", "[EnvConfig]get host ip fail by socket Ifname. name[lo] ip[192.0.2.1%lo]"),
    (
        "hccl-ranktable",
        "[InitGroupStage][RanktableConfig]errNo[0x5010001] path /r.json is not a valid real path",
    ),
    ("hccl-ranktable", "[RanktableCheck]errNo[0x5010001] super_device_id[] is invalid"),
    ("npu-address", "[RanktableCheck]rank[0] device ip family[2] is not same as others[10]."),
    (
        "npu-address",
        "ra_rdev_init_check_ip(480) : the IP address(192.0.2.1) in the ranktable is inconsistent"
        " with the IP address(192.0.2.2) of the network adapter",
    ),
    (
        "npu-tls",
        '[InitGroupStage][RanktableCheck] Value Disable for config "tls" is invalid. Expected'
        ' Value:"All ranks are consistent. Current status : rankList for enabled tls:[192.0.2.1/0]',
    ),
    ("super-pod", "devices have same superDeviceId[0x3000000] in superPod[super_pod_id_0]."),
    ("hccl-agent-timeout", 'TopoDetect ERROR occur !!! fault_info["Failed to connect agent[1]"]'),
    ("hccl-agent-timeout", "TopoExchangeAgent: connect server[192.0.2.1 : 60000] failed"),
    ("hccl-timeout", "[18744] _________________________LINK_ERROR_INFO_________________________"),
    ("hccl-arguments", "[ParameterConflict]CMD information op check fail. local[255], remote[0]"),
    # What torch_npu says of a code, on a line of its own.
    ("npu-operator", "[Error]: The vector core execution is abnormal."),
    ("npu-operator", "[Error]: The aicpu execution times out."),
    ("npu-notify-timeout", "[Error]: The execution of the internal task times out."),
    ("npu-driver", "[Error]: An internal error occurs in the Driver module."),
    ("npu-transfer", "[Error]: System Direct Memory Access (DMA) hardware execution error."),
    ("npu-streams", "[Error]: Notify resources in the system are insufficient."),
    ("device-memory", "[Error]: The memory on the device is exhausted."),
    ("cann-mismatch", "AclNN_Inner_Error(EZ9999):  Parse dynamic kernel config fail."),
    ("npu-few", "please ensure that world_size (8) is less than than max local Ascend npu count"),
    ("npu-driver-mount", "No such file or directory: '/usr/local/Ascend/driver/version.info'"),
]


@pytest.mark.parametrize(("name", "line"), OTHERS)
def test_a_program_or_an_exception_alone_is_no_cause(name: str, line: str) -> None:
    assert names([line]) == [name]


# Lines of failures that have words of a signature, or an errno of it, and no cause that is known.
UNKNOWN = [
    "[Errno 13] error while attempting to bind on address ('0.0.0.0', 80): permission denied",
    "BlockingIOError: [Errno 11] Resource temporarily unavailable",
    "requests.exceptions.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: http://192.0.2.7/metrics",
    "redis.exceptions.AuthenticationError: NOAUTH Authentication required.",
    "etcd client heartbeat lost, the lease is granted anew",
    "ib0: multicast join failed for ff12:401b:ffff::1, status -22",
    "groupadd: invalid GID 'users'",
    "mlx4_core: driver not loaded",
    "[ERROR] config tls for etcd is invalid",
    "RuntimeError: Assertion error (csrc/apis/layout.hpp:92): false and 'Unknown cases'",
    "cutlass: DSL import failed",
    "OSError: [Errno 5] Input/output error: '/dev/tty'",
    "tee: standard output: Input/output error",
    "FileNotFoundError: [Errno 2] No such file or directory: '/root/.docker/config.json'",
    "HTTP 401 Unauthorized: missing or invalid API key",
    "429 Client Error: Too Many Requests for url: http://192.0.2.7/v1",
    "connect [127.0.0.1]:41234: Connection refused",
    "FileNotFoundError: [Errno 2] No such file or directory: '/psm_3f9c1b2a'",
    "ValueError: see https://huggingface.co/docs: Read more about the template there",
    "ValueError: max_tokens (9000) is greater than max_model_len",
    "ERROR 11-21 [serving_chat.py:193] json.decoder.JSONDecodeError: Expecting value: line 1",
    "ERROR 11-21 [registry.py:411] dial tcp 192.0.2.7:8001: connection refused",
    # The first line of a whole configuration class's error is of any kind; the next one says which.
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
    "  Input should be a valid string [type=string_type, input_value=None, input_type=NoneType]",
    "ValueError: content with type='image_url' requires image_url.url",
    "ValueError: n must be at least 1, got 0.",
    "RuntimeError: Assertion error (csrc/apis/layout.hpp:92): n % 4 == 0",
    "KeyError: 'model.layers.0.self_attn.attn'",
    "[Error]: The argument is invalid.",
    "[Error]: Failed to apply for memory.",
    # SGLang's lines have no level.
    "[2026-01-01 00:00:00 TP0] Port 30000 is already in use, trying port 30001",
    "[2026-01-01 00:00:00 TP0] Some weights are not initialized from checkpoints: {'lm_head'}",
    "[2026-01-01 00:00:00 TP0] Ascend A2/A3 NPU does not support fp8 dtype; DeepEP will use int8.",
    "[2026-01-01 00:00:00 TP0] KV pool holds 9 tokens. Raise --mem-fraction-static to serve more.",
    "[2026-01-01 00:00:00 TP0] Use fa3 as the attention backend for Inkling (requires fa4).",
]


@pytest.mark.parametrize("line", UNKNOWN)
def test_words_of_a_signature_in_another_failure_name_nothing(line: str) -> None:
    assert names([line]) == []


HEALTHY = [
    "ERROR 11-21 [gpt_oss_triton_kernels_moe.py:61] Failed to import Triton kernels. Please make"
    " sure your triton version is compatible. Error: No module named 'triton_kernels.swiglu'",
    'level=error msg="failed to load cni during init, please check CRI plugin status before setting'
    ' up network for pods" error="cni config load failed: cni plugin not initialized"',
    "NVRM: Xid (PCI:0000:3b:00): 63, pid=7, Row Remapper: New row marked for remapping",
    "EXT4-fs (nvme0n1p2): re-mounted. Opts: errors=remount-ro",
    "INFO 11-21 09:00:00 [api_server.py:1839] vLLM API server version 0.32.0",
    "INFO args: {'compilation_config': {'pass_config': {'fuse_minimax_qk_norm': True}}}",
    "INFO Launching 1 data parallel engine(s) in headless mode",
    "INFO [gpu_worker.py:358] Available KV cache memory: 18.78 GiB",
    "INFO Maximum concurrency for 196,608 tokens per request: 3.10x",
    "(APIServer pid=7) INFO:     Application startup complete.",
    'INFO:     10.0.0.9:51422 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
    "/usr/bin/npu-smi info: Error Code : NA",
    "INFO 11-21 09:00:00 [x.py:1] prompt: ModuleNotFoundError: No module named 'x', Bus error",
    "WARNING 11-21 [_custom_ops.py:20] Failed to import from vllm._C with"
    " ModuleNotFoundError(\"No module named 'vllm._C'\")",
    "WARNING [system_utils.py:299] Found ulimit of 20000 and failed to automatically increase with"
    " error current limit exceeds maximum limit. This can cause fd limit errors like `OSError:"
    " [Errno 24] Too many open files`.",
    "pydantic_core.ValidationError: 2 validation errors for ChatCompletionStreamResponse",
    "INFO [shm_broadcast.py:542] No available shared memory broadcast block found in 60 seconds.",
    "WARNING 11-21 [custom_all_reduce.py:154] Custom allreduce is disabled because your platform"
    " lacks"
    " GPU P2P capability or P2P test failed.",
    "WARNING 11-21 [vllm.py:900] max_num_scheduled_tokens is set to 2048 based on the speculative"
    " decoding settings. Consider increasing max_num_batched_tokens.",
    "WARNING 11-21 [arg_utils.py:1620] --quantization fp8 is not supported by the V1 Engine.",
    "[2025-12-26 08:51:34] Ignore import error when loading sglang.srt.models.mllama: cannot import"
    " name 'MllamaConfig' from 'transformers'",
    "[W1121 09:00:00.123 socket.cpp:759] [c10d] The client socket has failed to connect to"
    " [localhost]:29500 (errno: 99 - Cannot assign requested address).",
    "[W1121 09:00:00.123 socket.cpp:759] [c10d] The client socket has failed to connect to"
    " [node1]:29500 (errno: 111 - Connection refused).",
    "node1:1:1 [0] NCCL INFO NET/Plugin: Could not find: libnccl-net.so. Using internal plugin.",
    "node1:1:1 [0] NCCL INFO NVLS multicast support is not available on dev 0",
    'node1:1:1 [0] /src/init.cc:134 NCCL WARN Missing "iommu=pt" from kernel command line',
    "node1:1:1 [0] misc/ibvwrap.cc:63 NCCL WARN Failed to open libibverbs.so[.1]",
    "UserWarning: Can't initialize NVML",
    "iommu: Default domain type: Passthrough (set via kernel command line)",
    "max locked memory           (kbytes, -l) unlimited",
    "Max locked memory         67108864             67108864             bytes",
    '"OOMKilled": false,',
    "Volatile uncorrectable ECC errors: 0",
    "HTTPSConnectionPool(host='stats.vllm.ai', port=443): Max retries exceeded (Caused by"
    " NameResolutionError: Temporary failure in name resolution)",
    "ERROR [exporter.py:374] Network is unreachable while exporting traces to 192.0.2.7:4317",
    "libibverbs: Warning: RLIMIT_MEMLOCK is 65536 bytes.",
    "DeprecationWarning: numpy.dtype size changed, may indicate binary incompatibility",
    "[2025-12-26 08:51:34] Lower --mem-fraction-static if you see CUDA out of memory.",
    "NVRM: Xid (PCI:0000:3b:00): 63, pid=1, Row Remapper: New row marked for remapping",
    "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to"
    " 0x0 (None)",
    "ValueError: max_tokens must be at least 1, got 0.",
    "[2025-12-26 08:51:34] FA3 attention backend requires page size 64, changing page_size from 1"
    " to 64.",
    "wandb: Tracking run with wandb version 0.19, W&B syncing is set to offline, in offline mode",
    "transport.cpp:nvshmemi_transport_init:282: init failed for transport: IBGDA",
    "[2025-12-26 08:51:34] Attention backend fa3 is not supported here, falling back to triton.",
    '10.0.0.9:51422 - "POST /v1/chat/completions HTTP/1.1" 429 Too Many Requests',
    "        Solution: 3. Check the TLS status: the device is used, lost heartbeat, EJ0002",
    "FlashInfer is not available. Falling back to the PyTorch-native implementation of sampling.",
    "ValueError: This model's maximum context length is 4096 tokens. However, you requested 5000.",
    "Error response from daemon: No such container: muster-a",
    "Connecting to https://huggingface.co",
    "ERROR [pynccl.py:44] Failed to load NCCL library from libnccl.so.2 .It is expected if you are"
    " not running on NVIDIA/AMD GPUs.",
    "'(ReadTimeoutError(...))' thrown while requesting HEAD https://huggingface.co/x/config.json",
    "[2026-01-01 08:51:34] FlashAttention is not supported on this GPU, using another backend.",
    "UserWarning: Not enough free disk space to download the file.",
    "mce: [Hardware Error]: Machine check events logged",
    "node1:1:1 [0] ras/client_support.cc:160 NCCL WARN Call to bind failed: Address already in use",
    "[W1118 17:30:24.226 TCPStore.cpp:340] [c10d] TCP client failed to connect/validate to host"
    " 192.0.2.1:51216 - retrying (try=0)",
    "outlines 0.0.37 requires pydantic>=2.0, but you have pydantic 1.10.13 which is incompatible.",
    "Failed to import from custom_ar with ImportError('libcuda.so.1: cannot open shared object')",
    "nvidia-nvswitch3: SXid (PCI:0000:85:00.0): 12028, Non-fatal, Link 46 egress non-posted",
]


@pytest.mark.parametrize("line", HEALTHY)
def test_a_healthy_line_says_nothing(line: str) -> None:
    assert explain([line]) == []
    prefix = "2026-11-21T09:00:00+0000 a2-node0 muster-a2-cluster-r0-rank0[277]: (Engine pid=1) "
    assert explain([prefix + line]) == []


def test_a_paragraph_names_line_cause_check_and_remedy() -> None:
    judged = judging.judge(judging.Log([LINES["zmq-port-taken"], CORE], []))[0]
    seen, cause, check, remedy, runbook, also = judging.paragraph(judged)
    assert seen == f"zmq-port-taken, a line: {LINES['zmq-port-taken']}"
    assert re.search(r"^Cause: the port", cause)
    assert check == "Check: port-free"
    assert "muster_dp_rpc_port" in remedy
    assert runbook == "Runbook: docs/runbooks/ports.md"
    assert also == f"Also: engine-core, a line: {CORE}"


def test_a_symptom_says_where_to_look() -> None:
    lines = ["ValueError: what nobody has met before", CORE]
    said = judging.paragraph(judging.judge(judging.Log(lines, []))[0])
    assert said[1].startswith("Symptom: ")
    assert said[-1] == "Look at: ValueError: what nobody has met before"


def known_checks() -> set[str]:
    """The ids in the code: string literals like check ids."""
    sources = [
        path
        for folder in ("modules", "module_utils", "plugin_utils")
        for path in (ROOT / "plugins" / folder).rglob("*.py")
        if path.parent.name != "failure"
    ]
    every = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    return {*re.findall(r'"([a-z]+(?:-[a-z0-9]+)+)"', every)}


def test_every_check_that_is_named_exists() -> None:
    named = {check for one in signatures.SIGNATURES for check in one.checks}
    assert named - known_checks() == set()


def test_every_variable_that_is_named_exists() -> None:
    known = (ROOT / "plugins/plugin_utils/plan/variables.py").read_text(encoding="utf-8")
    named = {
        name for one in signatures.SIGNATURES for name in re.findall(r"muster_\w+", one.remedy)
    }
    assert {name for name in named if f'"{name}"' not in known} == set()


@given(st.lists(st.text()))
def test_any_text_is_read(lines: list[str]) -> None:
    assert len(explain(lines)) <= len(lines)


@pytest.mark.parametrize("piece", ["Connect to ", "a", " ", "validation error for ", "/dev/nvidia"])
def test_a_long_line_is_bounded(piece: str) -> None:
    begin = time.monotonic()
    findings = explain([piece * (2_000_000 // len(piece))] * 20)
    assert time.monotonic() - begin < 2
    assert all(len(finding.line) <= judging.SHOWN_LIMIT for finding in findings)
