"""The files of a zip or a folder, read in memory: first the heads of all, then the whole of those that are wanted.

Nothing is unpacked to disk, and names are never used as paths. A zip is read in one go, which suits a network file system;
its members are inflated by ISA-L, two to three times as fast as by zlib.
"""

import io
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from ptacl.errors import UnreadableCine

MAX_FILES, MAX_FILE_BYTES, MAX_TOTAL_BYTES = 20000, 64 * 2**20, 2 * 2**30
MAX_ENHANCED_BYTES = 512 * 2**20
# No image, whatever its name's ending: manifests, notes.
_OTHER_SUFFIXES = (".csv", ".cvs", ".txt", ".xml", ".json", ".md")


@dataclass(frozen=True)
class ZipMember:
    """One member of a zip whose bytes are in memory."""

    archive: memoryview
    start: int
    compressed: int
    size: int
    deflated: bool
    crc: int

    def head(self, limit: int) -> bytes:
        """The first `limit` bytes, fewer where there are no more. Raises ValueError for a damaged member."""
        raw = self.archive[self.start : self.start + min(self.compressed, limit)]
        if not self.deflated:
            return bytes(raw)
        try:
            return isal_zlib.decompressobj(-15).decompress(raw, min(limit, self.size) or 1)
        except isal_zlib.error:  # type: ignore[misc]
            raise ValueError("a damaged member") from None

    def content(self) -> bytes:
        """All bytes, their checksum verified. Raises ValueError for a damaged member."""
        raw = self.archive[self.start : self.start + self.compressed]
        data = bytes(raw) if not self.deflated else _inflate(raw, self.size)
        if len(data) != self.size or isal_zlib.crc32(data) != self.crc:
            raise ValueError("a damaged member")
        return data


@dataclass(frozen=True)
class FolderMember:
    """One file of a folder, or the only one."""

    path: Path
    size: int

    def head(self, limit: int) -> bytes:
        """The first `limit` bytes. Raises ValueError where the file can't be read."""
        try:
            with self.path.open("rb") as f:
                return f.read(limit)
        except OSError:
            raise ValueError("an unreadable file") from None

    def content(self) -> bytes:
        """All bytes. Raises ValueError where the file can't be read."""
        return self.head(self.size)


Member = ZipMember | FolderMember


def members_of(path: Path) -> tuple[Sequence[Member], int]:
    """Members in the order of their names, and the number of those left out as damaged, encrypted or far too large.

    Raises UnreadableCine: truncated, too_large, unsupported_zip.
    """
    if path.is_dir():
        return _folder(path)
    with path.open("rb") as f:
        zipped = f.read(2) == b"PK"
    return _zip(path) if zipped else ([FolderMember(path, path.stat().st_size)], 0)


def _folder(path: Path) -> tuple[list[Member], int]:
    members: list[Member] = []
    left_out = total = 0
    for file in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.lower().endswith(_OTHER_SUFFIXES)):
        size = file.stat().st_size
        total += size
        if len(members) >= MAX_FILES or total > MAX_TOTAL_BYTES:
            raise UnreadableCine("too_large", "more or larger files than any cine has")
        if size > MAX_ENHANCED_BYTES:
            left_out += 1
        else:
            members.append(FolderMember(file, size))
    return members, left_out


def _zip(path: Path) -> tuple[list[Member], int]:
    if path.stat().st_size > MAX_TOTAL_BYTES:
        raise UnreadableCine("too_large", "the zip is larger than any cine")
    data = path.read_bytes()
    try:
        infos = sorted(zipfile.ZipFile(io.BytesIO(data)).infolist(), key=lambda m: m.filename)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, struct.error):
        raise UnreadableCine("truncated", "the zip breaks off or is damaged") from None
    if len(infos) > MAX_FILES or sum(m.file_size for m in infos) > MAX_TOTAL_BYTES:
        raise UnreadableCine("too_large", "the zip announces more than any cine has")
    archive = memoryview(data)
    members: list[Member] = []
    left_out = 0
    infos = [m for m in infos if not m.is_dir() and not m.filename.lower().endswith(_OTHER_SUFFIXES)]
    if infos and not any(_is_plain(m) for m in infos):
        raise UnreadableCine("unsupported_zip", "members are encrypted, or packed otherwise than by deflate")
    for info in infos:
        start = _data_start(data, info)
        if start is None:
            left_out += 1
        else:
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            members.append(ZipMember(archive, start, info.compress_size, info.file_size, deflated, info.CRC))
    return members, left_out


def _is_plain(info: zipfile.ZipInfo) -> bool:
    return info.compress_type in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED) and not info.flag_bits & 0x1


def _data_start(data: bytes, info: zipfile.ZipInfo) -> int | None:
    """Where a member's bytes begin; None for one that is encrypted, packed otherwise, too large or out of bounds."""
    at = info.header_offset
    if (
        not _is_plain(info)
        or info.file_size > MAX_ENHANCED_BYTES
        or at + 30 > len(data)
        or data[at : at + 4] != b"PK\3\4"
    ):
        return None
    name, extra = struct.unpack_from("<HH", data, at + 26)
    start = at + 30 + name + extra
    return start if start + info.compress_size <= len(data) else None


def _inflate(raw: memoryview, size: int) -> bytes:
    """Exactly `size` bytes: a member that says less than it holds is not inflated any further."""
    try:
        inflater = isal_zlib.decompressobj(-15)
        data = inflater.decompress(raw, size + 1)
        if len(data) == size and not inflater.eof:
            data += inflater.decompress(inflater.unconsumed_tail, 1)
    except isal_zlib.error:  # type: ignore[misc]
        raise ValueError("a damaged member") from None
    if not inflater.eof:
        raise ValueError("a damaged member")
    return data
