# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of the node: memory, limits, files and devices."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    LIKELY,
    PREFLIGHT,
    SYMPTOM,
    Signature,
)

_DEVICES = r"/dev/(?:davinci|devmm_svm|hisi_hdc|kfd|dri|nvidia)"

SIGNATURES = (
    # Memory and limits.
    Signature(
        "node-memory",
        r"(?i)out of memory: kill(?:ed)? process|\boom_kill events?\b|killed by the OOM killer"
        r"|result 'oom-kill'"
        r"|\boom-kill:constraint=|invoked oom-killer|oom_reaper: reaped|\bkilled process \d+ \("
        r"|\boom-killed\b"
        r"|(?:cudaHostAlloc|hipHostMalloc|pinned memory)\b.{0,60}out of memory"
        r"|memory cgroup out of memory|\bOOMKilled\b(?!\W{1,4}false)"
        r"|DefaultCPUAllocator: (?:can't|not enough)"
        r"|ray\.exceptions\.OutOfMemoryError|node running low on memory|due to memory pressure"
        r"|\bEE1013\b|host memory has been exhausted"
        r"|unable to mmap \d+ bytes.{0,300}Cannot allocate memory"
        r"|Unable to allocate \S+ [GMT]iB for|fork(?:/exec \S+)?: cannot allocate memory"
        r"|and no killable processes"
        r"|Not enough host memory (?:available|for (?!request))|earlyoom.{0,80}sending sig"
        r"|systemd-oomd.{0,80}killed",
        "the node ran out of memory, and the kernel ended the engine or refused it more",
        "see with free -h what else runs there; weights are read through the node's memory",
        "kernel; systemd",
        ("host-memory",),
        likely=r"\[Errno 12\] Cannot allocate memory|\bENOMEM\b|\(os error 12\)|\bMemoryError\s*$"
        r"|page allocation failure: order"
        r"|\b(?:mmap|mlock|malloc)\w*(?:\(\))? failed.{0,40}Cannot allocate memory",
        explains=("worker-killed",),
    ),
    Signature(
        "worker-killed",
        r"line \d+:\s+\d+ Killed\b|fatal error: Killed signal|(?:^|[\]\s])Killed\s*$|(?i:(?:exit"
        r"|return) ?code\W{1,6}-9\b)"
        r"|signal 9\b|(?:killed|terminated) by signal:? ?SIGKILL|\(SIGKILL\) received"
        r"|status=9/KILL|status=137/|[Ee]xited \(137\)"
        r"|(?<![0-9a-f]{12} )exit(?:ed)?(?: with)?(?: status| code)?:? 137\b"
        r"|Failed core proc\(s\): \{[^}]*: -9\b"
        r"|(?:died|exited|failed|terminated) with (?:exit )?code:? -9\b"
        r"|(?:died|killed|terminated) (?:with|by)(?: signal)?:? SIGKILL",
        "a process of the engine was ended from outside, most often by the kernel for want of"
        " memory",
        "look at dmesg and free -h on the node; the other units only follow",
        "vllm-ascend issue 10911; SGLang issue 15235",
        ("host-memory",),
        LIKELY,
        late=True,
    ),
    Signature(
        "security-policy",
        r"avc: {1,2}denied|/attr/keycreate: permission denied|apparmor=\"DENIED\""
        r"|\blsetxattr\b.{0,300}(?:not supported|not permitted)|\brelabel failed\b"
        r"|SELinux is preventing|(?i:apparmor .{0,80}(?:denied|could not be loaded|failed to apply)"
        r"|\bseccomp\b.{0,60}(?:denied|fail))|pthread_create failed.{0,60}Operation not permitted"
        r"|(?:[gs]et_mempolicy|mbind|move_pages|unshare|clone3?|io_uring_\w+|pidfd_\w+"
        r"|ibv_\w+)\b.{0,40}Operation not permitted",
        "a security rule of the node (SELinux, AppArmor, Docker's seccomp profile) refuses the"
        " container a call or a file",
        "the line names it: admit it in the policy, or security_opt in the container of an own"
        " recipe; an old Docker's seccomp profile refuses clone3",
        "kernel; audit",
        rank=LIKELY,
    ),
    Signature(
        "thread-limit",
        r"(?i)fork: (?:retry: )?resource temporarily unavailable|pthread_create failed"
        r"|can't start new thread|thread creation failed|fork rejected by pids controller"
        r"|unable to create (?:new )?(?:native )?thread|failed to create new os thread"
        r"|fork:? .{0,30}resource temporarily unavailable|RLIMIT_NPROC \d+ current",
        "the limit of processes and threads is reached",
        "raise --pids-limit of the container, TasksMax of the service or ulimit -u; fewer"
        " OMP_NUM_THREADS",
        "kernel, EAGAIN",
        ("host-limits",),
        likely=r"what\(\): .{0,30}[Rr]esource temporarily unavailable"
        r"|System unable to allocate necessary resources for OMP thread",
    ),
    Signature(
        "map-limit",
        r"\bmax_map_count\b.{0,60}(?i:too low|limit|exceed|increas|rais|at least)"
        r"|(?i:limit|exceed|increas|rais|check|low).{0,60}\bmax_map_count\b",
        "the limit of memory maps of a process is reached or too low",
        "raise vm.max_map_count on the node: sysctl vm.max_map_count=1048576, and in /etc/sysctl.d",
        "kernel, ENOMEM of mmap",
    ),
    Signature(
        "cpu-binding",
        r"CPUs available in 'Cpus_allowed_list' conflict|Insufficient CPUs for binding"
        r"|The number of CPUs is insufficient\. Each NPU|\bNPU\d* got too few CPUs"
        r"|no NUMA node available\. Please check|NUMA index \d+ .{0,80}is out of range for"
        r"|(?:sched|pthread)_setaffinity\w*.{0,60}(?:Invalid argument|fail)"
        r"|exceeds numa_bind_\w+ size|numactl is required for NUMA binding"
        r"|libnuma: .{0,60}(?:out of range|parse error|not allowed)"
        r"|taskset: failed to set|numactl: .{0,80}(?:invalid|not available|out of range)",
        "a process cannot be bound to the processors or memory that it is to use: the container or"
        " the machine has others, or fewer",
        "take cpuset options off the container and OMP_PROC_BIND out of muster_engine_env, or turn"
        " the engine's own binding off (vllm-ascend: enable_cpu_binding in additional-config;"
        " SGLang: numa-node)",
        "vllm-ascend pull request 11307; libnuma; kernel, EINVAL of sched_setaffinity",
        rank=LIKELY,
    ),
    Signature(
        "inotify-limit",
        r"(?i)inotify\w*.{0,80}(?:no space left|limit|too many open)"
        r"|too many open files.{0,40}inotify",
        "the limit of inotify watches or instances is reached",
        "raise fs.inotify.max_user_watches and max_user_instances with sysctl on the node",
        "kernel, inotify",
    ),
    Signature(
        "open-files",
        r"(?i)too many open files|received 0 items of ancdata|\bfile-max limit \d+ reached",
        "the limit of open files is reached",
        "raise LimitNOFILE of the service or --ulimit nofile of the container",
        "kernel, EMFILE; torch",
        ("host-limits",),
    ),
    Signature(
        "rlimit-refused",
        r"(?i)error setting rlimits?\b|setrlimit.{0,60}not permitted|cannot modify limit",
        "a limit that the container asks for is above what Docker's own service may give",
        "raise it in Docker's service (systemctl edit docker: LimitMEMLOCK, LimitNOFILE), or lower"
        " it in the container of an own recipe",
        "runc",
        ("host-limits",),
    ),
    Signature(
        "hugepages",
        r"(?i)\bhuge_?(?:page|tlb)s?\b.{0,80}(?:fail|cannot|not enough|insufficient|unable|out of)",
        "the node has no huge pages left that something asks for",
        "see HugePages_Free in /proc/meminfo; raise vm.nr_hugepages, or end what holds them",
        "kernel",
        ("host-hugepages",),
        LIKELY,
    ),
    # The machine.
    Signature(
        "node-hardware",
        r"(?i)due to hardware memory corruption|uncorrected (?:hardware )?memory error"
        r"|\bEDAC\b.{0,120}(?:\bUE\b|uncorrect)|hardware error\b.{0,80}\b(?:fatal|uncorrected)\b"
        r"|(?:AER|PCIe Bus Error): .{0,60}(?:uncorrect\w* \(?fatal|severity=(?:fatal|uncorrect))",
        "the node's memory, processor or PCIe met an error that it could not correct",
        "read dmesg and the board's event log (ipmitool sel list); take the node out of service"
        " until the part is replaced",
        "kernel, EDAC, MCE and AER",
        likely=r"\bAER: (?:can't recover|device recovery failed)|\bDPC: (?:containment event"
        r"|unmasked uncorrectable)",
    ),
    Signature(
        "kernel-hang",
        r"\btask \S+ blocked for more than \d+ seconds|(?i:\b(?:soft|hard) lockup\b)"
        r"|\brcu\w*:? .{0,40}detected .{0,20}stall|Kernel panic - not syncing|\bkernel BUG at\b"
        r"|\bBUG: (?:unable to handle (?:kernel|page)"
        r"|kernel NULL pointer)",
        "the node's kernel hangs: a task waits for a disk, a network file system or a driver, or a"
        " processor is stuck",
        "the stack below the line in dmesg says in which part; reboot the node",
        "kernel",
        rank=SYMPTOM,
    ),
    # systemd.
    Signature(
        "unit-setup",
        r"status=(?:2(?:0[0-24-9]|1\d|2\d|3\d|4\d))/[A-Z_]+"
        r"|Failed at step (?!EXEC)[A-Z_]+ spawning|Failed to load environment files"
        r"|: Failed to (?:set up (?:mount namespacing|standard \w+|credentials)"
        r"|determine \w+ credentials|drop capabilities): "
        r"|Changing to the requested working directory failed"
        r"|: Failed to resolve (?:group|user) \S+: "
        r"|Unit \S+ (?:not found|is masked)|has a bad unit file setting"
        r"|Failed with result 'resources'"
        r"|(?:lacks both|has no) ExecStart|Service has .{0,80}Refusing\.",
        "systemd cannot set the service up: a folder, user, group, file or rule of its unit is not"
        " there; the word behind the slash says which",
        "read systemctl status of the unit; playbooks/serve.yml writes the unit anew",
        "systemd, exit statuses 200 to 245",
        ("host-writable",),
    ),
    Signature(
        "start-timeout",
        r"(?:[Ss]tart(?:-\w+)?|reload) operation timed out|Failed with result '(?:timeout"
        r"|watchdog)'"
        r"|Watchdog timeout \(limit",
        "the service did not start within systemd's time",
        "see what it waited for in the lines before; start_timeout_s of the recipe is the bound",
        "systemd",
        rank=SYMPTOM,
        explains=("worker-killed",),
    ),
    Signature(
        "unit-dependency",
        r"Dependency failed for|[Ff]ailed with result 'dependency'",
        "systemd did not start the service, as another one that it needs did not start",
        "systemctl list-dependencies of the unit names it; read that one's own journal",
        "systemd",
        ("container-engine",),
        SYMPTOM,
    ),
    Signature(
        "kernel-module",
        r"modprobe: FATAL: Module \S+ not found|(?:could not"
        r"|[Ff]ailed to) insert (?:module )?'?\S+: (?:Key was"
        r"|Required key|Exec format|Unknown symbol|Invalid (?:module|argument)|Operation not perm)"
        r"|disagrees about version of symbol|: Unknown symbol \w+ \(err"
        r"|version magic '.{0,120}should be"
        r"|[Ll]oading of module with unavailable key is rejected"
        r"|[Uu]nsigned module (?:loading )?is re(?:jected|stricted)|Loading of unsigned module"
        r"|dkms: autoinstall for kernel \S+ .{0,20}(?:failed|skipped)"
        r"|Error! (?:Bad return status for module build|Your kernel headers for kernel"
        r"|Build of \S+ failed|The dkms)",
        "a module of the kernel is missing for the running kernel, was built for another one, or is"
        " not signed as Secure Boot wants",
        "install the headers of uname -r and build the module anew (dkms autoinstall), reboot into"
        " the kernel that has it, or enroll its key (mokutil)",
        "kernel; DKMS",
        ("host-kernel",),
        LIKELY,
    ),
    # Files and devices.
    Signature(
        "device-permission",
        rf"{_DEVICES}.{{0,80}}(?i:permission denied|operation not permitted)"
        rf"|(?i:permission denied).{{0,80}}{_DEVICES}"
        r"|not (?:a )?member of .{0,30}\b(?:render|video)\b.{0,10} group|\bAMDSMI_STATUS_NO_PERM\b",
        "the engine's user must not open a device node",
        "see ls -l of it, and the container's group_add and user in the plan",
        "kernel, EACCES and, of a container's device rules, EPERM",
        ("device-node",),
    ),
    Signature(
        "device-absent",
        r"error gathering device information"
        r"|[Uu]nable to open /dev/kfd(?!.{0,60}(?:allocate|argument|busy|not permitted))"
        r"|no such device: .{0,40}/dev/"
        rf"|{_DEVICES}.{{0,80}}(?i:no such (?:file|device))"
        rf"|(?i:no such (?:file|device)).{{0,80}}{_DEVICES}",
        "a device node is not on this node, or not in the container",
        PREFLIGHT,
        "Docker; ROCm",
        ("device-node",),
    ),
    Signature(
        "read-only-fs",
        r"(?i)read-only file ?system|remounting filesystem read-only|\bEROFS\b|\(os error 30\)",
        "a path that the engine writes to is mounted read-only, or the file system turned read-only"
        " after an error",
        "mount it writable (muster_extra_mounts without :ro); dmesg tells of errors of a disk",
        "kernel, EROFS",
        ("host-writable",),
    ),
    Signature(
        "stale-nfs",
        r"(?i)stale (?:nfs )?file handle|\[Errno 116\]|\(os error 116\)",
        "a network file system was exported anew under the engine: its handles are stale",
        "mount it anew on the node, then start the unit again",
        "kernel, ESTALE",
    ),
    Signature(
        "file-system-lost",
        r"(?i)\[Errno (?:107|108|112|121)\]"
        r"|\[Errno 5\] input/output error: (?!'/dev/)|Transport endpoint is not connected"
        r"|(?<!\[Errno 5\] )(?<!standard output: )(?<!write error: )(?<!\d\) failed: )"
        r"\bInput/output error"
        r"|cannot send after transport endpoint shutdown"
        r"|(?:nfs|lockd): server \S+ not responding|NFS: state manager: .{0,80}failed"
        r"|(?<!syndrome )(?<!\w, syndrome \w{8}: )\bRemote I/O error|[Ss]tructure needs cleaning"
        r"|(?:Lustre(?:Error)?|mmfs\w*"
        r"|gpfs)\b.{0,120}(?:was lost|lost|unmounted|evicted|expelled)"
        r"|\b(?:EXT4-fs (?:error|warning .{0,80}I/O error)|attempt to access beyond end of device"
        r"|I/O error, dev|Buffer I/O error)|XFS\b.{0,60}(?:corruption|shut(?:ting)? ?down"
        r"|internal error|metadata (?:I/O|CRC) error|log I/O error|log mount(?:/recovery)? failed"
        r"|run xfs_repair|rectify the problem|device paths lost|writeback error)"
        r"|\bI/O Error \(sct\b"
        r"|\bBTRFS (?:critical|error) |\bbcachefs .{0,80}error|Aborting journal|aborted journal"
        r"|\bmd/raid\S* ?Disk failure|Medium Error|\bexception Emask\b|hostbyte=DID_(?!OK)"
        r"|previous I/O error to superblock|Removing after probe failure"
        r"|lost (?:async|sync) page write|pool I/O is currently suspended"
        r"|critical (?:medium|target) error|nvme\w*: (?:controller is down|Device not ready)"
        r"|Timed out waiting for device \S+\.device"
        r"|\bUnrecovered read error|\.mount: Mounting timed out"
        r"|\bnvme .{0,40}I/O .{0,30}timeout"
        r"|\[Errno 110\] Connection timed out: '/|\(os error (?:5|107|108|110|112|121)\)"
        r"|Lustre(?:Error)?: .{0,200}(?:-107|-108|-110)\b|CIFS: .{0,120}has not responded"
        r"|ceph: .{0,80}(?:hung|caps stale|session lost|blocklisted)"
        r"|error while creating mount source path .{0,200}file exists"
        r"|mount\.nfs4?: .{0,80}(?:timed out|refused|denied|no such (?!device))"
        r"|ceph mount failed with \(1\d\d\)",
        "a disk or network file system of the node does not answer",
        "look at dmesg and mount on the node; mount it anew, or replace the disk",
        "kernel, EIO and ENOTCONN",
        ("host-disk",),
    ),
    Signature(
        "mount-failed",
        r"wrong fs type, bad option, bad superblock|cannot be safely mounted by this kernel"
        r"|mount(?:\.\w+)?: .{0,120}(?:unknown filesystem type|special device .{0,80}does not exist"
        r"|mount point does not exist|permission denied|[Oo]peration not permitted|can't find in"
        r"|No such device)|mount\(2\) failed|mount\.\w+: mount .{1,200} failed: (?!Input/output"
        r"|Cannot send|Connection|Transport)|^cannot (?:mount|import) '[^']+': "
        r"|VFS: Can't find \w+ filesystem|EXT\d-fs \(\S+\): (?:error: bad|couldn't mount"
        r"|bad geometry)"
        r"|\bNFS mount failed\b|mount error(?:\(\d+\)| \d+ = )"
        r"|failed to mount local volume.{0,300}(?:refused|timed out|denied|invalid argument)"
        r"|ZFS modules? (?:are|is) not loaded"
        r"|unsupported (?:optional|read-only) features"
        r"|XFS \(\S+\): SB validate failed with error -22"
        r"|fuse: device not found|fusermount3?: .{0,80}(?:failed|not permitted|not found)"
        r"|bad option; for several filesystems|Mount process finished, but there is no mount"
        r"|mount\.nfs4?: No such device"
        r"|rpc\.statd is not running but is required|mount\.nfs4?: .{0,80}not supported",
        "a file system of the node cannot be mounted: no such file system on the device, a program"
        " or kernel module for it is missing, or its features are newer than the kernel",
        "mount it by hand and read dmesg; install what mounts it (nfs-common, zfs, lustre-client),"
        " which a container without CAP_SYS_ADMIN cannot do at all",
        "kernel; mount; ZFS",
        ("mount-source", "host-disk"),
        likely=r"\.mount: Mount process exited, code=exited,? status=[1-9]",
    ),
    Signature(
        "file-locks",
        r"(?i)no locks available|\[Errno 37\]|flock.{0,60}(?:not (?:supported|implemented)|failed)",
        "a network file system gives no file locks",
        "mount it with locks (nfslock, localflock on Lustre), or put caches (HF_HOME,"
        " TRITON_CACHE_DIR, VLLM_CACHE_ROOT in muster_engine_env) on a local disk",
        "kernel, ENOLCK",
        rank=LIKELY,
    ),
    Signature(
        "file-system-mmap",
        r"\bNo such device \(os error 19\)|\bmmap\w* .{0,80}\bNo such device\b",
        "the file system of the weights does not let files be mapped into memory",
        "keep the weights on another file system, or mount this one with what it needs for mmap",
        "kernel, ENODEV of mmap; safetensors issue 195",
        rank=LIKELY,
    ),
    Signature(
        "path-long",
        r"(?i)file name too long|AF_UNIX path too long|ipc path .{0,200}is longer than",
        "a path is longer than the kernel allows: sockets have 107 characters",
        "a shorter TMPDIR or VLLM_RPC_BASE_PATH in muster_engine_env",
        "kernel, ENAMETOOLONG; ZeroMQ",
    ),
    Signature(
        "disk-full",
        r"(?i)no space left on device|disk quota exceeded|\[Errno (?:28|122)\]"
        r"|\(os error (?:28|122)\)|kind: StorageFull|(?<!/)\bENOSPC\b|disk (?:is )?full"
        r"|(?:not enough|insufficient) (?:free )?disk space|is over \d\d% full, available space"
        r"|\bout-of-data-space\b|low on resource: ephemeral-storage|condition: \[DiskPressure\]",
        "a file system of the node is full",
        "df -h tells which: Docker's, /dev/shm, or that of the logs",
        "kernel, ENOSPC",
        ("host-disk", "host-shm"),
        # A thin pool without room fails what the file systems on it write.
        explains=("file-system-lost",),
    ),
    Signature(
        "file-permission",
        r"\[Errno 13\](?! error while attempting to bind)|\(os error 13\)"
        r"|(?i:\b(?<!netns dir )(?:open|stat|mkdir\w*|chdir|listen unix|cannot \w+"
        r"|failed to (?:create|remove)|filesystem error)\b.{0,160}"
        r": permission denied)"
        r"|(?:crun: |^(?:Error|ERRO\S*):? )(?:open|make|mkdir|chdir(?: to)?|creating (?:file"
        r"|directory)"
        r"|mount) [`'](?!/(?:sys|proc|dev)/).{0,400}[`'].{0,20}: Permission denied"
        r"|(?i:reason: permissi)|PermissionError at /|\bE(?:ACCES|PERM)\b: "
        r"|^(?:/\S*/)?(?:ba|da|z)?sh: .{0,160}: Permission denied",
        "the engine's user may not read or write a path",
        "the line names it: give that user the right, or another path; the user stands in the"
        " plan's container",
        "kernel, EACCES",
        ("mount-source", "host-writable"),
        likely=r"\[Errno 1\] Operation not permitted: '/",
        hint=r"problem when trying to write in your cache folder",
    ),
    Signature(
        "user-unknown",
        r"getpwuid\(\): uid not found|unable to find user \S+: no matching entries in passwd"
        r"|I have no name!",
        "the container's user has no entry in the image's /etc/passwd, so that it has no home",
        "take the user out of the container of an own recipe, or set HOME, USER and"
        " TORCHINDUCTOR_CACHE_DIR in muster_engine_env",
        "Python; Docker",
    ),
    Signature(
        "gpu-permission",
        r"(?i:\bnvml(?: error)?: insufficient permissions)|NVMLError_NoPermission"
        r"|GPU access blocked by the operating system",
        "the engine may not use the GPU: the modes of /dev/nvidia*, the container's user, or a rule"
        " of SELinux",
        "see ls -lZ of the device nodes and the audit log of the node",
        "NVML error 4; NVIDIA nvidia-docker issue 676",
        ("device-node",),
        SYMPTOM,
    ),
    # The loader goes on without the library, so the engine ends of something else.
    Signature(
        "preload",
        r"from LD_PRELOAD cannot be preloaded",
        "a library of LD_PRELOAD, jemalloc for one, is not in the image under that path",
        "name it without a path, or as it stands in the image, in muster_engine_env",
        "ld.so",
        rank=SYMPTOM,
    ),
)
