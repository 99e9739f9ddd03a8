"""Ordinary office mail of every sort in four languages is never junk, with nothing learnt."""

from __future__ import annotations

import pytest

from mailguard.testing import Harness, make_message
from mailguard_spamscore import spamscore

HTML = ("Content-Type", "text/html; charset=utf-8")
BULK = [("List-Unsubscribe", "<https://news.shop.example/leave>"), ("MIME-Version", "1.0"), HTML]
LIST = [
    ("List-Id", "<dev.lists.example>"),
    ("List-Post", "<mailto:dev@lists.example>"),
    ("In-Reply-To", "<1@lists.example>"),
]
INVITATION = [("MIME-Version", "1.0"), ("Content-Type", "text/calendar; charset=utf-8; method=REQUEST")]
NOTICE = [("Auto-Submitted", "auto-generated")]
BOUNCE = [("Auto-Submitted", "auto-replied"), ("Return-Path", "<>")]


def page(*lines: str) -> str:
    return "<html><body>" + "".join(f"<p>{line}</p>" for line in lines) + "</body></html>\n"


def meeting(summary: str) -> str:
    return f"BEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VEVENT\nSUMMARY:{summary}\nEND:VEVENT\nEND:VCALENDAR\n"


LINK = '<a href="https://news.shop.example/{0}">{1}</a>'
MAIL = {
    "newsletter, English": (
        "November at the shop",
        page("The November issue is out: three recipes and our autumn sale.", LINK.format("nov", "Read on")),
        BULK,
    ),
    "newsletter, German": (
        "Neues im November",
        page("Die Ausgabe für November ist da: drei Rezepte und ein Gespräch.", LINK.format("nov", "Weiterlesen")),
        BULK,
    ),
    "newsletter, Portuguese": (
        "Novidades de novembro",
        page("A edição de novembro chegou: três receitas e uma entrevista.", LINK.format("nov", "Ler mais")),
        BULK,
    ),
    "newsletter, Chinese": (
        "十一月新品",
        page("十一月刊已经出版:三个食谱和一篇采访。", LINK.format("nov", "阅读全文")),
        BULK,
    ),
    "invoice, English": (
        "Invoice 2023-117",
        "Dear Bob,\n\nplease find attached invoice 2023-117 over 1,240.00 EUR, due in 30 days.\n\nAlice\n",
        [],
    ),
    "invoice, German": (
        "Rechnung Nr. 4711",
        "Sehr geehrte Damen und Herren,\n\nanbei die Rechnung über 240,50 €, zahlbar in 14 Tagen.\n",
        [],
    ),
    "invoice, Portuguese": (
        "Fatura n.º 4711",
        "Exmos. Senhores,\n\njunto enviamos a fatura no valor de 240,50 €, a pagar em 30 dias.\n",
        [],
    ),
    "invoice, Chinese": ("发票 4711", "您好:\n\n附件是本月的发票,金额为 2,405.00 元,请在三十天内付款。谢谢!\n", []),
    "invitation, English": ("Invitation: budget round", meeting("Budget round"), INVITATION),
    "invitation, German": ("Einladung: Budgetrunde", meeting("Budgetrunde für das Frühjahr"), INVITATION),
    "invitation, Portuguese": ("Convite: reunião na sexta-feira", meeting("Reunião de orçamento"), INVITATION),
    "invitation, Chinese": ("会议邀请:预算讨论", meeting("预算讨论"), INVITATION),
    "list, English": ("Re: [dev] patch for the parser", "On Monday Bob wrote:\n> does it work?\nYes.\n", LIST),
    "list, German": ("Re: [dev] Fehler im Parser", "Am Montag schrieb Bob:\n> geht es?\nJa, seit gestern.\n", LIST),
    "list, Portuguese": ("Re: [dev] erro no analisador", "Na segunda, Bob escreveu:\n> funciona?\nSim.\n", LIST),
    "list, Chinese": ("Re: [dev] 解析器的补丁", "Bob 写道:\n> 可以用吗?\n可以。\n", LIST),
    "bounce, English": (
        "Undelivered Mail Returned to Sender",
        "I'm sorry to have to inform you that your message could not be delivered to one recipient.\n",
        BOUNCE,
    ),
    "bounce, German": (
        "Unzustellbar: Angebot",
        "Ihre Nachricht konnte an den folgenden Empfänger nicht zugestellt werden: max@firma.example\n",
        BOUNCE,
    ),
    "bounce, Portuguese": (
        "Mensagem não entregue",
        "Não foi possível entregar a sua mensagem ao destinatário: ana@empresa.example\n",
        BOUNCE,
    ),
    "bounce, Chinese": ("邮件无法送达", "您的邮件无法送达以下收件人:wang@company.example\n", BOUNCE),
    "notice, English": ("Backup of fileserver finished", "0 errors, 3 warnings, 120 GB in 2:10 h\n", NOTICE),
    "notice, German": (
        "Ihr Passwort wurde geändert",
        "Das Passwort Ihres Kontos wurde am Montag geändert. Waren Sie es nicht? Rufen Sie uns an.\n",
        NOTICE,
    ),
    "notice, Portuguese": (
        "A sua encomenda foi enviada",
        "A encomenda 4711 saiu hoje. Acompanhe em https://parcel.example/t/4711 . Obrigado!\n",
        NOTICE,
    ),
    "notice, Chinese": (
        "您的订单已发货",
        "订单 4711 已于今天发货,查询:https://parcel.example/t/4711 。谢谢!\n",
        NOTICE,
    ),
}


@pytest.fixture(scope="module")
def bench():
    with Harness(spamscore) as harness:
        yield harness


@pytest.mark.parametrize("name", MAIL)
def test_it_is_wanted_and_says_nothing_odd(bench, name):
    subject, body, headers = MAIL[name]
    finding = bench.check(message=make_message(body, subject=subject, headers=headers))
    assert finding.word == "ham", finding.reasons
    assert finding.points < 3
