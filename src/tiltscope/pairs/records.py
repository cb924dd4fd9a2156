"""A file, a folder or a Hub dataset becomes numbered records.

In:  JSONL, JSON, CSV (each also .gz or .zst), Parquet, a folder of these, or a Hub id.
Out: records one by one, each an object or a refusal, with its 1-based number (the line number in JSONL).
Refuses: a source that is missing, empty, truncated, or of no known format (`DataError`). Content counts, not the name.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from tiltscope.artifact import quoted
from tiltscope.errors import DataError
from tiltscope.pairs.types import Refusal

__all__ = ["Record", "read_records"]

_SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_FORMATS = "JSONL, JSON, CSV (each also .gz or .zst) and Parquet"
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Record:
    """One record: its number and either a value or the refusal of it."""

    row: int
    value: Any = None
    refusal: Refusal | None = None


def read_records(source: str | Path) -> Iterator[Record]:
    """Yield the records of a file, a folder of files, or a Hub dataset (`owner/name`, through `datasets`).

    Raises:
        DataError: nothing is there, the file is empty, truncated, not UTF-8 as a whole, or of no known format.
    """
    if not str(source):
        raise DataError("no dataset is given", found="an empty name", hint="is a shell variable unset?")
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    if path.exists():
        return _read_file(path)
    if str(source).count("/") == 1 and not str(source).startswith((".", "/", "~")) and not _looks_like_file(path):
        return _read_hub(str(source))
    raise DataError("there is no such file", where=str(source), hint="give a file, a folder, or a Hub id owner/name")


def _looks_like_file(path: Path) -> bool:
    return path.suffix in {*_SUFFIXES, ".gz", ".zst"}


def _read_folder(path: Path) -> Iterator[Record]:
    """All files of the first kind found, in name order, numbered through."""
    _check_arrow(path)
    for suffix in _SUFFIXES:
        files = sorted(p for p in path.rglob("*") if p.is_file() and suffix in p.suffixes)
        if files:
            return _numbered_through(files)
    raise DataError("this folder holds no data file", where=str(path), hint=f"formats: {_FORMATS}")


def _check_arrow(path: Path) -> None:
    """Refuse what `save_to_disk` of the library `datasets` wrote: Arrow files, beside JSON that only describes them."""
    splits = (
        sorted(one.parent.name for one in path.glob("*/state.json")) if (path / "dataset_dict.json").exists() else []
    )
    if not splits and not (path / "state.json").exists():
        return
    split = next((f"[{json.dumps(one)}]" for one in ("train", "train_prefs", *splits) if one in splits), "")
    code = f'import datasets; datasets.load_from_disk({json.dumps(str(path))}){split}.to_parquet("pairs.parquet")'
    raise DataError(
        "this folder was written by save_to_disk of the library `datasets`, and its Arrow files are not read",
        where=str(path),
        found=f"the splits {', '.join(splits)}" if splits else "state.json and Arrow files",
        hint=f"write it as Parquet: python -c {quoted(code)}",
    )


def _numbered_through(files: list[Path]) -> Iterator[Record]:
    before = 0
    for path in files:
        last = 0
        for record in _read_file(path):
            last = record.row
            refusal = record.refusal and Refusal(before + last, record.refusal.reason, record.refusal.found)
            yield Record(before + last, record.value, refusal)
        before += last


def _read_file(path: Path) -> Iterator[Record]:
    with path.open("rb") as stream:
        head = stream.read(4)
    if not head:
        raise DataError("this file is empty", where=str(path))
    if head == b"PAR1":
        return _read_parquet(path)
    if path.suffix == ".parquet":
        raise DataError("this file is not Parquet, whatever its name says", where=str(path), found=repr(head))
    return _guarded(path, head)


def _guarded(path: Path, head: bytes) -> Iterator[Record]:
    """Read a text file; a break in the compressed stream names the file and how many records were whole."""
    n_whole = 0
    try:
        with _open_text(path, head) as stream:
            for record in _read_text(path, stream):
                n_whole += record.refusal is None
                yield record
    except _BROKEN as error:
        raise DataError(
            "this compressed file is truncated or damaged",
            where=str(path),
            found=f"{n_whole} records were readable before the break ({error})",
            hint="download or copy the file again",
        ) from error
    if not n_whole and _is_blank(path, head):
        raise DataError("this file holds nothing but blanks", where=str(path))


def _is_blank(path: Path, head: bytes) -> bool:
    with _open_text(path, head) as stream:
        return not stream.read(1 << 16).strip()


def _open_text(path: Path, head: bytes) -> BinaryIO:
    """Open a plain, gzip or zstandard file by its first bytes."""
    if head[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if head == b"\x28\xb5\x2f\xfd":
        return cast(BinaryIO, io.BufferedReader(_Zstandard(path), 1 << 20))
    return path.open("rb", buffering=1 << 20)


class _Zstandard(io.RawIOBase):
    """A zstandard stream that, unlike the library's own reader, says when the file ends in mid-frame."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._damaged = zstandard.ZstdError
        self._new = zstandard.ZstdDecompressor().decompressobj
        self._source, self._frame, self._ready = path.open("rb"), self._new(), b""
        self._open_frame = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and (block := self._source.read(1 << 18)):
            self._ready = self._decompress(block)
        if not self._ready and self._open_frame:
            raise EOFError("the last frame is not finished")
        n = min(len(buffer), len(self._ready))
        buffer[:n], self._ready = self._ready[:n], self._ready[n:]
        return n

    def _decompress(self, block: bytes) -> bytes:
        out = []
        while block:
            try:
                out.append(self._frame.decompress(block))
            except self._damaged as error:
                raise EOFError(str(error)) from error
            self._open_frame = not self._frame.eof
            block = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = self._new()
        return b"".join(out)

    def close(self) -> None:
        self._source.close()
        super().close()


def _read_text(path: Path, stream: BinaryIO) -> Iterator[Record]:
    """Choose by extension where it says something, else by the first character of the content."""
    start = cast(io.BufferedReader, stream).peek(1 << 16)[: 1 << 16]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("this file is UTF-16, not UTF-8", where=str(path), hint="iconv -f UTF-16 -t UTF-8 FILE")
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if suffixes & {".csv", ".tsv"}:
        return _read_csv(stream, b"\t" if ".tsv" in suffixes else _delimiter(start))
    if suffixes & {".jsonl", ".ndjson"}:
        if _is_list(start):
            raise _list_in_lines(path)
        return _read_lines(stream)
    if first == b"[" or (first == b"{" and not _is_lines(start)):
        return _read_json(path, stream)
    if first == b"{" or ".json" in suffixes:
        return _read_lines(stream)
    if b"chosen" in start.split(b"\n")[0]:
        return _read_csv(stream, _delimiter(start))
    raise DataError("the format of this file is not known", where=str(path), found=repr(start[:60]), hint=_FORMATS)


def _is_list(start: bytes) -> bool:
    """Whether this is one list of objects, in one line or over several; a list in every line is another thing."""
    first, _, rest = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not first.startswith(b"[") or not (first[1:] + rest).lstrip().startswith(b"{"):
        return False
    try:
        json.loads(first)
    except ValueError:
        return True
    return not rest.strip()


def _list_in_lines(path: Path) -> DataError:
    """A list of records under the name of a file that has one record a line."""
    right = path.with_name(path.name.replace(".jsonl", ".json").replace(".ndjson", ".json"))
    hint = f"rename it: mv {quoted(path)} {quoted(right)}"
    return DataError("this is one JSON list, not a record per line as its name says", where=str(path), hint=hint)


def _delimiter(start: bytes) -> bytes:
    header = start.split(b"\n")[0]
    return max(b",", b"\t", b";", key=header.count)


def _is_lines(start: bytes) -> bool:
    """Whether the first line is a record of its own, or so long that no line break is in sight."""
    first, newline, rest = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not newline:
        return not first.startswith((b'{"data":', b'{"data" :', b'{"rows":', b'{"train":'))
    try:
        value = json.loads(first)
    except ValueError:
        return first.rstrip() not in (b"{", b"") and not rest.lstrip().startswith(b'"')
    return not (isinstance(value, dict) and _only_list(value) is not None)


def _read_lines(stream: BinaryIO) -> Iterator[Record]:
    for row, line in enumerate(stream, 1):
        if row == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield _line(row, line)


def _line(row: int, line: bytes) -> Record:
    """Parse one line; the last line of a file that was cut off has no line break."""
    try:
        return Record(row, json.loads(line.decode("utf-8"), parse_constant=str))
    except UnicodeDecodeError as error:
        if not line.endswith(b"\n") and error.reason == "unexpected end of data":
            return Record(row, refusal=Refusal(row, "ends_mid_record", "inside a character"))
        return Record(row, refusal=Refusal(row, "not_utf8", f"byte {line[error.start]:#04x} at {error.start}"))
    except (ValueError, RecursionError) as error:
        reason = "not_json" if line.endswith((b"\n", b"}")) else "ends_mid_record"
        return Record(row, refusal=Refusal(row, reason, str(error)[:200]))


def _read_json(path: Path, stream: BinaryIO) -> Iterator[Record]:
    try:
        value = json.loads(stream.read().decode("utf-8-sig"), parse_constant=str)
    except UnicodeDecodeError as error:
        raise DataError("this file is not UTF-8", where=str(path), found=f"byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise DataError("this file is not whole JSON", where=str(path), found=str(error)[:200]) from error
    rows = _only_list(value) if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise DataError("this JSON holds no list of records", where=str(path), hint='give a list, or {"data": [...]}')
    if not rows:
        raise DataError("this file holds an empty list", where=str(path))
    for row, one in enumerate(rows, 1):
        yield Record(row, one)


def _only_list(value: dict[str, Any]) -> list[Any] | None:
    """The one list of objects in {"data": [...]}; an object that has an answer in it is a record, not a wrapper."""
    lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    if "data" in value and isinstance(value["data"], list):
        return value["data"]
    return lists[0] if len(lists) == 1 and not {"chosen", "rejected"} & set(value) else None


def _read_csv(stream: BinaryIO, delimiter: bytes) -> Iterator[Record]:
    """Read CSV; bytes that are not UTF-8 refuse their own record and no other."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    before = csv.field_size_limit(2**31 - 1)  # the default refuses fields over 128 KiB
    reader = csv.DictReader(text, delimiter=delimiter.decode(), strict=True)
    row = 0
    try:
        for row, value in enumerate(reader, 1):
            yield _csv_record(row, value)
    except csv.Error as error:
        reason = "ends_mid_record" if "unexpected end" in str(error) else "bad_csv"
        yield Record(row + 1, refusal=Refusal(row + 1, reason, f"{error}; nothing after it could be read"))
    finally:
        text.detach()  # whoever opened the stream closes it
        csv.field_size_limit(before)


def _csv_record(row: int, value: dict[Any, Any]) -> Record:
    texts = [v for v in value.values() if isinstance(v, str)]
    if any("\udc80" <= c <= "\udcff" for text in texts if not text.isascii() for c in text):
        return Record(row, refusal=Refusal(row, "not_utf8", "a byte that is not UTF-8"))
    if None in value or len(texts) < len(value):
        return Record(row, refusal=Refusal(row, "bad_csv", f"{len(texts)} of {len(value)} columns"))
    return Record(row, value)


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    row = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=256):
            for value in batch.to_pylist():
                row += 1
                yield Record(row, value)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            "this Parquet file is truncated or damaged",
            where=str(path),
            found=f"{row} records were readable ({str(error)[:120]})",
        ) from error
    if row == 0:
        raise DataError("this file holds no records", where=str(path))


def _read_hub(name: str) -> Iterator[Record]:
    """Stream a dataset of the Hugging Face Hub: split `train` or `train_prefs`, else the only one there is."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"there is no file {name}, and reading it from the Hub needs `datasets`",
            hint="pip install 'tiltscope[torch]', or download the data and give the file",
        ) from None
    try:
        splits = [str(split) for split in datasets.get_dataset_split_names(name)]
        split = next((s for s in ("train", "train_prefs") if s in splits), splits[0] if len(splits) == 1 else None)
        if split is not None:
            rows = datasets.load_dataset(name, split=split, streaming=True)
            for row, value in enumerate(rows, 1):
                yield Record(row, value)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} is no file here and could not be read from the Hub",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            hint="check the spelling and the network, or download the data and give the file",
        ) from error
    if split is None:
        raise DataError(f"{name} has several splits and none is called train", found=", ".join(splits))
