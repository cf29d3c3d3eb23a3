# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of the model: what the engine knows of it, its weights, and where they come from."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    LIKELY,
    PREPARE,
    SYMPTOM,
    Signature,
)

_HUB = r"(?:huggingface\.co|\bhf\.co|hf-mirror\.com|modelscope\.c\w)"

SIGNATURES = (
    # The model and its format.
    Signature(
        "model-too-new",
        r"does not recognize this architecture|Tokenizer class \S+ does not exist"
        r"|\bonly supports versions? \d[\d., and]*\W+[Gg]ot\b"
        r"|was supported in vLLM until|is not supported in-tree anymore"
        r"|Error: No model architectures are specif"
        r"|Transformers implementation of .{0,60}not compatible"
        r"|[Uu]nsupported (?:model architecture|architectures?: .{0,60}For[A-Z])"
        r"|[Mm]odel architectures .{0,200}are not supported"
        r"|[Mm]odel (?:type|with architecture) .{0,60} is not supported"
        r"(?! (?:with|for (?!now)))"
        r"|has no (?:vLLM|SGLang)\S* implementation|is not a registered model"
        r"|KeyError: '(?:minimax|qwen|deepseek|glm|llama|kimi|gpt_oss|mixtral|gemma|phi)\w*'"
        r"|Unrecognized configuration class|[Uu]nknown (?:model )?architecture\b"
        r"|Unrecognized model type for subconfig"
        r"|mismatch between the model config and vLLM|`?layer_types`? entries must be in"
        r"|GGUF model with architecture|Unknown gguf model_type"
        r"|the checkpoint is very new, then there may not be a release"
        r"|TypeError: \w+ isn't supported yet"
        r"|rope_scaling\W{1,2} ?(?:should have|must (?:be a|have a)|field)|KeyError: 'rope_type'",
        "the engine or its transformers is older than the model, or config.json is not the model's"
        " own",
        "take the image or muster_engine_version that the recipe names",
        "transformers; vLLM issue 20198; MiniMax-M2 issue 40",
        ("weights-architecture",),
        # The line of transformers that fails where it has no such type of model.
        likely=r"= CONFIG_MAPPING\[config_dict\[|Validation error for field '\w+'"
        r"|Class validation error for validator",
    ),
    Signature(
        "model-code-missing",
        r"Could not locate the \S+\.py inside",
        "the model's own code is missing in the folder of its weights",
        f"copy the .py files from the publisher beside config.json, or {PREPARE}",
        "transformers; vllm-ascend issue 619",
        ("weights-complete",),
        likely=r"No module named 'transformers_modules",
    ),
    Signature(
        "remote-code",
        r"contains custom code which must be executed|execute the configuration file in that repo"
        r"|argument `trust_remote_code=True`",
        "the model brings its own code, which the engine was not allowed to run",
        "set trust-remote-code in muster_engine_args, if you trust the publisher",
        "transformers",
    ),
    Signature(
        "weights-quantisation",
        r"no available ascend quantizer"
        # What ends so is no weight but a layer's place in the KV cache.
        r"|KeyError: '(?:[\w-]+\.)*layers\.\d+\.(?![\w.]*\b(?:attn|mixer|k_cache)')[\w.]+'"
        r"|KeyError: '(?:[\w-]+\.)+(?:\w+_)?(?:weight|bias)(?:_\w+)?'|loaded_weight\.shape"
        r"|Unable to find matching target for|Detected some but not all shards of"
        r"|\.py:\d+\] '(?:[\w-]+\.)*layers\.\d+\.(?![\w.]*\b(?:attn|mixer|k_cache)')[\w.]+'$"
        r"|(?:Error: Some|Following) weights (?:were|are) not initialized from checkpoint"
        r"|[Uu]nsupported quantization config|quantization method is not specified in the config"
        r"|KeyError: '(?:quant_method|quant_algo|weight_block_size|group_size)'"
        r"|multiple config files for|Cannot find any of .{0,120}quantization config"
        r"|Missing 'quant_algo' in quant|weight_scale for layer .{0,80}was never loaded"
        r"|(?:[Ff]ound|[Mm]ixed|need to have same) .{0,40}quant(?:ization[ _]?\w*|_algo)"
        r" .{0,40}(?:shards|fused layer|but found)|requires consistent quant config"
        r"|Attempted to load weight \("
        r"|quant_model_description\S* .{0,60}(?:not (?:found|exist)|No such)"
        r"|does not match the quantization method specified in the `?quantization"
        r"|Cannot find the config file for \w+|ModelSlim Quantization Config Not Found"
        r"|[Cc]ould not determine quantization type for layer"
        r"|Detected some but not all shards of \S+ are quantized"
        r"|Not all shards of \S+ are quantized with same",
        "the weights are not in the format that the quantisation argument or description says",
        "take the recipe of these weights (W8A8 of ModelSlim wants --quantization ascend and its"
        " description, fp8 wants neither)",
        "vllm-ascend issues 119, 633 and 876",
        ("weights-format",),
        likely=r"size mismatch for \S+: copying|There is no module or parameter named"
        r"|[Tt]ried to load weights of size .{0,60}to a parameter of size"
        r"|start \(\d+\) \+ length \(\d+\) exceeds dimension size"
        r"|'\w+(?:Linear|Embedding|MoE)\w*' object has no attribute '\w*weight",
    ),
    # Files and hubs.
    Signature(
        "hub-access",
        r"(?i)\bgated repo\b|\brepo (?:model )?\S+ is gated|Access to model \S+ is restricted"
        r"|40[13] Client Error"
        r"(?:\.? \(Request ID|.{0,80}(?:huggingface|hf\.co|hf-mirror|modelscope))"
        r"|invalid (?:user|hugging ?face) token|\bInvalidTokenError|(?:hf|hugging ?face"
        rf"|user) token is required|GatedRepoError|client error '40[13]\b.{{0,80}}{_HUB}"
        r"|(?<!404 client error\. )(?<!404 client error: )repository not found for url"
        r"|must have access to it and be authenticated|Token is required \(`token=True`\)"
        r"|\b403 Forbidden: .{0,120}(?:gated|token|repositor)",
        "Hugging Face refuses the model: it wants a token with access to it",
        "accept the model's terms and give the token to prepare, or take muster_model_source of"
        " your own",
        "huggingface_hub",
        ("weights-directory",),
    ),
    Signature(
        "proxy",
        r"(?i)proxyconnect tcp|Cannot connect to proxy|Tunnel connection failed|407 Proxy Auth"
        r"|ProxyError\b|proxy .{0,40}authentication required",
        "the proxy before the hub or registry cannot be reached or refuses",
        f"correct muster_proxy and what it leaves out (no_proxy), then {PREPARE}",
        "HTTP; Docker",
        ("container-engine",),
        # A server's request to itself is answered by a gateway.
        likely=r"\[SSL: WRONG_VERSION_NUMBER\]|\bres=<Response \[50[24]\]>"
        r"|code 40[37] from proxy after CONNECT|(?i:could not resolve proxy)",
    ),
    Signature(
        "hub-limit",
        r"(?i)(?:hfhub|huggingface|hf\.co|hf-mirror|modelscope).{0,200}\b429 (?:client|too many)"
        r"|\b429 (?:client|too many).{0,80}(?:huggingface|hf\.co|hf-mirror|modelscope)"
        rf"|client error '429\b.{{0,80}}{_HUB}",
        "the hub allows this address no more requests for now",
        "wait, give prepare a token, or take muster_model_source of your own",
        "huggingface_hub",
        hint=rf"HTTP Error 429 thrown while requesting .{{0,40}}{_HUB}",
    ),
    Signature(
        "clock",
        r"(?i)not yet valid: current time \S+ is before|certificate is not yet valid"
        r"|Release file .{0,200}is not valid yet|can't synchronise: no (?:reachable|selectable)",
        "the node's clock is wrong: a certificate seems not yet valid",
        "set the time and start its synchronisation (timedatectl set-ntp true)",
        "TLS",
        ("host-clock-sync", "cluster-clock"),
    ),
    Signature(
        "image-certificate",
        r"x509: |certificate signed by unknown authority"
        r"|(?i:certificate[ _]verify[ _]failed|self[- ]signed certificate|local issuer certificate"
        r"|ssl certificate problem)",
        "the registry or Hub, or a proxy before it, shows a certificate that this node does not"
        " know, or that has expired",
        f"name its authority with muster_registry_ca, then {PREPARE}; where it has expired, its"
        " owner or the node's clock",
        "TLS; Docker; huggingface_hub",
        ("container-engine",),
    ),
    Signature(
        "hub-unreachable",
        r"couldn't connect to 'https?://|We have no connection or you passed|(?i:cannot"
        r"|can't) reach https://huggingface"
        r"|HTTPS?ConnectionPool\(host='[\w.-]*(?:huggingface|hf|modelscope|hf-mirror)[\w.-]*'"
        r"|cannot find the requested files in the (?:local|disk) cache|LocalEntryNotFoundError"
        r"|\(\S*huggingface\.co\S*\).{0,120}(?i:timed? ?out|resolve|refused|unreachable)"
        r"|offline mode is enabled|outgoing traffic has been disabled"
        rf"|\b(?:408 Client|5\d\d Server) Error\b.{{0,160}}{_HUB}"
        rf"|(?:Client error '408|Server error '5\d\d)\b.{{0,160}}{_HUB}"
        rf"|\b(?:Connect\w*|Read|SSL|Proxy|Protocol)(?:Error|Timeout)\b.{{0,300}}{_HUB}"
        r"|CAS (?:service|[Cc]lient) [Ee]rror(?!.{0,200}(?:os error|No space))"
        r"|Distant resource does not |does not seem to be served by a Hugging Face"
        r"|No cached tree listing|Force download failed due to|Xet headers have not been"
        r"|error occurred while downloading using `hf_transfer`",
        "the engine looks for the model on Hugging Face, which does not answer this node or which"
        " it is told not to ask (HF_HUB_OFFLINE): the files are not at muster_model_path",
        PREPARE,
        "huggingface_hub",
        ("weights-directory", "weights-config"),
        likely=r"Connection broken: IncompleteRead",
        hint=rf"\bthrown while requesting .{{0,40}}{_HUB}",
        explains=("name-resolution", "no-route"),
    ),
    Signature(
        "weights-absent",
        r"does not appear to have (?:a file|files) named|Cannot find any (?:\w+ )?model weights"
        r"|Could not find checkpoint files|containing a file named \S+\.json"
        r"|HFValidationError: |Repo id must (?:be|use)|Invalid repository ID or local directory"
        r"|is not a local folder and is not a valid model|[Ee]rror no file named"
        r"|Failed to load mistral '\w+' config|[Cc]ould not detect config format"
        r"|No supported config format found|Revision Not Found"
        r"|NotExistError: The model"
        rf"|Client error '404\b.{{0,80}}{_HUB}"
        r"|404 Client Error(?:\. \(Request ID|.{0,120}(?:Entry|Repository) Not Found)"
        r"|Incorrect path_or_model_id"
        r"|Can't load (?:the (?:model|configuration)|image processor|feature extractor) (?:for"
        r"|of)|No model weights found|Cannot find model weights"
        r"|No \S{0,4}safetensors\S* (?:or \S+ )?files found"
        r"|model (?:path"
        r"|directory) .{0,120}(?:does not exist|not found)|No safetensors? (?:files|weights)"
        r"|No such file or directory: '(?:\S*/)?(?<!\.docker/)(?:config|model\.safetensors\.index)"
        r"\.json'",
        "the model's files are not at muster_model_path on this node",
        PREPARE,
        "transformers, huggingface_hub; vLLM",
        ("weights-directory", "weights-config"),
    ),
    Signature(
        "weights-broken",
        r"Error while deserializing header|SafetensorError: File does not contain tensor"
        r"|failed reading zip archive|Unable to load weights from (?:pytorch )?checkpoint file"
        r"|MetadataIncompleteBuffer|InvalidHeaderDeserialization|HeaderTooLarge"
        r"|unexpected EOF, expected|Weight files referenced in index but missing"
        r"|The cached snapshot for .{0,200}is incomplete|CorruptedCacheException"
        r"|Missing keys .{1,400} in loaded state|Incomplete checkpoint headers"
        r"|Invalid checkpoint index entry|invalid weight map"
        r"|Consistency check failed|(?:version https://git-lfs|invalid load key, 'v')"
        r"|No such file or directory: .{0,200}\.safetensors"
        r"|unable to open file <[^>]{1,400}\.(?:safetensors|bin|pt|pth)>",
        "a file of the weights is missing, or cut off",
        f"copy it again: {PREPARE} tells which",
        "safetensors",
        ("weights-complete",),
        likely=r"^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?EOFError: Ran out of input",
    ),
    Signature(
        "weights-pickle",
        r"Weights only load failed|upgrade torch to at least v2\.6",
        "a file of the weights is in torch's old format, of which torch loads no more than weights",
        "take weights in safetensors, or the image that the recipe names",
        "torch; transformers",
        rank=LIKELY,
    ),
    Signature(
        "bucket-access",
        r"Unable to locate credentials|An error occurred \((?:403|404|AccessDenied|Forbidden"
        r"|NoSuchBucket|NoSuchKey|InvalidAccessKeyId|SignatureDoesNotMatch)\) when calling",
        "the store of objects that the weights are read from refuses the engine, or has them not",
        "give the engine the store's credentials in muster_engine_env and correct the path, or keep"
        " the weights on the node",
        "S3; boto",
    ),
    Signature(
        "config-broken",
        r"is not a valid JSON file|config\.json.{0,80}(?:JSONDecodeError|Expecting|invalid)"
        # What is logged while the engine serves is the JSON of a request or of an answer.
        r"|^(?!.{0,80}\b\w*(?:serving|parser|router)\w*\.py:\d+\]).*"
        r"(?<!requests\.exceptions\.)JSONDecodeError: (?:Expecting|Extra data|Invalid"
        r"|Unterminated)|Value error, (?:Expecting|Extra data|Unterminated).{0,60}: line \d+ column"
        r"|Unrecognized (?:model|(?:image|video) processor|feature extractor|processing class) in "
        r"|(?i:missing|lacks|has no(?! attribute)|without)"
        r" .{0,20}\bmodel_type\b",
        "a JSON file of the model, or JSON in an argument, is not whole or not the model's own",
        f"the lines before name it: copy the model's file again ({PREPARE}), name the model's own"
        " folder and not an adapter's, or correct the argument in muster_engine_args",
        "Python; transformers",
        ("weights-config",),
        LIKELY,
        explains=("engine-configuration",),
    ),
    Signature(
        "tokenizer",
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer"
        r"|[Ff]ailed to load (?:the )?tokenizer\b|No tokenizer files? found"
        r"|tiktoken\.model not found|Could not find tiktoken\.model"
        r"|untagged enum ModelWrapper|[Tt]okenizer\S* .{0,40}(?:file|model) .{0,40}(?:not found"
        r"|missing|does not exist)|Unable to load vocabulary|not a string.{0,40}sentencepiece"
        r"|Error parsing line .{0,40}tiktoken|could not parse ModelProto"
        r"|Converting from \w+ failed|Unable to load tokenizer|sentencepiece_processor\.cc"
        r"|Found 0 files matching the pattern|[Mm]ake sure that a Mistral tokenizer is present"
        r"|^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?Exception: (?:expected value|EOF while parsing"
        r"|data did not match).{0,80} line \d+ column",
        "the tokenizer's files are missing or not whole, or newer than the image's tokenizers"
        " package",
        f"{PREPARE}; where the files are whole, the image that the recipe names",
        "transformers; tokenizers",
        ("weights-tokenizer",),
    ),
    Signature(
        "model-inspection",
        r"[Mm]odel architectures .{0,200}failed to be inspected",
        "the engine could not load its own code for the model; the lines before say why",
        "read them, and take the image that the recipe names",
        "vLLM",
        rank=SYMPTOM,
    ),
)
