"""The numbers of a tensor in their storage dtype, and the neighbours that a value has among them."""

import numpy

SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def decode(data, dtype):
    """Little-endian bytes as float32, exactly."""
    if dtype == "F32":
        return numpy.frombuffer(data, "<f4")
    if dtype == "F16":
        return numpy.frombuffer(data, "<f2").astype(numpy.float32)
    return (numpy.frombuffer(data, "<u2").astype(numpy.uint32) << 16).view(numpy.float32)


def encode(values, dtype):
    """Bytes of values that the dtype holds exactly."""
    if dtype == "BF16":
        return (values.astype(numpy.float32).view(numpy.uint32) >> 16).astype("<u2").tobytes()
    return values.astype("<f4" if dtype == "F32" else "<f2").tobytes()


def below_and_above(values, dtype):
    """The largest number of the dtype that is not above each float64 value, and the smallest that is above it."""
    if dtype == "BF16":
        single = values.astype(numpy.float32)
        # away from the value's own rounding to float32, then cut to 16 bits towards zero
        toward_zero = numpy.where(numpy.abs(single) > numpy.abs(values), numpy.nextafter(single, numpy.float32(0)), single)
        bits = toward_zero.view(numpy.uint32) & numpy.uint32(0xFFFF0000)
        inner = bits.view(numpy.float32).astype(numpy.float64)
        outer = (bits + numpy.uint32(0x10000)).view(numpy.float32).astype(numpy.float64)
        inside = numpy.signbit(values)
        below, above = numpy.where(inside, outer, inner), numpy.where(inside, inner, outer)
        # a negative number that is held exactly is its own lower neighbour, as a positive one is
        exact = inside & (inner == values)
        return numpy.where(exact, inner, below), numpy.where(exact, step_up(inner, bits), above)
    kind = numpy.float32 if dtype == "F32" else numpy.float16
    with numpy.errstate(over="ignore"):
        near = values.astype(kind)
        low, high = numpy.nextafter(near, kind(-numpy.inf)), numpy.nextafter(near, kind(numpy.inf))
    down = near.astype(numpy.float64) > values
    return numpy.where(down, low, near).astype(numpy.float64), numpy.where(down, near, high).astype(numpy.float64)


def step_up(inner, bits):
    """The neighbour of a negative BF16 number nearer to zero, by its bits; of a zero the smallest positive number."""
    magnitude = bits & numpy.uint32(0x7FFF0000)
    nearer = ((magnitude - numpy.uint32(0x10000)) | numpy.uint32(0x80000000)).view(numpy.float32).astype(numpy.float64)
    return numpy.where(magnitude == 0, 2.0**-133, nearer)
