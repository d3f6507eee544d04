"""The machine: what it is, its read bandwidth, and the memory and time that its processes take."""

import os
import pathlib
import subprocess
import threading

HERE = pathlib.Path(__file__).resolve().parent
BUFFER_MIB, PASSES = 512, 4
# instructions that decide how fast low-precision numbers are multiplied
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def fields(path):
    """The "name: value" lines of a file of /proc; of equal names the first."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def description():
    cpu = fields("/proc/cpuinfo")
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", "unknown processor"),
        "cores": len(os.sched_getaffinity(0)),
        "flags": {flag: flag in flags for flag in FLAGS},
        "load": os.getloadavg()[0],
        "memory_gb": int(fields("/proc/meminfo")["MemTotal"].split()[0]) / 1e6,
    }


class Bandwidth:
    """GB/s at which threads read memory; bandwidth.c compiled for this processor."""

    def __init__(self, folder):
        self.program = folder / "bandwidth"
        command = ["cc", "-O3", "-march=native", "-pthread", "-o", self.program, HERE / "bandwidth.c"]
        subprocess.run(command, check=True)

    def __call__(self, threads):
        """One figure a pass."""
        output = subprocess.check_output([self.program, str(threads), str(BUFFER_MIB), str(PASSES)], text=True)
        return [float(line) for line in output.split()]


class HugePages:
    """Pages of 2 MB for whoever asks for them, where the user may say so, and as before at the end: some set aside, as PostgreSQL's documentation
    advises for large shared buffers, and others for memory that a process allocates."""

    RESERVED = pathlib.Path("/proc/sys/vm/nr_hugepages")
    TRANSPARENT = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")

    def __init__(self, wanted):
        """`wanted` pages are set aside, if there is the memory; none is asked for when it is 0."""
        self.before = {}
        reserved = self._reserved()
        if wanted:
            # those that somebody else has set aside stay
            self._set(self.RESERVED, max(wanted, reserved))
            self._set(self.TRANSPARENT, "always")
            reserved = self._reserved()
        self.granted = 0 < wanted <= reserved

    def _reserved(self):
        return int(self.RESERVED.read_text()) if self.RESERVED.exists() else 0

    def _set(self, path, value):
        try:
            before = path.read_text().strip()
            path.write_text(str(value))
        except OSError:  # no such kernel, or not this user
            return
        # of words, the one in force is in brackets
        self.before[path] = before.partition("[")[2].partition("]")[0] or before

    def release(self):
        for path, value in self.before.items():
            path.write_text(value)


class PeakMemory(threading.Thread):
    """Watches the memory that a process has for itself, shared buffers not counted."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status = pathlib.Path(f"/proc/{pid}/status")
        self.peak = 0
        self.stopped = threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(0.02):
            try:
                own = fields(self.status).get("RssAnon", "0 kB")
            except OSError:  # it has ended
                return
            self.peak = max(self.peak, int(own.split()[0]) * 1024)

    def stop(self):
        self.stopped.set()
        self.join()
        return self.peak


def processor_seconds(pid):
    """Processor time that a process has used, all its threads together."""
    after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def evict(paths):
    """Drop files from the system's cache, as far as no process has them mapped; False when one cannot be opened."""
    for path in paths:
        try:
            file = os.open(path, os.O_RDONLY)
        except PermissionError:
            return False
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
    return True
