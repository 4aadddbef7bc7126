"""A management controller on the board: it answers ARP and RMCP beside the driver, and without."""

from e1000emu import Nic, VirtualClock
from e1000emu.ports import ManagementPort
from e1000emu.testing import RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable, HostMemory

MAC, ASKER = bytes.fromhex("525400123456"), bytes.fromhex("020000000001")
IP, ASKERS = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 1))


class Controller:
    """Answers requests for its address, and remembers the senders of RMCP."""

    reset_on_force = True
    port: ManagementPort
    heard: list[bytes]

    def attach(self, port: ManagementPort) -> None:
        self.port, self.heard = port, []

    def alert(self) -> None:
        while (frame := self.port.read()) is not None:
            if frame[12:14] != b"\x08\x06":
                self.heard.append(frame[42:])  # behind Ethernet, IPv4 and UDP
            elif frame[38:42] == IP:
                asker, address = frame[22:28], frame[28:32]
                head = bytes.fromhex("0806000108000604") + b"\x00\x02"
                self.port.send(asker + MAC + head + MAC + IP + asker + address)


ram = HostMemory(4 << 20)
memory = DmaTable()
memory.add(ram.base, ram.buffer)
clock, link, controller = VirtualClock(), RecordingLink(), Controller()
nic = Nic(memory=memory, irq=RecordingLine(), link=link, clock=clock, management=controller)
clock.run_for(5_000_000_000)  # the link comes up by itself: no driver runs

controller.port.receive_enable(("ARP_EN", "RMCP_EN", "IPV4_EN"))
arp = bytes.fromhex("0806000108000604") + b"\x00\x01" + ASKER + ASKERS + bytes(6) + IP
link.inject(b"\xff" * 6 + ASKER + arp)
print("answer to ARP:", [frame[28:32] for frame in link.take()])

ping = bytes.fromhex("0600ff06000011be80000000")  # ASF's presence ping
ip = bytes.fromhex("450000280000000040110000") + ASKERS + IP
link.inject(MAC + ASKER + b"\x08\x00" + ip + bytes.fromhex("026f026f00140000") + ping)
print("heard:", [frame[: len(ping)] for frame in controller.heard])
print("counters:", {name: nic.counters()[name] for name in ("mgtprc", "mgtpdc", "mgtptc")})
