"""What is read: files, the files of folders, standard input; packed or not; lines, JSON documents or OTLP protobuf."""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa

from lipservice_dagster.ingest.objects import Line
from lipservice_dagster.ingest.octets import json_object, json_text, octets
from lipservice_dagster.ingest.otlp import protobuf_records

CHUNK_BYTES = 4 << 20
MAX_LINE_BYTES = 256 << 20
"""A line that is longer cannot be stored: it is counted as unreadable, and only its start is kept as a reject.

A document that is not made of lines may be as large.
"""
HEAD_BYTES = 64 << 10
"""Octets at the start of an input by which it is told what it holds."""


class IngestError(RuntimeError):
    """The input cannot be read; the text says what, where, and what to do."""


class Stream(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes:
        """The next octets, `size` at most; none at the end."""
        ...


@dataclass(frozen=True)
class Source:
    """A file, or a stream that is read as it is; ``name`` is what people are told of it.

    ``once``: it can be read a single time, as a pipe that has a name.
    """

    name: str
    stream: BinaryIO | None = None
    once: bool = False

    @property
    def path(self) -> Path | None:
        """Where the file is; None of what can be read once."""
        return Path(self.name) if self.stream is None and not self.once else None


def sources_of(inputs: Sequence[Path] | BinaryIO) -> tuple[list[Source], list[str]]:
    """What there is to read, each file once, and what is left out, with the reason.

    A folder stands for the files below it, in the order of their names; hidden ones are passed over. Left out are files
    that hold no text, as databases and journals, files of a folder that cannot be read, and folders without any. Raises
    `IngestError` where an input is not there, or nothing is left.
    """
    if not isinstance(inputs, Sequence):
        return [Source("<stdin>", inputs)], []
    found: list[Source] = []
    left_out: list[str] = []
    seen: set[tuple[int, int]] = set()
    for path in inputs:
        if not path.exists():
            raise IngestError(f"{path} is not there; check the path. Nothing was stored.")
        files = _below(path) if path.is_dir() else [path]
        if not files:
            left_out.append(f"{path} (a folder without files)")
        for file in files:
            status = file.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if not S_ISREG(status.st_mode):
                found.append(Source(str(file), once=True))
                continue
            try:
                with opened(Source(str(file))) as stream:
                    head = stream.head()
            except IngestError:
                if not path.is_dir():
                    raise
                left_out.append(f"{file} (it cannot be read)")
                continue
            if head[257:262] == b"ustar" or re.match(_ARCHIVE, head):
                left_out.append(f"{file} (an archive: unpack it first)")
            elif not _is_text(head) and not is_protobuf(head):
                left_out.append(f"{file} (it holds no text)")
            else:
                found.append(Source(str(file)))
    if not found:
        raise IngestError(f"There is nothing to read: {', '.join(left_out)}. Nothing was stored.")
    return found, left_out


_ARCHIVE = rb"PK\x03\x04|7z\xbc\xaf\x27\x1c|Rar!|\x04\x22\x4d\x18"  # zip, 7z, rar, lz4
_CONTROLS = 100
"""Of so many octets of text no more than one is a control character; compressed and random ones have eight."""
_NUL_RUN = re.compile(rb"\x00{16,}")


def _is_text(head: bytes) -> bool:
    """Whether an input that begins so holds text.

    Long runs of NULs do not count: a log has them where the disk held what was never written, after a crash, or where
    it was cut off while its writer went on at the old place.
    """
    text = _NUL_RUN.sub(b"", head)
    return not head or len(_CONTROL.findall(text)) * _CONTROLS <= len(text) > 0


def _below(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(parent, name) for name in sorted(files) if not name.startswith("."))
        found += [path for path in paths if path.is_file()]
    return found


# Opening and unpacking

# bzip2's first octets are text, so what stands behind them is looked at too.
_PACKED: tuple[tuple[bytes, str, Callable[[BinaryIO], Any]], ...] = (
    (rb"\x1f\x8b\x08", ".gz", lambda raw: gzip.GzipFile(fileobj=raw)),
    (rb"\x28\xb5\x2f\xfd", ".zst", lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")),
    (rb"\xfd7zXZ\x00", ".xz", lzma.LZMAFile),
    (rb"BZh[1-9]1AY&SY", ".bz2", bz2.BZ2File),
)


def _unpacked(raw: BinaryIO, head: bytes, suffix: str) -> BinaryIO:
    for magic, ending, unpack in _PACKED:
        if re.match(magic, head, re.DOTALL) or suffix == ending:
            return cast(BinaryIO, unpack(raw))
    return raw


def begun(path: Path) -> tuple[int | None, bytes]:
    """Octets of a file of lines up to its last line ending, and the line that is begun behind them.

    None and no line where that is a JSON object from end to end, or the file is packed, a document, or its last line is
    longer than `MAX_LINE_BYTES`: such a file is read as it is.
    """
    with path.open("rb") as raw, opened(Source(str(path))) as stream:
        size = raw.seek(0, os.SEEK_END)
        head, line, end, found = stream.head(), b"", size, b""
        first = head.lstrip().partition(b"\n")
        if stream.packed or is_protobuf(head) or (_DOCUMENT.match(head) and not _is_json(first)):
            return None, b""
        while end and size - end < MAX_LINE_BYTES:
            start = max(0, end - _TAIL_BYTES)
            raw.seek(start)
            before, found, rest = raw.read(end - start).rpartition(b"\n")
            line, end = rest + line, start + len(before) + 1 if found else start
            if found:
                break
    too_long = end > 0 and not found
    whole = line.lstrip()[:1] == b"{" and json_object(line) is not None
    return (None, b"") if too_long or whole else (end, line)


_TAIL_BYTES = 64 << 10


class Input:
    """An opened input that counts the octets read of it and says what to do where it cannot be read."""

    def __init__(self, name: str, stream: BinaryIO, raw: BinaryIO | None, limit: int | None = None) -> None:
        self._name, self._stream, self._raw = name, stream, raw
        self._ahead = b""
        self._hash = hashlib.sha256()
        self._left = limit
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False
        self.octets = 0
        self.packed = raw is not None and stream is not raw

    def read(self, size: int, /) -> bytes:
        """The next octets, decompressed; UTF-16 with its mark comes as UTF-8."""
        if len(self._ahead) < size:
            self._ahead += self._read(size - len(self._ahead))
        ahead, self._ahead = self._ahead[:size], self._ahead[size:]
        self.octets += len(ahead)
        return ahead

    def head(self) -> bytes:
        """The first `HEAD_BYTES` that come, which are still to be read."""
        while len(self._ahead) < HEAD_BYTES and (more := self._read(HEAD_BYTES - len(self._ahead))):
            self._ahead += more
        return self._ahead[:HEAD_BYTES]

    def give_back(self, read: bytes) -> None:
        """Let the octets that were read last be read again."""
        self._ahead = read + self._ahead
        self.octets -= len(read)

    def digest(self) -> str:
        """SHA-256, in hex, of all that came so far, what `head` saw included."""
        return self._hash.hexdigest()

    def position(self) -> int:
        """Octets read of the file itself; standard input cannot be asked."""
        return self.octets if self._raw is None else self._raw.tell()

    def _read(self, size: int) -> bytes:
        """The next octets as they are hashed, about `size`; none at the end."""
        found = self._fetch(size)
        if not self._begun:
            self._begun = True
            if found.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                self._decoder, self.packed = codecs.getincrementaldecoder("utf-16")("replace"), True
        if self._decoder is not None:
            text = self._decoder.decode(found, final=not found)
            while found and not text:  # half a character
                found = self._fetch(size)
                text = self._decoder.decode(found, final=not found)
            found = text.encode()
        self._hash.update(found)
        return found

    def _fetch(self, size: int) -> bytes:
        try:
            found = bytes(self._stream.read(size if self._left is None else min(size, self._left)))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:  # EOFError: it was cut off
            raise IngestError(
                f"Reading {self._name} failed after {self.octets:,} bytes: {error}. Nothing was stored; mend the file"
                " or leave it out, and run it again."
            ) from error
        if self._left is not None:
            self._left -= len(found)
        return found


@contextmanager
def opened(source: Source, limit: int | None = None) -> Iterator[Input]:
    """The source, unpacked where its first octets (or a file's ending) say that it is gzip, zstd, xz or bzip2.

    Of a file with a `limit`, which is not packed then, so many octets are read.
    Raises `IngestError` where it cannot be opened.
    """
    if source.stream is not None:
        stream = (
            source.stream if hasattr(source.stream, "peek") else io.BufferedReader(cast(io.RawIOBase, source.stream))
        )
        yield Input(source.name, _unpacked(stream, stream.peek(16), ""), None)
        return
    path = Path(source.name)
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
            first = raw.peek(16)
        except OSError as error:
            raise IngestError(
                f"Opening {source.name} failed: {error}. Nothing was stored; check its permissions."
            ) from error
        yield Input(source.name, _unpacked(raw, first, path.suffix), raw if raw.seekable() else None, limit)


# What it holds

_SPACE = re.compile(r"\s*")
_BOM = b"\xef\xbb\xbf"
_DOCUMENT = re.compile(rb"\s*(?:\[\s*\{|\{\s*(?:\"|\r?\n|\Z))")
_PROTOBUF = re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f][\x0a\x12]", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a]")


def is_protobuf(head: bytes) -> bool:
    """Whether an input that begins so may be OTLP in protobuf: one message, or many behind their lengths."""
    if head[4:5] == b"\x0a" and _PROTOBUF.match(head, 4):
        return 0 < int.from_bytes(head[:4], "big") <= MAX_LINE_BYTES
    return _PROTOBUF.match(head) is not None and _CONTROL.search(head) is not None


def pieces_of(stream: Input) -> Iterator[tuple[list[bytes], bool] | list[Line]]:
    """What a stream holds, in order: lines as of `lines_of`, or the records of OTLP protobuf.

    JSON over several lines (a document, an array, objects one behind the other) comes as lines, one an object.
    """
    if stream.head().startswith(_BOM):
        stream.read(len(_BOM))
    head = stream.head()
    if is_protobuf(head):
        records = _records(stream, framed=not _PROTOBUF.match(head))
        if records is not None:
            yield records
            return
    elif _DOCUMENT.match(head) and not _is_json(head.lstrip().partition(b"\n")):
        objects = _objects(stream)
        if objects is not None:
            yield objects, False
            return
    yield from lines_of(stream)


def _is_json(first: tuple[bytes, bytes, bytes]) -> bool:
    """Whether a first line is a JSON object, or one whose end is not in sight."""
    line, end, _ = first
    if line.lstrip()[:1] != b"{":
        return False
    try:
        json.loads(json_text(line))
    except (ValueError, RecursionError):
        return not end and len(line) >= HEAD_BYTES
    return True


def _whole(stream: Input) -> bytes | None:
    """All that is left of a stream; None, with nothing read, where it is more than `MAX_LINE_BYTES`."""
    parts, held = [], 0
    while part := stream.read(CHUNK_BYTES):
        parts.append(part)
        held += len(part)
        if held > MAX_LINE_BYTES:
            break
    whole = b"".join(parts)
    if held > MAX_LINE_BYTES:
        stream.give_back(whole)
        return None
    return whole


def _records(stream: Input, *, framed: bool) -> list[Line] | None:
    """The records of OTLP protobuf; None, with nothing read, where it is none."""
    whole = _whole(stream)
    if whole is None:
        return None
    records: list[Line] = []
    for message in _frames(whole) if framed else [whole]:
        found = protobuf_records(message) if message is not None else None
        if found is None:
            stream.give_back(whole)
            return None
        records += found
    return records


def _frames(whole: bytes) -> Iterator[bytes | None]:
    """Messages behind their lengths, four octets each, as the Collector's file exporter writes; None: cut off."""
    at = 0
    while at < len(whole):
        end = at + 4 + int.from_bytes(whole[at : at + 4], "big")
        yield whole[at + 4 : end] if end <= len(whole) else None
        at = end


def _objects(stream: Input) -> list[bytes] | None:
    """The objects of JSON over several lines, each on a line; None, with nothing read, where it is no JSON."""
    whole = _whole(stream)
    if whole is None:
        return None
    text, decoder, found = json_text(whole), json.JSONDecoder(), list[Any]()
    at = _after_space(text, 0)
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            found += value if isinstance(value, list) else [value]
            at = _after_space(text, at)
    except (ValueError, RecursionError):
        stream.give_back(whole)
        return None
    return [octets(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) for value in found]


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def lines_of(stream: Stream) -> Iterator[tuple[list[bytes], bool]]:
    """Lines without their ``\\n``, many at a time and False; or one that was cut at `MAX_LINE_BYTES`, and True.

    `MAX_LINE_BYTES` is more than a chunk.
    """
    parts: list[bytes] = []  # the line that has begun
    held = 0
    skipping = False  # the rest of a line that was cut
    while chunk := stream.read(CHUNK_BYTES):
        pieces = chunk.split(b"\n")
        if skipping:
            if len(pieces) == 1:
                continue
            del pieces[0]
            skipping = False
        parts.append(pieces[0])
        held += len(pieces[0])
        if len(pieces) > 1:
            pieces[0] = b"".join(parts)
            parts = [pieces.pop()]
            held = len(parts[0])
            # Only the first of them can have begun in an earlier chunk.
            if len(pieces[0]) > MAX_LINE_BYTES:
                yield [pieces[0][:MAX_LINE_BYTES]], True
                del pieces[0]
            yield pieces, False
        elif held > MAX_LINE_BYTES:
            yield [b"".join(parts)[:MAX_LINE_BYTES]], True
            parts, held, skipping = [], 0, True
    rest = b"".join(parts)
    if rest:
        yield [rest], False
