"""Write goldens/chat.json: what transformers' apply_chat_template makes of the chats of chats.py.

usage: make_chat_goldens.py [FOLDER]     FOLDER holds qwen2.5-tokenizer, by default HART_TEST_DATA

Of our own templates the text and the token ids are kept. Qwen's template is not ours: of what it writes only SHA-256
sums are.
"""
import hashlib
import json
import os
import pathlib
import sys
import tempfile

import transformers

import chats
import models

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens" / "chat.json"


def key(*parts):
    return " ".join(str(part).lower() for part in parts)


def applied(tokenizer, chat, tools, prompt):
    """(text, ids) by transformers."""
    arguments = {"tools": [chats.WEATHER] if tools else None, "add_generation_prompt": prompt}
    text = tokenizer.apply_chat_template(chats.CHATS[chat], tokenize=False, **arguments)
    ids = tokenizer.apply_chat_template(chats.CHATS[chat], tokenize=True, return_dict=False, **arguments)
    return text, ids


def sums(text, ids):
    return [hashlib.sha256(value.encode()).hexdigest()[:32] for value in (text, json.dumps(ids))]


def own_tokenizer(template):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "tokenizer.json").write_text(json.dumps(models.tokenizer_json(models.Model("chat", vocab=137))))
        (folder / "tokenizer_config.json").write_text(json.dumps(chats.tokenizer_config(template)))
        return transformers.AutoTokenizer.from_pretrained(folder)


def main(data):
    qwen = transformers.AutoTokenizer.from_pretrained(pathlib.Path(data) / "qwen2.5-tokenizer")
    own = {template: own_tokenizer(template) for template in chats.TEMPLATES}
    done = {"made_by": f"transformers {transformers.__version__}",
            "own": {key(template, *case): applied(own[template], *case) for template, *case in chats.CASES},
            "qwen": {key(*case): sums(*applied(qwen, *case)) for case in chats.QWEN_CASES}}
    lines = [f'"made_by": {json.dumps(done["made_by"])}']
    for part in ("own", "qwen"):
        body = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in done[part].items())
        lines.append(f'"{part}": {{\n{body}\n}}')
    GOLDENS.write_text("{" + ",\n".join(lines) + "}\n")
    print(len(done["own"]), "own,", len(done["qwen"]), "qwen")


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    main(*(sys.argv[1:] or [os.environ["HART_TEST_DATA"]]))
