"""attachments: dangerous files by name and by content, inside archives too, within bounds."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO

from pydantic import Field

from mailguard.plugin import Context, Finding, Message, Options, PluginInfo, Session, hookimpl

DANGEROUS = re.findall(
    r"\S+",
    """
    ade adp apk app appref-ms appx appxbundle bat cab chm cmd com cpl diagcab dll dmg ex ex_ exe gadget hta img inf
    ins iqy iso isp jar jnlp js jse lib library-ms lnk mde msc msi msix msixbundle msp mst nsh one pif ppkg ps1
    ps1xml psc1 rdp reg scf scr search-ms sct settingcontent-ms shb slk sys theme udl url vb vbe vbs vhd vhdx vxd
    website wsc wsf wsh xbap xll
    """,
)
MACROS = ["docm", "dotm", "pptm", "potm", "ppam", "ppsm", "sldm", "xlsm", "xltm", "xlam"]
_AT_ONCE = 8 << 20  # octets of an attachment that are looked at in memory; of an archive all of it, from a file
_HEAD = 0x8006 + 2  # octets looked at: so far in stands the mark of a CD image
_HIDDEN = re.compile(r"[\u202a-\u202e\u2066-\u2069\u200b-\u200f]")  # turns "exe.fdp" into "pdf.exe" on a screen
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    OSError, EOFError, ValueError, OverflowError, NotImplementedError, RuntimeError, IndexError,
)  # fmt: skip
ORDER = ("dangerous", "bounds", "macro", "encrypted", "unreadable", "clean")


class AttachmentsOptions(Options):
    """Options of the check."""

    dangerous: tuple[str, ...] = Field(default=tuple(DANGEROUS), description="endings of names that are dangerous")
    allow: tuple[str, ...] = Field(default=(), description="endings that are let through after all")
    max_depth: int = Field(default=3, ge=0, le=10, description="archives inside archives looked into")
    max_files: int = Field(default=1000, ge=1, description="files looked at, archives' contents included")
    max_unpacked: int = Field(default=33_554_432, ge=65_536, description="octets unpacked from archives of a message")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "attachments",
        summary="Does the message carry programs, macros or locked archives?",
        words={
            "dangerous": "reject",
            "bounds": "quarantine",
            "macro": "score 3",
            "encrypted": "score 1.5",
            "unreadable": "score 1",
            "clean": "accept",
        },
        options=AttachmentsOptions,
        quick=True,
        explain={
            "dangerous": "a program, a script or something that starts one, by its name or its content",
            "bounds": "an archive too deep, too full or too large to be looked through",
            "macro": "an office document with macros",
            "encrypted": "an archive that cannot be looked into without a password; its names are harmless",
            "unreadable": "an archive of a kind that cannot be looked into, or a broken one",
        },
    )


@hookimpl
def check_message(ctx: Context[AttachmentsOptions], session: Session, message: Message) -> Finding | None:
    search = _Search(ctx.options)
    names = []
    for part in message.tree.walk():
        name = part.filename
        if part.children or (not name and part.content_type.type.lower() in (b"text", b"multipart", b"message")):
            continue
        names.append(name or part.kind)
        path = name or part.kind.replace("/", ".")
        data = part.content(_AT_ONCE)
        if part.end - part.body_start <= _AT_ONCE or not _archive(data):
            search.look(path, data, 0)
        else:
            with _unpacked(part.pieces(), ctx.state_dir) as whole:
                search.look(path, whole, 0)
    if not names:
        return None
    found = sorted(search.found, key=lambda f: ORDER.index(f.word))
    word = found[0].word if found else "clean"
    reason = f"{found[0].path} {found[0].why}" if found else f"{len(names)} attached, nothing against it"
    return Finding(
        word,
        reason,
        detail="; ".join(f"{f.path}: {f.why}" for f in found[1:10]),
        facts={"names": names[:50], "found": [{"file": f.path[:300], "word": f.word} for f in found[:20]]},
    )


@contextlib.contextmanager
def _unpacked(pieces: Iterable[bytes], folder: Path) -> Iterator[bytes | _Mapped]:
    """A large attachment in a file without a name, mapped."""
    import tempfile  # heavy, and seldom needed

    with tempfile.TemporaryFile(dir=folder) as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        with _Mapped(file.fileno(), 0, access=ACCESS_READ) as whole:
            yield whole


class _Mapped(mmap):
    """A mapped file as the archive readers want it; mmap has this method from Python 3.13 on."""

    def seekable(self) -> bool:
        return True


def _file(data: bytes | _Mapped) -> IO[bytes] | _Mapped:
    return io.BytesIO(data) if isinstance(data, bytes) else data


@dataclass(frozen=True, slots=True)
class Found:
    """Something about one file: ``path`` leads to it through archives (``a.zip/b.exe``)."""

    word: str
    path: str
    why: str


class TooMuchError(Exception):
    """More files or octets than are looked at."""


@dataclass(slots=True)
class _Search:
    """Looks through files and what they contain; its bounds are for one message."""

    options: AttachmentsOptions
    found: list[Found] = field(default_factory=list)
    files: int = 0
    octets: int = 0

    def look(self, path: str, data: bytes | _Mapped, depth: int) -> None:
        """Judges a file by name and content, then looks into it."""
        self.files += 1
        if self.files > self.options.max_files:
            self._note("bounds", path, f"is one of more than {self.options.max_files} files")
            return
        ending = _ending(path)
        if why := self._danger(path.rpartition("/")[2], ending, data):
            self._note("dangerous", path, why)
        elif ending in MACROS or b"V\0B\0A\0_\0P\0R\0O\0J\0E\0C\0T\0"[:26] in data[:4_000_000]:
            self._note("macro", path, "is a document with macros")
        try:
            self._look_inside(path, data, depth)
        except TooMuchError as error:
            self._note("bounds", path, str(error))
        except _BROKEN as error:
            self._note("unreadable", path, f"is an archive that cannot be read: {error or type(error).__name__}")

    def _note(self, word: str, path: str, why: str) -> None:
        if len(self.found) < 100:
            self.found.append(Found(word, path, why))

    def _danger(self, name: str, ending: str, data: bytes | _Mapped) -> str:
        if ending in self.options.allow:
            return ""
        if _HIDDEN.search(name):
            return "hides its true name"
        if ending in self.options.dangerous:
            return f"has a name that ends in .{ending}"
        kind = _program(data[:_HEAD])
        return f"is {kind}, whatever its name says" if kind else ""

    def _look_inside(self, path: str, data: bytes | _Mapped, depth: int) -> None:
        kind = _archive(data[:_HEAD])
        if not kind:
            return
        if kind == "unknown":
            self._note("unreadable", path, "is an archive of a kind that cannot be looked into")
        elif depth >= self.options.max_depth:
            raise TooMuchError(f"is packed more than {self.options.max_depth} times")
        elif kind == "zip":
            self._zip(path, data, depth)
        elif kind == "tar":
            for name, content in self._tar(data):
                self.look(f"{path}/{name}", content, depth + 1)
        else:
            inner = re.sub(r"(?i)\.t(gz|bz2?|xz)$", ".tar", path)
            inner = re.sub(r"(?i)\.(gz|bz2|xz|lzma)$", "", inner)
            self.look(f"{path}/{inner.rpartition('/')[2]}", self._unpack(kind, data), depth + 1)

    def _zip(self, path: str, data: bytes | _Mapped, depth: int) -> None:
        with zipfile.ZipFile(_file(data)) as archive:
            for info in archive.infolist():
                inner = f"{path}/{info.filename}"
                if info.is_dir():
                    continue
                if info.flag_bits & 1:
                    self._note("encrypted", inner, "is locked with a password")
                    self.look(inner, b"", depth + 1)
                elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
                    self._note("unreadable", inner, "is packed in a way that cannot be read")
                else:
                    self._zip_entry(archive, info, inner, depth)
                if info.filename.endswith("vbaProject.bin"):
                    self._note("macro", path, "is a document with macros")

    def _zip_entry(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, inner: str, depth: int) -> None:
        with archive.open(info) as file:
            head = file.read(_HEAD)
            if _archive(head) or _ending(inner) in MACROS or head[:4] == b"\xd0\xcf\x11\xe0":
                head += file.read(max(0, self.options.max_unpacked - self.octets - len(head) + 1))
        self._count(len(head))
        self.look(inner, head, depth + 1)

    def _tar(self, data: bytes | _Mapped) -> Iterator[tuple[str, bytes]]:
        import tarfile  # heavy, and seldom needed

        try:
            with tarfile.open(fileobj=_file(data), mode="r:") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isreg() else None
                    if content is not None:
                        octets = content.read(self.options.max_unpacked - self.octets + 1)
                        self._count(len(octets))
                        yield member.name, octets
        except tarfile.TarError as error:
            raise ValueError(str(error)) from error

    def _unpack(self, kind: str, data: bytes | _Mapped) -> bytes:
        most = self.options.max_unpacked - self.octets + 1
        packed = data[: 2 * most]  # enough, however badly it was packed
        if kind == "gz":
            unpacked = zlib.decompressobj(31).decompress(packed, most)
        elif kind == "bz2":
            unpacked = bz2.BZ2Decompressor().decompress(packed, most)
        else:
            unpacked = lzma.LZMADecompressor(memlimit=67_108_864).decompress(packed, most)
        self._count(len(unpacked))
        return unpacked

    def _count(self, octets: int) -> None:
        self.octets += octets
        if self.octets > self.options.max_unpacked:
            raise TooMuchError(f"is larger than {self.options.max_unpacked} octets when it is unpacked")


def _ending(path: str) -> str:
    # Windows drops dots and blanks at the end; a stream name after a colon changes nothing.
    name = path.rpartition("/")[2].rpartition("\\")[2].split(":")[0].rstrip(". \t\0").lower()
    return name.rpartition(".")[2] if "." in name else ""


def _program(head: bytes) -> str:
    """What kind of program the octets are, ``""`` if none."""
    if head[:2] == b"MZ" and len(head) > 64 and b"PE\0\0" in head[:4096]:
        return "a Windows program"
    if head[:4] == b"\x7fELF" or head[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):
        return "a program"
    if head[:8] == b"L\0\0\0\x01\x14\x02\0":
        return "a Windows shortcut"
    if head[:16] == bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3"):
        return "a OneNote file"
    return "a disk image" if head[0x8001:0x8006] == b"CD001" else ""


def _archive(head: bytes) -> str:
    """The kind of archive: ``zip tar gz bz2 xz``, ``unknown`` for others, ``""`` for none."""
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    for magic, kind in ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz")):
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "tar"
    known = (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"MSCF\0\0\0\0")
    return "unknown" if head.startswith(known) or head[7:14] == b"**ACE**" else ""
