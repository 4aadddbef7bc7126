from fastpath.base.batch import FrameBatch
from fastpath.nic.wire import FrameQueue

VIRTIO_NET_HDR_F_NEEDS_CSUM: int
VIRTIO_NET_HDR_GSO_NONE: int
VIRTIO_NET_HDR_GSO_TCPV4: int
VIRTIO_NET_HDR_GSO_TCPV6: int
VIRTIO_NET_HDR_GSO_UDP_L4: int
VIRTIO_NET_HDR_GSO_ECN: int

def segment(packet: bytes, batch: FrameBatch, min_bytes: int = 60) -> str: ...

class TapQueue(FrameQueue):
    header_bytes: int
    min_bytes: int
    reads: int
    writes: int
    rx_packets: int
    tx_packets: int
    dropped: int
    def __init__(
        self, fd: int, header_bytes: int = 0, min_bytes: int = 60, merge: bool = True
    ) -> None: ...
    def take_drops(self) -> dict[str, int]: ...
