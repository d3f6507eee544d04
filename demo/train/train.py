"""Train the demo model: Muon for the layers' matrices, AdamW for the rest; four cycles of learning rate.

export.py writes the last checkpoint as a model and measures it on the held-out pages.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import corpus
from data import Pages
from model import Config, Qwen2
from muon import Muon


# (step, fraction of the peak learning rate), straight lines between: warm-up, stable, decay, then three more cycles, each from a lower peak.
SCHEDULE = [(-1, 0.0), (49, 1.0), (600, 1.0), (820, 0.0), (840, 0.6), (1120, 0.0), (1140, 0.6), (1740, 0.0), (1750, 0.4), (2040, 0.0)]
STEPS = SCHEDULE[-1][0]


def learning_rate(step, peak):
    return peak * float(np.interp(step, *zip(*SCHEDULE)))


@torch.compile
def loss_of(model, batch):
    """Mean cross-entropy of every token given those before it; compiled, a step takes two thirds of the time."""
    return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


def optimizers(model, args):
    inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    outer = [
        {"params": [model.model.embed_tokens.weight], "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return Muon(inner, lr=args.lr), torch.optim.AdamW(outer, lr=args.lr, betas=(0.9, 0.95))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=corpus.WORK)
    parser.add_argument("--batch", type=int, default=8, help="sequences a step")
    parser.add_argument("--lr", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    return parser.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = Config()
    model = Qwen2(config)
    pages = Pages(args.work, config.max_positions, args.batch, args.seed)
    both = optimizers(model, args)
    checkpoint = args.work / "checkpoint.pt"
    first = 0
    if args.resume:
        saved = torch.load(checkpoint)
        first = saved["step"]
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(both, saved["optimizers"]):
            optimizer.load_state_dict(state)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {pages.steps_per_epoch} steps an epoch", flush=True)

    start, total = time.time(), 0.0
    for step in range(first, STEPS):
        batch = pages.batch_at(step)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in both:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, args.lr)
            optimizer.step()
            optimizer.zero_grad()
        total += loss.item()
        done = step + 1
        if done % 20 == 0:
            seconds = (time.time() - start) / (done - first)
            print(f"step {done} loss {total / 20:.4f} lr {learning_rate(step, args.lr):.2e} {seconds:.3f} s/step", flush=True)
            total = 0.0
        if done % args.save_every == 0 or done == STEPS:
            state = {"step": done, "model": model.state_dict(), "optimizers": [o.state_dict() for o in both]}
            # Write beside and rename: a run cut short never leaves half a checkpoint.
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)


if __name__ == "__main__":
    main()
