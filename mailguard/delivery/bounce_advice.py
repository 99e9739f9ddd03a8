"""What a status code means and what to try, in words for whoever wrote the message (RFC 3463)."""

from __future__ import annotations

from mailguard.model.reply import Reply

_HEADLINES = {
    "failed": (
        "Undelivered mail: returned to sender",
        "Your message could not be delivered to the address below. No more attempts will be made.",
    ),
    "delayed": (
        "Delayed mail: still trying",
        "Your message has not reached the address below yet. You need not do anything: we keep trying.",
    ),
    "delivered": ("Delivered", "As you asked: your message has been delivered to the address below."),
    "relayed": (
        "Relayed",
        "As you asked: your message has been handed to the next server, which will not report back.",
    ),
}

_ADVICE = {
    "1.1": "There is no such address. Check the spelling, or ask the recipient for the right one.",
    "1.2": "The part after the @ does not exist. Check the spelling of the domain.",
    "1.10": "That domain takes no mail at all. Check the part after the @.",
    "1.6": "The recipient has moved to another address. Ask for the new one by another way.",
    "2.1": "The mailbox is switched off. Reach the recipient in another way.",
    "2.2": "The recipient's mailbox is full. Try again in a few days, or tell the recipient.",
    "2.3": "The message is too large for the recipient. Send a smaller one, or a link to the files.",
    "3.4": "The message is too large for the recipient's server. Send a smaller one, or a link to the files.",
    "3.5": "The mail servers are set up wrongly. Tell whoever runs them, and show this report.",
    "4.1": "The recipient's mail server did not answer.",
    "4.2": "The connection to the recipient's mail server broke.",
    "4.3": "The name service of the recipient's domain did not answer.",
    "4.4": "The recipient's domain names a mail server that cannot be found. Tell the recipient.",
    "4.6": "Mail for this address goes round in circles. Tell whoever runs the servers.",
    "4.7": "The recipient's server could not be reached for too long. Try again, or use another way.",
    "6.3": "The recipient's server cannot take this kind of message. Send it as plain text or as an attachment.",
    "6.7": "The recipient's server cannot take addresses with letters beyond ASCII. Ask for another address.",
    "7.1": "The recipient's server does not want this message, usually because of its rules or a spam filter.",
    "7.5": "The connection to the recipient's server could not be secured as it must be. Tell the recipient.",
    "7.26": "The recipient's server could not confirm that the message is from you. Show this to your mail operator.",
    "7.30": "The way to the recipient cannot be secured as you required. Send it without that requirement.",
}


def headline(action: str) -> tuple[str, str]:
    """The subject and the first sentence of a notification."""
    return _HEADLINES[action]


def advice(reply: Reply) -> str:
    """One or two sentences: the cause and what to try."""
    if found := _ADVICE.get(reply.status[2:]):
        return found
    if reply.status[2:3] == "7":
        return "The recipient's server refused the message because of its rules. Its words are above."
    if reply.temporary:
        return "The recipient's server asked to wait."
    return "The recipient's server refused the message. Its words above say why."
