"""Mixed precision: hardware support for bfloat16 and float16, and the `autocast` settings."""

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError

AUTOCAST_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Values of oneDNN's environment variables below which it has no bfloat16, or emulates it slowly.
_LIMITS_WITHOUT_BFLOAT16 = "SSE41 AVX AVX2 AVX2_VNNI AVX2_VNNI_2 AVX512_CORE AVX512_CORE_VNNI"


def supports(dtype: torch.dtype, device: torch.device) -> bool:
    """
    Return whether a device supports a precision in hardware.

    On an x86 CPU, bfloat16 requires AVX512_BF16 or AMX. (oneDNN emulates it on other CPUs with AVX-512, much slower
    than float32, and fails without AVX-512.) float16 is for GPUs.
    """
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    if limit.upper() in _LIMITS_WITHOUT_BFLOAT16.split() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def check_autocast(autocast: str | None, owner: str) -> None:
    """
    Check an `autocast` setting before anything runs. `owner` is the registered name of the object with the setting, for
    messages.

    Raises `ConfigurationError` for any other value, and for a precision that no device of this machine supports.
    """
    if autocast in (None, "auto"):
        return
    if autocast not in AUTOCAST_TYPES:
        raise ConfigurationError(
            f"autocast of {owner} is null, 'auto', {' or '.join(map(repr, AUTOCAST_TYPES))}, not {autocast!r}."
        )
    devices = [torch.device("cpu"), *(torch.device("cuda", n) for n in range(torch.cuda.device_count()))]
    if not any(supports(AUTOCAST_TYPES[autocast], device) for device in devices):
        raise ConfigurationError(_unsupported(autocast, owner, "this machine"))


def resolve_autocast(autocast: str | None, device: torch.device, owner: str) -> torch.dtype | None:
    """
    The precision of an `autocast` setting on a device: `None` (that of the weights), "auto" (bfloat16 if the device
    supports it), "bfloat16" or "float16".

    Raises `ConfigurationError` like `check_autocast`, and for a precision that the device does not support.
    """
    if autocast is None:
        return None
    if autocast == "auto":
        return torch.bfloat16 if supports(torch.bfloat16, device) else None
    check_autocast(autocast, owner)
    if not supports(AUTOCAST_TYPES[autocast], device):
        raise ConfigurationError(_unsupported(autocast, owner, f"the device '{device}'"))
    return AUTOCAST_TYPES[autocast]


def autocast_context(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to `dtype`; `None` leaves an active autocast unchanged."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _unsupported(autocast: str, owner: str, place: str) -> str:
    hardware = "a CPU with AVX512_BF16 or AMX, or a GPU" if autocast == "bfloat16" else "a GPU"
    return (
        f"autocast of {owner} is '{autocast}', which {place} does not support: it needs {hardware} that computes in "
        f'{autocast}. Use "autocast": "auto" (bfloat16 where it is supported) or null (float32).'
    )
