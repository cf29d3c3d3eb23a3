# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of GPUs: their drivers, health and containers."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    LIKELY,
    PREFLIGHT,
    PREPARE,
    SYMPTOM,
    Signature,
)

# A line of an Xid, and one of the channels that an earlier one took away.
_XID = r"(?:NVRM: Xid \(PCI:[^)]*\): |caused by previous Xid )"

SIGNATURES = (
    # Driver and CUDA.
    Signature(
        "cuda-driver-old",
        r"driver on your system is too old|unsatisfied condition: (?:cuda|driver|brand)"
        r"|driver version is insufficient|cudaErrorInsufficientDriver"
        r"|PTX was compiled with an unsupported toolchain|please update your driver to a newer"
        r"|API call is not supported in the installed CUDA driver|(?:cudaError|CUDA_ERROR)\w*"
        r"(?:CallRequiresNewerDriver|UNSUPPORTED_PTX_VERSION|UnsupportedPtxVersion)"
        r"|undefined symbol: cu[A-Z]\w+|version of CUDA supported by the (?:NVIDIA )?driver"
        r"|built for NVIDIA Driver Release \S+ or later, but version",
        "the node's GPU driver is older than the CUDA that the image or the wheels are built for",
        "install a newer driver, or take an image or wheels for the older CUDA (muster_image,"
        " muster_wheel_channel)",
        "CUDA errors 35, 36 and 222; torch; SGLang issue 8701; NVIDIA container toolkit",
        ("gpu-driver", "image-requirement", "image-cuda"),
        likely=r"a PTX JIT compilation failed|(?:cudaError|CUDA_ERROR_)(?:InvalidPtx|INVALID_PTX)",
    ),
    Signature(
        "rocm-driver-old",
        r"Incompatible kernel and userspace|hipErrorInsufficientDriver"
        r"|(?i:unsupported kfd version)",
        "the node's amdgpu driver does not fit the ROCm of the image",
        "install the amdgpu driver of that ROCm's release, or take an image of the driver's"
        " (muster_image)",
        "ROCm; HIP error 35",
        ("gpu-driver",),
    ),
    Signature(
        "cuda-compat-mismatch",
        r"\bError 80[34]\b|unsupported display driver / cuda driver combination"
        r"|forward compatibility was attempted on non supported|driver is a stub library"
        r"|cudaErrorStubLibrary|CUDA_ERROR_(?:COMPAT_NOT_SUPPORTED|SYSTEM_DRIVER_MISMATCH)"
        r"|cudaError(?:CompatNotSupported|SystemDriverMismatch)",
        "the image's own CUDA libraries (cuda-compat) are loaded in place of the driver's, or the"
        " driver's parts are of different versions",
        "keep cuda-compat off the loader's path (LD_LIBRARY_PATH, ld.so.conf of the image), or take"
        " an image without it; on the node, one version of all of the driver's packages",
        "CUDA errors 803 and 804; gpustack issue 4678",
        ("gpu-driver",),
    ),
    Signature(
        "fabric-manager",
        r"system not yet initialized|cudaErrorSystemNotReady|CUDA_ERROR_SYSTEM_NOT_READY"
        r"|(?i:fabric ?manager).{0,120}don't match with driver version"
        r"|nvidia-nvswitch: Version mismatch"
        r"|[Ff]ailed to start (?:NVIDIA )?[Ff]abric ?[Mm]anager",
        "the fabric manager does not run, or is not of the driver's version",
        "install nvidia-fabricmanager of the driver's version and start it",
        "CUDA error 802; NVIDIA fabric manager guide",
        ("gpu-fabric-manager",),
        likely=r"nvidia-fabricmanager\S*: (?:Main|Control) process exited"
        r"|[Ff]ailed to initialize [Ff]abric ?[Mm]anager",
    ),
    Signature(
        "nvswitch-absent",
        r"NVSwitch .{0,120}NV_WARN_NOTHING_TO_DO",
        "the fabric manager finds no NVSwitch: the node has none and needs no fabric manager, or a"
        " virtual machine or a missing kernel module (ib_umad, mlx5_ib for HGX B200) hides them",
        "where nvidia-smi topo -m shows no NVSwitch by design, systemctl disable --now"
        " nvidia-fabricmanager; on HGX and DGX load those modules or hand the switches to the"
        " virtual machine, then start it again",
        "NVIDIA fabric manager; NVIDIA gpu-operator issues 610 and 2781",
        ("gpu-fabric-manager", "gpu-topology"),
        explains=("fabric-manager",),
    ),
    Signature(
        "gpu-driver-mismatch",
        r"(?i)driver/library version mismatch|NVML/RM version mismatch|LibRmVersionMismatch"
        r"|LIB_RM_VERSION_MISMATCH|NVRM: API mismatch|\bnvidia-(?:modeset|drm"
        r"|uvm): Version mismatch",
        "the loaded GPU driver is not the installed one",
        "reboot the node, or reload the driver",
        "NVML error 18",
        ("gpu-driver-loaded",),
    ),
    Signature(
        "gpu-driver-branch",
        r"requires use of the NVIDIA open kernel modules|does not include the required GPU"
        r"|Open nvidia\.ko is only ready for use"
        r"|not supported by (?:the NVIDIA \S+ driver release|open nvidia\.ko)",
        "the installed GPU driver does not serve this kind of GPU: Blackwell and later want its"
        " open"
        " kernel modules, others want the closed ones or another branch",
        "install the driver that NVIDIA names for the GPU (nvidia-open for Blackwell), then reboot",
        "NVIDIA kernel module",
        ("gpu-driver-loaded", "gpu-driver"),
        explains=("gpu-driver-absent", "gpu-lost"),
    ),
    Signature(
        "gpu-driver-in-use",
        r"appears to already be loaded in your kernel",
        "the GPU driver cannot be replaced while something uses the loaded one",
        "end what uses the GPUs (nvidia-smi, nvidia-persistenced, a display), or reboot into a"
        " system that does not load it, then install again",
        "NVIDIA installer",
        ("gpu-processes", "gpu-driver-loaded"),
    ),
    Signature(
        "gpu-bound",
        r"NVRM: GPU \S+ is already bound to|NVIDIA probe routine was not called for"
        r"|driver such as:? nouveau,.{0,60} was loaded"
        r"|Nouveau kernel driver is currently in use",
        "a GPU is bound to another driver, the one for virtual machines (vfio-pci) or nouveau",
        "take the GPU out of vfio-pci's ids, or blacklist nouveau (/etc/modprobe.d, the kernel's"
        " command line), then make the initramfs anew and reboot",
        "NVIDIA kernel module",
        ("gpu-driver-loaded", "gpu-count"),
        explains=("gpu-driver-absent",),
    ),
    Signature(
        "gpu-pci-memory",
        r"PCI I/O region assigned to your NVIDIA device is invalid|NVRM: BAR\d is 0M @"
        r"|system BIOS may have misconfigured your GPU"
        r"|[Nn]ot enough PCI address space for a large BAR",
        "the node's firmware, or its virtual machine, gave a GPU no address space for its memory",
        "turn on Above 4G Decoding in the firmware, in a virtual machine 64-bit MMIO for as much as"
        " all GPUs have; or boot with pci=realloc",
        "NVIDIA kernel module; amdgpu",
        ("gpu-driver-loaded", "gpu-count"),
        explains=("gpu-driver-absent", "gpu-init"),
    ),
    Signature(
        "gpu-atomics",
        r"PCI rejects atomics",
        "the way to a GPU does not carry PCIe atomics, without which ROCm does not use it: a slot"
        " behind a bridge, an old processor or a virtual machine",
        "put the GPU into a slot of the processor, or turn atomics on for the virtual machine's"
        " root port",
        "kernel, amdkfd",
        ("gpu-count",),
        explains=("gpu-none",),
    ),
    Signature(
        "gpu-firmware",
        # These kinds of GPU serve without the firmware of trusted applications.
        r"^(?!.*amdgpu/(?:vega20|arcturus|raven\w*|picasso)_ta\.bin).*(?:"
        r"[Dd]irect firmware load for (?:amdgpu|nvidia)/\S+ failed|PSP firmware loading failed"
        r"|[Ff]ailed to load (?:psp|mc|gfx|sdma|mes|imu|rlc|vcn|smu|gpu_info) firmware"
        r"|loading \S*firmware/(?:amdgpu|nvidia)/\S+ failed"
        r"|[Ff]ailed to load \w* ?firmware.{0,40}amdgpu"
        r"|amdgpu.{0,80}(?i:(?:failed to (?:load|validate|get)"
        r"|can't load) \S*(?: \S+)? ?(?:firmware|ucode"
        r"|microcode))|hw_init of IP block <psp> failed|PSP load \w+ failed"
        r"|NVRM: .{0,80}(?:firmware (?:image|file) .{0,60}(?:not found|fail|mismatch)"
        r"|No valid firmware))",
        "the GPU's firmware is not on the node, is another version's, or the GPU refuses it",
        "install the firmware package of the driver's version (amdgpu-dkms-firmware,"
        " linux-firmware,"
        " nvidia-firmware), make the initramfs anew and reboot; then renew the card's own",
        "amdgpu; NVIDIA kernel module",
        ("gpu-driver-loaded", "gpu-count"),
        explains=("gpu-driver-absent", "gpu-init", "gpu-lost"),
    ),
    Signature(
        "gpu-init",
        r"amdgpu.{0,80}(?:Fatal error during GPU init|amdgpu_device_ip_init failed)"
        r"|\b(?:amdgpu|nvidia)\S*: probe of \S+ failed with error"
        r"|hw_init of IP block <\w+> failed|\bPSP create ring failed|amdgpu_discovery_init failed",
        "the driver is loaded and could not start a GPU; the lines before say why",
        "read dmesg before that line; firmware of node and card, power and slot of the GPU,"
        " settings"
        " of the BIOS (Above 4G Decoding, IOMMU)",
        "amdgpu; NVIDIA kernel module",
        ("gpu-driver-loaded", "gpu-count"),
        SYMPTOM,
    ),
    Signature(
        "gpu-driver-absent",
        r"(?i:nvml.{0,60}driver not loaded)|couldn't communicate with the NVIDIA driver"
        r"|Found no NVIDIA driver on your system"
        r"|nvidia-container-cli(?:\.real)?: initialization error: (?:load library failed"
        r"|cannot open shared|nvml error: (?:driver not loaded"
        r"|unable to load))|NVRM: (?:No NVIDIA (?:GPU|graphics adapter|devices)|The NVIDIA probe"
        r" routine failed)|could not insert '?(?:nvidia|amdgpu)(?!\w?peermem)"
        r"|[Ff]ailed to insert module '(?:nvidia|amdgpu)"
        r"|could not find module by name '?(?:nvidia|amdgpu)"
        r"|DKMS module '(?:nvidia|amdgpu)\S* failed|Building DKMS module '(?:nvidia"
        r"|amdgpu).{0,80}FAILED"
        r"|kernel headers for module (?:nvidia|amdgpu)|whether the nvidia kernel module was success"
        r"|Unable to find the kernel source tree for the currently running kernel"
        r"|\b(?:nvidia|amdgpu)\w* not found in directory /lib/modules"
        r"|/var/lib/dkms/(?:nvidia|amdgpu)\S* .{0,20}(?:does not exist|for more information)"
        r"|/NVIDIA-Linux-\S+\] Error \d|^Compiler version check failed:|^gcc-version-check failed"
        r"|(?:[Uu]nable|[Ff]ailed) to load the kernel module '(?:nvidia|amdgpu)"
        r"|[Cc]ould not load (?:UVM|NVIDIA) kernel module|module not found: '(?:nvidia|amdgpu)"
        r"|\bdkms\b.{0,60}\b(?:nvidia|amdgpu)\b.{0,80}(?:exited [1-9]|failed)"
        r"|failed to create device node\S* .{0,60}failed to (?:get|determine) major"
        r"|Module (?:nvidia|amdgpu) not found|\bERROR_DRIVER_NOT_LOADED"
        r"|AMDSMI_STATUS_DRIVER_NOT_LOADED"
        r"|(?i:nvidia (?:kernel )?(?:driver|module) (?:is )?not (?:loaded|installed|running))"
        r"|(?i:amdgpu (?:driver|module) (?:is )?not (?:loaded|found|initialized))",
        "the node has no GPU driver, or its driver is not loaded",
        "install the driver, or load it (modprobe nvidia, modprobe amdgpu; dmesg says why it"
        " refuses); nvidia-smi or amd-smi on the node must answer",
        "NVML error 9; NVIDIA container toolkit; torch",
        ("gpu-driver-loaded",),
        hint=r"ROCk module is NOT loaded",
        explains=("device-absent",),
    ),
    Signature(
        "gpu-lost-in-container",
        r"(?:NVML: |NVMLError_Unknown: )Unknown Error",
        "the container has lost its GPUs: systemd set its cgroup rules anew, as a daemon-reload"
        " does",
        "start the unit anew: its container then keeps its GPUs over a reload; give"
        " other containers theirs by CDI or by name",
        "NVML error 999; NVIDIA container toolkit issues 251 and 1227",
        ("container-gpus", "container-engine-cgroup"),
        LIKELY,
    ),
    Signature(
        "gpu-lost",
        r"fallen off the bus|\bGPU is lost\b|ERROR_GPU_IS_LOST|ERROR_RESET_REQUIRED"
        r"|NVMLError_GpuIsLost|device lost from bus"
        rf"|{_XID}(?:(?:8|38|46|61|62|79|109|110|119|12[0-5]|136|143|155)\b"
        r"|154, (?!.{0,80} to 0x0\b))|(?i:rm_?init_?adapter failed)"
        r"|(?i:\bgpu\b.{0,40}requires? (?:a )?reset)|amdgpu.{0,80}(?:GPU reset"
        r"|ring \S+ timeout)|Timeout .{0,40}waiting for .{0,40}RPC from GSP|GSP heartbeat"
        r"|GPU lost from the bus|NV_ERR_GPU_IS_LOST|NV_ERR_RESET_REQUIRED"
        r"|nvidia \S+: Unable to change power state .{0,40}inaccessible",
        "a GPU no longer answers, or waits for a reset",
        "reboot the node; look at its power, slot and temperature when it happens again, and take"
        " it out of muster_devices",
        "NVIDIA Xid 8, 38, 46, 61, 62, 79, 109, 119 to 125, 136, 143, 154 and 155; NVML errors 15"
        " and 16; amdgpu",
        ("gpu-count", "gpu-health"),
        likely=r"can't allocate unhealthy devices|Unable to determine the device handle for"
        r" (?:GPU|gpu)|amdgpu.{0,80}(?:MES\S* failed to resp|qcm fence wait loop timeout"
        r"|SMU is (?:hung"
        r"|in hang)|[Qq]ueue preemption (?:failed|time ?out)|Resetting wave fronts"
        r"|[Ww]aiting for fences timed ?out"
        r"|failed to (?:quiesce|evict process))|NVML: Timeout|Insufficient External Power"
        r"|HW Exception by GPU node"
        r"|reason ?: ?GPU Hang",
        # The slot reports what the GPU did.
        explains=("node-hardware",),
    ),
    Signature(
        "gpu-nvlink",
        rf"uncorrectable NVLink error|{_XID}(?:74|137|14[4-9]|150)\b"
        r"|(?:cudaError|CUDA_ERROR_)(?:NvlinkUncorrectable|NVLINK_UNCORRECTABLE)"
        r"|Invalid access of peer GPU memory over nvlink|nvswitch\w*: SXid .{0,80}, Fatal,"
        r"|detected NVSwitch fatal error|[Ff]ailed to train NVLink",
        "an error of NVLink, the connection between GPUs, not of memory",
        "nvidia-smi nvlink -e and dmesg (Xid) name the link; reset all GPUs of the fabric together,"
        " or reboot",
        "CUDA error 220; NVIDIA Xid 74, 137 and 144 to 150",
        ("gpu-fabric-manager", "gpu-topology"),
    ),
    Signature(
        "gpu-ecc",
        r"(?<!no )uncorrectable ECC error(?!\D{0,20} 0\b)"
        r"|amdgpu.{0,120}[1-9]\d* (?:new )?uncorrectable (?:hardware )?errors?"
        r"|amdgpu.{0,120}(?:bad page threshold|ERREVENT_ATHUB_INTERRUPT|[Pp]oison is consumed)"
        rf"|{_XID}(?:48|64|94|95|140)\b"
        r"|(?:cudaError|CUDA_ERROR_)(?:ECCUncorrectable|ECC_UNCORRECTABLE)",
        "a GPU has a memory error that it could not correct",
        "reset the GPU, and take it out of muster_devices when it happens again",
        "CUDA error 214; NVIDIA Xid 48, 64, 94, 95 and 140",
        ("gpu-ecc",),
    ),
    Signature(
        "gpu-code",
        r"no kernel image is available|hipErrorNoBinaryForGpu"
        r"|(?:error: |[Ff]ailure '|\[HIP error\]\()invalid device function"
        r"|fail to call hipModuleLoad\w*\(.{0,200}\[HIP error\]\("
        r"(?:file not found|shared object init|invalid kernel file|device kernel image)"
        r"|device kernel image is invalid|(?:hip|cuda)ErrorInvalid(?:DeviceFunction|KernelFile"
        r"|KernelImage|Image)|No compatible code objects found for"
        r"|(?:Error|Exception): .{0,40}(?i:unsupported (?:gpu |cuda )?arch\w*\W{1,4}\w{0,8}"
        r"(?:sm_?\d|gfx\d|compute_\d))"
        r"|Cannot read \S*TensileLibrary|Tensile\S* .{0,120}for GPU arch"
        r"|CUBLAS_STATUS_ARCH_MISMATCH|cudaErrorNoKernelImageForDevice"
        r"|CUDA_ERROR_NO_BINARY_FOR_GPU"
        r"|No compiled \w+: no .{0,60}kernel for CUDA device capability"
        r"|GPU archs of .{0,60}is invalid or not supported"
        r"|KeyError: ['\"](?:gfx\d\w+|Unknown GPU architecture)"
        r"|Detected NVIDIA .{0,80} GPU, which (?:is not yet|may not yet be) supported",
        "the image holds no code for this kind of GPU",
        "take an image that is built for it with muster_image",
        "CUDA errors 98, 200 and 209; HIP errors 98 and 209",
        ("gpu-name",),
        likely=r"(?<!Error 500: )\bnamed symbol not found|\binvalid device symbol\b"
        r"|(?:cudaErrorSymbol"
        r"|CUDA_ERROR_)(?:NotFound|NOT_FOUND)\b",
        hint=r"is not compatible with the current PyTorch installation",
    ),
    Signature(
        "gpu-ordinal",
        # The toolkit says so of a GPU that the driver counts and CUDA does not see.
        r"(?<!nvidia-container-cli: initialization error: cuda error: )invalid device ordinal"
        r"|NVMLError_InvalidArgument|device error: \S+: unknown device"
        r"|invalid literal for int\(\) with base 10: '(?:MIG|GPU)-|Non-integer device ID"
        r"|visible device ordinal \d+ is out of range|device < num_gpus|--device-ids index"
        r"|is not visible in \w+_DEVICES"
        r"|Please use (?:either )?HIP_VISIBLE_DEVICES (?:instead of|or) "
        r"|Inconsistent GPU visibility env vars|(?:hip|cuda)ErrorInvalidDevice\b"
        r"|CUDA_ERROR_INVALID_DEVICE\b|Invalid device id\b",
        "a GPU was named that this node does not have, or in a form that the engine does not read",
        "choose devices with muster_devices; CUDA_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES are the"
        " plan's",
        "CUDA error 101; NVML error 2; vLLM; NVIDIA container toolkit",
        ("gpu-count", "gpu-mig"),
    ),
    Signature(
        "gpu-shared",
        r"Duplicate GPU detected",
        "two ranks were given the same GPU",
        "choose devices with muster_devices and take CUDA_VISIBLE_DEVICES out of muster_engine_env;"
        " end an engine of an earlier run",
        "NCCL",
        ("gpu-count", "gpu-processes"),
    ),
    Signature(
        "gpu-busy",
        r"CUDA-capable device\(s\) is/are busy|cudaErrorDevicesUnavailable"
        r"|CUDA_ERROR_DEVICE_UNAVAILABLE|devices are busy or unavailable"
        r"|exclusive-thread device already in use",
        "a GPU is in exclusive mode and held by another process, or in a state that admits none",
        "end what nvidia-smi lists; nvidia-smi -c DEFAULT lets several processes use a GPU; where"
        " it lists none, reset the GPU",
        "CUDA errors 46 and 54",
        ("gpu-compute-mode", "gpu-processes", "gpu-health"),
        LIKELY,
    ),
    Signature(
        "gpu-mps",
        r"MPS (?:client|server|control daemon)\b.{0,80}(?:fail|not|unable)"
        r"|(?:cudaErrorMps|CUDA_ERROR_MPS_)\w+|\bError 80[5-9]\b",
        "a GPU is shared by NVIDIA's MPS, whose daemon does not answer",
        "start nvidia-cuda-mps-control on the node and give its pipe to the container, or end MPS",
        "CUDA errors 805 to 809",
    ),
    Signature(
        "cuda-fork",
        r"Cannot re-initialize (?:CUDA|NPU|XPU) in forked subprocess",
        "something used the device before the engine's processes were forked",
        "set VLLM_WORKER_MULTIPROC_METHOD: spawn in muster_engine_env",
        "torch; vLLM's troubleshooting",
    ),
    Signature(
        "spawn-guard",
        r"An attempt has been made to start a new process before the",
        "a program that calls the engine starts it outside its main block, so that each process of"
        " the engine runs the program anew",
        "put its calls under if __name__ == '__main__':",
        "Python, multiprocessing; vLLM's troubleshooting",
    ),
    Signature(
        "torch-cpu",
        r"Torch not compiled with CUDA enabled|PyTorch was compiled without CUDA"
        r"|Distributed package doesn't have NCCL"
        r"|PyTorch (?:was|is) not (?:built|compiled) with"
        r" (?:CUDA|ROCm)",
        "the torch of this image or environment is built without CUDA",
        "take the image that the recipe names; an environment wants wheels of a"
        " muster_wheel_channel for CUDA",
        "torch",
        ("gpu-driver",),
        # There the torch is right to have no CUDA; who asks for it is the engine's code.
        unless=r"\bdevice_config=npu\b|Platform plugin ascend is activated|device='npu'"
        r"|/(?:vllm_ascend|torch_npu)/",
    ),
    Signature(
        "gpu-few",
        r"World size \(\d+\) is larger than the number of available"
        r"|cannot be larger than the number of available GPUs|exceeds assigned_physical_gpu_ids"
        r"|is out of bounds for \d+ devices"
        r"|Error (?:setting|computing) .{0,80}local range: \[|--device-ids provides \d+ devices"
        r"|physical_device_id = device_ids|device_id \d+ is out of range for assigned"
        r"|[Nn]ot enough (?:GPUs?|devices)\b(?! memory)|local[ _]rank \d+ is out of bounds"
        r"|\bInsufficient (?:nvidia|amd)\.com/gpu\b"
        r"|only \d+ (?:GPUs?|devices) (?:are )?(?:available|visible)",
        "the engine was given fewer devices than its parallelism needs",
        f"{PREFLIGHT}; muster_devices and the recipe's parallelism say how many; an engine over"
        " several nodes needs its --nnodes or data-parallel flags on each",
        "vLLM; NeMo Skills issue 1059",
        ("gpu-count", "npu-count"),
    ),
    Signature(
        "wsl-gpu",
        r"WSL environment detected but no adapters were found",
        "Windows shows WSL no GPU",
        "renew the GPU driver of Windows and WSL (wsl --update), then wsl --shutdown; nvidia-smi in"
        " WSL has to answer",
        "NVIDIA container toolkit",
        ("gpu-tool",),
    ),
    Signature(
        "gpu-none",
        r"No (?:CUDA|HIP) GPUs are available|no (?:CUDA|ROCm)-capable device is detected"
        r"|Failed to infer device type|Device string must not be empty|No CUDA-capable device"
        r"|only supported with GPUs, no GPUs found|(?:cuda|hip)ErrorNoDevice|CUDA_ERROR_NO_DEVICE"
        r"|No platform detected, vLLM is running on UnspecifiedPlatform|NVML returned no GPU"
        r"|'UnspecifiedPlatform' object has no|No devices were found"
        r"|Tensile host: No devices found|AMDSMI_STATUS_(?:INIT_ERROR|NO_DRM_DEV|NOT_INIT)"
        r"|Cannot access accelerator device when none is"
        r"|GPU arch from rocminfo failed|rocm-smi not found"
        r"|No accelerator \([\w, ]+\) or platform"
        r"|no adapters were found"
        r"|(?<!node has )\b[Nn]o (?:\w+ )?(?:[GNX]PUs?|accelerators?)(?: devices?)?"
        r" (?:(?:was|were|is|are) )?"
        r"(?:found|detected|available)\b"
        r"|Found no (?:NVIDIA|AMD) (?:GPU|device)"
        r"|Error: CUDA is not available|torch\.cuda\.is_available\(\) is False",
        "the engine sees no device: it was given none, may not open them, a variable hides them, or"
        " the driver does not answer",
        "see that the vendor's tool lists the devices on the node, then ls -l of the device nodes"
        f" and the container's user and group_add; {PREFLIGHT}",
        "torch; vLLM",
        ("gpu-count", "npu-count", "device-node"),
        SYMPTOM,
    ),
    Signature(
        "gpu-nvml",
        r"NVMLError_NotSupported|\bNVML: Not Supported",
        "the engine asks the driver for what this kind of GPU does not tell: one with memory of the"
        " processor (GB10, Jetson), a part of a GPU (MIG, vGPU)",
        "take an engine version that knows the device; whole GPUs in place of parts",
        "NVML error 3; vLLM",
        ("gpu-name", "gpu-mig"),
        LIKELY,
    ),
    # GPUs among each other.
    Signature(
        "gpu-peer",
        r"peer access is not supported|Could not enable P2P between dev|(?:cuda"
        r"|hip)Error(?:PeerAccessUnsupported|TooManyPeers)"
        r"|peer mapping resources exhausted"
        r"|Error happened when batch testing peer-to-peer access|\bhipIpc\w+MemHandle failed"
        r"|(?:DMAR|AMD-Vi|iommu).{0,120}(?:\bfault\b|IO_PAGE_FAULT)"
        r"|amdgpu.{0,80}(?i:xgmi).{0,60}(?i:fail|error)",
        "the GPUs of the node cannot reach each other's memory: an IOMMU, ACS or a virtual machine"
        " is between them",
        "set NCCL_P2P_DISABLE: 1 in muster_engine_env and disable-custom-all-reduce in"
        " muster_engine_args; on the node, iommu=pt and ACS off",
        "CUDA error 217; vLLM issue 406; kernel",
        ("gpu-topology",),
        LIKELY,
    ),
    Signature(
        "custom-all-reduce",
        r"(?<!\[AITER\] )\bcustom_all_reduce\.cuh?:\d+",
        "vLLM's own all-reduce cannot use the memory of the other GPUs: they do not reach it, or"
        " torch's allocator gave memory that cannot be shared",
        "set disable-custom-all-reduce in muster_engine_args; take expandable_segments out of"
        " PYTORCH_CUDA_ALLOC_CONF in muster_engine_env",
        "vLLM",
        ("gpu-topology",),
        LIKELY,
    ),
    Signature(
        "gpu-multicast",
        r"\bnvls\.cc\S* .{0,40}(?:[Cc]uda|CUDA) failure|cuMulticast\w+.{0,60}(?:fail|error)"
        r"|in the multicast team request|Device does not support multicasting"
        r"|Failed to bind NVLink SHARP|(?i:(?:nvls|nvlink|cuda|gpu).{0,60}multicast.{0,60}"
        r"(?:not supported|failed|error))"
        r"|(?i:(?<![a-z])imex).{0,80}(?:fail|not (?:running|configured|ready|found)|error)",
        "NVLink's multicast, or IMEX between nodes, does not work: the fabric manager or its"
        " channels are not in order",
        "restart nvidia-fabricmanager (nvidia-imex between nodes) and reset the GPUs;"
        " NCCL_NVLS_ENABLE: 0 in muster_engine_env does without",
        "NCCL issue 1788; NVIDIA fabric manager guide",
        ("gpu-fabric-manager",),
        LIKELY,
    ),
    # Faults of kernels.
    Signature(
        "gpu-memory-fault",
        r"Memory access fault by GPU node|amdgpu.{0,80}(?:page fault|PROTECTION_FAULT)"
        r"|HSA_STATUS_ERROR_(?:MEMORY_\w+|EXCEPTION|ILLEGAL_\w+)\b"
        r"|(?i:hip (?:error|failure).{0,12} )(?:'?an illegal memory access"
        r"|'?unspecified launch failure)|hipError(?:IllegalAddress|LaunchFailure)"
        r"|\[gfxhub\d*\] (?:no-retry )?page fault|VM_L2_PROTECTION_FAULT",
        "a kernel read or wrote outside its memory, with AITER's fused MoE often that one",
        "start with VLLM_ROCM_USE_AITER_MOE=0 in muster_engine_env, or fewer"
        " max-num-batched-tokens; then another engine version",
        "ROCm; vLLM issue 43605; AITER issue 2187",
        rank=LIKELY,
    ),
    Signature(
        "gpu-kernel-fault",
        r"(?:CUDA error: |cudaError\w*: ?|Triton Error \[\w+\]: |(?:[Cc]uda|CUDA) (?:driver )?"
        r"(?:failure|error).{0,12} '?)(?:an illegal memory access|unspecified launch failure"
        r"|misaligned address|an illegal instruction|device-side assert|hardware stack error"
        rf"|invalid program counter|the launch timed out)|{_XID}(?:13|31|32|43|69)\b"
        r"|(?i:cutlass)\b.{0,60}Error Internal"
        r"|failed (?:with error(?: code)?|launch)\W{1,3}(?:an illegal memory access"
        r"|unspecified launch failure|misaligned address)"
        r"|(?:cudaError|CUDA_ERROR_)(?:IllegalAddress|ILLEGAL_ADDRESS|LaunchFailure|LAUNCH_FAILED"
        r"|MisalignedAddress|MISALIGNED_ADDRESS|IllegalInstruction|ILLEGAL_INSTRUCTION|Assert\b"
        r"|LaunchTimeout|LAUNCH_TIMEOUT|HardwareStackError|HARDWARE_STACK_ERROR)"
        r"|\bWarp (?:Illegal|Misaligned|Out-of-range|Assert)",
        "a kernel read or wrote outside its memory: a fault of the engine for this GPU,"
        " quantisation or shape",
        "another MoE or attention backend in muster_engine_args, or another engine version; where"
        " one GPU alone does it, look at its health",
        "CUDA errors 700, 716, 715, 710 and 719; NVIDIA Xid 13, 31, 32, 43 and 69; vLLM issue"
        " 35566",
        ("gpu-health",),
        LIKELY,
    ),
    # Docker and the toolkits.
    Signature(
        "cdi-device",
        r"(?i)unresolvable CDI device|CDI device injection failed|failed to inject CDI"
        r"|could not select device driver \"cdi\"|failed to fulfil mount request: "
        r"|failed to stat CDI host device"
        r"|cannot stat `[^`]*(?:nvidia|cuda)[^`]*\.so",
        "no CDI specification on this node names the GPU, or it names a device node that is gone",
        f"nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml after each change of driver;"
        f" {PREPARE} does so",
        "Docker and Podman; NVIDIA container toolkit",
        ("gpu-toolkit",),
    ),
    Signature(
        "cdi-specification",
        r"(?i)failed to parse CDI|invalid CDI spec|conflicting (?:CDI )?device \S+ \(specs"
        r"|failed to (?:load|read) CDI spec|CDI .{0,80}unsupported (?:CDI )?version",
        "a CDI specification of this node is broken, written for a newer runtime, or there twice",
        "keep one of those in /etc/cdi and /var/run/cdi, and write it anew: nvidia-ctk cdi generate"
        " --output=/etc/cdi/nvidia.yaml",
        "CDI; NVIDIA container toolkit",
        ("gpu-toolkit",),
        explains=("cdi-device",),
    ),
    Signature(
        "gpu-toolkit",
        r"could not select device driver|unknown or invalid runtime name: nvidia"
        r"|unknown flag: --gpus|[Uu]nknown runtime specified nvidia"
        r"|no runtime for \"nvidia\" is configured"
        r"|nvidia-container-(?:runtime|cli|toolkit)\S*:"
        r" (?:executable file )?(?:not found|no such file)"
        r"|exec: \"(?:\S*/)?nvidia-(?:container-|ctk|cdi-hook)[\w-]*\"",
        "Docker cannot give a container GPUs: the vendor's container toolkit is not there or not"
        " made known to it",
        f"install nvidia-container-toolkit, then {PREPARE}",
        "Docker, NVIDIA container toolkit",
        ("gpu-toolkit",),
        likely=r"[Ii]f this is a GPU node, did you (?:set|configure)",
        explains=("docker-down",),
    ),
    Signature(
        "toolkit-configuration",
        r"nvidia-container-cli\.\w+ value|is not host-relative"
        # The root of the driver that the configuration names.
        r"|nvidia-container-cli(?:\.real)?: initialization error: change root failed"
        r"|ldcache error: open failed: \S*/ldconfig"
        r"|nvidia-container-runtime/config\.toml"
        r".{0,120}(?:invalid|pars|load|toml)|(?:unable|failed) to load config.{0,80}nvidia",
        "the container toolkit does not take its configuration",
        "correct /etc/nvidia-container-runtime/config.toml, or write it anew: nvidia-ctk config"
        " default --output=/etc/nvidia-container-runtime/config.toml",
        "NVIDIA container toolkit issue 830",
        ("gpu-toolkit",),
    ),
    Signature(
        "gpu-runtime-mode",
        r"invoking the NVIDIA Container Runtime Hook directly",
        "the container toolkit works in CDI mode, where --gpus is refused",
        f"{PREPARE}: units name their devices by CDI; by hand, --runtime=nvidia in place of --gpus",
        "NVIDIA container toolkit",
        ("gpu-toolkit",),
    ),
    Signature(
        "driver-files-in-image",
        r"mount error: file creation failed: .{0,400}file exists",
        "the image holds driver files of its own where the toolkit mounts the node's",
        "take an image without them (built without --gpus), or remove them in one of your own",
        "NVIDIA container toolkit",
    ),
    Signature(
        "gpu-cgroup",
        r"failed to add device rules|devices\.allow: (?:operation not permitted|no such file"
        r"|permission denied)"
        r"|cgroup subsystem devices not found|bpf_prog_(?:query|load|attach)",
        "the container toolkit cannot set the device rules of this node's cgroups",
        "install a nvidia-container-toolkit that knows cgroup v2, or use CDI",
        "NVIDIA container toolkit issue 251",
        ("container-engine-cgroup", "gpu-toolkit"),
    ),
    Signature(
        "toolkit-privilege",
        r"nvidia-container-cli(?:\.real)?: (?:permission error|\w+ error: (?:privilege"
        r"|capability) change"
        r" failed)"
        r"|container error: open failed: /proc/\d+/ns/\w+: (?:permission|operation not)",
        "the container toolkit lacks the rights that it sets a container up with: a container in a"
        " container, or rootless Docker",
        "run Docker as root on the node itself, or use CDI (no-cgroups = true in"
        " /etc/nvidia-container-runtime/config.toml for rootless Docker)",
        "NVIDIA container toolkit",
        ("gpu-toolkit",),
        LIKELY,
    ),
    Signature(
        "image-requirement",
        r"requirement error: (?:invalid expression|could not parse)",
        "what the image asks of the driver (NVIDIA_REQUIRE_CUDA and its kin) is nothing that the"
        " container toolkit understands",
        "set NVIDIA_DISABLE_REQUIRE: 1 in muster_engine_env, where the driver is new enough; or a"
        " newer nvidia-container-toolkit",
        "NVIDIA container toolkit",
        ("gpu-toolkit", "image-requirement"),
    ),
    Signature(
        "gpu-driver-replaced",
        r"mount operation failed: \S*(?:/proc/driver/nvidia/|\blib(?:nvidia|cuda|nvcuvid)"
        r"|/firmware/)"
        r"\S*: no such file"
        r"|nvidia_driver_[\d.]+: no such volume",
        "the GPU driver was changed under a running Docker, which still gives containers the"
        " earlier one's files",
        "restart Docker on the node, then make the container anew: start its unit again",
        "NVIDIA container toolkit issue 169; nvidia-docker issue 493",
        ("gpu-driver-loaded", "gpu-toolkit"),
        LIKELY,
    ),
    Signature(
        "gpu-hook",
        r"nvidia-container-cli(?:\.real)?: \w+ error(?!: (?:(?:stat|open) failed: /dev/nvidia"
        r"|nvml error: (?:insuff|gpu access)))"
        r"|executing hook `\S*nvidia-|running \w+ hook #\d.{0,300}(?:update ldcache|create symlink)"
        r"|nvidia-(?:cdi-hook|ctk|container-runtime-hook)\b.{0,20}"
        r"\(exit (?:code|status)|nvidia-container-runtime did not terminate successfully",
        "the container toolkit could not give the container its GPUs; the words behind say why",
        "nvidia-container-cli -k -d /dev/tty info on the node says more",
        "NVIDIA container toolkit",
        ("gpu-toolkit", "gpu-tool"),
        SYMPTOM,
        explains=("container-start",),
    ),
)
