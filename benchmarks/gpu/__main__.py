"""Answers what there is time for, and prints what is missing. See README.md beside this file.

python -m benchmarks.gpu --output DIR [--previous DIR] [--minutes 9] [--only a,b,c,d]
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu import cuda_tests, items, sizes
from benchmarks.gpu.kit import Kit

LETTERS = "abcd"
# A question is not begun with less.
MIN_SECONDS = 60


def main() -> int:
    """Runs the questions.

    Returns:
        0 if all that was asked is answered, 3 if something is missing.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for answers")
    parser.add_argument("--previous", type=Path, help="folder with answers of earlier visits, only read")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--only", default="a,b,c", help="letters of questions; d is training")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to exercise the scripts")
    parser.add_argument("--commit", default="", help="where the copy of the repository has no history")
    parser.add_argument("--pack", type=Path, default=Path("training-pack.tar"))
    parser.add_argument("--decay", type=int, metavar="STEPS", help="of training: let its rate fall to zero")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    kit = Kit(
        output=arguments.output,
        previous=arguments.previous,
        device=torch.device(arguments.device),
        is_tiny=arguments.tiny,
        commit=arguments.commit,
        deadline=time.monotonic() + 60 * arguments.minutes,
    )
    questions: dict[str, tuple[str, Callable[[Kit], bool]]] = {
        "a": ("tests that need a GPU", cuda_tests.answer),
        "b": ("real sizes", sizes.answer),
        "c": ("options one by one", items.answer),
        "d": ("training", lambda kit: train(kit, pack=arguments.pack, decay_steps=arguments.decay)),
    }
    missing: list[str] = []
    for letter in arguments.only.split(","):
        if letter not in questions:
            parser.error(f"there is no question {letter!r}; ask for some of {','.join(LETTERS)}")
        title, answer = questions[letter]
        print(f"({letter}) {title}", flush=True)
        has_time = kit.is_tiny or kit.remaining() >= MIN_SECONDS
        if not (has_time and answer(kit)):
            missing.append(letter)
    for letter in missing:
        print(f"missing: ({letter}) {questions[letter][0]}; run again with --previous {kit.output}")
    return 3 if missing else 0


def train(kit: Kit, *, pack: Path, decay_steps: int | None) -> bool:
    """See `benchmarks.gpu.training.answer`."""
    # Plots, metrics and degradations need packages that the other questions do not.
    from benchmarks.gpu import training

    return training.answer(kit, pack=pack, decay_steps=decay_steps)


if __name__ == "__main__":
    raise SystemExit(main())
