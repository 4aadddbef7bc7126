"""Programs in the guest: `/init` and the agent that runs the host's commands.

The agent reads lines from a virtio port and answers with lines; content is base64, so nothing in it
can be taken for the protocol:

    host:  run ID BASE64(command) BASE64(standard input)      guest:  done ID STATUS BASE64(output)
    host:  kill ID                                             guest:  (the job ends, as any does)

Each job is a session of its own, so that `kill` reaches all of it; its output grows in
/run/job/ID/out while it runs.
"""

from __future__ import annotations

PORT = "org.e1000emu.agent"
"""Name of the virtio port."""

# Debian's tcpdump becomes this user after it has opened its file.
PASSWD = """root:x:0:0:root:/root:/usr/bin/bash
tcpdump:x:100:0::/nonexistent:/bin/false
"""

PROFILE = r"""# of the interactive shell
PS1='guest:\w# '
alias ll='ls -l'
"""

INIT = r"""#!/usr/bin/bash
# PID 1 of e1000emu's guest: mounts, modules, then the agent or a shell on the serial line.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
busybox mkdir -p /proc /sys /dev /run /tmp /root /var/log
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev 2>/dev/null
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /dev/shm
busybox mount -t tmpfs tmpfs /run
busybox mount -t tmpfs tmpfs /tmp
busybox --install -s /bin
echo 0 >/proc/sys/kernel/printk_devkmsg 2>/dev/null
hostname guest
ip link set lo up
modules= console=agent commands=
for word in $(</proc/cmdline); do
    case $word in
    e1000emu.modules=*) modules=${word#*=} ;;
    e1000emu.console=*) console=${word#*=} ;;
    e1000emu.setup=*) commands=$(echo "${word#*=}" | base64 -d) ;;
    esac
done
for module in virtio_pci virtio_console; do modprobe "$module" 2>/dev/null; done
for module in ${modules//,/ }; do modprobe "$module"; done
eval "$commands"
if [ "$console" = shell ]; then
    cd /root
    # A shell of its own session, so that Ctrl-C works; when it ends the guest does.
    setsid -c /usr/bin/bash -l </dev/ttyS0 >/dev/ttyS0 2>&1
    sync
    poweroff -f
fi
while :; do
    /usr/lib/e1000emu/agent </dev/null >/dev/null 2>/dev/kmsg
    sleep 1
done
"""

AGENT = r"""#!/usr/bin/bash
# Carries out the host's commands; see e1000emu/guest/init.py for the lines.
for port in /sys/class/virtio-ports/*; do
    [ "$(<"$port/name")" = org.e1000emu.agent ] && device=/dev/${port##*/}
done
[ -c "$device" ] || { echo "agent: no port of the host's" >&2; exit 1; }
exec 3<>"$device"
rm -rf /run/job /run/job.turn
mkdir -p /run/job

# A pipe with one byte in it is the lock: whoever has read the byte may answer.
mkfifo /run/job.turn
exec 4<>/run/job.turn
printf x >&4

finish() { # finish ID STATUS: one answer at a time, in one piece
    read -r -N 1 -u 4
    { printf '\ndone %s %s ' "$1" "$2"; base64 -w 0 <"/run/job/$1/out"; echo; } >&3
    printf x >&4
    rm -rf "/run/job/$1"
}

job() { # job ID COMMAND STDIN
    mkdir -p "/run/job/$1"
    cd "/run/job/$1" || return
    echo "$2" | base64 -d >command
    echo "$3" | base64 -d >in
    cd /root
    setsid bash -c 'echo $$ >"$0/pid"; exec 3<&- 4<&-; . "$0/command"' "/run/job/$1" \
        <"/run/job/$1/in" >"/run/job/$1/out" 2>&1
    finish "$1" $?
}

printf '\nready %s\n' "$(uname -r)" >&3
while read -r -u 3 what id command input; do
    case $what in
    run) job "$id" "$command" "$input" & ;;
    kill) kill -KILL -- "-$(<"/run/job/$id/pid")" 2>/dev/null ;;
    esac
done
"""
