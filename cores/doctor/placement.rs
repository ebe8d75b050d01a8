//! Where the plan's CPUs lie: on which physical cores and NUMA nodes.
//! Owns: nothing. Called by: `doctor`. Never: plans (that is `outcry::config::plan`).
use super::{
    finding::{Finding, Knob, set},
    machine::{Machine, Read, Unread},
    need::Need,
};
use outcry::config::plan::cpu_list;

static SMT: Knob = Knob {
    id: "smt",
    file: "placement.md",
    costs: "two bidders on one physical core share its caches and units: each is slower, and less evenly so",
};
static NUMA: Knob = Knob {
    id: "numa",
    file: "placement.md",
    costs: "a packet, or what flush reads, crosses from one node to the other, at two to three times the delay of memory",
};
static NUMA_BALANCING: Knob = Knob {
    id: "numa-balancing",
    file: "placement.md",
    costs: "the kernel unmaps pages of pinned threads to see who uses them; each costs the bidder a page fault",
};

pub(super) static KNOBS: &[&Knob] = &[&SMT, &NUMA, &NUMA_BALANCING];

pub(super) struct Placement {
    /// Of each bidder CPU, the threads of its physical core.
    siblings: Vec<(usize, Read<Vec<usize>>)>,
    /// CPUs of each node.
    nodes: Read<Vec<(usize, Vec<usize>)>>,
    /// Network cards and their nodes; a card that knows none is absent.
    cards: Vec<(String, usize)>,
    balancing: Read<u64>,
}

impl Placement {
    pub(super) fn read(machine: &Machine, need: &Need) -> Placement {
        let threads = |id: &usize| {
            let file = format!("sys/devices/system/cpu/cpu{id}/topology/thread_siblings_list");
            (*id, machine.cpus(&file))
        };
        let node_of = |card: &String| {
            let node: i64 = machine.number(&format!("sys/class/net/{card}/device/numa_node")).ok()?;
            Some((card.clone(), usize::try_from(node).ok()?))
        };
        Placement {
            siblings: need.bidders.iter().map(threads).collect(),
            nodes: nodes(machine),
            cards: super::nic::cards(machine).unwrap_or_default().iter().filter_map(node_of).collect(),
            balancing: machine.sysctl("kernel.numa_balancing"),
        }
    }

    pub(super) fn judge(&self, need: &Need) -> Vec<Finding> {
        vec![self.smt(need), self.numa(need), self.numa_balancing()]
    }

    fn smt(&self, need: &Need) -> Finding {
        let mut crowded: Vec<Vec<usize>> = Vec::new();
        let mut shared: Vec<usize> = Vec::new();
        for (id, siblings) in &self.siblings {
            let siblings = match siblings {
                Err(why) => return SMT.unknown(why),
                Ok(siblings) => siblings,
            };
            let bidders: Vec<usize> = siblings.iter().copied().filter(|c| need.bidders.contains(c)).collect();
            if bidders.len() > 1 && !crowded.contains(&bidders) {
                crowded.push(bidders);
            }
            shared.extend(siblings.iter().filter(|s| *s != id && !need.bidders.contains(s)));
        }
        if !crowded.is_empty() {
            let lists: Vec<String> = crowded.iter().map(|c| cpu_list(c)).collect();
            let found = format!("bidders that share a physical core: {}", lists.join(" and "));
            let mend = vec!["one CPU of each physical core in cpus.bidders, or no cpus.bidder_count".to_owned()];
            return SMT.advice(found, "one bidder on a physical core", mend);
        }
        SMT.ok(match shared.is_empty() {
            true => "each bidder has a physical core to itself".to_owned(),
            false => format!("siblings of bidders, without a bidder: {}", cpu_list(&shared)),
        })
    }

    fn numa(&self, need: &Need) -> Finding {
        let nodes = match &self.nodes {
            Err(why) => return NUMA.unknown(why),
            Ok(nodes) => nodes,
        };
        if nodes.len() < 2 {
            return NUMA.ok("one node");
        }
        let mine = |cpus: &[usize]| -> Vec<usize> {
            nodes.iter().filter(|n| n.1.iter().any(|c| cpus.contains(c))).map(|n| n.0).collect()
        };
        let (bidders, flush) = (mine(&need.bidders), mine(&[need.flush]));
        let mut found = format!("bidders on node {}, flush on {}", cpu_list(&bidders), cpu_list(&flush));
        let away: Vec<&(String, usize)> = self.cards.iter().filter(|c| !bidders.contains(&c.1)).collect();
        for (card, node) in &self.cards {
            found += &format!(", {card} on {node}");
        }
        if bidders.len() > 1 {
            let mend = vec![
                "one exchange for each node: two units, cpus.bidders and cpus.flush of one node in each, and two \
                 addresses or ports"
                    .to_owned(),
            ];
            return NUMA.advice(found, "all on one node", mend);
        }
        if let (Some((card, node)), false) = (away.first(), need.loopback) {
            let cpus = nodes.iter().find(|n| n.0 == *node).map_or(String::new(), |n| cpu_list(&n.1));
            let mend = vec![format!("cpus.bidders out of {cpus}, the CPUs of node {node}")];
            return NUMA.advice(found, format!("bidders on the node of {card}"), mend);
        }
        if flush != bidders {
            let mend = vec![format!("cpus.flush on node {}", cpu_list(&bidders))];
            return NUMA.advice(found, "flush on the bidders' node", mend);
        }
        NUMA.ok(found)
    }

    fn numa_balancing(&self) -> Finding {
        let one = self.nodes.as_ref().is_ok_and(|nodes| nodes.len() < 2);
        match &self.balancing {
            Err(why) if why.absent => NUMA_BALANCING.ok("this kernel has none"),
            Err(why) => NUMA_BALANCING.unknown(why),
            Ok(0) => NUMA_BALANCING.ok("off"),
            Ok(n) if one => NUMA_BALANCING.ok(format!("{n}; without effect on one node")),
            Ok(n) => NUMA_BALANCING.advice(
                n.to_string(),
                "0: memory of a pinned thread is where it belongs from the first touch",
                set("kernel.numa_balancing", 0),
            ),
        }
    }
}

fn nodes(machine: &Machine) -> Read<Vec<(usize, Vec<usize>)>> {
    let dir = "sys/devices/system/node";
    let names = match machine.names(dir) {
        // A kernel without NUMA has one node and does not say so.
        Err(Unread { absent: true, .. }) => return Ok(Vec::new()),
        names => names?,
    };
    let numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse::<usize>().ok());
    let mut nodes = Vec::new();
    for n in numbers {
        let cpus = machine.cpus(&format!("{dir}/node{n}/cpulist"))?;
        // A node of memory alone is nobody's.
        if !cpus.is_empty() {
            nodes.push((n, cpus));
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::fixtures::{absent, check, unread},
        fixtures::Tree,
    };

    /// A machine of 8 physical cores, two threads each, on two nodes.
    fn two_nodes(bidders: &[usize], flush: usize) -> (Placement, Need) {
        let tree = Tree::machine(8, 2, 2, "");
        tree.write("proc/sys/kernel/numa_balancing", "0\n");
        let need = Need { bidders: bidders.to_vec(), flush, ..Need::made_up() };
        (Placement::read(&Machine::at(&tree.0, "self"), &need), need)
    }

    #[test]
    fn threads_of_a_core() {
        let judge = |bidders: &[usize]| {
            let (placement, need) = two_nodes(bidders, 0);
            placement.judge(&need)
        };
        check(&judge(&[1, 2, 3]), &["ok"; 3], "siblings of bidders, without a bidder: 9-11");
        check(&judge(&[1, 2, 9, 10]), &["advice", "ok", "ok"], "share a physical core: 1,9 and 2,10");
        let (mut placement, need) = two_nodes(&[1, 2], 0);
        placement.siblings = vec![(1, Ok(vec![1])), (2, Ok(vec![2]))];
        check(&placement.judge(&need), &["ok"; 3], "a physical core to itself");
        placement.siblings[0].1 = unread();
        check(&placement.judge(&need), &["unknown", "ok", "ok"], "Permission denied");
    }

    #[test]
    fn nodes_of_bidders_flush_and_card() {
        let (placement, need) = two_nodes(&[3, 4], 0);
        check(&placement.judge(&need), &["ok", "advice", "ok"], "bidders on node 0-1, flush on 0");
        let (placement, need) = two_nodes(&[2, 3], 4);
        check(&placement.judge(&need), &["ok", "advice", "ok"], "cpus.flush on node 0");
        let (mut placement, mut need) = two_nodes(&[2, 3], 0);
        placement.cards = vec![("eth0".to_owned(), 1)];
        check(&placement.judge(&need), &["ok", "advice", "ok"], "cpus.bidders out of 4-7,12-15");
        need.loopback = true;
        check(&placement.judge(&need), &["ok"; 3], "eth0 on 1");
    }

    #[test]
    fn balancing_matters_between_nodes() {
        let (mut placement, need) = two_nodes(&[2, 3], 0);
        placement.balancing = Ok(1);
        check(&placement.judge(&need), &["ok", "ok", "advice"], "sysctl -w kernel.numa_balancing='0'");
        placement.nodes = Ok(vec![(0, (0..16).collect())]);
        check(&placement.judge(&need), &["ok"; 3], "without effect on one node");
        placement.balancing = absent();
        check(&placement.judge(&need), &["ok"; 3], "this kernel has none");
    }
}
