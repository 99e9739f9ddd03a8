"""A real DNS server for tests: zones given as text, faults on demand, UDP and TCP on one port of loopback.

with DnsServer('''
    example.net.     MX   10 mx.example.net.
    mx.example.net.  A    127.0.0.1
    *.example.net.   TXT  "v=spf1 -all"
''') as dns:
    settings = DnsSettings(nameservers=(dns.nameserver,))
    dns.fail("mx.example.net", "A")          # SERVFAIL from now on
    dns.silence("slow.example")              # never an answer
    dns.mend()                               # as in the zone again
"""

from __future__ import annotations

import contextlib
import socket
import struct
import textwrap
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zonefile

_ANY = dns.rdatatype.ANY
_SILENT = -1
_Key = tuple[dns.name.Name, dns.rdatatype.RdataType]


class DnsServer:
    """Answers with authority for every name there is; what no record speaks of is NXDOMAIN.

    ``zones`` are lines of a zone file: names absolute (with their last dot) or below ``origin``, the class and the
    time to live (60 seconds) may be left out. CNAMEs are followed and ``*`` matches as in RFC 4592. Without an SOA
    of theirs, negative answers may be cached for one second. It listens from the moment it is made.

    ``nameserver`` is its ``address:port`` for ``[dns] nameservers``. These may be set at any time: ``authentic``
    (answers carry the AD bit, as those of a validating resolver), ``truncate`` (over UDP only "ask again over
    TCP"), ``dead`` (nobody ever gets an answer). ``questions`` are ``(name, type, "udp" or "tcp")`` as they came.

    Raises OSError where it cannot listen, ValueError for text that is no zone.
    """

    def __init__(
        self, zones: str = "", *, origin: str = ".", address: str = "127.0.0.1", port: int = 0, authentic: bool = False
    ) -> None:
        self.authentic = authentic
        self.truncate = False
        self.dead = False
        self.questions: list[tuple[str, str, str]] = []
        self._records: dict[_Key, dns.rrset.RRset] = {}
        self._names: dict[dns.name.Name, list[dns.rrset.RRset]] = {}
        self._faults: dict[_Key, int] = {}
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self.add(zones, origin=origin)
        self._udp, self._tcp = _listen(address, port)
        self.port: int = self._udp.getsockname()[1]
        host = f"[{address}]" if ":" in address else address
        self.nameserver = f"{host}:{self.port}"
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening and ends every connection."""
        with self._lock:
            sockets = [self._udp, self._tcp, *self._live]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    # -- what it says -----------------------------------------------------------------------------------------

    def add(self, zones: str, *, origin: str = ".") -> None:
        """Adds records; those of a name and type that there were before are replaced. Raises ValueError."""
        try:
            found = [rrset for part, top in _parts(zones, origin) for rrset in _read(part, top)]
        except dns.exception.DNSException as error:
            raise ValueError(f"not a zone: {error}") from None
        with self._lock:
            self._records |= {(rrset.name, rrset.rdtype): rrset for rrset in found}
            self._index()

    def remove(self, name: str, rdtype: str = "ANY") -> None:
        """Takes out the records of a name, of all types or of one."""
        gone, kind = _key(name, rdtype)
        with self._lock:
            for key in [k for k in self._records if k[0] == gone and kind in (_ANY, k[1])]:
                del self._records[key]
            self._index()

    def _index(self) -> None:
        # Every name above a record exists as well, though it may have none of its own (RFC 8020).
        self._names = {dns.name.root: []}
        for (name, _), rrset in self._records.items():
            self._names.setdefault(name, []).append(rrset)
            while name != dns.name.root and (name := name.parent()) not in self._names:
                self._names[name] = []

    def fail(self, name: str, rdtype: str = "ANY", rcode: str = "SERVFAIL") -> None:
        """Answers with an error to questions of this name, of all types or of one."""
        self._faults[_key(name, rdtype)] = int(dns.rcode.from_text(rcode))

    def silence(self, name: str, rdtype: str = "ANY") -> None:
        """Never answers questions of this name, of all types or of one."""
        self._faults[_key(name, rdtype)] = _SILENT

    def mend(self) -> None:
        """Ends every fault, ``dead`` and ``truncate`` included."""
        self._faults = {}
        self.dead = self.truncate = False

    # -- answering --------------------------------------------------------------------------------------------

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """The whole answer to a query, None for silence."""
        question = query.question[0]
        fault = self._faults.get((question.name, question.rdtype), self._faults.get((question.name, _ANY)))
        if self.dead or fault == _SILENT:
            return None
        response = dns.message.make_response(query, recursion_available=True, our_payload=1232)
        if fault is not None:
            response.set_rcode(dns.rcode.Rcode(fault))
            return response
        response.flags |= dns.flags.AA | (dns.flags.AD if self.authentic else 0)
        with self._lock:
            self._fill(response, question.name, question.rdtype)
        return response

    def _fill(self, response: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> None:
        for _ in range(10):
            owner = self._owner(name)
            if owner is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = list(self._of(owner, rdtype))
            alias = next(self._of(owner, dns.rdatatype.CNAME), None)
            for rrset in found or ([alias] if alias else []):
                response.answer.append(dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset)))
            if found:
                return
            if alias is None:
                break
            name = alias[0].target
        response.authority.append(self._soa(name))

    def _of(self, owner: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Iterator[dns.rrset.RRset]:
        return (rrset for rrset in self._names[owner] if rdtype in (rrset.rdtype, _ANY))

    def _owner(self, name: dns.name.Name) -> dns.name.Name | None:
        if name in self._names:
            return name
        above = name.parent()
        while above not in self._names:
            above = above.parent()
        wild = dns.name.Name((b"*",)) + above
        return wild if wild in self._names else None

    def _soa(self, name: dns.name.Name) -> dns.rrset.RRset:
        while name != dns.name.root:
            if (name, dns.rdatatype.SOA) in self._records:
                return self._records[name, dns.rdatatype.SOA]
            name = name.parent()
        return dns.rrset.from_text(".", 1, "IN", "SOA", "ns.invalid. nobody.invalid. 1 60 60 60 1")

    # -- the wire ---------------------------------------------------------------------------------------------

    def _reply(self, data: bytes, how: str) -> bytes | None:
        try:
            query = dns.message.from_wire(data)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        name = question.name.to_text(omit_final_dot=True).lower()
        self.questions.append((name, dns.rdatatype.to_text(question.rdtype), how))
        response = self.answer(query)
        if response is None:
            return None
        if how == "tcp":
            return response.to_wire(max_size=65535)
        room = query.payload if query.edns >= 0 else 512
        with contextlib.suppress(dns.exception.TooBig):
            if not self.truncate:
                return response.to_wire(max_size=max(room, 512))
        response.answer, response.authority = [], []
        response.flags |= dns.flags.TC
        return response.to_wire()

    def _serve_udp(self) -> None:
        while True:
            try:
                data, client = self._udp.recvfrom(65535)
                if not data and not client:
                    return  # shut down
                if reply := self._reply(data, "udp"):
                    self._udp.sendto(reply, client)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            with self._lock:
                self._live.add(sock)
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), sock, sock.makefile("rb") as file:
            while head := file.read(2):
                reply = self._reply(file.read(struct.unpack("!H", head)[0]), "tcp")
                if reply is not None:
                    sock.sendall(struct.pack("!H", len(reply)) + reply)
        with self._lock:
            self._live.discard(sock)


def _read(text: str, origin: str) -> list[dns.rrset.RRset]:
    return dns.zonefile.read_rrsets(text, default_ttl=60, origin=origin, rdclass=None)


def _parts(zones: str, origin: str) -> list[tuple[str, str]]:
    # dnspython takes an SOA at the origin only; here one text may hold several zones.
    parts: list[tuple[str, str]] = []
    others: list[str] = []
    lines = iter(textwrap.dedent(zones).splitlines())
    for line in lines:
        if " SOA " in f" {' '.join(line.split())} ":
            while line.count("(") > line.count(")"):
                line += " " + next(lines, ")")
            owner = dns.name.from_text(line.split()[0], dns.name.from_text(origin)).to_text()
            parts.append((f"{owner} {' '.join(line.split()[1:])}", owner))
        else:
            others.append(line)
    return [*parts, ("\n".join(others), origin)]


def _key(name: str, rdtype: str) -> _Key:
    return dns.name.from_text(name), dns.rdatatype.from_text(rdtype)


def _listen(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(50):
        tcp = socket.create_server((address, port), family=family)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.bind((address, tcp.getsockname()[1]))
            return udp, tcp
        except OSError:
            # A port that is free for one of the two only.
            udp.close()
            tcp.close()
            if port:
                raise
    raise OSError(f"no port of {address} is free for UDP and TCP")
