"""Where GGUF files live, and how they get there: assembled from a package, quantized from another, or brought by path.

A file appears under its name only when it is whole and checked (temporary name, then rename). Beside it lies a stamp, `FILE.ok`, with
the size and time that were checked, so that a large file is hashed once. A lock file keeps two processes from making the same file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import importlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol, cast

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import ModelLoadFailed
from roost.cluster.model_spec import LLAMACPP
from roost.cluster.sizes import format_size
from roost.service.files import SHARED, make_folder, open_file
from roost.worker.engines.gguf_header import BadGguf, Header, parts_of, read_header
from roost.worker.engines.installed import MISSING
from roost.worker.stamps import hash_file, is_stamped, noted_sha256, short_digest, write_stamp

MAX_HEADERS: Final = 1024  # kept at once; each has some dozens of values
SPARE_BYTES: Final = 64 * 1000 * 1000  # left free on the disk beside the file itself
POLL_S: Final = 0.1  # how often waiting looks whether it was cancelled
QUANTIZE_THREADS: Final = 2  # a second or two for a small model; more would starve what runs beside it

_QUANTIZE: Final = "roost.worker.engines.quantize_child"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")

Report = Callable[[str], None]


class Cancelled(Exception):
    """Whoever wanted the file does not want it any more."""


class WeightsPackage(Protocol):
    """What a Python package with weights offers."""

    def assemble(self, output_path: Path, overwrite: bool) -> Path: ...  # noqa: FBT001 - the packages' own signature


class ModelStore:
    """The folder of GGUF files. Blocking, and safe to call from any thread; `file_of` is its asynchronous door."""

    def __init__(self, catalogue: Catalogue, models_dir: Path) -> None:
        self._catalogue = catalogue
        self._models_dir = models_dir
        self._headers: dict[Path, tuple[tuple[int, int], Header]] = {}

    async def file_of(self, spec: ModelSpec) -> Path:
        """The file, made ready first where it is not. Raises ModelLoadFailed. Cancelling stops the making."""
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self.prepare, spec, _log, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def check(self, spec: ModelSpec) -> None:
        """Raises ModelLoadFailed if it can be seen that there will be no file, or that it is no whole model. Makes nothing."""
        await asyncio.to_thread(self.look, spec)

    def look(self, spec: ModelSpec) -> None:
        """See `check`; blocking."""
        kind, _, rest = spec.source.partition(":")
        try:
            if kind == "path":
                self._look_at(spec, self._models_dir / _path(rest))
            elif kind == "quantize":
                self.look(self._catalogue.get((spec.quantized_from or ("", ""))[0]))
            elif kind == "package" and not self._assembled_path(rest).is_file():
                _check_package(spec, rest)
        except OSError as error:
            raise ModelLoadFailed(spec.name, f"{error.strerror or error}: {error.filename or self._models_dir}") from error

    def file_there(self, spec: ModelSpec) -> Path | None:
        """The file as it is now, or for a model that is made here one of the same shape; None where there is none yet. Raises OSError."""
        kind, _, rest = spec.source.partition(":")
        path = self._models_dir / _path(rest) if kind == "path" else self._assembled_path(rest)
        if kind == "quantize":
            base = self._catalogue.get((spec.quantized_from or ("", ""))[0])
            made = self._quantized_path(spec, base)
            return made if made.is_file() else None if spec.size_bytes == 0 else self.file_there(base)
        return path if path.is_file() else None

    async def sha256_of(self, spec: ModelSpec, path: Path) -> str:
        """The digest of the file, which `file_of` gave: the catalogue's, else hashed once for each size and time of the file.

        Raises ModelLoadFailed. Cancelling stops the hashing.
        """
        if spec.sha256:
            return spec.sha256  # which was checked
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._hashed, spec, path, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def _hashed(self, spec: ModelSpec, path: Path, cancelled: threading.Event) -> str:
        try:
            return noted_sha256(path, self._models_dir, cancelled.is_set)
        except OSError as error:
            raise ModelLoadFailed(spec.name, f"{error.strerror or error}: {error.filename or path}") from error

    def prepare(self, spec: ModelSpec, report: Report, cancelled: threading.Event | None = None) -> Path:
        """The whole, checked file of `spec`; `report` gets a sentence for each step that takes time. Raises ModelLoadFailed."""
        kind, _, rest = spec.source.partition(":")
        cancelled = cancelled or threading.Event()
        try:
            if kind == "path":
                return self._brought(spec, _path(rest))
            if kind == "package":
                return self._assembled(spec, rest, report, cancelled)
            if kind == "quantize":
                return self._quantized(spec, report, cancelled)
        except OSError as error:
            raise ModelLoadFailed(spec.name, f"{error.strerror or error}: {error.filename or self._models_dir}") from error
        raise ModelLoadFailed(spec.name, f"the llamacpp engine cannot read the source {spec.source!r}")

    def _look_at(self, spec: ModelSpec, path: Path) -> None:
        """Raises ModelLoadFailed if the model in that file is not whole, or not what the entry says."""
        for part in parts_of(path):
            header = self._header_of(spec, part)
            trained = header.whole("context_length")
            if 0 < trained < spec.context_tokens:
                why = f"limits.context_tokens is {spec.context_tokens} and {part} was trained for {trained}"
                raise ModelLoadFailed(spec.name, why)

    def _header_of(self, spec: ModelSpec, path: Path) -> Header:
        """Read again only when the file has changed."""
        if not path.is_file():
            raise ModelLoadFailed(spec.name, f"{path} is {'not a file' if path.exists() else 'missing'}")
        found = path.stat()
        version = (found.st_size, found.st_mtime_ns)
        known = self._headers.get(path)
        if known is None or known[0] != version:
            known = (version, read_whole(spec, path))
            if len(self._headers) >= MAX_HEADERS:
                self._headers.clear()
            self._headers[path] = known
        return known[1]

    def _brought(self, spec: ModelSpec, path: Path) -> Path:
        path = self._models_dir / path  # which leaves an absolute path as it is
        self._look_at(spec, path)
        if spec.sha256:
            stamp = self._models_dir / f"{path.name}-{short_digest(os.fsencode(path.absolute()))}.ok"
            if not is_stamped(path, stamp, spec.sha256):
                _check_sha256(spec, path)
                with contextlib.suppress(OSError):  # a folder that cannot be written costs a hash at each load, not the model
                    write_stamp(path, stamp, spec.sha256)
        return path

    def _assembled(self, spec: ModelSpec, package: str, report: Report, cancelled: threading.Event) -> Path:
        target = self._assembled_path(package)

        def make(temporary: Path) -> None:
            report(f"{spec.name}: assembling {format_size(spec.size_bytes)} from the package {package}")
            _assemble(spec, package, temporary)

        return self._made(spec, target, make, cancelled)

    def _assembled_path(self, package: str) -> Path:
        return self._models_dir / f"{package.removesuffix('-gguf')}.gguf"

    def _quantized_path(self, spec: ModelSpec, base: ModelSpec) -> Path:
        quantization = (spec.quantized_from or ("", ""))[1]
        return self._models_dir / f"{_UNSAFE.sub('_', base.name)}-{short_digest((base.source + base.sha256).encode())}.{quantization}.gguf"

    def _quantized(self, spec: ModelSpec, report: Report, cancelled: threading.Event) -> Path:
        base_name, quantization = spec.quantized_from or ("", "")
        base_spec = self._catalogue.get(base_name)
        target = self._quantized_path(spec, base_spec)
        if is_stamped(target, _stamp_of(target), spec.sha256):
            return target
        base = self.prepare(base_spec, report, cancelled)

        def make(temporary: Path) -> None:
            report(f"{spec.name}: quantizing {base_name} to {quantization}")
            _quantize(spec, (base, temporary), quantization, cancelled)

        return self._made(spec, target, make, cancelled)

    def _made(self, spec: ModelSpec, target: Path, make: Callable[[Path], None], cancelled: threading.Event) -> Path:
        """`target`, made and checked under its lock where it was not already."""
        if is_stamped(target, _stamp_of(target), spec.sha256):
            return target
        make_folder(self._models_dir)
        with _locked(target.with_suffix(".lock"), cancelled):
            if is_stamped(target, _stamp_of(target), spec.sha256):  # someone else made it meanwhile
                return target
            for left_behind in target.parent.glob(f"{target.stem}.*.partial"):  # by a process that was killed
                left_behind.unlink()
            temporary = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial")  # its orphan may still write to its own
            try:
                _check_free(spec, self._models_dir)
                make(temporary)
                read_whole(spec, temporary)
                if spec.sha256:
                    _check_sha256(spec, temporary)
                temporary.chmod(SHARED)
                temporary.replace(target)
                write_stamp(target, _stamp_of(target), spec.sha256)
            finally:
                temporary.unlink(missing_ok=True)
        return target


def prepare_models(catalogue: Catalogue, names: Iterable[str], models_dir: Path, report: Report) -> None:
    """Makes the files of the named models ready, or of all that have files where no name is given. Blocking.

    Raises UnknownModel, or ModelLoadFailed for the first that cannot be made ready.
    """
    store = ModelStore(catalogue, models_dir)
    wanted = [catalogue.get(name) for name in names] or [spec for spec in catalogue if spec.engine == LLAMACPP]
    for spec in wanted:
        if spec.engine != LLAMACPP:
            report(f"{spec.name}: nothing to prepare for the {spec.engine} engine")
            continue
        path = store.prepare(spec, report)
        report(f"{spec.name}: ready, {format_size(path.stat().st_size)}, {path}")


def _log(sentence: str) -> None:
    logging.getLogger("roost.worker.model_store").info(sentence)


def _path(written: str) -> Path:
    """Raises OSError where ~ is the home of nobody."""
    try:
        return Path(written.strip()).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, str(error), written) from error


def _check_package(spec: ModelSpec, package: str) -> str:
    """The name of its module. Raises ModelLoadFailed if it is not installed."""
    module = re.sub(r"[-.]+", "_", package)
    if importlib.util.find_spec(module) is None:
        raise ModelLoadFailed(spec.name, f"its weights are in the package {package}, which is not installed here")
    return module


def _assemble(spec: ModelSpec, package: str, target: Path) -> None:
    """Lets the package write its file. Raises OSError, and ModelLoadFailed for whatever else goes wrong in code that is not ours."""
    module = _check_package(spec, package)
    try:
        cast("WeightsPackage", importlib.import_module(module)).assemble(target, True)
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelLoadFailed(spec.name, f"the package {package} is broken: {type(error).__name__}: {error}") from error


def _quantize(spec: ModelSpec, paths: tuple[Path, Path], quantization: str, cancelled: threading.Event) -> None:
    if importlib.util.find_spec("cyllama") is None:
        raise ModelLoadFailed(spec.name, f"quantizing needs the llamacpp engine; {MISSING}")
    command = [sys.executable, "-m", _QUANTIZE, str(paths[0]), str(paths[1]), quantization, str(QUANTIZE_THREADS)]
    log = paths[1].with_suffix(".log")
    try:
        with (
            log.open("wb") as said,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "GGML_NO_BACKTRACE": "1"},
                start_new_session=True,
            ) as process,
        ):
            try:
                _wait(process, cancelled)
            except BaseException:  # also a Ctrl-C: nobody wants the file any more
                process.kill()
                raise
        if process.returncode != 0:
            words = "; ".join(log.read_text("utf-8", "replace").splitlines()[-3:])
            raise ModelLoadFailed(spec.name, f"{paths[0]} could not be quantized to {quantization}: {words[-600:]}")
    finally:
        log.unlink(missing_ok=True)


def _wait(process: subprocess.Popen[bytes], cancelled: threading.Event) -> None:
    while process.poll() is None:
        if cancelled.wait(POLL_S):
            raise Cancelled


@contextlib.contextmanager
def _locked(path: Path, cancelled: threading.Event) -> Iterator[None]:
    """Holds the lock file; waits for whoever else holds it. The lock ends with its process, the empty file stays."""
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_APPEND, SHARED), "ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if cancelled.wait(POLL_S):
                    raise Cancelled from None
        yield


def _check_free(spec: ModelSpec, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < spec.size_bytes + SPARE_BYTES:
        needed = format_size(spec.size_bytes + SPARE_BYTES)
        raise ModelLoadFailed(spec.name, f"{needed} must be free in {folder} and {format_size(free)} are; make room or set models_dir")


def read_whole(spec: ModelSpec, path: Path) -> Header:
    """The head of a file that is as long as its head says. Raises ModelLoadFailed for every other one."""
    try:
        header = read_header(path)
    except BadGguf as error:
        raise ModelLoadFailed(spec.name, f"{path}: {error}") from error
    size_bytes = path.stat().st_size
    if size_bytes < header.needed_bytes:
        raise ModelLoadFailed(spec.name, f"{path}: it has {size_bytes} of {header.needed_bytes} bytes: it is not whole")
    return header


def _check_sha256(spec: ModelSpec, path: Path) -> None:
    found = hash_file(path)
    if found != spec.sha256:
        raise ModelLoadFailed(spec.name, f"{path} has the sha256 {found}, the catalogue says {spec.sha256}")


def _stamp_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.ok")
