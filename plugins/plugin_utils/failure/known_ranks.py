# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures between ranks: NICs, ports, stores and peers."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    DIAGNOSE,
    LIKELY,
    SYMPTOM,
    Signature,
)

_NIC = "set muster_interface to the NIC that carries the cluster's address"

SIGNATURES = (
    Signature(
        "shared-memory",
        r"Error while (?:creating|attaching to) shared memory segment|failed to extend /dev/shm/"
        r"|insufficient shared memory|[Ii]nsufficient space in /dev/shm"
        r"|unable to (?:open|allocate|mmap"
        r"|resize) (?:a )?shared memory(?!.{0,160}Too many open files)"
        r"|(?i:no space left).{0,80}(?:/dev/shm|'/(?:psm|sem|torch)_)"
        r"|/dev/shm/.{0,120}(?i:no space left)"
        r"|(?i:shared memory .{0,40}(?:too small|exhausted)|\b(?:shm_open|shmget)\b.{0,60}no space)"
        r"|posix_fallocate failed|unable to write to file </torch_",
        "/dev/shm is too small or full",
        "df -h /dev/shm on the node; raise shm_size in the container of an own recipe",
        "vLLM issues 6574 and 14537",
        ("host-shm",),
        likely=r"\bBus error\b|status=7/BUS|exit(?:ed)?(?: with)?(?: status| code)?:? 135\b"
        r"|\b(?:with"
        r"|by) signal 7\b|\bSIGBUS\b|Failed core proc\(s\): \{[^}]*: -7\b"
        r"|\bSemLock\.__init__\(self, |\b_multiprocessing\.SemLock\($",
        explains=("disk-full",),
    ),
    Signature(
        "memlock-limit",
        r"(?i)(?:set|raise|increase|check|adjust) .{0,40}(?:max locked memory|RLIMIT_MEMLOCK"
        r"|ulimit -l)|(?:max locked memory|memlock).{0,60}too (?:low|small)"
        r"|RLIMIT_MEMLOCK is \d+ bytes",
        "the limit of locked memory is too low for RDMA",
        "lift it: --ulimit memlock=-1 of the container, LimitMEMLOCK=infinity of the service;"
        " Docker's own service may bound it",
        "UCX; libibverbs",
        ("host-limits",),
    ),
    # The words are the same for a limit, a buffer that is too large and a kernel that holds memory
    # back, so they are a symptom.
    Signature(
        "rdma-memory",
        r"(?i)\bibv_\w+ failed.{0,60}cannot allocate memory"
        r"|_reg\(size=.{0,80}cannot allocate memory"
        r"|failed to (?:register|pin) .{0,60}cannot allocate memory"
        # Earlier versions of NCCL say no more.
        r"|call to ibv_(?:create_cq|reg_mr\w*|alloc_pd) failed\s*$",
        "the NIC got no memory for RDMA: mostly the limit of locked memory, else NCCL_BUFFSIZE that"
        " is too large, or a kernel that holds memory back (CmaTotal of /proc/meminfo)",
        "ulimit -l in the container has to say unlimited (--ulimit memlock=-1,"
        " LimitMEMLOCK=infinity of the service and of Docker's); take NCCL_BUFFSIZE out of"
        " muster_engine_env; then another kernel",
        "NCCL; NVIDIA nccl-tests issue 206; vLLM issue 19613",
        ("host-limits",),
        SYMPTOM,
    ),
    Signature(
        "gpu-direct",
        r"(?:\bibv_reg\w+ failed|[Ff]ailed to register memory).{0,60}Bad address"
        r"|could not insert (?:module )?'?(?:nvidia[-_]peermem|nv_peer_mem)"
        r"|(?:nvidia[-_]peermem|nv_peer_mem): (?:disagrees about version|Unknown symbol)"
        r"|[Ff]ailed to load nvidia[-_]peermem|DMA[- ]BUF .{0,60}without nvidia[-_]peermem",
        "a NIC cannot reach a GPU's memory: the kernel's module for it is not loaded",
        "modprobe nvidia-peermem on the node (where it refuses: install the GPU's driver anew after"
        " the NIC's), or NCCL_NET_GDR_LEVEL: LOC in muster_engine_env",
        "NCCL; Mooncake; NVIDIA GPUDirect RDMA",
        rank=LIKELY,
        hint=r"neither nv_peer_mem,? or nvidia_peermem|nvidia.peermem .{0,40}not (?:loaded|found)",
    ),
    Signature(
        "nccl-interface",
        r"(?i:no socket interface found)|connecting to address\s+with family \d+ is neither"
        r"|NCCL_SOCKET_IFNAME.{0,60}(?:not found|does not exist)|No usable (?:network )?interface"
        r"|(?i:no (?:usable |valid )?(?:network )?interfaces? (?:was )?found)"
        r"|Bootstrap : no .{0,30}interface|WARN Socket creation failed",
        "NCCL or RCCL finds no NIC of the name that it was given",
        _NIC,
        "NCCL bootstrap",
        ("nic-exists",),
    ),
    Signature(
        "nccl-network",
        r"NCCL WARN Error: network .{1,40} not found|NET/OFI .{0,80}(?:[Uu]nable|[Ff]ailed"
        r"|No eligible|Only EFA)|Failed to initialize any (?:NET|net) plugin|NET/Plugin: (?:Failed"
        r"|Could not find) .{0,80}requested",
        "NCCL was told to use a network of a plugin (NCCL_NET, NCCL_NET_PLUGIN) that is not in the"
        " image or cannot be loaded",
        "take NCCL_NET out of muster_engine_env, or an image that has the provider's plugin;"
        " NCCL_DEBUG: INFO says why it was not loaded",
        "NCCL, network plugins",
    ),
    Signature(
        "nic-driver",
        r"\b(?:mlx[45]_core|bnxt_\w+|ice|irdma|i40e|hns3|hinic3?)\b.{0,80}(?:\bprobe\b.{0,40}failed"
        r"|load_one failed|hca_cap failed|FW (?:pre)?init.{0,20}(?:timeout|failed)"
        r"|Firmware over \d+ MS in|Will cause a leak of a command resource"
        r"|health recovery failed)|\bAdapter removed$|PCIe link lost, device now detached"
        r"|\bibv_\w*query_\w+\(\w+\) returned .{0,20}: (?:Inappropriate ioctl|Function not impl)",
        "the kernel's driver cannot start a NIC: its firmware is of another version, or the card is"
        " sick",
        "read dmesg for the words before; install the NIC's driver and firmware as its vendor pairs"
        " them, then reboot",
        "kernel, drivers of NICs",
        ("nic-up",),
    ),
    Signature(
        "nic-link",
        r"\bbond\w*: now running without any active (?:interface|slave)"
        r"|NETDEV WATCHDOG: .{0,60}transmit queue \d+ timed out"
        r"|\b(?:mlx[45]_core|bnxt_en|ice|i40e)\b.{0,60} TX timeout",
        "a NIC has lost its link, or no longer sends",
        "look at the cable, the port of the switch and its settings of the bond (ip -s link,"
        " ethtool NIC); where it happens again, renew the NIC's driver and firmware",
        "kernel, bonding and network drivers",
        ("nic-up",),
        LIKELY,
        likely=r"link status (?:definitely )?down for (?:interface|slave)|\bNIC Link is Down\b"
        r"|\bmlx5_core\b.{0,80}(?:TX timeout|Link down)",
    ),
    Signature(
        "rdma-absent",
        r"(?i)(?:ibv_open_device|rdma_create_event_channel)\S* failed: no such (?:file|device)"
        r"|/sys/class/infiniband (?:not found|device for NIC)"
        r"|\bno (?:ib|infiniband|rdma|hca|verbs|roce) (?:device|card|nic|port)s? (?:was "
        r"|were )?(?:found"
        r"|available|detected|present)|failed to get (?:ib|rdma) devices? list"
        r"|ibv_get_device_list.{0,40}"
        r"(?:fail|no|error)|no hca was found|unable to find any (?:ib|rdma) device"
        r"|no userspace device-specific driver found for|couldn't load driver 'lib\w+-rdmav",
        "the container or node shows no RDMA device, or the image lacks the library of its driver",
        "give the container /dev/infiniband and memlock, load the NIC's driver (ib_uverbs), or take"
        " RDMA out: NCCL_IB_DISABLE: 1, kv-transfer over TCP",
        "libibverbs; Mooncake; UCX",
        ("nic-exists",),
        LIKELY,
    ),
    Signature(
        "nccl-rdma",
        r"Got completion .{0,80}(?:error|status)[ =](?:5|10|11|12|13)\b"
        r"|NET/IB : .{0,40}Got .{0,20}async.{0,20} event ?: (?:port error|\w+ .{0,10}fatal)"
        r"|(?<!non-zero status: \d\d\d )(?<!non-zero status: \d\d )(?<!non-zero status: \d )"
        r"ibv_(?:modify_qp|create_qp|poll_cq|open_device|query_gid|create_ah|post_\w+)\w*"
        r".{0,40} failed|\bmlx\d: .{0,60}got completion with error"
        r"|mlx5_core.{0,80}Port module event(?:: |\[)error"
        r"|IBV_WC_\w*ERR\b|transport retry counter exceeded|(?i:(?:nccl|net/ib|ucx|ibv?_|mlx\d|rdma"
        r"|roce|nic).{0,120}(?:invalid gid|no (?:\S+ ){0,2}gid))|\b[Nn]o (?:suitable|usable"
        r"|valid) GID\b"
        r"|No available RNIC|\blocal (?:protection|length|QP operation|access) error\b"
        r"|\bremote (?:access|operation|invalid request|aborted) error\b|RNR retry counter exceeded"
        r"|[Ff]ailed to modify QP|QP creation failed"
        r"|mlx5_core.{0,80}(?:health compromised|fatal)|UCX .{0,80}(?:is unreachable"
        r"|no usable transp)",
        "RDMA between the nodes failed: a NIC, its link, its GID or a firewall of RoCE",
        "look at ibstat or rdma link on both nodes; NCCL_IB_HCA and NCCL_IB_GID_INDEX in"
        " muster_engine_env choose another one, NCCL_IB_DISABLE: 1 does without",
        "NCCL, transport of InfiniBand and RoCE",
        ("nic-up", "cluster-mtu"),
        LIKELY,
    ),
    Signature(
        "address-absent",
        r"(?:\bbind|listen|ZMQError|OSError: \[Errno 99\]).{0,160}(?i:cannot assign requested"
        r" address)|(?i:cannot assign requested address).{0,40}addr=|ZMQError: No such device"
        r"|\bEADDRNOTAVAIL\b|\[Errno 97\]|\bEAFNOSUPPORT\b",
        "the address to listen on is not one of this node",
        "set muster_address to an address of the node on the cluster network (ip -4 address), and"
        " take VLLM_HOST_IP and its kin out of muster_engine_env",
        "kernel, EADDRNOTAVAIL; ZeroMQ",
        ("nic-address",),
        LIKELY,
    ),
    Signature(
        "host-ip",
        r"Every node should have a unique IP|Got \d+ nodes with \d+ (?:unique )?IP|needs a node IP"
        r"|No node IP key found",
        "vLLM knows a node by another address than the cluster does: nodes with several NICs, or"
        " one address for two nodes",
        "set muster_address of each node: the plan sets VLLM_HOST_IP from it",
        "vLLM; vLLM issue 43095",
        ("nic-address", "nic-route"),
    ),
    Signature(
        "ranks-differ",
        r"mismatch in (?:rank count|number of ranks)|ranks? has already checked in"
        r"|[Mm]essage truncated :|Mismatched collective|collective mismatch around rank"
        r"|[Dd]etected mismatch between collectives|\brank \d+ is out of range 0-\d"
        r"|Invalid rank requested|[Cc]onfiguration mismatch detected for engine"
        r"|unexpected data parallel rank|\b(?:HELLO|READY) message (?:from|for) (?:local|remote)"
        r" engine \d+(?:, expected it to be| in \w+ state)|(?i:world[ _]size mismatch"
        r"|rank \d+ .{0,12}already (?:registered|joined|exists))",
        "ranks do not agree on how many they are or what they run: another command line or version"
        " on one node, or an engine of an earlier run that is still there",
        "run playbooks/status.yml for units that differ from the plan; end what is left over, then"
        " playbooks/serve.yml",
        "NCCL bootstrap; vLLM",
        ("port-free",),
        LIKELY,
    ),
    Signature(
        "nvshmem",
        r"Unable to initialize any transports"
        r"|(?i:nvshmem (?:detect topo|setup (?:connections|heap)|initialization"
        r"|bootstrap)\w* failed)"
        r"|error in nvshmemi_\w+|NVSHMEM API called before|\b(?:ibrc|ibgda|ibdevx"
        r"|libfabric)\.cpp:\d+: non-zero status"
        r"|NVSHMEM \w+ library version does not match|\bibgda\.cpp:\d+: NULL value"
        r"|\bmlx5dv_devx\w+ .{0,40}failed"
        r"|/nvshmem\w*/\S{0,200}:\d+: .{0,60}(?:NULL value|non-zero status|\bcuMem\w+ failed)",
        "NVSHMEM, which DeepEP sends experts' tokens with, cannot start on the NICs: IBGDA wants an"
        " option of the GPU driver and access to the NIC",
        "NVSHMEM_HCA_LIST and NVSHMEM_IB_GID_INDEX in muster_engine_env name NIC and GID; IBGDA"
        " wants"
        " options nvidia NVreg_EnableStreamMemOPs=1 NVreg_RegistryDwords=PeerMappingOverride=1; in"
        " /etc/modprobe.d, then reboot; or another all2all-backend in muster_engine_args",
        "NVSHMEM; DeepEP issue 128; SGLang issue 6017",
        rank=LIKELY,
        hint=r"init failed for transport: |cannot allocate buffer on the specified memory type",
    ),
    Signature(
        "nccl-connect",
        r"[Cc]onnect to \S+?<\d+> ?(?:failed|returned)|connect returned .{0,60}\((\d+)/\1\)"
        r"|[Cc]all to connect\S* .{0,60}(?:returned|failed)|socket\w*Connect\w*: exceeded retries"
        r"|socket\w*Connect\w*: ?Connect to .{0,80} failed"
        r"|[Cc]all to (?:recv|send)\w* .{0,100}(?:timed out|No route)"
        r"|[Cc]onnect to \S+<\d+> timed out|socketPollConnect poll\(\) timeout",
        "NCCL or RCCL cannot connect to another rank",
        "admit all TCP between the nodes on the cluster NIC, and see that the peer's unit runs",
        "NCCL bootstrap",
        ("port-reachable", "nic-route"),
        LIKELY,
        late=True,
    ),
    # Ports.
    Signature(
        "kv-port-taken",
        r"KV [Cc]ache sending/receiving thread failed to start"
        r"|(?i:mooncake).{0,120}(?:[Aa]ddress already in use|[Bb]ind.{0,30} fail)",
        "a port of the transfer of KV caches is taken on this node",
        "end what holds it (ss -Htlnp), or move kv_port out of the range from which its transport"
        " takes ports",
        "vllm-ascend issue 6455",
        ("port-free",),
        LIKELY,
        explains=("zmq-port-taken", "api-port-taken"),
    ),
    Signature(
        "kv-transfer",
        r"\bNIXL_ERR_\w+|NIXL (?:transfer failure|handshake failed)"
        r"|Remote NIXL agent engine ID .{0,80}(?:mismatch|not found)"
        r"|NixlConnector compatibility hash mismatch|\bKVTransferError\b|nixlBackendError"
        r"|(?i:mooncake.{0,60}(?:initiali[sz]ation"
        r"|registration) failed)|Transfer Engine initiali[sz]ation failed|Mooncake transfer failed"
        r"|\bTRANSFER_FAIL\b|Failed to complete transfers after|transfer_incomplete max_attempts"
        r"|[Ff]ailed to get segment descriptor|Unexpected UCX error"
        r"|(?i:\b(?:llm ?data ?dist|hixl)\b.{0,80}\bfail)"
        r"|Could not fetch prefill .{0,40}bootstrap_addr|[Ff]ailed to register prefill instance"
        r"|Error fetching prefill .{0,40}from bootstrap|Prefill instance could be dead",
        "the transfer of KV caches between engines could not be set up or used",
        "see that the peer runs and that its ports and NICs are reached; the lines before say more",
        "NIXL; Mooncake",
        ("port-reachable", "nic-route"),
        SYMPTOM,
    ),
    Signature(
        "zmq-port-taken",
        r"ZMQError: Address already in use|Could not find open port after",
        "the port between head and followers, or another one of vLLM's own, is taken on this node",
        "end what holds it (ss -Htlnp), or set muster_dp_rpc_port to another one",
        "seen with vLLM 0.32.0",
        ("port-free",),
    ),
    Signature(
        "torch-port-taken",
        r"name: EADDRINUSE\b|server socket has failed to (?:bind|listen)",
        "a port that torch.distributed listens on is taken on this node",
        "end what holds it (ss -Htlnp): often an engine of an earlier run",
        "torch TCPStore; vllm-ascend issue 4546",
        ("port-free",),
    ),
    Signature(
        "api-port-taken",
        r"(?i)\[Errno 98\]|\(os error 98\)|\bEADDRINUSE\b|address already in use"
        r"|port is already allocated|trying to use a port number \d+ that is used"
        r"|(?:\b|_)port \d+ (?:is )?(?:already (?:in use|occupied|used)|not available|in use\b)"
        r"(?!.{0,40}\b(?:trying|waiting|could not find))",
        "the port of the API, or another one that the engine listens on, is taken on this node",
        "end what holds it (ss -Htlnp), or set muster_port to another one",
        "seen with vLLM 0.32.0; Docker",
        ("port-free",),
    ),
    # Peers.
    Signature(
        "gloo-interface",
        r"Unable to find (?:address|interface) for: |\bifa != nullptr|unsupported gloo device"
        r"|connect \[127\.0\.1\.1\]:\d+|\[/pytorch/third_party/gloo.{0,160}\bifa\b",
        "gloo finds no NIC for the name in GLOO_SOCKET_IFNAME or for the host's own name",
        _NIC,
        "seen with vLLM 0.32.0; gpustack issue 4128",
        ("nic-exists", "nic-address"),
        hint=r"Unable to resolve hostname to a \(local\) address\. Using the loopback"
        r"|connect \[127\.0\.0\.1\]:\d+",
        explains=("collective-timeout",),
    ),
    Signature(
        "store-unreachable",
        r"client socket has (?:timed out|failed to connect to any(?!.{0,200}gai error))"
        r"|failed to connect/validate to host|connect\(\) timed out\. Original timeout"
        r"|server socket on \S+ has timed out|seconds waiting for clients\. \d+/\d+ clients joined"
        r"|store[ -]based barrier"
        r"|\bRendezvous(?:Timeout|Connection|Closed)Error"
        r"|SO_ERROR: (?:No route|Network is unreach|Connection timed out)",
        "the ranks do not meet: one did not start, or cannot reach the address and port of the"
        " first",
        "see that all units of the replica run, then the address (muster_address) and the ports"
        " between the nodes",
        "torch.distributed's store; vLLM issue 17056; SGLang issue 2561",
        ("port-reachable", "nic-route", "nic-address"),
        LIKELY,
        late=True,
    ),
    Signature(
        "handshake",
        r"Did not receive response from front-end process"
        r"|Timed out waiting for (?:new )?engines? ?(?:core processes "
        r"|cores? )?to ?(?:send ?initial"
        r" ?message|start)|configured by .?VLLM_ENGINE_READY_TIMEOUT"
        r"|Timed out waiting for (?:startup|engine core)",
        "the head and an engine did not hear of each other in time: one still loads, did not start,"
        " or its rpc port cannot be reached",
        "see why the other one did not start; if it only loads for long, raise"
        " VLLM_ENGINE_READY_TIMEOUT_S in muster_engine_env; then the rpc port between the nodes",
        "vLLM; vLLM issue 35616",
        ("port-reachable", "nic-route"),
        LIKELY,
        late=True,
    ),
    Signature(
        "coordinator-late",
        r"DP Coordinator process failed (?:to report|during startup)",
        "the coordinator of data parallelism did not come up within vLLM's own 30 s: a busy node or"
        " a slow file system",
        "start it again; see what else loads the node and where the environment lies",
        "vLLM issue 43611",
        ("host-memory",),
        LIKELY,
    ),
    Signature(
        "parallel-mode",
        r"must (?:not )?use --headless|message from (?:remote|local) engine \d+, expected it to be",
        "head and followers run different modes of data parallelism",
        "take --data-parallel-start-rank and its kin out of muster_engine_args, then serve again",
        "vLLM 0.28.0 and later",
    ),
    # Ray, which vLLM can use between nodes.
    Signature(
        "ray-resources",
        r"[Cc]annot provide a placement group|number of required \w+ exceeds the total number of"
        r"|Current node has no \w+ available|does not allocate any GPUs on the driver node"
        r"|No available node types can fulfill|Not enough resources to allocate \d+ (?:DP ranks"
        r"|placem)|Not enough total available nodes|Nodes are not homogeneous"
        r"|No \S+ found in Ray cluster",
        "the Ray cluster has fewer free devices than the engine needs, or none at the address that"
        " it asks for: a node did not join, shows no devices or goes by another address, or an"
        " earlier engine holds them",
        "ray status on the head says what it has; see that each node joined with its devices, and"
        " end what an earlier run left",
        "vLLM, Ray executor; vLLM issues 13093 and 26028",
        ("gpu-count", "npu-count"),
    ),
    Signature(
        "ray-versions",
        r"Version mismatch: The cluster was started with",
        "the nodes run different versions of Ray or Python",
        "give all nodes the same image or environment: playbooks/prepare.yml",
        "Ray",
    ),
    Signature(
        "ray-unreachable",
        r"[Ff]ailed to connect to GCS|detector has missed too many heartbeats"
        r"|Unable to connect to GCS|Failed to get cluster ID from GCS"
        r"|failed to connect to all addresses;|[Rr]ay is not initialized"
        r"|[Cc]ould not find any running Ray instance"
        r"|DP master node .{0,60}missing or dead|[Cc]an't find a `?node_ip_address"
        r"|no Ray cluster .{0,20}found",
        "the engine finds no Ray cluster at the head's address",
        "see that Ray runs on the head and that its port (6379) can be reached from each node",
        "Ray",
        ("port-reachable", "nic-route"),
        LIKELY,
    ),
    Signature(
        "ray-worker-died",
        r"(?:potential|possible) root causes\b|worker died or was killed while executing"
        r"|The actor (?:is dead because|died unexpectedly)|[Rr]aylet .{0,40}(?:died"
        r"|terminated unexpectedly)",
        "a process of the engine under Ray ended; Ray does not say why",
        "look at dmesg and free -h on the node that the line names, and at that worker's own lines",
        "Ray",
        ("host-memory",),
        SYMPTOM,
    ),
    Signature(
        "collective-timeout",
        r"[Ww]atchdog caught collective operation timeout|connectFullMesh failed"
        r"|Timed out waiting \d+ms for (?:recv|send) operation|wait timeout after \d+ms, keys"
        r"|DistStoreError: Socket Timeout"
        r"|(?i:watchdog timeout)"
        r"|waitForInput: .{0,300}timed out|Heartbeat monitor timed out|watchdog got stuck"
        r"|RPC call to \w+ timed out"
        r"|other ranks that didn't finish loading"
        r"|retrieving ncclUniqueId .{0,200}Socket Timeout|Some ranks .{0,20}timed out"
        r"|one or more ranks timed out"
        r"|Some \wCCL operations have failed or timed out|\bDeepEP .{0,60}time(?:d )?-?out",
        "a rank waited in vain for the others",
        DIAGNOSE,
        "torch.distributed",
        ("port-reachable",),
        SYMPTOM,
        explains=("store-unreachable", "worker-killed"),
    ),
    Signature(
        "nccl-versions",
        r"Mismatched NCCL version",
        "the ranks load different versions of NCCL",
        "give all nodes the same image or environment: playbooks/prepare.yml",
        "NCCL",
    ),
)
