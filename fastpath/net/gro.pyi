from typing import final

from fastpath.base.skbuff import sk_buff

GRO_MERGED: int  # 0: payload moved into a held packet, skb is gone
GRO_HELD: int  # 2: the table keeps it
GRO_NORMAL: int  # 3: appended to `out` as it came

@final
class GroTable:
    def __init__(
        self, max_bytes: int = 524288, *, max_flows: int = 32, tcp: bool = True, udp: bool = True
    ) -> None: ...
    max_bytes: int  # gro_max_size, headers included; writable
    tcp: bool
    udp: bool
    held: int  # packets held now
    merged: int  # frames merged into a held packet since creation
    flushed: int
    bad_csum: int  # frames whose checksum was verified here and wrong
    def receive(self, skb: sk_buff, out: list[sk_buff]) -> int: ...
    def flush(self, out: list[sk_buff]) -> int: ...
    def reset(self) -> None: ...
