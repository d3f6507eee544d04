"""The engines that Hartonomous is compared with, each a process of its own with the same calls as hartonomous.py.

Times are lists of milliseconds.
"""

import base64
import json
import os
import pathlib
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
QUANTIZED = ("Q8_0", "Q4_0")
REFERENCE = "transformers fp32"


class Peer:
    """A worker of the folder peers, in the Python that has the engine."""

    def __init__(self, name, python, script, arguments, file):
        self.name, self.file = name, file
        self.widened = 1
        self.remark = None
        # PYTHONPATH holds the server's packages, which are not this Python's
        self.command = [python, "-E", HERE / "peers" / script, *map(str, arguments)]
        self.process = None

    def sizes(self):
        """Bytes of weights that a token needs, and of the model on disk."""
        return {"per_token": self.file.stat().st_size * self.widened, "stored": self.file.stat().st_size}

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, measure, **request):
        if self.process is None:
            self.start()
        self.process.stdin.write(json.dumps({"measure": measure, **request}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped; run {' '.join(map(str, self.command))} to see why")
        return json.loads(line)

    def decode(self, threads, context, n):
        return self.ask("decode", threads=threads, context=context, n=n)

    def prefill(self, threads, length):
        return self.ask("prefill", threads=threads, length=length)

    def batch(self, threads, sequences, n):
        return self.ask("batch", threads=threads, sequences=sequences, n=n)

    def logits(self, tokens):
        data = base64.b64decode(self.ask("logits", tokens=tokens))
        return struct.unpack(f"<{len(data) // 4}f", data)

    def first_token_command(self, text, threads):
        return [*self.command, "first-token", text, str(threads)], dict(os.environ)

    def stop(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


class LlamaCpp(Peer):
    def __init__(self, python, file):
        super().__init__(f"llama.cpp {file.stem}", python, "llama_worker.py", [file], file)
        if self.crashes():
            super().__init__(f"llama.cpp {file.stem}", python, "llama_worker.py", ["--no-repack", file], file)
            self.remark = "crashes here with its weights repacked for this processor, and was measured with them as they are in the file"

    def crashes(self):
        """Whether a signal ends it at the first token after a prompt."""
        command, environment = self.first_token_command("A prompt of several tokens, which run together", os.cpu_count())
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode < 0


class Transformers(Peer):
    def __init__(self, python, folder, dtype):
        arguments = [folder, {"bf16": "bfloat16", "fp32": "float32"}[dtype]]
        super().__init__(f"transformers {dtype}", python, "transformers_worker.py", arguments, folder / "model.safetensors")
        if dtype == "fp32":
            self.widened = 2  # in memory


def install_peers(folder):
    """The Python that has the peers; None when they cannot be had."""
    command = ["bash", HERE / "peers" / "install.sh", folder, sys.executable]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return made.stdout.strip() if made.returncode == 0 else None


def make_peers(python, model, folder):
    """All peers; the files of llama.cpp are written to the folder, once."""
    command = [python, "-E", HERE / "peers" / "write_gguf.py", model, folder, *QUANTIZED]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    llama = [LlamaCpp(python, folder / f"{kind}.gguf") for kind in ("BF16", *QUANTIZED)]
    return llama + [Transformers(python, model, dtype) for dtype in ("bf16", "fp32")]
