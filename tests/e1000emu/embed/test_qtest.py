"""The qtest client against a QEMU made of a few lines; the real one is met in tests/qemu."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.embed.qtest import HALT_ROM, Qtest, QtestError, QtestGone, QtestMachine, QtestSlot
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from tests.support import run_to_end


class Server:
    """Answers each line with `answer(line)`, in a thread; None hangs up."""

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self.lines: list[str] = []
        self.client, self.sock = socket.socketpair()
        self._answer = answer
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self.sock, self.sock.makefile("r") as file:
            for line in file:
                self.lines.append(line.rstrip("\n"))
                answer = self._answer(self.lines[-1])
                if answer is None:
                    return
                try:
                    self.sock.sendall(answer.encode("latin-1"))
                except OSError:
                    return  # the test has hung up

    def close(self) -> None:
        self.client.close()
        self._thread.join()


class Card:
    """A PCI function with a BAR of memory (128 KiB) and one of ports (64), behind qtest lines."""

    def __init__(self) -> None:
        self.config = bytearray(256)
        self.config[0:4] = bytes.fromhex("86800e10")
        self.config[0x14] = 1
        self.address = 0
        self.memory: dict[int, int] = {}
        self.sizes = {0x10: 0x20000, 0x14: 0x40}

    def __call__(self, line: str) -> str:
        words = line.split()
        name, where = words[0], int(words[1], 16)
        if name.startswith("read"):
            return f"OK {self.memory.get(where, 0):#018x}\n"
        if name.startswith("write"):
            self.memory[where] = int(words[2], 16)
            return "OK\n"
        size = {"b": 1, "w": 2, "l": 4}[name[-1]]
        if name.startswith("out"):
            value = int(words[2], 16)
            if where == 0xCF8:
                self.address = value
            elif 0xCFC <= where < 0xD00:
                self._store((self.address & 0xFC) + where - 0xCFC, value, size)
            else:
                self.memory[where] = value
            return "OK\n"
        if 0xCFC <= where < 0xD00:
            at = (self.address & 0xFC) + where - 0xCFC
            return f"OK {int.from_bytes(self.config[at : at + size], 'little'):#06x}\n"
        return f"OK {self.memory.get(where, 0):#06x}\n"

    def _store(self, at: int, value: int, size: int) -> None:
        if at in self.sizes:
            kind = 1 if at == 0x14 else 0
            value = value & ~(self.sizes[at] - 1) & 0xFFFFFFFF | kind
        elif 0x10 <= at < 0x28 or at < 4:
            return
        self.config[at : at + size] = value.to_bytes(size, "little")


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Qtest, Server]]]:
    made: list[Server] = []

    def make(answer: Callable[[str], str | None], **options: object) -> tuple[Qtest, Server]:
        server = Server(answer)
        made.append(server)
        return Qtest(server.client, **options), server

    yield make
    for server in made:
        server.close()


# --- protocol -------------------------------------------------------------------------------------


def test_commands_are_the_lines_of_the_protocol(serve) -> None:
    qtest, server = serve(lambda line: "OK 0x12\n")
    assert qtest.port_in(0x61, 1) == 0x12
    qtest.port_out(0xCF8, 0x80000000, 4)
    assert qtest.read(0xFEB00008, 4) == 0x12
    qtest.write(0xFEB00000, 0xABCD, 2)
    qtest.write(0x1000, 1, 8)
    assert qtest.read_bytes(0x2000, 1) == b"\x12"
    assert qtest.read_bytes(0x2000, 0) == b""
    qtest.write_bytes(0x2000, b"\x01\xff")
    qtest.write_bytes(0x2000, b"")
    qtest.irq_intercept_in("ioapic")
    assert server.lines == [
        "inb 0x61",
        "outl 0xcf8 0x80000000",
        "readl 0xfeb00008",
        "writew 0xfeb00000 0xabcd",
        "writeq 0x1000 0x1",
        "read 0x2000 0x1",
        "write 0x2000 0x2 0x01ff",
        "irq_intercept_in ioapic",
    ]
    assert qtest.commands == 8


def test_clock_step_returns_the_time(serve) -> None:
    qtest, server = serve(lambda line: f"OK {line.split()[1]}\n")
    assert qtest.clock_step(1500) == 1500
    assert server.lines == ["clock_step 1500"]


def test_interrupts_before_an_answer_come_when_it_is_complete(serve) -> None:
    seen: list[tuple[int, bool, int]] = []

    def on_irq(number: int, level: bool) -> None:
        seen.append((number, level, qtest.commands))
        if level:
            assert qtest.read(0xC0, 4) == 7  # as a handler reads the cause, which lowers the line

    def answer(line: str) -> str:
        if line.startswith("writel"):
            return "IRQ raise 11\nOK\n"
        return "IRQ lower 11\nOK 0x7\n"

    qtest, server = serve(answer, on_irq=on_irq)
    qtest.write(0xC8, 4, 4)
    assert seen == [(11, True, 1), (11, False, 2)]
    assert server.lines == ["writel 0xc8 0x4", "readl 0xc0"]


def test_poll_takes_interrupts_that_came_alone(serve) -> None:
    seen: list[tuple[int, bool]] = []
    qtest, server = serve(lambda line: "OK\n", on_irq=lambda n, level: seen.append((n, level)))
    qtest.poll()
    server.sock.sendall(b"IRQ raise 11\nIRQ lo")
    qtest.poll()
    assert seen == [(11, True)]
    server.sock.sendall(b"wer 11\n")
    qtest.poll()
    assert seen == [(11, True), (11, False)]
    server.sock.sendall(b"OK\n")
    with pytest.raises(QtestError, match="unexpected"):
        qtest.poll()


@pytest.mark.parametrize(
    "answer",
    ["FAIL Unknown command 'x'\n", "ERR\n", "IRQ raise x\n", "IRQ jump 3\n", "\n", "\xff\n"],
)
def test_a_refusal_is_named(serve, answer) -> None:
    qtest, _ = serve(lambda line: answer)
    with pytest.raises(QtestError, match=r"'readl 0x0'"):
        qtest.read(0, 4)


def test_a_refusal_in_the_middle_leaves_no_answer_behind(serve) -> None:
    qtest, _ = serve(lambda line: "FAIL no\n" if line == "outl 0x1 0x2" else "OK 0x07\n")
    with pytest.raises(QtestError, match=r"'outl 0x1 0x2': FAIL no"):
        qtest.command("outl 0x1 0x2", "inl 0x1")
    assert qtest.command("inl 0x2") == "0x07"
    assert qtest.read_bytes(0, 1) == b"\x07"


@pytest.mark.parametrize("answer", ["OK\n", "OK fish\n", "OK 0xfg\n"])
def test_an_answer_that_is_no_number_is_named(serve, answer) -> None:
    qtest, _ = serve(lambda line: answer)
    for ask in (lambda: qtest.read(0, 4), lambda: qtest.clock_step(1)):
        with pytest.raises(QtestError, match="no number"):
            ask()
    with pytest.raises(QtestError, match="read of 4 bytes"):
        qtest.read_bytes(0, 4)


def test_the_end_of_qemu_is_named(serve) -> None:
    qtest, _ = serve(lambda line: None, on_end=lambda: "its last words")
    assert qtest.gone == ""
    for ask in (lambda: qtest.read(0, 4), qtest.poll, lambda: qtest.write(0, 1, 4)):
        with pytest.raises(QtestGone, match=r"its last words"):
            ask()
        assert "its last words" in qtest.gone


def test_poll_notices_the_end(serve) -> None:
    qtest, server = serve(lambda line: "OK\n")
    server.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(QtestGone, match="hung up"):
        qtest.poll()


# --- PCI ------------------------------------------------------------------------------------------


def test_slot_speaks_configuration_mechanism_1(serve) -> None:
    qtest, server = serve(Card())
    slot = QtestSlot(qtest, slot=3)
    assert slot.config_read(0, 4) == 0x100E8086
    assert slot.config_read(2, 2) == 0x100E
    slot.config_write(0x3C, 11, 1)
    assert slot.config_read(0x3C, 1) == 11
    assert server.lines[0] == "outl 0xcf8 0x80001800"
    assert server.lines[1] == "inl 0xcfc"
    assert server.lines[3] == "inw 0xcfe"
    assert server.lines[4:6] == ["outl 0xcf8 0x8000183c", "outb 0xcfc 0xb"]


@pytest.mark.parametrize(("off", "size"), [(0, 3), (-4, 4), (256, 4), (254, 4), (3, 2), (1, 4)])
def test_slot_refuses_what_is_no_configuration_cycle(serve, off, size) -> None:
    qtest, server = serve(Card())
    slot = QtestSlot(qtest, slot=3)
    with pytest.raises(QtestError, match="configuration access"):
        slot.config_read(off, size)
    with pytest.raises(QtestError, match="configuration access"):
        slot.config_write(off, 0, size)
    assert server.lines == []


def test_slot_places_bars_and_reaches_through_them(serve) -> None:
    card = Card()
    qtest, _ = serve(card)
    slot = QtestSlot(qtest, slot=3)
    assert [slot.bar_size(bar) for bar in range(6)] == [0x20000, 0x40, 0, 0, 0, 0]
    slot.enable()
    assert slot.config_read(4, 2) == 7
    slot.bar_write(0, 0x100, 5, 4)
    slot.bar_write(1, 4, 6, 4)
    assert card.memory == {0xFEB00100: 5, 0xC004: 6}
    assert slot.bar_read(0, 0x100, 4) == 5
    assert slot.bar_read(1, 4, 4) == 6
    slot.config_write(0x10, 0xF0000000, 4)  # moved: no address is remembered too long
    slot.bar_write(0, 0, 1, 4)
    assert card.memory[0xF0000000] == 1
    with pytest.raises(QtestError, match="no BAR 6"):
        slot.bar_read(6, 0, 4)


def test_slot_takes_two_bars_for_a_window_of_64_bits(serve) -> None:
    """The card is our own NIC, whose windows are so when it is made so."""
    nic = Nic(
        memory=DmaTable(), irq=RecordingLine(), link=RecordingLink(), clock=VirtualClock(),
        flash=bytes(range(256)), wide_bars=True,
    )  # fmt: skip
    own, address, seen = nic.slot, 0, []

    def answer(line: str) -> str:
        nonlocal address
        name, where, *value = line.split()
        at, size = int(where, 16), {"b": 1, "w": 2, "l": 4, "q": 8}[name[-1]]
        if at == 0xCF8:
            address = int(value[0], 16) & 0xFC
        elif 0xCFC <= at < 0xD00 and value:
            own.config_write(address + at - 0xCFC, int(value[0], 16), size)
        elif 0xCFC <= at < 0xD00:
            return f"OK {own.config_read(address + at - 0xCFC, size):#06x}\n"
        else:
            seen.append(at)
            return "OK 0x0\n"
        return "OK\n"

    qtest, _ = serve(answer)
    slot = QtestSlot(qtest, slot=3)
    assert [slot.bar_size(bar) for bar in range(6)] == [own.bar_size(bar) for bar in range(6)]
    slot.config_write(0x14, 0xC0, 4)
    slot.config_write(0x1C, 0x4, 4)  # an upper half that looks like the lower one of a window
    assert [slot.bar_size(bar) for bar in range(6)] == [own.bar_size(bar) for bar in range(6)]
    assert own.config_read(0x14, 4) == 0xC0
    slot.bar_read(0, 8, 4)
    slot.bar_read(2, 16, 4)
    slot.enable()
    slot.bar_read(0, 8, 4)
    slot.bar_read(2, 16, 4)
    slot.bar_read(4, 4, 4)
    assert seen == [0xC0_0000_0008, 0x4_0000_0010, 0xFEB00008, 0xFEB20010, 0xC004]


def test_a_slot_without_qemu_is_a_card_pulled_out(serve, caplog) -> None:
    card = Card()
    left = 3

    def answer(line: str) -> str | None:
        nonlocal left
        left -= line.startswith(("read", "write"))
        return card(line) if left else None

    qtest, _ = serve(answer)
    slot = QtestSlot(qtest, slot=3)
    slot.enable()
    slot.bar_write(0, 0, 7, 4)
    assert slot.bar_read(0, 0, 4) == 7
    assert slot.bar_read(0, 0, 4) == 0xFFFFFFFF
    assert slot.bar_read(0, 0, 1) == 0xFF
    assert slot.bar_read(1, 0, 2) == 0xFFFF
    assert slot.config_read(0, 4) == 0xFFFFFFFF
    slot.bar_write(0, 0, 1, 4)
    slot.bar_write(1, 0, 1, 4)
    slot.config_write(4, 0, 2)
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "hung up" in caplog.text


# --- machine --------------------------------------------------------------------------------------

FAKE = """#!{python}
import os, re, socket, sys
ram = int(re.search(r"mem-path=/proc/self/fd/(\\d+)", " ".join(sys.argv))[1])
rom = open(sys.argv[sys.argv.index("-bios") + 1], "rb").read()
qtest = socket.socket(fileno=int(re.search(r"id=qtest,fd=(\\d+)", " ".join(sys.argv))[1]))
wire = socket.socket(fileno=int(re.search(r"n0,\\S+str=(\\d+)", " ".join(sys.argv))[1]))
now = 0
{start}
for line in qtest.makefile("r"):
    words = line.split()
    irq = ""
    if words[0] == "clock_step":
        {step}
        now += int(words[1])
        if now >= 1_000_000 > now - int(words[1]):
            irq = "IRQ raise 0\\nIRQ raise 11\\n"  # a timer of the card ends
            wire.send(b"\\0\\0\\0\\x3c" + bytes(60))
        answer = f"OK {{now}}"
    elif words[0] == "readl":
        irq = "IRQ lower 11\\n"
        answer = f"OK {{len(rom):#x}}"
    elif words[0] == "writel":
        os.pwrite(ram, int(words[2], 16).to_bytes(4, "little"), int(words[1], 16))
        answer = "OK"
    else:
        answer = "OK 0x0"
    qtest.sendall((irq + answer + "\\n").encode())
{end}
"""
REFUSE_STEP = "qtest.sendall(b\"FAIL Unknown command 'clock_step'\\n\"); continue"


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., str]:
    """Return a maker of programs that play QEMU."""

    def make(*, start: str = "", step: str = "pass", end: str = "") -> str:
        path = tmp_path / "qemu"
        path.write_text(FAKE.format(python=sys.executable, start=start, step=step, end=end))
        path.chmod(0o755)
        return str(path)

    return make


class Line:
    def __init__(self) -> None:
        self.levels: list[bool] = []
        self.handler: Callable[[], object] = lambda: None

    def set_level(self, level: bool) -> None:
        self.levels.append(level)
        if level:
            self.handler()


class Port:
    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        self.frames.extend(batch[i] for i in range(start, len(batch)))
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        pass

    def tx_ready(self) -> None:
        pass


def test_a_machine_that_can_step_follows_a_virtual_clock(fake) -> None:
    clock = VirtualClock()
    with QtestMachine(clock, qemu=fake()) as machine:
        assert machine.steps
        line, port = Line(), Port()
        line.handler = lambda: machine.qtest.read(0, 4)
        machine.connect_irq(line)
        machine.link.attach(port)
        assert clock.wait(lambda: bool(line.levels), 1_000_000_000)
        assert 1_000_000 <= clock.now_ns() <= 2_000_000
        assert line.levels == [True, False]
        assert machine.interrupts == 1
        assert clock.wait(lambda: bool(port.frames), 1_000_000_000)
        assert machine.qemu_ns <= clock.now_ns() <= machine.qemu_ns + 1_000_000
        clock.run_for(10_000_000)
        machine.sync()
        assert machine.qemu_ns == clock.now_ns()
        assert clock.run_until_idle()  # its steps alone keep nobody waiting
    machine.close()


def test_its_memory_is_the_hosts(fake) -> None:
    with QtestMachine(VirtualClock(), qemu=fake(), ram_bytes=1 << 20) as machine:
        assert (machine.ram.base, machine.ram.size_bytes) == (1 << 20, 1 << 20)
        machine.qtest.write(0x100010, 0x12345678, 4)
        assert machine.ram.read32(0x100010) == 0x12345678
        assert machine.qtest.read(0, 4) == 0x10000 == len(HALT_ROM)


def test_a_level_that_was_up_before_the_line_came_is_told(fake) -> None:
    clock = VirtualClock()
    with QtestMachine(clock, qemu=fake()) as machine:
        clock.run_for(2_000_000)
        line = Line()
        machine.connect_irq(line)
        assert line.levels == [True]


def test_time_goes_on_when_a_machine_ends(fake, caplog) -> None:
    clock = VirtualClock()
    with QtestMachine(clock, qemu=fake(step="now > 1_000_000 and sys.exit('bye')")) as machine:
        line = Line()
        machine.connect_irq(line)
        clock.run_for(5_000_000)
        assert clock.now_ns() == 5_000_000
        assert line.levels == [True, False]
        assert "ended with 1: bye" in machine.qtest.gone
        assert machine.slot.config_read(0, 4) == 0xFFFFFFFF
        assert clock.run_until_idle()
    assert "bye" in caplog.text


def test_a_machine_in_real_time_needs_a_real_clock(fake) -> None:
    program = fake(step=REFUSE_STEP)
    with pytest.raises(QtestError, match="RealClock"):
        QtestMachine(VirtualClock(), qemu=program)
    clock = RealClock()
    with QtestMachine(clock, qemu=program, framing="dgram") as machine:
        assert not machine.steps
        machine.sync()  # nothing to do
    clock.close()


def test_errors_name_the_remedy(fake) -> None:
    clock = VirtualClock()
    for options, text in (
        ({"qemu": "no-such-qemu"}, "apt-get install qemu-system-x86"),
        ({"framing": "tap"}, "'stream' or 'dgram'"),
        ({"mac": b"12345"}, "give 6"),
        ({"ram_bytes": 1000}, "multiple of 4096"),
        ({"ram_bytes": 0}, "multiple of 4096"),
    ):
        with pytest.raises(QtestError, match=text):
            QtestMachine(clock, **{"qemu": fake(), **options})


def test_what_a_dying_qemu_said_is_in_the_error(fake) -> None:
    gc.collect()  # what earlier tests left is closed now, not in between
    before = set(os.listdir("/proc/self/fd"))
    program = fake(start='sys.exit("no such device")')
    with pytest.raises(QtestError, match=r"ended with 1: no such device"):
        QtestMachine(VirtualClock(), qemu=program)
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_qemu_ends_with_a_program_that_forgot_it(fake) -> None:
    text = (
        "import sys\n"
        "from e1000emu.clock import VirtualClock\n"
        "from e1000emu.embed.qtest import QtestMachine\n"
        "machine = QtestMachine(VirtualClock(), qemu=sys.argv[1])\n"
        "print(machine._process.pid)\n"
        "raise SystemExit(3)\n"
    )
    program = fake(end="import time; time.sleep(100)")  # hanging up does not end QEMU
    done = run_to_end([sys.executable, "-c", text, program])
    assert done.returncode == 3, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
