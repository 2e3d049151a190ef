"""The pipeline as users call it: any size, any length, streamed, tiled, short of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipelines.clips import restore_clip
from pipelines.dove import one_step
from pipelines.dove.model import DoveModel
from pipelines.dove.options import DoveOptions, DoveOutput
from pipelines.dove.pipeline import DovePipeline
from pipelines.errors import (
    BackendUnavailableError,
    InvalidOptionError,
    OutOfMemoryError,
    UnsupportedSizeError,
)
from pipelines.execution import MemoryRetry, restore_chunk
from pipelines.model import ModelCard
from pipelines.planning import slices
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.frame_plan import FramePlan
from pipelines.planning.plan import ChunkRequest
from tests.pipelines.tiny import make_clip, save_checkpoint, save_nano

WHOLE = DiffusionPlan()


def plan_of(pipeline: DovePipeline, **wishes: int) -> DiffusionPlan:
    return pipeline.plan(ChunkRequest(memory_bytes=2**33, **wishes))


def model_of(pipeline: DovePipeline, options: DoveOptions | None = None) -> DoveModel:
    card = ModelCard(name="tiny", kind="diffusion", scale=4)
    return DoveModel(pipeline, card, device=torch.device("cpu"), dtype=torch.float32, options=options)


@pytest.fixture(scope="module")
def dove(tmp_path_factory: pytest.TempPathFactory) -> DovePipeline:
    return DovePipeline.from_checkpoint(save_checkpoint(tmp_path_factory.mktemp("ckpt") / "dove"))


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> DovePipeline:
    return DovePipeline.from_checkpoint(save_nano(tmp_path_factory.mktemp("ckpt") / "nano"))


@pytest.fixture(params=["dove", "nano"])
def pipeline(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 8, 8), (32, 32)),
        ((2, 9, 13), (36, 52)),
        ((10, 11, 7), (23, 30)),
        ((3, 20, 24), (10, 12)),
        ((1, 1, 1), (3, 5)),
    ],
)
def test_any_length_and_any_size_come_out_exactly(
    pipeline: DovePipeline, shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    output = pipeline(make_clip(*shape), height=size[0], width=size[1])
    assert output.frames.shape == (shape[0], 3, *size)
    assert output.frames.dtype == torch.float32
    assert output.frames.min() >= 0
    assert output.frames.max() <= 1


def test_a_clip_comes_out_the_same_from_the_pipeline_and_from_the_model(pipeline: DovePipeline) -> None:
    clip = make_clip(25, 8, 12)
    plan = plan_of(pipeline, num_frames=25, height=8, width=12, out_height=32, out_width=48, chunk=9)
    assert len(pipeline.chunks(25, plan, DoveOptions())) > 2
    frames = pipeline(clip, height=32, width=48, plan=plan).frames
    assert torch.equal(restore_clip(model_of(pipeline), clip, (32, 48), plan=plan), frames)


def test_first_frames_leave_before_the_clip_is_decoded(
    dove: DovePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    decoder, forward = dove.vae.decoder, dove.vae.decoder.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder, "forward", counted)
    stream = dove.restore_chunk(make_clip(33, 4, 4), (16, 16), DoveOptions(), WHOLE)
    first = next(stream)
    assert first.shape[0] == 9
    assert len(calls) == 1
    assert [batch.shape[0] for batch in stream] == [8, 8, 8]


def test_result_does_not_depend_on_what_was_computed_before(pipeline: DovePipeline) -> None:
    clip = make_clip(2, 8, 8)
    first = pipeline(clip, height=32, width=32).frames
    pipeline(make_clip(9, 12, 8, seed=5), height=48, width=32)
    torch.rand(1)
    assert torch.equal(pipeline(clip, height=32, width=32).frames, first)


def test_generator_makes_sampling_repeatable(dove: DovePipeline) -> None:
    options = DoveOptions(latent_rule="sample", noise_step=10)
    runs = [
        dove(
            make_clip(1, 8, 8),
            height=32,
            width=32,
            options=options,
            generator=torch.Generator().manual_seed(seed),
        ).frames
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_one_tile_plan_is_the_untiled_result_bit_for_bit(pipeline: DovePipeline) -> None:
    clip = make_clip(3, 16, 16)
    whole = pipeline(clip, height=64, width=64, plan=WHOLE).frames
    one = DiffusionPlan(
        chunk_len=9, tile_height=64, tile_width=64, overlap_height=32, overlap_width=32, tile_batch=4
    )
    for fusion in ("latent", "pixel", "cut"):
        options = DoveOptions(tile_fusion=fusion)  # type: ignore[arg-type]
        assert torch.equal(pipeline(clip, height=64, width=64, plan=one, options=options).frames, whole)


def test_batched_tiles_give_the_same_as_single_ones(pipeline: DovePipeline) -> None:
    clip = make_clip(3, 16, 24)
    frames = [
        pipeline(
            clip,
            height=64,
            width=96,
            plan=DiffusionPlan(
                tile_height=48, tile_width=48, overlap_height=16, overlap_width=16, tile_batch=batch
            ),
        ).frames
        for batch in (1, 3, 100)
    ]
    torch.testing.assert_close(frames[1], frames[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(frames[2], frames[0], atol=1e-4, rtol=0)


def test_vae_tiles_share_statistics_where_that_is_asked_for(dove: DovePipeline) -> None:
    clip, plan = make_clip(1, 32, 32), DiffusionPlan(vae_tile_height=64, vae_tile_width=64, vae_overlap=16)
    own, joint = (
        dove(
            clip, height=128, width=128, plan=plan, options=DoveOptions(vae_tiling=tiling, color_match="none")
        ).frames
        for tiling in ("plan", "joint")
    )
    assert (own - joint).abs().mean() > 1e-3


def test_nanos_decoder_tiles_are_exact(nano: DovePipeline) -> None:
    """Its tiles carry a margin of the receptive field; nothing else of the tile gets in."""
    clip = make_clip(5, 40, 56)
    whole = nano(clip, height=160, width=224, plan=WHOLE).frames
    plan = DiffusionPlan(vae_tile_height=64, vae_tile_width=80)
    torch.testing.assert_close(nano(clip, height=160, width=224, plan=plan).frames, whole)


def test_nanos_decoder_batches_are_exact(nano: DovePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(7, 8, 8)
    whole = nano(clip, height=32, width=32, plan=WHOLE).frames
    monkeypatch.setattr(slices, "BATCH_PIXELS", 2 * 8 * 8)
    batches = list(nano.restore_chunk(clip, (32, 32), DoveOptions(), WHOLE))
    assert [batch.shape[0] for batch in batches] == [1, 2, 2, 2]  # the copy in front is dropped
    torch.testing.assert_close(torch.cat(batches), whole)


def test_nano_works_at_its_own_scale_and_resamples_to_the_target(nano: DovePipeline) -> None:
    clip = make_clip(1, 12, 20)
    native = nano(clip, height=48, width=80).frames
    expected = F.interpolate(native, size=(30, 50), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(nano(clip, height=30, width=50).frames, expected)


def test_nano_in_bfloat16_stays_close_and_its_frames_are_float32(nano: DovePipeline, tmp_path: Path) -> None:
    half = DovePipeline.from_checkpoint(save_nano(tmp_path / "nano"), dtype=torch.bfloat16)
    clip = make_clip(3, 12, 20)
    frames = half(clip, height=48, width=80).frames
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, nano(clip, height=48, width=80).frames, atol=0.05, rtol=0)


def test_rotary_tables_are_made_once_per_grid(dove: DovePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make = one_step.rotary_embedding

    def counted(grid: Any, *args: Any) -> Any:
        made.append(grid)
        return make(grid, *args)

    monkeypatch.setattr(one_step, "rotary_embedding", counted)
    monkeypatch.setattr(dove.restorer, "_rotary", one_step.RotaryTables(dove.transformer.config))
    for height in (32, 32, 48, 32):
        dove(make_clip(1, 8, 8), height=height, width=32, plan=WHOLE)
    assert made == [(1, 2, 2), (1, 3, 2)]


def test_prepared_pipeline_is_not_saved_with_holes(dove: DovePipeline, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="use_lossless_savings=False"):
        dove.save_pretrained(tmp_path)
    dove.apply_lossless_savings()  # a second time changes nothing


def test_edges_are_continued_rather_than_darkened(dove: DovePipeline) -> None:
    clip = torch.full((1, 3, 9, 9), 200, dtype=torch.uint8)
    geometry_input: list[torch.Tensor] = []
    encode = dove.restorer.codec.encode

    def spy(sample: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        geometry_input.append(sample)
        return encode(sample, **kwargs)

    dove.restorer.codec.encode = spy  # type: ignore[method-assign]
    try:
        dove(clip, height=36, width=36)
        dove(clip, height=36, width=36, options=DoveOptions.reference(latent_rule="mode"))
    finally:
        dove.restorer.codec.encode = encode  # type: ignore[method-assign]
    replicated, black = geometry_input
    assert replicated.shape[-2:] == (48, 48)
    assert replicated.min() == replicated.max()
    assert black.shape[-2:] == (64, 64)
    assert black[..., :36, :36].min() < black.max()


def test_source_tone_is_kept(pipeline: DovePipeline) -> None:
    clip = make_clip(2, 24, 24)
    means = [
        pipeline(clip, height=96, width=96, options=DoveOptions(color_match=match)).frames.mean((-2, -1))  # type: ignore[arg-type]
        for match in ("none", "lowpass")
    ]
    source = clip.float().mean((-2, -1)) / 255
    assert (means[1] - source).abs().max() < 0.02
    assert (means[1] - source).abs().max() < (means[0] - source).abs().max()


def test_chunks_keep_time(nano: DovePipeline, dove: DovePipeline) -> None:
    """A flash stays on its frame, whatever the chunk length: the reference moves it for lengths like 61."""
    for pipeline in (nano, dove):
        clip = torch.full((40, 3, 8, 8), 60, dtype=torch.uint8)
        clip[22] = 200
        plan = plan_of(pipeline, num_frames=40, height=8, width=8, out_height=32, out_width=32, chunk=13)
        frames = pipeline(clip, height=32, width=32, plan=plan).frames
        assert frames.shape[0] == 40
        assert int(frames.mean((1, 2, 3)).argmax()) == 22


class Failing:
    """Stands in for one_step's transformer: fails as an allocator does until it was called `times` times."""

    def __init__(self, inner: Any, times: int, error: Exception) -> None:
        self.inner, self.times, self.error = inner, times, error
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.sizes.append(tuple(kwargs["hidden_states"].shape[-2:]))
        if self.times:
            self.times -= 1
            raise self.error
        return self.inner(*args, **kwargs)


ALLOCATION_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
]


@pytest.fixture
def failing(dove: DovePipeline, monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(times: int, error: Exception) -> Failing:
        stand_in = Failing(dove.transformer.forward, times, error)
        monkeypatch.setattr(dove.transformer, "forward", stand_in)
        return stand_in

    return install


@pytest.mark.parametrize("error", ALLOCATION_ERRORS)
def test_out_of_memory_is_tried_again_in_smaller_tiles(
    dove: DovePipeline, failing: Any, error: Exception
) -> None:
    stand_in = failing(2, error)
    clip, model = make_clip(1, 80, 80), model_of(dove)
    plan = plan_of(
        dove, num_frames=1, height=80, width=80, out_height=320, out_width=320, tile=320, overlap=32
    )
    retries: list[MemoryRetry] = []
    frames = list(restore_chunk(model, clip, (320, 320), plan, on_retry=retries.append))
    assert torch.cat(frames).shape == (1, 3, 320, 320)
    assert stand_in.sizes[0] == (40, 40)
    assert stand_in.sizes[-1] < (40, 40)
    assert [(retry.part, retry.smaller.chunk_len) for retry in retries] == [("transformer", 1)] * 2
    assert "1x1 tiles of 320x320" in str(retries[0])
    # The next chunk does not run into the same wall.
    stand_in.sizes.clear()
    restore_clip(model, clip, (320, 320), plan=plan)
    assert max(stand_in.sizes) < (40, 40)


def test_running_out_of_smaller_plans_is_a_clear_error(dove: DovePipeline, failing: Any) -> None:
    failing(1000, ALLOCATION_ERRORS[0])
    with pytest.raises(OutOfMemoryError, match="smallest plan") as caught:
        restore_clip(model_of(dove), make_clip(1, 8, 8), (32, 32))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_are_not_taken_for_lack_of_memory(dove: DovePipeline, failing: Any) -> None:
    failing(1, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        restore_clip(model_of(dove), make_clip(1, 8, 8), (32, 32))


def test_frames_already_handed_out_are_not_repeated_after_a_retry(
    dove: DovePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, model = make_clip(17, 40, 40), model_of(dove)
    plan = plan_of(dove, num_frames=17, height=40, width=40, out_height=160, out_width=160)
    whole = torch.cat(list(restore_chunk(model, clip, (160, 160), plan)))
    decoder, forward, calls = dove.vae.decoder, dove.vae.decoder.forward, list[int]()

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder, "forward", fails_once)
    batches = list(restore_chunk(model, clip, (160, 160), plan))
    assert sum(batch.shape[0] for batch in batches) == 17
    assert torch.equal(batches[0], whole[: len(batches[0])])
    assert (plan.vae_tile_height, model.replaced_plans[plan].vae_tile_height) == (0, 128)


def test_each_attempt_draws_the_same_noise(dove: DovePipeline, failing: Any) -> None:
    clip, model = make_clip(1, 80, 80), model_of(dove, DoveOptions(latent_rule="sample", noise_step=10))
    plan = plan_of(
        dove, num_frames=1, height=80, width=80, out_height=320, out_width=320, tile=160, overlap=32
    )

    def run() -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.cat(list(restore_chunk(model, clip, (320, 320), plan, generator=generator)))

    failing(1, ALLOCATION_ERRORS[0])
    after_failure = run()
    assert model.replaced_plans
    assert torch.equal(run(), after_failure)


@pytest.mark.parametrize(
    "clip",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(0, 3, 8, 8),
        torch.zeros(1, 4, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.int32),
    ],
)
def test_wrong_clips_are_refused(dove: DovePipeline, clip: torch.Tensor) -> None:
    with pytest.raises(InvalidOptionError, match="clip"):
        dove(clip, height=32, width=32)


def test_impossible_sizes_are_refused(dove: DovePipeline) -> None:
    clip = make_clip(1, 8, 8)
    with pytest.raises(UnsupportedSizeError, match="positive"):
        dove(clip, height=0, width=8, plan=WHOLE)
    with pytest.raises(UnsupportedSizeError, match="whole-numbered"):
        dove(clip, height=20, width=20, plan=WHOLE, options=DoveOptions.reference())
    plan = DiffusionPlan(tile_height=24, tile_width=24, overlap_height=8, overlap_width=8)
    with pytest.raises(UnsupportedSizeError, match="multiples of 16"):
        dove(clip, height=128, width=128, plan=plan, options=DoveOptions.reference())
    plan = DiffusionPlan(chunk_len=8, chunk_overlap=8)
    with pytest.raises(UnsupportedSizeError, match="no stride"):
        dove(make_clip(17, 8, 8), height=32, width=32, plan=plan, options=DoveOptions.reference())


def test_a_plan_of_another_kind_is_refused(dove: DovePipeline) -> None:
    with pytest.raises(InvalidOptionError, match="needs a DiffusionPlan, got FramePlan"):
        model_of(dove).restore(make_clip(1, 8, 8), (32, 32), FramePlan())


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent_rule": "mean"},
        {"padding": None},
        {"tile_fusion": ""},
        {"upsample": "nearest"},
        {"noise_step": 1000},
        {"color_sigma": 0},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError, match=next(iter(wrong))):
        DoveOptions(**wrong)


def test_quantization_rounds_unless_the_reference_is_asked_for() -> None:
    frames = torch.tensor([0.0, 0.4999, 0.5001, 254.7, 255.0])[None, None, None] / 255
    assert DoveOutput(frames).to_uint8().flatten().tolist() == [0, 0, 1, 255, 255]
    assert DoveOutput(frames, quantization="truncate").to_uint8().flatten().tolist() == [0, 0, 0, 254, 255]


@pytest.mark.parametrize("backend", ["math", "flash"])
def test_attention_kernels_agree(dove: DovePipeline, backend: Any) -> None:
    clip = make_clip(2, 8, 8)
    expected = dove(clip, height=32, width=32).frames
    dove.set_attention_backend(backend)
    try:
        torch.testing.assert_close(dove(clip, height=32, width=32).frames, expected, atol=1e-4, rtol=0)
    finally:
        dove.set_attention_backend("auto")


def test_kernels_that_are_not_here_are_refused(dove: DovePipeline) -> None:
    for backend in ("cudnn", "xformers", "efficient"):
        with pytest.raises(BackendUnavailableError, match=backend):
            dove.set_attention_backend(backend)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="fast"):
        dove.set_attention_backend("fast")  # type: ignore[arg-type]


@pytest.mark.needs_cuda
def test_gpu_agrees_with_cpu_and_offloading_with_both(tmp_path: Path) -> None:
    folder, clip = save_checkpoint(tmp_path / "dove"), make_clip(9, 16, 16)
    cpu = DovePipeline.from_checkpoint(folder)(clip, height=64, width=64, plan=WHOLE).frames
    for use_offload in (False, True):
        gpu = DovePipeline.from_checkpoint(
            folder, device="cuda", dtype=torch.float32, use_offload=use_offload
        )
        frames = gpu(clip, height=64, width=64, plan=WHOLE).frames
        torch.testing.assert_close(frames, cpu, atol=2e-3, rtol=0)
