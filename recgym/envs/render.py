"""Pictures and text of one session: what the user saw, was shown and answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

METADATA: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # of every environment
_WIDTH, _LINE, _MARGIN = 560, 18, 12
_INK, _FAINT, _PAPER = (32, 32, 36), (140, 140, 148), (250, 250, 247)
_GOOD, _BAD, _BAR = (38, 128, 72), (176, 58, 46), (222, 224, 230)
_FEELS = (64, 104, 176)
_KEY = "green and +: answered, red: not; bars: what an event earned, right above 0, left below; blue: the user"


class View(NamedTuple):
    """What there is to see of one session."""

    user: str
    step: int
    horizon: int
    total: float  # sum of rewards so far
    shown: list[str]  # the last slate; empty after a reset
    answered: list[bool]
    frame: list[tuple[str, float]]  # titles and rewards, oldest first, padding left out
    story: Sequence[tuple[str, float, float, float]] = ()  # what users of known laws feel: name, value, least and most
    candidates: Sequence[str] = ()  # titles of what may be shown next
    n_candidates: int = 0  # lines kept for them


def as_text(view: View) -> str:
    """Returns a session as lines of text, in the order of `as_image`.

    Example:
        >>> print(as_text(View("7", 1, 20, 0.5, ["Alien"], [True], [("Up", -0.25), ("Alien", 0.5)])))
        user 7   step 1 of 20   return +0.50
        shown: [+] Alien
        frame, newest first:
          +0.50  Alien
          -0.25  Up
    """
    lines = [_headline(view)]
    if view.shown:
        marks = (
            f"[{'+' if answered else ' '}] {title}" for title, answered in zip(view.shown, view.answered, strict=True)
        )
        lines.append("shown: " + "   ".join(marks))
    for name, value, low, high in view.story:
        lines.append(f"{name}: {value:.2f}, of {low:g} to {high:g}")
    if view.candidates:
        lines.append("may be shown next: " + "   ".join(view.candidates))
    lines += ["frame, newest first:", *(f"  {reward:+.2f}  {title}" for title, reward in reversed(view.frame))]
    return "\n".join(lines)


def as_image(view: View, frame_size: int, k: int) -> np.ndarray:
    """Returns a session as a picture (H, W, 3) uint8, whose size depends on `frame_size`, `k` and the kind of users.

    Answered items are green and marked `+`, others red. What users of known laws feel (budget, boredom, satisfaction,
    patience, day) is a blue bar from its least to its most, with the number before it. In the frame, newest on top as
    in `as_text`, a bar to the right of the middle is a positive reward, to the left a negative one, and its number
    stands before it; the longest bar is the largest reward in sight. A key at the foot says so.
    """
    from PIL import Image, ImageDraw

    listed = view.n_candidates + 1 if view.n_candidates else 0
    height = 2 * _MARGIN + _LINE * (frame_size + k + 5 + len(view.story) + listed)
    image = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(image)
    y = _MARGIN
    middle, half = _WIDTH - 110, 90
    upper, lower = _upper_lines(view, k), _lower_lines(view)
    for text, colour in upper:
        draw.text((_MARGIN, y), _printable(text), fill=colour)
        y += _LINE
    for name, value, low, high in view.story:
        share = min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)
        draw.text((_MARGIN, y), name, fill=_INK)
        draw.text((middle - half - 56, y), f"{value:.2f}", fill=_INK)
        draw.rectangle((middle - half, y + 6, middle + half, y + 8), fill=_BAR)
        draw.rectangle((middle - half, y + 2, middle - half + round(2 * half * share), y + 12), fill=_FEELS)
        y += _LINE
    for text, colour in lower:
        draw.text((_MARGIN, y), _printable(text), fill=colour)
        y += _LINE
    largest = max((abs(reward) for _, reward in view.frame), default=0.0) or 1.0
    for title, reward in reversed(view.frame):
        tip = middle + round(half * reward / largest)
        draw.text((_MARGIN, y), _printable(title)[:44], fill=_INK)
        draw.text((middle - half - 56, y), f"{reward:+.2f}", fill=_INK)
        draw.rectangle((middle - half, y + 6, middle + half, y + 8), fill=_BAR)
        draw.rectangle((min(middle, tip), y + 2, max(middle, tip), y + 12), fill=_GOOD if reward >= 0 else _BAD)
        y += _LINE
    draw.text((_MARGIN, height - _MARGIN - _LINE), _KEY, fill=_FAINT)
    return np.asarray(image, dtype=np.uint8).copy()


def _upper_lines(view: View, k: int) -> list[tuple[str, tuple[int, int, int]]]:
    """Returns the k + 3 lines above what the user feels, and their colours."""
    shown = [
        (f"{'+' if answered else ' '} {title}", _GOOD if answered else _BAD)
        for title, answered in zip(view.shown, view.answered, strict=True)
    ]
    empty = [("", _FAINT)] * (k - len(shown))
    return [(_headline(view), _INK), ("shown", _FAINT), *shown, *empty, ("", _FAINT)]


def _lower_lines(view: View) -> list[tuple[str, tuple[int, int, int]]]:
    """Returns the lines between what the user feels and the frame, and their colours."""
    listed = [(f"  {title}", _INK) for title in view.candidates[: view.n_candidates]]
    listed += [("", _FAINT)] * (view.n_candidates - len(listed))
    head = [("may be shown next", _FAINT)] if view.n_candidates else []
    return [*head, *listed, ("frame, newest first", _FAINT)]


def _headline(view: View) -> str:
    return f"user {view.user}   step {view.step} of {view.horizon}   return {view.total:+.2f}"


def _printable(text: str) -> str:
    """Returns text in the characters every build of the drawing library has."""
    return text.encode("latin-1", "replace").decode("latin-1")
