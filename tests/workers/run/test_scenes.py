from __future__ import annotations

import torch
from torch import Tensor

from tests.workers.made import picture
from workers.run.scenes import CutDetector


def frame(number: int, scene: int) -> Tensor:
    return torch.from_numpy(picture(number, scene, (128, 96))).permute(2, 0, 1).float() / 255


def cuts_of(frames: list[Tensor], detector: CutDetector | None = None) -> list[int]:
    detector = detector or CutDetector()
    return [number for number, image in enumerate(frames) if detector.is_cut(image)]


def test_a_new_scene_is_a_cut_and_motion_is_not() -> None:
    frames = [frame(n, scene=0) for n in range(20)] + [frame(n, scene=1) for n in range(20)]
    assert cuts_of(frames) == [20]


def test_a_flash_is_no_cut() -> None:
    frames = [frame(n, scene=0) * 0.5 for n in range(10)]
    frames[5] = frames[5] + 0.4
    assert cuts_of(frames) == []


def test_a_fade_to_black_is_no_cut_and_the_scene_after_black_is_one() -> None:
    fade = [frame(n, scene=0) * (1 - n / 10) for n in range(11)]
    assert cuts_of([*fade, torch.zeros(3, 96, 128), frame(0, scene=1)]) == [12]


def test_noise_on_a_flat_picture_is_no_cut() -> None:
    torch.manual_seed(0)
    assert cuts_of([(0.5 + 0.1 * torch.randn(3, 96, 128)).clamp(0, 1) for _ in range(10)]) == []


def test_a_detector_that_continues_decides_as_the_first_one_would_have() -> None:
    frames = [frame(3 * n, scene=n // 15) for n in range(45)]
    whole, histories = CutDetector(), []
    found = []
    for image in frames:
        found.append(whole.is_cut(image))
        histories.append(whole.history)
    assert [number for number, is_cut in enumerate(found) if is_cut] == [15, 30]
    for start in (0, 7, 14, 15, 29):
        later = CutDetector(histories[start])
        later.start_at(frames[start])
        assert [later.is_cut(image) for image in frames[start + 1 :]] == found[start + 1 :]
