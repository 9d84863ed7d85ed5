//! A person and what they may do.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{
    domain::{
        ids::{BuildingId, InvalidId},
        scope::Scope,
        time::Timestamp,
    },
    http::error::ApiError,
};

/// What a role allows; the table of endpoints is in the contract, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The card office.
    Hr,
    /// Who went where.
    Auditor,
    /// Who is inside.
    Security,
    /// Dead letters, replays, sinks.
    Admin,
}

/// A role, everywhere or in one building: `security` or `security@hq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Only here.
    pub building: Option<BuildingId>,
}

/// Why a text is not a grant.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidGrant {
    /// No such role.
    #[error("{0:?} is not a role; roles are hr, auditor, security and admin, each possibly with @building")]
    Role(String),
    /// No such building can exist.
    #[error("the building after @ {0}")]
    Building(#[from] InvalidId),
}

/// A person who showed a valid token.
#[derive(Clone, Debug)]
pub struct Person {
    /// The token's `sub`.
    pub subject: String,
    /// What they may do.
    pub grants: Vec<Grant>,
    /// When their token ends; `None`: a key that is good until it is revoked.
    pub expires_at: Option<Timestamp>,
    /// The id of the key that they have shown instead of a token.
    pub key_id: Option<String>,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hr => "hr",
            Self::Auditor => "auditor",
            Self::Security => "security",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Grant {
    type Err = InvalidGrant;
    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let (role, building) = match text.split_once('@') {
            Some((role, building)) => (role, Some(BuildingId::parse(building)?)),
            None => (text, None),
        };
        let role = [Role::Hr, Role::Auditor, Role::Security, Role::Admin]
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or_else(|| InvalidGrant::Role(text.to_owned()))?;
        Ok(Self { role, building })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.building {
            Some(building) => write!(f, "{}@{building}", self.role.as_str()),
            None => f.write_str(self.role.as_str()),
        }
    }
}

impl Person {
    /// Insists on one of `roles`. What concerns one building may be done with a role for that building;
    /// what concerns the whole server (`None`) needs the role everywhere.
    ///
    /// # Errors
    /// 403.
    pub fn must_be(&self, roles: &[Role], building: Option<&BuildingId>) -> Result<(), ApiError> {
        let allows = |grant: &Grant| {
            roles.contains(&grant.role)
                && grant.building.as_ref().is_none_or(|only| building.is_some_and(|here| here == only))
        };
        if self.grants.iter().any(allows) {
            return Ok(());
        }
        let scope =
            building.map_or_else(|| "for the whole server".to_owned(), |here| format!("for building {here}"));
        Err(needs(roles, &scope))
    }

    /// Whose events one of `roles` lets them see. A role for a building is one for its events.
    ///
    /// # Errors
    /// 403 if they have none of these roles anywhere.
    pub fn scope(&self, roles: &[Role]) -> Result<Scope, ApiError> {
        let mut buildings = BTreeSet::new();
        for grant in self.grants.iter().filter(|grant| roles.contains(&grant.role)) {
            match &grant.building {
                None => return Ok(Scope::Everywhere),
                Some(building) => drop(buildings.insert(building.clone())),
            }
        }
        if buildings.is_empty() { Err(needs(roles, "somewhere")) } else { Ok(Scope::Buildings(buildings)) }
    }

    /// Insists on some role, whichever and for whatever building.
    ///
    /// # Errors
    /// 403.
    pub fn must_have_a_role(&self) -> Result<(), ApiError> {
        if self.grants.is_empty() { Err(ApiError::Forbidden("this needs a role".to_owned())) } else { Ok(()) }
    }

    /// As an event's `by`.
    #[must_use]
    pub fn as_actor(&self) -> String {
        format!("person/{}", self.subject)
    }
}

fn needs(roles: &[Role], scope: &str) -> ApiError {
    let wanted: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    ApiError::Forbidden(format!("this needs the role {} {scope}", wanted.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(grants: &[&str]) -> Person {
        Person {
            subject: "ada".to_owned(),
            grants: grants.iter().map(|text| text.parse().unwrap()).collect(),
            expires_at: None,
            key_id: None,
        }
    }

    #[test]
    fn a_role_for_one_building_is_none_elsewhere() {
        let (hq, annex) = (BuildingId::parse("hq").unwrap(), BuildingId::parse("annex").unwrap());
        let guard = person(&["security@hq"]);
        assert!(guard.must_be(&[Role::Security, Role::Auditor], Some(&hq)).is_ok());
        assert!(guard.must_be(&[Role::Security], Some(&annex)).is_err());
        assert!(guard.must_be(&[Role::Security], None).is_err());
        assert!(guard.must_be(&[Role::Hr], Some(&hq)).is_err());
        assert!(person(&["hr"]).must_be(&[Role::Hr], None).is_ok());
    }

    #[test]
    fn a_role_for_buildings_sees_their_events() {
        let id = |text| BuildingId::parse(text).unwrap();
        let roles = [Role::Security, Role::Auditor];
        let two = person(&["security@hq", "auditor@annex", "hr"]).scope(&roles).unwrap();
        assert_eq!(two, Scope::Buildings([id("hq"), id("annex")].into()));
        assert_eq!(person(&["security@hq", "auditor"]).scope(&roles), Ok(Scope::Everywhere));
        assert!(person(&["hr", "admin@hq"]).scope(&roles).is_err());
    }

    #[test]
    fn only_known_roles_are_granted() {
        assert!("root".parse::<Grant>().is_err());
        assert!("hr@".parse::<Grant>().is_err());
        assert_eq!("admin@hq".parse::<Grant>().unwrap().to_string(), "admin@hq");
    }
}
