"""Test a bare-metal driver in C from pytest: `python -m pytest examples/baremetal/test_driver.py`.

cffi compiles the driver into this process. Its two register functions end at an e1000emu `Nic`, and
its memory is the NIC's. So a test sends, receives, looks at every byte and reads what the device
says about the driver. Needs a C compiler and `pip install 'e1000emu[pytest]' setuptools scapy`.

For a driver of your own change `SOURCES`, `DECLARATIONS` and the class `Driver`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from cffi import FFI
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from e1000emu import MisuseError

pytest_plugins = ["e1000emu.testing.fixtures"]

HERE = Path(__file__).resolve().parent
SOURCES = ["e1000_min.c", "broken.c"]
DECLARATIONS = """
    /* what the driver wants from us */
    extern "Python+C" {
        uint32_t e1000_min_read32(void *ctx, uint32_t off);
        void e1000_min_write32(void *ctx, uint32_t off, uint32_t value);
    }
    /* what it offers */
    struct e1000_min { uint8_t mac[6]; ...; };
    #define E1000_MIN_MEM_BYTES ...
    #define E1000_MIN_EFULL ...
    int e1000_min_init(struct e1000_min *, void *ctx, void *mem, uint64_t bus, uint32_t bytes);
    int e1000_min_link_up(struct e1000_min *);
    int e1000_min_send(struct e1000_min *, const void *frame, uint32_t len);
    int e1000_min_recv(struct e1000_min *, void *buf, uint32_t room);
    uint32_t e1000_min_pending(struct e1000_min *);
    uint32_t e1000_min_causes(struct e1000_min *);
    void e1000_min_stop(struct e1000_min *);
    int broken_init(struct e1000_min *, void *ctx, void *mem, uint32_t bytes);
    int broken_send(struct e1000_min *, const void *frame, uint32_t len);
    uint32_t broken_status(struct e1000_min *);
"""
SECOND = 1_000_000_000


class Driver:
    """The C driver on a bench's NIC; what goes wrong in a register access is raised by the call."""

    def __init__(self, ffi, lib, bench):
        self.ffi, self.bench = ffi, bench
        self.lib = lib
        self.dev = ffi.new("struct e1000_min *")
        self.ctx = ffi.new_handle(self)
        size = lib.E1000_MIN_MEM_BYTES
        self.bus = bench.memory.alloc(size)
        self.memory = ffi.from_buffer(bench.memory.view(self.bus, size))
        self.error = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        # Not left to the collector: Python 3.11, and 3.12 before 3.12.7, crashes when it finds a
        # memoryview in a circle with a buffer over it (CPython issue 77894).
        self.ffi.release(self.memory)

    def call(self, function, *args):
        result = function(self.dev, *args)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return result

    def start(self, init=None):
        size = len(self.memory)
        if init is None:
            result = self.call(self.lib.e1000_min_init, self.ctx, self.memory, self.bus, size)
        else:
            result = self.call(init, self.ctx, self.memory, size)
        assert result == 0
        for _ in range(50):
            if self.call(self.lib.e1000_min_link_up):
                return
            self.bench.clock.run_for(SECOND // 10)
        pytest.fail("\n".join(["the link does not come up:", *self.bench.nic.explain()]))

    def send(self, frame):
        return self.call(self.lib.e1000_min_send, frame, len(frame))

    def receive(self):
        buffer = self.ffi.new("char[2048]")
        n = self.call(self.lib.e1000_min_recv, buffer, 2048)
        assert n >= 0
        return self.ffi.buffer(buffer, n)[:]


def build(directory):
    """Compile the driver; return the path of the module."""
    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source(
        "_driver_under_test",
        '#include "e1000_min.h"\n#include "broken.h"',
        sources=[str(HERE / name) for name in SOURCES],
        include_dirs=[str(HERE)],
    )
    return ffi.compile(str(directory))


def load(path):
    """Return the driver as a Python module: `ffi`, `lib`."""
    spec = importlib.util.spec_from_file_location("_driver_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ffi = module.ffi

    def failed(kind, error, traceback):
        driver = ffi.from_handle(traceback.tb_frame.f_locals["ctx"])
        driver.error = driver.error or error

    @ffi.def_extern(onerror=failed, error=0xFFFF_FFFF)
    def e1000_min_read32(ctx, off):
        return ffi.from_handle(ctx).bench.nic.slot.bar_read(0, off, 4)

    @ffi.def_extern(onerror=failed)
    def e1000_min_write32(ctx, off, value):
        ffi.from_handle(ctx).bench.nic.slot.bar_write(0, off, value, 4)

    return module


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    return load(build(tmp_path_factory.mktemp("driver")))


@pytest.fixture
def driver(compiled, bench):
    with Driver(compiled.ffi, compiled.lib, bench) as driver:
        yield driver


def udp(payload, *, to):
    """A datagram, long enough for Ethernet to add nothing."""
    header = Ether(dst=to, src="02:00:00:00:00:01") / IP(src="10.0.0.1", dst="10.0.0.2") / UDP()
    return header / payload.ljust(18, b".")


def test_mac_comes_from_the_eeprom(driver):
    driver.start()
    assert bytes(driver.dev.mac) == driver.bench.nic.mac


def test_frames_reach_the_wire_unchanged(driver):
    driver.start()
    link = driver.bench.link
    for size in (18, 100, 999, 1472):
        sent = udp(bytes(i & 0xFF for i in range(size)), to="ff:ff:ff:ff:ff:ff")
        assert driver.send(bytes(sent)) == 0
        (wire,) = link.take()
        seen = Ether(wire)
        assert seen == Ether(bytes(sent))
        assert seen[UDP].payload.load == sent[UDP].payload.load
    assert driver.call(driver.lib.e1000_min_pending) == 0


def test_more_frames_than_the_ring_has(driver):
    driver.start()
    for n in range(500):
        assert driver.send(bytes(udp(n.to_bytes(4, "big"), to="02:00:00:00:00:09"))) == 0
    wire = [Ether(frame) for frame in driver.bench.link.take()]
    assert [int.from_bytes(frame[UDP].load[:4], "big") for frame in wire] == list(range(500))


def test_a_full_ring_says_so_and_loses_nothing(driver):
    driver.start()
    link = driver.bench.link
    link.room = 0  # the far end takes nothing for now
    accepted = 0
    while driver.send(bytes(udp(accepted.to_bytes(4, "big"), to="02:00:00:00:00:09"))) == 0:
        accepted += 1
        assert accepted < 100
    assert driver.send(bytes(60)) == driver.lib.E1000_MIN_EFULL
    link.open_room(None)
    assert len(link.take()) == accepted


def test_receives_what_is_for_it_and_nothing_else(driver):
    driver.start()
    nic, link = driver.bench.nic, driver.bench.link
    ours = bytes(udp(b"for us", to=nic.mac.hex(":")))
    everybody = bytes(udp(b"for all", to="ff:ff:ff:ff:ff:ff"))
    other = bytes(udp(b"for another", to="02:00:00:00:00:55"))
    link.inject(ours, other, everybody)
    assert driver.receive() == ours
    assert driver.receive() == everybody
    assert driver.receive() == b""


def test_the_device_has_nothing_to_complain_of(driver):
    driver.start()
    driver.send(bytes(udp(b"x" * 40, to="ff:ff:ff:ff:ff:ff")))
    driver.bench.link.inject(bytes(udp(b"y" * 40, to="ff:ff:ff:ff:ff:ff")))
    assert driver.receive()
    driver.call(driver.lib.e1000_min_causes)
    assert driver.bench.nic.misuse.events() == []
    assert driver.bench.nic.explain() == []
    driver.call(driver.lib.e1000_min_stop)
    driver.bench.link.inject(bytes(udp(b"late", to="ff:ff:ff:ff:ff:ff")))
    assert driver.receive() == b""


# --- drivers that are wrong, and what the device says ---------------------------------------------


def test_addresses_of_the_processor_are_no_bus_addresses(driver):
    driver.start(driver.lib.broken_init)
    assert driver.send(bytes(60)) == 0
    assert driver.bench.link.frames == []
    said = "\n".join(driver.bench.nic.explain())
    assert "the transmit ring lies outside the memory the device may reach" in said
    assert "check TDBAL/TDBAH" in said
    assert f"TDBA={int(driver.ffi.cast('uintptr_t', driver.memory)):#x}" in said


def test_a_transmitter_that_is_off_keeps_its_frames(driver):
    driver.start()
    assert driver.call(driver.lib.broken_send, bytes(60), 60) == 0
    (event,) = driver.bench.nic.misuse.events()
    assert event.name == "tx-disabled"
    assert event.remedy == "set TCTL.EN; the descriptors wait until then"


def test_strict_raises_where_the_mistake_is(driver):
    driver.start()
    driver.bench.nic.misuse.strict = True
    with pytest.raises(MisuseError, match="access registers with 32 bits"):
        driver.call(driver.lib.broken_status)
