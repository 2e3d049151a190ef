"""Colour rules both directions share: H.273 matrix code points, their luma weights, and the default."""

from dataclasses import dataclass, replace

from media.info import ColorTags

RGB, BT709, FCC, BT470BG, SMPTE170M, SMPTE240M, YCGCO, BT2020, BT2020_CL = 0, 1, 4, 5, 6, 7, 8, 9, 10
"""H.273 matrix code points by name."""

# Lines of 625-line television: whole frames, fields or VCDs, and with the blanking that IMX tapes keep.
_PAL_HEIGHTS = frozenset({576, 288, 608})

# What standard definition is coded with; nothing decides between them above it.
SD_MATRICES = frozenset({FCC, BT470BG, SMPTE170M})

# Larger pictures are BT.709 by broadcast convention; what FFmpeg assumes for all (BT.601) shifts untagged HD
# by 1.8 levels on average, by 14 in saturated areas.
_HD_WIDTH, _HD_HEIGHT = 1280, 720


@dataclass(frozen=True)
class LumaCoefficients:
    """Weights of red and blue in luma, Y' = kr R' + kg G' + kb B'."""

    kr: float
    kb: float

    @property
    def kg(self) -> float:
        """Weight of green: the three sum to one."""
        return 1.0 - self.kr - self.kb


# H.273 table 4, equations 38-40 and the rows that name kr and kb. Constant-luminance BT.2020 is not a linear
# map of R'G'B'; taken as the usual non-constant kind it is off by a few levels in saturated colours, and
# nobody writes it.
LUMA_COEFFICIENTS: dict[int, LumaCoefficients] = {
    BT709: LumaCoefficients(0.2126, 0.0722),
    FCC: LumaCoefficients(0.30, 0.11),
    BT470BG: LumaCoefficients(0.299, 0.114),
    SMPTE170M: LumaCoefficients(0.299, 0.114),
    SMPTE240M: LumaCoefficients(0.212, 0.087),
    BT2020: LumaCoefficients(0.2627, 0.0593),
    BT2020_CL: LumaCoefficients(0.2627, 0.0593),
}

# (primaries, transfer) that go with a matrix, for sources that tag neither.
_COMPANIONS = {
    BT709: (1, 1),
    FCC: (4, 6),
    BT470BG: (5, 6),
    SMPTE170M: (6, 6),
    SMPTE240M: (7, 7),
    BT2020: (9, 14),
}


def is_hd(width: int, height: int) -> bool:
    """Whether players take an untagged picture for BT.709: from 1280 wide or 720 high on."""
    return width >= _HD_WIDTH or height >= _HD_HEIGHT


def default_matrix(width: int, height: int) -> int:
    """The matrix of a picture that does not name one: BT.709 for HD; below, BT.601 as PAL has it (BT.470BG)
    where the lines are PAL's and as NTSC has it (SMPTE 170M) else. The two differ in the primaries that go
    with them."""
    if is_hd(width, height):
        return BT709
    return BT470BG if height in _PAL_HEIGHTS else SMPTE170M


def effective_matrix(matrix: int, width: int, height: int) -> int:
    """The matrix to use for Y'CbCr pictures tagged `matrix`.

    Args:
        matrix: H.273 code point as tagged.
        width: Picture width in pixels.
        height: Picture height in pixels.

    Returns:
        `matrix` where it is one we can compute, else the default for the size. The RGB code point on a Y'CbCr
        picture is a tagging mistake and gets the default too.
    """
    return matrix if matrix in LUMA_COEFFICIENTS or matrix == YCGCO else default_matrix(width, height)


def effective_tags(color: ColorTags, width: int, height: int, *, is_rgb: bool) -> ColorTags:
    """Tags of a picture with the matrix decided; primaries and transfer stay as tagged."""
    return replace(color, matrix=RGB if is_rgb else effective_matrix(color.matrix, width, height))


def output_color(color: ColorTags, width: int, height: int, *, keep_matrix: bool = False) -> ColorTags:
    """The tags to write: every field set, a matrix we can compute, limited range.

    Players ignore the range flag often enough that full-range output would be shown with crushed blacks, so
    all output is limited. R'G'B' sources (matrix 0) have no matrix to keep and become BT.709;
    constant-luminance BT.2020 becomes the usual non-constant kind; an unspecified matrix is chosen by size,
    like players do. Pictures of HD size that standard definition's matrix was kept for are shown with
    BT.709's by many players, so they get it, unless `keep_matrix` says otherwise. Primaries and transfer
    stay the source's: nothing converts them, and few players look at them."""
    matrix = color.matrix
    if matrix == BT2020_CL:
        matrix = BT2020
    elif matrix == RGB:
        matrix = BT709
    elif matrix not in LUMA_COEFFICIENTS:
        matrix = default_matrix(width, height)
    companions = _COMPANIONS[matrix]
    if matrix in SD_MATRICES and is_hd(width, height) and not keep_matrix:
        matrix = BT709
    return ColorTags(
        matrix=matrix,
        primaries=companions[0] if color.primaries in (0, 2, 3) else color.primaries,
        transfer=companions[1] if color.transfer in (0, 2, 3) else color.transfer,
        full_range=False,
    )
