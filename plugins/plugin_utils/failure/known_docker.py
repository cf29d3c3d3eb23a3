# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of Docker and its images."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    LIKELY,
    PREFLIGHT,
    PREPARE,
    Signature,
)

_NETWORK = (
    r"(?:request canceled|Client\.Timeout|i/o timeout|connection refused|no such host"
    r"|server misbehaving"
    r"|network is unreachable|no route to host|failure in name resolution|TLS handshake timeout"
    r"|context deadline exceeded|\bEOF\b|connection reset by peer)"
)

SIGNATURES = (
    Signature(
        "mount-kind",
        r"Are you trying to mount a directory onto a file|error mounting \".{0,300}not a directory",
        "a path that the container mounts is a folder where a file is wanted, or the reverse:"
        " Docker makes a folder of a file that was missing",
        "remove the empty folder on the node and put the file in its place",
        "Docker",
        ("mount-source", "driver-mount"),
        likely=r"\[Errno 2[01]\] (?:Is|Not) a directory: '/",
    ),
    Signature(
        "mount-absent",
        r"bind source path does not exist|^(?:Error: )?statfs /\S+: no such file"
        r"|error mounting \"(?!cgroup2?\").{0,300}no such file or directory"
        r"|failed to mount local volume.{0,300}no such file or directory",
        "a path that the container mounts is not on this node",
        PREFLIGHT,
        "Docker",
        ("mount-source",),
    ),
    Signature(
        "image-architecture",
        r"(?i)exec format error|no matching manifest for \S+"
        r"|does not match the (?:detected host platform.{0,80}no specific|specified platform)",
        "the image is built for another processor than this node's",
        "take a tag that holds this architecture with muster_image",
        "kernel, ENOEXEC; Docker",
        ("host-arch",),
    ),
    Signature(
        "image-command",
        r"exec: \"(?!(?:\S*/)?(?:runc|crun|docker-|containerd-|nvidia-)[\w.-]*\")[^\"]+\":"
        r" (?:executable file not found|stat [^:]+: no such file)"
        r"|\bcrun: executable file [`'][^`']+[`'] not found"
        r"|Container command .{0,40}not found or does not exist|status=203/EXEC"
        r"|: Failed to execute \S+: (?:No such file|Permission)"
        r"|Executable \"[^\"]+\" not found in path"
        r"|Failed at step EXEC|exec: \"[^\"]+\": permission denied",
        "the program that the plan starts is not in the image or environment",
        f"another image with muster_image; for an environment, {PREPARE}",
        "Docker; systemd",
        likely=r"exit(?:ed)?(?: with)?(?: status| code)?:? 12[67]\b|status=12[67]/"
        r"|[Ee]xited \(12[67]\)"
        r"|(?<!fork/)exec \S+: (?:no such file|permission denied)|exec user process caused"
        r"|\b(?:vllm|sglang|python3?): (?:command )?not found|python[\d.]*: can't open file",
    ),
    Signature(
        "registry-plain",
        r"server gave HTTP response to HTTPS client"
        r"|first record does not look like a TLS handshake",
        "the registry speaks HTTP, and Docker was not told so",
        f"name it in muster_insecure_registries, then {PREPARE}",
        "Docker",
        ("container-engine",),
    ),
    Signature(
        "image-limit",
        r"(?i)\btoomanyrequests\b|(?:status code from registry|http status:|statuscode:) 429\b"
        r"|pull rate limit|/v2/.{0,300}\b429 too many requests",
        "the registry allows this address no more pulls for now",
        "log in, wait, or pull through muster_registry_mirrors",
        "Docker Hub",
    ),
    Signature(
        "image-auth",
        r"(?i)(?:daemon|/v2/|pull|registry|manifest|denied).{0,300}unauthorized: "
        r"|unauthorized: (?:authentication required|access to the req|incorrect user)"
        r"|(?:status code from registry|HTTP status:|StatusCode:) 40[13]\b"
        r"|/v2/\S*\"?: (?:unauthorized"
        r"|denied)\b|error from registry: (?:unauthorized|denied)|no basic auth credentials"
        r"|error getting credentials|\"docker-credential-\w+\""
        r"|(?<!repository does not exist or may require 'docker login': )denied: requested access"
        r"|(?:/v2/|manifests).{0,200}(?:401 unauthorized|403 forbidden|402 payment|: denied: )"
        r"|daemon: denied|daemon: authentication required|error storing credentials"
        r"|fetch (?:anonymous|oauth) token: unexpected status",
        "the registry wants a login for the image",
        "docker login on the node, whose clock must be right, then run playbooks/prepare.yml",
        "Docker",
    ),
    Signature(
        "registry-unreachable",
        rf"(?:/v2/(?!models|health|repository)|\bregistry(?!\.py\b)|docker\.(?:io|com)|quay\.io"
        rf"|ghcr\.io|nvcr\.io|httpReadSeeker|failed to copy: |failed to do request: "
        rf"|error pulling image configuration: )"
        rf".{{0,300}}{_NETWORK}|received unexpected HTTP status: 5\d\d"
        r"|(?:/v2/(?!models|health|repository)|manifests/).{0,200}: 50\d [A-Z]"
        r"|invalid status code from registry 5\d\d|unexpected status code 5\d\d"
        r"|unexpected status(?: code)? \S*/v2/\S+: (?:400|408|5\d\d)\b"
        r"|(?:fetching blob|reading manifest|pinging container registry).{0,300}StatusCode: 5\d\d"
        # A page of a mirror, proxy or login before the registry.
        r"|unexpected media type text/html|error parsing HTTP \d+ response body"
        r"|(?:daemon|/v2/|manifest|registry).{0,200}invalid character '<'",
        "the node does not reach the registry",
        "muster_proxy or muster_registry_mirrors, or see DNS, route and firewall of the node",
        "Docker",
        likely=r"net/http: TLS handshake timeout|^docker: unexpected EOF",
    ),
    Signature(
        "image-absent",
        r"manifest unknown|\b(?:MANIFEST|NAME)_UNKNOWN\b|name unknown: |pull access denied"
        r"|manifest for \S+ not found|(?:status code from registry|StatusCode:) 404\b"
        r"|repository does not exist"
        r"|\bunknown: (?:[Aa]rtifact|repository|project)\b.{0,160}not found"
        r"|failed to resolve (?:reference|source metadata).{0,200}: not found",
        "the registry has no image of that name and tag, or shows it to nobody without a login",
        "correct muster_image",
        "Docker",
        # Docker Hub says so of what is not there, too.
        likely=r"insufficient_scope: authorization failed"
        r"|reading manifest \S+ in \S+ requested access to the resource is denied",
    ),
    Signature(
        "image-name",
        r"invalid reference format|repository name must be lowercase"
        r"|did not resolve to an alias|short-name resolution enforced",
        "the image's name is not well formed",
        "correct muster_image: REGISTRY/NAME:TAG or NAME@sha256:DIGEST",
        "Docker",
    ),
    Signature(
        "docker-storage",
        r"(?i)error initializing graphdriver(?!: \w+: unknown option)"
        r"|contains several valid graphdrivers"
        r"|prior storage driver .{0,60}failed|storage[- ]driver\b.{0,60}(?:not supported|unknown)"
        r"|\boverlayfs: (?:filesystem on .{0,200}not supported|upper fs (?:does not|needs)"
        r"|missing 'lowerdir'|invalid argument|unrecognized mount option)|snapshotter not loaded"
        r"|failed to find snapshotter|does not support d_type|\bftype=1\b"
        r"|/var/lib/(?:docker|containerd|containers)/.{0,200}invalid cross-device link"
        r"|'?overlay\w*'? is not supported (?:over|on)\b|kernel does not support overlay"
        r"|prerequisites for driver not satisfied"
        r"|creating overlay mount to .{0,300}: invalid argument"
        r"|using mount program \S*fuse-overlayfs: "
        r"|backing file ?system is unsupported for this graph driver|driver not supported: \w*over"
        r"|database (?:configuration mismatch|graph driver .{0,60}does not match)"
        # What bbolt and SQLite say of a database that is cut off.
        r"|database disk image is malformed"
        r"|\bpanic: (?:invalid (?:page type|freelist page)|page \d+ already freed)"
        r"|invalid (?:page type|freelist page): \d+",
        "Docker, containerd or Podman cannot use its store: it holds data of another storage driver"
        " or of other folders, is damaged, or this kernel or file system does not carry the driver",
        "name the driver of the data in /etc/docker/daemon.json (storage-driver: overlay2), or move"
        " /var/lib/docker away onto ext4 or XFS with ftype=1, then restart Docker and run"
        " playbooks/prepare.yml; Podman: podman system reset",
        "Docker; containerd; Podman; kernel",
        ("container-engine",),
    ),
    Signature(
        "docker-held",
        r"opening volume store metadata database: timeout|: database is locked"
        r"|pid ?file found, ensure docker"
        r"|process with PID \d+ is still running|/containerd/.{0,120}: (?:context deadline|timeout)"
        r".{0,40}(?:bolt|meta\.db)|containerd is already running",
        "another Docker, containerd or Podman runs and holds the store's database, or one that"
        " ended left its file",
        "ps -ef for a second dockerd, a snap's or a container's for one, or a podman that hangs;"
        " end"
        " it, remove /var/run/docker.pid where none runs, then restart Docker",
        "Docker; containerd; Podman, SQLite",
        ("container-engine",),
    ),
    Signature(
        "docker-configuration",
        r"unable to configure the Docker daemon|[Rr]un 'dockerd COMMAND --help'"
        r"|[Ss]ee 'dockerd --help'"
        r"|[Ff]ailed to load TOML|[Ii]nvalid plugin config|unsupported config(?:uration)? version"
        r"|\b(?:containers|storage|registries)\.conf\b.{0,160}(?:toml|invalid|unmarshal|decod"
        r"|parse)"
        r"|/etc/containers/policy\.json: no such|unknown log opt|no log driver named"
        r"|error initializing graphdriver: \w+: unknown option|Please specify only one -H"
        r"|failed to initialize logging driver|directives (?:are specified both|don't match)"
        r"|(?i:failed to load listeners)|invalid character .{0,80}daemon\.json"
        r"|CRI v1 \w+ API is not implemented|unknown service runtime\.v1",
        "Docker, containerd or Podman does not take its configuration: /etc/docker/daemon.json is"
        " no valid JSON, sets what its service's command line sets, too, or what this version"
        " lacks",
        f"dockerd --validate names the line; correct the file, restart Docker, then {PREPARE}",
        "Docker; containerd; Podman",
        ("container-engine",),
    ),
    Signature(
        "image-broken",
        r"failed to register layer: (?!.{0,400}(?i:no space|input/output|read-only|not permitted"
        r"|denied))|filesystem layer verification failed"
        r"|layer does not exist|failed to extract layer (?!.{0,400}(?i:no space|input/output"
        r"|read-only|not permitted|denied))"
        r"|unexpected commit digest|failed (?:size|digest) validation|(?:error creating"
        r"|failed to mount) overlay|\b[Uu]nknown blob\b|\bBLOB_UNKNOWN\b|blob unknown to registry"
        r"|invalid tar header|content digest .{0,120}not found"
        r"|digest verification failed|wrong diff id|failed commit on ref|invalid checksum digest"
        r"|unpigz: .{0,60}corrupt|gzip: stdin: |tar: Unexpected EOF|flate: corrupt input"
        r"|parent snapshot \S+ does not exist"
        r"|/var/lib/(?:docker|containerd)/(?!\S*/merged/)\S+: (?:no such file or directory"
        r"|invalid argument|not a directory|file exists)"
        r"|could not fetch content descriptor .{0,120}not found",
        "a layer of the image came broken or is not in the registry, or Docker's store on this node"
        " is damaged",
        f"docker rmi the image and {PREPARE}; where it comes back, look at the disk below"
        " /var/lib/docker",
        "Docker; containerd",
        ("host-disk", "container-engine"),
        LIKELY,
    ),
    Signature(
        "image-not-pulled",
        r"Unable to find image|No such image|^Error: .{0,300}\bimage not known\b",
        "the image is not on this node",
        PREPARE,
        "Docker",
        rank=LIKELY,
    ),
    Signature(
        "container-name",
        r"[Tt]he container name \"[^\"]+\" is already in use",
        "a container of the unit's name is still there",
        "docker rm --force NAME on the node, then start the unit again",
        "Docker",
    ),
    Signature(
        "container-stuck",
        r"did not receive an exit event|is marked for removal and cannot be"
        r"|removal of container \S+ is already in progress"
        r"|\bPID \d+ is zombie and can not be killed"
        r"|(?:unable|failed) to remove (?:root )?filesystem\b"
        r"|cannot remove container .{1,120}: could not kill",
        "an earlier container can neither be ended nor removed: a process of it hangs in the kernel"
        " (GPU driver, network file system), or something holds its mounts",
        "look for processes in state D (ps) and at dmesg on the node; restart Docker, then reboot"
        " the node",
        "Docker",
        ("container-engine",),
        LIKELY,
    ),
    Signature(
        "container-peer",
        r"\blstat /proc/0/ns/|(?:link to|join \w+ of) a non running container"
        r"|joining \w+ namespace of container",
        "the container shares a network or namespace with another one that does not run",
        "start that one first, then this one; after it was made anew, make this one anew, too",
        "Docker; runc",
    ),
    Signature(
        "nested-container",
        r"error mounting \"(?:proc|sysfs)\" to rootfs.{0,120}(?:not permitted|denied)"
        r"|open sysctl \S+ file: .{0,120}permission denied",
        "Docker runs in a container itself, which may not do what this runc asks for",
        "run Docker on the node itself; in LXC, turn nesting on and renew LXC or its AppArmor"
        " profile",
        "runc; LXC",
        ("container-engine",),
        LIKELY,
    ),
    Signature(
        "probe-failed",
        r"failed (?:liveness|startup) probe, will be restarted",
        "Kubernetes ended the engine, which did not answer its probe in time: it still loaded, or"
        " hangs",
        "give the probe as long as loading takes (startupProbe: failureThreshold times"
        " periodSeconds); where it hangs, the engine's own lines say more",
        "Kubernetes",
        rank=LIKELY,
    ),
    Signature(
        "docker-permission",
        r"permission denied while trying to connect to the [Dd]ocker",
        "the user may not talk to Docker",
        "units run as root: look at the service file, and at become in the inventory",
        "Docker",
    ),
    Signature(
        "docker-down",
        r"Cannot connect to the Docker daemon|\bdocker: (?:command )?not found"
        r"|error during connect: .{0,200}docker"
        r"|(?:docker|containerd)\.sock\b.{0,80}(?:no such file|connection refused|connection error)"
        r"|[Ff]ailed to start (?:daemon|containerd): (?!.{0,60}(?:network controller|cgroup))"
        r"|[Ff]ailed to (?:connect to|dial) .{0,20}containerd\b"
        r"|timeout waiting for containerd to start"
        r"|\b(?:docker|containerd)\.service: (?:Start request repeated too quickly"
        r"|.{0,40}start-limit)"
        r"|grpc: .{0,80}containerd\S*\.sock",
        "Docker, or its containerd, does not run on this node",
        "look at systemctl status docker containerd and journalctl -u docker on the node",
        "Docker",
        ("container-engine",),
    ),
    Signature(
        "docker-network",
        r"[Ii]ptables failed|[Ff]ailed to create NAT chain|No chain/target/match by that name"
        r"|initializing network controller"
        r"|non-overlapping IPv4 address pool|Pool overlaps with other one"
        r"|daemon: network \S+ not found|unable to find network with name or ID"
        r"|address pools have been fully subnetted"
        r"|failed to (?:create|set up) (?:endpoint|container networking)"
        r"|failed programming external|Failed to (?:program NAT chain|[Ss]etup IP tables)"
        r"|(?:INVALID_ZONE|ZONE_CONFLICT): |could not find bridge \w+|slirp4netns.{0,40}failed"
        r"|\bpasta failed|\bnetns dir open: |\brootless net(?:ns|work namespace)\b"
        r"|rootlessport .{0,80}(?:cannot|fail|denied)|Failed to open(?:\(\))? /dev/net/tun"
        r"|plugin type=\"\w+\".{0,40}failed"
        r"|failed to find plugin \"\w+\" in path|[Cc][Nn][Ii] (?:network \"|config uninitialized"
        r"|plugin .{0,60}(?:not found|fail))|aardvark-dns .{0,60}fail"
        r"|netavark \(exit code \d|\bnetavark: \S"
        r"|\bnft\"? did not return successfully",
        "Docker's own network cannot be set up: a firewall was started anew after Docker and took"
        " its rules away, mostly",
        "systemctl restart docker on the node, then start the unit again",
        "Docker",
        ("container-engine",),
        LIKELY,
    ),
    Signature(
        "container-runtime",
        r"no runtime binary found|exec: \"\S*containerd-shim[\w-]*\":? (?:executable|stat|perm"
        r"|no such)"
        r"|fork/exec \S*/(?:(?:docker-)?runc|nvidia-container-runtime|crun|conmon"
        r"|containerd-shim[\w-]*): "
        r"|\bruntime \"\S+\" (?:binary not installed|not found)"
        r"|[Uu]nknown runtime specified (?!nvidia)"
        r"|unknown or invalid runtime name: (?!nvidia)|no valid executable found for OCI runtime"
        r"|\b(?:crun|runc): (?:unknown version specified|.{0,80}Function not implemented)"
        r"|no read access to runc binary|could not find a working conmon binary"
        r"|(?:crun|runc): unknown (?:flag|option|command)"
        # Go runs no program of the working directory, and Linux none that was replaced.
        r"|(?:shim|runc|crun|conmon)\b.{0,80}resolves to executable in current directory"
        r"|fork/exec \S+ \(deleted\): no such file"
        r"|error adding seccomp filter rule",
        "the program that starts containers (runc, crun, conmon, a shim) is not there, may not be"
        " read, or does not fit Docker, Podman or the kernel",
        f"install it from the same packages as Docker or Podman, then {PREPARE}",
        "runc; crun; Podman; NVIDIA container toolkit",
        ("container-engine",),
    ),
    Signature(
        "user-namespace",
        r"(?i)cannot set ?up namespace using \S*new[ug]idmap|new[ug]idmap: (?:open of|write to) "
        r"|insufficient UIDs or GIDs available in user namespace"
        r"|not be enough IDs available in the namespace|cannot re-exec process"
        r"|re-exec process to join the existing user"
        r"|try resetting the pause process|cannot clone: operation not permitted"
        r"|mounting \"devpts\" to rootfs .{0,80}invalid argument|mount `devpts` to .{0,80}invalid",
        "rootless Docker or Podman has no namespace of the user's ids: /etc/subuid and /etc/subgid"
        " do not give enough of them, newuidmap has lost its rights, the kernel admits none, or"
        " the process that kept it (Podman's pause process) is gone",
        "give the user 65536 ids in both files, then podman system migrate; reinstall uidmap or"
        " shadow-utils; or run it as root",
        "Podman issues 12637 and 20336; shadow",
    ),
    Signature(
        "podman-locks",
        r"exceeded num_locks|acquiring lock \d+ for (?:container|volume|pod) "
        r"|allocating lock for new \w+: (?:no space|allocation failed)"
        r"|failed to open \d+ locks in /libpod",
        "Podman has no lock left for another container or volume, or another number than it is set"
        " to",
        "podman container prune and podman volume prune; or raise num_locks in containers.conf,"
        " then podman system renumber",
        "Podman issues 5136, 16119 and 27093",
    ),
    Signature(
        "container-memory",
        r"\bmemory\.(?:limit_in_bytes|memsw\.limit_in_bytes|max|swap\.max)\b.{0,80}(?:busy|invalid)"
        r"|Minimum memory limit allowed|unable to set memory limit to \d"
        r"|memory limit (?:could be|may be|is) too low",
        "the container's limit of memory is lower than what it needs to start in",
        "raise or remove it in the container of an own recipe, or in MemoryMax of the service",
        "runc issue 2736",
    ),
    Signature(
        "container-cgroup",
        r"(?i)unable to apply cgroup config|failed to (?:create|realize|attach to) cgroups?\b"
        r"|cgroup mountpoint does not exist|no cgroup mount found"
        r"|(?:applying|setting) cgroup config|cgroup-parent for systemd cgroup should be"
        r"|\bcgroup\.(?:subtree_control|procs"
        r"|controllers)\b.{0,80}"
        r"(?:no such file|not supported|permission denied|invalid|busy)"
        r"|cgroups?: .{0,80}(?:no such file|not supported|permission denied)"
        r"|/sys/fs/cgroup/\S+: no space left"
        r"|unable to start unit \"docker-|/sys/fs/cgroup\S*: (?:invalid argument"
        r"|operation not permitted|permission denied|device or resource busy"
        r"|numerical result out of range)|openat2 /sys/fs/cgroup|\bcgroup (?:isn't|is not) mounted"
        r"|requested cgroup controller \S+ is not available"
        r"|systemd support for managing cgroups is not|no systemd user session"
        r"|/sys/fs/cgroup.{0,120}denied"
        r"|creating cgroup directory\b|writing file [`'](?:cpu|cpuset|hugetlb|io|memory|pids)\.\w+"
        r"|\bsd-bus (?:call|open|add match|match|message \w+): |error creating systemd unit"
        r"|error mounting \"cgroup2?\" to rootfs|mounting \"cgroup2?\" to rootfs .{0,40}caused",
        "Docker cannot set up the container's cgroup: systemd and Docker differ in its version or"
        " driver",
        "native.cgroupdriver=systemd in /etc/docker/daemon.json, then restart Docker; or reboot",
        "runc",
        ("container-engine-cgroup",),
        LIKELY,
    ),
    Signature(
        "docker-old",
        r"client version \S+ is too (?:old|new)|API version .{0,40}(?:is too (?:old|new)|required)"
        r"|requires API version|unknown flag: --\w|Unsupported config option for"
        # What Compose says of options for GPUs that it does not know yet.
        r"|\('(?:devices|gpus|runtime|device_ids|capabilities|driver)' w(?:as|ere) unexpected\)"
        r"|[Aa]dditional propert(?:y|ies) '?(?:devices|gpus|runtime)\b.{0,20}not allowed"
        # Formats of images that it does not know yet.
        r"|daemon: missing signature key"
        r"|(?:unsupported|unknown) media ?type\b.{0,20}application/vnd"
        r"|mediaType in manifest should be"
        # Without CDI, the name of a device is taken for a path.
        r"|\bstat (?:nvidia|amd)\.com/gpu\S*: no such file"
        r"|adding custom device \"(?:nvidia|amd)\.com/",
        "Docker on this node, its client or Compose is of a version that does not fit",
        f"{PREPARE} with a newer Docker on the node",
        "Docker",
        ("container-engine-version",),
    ),
    Signature(
        "container-options",
        r"cannot set both Count and DeviceIDs|NanoCPUs can not be set|Range of CPUs is from"
        r"|invalid (?:publish opts|volume specification|containerPort)|[Cc]onflicting options: "
        r"|[Aa]dditional propert(?:y|ies) '?.{1,60} (?:is |are )?not allowed"
        r"|mount destination \S+ (?:is )?not absolute|value '?\S+ does not match any of the regexes"
        r"|refers to undefined (?:network|volume|config|secret)|invalid interpolation format"
        r"|has neither an image nor a build context"
        r"|invalid characters for a local volume name|daemon: invalid mode: ",
        "Docker or Compose refuses an option of the container; the line names it",
        "correct it in the container of an own recipe, or in the file that Compose reads",
        "Docker; Docker Compose",
        likely=r"yaml: line \d+: ",
    ),
)
