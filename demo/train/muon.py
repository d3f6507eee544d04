"""Muon: momentum whose update is orthogonalised, for the weight matrices inside the layers.

Each matrix moves along the nearest semi-orthogonal matrix to its Nesterov momentum (Keller Jordan, 2024), found by five
Newton-Schulz steps. The factor 0.2 * sqrt(larger side) gives the update the size of AdamW's (Liu et al., 2025), so both
optimizers share one learning rate and one weight decay.
"""

import torch


def orthogonalise(stack):
    """Newton-Schulz on a stack of matrices (n, rows, cols), rows <= cols; singular values end near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = stack / (stack.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.1):
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for (rows, cols), params in shapes.items():
                # All matrices of one shape go through Newton-Schulz together.
                updates = torch.stack([self._momentum(p, group["momentum"]) for p in params])
                tall = rows > cols
                updates = orthogonalise(updates.transpose(1, 2) if tall else updates)
                updates = updates.transpose(1, 2) if tall else updates
                for p, update in zip(params, updates):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * 0.2 * max(rows, cols) ** 0.5)

    def _momentum(self, p, momentum):
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum"], momentum)
