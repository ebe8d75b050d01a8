//! The life of a process without threads: what cores and flush say is put into their rings by hand.
use super::*;
use crate::wiring::{Wiring, wire};
use outcry::{
    budget::{
        AccountId,
        event::{Event, Level, What},
    },
    config::Config,
    dsp::quota::{PERIOD_NS, Quotas},
    limits::CONTROL_TO_FLUSH_SLOTS,
};
use std::sync::mpsc::channel;

const S: u64 = 1_000_000_000;

fn at(boot_ns: u64) -> Now {
    Now { boot_ns, wall_offset_ns: 0 }
}

struct Machine {
    role: ControlRole,
    handle: Arc<ControlHandle>,
    bidders: Vec<crate::wiring::BidderEnds>,
    flush: crate::wiring::FlushEnds,
}

fn machine(cores: usize) -> Machine {
    let Wiring { bidders, flush, control, .. } = wire(cores).unwrap();
    let handle = ControlHandle::new(cores, 2);
    let mut slots = DspSlots::new(2);
    slots.assign(["a", "b"]);
    let role = ControlRole::new(control, Arc::clone(&handle), slots, (1, 0), 5_000, at(0)).unwrap();
    Machine { role, handle, bidders, flush }
}

fn ready(cores: usize) -> Machine {
    let mut m = machine(cores);
    for b in &mut m.bidders {
        b.to_control.push(FromCore::Ready).unwrap();
    }
    m.role.turn(at(0));
    assert_eq!(m.handle.state(), State::Ready);
    m
}

fn core_config(dsps: &[&str]) -> Box<CoreConfig> {
    let dsp = |name: &&str| format!("[[dsp]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:1/\"\n");
    let dsps: String = dsps.iter().map(dsp).collect();
    crate::lab::by_hand::core_config(&format!("stop_ms = 100\n[record]\ndurability = \"none\"\n{dsps}"), 2)
}

fn drain(m: &mut Machine, core: usize, unfinished: u32) {
    assert!(matches!(m.bidders[core].from_control.pop(), Ok(ToCore::Drain)));
    m.bidders[core].to_control.push(FromCore::Drained { unfinished }).unwrap();
}

#[test]
fn ready_is_when_the_last_core_is() {
    let mut m = machine(2);
    m.role.turn(at(0));
    m.bidders[1].to_control.push(FromCore::Ready).unwrap();
    m.role.turn(at(0));
    assert_eq!(m.handle.state(), State::Starting);
    m.bidders[0].to_control.push(FromCore::Ready).unwrap();
    m.role.turn(at(0));
    assert!(m.handle.ready());
}

/// A host that moves twice before a core takes it: it hears of the last place, behind the configuration that names the host. A
/// configuration made later knows of it already.
#[test]
fn hosts_that_moved_follow_their_configuration() {
    let mut m = ready(2);
    let moved = |last: u8| {
        Looked::Moved(Moved {
            host: "dsp.example".to_owned(),
            addresses: vec![std::net::IpAddr::from([10, 0, 0, last])],
        })
    };
    m.role.reload(Ok(vec![core_config(&["a"]), core_config(&["a"])]), at(S)).unwrap();
    assert!(m.role.looked(moved(1)).is_some_and(|line| line.contains("10.0.0.1")));
    assert!(m.role.looked(moved(2)).is_some());
    assert!(m.role.looked(Looked::Found).is_none());
    m.role.turn(at(S));
    for bidder in &mut m.bidders {
        assert!(matches!(bidder.from_control.pop(), Ok(ToCore::Snapshot(_))));
        let Ok(ToCore::Moved(moved)) = bidder.from_control.pop() else { panic!("the place") };
        assert_eq!(moved.addresses, [std::net::IpAddr::from([10, 0, 0, 2])]);
        assert!(bidder.from_control.pop().is_err());
    }
    m.role.looked(moved(3));
    m.role.reload(Ok(vec![core_config(&["a"]), core_config(&["a"])]), at(S)).unwrap();
    m.role.turn(at(S));
    for bidder in &mut m.bidders {
        assert!(matches!(bidder.from_control.pop(), Ok(ToCore::Snapshot(_))));
        assert!(bidder.from_control.pop().is_err(), "it knows");
    }
}

#[test]
fn flush_is_stopped_after_the_last_core_and_all_is_clean() {
    let mut m = ready(2);
    m.role.signal(at(S));
    assert_eq!(m.handle.state(), State::Draining);
    m.role.turn(at(S));
    drain(&mut m, 0, 0);
    m.role.turn(at(S));
    assert!(m.flush.from_control.pop().is_err(), "core 1 may still send");
    drain(&mut m, 1, 0);
    m.bidders.clear(); // threads that have said so may go
    m.role.turn(at(S));
    assert!(matches!(m.flush.from_control.pop(), Ok(ControlToFlush::Stop { .. })));
    assert_eq!(m.role.stopped(at(S)), None);
    m.flush.to_control.push(FlushToControl::Stopped).unwrap();
    m.role.turn(at(S));
    let reason = m.role.stopped(at(S)).unwrap();
    assert!(reason.clean() && reason.cause == StopCause::Signal, "{reason:?}");
}

#[test]
fn a_stop_ends_at_its_limit_or_at_a_second_signal() {
    for hasten in [false, true] {
        let mut m = ready(2);
        m.role.signal(at(S));
        m.role.turn(at(S));
        drain(&mut m, 0, 3);
        m.role.turn(at(2 * S));
        assert_eq!(m.role.stopped(at(6 * S + ENDING_NS - 1)), None);
        if hasten {
            m.role.signal(at(2 * S));
        }
        let reason = m.role.stopped(at(if hasten { 2 * S } else { 6 * S + ENDING_NS })).unwrap();
        assert_eq!((reason.unfinished, reason.cores_left, reason.hastened), (3, 1, hasten));
        assert!(!reason.clean());
    }
}

#[test]
fn a_core_that_takes_all_of_its_time_leaves_flush_its_own() {
    let mut m = ready(1);
    m.role.signal(at(S));
    m.role.turn(at(S));
    drain(&mut m, 0, 0);
    m.role.turn(at(6 * S));
    assert_eq!(m.role.stopped(at(6 * S)), None, "flush was not even told");
    assert!(matches!(m.flush.from_control.pop(), Ok(ControlToFlush::Stop { .. })));
    m.flush.to_control.push(FlushToControl::Stopped).unwrap();
    m.role.turn(at(7 * S));
    assert!(m.role.stopped(at(7 * S)).unwrap().clean());
}

#[test]
fn a_lost_core_takes_the_others_down_in_order() {
    for panicked in [false, true] {
        let mut m = ready(3);
        if panicked {
            m.bidders[1].to_control.push(FromCore::Panicked).unwrap();
        }
        drop(m.bidders.remove(1));
        m.role.turn(at(S));
        assert_eq!((m.handle.state(), m.handle.healthy()), (State::Failed, false));
        m.role.turn(at(S));
        drain(&mut m, 0, 0);
        drain(&mut m, 1, 0); // that is core 2
        m.role.turn(at(S));
        m.flush.to_control.push(FlushToControl::Stopped).unwrap();
        m.role.turn(at(S));
        let reason = m.role.stopped(at(S)).unwrap();
        assert_eq!((reason.cause, reason.cores_left, reason.clean()), (StopCause::CoreLost(1), 0, false));
    }
}

#[test]
fn a_core_lost_while_draining_is_no_clean_stop() {
    let mut m = ready(1);
    m.role.signal(at(S));
    m.role.turn(at(S));
    m.bidders.clear();
    m.role.turn(at(S));
    assert_eq!((m.handle.state(), m.role.stop_cause()), (State::Failed, Some(StopCause::CoreLost(0))));
}

#[test]
fn a_lost_flush_is_noticed() {
    let Machine { mut role, handle, bidders, flush } = ready(1);
    drop(flush);
    role.turn(at(S));
    assert_eq!((handle.state(), role.stop_cause()), (State::Failed, Some(StopCause::FlushLost)));
    drop(bidders);
}

#[test]
fn an_order_to_drain_waits_for_room() {
    let mut m = ready(1);
    while m.role.ends.lanes[0].to_core.push(ToCore::Drain).is_ok() {}
    m.role.signal(at(S));
    assert_eq!(m.role.turn(at(S)), 0);
    m.bidders[0].from_control.pop().unwrap();
    assert_eq!(m.role.turn(at(S)), 1);
}

#[test]
fn a_reload_reaches_every_core_with_rows_that_last() {
    let mut m = ready(2);
    assert_eq!(m.role.next_config_id(), 2);
    assert_eq!(m.role.reload(Ok(vec![core_config(&["b", "c"]), core_config(&["b", "c"])]), at(0)), Ok(2));
    m.role.turn(at(S));
    for b in &mut m.bidders {
        let Ok(ToCore::Snapshot(c)) = b.from_control.pop() else { panic!("no snapshot") };
        let rows: Vec<u16> = (0..3).map(|i| c.slot(outcry::units::DspIx(i)).0).collect();
        assert_eq!(rows, [1, 2, u16::MAX]);
        b.to_control.push(FromCore::Retired(c)).unwrap();
    }
    assert_eq!(m.role.turn(at(S)), 2);
    assert_eq!(m.handle.dsp_names(), ["a", "b"]);
}

#[test]
fn the_newest_configuration_wins_when_a_core_is_behind() {
    let mut m = ready(1);
    while m.role.ends.lanes[0].to_core.push(ToCore::Drain).is_ok() {}
    for dsps in [&["a"], &["b"]] {
        m.role.reload(Ok(vec![core_config(dsps)]), at(0)).unwrap();
        m.role.turn(at(S));
    }
    while m.bidders[0].from_control.pop().is_ok() {}
    m.role.turn(at(S));
    let Ok(ToCore::Snapshot(c)) = m.bidders[0].from_control.pop() else { panic!("no snapshot") };
    assert_eq!(c.config.dsps[0].name, "b");
    assert!(m.bidders[0].from_control.pop().is_err());
}

#[test]
fn a_refused_reload_changes_nothing_but_a_counter() {
    let mut m = ready(2);
    assert!(m.role.reload(Err("line 3".into()), at(0)).is_err());
    assert!(m.role.reload(Ok(vec![core_config(&[])]), at(0)).is_err(), "one copy for two cores");
    assert_eq!((m.role.next_config_id(), m.role.turn(at(S))), (2, 0));
    m.flush.to_control.push(FlushToControl::Totals(Box::new(Totals::new(2, 2)))).unwrap();
    m.role.turn(at(S));
    assert_eq!(m.handle.with_totals(|t| t.counter(Counter::ReloadsRefused)), 2);
    m.role.signal(at(S));
    assert!(m.role.reload(Ok(vec![core_config(&[]), core_config(&[])]), at(0)).is_err(), "it is stopping");
}

#[test]
fn a_core_that_stands_still_is_found_and_heard_again() {
    let mut m = ready(2);
    let mut totals = Totals::new(2, 2);
    let delta = CoreMetrics::new(2);
    let mut show = |m: &mut Machine, cores: &[u16], now: u64| {
        cores.iter().for_each(|c| totals.merge(*c, &delta));
        m.flush.to_control.push(FlushToControl::Totals(Box::new(totals.clone()))).unwrap();
        m.role.turn(at(now));
        while m.flush.from_control.pop().is_ok() {}
    };
    show(&mut m, &[0, 1], S);
    show(&mut m, &[0], 6 * S);
    assert_eq!(m.role.standing_still(at(S + STANDSTILL_NS)), None);
    assert_eq!(m.role.standing_still(at(S + STANDSTILL_NS + 1)), Some(1));
    m.role.turn(at(S + STANDSTILL_NS + 1));
    assert!(!m.handle.ready() && !m.handle.healthy());
    show(&mut m, &[0, 1], 12 * S);
    assert!(m.handle.ready() && m.handle.healthy());
}

#[test]
fn a_salt_reaches_every_core_and_waits_for_room() {
    let mut m = ready(2);
    while m.role.ends.lanes[0].to_core.push(ToCore::Drain).is_ok() {}
    m.role.salt(Salt { id: 7, key: [1, 2] });
    m.role.turn(at(S));
    assert!(matches!(m.bidders[1].from_control.pop(), Ok(ToCore::Salt(Salt { id: 7, .. }))));
    while m.bidders[0].from_control.pop().is_ok() {}
    m.role.turn(at(S));
    assert!(matches!(m.bidders[0].from_control.pop(), Ok(ToCore::Salt(Salt { id: 7, .. }))));
    m.role.turn(at(S));
    assert!(m.bidders[0].from_control.pop().is_err(), "once");
}

fn note(wall_ms: u64) -> Note {
    let what = What::Stopped { account: AccountId(1), level: Level::Granter, invariant: "a".to_owned() };
    Note::Event(Event { wall_ms, what })
}

/// What flush has been told of money, and whether it was told to stop.
fn heard(m: &mut Machine) -> (Vec<u64>, bool) {
    let (mut notes, mut stop) = (Vec::new(), false);
    while let Ok(message) = m.flush.from_control.pop() {
        match message {
            ControlToFlush::Replay(_) => {}
            ControlToFlush::Noted(bundle) => notes.extend(bundle.0.iter().map(|note| match note {
                Note::Event(event) => event.wall_ms,
                Note::Movement(movement) => movement.wall_ms,
            })),
            ControlToFlush::Stop { .. } => stop = true,
            ControlToFlush::Empty(_) | ControlToFlush::Configured(_) => {}
        }
        assert!(!stop || m.flush.from_control.is_empty(), "the order to stop is the last");
    }
    (notes, stop)
}

#[test]
fn every_note_gets_to_flush_in_order_however_slow_it_is() {
    let (mut m, (to_notes, notes)) = (ready(1), channel());
    m.role.carry(notes);
    let all: Vec<u64> = (0..NOTES_MAX as u64 * 5 + 1).collect();
    all.iter().for_each(|n| to_notes.send(note(*n)).unwrap());
    m.role.turn(at(S));
    m.role.turn(at(S));
    // Room for the boxes and for the order to stop is left.
    assert!(m.flush.from_control.slots() <= CONTROL_TO_FLUSH_SLOTS - (TOTALS_BOXES + 1 + 1));
    let mut got = Vec::new();
    while got.len() < all.len() {
        let (notes, stop) = heard(&mut m);
        assert!(!notes.is_empty() && !stop);
        got.extend(notes);
        m.role.turn(at(S));
    }
    assert_eq!(got, all);
}

#[test]
fn a_stop_waits_for_who_still_writes_notes_but_not_forever() {
    for gone in [true, false] {
        let (mut m, (to_notes, notes)) = (ready(1), channel());
        m.role.carry(notes);
        m.role.signal(at(S));
        m.role.turn(at(S));
        drain(&mut m, 0, 0);
        m.role.turn(at(2 * S));
        assert_eq!(heard(&mut m), (vec![], false), "the ledger may have something to say yet");
        let all: Vec<u64> = (0..NOTES_MAX as u64 * 9).collect();
        all.iter().for_each(|n| to_notes.send(note(*n)).unwrap());
        if gone {
            drop(to_notes);
        }
        let (mut got, mut told) = (Vec::new(), false);
        for turn in 0..20 {
            m.role.turn(at(2 * S + turn));
            let (notes, stop) = heard(&mut m);
            got.extend(notes);
            told |= stop;
        }
        assert_eq!((got == all, told), (true, gone));
        if !gone {
            m.role.turn(at(2 * S + NOTES_NS + 1));
            assert!(heard(&mut m).1, "it hangs");
        }
    }
}

/// What cores want of a quota comes to control, their shares come back, and follow a configuration to its end.
#[test]
fn quotas_are_shared_by_letter() {
    let config = |id: u64, qps: u64| -> Config {
        let text = format!("[[dsp]]\nname = \"a\"\nurl = \"http://127.0.0.1:1/\"\nqps = {qps}\n");
        outcry::config::load(&text, id).expect("a configuration")
    };
    let mut m = ready(2);
    let first = config(1, 1_000);
    m.role.share(Sharing::new(1, &first.dsps, 2));
    let mut cores = [Quotas::default(), Quotas::default()];
    cores.iter_mut().for_each(|core| core.configure(1, &first.dsps, 2, 0));
    let mut now_ns = 0;
    // The first has all the traffic.
    let mut second = |m: &mut Machine, cores: &mut [Quotas; 2]| {
        let mut sent = 0;
        for _ in 0..1_000 {
            now_ns += PERIOD_NS / 100;
            for _ in 0..3 {
                if cores[0].spent(1, now_ns) == 0 {
                    cores[0].take(0, now_ns);
                    sent += 1;
                }
            }
            for (core, ends) in cores.iter_mut().zip(&mut m.bidders) {
                if let Some(letter) = core.report(now_ns) {
                    ends.to_control.push(FromCore::Wanted(letter)).unwrap();
                }
                while let Ok(order) = ends.from_control.pop() {
                    match order {
                        ToCore::Shares(letter) => core.hear(letter, now_ns),
                        ToCore::Snapshot(copy) => core.configure(copy.config.id, &copy.config.dsps, 2, now_ns),
                        ToCore::Salt(_) | ToCore::Moved(_) | ToCore::Drain => {}
                    }
                }
            }
            m.role.turn(at(now_ns));
        }
        sent
    };
    second(&mut m, &mut cores);
    let sent = second(&mut m, &mut cores);
    assert!((900..=1_000).contains(&sent), "{sent} of 1000 in a second, the other core has no use for its part");
    let copy = Box::new(CoreConfig { config: config(2, 500), ..*core_config(&[]) });
    assert_eq!(m.role.reload(Ok(vec![copy.clone(), copy]), at(0)), Ok(2));
    second(&mut m, &mut cores);
    let sent = second(&mut m, &mut cores);
    assert!((450..=500).contains(&sent), "{sent} of 500");
}
