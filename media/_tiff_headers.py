"""What FFmpeg does not tell of a TIFF."""

import struct

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ENTRY_BYTES = 12
_EXTRA_SAMPLES, _SHORT, _ASSOCIATED = 338, 3, 1


def has_associated_alpha(data: bytes) -> bool:
    """Whether the first picture's colours are multiplied by its opacity ("associated alpha" of TIFF 6.0).

    Args:
        data: The file; False where it is none, or ends before it tells.
    """
    order = _ORDERS.get(data[:4])
    if order is None:
        return False
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", data, directory)
        for number in range(num_entries):
            position = directory + 2 + number * _ENTRY_BYTES
            tag, kind, count = struct.unpack_from(f"{order}2HI", data, position)
            if (tag, kind) == (_EXTRA_SAMPLES, _SHORT):
                place = position + 8
                if count > 2:  # what does not fit into the entry lies elsewhere
                    (place,) = struct.unpack_from(f"{order}I", data, place)
                return _ASSOCIATED in struct.unpack_from(f"{order}{min(count, 16)}H", data, place)
    except struct.error:
        return False
    return False
