"""Rotary position embeddings: the inverse frequencies, in float32 as transformers computes them."""

import math

import numpy

from .configkeys import HINT, refused, says_nothing, shown
from .errors import FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, HartError, quoted

DEFAULT_THETA = 10000.0
KEYS = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}


def inverse_frequencies(config, head_dim, max_positions):
    """head_dim / 2 numbers: the angle by which each pair of a head turns per position."""
    parameters = rope_parameters(config, max_positions)
    exponents = numpy.arange(0, head_dim, 2, dtype=numpy.float32) / numpy.float32(head_dim)
    # Powers in float64, then rounded: nearer to torch's than numpy's powers in float32.
    powers = numpy.float64(parameters["rope_theta"]) ** exponents.astype(numpy.float64)
    frequencies = numpy.float32(1) / powers.astype(numpy.float32)
    if parameters["rope_type"] == "linear":
        frequencies = frequencies / numpy.float32(parameters["factor"])
    elif parameters["rope_type"] == "llama3":
        frequencies = scale_llama3(frequencies, parameters)
    frequencies = frequencies.astype(numpy.float32)
    if not (numpy.isfinite(frequencies).all() and (frequencies > 0).all()):
        raise HartError("the RoPE settings of config.json are out of range", INVALID_PARAMETER_VALUE, hint=HINT)
    return [float(frequency) for frequency in frequencies]


def scale_llama3(frequencies, parameters):
    """Llama 3's scaling: long waves are stretched, short ones kept, those between blended."""
    f32 = numpy.float32
    factor = f32(parameters["factor"])
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    context = parameters["original_max_position_embeddings"]
    # torch divides a number by a tensor as number × reciprocal, which rounds twice: the same here.
    waves = f32(2 * math.pi) * (f32(1) / frequencies)
    longest, shortest = f32(context / low), f32(context / high)
    scaled = numpy.where(waves > longest, frequencies / factor, frequencies)
    smooth = (f32(context) * (f32(1) / waves) - f32(low)) / f32(high - low)
    blended = (f32(1) - smooth) * scaled / factor + smooth * scaled
    return numpy.where((waves >= shortest) & (waves <= longest), blended, scaled)


def rope_parameters(config, max_positions):
    """The settings in one dict, from either spelling: rope_theta and rope_scaling, or rope_parameters."""
    spellings = [key for key in ("rope_scaling", "rope_parameters") if not says_nothing(config.get(key))]
    found = [standard(config[key], key, max_positions) for key in spellings]
    if len(found) == 2 and found[0] != found[1]:
        raise HartError(
            'config.json has "rope_scaling" and "rope_parameters", and they differ',
            INVALID_PARAMETER_VALUE,
            hint="Remove the one that is wrong.",
        )
    parameters = found[0] if found else {"rope_type": "default"}
    theta = config.get("rope_theta")
    if theta is not None:
        theta = number(theta, "rope_theta")
        if parameters.setdefault("rope_theta", theta) != theta:
            raise HartError(
                f'config.json has two values for "rope_theta": {shown(theta)} and {shown(parameters["rope_theta"])}',
                INVALID_PARAMETER_VALUE,
                hint="Remove the one that is wrong.",
            )
    parameters.setdefault("rope_theta", DEFAULT_THETA)
    return parameters


def standard(settings, key, max_positions):
    """One spelling's dict: checked, and reduced to what its type uses."""
    if not isinstance(settings, dict):
        raise HartError(f"config.json key {quoted(key)} must hold an object", INVALID_PARAMETER_VALUE, hint=HINT)
    rope_type = settings.get("rope_type", settings.get("type", "default"))
    if "type" in settings and settings["type"] != rope_type:
        raise HartError(
            f'config.json key {quoted(key)} has a "type" and another "rope_type"', INVALID_PARAMETER_VALUE, hint=HINT
        )
    if not isinstance(rope_type, str) or rope_type not in KEYS:
        raise HartError(
            f"RoPE type {shown(rope_type)} is not supported",
            FEATURE_NOT_SUPPORTED,
            hint="Supported are " + ", ".join(KEYS) + ".",
        )
    for name, value in settings.items():
        known = name in KEYS[rope_type] or name in ("rope_type", "type", "rope_theta")
        neutral = says_nothing(value) or (name == "partial_rotary_factor" and value == 1)
        if not known and not neutral:
            raise refused(f"{key}.{name}", value, f"RoPE type {rope_type} is not known to use this key.")
    result = {"rope_type": rope_type}
    for name in KEYS[rope_type]:
        if name == "original_max_position_embeddings" and settings.get(name) is None:
            result[name] = float(max_positions)
        else:
            result[name] = number(settings.get(name), f"{key}.{name}")
    if settings.get("rope_theta") is not None:
        result["rope_theta"] = number(settings["rope_theta"], f"{key}.rope_theta")
    if rope_type == "llama3" and result["high_freq_factor"] <= result["low_freq_factor"]:
        raise HartError(
            f"config.json key {quoted(key)} has a high_freq_factor that is not above low_freq_factor",
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    return result


def number(value, name):
    """A finite number above zero."""
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e30
    if not valid:
        raise HartError(
            f"config.json key {quoted(name)} must be a number above 0, not {shown(value)}",
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    return float(value)
