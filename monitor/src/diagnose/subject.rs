//! Whom a finding is about, as fields for machines: what `whose` says in words.

use std::net::IpAddr;

use serde::Serialize;

use super::{CloseWait, Contact, FailedConnects, InboundPeer, Listener, Maker, NamespaceName, SourceUse, TupleUse};
use crate::event::Endpoint;
use crate::lifecycle::Role;

/// A field that the rule does not know is absent. Field names are part of the `--json` contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// `client` or `server`; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// As in the label of the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// As in the label of the metrics: a client's remote end, a server's local end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The address that connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Name of the network namespace, when that is not the daemon's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// In the state that the finding is about; in all states for TW-002, TW-003, TW-004 and TW-007.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u64>,
    /// Of `sockets`, those in TIME_WAIT, where others are among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_wait_sockets: Option<u64>,
    /// Connections to which it happened: failed, slow, reset, or waiting for accept().
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// A sysctl file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// A sysctl, with dots; without `file` it is the running kernel's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// As written in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// One subject an item.
pub fn subjects<'a, T: 'a>(items: impl IntoIterator<Item = &'a T>) -> Vec<Subject>
where
    Subject: From<&'a T>,
{
    items.into_iter().map(Subject::from).collect()
}

impl Subject {
    fn of(role: Role, unit: &str, endpoint: Option<Endpoint>) -> Self {
        Self {
            role: match role {
                Role::Client | Role::Server => Some(role.label()),
                Role::Unknown => None,
            },
            unit: Some(unit.into()),
            endpoint: endpoint.map(|endpoint| endpoint.to_string()),
            ..Self::default()
        }
    }

    fn within(self, namespace: Option<&NamespaceName>) -> Self {
        Self { namespace: namespace.map(|namespace| namespace.name.clone()), ..self }
    }
}

impl From<&TupleUse> for Subject {
    fn from(tuple: &TupleUse) -> Self {
        Self {
            source: Some(tuple.source),
            sockets: Some(tuple.used),
            time_wait_sockets: Some(tuple.time_wait),
            ..Self::of(tuple.role, &tuple.unit, Some(tuple.destination)).within(tuple.namespace.as_ref())
        }
    }
}

impl From<&SourceUse> for Subject {
    fn from(source: &SourceUse) -> Self {
        let whose = Self::of(Role::Client, &source.unit, None).within(source.namespace.as_ref());
        Self { source: Some(source.source), sockets: Some(source.sockets), ..whose }
    }
}

impl From<&FailedConnects> for Subject {
    fn from(failed: &FailedConnects) -> Self {
        let whose = Self::of(Role::Client, &failed.unit, Some(failed.destination));
        Self { connections: Some(failed.count), ..whose.within(failed.namespace.as_ref()) }
    }
}

impl From<&Maker> for Subject {
    fn from(maker: &Maker) -> Self {
        Self { sockets: Some(maker.sockets), ..Self::of(maker.role, &maker.unit, maker.endpoint) }
    }
}

impl From<&Contact> for Subject {
    fn from(contact: &Contact) -> Self {
        Self { connections: Some(contact.count), ..Self::of(contact.role, &contact.unit, Some(contact.endpoint)) }
    }
}

impl From<&InboundPeer> for Subject {
    fn from(peer: &InboundPeer) -> Self {
        Self {
            source: Some(peer.peer),
            sockets: Some(peer.sockets),
            time_wait_sockets: Some(peer.time_wait),
            ..Self::of(Role::Server, &peer.unit, Some(peer.local))
        }
    }
}

impl From<&Listener> for Subject {
    fn from(listener: &Listener) -> Self {
        let whose = Self::of(Role::Server, &listener.unit, Some(listener.local));
        Self { connections: Some(listener.backlog), ..whose.within(listener.namespace.as_ref()) }
    }
}

impl From<&CloseWait> for Subject {
    fn from(held: &CloseWait) -> Self {
        Self { sockets: Some(held.sockets), ..Self::of(Role::Unknown, &held.unit, None) }
    }
}

impl From<&NamespaceName> for Subject {
    fn from(namespace: &NamespaceName) -> Self {
        Self::default().within(Some(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{contact, elsewhere, inbound_peer, maker, no_port, source, tuple};
    use super::*;

    #[test]
    fn what_is_known_is_a_field_and_what_is_not_is_absent() {
        let check = |subject: Subject, json: &str| assert_eq!(serde_json::to_string(&subject).unwrap(), json);
        check(
            Subject::from(&TupleUse { namespace: Some(elsewhere("blue", 7)), time_wait: 200, ..tuple(300) }),
            r#"{"role":"client","unit":"api.service","endpoint":"10.0.0.9:5432","source":"10.0.0.5","namespace":"blue","sockets":300,"time_wait_sockets":200}"#,
        );
        check(
            Subject::from(&no_port(3)),
            r#"{"role":"client","unit":"api.service","endpoint":"10.0.0.9:5432","connections":3}"#,
        );
        check(
            Subject::from(&source(450, 440, 300)),
            r#"{"role":"client","unit":"proxy.service","source":"10.0.0.5","sockets":450}"#,
        );
        check(
            Subject::from(&maker(Role::Server, Some(8080), 5)),
            r#"{"role":"server","unit":"api.service","endpoint":"10.0.0.9:8080","sockets":5}"#,
        );
        check(Subject::from(&maker(Role::Unknown, None, 5)), r#"{"unit":"api.service","sockets":5}"#);
        check(
            Subject::from(&contact(Role::Client, 80, 9)),
            r#"{"role":"client","unit":"web.service","endpoint":"10.0.0.9:80","connections":9}"#,
        );
        check(
            Subject::from(&inbound_peer(1, 80, 9, 8)),
            r#"{"role":"server","unit":"web.service","endpoint":"10.0.0.9:80","source":"10.0.1.1","sockets":9,"time_wait_sockets":8}"#,
        );
        check(Subject::from(&elsewhere("blue", 7)), r#"{"namespace":"blue"}"#);
        check(Subject::default(), "{}");
    }
}
