"""HTML as its reader sees it: what is shown, what is not, and markup made to take long."""

from __future__ import annotations

import pytest

from mailguard.protocol.imap.htmltext import html_text, without_title


def words(markup: str) -> str:
    return " ".join(html_text(markup).split())


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ("<p>Pay <b>now</b></p>", "Pay now"),
        ("<P CLASS='a'>Pay<BR/>now", "Pay now"),
        ("<style>p{}</style>a<!-- b <p> -->c<SCRIPT>d</script >e", "a c e"),
        ("<head><title>Invoice</title><meta a=b></head>due", "Invoice due"),
        ("<head><meta a=b><body>due", "due"),  # </head> may be left out
        ("caf&eacute; &#8364;5 &amp;lt; M&uuml;ller&nbsp;GmbH", "café €5 &lt; Müller GmbH"),
        ('<img src="x.gif" alt="Best offers">, <IMG ALT=Offer src=y> <img alt=\'a "b"\'>', 'Best offers , Offer a "b"'),
        ("<img src=x><a title='no'>yes</a>", "yes"),
        ("1 < 2 and 3 <4> 5", "1 < 2 and 3 <4> 5"),
        ("seen<!-- never closed <p>text", "seen"),
        ("seen<style> never closed <p>text", "seen"),
        ("seen<a href='never closed", "seen"),
    ],
)
def test_what_a_reader_sees(markup: str, shown: str) -> None:
    assert words(markup) == shown


def test_a_title_is_searched_and_not_part_of_the_page() -> None:
    assert words(without_title("<title>Inv</title><p>due<title>rest")) == "due"


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!--",
        "<style ",
        "<script>",
        "<a ",
        "<head><",
        "</style ",
        '<img alt="',
        "<img alt = ",
        "<title>",
        "&",
        "&#",
    ],
)
def test_two_million_pieces_that_never_end(piece: str) -> None:
    """Each looked at once: looked for their end one by one, they would take days, and hold all threads up."""
    markup = piece * 2_000_000
    assert len(html_text(without_title(markup))) <= len(markup)
