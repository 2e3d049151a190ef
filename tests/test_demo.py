"""`make demo`, shortened."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

DEMO = Path(__file__).parent.parent / "scripts" / "demo.py"


def test_demo_restores_a_clip_it_made_and_says_where_everything_is(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    finished = subprocess.run(
        [sys.executable, str(DEMO), "--output", str(folder), "--frames", "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr

    results = [folder / name for name in ("clip.mp4", "restored.mp4", "comparison.png")]
    assert all(str(path) in finished.stdout for path in results)
    assert all(word in finished.stderr for word in ("upscaling", "joining", "4 frames", "fps"))
    with av.open(str(results[0])) as clip, av.open(str(results[1])) as restored:
        assert restored.streams.video[0].width == 4 * clip.streams.video[0].width
        assert len(restored.streams.audio) == len(clip.streams.audio) == 1
        before, after = ([f.pts * f.time_base for f in c.decode(video=0)] for c in (clip, restored))
        assert before == after
        assert len(after) == 4
    with Image.open(results[2]) as picture:
        halves = np.split(np.asarray(picture), [picture.width // 2], axis=1)
    assert np.abs(halves[0].astype(int) - halves[1]).mean() > 0.5  # before and after differ


def test_demo_clip_is_the_same_every_time(tmp_path: Path) -> None:
    make = f"import sys; sys.path.insert(0, {str(DEMO.parent)!r}); import demo; from pathlib import Path; "
    for name in ("a.mp4", "b.mp4"):
        code = make + f"demo.make_clip(Path({str(tmp_path / name)!r}), num_frames=2)"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
