"""Train the demo model: Muon for the layers' matrices, AdamW for the rest; warm-up, stable, linear decay."""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import corpus
from data import Pages
from evaluate import bits_per_byte
from model import Config, Qwen2
from muon import Muon


def learning_rate(step, args):
    """Constant until the last part of the run, so that its length can be settled while it runs."""
    left = min(1, (args.steps - step) / args.decay)
    return args.lr * min((step + 1) / args.warmup, args.floor + (1 - args.floor) * left)


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
    parser.add_argument("--steps", type=int, default=820)
    parser.add_argument("--batch", type=int, default=8, help="sequences a step")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--decay", type=int, default=220, help="steps")
    parser.add_argument("--floor", type=float, default=0.0, help="of the learning rate, as a fraction of its peak")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=200, help="steps between checkpoints and evaluations")
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
    for step in range(first, args.steps):
        batch = pages.batch_at(step)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in both:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, args)
            optimizer.step()
            optimizer.zero_grad()
        total += loss.item()
        done = step + 1
        if done % 20 == 0:
            seconds = (time.time() - start) / (done - first)
            print(f"step {done} loss {total / 20:.4f} lr {learning_rate(step, args):.2e} {seconds:.3f} s/step", flush=True)
            total = 0.0
        if done % args.save_every == 0 or done == args.steps:
            state = {"step": done, "model": model.state_dict(), "optimizers": [o.state_dict() for o in both]}
            # Write beside and rename: a run cut short never leaves half a checkpoint.
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            print(f"step {done} held-out bits per byte {bits_per_byte(model, args.work, args.work / 'tokenizer.json'):.4f}", flush=True)


if __name__ == "__main__":
    main()
