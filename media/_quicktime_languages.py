"""Languages of MOV tracks: QuickTime numbers them, and FFmpeg finds the number of one spelling of each."""

_SPELLINGS = {
    "bod": "tib", "cym": "wel", "cze": "ces", "deu": "ger", "ell": "gre", "eus": "baq", "fao": "fo ",
    "fas": "per", "fre": "fra", "gle": "iri", "hrv": "hr ", "hye": "arm", "isl": "ice", "kat": "geo",
    "mkd": "mac", "msa": "may", "mya": "bur", "nld": "dut", "nob": "nor", "pan": "pa ", "rum": "ron",
    "scc": "sr ", "scr": "hr ", "slo": "slk", "sqi": "alb", "srp": "sr ", "swe": "sve", "zho": "chi",
}  # fmt: skip


def quicktime_spelling(language: str) -> str:
    """An ISO 639-2 code as FFmpeg's MOV muxer knows it; it writes "unspecified" for one that it does not.

    Args:
        language: Three letters. Languages without a number stay what they are.
    """
    return _SPELLINGS.get(language, language)
