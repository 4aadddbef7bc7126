// SPDX-License-Identifier: Apache-2.0
//
// Two hosts in a simulator of this program. Its events are in a heap, and its time is the time of the
// event that runs. The library asks that time and says when it has something to do, so a timer of TCP
// is one event more. A client on one host sends a file to a server on the other; the link between them
// has a delay of 20 ms and loses a frame of fifty. The program looks at the transfer every 100 ms.
//
//     e1000emu capi --stack --out build/cstack
//     rustc --edition 2021 two_hosts.rs -L build/cstack -C link-arg=-Wl,-rpath,$PWD/build/cstack

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::raw::{c_char, c_int, c_void};
use std::ptr::null_mut;

const MS: u64 = 1_000_000;
const FILE_BYTES: usize = 300_000;
const LOOK_EVERY: u64 = 100 * MS;
const AF_INET: u16 = 2;
const SOCK_STREAM: c_int = 1;
const SOCK_NONBLOCK: c_int = 0o4000;
const SHUT_WR: c_int = 1;
const EAGAIN: i32 = 11;
const EINPROGRESS: i32 = 115;

#[repr(C)]
struct Time {
    now: extern "C" fn(*mut c_void) -> u64,
    due: extern "C" fn(*mut c_void, u64),
    data: *mut c_void,
}

#[repr(C)]
struct Link {
    delay_ns: u64,
    rate_bps: u64,
    loss: f64,
    seed: u32,
    mtu: u32,
}

#[repr(C)]
struct SockaddrIn {
    family: u16,
    port: [u8; 2],
    addr: [u8; 4],
    zero: [u8; 8],
}

#[link(name = "e1000stack")]
extern "C" {
    fn e1000stack_last_error() -> *const c_char;
    fn e1000stack_callback_clock(time: *const Time) -> c_int;
    fn e1000stack_run(clock: c_int) -> c_int;
    fn e1000stack_clock_close(clock: c_int) -> c_int;
    fn e1000stack_host(clock: c_int, name: *const c_char) -> c_int;
    fn e1000stack_link(a: c_int, name_a: *const c_char, b: c_int, name_b: *const c_char, o: *const Link) -> c_int;
    fn e1000stack_addr(host: c_int, name: *const c_char, address: *const c_char) -> c_int;
    fn e1000stack_socket(host: c_int, domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn e1000stack_bind(host: c_int, fd: c_int, addr: *const SockaddrIn, bytes: u32) -> c_int;
    fn e1000stack_listen(host: c_int, fd: c_int, backlog: c_int) -> c_int;
    fn e1000stack_connect(host: c_int, fd: c_int, addr: *const SockaddrIn, bytes: u32) -> c_int;
    fn e1000stack_accept4(host: c_int, fd: c_int, addr: *mut SockaddrIn, bytes: *mut u32, flags: c_int) -> c_int;
    fn e1000stack_read(host: c_int, fd: c_int, data: *mut u8, bytes: usize) -> isize;
    fn e1000stack_write(host: c_int, fd: c_int, data: *const u8, bytes: usize) -> isize;
    fn e1000stack_shutdown(host: c_int, fd: c_int, how: c_int) -> c_int;
}

fn text(bytes: &'static [u8]) -> *const c_char {
    bytes.as_ptr().cast()
}

/// A function's value, or what it says is wrong.
fn check(value: impl Into<i64>) -> io::Result<i64> {
    let value = value.into();
    if value >= 0 {
        return Ok(value);
    }
    let error = io::Error::last_os_error();
    let text = unsafe { CStr::from_ptr(e1000stack_last_error()) }.to_string_lossy();
    Err(io::Error::new(error.kind(), format!("{error}: {text}")))
}

/// The same, but None where the call would have to wait.
fn tried(value: isize) -> io::Result<Option<usize>> {
    match io::Error::last_os_error().raw_os_error() {
        Some(EAGAIN | EINPROGRESS) if value < 0 => Ok(None),
        _ => check(value as i64).map(|n| Some(n as usize)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Look,
    Library,
}

/// What the library sees of the simulator.
#[derive(Default)]
struct Scheduler {
    now: Cell<u64>,
    events: RefCell<BinaryHeap<Reverse<(u64, Event)>>>,
}

impl Scheduler {
    fn at(&self, when: u64, event: Event) {
        self.events.borrow_mut().push(Reverse((when, event)));
    }
}

extern "C" fn now(data: *mut c_void) -> u64 {
    unsafe { &*(data as *const Scheduler) }.now.get()
}

/// An event that has become too many stays in the heap: e1000stack_run then finds nothing to do.
extern "C" fn due(data: *mut c_void, when: u64) {
    if when != u64::MAX {
        unsafe { &*(data as *const Scheduler) }.at(when, Event::Library);
    }
}

/// One side of the transfer: it does what it can without waiting, and comes back.
struct Side {
    host: c_int,
    fd: c_int,
    done: usize,
}

impl Side {
    fn send(&mut self) -> io::Result<()> {
        let data = [0u8; 8192];
        while self.done < FILE_BYTES {
            let left = data.len().min(FILE_BYTES - self.done);
            match tried(unsafe { e1000stack_write(self.host, self.fd, data.as_ptr(), left) })? {
                Some(n) => self.done += n,
                None => return Ok(()),
            }
            if self.done == FILE_BYTES {
                check(unsafe { e1000stack_shutdown(self.host, self.fd, SHUT_WR) })?;
            }
        }
        Ok(())
    }

    /// True at the end of the file.
    fn receive(&mut self, listener: c_int) -> io::Result<bool> {
        if self.fd < 0 {
            let fd = unsafe { e1000stack_accept4(self.host, listener, null_mut(), null_mut(), SOCK_NONBLOCK) };
            match tried(fd as isize)? {
                Some(fd) => self.fd = fd as c_int,
                None => return Ok(false),
            }
        }
        let mut data = [0u8; 8192];
        loop {
            match tried(unsafe { e1000stack_read(self.host, self.fd, data.as_mut_ptr(), data.len()) })? {
                Some(0) => return Ok(true),
                Some(n) => self.done += n,
                None => return Ok(false),
            }
        }
    }
}

fn main() -> io::Result<()> {
    let scheduler = Scheduler::default();
    let data = &scheduler as *const Scheduler as *mut c_void;
    let time = Time { now, due, data };
    let wire = Link { delay_ns: 20 * MS, rate_bps: 0, loss: 0.02, seed: 7, mtu: 0 };
    let there = SockaddrIn { family: AF_INET, port: 5000u16.to_be_bytes(), addr: [10, 0, 0, 2], zero: [0; 8] };
    let bytes = size_of::<SockaddrIn>() as u32;
    let eth0 = text(b"eth0\0");
    let (clock, mut client, mut server, listener);
    unsafe {
        clock = check(e1000stack_callback_clock(&time))? as c_int;
        let a = check(e1000stack_host(clock, text(b"a\0")))? as c_int;
        let b = check(e1000stack_host(clock, text(b"b\0")))? as c_int;
        check(e1000stack_link(a, eth0, b, eth0, &wire))?;
        check(e1000stack_addr(a, eth0, text(b"10.0.0.1/24\0")))?;
        check(e1000stack_addr(b, eth0, text(b"10.0.0.2/24\0")))?;
        let kind = SOCK_STREAM | SOCK_NONBLOCK;
        listener = check(e1000stack_socket(b, AF_INET.into(), kind, 0))? as c_int;
        check(e1000stack_bind(b, listener, &there, bytes))?;
        check(e1000stack_listen(b, listener, 1))?;
        client = Side { host: a, fd: check(e1000stack_socket(a, AF_INET.into(), kind, 0))? as c_int, done: 0 };
        server = Side { host: b, fd: -1, done: 0 };
        tried(e1000stack_connect(a, client.fd, &there, bytes) as isize)?;
    }
    scheduler.at(LOOK_EVERY, Event::Look);
    loop {
        let next = scheduler.events.borrow_mut().pop();
        let Reverse((when, event)) = next.expect("a look is always due");
        scheduler.now.set(when.max(scheduler.now.get()));
        match event {
            Event::Look => {
                println!("{:4} ms: {} bytes", when / MS, server.done);
                scheduler.at(when + LOOK_EVERY, Event::Look);
            }
            Event::Library => {
                check(unsafe { e1000stack_run(clock) })?;
                client.send()?;
                if server.receive(listener)? {
                    break;
                }
            }
        }
    }
    println!("{} bytes in {} ms", server.done, scheduler.now.get() / MS);
    check(unsafe { e1000stack_clock_close(clock) })?;
    assert_eq!(server.done, FILE_BYTES);
    Ok(())
}
