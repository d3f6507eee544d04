"""What Hugging Face transformers answers in float32: eager attention, no KV cache."""
import torch
import transformers

VERSIONS = f"transformers {transformers.__version__}, torch {torch.__version__}, CPU, float32, eager, no KV cache"


def load(folder):
    """The model of a folder; every tensor must have found its place."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {k: v for k, v in info.items() if v and k in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    assert not wrong, wrong
    return model.eval()


@torch.no_grad()
def logits(model, ids, **options):
    """Next-token logits after the last id, as a float32 array."""
    return model(torch.tensor([ids]), use_cache=False, **options).logits[0, -1].numpy()


def greedy(model, ids, count, eos=()):
    """(greedy ids, logits after the prompt, smallest gap between the two best logits on the way)."""
    new, first, gap = [], None, float("inf")
    while len(new) < count:
        row = logits(model, ids + new)
        first = row if first is None else first
        second, best = sorted(row.tolist())[-2:] if row.size < 1000 else torch.tensor(row).topk(2).values.flip(0).tolist()
        gap = min(gap, best - second)
        new.append(int(row.argmax()))
        if new[-1] in eos:
            break
    return new, first, gap
