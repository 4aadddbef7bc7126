"""Associations of XTP over a wire that loses, repeats and reorders: every byte once, in order."""

from __future__ import annotations

import errno
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.xtp.context import (
    XTP_ACTIVE,
    XTP_CLOSED,
    XTP_CTIMEOUT_NS,
    XTP_CTIMER_NS,
    XTP_INIT_ALLOC,
    XTP_OPENING,
    xtp_alloc,
    xtp_deadline,
)
from stack.xtp.input import xtp_input, xtp_read
from stack.xtp.output import xtp_abort, xtp_close_read, xtp_close_write, xtp_open, xtp_write
from stack.xtp.packet import (
    DREQ,
    END,
    FASTNAK,
    RCLOSE,
    SREQ,
    WCLOSE,
    XTP_CNTL,
    XTP_DATA,
    XTP_DIAG,
    XTP_ECNTL,
    XTP_FIRST,
    XTP_SERVICE_ACKED_DATAGRAM,
    XTP_SERVICE_TRANSACTION,
    XTP_TCNTL,
    xtp_build,
    xtp_cntl_segment,
    xtp_diag_segment,
    xtp_ecntl_segment,
    xtp_parse,
)
from tests.stack.xtp.net import KEY, Wire
from tests.support import examples

SEC = 1_000_000_000


def opened(seed: int = 1, **wire: float) -> Wire:
    net = Wire(seed, **wire)  # type: ignore[arg-type]
    net.open()
    net.run(5)
    assert net.a.state == net.b.state == XTP_ACTIVE
    return net


@pytest.fixture
def net() -> Wire:
    return opened()


def packet(
    form: int,
    options: int = 0,
    *,
    seq: int = 0,
    sync: int = 0,
    body: bytes = b"",
    rtn: bool = False,
):  # type: ignore[no-untyped-def]
    raw = xtp_build(KEY | (rtn << 63), options, form, seq, sync, 0, b"", body)
    found = xtp_parse(raw)
    assert found is not None
    return found


@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.01, 0.2]),
    duplicate=st.sampled_from([0.0, 0.2]),
    jitter=st.sampled_from([0, 3_000_000]),
    sizes=st.lists(st.integers(1, 30_000), max_size=12),
    back=st.lists(st.integers(1, 30_000), max_size=6),
    fastnak=st.booleans(),
    dreq=st.booleans(),
    rcvbuf=st.sampled_from([3_000, 20_000, 200_000]),
    rate=st.sampled_from([0, 1_000_000]),
)
def test_every_byte_arrives_once_and_in_order(
    seed: int,
    loss: float,
    duplicate: float,
    jitter: int,
    sizes: list[int],
    back: list[int],
    fastnak: bool,
    dreq: bool,
    rcvbuf: int,
    rate: int,
) -> None:
    net = Wire(seed, loss=loss, duplicate=duplicate, jitter_ns=jitter)
    for ctx in (net.a, net.b):
        ctx.fastnak, ctx.dreq, ctx.rcvbuf, ctx.rate, ctx.burst = fastnak, dreq, rcvbuf, rate, 5000
    random = Random(seed)
    sent = [random.randbytes(size) for size in sizes]
    returned = [random.randbytes(size) for size in back]
    net.open()
    for data in sent:
        net.write(0, data, eom=True)
        net.run(random.choice([0, 0.001, 0.01]))
    net.run(20)
    for data in returned:
        net.write(1, data)
    net.close(0)
    net.close(1)
    net.run(600)
    assert bytes(net.got[1]) == b"".join(sent)
    assert bytes(net.got[0]) == b"".join(returned)
    ends = [len(b"".join(sent[: i + 1])) for i in range(len(sent))]
    assert [len(m) for m in net.messages[1]] == ends
    assert (net.a.err, net.b.err) == (0, 0)
    assert net.a.state == net.b.state == XTP_CLOSED
    if dreq and sent:
        assert net.a.delivered <= len(net.got[1])


def test_a_clean_wire_repeats_nothing(net: Wire) -> None:
    net.write(0, bytes(500_000))
    net.run(5)
    assert len(net.got[1]) == 500_000
    assert net.a.retransmits == 0
    assert sum(p.format == XTP_DATA for who, p in net.seen if who == "a") == 500


def test_first_is_answered_with_the_rates_that_the_responder_takes() -> None:
    net = Wire()
    net.b.inrate, net.b.inburst = 100_000, 4_000
    net.open()
    net.run(1)
    kinds = [(who, p.format) for who, p in net.seen]
    assert kinds == [("a", XTP_FIRST), ("b", XTP_TCNTL)]
    assert net.seen[0][1].options & SREQ
    assert net.seen[1][1].echo == net.seen[0][1].sync
    assert (net.a.rate, net.a.burst) == (100_000, 4_000)


def test_rate_and_burst_are_kept() -> None:
    net = opened(delay_ns=1000)
    net.a.rate, net.a.burst = 1_000_000, 10_000
    start = net.now
    net.write(0, bytes(1_000_000))
    net.run(10)
    sent = [p for who, p in net.seen if who == "a" and p.format == XTP_DATA]
    assert len(net.got[1]) == 1_000_000
    assert 0.98 * SEC < net.now - start < 1.05 * SEC
    assert sum(len(p.data) for p in sent) == 1_000_000


def test_before_the_first_allocation_little_is_sent() -> None:
    net = Wire(service=XTP_SERVICE_TRANSACTION)
    xtp_write(net.a, bytes(100_000), True)
    xtp_close_write(net.a)
    net.open()
    before = sum(len(xtp_parse(p).data) for p in net.a.out)  # type: ignore[union-attr]
    assert XTP_INIT_ALLOC - 1000 < before <= XTP_INIT_ALLOC
    net.run(5)
    assert len(net.got[1]) == 100_000


def test_a_transaction_is_one_exchange() -> None:
    net = Wire(service=XTP_SERVICE_TRANSACTION)
    xtp_write(net.a, b"request", True)
    xtp_close_write(net.a)
    net.open()
    net.run(1)
    assert bytes(net.got[1]) == b"request"
    assert net.b.r_fin == 7
    net.write(1, b"answer", eom=True)
    net.close(1)
    net.run(30)
    assert bytes(net.got[0]) == b"answer"
    assert net.a.state == net.b.state == XTP_CLOSED
    assert net.a.err == net.b.err == 0
    assert net.seen[0][1].options & WCLOSE


def test_a_closed_window_opens_again_though_the_news_is_lost(net: Wire) -> None:
    net.b.rcvbuf = 4_000
    net.b.told_alloc = net.b.rcv_nxt  # as if it never had more
    net.a.snd_alloc = 4_000
    net.reading[1] = False
    net.write(0, bytes(20_000))
    net.run(3)
    assert net.b.queued <= 4_000
    stalled = net.now
    net.loss = 1.0  # the reader's window update and what asks for it get lost for a while
    net.reading[1] = True
    net.run(10)
    net.loss = 0.0
    net.run(60)
    assert len(net.got[1]) == 20_000
    assert net.now > stalled


def test_probes_of_a_closed_window_become_rarer_and_do_not_end_it(net: Wire) -> None:
    net.reading[1] = False
    net.write(0, bytes(300_000))
    net.run(600)
    assert net.a.err == 0
    asked = sum(bool(p.options & SREQ) for who, p in net.seen if who == "a")
    assert asked < 250
    net.reading[1] = True
    net.run(60)
    assert len(net.got[1]) == 300_000


def test_fastnak_repeats_before_the_timer() -> None:
    net = opened(delay_ns=10_000_000)
    net.a.srtt_ns = 10_000_000
    start = net.now
    net.write(0, bytes(50_000))
    third = 2
    net.collect()
    del net.flying[third]
    net.run(5)
    assert len(net.got[1]) == 50_000
    assert net.a.retransmits == 1
    assert any(p.format == XTP_ECNTL for who, p in net.seen if who == "b")
    # one round trip for the report and the repetition behind the first delivery
    assert net.now - start < 60_000_000


def test_spans_save_what_arrived(net: Wire) -> None:
    for ctx in (net.a, net.b):
        ctx.fastnak = False
    net.write(0, bytes(40_000))
    net.collect()
    net.flying = [flight for i, flight in enumerate(net.flying) if i % 4]
    net.run(5)
    assert len(net.got[1]) == 40_000
    assert net.a.retransmits == 10


def test_noerr_goes_on_without_what_was_lost() -> None:
    net = opened(3)
    net.a.noerr = True
    net.a.fastnak = False
    net.loss = 0.1
    net.write(0, bytes(range(256)) * 400)
    net.run(10)
    net.close(0)
    net.loss = 0.0
    net.run(30)
    assert 0 < len(net.got[1]) < 256 * 400
    assert net.a.retransmits == 0
    assert net.b.r_fin == net.b.rcv_nxt == 256 * 400


def test_dreq_is_answered_when_the_reader_has_it(net: Wire) -> None:
    net.a.dreq = True
    net.reading[1] = False
    net.write(0, b"parcel", eom=True)
    net.run(3)
    assert net.a.snd_una == 6
    assert net.a.delivered == 0
    data, eom = xtp_read(net.b, 100, net.now)
    assert (data, eom) == (b"parcel", True)
    net.run(10)
    assert net.a.delivered == 6


def test_dreq_survives_the_loss_of_its_answer(net: Wire) -> None:
    net.a.dreq = True
    net.write(0, b"parcel", eom=True)
    net.run(0.0015)
    net.flying.clear()
    net.run(20)
    assert net.a.delivered == 6


def test_nobody_there_ends_with_etimedout() -> None:
    net = Wire(loss=1.0)
    start = net.now
    net.open()
    net.run(300)
    assert (net.a.state, net.a.err) == (XTP_CLOSED, errno.ETIMEDOUT)
    assert XTP_CTIMEOUT_NS <= net.now - start < XTP_CTIMEOUT_NS + 10 * SEC
    asked = [p for who, p in net.seen if who == "a"]
    assert all(p.format == XTP_FIRST for p in asked)
    assert 15 <= len(asked) <= 25


def test_ctimer_finds_out_that_the_peer_died(net: Wire) -> None:
    quiet = net.now
    net.loss = 1.0
    net.run(600)
    assert net.a.err == net.b.err == errno.ETIMEDOUT
    assert net.now - quiet >= XTP_CTIMER_NS + XTP_CTIMEOUT_NS


def test_ctimer_keeps_a_living_peer(net: Wire) -> None:
    net.run(3600)
    assert net.a.state == net.b.state == XTP_ACTIVE


def test_half_close(net: Wire) -> None:
    net.write(0, b"to the end")
    net.close(0)
    net.run(1)
    assert net.b.r_fin == 10
    assert net.a.peer_rclose
    assert net.a.state == net.b.state == XTP_ACTIVE
    net.write(1, bytes(100_000))
    net.run(5)
    assert len(net.got[0]) == 100_000
    net.close(1)
    net.run(30)
    assert net.a.state == net.b.state == XTP_CLOSED
    assert net.a.err == net.b.err == 0


@pytest.mark.parametrize("lost", range(4))
def test_the_end_survives_the_loss_of_any_of_its_packets(lost: int, net: Wire) -> None:
    net.write(0, b"x")
    net.run(1)
    count = len(net.seen)
    net.close(0)
    dropped = False
    for _ in range(200):
        if not dropped and len(net.seen) > count + lost and net.flying:
            net.flying.pop()
            dropped = True
            net.close(1)
        if net.b.r_fin >= 0 and not net.b.w_closed:
            net.close(1)
        if not net.step(net.now + 100 * SEC):
            break
    net.run(100)
    assert net.a.state == net.b.state == XTP_CLOSED
    assert (net.a.err, net.b.err) == (0, 0)


def test_both_close_at_once(net: Wire) -> None:
    net.write(0, b"a" * 5000)
    net.write(1, b"b" * 7000)
    net.close(0)
    net.close(1)
    net.run(60)
    assert (len(net.got[0]), len(net.got[1])) == (7000, 5000)
    assert (net.a.err, net.b.err) == (0, 0)
    assert net.a.state == net.b.state == XTP_CLOSED


def test_abort_is_a_reset_for_the_other(net: Wire) -> None:
    xtp_abort(net.a, 0, net.now)
    net.run(5)
    assert net.b.state == XTP_CLOSED
    assert net.b.err == errno.ECONNRESET


def test_a_reader_that_goes_stops_the_writer(net: Wire) -> None:
    net.reading[1] = False
    net.write(0, bytes(500_000))
    net.run(1)
    xtp_close_read(net.b, net.now)
    net.run(5)
    assert net.a.peer_rclose
    assert net.a.w_closed
    assert not net.a.unsent
    assert not net.a.sent
    net.close(1)
    net.run(30)
    assert net.a.state == net.b.state == XTP_CLOSED


def test_whoever_said_end_answers_late_packets_with_it_and_never_an_end(net: Wire) -> None:
    net.close(0)
    net.close(1)
    net.run(60)
    late = opened()
    late.close(0)
    late.run(1)
    late.close(1)
    late.run(0.5)
    ended = late.a if late.a.ctimer_ns else late.b
    ended.out.clear()
    rtn = ended is late.a
    xtp_input(ended, packet(XTP_DATA, SREQ, seq=0, sync=9, body=b"late", rtn=rtn), late.now)
    assert len(ended.out) == 1
    answer = xtp_parse(ended.out.pop())
    assert answer is not None
    assert answer.options & END
    assert answer.echo == 9
    body = xtp_cntl_segment(0, 0, 0)
    xtp_input(ended, packet(XTP_CNTL, END, body=body, rtn=rtn), late.now)
    xtp_input(ended, packet(XTP_DIAG, body=xtp_diag_segment(3, 12, ""), rtn=rtn), late.now)
    assert not ended.out


@pytest.mark.parametrize(
    ("code", "err"),
    [
        (1, errno.ECONNREFUSED),
        (2, errno.ECONNRESET),
        (6, errno.EPROTO),
        (7, errno.EMSGSIZE),
        (99, errno.ECONNRESET),
    ],
)
def test_diag_ends_the_context(code: int, err: int) -> None:
    net = Wire()
    net.open()
    net.collect()
    body = xtp_diag_segment(code, 1, "no")
    xtp_input(net.a, packet(XTP_DIAG, body=body, rtn=True), net.now)
    assert (net.a.state, net.a.err) == (XTP_CLOSED, err)


def test_data_that_overtakes_its_first_refuses_nothing() -> None:
    net = Wire()
    net.open()
    net.collect()
    xtp_input(net.a, packet(XTP_DIAG, body=xtp_diag_segment(3, 12, ""), rtn=True), net.now)
    assert net.a.state == XTP_OPENING


def test_an_acked_datagram_ends_with_its_answer() -> None:
    net = Wire(service=XTP_SERVICE_ACKED_DATAGRAM)
    xtp_write(net.a, b"datagram", True)
    xtp_close_write(net.a)
    xtp_close_read(net.a, net.now)
    net.open()
    net.collect()
    first = net.seen[0][1]
    assert first.options & (WCLOSE | RCLOSE | SREQ) == WCLOSE | RCLOSE | SREQ
    body = xtp_cntl_segment(8, 8, first.sync)
    xtp_input(net.a, packet(XTP_CNTL, END | WCLOSE | RCLOSE, body=body, rtn=True), net.now)
    assert (net.a.state, net.a.err) == (XTP_CLOSED, 0)
    assert xtp_deadline(net.a) == 0


PACKETS = st.tuples(
    st.sampled_from([XTP_DATA, XTP_FIRST, XTP_CNTL, XTP_ECNTL, XTP_DIAG]),
    st.integers(0, 0xFFFFFF),
    st.one_of(st.integers(0, 5000), st.integers(0, 1 << 62)),
    st.integers(0, 20),
    st.binary(max_size=60),
    st.integers(0, 100_000),
    st.integers(0, 1 << 62),
)


@settings(deadline=None, max_examples=examples(150))
@given(st.booleans(), st.lists(PACKETS, max_size=30), st.integers(0, 1 << 20))
def test_whatever_a_peer_sends_the_context_lives_or_ends_in_order(
    initiator: bool, packets: list[tuple[int, int, int, int, bytes, int, int]], seed: int
) -> None:
    """Hostile packets: no exception, no byte out of order, no more kept than the window."""
    net = opened(seed)
    ctx = net.a if initiator else net.b
    ctx.rcvbuf = 20_000
    xtp_write(ctx, bytes(3000), False)
    now = net.now
    window = 0
    for form, options, seq, sync, data, rseq, alloc in packets:
        if form == XTP_CNTL:
            body = xtp_cntl_segment(rseq % 6000, alloc, sync)
        elif form == XTP_ECNTL:
            spans = [(rseq % 6000 + 2, rseq % 6000 + 9)]
            body = xtp_ecntl_segment(rseq % 6000, alloc, sync, spans)
        elif form == XTP_DIAG:
            body = xtp_diag_segment(rseq % 9, sync, "x")
        elif form == XTP_FIRST:
            body = ctx.first or net.a.first
            body += data
        else:
            body = data
        raw = xtp_build(KEY | (initiator << 63), options, form, seq, sync, 0, b"", body)
        parsed = xtp_parse(raw)
        if parsed is None:
            continue
        now += 1_000_000
        before = ctx.rcv_nxt
        window = max(window, xtp_alloc(ctx))
        xtp_input(ctx, parsed, now)
        assert ctx.rcv_nxt >= before
        assert ctx.queued == sum(len(piece) for piece, _, _ in ctx.pieces)
        assert 0 <= ctx.snd_una <= ctx.snd_nxt
        edge = ctx.rcv_nxt
        for at, piece, _, _ in ctx.early:
            assert at >= edge
            edge = at + len(piece)
        assert edge <= max(window, ctx.rcv_nxt)
        assert len(ctx.out) < 5000
        ctx.out.clear()


def test_fastnak_speaks_once_per_gap(net: Wire) -> None:
    net.b.out.clear()
    for seq in (2000, 3000, 4000):
        xtp_input(net.b, packet(XTP_DATA, FASTNAK, seq=seq, body=bytes(1000)), net.now)
    assert len(net.b.out) == 1
    xtp_input(net.b, packet(XTP_DATA, FASTNAK, seq=7000, body=bytes(1000)), net.now)
    assert len(net.b.out) == 2
    last = xtp_parse(net.b.out[-1])
    assert last is not None
    assert last.spans == [(2000, 5000), (7000, 8000)]
    assert DREQ & last.options == 0


def test_opening_twice_is_one_context() -> None:
    net = Wire(duplicate=1.0)
    net.open()
    net.write(0, b"once")
    net.run(2)
    assert bytes(net.got[1]) == b"once"


def test_xtp_open_marks_the_context() -> None:
    net = Wire()
    assert xtp_deadline(net.a) == 0
    xtp_open(net.a, net.now)
    assert net.a.state == XTP_OPENING
    assert xtp_deadline(net.a) > net.now
