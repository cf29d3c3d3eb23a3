# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of Ascend: HCCL, the driver, CANN and its operators.

The codes are those of CANN's reference: EInnnn and EJnnnn of HCCL, ELnnnn of the driver, EEnnnn and
EHnnnn of the runtime, EZnnnn of operators, 107nnn, 207nnn and 507nnn of ACL, -80nn of dcmi.
"""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    DIAGNOSE,
    FOLLOW_UP,
    LIKELY,
    PREFLIGHT,
    PREPARE,
    RECIPE_IMAGE,
    SYMPTOM,
    Signature,
)


def _acl(codes: str) -> str:
    """Return a pattern of these codes of ACL as torch_npu and the runtime print them."""
    return rf"(?:[Cc]ode(?: is)?|[Rr]esult|\b[Rr]et(?:[Cc]ode)?|failed)\W{{1,3}}(?:{codes})\b"


def _told(texts: str) -> str:
    """Return a pattern of what torch_npu says of a code of ACL on a line of its own."""
    return rf"\[Error\]: (?:{texts})"


def _hccl(codes: str) -> str:
    """Return a pattern of these results of HCCL as torch_npu prints them."""
    return rf"HCCL function error\b.{{0,300}}error code is (?:{codes})\b"


def _dcmi(codes: str) -> str:
    """Return a pattern of these codes of the driver's management interface."""
    return rf"(?i:dcmi|dsmi|npu-smi).{{0,120}}-(?:{codes})\b"


SIGNATURES = (
    Signature(
        "npu-link-down",
        r"\bEJ0002\b|network port is down",
        "the link of an NPU's own network port is down",
        "look at the cable and the switch port: hccn_tool -i DEVICE -link -g",
        "HCCL EJ0002; vllm-ascend issue 1815",
        ("npu-link",),
        explains=("npu-port-taken", "hccl-port-taken"),
    ),
    Signature(
        "npu-port-taken",
        r"specific port\[16666\]",
        "another process uses the same NPU: its port 16666 is taken",
        "end what npu-smi info lists for this NPU, in other containers too",
        "vllm-ascend issues 4725 and 11968",
        ("npu-processes",),
    ),
    Signature(
        "hccl-port-taken",
        r"\b(?:EI0019|EI0020|EJ0003)\b|Failed to bind the IP port|and specific port\[\d+\] fail"
        r"|IP address and port have (?:already )?been bound",
        "a port that HCCL listens on is taken on this node, 60000 to 60031 unless moved",
        "end what holds it (ss -Htlnp), or move the range with muster_hccl_base_port; two ranks on"
        " one NPU show so, too",
        "HCCL EI0019, before EJ0003; vllm-ascend issues 405 and 1253",
        ("port-free", "port-reserved"),
    ),
    Signature(
        "hccl-interface",
        r"HCCL_SOCKET_IFNAME\W{0,3}(?: .{0,80})?(?:not found|invalid|check env config)"
        r"|HCCL_IF_IP\W.{0,80}(?:not found|invalid|it should be)"
        r"|get host ip fail by socket Ifname",
        "the NIC or address that HCCL was told to use is not on this node",
        "set muster_interface to the NIC that carries the cluster's address",
        "HCCL EI0001",
        ("nic-exists", "nic-address"),
    ),
    Signature(
        "npu-tls",
        r"\bEI0016\b.{0,200}(?i:\btls\b)|(?i:\b(?:hccl|rank)\b.{0,120}config \W{0,3}tls\b)"
        r"|\brankList for (?:en|dis)abled tls\b",
        "the TLS switch is not the same on all NPUs of all nodes",
        "set it alike on every device: hccn_tool -i DEVICE -tls -s enable 0",
        "HCCL EI0016, from driver 25.2.0 on; before it is a time-out",
        ("cluster-npu-tls", "npu-tls"),
    ),
    Signature(
        "super-pod",
        r"\bEI0014\b.{0,300}(?i:super|\bsdid\b)|superDeviceId .{0,80}(?:not unique|invalid|repeat)"
        r"|devices have same superDeviceId",
        "the super pod's device ids are not unique, or its nodes are of different super pods",
        "compare npu-smi info -t spod-info of all devices, and unset HCCL_LOGIC_SUPERPOD_ID",
        "HCCL EI0014",
        ("npu-superpod",),
    ),
    Signature(
        "npu-driver-mount",
        r"lib(?:ascend_hal|drvdsmi_host|dcmi|drvhdc_host)\.so[.\d]*: cannot open"
        r"|(?i:dcmi\w*.{0,40}library_?not_?found)"
        r"|/Ascend/driver/\S+.{0,80}(?i:is invalid|not (?:found|exist)|no such|cannot open)"
        r"|No such file or directory: '/usr/local/Ascend/driver/"
        r"|\bnpu-smi: (?:command )?not found|No such file or directory: '(?:\S*/)?npu-smi'",
        "files of the NPU's driver are not in the container",
        "see that the driver is installed on the node and that the plan mounts its folders",
        "Ascend driver; vllm-ascend issues 1440 and 11052",
        ("driver-mount", "npu-driver-install"),
    ),
    Signature(
        "npu-address",
        r"\bEJ0004\b|Check ip fail|device ip family\[\d+\] is not same"
        r"|the IP address\S* in the ranktable is inconsistent|ra rdev init failed\W+ret ?\[?\W?17\b"
        r"|(?i:device[ _]ip\b.{0,60}(?:not (?:found|exist|set)|invalid|is empty|mismatch))",
        "an NPU has no address of its own, or another one than HCCL was told",
        "compare hccn_tool -i DEVICE -ip -g with /etc/hccn.conf and set it: hccn_tool -i DEVICE -ip"
        " -s address ADDRESS netmask MASK",
        "HCCL EJ0004; CANN, HCCP returns -17",
        ("npu-address", "npu-hccn-conf", "cluster-npu-address"),
    ),
    Signature(
        "hccl-ranktable",
        r"\b(?:EI0004|EI0014|EI0017)\b|Config_Error_Ranktable|parse the ranktable"
        r"|\[Ranktable(?:Config|Check)\].{0,160}(?:is not a valid real path|\] is invalid)",
        "the list of ranks and devices that HCCL was given cannot be read or does not fit the"
        " devices; the line names the field",
        "take RANK_TABLE_FILE and its kin out of muster_engine_env: the engine makes its own list",
        "HCCL EI0004, EI0014 and EI0017",
        ("npu-topology",),
    ),
    Signature(
        "hccl-environment",
        r"\b(?:EI0001|EI0016|EE2002)\b|for environment variable \[?\w+\]? is invalid"
        r"|\bHCCL_\w+\[[^\]]{0,80}\] is invalid",
        "HCCL or the runtime refuses a variable or setting; the line names it and what it takes",
        "correct it in muster_engine_env",
        "HCCL EI0001 and EI0016; runtime EE2002",
    ),
    Signature(
        "hccl-versions",
        r"\bEI0008\b|(?:HCCL|CANN) versions are inconsistent",
        "the nodes of the replica run different versions of CANN or HCCL",
        "give all nodes the same image: muster_image, then playbooks/prepare.yml",
        "HCCL EI0008",
        ("cluster-cann-version",),
    ),
    Signature(
        "hccl-arguments",
        r"\bEI0005\b|\bCMD information \w+ check fail",
        "the ranks do not call the same operation: their command lines or versions differ",
        "run playbooks/status.yml for units that differ from the plan, then playbooks/serve.yml",
        "HCCL EI0005",
        ("cluster-driver-version",),
    ),
    Signature(
        "hccl-buffer-small",
        r"(?i)HCCL_BUFFSIZE\w* is too small|NEEDED_HCCL_BUFFSIZE",
        "HCCL's buffer is smaller than an expert-parallel operator needs; the line says how much",
        "raise HCCL_BUFFSIZE (MiB) in muster_engine_env, or lower max-num-batched-tokens",
        "CANN, tiling of MoeDistributeDispatch",
    ),
    Signature(
        "hccl-memory",
        r"\b(?:EI0007|EI0011)\b|Failed to allocate resource\[|" + _hccl("3|24"),
        "HCCL found no memory or other resource left on the device",
        "lower gpu-memory-utilization or max-model-len in muster_engine_args, or HCCL_BUFFSIZE in"
        " muster_engine_env",
        "HCCL EI0007 and EI0011, results 3 and 24",
        ("npu-memory", "npu-processes"),
    ),
    Signature(
        "npu-streams",
        r"(?i:(?:new|create) capture stream failed|alloc sq cq fail"
        r"|no (?:stream|event|notify|model) resource)"
        r"|\bEL00(?:08|09|10|11)\b"
        r"|(?i:(?:stream|event|notify) resources (?:in the system )?are insufficient)"
        r"|(?i:(?:not enough|insufficient|exceed\w*) .{0,40}\bstreams?\b.{0,60}captur)|"
        + _acl("207007|207008|207009|207010"),
        "the captured graphs, or another server on the NPU, use up its streams or events",
        "capture fewer sizes: cudagraph_capture_sizes in compilation-config, or fewer ranks on a"
        " device; enforce-eager starts without graphs",
        "CANN EL0008 to EL0011, ACL 207007 to 207010; vllm-ascend issues 5213, 8393 and 9564",
    ),
    Signature(
        "npu-held",
        r"because the device is used|\b(?:EJ0001|EL0005)\b|Failed to initialize the HCCP process"
        r"|\b(?:hal|drv|dsmi|uda)\w+.{0,100}[Rr]et(?:Code)?\W{1,2}87\b|Conflict open udevid|"
        + _dcmi("8020"),
        "another process or container holds the NPU",
        "stop it (npu-smi info on the node lists processes), or give this unit other devices with"
        " muster_devices; after a kill wait ten seconds",
        "driver error 87, dcmi -8020, EL0005; HCCL EJ0001",
        ("npu-processes",),
    ),
    Signature(
        "npu-visible-devices",
        r"set ASCEND_RT_VISIBLE_DEVICES.{0,40}error|\binput data rang(?:e)?\[\d+-\d+\)"
        r"|[Ss]et visible device failed|(?<!AssertionError: )\b[Ii]nvalid [Dd]evice [Ii][Dd]\b"
        r"|\bEL0002\b|" + _acl("107001"),
        "ASCEND_RT_VISIBLE_DEVICES names a device that is not there, or not in ascending order: in"
        " a container it counts those that the container was given, from 0",
        "take it out of muster_engine_env and choose with muster_devices: the plan computes it",
        "CANN EE1001 and ACL 107001; gpustack issue 3352",
        ("npu-count",),
    ),
    Signature(
        "npu-few",
        r"local_world_size \(\d+\) must be less than or equal to the number of visible devices"
        r"|\(\d+\) is less than than max local Ascend npu count",
        "the container or node shows fewer NPUs than the plan's parallelism needs",
        PREFLIGHT,
        "vllm-ascend issue 14628",
        ("npu-count", "device-node"),
    ),
    Signature(
        "npu-permission",
        r"\bEL0007\b|"
        + _dcmi("8002")
        + "|"
        + _acl("207006")
        + "|"
        + _told("You do not have the operation"),
        "the engine's user may not use the NPU",
        "see ls -l /dev/davinci* on the node, and the container's user and group_add in the plan;"
        " HwHiAiUser's group owns the devices",
        "CANN EL0007, ACL 207006, dcmi -8002",
        ("device-node",),
        LIKELY,
    ),
    Signature(
        "npu-driver-old",
        r"\bEE1015\b|driver version capacity is insufficient"
        r"|(?i:\b(?:npu|ascend|hdk|cann)\b.{0,40}driver (?:package )?version .{0,80}"
        r"(?:too (?:low|old)|lower than|not (?:match|support|compatib)|does ?n[o']t match))"
        r"|(?i:please (?:upgrade|update) the (?:npu|ascend) driver)"
        r"|not supported by the current HDK\(driver\)",
        "the NPU driver of the node is older than the CANN of the image needs",
        "install the driver and firmware that CANN's release names, or take an older image"
        " (muster_image)",
        "CANN EE1015",
        ("npu-driver-install", "npu-firmware", "cann-version"),
    ),
    Signature(
        "npu-lost",
        r"(?i:\b(?:npu|device|chip|reason)\b.{0,20}\blost heartbeat|\bcard (?:drop|lost)\w*"
        r"|\bhdc disconnect"
        r"|\b(?:npu|chip) (?:is |was )?(?:lost|dropped|offline)\b)"
        r"|\b(?:MULTI BIT ECC|UCE|SUSPECT MEM) ERROR\b|"
        + _acl("507010|50705[3-6]|507901")
        + "|"
        + _told(r"The task scheduler loses the heartbeat|The internal host device comm"),
        "an NPU stopped answering, or its memory or link has a fault",
        "look at npu-smi info and dmesg on the node; reset the NPU or reboot, and take it out of"
        " muster_devices when it happens again",
        "ACL 507010, 507053 to 507056 and 507901",
        ("npu-count", "npu-health"),
    ),
    Signature(
        "npu-open",
        r"Failed to start the device|\bE30006\b|Failed to verify the OPP"
        r"|tsd client wait response fail|" + _acl("507033"),
        "the NPU cannot be started: the CANN of the image does not fit the driver, the device is"
        " sick, or an earlier process has not let go of it",
        "hold the image's CANN to the driver's version, look at npu-smi info, and reset the device",
        "ACL 507033, CANN E30006; vllm-ascend issue 4284",
        ("npu-driver", "npu-health", "cann-version"),
        LIKELY,
    ),
    Signature(
        "npu-soc-mismatch",
        r"socversion \S+ of bin package does not match|Can ?not support soc_version"
        r"|(?i:soc[_ ]?version .{0,60}(?:not support|unsupported|mismatch))"
        r"|(?i:unsupported soc_?version)"
        r"|Current device type: \S+ does not match the installed version's device type",
        "the operators in the image are built for another kind of NPU",
        "take the image for this hardware with muster_image: A2 and A3 have their own",
        "vllm-ascend; vllm-ascend issue 5599",
        ("npu-topology",),
    ),
    Signature(
        "cann-library",
        r"lib(?:hccl|ascendcl|acl_\w+|atb\w*|mki|ge_\w+|graph\w*|msprofiler|profapi|runtime"
        r"|opapi\w*|nnopbase|register|platform|error_manager|ascendalog|tiling_api|exe_graph|lcal"
        r"|mspti|c_sec|slog|mmpa|alog|unified_dlog|te_fusion|opp_registry|ascend_protobuf\w*"
        r"|hccl_\w+|hcomm)\.so[.\d]*:"
        r" cannot open|\bASCEND_(?:\w+_)?(?:PATH|HOME)\b.{0,60}(?:not set|is empty|not (?:found"
        r"|exist))|/set_env\.sh: No such file",
        "a library of CANN is not on the loader's path: its environment is not set, or CANN or its"
        " NNAL package is not there",
        "keep the image's own entrypoint or source set_env.sh of ascend-toolkit and nnal;"
        f" {RECIPE_IMAGE}",
        "CANN; vllm-ascend issue 262",
        ("cann-version",),
    ),
    Signature(
        "cann-mismatch",
        r"/(?:nnal|ascend-toolkit|cann[\w.-]*)/\S+: undefined symbol|undefined symbol: \w*(?:Mki"
        r"|atb|aclnn|aclrt|aclop|Hccl|hccl|_ZN2ge)\w*|undefined symbol: rt[A-Z]\w+"
        r"|not in libopapi\.so|(?i:cann) version .{0,80}(?:not (?:match|compatib"
        r"|support)|mismatch|too (?:old|low))"
        r"|[Cc]urrent CANN version do(?:es)? not|(?i:please (?:try to )?(?:update|upgrade|check)"
        r" (?:the version of |your )?cann\b)",
        "CANN and what is built on it (torch_npu, vllm-ascend, operators) are of versions that do"
        " not fit",
        f"{RECIPE_IMAGE}; outside of a container, CANN and NNAL as vllm-ascend's release names"
        f" them",
        "CANN; vllm-ascend issue 117",
        ("cann-version",),
        likely=r"\bEZ300[23]\b|No supported Ops kernel|Cannot find bin of op"
        r"|Ops kernel .{0,80}is unsupported|(?i:check .{0,60}\b(?:kernels?|ops|opp)\b.{0,40}"
        r"installed)|[Pp]arse dynamic kernel config fail|\bParseDynamicKernels\b"
        r"|\bAclOpKernelInit failed|" + _acl("561003|561107|561108|561109|56111[0-3]"),
    ),
    Signature(
        "torch-npu-mismatch",
        r"module 'torch[_.]npu\S*' has no attribute|module 'torch' has no attribute 'npu'"
        r"|cannot import name .{0,80} from 'torch_npu"
        r"|operator (?:npu|_C_ascend)::\w+ does not exist"
        r"|requires a newer torch_npu|name 'torch_npu' is not defined|\b(?:npu|_C_ascend)::\w+\(\) "
        r"(?:Expected a value of type|is missing value)"
        r"|Could not run 'npu::|\bnpu_\w+\(\) (?:got an unexpected|expected at most|is missing)"
        r"|torch_npu\S* .{0,60}(?:requires?|built for) torch"
        r"|(?:lib)?torch_npu\S*: undefined symbol"
        r"|'_OpNamespace' '(?:npu|_C_ascend)' object has no attribute",
        "torch_npu or vllm-ascend's own operators are of a version that does not fit the others",
        f"{RECIPE_IMAGE}; in an environment, torch and torch_npu as vllm-ascend's release pins"
        f" them",
        "torch_npu; vllm-ascend issue 56",
    ),
    Signature(
        "hccl-timeout",
        r"\bEI0006\b|wait socket establish timeout|_LINK_ERROR_INFO_|" + _hccl("9"),
        "an NPU waited in vain for another one: link, gateway, address, TLS or a rank that ended",
        f"{PREFLIGHT}; a peer that only loads slowly needs a higher HCCL_CONNECT_TIMEOUT",
        "HCCL EI0006; vllm-ascend issue 486",
        ("npu-link", "npu-net-health", "npu-gateway", "npu-ping", "cluster-npu-tls"),
        SYMPTOM,
        explains=("npu-dispatch", "worker-killed"),
    ),
    Signature(
        "hccl-agent-timeout",
        r"\bEI0015\b|topo exchange \w+ get socket timeout|TopoDetect ERROR occur"
        r"|TopoExchangeAgent: connect server.{0,80} failed|" + _hccl("11|13"),
        "not all ranks reached each other over the cluster NIC in time",
        "see that all units of the replica ran, then the NIC and the ports between the nodes",
        "HCCL EI0015",
        ("nic-route", "port-reachable"),
        SYMPTOM,
    ),
    Signature(
        "npu-notify-timeout",
        r"\bEI0002\b|Notify register times out|(?i:ffts\W?plus.{0,20}time ?out)|"
        + _acl("507012|50704[678]|1070(?:19|20)")
        + "|"
        + _told(
            r"Failed to obtain the task scheduler message|In the specified timeout waiting"
            r"|During the specified event sync|The execution of the internal task times"
            r"|Task execution timed out"
        ),
        "an NPU waited in vain for another rank within HCCL_EXEC_TIMEOUT: that rank ended, hangs or"
        " is still busy",
        DIAGNOSE,
        "HCCL EI0002; vllm-ascend issues 3413 and 16646",
        ("npu-link", "npu-ping"),
        SYMPTOM,
        explains=("worker-killed",),
    ),
    Signature(
        "hccl-transport",
        r"\bEI0009\b|Transport init error|\[Create\]\[DestLink\]"
        r"|(?i:ExceptionType:\[heartbeat lost)",
        "HCCL has no connection to the NPU of another rank; the line names rank and address",
        "look at that rank's log first, then at links and addresses: hccn_tool -i DEVICE -link -g",
        "HCCL EI0009; vllm-ascend issue 3162",
        ("npu-link", "npu-address", "npu-ping"),
        SYMPTOM,
    ),
    Signature(
        "npu-transfer",
        r"\b(?:EI0010|EI0012|EI0013|EI0018)\b|SUSPECT REMOTE ERROR|"
        + _hccl("12|14|19|21")
        + "|"
        + _acl("507013|507057|507904")
        + "|"
        + _told("System Direct Memory Access"),
        "a transfer between NPUs broke off: a link, a peer that ended, or memory of the peer",
        f"{DIAGNOSE}; then hccn_tool -i DEVICE -link -g and -stat -g",
        "HCCL EI0010 (P2P), EI0012 (SDMA), EI0013 (RoCE), EI0018 (UB); ACL 507013",
        ("npu-link", "npu-ping"),
        SYMPTOM,
    ),
    Signature(
        "npu-dispatch",
        r"aclnnMoe(?:Distribute)?(?:Dispatch|Combine)\w*.{0,200}\b56100[02]\b"
        r"|errno\[561000\] OpName:\[MoeDistribute|HcclAllocComResourceByTiling .{0,80}\bret ?="
        r"|fails to invoke the HcclAllocComResourceByTiling",
        "an expert-parallel operator does not reach the other NPUs",
        "see that all NPU links are up and all NPU addresses answer: hccn_tool -i DEVICE -link -g;"
        " nodes that are cabled directly, without a switch, cannot run it",
        "vllm-ascend issues 7606 and 9872",
        ("npu-link", "npu-ping", "npu-neighbour"),
        SYMPTOM,
    ),
    Signature(
        "npu-driver",
        r"DrvMngGetConsoleLogLevel failed|\bEL0006\b|"
        + _dcmi("8005|8006|8008|8009|801[0-7]")
        + "|"
        + _acl("507000|507001|507008|507899|507900|500004")
        + "|"
        + _told(
            r"An internal (?:DRV|error occurs (?:in the (?:runtime|task scheduler|Driver)"
            r"|on the AI CPU))|Failed to obtain the SOC version"
        ),
        "the NPU driver does not answer: another container holds the NPU, its device nodes are not"
        " in the container, or the node was not rebooted after a driver's installation",
        "see what npu-smi info says on the node itself, as root",
        "dcmi -8005 to -8017, ACL 507000 to 507008 and 507899; vllm-ascend issue 2698",
        ("npu-tool", "npu-processes", "device-node"),
        SYMPTOM,
    ),
    Signature(
        "npu-unavailable",
        r"The device is unavailable|\b(?:EL0001|EL0015)\b|" + _acl("207004"),
        "the runtime finds no NPU that it may use",
        PREFLIGHT,
        "CANN EL0001 and EL0015, ACL 207004",
        ("npu-count", "device-node", "npu-processes"),
        SYMPTOM,
    ),
    Signature(
        "npu-unsupported",
        r"\b(?:EE1005|EE1006|EE1016|EL0014)\b|"
        + _acl("207000|507009|200006")
        + "|"
        + _told("This feature is not supported|The task type is not supported"),
        "the driver or this kind of NPU does not know what CANN asks of it",
        "hold the driver's version to the image's CANN, and the image to the kind of NPU",
        "CANN EE1005, EE1006, EE1016 and EL0014, ACL 207000 and 507009",
        ("npu-driver-install", "cann-version"),
        SYMPTOM,
        explains=("hccl-failed",),
    ),
    Signature(
        "cann-compiler",
        r"GEInitialize failed|Init compiler failed|AclSetCompileopt|OpCompileProcessor init failed"
        r"|\[Init\]\[Env\]init env failed|build op model failed, result = 50000\d"
        r"|RuntimeError: Compile op\["
        r"|\bEC0010\b|Failed to import Python module|JitCompile default value failed"
        r"|Failed to init (?:tbe|TeConfig)|init runtime platform info failed"
        r"|/data/platform_config\b|\bE4002[0-4]\b|"
        + _told("The internal ACL of the system|A GE error occurs"),
        "CANN's compiler of operators cannot start: a Python package that it needs is missing or"
        " too new (numpy, decorator, sympy, attrs), or CANN is not whole",
        "read the lines around it; the recipe's image has them all",
        "CANN, EC0010 and error 500001; vllm-ascend issue 692",
        ("cann-version",),
        SYMPTOM,
        explains=("hccl-failed",),
    ),
    Signature(
        "npu-arguments",
        r"\bEZ1001\b|AclNN_Parameter_Error|" + _acl("16100[12]"),
        "an operator of CANN refuses the shape, type or format that the engine gives it; the words"
        " behind say which: this kind of NPU or this CANN does not take the model, its"
        " quantisation or its number format so",
        "where the words name DT_BFLOAT16 (Atlas 300I): dtype float16 in muster_engine_args; else"
        f" another parallel size, or {RECIPE_IMAGE}",
        "CANN EZ1001, ACLNN 161001 and 161002; vllm-ascend issues 2925, 6490 and 8186",
        ("weights-format", "npu-topology"),
        LIKELY,
        explains=("npu-operator",),
    ),
    Signature(
        "npu-runtime",
        r"ascend-docker-(?:hook|cli|runtime|destroy)|verify parameters valid and parse runtime opt"
        r"|failed to (?:do file mounting for|setup container)\b",
        "Ascend's runtime for Docker could not give the container its NPUs or driver files",
        "the plan gives devices by name and needs no such runtime: take it out of Docker's default"
        " in /etc/docker/daemon.json, or read what the line says is missing",
        "Ascend Docker Runtime",
        ("driver-mount", "device-node"),
        SYMPTOM,
    ),
    Signature(
        "npu-memory-fault",
        r"(?:DDR|GM|UB|L1) address of the \w+ instruction is out of range"
        r"|errorStr: .{0,80}(?:address check error|address is out of (?:range|bounds))",
        "an operator on an NPU read or wrote outside its memory: a fault of the engine for this"
        " model, quantisation or captured graph",
        "start with enforce-eager in muster_engine_args; then another engine version or image",
        "CANN, error 0x800000 of a core; vllm-ascend issues 2918, 3263 and 7570",
        ("npu-health",),
        LIKELY,
        explains=("npu-operator", "npu-notify-timeout", "hccl-timeout"),
    ),
    Signature(
        "npu-operator",
        r"(?i:\b(?:aicore|aivec(?:tor)?|aicpu|vector core)\b.{0,20}(?:exception"
        r"|time(?:s |d )?out|error|abnormal)"
        r"|exception .{0,20}during (?:aicore|aivec))|current working operator name is"
        r"|\bsetup fail(?:ed)?!?,? .{0,60}ASDOPS_LOG|\b\w+Operation (?:setup|execute) fail|"
        + _acl("5070(?:1[14-8]|3[4-6]|4[2-5]|49|50)")
        + "|"
        + _told(
            r"Model execution failed|An exception occurs when (?:the )?(?:aicore|vector core)"
            r"|An exception occurs during the execution of an internal"
        ),
        "an operator on an NPU failed or did not end",
        "look for the first such line in the plogs of all ranks; another image or engine version",
        "ACL 507011 to 507018, 507034 and 507035",
        ("npu-health", "npu-ecc"),
        SYMPTOM,
    ),
    Signature(
        "hccl-failed",
        r"HCCL function error|DIST call hccl api failed|DIST call api failed|\bEI0003\b"
        r"|\bHccl[A-Z]\w+ fail(?:ed|s)?\b|\bhcclComm is null",
        "HCCL could not be set up or used; the words do not say why",
        f"read the plogs below /var/log/muster of all ranks; {PREPARE} and preflight hold what HCCL"
        " needs",
        "torch_npu; vllm-ascend issue 3367",
        ("npu-link", "npu-address", "port-free"),
        SYMPTOM,
    ),
    Signature(
        "cann-inner",
        r"\bE[A-Z0-9][0-9]?9999\b|\bEZ99\d\d\b|\bEH0001\b|\bEE10\d\d\b|\bEL0003\b|\bE[0-9]0\d{3}: "
        r"|call acl api failed|call aclnn\w+ failed",
        "CANN met an error; the words behind say which, and what went before says why",
        f"read the plogs below /var/log/muster; {PREPARE} and preflight hold what CANN needs",
        "CANN, inner errors",
        ("npu-health", "cann-version"),
        FOLLOW_UP,
    ),
)
