"""Commands of `ip` at random: `commands(seed, theme)` are the same for a seed always.

`GRAMMAR` has the alternatives of each word, with weights. A theme is the word that each command is
an alternative of. `script` makes a script of the shell of them. After each command it prints the
exit status and what `ip` lists; at the end stands what `ip monitor` heard.

The kernel's workers bring up carriers and addresses. So `list` asks again until the awk program
`done` finds nothing that waits for them. Such are a carrier without the state UP, and an address
that is tentative or has no local route.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

Grammar = dict[str, dict[str, int]]

GRAMMAR: Grammar = {
    "route": {
        "ip route {add} {type4}{dst4} {tos}{route4}": 14,
        "ip -6 route {add} {type6}{dst6} {route6}": 14,
        "ip route del {type4}{dst4} {tos}{some4}": 5,
        "ip -6 route del {type6}{dst6} {some6}": 5,
        "ip {get}": 8,
        "ip {v}route flush {flush}": 1,
        "{few}": 5,
        "ip link set {dev} {updown}": 2,
    },
    "nexthop": {
        "ip {v}nexthop {nadd} id {id} {object}": 14,
        "ip nexthop del id {id}": 3,
        "ip nexthop flush {nflush}": 1,
        "ip nexthop get id {id}": 1,
        "ip route {add} {dst4} {tos}nhid {id} {metric}": 5,
        "ip -6 route {add} {dst6} nhid {id} {metric}": 5,
        "ip route {add} {dst4} {route4}": 2,
        "ip -6 route {add} {dst6} {route6}": 2,
        "ip {v}route del {dst} nhid {id}": 2,
        "ip {get}": 5,
        "ip nexthop show {nflush}": 1,
        "ip link set {dev} {updown}": 2,
        "{few}": 2,
    },
    "addr": {
        "ip addr {aadd} {own4} {a4}dev {dev}": 12,
        "ip addr {aadd} {own6} {a6}dev {dev}": 12,
        "ip addr del {own4} {label}dev {dev}": 4,
        "ip addr del {own6} dev {dev}": 4,
        "ip {v}addr flush dev {dev} {aflush}": 1,
        "ip link set {dev} {updown}": 3,
        "ip route {add} {dst4} {route4}": 3,
        "ip -6 route {add} {dst6} {route6}": 3,
        "ip {get}": 4,
        "ip {v}-o addr show {ashow}": 2,
        "{few}": 2,
    },
    "rule": {
        "ip {v}rule add {not}{from}{selectors}{action}": 14,
        "ip {v}rule del {not}{from}{selectors}{action}": 4,
        "ip {v}rule del prio {prio}": 3,
        "ip {v}rule flush {rflush}": 1,
        "ip {v}rule show {rflush}": 1,
        "ip route {add} {type4}{dst4} {route4}": 4,
        "ip -6 route {add} {type6}{dst6} {route6}": 4,
        "ip {get}": 16,
        "{few}": 1,
    },
    "neigh": {
        "ip neigh {gadd} {to} {nud}dev {dev}": 14,
        "ip neigh del {to} dev {dev}": 3,
        "ip neigh {gadd} proxy {to} {proxydev}": 3,
        "ip neigh del proxy {to} {proxydev}": 2,
        "ip neigh get {proxy}{to} dev {dev}": 2,
        "ip {v}neigh flush dev {dev} to {to}": 1,
        "ip {v}neigh show {gflush} | sort": 2,
        "ip {v}ntable show dev {dev} name {ntable}": 1,
        "ip ntable change name {ntable} dev {dev} {parameter}": 3,
        "sysctl -w net.{ipv}.neigh.{dev}.{tunable}": 3,
        "ip link set {dev} {updown}": 2,
        "{few}": 1,
    },
    "link": {
        "ip link set {dev} {set}": 16,
        "ip link set {dev} {set} {set}": 5,
        "ip link set {dev} {updown}": 4,
        "ip link add {new}": 3,
        "ip link del {deldev}": 1,
        "ip {v}route {add} {dst} dev {dev} mtu {mtu}": 2,
        "ip route {add} {dst4} {route4}": 2,
        "ip -6 route {add} {dst6} {route6}": 2,
        "ip addr add {own4} dev {dev}": 1,
        "ip addr add {own6} dev {dev}": 1,
        "ip maddr {maddr} {mac} dev {dev}": 2,
        "ip netconf show dev {dev}": 1,
        "sysctl -w net.{ipv}.conf.{dev}.{conf}": 3,
        "ip {get}": 2,
        "ip -s link show {dev}": 0,
        "ip {v}link show {lshow}": 2,
    },
    "few": {
        "ip addr add {own4} {a4}dev {dev}": 3,
        "ip addr add {own6} {a6}dev {dev}": 3,
        "ip addr del {own4} dev {dev}": 2,
        "ip addr del {own6} dev {dev}": 2,
        "ip link set {dev} {updown}": 2,
        "ip link set {dev} mtu {mtu}": 1,
        "ip neigh {gadd} {to} {nud}dev {dev}": 1,
    },
    # --- routes
    "add": {"add": 8, "append": 4, "prepend": 2, "replace": 4, "change": 2},
    "v": {"": 3, "-6 ": 2, "-4 ": 1},
    "dev": {"v0": 8, "w0": 5, "v1": 2, "lo": 2, "b0": 1, "none": 1},
    "updown": {"up": 3, "down": 2},
    "type4": {
        "": 16,
        "unicast ": 1,
        "blackhole ": 1,
        "unreachable ": 1,
        "prohibit ": 1,
        "throw ": 1,
        "local ": 1,
        "broadcast ": 1,
        "multicast ": 1,
        "anycast ": 1,
        "nat ": 0,
    },
    "type6": {
        "": 16,
        "unicast ": 1,
        "blackhole ": 1,
        "unreachable ": 1,
        "prohibit ": 1,
        "throw ": 1,
        "local ": 1,
        "anycast ": 1,
        "multicast ": 1,
        "broadcast ": 1,
    },
    "dst": {"{dst4}": 1, "{dst6}": 1},
    "dst4": {
        "10.1.0.0/16": 6,
        "10.1.1.0/24": 3,
        "10.1.1.7": 2,
        "default": 3,
        "10.0.0.0/24": 2,
        "10.1.1.1/24": 1,
        "10.2.0.0/15": 2,
        "0.0.0.0/1": 1,
        "224.0.0.0/4": 1,
        "255.255.255.255": 1,
    },
    "dst6": {
        "2001:db8:a::/48": 6,
        "2001:db8:a:1::/64": 3,
        "2001:db8:a:1::7": 2,
        "default": 3,
        "2001:db8::/64": 2,
        "2001:db8:a::1/48": 1,
        "2001:db8:b::/47": 2,
        "fe80::/64": 1,
        "ff05::/16": 1,
        "::/1": 1,
        "fd00::/8": 2,
    },
    "tos": {"": 10, "tos 0x10 ": 2, "tos 8 ": 1, "dsfield 0x4 ": 1, "tos 0xff ": 0},
    "route4": {
        "{hop4} {extra4}": 16,
        "{extra4}": 1,
        "{metric}{table}nexthop {nh4} nexthop {nh4}": 4,
        "{table}nexthop {nh4}": 1,
        "nexthop {nh4} nexthop {nh4} nexthop {nh4}": 1,
    },
    "route6": {
        "{hop6} {extra6}": 16,
        "{extra6}": 1,
        "{metric}{table}nexthop {nh6} nexthop {nh6}": 4,
        "{table}nexthop {nh6}": 1,
        "nexthop {nh6} nexthop {nh6} nexthop {nh6}": 1,
    },
    "some4": {"": 4, "{hop4} ": 3, "{metric}": 2, "{table}": 2, "{extra4}": 3, "{route4}": 2},
    "some6": {"": 4, "{hop6} ": 3, "{metric}": 2, "{table}": 2, "{extra6}": 3, "{route6}": 2},
    "hop4": {
        "via {gw4}": 8,
        "dev {dev}": 6,
        "via {gw4} dev {dev}": 4,
        "via {gw4} dev {dev} onlink": 2,
        "via inet6 {gw6} dev {dev}": 2,
        "via inet6 {gw6}": 1,
        "via {gw4} onlink": 1,
    },
    "hop6": {
        "via {gw6}": 8,
        "dev {dev}": 6,
        "via {gw6} dev {dev}": 6,
        "via {gw6} dev {dev} onlink": 2,
        "via inet 10.0.0.2": 0,
        "via {gw6} onlink": 1,
    },
    "nh4": {"{hop4} {weight}": 1},
    "nh6": {"{hop6} {weight}": 1},
    "weight": {"": 3, "weight 2": 1, "weight 256": 1, "weight 5": 1},
    "gw4": {"10.0.0.2": 6, "10.0.0.3": 3, "10.0.1.2": 4, "10.0.0.1": 1, "192.0.2.1": 1},
    "gw6": {
        "2001:db8::2": 6,
        "2001:db8::3": 3,
        "2001:db8:1::2": 4,
        "fe80::2": 4,
        "2001:db8::1": 1,
        "fd77::1": 1,
        "ff02::1": 1,
    },
    "extra4": {
        "": 8,
        "{metric}": 4,
        "{table}": 3,
        "{proto}": 2,
        "{scope}": 3,
        "{src4}": 3,
        "{metrics}": 3,
        "{extra4}{extra4}": 3,
        "realm 5 ": 0,
        "ttl-propagate enabled ": 0,
    },
    "extra6": {
        "": 8,
        "{metric}": 4,
        "{table}": 3,
        "{proto}": 2,
        "{scope}": 1,
        "{src6}": 2,
        "{metrics}": 3,
        "{pref}": 3,
        "{expires}": 2,
        "{extra6}{extra6}": 3,
    },
    "metric": {"": 3, "metric 5 ": 3, "metric 7 ": 2, "metric 1024 ": 1, "metric 4294967295 ": 1},
    "table": {
        "": 3,
        "table 100 ": 3,
        "table 101 ": 1,
        "table local ": 1,
        "table default ": 1,
        "table 300 ": 1,
        "table main ": 1,
    },
    "proto": {"proto static ": 2, "proto ra ": 1, "proto kernel ": 1, "proto 77 ": 1, "": 1},
    "scope": {"scope link ": 2, "scope host ": 1, "scope global ": 1, "scope 50 ": 1},
    "src4": {"src 10.0.0.1 ": 3, "src 10.0.1.1 ": 1, "src 10.0.0.9 ": 1},
    "src6": {"src 2001:db8::1 ": 3, "src 2001:db8:1::1 ": 1, "src 2001:db8::9 ": 1},
    "metrics": {
        "mtu {mtu} ": 4,
        "mtu lock {mtu} ": 1,
        "advmss 1000 ": 1,
        "window 5000 ": 1,
        "hoplimit 9 ": 1,
        "initcwnd 11 ": 1,
        "quickack 1 ": 1,
        "features ecn ": 1,
        "rto_min 30ms ": 1,
        "congctl cubic ": 1,
    },
    "mtu": {"1400": 3, "1500": 2, "1280": 2, "1279": 1, "576": 1, "9000": 1, "67": 1, "70000": 1},
    "pref": {"pref low ": 1, "pref high ": 1, "pref medium ": 1},
    "expires": {"expires 1000 ": 2, "expires 4294967295 ": 1},
    "flush": {
        "proto static": 1,
        "table 100": 1,
        "dev {dev}": 1,
        "{dst}": 1,
        "root {dst}": 1,
        "type unreachable": 1,
        "via {gw4}": 1,
        "scope link": 1,
        "exact {dst}": 1,
        "cache": 1,
    },
    "get": {
        "route get {fibmatch}{asked4}{flow4}": 5,
        "-6 route get {fibmatch}{asked6}{flow6}": 5,
        "{v}route show {shown}": 3,
    },
    "fibmatch": {"": 6, "fibmatch ": 2},
    "asked4": {
        "10.1.1.7 ": 4,
        "10.1.2.3 ": 3,
        "10.0.0.2 ": 2,
        "10.0.0.1 ": 2,
        "8.8.8.8 ": 2,
        "10.0.0.255 ": 1,
        "255.255.255.255 ": 1,
        "224.0.0.5 ": 1,
        "10.3.0.1 ": 1,
        "127.0.0.1 ": 1,
        "0.0.0.0 ": 1,
    },
    "asked6": {
        "2001:db8:a:1::7 ": 4,
        "2001:db8:a::3 ": 3,
        "2001:db8::2 ": 2,
        "2001:db8::1 ": 2,
        "2001:db8::9 ": 2,
        "2001:db8:b::1 ": 1,
        "fe80::2 ": 1,
        "ff02::5 ": 1,
        "::1 ": 1,
        ":: ": 1,
        "fd00::5 ": 1,
    },
    "flow4": {
        "": 6,
        "from 10.0.0.1 ": 2,
        "from 10.0.0.77 iif {in} ": 3,
        "from 10.1.1.9 iif {in} ": 1,
        "oif {dev} ": 3,
        "from 10.0.9.9 ": 1,
        "{flow}": 5,
        "tos 0x10 ": 2,
        "tos 0x10 {flow}": 1,
        "from 10.0.0.1 {flow}": 2,
        "oif {dev} {flow}": 1,
    },
    "flow6": {
        "": 6,
        "from 2001:db8::1 ": 2,
        "from 2001:db8::77 iif {in} ": 3,
        "from 2001:db8:a::9 iif {in} ": 1,
        "oif {dev} ": 3,
        "from 2001:db8:9::9 ": 1,
        "{flow}": 5,
        "tos 0x10 ": 2,
        "from 2001:db8::1 {flow}": 2,
        "oif {dev} {flow}": 1,
    },
    "in": {"v0": 4, "w0": 2, "v1": 1, "lo": 1, "none": 1},
    "flow": {
        "mark 1 ": 2,
        "mark 3 ": 2,
        "mark 0x12 ": 1,
        "uid 5 ": 2,
        "uid 0 ": 1,
        "ipproto udp sport 55 dport 80 ": 2,
        "ipproto tcp dport 80 ": 2,
        "ipproto icmp ": 1,
        "ipproto ipv6-icmp ": 1,
        "ipproto 50 ": 1,
        "sport 55 ": 1,
        "mark 1 uid 5 ipproto tcp sport 9 dport 1500 ": 1,
    },
    "shown": {
        "table {tables}": 2,
        "{dst}": 2,
        "root {dst}": 1,
        "match {dst}": 1,
        "dev {dev}": 1,
        "proto kernel": 1,
        "type unicast table all": 1,
        "src 10.0.0.1": 1,
        "scope link": 1,
        "via 10.0.0.2": 1,
        "nhid 1": 1,
        "cache": 1,
    },
    "tables": {"100": 2, "local": 1, "300": 1, "7": 1, "0": 1, "default": 1},
    # --- next hop objects
    "nadd": {"add": 6, "replace": 4},
    "id": {"1": 4, "2": 4, "3": 4, "10": 3, "11": 2, "5": 2, "0": 1, "99": 1},
    "object": {
        "via {gw4} dev {dev}": 6,
        "via {gw6} dev {dev}": 6,
        "dev {dev}": 2,
        "blackhole": 2,
        "via {gw4} dev {dev} onlink": 1,
        "via {gw6} dev {dev} onlink": 1,
        "group {id}": 2,
        "group {id}/{id}": 4,
        "group {id},3/{id},200": 2,
        "group {id}/{id}/{id}": 1,
        "group {id}/{id} type resilient buckets 4": 1,
        "via {gw4} dev {dev} protocol 77": 1,
        "via {gw4}": 1,
        "": 1,
    },
    "nflush": {"": 1, "dev {dev}": 2, "groups": 1, "protocol 77": 1, "id {id}": 1, "vrf none": 0},
    # --- addresses
    "aadd": {"add": 8, "replace": 3, "change": 3},
    "own4": {
        "10.0.0.1/24": 3,
        "10.0.0.9/24": 3,
        "10.0.0.9/25": 1,
        "10.0.1.1/24": 2,
        "10.7.0.1/32": 1,
        "10.7.0.1": 1,
        "10.7.0.1 peer 10.7.0.2": 1,
        "10.0.0.9 peer 10.7.1.2/24": 1,
        "127.0.0.5/8": 1,
        "0.0.0.0": 1,
        "224.1.1.1/32": 1,
        "10.9.0.1/0": 1,
    },
    "a4": {
        "": 8,
        "brd + ": 4,
        "brd - ": 1,
        "brd 10.0.0.77 ": 1,
        "label {dev}:x ": 2,
        "label x ": 1,
        "scope link ": 1,
        "scope host ": 1,
        "scope 33 ": 1,
        "metric 50 ": 1,
        "noprefixroute ": 1,
        "valid_lft 1000 preferred_lft 900 ": 1,
        "preferred_lft 0 ": 1,
        "valid_lft 900 preferred_lft 1000 ": 1,
        "home ": 1,
        "nodad ": 1,
        "mngtmpaddr ": 1,
        "autojoin ": 1,
        "secondary ": 0,
        "{a4}{a4}": 3,
    },
    "own6": {
        "2001:db8::1/64": 3,
        "2001:db8::9/64": 3,
        "2001:db8::9/80": 1,
        "2001:db8:1::1/64": 2,
        "2001:db8:7::1": 1,
        "2001:db8:7::1 peer 2001:db8:7::2": 1,
        "2001:db8::9 peer 2001:db8:8::2/64": 1,
        "fe80::9/64": 2,
        "fe80::9/10": 1,
        "fec0::1/64": 1,
        "::5/128": 1,
        "ff05::77/128": 1,
        "::1/128": 1,
        "::/64": 1,
        "2001:db8::/64": 1,
    },
    "a6": {
        "": 8,
        "nodad ": 4,
        "metric 50 ": 2,
        "noprefixroute ": 2,
        "valid_lft 1000 preferred_lft 900 ": 1,
        "preferred_lft 0 ": 1,
        "valid_lft 900 preferred_lft 1000 ": 1,
        "home ": 2,
        "mngtmpaddr ": 1,
        "optimistic ": 1,
        "autojoin ": 1,
        "scope host ": 1,
        "{a6}{a6}": 3,
    },
    "label": {"": 8, "label {dev}:x ": 1},
    "aflush": {"": 2, "scope link": 1, "to 10.0.0.0/24": 1, "permanent": 1, "deprecated": 1},
    "ashow": {
        "dev {dev}": 2,
        "to {dst}": 1,
        "scope link": 1,
        "permanent": 1,
        "up": 1,
        "deprecated": 1,
        "label v0:*": 1,
        "primary": 1,
        "secondary": 1,
    },
    # --- rules
    "not": {"": 5, "not ": 1},
    "from": {
        "": 4,
        "from {src}": 3,
        "to {net}": 3,
        "from {src}to {net}": 1,
    },
    "src": {
        "10.0.0.0/24 ": 2,
        "10.0.0.1 ": 2,
        "2001:db8::/64 ": 2,
        "2001:db8::1 ": 2,
        "all ": 2,
        "10.0.0.7/24 ": 1,
        "0/0 ": 1,
    },
    "net": {"10.1.0.0/16 ": 2, "10.1.1.7 ": 2, "2001:db8:a::/48 ": 2, "2001:db8:a:1::7 ": 2},
    "selectors": {"": 3, "{selector}": 6, "{selector}{selector}": 3},
    "selector": {
        "fwmark 1 ": 3,
        "fwmark 2/2 ": 3,
        "fwmark 0/1 ": 1,
        "iif {in} ": 2,
        "iif lo ": 1,
        "oif {dev} ": 2,
        "uidrange 1-5 ": 2,
        "uidrange 0-0 ": 1,
        "uidrange 9-1 ": 1,
        "ipproto tcp ": 2,
        "ipproto udp ": 2,
        "ipproto 0 ": 1,
        "sport 50-60 ": 1,
        "dport 80 ": 2,
        "dport 1000-2000 ": 1,
        "dport 0 ": 1,
        "tos 0x10 ": 2,
        "tos 0x4 ": 1,
        "tos 3 ": 1,
        "tun_id 7 ": 1,
        "l3mdev ": 1,
        "protocol static ": 1,
        "suppress_prefixlength {bits} ": 2,
        "suppress_ifgroup {bits} ": 1,
        "prio {prio} ": 6,
    },
    "bits": {"0": 2, "16": 1, "24": 1, "32": 1, "64": 1, "48": 1},
    "prio": {"5": 2, "100": 2, "200": 2, "32766": 1, "0": 1, "40000": 1, "32767": 1},
    "action": {
        "table 100 ": 5,
        "table 101 ": 2,
        "table main ": 2,
        "table 300 ": 1,
        "lookup local ": 1,
        "goto {prio} ": 2,
        "blackhole ": 1,
        "unreachable ": 1,
        "prohibit ": 1,
        "nop ": 1,
        "": 2,
        "table 0 ": 1,
        "realms 5 ": 0,
    },
    "rflush": {"": 2, "table 100": 1, "prio {prio}": 1, "proto static": 1},
    # --- neighbours
    "gadd": {"add": 6, "replace": 4, "change": 3},
    "to": {
        "10.0.0.2": 4,
        "10.0.0.3": 3,
        "2001:db8::2": 4,
        "fe80::2": 2,
        "10.9.9.9": 1,
        "224.0.0.5": 1,
        "ff02::5": 1,
        "10.0.0.1": 1,
        "0.0.0.0": 1,
        "10.0.0.255": 1,
    },
    "mac": {
        "02:00:00:00:00:99": 4,
        "02:00:00:00:00:98": 2,
        "33:33:00:00:00:05": 1,
        "00:00:00:00:00:00": 1,
        "02:00:00:00:99": 1,
    },
    "nud": {
        "lladdr {mac} ": 8,
        "lladdr {mac} nud {state} ": 8,
        "nud {state} ": 2,
        "": 1,
        "lladdr {mac} router ": 2,
        "lladdr {mac} extern_learn ": 2,
        "lladdr {mac} protocol static ": 2,
        "lladdr {mac} nud {state} router extern_learn proto 77 ": 1,
    },
    "state": {
        "permanent": 3,
        "stale": 3,
        "reachable": 2,
        "noarp": 2,
        "failed": 1,
        "none": 1,
    },
    "proxy": {"": 2, "proxy ": 1},
    "proxydev": {"dev {dev}": 4, "dev {dev} protocol static": 1, "dev {dev} router": 1},
    "gflush": {
        "all": 1,
        "dev {dev}": 2,
        "nud permanent": 1,
        "nud stale": 1,
        "to 10.0.0.0/24": 1,
        "proxy": 0,
    },
}
"""Weighted alternatives of each word; a word in braces is expanded in its turn."""
GRAMMAR |= {
    "ntable": {"arp_cache": 1, "ndisc_cache": 1},
    "parameter": {
        "queue 5": 1,
        "retrans 2000": 1,
        "base_reachable 12000": 1,
        "gc_stale 90000": 1,
        "delay_probe 3000": 1,
        "ucast_probes 7": 1,
        "mcast_probes 4": 1,
        "app_probes 0": 1,
        "proxy_delay 100": 1,
        "proxy_queue 7": 1,
        "locktime 0": 1,
        "anycast_delay 500": 1,
        "retrans 0": 1,
        "queue 0": 1,
    },
    "ipv": {"ipv4": 1, "ipv6": 1},
    "tunable": {
        "interval_probe_time_ms={number}": 3,
        "mcast_resolicit={number}": 1,
        "ucast_solicit={number}": 1,
        "gc_stale_time={number}": 1,
        "unres_qlen={number}": 1,
        "retrans_time_ms={number}": 1,
        "base_reachable_time_ms={number}": 1,
        "app_solicit={number}": 1,
        "delay_first_probe_time={number}": 1,
        "locktime={number}": 1,
        "proxy_qlen={number}": 1,
    },
    "number": {"0": 1, "4": 2, "5000": 2, "60000": 1, "x": 1},
    # --- links
    "set": {
        "mtu {mtu}": 5,
        "txqueuelen {number}": 2,
        "multicast {onoff}": 1,
        "allmulticast {onoff}": 2,
        "promisc {onoff}": 2,
        "dynamic {onoff}": 1,
        "trailers {onoff}": 0,
        "carrier {onoff}": 2,
        "protodown {onoff}": 2,
        "alias {alias}": 2,
        "group {number}": 2,
        "address {mac}": 2,
        "broadcast {mac}": 1,
        "name {name}": 2,
        "addrgenmode {genmode}": 2,
        "{updown}": 2,
        "numtxqueues 2": 1,
        "gso_max_size 40000": 1,
        "gso_max_segs 9": 1,
    },
    "onoff": {"on": 1, "off": 1},
    "alias": {"hello": 2, "''": 1},
    "name": {"v0": 1, "z0": 2, "w0": 1, "a-name-that-is-long": 1, "all": 0, "v1": 1},
    "genmode": {"none": 2, "stable_secret": 1},
    "new": {
        "x0 address 02:00:00:00:00:21 type veth peer name x1 address 02:00:00:00:00:22": 2,
        "b1 address 02:00:00:00:00:b1 mtu 1400 type bridge": 1,
        "i0 address 02:00:00:00:00:1f type ifb": 1,
        "v0 address 02:00:00:00:00:b2 type bridge": 1,
        "y0 type nosuch": 1,
    },
    "deldev": {"x0": 3, "b1": 1, "lo": 1, "none": 1, "i0": 1},
    "maddr": {"add": 3, "del": 2},
    "conf": {
        "forwarding={bit}": 2,
        "rp_filter={number}": 1,
        "ignore_routes_with_linkdown={bit}": 3,
        "disable_ipv6={bit}": 2,
        "proxy_neigh={bit}": 0,
        "proxy_ndp={bit}": 1,
        "keep_addr_on_down={bit}": 2,
        "promote_secondaries={bit}": 1,
        "mc_forwarding=1": 1,
        "accept_ra={number}": 1,
        "arp_ignore={bit}": 1,
        "hop_limit={number}": 1,
    },
    "bit": {"0": 1, "1": 2},
    "lshow": {"up": 1, "group default": 1, "type veth": 1, "master b0": 1, "dev {dev}": 1},
}
THEMES = ("route", "nexthop", "addr", "rule", "neigh", "link")
START = """
sysctl -qw net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.default.accept_dad=0 \\
    net.ipv6.conf.default.router_solicitations=0
ip link set lo up
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link add w0 address 02:00:00:00:00:03 type veth peer name w1 address 02:00:00:00:00:04
ip link add b0 address 02:00:00:00:00:b0 type bridge mcast_snooping 0
cat > $DIR/all <<'END'
link show
address show
route show table all
rule show
neigh show proxy
nexthop show
maddr show
netconf show
END
cat > $DIR/six <<'END'
route show table all
rule show
neigh show proxy
END
cat > $DIR/done <<'END'
/^[0-9]+: / {
    up = /[<,]UP[,>]/; lower = /LOWER_UP/
    if (lower && / state (DOWN|LOWERLAYERDOWN|UNKNOWN) / && !/LOOPBACK|NOARP/) bad = 1
    if (up && !lower && / state UP /) bad = 1
}
/^    inet6 / && !/tentative/ { split($2, a, "/"); want[a[1]] = 1 }
/^    inet6 / && up && lower && /tentative/ { bad = 1 }
/^(local|anycast|multicast) / { split($2, a, "/"); have[a[1]] = 1 }
END { for (w in want) if (!(w in have)) bad = 1; exit bad }
END
list() {
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        ip -d -force -batch $DIR/all >$DIR/now 2>&1
        ip -d -6 -force -batch $DIR/six >>$DIR/now 2>&1
        ip neigh show nud all 2>&1 | sort >>$DIR/now
        awk -f $DIR/done $DIR/now && break
        sleep 0.05
    done
    [ $i = 20 ] && echo UNSETTLED
    cat $DIR/now
}
for dev in v1 v0 w1 w0; do ip link set $dev up; list >/dev/null; done
ip addr add 10.0.0.1/24 brd + dev v0; ip addr add 2001:db8::1/64 dev v0 nodad; list >/dev/null
ip addr add 10.0.1.1/24 dev w0; ip addr add 2001:db8:1::1/64 dev w0 nodad; list >/dev/null
ip -d monitor all >$DIR/heard 2>/dev/null & M=$!
mark() {
    until grep -qs $1: $DIR/heard; do ip rule add prio $1; ip rule del prio $1; sleep 0.05; done
}
mark 32001
"""
END = "mark 32002; kill $M; grep -v '3200[12]:' $DIR/heard\n"


def expand(r: random.Random, word: str) -> str:
    """One of the alternatives of a word, with the words in it expanded."""
    choices = GRAMMAR[word]
    text = r.choices([*choices], [*choices.values()])[0]
    return re.sub(r"\{(\w+)\}", lambda found: expand(r, found[1]), text)


def commands(seed: int, theme: str, count: int = 30) -> list[str]:
    """The commands of a seed."""
    r = random.Random(seed)
    return [" ".join(expand(r, theme).split()) for _ in range(count)]


def script(lines: Sequence[str]) -> str:
    """The shell script of some commands."""
    said = (f'echo "\n$ {line}"; {line}; echo "= $?"; list' for line in lines)
    return START + "\n".join(said) + "\n" + END
