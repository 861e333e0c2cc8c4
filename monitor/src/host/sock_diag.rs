//! Socket diagnosis over netlink for TCP, to which the census falls back: whether it answers, and its lists.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/netlink.h, linux/inet_diag.h).
#[repr(C)]
struct Request {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: u32,
    /// `struct inet_diag_sockid`; no socket in particular.
    id: [u8; 48],
}

const _: () = assert!(size_of::<Request>() == 16 + 56);

/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Listeners alone: the shortest list that a host has.
const LISTEN: u32 = 1 << synfin_ebpf::abi::state::LISTEN;
const ANSWER_TIMEOUT_SECONDS: libc::time_t = 2;

/// Asks the kernel for the listening sockets of this namespace and reads the start of its answer.
pub fn probe_sock_diag() -> io::Result<()> {
    let socket = ask(synfin_ebpf::abi::AF_INET, LISTEN)?;
    let mut answer = [0_u8; 16 * 1024];
    let length = receive(&socket, &mut answer)?;
    parse_answer(&answer[..length])
}

/// Hands each TCP socket of a family in one of `states` (bits by number) to `handle`, as `struct inet_diag_msg` with its attributes:
/// those of the network namespace that the calling thread is in.
///
/// # Errors
/// Those of the socket, and what the kernel answers.
pub fn dump_sock_diag(family: u8, states: u32, handle: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let socket = ask(family, states)?;
    // The kernel fills at most 32 KiB at once (netlink_dump).
    let mut answer = vec![0; 64 * 1024];
    loop {
        let length = receive(&socket, &mut answer)?;
        if take_messages(&answer[..length], handle)? == Part::Last {
            return Ok(());
        }
    }
}

/// Sends the request for a list.
fn ask(family: u8, states: u32) -> io::Result<OwnedFd> {
    let socket = open()?;
    let request = Request {
        len: size_of::<Request>() as u32,
        kind: SOCK_DIAG_BY_FAMILY,
        flags: (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
        sequence: 1,
        port: 0,
        family,
        protocol: synfin_ebpf::abi::IPPROTO_TCP as u8,
        extensions: 0,
        padding: 0,
        states,
        id: [0; 48],
    };
    // SAFETY: `request` outlives the call, and its size is given.
    let sent = unsafe {
        libc::send(socket.as_raw_fd(), std::ptr::from_ref(&request).cast(), size_of::<Request>(), libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn receive(socket: &OwnedFd, answer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: `answer` outlives the call, and its size is given.
        let received = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        match usize::try_from(received).map_err(|_| io::Error::last_os_error()) {
            // A signal: with a time limit the call is not begun again by itself.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            answered => return answered,
        }
    }
}

/// Whether more of a list is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    More,
    Last,
}

/// The messages of one answer.
fn take_messages(mut bytes: &[u8], handle: &mut impl FnMut(&[u8])) -> io::Result<Part> {
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let message = bytes.get(..length).filter(|_| length >= HEADER);
        let message = message.ok_or_else(|| io::Error::other("an answer that was cut"))?;
        if kind != SOCK_DIAG_BY_FAMILY {
            return parse_answer(message).map(|()| Part::Last);
        }
        handle(&message[HEADER..]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Part::More)
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let timeout = libc::timeval { tv_sec: ANSWER_TIMEOUT_SECONDS, tv_usec: 0 };
    // SAFETY: `timeout` outlives the call, and its size is given.
    let answer = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            std::ptr::from_ref(&timeout).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    match answer {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The first message of an answer: sockets or the end of the list are well, an error says itself.
fn parse_answer(bytes: &[u8]) -> io::Result<()> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    let kind = bytes.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match kind.map(i32::from) {
        Some(kind) if kind == i32::from(SOCK_DIAG_BY_FAMILY) => Ok(()),
        // The end of a list that failed carries the error, as a message of the kind error does (netlink(7)).
        Some(libc::NLMSG_DONE | libc::NLMSG_ERROR) => match word(16) {
            Some(0) | None => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        },
        Some(_) | None => Err(io::Error::other("an answer of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[i32]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn the_first_message_tells_whether_it_works() {
        let check = |bytes: &[u8], errno: Option<Option<i32>>| {
            assert_eq!(parse_answer(bytes).err().map(|error| error.raw_os_error()), errno);
        };
        check(&message(20, &[1, 2]), None);
        check(&message(3, &[0]), None);
        check(&message(2, &[0]), None);
        check(&message(3, &[-libc::ENOENT]), Some(Some(libc::ENOENT)));
        check(&message(2, &[-libc::EPERM]), Some(Some(libc::EPERM)));
        check(&message(99, &[0]), Some(None));
        check(&[], Some(None));
    }

    #[test]
    fn a_list_goes_on_until_its_end_is_told() {
        let sized = |kind, body: &[i32]| {
            let mut bytes = message(kind, body);
            let length = bytes.len() as u32;
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes
        };
        let check = |bytes: &[u8], part, sockets: &[usize]| {
            let mut found = Vec::new();
            let said =
                take_messages(bytes, &mut |message| found.push(message.len())).map_err(|error| error.raw_os_error());
            assert_eq!((said, found.as_slice()), (part, sockets));
        };
        let two = [sized(20, &[1, 2]), sized(20, &[3])].concat();
        check(&two, Ok(Part::More), &[8, 4]);
        check(&[two.as_slice(), &sized(3, &[0])].concat(), Ok(Part::Last), &[8, 4]);
        check(&sized(3, &[-libc::ENOENT]), Err(Some(libc::ENOENT)), &[]);
        check(&two[..two.len() - 1], Err(None), &[8]);
    }

    #[test]
    fn the_running_kernel_answers() {
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        probe_sock_diag().unwrap();
    }
}
