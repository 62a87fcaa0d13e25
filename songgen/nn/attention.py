"""Causal attention over a static key/value cache: one function for a prompt, one for a decoding step.

Knows nothing of models. A decoding step has three backends: `flash` (the flash-attn package), `triton` (our
own kernel, `triton_kernels.py`) and `sdpa` (PyTorch's products, everywhere). With `sdpa` every row of a batch
is
independent: a row's result does not change, not by one bit on the CPU in float32, with the rows beside it or
with the window that is read, so that a song does not depend on its neighbours.
`F.scaled_dot_product_attention` does not keep that promise for one query position (its blocking depends on
the window and on the number of threads), and is no faster there.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor
from torch.nn import functional

from songgen.nn.kv_cache import LayerCache

ATTENTIONS = ("auto", "flash", "triton", "sdpa")


def backends(device: torch.device) -> dict[str, str | None]:
    """The backends of a decoding step by name, the preferred first: None if it can run here, else why not."""
    return {name: _obstacle(name, device) for name in ATTENTIONS[1:]}


def _obstacle(name: str, device: torch.device) -> str | None:
    package = {"flash": "flash_attn", "triton": "triton"}.get(name)
    if package is None:
        return None
    if device.type != "cuda":
        return f"it needs a CUDA GPU, and this is {device.type}"
    if importlib.util.find_spec(package) is None:
        return f"the package {package} is not installed"
    if name == "flash" and torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or more"
    return None


def choose_attention(name: str, device: torch.device, dtype: torch.dtype, *, is_int8: bool = False) -> str:
    """The backend called `auto`, `flash`, `triton` or `sdpa`.

    Args:
        dtype: compute dtype; flash takes 16 bit only.
        is_int8: whether the cache is in 8 bits, which flash cannot read.

    Raises:
        ValueError: an unknown name, or a backend that cannot run here; says why.
    """
    if name not in ATTENTIONS:
        raise ValueError(f"attention is {name!r}; it must be one of {', '.join(ATTENTIONS)}")
    found = backends(device)
    if dtype == torch.float32:
        found["flash"] = found["flash"] or "it computes in 16 bit only, and dtype is fp32"
    if is_int8:
        found["flash"] = found["flash"] or "it cannot read an 8-bit cache"
    if name == "auto":
        return next(backend for backend, obstacle in found.items() if obstacle is None)
    if found[name] is not None:
        raise ValueError(f"attention={name} cannot run here: {found[name]}; attention=auto chooses what can")
    return name


def window_of(length: int, capacity: int, step: int) -> int:
    """The cache positions to read so that `length` positions are seen: a multiple of `step`, or all."""
    return min(-(-length // step) * step, capacity)


def attend_prompt(q_BHSE: Tensor, k_BHPE: Tensor, v_BHPE: Tensor) -> Tensor:
    """Causal attention of S new positions over P >= S, of which they are the last; returns `[B, H, S, E]`."""
    num_new, num_all = q_BHSE.shape[2], k_BHPE.shape[2]
    if num_new == num_all:
        return functional.scaled_dot_product_attention(q_BHSE, k_BHPE, v_BHPE, is_causal=True)
    seen_SP = torch.ones(num_new, num_all, dtype=torch.bool, device=q_BHSE.device).tril(num_all - num_new)
    return functional.scaled_dot_product_attention(q_BHSE, k_BHPE, v_BHPE, attn_mask=seen_SP)


def attend_step(q_BHE: Tensor, cache: LayerCache, lengths_B: Tensor, window: int) -> Tensor:
    """Attention of one new position per row over the first `lengths_B` positions of the cache.

    Softmax in float32, weights cast back to the dtype of the values, as published. Of an 8-bit cache only the
    window is widened, layer by layer.

    Args:
        q_BHE: queries, rotated.
        lengths_B: int64, 1 ... window: positions written, the new one included.
        window: positions that are read.

    Returns:
        `[B, H, E]`.
    """
    k_BHWE, v_BHWE = cache.read(slice(None), window, q_BHE.dtype)
    scores_BHW = (
        torch.matmul(q_BHE.unsqueeze(2), k_BHWE.transpose(2, 3)).squeeze(2).float() * q_BHE.shape[-1] ** -0.5
    )
    positions_W = torch.arange(window, device=lengths_B.device)
    unwritten_BW = positions_W >= lengths_B[:, None]
    weights_BHW = scores_BHW.masked_fill(unwritten_BW[:, None], float("-inf")).softmax(-1)
    return torch.matmul(weights_BHW.to(v_BHWE.dtype).unsqueeze(2), v_BHWE).squeeze(2)


def attend_step_flash(q_BHE: Tensor, cache: LayerCache, lengths_B: Tensor, window: int) -> Tensor:
    """`attend_step` by flash-attn's kernel for caches, which reads what each row has written; no window."""
    from flash_attn import flash_attn_with_kvcache

    attended_B1HE: Tensor = flash_attn_with_kvcache(
        q_BHE.unsqueeze(1),
        cache.keys.transpose(1, 2),
        cache.values.transpose(1, 2),
        cache_seqlens=lengths_B.to(torch.int32),
    )
    return attended_B1HE.squeeze(1)
