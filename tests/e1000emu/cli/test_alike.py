"""Commands are alike: `--json`, `-o`, sizes, guesses, completion, and tables on 80 columns."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from e1000emu.cli import COMMANDS, EXIT_STATUSES, cli, with_subcommands
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.linkspec import LINKS, check_link, tap_devices
from e1000emu.cli.params import (
    FAULTS,
    IMPAIR,
    Duration,
    OutFile,
    Parsed,
    Quantity,
    Rate,
    Share,
    Size,
    parse_faults,
    parse_impair,
    show_size,
)
from e1000emu.cli.trace import KINDS, STAGED
from e1000emu.insight.faults import Faults
from e1000emu.links import Impair
from e1000emu.registers.reference import titles
from e1000emu.registers.regs import TABLE
from stack import COMPILED
from tests.e1000emu.cli.test_cli import run
from tests.support import require, run_to_end


def commands() -> list[click.Command]:
    """Return every command."""
    context = click.Context(cli)
    found = [one for name in COMMANDS if (one := cli.get_command(context, name))]
    groups = [one for one in found if isinstance(one, click.Group)]
    below = [one for group in groups for one in group.commands.values()]
    return [one for one in found if one not in groups] + below


def typed() -> dict[str, click.Command]:
    """Return every command, also those of groups and the groups, by the words that one types."""
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        found |= with_subcommands(name, command)
    return found


def options(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by each of their names."""
    return {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
    }


# What `exec` prints is the program's.
REPORTING = [one for one in commands() if one is not cli.get_command(click.Context(cli), "exec")]


@pytest.mark.parametrize("command", REPORTING, ids=lambda command: command.name)
def test_json_is_a_flag_and_o_names_the_file(command: click.Command) -> None:
    found = options(command)
    assert found["--json"].is_flag
    assert found["--json"].name == "as_json"
    assert found["-o"] is found["--output"]
    for name, option in found.items():
        if name in ("--output", "--capture", "--state"):
            assert isinstance(option.type, OutFile), name
        if name in ("--bytes", "--size"):
            assert isinstance(option.type, Size), name
        if name in ("--interval", "--timeout", "--deadline", "--autoneg", "--delay", "--duration"):
            assert isinstance(option.type, Duration), name
        if name in ("--loss", "--reorder"):
            assert isinstance(option.type, Share), name


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("words", [["regs", "RCTL"], ["doctor"], ["trace", "socket"]], ids=" ".join)
def test_o_takes_what_would_go_to_standard_output(
    words: list[str], as_json: bool, tmp_path: Path
) -> None:
    words = [*words, "--json"] if as_json else words
    path = tmp_path / "out"
    filed, shown = run(*words, "-o", str(path)), run(*words)
    assert (filed.returncode, filed.stdout, filed.stderr) == (0, "", "")
    assert shown.stdout
    if as_json:
        json.loads(path.read_text())
    text = re.sub(r"\d+", "N", path.read_text())
    assert text.split() == re.sub(r"\d+", "N", shown.stdout).split()


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["0", "1500", "64K", "64k", "256M", "1G", "1KiB", "3MiB", "1KB", "7MB"]
)
def test_sizes_mean_what_coreutils_take_them_for(text: str, tmp_path: Path) -> None:
    path = tmp_path / "sized"
    subprocess.run([require.tool("truncate", "coreutils"), "-s", text, path], check=True)
    assert Size().convert(text, None, None) == path.stat().st_size


def test_sizes_with_a_fraction_are_whole_bytes() -> None:
    assert Size().convert("1.5K", None, None) == 1536
    assert Size().convert("0.1KB", None, None) == 100
    assert [show_size(n) for n in (0, 56, 1024, 256 << 20, 65507)] == [
        "0", "56", "1K", "256M", "65507",
    ]  # fmt: skip
    for bad in ("", "K", "1.5", "0.1K", "-1", "1e6", "12Q", "1 0", "²", "nan"):
        with pytest.raises(click.BadParameter):
            Size().convert(bad, None, None)
    with pytest.raises(click.BadParameter, match="1 to 4K"):
        Size(1, 4096).convert("5K", None, None)


# --- durations, rates, shares --------------------------------------------------------------------

WORDS: dict[type[Quantity], dict[str, float]] = {
    Duration: {"20ms": 20_000_000, "0.1ms": 100_000, "1.5s": 1_500_000_000, "2e-3": 2_000_000,
               "3": 3_000_000_000, "100us": 100_000, "70µs": 70_000, "5000000 ns": 5_000_000,
               "2min": 120_000_000_000, "1h": 3_600_000_000_000, ".5": 500_000_000},
    Rate: {"10Mbit": 10**7, "10M": 10**7, "1e9": 10**9, "2.5Gbit/s": 2_500_000_000, "9600": 9600,
           "64 kbit": 64_000, "1T": 10**12, "10mbps": 10**7},
    Share: {"2%": 0.02, "0.02": 0.02, "1e-3": 0.001, "0": 0.0, "0.1 %": 0.001},
}  # fmt: skip
NONE = ("", "x", "nan", "inf", "-1", "-1ms", "1 0", "²", "1e", "5XB", "0x10", "1MB", "1e999")
"""What none of them is."""
PARAMETERS = [
    pytest.param(command, option, id=f"{command.name} {name}")
    for command in commands()
    for name, option in options(command).items()
    if isinstance(option.type, Quantity)
]


@pytest.mark.parametrize(("command", "option"), PARAMETERS)
def test_a_quantity_takes_the_same_words_everywhere(
    command: click.Command, option: click.Option
) -> None:
    kind = option.type
    assert isinstance(kind, Quantity)
    for text, value in WORDS[type(kind)].items():
        if (kind.least or 0) <= value <= (kind.most or value) and (value or not kind.above):
            assert kind.convert(text, option, None) == value
        else:
            with pytest.raises(click.BadParameter, match="more"):
                kind.convert(text, option, None)
    for text in NONE:
        with pytest.raises(click.BadParameter):
            kind.convert(text, option, None)


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_no_option_has_a_unit_in_its_name_or_a_number_without_one(command: click.Command) -> None:
    for name, option in options(command).items():
        assert not re.search(r"[a-z]-(ns|us|ms|s|sec|seconds|bps|mbps|pct)$", name)
        assert not isinstance(option.type, click.FloatRange | click.types.FloatParamType), name
        assert not re.fullmatch(r"U?SEC.*|[MU]S|BPS", str(option.metavar)), name


def test_durations_may_have_to_be_above_a_bound() -> None:
    with pytest.raises(click.BadParameter, match="more than 0"):
        Duration(above=True).convert("0", None, None)
    with pytest.raises(click.BadParameter, match="50us or more"):
        Duration(50_000).convert("10us", None, None)
    with pytest.raises(click.BadParameter, match="more than 50%"):
        Share(0.5).convert("0.6", None, None)


@pytest.mark.parametrize(
    "bad",
    ["delay=-1ms", "jitter=-5ms", "rate=0", "rate=-1", "delay=inf", "loss=nan", "loss=101%",
     "delay_ms=1", "direction=up", "reorder_span=0", "queue_frames=x", "clock=1", "link=1"],
)  # fmt: skip
def test_an_impairment_that_cannot_be_is_refused(bad: str) -> None:
    with pytest.raises(ArgumentError, match="keys: loss"):
        parse_impair(bad)


SAMPLES = {"float": ("2%", 0.02), "int": ("7", 7), "int | None": ("7", 7), "str": ("tx", "tx")}
"""A value for each annotation, as text and as Python has it."""


def test_every_argument_of_impair_and_faults_is_a_key_of_the_command_line() -> None:
    wanted = inspect.signature(Impair).parameters
    for name in set(wanted) - {"link", "clock"}:
        text, value = SAMPLES[str(wanted[name].annotation)]
        assert parse_impair(f"{name}={text}") == {name: value}
    for field in dataclasses.fields(Faults):
        text, value = SAMPLES.get(str(field.type), ("tx-data:3", (("tx-data", 3),)))
        assert parse_faults(f"{field.name}={text}") == Faults(**{field.name: value})


def test_a_key_may_leave_out_its_unit() -> None:
    assert parse_impair("delay=5ms") == parse_impair("delay_ns=5000000") == {"delay_ns": 5_000_000}
    assert parse_impair("rate=1e9") == parse_impair("rate_bps=1Gbit") == {"rate_bps": 10**9}
    assert parse_faults("flap=5,down=1ms") == Faults(flap_ns=5_000_000_000, down_ns=1_000_000)
    assert parse_faults("irq_late=1%,irq_late_ns=2ms") == Faults(
        irq_late=0.01, irq_late_ns=2_000_000
    )


def test_a_wrong_key_is_told_the_keys_as_help_writes_them() -> None:
    with pytest.raises(
        ArgumentError, match=r"mean delay\?; keys: loss, delay, jitter, .* rate, seed"
    ):
        parse_impair("dely=20ms")
    with pytest.raises(ArgumentError, match=r"flap, down, phy_busy, phy_busy_ns, .* writeback, "):
        parse_faults("flip=5s")


@pytest.mark.parametrize(("kind", "parse"), [(IMPAIR, parse_impair), (FAULTS, parse_faults)])
def test_help_shows_keys_that_work(kind: Parsed, parse: Callable[[str], object]) -> None:
    shown = {
        option.help
        for command in commands()
        for option in options(command).values()
        if option.type is kind
    }
    assert shown
    for text in shown:
        examples = re.findall(r"[a-z_]+=[^,: ]+(?::\d+)?", str(text))
        assert len(examples) > 7
        parse(",".join(examples))


# --- guesses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["pnig"], "did you mean ping?"),
        (["vfio_user"], "did you mean vfio-user?"),
        (["demo", "--lsos", "0"], "--loss"),
        (["regs", "RCTK"], "RCTL"),
        (["up", "--addr", "10.9.0.2/24", "--link", "tpa:x"], "did you mean tap?"),
        (["up", "--addr", "10.9.0.2/24", "--link", "stak:10.9.0.1/24"], "did you mean stack?"),
        (["up", "--addr", "10.9.0.2/24", "--link", "null", "--serve", "ecko:7"], "mean echo?"),
        (["trace", "udp-sned"], "udp-send"),
    ],
)
def test_what_is_mistyped_is_guessed(words: list[str], guess: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert guess in done.stderr


def test_nothing_is_guessed_for_what_is_like_nothing() -> None:
    assert "did you mean" not in run("xyzzy").stderr


@pytest.mark.parametrize("kind", LINKS)
def test_each_kind_of_link_is_checked_before_it_is_opened(kind: str) -> None:
    bad = {"tap": "tap:an-interface-too-long", "stack": "stack:10.9.0.1", "pcap": "pcap:/none",
           "passt": "passt:--unbalanced '", "qemu": "qemu:", "null": "null:"}[kind]  # fmt: skip
    with pytest.raises(ArgumentError, match=f"^--link ['\"]{re.escape(bad[:5])}"):
        check_link(bad)


# --- completion ----------------------------------------------------------------------------------


def complete(*words: str) -> list[str]:
    """Return what bash offers for the last of `words`, by the script that click writes."""
    bash = require.tool("bash")
    line = " ".join(f"'{word}'" for word in ("e1000emu", *words))
    script = (
        'eval "$(_E1000EMU_COMPLETE=bash_source e1000emu)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}\n"
        "_e1000emu_completion e1000emu\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = dict(os.environ)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = subprocess.run(
        [bash, "-c", script], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("",), set(COMMANDS)),
        (("p",), {name for name in COMMANDS if name.startswith("p")}),
        (("trace", "udp-"), {"udp-send", "udp-recv"}),
        (("demo", "--no"), {"--no-trace"}),
        (("ping", "--link", "pa"), {"passt"}),
        (("vfio-user", "--link", "s"), {"stack:", "switch"}),
        (("regs", "RCT"), {"RCTL"}),
    ],
)
def test_bash_completes(words: tuple[str, ...], offered: set[str]) -> None:
    completed = complete(*words)
    assert set(completed) >= offered
    assert all(word.startswith(words[-1]) for word in completed)


@pytest.mark.parametrize(
    ("shell", "words"),
    [("bash", "complete -o"), ("zsh", "#compdef e1000emu"), ("fish", "complete ")],
)
def test_each_shell_gets_its_script(shell: str, words: str) -> None:
    done = run_to_end(
        [Path(sys.executable).parent / "e1000emu"], env={"_E1000EMU_COMPLETE": f"{shell}_source"}
    )
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


@pytest.mark.netns
def test_tap_devices_are_offered() -> None:
    require.tun()
    name = f"e1kc{os.getpid() % 100000}"
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    try:
        assert name in tap_devices()
        assert "lo" not in tap_devices()
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


# --- 80 columns ----------------------------------------------------------------------------------


def wide_and_narrow(*words: str) -> tuple[str, str]:
    """Return what a command of this process shows on 400 columns and on 80."""
    shown = []
    for columns in ("400", "80"):
        done = CliRunner().invoke(cli, list(words), env={"COLUMNS": columns})
        assert done.exit_code == 0, done.output
        shown.append(done.output)
    return shown[0], shown[1]


def assert_fits(wide: str, narrow: str) -> None:
    """No line is longer than 80, and no word of the wide form is missing or cut off."""
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow.replace("NAME:PORT,…", "")
    words = {word for word in re.sub(r"[\d.,]+", "N", wide).split() if len(word) <= 24}
    assert words <= set(re.sub(r"[\d.,]+", "N", narrow).split())


def test_every_register_fits_80_columns() -> None:
    for everything in ([], ["phy"], ["eeprom"], ["txdesc"]):
        assert_fits(*wide_and_narrow("regs", *everything))
    for register in titles():
        assert_fits(*wide_and_narrow("regs", register))
    for register in TABLE:
        assert_fits(*wide_and_narrow("regs", register.name, "--value", "0xffffffff"))
    assert " MTA[0..127] " in wide_and_narrow("regs")[0]


def test_doctor_fits_80_columns() -> None:
    assert_fits(*wide_and_narrow("doctor"))


TRACES = """
import functools, json, sys
from click.testing import CliRunner
from e1000emu.cli import cli, trace

measure = trace.measure

@functools.cache
def once(kind, staged):
    measured = measure(kind, staged=staged)
    for call in measured.calls:  # a busy machine's ten milliseconds are a digit more
        call.ns, call.self_ns = min(call.ns, 9_999_990), min(call.self_ns, 9_999_990)
    return measured

trace.measure = once

def shown(*words, columns):
    return CliRunner().invoke(cli, ["trace", *words], env={"COLUMNS": columns}).output

json.dump({kind: [shown(kind, columns="80"), shown(kind, columns="300"),
                  shown(kind, "--json", columns="80")] for kind in sys.argv[1:]}, sys.stdout)
"""


@pytest.fixture(scope="module")
def traces() -> dict[str, list[str]]:
    """What each kind, recorded once, shows on 80 and on 300 columns and as JSON, by one process."""
    done = subprocess.run(
        [sys.executable, "-c", TRACES, *KINDS],
        env=dict(os.environ, E1000EMU_UNCOMPILED="1"),
        stdout=subprocess.PIPE, timeout=580, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_every_trace_fits_80_columns(kind: str, traces: dict[str, list[str]]) -> None:
    narrow, wide, as_json = traces[kind]
    lines = {80: narrow.splitlines(), 300: wide.splitlines()}
    head = 3 if kind in STAGED else 2
    assert (", staged (--ordinary is not): " in lines[80][0]) == (kind in STAGED)
    assert all(".py" in line for line in lines[300][head:-3])  # the sum is below
    called = [(row["name"], row["layer"]) for row in json.loads(as_json)]
    for columns, text in lines.items():
        assert max(map(len, text)) <= columns
        assert len(text) == len(called) + head + 3
        for (name, layer), line in zip(called, text[head:-3], strict=True):
            assert {name, layer} <= set(line.split())


ORDINARY = """
import json, sys
from e1000emu.cli.trace import measure

def names(kind, staged):
    return [(call.depth, call.name) for call in measure(kind, (2, 3, 1), staged=staged).calls]

json.dump([kind for kind in sys.argv[1:] if names(kind, True) != names(kind, False)], sys.stdout)
"""


def test_a_kind_is_called_staged_if_its_ordinary_way_differs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY, *KINDS],
        env=dict(os.environ, E1000EMU_UNCOMPILED="1"),
        stdout=subprocess.PIPE, timeout=580, check=True,
    )  # fmt: skip
    assert set(json.loads(done.stdout)) == set(STAGED)


PACKETS = (Path(__file__).resolve().parents[3] / "docs" / "packets.md").read_text()


def on_the_page(kind: str, function: str = "") -> list[tuple[int, str]]:
    """The depths and names of a chain, or below the first line of a function there, with those
    that its links lead to."""
    _, chain, links = PACKETS.split(f"\n### {kind}\n")[1].split("\n#")[0].split("```")
    calls: list[tuple[int, str]] = []
    start = None if function else -1
    for line in chain.splitlines()[1:]:
        line, _, earlier = line.partition("  ... as in ")
        name = line.partition("  (")[0].lstrip()
        depth = len(line) - len(line.lstrip())
        if start is None:
            start = depth if name == function else None
            continue
        if depth <= start:
            break
        calls.append((depth - start - 1, name))
        if earlier:
            assert f"[{earlier}](#{earlier})" in links
            calls += [(depth - start + deep, called) for deep, called in on_the_page(earlier, name)]
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_shows_what_the_command_shows(kind: str, traces: dict[str, list[str]]) -> None:
    """docs/packets.md, whoever wrote it last: the same calls in the same order."""
    assert on_the_page(kind) == [(row["depth"], row["name"]) for row in json.loads(traces[kind][2])]
    section = PACKETS.split(f"\n### {kind}\n")[1]
    assert section.split("```text")[0].strip().startswith("Staged: ") == (kind in STAGED)


def test_trace_of_the_compiled_stack_fits_80_columns() -> None:
    done = run("trace", "socket", env=dict(os.environ, COLUMNS="80"))
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.skipif(not COMPILED, reason="is about a process that has imported the compiled stack")
def test_trace_where_the_compiled_stack_is_imported_already() -> None:
    done = CliRunner().invoke(cli, ["trace", "socket"])
    assert "import stack with E1000EMU_UNCOMPILED=1" in str(done.exception)


def test_the_demo_fits_80_columns(tmp_path: Path) -> None:
    for extra in ((), ("--no-trace",)):
        done = run(
            "demo", "--bytes", "100K", "--udp", "20", *extra,
            cwd=tmp_path, env=dict(os.environ, COLUMNS="80"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
        assert "…" not in done.stdout.replace("SHA-256", "").replace("… ok", "")
        assert ("e1000_xmit_frame" in done.stdout) == (not extra)
        for word in ("frames", "packets/s", "Gbit/s", "ns/packet", "wall", "virtual", "layer"):
            assert word in done.stdout
    report = run("demo", "--bytes", "100K", "--udp", "20", "--no-trace", "--json", cwd=tmp_path)
    assert json.loads(report.stdout)["sent"] == []


@pytest.mark.parametrize("name", typed())
def test_help_fits_80_columns(name: str) -> None:
    done = CliRunner().invoke(cli, [*name.split(), "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 80


@pytest.mark.parametrize("name", typed())
def test_help_says_what_the_exit_status_means(name: str) -> None:
    done = CliRunner().invoke(cli, [*name.split(), "--help"])
    section = (
        done.output.partition("\nExit status:\n")[2] or done.output.partition("Exit status:")[2]
    )
    statuses = re.findall(r"^ +(\d|other)  +[A-Z]", section, re.MULTILINE)
    assert statuses[:3] == ["0", "1", "2"]
    assert statuses[3:] in ([], ["other"])
    assert set(EXIT_STATUSES) <= set(typed())


# --- quick to start ------------------------------------------------------------------------------


def test_ping_imports_nothing_that_it_does_not_use() -> None:
    """Each of these costs a start as much as a driver's probe does."""
    script = (
        "import sys\n"
        "from e1000emu.cli import cli\n"
        "try: cli.main(sys.argv[1:], standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'cffi', 'http', 'numpy', 'rich', 'scapy', 'ssl', 'unicorn'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "ping", "-c", "1", "-W", "0.01", "10.9.0.1",
         "--link", "null", "--addr", "10.9.0.2/24"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "1 packets transmitted" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_commands_are_imported_only_when_used() -> None:
    done = run_to_end(
        [sys.executable, "-c", "import sys, e1000emu.cli\nprint(*sorted(sys.modules))"], check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {f"e1000emu.cli.{name.replace('-', '_')}" for name in COMMANDS}
    assert not loaded & {"rich", "numpy", "asyncio", "stack"}


def test_each_command_has_its_module() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"e1000emu.cli.{name.replace('-', '_')}")
        assert isinstance(module.command, click.Command)
