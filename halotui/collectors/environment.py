"""Variables of a server's process that change what it does on this chip, and hold no secret: one table."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SWITCH = r"\w{0,8}"
_NUMBER = r"-?\d{0,12}"
_DEVICES = r"[\d, -]{0,40}|(?:GPU-[0-9a-f]{1,32},?){1,8}"
_WORDS = r"[a-z0-9_,]{0,120}"

# What does not look as it should is left out.
MATTERS: dict[str, re.Pattern[str]] = {
    name: re.compile(shape, re.A)
    for name, shape in {
        "AMD_VULKAN_ICD": r"RADV|AMDVLK|",
        "GGML_CUDA_DISABLE_GRAPHS": _SWITCH,
        "GGML_CUDA_ENABLE_UNIFIED_MEMORY": _SWITCH,
        "GGML_CUDA_FORCE_CUBLAS": _SWITCH,
        "GGML_CUDA_FORCE_MMQ": _SWITCH,
        "GGML_HIP_UMA": _SWITCH,
        "GGML_VK_ALLOW_SYSMEM_FALLBACK": _SWITCH,
        "GGML_VK_DISABLE_COOPMAT": _SWITCH,
        "GGML_VK_FORCE_MAX_ALLOCATION_SIZE": _NUMBER,
        "GGML_VK_FORCE_MAX_BUFFER_SIZE": _NUMBER,
        "GGML_VK_PREFER_HOST_MEMORY": _SWITCH,
        "GGML_VK_SUBALLOCATION_BLOCK_SIZE": _NUMBER,
        "GGML_VK_VISIBLE_DEVICES": _DEVICES,
        "GPU_MAX_HW_QUEUES": _NUMBER,
        "HIP_LAUNCH_BLOCKING": _SWITCH,
        "HIP_VISIBLE_DEVICES": _DEVICES,
        "HSA_ENABLE_SDMA": _SWITCH,
        "HSA_NO_SCRATCH_RECLAIM": _SWITCH,
        "HSA_OVERRIDE_GFX_VERSION": r"\d{1,2}\.\d{1,2}\.[0-9a-f]{1,2}|",
        "HSA_XNACK": _SWITCH,
        "RADV_DEBUG": _WORDS,
        "RADV_PERFTEST": _WORDS,
        "ROCBLAS_USE_HIPBLASLT": _SWITCH,
        "ROCR_VISIBLE_DEVICES": _DEVICES,
    }.items()
}


def told(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """``NAME=value``, by name. None: not ours to read; a process without any variables there is none."""
    if not environ:
        return None
    pairs = ((name, environ[name]) for name in MATTERS if name in environ)
    return tuple(f"{name}={value}" for name, value in pairs if MATTERS[name].fullmatch(value))


def is_told(pair: str) -> bool:
    """Whether it is one that ``told`` tells."""
    name, sign, value = pair.partition("=")
    shape = MATTERS.get(name) if sign else None
    return shape is not None and shape.fullmatch(value) is not None
