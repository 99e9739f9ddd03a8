"""Names the signals know: free mail hosts, shorteners, borrowed brands, top-level domains that are given away."""

from __future__ import annotations

from types import MappingProxyType

Signals = dict[str, tuple[str, ...]]
"""Signals found, each with the words its reason is filled in with."""

FREEMAIL = frozenset(
    b"gmail.com googlemail.com yahoo.com ymail.com hotmail.com outlook.com live.com msn.com aol.com gmx.de gmx.net"
    b" gmx.com web.de mail.ru yandex.ru yandex.com proton.me protonmail.com icloud.com qq.com 163.com 126.com"
    b" sina.com uol.com.br bol.com.br terra.com.br t-online.de freenet.de zoho.com tutanota.com mail.com".split()
)

CHEAP_TLD = frozenset(
    b"top xyz click icu buzz tk ml ga cf gq work rest fit monster quest cam bond sbs cfd cyou loan men win bid"
    b" stream download racing date trade accountant science party review faith cricket webcam beauty hair skin".split()
)

SHORTENER = frozenset(
    b"bit.ly tinyurl.com goo.gl t.co ow.ly is.gd v.gd buff.ly rebrand.ly cutt.ly shorturl.at rb.gy t.ly tiny.cc"
    b" s.id lnkd.in bl.ink adf.ly encurtador.com.br".split()
)

FREE_HOST = frozenset(
    b"blogspot.com weebly.com wixsite.com 000webhostapp.com herokuapp.com netlify.app vercel.app web.app"
    b" firebaseapp.com github.io pages.dev workers.dev r2.dev glitch.me godaddysites.com square.site duckdns.org"
    b" ngrok.io ngrok-free.app translate.goog ipfs.io storage.googleapis.com geocities.com angelfire.com".split()
)

BRAND: MappingProxyType[str, tuple[bytes, ...]] = MappingProxyType(
    {
        "paypal": (b"paypal.",),
        "amazon": (b"amazon.", b"amazonses."),
        "icloud": (b"apple.", b"icloud."),
        "microsoft": (b"microsoft.", b"microsoftonline.", b"office.", b"outlook.", b"linkedin.", b"azure."),
        "office365": (b"microsoft.", b"office.", b"office365."),
        "netflix": (b"netflix.",),
        "facebook": (b"facebook.", b"facebookmail.", b"meta."),
        "instagram": (b"instagram.", b"facebook"),
        "whatsapp": (b"whatsapp.", b"facebook"),
        "dhl": (b"dhl.",),
        "fedex": (b"fedex.",),
        "ups": (b"ups.",),
        "usps": (b"usps.",),
        "docusign": (b"docusign.",),
        "metamask": (b"metamask.", b"consensys."),
        "coinbase": (b"coinbase.",),
        "binance": (b"binance.",),
        "bradesco": (b"bradesco.",),
        "itau": (b"itau.",),
        "santander": (b"santander.",),
        "serasa": (b"serasa",),
        "sparkasse": (b"sparkasse", b"s-"),
        "volksbank": (b"volksbank", b"vr-"),
        "postbank": (b"postbank.",),
        "citibank": (b"citi",),
        "hsbc": (b"hsbc.",),
        "ebay": (b"ebay.",),
        "mcafee": (b"mcafee.",),
        "norton": (b"norton.", b"nortonlifelock.", b"symantec."),
        "sephora": (b"sephora.",),
        "costco": (b"costco.",),
        "walmart": (b"walmart.",),
    }
)
"""Names often borrowed, and what must be in the domain of those who own them."""

URL_BRAND = frozenset(
    b"paypal amazon icloud microsoft office365 netflix facebook instagram whatsapp docusign metamask coinbase"
    b" binance bradesco santander sparkasse volksbank postbank".split()
)

PROGRAM = frozenset(
    b"exe scr pif com bat cmd js jse vbs vbe wsf wsh hta jar lnk msi ps1 cpl dll iso img vhd reg chm one".split()
)
MACRO = frozenset(b"docm xlsm pptm dotm xltm xlam xls doc ppt slk xll".split()) - frozenset(b"xls doc ppt".split())
PAGE = frozenset(b"htm html shtml xhtml svg mht mhtml".split())
PAPER = frozenset(b"pdf doc docx xls xlsx jpg jpeg png txt zip ppt pptx csv gif".split())

_SECOND = frozenset(b"co com net org gov edu ac or ne go".split())


def registered(host: bytes) -> bytes:
    """The registrable part of a host name by rule of thumb: two labels, three below `co.uk` and its like."""
    labels = host.rsplit(b".", 3)
    if len(labels) > 2 and labels[-2] in _SECOND and len(labels[-1]) == 2:
        return b".".join(labels[-3:])
    return b".".join(labels[-2:])
