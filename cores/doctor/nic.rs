//! Network cards: which CPUs their interrupts and queues use, and whether anybody polls them.
//! Owns: nothing. Called by: `doctor`. Never: moves an interrupt.
use super::{
    finding::{Finding, Knob, set},
    machine::{Machine, Read},
    need::Need,
};
use outcry::config::plan::cpu_list;

static IRQS: Knob = Knob {
    id: "irqs",
    file: "interrupts.md",
    costs: "the bidder that a card interrupts receives for the others too, and its own auctions wait",
};
static IRQBALANCE: Knob = Knob {
    id: "irqbalance",
    file: "interrupts.md",
    costs: "interrupts move to bidder CPUs when they are busy, and the latency of those cores with them",
};
static RECEIVE: Knob = Knob {
    id: "receive-steering",
    file: "steering.md",
    costs: "packets are worked on by one CPU for all, or by a bidder that they do not belong to",
};
static TRANSMIT: Knob = Knob {
    id: "transmit-steering",
    file: "steering.md",
    costs: "bidders wait for each other's locks on the same queue of the card",
};
static BUSY_POLL: Knob = Knob {
    id: "busy-poll",
    file: "busy-poll.md",
    costs: "a read that finds nothing asks the card first, for a bidder that would have gone on to other work",
};

pub(super) static KNOBS: &[&Knob] = &[&IRQS, &IRQBALANCE, &RECEIVE, &TRANSMIT, &BUSY_POLL];

/// One queue is not asked to receive for more bidders than this without a word.
const BIDDERS_PER_QUEUE: usize = 4;

/// A network card.
#[derive(Clone, Debug, Default)]
struct Card {
    name: String,
    /// Interrupts that have fired since boot: number, and the CPUs that get them.
    irqs: Vec<(u32, Vec<usize>)>,
    receive: Vec<ReceiveQueue>,
    /// CPUs that send through each queue; empty: any. A card with one queue has no such mask.
    transmit: Vec<Vec<usize>>,
}

#[derive(Clone, Debug, Default)]
struct ReceiveQueue {
    /// CPUs its packets are handed to (RPS); empty: the interrupted one keeps them.
    to: Vec<usize>,
    /// Flows it remembers (RFS).
    flows: u64,
}

pub(super) struct Nic {
    cards: Read<Vec<Card>>,
    /// `net.core.rps_sock_flow_entries`.
    flows: u64,
    balancing: bool,
    isolated: Vec<usize>,
    busy_read: Read<u64>,
    busy_poll: Read<u64>,
}

/// Names of the network cards that are up: what has a device below it, so no bridges, tunnels and loopbacks.
pub(super) fn cards(machine: &Machine) -> Read<Vec<String>> {
    let mut names = machine.names("sys/class/net")?;
    names.retain(|name| {
        let down = machine.text(&format!("sys/class/net/{name}/operstate")).is_ok_and(|s| s == "down");
        !down && machine.names(&format!("sys/class/net/{name}/device")).is_ok()
    });
    Ok(names)
}

impl Nic {
    pub(super) fn read(machine: &Machine) -> Nic {
        let fired = machine.text("proc/interrupts").map(|text| fired(&text)).unwrap_or_default();
        Nic {
            cards: cards(machine).map(|names| names.iter().map(|name| card(machine, name, &fired)).collect()),
            flows: machine.sysctl("net.core.rps_sock_flow_entries").unwrap_or(0),
            balancing: runs(machine, "irqbalance"),
            isolated: machine.cpus("sys/devices/system/cpu/isolated").unwrap_or_default(),
            busy_read: machine.sysctl("net.core.busy_read"),
            busy_poll: machine.sysctl("net.core.busy_poll"),
        }
    }

    pub(super) fn judge(&self, need: &Need) -> Vec<Finding> {
        let mut findings = match &self.cards {
            Err(why) => vec![IRQS.unknown(why), IRQBALANCE.unknown(why), RECEIVE.unknown(why), TRANSMIT.unknown(why)],
            Ok(_) if need.loopback => {
                let said = "clients and DSPs are on this machine";
                vec![IRQS.ok(said), IRQBALANCE.ok(said), RECEIVE.ok(said), TRANSMIT.ok(said)]
            }
            Ok(cards) if cards.is_empty() => {
                let said = "no network card is shown here";
                vec![IRQS.ok(said), IRQBALANCE.ok(said), RECEIVE.ok(said), TRANSMIT.ok(said)]
            }
            Ok(cards) => {
                vec![irqs(cards, need), self.irqbalance(need), self.receive(cards, need), transmit(cards, need)]
            }
        };
        findings.push(self.busy_poll());
        findings
    }

    fn irqbalance(&self, need: &Need) -> Finding {
        if !self.balancing {
            return IRQBALANCE.ok("not running");
        }
        // It leaves isolated CPUs alone by itself.
        if need.bidders.iter().all(|b| self.isolated.contains(b)) {
            return IRQBALANCE.ok("running; bidder CPUs are isolated, so it leaves them alone");
        }
        let mend = vec![
            "systemctl disable --now irqbalance".to_owned(),
            format!(
                "echo IRQBALANCE_BANNED_CPULIST={} >> /etc/default/irqbalance   # or this",
                cpu_list(&need.bidders)
            ),
        ];
        IRQBALANCE.advice("running", "stopped, or told to leave bidder CPUs alone", mend)
    }

    fn receive(&self, cards: &[Card], need: &Need) -> Finding {
        let (mut found, mut mend, mut wanted) = (Vec::new(), Vec::new(), "");
        for card in cards {
            let name = &card.name;
            let queues = card.receive.len();
            let mut to: Vec<usize> = card.receive.iter().flat_map(|q| q.to.iter().copied()).collect();
            to.sort_unstable();
            to.dedup();
            let follows = self.flows > 0 && card.receive.iter().all(|q| q.flows > 0);
            let rps = if to.is_empty() { "RPS off".to_owned() } else { format!("RPS to {}", cpu_list(&to)) };
            let rfs = if follows { "on" } else { "off" };
            found.push(format!("{name}: {queues} queue{}, {rps}, RFS {rfs}", if queues == 1 { "" } else { "s" }));
            let strays = !follows && to.iter().any(|c| need.bidders.contains(c));
            let narrow = to.is_empty() && queues == 1 && need.bidders.len() > BIDDERS_PER_QUEUE;
            let spread = mask(&need.housekeeping());
            if strays {
                wanted = "RPS to CPUs without a bidder, or RFS, which hands a packet to the core that reads it";
                mend.push(format!("echo {spread} | tee /sys/class/net/{name}/queues/rx-*/rps_cpus"));
            } else if narrow {
                wanted = "more queues, or RPS that spreads what the one receives";
                mend.push(format!("ethtool -L {name} combined {}   # where the card has them", need.bidders.len()));
                mend.push(format!("echo {spread} > /sys/class/net/{name}/queues/rx-0/rps_cpus"));
            }
        }
        let found = found.join("; ");
        if mend.is_empty() { RECEIVE.ok(found) } else { RECEIVE.advice(found, wanted, mend) }
    }

    fn busy_poll(&self) -> Finding {
        match (&self.busy_read, &self.busy_poll) {
            (Err(why), _) | (_, Err(why)) => BUSY_POLL.unknown(why),
            (Ok(0), Ok(0)) => BUSY_POLL.ok("off"),
            (Ok(read), Ok(poll)) => {
                let mut mend = set("net.core.busy_read", 0);
                mend.extend(set("net.core.busy_poll", 0));
                let wanted = "0 for both: they are for threads that block in a read, which no bidder does";
                BUSY_POLL.advice(format!("busy_read {read}, busy_poll {poll}"), wanted, mend)
            }
        }
    }
}

fn irqs(cards: &[Card], need: &Need) -> Finding {
    let (mut found, mut mend, mut uneven) = (Vec::new(), Vec::new(), false);
    let others = cpu_list(&need.housekeeping());
    for card in cards {
        // Each counts where it may be delivered; usually that is one CPU.
        let on = |cpu: &usize| card.irqs.iter().filter(|(_, cpus)| cpus.contains(cpu)).count();
        let each: Vec<usize> = need.bidders.iter().map(on).collect();
        let mut cpus: Vec<usize> = card.irqs.iter().flat_map(|i| i.1.iter().copied()).collect();
        cpus.sort_unstable();
        found.push(match cpus.is_empty() {
            true => format!("{}: none shown", card.name),
            false => format!("{}: {} on CPUs {}", card.name, card.irqs.len(), cpu_list(&cpus)),
        });
        let (least, most) = (each.iter().min().copied().unwrap_or(0), each.iter().max().copied().unwrap_or(0));
        // A queue for each bidder is as good as none: nobody receives more than its share. A lone bidder is better off
        // without, where another CPU can do it.
        let lone = need.bidders.len() == 1 && most > 0 && !others.is_empty();
        if lone || most > least + usize::from(least > 0) {
            uneven = true;
            for (number, _) in card.irqs.iter().filter(|(_, cpus)| cpus.iter().any(|c| need.bidders.contains(c))) {
                mend.push(format!("echo {others} > /proc/irq/{number}/smp_affinity_list"));
            }
        }
    }
    let found = found.join("; ");
    if !uneven {
        return IRQS.ok(found);
    }
    let list = cpu_list(&need.bidders);
    if mend.len() > 4 || others.is_empty() {
        mend = vec![format!("scripts/tune-cpus apply --bidders {list}   # keeps what it found, for `undo`")];
    }
    let wanted = format!("none on bidder CPUs {list}, or the same number on each");
    IRQS.amiss(need.bidders.len() > 1, found, wanted, mend)
}

fn transmit(cards: &[Card], need: &Need) -> Finding {
    let (mut found, mut mend) = (Vec::new(), Vec::new());
    for card in cards {
        let queues = card.transmit.len();
        let bound = card.transmit.iter().filter(|cpus| !cpus.is_empty()).count();
        found.push(format!("{}: {bound} of {queues} queues bound to CPUs", card.name));
        if queues > 1 && bound == 0 && need.bidders.len() > 1 {
            let first = need.bidders.first().copied().unwrap_or_default();
            mend.push(format!(
                "echo {} > /sys/class/net/{}/queues/tx-0/xps_cpus   # and so on, a bidder to a queue",
                mask(&[first]),
                card.name
            ));
        }
    }
    let found = found.join("; ");
    if mend.is_empty() { TRANSMIT.ok(found) } else { TRANSMIT.advice(found, "each bidder sends through its own", mend) }
}

fn card(machine: &Machine, name: &str, fired: &[u32]) -> Card {
    let class = format!("sys/class/net/{name}");
    // The interrupts of a virtio card are those of the PCI device above it.
    let dirs = [format!("{class}/device/msi_irqs"), format!("{class}/device/../msi_irqs")];
    let numbers = dirs.iter().find_map(|dir| machine.names(dir).ok()).unwrap_or_default();
    let irqs = numbers.iter().filter_map(|n| n.parse::<u32>().ok()).filter(|n| fired.contains(n));
    let to = |n: u32| {
        let chosen = machine.cpus(&format!("proc/irq/{n}/effective_affinity_list")).ok().filter(|c| !c.is_empty());
        chosen.or_else(|| machine.cpus(&format!("proc/irq/{n}/smp_affinity_list")).ok()).unwrap_or_default()
    };
    let queues = machine.names(&format!("{class}/queues")).unwrap_or_default();
    let of = |kind: &'static str| queues.iter().filter(move |q| q.starts_with(kind));
    Card {
        name: name.to_owned(),
        irqs: irqs.map(|n| (n, to(n))).collect(),
        receive: of("rx-")
            .map(|q| ReceiveQueue {
                to: machine.mask(&format!("{class}/queues/{q}/rps_cpus")).unwrap_or_default(),
                flows: machine.number(&format!("{class}/queues/{q}/rps_flow_cnt")).unwrap_or(0),
            })
            .collect(),
        transmit: of("tx-")
            .map(|q| machine.mask(&format!("{class}/queues/{q}/xps_cpus")).unwrap_or_default())
            .collect(),
    }
}

/// Interrupts of `/proc/interrupts` that some CPU has counted.
fn fired(text: &str) -> Vec<u32> {
    let one = |line: &str| {
        let (number, counts) = line.split_once(':')?;
        let counted = counts.split_whitespace().map_while(|w| w.parse::<u64>().ok()).any(|n| n > 0);
        number.trim().parse().ok().filter(|_| counted)
    };
    text.lines().filter_map(one).collect()
}

/// Is there a process of this name?
fn runs(machine: &Machine, name: &str) -> bool {
    let processes = machine.names("proc").unwrap_or_default();
    let mut numbers = processes.iter().filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
    numbers.any(|p| machine.text(&format!("proc/{p}/comm")).is_ok_and(|comm| comm == name))
}

/// CPUs as the kernel wants masks: hexadecimal words of 32 bits, the highest first.
fn mask(cpus: &[usize]) -> String {
    let words = cpus.iter().max().map_or(0, |c| c / 32);
    let word = |i: usize| cpus.iter().filter(|c| *c / 32 == i).fold(0u32, |bits, c| bits | 1 << (c % 32));
    let texts: Vec<String> = (0..=words)
        .rev()
        .map(|i| if i == words { format!("{:x}", word(i)) } else { format!("{:08x}", word(i)) })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::fixtures::{check, unread},
        fixtures::Tree,
    };

    fn card(irqs: &[&[usize]], receive: usize, transmit: &[&[usize]]) -> Card {
        Card {
            name: "eth0".to_owned(),
            irqs: irqs.iter().enumerate().map(|(i, cpus)| (40 + i as u32, cpus.to_vec())).collect(),
            receive: vec![ReceiveQueue::default(); receive],
            transmit: transmit.iter().map(|cpus| cpus.to_vec()).collect(),
        }
    }

    fn nic(card: Card) -> Nic {
        Nic {
            cards: Ok(vec![card]),
            flows: 0,
            balancing: false,
            isolated: Vec::new(),
            busy_read: Ok(0),
            busy_poll: Ok(0),
        }
    }

    #[test]
    fn interrupts_on_bidder_cpus() {
        let need = Need::made_up();
        let judge = |irqs: &[&[usize]], need: &Need| nic(card(irqs, 2, &[&[], &[1]])).judge(need);
        for (irqs, verdict, says) in [
            (&[&[0][..], &[0]][..], "ok", "2 on CPUs 0"),
            (&[&[1], &[2], &[3]], "ok", "3 on CPUs 1-3"),
            (&[&[1], &[2], &[3], &[1]], "ok", "4 on CPUs 1-3"),
            (&[], "ok", "none shown"),
            (&[&[0], &[2]], "wrong", "echo 0 > /proc/irq/41/smp_affinity_list"),
            (&[&[1], &[2], &[3], &[1], &[1]], "wrong", "scripts/tune-cpus apply --bidders 1-3"),
        ] {
            check(&judge(irqs, &need), &[verdict, "ok", "ok", "ok", "ok"], says);
        }
        let one = Need { bidders: vec![1], ..need.clone() };
        check(&judge(&[&[0], &[1]], &one), &["advice", "ok", "ok", "ok", "ok"], "irq/41/");
        let all = Need { flush: 1, control: vec![1], ..one };
        check(&judge(&[&[1]], &all), &["ok"; 5], "1 on CPUs 1");
        let full = Need { flush: 1, control: vec![1], ..need.clone() };
        check(&judge(&[&[2]], &full), &["wrong", "ok", "ok", "ok", "ok"], "scripts/tune-cpus");
        let local = Need { loopback: true, ..need };
        check(&judge(&[&[2]], &local), &["ok"; 5], "on this machine");
    }

    #[test]
    fn irqbalance_spares_isolated_cpus() {
        let need = Need::made_up();
        let running = || Nic { balancing: true, ..nic(card(&[], 1, &[&[]])) };
        check(&running().judge(&need), &["ok", "advice", "ok", "ok", "ok"], "IRQBALANCE_BANNED_CPULIST=1-3");
        let spared = Nic { isolated: vec![1, 2, 3], ..running() };
        check(&spared.judge(&need), &["ok"; 5], "leaves them alone");
    }

    #[test]
    fn queues() {
        let need = Need::made_up();
        let mut steered = card(&[], 1, &[&[]]);
        steered.receive[0] = ReceiveQueue { to: vec![0, 1], flows: 4_096 };
        let off = nic(steered.clone());
        check(&off.judge(&need), &["ok", "ok", "advice", "ok", "ok"], "echo 1 | tee /sys/class/net/eth0/queues/rx-*");
        check(&Nic { flows: 32_768, ..nic(steered) }.judge(&need), &["ok"; 5], "RPS to 0-1, RFS on");
        let many = Need { bidders: (1..6).collect(), ..Need::made_up() };
        check(&nic(card(&[], 1, &[])).judge(&many), &["ok", "ok", "advice", "ok", "ok"], "ethtool -L eth0 combined 5");
        check(&nic(card(&[], 2, &[])).judge(&many), &["ok"; 5], "2 queues, RPS off, RFS off");
        let unbound = nic(card(&[], 2, &[&[], &[]]));
        check(&unbound.judge(&need), &["ok", "ok", "ok", "advice", "ok"], "0 of 2 queues");
        check(&unbound.judge(&need), &["ok", "ok", "ok", "advice", "ok"], "echo 2 > /sys/class/net/eth0/queues/tx-0");
    }

    #[test]
    fn polling_and_what_cannot_be_read() {
        let need = Need::made_up();
        let polling = Nic { busy_read: Ok(50), ..nic(card(&[], 1, &[])) };
        check(&polling.judge(&need), &["ok", "ok", "ok", "ok", "advice"], "busy_read 50, busy_poll 0");
        let dark = Nic { cards: unread(), busy_poll: unread(), ..nic(Card::default()) };
        check(&dark.judge(&need), &["unknown"; 5], "Permission denied");
        let empty = Nic { cards: Ok(vec![]), ..dark };
        check(&empty.judge(&need), &["ok", "ok", "ok", "ok", "unknown"], "no network card");
    }

    #[test]
    fn cards_are_read_with_their_interrupts_and_queues() {
        let tree = Tree::new(&[
            ("proc/interrupts", "       CPU0 CPU1\n 41:  5 0  PCI eth0-rx\n 42:  0 0 PCI eth0-tx\nNMI: 1 1 x\n"),
            ("proc/irq/41/smp_affinity_list", "0-3\n"),
            ("proc/irq/41/effective_affinity_list", "2\n"),
            ("proc/7/comm", "irqbalance\n"),
            ("proc/net/comm", "irqbalance\n"),
            ("sys/class/net/lo/operstate", "unknown\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/device/msi_irqs/41", ""),
            ("sys/class/net/eth0/device/msi_irqs/42", ""),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000003\n"),
            ("sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "0\n"),
            ("sys/class/net/eth0/queues/tx-0/traffic_class", ""),
            ("sys/class/net/eth1/operstate", "down\n"),
            ("sys/class/net/eth1/device/vendor", ""),
            ("proc/sys/net/core/busy_read", "0\n"),
            ("proc/sys/net/core/busy_poll", "0\n"),
        ]);
        let found = Nic::read(&Machine::at(&tree.0, "self")).judge(&Need::made_up());
        check(&found, &["wrong", "advice", "advice", "ok", "ok"], "eth0: 1 on CPUs 2");
        check(&found, &["wrong", "advice", "advice", "ok", "ok"], "eth0: 1 queue, RPS to 0-1, RFS off");
        check(&found, &["wrong", "advice", "advice", "ok", "ok"], "eth0: 0 of 1 queues");
    }

    #[test]
    fn masks_are_words_of_32_bits() {
        for (cpus, want) in [(&[0, 1][..], "3"), (&[33], "2,00000000"), (&[0, 31, 64], "1,00000000,80000001")] {
            assert_eq!(mask(cpus), want);
        }
    }
}
