# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of what the engine was given: its arguments, and memory for them."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    CONFIGURATION_FRAME,
    LIKELY,
    RECIPE_IMAGE,
    Signature,
)

_LOWER = (
    "lower gpu-memory-utilization (SGLang: mem-fraction-static) or max-model-len, or capture fewer"
    " graphs, in muster_engine_args"
)

_LARGE, _SMALL = r"(?:[4-9]\d|\d{3})\.\d+ GiB", r"(?:1?\d\.\d+ GiB|[\d.]+ MiB)"

_ARCHITECTURE = (
    r"(?:\b[Ss][Mm][_ ]?\d\d|\bgfx\d|compute capability|\b(?:Hopper|Blackwell|Ampere|CDNA|RDNA)\b)"
)

_FORMAT = (
    r"\b(?:[Mm][Xx][Ff][Pp]\d|NVFP4|FP8|INT[48]|W\d+A\d+\w*|WNA\d+|AWQ|GPTQ"
    r"|[Cc]ompressed[ -][Tt]ensors|ModelOpt|Quark|Marlin|OCP MX|[Bb]its?[Aa]nd[Bb]ytes|GGUF"
    r"|TorchAO|HQQ)\b"
)

# How an engine refuses its configuration: an exception without a class of its own, and words that
# are said of a setting, not of a request.
_RAISED = (
    r"(?:Value|Assertion|NotImplemented|Type|Runtime)[Ee]rror[:,] "
    # Nor of what the engine holds of one while it serves.
    r"(?!m(?:ax|in)_tokens|(?:request_id|mm_hashes|query_start_loc|num_new_tokens)\b"
    r"|.{0,240}\b(?:pip|uv|conda|apt-get) install)"
)
_SETTING = (
    r"[`'\"]?(?:\w+_(?:size|rank|len|tokens|seqs|fraction)\b|nnodes\b"
    r"|\w+_\w+[`'\"]?(?: ?\([^)]{0,40}\)|=\S+|\[\S+\])? (?:entries |values |keys )?"
    r"(?=must(?! be called)|cannot|can only|can contain|requires|has to|needs"
    r"|should (?:be (?!a torch)|contain|match|not be)))"
)
_FEATURE = (
    r"(?:Model Runner|CUDA ?graph|cudagraph|specul|prefix cach|pipeline|MoE|LoRA|EPLB"
    r"|context parallel|chunked|expert|tensor|data[ -]parallel|all2all|offload|sleep|async"
    r"|external|multi-?modal)"
)
_REFUSALS = (
    # A flag that is named.
    r"(?<![\w-])--[a-z][a-z0-9]*-[\w-]+",
    # Two settings that do not go together.
    r"mutually exclusive",
    r"can't work (?:at|with|together)|incompatible with",
    r"not (?:yet |currently )?(?:compatible|supported) (?:with|unless|when|together"
    r"|in combination)",
    r"cannot be (?:used|enabled|set|combined) (?:with|together|in|when)",
    r"[Cc]annot (?:use|set|specify|enable) (?:both|more than one|multiple)",
    r"\b[Oo]nly one of|[Cc]hoose one of",
    r"[Rr]unner backend \S+ requires",
    r"with .{0,60}is not (?:yet )?implemented",
    r"not applicable (?:in|to|when)",
    # One that needs another, or a part of the engine or model that is not there.
    r"requires? (?:.{0,12}--\w|[\w.]+ ?=|[\w.-]+ to be (?:set|enabled|[Tt]rue))",
    rf"(?:requires|do(?:es)? not (?:yet )?support|only supports?"
    rf"|supports only) .{{0,60}}{_FEATURE}",
    r"[Cc]urrently,? only supports?",
    r"\brequired for .{0,60}but got\b",
    r"(?:was|is) (?:not )?(?:provided|set)\b.{0,60}\bbut\b",
    r"\b[Ee]xpected both \w+ and \w+ to be provided",
    r"which is incompatible\.?$|should be set as the default",
    r"must be (?:set|specified|provided|enabled|disabled) (?:when|if|with|to|for)",
    r"must be greater than 0 when",
    r"to be greater than zero|cannot both be|\b[Ii]nvalid \w+_\w+ .{0,60}must be one of",
    r"[`'\"]\w+_\w+[`'\"] (?:must|can only|has to|is not a valid (?:argument|config|key|option))",
    r"only (?:valid|applicable|supported|available|works|be set) (?:with|when|for|if|on)",
    r"not yet supported\b",
    r"not (?:yet )?supported (?:on|in|for|by) (?:the |this )?(?:current|model|config|arch|V\d)",
    r"(?:dense|[Nn]on-MoE) models",
    # A value that is none of those that it takes.
    r"(?:[Uu]nknown|[Uu]nsupported|[Ii]nvalid) (?:kv[_ ]?cache|speculative|cuda ?graph"
    r"|load[_ ]format|scheduling|expert placement|cache mode|custom op|executor"
    r"|all2all|distributed|(?:KV )?connector)\w*",
    r"Unsupported number of EP ranks|Unexpected extra config keys|No tokenizer registered for",
    r"(?:[Uu]nknown|[Uu]nsupported|[Ii]nvalid) (?:model )?dtype\b",
    # A draft model that does not go with its target.
    r"[Tt]arget and draft models?\b|\bdraft model\b.{0,80}(?:should|must) (?:have|match|be)",
    # Ranks and devices that do not come out even.
    r"must be a multiple of .{0,60}\b(?:size|devices|ranks|node)|must evenly divide the",
    r"[Ww]orld[ _]size .{0,40}is (?:smaller|larger|less|greater) than",
    r"already initialized, but of unexpected size",
    r"(?:[Uu]nknown|[Uu]nsupported|[Ii]nvalid) .{1,120}(?:[Ee]xpected one of|[Cc]hoose"
    r"|(?:[Ss]upported|[Vv]alid|[Aa]vailable|[Kk]nown) \w+(?: are\b| is\b|:))",
    r"(?:Valid|Supported) (?:values|options|modes|layouts|tasks) ?(?:are)?",
    r"connector .{0,60}(?:not registered|not found)",
    r"must encode to|[Cc]ould not locate .{0,60}tokens?(?: '[^']{1,40}')? in the"
    r" tokenizer|[Dd]etected .{0,12}Mistral ?[Tt]okenizer\b.{0,20}when using",
    r"Too large swap space|\bEPLB (?:is )?not (?:yet )?supported",
    r"\bmust divide\b|LoRA rank .{0,20}is greater than|exceeds the maximum supported",
    # What the operator is asked for.
    r"[Pp]lease (?:adjust|lower|raise|increase|decrease|reduce|disable|enable|set|change|check"
    r"|specify|provide) [`']?(?!max_tokens)\w+_\w+",
    r"[Pp]lease enable .{0,60} when",
    r"[Pp]lease make sure `?\w+_\w+",
    r"\bPD (?:peers|[Dd]isagg\w*)\b.{0,60}(?:NOT support|must)",
    r"\b(?:[Oo]r|[Pp]lease|[Tt]ry) (?:set|use|pass)(?:ting|ing)? `?\w+_\w+`? ?=",
    r"[Pp]lease (?:set|use|specify|provide|remove|unset|disable|enable|omit) .{0,12}--",
)
# What the engine cannot do with this model or together; not what a request asks of it.
_UNSUPPORTED = (
    r"(?:Value|Assertion|NotImplemented)Error: (?!.{0,240}\b(?:requests?|prompts?|images?|audio"
    r"|videos?|messages?|sampling|logprobs|tools?|embeddings?|completions?|response_format|inputs?"
    r"|tensors?|shape|dims?|ndim)\b).{0,80}\b(?:do(?:es)?(?: not|n't) (?:yet |currently )?support"
    r"|only supports?|are (?:not )?supported|(?:is )?(?:not|only) (?:yet |currently )?supported"
    r"|conflicts? with)\b"
)
# What stands before an indented line of pydantic.
_PYDANTIC = r"^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?\s+"

SIGNATURES = (
    # Arguments.
    Signature(
        "fuse-qk-norm",
        r"pass_config\.fuse_minimax_qk_norm\s*$|[Uu]nexpected.{0,80}fuse_minimax_qk_norm"
        r"|fuse_minimax_qk_norm.{0,80}[Uu]nexpected",
        "this vLLM does not know fuse_minimax_qk_norm: only 0.12.0 and 0.19.1 to 0.23.0 take it",
        "take it out of compilation-config in muster_engine_args, or change muster_engine_version",
        "vLLM's own parser",
        ("engine-parser", "engine-version"),
    ),
    Signature(
        "parser-unknown",
        r"--(?:reasoning|tool-call)-parser\S* .{0,20}invalid choice"
        r"|(?i:invalid (?:tool[ -]call|reasoning) parser)"
        r"|(?i:(?:reasoning|tool)(?:[ -]call)? parser) '?[\w-]+'? (?:is )?not (?:found|supported)"
        r"|(?i:unsupported (?:tool[_ -]call|reasoning)[_ -]parser)"
        r"|Unsupported model type: (?:minimax|qwen|deepseek|glm|kimi)",
        "this engine version has no parser of that name for tool calls or reasoning",
        "take one that the line lists (muster_reasoning_parser, muster_tool_calling), or the engine"
        " version of the recipe",
        "vLLM and SGLang; MiniMax-M2 issue 49",
        ("engine-parser", "engine-version"),
    ),
    Signature(
        "engine-arguments",
        r"error: (?:unrecognized arguments|ambiguous option|argument -\S+|the following arguments)"
        r"|error: (?:unexpected argument '|invalid value '.{0,80}' for '-|unrecognized option)"
        r"|\bNo such option: -|\binvalid choice: '.{0,80}\(choose from"
        r"|you should provide the model as a positional argument"
        r"|should be provided as the first positional argument|No model specified! Please specify"
        r"|No config file specified! Please|Config file must be of a yaml"
        r"|Unable to read the config file at|ArgumentTypeError: "
        r"|(?:Args|Config)\.__init__\(\) got an unexpected keyword",
        "the engine refuses its command line",
        "correct muster_engine_args, or muster_engine_version if the image holds another one",
        "vLLM's and SGLang's parsers",
        ("engine-parser", "engine-version"),
    ),
    Signature(
        "engine-environment",
        r"\b(?:VLLM|SGLANG|SGL)_\w+=\S+ is not (?:yet )?supported"
        r"|VLLM_PORT '.{0,120}(?:URI|valid integer)|Invalid value '.{0,80}' (?:for|in) (?:VLLM"
        r"|SGLANG|SGL)_\w+|Unknown vLLM environment variable"
        r"|invalid literal for int\(\) with base 10: 'tcp://|KeyError: '(?:VLLM|SGLANG|NCCL"
        r"|CUDA)_\w+'"
        r"|could not convert string to \w+: '.{0,40}VLLM|Neither 127\.0\.0\.1 nor ::1 are bound"
        r"|no algorithm/protocol available for .{0,160}NCCL_(?:ALGO|PROTO)"
        r"|environment variable '?MOONCAKE_CONFIG_PATH'? is not set"
        r"|VLLM_\w+ is set but|environment variable [A-Z_]+ expected, but not set",
        "a variable of the engine's environment is missing or has a value that it refuses; the line"
        " names it",
        "correct it in muster_engine_env",
        "vLLM and SGLang",
    ),
    Signature(
        "platform-plugins",
        r"Only one platform plugin can be activated",
        "plugins of two platforms are installed beside vLLM",
        f"{RECIPE_IMAGE}, or name the one to use with VLLM_PLUGINS in muster_engine_env",
        "vLLM",
    ),
    Signature(
        "batched-tokens",
        r"max_num_batched_tokens \(\d+\) (?:is smaller than|must be greater)"
        r"|[Ii]ncreas(?:e|ing) max_num_batched_tokens|enough slots to schedule a token"
        r"|max_num_scheduled_tokens is set to .{0,80}does not allow any tokens"
        r"|max_num_scheduled_tokens"
        r" but it does not have enough slots",
        "max-num-batched-tokens is too small for max-model-len, max-num-seqs or the drafted tokens",
        "raise it in muster_engine_args, or lower the other one that the line names",
        "vLLM",
        ("engine-parser",),
    ),
    Signature(
        "dispatch-tokens",
        r"(?:[Aa]ssert|Error).{0,200}<= num_max_dispatch_tokens_per_rank",
        "a rank has more tokens at once than DeepEP's buffers were made for",
        "SGLang: raise SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK (muster_engine_env); else"
        " lower max-num-batched-tokens, or capture smaller graphs, in muster_engine_args",
        "DeepEP",
    ),
    Signature(
        "attention-backend",
        r"No valid (?:MLA prefill |attention |MLA )?(?:prefill )?backend found"
        r"|[Ss]elected (?:MLA prefill )?backend \S+ is not valid for this config"
        r"|Backend \S+ must be registered before use"
        r"|(?:Invalid|Unknown) attention backend"
        r"|Aiter MLA supports num_head"
        r"|only supported in FlashAttention|No common (?:kernel )?block size"
        r"|FlashAttention only supports|Unsupported FA version"
        r"|(?:Error|Exception): .{0,20}\b(?:FlashInfer|FlashAttention\S*|FlashMLA|Triton|FLASH\w+"
        r"|TRITON_\w+) (?:attention )?backend .{0,40}(?:does not|doesn't) support"
        r"|attention backends (?:share no|have been removed)"
        r"|not support (?:key|value) cache of type"
        r"|supports? head[_ ]?(?:sizes?|dim)|[Uu]nsupported (?:head[_ ]size|attention backend)"
        r"|(?:Error|Exception): .{0,80}(?:\brequires? Flash ?Attention"
        r"|\b(?:FlashMLA|FlashAttention)\b.{0,60}(?:not (?:yet )?supported|requires SM))"
        r"|(?i:attention backend .{0,60}(?:not (?:supported|available)|unsupported"
        r"|(?<!\()requires))"
        r"|Tllm?GenFmha\w*.{0,200}(?:[Uu]nsupported arch|not supported)|Missing TRTLLM-GEN kernel"
        r"|(?i:(?:flashinfer|trtllm).{0,60}\bnot supported on this gpu)"
        r"|CUDAGraphMode\.\w+ is not supported with|[Hh]ead[_ ]size .{0,40}not supported"
        r"|(?i:does not support \w+ attention backend|requires one of .{0,80}attention backend)"
        r"|Error: .{0,80}\b(?:fa[234]|triton|trtllm_\w+|flashinfer|flashmla|cutlass_mla"
        r"|ascend)\b.{0,80}"
        r"\bis required for|This flash attention build does not support",
        "no attention backend, or not the one that was asked for, serves this device, cache type or"
        " head size",
        "take attention-backend and kv-cache-dtype out of muster_engine_args and"
        " VLLM_ATTENTION_BACKEND out of muster_engine_env, or take the recipe's engine version",
        "vLLM and SGLang",
        ("engine-parser",),
    ),
    Signature(
        "chat-template",
        r"chat template string .{0,120}appears path-like|chat template .{0,80}(?:not found"
        r"|does not exist)|default chat template is no longer allowed"
        r"|tokenizer\.chat_template is not set",
        "the engine has no chat template: its file is not where the engine looks for it, or the"
        " model brings none",
        "copy chat_template.jinja beside the weights, or mount one with muster_extra_mounts and"
        " name its path in the container with chat-template in muster_engine_args",
        "vLLM; transformers",
        ("mount-source",),
    ),
    Signature(
        "chat-messages",
        r"\bConversation roles must alternate|\bjinja2\.exceptions\.\w+: ",
        "the model's chat template cannot write the messages or tools of a request",
        "send what the template takes (roles that alternate, arguments of tool calls as objects),"
        " or name a corrected one with chat-template in muster_engine_args",
        "Jinja; transformers",
        rank=LIKELY,
    ),
    Signature(
        "multimodal-prompt",
        r"Attempted to assign .{1,80} multimodal tokens to \d+ placeholders"
        r"|Expected there to be \d+ prompt (?:placeholders|updates)"
        r"|Mismatch in `\w+` token count between text and `input_ids`",
        "a request's images, audio or video do not fit the places that its text has for them: text"
        " that was cut, a template without them, or a processor of another version",
        "raise max-model-len, send the messages by the model's own chat template, or take the image"
        " that the recipe names",
        "vLLM; transformers",
        rank=LIKELY,
    ),
    Signature(
        "tools-off",
        r"tool choice requires --enable-auto-tool-choice",
        "a request brings tools, and the engine was started without a parser for their calls",
        "set muster_tool_calling to the model's parser and serve again",
        "vLLM",
    ),
    Signature(
        "lora-adapter",
        r"Loading lora .{1,200} failed|[Nn]o adapter found for|adapter_config\.json' at "
        r"|expected target modules in .{1,400} but received"
        r"|(?:Value|Runtime|Assertion)Error: .{0,80}\b(?:is an )?unsupported LoRA weight"
        r"|No supported LoRA modules found in|embedding LoRA size\(",
        "a LoRA adapter is not there, or is not made for this model or engine",
        "correct its path in muster_engine_args, and see that its target modules are those that the"
        " engine takes for this model",
        "vLLM",
    ),
    Signature(
        "api-certificate",
        r"\[SSL\] PEM lib|\[SSL: (?:KEY_VALUES_MISMATCH|EE_KEY_TOO_SMALL|NO_START_LINE)\]"
        r"|PEM routines.{0,40}no start line|could not load PEM client certificate",
        "the certificate or key that the API was given is none, or they do not belong together",
        "correct ssl-certfile and ssl-keyfile in muster_engine_args: PEM, the server's certificate"
        " first, readable in the container",
        "OpenSSL; uvicorn",
    ),
    Signature(
        "fp8-block",
        r"is not divisible by weight quantization block_[nk]",
        "tensor parallelism cuts an expert below the block of 128 of the fp8 weights",
        "fewer ranks of tensor parallelism (MiniMax-M2: 4), or expert parallelism",
        "vLLM issue 17569; SGLang issue 23265",
        ("weights-format",),
    ),
    Signature(
        "experts-parallel",
        r"(?i)experts?\b.{0,80}(?:must be divisible"
        r"|(?:is )?not divisible|(?:can ?not|must) be evenly)"
        r"|(?:must be|not) divisible by (?:the )?(?:ep_size|expert[ _]parallel)"
        r"|greater than the number of experts|assert .{0,60}experts\w* % ",
        "the model's experts cannot be dealt evenly to the ranks of expert parallelism",
        "another count of devices or replicas: one that divides the experts (MiniMax-M2: 256)",
        "vLLM issue 52435",
        ("weights-architecture",),
    ),
    Signature(
        "parallel-size",
        r"(?i)(?:(?:attention|attn|kv|query|sink) heads|hidden[ _]size).{0,80}must be divisible"
        r"|^.*AssertionError: \d+ is not"
        r" divisible by \d+|(?:tensor|pipeline)[ _]parallel[ _]size.{0,60}must be divisible"
        r"|(?:tp_size|world_size|pp_size|nnodes)\b.{0,40}must be divisible"
        r"|evenly divide the (?:total )?world size"
        r"|(?:per[_ ]partition|per TP rank|per[- ]rank)\b.{0,120}divi(?:sible|de)"
        r"|not divisible by (?:tp|tensor[ _]parallel|the tensor)"
        r"|caused by too large tensor parallel size|not divisible by (?:min_thread|tile)_[kn]\w*"
        r"|Invalid thread config: .{0,200}\bMKN\b"
        r"|must (?:be )?divisible by block_size_[kn]"
        r"|pipeline parallelism is not supported for|only supports? .{0,40}\b(?:num_"
        r"|number of )?heads\b"
        r"|assert .{0,80}(?:heads|hidden_size|intermediate_size)\w* % ",
        "a size of the model cannot be cut by the parallelism that was asked for",
        "another tensor-parallel size: one that divides heads, KV heads and experts",
        "vLLM and SGLang",
        ("weights-architecture",),
    ),
    Signature(
        "context-length",
        r"(?i)max_model_len .{0,40}is greater than the derived"
        r"|context_length .{0,40}is greater than the derived",
        "max-model-len is beyond the model's own context",
        "lower it in muster_engine_args to what the line names as derived",
        "vLLM and SGLang",
        ("weights-config",),
    ),
    Signature(
        "quantisation-unsupported",
        r"quantization is currently not supported in"
        r"|quantization method \S+ is not supported for the current GPU"
        r"|Min(?:imum)? capability: \d+\. Current capability|quantization is not supported"
        r"|No \w+ (?:\w+ )?(?:MoE|[Ll]inear|GEMM) backend supports"
        r"|No \w+ MoE backends?\b.{0,60}\bavailable"
        r"|No supported \w+ expert class|does not support the deployment configuration"
        r"|backend is disabled for this configuration|cutlass cannot implement"
        r"|(?:[Aa]ssertion error|check failed)\b.{0,160}\b(?:sm_version|arch_major) ?[<>=]"
        r"|hpp:\d+\): .{0,20}(?:Unknown recipe|[Uu]nsupported arch|arch_major)"
        r"|is only supported on GPUs with compute capability"
        r"|(?:Error|Exception): .{0,120}does not support (?:float16|bfloat16|fp8)"
        r"|is not supported for quantization method"
        r"|-bit weight quantization is supported for"
        r"|Failed to find a kernel that can implement|No compiled \w+ (?:for|\w+ kernel)"
        r"|\bNo (?:suitable|available) kernel\b|\bnot supported on (?:CUDA )?arch\b"
        r"|No supported CUDA architectures found for major versions"
        r"|[Nn]o kernel found for the given options|backend '\w+' with capability \d"
        r"|Insufficient device capability"
        r"|(?i:(?:unknown|invalid) (?:modelopt )?quant(?:ization)?\b (?:method|algo))"
        r"|fp8\w* .{0,40}not supported (?:on|in|for)"
        rf"|(?:Error|Exception): .{{0,80}}(?:requires?|[Oo]nly|supports?|(?:un)?supported"
        rf"|not (?:implemented|available)) .{{0,40}}{_ARCHITECTURE}"
        rf"|(?:Error|Exception): .{{0,80}}{_ARCHITECTURE}.{{0,60}}(?:not (?:yet )?supported"
        r"|unsupported|is required)",
        "the engine cannot serve this quantisation, number format or kernel on this kind of device",
        "take weights and a recipe that are made for the platform",
        "vLLM",
        ("weights-format", "gpu-name"),
        likely=rf"(?:Error|Exception): .{{0,120}}{_FORMAT}.{{0,120}}(?:not (?:yet "
        rf"|currently )?(?:supported"
        r"|implemented)|[Oo]nly supports?|does not support|requires?\b)"
        rf"|(?:Error|Exception): .{{0,120}}(?:does not|doesn't) support .{{0,40}}{_FORMAT}"
        r"|Error: \"\w*(?:mm|gemm|matmul|[Cc]onv|[Nn]orm)\w*\" not implemented for"
        r" '(?:Float[48]|Half|BFloat16|U?Int|Bits)\w*'"
        r"|No .{0,60}\bscheme (?:was )?found|Unsupported \w+ MoE backend"
        r"|(?:Error|Exception): (?:Unsupported|Unknown) .{0,60}(?:quant|scheme|num_bits|activation"
        r"|scale|weight_bits|(?:moe|linear|mxfp\d|fp\d)\w*_backend\b|backend for MoE)"
        r"|(?:Error|Exception): (?:Unsupported|Unknown) \S+ MoE backend"
        r"|Currently supported kv cache quantization|[Oo]nly support (?:per-tensor|symmetric) scal"
        r"|Only (?:symmetric quantization|group size \d+) (?:is )?supported"
        r"|activation ordering .{0,40}no longer supported|Sparsity support has been removed"
        r"|num_bits must be|Invalid strategy for compressed-tensors",
    ),
    Signature(
        "grouped-routing",
        r"n_group should not be zero for DeepSeekV3 routing",
        "this vLLM takes the model for one with grouped routing on B200",
        "pin vLLM 0.12.0 with muster_engine_version",
        "MiniMax guide for B200",
    ),
    # Memory.
    Signature(
        "memory-taken",
        r"Free memory on device .{0,80}is less than (?:desired|the engine)"
        r"|memory capacity is unbalanced"
        r"|Error in memory profiling"
        # Under 20 GiB of 40 or more are the engine's own, and none is free.
        rf"|out of memory.{{0,80}} {_LARGE} total capacity;.{{0,120}} [KM]iB free;"
        rf" {_SMALL} reserved"
        rf"|out of memory.{{0,80}} capacity of {_LARGE} of which \S+ [KM]iB is free\..{{0,300}}"
        rf"this process has {_SMALL} memory in use"
        r"|out of memory.{0,80} of \d+\.\d+ GiB of which (?:0 bytes|\S+ [KM]iB) is free\."
        r" Of the allocated memory \S+ MiB is allocated by PyTorch",
        "something else holds memory of a device",
        "end it: the vendor's tool lists the processes of each device",
        "vLLM and SGLang, start-up",
        ("gpu-memory", "npu-memory", "gpu-processes", "npu-processes"),
        explains=("device-memory",),
    ),
    Signature(
        "no-cache",
        r"No available memory for the cache blocks|Not enough memory\. Please try to increase"
        r"|not enough GPU memory available to serve even a single token"
        r"|leave no (?:GPU |NPU |device )?memory for the KV cache"
        r"|Error: .{0,400}\b(?:[Ii]ncrease|[Rr]aise) --mem-fraction-static|KV cache memory: -\d",
        "weights and buffers leave no device memory for the KV cache",
        "raise gpu-memory-utilization (SGLang: mem-fraction-static) in muster_engine_args, or"
        " spread the model over more devices",
        "vLLM issue 2248; vllm-ascend issue 9099; SGLang issue 4330",
        ("gpu-memory", "npu-memory"),
    ),
    Signature(
        "cache-too-small",
        r"larger than the (?:maximum number of tokens|available KV cache memory)",
        "one request of max-model-len tokens does not fit into the KV cache",
        "lower max-model-len, or raise gpu-memory-utilization, in muster_engine_args",
        "vLLM issue 2418",
        ("gpu-memory", "npu-memory"),
    ),
    Signature(
        "cache-layout",
        r"failed to convert the KV cache specs to one unified type"
        r"|page size of the layer is not divisible by the maximum page size"
        r"|layers in the same (?:KV cache|attention) group must (?:be the same|share)"
        r"|KVCacheSpecs? .{0,80}not (?:compatible|supported|uniform)"
        r"|[Ff]ailed to promote .{0,20}KV cache specs|KV cache groups?\b.{0,60}(?:divisible|overlap"
        r"|miss layers)|\bassert .{0,60}\b(?:max_)?page_size(?:_bytes)?\b"
        r"|\b[DP]CP not support \w+"
        r"|KV cache layouts?\b.{0,80}(?:satisf\w+ every|already resolved|disagree|not valid)"
        r"|No KV cache layout satisfies|disagree on supported KV cache layouts",
        "the engine cannot keep all kinds of this model's layers in one KV cache with these"
        " settings",
        "take kv-cache-dtype, block-size, speculative-config or kv-transfer-config out of"
        " muster_engine_args, or take a newer engine version",
        "vLLM, kv_cache_utils; vLLM issues 41153 and 42911",
    ),
    Signature(
        "attention-workspace",
        r"(?:Buffer overflow when allocating|Failed to allocate) memory for batch_\w+ with size",
        "FlashInfer's buffer for intermediate results is too small for this batch",
        "raise VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE (SGLang: SGLANG_FLASHINFER_WORKSPACE_SIZE) in"
        " muster_engine_env, or lower max-num-batched-tokens in muster_engine_args",
        "FlashInfer",
    ),
    Signature(
        "device-memory",
        r"(?:CUDA|NPU|HIP) out of memory|(?<!ray\.exceptions\.)OutOfMemoryError: "
        r"|(?:CUDA|HIP|ROCm) [Ee]rror: out of memory|(?:Prefill|Decode) out of memory"
        r"|Triton Error \[\w+\]: out of memory|Cuda Runtime \(out of memory\)"
        r"|(?:[Cc]uda|CUDA|HIP|hip) failure .{0,12}'?out of memory|Failed to CUDA calloc"
        r"|(?:CUDA driver|HIP) error: out of memory|hipErrorOutOfMemory|cudaErrorMemoryAllocation"
        r"|CUDA_ERROR_OUT_OF_MEMORY|HIPBLAS_STATUS_ALLOC_FAILED"
        r"|CUBLAS_STATUS_ALLOC_FAILED|ACL_ERROR_RT_MEMORY_ALLOCATION|error code is (?:207001"
        r"|207018)\b|\bEL0004\b",
        "a device ran out of memory",
        _LOWER,
        "torch; CANN EL0004",
        ("gpu-memory", "npu-memory"),
        likely=r"\[Error\]: The memory on the device is exhausted"
        r"|(?i:failed to allocate (?:device|gpu|npu) memory)|NVRM: .{0,80}NV_ERR_NO_MEMORY"
        r"|Not enough memory for command submission"
        # ROCm's runtime names the memory that is free; the code alone is of other resources, too.
        r"|HSA_STATUS_ERROR_OUT_OF_RESOURCES.{0,300}Free mem ?: ?\d{1,3}(?!\d)"
        r"|(?i:failed to allocate \S+ buffer"
        r"|insufficient (?:gpu|npu|device|video) memory|device memory is not enough)|"
        r"(?:cudaMalloc|hipMalloc|aclrtMalloc|rtMalloc|alloc device memory)\w*\b.{0,60}(?:failed"
        r"|out of memory)",
    ),
    Signature(
        "graph-capture",
        r"not permitted (?:when stream is capturing|on an event last recorded in a capturing)"
        r"|dependency created on uncaptured work|legacy stream depend on a capturing"
        r"|(?:cuda|hip)Error(?:StreamCapture(?!Invalidated)|CapturedEvent)"
        r"|CUDA_ERROR_(?:STREAM_CAPTURE_(?!INVALIDATED)|CAPTURED_EVENT)"
        r"|capture mode does not support this operation"
        r"|(?i:error ?code\W{1,4}(?:is )?|runtime result = |ErrCode=)1070(?:2[4-9]|3[0-6])\b",
        "the engine does something while it captures a graph that cannot be part of one: a fault of"
        " this version with the model, its quantisation or a feature that is on",
        "enforce-eager in muster_engine_args starts without graphs (SGLang: disable-cuda-graph), a"
        " cudagraph_mode of PIECEWISE in compilation-config with fewer; then another engine"
        " version",
        "CUDA errors 900 and 903 to 908; ACL 107024 to 107036; vllm-ascend issues 3963 and 6002",
        rank=LIKELY,
        explains=("cuda-unknown", "torch-compile"),
    ),
    Signature(
        "cache-leak",
        r"(?:allocator|_pool|[Pp]ool) (?:memory leak|Mem Leak) [Dd]etected",
        "SGLang's count of its KV cache does not add up, and it ends itself: a fault of this"
        " version with the features that are on",
        "another muster_engine_version; or turn off what is new in muster_engine_args (speculative"
        " decoding, hierarchical or radix cache, mixed chunks) one by one",
        "SGLang issues 6888, 11970 and 20010",
    ),
    Signature(
        "engine-configuration",
        # pydantic's first line of an error; that of a whole configuration class only heads the
        # reason, which stands on the next line and can be of any kind.
        r"\bvalidation errors? for (?!(?:Model|Vllm)Config\b)(?:\w*Config|\w*Args)\b"
        rf"|{_PYDANTIC}(?:Value error|Assertion failed), .{{0,2000}}\[type=(?:value|assertion)"
        rf"_error, input_value=ArgsKwargs\(|{_PYDANTIC}\S.{{0,300}}\[type=(?:literal_error|enum"
        r"|unexpected_keyword_argument|extra_forbidden|(?:int|float|bool|dict|dataclass)\w*"
        r"|(?:greater|less)_than\w*), input_value="
        r"|Invalid data-parallel launch options"
        r"|'\w*MoEMethod' object has no attribute 'runner'"
        rf"|{CONFIGURATION_FRAME}|{_RAISED}.{{0,240}}(?:{'|'.join(_REFUSALS)})|{_RAISED}{_SETTING}"
        r".{0,80}(?:must(?! be called)|cannot|can only|can contain|requires|has to|needs|greater"
        rf"|exceeds)|{_UNSUPPORTED}",
        "the engine takes the flags, but not one of their values or not together; the line or the"
        " next ones say which",
        "correct it in muster_engine_args",
        "vLLM's configuration classes; SGLang's server_args",
        ("engine-parser",),
        LIKELY,
    ),
)
