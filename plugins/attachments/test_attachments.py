"""The attachments check: names, contents, archives, and bounds that hold."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

import mailguard_attachments
from mailguard.plugin import Finding, Message
from mailguard.testing import make_message, make_session, run_check

PE = b"MZ" + b"\0" * 100 + b"PE\0\0" + b"\0" * 100


def mail(name: str, data: bytes, kind: str = "application/octet-stream") -> Message:
    encoded = base64.encodebytes(data).decode()
    return make_message(
        raw=f'From: a@example.net\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n\nHello\n--b\n'
        f'Content-Type: {kind}\nContent-Disposition: attachment; filename="{name}"\n'
        f"Content-Transfer-Encoding: base64\n\n{encoded}\n--b--\n"
    )


def check(name: str, data: bytes = b"hello", **options: object) -> Finding:
    finding = run_check(mailguard_attachments, message=mail(name, data), options=options)
    assert finding is not None
    return finding


def packed(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def locked(name: str) -> bytes:
    """A zip file whose entry says that it is encrypted, in both its headers."""
    data = bytearray(packed(**{name: b"secret"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "invoice.pdf.exe",
        "Invoice.SCR",
        "a.js. ",
        "a.vbs::$DATA",
        "=?utf-8?B?cmVjaG51bmcuZXhl?=",
        "gpj\u202efdp.pdf",
        "=?utf-8?B?4oCucGRmLnR4dA==?=",
    ],
)
def test_dangerous_names(name: str) -> None:
    assert check(name).word == "dangerous"


@pytest.mark.parametrize("name", ["invoice.pdf", "executive.docx", "exe", "photo.jpg", "notes.txt", "Übersicht.xlsx"])
def test_harmless_names(name: str) -> None:
    assert check(name).word == "clean"


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("photo.jpg", PE, "dangerous"),
        ("report.pdf", b"\x7fELF" + b"\0" * 60, "dangerous"),
        ("report.pdf", b"L\0\0\0\x01\x14\x02\0" + b"\0" * 60, "dangerous"),
        ("data.bin", b"\0" * 0x8001 + b"CD001", "dangerous"),
        ("MZ.txt", b"MZ is how a letter may begin", "clean"),
        ("a.zip", packed(a__txt=b"hello"), "clean"),
        ("a.zip", packed(a__exe=b"hello"), "dangerous"),
        ("a.zip", packed(photo__jpg=PE), "dangerous"),
        ("a.zip", packed(inner__zip=packed(photo__jpg=PE)), "dangerous"),
        ("a.docx", packed(**{"word/vbaProject.bin": b"x", "word/document.xml": b"<x/>"}), "macro"),
        ("a.docm", packed(**{"word/document.xml": b"<x/>"}), "macro"),
        ("a.doc", b"\xd0\xcf\x11\xe0" + b"\0" * 600 + "_VBA_PROJECT".encode("utf-16-le"), "macro"),
        ("a.tar", tarred("b.exe", b"x"), "dangerous"),
        ("a.tgz", gzip.compress(tarred("b.exe", b"x")), "dangerous"),
        ("a.tar.bz2", bz2.compress(tarred("b.txt", PE)), "dangerous"),
        ("a.exe.xz", lzma.compress(b"x"), "dangerous"),
        ("a.txt.gz", gzip.compress(b"x"), "clean"),
        ("a.zip", locked("b__txt"), "encrypted"),
        ("a.zip", locked("b__exe"), "dangerous"),
        ("a.rar", b"Rar!\x1a\x07\x01\0", "unreadable"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\4", "unreadable"),
        ("a.zip", b"PK\x03\x04 and nothing more", "unreadable"),
        ("a.gz", b"\x1f\x8b\x08 broken", "unreadable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip has the time in it
)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_contents(name: str, data: bytes, word: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:  # archives are read from a file, others by their beginning
        monkeypatch.setattr(mailguard_attachments, "_AT_ONCE", 48_000 if name == "data.bin" else 1000)
    assert check(name, data).word == word


def test_the_reason_leads_to_the_file() -> None:
    finding = check("letters.zip", packed(inner__zip=packed(photo__jpg=PE)))
    assert finding.reason == "letters.zip/inner.zip/photo.jpg is a Windows program, whatever its name says"
    assert finding.facts["names"] == ["letters.zip"]
    assert finding.facts["found"] == [{"file": "letters.zip/inner.zip/photo.jpg", "word": "dangerous"}]


@pytest.mark.parametrize(
    "data",
    [
        packed(a__zip=packed(b__zip=packed(c__zip=packed(d__zip=packed(e__txt=b"x"))))),
        packed(**{f"{n}__txt": b"x" for n in range(1001)}),
        gzip.compress(b"\0" * 40_000_000),
        packed(a__zip=b"PK\x03\x04" + b"\0" * 40_000_000),
        packed(**{f"{n}__tar": tarred("x", b"\0" * 9_000_000) for n in range(5)}),
    ],
    ids=["deep", "many", "gzip bomb", "zip bomb", "together"],
)
def test_bounds(data: bytes) -> None:
    assert check("a.zip", data).word == "bounds"


def test_bounds_can_be_set() -> None:
    assert check("a.zip", packed(b__zip=packed(c__txt=b"")), max_depth=1).word == "bounds"
    assert check("a.iso", allow=["iso"]).word == "clean"
    assert check("a.sh", dangerous=["sh"]).word == "dangerous"


def test_no_attachment_no_word() -> None:
    assert run_check(mailguard_attachments) is None
    html = make_message(raw="Content-Type: text/html\n\n<p>Hi\n")
    assert run_check(mailguard_attachments, message=html) is None
    assert check("a.exe") is not None
    assert run_check(mailguard_attachments, session=make_session(user="a@example.org"), message=mail("a.exe", b""))


def test_a_whole_message_that_is_an_attachment() -> None:
    raw = 'From: a@example.net\nContent-Type: application/x-msdownload; name="a.exe"\n\nMZ\n'
    finding = run_check(mailguard_attachments, message=make_message(raw=raw))
    assert finding is not None
    assert finding.word == "dangerous"


def test_forwarded_messages_are_looked_into() -> None:
    inner = bytes(mail("a.exe", b"x")).decode()
    raw = f"From: a@example.net\nContent-Type: message/rfc822\n\n{inner}"
    finding = run_check(mailguard_attachments, message=make_message(raw=raw))
    assert finding is not None
    assert finding.word == "dangerous"
