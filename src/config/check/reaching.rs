//! How DSPs are reached: where their names are looked up, and what their certificates have to say.
//! Owns: nothing. Called by: the check of a file. Never: stops at the first mistake.
use super::{Checker, Table};
use crate::{
    config::{
        dsps,
        resolved::{DnsRules, TlsRules},
        schema,
    },
    names::table,
    units::MS,
};

impl Checker<'_, '_> {
    pub(super) fn dns(&mut self, table: Table<'_, '_>) -> DnsRules {
        let servers = self.get(table, &schema::DNS_SERVERS).value;
        let (least, most) = (self.get(table, &schema::DNS_LEAST_S), self.get(table, &schema::DNS_MOST_S));
        self.not_above("dns.ttl_min_s", &least, "dns.ttl_max_s", &most);
        let times = table::Rules { least_ns: least.value * 1_000 * MS, most_ns: most.value * 1_000 * MS };
        DnsRules { servers: servers.into_iter().map(|server| server.value).collect(), times }
    }

    /// Whose word is believed of a DSP; `None`: neither its `url` nor one of its `notice_hosts` is https.
    pub(in crate::config) fn tls(&mut self, table: Table<'_, '_>, secure: bool) -> Option<TlsRules> {
        let file = self.find(table, &dsps::CA_FILE);
        let anybody = self.get(table, &dsps::ANY_CERTIFICATE);
        let (file_at, any_at) = (file.as_ref().map(|f| f.at), anybody.value.then_some(anybody.at));
        let mut refuse = |at: Option<usize>, key: &str, found: &str, allowed: &str| {
            if let Some(at) = at {
                self.rule(at, format!("dsp.{key}"), found.to_owned(), allowed.to_owned(), None);
            }
        };
        if !secure {
            let (found, allowed) = (
                "neither a url nor notice_hosts that are https",
                "a url or notice_hosts with https, or this key left out",
            );
            refuse(file_at, "ca_file", found, allowed);
            refuse(any_at, "danger_accept_any_certificate", found, allowed);
        } else if file_at.is_some() {
            refuse(any_at, "danger_accept_any_certificate", "a ca_file beside it", "one of the two");
        }
        match (file, anybody.value) {
            _ if !secure => None,
            (Some(file), _) => Some(TlsRules::File(file.value)),
            (None, true) => Some(TlsRules::Anybody),
            (None, false) => Some(TlsRules::System),
        }
    }
}
