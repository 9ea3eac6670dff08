"""The optimizer Muon (Jordan et al., 2024), computed in the precision of the weights.

`torch.optim.Muon` orthogonalises in bfloat16 on every device. On a CPU without bfloat16 instructions, it takes forty
times as long as this implementation, and longer than the rest of a training step.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the quintic iteration that moves all singular values close to 1.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum optimizer whose update is the nearest orthogonal matrix.

    Args:
        parameters (`Iterable[nn.Parameter] | Iterable[dict[str, Any]]`): Matrices, or kernels of convolutions, which
            are treated as matrices of (outputs, all inputs).
        lr (`float`): Learning rate. The update of a matrix (A, B) is scaled by sqrt(max(1, A / B)).
        momentum (`float`, *optional*, defaults to `0.95`): Nesterov momentum of the gradients.
        weight_decay (`float`, *optional*, defaults to `0.0`): Decoupled weight decay.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure else None
        for group in self.param_groups:
            for matrix in (p for p in group["params"] if p.grad is not None):
                state = self.state[matrix]
                average = state.setdefault("momentum", torch.zeros_like(matrix))
                average.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalise(matrix.grad.lerp(average, group["momentum"]).flatten(1))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                scale = max(1, update.shape[0] / update.shape[1]) ** 0.5
                matrix.add_(update.view_as(matrix), alpha=-group["lr"] * scale)
        return loss


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Returns a matrix with the same singular vectors and singular values close to 1, by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
