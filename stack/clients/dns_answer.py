"""The answer to a question in a response: follows CNAMEs, ignores records of other names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stack.clients.dns_wire import CLASS_IN, DnsMessage, Question, RCode, Record, RRType
from stack.clients.dnsname import Name, folded

MAX_CHAIN = 16


class Outcome(Enum):
    """The result of a lookup; the values are those of netdb.h's EAI_*."""

    FOUND = 0
    NO_NAME = -2
    TRY_AGAIN = -3
    FAILED = -4
    NO_DATA = -5


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one question.

    Attributes:
        outcome: None with `unfinished`.
        owner: of the records, the end of the chain.
        chain: every name from the question's to the owner.
        unfinished: the end of a chain whose records are not in the response; query it next.
    """

    outcome: Outcome | None
    owner: Name = ()
    records: tuple[Record, ...] = ()
    chain: tuple[Name, ...] = ()
    unfinished: Name | None = None


def read_answer(message: DnsMessage, question: Question) -> Verdict | None:
    """The answer to `question` in `message`; None if its server cannot answer (SERVFAIL ...).

    Uses records of the answer section only, whose owner is the question's name or the end of a
    CNAME chain from it (RFC 2181 5.4.1, RFC 5452 6). Others may be forged.
    """
    if message.rcode not in (RCode.NOERROR, RCode.NXDOMAIN):
        return None
    aliases: dict[Name, Name] = {}
    wanted: dict[Name, list[Record]] = {}
    for record in message.answers:
        if record.class_ != CLASS_IN:
            continue
        owner = folded(record.name)
        if record.type == question.type:
            wanted.setdefault(owner, []).append(record)
        elif record.type == RRType.CNAME and isinstance(record.data, tuple):
            aliases.setdefault(owner, record.data)
    name = question.name
    chain = [name]
    while True:
        key = folded(name)
        found = wanted.get(key)
        if found:
            return Verdict(Outcome.FOUND, name, tuple(found), tuple(chain))
        target = aliases.pop(key, None)  # each once, so that a loop ends
        if target is None:
            break
        name = target
        chain.append(name)
        if len(chain) > MAX_CHAIN:
            return Verdict(Outcome.FAILED, chain=tuple(chain))
    if message.rcode == RCode.NXDOMAIN:
        return Verdict(Outcome.NO_NAME, chain=tuple(chain))  # RFC 2308 2.1: of the end of the chain
    if len(chain) == 1:
        return Verdict(Outcome.NO_DATA, chain=tuple(chain))
    if folded(name) in map(folded, chain[:-1]):
        return Verdict(Outcome.FAILED, chain=tuple(chain))
    if any(record.type == RRType.SOA for record in message.authorities):
        return Verdict(Outcome.NO_DATA, chain=tuple(chain))  # RFC 2308 2.2: it is negative
    return Verdict(None, chain=tuple(chain), unfinished=name)
