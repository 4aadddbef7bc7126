"""The classes and tests of test_socket that run over the stack, and reasons for the others.

`docs/generate.py` writes docs/cpython.md from it. Names are those of CPython 3.11 to 3.13; a class
missing from a version is ignored there.
"""

from __future__ import annotations

CLASSES: dict[str, tuple[str, ...]] = {
    "Socket objects, addresses, module functions": (
        "GeneralModuleTests",
        "CmsgMacroTests",
        "TestExceptions",
        "InheritanceTest",
        "ContextManagersTest",
        "BufferIOTest",
    ),
    "TCP": (
        "BasicTCPTest",
        "BasicTCPTest2",
        "TCPCloserTest",
        "NonBlockingTCPTests",
        "TCPTimeoutTest",
        "SendmsgTCPTest",
        "RecvmsgTCPTest",
        "RecvmsgIntoTCPTest",
        "InterruptedRecvTimeoutTest",
        "InterruptedSendTimeoutTest",
    ),
    "UDP": (
        "BasicUDPTest",
        "UDPTimeoutTest",
        "SendmsgUDPTest",
        "RecvmsgUDPTest",
        "RecvmsgIntoUDPTest",
    ),
    "IPv6": (
        "SendmsgUDP6Test",
        "RecvmsgUDP6Test",
        "RecvmsgIntoUDP6Test",
        "RecvmsgRFC3542AncillaryUDP6Test",
        "RecvmsgIntoRFC3542AncillaryUDP6Test",
    ),
    "Files over sockets": (
        "FileObjectClassTestCase",
        "UnbufferedFileObjectClassTestCase",
        "LineBufferedFileObjectClassTestCase",
        "SmallBufferedFileObjectClassTestCase",
        "UnicodeReadFileObjectClassTestCase",
        "UnicodeWriteFileObjectClassTestCase",
        "UnicodeReadWriteFileObjectClassTestCase",
        "SendfileUsingSendTest",
    ),
    "Servers and clients": (
        "NetworkConnectionNoServer",
        "NetworkConnectionAttributesTest",
        "NetworkConnectionBehaviourTest",
        "CreateServerTest",
        "CreateServerFunctionalTest",
    ),
    "AF_UNIX": (
        "TestUnixDomain",
        "TestLinuxAbstractNamespace",
        "BasicSocketPairTest",
        "SendmsgUnixStreamTest",
        "RecvmsgUnixStreamTest",
        "RecvmsgIntoUnixStreamTest",
        "RecvmsgSCMRightsStreamTest",
        "RecvmsgIntoSCMRightsStreamTest",
        "SendRecvFdsTests",
    ),
}
"""Classes that run, by subject."""

NO_FAMILY = "a family or protocol that the stack does not have"
CLASSES_LEFT_OUT: dict[str, str] = dict.fromkeys(
    (
        "BasicCANTest",
        "CANTest",
        "ISOTPTest",
        "J1939Test",
        "BasicRDSTest",
        "RDSTest",
        "BasicQIPCRTRTest",
        "BasicVSOCKTest",
        "ThreadedVSOCKSocketStreamTest",
        "BasicBluetoothTest",
        "BasicHyperVTest",
        "BasicUDPLITETest",
        "SendmsgUDPLITETest",
        "RecvmsgUDPLITETest",
        "RecvmsgIntoUDPLITETest",
        "SendmsgUDPLITE6Test",
        "RecvmsgUDPLITE6Test",
        "RecvmsgIntoUDPLITE6Test",
        "RecvmsgRFC3542AncillaryUDPLITE6Test",
        "RecvmsgIntoRFC3542AncillaryUDPLITE6Test",
        "UDPLITETimeoutTest",
        "SendmsgSCTPStreamTest",
        "RecvmsgSCTPStreamTest",
        "RecvmsgIntoSCTPStreamTest",
        "TIPCTest",
        "TIPCThreadableTest",
        "LinuxKernelCryptoAPI",
    ),
    NO_FAMILY,
) | {
    "SendfileUsingSendfileTest": "`os.sendfile` writes to the descriptor, which carries no data; "
    "`Socket.sendfile` reads and sends (SendfileUsingSendTest)",
    "NonblockConstantTest": "looks for O_NONBLOCK at the descriptor, which is always so: it "
    "carries no data",
    "PurePythonSocketPairTest": "a function of the standard library's that makes sockets of the "
    "kernel",
    "TestSocketSharing": "Windows'",
    "TestMacOSTCPFlags": "macOS's",
    "TestMSWindowsTCPFlags": "Windows'",
}
"""Classes that do not run, each with its reason."""

MODULE = "about the standard library's own module; no socket is asked for anything"
PRIVATE = "a private name of the standard library's class"
TAKEN_UP = "another object on the same descriptor: `fileno` takes up what `detach` gave away only"
SINCE = {"test_socket_type": (3, 13)}
"""Tests that older Pythons do not have."""
LEFT_OUT: dict[str, str] = (
    dict.fromkeys(
        (
            "testCrucialConstants",
            "testCrucialIpProtoConstants",
            "testGetServBy",
            "testIPv4_inet_aton_fourbytes",
            "testIPv4toString",
            "testIPv6toString",
            "testNtoH",
            "testNtoHErrors",
            "testSocketError",
            "testStringToIPv4",
            "testStringToIPv6",
            "test_SocketType_is_socketobject",
            "test_addressfamily_enum",
            "test_addressinfo_enum",
            "test_csocket_repr",
            "test_getfqdn_filter_localhost",
            "test_msgflag_enum",
            "test_socketkind_enum",
            "test_socket_type",
            "testExceptionTree",
        ),
        MODULE,
    )
    | dict.fromkeys(("test_socket_methods", "test__sendfile_use_sendfile"), PRIVATE)
    | dict.fromkeys(
        (
            "testCloseException",
            "testFromFd",
            "test_setblocking_invalidfd",
            "test_socket_close",
            "test_socket_fileno",
            "test_unknown_socket_family_repr",
        ),
        TAKEN_UP,
    )
    | dict.fromkeys(
        ("testSetBlocking", "testSetBlocking_overflow"),
        "looks for O_NONBLOCK at the descriptor, which is always so: it carries no data",
    )
    | {
        "SendfileUsingSendTest.testNonRegularFile": PRIVATE,
        "test_create_connection_timeout": "replaces the class in the standard library's module",
        "test_dealloc_warn": "a Socket that nobody holds stays open: its number is one of the "
        "host's table, by which others may know it (`from_host_fd`)",
        "test_idna": "asks servers on the Internet",
        "test_sethostname": "changes the name of the machine",
        "test_str_for_enums": "`family` and `type` are plain ints",
        "testRefCountGetNameInfo": "counts references while a traceback holds them",
        "testSendtoErrors": "compares the words of TypeErrors",
    }
)
"""Tests of CLASSES that do not run, with the reason; `Class.test`, or `test` in every class."""


def classes() -> tuple[str, ...]:
    """The names of CLASSES."""
    return tuple(name for names in CLASSES.values() for name in names)
