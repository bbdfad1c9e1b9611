"""What of a processor stands in a fingerprint."""

from __future__ import annotations

import platform
from pathlib import Path

from roost.worker.engines.processor import processor


def written(folder: Path, text: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(text)
    return path


def test_the_vector_instructions_decide_and_nothing_else(tmp_path: Path) -> None:
    first = processor(written(tmp_path, "model name : A\nflags\t\t: fpu avx avx2 fma f16c hypervisor\n"))
    assert first == processor(written(tmp_path, "model name : B\nflags\t\t: f16c fma avx2 avx sse2\n"))
    assert first != processor(written(tmp_path, "flags\t\t: fpu avx avx2 fma f16c avx512f\n"))
    assert first.startswith(f"{platform.machine()}-")


def test_arm_lists_them_under_another_name(tmp_path: Path) -> None:
    plain = processor(written(tmp_path, "Features\t: fp asimd asimddp\n"))
    assert plain != processor(written(tmp_path, "Features\t: fp asimd asimddp sve i8mm\n"))


def test_where_nothing_is_listed_the_architecture_stands_alone(tmp_path: Path) -> None:
    assert processor(tmp_path / "missing") == platform.machine()
    assert processor(written(tmp_path, "nothing of the kind\n")) == platform.machine()
