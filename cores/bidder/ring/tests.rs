//! The ring on the kernel that runs the tests; where io_uring is forbidden there is nothing to see.
use super::*;

#[test]
fn what_completions_are_named_after_comes_back() {
    for sock in [Sock::Client(0), Sock::Client(65_535), Sock::Dsp(0), Sock::Dsp(1_048_575)] {
        for (op, own) in [(READ, 0), (SEND, 0xff_ffff), (QUIET, 7)] {
            assert_eq!(named(name(op, own, Some(sock))), (op, own, sock));
            assert_eq!(named(name(op, own, Some(sock)) | 0xf << 56), (op, own, sock), "whatever the turn");
        }
    }
}

/// Where io_uring is forbidden there is nothing to try; the tests of the program say what happens then.
#[test]
fn this_kernel_does_what_is_taken_for_granted() {
    match trial() {
        Ok(()) => {}
        Err(e) => assert_ne!(e.raw_os_error(), Some(libc::EOPNOTSUPP), "it does otherwise"),
    }
}

/// More than the submission queue holds, in one turn.
#[test]
fn a_turn_may_start_more_than_the_queue_holds() {
    let Ok((mut ring, mut received)) = Ring::new(1, 2) else { return };
    let door = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let near = std::net::TcpStream::connect(door.local_addr().expect("an address")).expect("connect");
    let (far, _) = door.accept().expect("accept");
    let (near, far) = (ring.install(near.into()).expect("room"), ring.install(far.into()).expect("room"));
    ring.read(Sock::Dsp(0), far);
    let sends = 3 * SQ_ENTRIES as usize;
    for i in 0..sends {
        ring.send(Sock::Client(0), near, vec![i as u8]);
    }
    let (mut events, mut got, mut taken) = (Vec::new(), Vec::new(), 0);
    while got.len() < sends {
        ring.wait(true).expect("a ring");
        ring.take(&mut events, |_, _| taken += 1);
        for event in events.drain(..) {
            match event {
                Event::Read(_, lent) => {
                    got.extend_from_slice(received.bytes(&lent));
                    received.give_back(lent);
                }
                Event::ReadEnded(_, End::Again) => ring.read(Sock::Dsp(0), far),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(taken, sends);
    assert!(got.iter().enumerate().all(|(i, b)| *b == i as u8), "in order");
}

/// A send that got somewhere ends with what it did when it is cancelled, and was started once more: its socket never
/// closed.
#[test]
fn a_send_that_got_somewhere_ends_when_it_is_told_to() {
    use std::io::Read;
    let Ok((mut ring, _received)) = Ring::new(1, 2) else { return };
    let (near, mut far) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    far.set_nonblocking(true).expect("non-blocking");
    let near = ring.install(near.into()).expect("room");
    ring.send(Sock::Client(0), near, vec![0; 4 << 20]);
    let (mut events, mut read, mut stuck, mut told) = (Vec::new(), 0, false, false);
    loop {
        ring.beat(true);
        ring.wait(true).expect("a ring");
        ring.take(&mut events, |_, _| panic!("4 MB are not taken at once"));
        for event in events.drain(..) {
            match event {
                Event::Sent(_, Sent::Stuck) => stuck = true,
                Event::Sent(_, Sent::Broken(_)) => {
                    assert!(told, "broken by itself");
                    return;
                }
                Event::Beat => {}
                other => panic!("{other:?}"),
            }
        }
        if stuck && !told {
            // More than the buffer of the socket had: some of the rest was sent too.
            read += far.read(&mut [0; 65_536]).unwrap_or(0);
            if read > 1 << 20 {
                ring.cancel(near);
                told = true;
            }
        }
    }
}
