"""What may be asked of a job is what may be asked of the encoder."""

from typing import Any, cast, get_args

import pytest
from pydantic import ValidationError

from jobs import options as job
from jobs.options import JobOptions
from media import EncodeError, EncodeOptions
from media._codecs import CodecChoice
from media.containers import CONTAINERS
from media.encoding import Encoder
from workers.tasks.inputs import upscale_options

GIVEN: list[dict[str, Any]] = [
    {},
    {"codec": "auto", "crf": 51},
    {"codec": "auto", "crf": 52},
    {"codec": "auto", "preset": "slow"},
    {"codec": "auto", "preset": "8"},
    {"codec": "h264", "preset": "placebo"},
    {"codec": "av1", "preset": "slow"},
    {"codec": "av1", "preset": "13"},
    {"codec": "av1", "preset": "14"},
    {"codec": "av1", "crf": 63},
    {"codec": "av1", "crf": 20.5},
    {"codec": "av1", "pix_fmt": "yuv444p"},
    {"codec": "vp9", "preset": "slow"},
    {"codec": "vp9", "preset": "5"},
    {"codec": "vp9", "preset": "6"},
    {"codec": "vp9", "crf": 63},
    {"codec": "vp9", "crf": 20.5},
    {"codec": "vp9", "pix_fmt": "yuv444p"},
    {"codec": "vp9", "pix_fmt": "yuv420p10le"},
    {"codec": "vp9", "encoder": "amf"},
    {"codec": "vp9", "encoder": "auto", "crf": 0},
    {"codec": "auto", "pix_fmt": "yuv444p"},
    {"encoder": "auto", "keep_matrix": True},
    {"encoder": "nvenc"},
    {"encoder": "videotoolbox"},
    {"encoder": "nvenc", "crf": 0},
    {"encoder": "qsv", "pix_fmt": "yuv444p"},
    {"encoder": "amf", "codec": "h264", "pix_fmt": "yuv420p10le"},
    {"encoder": "amf", "codec": "h265", "pix_fmt": "yuv420p10le"},
    {"encoder": "nvenc", "pix_fmt": "yuv420p10le"},
    {"encoder": "nvenc", "codec": "av1", "preset": "8"},
    {"encoder": "auto", "codec": "av1", "preset": "8", "crf": 0},
]


def test_the_same_names_are_known() -> None:
    # Intermediates for editing are the command line's: they do not play while they grow.
    assert set(get_args(CodecChoice)) - set(get_args(job.Codec)) == {"prores", "png", "tiff"}
    assert set(get_args(job.Codec)) < set(get_args(CodecChoice))
    for container in CONTAINERS:
        name = cast("job.ContainerName", container.suffix.removeprefix("."))
        given = set(job._CONTAINER_CODECS[name]) - {"auto"}
        assert given == container.video & set(get_args(job.Codec))
    assert len(CONTAINERS) == len(job._CONTAINER_CODECS)
    assert get_args(job.Encoder) == get_args(Encoder)
    assert JobOptions().codec == EncodeOptions().codec == "auto"
    assert JobOptions().encoder == EncodeOptions().encoder == "software"


@pytest.mark.parametrize("given", GIVEN)
def test_a_job_takes_what_the_encoder_takes(given: dict[str, Any]) -> None:
    try:
        expected = EncodeOptions(**given)
    except EncodeError:
        with pytest.raises(ValidationError):
            JobOptions(**given)
    else:
        assert upscale_options(JobOptions(**given), segment_seconds=10).encode == expected


def test_webm_is_av1_where_no_codec_is_named() -> None:
    for codec, made in {"auto": "av1", "av1": "av1", "vp9": "vp9"}.items():
        options = JobOptions.model_validate({"container": "webm", "codec": codec})
        assert upscale_options(options, segment_seconds=10).encode.codec == made


def test_the_api_describes_every_choice() -> None:
    properties = JobOptions.model_json_schema()["properties"]
    for name in ("codec", "crf", "preset", "pix_fmt", "encoder", "keep_matrix"):
        assert properties[name]["description"], name
    assert properties["encoder"]["enum"] == list(get_args(Encoder))
