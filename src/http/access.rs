//! Who may come in at all, before anyone is asked who they are. A reload changes it.

use std::{
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};

use actix_web::{dev::ServiceRequest, http::header};

use super::error::ApiError;
use crate::domain::hosts::HostName;

/// What the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// The names that requests may call the server by; `None`: any.
    pub hosts: Option<Vec<HostName>>,
    /// Requests per second of each device; `None`: no cap.
    pub device_rate: Option<NonZeroU32>,
}

/// The rules in force.
#[derive(Debug)]
pub struct Access(RwLock<Arc<AccessRules>>);

impl Access {
    /// Begins with these.
    #[must_use]
    pub fn new(rules: AccessRules) -> Self {
        Self(RwLock::new(Arc::new(rules)))
    }

    /// Other rules, from the next request on.
    pub fn set(&self, rules: AccessRules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<AccessRules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AccessRules {
    /// Insists that the request calls the server by one of its names.
    ///
    /// # Errors
    /// 421.
    pub fn must_be_meant(&self, request: &ServiceRequest) -> Result<(), ApiError> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let host = named_host(request).and_then(|host| HostName::parse(host).ok());
        match host {
            Some(host) if hosts.iter().any(|accepted| accepted.accepts(&host)) => Ok(()),
            _ => Err(ApiError::Misdirected),
        }
    }
}

/// The host that a request names: of a whole URL that one, which outranks the header (RFC 9112, section 3.2.2). Not
/// what a proxy adds, which anyone can.
fn named_host(request: &ServiceRequest) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    let mut given = request.headers().get_all(header::HOST);
    let host = given.next()?.to_str().ok()?;
    given.next().is_none().then_some(host)
}
