"""The shapes of llama-server's log lines that leave no room for a prompt or a key.

``#`` is a number, ``~`` a name or path without spaces, ``'~'`` one in quotes, with spaces when it is a model,
``@`` a device, a compiler or its features, ``&`` figures, ``%`` a known word of a driver, ``§`` samplers,
``¤`` method, known path and address of a request, a space any number of spaces.
"""

from __future__ import annotations

# ruff: noqa: E501 - the lines of a server are as long as they are

SHAPES = r"""
initializing ...
build_info: ~
device_info:
- ~ : @ (# MiB, # MiB free)
Running without SSL
using # threads for HTTP server
using #-# threads for HTTP server
binding port with default address family
security: no API key is set and CORS allows all origins (see ~)
HTTP server is listening, hostname: ~, port: #, http threads: #
loading model
model loaded
listening on ~
server is listening on ~
main: server is listening on ~
starting the main loop...
the server has started
loading model '~'
local path '~'
loading draft model '~'
loaded multimodal model, '~'
creating MTP draft context against the target model '~'
creating MTP draft context
initializing, n_slots = #, n_ctx_slot = #, kv_unified = '~'
initializing slots, n_slots = #
initializing samplers
new slot, n_ctx = #
new slot n_ctx_slot = #
setting n_parallel = # and kv_unified = ~ (add -kvu to disable this)
n_parallel is set to auto, using n_parallel = # and kv_unified = ~
n_parallel = #, kv_unified = ~
llama threadpool init, n_threads = #
init: chat template, thinking = #
chat template, thinking = #
prompt cache is enabled, size limit: # MiB
use `--cache-ram #` to disable the prompt cache
for more info see ~
context checkpoints enabled, max = #, min spacing = #
idle slots will be saved to prompt cache upon starting a new task
preserve_reasoning kwarg: not supported by template
speculative decoding context initialized
speculative decoding context not initialized
no implementations specified for speculative decoding
adding speculative implementation '~'
- n_max=#, n_min=#, p_min=#
- gpu_layers=#, cache_k=~, cache_v=~, ctx_tgt=~, ctx_dft=~, devices=~
fitting params to device memory ...
fitting params to device memory, for bugs during this step try to reproduce them with -fit off, or provide --verbose logs if the bug only occurs with -fit on
(for bugs during this step try to reproduce them with -fit off, or provide --verbose logs if the bug only occurs with -fit on)
getting device memory data for initial parameters:
getting device memory data for the extra model at a context size of #:
| memory breakdown [MiB] | total free self model context compute unaccounted |
projected to use # MiB of host memory vs. # MiB of total host memory
projected to use # MiB of device memory vs. # MiB of free device memory
will leave # >= # MiB of free device memory, no changes needed
will leave # >= # MiB of system memory, no changes needed
no devices with dedicated memory found
successfully fit params to free device memory
fitting params to free memory took # seconds
loaded meta data with # key-value pairs and # tensors from ~ (version ~ (latest))
Dumping metadata keys/values. Note: KV overrides do not apply in this output.
loading model tensors, this can take a while... (load_mode = ~)
loading model tensors, this can take a while... (mmap = ~, direct_io = ~)
loading model tensors, this can take a while... (mmap = ~)
offloading # repeating layers to GPU
offloading output layer to GPU
offloaded #/# layers to GPU
~ model buffer size = # MiB
~ output buffer size = # MiB
~ compute buffer size = # MiB
~ compute buffer size is # MiB, matches expectation of # MiB
~ KV buffer size = # MiB
~ RS buffer size = # MiB
size = # MiB (# cells, # layers, #/# seqs), K (~): # MiB, V (~): # MiB
n_rot_k = #, n_embd_head_k_all = #
n_rot_v = #, n_embd_head_k_all = #
added ~ logit bias = #
constructing llama_context
n_seq_max = #
n_ctx = #
n_ctx_seq = #
n_ctx_per_seq = #
n_batch = #
n_ubatch = #
n_rs_seq = #
n_outputs_max = #
n_outputs_max_per_seq = #
causal_attn = #
flash_attn = ~
kv_unified = ~
freq_base = #
freq_scale = #
n_ctx_seq (#) > n_ctx_train (#) -- possible training context overflow
the slot context (#) exceeds the training context of the model (#) - capping
n_ctx_seq (#) < n_ctx_train (#) -- the full capacity of the model will not be utilized
n_ctx_per_seq (#) < n_ctx_train (#) -- the full capacity of the model will not be utilized
reserving ...
reserve took # ms, sched copies = #
graph: nodes = #, splits = #, input objects = #, input tensors = #
graph nodes = #
graph splits = #
graph splits = # (with bs=#), # (with bs=#)
Flash Attention was auto, set to ~
warming up the model with an empty run - please wait ... (--no-warmup to disable)
ggml_vulkan: Found # Vulkan devices:
ggml_vulkan: # = @
ggml_cuda_init: found # ROCm devices:
ggml_cuda_init: found # ROCm devices (Total VRAM: # MiB):
ggml_cuda_init: found # CUDA devices:
ggml_cuda_init: GGML_CUDA_FORCE_MMQ: ~
ggml_cuda_init: GGML_CUDA_FORCE_CUBLAS: ~
Device #: @, VMM: ~
Device #: @, VMM: ~, Wave Size: #
Device #: @, VMM: ~, Wave Size: #, VRAM: # MiB
Device #: @, VMM: ~, Wave Size: #, VRAM: # MiB (# MiB free)
Device #: @, VMM: ~, VRAM: # MiB
using device ~ (@) - # MiB free
using device ~ (@) (~) - # MiB free
loaded ~ backend from ~
selected slot by LRU, t_last = #
selected slot by LCP similarity, f_sim_best = # (> # thold), f_keep = #
selected slot by LCP similarity, sim_best = # (> # thold), f_keep = #
selected slot by lcs similarity, lcs_len = #, similarity = #
selected slot by id (#)
- skipping, slot is empty
- checking sim = # (#/#) > #
processing task
processing task, is_child = #
new prompt, n_ctx_slot = #, n_keep = #, task.n_tokens = #
new prompt, n_ctx_slot = #, n_keep = #, n_prompt_tokens = #
cached n_tokens = #, memory_seq_rm [#, end)
n_tokens = #, memory_seq_rm [#, end)
kv cache rm [#, end)
n_past = #, memory_seq_rm [#, end)
init sampler, took # ms, tokens: text = #, total = #
prompt processing, n_tokens = #, progress = #, t = # s / # tokens per second
prompt processing progress, n_tokens = #, batch.n_tokens = #, progress = #
prompt processing progress, n_past = #, n_tokens = #, progress = #
prompt processing done, n_tokens = #, batch.n_tokens = #
prompt done, n_past = #, n_tokens = #
prompt done, n_tokens = #, batch.n_tokens = #
n_decoded = #, tg = # t/s
prompt eval time = # ms / # tokens (# ms per token, # tokens per second)
eval time = # ms / # tokens (# ms per token, # tokens per second)
total time = # ms / # tokens
graphs reused = #
draft acceptance = # (# accepted / # generated)
draft acceptance = # (# accepted / # generated), mean len = #
draft acceptance rate = # (# accepted / # generated)
draft acceptance rate = # (# accepted / # generated), mean len = #
stop processing: n_tokens = #, truncated = #
stop processing: n_past = #, truncated = #
all slots are idle
cancel task, id_task = #
stop: cancel task, id_task = #
updating prompt cache
prompt cache update took # ms
- saving prompt with length #, total state size = # MiB
- saving prompt with length #, total state size = # MiB (draft: # MiB)
- cache state: # prompts, # MiB (limits: # MiB, # tokens, # est)
- prompt ~: # tokens, checkpoints: #, # MiB
created context checkpoint # of # (pos_min = #, pos_max = #, n_tokens = #, size = # MiB)
restored context checkpoint (pos_min = #, pos_max = #, n_tokens = #, size = # MiB)
erased invalidated context checkpoint (pos_min = #, pos_max = #, n_tokens = #, n_swa = #, size = # MiB)
forcing full prompt re-processing due to lack of cache data (likely due to SWA or hybrid/recurrent memory, see ~)
slot context shift, n_keep = #, n_left = #, n_discard = #
conv_id= (empty=#)
entering sleeping state
exiting sleeping state
server is entering sleeping state
server is exiting sleeping state
cleaning up before exit...
operator(): cleaning up before exit...
waiting for main loop exit
main loop exited
Received second interrupt, terminating immediately.
proxying request to model ~ on port #
the target and draft vocabs are not compatible
failed to initialize speculative decoding context: draft model vocab type must match target model to use speculation
failed to load model, '~'
failed to load draft model, '~'
failed to load draft model '~'
exiting due to model loading error
request (# tokens) exceeds the available context size (# tokens), try increasing it
send_error: request (# tokens) exceeds the available context size (# tokens), try increasing it
input (# tokens) is too large to process. increase the physical batch size (current batch size: #)
failed to find free space in the KV cache, retrying with smaller batch size, i = #, n_batch = #, ret = #
failed to find a memory slot for batch of size #
failed to decode, ret = #
failed to decode the batch: ~. i = #, n_batch = #, ret = #
decode: failed to decode, ret = #
Invalid input batch. i = #, n_batch = #, ret = #
Compute error. i = #, n_batch = #, ret = #
compute failed with status #
graph_compute: ggml_backend_sched_graph_compute_async failed with error #
ggml_backend_sched_graph_compute_async failed with error #
process_ubatch: failed to compute graph, compute status: #
failed to compute graph, compute status: #
failed to allocate ~ buffer of size #
failed to allocate buffer of size #
failed to allocate buffer for kv cache
alloc_tensor_range: failed to allocate ~ buffer of size #
ggml_gallocr_reserve_n: failed to allocate ~ buffer of size #
failed to create context with model '~'
Device memory allocation of size # failed.
ggml_vulkan: Device memory allocation of size # failed.
ggml_vulkan: Requested buffer size exceeds device memory allocation limit: ~
ggml_vulkan: Requested buffer size exceeds device buffer size limit: ~
terminate called after throwing an instance of '~'
radv/amdgpu: The CS has been cancelled because the context is lost. This context is guilty of a soft recovery.
radv/amdgpu: The CS has been cancelled because the context is lost. This context is guilty of a hard recovery.
radv/amdgpu: The CS has been cancelled because the context is lost. This context is innocent.
Queue at ~ inactivated due to async error:
:#:~ : # us: ~ ~
current device: #, in function ~ at ~:#
~:#: ROCm error
~:#: CUDA error
~:#: GGML_ASSERT(~) failed
~:#: fatal error
ggml_cuda_compute_forward: ~ failed
No hipBLASLt solution found
hipBlasLT failed, falling back to tensile
rocBLAS warning: hipBlasLT failed, falling back to tensile.
Aborted (core dumped)
Segmentation fault (core dumped)
Killed
# (~) with @ for @
build # (~) with @ for @
verbosity = # (adjust with the `-lv N` CLI arg)
build: # (~) with @ for @
system info: n_threads = #, n_threads_batch = #, total_threads = #
system_info: n_threads = # (n_threads_batch = #) / # | @ |
n_threads = # (n_threads_batch = #) / # | @ |
| - @ | # = # + # + # |
| - @ | # = # + (# = # + # + #) + # |
KV self size = # MiB, K (~): # MiB, V (~): # MiB
Flash Attention ~
n_gen = #, tg = # t/s, tg_3s = # t/s
n_decoded = #, tg = # t/s, tg_3s = # t/s
statistics ~: &
statistics ~ &
acc per pos = &
begin: ngram_mod occupancy = #/# (#)
- looking for better prompt, base f_keep = #, sim = #
Chat format: ~
sampler params:
draft size # exceeds max #, truncating
shrink cleanup begin: # -> #
refresh map: idx_last_draft=#, new begin=#, #keys_checked=#, #keys_del=#, #values_del=#, #hashes_upd=#
load time = # ms
prompt eval time = # ms / # tokens (# ms per token, # tokens per second)
eval time = # ms / # runs (# ms per token, # tokens per second)
unaccounted = # ms
slot context shift, n_keep = #, n_left = #, n_discard = #
failed to find free space in the KV cache, retrying with smaller batch size, off = #, n_batch = #, ret = #
task id = #, error: request (# tokens) exceeds the available context size (# tokens), try increasing it
Context size has been exceeded.
context size has been exceeded.
couldn't bind HTTP server socket, hostname: ~, port: #
exiting due to HTTP server error
failed to create_context with model '~'
failed to initialize the context: failed to allocate buffer for kv cache
ggml_aligned_malloc: insufficient memory (attempted to allocate # MB)
allocating # MiB on device #: cudaMalloc failed: %
error loading model: llama_model_loader: failed to load model from ~
llama_model_loader: failed to load model from ~
error loading model: tensor '~' data is not within the file bounds, model is corrupted or incomplete
error loading model: unknown model architecture: '~'
the draft model '~' is not compatible with the target model '~'. tokens will be translated
ggml_vulkan: device lost on ~
ggml_vulkan: %
ggml_vulkan: vk::~: %
vk::Queue::submit: %
vk::Device::~: %
vk::PhysicalDevice::~: %
what(): vk::Queue::submit: %
what(): vk::Device::~: %
radv/amdgpu: %
amdgpu: %
ROCm error: %
CUDA error: %
rocBLAS error: %
rocblaslt error: %
HW Exception by GPU node-# (Agent handle: #) reason :%
Memory access fault by GPU node-# (Agent handle: #) on address #. Reason: %
clearing prompt with # tokens
need to evaluate at least # token for each active slot (n_past = #, task.n_tokens() = #)
n_past was set to #
saving idle slot to prompt cache
idle slots will be saved to prompt cache and cleared upon starting a new task
--clear-idle requires --kv-unified, disabling
- looking for better prompt, base f_keep = #, f_sim = #
- found better prompt with f_keep = #, sim = #
- found better prompt with f_keep = #, f_sim = #
- prompt with length #, lcp = #, f_keep = #, f_sim = #
- prompt is already in the cache, skipping
chat format: ~
no tokens to decode
exit command received, exiting...
failed to load model
task id = #, error: Context size has been exceeded.
Context size has been exceeded. i = #, n_batch = #, ret = #
failed to load model '~'
sampler chain: §
Context size has been exceeded. off = #, n_batch = #, ret = #
decode() failed: Context size has been exceeded.
gguf_init_from_reader: this GGUF file is version # but this software only supports up to version #
gguf_init_from_reader: failed to read header
gguf_init_from_file: failed to open GGUF file '~' (No such file or directory)
gguf_init_from_file: failed to open GGUF file '~' (Permission denied)
encountered an error while trying to fit params to free device memory: failed to load model
failed to measure the memory of the extra model, fitting without it: failed to load model
the target and draft vocabs are not compatible - tokens will be translated between the two
unauthorized: Invalid API Key
error while handling argument "~": the argument has been removed. use ~
error while handling argument "~": the argument has been removed. use ~ or ~
security: router mode enabled - do not expose to untrusted environments
starting server in router mode. models will be automatically loaded on-demand
child server monitoring thread started, waiting for EOF on stdin...
spawning server instance with args:
spawning server instance with name=~ on port #
instance name=~ exited with status #
request for name=~ queued at position #
waiting until model name=~ is fully loaded...
slot available, loading queued model name=~
evicting idle LRU name=~ for a queued request
models_max limit reached, removing LRU name=~
stopping model instance name=~
Available models (#):
send failed (bytes_sent=#, size_to_send=#)
~:#: Remote RPC server crashed or returned malformed response
Accepted client connection
Client connection closed
Starting RPC server v~
endpoint : ~
local cache : n/a
transport : TCP
arch = ~
n_ctx_train = #
n_embd = #
n_layer = #
n_head = #
n_head_kv = #
n_swa = #
n_ff = #
n_expert = #
n_expert_used = #
n_vocab = #
model params = # K
model params = # M
model params = # B
file size = # KiB (# BPW)
file size = # MiB (# BPW)
file size = # GiB (# BPW)
attn_rot_k = #, n_embd_head_k_all = #
attn_rot_v = #, n_embd_head_k_all = #
fused Gated Delta Net (autoregressive) enabled
fused Gated Delta Net (chunked) enabled
resolving fused Gated Delta Net support:
token to piece cache size = # MB
special tokens cache size = #
repeat_last_n = #, repeat_penalty = #, frequency_penalty = #, presence_penalty = #
dry_multiplier = #, dry_base = #, dry_allowed_length = #, dry_penalty_last_n = #
top_k = #, top_p = #, min_p = #, xtc_probability = #, xtc_threshold = #, typical_p = #, top_n_sigma = #, temp = #
mirostat = #, mirostat_lr = #, mirostat_ent = #, adaptive_target = #, adaptive_decay = #
done request: ¤ #
"""

TROUBLES = """
ErrorDeviceLost
ErrorOutOfDeviceMemory
ErrorOutOfHostMemory
ErrorInitializationFailed
ErrorUnknown
device lost
out of memory
GPU Hang
Unknown
Page not present or supervisor privilege.
Write access to a read-only page.
an illegal memory access was encountered
unspecified launch failure
invalid device function
invalid argument
invalid configuration argument
no ROCm-capable device is detected
no CUDA-capable device is detected
device kernel image is invalid
hipErrorOutOfMemory
hipErrorNoBinaryForGpu
hipErrorIllegalAddress
hipErrorLaunchFailure
The CS has been cancelled because the context is lost. This context is guilty of a soft recovery.
The CS has been cancelled because the context is lost. This context is guilty of a hard recovery.
The CS has been cancelled because the context is lost. This context is innocent.
The CS has been rejected, see dmesg for more information (-2).
Failed to allocate a buffer:
Not enough memory for command submission.
unsupported architecture
"""

PATHS = (  # of requests
    "/completion /completions /v1/completions /chat/completions /v1/chat/completions /v1/responses "
    "/v1/messages /embedding /embeddings /v1/embeddings /rerank /v1/rerank /infill /tokenize /detokenize /apply-template "
    "/slots /props /metrics /health /v1/models /models"
)
