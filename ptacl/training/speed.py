"""How fast a training runs, and what share of the device's peak it reaches."""

import re

import torch
from torch.utils.flop_counter import FlopCounterMode

from ptacl.store.dataset import Batch
from ptacl.training.dice import Dice
from ptacl.training.objectives import Objective

# Dense bf16 peak in TFLOP/s by a part of the device's name, as its maker gives it; the first match counts.
PEAK_TFLOPS = {
    "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "GH200": 989, "B200": 2250, "A100": 312, "A40": 150,
    "A30": 165, "A10": 125, "L40S": 362, "L40": 181, "L4": 121, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip


def peak_tflops(device: torch.device) -> float | None:
    """Peak of a device in TFLOP/s; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((float(peak) for part, peak in PEAK_TFLOPS.items() if re.search(rf"\b{part}\b", name)), None)


def flops_per_row(objective: Objective, batch: Batch) -> float:
    """Floating-point operations of a forward and backward pass per row of `batch`, counted by torch.

    On the CPU in eager mode: pass a small batch, and the objective before it is moved or compiled. Attention is counted
    in its plain form, which is what the fused kernels compute.
    """
    counter = FlopCounterMode(display=False)
    gather, objective.gather = objective.gather, lambda x: x
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
        objective(batch, Dice(batch.rows.device).of_step(0))["loss"].backward()
    objective.gather = gather
    objective.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(batch.rows)
