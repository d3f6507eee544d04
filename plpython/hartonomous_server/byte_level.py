"""The alphabet of byte-level vocabularies: a printable character for each byte (Radford et al., GPT-2, 2019)."""


def alphabet():
    """The byte that each character stands for."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


ALPHABET = alphabet()


def byte_level(name):
    """The bytes of a token's name; a name with other characters was added as it is."""
    try:
        return bytes([ALPHABET[c] for c in name])
    except KeyError:
        return name.encode("utf-8", "surrogatepass")
