"""Which Python packages the server needs, and whether they are there."""

import importlib.metadata
import os
import re
import sys

from .errors import UNDEFINED_FILE, HartError

# The same ranges as in requirements.txt: at least the first version, below the second.
REQUIRED = {
    "jinja2": ("3.1.6", "4"),
    "markupsafe": ("2.0", "4"),
    "numpy": ("1.24", "3"),
    "safetensors": ("0.4.3", "1"),
    "tokenizers": ("0.20", "1"),
    "llguidance": ("1.9", "2"),
}


def check_packages():
    """Raise one error that lists all packages that are missing or of another version."""
    problems = []
    for name, (least, below) in REQUIRED.items():
        version = installed_version(name)
        if version is None:
            problems.append(f"{name} is missing")
        elif not numbers(least) <= numbers(version) < numbers(below):
            problems.append(f"{name} is version {version}, not >={least},<{below}")
    if problems:
        raise HartError(
            "Python packages of the server are missing or of a wrong version",
            UNDEFINED_FILE,
            detail="; ".join(problems) + f" (Python {sys.version_info[0]}.{sys.version_info[1]}).",
            hint=f'Run "make install" of hartonomous for this server again, or as the owner of that folder: {command()}',
        )


def installed_version(name):
    """The version that this session has loaded or would load, None without one."""
    loaded = vars(sys.modules[name]).get("__version__") if name in sys.modules else None
    if loaded is not None:
        return loaded
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(version):
    """The leading numbers of a version as a tuple that compares as versions do."""
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", version).group().split("."))


def command():
    """The pip command that installs the packages beside this one."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    wanted = " ".join(f"'{name}>={least},<{below}'" for name, (least, below) in REQUIRED.items())
    return (
        f"python{sys.version_info[0]}.{sys.version_info[1]} -m pip install --no-deps --upgrade "
        f"--target {folder} {wanted}"
    )
